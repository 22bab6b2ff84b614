"""Losses of raw predictions, fused and native, of any order of derivative."""

import math

import numpy as np

from skdeep.autodiff._trace import Primitive, Tracer, first_dtype, ndim, shape, total
from skdeep.autodiff.ops._implements import as_array, as_real
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.activation import (
    check_floating,
    member_parameter,
    nth,
    pull_through,
    push_through,
    sum_tangents,
)
from skdeep.autodiff.ops.logits import softplus
from skdeep.autodiff.ops.shape import broadcast_to, match, reshape, sum_

__all__ = ["per_sample_loss", "pointwise_loss", "softmax_cross_entropy"]


def _led(a, axes):
    """Return a view with the member axis in front, of an array that has `axes` with it."""
    return a if a.ndim >= axes else a[None]


def _column(ct):
    return reshape(ct, (*shape(ct), 1))


# ---- softmax cross-entropy ----------------------------------------------------------------------


def _lower_cross_entropy(args, outs):
    from skdeep._kernels.cpu.loss import softmax_cross_entropy as kernel

    z, labels, smoothing = args
    loss, p = outs
    return member_call(
        kernel, (_led(z, 3), _led(labels, 2), smoothing), [_led(loss, 2), _led(p, 3)]
    )


def _lower_cross_entropy_pullback(args, outs):
    from skdeep._kernels.cpu.loss import softmax_cross_entropy_pullback as kernel

    p, labels, smoothing, ct = args
    arrays = _led(p, 3), _led(labels, 2), smoothing, _led(ct, 2)
    return member_call(kernel, arrays, [_led(outs[0], 3)])


_cross_entropy = Primitive(
    "softmax_cross_entropy",
    n_out=2,
    shape=lambda z, labels, smoothing: (z.shape[:-1], z.shape),
    dtype=first_dtype,
    lower=_lower_cross_entropy,
)
cross_entropy_pullback = Primitive(
    "softmax_cross_entropy_pullback",
    shape=lambda p, labels, smoothing, ct: p.shape,
    dtype=first_dtype,
    lower=_lower_cross_entropy_pullback,
    inplace=True,
)


def _gap(p, labels, smoothing):
    """Return probabilities less targets."""
    return cross_entropy_pullback(p, labels, smoothing, np.ones(shape(p)[:-1], p.dtype))


def _softmax_slope(t, p):
    """Return the (symmetric) Jacobian of the softmax times t."""
    return p * (t - sum_(t * p, -1, keepdims=True))


def _refuse_smoothing():
    raise TypeError("softmax_cross_entropy has no derivative by `smoothing`")


def _cross_entropy_vjp(cts, ans, z, labels, smoothing):
    p = ans[1]

    def by_logits():
        terms = [
            None if cts[0] is None else cross_entropy_pullback(p, labels, smoothing, cts[0]),
            None if cts[1] is None else _softmax_slope(cts[1], p),
        ]
        return match(total(terms), z)

    return [by_logits, None, _refuse_smoothing]


def _cross_entropy_jvp(tangents, ans, z, labels, smoothing):
    t, _, t_smoothing = tangents
    if t_smoothing is not None:
        _refuse_smoothing()
    if t is None:
        return tuple(np.zeros(shape(a), a.dtype) for a in ans)
    return sum_(t * _gap(ans[1], labels, smoothing), -1), _softmax_slope(t, ans[1])


def _cross_entropy_pullback_vjp(c, ans, p, labels, smoothing, ct):
    return [
        lambda: c * _column(ct),
        None,
        _refuse_smoothing,
        lambda: sum_(c * _gap(p, labels, smoothing), -1),
    ]


def _cross_entropy_pullback_jvp(tangents, ans, p, labels, smoothing, ct):
    t_p, _, t_smoothing, t_ct = tangents
    if t_smoothing is not None:
        _refuse_smoothing()
    terms = [
        None if t_p is None else t_p * _column(ct),
        None if t_ct is None else cross_entropy_pullback(p, labels, smoothing, t_ct),
    ]
    return sum_tangents(terms, ans)


_cross_entropy.rules(_cross_entropy_vjp, _cross_entropy_jvp)
cross_entropy_pullback.rules(_cross_entropy_pullback_vjp, _cross_entropy_pullback_jvp)


