"""Draws inside a step: dropout, noise and random slopes, recomputed wherever they are needed.

Arrays are (M, n): a member's elements in C order, as they count in its stream. `seed` (M,) and
`counters` (M, 4), whose first entry is the step, choose the stream together with `site`, the
number of the place in the net that draws (see `skdeep._kernels.philox`). Where a step's batch is
computed in parts, the last entry is the place in it of the part's first sample, and `per_sample`
the elements of a sample (0 where they are not samples): each draws what it would in the whole.
"""

import numpy as np

from skdeep._kernels.cpu._numba import as_c, kernel, njit_inline
from skdeep._kernels.philox import GROUP, LANES, high, low, normal, philox, uniform

# Elements that are drawn at a time: their words stay in the first-level cache.
_CHUNK = 16 * GROUP


@njit_inline
def draw_words(seed, step, site, start, stop, words):
    """Put the words of elements [start, stop) into the front of `words`.

    `start` is a multiple of 64, and `words` holds a multiple of 64 that reaches to `stop`.
    """
    k0, k1 = low(seed), high(seed)
    c1, c2, c3 = np.uint64(site), low(step), high(step)
    for g in range((stop - start + GROUP - 1) // GROUP):
        block, i0 = start // GROUP * LANES + g * LANES, g * GROUP
        for lane in range(LANES):
            w0, w1, w2, w3 = philox(np.uint64(block + lane), c1, c2, c3, k0, k1)
            i = i0 + lane
            words[i] = w0
            words[i + LANES] = w1
            words[i + 2 * LANES] = w2
            words[i + 3 * LANES] = w3


@njit_inline
def draw_part(seed, step, site, start, stop, words):
    """Draw the words of elements [start, stop), any numbers, and return where they begin."""
    skip = start % GROUP
    draw_words(seed, step, site, start - skip, stop, words)
    return words[skip:]


@njit_inline
def draw_normals(seed, step, site, start, stop, words, normals):
    """Put standard normal draws of elements [start, stop) into the front of `normals`."""
    drawn = draw_part(seed, step, site, start, stop, words)
    for i in range(stop - start):
        normals[i] = normal(drawn[i])


@kernel("f2 f1 l1 l2 i i f2")
def dropout(x, rate, seed, counters, site, per_sample, out):
    """Inverted dropout: out = x / (1 - rate) where the draw keeps an element, 0 elsewhere."""
    T = out.dtype.type
    zero, one = T(0), T(1)
    n = out.shape[1]
    words = np.empty(_CHUNK + GROUP, np.uint32)
    for m in range(out.shape[0]):
        # 24 bits, so that a rate in float32 and in float64 drops the same elements.
        share = min(np.rint(np.float64(rate[m]) * 2.0**24), 2.0**24 - 1)
        cut = np.uint32(np.uint32(share) << np.uint32(8))
        scale = one / (one - rate[m]) if rate[m] < one else zero
        first = counters[m, 3] * per_sample
        for start in range(0, n, _CHUNK):
            stop = min(start + _CHUNK, n)
            drawn = draw_part(seed[m], counters[m, 0], site, first + start, first + stop, words)
            a, o = as_c(x[m])[start:stop], as_c(out[m])[start:stop]
            for i in range(o.size):
                o[i] = a[i] * scale if drawn[i] >= cut else zero


@kernel("f2 f1 l1 l2 i i f2")
def gaussian_noise(x, std, seed, counters, site, per_sample, out):
    """out = x + std * z with standard normal z."""
    T = out.dtype.type
    n = out.shape[1]
    words, normals = np.empty(_CHUNK + GROUP, np.uint32), np.empty(_CHUNK, np.float32)
    for m in range(out.shape[0]):
        s, first = std[m], counters[m, 3] * per_sample
        for start in range(0, n, _CHUNK):
            stop = min(start + _CHUNK, n)
            at = first + start, first + stop
            draw_normals(seed[m], counters[m, 0], site, at[0], at[1], words, normals)
            a, o = as_c(x[m])[start:stop], as_c(out[m])[start:stop]
            for i in range(o.size):
                o[i] = a[i] + s * T(normals[i])


@kernel("f2 f2 f2 l1 l2 i i f2")
def random_slope(v, x, bounds, seed, counters, site, per_sample, out):
    """out = v where x > 0, elsewhere v times a slope drawn uniformly from [lower, upper)."""
    T = out.dtype.type
    n = out.shape[1]
    words = np.empty(_CHUNK + GROUP, np.uint32)
    for m in range(out.shape[0]):
        lower, width = bounds[m, 0], bounds[m, 1] - bounds[m, 0]
        first = counters[m, 3] * per_sample
        for start in range(0, n, _CHUNK):
            stop = min(start + _CHUNK, n)
            drawn = draw_part(seed[m], counters[m, 0], site, first + start, first + stop, words)
            a, o = as_c(v[m])[start:stop], as_c(out[m])[start:stop]
            gate = as_c(x[m])[start:stop]
            for i in range(o.size):
                slope = lower + width * T(uniform(drawn[i]))
                o[i] = a[i] if gate[i] > 0 else a[i] * slope
