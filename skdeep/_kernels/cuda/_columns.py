"""Kernels that sum over the rows of x (M, rows, C), or that have to do with each of its columns.

A tile of threads lies over the columns (one or four of them a thread) and the rows; a block covers
a span of rows, and where several blocks share a column, a second kernel adds their sums in a fixed
order. Where few rows are, one block does all that a column asks for in one launch.

Moments are exact in float32: all values are taken less the member's first row, and those of a
thread less its own first one, too. By Cauchy and Schwarz at least one part in `_MOST` of a
thread's sum of squares is then left when the mean is taken off. What threads and blocks have
summed is put together from their means and centred squares (Chan, Golub and LeVeque).
"""

from dataclasses import dataclass
from functools import cache

from skdeep._kernels.cuda._lanes import lane_function, lane_kernel
from skdeep._kernels.cuda._numba import cuda, device, float32, kernel, sqrt, uint32
from skdeep._kernels.cuda.array import check_span, scratch
from skdeep._kernels.cuda.program import blocks

_THREADS = 256
# Rows of a thread: at least and at most where many blocks share the rows; at most in one block.
_LEAST, _MOST, _WHOLE = 2, 64, 8
# Blocks of a multiprocessor that a grid is made for.
_RESIDENT = 8
# The parts' sums are added by blocks of so many columns and threads for each.
_COLUMNS, _ADDERS = 8, 32


# ---- sums over the rows of a tile ---------------------------------------------------------------

_COLUMN_SUMS = """
def column_sums(acc, t, row, lane, width, tall, values):
    (v$, ...) = values
    acc[t + uint32($ * THREADS)] = v$
    cuda.syncthreads()
    n = tall
    while n > uint32(1):
        half = uint32((n + uint32(1)) >> uint32(1))
        if uint32(row + half) < n:
            other = uint32(t + half * width)
            acc[t + uint32($ * THREADS)] += acc[other + uint32($ * THREADS)]
        cuda.syncthreads()
        n = half
    v$ = acc[lane + uint32($ * THREADS)]
    cuda.syncthreads()
    return (v$, ...)
"""


@cache
def _column_sums(lanes):
    """Return the function that sums values over the rows of a tile, for all of its threads."""
    names = {"cuda": cuda, "uint32": uint32, "THREADS": _THREADS}
    return device(lane_function(_COLUMN_SUMS, "column_sums", lanes, names))


_sums_of_one = _column_sums(1)


# ---- kernels over tiles -------------------------------------------------------------------------

# A thread works on `count` rows from element `at` on, each `step` elements behind the other.
_TILE = """
    t = uint32(cuda.threadIdx.x)
    row = uint32(t // width)
    lane = uint32(t - row * width)
    m, block = uint32(cuda.blockIdx.z), uint32(cuda.blockIdx.x)
    j = uint32((uint32(cuda.blockIdx.y) * width + lane) * LANES)
    start = uint32(block * span)
    taken = uint32(rows - start)
    if taken > span:
        taken = span
    count = uint32(0)
    if j >= channels:
        j = uint32(0)
    elif row < tall and row < taken:
        count = uint32(uint32(taken - row - uint32(1)) // tall + uint32(1))
    writes = row == uint32(0) and count > uint32(0)
    at = uint32((start + row) * channels + j)
    step = uint32(tall * channels)
"""

# The sums of x (less the first row) and of its centred squares, over a block.
_MOMENTS = """
    acc = cuda.shared.array(SHARED, float32, 16)
    (k$, ...) = load(x, uint32(m * x_step + j))
    h$ = float32(0)
    s$ = float32(0)
    q$ = float32(0)
    x_at = uint32(m * x_step + at)
    if count > uint32(0):
        (h$, ...) = load(x, x_at)
        h$ = h$ - k$
    for _ in range(count):
        (x$, ...) = load(x, x_at)
        x_at = uint32(x_at + step)
        d$ = (x$ - k$) - h$
        s$ += d$
        q$ += d$ * d$
    n = float32(count)
    share = float32(0)
    if count > uint32(0):
        share = float32(1) / n
    sum$ = s$ + n * h$
    (sum$, ...) = column_sums(acc, t, row, lane, width, tall, (sum$, ...))
    over = float32(1) / float32(taken)
    d$ = s$ * share + h$ - sum$ * over
    second$ = q$ - s$ * s$ * share + n * d$ * d$
    (second$, ...) = column_sums(acc, t, row, lane, width, tall, (second$, ...))
"""

