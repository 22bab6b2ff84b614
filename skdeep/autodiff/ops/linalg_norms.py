"""Norms, condition numbers, and products of several matrices."""

from functools import lru_cache

import numpy as np

from skdeep.autodiff._trace import ndim, shape
from skdeep.autodiff.ops._implements import as_array, implements
from skdeep.autodiff.ops.elementwise import safe_sqrt, where
from skdeep.autodiff.ops.linalg import inv_p, square_shape, svdvals_p
from skdeep.autodiff.ops.products import matmul, matmul_p
from skdeep.autodiff.ops.reduce import max_, min_
from skdeep.autodiff.ops.shape import (
    broadcast_to,
    cast,
    expand_dims,
    moveaxis,
    normal_axes,
    ravel,
    sum_,
)


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """Return the norm of vectors or matrices; the derivative at zero is zero."""
    x, n = as_array(x), ndim(x)
    if axis is None:
        if ord is None or n == 1:
            out = _vector_norm(ravel(x), 2 if ord is None else ord, (0,))
            return expand_dims(out, tuple(range(n))) if keepdims else out
        axis = tuple(range(n))
    axes = normal_axes(axis, n)
    if len(axes) == 1 or (ord is None and len(axes) == 2):
        out = _vector_norm(x, 2 if ord is None else ord, axes)
    elif len(axes) == 2:
        out = _matrix_norm(moveaxis(x, axes, (-2, -1)), ord)
    else:
        raise ValueError(f"numpy.linalg.norm: axis={axis} must name one or two axes")
    return expand_dims(out, axes) if keepdims else out


def _vector_norm(x, p, axes):
    size = np.abs(x)
    if p == np.inf:
        return max_(size, axes)
    if p == -np.inf:
        return min_(size, axes)
    if p == 0:
        return sum_(cast(np.not_equal(x, 0), x.dtype), axes)
    if p == 1:
        return sum_(size, axes)
    if p == 2:
        return safe_sqrt(sum_(np.square(x), axes))
    if isinstance(p, str):
        raise ValueError(f"numpy.linalg.norm: ord={p!r} is not a norm of vectors")
    powers = sum_(np.power(size, p), axes)
    zero = np.equal(powers, 0)
    return where(zero, 0.0, np.power(where(zero, 1.0, powers), 1.0 / p))


def _matrix_norm(x, p):
    if p == "fro":
        return _vector_norm(x, 2, (ndim(x) - 2, ndim(x) - 1))
    if p == "nuc":
        return sum_(svdvals_p(x), -1)
    if p in (2, -2):
        s = svdvals_p(x)
        return s[..., 0] if p == 2 else s[..., -1]
    if p in (1, -1, np.inf, -np.inf):
        sums = sum_(np.abs(x), -2 if abs(p) == 1 else -1)
        return (max_ if p > 0 else min_)(sums, -1)
    raise ValueError(
        f"numpy.linalg.norm: ord={p!r} is not a norm of matrices; use 'fro', 'nuc', 1, -1, 2, "
        "-2, inf or -inf"
    )


@implements(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """Return the norm of vectors that may span several axes."""
    axes = normal_axes(axis, ndim(x))
    out = _vector_norm(x, ord, axes)
    return expand_dims(out, axes) if keepdims else out


@implements(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """Return the norm of matrices."""
    return norm(x, ord, (-2, -1), keepdims)


@implements(np.linalg.cond)
def cond(x, p=None):
    """Return the condition number."""
    if p is None or p in (2, -2):
        s = svdvals_p(x)
        return s[..., 0] / s[..., -1] if p != -2 else s[..., -1] / s[..., 0]
    return norm(x, p, (-2, -1)) * norm(inv_p(x), p, (-2, -1))


# ---- products of several ----------------------------------------------------------------------


@implements(np.linalg.matrix_power)
def matrix_power(a, n):
    """Return the matrix power, by repeated squaring."""
    square_shape(a)
    if n < 0:
        a, n = inv_p(a), -n
    out = None
    while n:
        if n % 2:
            out = a if out is None else matmul_p(out, a)
        n //= 2
        a = matmul_p(a, a) if n else a
    return broadcast_to(np.eye(shape(a)[-1], dtype=a.dtype), shape(a)) if out is None else out


@implements(np.linalg.multi_dot)
def multi_dot(arrays, *, out=None):
    """Return the product of several matrices in the cheapest order."""
    arrays = [as_array(a) for a in arrays]
    sizes = [shape(a)[0] if ndim(a) == 2 else 1 for a in arrays]
    sizes[0] = shape(arrays[0])[0] if ndim(arrays[0]) == 2 else 1
    sizes += [shape(arrays[-1])[1] if ndim(arrays[-1]) == 2 else 1]
    if ndim(arrays[-1]) == 1:
        sizes[-2] = shape(arrays[-1])[0]

    @lru_cache(None)
    def best(i, j):
        """Return the cost of multiplying arrays i to j, and where to cut."""
        if i == j:
            return 0, i
        cuts = (
            (best(i, k)[0] + best(k + 1, j)[0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
            for k in range(i, j)
        )
        return min(cuts)

    def multiply(i, j):
        if i == j:
            return arrays[i]
        k = best(i, j)[1]
        return matmul(multiply(i, k), multiply(k + 1, j))

    return multiply(0, len(arrays) - 1)


@implements(np.linalg.matrix_rank)
def matrix_rank(A, tol=None):
    """Return the rank, which is a constant."""
    s = svdvals_p(A)
    if tol is None:
        tol = max_(s, -1, keepdims=True) * (max(shape(A)[-2:]) * float(np.finfo(A.dtype).eps))
    return np.count_nonzero(np.greater(s, tol), axis=-1)
