"""Register tiles for matrix products, emitted as LLVM vector code for the host's instruction set.

A tile holds `rows` x 2 vectors of C in registers and walks k once: a vector of B times one
element of A, by fused multiply-add. The rows of A have any row and column stride, so a transposed
A costs nothing. As every element of C is one chain of multiply-adds in the order of k, its bits
depend on its row of A and its column of B alone, whatever tile it falls into.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

#: Vectors across a tile.
ACROSS = 2
_INT = ir.IntType(64)
_BYTE = ir.IntType(8)
#: Rows of A that share a register for their addresses.
_GROUP = 5


@dataclass(frozen=True)
class Isa:
    """What a micro-kernel is generated for: vector bytes, heights of tiles, what is native."""

    name: str
    width: int
    rows: tuple
    fma: bool = True
    masks: bool = False

    def lanes(self, itemsize):
        """Return the elements of a vector."""
        return self.width // itemsize


#: Instruction sets by the feature that tells them, best first. Heights fill the registers: 32 of
#: AVX-512 and NEON, 16 of AVX2 and SSE; the smaller ones serve what is left of the rows.
ISAS = {
    "avx512f": Isa("avx512", 64, (14, 7, 4, 2, 1), masks=True),
    "fma": Isa("avx2", 32, (6, 4, 2, 1), masks=True),
    "neon": Isa("neon", 16, (12, 8, 4, 2, 1)),
    "": Isa("generic", 16, (4, 2, 1), fma=False),
}


def host_isa():
    """Return the instruction set that numba compiles for."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    enabled = {f[1:] for f in features.split(",") if f.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):
        enabled.add("neon")
    return next(isa for feature, isa in ISAS.items() if not feature or feature in enabled)


#: The instruction set that numba compiles for here.
HOST = host_isa()


class Emitter:
    """Vector instructions for one element type at one builder."""

    def __init__(self, builder, isa, element):
        self.builder, self.isa, self.element = builder, isa, element
        self.itemsize = 4 if isinstance(element, ir.FloatType) else 8
        self.lanes = isa.lanes(self.itemsize)
        self.vector = ir.VectorType(element, self.lanes)
        self.whole = _INT(ACROSS * self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.mangled = f"v{self.lanes}f{8 * self.itemsize}"

    def at(self, base, *offsets):
        """Return the address `base` plus offsets in bytes (numbers or values)."""
        for o in offsets:
            base = self.builder.gep(
                base, [_INT(o) if isinstance(o, int) else o], source_etype=_BYTE
            )
        return base

    def opaque(self, x):
        """Return a value that the optimiser knows nothing about."""
        asm = ir.InlineAsm(ir.FunctionType(x.type, [x.type]), "", "=r,0")
        return self.builder.call(asm, [x], attrs=("convergent",))

    @contextmanager
    def loop(self, count):
        """Emit a loop over an index that stays as it is; yields the index.

        Else it would be copied, unrolled and split by its conditions, anew in every function that
        it is compiled into.
        """
        with cgutils.for_range(self.builder, count) as loop:
            yield self.opaque(loop.index)

    def bytes(self, elements):
        """Return a stride in bytes."""
        return self.builder.mul(elements, _INT(self.itemsize))

    def intrinsic(self, name, result, *args):
        """Call an LLVM intrinsic."""
        fnty = ir.FunctionType(result, [a.type for a in args])
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, fnty, name), args
        )

    def load(self, address, mask=None):
        """Load a vector; lanes that the mask leaves out are zero and not touched in memory."""
        pointer = self.builder.bitcast(address, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=self.itemsize)
        name = f"llvm.masked.load.{self.mangled}.p0"
        align = ir.IntType(32)(self.itemsize)
        return self.intrinsic(name, self.vector, pointer, align, mask, self.zero)

    def store(self, value, address, mask=None):
        """Store a vector; lanes that the mask leaves out are not touched in memory."""
        pointer = self.builder.bitcast(address, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=self.itemsize)
        else:
            name = f"llvm.masked.store.{self.mangled}.p0"
            align = ir.IntType(32)(self.itemsize)
            self.intrinsic(name, ir.VoidType(), value, pointer, align, mask)

    def prefetch(self, address, vectors):
        """Ask for the lines of some vectors, which are to be written."""
        i32 = ir.IntType(32)
        for j in range(vectors):
            args = self.at(address, j * self.isa.width), i32(1), i32(3), i32(1)
            self.intrinsic("llvm.prefetch.p0", ir.VoidType(), *args)

    def broadcast(self, address):
        """Load one element into every lane."""
        pointer = self.builder.bitcast(address, self.element.as_pointer())
        x = self.builder.load(pointer, align=self.itemsize)
        undefined = ir.Constant(self.vector, ir.Undefined)
        x = self.builder.insert_element(undefined, x, ir.IntType(32)(0))
        return self.shuffle(x, undefined, [0] * self.lanes)

    def shuffle(self, x, y, lanes):
        """Pick lanes of x followed by y."""
        index = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(x, y, index)

    def fma(self, x, y, z):
        """Return x * y + z, fused where the host can."""
        name = "llvm.fma" if self.isa.fma else "llvm.fmuladd"
        return self.intrinsic(f"{name}.{self.mangled}", self.vector, x, y, z)

    def first(self, count):
        """Return the mask of the first `count` lanes (of none or all, where there are fewer)."""
        bits = ir.IntType(self.lanes)
        count = self.builder.select(
            self.builder.icmp_signed("<", count, _INT(self.lanes)), count, _INT(self.lanes)
        )
        ones = self.builder.sub(self.builder.shl(_INT(1), count), _INT(1))
        return self.builder.bitcast(
            self.builder.trunc(ones, bits), ir.VectorType(ir.IntType(1), self.lanes)
        )


