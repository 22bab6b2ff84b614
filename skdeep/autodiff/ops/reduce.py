"""Reductions: sums, products, extremes, moments, order statistics and running sums."""

import numpy as np

from skdeep.autodiff._trace import REGISTRY, Primitive, ndim, shape
from skdeep.autodiff.ops._implements import as_array, checked, implements, name_of
from skdeep.autodiff.ops.discrete import all_p, any_p
from skdeep.autodiff.ops.elementwise import safe_sqrt, times, where
from skdeep.autodiff.ops.index import cut, flip, sort, take
from skdeep.autodiff.ops.shape import (
    broadcast_to,
    cast,
    concatenate,
    expand_dims,
    kept,
    linear_op,
    moveaxis,
    normal_axes,
    ravel,
    reduced,
    reshape,
    spread,
    sum_,
    sum_p,
    transpose,
)


def flat_last(x, axis):
    """Move the reduced axes to the end and make them one."""
    axes = normal_axes(axis, ndim(x))
    rest = [i for i in range(ndim(x)) if i not in axes]
    return reshape(transpose(x, (*rest, *axes)), (*(shape(x)[i] for i in rest), -1))


def _restored(y, x, axis, keepdims):
    """Give what was reduced by way of `flat_last` its axes of length one, where wanted."""
    return reshape(y, kept(shape(x), normal_axes(axis, ndim(x)))) if keepdims else y


def _count(x, axis):
    return int(np.prod([shape(x)[i] for i in normal_axes(axis, ndim(x))]))


# ---- sums and products ------------------------------------------------------------------------


@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False):
    """Return the mean over axes."""
    return sum_(a, axis, keepdims=keepdims) / _count(a, axis)


@implements(np.prod)
def prod(a, axis=None, dtype=None, out=None, keepdims=False):
    """Return the product over axes, differentiable at zeros too.

    Pairs are multiplied until one element is left, so that nothing is ever divided out.
    """
    y = flat_last(a, axis)
    if shape(y)[-1] == 0:
        return np.ones(reduced(a, normal_axes(axis, ndim(a)), keepdims), a.dtype)
    last = ndim(y) - 1
    while (n := shape(y)[-1]) > 1:
        half = n // 2
        pairs = cut(y, last, 0, half) * cut(y, last, half, 2 * half)
        y = concatenate([pairs, cut(y, last, n - 1)], last) if n % 2 else pairs
    return _restored(cut(y, last, 0)[..., 0], a, axis, keepdims)


@implements(np.nansum)
def nansum(a, axis=None, dtype=None, out=None, keepdims=False):
    """Return the sum, NaN counting as zero."""
    return sum_(where(np.isnan(a), 0.0, a), axis, keepdims=keepdims)


@implements(np.nanprod)
def nanprod(a, axis=None, dtype=None, out=None, keepdims=False):
    """Return the product, NaN counting as one."""
    return prod(where(np.isnan(a), 1.0, a), axis, keepdims=keepdims)


@implements(np.nanmean)
def nanmean(a, axis=None, dtype=None, out=None, keepdims=False):
    """Return the mean of what is not NaN."""
    counted = cast(np.logical_not(np.isnan(a)), a.dtype)
    return nansum(a, axis, keepdims=keepdims) / sum_(counted, axis, keepdims=keepdims)


