"""Pooling and every other map from the positions of an image to positions.

An array is (M, N, P, C): members, samples, positions (the spatial axes in C order), channels.
Which positions a result is made of stands in a table, compressed by rows: result r takes the
positions ``place[start[r] : start[r + 1]]``, in this order, with ``code`` the number of each in
its window or ``weight`` its factor. A result is one chain of operations over its row of the table.

Rows are worked on four positions at a time, a vector of channels after the other: the first four
addresses are made once for all channels, and most windows have no more.
"""

from skdeep._kernels.cpu import _vector as v
from skdeep._kernels.cpu._microkernel import HOST
from skdeep._kernels.cpu._numba import as_c, kernel, njit_inline, renamed

#: Whether all vectors are masked: AVX-512 does so at no cost, and half as much is compiled.
_MASKED = HOST.masks and HOST.width == 64


@njit_inline
def _four(place, s, e, c):
    """Return where four positions begin; beyond e the last one stands in."""
    last = e - 1
    return (
        v.element(place, s) * c,
        v.element(place, min(s + 1, last)) * c,
        v.element(place, min(s + 2, last)) * c,
        v.element(place, min(s + 3, last)) * c,
    )


@njit_inline
def _four_codes(code, s, e, like):
    """Return the codes of four positions as vectors; beyond e the last one stands in."""
    last = e - 1
    return (
        v.splat_place(v.element(code, s), like),
        v.splat_place(v.element(code, min(s + 1, last)), like),
        v.splat_place(v.element(code, min(s + 2, last)), like),
        v.splat_place(v.element(code, min(s + 3, last)), like),
    )


def _by_place(function, spec):
    """Return kernels by the dtype of the places: short where a window has at most 255 cells."""
    return {
        name: kernel(spec.replace("?", word))(renamed(function, f"{function.__name__[1:]}_{name}"))
        for name, word in (("uint8", "b"), ("int32", "w"))
    }


# ---- maxima -------------------------------------------------------------------------------------


@njit_inline
def _larger(a, na, b, nb):
    """Return the larger value and its code, the first one of equal ones, a NaN above all."""
    take = v.wins(b, a)
    return v.select(take, b, a), v.select(take, nb, na)


@njit_inline
def _largest_of_four(x, p, codes, j, mask):
    a, b = v.load(x, p[0] + j, mask), v.load(x, p[1] + j, mask)
    c, d = v.load(x, p[2] + j, mask), v.load(x, p[3] + j, mask)
    left, right = _larger(a, codes[0], b, codes[1]), _larger(c, codes[2], d, codes[3])
    return _larger(left[0], left[1], right[0], right[1])


@njit_inline
def _largest(x, place, code, s, e, p, codes, out, index, r, j, mask):
    """Find the largest of a window; p and codes are those of the first four positions."""
    c = x.shape[1]
    best, number = _largest_of_four(x, p, codes, j, mask)
    for k in range(s + 4, e, 4):
        later = _four_codes(code, k, e, x)
        a, n = _largest_of_four(x, _four(place, k, e, c), later, j, mask)
        best, number = _larger(best, number, a, n)
    v.store(best, out, r * c + j, mask)
    v.store(number, index, r * c + j, mask)


def _max_pool(x, start, place, code, out, index):
    """The largest of each window and its place: the first one of several, a NaN above all."""
    c, width = x.shape[3], v.lanes(x)
    rest, whole = v.first(x, c % width), c - c % width
    start, place, code = as_c(start), as_c(place), as_c(code)
    for m in range(x.shape[0]):
        for n in range(x.shape[1]):
            x2, o2, i2 = as_c(x[m, n]), as_c(out[m, n]), as_c(index[m, n])
            for r in range(o2.shape[0]):
                s, e = v.element(start, r), v.element(start, r + 1)
                p, codes = _four(place, s, e, c), _four_codes(code, s, e, x2)
                if _MASKED:
                    for j in range(0, c, width):
                        mask = v.first(x2, c - j)
                        _largest(x2, place, code, s, e, p, codes, o2, i2, r, j, mask)
                    continue
                for j in range(0, whole, width):
                    _largest(x2, place, code, s, e, p, codes, o2, i2, r, j, None)
                if whole < c:
                    _largest(x2, place, code, s, e, p, codes, o2, i2, r, whole, rest)


@njit_inline
def _given(ct, index, p, own, j, mask, zero):
    """Return what one window gives one of its cells."""
    theirs = v.load_places(index, p + j, ct, mask)
    return v.select(v.equal(theirs, own), v.load(ct, p + j, mask), zero)


