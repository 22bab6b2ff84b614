"""Convolutions: forward, input gradient and weight gradient, as products of the tile template.

Each is a product of matrices that are never built (implicit GEMM): `_conv_loaders` says where
their elements stand. The geometry is numbers, so that one kernel serves every layer.

==============  =====================  ============================  ======================
pass            rows                   sums over                     columns
==============  =====================  ============================  ======================
forward         output cells           taps and channels             filters
input gradient  input cells            taps and filters              channels
weight grad.    taps and channels      output cells                  filters
==============  =====================  ============================  ======================

An input gradient with strides falls into classes of input cells that meet the same taps: each is
a product of its own, and none multiplies zeros that a stride has put between the outputs.
Where the tiles are too few for the device, sums are split, and the parts added in a fixed order:
two runs are equal bit for bit.

Arrays are channels last, with a leading axis of members: x (M|1, N, *spatial, C),
w (M|1, *kernel, C // groups, F), y (M, N, *out, F).
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from skdeep._kernels.cuda import depthwise
from skdeep._kernels.cuda._conv_arrays import check, from_element, ready, spread, target, vectors
from skdeep._kernels.cuda._conv_loaders import CELLS, EVERY, FILTERS, NUMBERS, TAPS, divisor
from skdeep._kernels.cuda._sums import column_sums
from skdeep._kernels.cuda._tile import FLOORED, LARGE, MEDIUM, Shape, tile_kernel, tile_launch
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.gemm import MATRIX, add_parts, matrix_loader
from skdeep._kernels.cuda.program import Twin, blocks

# ---- kernels ----------------------------------------------------------------------------------

#: For 64 filters or channels and many cells; for up to 32; for few cells. What loaders know of
#: their rows takes registers, so that less blocks fit than of a plain product.
TALL, NARROW, LOW = Shape(128, 64, 16, 8, 3), Shape(128, 32, 16, 8, 4), MEDIUM
#: For channels one by one, whose places take more registers: shallower slabs.
SINGLE, SINGLE_NARROW = Shape(64, 64, 8, 8, 6), Shape(128, 32, 8, 8, 6)

#: Whether channels are vectors -> the tiles that there are, and about how many instructions of
#: a main loop are multiply-adds.
_SHAPES = {
    True: {LARGE: 0.84, TALL: 0.8, LOW: 0.79, NARROW: 0.7},
    False: {SINGLE: 0.56, SINGLE_NARROW: 0.4},
}


@cache
def _forward_kernel(fast, shape):
    columns = matrix_loader("b", False, fast)
    return tile_kernel("conv", CELLS[fast], columns, MATRIX, FLOORED, shape)


@cache
def _input_kernel(fast, shape):
    return tile_kernel("conv_input_grad", CELLS[fast], FILTERS[fast], EVERY, FLOORED, shape)


@cache
def _weight_kernel(fast, shape):
    columns = matrix_loader("b", False, fast)
    return tile_kernel("conv_weight_grad", TAPS[fast], columns, MATRIX, FLOORED, shape)


def catalogue():
    """Return the kernels."""
    return [
        make(fast, shape)
        for make in (_forward_kernel, _input_kernel, _weight_kernel)
        for fast in (True, False)
        for shape in _SHAPES[fast]
    ]


# ---- the choice of tiles ----------------------------------------------------------------------

#: What the choice weighs: cycles from a slab's loads to the barrier behind it, however little is
#: multiplied; slabs' worth of a block's start and end; cycles of a second kernel, and the bytes
#: that the device moves in one.
_LATENCY, _ENDS, _SECOND, _BYTES = 700, 4, 4000, 2400


@cache
def choose(m, n, k, batch, fast, multiprocessors):
    """Return the tiles of a product, the number of parts of its sums, and a part's length.

    The time of every choice is estimated from the shapes: multiprocessors take blocks in turns,
    as many at once as there are registers for, and a slab takes what its multiplications take at
    128 a cycle, but at least the latency of its loads.

    Parameters
    ----------
    m, n, k, batch : int
        Rows, columns, length of the sums, and number of products.
    fast : bool
        Whether there are the kernels of vectors, in all shapes.
    multiprocessors : int
        Those of the device.

    Returns
    -------
    shape : Shape
    parts, depth : int
    """
    best = None
    for shape, share in _SHAPES[fast].items():
        tiles = batch * blocks(m, shape.rows) * blocks(n, shape.columns)
        slabs = blocks(k, shape.depth)
        most = min(256, max(1, slabs // 8), blocks(4 * shape.resident * multiprocessors, tiles))
        for parts in range(1, most + 1):
            length = blocks(slabs, parts)
            parts = blocks(slabs, length)
            each = blocks(tiles * parts, multiprocessors)  # blocks of a multiprocessor
            at_once = min(each, shape.resident)
            slab = at_once * shape.rows * shape.columns * shape.depth / (128 * share)
            cycles = each / at_once * (length + _ENDS) * max(slab, _LATENCY)
            if parts > 1:
                cycles += _SECOND + 8 * parts * batch * m * n / _BYTES
            if best is None or cycles < best[0]:
                best = cycles, shape, parts, length * shape.depth
    return best[1:]


@dataclass(frozen=True)
class Kernels:
    """The kernels of a precision.

    Parameters
    ----------
    forward, input_grad, weight_grad : callable
        ``forward(fast, shape)`` returns a pass's kernel; fast ones take vectors of channels.
    choose : callable
        What chooses their tiles, with the parameters of `choose`.
    depth : int
        What channels (filters, in an input gradient) are a multiple of in fast kernels.
    """

    forward: object
    input_grad: object
    weight_grad: object
    choose: object
    depth: int


FLOAT32 = Kernels(_forward_kernel, _input_kernel, _weight_kernel, choose, LARGE.depth)


def _kernels(precision):
    if precision == "float32":
        return FLOAT32
    from skdeep._kernels.cuda.conv_tensor import KERNELS

    if precision not in KERNELS:
        raise ValueError(f"precision={precision!r}: it must be one of {['float32', *KERNELS]}")
    return KERNELS[precision]


# ---- what all passes do -----------------------------------------------------------------------


def _batches(groups, *arrays):
    """Yield arrays, the distances of their items, and the number of these.

    They are the members at once; with groups, each member's groups.
    """
    members = max(len(a) for a in arrays if a is not None)
    if groups == 1:
        yield arrays, [0 if a is None else a.step(0) for a in arrays], members
        return
    for m in range(members):
        one = [None if a is None else _member(a, m) for a in arrays]
        yield one, [0 if a is None else a.shape[-1] // groups for a in arrays], groups


def _member(a, m):
    return a.view((1, *a.shape[1:]), a.strides, 0 if len(a) == 1 else m * a.strides[0])


def _wrapped(name, values):
    """Return three numbers by name, one an axis, modulo 2**32."""
    return {f"{name}_{axis}": v % 2**32 for axis, v in zip("dhw", values, strict=True)}


def _leaps(steps, taps, channels):
    """Return what an offset leaps by to the next tap, line and plane, behind the last channel."""
    d, h, w = steps
    return d - taps[1] * h, h - taps[2] * w, w - channels


def _numbers(x, item, channels, rows, stride, first, taps, tap):
    """Return the numbers of a picture: see `_conv_loaders`."""
    steps = [x.step(i) for i in (2, 3, 4)]
    moves = [s * t for s, t in zip(steps, tap, strict=True)]
    found = dict(
        x_item=item, x_n=x.step(1), channels=channels, taps_h=taps[1], taps_w=taps[2],
        end_h=taps[1] * tap[1] % 2**32, end_w=taps[2] * tap[2] % 2**32,
        **_wrapped("x", steps), **_wrapped("size", x.shape[2:5]), **_wrapped("rows", rows),
        **_wrapped("stride", stride), **_wrapped("first", first), **_wrapped("tap", tap),
        **_wrapped("leap", _leaps(moves, taps, channels)),
    )  # fmt: skip
    for name in "channels taps_h taps_w rows_d rows_h rows_w".split():
        found[f"by_{name}"], found[f"shift_{name}"] = divisor(found[name])
    return {name: found[name] for name in NUMBERS}


def _is_depthwise(w, groups):
    return w.shape[-2] == 1 and groups == w.shape[-1] > 1


class _Result:
    """Where a product's results go: `out`, or the parts of its sums, added by `finish`."""

    def __init__(self, out, item, bias, bias_item, relu, groups, parts, s):
        self.out, self.bias, self.bias_item, self.parts = out, bias, bias_item, parts
        self.floor = 0.0 if relu else -np.inf
        self.row, self.rows = out.shape[-1], math.prod(out.shape[1:-1])
        self.vector = vectors(out, groups)
        self.array, self.item, self.part = out, item, 0
        if parts > 1:
            self.row = blocks(self.row, 4) * 4
            self.array = s.take((len(out), parts, self.rows, self.row))
            self.part = self.rows * self.row
            self.item = parts * self.part if groups == 1 else item
            self.vector = groups == 1 or out.shape[-1] % (4 * groups) == 0

    def launch(self, kernel, a, b, sizes, depth, batch, first=0, **numbers):
        """Return the product's launch, its first row at a cell of `out`."""
        sums = self.parts > 1
        to = from_element(self.array, first * self.row)
        return tile_launch(
            kernel, a, b, to, sizes, bias=None if sums else self.bias, vector=self.vector,
            depth=depth, parts=self.parts, batch=batch, c_row=self.row, c_item=self.item,
            c_part=self.part, bias_item=0 if sums else self.bias_item,
            floor=-np.inf if sums else self.floor, **numbers,
        )  # fmt: skip

    def finish(self):
        """Return the launches that add the parts."""
        if self.parts == 1:
            return []
        shape = len(self.out), self.rows, self.out.shape[-1]
        out = self.out.view(shape, (self.out.strides[0], 4 * shape[2], 4))
        activation = "relu" if self.floor == 0 else "identity"
        return [add_parts(self.array, out, bias=self.bias, activation=activation)]


