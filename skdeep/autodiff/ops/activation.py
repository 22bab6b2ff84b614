"""Activations of any order of derivative: elementwise functions with native pullbacks."""

import math

import numpy as np

from skdeep.autodiff._trace import Primitive, first_dtype, ndim, shape
from skdeep.autodiff._transforms import jvp, vjp
from skdeep.autodiff.ops._implements import as_real
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.logits import sigmoid, softplus
from skdeep.autodiff.ops.shape import broadcast_to, match, reshape, sum_

__all__ = ["activate", "elu", "gelu", "leaky_relu", "prelu", "selu", "silu"]

# ---- rules shared with the pointwise losses -----------------------------------------------------


def nth(f, order):
    """Return the derivative of that order of an elementwise function by its first argument."""

    def g(x, *rest):
        return jvp(lambda u: f(u, *rest), (x,), (np.ones(shape(x), x.dtype),))[1]

    return f if order == 0 else nth(g, order - 1)


def _at(f, args, i):
    return lambda u: f(*args[:i], u, *args[i + 1 :])


def pull_through(f, args, i, ct):
    """Return the cotangent of argument i through a composition."""
    return vjp(_at(f, args, i), args[i])[1](ct)[0]


def push_through(f, args, i, tangent):
    """Return the tangent of a composition along argument i."""
    return jvp(_at(f, args, i), (args[i],), (tangent,))[1]


def sum_tangents(terms, ans):
    """Return the sum of the terms that are not None; zeros where there is none."""
    terms = [t for t in terms if t is not None]
    return sum(terms[1:], terms[0]) if terms else np.zeros(shape(ans), ans.dtype)


def check_floating(name, x):
    """Raise unless the kernels take the array's dtype."""
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {x.dtype}; convert it to float32 or float64")


def member_parameter(name, param, x):
    """Return a parameter as an array of one number, or of one per member of `x`."""
    if not hasattr(param, "dtype") or param.dtype != x.dtype:
        param = np.asarray(param, x.dtype)
    param = reshape(param, (1,)) if ndim(param) == 0 else param
    members = shape(x)[0] if ndim(x) >= 3 else 1
    if shape(param) not in ((1,), (members,)):
        raise ValueError(
            f"{name} has shape {shape(param)}; pass one number, or one for each of the "
            f"{members} members"
        )
    return param


def _led(a):
    """Return a view with the member axis in front; arrays of up to two axes have none."""
    return a if a.ndim >= 3 else a[None]


# ---- the functions in NumPy: the rule for third and higher orders, and for parameters -----------


def _erf_rule(t, x):
    return t * (2 / math.sqrt(math.pi) * np.exp(-x * x))


def _lower_erf(args, outs):
    from scipy.special import erf

    return erf, (args[0], outs[0])


_erf = Primitive("erf", shape=lambda x: shape(x), lower=_lower_erf, inplace=True).rules(
    lambda ct, ans, x: [lambda: _erf_rule(ct, x)],
    lambda tangents, ans, x: _erf_rule(tangents[0], x),
)

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _elu(z, a):
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0.0)))


def _gelu_tanh(z, a):
    return z * sigmoid(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z))


COMPOSITIONS = {
    "step": lambda z, a: np.heaviside(z, 1.0),
    "logistic": lambda z, a: sigmoid(z),
    "tanh": lambda z, a: np.tanh(z),
    "relu": lambda z, a: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z, a: np.where(z > 0, z, a * z),
    "elu": _elu,
    "selu": lambda z, a: _SELU_SCALE * _elu(z, _SELU_ALPHA),
    "gelu": lambda z, a: z * (0.5 + 0.5 * _erf(math.sqrt(0.5) * z)),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda z, a: z * sigmoid(z),
    "softplus": lambda z, a: softplus(z),
    "hard_sigmoid": lambda z, a: np.clip(z / 6.0 + 0.5, 0.0, 1.0),
}
#: Functions that are polynomial between kinks: the order from which their derivative is zero.
FLAT = {"step": 1, "relu": 2, "leaky_relu": 2, "hard_sigmoid": 2}
#: Functions with a parameter: its default.
PARAMETERS = {"leaky_relu": 0.01, "elu": 1.0}


def _composition(function, order):
    def f(z, param):
        # One number per member, against all the member's elements.
        return COMPOSITIONS[function](z, reshape(param, (-1, *[1] * (max(ndim(z), 1) - 1))))

    return nth(f, order)


# ---- the primitive ------------------------------------------------------------------------------


def _lower_activate(args, outs, function):
    from skdeep._kernels.cpu.activation import value

    z, param = args
    return member_call(value[function], (_led(z), param), [_led(outs[0])])


def _lower_pullback(args, outs, function, order):
    from skdeep._kernels.cpu.activation import pullback

    ct, z, param = args
    return member_call(pullback[function, order], (_led(ct), _led(z), param), [_led(outs[0])])


