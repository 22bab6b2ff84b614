"""Elementwise operations: NumPy's ufuncs with their local derivatives."""

import math
from functools import lru_cache, partial

import numpy as np

from skdeep.autodiff._trace import REGISTRY, Primitive, Tracer, ndim, promoted, shape, total
from skdeep.autodiff.ops._implements import as_array, checked, implements, name_of
from skdeep.autodiff.ops.shape import broadcast_to, match, reshape, sum_to

#: A local derivative that is one everywhere.
ONE = object()
#: A local derivative that is zero everywhere.
ZERO = object()
#: ufunc -> its primitive.
UFUNCS = {}


def _lower_ufunc(ufunc):
    def lower(args, outs):
        if ufunc is np.add and _plain(args, outs):
            from skdeep._kernels.cpu.elementwise import add

            return add[outs[0].dtype], tuple(a.reshape(-1) for a in (*args, outs[0]))
        return partial(ufunc, out=outs[0]), args  # NumPy deprecates maximum(x, y, out)

    return lower


def _plain(args, outs):
    """Whether the arguments are contiguous arrays of the output's shape and floating dtype."""
    o = outs[0]
    return o.dtype in (np.float32, np.float64) and all(
        isinstance(a, np.ndarray)
        and a.dtype == o.dtype
        and a.shape == o.shape
        and a.flags.c_contiguous
        for a in (*args, o)
    )


def broadcast_shape(*args):
    """Return the shape that the arguments broadcast to."""
    shapes = {shape(a) for a in args}
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


@lru_cache(maxsize=4096)
def _resolve(ufunc, kinds):
    return ufunc.resolve_dtypes((*kinds, None))[-1]


def _result_dtype(ufunc, *args):
    kinds = [np.dtype(bool) if type(x) is bool else getattr(x, "dtype", type(x)) for x in args]
    return _resolve(ufunc, tuple(kinds))


def times(t, d):
    """Return t * d in C order, as a primitive would, so that eager and replayed bits agree."""
    if type(t) is Tracer or type(d) is Tracer:
        return t * d
    return np.multiply(t, d, order="C")


class _Ufunc(Primitive):
    """A primitive that is a ufunc, which finds its own shape and dtype when it runs at once."""

    def __init__(self, ufunc):
        super().__init__(
            ufunc.__name__,
            shape=broadcast_shape,
            dtype=partial(_result_dtype, ufunc),
            lower=_lower_ufunc(ufunc),
            inplace=True,
        )
        self.ufunc = ufunc

    def evaluate(self, args, kw, execute=True):
        if not execute:
            return super().evaluate(args, kw, execute)
        out = np.asarray(self.ufunc(*args, order="C"))
        return out, [out]


def elementwise(ufunc, *partials):
    """Register a ufunc as a primitive.

    ``partials[i](ans, *args)`` is the local derivative by argument i, written in NumPy functions
    (so that it can be differentiated again); `ONE` or `ZERO` where it is that; none at all for a
    function whose derivative is zero or meaningless (comparisons).
    """
    p = _Ufunc(ufunc)

    def scaled(t, d, args):
        return t if d is ONE else times(t, d(*args))

    def vjp(ct, ans, *a):
        return [
            None
            if d is ZERO
            else lambda d=d, x=x: match(sum_to(scaled(ct, d, (ans, *a)), shape(x)), x)
            for d, x in zip(partials, a, strict=True)
        ]

    def jvp(tangents, ans, *a):
        terms = [
            scaled(t, d, (ans, *a))
            for t, d in zip(tangents, partials, strict=True)
            if t is not None and d is not ZERO
        ]
        if not terms:
            return np.zeros(shape(ans), ans.dtype)
        return match(broadcast_to(total(terms), shape(ans)), ans)

    if partials:
        p.rules(vjp, jvp)
    return _register_ufunc(ufunc, p)


def _register_ufunc(ufunc, p):
    def on_arrays(*args):
        return p(*[np.asarray(a) if isinstance(a, list | tuple) else a for a in args])

    def outer(x, y):
        return on_arrays(reshape(as_array(x), shape(x) + (1,) * ndim(y)), y)

    UFUNCS[ufunc] = p
    REGISTRY[ufunc] = checked(on_arrays, name_of(ufunc))
    if ufunc.nin == 2:
        REGISTRY[ufunc, "outer"] = checked(outer, name_of((ufunc, "outer")))
    return p


def _weak(f, x):
    """Apply a ufunc to an array or tracer, or to a Python number, which stays one."""
    return float(f(x)) if isinstance(x, int | float) else f(x)


# ---- arithmetic -------------------------------------------------------------------------------

