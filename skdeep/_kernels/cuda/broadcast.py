"""Elementwise functions of arrays that broadcast, of any strides.

There is one template, made into a kernel for every function, number of axes and kind of operands
when it is first asked for. Axes that all operands cross with one step are merged, so that most
calls have one. A pass reads every operand and writes the result once: 4 bytes per element and
float32 array, 16 bytes a thread where rows are aligned.
"""

from functools import cache

import numpy as np

from skdeep._kernels.cuda import _functions
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import (
    cuda,
    float32,
    generated,
    int32,
    int64,
    kernel,
    uint8,
    uint16,
    uint32,
)
from skdeep._kernels.cuda.array import DeviceArray, check_span
from skdeep._kernels.cuda.program import blocks

THREADS = 256

#: dtype -> the letter of its pointer, or of its type in a function.
LETTERS = {
    np.dtype(np.float32): "f",
    np.dtype(np.int64): "l",
    np.dtype(np.int32): "w",
    np.dtype(np.uint16): "h",
    np.dtype(np.uint8): "b",
    np.dtype(np.bool_): "b",
    np.dtype(np.float64): "d",
}
#: Pointer -> how an element of it is read; float64 stands as pairs that sum to it.
_READ = dict.fromkeys("flwhb", "{0}[{1}]") | {"d": "{0}[2 * {1}] + {0}[2 * {1} + one]"}
#: Letter of a function's type -> conversion to it.
_CONVERT = {"f": "float32({})", "l": "int64({})", "b": "uint8({})", "w": "int32({})",
            "h": "uint16({})"}  # fmt: skip
_NAMES = dict(
    cuda=cuda, uint32=uint32, float32=float32, int64=int64, int32=int32, uint8=uint8,
    uint16=uint16, load4=load4, store4=store4, one=np.uint32(1),
)  # fmt: skip


# ---- layouts ----------------------------------------------------------------------------------


def merge(sizes, *steps):
    """Return the axes' sizes and each array's steps, neighbours merged that none tells apart.

    Parameters
    ----------
    sizes : tuple of int
        The sizes of the axes.
    *steps : sequences of int
        The steps of each array along them, in elements; 0 where it broadcasts.

    Returns
    -------
    sizes : tuple of int
        At least one.
    *steps : tuples of int
    """
    axes = []
    for n, *s in zip(sizes, *steps, strict=True):
        if n == 1:
            continue
        if axes and all(o == i * n for o, i in zip(axes[-1][1:], s, strict=True)):
            axes[-1] = (axes[-1][0] * n, *s)
        else:
            axes.append((n, *s))
    return tuple(zip(*(axes or [(1, *[0] * len(steps))]), strict=True))


def steps_for(array, shape):
    """Return an array's steps along the axes of a shape that it broadcasts to."""
    lead = len(shape) - array.ndim
    return [0] * lead + [array.step(i) for i in range(array.ndim)]


def lowest(array):
    """Return the array from its lowest address on, and the first element's place there.

    A pointer's offsets are unsigned: an axis that runs backwards begins at its end.
    """
    back = sum((n - 1) * min(array.step(i), 0) for i, n in enumerate(array.shape))
    dtype = np.uint8 if array.dtype == np.bool_ else array.dtype
    strides = tuple(map(abs, array.strides))
    flat = array.view(array.shape, strides, back * array.itemsize, dtype)
    check_span(flat)
    return flat, -back


def wrapped(numbers):
    """Return steps as unsigned numbers: arithmetic modulo 2**32 does the rest."""
    return tuple(int(n) % (1 << 32) for n in numbers)


def coordinates(sizes, index="i", prefix="c"):
    """Return source lines that take an index apart along axes: the last runs fastest.

    `sizes` are the names of the sizes; that of the first is not used.
    """
    lines, rest = [], index
    for k in range(len(sizes) - 1, 0, -1):
        lines.append(f"{prefix}{k} = uint32({rest} % {sizes[k]})")
        lines.append(f"{prefix}r{k} = uint32({rest} // {sizes[k]})")
        rest = f"{prefix}r{k}"
    return [*lines, f"{prefix}0 = {rest}"]


def offset(start, prefix, steps):
    """Return source of the place that coordinates name, given the names of the steps."""
    terms = " + ".join(f"{prefix}{k} * {s}" for k, s in enumerate(steps))
    return f"uint32({start} + {terms})"


def indented(lines, by=1):
    """Return lines as source text."""
    return "".join("    " * by + line + "\n" for line in lines)


def read(letter, kind, pointer, at):
    """Return source that reads an element as a number of a kind."""
    return _CONVERT[kind].format(_READ[letter].format(pointer, at))


# ---- the template -----------------------------------------------------------------------------


