"""Pooling layers, and the normalisation of neighbouring channels; channels last."""

from numbers import Integral, Real

import numpy as np

from skdeep._compat import Interval, StrOptions
from skdeep.autodiff.ops import lrn
from skdeep.autodiff.ops import pool as ops
from skdeep.autodiff.ops.conv import conv
from skdeep.layers._base import Built, Layer, Parameter
from skdeep.layers._initializers import get_initializer

_SIZES = [Interval(Integral, 1, None, closed="left"), tuple]


class Spatial(Layer):
    """Abstract base of the layers that map positions to positions, channel by channel."""

    #: The number of spatial dimensions.
    _dimensions: int

    def _split(self, input_shape):
        """Return the spatial shape and the channels of a sample; refuse another rank."""
        n, name = self._dimensions, type(self).__name__
        if len(input_shape) != n + 1:
            axes = ("length",) if n == 1 else ("depth", "height", "width")[-n:]
            raise ValueError(
                f"{name} takes samples of shape ({', '.join(axes)}, channels), but got samples of "
                f"shape {tuple(input_shape)}; reshape them"
                + (", with 1 channel if they are grey" if len(input_shape) == n else "")
            )
        return tuple(map(int, input_shape[:-1])), int(input_shape[-1])


class _Pool(Spatial):
    """Abstract base of the layers that pool in moving windows."""

    _parameter_constraints = {
        "size": _SIZES,
        "stride": [*_SIZES, None],
        "padding": [StrOptions({"valid", "same"}), Interval(Integral, 0, None, closed="left"),
                    tuple],
    }  # fmt: skip

    def __init__(self, size=2, *, stride=None, padding="valid"):
        self.size = size
        self.stride = stride
        self.padding = padding

    def _window(self):
        return dict(size=self.size, stride=self.stride, padding=self.padding)

    def build(self, input_shape):
        """Say how many windows there are."""
        self.validate()
        spatial, channels = self._split(input_shape)
        g = ops.pool_geometry(spatial, **self._window())
        return Built(output_shape=(*g.out, channels))


class _MaxPool(_Pool):
    def apply(self, params, state, x, context):
        """Take the maximum of each window."""
        return ops.max_pool(x, **self._window()), state


class _AveragePool(_Pool):
    _parameter_constraints = {**_Pool._parameter_constraints, "trainable": ["boolean"]}

    def __init__(self, size=2, *, stride=None, padding="valid", trainable=False):
        super().__init__(size, stride=stride, padding=padding)
        self.trainable = trainable

    def build(self, input_shape):
        """Say how many windows there are, and the shapes of coefficient and bias."""
        built = super().build(input_shape)
        if not self.trainable:
            return built
        channels = built.output_shape[-1:]
        parameters = {
            "coefficient": Parameter(channels, get_initializer("ones")),
            "bias": Parameter(channels, get_initializer("zeros")),
        }
        return Built(output_shape=built.output_shape, parameters=parameters)

    def apply(self, params, state, x, context):
        """Average each window; scale and shift each map, where that is trained."""
        y = ops.average_pool(x, **self._window())
        if not self.trainable:
            return y, state
        # A coefficient per map is a convolution by one cell per map.
        members, channels = params["coefficient"].shape
        w = np.reshape(params["coefficient"], (members, *(1,) * self._dimensions, 1, channels))
        return conv(y, w, params["bias"], groups=channels), state


class MaxPool1D(_MaxPool):
    """Take the maximum of each window of a sequence.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the input, which no maximum is taken of. "valid" has none; "same" gives
        ceil(length / stride) windows.

    Examples
    --------
    >>> from skdeep.layers import MaxPool1D
    >>> MaxPool1D(3, stride=2).build((9, 4)).output_shape
    (4, 4)
    """

    _dimensions = 1


class MaxPool2D(_MaxPool):
    """Take the maximum of each window of an image.

    Windows may overlap. In training, the gradient of a maximum goes to the cell that holds it, the
    first one in row-major order where there are several.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the input, which no maximum is taken of. "valid" has none; "same" gives
        ceil(side / stride) windows.

    References
    ----------
    D. Scherer, A. Mueller and S. Behnke, "Evaluation of Pooling Operations in Convolutional
    Architectures for Object Recognition", ICANN 2010.

    Examples
    --------
    >>> from skdeep.layers import MaxPool2D
    >>> MaxPool2D().build((28, 28, 32)).output_shape
    (14, 14, 32)
    >>> MaxPool2D(3, stride=2).build((55, 55, 96)).output_shape
    (27, 27, 96)
    """

    _dimensions = 2


class MaxPool3D(_MaxPool):
    """Take the maximum of each window of a volume.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the input, which no maximum is taken of.

    Examples
    --------
    >>> from skdeep.layers import MaxPool3D
    >>> MaxPool3D((1, 2, 2)).build((8, 16, 16, 3)).output_shape
    (8, 8, 8, 3)
    """

    _dimensions = 3


class AveragePool1D(_AveragePool):
    """Take the mean of each window of a sequence.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the input, which count in no mean.
    trainable : bool, default=False
        Whether each channel's means are multiplied by a trained coefficient and shifted by a
        trained bias, as in `AveragePool2D`.

    Examples
    --------
    >>> from skdeep.layers import AveragePool1D
    >>> AveragePool1D(2).build((9, 4)).output_shape
    (4, 4)
    """

    _dimensions = 1


