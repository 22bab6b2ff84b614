"""How trained arrays begin: small specifications, scikit-learn estimators themselves."""

import math
from abc import abstractmethod
from numbers import Real

import numpy as np

from skdeep._compat import Interval, StrOptions
from skdeep._specification import Specification

__all__ = [
    "Constant",
    "FanUniform",
    "Glorot",
    "He",
    "LeCun",
    "Orthogonal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "get_initializer",
]

_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]
_DISTRIBUTION = [StrOptions({"normal", "truncated_normal", "uniform"})]


class Initializer(Specification):
    """Abstract base of the initialisers.

    Calling one, ``initializer(shape, fan_in, fan_out, rng, dtype)``, draws an array with the
    `numpy.random.Generator` `rng`. Draws are in float64 and then rounded, so that float32 and
    float64 nets begin alike.
    """

    def __call__(self, shape, fan_in, fan_out, rng, dtype=np.float32):
        """Return an array drawn with `rng`.

        Parameters
        ----------
        shape : tuple of int
            The array's shape.
        fan_in, fan_out : int
            The connections into and out of a unit.
        rng : numpy.random.Generator
            The source of randomness.
        dtype : dtype, default=numpy.float32
            The array's dtype.

        Returns
        -------
        ndarray
        """
        self.validate()
        return np.asarray(self.draw(tuple(shape), fan_in, fan_out, rng)).astype(dtype)

    @abstractmethod
    def draw(self, shape, fan_in, fan_out, rng):
        """Return the array in float64."""


def _truncated_normal(shape, std, rng):
    """Return normal numbers drawn again beyond two standard deviations, of deviation `std`."""
    # The variance of a normal cut at c = 2 is 1 - 2 c pdf(c) / (cdf(c) - cdf(-c)).
    c = 2.0
    pdf = math.exp(-0.5 * c * c) / math.sqrt(2 * math.pi)
    scale = std / math.sqrt(1 - 2 * c * pdf / math.erf(c / math.sqrt(2)))
    x = rng.standard_normal(shape)
    while (far := np.abs(x) > c).any():
        x[far] = rng.standard_normal(int(far.sum()))
    return x * scale


def _spread(shape, variance, distribution, rng):
    """Return an array of mean 0 and a variance."""
    if distribution == "uniform":
        bound = math.sqrt(3 * variance)
        return rng.uniform(-bound, bound, shape)
    if distribution == "truncated_normal":
        return _truncated_normal(shape, math.sqrt(variance), rng)
    return rng.standard_normal(shape) * math.sqrt(variance)


class VarianceScaling(Initializer):
    """Draw with variance ``scale / n``, n the connections of a unit.

    Parameters
    ----------
    scale : float, default=1.0
        The variance times the connections; above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}, default="fan_in"
        Which connections: into a unit, out of it, or their mean.
    distribution : {"normal", "truncated_normal", "uniform"}, default="normal"
        The distribution; the truncated normal is cut at two of its deviations and has the
        variance that is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import VarianceScaling
    >>> w = VarianceScaling(2.0)((300, 100), 300, 100, np.random.default_rng(0))
    >>> w.shape, w.dtype, round(float(w.var() * 300), 1)
    ((300, 100), dtype('float32'), 2.0)
    """

    _parameter_constraints = {
        "scale": _POSITIVE,
        "mode": [StrOptions({"fan_in", "fan_out", "fan_avg"})],
        "distribution": _DISTRIBUTION,
    }

    def __init__(self, scale=1.0, mode="fan_in", distribution="normal"):
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def draw(self, shape, fan_in, fan_out, rng):
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": 0.5 * (fan_in + fan_out)}
        return _spread(shape, self.scale / max(fans[self.mode], 1), self.distribution, rng)


