"""Networks of inception modules: GoogLeNet and Inception v3."""

from numbers import Integral

from skdeep._compat import Interval, StrOptions
from skdeep.layers._blocks import Inception, unit
from skdeep.layers._composite import INPUT, Auxiliary, Composite
from skdeep.layers._dense import Dense, Flatten
from skdeep.layers._merge import Concatenate
from skdeep.layers._pooling import (
    AveragePool2D,
    GlobalAveragePool,
    LocalResponseNormalization,
    MaxPool2D,
)
from skdeep.layers._regularization import Dropout
from skdeep.layers.architectures._architecture import Architecture, image_shape

# ---- GoogLeNet ---------------------------------------------------------------------------------

#: The modules' filters: 1x1; 1x1 and 3x3; 1x1 and 5x5; after the pooling (the paper's table 1).
_GOOGLENET = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


def _halving(padding="same"):
    return MaxPool2D(3, stride=2, padding=padding)


def _googlenet_head(n_classes, batch_norm):
    """Return GoogLeNet's auxiliary head."""
    layers = [
        ("pool", AveragePool2D(5, stride=3)),
        *unit("conv", 128, 1, batch_norm=batch_norm),
        ("flatten", Flatten()),
        ("dense", Dense(1024, "relu", kernel_initializer="he_normal")),
        ("dropout", Dropout(0.7)),
        ("output", Dense(n_classes)),
    ]
    return Auxiliary(layers, weight=0.3)


def googlenet(
    input_shape=(224, 224, 3), n_classes=1000, *, batch_norm=False, auxiliary=False, dropout=0.4
):
    """GoogLeNet (Inception v1), the winner of ImageNet 2014.

    =============  ====================================  ====  =========
    layer          type                                  maps  size
    =============  ====================================  ====  =========
    conv1          convolution 7x7, stride 2             64    112 x 112
    pool1          max-pooling 3x3, stride 2             64    56 x 56
    norm1          local response normalisation
    conv2_reduce   convolution 1x1                       64    56 x 56
    conv2          convolution 3x3                       192   56 x 56
    norm2          local response normalisation
    pool2          max-pooling 3x3, stride 2             192   28 x 28
    inception3a-b  two inception modules                 480   28 x 28
    pool3          max-pooling 3x3, stride 2             480   14 x 14
    inception4a-e  five inception modules                832   14 x 14
    pool4          max-pooling 3x3, stride 2             832   7 x 7
    inception5a-b  two inception modules                 1024  7 x 7
    pool_all       global average pooling                1024  1 x 1
    output         dropout, dense                        1000
    =============  ====================================  ====  =========

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image; at least 32 x 32, or 65 x 65 with auxiliary heads.
    n_classes : int, default=1000
        The number of outputs.
    batch_norm : bool, default=False
        Whether batch normalisation stands in place of biases and local response normalisation.
    auxiliary : bool, default=False
        Whether there are the paper's auxiliary heads, after the modules 4a and 4d, whose losses
        count 0.3 in training.
    dropout : float, default=0.4
        The rate of dropout before the last layer; 0 for none.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If the image is too small, or a parameter is wrong.

    Notes
    -----
    There are 6,998,552 parameters for 1000 classes, and 13,378,280 with the auxiliary heads: the
    paper's 5x5 convolutions, and biases. (Some implementations have 3x3 convolutions in their
    place and batch normalisation; they come to 6,624,904.)

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1.

    Examples
    --------
    >>> from skdeep.layers.architectures import googlenet
    >>> googlenet().n_parameters
    6998552
    """
    least = 65 if auxiliary else 32  # the heads' pooling takes 5x5 cells of a sixteenth
    shape = image_shape(input_shape, n_classes, "googlenet", least=least)
    same = dict(padding="same", batch_norm=batch_norm)
    response = {
        f"norm{i}": [(f"norm{i}", LocalResponseNormalization())] if not batch_norm else []
        for i in (1, 2)
    }
    entries = [
        *unit("conv1", 64, 7, stride=2, **same),
        ("pool1", _halving()),
        *response["norm1"],
        *unit("conv2_reduce", 64, 1, **same),
        *unit("conv2", 192, 3, **same),
        *response["norm2"],
        ("pool2", _halving()),
    ]
    for name, filters in _GOOGLENET.items():
        if name in ("inception4a", "inception5a"):
            entries.append((f"pool{int(name[9]) - 1}", _halving()))
        entries.append((name, Inception(*filters, batch_norm=batch_norm)))
        if auxiliary and name in ("inception4a", "inception4d"):
            entries.append((f"auxiliary{name[9:]}", _googlenet_head(n_classes, batch_norm)))
    entries.append(("pool_all", GlobalAveragePool()))
    if dropout:
        entries.append(("dropout", Dropout(dropout)))
    entries.append(("output", Dense(n_classes)))
    return Architecture(entries, input_shape=shape, n_classes=n_classes)