class AveragePool2D(_AveragePool):
    """Take the mean of each window of an image.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the input, which count in no mean.
    trainable : bool, default=False
        Whether each map's means are multiplied by a trained coefficient (at first one) and shifted
        by a trained bias (at first zero): the subsampling layers of LeNet-5, whose coefficient
        multiplies the sum of the window instead of its mean.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86, 1998, section II.B.

    Examples
    --------
    >>> from skdeep.layers import AveragePool2D
    >>> built = AveragePool2D(trainable=True).build((28, 28, 6))
    >>> built.output_shape, sorted(built.parameters)
    ((14, 14, 6), ['bias', 'coefficient'])
    """

    _dimensions = 2


class AveragePool3D(_AveragePool):
    """Take the mean of each window of a volume.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the input, which count in no mean.
    trainable : bool, default=False
        Whether each channel's means are multiplied by a trained coefficient and shifted by a
        trained bias, as in `AveragePool2D`.

    Examples
    --------
    >>> from skdeep.layers import AveragePool3D
    >>> AveragePool3D(2).build((8, 16, 16, 3)).output_shape
    (4, 8, 8, 3)
    """

    _dimensions = 3


class MaxPoolDepth(Layer):
    """Take the maximum of each group of neighbouring channels.

    A network learns so what its filters have in common: filters that are turned copies of one
    another, pooled, do not see the turn.

    Parameters
    ----------
    size : int, default=2
        The channels of a group; it divides the number of channels.

    References
    ----------
    I. J. Goodfellow et al., "Maxout Networks", ICML 2013.

    Examples
    --------
    >>> from skdeep.layers import MaxPoolDepth
    >>> MaxPoolDepth(4).build((28, 28, 32)).output_shape
    (28, 28, 8)
    """

    _parameter_constraints = {"size": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, size=2):
        self.size = size

    def build(self, input_shape):
        """Say how many groups there are."""
        self.validate()
        if not input_shape or input_shape[-1] % self.size:
            raise ValueError(
                f"size={self.size} must divide the channels of samples of shape "
                f"{tuple(input_shape)}"
            )
        return Built(output_shape=(*input_shape[:-1], int(input_shape[-1]) // self.size))

    def apply(self, params, state, x, context):
        """Take the maximum over each group."""
        s = x.shape
        cells = int(np.prod(s[1:-1]))
        y = ops.max_pool(np.reshape(x, (s[0], cells, s[-1], 1)), size=self.size)
        return np.reshape(y, (*s[:-1], s[-1] // self.size)), state


class _GlobalPool(Layer):
    """Abstract base of the layers that pool all positions."""

    def build(self, input_shape):
        """Say that the channels are left."""
        if not 2 <= len(input_shape) <= 4 or min(input_shape) < 1:
            raise ValueError(
                f"{type(self).__name__} takes samples of shape (*spatial, channels) with one to "
                f"three spatial dimensions, but got samples of shape {tuple(input_shape)}"
            )
        return Built(output_shape=(int(input_shape[-1]),))

    def apply(self, params, state, x, context):
        """Pool in one window."""
        y = self._pool(x, size=tuple(x.shape[2:-1]))
        return np.reshape(y, (*x.shape[:2], x.shape[-1])), state


class GlobalAveragePool(_GlobalPool):
    """Take the mean of each channel over all positions.

    References
    ----------
    M. Lin, Q. Chen and S. Yan, "Network In Network", ICLR 2014, section 3.2.

    Examples
    --------
    >>> from skdeep.layers import GlobalAveragePool
    >>> GlobalAveragePool().build((7, 7, 512)).output_shape
    (512,)
    """

    _pool = staticmethod(ops.average_pool)


class GlobalMaxPool(_GlobalPool):
    """Take the maximum of each channel over all positions.

    Examples
    --------
    >>> from skdeep.layers import GlobalMaxPool
    >>> GlobalMaxPool().build((100, 16)).output_shape
    (16,)
    """

    _pool = staticmethod(ops.max_pool)


class LocalResponseNormalization(Layer):
    """Let each channel inhibit its neighbours at the same position.

    The output is ``x[i] * (bias + alpha * sum_j x[j]**2) ** -beta``, j running from
    ``i - depth_radius // 2`` to ``i + depth_radius // 2`` as far as there are such channels.
    AlexNet has ``LocalResponseNormalization(5, bias=2.0, alpha=1e-4, beta=0.75)``.

    Parameters
    ----------
    depth_radius : int, default=5
        The number of neighbours, half of them on each side: 5 (and 4) are five channels with the
        channel itself, 2 (and 3) are three.
    bias : float, default=1.0
        The positive number that is added to the energy.
    alpha : float, default=1e-4
        The weight of the energy.
    beta : float, default=0.75
        The exponent.

    References
    ----------
    A. Krizhevsky, I. Sutskever and G. E. Hinton, "ImageNet Classification with Deep Convolutional
    Neural Networks", NeurIPS 2012, section 3.3.

    Examples
    --------
    >>> from skdeep.layers import LocalResponseNormalization
    >>> LocalResponseNormalization(2, alpha=2e-5).build((27, 27, 96)).output_shape
    (27, 27, 96)
    """

    _parameter_constraints = {
        "depth_radius": [Interval(Integral, 0, None, closed="left")],
        "bias": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, None, None, closed="neither")],
    }

    def __init__(self, depth_radius=5, bias=1.0, alpha=1e-4, beta=0.75):
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def apply(self, params, state, x, context):
        """Normalise over the neighbouring channels."""
        y = lrn.local_response_normalization(
            x, depth_radius=self.depth_radius, bias=self.bias, alpha=self.alpha, beta=self.beta
        )
        return y, state
