"""Draws inside a step: dropout, noise and random slopes, the very draws of the CPU's kernels.

A thread computes one Philox counter, whose four words are those of the elements e, e + 16, e + 32
and e + 48 of a group of 64 (see `skdeep._kernels.philox`): 16 neighbouring threads read and write
runs of 64 bytes. Where a part's first sample is not at a multiple of 64 in the stream, the groups
reach beyond both ends of the row. 8 bytes an element move (12 with a gate).
"""

from skdeep._kernels import philox as generator
from skdeep._kernels.cuda._numba import cuda, device, float32, kernel, shared, uint32, uint64
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256
_GROUP, _LANES = generator.GROUP, generator.LANES

philox, low, high = shared(generator.philox), shared(generator.low), shared(generator.high)
_normal, _uniform = shared(generator.normal), shared(generator.uniform)


def _draws(name, prepare, apply):
    """Return the kernel of an operation.

    Parameters
    ----------
    name : str
        The kernel's name.
    prepare : device function
        ``prepare(numbers, at)`` gives two numbers of the operation, of a member's at `at`.
    apply : device function
        ``apply(word, x, gate, a, b)`` gives an element from its word and the two numbers.
    """

    @device
    def put(word, e, n, x, x_at, gate, gate_at, out, out_at, a, b):
        if e < n:  # unsigned: what lies before the row is beyond its end
            value, on = x[x_at + uint64(e)], gate[gate_at + uint64(e)]
            out[out_at + uint64(e)] = apply(word, value, on, a, b)

    @kernel("f f f l l f u u u u u u u u u", threads=_THREADS, name=name)
    def draws(
        x, gate, numbers, seed, counters, out, x_step, gate_step, numbers_step, seed_step,
        counters_step, out_step, site, per_sample, n,
    ):  # fmt: skip
        m = uint64(cuda.blockIdx.y)
        t = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
        counter = m * uint64(counters_step)
        step = counters[counter]
        first = uint64(counters[counter + uint64(3)]) * uint64(per_sample)
        key = seed[m * uint64(seed_step)]
        block = uint32(uint32(first // uint64(_GROUP)) * uint32(_LANES) + t)
        w0, w1, w2, w3 = philox(
            uint64(block), uint64(site), low(step), high(step), low(key), high(key)
        )
        group, lane = t // uint32(_LANES), t % uint32(_LANES)
        e = uint32(group * uint32(_GROUP) + lane - uint32(first % uint64(_GROUP)))
        a, b = prepare(numbers, m * uint64(numbers_step))
        x_at, gate_at, out_at = m * uint64(x_step), m * uint64(gate_step), m * uint64(out_step)
        put(w0, e, n, x, x_at, gate, gate_at, out, out_at, a, b)
        e = uint32(e + uint32(_LANES))
        put(w1, e, n, x, x_at, gate, gate_at, out, out_at, a, b)
        e = uint32(e + uint32(_LANES))
        put(w2, e, n, x, x_at, gate, gate_at, out, out_at, a, b)
        e = uint32(e + uint32(_LANES))
        put(w3, e, n, x, x_at, gate, gate_at, out, out_at, a, b)

    return draws


def _launches(draws, x, gate, numbers, seed, counters, site, per_sample, out):
    members, n = out.shape
    steps = [a.step(0) for a in (x, gate, numbers, seed, counters, out)]
    threads = blocks(n + _GROUP - 1, _GROUP) * _LANES
    grid = blocks(threads, _THREADS), members
    return [
        draws(grid, x, gate, numbers, seed, counters, out, *steps, site, per_sample, n)
    ]  # fmt: skip


# ---- dropout ----------------------------------------------------------------------------------


@device
def _cut_and_scale(rate, at):
    """Return the least word that keeps an element, and what a kept element is multiplied by."""
    r = rate[at]
    share = r * float32(2.0**24)
    whole = uint32(share)
    rest = share - float32(whole)  # exact: to the nearest whole number, of two the even one
    half_up = rest == float32(0.5) and whole % uint32(2) == uint32(1)
    if rest > float32(0.5) or half_up:
        whole = uint32(whole + uint32(1))
    if whole > uint32(2**24 - 1):
        whole = uint32(2**24 - 1)
    scale = float32(1) / (float32(1) - r) if r < float32(1) else float32(0)
    return uint32(whole << uint32(8)), scale


@device
def _drop(word, x, gate, cut, scale):
    return x * scale if word >= cut else float32(0)


_dropout = _draws("dropout", _cut_and_scale, _drop)


@twin()
def dropout(x, rate, seed, counters, site, per_sample, out):
    """Inverted dropout: out = x / (1 - rate) where the draw keeps an element, 0 elsewhere."""
    return _launches(_dropout, x, x, rate, seed, counters, site, per_sample, out)


# ---- noise ------------------------------------------------------------------------------------


@device
def _deviation(std, at):
    return std[at], float32(0)


@device
def _add_noise(word, x, gate, std, unused):
    return x + std * _normal(word)


_gaussian_noise = _draws("gaussian_noise", _deviation, _add_noise)


@twin()
def gaussian_noise(x, std, seed, counters, site, per_sample, out):
    """out = x + std * z with standard normal z."""
    return _launches(_gaussian_noise, x, x, std, seed, counters, site, per_sample, out)


# ---- random slopes ----------------------------------------------------------------------------


@device
def _lower_and_width(bounds, at):
    lower = bounds[at]
    return lower, bounds[at + uint64(1)] - lower


@device
def _slope(word, v, gate, lower, width):
    slope = lower + width * _uniform(word)
    return v if gate > float32(0) else v * slope


_random_slope = _draws("random_slope", _lower_and_width, _slope)


@twin()
def random_slope(v, x, bounds, seed, counters, site, per_sample, out):
    """out = v where x > 0, elsewhere v times a slope drawn uniformly from [lower, upper)."""
    return _launches(_random_slope, v, x, bounds, seed, counters, site, per_sample, out)
