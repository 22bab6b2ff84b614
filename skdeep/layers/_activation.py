"""Activations as layers, for stacks that put something between a product and its activation."""

from numbers import Real

from skdeep._compat import Interval
from skdeep.autodiff.ops import activation as functions
from skdeep.autodiff.ops import random as draws
from skdeep.layers._activations import get_activation
from skdeep.layers._base import Built, Layer, Parameter
from skdeep.layers._initializers import Constant


class Activation(Layer):
    """Apply an activation to every element.

    Parameters
    ----------
    function : str or callable, default="relu"
        The activation's name, or any function of a traced array.

    Examples
    --------
    >>> from skdeep.layers import Activation
    >>> Activation("tanh").build((5,)).output_shape
    (5,)
    """

    _parameter_constraints = {"function": [str, callable]}

    def __init__(self, function="relu"):
        self.function = function

    def build(self, input_shape):
        """Check the function."""
        self.validate()
        get_activation(self.function)
        return super().build(input_shape)

    def apply(self, params, state, x, context):
        """Apply the function."""
        return get_activation(self.function)(x), state


class PReLU(Layer):
    """Parametric leaky ReLU: the slope for negative inputs is trained, one per feature.

    Parameters
    ----------
    slope : float, default=0.25
        The slope to begin with.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> from skdeep.layers import PReLU
    >>> PReLU().build((5,)).parameters["slope"].shape
    (5,)
    """

    _parameter_constraints = {"slope": [Real]}

    def __init__(self, slope=0.25):
        self.slope = slope

    def build(self, input_shape):
        """Say the slopes' shape."""
        self.validate()
        shape = (int(input_shape[-1]),)
        return Built(tuple(input_shape), {"slope": Parameter(shape, Constant(self.slope))})

    def apply(self, params, state, x, context):
        """Apply the leaky ReLU with the trained slopes."""
        return functions.prelu(x, params["slope"]), state


class RReLU(Layer):
    """Randomised leaky ReLU: random slopes for negative inputs in training, their mean after.

    Parameters
    ----------
    lower, upper : float, default=1/8 and 1/3
        The range that slopes are drawn from uniformly.

    References
    ----------
    B. Xu et al., "Empirical Evaluation of Rectified Activations in Convolutional Network",
    arXiv:1505.00853, 2015.

    Examples
    --------
    >>> from skdeep.layers import RReLU
    >>> RReLU(0.1, 0.3)
    RReLU(lower=0.1, upper=0.3)
    """

    _parameter_constraints = {
        "lower": [Interval(Real, 0, 1, closed="both")],
        "upper": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, lower=0.125, upper=1 / 3):
        self.lower = lower
        self.upper = upper

    def hyperparameters(self):
        """Return the range: it may differ between members."""
        return {"bounds": (self.lower, self.upper)}

    def build(self, input_shape):
        """Check the range."""
        self.validate()
        if self.lower > self.upper:
            raise ValueError(
                f"RReLU: lower={self.lower} must not be above upper={self.upper}; swap them"
            )
        return super().build(input_shape)

    def apply(self, params, state, x, context):
        """Apply the leaky ReLU with random slopes in training, with their mean otherwise."""
        if not context.training:
            return functions.leaky_relu(x, 0.5 * (self.lower + self.upper)), state
        bounds, seed = context.hyper["bounds"], context.seed
        y = draws.random_leaky_relu(x, bounds, seed, context.counters, site=context.site)
        return y, state
