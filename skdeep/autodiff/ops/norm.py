"""Normalisation over the batch or over the channels, fused, with its derivatives of any order.

Both forms are y = (x - mean) * rstd * gamma + beta with rstd = 1 / sqrt(variance + eps); they
differ in the axes that the statistics run over. A fused primitive gives y and the statistics, a
second one pulls cotangents back in two passes; each has its NumPy composition as reference, which
is also its rule for higher orders.
"""

import math

import numpy as np

from skdeep.autodiff._trace import Primitive, shape, total
from skdeep.autodiff._transforms import jvp, vjp
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.shape import broadcast_to, match, reshape, sum_

# ---- the compositions ---------------------------------------------------------------------------


def _expand(statistic, x, over):
    """Return statistics with the axes of `x`, to broadcast: over the rows or the channels."""
    s = shape(x)
    rows = [1] * (len(s) - 2)
    return reshape(statistic, (s[0], *rows, s[-1]) if over == "rows" else (*s[:-1], 1))


def _axes(x, over):
    n = len(shape(x))
    return tuple(range(1, n - 1)) if over == "rows" else (n - 1,)


def _mean(x, over):
    """Return the mean over the normalised axes."""
    axes = _axes(x, over)
    return sum_(x, axes) * (1.0 / math.prod(shape(x)[a] for a in axes))


def _normalize(x, mean, rstd, gamma, beta, over):
    y = (x - _expand(mean, x, over)) * _expand(rstd, x, over)
    return y * _expand(gamma, x, "rows") + _expand(beta, x, "rows")


def composed_norm(x, gamma, beta, eps, over):
    """Return (y, mean, variance, rstd) in NumPy functions."""
    mean = _mean(x, over)
    centred = x - _expand(mean, x, over)
    variance = _mean(centred * centred, over)
    rstd = 1.0 / np.sqrt(variance + eps)
    return _normalize(x, mean, rstd, gamma, beta, over), mean, variance, rstd


def composed_norm_relu(x, gamma, beta, eps, over):
    """Return (max(y, 0), mean, variance, rstd) in NumPy functions."""
    y, *statistics = composed_norm(x, gamma, beta, eps, over)
    return np.maximum(y, 0), *statistics


def composed_pullback(ct, x, gamma, mean, rstd, over):
    """Return the cotangents of x, gamma and beta in NumPy functions.

    Ioffe and Szegedy (2015), section 3; the statistics depend on x.
    """
    r = _expand(rstd, x, over)
    z = (x - _expand(mean, x, over)) * r
    g = ct * _expand(gamma, x, "rows")
    inner = _expand(_mean(g * z, over), x, over)
    dx = (g - _expand(_mean(g, over), x, over) - z * inner) * r
    return dx, sum_(ct * z, _axes(x, "rows")), sum_(ct, _axes(x, "rows"))


def composed_relu_pullback(ct, x, gamma, beta, mean, rstd, over):
    """Return the cotangents of x, gamma and beta, `ct` being that of the relu's output."""
    opened = np.where(_normalize(x, mean, rstd, gamma, beta, over) > 0, ct, 0.0)
    return composed_pullback(opened, x, gamma, mean, rstd, over)


def _by_composition(p, f):
    """Attach the rules of a primitive whose first outputs are a composition of primitives."""

    def backward(cts, ans, *args, **kw):
        pulled = []

        def rule(i):
            if not pulled:
                out, pullback = vjp(lambda *a: f(*a, **kw), *args)
                pulled.extend(pullback(tuple(cts[: len(out)])))
            return pulled[i]

        return [lambda i=i: rule(i) for i in range(len(args))]

    def forward(tangents, ans, *args, **kw):
        moving = [i for i, t in enumerate(tangents) if t is not None]

        def at(*chosen):
            full = list(args)
            for i, a in zip(moving, chosen, strict=True):
                full[i] = a
            return f(*full, **kw)

        t = jvp(at, [args[i] for i in moving], [tangents[i] for i in moving])[1]
        return (*t, *[None] * (p.n_out - len(t)))

    return p.rules(backward, forward)


# ---- the primitives -----------------------------------------------------------------------------


def _kernels():
    from skdeep._kernels.cpu import norm

    return norm


def _statistic_shape(x, over):
    return (x.shape[0], x.shape[-1]) if over == "rows" else x.shape[:-1]


def _sums_shape(x):
    return (x.shape[0], 2, x.shape[-1])


def _norm_shapes(x, gamma, beta, eps, over):
    scratch = [_sums_shape(x)] if over == "rows" else []
    return (x.shape, *[_statistic_shape(x, over)] * 3, *scratch)


