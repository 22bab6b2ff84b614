"""Indexing, cutting, repeating and padding: elements copied from place to place."""

from dataclasses import dataclass

import numpy as np

from skdeep.autodiff._trace import Primitive, Tracer, Unrecordable, ndim, register, shape
from skdeep.autodiff.ops._implements import as_array, implements, name_of
from skdeep.autodiff.ops.discrete import argpartition, argsort
from skdeep.autodiff.ops.elementwise import times, where
from skdeep.autodiff.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    index,
    kept,
    match,
    moveaxis,
    normal_axes,
    put,
    ravel,
    reshape,
    swapaxes,
    unindex,
)

# ---- indexing with arrays that a recording holds ----------------------------------------------


@dataclass(frozen=True)
class _Hole:
    """The place in a key that a positional index array fills."""

    number: int


def _filled(key, indices):
    return tuple(indices[k.number] if isinstance(k, _Hole) else k for k in key)


def _gather_shape(x, *indices, key):
    # Neither what x holds nor what the indices hold matters to the shape.
    zeros = [np.broadcast_to(np.intp(0), shape(i)) for i in indices]
    return np.broadcast_to(np.uint8(0), shape(x))[_filled(key, zeros)].shape


def _lower_gather(args, outs, key):
    return (lambda x, *rest: np.copyto(rest[-1], x[_filled(key, rest)])), (*args, outs[0])


def _lower_scatter(args, outs, key, shape):
    return (lambda x, *rest: put(x, rest[-1], _filled(key, rest))), (*args, outs[0])


gather = Primitive(
    "gather", shape=_gather_shape, dtype=lambda x, *indices: x.dtype, lower=_lower_gather
)
scatter = Primitive(
    "scatter",
    shape=lambda ct, *indices, key, shape: shape,
    dtype=lambda ct, *indices: ct.dtype,
    lower=_lower_scatter,
)
gather.rules(
    lambda ct, ans, x, *i, key: [
        lambda: scatter(ct, *i, key=key, shape=shape(x)),
        *[None] * len(i),
    ],
    lambda tangents, ans, x, *i, key: gather(tangents[0], *i, key=key),
)
scatter.rules(
    lambda ct, ans, x, *i, key, shape: [lambda: gather(ct, *i, key=key), *[None] * len(i)],
    lambda tangents, ans, x, *i, key, shape: scatter(tangents[0], *i, key=key, shape=shape),
)


@register("getitem")
def getitem(x, key):
    """Index an array; index arrays may be traced by a recording."""
    keys = key if type(key) is tuple else (key,)
    if not any(type(k) is Tracer for k in keys):
        return index(x, key=key)
    traced, template = [], []
    for k in keys:
        if type(k) is Tracer:
            if k.dtype.kind == "b":
                raise Unrecordable(
                    "the shape of x[mask] depends on the traced mask; use np.where(mask, x, 0)"
                )
            if k.dtype.kind not in "iu":
                raise IndexError(f"an index array has dtype {k.dtype}; it must be of integers")
            template.append(_Hole(len(traced)))
            traced.append(k)
        else:
            template.append(k)
    return gather(x, *traced, key=tuple(template))


def along(axis, n, key):
    """Return a key that indexes one axis of `n`."""
    return (*(slice(None),) * axis, key, *(slice(None),) * (n - axis - 1))


def cut(x, axis, start, stop=None, step=None):
    """Return a slice along a non-negative axis."""
    return index(x, key=along(axis, ndim(x), slice(start, stop, step)))


