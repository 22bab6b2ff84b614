"""The float32 product that dense layers and convolutions are: C = epilogue(op(A) op(B)).

One template for all of them. A block computes a tile of C: step by step along k it brings a slab
of A and one of B to shared memory, loading the next while it multiplies the last, and every
thread adds outer products to its 8 by 8 (or 4 by 4) outputs in registers. What differs is where
an operand's elements come from, so that the operands are *loaders*: a convolution's reads an image
as the matrix that it stands for. The loop over k holds no division: what a thread needs to know of
its rows (a pixel's place) is found once, before the loop, and what changes with k (the tap) is
advanced.

How to make a kernel: `tile_kernel` with two `Loader`, a `Store`, an `Epilogue` and a `Shape`;
`tile_launch` says the launch. Device functions, of which only the first two of a loader are
needed; `X` is the operand's pointer, all numbers are uint32, `arguments` the kernel's numbers that
the loader names, one by one:

``place(r, limit, k, batch, *arguments) -> slot``
    Once a thread, before the loop: what it needs to know of row `r` of op(A) (column of op(B); the
    first of four where the loader does not run along k), of which there are `limit`, at `k`. A
    row beyond the limit is the thread's to clamp: what it yields is computed with and not stored.
    A tuple of uint32.
``fetch(X, slot, step, k, end, *arguments) -> four float32``
    The elements from `k` on, along k or along the rows; zeros from `end` on, which both operands
    have to give. `step` is what `begin` and `advance` say, else `k`.
``move(slot, depth, *arguments) -> slot``
    The slot `depth` further along k; without it slots never change.
``begin(k, *arguments) -> step`` and ``advance(step, depth, *arguments) -> step``
    What all threads share: the tap at the slab's first k. With them `fetch` gets a tuple.
"""

from dataclasses import dataclass

from skdeep._kernels.cuda._intrinsics import slab_product, store4, take4, zero_tile
from skdeep._kernels.cuda._numba import Kernel, cuda, device, float32, generated, uint32
from skdeep._kernels.cuda.program import blocks


@dataclass(frozen=True)
class Shape:
    """How a product is cut: block tiles of `rows` by `columns`, `depth` of k at a time.

    Parameters
    ----------
    rows, columns, depth : int
        The sizes of a block's tile; the depth is a multiple of 8.
    side : {4, 8}
        A thread computes side by side outputs.
    resident : int
        The blocks that a multiprocessor has registers for.
    """

    rows: int
    columns: int
    depth: int
    side: int
    resident: int

    @property
    def threads(self):
        """The threads of a block."""
        return self.rows * self.columns // self.side**2

    def __str__(self):
        return f"{self.rows}x{self.columns}x{self.depth}"


#: For products that give every multiprocessor a tile; for smaller ones; for the smallest.
LARGE, MEDIUM, SMALL = (
    Shape(128, 128, 16, 8, 2), Shape(64, 64, 16, 8, 6), Shape(32, 32, 32, 4, 8)
)  # fmt: skip


@dataclass(frozen=True)
class Loader:
    """Where an operand's elements come from: see the module's documentation.

    Parameters
    ----------
    name : str
        Part of the kernel's name.
    along_k : bool
        Whether the four elements of a fetch are neighbours along k.
    place, fetch : device functions
        The place of a thread's elements, and the elements.
    move, begin, advance : device functions, optional
        How places, and what threads share, go on along k.
    arguments : tuple of str
        Names of the numbers that these functions take, in order.
    """

    name: str
    along_k: bool
    place: object
    fetch: object
    move: object = None
    begin: object = None
    advance: object = None
    arguments: tuple = ()


