"""Blocks of deep convolutional networks: residual units and inception modules."""

from numbers import Integral

from skdeep._compat import Interval, StrOptions
from skdeep.layers._activation import Activation
from skdeep.layers._composite import INPUT, Composite
from skdeep.layers._convolution import Conv1D, Conv2D, Conv3D
from skdeep.layers._dense import Dense
from skdeep.layers._merge import Add, Concatenate
from skdeep.layers._normalization import BatchNormalization
from skdeep.layers._pooling import MaxPool2D
from skdeep.layers._topology import Topology

_COUNT = [Interval(Integral, 1, None, closed="left")]
#: Spatial dimensions -> convolution.
_CONVOLUTIONS = {1: Conv1D, 2: Conv2D, 3: Conv3D}
#: A bottleneck gives so many times the channels that it works on.
EXPANSION = 4


def convolution(filters, kernel_size, *, dimensions=2, **window):
    """Return a convolution that a batch normalisation follows: without biases, drawn for relu."""
    kind = _CONVOLUTIONS[dimensions]
    return kind(filters, kernel_size, use_bias=False, kernel_initializer="he_normal", **window)


def unit(
    name, filters, kernel_size, *, inputs=None, batch_norm=True, activation="relu",
    epsilon=1e-5, dimensions=2, **window,
):  # fmt: skip
    """Return the entries of a convolution, its batch normalisation and its activation.

    The last entry, which others read, has the given name, whatever the parts.
    """
    read = () if inputs is None else (inputs,)
    if not batch_norm:
        kind = _CONVOLUTIONS[dimensions]
        return [(name, kind(filters, kernel_size, activation=activation, **window), *read)]
    layer = convolution(filters, kernel_size, dimensions=dimensions, **window)
    norm = BatchNormalization(epsilon=epsilon)
    if activation == "identity":
        return [(f"{name}_conv", layer, *read), (name, norm)]
    return [
        (f"{name}_conv", layer, *read),
        (f"{name}_norm", norm),
        (name, Activation(activation)),
    ]


