"""Scalar bodies shared by kernels: elementary functions, activations and losses.

Every body is a plain Python function that numba inlines into the kernel that uses it, for
float32 and float64 alike. Elementary functions are polynomials in float32, since a call into the
C library stops vectorisation, and the C library's own in float64. All of them respect NaN.

An activation is three bodies ``f(x, a, T)``: value, slope and curvature at `x`, where `a` is its
parameter (a slope, a scale; unused by most) and `T` the floating type of the result. A loss is
three bodies ``f(r, t, a, T)``: value, gradient and second derivative by the raw prediction `r`
for the target `t`.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from skdeep._kernels.cpu._numba import JIT

#: How bodies compile: the kernels' arithmetic, always inlined, no wrappers for callers in Python.
OPTIONS = {key: JIT[key] for key in ("error_model", "fastmath")} | dict(
    forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True
)
inlined = register_jitable(**OPTIONS)
F = np.float32


def _by_type(double, single):
    """Return `double` as a function that compiles to `single` where its argument is float32."""
    overload(double, jit_options=OPTIONS)(lambda x: single if x is types.float32 else double)
    return double


# ---- elementary functions ---------------------------------------------------------------------


@inlined
def _reduced(x):
    """Return h, r, q with exp(x) = 2 h (1 + r + r r q), h a power of two, for -87.5 <= x <= 89.

    Adding 1.5 * 2**23 rounds to the nearest integer and leaves it in the sum's low bits, so that
    no float is converted to int (undefined for NaN). The polynomial is a minimax fit (3e-9 of
    exp). It is half the power of two because 2**128 is not a float32, but exp(88.7) is.
    """
    t = x * F(1.4426950408889634) + F(12582912.0)
    n = t - F(12582912.0)
    r = x - n * F(0.693359375)
    r = r + n * F(2.12194440e-4)
    q = F(0.00138189388) * r + F(0.00836870354)
    q = q * r + F(0.0416682884)
    q = q * r + F(0.166665211)
    q = q * r + F(0.49999994)
    bits = np.int32((np.float32(t).view(np.int32) + np.int32(126)) << np.int32(23))
    return np.int32(bits).view(np.float32), r, q


@inlined
def exp32(x):
    """Return exp(x) in float32, within 2 ulp; 0 below -87, infinity above 88.73."""
    x = F(-87.5) if x < F(-87.5) else x
    x = F(89.0) if x > F(89.0) else x
    h, r, q = _reduced(x)
    return (r * r * q + r + F(1)) * h * F(2)


@inlined
def expm1_32(x):
    """Return exp(x) - 1 in float32, accurate near 0 too."""
    x = F(-17.5) if x < F(-17.5) else x
    x = F(89.0) if x > F(89.0) else x
    h, r, q = _reduced(x)
    return ((r * r * q + r) * h + (h - F(0.5))) * F(2)


@inlined
def tanh32(x):
    """Return tanh(x) in float32."""
    e = expm1_32(F(-2) * abs(x))
    y = -e / (e + F(2))
    return -y if x < F(0) else y


@inlined
def log1p32(x):
    """Return log(1 + x) in float32 for 0 <= x <= 1, as 2 atanh(x / (2 + x))."""
    s = x / (x + F(2))
    s2 = s * s
    q = F(0.242463604) * s2 + F(0.214437172)
    q = q * s2 + F(0.286152184)
    q = q * s2 + F(0.399989486)
    q = q * s2 + F(0.666666746)
    return s * s2 * q + F(2) * s


@inlined
def erf32(x):
    """Return erf(x) in float32, as -expm1 of a polynomial, which is accurate near 0 too."""
    a = abs(x)
    a = F(4) if a > F(4) else a
    q = F(-3.48195863e-05) * a + F(0.000343513646)
    q = q * a + F(-0.0011614539)
    q = q * a + F(-0.000309220515)
    q = q * a + F(0.0193799324)
    q = q * a + F(-0.10282924)
    q = q * a + F(-0.636615157)
    q = q * a + F(-0.12837917)
    y = -expm1_32(q * a - a)
    return -y if x < F(0) else y


def _exp(x):
    return math.exp(x)


def _expm1(x):
    return math.expm1(x)


def _tanh(x):
    return math.tanh(x)


def _log1p(x):
    return math.log1p(x)


def _erf(x):
    return math.erf(x)


exp, expm1, tanh = _by_type(_exp, exp32), _by_type(_expm1, expm1_32), _by_type(_tanh, tanh32)
log1p, erf = _by_type(_log1p, log1p32), _by_type(_erf, erf32)


@inlined
def logistic(x, T):
    """Return 1 / (1 + exp(-x))."""
    return T(1) / (T(1) + exp(-x))


@inlined
def logistic_slope(x, T):
    """Return logistic'(x), relatively accurate on both sides."""
    e = exp(-abs(x))
    return e / ((T(1) + e) * (T(1) + e))