# ---- forward ----------------------------------------------------------------------------------


def convolve(x, w, bias, out, geometry, groups, relu, precision="float32"):
    """Return the launches of the convolution, with bias and ReLU.

    Parameters
    ----------
    x, w : DeviceArray
        Images (M|1, N, *spatial, C) and weights (M|1, *kernel, C // groups, F).
    bias : DeviceArray or None
        Biases (M|1, F).
    out : DeviceArray
        The result (M, N, *out, F).
    geometry : Geometry
        How the window moves.
    groups : int
        The groups that channels and filters fall into.
    relu : bool
        Whether negative results become zero.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        What is multiplied in.
    """
    if not out.size:
        return []
    if _is_depthwise(w, groups):
        return depthwise.correlate(x, w, bias, out, geometry, relu, transposed=False)
    kernels = _kernels(precision)
    check(x, w, out)
    s, g = scratch(out), geometry.canonical()
    (x, before), (w, more), (out, after) = ready(x, s, -1), ready(w, s, 1), target(out, s)
    (bias, last), x = ready(bias, s, -1), spread(x)
    launches = before + more + last
    channels, filters = w.shape[-2], w.shape[-1] // groups
    sizes = math.prod(out.shape[1:-1]), filters, math.prod(g.kernel) * channels
    fast = channels % kernels.depth == 0 and vectors(x, groups) and vectors(w, groups)
    for arrays, items, count in _batches(groups, x, w, bias, out):
        x1, w1, b1, o1 = arrays
        first = [-before for before, _ in g.padding]
        numbers = _numbers(x1, items[0], channels, g.out, g.stride, first, g.kernel, g.dilation)
        shape, parts, depth = kernels.choose(*sizes, count, fast, out.device.multiprocessors)
        to = _Result(o1, items[3], b1, items[2], relu, groups, parts, s)
        kernel = kernels.forward(fast, shape)
        numbers |= dict(b_row=w.shape[-1], b_item=items[1])
        launches += [to.launch(kernel, x1, w1, sizes, depth, count, **numbers), *to.finish()]
    return launches + after


