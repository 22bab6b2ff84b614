"""Operations with derivative rules of the user's own."""

import functools

import numpy as np

from skdeep.autodiff._trace import Primitive, Reverse, Tracer, Unrecordable, innermost, shape
from skdeep.autodiff._tree import flatten, leaves_like


def primitive(f=None, *, vjp=None, jvp=None, shape=None, name=None):
    """Make a differentiable operation of a function that cannot be traced.

    The function may do anything with its arrays (call SciPy, a compiled library, loops that
    write). It is never traced; the given rules stand for its derivative.

    Parameters
    ----------
    f : callable
        ``f(*arrays, **static)`` gives one array (or number), or a tuple of arrays. What is
        differentiated is positional; keywords are static.
    vjp : callable, default=None
        ``vjp(ct, ans, *arrays, **static)`` gives a tuple with the cotangent of each argument, or
        None for one that is not differentiated. `ct` is the cotangent of the output `ans`. Both
        are tuples where the output is one; a part of `ct` may then be None, which is zero. The
        reverse mode needs it.
    jvp : callable, default=None
        ``jvp(tangents, ans, *arrays, **static)`` gives the output's tangent (a tuple where the
        output is one). A tangent that is None is zero. The forward mode needs it.
    shape : callable, default=None
        ``shape(*arrays, **static)`` gives the output's shape (a tuple of shapes where the output
        is a tuple, from which it then has its length). With it the operation can be part of a
        recorded training step, and its dtype is what NumPy's promotion of the arrays gives.
    name : str, default=None
        The name in traces and errors; that of the function if None.

    Returns
    -------
    callable
        A function of the same arguments; a decorator where `f` is not given. Outside traces it
        is `f` itself.

    Raises
    ------
    NotImplementedError
        When a mode is used whose rule is missing.
    TypeError
        When a rule does not return a tuple with one entry per argument, or a keyword is traced.
    ValueError
        When a rule's result has another shape than what it belongs to.

    Notes
    -----
    Rules written in NumPy functions that `skdeep.autodiff` differentiates (and in other
    primitives, the operation itself among them) can be differentiated again.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import special
    >>> from skdeep.autodiff import grad, primitive
    >>> @primitive(vjp=lambda ct, ans, x: (ct * 2 / np.sqrt(np.pi) * np.exp(-x * x),))
    ... def erf(x):
    ...     return special.erf(x)
    >>> bool(np.isclose(grad(erf)(0.5), 2 / np.sqrt(np.pi) * np.exp(-0.25)))
    True
    """
    if f is None:
        return functools.partial(primitive, vjp=vjp, jvp=jvp, shape=shape, name=name)
    operation = _Operation(f, name or _name(f), vjp, jvp, shape)

    @functools.wraps(f)
    def call(*args, **static):
        _refuse_traced(static, operation.name)
        return f(*args, **static) if innermost(args) is None else operation(*args, **static)

    return call


def _name(f):
    return getattr(f, "__name__", None) or type(f).__name__


def _refuse_traced(static, name):
    """Raise if a keyword argument is traced."""
    for key, value in static.items():
        if any(isinstance(x, Tracer) for x in flatten(value)[0]):
            raise TypeError(f"{name}: {key}= is traced; pass what is differentiated by position")


def _per_argument(got, n, name, what):
    """Return what a backward rule gave, if it has an entry for each argument."""
    if not isinstance(got, tuple | list) or len(got) != n:
        has = f"{len(got)} entries" if isinstance(got, tuple | list) else type(got).__name__
        raise TypeError(
            f"the {what} of {name!r} must return a tuple with one cotangent (or None) for each of "
            f"its {n} argument(s), but it returned {has}"
        )
    return got


def _fitting(g, x, name, what):
    """Return a derivative if it has the shape of what it belongs to."""
    if g is None:
        return None
    g = g if isinstance(g, Tracer) else np.asarray(g)
    if g.shape != shape(x):
        raise ValueError(
            f"the {what} of {name!r} returned shape {g.shape} for an array of shape {shape(x)}"
        )
    return g


class _Operation(Primitive):
    """A primitive around an opaque function."""

    def __init__(self, f, name, vjp, jvp, shape):
        super().__init__(name, shape=shape)
        self.f, self.user_vjp, self.user_jvp = f, vjp, jvp
        self.rules(self._backward, self._forward)

    def evaluate(self, args, kw, execute=True):
        if execute:
            out = self._arrays(args, kw)
            return out, list(out) if type(out) is tuple else [out]
        if self.shape is None:
            raise Unrecordable(
                f"primitive {self.name!r} cannot be recorded: its output's shape is unknown; "
                "give primitive(..., shape=...)"
            )
        shapes, dtype = self.shape(*args, **kw), self.dtype(*args)
        several = len(shapes) > 0 and isinstance(shapes[0], tuple | list)
        outs = [np.empty(s, dtype) for s in (shapes if several else [shapes])]
        return (tuple(outs) if several else outs[0]), outs

    def lower_call(self, args, outs, kw):
        def fill(*arrays):
            got = self._arrays(args, kw)
            for out, a in zip(arrays, got if type(got) is tuple else [got], strict=True):
                if a.shape != out.shape:
                    raise ValueError(
                        f"primitive {self.name!r} gave shape {a.shape}, but shape= {out.shape}"
                    )
                out[...] = a

        return fill, tuple(outs)

    def _arrays(self, args, kw):
        """Return the function's result as an array or a tuple of arrays."""
        out = self.f(*args, **kw)
        several = isinstance(out, tuple | list)
        arrays = [np.asarray(o) for o in (out if several else [out])]
        if self.shape is not None:  # the dtype that a recording allocates
            arrays = [o.astype(self.dtype(*args), copy=False) for o in arrays]
        return tuple(arrays) if several else arrays[0]

    def _missing(self, rule, mode):
        return NotImplementedError(
            f"primitive {self.name!r} has no {rule} rule, which {mode} mode needs; "
            f"give primitive(..., {rule}=...)"
        )

    def _backward(self, ct, ans, *args, **kw):
        if self.user_vjp is None:
            raise self._missing("vjp", "reverse")
        ct = tuple(ct) if type(ans) is tuple else ct
        got = _per_argument(self.user_vjp(ct, ans, *args, **kw), len(args), self.name, "vjp")
        got = [_fitting(g, x, self.name, "vjp") for g, x in zip(got, args, strict=True)]
        return [None if g is None else (lambda g=g: g) for g in got]

    def _forward(self, tangents, ans, *args, **kw):
        if self.user_jvp is None:
            raise self._missing("jvp", "forward")
        got = self.user_jvp(tuple(tangents), ans, *args, **kw)
        if type(ans) is not tuple:
            return _fitting(got, ans, self.name, "jvp")
        got = leaves_like(got, ans)
        return [_fitting(t, a, self.name, "jvp") for t, a in zip(got, ans, strict=True)]


