"""Windows that move over images: their parameters, checked and completed.

Convolution and pooling share them.
"""

import operator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """How a window moves over an image: one entry for each spatial dimension.

    Parameters
    ----------
    spatial, kernel, stride, dilation : tuple of int
        Sizes of the image and of the window, steps of the window and within it.
    padding : tuple of (int, int)
        Cells of zeros before and after.
    """

    spatial: tuple
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple

    @property
    def out(self):
        """The spatial shape of the result."""
        sizes = zip(
            self.spatial, self.kernel, self.stride, self.padding, self.dilation, strict=True
        )
        return tuple((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in sizes)

    def canonical(self):
        """Return the same geometry in three dimensions, those in front of size one."""
        front = 3 - len(self.spatial)
        ones = (1,) * front
        return Geometry(
            ones + self.spatial,
            ones + self.kernel,
            ones + self.stride,
            ((0, 0),) * front + self.padding,
            ones + self.dilation,
        )


def integers(value, n, name, least):
    """Return an int or one per dimension as a tuple of n; refuse what is below `least`."""
    what = f"{name}={value!r} must be an integer >= {least} or a tuple of {n} of them"
    try:
        if isinstance(value, str | bool | np.bool_):
            raise TypeError
        values = tuple(value) if np.iterable(value) else (value,) * n
        values = tuple(operator.index(v) for v in values)
    except TypeError:
        raise TypeError(what) from None
    if len(values) != n or min(values) < least:
        raise ValueError(what)
    return values


def _pairs(padding, n):
    """Return padding in numbers as a tuple of n pairs."""
    if np.iterable(padding) and any(np.iterable(p) for p in padding):
        if len(padding) != n:
            raise ValueError(f"padding={padding!r} must have a pair for each of {n} dimensions")
        return tuple(integers(p if np.iterable(p) else (p, p), 2, "padding", 0) for p in padding)
    return tuple((p, p) for p in integers(padding, n, "padding", 0))


def _same(spatial, kernel, stride, dilation):
    """Return the pairs of padding that give ceil(spatial / stride), the odd cell at the end."""
    pairs = []
    for n, k, s, d in zip(spatial, kernel, stride, dilation, strict=True):
        more = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pairs.append((more // 2, more - more // 2))
    return tuple(pairs)


def geometry(spatial, kernel, *, stride=1, padding="valid", dilation=1, name="kernel"):
    """Check and complete the parameters of a moving window.

    Parameters
    ----------
    spatial : tuple of int
        The spatial shape of the input; its length is the number of dimensions.
    kernel : int or tuple of int
        The window.
    stride, dilation : int or tuple of int, default=1
        Steps of the window, and between its cells.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Zeros around the image. "valid" has none; "same" gives ceil(spatial / stride) cells, the
        odd cell of padding standing at the end.
    name : str, default="kernel"
        What errors call the window.

    Returns
    -------
    Geometry

    Raises
    ------
    TypeError
        If a parameter is not made of integers.
    ValueError
        If a number is out of range, or the window is larger than the padded image.

    Examples
    --------
    >>> from skdeep.autodiff.ops.conv import geometry
    >>> geometry((5, 5), 3, stride=2, padding="same").padding
    ((1, 1), (1, 1))
    """
    spatial = tuple(spatial)
    n = len(spatial)
    if not 1 <= n <= 3:
        raise ValueError(f"the spatial shape {spatial} must have one, two or three dimensions")
    kernel = integers(kernel, n, name, 1)
    stride, dilation = integers(stride, n, "stride", 1), integers(dilation, n, "dilation", 1)
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ValueError(
                f"padding={padding!r} must be 'valid', 'same', an integer, or a tuple of integers "
                "or of pairs"
            )
        valid = ((0, 0),) * n
        pairs = valid if padding == "valid" else _same(spatial, kernel, stride, dilation)
    else:
        pairs = _pairs(padding, n)
    found = Geometry(spatial, kernel, stride, pairs, dilation)
    if min(spatial) > 0 and min(found.out) < 1:
        raise ValueError(
            f"{name}={kernel} with dilation={dilation} is larger than the input of spatial shape "
            f"{spatial} with padding={padding!r}; pass padding='same' or a smaller {name}"
        )
    if min(spatial) < 1:
        raise ValueError(f"the spatial shape {spatial} has an empty dimension")
    return found


def output_shape(spatial, kernel, *, stride=1, padding="valid", dilation=1, name="kernel"):
    """Return the spatial shape that a window moving over an image gives.

    Parameters
    ----------
    spatial, kernel, stride, padding, dilation, name
        As in `geometry`.

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError, ValueError
        As in `geometry`.

    Examples
    --------
    >>> from skdeep.autodiff.ops.conv import output_shape
    >>> output_shape((28, 28), (5, 5), stride=2, padding=2)
    (14, 14)
    """
    return geometry(
        spatial, kernel, stride=stride, padding=padding, dilation=dilation, name=name
    ).out
