"""Winograd's convolution of 3x3 filters with stride 1: F(4x4, 3x3) and F(2x2, 3x3).

A tile of 4x4 (2x2) outputs takes 36 (16) multiplications for each pair of channels in place of 144
(36). Tiles of the source and the filters are transformed, multiplied plane by plane as matrices
(tiles, channels) @ (channels, filters), and transformed back; the input gradient is the same with
the filters turned and transposed, the weight gradient uses the adjoint transforms (Lavin and Gray,
"Fast algorithms for convolutional neural networks", CVPR 2016). Pixels are found by a table of
addresses, in which those off the image point to zeros, so that any size, padding of 0 to 2 and
number of channels is right. Tiles go in blocks that stay in the cache, and filters in panels of a
register tile's width, transformed once for all blocks where they are not too many. Each output is
one chain of operations whatever the block: its bits do not depend on its batch.

Interpolation points decide on the rounding error (Barabasz, Anderson, Soodhalter and Gregg,
"Error analysis and improving the accuracy of Winograd convolution for deep neural networks", ACM
TOMS 46, 2020; Alam, Anderson, Barabasz and Gregg, "Winograd convolution for deep neural networks:
efficient point selection", ACM TECS 21, 2022). Of 136 choices of (0, +-a, +-b, infinity) with
multiples of 1/8, a = 5/8 and b = 3/2 erred least: a third of the usual a = 1 and b = 2.

Error in float32 against float64, normal data; in each cell the largest error over the largest
value, and the root mean square of the error over that of the values:

=========================  ==================  ==================  ==================
image, channels, filters   F(4x4, 3x3)         F(2x2, 3x3)         direct kernel
=========================  ==================  ==================  ==================
28 x 28, 32, 64: forward   1.4e-06  5.9e-07    2.4e-07  2.0e-07    6.2e-07  3.0e-07
input gradient             1.7e-06  7.6e-07    3.5e-07  2.6e-07    9.0e-07  4.2e-07
weight gradient            3.2e-06  1.8e-06    1.6e-06  1.2e-06    3.2e-06  1.4e-06
28 x 28, 128, 128          2.3e-06  1.0e-06    4.5e-07  3.6e-07    1.2e-06  6.0e-07
input gradient             2.3e-06  1.0e-06    4.8e-07  3.6e-07    1.3e-06  6.0e-07
weight gradient            2.0e-06  9.3e-07    8.9e-07  6.1e-07    1.4e-06  7.0e-07
14 x 14, 512, 512          4.2e-06  2.0e-06    1.0e-06  7.0e-07    2.6e-06  1.2e-06
input gradient             6.6e-06  2.0e-06    8.5e-07  7.0e-07    2.5e-06  1.2e-06
weight gradient            2.5e-06  1.0e-06    1.2e-06  6.1e-07    1.7e-06  6.8e-07
=========================  ==================  ==================  ==================

In float64 the relative error is below 1e-14. A NaN spreads to all of its tile, and infinities may
become NaN there.
"""

from types import FunctionType

import numpy as np

from skdeep._kernels.cpu import _winograd_transforms as transforms
from skdeep._kernels.cpu._microkernel import ACROSS, HOST, make_pack_transposed
from skdeep._kernels.cpu._numba import Kernel, helper
from skdeep._kernels.cpu._panel import panel as multiply
from skdeep._kernels.cpu._pointers import address, cast, clear, data, itemsize, member, offset
from skdeep._kernels.cpu.conv import aligned

#: Outputs along a tile's side, by the name of the algorithm, and the finite points.
TILES = {"f4": 4, "f2": 2}
POINTS = {4: ("0", "5/8", "-5/8", "3/2", "-3/2"), 2: ("0", "1", "-1")}

# ---- plans --------------------------------------------------------------------------------------

#: Places in a plan: the source (x, or dy for the input gradient), the result, the first tile's
#: cells before the source, tiles along a column and a row, whether filters are turned, ReLU.
IMAGES, HEIGHT, WIDTH, CHANNELS, OUT_HEIGHT, OUT_WIDTH, FILTERS, TOP, LEFT = range(9)
DOWN, ALONG, TRANSPOSED, RELU = range(9, 13)
#: Tiles of a block, panels of transformed filters that are kept, elements from one tile to the
#: next and between planes of tiles, of filters and of output gradients.
BLOCK, SLOTS, ROW, PLANE, FILTER_PLANE, OUT_PLANE = range(13, 19)
#: Where in the scratch what stands, after the zeros.
SPARE_AT, TABLE_AT, TILES_AT, FILTERS_AT, PRODUCTS_AT, TAPS_AT, LENGTH = range(19, 26)

