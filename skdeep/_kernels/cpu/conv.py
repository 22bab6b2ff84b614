"""Direct convolution: forward with bias and ReLU, input gradient, weight gradient.

Geometry convention of all convolution (and pooling) kernels. Arrays have three spatial axes (size
one where a dimension is absent, in front: 2-D is depth 1) and are given to a kernel as
(M, size), member axis first, each member's part C-contiguous in the order

- x, dx: (N, D, H, W, C)
- w, dw: (KD, KH, KW, C // groups, K)
- y, dy: (N, OD, OH, OW, K)
- bias: (M, K)

A member count of one in an input means that all members share it. The int64 geometry vector has
the entries, by place:

- 0: N
- 1, 2, 3: D, H, W
- 4: C
- 5, 6, 7: KD, KH, KW
- 8: K
- 9, 10, 11: OD, OH, OW
- 12, 13, 14: stride
- 15, 16, 17: dilation
- 18, 19, 20: cells of padding before (those after follow from the output's size)
- 21: groups

Direct convolution itself follows tables made once per geometry (`_conv_plan`). It is a product of
matrices with no im2col: channels last, the cells of a filter row are contiguous, so a row of A (an
output's inputs) is a few segments of memory, and the register tile walks them. B is the weights,
packed once per call into panels. Every output is one chain of multiply-adds in the order of the
taps: its bits depend on its own inputs alone.

Measured on a Zen 4 core (116 GFLOP/s of float32), batch 8 to 64, GFLOP/s of forward, input
gradient and weight gradient: 64 to 64 channels 3x3 at 56x56 109, 111, 107; 256 to 512 of stride 2
at 14x14 105, 102, 94; 3 to 64 7x7 of stride 2 at 224x224 106, 31, 104; 1 to 32 3x3 at 28x28 61,
10, 69; LeNet-5's second 82, 44, 98 (few channels leave lanes of a vector empty).
"""

import numpy as np

from skdeep._kernels.cpu._conv_plan import (
    BAND_LINES,
    BAND_PLANES,
    CHANNELS,
    CHUNK,
    CLEAR,
    COPY,
    DEPTHS,
    FILLED,
    FILTERS,
    GROUPS,
    IMAGES,
    LENGTH,
    LINE,
    LINES,
    LOW_D,
    LOW_H,
    LOW_W,
    OFFSETS_AT,
    OUT,
    OUT_DEPTH,
    OUT_IMAGE,
    OUT_LINE,
    OUT_ROW,
    PACKED_AT,
    PASS_SIZE,
    PASS_TAPS,
    PLANE,
    PLANES,
    RELU,
    ROWS,
    RUN,
    RUNS,
    RUNS_AT,
    SLAB_AT,
    SLAB_LINES,
    SLAB_WIDTH,
    SLICES,
    SLICES_AT,
    SOURCE_CHANNELS,
    SOURCE_DEPTH,
    SOURCE_HEIGHT,
    SOURCE_WIDTH,
    SPANS_AT,
    STEP_D,
    STEP_H,
    STEP_W,
    TAPS_AT,
    TRANSPOSED,
    UNROLL,
    UNROLLED_AT,
)
from skdeep._kernels.cpu._microkernel import ACROSS, HOST, make_pack, make_pack_transposed
from skdeep._kernels.cpu._numba import helper, kernel, njit_inline
from skdeep._kernels.cpu._pointers import address, clear, copy, data, itemsize, member, offset
from skdeep._kernels.cpu._sweep import sweep, unroll

_WIDTH = ACROSS * HOST.width
_pack, _pack_transposed = make_pack(HOST), make_pack_transposed(HOST)