def _norm_vjp(pullback, cts, ans, x, over):
    """Return the thunks of x, gamma and beta; `pullback` pulls back the cotangent of y."""
    ct, ct_mean, ct_variance, ct_rstd = cts[:4]
    mean, rstd = ans[1], ans[3]
    pulled = []

    def pull(i):
        if not pulled:
            pulled.extend(pullback(ct)[:3])
        return pulled[i]

    def dx():
        terms = [] if ct is None else [pull(0)]
        of_variance = [] if ct_variance is None else [ct_variance]
        if ct_rstd is not None:
            of_variance.append(ct_rstd * (-0.5 * rstd * rstd * rstd))
        n = math.prod(shape(x)[a] for a in _axes(x, over))
        if of_variance:
            centred = x - _expand(mean, x, over)
            terms.append(centred * _expand(total(of_variance) * (2.0 / n), x, over))
        if ct_mean is not None:
            terms.append(broadcast_to(_expand(ct_mean * (1.0 / n), x, over), shape(x)))
        return match(total(terms), x)

    if ct is None:
        return dx, None, None
    return dx, lambda: pull(1), lambda: pull(2)


def _norm(name, over, composed, pullback):
    """Return the primitive that normalises over some axes."""
    n_out = 5 if over == "rows" else 4

    def lower(args, outs, eps, over):
        return member_call(
            getattr(_kernels(), name), (*args, np.array([eps], outs[0].dtype)), outs
        )

    def vjp(cts, ans, x, gamma, beta, eps, over):
        return _norm_vjp(lambda ct: pullback(ct, ans, x, gamma, beta), cts, ans, x, over)

    norm = Primitive(
        name,
        n_out=n_out,
        shape=_norm_shapes,
        dtype=lambda x, *_: (x.dtype,) * 4 + (np.dtype(np.float64),) * (n_out - 4),
        lower=lower,
    )
    return norm.rules(vjp, _by_composition(norm, composed).jvp)


def _norm_pullback(name, composed):
    """Return the primitive of a pullback: the cotangents of x, gamma and beta, and scratch."""
    return _by_composition(
        Primitive(
            name,
            n_out=4,
            shape=lambda ct, x, gamma, *_, over: (x.shape, *[gamma.shape] * 2, _sums_shape(x)),
            dtype=lambda ct, x, *_: (x.dtype,) * 3 + (np.dtype(np.float64),),
            lower=lambda args, outs, over: member_call(getattr(_kernels(), name), args, outs),
        ),
        composed,
    )


_batch_norm_pullback = _norm_pullback("batch_norm_pullback", composed_pullback)
_batch_norm_relu_pullback = _norm_pullback("batch_norm_relu_pullback", composed_relu_pullback)
_layer_norm_pullback = _norm_pullback("layer_norm_pullback", composed_pullback)
_batch_norm = _norm(
    "batch_norm",
    "rows",
    composed_norm,
    lambda ct, ans, x, gamma, beta: _batch_norm_pullback(
        ct, x, gamma, ans[1], ans[3], over="rows"
    ),
)
_batch_norm_relu = _norm(
    "batch_norm_relu",
    "rows",
    composed_norm_relu,
    lambda ct, ans, x, gamma, beta: _batch_norm_relu_pullback(
        ct, x, gamma, beta, ans[1], ans[3], over="rows"
    ),
)
_layer_norm = _norm(
    "layer_norm",
    "channels",
    composed_norm,
    lambda ct, ans, x, gamma, beta: _layer_norm_pullback(
        ct, x, gamma, ans[1], ans[3], over="channels"
    ),
)
_BATCH_NORMS = {"identity": _batch_norm, "relu": _batch_norm_relu}


def _lower_normalize(args, outs, eps):
    return member_call(_kernels().normalize, (*args, np.array([eps], outs[0].dtype)), outs)


def _composed_normalize(x, mean, variance, gamma, beta, eps):
    return (_normalize(x, mean, 1.0 / np.sqrt(variance + eps), gamma, beta, "rows"),)


_normalize_p = _by_composition(
    Primitive(
        "normalize",
        n_out=2,
        shape=lambda x, *_, eps: (x.shape, (x.shape[0], x.shape[-1])),
        dtype=lambda x, *_: (x.dtype,) * 2,
        lower=_lower_normalize,
    ),
    _composed_normalize,
)


# ---- the functions ------------------------------------------------------------------------------


