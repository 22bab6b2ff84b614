"""Batch and layer normalisation: statistics, normalisation and the way back.

x is (M, N, C): members, rows (batch and positions), channels. Sums over rows run over blocks in
the kernel's dtype and over the blocks in float64, so that an image batch of a million rows loses
no accuracy; no variance is a difference of large numbers.
"""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from skdeep._kernels.cpu._numba import HELPER, JIT, as_c, kernel

# Rows that are summed in the kernel's dtype: in the first block, and in the others.
_FIRST, _BLOCK = 32, 256

# A sum along a row is one chain of additions: here alone the compiler may regroup it (and does so
# by the length of the row, not by its values), because it could not vectorise otherwise.
_reduce = register_jitable(**{**HELPER, "fastmath": {*JIT["fastmath"], "reassoc"}})


# Inlined by numba and not by LLVM, so that a helper is compiled once, with its kernel.
_inline = njit(inline="always", **JIT)


# ---- sums over rows, for every channel ------------------------------------------------------


@_inline
def _add_moments(x, start, stop, shift, s, q):
    """Add d = x - shift and its square, summed over rows, to s and q."""
    for i in range(start, stop, 2):  # two rows at a time spare the accumulators
        x0, x1 = x[i], x[i + 1] if i + 1 < stop else shift
        for j in range(s.size):
            d0, d1 = x0[j] - shift[j], x1[j] - shift[j]
            s[j] += d0 + d1
            q[j] += d0 * d0 + d1 * d1


@_inline
def _batch_statistics(x, shift, s, q, mean, m2):
    """Put the mean and the sum of centred squares over rows of x (N, C) into mean and m2.

    A block is shifted by the mean so far (the first by a row). By Cauchy and Schwarz, the update
    of Chan, Golub and LeVeque then leaves of a sum of squares at least the share of the rows
    before the block: a first block of one row in 32, which bounds the cancellation.
    """
    for j in range(s.size):
        mean[j] = shift[j] = x[0, j]
        m2[j] = s[j] = q[j] = 0
    start = 0
    while start < x.shape[0]:
        stop = min(start + (_BLOCK if start else _FIRST), x.shape[0])
        _add_moments(x, start, stop, shift, s, q)
        before, share = np.float64(start), 1.0 / stop
        for j in range(s.size):
            off = mean[j] - shift[j]  # what rounding took from the shift
            total = before * off + s[j]
            m2[j] += before * off * off + q[j] - total * total * share
            mean[j] = shift[j] + total * share
            shift[j] = mean[j]
            s[j] = q[j] = 0
        start = stop


@_inline
def _normalize_rows(x, mean, scale, beta, floor, y):
    for i in range(x.shape[0]):
        xi, yi = x[i], y[i]
        for j in range(yi.size):
            z = (xi[j] - mean[j]) * scale[j] + beta[j]
            yi[j] = floor if z < floor else z  # a NaN stays


@_inline
def _batch_norm(x, gamma, beta, eps, floor, y, mean, variance, rstd, sums):
    n = x.shape[1]
    for m in range(x.shape[0]):
        x2, g, mu = as_c(x[m]), as_c(gamma[m]), as_c(mean[m])
        var, r, m2 = as_c(variance[m]), as_c(rstd[m]), as_c(sums[m, 1])
        _batch_statistics(x2, mu, r, var, as_c(sums[m, 0]), m2)
        for j in range(mu.size):
            r[j] = 1.0 / np.sqrt(m2[j] / n + eps[0])
            var[j] = r[j] * g[j]  # until the rows are done
        _normalize_rows(x2, mu, var, as_c(beta[m]), floor, as_c(y[m]))
        for j in range(mu.size):
            var[j] = m2[j] / n


