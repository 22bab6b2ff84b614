"""Activations and their pullbacks, one kernel per function and order of derivative.

The kernels are made from two templates that close over the scalar bodies, so that a net compiles
the functions that it uses and no others. Arrays are (M, N): the elements of each member.
"""

from skdeep._kernels import scalar
from skdeep._kernels.cpu._numba import as_c, kernel

_NAMES = "logistic tanh elu selu gelu gelu_tanh silu".split()
#: Activation -> its scalar bodies by order of derivative.
BODIES = {n: tuple(getattr(scalar, f"{n}_{order}") for order in range(3)) for n in _NAMES} | {
    "step": (scalar.step_0, scalar.zero, scalar.zero),
    "relu": (scalar.relu_0, scalar.relu_1, scalar.zero),
    "leaky_relu": (scalar.leaky_relu_0, scalar.leaky_relu_1, scalar.zero),
    "softplus": (scalar.softplus_0, scalar.logistic_0, scalar.logistic_1),
    "hard_sigmoid": (scalar.hard_sigmoid_0, scalar.hard_sigmoid_1, scalar.zero),
}


def named(template, name):
    """Name a function made from a template, so that numba keeps a cache entry for each."""
    template.__name__ = template.__qualname__ = name
    return template


def _value(name, body):
    def value(z, param, out):
        T = out.dtype.type
        for m in range(out.shape[0]):
            a = param[m if param.size > 1 else 0]
            x, o = as_c(z[m]), as_c(out[m])
            for i in range(o.size):
                o[i] = body(x[i], a, T)

    return kernel("f2 f1 f2")(named(value, f"activate_{name}"))


def _pullback(name, body):
    def pullback(ct, z, param, out):
        T = out.dtype.type
        for m in range(out.shape[0]):
            a = param[m if param.size > 1 else 0]
            c, x, o = as_c(ct[m]), as_c(z[m]), as_c(out[m])
            for i in range(o.size):
                o[i] = c[i] * body(x[i], a, T)

    return kernel("f2 f2 f1 f2")(named(pullback, f"activate_pullback_{name}"))


#: ``value[function]`` computes out = f(z); z and out (M, N), parameter (1 or M).
value = {n: _value(n, bodies[0]) for n, bodies in BODIES.items()}
#: ``pullback[function, order]`` computes out = ct f^(order)(z), for orders 1 and 2.
pullback = {
    (n, k): _pullback(f"{n}_{k}", bodies[k]) for n, bodies in BODIES.items() for k in (1, 2)
}


@kernel("f3 f2 f3")
def prelu(z, slope, out):
    """out = z where z > 0, slope z elsewhere; z (M, N, C), slope (M, C)."""
    T = out.dtype.type
    for m in range(out.shape[0]):
        x, s, o = as_c(z[m]), as_c(slope[m]), as_c(out[m])
        for i in range(o.shape[0]):
            xi, oi = x[i], o[i]
            for j in range(s.size):
                v = xi[j]
                oi[j] = v * s[j] if v < T(0) else v


@kernel("f3 f3 f2 f3 f2")
def prelu_pullback(ct, z, slope, dz, dslope):
    """dz = ct (1 where z > 0, slope elsewhere); dslope = ct min(z, 0) summed over the batch."""
    T = dz.dtype.type
    for m in range(dz.shape[0]):
        c, x, s = as_c(ct[m]), as_c(z[m]), as_c(slope[m])
        d, t = as_c(dz[m]), as_c(dslope[m])
        for j in range(t.size):
            t[j] = T(0)
        for i in range(d.shape[0]):
            ci, xi, di = c[i], x[i], d[i]
            for j in range(s.size):
                di[j] = ci[j] if xi[j] > T(0) else ci[j] * s[j]
            for j in range(s.size):
                t[j] += T(0) if xi[j] > T(0) else ci[j] * xi[j]
