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
    "min": (_functions.TABLES["f"]["minimum"], dict(f=_INF, l=_HIGHEST, b=np.uint8(1))),
    "all": (lambda a, b: a & b, dict(b=np.uint8(1))),
    "any": (lambda a, b: a | b, dict(b=np.uint8(0))),
}
_MAKE = {"f": "float32", "l": "int64", "b": "uint8"}
_NAMES = dict(cuda=cuda, uint32=uint32, float32=float32, int64=int64, uint8=uint8, exp=exp,
              log=log, inf=_INF, one=np.uint32(1))  # fmt: skip


# ---- layouts ----------------------------------------------------------------------------------


class _Layout:
    """An array's axes, as those of its outputs and those of the elements that each reduces."""

    def __init__(self, x, axes, out):
        rest = [i for i in range(x.ndim) if i not in axes]
        steps = steps_for(x, x.shape)
        self.x, self.x_start = lowest(x)
        self.out, self.out_start = lowest(out)
        shape = tuple(x.shape[i] for i in rest)
        places = [i for i in range(out.ndim) if i not in axes] if out.ndim == x.ndim else None
        out_steps = [out.step(i) for i in (range(out.ndim) if places is None else places)]
        self.kept, self.kept_steps, self.out_steps = merge(
            shape, [steps[i] for i in rest], out_steps
        )
        along = [out.step(i) if out.shape == x.shape else 0 for i in axes]
        self.reduced, self.reduced_steps, self.along = merge(
            [x.shape[i] for i in axes], [steps[i] for i in axes], along
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
            *(self.n, self.m),
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
    return f"{name} = cuda.shared.array({THREADS}, {_MAKE[kind]})"


# ---- sums, extremes, tests --------------------------------------------------------------------


@cache
def _reduction(operation, kind, letters, form, axes):
    """Return the kernel of a reduction; block axis 1 counts parts of `chunk` elements."""
    combine, neutral = _OPERATIONS[operation]
    title = "_".join(["reduce", operation, kind, letters, _form_name(form), *map(str, axes)])
    lanes, count = form[1], axes[1]
    truth = operation in ("all", "any") and letters[0] != "b"
    kind_read = ("f" if letters[0] == "f" else "l") if truth else kind
    body = [_shared("s", kind)]
    body += [f"v{j} = neutral" for j in range(4)]
    step = lanes
    body += [
        "k = uint32(uint32(cuda.blockIdx.y) * chunk + lane)",
        "end = min(m, uint32(uint32(uint32(cuda.blockIdx.y) + one) * chunk))",
        "if live:",
        f"    while uint32(k + uint32({3 * step})) < end:",
    ]
    one = [*_element(letters[0], kind_read, count), *(["v = uint8(truth(v))"] if truth else [])]
    for j in range(4):
        lines = [*one, f"v{j} = combine(v{j}, v)", f"k = uint32(k + uint32({step}))"]
        body += [f"        {line}" for line in lines]
    body.append("    while k < end:")
    body += [f"        {line}" for line in [*one, "v0 = combine(v0, v)"]]
    body.append(f"        k = uint32(k + uint32({step}))")
    body.append("s[t] = combine(combine(v0, v1), combine(v2, v3))")
    body += _tree(form, lambda a, b, s: [f"{s}[{a}] = combine({s}[{a}], {s}[{b}])"], ["s"])
    body += [
        "if live and lane == uint32(0):",
        f"    out[uint32(place + uint32(cuda.blockIdx.y) * part)] = {_MAKE[kind]}(s[t])",
    ]
    extra = [("chunk", "u"), ("part", "u")]
    source, spec = _source(title, form, letters, axes, body, extra=extra)
    names = dict(combine=device(combine), neutral=neutral[kind], min=min)
    if truth:
        names["truth"] = device(_functions.TABLES[kind_read]["truth"])
    if kind == "b":  # an operation on bytes may be wider than they are
        source = source.replace("= combine(", "= narrowed(")
        names["narrowed"] = _narrowed(names["combine"])
    return kernel(spec, threads=THREADS, name=title)(generated(source, title, _NAMES | names))


@cache
def _narrowed(combine):
    return device(lambda a, b: uint8(combine(a, b)))


def _form_name(form):
    return f"{'rows' if form[0] else 'columns'}{form[1]}"


def reduction(operation, x, axes, out):
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

    Returns
    -------
    list of Launch
    """
    if not out.size:
        return []
    layout = _Layout(x, axes, out)
    kind = {"f": "f", "b": "b"}.get(LETTERS[out.dtype], "l")
    form = rows, lanes = layout.form
    made = _reduction(operation, kind, LETTERS[x.dtype] + LETTERS[out.dtype], form, layout.axes)
    across = blocks(layout.n, THREADS // lanes)
    parts = _parts(x.device.multiprocessors, across, layout.m, lanes)
    if parts == 1:
        return [made(across, *layout.numbers(), layout.m, 0)]
    dtype = np.uint8 if out.dtype == np.bool_ else out.dtype
    partial = scratch(out).take((parts, layout.n), dtype)
    first = _Layout(x, axes, partial.view((layout.n,)).view(_free(x, axes)))
    chunk = -(-layout.m // parts)
    launches = [made((across, parts), *first.numbers(), chunk, layout.n)]
    flat = _Layout(partial, (0,), partial.view((layout.n,)))
    flat.out, flat.out_start = layout.out, layout.out_start
    second = reduction(operation, partial.view((parts, *_free(x, axes))), (0,), _dropped(x, axes, out))
    return launches + second


def _free(x, axes):
    return tuple(n for i, n in enumerate(x.shape) if i not in axes)