@kernel("f3 f2 f2 f1 f3 f2 f2 f2 g3")
def batch_norm(x, gamma, beta, eps, y, mean, variance, rstd, sums):
    """y = (x - mean) * rstd * gamma + beta over rows; rstd = 1 / sqrt(variance + eps).

    `variance` is divided by the number of rows; sums (M, 2, C) is scratch.
    """
    _batch_norm(x, gamma, beta, eps, y.dtype.type(-np.inf), y, mean, variance, rstd, sums)


@kernel("f3 f2 f2 f1 f3 f2 f2 f2 g3")
def batch_norm_relu(x, gamma, beta, eps, y, mean, variance, rstd, sums):
    """`batch_norm`, and 0 where the result is negative."""
    _batch_norm(x, gamma, beta, eps, y.dtype.type(0), y, mean, variance, rstd, sums)


@kernel("f3 f2 f2 f2 f2 f1 f3 f2")
def normalize(x, mean, variance, gamma, beta, eps, y, scale):
    """y = (x - mean) / sqrt(variance + eps) * gamma + beta with given statistics."""
    for m in range(x.shape[0]):
        var, g, a = as_c(variance[m]), as_c(gamma[m]), as_c(scale[m])
        for j in range(a.size):
            a[j] = g[j] / np.sqrt(var[j] + eps[0])
        floor = y.dtype.type(-np.inf)
        _normalize_rows(as_c(x[m]), as_c(mean[m]), a, as_c(beta[m]), floor, as_c(y[m]))


@_inline
def _open(c, x, mean, scale, beta, relu, zero):
    """Return the cotangent in front of the activation, whose input is computed again."""
    return c if not relu or (x - mean) * scale + beta > 0 else zero


@_inline
def _pull(c2, x2, g, beta, mu, r, relu, d2, dg, db, sg, sb):
    """Pull one member's cotangents back; beta matters to relu alone."""
    n, zero = c2.shape[0], d2.dtype.type(0)
    for j in range(mu.size):
        sg[j] = sb[j] = dg[j] = db[j] = 0
    for i in range(n):
        ci, xi = c2[i], x2[i]
        for j in range(mu.size):
            c = _open(ci[j], xi[j], mu[j], r[j] * g[j], beta[j], relu, zero)
            db[j] += c
            dg[j] += c * (xi[j] - mu[j])
        if (i + 1) % _BLOCK == 0 or i + 1 == n:
            _gather(sg, sb, dg, db)
    for j in range(mu.size):  # the means that the second pass takes off
        db[j] = sb[j] / n
        dg[j] = sg[j] * r[j] * r[j] / n
    for i in range(n):
        ci, xi, di = c2[i], x2[i], d2[i]
        for j in range(mu.size):
            c = _open(ci[j], xi[j], mu[j], r[j] * g[j], beta[j], relu, zero)
            di[j] = (c - db[j] - (xi[j] - mu[j]) * dg[j]) * (r[j] * g[j])
    for j in range(mu.size):
        db[j] = sb[j]
        dg[j] = sg[j] * r[j]


@kernel("f3 f3 f2 f2 f2 f3 f2 f2 g3")
def batch_norm_pullback(ct, x, gamma, mean, rstd, dx, dgamma, dbeta, sums):
    """The cotangents of x, gamma and beta, the statistics depending on x; sums is scratch."""
    for m in range(x.shape[0]):
        g, mu, r = as_c(gamma[m]), as_c(mean[m]), as_c(rstd[m])
        dg, db, sg, sb = as_c(dgamma[m]), as_c(dbeta[m]), as_c(sums[m, 0]), as_c(sums[m, 1])
        _pull(as_c(ct[m]), as_c(x[m]), g, mu, mu, r, False, as_c(dx[m]), dg, db, sg, sb)


