"""Dense layers: matrix product, bias and activation in one call, and the way back."""

import numpy as np

from skdeep._kernels.cpu._numba import as_c, helper, kernel, njit_inline
from skdeep._kernels.cpu._pointers import address, clear, copy, data, keep, member, offset
from skdeep._kernels.cpu.gemm import gemm
from skdeep._kernels.scalar import logistic, tanh

#: Activations that `linear` applies on the way out, because their slope follows from the output.
FUSED_ACTIVATIONS = {"identity": 0, "relu": 1, "tanh": 2, "logistic": 3}


@njit_inline
def _multiply(x, w, m, out):
    """out[m] = x[m] @ w[m]; either may be shared by the members."""
    (_, rows, units), fan_in = out.shape, x.shape[2]
    x, w, y = member(x, m), member(w, m), member(out, m)
    gemm(False, False, rows, units, fan_in, x, fan_in, w, units, y, units)


@kernel("f3 f3 f2 i f3")
def linear(x, w, b, activation, out):
    """out = activation(x @ w + b), the activation identity (0) or ReLU (1).

    x (1|M, B, I), w (M, I, O), b (M, O), out (M, B, O).
    """
    members, rows, units = out.shape
    floor = out.dtype.type(0 if activation == 1 else -np.inf)
    for m in range(members):
        _multiply(x, w, m, out)
        y, bm = member(out, m), member(b, m)
        for i in range(rows):
            r = offset(y, i * units)
            for j in range(units):
                v = r[j] + bm[j]
                r[j] = floor if v < floor else v  # keeps NaN


@kernel("f3 f3 f2 i f3")
def linear_sigmoid(x, w, b, activation, out):
    """As `linear`, the activation tanh (2) or logistic (3).

    A kernel of its own, so that nets of ReLUs do not compile the exponentials.
    """
    T = out.dtype.type
    for m in range(out.shape[0]):
        y, bm = as_c(out[m]), as_c(b[m if b.shape[0] > 1 else 0])
        _multiply(x, w, m, out)
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
        x, y, z = member(a, m), member(b, m), member(out, m)
        gemm(ta, tb, rows, columns, k, x, lda, y, ldb, z, columns)


@njit_inline
def _begin_pullback(ct, m, dz, db):
    """Copy a member of ct to dz, where they are not one, and clear the sums.

    One name for both afterwards: an overlap check would send an in-place call down the scalar
    path.
    """
    if address(data(ct)) != address(data(dz)):
        copy(member(ct, m), member(dz, m), ct.shape[1] * ct.shape[2])
    clear(member(db, m), db.shape[1])


#: Units below which rows are taken together, so that a loop over them is long enough for vectors.
_NARROW, _TOGETHER = 32, 16


@helper
def _masked_sums(y, d, rows, width, relu, zero, s):
    """d = d where y > 0 (or relu is not set), and its sums over rows in s."""
    for i in range(rows):
        v, r = offset(y, i * width), offset(d, i * width)
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
    (members, rows, units), relu, zero = y.shape, activation == 1, y.dtype.type(0)
    together = _TOGETHER if units < _NARROW else 1
    groups, width = rows // together, together * units
    buffer = np.empty(width, y.dtype)
    for m in range(members):
        _begin_pullback(ct, m, dz, db)
        ym, dm, s, sums = member(y, m), member(dz, m), member(db, m), data(buffer)
        clear(sums, width)
        _masked_sums(ym, dm, groups, width, relu, zero, sums)
        for j in range(width):
            s[j % units] += sums[j]
        done = groups * width
        left = rows - groups * together
        _masked_sums(offset(ym, done), offset(dm, done), left, units, relu, zero, s)
    keep(buffer)


@kernel("f3 f3 i f3 f2")
def linear_sigmoid_pullback(ct, y, activation, dz, db):
    """As `linear_pullback`, for the activations of `linear_sigmoid`."""
    (members, rows, units), one = y.shape, y.dtype.type(1)
    for m in range(members):
        _begin_pullback(ct, m, dz, db)
        s = member(db, m)
        for i in range(rows):
            v, d = offset(member(y, m), i * units), offset(member(dz, m), i * units)
            if activation == 2:
                for j in range(units):
                    t = d[j] * (one - v[j] * v[j])
                    d[j] = t
                    s[j] += t
            else:
                for j in range(units):
                    t = d[j] * v[j] * (one - v[j])
                    d[j] = t
                    s[j] += t