@implements(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    """Return the weighted mean over axes."""
    if weights is None:
        out = mean(a, axis, keepdims=keepdims)
        scale = np.full(shape(out), _count(a, axis), a.dtype)
        return (out, scale) if returned else out
    weights = as_array(weights)
    if shape(weights) != shape(a):
        (i,) = normal_axes(axis, ndim(a))
        weights = reshape(weights, tuple(-1 if j == i else 1 for j in range(ndim(a))))
        weights = broadcast_to(weights, shape(a))
    scale = sum_(weights, axis, keepdims=keepdims)
    out = sum_(times(as_array(a), weights), axis, keepdims=keepdims) / scale
    return (out, scale) if returned else out


# ---- the largest and the smallest -------------------------------------------------------------


def _shares(ans, x, axis):
    """Return 1 / k at each of the k places where a line takes its extreme, else 0."""
    taken = cast(np.equal(x, reshape(ans, kept(shape(x), axis))), x.dtype)
    # At NaN nothing is equal: the derivative is zero there.
    return taken / np.maximum(sum_p(taken, axis=axis, keepdims=True), 1.0)


def _extreme(ufunc):
    return Primitive(
        name_of((ufunc, "reduce")),
        shape=reduced,
        lower=lambda args, outs, axis, keepdims: (
            ufunc.reduce,
            (args[0], axis, None, outs[0], keepdims),
        ),
    ).rules(
        lambda ct, ans, x, axis, keepdims: [
            lambda: times(spread(ct, x, axis), _shares(ans, x, axis))
        ],
        lambda tangents, ans, x, axis, keepdims: sum_p(
            times(tangents[0], _shares(ans, x, axis)), axis=axis, keepdims=keepdims
        ),
    )


max_p, min_p = _extreme(np.maximum), _extreme(np.minimum)


@implements(np.max, np.amax)
def max_(a, axis=None, out=None, keepdims=False):
    """Return the largest over axes; elements that tie share the derivative equally."""
    return max_p(a, axis=normal_axes(axis, ndim(a)), keepdims=bool(keepdims))


@implements(np.min, np.amin)
def min_(a, axis=None, out=None, keepdims=False):
    """Return the smallest over axes; elements that tie share the derivative equally."""
    return min_p(a, axis=normal_axes(axis, ndim(a)), keepdims=bool(keepdims))


@implements(np.ptp)
def ptp(a, axis=None, out=None, keepdims=False):
    """Return the largest less the smallest."""
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


@implements(np.nanmax)
def nanmax(a, axis=None, out=None, keepdims=False):
    """Return the largest that is not NaN."""
    return max_(where(np.isnan(a), -np.inf, a), axis, keepdims=keepdims)


@implements(np.nanmin)
def nanmin(a, axis=None, out=None, keepdims=False):
    """Return the smallest that is not NaN."""
    return min_(where(np.isnan(a), np.inf, a), axis, keepdims=keepdims)


# ---- moments ----------------------------------------------------------------------------------


@implements(np.var)
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, correction=None):
    """Return the variance over axes."""
    deviation = a - mean(a, axis, keepdims=True)
    degrees = _count(a, axis) - (ddof if correction is None else correction)
    return sum_(np.square(deviation), axis, keepdims=keepdims) / degrees


@implements(np.std)
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, correction=None):
    """Return the standard deviation; its derivative where it is zero is taken as zero."""
    return safe_sqrt(var(a, axis, ddof=ddof, keepdims=keepdims, correction=correction))


@implements(np.cov)
def cov(m, y=None, rowvar=True, bias=False, ddof=None):
    """Return the covariance matrix of variables in rows (or columns)."""
    from skdeep.autodiff.ops.products import matmul

    def rows(z):
        z = as_array(z)
        z = reshape(z, (1, -1)) if ndim(z) < 2 else z
        return z if rowvar or shape(z)[0] == 1 else transpose(z)

    x = rows(m) if y is None else concatenate([rows(m), rows(y)], 0)
    degrees = shape(x)[1] - ((0 if bias else 1) if ddof is None else ddof)
    x = x - mean(x, 1, keepdims=True)
    out = matmul(x, transpose(x)) / degrees
    return reshape(out, tuple(d for d in shape(out) if d != 1))


@implements(np.corrcoef)
def corrcoef(x, y=None, rowvar=True):
    """Return the matrix of correlation coefficients."""
    c = cov(x, y, rowvar)
    if ndim(c) == 0:
        return c / c
    deviations = np.sqrt(np.diagonal(c))
    return c / expand_dims(deviations, 1) / deviations


# ---- order statistics -------------------------------------------------------------------------