@njit_inline
def aligned(scratch):
    """Return where scratch first starts a line of the cache."""
    start = data(scratch)
    return offset(start, (-address(start) % 64) // itemsize(start))


@helper
def fill_untouched(plan, bias, width, floor, out, size):
    """Give a result its bias alone, where some of its cells meet no tap."""
    if plan[CLEAR]:
        for i in range(0, size, width):
            cell = offset(out, i)
            for j in range(width):
                v = bias[j]
                cell[j] = floor if v < floor else v


@helper
def fill_slab(x, plan, row, tables, plane, planes, line, lines, slab):
    """Copy the cells that lines of some planes read, with zeros where the source ends."""
    size, channels = plan[SOURCE_WIDTH], plan[SOURCE_CHANNELS]
    before = min(max(-row[LOW_W], 0), row[SLAB_WIDTH])
    left = max(row[LOW_W], 0)
    inside = max(min(row[SLAB_WIDTH] - before, size - left), 0)
    after = (row[SLAB_WIDTH] - before - inside) * channels
    before, inside, left = before * channels, inside * channels, left * channels
    reach = row[SLAB_LINES] - (row[BAND_LINES] - lines) * row[STEP_H]
    for p in range(planes):
        image, depth = divmod(plane + p, row[DEPTHS])
        for s in range(row[SLICES]):
            z = depth * row[STEP_D] + row[LOW_D] + tables[row[SLICES_AT] + s]
            for i in range(reach):
                y = line * row[STEP_H] + row[LOW_H] + i
                to = offset(slab, p * row[PLANE] + (s * row[SLAB_LINES] + i) * row[LINE])
                if z < 0 or z >= plan[SOURCE_DEPTH] or y < 0 or y >= plan[SOURCE_HEIGHT]:
                    clear(to, row[LINE])
                    continue
                at = ((image * plan[SOURCE_DEPTH] + z) * plan[SOURCE_HEIGHT] + y) * size * channels
                clear(to, before)
                copy(offset(x, at + left), offset(to, before), inside)
                clear(offset(to, before + inside), after)


@helper
def band_source(x, plan, row, tables, plane, planes, line, lines, slab):
    """Return where the cells of a band's first output start: in the slab or in the source."""
    if row[COPY] == FILLED:
        return slab
    if row[COPY]:
        fill_slab(x, plan, row, tables, plane, planes, line, lines, slab)
        return slab
    y = line * row[STEP_H] + row[LOW_H]
    at = (row[LOW_D] * plan[SOURCE_HEIGHT] + y) * plan[SOURCE_WIDTH] + row[LOW_W]
    return offset(x, plane * row[PLANE] + at * plan[SOURCE_CHANNELS])


@helper
def _unroll_band(a, plan, row, tables, planes, lines, out):
    """Copy the rows of A of a band one behind the other."""
    runs, step = offset(tables, row[RUNS_AT]), row[STEP_W] * plan[SOURCE_CHANNELS]
    for p in range(planes):
        for i in range(lines):
            start = offset(a, p * row[PLANE] + i * row[STEP_H] * row[LINE])
            to = offset(out, (p * lines + i) * row[ROWS] * row[UNROLL])
            unroll(row[ROWS], start, step, runs, row[RUNS], row[RUN], to)


@helper
def _pack_weights(w, plan, row, tables, packed):
    """Pack the taps of a pass into panels, in their order."""
    width = _WIDTH // itemsize(w)
    groups, channels, filters = plan[GROUPS], plan[CHANNELS], plan[FILTERS]
    at = 0
    for g in range(groups):
        for j in range(0, filters, width):
            columns = min(width, filters - j)
            for t in range(row[PASS_TAPS]):
                tap = tables[row[TAPS_AT] + t]
                to = offset(packed, at * width)
                if plan[TRANSPOSED]:
                    stride = groups * channels
                    start = (tap * filters + j) * stride + g * channels
                    _pack_transposed(channels, offset(w, start), stride, columns, to)
                else:
                    stride = groups * filters
                    start = tap * channels * stride + g * filters + j
                    _pack(channels, offset(w, start), stride, columns, to)
                at += channels


@helper
def _correlate_band(a, a_row, bias, plan, row, tables, planes, lines, line, packed, out):
    """Compute a band of outputs: of each group the panels of filters, one by one."""
    width = _WIDTH // itemsize(a)
    groups, channels, filters = plan[GROUPS], plan[CHANNELS], plan[FILTERS]
    rows, spans, count = row[ROWS], offset(tables, row[SPANS_AT] + 2 * line), 0
    if row[UNROLL]:
        planes, lines, rows, count = 1, 1, planes * lines * rows, 1
    deep, panels = row[PASS_TAPS] * channels * width, (filters + width - 1) // width
    for g in range(groups):
        for q in range(panels):
            column = g * filters + q * width
            sweep(
                planes, row[PLANE], row[OUT_IMAGE],
                lines, row[STEP_H] * row[LINE], row[OUT_LINE],
                rows, offset(a, g * channels), a_row, 1,
                offset(tables, row[OFFSETS_AT]), spans, count, row[LENGTH],
                offset(packed, (g * panels + q) * deep), width,
                offset(out, column), row[OUT_ROW],
                min(width, filters - q * width), offset(bias, column), plan[RELU], 0,
            )  # fmt: skip


@helper
def _correlate_pass(x, bias, plan, row, tables, first, last, scratch, out):
    """Compute the outputs of one pass for some images, band by band."""
    slab, packed = offset(scratch, plan[SLAB_AT]), offset(scratch, row[PACKED_AT])
    for plane in range(first * row[DEPTHS], last * row[DEPTHS], row[BAND_PLANES]):
        planes = min(row[BAND_PLANES], last * row[DEPTHS] - plane)
        image, depth = divmod(plane, row[DEPTHS])
        for line in range(0, row[LINES], row[BAND_LINES]):
            lines = min(row[BAND_LINES], row[LINES] - line)
            a = band_source(x, plan, row, tables, plane, planes, line, lines, slab)
            a_row = row[STEP_W] * plan[SOURCE_CHANNELS]
            if row[UNROLL]:
                unrolled, a_row = offset(scratch, plan[UNROLLED_AT]), row[UNROLL]
                _unroll_band(a, plan, row, tables, planes, lines, unrolled)
                a = unrolled
            to = row[OUT] + image * row[OUT_IMAGE] + depth * row[OUT_DEPTH] + line * row[OUT_LINE]
            _correlate_band(
                a, a_row, bias, plan, row, tables, planes, lines, line, packed, offset(out, to)
            )


@kernel("f2 f2 f2 l1 l2 l1 f1 f2")
def correlate(x, w, bias, plan, passes, tables, scratch, out):
    """Forward convolution with bias and ReLU, or the input gradient: as the plan says.

    x (1|M, source), w (1|M, weights), bias (1|M, filters), out (M, size); `plan`, `passes` and
    `tables` from `_conv_plan.correlation`.
    """
    start, count, plan, tables = aligned(scratch), passes.shape[0], data(plan), data(tables)
    floor = out.dtype.type(0 if plan[RELU] else -np.inf)
    for m in range(out.shape[0]):
        xm, wm, bm, om = member(x, m), member(w, m), member(bias, m), member(out, m)
        fill_untouched(plan, bm, bias.shape[1], floor, om, out.shape[1])
        for i in range(count):
            row = offset(data(passes), i * PASS_SIZE)
            _pack_weights(wm, plan, row, tables, offset(start, row[PACKED_AT]))
        for n in range(0, plan[IMAGES], plan[CHUNK]):
            last = min(n + plan[CHUNK], plan[IMAGES])
            for i in range(count):
                row = offset(data(passes), i * PASS_SIZE)
                _correlate_pass(xm, bm, plan, row, tables, n, last, start, om)


@helper
def _weights_band(a, dy, zeros, plan, row, tables, lines, accumulate, dw):
    """Add a band's products of inputs and output gradients to the weight gradient."""
    width = _WIDTH // itemsize(a)
    groups, channels, filters = plan[GROUPS], plan[CHANNELS], plan[FILTERS]
    stride, length = groups * filters, row[LENGTH]
    offsets, count, rows = offset(tables, row[OFFSETS_AT]), lines, row[ROWS]
    a_row = row[STEP_W] * plan[SOURCE_CHANNELS]
    if row[UNROLL]:
        count, rows, a_row = 1, lines * rows, row[UNROLL]
    for g in range(groups):
        for j in range(0, filters, width):
            column = g * filters + j
            for r in range(row[PASS_TAPS]):
                start = tables[row[TAPS_AT] + r] + g * channels
                sweep(
                    1, 0, 0, 1, 0, 0,
                    length, offset(a, start), 1, a_row,
                    offsets, offsets, count, rows,
                    offset(dy, column), stride,
                    offset(dw, r * length * stride + column), stride,
                    min(width, filters - j), zeros, 0, accumulate,
                )  # fmt: skip


@kernel("f2 f2 l1 l2 l1 f1 f2")
def weight_grad(x, dy, plan, passes, tables, scratch, dw):
    """Weight gradient: the products of inputs and output gradients, summed over all outputs.

    x (1|M, size), dy (1|M, size), dw (M, size); `plan`, `passes` and `tables` from
    `_conv_plan.weights`.
    """
    start, plan, row, tables = aligned(scratch), data(plan), data(passes), data(tables)
    zeros, slab = start, offset(start, plan[SLAB_AT])
    unrolled = offset(start, plan[UNROLLED_AT])
    clear(zeros, plan[SLAB_AT])
    pixels = row[ROWS] * plan[GROUPS] * plan[FILTERS]
    for m in range(dw.shape[0]):
        xm, dm, wm = member(x, m), member(dy, m), member(dw, m)
        if row[PLANES] == 0:
            clear(wm, dw.shape[1])
        for plane in range(0, row[PLANES], row[BAND_PLANES]):
            planes = min(row[BAND_PLANES], row[PLANES] - plane)
            for line in range(0, row[LINES], row[BAND_LINES]):
                lines = min(row[BAND_LINES], row[LINES] - line)
                a = band_source(xm, plan, row, tables, plane, planes, line, lines, slab)
                if row[UNROLL]:
                    _unroll_band(a, plan, row, tables, planes, lines, unrolled)
                    a = unrolled
                to = offset(dm, (plane * row[LINES] + line) * pixels)
                add = plane + line > 0
                _weights_band(a, to, zeros, plan, row, tables, planes * lines, add, wm)