class _Named(Initializer):
    """Abstract base of `VarianceScaling` under the name of who proposed it."""

    _parameter_constraints = {"distribution": _DISTRIBUTION}
    _scale, _mode = 1.0, "fan_in"

    def draw(self, shape, fan_in, fan_out, rng):
        """Draw with the variance scaled."""
        scaling = VarianceScaling(self._scale, self._mode, self.distribution)
        return scaling.draw(shape, fan_in, fan_out, rng)


class Glorot(_Named):
    """Glorot's (Xavier's) initialisation: variance ``2 / (fan_in + fan_out)``.

    Parameters
    ----------
    distribution : {"normal", "truncated_normal", "uniform"}, default="uniform"
        The distribution.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Glorot
    >>> w = Glorot()((30, 20), 30, 20, np.random.default_rng(0))
    >>> bool(np.abs(w).max() < np.sqrt(6 / 50))
    True
    """

    _mode = "fan_avg"

    def __init__(self, distribution="uniform"):
        self.distribution = distribution


class He(_Named):
    """He's initialisation, for relu and its kin: variance ``2 / fan_in``.

    Parameters
    ----------
    distribution : {"normal", "truncated_normal", "uniform"}, default="normal"
        The distribution.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import He
    >>> w = He()((500, 100), 500, 100, np.random.default_rng(0))
    >>> round(float(w.var() * 500), 1)
    2.0
    """

    _scale = 2.0

    def __init__(self, distribution="normal"):
        self.distribution = distribution


class LeCun(_Named):
    """LeCun's initialisation, for selu: variance ``1 / fan_in``.

    Parameters
    ----------
    distribution : {"normal", "truncated_normal", "uniform"}, default="normal"
        The distribution.

    References
    ----------
    LeCun et al., "Efficient backprop", 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import LeCun
    >>> w = LeCun()((500, 100), 500, 100, np.random.default_rng(0))
    >>> round(float(w.var() * 500), 1)
    1.0
    """

    def __init__(self, distribution="normal"):
        self.distribution = distribution


class FanUniform(Initializer):
    """scikit-learn's initialisation of a perceptron: uniform within sqrt(factor / fans).

    The fans are ``fan_in + fan_out``, for weights and biases alike.

    Parameters
    ----------
    factor : float, default=6.0
        6 is Glorot's; scikit-learn takes 2 for the logistic activation.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers._initializers import FanUniform
    >>> b = FanUniform()((20,), 30, 20, np.random.default_rng(0))
    >>> bool(np.abs(b).max() < np.sqrt(6 / 50))
    True
    """

    _parameter_constraints = {"factor": _POSITIVE}

    def __init__(self, factor=6.0):
        self.factor = factor

    def draw(self, shape, fan_in, fan_out, rng):
        bound = math.sqrt(self.factor / max(fan_in + fan_out, 1))
        return rng.uniform(-bound, bound, shape)


class Orthogonal(Initializer):
    """A random orthogonal matrix times a gain.

    All axes but the last are one; the columns (the rows, where there are fewer) are orthonormal.

    Parameters
    ----------
    gain : float, default=1.0
        The factor.

    References
    ----------
    Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", ICLR 2014; Mezzadri, "How to generate random matrices from the classical compact
    groups", 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Orthogonal
    >>> w = Orthogonal()((5, 3), 5, 3, np.random.default_rng(0), np.float64)
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """

    _parameter_constraints = {"gain": _POSITIVE}

    def __init__(self, gain=1.0):
        self.gain = gain

    def draw(self, shape, fan_in, fan_out, rng):
        if len(shape) < 2:
            raise ValueError(
                f"Orthogonal needs a shape of two axes or more, not {shape}; take another "
                "initialiser for biases"
            )
        columns = shape[-1]
        rows = math.prod(shape[:-1])
        a = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(a)
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # else q is not uniformly distributed
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


