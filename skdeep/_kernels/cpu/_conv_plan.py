"""How a convolution is cut into sweeps: tables of integers that the kernels follow.

In one dimension, a `Course` is a set of outputs, evenly spaced, each a sum over taps: output
number t reads the source at ``t * step + low + delta`` for the delta of each tap, and is zero
there outside the source. The forward pass is one course in each dimension; the input gradient is
one for each phase of the stride, over the taps that meet that phase.

A band of lines (or of several small images) is worked on at a time: the cells of the source that
it reads are copied, with zeros around them, into a slab that stays in the second-level cache;
where nothing lies outside the source, it is read in place.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, product

import numpy as np

from skdeep._kernels.cpu._microkernel import ACROSS, HOST

#: Bytes of a slab, a part of the second-level cache; of one whose products are added to a weight
#: gradient too large for the cache, which is to be read and written the less often.
_SLAB, _LARGE_SLAB = 1 << 18, 1 << 20
#: Bytes of results of a band whose weights are few, of at most as many bytes: all its panels are
#: written before it leaves the second-level cache.
_RESULTS, _FEW_WEIGHTS = 1 << 18, 1 << 16
#: Bytes of unrolled rows.
_UNROLLED = 1 << 17
#: The longest runs of contiguous inputs whose rows are unrolled: for a weight gradient, whose
#: tiles would have as few rows; and where a vector holds all filters and a line is shorter than a
#: tile, as the rests of tiles are slow then.
_SHORT, _SHORT_NARROW = 8, 32

#: What stands at COPY where the slab is already filled.
FILLED = 2

#: Places in a plan.
(GROUPS, SOURCE_DEPTH, SOURCE_HEIGHT, SOURCE_WIDTH, SOURCE_CHANNELS, CHANNELS, FILTERS, TAPS,
 TRANSPOSED, RELU, CLEAR, SLAB_AT, UNROLLED_AT, IMAGES, CHUNK, PLAN_SIZE) = range(16)  # fmt: skip
#: Places in a pass.
(PLANES, DEPTHS, LINES, ROWS, BAND_PLANES, BAND_LINES, COPY, STEP_D, STEP_H, STEP_W, LOW_D, LOW_H,
 LOW_W, SLICES, SLICES_AT, SLAB_LINES, SLAB_WIDTH, LINE, PLANE, OUT, OUT_IMAGE, OUT_DEPTH,
 OUT_LINE, OUT_ROW, COUNT, LENGTH, OFFSETS_AT, PASS_TAPS, TAPS_AT, TAP_ROW, PACKED_AT,
 SPANS_AT, UNROLL, RUNS, RUN, RUNS_AT, PASS_SIZE) = range(37)  # fmt: skip


@dataclass(frozen=True)
class Course:
    """Outputs ``start + t * every`` for t < count, and what they read.

    An output's cells lie within `reach` of ``t * step + low``.
    """

    count: int
    start: int
    every: int
    step: int
    low: int
    taps: tuple  # (place in the kernel, delta), by delta
    reach: int

    def inside(self, size):
        """Whether every output reads cells of the source alone."""
        last = (self.count - 1) * self.step + self.low + self.reach
        return self.low >= 0 and last <= size


def forward_course(out, kernel, stride, dilation, before):
    """Return the course of the forward pass in one dimension."""
    taps = tuple((r, r * dilation) for r in range(kernel))
    return Course(out, 0, 1, stride, -before, taps, taps[-1][1] + 1)


def backward_courses(size, kernel, stride, dilation, before):
    """Return the courses of the input gradient in one dimension, one a phase of the stride.

    Cell i of the input meets tap r of output o where ``i + before = o * stride + r * dilation``.
    All phases are said to read the same cells, so that they can share a slab. The second value
    tells whether some cells meet no tap.
    """
    courses, untouched = [], False
    for phase in range(stride):
        start = (phase - before) % stride
        count = -(-(size - start) // stride)
        back = [(r, (r * dilation - phase) // stride) for r in range(kernel)
                if (r * dilation - phase) % stride == 0]  # fmt: skip
        if count > 0 and back:
            far = back[-1][1]
            low = (start + before - phase) // stride - far
            taps = tuple((r, far - e) for r, e in reversed(back))
            courses.append(Course(count, start, stride, 1, low, taps, far + 1))
        untouched |= count > 0 and not back
    return _aligned(courses), untouched


def _aligned(courses):
    """Return the courses, of step 1, so that all begin and end at the same cells."""
    low = min((c.low for c in courses), default=0)
    end = max((c.low + c.count + c.reach for c in courses), default=0)
    return [
        replace(
            c,
            low=low,
            taps=tuple((r, delta + c.low - low) for r, delta in c.taps),
            reach=end - low - c.count,
        )
        for c in courses
    ]


def _band(courses, channels, itemsize, planes, limit, unrolled):
    """Return lines and planes of a band that stays in the cache.

    `limit` is the bytes of the slab, `unrolled` those of a line's unrolled rows.
    """
    d, h, w = courses
    width = (w.count - 1) * w.step + w.reach
    line = len(d.taps) * width * channels * itemsize
    fit = max((limit // line - h.reach) // h.step + 1, 1)
    if unrolled:
        fit = min(fit, max(_UNROLLED // unrolled, 1))
    if fit < h.count or d.count > 1:
        lines = -(-h.count // -(-h.count // fit))
        return lines, 1
    whole = line * ((h.count - 1) * h.step + h.reach)
    several = min(limit // whole, planes)
    if unrolled:
        several = min(several, _UNROLLED // (unrolled * h.count))
    return h.count, max(several, 1)


class _Tables:
    """Integers laid one behind the other."""

    def __init__(self):
        self.values = []

    def add(self, values):
        """Append integers and return where they start."""
        at = len(self.values)
        self.values += [int(v) for v in values]
        return at


def _source(courses, n, size, channels, itemsize, tables, limit, unroll=0):
    """Return a pass with all that concerns what it reads; `unroll`: the length of such a row."""
    d, h, w = courses
    row = np.zeros(PASS_SIZE, np.int64)
    row[[PLANES, DEPTHS, LINES, ROWS]] = n * d.count, d.count, h.count, w.count
    row[[STEP_D, STEP_H, STEP_W]] = d.step, h.step, w.step
    row[[LOW_D, LOW_H, LOW_W]] = d.low, h.low, w.low
    line = w.count * unroll * itemsize
    lines, planes = _band(courses, channels, itemsize, n * d.count, limit, line)
    row[BAND_LINES], row[BAND_PLANES] = lines, planes
    inside = all(c.inside(s) for c, s in zip(courses, size, strict=True))
    row[COPY] = not inside or d.count > 1
    row[SLICES], row[SLICES_AT] = len(d.taps), tables.add(delta for _, delta in d.taps)
    row[SLAB_LINES] = (lines - 1) * h.step + h.reach
    row[SLAB_WIDTH] = (w.count - 1) * w.step + w.reach
    if row[COPY]:
        row[LINE] = row[SLAB_WIDTH] * channels
        row[PLANE] = row[LINE] * row[SLAB_LINES] * row[SLICES]
    else:
        row[LINE] = size[2] * channels
        row[PLANE] = row[LINE] * size[1] * size[0]
    return row


def _places(row, courses, size):
    """Return the offset of each tap's slice and line, and of its cell within a line, in cells."""
    d, h, w = courses
    if row[COPY]:
        deep = [i * row[SLAB_LINES] for i in range(len(d.taps))]
        line = row[SLAB_WIDTH]
    else:
        deep, line = [delta * size[1] for _, delta in d.taps], size[2]
    return [(z + y) * line for z, (_, y) in product(deep, h.taps)], [x for _, x in w.taps]


