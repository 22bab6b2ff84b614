"""Dense layers."""

from numbers import Integral, Real

import numpy as np

from skdeep._compat import Interval
from skdeep.autodiff.ops import nn
from skdeep.autodiff.ops.random import dropout
from skdeep.layers._activations import get_activation
from skdeep.layers._base import Built, Layer, Parameter
from skdeep.layers._initializers import get_initializer


class Dense(Layer):
    """A fully connected layer: ``activation(x @ W + b)``.

    Parameters
    ----------
    units : int
        The number of outputs.
    activation : str or callable, default="identity"
        The activation's name, or any function of a traced array.
    kernel_initializer : str or initializer, default="auto"
        How the weights begin. "auto" is scikit-learn's: uniform within
        ``sqrt(6 / (fan_in + fan_out))``, 2 instead of 6 for the logistic activation.
    bias_initializer : str or initializer, default="auto"
        How the biases begin; "auto" draws as the weights' "auto" does, and is zeros with any
        other `kernel_initializer`.
    dropconnect : float, default=0.0
        The probability with which each weight is dropped in a training step.

    References
    ----------
    L. Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013.

    Examples
    --------
    >>> from skdeep.layers import Dense
    >>> Dense(10, activation="relu").build((784,)).output_shape
    (10,)
    """

    _parameter_constraints = {
        "units": [Interval(Integral, 1, None, closed="left")],
        "activation": [str, callable],
        "kernel_initializer": [str, callable],
        "bias_initializer": [str, callable],
        "dropconnect": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        units,
        activation="identity",
        *,
        kernel_initializer="auto",
        bias_initializer="auto",
        dropconnect=0.0,
    ):
        self.units = units
        self.activation = activation
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.dropconnect = dropconnect

    def hyperparameters(self):
        """Return the probability of dropping a weight, where there is one."""
        return {"dropconnect": self.dropconnect} if self.dropconnect else {}

    def build(self, input_shape):
        """Say the shapes of the weights and biases."""
        self.validate()
        if len(input_shape) != 1:
            raise ValueError(
                f"Dense takes flat samples, but got samples of shape {tuple(input_shape)}; "
                "put a Flatten layer before it"
            )
        get_activation(self.activation)  # refuses an unknown name before any training
        fan_in = int(input_shape[0])
        weights = get_initializer(self.kernel_initializer, activation=self.activation)
        bias = self.bias_initializer
        if bias == "auto" and self.kernel_initializer != "auto":
            bias = "zeros"
        bias = get_initializer(bias, activation=self.activation)
        return Built(
            output_shape=(self.units,),
            parameters={
                "weight": Parameter((fan_in, self.units), weights, fan_in, self.units, True),
                "bias": Parameter((self.units,), bias, fan_in, self.units),
            },
            multiply_adds=fan_in * self.units,
        )

    def apply(self, params, state, x, context):
        """Compute the product, the bias and the activation."""
        weight, bias = params["weight"], params["bias"]
        if self.dropconnect and context.training:
            rate, seed = context.hyper["dropconnect"], context.seed
            kw = dict(site=context.site, batched=False)
            weight = dropout(weight, rate, seed, context.counters, **kw)
        activation = get_activation(self.activation)
        if activation.fused:
            return nn.linear(x, weight, bias, activation=activation.name), state
        return activation(nn.linear(x, weight, bias)), state


class Flatten(Layer):
    """Turn each sample into one axis.

    Examples
    --------
    >>> from skdeep.layers import Flatten
    >>> Flatten().build((28, 28, 1)).output_shape
    (784,)
    """

    def build(self, input_shape):
        """Say the size of a flat sample."""
        return Built(output_shape=(int(np.prod(input_shape)),))

    def apply(self, params, state, x, context):
        """Reshape."""
        return np.reshape(x, (*x.shape[:2], int(np.prod(x.shape[2:])))), state