@dataclass(frozen=True)
class Store:
    """Where C's elements go, and where the bias stands.

    Parameters
    ----------
    name : str
        Part of the kernel's name.
    row : device function
        ``row(r, batch, part, *arguments)``: the offset of the first element of row r.
    bias : device function
        ``bias(batch, *arguments)``: the offset of the first of a row's biases.
    arguments : tuple of str
        Names of the numbers that these functions take, in order.
    """

    name: str
    row: object
    bias: object
    arguments: tuple = ()


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a sum on the way out.

    Parameters
    ----------
    name : str
        Part of the kernel's name.
    function : device function
        ``function(v, *arguments)``, `v` the sum with its bias.
    arguments : tuple of str
        Names of the float32 numbers that it takes, in order.
    """

    name: str
    function: object
    arguments: tuple = ()


@device
def load_some(X, o, i, end):
    """Return the four elements from offset `o` on; zeros from the (end - i)-th on."""
    zero = float32(0)
    return (
        X[o] if i < end else zero,
        X[o + uint32(1)] if i + uint32(1) < end else zero,
        X[o + uint32(2)] if i + uint32(2) < end else zero,
        X[o + uint32(3)] if i + uint32(3) < end else zero,
    )


@device
def store_some(X, o, i, end, values):
    """Write the first end - i of four elements from offset `o` on."""
    if i < end:
        X[o] = values[0]
    if i + uint32(1) < end:
        X[o + uint32(1)] = values[1]
    if i + uint32(2) < end:
        X[o + uint32(2)] = values[2]
    if i + uint32(3) < end:
        X[o + uint32(3)] = values[3]


@device
def _floored(v, floor):
    return floor if v < floor else v  # keeps NaN


#: ReLU with a floor of 0, the identity with one of -infinity: one kernel for both.
FLOORED = Epilogue("", _floored, ("floor",))

_FIXED = "A B bias C M N K tiles_n depth biased vector".split()


def tile_kernel(name, a, b, store, epilogue=FLOORED, shape=LARGE):
    """Return the kernel of a product.

    Parameters
    ----------
    name : str
        Its name, to which the parts' names and the shape are added.
    a, b : Loader
        The operands; a's rows are those of C, b's are the columns.
    store : Store
        The result.
    epilogue : Epilogue
        What becomes of the sums.
    shape : Shape
        The tiles.

    Returns
    -------
    Kernel
        To be launched by `tile_launch`. The block (x, y, z) computes tile x of C (tiles along a
        row of C first), part y of k and the batch item z: a member, a group, or both, as the
        loaders and the store read it.
    """
    numbers = list(dict.fromkeys((*a.arguments, *b.arguments, *store.arguments)))
    parameters = [*_FIXED, *numbers, *epilogue.arguments]
    source = _source(a, b, store, epilogue, shape, parameters)
    names = dict(
        cuda=cuda, uint32=uint32, float32=float32, min=min, store4=store4, take4=take4,
        load_some=load_some, zeros=zero_tile(shape.side**2), multiply=_multiplier(shape),
        put=_putter(epilogue), store_row=store.row, store_bias=store.bias,
        SIZE=2 * _slab(shape),
    )  # fmt: skip
    for letter, loader in ("a", a), ("b", b):
        for part in ("place", "fetch", "move", "begin", "advance"):
            names[f"{letter}_{part}"] = getattr(loader, part)
    words = (name, a.name, b.name, store.name, epilogue.name, str(shape))
    name = "_".join(word for word in words if word)
    spec = "f f f f " + "u " * (len(_FIXED) - 4 + len(numbers)) + "s " * len(epilogue.arguments)
    kernel = Kernel(generated(source, "product", names), spec, shape.threads, shape.resident, name)
    kernel.shape, kernel.numbers = shape, tuple(parameters[len(_FIXED) :])
    return kernel


def tile_launch(kernel, a, b, out, sizes, *, bias=None, vector, depth=None, parts=1, batch=1,
                **numbers):  # fmt: skip
    """Return the launch of a kernel made by `tile_kernel`.

    Parameters
    ----------
    kernel : Kernel
        The kernel.
    a, b, out : DeviceArray
        The operands and the result.
    sizes : tuple of int
        Rows of C, columns of C, and the length of the sums.
    bias : DeviceArray, optional
        What is added to every row of C.
    vector : bool
        Whether the columns and every row's offset are multiples of 4 and `out` is aligned.
    depth : int, optional
        The length of a part of the sums, a multiple of the shape's depth.
    parts, batch : int
        The number of parts of the sums, and of products.
    **numbers : int or float
        The other numbers, by name.
    """
    m, n, k = sizes
    shape = kernel.shape
    tiles_n = blocks(n, shape.columns)
    grid = blocks(m, shape.rows) * tiles_n, parts, batch
    biased, bias = bias is not None, out if bias is None else bias
    rest = [numbers.pop(name) for name in kernel.numbers]
    if numbers:
        raise TypeError(f"{kernel.__name__} takes no {', '.join(numbers)}")
    depth = max(k, 1) if depth is None else depth
    return kernel(grid, a, b, bias, out, m, n, k, tiles_n, depth, int(biased), int(vector), *rest)


# ---- the source -------------------------------------------------------------------------------

#: Elements by which rows in shared memory are spread, against conflicts of banks.
_PAD = 4


def _slab(shape):
    """Return the elements of the larger operand's slab: shared memory holds two of each."""
    return shape.depth * (max(shape.rows, shape.columns) + _PAD)