add = elementwise(np.add, ONE, ONE)
subtract = elementwise(np.subtract, ONE, lambda r, x, y: -1.0)
multiply = elementwise(np.multiply, lambda r, x, y: y, lambda r, x, y: x)
divide = elementwise(np.true_divide, lambda r, x, y: 1.0 / y, lambda r, x, y: -r / y)
elementwise(np.negative, lambda r, x: -1.0)
elementwise(np.positive, ONE)
elementwise(np.conjugate, ONE)
elementwise(np.reciprocal, lambda r, x: -r * r)
elementwise(np.square, lambda r, x: 2.0 * x)
elementwise(np.sqrt, lambda r, x: 0.5 / r)
elementwise(np.cbrt, lambda r, x: 1.0 / (3.0 * r * r))
# The slope of |x| at 0 is 0, the middle of its subgradients.
elementwise(np.absolute, lambda r, x: np.sign(x))
elementwise(np.fabs, lambda r, x: np.sign(x))
elementwise(np.remainder, ONE, lambda r, x, y: -np.floor_divide(x, y))
elementwise(np.fmod, ONE, lambda r, x, y: -np.trunc(x / y))
elementwise(np.copysign, lambda r, x, y: np.sign(x) * _weak(partial(np.copysign, 1.0), y), ZERO)
elementwise(np.heaviside, ZERO, lambda r, x, y: np.equal(x, 0))
# y - (y != 0) is y - 1, and 0 where y is 0: x**0 has the slope 0 also at x = 0.
power = elementwise(
    np.power,
    lambda r, x, y: y * x ** (y - (y != 0)),
    # x + (x == 0) is 1 where x is 0: 0**y has the slope 0 in y.
    lambda r, x, y: r * _weak(np.log, x + (x == 0)),
)

# ---- exponentials and logarithms --------------------------------------------------------------

_LN2, _LN10 = math.log(2.0), math.log(10.0)

elementwise(np.exp, lambda r, x: r)
elementwise(np.exp2, lambda r, x: r * _LN2)
elementwise(np.expm1, lambda r, x: r + 1.0)
elementwise(np.log, lambda r, x: 1.0 / x)
elementwise(np.log2, lambda r, x: (1.0 / _LN2) / x)
elementwise(np.log10, lambda r, x: (1.0 / _LN10) / x)
elementwise(np.log1p, lambda r, x: 1.0 / (1.0 + x))
elementwise(np.logaddexp, lambda r, x, y: np.exp(x - r), lambda r, x, y: np.exp(y - r))
elementwise(np.logaddexp2, lambda r, x, y: np.exp2(x - r), lambda r, x, y: np.exp2(y - r))

# ---- trigonometry -----------------------------------------------------------------------------


def _arctan2_slope(sign):
    return lambda r, x, y: sign * (y if sign > 0 else x) / (x * x + y * y)


elementwise(np.sin, lambda r, x: np.cos(x))
elementwise(np.cos, lambda r, x: -np.sin(x))
elementwise(np.tan, lambda r, x: 1.0 + r * r)
elementwise(np.arcsin, lambda r, x: 1.0 / np.sqrt(1.0 - x * x))
elementwise(np.arccos, lambda r, x: -1.0 / np.sqrt(1.0 - x * x))
elementwise(np.arctan, lambda r, x: 1.0 / (1.0 + x * x))
elementwise(np.arctan2, _arctan2_slope(1.0), _arctan2_slope(-1.0))
elementwise(np.sinh, lambda r, x: np.cosh(x))
elementwise(np.cosh, lambda r, x: np.sinh(x))
elementwise(np.tanh, lambda r, x: 1.0 - r * r)
elementwise(np.arcsinh, lambda r, x: 1.0 / np.sqrt(x * x + 1.0))
elementwise(np.arccosh, lambda r, x: 1.0 / (np.sqrt(x - 1.0) * np.sqrt(x + 1.0)))
elementwise(np.arctanh, lambda r, x: 1.0 / ((1.0 - x) * (1.0 + x)))
for _ufunc in (np.deg2rad, np.radians):
    elementwise(_ufunc, lambda r, x: math.pi / 180.0)
for _ufunc in (np.rad2deg, np.degrees):
    elementwise(_ufunc, lambda r, x: 180.0 / math.pi)
# r + (r == 0): the slope of the distance at 0 is 0.
elementwise(
    np.hypot, lambda r, x, y: x / (r + np.equal(r, 0)), lambda r, x, y: y / (r + np.equal(r, 0))
)

# ---- the larger and the smaller ---------------------------------------------------------------


def _share(x, ans, y, out):
    np.equal(x, ans, out=out)
    out[np.broadcast_to(np.equal(x, y), out.shape)] *= 0.5


#: 1 where x is the chosen of x and y, 1/2 at a tie, else 0.
tie_share = Primitive(
    "tie_share",
    shape=broadcast_shape,
    dtype=lambda x, ans, y: ans.dtype,
    lower=lambda args, outs: (_share, (*args, outs[0])),
)
for _ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
    elementwise(_ufunc, lambda r, x, y: tie_share(x, r, y), lambda r, x, y: tie_share(y, r, x))

# ---- constants: the derivative is zero, or there is none --------------------------------------

for _ufunc in (
    *(np.greater, np.less, np.greater_equal, np.less_equal, np.equal, np.not_equal),
    *(np.logical_and, np.logical_or, np.logical_not, np.logical_xor),
    *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert),
    *(np.isfinite, np.isinf, np.isnan, np.signbit),
    *(np.floor, np.ceil, np.trunc, np.rint, np.sign, np.floor_divide, np.spacing),
):
    elementwise(_ufunc)


