"""How an implementation stands in for NumPy functions, and looks at what a tracer holds."""

import functools
import inspect

import numpy as np

from skdeep.autodiff._trace import REGISTRY, Tracer

#: Parameters of NumPy functions that a traced array cannot honour.
REFUSED = frozenset(
    "out where dtype initial casting subok kind fweights aweights overwrite_input like".split()
)


def implements(*functions, takes=()):
    """Make a function the traced implementation of these NumPy functions.

    The implementation has NumPy's parameter names and order. An argument that it has no
    parameter for, or that stands in `REFUSED` and not in `takes`, raises a TypeError naming the
    NumPy function, unless it is None.
    """

    def add(f):
        for function in functions:
            REGISTRY[function] = checked(f, name_of(function), REFUSED.difference(takes))
        return f

    return add


def name_of(function):
    """Return the name of a NumPy function, ufunc or pair (ufunc, method)."""
    if isinstance(function, tuple):
        return f"{name_of(function[0])}.{function[1]}"
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module}.{function.__name__}"


def checked(f, name, refused=REFUSED):
    """Return `f` behind a check for the arguments that it does not honour."""
    parameters = inspect.signature(f).parameters
    positional = [(i, p) for i, p in enumerate(parameters) if p in refused]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    honoured = set(parameters) - refused
    plain = min([i for i, _ in positional], default=99 if variadic else len(parameters))

    @functools.wraps(f, updated=())
    def call(*args, **kw):
        if not kw and len(args) <= plain:  # nothing to check
            return f(*args)
        if len(args) > len(parameters) and not variadic:
            raise TypeError(f"{name} of a traced array takes {len(parameters)} arguments at most")
        refusals = [p for i, p in positional if i < len(args) and args[i] is not None]
        refusals += [p for p in kw if p not in honoured and kw[p] is not None]
        if refusals:
            raise TypeError(
                f"{name} of a traced array does not take `{refusals[0]}`; leave it out"
            )
        return f(*args, **{k: v for k, v in kw.items() if k in honoured})

    return call


def concrete(x):
    """Return the value that a tracer holds; a recording refuses. Other values pass."""
    return x.interpreter.look(x) if type(x) is Tracer else x


def as_array(x):
    """Return an array or a tracer; lists become arrays."""
    return x if type(x) is Tracer else np.asarray(x)


def as_real(x):
    """Return a floating array or a tracer; integers become float64."""
    if type(x) is not Tracer:
        x = np.asarray(x)
        if x.dtype.kind in "iub":
            x = x.astype(np.float64)
    return x
