"""Layers that enlarge, cut and pad images; channels last."""

from abc import abstractmethod
from functools import lru_cache
from numbers import Integral

import numpy as np

from skdeep._compat import Interval, StrOptions
from skdeep.autodiff.ops.conv import integers
from skdeep.autodiff.ops.pool import AxisMap, resample
from skdeep.layers._base import Built
from skdeep.layers._pooling import _SIZES, Spatial

_COUNTS = [Interval(Integral, 0, None, closed="left"), tuple]


class _Resampling(Spatial):
    """Abstract base of the layers that map each spatial axis by itself."""

    @abstractmethod
    def _axes(self, spatial):
        """Return the map of each axis; None for one that stays."""

    def build(self, input_shape):
        """Say the spatial shape after the layer."""
        self.validate()
        spatial, channels = self._split(input_shape)
        axes = self._axes(spatial)
        out = (n if a is None else len(a.rows) for n, a in zip(spatial, axes, strict=True))
        return Built(output_shape=(*out, channels))

    def apply(self, params, state, x, context):
        """Map each spatial axis."""
        return resample(x, self._axes(tuple(x.shape[2:-1]))), state


def _margins(value, n, name):
    """Return an int, or one or a pair for each dimension, as n pairs."""
    values = value if np.iterable(value) else (value,) * n
    if len(values) != n:
        raise ValueError(
            f"{name}={value!r} must have a number or a pair for each of {n} dimensions"
        )
    return tuple(integers(v, 2, name, 0) for v in values)


def _picked(size, places):
    """Return the map that copies places; a negative one is a zero."""
    return AxisMap(size, tuple(((int(p), 1.0),) if p >= 0 else () for p in places))


# ---- enlarging ----------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def _nearest(n, factor):
    return _picked(n, np.arange(n * factor) // factor)


@lru_cache(maxsize=128)
def _linear(n, factor):
    """Return the interpolation between the centres of cells; beyond them the last one holds."""
    at = np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1)
    left = np.minimum(at.astype(int), max(n - 2, 0))
    rows = [
        tuple((int(p), float(w)) for p, w in ((i, 1 - t), (i + 1, t)) if w)
        for i, t in zip(left, at - left, strict=True)
    ]
    return AxisMap(n, tuple(rows))


def _enlarging(linear):
    """Return the constraints of a layer whose linear interpolation has this name."""
    return {"size": _SIZES, "interpolation": [StrOptions({"nearest", linear})]}


class _Upsample(_Resampling):
    def __init__(self, size=2, *, interpolation="nearest"):
        self.size = size
        self.interpolation = interpolation

    def _axes(self, spatial):
        factors = integers(self.size, len(spatial), "size", 1)
        axis = _nearest if self.interpolation == "nearest" else _linear
        return [None if f == 1 else axis(n, f) for n, f in zip(spatial, factors, strict=True)]


class Upsample1D(_Upsample):
    """Enlarge sequences.

    Parameters
    ----------
    size : int, default=2
        The factor.
    interpolation : {"nearest", "linear"}, default="nearest"
        "nearest" repeats each cell; "linear" interpolates between the centres of the cells.

    Examples
    --------
    >>> from skdeep.layers import Upsample1D
    >>> Upsample1D(3).build((5, 4)).output_shape
    (15, 4)
    """

    _dimensions = 1
    _parameter_constraints = _enlarging("linear")


class Upsample2D(_Upsample):
    """Enlarge images.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The factor, of both sides or of each.
    interpolation : {"nearest", "bilinear"}, default="nearest"
        "nearest" repeats each cell; "bilinear" interpolates between the centres of the cells, the
        outermost cells being continued outwards.

    Examples
    --------
    >>> from skdeep.layers import Upsample2D
    >>> Upsample2D((2, 3), interpolation="bilinear").build((7, 7, 16)).output_shape
    (14, 21, 16)
    """

    _dimensions = 2
    _parameter_constraints = _enlarging("bilinear")


class Upsample3D(_Upsample):
    """Enlarge volumes.

    Parameters
    ----------
    size : int or tuple of int, default=2
        The factor, of all sides or of each.
    interpolation : {"nearest", "trilinear"}, default="nearest"
        "nearest" repeats each cell; "trilinear" interpolates between the centres of the cells.

    Examples
    --------
    >>> from skdeep.layers import Upsample3D
    >>> Upsample3D((1, 2, 2)).build((4, 7, 7, 16)).output_shape
    (4, 14, 14, 16)
    """

    _dimensions = 3
    _parameter_constraints = _enlarging("trilinear")


