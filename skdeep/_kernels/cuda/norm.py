"""Batch and layer normalisation: statistics, normalisation and the way back.

x is (M, rows, C). Bytes that move for an element of it in batch normalisation: 12 forward (it is
read twice), 20 backward; half of the reads come from cache where one block has all rows of its
columns. In layer normalisation: 8 forward, for a row stays in cache, and 20 backward.
"""

from functools import cache

from skdeep._kernels.cuda import _columns
from skdeep._kernels.cuda._columns import (
    finish_cotangents,
    finish_moments,
    lanes_of,
    parts_of,
    tilings,
)
from skdeep._kernels.cuda._lanes import lane_kernel
from skdeep._kernels.cuda._numba import cuda, float32, sqrt, uint32
from skdeep._kernels.cuda._sums import lanes_sum
from skdeep._kernels.cuda.array import check_span
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256
_NEVER = float("-inf")


# ---- batch normalisation ------------------------------------------------------------------------


def _batch_norm(floor, x, gamma, beta, eps, y, mean, variance, rstd):
    if not x.size:
        return []
    arrays = x, gamma, beta, y, mean, variance, rstd
    whole, tiling = tilings(x.shape, x.device, arrays)
    if whole:
        statistics = mean, variance, rstd
        return [whole.launch("batch_norm", x, gamma, beta, eps, y, *statistics, number=(floor,))]
    parts, grid = parts_of(x, tiling)
    return [
        tiling.launch("batch_moments", x, parts),
        finish_moments(tiling, grid, parts, x, eps, mean, variance, rstd),
        tiling.launch("batch_apply", x, gamma, beta, mean, rstd, y, number=(floor,)),
    ]


@twin()
def batch_norm(x, gamma, beta, eps, y, mean, variance, rstd, sums):
    """y = (x - mean) * rstd * gamma + beta over rows."""
    return _batch_norm(_NEVER, x, gamma, beta, eps, y, mean, variance, rstd)


@twin()
def batch_norm_relu(x, gamma, beta, eps, y, mean, variance, rstd, sums):
    """`batch_norm`, and 0 where the result is negative."""
    return _batch_norm(0.0, x, gamma, beta, eps, y, mean, variance, rstd)


@twin()
def normalize(x, mean, variance, gamma, beta, eps, y, scale):
    """y = (x - mean) * scale + beta, scale = gamma / sqrt(variance + eps)."""
    if not x.size:
        return []
    arrays = x, mean, variance, gamma, beta, y, scale
    tiling = tilings(x.shape, x.device, arrays)[1]
    return [
        tiling.launch(
            "batch_normalize", x, mean, variance, gamma, beta, eps, y, scale, number=(_NEVER,)
        )
    ]


def _batch_pullback(relu, shape, ct, x, gamma, beta, mean, rstd, dx, dgamma, dbeta):
    if not x.size:
        return []
    inputs, outs = (ct, x, gamma, beta, mean, rstd), (dx, dgamma, dbeta)
    whole, tiling = tilings(shape, x.device, (*inputs, *outs))
    if whole:
        return [whole.launch("batch_pullback", *inputs, *outs, number=(relu,))]
    parts, grid = parts_of(x, tiling)
    return [
        tiling.launch("batch_cotangents", *inputs, parts, number=(relu,)),
        finish_cotangents(tiling, grid, parts, rstd, dgamma, dbeta, scaled=1),
        tiling.launch("batch_pull", *inputs, *outs, number=(relu,)),
    ]


@twin()
def batch_norm_pullback(ct, x, gamma, mean, rstd, dx, dgamma, dbeta, sums):
    """The cotangents of x, gamma and beta."""
    return _batch_pullback(0, x.shape, ct, x, gamma, mean, mean, rstd, dx, dgamma, dbeta)


@twin()
def batch_norm_relu_pullback(ct, x, gamma, beta, mean, rstd, dx, dgamma, dbeta, sums):
    """`batch_norm_pullback` of `batch_norm_relu`; ct, x and dx are (M, rows * C)."""
    channels = gamma.shape[1]
    shape = x.shape[0], x.shape[1] // channels, channels
    return _batch_pullback(1, shape, ct, x, gamma, beta, mean, rstd, dx, dgamma, dbeta)


# ---- layer normalisation ------------------------------------------------------------------------

# 2 ** bits threads of a warp have a row; those beyond the last row do its work and write nothing.
_ROW = """
    t, m = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
    width = uint32(uint32(1) << bits)
    first = uint32((t & uint32(width - uint32(1))) * LANES)
    step = uint32(width * LANES)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(uint32(THREADS) >> bits) + (t >> bits))
    writes = i < rows
    if not writes:
        i = uint32(rows - uint32(1))
    row = uint32(i * channels)
    over = float32(1) / float32(channels)
"""

