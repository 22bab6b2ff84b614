"""Convolutions on tensor cores: the passes of `conv` in the precisions TF32 and bfloat16.

Geometry, classes of input cells and the split of sums are `conv`'s, and the operands are the
matrices of `_conv_loaders`. What stands here are the kernels: loaders that say where elements
are, instead of loading them, and the tiles. The loaders called fast need channels (filters, in an
input gradient) that are a multiple of a slab's depth: 16 in TF32, 32 in bfloat16.
"""

from dataclasses import replace
from functools import cache

from skdeep._kernels.cuda import _conv_loaders as loaders
from skdeep._kernels.cuda import conv, gemm
from skdeep._kernels.cuda._numba import device, uint32
from skdeep._kernels.cuda._tensor_tile import TensorLoader, TensorShape, tensor_kernel
from skdeep._kernels.cuda._tile import FLOORED
from skdeep._kernels.cuda.gemm import MATRIX
from skdeep._kernels.cuda.gemm_tensor import CHOICES as MATRIX_CHOICES
from skdeep._kernels.cuda.gemm_tensor import matrix_operand

_inside, _tap, _cell = loaders._inside, loaders._tap, loaders._cell
_place_cell, _place_filter = loaders._place_cell, loaders._place_filter

# ---- the picture, a row a cell ----------------------------------------------------------------


@device
def _where_cell(slot, step, k, end, *g):
    d, h, w = uint32(slot[1] + step[1]), uint32(slot[2] + step[2]), uint32(slot[3] + step[3])
    return ((uint32(slot[0] + step[4]), k < end and _inside(d, h, w, *g)),)


@device
def _where_element(slot, k, end, *g):
    c, d, h, w = _tap(k, *g)
    d, h, w = uint32(d * g[TAP_D]), uint32(h * g[TAP_H]), uint32(w * g[TAP_W])
    o = uint32(slot[0] + c + d * g[X_D] + h * g[X_H] + w * g[X_W])
    d, h, w = uint32(slot[1] + d), uint32(slot[2] + h), uint32(slot[3] + w)
    return o, k < end and _inside(d, h, w, *g)


@device
def _where_elements(slot, step, k, end, *g):
    return (
        _where_element(slot, k, end, *g),
        _where_element(slot, uint32(k + uint32(1)), end, *g),
        _where_element(slot, uint32(k + uint32(2)), end, *g),
        _where_element(slot, uint32(k + uint32(3)), end, *g),
    )


TAP_D, TAP_H, TAP_W = loaders.TAP_D, loaders.TAP_H, loaders.TAP_W
X_D, X_H, X_W = loaders.X_D, loaders.X_H, loaders.X_W


@cache
def _cells(depth, fast):
    """Return the loader of rows that are cells, and columns (tap, channel)."""
    if not fast:
        return TensorLoader(
            "1", True, _place_cell, _where_elements, arguments=loaders.NUMBERS, vector=False
        )

    @device
    def place(r, limit, k, batch, *g):
        o, d, h, w = _place_cell(r, limit, k, batch, *g)
        return uint32(o + (k & uint32(depth - 1))), d, h, w

    advance = loaders._begin, loaders._advance
    return TensorLoader("", True, place, _where_cell, None, *advance, loaders.NUMBERS)


# ---- the picture, a row (tap, channel) --------------------------------------------------------


@device
def _where_four_channels(slot, step, k, end, *g):
    o, d, h, w = _cell(k, *g)
    d, h, w = uint32(slot[1] + d), uint32(slot[2] + h), uint32(slot[3] + w)
    return ((uint32(slot[0] + o), k < end and _inside(d, h, w, *g)),)


@device
def _where_tap(o, d, h, w, cell, inside, *g):
    d, h, w = uint32(d + cell[1]), uint32(h + cell[2]), uint32(w + cell[3])
    return uint32(o + cell[0]), inside and _inside(d, h, w, *g)


@device
def _where_taps(s, step, k, end, *g):
    cell, inside = _cell(k, *g), k < end
    return (
        _where_tap(s[0], s[1], s[2], s[3], cell, inside, *g),
        _where_tap(s[4], s[5], s[6], s[7], cell, inside, *g),
        _where_tap(s[8], s[9], s[10], s[11], cell, inside, *g),
        _where_tap(s[12], s[13], s[14], s[15], cell, inside, *g),
    )