# ---- Inception v3 ------------------------------------------------------------------------------

_EPSILON = 1e-3


def _chain(name, *steps, inputs=INPUT, stride=1):
    """Return convolutions in a row, (filters, kernel) each; a stride is the last one's, unpadded.

    The last is called `name`, those before it name_1, name_2 and so on.
    """
    entries = []
    for i, (filters, kernel) in enumerate(steps, 1):
        last = i == len(steps)
        window = dict(padding="same", epsilon=_EPSILON)
        if last and stride > 1:
            window |= dict(stride=stride, padding="valid")
        step = name if last else f"{name}_{i}"
        entries += unit(step, filters, kernel, inputs=inputs if i == 1 else None, **window)
    return entries


def _averaged(filters):
    """Return the branch of average pooling and a 1x1 convolution."""
    pool = AveragePool2D(3, stride=1, padding="same")
    return [("average", pool, INPUT), *_chain("pool", (filters, 1), inputs="average")]


def _reduced():
    """Return the branch of max-pooling that halves the image."""
    return [("pool", _halving("valid"), INPUT)]


def _block_a(width):
    return [
        _chain("branch1", (64, 1)),
        _chain("branch5", (48, 1), (64, 5)),
        _chain("branch3", (64, 1), (96, 3), (96, 3)),
        _averaged(width),
    ]


def _block_b(width):
    return [
        _chain("branch3", (384, 3), stride=2),
        _chain("branch3x3", (64, 1), (96, 3), (96, 3), stride=2),
        _reduced(),
    ]


def _block_c(width):
    row, column = (1, 7), (7, 1)
    return [
        _chain("branch1", (192, 1)),
        _chain("branch7", (width, 1), (width, row), (192, column)),
        _chain(
            "branch7x7", (width, 1), (width, column), (width, row), (width, column), (192, row)
        ),
        _averaged(192),
    ]


def _block_d(width):
    return [
        _chain("branch3", (192, 1), (320, 3), stride=2),
        _chain("branch7", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2),
        _reduced(),
    ]


def _block_e(width):
    def forked(name, *steps):
        """Return a branch that ends in a row and a column side by side."""
        stem = f"{name}_stem"
        return [
            [*_chain(stem, *steps), *_chain(f"{name}_row", (384, (1, 3)), inputs=stem)],
            _chain(f"{name}_column", (384, (3, 1)), inputs=stem),
        ]

    return [
        _chain("branch1", (320, 1)),
        *forked("branch3", (384, 1)),
        *forked("branch3x3", (448, 1), (384, 3)),
        _averaged(192),
    ]


_BLOCKS = {"A": _block_a, "B": _block_b, "C": _block_c, "D": _block_d, "E": _block_e}


class FactorizedInception(Composite):
    """A module of Inception v3: its convolutions are factorised into smaller ones.

    Parameters
    ----------
    kind : {"A", "B", "C", "D", "E"}
        Which: with 5x5 and two 3x3 convolutions (A), 1x7 and 7x1 (C), 1x3 beside 3x1 (E); B and D
        halve the image.
    width : int, default=64
        For A the filters after the pooling, for C those within the branches of 1x7 and 7x1; the
        others have no choice.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    figures 5, 6, 7 and 10.

    Examples
    --------
    >>> from skdeep.layers.architectures import FactorizedInception
    >>> FactorizedInception("B").expand((35, 35, 288))[-1]
    ('concatenate', Concatenate(), ['branch3', 'branch3x3', 'pool'])
    """

    _parameter_constraints = {
        "kind": [StrOptions(set(_BLOCKS))],
        "width": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, kind, width=64):
        self.kind = kind
        self.width = width

    def expand(self, input_shape):
        """Return the branches and their concatenation."""
        branches = _BLOCKS[self.kind](self.width)
        ends = [branch[-1][0] for branch in branches]
        entries = [entry for branch in branches for entry in branch]
        return [*entries, ("concatenate", Concatenate(), ends)]


