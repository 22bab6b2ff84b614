"""The table of augmentation's draws: reading and filling it.

The table is float64 on the CPU and pairs of float32 here. Whole numbers among the draws are exact:
a draw is computed in 64-bit integers that count units of 2^-48, which hold numbers up to 2^15.
"""

import math

from skdeep._kernels import philox as generator
from skdeep._kernels.cpu.augment import APPLIED, DRAWS, SHARE, SHIFT_X, SITE, ZOOM
from skdeep._kernels.cuda._numba import (
    cuda,
    device,
    expm1,
    float32,
    int32,
    int64,
    kernel,
    log,
    log1p,
    shared,
    sqrt,
    uint32,
    uint64,
)
from skdeep._kernels.cuda.program import blocks

_THREADS = 256
#: The counters of a sample's draws, of four words each: one more word than columns.
_COUNTERS = -(-(DRAWS + 1) // 4)
_TURN = 2.0 * math.pi

philox, low, high = shared(generator.philox), shared(generator.low), shared(generator.high)


@device
def drawn_number(drawn, at, column):
    """Return a draw of the sample whose row begins at `at`, rounded to float32."""
    return drawn[uint64(2) * (at + uint64(column))]


@device
def less_one(drawn, at, column):
    """Return 1 minus a draw."""
    i = uint64(2) * (at + uint64(column))
    return (float32(1) - drawn[i]) - drawn[i + uint64(1)]


@device
def row_of(m, b, member, step):
    """Return where something begins of a member's sample."""
    return uint64(m) * uint64(member) + uint64(b) * uint64(step)


@device
def floor(x):
    whole = float32(int32(x))
    return whole - float32(1) if whole > x else whole


@device
def sine_and_cosine(turns):
    """Return sine and cosine of an angle in turns, exact at quarters of one."""
    quarter = floor(turns * float32(4) + float32(0.5))
    t = (turns - quarter * float32(0.25)) * float32(_TURN)
    t2 = t * t
    s = float32(-1.9515295891e-4) * t2 + float32(8.3321608736e-3)
    s = t + t * t2 * (s * t2 - float32(1.6666654611e-1))
    c = float32(2.443315711809948e-5) * t2 - float32(1.388731625493765e-3)
    c = (c * t2 + float32(4.166664568298827e-2)) * t2 * t2 + (float32(1) - float32(0.5) * t2)
    turn = int32(quarter) & int32(3)
    if turn == int32(1):
        s, c = c, -s
    elif turn == int32(2):
        s, c = -s, -c
    elif turn == int32(3):
        s, c = -c, s
    return s, c


# ---- draws ------------------------------------------------------------------------------------


@device
def _units(settings, i):
    """Return a number in units of 2^-48."""
    i = uint64(2) * uint64(i)
    unit = float32(2.0**48)
    return int64(settings[i] * unit) + int64(settings[i + uint64(1)] * unit)


@device
def _symmetric_beta(alpha, first, second):
    """Return the Beta(alpha, alpha) draw of two words, within 1e-5; see the CPU's kernel."""
    if first < uint32(0x80000000):
        logarithm = log((float32(first) + float32(0.5)) * float32(2.0**-32))
    else:
        rest = uint32(uint32(0xFFFFFFFF) - first)
        logarithm = log1p((float32(rest) + float32(0.5)) * float32(-(2.0**-32)))
    # The cosine as the sine of what is left to a quarter, precise where it is near zero.
    fold = uint32(uint32(0xFFFFFFFF) - second) if second >= uint32(0x80000000) else second
    left = float32(int32(2**30 - 1) - int32(fold)) + float32(0.5)
    angle = sine_and_cosine(left * float32(2.0**-32))[0]
    r = expm1(-logarithm / alpha) * (angle * angle)
    small = float32(0)
    if r < float32(1e30):
        root = sqrt(r / (float32(1) + r))
        small = float32(0.5) / ((float32(1) + r) * (float32(1) + root))
    return small if angle < float32(0) else float32(1) - small


@device
def _words(block, index, step, key):
    return philox(
        uint64(uint32(block + uint32(index))),
        uint64(SITE),
        low(step),
        high(step),
        low(key),
        high(key),
    )


@kernel("l l d d u u u u u")
def _draw(
    seeds, counters, settings, drawn, seeds_step, counters_step, settings_step, drawn_member, n
):
    # A thread for every number; `n` samples, whose rows have no gaps.
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    b, j = uint32(i // uint32(DRAWS)), uint32(i % uint32(DRAWS))
    if b >= n:
        return
    m = uint64(cuda.blockIdx.y)
    counter = m * uint64(counters_step)
    step, key = counters[counter], seeds[m * uint64(seeds_step)]
    place = uint32(uint32(counters[counter + uint64(3)]) + b)
    block = uint32(place * uint32(_COUNTERS))
    w0, w1, w2, w3 = _words(block, j // uint32(4), step, key)
    k = j % uint32(4)
    word = w0 if k == uint32(0) else (w1 if k == uint32(1) else (w2 if k == uint32(2) else w3))
    at = uint64(j) * uint64(settings_step)
    out = uint64(2) * (m * uint64(drawn_member) + uint64(i))
    if j == uint32(SHARE):
        alpha, share = settings[uint64(2) * at], float32(1)
        if alpha > float32(0):
            share = _symmetric_beta(alpha, w0, w1)
        drawn[out] = share
        drawn[out + uint64(1)] = float32(0)
        return
    applied = True
    if j <= uint32(SHIFT_X):
        chance = _words(block, 0, step, key)[0]
        applied = int64(chance) * int64(65536) < _units(settings, 0)
    width = _units(settings, at + uint64(1))
    part = (uint64(width) & uint64(0xFFFFFFFF)) * uint64(word)
    value = _units(settings, at) + (width >> int64(32)) * int64(word)
    value += int64(part >> uint64(32))
    if settings[uint64(2) * (at + uint64(2))] != float32(0):
        value = (value >> int64(48)) * int64(2**48)
    if j == uint32(APPLIED):
        value = int64(2**48)
    if not applied:
        value = int64(2**48) if j == uint32(ZOOM) else int64(0)
    top = float32(value)
    drawn[out] = top * float32(2.0**-48)
    drawn[out + uint64(1)] = float32(value - int64(top)) * float32(2.0**-48)


def draw(seeds, counters, settings, drawn):
    """Draw for every sample."""
    members, n = drawn.shape[:2]
    steps = seeds.step(0), counters.step(0), settings.step(0), drawn.step(0)
    grid = blocks(n * DRAWS, _THREADS), members
    return [_draw(grid, seeds, counters, settings, drawn, *steps, n)]


KERNELS = [_draw]