_PARTS = """
    if writes:
        to = uint32(m * parts_step + block * uint32(2) * channels + j)
        store(parts, to, (sum$, ...))
        store(parts, uint32(to + channels), (second$, ...))
"""

_STATISTICS = """
    mean$ = k$ + sum$ * over
    v$ = second$ * over
    r$ = float32(1) / sqrt(v$ + eps[uint32(0)])
    if writes:
        store(mean, uint32(m * mean_step + j), (mean$, ...))
        store(variance, uint32(m * variance_step + j), (v$, ...))
        store(rstd, uint32(m * rstd_step + j), (r$, ...))
"""

_SCALE = """
    (g$, ...) = load(gamma, uint32(m * gamma_step + j))
    scale$ = r$ * g$
"""

_MEAN_SCALE = """
    (mean$, ...) = load(mean, uint32(m * mean_step + j))
    (r$, ...) = load(rstd, uint32(m * rstd_step + j))
""" + _SCALE  # fmt: skip

_GIVEN_SCALE = """
    (mean$, ...) = load(mean, uint32(m * mean_step + j))
    (v$, ...) = load(variance, uint32(m * variance_step + j))
    (g$, ...) = load(gamma, uint32(m * gamma_step + j))
    scale$ = g$ / sqrt(v$ + eps[uint32(0)])
    if writes and block == uint32(0):
        store(scale, uint32(m * scale_step + j), (scale$, ...))
"""

_BETA = """
    (b$, ...) = load(beta, uint32(m * beta_step + j))
"""

# A NaN is not below the floor, and stays.
_APPLY = _BETA + """
    if count > uint32(0):
        (x$, ...) = load(x, uint32(m * x_step + at))
    for i in range(count):
        z$ = (x$ - mean$) * scale$ + b$
        z$ = floor if z$ < floor else z$
        to = uint32(m * y_step + at)
        if uint32(uint32(i) + uint32(1)) < count:
            at = uint32(at + step)
        (x$, ...) = load(x, uint32(m * x_step + at))  # the next row, before this one is written
        store(y, to, (z$, ...))
"""  # fmt: skip

# The cotangent in front of the activation, whose input is computed again.
_OPEN = """
        (c$, ...) = load(ct, uint32(m * ct_step + at))
        (x$, ...) = load(x, uint32(m * x_step + at))
        at = uint32(at + step)
        d$ = x$ - mean$
        c$ = c$ if relu == uint32(0) or d$ * scale$ + b$ > float32(0) else float32(0)
"""

# The sums of the cotangents c and of c (x - mean), over a block.
_COTANGENTS = """
    acc = cuda.shared.array(SHARED, float32, 16)
    sum$ = float32(0)
    second$ = float32(0)
    back = at
    for _ in range(count):
""" + _OPEN + """
        sum$ += c$
        second$ += c$ * d$
    at = back
    (sum$, ...) = column_sums(acc, t, row, lane, width, tall, (sum$, ...))
    (second$, ...) = column_sums(acc, t, row, lane, width, tall, (second$, ...))
"""  # fmt: skip

# Of layer normalisation: every row has a mean and a scale of its own.
_ROW_COTANGENTS = """
    acc = cuda.shared.array(SHARED, float32, 16)
    sum$ = float32(0)
    second$ = float32(0)
    i = uint32(start + row)
    for _ in range(count):
        (c$, ...) = load(ct, uint32(m * ct_step + at))
        (x$, ...) = load(x, uint32(m * x_step + at))
        mu, r = mean[uint32(m * mean_step + i)], rstd[uint32(m * rstd_step + i)]
        sum$ += c$
        second$ += c$ * ((x$ - mu) * r)
        at = uint32(at + step)
        i = uint32(i + tall)
    (sum$, ...) = column_sums(acc, t, row, lane, width, tall, (sum$, ...))
    (second$, ...) = column_sums(acc, t, row, lane, width, tall, (second$, ...))
"""

_WRITE_COTANGENTS = """
    second$ = second$ * r$
    if writes:
        store(dbeta, uint32(m * dbeta_step + j), (sum$, ...))
        store(dgamma, uint32(m * dgamma_step + j), (second$, ...))
"""

_READ_COTANGENTS = """
    (sum$, ...) = load(dbeta, uint32(m * dbeta_step + j))
    (second$, ...) = load(dgamma, uint32(m * dgamma_step + j))
"""

_PULL = """
    over = float32(1) / float32(rows)
    sum$ = sum$ * over
    second$ = second$ * r$ * over
    for _ in range(count):
        to = uint32(m * dx_step + at)
""" + _OPEN + """
        d$ = (c$ - sum$ - d$ * second$) * scale$
        store(dx, to, (d$, ...))
"""  # fmt: skip