class Residual(Composite):
    """A residual unit: what its layers compute is added to its input, then activated.

    The layers are any list, or the standard ones of residual networks: two 3x3 convolutions
    (basic), or a 1x1, a 3x3 and a 1x1 convolution (bottleneck), each with batch normalisation.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, inputs), default=None
        The main path; "input" is the unit's input. None stands for the standard layers.
    filters : int, default=None
        The filters of the standard layers: the basic unit gives so many channels, the bottleneck
        four times as many.
    stride : int, default=1
        The stride of the standard layers: of the first 3x3 convolution.
    bottleneck : bool, default=False
        Whether the standard layers are the bottleneck's.
    shortcut : {"auto", "identity", "projection"} or list of layers, default="auto"
        What is added: the unit's input, a projection of it (a 1x1 convolution with the stride
        that is needed, and batch normalisation; `Dense` for flat samples), or what a list of
        layers makes of it. "auto" projects where the shapes differ.
    activation : str or callable, default="relu"
        The activation after the sum, and within the standard layers.
    preactivation : bool, default=False
        Whether batch normalisation and activation come before the standard convolutions instead
        of after them; nothing comes after the sum then.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.

    K. He, X. Zhang, S. Ren and J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016
    (preactivation).

    Examples
    --------
    >>> from skdeep.layers import Conv2D, Residual
    >>> [entry[0] for entry in Residual(filters=64, stride=2).expand((56, 56, 32))]
    ['conv1_conv', 'conv1_norm', 'conv1', 'conv2_conv', 'conv2', 'shortcut_conv', 'shortcut', \
'add', 'activation']
    >>> block = Residual([("conv", Conv2D(8, padding="same"))])
    >>> block.set_params(conv__kernel_size=5)
    Residual(layers=[('conv', Conv2D(filters=8, kernel_size=5, padding='same'))])
    """

    _layer_lists = ("layers", "shortcut")
    _parameter_constraints = {
        "layers": [list, tuple, None],
        "filters": [*_COUNT, None],
        "stride": _COUNT,
        "bottleneck": ["boolean"],
        "shortcut": [StrOptions({"auto", "identity", "projection"}), list, tuple],
        "activation": [str, callable],
        "preactivation": ["boolean"],
    }

    def __init__(
        self,
        layers=None,
        *,
        filters=None,
        stride=1,
        bottleneck=False,
        shortcut="auto",
        activation="relu",
        preactivation=False,
    ):
        self.layers = layers
        self.filters = filters
        self.stride = stride
        self.bottleneck = bottleneck
        self.shortcut = shortcut
        self.activation = activation
        self.preactivation = preactivation

    def validate(self):
        """Check the parameters, and that the main path is said once."""
        super().validate()
        if (self.layers is None) == (self.filters is None):
            raise ValueError(
                f"Residual: layers={self.layers!r} and filters={self.filters}; give either a list "
                "of layers, or the filters of the standard ones"
            )
        standard = {"stride": 1, "bottleneck": False, "preactivation": False}
        for name, default in standard.items():
            if self.layers is not None and getattr(self, name) != default:
                raise ValueError(
                    f"Residual: {name}={getattr(self, name)} is for the standard layers; with "
                    "layers given, leave it out and put it into them"
                )

    def expand(self, input_shape):
        """Return the main path, the shortcut, the sum and the activation."""
        main = list(self.layers) if self.layers is not None else self._standard(input_shape)
        shape = tuple(input_shape)
        short, added = self._short(shape, Topology(main, shape).shapes[-1])
        entries = [*main, *short, ("add", Add(), [main[-1][0], added])]
        if self.activation != "identity" and not self.preactivation:
            entries.append(("activation", Activation(self.activation)))
        return entries

    def _standard(self, input_shape):
        """Return the standard main path."""
        dimensions = len(input_shape) - 1
        if dimensions not in _CONVOLUTIONS:
            raise ValueError(
                f"Residual: filters={self.filters} makes convolutions, but the samples have shape "
                f"{tuple(input_shape)}; give layers for others than images (height, width, "
                "channels), sequences and volumes"
            )
        f = self.filters  # (filters, kernel, stride) of each convolution
        plan = [(f, 3, self.stride), (f, 3, 1)]
        if self.bottleneck:
            plan = [(f, 1, 1), (f, 3, self.stride), (EXPANSION * f, 1, 1)]
        entries = []
        for i, (filters, kernel, stride) in enumerate(plan, 1):
            name = f"conv{i}"
            window = dict(stride=stride, padding=kernel // 2, dimensions=dimensions)
            if self.preactivation:
                entries += [
                    (f"{name}_norm", BatchNormalization()),
                    (f"{name}_activation", Activation(self.activation)),
                    (name, convolution(filters, kernel, **window)),
                ]
            else:
                after = "identity" if i == len(plan) else self.activation
                entries += unit(name, filters, kernel, activation=after, **window)
        return entries

    def _short(self, shape, out):
        """Return the shortcut's entries and the name of what is added."""
        if not isinstance(self.shortcut, str):
            return self._listed(self.shortcut)
        kind = self.shortcut
        if kind == "auto":
            kind = "identity" if shape == out else "projection"
        if kind == "identity":
            if shape != out:
                raise ValueError(
                    f"Residual: shortcut='identity' adds the input of shape {shape} to the main "
                    f"path's output of shape {out}; pass shortcut='projection'"
                )
            return [], INPUT
        if self.preactivation:  # as the main path, it reads what is activated already
            layer = self._projection(shape, out)
            return [("shortcut", layer, "conv1_activation")], "shortcut"
        return [
            ("shortcut_conv", self._projection(shape, out), INPUT),
            ("shortcut", BatchNormalization()),
        ], "shortcut"

    @staticmethod
    def _listed(layers):
        """Return a list of layers such that the first reads the unit's input."""
        entries = [tuple(entry) for entry in layers]
        if not entries:
            raise ValueError("Residual: shortcut=[] is empty; pass shortcut='identity'")
        if len(entries[0]) == 2:
            entries[0] = (*entries[0], INPUT)
        return entries, entries[-1][0]

    @staticmethod
    def _projection(shape, out):
        """Return the layer that brings one shape to another."""
        dimensions = len(shape) - 1
        stride = tuple(-(-n // m) for n, m in zip(shape[:-1], out[:-1], strict=False))
        reached = tuple(-(-n // s) for n, s in zip(shape[:-1], stride, strict=False))
        if len(shape) != len(out) or reached != out[:-1] or dimensions > 3:
            raise ValueError(
                f"Residual: no projection by strides brings the input of shape {shape} to the "
                f"main path's output of shape {out}; give the shortcut as a list of layers"
            )
        if not dimensions:
            return Dense(out[-1])
        return convolution(out[-1], 1, stride=stride, dimensions=dimensions)


class Inception(Composite):
    """GoogLeNet's inception module: filters of several sizes side by side.

    Four branches read the input: 1x1 convolutions; 1x1 then 3x3; 1x1 then 5x5; max-pooling then
    1x1. Their outputs, of the same height and width, are concatenated.

    Parameters
    ----------
    f1 : int
        The filters of the 1x1 branch.
    f3_reduce, f3 : int
        The 1x1 and the 3x3 filters of the second branch.
    f5_reduce, f5 : int
        The 1x1 and the 5x5 filters of the third.
    pool_proj : int
        The 1x1 filters after the pooling.
    batch_norm : bool, default=False
        Whether each convolution has batch normalisation in place of biases.

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, figure 2b.

    Examples
    --------
    >>> from skdeep.layers import Inception
    >>> Inception(64, 96, 128, 16, 32, 32).expand((28, 28, 192))[-1]
    ('concatenate', Concatenate(), ['branch1', 'branch3', 'branch5', 'pool_proj'])
    """

    _parameter_constraints = {
        **dict.fromkeys(("f1", "f3_reduce", "f3", "f5_reduce", "f5", "pool_proj"), _COUNT),
        "batch_norm": ["boolean"],
    }

    def __init__(self, f1, f3_reduce, f3, f5_reduce, f5, pool_proj, *, batch_norm=False):
        self.f1 = f1
        self.f3_reduce = f3_reduce
        self.f3 = f3
        self.f5_reduce = f5_reduce
        self.f5 = f5
        self.pool_proj = pool_proj
        self.batch_norm = batch_norm

    def expand(self, input_shape):
        """Return the branches and their concatenation."""
        same = dict(padding="same", batch_norm=self.batch_norm)
        ends = ["branch1", "branch3", "branch5", "pool_proj"]
        return [
            *unit("branch1", self.f1, 1, inputs=INPUT, **same),
            *unit("branch3_reduce", self.f3_reduce, 1, inputs=INPUT, **same),
            *unit("branch3", self.f3, 3, **same),
            *unit("branch5_reduce", self.f5_reduce, 1, inputs=INPUT, **same),
            *unit("branch5", self.f5, 5, **same),
            ("pool", MaxPool2D(3, stride=1, padding="same"), INPUT),
            *unit("pool_proj", self.pool_proj, 1, **same),
            ("concatenate", Concatenate(), ends),
        ]