# The words of a call are counted: three arrays are (M, N * C) here.
@kernel("f2 f2 f2 f2 f2 f2 f2 f2 f2 g3")
def batch_norm_relu_pullback(ct, x, gamma, beta, mean, rstd, dx, dgamma, dbeta, sums):
    """`batch_norm_pullback` of `batch_norm_relu`."""
    rows = (x.shape[1] // gamma.shape[1], gamma.shape[1])
    for m in range(x.shape[0]):
        c2, x2 = as_c(ct[m]).reshape(rows), as_c(x[m]).reshape(rows)
        d2 = as_c(dx[m]).reshape(rows)
        g, b, mu, r = as_c(gamma[m]), as_c(beta[m]), as_c(mean[m]), as_c(rstd[m])
        dg, db, sg, sb = as_c(dgamma[m]), as_c(dbeta[m]), as_c(sums[m, 0]), as_c(sums[m, 1])
        _pull(c2, x2, g, b, mu, r, True, d2, dg, db, sg, sb)


@_inline
def _gather(sg, sb, dg, db):
    """Move a block's sums to the float64 ones."""
    for j in range(dg.size):
        sg[j] += dg[j]
        sb[j] += db[j]
        dg[j] = db[j] = 0


# ---- sums along a row -----------------------------------------------------------------------


@_reduce
def _row_sum(x):
    s = x.dtype.type(0)
    for j in range(x.size):
        s += x[j]
    return s


@_reduce
def _row_squares(x, mean):
    s = x.dtype.type(0)
    for j in range(x.size):
        s += (x[j] - mean) * (x[j] - mean)
    return s


@kernel("f3 f2 f2 f1 f3 f2 f2 f2")
def layer_norm(x, gamma, beta, eps, y, mean, variance, rstd):
    """y = (x - mean) * rstd * gamma + beta, the statistics (M, N) being each row's own."""
    T = y.dtype.type
    one = T(1)
    for m in range(x.shape[0]):
        x2, y2, g, b = as_c(x[m]), as_c(y[m]), as_c(gamma[m]), as_c(beta[m])
        n = T(g.size)
        for i in range(x2.shape[0]):
            xi, yi = x2[i], y2[i]
            mu = _row_sum(xi) / n
            var = _row_squares(xi, mu) / n
            r = one / np.sqrt(var + eps[0])
            mean[m, i], variance[m, i], rstd[m, i] = mu, var, r
            for j in range(g.size):
                yi[j] = (xi[j] - mu) * r * g[j] + b[j]


@_reduce
def _row_products(ct, x, gamma, mean):
    """Sum g = ct * gamma and g * (x - mean) along a row."""
    s = q = x.dtype.type(0)
    for j in range(x.size):
        g = ct[j] * gamma[j]
        s += g
        q += g * (x[j] - mean)
    return s, q


@kernel("f3 f3 f2 f2 f2 f3 f2 f2 g3")
def layer_norm_pullback(ct, x, gamma, mean, rstd, dx, dgamma, dbeta, sums):
    """The cotangents of x, gamma and beta, the statistics depending on x; sums is scratch."""
    T = dx.dtype.type
    rows = x.shape[1]
    for m in range(x.shape[0]):
        c2, x2, d2, gm = as_c(ct[m]), as_c(x[m]), as_c(dx[m]), as_c(gamma[m])
        dg, db, sg, sb = as_c(dgamma[m]), as_c(dbeta[m]), as_c(sums[m, 0]), as_c(sums[m, 1])
        n = T(gm.size)
        for j in range(gm.size):
            sg[j] = sb[j] = dg[j] = db[j] = 0
        for i in range(rows):
            ci, xi, di, mu, r = c2[i], x2[i], d2[i], mean[m, i], rstd[m, i]
            s, q = _row_products(ci, xi, gm, mu)
            s, q = s / n, q * r * r / n
            for j in range(gm.size):
                d = xi[j] - mu
                db[j] += ci[j]
                dg[j] += ci[j] * (d * r)
                di[j] = (ci[j] * gm[j] - s - d * q) * r
            if (i + 1) % _BLOCK == 0 or i + 1 == rows:
                _gather(sg, sb, dg, db)
        for j in range(gm.size):
            db[j] = sb[j]
            dg[j] = sg[j]