_OPENED = _MEAN_SCALE + _BETA
#: Name -> the arrays, another number (its letter and name) and the body.
_BODIES = {
    "batch_moments": ("x parts", "", _MOMENTS + _PARTS),
    "batch_apply": ("x gamma beta mean rstd y", "s floor", _MEAN_SCALE + _APPLY),
    "batch_norm": (
        "x gamma beta eps y mean variance rstd",
        "s floor",
        _MOMENTS + _STATISTICS + _SCALE + _APPLY,
    ),
    "batch_normalize": (
        "x mean variance gamma beta eps y scale",
        "s floor",
        _GIVEN_SCALE + _APPLY,
    ),
    "batch_cotangents": (
        "ct x gamma beta mean rstd parts",
        "u relu",
        _OPENED + _COTANGENTS + _PARTS,
    ),
    "batch_pull": (
        "ct x gamma beta mean rstd dx dgamma dbeta",
        "u relu",
        _OPENED + _READ_COTANGENTS + _PULL,
    ),
    "batch_pullback": (
        "ct x gamma beta mean rstd dx dgamma dbeta",
        "u relu",
        _OPENED + _COTANGENTS + _WRITE_COTANGENTS + _PULL,
    ),
    "layer_cotangents": ("ct x mean rstd parts", "", _ROW_COTANGENTS + _PARTS),
}


@cache
def _tile_kernel(name, lanes):
    """Return a kernel over tiles, which takes arrays, the tiling, their steps and a number."""
    arrays, number, body = _BODIES[name]
    arrays, number = arrays.split(), number.split()
    names = [*arrays, "rows", "channels", "width", "tall", "span"]
    names += [f"{a}_step" for a in arrays] + number[1:]
    spec = ["f"] * len(arrays) + ["u"] * (5 + len(arrays)) + number[:1]
    known = {
        "cuda": cuda,
        "uint32": uint32,
        "float32": float32,
        "sqrt": sqrt,
        "column_sums": _column_sums(lanes),
        "SHARED": _THREADS * lanes,
    }
    source = f"def {name}({', '.join(names)}):" + _TILE + body
    return lane_kernel(" ".join(spec), source, name, lanes, known)


@dataclass(frozen=True)
class Tiling:
    """How the threads of a block and the blocks of a grid lie over rows and columns.

    Parameters
    ----------
    lanes : int
        Columns of a thread.
    numbers : tuple of int
        Rows, columns, threads of a block along a row, and down, and rows of a block.
    grid : tuple of int
        Blocks along the rows, the columns and the members.
    """

    lanes: int
    numbers: tuple
    grid: tuple

    @property
    def parts(self):
        """The number of blocks that share a column."""
        return self.grid[0]

    def launch(self, name, *arrays, number=()):
        """Return the launch of a kernel on arrays that lead with the members."""
        check_span(*arrays)
        steps = [a.step(0) for a in arrays]
        return _tile_kernel(name, self.lanes)(self.grid, *arrays, *self.numbers, *steps, *number)


def lanes_of(channels, arrays):
    """Return how many columns of arrays a thread moves at once."""
    return 4 if channels % 4 == 0 and all(a.aligned() for a in arrays) else 1


