"""Depthwise convolution: one filter for each channel, so that channels are lanes of a vector.

Arrays and plans are those of `conv`, where ``groups == C == K``. A tile holds some outputs of a
panel of channels; each tap multiplies their inputs by its row of weights, lane by lane.
"""

import numpy as np

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
    PASS_SIZE,
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
from skdeep._kernels.cpu._microkernel import ACROSS, HOST, make_pack
from skdeep._kernels.cpu._numba import helper, kernel
from skdeep._kernels.cpu._pointers import clear, data, itemsize, member, offset
from skdeep._kernels.cpu._sweep import lanes_sweep
from skdeep._kernels.cpu.conv import aligned, band_source, fill_untouched

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
    offsets = offset(tables, row[OFFSETS_AT])
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
                    offsets, offset(tables, row[SPANS_AT] + 2 * line), 0, row[LENGTH],
                    offset(packed, j // width * deep), width,
                    offset(out, to + j), row[OUT_ROW],
                    min(width, channels - j), offset(bias, j), plan[RELU], 0,
                )  # fmt: skip


@kernel("f2 f2 f2 l1 l2 l1 f1 f2")
def depthwise(x, w, bias, plan, passes, tables, scratch, out):
    """As `conv.correlate`, with a filter for each channel."""
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
                _depthwise_pass(xm, bm, plan, row, tables, n, last, start, om)


@helper
def _weights_band(a, dy, zeros, plan, row, tables, count, accumulate, dw):
    """Add a band's products of inputs and output gradients to the weight gradient."""
    width, channels = _WIDTH // itemsize(a), plan[SOURCE_CHANNELS]
    offsets = offset(tables, row[OFFSETS_AT])
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
    start, plan, row, tables = aligned(scratch), data(plan), data(passes), data(tables)
    zeros, slab = start, offset(start, plan[SLAB_AT])
    clear(zeros, plan[SLAB_AT])
    pixels = row[ROWS] * plan[SOURCE_CHANNELS]
    for m in range(dw.shape[0]):
        xm, dm, wm = member(x, m), member(dy, m), member(dw, m)
        if row[PLANES] == 0:
            clear(wm, dw.shape[1])
        for plane in range(0, row[PLANES], row[BAND_PLANES]):
            planes = min(row[BAND_PLANES], row[PLANES] - plane)
            for line in range(0, row[LINES], row[BAND_LINES]):
                lines = min(row[BAND_LINES], row[LINES] - line)
                a = band_source(xm, plan, row, tables, plane, planes, line, lines, slab)
                to = offset(dm, (plane * row[LINES] + line) * pixels)
                add = plane + line > 0
                _weights_band(a, to, zeros, plan, row, tables, planes * lines, add, wm)