def _sums(e, addresses, masks, accumulate):
    """Emit the load of a tile of C where it is added to, else zeros."""
    builder = e.builder
    pairs = [(row, j) for row in addresses for j in range(len(masks))]
    entry = builder.block
    with builder.if_then(accumulate):
        loaded = [e.load(e.at(row, j * e.isa.width), masks[j]) for row, j in pairs]
        leaving = builder.block
    sums = []
    for x in loaded:
        sums.append(builder.phi(e.vector))
        sums[-1].add_incoming(e.zero, entry)
        sums[-1].add_incoming(x, leaving)
    return sums


def _tile(e, height, masks, a, b, c, k, accumulate, walk=None):
    """Emit C = (C +) A @ B for one tile, k >= 1; a, b, c are addresses with strides in bytes.

    `masks` has the mask of each vector across (None: all lanes). A `Walk` makes the columns of A
    come in segments.
    """
    builder, size = e.builder, e.isa.width
    (a, a_row, a_col), (b, b_row), (c, c_row) = a, b, c
    grid = [(i, j) for i in range(height) for j in range(len(masks))]
    c_rows = [c]
    for _ in range(height - 1):
        c_rows.append(e.at(c_rows[-1], c_row))
    # Else the addresses of a step's rows become one chain of additions, slower than the sums.
    bases = [e.at(a, e.opaque(builder.mul(a_row, _INT(i)))) for i in range(0, height, _GROUP)]
    sums = _sums(e, c_rows, masks, accumulate)
    for row in c_rows if height == e.isa.rows[0] else ():
        # The next tile's rows of C arrive while this one computes.
        e.prefetch(e.at(row, builder.mul(c_row, _INT(height))), len(masks))

    def depth(b, bases, sums):
        entry, body, done = builder.block, *map(builder.append_basic_block, ("depth", "done"))
        builder.branch(body)
        builder.position_at_end(body)
        state = [_INT(0), b, *bases, *sums]
        phis = [builder.phi(x.type) for x in state]
        step, bk, *rest = phis
        bases, sums = rest[: len(bases)], rest[len(bases) :]
        rows = [(bases[i // _GROUP], builder.mul(a_row, _INT(i % _GROUP))) for i in range(height)]
        following = [builder.add(step, _INT(1)), e.at(bk, b_row), *(e.at(x, a_col) for x in bases)]
        sums = _step(e, masks, rows, bk, sums, walk)
        for phi, first, then in zip(phis, state, following + sums, strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(then, body)
        builder.cbranch(builder.icmp_signed("<", following[0], k), body, done)
        builder.position_at_end(done)
        return following[1], sums

    if walk is None:
        _, sums = depth(b, bases, sums)
    else:
        sums = _finish(e, masks, _segments(e, b, bases, sums, walk, depth), walk)
    for (i, j), x in zip(grid, sums, strict=True):
        e.store(x, e.at(c_rows[i], j * size), masks[j])


def _step(e, masks, rows, b, sums, walk):
    """Emit one step of the depth: each row's element, or its own lanes, times a vector of B."""
    size, lanes = e.isa.width, walk is not None and walk.lanes
    # Only what is packed is padded; the operands of a walk need not be.
    bounds = masks if e.isa.masks or walk is not None else [None] * len(masks)
    columns = [e.load(e.at(b, j * size), m) for j, m in enumerate(bounds)]
    sums = list(sums)
    for i, row in enumerate(rows):
        x = None if lanes else e.broadcast(e.at(*row))
        for j, y in enumerate(columns):
            at = i * len(masks) + j
            left = e.load(e.at(*row, j * size), bounds[j]) if lanes else x
            sums[at] = e.fma(left, y, sums[at])
    return sums


@dataclass(frozen=True)
class Walk:
    """Columns of A in segments: `count` (>= 1) of them, `k` each, at `offsets` (int64, elements).

    B goes on from one segment to the next. Where `lanes`, a row of A holds a vector for each of
    its columns, multiplied lane by lane. On the way out `bias` is added and, where `relu`, what
    is negative becomes zero.
    """

    offsets: object
    count: object
    bias: object
    relu: object
    lanes: bool


def _segments(e, b, bases, sums, walk, depth):
    """Emit the loop over segments around the loop over the depth."""
    builder = e.builder
    entry, segment, done = builder.block, *map(builder.append_basic_block, ("segment", "walked"))
    builder.branch(segment)
    builder.position_at_end(segment)
    state = [_INT(0), b, *sums]
    phis = [builder.phi(x.type) for x in state]
    number, bk, *sums = phis
    place = builder.bitcast(e.at(walk.offsets, builder.mul(number, _INT(8))), _INT.as_pointer())
    start = e.bytes(builder.load(place))
    bk, sums = depth(bk, [e.at(x, start) for x in bases], sums)
    following = builder.add(number, _INT(1))
    for phi, first, then in zip(phis, state, [following, bk, *sums], strict=True):
        phi.add_incoming(first, entry)
        phi.add_incoming(then, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, walk.count), segment, done)
    builder.position_at_end(done)
    return sums


def _finish(e, masks, sums, walk):
    """Emit the addition of the bias and ReLU (which keeps NaN)."""
    builder = e.builder
    bias = [e.load(e.at(walk.bias, j * e.isa.width), m) for j, m in enumerate(masks)]
    lowest = ir.Constant(e.vector, [float("-inf")] * e.lanes)
    floor = builder.select(walk.relu, e.zero, lowest)
    out = []
    for at, x in enumerate(sums):
        x = builder.fadd(x, bias[at % len(masks)])
        out.append(builder.select(builder.fcmp_ordered("<", x, floor), floor, x))
    return out


def _tiles(e, masks, m, a, b, c, k, accumulate, walk=None):
    """Emit the tiles that cover m rows: as many of each height as fit, the tallest first."""
    builder = e.builder
    (a, a_row, a_col), (c, c_row) = a, c
    for height in e.isa.rows:
        count = builder.sdiv(m, _INT(height))
        with e.loop(count) as tile:
            row = builder.mul(tile, _INT(height))
            at, to = e.at(a, builder.mul(row, a_row)), e.at(c, builder.mul(row, c_row))
            _tile(e, height, masks, (at, a_row, a_col), b, (to, c_row), k, accumulate, walk)
        done = builder.mul(count, _INT(height))
        a, c = e.at(a, builder.mul(done, a_row)), e.at(c, builder.mul(done, c_row))
        m = builder.sub(m, done)


def _by_columns(e, columns, emit):
    """Emit a body for each number of vectors across: ``emit(emitter, masks of the vectors)``."""
    builder = e.builder
    cases = [(e, ACROSS), (e, 1)]
    if e.isa.width > 32:  # a half vector wastes less on a narrow rest
        cases.append((Emitter(builder, replace(e.isa, width=32), e.element), 1))
    if e.isa.width < 64:  # AVX-512 masks a whole vector at no cost
        with builder.if_else(builder.icmp_signed("==", columns, e.whole)) as (full, rest):
            with full:
                emit(e, [None] * ACROSS)
            with rest:
                _narrowest(columns, cases, emit)
    else:
        _narrowest(columns, cases, emit)


def _narrowest(columns, cases, emit):
    """Emit the body for the narrowest of the cases (widest first) that holds the columns."""
    (e, vectors), *narrower = cases

    def this():
        last = e.first(e.builder.sub(columns, _INT((vectors - 1) * e.lanes)))
        emit(e, [None] * (vectors - 1) + [last])

    if not narrower:
        return this()
    f, across = narrower[0]
    fits = e.builder.icmp_signed("<=", columns, _INT(across * f.lanes))
    with e.builder.if_else(fits) as (then, otherwise):
        with then:
            _narrowest(columns, narrower, emit)
        with otherwise:
            this()


def make_panel(isa):
    """Return the intrinsic that computes a panel of C, at most `ACROSS` vectors wide.

    ``panel(m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate)``: pointers and
    strides in elements. Nothing of C beyond `columns` is touched; nor of B where the instruction
    set has masks; where it has none, B must be padded.
    """

    @intrinsic
    def panel(tyctx, m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate):
        def codegen(ctx, builder, sig, args):
            m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate = args
            e = Emitter(builder, isa, ctx.get_data_type(sig.args[1].dtype))
            a_row, a_col, b_row, c_row = map(e.bytes, (a_row, a_col, b_row, c_row))

            def emit(e, masks):
                _tiles(e, masks, m, (a, a_row, a_col), (b, b_row), (c, c_row), k, accumulate)

            _by_columns(e, columns, emit)
            return ctx.get_dummy_value()

        args = m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate
        return types.void(*args), codegen

    return panel


def make_walk(isa, lanes=False):
    """Return the intrinsic that computes a panel of C from an A whose columns are segments.

    ``walk(m, a, a_row, a_col, offsets, count, k, b, b_row, c, c_row, columns, bias, relu,
    accumulate)``: see `Walk`. Nothing of B, C or the bias beyond `columns` is touched.
    """

    @intrinsic
    def walk(
        tyctx, m, a, a_row, a_col, offsets, count, k, b, b_row, c, c_row, columns, bias, relu, add
    ):
        def codegen(ctx, builder, sig, args):
            m, a, a_row, a_col, offsets, count, k, b, b_row, c, c_row, columns, bias, relu, add = (
                args
            )
            e = Emitter(builder, isa, ctx.get_data_type(sig.args[1].dtype))
            a_row, a_col, b_row, c_row = map(e.bytes, (a_row, a_col, b_row, c_row))
            w = Walk(offsets, count, bias, relu, lanes)

            def emit(e, masks):
                _tiles(e, masks, m, (a, a_row, a_col), (b, b_row), (c, c_row), k, add, w)

            _by_columns(e, columns, emit)
            return ctx.get_dummy_value()

        args = m, a, a_row, a_col, offsets, count, k, b, b_row, c, c_row, columns, bias, relu, add
        return types.void(*args), codegen

    return walk


def make_pack(isa):
    """Return the intrinsic that copies a panel of B, padded with zeros to whole panels.

    ``pack(k, b, b_row, columns, out)``: out (k, ACROSS vectors); strides in elements.
    """

    @intrinsic
    def pack(tyctx, k, b, b_row, columns, out):
        def codegen(ctx, builder, sig, args):
            e = Emitter(builder, isa, ctx.get_data_type(sig.args[1].dtype))
            k, b, b_row, columns, out = args
            b_row = e.bytes(b_row)

            def emit(e, masks):
                with e.loop(k) as row:
                    source = e.at(b, builder.mul(row, b_row))
                    target = e.at(out, builder.mul(row, _INT(ACROSS * isa.width)))
                    for j, mask in enumerate(masks):
                        x = e.load(e.at(source, j * isa.width), mask)
                        e.store(x, e.at(target, j * isa.width))

            _by_columns(e, columns, emit)
            return ctx.get_dummy_value()

        return types.void(k, b, b_row, columns, out), codegen

    return pack


def make_pack_transposed(isa):
    """Return the intrinsic that transposes rows of B into a padded panel.

    ``pack_transposed(k, b, b_row, columns, out)``: out (k + L - 1, ACROSS vectors of L lanes)
    takes row j of B, of which k elements are read, as its column j < columns. The other columns
    repeat the last one, and the rows from k on are scratch.
    """

    @intrinsic
    def pack_transposed(tyctx, k, b, b_row, columns, out):
        def codegen(ctx, builder, sig, args):
            e = Emitter(builder, isa, ctx.get_data_type(sig.args[1].dtype))
            k, b, b_row, columns, out = args
            b_row, last = e.bytes(b_row), builder.sub(columns, _INT(1))
            with e.loop(_INT(ACROSS)) as vector:
                starts = []
                for i in range(e.lanes):
                    row = builder.add(builder.mul(vector, _INT(e.lanes)), _INT(i))
                    row = builder.select(builder.icmp_signed("<", row, last), row, last)
                    starts.append(e.at(b, builder.mul(row, b_row)))
                to = e.at(out, builder.mul(vector, _INT(isa.width)))
                _transpose_rows(e, k, starts, to)
            return ctx.get_dummy_value()

        return types.void(k, b, b_row, columns, out), codegen

    return pack_transposed


def _transpose_rows(e, k, starts, out):
    """Emit the transposition of a vector's number of rows, k elements each, square by square."""
    builder, lanes = e.builder, _INT(e.lanes)
    squares = builder.sdiv(builder.add(k, _INT(e.lanes - 1)), lanes)
    with e.loop(squares) as square:
        begin = builder.mul(square, lanes)
        left = builder.sub(k, begin)
        to = e.at(out, builder.mul(begin, _INT(ACROSS * e.isa.width)))
        addresses = [e.at(start, e.bytes(begin)) for start in starts]
        if e.isa.masks:
            inside = e.first(left)
            _store_transposed(e, [e.load(x, inside) for x in addresses], to)
        else:
            with builder.if_else(builder.icmp_signed(">=", left, lanes)) as (whole, rest):
                with whole:
                    _store_transposed(e, [e.load(x) for x in addresses], to)
                with rest:
                    inside = e.first(left)
                    _store_transposed(e, [e.load(x, inside) for x in addresses], to)


def _store_transposed(e, rows, out):
    """Emit the transposition of a square in registers and its stores, a panel's width apart."""
    bit = 1
    while bit < e.lanes:
        # Each stage swaps one bit of the row's number with the same bit of the lane's.
        low = [i + e.lanes - bit if i & bit else i for i in range(e.lanes)]
        high = [i + e.lanes if i & bit else i + bit for i in range(e.lanes)]
        for i in range(e.lanes):
            if not i & bit:
                p, q = rows[i], rows[i + bit]
                rows[i], rows[i + bit] = e.shuffle(p, q, low), e.shuffle(p, q, high)
        bit *= 2
    for i, row in enumerate(rows):
        e.store(row, e.at(out, i * ACROSS * e.isa.width))
