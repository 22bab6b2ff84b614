"""Convolutional layers of one, two and three spatial dimensions, channels last."""

import math
from abc import abstractmethod
from numbers import Integral

from skdeep._compat import Interval, StrOptions
from skdeep.autodiff.ops import conv as ops
from skdeep.layers._activations import get_activation
from skdeep.layers._base import Built, Parameter
from skdeep.layers._initializers import get_initializer
from skdeep.layers._pooling import Spatial

COUNT = [Interval(Integral, 1, None, closed="left")]
_SIZES = [*COUNT, tuple]
#: Half of what goes into them is lost or nearly so: He's initialisation makes up for it.
_RELU_FAMILY = {
    *("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "swish", "softplus"),
}


def kernel_initializer(spec, activation):
    """Return the initialiser of a kernel: "auto" is He's before relu and its kin."""
    if isinstance(spec, str) and spec == "auto" and activation in _RELU_FAMILY:
        spec = "he_normal"
    return get_initializer(spec, activation=activation)


def bias_initializer(spec, kernel, activation):
    """Return the initialiser of biases: "auto" draws only beside a kernel drawn as Dense's."""
    plain = isinstance(kernel, str) and kernel == "auto" and activation not in _RELU_FAMILY
    if isinstance(spec, str) and spec == "auto" and not plain:
        spec = "zeros"
    return get_initializer(spec, activation=activation)


class Convolution(Spatial):
    """Abstract base of the layers that move a window over an image."""

    _parameter_constraints = {
        "kernel_size": _SIZES,
        "stride": _SIZES,
        "padding": [StrOptions({"valid", "same"}), Interval(Integral, 0, None, closed="left"),
                    tuple],
        "dilation": _SIZES,
        "activation": [str, callable],
        "use_bias": ["boolean"],
        "kernel_initializer": [str, callable],
        "bias_initializer": [str, callable],
    }  # fmt: skip

    def _split(self, input_shape):
        """Return the spatial shape and the channels of a sample."""
        get_activation(self.activation)  # refuses an unknown name before any training
        return super()._split(input_shape)

    def _window(self):
        """Return how the window moves."""
        return dict(stride=self.stride, padding=self.padding, dilation=self.dilation)

    def _geometry(self, spatial):
        return ops.geometry(spatial, self.kernel_size, name="kernel_size", **self._window())

    def _parameter(self, shape, fan_in, fan_out, activation=None):
        """Return a kernel that is drawn for the activation after it."""
        activation = self.activation if activation is None else activation
        initializer = kernel_initializer(self.kernel_initializer, activation)
        return Parameter(shape, initializer, fan_in, fan_out, penalised=True)

    def _bias(self, filters, fan_in, fan_out):
        """Return the biases, where there are any, as a dict."""
        if not self.use_bias:
            return {}
        kernel, activation = self.kernel_initializer, self.activation
        initializer = bias_initializer(self.bias_initializer, kernel, activation)
        return {"bias": Parameter((filters,), initializer, fan_in, fan_out)}

    def _divide(self, groups, channels, filters):
        """Check that groups divide both ends."""
        for count, what in ((channels, "input channels"), (filters, "filters")):
            if count % groups:
                raise ValueError(
                    f"{type(self).__name__}: groups={groups} must divide the {count} {what}"
                )

    def _activated(self, convolve, x, weight, bias, **options):
        """Convolve, add the bias and apply the activation: fused where there is a kernel."""
        activation = get_activation(self.activation)
        fused = activation.fused and activation.name in ("identity", "relu")
        name = activation.name if fused else "identity"
        y = convolve(x, weight, bias, activation=name, **options)
        return y if fused else activation(y)


class Grouped(Convolution):
    """Abstract base of the convolutions with one kernel."""

    @abstractmethod
    def _plan(self, channels):
        """Return filters and groups for so many input channels."""

    def build(self, input_shape):
        """Say the shapes of the kernel and the biases."""
        self.validate()
        spatial, channels = self._split(input_shape)
        filters, groups = self._plan(channels)
        self._divide(groups, channels, filters)
        g = self._geometry(spatial)
        cells = math.prod(g.kernel)
        fan_in, fan_out = cells * channels // groups, cells * filters // groups
        weight = self._parameter((*g.kernel, channels // groups, filters), fan_in, fan_out)
        return Built(
            output_shape=(*g.out, filters),
            parameters={"weight": weight, **self._bias(filters, fan_in, fan_out)},
            multiply_adds=math.prod(g.out) * filters * fan_in,
        )

    def _options(self):
        return self._window()

    def apply(self, params, state, x, context):
        """Convolve."""
        weight, bias = params["weight"], params.get("bias")
        options = dict(groups=self._plan(x.shape[-1])[1], **self._options())
        return self._activated(ops.conv, x, weight, bias, **options), state


class _Convolve(Grouped):
    """Abstract base of the convolutions with any number of filters."""

    _parameter_constraints = {
        "filters": COUNT,
        **Convolution._parameter_constraints,
        "groups": COUNT,
    }

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        stride=1,
        padding="valid",
        dilation=1,
        groups=1,
        activation="identity",
        use_bias=True,
        kernel_initializer="auto",
        bias_initializer="auto",
    ):
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def _plan(self, channels):
        return self.filters, self.groups


class Conv1D(_Convolve):
    """A convolutional layer over sequences of shape (length, channels).

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of one int, default=3
        The length of the window.
    stride, padding, dilation, groups, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`, for one spatial dimension.

    See Also
    --------
    Conv2D : The layer over images, where the parameters are described.

    Examples
    --------
    >>> from skdeep.layers import Conv1D
    >>> Conv1D(16, 5, stride=2).build((100, 3)).output_shape
    (48, 16)
    """

    _dimensions = 1


class Conv2D(_Convolve):
    """A convolutional layer over images of shape (height, width, channels).

    As everywhere in networks, the filters are not flipped: it is a cross-correlation.

    Parameters
    ----------
    filters : int
        The number of filters, which are the output's channels (feature maps).
    kernel_size : int or tuple of int, default=3
        The height and width of the filters.
    stride : int or tuple of int, default=1
        The step from one window to the next.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Zeros around the image. "valid" has none; with "same" the output has
        ``ceil(size / stride)`` cells, the odd cell of padding standing at the end.
    dilation : int or tuple of int, default=1
        The distance of a window's cells.
    groups : int, default=1
        The channels are cut into so many groups, each with its own share of the filters.
    activation : str or callable, default="identity"
        The activation's name, or any function of a traced array.
    use_bias : bool, default=True
        Whether there are biases.
    kernel_initializer : str or initializer, default="auto"
        How the weights begin. "auto" is He's before relu and its kin, as in `Dense` otherwise.
    bias_initializer : str or initializer, default="auto"
        How the biases begin; "auto" draws as the weights' "auto" does where that is as in
        `Dense`, and is zeros otherwise.
    winograd : {"auto", "f4", "f2", False}, default="auto"
        Which fast algorithm may serve 3x3 filters: chosen by shapes, a given one, or none.

    Notes
    -----
    The parameters are "weight" of shape (height, width, channels // groups, filters) and "bias"
    of shape (filters,).

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86, 1998.

    Examples
    --------
    >>> from skdeep.layers import Conv2D
    >>> built = Conv2D(200, 5, padding="same").build((150, 100, 3))
    >>> built.output_shape, built.multiply_adds
    ((150, 100, 200), 225000000)
    >>> {name: p.shape for name, p in built.parameters.items()}
    {'weight': (5, 5, 3, 200), 'bias': (200,)}
    """

    _dimensions = 2
    _parameter_constraints = {
        **_Convolve._parameter_constraints,
        "winograd": [StrOptions({"auto", "f4", "f2"}), "boolean"],
    }

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        stride=1,
        padding="valid",
        dilation=1,
        groups=1,
        activation="identity",
        use_bias=True,
        kernel_initializer="auto",
        bias_initializer="auto",
        winograd="auto",
    ):
        super().__init__(
            filters,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
        )
        self.winograd = winograd

    def validate(self):
        """Check the parameters."""
        super().validate()
        if self.winograd is True:
            raise ValueError(
                "Conv2D: winograd=True does not say which; it must be 'auto', 'f4', 'f2' or False"
            )

    def _options(self):
        return dict(winograd=self.winograd, **self._window())


class Conv3D(_Convolve):
    """A convolutional layer over volumes of shape (depth, height, width, channels).

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of three int, default=3
        The depth, height and width of the window.
    stride, padding, dilation, groups, activation, use_bias, kernel_initializer, bias_initializer
        As in `Conv2D`, for three spatial dimensions.

    See Also
    --------
    Conv2D : The layer over images, where the parameters are described.

    Examples
    --------
    >>> from skdeep.layers import Conv3D
    >>> Conv3D(8, (3, 5, 5)).build((10, 20, 20, 1)).output_shape
    (8, 16, 16, 8)
    """

    _dimensions = 3


class _Transposed(Convolution):
    """Abstract base of the transposed convolutions."""

    _parameter_constraints = {
        "filters": COUNT,
        **Convolution._parameter_constraints,
        "output_padding": [Interval(Integral, 0, None, closed="left"), tuple],
        "groups": COUNT,
    }

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        stride=1,
        padding="valid",
        output_padding=0,
        dilation=1,
        groups=1,
        activation="identity",
        use_bias=True,
        kernel_initializer="auto",
        bias_initializer="auto",
    ):
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.dilation = dilation
        self.groups = groups
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def _geometry(self, spatial):
        """Return the geometry of the convolution that leads back."""
        return ops._transposed_geometry(
            spatial, self.kernel_size, self.stride, self.padding, self.output_padding,
            self.dilation,
        )  # fmt: skip

    def build(self, input_shape):
        """Say the shapes of the kernel and the biases."""
        self.validate()
        spatial, channels = self._split(input_shape)
        self._divide(self.groups, channels, self.filters)
        g = self._geometry(spatial)
        cells = math.prod(g.kernel)
        fan_in, fan_out = cells * channels // self.groups, cells * self.filters // self.groups
        shape = (*g.kernel, self.filters // self.groups, channels)
        return Built(
            output_shape=(*g.spatial, self.filters),
            parameters={
                "weight": self._parameter(shape, fan_in, fan_out),
                **self._bias(self.filters, fan_in, fan_out),
            },
            multiply_adds=math.prod(spatial) * channels * fan_out,
        )

    def apply(self, params, state, x, context):
        """Convolve with the transposed kernel."""
        weight, bias = params["weight"], params.get("bias")
        options = dict(output_padding=self.output_padding, groups=self.groups, **self._window())
        return self._activated(ops.conv_transpose, x, weight, bias, **options), state


class Conv1DTranspose(_Transposed):
    """A transposed convolution of sequences: longer ones from shorter ones.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of one int, default=3
        The length of the window.
    stride, padding, output_padding, dilation, groups, activation, use_bias
        As in `Conv2DTranspose`, for one spatial dimension.
    kernel_initializer, bias_initializer
        As in `Conv2D`.

    Examples
    --------
    >>> from skdeep.layers import Conv1DTranspose
    >>> Conv1DTranspose(8, stride=2, padding="same").build((50, 16)).output_shape
    (100, 8)
    """

    _dimensions = 1


class Conv2DTranspose(_Transposed):
    """A transposed convolution: the adjoint of `Conv2D`, for larger images from smaller ones.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of int, default=3
        The height and width of the filters.
    stride : int or tuple of int, default=1
        How much larger the image becomes.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        The padding of the convolution that leads back. With "same" the output has
        ``size * stride`` cells, else ``(size - 1) * stride + dilation * (kernel_size - 1) + 1``
        less the padding.
    output_padding : int or tuple of int, default=0
        Cells more at the end, fewer than the stride.
    dilation : int or tuple of int, default=1
        The distance of a window's cells.
    groups : int, default=1
        The channels are cut into so many groups, each with its own share of the filters.
    activation : str or callable, default="identity"
        The activation's name, or any function of a traced array.
    use_bias : bool, default=True
        Whether there are biases.
    kernel_initializer, bias_initializer : str or initializer, default="auto"
        As in `Conv2D`.

    Notes
    -----
    The parameters are "weight" of shape (height, width, filters // groups, channels), that of
    the convolution which leads back, and "bias" of shape (filters,).

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285, 2016.

    Examples
    --------
    >>> from skdeep.layers import Conv2DTranspose
    >>> Conv2DTranspose(32, stride=2, padding="same").build((7, 7, 64)).output_shape
    (14, 14, 32)
    """

    _dimensions = 2


class Conv3DTranspose(_Transposed):
    """A transposed convolution of volumes.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or tuple of three int, default=3
        The depth, height and width of the window.
    stride, padding, output_padding, dilation, groups, activation, use_bias
        As in `Conv2DTranspose`, for three spatial dimensions.
    kernel_initializer, bias_initializer
        As in `Conv2D`.

    Examples
    --------
    >>> from skdeep.layers import Conv3DTranspose
    >>> Conv3DTranspose(4, stride=2, padding="same").build((4, 4, 4, 8)).output_shape
    (8, 8, 8, 4)
    """

    _dimensions = 3
