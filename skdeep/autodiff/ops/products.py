"""Products of vectors, matrices and tensors."""

import numpy as np

from skdeep.autodiff._trace import Primitive, ndim, shape
from skdeep.autodiff.ops._implements import as_array, implements
from skdeep.autodiff.ops.elementwise import times
from skdeep.autodiff.ops.index import flip
from skdeep.autodiff.ops.shape import (
    expand_dims,
    index,
    linear_op,
    moveaxis,
    normal_axes,
    ravel,
    reshape,
    sum_,
    sum_to,
    swap,
    transpose,
    unindex,
)


def _matmul_shape(a, b):
    a, b = shape(a), shape(b)
    if a[-1] != b[-2]:
        raise ValueError(f"matmul of shapes {a} and {b}: {a[-1]} columns, but {b[-2]} rows")
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


#: The product of stacks of matrices (..., i, j) and (..., j, k).
matmul_p = linear_op(
    Primitive(
        "matmul",
        shape=_matmul_shape,
        lower=lambda args, outs: (np.matmul, (*args, outs[0])),
    ),
    lambda ct, a, b: sum_to(matmul_p(ct, swap(b)), shape(a)),
    lambda ct, a, b: sum_to(matmul_p(swap(a), ct), shape(b)),
)


@implements(np.matmul, np.linalg.matmul)
def matmul(x1, x2):
    """Multiply (stacks of) matrices; vectors are rows on the left and columns on the right."""
    a, b = as_array(x1), as_array(x2)
    if ndim(a) == 0 or ndim(b) == 0:
        raise ValueError("numpy.matmul does not take a number; use numpy.multiply")
    out = matmul_p(
        expand_dims(a, 0) if ndim(a) == 1 else a, expand_dims(b, 1) if ndim(b) == 1 else b
    )
    s = shape(out)
    if ndim(a) == 1:
        s = (*s[:-2], s[-1])
    return reshape(out, s[:-1] if ndim(b) == 1 else s)


@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a, b, axes=2):
    """Sum the products of elements over pairs of axes."""
    a, b = as_array(a), as_array(b)
    if np.ndim(axes) == 0:
        axes = range(ndim(a) - axes, ndim(a)), range(axes)
    left, right = (
        normal_axes(tuple(np.atleast_1d(list(x) if np.ndim(x) else x).tolist()), ndim(y))
        for x, y in zip(axes, (a, b), strict=True)
    )
    if [shape(a)[i] for i in left] != [shape(b)[i] for i in right]:
        raise ValueError(
            f"numpy.tensordot: axes {left} of shape {shape(a)} do not fit axes {right} of shape "
            f"{shape(b)}"
        )
    rows = [i for i in range(ndim(a)) if i not in left]
    columns = [i for i in range(ndim(b)) if i not in right]
    n = int(np.prod([shape(a)[i] for i in left]))
    s = [shape(a)[i] for i in rows] + [shape(b)[i] for i in columns]
    p = int(np.prod([shape(a)[i] for i in rows]))
    q = int(np.prod([shape(b)[i] for i in columns]))
    x = reshape(transpose(a, (*rows, *left)), (p, n))
    y = reshape(transpose(b, (*right, *columns)), (n, q))
    return reshape(matmul_p(x, y), s)


@implements(np.dot)
def dot(a, b, out=None):
    """Sum products over the last axis of `a` and the last but one of `b`."""
    a, b = as_array(a), as_array(b)
    if ndim(a) == 0 or ndim(b) == 0:
        return np.multiply(a, b)
    if ndim(b) < 3:
        return matmul(a, b)
    return tensordot(a, b, ((-1,), (ndim(b) - 2,)))


@implements(np.inner)
def inner(a, b):
    """Sum products over the last axes."""
    a, b = as_array(a), as_array(b)
    if ndim(a) == 0 or ndim(b) == 0:
        return np.multiply(a, b)
    return tensordot(a, b, ((-1,), (-1,)))


@implements(np.vdot)
def vdot(a, b):
    """Sum the products of the flat arrays."""
    return dot(ravel(as_array(a)), ravel(as_array(b)))


