"""Norms of leaves, of whole gradients and of columns, and what is rescaled to a limit.

Squares are summed in float32 in an order that the sizes decide: in a thread, in its block, then
over blocks. So that no square overflows or vanishes, numbers below 2^32 are squared times 2^16
(the *middle* sum), others times 2^-80 (the *big* one, where NaN and infinity go, too).
"""

import numpy as np

from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, device, float32, kernel, sqrt, uint32, uint64
from skdeep._kernels.cuda._sums import block_sum
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.program import blocks

_THREADS, _WARPS = 256, 8
#: Blocks of a pass that strides over a row, by multiprocessor: all that run at once.
_RESIDENT = 8
#: Elements of a row that a block sums by leaf.
_TILE = 4096
#: The columns that a block of `_limit_columns` has at a time: 32 bytes, what memory gives at once.
_COLUMNS = 8
_SUMS = _WARPS * _COLUMNS
_ALL, _NEVER = 0xFFFFFFFF, 0xFFFFFFFF


def blocks_over(array, n):
    """Return the blocks of a pass with strides over rows of n elements, four a thread."""
    return min(blocks(n, 4 * _THREADS), _RESIDENT * array.device.multiprocessors)


@device
def find_segment(segments, step, count, i):
    """Return start, stop and number of the first of the ordered segments that ends after i.

    Behind the last one there is one that never begins, with the last one's number.
    """
    first, last = uint32(0), count
    while first < last:
        middle = uint32(uint32(first + last) // uint32(2))
        if uint32(segments[uint64(middle) * uint64(step) + uint64(1)]) > i:
            last = middle
        else:
            first = uint32(middle + uint32(1))
    if first >= count:
        return uint32(_NEVER), uint32(_NEVER), uint32(count - uint32(1))
    at = uint64(first) * uint64(step)
    return uint32(segments[at]), uint32(segments[at + uint64(1)]), first


@device
def _middle(x):
    scaled = x * float32(2.0**16)
    return scaled * scaled if abs(x) < float32(2.0**32) else float32(0)


@device
def _big(x):
    scaled = x * float32(2.0**-80)
    return float32(0) if abs(x) < float32(2.0**32) else scaled * scaled


@device
def _factor(middle, big, limit):
    """Return what brings numbers to a norm of at most the limit; 1 if it is, and without limit."""
    if big == float32(0):
        norm, unit = sqrt(middle) * float32(2.0**-16), float32(1)
    else:
        small = middle * float32(2.0**-96) * float32(2.0**-96)
        norm, unit = sqrt(big + small), float32(2.0**-80)
    above = limit > float32(0) and norm > limit * unit
    return (limit / norm) * unit if above else float32(1)


@device
def _sums4(x, at):
    """Return the middle and big squares and the sizes of four elements."""
    a, b, c, d = load4(x, at)
    middle = (_middle(a) + _middle(b)) + (_middle(c) + _middle(d))
    big = (_big(a) + _big(b)) + (_big(c) + _big(d))
    return middle, big, (abs(a) + abs(b)) + (abs(c) + abs(d))


# ---- sums over rows ---------------------------------------------------------------------------


@kernel("f l f u u u u u u")
def _power_sums(x, segments, parts, x_step, segments_step, count, members, n, wide):
    # Over the penalised segments; over the whole row if there is none.
    m = uint64(cuda.blockIdx.y)
    x_at = m * uint64(x_step)
    middle, big, sizes = float32(0), float32(0), float32(0)
    start, stop, on = uint32(0), n, True
    if count > uint32(0):
        stop = uint32(0)
    i = uint32(
        uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x)) * uint32(4)
    )
    stride = uint32(uint32(cuda.gridDim.x) * uint32(4 * _THREADS))
    while i < n:
        end, k = uint32(i + uint32(4)), i
        if i >= stop:
            start, stop, s = find_segment(segments, segments_step, count, i)
            on = segments[uint64(s) * uint64(segments_step) + uint64(2)] != 0
        if wide != uint32(0) and i >= start and end <= stop:
            if on:
                u, v, w = _sums4(x, x_at + uint64(i))
                middle, big, sizes = middle + u, big + v, sizes + w
            k = end
        while k < end:
            if k >= stop and k < n:
                start, stop, s = find_segment(segments, segments_step, count, k)
                on = segments[uint64(s) * uint64(segments_step) + uint64(2)] != 0
            if on and k >= start and k < n:
                value = x[x_at + uint64(k)]
                middle, big = middle + _middle(value), big + _big(value)
                sizes += abs(value)
            k = uint32(k + uint32(1))
        i = uint32(i + stride)
    middle, big, sizes = block_sum(middle), block_sum(big), block_sum(sizes)
    if uint32(cuda.threadIdx.x) == uint32(0):
        width = uint64(uint32(cuda.gridDim.x))
        at, rows = m * width + uint64(uint32(cuda.blockIdx.x)), uint64(members) * width
        parts[at] = middle
        parts[rows + at] = big
        parts[uint64(2) * rows + at] = sizes


