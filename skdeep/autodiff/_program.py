"""Record a function once, replay it without Python.

`record` interprets a function with shapes alone and keeps the kernel calls it makes; the plan
drops calls that no output needs, pins outputs to the caller's memory, overwrites inputs that die
and lays the rest out in one arena. A `Program` is then a flat list of ``(callable, arguments)``
on fixed memory, the arguments being arrays and int64 and nothing else: the same list runs as a
Python loop, natively, or (on a device) as a captured graph.
"""

import itertools

import numpy as np
from numpy.lib.array_utils import byte_bounds

from skdeep.autodiff._relocate import native_run, table
from skdeep.autodiff._storage import root, store_idle
from skdeep.autodiff._trace import Primitive, Recording, Tracer, Unrecordable
from skdeep.autodiff._tree import flatten, leaves_like


def _same(a, b):
    return a.shape == b.shape and a.ctypes.data == b.ctypes.data and a.strides == b.strides


def _lower_assign(args, outs):
    value, target = args[0], outs[0]
    plain = value.flags.c_contiguous and target.flags.c_contiguous
    if plain and value.dtype == target.dtype and value.dtype in (np.float32, np.float64):
        from skdeep._kernels.cpu.elementwise import copy

        return copy[value.dtype], (value.reshape(-1), target.reshape(-1))
    return np.copyto, (target, value)


_assign = Primitive("assign", lower=_lower_assign)


class Memory:
    """The memory of programs that keep nothing in it and of which one runs at a time."""

    def __init__(self):
        self._bytes = np.zeros(0, np.uint8)

    def take(self, size):
        """Return so many bytes, aligned: those that were given before, where they are enough."""
        if size > len(self._bytes):
            raw = np.zeros(size + 64, np.uint8)
            self._bytes = raw[-raw.ctypes.data % 64 :][:size]
        return self._bytes[:size]


class Program:
    """A flat list of kernel calls on fixed memory.

    Parameters
    ----------
    calls : list of (callable, tuple)
        The calls in order.
    arena : ndarray
        The memory of the intermediates.
    bytes_unplanned : int
        What the intermediates would take with no reuse.

    Notes
    -----
    One arena per program: a program must not run in two threads at once.
    """

    def __init__(self, calls, arena=None, bytes_unplanned=0):
        self.calls, self.arena, self.bytes_unplanned = calls, arena, bytes_unplanned
        self.arenas = [] if arena is None else [arena]

    def before(self, *calls):
        """Put calls in front and return the program."""
        self.calls[:0] = calls
        return self

    def then(self, *calls):
        """Append calls and return the program."""
        self.calls += calls
        return self

    def run(self, steps=1):
        """Replay the program in Python."""
        for _ in range(steps):
            for f, args in self.calls:
                f(*args)

    @property
    def is_native(self):
        """Whether every call is a compiled kernel."""
        from skdeep._kernels.cpu._numba import Variant

        return all(isinstance(f, Variant) for f, _ in self.calls)

    def compile(self):
        """Return ``run(steps=1)``, which replays maximal runs of kernels without Python.

        With kernels alone, `steps` steps are one native call that does not hold the GIL.
        """
        from skdeep._kernels.cpu._numba import Variant

        parts = []
        for native, group in itertools.groupby(self.calls, lambda c: isinstance(c[0], Variant)):
            group = list(group)
            if native:
                addresses, words = table(group)
                parts.append(native_run(addresses, words, keep=self))
            else:
                parts.append(Program(group).run)
        if len(parts) == 1:
            return parts[0]

        def run(steps=1):
            for _ in range(steps):
                for part in parts:
                    part()

        return run


def record(f, args, into, check=True, storage=None, memory=None, device=False):
    """Record a function as a program.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays.
    args : tuple
        The arguments: arrays whose memory the program reads at every replay.
    into : tree of ndarray or None
        Where each output goes; None where it is not wanted. A target may be an input (running
        statistics): it is written last, when every call has read the input.
    check : bool, default=True
        Whether to record twice and compare, which finds functions that draw numbers or count.
    storage : {None, "bfloat16"}, default=None
        What long-lived float32 intermediates are kept in while no call reads them: those that
        a backward pass reads again are rounded on the way.
    memory : Memory, optional
        Where the intermediates go; by default the program has memory of its own.
    device : bool, default=False
        Whether the program is for a GPU: it is then a list of calls that a `Mirror` compiles,
        and its memory only says places.

    Returns
    -------
    Program

    Raises
    ------
    Unrecordable
        If the function looks at values, or two recordings differ.
    TypeError
        If an argument is not an array (its value would be frozen).
    ValueError
        If `into` has another structure, or a target another shape or kind of dtype.
    """
    inputs = flatten(tuple(args))[0]
    for x in inputs:
        if not isinstance(x, np.ndarray):
            raise TypeError(f"record reads arrays, but an argument is {x!r}; use np.asarray")
    trace, out, outs = _interpret(f, args)
    if check and _fingerprint(trace, outs) != _fingerprint(*_interpret(f, args)[::2]):
        raise Unrecordable("two recordings differ: the function draws numbers or keeps state")
    wanted = list(zip(outs, leaves_like(into, out), strict=True))
    wanted = [(o, t) for o, t in wanted if t is not None]
    for o, t in wanted:
        if o.shape != t.shape or not np.can_cast(o.dtype, t.dtype, "same_kind"):
            raise ValueError(
                f"an output of shape {o.shape} and dtype {o.dtype} does not fit a target of "
                f"shape {t.shape} and dtype {t.dtype}"
            )
    plan = _plan(trace, wanted, inputs, storage, device)
    return plan.lowered(memory or Memory())


