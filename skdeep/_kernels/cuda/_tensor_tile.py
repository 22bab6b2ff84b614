"""The product of `_tile` on tensor cores: the same operands, results and launches.

A block computes a tile of C, its warps parts of it, by ``mma.sync`` instructions on fragments of
two slabs in shared memory. The precision says how they come there:

- ``tf32``: float32 by asynchronous copies, `stages` slabs ahead, which no register holds; they
  are rounded (to nearest, halves away from zero) as fragments.
- ``bfloat16``: float32 through registers, a slab ahead, rounded to nearest even on the way to
  shared memory, of which they take half as much.

So in both a slab has 16 words along k and is read as two steps of ``mma.sync``. Rows that run
along k are kept as such and read by ``ldmatrix``. Where neighbours in memory are rows of op(A) or
columns of op(B), bfloat16 is transposed by ``ldmatrix``; TF32 is not, as that knows 16-bit
elements only: a lane instead reads four neighbours with one load and takes them for rows 4 g, ...,
4 g + 3 of four 8-row pieces, so that only the order of rows within the tile is another, which the
way out follows. Chunks of 16 bytes are exchanged with others of their row by an exclusive or, so
that none of these accesses, on the way in or out, has conflicts of banks.

An operand is a `_tile.Loader` whose ``fetch`` is replaced by ``where(slot, step, k, end,
*arguments)``: for an aligned quadruple ``((offset, inside),)``, else four such pairs; where
`inside` is false the element is zero and not read. `place` need not know of zeros either.

What bounds it on an H200: a warp's 64 x 64 part reads 4 KiB of shared memory for 32 ``mma``, one
of its cycles each, and filling the slabs takes 0.375 more (256 x 128 tiles) or 0.5 (128 x 128), so
that four of them, one for each of the multiprocessor's tensor cores, need 5.5 or 6 cycles; the
tensor cores themselves need 4 by the data sheet, about 6.5 as ``mma.sync`` is known to run. From
the second-level cache a tile of 256 x 128 takes a byte for 43 operations, one of 128 x 128 for 32:
at 5.5 TB/s 235 and 176 TFLOP/s. bfloat16 computes twice as fast but takes as many bytes, and so
gains only as far as that leaves room.
"""

from dataclasses import dataclass

from skdeep._kernels.cuda._intrinsics import zero_tile
from skdeep._kernels.cuda._numba import Kernel, cuda, device, float32, generated, uint32
from skdeep._kernels.cuda._tensor import (
    SHARED,
    WORD,
    commit,
    copy1_async,
    copy4_async,
    load1_inside,
    load4_inside,
    matrix_loader,
    multiply_add,
    store_bfloat16,
    store_run,
    vector_loader,
    wait_groups,
)
from skdeep._kernels.cuda._tile import _FIXED, Loader, load_some

#: Words of shared memory that a slab has along k, two steps of ``mma.sync``.
_WORDS = 16


@dataclass(frozen=True)
class TensorLoader(Loader):
    """Where an operand's elements come from; ``fetch`` is what the module calls ``where``.

    Parameters
    ----------
    vector : bool
        Whether ``where`` says the place of an aligned quadruple, not of four elements.
    """

    vector: bool = True


@dataclass(frozen=True)
class TensorShape:
    """How a product is cut; what `_tile.Shape` is for tensor cores.

    Parameters
    ----------
    precision : {"tf32", "bfloat16"}
        What the factors are rounded to.
    rows, columns : int
        The tile of a block.
    across, along : int
        The warps that share its rows, and its columns.
    stages : int
        The slabs in shared memory.
    resident : int
        The blocks that a multiprocessor has registers for.
    """

    precision: str
    rows: int
    columns: int
    across: int
    along: int
    stages: int
    resident: int

    threads = property(lambda self: 32 * self.across * self.along)
    depth = property(lambda self: _WORDS * self.packed)
    #: The elements of a word.
    packed = property(lambda self: 1 if self.precision == "tf32" else 2)
    #: The words of a slab of both operands.
    slab = property(lambda self: _WORDS * (self.rows + self.columns))

    def __str__(self):
        return f"{self.precision}_{self.rows}x{self.columns}"


