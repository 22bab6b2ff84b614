"""Calls of kernels whose arrays lead with the member axis, each member's part C-contiguous."""

import numpy as np


def member_call(kernel, args, outs):
    """Return ``(function, arguments)`` that run a kernel on `args` and `outs`, in that order.

    The axes between the first and the last are merged to the kernel's number of axes. An array
    of another layout or floating dtype (a broadcast cotangent) is copied at every call.
    """
    dtype, arrays = outs[0].dtype, (*args, *outs)
    variant, axes = kernel[dtype], [int(s[1:] or 0) for s in kernel.spec]
    plain = [_is_plain(a) for a in arrays]
    right = [not _is_floating(a) or a.dtype == dtype for a in args]
    if all(plain) and all(right):
        return variant, tuple(_merged(a, n) for a, n in zip(arrays, axes, strict=True))

    def call(*arrays):
        ready = list(arrays)
        for i, a in enumerate(arrays):
            if i < len(args) and not (plain[i] and right[i]):
                ready[i] = np.array(a, dtype if _is_floating(a) else None, order="C")
            elif not plain[i]:
                ready[i] = np.empty(a.shape, a.dtype)
        variant(*(_merged(a, n) for a, n in zip(ready, axes, strict=True)))
        for a, r in zip(arrays[len(args) :], ready[len(args) :], strict=True):
            if a is not r:
                np.copyto(a, r)

    return call, arrays


def _is_floating(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _is_plain(a):
    if not isinstance(a, np.ndarray):
        return True
    parts = a.ndim < 2 or len(a) == 0 or a[0].flags.c_contiguous
    return parts and a.flags.writeable  # numba's types know "read-only"


def _merged(a, n):
    if n == 0 or a.ndim == n:
        return a
    # Sizes are written out, because -1 is ambiguous in an empty array.
    head, tail = a.shape[:1], a.shape[a.ndim - (n - 2) :]
    return a.reshape(*head, int(np.prod(a.shape[1 : a.ndim - (n - 2)])), *tail)
