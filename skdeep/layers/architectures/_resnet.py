"""Residual networks."""

from numbers import Integral

from skdeep.layers._activation import Activation
from skdeep.layers._blocks import Residual, unit
from skdeep.layers._dense import Dense
from skdeep.layers._normalization import BatchNormalization
from skdeep.layers._pooling import GlobalAveragePool, MaxPool2D
from skdeep.layers.architectures._architecture import Architecture, image_shape

#: With stem="auto", images up to this height and width keep their size at first.
_SMALL = 64


def _stem(stem, filters, shape):
    """Return the first layers: for images of ImageNet's kind, or of CIFAR-10's."""
    if stem not in ("auto", "small", "imagenet"):
        raise ValueError(f"resnet: stem={stem!r} must be 'auto', 'small' or 'imagenet'")
    if stem == "auto":
        stem = "small" if max(shape[:2]) <= _SMALL else "imagenet"
    if stem == "small":
        return unit("stem", filters, 3, padding=1)
    return [
        *unit("stem", filters, 7, stride=2, padding=3),
        ("pool", MaxPool2D(3, stride=2, padding=1)),
    ]


def _counts(name, values):
    """Return a sequence of positive integers as a tuple."""
    values = tuple(values)
    if not values or not all(isinstance(v, Integral) and v >= 1 for v in values):
        raise ValueError(f"resnet: {name}={values} must hold integers of at least 1")
    return values


def resnet(
    input_shape=(224, 224, 3),
    n_classes=1000,
    *,
    blocks=(2, 2, 2, 2),
    widths=(64, 128, 256, 512),
    bottleneck=False,
    stem="auto",
    preactivation=False,
):
    """A residual network of any depth and width.

    =========  ==========  ============  =============
    name       units       of stages     parameters
    =========  ==========  ============  =============
    resnet18   basic       2, 2, 2, 2    11,689,512
    resnet34   basic       3, 4, 6, 3    21,797,672
    resnet50   bottleneck  3, 4, 6, 3    25,557,032
    resnet152  bottleneck  3, 8, 36, 3   60,192,808
    =========  ==========  ============  =============

    (Parameters for 224 x 224 images of 1000 classes.)

    A stem is followed by stages of `Residual` units, each but the first beginning with stride 2,
    then global average pooling and a dense layer. In bottleneck units the stride is in the 3x3
    convolution (known as v1.5), so that no input is skipped.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image.
    n_classes : int, default=1000
        The number of outputs.
    blocks : tuple of int, default=(2, 2, 2, 2)
        The number of units of each stage.
    widths : tuple of int, default=(64, 128, 256, 512)
        The filters of each stage; bottleneck units give four times as many channels.
    bottleneck : bool, default=False
        Whether the units are bottlenecks.
    stem : {"auto", "imagenet", "small"}, default="auto"
        The first layers: a 7x7 convolution with stride 2 and 3x3 max-pooling with stride 2
        ("imagenet"), or a 3x3 convolution with stride 1 ("small"), which is "auto" for images up
        to 64 x 64.
    preactivation : bool, default=False
        Whether the units are preactivated (see `Residual`).

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.

    Examples
    --------
    >>> from skdeep.layers.architectures import resnet
    >>> net = resnet((32, 32, 3), 10, blocks=(3, 3, 3), widths=(16, 32, 64))
    >>> net.n_parameters, net.topology.shapes[-3]
    (272474, (8, 8, 64))
    """
    shape = image_shape(input_shape, n_classes, "resnet")
    blocks, widths = _counts("blocks", blocks), _counts("widths", widths)
    if len(blocks) != len(widths):
        raise ValueError(
            f"resnet: blocks={blocks} and widths={widths} must be of one length, a stage an entry"
        )
    entries = _stem(stem, widths[0], shape)
    for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True), 1):
        for i in range(1, count + 1):
            stride = 2 if i == 1 and stage > 1 else 1
            kw = dict(stride=stride, bottleneck=bottleneck, preactivation=preactivation)
            entries.append((f"stage{stage}_{i}", Residual(filters=filters, **kw)))
    if preactivation:
        entries += [("norm", BatchNormalization()), ("activation", Activation("relu"))]
    entries += [("pool_all", GlobalAveragePool()), ("output", Dense(n_classes))]
    return Architecture(entries, input_shape=shape, n_classes=n_classes)


def resnet18(
    input_shape=(224, 224, 3), n_classes=1000, *, stem="auto", widths=(64, 128, 256, 512)
):
    """ResNet-18: 8 basic residual units.

    See `resnet`, which it calls with ``blocks=(2, 2, 2, 2)``.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image.
    n_classes : int, default=1000
        The number of outputs.
    stem : {"auto", "imagenet", "small"}, default="auto"
        The first layers, as in `resnet`.
    widths : tuple of int, default=(64, 128, 256, 512)
        The filters of each stage.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    table 1.

    Examples
    --------
    >>> from skdeep.layers.architectures import resnet18
    >>> resnet18().n_parameters
    11689512
    """
    return resnet(input_shape, n_classes, blocks=(2, 2, 2, 2), widths=widths, stem=stem)


def resnet34(
    input_shape=(224, 224, 3), n_classes=1000, *, stem="auto", widths=(64, 128, 256, 512)
):
    """ResNet-34: 16 basic residual units.

    See `resnet`, which it calls with ``blocks=(3, 4, 6, 3)``.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image.
    n_classes : int, default=1000
        The number of outputs.
    stem : {"auto", "imagenet", "small"}, default="auto"
        The first layers, as in `resnet`.
    widths : tuple of int, default=(64, 128, 256, 512)
        The filters of each stage.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    table 1.

    Examples
    --------
    >>> from skdeep.layers.architectures import resnet34
    >>> resnet34().n_parameters
    21797672
    """
    return resnet(input_shape, n_classes, blocks=(3, 4, 6, 3), widths=widths, stem=stem)


def resnet50(
    input_shape=(224, 224, 3), n_classes=1000, *, stem="auto", widths=(64, 128, 256, 512)
):
    """ResNet-50: 16 bottleneck residual units.

    See `resnet`, which it calls with ``blocks=(3, 4, 6, 3)`` and ``bottleneck=True``.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image.
    n_classes : int, default=1000
        The number of outputs.
    stem : {"auto", "imagenet", "small"}, default="auto"
        The first layers, as in `resnet`.
    widths : tuple of int, default=(64, 128, 256, 512)
        The filters of each stage; the units give four times as many channels.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    table 1.

    Examples
    --------
    >>> from skdeep.layers.architectures import resnet50
    >>> resnet50().n_parameters
    25557032
    """
    return resnet(
        input_shape, n_classes, blocks=(3, 4, 6, 3), widths=widths, bottleneck=True, stem=stem
    )


def resnet152(
    input_shape=(224, 224, 3), n_classes=1000, *, stem="auto", widths=(64, 128, 256, 512)
):
    """ResNet-152: 50 bottleneck residual units.

    See `resnet`, which it calls with ``blocks=(3, 8, 36, 3)`` and ``bottleneck=True``.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image.
    n_classes : int, default=1000
        The number of outputs.
    stem : {"auto", "imagenet", "small"}, default="auto"
        The first layers, as in `resnet`.
    widths : tuple of int, default=(64, 128, 256, 512)
        The filters of each stage; the units give four times as many channels.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    table 1.

    Examples
    --------
    >>> from skdeep.layers.architectures import resnet152
    >>> resnet152().n_parameters
    60192808
    """
    return resnet(
        input_shape, n_classes, blocks=(3, 8, 36, 3), widths=widths, bottleneck=True, stem=stem
    )
