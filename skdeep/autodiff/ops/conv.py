"""Convolutions of one, two and three spatial dimensions, with derivatives of every order.

Arrays are channels last and lead with the member axis: x (M or 1, N, *spatial, C), weights
(M or 1, *kernel, C // groups, K), result (M, N, *out, K). As everywhere in networks, "convolution"
is cross-correlation.
"""

import numpy as np

from skdeep.autodiff._trace import ndim, shape
from skdeep.autodiff.ops._conv import algorithm, convolve, convolve_transposed
from skdeep.autodiff.ops._window import Geometry, geometry, integers, output_shape
from skdeep.autodiff.ops.shape import reshape

__all__ = [
    "Geometry",
    "algorithm",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose",
    "geometry",
    "integers",
    "output_shape",
]

_ACTIVATIONS = ("identity", "relu")
_WINOGRAD = ("auto", "f4", "f2", False)


def _check_arrays(x, w, b, of_x, of_b, groups):
    """Check the ranks, dtypes and channels; `of_x`, `of_b`: w's axes of x's and b's channels."""
    n, s = ndim(x) - 3, shape(w)
    if not 1 <= n <= 3:
        raise ValueError(
            f"x has shape {shape(x)}; it must be (members, samples, *spatial, channels) with one, "
            "two or three spatial axes"
        )
    if len(s) != n + 3:
        raise ValueError(
            f"w has shape {s}; for x of shape {shape(x)} it must be (members, *kernel, channels, "
            f"filters) with {n} kernel axes"
        )
    try:
        np.broadcast_shapes(shape(x)[:1], s[:1], () if b is None else shape(b)[:1])
    except ValueError:
        raise ValueError(
            f"x of shape {shape(x)}, w of shape {s} and b differ in their members"
        ) from None
    (groups,) = integers(groups, 1, "groups", 1)
    if s[-1] % groups:
        raise ValueError(f"groups={groups} must divide the filters of w of shape {s}")
    channels = {-2: s[-2] * groups, -1: s[-1]}
    if shape(x)[-1] != channels[of_x]:
        raise ValueError(
            f"x of shape {shape(x)} must have {channels[of_x]} channels for w of shape {s} and "
            f"groups={groups}"
        )
    if b is not None and (ndim(b) != 2 or shape(b)[-1] != channels[of_b]):
        raise ValueError(
            f"b has shape {shape(b)}; it must be (members, {channels[of_b]}) for w of shape {s}"
        )
    return groups


def _check_choices(activation, winograd):
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation={activation!r} must be one of {_ACTIVATIONS}")
    if winograd is not False and not (isinstance(winograd, str) and winograd in _WINOGRAD):
        raise ValueError(f"winograd={winograd!r} must be one of {_WINOGRAD}")


def _bias(b, w, axis, activation, groups):
    """Return the biases: zeros where there are none, but an activation to fuse."""
    if b is None and activation != "identity":
        return np.zeros((1, shape(w)[axis] * groups), w.dtype)
    return b


def conv(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding="valid",
    dilation=1,
    groups=1,
    activation="identity",
    winograd="auto",
):
    r"""Convolve images with filters, add a bias and apply an activation.

    Parameters
    ----------
    x : array of shape (n_members or 1, n_samples, \*spatial, n_channels)
        The images, with one, two or three spatial axes.
    w : array of shape (n_members, \*kernel, n_channels // groups, n_filters)
        The filters.
    b : array of shape (n_members, n_filters), default=None
        The biases; none if None.
    stride, padding, dilation
        As in `geometry`.
    groups : int, default=1
        The channels are cut into so many groups, each with its own share of the filters.
    activation : {"identity", "relu"}, default="identity"
        What is applied on the way out, in the same pass.
    winograd : {"auto", "f4", "f2", False}, default="auto"
        Which fast algorithm may serve; see `algorithm`.

    Returns
    -------
    array of shape (n_members, n_samples, \*out, n_filters)

    Raises
    ------
    TypeError, ValueError
        If a shape or a parameter does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.conv import conv
    >>> x = np.arange(5.0).reshape(1, 1, 5, 1)
    >>> conv(x, np.ones((1, 3, 1, 1)), np.full((1, 1), -6.0), activation="relu").ravel()
    array([0., 0., 3.])
    """
    _check_choices(activation, winograd)
    groups = _check_arrays(x, w, b, -2, -1, groups)
    g = geometry(shape(x)[2:-1], shape(w)[1:-2], stride=stride, padding=padding, dilation=dilation)
    b = _bias(b, w, -1, activation, 1)
    kw = dict(geometry=g, groups=groups, winograd=winograd)
    return convolve(x, w, b, activation, **kw)


def _transposed_geometry(spatial, kernel, stride, padding, output_padding, dilation):
    """Return the geometry of the convolution whose input gradient is a transposed convolution."""
    n = len(spatial)
    # An image that any window fits into: what the padding takes off is found by the geometry.
    large = geometry((2**40,) * n, kernel, stride=stride, padding=padding, dilation=dilation)
    more = integers(output_padding, n, "output_padding", 0)
    sizes = zip(spatial, large.kernel, large.stride, large.dilation, large.padding, strict=True)
    if isinstance(padding, str) and padding == "same":
        out = tuple(i * s for i, _, s, _, _ in sizes)
    else:
        out = tuple((i - 1) * s + (k - 1) * d + 1 - sum(p) for i, k, s, d, p in sizes)
    out = tuple(o + m for o, m in zip(out, more, strict=True))
    if min(out) < 1:
        raise ValueError(
            f"padding={padding!r} leaves nothing of the result: its spatial shape would be {out}"
        )
    g = geometry(out, kernel, stride=stride, padding=padding, dilation=dilation)
    if g.out != tuple(spatial):
        raise ValueError(
            f"output_padding={output_padding!r} must be smaller than stride={large.stride}, and "
            "0 with padding='same'"
        )
    return g