@implements(np.vecdot)
def vecdot(x1, x2, *, axis=-1):
    """Sum products over one axis, the others broadcasting."""
    x1, x2 = moveaxis(as_array(x1), axis, -1), moveaxis(as_array(x2), axis, -1)
    return sum_(times(x1, x2), -1)


@implements(np.linalg.vecdot)
def _linalg_vecdot(x1, x2, /, *, axis=-1):
    return vecdot(x1, x2, axis=axis)


if hasattr(np, "matvec"):

    @implements(np.matvec)
    def matvec(x1, x2):
        """Multiply stacks of matrices and vectors."""
        out = matmul_p(as_array(x1), expand_dims(as_array(x2), -1))
        return reshape(out, shape(out)[:-1])

    @implements(np.vecmat)
    def vecmat(x1, x2):
        """Multiply stacks of vectors and matrices."""
        out = matmul_p(expand_dims(as_array(x1), -2), as_array(x2))
        return reshape(out, (*shape(out)[:-2], shape(out)[-1]))


@implements(np.outer)
def outer(a, b, out=None):
    """Return the products of all pairs of elements of the flat arrays."""
    return np.multiply(reshape(as_array(a), (-1, 1)), ravel(as_array(b)))


@implements(np.linalg.outer)
def _linalg_outer(x1, x2, /):
    return outer(x1, x2)


@implements(np.kron)
def kron(a, b):
    """Return the Kronecker product."""
    a, b = as_array(a), as_array(b)
    n = max(ndim(a), ndim(b))
    s, t = ((1,) * (n - ndim(x)) + shape(x) for x in (a, b))
    wide = np.multiply(
        reshape(a, tuple(d for k in s for d in (k, 1))),
        reshape(b, tuple(d for k in t for d in (1, k))),
    )
    return reshape(wide, tuple(p * q for p, q in zip(s, t, strict=True)))


@implements(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Return the vector product of vectors of three components."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(as_array(a), axisa, -1), moveaxis(as_array(b), axisb, -1)
    if shape(a)[-1] != 3 or shape(b)[-1] != 3:
        raise ValueError(f"numpy.cross needs vectors of 3 components: {shape(a)}, {shape(b)}")

    def turned(x, *order):
        return index(x, key=(..., np.array(order)))

    left = np.multiply(turned(a, 1, 2, 0), turned(b, 2, 0, 1))
    right = np.multiply(turned(a, 2, 0, 1), turned(b, 1, 2, 0))
    return moveaxis(left - right, -1, axisc)


@implements(np.linalg.cross)
def _linalg_cross(x1, x2, /, *, axis=-1):
    return cross(x1, x2, axis=axis)


@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    """Return the sum of the diagonal."""
    return sum_(np.diagonal(a, offset, axis1, axis2), -1)


@implements(np.linalg.trace)
def _linalg_trace(x, /, *, offset=0, dtype=None):
    return trace(x, offset, -2, -1)


@implements(np.convolve)
def convolve(a, v, mode="full"):
    """Return the discrete convolution of two sequences."""
    a, v = as_array(a), as_array(v)
    if shape(v)[0] > shape(a)[0]:
        a, v = v, a
    n, m = shape(a)[0], shape(v)[0]
    lengths = {"full": n + m - 1, "same": n, "valid": n - m + 1}
    if mode not in lengths:
        raise ValueError(f"numpy.convolve: mode={mode!r} must be one of {list(lengths)}")
    places = np.arange(n)[:, None] + np.arange(m)
    full = unindex(outer(a, v), key=(places,), shape=(n + m - 1,))
    start = (n + m - 1 - lengths[mode]) // 2
    return index(full, key=(slice(start, start + lengths[mode]),))


@implements(np.correlate)
def correlate(a, v, mode="valid"):
    """Return the cross-correlation of two sequences."""
    return convolve(a, flip(as_array(v)), mode)


@implements(np.polyval)
def polyval(p, x):
    """Evaluate a polynomial by Horner's rule; the highest power first."""
    y = np.zeros_like(x)
    for c in p:
        y = y * x + c
    return y