#: The loaders of rows (tap, channel), and columns that are cells.
_TAPS = {
    True: TensorLoader(
        "", False, loaders._place_four_channels, _where_four_channels, arguments=loaders.NUMBERS
    ),
    False: TensorLoader(
        "1", False, loaders._place_taps, _where_taps, arguments=loaders.NUMBERS, vector=False
    ),
}


# ---- the weights, a row (tap, filter), a column a channel -------------------------------------


@device
def _where_filters(slot, step, k, end, *g):
    return ((uint32(slot[0] + step[3]), k < end),)


@device
def _where_weight(
    o, k, end, item, row, tap_d, tap_h, tap_w, leap_d, leap_h, leap_w,
    channels, taps_h, taps_w, by_c, shift_c, by_h, shift_h, by_w, shift_w,
):  # fmt: skip
    t = loaders.divided(k, by_c, shift_c)
    q = loaders.divided(t, by_w, shift_w)
    d = loaders.divided(q, by_h, shift_h)
    w, h, c = uint32(t - q * taps_w), uint32(q - d * taps_h), uint32(k - t * channels)
    return uint32(o + c + d * tap_d + h * tap_h + w * tap_w), k < end


@device
def _where_weights(slot, step, k, end, *g):
    return (
        _where_weight(slot[0], k, end, *g),
        _where_weight(slot[0], uint32(k + uint32(1)), end, *g),
        _where_weight(slot[0], uint32(k + uint32(2)), end, *g),
        _where_weight(slot[0], uint32(k + uint32(3)), end, *g),
    )


@cache
def _filters(depth, fast):
    """Return the loader of rows (tap, filter), and columns that are channels."""
    slow, quick = loaders.FILTERS[False], loaders.FILTERS[True]
    if not fast:
        return TensorLoader(
            "1", True, slow.place, _where_weights, arguments=slow.arguments, vector=False
        )

    @device
    def place(r, limit, k, batch, *g):
        o = _place_filter(r, limit, k, batch, *g)[0]
        return (uint32(o + (k & uint32(depth - 1))),)

    advance = quick.begin, quick.advance
    return TensorLoader("", True, place, _where_filters, None, *advance, quick.arguments)


# ---- kernels ----------------------------------------------------------------------------------


def _choices(precision):
    """Return the tiles of a precision: those of matrices, and one for 64 filters or channels."""
    *large, small = MATRIX_CHOICES[precision]
    tall = TensorShape(precision, 128, 64, 2, 2, 3 if precision == "tf32" else 2, resident=2)
    return *large, (tall, 2, 512, 1.25), small


CHOICES = {precision: _choices(precision) for precision in MATRIX_CHOICES}


def _roomy(fast, shape):
    """Return the shape with registers for what single elements' places take."""
    return shape if fast else replace(shape, resident=3)


@cache
def _forward_kernel(fast, shape):
    shape = _roomy(fast, shape)
    columns = matrix_operand("b", False, fast)
    return tensor_kernel("conv", _cells(shape.depth, fast), columns, MATRIX, FLOORED, shape)


@cache
def _input_kernel(fast, shape):
    shape = _roomy(fast, shape)
    if shape.rows == shape.columns == 128:  # 64 x 64 a warp leave no registers for both pictures
        shape = replace(shape, along=4, resident=1)
    a, b = _cells(shape.depth, fast), _filters(shape.depth, fast)
    return tensor_kernel("conv_input_grad", a, b, loaders.EVERY, FLOORED, shape)


@cache
def _weight_kernel(fast, shape):
    shape = _roomy(fast, shape)
    columns = matrix_operand("b", False, fast)
    return tensor_kernel("conv_weight_grad", _TAPS[fast], columns, MATRIX, FLOORED, shape)


def catalogue():
    """Return the kernels."""
    found = []
    for choices in CHOICES.values():
        shapes = [(True, shape) for shape, *_ in choices] + [(False, choices[-1][0])]
        for make in _forward_kernel, _input_kernel, _weight_kernel:
            found += [make(fast, shape) for fast, shape in shapes]
    return found


# ---- passes -----------------------------------------------------------------------------------


def _kernels(choices):
    """Return the kernels of a precision's tiles, for `conv`."""

    def choose(m, n, k, batch, fast, multiprocessors):
        few = choices if fast else choices[-1:]
        return gemm.choose(m, n, k, batch, multiprocessors, few)

    return conv.Kernels(
        _forward_kernel, _input_kernel, _weight_kernel, choose, choices[0][0].depth
    )


#: Precision -> the kernels that `conv` computes its passes with.
KERNELS = {precision: _kernels(choices) for precision, choices in CHOICES.items()}