@implements(np.quantile)
def quantile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False):
    """Return quantiles, interpolated linearly between the two nearest elements."""
    if method != "linear":
        raise TypeError(f"numpy.quantile of a traced array: method={method!r} must be 'linear'")
    q = np.asarray(q, np.float64)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"numpy.quantile: q={q} must lie within [0, 1]")
    y = sort(flat_last(a, axis), -1)
    place = q * (shape(y)[-1] - 1)
    below = np.floor(place).astype(np.intp)
    above = np.ceil(place).astype(np.intp)
    low, high = take(y, below, -1), take(y, above, -1)
    out_last = low + (high - low) * (place - below).astype(y.dtype)
    n = ndim(y) - 1
    parts = moveaxis(out_last, tuple(range(n, n + q.ndim)), tuple(range(q.ndim)))
    if not keepdims:
        return parts
    return reshape(parts, q.shape + kept(shape(a), normal_axes(axis, ndim(a))))


@implements(np.percentile)
def percentile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False):
    """Return percentiles."""
    return quantile(a, np.true_divide(q, 100.0), axis, None, None, method, keepdims)


@implements(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    """Return the median: the middle element, or the mean of the two in the middle."""
    y = sort(flat_last(a, axis), -1)
    n, last = shape(y)[-1], ndim(y) - 1
    middle = cut(y, last, (n - 1) // 2, n // 2 + 1)
    return _restored(mean(middle, last), a, axis, keepdims)


# ---- running sums and products ----------------------------------------------------------------

cumsum_p = linear_op(
    Primitive(
        "cumsum",
        shape=lambda x, axis: shape(x),
        lower=lambda args, outs, axis: (np.add.accumulate, (args[0], axis, None, outs[0])),
    ),
    lambda ct, x, axis: flip(cumsum_p(flip(ct, axis), axis=axis), axis),
)


def _line(a, axis):
    if axis is None:
        return ravel(a), 0
    return a, normal_axes(axis, ndim(a))[0]


@implements(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    """Return running sums."""
    a, axis = _line(a, axis)
    return cumsum_p(a, axis=axis)


@implements(np.cumprod)
def cumprod(a, axis=None, dtype=None, out=None):
    """Return running products, differentiable at zeros too.

    Doubling strides (Hillis and Steele 1986): each pass multiplies by the product of as many
    elements before, so that nothing is ever divided out.
    """
    a, axis = _line(a, axis)
    k, n = 1, shape(a)[axis]
    while k < n:
        rest = cut(a, axis, k) * cut(a, axis, 0, n - k)
        a, k = concatenate([cut(a, axis, 0, k), rest], axis), 2 * k
    return a


@implements(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Integrate by the trapezoidal rule."""
    y = as_array(y)
    (axis,) = normal_axes(axis, ndim(y))
    if x is not None:
        x = as_array(x)
        along = 0 if ndim(x) == 1 else axis
        dx = cut(x, along, 1) - cut(x, along, 0, -1)
        if ndim(x) == 1:
            dx = reshape(dx, tuple(-1 if i == axis else 1 for i in range(ndim(y))))
    return sum_(dx * (cut(y, axis, 1) + cut(y, axis, 0, -1)) / 2.0, axis)


# ---- the ufuncs' own reductions ---------------------------------------------------------------


def _all(a, axis, keepdims):
    return all_p(a, axis=normal_axes(axis, ndim(a)), keepdims=keepdims)


def _any(a, axis, keepdims):
    return any_p(a, axis=normal_axes(axis, ndim(a)), keepdims=keepdims)


def register_reduce(ufunc, f):
    """Make ``f(a, axis=, keepdims=)`` the ufunc's `reduce`, whose axis is 0 by default."""

    def reduce(a, axis=0, dtype=None, out=None, keepdims=False, initial=None, where=None):
        return f(a, axis=axis, keepdims=bool(keepdims))

    REGISTRY[ufunc, "reduce"] = checked(reduce, name_of((ufunc, "reduce")))


def _register_accumulate(ufunc, f):
    def accumulate(array, axis=0, dtype=None, out=None):
        return f(array, axis)

    REGISTRY[ufunc, "accumulate"] = checked(accumulate, name_of((ufunc, "accumulate")))


for _ufunc, _f in (
    (np.add, sum_),
    (np.multiply, prod),
    (np.maximum, max_),
    (np.minimum, min_),
    (np.logical_and, _all),
    (np.logical_or, _any),
):
    register_reduce(_ufunc, _f)
_register_accumulate(np.add, cumsum)
_register_accumulate(np.multiply, cumprod)
