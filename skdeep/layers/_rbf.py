"""Radial basis functions as an output layer."""

from numbers import Integral

import numpy as np

from skdeep._compat import Interval
from skdeep.autodiff.ops import nn
from skdeep.layers._base import Built, Layer, Parameter
from skdeep.layers._initializers import get_initializer


def _signs(shape, fan_in, fan_out, rng, dtype):
    """Return -1 and +1 with equal probabilities."""
    return (2.0 * rng.integers(0, 2, shape) - 1.0).astype(dtype)


class RBF(Layer):
    """Euclidean radial basis functions: minus the squared distance to each unit's centre.

    The output is ``-sum((x - w)**2)``, so that the nearest centre has the highest score and
    softmax cross-entropy applies to the scores as they are.

    Parameters
    ----------
    units : int
        The number of centres, that is of outputs.
    kernel_initializer : str or initializer, default="auto"
        How the centres begin; "auto" draws -1 and +1 with equal probabilities.

    Notes
    -----
    The parameter is "weight" of shape (n_features, units). The centres are trained; in the paper
    they were kept fixed at first.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86, 1998, equation 7.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import RBF, Context
    >>> centres = np.array([[[0.0, 1.0], [0.0, 1.0]]])
    >>> RBF(2).apply({"weight": centres}, {}, np.array([[[0.0, 2.0]]]), Context())[0]
    array([[[-4., -2.]]])
    """

    _parameter_constraints = {
        "units": [Interval(Integral, 1, None, closed="left")],
        "kernel_initializer": [str, callable],
    }

    def __init__(self, units, *, kernel_initializer="auto"):
        self.units = units
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape):
        """Say the shape of the centres."""
        self.validate()
        if len(input_shape) != 1:
            raise ValueError(
                f"RBF takes flat samples, but got samples of shape {tuple(input_shape)}; put a "
                "Flatten layer before it"
            )
        fan_in, auto = int(input_shape[0]), self.kernel_initializer == "auto"
        initializer = _signs if auto else get_initializer(self.kernel_initializer)
        # Not penalised: a penalty would draw the centres to the origin.
        weight = Parameter((fan_in, self.units), initializer, fan_in, self.units)
        return Built((self.units,), {"weight": weight}, multiply_adds=fan_in * self.units)

    def apply(self, params, state, x, context):
        """Compute minus the squared distances, by one matrix product."""
        w = params["weight"]
        half = nn.linear(x, w, -0.5 * np.sum(w * w, axis=-2))
        return 2.0 * half - np.sum(x * x, axis=-1, keepdims=True), state
