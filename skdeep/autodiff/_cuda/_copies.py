"""Primitives of compiled kernels whose arguments have another layout: they are copied first."""

import numpy as np

from skdeep._kernels.cpu._numba import Variant
from skdeep._kernels.cuda import move
from skdeep._kernels.cuda.array import DeviceArray, Scratch
from skdeep._kernels.cuda.program import Twin, Untranslatable, find_twin
from skdeep.autodiff._cuda import _BOUND, bind
from skdeep.autodiff._storage import root
from skdeep.autodiff._trace import Primitive, unwritten


def _lower(p, args, outs, **kw):
    function, arguments = p.lower_call(args, outs, kw)
    if isinstance(function, Variant):
        return function, arguments
    stands = [_stand_in(a, outs[0].dtype) for a in (*args, *outs)]
    function, arguments = p.lower_call(stands[: len(args)], stands[len(args) :], kw)
    if not isinstance(function, Variant):
        raise Untranslatable(
            f"the operation {p.name!r} has no kernel for a GPU for arguments of shapes "
            f"{[np.shape(a) for a in args]} and dtype {outs[0].dtype}; use device='cpu'"
        )
    given = {id(root(s)): i for i, s in enumerate(stands) if isinstance(s, np.ndarray)}
    plan = _Plan(find_twin(function), len(args), [_shape(s) for s in stands])
    extra = []
    for a in arguments:
        i = given.get(id(root(a))) if isinstance(a, np.ndarray) else None
        if i is None:
            plan.arguments.append((None, len(stands) + len(extra)))
            extra.append(a)
        else:
            start = a.__array_interface__["data"][0] - stands[i].__array_interface__["data"][0]
            plan.arguments.append((i, (a.shape, a.strides, start)))
    twin = Twin(plan, p.name, precision=plan.twin.precision)
    return twin, (*args, *outs, *extra)


def _stand_in(a, dtype):
    """Return a contiguous array in place of another: the kernel's dtype where it is floating."""
    if not isinstance(a, np.ndarray):
        return a
    return unwritten(a.shape, dtype if a.dtype == np.float64 else a.dtype)


def _shape(a):
    return (a.shape, a.dtype) if isinstance(a, np.ndarray) else None


class _Plan:
    """The launches of a kernel on contiguous copies.

    Parameters
    ----------
    twin : Twin
        The kernel's.
    inputs : int
        How many of the arrays it reads; the others it writes.
    plain : list of (tuple, dtype) or None
        What the kernel takes in place of each array.

    Attributes
    ----------
    arguments : list of tuple
        For each of the kernel's arguments the number of an array, and shape, strides and first
        byte of a view of it; or None and the number of what it is.
    """

    def __init__(self, twin, inputs, plain):
        self.twin, self.inputs, self.plain, self.arguments = twin, inputs, plain, []

    def __call__(self, *given, **options):
        s = Scratch(next(a for a in given if isinstance(a, DeviceArray)).device)
        ready, launches, back = list(given), [], []
        for i, plain in enumerate(self.plain):
            a = given[i]
            if plain is None or (a.is_contiguous and a.dtype == plain[1]):
                continue
            ready[i] = s.take(*plain)
            if i < self.inputs:
                launches += move.copy(a, ready[i])
            else:
                back += move.copy(ready[i], a)
        args = [ready[view] if i is None else ready[i].view(*view) for i, view in self.arguments]
        return launches + self.twin(*args, **options) + back


def bind_all():
    """Bind the primitives of every module of kernels that are not bound already."""
    from skdeep.autodiff.ops import activation, loss, lrn, nn, norm, pool, random

    for module in (activation, loss, lrn, nn, norm, pool, random):
        for p in vars(module).values():
            if isinstance(p, Primitive) and p.name not in _BOUND and p.lower is not None:
                bind(p.name)(lambda args, outs, p=p, **kw: _lower(p, args, outs, **kw))