def _inception_head(n_classes):
    """Return Inception v3's auxiliary head."""
    layers = [
        ("pool", AveragePool2D(5, stride=3)),
        *_chain("conv1", (128, 1), inputs="pool"),
        *unit("conv2", 768, 5, epsilon=_EPSILON),
        ("pool_all", GlobalAveragePool()),
        ("output", Dense(n_classes)),
    ]
    return Auxiliary(layers, weight=0.3)


def inception_v3(input_shape=(299, 299, 3), n_classes=1000, *, auxiliary=False, dropout=0.5):
    """Inception v3.

    ===========  =====================================  ====  =========
    layer        type                                   maps  size
    ===========  =====================================  ====  =========
    conv1        convolution 3x3, stride 2, unpadded    32    149 x 149
    conv2        convolution 3x3, unpadded              32    147 x 147
    conv3        convolution 3x3                        64    147 x 147
    pool1        max-pooling 3x3, stride 2              64    73 x 73
    conv4        convolution 1x1                        80    73 x 73
    conv5        convolution 3x3, unpadded              192   71 x 71
    pool2        max-pooling 3x3, stride 2              192   35 x 35
    mixed1-3     three modules A                        288   35 x 35
    mixed4       module B                               768   17 x 17
    mixed5-8     four modules C                         768   17 x 17
    mixed9       module D                               1280  8 x 8
    mixed10-11   two modules E                          2048  8 x 8
    pool_all     global average pooling                 2048  1 x 1
    output       dropout, dense                         1000
    ===========  =====================================  ====  =========

    Each convolution has batch normalisation (epsilon 0.001) and relu, and no biases.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(299, 299, 3)
        Height, width and channels of an image; at least 75 x 75, or 299 x 299 with the auxiliary
        head.
    n_classes : int, default=1000
        The number of outputs.
    auxiliary : bool, default=False
        Whether there is the auxiliary head, after the last module C, whose loss counts 0.3 in
        training.
    dropout : float, default=0.5
        The rate of dropout before the last layer; 0 for none.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If the image is too small, or a parameter is wrong.

    Notes
    -----
    There are 23,834,568 parameters for 1000 classes, and 27,161,264 with the auxiliary head, the
    scales of batch normalisation among them. Average pooling is over the cells inside the image.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    table 1.

    Examples
    --------
    >>> from skdeep.layers.architectures import inception_v3
    >>> inception_v3().n_parameters, inception_v3(auxiliary=True).n_parameters
    (23834568, 27161264)
    """
    least = 299 if auxiliary else 75  # the head ends in 5x5 convolutions of 5x5 cells
    shape = image_shape(input_shape, n_classes, "inception_v3", least=least)
    kw = dict(epsilon=_EPSILON)
    entries = [
        *unit("conv1", 32, 3, stride=2, **kw),
        *unit("conv2", 32, 3, **kw),
        *unit("conv3", 64, 3, padding="same", **kw),
        ("pool1", _halving("valid")),
        *unit("conv4", 80, 1, **kw),
        *unit("conv5", 192, 3, **kw),
        ("pool2", _halving("valid")),
    ]
    plan = [("A", 32), ("A", 64), ("A", 64), ("B", 64), ("C", 128), ("C", 160), ("C", 160)]
    plan += [("C", 192), ("D", 64), ("E", 64), ("E", 64)]
    for i, (kind, width) in enumerate(plan, 1):
        entries.append((f"mixed{i}", FactorizedInception(kind, width)))
        if auxiliary and i == 8:
            entries.append(("auxiliary", _inception_head(n_classes)))
    entries.append(("pool_all", GlobalAveragePool()))
    if dropout:
        entries.append(("dropout", Dropout(dropout)))
    entries.append(("output", Dense(n_classes)))
    return Architecture(entries, input_shape=shape, n_classes=n_classes)