@inlined
def logistic_curve(x, T):
    """Return logistic''(x)."""
    e = exp(-abs(x))
    c = e * (e - T(1)) / ((T(1) + e) * (T(1) + e) * (T(1) + e))
    return -c if x < T(0) else c


@inlined
def softplus(x, T):
    """Return log(1 + exp(x))."""
    return (x if x > T(0) else T(0)) + log1p(exp(-abs(x)))


# ---- activations: value, slope, curvature ------------------------------------------------------


@inlined
def zero(x, a, T):
    """Return 0, whatever x."""
    return T(0)


@inlined
def step_0(x, a, T):
    """Heaviside's step, one at zero; NaN stays."""
    return T(1) if x >= T(0) else (T(0) if x < T(0) else x)


@inlined
def logistic_0(x, a, T):
    return logistic(x, T)


@inlined
def logistic_1(x, a, T):
    return logistic_slope(x, T)


@inlined
def logistic_2(x, a, T):
    return logistic_curve(x, T)


@inlined
def tanh_0(x, a, T):
    return tanh(x)


@inlined
def tanh_1(x, a, T):
    return T(4) * logistic_slope(T(2) * x, T)


@inlined
def tanh_2(x, a, T):
    return T(8) * logistic_curve(T(2) * x, T)


@inlined
def relu_0(x, a, T):
    return T(0) if x < T(0) else x  # this way round NaN stays


@inlined
def relu_1(x, a, T):
    return T(1) if x > T(0) else T(0)


@inlined
def leaky_relu_0(x, a, T):
    return a * x if x < T(0) else x


@inlined
def leaky_relu_1(x, a, T):
    return T(1) if x > T(0) else a


@inlined
def elu_0(x, a, T):
    return x if x > T(0) else a * expm1(x)


@inlined
def elu_1(x, a, T):
    return T(1) if x > T(0) else a * exp(x)


@inlined
def elu_2(x, a, T):
    return T(0) if x > T(0) else a * exp(x)


#: Self-normalising networks (Klambauer et al., 2017): the fixed point's scale and negative limit.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@inlined
def selu_0(x, a, T):
    return T(SELU_SCALE) * elu_0(x, T(SELU_ALPHA), T)


@inlined
def selu_1(x, a, T):
    return T(SELU_SCALE) * elu_1(x, T(SELU_ALPHA), T)


@inlined
def selu_2(x, a, T):
    return T(SELU_SCALE) * elu_2(x, T(SELU_ALPHA), T)


@inlined
def normal_cdf(x, T):
    """Return the standard normal distribution function."""
    return T(0.5) + T(0.5) * erf(T(math.sqrt(0.5)) * x)


@inlined
def normal_pdf(x, T):
    """Return the standard normal density."""
    return T(1 / math.sqrt(2 * math.pi)) * exp(T(-0.5) * x * x)


@inlined
def gelu_0(x, a, T):
    return x * normal_cdf(x, T)


@inlined
def gelu_1(x, a, T):
    return normal_cdf(x, T) + x * normal_pdf(x, T)


@inlined
def gelu_2(x, a, T):
    return (T(2) - x * x) * normal_pdf(x, T)


#: 2 sqrt(2 / pi), since gelu's tanh form is x logistic(2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
GELU_SCALE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


@inlined
def gelu_tanh_0(x, a, T):
    return x * logistic(T(GELU_SCALE) * (x + T(GELU_CUBIC) * x * x * x), T)


@inlined
def gelu_tanh_1(x, a, T):
    v = T(GELU_SCALE) * (x + T(GELU_CUBIC) * x * x * x)
    dv = T(GELU_SCALE) * (T(1) + T(3 * GELU_CUBIC) * x * x)
    return logistic(v, T) + x * dv * logistic_slope(v, T)