def tilings(shape, device, arrays):
    """Return the tiling with one block for all rows of a column (or None), and that with more.

    Columns are dealt out evenly to blocks of at most 32 vectors; the blocks of the first have
    eight, so that more of them share the work.
    """
    members, rows, channels = shape
    lanes = lanes_of(channels, arrays)
    vectors = channels // lanes
    narrow = min(vectors, 8)
    tall = _THREADS // narrow
    whole = None
    if rows <= tall * _WHOLE:
        grid = 1, blocks(vectors, narrow), members
        whole = Tiling(lanes, (rows, channels, narrow, tall, rows), grid)
    width = blocks(vectors, blocks(vectors, 32))
    tall, columns = _THREADS // width, blocks(vectors, width)
    parts = max(1, device.multiprocessors * _RESIDENT // (columns * members))
    span = tall * min(max(blocks(rows, parts * tall), _LEAST), _MOST)
    grid = blocks(rows, span), columns, members
    return whole, Tiling(lanes, (rows, channels, width, tall, span), grid)


# ---- adding the parts ---------------------------------------------------------------------------


@device
def _sum_over_parts(parts, at, row, count, step):
    """Return a thread's share of the sum of a number of all parts."""
    s = float32(0)
    for p in range(row, count, uint32(_ADDERS)):
        s += parts[uint32(at + uint32(p) * step)]
    return s


@kernel("f f f f f f u u u u u u u u")
def _finish_moments(
    parts, x, eps, mean, variance, rstd,
    count, rows, channels, span, x_step, mean_step, variance_step, rstd_step,
):  # fmt: skip
    """Make the statistics of sums (less the first row) and centred squares of spans of rows."""
    acc = cuda.shared.array(_THREADS, float32, 16)
    t, m = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
    lane, row = uint32(t % uint32(_COLUMNS)), uint32(t // uint32(_COLUMNS))
    width, tall = uint32(_COLUMNS), uint32(_ADDERS)
    column = uint32(uint32(cuda.blockIdx.x) * width + lane)
    j = column if column < channels else uint32(0)
    step = uint32(uint32(2) * channels)
    at = uint32(m * count * step + j)
    s = _sum_over_parts(parts, at, row, count, step)
    over = float32(1) / float32(rows)
    off = _sums_of_one(acc, t, row, lane, width, tall, (s,))[0] * over
    m2 = float32(0)
    for p in range(row, count, tall):
        n = uint32(rows - uint32(p) * span)
        n = float32(span if n > span else n)
        here = uint32(at + uint32(p) * step)
        d = parts[here] / n - off
        m2 += parts[uint32(here + channels)] + n * d * d
    v = _sums_of_one(acc, t, row, lane, width, tall, (m2,))[0] * over
    if row == uint32(0) and column < channels:
        mean[uint32(m * mean_step + j)] = x[uint32(m * x_step + j)] + off
        variance[uint32(m * variance_step + j)] = v
        rstd[uint32(m * rstd_step + j)] = float32(1) / sqrt(v + eps[uint32(0)])


@kernel("f f f f u u u u u u")
def _finish_cotangents(
    parts, rstd, dgamma, dbeta, count, channels, scaled, rstd_step, dgamma_step, dbeta_step
):
    """Add the parts; those of gamma are still to be scaled, or not."""
    acc = cuda.shared.array(_THREADS, float32, 16)
    t, m = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
    lane, row = uint32(t % uint32(_COLUMNS)), uint32(t // uint32(_COLUMNS))
    width, tall = uint32(_COLUMNS), uint32(_ADDERS)
    column = uint32(uint32(cuda.blockIdx.x) * width + lane)
    j = column if column < channels else uint32(0)
    step = uint32(uint32(2) * channels)
    at = uint32(m * count * step + j)
    b = _sum_over_parts(parts, at, row, count, step)
    g = _sum_over_parts(parts, uint32(at + channels), row, count, step)
    b = _sums_of_one(acc, t, row, lane, width, tall, (b,))[0]
    g = _sums_of_one(acc, t, row, lane, width, tall, (g,))[0]
    if row == uint32(0) and column < channels:
        if scaled != uint32(0):
            g *= rstd[uint32(m * rstd_step + j)]
        dgamma[uint32(m * dgamma_step + j)] = g
        dbeta[uint32(m * dbeta_step + j)] = b


def parts_of(x, tiling):
    """Return memory for the sums of every block, and the grid of the kernel that adds them."""
    members, channels = tiling.grid[2], tiling.numbers[1]
    memory = scratch(x).take((members, tiling.parts, 2, channels))
    return memory, (blocks(channels, _COLUMNS), members)


def finish_moments(tiling, grid, parts, x, eps, mean, variance, rstd):
    """Return the launch that makes the statistics."""
    rows, channels, *_, span = tiling.numbers
    steps = [a.step(0) for a in (x, mean, variance, rstd)]
    numbers = tiling.parts, rows, channels, span, *steps
    return _finish_moments(grid, parts, x, eps, mean, variance, rstd, *numbers)


def finish_cotangents(tiling, grid, parts, rstd, dgamma, dbeta, scaled):
    """Return the launch that adds the parts; it multiplies by rstd if `scaled` is 1."""
    steps = [a.step(0) for a in (rstd, dgamma, dbeta)]
    numbers = tiling.parts, tiling.numbers[1], scaled, *steps
    return _finish_cotangents(grid, parts, rstd, dgamma, dbeta, *numbers)


def catalogue():
    """Return all kernels."""
    tiles = [_tile_kernel(name, lanes) for name in _BODIES for lanes in (1, 4)]
    return [*tiles, _finish_moments, _finish_cotangents]
