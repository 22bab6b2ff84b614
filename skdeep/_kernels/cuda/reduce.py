"""Reductions over any axes: sums, extremes, tests, positions, softmax, and running sums.

The threads of a block are outputs times lanes; the lanes of an output share its elements and
add what they found in a fixed tree, so that two runs are equal bit for bit. Neighbouring threads
are lanes where the reduced axes run fastest in memory, else outputs, so that reads are
coalesced. Few outputs of many elements are reduced in parts, which a second pass reduces. Every
element is read once: 4 bytes (softmax reads a line three times, twice of them from a cache).
"""

from functools import cache

import numpy as np

from skdeep._kernels.cuda import _functions
from skdeep._kernels.cuda._numba import (
    cuda,
    device,
    exp,
    float32,
    generated,
    int64,
    kernel,
    log,
    uint8,
    uint32,
)
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.broadcast import (
    LETTERS,
    coordinates,
    indented,
    lowest,
    merge,
    offset,
    read,
    steps_for,
    wrapped,
)
from skdeep._kernels.cuda.program import blocks

THREADS = 256
_LOWEST = np.int64(np.iinfo(np.int64).min)
_HIGHEST = np.int64(np.iinfo(np.int64).max)
_INF = np.float32(np.inf)

#: Operation -> how two are combined, and what leaves a float32, an int64, a truth value alone.
_OPERATIONS = {
    "sum": (lambda a, b: a + b, dict(f=np.float32(0), l=np.int64(0))),
    "max": (_functions.TABLES["f"]["maximum"], dict(f=-_INF, l=_LOWEST, b=np.uint8(0))),
    "min": (_functions.TABLES["f"]["minimum"], dict(f=_INF, l=_HIGHEST, b=np.uint8(255))),
    "all": (lambda a, b: a & b, dict(b=np.uint8(1))),
    "any": (lambda a, b: a | b, dict(b=np.uint8(0))),
}
_MAKE = {"f": "float32", "l": "int64", "b": "uint8"}
_NAMES = dict(cuda=cuda, uint32=uint32, float32=float32, int64=int64, uint8=uint8, exp=exp,
              log=log, inf=_INF, one=np.uint32(1))  # fmt: skip


# ---- layouts ----------------------------------------------------------------------------------


class _Layout:
    """An array's axes: those of the outputs, and those of the elements that each reduces.

    Parameters
    ----------
    x : DeviceArray
        The array.
    axes : tuple of int
        The axes to reduce.
    out : DeviceArray
        The result, without those axes, or with `along` of the shape of `x`.
    along : bool, default=False
        Whether every element has a result.
    """

    def __init__(self, x, axes, out, along=False):
        rest = [i for i in range(x.ndim) if i not in axes]
        steps = steps_for(x, x.shape)
        self.x, self.x_start = lowest(x)
        self.out, self.out_start = lowest(out)
        self.kept, self.kept_steps, self.out_steps = merge(
            [x.shape[i] for i in rest],
            [steps[i] for i in rest],
            [out.step(i) for i in (rest if along else range(out.ndim))],
        )
        self.reduced, self.reduced_steps, self.along = merge(
            [x.shape[i] for i in axes],
            [steps[i] for i in axes],
            [out.step(i) if along else 0 for i in axes],
        )
        self.n = int(np.prod(self.kept, dtype=np.int64))
        self.m = int(np.prod(self.reduced, dtype=np.int64))

    @property
    def form(self):
        """Whether lanes are neighbours, and the number of lanes of an output."""
        rows = self.n == 1 or abs(self.reduced_steps[-1]) < abs(self.kept_steps[-1])
        if not rows:
            return False, 1 if self.m <= 16 else 8
        return True, 8 if self.m <= 32 else 32 if self.m <= 1024 else THREADS

    @property
    def axes(self):
        """The numbers of axes."""
        return len(self.kept), len(self.reduced)

    def numbers(self, along=False):
        """Return a kernel's arguments; `along` with steps of the result along reduced axes."""
        steps = (*self.out_steps, *(self.along if along else ()))
        return (
            *(self.x, self.x_start, *wrapped(self.kept_steps), *wrapped(self.reduced_steps)),
            *(self.out, self.out_start, *wrapped(steps), *self.kept[1:], *self.reduced[1:]),
            self.n,
            self.m,
        )


