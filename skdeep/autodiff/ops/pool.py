"""Pooling, and what else is a map from the positions of an image to positions.

x is (M, N, *spatial, C): members, samples, one to three spatial dimensions, channels. Average
pooling, interpolation, padding and cutting are one primitive, `resample`: weighted sums of
positions along each axis, whose adjoint is the transposed sum. Max pooling keeps which cell of
its window each maximum came from; with these places given, `unpool` and `pool_take` are linear
and each other's adjoints. So derivatives of every order close.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np

from skdeep.autodiff._trace import Primitive, first_dtype, shape
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.conv import geometry
from skdeep.autodiff.ops.shape import linear_op, reshape

#: Averages over more cells are taken axis by axis: fewer additions, and shorter chains of them.
_SEPARATE = 32


@dataclass(frozen=True)
class AxisMap:
    """Weighted sums along an axis: each result's (place, weight) pairs, places ascending.

    Parameters
    ----------
    size : int
        The number of places before.
    rows : tuple of tuple of (int, float)
        What each place after is the sum of.
    """

    size: int
    rows: tuple


# ---- tables of positions ------------------------------------------------------------------------


def _numbers(parts, sizes):
    """Return the number of every combination of parts, the last one running fastest."""
    return reduce(
        lambda out, new: (out[:, None] * new[1] + new[0]).reshape(-1),
        zip(parts[1:], sizes[1:], strict=True),
        parts[0],
    )


def _by_row(row, column, value, n_rows):
    """Return entries compressed by rows, each row in the order of its columns."""
    order = np.lexsort((column, row))
    start = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=n_rows), out=start[1:])
    return start, column[order], value[order]


@lru_cache(maxsize=128)
def _windows(g, transposed):
    """Return the table (start, place, code) from positions to windows, or the other way."""
    windows, cells, places = [], [], []
    for n, k, s, (before, _), d, o in zip(
        g.spatial, g.kernel, g.stride, g.padding, g.dilation, g.out, strict=True
    ):
        window, cell = (a.reshape(-1) for a in np.indices((o, k)))
        place = window * s - before + cell * d
        inside = (place >= 0) & (place < n)
        for kept, a in zip((windows, cells, places), (window, cell, place), strict=True):
            kept.append(a[inside])
    window, place = _numbers(windows, g.out), _numbers(places, g.spatial)
    code = _numbers(cells, g.kernel)
    if transposed:
        return _by_row(place, window, code, math.prod(g.spatial))
    return _by_row(window, place, code, math.prod(g.out))


def _weights(axes, transposed, dtype):
    """Return the table (start, place, weight) of weighted sums along axes, or of their adjoint."""
    rows, places, weights = [], [], []
    for axis in axes:
        entries = [(r, p, w) for r, row in enumerate(axis.rows) for p, w in row]
        table = np.array(entries, np.float64).reshape(-1, 3).T
        rows.append(table[0].astype(np.int64))
        places.append(table[1].astype(np.int64))
        weights.append(table[2])
    row = _numbers(rows, [len(a.rows) for a in axes])
    place = _numbers(places, [a.size for a in axes])
    weight = reduce(np.multiply.outer, weights).reshape(-1).astype(dtype)
    if transposed:
        return _by_row(place, row, weight, math.prod(a.size for a in axes))
    return _by_row(row, place, weight, math.prod(len(a.rows) for a in axes))


@lru_cache(maxsize=128)
def _sums(axes, transposed, dtype):
    """Return the name of the kernel for weighted sums along axes, and its table."""
    table = _weights(axes, transposed, dtype)
    inputs = math.prod(len(a.rows) if transposed else a.size for a in axes)
    if np.diff(table[0]).max(initial=0) <= 1 and inputs < len(table[0]) - 1:
        return "spread", _weights(axes, not transposed, dtype)
    return "combine", table


# ---- the primitives: x is (M, N, positions, C) --------------------------------------------------


def _kernels():
    from skdeep._kernels.cpu import pool

    return pool


def _positions(x, n):
    return (*shape(x)[:2], n, shape(x)[-1])


def _lower_resample(args, outs, axes, transposed):
    name, table = _sums(axes, transposed, outs[0].dtype)
    return member_call(getattr(_kernels(), name), (args[0], *table), outs)


_resample = Primitive(
    "resample",
    shape=lambda x, axes, transposed: _positions(
        x, math.prod(a.size if transposed else len(a.rows) for a in axes)
    ),
    lower=_lower_resample,
)
linear_op(
    _resample,
    lambda ct, x, axes, transposed: _resample(ct, axes=axes, transposed=not transposed),
)


def _lower_max_pool(args, outs, geometry):
    kernel = _kernels().max_pool[outs[1].dtype.name]
    return member_call(kernel, (args[0], *_windows(geometry, False)), outs)


def _lower_unpool(args, outs, geometry):
    g, k = geometry, _kernels()
    reach = zip(g.stride, g.kernel, g.dilation, strict=True)
    apart = all(s > (n - 1) * d for s, n, d in reach)
    kernel = (k.unpool_apart if apart else k.unpool)[args[1].dtype.name]
    return member_call(kernel, (*args, *_windows(g, not apart)), outs)


def _lower_pool_take(args, outs, geometry):
    kernel = _kernels().pool_take[args[1].dtype.name]
    return member_call(kernel, (*args, *_windows(geometry, False)), outs)


_unpool = Primitive(
    "unpool",
    shape=lambda ct, index, geometry: _positions(ct, math.prod(geometry.spatial)),
    dtype=first_dtype,
    lower=_lower_unpool,
)
_pool_take = Primitive(
    "pool_take",
    shape=lambda x, index, geometry: shape(index),
    dtype=first_dtype,
    lower=_lower_pool_take,
)
_unpool.rules(
    lambda ct, ans, x, index, geometry: [lambda: _pool_take(ct, index, geometry=geometry), None],
    lambda tangents, ans, x, index, geometry: _unpool(tangents[0], index, geometry=geometry),
)
_pool_take.rules(
    lambda ct, ans, x, index, geometry: [lambda: _unpool(ct, index, geometry=geometry), None],
    lambda tangents, ans, x, index, geometry: _pool_take(tangents[0], index, geometry=geometry),
)


def _max_pool(places):
    """Return the primitive that gives maxima and their places, of one dtype."""
    return Primitive(
        f"max_pool_{places}",
        n_out=2,
        shape=lambda x, geometry: (_positions(x, math.prod(geometry.out)),) * 2,
        dtype=lambda x: (x.dtype, np.dtype(places)),
        lower=_lower_max_pool,
    ).rules(
        lambda cts, ans, x, geometry: [lambda: _unpool(cts[0], ans[1], geometry=geometry)],
        lambda tangents, ans, x, geometry: (
            _pool_take(tangents[0], ans[1], geometry=geometry),
            None,
        ),
    )


_max_pool_short, _max_pool_long = _max_pool("uint8"), _max_pool("int32")


# ---- the functions ------------------------------------------------------------------------------


def check_images(x):
    """Refuse what is no batch of images (or signals, or volumes) with a member axis."""
    s, dtype = shape(x), getattr(x, "dtype", None)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"x has dtype {dtype or type(x)}; pass a float32 or float64 array")
    if not 4 <= len(s) <= 6:
        raise ValueError(
            f"x has shape {s}; it must be (members, samples, *spatial, channels) with one, two or "
            "three spatial dimensions"
        )


def pool_geometry(spatial, size, stride=None, padding="valid"):
    """Check and complete the parameters of a pooling window.

    Parameters
    ----------
    spatial : tuple of int
        The spatial shape of the input.
    size, stride, padding
        As in `max_pool`.

    Returns
    -------
    Geometry

    Raises
    ------
    TypeError, ValueError
        As `skdeep.autodiff.ops.conv.geometry`, and if a window may stand wholly in the padding.

    Examples
    --------
    >>> from skdeep.autodiff.ops.pool import pool_geometry
    >>> pool_geometry((28, 28), 3, 2).out
    (13, 13)
    """
    stride = size if stride is None else stride
    g = geometry(spatial, size, stride=stride, padding=padding, name="size")
    if any(max(p) >= k for p, k in zip(g.padding, g.kernel, strict=True)):
        raise ValueError(
            f"padding={padding!r} with size={size!r} leaves windows without a cell of the image; "
            "the padding must be smaller than the window"
        )
    return g


def _mapped(primitive, x, spatial, **kw):
    """Apply a primitive with positions in one axis."""
    s = shape(x)
    y = primitive(reshape(x, (*s[:2], math.prod(s[2:-1]), s[-1])), **kw)
    y = y[0] if primitive.n_out > 1 else y
    return reshape(y, (*s[:2], *spatial, s[-1]))


def max_pool(x, *, size, stride=None, padding="valid"):
    r"""Return the largest value in each window of an image.

    Parameters
    ----------
    x : array of shape (n_members, n_samples, \*spatial, n_channels)
        The input, float32 or float64, with one to three spatial dimensions.
    size : int or tuple of int
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the image, which no maximum is taken of. "valid" has none; "same" gives
        ceil(spatial / stride) windows.

    Returns
    -------
    array of shape (n_members, n_samples, \*out, n_channels)
        A NaN in a window is its maximum. The cotangent of a maximum goes to the first cell in
        row-major order that holds it.

    Raises
    ------
    TypeError
        If `x` is not a floating array, or a parameter not made of integers.
    ValueError
        If a number is out of range, or a window does not fit.

    References
    ----------
    D. Scherer, A. Mueller and S. Behnke, "Evaluation of pooling operations in convolutional
    architectures for object recognition", ICANN 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.pool import max_pool
    >>> x = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0]).reshape(1, 1, 6, 1)
    >>> max_pool(x, size=2).ravel(), max_pool(x, size=3, stride=1).ravel()
    (array([3., 4., 9.]), array([4., 4., 5., 9.]))
    """
    check_images(x)
    g = pool_geometry(shape(x)[2:-1], size, stride, padding)
    short = math.prod(g.kernel) <= 255
    return _mapped(_max_pool_short if short else _max_pool_long, x, g.out, geometry=g)


@lru_cache(maxsize=256)
def _mean_axis(n, size, stride, before, out):
    """Return the means over windows along an axis, of the cells inside."""
    rows = []
    for first in range(-before, out * stride - before, stride):
        cells = range(max(first, 0), min(first + size, n))
        rows.append(tuple((i, 1.0 / len(cells)) for i in cells))
    return AxisMap(n, tuple(rows))


def average_pool(x, *, size, stride=None, padding="valid"):
    r"""Return the mean of the cells of the image in each window.

    Parameters
    ----------
    x : array of shape (n_members, n_samples, \*spatial, n_channels)
        The input, float32 or float64, with one to three spatial dimensions.
    size : int or tuple of int
        The window.
    stride : int or tuple of int, default=None
        The steps of the window; None for `size`.
    padding : {"valid", "same"}, int, tuple of int or of (before, after), default="valid"
        Cells around the image; they count in no mean.

    Returns
    -------
    array of shape (n_members, n_samples, \*out, n_channels)

    Raises
    ------
    TypeError, ValueError
        As in `max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.pool import average_pool
    >>> x = np.arange(5.0).reshape(1, 1, 5, 1)
    >>> average_pool(x, size=2, padding="same").ravel()
    array([0.5, 2.5, 4. ])
    """
    check_images(x)
    g = pool_geometry(shape(x)[2:-1], size, stride, padding)
    steps = zip(g.spatial, g.kernel, g.stride, [p for p, _ in g.padding], g.out, strict=True)
    axes = [_mean_axis(*step) for step in steps]
    if math.prod(g.kernel) <= _SEPARATE:
        return resample(x, axes)
    for i in range(len(axes))[::-1]:  # along the rows first, whose cells lie side by side
        x = resample(x, [axes[j] if j == i else None for j in range(len(axes))])
    return x


def resample(x, axes):
    r"""Return weighted sums of positions along each spatial axis.

    Parameters
    ----------
    x : array of shape (n_members, n_samples, \*spatial, n_channels)
        The input, float32 or float64.
    axes : sequence of AxisMap or None
        What each spatial axis becomes; None leaves it as it is.

    Returns
    -------
    array of shape (n_members, n_samples, \*out, n_channels)
        ``out[..., i, j, :]`` is the sum of ``w * v * x[..., p, q, :]`` over the pairs (p, w) of
        row i of the first axis and (q, v) of row j of the second.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff.ops.pool import AxisMap, resample
    >>> differences = AxisMap(3, (((0, -1.0), (1, 1.0)), ((1, -1.0), (2, 1.0))))
    >>> resample(np.array([1.0, 4.0, 9.0]).reshape(1, 1, 3, 1), [differences]).ravel()
    array([3., 5.])
    """
    s = shape(x)
    spatial = tuple(n if a is None else len(a.rows) for n, a in zip(s[2:-1], axes, strict=True))
    moving = [i for i, a in enumerate(axes) if a is not None]
    if not moving:
        return x
    # What stands before the moving axes joins the samples, what stands behind the channels.
    first, last = 2 + moving[0], 3 + moving[-1]
    flat = (s[0], math.prod(s[1:first]), math.prod(s[first:last]), math.prod(s[last:]))
    axes = tuple(a or _still(n) for n, a in zip(s[first:last], axes[first - 2 :], strict=False))
    return reshape(
        _resample(reshape(x, flat), axes=axes, transposed=False), (*s[:2], *spatial, s[-1])
    )


@lru_cache(maxsize=64)
def _still(n):
    """Return the map that leaves an axis of n places as it is."""
    return AxisMap(n, tuple(((i, 1.0),) for i in range(n)))
