"""Elementwise passes and sums."""

import numpy as np

from skdeep._kernels.cpu._numba import as_c, kernel, njit_inline


@kernel("f1 f1 f1")
def add(x, y, out):
    """out = x + y."""
    a, b, o = as_c(x), as_c(y), as_c(out)
    for i in range(o.size):
        o[i] = a[i] + b[i]


@kernel("f1 f1")
def copy(x, out):
    """out = x."""
    a, o = as_c(x), as_c(out)
    for i in range(o.size):
        o[i] = a[i]


@kernel("f2 i f2")
def accumulate(x, first, out):
    """out = x, the first time, and out += x after that."""
    for m in range(out.shape[0]):
        a, o = as_c(x[m]), as_c(out[m])
        if first:
            for i in range(o.size):
                o[i] = a[i]
        else:
            for i in range(o.size):
                o[i] += a[i]


@njit_inline
def _put_columns(x, start, out):
    for i in range(out.shape[0]):
        r, o = x[i], out[i]
        for j in range(r.size):
            o[start + j] = r[j]


@kernel("f2 f2 f2 f2 f2 f2 f2")
def concatenate(a, b, c, d, e, f, out):
    """Put the columns of six matrices side by side; those that are not wanted have none."""
    o, start = as_c(out), 0
    for x in (a, b, c, d, e, f):
        _put_columns(as_c(x), start, o)
        start += x.shape[1]


@kernel("f2 i f2")
def take_columns(x, start, out):
    """out = the columns of x from `start` on, as many as `out` has."""
    a, o = as_c(x), as_c(out)
    for i in range(o.shape[0]):
        r, t = a[i], o[i]
        for j in range(t.size):
            t[j] = r[start + j]


@kernel("f3 f2")
def column_sum(x, out):
    """Sum x (M, B, C) over B."""
    for m in range(x.shape[0]):
        a, s = as_c(x[m]), as_c(out[m])
        for j in range(s.size):
            s[j] = 0
        for i in range(a.shape[0]):
            r = a[i]
            for j in range(s.size):
                s[j] += r[j]


@kernel("f2 f1")
def row_sum(x, out):
    """Sum x (M, B) over B, in float64."""
    for m in range(x.shape[0]):
        s = 0.0
        for i in range(x.shape[1]):
            s += x[m, i]
        out[m] = s


@kernel("f2 f2 f1 f2")
def blend(old, new, share, out):
    """out = share[0] * old + share[1] * new."""
    for m in range(out.shape[0]):
        a, b, o = as_c(old[m]), as_c(new[m]), as_c(out[m])
        keep, take = share[0], share[1]
        for i in range(o.size):
            o[i] = keep * a[i] + take * b[i]


@kernel("f1 h1")
def pack_bfloat16(x, out):
    """out = the upper halves of float32 numbers, rounded to nearest even; NaN stays NaN."""
    a, o = as_c(x).view(np.uint32), as_c(out)
    for i in range(o.size):
        w = a[i]
        up = (w + np.uint32(0x7FFF) + ((w >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        nan = (w & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        o[i] = np.uint16((w >> np.uint32(16)) | np.uint32(0x40)) if nan else np.uint16(up)


@kernel("h1 f1")
def unpack_bfloat16(x, out):
    """out = float32 numbers of which `x` holds the upper halves."""
    a, o = as_c(x), as_c(out).view(np.uint32)
    for i in range(o.size):
        o[i] = np.uint32(a[i]) << np.uint32(16)
