"""Transforms of functions: gradients, products with Jacobians, Jacobians and Hessians."""

import functools

import numpy as np

from skdeep.autodiff._trace import Forward, Reverse, Tracer, shape
from skdeep.autodiff._tree import flatten, leaves_like, tree_map


def as_differentiable(x, name="argument"):
    """Return a leaf as a floating array or tracer; integers become float64."""
    if isinstance(x, Tracer):
        return x
    a = np.asarray(x)
    if a.dtype.kind in "iu":
        return a.astype(np.float64)
    if a.dtype.kind != "f":
        raise TypeError(
            f"cannot differentiate with respect to an {name} of dtype {a.dtype}; "
            "pass real numbers (complex, bool and object arrays are not supported)"
        )
    return a


def _plain(x):
    """Return a 0-d array as a NumPy scalar; leave everything else."""
    return x[()] if type(x) is np.ndarray and x.ndim == 0 else x


def _unboxed(trace, out):
    return out.value if trace.own(out) else out


def _own(xs, taken=()):
    """Copy views and repeated arrays, so that a caller may write to each result."""
    seen, own = {id(x) for x in taken}, []
    for x in xs:
        if type(x) is np.ndarray and (x.base is not None or id(x) in seen):
            x = x.copy()
        seen.add(id(x))
        own.append(x)
    return own


def _like(d, x, name):
    """Return a tangent or cotangent of `x`: of its shape and, unless it is traced, its dtype."""
    d = as_differentiable(d, name)
    if shape(d) != shape(x):
        raise ValueError(f"a {name} of shape {shape(d)} for a value of shape {shape(x)}")
    dtype = getattr(x, "dtype", d.dtype)
    if isinstance(d, Tracer) or dtype == d.dtype or dtype.kind != "f":
        return d
    return d.astype(dtype)


def vjp(f, *primals):
    """Evaluate a function and return its pullback.

    Parameters
    ----------
    f : callable
        A function of arrays (or trees of arrays: nested tuples, lists, dicts), in plain NumPy.
    *primals : array or tree of arrays
        The point.

    Returns
    -------
    value : array or tree
        ``f(*primals)``.
    pullback : callable
        Takes a cotangent with the value's structure and shapes (None for a part that does not
        count) and returns a tuple of cotangents, one per primal. May be called repeatedly.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import vjp
    >>> value, pullback = vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    trace = Reverse()
    leaves, build = flatten(primals)
    leaves = [as_differentiable(x) for x in leaves]
    boxed = [trace.new(x) for x in leaves]
    out = f(*build(boxed))
    outs, rebuild = flatten(out)

    def pullback(cotangent):
        seeds = {}
        for o, c in zip(outs, leaves_like(cotangent, out), strict=True):
            c = None if c is None else _like(c, o, "cotangent")
            if trace.own(o) and c is not None:
                seeds[o.node] = c if o.node not in seeds else seeds[o.node] + c
        taken = [*leaves, *seeds.values()]
        got = trace.pull(seeds)
        return build(_own([gathered(got.get(b.node), b) for b in boxed], taken))

    def gathered(g, b):
        if g is None:
            return np.zeros(b.shape, b.dtype)
        return g if g.dtype == b.dtype else g.astype(b.dtype)

    return rebuild([_unboxed(trace, o) for o in outs]), pullback


def jvp(f, primals, tangents):
    """Evaluate a function together with its derivative along a direction.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays, in plain NumPy.
    primals : tuple
        The point, one entry per argument of `f`.
    tangents : tuple
        The direction, with the structure and shapes of `primals`; None for a part that does not
        move.

    Returns
    -------
    value, tangent : array or tree
        ``f(*primals)`` and its directional derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import jvp
    >>> value, tangent = jvp(np.sin, (0.0,), (2.0,))
    >>> float(value), float(tangent)
    (0.0, 2.0)
    """
    trace = Forward()
    leaves, build = flatten(tuple(primals))
    leaves = [as_differentiable(x) for x in leaves]
    directions = [
        None if t is None else _like(t, x, "tangent")
        for t, x in zip(leaves_like(tuple(tangents), tuple(primals)), leaves, strict=True)
    ]
    boxed = [
        x if t is None else Tracer(x, trace, t) for x, t in zip(leaves, directions, strict=True)
    ]
    outs, rebuild = flatten(f(*build(boxed)))
    moves = [
        o.node if trace.own(o) else np.zeros(shape(o), getattr(o, "dtype", np.float64))
        for o in outs
    ]
    return rebuild([_unboxed(trace, o) for o in outs]), rebuild(_own(moves, directions))


def _check_argnum(argnum, args):
    if not -len(args) <= argnum < len(args):
        raise TypeError(f"argnum={argnum}, but the call has {len(args)} positional argument(s)")


def _scalar(value):
    """Return a function's value if it is a real scalar."""
    if isinstance(value, int | float):  # a constant
        return np.float64(value)
    if not hasattr(value, "dtype") or shape(value) != ():
        what = f"shape {value.shape}" if hasattr(value, "dtype") else type(value).__name__
        raise TypeError(
            f"grad needs a function with a scalar value; this one returned {what}. "
            "Use jacobian or vjp, or return one number"
        )
    if value.dtype.kind != "f":
        raise TypeError(f"grad needs a real floating value; this function returned {value.dtype}")
    return value