@implements(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    """Take elements along an axis."""
    if mode != "raise":
        raise TypeError(f"numpy.take of a traced array: mode={mode!r} must be 'raise'")
    a = as_array(a)
    indices = indices if type(indices) is Tracer else np.asarray(indices)
    if axis is None:
        a, axis = ravel(a), 0
    (axis,) = normal_axes(axis, ndim(a))
    return getitem(a, along(axis, ndim(a), indices))


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """Take, in each line along an axis, the elements that its indices name."""
    arr = as_array(arr)
    if axis is None:
        arr, axis = ravel(arr), 0
    n = ndim(arr)
    (axis,) = normal_axes(axis, n)
    if ndim(indices) != n:
        raise ValueError(f"numpy.take_along_axis: indices need {n} axes, not {ndim(indices)}")
    lines = [
        np.arange(d).reshape((1,) * i + (-1,) + (1,) * (n - i - 1))
        for i, d in enumerate(shape(arr))
    ]
    return getitem(arr, (*lines[:axis], indices, *lines[axis + 1 :]))


@implements(np.compress)
def compress(condition, a, axis=None, out=None):
    """Take the elements whose condition holds; the condition is not traced."""
    return take(a, np.flatnonzero(condition), axis)


@implements(np.extract)
def extract(condition, arr):
    """Take the elements whose condition holds from the flat array."""
    return take(arr, np.flatnonzero(condition))


@implements(np.delete)
def delete(arr, obj, axis=None):
    """Leave out elements along an axis."""
    if axis is None:
        arr, axis = ravel(arr), 0
    return take(arr, np.delete(np.arange(shape(arr)[axis]), obj), axis)


@implements(np.sort, takes=["kind"])
def sort(a, axis=-1, kind=None, *, stable=None):
    """Sort; equal elements keep their order, and so do their derivatives."""
    if axis is None:
        a, axis = ravel(a), 0
    return take_along_axis(a, argsort(a, axis=axis, kind="stable"), axis)


@implements(np.partition, takes=["kind"])
def partition(a, kth, axis=-1, kind="introselect"):
    """Partition about the kth smallest element."""
    if axis is None:
        a, axis = ravel(a), 0
    return take_along_axis(a, argpartition(a, kth, axis=axis), axis)


# ---- cutting ----------------------------------------------------------------------------------


@implements(np.array_split)
def array_split(ary, indices_or_sections, axis=0):
    """Cut an array into parts along an axis, which need not be equal."""
    (axis,) = normal_axes(axis, ndim(ary))
    n = shape(ary)[axis]
    if np.ndim(indices_or_sections) == 0:
        each, extra = divmod(n, indices_or_sections)
        ends = np.cumsum([each + (i < extra) for i in range(indices_or_sections)]).tolist()
    else:
        ends = [*map(int, indices_or_sections), n]
    return [cut(ary, axis, a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


@implements(np.split)
def split(ary, indices_or_sections, axis=0):
    """Cut an array into equal parts, or at given places."""
    n, parts = shape(ary)[axis], indices_or_sections
    if np.ndim(parts) == 0 and n % parts:
        raise ValueError(f"numpy.split: {parts} equal parts do not make up the length {n}")
    return array_split(ary, parts, axis)


@implements(np.hsplit)
def hsplit(ary, indices_or_sections):
    """Cut along the second axis (the first of a one-dimensional array)."""
    return split(ary, indices_or_sections, min(1, ndim(ary) - 1))


@implements(np.vsplit)
def vsplit(ary, indices_or_sections):
    """Cut along the first axis."""
    return split(ary, indices_or_sections, 0)


@implements(np.dsplit)
def dsplit(ary, indices_or_sections):
    """Cut along the third axis."""
    return split(ary, indices_or_sections, 2)


@implements(np.unstack) if hasattr(np, "unstack") else lambda f: f
def unstack(x, /, *, axis=0):
    """Cut an array into the slices along an axis."""
    return tuple(moveaxis(x, axis, 0))


# ---- turning ----------------------------------------------------------------------------------


@implements(np.flip)
def flip(m, axis=None):
    """Reverse the order along axes."""
    axes = normal_axes(axis, ndim(m))
    key = tuple(slice(None, None, -1 if i in axes else 1) for i in range(ndim(m)))
    return index(m, key=key)


@implements(np.fliplr)
def fliplr(m):
    """Reverse the second axis."""
    return flip(m, 1)


@implements(np.flipud)
def flipud(m):
    """Reverse the first axis."""
    return flip(m, 0)


@implements(np.rot90)
def rot90(m, k=1, axes=(0, 1)):
    """Turn by quarters in the plane of two axes."""
    i, j = normal_axes(axes, ndim(m))
    if k % 4 == 0:
        return m
    if k % 4 == 2:
        return flip(m, (i, j))
    return swapaxes(flip(m, j), i, j) if k % 4 == 1 else flip(swapaxes(m, i, j), j)


@implements(np.roll)
def roll(a, shift, axis=None):
    """Shift elements along axes; what leaves at the end comes in at the start."""
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), shape(a))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = np.broadcast_to(shift, len(axes)).tolist()
    for by, i in zip(shifts, axes, strict=True):
        (i,) = normal_axes(i, ndim(a))
        n = shape(a)[i]
        by = by % n if n else 0
        if by:
            a = concatenate([cut(a, i, n - by), cut(a, i, 0, n - by)], i)
    return a


# ---- repeating --------------------------------------------------------------------------------


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    """Repeat each element."""
    if axis is None:
        a, axis = ravel(a), 0
    (axis,) = normal_axes(axis, ndim(a))
    s = shape(a)
    if np.size(repeats) != 1:
        return take(a, np.repeat(np.arange(s[axis]), repeats), axis)
    times = int(np.reshape(repeats, ()))
    wide = broadcast_to(expand_dims(a, axis + 1), (*s[: axis + 1], times, *s[axis + 1 :]))
    return reshape(wide, (*s[:axis], s[axis] * times, *s[axis + 1 :]))


@implements(np.tile)
def tile(A, reps):
    """Lay copies of the array side by side."""
    reps = tuple(np.atleast_1d(reps).tolist())
    n = max(ndim(A), len(reps))
    reps, s = (1,) * (n - len(reps)) + reps, (1,) * (n - ndim(A)) + shape(A)
    thin = reshape(A, tuple(d for k in s for d in (1, k)))
    wide = broadcast_to(thin, tuple(d for pair in zip(reps, s, strict=True) for d in pair))
    return reshape(wide, tuple(r * k for r, k in zip(reps, s, strict=True)))


@implements(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    """Return coordinate matrices from coordinate vectors."""
    n = len(xi)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else range(n)
    thin = [
        reshape(as_array(x), tuple(-1 if j == place else 1 for j in range(n)))
        for x, place in zip(xi, order, strict=True)
    ]
    s = np.broadcast_shapes(*(shape(x) for x in thin))
    return tuple(thin if sparse else (broadcast_to(x, s) for x in thin))


# ---- padding ----------------------------------------------------------------------------------


def _inside(x, widths):
    return tuple(slice(a, a + d) for (a, _), d in zip(widths, shape(x), strict=True))


def _lower_pad(args, outs, widths, value):
    key = _inside(args[0], widths)

    def fill(x, out):
        out[...] = value
        out[key] = x

    return fill, (args[0], outs[0])


_pad = Primitive(
    "pad",
    shape=lambda x, widths, value: tuple(
        a + d + b for (a, b), d in zip(widths, shape(x), strict=True)
    ),
    lower=_lower_pad,
).rules(
    lambda ct, ans, x, widths, value: [lambda: index(ct, key=_inside(x, widths))],
    lambda tangents, ans, x, widths, value: _pad(tangents[0], widths=widths, value=0),
)


@implements(np.pad)
def pad(array, pad_width, mode="constant", *, constant_values=0, reflect_type="even"):
    """Pad with a constant, or by the modes that copy elements."""
    n = ndim(array)
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(i, pad_width.get(i - n, (0, 0))) for i in range(n)]
    widths = tuple(map(tuple, np.broadcast_to(pad_width, (n, 2)).tolist()))
    if mode == "constant" and np.ndim(constant_values) == 0:
        return _pad(array, widths=widths, value=constant_values)
    copying = ("edge", "reflect", "symmetric", "wrap")
    if mode not in copying or reflect_type != "even":
        raise TypeError(
            f"numpy.pad of a traced array: mode={mode!r} must be one of {copying} with "
            "reflect_type='even', or 'constant' with one constant"
        )
    for axis, width in enumerate(widths):
        if width != (0, 0):
            array = take(array, np.pad(np.arange(shape(array)[axis]), width, mode), axis)
    return array


# ---- diagonals and triangles ------------------------------------------------------------------


@implements(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    """Return the diagonals of the matrices in two axes."""
    a = moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = shape(a)[-2:]
    start = max(-offset, 0)
    i = np.arange(start, max(start, min(rows, columns - offset)))
    return index(a, key=(..., i, i + offset))


@implements(np.linalg.diagonal)
def _linalg_diagonal(x, /, *, offset=0):
    return diagonal(x, offset, -2, -1)


@implements(np.diag)
def diag(v, k=0):
    """Return the diagonal of a matrix, or the matrix of a diagonal."""
    if ndim(v) == 2:
        return diagonal(v, k)
    if ndim(v) != 1:
        raise ValueError(f"numpy.diag: the input must have 1 or 2 axes, not {ndim(v)}")
    n = shape(v)[0] + abs(k)
    i = np.arange(shape(v)[0])
    return unindex(v, key=(i + max(-k, 0), i + max(k, 0)), shape=(n, n))


@implements(np.diagflat)
def diagflat(v, k=0):
    """Return the matrix whose diagonal is the flat input."""
    return diag(ravel(v), k)


def diagonal_matrix(v):
    """Return the matrices with diagonals v (..., n)."""
    return times(expand_dims(v, -1), np.eye(shape(v)[-1], dtype=v.dtype))


def _lower_mask(m, k):
    rows, columns = shape(m)[-2:]
    return np.tri(rows, columns, k, bool)


@implements(np.tril)
def tril(m, k=0):
    """Return the lower triangles."""
    return where(_lower_mask(m, k), m, 0.0)


@implements(np.triu)
def triu(m, k=0):
    """Return the upper triangles."""
    return where(_lower_mask(m, k - 1), 0.0, m)


# ---- sequences --------------------------------------------------------------------------------


@implements(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """Return evenly spaced numbers between two ends."""
    fractions = np.linspace(0.0, 1.0, num, endpoint)
    span = stop - start
    s = match(np.reshape(fractions, (-1,) + (1,) * ndim(span)), span)
    out = moveaxis(start + s * span, 0, axis)
    steps = num - 1 if endpoint else num
    return (out, span / steps) if retstep else out


@implements(np.diff)
def diff(a, n=1, axis=-1, prepend=None, append=None):
    """Return the differences of neighbours."""
    a = as_array(a)
    (axis,) = normal_axes(axis, ndim(a))
    one = kept(shape(a), (axis,))
    parts = [x for x in (prepend, a, append) if x is not None]
    if len(parts) > 1:
        a = concatenate([x if ndim(x) else broadcast_to(as_array(x), one) for x in parts], axis)
    for _ in range(n):
        a = cut(a, axis, 1) - cut(a, axis, 0, -1)
    return a


def _gradient_along(f, spacing, axis):
    inner = (cut(f, axis, 2) - cut(f, axis, 0, -2)) / (2.0 * spacing)
    first = (cut(f, axis, 1, 2) - cut(f, axis, 0, 1)) / spacing
    last = (cut(f, axis, -1) - cut(f, axis, -2, -1)) / spacing
    return concatenate([first, inner, last], axis)


@implements(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    """Return central differences inside and one-sided ones at the ends."""
    axes = normal_axes(axis, ndim(f))
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    if len(spacings) != len(axes) or any(ndim(s) for s in spacings) or edge_order != 1:
        raise TypeError(
            f"{name_of(np.gradient)} of a traced array takes one number per axis as spacing, "
            "and edge_order=1"
        )
    out = [_gradient_along(f, s, i) for s, i in zip(spacings, axes, strict=True)]
    return out[0] if len(out) == 1 else tuple(out)
