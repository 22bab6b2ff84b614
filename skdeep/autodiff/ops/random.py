"""Random operations of a training step: dropout, Gaussian noise, randomised leaky ReLU.

Their draws are a pure function of the member's seed, the step, the site (the number of the place
in the net that draws) and the element, by the counter-based generator Philox4x32-10. So nothing
random is stored: a pullback draws the same again, a program replays with the counters alone, and
a member's draws do not depend on its neighbours.
"""

import math
import operator

import numpy as np

from skdeep.autodiff._trace import Primitive, first_dtype, shape
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.shape import match


def _lower(name):
    def lower(args, outs, site, per_sample):
        from skdeep._kernels.cpu import random

        return member_call(getattr(random, name), (*args, site, per_sample), outs)

    return lower


def _primitive(name):
    return Primitive(
        name, shape=lambda x, *_, **kw: x.shape, dtype=first_dtype, lower=_lower(name)
    )


def _or_zeros(tangent, ans):
    return np.zeros(ans.shape, ans.dtype) if tangent is None else tangent


def _linear_rules(p):
    """Attach the rules of a primitive that is linear and diagonal in its first argument."""

    def vjp(ct, ans, x, *rest, **kw):
        return [lambda: match(p(ct, *rest, **kw), x), *[None] * len(rest)]

    def jvp(tangents, ans, x, *rest, **kw):
        return _or_zeros(None if tangents[0] is None else p(tangents[0], *rest, **kw), ans)

    return p.rules(vjp, jvp)


_dropout = _linear_rules(_primitive("dropout"))
_random_slope = _linear_rules(_primitive("random_slope"))
_gaussian_noise = _primitive("gaussian_noise").rules(
    lambda ct, ans, x, *rest, **kw: [lambda: match(ct, x), *[None] * len(rest)],
    lambda tangents, ans, *args, **kw: _or_zeros(tangents[0], ans),
)


def _check(x, name, numbers, width, seed, counters, site, batched=True):
    """Raise where the arguments of a draw do not fit the members of `x`; return the keywords."""
    s = shape(x)
    if not s or getattr(x, "dtype", None) not in (np.float32, np.float64):
        raise TypeError(
            f"x has shape {s} and dtype {getattr(x, 'dtype', type(x))}; pass a float32 or float64 "
            "array whose first axis is the member axis"
        )
    for what, a, expected, dtype in (
        (name, numbers, (s[0], *width), x.dtype),
        ("seed", seed, (s[0],), np.int64),
        ("counters", counters, (s[0], 4), np.int64),
    ):
        got = getattr(a, "dtype", type(a).__name__)
        if shape(a) != expected or got != dtype:
            raise ValueError(
                f"{what} has shape {shape(a)} and dtype {got}; with x of shape {s} it must have "
                f"shape {expected} and dtype {np.dtype(dtype)}"
            )
    site = operator.index(site)
    if not 0 <= site < 2**32:
        raise ValueError(f"site={site} must be from 0 to 2**32 - 1")
    return dict(site=site, per_sample=math.prod(s[2:]) if batched else 0)


def dropout(x, rate, seed, counters, *, site, batched=True):
    """Set random elements to zero and scale up the others (inverted dropout).

    Parameters
    ----------
    x : array of shape (n_members, ...)
        Activations, or weights for DropConnect; float32 or float64.
    rate : array of shape (n_members,)
        The probability of a zero, in [0, 1], with the dtype of `x`. Rate 0 returns `x` bit for
        bit. Probabilities are counted in units of 2^-24.
    seed : array of int64, shape (n_members,)
        The members' seeds.
    counters : array of int64, shape (n_members, 4)
        ``counters[m, 0]`` is the number of the step, ``counters[m, 3]`` the place of the first
        sample in the step's batch (0 unless that is computed in parts); the others are not used.
    site : int
        The number of the place that draws: two places of one net need two numbers.
    batched : bool, default=True
        Whether the second axis of `x` is of samples; for weights it is not.

    Returns
    -------
    array of shape (n_members, ...)
        ``x / (1 - rate)`` where an element is kept, else zero. Arguments after `x` have no
        derivative.

    Raises
    ------
    TypeError
        If `x` is not a floating array.
    ValueError
        If an argument's shape or dtype does not fit `x`, or `site` is out of range.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    JMLR 15 (2014); Wan et al., "Regularization of neural networks using DropConnect", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.random import dropout
    >>> x, seed, counters = np.ones((1, 8)), np.array([7]), np.zeros((1, 4), np.int64)
    >>> y = dropout(x, np.array([0.5]), seed, counters, site=0)
    >>> sorted({float(v) for v in y.ravel()})
    [0.0, 2.0]
    """
    kw = _check(x, "rate", rate, (), seed, counters, site, batched)
    return _dropout(x, rate, seed, counters, **kw)


def gaussian_noise(x, std, seed, counters, *, site):
    """Add independent normal noise to every element.

    Parameters
    ----------
    x : array of shape (n_members, ...)
        Activations or weights; float32 or float64.
    std : array of shape (n_members,)
        The standard deviation of the noise, with the dtype of `x`. It has no derivative.
    seed, counters, site
        As in `dropout`.

    Returns
    -------
    array of shape (n_members, ...)
        ``x + std * z``, the draws z being the same float32 numbers for either dtype: normal
        quantiles, within 1e-6 of their size, of 2^32 equally likely probabilities.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.random import gaussian_noise
    >>> x, seed, counters = np.zeros((1, 10_000)), np.array([7]), np.zeros((1, 4), np.int64)
    >>> y = gaussian_noise(x, np.array([2.0]), seed, counters, site=0)
    >>> bool(abs(y.std() - 2.0) < 0.1)
    True
    """
    kw = _check(x, "std", std, (), seed, counters, site)
    return _gaussian_noise(x, std, seed, counters, **kw)


def random_leaky_relu(x, bounds, seed, counters, *, site):
    """Multiply non-positive elements by random slopes (RReLU in training).

    Parameters
    ----------
    x : array of shape (n_members, ...)
        Pre-activations; float32 or float64.
    bounds : array of shape (n_members, 2)
        The lower and upper bound of the slopes, which are uniform, with the dtype of `x`.
    seed, counters, site
        As in `dropout`.

    Returns
    -------
    array of shape (n_members, ...)
        `x` where it is positive, else `x` times its slope; the derivative at zero is the slope.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`.

    References
    ----------
    Xu, Wang, Chen and Li, "Empirical evaluation of rectified activations in convolutional
    network", arXiv:1505.00853 (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.random import random_leaky_relu
    >>> x, seed, counters = np.array([[-1.0, 2.0]]), np.array([7]), np.zeros((1, 4), np.int64)
    >>> y = random_leaky_relu(x, np.array([[0.1, 0.3]]), seed, counters, site=0)
    >>> bool(-0.3 < y[0, 0] <= -0.1), float(y[0, 1])
    (True, 2.0)
    """
    kw = _check(x, "bounds", bounds, (2,), seed, counters, site)
    # The second x is the gate: piecewise constant, so it has no derivative.
    return _random_slope(x, x, bounds, seed, counters, **kw)