def arena_size(f, args, into, storage=None):
    """Return the bytes that the intermediates of a recorded function would take.

    Parameters
    ----------
    f, args, into, storage
        As for `record`; `into` may be a function of the arguments' outputs' tree.

    Returns
    -------
    int
    """
    inputs = flatten(tuple(args))[0]
    trace, out, outs = _interpret(f, args)
    wanted = [(o, t) for o, t in zip(outs, leaves_like(into, out), strict=True) if t is not None]
    return _plan(trace, wanted, inputs, storage).arena_size


def _interpret(f, args):
    trace = Recording()
    leaves, build = flatten(tuple(args))
    try:
        out = f(*build([Tracer(x, trace) for x in leaves]))
    except ValueError as e:  # NumPy dresses an error in a[i] = tracer as a ValueError
        if isinstance(e.__cause__, Unrecordable):
            raise e.__cause__ from None
        raise
    leaves = flatten(out)[0]
    return trace, out, [o.value if trace.own(o) else np.asarray(o) for o in leaves]


class _Constant:
    """An array from outside, equal to another in the same memory or of the same bytes."""

    def __init__(self, a):
        self.array, self.place = a, (a.ctypes.data, a.shape, a.strides, a.dtype.str)
        # A snapshot, where it is cheap: a counter kept in an array shows.
        self.bytes = a.tobytes() if a.size < 4096 else None

    def __eq__(self, other):
        if self.place[1::2] != other.place[1::2]:
            return False
        if self.bytes is None and self.place == other.place:
            return True
        mine, theirs = (c.bytes or c.array.tobytes() for c in (self, other))
        return mine == theirs

    __hash__ = None


def _fingerprint(trace, outs):
    """Return what must be equal in two recordings: operations, shapes, wiring, constants."""
    names, rows = {k: i for i, k in enumerate(trace.owned)}, []

    def spec(a):
        if isinstance(a, np.ndarray):
            r = root(a)
            if id(r) in names:
                return names[id(r)], a.ctypes.data - r.ctypes.data, a.shape, a.strides
            return _Constant(a)
        if isinstance(a, tuple | list):
            return [spec(x) for x in a]
        if isinstance(a, dict):
            return {k: spec(v) for k, v in a.items()}
        return getattr(a, "__qualname__", None) or repr(a)

    for p, vals, fresh, kw in trace.calls:
        rows.append((p.name, spec(vals), spec(fresh), spec(kw)))
    return rows, spec(outs)


def _arrays(call):
    """Return every array that a recorded call touches."""
    return [*(v for v in call[1] if isinstance(v, np.ndarray)), *call[2]]


def _lower(p, args, outs, kw):
    return p.lower_call(args, outs, kw)


def _plan(trace, wanted, inputs, storage=None, device=False):
    owned, lower = trace.owned, _lower
    calls = _needed(trace.calls, {id(root(o)) for o, _ in wanted})
    if device:
        from skdeep.autodiff import _cuda

        calls, lower = _cuda.without_scratch(calls, owned), _cuda.lower
    outside = [*inputs, *(o for o, _ in wanted), *(a for call in calls for a in _arrays(call))]
    outside = _extents(a for a in outside if id(root(a)) not in owned)
    place, late = _pin(wanted, outside, owned, _uses(calls))
    staged, late = _stage(late, owned)
    calls = calls + staged
    kept = {id(root(o)) for o, _ in late}
    if storage is not None:
        calls = store_idle(calls, _uses(calls), owned, {*place, *kept}, storage)
    return _Plan(calls, late, place, kept, owned, lower)


class _Plan:
    """Where the intermediates of a list of calls stand, before any memory is taken."""

    def __init__(self, calls, late, place, kept, owned, lower):
        self.calls, self.late, self.place, self.owned = calls, late, place, owned
        self.lower = lower
        self.live, self.alias = _lifetimes(calls, _uses(calls), place, kept, owned)
        self.offsets, self.arena_size = _layout(self.live, owned)

    def lowered(self, memory):
        """Return the program, on memory that is taken now."""
        arena = memory.take(self.arena_size)
        late = ((_assign, [o], [t], {}) for o, t in self.late)
        done = [
            self.lower(
                p,
                [self._moved(v, arena) for v in vals],
                [self._moved(o, arena) for o in fresh],
                kw,
            )
            for p, vals, fresh, kw in [*self.calls, *late]
        ]
        unplanned = sum(self.owned[k].nbytes for k in self.live.keys() | self.alias.keys())
        return Program(done, arena, unplanned)

    def _moved(self, a, arena):
        """Return an array of the recording in the memory that it was given."""
        if not isinstance(a, np.ndarray):
            return a
        r = root(a)
        k, place = id(r), self.place
        if k not in self.owned or (k in place and not place[k].flags.c_contiguous):
            return place.get(k, a)
        start = a.ctypes.data - r.ctypes.data
        if k in place:
            return np.ndarray(a.shape, a.dtype, _bytes(place[k]), start, a.strides)
        start += self.offsets[_head(self.alias, k)]
        return np.ndarray(a.shape, a.dtype, arena, start, a.strides)


