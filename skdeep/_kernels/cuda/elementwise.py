"""Elementwise passes and sums."""

from functools import cache

import numpy as np

from skdeep._kernels.cuda import _passes, _sums
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, device, float32, kernel, uint16, uint32
from skdeep._kernels.cuda._sums import column_sums, row_sums
from skdeep._kernels.cuda.array import check_span
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256


# ---- passes -----------------------------------------------------------------------------------

_BODIES = {
    "add": (lambda x, y: x + y, "x x"),
    "copy": (lambda x: x, "x"),
    "blend": (lambda old, new, keep, take: keep * old + take * new, "x x m m"),
}


@cache
def _pass(name):
    body, inputs = _BODIES[name]
    return _passes.Pass(name, device(body), inputs)


def _row(x):
    """Return a run of elements as those of a single member."""
    return x.view((1, x.size), (x.nbytes, x.itemsize))


@twin()
def add(x, y, out):
    """out = x + y."""
    return _pass("add")(_row(x), _row(y), _row(out))


@twin()
def copy(x, out):
    """out = x."""
    return _pass("copy")(_row(x), _row(out))


@twin()
def accumulate(x, first, out):
    """out = x, the first time, and out += x after that."""
    return _pass("copy")(x, out) if first else _pass("add")(x, out, out)


@twin()
def blend(old, new, share, out):
    """out = share[0] * old + share[1] * new."""
    keep, take = (share.view((1,), offset=i * share.step(0) * share.itemsize) for i in (0, 1))
    return _pass("blend")(old, new, keep, take, out)


# ---- sums -------------------------------------------------------------------------------------


@twin()
def column_sum(x, out):
    """Sum x (M, B, C) over B."""
    return column_sums(x, out)


@twin()
def row_sum(x, out):
    """Sum x (M, B) over B."""
    n = len(out)
    rows = x.view((1, *x.shape), (x.nbytes, *x.strides))
    return row_sums()(rows, out.view((1, n), (out.nbytes, *out.strides)))


# ---- columns ----------------------------------------------------------------------------------