def _check(x, eps, least, **per_channel):
    s, dtype = shape(x), getattr(x, "dtype", None)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"x has dtype {dtype or type(x)}; pass a float32 or float64 array")
    if len(s) < least:
        raise ValueError(
            f"x has shape {s}; it must have at least {least} axes, the first of members and the "
            "last of channels"
        )
    if 0 in s[1:]:
        raise ValueError(f"x has shape {s}; there is nothing to take a mean of")
    if not eps > 0:
        raise ValueError(
            f"eps={eps!r} must be positive: it is all that divides where x is constant"
        )
    for name, a in per_channel.items():
        if shape(a) != (s[0], s[-1]) or getattr(a, "dtype", None) != dtype:
            raise ValueError(
                f"{name} has shape {shape(a)} and dtype {getattr(a, 'dtype', type(a).__name__)}; "
                f"with x of shape {s} it must have shape {(s[0], s[-1])} and dtype {dtype}"
            )
    return float(eps)


def batch_norm(x, gamma, beta, *, eps=1e-5, activation="identity"):
    """Normalise every channel over the batch (and positions), in training.

    Parameters
    ----------
    x : array of shape (n_members, n_samples, ..., n_channels)
        The inputs, float32 or float64.
    gamma, beta : array of shape (n_members, n_channels)
        The scale and the shift, with the dtype of `x`.
    eps : float, default=1e-5
        What is added to the variance; positive, so that one sample or a constant channel gives
        `beta` and never NaN.
    activation : {"identity", "relu"}, default="identity"
        The activation that is fused into the passes, forth and back.

    Returns
    -------
    y : array of the shape of `x`
        ``(x - mean) / sqrt(variance + eps) * gamma + beta``, activated.
    mean, variance : array of shape (n_members, n_channels)
        The statistics of each member over all axes between the first and the last; the variance
        is divided by the number of values. Their derivatives are supported as well.

    Raises
    ------
    TypeError
        If `x` is not a floating array.
    ValueError
        If a shape or a dtype does not fit, an axis is empty, `eps` is not positive, or the
        activation is another one.

    Notes
    -----
    Sums run over blocks of rows in the dtype of `x` and in float64 over the blocks; the variance
    is summed around a running mean (Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance", The American Statistician 37, 1983), without cancellation.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.norm import batch_norm
    >>> x = np.array([[[1.0], [3.0]]])
    >>> y, mean, variance = batch_norm(x, np.ones((1, 1)), np.zeros((1, 1)), eps=1e-9)
    >>> y.ravel(), mean.ravel(), variance.ravel()
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    eps = _check(x, eps, 3, gamma=gamma, beta=beta)
    if activation not in _BATCH_NORMS:
        raise ValueError(f"activation={activation!r} must be one of {sorted(_BATCH_NORMS)}")
    return _BATCH_NORMS[activation](x, gamma, beta, eps=eps, over="rows")[:3]


def normalize(x, mean, variance, gamma, beta, *, eps=1e-5):
    """Normalise every channel by given statistics: batch normalisation at inference.

    Parameters
    ----------
    x : array of shape (n_members, n_samples, ..., n_channels)
        The inputs, float32 or float64.
    mean, variance, gamma, beta : array of shape (n_members, n_channels)
        The (running) statistics, the scale and the shift, with the dtype of `x`.
    eps : float, default=1e-5
        What is added to the variance; positive.

    Returns
    -------
    array of the shape of `x`
        ``(x - mean) / sqrt(variance + eps) * gamma + beta``.

    Raises
    ------
    TypeError, ValueError
        As in `batch_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.norm import normalize
    >>> one = np.ones((1, 1))
    >>> normalize(np.array([[[5.0], [7.0]]]), 3 * one, 4 * one, one, 0 * one, eps=1e-9).ravel()
    array([1., 2.])
    """
    eps = _check(x, eps, 2, mean=mean, variance=variance, gamma=gamma, beta=beta)
    return _normalize_p(x, mean, variance, gamma, beta, eps=eps)[0]


def layer_norm(x, gamma, beta, *, eps=1e-5):
    """Normalise every sample (and position) over its channels.

    Parameters
    ----------
    x : array of shape (n_members, ..., n_channels)
        The inputs, float32 or float64.
    gamma, beta : array of shape (n_members, n_channels)
        The scale and the shift, with the dtype of `x`.
    eps : float, default=1e-5
        What is added to the variance; positive.

    Returns
    -------
    array of the shape of `x`

    Raises
    ------
    TypeError, ValueError
        As in `batch_norm`.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.norm import layer_norm
    >>> layer_norm(np.array([[[1.0, 3.0]]]), np.ones((1, 2)), np.zeros((1, 2)), eps=1e-9)
    array([[[-1.,  1.]]])
    """
    eps = _check(x, eps, 2, gamma=gamma, beta=beta)
    return _layer_norm(x, gamma, beta, eps=eps, over="channels")[0]
