"""Chains of convolutions, pooling and dense layers: LeNet-5, AlexNet, ZFNet, VGG-16."""

from skdeep.layers._activation import Activation
from skdeep.layers._convolution import Conv2D
from skdeep.layers._dense import Dense, Flatten
from skdeep.layers._pooling import AveragePool2D, LocalResponseNormalization, MaxPool2D
from skdeep.layers._rbf import RBF
from skdeep.layers._regularization import Dropout
from skdeep.layers.architectures._architecture import Architecture, image_shape


def _local_response():
    """Return the normalisation of Krizhevsky et al. (2012), with their numbers."""
    return LocalResponseNormalization(depth_radius=5, bias=2.0, alpha=1e-4, beta=0.75)


def _dense_head(n_classes, units, dropout):
    """Return two dense layers, each with dropout before it or not, and the scores."""
    entries = [("flatten", Flatten())]
    for i in (1, 2):
        if dropout:
            entries.append((f"dropout{i}", Dropout(dropout)))
        entries.append((f"dense{i}", Dense(units, "relu", kernel_initializer="he_normal")))
    return [*entries, ("output", Dense(n_classes))]


def lenet5(input_shape=(28, 28, 1), n_classes=10, *, head="softmax", trainable_pooling=True):
    """LeNet-5, for small images of digits.

    ======  ===============  ======  ========  ======  ======  ==========
    layer   type             maps    size      kernel  stride  activation
    ======  ===============  ======  ========  ======  ======  ==========
    input   image            1       32 x 32
    conv1   convolution      6       28 x 28   5 x 5   1       tanh
    pool1   average pooling  6       14 x 14   2 x 2   2       tanh
    conv2   convolution      16      10 x 10   5 x 5   1       tanh
    pool2   average pooling  16      5 x 5     2 x 2   2       tanh
    conv3   convolution      120     1 x 1     5 x 5   1       tanh
    dense   dense            84                                tanh
    output  dense or RBF     10
    ======  ===============  ======  ========  ======  ======  ==========

    Smaller images are padded with zeros to 32 x 32 by the first convolution.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(28, 28, 1)
        Height, width and channels of an image.
    n_classes : int, default=10
        The number of outputs.
    head : {"softmax", "rbf"}, default="softmax"
        The output: a dense layer, or the paper's distances to a centre per class (`RBF`).
    trainable_pooling : bool, default=True
        Whether each pooled map has a trained coefficient and a bias, as in the paper; without,
        there are 61,706 parameters at the default sizes, and 44 more with them.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If a parameter is wrong.

    Notes
    -----
    The paper's second convolution reads some of the six maps for each filter; here it reads all.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86, 1998, section II.B.

    Examples
    --------
    >>> from skdeep.layers.architectures import lenet5
    >>> lenet5().n_parameters, lenet5(trainable_pooling=False).n_parameters
    (61750, 61706)
    """
    shape = image_shape(input_shape, n_classes, "lenet5")
    if head not in ("softmax", "rbf"):
        raise ValueError(f"lenet5: head={head!r} must be 'softmax' or 'rbf'")
    missing = [max(32 - n, 0) for n in shape[:2]]
    padding = tuple((n // 2, n - n // 2) for n in missing)
    entries = []
    for i, filters in ((1, 6), (2, 16)):
        window = dict(padding=padding) if i == 1 else {}
        entries += [
            (f"conv{i}", Conv2D(filters, 5, activation="tanh", **window)),
            (f"pool{i}", AveragePool2D(2, trainable=trainable_pooling)),
            (f"tanh{i}", Activation("tanh")),
        ]
    entries += [
        ("conv3", Conv2D(120, 5, activation="tanh")),
        ("flatten", Flatten()),
        ("dense", Dense(84, "tanh")),
        ("output", RBF(n_classes) if head == "rbf" else Dense(n_classes)),
    ]
    return Architecture(entries, input_shape=shape, n_classes=n_classes)


def alexnet(input_shape=(224, 224, 3), n_classes=1000, *, dropout=0.5):
    """AlexNet, the winner of ImageNet 2012.

    ======  ===============  ====  =======  =======  ======  =======  ==========
    layer   type             maps  size     kernel   stride  padding  activation
    ======  ===============  ====  =======  =======  ======  =======  ==========
    conv1   convolution      96    55 x 55  11 x 11  4       1, 2     relu
    norm1   local response
    pool1   max-pooling      96    27 x 27  3 x 3    2       valid
    conv2   convolution (2)  256   27 x 27  5 x 5    1       same     relu
    norm2   local response
    pool2   max-pooling      256   13 x 13  3 x 3    2       valid
    conv3   convolution      384   13 x 13  3 x 3    1       same     relu
    conv4   convolution (2)  384   13 x 13  3 x 3    1       same     relu
    conv5   convolution (2)  256   13 x 13  3 x 3    1       same     relu
    pool3   max-pooling      256   6 x 6    3 x 3    2       valid
    dense1  dense            4096                                     relu
    dense2  dense            4096                                     relu
    output  dense            1000
    ======  ===============  ====  =======  =======  ======  =======  ==========

    The convolutions marked (2) have two groups, which stood on two GPUs. Dropout comes before
    both dense layers. The sizes are those for 224 x 224 and for 227 x 227 images.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image; at least 64 x 64.
    n_classes : int, default=1000
        The number of outputs.
    dropout : float, default=0.5
        The rate of dropout; 0 for none.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If the image is too small, or a parameter is wrong.

    References
    ----------
    A. Krizhevsky, I. Sutskever and G. E. Hinton, "ImageNet Classification with Deep Convolutional
    Neural Networks", NeurIPS 2012.

    Examples
    --------
    >>> from skdeep.layers.architectures import alexnet
    >>> alexnet().n_parameters
    60965224
    """
    shape = image_shape(input_shape, n_classes, "alexnet", least=64)
    same = dict(padding="same", activation="relu")
    entries = [
        ("conv1", Conv2D(96, 11, stride=4, padding=((1, 2), (1, 2)), activation="relu")),
        ("norm1", _local_response()),
        ("pool1", MaxPool2D(3, stride=2)),
        ("conv2", Conv2D(256, 5, groups=2, **same)),
        ("norm2", _local_response()),
        ("pool2", MaxPool2D(3, stride=2)),
        ("conv3", Conv2D(384, 3, **same)),
        ("conv4", Conv2D(384, 3, groups=2, **same)),
        ("conv5", Conv2D(256, 3, groups=2, **same)),
        ("pool3", MaxPool2D(3, stride=2)),
        *_dense_head(n_classes, 4096, dropout),
    ]
    return Architecture(entries, input_shape=shape, n_classes=n_classes)


def zfnet(input_shape=(224, 224, 3), n_classes=1000, *, dropout=0.5):
    """ZFNet, AlexNet with a smaller first window and stride; the winner of ImageNet 2013.

    ======  ==============  ====  =========  ======  ======  =======  ==========
    layer   type            maps  size       kernel  stride  padding  activation
    ======  ==============  ====  =========  ======  ======  =======  ==========
    conv1   convolution     96    110 x 110  7 x 7   2       1        relu
    pool1   max-pooling     96    55 x 55    3 x 3   2       same
    norm1   local response
    conv2   convolution     256   26 x 26    5 x 5   2       valid    relu
    pool2   max-pooling     256   13 x 13    3 x 3   2       same
    norm2   local response
    conv3   convolution     384   13 x 13    3 x 3   1       same     relu
    conv4   convolution     384   13 x 13    3 x 3   1       same     relu
    conv5   convolution     256   13 x 13    3 x 3   1       same     relu
    pool3   max-pooling     256   6 x 6      3 x 3   2       valid
    dense1  dense           4096                                      relu
    dense2  dense           4096                                      relu
    output  dense           1000
    ======  ==============  ====  =========  ======  ======  =======  ==========

    Dropout comes before both dense layers.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image; at least 53 x 53.
    n_classes : int, default=1000
        The number of outputs.
    dropout : float, default=0.5
        The rate of dropout; 0 for none.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If the image is too small, or a parameter is wrong.

    References
    ----------
    M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
    figure 3.

    Examples
    --------
    >>> from skdeep.layers.architectures import zfnet
    >>> zfnet().n_parameters
    62357608
    """
    shape = image_shape(input_shape, n_classes, "zfnet", least=53)
    same = dict(padding="same", activation="relu")
    entries = [
        ("conv1", Conv2D(96, 7, stride=2, padding=1, activation="relu")),
        ("pool1", MaxPool2D(3, stride=2, padding="same")),
        ("norm1", _local_response()),
        ("conv2", Conv2D(256, 5, stride=2, activation="relu")),
        ("pool2", MaxPool2D(3, stride=2, padding="same")),
        ("norm2", _local_response()),
        ("conv3", Conv2D(384, 3, **same)),
        ("conv4", Conv2D(384, 3, **same)),
        ("conv5", Conv2D(256, 3, **same)),
        ("pool3", MaxPool2D(3, stride=2)),
        *_dense_head(n_classes, 4096, dropout),
    ]
    return Architecture(entries, input_shape=shape, n_classes=n_classes)


def vgg16(input_shape=(224, 224, 3), n_classes=1000, *, dropout=0.5, units=4096):
    """VGG-16: 3x3 convolutions throughout (the paper's configuration D).

    =====  ============================  ====  =========
    stage  layers                        maps  size
    =====  ============================  ====  =========
    1      2 convolutions, max-pooling   64    224 x 224
    2      2 convolutions, max-pooling   128   112 x 112
    3      3 convolutions, max-pooling   256   56 x 56
    4      3 convolutions, max-pooling   512   28 x 28
    5      3 convolutions, max-pooling   512   14 x 14
    head   dense, dense                  4096
    head   dense                         1000
    =====  ============================  ====  =========

    The convolutions are 3x3 with stride 1, padding "same" and relu, the pooling 2x2 with stride
    2. Dropout comes before both hidden dense layers.

    Parameters
    ----------
    input_shape : tuple of (int, int, int), default=(224, 224, 3)
        Height, width and channels of an image; at least 32 x 32.
    n_classes : int, default=1000
        The number of outputs.
    dropout : float, default=0.5
        The rate of dropout; 0 for none.
    units : int, default=4096
        The units of the hidden dense layers; small images do with 512.

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If the image is too small, or a parameter is wrong.

    References
    ----------
    K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015.

    Examples
    --------
    >>> from skdeep.layers.architectures import vgg16
    >>> vgg16().n_parameters
    138357544
    """
    shape = image_shape(input_shape, n_classes, "vgg16", least=32)
    entries = []
    for stage, (count, filters) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, count + 1):
            layer = Conv2D(filters, 3, padding="same", activation="relu")
            entries.append((f"conv{stage}_{i}", layer))
        entries.append((f"pool{stage}", MaxPool2D(2)))
    entries += _dense_head(n_classes, units, dropout)
    return Architecture(entries, input_shape=shape, n_classes=n_classes)
