"""Losses and their pullbacks."""

from functools import cache

import numpy as np

from skdeep._kernels.cpu.loss import BODIES
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import (
    cuda,
    device,
    exp,
    float32,
    generated,
    kernel,
    log,
    shared,
    uint32,
)
from skdeep._kernels.cuda._passes import Pass
from skdeep._kernels.cuda._sums import THREADS, RowSum, lanes_sum, power_of_two
from skdeep._kernels.cuda.array import check_span
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_NAN, _LOWEST = np.float32(np.nan), np.float32(-np.inf)
_WARPS = THREADS // 32


# ---- softmax cross-entropy, rows in registers -------------------------------------------------


@device
def _largest_of(v, lanes):
    """Return the largest of the values of neighbouring lanes, a power of two."""
    d = uint32(lanes // uint32(2))
    while d > uint32(0):
        w = cuda.shfl_xor_sync(uint32(0xFFFFFFFF), v, d)
        v = w if w > v else v
        d = uint32(d // uint32(2))
    return v


@device
def _true_logit(z, at, k, label):
    """Return the logit of the label, NaN where there is no such class."""
    return z[uint32(at + uint32(label))] if label >= 0 and label < k else _NAN


@device
def _loss(t, total, gaps, eps, k):
    """Return the loss from the true logit, the sum of exponentials and that of all logits.

    Logits are less the largest of the row.
    """
    if eps != float32(0):
        t += eps * (gaps / float32(k) - t)
    return log(total) - t


_NAMES = dict(
    cuda=cuda, uint32=uint32, float32=float32, exp=exp, load4=load4, store4=store4,
    _LOWEST=_LOWEST, _largest_of=_largest_of, lanes_sum=lanes_sum, _true_logit=_true_logit,
    _loss=_loss,
)  # fmt: skip

_ROWS = """
def {name}(z, labels, smoothing, loss, p, z_step, y_step, eps_step, loss_step, p_step, k, rows,
           total_rows, lanes):
    t = uint32(cuda.threadIdx.x)
    number = uint32(
        uint32(cuda.blockIdx.x) * uint32(uint32({threads}) // lanes) + uint32(t // lanes)
    )
    lane = uint32(uint32(t & uint32(lanes - uint32(1))) * uint32({width}))
    live = number < total_rows
    row = number if live else uint32(0)
    m = uint32(row // rows)
    b = uint32(row - uint32(m * rows))
    at = uint32(uint32(m * z_step) + uint32(b * k))
    label = labels[uint32(uint32(m * y_step) + b)]
    true = _true_logit(z, at, k, label)
    {loads}
    top = _LOWEST
    {largest}
    top = _largest_of(top, lanes)
    total, gaps = float32(0), float32(0)
    {exponentials}
    total = lanes_sum(total, lanes)
    gaps = lanes_sum(gaps, lanes)
    if live:
        to = uint32(uint32(m * p_step) + uint32(b * k))
        scale = float32(1) / total
        {stores}
        if lane == uint32(0):
            eps = smoothing[uint32(m * eps_step)]
            loss[uint32(uint32(m * loss_step) + b)] = _loss(true - top, total, gaps, eps, k)
"""


@cache
def _in_registers(width, items):
    """Return the kernel whose lanes hold `items` (vectors of four) logits of a row each.

    Every logit is read once and every probability written once: 8 bytes an element. Several
    neighbouring lanes share a row, whose elements they take in turn, so that a warp reads 32
    neighbouring elements, or vectors, of one or more rows. An element that the row does not have
    is minus infinity: it is no maximum, and its exponential is zero.
    """
    lines = {part: [] for part in ("loads", "largest", "exponentials", "stores")}
    for i in range(items):
        xs = [f"x{i}_{j}" for j in range(width)]
        lines["loads"] += [
            f"j{i} = uint32(lane + uint32(lanes * uint32({i * width})))",
            ", ".join(xs) + " = " + ", ".join(["_LOWEST"] * width),
            f"if j{i} < k: "
            + (
                f"{', '.join(xs)} = load4(z, uint32(at + j{i}))"
                if width == 4
                else f"{xs[0]} = z[uint32(at + j{i})]"
            ),
        ]
        lines["largest"] += [f"top = {x} if {x} > top else top" for x in xs]
        lines["exponentials"] += [f"{x} = {x} - top" for x in xs]
        lines["exponentials"].append(f"gaps += ({' + '.join(xs)}) if j{i} < k else float32(0)")
        lines["exponentials"] += [f"{x} = exp({x})" for x in xs]
        lines["exponentials"].append(f"total += {' + '.join(xs)}")
        scaled = ", ".join(f"{x} * scale" for x in xs)
        lines["stores"].append(
            f"if j{i} < k: "
            + (
                f"store4(p, uint32(to + j{i}), ({scaled}))"
                if width == 4
                else f"p[uint32(to + j{i})] = {scaled}"
            )
        )
    name = f"softmax_cross_entropy_{items}x{width}"
    text = {
        part: ("\n" + " " * (8 if part == "stores" else 4)).join(body)
        for part, body in lines.items()
    }
    source = _ROWS.format(name=name, threads=THREADS, width=width, **text)
    function = generated(source, name, _NAMES)
    return kernel("f l f f f u u u u u u u u u", THREADS, name=name)(function)


# ---- softmax cross-entropy, a block for a row -------------------------------------------------


@device
def _largest_of_block(v, part):
    v = _largest_of(v, uint32(32))
    t = uint32(cuda.threadIdx.x)
    if uint32(t & uint32(31)) == uint32(0):
        part[uint32(t >> uint32(5))] = v
    cuda.syncthreads()
    i = uint32(0)
    while i < uint32(_WARPS):
        v = part[i] if part[i] > v else v
        i = uint32(i + uint32(1))
    cuda.syncthreads()
    return v


@device
def _sum_of_block(v, part):
    v = lanes_sum(v, uint32(32))
    t = uint32(cuda.threadIdx.x)
    if uint32(t & uint32(31)) == uint32(0):
        part[uint32(t >> uint32(5))] = v
    cuda.syncthreads()
    total, i = float32(0), uint32(0)
    while i < uint32(_WARPS):
        total += part[i]
        i = uint32(i + uint32(1))
    cuda.syncthreads()
    return total


@kernel("f l f f f u u u u u u u u", THREADS)
def _long_rows(
    z, labels, smoothing, loss, p,
    z_step, y_step, eps_step, loss_step, p_step, k, rows, vectors,
):  # fmt: skip
    """A block for a row: it reads the logits three times, twice of them from the caches."""
    part = cuda.shared.array(_WARPS, float32, 16)
    t, row = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
    m = uint32(row // rows)
    b = uint32(row - uint32(m * rows))
    at = uint32(uint32(m * z_step) + uint32(b * k))
    to = uint32(uint32(m * p_step) + uint32(b * k))
    true = _true_logit(z, at, k, labels[uint32(uint32(m * y_step) + b)])
    fours = uint32(k // uint32(4)) if vectors else uint32(0)
    rest = uint32(uint32(fours * uint32(4)) + t)

    top, i = _LOWEST, t
    while i < fours:
        x = load4(z, uint32(at + uint32(i * uint32(4))))
        u, v = (x[0] if x[0] > x[1] else x[1]), (x[2] if x[2] > x[3] else x[3])
        # A NaN may be lost here; it comes back with the sum.
        u = u if u > v else v
        top = u if u > top else top
        i = uint32(i + uint32(THREADS))
    j = rest
    while j < k:
        x1 = z[uint32(at + j)]
        top = x1 if x1 > top else top
        j = uint32(j + uint32(THREADS))
    top = _largest_of_block(top, part)

    total, gaps, i = float32(0), float32(0), t
    while i < fours:
        x = load4(z, uint32(at + uint32(i * uint32(4))))
        q0, q1, q2, q3 = x[0] - top, x[1] - top, x[2] - top, x[3] - top
        gaps += (q0 + q1) + (q2 + q3)
        total += (exp(q0) + exp(q1)) + (exp(q2) + exp(q3))
        i = uint32(i + uint32(THREADS))
    j = rest
    while j < k:
        q = z[uint32(at + j)] - top
        gaps += q
        total += exp(q)
        j = uint32(j + uint32(THREADS))
    total = _sum_of_block(total, part)
    gaps = _sum_of_block(gaps, part)

    scale, i = float32(1) / total, t
    while i < fours:
        x = load4(z, uint32(at + uint32(i * uint32(4))))
        q = (
            exp(x[0] - top) * scale, exp(x[1] - top) * scale,
            exp(x[2] - top) * scale, exp(x[3] - top) * scale,
        )  # fmt: skip
        store4(p, uint32(to + uint32(i * uint32(4))), q)
        i = uint32(i + uint32(THREADS))
    j = rest
    while j < k:
        p[uint32(to + j)] = exp(z[uint32(at + j)] - top) * scale
        j = uint32(j + uint32(THREADS))
    if t == uint32(0):
        eps = smoothing[uint32(m * eps_step)]
        loss[uint32(uint32(m * loss_step) + b)] = _loss(true - top, total, gaps, eps, k)


@twin()
def softmax_cross_entropy(z, labels, smoothing, loss, p):
    """loss = -sum(t log p), p = softmax(z), t = (1 - smoothing) onehot + smoothing / K."""
    if not p.size:
        return []
    check_span(z, p)
    k, rows, total = p.shape[2], p.shape[1], loss.size
    vectors = z.aligned() and p.aligned()
    steps = [a.step(0) for a in (z, labels, smoothing, loss, p)]
    arrays = z, labels, smoothing, loss, p
    if k > 1024:
        return [_long_rows(total, *arrays, *steps, k, rows, int(vectors))]
    width = 4 if vectors and k % 4 == 0 else 1
    # Short rows: up to four elements a lane, so that the sums take few exchanges of lanes.
    items = 4 // width if k <= 128 else 32 // width
    lanes = power_of_two(blocks(k, 4), 32)
    grid = blocks(total, THREADS // lanes)
    return [_in_registers(width, items)(grid, *arrays, *steps, k, rows, total, lanes)]


@device
def _gap(p, label, ct, eps, column, k):
    """Return (p - t) ct for one class."""
    rest = eps / float32(k)
    hit = (p - float32(1)) + (eps - rest)
    return ct * (hit if label == column else p - rest)


@cache
def _pullback_of_cross_entropy():
    """Return the pass, 8 bytes an element and 12 a row."""
    name = "softmax_cross_entropy_pullback"
    return Pass(name, _gap, "x y r m", columns=True)


@twin()
def softmax_cross_entropy_pullback(p, labels, smoothing, ct, out):
    """out = (p - t) ct, with t as in `softmax_cross_entropy`; out may be p."""
    return _pullback_of_cross_entropy()(p, labels, ct, smoothing, out)


@kernel("l f u u u u u", THREADS)
def _one_column(labels, out, label_step, out_step, row_step, n, one):
    i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
    m = uint32(cuda.blockIdx.y)
    if i < n:
        label = labels[uint32(uint32(m * label_step) + uint32(i * one))]
        out[uint32(uint32(m * out_step) + uint32(i * row_step))] = float32(label)


@twin()
def one_column(labels, out):
    """out (M, B, 1) = labels 0 and 1 (M or 1, B) as floats."""
    if not out.size:
        return []
    grid = blocks(out.shape[1], THREADS), len(out)
    steps = labels.step(0), out.step(0), out.step(1)
    return [_one_column(grid, labels, out, *steps, out.shape[1], labels.step(1))]


# ---- pointwise losses -------------------------------------------------------------------------


def _with_type(body):
    """Return the device function of a loss's body."""
    body = shared(body)
    return device(lambda r, t, a: body(r, t, a, float32))


@cache
def _per_sample(name):
    """Return the sums of a loss over the last axis, 8 bytes an element."""
    return RowSum(f"pointwise_loss_{name}", _with_type(BODIES[name][0]), 2, number=True)


@cache
def _pullback(name, order):
    """Return the pass out = ct times a derivative, 12 bytes an element."""
    body = _with_type(BODIES[name][order])
    scaled = device(lambda c, r, t, a: c * body(r, t, a))
    return Pass(f"pointwise_loss_pullback_{name}_{order}", scaled, "r x x m")


def _declare(name):
    """Declare a loss's twins: of its value and of its two pullbacks."""
    twin(f"pointwise_loss_{name}")(
        lambda raw, target, param, out: _per_sample(name)(raw, target, param, out)
    )
    for order in (1, 2):
        twin(f"pointwise_loss_pullback_{name}_{order}")(
            lambda ct, raw, target, param, out, order=order: _pullback(name, order)(
                ct, raw, target, param, out
            )
        )


for _name in BODIES:
    _declare(_name)


def catalogue():
    """Return the kernels of losses and gradients."""
    rows = [_in_registers(width, 4 // width) for width in (1, 4)]
    rows += [_in_registers(width, 32 // width) for width in (1, 4)]
    pointwise = [p.kernel for n in BODIES for p in (_per_sample(n), _pullback(n, 1))]
    return [*rows, _long_rows, _pullback_of_cross_entropy().kernel, _one_column, *pointwise]
