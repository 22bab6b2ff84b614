"""Activations by name."""

import math
from dataclasses import dataclass
from functools import partial

from skdeep.autodiff.ops.activation import PARAMETERS, activate
from skdeep.autodiff.ops.logits import softmax
from skdeep.autodiff.ops.nn import FUSED

__all__ = ["ACTIVATIONS", "ActivationFunction", "get_activation"]


@dataclass(frozen=True)
class ActivationFunction:
    """An activation and what a layer needs to know of it; callable.

    Parameters
    ----------
    name : str
        Its name.
    function : callable
        The function of a traced array.
    gain : float, default=1.0
        What the standard deviation ``1 / sqrt(fan_in)`` of initial weights is to be multiplied
        by, so that a deep net neither shrinks nor blows up its activations.
    fused : bool, default=False
        Whether `skdeep.autodiff.ops.nn.linear` knows the function by its name.
    """

    name: str
    function: object
    gain: float = 1.0
    fused: bool = False

    def __call__(self, x):
        """Apply the function."""
        return self.function(x)


def _identity(x):
    return x


#: He et al. (2015) for functions that lose half the variance, LeCun et al. (1998) for tanh.
_GAINS = {
    "relu": math.sqrt(2.0),
    "leaky_relu": math.sqrt(2.0 / (1.0 + PARAMETERS["leaky_relu"] ** 2)),
    "tanh": 5.0 / 3.0,
}
_ELEMENTWISE = (
    "step logistic tanh relu leaky_relu elu selu gelu gelu_tanh silu softplus hard_sigmoid"
)
_FUNCTIONS = {
    "identity": _identity,
    **{name: partial(activate, function=name) for name in _ELEMENTWISE.split()},
    "swish": partial(activate, function="silu"),
    "softmax": softmax,
}

#: Name -> activation. The derivative of "step" is zero, so that only a last layer can have it.
ACTIVATIONS = {
    name: ActivationFunction(name, f, _GAINS.get(name, 1.0), fused=name in FUSED)
    for name, f in _FUNCTIONS.items()
}


def get_activation(spec):
    """Return the activation that a user means.

    Parameters
    ----------
    spec : str or callable
        "identity", "logistic", "tanh", "relu", "leaky_relu" (slope 0.01), "elu", "selu", "gelu",
        "gelu_tanh", "silu" ("swish"), "softplus", "hard_sigmoid", "softmax" (over the last axis),
        "step", or any function of a traced array that returns an array of its shape.

    Returns
    -------
    ActivationFunction

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `spec` is neither a name nor callable.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers._activations import get_activation
    >>> get_activation("leaky_relu")(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    >>> get_activation(np.sin).fused
    False
    """
    if isinstance(spec, ActivationFunction):
        return spec
    if isinstance(spec, str):
        if spec not in ACTIVATIONS:
            raise ValueError(
                f"activation={spec!r} must be one of {sorted(ACTIVATIONS)}, or a callable"
            )
        return ACTIVATIONS[spec]
    if callable(spec):
        return ActivationFunction(getattr(spec, "__name__", repr(spec)), spec)
    raise TypeError(f"activation={spec!r} must be a name or a callable")
