"""Fused primitives of networks: dense layers and their matrix products.

All leading axes are members: x (M, B, I), w (M, I, O), b (M, O). Each fused primitive has its
NumPy composition as reference; the derivative rules are written in primitives, so that any order
works.
"""

import numpy as np

from skdeep.autodiff._trace import Primitive, ndim, shape, total
from skdeep.autodiff.ops.shape import broadcast_to, linear_op, reshape, sum_, sum_to


def stacked(a, n):
    """Return the array with leading axes of one until it has n axes."""
    return a if a.ndim == n else a.reshape((1,) * (n - a.ndim) + a.shape)


def rows_contiguous(a):
    """Whether the last two axes are a C-contiguous matrix (leading axes may have any stride)."""
    if a.ndim < 2:
        return a.flags.c_contiguous
    rows, columns = a.shape[-2:]
    return (columns <= 1 or a.strides[-1] == a.itemsize) and (
        rows <= 1 or a.strides[-2] == columns * a.itemsize
    )


def native(*matrices, vectors=()):
    """Whether the kernels take these: one floating dtype, plain matrices and vectors."""
    dtype = matrices[0].dtype
    if dtype not in (np.float32, np.float64):
        return False
    rows = [v[..., None, :] if isinstance(v, np.ndarray) and v.ndim else v for v in vectors]
    return all(
        isinstance(a, np.ndarray)
        and a.dtype == dtype
        and a.ndim <= 3
        and a.flags.writeable  # numba's types know "read-only"
        and rows_contiguous(a)
        for a in (*matrices, *rows)
    )


# ---- matrix products with transposes -----------------------------------------------------------


def _turn(x, transposed):
    return np.swapaxes(x, -1, -2) if transposed else x


def _product_shape(x, y, ta, tb):
    rows, k = x.shape[-2:][::-1] if ta else x.shape[-2:]
    k2, columns = y.shape[-2:][::-1] if tb else y.shape[-2:]
    if k != k2:
        raise ValueError(f"matrix product of {x.shape} and {y.shape} (transposed: {ta}, {tb})")
    return (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, columns)


def _product_reference(x, y, out, ta, tb):
    np.matmul(_turn(x, ta), _turn(y, tb), out=out)


def _lower_product(args, outs, ta, tb):
    x, y = args
    if native(outs[0], x, y):
        from skdeep._kernels.cpu.dense import product as kernel

        x, y, out = (stacked(a, 3) for a in (x, y, outs[0]))
        return kernel[out.dtype], (x, int(ta), y, int(tb), out)
    return (lambda x, y, out: _product_reference(x, y, out, ta, tb)), (x, y, outs[0])


def _product_left(ct, x, y, ta, tb):
    # d op(x) = ct @ op(y)^T, turned back where x is transposed.
    g = product(y, ct, ta=tb, tb=True) if ta else product(ct, y, ta=False, tb=not tb)
    return sum_to(g, shape(x))


def _product_right(ct, x, y, ta, tb):
    g = product(ct, x, ta=True, tb=ta) if tb else product(x, ct, ta=not ta, tb=False)
    return sum_to(g, shape(y))


_product = linear_op(
    Primitive("product", shape=_product_shape, lower=_lower_product), _product_left, _product_right
)


def product(x, y, *, ta=False, tb=False):
    """Return op(x) @ op(y) over the last two axes, where op may transpose."""
    return _product(x, y, ta=ta, tb=tb)


# ---- dense layers ------------------------------------------------------------------------------


def _logistic(z):
    return 1 / (1 + np.exp(-z))


#: Activations whose slope follows from the output: function, slope(y), and d slope / d y.
FUSED = {
    "identity": (lambda z: z, lambda y: np.ones_like(y), None),
    "relu": (lambda z: np.maximum(z, 0), lambda y: y > 0, None),
    "tanh": (np.tanh, lambda y: 1 - y * y, lambda y: -2.0 * y),
    "logistic": (_logistic, lambda y: y * (1 - y), lambda y: 1.0 - 2.0 * y),
}


def _linear_reference(x, w, b, out, activation):
    with np.errstate(over="ignore"):
        np.copyto(out, FUSED[activation][0](np.matmul(x, w) + np.expand_dims(b, -2)))


def _lower_linear(args, outs, activation):
    x, w, b = args
    if native(outs[0], x, w, vectors=(b,)):
        from skdeep._kernels.cpu import dense

        code, out = dense.FUSED_ACTIVATIONS[activation], stacked(outs[0], 3)
        kernel = dense.linear if code < 2 else dense.linear_sigmoid
        return kernel[out.dtype], (
            stacked(x, 3),
            stacked(w, 3),
            stacked(b, 2),
            code,
            out,
        )
    return (lambda x, w, b, out: _linear_reference(x, w, b, out, activation)), (*args, outs[0])


def _linear_shape(x, w, b, activation):
    if x.shape[-1] != w.shape[-2] or w.shape[-1] != b.shape[-1]:
        raise ValueError(f"linear: x {x.shape}, w {w.shape} and b {b.shape} do not fit")
    return (*np.broadcast_shapes(x.shape[:-2], w.shape[:-2]), x.shape[-2], w.shape[-1])