@inlined
def gelu_tanh_2(x, a, T):
    v = T(GELU_SCALE) * (x + T(GELU_CUBIC) * x * x * x)
    dv = T(GELU_SCALE) * (T(1) + T(3 * GELU_CUBIC) * x * x)
    ddv = T(6 * GELU_CUBIC * GELU_SCALE) * x
    bend = (T(2) * dv + x * ddv) * logistic_slope(v, T)
    return bend + x * dv * dv * logistic_curve(v, T)


@inlined
def silu_0(x, a, T):
    return x * logistic(x, T)


@inlined
def silu_1(x, a, T):
    return logistic(x, T) + x * logistic_slope(x, T)


@inlined
def silu_2(x, a, T):
    return T(2) * logistic_slope(x, T) + x * logistic_curve(x, T)


@inlined
def softplus_0(x, a, T):
    return softplus(x, T)


@inlined
def hard_sigmoid_0(x, a, T):
    y = x / T(6) + T(0.5)
    return T(0) if y < T(0) else (T(1) if y > T(1) else y)


@inlined
def hard_sigmoid_1(x, a, T):
    return T(1 / 6) if abs(x) < T(3) else T(0)


# ---- losses: value, gradient and second derivative by the raw prediction ------------------------


@inlined
def binary_cross_entropy_0(r, t, a, T):
    # t softplus(-r) + (1 - t) softplus(r), with no cancellation for t = 0 and t = 1
    wrong = (T(1) - t) * r if r > T(0) else -t * r
    return wrong + log1p(exp(-abs(r)))


@inlined
def binary_cross_entropy_1(r, t, a, T):
    return (T(1) - t) * logistic(r, T) - t * logistic(-r, T)


@inlined
def binary_cross_entropy_2(r, t, a, T):
    return logistic_slope(r, T)


@inlined
def constant_0(r, t, a, T):
    return T(0)


@inlined
def constant_1(r, t, a, T):
    return T(1)


@inlined
def hinge_0(r, t, a, T):
    v = T(1) - t * r
    return T(0) if v < T(0) else v


@inlined
def hinge_1(r, t, a, T):
    return T(0) if t * r > T(1) else -t


@inlined
def squared_hinge_0(r, t, a, T):
    v = hinge_0(r, t, a, T)
    return v * v


@inlined
def squared_hinge_1(r, t, a, T):
    return T(-2) * t * hinge_0(r, t, a, T)


@inlined
def squared_hinge_2(r, t, a, T):
    return T(0) if t * r > T(1) else T(2) * t * t


@inlined
def perceptron_0(r, t, a, T):
    v = -t * r
    return T(0) if v < T(0) else v


@inlined
def perceptron_1(r, t, a, T):
    # At r = 0 the slope is -t, or a net that begins with zero weights would never learn.
    return T(0) if t * r > T(0) else -t


@inlined
def squared_error_0(r, t, a, T):
    return T(0.5) * (r - t) * (r - t)


@inlined
def squared_error_1(r, t, a, T):
    return r - t


@inlined
def absolute_error_0(r, t, a, T):
    return abs(r - t)


@inlined
def absolute_error_1(r, t, a, T):
    d = r - t
    return T(1) if d > T(0) else (T(-1) if d < T(0) else d)


@inlined
def huber_0(r, t, a, T):
    d = abs(r - t)
    return T(0.5) * d * d if d <= a else a * (d - T(0.5) * a)


@inlined
def huber_1(r, t, a, T):
    d = r - t
    return a if d > a else (-a if d < -a else d)


@inlined
def huber_2(r, t, a, T):
    return T(1) if abs(r - t) <= a else T(0)


@inlined
def poisson_0(r, t, a, T):
    constant = t * math.log(t) - t if t > T(0) else T(0)
    return exp(r) - t * r + constant


@inlined
def poisson_1(r, t, a, T):
    return exp(r) - t


@inlined
def poisson_2(r, t, a, T):
    return exp(r)


@inlined
def quantile_0(r, t, a, T):
    d = t - r
    return (a - T(1)) * d if d < T(0) else a * d


@inlined
def quantile_1(r, t, a, T):
    d = t - r
    return T(1) - a if d < T(0) else (-a if d > T(0) else d)
