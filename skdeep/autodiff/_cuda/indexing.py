"""Indexing by arrays, and its adjoint, on a device.

A key is taken apart on the host. Slices, integers and index arrays in equal steps (the grids of
`take_along_axis`, diagonals) become steps; other arrays of the key become a table of places, made
once; what a recording holds is read on the device at every replay, where an index out of range
becomes the nearest that is not (NumPy would raise an error).
"""

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from skdeep._kernels.cuda import move, sort
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.broadcast import fill, merge
from skdeep._kernels.cuda.program import Twin, Untranslatable
from skdeep.autodiff._cuda import bind
from skdeep.autodiff.ops.index import _Hole


@dataclass
class _Array:
    """An index array: a constant, or the number of one that the program makes."""

    value: object
    limit: int
    axis: int
    shape: tuple

    @property
    def constant(self):
        """Whether its values are known when the program is recorded."""
        return not isinstance(self.value, _Hole)


@dataclass
class _Key:
    """What a key does to the axes of an array.

    Parameters
    ----------
    start : int
        The place of the first element, in elements.
    basic : list of (int, int)
        The sizes and steps of the axes that slices leave, and new ones.
    at : int
        Before which of them the axes of the index arrays come.
    arrays : list of _Array
        The index arrays; their `axis` is that of the array that is indexed.
    whole : bool
        Whether slices leave every element, and no axis is indexed by an integer.
    """

    start: int = 0
    basic: list = field(default_factory=list)
    at: int = 0
    arrays: list = field(default_factory=list)
    whole: bool = True

    @property
    def positions(self):
        """The shape that the index arrays broadcast to."""
        return np.broadcast_shapes(*(a.shape for a in self.arrays))

    def around(self, positions):
        """Return one item per axis of the result, given those of the positions' axes."""
        return [*self.basic[: self.at], *positions, *self.basic[self.at :]]