@njit_inline
def _sum_given(ct, index, place, code, s, e, p, codes, out, r, j, mask, zero):
    """Sum what all windows give a cell; p and codes are those of the first four."""
    c = ct.shape[1]
    total = _given(ct, index, p[0], codes[0], j, mask, zero)
    if e > s + 1:
        total = v.add(total, _given(ct, index, p[1], codes[1], j, mask, zero))
    if e > s + 2:
        total = v.add(total, _given(ct, index, p[2], codes[2], j, mask, zero))
    if e > s + 3:
        total = v.add(total, _given(ct, index, p[3], codes[3], j, mask, zero))
    for k in range(s + 4, e):
        own = v.splat_place(v.element(code, k), ct)
        total = v.add(total, _given(ct, index, v.element(place, k) * c, own, j, mask, zero))
    v.store(total, out, r * c + j, mask)


def _unpool(ct, index, start, place, code, out):
    """Sum what the windows over each position give it, if theirs is its place."""
    c, width = ct.shape[3], v.lanes(ct)
    rest, whole, zero = v.first(ct, c % width), c - c % width, v.splat(ct.dtype.type(0), ct)
    start, place, code = as_c(start), as_c(place), as_c(code)
    for m in range(ct.shape[0]):
        for n in range(ct.shape[1]):
            c2, i2, o2 = as_c(ct[m, n]), as_c(index[m, n]), as_c(out[m, n])
            for r in range(o2.shape[0]):
                s, e = v.element(start, r), v.element(start, r + 1)
                if s == e:
                    o2[r] = 0
                    continue
                p, codes = _four(place, s, e, c), _four_codes(code, s, e, c2)
                if _MASKED:
                    for j in range(0, c, width):
                        mask = v.first(c2, c - j)
                        _sum_given(c2, i2, place, code, s, e, p, codes, o2, r, j, mask, zero)
                    continue
                for j in range(0, whole, width):
                    _sum_given(c2, i2, place, code, s, e, p, codes, o2, r, j, None, zero)
                if whole < c:
                    _sum_given(c2, i2, place, code, s, e, p, codes, o2, r, whole, rest, zero)


@njit_inline
def _give(ct, index, place, code, s, e, p, codes, out, r, j, mask, zero):
    """Give a window's cells what is theirs; p and codes are those of the first four."""
    c = ct.shape[1]
    a, number = v.load(ct, r * c + j, mask), v.load_places(index, r * c + j, ct, mask)
    v.store(v.select(v.equal(number, codes[3]), a, zero), out, p[3] + j, mask)
    v.store(v.select(v.equal(number, codes[2]), a, zero), out, p[2] + j, mask)
    v.store(v.select(v.equal(number, codes[1]), a, zero), out, p[1] + j, mask)
    v.store(v.select(v.equal(number, codes[0]), a, zero), out, p[0] + j, mask)
    for k in range(s + 4, e):
        own = v.equal(number, v.splat_place(v.element(code, k), ct))
        v.store(v.select(own, a, zero), out, v.element(place, k) * c + j, mask)


def _unpool_apart(ct, index, start, place, code, out):
    """`unpool` where no two windows share a cell, by the table of the windows' cells."""
    c, width = ct.shape[3], v.lanes(ct)
    rest, whole, zero = v.first(ct, c % width), c - c % width, v.splat(ct.dtype.type(0), ct)
    start, place, code = as_c(start), as_c(place), as_c(code)
    for m in range(ct.shape[0]):
        for n in range(ct.shape[1]):
            c2, i2, o2 = as_c(ct[m, n]), as_c(index[m, n]), as_c(out[m, n])
            if place.size < o2.shape[0]:  # some cells are in no window
                o2[:] = 0
            for r in range(c2.shape[0]):
                s, e = v.element(start, r), v.element(start, r + 1)
                p, codes = _four(place, s, e, c), _four_codes(code, s, e, c2)
                if _MASKED:
                    for j in range(0, c, width):
                        mask = v.first(c2, c - j)
                        _give(c2, i2, place, code, s, e, p, codes, o2, r, j, mask, zero)
                    continue
                for j in range(0, whole, width):
                    _give(c2, i2, place, code, s, e, p, codes, o2, r, j, None, zero)
                if whole < c:
                    _give(c2, i2, place, code, s, e, p, codes, o2, r, whole, rest, zero)


@njit_inline
def _taken(x, index, place, code, s, e, out, r, j, mask):
    """Find what stands at a place among some positions."""
    c = x.shape[1]
    number = v.load_places(index, r * c + j, x, mask)
    found = v.load(x, v.element(place, s) * c + j, mask)
    for k in range(s + 1, e):
        own = v.equal(number, v.splat_place(v.element(code, k), x))
        found = v.select(own, v.load(x, v.element(place, k) * c + j, mask), found)
    v.store(found, out, r * c + j, mask)