def softmax_cross_entropy(logits, labels, smoothing=0.0):
    r"""Return the cross entropy of labels under the softmax of logits, one per sample.

    With smoothing :math:`\epsilon`, the target of K classes is :math:`1 - \epsilon` on the label
    plus :math:`\epsilon / K` everywhere.

    Parameters
    ----------
    logits : array of shape (n_samples, n_classes) or (n_members, ..., n_classes)
        The raw predictions, float32 or float64, of any size.
    labels : array of int of shape ``logits.shape[:-1]``
        The classes' numbers. The first axis may be 1 where all members have the same labels.
    smoothing : float or array of shape (1,) or (n_members,), default=0.0
        Label smoothing, in [0, 1].

    Returns
    -------
    array of shape ``logits.shape[:-1]``
        The samples' losses.

    Raises
    ------
    TypeError
        If `logits` is neither float32 nor float64, or `labels` are not integers.
    ValueError
        If the shapes do not fit, or a label is out of range. (In a recorded program the loss of
        such a label is NaN.)

    References
    ----------
    Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016,
    section 7 (label smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.loss import softmax_cross_entropy
    >>> softmax_cross_entropy(np.array([[0.0, 0.0], [1e4, 0.0]]), np.array([1, 1]))
    array([6.93147181e-01, 1.00000000e+04])
    """
    logits, labels = as_real(logits), as_array(labels)
    check_floating("logits", logits)
    s = shape(logits)
    if len(s) < 2 or s[-1] == 0:
        raise ValueError(f"logits have shape {s}; pass (n_samples, n_classes) or members of them")
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"labels have dtype {labels.dtype}; pass the classes' numbers, as integers"
        )
    if shape(labels) not in (s[:-1], (1, *s[1:-1]) if len(s) > 2 else None):
        raise ValueError(
            f"labels have shape {shape(labels)}; with logits of shape {s} it must be {s[:-1]}"
        )
    if (
        type(labels) is not Tracer
        and labels.size
        and not 0 <= labels.min() <= labels.max() < s[-1]
    ):
        raise ValueError(
            f"labels range from {labels.min()} to {labels.max()}; with {s[-1]} classes they must "
            f"be from 0 to {s[-1] - 1}"
        )
    labels = labels.astype(np.int64)
    smoothing = member_parameter("smoothing", smoothing, logits)
    return _cross_entropy(logits, labels, smoothing)[0]


# ---- pointwise losses ---------------------------------------------------------------------------


def _huber(r, t, a):
    d = np.abs(r - t)
    return np.where(d <= a, 0.5 * d * d, a * (d - 0.5 * a))


def _poisson(r, t, a):
    return np.exp(r) - t * r + t * np.log(np.where(t > 0, t, 1.0)) - t


#: The losses in NumPy: the rule for third and higher orders, and for targets and parameters.
COMPOSITIONS = {
    "binary_cross_entropy": lambda r, t, a: softplus(r) - t * r,
    "hinge": lambda r, t, a: np.maximum(1.0 - t * r, 0.0),
    "squared_hinge": lambda r, t, a: np.maximum(1.0 - t * r, 0.0) ** 2,
    "perceptron": lambda r, t, a: np.maximum(-t * r, 0.0),
    "squared_error": lambda r, t, a: 0.5 * (r - t) ** 2,
    "absolute_error": lambda r, t, a: np.abs(r - t),
    "huber": _huber,
    "poisson": _poisson,
    "quantile": lambda r, t, a: np.maximum(a * (t - r), (a - 1.0) * (t - r)),
}
#: Losses that are polynomial between kinks: the order from which their derivative is zero.
FLAT = {
    **dict.fromkeys(("hinge", "perceptron", "absolute_error", "quantile"), 2),
    **dict.fromkeys(("squared_hinge", "squared_error", "huber"), 3),
}
#: Losses with a parameter: its default.
PARAMETERS = {"huber": 1.0, "quantile": 0.5}


def _composition(loss, order):
    def f(raw, target, param):
        return COMPOSITIONS[loss](raw, target, reshape(param, (-1, *[1] * (ndim(raw) - 1))))

    return nth(f, order)


