"""Dense layers: matrix product, bias and activation in one call, and the way back."""

import numpy as np

from skdeep._kernels.cpu._numba import as_c, helper, kernel, njit_inline
from skdeep._kernels.cpu.gemm import gemm
from skdeep._kernels.scalar import logistic, tanh

#: Activations that `linear` applies on the way out, because their slope follows from the output.
FUSED_ACTIVATIONS = {"identity": 0, "relu": 1, "tanh": 2, "logistic": 3}


@njit_inline
def _multiply(x, w, m, y):
    """y = x[m] @ w[m]; either may be shared by the members."""
    xm, wm = as_c(x[m if x.shape[0] > 1 else 0]), as_c(w[m if w.shape[0] > 1 else 0])
    rows, units, fan_in = y.shape[0], y.shape[1], x.shape[2]
    gemm(False, False, rows, units, fan_in, xm, fan_in, wm, units, y, units)


@kernel("f3 f3 f2 i f3")
def linear(x, w, b, activation, out):
    """out = activation(x @ w + b), the activation identity (0) or ReLU (1).

    x (1|M, B, I), w (M, I, O), b (M, O), out (M, B, O).
    """
    for m in range(out.shape[0]):
        y, bm = as_c(out[m]), as_c(b[m if b.shape[0] > 1 else 0])
        _multiply(x, w, m, y)
        for i in range(y.shape[0]):
            r = y[i]
            if activation == 1:
                for j in range(r.size):
                    v = r[j] + bm[j]
                    r[j] = 0 if v < 0 else v  # keeps NaN
            else:
                for j in range(r.size):
                    r[j] += bm[j]


@kernel("f3 f3 f2 i f3")
def linear_sigmoid(x, w, b, activation, out):
    """As `linear`, the activation tanh (2) or logistic (3).

    A kernel of its own, so that nets of ReLUs do not compile the exponentials.
    """
    T = out.dtype.type
    for m in range(out.shape[0]):
        y, bm = as_c(out[m]), as_c(b[m if b.shape[0] > 1 else 0])
        _multiply(x, w, m, y)
        for i in range(y.shape[0]):
            r = y[i]
            if activation == 2:
                for j in range(r.size):
                    r[j] = tanh(r[j] + bm[j])
            else:
                for j in range(r.size):
                    r[j] = logistic(r[j] + bm[j], T)


@kernel("f3 i f3 i f3")
def product(a, ta, b, tb, out):
    """out = op(a) @ op(b), member by member, so that no member depends on its neighbours."""
    members, rows, columns = out.shape
    k = a.shape[1] if ta else a.shape[2]
    lda, ldb = a.shape[2], b.shape[2]
    for m in range(members):
        am = as_c(a[m if a.shape[0] > 1 else 0])
        bm = as_c(b[m if b.shape[0] > 1 else 0])
        gemm(ta, tb, rows, columns, k, am, lda, bm, ldb, as_c(out[m]), columns)


@njit_inline
def _copy_rows(x, out):
    for i in range(x.shape[0]):
        r, o = x[i], out[i]
        for j in range(o.size):
            o[j] = r[j]


@njit_inline
def _begin_pullback(ct, dz, s):
    """Copy ct to dz, where they are not one, and clear the sums.

    One name for both afterwards: an overlap check would send an in-place call down the scalar
    path.
    """
    if ct.ctypes.data != dz.ctypes.data:
        _copy_rows(ct, dz)
    for j in range(s.size):
        s[j] = 0


#: Units below which rows are taken together, so that a loop over them is long enough for vectors.
_NARROW, _TOGETHER = 32, 16


@helper
def _masked_sums(y, d, start, stop, relu, s):
    """d = d where y > 0 (or relu is not set), from start to stop, and its sums over rows in s."""
    zero, width = y.dtype.type(0), s.size
    for i in range(start, stop, width):
        v, r = y[i : i + width], d[i : i + width]
        if relu:
            for j in range(width):
                t = r[j] if v[j] > 0 else zero
                r[j] = t
                s[j] += t
        else:
            for j in range(width):
                s[j] += r[j]


@kernel("f3 f3 i f3 f2")
def linear_pullback(ct, y, activation, dz, db):
    """dz = ct * slope(y), the slope written in the output; db = dz summed over the batch.

    Activations as in `linear`. `dz` may be `ct`.
    """
    units, relu = y.shape[2], activation == 1
    together = _TOGETHER if units < _NARROW else 1
    size, width = y.shape[1] * units, together * units
    sums = np.empty(width, y.dtype)
    for m in range(y.shape[0]):
        s = as_c(db[m])
        _begin_pullback(as_c(ct[m]), as_c(dz[m]), s)
        y1, d1 = as_c(y[m]).reshape(size), as_c(dz[m]).reshape(size)
        whole = size - size % width
        for j in range(width):
            sums[j] = 0
        _masked_sums(y1, d1, 0, whole, relu, sums)
        for j in range(width):
            s[j % units] += sums[j]
        _masked_sums(y1, d1, whole, size, relu, s)


@kernel("f3 f3 i f3 f2")
def linear_sigmoid_pullback(ct, y, activation, dz, db):
    """As `linear_pullback`, for the activations of `linear_sigmoid`."""
    one = y.dtype.type(1)
    for m in range(y.shape[0]):
        y2, d2, s = as_c(y[m]), as_c(dz[m]), as_c(db[m])
        _begin_pullback(as_c(ct[m]), d2, s)
        for i in range(y2.shape[0]):
            v, d = y2[i], d2[i]
            if activation == 2:
                for j in range(s.size):
                    t = d[j] * (one - v[j] * v[j])
                    d[j] = t
                    s[j] += t
            else:
                for j in range(s.size):
                    t = d[j] * v[j] * (one - v[j])
                    d[j] = t
                    s[j] += t
