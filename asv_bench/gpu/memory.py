"""Kernels that memory bounds, as a share of what a copy reaches on the same device."""

from functools import partial

import numpy as np

from gpu.report import Row, compared
from skdeep._kernels.cuda.program import find_twin
from skdeep.autodiff.ops.pool import _windows, pool_geometry

BAR = 0.8


def memory_bound(bench):
    """Copies first: the better one is what the others are held to."""
    found = []
    bench.report.case("copy", partial(_copy, bench, found))
    for name, make in CASES.items():
        bench.report.case(name, partial(_case, bench, name, make, found))


def _copy(bench, found):
    n, ours = bench.pick(1 << 28, 1 << 8), bench.program()
    call = _twin("elementwise", "copy"), (ours.normal(n), ours.empty(n))
    repeats, work = bench.pick(3, 1), 8 * n
    runs = {"ours": ours.run([call], repeats)}
    if bench.peer is not None:
        source, target = bench.peer.normal(n), bench.peer.empty(n)
        runs["peer"] = bench.peer.run(partial(target.copy_, source), repeats)
    rates = {who: work / s for who, s in bench.seconds(runs, repeats).items()}
    found.append(max(rates.values()))
    mine, theirs = rates["ours"], rates.get("peer")
    peer = "-" if theirs is None else f"{_speed(theirs)} (torch)"
    return compared(f"copy, {_size(work)}", _speed(mine), peer, theirs and mine / theirs)


def _case(bench, name, make, found):
    if not found:
        return Row(name, met="failed: no copy to be held to")
    ours = bench.program()
    module, kernel, args, work, size = make(ours, bench.pick)
    repeats = bench.repeats(work / 4e12)
    seconds = bench.seconds({"ours": ours.run([(_twin(module, kernel), args)], repeats)}, repeats)[
        "ours"
    ]
    rate = work / seconds
    return compared(
        f"{name}, {size}, {_size(work)}", f"{_speed(rate)}, {seconds * 1e6:.1f} us",
        f"{_speed(found[0])} (copy)", rate / found[0], BAR,
    )  # fmt: skip


def _twin(module, name):
    """Return the twin of a kernel of the CPU, by its module and its name."""
    from importlib import import_module

    return find_twin(import_module(f"skdeep._kernels.cuda.{module}").TWINS[name])


def _speed(rate):
    return f"{rate / 1e9:,.4g} GB/s"


def _size(nbytes):
    return f"{nbytes / 1e6:,.4g} MB"


# ---- the cases: module, kernel, arguments, bytes that must move, size -------------------------


def _add(ours, pick):
    n = pick(1 << 26, 1 << 6)
    args = ours.normal(n), ours.normal(n), ours.empty(n)
    return "elementwise", "add", args, 12 * n, f"{n:,}"


def _relu_pullback(ours, pick):
    n = pick(1 << 26, 1 << 6)
    args = ours.normal(1, n), ours.normal(1, n), ours.given(np.zeros(1, np.float32))
    return "activation", "activate_pullback_relu_1", (*args, ours.empty(1, n)), 12 * n, f"{n:,}"


def _image_rows(pick):
    """Return the cells of a batch of feature maps, and their channels."""
    return pick((256 * 56 * 56, 64), (20, 4))


def _batch_norm(ours, pick):
    rows, c = _image_rows(pick)
    vectors = [ours.normal(1, c) for _ in range(2)]
    statistics = [ours.empty(1, c) for _ in range(3)]
    eps = ours.given(np.full(1, 1e-5, np.float32))
    sums = ours.empty(1, 2, c, dtype=np.float64)
    x, y = ours.normal(1, rows, c), ours.empty(1, rows, c)
    args = x, *vectors, eps, y, *statistics, sums
    return "norm", "batch_norm", args, 12 * rows * c, f"{rows:,} x {c}"


def _batch_norm_pullback(ours, pick):
    rows, c = _image_rows(pick)
    gamma, mean, rstd = (ours.normal(1, c) for _ in range(3))
    outs = [ours.empty(1, c) for _ in range(2)]
    sums = ours.empty(1, 2, c, dtype=np.float64)
    ct, x, dx = ours.normal(1, rows, c), ours.normal(1, rows, c), ours.empty(1, rows, c)
    args = ct, x, gamma, mean, rstd, dx, *outs, sums
    return "norm", "batch_norm_pullback", args, 20 * rows * c, f"{rows:,} x {c}"