def _source(title, form, letters, axes, body, along=False, extra=()):
    """Return source and specification of a kernel of the layout.

    `body` is given the coordinates' offsets ``base`` and ``place`` of its output, the number
    `lane`, and `live`, whether there is such an output.
    """
    rows, lanes = form
    kept, reduced = axes
    n_along = reduced if along else 0
    names = ["x", "xb", *(f"a{k}" for k in range(kept)), *(f"r{k}" for k in range(reduced))]
    names += ["out", "ob", *(f"o{k}" for k in range(kept)), *(f"w{k}" for k in range(n_along))]
    names += [*(f"n{k}" for k in range(1, kept)), *(f"m{k}" for k in range(1, reduced)), "n", "m"]
    spec = [letters[0], *"u" * (1 + kept + reduced), letters[1], *"u" * (1 + kept + n_along)]
    spec += "u" * (kept + reduced)
    width = THREADS // lanes
    ours = (f"t // uint32({lanes})", f"t % uint32({lanes})")
    ours = ours if rows else (f"t % uint32({width})", f"t // uint32({width})")
    head = [
        "t = uint32(cuda.threadIdx.x)",
        f"i = uint32(uint32(cuda.blockIdx.x) * uint32({width}) + uint32({ours[0]}))",
        f"lane = uint32({ours[1]})",
        "live = i < n",
        *coordinates([f"n{k}" for k in range(kept)]),
        f"base = {offset('xb', 'c', [f'a{k}' for k in range(kept)])}",
        f"place = {offset('ob', 'c', [f'o{k}' for k in range(kept)])}",
    ]
    source = f"def {title}({', '.join([*names, *(name for name, _ in extra)])}):\n"
    return source + indented([*head, *body]), " ".join([*spec, *(word for _, word in extra)])


def _element(letter, kind, reduced, k="k"):
    """Return lines that read element k of the output's, as `v`; its place goes to `at`."""
    return [
        *coordinates([f"m{i}" for i in range(reduced)], k, "e"),
        f"at = {offset('base', 'e', [f'r{i}' for i in range(reduced)])}",
        f"v = {read(letter, kind, 'x', 'at')}",
    ]


def _tree(form, combine, arrays):
    """Return lines that combine the lanes of an output: the sum stands with lane 0."""
    rows, lanes = form
    lines, half = [], lanes // 2
    while half:
        other = f"uint32(t + uint32({half if rows else half * (THREADS // lanes)}))"
        lines.append("cuda.syncthreads()")
        lines.append(f"if lane < uint32({half}):")
        lines += [f"    {line}" for line in combine("t", other, *arrays)]
        half //= 2
    return [*lines, "cuda.syncthreads()"]


def _first(form):
    """Return source of the place of an output's lane 0."""
    rows, lanes = form
    return f"uint32(t - lane * uint32({1 if rows else THREADS // lanes}))"


def _shared(name, kind):
    return f"{name} = cuda.shared.array({THREADS}, {_MAKE[kind]}, 16)"


# ---- sums, extremes, tests --------------------------------------------------------------------