def value_and_grad(f, argnum=0, has_aux=False):
    """Return a function that gives the value and the gradient of a scalar function.

    Parameters
    ----------
    f : callable
        A function whose value is a scalar; with `has_aux`, a pair ``(scalar, aux)``.
    argnum : int or tuple of int, default=0
        The positional argument or arguments to differentiate by.
    has_aux : bool, default=False
        Whether `f` also returns something that is not differentiated.

    Returns
    -------
    callable
        ``g(*args, **kwargs)`` gives ``(value, gradient)``, or ``((value, aux), gradient)``. The
        gradient has the structure of the argument; a tuple of them for a tuple of `argnum`.

    Raises
    ------
    TypeError
        If the function's value is not a real floating scalar.

    Examples
    --------
    >>> from skdeep.autodiff import value_and_grad
    >>> value, gradient = value_and_grad(lambda x: x**3)(2.0)
    >>> float(value), float(gradient)
    (8.0, 12.0)
    """
    many = isinstance(argnum, tuple)
    numbers = argnum if many else (argnum,)

    @functools.wraps(f, assigned=("__name__", "__doc__"), updated=())
    def g(*args, **kwargs):
        for i in numbers:
            _check_argnum(i, args)

        def at(*chosen):
            full = list(args)
            for i, x in zip(numbers, chosen, strict=True):
                full[i] = x
            return f(*full, **kwargs)

        out, pullback = vjp(at, *[args[i] for i in numbers])
        value, aux = out if has_aux else (out, None)
        value = _scalar(value)
        one = np.ones((), value.dtype)
        got = pullback((one, tree_map(lambda _: None, aux)) if has_aux else one)
        got = tuple(tree_map(_plain, x) for x in got)
        value = _plain(value)
        return ((value, aux) if has_aux else value), (got if many else got[0])

    return g


def grad(f, argnum=0, has_aux=False):
    """Return the gradient of a scalar function, as a function.

    Parameters
    ----------
    f : callable
        A function in plain NumPy whose value is a scalar. Python loops, branches and recursion
        are followed as they run.
    argnum : int or tuple of int, default=0
        The positional argument or arguments to differentiate by.
    has_aux : bool, default=False
        Whether `f` returns ``(scalar, aux)``; the result is then ``(gradient, aux)``.

    Returns
    -------
    callable
        A function of the same arguments. It can be differentiated again.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import grad
    >>> grad(lambda x: np.log(x[0]) + x[0] * x[1] - np.sin(x[1]))(np.array([2.0, 5.0]))
    array([5.5       , 1.71633781])
    >>> float(grad(grad(np.sin))(0.5)), float(-np.sin(0.5))
    (-0.479425538604203, -0.479425538604203)
    """
    both = value_and_grad(f, argnum, has_aux)

    @functools.wraps(f, assigned=("__name__", "__doc__"), updated=())
    def g(*args, **kwargs):
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return g