def _source(a, b, store, epilogue, shape, parameters):
    lines = [f"def product({', '.join(parameters)}):", *_beginning(shape)]
    operands = [_Operand("a", a, shape.rows, shape), _Operand("b", b, shape.columns, shape)]
    for operand in operands:
        lines += operand.places()
    for operand in operands:
        lines += operand.loads("k0")
    for operand in operands:
        lines += operand.stores()
    lines += ["cuda.syncthreads()", "while k0 < end:"]
    loop = [f"k0 = uint32(k0 + uint32({shape.depth}))"]
    for operand in operands:
        loop += operand.moves() + operand.loads("k0")  # past the end: zeros
    loop.append(_MULTIPLY)
    loop.append(f"at = uint32(uint32({_slab(shape)}) - at)")
    for operand in operands:
        loop += operand.stores()
    lines += ["    " + line for line in [*loop, "cuda.syncthreads()"]]
    lines += _ending(shape, store, epilogue)
    return "\n    ".join(lines) + "\n"


def _beginning(shape):
    """Say which tile, which part of k, and which outputs of the tile are the thread's."""
    across = shape.columns // shape.side // 4  # warps are 8 threads by 4
    return [
        "a_shared = cuda.shared.array(SIZE, float32, 16)",
        "b_shared = cuda.shared.array(SIZE, float32, 16)",
        "t = uint32(cuda.threadIdx.x)",
        "tile, part = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y)",
        "batch = uint32(cuda.blockIdx.z)",
        f"a0 = uint32(uint32(tile // tiles_n) * uint32({shape.rows}))",
        f"b0 = uint32(uint32(tile % tiles_n) * uint32({shape.columns}))",
        "k0 = uint32(part * depth)",
        "end = uint32(min(K, uint32(k0 + depth)))",
        "lane, warp = uint32(t & uint32(31)), uint32(t >> uint32(5))",
        f"ty = uint32((warp // uint32({across})) * uint32(32) + (lane >> uint32(2)) * uint32(4))",
        f"tx = uint32((warp % uint32({across})) * uint32(16) + (lane & uint32(3)) * uint32(4))",
        "sums = zeros()",
        "at = uint32(0)",
    ]


