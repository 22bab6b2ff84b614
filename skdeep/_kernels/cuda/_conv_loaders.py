"""Where the operands of a convolution stand, as matrices, and where its results go.

A convolution is a product of matrices that are never built. The *picture* is an array of images
(N, D, H, W, C). As an operand its rows are the cells of a result and its columns (tap, channel):
cell i meets the picture at coordinate ``first + stride * i + tap * t`` of each axis. That is a
convolution with the padding as first, and an input gradient, too, whose picture is the cotangent
and whose taps go backwards (``tap < 0``). Coordinates wrap around, so that one comparison finds
those before the beginning and those behind the end.

Loaders come fast, for channels that are a multiple of the template's depth (of four, where
channels are the rows): then all threads meet the same tap, and vectors of four channels never
straddle two. The others find the tap of every element.
"""

from skdeep._kernels.cuda._intrinsics import load4
from skdeep._kernels.cuda._numba import device, float32, uint32, uint64
from skdeep._kernels.cuda._tile import LARGE, Loader, Store

#: The depth of a slab of k: see `_tile`.
DEPTH = LARGE.depth

#: The numbers of a picture: the distances of groups or members, and of its elements; the size of
#: its axes; what is multiplied with it; each divisor's multiplier and shift (see `divisor`).
NUMBERS = tuple(
    "x_item x_n x_d x_h x_w size_d size_h size_w channels "
    "rows_d rows_h rows_w stride_d stride_h stride_w first_d first_h first_w "
    "taps_h taps_w tap_d tap_h tap_w end_h end_w leap_d leap_h leap_w "
    "by_channels shift_channels by_taps_h shift_taps_h by_taps_w shift_taps_w "
    "by_rows_d shift_rows_d by_rows_h shift_rows_h by_rows_w shift_rows_w".split()
)
(
    ITEM, X_N, X_D, X_H, X_W, SIZE_D, SIZE_H, SIZE_W, CHANNELS,
    ROWS_D, ROWS_H, ROWS_W, STRIDE_D, STRIDE_H, STRIDE_W, FIRST_D, FIRST_H, FIRST_W,
    TAPS_H, TAPS_W, TAP_D, TAP_H, TAP_W, END_H, END_W, LEAP_D, LEAP_H, LEAP_W,
    BY_CHANNELS, SHIFT_CHANNELS, BY_TAPS_H, SHIFT_TAPS_H, BY_TAPS_W, SHIFT_TAPS_W,
    BY_ROWS_D, SHIFT_ROWS_D, BY_ROWS_H, SHIFT_ROWS_H, BY_ROWS_W, SHIFT_ROWS_W,
) = range(len(NUMBERS))  # fmt: skip