@cache
def _kernel(name, kinds, letters, modes, axes):
    """Return the kernel of a function for a layout.

    Parameters
    ----------
    name : str
        The function.
    kinds : str
        The letters of its arguments' types; `name` is looked up in the table of the widest.
    letters : str
        One for each operand: that of its pointer, ``s`` a float32 number, ``q`` an integer; and
        that of the result's pointer.
    modes : str
        Empty, one element a thread; or four elements a thread along the last axis, and for each
        operand ``v`` where it runs along, ``c`` where it stays.
    axes : int
        The number of axes.
    """
    family = next(k for k in "flb" if k in kinds)
    title = "_".join(filter(None, ["broadcast", name, kinds, letters, modes, str(axes)]))
    build = _vector_source if modes else _strided_source
    source, spec = build(title, kinds, letters, modes, axes)
    f = _functions.function(family, name)
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES | {"f": f}))


def _parameters(letters, axes):
    """Return the names and specification of a kernel's arguments."""
    names, spec = [], []
    for i, letter in enumerate(letters):
        names.append(f"p{i}")
        spec.append(letter)
        if letter not in "sq":
            names += [f"b{i}", *(f"s{i}_{k}" for k in range(axes))]
            spec += "u" * (1 + axes)
    return [*names, *(f"n{k}" for k in range(1, axes)), "n"], [*spec, *"u" * axes]


def _write(letter, at, value, kinds):
    if letter == "d":
        rest = f"{value} - int64(float32({value}))" if kinds == "l" else "0"
        return [f"out[2 * {at}] = float32({value})", f"out[2 * {at} + one] = float32({rest})"]
    return [f"out[{at}] = {_CONVERT[letter].format(value)}"]


def _head(title, names, letters):
    out = f"p{len(letters) - 1}"
    return (
        f"def {title}({', '.join(names)}):\n"
        f"    out = {out}\n"
        f"    i = uint32(uint32(cuda.blockIdx.x) * uint32({THREADS}) + uint32(cuda.threadIdx.x))\n"
    )


def _steps(i, axes):
    return [f"s{i}_{k}" for k in range(axes)]


def _strided_source(title, kinds, letters, modes, axes):
    """Return source and specification of the template for any strides."""
    names, spec = _parameters(letters, axes)
    body = coordinates([f"n{k}" for k in range(axes)])
    *operands, result = letters
    for i, (letter, kind) in enumerate(zip(operands, kinds, strict=True)):
        if letter in "sq":
            body.append(f"x{i} = {_CONVERT[kind].format(f'p{i}')}")
        else:
            body.append(f"o{i} = {offset(f'b{i}', 'c', _steps(i, axes))}")
            body.append(f"x{i} = {read(letter, kind, f'p{i}', f'o{i}')}")
    value = f"f({', '.join(f'x{i}' for i in range(len(operands)))})"
    last = len(operands)
    body.append(f"o = {offset(f'b{last}', 'c', _steps(last, axes))}")
    body += [f"y = {value}", *_write(result, "o", "y", kinds)]
    return _head(title, names, letters) + "    if i < n:\n" + indented(body, 2), " ".join(spec)


def _vector_source(title, kinds, letters, modes, axes):
    """Return source and specification of the template for four elements a thread.

    The sizes count vectors along the last axis. A single axis may end within a vector.
    """
    names, spec = _parameters(letters, axes)
    names, spec = [*names, "count"], [*spec, "u"]
    body = coordinates([f"n{k}" for k in range(axes)])
    body.append(f"c{axes - 1} = uint32(c{axes - 1} * uint32(4))")
    *operands, result = letters
    last = len(operands)
    for i, letter in enumerate(letters):
        if letter not in "sq":
            body.append(f"o{i} = {offset(f'b{i}', 'c', _steps(i, axes))}")
    whole, tail = [], []
    lanes = [[] for _ in range(4)]
    for i, (letter, kind, mode) in enumerate(zip(operands, kinds, modes, strict=True)):
        if mode == "c":
            value = f"p{i}" if letter in "sq" else _READ[letter].format(f"p{i}", f"o{i}")
            body.append(f"x{i} = {_CONVERT[kind].format(value)}")
            tail.append(f"x{i}")
        elif letter == "f":
            whole.append(f"v{i} = load4(p{i}, o{i})")
            tail.append(read(letter, kind, f"p{i}", f"uint32(o{i} + j)"))
        else:
            tail.append(read(letter, kind, f"p{i}", f"uint32(o{i} + j)"))
        for j in range(4):
            if mode == "c":
                lanes[j].append(f"x{i}")
            elif letter == "f":
                lanes[j].append(_CONVERT[kind].format(f"v{i}[{j}]"))
            else:
                lanes[j].append(read(letter, kind, f"p{i}", f"uint32(o{i} + uint32({j}))"))
    values = [_CONVERT[result].format(f"f({', '.join(lane)})") for lane in lanes]
    if result == "f":
        whole.append(f"store4(out, o{last}, ({', '.join(values)}))")
    else:
        whole += [f"out[uint32(o{last} + uint32({j}))] = {v}" for j, v in enumerate(values)]
    at = f"uint32(o{last} + j)"
    tail = [
        f"y = f({', '.join(tail)})",
        *_write(result, at, "y", kinds),
        "j = uint32(j + uint32(1))",
    ]
    source = _head(title, names, letters) + "    if i < n:\n" + indented(body, 2)
    if axes == 1:
        source += "        if uint32(c0 + uint32(4)) <= count:\n" + indented(whole, 3)
        source += "        else:\n            j = uint32(0)\n"
        source += "            while uint32(c0 + j) < count:\n" + indented(tail, 4)
    else:
        source += indented(whole, 2)
    return source, " ".join(spec)


