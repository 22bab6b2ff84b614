"""Parameter updates, penalties and clipping over the flat buffers of M nets.

A thread takes four neighbouring parameters at a time, one vector of each array, and strides on
over the row; blocks are as many as fill the device, so what a step has in common (rates, the
debiasing of moments) is computed once a thread. Which leaf a vector is in, the thread knows from
the last one, and searches (in the ordered `segments`) only where a leaf has ended: leaves are as
unequal as a bias and an embedding, so blocks are not given to leaves. Vectors that a leaf fills
only partly are gone through one by one; what is between leaves is not touched.

`hyper` comes as pairs of float32, of which ``(1 - high) - low`` is 1 - beta in full precision.
"""

from functools import partial

from skdeep._kernels.cuda._clip import (
    blocks_over,
    clip_segments,
    clip_whole,
    find_segment,
    limit_columns,
    power_sums,
)
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import (
    cuda,
    device,
    expm1,
    float32,
    kernel,
    log1p,
    sqrt,
    uint32,
    uint64,
)
from skdeep._kernels.cuda._sums import block_sum
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256
#: What the CPU's kernels add to decaying moments, and to what they divide by.
_TINY = 1e-30
_STEEP = 1e30


@device
def _penalised(g, p, l2, l1):
    """Return g + l2 * p + l1 * sign(p), the sign as a clamp, exact from 1e-30 on."""
    push = p * float32(_STEEP)
    push = -l1 if push < -l1 else push
    push = l1 if push > l1 else push
    return g + (l2 * p + push)


@device
def _flush(x):
    """Return x, or an exact zero where x is near the denormals."""
    return (x + float32(_TINY)) - float32(_TINY)


@device
def _high(hyper, at, k):
    """Return an optimiser's number."""
    return hyper[uint64(2) * (at + uint64(k))]


@device
def _rest(hyper, at, k):
    """Return one minus an optimiser's number."""
    i = uint64(2) * (at + uint64(k))
    return (float32(1) - hyper[i]) - hyper[i + uint64(1)]


# ---- the pass over memory ---------------------------------------------------------------------


def _rules(slots, rule):
    """Return the device functions of a step of one parameter, and of four; see `_update`."""

    @device
    def single(p, g, s1, s2, p_at, g_at, s1_at, s2_at, k, l2, l1, on, own):
        a = s1[s1_at + k] if slots > 0 else float32(0)
        b = s2[s2_at + k] if slots > 1 else float32(0)
        old = p[p_at + k]
        d = _penalised(g[g_at + k], old, l2 * on, l1 * on)
        new, a, b = rule(old, d, a, b, on, own)
        p[p_at + k] = new
        if slots > 0:
            s1[s1_at + k] = a
        if slots > 1:
            s2[s2_at + k] = b

    @device
    def four(p, g, s1, s2, p_at, g_at, s1_at, s2_at, k, l2, l1, on, own):
        P, G = load4(p, p_at + k), load4(g, g_at + k)
        A = load4(s1, s1_at + k) if slots > 0 else G
        B = load4(s2, s2_at + k) if slots > 1 else G
        u, v = l2 * on, l1 * on
        p0, a0, b0 = rule(P[0], _penalised(G[0], P[0], u, v), A[0], B[0], on, own)
        p1, a1, b1 = rule(P[1], _penalised(G[1], P[1], u, v), A[1], B[1], on, own)
        p2, a2, b2 = rule(P[2], _penalised(G[2], P[2], u, v), A[2], B[2], on, own)
        p3, a3, b3 = rule(P[3], _penalised(G[3], P[3], u, v), A[3], B[3], on, own)
        store4(p, p_at + k, (p0, p1, p2, p3))
        if slots > 0:
            store4(s1, s1_at + k, (a0, a1, a2, a3))
        if slots > 1:
            store4(s2, s2_at + k, (b0, b1, b2, b3))

    return single, four


