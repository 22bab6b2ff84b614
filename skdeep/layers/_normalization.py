"""Normalising layers."""

from numbers import Real

from skdeep._compat import Interval
from skdeep.autodiff.ops import norm
from skdeep.autodiff.ops.nn import moving_average
from skdeep.layers._base import Built, Layer, Parameter
from skdeep.layers._initializers import get_initializer


class BatchNormalization(Layer):
    """Normalise each feature over the batch, then scale and shift it.

    Training normalises by the batch's mean and variance and keeps moving averages of them;
    prediction normalises by the averages.

    Parameters
    ----------
    momentum : float, default=0.9
        The share of the old moving averages that a step keeps.
    epsilon : float, default=1e-5
        Added to the variance.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", ICML 2015.

    Examples
    --------
    >>> from skdeep.layers import BatchNormalization
    >>> sorted(BatchNormalization().build((5,)).parameters)
    ['beta', 'gamma']
    """

    _parameter_constraints = {
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, momentum=0.9, *, epsilon=1e-5):
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        """Say the shapes of scale, shift and moving averages."""
        self.validate()
        channels = (int(input_shape[-1]),)
        return Built(
            output_shape=tuple(input_shape),
            parameters={
                "gamma": Parameter(channels, get_initializer("ones")),
                "beta": Parameter(channels, get_initializer("zeros")),
            },
            state={"mean": (channels, 0.0), "variance": (channels, 1.0)},
        )

    def apply(self, params, state, x, context):
        """Normalise by the batch in training, by the moving averages otherwise."""
        gamma, beta = params["gamma"], params["beta"]
        if not context.training:
            mean, variance = state["mean"], state["variance"]
            return norm.normalize(x, mean, variance, gamma, beta, eps=self.epsilon), state
        how = dict(eps=self.epsilon, activation=context.activation)
        y, mean, variance = norm.batch_norm(x, gamma, beta, **how)
        return y, {
            "mean": moving_average(state["mean"], mean, momentum=self.momentum),
            "variance": moving_average(state["variance"], variance, momentum=self.momentum),
        }


class LayerNormalization(Layer):
    """Normalise each sample over its features, then scale and shift them.

    Parameters
    ----------
    epsilon : float, default=1e-5
        Added to the variance.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", arXiv:1607.06450, 2016.

    Examples
    --------
    >>> from skdeep.layers import LayerNormalization
    >>> LayerNormalization().build((5,)).output_shape
    (5,)
    """

    _parameter_constraints = {"epsilon": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, *, epsilon=1e-5):
        self.epsilon = epsilon

    def build(self, input_shape):
        """Say the shapes of scale and shift."""
        self.validate()
        features = (int(input_shape[-1]),)
        return Built(
            output_shape=tuple(input_shape),
            parameters={
                "gamma": Parameter(features, get_initializer("ones")),
                "beta": Parameter(features, get_initializer("zeros")),
            },
        )

    def apply(self, params, state, x, context):
        """Normalise over the last axis."""
        return norm.layer_norm(x, params["gamma"], params["beta"], eps=self.epsilon), state
