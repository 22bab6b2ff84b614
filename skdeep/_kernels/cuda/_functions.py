"""NumPy's elementwise functions, as scalar functions that kernels call, by name and number type.

`TABLES` has the functions of float32 (``f``), of int64 (``l``), and of uint8 that are 0 or 1
(``b``), as NumPy's loops do: comparisons and tests give a truth value.
"""

import math
from functools import cache
from types import FunctionType

import numpy as np

from skdeep._kernels import scalar
from skdeep._kernels.cuda._numba import (
    SIMULATED,
    device,
    exp,
    expm1,
    float32,
    int64,
    log,
    log1p,
    shared,
    sqrt,
    tanh,
    uint32,
    uint64,
)

if SIMULATED:
    copysign, floor, ceil, trunc, fmod = np.copysign, np.floor, np.ceil, np.trunc, np.fmod
    exp2, log2, log10, sinh, cosh = np.exp2, np.log2, np.log10, np.sinh, np.cosh
    arcsin, arccos, arctan, arctan2 = np.arcsin, np.arccos, np.arctan, np.arctan2
    arcsinh, arccosh, arctanh, hypot = np.arcsinh, np.arccosh, np.arctanh, np.hypot

    def power(x, y):  # of arrays: NumPy takes the root where a single exponent is 1/2
        return np.power(np.atleast_1d(x), np.atleast_1d(y))[0]

else:
    copysign, floor, ceil = math.copysign, math.floor, math.ceil
    trunc, fmod, power, exp2 = math.trunc, math.fmod, math.pow, math.exp2
    log2, log10, sinh, cosh = math.log2, math.log10, math.sinh, math.cosh
    arcsin, arccos, arctan, arctan2 = math.asin, math.acos, math.atan, math.atan2
    arcsinh, arccosh, arctanh, hypot = math.asinh, math.acosh, math.atanh, math.hypot

_logistic, _erf = shared(scalar.logistic), shared(scalar.erf)
_INF = np.float32(np.inf)
_LN2, _LOG2E = np.float32(math.log(2.0)), np.float32(1.0 / math.log(2.0))
_RADIANS, _DEGREES = np.float32(math.pi / 180.0), np.float32(180.0 / math.pi)

# ---- sine and cosine --------------------------------------------------------------------------


@device
def _bits_of_two_over_pi(i):
    """Return 32 bits of 2 / pi, the first after 32 zeros: chosen, as a table costs memory."""
    w = uint32(0xA2F9836E) if i == uint32(1) else uint32(0)
    w = uint32(0x4E441529) if i == uint32(2) else w
    w = uint32(0xFC2757D1) if i == uint32(3) else w
    w = uint32(0xF534DDC0) if i == uint32(4) else w
    w = uint32(0xDB629599) if i == uint32(5) else w
    w = uint32(0x3C439041) if i == uint32(6) else w
    return uint32(0xFE5163AB) if i == uint32(7) else w


@device
def _window(i, shift):
    """Return 32 bits of 2 / pi from bit 32 * i + shift on."""
    pair = (uint64(_bits_of_two_over_pi(i)) << uint64(32)) | uint64(
        _bits_of_two_over_pi(uint32(i + uint32(1)))
    )
    return uint64(uint32((pair << uint64(shift)) >> uint64(32)))


@device
def _quarter_turns(x):
    """Return n and r with abs(x) = (4 k + n) pi / 2 + r, abs(r) <= pi / 4.

    After Payne and Hanek (1983): of the product with 2 / pi only the bits are made that are
    neither whole turns nor beyond float32. libdevice's own reduction keeps a table in memory.
    """
    bits = uint32(float32(x).view(np.int32)) & uint32(0x7FFFFFFF)
    e = uint32(bits >> uint32(23))
    n, r = uint32(0), abs(x)
    if e >= uint32(126):
        m = uint64(uint32(bits & uint32(0x7FFFFF)) | uint32(0x800000))
        at = uint32(e - uint32(120))
        i, shift = uint32(at >> uint32(5)), uint32(at & uint32(31))
        low = m * _window(uint32(i + uint32(2)), shift)
        middle = m * _window(uint32(i + uint32(1)), shift) + (low >> uint64(32))
        high = uint32(m * _window(i, shift) + (middle >> uint64(32)))
        n = uint32(high >> uint32(30))
        fraction = int64(
            (uint64(uint32(high & uint32(0x3FFFFFFF))) << uint64(32)) | uint64(uint32(middle))
        )
        if fraction >= int64(1 << 61):
            n, fraction = uint32(n + uint32(1)), fraction - int64(1 << 62)
        r = float32(fraction) * float32(2.0**-62 * math.pi / 2.0)
    return uint32(n & uint32(3)), r