def tensor_kernel(name, a, b, store, epilogue, shape):
    """Return the kernel of a product on tensor cores; it is launched by `_tile.tile_launch`.

    Parameters
    ----------
    name : str
        Its name, to which the parts' names and the shape are added.
    a, b : TensorLoader
        The operands.
    store : Store
        The result.
    epilogue : Epilogue
        What becomes of the sums.
    shape : TensorShape
        The tiles.
    """
    operands = (
        _Operand("a", a, shape.rows, shape.rows // shape.across, shape),
        _Operand("b", b, shape.columns, shape.columns // shape.along, shape),
    )
    numbers = list(dict.fromkeys((*a.arguments, *b.arguments, *store.arguments)))
    parameters = [*_FIXED, *numbers, *epilogue.arguments]
    names = dict(
        cuda=cuda, uint32=uint32, float32=float32, min=min, commit=commit,
        wait_first=wait_groups(shape.stages - 1), wait_next=wait_groups(shape.stages - 2),
        wait_all=wait_groups(0), SIZE=shape.stages * shape.slab, KIND=WORD[shape.precision],
        multiply=multiply_add(shape.precision, *(o.registers() for o in operands)),
        zeros=zero_tile(shape.rows * shape.columns // shape.threads), load_some=load_some,
        put=_putter(epilogue, len(_runs(operands[1])[0][1])), store_row=store.row,
        store_bias=store.bias,
    )  # fmt: skip
    for operand in operands:
        names |= operand.names()
    body = _asynchronous if shape.precision == "tf32" else _through_registers
    lines = [
        f"def product({', '.join(parameters)}):",
        *_beginning(shape),
        *(line for o in operands for line in (*o.places(), *o.fragment_places())),
        *body(operands, shape),
        *_ending(*operands, store, epilogue),
    ]
    words = (name, a.name, b.name, store.name, epilogue.name, str(shape))
    spec = "f f f f " + "u " * (len(_FIXED) - 4 + len(numbers)) + "s " * len(epilogue.arguments)
    function = generated("\n    ".join(lines) + "\n", "product", names)
    name = "_".join(word for word in words if word)
    kernel = Kernel(function, spec, shape.threads, shape.resident, name)
    kernel.shape, kernel.numbers = shape, tuple(parameters[len(_FIXED) :])
    return kernel


def _beginning(shape):
    """Say which tile, which part of k, and which part of the tile are whose."""
    warp_rows, warp_columns = shape.rows // shape.across, shape.columns // shape.along
    return [
        f"memory = cuda.shared.array({SHARED})",
        "t = uint32(cuda.threadIdx.x)",
        "tile, part = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y)",
        "batch = uint32(cuda.blockIdx.z)",
        f"a0 = uint32(uint32(tile // tiles_n) * uint32({shape.rows}))",
        f"b0 = uint32(uint32(tile % tiles_n) * uint32({shape.columns}))",
        "k0 = uint32(part * depth)",
        "end = uint32(min(K, uint32(k0 + depth)))",
        "next_k = k0",
        "lane, warp = uint32(t & uint32(31)), uint32(t >> uint32(5))",
        f"a_warp = uint32(uint32(warp // uint32({shape.along})) * uint32({warp_rows}))",
        f"b_warp = uint32(uint32(warp % uint32({shape.along})) * uint32({warp_columns}))",
        "group, four = uint32(lane >> uint32(2)), uint32(lane & uint32(3))",
        # of four 8 x 8 matrices, two below two or beside two, the row that the lane says
        "low, high = uint32((lane >> uint32(3)) & uint32(1)), uint32(lane >> uint32(4))",
        "sums = zeros()",
    ]


def _asynchronous(operands, shape):
    """Copy slabs `stages` ahead; load the fragments of a step before the last one's products."""
    slab, end = shape.slab, shape.slab * shape.stages
    first = [*_copies(operands), f"at = uint32(at + uint32({slab}))"]
    lines = ["at = uint32(0)", f"while at < uint32({end}):", *_indented(first)]
    lines += ["wait_first()", "cuda.syncthreads()", "at = uint32(0)"]
    lines += [f"{o.x}_0 = {o.fragments(0)}" for o in operands]
    loop = [f"{o.x}_1 = {o.fragments(1)}" for o in operands]
    loop += ["sums = multiply(sums, a_0, b_0)", "wait_next()", "cuda.syncthreads()"]
    loop += _copies(operands)  # to the slab that every warp has read
    loop += [f"at = uint32(0) if at == uint32({end - slab}) else uint32(at + uint32({slab}))"]
    loop += [f"{o.x}_0 = {o.fragments(0)}" for o in operands]
    loop += ["sums = multiply(sums, a_1, b_1)", f"k0 = uint32(k0 + uint32({shape.depth}))"]
    return [*lines, "while k0 < end:", *_indented(loop), "wait_all()"]


def _indented(lines):
    return ["    " + line for line in lines]


def _copies(operands):
    """Begin the copies of a slab, and go on to the next."""
    return [*(o.copies() for o in operands), *_moves(operands), "commit()"]


def _moves(operands):
    depth = operands[0].shape.depth
    lines = [line for o in operands for line in o.moves()]
    return [*lines, f"next_k = uint32(next_k + uint32({depth}))"]


def _through_registers(operands, shape):
    """Load a slab to registers while the last one is multiplied, then store it."""
    load = [o.loads() for o in operands] + _moves(operands)
    store = [o.stores() for o in operands] + ["cuda.syncthreads()"]
    loop = list(load)
    for step in range(2):
        loop += [f"{o.x}_{step} = {o.fragments(step)}" for o in operands]
        loop += [f"sums = multiply(sums, a_{step}, b_{step})"]
    loop += [f"at = uint32(uint32({shape.slab}) - at)", *store]
    loop += [f"k0 = uint32(k0 + uint32({shape.depth}))"]
    return [*load, "at = uint32(0)", *store, "while k0 < end:", *_indented(loop)]


class _Operand:
    """The lines that bring an operand's slabs to shared memory, and from there to fragments.

    What is done for each of a thread's quadruples stands in device functions: numba takes the
    square of the time for a function twice as long.
    """

    def __init__(self, letter, loader, rows, warp_rows, shape):
        self.x, self.loader, self.rows, self.warp_rows = letter, loader, rows, warp_rows
        self.shape = shape
        self.begin = 0 if letter == "a" else _WORDS * shape.rows
        #: Elements of a chunk of 16 bytes, chunks of a line, and lines from a chunk of the
        #: thread to its next.
        self.size = 4 * shape.packed
        self.line = 4 if loader.along_k else rows // self.size
        self.every = shape.threads // self.line
        #: A thread's quadruples of elements: the chunk, and which of it.
        chunks = range(rows * _WORDS // (4 * shape.threads))
        self.quadruples = [(i, q) for i in chunks for q in range(shape.packed)]
        #: Whether rows of the tile are taken in another order.
        self.shuffled = not loader.along_k and shape.packed == 1
        #: Whether the second of four matrices is beside the first, not below: as needed for
        #: registers in the order of ``mma.sync``.
        self._swapped = (letter == "a") != loader.along_k

    # ---- to shared memory ------------------------------------------------------------------

    def _call(self, part, *values):
        return f"{self.x}_{part}({', '.join((*values, *self.loader.arguments))})"

    def places(self):
        """Say which chunks of a slab are the thread's, and find their places."""
        x, limit, along_k, lines = self.x, "MN"[self.x == "b"], self.loader.along_k, []
        line, chunk = f"uint32(t // uint32({self.line}))", f"uint32(t % uint32({self.line}))"
        lines += [f"line, chunk = {line}, {chunk}"]
        if along_k:
            turn = "(line >> uint32(1)) & uint32(3)"
        elif self.shape.packed == 1:
            turn = "(line & uint32(3)) << uint32(1)"
        else:
            turn = "line & uint32(7)"
        lines += [
            f"{x}_to = uint32(line * uint32({4 * self.line}) + ((chunk ^ ({turn})) << uint32(2)))",
            f"{x}_to = uint32({x}_to + uint32({self.begin}))",
        ]
        lines += [f"{x}_k = {f'uint32(chunk * uint32({self.size}))' if along_k else 'line'}"]
        slots = []
        for i, q in self.quadruples:
            there = f"uint32(line + uint32({i * self.every}))"
            beside = f"uint32(chunk * uint32({self.size}) + uint32({4 * q}))"
            r, k = (there, beside) if along_k else (beside, there)
            slots += [
                self._call("place", f"uint32({x}0 + {r})", limit, f"uint32(k0 + {k})", "batch")
            ]
        lines += [f"{x}_slots = ({', '.join(slots)},)"]
        if self.loader.begin:
            lines += [f"{x}_step = {self._call('begin', 'k0')}"]
        return lines

    def moves(self):
        """Go on by one slab."""
        x, lines = self.x, []
        if self.loader.move:
            lines += [f"{x}_slots = {self._call('moved', f'{x}_slots')}"]
        if self.loader.begin:
            depth = f"uint32({self.shape.depth})"
            lines += [f"{x}_step = {self._call('advance', f'{x}_step', depth)}"]
        return lines

    def _at(self):
        """Return the arguments that say where a slab's elements are in memory."""
        step = f"{self.x}_step" if self.loader.begin else "next_k"
        return self.x.upper(), f"{self.x}_slots", step, f"uint32(next_k + {self.x}_k)", "end"

    def copies(self):
        """Begin to copy the thread's chunks of a slab."""
        return self._call("copies", "memory", f"uint32(at + {self.x}_to)", *self._at())

    def loads(self):
        """Load the thread's elements of a slab to registers."""
        return f"{self.x}_new = {self._call('loads', *self._at())}"

    def stores(self):
        """Round them and store them."""
        return f"{self.x}_stores(memory, uint32(at + {self.x}_to), {self.x}_new)"

    def _function(self, name, parameters, lines):
        """Return a device function of the parameters and the loader's numbers."""
        x, loader = self.x, self.loader
        arguments = ", ".join((*parameters, *(loader.arguments if name != "stores" else ())))
        source = "\n    ".join([f"def {name}({arguments}):", *lines]) + "\n"
        names = dict(
            uint32=uint32, where=loader.fetch, move=loader.move, copy1=copy1_async,
            copy4=copy4_async, load1=load1_inside, load4=load4_inside, pack=store_bfloat16,
        )  # fmt: skip
        return f"{x}_{name}", device(generated(source, name, names))

    def _functions(self):
        """Yield the device functions that `moves`, `copies`, `loads` and `stores` call."""
        numbers = self.loader.arguments
        if self.loader.move:
            rest = ", ".join((f"uint32({self.shape.depth})", *numbers))
            calls = (f"move(slots[{s}], {rest})" for s in range(len(self.quadruples)))
            yield self._function("moved", ["slots"], [f"return ({', '.join(calls)},)"])
        where, copies, loads, stores = [], [], [], []
        for s, (i, q) in enumerate(self.quadruples):
            k = f"uint32(k + uint32({4 * q if self.loader.along_k else i * self.every}))"
            step = "step" if self.loader.begin else k
            where += [f"at{s} = where({', '.join((f'slots[{s}]', step, k, 'end', *numbers))})"]
            to = f"uint32(to + uint32({4 * i * self.shape.threads}))"
            copies += where[-1:]
            if self.loader.vector:
                copies += [f"copy4(memory, {to}, X, at{s}[0][0], at{s}[0][1])"]
                loads += [f"load4(X, at{s}[0][0], at{s}[0][1])"]
            else:
                copies += [
                    f"copy1(memory, {to} + uint32({e}), X, at{s}[{e}][0], at{s}[{e}][1])"
                    for e in range(4)
                ]
                each = (f"load1(X, at{s}[{e}][0], at{s}[{e}][1])" for e in range(4))
                loads += [f"({', '.join(each)})"]
            if q:
                stores += [f"pack(memory, {to}, new[{s - 1}], new[{s}])"]
        at = ["X", "slots", "step", "k", "end"]
        if self.shape.packed == 1:
            yield self._function("copies", ["memory", "to", *at], copies)
        else:
            yield self._function("loads", at, [*where, f"return ({', '.join(loads)},)"])
            yield self._function("stores", ["memory", "to", "new"], stores)

    # ---- fragments -------------------------------------------------------------------------

    def fragment_places(self):
        """Say where the lane's part of the fragments is in a slab."""
        x, begin = self.x, self.begin
        below, beside = ("high", "low") if self._swapped else ("low", "high")
        line = f"uint32((lane & uint32(7)) + ({below} << uint32(3)))"
        if self.loader.along_k:
            at = f"uint32({x}_warp + {line}) * uint32({_WORDS})"
            chunk = f"{beside} ^ ((lane >> uint32(1)) & uint32(3))"
        elif self.shape.packed == 1:
            at = f"four * uint32({self.rows})"
            chunk = f"uint32(({x}_warp >> uint32(2)) + group) ^ (four << uint32(1))"
        else:
            at = f"{line} * uint32({4 * self.line})"
            chunk = f"uint32(({x}_warp >> uint32(3)) + {beside}) ^ (lane & uint32(7))"
        lines = [f"{x}_from = uint32({at} + uint32(uint32({chunk}) << uint32(2)))"]
        turns = range(1, len(self._loads()))
        lines += [f"{x}_from{i} = uint32({x}_from ^ uint32({8 * i}))" for i in turns]
        return [*lines, *(f"{v} = uint32({v} + uint32({begin}))" for v in self._from())]

    def _from(self):
        return [f"{self.x}_from{i or ''}" for i in range(len(self._loads()))]

    def _loads(self):
        """Return the loads of a fragment: of each place, the words to go on by for each step.

        Places differ by the exclusive or of a chunk's number, which is no sum.
        """
        tiles = self.warp_rows // 16
        if self.loader.along_k:  # a place for each step; 16 rows of two chunks a load
            rows = tuple(16 * _WORDS * i for i in range(tiles))
            return [[rows, None], [None, rows]]
        if self.shape.packed == 1:  # four rows a lane, one k
            lines = [
                tuple(
                    32 * j + (8 * step + 4 * half) * self.rows
                    for j in range(self.warp_rows // 32)
                    for half in range(2)
                )
                for step in range(2)
            ]
            return [lines]
        # 16 lines of two chunks a load; a place for each two chunks
        return [[(0,), (16 * 4 * self.line,)] for _ in range(tiles)]

    def registers(self):
        """Return where the registers of ``mma.sync`` are among the loads of a fragment.

        A 16-row tile of `a` has registers for ``(row half, k half)`` (0, 0), (1, 0), (0, 1),
        (1, 1); an 8-column tile of `b` for the k halves.
        """
        if self.x == "a":
            wanted = [
                (2 * i + q % 2, q // 2) for i in range(self.warp_rows // 16) for q in range(4)
            ]
        else:
            wanted = [(j, h) for j in range(self.warp_rows // 8) for h in range(2)]
        return tuple(self._register(eight, half) for eight, half in wanted)

    def _register(self, eight, half):
        """Return where eight rows of a k half are: the load, and the number of four."""
        if self.shuffled:
            return eight // 4 * 2 + half, eight % 4
        if self.x == "a":
            return eight // 2, eight % 2 + 2 * half
        return eight // 2, 2 * (eight % 2) + half

    def names(self):
        """Return what the source's names stand for."""
        names = dict(self._functions())
        for part in ("place", "begin", "advance"):
            names[f"{self.x}_{part}"] = getattr(self.loader, part)
        for p, steps in enumerate(self._loads()):
            for step, offsets in enumerate(steps):
                if offsets is not None:
                    names[f"{self.x}_load{p}_{step}"] = self._loader_of(offsets)
        return names

    def _loader_of(self, offsets):
        if self.shuffled:
            return vector_loader(offsets)
        return matrix_loader(offsets, transposed=not self.loader.along_k)

    def fragments(self, step):
        """Return the expression of a step's fragments: a tuple of loads of four words."""
        loads = [
            f"{self.x}_load{p}_{step}(memory, uint32(at + {place}))"
            for p, (place, steps) in enumerate(zip(self._from(), self._loads(), strict=True))
            if steps[step] is not None
        ]
        if len(loads) == 1:
            return loads[0]
        return f"({', '.join(f'{load}[0]' for load in loads)},)"

    # ---- the way out -----------------------------------------------------------------------

    def eights(self):
        """Return, of every eight rows of the warp, the first, and the distance of neighbours."""
        for eight in range(self.warp_rows // 8):
            yield (32 * (eight // 4) + eight % 4, 4) if self.shuffled else (8 * eight, 1)


def _ending(a, b, store, epilogue):
    """Add the bias, apply the epilogue and store runs of two or four columns."""
    numbers = ", ".join(store.arguments)
    lines = [f"bias_at = store_bias(batch, {numbers})", "zero = float32(0)"]
    rows = list(a.eights())
    for i, (first, every) in enumerate(rows):
        lines += [
            f"row = uint32(a0 + a_warp + uint32({first}) + group * uint32({every}))",
            f"o{i}, has{i} = store_row(row, batch, part, {numbers}), row < M",
        ]
    tiles = b.warp_rows // 8
    for r, (first, places) in enumerate(_runs(b)):
        n = len(places)
        pitch = 2 if n == 2 else 8
        lines += [
            f"c{r} = uint32(b0 + b_warp + uint32({first}) + four * uint32({pitch}))",
            f"left{r} = uint32(min(uint32(N - c{r}), uint32({n}))) if c{r} < N else uint32(0)",
            f"bias{r} = zero, zero, zero, zero",
            "if biased:",
            f"    bias{r} = load_some(bias, uint32(bias_at + c{r}), c{r}, N)",
        ]
        for i in range(len(rows)):
            numbers = [((i // 2) * tiles + tile) * 4 + 2 * (i % 2) + q for tile, q in places]
            values = ", ".join(f"sums[{number}]" for number in numbers)
            rest = ", ".join((f"({values})", f"bias{r}", *epilogue.arguments))
            lines += [f"put(C, uint32(o{i} + c{r}), has{i}, left{r}, vector, {rest})"]
    return lines


def _putter(epilogue, n):
    """Return what adds the bias, applies the epilogue and stores the first of n columns."""
    floats = "".join(f", {a}" for a in epilogue.arguments)
    values = ", ".join(f"epilogue(float32(v[{e}] + b[{e}]){floats})" for e in range(n))
    source = [
        f"def put(C, o, has, left, vector, v, b{floats}):",
        "    count = left if has else uint32(0)",
        "    whole = vector != 0 and count != 0",
        f"    store_run(C, o, ({values}), whole, uint32(0) if vector else count)",
    ]
    names = dict(epilogue=epilogue.function, float32=float32, uint32=uint32, store_run=store_run)
    return device(generated("\n".join(source) + "\n", "put", names))


def _runs(b):
    """Return the runs of columns that a lane has: the first, and of each the tile and element."""
    if not b.shuffled:
        return [(8 * j, [(j, 0), (j, 1)]) for j in range(b.warp_rows // 8)]
    return [
        (32 * j + 4 * q, [(4 * j + e, q) for e in range(4)])
        for j in range(b.warp_rows // 32)
        for q in range(2)
    ]
