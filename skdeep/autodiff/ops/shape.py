"""Shape operations, indexing and sums: everything that is linear and moves elements."""

import math
import operator

import numpy as np

from skdeep.autodiff._program import root
from skdeep.autodiff._trace import Primitive, ndim, register, shape, total
from skdeep.autodiff.ops._implements import as_array, implements


def linear_op(p, *vjps):
    """Attach the rules of a primitive that is linear in each differentiable argument.

    ``vjps[i](ct, *args, **kw)`` is argument i's cotangent; None where it is not differentiated.
    The JVP is the operation itself on tangents.
    """

    def vjp(ct, ans, *a, **k):
        return [
            v and (lambda v=v, x=x: match(v(ct, *a, **k), x)) for v, x in zip(vjps, a, strict=True)
        ]

    def jvp(tangents, ans, *a, **k):
        return total(
            [None if t is None else p(*a[:i], t, *a[i + 1 :], **k) for i, t in enumerate(tangents)]
        )

    return p.rules(vjp, jvp)


# ---- dtypes -----------------------------------------------------------------------------------


def _lower_astype(args, outs):
    return (lambda x, out: np.copyto(out, x, casting="unsafe")), (args[0], outs[0])


def _astype_primitive(name):
    return Primitive(
        name, shape=lambda x, dtype: shape(x), dtype=lambda x, dtype: dtype, lower=_lower_astype
    )


_astype = linear_op(_astype_primitive("astype"), lambda ct, x, dtype: ct, None)
_astype_discrete = _astype_primitive("astype_discrete")


@register("astype")
def cast(x, dtype):
    """Convert to another dtype; the result is a constant unless that dtype is floating."""
    dtype = np.dtype(dtype)
    if getattr(x, "dtype", None) == dtype:
        return x
    if dtype.kind == "c":
        raise TypeError("a traced array cannot become complex; skdeep.autodiff is real")
    return (_astype if dtype.kind == "f" else _astype_discrete)(as_array(x), dtype)


@implements(*([np.astype] if hasattr(np, "astype") else []), takes=["dtype"])
def _numpy_astype(x, dtype, *, copy=None):
    return cast(x, dtype)