def _update(name, slots, prepare, rule):
    """Return the kernel of an optimiser; it moves 4 * (3 + 2 * slots) bytes a parameter.

    Parameters
    ----------
    name : str
        The kernel's name.
    slots : int
        The arrays of state that it has.
    prepare : device function
        ``prepare(rate, hyper, at, steps)`` gives the tuple of the step's numbers.
    rule : device function
        ``rule(p, d, a, b, on, own)`` gives a parameter and its two states after the step of
        gradient d; `on` is 1 in penalised segments, else 0; `own` are the numbers.
    """
    single, four = _rules(slots, rule)

    @kernel("f f f f f d f f l l" + " u" * 13, threads=_THREADS, name=name)
    def update(
        p, g, s1, s2, rates, hyper, penalties, scale, segments, counters, p_step, g_step, s1_step,
        s2_step, rates_step, hyper_step, penalties_step, scale_step, segments_step,
        counters_step, count, n, wide,
    ):  # fmt: skip
        m = uint64(cuda.blockIdx.y)
        p_at, g_at = m * uint64(p_step), m * uint64(g_step)
        s1_at, s2_at = m * uint64(s1_step), m * uint64(s2_step)
        at = m * uint64(counters_step)
        rate = rates[m * uint64(rates_step) + uint64(counters[at + uint64(1)])]
        own = prepare(rate, hyper, m * uint64(hyper_step), counters[at])
        strength, at = scale[m * uint64(scale_step)], m * uint64(penalties_step)
        l2, l1 = strength * penalties[at], strength * penalties[at + uint64(1)]
        start, stop, on = uint32(0), uint32(0), float32(0)
        i = uint32(
            uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
            * uint32(4)
        )
        stride = uint32(uint32(cuda.gridDim.x) * uint32(4 * _THREADS))
        while i < n:
            end = uint32(i + uint32(4))
            k = i
            if i >= stop:
                start, stop, s = find_segment(segments, segments_step, count, i)
                on = float32(segments[uint64(s) * uint64(segments_step) + uint64(2)])
            if wide != uint32(0) and i >= start and end <= stop:
                four(p, g, s1, s2, p_at, g_at, s1_at, s2_at, uint64(i), l2, l1, on, own)
                k = end
            while k < end:  # the border of a segment
                if k >= stop:
                    start, stop, s = find_segment(segments, segments_step, count, k)
                    on = float32(segments[uint64(s) * uint64(segments_step) + uint64(2)])
                if k >= start and k < n:
                    single(p, g, s1, s2, p_at, g_at, s1_at, s2_at, uint64(k), l2, l1, on, own)
                k = uint32(k + uint32(1))
            i = uint32(i + stride)

    twin(name)(partial(_launches, update, slots))
    return update