class _Operand:
    """The lines that bring an operand's slabs to shared memory, [k][row] for either direction."""

    def __init__(self, letter, loader, rows, shape):
        self.x, self.loader, self.rows = letter, loader, rows
        self.depth, self.threads = shape.depth, shape.threads
        self.stride = rows + _PAD
        self.slots = range(rows * self.depth // (4 * self.threads))

    def _call(self, part, *values):
        return f"{self.x}_{part}({', '.join((*values, *self.loader.arguments))})"

    def places(self):
        """Say which elements of a slab are the thread's, and find their places."""
        x, limit, lines = self.x, "MN"[self.x == "b"], []
        for i in self.slots:
            n = f"(t + uint32({i * self.threads}))"
            if self.loader.along_k:
                # Two threads a row, 32 bytes of it: whole sectors, and 32 banks on the way out.
                r = f"({n} % uint32({2 * self.rows})) // uint32(2)"
                k = f"({n} // uint32({2 * self.rows})) * uint32(8) + ({n} % uint32(2)) * uint32(4)"
            else:
                r = f"({n} % uint32({self.rows // 4})) * uint32(4)"
                k = f"{n} // uint32({self.rows // 4})"
            place = self._call("place", f"uint32({x}0 + r)", limit, f"uint32(k0 + {x}_k{i})",
                               "batch")  # fmt: skip
            lines += [
                f"r, {x}_k{i} = uint32({r}), uint32({k})",
                f"{x}_to{i} = uint32({x}_k{i} * uint32({self.stride}) + r)",
                f"{x}_slot{i} = {place}",
            ]
        if self.loader.begin:
            lines += [f"{x}_step = {self._call('begin', 'k0')}"]
        return lines

    def moves(self):
        """Go on by one slab."""
        x, depth, lines = self.x, f"uint32({self.depth})", []
        if self.loader.move:
            for i in self.slots:
                slot = f"{x}_slot{i}"
                lines.append(f"{slot} = {self._call('move', slot, depth)}")
        if self.loader.begin:
            lines.append(f"{x}_step = {self._call('advance', f'{x}_step', depth)}")
        return lines

    def loads(self, k0):
        """Load the thread's elements of a slab to registers."""
        x, lines = self.x, []
        for i in self.slots:
            k = f"uint32({k0} + {x}_k{i})"
            step = f"{x}_step" if self.loader.begin else k
            fetch = self._call("fetch", x.upper(), f"{x}_slot{i}", step, k, "end")
            lines.append(f"{x}_new{i} = {fetch}")
        return lines

    def stores(self):
        """Store them to shared memory."""
        x, lines = self.x, []
        for i in self.slots:
            lines.append(f"to, new = uint32(at + {x}_to{i}), {x}_new{i}")
            if self.loader.along_k:
                lines += [
                    f"{x}_shared[to + uint32({c * self.stride})] = new[{c}]" for c in range(4)
                ]
            else:
                lines.append(f"store4({x}_shared, to, new)")
        return lines


_MULTIPLY = "sums = multiply(sums, a_shared, uint32(at + ty), b_shared, uint32(at + tx))"


def _multiplier(shape):
    """Return what adds a slab's outer products to a thread's sums."""
    sizes = shape.rows, shape.columns
    places = ([h * size // 2 for h in range(shape.side // 4)] for size in sizes)
    strides = (size + _PAD for size in sizes)
    return slab_product(shape.depth, *places, *strides)


def _putter(epilogue):
    """Return what adds the bias, applies the epilogue and stores four columns of a row."""
    floats = "".join(f", {a}" for a in epilogue.arguments)
    values = ", ".join(f"epilogue(float32(v[{c}] + b[{c}]){floats})" for c in range(4))
    source = [
        f"def put(C, o, column, N, vector, v, b{floats}):",
        f"    values = {values}",
        "    if vector:",
        "        if column < N:",
        "            store4(C, o, values)",
        "    else:",
        "        store_some(C, o, column, N, values)",
    ]
    names = dict(epilogue=epilogue.function, float32=float32, store4=store4, store_some=store_some)
    return device(generated("\n".join(source) + "\n", "put", names))


def _ending(shape, store, epilogue):
    """Put the sums into C, four columns at once."""
    numbers, floats = store.arguments, epilogue.arguments
    halves = range(shape.side // 4)
    lines = [
        "column = uint32(b0 + tx)",
        f"o = uint32(store_bias({', '.join(('batch', *numbers))}) + column)",
        "zero = float32(0)",
    ]
    for h in halves:
        at = f"uint32({h * shape.columns // 2})"
        lines += [
            f"bias{h} = zero, zero, zero, zero",
            "if biased:",
            f"    bias{h} = load_some(bias, o + {at}, column + {at}, N)",
        ]
    for i in range(shape.side):
        place = i if i < 4 else shape.rows // 2 + i - 4
        row = f"store_row({', '.join(('r', 'batch', 'part', *numbers))})"
        lines += [
            f"r = uint32(a0 + ty + uint32({place}))",
            "if r < M:",
            f"    o = uint32({row} + column)",
        ]
        for h in halves:
            at = f"uint32({h * shape.columns // 2})"
            values = f"take4(sums, {i * shape.side + 4 * h}), bias{h}"
            rest = ", ".join((f"o + {at}", f"column + {at}", "N", "vector", values, *floats))
            lines += [f"    put(C, {rest})"]
    return lines
