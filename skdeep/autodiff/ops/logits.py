"""The softmax family, safe from overflow, and the losses on logits.

Each takes arrays, lists or traced arrays, works over any leading axes, keeps float32 and can be
differentiated to any order.
"""

import numpy as np

from skdeep.autodiff._trace import Primitive, ndim, shape
from skdeep.autodiff.ops._implements import as_array, as_real
from skdeep.autodiff.ops.elementwise import times
from skdeep.autodiff.ops.index import take_along_axis
from skdeep.autodiff.ops.reduce import register_reduce
from skdeep.autodiff.ops.shape import (
    expand_dims,
    normal_axes,
    reduced,
    reshape,
    spread,
    sum_p,
)

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "softmax",
    "softplus",
]


def _summed(x, axis):
    return sum_p(x, axis=axis, keepdims=True)


def _shifted(x, axis, out):
    """Write into `out` the exponential of x less its maximum; return that maximum."""
    top = np.maximum.reduce(x, axis, keepdims=True)
    top[~np.isfinite(top)] = 0  # infinity less itself would be NaN
    np.subtract(x, top, out=out)
    np.exp(out, out=out)
    return top


def _same(x, axis):
    return shape(x)


# ---- softmax ----------------------------------------------------------------------------------


def _softmax(x, axis, out):
    _shifted(x, axis, out)
    out /= np.add.reduce(out, axis, keepdims=True)


def _softmax_slope(t, ans, axis):
    weighted = times(t, ans)
    return weighted - ans * _summed(weighted, axis)


#: Its Jacobian is symmetric: the VJP and the JVP are one formula.
_softmax_p = Primitive(
    "softmax", shape=_same, lower=lambda args, outs, axis: (_softmax, (args[0], axis, outs[0]))
).rules(
    lambda ct, ans, x, axis: [lambda: _softmax_slope(ct, ans, axis)],
    lambda tangents, ans, x, axis: _softmax_slope(tangents[0], ans, axis),
)


def softmax(x, axis=-1):
    """Return exp(x) normalised to sum to one.

    Parameters
    ----------
    x : array of shape (..., n)
        The logits.
    axis : int or tuple of int, default=-1
        The axes that sum to one.

    Returns
    -------
    array of the shape of `x`

    Examples
    --------
    >>> from skdeep.autodiff.ops import softmax
    >>> softmax([12345.0, 67890.0, 99999999.0])
    array([0., 0., 1.])
    """
    x = as_real(x)
    return _softmax_p(x, axis=normal_axes(axis, ndim(x)))


# ---- log_softmax ------------------------------------------------------------------------------


def _log_softmax(x, axis, out):
    top = _shifted(x, axis, out)
    norm = np.log(np.add.reduce(out, axis, keepdims=True))
    np.subtract(x, top, out=out)
    out -= norm


_log_softmax_p = Primitive(
    "log_softmax",
    shape=_same,
    lower=lambda args, outs, axis: (_log_softmax, (args[0], axis, outs[0])),
).rules(
    lambda ct, ans, x, axis: [lambda: ct - _softmax_p(x, axis=axis) * _summed(ct, axis)],
    lambda tangents, ans, x, axis: (
        tangents[0] - _summed(times(tangents[0], _softmax_p(x, axis=axis)), axis)
    ),
)


def log_softmax(x, axis=-1):
    """Return the logarithm of the softmax.

    Parameters
    ----------
    x : array of shape (..., n)
        The logits.
    axis : int or tuple of int, default=-1
        The axes over which the probabilities sum to one.

    Returns
    -------
    array of the shape of `x`

    Examples
    --------
    >>> from skdeep.autodiff.ops import log_softmax
    >>> log_softmax([0.0, 1000.0])
    array([-1000.,     0.])
    """
    x = as_real(x)
    return _log_softmax_p(x, axis=normal_axes(axis, ndim(x)))


# ---- logsumexp --------------------------------------------------------------------------------


def _logsumexp(x, axis, out):
    work = np.empty(x.shape, x.dtype)
    top = _shifted(x, axis, work)
    total = np.add.reduce(work, axis)
    with np.errstate(divide="ignore"):  # the logarithm of an empty sum of exponentials
        np.log(total, out=out)
    out += top.reshape(out.shape)


_logsumexp_p = Primitive(
    "logsumexp",
    shape=reduced,
    lower=lambda args, outs, axis, keepdims: (
        _logsumexp,
        (
            args[0],
            axis,
            outs[0].reshape([d for i, d in enumerate(args[0].shape) if i not in axis]),
        ),
    ),
).rules(
    lambda ct, ans, x, axis, keepdims: [
        lambda: times(spread(ct, x, axis), _softmax_p(x, axis=axis))
    ],
    lambda tangents, ans, x, axis, keepdims: sum_p(
        times(tangents[0], _softmax_p(x, axis=axis)), axis=axis, keepdims=keepdims
    ),
)