_activate = Primitive(
    "activate", shape=lambda z, param, function: z.shape, dtype=first_dtype, lower=_lower_activate
)
_activate_pullback = Primitive(
    "activate_pullback",
    shape=lambda ct, z, param, function, order: z.shape,
    dtype=lambda ct, z, param: z.dtype,
    lower=_lower_pullback,
)


def _scaled(ct, z, param, function, order):
    """Return ct times the derivative of that order; None where that is zero."""
    if order >= FLAT.get(function, math.inf):
        return None
    if order <= 2:
        return _activate_pullback(ct, z, param, function=function, order=order)
    return ct * _composition(function, order)(z, param)


def _slope_thunk(ct, z, param, function, order):
    if order >= FLAT.get(function, math.inf):
        return None
    return lambda: match(_scaled(ct() if callable(ct) else ct, z, param, function, order), z)


def _param_thunk(ct, z, param, function, order):
    if function not in PARAMETERS:
        return None
    return lambda: pull_through(_composition(function, order), (z, param), 1, ct())


def _param_tangent(t, ct, z, param, function, order):
    if t is None or function not in PARAMETERS:
        return None
    return ct * push_through(_composition(function, order), (z, param), 1, t)


def _activate_vjp(ct, ans, z, param, function):
    return [
        _slope_thunk(ct, z, param, function, 1),
        _param_thunk(lambda: ct, z, param, function, 0),
    ]


def _activate_jvp(tangents, ans, z, param, function):
    t, t_param = tangents
    terms = [
        None if t is None else _scaled(t, z, param, function, 1),
        _param_tangent(t_param, 1.0, z, param, function, 0),
    ]
    return sum_tangents(terms, ans)


def _pullback_vjp(c, ans, ct, z, param, function, order):
    return [
        lambda: match(_scaled(c, z, param, function, order), ct),
        _slope_thunk(lambda: c * ct, z, param, function, order + 1),
        _param_thunk(lambda: c * ct, z, param, function, order),
    ]


def _pullback_jvp(tangents, ans, ct, z, param, function, order):
    t_ct, t_z, t_param = tangents
    terms = [
        None if t_ct is None else _scaled(t_ct, z, param, function, order),
        None if t_z is None else _scaled(t_z * ct, z, param, function, order + 1),
        _param_tangent(t_param, ct, z, param, function, order),
    ]
    return sum_tangents(terms, ans)


_activate.rules(_activate_vjp, _activate_jvp)
_activate_pullback.rules(_pullback_vjp, _pullback_jvp)


def activate(z, param=None, *, function):
    """Apply an activation to every element.

    Parameters
    ----------
    z : array of shape (...)
        The inputs, float32 or float64. With three axes or more, the first is the member axis.
    param : float or array of shape (1,) or (n_members,), default=None
        The negative slope of "leaky_relu" (0.01 where None) or the scale of "elu" (1); the other
        functions have none.
    function : {"step", "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", \
            "gelu_tanh", "silu", "softplus", "hard_sigmoid"}
        The function. "step" is one from zero on and has derivative zero everywhere; "gelu" is the
        exact one, by the error function, and "gelu_tanh" its approximation; "hard_sigmoid" is
        clip(z / 6 + 1 / 2, 0, 1). At their kinks "relu" has derivative 0 and "leaky_relu" its
        negative slope.

    Returns
    -------
    array of the shape of `z`

    Raises
    ------
    TypeError
        If `z` is neither float32 nor float64.
    ValueError
        If `function` is unknown, or `param` does not fit the members of `z`.

    References
    ----------
    Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR
    2016; Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017; Hendrycks and
    Gimpel, "Gaussian error linear units", arXiv:1606.08415 (2016); Ramachandran et al.,
    "Searching for activation functions", arXiv:1710.05941 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.activation import activate
    >>> activate(np.array([-1.0, 0.0, 2.0]), 0.1, function="leaky_relu")
    array([-0.1,  0. ,  2. ])
    """
    if function not in COMPOSITIONS:
        raise ValueError(f"function={function!r} must be one of {sorted(COMPOSITIONS)}")
    z = as_real(z)
    check_floating("z", z)
    if param is None:
        param = PARAMETERS.get(function, 0.0)
    return _activate(z, member_parameter("param", param, z), function=function)


def leaky_relu(z, slope=0.01):
    """Return z where it is positive, `slope` times z elsewhere; see `activate`."""
    return activate(z, slope, function="leaky_relu")


def elu(z, alpha=1.0):
    """Return z where it is positive, `alpha` times exp(z) - 1 elsewhere; see `activate`."""
    return activate(z, alpha, function="elu")


def selu(z):
    """Return the self-normalising elu of z; see `activate`."""
    return activate(z, function="selu")


def gelu(z, approximate=False):
    """Return z times the normal distribution function, or its tanh form; see `activate`."""
    return activate(z, function="gelu_tanh" if approximate else "gelu")


def silu(z):
    """Return z times its logistic function (swish); see `activate`."""
    return activate(z, function="silu")


