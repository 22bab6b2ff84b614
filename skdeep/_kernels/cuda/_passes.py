"""Elementwise passes: one template for every function of elements and of numbers beside them.

The elements of a member stand in one run. A thread takes four of them, by vectors of 16 bytes,
where the runs are aligned, and one at the run's end or where they are not. Every element is read
and written once, so that a pass of n arrays moves 4 n bytes an element.
"""

from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, generated, kernel, uint32
from skdeep._kernels.cuda.array import check_span
from skdeep._kernels.cuda.program import blocks

_THREADS = 256
#: What an argument is: of every element, row, row (int64), column, or member.
_POINTERS = {"x": "f", "r": "f", "y": "l", "c": "f", "m": "f"}

_SOURCE = """
def {name}({pointers}, out, {steps}, out_step, k, vectors, n):
    i = uint32(uint32(cuda.blockIdx.x) * uint32({threads}) + uint32(cuda.threadIdx.x))
    m = uint32(cuda.blockIdx.y)
    {offsets}
    to = uint32(m * out_step)
    if i < vectors:
        e = uint32(i * uint32(4))
        {begin}
        {loads}
        v0 = body({args0})
        {next}
        v1 = body({args1})
        {next}
        v2 = body({args2})
        {next}
        v3 = body({args3})
        store4(out, uint32(to + e), (v0, v1, v2, v3))
    else:
        e = uint32(i + uint32(vectors * uint32(3)))
        if e < n:
            {begin}
            out[uint32(to + e)] = body({args})
"""

_BEGIN = "row = uint32(e // k); col = uint32(e - uint32(row * k))"
#: Move row and column to the next element, with no further division.
_NEXT = (
    "col = uint32(col + uint32(1)); "
    "row = uint32(row + uint32(1)) if col == k else row; "
    "col = uint32(0) if col == k else col"
)


class Pass:
    """A kernel that computes out = f(arguments), elementwise; calling it gives the launches.

    Parameters
    ----------
    name : str
        The kernel's name.
    body : device function
        Takes an element of every argument, and the element's column where `columns` says so.
    inputs : str
        What the arguments are, one word each: ``x`` elements (M or 1, ...) as the output's,
        ``r`` float32 or ``y`` int64 numbers of its rows (M or 1, ...), ``c`` numbers of its
        columns, the last axis (M or 1, C), ``m`` numbers of its members (M or 1).
    columns : bool, default=False
        Whether the body takes the column and the number of columns at last.
    """

    def __init__(self, name, body, inputs, columns=False):
        self.inputs = inputs.split()
        numbered = [(kind, f"{kind}{i}") for i, kind in enumerate(self.inputs)]
        spec = [_POINTERS[kind] for kind in self.inputs] + ["f"] + ["u"] * (len(numbered) + 4)
        function = generated(_source(name, numbered, columns), name, _NAMES | {"body": body})
        self.kernel = kernel(" ".join(spec), _THREADS, name=name)(function)

    def __call__(self, *arrays):
        *arrays, out = arrays
        if not out.size:
            return []
        check_span(*arrays, out)
        members, n = len(out), out.size // len(out)
        if all(map(self._is_one_run, self.inputs, arrays, [out] * len(arrays))):
            members, n = 1, out.size
        steps = [a.step(0) if members > 1 else 0 for a in (*arrays, out)]
        elements = [a for a, kind in zip(arrays, self.inputs, strict=True) if kind == "x"]
        whole = all(_aligned(a, members, n) for a in (*elements, out))
        vectors = n // 4 if whole else 0
        grid = blocks(n - 3 * vectors, _THREADS), members
        return [self.kernel(grid, *arrays, out, *steps, out.shape[-1], vectors, n)]

    @staticmethod
    def _is_one_run(kind, a, out):
        """Whether an argument goes on from member to member as the output does."""
        if kind in "cm":
            return len(a) == 1 and (kind == "m" or len(out) == 1)
        return len(out) == 1 or (len(a) == len(out) and a.is_contiguous and out.is_contiguous)


def _aligned(a, members, n):
    """Whether every member's run begins at a multiple of 16 bytes."""
    return a.view((members, n), (a.step(0) * a.itemsize, a.itemsize)).aligned()


def _source(name, numbered, columns):
    """Return the source of a pass over arguments of these kinds and names."""
    rowed = columns or any(kind in "ryc" for kind, _ in numbered)
    tail = ", col, k" if columns else ""

    def arguments(element):
        at = {"x": "e", "r": "row", "y": "row", "c": "col"}
        words = [
            f"v_{p}[{element}]"
            if kind == "x" and element is not None
            else f"a_{p}"
            if kind == "m"
            else f"{p}[uint32(at_{p} + {at[kind]})]"
            for kind, p in numbered
        ]
        return ", ".join(words) + tail

    offsets = [f"at_{p} = uint32(m * step_{p})" for _, p in numbered]
    offsets += [f"a_{p} = {p}[at_{p}]" for kind, p in numbered if kind == "m"]
    loads = [f"v_{p} = load4({p}, uint32(at_{p} + e))" for kind, p in numbered if kind == "x"]
    return _SOURCE.format(
        name=name,
        threads=_THREADS,
        pointers=", ".join(p for _, p in numbered),
        steps=", ".join(f"step_{p}" for _, p in numbered),
        offsets="; ".join(offsets),
        begin=_BEGIN if rowed else "pass",
        next=_NEXT if rowed else "pass",
        loads="; ".join(loads) or "pass",
        args=arguments(None),
        **{f"args{i}": arguments(i) for i in range(4)},
    )


_NAMES = {"cuda": cuda, "uint32": uint32, "load4": load4, "store4": store4}
