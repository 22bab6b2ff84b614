"""Local response normalisation over neighbouring channels, and the way back.

x is (M, N, C): members, rows (samples and positions), channels. ``settings`` holds bias, alpha and
beta.
"""

import math

import numpy as np

from skdeep._kernels.cpu._numba import as_c, kernel, njit_inline


@njit_inline
def _add_neighbours(a, half, factor, total):
    """Add factor * (sum of a over the channels at most `half` apart) to each total."""
    n = total.size
    for d in range(-min(half, n - 1), min(half, n - 1) + 1):
        low, high = max(0, -d), min(n, n - d)
        t, b = total[low:high], a[low + d : high + d]
        for j in range(t.size):
            t[j] += factor * b[j]


@njit_inline
def _powers(s, beta, out):
    """Put s to the power -beta into out; beta = 3/4 and 1/2 by square roots, which are exact."""
    one = out.dtype.type(1)
    if beta == 0.75:
        for j in range(out.size):
            root = np.sqrt(s[j])
            out[j] = one / (root * np.sqrt(root))
    elif beta == 0.5:
        for j in range(out.size):
            out[j] = one / np.sqrt(s[j])
    else:
        for j in range(out.size):
            out[j] = math.exp(-beta * math.log(s[j]))


@kernel("f3 f1 i f3 f3 f2")
def local_response_norm(x, settings, half, y, scale, scratch):
    """y = x * scale ** -beta, scale = bias + alpha * (sum of squares over the neighbours)."""
    bias, alpha, beta = settings[0], settings[1], settings[2]
    for m in range(x.shape[0]):
        x2, y2, s2, square = as_c(x[m]), as_c(y[m]), as_c(scale[m]), as_c(scratch[m])
        for i in range(x2.shape[0]):
            xi, yi, si = x2[i], y2[i], s2[i]
            for j in range(square.size):
                square[j] = xi[j] * xi[j]
                si[j] = bias
            _add_neighbours(square, half, alpha, si)
            _powers(si, beta, square)
            for j in range(square.size):
                yi[j] = xi[j] * square[j]


@kernel("f3 f3 f3 f1 i f3 f2")
def local_response_norm_pullback(ct, x, scale, settings, half, dx, scratch):
    """The cotangent of x: ct s^-b - 2 a b x (sum over the neighbours of ct x s^(-b - 1))."""
    alpha, beta = settings[1], settings[2]
    factor = -2 * alpha * beta
    for m in range(x.shape[0]):
        c2, x2, s2 = as_c(ct[m]), as_c(x[m]), as_c(scale[m])
        d2, share, t = as_c(dx[m]), as_c(scratch[m])[: x.shape[2]], as_c(scratch[m])[x.shape[2] :]
        for i in range(x2.shape[0]):
            ci, xi, si, di = c2[i], x2[i], s2[i], d2[i]
            _powers(si, beta, share)
            for j in range(t.size):
                share[j] *= ci[j]
                t[j] = share[j] * xi[j] / si[j]
                di[j] = 0
            _add_neighbours(t, half, factor, di)
            for j in range(t.size):
                di[j] = share[j] + xi[j] * di[j]
