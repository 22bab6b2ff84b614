"""What computes a primitive on a GPU, where that is not the twin of its kernel on the CPU.

Most primitives lower to a kernel of the CPU, whose twin of the same name runs on the device.
The others are bound here: those whose CPU kernels are plans for a processor's caches
(convolutions), and those that NumPy itself computes on the CPU.
"""

from functools import cache

import numpy as np

#: Name of a primitive -> what lowers it, and the outputs that are the CPU's scratch.
_BOUND = {}


def bind(*names, scratch=()):
    """Bind primitives to a lowering: a decorator.

    Parameters
    ----------
    *names : str
        The primitives' names.
    scratch : tuple of int
        Outputs that only the CPU's kernels use: on a device they have no memory.

    Notes
    -----
    The function is called as ``lower(args, outs, **kw)`` with the arguments of the primitive's
    own `lower`. It returns ``(twin, arguments)``: a `Twin`, and host arrays and anything else
    that the twin is called with, arrays as the device's.
    """

    def add(lower):
        for name in names:
            _BOUND[name] = lower, scratch
        return lower

    return add


@cache
def _bindings():
    """Return the table, once the modules that fill it are imported."""
    from skdeep.autodiff._cuda import convolution, numpy_ops

    return _BOUND if convolution and numpy_ops else {}


def lower(p, args, outs, kw):
    """Return what computes a primitive on a device, as ``(function, arguments)``."""
    from skdeep._kernels.cpu._numba import Variant
    from skdeep._kernels.cuda.program import Untranslatable

    if p.name in _bindings():
        return _bindings()[p.name][0](args, outs, **kw)
    function, arguments = p.lower_call(args, outs, kw)
    if isinstance(function, Variant):
        return function, arguments
    raise Untranslatable(f"the operation {p.name!r} has no kernel for a GPU; use device='cpu'")


def without_scratch(calls, owned):
    """Return recorded calls whose outputs take no memory where only the CPU uses them."""
    done = []
    for p, values, fresh, kw in calls:
        scratch = _bindings().get(p.name, (None, ()))[1]
        outs = [np.empty(0, o.dtype) if i in scratch else o for i, o in enumerate(fresh)]
        owned.update((id(o), o) for o in outs)
        done.append((p, values, outs, kw))
    return done