def power_sums(x, segments=None):
    """Return the launch of the sums of every block, the scratch they are in, and their number.

    The scratch is (3, M, blocks): the middle and big squares, and the sizes.
    """
    (members, n), count, memory = x.shape, blocks_over(x, x.shape[1]), scratch(x)
    parts, found = memory.take((3, members, count)), 0
    if segments is None:
        segments = memory.take((1, 3), np.int64)  # not read
    else:
        found = segments.shape[0]
        n = n if found else 0
    numbers = x.step(0), segments.step(0), found, members, n, int(x.aligned())
    return [_power_sums((count, members), x, segments, parts, *numbers)], parts, count


@kernel("f f f u u u u u u")
def _shrink_whole(x, limits, parts, x_step, limits_step, members, count, n, wide):
    # Every block adds up the sums of all, in the same order. 8 bytes an element, if any, move.
    m = uint64(cuda.blockIdx.y)
    limit = limits[m * uint64(limits_step)]
    if not limit > float32(0):
        return
    middle, big, i = float32(0), float32(0), uint32(cuda.threadIdx.x)
    while i < count:
        at = m * uint64(count) + uint64(i)
        middle += parts[at]
        big += parts[uint64(members) * uint64(count) + at]
        i = uint32(i + uint32(_THREADS))
    factor = _factor(block_sum(middle), block_sum(big), limit)
    if factor == float32(1):
        return
    x_at = m * uint64(x_step)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    stride = uint32(uint32(cuda.gridDim.x) * uint32(_THREADS))
    while i < n:
        _scale(x, x_at, i, factor, wide)
        i = uint32(i + stride)


@device
def _scale(x, x_at, i, factor, wide):
    """Multiply element i, or vector i, of a row."""
    if wide != uint32(0):
        at = x_at + uint64(4) * uint64(i)
        a, b, c, d = load4(x, at)
        store4(x, at, (a * factor, b * factor, c * factor, d * factor))
    else:
        x[x_at + uint64(i)] = x[x_at + uint64(i)] * factor


def clip_whole(g, limits):
    """Rescale the whole gradient of a member to a Euclidean norm of at most the limit."""
    launch, parts, count = power_sums(g)
    members, n = g.shape
    wide = n % 4 == 0 and g.aligned()
    numbers = g.step(0), limits.step(0), members, count, n // 4 if wide else n, int(wide)
    return [*launch, _shrink_whole((count, members), g, limits, parts, *numbers)]


# ---- leaf by leaf -----------------------------------------------------------------------------


@kernel("f l f u u u u u")
def _tile_sums(x, segments, parts, x_step, segments_step, members, count, n):
    # The sum of segment s over tile t has place s + t: both rise, so no two have the same.
    m, tile = uint64(cuda.blockIdx.y), uint32(cuda.blockIdx.x)
    first = uint32(tile * uint32(_TILE))
    last = uint32(first + uint32(_TILE))
    last = last if last < n else n
    x_at, slots = m * uint64(x_step), uint64(uint32(cuda.gridDim.x)) + uint64(count)
    start, stop, s = find_segment(segments, segments_step, count, first)
    while s < count and start < last:
        low = start if start > first else first
        high = stop if stop < last else last
        middle, big = float32(0), float32(0)
        i = uint32(low + uint32(cuda.threadIdx.x))
        while i < high:
            value = x[x_at + uint64(i)]
            middle, big = middle + _middle(value), big + _big(value)
            i = uint32(i + uint32(_THREADS))
        middle, big = block_sum(middle), block_sum(big)
        if uint32(cuda.threadIdx.x) == uint32(0):
            at = m * slots + uint64(uint32(s + tile))
            parts[at] = middle
            parts[uint64(members) * slots + at] = big
        s = uint32(s + uint32(1))
        if s < count:
            at = uint64(s) * uint64(segments_step)
            start, stop = uint32(segments[at]), uint32(segments[at + uint64(1)])