@cache
def _reduction(operation, kind, letters, form, axes):
    """Return the kernel of a reduction; block axis 1 counts parts of `chunk` elements."""
    combine, neutral = _OPERATIONS[operation]
    title = "_".join(["reduce", operation, kind, letters, _form_name(form), *map(str, axes)])
    lanes, count = form[1], axes[1]
    truth = operation in ("all", "any")
    kind_read = {"f": "f", "b": "b"}.get(letters[0], "l") if truth else kind
    body = [_shared("s", kind), *(f"v{j} = neutral" for j in range(4))]
    body += [
        "k = uint32(uint32(cuda.blockIdx.y) * chunk + lane)",
        "end = uint32((uint32(cuda.blockIdx.y) + one) * chunk)",
        "end = end if end < m else m",
        "if live:",
        f"    while uint32(k + uint32({3 * lanes})) < end:",
    ]
    one = [*_element(letters[0], kind_read, count), *(["v = uint8(truth(v))"] if truth else [])]
    for j in range(4):
        lines = [*one, f"v{j} = combine(v{j}, v)", f"k = uint32(k + uint32({lanes}))"]
        body += [f"        {line}" for line in lines]
    body.append("    while k < end:")
    body += [f"        {line}" for line in [*one, "v0 = combine(v0, v)"]]
    body.append(f"        k = uint32(k + uint32({lanes}))")
    body.append("s[t] = combine(combine(v0, v1), combine(v2, v3))")
    body += _tree(form, lambda a, b, s: [f"{s}[{a}] = combine({s}[{a}], {s}[{b}])"], ["s"])
    body += [
        "if live and lane == uint32(0):",
        f"    out[uint32(place + uint32(cuda.blockIdx.y) * part)] = {_MAKE[kind]}(s[t])",
    ]
    extra = [("chunk", "u"), ("part", "u")]
    source, spec = _source(title, form, letters, axes, body, extra=extra)
    combine = device(combine)
    names = dict(combine=_narrowed(combine) if kind == "b" else combine, neutral=neutral[kind])
    if truth:
        names["truth"] = _functions.function(kind_read, "truth")
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES | names))


@cache
def _narrowed(combine):
    """Return an operation on bytes whose result is one: by itself it would be wider."""
    return device(lambda a, b: uint8(combine(a, b)))


def _form_name(form):
    return f"{'rows' if form[0] else 'columns'}{form[1]}"