def _pool_take(x, index, start, place, code, out):
    """Take from each window what stands at a place of it: the adjoint of `unpool`."""
    c, width = x.shape[3], v.lanes(x)
    rest, whole = v.first(x, c % width), c - c % width
    start, place, code = as_c(start), as_c(place), as_c(code)
    for m in range(x.shape[0]):
        for n in range(x.shape[1]):
            x2, i2, o2 = as_c(x[m, n]), as_c(index[m, n]), as_c(out[m, n])
            for r in range(o2.shape[0]):
                s, e = v.element(start, r), v.element(start, r + 1)
                for j in range(0, whole, width):
                    _taken(x2, i2, place, code, s, e, o2, r, j, None)
                if whole < c:
                    _taken(x2, i2, place, code, s, e, o2, r, whole, rest)


max_pool = _by_place(_max_pool, "f4 l1 l1 l1 f4 ?4")
unpool = _by_place(_unpool, "f4 ?4 l1 l1 l1 f4")
unpool_apart = _by_place(_unpool_apart, "f4 ?4 l1 l1 l1 f4")
pool_take = _by_place(_pool_take, "f4 ?4 l1 l1 l1 f4")


# ---- weighted sums ------------------------------------------------------------------------------


@njit_inline
def _four_weights(weight, s, e, like):
    """Return the weights of four positions as vectors; beyond e the last one stands in."""
    last = e - 1
    return (
        v.splat(v.element(weight, s), like),
        v.splat(v.element(weight, min(s + 1, last)), like),
        v.splat(v.element(weight, min(s + 2, last)), like),
        v.splat(v.element(weight, min(s + 3, last)), like),
    )


@njit_inline
def _weighed(x, place, weight, s, e, p, w, out, r, j, mask):
    """Sum a row; p and w are those of the first four positions."""
    c = x.shape[1]
    total = v.multiply(w[0], v.load(x, p[0] + j, mask))
    if e > s + 1:
        total = v.multiply_add(w[1], v.load(x, p[1] + j, mask), total)
    if e > s + 2:
        total = v.multiply_add(w[2], v.load(x, p[2] + j, mask), total)
    if e > s + 3:
        total = v.multiply_add(w[3], v.load(x, p[3] + j, mask), total)
    for k in range(s + 4, e):
        a = v.load(x, v.element(place, k) * c + j, mask)
        total = v.multiply_add(v.splat(v.element(weight, k), x), a, total)
    v.store(total, out, r * c + j, mask)


@kernel("f4 l1 l1 f1 f4")
def combine(x, start, place, weight, out):
    """Weighted sums of positions: averages, shifts, interpolation."""
    c, width = x.shape[3], v.lanes(x)
    rest, whole = v.first(x, c % width), c - c % width
    start, place, weight = as_c(start), as_c(place), as_c(weight)
    for m in range(x.shape[0]):
        for n in range(x.shape[1]):
            x2, o2 = as_c(x[m, n]), as_c(out[m, n])
            for r in range(o2.shape[0]):
                s, e = v.element(start, r), v.element(start, r + 1)
                if s == e:
                    o2[r] = 0
                    continue
                p, w = _four(place, s, e, c), _four_weights(weight, s, e, x)
                for j in range(0, whole, width):
                    _weighed(x2, place, weight, s, e, p, w, o2, r, j, None)
                if whole < c:
                    _weighed(x2, place, weight, s, e, p, w, o2, r, whole, rest)


@njit_inline
def _spread(x, place, weight, s, e, p, w, out, r, j, mask):
    """Put multiples of a position to others; p and w are those of the first four."""
    c = x.shape[1]
    a = v.load(x, r * c + j, mask)
    v.store(v.multiply(w[3], a), out, p[3] + j, mask)
    v.store(v.multiply(w[2], a), out, p[2] + j, mask)
    v.store(v.multiply(w[1], a), out, p[1] + j, mask)
    v.store(v.multiply(w[0], a), out, p[0] + j, mask)
    for k in range(s + 4, e):
        v.store(
            v.multiply(v.splat(v.element(weight, k), x), a), out, v.element(place, k) * c + j, mask
        )


@kernel("f4 l1 l1 f1 f4")
def spread(x, start, place, weight, out):
    """`combine` for results of one position at most, by the table of what each is given to."""
    c, width = x.shape[3], v.lanes(x)
    rest, whole = v.first(x, c % width), c - c % width
    start, place, weight = as_c(start), as_c(place), as_c(weight)
    for m in range(x.shape[0]):
        for n in range(x.shape[1]):
            x2, o2 = as_c(x[m, n]), as_c(out[m, n])
            if place.size < o2.shape[0]:  # some results are zero
                o2[:] = 0
            for r in range(x2.shape[0]):
                s, e = v.element(start, r), v.element(start, r + 1)
                if s == e:
                    continue
                p, w = _four(place, s, e, c), _four_weights(weight, s, e, x)
                for j in range(0, whole, width):
                    _spread(x2, place, weight, s, e, p, w, o2, r, j, None)
                if whole < c:
                    _spread(x2, place, weight, s, e, p, w, o2, r, whole, rest)