# ---- launches ---------------------------------------------------------------------------------


def elementwise(name, kinds, operands, out):
    """Return the launches of ``out = function(*operands)``.

    Parameters
    ----------
    name : str
        The function, as in `skdeep._kernels.cuda._functions`.
    kinds : str
        The letters of the types that it is computed in, one for each operand.
    operands : sequence of DeviceArray or number
        What broadcasts to the shape of `out`. An operand may be `out` itself.
    out : DeviceArray
        The result.

    Returns
    -------
    list of Launch
    """
    if not out.size:
        return []
    arrays = [a for a in operands if isinstance(a, DeviceArray)]
    places = [lowest(a) for a in (*arrays, out)]
    sizes, *steps = merge(
        out.shape, *(steps_for(a, out.shape) for a in arrays), steps_for(out, out.shape)
    )
    letters, numbers, modes = "", [], ""
    vector = _vectors(sizes, steps, places)
    queue = iter(zip(places, steps, strict=True))
    for value, kind in zip((*operands, out), (*kinds, "f"), strict=True):
        if isinstance(value, DeviceArray):
            (flat, start), s = next(queue)
            letters += LETTERS[flat.dtype]
            modes += "v" if s[-1] else "c"
            numbers += [flat, start, *wrapped(s)]
        else:
            letters, modes = letters + ("s" if kind == "f" else "q"), modes + "c"
            numbers.append(float(value) if kind == "f" else int(value) % (1 << 64))
    if not vector:
        made = _kernel(name, kinds, letters, "", len(sizes))
        return [made(blocks(out.size, THREADS), *numbers, *sizes[1:], out.size)]
    made = _kernel(name, kinds, letters, modes[:-1], len(sizes))
    counts = *sizes[:-1], -(-sizes[-1] // 4)
    n = int(np.prod(counts, dtype=np.int64))
    return [made(blocks(n, THREADS), *numbers, *counts[1:], n, sizes[-1])]


def _vectors(sizes, steps, places):
    """Whether four elements along the last axis can be taken at once."""
    if (len(sizes) > 1 and sizes[-1] % 4) or steps[-1][-1] != 1:
        return False
    for s, (flat, _) in zip(steps, places, strict=True):
        if s[-1] not in (0, 1) or min(s) < 0 or flat.dtype == np.float64:
            return False
        if s[-1] == 1 and flat.dtype == np.float32:
            rows = all(step % 4 == 0 for step in s[:-1])
            if not rows or (flat.offset + flat.buffer_alignment) % 16:
                return False
    return any(flat.dtype == np.float32 for flat, _ in places)


def fill(out, value):
    """Return the launches of ``out[...] = value``."""
    kind = {"f": "f", "d": "f", "b": "b"}.get(LETTERS[out.dtype], "l")
    return elementwise("copy", kind, [value], out)


def catalogue():
    """Return kernels that stand for all: the common layouts, and the heaviest functions."""
    flat = [("add", "ff", "fff"), ("multiply", "ff", "fsf"), ("greater", "ff", "ffb")]
    flat += [(name, "f", "ff") for name in ("exp", "sin", "cbrt", "erf", "sigmoid", "copy")]
    flat += [(name, "ff", "fff") for name in ("power", "floor_divide", "logaddexp", "arctan2")]
    found = [_kernel(n, k, w, "vc"[: len(k)] if "s" in w else "v" * len(k), 1) for n, k, w in flat]
    found += [_kernel("add", "ff", "fff", "vv", 2), _kernel("where", "bff", "bfff", "vvv", 1)]
    found += [_kernel("add", "ff", "fff", "", axes) for axes in (1, 3)]
    return found + [_kernel("floor_divide", "ll", "lql", "", 1), _kernel("tan", "f", "ff", "", 2)]