def _steps(a):
    return [s // a.itemsize for s in a.strides]


def _items(key, ndim):
    """Return one item per axis and new axis: masks become positions, an Ellipsis slices."""
    items = []
    for k in key if type(key) is tuple else (key,):
        k = np.asarray(k) if isinstance(k, list) else k
        if isinstance(k, bool | np.bool_) or (isinstance(k, np.ndarray) and k.dtype == bool):
            items += np.asarray(k).nonzero() if np.ndim(k) else [_refuse(k)]
        else:
            items.append(k)
    missing = ndim - sum(k is not None and k is not Ellipsis for k in items)
    dots = next((i for i, k in enumerate(items) if k is Ellipsis), len(items))
    return [*items[:dots], *[slice(None)] * missing, *items[dots + 1 :]]


def _refuse(k):
    raise Untranslatable(f"an index {k!r} has no kernel for a GPU; use np.where")


def _parsed(a, key, held=()):
    """Return the `_Key` of a key, for an array and the index arrays that fill its holes."""
    items, steps, out = _items(key, a.ndim), _steps(a), _Key()
    fancy = [isinstance(k, np.ndarray | _Hole) for k in items]
    axis, places = 0, []
    for i, k in enumerate(items):
        if k is None:
            out.basic.append((1, 0))
            continue
        n, step = a.shape[axis], steps[axis]
        if isinstance(k, slice):
            lower, upper, by = k.indices(n)
            count = len(range(lower, upper, by))
            out.start += lower * step if count else 0
            out.basic.append((count, by * step))
            out.whole &= count == n
        elif fancy[i]:
            shape = held[k.number].shape if isinstance(k, _Hole) else k.shape
            value = k if isinstance(k, _Hole) else _checked(k, n)
            out.arrays.append(_Array(value, n, axis, shape))
        else:
            out.start += (int(k) + n if k < 0 else int(k)) * step
            out.whole = False
        if not isinstance(k, slice) and any(fancy):  # integers stand among the index arrays
            places.append((i, len(out.basic)))
        axis += 1
    if places:
        together = places[-1][0] - places[0][0] == len(places) - 1
        out.at = places[0][1] if together else 0
    return out


def _checked(k, n):
    if k.size and not (k.min() >= -n and k.max() < n):
        raise IndexError(f"an index array holds {k.min()} to {k.max()}; the axis has length {n}")
    return np.where(k < 0, k + n, k).astype(np.int64)


def _even(a, positions):
    """Return first and steps of an index array that goes in equal steps; None for another."""
    if not a.size:
        return None
    lead = len(positions) - a.ndim
    first = int(a.flat[0])
    steps = [int(a.take(1, i).flat[0]) - first if n > 1 else 0 for i, n in enumerate(a.shape)]
    grid = first + sum(s * g for s, g in zip(steps, np.indices(a.shape, sparse=True), strict=True))
    return (
        (first, [0] * lead + steps) if np.array_equal(np.broadcast_to(grid, a.shape), a) else None
    )


def _table(terms):
    """Return the sum of constant arrays times factors, as int64; None of none."""
    return sum(a * factor for a, factor in terms) if terms else None


# ---- gathers ----------------------------------------------------------------------------------


def _lower_gather(name, args, outs, key):
    (x, *held), (out,) = args, outs
    parsed, strides = _parsed(x, key, held), _steps(x)
    positions = parsed.positions
    start, even, terms, traced = parsed.start, [0] * len(positions), [], []
    for a in parsed.arrays:
        if not a.constant:
            traced.append(a)
            continue
        found = _even(a.value, positions)
        if found is None:
            terms.append((a.value, strides[a.axis]))
        else:
            start += found[0] * strides[a.axis]
            even = [e + s * strides[a.axis] for e, s in zip(even, found[1], strict=True)]
    steps = [s if type(s) is int else s[1] for s in parsed.around(even)]
    table = _table(terms)
    twin = Twin(
        partial(
            _gather,
            (start, steps),
            _Positions(positions, len(parsed.basic) - parsed.at),
            [(a.limit, strides[a.axis]) for a in traced],
            table is not None,
        ),
        name,
    )
    tables = [] if table is None else [np.array(table, np.int64)]
    return twin, (x, out, *tables, *(held[a.value.number] for a in traced))


@dataclass
class _Positions:
    """The shape of index arrays, and how many axes of the result follow theirs."""

    shape: tuple
    after: int

    def among(self, a):
        """Return a view of an index array that broadcasts to the result."""
        ones = self.after
        return a.view((*a.shape, *(1,) * ones), (*a.strides, *(0,) * ones))


def _gather(place, positions, limits, has_table, x, out, *indices):
    """Return the launches of a gather: `indices` are a table of places, if any, and the held."""
    table, held = (indices[0], indices[1:]) if has_table else (None, indices)
    if not out.size:
        return []
    if not held and table is None:
        start, steps = place
        strides = [s * x.itemsize for s in steps]
        return move.copy(x.view(out.shape, strides, start * x.itemsize), out)
    s = scratch(out)
    held, launches = _as_int64(held, s)
    if len(held) + has_table == 1:
        index, (limit, scale) = (held[0], limits[0]) if held else (table, (0, 1))
    else:
        index, limit, scale = s.take(positions.shape, np.int64), 0, 1
        sizes, scales = zip(*limits, strict=True)
        launches += move.places(held, sizes, [n % (1 << 32) for n in scales], table, index)
    return launches + move.gather(x, place, positions.among(index), limit, scale, out)


def _as_int64(arrays, s):
    """Return index arrays as int64, and the launches that convert those that are not."""
    done, launches = [], []
    for a in arrays:
        if a.dtype != np.int64:
            wide = s.take(a.shape, np.int64)
            launches += move.copy(a, wide)
            a = wide
        done.append(a)
    return done, launches


# ---- scatters ---------------------------------------------------------------------------------


@dataclass
class _Scatter:
    """How a scatter runs: see `skdeep._kernels.cuda.move.scatter`.

    Parameters
    ----------
    start : int
        The first element that something may fall on.
    places : list of tuple
        For every axis of what things fall on: its size and step; the axis of the cotangent that
        runs along with it, or None; what a step adds to the line; and to the place.
    batch, rest : list of int
        The axes of the positions that lines are of, and the others.
    positions : tuple
        The shape of the positions.
    first : int
        Where their axes begin in the cotangent.
    limits : list of (int, int)
        The length and weight of the axes that held arrays index.
    fill : bool
        Whether there are elements that nothing can fall on.
    """

    start: int
    places: list
    batch: list
    rest: list
    positions: tuple
    first: int
    limits: list
    fill: bool


def _lower_scatter(name, args, outs, key):
    (ct, *held), (out,) = args, outs
    parsed, strides = _parsed(out, key, held), _steps(out)
    positions = parsed.positions
    if not ct.size or not out.size:
        return Twin(lambda out: fill(out, 0), name), (out,)
    if not any(not a.constant for a in parsed.arrays):
        strided = _strided(parsed, positions, strides)
        if strided:
            return Twin(partial(_put, *strided), name), (ct, out)
    lines = _lines(parsed.arrays, positions)
    rest = [k for k in range(len(positions)) if k not in lines.values()]
    weights, weight = {}, 1
    for i in reversed([i for i, a in enumerate(parsed.arrays) if i not in lines]):
        weights[i], weight = weight, weight * parsed.arrays[i].limit
    line_steps, count = {}, 1
    for k in sorted(lines.values(), reverse=True):
        line_steps[k], count = count, count * positions[k]
    places = [
        (n, step, i if i < parsed.at else i + len(positions), 0, 0)
        for i, (n, step) in enumerate(parsed.basic)
    ]
    for i, a in enumerate(parsed.arrays):
        k = lines.get(i)
        along = (None, 0, weights[i]) if k is None else (parsed.at + k, line_steps[k], 0)
        places.append((a.limit, strides[a.axis], *along))
    terms = [(a.value, weights[i]) for i, a in enumerate(parsed.arrays)
             if a.constant and i not in lines]  # fmt: skip
    traced = [(i, a) for i, a in enumerate(parsed.arrays) if not a.constant]
    plan = _Scatter(
        *(parsed.start, places, sorted(lines.values()), rest, positions, parsed.at),
        *([(a.limit, weights[i]) for i, a in traced], not parsed.whole),
    )
    table = _table(terms)
    if not traced:
        flat = np.broadcast_to(table, positions).reshape(1, -1)
        order = np.argsort(flat, kind="stable")
        keys = np.take_along_axis(flat, order, 1)
        return Twin(partial(_scatter_sorted, plan), name), (ct, out, order, keys)
    tables = [] if table is None else [np.array(table, np.int64)]
    arrays = [held[a.value.number] for _, a in traced]
    return Twin(partial(_scatter_held, plan, bool(tables)), name), (ct, out, *tables, *arrays)


def _strided(parsed, positions, strides):
    """Return start and steps where all positions go in equal steps, and none falls on another."""
    start, even = parsed.start, [0] * len(positions)
    for a in parsed.arrays:
        found = _even(a.value, positions)
        if found is None:
            return None
        start += found[0] * strides[a.axis]
        even = [e + s * strides[a.axis] for e, s in zip(even, found[1], strict=True)]
    spread = sum(e * g for e, g in zip(even, np.indices(positions, sparse=True), strict=True))
    if np.unique(spread).size < math.prod(positions):
        return None
    return start, [s if type(s) is int else s[1] for s in parsed.around(even)]


def _lines(arrays, positions):
    """Return the arrays that only count along one axis of the positions, each with its axis.

    What falls on a place of such an axis stands at the same place of the positions' axis. There
    are none where nothing is held, since then the positions are sorted once.
    """
    lines = {}
    if all(a.constant for a in arrays):
        return lines
    for i, a in enumerate(arrays):
        found = _even(a.value, positions) if a.constant else None
        axes = [k for k, s in enumerate(found[1]) if s] if found else []
        if len(axes) != 1 or found[0] != 0 or found[1][axes[0]] != 1:
            continue
        if positions[axes[0]] == a.limit and axes[0] not in lines.values():
            lines[i] = axes[0]
    return lines


def _put(start, steps, ct, out):
    strides = [s * out.itemsize for s in steps]
    return fill(out, 0) + move.copy(ct, out.view(ct.shape, strides, start * out.itemsize))


def _scatter_held(plan, has_table, ct, out, *indices):
    """Return the launches of a scatter by index arrays that the program makes."""
    s = scratch(out)
    table, held = (indices[0], indices[1:]) if has_table else (None, indices)
    held, launches = _as_int64(held, s)
    sizes = plan.positions
    wide = [*(sizes[k] for k in plan.batch), *(sizes[k] for k in plan.rest)]
    keys = s.take(wide, np.int64)
    axes = [*plan.batch, *plan.rest]
    strides = [keys.strides[axes.index(k)] for k in range(len(sizes))]
    limits, weights = zip(*plan.limits, strict=True)
    launches += move.places(held, limits, weights, table, keys.view(sizes, strides))
    lines = math.prod(wide[: len(plan.batch)])
    shape = lines, math.prod(wide[len(plan.batch) :])
    order, in_order = s.take(shape, np.int64), s.take(shape, np.int64)
    launches += sort.ranked(keys.view(shape), order, in_order, s)
    return launches + _scatter(plan, s, ct, out, order, in_order)


def _scatter_sorted(plan, ct, out, order, keys):
    """Return the launches of a scatter to places that are known and sorted."""
    return _scatter(plan, scratch(out), ct, out, order, keys)


def _scatter(plan, s, ct, out, order, keys):
    launches = fill(out, 0) if plan.fill else []
    rest = [plan.first + k for k in plan.rest]
    sizes, steps = merge([ct.shape[i] for i in rest], [ct.step(i) for i in rest])
    if len(sizes) > 1:  # the positions' axes first, which then are one
        axes = [*rest, *(i for i in range(ct.ndim) if i not in rest)]
        turned = [ct.shape[i] for i in axes]
        made = s.take(turned, ct.dtype)
        launches += move.copy(ct.view(turned, [ct.strides[i] for i in axes]), made)
        back = np.argsort(axes)
        ct = made.view([turned[i] for i in back], [made.strides[i] for i in back])
        steps = [ct.step(rest[-1])]
    shape = [p[0] for p in plan.places]
    strides = [p[1] * out.itemsize for p in plan.places]
    target = out.view(shape, strides, plan.start * out.itemsize)
    along = [0 if p[2] is None else ct.step(p[2]) for p in plan.places]
    lines, weights = [p[3] for p in plan.places], [p[4] for p in plan.places]
    return launches + move.scatter(ct, along, steps[0], order, keys, lines, weights, target)


# ---- bindings ---------------------------------------------------------------------------------


def bind_all(check):
    """Bind the operations; ``check(name, *arrays)`` refuses dtypes."""

    @bind("index")
    def index(args, outs, key):
        check("index", *outs)
        return _lower_gather("index", args, outs, key)

    @bind("gather")
    def gather(args, outs, key):
        check("gather", *args, *outs)
        return _lower_gather("gather", args, outs, key)

    @bind("unindex")
    def unindex(args, outs, key, shape):
        check("unindex", *args, *outs)
        return _lower_scatter("unindex", args, outs, key)

    @bind("scatter")
    def scatter(args, outs, key, shape):
        check("scatter", *args, *outs)
        return _lower_scatter("scatter", args, outs, key)
