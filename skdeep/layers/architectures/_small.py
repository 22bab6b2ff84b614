"""Small convolutional networks."""

from skdeep.layers._activation import Activation
from skdeep.layers._blocks import Residual, convolution, unit
from skdeep.layers._composite import INPUT
from skdeep.layers._convolution import Conv2D
from skdeep.layers._dense import Dense, Flatten
from skdeep.layers._normalization import BatchNormalization
from skdeep.layers._pooling import GlobalAveragePool, MaxPool2D
from skdeep.layers._regularization import Dropout
from skdeep.layers._separable import SeparableConv2D
from skdeep.layers.architectures._architecture import Architecture, image_shape


def small_cnn(input_shape=(28, 28, 1), n_classes=10, *, dropout=None):
    """A small convolutional network for small images: what `CNNClassifier` begins with.

    =======  ===================  =====  =======  ==========
    layer    type                 units  size     activation
    =======  ===================  =====  =======  ==========
    conv1    convolution 3x3      32     28 x 28  relu
    conv2    convolution 3x3      64     28 x 28  relu
    pool     max-pooling 2x2      64     14 x 14
    flatten                       12544
    dense    dense                128             relu
    output   dense                10
    =======  ===================  =====  =======  ==========

    It takes images of any size: what is one cell high or wide is not pooled along that side.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(28, 28, 1)
        Height, width and channels of an image.
    n_classes : int, default=10
        The number of outputs.
    dropout : float or tuple of two floats, default=None
        The rates of dropout after the pooling and after the dense layer (one number for both),
        such as (0.25, 0.5); none if None.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    Examples
    --------
    >>> from skdeep.layers.architectures import small_cnn
    >>> small_cnn((8, 8, 1), 10, dropout=(0.25, 0.5))[-2:]
    [('dropout2', Dropout()), ('output', Dense(units=10))]
    """
    shape = image_shape(input_shape, n_classes, "small_cnn")
    rates = dropout if isinstance(dropout, tuple | list) else (dropout, dropout)
    if len(rates) != 2:
        raise ValueError(f"small_cnn: dropout={dropout!r} must be a number, two numbers or None")
    drop = [[(f"dropout{i}", Dropout(rate))] if rate else [] for i, rate in enumerate(rates, 1)]
    pool = tuple(min(n, 2) for n in shape[:2])
    same = dict(padding="same", activation="relu")
    entries = [
        ("conv1", Conv2D(32, 3, **same)),
        ("conv2", Conv2D(64, 3, **same)),
        ("pool", MaxPool2D(pool)),
        *drop[0],
        ("flatten", Flatten()),
        ("dense", Dense(128, "relu", kernel_initializer="he_normal")),
        *drop[1],
        ("output", Dense(n_classes)),
    ]
    return Architecture(entries, input_shape=shape, n_classes=n_classes)


def _separable_block(filters):
    """Return a residual unit of two separable convolutions and max-pooling that halves."""
    layer = dict(padding="same", use_bias=False, kernel_initializer="he_normal")
    main = []
    for i in (1, 2):
        main += [
            (f"relu{i}", Activation("relu")),
            (f"conv{i}", SeparableConv2D(filters, 3, **layer)),
            (f"norm{i}", BatchNormalization()),
        ]
    main.append(("pool", MaxPool2D(3, stride=2, padding="same")))
    shortcut = [
        ("shortcut", convolution(filters, 1, stride=2), INPUT),
        ("shortcut_norm", BatchNormalization()),
    ]
    return Residual(main, shortcut=shortcut, activation="identity")


def separable(
    input_shape=(32, 32, 3), n_classes=10, *, widths=(64, 128, 256), stem=32, dropout=0.0
):
    """A small network of depthwise separable convolutions, in the manner of Xception.

    ========  ==================================================  ====  =======
    layer     type                                                maps  size
    ========  ==================================================  ====  =======
    stem      convolution 3x3, batch normalisation, relu          32    32 x 32
    block1    residual: two separable convolutions, max-pooling   64    16 x 16
    block2    residual: two separable convolutions, max-pooling   128   8 x 8
    block3    residual: two separable convolutions, max-pooling   256   4 x 4
    pool_all  relu, global average pooling                        256   1 x 1
    output    dense                                               10
    ========  ==================================================  ====  =======

    Within a block relu comes before each separable convolution and batch normalisation after it;
    the shortcut is a 1x1 convolution with stride 2.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(32, 32, 3)
        Height, width and channels of an image.
    n_classes : int, default=10
        The number of outputs.
    widths : tuple of int, default=(64, 128, 256)
        The filters of each block.
    stem : int, default=32
        The filters of the first convolution.
    dropout : float, default=0.0
        The rate of dropout before the last layer; 0 for none.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    References
    ----------
    F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017,
    figure 5.

    Examples
    --------
    >>> from skdeep.layers.architectures import separable
    >>> separable().n_parameters
    184266
    """
    shape = image_shape(input_shape, n_classes, "separable")
    entries = unit("stem", stem, 3, padding="same")
    entries += [(f"block{i}", _separable_block(n)) for i, n in enumerate(widths, 1)]
    entries += [("relu", Activation("relu")), ("pool_all", GlobalAveragePool())]
    if dropout:
        entries.append(("dropout", Dropout(dropout)))
    entries.append(("output", Dense(n_classes)))
    return Architecture(entries, input_shape=shape, n_classes=n_classes)
