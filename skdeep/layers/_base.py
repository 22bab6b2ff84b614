"""What a layer is: a specification that holds no arrays."""

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from skdeep._specification import Specification


@dataclass(frozen=True)
class Parameter:
    """The shape of a trained array and how it begins.

    Parameters
    ----------
    shape : tuple of int
        The array's shape, without the member axis.
    initializer : callable
        ``initializer(shape, fan_in, fan_out, rng, dtype)`` gives the array.
    fan_in, fan_out : int
        The connections into and out of a unit, for initialisers.
    penalised : bool
        Whether weight penalties and max-norm apply (weights, not biases).
    """

    shape: tuple
    initializer: object
    fan_in: int = 1
    fan_out: int = 1
    penalised: bool = False


@dataclass(frozen=True)
class Built:
    """What a layer needs for an input of one shape.

    Parameters
    ----------
    output_shape : tuple of int
        The shape of one sample's output.
    parameters : dict of str to Parameter
        The arrays that are trained.
    state : dict of str to (shape, fill)
        The arrays that a training step carries on (running statistics).
    multiply_adds : int
        The multiplications (each with an addition) of a sample's forward pass.
    """

    output_shape: tuple
    parameters: dict = field(default_factory=dict)
    state: dict = field(default_factory=dict)
    multiply_adds: int = 0


@dataclass(frozen=True)
class Context:
    """What a layer is told beside its input.

    Parameters
    ----------
    training : bool
        Whether the pass is a training step.
    seed : ndarray of int64 of shape (M,)
        Each member's seed.
    counters : ndarray of int64 of shape (M, 3)
        Steps made, step within the epoch, row cursor.
    site : int
        The layer's number, which keeps its random draws apart from other layers'.
    hyper : dict of str to ndarray
        The layer's own numbers, one row per member.
    activation : str
        An activation to apply to the output, which a layer is only told where it can.
    """

    training: bool = False
    seed: np.ndarray | None = None
    counters: np.ndarray | None = None
    site: int = 0
    hyper: dict = field(default_factory=dict)
    activation: str = "identity"


class Layer(Specification):
    """Abstract base of the layers.

    A layer is a small specification that holds no arrays: `build` says which it needs, `apply`
    computes with them. A layer that merges several inputs (`merges`) gets lists: of shapes in
    `build`, of arrays in `apply`.
    """

    merges = False

    def hyperparameters(self):
        """Return the numbers that may differ between members: name to float or tuple."""
        return {}

    def build(self, input_shape):
        """Say what the layer needs for samples of this shape.

        Parameters
        ----------
        input_shape : tuple of int, or list of them
            The shape of one sample.

        Returns
        -------
        Built
        """
        return Built(output_shape=tuple(input_shape))

    @abstractmethod
    def apply(self, params, state, x, context):
        """Compute the layer.

        Parameters
        ----------
        params : dict of str to array of shape (M, ...)
            The trained arrays.
        state : dict of str to array of shape (M, ...)
            The carried arrays.
        x : array of shape (M, n_samples, ...), or list of them
            The input.
        context : Context
            Whether training, and what random draws need.

        Returns
        -------
        output : array of shape (M, n_samples, ...)
        state : dict of str to array
            The carried arrays after the pass.
        """