def reduction(operation, x, axes, out, parts=None):
    """Return the launches that reduce an array over axes.

    Parameters
    ----------
    operation : {"sum", "max", "min", "all", "any"}
        What is done; truth values and integers are added as int64.
    x : DeviceArray
        The array.
    axes : tuple of int
        The axes, not negative.
    out : DeviceArray
        The result, with the reduced axes of length one or without them.
    parts : int, optional
        In how many parts each output's elements are reduced; by default what fills the device.

    Returns
    -------
    list of Launch
    """
    if not out.size:
        return []
    out = without(out, axes) if out.ndim == x.ndim else out
    layout = _Layout(x, axes, out)
    kind = {"f": "f", "b": "b"}.get(LETTERS[out.dtype], "l")
    letters = LETTERS[x.dtype] + LETTERS[out.dtype]
    made = _reduction(operation, kind, letters, layout.form, layout.axes)
    across = blocks(layout.n, THREADS // layout.form[1])
    parts = parts or _parts(x.device.multiprocessors, across, layout)
    if parts == 1:
        return [made(across, *layout.numbers(), layout.m, 0)]
    partial = scratch(out).take((parts, *out.shape), out.dtype)
    first = _Layout(x, axes, partial.view(out.shape))
    first.out = lowest(partial)[0]  # the other parts stand behind the first
    chunk = -(-layout.m // parts)
    return [
        made((across, parts), *first.numbers(), chunk, layout.n),
        *reduction(operation, partial, (0,), out, parts=1),
    ]


def without(a, axes):
    """Return an array without axes, of which its first places are kept."""
    rest = [i for i in range(a.ndim) if i not in axes]
    return a.view(tuple(a.shape[i] for i in rest), tuple(a.strides[i] for i in rest))


def _parts(multiprocessors, across, layout):
    """Return in how many parts to reduce, so that there are two blocks a multiprocessor."""
    least = 16 * layout.form[1]  # elements of a part: 16 a lane
    wanted = -(-2 * multiprocessors // across)
    return max(1, min(wanted, layout.m // least, 1024))


# ---- positions --------------------------------------------------------------------------------


@device
def _ahead(v, i, w, j, sign):
    """Whether w at place j comes before v at place i: NaN first, then the larger by sign."""
    if w != w or v != v:
        return w != w and (v == v or j < i)
    return w * sign > v * sign or (w == v and j < i)


@cache
def _position(sign, kind, letter, form, axes):
    title = "_".join(
        ["reduce", "argmax" if sign > 0 else "argmin", kind, letter, _form_name(form)]
        + [str(n) for n in axes]
    )
    lanes = form[1]
    body = [
        _shared("s", kind),
        _shared("p", "l"),
        "b, j = nothing, int64(m)",
        "k = lane",
        "while live and k < m:",
        *(f"    {line}" for line in _element(letter, kind, axes[1])),
        "    if j == int64(m) or ahead(b, j, v, int64(k), sign):",
        "        b, j = v, int64(k)",
        f"    k = uint32(k + uint32({lanes}))",
        "s[t], p[t] = b, j",
    ]

    def better(a, b, s, p):
        return [
            f"if {p}[{b}] < int64(m) and ({p}[{a}] == int64(m) or "
            f"ahead({s}[{a}], {p}[{a}], {s}[{b}], {p}[{b}], sign)):",
            f"    {s}[{a}], {p}[{a}] = {s}[{b}], {p}[{b}]",
        ]

    body += [*_tree(form, better, ["s", "p"]), "if live and lane == uint32(0):"]
    source, spec = _source(title, form, letter + "l", axes, [*body, "    out[place] = p[t]"])
    number = np.float32 if kind == "f" else np.int64
    names = dict(ahead=_ahead, sign=number(sign), nothing=number(0))
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES | names))


def position(x, axis, sign, out):
    """Return the launches that find the first largest (sign 1) or smallest (-1) along an axis."""
    if not out.size:
        return []
    layout = _Layout(x, (axis,), without(out, (axis,)) if out.ndim == x.ndim else out)
    kind = "f" if LETTERS[x.dtype] == "f" else "l"
    made = _position(sign, kind, LETTERS[x.dtype], layout.form, layout.axes)
    return [made(blocks(layout.n, THREADS // layout.form[1]), *layout.numbers())]


# ---- the softmax family -----------------------------------------------------------------------

#: Function -> what it writes of element v, with its line's largest `top` and sum `total`.
_SOFT = {
    "softmax": "exp(v - top) / total",
    "log_softmax": "(v - top) - log(total)",
    "logsumexp": "log(total) + top",
}


@cache
def _soft(name, form, axes):
    title = "_".join(["reduce", name, _form_name(form), *map(str, axes)])
    along, lanes = name != "logsumexp", form[1]
    element = [f"    {line}" for line in _element("f", "f", axes[1])]
    ahead = f"    k = uint32(k + uint32({lanes}))"
    body = [
        *(_shared("s", "f"), _shared("u", "f")),
        *("v0 = -inf", "k = lane", "while live and k < m:", *element),
        *("    v0 = larger(v0, v)", ahead, "s[t] = v0"),
        *_tree(form, lambda a, b, s: [f"{s}[{a}] = larger({s}[{a}], {s}[{b}])"], ["s"]),
        f"top = s[{_first(form)}]",
        "top = top if abs(top) < inf else float32(0)",
        *("v0 = float32(0)", "k = lane", "while live and k < m:", *element),
        *("    v0 += exp(v - top)", ahead, "u[t] = v0"),
        *_tree(form, lambda a, b, s: [f"{s}[{a}] += {s}[{b}]"], ["u"]),
        f"total = u[{_first(form)}]",
    ]
    if along:
        to = offset("place", "e", [f"w{i}" for i in range(axes[1])])
        body += ["k = lane", "while live and k < m:", *element]
        body += [f"    out[{to}] = {_SOFT[name]}", ahead]
    else:
        body += ["if live and lane == uint32(0):", f"    out[place] = {_SOFT[name]}"]
    source, spec = _source(title, form, "ff", axes, body, along)
    names = dict(larger=_functions.function("f", "maximum"))
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES | names))


def soft(name, x, axes, out):
    """Return the launches of "softmax", "log_softmax" or "logsumexp" over axes."""
    if not out.size:
        return []
    along = name != "logsumexp"
    if not along and out.ndim == x.ndim:
        out = without(out, axes)
    layout = _Layout(x, axes, out, along)
    made = _soft(name, layout.form, layout.axes)
    return [made(blocks(layout.n, THREADS // layout.form[1]), *layout.numbers(along))]


# ---- running sums -----------------------------------------------------------------------------


@cache
def _running(letters, form, axes):
    """Return the kernel of running sums: lanes scan a chunk of a line, and carry on."""
    kind, lanes = letters[1], form[1]
    title = "_".join(["reduce", "cumsum", letters, _form_name(form), str(axes[0])])
    hop = 1 if form[0] else THREADS // lanes
    body = [f"s = cuda.shared.array({2 * THREADS}, {_MAKE[kind]}, 16)"] if lanes > 1 else []
    body += [f"carry = {_MAKE[kind]}(0)", "first = uint32(0)", "while first < m:"]
    loop = ["k = uint32(first + lane)", f"v = {_MAKE[kind]}(0)", "if live and k < m:"]
    loop += [f"    {line}" for line in _element(letters[0], kind, 1)]
    distance, side = 1, 0
    while distance < lanes:
        here, other = f"uint32(t + uint32({side * THREADS}))", distance * hop
        loop += [f"s[{here}] = v", "cuda.syncthreads()", f"if lane >= uint32({distance}):"]
        loop += [f"    v = s[uint32({here} - uint32({other}))] + v"]
        distance, side = 2 * distance, 1 - side
    if lanes > 1:
        here = f"uint32(t + uint32({side * THREADS}))"
        loop += [f"s[{here}] = v", "cuda.syncthreads()"]
        total = f"s[uint32({_first(form)} + uint32({side * THREADS + (lanes - 1) * hop}))]"
    else:
        total = "v"
    loop += ["if live and k < m:", "    out[uint32(place + k * w0)] = carry + v"]
    loop += [f"carry = carry + {total}", *(["cuda.syncthreads()"] if lanes > 1 else [])]
    loop += [f"first = uint32(first + uint32({lanes}))"]
    body += [f"    {line}" for line in loop]
    source, spec = _source(title, form, letters, axes, body, along=True)
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES))


def cumsum(x, axis, out):
    """Return the launches of running sums along an axis."""
    if not out.size:
        return []
    layout = _Layout(x, (axis,), out, along=True)
    many = layout.n >= 64 * THREADS or not layout.form[0]
    form = (False, 1) if many else (True, 32 if layout.m <= 1024 else THREADS)
    made = _running(LETTERS[x.dtype] + LETTERS[out.dtype], form, layout.axes)
    return [made(blocks(layout.n, THREADS // form[1]), *layout.numbers(along=True))]


def catalogue():
    """Return kernels that stand for all: what networks ask for, and the heaviest."""
    columns, rows, block = (False, 8), (True, 32), (True, THREADS)
    sums = [("sum", "f", "ff", form, (1, 1)) for form in (columns, rows, block, (True, 8))]
    sums += [("sum", "f", "ff", columns, (2, 1)), ("sum", "f", "ff", rows, (1, 2))]
    sums += [("max", "f", "ff", rows, (1, 1)), ("sum", "l", "bl", rows, (1, 1))]
    sums += [("any", "b", "fb", rows, (1, 1))]
    found = [_reduction(*key) for key in sums]
    found += [_position(1, "f", "f", rows, (1, 1)), _position(-1, "l", "l", columns, (1, 1))]
    found += [_soft(name, rows, (1, 1)) for name in _SOFT]
    return found + [_running("ff", (True, THREADS), (1, 1)), _running("ff", (False, 1), (2, 1))]