@kernel("f l f f u u u u u")
def _segment_factors(
    limits, segments, parts, factors, limits_step, segments_step, members, count, tiles
):
    m, s = uint64(cuda.blockIdx.y), uint32(cuda.blockIdx.x)
    at, slots = uint64(s) * uint64(segments_step), uint64(tiles) + uint64(count)
    start, stop = uint32(segments[at]), uint32(segments[at + uint64(1)])
    middle, big = float32(0), float32(0)
    if stop > start:
        i = uint32(start // uint32(_TILE) + uint32(cuda.threadIdx.x))
        last = uint32(uint32(stop - uint32(1)) // uint32(_TILE))
        while i <= last:
            at = m * slots + uint64(uint32(s + i))
            middle += parts[at]
            big += parts[uint64(members) * slots + at]
            i = uint32(i + uint32(_THREADS))
    middle, big = block_sum(middle), block_sum(big)
    if uint32(cuda.threadIdx.x) == uint32(0):
        limit = limits[m * uint64(limits_step)]
        factors[m * uint64(count) + uint64(s)] = _factor(middle, big, limit)


@kernel("f l f u u u u u")
def _shrink_segments(x, segments, factors, x_step, segments_step, count, n, wide):
    # 8 bytes an element of the leaves that are rescaled.
    m = uint64(cuda.blockIdx.y)
    x_at, factor_at = m * uint64(x_step), m * uint64(count)
    start, stop, factor = uint32(0), uint32(0), float32(1)
    i = uint32(
        uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x)) * uint32(4)
    )
    stride = uint32(uint32(cuda.gridDim.x) * uint32(4 * _THREADS))
    while i < n:
        end, k = uint32(i + uint32(4)), i
        if i >= stop:
            start, stop, s = find_segment(segments, segments_step, count, i)
            factor = factors[factor_at + uint64(s)]
        if end <= stop and (start >= end or factor == float32(1)):
            k = end
        elif wide != uint32(0) and i >= start and end <= stop:
            _scale(x, x_at, uint32(i // uint32(4)), factor, wide)
            k = end
        while k < end:
            if k >= stop:
                start, stop, s = find_segment(segments, segments_step, count, k)
                factor = factors[factor_at + uint64(s)]
            if k >= start and k < n and factor != float32(1):
                _scale(x, x_at, k, factor, uint32(0))
            k = uint32(k + uint32(1))
        i = uint32(i + stride)


def clip_segments(g, limits, segments):
    """Rescale every leaf of g to a Euclidean norm of at most the limit."""
    (members, n), count = g.shape, segments.shape[0]
    if not n * count:
        return []
    tiles, memory = blocks(n, _TILE), scratch(g)
    parts = memory.take((2, members, tiles + count))
    factors = memory.take((members, count))
    step, wide = segments.step(0), int(g.aligned())
    return [
        _tile_sums((tiles, members), g, segments, parts, g.step(0), step, members, count, n),
        _segment_factors(
            (count, members), limits, segments, parts, factors, limits.step(0), step, members,
            count, tiles,
        ),
        _shrink_segments(
            (blocks_over(g, n), members), g, segments, factors, g.step(0), step, count, n, wide
        ),
    ]  # fmt: skip


# ---- column by column -------------------------------------------------------------------------


@kernel("f f l u u u")
def _limit_columns(p, limits, shapes, p_step, limits_step, shapes_step):
    # A block has 8 columns at a time, a warp 4 rows of them; it reads them twice.
    leaf, m = uint64(cuda.blockIdx.y), uint64(cuda.blockIdx.z)
    limit = limits[m * uint64(limits_step)]
    if not limit > float32(0):
        return
    middles = cuda.shared.array(_SUMS, float32, 16)
    bigs = cuda.shared.array(_SUMS, float32, 16)
    at = leaf * uint64(shapes_step)
    begin = m * uint64(p_step) + uint64(shapes[at])
    rows, units = uint32(shapes[at + uint64(1)]), uint32(shapes[at + uint64(2)])
    thread = uint32(cuda.threadIdx.x)
    j, first = uint32(thread % uint32(_COLUMNS)), uint32(thread // uint32(_COLUMNS))
    columns = uint32(uint32(cuda.blockIdx.x) * uint32(_COLUMNS))
    while columns < units:
        column = uint32(columns + j)
        middle, big = float32(0), float32(0)
        i = first if column < units else rows
        while i < rows:
            value = p[begin + uint64(i) * uint64(units) + uint64(column)]
            middle, big = middle + _middle(value), big + _big(value)
            i = uint32(i + uint32(_THREADS // _COLUMNS))
        for bit in (8, 16):
            middle = middle + cuda.shfl_xor_sync(uint32(_ALL), middle, uint32(bit))
            big = big + cuda.shfl_xor_sync(uint32(_ALL), big, uint32(bit))
        if thread % uint32(32) < uint32(_COLUMNS):
            middles[thread // uint32(32) * uint32(_COLUMNS) + j] = middle
            bigs[thread // uint32(32) * uint32(_COLUMNS) + j] = big
        cuda.syncthreads()
        middle, big = float32(0), float32(0)
        for warp in range(_WARPS):
            middle += middles[uint32(warp) * uint32(_COLUMNS) + j]
            big += bigs[uint32(warp) * uint32(_COLUMNS) + j]
        factor = _factor(middle, big, limit)
        i = first if column < units and factor != float32(1) else rows
        while i < rows:
            k = begin + uint64(i) * uint64(units) + uint64(column)
            p[k] = p[k] * factor
            i = uint32(i + uint32(_THREADS // _COLUMNS))
        cuda.syncthreads()
        columns = uint32(columns + uint32(cuda.gridDim.x) * uint32(_COLUMNS))


def limit_columns(p, limits, shapes):
    """Rescale the incoming weights of each unit to a Euclidean norm of at most the limit."""
    members, leaves = p.shape[0], shapes.shape[0]
    if not leaves:
        return []
    # The units are not known here; blocks without columns end at once.
    columns = min(blocks(p.shape[1], _COLUMNS), 2 * p.device.multiprocessors)
    steps = p.step(0), limits.step(0), shapes.step(0)
    return [_limit_columns((columns, leaves, members), p, limits, shapes, *steps)]


KERNELS = [
    _power_sums, _shrink_whole, _tile_sums, _segment_factors, _shrink_segments, _limit_columns
]  # fmt: skip
