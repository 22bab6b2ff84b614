"""Layers that regularise: dropout and noise."""

from numbers import Real

from skdeep._compat import Interval
from skdeep.autodiff.ops import random as draws
from skdeep.layers._base import Layer


class Dropout(Layer):
    """Set each input to zero with a probability, and scale up the others, in training.

    The mask is a function of the member's seed, the step, the layer and the element alone
    (counter-based), so it is never stored, and a resumed training draws the same masks.

    Parameters
    ----------
    rate : float, default=0.5
        The probability of dropping an input.

    References
    ----------
    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 15, 2014.

    Examples
    --------
    >>> from skdeep.layers import Dropout
    >>> Dropout(0.2)
    Dropout(rate=0.2)
    """

    _parameter_constraints = {"rate": [Interval(Real, 0, 1, closed="left")]}

    def __init__(self, rate=0.5):
        self.rate = rate

    def hyperparameters(self):
        """Return the rate: it may differ between members."""
        return {"rate": self.rate}

    def apply(self, params, state, x, context):
        """Drop in training; pass through otherwise."""
        if not context.training:
            return x, state
        rate = context.hyper["rate"]
        return draws.dropout(x, rate, context.seed, context.counters, site=context.site), state


class GaussianNoise(Layer):
    """Add normal noise to the inputs in training.

    Parameters
    ----------
    std : float, default=0.1
        The noise's standard deviation.

    Examples
    --------
    >>> from skdeep.layers import GaussianNoise
    >>> GaussianNoise(0.3).build((5,)).output_shape
    (5,)
    """

    _parameter_constraints = {"std": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, std=0.1):
        self.std = std

    def hyperparameters(self):
        """Return the standard deviation: it may differ between members."""
        return {"std": self.std}

    def apply(self, params, state, x, context):
        """Add noise in training; pass through otherwise."""
        if not context.training:
            return x, state
        std = context.hyper["std"]
        noisy = draws.gaussian_noise(x, std, context.seed, context.counters, site=context.site)
        return noisy, state
