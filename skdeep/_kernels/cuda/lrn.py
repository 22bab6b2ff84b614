"""Local response normalisation over neighbouring channels, and the way back.

A thread has an element of x (M, rows, C). What is summed over the neighbours is made once for
each element and shared by the block, which takes it with what stands before and behind it.
Bytes that move for an element: 12 forward, 16 backward.
"""

from skdeep._kernels.cuda._numba import cuda, device, exp, float32, kernel, log, sqrt, uint32
from skdeep._kernels.cuda.array import check_span
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256
# Values that a block shares at a time: its own, and 128 before and behind.
_STAGE = 512


@device
def _power(s, beta):
    """Return s to the power -beta; beta = 3/4 and 1/2 by square roots, which are exact."""
    if beta == float32(0.75):
        root = sqrt(s)
        return float32(1) / (root * sqrt(root))
    if beta == float32(0.5):
        return float32(1) / sqrt(s)
    return exp(-beta * log(s))


@device
def _sum_near(stage, first, stop, low, high, factor, total):
    """Add factor times the values staged, of elements first to stop, that are in low to high."""
    j = low if low > first else first
    end = high if high < stop else stop
    while j < end:
        total += factor * stage[uint32(j - first)]
        j = uint32(j + uint32(1))
    return total


@device
def _near(i, channels, half, count):
    """Return from which element to which an element's neighbours are, itself among them."""
    row = uint32(i // channels * channels)
    low = uint32(i - half) if uint32(i - row) > half else row
    high = uint32(row + channels)
    if uint32(high - i) > uint32(half + uint32(1)):
        high = uint32(i + half + uint32(1))
    if i >= count:
        return count, count
    return low, high


@device
def _span(channels, half, count):
    """Return from which element to which the neighbours of a block's elements are."""
    start = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS))
    last = uint32(count - uint32(1))
    if uint32(last - start) >= uint32(_THREADS):
        last = uint32(start + uint32(_THREADS - 1))
    return _near(start, channels, half, count)[0], _near(last, channels, half, count)[1]


@kernel("f f f f u u u u u u")
def _respond(x, settings, y, scale, count, channels, half, x_step, y_step, scale_step):
    """y = x * scale ** -beta."""
    stage = cuda.shared.array(_STAGE, float32, 16)
    t, m = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + t)
    bias, alpha, beta = settings[uint32(0)], settings[uint32(1)], settings[uint32(2)]
    low, high = _near(i, channels, half, count)
    first, end = _span(channels, half, count)
    s = bias
    while first < end:
        stop = uint32(first + uint32(_STAGE)) if uint32(end - first) > uint32(_STAGE) else end
        j = uint32(first + t)
        while j < stop:
            a = x[uint32(m * x_step + j)]
            stage[uint32(j - first)] = a * a
            j = uint32(j + uint32(_THREADS))
        cuda.syncthreads()
        s = _sum_near(stage, first, stop, low, high, alpha, s)
        cuda.syncthreads()
        first = stop
    if i < count:
        scale[uint32(m * scale_step + i)] = s
        y[uint32(m * y_step + i)] = x[uint32(m * x_step + i)] * _power(s, beta)


@kernel("f f f f f u u u u u u u")
def _respond_back(
    ct, x, scale, settings, dx, count, channels, half, ct_step, x_step, scale_step, dx_step
):
    """The cotangent of x: ct s^-b - 2 a b x (sum of ct x s^(-b - 1) over the neighbours)."""
    stage = cuda.shared.array(_STAGE, float32, 16)
    shares = cuda.shared.array(_STAGE, float32, 16)
    t, m = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + t)
    alpha, beta = settings[uint32(1)], settings[uint32(2)]
    factor = float32(-2) * alpha * beta
    low, high = _near(i, channels, half, count)
    first, end = _span(channels, half, count)
    total, own = float32(0), float32(0)
    while first < end:
        stop = uint32(first + uint32(_STAGE)) if uint32(end - first) > uint32(_STAGE) else end
        j = uint32(first + t)
        while j < stop:
            s = scale[uint32(m * scale_step + j)]
            share = ct[uint32(m * ct_step + j)] * _power(s, beta)
            shares[uint32(j - first)] = share
            stage[uint32(j - first)] = share * x[uint32(m * x_step + j)] / s
            j = uint32(j + uint32(_THREADS))
        cuda.syncthreads()
        total = _sum_near(stage, first, stop, low, high, factor, total)
        if first <= i and i < stop:
            own = shares[uint32(i - first)]
        cuda.syncthreads()
        first = stop
    if i < count:
        dx[uint32(m * dx_step + i)] = own + x[uint32(m * x_step + i)] * total


def _launch(function, half, x, *arrays):
    """Return the launches of a kernel on arrays (M, rows, C), settings among them."""
    if not x.size:
        return []
    check_span(*arrays)
    members, rows, channels = x.shape
    count, half = rows * channels, min(half, channels - 1)
    steps = [a.step(0) for a in arrays if a.ndim == 3]
    grid = blocks(count, _THREADS), members
    return [function(grid, *arrays, count, channels, half, *steps)]


@twin()
def local_response_norm(x, settings, half, y, scale, scratch):
    """y = x * scale ** -beta, scale = bias + alpha * (sum of squares over the neighbours)."""
    return _launch(_respond, half, x, x, settings, y, scale)


@twin()
def local_response_norm_pullback(ct, x, scale, settings, half, dx, scratch):
    """The cotangent of x."""
    return _launch(_respond_back, half, x, ct, x, scale, settings, dx)


def catalogue():
    """Return the kernels."""
    return [_respond, _respond_back]