def logsumexp(x, axis=None, keepdims=False):
    """Return the logarithm of the sum of exponentials.

    Parameters
    ----------
    x : array
        The logits.
    axis : int, tuple of int or None, default=None
        The axes to sum over; all of them for None.
    keepdims : bool, default=False
        Whether the summed axes stay, with length one.

    Returns
    -------
    array
        The reduction; its derivative is the softmax.

    Examples
    --------
    >>> from skdeep.autodiff.ops import logsumexp
    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    x = as_real(x)
    return _logsumexp_p(x, axis=normal_axes(axis, ndim(x)), keepdims=bool(keepdims))


register_reduce(np.logaddexp, logsumexp)

# ---- sigmoid ----------------------------------------------------------------------------------


def _lower_sigmoid(args, outs):
    from scipy.special import expit

    return expit, (args[0], outs[0])


_sigmoid_p = Primitive(
    "sigmoid", shape=lambda x: shape(x), lower=_lower_sigmoid, inplace=True
).rules(
    lambda ct, ans, x: [lambda: times(ct, ans * (1.0 - ans))],
    lambda tangents, ans, x: times(tangents[0], ans * (1.0 - ans)),
)


def sigmoid(x):
    """Return 1 / (1 + exp(-x)), elementwise.

    Parameters
    ----------
    x : array
        The logits.

    Returns
    -------
    array of the shape of `x`

    Examples
    --------
    >>> from skdeep.autodiff.ops import sigmoid
    >>> sigmoid([-1e5, 0.0, 1e5])
    array([0. , 0.5, 1. ])
    """
    return _sigmoid_p(as_real(x))


def softplus(x):
    """Return log(1 + exp(x)), elementwise.

    Parameters
    ----------
    x : array
        The logits.

    Returns
    -------
    array of the shape of `x`

    Examples
    --------
    >>> from skdeep.autodiff.ops import softplus
    >>> softplus([-1e5, 0.0, 1e5])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+05])
    """
    return np.logaddexp(as_real(x), 0.0)


def log_sigmoid(x):
    """Return the logarithm of the sigmoid, elementwise.

    Parameters
    ----------
    x : array
        The logits.

    Returns
    -------
    array of the shape of `x`

    Examples
    --------
    >>> from skdeep.autodiff.ops import log_sigmoid
    >>> log_sigmoid([-1e5, 0.0])
    array([-1.00000000e+05, -6.93147181e-01])
    """
    return -softplus(-as_real(x))


# ---- losses -----------------------------------------------------------------------------------


def cross_entropy(logits, targets, axis=-1):
    """Return the cross entropy of targets under the softmax of logits, one per example.

    Parameters
    ----------
    logits : array of shape (..., n_classes)
        The logits.
    targets : array of int of shape (...), or array of the shape of `logits`
        Class numbers, or the probabilities of the classes.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    array of shape (...)
        The loss of each example; its mean is the usual objective.

    Raises
    ------
    ValueError
        If the targets' shape fits neither class numbers nor probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops import cross_entropy
    >>> cross_entropy(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([1, 1]))
    array([6.93147181e-01, 1.00000000e+03])
    """
    logits, targets = as_real(logits), as_array(targets)
    (axis,) = normal_axes(axis, ndim(logits))
    s = shape(logits)
    log_p = log_softmax(logits, axis)
    if targets.dtype.kind in "iu" and shape(targets) == s[:axis] + s[axis + 1 :]:
        chosen = take_along_axis(log_p, expand_dims(targets, axis), axis)
        return -reshape(chosen, shape(targets))
    if shape(targets) != s:
        raise ValueError(
            f"targets of shape {shape(targets)} and dtype {targets.dtype} for logits of shape "
            f"{s}: they must be integers of shape {s[:axis] + s[axis + 1 :]}, or probabilities "
            f"of shape {s}"
        )
    return -sum_p(times(log_p, targets), axis=(axis,), keepdims=False)


def binary_cross_entropy(logits, targets):
    """Return the cross entropy of targets under the sigmoid of logits, elementwise.

    Parameters
    ----------
    logits : array
        The logits.
    targets : array
        Labels 0 and 1, or probabilities; it broadcasts with `logits`.

    Returns
    -------
    array
        The loss of each element, exact in both tails.

    Examples
    --------
    >>> from skdeep.autodiff.ops import binary_cross_entropy
    >>> binary_cross_entropy([1e5, 1e5], [1.0, 0.0])
    array([     0., 100000.])
    """
    logits, targets = as_real(logits), as_real(targets)
    return targets * softplus(-logits) + (1.0 - targets) * softplus(logits)
