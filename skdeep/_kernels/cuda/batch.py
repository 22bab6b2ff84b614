"""Minibatches: gathering rows, weights, counters and the running sum of the loss.

See the module of the CPU for what the counters are. Sums are made by one block, in an order that
the number of rows decides.
"""

from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, device, float32, int64, kernel, uint32, uint64
from skdeep._kernels.cuda._sums import block_sum
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256
#: The threads of a block that sums alone: it waits for memory, the more of it at once the better.
_SUMMING = 1024


@device
def _first_row(counters, step):
    """Return where the batch, or its part, of this block's member begins in the order."""
    at = uint64(cuda.blockIdx.y) * uint64(step)
    return uint64(counters[at + uint64(2)]) + uint64(counters[at + uint64(3)])


@kernel("f l l f u u u u u u u u")
def _gather(
    x, order, counters, out, x_step, order_step, counters_step, out_member, out_row, count, size,
    wide,
):  # fmt: skip
    # 8 bytes an element; `size` counts vectors where they are wide.
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    row = uint32(i // size)
    if row >= count:
        return
    m = uint64(cuda.blockIdx.y)
    place = m * uint64(order_step) + _first_row(counters, counters_step) + uint64(row)
    source = uint64(order[place]) * uint64(x_step)
    target = m * uint64(out_member) + uint64(row) * uint64(out_row)
    j = uint64(uint32(i - row * size))
    if wide != uint32(0):
        store4(out, target + uint64(4) * j, load4(x, source + uint64(4) * j))
    else:
        out[target + j] = x[source + j]


@twin()
def gather(x, order, counters, out):
    """Copy each member's batch of rows of x: its order from its row cursor on."""
    members, count, size = out.shape
    wide = size % 4 == 0 and x.aligned() and out.aligned()
    size //= 4 if wide else 1
    if not count * size:
        return []
    steps = [x.step(0), order.step(0), counters.step(0), out.step(0), out.step(1)]
    grid = blocks(count * size, _THREADS), members
    return [_gather(grid, x, order, counters, out, *steps, count, size, int(wide))]


@kernel("f l l l l f u u u u u")
def _gather_csr(
    data, indices, indptr, order, counters, out, order_step, counters_step, out_member, out_row,
    size,
):  # fmt: skip
    # A block for each row: zeros, then what is stored.
    m, row = uint64(cuda.blockIdx.y), uint64(cuda.blockIdx.x)
    place = m * uint64(order_step) + _first_row(counters, counters_step) + row
    target = m * uint64(out_member) + row * uint64(out_row)
    j = uint32(cuda.threadIdx.x)
    while j < size:
        out[target + uint64(j)] = float32(0)
        j = uint32(j + uint32(_THREADS))
    cuda.syncthreads()
    r = uint64(order[place])
    k = uint64(indptr[r]) + uint64(uint32(cuda.threadIdx.x))
    end = uint64(indptr[r + uint64(1)])
    while k < end:
        out[target + uint64(indices[k])] = data[k]
        k += uint64(_THREADS)


@twin()
def gather_csr(data, indices, indptr, order, counters, out):
    """Copy each member's batch of rows of a CSR matrix, densely.

    No row may store a column twice: they would be written in no fixed order, not added.
    """
    members, count, size = out.shape
    if not count * size:
        return []
    steps = [order.step(0), counters.step(0), out.step(0), out.step(1)]
    arrays = data, indices, indptr, order, counters, out
    return [_gather_csr((count, members), *arrays, *steps, size)]


@kernel("l l l l u u u u")
def _gather_labels(y, order, counters, out, order_step, counters_step, out_step, count):
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    if i < count:
        m = uint64(cuda.blockIdx.y)
        place = m * uint64(order_step) + _first_row(counters, counters_step) + uint64(i)
        out[m * uint64(out_step) + uint64(i)] = y[uint64(order[place])]


@twin()
def gather_labels(y, order, counters, out):
    """Copy each member's batch of integer labels."""
    members, count = out.shape
    steps = order.step(0), counters.step(0), out.step(0)
    grid = blocks(count, _THREADS), members
    return [_gather_labels(grid, y, order, counters, out, *steps, count)]


# ---- weights ----------------------------------------------------------------------------------


@kernel("f l l f f u u u u u", threads=_SUMMING)
def _gather_weights(
    weight, order, counters, out, scale, order_step, counters_step, out_step, scale_step, count
):
    m = uint64(cuda.blockIdx.x)
    start = uint64(counters[m * uint64(counters_step) + uint64(2)])
    place, target = m * uint64(order_step) + start, m * uint64(out_step)
    total, i = float32(0), uint32(cuda.threadIdx.x)
    while i < count:
        w = weight[uint64(order[place + uint64(i)])]
        out[target + uint64(i)] = w
        total += w
        i = uint32(i + uint32(_SUMMING))
    total = block_sum(total)
    factor = float32(1) / total if total > float32(0) else float32(0)
    i = uint32(cuda.threadIdx.x)
    if i == uint32(0):
        scale[m * uint64(scale_step)] = factor
    while i < count:  # each thread what it wrote itself
        out[target + uint64(i)] = factor * out[target + uint64(i)]
        i = uint32(i + uint32(_SUMMING))


@twin()
def gather_weights(weight, order, counters, out, scale):
    """Copy a batch of sample weights divided by their sum, and keep one over the sum."""
    members, count = out.shape
    steps = order.step(0), counters.step(0), out.step(0), scale.step(0)
    return [_gather_weights(members, weight, order, counters, out, scale, *steps, count)]


@kernel("f l f u u u u")
def _take_weights(weight, counters, out, weight_step, counters_step, out_step, count):
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    if i < count:
        m = uint64(cuda.blockIdx.y)
        first = uint64(counters[m * uint64(counters_step) + uint64(3)])
        source = m * uint64(weight_step) + first + uint64(i)
        out[m * uint64(out_step) + uint64(i)] = weight[source]


@twin()
def take_weights(weight, counters, out):
    """Copy the weights of a part of the batch from those of the whole."""
    members, count = out.shape
    steps = weight.step(0), counters.step(0), out.step(0)
    grid = blocks(count, _THREADS), members
    return [_take_weights(grid, weight, counters, out, *steps, count)]


# ---- counters and the epoch's loss ------------------------------------------------------------


@kernel("l l u u u u")
def _part_counters(counters, out, counters_step, out_step, first, n):
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    if i < n:
        m, j = uint64(uint32(i // uint32(4))), uint64(uint32(i % uint32(4)))
        value = counters[m * uint64(counters_step) + j]
        out[m * uint64(out_step) + j] = int64(first) if j == uint64(3) else value


@twin()
def part_counters(counters, first, out):
    """out = the counters, for the part of the batch that begins at row `first`."""
    n = 4 * out.shape[0]
    steps = counters.step(0), out.step(0)
    return [_part_counters(blocks(n, _THREADS), counters, out, *steps, first, n)]


@device
def _add_to_pair(pair, at, value):
    """Add a number to one that is kept as the sum of two float32: 46 bits of it or more."""
    high, low = pair[at], pair[at + uint64(1)]
    total = high + value
    other = total - high
    low = low + ((high - (total - other)) + (value - other))
    high = total + low
    finite = high - high == float32(0)
    pair[at] = high if finite else total
    pair[at + uint64(1)] = low - (high - total) if finite else float32(0)


@kernel("f f f d l u u u u u u u", threads=_SUMMING)
def _account(
    each, weights, penalty, totals, counters, each_step, weights_step, penalty_step, totals_step,
    counters_step, batch, count,
):  # fmt: skip
    m = uint64(cuda.blockIdx.x)
    one, two = m * uint64(each_step), m * uint64(weights_step)
    total, i = float32(0), uint32(cuda.threadIdx.x)
    while i < count:
        total += each[one + uint64(i)] * weights[two + uint64(i)]
        i = uint32(i + uint32(_SUMMING))
    total = block_sum(total)
    if uint32(cuda.threadIdx.x) == uint32(0):
        at = m * uint64(counters_step)
        first = counters[at + uint64(3)] + int64(count)
        if first >= int64(batch):
            total += penalty[m * uint64(penalty_step)]
            counters[at] += int64(1)
            counters[at + uint64(1)] += int64(1)
            counters[at + uint64(2)] += int64(batch)
            first = int64(0)
        counters[at + uint64(3)] = first
        _add_to_pair(totals, uint64(2) * m * uint64(totals_step), float32(batch) * total)


@twin()
def account(each, weights, penalty, batch, totals, counters):
    """End a part of a step: add its loss to the epoch's total, move the counters on."""
    arrays = each, weights, penalty, totals, counters
    steps = [a.step(0) for a in arrays]
    return [_account(each.shape[0], *arrays, *steps, batch, each.shape[1])]
