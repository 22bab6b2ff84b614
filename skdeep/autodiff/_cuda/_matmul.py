"""Products of stacks of matrices, on a device."""

import numpy as np

from skdeep._kernels.cpu._numba import Variant
from skdeep._kernels.cuda import move
from skdeep._kernels.cuda.array import Scratch
from skdeep._kernels.cuda.broadcast import fill, merge
from skdeep._kernels.cuda.program import Twin, Untranslatable
from skdeep.autodiff._cuda import bind


def _stack(a, lead, s):
    """Return an array as (M or 1, rows, columns), and the launches that make it so.

    The stack's axes are those that `a` broadcasts to; where they go in one step they are one.
    """
    shape = (*lead, *a.shape[-2:])
    new = len(shape) - a.ndim
    steps = [0] * new + [a.step(i) for i in range(a.ndim)]
    sizes, along = merge(lead, steps[:-2])
    if len(sizes) > 1:
        made = s.take(shape, a.dtype)
        return _stack(made, lead, s)[0], move.copy(a, made)
    count = sizes[0] if along[0] else 1
    strides = along[0] * a.itemsize, *a.strides[-2:]
    return a.view((count, *a.shape[-2:]), strides), []


def _rows(a, turned, s):
    """Return a stack whose last axis is contiguous, whether it is transposed, and launches."""
    if a.shape[-1] == 1 or a.strides[-1] == a.itemsize:
        return a, turned, []
    if a.strides[-2] == a.itemsize:
        swapped = a.view(
            (a.shape[0], a.shape[2], a.shape[1]), (a.strides[0], a.strides[2], a.strides[1])
        )
        return swapped, not turned, []
    made = s.take(a.shape, a.dtype)
    return made, turned, move.copy(a, made)


def _product(ta, tb):
    """Return the function of a twin that multiplies op(a) and op(b)."""

    def launches(a, b, out, precision="float32"):
        from skdeep._kernels.cuda import gemm

        if not out.size:
            return []
        if not a.size:
            return fill(out, 0)
        s = Scratch(out.device)
        lead = out.shape[:-2]
        a, first = _stack(a, lead, s)
        b, second = _stack(b, lead, s)
        a, turn_a, third = _rows(a, ta, s)
        b, turn_b, fourth = _rows(b, tb, s)
        target = out if out.is_contiguous else s.take(out.shape, out.dtype)
        count = int(np.prod(lead, dtype=np.int64))
        stack = target.view((count, *out.shape[-2:]))
        product = gemm.multiply(a, int(turn_a), b, int(turn_b), stack, precision=precision)
        back = [] if target is out else move.copy(target, out)
        return [*first, *second, *third, *fourth, *product, *back]

    return launches


def bind_all(check):
    """Bind the products; `check` refuses dtypes."""
    from skdeep.autodiff.ops import nn

    def lower(name, args, outs, ta, tb):
        for a in (*args, *outs):
            if a.dtype != np.float32:
                raise Untranslatable(
                    f"the operation {name!r} has an array of {a.dtype}; GPU kernels multiply "
                    "float32: use device='cpu'"
                )
        return Twin(_product(ta, tb), name, precision=True), (*args, outs[0])

    @bind("matmul")
    def _matmul(args, outs):
        return lower("matmul", args, outs, False, False)

    @bind("product")
    def _product_(args, outs, ta, tb):
        function, arguments = nn._product.lower_call(args, outs, dict(ta=ta, tb=tb))
        if isinstance(function, Variant):
            return function, arguments
        return lower("product", args, outs, ta, tb)