_LAYER_NORM = """
def layer_norm(
    x, gamma, beta, eps, y, mean, variance, rstd, rows, channels, bits,
    x_step, gamma_step, beta_step, y_step, mean_step, variance_step, rstd_step,
):
""" + _ROW + """
    from_ = uint32(m * x_step + row)
    s$ = float32(0)
    j = first
    while j < channels:
        (x$, ...) = load(x, uint32(from_ + j))
        s$ += x$
        j = uint32(j + step)
    s = float32(0)
    s += s$
    mu = row_sum(s, width) * over
    s$ = float32(0)
    j = first
    while j < channels:
        (x$, ...) = load(x, uint32(from_ + j))
        d$ = x$ - mu
        s$ += d$ * d$
        j = uint32(j + step)
    s = float32(0)
    s += s$
    v = row_sum(s, width) * over
    r = float32(1) / sqrt(v + eps[uint32(0)])
    if writes:
        if first == uint32(0):
            mean[uint32(m * mean_step + i)] = mu
            variance[uint32(m * variance_step + i)] = v
            rstd[uint32(m * rstd_step + i)] = r
        j = first
        while j < channels:
            (x$, ...) = load(x, uint32(from_ + j))
            (g$, ...) = load(gamma, uint32(m * gamma_step + j))
            (b$, ...) = load(beta, uint32(m * beta_step + j))
            x$ = (x$ - mu) * r * g$ + b$
            store(y, uint32(m * y_step + row + j), (x$, ...))
            j = uint32(j + step)
"""  # fmt: skip

_LAYER_PULL = """
def layer_pull(
    ct, x, gamma, mean, rstd, dx, rows, channels, bits,
    ct_step, x_step, gamma_step, mean_step, rstd_step, dx_step,
):
""" + _ROW + """
    mu, r = mean[uint32(m * mean_step + i)], rstd[uint32(m * rstd_step + i)]
    s$ = float32(0)
    q$ = float32(0)
    j = first
    while j < channels:
        (c$, ...) = load(ct, uint32(m * ct_step + row + j))
        (x$, ...) = load(x, uint32(m * x_step + row + j))
        (g$, ...) = load(gamma, uint32(m * gamma_step + j))
        c$ = c$ * g$
        s$ += c$
        q$ += c$ * (x$ - mu)
        j = uint32(j + step)
    s = float32(0)
    s += s$
    q = float32(0)
    q += q$
    s = row_sum(s, width) * over
    q = row_sum(q, width) * r * r * over
    if writes:
        j = first
        while j < channels:
            (c$, ...) = load(ct, uint32(m * ct_step + row + j))
            (x$, ...) = load(x, uint32(m * x_step + row + j))
            (g$, ...) = load(gamma, uint32(m * gamma_step + j))
            x$ = (c$ * g$ - s - (x$ - mu) * q) * r
            store(dx, uint32(m * dx_step + row + j), (x$, ...))
            j = uint32(j + step)
"""  # fmt: skip


_ROW_SOURCES = {
    "layer_norm": ("f f f f f f f f", _LAYER_NORM),
    "layer_pull": ("f f f f f f", _LAYER_PULL),
}


@cache
def _row_kernel(name, lanes):
    arrays, source = _ROW_SOURCES[name]
    steps = len(arrays.split()) - ("eps" in source.partition(")")[0])
    known = {
        "cuda": cuda,
        "uint32": uint32,
        "float32": float32,
        "sqrt": sqrt,
        "row_sum": lanes_sum,
        "THREADS": _THREADS,
    }
    return lane_kernel(arrays + " u" * (3 + steps), source, name, lanes, known)


def _by_rows(x, lanes):
    """Return the grid, and rows, channels and the logarithm of the threads of a row."""
    check_span(x)
    members, rows, channels = x.shape
    bits = min((channels // lanes - 1).bit_length(), 5)
    return (blocks(rows, _THREADS >> bits), members), (rows, channels, bits)


@twin()
def layer_norm(x, gamma, beta, eps, y, mean, variance, rstd):
    """y = (x - mean) * rstd * gamma + beta, the statistics being each row's own."""
    if not x.size:
        return []
    lanes = lanes_of(x.shape[2], (x, gamma, beta, y))
    grid, numbers = _by_rows(x, lanes)
    steps = [a.step(0) for a in (x, gamma, beta, y, mean, variance, rstd)]
    arrays = x, gamma, beta, eps, y, mean, variance, rstd
    return [_row_kernel("layer_norm", lanes)(grid, *arrays, *numbers, *steps)]


@twin()
def layer_norm_pullback(ct, x, gamma, mean, rstd, dx, dgamma, dbeta, sums):
    """The cotangents of x, gamma and beta."""
    if not x.size:
        return []
    lanes = lanes_of(x.shape[2], (ct, x, gamma, dx))
    grid, numbers = _by_rows(x, lanes)
    arrays = ct, x, gamma, mean, rstd, dx
    pull = _row_kernel("layer_pull", lanes)(grid, *arrays, *numbers, *[a.step(0) for a in arrays])
    tiling = tilings(x.shape, x.device, (ct, x))[1]
    parts, grid = parts_of(x, tiling)
    return [
        tiling.launch("layer_cotangents", ct, x, mean, rstd, parts),
        finish_cotangents(tiling, grid, parts, rstd, dgamma, dbeta, scaled=0),
        pull,
    ]


def catalogue():
    """Return the kernels that nets ask for."""
    rows = [_row_kernel(name, lanes) for name in _ROW_SOURCES for lanes in (1, 4)]
    return [*_columns.catalogue(), *rows]