@device
def _wave(n, r):
    """Return sin(n pi / 2 + r); the polynomials are those of Cephes (Moshier 1989)."""
    z = r * r
    if n & uint32(1):
        q = (float32(2.443315711809948e-5) * z - float32(1.388731625493765e-3)) * z
        y = (q + float32(4.166664568298827e-2)) * z * z - float32(0.5) * z + float32(1)
    else:
        q = (float32(-1.9515295891e-4) * z + float32(8.3321608736e-3)) * z
        y = (q - float32(1.6666654611e-1)) * z * r + r
    return -y if n & uint32(2) else y


@device
def _sin(x):
    n, r = _quarter_turns(x)
    if x == float32(0):
        return x
    y = _wave(n, r)
    y = -y if x < float32(0) else y
    return y if abs(x) < _INF else x - x


@device
def _cos(x):
    n, r = _quarter_turns(x)
    y = _wave(uint32(n + uint32(1)), r)
    return y if abs(x) < _INF else x - x


@device
def _tan(x):
    n, r = _quarter_turns(x)
    if x == float32(0):
        return x
    y = _wave(n, r) / _wave(uint32(n + uint32(1)), r)
    y = -y if x < float32(0) else y
    return y if abs(x) < _INF else x - x


# ---- other functions of float32 ---------------------------------------------------------------


@device
def _rint(x):
    whole = float32(8388608)  # from here on every float32 is whole; adding it rounds to even
    a = abs(x)
    return copysign((a + whole) - whole, x) if a < whole else x


@device
def _cbrt(x):
    a = abs(x)
    y = power(a, float32(1 / 3))
    if a > float32(0) and a < _INF:
        y = y - (y - a / (y * y)) * float32(1 / 3)
    return copysign(y, x)


@device
def _remainder(x, y):
    r = fmod(x, y)
    if r == float32(0):
        return copysign(float32(0), y)
    return r + y if (r < float32(0)) != (y < float32(0)) else r


@device
def _floor_divide(x, y):
    if y == float32(0):
        return x / y
    r = fmod(x, y)
    q = (x - r) / y
    if r != float32(0) and (r < float32(0)) != (y < float32(0)):
        q = q - float32(1)
    if q == float32(0):
        return copysign(float32(0), x / y)
    whole = floor(q)
    return whole + float32(1) if q - whole > float32(0.5) else whole


@device
def _logaddexp(x, y):
    if x == y:
        return x + _LN2
    return (x if x > y else y) + log1p(exp(-abs(x - y)))


@device
def _logaddexp2(x, y):
    if x == y:
        return x + float32(1)
    return (x if x > y else y) + _LOG2E * log1p(exp2(-abs(x - y)))


@device
def _heaviside(x, y):
    if x == float32(0):
        return y
    return x if x != x else float32(x > float32(0))


@device
def _sign(x):
    return x if x != x else float32(x > float32(0)) - float32(x < float32(0))


@device
def _isclose(x, y, rtol, atol, equal_nan):
    if abs(y) < _INF:
        return abs(x - y) <= atol + rtol * abs(y)
    return x == y or (x != x and y != y and equal_nan != float32(0))


@device
def _tie_share(x, chosen, y):
    share = float32(1) if x == chosen else float32(0)
    return share * float32(0.5) if x == y else share


@device
def _round_up(x, scale):
    """Return x rounded to decimals, scale being ten to that power."""
    return _rint(x * scale) / scale


@device
def _round_down(x, scale):
    """Return x rounded to tens, hundreds ..., scale being one of them."""
    return _rint(x / scale) * scale


# ---- the tables -------------------------------------------------------------------------------

_EVERY = {
    "copy": lambda x: x,
    "greater": lambda x, y: x > y,
    "less": lambda x, y: x < y,
    "greater_equal": lambda x, y: x >= y,
    "less_equal": lambda x, y: x <= y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "where": lambda c, x, y: x if c != 0 else y,
    # x != x holds for NaN alone.
    "maximum": lambda x, y: x if x >= y or x != x else y,
    "minimum": lambda x, y: x if x <= y or x != x else y,
    "fmax": lambda x, y: x if x >= y or y != y else y,
    "fmin": lambda x, y: x if x <= y or y != y else y,
    "isnan": lambda x: x != x,
    "positive": lambda x: x,
    "conjugate": lambda x: x,
}

