"""Functions without a derivative: questions about shapes, comparisons, positions.

On a traced array they give plain values. What a recording can keep is a primitive without
rules; what has a shape that depends on values looks at them, which a recording refuses.
"""

from functools import partial

import numpy as np

from skdeep.autodiff._trace import REGISTRY, Primitive, Tracer, ndim, shape
from skdeep.autodiff.ops._implements import as_array, concrete, implements
from skdeep.autodiff.ops.elementwise import broadcast_shape
from skdeep.autodiff.ops.shape import broadcast_to, cast, normal_axes, ravel, reduced

# ---- what the shape and dtype say -------------------------------------------------------------


@implements(np.shape)
def _shape(a):
    return shape(a)


@implements(np.ndim)
def _ndim(a):
    return ndim(a)


@implements(np.size)
def _size(a, axis=None):
    return a.size if axis is None else int(np.prod([a.shape[i] for i in np.atleast_1d(axis)]))


def _on_dtypes(f, *args, **kw):
    # An empty array stands for a tracer: these functions ask for nothing but its dtype.
    return f(*(np.empty(0, a.dtype) if type(a) is Tracer else a for a in args), **kw)


for _f in (np.result_type, np.min_scalar_type, np.common_type):
    REGISTRY[_f] = partial(_on_dtypes, _f)


@implements(np.iscomplexobj)
def _iscomplexobj(x):
    return False


@implements(np.isrealobj)
def _isrealobj(x):
    return True


def _filled_like(make, a, dtype, s):
    return make(shape(a) if s is None else s, a.dtype if dtype is None else dtype)


@implements(np.zeros_like, takes=["dtype"])
def zeros_like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Return zeros with the shape and dtype of an array."""
    return _filled_like(np.zeros, a, dtype, shape)


@implements(np.ones_like, takes=["dtype"])
def ones_like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Return ones with the shape and dtype of an array."""
    return _filled_like(np.ones, a, dtype, shape)


@implements(np.empty_like, takes=["dtype"])
def empty_like(prototype, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Return an array with the shape and dtype of another."""
    return _filled_like(np.empty, prototype, dtype, shape)


@implements(np.full_like, takes=["dtype"])
def full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Return a constant array; a traced constant keeps its derivative."""
    s = np.shape(a) if shape is None else shape
    return broadcast_to(cast(fill_value, a.dtype if dtype is None else dtype), s)


# ---- primitives without rules -----------------------------------------------------------------


def constant(name, f, shape_, dtype=np.bool_):
    """Return a primitive without rules that evaluates a NumPy function."""

    def lower(args, outs, **kw):
        return (lambda *a: np.copyto(a[-1], f(*a[:-1], **kw))), (*args, outs[0])

    return Primitive(name, shape=shape_, dtype=lambda *a: np.dtype(dtype), lower=lower)


def _same(x, **kw):
    return shape(x)


def _reduction(f, dtype, counting=False):
    p = constant(f.__name__, f, reduced, dtype)

    @implements(f)
    def call(a, axis=None, out=None, keepdims=False):
        return p(as_array(a), axis=normal_axes(axis, ndim(a)), keepdims=bool(keepdims))

    if counting:
        implements(f)(lambda a, axis=None, *, keepdims=False: call(a, axis, None, keepdims))
    return p


all_p = _reduction(np.all, np.bool_)
any_p = _reduction(np.any, np.bool_)
count_p = _reduction(np.count_nonzero, np.intp, counting=True)


def _position(f):
    p = constant(
        f.__name__,
        f,
        lambda x, axis, keepdims: reduced(x, (axis,), keepdims),
        np.intp,
    )

    @implements(f)
    def call(a, axis=None, out=None, *, keepdims=False):
        if axis is None:
            lead = (1,) * ndim(a) if keepdims else ()
            return np.reshape(call(ravel(a), 0), lead)
        (axis,) = normal_axes(axis, ndim(a))
        return p(a, axis=axis, keepdims=bool(keepdims))

    return p


argmax_p = _position(np.argmax)
argmin_p = _position(np.argmin)
_argsort = constant("argsort", np.argsort, _same, np.intp)
_argpartition = constant("argpartition", np.argpartition, _same, np.intp)


@implements(np.argsort, takes=["kind"])
def argsort(a, axis=-1, kind=None, *, stable=None):
    """Return the positions that sort an array."""
    if axis is None:
        a, axis = ravel(a), 0
    return _argsort(a, axis=axis, kind="stable" if stable else kind)


@implements(np.argpartition, takes=["kind"])
def argpartition(a, kth, axis=-1, kind="introselect"):
    """Return the positions that partition an array."""
    if axis is None:
        a, axis = ravel(a), 0
    return _argpartition(a, kth=kth, axis=axis)


_isclose = constant("isclose", np.isclose, lambda x, y, **kw: broadcast_shape(x, y))
_isneginf = constant("isneginf", np.isneginf, _same)
_isposinf = constant("isposinf", np.isposinf, _same)
_searchsorted = constant("searchsorted", np.searchsorted, lambda a, v, side: shape(v), np.intp)
_digitize = constant("digitize", np.digitize, lambda x, bins, right: shape(x), np.intp)


@implements(np.isclose)
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Compare within a tolerance."""
    return _isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)


implements(np.isneginf)(lambda x, out=None: _isneginf(x))
implements(np.isposinf)(lambda x, out=None: _isposinf(x))
implements(np.isreal)(lambda x: np.ones(shape(x), bool))
implements(np.iscomplex)(lambda x: np.zeros(shape(x), bool))


@implements(np.searchsorted)
def searchsorted(a, v, side="left"):
    """Return the places where values would be inserted."""
    return _searchsorted(as_array(a), as_array(v), side=side)


@implements(np.digitize)
def digitize(x, bins, right=False):
    """Return the bins of values."""
    return _digitize(as_array(x), as_array(bins), right=bool(right))


_round = Primitive(
    "round",
    shape=_same,
    lower=lambda args, outs, decimals: (
        (lambda x, out: np.round(x, decimals, out)),
        (args[0], outs[0]),
    ),
)


@implements(np.round, np.around)
def round_(a, decimals=0, out=None):
    """Round to decimals; the derivative is zero."""
    return _round(a, decimals=decimals)


implements(np.fix)(lambda x, out=None: np.trunc(x))

# ---- what needs the values --------------------------------------------------------------------


def _on_values(f, *args, **kw):
    return f(*map(concrete, args), **kw)


for _f in (
    *(np.allclose, np.array_equal, np.array_equiv, np.nonzero, np.flatnonzero, np.argwhere),
    *(np.unique, np.bincount, np.histogram),
):
    REGISTRY[_f] = partial(_on_values, _f)