@device
def _copy_run(x, x_row, start, out, out_row, put, width, rows, step):
    """Copy columns of a matrix into columns of another, one or four at a time."""
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    units = uint32(width // step)
    if i < uint32(rows * units):
        r = uint32(i // units)
        c = uint32(uint32(i - uint32(r * units)) * step)
        at = uint32(uint32(r * x_row) + uint32(start + c))
        to = uint32(uint32(r * out_row) + uint32(put + c))
        if step == uint32(4):
            store4(out, to, load4(x, at))
        else:
            out[to] = x[at]


@kernel("f f u u u u u u", _THREADS)
def _take_columns(x, out, x_row, start, out_row, width, rows, step):
    _copy_run(x, x_row, start, out, out_row, uint32(0), width, rows, step)


@kernel("f f f f f f f u u u u u u u u u", _THREADS)
def _concatenate(a, b, c, d, e, f, out, na, nb, nc, nd, ne, nf, out_row, rows, step):
    """The second axis of the grid is the matrices that have columns."""
    which, zero, put = uint32(cuda.blockIdx.y), uint32(0), uint32(0)
    if which == uint32(0):
        _copy_run(a, na, zero, out, out_row, put, na, rows, step)
    put = uint32(put + na)
    if which == uint32(1):
        _copy_run(b, nb, zero, out, out_row, put, nb, rows, step)
    put = uint32(put + nb)
    if which == uint32(2):
        _copy_run(c, nc, zero, out, out_row, put, nc, rows, step)
    put = uint32(put + nc)
    if which == uint32(3):
        _copy_run(d, nd, zero, out, out_row, put, nd, rows, step)
    put = uint32(put + nd)
    if which == uint32(4):
        _copy_run(e, ne, zero, out, out_row, put, ne, rows, step)
    put = uint32(put + ne)
    if which == uint32(5):
        _copy_run(f, nf, zero, out, out_row, put, nf, rows, step)


def _columns_at_once(starts, *arrays):
    """Return 4 where all runs of columns begin and end at multiples of 16 bytes, else 1."""
    return 4 if not any(n % 4 for n in starts) and all(a.aligned() for a in arrays) else 1


@twin()
def concatenate(a, b, c, d, e, f, out):
    """Put the columns of up to six matrices side by side."""
    if not out.size:
        return []
    check_span(out)
    given = [x for x in (a, b, c, d, e, f) if x.size]
    widths = [x.shape[1] for x in given]
    step = _columns_at_once(widths, *given, out)
    missing = 6 - len(given)
    widths += [0] * missing
    grid = blocks(out.shape[0] * max(widths) // step, _THREADS), len(given)
    sources = given + [out] * missing
    return [_concatenate(grid, *sources, out, *widths, out.shape[1], out.shape[0], step)]


@twin()
def take_columns(x, start, out):
    """out = the columns of x from `start` on, as many as `out` has."""
    if not out.size:
        return []
    check_span(x)
    rows, width = out.shape
    step = _columns_at_once((start, width, x.shape[1]), x, out)
    grid = blocks(out.size // step, _THREADS)
    return [_take_columns(grid, x, out, x.shape[1], start, width, width, rows, step)]


# ---- bfloat16 ---------------------------------------------------------------------------------


@device
def _bits(x):
    return uint32(float32(x).view(np.uint32))


@device
def _number(bits):
    return uint32(bits).view(np.float32)


@device
def _rounded(x):
    """Return the upper half of a float32, rounded to nearest even; NaN stays NaN."""
    w = _bits(x)
    high = uint32(w >> uint32(16))
    up = uint32(uint32(w + uint32(0x7FFF)) + uint32(high & uint32(1))) >> uint32(16)
    nan = uint32(w & uint32(0x7FFFFFFF)) > uint32(0x7F800000)
    return uint32(high | uint32(0x40)) if nan else uint32(up)


@device
def _packed(low, high):
    """Return two numbers' upper halves, as the bits of a float32, which moves by vectors."""
    return _number(uint32(_rounded(low) | uint32(_rounded(high) << uint32(16))))


@device
def _unpacked(pair):
    """Return the two numbers of which a float32 holds the upper halves."""
    w = _bits(pair)
    return _number(uint32(w << uint32(16))), _number(uint32(w & uint32(0xFFFF0000)))


@kernel("f f h u u", _THREADS)
def _pack(x, vectors, out, count, n):
    """Eight numbers a thread, 6 bytes each; `vectors` and `out` are the same memory."""
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    if i < count:
        a = load4(x, uint32(i * uint32(8)))
        b = load4(x, uint32(uint32(i * uint32(8)) + uint32(4)))
        pairs = _packed(a[0], a[1]), _packed(a[2], a[3]), _packed(b[0], b[1]), _packed(b[2], b[3])
        store4(vectors, uint32(i * uint32(4)), pairs)
    else:
        e = uint32(i + uint32(count * uint32(7)))
        if e < n:
            out[e] = uint16(_rounded(x[e]))


@kernel("f h f u u", _THREADS)
def _unpack(vectors, x, out, count, n):
    """Eight numbers a thread, 6 bytes each; `vectors` and `x` are the same memory."""
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    if i < count:
        p = load4(vectors, uint32(i * uint32(4)))
        a, b, c, d = _unpacked(p[0]), _unpacked(p[1]), _unpacked(p[2]), _unpacked(p[3])
        store4(out, uint32(i * uint32(8)), (a[0], a[1], b[0], b[1]))
        store4(out, uint32(uint32(i * uint32(8)) + uint32(4)), (c[0], c[1], d[0], d[1]))
    else:
        e = uint32(i + uint32(count * uint32(7)))
        if e < n:
            out[e] = _number(uint32(uint32(x[e]) << uint32(16)))


def _eights(wide, halves):
    """Return how many runs of eight numbers move by vectors, the grid, and the pairs' view."""
    check_span(wide)
    n = wide.size
    count = n // 8 if wide.aligned() and halves.aligned() else 0
    # The view ends with the last whole pair; one that has none is not read.
    pairs = halves.view((max(n // 2, 1),) if n > 1 else (0,), dtype=np.float32)
    return count, blocks(n - 7 * count, _THREADS), pairs


@twin()
def pack_bfloat16(x, out):
    """out = the upper halves of float32 numbers, rounded to nearest even; NaN stays NaN."""
    count, grid, pairs = _eights(x, out)
    return [_pack(grid, x, pairs, out, count, x.size)] if x.size else []


@twin()
def unpack_bfloat16(x, out):
    """out = float32 numbers of which `x` holds the upper halves."""
    count, grid, pairs = _eights(out, x)
    return [_unpack(grid, pairs, x, out, count, x.size)] if x.size else []


def catalogue():
    """Return every kernel of this module."""
    passes = [_pass(name).kernel for name in _BODIES]
    sums = [_sums._column_sum, row_sums().kernel]
    return [*passes, *sums, _take_columns, _concatenate, _pack, _unpack]
