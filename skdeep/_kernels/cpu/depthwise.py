"""Depthwise convolution: one filter for each channel, so that channels are lanes of a vector.

Arrays and plans are those of `conv`, where ``groups == C == K``. A tile holds some outputs of a
panel of channels; each tap multiplies their inputs by its row of weights, lane by lane.
"""

from skdeep._kernels.cpu._conv_plan import (
    BAND_LINES,
    BAND_PLANES,
    CHUNK,
    DEPTHS,
    IMAGES,
    LENGTH,
    LINE,
    LINES,
    OFFSETS_AT,
    OUT,
    OUT_DEPTH,
    OUT_IMAGE,
    OUT_LINE,
    OUT_ROW,
    PACKED_AT,
    PASS_TAPS,
    PLANE,
    PLANES,
    RELU,
    ROWS,
    SLAB_AT,
    SOURCE_CHANNELS,
    SPANS_AT,
    STEP_H,
    STEP_W,
    TAP_ROW,
    TAPS_AT,
)
from skdeep._kernels.cpu._microkernel import ACROSS, HOST, data, itemsize, make_pack, offset
from skdeep._kernels.cpu._numba import as_c, helper, kernel
from skdeep._kernels.cpu._sweep import lanes_sweep
from skdeep._kernels.cpu.conv import aligned, band_source, clear, fill_untouched, member

_WIDTH = ACROSS * HOST.width
_pack = make_pack(HOST)


@helper
def _pack_weights(w, plan, row, tables, packed):
    """Pack the taps of a pass into panels of channels, in their order."""
    width, channels, at = _WIDTH // itemsize(w), plan[SOURCE_CHANNELS], 0
    for j in range(0, channels, width):
        for t in range(row[PASS_TAPS]):
            tap = tables[row[TAPS_AT] + t]
            start = offset(w, tap * channels + j)
            _pack(1, start, channels, min(width, channels - j), offset(packed, at))
            at += width


@helper
def _depthwise_pass(x, bias, plan, row, tables, first, last, scratch, out):
    """Compute the outputs of one pass for some images, band by band."""
    width, channels = _WIDTH // itemsize(x), plan[SOURCE_CHANNELS]
    slab, deep = offset(scratch, plan[SLAB_AT]), row[PASS_TAPS] * width
    packed = offset(scratch, row[PACKED_AT])
    offsets = offset(data(tables), row[OFFSETS_AT])
    for plane in range(first * row[DEPTHS], last * row[DEPTHS], row[BAND_PLANES]):
        planes = min(row[BAND_PLANES], last * row[DEPTHS] - plane)
        image, depth = divmod(plane, row[DEPTHS])
        for line in range(0, row[LINES], row[BAND_LINES]):
            lines = min(row[BAND_LINES], row[LINES] - line)
            a = band_source(x, plan, row, tables, plane, planes, line, lines, slab)
            to = row[OUT] + image * row[OUT_IMAGE] + depth * row[OUT_DEPTH] + line * row[OUT_LINE]
            for j in range(0, channels, width):
                lanes_sweep(
                    planes, row[PLANE], row[OUT_IMAGE],
                    lines, row[STEP_H] * row[LINE], row[OUT_LINE],
                    row[ROWS], offset(a, j), row[STEP_W] * channels, 0,
                    offsets, offset(data(tables), row[SPANS_AT] + 2 * line), 0, row[LENGTH],
                    offset(packed, j // width * deep), width,
                    offset(out, to + j), row[OUT_ROW],
                    min(width, channels - j), offset(bias, j), plan[RELU], 0,
                )  # fmt: skip


@kernel("f2 f2 f2 l1 l2 l1 f1 f2")
def depthwise(x, w, bias, plan, passes, tables, scratch, out):
    """As `conv.correlate`, with a filter for each channel."""
    for m in range(out.shape[0]):
        xm, wm, bm, om = member(x, m), member(w, m), member(bias, m), as_c(out[m])
        fill_untouched(plan, bm, om)
        start = aligned(scratch)
        for i in range(passes.shape[0]):
            _pack_weights(data(wm), plan, passes[i], tables, offset(start, passes[i, PACKED_AT]))
        for n in range(0, plan[IMAGES], plan[CHUNK]):
            last = min(n + plan[CHUNK], plan[IMAGES])
            for i in range(passes.shape[0]):
                _depthwise_pass(
                    data(xm), data(bm), plan, passes[i], tables, n, last, start, data(om)
                )


@helper
def _weights_band(a, dy, zeros, plan, row, tables, count, accumulate, dw):
    """Add a band's products of inputs and output gradients to the weight gradient."""
    width, channels = _WIDTH // itemsize(a), plan[SOURCE_CHANNELS]
    offsets = offset(data(tables), row[OFFSETS_AT])
    for j in range(0, channels, width):
        for r in range(row[PASS_TAPS]):
            start = tables[row[TAPS_AT] + r] + j
            lanes_sweep(
                1, 0, 0, 1, 0, 0,
                row[LENGTH], offset(a, start), row[TAP_ROW], row[STEP_W] * channels,
                offsets, offsets, count, row[ROWS],
                offset(dy, j), channels,
                offset(dw, r * row[LENGTH] * channels + j), channels,
                min(width, channels - j), zeros, 0, accumulate,
            )  # fmt: skip


@kernel("f2 f2 l1 l2 l1 f1 f2")
def depthwise_weight_grad(x, dy, plan, passes, tables, scratch, dw):
    """As `conv.weight_grad`, with a filter for each channel."""
    row = passes[0]
    start = aligned(scratch)
    zeros, slab = start, offset(start, plan[SLAB_AT])
    clear(zeros, plan[SLAB_AT])
    pixels = row[ROWS] * plan[SOURCE_CHANNELS]
    for m in range(dw.shape[0]):
        xm, dm, wm = data(member(x, m)), data(member(dy, m)), as_c(dw[m])
        if row[PLANES] == 0:
            clear(data(wm), wm.size)
        for plane in range(0, row[PLANES], row[BAND_PLANES]):
            planes = min(row[BAND_PLANES], row[PLANES] - plane)
            for line in range(0, row[LINES], row[BAND_LINES]):
                lines = min(row[BAND_LINES], row[LINES] - line)
                a = band_source(xm, plan, row, tables, plane, planes, line, lines, slab)
                to = offset(dm, (plane * row[LINES] + line) * pixels)
                _weights_band(
                    a, to, zeros, plan, row, tables, planes * lines, plane + line > 0, data(wm)
                )