@implements(np.divmod)
def divmod_(x, y):
    """Return the floor quotient, which is a constant, and the remainder."""
    return np.floor_divide(x, y), np.remainder(x, y)


@implements(np.modf)
def modf(x):
    """Return the fractional part, and the whole part, which is a constant."""
    whole = np.trunc(x)
    return x - whole, whole


# NumPy's own operator takes these short cuts, which are exact and much faster.
_SHORT_POWERS = {-1: np.reciprocal, 0.5: np.sqrt, 1: np.positive, 2: np.square}


def _power(x, y):
    if isinstance(y, int | float) and y in _SHORT_POWERS and getattr(x, "dtype", None) is not None:
        return _SHORT_POWERS[y](x)
    return power(x, np.asarray(y) if isinstance(y, list | tuple) else y)


REGISTRY[np.power] = checked(_power, name_of(np.power))

# ---- choosing ---------------------------------------------------------------------------------


def _choose(condition, x, y, out):
    np.copyto(out, y)
    np.copyto(out, x, where=condition)


_where = Primitive(
    "where",
    shape=broadcast_shape,
    dtype=lambda c, x, y: promoted(x, y),
    lower=lambda args, outs: (_choose, (*args, outs[0])),
)


def _where_vjp(ct, ans, c, x, y):
    return [
        None,
        lambda: match(sum_to(_where(c, ct, 0.0), shape(x)), x),
        lambda: match(sum_to(_where(c, 0.0, ct), shape(y)), y),
    ]


def _where_jvp(tangents, ans, c, x, y):
    _, tx, ty = [0.0 if t is None else t for t in tangents]
    return match(broadcast_to(_where(c, tx, ty), shape(ans)), ans)


_where.rules(_where_vjp, _where_jvp)


def where(condition, x, y):
    """Choose elements of `x` where the condition holds, else of `y`."""
    condition, x, y = [
        np.asarray(a) if isinstance(a, list | tuple) else a for a in (condition, x, y)
    ]
    dtype = getattr(condition, "dtype", None)
    if dtype is not None and dtype.kind != "b":
        condition = np.not_equal(condition, 0)
    return _where(condition, x, y)


@implements(np.where)
def _numpy_where(condition, x=None, y=None):
    if x is None or y is None:
        return np.nonzero(condition)
    return where(condition, x, y)


@implements(np.select)
def select(condlist, choicelist, default=0):
    """Choose, for each element, from the first choice whose condition holds."""
    out = default
    for c, x in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = where(c, x, out)
    return out


@implements(np.clip)
def clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None):
    """Limit values; at a limit the derivative is shared equally with that limit."""
    lower, upper = a_min if min is None else min, a_max if max is None else max
    a = a if lower is None else np.maximum(a, lower)
    return a if upper is None else np.minimum(a, upper)


@implements(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """Replace NaN and infinities by numbers; the derivative there is zero."""
    limits = np.finfo(x.dtype)
    big = float(limits.max) if posinf is None else posinf
    small = float(limits.min) if neginf is None else neginf
    x = where(np.isnan(x), nan, x)
    x = where(np.equal(x, math.inf), big, x)
    return where(np.equal(x, -math.inf), small, x)


def safe_sqrt(x):
    """Return the square root, with the derivative zero (not infinite) at zero."""
    zero = np.equal(x, 0)
    return where(zero, 0.0, np.sqrt(where(zero, 1.0, x)))


# ---- sinc -------------------------------------------------------------------------------------


def _lower_spherical(args, outs, n):
    from scipy.special import spherical_jn

    return (lambda x, out: np.copyto(out, spherical_jn(n, x))), (args[0], outs[0])


def _spherical_slope(x, n):
    # j_n' = (n j_{n-1} - (n + 1) j_{n+1}) / (2 n + 1), which holds at 0 too (DLMF 10.51.2).
    after = (-(n + 1.0) / (2 * n + 1)) * spherical_bessel(x, n=n + 1)
    return after if n == 0 else (n / (2.0 * n + 1)) * spherical_bessel(x, n=n - 1) + after


#: The spherical Bessel function j_n.
spherical_bessel = Primitive(
    "spherical_bessel", shape=lambda x, n: shape(x), lower=_lower_spherical
).rules(
    lambda ct, ans, x, n: [lambda: times(ct, _spherical_slope(x, n))],
    lambda tangents, ans, x, n: times(tangents[0], _spherical_slope(x, n)),
)


@implements(np.sinc)
def sinc(x):
    """Return sin(pi x) / (pi x), differentiable to any order at zero too."""
    return spherical_bessel(math.pi * x, n=0)


# ---- the complex plane's real line ------------------------------------------------------------


@implements(np.real, np.real_if_close)
def real(val, tol=None):
    """Return the array itself: traced arrays are real."""
    return val


@implements(np.imag)
def imag(val):
    """Return zeros."""
    return np.zeros(shape(val), val.dtype)
