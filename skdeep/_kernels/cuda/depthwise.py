"""Depthwise convolutions: one filter for each channel, so that nothing is shared but weights.

They are bound by memory: a thread has four neighbouring channels (one, where channels are no
vectors of 16 bytes) and reads each tap's weights once for four cells along a line. The forward
pass and the input gradient are one kernel: a cell meets the picture at coordinate
``(first + scale * i + step * t) / stride`` of each axis, if that is whole and inside. At least 8
bytes move for every element; windows overlap in the caches.

The weight gradient has a thread add up 3 by 3 taps over the cells of its chunk, so that the
cotangent is read once for each such block of taps; a block's threads, then the chunks, are added
in a fixed order.
"""

import math
from functools import cache

import numpy as np

from skdeep._kernels.cuda._conv_arrays import check, ready, spread, target, vectors
from skdeep._kernels.cuda._conv_loaders import divided, divisor
from skdeep._kernels.cuda._lanes import lane_kernel
from skdeep._kernels.cuda._numba import cuda, float32, uint32
from skdeep._kernels.cuda._sums import THREADS, add_down, column_sums, power_of_two
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.program import blocks

# ---- forward and input gradient ---------------------------------------------------------------

#: The cells along a line that a thread computes.
_CELLS = 4

_AXES = " ".join(
    f"x_{a} size_{a} rows_{a} taps_{a} scale_{a} first_{a} step_{a} base_{a}" for a in "dhw"
)
_STRIDES = " ".join(f"stride_{a} by_{a} shift_{a}" for a in "dhw")
_NUMBERS = (
    f"units total lines channels x_item x_n w_item bias_item biased out_item {_AXES} {_STRIDES}"
).split()


def _meeting(axis, start, tap):
    """Return the lines that find where a cell's tap meets the picture, if it does."""
    return f"""
u{axis} = uint32({start} + {tap} * step_{axis})
q{axis} = divided(u{axis}, by_{axis}, shift_{axis})
met{axis} = uint32(q{axis} * stride_{axis}) == u{axis}
q{axis} = uint32(q{axis} - base_{axis})
met{axis} = met{axis} and q{axis} < size_{axis}
""".strip().splitlines()


def _indented(lines, depth):
    return "\n".join("    " * depth + line for line in lines)


def _correlate_source():
    cells = range(_CELLS)
    taps = []
    for p in cells:
        taps += _meeting("w", f"w{p}", "tw")
        taps += [
            "if metw:",
            "    (v$, ...) = load(x, uint32(o + qw * x_w))",
            f"    sum{p}_$ = float32(sum{p}_$ + v$ * k$)",
        ]
    ends = []
    for p in cells:
        ends += [
            f"if uint32(w + uint32({p})) < rows_w:",
            f"    y$ = float32(sum{p}_$ + b$)",
            "    y$ = floor if y$ < floor else y$",
            f"    store(out, uint32(o + uint32({p}) * channels), (y$, ...))",
        ]
    return f"""
def depthwise(x, w_, bias, out, {", ".join(_NUMBERS)}, floor):
    i = uint32(uint32(cuda.blockIdx.x) * uint32({THREADS}) + uint32(cuda.threadIdx.x))
    m = uint32(cuda.blockIdx.z)
    if i < total:
        q = uint32(i // units)
        c = uint32(uint32(i - q * units) * LANES)
        p = uint32(q // lines)
        w = uint32(uint32(q - p * lines) * uint32({_CELLS}))
        q = uint32(p // rows_h)
        h = uint32(p - q * rows_h)
        n = uint32(q // rows_d)
        d = uint32(q - n * rows_d)
        at = uint32(m * x_item + n * x_n + c)
        d0, h0 = uint32(d * scale_d + first_d), uint32(h * scale_h + first_h)
{_indented([f"w{p} = uint32(uint32(w + uint32({p})) * scale_w + first_w)" for p in cells], 2)}
{_indented([f"sum{p}_$ = float32(0)" for p in cells], 2)}
        row = uint32(m * w_item + c)
        td = uint32(0)
        while td < taps_d:
{_indented(_meeting("d", "d0", "td"), 3)}
            th = uint32(0)
            while th < taps_h and metd:
{_indented(_meeting("h", "h0", "th"), 4)}
                if meth:
                    o = uint32(at + qd * x_d + qh * x_h)
                    k_at = uint32(row + uint32(td * taps_h + th) * taps_w * channels)
                    tw = uint32(0)
                    while tw < taps_w:
                        (k$, ...) = load(w_, uint32(k_at + tw * channels))
{_indented(taps, 6)}
                        tw = uint32(tw + uint32(1))
                th = uint32(th + uint32(1))
            td = uint32(td + uint32(1))
        b$ = float32(0)
        if biased:
            (b$, ...) = load(bias, uint32(m * bias_item + c))
        o = uint32(uint32(uint32(n * rows_d + d) * rows_h + h) * rows_w + w)
        o = uint32(m * out_item + o * channels + c)
{_indented(ends, 2)}
"""