def divisor(d):
    """Return multiplier and shift: n // d == n * multiplier >> shift for every n < 2**31."""
    bits = (int(d) - 1).bit_length()
    return -(-(1 << 31 + bits) // int(d)), 31 + bits


@device
def divided(n, multiplier, shift):
    """Return n // d: see `divisor`."""
    return uint32((uint64(n) * uint64(multiplier)) >> uint64(shift))


# ---- the picture, a row a cell ----------------------------------------------------------------


@device
def _place_cell(r, limit, k, batch, *g):
    """Return the offset of the first tap's channel, and its coordinates."""
    r = uint32(min(r, uint32(limit - uint32(1))))
    q = uint32(r // g[ROWS_W])
    w = uint32(uint32(r - q * g[ROWS_W]) * g[STRIDE_W] + g[FIRST_W])
    r = uint32(q // g[ROWS_H])
    h = uint32(uint32(q - r * g[ROWS_H]) * g[STRIDE_H] + g[FIRST_H])
    n = uint32(r // g[ROWS_D])
    d = uint32(uint32(r - n * g[ROWS_D]) * g[STRIDE_D] + g[FIRST_D])
    o = uint32(batch * g[ITEM] + n * g[X_N] + d * g[X_D] + h * g[X_H] + w * g[X_W])
    return o, d, h, w


@device
def _place_vector(r, limit, k, batch, *g):
    """Return the same at the thread's channel of a slab."""
    o, d, h, w = _place_cell(r, limit, k, batch, *g)
    return uint32(o + (k & uint32(DEPTH - 1))), d, h, w


@device
def _begin(k, *g):
    """Return the channel at which a slab begins, its tap's coordinates, and its offset."""
    t = uint32(k // g[CHANNELS])
    c = uint32(k - t * g[CHANNELS])
    q = uint32(t // g[TAPS_W])
    w = uint32(uint32(t - q * g[TAPS_W]) * g[TAP_W])
    d = uint32(q // g[TAPS_H])
    h = uint32(uint32(q - d * g[TAPS_H]) * g[TAP_H])
    d = uint32(d * g[TAP_D])
    return c, d, h, w, uint32(c + d * g[X_D] + h * g[X_H] + w * g[X_W])


@device
def _advance(step, depth, *g):
    c, d, h, w, o = step
    c, o = uint32(c + depth), uint32(o + depth)
    if c == g[CHANNELS]:
        c, w, o = uint32(0), uint32(w + g[TAP_W]), uint32(o + g[LEAP_W])
        if w == g[END_W]:
            w, h, o = uint32(0), uint32(h + g[TAP_H]), uint32(o + g[LEAP_H])
            if h == g[END_H]:
                h, d, o = uint32(0), uint32(d + g[TAP_D]), uint32(o + g[LEAP_D])
    return c, d, h, w, o


@device
def _inside(d, h, w, *g):
    return d < g[SIZE_D] and h < g[SIZE_H] and w < g[SIZE_W]


@device
def _fetch_vector(X, slot, step, k, end, *g):
    d, h, w = uint32(slot[1] + step[1]), uint32(slot[2] + step[2]), uint32(slot[3] + step[3])
    if k < end and _inside(d, h, w, *g):
        return load4(X, uint32(slot[0] + step[4]))
    zero = float32(0)
    return zero, zero, zero, zero


@device
def _tap(k, *g):
    """Return the channel and the tap of an element."""
    t = divided(k, g[BY_CHANNELS], g[SHIFT_CHANNELS])
    q = divided(t, g[BY_TAPS_W], g[SHIFT_TAPS_W])
    d = divided(q, g[BY_TAPS_H], g[SHIFT_TAPS_H])
    return (
        uint32(k - t * g[CHANNELS]),
        d,
        uint32(q - d * g[TAPS_H]),
        uint32(t - q * g[TAPS_W]),
    )


@device
def _element(X, slot, k, end, *g):
    c, d, h, w = _tap(k, *g)
    d, h, w = uint32(d * g[TAP_D]), uint32(h * g[TAP_H]), uint32(w * g[TAP_W])
    o = uint32(slot[0] + c + d * g[X_D] + h * g[X_H] + w * g[X_W])
    d, h, w = uint32(slot[1] + d), uint32(slot[2] + h), uint32(slot[3] + w)
    if k < end and _inside(d, h, w, *g):
        return X[o]
    return float32(0)


@device
def _fetch_elements(X, slot, step, k, end, *g):
    return (
        _element(X, slot, k, end, *g),
        _element(X, slot, uint32(k + uint32(1)), end, *g),
        _element(X, slot, uint32(k + uint32(2)), end, *g),
        _element(X, slot, uint32(k + uint32(3)), end, *g),
    )


#: A row a cell, a column (tap, channel).
CELLS = {
    True: Loader("", True, _place_vector, _fetch_vector, None, _begin, _advance, NUMBERS),
    False: Loader("1", True, _place_cell, _fetch_elements, arguments=NUMBERS),
}


# ---- the picture, a row (tap, channel) --------------------------------------------------------


@device
def _place_tap(r, limit, k, batch, *g):
    """Return the offset of a tap's channel at the first cell, and its coordinates there."""
    r = uint32(min(r, uint32(limit - uint32(1))))
    c, d, h, w = _tap(r, *g)
    d = uint32(d * g[TAP_D] + g[FIRST_D])
    h = uint32(h * g[TAP_H] + g[FIRST_H])
    w = uint32(w * g[TAP_W] + g[FIRST_W])
    return uint32(batch * g[ITEM] + c + d * g[X_D] + h * g[X_H] + w * g[X_W]), d, h, w


@device
def _place_taps(r, limit, k, batch, *g):
    """Return the same of four neighbours."""
    o0, d0, h0, w0 = _place_tap(r, limit, k, batch, *g)
    o1, d1, h1, w1 = _place_tap(uint32(r + uint32(1)), limit, k, batch, *g)
    o2, d2, h2, w2 = _place_tap(uint32(r + uint32(2)), limit, k, batch, *g)
    o3, d3, h3, w3 = _place_tap(uint32(r + uint32(3)), limit, k, batch, *g)
    return o0, d0, h0, w0, o1, d1, h1, w1, o2, d2, h2, w2, o3, d3, h3, w3


@device
def _place_four_channels(r, limit, k, batch, *g):
    return _place_tap(uint32(min(r, uint32(limit - uint32(4)))), limit, k, batch, *g)


@device
def _cell(k, *g):
    """Return the offset of a cell from the first one, and its coordinates."""
    q = divided(k, g[BY_ROWS_W], g[SHIFT_ROWS_W])
    w = uint32(uint32(k - q * g[ROWS_W]) * g[STRIDE_W])
    p = divided(q, g[BY_ROWS_H], g[SHIFT_ROWS_H])
    h = uint32(uint32(q - p * g[ROWS_H]) * g[STRIDE_H])
    n = divided(p, g[BY_ROWS_D], g[SHIFT_ROWS_D])
    d = uint32(uint32(p - n * g[ROWS_D]) * g[STRIDE_D])
    return uint32(n * g[X_N] + d * g[X_D] + h * g[X_H] + w * g[X_W]), d, h, w


@device
def _fetch_four_channels(X, slot, step, k, end, *g):
    o, d, h, w = _cell(k, *g)
    d, h, w = uint32(slot[1] + d), uint32(slot[2] + h), uint32(slot[3] + w)
    if k < end and _inside(d, h, w, *g):
        return load4(X, uint32(slot[0] + o))
    zero = float32(0)
    return zero, zero, zero, zero


@device
def _one_of_taps(X, o, d, h, w, cell, *g):
    d, h, w = uint32(d + cell[1]), uint32(h + cell[2]), uint32(w + cell[3])
    if _inside(d, h, w, *g):
        return X[uint32(o + cell[0])]
    return float32(0)


@device
def _fetch_taps(X, s, step, k, end, *g):
    zero = float32(0)
    if k < end:
        cell = _cell(k, *g)
        return (
            _one_of_taps(X, s[0], s[1], s[2], s[3], cell, *g),
            _one_of_taps(X, s[4], s[5], s[6], s[7], cell, *g),
            _one_of_taps(X, s[8], s[9], s[10], s[11], cell, *g),
            _one_of_taps(X, s[12], s[13], s[14], s[15], cell, *g),
        )
    return zero, zero, zero, zero


#: A row (tap, channel), a column a cell.
TAPS = {
    True: Loader("", False, _place_four_channels, _fetch_four_channels, arguments=NUMBERS),
    False: Loader("1", False, _place_taps, _fetch_taps, arguments=NUMBERS),
}


# ---- the weights, a row (tap, filter), a column a channel -------------------------------------

#: The numbers of the weights: the distances of groups or members, channels and taps; what the
#: offset leaps by at the end of a line. The filters, which the picture's channels meet, are its.
_W_NUMBERS = tuple(
    "w_item w_row w_tap_d w_tap_h w_tap_w w_leap_d w_leap_h w_leap_w "
    "channels taps_h taps_w "
    "by_channels shift_channels by_taps_h shift_taps_h by_taps_w shift_taps_w".split()
)


@device
def _place_filter(
    r, limit, k, batch, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    return (uint32(batch * item + uint32(min(r, uint32(limit - uint32(1)))) * row),)


@device
def _place_filters(
    r, limit, k, batch, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    o = uint32(batch * item + uint32(min(r, uint32(limit - uint32(1)))) * row)
    return (uint32(o + (k & uint32(DEPTH - 1))),)


@device
def _begin_weights(
    k, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    """Return the filter at which a slab begins, its tap, and its offset."""
    t = uint32(k // channels)
    c = uint32(k - t * channels)
    q = uint32(t // taps_w)
    w = uint32(t - q * taps_w)
    d = uint32(q // taps_h)
    h = uint32(q - d * taps_h)
    return c, h, w, uint32(c + d * tap_d + h * tap_h + w * tap_w)


@device
def _advance_weights(
    step, depth, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    c, h, w, o = step
    c, o = uint32(c + depth), uint32(o + depth)
    if c == channels:
        c, w, o = uint32(0), uint32(w + uint32(1)), uint32(o + leap_w)
        if w == taps_w:
            w, h, o = uint32(0), uint32(h + uint32(1)), uint32(o + leap_h)
            if h == taps_h:
                h, o = uint32(0), uint32(o + leap_d)
    return c, h, w, o


@device
def _fetch_four_filters(
    X, slot, step, k, end, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    if k < end:
        return load4(X, uint32(slot[0] + step[3]))
    zero = float32(0)
    return zero, zero, zero, zero


@device
def _weight(
    X, o, k, end, tap_d, tap_h, tap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    if k < end:
        t = divided(k, by_c, shift_c)
        q = divided(t, by_w, shift_w)
        d = divided(q, by_h, shift_h)
        w, h, c = uint32(t - q * taps_w), uint32(q - d * taps_h), uint32(k - t * channels)
        return X[uint32(o + c + d * tap_d + h * tap_h + w * tap_w)]
    return float32(0)


@device
def _fetch_filters(
    X, slot, step, k, end, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w, *g
):  # fmt: skip
    o = slot[0]
    return (
        _weight(X, o, k, end, tap_d, tap_h, tap_w, *g),
        _weight(X, o, uint32(k + uint32(1)), end, tap_d, tap_h, tap_w, *g),
        _weight(X, o, uint32(k + uint32(2)), end, tap_d, tap_h, tap_w, *g),
        _weight(X, o, uint32(k + uint32(3)), end, tap_d, tap_h, tap_w, *g),
    )


#: A row (tap, filter), a column a channel.
FILTERS = {
    True: Loader("", True, _place_filters, _fetch_four_filters, None, _begin_weights,
                 _advance_weights, _W_NUMBERS),
    False: Loader("1", True, _place_filter, _fetch_filters, arguments=_W_NUMBERS),
}  # fmt: skip


# ---- the result: every stride-th cell of images -----------------------------------------------


@device
def _row_of_cells(r, batch, part, row, item, slab, bias_item, rows_d, rows_h, rows_w, n, d, h, w):
    q = uint32(r // rows_w)
    o = uint32(uint32(r - q * rows_w) * w)
    p = uint32(q // rows_h)
    o = uint32(o + uint32(q - p * rows_h) * h)
    q = uint32(p // rows_d)
    o = uint32(o + uint32(p - q * rows_d) * d + q * n)
    return uint32(batch * item + part * slab + o * row)


@device
def _bias_of_cells(batch, row, item, slab, bias_item, rows_d, rows_h, rows_w, n, d, h, w):
    return uint32(batch * bias_item)


#: Cells of images, `c_n`, `c_d`, `c_h` and `c_w` cells apart.
EVERY = Store(
    "",
    _row_of_cells,
    _bias_of_cells,
    tuple("c_row c_item c_part bias_item rows_d rows_h rows_w c_n c_d c_h c_w".split()),
)