# ---- cutting ------------------------------------------------------------------------------------


class _Crop(_Resampling):
    _parameter_constraints = {"cropping": _COUNTS}

    def __init__(self, cropping=1):
        self.cropping = cropping

    def _axes(self, spatial):
        margins = _margins(self.cropping, len(spatial), "cropping")
        if any(sum(m) >= n for n, m in zip(spatial, margins, strict=True)):
            raise ValueError(
                f"cropping={self.cropping!r} leaves nothing of samples of spatial shape {spatial}"
            )
        return [
            _picked(n, range(before, n - after)) if before or after else None
            for n, (before, after) in zip(spatial, margins, strict=True)
        ]


class Crop1D(_Crop):
    """Cut off the ends of sequences.

    Parameters
    ----------
    cropping : int or ((before, after),), default=1
        The cells that are cut off.

    Examples
    --------
    >>> from skdeep.layers import Crop1D
    >>> Crop1D(((2, 0),)).build((9, 4)).output_shape
    (7, 4)
    """

    _dimensions = 1


class Crop2D(_Crop):
    """Cut off the margins of images.

    Parameters
    ----------
    cropping : int, tuple of int or of (before, after), default=1
        The cells that are cut off: of all sides, of each dimension, or of each end.

    Examples
    --------
    >>> from skdeep.layers import Crop2D
    >>> Crop2D(((0, 4), (1, 1))).build((28, 28, 3)).output_shape
    (24, 26, 3)
    """

    _dimensions = 2


class Crop3D(_Crop):
    """Cut off the margins of volumes.

    Parameters
    ----------
    cropping : int, tuple of int or of (before, after), default=1
        The cells that are cut off: of all sides, of each dimension, or of each end.

    Examples
    --------
    >>> from skdeep.layers import Crop3D
    >>> Crop3D((0, 1, 1)).build((8, 16, 16, 3)).output_shape
    (8, 14, 14, 3)
    """

    _dimensions = 3


# ---- padding ------------------------------------------------------------------------------------


class _Pad(_Resampling):
    _parameter_constraints = {
        "padding": _COUNTS,
        "mode": [StrOptions({"constant", "reflect"})],
    }

    def __init__(self, padding=1, *, mode="constant"):
        self.padding = padding
        self.mode = mode

    def _axes(self, spatial):
        margins = _margins(self.padding, len(spatial), "padding")
        reflect = self.mode == "reflect"
        if reflect and any(max(m) >= n for n, m in zip(spatial, margins, strict=True)):
            raise ValueError(
                f"padding={self.padding!r} with mode='reflect' must be smaller than each side of "
                f"samples of spatial shape {spatial}"
            )
        fill = dict(mode="reflect") if reflect else dict(constant_values=-1)
        return [
            _picked(n, np.pad(np.arange(n), m, **fill)) if any(m) else None
            for n, m in zip(spatial, margins, strict=True)
        ]


class Pad1D(_Pad):
    """Lengthen sequences.

    Parameters
    ----------
    padding : int or ((before, after),), default=1
        The cells that are added.
    mode : {"constant", "reflect"}, default="constant"
        "constant" adds zeros; "reflect" mirrors the sequence about its outermost cells.

    Examples
    --------
    >>> from skdeep.layers import Pad1D
    >>> Pad1D(((2, 0),)).build((9, 4)).output_shape
    (11, 4)
    """

    _dimensions = 1


class Pad2D(_Pad):
    """Put margins around images.

    Parameters
    ----------
    padding : int, tuple of int or of (before, after), default=1
        The cells that are added: to all sides, to each dimension, or to each end.
    mode : {"constant", "reflect"}, default="constant"
        "constant" adds zeros; "reflect" mirrors the image about its outermost cells.

    Examples
    --------
    >>> from skdeep.layers import Pad2D
    >>> Pad2D(2, mode="reflect").build((28, 28, 1)).output_shape
    (32, 32, 1)
    """

    _dimensions = 2


class Pad3D(_Pad):
    """Put margins around volumes.

    Parameters
    ----------
    padding : int, tuple of int or of (before, after), default=1
        The cells that are added: to all sides, to each dimension, or to each end.
    mode : {"constant", "reflect"}, default="constant"
        "constant" adds zeros; "reflect" mirrors the volume about its outermost cells.

    Examples
    --------
    >>> from skdeep.layers import Pad3D
    >>> Pad3D((0, 1, 1)).build((8, 16, 16, 3)).output_shape
    (8, 18, 18, 3)
    """

    _dimensions = 3