_FLOAT = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "negative": lambda x: -x,
    "reciprocal": lambda x: float32(1) / x,
    "square": lambda x: x * x,
    "sqrt": lambda x: sqrt(x),
    "cbrt": _cbrt,
    "absolute": lambda x: abs(x),
    "fabs": lambda x: abs(x),
    "remainder": _remainder,
    "fmod": lambda x, y: fmod(x, y),
    "floor_divide": _floor_divide,
    "copysign": lambda x, y: copysign(x, y),
    "heaviside": _heaviside,
    "power": lambda x, y: power(x, y),
    "exp": lambda x: exp(x),
    "exp2": lambda x: exp2(x),
    "expm1": lambda x: expm1(x),
    "log": lambda x: log(x),
    "log2": lambda x: log2(x),
    "log10": lambda x: log10(x),
    "log1p": lambda x: log1p(x),
    "logaddexp": _logaddexp,
    "logaddexp2": _logaddexp2,
    "sin": _sin,
    "cos": _cos,
    "tan": _tan,
    "arcsin": lambda x: arcsin(x),
    "arccos": lambda x: arccos(x),
    "arctan": lambda x: arctan(x),
    "arctan2": lambda x, y: arctan2(x, y),
    "sinh": lambda x: sinh(x),
    "cosh": lambda x: cosh(x),
    "tanh": lambda x: tanh(x),
    "arcsinh": lambda x: arcsinh(x),
    "arccosh": lambda x: arccosh(x),
    "arctanh": lambda x: arctanh(x),
    "deg2rad": lambda x: x * _RADIANS,
    "radians": lambda x: x * _RADIANS,
    "rad2deg": lambda x: x * _DEGREES,
    "degrees": lambda x: x * _DEGREES,
    "hypot": lambda x, y: hypot(x, y),
    "logical_and": lambda x, y: x != float32(0) and y != float32(0),
    "logical_or": lambda x, y: x != float32(0) or y != float32(0),
    "logical_xor": lambda x, y: (x != float32(0)) != (y != float32(0)),
    "logical_not": lambda x: x == float32(0),
    "isfinite": lambda x: abs(x) < _INF,
    "isinf": lambda x: abs(x) == _INF,
    "isposinf": lambda x: x == _INF,
    "isneginf": lambda x: x == -_INF,
    "signbit": lambda x: copysign(float32(1), x) < float32(0),
    "floor": lambda x: floor(x),
    "ceil": lambda x: ceil(x),
    "trunc": lambda x: trunc(x),
    "rint": _rint,
    "round_up": _round_up,
    "round_down": _round_down,
    "sign": _sign,
    "tie_share": _tie_share,
    "isclose": _isclose,
    "sigmoid": lambda x: _logistic(x, float32),
    "erf": lambda x: _erf(x),
    # How another type becomes a truth value.
    "truth": lambda x: x != float32(0),
}

_INTEGER = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "negative": lambda x: -x,
    "square": lambda x: x * x,
    "absolute": lambda x: abs(x),
    # NumPy's quotient and remainder by zero are zero.
    "floor_divide": lambda x, y: x // y if y != 0 else y,
    "remainder": lambda x, y: x % y if y != 0 else y,
    "sign": lambda x: int64(x > 0) - int64(x < 0),
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "invert": lambda x: ~x,
    "floor": lambda x: x,
    "ceil": lambda x: x,
    "trunc": lambda x: x,
    "rint": lambda x: x,
}

_BOOLEAN = {
    "add": lambda x, y: x | y,
    "multiply": lambda x, y: x & y,
    "absolute": lambda x: x,
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "invert": lambda x: x ^ 1,
    "floor": lambda x: x,
    "ceil": lambda x: x,
    "trunc": lambda x: x,
}

#: Of int64 and of truth values alike.
_WHOLE = {
    "logical_and": lambda x, y: x != 0 and y != 0,
    "logical_or": lambda x, y: x != 0 or y != 0,
    "logical_xor": lambda x, y: (x != 0) != (y != 0),
    "logical_not": lambda x: x == 0,
    "isfinite": lambda x: x == x,
    "isinf": lambda x: x != x,
    "truth": lambda x: x != 0,
}

TABLES = {
    "f": _EVERY | _FLOAT,
    "l": _EVERY | _WHOLE | _INTEGER,
    "b": _EVERY | _WHOLE | _BOOLEAN,
}


@cache
def function(family, name):
    """Return the device function of a name in the table of a family."""
    f = TABLES[family][name]
    return device(f) if isinstance(f, FunctionType) else f