class custom_vjp:
    """Give a function of plain NumPy a backward rule of your own.

    For straight-through estimators, clipped gradients, implicit differentiation, and formulas
    that are more stable or cheaper than what the chain rule gives.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays in plain NumPy; keywords are static. It is what
        runs outside reverse mode, and what forward mode differentiates.
    fwd : callable, default=None
        ``fwd(*args, **static)`` gives ``(out, residuals)``: the function's value, and whatever
        the backward pass wants to know. May be given later by `defvjp`, as may `bwd`.
    bwd : callable, default=None
        ``bwd(residuals, ct)`` gives a tuple with the cotangent of each argument, or None for one
        that is not differentiated. `ct` has the structure of `out`.

    Raises
    ------
    NotImplementedError
        When it is differentiated in reverse mode without a rule.
    TypeError
        When `bwd` does not return a tuple with one entry per argument, a keyword is traced, or
        the rule uses a traced value that is not among the arguments.
    ValueError
        When a cotangent has another shape than its argument.

    Notes
    -----
    The second derivative differentiates `fwd` and `bwd`, which are traced like any function.

    Examples
    --------
    A straight-through estimator rounds, and passes the gradient as if it had not.

    >>> import numpy as np
    >>> from skdeep.autodiff import custom_vjp, grad
    >>> straight_through = custom_vjp(
    ...     lambda x: 1.0 * (x > 0), lambda x: (1.0 * (x > 0), None), lambda _, ct: (ct,)
    ... )
    >>> grad(lambda x: np.sum(3 * straight_through(x)))(np.array([-1.0, 2.0]))
    array([3., 3.])
    """

    def __init__(self, f, fwd=None, bwd=None):
        self.f, self.fwd, self.bwd, self.name = f, fwd, bwd, _name(f)
        functools.update_wrapper(self, f)

    def defvjp(self, fwd, bwd):
        """Set the rule.

        Parameters
        ----------
        fwd : callable
            Gives the value and the residuals.
        bwd : callable
            Gives the cotangents of the arguments.

        Examples
        --------
        >>> import numpy as np
        >>> from skdeep.autodiff import custom_vjp, grad
        >>> @custom_vjp
        ... def gentle(x):
        ...     return x
        >>> gentle.defvjp(lambda x: (x, None), lambda _, ct: (0.1 * ct,))
        >>> float(grad(lambda x: gentle(x) * 10.0)(1.0))
        1.0
        """
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args, **static):
        """Evaluate the function."""
        _refuse_traced(static, self.name)
        leaves, build = flatten(args)
        top = innermost(leaves)
        if not isinstance(top, Reverse):
            return self.f(*args, **static)
        if self.fwd is None or self.bwd is None:
            raise NotImplementedError(
                f"custom_vjp {self.name!r} has no rule; give it by defvjp(fwd, bwd)"
            )
        call = _CustomCall(self, top, build, static)
        outs = top.process(call, leaves, {})
        return call.rebuild(outs)


class _CustomCall(Primitive):
    """One call of a function with a custom backward rule, as an entry on a tape."""

    def __init__(self, custom, trace, build, static):
        super().__init__(custom.name)
        self.custom, self.trace, self.build, self.static = custom, trace, build, static
        self.rules(self._backward)

    def __call__(self, *leaves):
        got = self.custom.fwd(*self.build(leaves), **self.static)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise TypeError(f"the fwd of {self.name!r} must return (out, residuals)")
        self.out, self.residuals = got
        outs, self.rebuild = flatten(self.out)
        self._refuse_closure(outs, "fwd")
        return tuple(o if isinstance(o, Tracer) else np.asarray(o) for o in outs)

    def _backward(self, cts, ans, *leaves):
        full = [
            np.zeros(shape(a), a.dtype) if c is None else c for c, a in zip(cts, ans, strict=True)
        ]
        args = self.build(leaves)
        got = self.custom.bwd(self.residuals, self.rebuild(full))
        got = leaves_like(tuple(_per_argument(got, len(args), self.name, "bwd")), args)
        self._refuse_closure(got, "bwd")
        got = [_fitting(g, x, self.name, "bwd") for g, x in zip(got, leaves, strict=True)]
        return [None if g is None else (lambda g=g: g) for g in got]

    def _refuse_closure(self, results, rule):
        if any(self.trace.own(x) for x in results):
            raise TypeError(
                f"the {rule} of {self.name!r} uses a traced value that is not among the "
                "arguments; pass it as an argument, or its gradient is lost"
            )
