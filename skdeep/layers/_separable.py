"""Depthwise and separable convolutions: each channel by itself, then across the channels."""

import math

from skdeep.autodiff.ops import conv as ops
from skdeep.layers._base import Built
from skdeep.layers._convolution import COUNT, Convolution, Grouped


class _Depthwise(Grouped):
    """Abstract base of the convolutions of each channel by itself."""

    _parameter_constraints = {
        **Convolution._parameter_constraints,
        "depth_multiplier": COUNT,
    }

    def __init__(
        self,
        kernel_size=3,
        *,
        depth_multiplier=1,
        stride=1,
        padding="valid",
        dilation=1,
        activation="identity",
        use_bias=True,
        kernel_initializer="auto",
        bias_initializer="auto",
    ):
        self.kernel_size = kernel_size
        self.depth_multiplier = depth_multiplier
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def _plan(self, channels):
        return channels * self.depth_multiplier, channels


class DepthwiseConv1D(_Depthwise):
    """A convolution of each channel of sequences by itself.

    Parameters
    ----------
    kernel_size : int or tuple of one int, default=3
        The length of the window.
    depth_multiplier : int, default=1
        The number of filters for each channel.
    stride, padding, dilation, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`, for one spatial dimension.

    Examples
    --------
    >>> from skdeep.layers import DepthwiseConv1D
    >>> DepthwiseConv1D(5).build((100, 3)).output_shape
    (96, 3)
    """

    _dimensions = 1


class DepthwiseConv2D(_Depthwise):
    """A convolution of each channel of images by itself.

    Parameters
    ----------
    kernel_size : int or tuple of int, default=3
        The height and width of the filters.
    depth_multiplier : int, default=1
        The number of filters for each channel.
    stride, padding, dilation, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`.

    Notes
    -----
    The parameters are "weight" of shape (height, width, 1, channels * depth_multiplier), the
    filters of one channel side by side, and "bias".

    Examples
    --------
    >>> from skdeep.layers import DepthwiseConv2D
    >>> DepthwiseConv2D(3, depth_multiplier=2, padding="same").build((28, 28, 16)).output_shape
    (28, 28, 32)
    """

    _dimensions = 2


class DepthwiseConv3D(_Depthwise):
    """A convolution of each channel of volumes by itself.

    Parameters
    ----------
    kernel_size : int or tuple of three int, default=3
        The depth, height and width of the window.
    depth_multiplier : int, default=1
        The number of filters for each channel.
    stride, padding, dilation, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`, for three spatial dimensions.

    Examples
    --------
    >>> from skdeep.layers import DepthwiseConv3D
    >>> DepthwiseConv3D(3).build((8, 8, 8, 2)).output_shape
    (6, 6, 6, 2)
    """

    _dimensions = 3


class _Separable(Convolution):
    """Abstract base of depthwise convolutions followed by a product over the channels."""

    _parameter_constraints = {
        "filters": COUNT,
        **Convolution._parameter_constraints,
        "depth_multiplier": COUNT,
    }

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        depth_multiplier=1,
        stride=1,
        padding="valid",
        dilation=1,
        activation="identity",
        use_bias=True,
        kernel_initializer="auto",
        bias_initializer="auto",
    ):
        self.filters = filters
        self.kernel_size = kernel_size
        self.depth_multiplier = depth_multiplier
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, input_shape):
        """Say the shapes of both kernels and the biases."""
        self.validate()
        spatial, channels = self._split(input_shape)
        g = self._geometry(spatial)
        cells, middle = math.prod(g.kernel), channels * self.depth_multiplier
        depthwise = self._parameter(  # nothing but a product comes after it
            (*g.kernel, 1, middle), cells, cells * self.depth_multiplier, activation="identity"
        )
        ones = (1,) * len(spatial)
        pointwise = self._parameter((*ones, middle, self.filters), middle, self.filters)
        return Built(
            output_shape=(*g.out, self.filters),
            parameters={
                "depthwise": depthwise,
                "pointwise": pointwise,
                **self._bias(self.filters, middle, self.filters),
            },
            multiply_adds=math.prod(g.out) * middle * (cells + self.filters),
        )

    def apply(self, params, state, x, context):
        """Convolve each channel, then mix them."""
        y = ops.conv(x, params["depthwise"], groups=x.shape[-1], **self._window())
        return self._activated(ops.conv, y, params["pointwise"], params.get("bias")), state


class SeparableConv1D(_Separable):
    """A depthwise separable convolution of sequences.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of one int, default=3
        The length of the window.
    depth_multiplier : int, default=1
        The number of depthwise filters for each channel.
    stride, padding, dilation, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`, for one spatial dimension.

    Examples
    --------
    >>> from skdeep.layers import SeparableConv1D
    >>> SeparableConv1D(16, 5).build((100, 3)).output_shape
    (96, 16)
    """

    _dimensions = 1


class SeparableConv2D(_Separable):
    """A depthwise separable convolution: patterns in space, then across the channels.

    Each channel is convolved by itself, then a 1x1 convolution mixes the channels. It has far
    fewer parameters and multiplications than `Conv2D`.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of int, default=3
        The height and width of the depthwise filters.
    depth_multiplier : int, default=1
        The number of depthwise filters for each channel.
    stride, padding, dilation, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`; the activation and the biases come after the 1x1 convolution.

    Notes
    -----
    The parameters are "depthwise" of shape (height, width, 1, channels * depth_multiplier),
    "pointwise" of shape (1, 1, channels * depth_multiplier, filters) and "bias".

    References
    ----------
    F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017.

    Examples
    --------
    >>> from skdeep.layers import Conv2D, SeparableConv2D
    >>> layers = Conv2D(64, padding="same"), SeparableConv2D(64, padding="same")
    >>> [layer.build((28, 28, 64)).multiply_adds for layer in layers]
    [28901376, 3662848]
    """

    _dimensions = 2


class SeparableConv3D(_Separable):
    """A depthwise separable convolution of volumes.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of three int, default=3
        The depth, height and width of the window.
    depth_multiplier : int, default=1
        The number of depthwise filters for each channel.
    stride, padding, dilation, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`, for three spatial dimensions.

    Examples
    --------
    >>> from skdeep.layers import SeparableConv3D
    >>> SeparableConv3D(8).build((8, 8, 8, 2)).output_shape
    (6, 6, 6, 8)
    """

    _dimensions = 3
