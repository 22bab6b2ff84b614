"""Philox4x32-10, the counter-based generator behind every draw inside a training step.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11. A draw is a
pure function of its counter and key, so it is the same on every device, for any number of
threads, and for a net that trains alone or among others; nothing needs to be stored.

The counter is (block, site, low and high half of the step), the key the member's 64-bit seed.
One counter gives four words. Element ``e`` takes word ``(e // 16) % 4`` of block
``16 * (e // 64) + e % 16``, so that 16 neighbouring counters fill 64 elements with four
contiguous runs.
"""

import numpy as np
from numba.extending import register_jitable

_OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}, "forceinline": True}

#: Counters that are drawn together, and the elements that they fill.
LANES, GROUP = 16, 64

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_F = np.float32
_U24, _U31 = _F(2.0**-24), _F(2.0**-31)


@register_jitable(**_OPTIONS)
def low(n):
    """Return the low 32 bits of an int64, in uint64."""
    return np.uint64(n) & _LOW


@register_jitable(**_OPTIONS)
def high(n):
    """Return the high 32 bits of an int64, in uint64."""
    return np.uint64(n) >> _32


@register_jitable(**_OPTIONS)
def philox(c0, c1, c2, c3, k0, k1):
    """Return the four words (uint32) of a counter and a key, given as 32-bit values in uint64."""
    for _ in range(10):
        # Words stay in 64-bit lanes and are cut where it matters, before a product: that is
        # what one vector multiplication of 32-bit words needs.
        p0, p1 = _M0 * (c0 & _LOW), _M1 * (c2 & _LOW)
        c0, c2 = (p1 >> _32) ^ c1 ^ k0, (p0 >> _32) ^ c3 ^ k1
        c1, c3 = p1, p0
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return np.uint32(c0 & _LOW), np.uint32(c1 & _LOW), np.uint32(c2 & _LOW), np.uint32(c3 & _LOW)


@register_jitable(**_OPTIONS)
def uniform(word):
    """Return a float32 on the grid of 2^-24 in [0, 1)."""
    return np.float32(np.int32(word >> np.uint32(8))) * _U24


@register_jitable(**_OPTIONS)
def _log(y):
    """Return the logarithm of a normal float32 in (0, 1], within 1e-7 plus its rounding."""
    bits = np.float32(y).view(np.int32)
    # Numba widens the results of integer arithmetic; 32-bit lanes keep the vectors full.
    exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    r = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32) - _F(1.0)
    t = r - _F(0.0606601718)
    q = _F(-0.10102132)
    q = q * t + _F(0.121303692)
    q = q * t - _F(0.121378817)
    q = q * t + _F(0.154431686)
    q = q * t - _F(0.207066298)
    q = q * t + _F(0.291972935)
    q = q * t - _F(0.462151885)
    q = q * t + _F(0.970842838)
    return q * r + np.float32(exponent) * _F(0.6931471805599453)


@register_jitable(**_OPTIONS)
def normal(word):
    """Return the standard normal quantile of a word, a float32 within 1e-6 of its value.

    The word names the probability (word + 1/2) / 2^32, so |z| reaches 6.2. After M. Giles,
    "Approximating the erfinv function", GPU Computing Gems 2 (2011): z / (1 - 2p) is smooth in
    w = -log(4p(1 - p)), and p and 1 - 2p are both taken from the integer, exact in the tails
    and in the middle. Polynomials of degree 7, fitted up to the largest w.
    """
    signed = np.uint32(word).view(np.int32)
    lower = signed >= np.int32(0)
    n = signed if lower else np.int32(~signed)  # the distance from the nearer end
    p2 = (_F(n) + _F(0.5)) * _U31
    x = (_F(np.int32(np.int32(0x7FFFFFFF) - n)) + _F(0.5)) * _U31
    w = -_log(p2 * (_F(2.0) - p2))
    if w < _F(5.0):
        t = w - _F(2.5)
        q = _F(4.46379289e-07)
        q = q * t - _F(4.50551124e-06)
        q = q * t - _F(5.79013658e-06)
        q = q * t + _F(0.0003073595)
        q = q * t - _F(0.00177431665)
        q = q * t - _F(0.00590612181)
        q = q * t + _F(0.348803639)
        q = q * t + _F(2.12331319)
    else:
        t = np.sqrt(w) - _F(3.43913287)
        q = _F(-0.00023871247)
        q = q * t + _F(0.00090188405)
        q = q * t - _F(0.00140766555)
        q = q * t + _F(0.00178988348)
        q = q * t - _F(0.00323806703)
        q = q * t + _F(0.00522432197)
        q = q * t + _F(1.42402494)
        q = q * t + _F(4.63039255)
    z = q * x
    return -z if lower else z