@cache
def _correlate_kernel(lanes):
    spec = "f f f f " + "u " * len(_NUMBERS) + "s"
    names = dict(cuda=cuda, uint32=uint32, float32=float32, divided=divided)
    return lane_kernel(spec, _correlate_source(), "depthwise", lanes, names)


def _axis(name, x_step, size, rows, taps, scale, first, step, stride):
    """Return an axis' numbers; coordinates are moved up by `base` cells, so that none is < 0."""
    base = max(0, -(-max(0, -(first + (taps - 1) * min(step, 0))) // stride))
    by, shift = divisor(stride)
    values = dict(
        x=x_step, size=size, rows=rows, taps=taps, scale=scale,
        first=first + base * stride, step=step % 2**32, base=base, stride=stride, by=by,
        shift=shift,
    )  # fmt: skip
    return {f"{key}_{name}": value for key, value in values.items()}


def _lanes(*arrays):
    return 4 if all(vectors(a) for a in arrays) else 1


def correlate(x, w, bias, out, geometry, relu, transposed):
    """Return the launches of a depthwise convolution, or of its adjoint, with bias and ReLU.

    Parameters
    ----------
    x, w : DeviceArray
        Images (M|1, N, *spatial, C), or the cotangent, and weights (M|1, *kernel, 1, C).
    bias : DeviceArray or None
        Biases (M|1, C).
    out : DeviceArray
        The result (M, N, *out, C), or that of the adjoint.
    geometry : Geometry
        How the window of the convolution moves.
    relu : bool
        Whether negative results become zero.
    transposed : bool
        Whether the adjoint is meant.
    """
    check(x, w, out)
    s, g = scratch(out), geometry.canonical()
    (x, before), (w, more), (out, after) = ready(x, s, -1), ready(w, s, 1), target(out, s)
    (bias, last), x = ready(bias, s, -1), spread(x)
    channels, images = out.shape[-1], out.shape[1]
    numbers = {}
    for i, a in enumerate("dhw"):
        k, (pad, _), stride, dilation = g.kernel[i], g.padding[i], g.stride[i], g.dilation[i]
        if transposed:
            sizes = g.out[i], g.spatial[i], k, 1, pad, -dilation, stride
        else:
            sizes = g.spatial[i], g.out[i], k, stride, -pad, dilation, 1
        numbers |= _axis(a, x.step(2 + i), *sizes)
    lanes = _lanes(x, w, out) if bias is None else _lanes(x, w, out, bias)
    units, lines = channels // lanes, blocks(numbers["rows_w"], _CELLS)
    total = images * numbers["rows_d"] * numbers["rows_h"] * lines * units
    numbers |= dict(
        units=units, total=total, lines=lines, channels=channels, x_item=x.step(0),
        x_n=x.step(1), w_item=w.step(0), bias_item=0 if bias is None else bias.step(0),
        biased=int(bias is not None), out_item=out.step(0),
    )  # fmt: skip
    grid = blocks(total, THREADS), 1, len(out)
    bias = out if bias is None else bias
    values = [numbers[name] for name in _NUMBERS]
    kernel, floor = _correlate_kernel(lanes), 0.0 if relu else -np.inf
    return [*before, *more, *last, kernel(grid, x, w, bias, out, *values, floor), *after]


# ---- weight gradient --------------------------------------------------------------------------

#: A thread adds up so many taps along each of the last two axes, and of cells at least so many.
_TAPS, _LEAST = 3, 16

_W_AXES = " ".join(
    f"x_{a} size_{a} taps_{a} stride_{a} first_{a} tap_{a} rows_{a} by_{a} shift_{a}"
    for a in "dhw"
)
_W_NUMBERS = (
    f"channels lanes total per parts x_item x_n ct_item tiles_h tiles_w {_W_AXES}"
).split()


def _weights_source(lanes):
    taps = [(a, b) for a in range(_TAPS) for b in range(_TAPS)]
    body = []
    for a in range(_TAPS):
        body += [
            f"h = uint32(h0 + uint32({a}) * tap_h)",
            f"if h < size_h and uint32(th + uint32({a})) < taps_h:",
            "    o = uint32(at + h * x_h)",
        ]
        for b in range(_TAPS):
            body += [
                f"    w = uint32(w0 + uint32({b}) * tap_w)",
                f"    if w < size_w and uint32(tw + uint32({b})) < taps_w:",
                "        (v$, ...) = load(x, uint32(o + w * x_w))",
                f"        sum{a}{b}_$ = float32(sum{a}{b}_$ + v$ * y$)",
            ]
    ends = []
    four = ", ".join(f"s{i}" if i < lanes else "float32(0)" for i in range(4))
    for a, b in taps:
        ends += [
            f"s$ = sum{a}{b}_$",
            f"add_down(part, lanes, {four})",
            f"if t < lanes and live and uint32(th + uint32({a})) < taps_h and "
            f"uint32(tw + uint32({b})) < taps_w:",
            f"    o = uint32(to + uint32(uint32({a}) * taps_w + uint32({b})) * channels)",
            f"    out[uint32(o + uint32($))] = part[uint32(t + uint32($ * {THREADS}))]",
            "cuda.syncthreads()",
        ]
    return f"""
def depthwise_weight_grad(x, ct, out, {", ".join(_W_NUMBERS)}):
    part = cuda.shared.array({4 * THREADS}, float32, 16)
    t = uint32(cuda.threadIdx.x)
    c = uint32(uint32(uint32(cuda.blockIdx.x) * lanes + (t & uint32(lanes - uint32(1)))) * LANES)
    z = uint32(cuda.blockIdx.z)
    q = uint32(z // tiles_w)
    tw = uint32(uint32(z - q * tiles_w) * uint32({_TAPS}))
    z = uint32(q // tiles_h)
    th = uint32(uint32(q - z * tiles_h) * uint32({_TAPS}))
    m = uint32(z // taps_d)
    td = uint32(z - m * taps_d)
    live = c < channels
{_indented([f"sum{a}{b}_$ = float32(0)" for a, b in taps], 1)}
    i = uint32(uint32(cuda.blockIdx.y) * per)
    end = uint32(min(total, uint32(i + per)))
    i = uint32(i + t // lanes) if live else end
    item, ct_at = uint32(m * x_item + c), uint32(m * ct_item + c)
    d1, h1 = uint32(first_d + td * tap_d), uint32(first_h + th * tap_h)
    w1 = uint32(first_w + tw * tap_w)
    while i < end:
        q = divided(i, by_w, shift_w)
        w0 = uint32(uint32(i - q * rows_w) * stride_w + w1)
        p = divided(q, by_h, shift_h)
        h0 = uint32(uint32(q - p * rows_h) * stride_h + h1)
        n = divided(p, by_d, shift_d)
        d = uint32(uint32(p - n * rows_d) * stride_d + d1)
        if d < size_d:
            (y$, ...) = load(ct, uint32(ct_at + i * channels))
            at = uint32(item + n * x_n + d * x_d)
{_indented(body, 3)}
        i = uint32(i + uint32({THREADS}) // lanes)
    to = uint32(uint32(m * parts + uint32(cuda.blockIdx.y)) * taps_d + td)
    to = uint32(uint32(uint32(to * taps_h + th) * taps_w + tw) * channels + c)
{_indented(ends, 1)}
"""


@cache
def _weights_kernel(lanes):
    spec = "f f f " + "u " * len(_W_NUMBERS)
    names = dict(
        cuda=cuda, uint32=uint32, float32=float32, divided=divided, add_down=add_down, min=min
    )
    return lane_kernel(spec, _weights_source(lanes), "depthwise_weight_grad", lanes, names)


def weight_grad(x, ct, out, geometry):
    """Return the launches of a depthwise convolution's adjoint in its weights.

    Parameters
    ----------
    x, ct : DeviceArray
        Images (M|1, N, *spatial, C) and cotangent (M|1, N, *out, C).
    out : DeviceArray
        The result (M, *kernel, 1, C).
    geometry : Geometry
        How the window moves.
    """
    check(x, ct, out)
    s, g = scratch(out), geometry.canonical()
    (x, before), (ct, more), (out, after) = ready(x, s, -1), ready(ct, s, 1), target(out, s)
    members, channels, total = len(out), out.shape[-1], math.prod(ct.shape[1:-1])
    x = spread(x)
    per_thread = _lanes(x, ct)
    units = blocks(channels, per_thread)
    lanes = power_of_two(units, 32)
    tiles, tiles_h, tiles_w = (blocks(*n) for n in ((units, lanes), (g.kernel[1], _TAPS),
                                                    (g.kernel[2], _TAPS)))  # fmt: skip
    depth = members * g.kernel[0] * tiles_h * tiles_w
    together = THREADS // lanes
    room = blocks(8 * out.device.multiprocessors, tiles * depth)
    parts = max(1, min(room, 512, total // (_LEAST * together)))
    per = max(1, blocks(blocks(total, parts), together) * together)
    parts = blocks(total, per)
    numbers = dict(
        channels=channels, lanes=lanes, total=total, per=per, parts=parts,
        x_item=x.step(0), x_n=x.step(1), ct_item=ct.step(0), tiles_h=tiles_h, tiles_w=tiles_w,
    )  # fmt: skip
    for i, a in enumerate("dhw"):
        by, shift = divisor(g.out[i])
        values = dict(
            x=x.step(2 + i), size=g.spatial[i], taps=g.kernel[i], stride=g.stride[i],
            first=-g.padding[i][0] % 2**32, tap=g.dilation[i], rows=g.out[i], by=by, shift=shift,
        )  # fmt: skip
        numbers |= {f"{key}_{a}": value for key, value in values.items()}
    size = out.size // members
    flat = out.view((members, size), (out.strides[0], out.itemsize))
    sums, last = flat, []
    if parts > 1 or not flat.is_contiguous:
        sums = s.take((members, parts, size))
        last = column_sums(sums, flat, last=True)
    values = [numbers[name] for name in _W_NUMBERS]
    launch = _weights_kernel(per_thread)((tiles, parts, depth), x, ct, sums, *values)
    return [*before, *more, launch, *last, *after]


def catalogue():
    """Return the kernels."""
    return [make(lanes) for make in (_correlate_kernel, _weights_kernel) for lanes in (4, 1)]