def match(g, x):
    """Return a cotangent (or tangent) in the dtype of what it belongs to."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or dtype.kind != "f" or getattr(g, "dtype", dtype) == dtype:
        return g
    return cast(g, dtype)


# ---- axes -------------------------------------------------------------------------------------


def normal_axes(axis, n):
    """Return axes as a tuple of non-negative integers; all of them for None."""
    if axis is None:
        return tuple(range(n))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    for a in axes:
        if not -n <= a < n:
            raise ValueError(f"axis {a} is out of bounds for an array with {n} axes")
    axes = tuple(operator.index(a) % n for a in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis={axis} names an axis twice")
    return axes


def kept(s, axes):
    """Return the shape of a reduction with ``keepdims=True``."""
    return tuple(1 if i in axes else d for i, d in enumerate(s))


def reduced(x, axis, keepdims):
    """Return the shape of a reduction over a tuple of axes."""
    s = shape(x)
    return kept(s, axis) if keepdims else tuple(d for i, d in enumerate(s) if i not in axis)


def spread(ct, x, axis):
    """Return what a reduction gave (or its cotangent), broadcast to the shape of its input."""
    return broadcast_to(reshape(ct, kept(shape(x), axis)), shape(x))


# ---- sums -------------------------------------------------------------------------------------


def _lower_sum(args, outs, axis, keepdims):
    (x,) = args
    if x.dtype in (np.float32, np.float64) and not keepdims and x.flags.c_contiguous:
        from skdeep._kernels.cpu import elementwise as kernels

        if axis == (x.ndim - 2,) and x.ndim in (2, 3):
            out = outs[0] if x.ndim == 3 else outs[0][None]
            return kernels.column_sum[x.dtype], (x if x.ndim == 3 else x[None], out)
        if axis == (1,) and x.ndim == 2:
            return kernels.row_sum[x.dtype], (x, outs[0])
    return np.add.reduce, (x, axis, None, outs[0], keepdims)


def _sum_dtype(x):
    # NumPy sums booleans and short integers in long ones.
    return x.dtype if x.dtype.kind == "f" else np.add.reduce(np.empty(0, x.dtype)).dtype


sum_p = linear_op(
    Primitive("sum", lower=_lower_sum, shape=reduced, dtype=_sum_dtype),
    lambda ct, x, axis, keepdims: spread(ct, x, axis),
)


@implements(np.sum)
def sum_(a, axis=None, dtype=None, out=None, keepdims=False):
    """Sum over axes."""
    return sum_p(a, axis=normal_axes(axis, ndim(a)), keepdims=bool(keepdims))


def sum_to(x, s):
    """Sum over the axes that broadcasting had added or stretched."""
    sx = shape(x)
    if sx == s:
        return x
    if len(sx) < len(s) or np.broadcast_shapes(sx, s) != sx:
        return broadcast_to(x, s)
    lead = len(sx) - len(s)
    stretched = [i + lead for i, d in enumerate(s) if d != sx[i + lead]]
    return reshape(sum_p(x, axis=(*range(lead), *stretched), keepdims=False), s)


# ---- views ------------------------------------------------------------------------------------


def _spread_view(x, shape):
    b = np.broadcast_to(x, shape)
    # Numba's types know "read-only": a broadcast view is as writable as what it views.
    b.flags.writeable = root(x).flags.writeable
    return b


def _view_index(x, key):
    # An Ellipsis keeps a fully indexed element a 0-d view.
    key = key if type(key) is tuple else (key,)
    return x[key if any(k is Ellipsis for k in key) else (*key, ...)]


_reshape = linear_op(
    Primitive("reshape", view=lambda x, shape: np.reshape(x, shape)),
    lambda ct, x, shape: reshape(ct, x.shape),
)
_transpose = linear_op(
    Primitive("transpose", view=lambda x, axes: np.transpose(x, axes)),
    lambda ct, x, axes: transpose(ct, tuple(int(i) for i in np.argsort(axes))),
)
_broadcast = linear_op(
    Primitive("broadcast_to", view=_spread_view), lambda ct, x, shape: sum_to(ct, np.shape(x))
)
index = linear_op(
    Primitive("index", view=_view_index),
    lambda ct, x, key: unindex(ct, key=key, shape=shape(x)),
)


def put(x, out, key):
    """Add `x` into zeros at the places that a key names."""
    out[...] = 0
    keys = key if type(key) is tuple else (key,)
    if all(k is None or k is Ellipsis or isinstance(k, int | np.integer | slice) for k in keys):
        out[key] = x  # no place is named twice
    else:
        np.add.at(out, key, x)


unindex = linear_op(
    Primitive(
        "unindex",
        shape=lambda ct, key, shape: shape,
        lower=lambda a, o, key, shape: (lambda x, out: put(x, out, key), (a[0], o[0])),
    ),
    lambda ct, x, key, shape: index(ct, key=key),
)


def as_shape(s):
    """Return a shape as a tuple of integers."""
    if type(s) is tuple:
        return s
    return (operator.index(s),) if np.ndim(s) == 0 else tuple(operator.index(d) for d in s)


def reshape(x, shape_, order="C"):
    """Return the array with another shape."""
    new = as_shape(shape_)
    if -1 in new:
        rest = -int(np.prod(new))
        size = int(np.prod(shape(x)))
        new = tuple(size // max(rest, 1) if d == -1 else d for d in new)
    if order == "F":
        return transpose(reshape(transpose(x), new[::-1]))
    if order != "C":
        raise TypeError(f"numpy.reshape of a traced array: order={order!r} must be 'C' or 'F'")
    return x if shape(x) == new else _reshape(x, shape=new)


@implements(np.reshape)
def _numpy_reshape(a, shape, order="C", *, copy=None):
    return reshape(a, shape, order)


@implements(np.transpose, np.permute_dims)
def transpose(a, axes=None):
    """Permute axes."""
    n = ndim(a)
    same = tuple(range(n))
    axes = same[::-1] if axes is None else normal_axes(axes, n)
    if len(axes) != n:
        raise ValueError(f"numpy.transpose: axes={axes} do not fit an array with {n} axes")
    return a if axes == same else _transpose(a, axes=axes)


def broadcast_to(x, shape_):
    """Broadcast to a shape."""
    shape_ = as_shape(shape_)
    return x if shape(x) == shape_ else _broadcast(x, shape=shape_)


@implements(np.broadcast_to)
def _numpy_broadcast_to(array, shape):
    return broadcast_to(array, shape)


def swap(x):
    """Swap the last two axes."""
    n = ndim(x)
    return _transpose(x, axes=(*range(n - 2), n - 1, n - 2))


# ---- NumPy's moves of axes --------------------------------------------------------------------


@implements(np.ravel)
def ravel(a, order="C"):
    """Return the array as one axis."""
    return reshape(a, (-1,), order)


@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    """Swap two axes."""
    axes = list(range(ndim(a)))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(a, axes)


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    """Move axes to new places; the others keep their order."""
    n = ndim(a)
    source, destination = normal_axes(source, n), normal_axes(destination, n)
    axes = [i for i in range(n) if i not in source]
    for to, frm in sorted(zip(destination, source, strict=True)):
        axes.insert(to, frm)
    return transpose(a, axes)


@implements(np.rollaxis)
def rollaxis(a, axis, start=0):
    """Move an axis back until it stands before `start`."""
    n = ndim(a)
    (axis,) = normal_axes(axis, n)
    start = start + n if start < 0 else start
    return moveaxis(a, axis, start - 1 if start > axis else start)


@implements(np.expand_dims)
def expand_dims(a, axis):
    """Insert axes of length one."""
    n = ndim(a) + (len(axis) if isinstance(axis, tuple | list) else 1)
    new, old = normal_axes(axis, n), iter(shape(a))
    return reshape(a, tuple(1 if i in new else next(old) for i in range(n)))


@implements(np.squeeze)
def squeeze(a, axis=None):
    """Drop axes of length one."""
    s = shape(a)
    if axis is None:
        return reshape(a, tuple(d for d in s if d != 1))
    axes = normal_axes(axis, len(s))
    if any(s[i] != 1 for i in axes):
        raise ValueError(f"numpy.squeeze: axis={axis} has a length other than one in shape {s}")
    return reshape(a, tuple(d for i, d in enumerate(s) if i not in axes))


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x):
    """Swap the last two axes."""
    return swap(x)


def _atleast(n, *arrays):
    places = {1: ((1,),), 2: ((1, 1), (1, None)), 3: ((1, 1, 1), (1, None, 1), (None, None, 1))}

    def raised(a):
        a = as_array(a)
        if ndim(a) >= n:
            return a
        sizes = iter(shape(a))
        return reshape(a, tuple(d or next(sizes) for d in places[n][ndim(a)]))

    out = tuple(raised(a) for a in arrays)
    return out if len(out) != 1 else out[0]


@implements(np.atleast_1d)
def atleast_1d(*arrays):
    """Return arrays with one axis at least."""
    return _atleast(1, *arrays)


@implements(np.atleast_2d)
def atleast_2d(*arrays):
    """Return arrays with two axes at least."""
    return _atleast(2, *arrays)


@implements(np.atleast_3d)
def atleast_3d(*arrays):
    """Return arrays with three axes at least."""
    return _atleast(3, *arrays)


@implements(np.broadcast_arrays)
def broadcast_arrays(*arrays):
    """Broadcast arrays against each other."""
    s = np.broadcast_shapes(*(shape(a) for a in arrays))
    return tuple(broadcast_to(as_array(a), s) for a in arrays)


@implements(np.copy)
def copy(a, order=None):
    """Return the array itself: a traced array is never written to."""
    return a


# ---- joining ----------------------------------------------------------------------------------


def _joined_shape(*arrays, axis):
    s = [shape(a) for a in arrays]
    if any(len(t) != len(s[0]) or kept(t, (axis,)) != kept(s[0], (axis,)) for t in s):
        raise ValueError(f"numpy.concatenate: shapes {s} differ beside axis {axis}")
    return (*s[0][:axis], sum(t[axis] for t in s), *s[0][axis + 1 :])


def _matrices(arrays, axis):
    """Return arrays as matrices whose columns are all from the axis on; None where they are not.

    None as well where the compiled kernels do not take them.
    """
    dtype = arrays[-1].dtype
    plain = dtype in (np.float32, np.float64) and all(
        a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable and a.size for a in arrays
    )
    return [a.reshape(math.prod(a.shape[:axis]), -1) for a in arrays] if plain else None


#: Arrays that one call of the kernel joins.
_JOINED = 6


def _lower_concatenate(args, outs, axis):
    matrices = _matrices([*args, *outs], axis) if len(args) <= _JOINED else None
    if matrices is None:
        return (lambda *a: np.concatenate(a[:-1], axis, out=a[-1])), (*args, outs[0])
    from skdeep._kernels.cpu.elementwise import concatenate as kernel

    *given, out = matrices
    none = [out[:, :0]] * (_JOINED - len(given))
    return kernel[out.dtype], (*given, *none, out)


def _lower_part(args, outs, start, stop, axis):
    matrices = _matrices([*args, *outs], axis)
    if matrices is None:
        key = (*(slice(None),) * axis, slice(start, stop))
        return (lambda x, out: np.copyto(out, x[key])), (args[0], outs[0])
    # A slice along an axis is a run of columns of the matrix from that axis on.
    from skdeep._kernels.cpu.elementwise import take_columns

    x, out = matrices
    return take_columns[out.dtype], (x, start * (out.shape[1] // (stop - start)), out)


def _part_shape(x, start, stop, axis):
    return (*shape(x)[:axis], stop - start, *shape(x)[axis + 1 :])


def _part_vjp(ct, ans, x, start, stop, axis):
    def around(n):
        s = shape(x)
        return np.zeros((*s[:axis], n, *s[axis + 1 :]), x.dtype)

    ends = around(start), around(shape(x)[axis] - stop)
    return [lambda: match(_concatenate(ends[0], ct, ends[1], axis=axis), x)]


#: A copy of the part of an array from `start` to `stop` along an axis.
_part = Primitive("part", shape=_part_shape, lower=_lower_part)
_part.rules(_part_vjp, lambda tangents, ans, x, **kw: match(_part(tangents[0], **kw), ans))


def _concatenate_vjp(ct, ans, *arrays, axis):
    ends = np.cumsum([shape(a)[axis] for a in arrays]).tolist()
    return [
        lambda a=a, end=end: match(_part(ct, start=end - shape(a)[axis], stop=end, axis=axis), a)
        for a, end in zip(arrays, ends, strict=True)
    ]


def _concatenate_jvp(tangents, ans, *arrays, axis):
    parts = [
        np.zeros(shape(a), a.dtype) if t is None else t
        for t, a in zip(tangents, arrays, strict=True)
    ]
    return match(_concatenate(*parts, axis=axis), ans)


_concatenate = Primitive("concatenate", shape=_joined_shape, lower=_lower_concatenate).rules(
    _concatenate_vjp, _concatenate_jvp
)


@implements(np.concatenate, np.concat)
def concatenate(arrays, axis=0):
    """Join arrays along an axis."""
    arrays = [as_array(a) for a in arrays]
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    (axis,) = normal_axes(axis, ndim(arrays[0]))
    return _concatenate(*arrays, axis=axis)


@implements(np.stack)
def stack(arrays, axis=0):
    """Join arrays along a new axis."""
    arrays = [as_array(a) for a in arrays]
    if len({shape(a) for a in arrays}) != 1:
        raise ValueError(f"numpy.stack: shapes {[shape(a) for a in arrays]} must be equal")
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


@implements(np.vstack)
def vstack(tup):
    """Join rows."""
    return concatenate([atleast_2d(a) for a in tup], 0)


@implements(np.hstack)
def hstack(tup):
    """Join along the second axis (the first of one-dimensional arrays)."""
    arrays = [atleast_1d(a) for a in tup]
    return concatenate(arrays, 0 if ndim(arrays[0]) == 1 else 1)


@implements(np.dstack)
def dstack(tup):
    """Join along the third axis."""
    return concatenate([atleast_3d(a) for a in tup], 2)


@implements(np.column_stack)
def column_stack(tup):
    """Join columns."""
    arrays = [as_array(a) for a in tup]
    return concatenate([transpose(atleast_2d(a)) if ndim(a) < 2 else a for a in arrays], 1)


@implements(np.append)
def append(arr, values, axis=None):
    """Append values to an array."""
    return concatenate([arr, values], axis)
