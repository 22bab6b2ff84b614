"""Intermediates kept in 16 bits while no call of a program reads them."""

import itertools

import numpy as np

from skdeep.autodiff._trace import Primitive, unwritten

#: Calls between two touches from which on a buffer counts as idle: forward to backward pass.
_IDLE = 4
#: Bytes from which on it pays.
_LEAST = 4096


def root(a):
    """Return the array that owns the memory of `a`."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def _lower(name):
    def lower(args, outs):
        from skdeep._kernels.cpu import elementwise

        kernel = getattr(elementwise, name)[np.float32]
        return kernel, (args[0].reshape(-1), outs[0].reshape(-1))

    return lower


_PACK = {"bfloat16": Primitive("pack_bfloat16", lower=_lower("pack_bfloat16"))}
_UNPACK = {"bfloat16": Primitive("unpack_bfloat16", lower=_lower("unpack_bfloat16"))}


def store_idle(calls, uses, owned, excluded, storage):
    """Return the calls with idle float32 buffers kept in 16 bits between their touches.

    Parameters
    ----------
    calls : list of (Primitive, values, outputs, keywords)
        The calls of a recording.
    uses : dict of int to list of (int, ndarray)
        Each buffer's touches: number of the call, array.
    owned : dict of int to ndarray
        The recording's buffers; those made here are added.
    excluded : set of int
        Buffers to leave alone: outputs.
    storage : str
        "bfloat16": the upper half of a float32, rounded to even.

    Returns
    -------
    list
    """
    after, before, renewed = {}, {}, {}
    for k, touches in uses.items():
        if k not in owned or k in excluded:
            continue
        buffer, at = owned[k], sorted({i for i, _ in touches})
        gaps = [(b - a, a, b) for a, b in itertools.pairwise(at)]
        gap, last, again = max(gaps, default=(0, 0, 0))
        if gap < _IDLE or buffer.dtype != np.float32 or buffer.nbytes < _LEAST:
            continue
        if any(id(o) == k for i in at if i >= again for o in calls[i][2]):
            continue  # written later: not a plain intermediate
        half, full = (unwritten(buffer.shape, d) for d in (np.uint16, np.float32))
        owned.update({id(half): half, id(full): full})
        after.setdefault(last, []).append((_PACK[storage], [buffer], [half], {}))
        before.setdefault(again, []).append((_UNPACK[storage], [half], [full], {}))
        renewed[k] = again, buffer, full
    out = []
    for i, (p, vals, fresh, kw) in enumerate(calls):
        vals = [_renewed(v, i, renewed) for v in vals]
        out += [*before.get(i, []), (p, vals, fresh, kw), *after.get(i, [])]
    return out


def _renewed(a, i, renewed):
    """Return the array as a view of its buffer's second life, from call `again` on."""
    if not isinstance(a, np.ndarray):
        return a
    again, old, new = renewed.get(id(root(a)), (np.inf, None, None))
    if i < again:
        return a
    start = a.ctypes.data - old.ctypes.data
    return np.ndarray(a.shape, a.dtype, new.reshape(-1).view(np.uint8), start, a.strides)