# ---- input gradient ---------------------------------------------------------------------------


def _axis_classes(size, kernel, stride, padding, dilation):
    """Yield the classes of an axis' cells that meet the same taps.

    A class begins at a cell and has so many cells, `stride` apart. They meet every `step`-th tap
    from `tap` on, `taps` of them: the i-th cell the j-th at the output ``first + i - j * back``.
    """
    common = math.gcd(stride, dilation)
    step, back = stride // common, dilation // common
    for begin in range(min(stride, size)):
        place = begin + padding[0]
        tap = next((t for t in range(step) if (place - t * dilation) % stride == 0), kernel)
        taps = max(0, blocks(kernel - tap, step)) if tap < kernel else 0
        tap = tap if taps else 0
        yield _Class(begin, blocks(size - begin, stride), tap, step, taps,
                     (place - tap * dilation) // stride, back)  # fmt: skip


class _Class:
    """A class of an axis' cells: see `_axis_classes`."""

    def __init__(self, begin, cells, tap, step, taps, first, back):
        self.begin, self.cells, self.first, self.back = begin, cells, first, back
        self.tap, self.step, self.taps = tap, step, taps


def _classes(g):
    """Return the classes of an image's cells, one of each axis, those of most taps first."""
    axes = zip(g.spatial, g.kernel, g.stride, g.padding, g.dilation, strict=True)
    found = product(*(list(_axis_classes(*axis)) for axis in axes))
    return sorted(found, key=lambda cs: -math.prod(c.taps for c in cs))


def _weights(w, item, groups, kernel, classes):
    """Return the weights from a class's first tap on, and their numbers."""
    filters = w.shape[-1]
    unit = w.shape[-2] * filters  # a tap
    units = unit * kernel[1] * kernel[2], unit * kernel[2], unit
    first = sum(c.tap * u for c, u in zip(classes, units, strict=True))
    steps = [c.step * u for c, u in zip(classes, units, strict=True)]
    taps = [max(1, c.taps) for c in classes]
    numbers = dict(
        w_item=item, w_row=filters, **_wrapped("w_tap", steps),
        **_wrapped("w_leap", _leaps(steps, taps, filters // groups)),
    )  # fmt: skip
    return from_element(w, first), numbers


def input_grad(ct, w, bias, out, geometry, groups, relu, precision="float32"):
    """Return the launches of the convolution's adjoint, with bias and ReLU.

    Parameters
    ----------
    ct, w : DeviceArray
        Cotangent (M|1, N, *out, F) and weights (M|1, *kernel, C // groups, F).
    bias : DeviceArray or None
        Biases (M|1, C).
    out : DeviceArray
        The result (M, N, *spatial, C).
    geometry, groups, relu, precision
        As in `convolve`; the geometry is that of the convolution.
    """
    if not out.size:
        return []
    if _is_depthwise(w, groups):
        return depthwise.correlate(ct, w, bias, out, geometry, relu, transposed=True)
    kernels = _kernels(precision)
    check(ct, w, out)
    s, g = scratch(out), geometry.canonical()
    (ct, before), (w, more), (out, after) = ready(ct, s, -1), ready(w, s, 1), target(out, s)
    (bias, last), ct = ready(bias, s, -1), spread(ct)
    launches = before + more + last
    channels, filters = w.shape[-2], w.shape[-1] // groups
    fast = filters % kernels.depth == 0 and vectors(ct, groups) and vectors(w, groups)
    images, classes = out.shape[1], _classes(g)

    def sizes(cs):
        cells, taps = math.prod(c.cells for c in cs), math.prod(c.taps for c in cs)
        return images * cells, channels, taps * filters

    _, height, width = g.spatial
    planes = height * width, width, 1
    for arrays, items, count in _batches(groups, ct, w, bias, out):
        c1, w1, b1, o1 = arrays
        multiprocessors = out.device.multiprocessors
        shape, parts, depth = kernels.choose(*sizes(classes[0]), count, fast, multiprocessors)
        to = _Result(o1, items[3], b1, items[2], relu, groups, parts, s)
        kernel = kernels.input_grad(fast, shape)
        for cs in classes:
            taps = [max(1, c.taps) for c in cs]
            numbers = _numbers(
                c1, items[0], filters, [c.cells for c in cs], (1, 1, 1), [c.first for c in cs],
                taps, [-c.back for c in cs],
            )  # fmt: skip
            view, more = _weights(w1, items[1], groups, g.kernel, cs)
            steps = [a * p for a, p in zip(g.stride, planes, strict=True)]
            numbers |= more | _wrapped("c", steps) | {"c_n": math.prod(g.spatial)}
            first = sum(c.begin * p for c, p in zip(cs, planes, strict=True))
            launches.append(to.launch(kernel, c1, view, sizes(cs), depth, count, first, **numbers))
        launches += to.finish()
    return launches + after


# ---- weight gradient --------------------------------------------------------------------------


def weight_grad(x, ct, out, geometry, groups, precision="float32"):
    """Return the launches of the convolution's adjoint in its weights.

    Parameters
    ----------
    x, ct : DeviceArray
        Images (M|1, N, *spatial, C) and cotangent (M|1, N, *out, F).
    out : DeviceArray
        The result (M, *kernel, C // groups, F).
    geometry, groups, precision
        As in `convolve`.
    """
    if not out.size:
        return []
    if _is_depthwise(out, groups):
        return depthwise.weight_grad(x, ct, out, geometry)
    kernels = _kernels(precision)
    check(x, ct, out)
    s, g = scratch(out), geometry.canonical()
    (x, before), (ct, more), (out, after) = ready(x, s, -1), ready(ct, s, 1), target(out, s)
    x, launches = spread(x), before + more
    channels, filters = out.shape[-2], out.shape[-1] // groups
    rows = math.prod(g.kernel) * channels
    sizes = rows, filters, math.prod(ct.shape[1:-1])
    fast = vectors(x, groups) and vectors(ct, groups)
    for (x1, c1, o1), items, count in _batches(groups, x, ct, out):
        first = [-before for before, _ in g.padding]
        numbers = _numbers(x1, items[0], channels, g.out, g.stride, first, g.kernel, g.dilation)
        shape, parts, depth = kernels.choose(*sizes, count, fast, out.device.multiprocessors)
        members, part, item = len(o1), rows * out.shape[-1], items[2]
        to, after_all = o1, []
        if parts > 1:
            to = s.take((members, parts, part))
            after_all = column_sums(to, o1.view((members, part), (o1.strides[0], 4)), last=True)
            item = parts * part if groups == 1 else item
        vector = to.aligned() and filters % 4 == 0
        kernel = kernels.weight_grad(fast, shape)
        launches.append(
            tile_launch(
                kernel, x1, c1, to, sizes, vector=vector, depth=depth, parts=parts, batch=count,
                b_row=ct.shape[-1], b_item=items[1], c_row=out.shape[-1], c_item=item,
                c_part=part, bias_item=0, floor=-np.inf, **numbers,
            )
        )  # fmt: skip
        launches += after_all
    return launches + after


CONVOLVE = Twin(convolve, "convolve", precision=True)
INPUT_GRAD = Twin(input_grad, "input_grad", precision=True)
WEIGHT_GRAD = Twin(weight_grad, "weight_grad", precision=True)
