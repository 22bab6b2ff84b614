"""Activations and their pullbacks, one kernel per function and order of derivative."""

from functools import cache

from skdeep._kernels.cpu.activation import BODIES
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, device, float32, kernel, shared, uint32
from skdeep._kernels.cuda._passes import Pass
from skdeep._kernels.cuda._sums import (
    THREADS,
    ColumnPlan,
    add_down,
    column_sums,
    place,
    plan_parts,
    put_sums,
)
from skdeep._kernels.cuda.program import twins

TWINS, twin = twins()
_FOURS = 4 * THREADS


@cache
def _value(name):
    """Return the pass out = f(z), 8 bytes an element."""
    body = shared(BODIES[name][0])
    return Pass(f"activate_{name}", device(lambda x, a: body(x, a, float32)), "x m")


@cache
def _pullback(name, order):
    """Return the pass out = ct f^(order)(z), 12 bytes an element."""
    body = shared(BODIES[name][order])
    scaled = device(lambda c, x, a: c * body(x, a, float32))
    return Pass(f"activate_pullback_{name}_{order}", scaled, "x x m")


def _declare(name):
    """Declare a function's twins: of its value and of its two pullbacks."""
    twin(f"activate_{name}")(lambda z, param, out: _value(name)(z, param, out))
    for order in (1, 2):
        twin(f"activate_pullback_{name}_{order}")(
            lambda ct, z, param, out, order=order: _pullback(name, order)(ct, z, param, out)
        )


for _name in BODIES:
    _declare(_name)


# ---- parametric leaky ReLU --------------------------------------------------------------------


@device
def _leaky(v, s):
    return v * s if v < float32(0) else v


@device
def _slope(c, v, s):
    return c if v > float32(0) else c * s


@device
def _share(c, v):
    """Return an element's part in the slope's gradient."""
    return float32(0) if v > float32(0) else c * v


@cache
def _prelu():
    return Pass("prelu", _leaky, "x c")


@twin()
def prelu(z, slope, out):
    """out = z where z > 0, slope z elsewhere; z (M, N, C), slope (M, C). 8 bytes an element."""
    return _prelu()(z, slope, out)


@kernel("f f f f f u u u u u u u u u u u u", THREADS)
def _prelu_pullback(
    ct, z, slope, dz, parts,
    rows, columns, per, lanes, tiles, width,
    ct_step, z_step, slope_step, dz_step, parts_step, chunk_step,
):  # fmt: skip
    """Both gradients in one reading of `ct` and `z`: 12 bytes an element."""
    part = cuda.shared.array(_FOURS, float32, 16)
    m, column, r, end, down = place(rows, per, lanes, tiles, width)
    at_c = uint32(uint32(m * ct_step) + column)
    at_z = uint32(uint32(m * z_step) + column)
    at_d = uint32(uint32(m * dz_step) + column)
    at_s = uint32(uint32(m * slope_step) + column)
    a0, a1, a2, a3 = float32(0), float32(0), float32(0), float32(0)
    if column < columns:
        if width == uint32(4):
            s = load4(slope, at_s)
            while r < end:
                o = uint32(r * columns)
                c, v = load4(ct, uint32(at_c + o)), load4(z, uint32(at_z + o))
                d = (
                    _slope(c[0], v[0], s[0]), _slope(c[1], v[1], s[1]),
                    _slope(c[2], v[2], s[2]), _slope(c[3], v[3], s[3]),
                )  # fmt: skip
                store4(dz, uint32(at_d + o), d)
                a0 += _share(c[0], v[0])
                a1 += _share(c[1], v[1])
                a2 += _share(c[2], v[2])
                a3 += _share(c[3], v[3])
                r = uint32(r + down)
        else:
            s0 = slope[at_s]
            while r < end:
                o = uint32(r * columns)
                c0, v0 = ct[uint32(at_c + o)], z[uint32(at_z + o)]
                dz[uint32(at_d + o)] = _slope(c0, v0, s0)
                a0 += _share(c0, v0)
                r = uint32(r + down)
    add_down(part, lanes, a0, a1, a2, a3)
    to = uint32(uint32(m * parts_step) + uint32(uint32(cuda.blockIdx.y) * chunk_step))
    put_sums(part, parts, to, columns, column, lanes, width)


@twin()
def prelu_pullback(ct, z, slope, dz, dslope):
    """dz = ct (1 where z > 0, slope elsewhere); dslope = ct min(z, 0) summed over the batch."""
    if not dslope.size:
        return []
    vectors = z.shape[2] % 4 == 0 and all(a.aligned() for a in (ct, z, slope, dz))
    plan = ColumnPlan(z, dslope, vectors, each=4)
    several = plan.chunks > 1
    parts = plan_parts(plan, dslope) if several else dslope
    steps = [a.step(0) for a in (ct, z, slope, dz, parts)]
    steps.append(parts.step(1) if several else 0)
    launch = _prelu_pullback(plan.grid, ct, z, slope, dz, parts, *plan.numbers, *steps)
    return [launch, *(column_sums(parts, dslope, last=True) if several else [])]


def catalogue():
    """Return the kernels of values and gradients."""
    passes = [p.kernel for n in BODIES for p in (_value(n), _pullback(n, 1))]
    return [*passes, _prelu().kernel, _prelu_pullback]