def _unrolled(courses, channels, groups, lanes, longest):
    """Return the length of a row of A to unroll it, 0 to walk it in the source."""
    run = len(courses[2].taps) * channels
    if groups > 1 or lanes or not _contiguous([x for _, x in courses[2].taps]) or run > longest:
        return 0
    return len(courses[0].taps) * len(courses[1].taps) * run


def _longest_run(courses, out, filters, itemsize):
    """Return the longest run to unroll in a pass that writes an image."""
    gapless = all(c.every == 1 and c.count == o for c, o in zip(courses, out, strict=True))
    narrow = filters * itemsize <= HOST.width and courses[2].count < HOST.rows[0]
    return _SHORT_NARROW if gapless and narrow else 0


def _slab_limit(courses, channels, filters, groups, itemsize):
    """Return the bytes of the slab of a pass that writes an image."""
    taps = math.prod(len(c.taps) for c in courses)
    if taps * channels // groups * filters * itemsize > _FEW_WEIGHTS:
        return _SLAB
    return min(_SLAB, _RESULTS * channels * courses[1].step * courses[2].step // filters)


def _spans(row, courses, size, each):
    """Return for each line the first of its segments and their number: those in the source."""
    d, h, _ = courses
    spans = []
    for t in range(h.count):
        reads = [0 <= t * h.step + h.low + delta < size[1] for _, delta in h.taps]
        if len(d.taps) > 1 or not any(reads):  # one of zeros, so that a tile has some
            spans += [0, int(row[COUNT])]
        else:
            spans += [reads.index(True) * each, sum(reads) * each]
    return spans


def _contiguous(cells):
    return all(b - a == 1 for a, b in pairwise(cells))


def _unroll(row, length, tables):
    """Let the kernel unroll the segments of a pass, if a length is given, and walk none."""
    row[UNROLL], row[RUNS], row[RUN], row[RUNS_AT] = length, *row[[COUNT, LENGTH, OFFSETS_AT]]
    if length:
        row[[COUNT, LENGTH]], row[OFFSETS_AT] = (1, length), tables.add([0])


def _correlation_pass(courses, n, size, out, kernel, channels, filters, groups, lanes, itemsize,
                      tables):  # fmt: skip
    """Return a pass of the forward convolution or of the input gradient."""
    longest = _longest_run(courses, out, filters, itemsize)
    unroll = _unrolled(courses, channels, groups, lanes, longest)
    limit = _slab_limit(courses, channels, filters, groups, itemsize)
    row = _source(courses, n, size, channels, itemsize, tables, limit, unroll)
    lines, cells = _places(row, courses, size)
    merged = groups == 1 and not lanes and _contiguous(cells)
    starts = lines if merged else [a + b for a, b in product(lines, cells)]
    shift = cells[0] if merged else 0
    row[OFFSETS_AT] = tables.add((s + shift) * channels for s in starts)
    row[COUNT] = len(starts)
    row[LENGTH] = 1 if lanes else channels // groups * (len(cells) if merged else 1)
    _unroll(row, unroll, tables)
    row[SPANS_AT] = tables.add(_spans(row, courses, size, 1 if merged else len(cells)))
    taps = product(*([r for r, _ in c.taps] for c in courses))
    taps = [(a * kernel[1] + b) * kernel[2] + c for a, b, c in taps]
    row[PASS_TAPS], row[TAPS_AT] = len(taps), tables.add(taps)
    d, h, w = courses
    line = out[2] * filters
    row[OUT] = ((d.start * out[1] + h.start) * out[2] + w.start) * filters
    row[[OUT_IMAGE, OUT_DEPTH]] = out[0] * out[1] * line, d.every * out[1] * line
    row[[OUT_LINE, OUT_ROW]] = h.every * line, w.every * filters
    return row


def _plan(g, source, channels, filters, groups, transposed):
    plan = np.zeros(PLAN_SIZE, np.int64)
    plan[GROUPS], plan[TRANSPOSED] = groups, transposed
    plan[[SOURCE_DEPTH, SOURCE_HEIGHT, SOURCE_WIDTH, SOURCE_CHANNELS]] = *source, channels
    plan[CHANNELS], plan[FILTERS] = channels // groups, filters // groups
    plan[TAPS] = np.prod(g.kernel)
    return plan


def _slab(rows):
    """Return the elements of the largest slab and of the largest unrolled band."""
    slab = [int(r[PLANE] * r[BAND_PLANES]) for r in rows if r[COPY]]
    unrolled = [int(r[BAND_PLANES] * r[BAND_LINES] * r[ROWS] * r[UNROLL]) for r in rows]
    return max([0, *slab]), max([0, *unrolled])


def _scratch(plan, rows, itemsize):
    """Complete the plan and return the elements of scratch."""
    line = 64 // itemsize  # the kernel starts at a full line of the cache
    slab, unrolled = _slab(rows)
    plan[UNROLLED_AT] = plan[SLAB_AT] + -(-slab // line) * line
    # A vector more, as unrolling writes whole ones.
    return int(plan[UNROLLED_AT]) + unrolled + HOST.width // itemsize + line


def lanes_of(itemsize):
    """Return the columns of a panel."""
    return ACROSS * HOST.width // itemsize


def _share_slab(rows, courses):
    """Let the passes use the slab that the first one filled, where it holds whole images."""
    flat = len({depth for depth, _, _ in courses}) == 1
    if flat and all(r[COPY] and r[DEPTHS] == 1 and r[BAND_LINES] == r[LINES] for r in rows):
        for row in rows[1:]:
            row[COPY] = FILLED


@lru_cache(512)
def correlation(g, n, channels, filters, groups, transposed, lanes, itemsize):
    """Plan the forward convolution or (transposed) the input gradient.

    Parameters
    ----------
    g : Geometry
        The canonical geometry of the forward convolution.
    n, channels, filters, groups : int
        Of the forward convolution.
    transposed, lanes : bool
        Whether the input gradient is meant, and whether channels are lanes (depthwise).
    itemsize : int
        Bytes of an element.

    Returns
    -------
    plan, passes, tables : arrays of int64
    scratch : int
        Elements of scratch that the kernel needs.
    """
    dims = list(zip(g.spatial, g.kernel, g.out, g.stride, g.dilation, g.padding, strict=True))
    tables, clear = _Tables(), False
    if transposed:
        pairs = [backward_courses(i, k, s, d, p[0]) for i, k, _, s, d, p in dims]
        every, clear = list(product(*(c for c, _ in pairs))), any(u for _, u in pairs)
        source, out, channels, filters = g.out, g.spatial, filters, channels
    else:
        every = [tuple(forward_course(o, k, s, d, p[0]) for _, k, o, s, d, p in dims)]
        source, out = g.spatial, g.out
    rows = [
        _correlation_pass(
            c, n, source, out, g.kernel, channels, filters, groups, lanes, itemsize, tables
        )
        for c in every
    ]
    plan = _plan(g, source, channels, filters, groups, transposed)
    width, at = lanes_of(itemsize), 0
    deep = width if lanes else plan[CHANNELS] * width
    panels = -(-filters // width) if lanes else groups * -(-plan[FILTERS] // width)
    for row in rows:
        row[PACKED_AT], at = at, at + panels * row[PASS_TAPS] * deep
    # A transposed panel writes up to a square more.
    plan[CLEAR], plan[SLAB_AT], plan[IMAGES] = clear, at + width * width, n
    # The passes of a few images follow one another, so that these stay in the cache.
    plan[CHUNK] = max([1, *(row[BAND_PLANES] // row[DEPTHS] for row in rows)])
    _share_slab(rows, every)
    passes = np.array(rows, np.int64).reshape(-1, PASS_SIZE)
    scratch = _scratch(plan, rows, itemsize)
    return plan, passes, np.array([*tables.values, 0], np.int64), scratch


@lru_cache(512)
def weights(g, n, channels, filters, groups, lanes, itemsize):
    """Plan the weight gradient; parameters and results as of `correlation`."""
    tables = _Tables()
    dims = zip(g.kernel, g.out, g.stride, g.dilation, g.padding, strict=True)
    courses = tuple(forward_course(o, k, s, d, p[0]) for k, o, s, d, p in dims)
    unroll = _unrolled(courses, channels, groups, lanes, _SHORT)
    plan = _plan(g, g.spatial, channels, filters, groups, False)
    limit = int(np.clip(plan[TAPS] * plan[CHANNELS] * filters * itemsize // 4, _SLAB, _LARGE_SLAB))
    row = _source(courses, n, g.spatial, channels, itemsize, tables, limit, unroll)
    lines, cells = _places(row, courses, g.spatial)
    merged = lanes or (groups == 1 and _contiguous(cells))
    starts = [
        s * channels for s in (lines if merged else [a + b for a, b in product(lines, cells)])
    ]
    if lanes:
        row[LENGTH], row[TAP_ROW] = len(cells), g.dilation[2] * channels
    else:
        row[LENGTH], row[TAP_ROW] = channels // groups * (len(cells) if merged else 1), 1
    # Segments of the walk are lines of outputs; the runs of taps are rows of the result.
    row[COUNT], row[OFFSETS_AT] = len(starts), tables.add(starts)
    _unroll(row, unroll, tables)
    row[PASS_TAPS], row[TAPS_AT] = row[[COUNT, OFFSETS_AT]]
    band = product(range(row[BAND_PLANES]), range(row[BAND_LINES]))
    row[OFFSETS_AT] = tables.add(p * row[PLANE] + i * g.stride[1] * row[LINE] for p, i in band)
    plan[SLAB_AT] = lanes_of(itemsize)
    scratch = _scratch(plan, [row], itemsize)
    return plan, row[None], np.array(tables.values, np.int64), scratch
