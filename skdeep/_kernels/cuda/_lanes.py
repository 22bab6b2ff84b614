"""Kernels of memory passes, written once for one and for four neighbouring elements a thread.

In the source of such a kernel ``$`` is a lane's number: a line with it stands for one line a lane,
and ``(v$, ...)`` for the tuple of all lanes, which `load` and `store` move as one vector of 16
bytes where there are four. ``LANES`` is their number.
"""

import re

from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import device, generated, kernel, uint32


@device
def _load1(array, offset):
    return (array[offset],)


@device
def _store1(array, offset, values):
    array[offset] = values[0]


_MOVES = {1: {"load": _load1, "store": _store1}, 4: {"load": load4, "store": store4}}


def in_lanes(source, lanes):
    """Return source with every lane written out."""
    source = re.sub(
        r"\((\w+)\$, \.\.\.\)",
        lambda m: "(" + "".join(f"{m[1]}{i}, " for i in range(lanes)) + ")",
        source,
    )
    lines = (
        line.replace("$", str(i))
        for line in source.splitlines()
        for i in range(lanes if "$" in line else 1)
    )
    return "\n".join(lines) + "\n"


def lane_function(source, name, lanes, names):
    """Return a function from such a source."""
    names = _MOVES[lanes] | {"LANES": uint32(lanes)} | names
    return generated(in_lanes(source, lanes), name, names)


def lane_kernel(spec, source, name, lanes, names, blocks=None):
    """Return the kernel ``<name>_<lanes>`` that a source defines as ``def <name>``."""
    function = lane_function(source, name, lanes, names)
    return kernel(spec, blocks=blocks, name=f"{name}_{lanes}")(function)