def _needed(calls, need):
    """Drop the calls that no output depends on."""
    kept = []
    for call in reversed(calls):
        if any(id(o) in need for o in call[2]):
            kept.append(call)
            need |= {id(root(v)) for v in call[1] if isinstance(v, np.ndarray)}
    return kept[::-1]


def _uses(calls):
    """Return every touch of every buffer: root -> [(call number, array)]."""
    uses = {}
    for i, call in enumerate(calls):
        for a in _arrays(call):
            uses.setdefault(id(root(a)), []).append((i, a))
    return uses


def _extents(arrays):
    """Return the first and last byte address of each array that has any."""
    return np.array([byte_bounds(a) for a in arrays if a.size], np.int64).reshape(-1, 2)


def _touches(a, extents):
    """Whether the memory of `a` may overlap any of the extents."""
    low, high = byte_bounds(a)
    return bool(a.size and np.any((extents[:, 0] < high) & (low < extents[:, 1])))


def _bytes(a):
    return a.reshape(-1).view(np.uint8)


def _pin(wanted, outside, owned, uses):
    """Give outputs the caller's memory where that is safe; the others are copied at the end."""
    place, late = {}, []
    for o, target in wanted:
        r = root(o)
        k = id(r)
        if (
            k in owned
            and k not in place
            and o.dtype == target.dtype
            and o.flags.c_contiguous
            and o.nbytes == r.nbytes
            and (target.flags.c_contiguous or _fits_rows(target, r, uses[k]))
            and not _touches(target, outside)  # nothing may be lost that a later call reads
        ):
            place[k] = target
        else:
            late.append((o, target))
    return place, late


def _fits_rows(target, r, uses):
    """Whether strided memory can take the buffer `r`: contiguous rows, written once, not read."""
    rows = target.ndim > 0 and target.strides[-1] == target.itemsize
    return rows and len(uses) == 1 and uses[0][1] is r and r.shape == target.shape


def _stage(late, owned):
    """Copy sources that another final copy would overwrite; drop copies onto themselves."""
    late = [(o, t) for o, t in late if not _same(o, t)]
    extents = _extents(t for _, t in late)
    calls, final = [], []
    for o, t in late:
        if id(root(o)) not in owned and _touches(o, extents):
            copy = np.empty(o.shape, o.dtype)
            owned[id(copy)] = copy
            calls.append((_assign, [o], [copy], {}))
            o = copy
        final.append((o, t))
    return calls, final


def _head(alias, k):
    while k in alias:
        k = alias[k]
    return k


def _lifetimes(calls, uses, place, kept, owned):
    """Return [first, last] call of every buffer, and which buffers overwrite which."""
    live, alias, end = {}, {}, len(calls)
    for i, (p, vals, fresh, _) in enumerate(calls):
        for j, o in enumerate(fresh):
            k = id(o)
            if k in place:
                continue
            live[k] = [i, end + 1 if k in kept else max(u for u, _ in uses[k])]
            if not (p.inplace and j == 0):
                continue
            own = vals if p.inplace is True else [vals[n] for n in p.inplace]
            for v in own:  # overwrite an input that dies here
                h = _head(alias, id(root(v))) if isinstance(v, np.ndarray) else None
                if (
                    h in live
                    and live[h][1] == i
                    and (v.shape, v.dtype) == (o.shape, o.dtype)
                    and v.flags.c_contiguous
                    and v.nbytes == owned[h].nbytes
                    and all(
                        _same(x, v)
                        for x in vals
                        if isinstance(x, np.ndarray) and _head(alias, id(root(x))) == h
                    )
                ):
                    alias[k] = h
                    live[h][1] = live.pop(k)[1]
                    break
    return live, alias


def _layout(live, owned):
    """Place buffers, the largest first, at the lowest offset free over their lifetime."""
    rounded = lambda k: -(-owned[k].nbytes // 64) * 64  # noqa: E731
    offsets, top = {}, 0
    for k in sorted(live, key=lambda k: -owned[k].nbytes):
        at = 0
        for o, size in sorted(
            (offsets[q], rounded(q))
            for q in offsets
            if live[q][0] <= live[k][1] and live[k][0] <= live[q][1]
        ):
            if at + rounded(k) <= o:
                break
            at = max(at, o + size)
        offsets[k] = at
        top = max(top, at + rounded(k))
    return offsets, top
