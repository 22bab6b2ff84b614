"""Layers made of layers: they are taken apart when a network is built."""

from abc import abstractmethod
from numbers import Real

from skdeep._compat import Interval
from skdeep.layers._base import Layer
from skdeep.layers._naming import NamedLayers

#: The name of the network's (or the composite layer's) input.
INPUT = "input"


class Composite(NamedLayers, Layer):
    """Abstract base of the layers that are small graphs of layers.

    `expand` says the graph; a network takes it apart, so that every piece is a layer of the
    network with a name of its own: that of the composite layer, a dot, and the piece's.
    """

    @abstractmethod
    def expand(self, input_shape):
        """Return the layers that it is made of.

        Parameters
        ----------
        input_shape : tuple of int
            The shape of one sample.

        Returns
        -------
        list of (str, Layer) or (str, Layer, inputs)
            As a network takes them; "input" is what goes into the composite layer, and the last
            entry is what comes out of it.
        """

    def apply(self, params, state, x, context):
        """Not called: a network computes the pieces."""
        raise TypeError(f"{type(self).__name__} is taken apart by a network and not applied")


class Auxiliary(Composite):
    """A head beside the network's own output, whose loss is added in training.

    It reads the layer before it, or the one that its entry names; the layer after it in the list
    goes on from where the head branched off. Predictions do without it.

    Parameters
    ----------
    layers : list of (str, Layer)
        The head's layers; the last gives as many outputs as the network's own.
    weight : float, default=0.3
        What its loss is multiplied by before it is added.

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.

    Examples
    --------
    >>> from skdeep.layers import Auxiliary, Dense
    >>> Auxiliary([("out", Dense(10))], weight=0.3)
    Auxiliary(layers=[('out', Dense(units=10))])
    """

    _parameter_constraints = {
        "layers": ["array-like"],
        "weight": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, layers, weight=0.3):
        self.layers = layers
        self.weight = weight

    def expand(self, input_shape):
        """Return the head's layers."""
        return self.layers