def jacobian(f, argnum=0, mode="auto"):
    """Return the Jacobian of a function, as a function.

    Parameters
    ----------
    f : callable
        A function from an array to an array.
    argnum : int, default=0
        The positional argument to differentiate by.
    mode : {"auto", "reverse", "forward"}, default="auto"
        One pass per output or one per input; "auto" takes the fewer.

    Returns
    -------
    callable
        Gives an array of shape ``f(x).shape + x.shape``.

    Raises
    ------
    ValueError
        If `mode` is unknown.
    TypeError
        If the function returns a tuple, list or dict instead of one array.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import jacobian
    >>> jacobian(lambda x: np.stack([x[0] * x[1], x[1] ** 2]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [0., 6.]])
    """
    if mode not in ("auto", "reverse", "forward"):
        raise ValueError(f"mode={mode!r} must be 'auto', 'reverse' or 'forward'")

    def j(*args, **kwargs):
        _check_argnum(argnum, args)
        i = argnum % len(args)

        def at(x):
            return _single(f(*args[:i], x, *args[i + 1 :], **kwargs))

        x = as_differentiable(args[i])
        if mode == "forward":
            return _by_columns(at, x)
        y, pullback = vjp(at, x)
        n_in, n_out = int(np.prod(shape(x))), int(np.prod(shape(y)))
        if n_in == 0 or n_out == 0:
            return np.zeros(shape(y) + shape(x), x.dtype)
        if mode == "auto" and n_out > n_in:
            return _by_columns(at, x)
        basis = np.eye(n_out, dtype=y.dtype).reshape(n_out, *shape(y))
        rows = np.stack([pullback(e)[0] for e in basis])
        return np.reshape(rows, shape(y) + shape(x))

    return j


def _single(y):
    """Return an output that is one array or number."""
    if isinstance(y, dict | list | tuple):
        raise TypeError(
            f"jacobian needs a function that returns one array; this one returned a "
            f"{type(y).__name__}. Join its entries with np.stack or np.concatenate"
        )
    return y if hasattr(y, "dtype") else np.asarray(y, float)


def _by_columns(f, x):
    """Return the Jacobian of `f` at `x` in forward mode, a pass per entry of `x`."""
    n = int(np.prod(shape(x)))
    if n == 0:
        return np.zeros(shape(f(x)) + shape(x), x.dtype)
    basis = np.eye(n, dtype=x.dtype).reshape(n, *shape(x))
    columns = [jvp(f, (x,), (e,))[1] for e in basis]
    return np.reshape(np.stack(columns, axis=-1), shape(columns[0]) + shape(x))


def hessian(f, argnum=0):
    """Return the Hessian of a scalar function, as a function.

    Parameters
    ----------
    f : callable
        A function of an array whose value is a scalar.
    argnum : int, default=0
        The positional argument to differentiate by.

    Returns
    -------
    callable
        Gives an array of shape ``x.shape + x.shape``.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import hessian
    >>> hessian(lambda v: v[0] ** 3 - 2 * v[0] * v[1] - v[1] ** 6)(np.array([1.0, 2.0]))
    array([[   6.,   -2.],
           [  -2., -480.]])
    """
    return jacobian(grad(f, argnum), argnum)


def hvp(f, primals, tangents):
    """Return the product of a scalar function's Hessian with a direction.

    One forward-over-reverse pass: a small multiple of the function's own cost.

    Parameters
    ----------
    f : callable
        A scalar function of one array or tree.
    primals : array or tree
        The point.
    tangents : array or tree
        The direction.

    Returns
    -------
    array or tree
        The product, with the structure of `primals`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import hvp
    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return jvp(grad(f), (primals,), (tangents,))[1]
