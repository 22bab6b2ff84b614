"""Elements copied from place to place: strided copies, gathers, scatters, sorting, searching.

A scatter adds what falls on one place in the order of its positions: the positions are sorted by
place, and every place looks up its run. So there are no atomic additions, and two runs are equal
bit for bit.
"""

from functools import cache

import numpy as np

from skdeep._kernels.cuda._numba import cuda, float32, generated, int64, kernel, uint8, uint32
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.broadcast import (
    LETTERS,
    coordinates,
    elementwise,
    fill,
    indented,
    lowest,
    merge,
    offset,
    steps_for,
    wrapped,
)
from skdeep._kernels.cuda.program import blocks

THREADS = 256
_TILE, _PITCH = 32, 33
_CELLS = _TILE * _PITCH
_NAMES = dict(cuda=cuda, uint32=uint32, int64=int64, float32=float32, uint8=uint8)
_ZERO = {"f": "float32(0)", "l": "int64(0)", "b": "uint8(0)"}


# ---- copies -----------------------------------------------------------------------------------


@kernel("f u u u f u u u u u", threads=THREADS)
def _transpose(x, x_start, x_batch, x_column, out, out_start, out_batch, out_row, rows, columns):
    """Copy matrices whose columns are contiguous to where rows are, by tiles of 32 x 32."""
    tile = cuda.shared.array(_CELLS, float32)
    t = uint32(cuda.threadIdx.x)
    lane, first = uint32(t % uint32(_TILE)), uint32(t // uint32(_TILE))
    across = uint32(uint32(columns + uint32(_TILE - 1)) // uint32(_TILE))
    b = uint32(cuda.blockIdx.x)
    row, column = (
        uint32(uint32(b // across) * uint32(_TILE)),
        uint32(uint32(b % across) * uint32(_TILE)),
    )
    batch = uint32(cuda.blockIdx.y)
    i, k = uint32(row + lane), first
    while k < uint32(_TILE):
        j = uint32(column + k)
        if i < rows and j < columns:
            at = uint32(x_start + batch * x_batch + i + j * x_column)
            tile[uint32(k * uint32(_PITCH) + lane)] = x[at]
        k = uint32(k + uint32(THREADS // _TILE))
    cuda.syncthreads()
    j, k = uint32(column + lane), first
    while k < uint32(_TILE):
        i = uint32(row + k)
        if i < rows and j < columns:
            at = uint32(out_start + batch * out_batch + i * out_row + j)
            out[at] = tile[uint32(lane * uint32(_PITCH) + k)]
        k = uint32(k + uint32(THREADS // _TILE))


def copy(x, out):
    """Return the launches of ``out[...] = x``, which broadcasts and converts.

    Floats become integers towards zero, and truth values where they are not zero.
    """
    if not out.size:
        return []
    if x.dtype == out.dtype == np.float64:
        x, out = (a.view((*a.shape, 2), (*a.strides, 4), 0, np.float32) for a in (x, out))
    launch = _transposed(x, out)
    if launch:
        return [launch]
    source = {"f": "f", "d": "f", "b": "b"}.get(LETTERS[x.dtype], "l")
    if out.dtype == np.bool_:
        return elementwise("copy" if x.dtype == np.bool_ else "truth", source, [x], out)
    target = "f" if out.dtype.kind == "f" else "l"
    kind = "b" if source == "b" and out.dtype == np.uint8 else target
    return elementwise("copy", kind, [x], out)


def _transposed(x, out):
    """Return the launch of a copy where reads would not be coalesced; None where they are."""
    if x.dtype != np.float32 or out.dtype != np.float32:
        return None
    sizes, a, b = merge(out.shape, steps_for(x, out.shape), steps_for(out, out.shape))
    if len(sizes) == 2:
        sizes, a, b = (1, *sizes), (0, *a), (0, *b)
    if len(sizes) != 3 or min(sizes[1:]) < 8 or sizes[0] > 65535 or a[1] != 1 or b[2] != 1:
        return None
    count, rows, columns = sizes
    (flat, start), (to, to_start) = lowest(x), lowest(out)
    return _transpose(
        (blocks(rows, _TILE) * blocks(columns, _TILE), count),
        *(flat, start, *wrapped((a[0], a[2])), to, to_start, *wrapped((b[0], b[1]))),
        *(rows, columns),
    )


def contiguous(x, s):
    """Return an array as a contiguous one, and the launches that make it in scratch memory."""
    if x.is_contiguous:
        return x, []
    made = s.take(x.shape, x.dtype)
    return made, copy(x, made)


def joined(arrays, axis, out):
    """Return the launches that put arrays side by side along an axis."""
    launches, start = [], 0
    for a in arrays:
        launches += copy(a, part(out, axis, start, a.shape[axis]))
        start += a.shape[axis]
    return launches


def part(a, axis, start, count):
    """Return the part of an array from `start` on along an axis."""
    shape = (*a.shape[:axis], count, *a.shape[axis + 1 :])
    return a.view(shape, a.strides, start * a.strides[axis] if a.size else 0)


# ---- kernels of one element a thread ----------------------------------------------------------


def _each(title, pointers, numbers, axes, body):
    """Return the kernel that does `body` for every i below n.

    Parameters
    ----------
    title : str
        The kernel's name.
    pointers : dict of str to tuple
        Name of an array -> its letter and the number of its steps; ``x_at(c)`` of the names
        ``x0, x1 ...`` is made with `_at`.
    numbers : list of str
        Further numbers.
    axes : int
        The axes that i is taken apart along, to c0, c1 ...
    body : list of str
        Lines of source.
    """
    names, spec = [], []
    for name, (letter, steps) in pointers.items():
        names += [name, *([f"{name}b"] if steps else []), *(f"{name}{k}" for k in range(steps))]
        spec += [letter, *"u" * (steps + bool(steps))]
    more = [*numbers, *(f"n{k}" for k in range(1, axes)), "n"]
    source = (
        f"def {title}({', '.join([*names, *more])}):\n"
        f"    i = uint32(uint32(cuda.blockIdx.x) * uint32({THREADS}) + uint32(cuda.threadIdx.x))\n"
        "    if i < n:\n" + indented([*coordinates([f"n{k}" for k in range(axes)]), *body], 2)
    )
    spec = " ".join([*spec, *"u" * len(more)])
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES))


def _at(name, axes, start=True):
    """Return source of an array's place at c0, c1 ..."""
    return offset(f"{name}b" if start else "uint32(0)", "c", [f"{name}{k}" for k in range(axes)])


# ---- gathers ----------------------------------------------------------------------------------


@cache
def _gather(letter, axes):
    """Return the kernel of ``out[c] = x[c] + scale * index[c] further on``."""
    body = [
        f"j = index[{_at('index', axes)}]",
        "if limit > 0:",
        "    j = j + int64(limit) if j < 0 else j",
        "    j = int64(0) if j < 0 else j",
        "    j = j if j < int64(limit) else int64(limit) - int64(1)",
        f"at = uint32({_at('x', axes)} + uint32(j) * scale)",
        f"out[{_at('out', axes)}] = x[at]",
    ]
    pointers = {"x": (letter, axes), "index": ("l", axes), "out": (letter, axes)}
    return _each(f"move_gather_{letter}_{axes}", pointers, ["limit", "scale"], axes, body)


def gather(x, place, index, limit, scale, out):
    """Return the launches of a gather.

    Parameters
    ----------
    x : DeviceArray
        The array to take from.
    place : tuple
        Where in it, in elements, the first element of `out` would be at index 0, and the steps
        along the axes of `out`.
    index : DeviceArray of int64
        What broadcasts to the shape of `out`.
    limit : int
        The length of the axis that is indexed: a negative index counts from its end, and what
        is out of range becomes the nearest that is not. 0 where indices are places.
    scale : int
        The step of an index, in elements.
    out : DeviceArray
        The result.

    Returns
    -------
    list of Launch
    """
    if not out.size:
        return []
    start, steps = place
    sizes, a, b, c = merge(
        out.shape, steps, steps_for(index, out.shape), steps_for(out, out.shape)
    )
    x, out, index = lowest(x), lowest(out), lowest(index)
    made = _gather(LETTERS[x[0].dtype], len(sizes))
    n = int(np.prod(sizes, dtype=np.int64))
    return [
        made(
            blocks(n, THREADS),
            *(x[0], *wrapped((x[1] + start, *a)), *index, *wrapped(b), *out, *wrapped(c)),
            *(limit, *wrapped((scale,)), *sizes[1:], n),
        )
    ]


@cache
def _place(first, axes):
    """Return the kernel that adds the places of an index array: ``out[c] += scale * index[c]``."""
    body = [
        f"j = index[{_at('index', axes)}]",
        "j = j + int64(limit) if j < 0 else j",
        "j = int64(0) if j < 0 else j",
        "j = j if j < int64(limit) else int64(limit) - int64(1)",
        f"o = {_at('out', axes)}",
        "j = j * int64(scale)" if first else "j = out[o] + j * int64(scale)",
        "out[o] = j",
    ]
    pointers = {"index": ("l", axes), "out": ("l", axes)}
    name = f"move_place_{'first' if first else 'next'}_{axes}"
    return _each(name, pointers, ["limit", "scale"], axes, body)


def places(indices, limits, scales, base, out):
    """Return the launches that turn several index arrays into one of places.

    Parameters
    ----------
    indices : list of DeviceArray of int64
        What broadcasts to the shape of `out`.
    limits, scales : tuples of int
        As in `gather`, for each; scales are not negative.
    base : DeviceArray of int64 or None
        Places to add to.
    out : DeviceArray of int64
        The sums.

    Returns
    -------
    list of Launch
    """
    if not out.size:
        return []
    launches = [] if base is None else copy(base, out)
    for index, limit, scale in zip(indices, limits, scales, strict=True):
        sizes, a, b = merge(out.shape, steps_for(index, out.shape), steps_for(out, out.shape))
        made = _place(not launches, len(sizes))
        args = *lowest(index), *wrapped(a), *lowest(out), *wrapped(b)
        launches.append(made(blocks(out.size, THREADS), *args, limit, scale, *sizes[1:], out.size))
    return launches


# ---- sorting ----------------------------------------------------------------------------------


@cache
def _rank(letter, keep):
    """Return the kernel that puts every element of a line where its rank says; NaN goes last.

    The rank is the number of elements that stand before: quadratic, but without a step that
    waits for another, so that lines of a hundred thousand take milliseconds.
    """
    body = [
        "first = uint32(uint32(i // m) * m)",
        "mine = uint32(i - first)",
        "v = x[i]",
        "rank = first",
        "j = uint32(0)",
        "while j < m:",
        "    w = x[uint32(first + j)]",
        "    ahead = w < v or (v != v and w == w)",
        "    tie = (w == v or (v != v and w != w)) and j < mine",
        "    if ahead or tie:",
        "        rank = uint32(rank + uint32(1))",
        "    j = uint32(j + uint32(1))",
        "order[rank] = int64(mine)",
        *(["sorted_[rank] = v"] if keep else []),
    ]
    pointers = {"x": (letter, 0), "order": ("l", 0)} | ({"sorted_": (letter, 0)} if keep else {})
    name = f"move_rank_{letter}{'_keys' if keep else ''}"
    return _each(name, pointers, ["m"], 1, body)


def ranked(x, order, sorted_=None):
    """Return the launches that sort lines: the last axis of contiguous arrays.

    Parameters
    ----------
    x : DeviceArray
        The lines.
    order : DeviceArray of int64
        The positions that sort them; equal elements keep their order.
    sorted_ : DeviceArray, optional
        Where the sorted lines go.

    Returns
    -------
    list of Launch
    """
    if not x.size:
        return []
    made = _rank(LETTERS[x.dtype], sorted_ is not None)
    keys = () if sorted_ is None else (sorted_,)
    if x.dtype == np.bool_:
        x = x.view(x.shape, dtype=np.uint8)
    return [made(blocks(x.size, THREADS), x, order, *keys, x.shape[-1], x.size)]


def argsort(x, axis, out):
    """Return the launches of the stable positions that sort an array along an axis."""
    s = scratch(out)
    line, launches = contiguous(last(x, axis), s)
    to = last(out, axis)
    order = to if to.is_contiguous else s.take(to.shape, np.int64)
    launches = launches + ranked(line, order)
    return launches if order is to else launches + copy(order, to)


def last(a, axis):
    """Return a view with an axis moved to the end."""
    order = [i for i in range(a.ndim) if i != axis] + [axis]
    return a.view(tuple(a.shape[i] for i in order), tuple(a.strides[i] for i in order))


# ---- scatters ---------------------------------------------------------------------------------


@cache
def _scatter(letter, axes):
    """Return the kernel that sums, for every place, the run of positions that name it."""
    body = [
        f"key = int64({_at('weight', axes, False)})",
        f"low = uint32({_at('line', axes, False)} * m)",
        "start = low",
        "high = uint32(low + m)",
        "end = high",
        "while low < high:",
        "    middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))",
        "    if keys[middle] < key:",
        "        low = uint32(middle + uint32(1))",
        "    else:",
        "        high = middle",
        f"total = {_ZERO[letter]}",
        f"at = {_at('x', axes)}",
        "more = low < end",
        "while more:",
        "    more = keys[low] == key",
        "    if more:",
        "        total = total + x[uint32(at + uint32(order[low]) * step)]",
        "        low = uint32(low + uint32(1))",
        "        more = low < end",
        f"out[{_at('out', axes)}] = total",
    ]
    pointers = {"x": (letter, axes), "order": ("l", 0), "keys": ("l", 0), "out": (letter, axes)}
    numbers = [f"{name}{k}" for name in ("weight", "line") for k in range(axes)]
    return _each(f"move_scatter_{letter}_{axes}", pointers, [*numbers, "m", "step"], axes, body)


def scatter(x, steps, step, order, keys, lines, weights, out):
    """Return the launches that add elements on the places that sorted positions name.

    Parameters
    ----------
    x : DeviceArray
        What is added.
    steps : tuple of int
        Its steps along the axes of `out`: 0 along those that positions name.
    step : int
        Its step from position to position.
    order, keys : DeviceArrays of int64, shape (n_lines, n_positions)
        The positions in the order of their places, and those places, contiguous.
    lines, weights : tuples of int
        What a step along each axis of `out` adds to the line, and to the place.
    out : DeviceArray
        Every element is written: the sum of what falls on it.

    Returns
    -------
    list of Launch
    """
    if not out.size:
        return []
    if not order.size:
        return fill(out, 0)
    sizes, a, b, ours, at = merge(out.shape, steps, steps_for(out, out.shape), lines, weights)
    made = _scatter(LETTERS[x.dtype], len(sizes))
    return [
        made(
            blocks(out.size, THREADS),
            *(*lowest(x), *wrapped(a), order, keys, *lowest(out), *wrapped(b)),
            *(*at, *ours, order.shape[-1], *wrapped((step,)), *sizes[1:], out.size),
        )
    ]


# ---- searching --------------------------------------------------------------------------------


@cache
def _search(letter, right, axes):
    """Return the kernel of the places where values would stand in a sorted array; NaN is last."""
    before = "w <= v or v != v" if right else "w < v or (v != v and w == w)"
    body = [
        f"v = x[{_at('x', axes)}]",
        "low, high = uint32(0), m",
        "while low < high:",
        "    middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))",
        "    w = table[uint32(tableb + middle * table0)]",
        f"    if {before}:",
        "        low = uint32(middle + uint32(1))",
        "    else:",
        "        high = middle",
        f"out[{_at('out', axes)}] = int64(low)",
    ]
    pointers = {"x": (letter, axes), "table": (letter, 1), "out": ("l", axes)}
    name = f"move_search_{'right' if right else 'left'}_{letter}_{axes}"
    return _each(name, pointers, ["m"], axes, body)


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
    found = [_transpose, *(_gather("f", axes) for axes in (1, 2, 3)), _gather("l", 1)]
    found += [_scatter("f", 1), _scatter("f", 2), _scatter("f", 3), _place(True, 1)]
    return found + [_place(False, 2), _rank("l", True), _rank("f", False), _search("f", True, 1)]
