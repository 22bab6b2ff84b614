"""Local response normalisation: channels at one position compete, fused, with its derivatives."""

from numbers import Integral

import numpy as np

from skdeep.autodiff._trace import Primitive, shape, total
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.norm import _by_composition
from skdeep.autodiff.ops.shape import match

# ---- the compositions ---------------------------------------------------------------------------


def _neighbours(a, half):
    """Return the sum over the channels at most `half` apart."""
    c = shape(a)[-1]
    near = np.abs(np.subtract.outer(np.arange(c), np.arange(c))) <= half
    return np.matmul(a, near.astype(a.dtype))


def composed_lrn(x, half, bias, alpha, beta):
    """Return (y, scale) in NumPy functions."""
    scale = bias + alpha * _neighbours(x * x, half)
    return x * scale**-beta, scale


def composed_pullback(ct, x, scale, half, bias, alpha, beta):
    """Return the cotangent of x where `scale` depends on x, in NumPy functions, as a tuple."""
    share = ct * scale**-beta
    return (share - 2.0 * alpha * beta * x * _neighbours(share * x / scale, half),)


# ---- the primitives -----------------------------------------------------------------------------


def _kernels():
    from skdeep._kernels.cpu import lrn

    return lrn


def _settings(out, bias, alpha, beta):
    return np.array([bias, alpha, beta], out.dtype)


def _lower_lrn(args, outs, half, **numbers):
    settings = _settings(outs[0], **numbers)
    return member_call(_kernels().local_response_norm, (*args, settings, half), outs)


def _lower_pullback(args, outs, half, **numbers):
    settings = _settings(outs[0], **numbers)
    return member_call(_kernels().local_response_norm_pullback, (*args, settings, half), outs)


def _same_dtype(n):
    return lambda x, *_: (x.dtype,) * n


_lrn = Primitive(
    "local_response_norm",
    n_out=3,
    shape=lambda x, **_: (x.shape, x.shape, (x.shape[0], x.shape[-1])),
    dtype=_same_dtype(3),
    lower=_lower_lrn,
)
_pullback = _by_composition(
    Primitive(
        "local_response_norm_pullback",
        n_out=2,
        shape=lambda ct, x, scale, **_: (x.shape, (x.shape[0], 2 * x.shape[-1])),
        dtype=_same_dtype(2),
        lower=_lower_pullback,
    ),
    composed_pullback,
)


def _lrn_vjp(cts, ans, x, half, bias, alpha, beta):
    ct, ct_scale = cts[:2]

    def dx():
        terms = []
        if ct is not None:
            kw = dict(half=half, bias=bias, alpha=alpha, beta=beta)
            terms.append(_pullback(ct, x, ans[1], **kw)[0])
        if ct_scale is not None:
            terms.append(2.0 * alpha * x * _neighbours(ct_scale, half))
        return match(total(terms), x)

    return [dx]


_lrn.rules(_lrn_vjp, _by_composition(_lrn, composed_lrn).jvp)


# ---- the function -------------------------------------------------------------------------------


def local_response_normalization(x, *, depth_radius, bias, alpha, beta):
    """Divide each channel by a power of the energy of its neighbours.

    Parameters
    ----------
    x : array of shape (n_members, n_samples, ..., n_channels)
        The inputs, float32 or float64.
    depth_radius : int
        The number r of neighbours: channel i competes with those from ``i - r // 2`` to
        ``i + r // 2``, as far as there are such channels. With r = 5 they are five, itself among
        them, with r = 2 three.
    bias : float
        The number k that is added to the energy; positive.
    alpha : float
        The weight of the energy; not negative.
    beta : float
        The exponent.

    Returns
    -------
    array of the shape of `x`
        ``x[..., i] * (bias + alpha * sum_j x[..., j]**2) ** -beta``.

    Raises
    ------
    TypeError
        If `x` is not a floating array.
    ValueError
        If a number is out of range, or `x` has fewer than two axes.

    References
    ----------
    A. Krizhevsky, I. Sutskever and G. E. Hinton, "ImageNet classification with deep convolutional
    neural networks", NeurIPS 2012, section 3.3 (their n is r for an odd r);
    A. Geron, *Hands-on Machine Learning with Scikit-Learn and TensorFlow* (2017), equation 13-2.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.lrn import local_response_normalization
    >>> x = np.array([[[1.0, 2.0, 0.0, 0.0]]])
    >>> local_response_normalization(x, depth_radius=2, bias=1.0, alpha=1.0, beta=1.0)
    array([[[0.16666667, 0.33333333, 0.        , 0.        ]]])
    """
    s, dtype = shape(x), getattr(x, "dtype", None)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"x has dtype {dtype or type(x)}; pass a float32 or float64 array")
    if len(s) < 2:
        raise ValueError(f"x has shape {s}; it must have an axis of members and one of channels")
    if (
        isinstance(depth_radius, bool)
        or not isinstance(depth_radius, Integral)
        or depth_radius < 0
    ):
        raise ValueError(f"depth_radius={depth_radius!r} must be an integer >= 0")
    if not bias > 0:
        raise ValueError(f"bias={bias!r} must be positive: it is all that divides where x is zero")
    if not alpha >= 0:
        raise ValueError(f"alpha={alpha!r} must not be negative")
    if not np.isfinite(beta):
        raise ValueError(f"beta={beta!r} must be finite")
    kw = dict(bias=float(bias), alpha=float(alpha), beta=float(beta))
    return _lrn(x, half=int(depth_radius) // 2, **kw)[0]