def _pooling(ours, pick):
    """Return the geometry, images, their maxima and the maxima's places of 2 x 2 pooling."""
    images, size, c = pick((256, 56, 64), (2, 4, 4))
    g = pool_geometry((size, size), 2)
    cells, maxima = (1, images, size * size, c), (1, images, size * size // 4, c)
    index = ours.given(np.zeros(maxima, np.uint8))
    name = f"2 x 2, {images} x {size}x{size}x{c}"
    return g, ours.normal(*cells), ours.normal(*maxima), index, name


def _max_pool(ours, pick):
    g, x, out, index, size = _pooling(ours, pick)
    tables = [ours.given(t) for t in _windows(g, False)]
    return "pool", "max_pool_uint8", (x, *tables, out, index), 4 * x.size + 5 * out.size, size


def _unpool(ours, pick):
    g, x, ct, index, size = _pooling(ours, pick)
    tables = [ours.given(t) for t in _windows(g, False)]
    args = ct, index, *tables, x
    return "pool", "unpool_apart_uint8", args, 4 * x.size + 5 * ct.size, size


def _cross_entropy(rows, classes):
    def make(ours, pick):
        n, k = pick((rows, classes), (8, classes % 7 + 2))
        labels = ours.given(np.random.default_rng(0).integers(0, k, (1, n)))
        smoothing = ours.given(np.zeros(1, np.float32))
        args = ours.normal(1, n, k), labels, smoothing, ours.empty(1, n), ours.empty(1, n, k)
        return "loss", "softmax_cross_entropy", args, (8 * k + 12) * n, f"{n:,} x {k}"

    return make


def _adam(ours, pick):
    n = pick(10**8, 96)
    slots = [ours.normal(1, n) for _ in range(2)]
    moments = [ours.repeated(np.zeros(4, np.float32), 1, n) for _ in range(2)]
    rest = [
        np.full((1, 1), 1e-3, np.float32), np.array([[0.9, 0.999, 1e-8, 0.0]]),
        np.zeros((1, 2), np.float32), np.ones(1, np.float32),
        np.array([[0, n, 0]], np.int64), np.array([[9, 0, 0, 0]], np.int64),
    ]  # fmt: skip
    args = *slots, *moments, *map(ours.given, rest)
    return "update", "adam", args, 28 * n, f"{n:,}"


def _dropout(ours, pick):
    n, rate = pick(1 << 26, 1 << 7), np.full(1, 0.5, np.float32)
    seed, counters = np.ones(1, np.int64), np.zeros((1, 4), np.int64)
    args = ours.normal(1, n), *map(ours.given, (rate, seed, counters)), 0, 64, ours.empty(1, n)
    return "random", "dropout", args, 8 * n, f"{n:,}"


def _gather(ours, pick):
    rows, batch, size = pick((131_072, 65_536, 784), (8, 4, 12))
    order = ours.given(np.random.default_rng(0).permutation(rows)[None])
    counters = ours.given(np.zeros((1, 4), np.int64))
    args = ours.normal(rows, size), order, counters, ours.empty(1, batch, size)
    work = 8 * batch * (size + 1)
    return "batch", "gather", args, work, f"{batch:,} of {rows:,} x {size}"


def _column_sums(ours, pick):
    rows, columns = pick((131_072, 1024), (9, 8))
    args = ours.normal(1, rows, columns), ours.empty(1, columns)
    return "elementwise", "column_sum", args, 4 * rows * columns, f"{rows:,} x {columns}"


CASES = {
    "addition": _add,
    "pullback of relu": _relu_pullback,
    "batch normalisation, forward": _batch_norm,
    "batch normalisation, backward": _batch_norm_pullback,
    "max pooling, forward": _max_pool,
    "max pooling, backward": _unpool,
    "softmax cross-entropy of few classes": _cross_entropy(1_000_000, 10),
    "softmax cross-entropy of many classes": _cross_entropy(65_536, 1000),
    "Adam": _adam,
    "dropout": _dropout,
    "gather of rows": _gather,
    "column sums": _column_sums,
}
