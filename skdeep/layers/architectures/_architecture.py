"""A list of layers for samples of one shape."""

from skdeep.layers._topology import Topology


class Architecture(list):
    """The layers of a network: a list of (name, layer) and (name, layer, inputs).

    It is edited as any list is. An estimator uses the last layer as it is where it is named
    "output", and adds an output layer otherwise.

    Parameters
    ----------
    layers : iterable of (str, Layer) or (str, Layer, inputs), default=()
        The layers.
    input_shape : tuple of int
        The shape of one sample.
    n_classes : int
        The number of outputs.

    Attributes
    ----------
    input_shape : tuple of int
        The shape of one sample.
    n_classes : int
        The number of outputs.

    Examples
    --------
    >>> from skdeep.layers import Dropout
    >>> from skdeep.layers.architectures import small_cnn
    >>> net = small_cnn((28, 28, 1), 10)
    >>> net.insert(-1, ("dropout", Dropout(0.5)))
    >>> [entry[0] for entry in net]
    ['conv1', 'conv2', 'pool', 'flatten', 'dense', 'dropout', 'output']
    >>> net.n_parameters
    1625866
    """

    def __init__(self, layers=(), *, input_shape, n_classes):
        super().__init__(layers)
        self.input_shape = input_shape
        self.n_classes = n_classes

    @property
    def topology(self):
        """The graph with all shapes; no array is made."""
        return Topology(self, self.input_shape)

    @property
    def n_parameters(self):
        """The number of trained numbers of a net; no array is made."""
        return self.topology.n_parameters

    @property
    def multiply_adds(self):
        """The multiplications of a sample's forward pass in convolutions and products."""
        return sum(built.multiply_adds for built in self.topology.built)

    def copy(self):
        """Return another list of the same layers.

        Returns
        -------
        Architecture
        """
        return type(self)(self, input_shape=self.input_shape, n_classes=self.n_classes)


def image_shape(input_shape, n_classes, name, least=1):
    """Return the shape of an image as a tuple of int; refuse others, and too small ones."""
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(float(n).is_integer() and n >= 1 for n in shape):
        raise ValueError(
            f"{name}: input_shape={shape} must be (height, width, channels); give grey images 1 "
            "channel"
        )
    if min(shape[:2]) < least:
        raise ValueError(
            f"{name}: input_shape={shape} is too small: height and width must be at least "
            f"{least}; enlarge the images, or take a smaller architecture"
        )
    if not float(n_classes).is_integer() or n_classes < 1:
        raise ValueError(f"{name}: n_classes={n_classes} must be an integer of at least 1")
    return tuple(map(int, shape))
