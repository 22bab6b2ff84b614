"""Elements copied from place to place: strided copies, gathers, scatters.

A scatter adds what falls on one place in the order of its positions: the positions are sorted by
place, and every place looks up its run. So there are no atomic additions, and two runs are equal
bit for bit.
"""

from functools import cache

import numpy as np

from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, float32, generated, int64, kernel, uint8, uint32
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
_NAMES = dict(cuda=cuda, uint32=uint32, int64=int64, float32=float32, uint8=uint8,
              load4=load4, store4=store4)  # fmt: skip
_ZERO = {"f": "float32(0)", "l": "int64(0)", "b": "uint8(0)"}


# ---- copies -----------------------------------------------------------------------------------


@kernel("f u u u f u u u u u", threads=THREADS, name="move_transpose")
def _transpose(x, x_start, x_batch, x_column, out, out_start, out_batch, out_row, rows, columns):
    """Copy matrices whose columns are contiguous to where rows are, by tiles of 32 x 32."""
    tile = cuda.shared.array(_CELLS, float32, 16)
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
    if out.dtype.kind == "f":  # a pair of float32 holds an integer of 48 bits
        return elementwise(
            "copy", "l" if (source, out.dtype) == ("l", np.float64) else "f", [x], out
        )
    kind = "b" if source == "b" and out.dtype == np.uint8 else "l"
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


def each(title, pointers, numbers, axes, body):
    """Return the kernel that does `body` for every i below n.

    Parameters
    ----------
    title : str
        The kernel's name.
    pointers : dict of str to tuple
        Name of an array -> its letter and the number of its steps; ``x_at(c)`` of the names
        ``x0, x1 ...`` is made with `at`.
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


def at(name, axes, start=True):
    """Return source of an array's place at c0, c1 ..."""
    return offset(f"{name}b" if start else "uint32(0)", "c", [f"{name}{k}" for k in range(axes)])


# ---- gathers ----------------------------------------------------------------------------------


@cache
def _gather(letter, axes, vector=False):
    """Return the kernel of ``out[c] = x[c] + scale * index[c] further on``.

    It moves 8 bytes an element and reads the index; with `vector` 16 bytes at a time, in rows
    that are gathered as a whole.
    """
    body = [
        *([f"c{axes - 1} = uint32(c{axes - 1} * uint32(4))"] if vector else []),
        f"j = index[{at('index', axes)}]",
        "if limit > 0:",
        "    j = j + int64(limit) if j < 0 else j",
        "    j = int64(0) if j < 0 else j",
        "    j = j if j < int64(limit) else int64(limit) - int64(1)",
        f"place = uint32({at('x', axes)} + uint32(j) * scale)",
        f"store4(out, {at('out', axes)}, load4(x, place))"
        if vector
        else f"out[{at('out', axes)}] = x[place]",
    ]
    pointers = {"x": (letter, axes), "index": ("l", axes), "out": (letter, axes)}
    title = f"move_gather_{letter}_{axes}" + ("_vector" if vector else "")
    return each(title, pointers, ["limit", "scale"], axes, body)


def _in_vectors(sizes, steps, start, limit, scale, x, out):
    """Whether rows of multiples of four float32 are gathered, all of them aligned."""
    a, b, c = steps
    rows = (*a[:-1], *c[:-1], start, scale, sizes[-1], x[1], out[1])
    return (
        limit > 0
        and (a[-1], b[-1], c[-1]) == (1, 0, 1)
        and x[0].dtype == np.float32
        and all(n % 4 == 0 for n in rows)
        and all((z[0].offset + z[0].buffer_alignment) % 16 == 0 for z in (x, out))
    )


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
    vector = _in_vectors(sizes, (a, b, c), start, limit, scale, x, out)
    sizes = (*sizes[:-1], sizes[-1] // 4) if vector else sizes
    made = _gather(LETTERS[x[0].dtype], len(sizes), vector)
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
        f"j = index[{at('index', axes)}]",
        "j = j + int64(limit) if j < 0 else j",
        "j = int64(0) if j < 0 else j",
        "j = j if j < int64(limit) else int64(limit) - int64(1)",
        f"o = {at('out', axes)}",
        "j = j * int64(scale)" if first else "j = out[o] + j * int64(scale)",
        "out[o] = j",
    ]
    pointers = {"index": ("l", axes), "out": ("l", axes)}
    name = f"move_place_{'first' if first else 'next'}_{axes}"
    return each(name, pointers, ["limit", "scale"], axes, body)


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


def last(a, axis):
    """Return a view with an axis moved to the end."""
    order = [i for i in range(a.ndim) if i != axis] + [axis]
    return a.view(tuple(a.shape[i] for i in order), tuple(a.strides[i] for i in order))


# ---- scatters ---------------------------------------------------------------------------------


@cache
def _scatter(letter, axes):
    """Return the kernel that sums, for every place, the run of positions that name it."""
    body = [
        f"key = int64({at('weight', axes, False)})",
        f"low = uint32({at('line', axes, False)} * m)",
        "high = uint32(low + m)",
        "end = high",
        "while low < high:",
        "    middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))",
        "    if keys[middle] < key:",
        "        low = uint32(middle + uint32(1))",
        "    else:",
        "        high = middle",
        f"total = {_ZERO[letter]}",
        f"at = {at('x', axes)}",
        # The end of the run is found first: then the loads of a long one do not wait for another.
        "first, high = low, end",
        "if low < end and keys[low] == key:",
        "    while low < high:",
        "        middle = uint32(low + uint32(uint32(high - low) >> uint32(1)))",
        "        if keys[middle] <= key:",
        "            low = uint32(middle + uint32(1))",
        "        else:",
        "            high = middle",
        "while first < low:",
        "    total = total + x[uint32(at + uint32(order[first]) * step)]",
        "    first = uint32(first + uint32(1))",
        f"out[{at('out', axes)}] = total",
    ]
    pointers = {"x": (letter, axes), "order": ("l", 0), "keys": ("l", 0), "out": (letter, axes)}
    numbers = [f"{name}{k}" for name in ("weight", "line") for k in range(axes)]
    return each(f"move_scatter_{letter}_{axes}", pointers, [*numbers, "m", "step"], axes, body)


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


def catalogue():
    """Return kernels that stand for all."""
    found = [_transpose, *(_gather("f", axes) for axes in (1, 2, 3)), _gather("l", 1)]
    found.append(_gather("f", 2, True))
    found += [_scatter("f", 1), _scatter("f", 2), _scatter("f", 3)]
    return found + [_place(True, 1), _place(False, 2)]
