"""Sums over columns and over rows, in a fixed order, so that two runs are equal bit for bit.

Long sums are made by several blocks; a second kernel adds their parts.
"""

from functools import cache

from skdeep._kernels.cuda._intrinsics import load4
from skdeep._kernels.cuda._numba import cuda, device, float32, generated, kernel, uint32
from skdeep._kernels.cuda.array import check_span, scratch
from skdeep._kernels.cuda.program import blocks

THREADS = 256
_FOURS = 4 * THREADS


def power_of_two(n, limit):
    """Return the least power of two that is at least n, or the limit."""
    return min(1 << max(int(n) - 1, 0).bit_length(), limit)


# ---- over rows, for every column --------------------------------------------------------------


class ColumnPlan:
    """How blocks share the sums over the rows of (M, rows, C) for every column.

    A block has `lanes` neighbouring columns (or vectors of four columns), and a thread every
    `THREADS / lanes`-th of its chunk's rows. There are as many chunks as give every
    multiprocessor so many blocks, but a thread has at least 16 rows.

    Parameters
    ----------
    x, out : DeviceArray
        What is summed (M, rows, C), and an array on the device.
    vectors : bool
        Whether columns are loaded by four.
    last : bool, default=False
        Whether one block is to sum all rows of a column.
    each : int, default=2
        The blocks of a multiprocessor: enough to have some four vectors a thread under way.
    """

    def __init__(self, x, out, vectors, last=False, each=2):
        check_span(x, out)
        self.members, self.rows, self.columns = x.shape
        self.width = 4 if vectors else 1
        units = blocks(self.columns, self.width)
        self.lanes = power_of_two(units, 8 if last else 32)
        self.tiles = blocks(units, self.lanes)
        together = THREADS // self.lanes
        room = each * out.device.multiprocessors // (self.tiles * self.members)
        chunks = 1 if last else max(1, min(room, self.rows // (16 * together)))
        self.per = blocks(blocks(self.rows, chunks), together) * together
        self.chunks = blocks(self.rows, self.per)
        self.grid = self.tiles * self.members, self.chunks

    @property
    def numbers(self):
        """What the kernels are told: see `place`."""
        return self.rows, self.columns, self.per, self.lanes, self.tiles, self.width


@device
def lanes_sum(value, lanes):
    """Return the sum of the values of neighbouring lanes, a power of two, the same bits to all."""
    d = uint32(lanes // uint32(2))
    while d > uint32(0):
        value += cuda.shfl_xor_sync(uint32(0xFFFFFFFF), value, d)
        d = uint32(d // uint32(2))
    return value


@device
def block_sum(value):
    """Return the sum of a block's values to all its threads; they all call it.

    Pairs within a warp, then pairs of the warps' sums: at most 10 roundings on a way.
    """
    sums = cuda.shared.array(32, float32, 16)
    thread = uint32(cuda.threadIdx.x)
    lane = thread % uint32(32)
    value = lanes_sum(value, uint32(32))
    if lane == uint32(0):
        sums[thread // uint32(32)] = value
    cuda.syncthreads()
    value = sums[lane] if lane < uint32(cuda.blockDim.x) // uint32(32) else float32(0)
    value = lanes_sum(value, uint32(32))
    cuda.syncthreads()  # before the memory is used again
    return value


# ---- rows -------------------------------------------------------------------------------------


@device
def place(rows, per, lanes, tiles, width):
    """Return a thread's member, first column, first row, the end of its rows, and their step."""
    t, tile = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
    m = uint32(tile // tiles)
    lane = uint32(t & uint32(lanes - uint32(1)))
    column = uint32(uint32(uint32(tile - uint32(m * tiles)) * lanes + lane) * width)
    first = uint32(uint32(cuda.blockIdx.y) * per)
    end = uint32(first + per)
    return (
        m,
        column,
        uint32(first + uint32(t // lanes)),
        end if end < rows else rows,
        uint32(uint32(THREADS) // lanes),
    )


@device
def add_down(part, lanes, a0, a1, a2, a3):
    """Add the four sums of threads that have the same columns: the first of them gets the sums."""
    t, block = uint32(cuda.threadIdx.x), uint32(THREADS)
    t1, t2, t3 = (
        uint32(t + block),
        uint32(t + uint32(2 * THREADS)),
        uint32(t + uint32(3 * THREADS)),
    )
    part[t], part[t1], part[t2], part[t3] = a0, a1, a2, a3
    cuda.syncthreads()
    d = uint32(THREADS // 2)
    while d >= lanes:
        if t < d:
            part[t] += part[uint32(t + d)]
            part[t1] += part[uint32(t1 + d)]
            part[t2] += part[uint32(t2 + d)]
            part[t3] += part[uint32(t3 + d)]
        cuda.syncthreads()
        d = uint32(d // uint32(2))


@device
def put_sums(part, out, to, columns, column, lanes, width):
    """Write the sums of a block's columns."""
    t = uint32(cuda.threadIdx.x)
    if t < lanes and column < columns:
        at = uint32(to + column)
        out[at] = part[t]
        if width == uint32(4):
            out[uint32(at + uint32(1))] = part[uint32(t + uint32(THREADS))]
            out[uint32(at + uint32(2))] = part[uint32(t + uint32(2 * THREADS))]
            out[uint32(at + uint32(3))] = part[uint32(t + uint32(3 * THREADS))]


@kernel("f f u u u u u u u u u u", THREADS)
def _column_sum(
    x, out, rows, columns, per, lanes, tiles, width, x_step, row_step, out_step, chunk_step
):
    """Sum a chunk's rows, reading every element once."""
    part = cuda.shared.array(_FOURS, float32, 16)
    m, column, r, end, down = place(rows, per, lanes, tiles, width)
    base = uint32(uint32(m * x_step) + column)
    a0, a1, a2, a3 = float32(0), float32(0), float32(0), float32(0)
    if column < columns:
        if width == uint32(4):
            # Four rows at a time, so that four loads are under way.
            while uint32(r + uint32(uint32(3) * down)) < end:
                o = uint32(base + uint32(r * row_step))
                hop = uint32(down * row_step)
                p = load4(x, o)
                q = load4(x, uint32(o + hop))
                v = load4(x, uint32(o + uint32(uint32(2) * hop)))
                w = load4(x, uint32(o + uint32(uint32(3) * hop)))
                a0 += (p[0] + q[0]) + (v[0] + w[0])
                a1 += (p[1] + q[1]) + (v[1] + w[1])
                a2 += (p[2] + q[2]) + (v[2] + w[2])
                a3 += (p[3] + q[3]) + (v[3] + w[3])
                r = uint32(r + uint32(uint32(4) * down))
            while r < end:
                p = load4(x, uint32(base + uint32(r * row_step)))
                a0, a1, a2, a3 = a0 + p[0], a1 + p[1], a2 + p[2], a3 + p[3]
                r = uint32(r + down)
        else:
            hop = uint32(down * row_step)
            while uint32(r + uint32(uint32(3) * down)) < end:
                o = uint32(base + uint32(r * row_step))
                o2 = uint32(o + uint32(uint32(2) * hop))
                a0 += (x[o] + x[uint32(o + hop)]) + (x[o2] + x[uint32(o2 + hop)])
                r = uint32(r + uint32(uint32(4) * down))
            while r < end:
                a0 += x[uint32(base + uint32(r * row_step))]
                r = uint32(r + down)
    add_down(part, lanes, a0, a1, a2, a3)
    to = uint32(uint32(m * out_step) + uint32(uint32(cuda.blockIdx.y) * chunk_step))
    put_sums(part, out, to, columns, column, lanes, width)


def column_sums(x, out, last=False):
    """Return launches of out (M, C) = x (M, rows, C) summed over the rows.

    Rows may have any strides. 4 bytes an element move. The error is at most 2**-24 of the sum of
    magnitudes for every addition of the longest chain: a quarter of a thread's rows in each of
    the two kernels, and about ten that add what threads found.

    Parameters
    ----------
    x, out : DeviceArray
        The addends and the sums.
    last : bool, default=False
        Whether no more than one block is to sum a column.
    """
    if not out.size:
        return []
    vectors = x.shape[2] % 4 == 0 and x.aligned()
    plan = ColumnPlan(x, out, vectors, last)
    steps = x.step(0), x.step(1)
    if plan.chunks == 1:
        return [_column_sum(plan.grid, x, out, *plan.numbers, *steps, out.step(0), 0)]
    parts = plan_parts(plan, out)
    each = parts.step(0), parts.step(1)
    return [
        _column_sum(plan.grid, x, parts, *plan.numbers, *steps, *each),
        *column_sums(parts, out, last=True),
    ]


def plan_parts(plan, out):
    """Return memory for the sums of chunks: (M, chunks, C)."""
    return scratch(out).take((plan.members, plan.chunks, plan.columns))


# ---- over columns, for every row --------------------------------------------------------------

_ROW_SUM = """
def {name}({pointers}, out, {steps}, out_step, k, rows, total, per, parts, lanes, vectors):
    sums, lost = cuda.shared.array(THREADS, float32, 16), cuda.shared.array(THREADS, float32, 16)
    t = uint32(cuda.threadIdx.x)
    together = uint32(uint32(THREADS) // lanes)
    number = uint32(uint32(uint32(cuda.blockIdx.x) * together) + uint32(t // lanes))
    lane = uint32(t & uint32(lanes - uint32(1)))
    live = number < total
    row = number if live else uint32(0)
    m = uint32(row // rows)
    b = uint32(row - uint32(m * rows))
    {offsets}
    begin = uint32(uint32(cuda.blockIdx.y) * per)
    end = uint32(begin + per)
    end = end if end < k else k
    s, c = float32(0), float32(0)
    j = uint32(begin + lane)
    if vectors:
        stop = uint32(end - uint32(3)) if end > uint32(3) else uint32(0)
        i = uint32(begin + uint32(lane * uint32(4)))
        hop = uint32(lanes * uint32(4))
        {several}
        while i < stop:
            {load0}
            {add0}
            i = uint32(i + hop)
        j = uint32(uint32(end - uint32(end & uint32(3))) + lane)
    while j < end:
        s, c = add(s, c, {term})
        j = uint32(j + lanes)
    d = uint32(lanes // uint32(2))
    if d > uint32(0):
        sums[t], lost[t] = s, c
        cuda.syncthreads()
        while d > uint32(0):
            if lane < d:
                s, c = add(s, c + lost[uint32(t + d)], sums[uint32(t + d)])
                sums[t], lost[t] = s, c
            cuda.syncthreads()
            d = uint32(d // uint32(2))
    if live and lane == uint32(0):
        # Beyond the largest float32 there is no rounding error to add.
        to = uint32(uint32(m * out_step) + uint32(b * parts) + uint32(cuda.blockIdx.y))
        out[to] = s + c if c == c else s
"""


@device
def add(s, c, v):
    """Return s + v, and c with that sum's rounding error added (Knuth's two-sum)."""
    total = s + v
    back = total - s
    return total, c + ((s - (total - back)) + (v - back))


class RowSum:
    """Sums of a function of elements along the rows, compensated for rounding.

    The error is at most 4 units in the last place (2**-24 each) of the sum of magnitudes, however
    long the row is: two from adding four neighbours before they enter a compensated sum, one from
    its end, and one from the parts of rows that several blocks sum.

    Parameters
    ----------
    name : str
        The kernel's name.
    body : device function
        Takes an element of each array, and the member's number where `number`.
    arrays : int
        How many arrays there are.
    number : bool, default=False
        Whether there is a number (M or 1) of each member.
    at_once : int, default=1
        How many vectors a thread loads before it adds the first.
    """

    def __init__(self, name, body, arrays, number=False, at_once=1):
        self.arrays, self.number = arrays, number
        xs = [f"x{i}" for i in range(arrays)]
        last = ", a" if number else ""

        def term(place):
            return f"body({', '.join(place(x) for x in xs)}{last})"

        def load(n):
            at = f"uint32(i + uint32(hop * uint32({n})))" if n else "i"
            return "; ".join(f"v{n}_{x} = load4({x}, uint32(at_{x} + {at}))" for x in xs)

        def add_vector(n):
            t = [term(lambda x, i=i: f"v{n}_{x}[{i}]") for i in range(4)]
            return f"s, c = add(s, c, ({t[0]} + {t[1]}) + ({t[2]} + {t[3]}))"

        several = [
            f"while uint32(i + uint32(hop * uint32({at_once - 1}))) < stop:",
            *("    " + line(n) for line in (load, add_vector) for n in range(at_once)),
            f"    i = uint32(i + uint32(hop * uint32({at_once})))",
        ]
        offsets = [f"at_{x} = uint32(uint32(m * step_{x}) + uint32(b * row_step_{x}))" for x in xs]
        source = _ROW_SUM.format(
            name=name,
            pointers=", ".join([*xs, *["param"] * number]),
            steps=", ".join([f"step_{x}, row_step_{x}" for x in xs] + ["step_param"] * number),
            offsets="; ".join(offsets + ["a = param[uint32(m * step_param)]"] * number),
            several=("\n" + " " * 8).join(several) if at_once > 1 else "pass",
            load0=load(0),
            add0=add_vector(0),
            term=term(lambda x: f"{x}[uint32(at_{x} + j)]"),
        )
        spec = ["f"] * (arrays + number + 1) + ["u"] * (2 * arrays + number + 8)
        names = dict(cuda=cuda, uint32=uint32, float32=float32, load4=load4, add=add)
        function = generated(source, name, names | {"body": body, "THREADS": THREADS})
        self.kernel = kernel(" ".join(spec), THREADS, name=name)(function)

    def __call__(self, *arrays):
        """Return the launches.

        Parameters
        ----------
        *arrays : DeviceArray
            The arrays (M or 1, B, K), the members' numbers if any, and the sums (M, B).
        """
        *arrays, out = arrays
        if not out.size:
            return []
        check_span(*arrays, out)
        xs = arrays[: self.arrays]
        total, k = out.size, xs[0].shape[2]
        vectors = k >= 4 and all(x.aligned() for x in xs)
        units = blocks(k, 4) if vectors else k
        lanes = power_of_two(blocks(units, 4), THREADS)
        grid = blocks(total, THREADS // lanes)
        # Where the rows do not fill the device, several blocks take one, 16 loads a thread.
        room = 2 * out.device.multiprocessors // grid
        parts = max(1, min(room, units // (16 * lanes)))
        per = blocks(units, parts) * (4 if vectors else 1)
        parts = blocks(k, per)
        numbers = k, out.shape[1], total, per, parts, lanes, int(vectors)
        steps = [n for x in xs for n in (x.step(0), x.step(1))]
        steps += [a.step(0) for a in arrays[self.arrays :]]
        if parts == 1:
            return [self.kernel((grid, 1), *arrays, out, *steps, out.step(0), *numbers)]
        each = scratch(out).take((*out.shape, parts))
        return [
            self.kernel((grid, parts), *arrays, each, *steps, each.step(0), *numbers),
            *row_sums()(each, out),
        ]


@cache
def row_sums():
    """Return the `RowSum` of elements themselves: (M, B, K) to (M, B)."""
    return RowSum("row_sum", device(lambda x: x), 1, at_once=4)
