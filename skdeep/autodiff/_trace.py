"""Tracers, primitives and the three interpreters: reverse, forward and recording.

A primitive knows how to allocate its result (`shape`, `dtype`), how to compute it into given
memory (`lower`), and its derivative rules, which are written in primitives. A `Trace` interprets
primitives; the trace made last is the innermost. `Recording`, when there is one, is the
outermost: what reaches it are arrays in memory, so it keeps kernel calls and computes nothing.
"""

import itertools
import math
import mmap

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

_levels = itertools.count()

#: NumPy function or ufunc -> the differentiable implementation that stands in for it.
REGISTRY = {}


class Unrecordable(RuntimeError):
    """The function looked at a value that a recording does not have (a branch, `float()`)."""


def register(*functions):
    """Make a function the traced implementation of these NumPy functions."""

    def add(implementation):
        for f in functions:
            REGISTRY[f] = implementation
        return implementation

    return add


class Tracer(NDArrayOperatorsMixin):
    """A value inside a trace.

    Parameters
    ----------
    value : ndarray or Tracer
        The value, possibly a tracer of an outer trace.
    interpreter : Trace
        The trace that made it.
    node : object
        What the interpreter keeps for it: a tape slot, a tangent, or nothing.
    """

    __slots__ = ("value", "interpreter", "node")
    __array_priority__ = 1000

    def __init__(self, value, interpreter, node=None):
        self.value, self.interpreter, self.node = value, interpreter, node

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: len(self.value.shape))
    size = property(lambda self: int(np.prod(self.value.shape)))
    T = property(lambda self: np.transpose(self))
    mT = property(lambda self: np.swapaxes(self, -1, -2))
    real = property(lambda self: self)

    def __repr__(self):
        return f"Tracer({type(self.interpreter).__name__.lower()}, {self.value!r})"

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if kwargs.pop("out", None) is not None:
            raise TypeError(
                f"in-place numpy.{ufunc.__name__} on a traced array would lose its derivative; "
                "write x = x + y instead of x += y, and leave out `out=`"
            )
        key = ufunc if method == "__call__" else (ufunc, method)
        if key not in REGISTRY:
            name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            raise TypeError(f"numpy.{name} has no derivative rule in skdeep.autodiff")
        return REGISTRY[key](*args, **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        if func not in REGISTRY:
            module = getattr(func, "__module__", None) or "numpy"
            raise TypeError(f"{module}.{func.__name__} has no derivative rule in skdeep.autodiff")
        return REGISTRY[func](*args, **kwargs)

    def __setitem__(self, key, value):
        raise TypeError(
            "a traced array cannot be written to (its derivative would be silently wrong); "
            "build the result with np.where, np.concatenate or np.stack"
        )

    def __array__(self, *args, **kwargs):
        raise Unrecordable(
            "a traced value cannot become an ndarray: it was written into an array, put into "
            "np.array([...]) (use np.stack or np.concatenate), or given to a function that "
            "skdeep.autodiff does not know"
        )

    def __bool__(self):
        return bool(self.interpreter.look(self))

    def __float__(self):
        raise Unrecordable(
            "float() or int() of a traced value loses its derivative; "
            "use NumPy functions (np.sin, not math.sin)"
        )

    __int__ = __index__ = __complex__ = __float__
    __hash__ = None

    def item(self):
        """Refuse, as `float` does: a Python number carries no derivative."""
        return float(self)

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        return REGISTRY["getitem"](self, key)

    def reshape(self, *shape, order="C"):
        """Return the array with another shape."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes):
        """Return the array with its axes permuted."""
        axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return np.transpose(self, axes or None)

    def flatten(self, order="C"):
        """Return the array as one axis."""
        return np.ravel(self, order)

    def astype(self, dtype, **kwargs):
        """Return the array converted to another floating dtype."""
        return REGISTRY["astype"](self, dtype)

    def copy(self):
        """Return itself: a traced array is never written to."""
        return self


def _method(name):
    def call(self, *args, **kwargs):
        return getattr(np, name)(self, *args, **kwargs)

    call.__name__, call.__doc__ = name, f"numpy.{name} of this array."
    return call


for _name in (
    "all any argmax argmin argsort clip cumprod cumsum diagonal dot max mean min nonzero prod "
    "ravel repeat round sort squeeze std sum swapaxes take trace var"
).split():
    setattr(Tracer, _name, _method(_name))


#: Bytes from which on an array that is never written gets pages of its own.
_LARGE = 1 << 20


def unwritten(shape, dtype):
    """Return an array of which only shape and place count; it takes addresses, but no memory.

    On the heap the headers of blocks are written, and a huge page around each becomes memory.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if nbytes < _LARGE or not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(shape, dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return np.ndarray(shape, dtype, mmap.mmap(-1, nbytes, flags=flags))


class Primitive:
    """An operation that the interpreters know.

    Array arguments are positional; static parameters are keywords.

    Parameters
    ----------
    name : str
        The name shown in traces and programs.
    shape : callable
        ``shape(*args, **kw)`` gives the shape of the output, or a tuple of shapes when
        ``n_out > 1``.
    lower : callable
        ``lower(args, outs, **kw)`` gives ``(function, arguments)`` that compute the outputs into
        the arrays `outs`. Eager evaluation and replay share it.
    view : callable
        ``view(x, **kw)`` instead of `shape` and `lower`, where the result may share memory.
    dtype : callable
        ``dtype(*args)`` gives the outputs' dtype; NumPy's promotion where not given. It may
        return a tuple of `n_out` dtypes.
    n_out : int, default=1
        The number of outputs; more than one make a tuple.
    inplace : bool or tuple of int, default=False
        Whether the first output may overwrite an input of its shape and dtype: any, or those of
        the positions given.
    """

    def __init__(
        self, name, *, shape=None, lower=None, view=None, dtype=None, n_out=1, inplace=False
    ):
        self.name, self.shape, self.lower, self.view = name, shape, lower, view
        self.n_out, self.inplace = n_out, inplace
        self.dtype = dtype or promoted
        self.vjp = self.jvp = None

    def __repr__(self):
        return f"Primitive({self.name!r})"

    def rules(self, vjp=None, jvp=None):
        """Attach the derivative rules and return the primitive.

        ``vjp(ct, ans, *args, **kw)`` gives one thunk (or None) per argument: the cotangent of
        that argument. ``jvp(tangents, ans, *args, **kw)`` gives the output's tangent; a tangent
        that is None is zero. With several outputs, `ct`, `ans` and the result are tuples.
        """
        self.vjp, self.jvp = vjp, jvp
        return self

    def __call__(self, *args, **kw):
        top = innermost(args)
        return self.evaluate(args, kw)[0] if top is None else top.process(self, args, kw)

    def evaluate(self, args, kw, execute=True):
        """Return the result, and the arrays allocated for it (none for a view)."""
        if self.view is not None:
            args = [np.asarray(args[0]), *args[1:]]
            out = self.view(*args, **kw)
            if out.base is not None and np.may_share_memory(out, args[0]):
                return out, []
            if not execute and out.base is not None:  # a copy inside a view of it: own the copy
                out = np.empty_like(out)
            return out, [out]
        shapes, dtypes = self.shape(*args, **kw), self.dtype(*args)
        if self.n_out == 1:
            shapes = [shapes]
        if not isinstance(dtypes, tuple):
            dtypes = [dtypes] * self.n_out
        make = np.empty if execute else unwritten
        outs = [make(s, d) for s, d in zip(shapes, dtypes, strict=True)]
        if execute:
            f, arguments = self.lower_call(args, outs, kw)
            f(*arguments)
        return (tuple(outs) if self.n_out > 1 else outs[0]), outs

    def lower_call(self, args, outs, kw):
        """Return ``(function, arguments)`` that compute the primitive into `outs`."""
        if self.view is not None:
            return (lambda x, out: np.copyto(out, self.view(x, **kw))), (args[0], outs[0])
        return self.lower(args, outs, **kw)


def promoted(*args):
    """Return the dtype that NumPy's promotion gives; Python numbers are weak."""
    return np.result_type(*[getattr(x, "dtype", x) for x in args])


def first_dtype(x, *_):
    """Return the first argument's dtype."""
    return x.dtype


def innermost(args):
    """Return the trace made last among the arguments' traces, or None."""
    top = None
    for a in args:
        if type(a) is Tracer and (top is None or a.interpreter.level > top.level):
            top = a.interpreter
    return top


def shape(x):
    """Return the shape of an array, tracer or number."""
    return x.shape if hasattr(x, "shape") else np.shape(x)


def ndim(x):
    """Return the number of axes of an array, tracer or number."""
    return len(shape(x))


def total(terms):
    """Return the sum of the terms that are not None (at least one is not)."""
    terms = [t for t in terms if t is not None]
    out = terms[0]
    for t in terms[1:]:
        out = out + t
    return out


class Trace:
    """An interpreter of primitives. Deeper traces have higher levels."""

    def __init__(self):
        self.level = next(_levels)

    def own(self, a):
        """Whether `a` is a tracer of this trace."""
        return type(a) is Tracer and a.interpreter is self

    def look(self, t):
        """Return the concrete value of a tracer."""
        v = t.value
        return v.interpreter.look(v) if type(v) is Tracer else v

    def open(self, args):
        """Replace this trace's tracers by their values."""
        return [a.value if self.own(a) else a for a in args]

    def box(self, out, nodes):
        """Wrap outputs as tracers of this trace."""
        if type(out) is tuple:
            return tuple(Tracer(o, self, n) for o, n in zip(out, nodes, strict=True))
        return Tracer(out, self, nodes[0])


class Reverse(Trace):
    """A tape in order of evaluation; cotangents are kept by slot."""

    def __init__(self):
        super().__init__()
        self.tape, self.slots = [], itertools.count()

    def new(self, value):
        """Return a tracer for an input."""
        return Tracer(value, self, next(self.slots))

    def process(self, p, args, kw):
        """Evaluate a primitive one level down and put it on the tape."""
        vals = self.open(args)
        out = p(*vals, **kw)
        if p.vjp is None:
            return out
        outs = [next(self.slots) for _ in (out if type(out) is tuple else (out,))]
        ins = [a.node if self.own(a) else None for a in args]
        self.tape.append((p, vals, kw, out, ins, outs))
        return self.box(out, outs)

    def pull(self, cotangents):
        """Turn the outputs' cotangents (by slot) into those of every slot that is not consumed."""
        for p, vals, kw, out, ins, outs in reversed(self.tape):
            cts = [cotangents.pop(s, None) for s in outs]
            if all(c is None for c in cts):
                continue
            rules = p.vjp(cts if type(out) is tuple else cts[0], out, *vals, **kw)
            for slot, rule in zip(ins, rules, strict=True):
                if slot is not None and rule is not None:
                    g = rule()
                    cotangents[slot] = g if slot not in cotangents else cotangents[slot] + g
        return cotangents


class Forward(Trace):
    """Tangents carried along with the values."""

    def process(self, p, args, kw):
        """Evaluate a primitive one level down together with its tangent."""
        vals = self.open(args)
        out = p(*vals, **kw)
        if p.jvp is None:
            return out
        tangents = [a.node if self.own(a) else None for a in args]
        t = p.jvp(tangents, out, *vals, **kw)
        if type(out) is tuple:
            t = [None] * len(out) if t is None else t
            return tuple(self._carry(o, u) for o, u in zip(out, t, strict=True))
        return self._carry(out, t)

    def _carry(self, out, tangent):
        # A zero tangent ends here: rules never see tangents that are all None.
        return out if tangent is None else Tracer(out, self, tangent)


class Recording(Trace):
    """Keeps every kernel call that depends on a boxed array; computes shapes only."""

    def __init__(self):
        super().__init__()
        self.calls, self.owned = [], {}

    def look(self, t):
        """Refuse: a recording holds no values."""
        raise Unrecordable("a Python branch depends on a traced value")

    def process(self, p, args, kw):
        """Allocate a primitive's outputs and keep the call."""
        vals = self.open(args)
        if any(type(v) is Tracer for v in vals):
            raise Unrecordable("a recorded function closes over a value of an outer trace")
        out, fresh = p.evaluate(vals, kw, execute=False)
        if fresh:
            self.owned.update((id(o), o) for o in fresh)
            self.calls.append((p, vals, fresh, kw))
        return self.box(out, [None] * (len(out) if type(out) is tuple else 1))