_linear = Primitive("linear", shape=_linear_shape, lower=_lower_linear)


def _pullback_reference(ct, y, dz, db, activation):
    np.multiply(ct, FUSED[activation][1](y), out=dz)
    np.sum(dz, -2, out=db)


def _lower_pullback(args, outs, activation):
    if native(outs[0], *args, vectors=(outs[1],)):
        from skdeep._kernels.cpu import dense

        ct, y = args
        dz, db = outs
        code = dense.FUSED_ACTIVATIONS[activation]
        kernel = dense.linear_pullback if code < 2 else dense.linear_sigmoid_pullback
        return kernel[dz.dtype], (
            stacked(ct, 3),
            stacked(y, 3),
            code,
            stacked(dz, 3),
            stacked(db, 2),
        )
    return (lambda ct, y, dz, db: _pullback_reference(ct, y, dz, db, activation)), (*args, *outs)


_linear_pullback = Primitive(
    "linear_pullback",
    n_out=2,
    inplace=(0,),  # its kernels begin with a copy of ct to the result, and read y afterwards
    shape=lambda ct, y, activation: (y.shape, (*y.shape[:-2], y.shape[-1])),
    lower=_lower_pullback,
)


def _row(b):
    """Return biases as one row per member, to broadcast over the batch."""
    s = shape(b)
    return reshape(b, (*s[:-1], 1, s[-1]))


def _linear_vjp(ct, y, x, w, b, activation):
    dz, db = _linear_pullback(ct, y, activation=activation)
    return (
        lambda: sum_to(product(dz, w, tb=True), shape(x)),
        lambda: sum_to(product(x, dz, ta=True), shape(w)),
        lambda: sum_to(db, shape(b)),
    )


def _linear_jvp(tangents, y, x, w, b, activation):
    tx, tw, tb = tangents
    tz = total(
        [
            None if tx is None else product(tx, w),
            None if tw is None else product(x, tw),
            None if tb is None else _row(tb),
        ]
    )
    return _linear_pullback(broadcast_to(tz, shape(y)), y, activation=activation)[0]


def _pullback_vjp(cts, ans, ct, y, activation):
    c = total([cts[0], None if cts[1] is None else _row(cts[1])])
    c = broadcast_to(c, shape(y))
    curve = FUSED[activation][2]
    return (
        lambda: _linear_pullback(c, y, activation=activation)[0],
        curve and (lambda: c * ct * curve(y)),
    )


def _pullback_jvp(tangents, ans, ct, y, activation):
    tct, ty = tangents
    curve = FUSED[activation][2]
    dz = total(
        [
            None if tct is None else _linear_pullback(tct, y, activation=activation)[0],
            None if ty is None else (ct * ty * curve(y) if curve else 0.0 * ty),
        ]
    )
    return dz, sum_(dz, -2)


_linear.rules(_linear_vjp, _linear_jvp)
_linear_pullback.rules(_pullback_vjp, _pullback_jvp)


def linear(x, w, b, *, activation="identity"):
    """Return activation(x @ w + b).

    Parameters
    ----------
    x : array of shape (..., n_samples, fan_in)
        The inputs; leading axes are members.
    w : array of shape (..., fan_in, units)
        The weights.
    b : array of shape (..., units)
        The biases.
    activation : {"identity", "relu", "tanh", "logistic"}, default="identity"
        The activation that is fused into the product.

    Returns
    -------
    array of shape (..., n_samples, units)

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops import linear
    >>> linear(np.eye(2), np.array([[1.0, -2.0], [3.0, 4.0]]), np.zeros(2), activation="relu")
    array([[1., 0.],
           [3., 4.]])
    """
    if activation not in FUSED:
        raise ValueError(f"activation={activation!r} must be one of {sorted(FUSED)}")
    if ndim(b) > 2 or ndim(w) > 3:
        raise ValueError("linear takes at most one member axis: w (M, I, O), b (M, O)")
    return _linear(x, w, b, activation=activation)


# ---- running statistics ------------------------------------------------------------------------


def _lower_average(args, outs, momentum):
    old, new = args
    if native(*(a[..., None, :] for a in (outs[0], old, new))):
        from skdeep._kernels.cpu.elementwise import blend

        out = stacked(outs[0], 2)
        share = np.array([momentum, 1.0 - momentum], out.dtype)
        return blend[out.dtype], (stacked(old, 2), stacked(new, 2), share, out)
    return (lambda old, new, out: np.copyto(out, momentum * old + (1.0 - momentum) * new)), (
        old,
        new,
        outs[0],
    )


_average = Primitive(
    "moving_average", shape=lambda old, new, momentum: old.shape, lower=_lower_average
)
_average.rules(
    lambda ct, ans, old, new, momentum: [lambda: ct * momentum, lambda: ct * (1.0 - momentum)],
    lambda tangents, ans, old, new, momentum: total(
        [
            None if t is None else t * share
            for t, share in zip(tangents, (momentum, 1.0 - momentum), strict=True)
        ]
    ),
)


def moving_average(old, new, *, momentum):
    """Return momentum * old + (1 - momentum) * new, for statistics of shape (M, C)."""
    return _average(old, new, momentum=momentum)