class TruncatedNormal(Initializer):
    """Normal numbers of mean 0, cut at two deviations (of the uncut distribution).

    Parameters
    ----------
    std : float, default=0.05
        The standard deviation after the cut.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import TruncatedNormal
    >>> w = TruncatedNormal(0.1)((1000,), 1, 1, np.random.default_rng(0))
    >>> bool(np.abs(w).max() < 0.228)
    True
    """

    _parameter_constraints = {"std": _NOT_NEGATIVE}

    def __init__(self, std=0.05):
        self.std = std

    def draw(self, shape, fan_in, fan_out, rng):
        return _truncated_normal(shape, self.std, rng)


class RandomUniform(Initializer):
    """Uniform numbers.

    Parameters
    ----------
    low, high : float, default=-0.05 and 0.05
        The range.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers._initializers import RandomUniform
    >>> bool(RandomUniform(0, 1)((100,), 1, 1, np.random.default_rng(0)).min() >= 0)
    True
    """

    _parameter_constraints = {"low": [Real], "high": [Real]}

    def __init__(self, low=-0.05, high=0.05):
        self.low = low
        self.high = high

    def validate(self):
        """Check the parameters, and that `low` is not above `high`."""
        super().validate()
        if self.low > self.high:
            raise ValueError(f"RandomUniform: low={self.low} must not be above high={self.high}")

    def draw(self, shape, fan_in, fan_out, rng):
        return rng.uniform(self.low, self.high, shape)


class Constant(Initializer):
    """One number everywhere.

    Parameters
    ----------
    value : float, default=0.0
        The number.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Constant
    >>> Constant(0.25)((2,), 1, 1, np.random.default_rng(0))
    array([0.25, 0.25], dtype=float32)
    """

    _parameter_constraints = {"value": [Real]}

    def __init__(self, value=0.0):
        self.value = value

    def draw(self, shape, fan_in, fan_out, rng):
        return np.full(shape, self.value, np.float64)


_NAMED = {
    **{
        f"{name}_{distribution}": (make, {"distribution": distribution})
        for names, make in ((("glorot", "xavier"), Glorot), (("he",), He), (("lecun",), LeCun))
        for name in names
        for distribution in ("uniform", "normal", "truncated_normal")
    },
    "orthogonal": (Orthogonal, {}),
    "truncated_normal": (TruncatedNormal, {}),
    "random_uniform": (RandomUniform, {}),
    "zeros": (Constant, {}),
    "ones": (Constant, {"value": 1.0}),
}


def get_initializer(spec, activation="identity"):
    """Return the initialiser that a user means.

    Parameters
    ----------
    spec : str or callable
        "auto" (scikit-learn's, see `FanUniform`), "glorot_uniform" ("xavier_uniform"),
        "he_normal", "lecun_normal" and so on with "uniform", "normal" and "truncated_normal",
        "orthogonal", "truncated_normal", "random_uniform", "zeros", "ones"; or an initialiser, or
        any function ``f(shape, fan_in, fan_out, rng, dtype)``.
    activation : str or callable, default="identity"
        The layer's activation, which "auto" goes by.

    Returns
    -------
    callable
        ``initializer(shape, fan_in, fan_out, rng, dtype)`` gives an array.

    Raises
    ------
    ValueError
        If the name is unknown, or a parameter of the initialiser is wrong.
    TypeError
        If `spec` is neither a name nor callable.

    Examples
    --------
    >>> from skdeep.layers._initializers import get_initializer
    >>> get_initializer("he_normal"), get_initializer("auto", activation="logistic")
    (He(), FanUniform(factor=2.0))
    """
    if isinstance(spec, str):
        if spec == "auto":
            return FanUniform(2.0 if activation == "logistic" else 6.0)
        if spec not in _NAMED:
            raise ValueError(
                f"initializer={spec!r} must be one of {sorted(['auto', *_NAMED])}, or a callable"
            )
        make, parameters = _NAMED[spec]
        return make(**parameters)
    if isinstance(spec, Initializer):
        spec.validate()
        return spec
    if callable(spec) and not isinstance(spec, type):
        return spec
    raise TypeError(
        f"initializer={spec!r} must be a name, an initialiser such as He(), or a callable"
    )