#: Bytes of transformed tiles in a block: about the second-level cache; more changes little.
_BLOCK_BYTES = 600_000
#: Bytes of transformed filters up to which all are kept, where there are many blocks; of more,
#: each block of at least `_AMORTISED` tiles transforms them anew, a panel at a time.
_FILTER_BYTES, _AMORTISED = 12_000_000, 128
#: Elements by which planes are spread, so that they do not share cache sets.
_SPREAD = 16
_PANEL = ACROSS * HOST.width
#: Rows of filters that are asked for ahead.
_AHEAD = 8
_pack_transposed = make_pack_transposed(HOST)


def _up(n, unit):
    return -(-n // unit) * unit


def _blocks(plan, side, panels, panel, itemsize, keep):
    """Choose how many tiles go through the transforms together, and what is kept of filters."""
    tiles = plan[IMAGES] * plan[DOWN] * plan[ALONG]
    row = _up(plan[CHANNELS], 16)
    if row * itemsize % 2048 == 0:
        row += _SPREAD  # else the rows of a register tile share cache sets
    all_filters = side**2 * plan[CHANNELS] * panels * panel * itemsize
    height = HOST.rows[0]
    most = max(_BLOCK_BYTES // (side**2 * row * itemsize), 2 * height)
    if all_filters > _FILTER_BYTES:
        most = max(most, _AMORTISED)
    count = max(-(-tiles // most), 1)
    block = max(min(_up(-(-tiles // count), height), tiles), 1)
    kept = block < tiles and (keep or all_filters <= _FILTER_BYTES)
    plan[BLOCK], plan[SLOTS], plan[ROW] = block, panels if kept else 1, row


def _plan(g, n, channels, filters, tile, transposed, keep, itemsize):
    """Return what the plans of all operations share, and the elements of a panel."""
    (_, *source), (_, *out) = g.spatial, g.out
    before = [p for p, _ in g.padding[1:]]
    if transposed:
        source, out, channels, filters = out, source, filters, channels
        before = [2 - p for p in before]
    plan = np.zeros(LENGTH + 1, np.int64)
    down, along = (-(-size // tile) for size in out)
    plan[:BLOCK] = n, *source, channels, *out, filters, *before, down, along, transposed, 0
    side, panel = tile + 2, _PANEL // itemsize
    panels = -(-filters // panel)
    _blocks(plan, side, panels, panel, itemsize, keep)
    plan[PLANE] = plan[BLOCK] * plan[ROW] + _SPREAD
    plan[FILTER_PLANE] = channels * panel + _SPREAD
    plan[OUT_PLANE] = plan[BLOCK] * panel + _SPREAD
    plan[SPARE_AT] = _up(max(channels, filters) + panel, 16)
    plan[TABLE_AT] = 2 * plan[SPARE_AT]
    plan[TILES_AT] = plan[TABLE_AT] + _up((side**2 + transforms.SPILLED + 9) * 8 // itemsize, 16)
    plan[FILTERS_AT] = plan[TILES_AT] + side**2 * plan[PLANE]
    plan[PRODUCTS_AT] = plan[FILTERS_AT] + plan[SLOTS] * side**2 * plan[FILTER_PLANE]
    return plan, panel, panels


def correlation(g, n, channels, filters, algorithm, transposed, itemsize):
    """Plan the forward convolution or the input gradient.

    Parameters
    ----------
    g : Geometry
        In its canonical form, for which `fits` holds.
    n, channels, filters : int
        Images; channels of x; channels of the result.
    algorithm : {"f4", "f2"}
    transposed : bool
        Whether to plan the input gradient, whose source is the output gradient.
    itemsize : int

    Returns
    -------
    plan : array of int64
        What the kernel reads; ``plan[RELU] = 1`` asks for ReLU.
    scratch : int
        The elements of scratch.
    """
    tile = TILES[algorithm]
    plan, panel, _ = _plan(g, n, channels, filters, tile, transposed, False, itemsize)
    plan[TAPS_AT] = plan[PRODUCTS_AT] + plan[BLOCK] * (tile + 2) ** 2 * panel
    taps = 9 * (plan[CHANNELS] + panel) * panel if transposed else 0
    plan[LENGTH] = plan[TAPS_AT] + taps
    return plan, int(plan[LENGTH]) + 64 // itemsize


def weights(g, n, channels, filters, algorithm, itemsize):
    """Plan the weight gradient; parameters and results as for `correlation`."""
    tile = TILES[algorithm]
    plan, _, panels = _plan(g, n, channels, filters, tile, False, True, itemsize)
    plan[LENGTH] = plan[PRODUCTS_AT] + panels * (tile + 2) ** 2 * plan[OUT_PLANE]
    return plan, int(plan[LENGTH]) + 64 // itemsize


def fits(g, groups):
    """Whether the kernels compute a convolution (the geometry in its canonical form)."""
    return (
        groups == 1
        and g.spatial[0] == 1
        and g.kernel == (1, 3, 3)
        and set(g.stride) == set(g.dilation) == {1}
        and g.padding[0] == (0, 0)
        and max(max(p) for p in g.padding) <= 2
    )


#: Multiplications that cost as much as the transforms of a tile, for each of its channels.
_TRANSFORMS = {"f4": 400, "f2": 120}
#: How much less an algorithm must cost than the direct kernel, and the larger tile than the other.
_GAIN, _LARGER = 1.2, 1.1
#: Filters go through the products in vectors of so many (where the host has as wide ones).
_FILTERS = 16


def choose(g, channels, filters):
    """Return "f4" or "f2", whichever computes a convolution soonest, or False.

    The cost is counted in multiplications, the transforms' share as measured; it knows the size
    of the result and the numbers of channels, never the batch. From 16 channels on each side F4
    pays on images of 7 x 7 and more (1.3 to 3.1 times the direct kernel's speed, all three passes
    together), F2 on those of 2, 5 and 6 from 32 on (1.3 to 2.1 times); with 8 or fewer on both
    sides, or 3 on one, neither does.

    Parameters
    ----------
    g : Geometry
        In its canonical form, for which `fits` holds.
    channels, filters : int

    Returns
    -------
    {"f4", "f2", False}
    """
    _, height, width = g.out
    # Forward and weight gradient have the filters in panels, the input gradient the channels.
    pairs = (2 * channels * _up(filters, _FILTERS) + _up(channels, _FILTERS) * filters) / 3
    cost = {}
    for name, tile in TILES.items():
        tiles = -(-height // tile) * -(-width // tile)
        ends = _TRANSFORMS[name] * (channels + filters)
        cost[name] = tiles * ((tile + 2) ** 2 * pairs + ends)
    best = "f4" if cost["f4"] * _LARGER <= cost["f2"] else "f2"
    direct = 9 * height * width * channels * filters
    return best if cost[best] * _GAIN <= direct else False


# ---- pieces of the kernels ----------------------------------------------------------------------


def _transforms(tile):
    """Return the transforms of a tile by the names under which the kernels know them."""
    bt, g, at = transforms.matrices(POINTS[tile], tile)
    gt, a = transforms.transposed(g), transforms.transposed(at)
    return {
        "_TILE": tile,
        "_SIDE": tile + 2,
        "_locate_source": transforms.make_locate(tile + 2),
        "_locate_result": transforms.make_locate(tile),
        "_gather_source": transforms.make_gather(bt, overlap=2),
        "_gather_filters": transforms.make_gather(g),
        "_gather_gradient": transforms.make_gather(a),
        "_scatter_result": transforms.make_scatter(at),
        "_scatter_weights": transforms.make_scatter(gt),
    }


# Names of what `_kernels` puts there for each tile.
(
    _TILE,
    _SIDE,
    _locate_source,
    _locate_result,
    _gather_source,
    _gather_filters,
    _gather_gradient,
    _scatter_result,
    _scatter_weights,
) = _transforms(4).values()


@helper
def _place(plan, tile):
    """Return the image of a tile, and its row and column there."""
    image, rest = divmod(tile, plan[DOWN] * plan[ALONG])
    h, w = divmod(rest, plan[ALONG])
    return image, h, w


def _transform_source(x, plan, start, count, table, scratch):
    """Transform a block of tiles: planes of (tiles, channels)."""
    height, width, channels = plan[HEIGHT], plan[WIDTH], plan[CHANNELS]
    pixel, zeros = channels * itemsize(x), address(scratch)
    for i in range(count):
        image, h, w = _place(plan, start + i)
        at = address(x) + image * height * width * pixel
        h, w = h * _TILE - plan[TOP], w * _TILE - plan[LEFT]
        _locate_source(table, h, w, height, width, at, pixel, zeros)
        to = offset(scratch, plan[TILES_AT] + i * plan[ROW])
        _gather_source(table, 0, channels, _TILE * channels, to, plan[PLANE])


def _transform_gradient(dy, plan, start, count, table, scratch):
    """Transform the output gradient of a block of tiles: panels of planes of (tiles, panel)."""
    height, width, filters = plan[OUT_HEIGHT], plan[OUT_WIDTH], plan[FILTERS]
    pixel, zeros, panel = filters * itemsize(dy), address(scratch), _PANEL // itemsize(dy)
    for i in range(count):
        image, h, w = _place(plan, start + i)
        at = address(dy) + image * height * width * pixel
        _locate_result(table, h * _TILE, w * _TILE, height, width, at, pixel, zeros)
        to = offset(scratch, plan[PRODUCTS_AT] + i * panel)
        for p in range(0, filters, panel):
            _gather_gradient(
                table, p, min(panel, filters - p), _TILE * filters, to, plan[OUT_PLANE]
            )
            to = offset(to, _SIDE * _SIDE * plan[OUT_PLANE])


def _transform_filters(w, plan, p, taps, scratch, out):
    """Transform a panel of filters, from column `p` on: planes of (channels, panel)."""
    channels, filters, panel = plan[CHANNELS], plan[FILTERS], _PANEL // itemsize(w)
    columns, row = min(panel, filters - p), filters
    for t in range(9):
        if plan[TRANSPOSED]:
            tap = offset(w, ((8 - t) * filters + p) * channels)
            to = offset(scratch, plan[TAPS_AT] + t * (channels + panel) * panel)
            _pack_transposed(channels, tap, channels, columns, to)
            taps[t] = address(to)
        else:
            taps[t] = address(offset(w, t * channels * filters + p))
    if plan[TRANSPOSED]:
        row = panel
    for i in range(channels):
        _gather_filters(
            taps, i * row, columns, _AHEAD * row, offset(out, i * panel), plan[FILTER_PLANE]
        )


def _transform_products(products, bias, floor, plan, start, count, p, table, spare, out):
    """Transform the products of a block back, and add bias and ReLU: a panel of the result."""
    height, width, filters = plan[OUT_HEIGHT], plan[OUT_WIDTH], plan[FILTERS]
    pixel, panel = filters * itemsize(out), _PANEL // itemsize(out)
    for i in range(count):
        image, h, w = _place(plan, start + i)
        at = address(out) + image * height * width * pixel
        _locate_result(table, h * _TILE, w * _TILE, height, width, at, pixel, spare)
        source = offset(products, i * _SIDE * _SIDE * panel)
        _scatter_result(source, panel, bias, floor, table, p, min(panel, filters - p))


def _transform_weights(sums, zeros, floor, plan, p, taps, dw):
    """Transform the sums of products back: a panel of the weight gradient."""
    channels, filters, panel = plan[CHANNELS], plan[FILTERS], _PANEL // itemsize(dw)
    for t in range(9):
        taps[t] = address(offset(dw, t * channels * filters + p))
    for i in range(channels):
        source, columns = offset(sums, i * panel), min(panel, filters - p)
        _scatter_weights(source, plan[FILTER_PLANE], zeros, floor, taps, i * filters, columns)


# ---- the kernels --------------------------------------------------------------------------------


def _correlate(x, w, bias, plan, scratch, out):
    """Forward convolution with bias and ReLU, or the input gradient: as the plan says.

    x (1|M, source), w (1|M, weights), bias (1|M, filters), out (M, size); `plan` and the size of
    the scratch from `correlation`.
    """
    base, plan = aligned(scratch), data(plan)
    table = cast(offset(base, plan[TABLE_AT]), plan)
    taps = offset(table, _SIDE * _SIDE + transforms.SPILLED)
    channels, filters, panel = plan[CHANNELS], plan[FILTERS], _PANEL // x.itemsize
    tiles, squares = plan[IMAGES] * plan[DOWN] * plan[ALONG], _SIDE * _SIDE
    half = panel // ACROSS
    planes, products = offset(base, plan[TILES_AT]), offset(base, plan[PRODUCTS_AT])
    spare, floor = address(offset(base, plan[SPARE_AT])), x.dtype.type(-np.inf)
    if plan[RELU]:
        floor = x.dtype.type(0)
    clear(base, plan[SPARE_AT])
    for m in range(out.shape[0]):
        xm, wm, bm, om = member(x, m), member(w, m), member(bias, m), member(out, m)
        for start in range(0, tiles, plan[BLOCK]):
            count = min(plan[BLOCK], tiles - start)
            _transform_source(xm, plan, start, count, table, base)
            for p in range(0, filters, panel):
                slot = p // panel % plan[SLOTS] * squares * plan[FILTER_PLANE]
                f = offset(base, plan[FILTERS_AT] + slot)
                if start == 0 or plan[SLOTS] * panel < filters:
                    _transform_filters(wm, plan, p, taps, base, f)
                # Whole vectors, as they are transformed.
                across = min(panel, (filters - p + half - 1) // half * half)
                for e in range(squares):
                    a, b = offset(planes, e * plan[PLANE]), offset(f, e * plan[FILTER_PLANE])
                    c, c_row = offset(products, e * panel), squares * panel
                    multiply(count, a, plan[ROW], 1, b, panel, c, c_row, channels, across, 0)
                b = offset(bm, p)
                _transform_products(products, b, floor, plan, start, count, p, table, spare, om)


def _weight_grad(x, dy, plan, scratch, dw):
    """Weight gradient: the products of inputs and output gradients, summed over all tiles.

    x (1|M, size), dy (1|M, size), dw (M, size); `plan` and the size of the scratch from `weights`.
    """
    base, plan = aligned(scratch), data(plan)
    table = cast(offset(base, plan[TABLE_AT]), plan)
    taps = offset(table, _SIDE * _SIDE + transforms.SPILLED)
    channels, filters, panel = plan[CHANNELS], plan[FILTERS], _PANEL // x.itemsize
    tiles, squares = plan[IMAGES] * plan[DOWN] * plan[ALONG], _SIDE * _SIDE
    half = panel // ACROSS
    planes, floor = offset(base, plan[TILES_AT]), x.dtype.type(-np.inf)
    clear(base, plan[SPARE_AT])
    for m in range(dw.shape[0]):
        xm, dm, wm = member(x, m), member(dy, m), member(dw, m)
        if tiles == 0:
            clear(wm, dw.shape[1])
        for start in range(0, tiles, plan[BLOCK]):
            count = min(plan[BLOCK], tiles - start)
            _transform_source(xm, plan, start, count, table, base)
            _transform_gradient(dm, plan, start, count, table, base)
            b = offset(base, plan[PRODUCTS_AT])
            for p in range(0, filters, panel):
                slot = p // panel % plan[SLOTS] * squares * plan[FILTER_PLANE]
                sums = offset(base, plan[FILTERS_AT] + slot)
                across = min(panel, (filters - p + half - 1) // half * half)
                for e in range(squares):
                    a, c = offset(planes, e * plan[PLANE]), offset(sums, e * plan[FILTER_PLANE])
                    multiply(channels, a, 1, plan[ROW], b, panel, c, panel, count, across, start)
                    b = offset(b, plan[OUT_PLANE])
                if start + plan[BLOCK] >= tiles:
                    _transform_weights(sums, base, floor, plan, p, taps, wm)


def _bind(function, name, names):
    """Return a function under another name, whose globals are `names`."""
    copy = FunctionType(function.__code__, names, name)
    copy.__qualname__, copy.__doc__, copy.__module__ = name, function.__doc__, __name__
    return copy


def _kernels(algorithm):
    """Return (correlate, weight_grad) of an algorithm."""
    names = globals() | _transforms(TILES[algorithm])
    for piece in _PIECES:
        names[piece.__name__] = helper(_bind(piece, piece.__name__, names))
    return [
        Kernel(_bind(f, f"winograd{f.__name__}_{algorithm}", names), spec)
        for f, spec in ((_correlate, "f2 f2 f2 l1 f1 f2"), (_weight_grad, "f2 f2 l1 f1 f2"))
    ]


_PIECES = (
    _transform_source,
    _transform_gradient,
    _transform_filters,
    _transform_products,
    _transform_weights,
)
#: The kernels by the name of the algorithm.
correlate, weight_grad = {}, {}
for _name in TILES:
    correlate[_name], weight_grad[_name] = _kernels(_name)