def conv_transpose(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding="valid",
    output_padding=0,
    dilation=1,
    groups=1,
    activation="identity",
    winograd="auto",
):
    r"""Transposed convolution: the adjoint of `conv`, its gradient with respect to the input.

    Parameters
    ----------
    x : array of shape (n_members or 1, n_samples, \*spatial, n_channels)
        The images.
    w : array of shape (n_members, \*kernel, n_filters // groups, n_channels)
        The filters, in the layout of the convolution that maps the result to the shape of `x`:
        the last axis goes with the channels of `x`.
    b : array of shape (n_members, n_filters), default=None
        The biases; none if None.
    stride, padding
        Those of the convolution. The result has (spatial - 1) * stride + dilation * (kernel - 1)
        + 1 - padding (both sides) cells, or spatial * stride with padding "same".
    output_padding : int or tuple of int, default=0
        Cells more at the end, fewer than the stride: which of the sizes that a strided
        convolution brings to that of `x` is meant.
    dilation, groups
        Those of the convolution.
    activation, winograd
        As in `conv`.

    Returns
    -------
    array of shape (n_members, n_samples, \*out, n_filters)

    Raises
    ------
    TypeError, ValueError
        If a shape or a parameter does not fit; the message names it.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.conv import conv_transpose
    >>> x = np.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    >>> conv_transpose(x, np.ones((1, 3, 1, 1)), stride=2).ravel()
    array([1., 1., 3., 2., 2.])
    """
    _check_choices(activation, winograd)
    groups = _check_arrays(x, w, b, -1, -2, groups)
    g = _transposed_geometry(
        shape(x)[2:-1], shape(w)[1:-2], stride, padding, output_padding, dilation
    )
    kw = dict(geometry=g, groups=groups, winograd=winograd)
    return convolve_transposed(x, w, _bias(b, w, -2, activation, groups), activation, **kw)


def _public(x, w, n, **kw):
    """Convolve with or without a member axis on both arrays."""
    rank = ndim(x)
    if rank not in (n + 2, n + 3) or ndim(w) != rank:
        raise ValueError(
            f"x of shape {shape(x)} and w of shape {shape(w)} must both have {n + 2} axes, or "
            f"both {n + 3} with a leading axis of members"
        )
    if rank == n + 3:
        return conv(x, w, **kw)
    y = conv(reshape(x, (1, *shape(x))), reshape(w, (1, *shape(w))), **kw)
    return reshape(y, shape(y)[1:])


def conv2d(x, w, *, stride=1, padding="valid", dilation=1, groups=1, winograd="auto"):
    """Two-dimensional convolution of channels-last images.

    Parameters
    ----------
    x : array of shape (n_samples, height, width, n_channels)
        The images; a leading axis of members may stand on both arrays.
    w : array of shape (kernel_height, kernel_width, n_channels // groups, n_filters)
        The filters.
    stride : int or tuple of int, default=1
        Steps of the window.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Zeros around the image; "same" gives ceil(size / stride) cells.
    dilation : int or tuple of int, default=1
        Steps between the window's cells.
    groups : int, default=1
        The channels are cut into so many groups, each with its own share of the filters;
        n_channels groups make a depthwise convolution.
    winograd : {"auto", "f4", "f2", False}, default="auto"
        Which fast algorithm may serve 3 x 3 convolutions: by shape, a given one, or none.

    Returns
    -------
    array of shape (n_samples, out_height, out_width, n_filters)

    Raises
    ------
    TypeError, ValueError
        If a shape or a parameter does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.conv import conv2d
    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> conv2d(x, np.ones((2, 2, 1, 1)))[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    return _public(
        x,
        w,
        2,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        winograd=winograd,
    )


def conv1d(x, w, *, stride=1, padding="valid", dilation=1, groups=1):
    """One-dimensional convolution of channels-last sequences.

    Parameters
    ----------
    x : array of shape (n_samples, length, n_channels)
        The sequences; a leading axis of members may stand on both arrays.
    w : array of shape (kernel, n_channels // groups, n_filters)
        The filters.
    stride, padding, dilation, groups
        As in `conv2d`.

    Returns
    -------
    array of shape (n_samples, out_length, n_filters)

    Raises
    ------
    TypeError, ValueError
        If a shape or a parameter does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.conv import conv1d
    >>> conv1d(np.arange(4.0).reshape(1, 4, 1), np.array([-1.0, 1.0]).reshape(2, 1, 1)).ravel()
    array([1., 1., 1.])
    """
    return _public(x, w, 1, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv3d(x, w, *, stride=1, padding="valid", dilation=1, groups=1):
    """Three-dimensional convolution of channels-last volumes.

    Parameters
    ----------
    x : array of shape (n_samples, depth, height, width, n_channels)
        The volumes; a leading axis of members may stand on both arrays.
    w : array of shape (k_depth, k_height, k_width, n_channels // groups, n_filters)
        The filters.
    stride, padding, dilation, groups
        As in `conv2d`.

    Returns
    -------
    array of shape (n_samples, out_depth, out_height, out_width, n_filters)

    Raises
    ------
    TypeError, ValueError
        If a shape or a parameter does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.conv import conv3d
    >>> conv3d(np.ones((1, 2, 2, 2, 1)), np.ones((2, 2, 2, 1, 1))).ravel()
    array([8.])
    """
    return _public(x, w, 3, stride=stride, padding=padding, dilation=dilation, groups=groups)