def _lower_pointwise(args, outs, loss):
    from skdeep._kernels.cpu.loss import per_sample

    raw, target, param = args
    arrays = _led(raw, 3), _led(target, 3), param
    return member_call(per_sample[loss], arrays, [_led(outs[0], 2)])


def _lower_pointwise_pullback(args, outs, loss, order):
    from skdeep._kernels.cpu.loss import pullback

    ct, raw, target, param = args
    arrays = _led(ct, 2), _led(raw, 3), _led(target, 3), param
    return member_call(pullback[loss, order], arrays, [_led(outs[0], 3)])


_per_sample = Primitive(
    "per_sample_loss",
    shape=lambda raw, target, param, loss: raw.shape[:-1],
    dtype=first_dtype,
    lower=_lower_pointwise,
)
pointwise_pullback = Primitive(
    "per_sample_loss_pullback",
    shape=lambda ct, raw, target, param, loss, order: raw.shape,
    dtype=lambda ct, raw, target, param: raw.dtype,
    lower=_lower_pointwise_pullback,
)


def _is_flat(loss, order):
    return order >= FLAT.get(loss, math.inf)


def _as_samples(x):
    """Return the elements as samples of one output each: (M, N, 1)."""
    s = shape(x)
    lead = s[0] if len(s) >= 3 else 1
    return reshape(x, (lead, math.prod(s) // max(lead, 1), 1))


def _scaled(ct, raw, target, param, loss, order):
    """Return ct, of the shape of `raw`, times the derivative of that order; None where zero."""
    if _is_flat(loss, order):
        return None
    if order > 2:
        return ct * _composition(loss, order)(raw, target, param)
    each = _as_samples(raw)
    ct = reshape(ct, shape(each)[:2])
    out = pointwise_pullback(ct, each, _as_samples(target), param, loss=loss, order=order)
    return reshape(out, shape(raw))


def _pull_others(ct, args, loss, order):
    """Return thunks of the target's and the parameter's cotangents; ct is a thunk."""
    f = _composition(loss, order)
    thunks = [lambda i=i: match(pull_through(f, args, i, ct()), args[i]) for i in (1, 2)]
    return thunks if loss in PARAMETERS else [thunks[0], None]


def _push_others(tangents, args, loss, order):
    """Return the tangents of the elementwise derivative along the target and the parameter."""
    f = _composition(loss, order)
    given = [(i, t) for i, t in enumerate(tangents, 1) if t is not None]
    return [push_through(f, args, i, t) for i, t in given if i == 1 or loss in PARAMETERS]


def _per_sample_vjp(ct, ans, *args, loss):
    return [
        lambda: match(pointwise_pullback(ct, *args, loss=loss, order=1), args[0]),
        *_pull_others(lambda: broadcast_to(_column(ct), shape(args[0])), args, loss, 0),
    ]


def _per_sample_jvp(tangents, ans, *args, loss):
    t, *others = tangents
    terms = [None if t is None else _scaled(t, *args, loss=loss, order=1)]
    terms += _push_others(others, args, loss, 0)
    return sum_tangents([None if x is None else sum_(x, -1) for x in terms], ans)


def _pullback_vjp(c, ans, ct, *args, loss, order):
    curved = not _is_flat(loss, order + 1)
    return [
        lambda: sum_(_scaled(c, *args, loss=loss, order=order), -1),
        (lambda: _scaled(c * _column(ct), *args, loss=loss, order=order + 1)) if curved else None,
        *_pull_others(lambda: c * _column(ct), args, loss, order),
    ]


def _pullback_jvp(tangents, ans, ct, *args, loss, order):
    t_ct, t, *others = tangents
    terms = [
        None if t_ct is None else pointwise_pullback(t_ct, *args, loss=loss, order=order),
        None if t is None else _scaled(t * _column(ct), *args, loss=loss, order=order + 1),
        *[_column(ct) * x for x in _push_others(others, args, loss, order)],
    ]
    return sum_tangents(terms, ans)


_per_sample.rules(_per_sample_vjp, _per_sample_jvp)
pointwise_pullback.rules(_pullback_vjp, _pullback_jvp)


def _checked(raw, target, param, loss):
    if loss not in COMPOSITIONS:
        raise ValueError(f"loss={loss!r} must be one of {sorted(COMPOSITIONS)}")
    raw, target = as_real(raw), as_real(target)
    check_floating("raw", raw)
    s = shape(raw)
    if shape(target) not in (s, (1, *s[1:]) if len(s) > 2 else None):
        raise ValueError(
            f"target has shape {shape(target)}; it must have that of the raw predictions, {s}"
        )
    if target.dtype != raw.dtype:
        target = target.astype(raw.dtype)
    param = PARAMETERS.get(loss, 0.0) if param is None else param
    return raw, target, member_parameter("param", param, raw)


def pointwise_loss(raw, target, param=None, *, loss):
    """Return the loss of every element of raw predictions.

    Parameters
    ----------
    raw : array of shape (n_members, ..., n_outputs) or of up to two axes
        The raw predictions, float32 or float64.
    target : array of the shape of `raw`
        The targets: probabilities for "binary_cross_entropy", -1 and +1 for "hinge",
        "squared_hinge" and "perceptron", real numbers for the others. The first of three axes or
        more may be 1 where all members have the same targets.
    param : float or array of shape (1,) or (n_members,), default=None
        Where the "huber" loss turns from squared to absolute (1 where None); the "quantile"
        (1 / 2). The other losses have none.
    loss : {"binary_cross_entropy", "hinge", "squared_hinge", "perceptron", "squared_error", \
            "absolute_error", "huber", "poisson", "quantile"}
        The loss. "squared_error" is half the square; "poisson" is half the deviance, the raw
        prediction being the logarithm of the mean. At its kink a loss has the slope of the side
        of the larger loss ("hinge", "perceptron"), or zero ("absolute_error", "quantile").

    Returns
    -------
    array of the shape of `raw`

    Raises
    ------
    TypeError
        If `raw` is neither float32 nor float64.
    ValueError
        If `loss` is unknown or the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.loss import pointwise_loss
    >>> pointwise_loss(np.array([0.5, 4.0]), np.array([0.0, 1.0]), 1.0, loss="huber")
    array([0.125, 2.5  ])
    """
    raw, target, param = _checked(raw, target, param, loss)
    each = _per_sample(_as_samples(raw), _as_samples(target), param, loss=loss)
    return reshape(each, shape(raw))


def per_sample_loss(raw, target, param=None, *, loss):
    """Return a pointwise loss summed over the outputs (the last axis), one per sample.

    Parameters
    ----------
    raw : array of shape (n_samples, n_outputs) or (n_members, ..., n_outputs)
        The raw predictions, float32 or float64.
    target : array of the shape of `raw`
        The targets; see `pointwise_loss`.
    param : float or array of shape (1,) or (n_members,), default=None
        The loss's parameter; see `pointwise_loss`.
    loss : str
        The loss; see `pointwise_loss`.

    Returns
    -------
    array of shape ``raw.shape[:-1]``

    Raises
    ------
    TypeError
        If `raw` is neither float32 nor float64.
    ValueError
        If `loss` is unknown or the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.loss import per_sample_loss
    >>> per_sample_loss(np.array([[1.0, 2.0]]), np.zeros((1, 2)), loss="squared_error")
    array([2.5])
    """
    raw, target, param = _checked(raw, target, param, loss)
    if ndim(raw) < 2:
        raise ValueError(f"raw has shape {shape(raw)}; pass at least (n_samples, n_outputs)")
    return _per_sample(raw, target, param, loss=loss)


# ---- labels of two classes ----------------------------------------------------------------------


def _lower_column(args, outs):
    from skdeep._kernels.cpu.loss import one_column

    return member_call(one_column, (_led(args[0], 2),), [_led(outs[0], 3)])


_label_column = Primitive(
    "label_column",
    shape=lambda labels, raw: (*labels.shape, 1),
    dtype=lambda labels, raw: raw.dtype,
    lower=_lower_column,
)


def label_column(labels, raw):
    """Return int64 labels 0 and 1 as one column of targets in the dtype of `raw`."""
    return _label_column(labels, raw)