# ---- parametric leaky ReLU ----------------------------------------------------------------------


def _led_slope(slope):
    return slope if slope.ndim == 2 else slope[None]


def _lower_prelu(args, outs):
    from skdeep._kernels.cpu.activation import prelu

    return member_call(prelu, (_led(args[0]), _led_slope(args[1])), [_led(outs[0])])


def _lower_prelu_pullback(args, outs):
    from skdeep._kernels.cpu.activation import prelu_pullback

    ct, z, slope = args
    arrays = _led(ct), _led(z), _led_slope(slope)
    return member_call(prelu_pullback, arrays, [_led(outs[0]), _led_slope(outs[1])])


_prelu = Primitive("prelu", shape=lambda z, slope: z.shape, dtype=first_dtype, lower=_lower_prelu)
_prelu_pullback = Primitive(
    "prelu_pullback",
    n_out=2,
    shape=lambda ct, z, slope: (z.shape, slope.shape),
    dtype=lambda ct, z, slope: z.dtype,
    lower=_lower_prelu_pullback,
)


def _spread(slope, z):
    """Return slopes or their cotangents against the elements: (M, K) to (M, 1, ..., K)."""
    s = shape(slope)
    return reshape(slope, (*s[:-1], *[1] * (ndim(z) - len(s)), s[-1]))


def _collect(x, slope):
    """Sum over the elements that share a slope."""
    return sum_(x, tuple(range(ndim(slope) - 1, ndim(x) - 1)))


def _negative(z):
    return np.less_equal(z, 0.0)


def _prelu_vjp(ct, ans, z, slope):
    pulled = []  # both cotangents come of one call

    def pull(i):
        if not pulled:
            pulled.extend(_prelu_pullback(ct, z, slope))
        return pulled[i]

    return [lambda: pull(0), lambda: pull(1)]


def _gate(t, z, slope):
    """Return t times the derivative by z."""
    return np.where(_negative(z), t * _spread(slope, z), t)


def _prelu_jvp(tangents, ans, z, slope):
    t, t_slope = tangents
    terms = [
        None if t is None else _gate(t, z, slope),
        None if t_slope is None else _spread(t_slope, z) * np.minimum(z, 0.0),
    ]
    return sum_tangents(terms, ans)


def _prelu_pullback_vjp(cts, ans, ct, z, slope):
    c, c_slope = cts

    def by_ct():
        terms = [
            None if c is None else _gate(c, z, slope),
            None if c_slope is None else _spread(c_slope, z) * np.minimum(z, 0.0),
        ]
        return sum_tangents(terms, ct)

    def by_z():
        return _spread(c_slope, z) * ct * _negative(z)

    def by_slope():
        return _collect(c * ct * _negative(z), slope)

    return [by_ct, None if c_slope is None else by_z, None if c is None else by_slope]


def _prelu_pullback_jvp(tangents, ans, ct, z, slope):
    t_ct, t_z, t_slope = tangents
    dz = [
        None if t_ct is None else _gate(t_ct, z, slope),
        None if t_slope is None else _spread(t_slope, z) * ct * _negative(z),
    ]
    dslope = [
        None if t_ct is None else _collect(t_ct * np.minimum(z, 0.0), slope),
        None if t_z is None else _collect(t_z * ct * _negative(z), slope),
    ]
    return sum_tangents(dz, ans[0]), sum_tangents(dslope, ans[1])


_prelu.rules(_prelu_vjp, _prelu_jvp)
_prelu_pullback.rules(_prelu_pullback_vjp, _prelu_pullback_jvp)


def prelu(z, slope):
    """Return z where it is positive, elsewhere z times a slope that can be trained.

    Parameters
    ----------
    z : array of shape (n_samples, n_features) or (n_members, ..., n_features)
        The inputs, float32 or float64.
    slope : array of shape (n_features,) or (n_members, n_features)
        The slopes of negative inputs; one row per member where `z` has a member axis.

    Returns
    -------
    array of the shape of `z`

    Raises
    ------
    TypeError
        If `z` is neither float32 nor float64.
    ValueError
        If the slopes do not fit `z`.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import grad
    >>> from skdeep.autodiff.ops.activation import prelu
    >>> z = np.array([[1.0, -2.0], [-3.0, -4.0]])
    >>> grad(lambda slope: np.sum(prelu(z, slope)))(np.array([0.25, 0.25]))
    array([-3., -6.])
    """
    z, slope = as_real(z), as_real(slope)
    check_floating("z", z)
    if ndim(z) < 2:
        raise ValueError(f"z has shape {shape(z)}; pass at least (n_samples, n_features)")
    wanted = (shape(z)[0], shape(z)[-1]) if ndim(z) >= 3 else shape(z)[-1:]
    if shape(slope) not in (wanted, wanted[-1:]):
        raise ValueError(f"slope has shape {shape(slope)}; with z {shape(z)} it must be {wanted}")
    return _prelu(z, broadcast_to(slope, wanted))