def _launches(update, slots, p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    (members, n), count = p.shape, segments.shape[0]
    if not n * count:
        return []
    s1, s2 = s1 if slots > 0 else p, s2 if slots > 1 else p
    arrays = p, g, s1, s2, rates, hyper, penalties, scale, segments, counters
    wide = all(a.aligned() for a in arrays[:4])
    steps = [a.step(0) for a in arrays]
    grid = blocks_over(p, n), members
    return [update(grid, *arrays, *steps, count, n, int(wide))]


# ---- optimisers -------------------------------------------------------------------------------


@device
def _rate(rate, hyper, at, steps):
    return (rate,)


@device
def _rate_and_first(rate, hyper, at, steps):
    return rate, _high(hyper, at, 0)


@device
def _rate_and_eps(rate, hyper, at, steps):
    eps = _high(hyper, at, 0)
    return rate, eps if eps > float32(_TINY) else float32(_TINY)


@device
def _sgd(p, d, a, b, on, own):
    return p - own[0] * d, a, b


@device
def _momentum(p, d, a, b, on, own):
    v = _flush(own[1] * a - own[0] * d)
    return p + v, v, b


@device
def _nesterov(p, d, a, b, on, own):
    step = own[0] * d
    v = _flush(own[1] * a - step)
    return p + (own[1] * v - step), v, b


@device
def _adagrad(p, d, a, b, on, own):
    n = a + d * d
    return p - own[0] * d / (sqrt(n) + own[1]), n, b


@device
def _rmsprop_numbers(rate, hyper, at, steps):
    return rate, _high(hyper, at, 0), _rest(hyper, at, 0), _high(hyper, at, 1)


@device
def _rmsprop(p, d, a, b, on, own):
    n = own[1] * a + own[2] * (d * d) + float32(_TINY)
    return p - own[0] * d / (sqrt(n) + own[3]), n, b


@device
def _rmsprop_momentum_numbers(rate, hyper, at, steps):
    rest = _rest(hyper, at, 0)
    return rate, _high(hyper, at, 0), rest, _high(hyper, at, 1), _high(hyper, at, 2)


@device
def _rmsprop_momentum(p, d, a, b, on, own):
    n = own[1] * a + own[2] * (d * d) + float32(_TINY)
    v = _flush(own[4] * b - own[0] * d / (sqrt(n) + own[3]))
    return p + v, n, v


@device
def _share(rest, steps):
    """Return 1 - beta^steps from 1 - beta, without cancellation."""
    return -expm1(float32(steps) * log1p(-rest))


@device
def _adam_numbers(rate, hyper, at, steps):
    rest1, rest2, t = _rest(hyper, at, 0), _rest(hyper, at, 1), steps + 1
    step = rate * (sqrt(_share(rest2, t)) / _share(rest1, t))
    decay = rate * _high(hyper, at, 3)
    moments = _high(hyper, at, 0), rest1, _high(hyper, at, 1), rest2
    return step, moments[0], moments[1], moments[2], moments[3], _high(hyper, at, 2), decay


@device
def _adam(p, d, a, b, on, own):
    u = _flush(own[1] * a + own[2] * d)
    v = own[3] * b + own[4] * (d * d) + float32(_TINY)
    keep = float32(1) - own[6] * on
    return keep * p - own[0] * u / (sqrt(v) + own[5]), u, v


@device
def _ftrl_numbers(rate, hyper, at, steps):
    beta = _high(hyper, at, 0)
    beta = beta if beta > float32(_TINY) else float32(_TINY)
    first = float32(1) if steps == 0 else float32(0)
    return rate, beta, _high(hyper, at, 1), _high(hyper, at, 2), first


@device
def _ftrl(p, d, a, b, on, own):
    w = p if own[4] > float32(0) else a  # the proximal terms begin at the initial weights
    r = sqrt(b * b + d * d)
    inverse = float32(1) / (own[1] + r)
    k, eta = (own[1] + b) * inverse, own[0] * inverse
    w = k * w + (float32(1) - k) * p - eta * d
    cut = eta * (own[2] * on)
    inside = -cut if w < -cut else w
    inside = cut if inside > cut else inside
    return (w - inside) / (float32(1) + eta * (own[3] * on)), w, r


_UPDATES = [
    _update("sgd", 0, _rate, _sgd),
    _update("momentum", 1, _rate_and_first, _momentum),
    _update("nesterov", 1, _rate_and_first, _nesterov),
    _update("adagrad", 1, _rate_and_eps, _adagrad),
    _update("rmsprop", 1, _rmsprop_numbers, _rmsprop),
    _update("rmsprop_momentum", 2, _rmsprop_momentum_numbers, _rmsprop_momentum),
    _update("adam", 2, _adam_numbers, _adam),
    _update("ftrl", 2, _ftrl_numbers, _ftrl),
]


# ---- penalties --------------------------------------------------------------------------------


@kernel("f f f f l" + " u" * 7)
def _penalize(
    g, p, penalties, scale, segments, g_step, p_step, penalties_step, scale_step, segments_step,
    count, n,
):  # fmt: skip
    # One by one: this pass runs only before clipping, and 12 bytes a parameter move.
    m = uint64(cuda.blockIdx.y)
    strength, at = scale[m * uint64(scale_step)], m * uint64(penalties_step)
    l2, l1 = strength * penalties[at], strength * penalties[at + uint64(1)]
    if l2 == float32(0) and l1 == float32(0):
        return
    g_at, p_at = m * uint64(g_step), m * uint64(p_step)
    start, stop, on = uint32(0), uint32(0), False
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    stride = uint32(uint32(cuda.gridDim.x) * uint32(_THREADS))
    while i < n:
        if i >= stop:
            start, stop, s = find_segment(segments, segments_step, count, i)
            on = segments[uint64(s) * uint64(segments_step) + uint64(2)] != 0
        if on and i >= start:
            k = g_at + uint64(i)
            g[k] = _penalised(g[k], p[p_at + uint64(i)], l2, l1)
        i = uint32(i + stride)


@twin()
def penalize(g, p, penalties, scale, segments):
    """g += scale * (l2 * p + l1 * sign(p)) on penalised segments."""
    (members, n), count = p.shape, segments.shape[0]
    if not n * count:
        return []
    arrays = g, p, penalties, scale, segments
    grid = blocks_over(p, n), members
    return [_penalize(grid, *arrays, *(a.step(0) for a in arrays), count, n)]


@kernel("f f f f u u u u u")
def _penalty(parts, penalties, scale, out, penalties_step, scale_step, out_step, members, count):
    m = uint64(cuda.blockIdx.x)
    middle, big, sizes = float32(0), float32(0), float32(0)
    i = uint32(cuda.threadIdx.x)
    rows = uint64(members) * uint64(count)
    while i < count:
        at = m * uint64(count) + uint64(i)
        middle += parts[at]
        big += parts[rows + at]
        sizes += parts[uint64(2) * rows + at]
        i = uint32(i + uint32(_THREADS))
    middle, big, sizes = block_sum(middle), block_sum(big), block_sum(sizes)
    if uint32(cuda.threadIdx.x) == uint32(0):
        at, total = m * uint64(penalties_step), float32(0)
        l2, l1 = penalties[at], penalties[at + uint64(1)]
        # See `_clip` for the two sums of squares.
        squares = middle * float32(2.0**-32) + (big * float32(2.0**80)) * float32(2.0**80)
        if l2 != float32(0):
            total += float32(0.5) * l2 * squares
        if l1 != float32(0):
            total += l1 * sizes
        out[m * uint64(out_step)] = scale[m * uint64(scale_step)] * total


@twin()
def penalty(p, penalties, scale, segments, out):
    """out = scale * (l2 / 2 * sum(p^2) + l1 * sum(abs(p))) over penalised segments.

    The sums are of positive terms, made in threads, blocks and from the blocks: of n parameters,
    within n / (1024 blocks) + 90 roundings, 1e-5 at 1e8 parameters, and a tenth of it as a rule.
    """
    launch, parts, count = power_sums(p, segments)
    numbers = penalties.step(0), scale.step(0), out.step(0), p.shape[0], count
    return [*launch, _penalty(p.shape[0], parts, penalties, scale, out, *numbers)]


# ---- clipping ---------------------------------------------------------------------------------


@kernel("f f u u u u")
def _clip_value(g, limits, g_step, limits_step, n, wide):
    # 8 bytes a parameter; NaN stays, since it is neither above nor below.
    m = uint64(cuda.blockIdx.y)
    top = limits[m * uint64(limits_step)]
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    if not top > float32(0) or i >= n:
        return
    if wide != uint32(0):
        at = m * uint64(g_step) + uint64(4) * uint64(i)
        x = load4(g, at)
        store4(g, at, (_clip(x[0], top), _clip(x[1], top), _clip(x[2], top), _clip(x[3], top)))
    else:
        at = m * uint64(g_step) + uint64(i)
        g[at] = _clip(g[at], top)


@device
def _clip(x, top):
    x = top if x > top else x
    return -top if x < -top else x


@twin()
def clip_value(g, limits):
    """Clip every element of g to [-limit, limit]; NaN stays."""
    members, n = g.shape
    wide = n % 4 == 0 and g.aligned()
    n //= 4 if wide else 1
    grid = blocks(n, _THREADS), members
    return [_clip_value(grid, g, limits, g.step(0), limits.step(0), n, int(wide))]


twin("clip_norm")(clip_segments)
twin("clip_global_norm")(clip_whole)
twin("max_norm")(limit_columns)


def catalogue():
    """Return every kernel."""
    from skdeep._kernels.cuda import _clip

    return [*_UPDATES, _penalize, _penalty, _clip_value, *_clip.KERNELS]
