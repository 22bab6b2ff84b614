"""Sorting lines, and searching in them.

The rank of an element is the number of those that stand before it: it is counted, in chunks of a
line first, and then among the sorted chunks by bisection. So no step waits for another; a line of
a million elements takes some 10^10 comparisons, which are milliseconds. Equal elements keep their
order, and NaN goes last.
"""

from functools import cache

import numpy as np

from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.broadcast import LETTERS, lowest, merge, steps_for, wrapped
from skdeep._kernels.cuda.move import THREADS, at, contiguous, copy, each, last
from skdeep._kernels.cuda.program import blocks

#: Elements that are compared with each other.
CHUNK = 4096


def _line():
    """Return source lines of the place of element i in its line of m, and of its chunk."""
    return [
        "line = uint32(uint32(i // m) * m)",
        "mine = uint32(i - line)",
        "own = uint32(uint32(mine // chunk) * chunk)",
    ]


@cache
def _rank(letter):
    """Return the kernel that sorts every chunk of every line."""
    body = [
        *_line(),
        "end = uint32(own + chunk)",
        "end = end if end < m else m",
        "v = x[i]",
        "rank, j = own, own",
        "while j < end:",
        "    w = x[uint32(line + j)]",
        "    ahead = w < v or (v != v and w == w)",
        "    tie = (w == v or (v != v and w != w)) and j < mine",
        "    if ahead or tie:",
        "        rank = uint32(rank + uint32(1))",
        "    j = uint32(j + uint32(1))",
        "order[uint32(line + rank)] = int64(mine)",
        "ranked[uint32(line + rank)] = v",
    ]
    pointers = {"x": (letter, 0), "order": ("l", 0), "ranked": (letter, 0)}
    return each(f"sort_rank_{letter}", pointers, ["m", "chunk"], 1, body)


@cache
def _merge(letter):
    """Return the kernel that sorts lines of sorted chunks."""
    body = [
        *_line(),
        "v = x[i]",
        "rank, start = uint32(mine - own), uint32(0)",
        "while start < m:",
        "    low, high = start, uint32(start + chunk)",
        "    high = high if high < m else m",
        "    while start != own and low < high:",
        "        middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))",
        "        w = x[uint32(line + middle)]",
        "        ahead = w < v or (v != v and w == w)",
        "        tie = (w == v or (v != v and w != w)) and start < own",
        "        if ahead or tie:",
        "            low = uint32(middle + uint32(1))",
        "        else:",
        "            high = middle",
        "    rank = uint32(rank + uint32(low - start))",
        "    start = uint32(start + chunk)",
        "order[uint32(line + rank)] = place[i]",
        "ranked[uint32(line + rank)] = v",
    ]
    pointers = {"x": (letter, 0), "place": ("l", 0), "order": ("l", 0), "ranked": (letter, 0)}
    return each(f"sort_merge_{letter}", pointers, ["m", "chunk"], 1, body)


def ranked(x, order, values, s, chunk=CHUNK):
    """Return the launches that sort lines: the last axis of contiguous arrays.

    Parameters
    ----------
    x : DeviceArray
        The lines.
    order : DeviceArray of int64
        The positions that sort them.
    values : DeviceArray
        The sorted lines.
    s : Scratch
        Memory for long lines.
    chunk : int
        The elements that are compared with each other.

    Returns
    -------
    list of Launch
    """
    if not x.size:
        return []
    m, n = x.shape[-1], blocks(x.size, THREADS)
    letter = LETTERS[x.dtype]
    if m <= chunk:
        return [_rank(letter)(n, *_plain(x, order, values), m, m, x.size)]
    first = s.take(x.shape, np.int64), s.take(x.shape, x.dtype)
    to = order, values
    return [
        _rank(letter)(n, *_plain(x, *first), m, chunk, x.size),
        _merge(letter)(n, *_plain(first[1], first[0], *to), m, chunk, x.size),
    ]


def _plain(*arrays):
    """Return arrays with truth values as bytes."""
    return [a.view(a.shape, dtype=np.uint8) if a.dtype == np.bool_ else a for a in arrays]


def argsort(x, axis, out):
    """Return the launches of the stable positions that sort an array along an axis."""
    if not out.size:
        return []
    s, to = scratch(out), last(out, axis)
    line, launches = contiguous(last(x, axis), s)
    order = to if to.is_contiguous else s.take(to.shape, np.int64)
    launches = launches + ranked(line, order, s.take(line.shape, line.dtype), s)
    return launches if order is to else launches + copy(order, to)


# ---- searching --------------------------------------------------------------------------------


@cache
def _search(letter, right, axes):
    """Return the kernel of the places where values would stand in a sorted array; NaN is last."""
    before = "w <= v or v != v" if right else "w < v or (v != v and w == w)"
    body = [
        f"v = x[{at('x', axes)}]",
        "low, high = uint32(0), m",
        "while low < high:",
        "    middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))",
        "    w = table[uint32(tableb + middle * table0)]",
        f"    if {before}:",
        "        low = uint32(middle + uint32(1))",
        "    else:",
        "        high = middle",
        f"out[{at('out', axes)}] = int64(low)",
    ]
    pointers = {"x": (letter, axes), "table": (letter, 1), "out": ("l", axes)}
    name = f"sort_search_{'right' if right else 'left'}_{letter}_{axes}"
    return each(name, pointers, ["m"], axes, body)


def search(table, x, right, out):
    """Return the launches of ``out = searchsorted(table, x)``."""
    if not out.size:
        return []
    sizes, a, b = merge(out.shape, steps_for(x, out.shape), steps_for(out, out.shape))
    flat, start = lowest(table)
    made = _search(LETTERS[x.dtype], right, len(sizes))
    args = *lowest(x), *wrapped(a), flat, start, *wrapped((table.step(0),)), *lowest(out)
    return [made(blocks(out.size, THREADS), *args, *wrapped(b), table.size, *sizes[1:], out.size)]


def catalogue():
    """Return kernels that stand for all."""
    return [_rank("l"), _rank("f"), _merge("l"), _merge("f"), _search("f", True, 1)]
