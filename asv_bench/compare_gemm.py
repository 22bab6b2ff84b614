"""Measure skdeep's matrix products against NumPy's and SciPy's BLAS, in one run, on one thread.

The contenders take turns, and for each the best and the median rate of the rounds are reported.
SciPy's BLAS is called from compiled code, as skdeep's product is, so that Python's overhead does
not blur the small shapes. The floor is the time at the best rate that any of them reached.

    python asv_bench/compare_gemm.py
    python asv_bench/compare_gemm.py --rounds 50 --dtype float64 --only mlp
"""

import argparse
import statistics
import time
from itertools import pairwise

import numpy as np
import threadpoolctl
from numba import njit

from skdeep._kernels.cpu.gemm import gemm

#: Widths of the networks whose products are measured.
NETWORKS = {"mlp": (784, 300, 100, 10), "digits": (64, 100, 10)}
BATCHES = (32, 50, 200, 1024)
SQUARES = (256, 512, 1000, 1024, 2048)


@njit
def ours(repeats, ta, tb, a, b, c):
    """Call skdeep's product."""
    m, n = c.shape
    k = a.shape[0] if ta else a.shape[1]
    for _ in range(repeats):
        gemm(ta, tb, m, n, k, a, a.shape[1], b, b.shape[1], c, n)


@njit
def _dot(repeats, a, b, c):
    for _ in range(repeats):
        np.dot(a, b, c)


def scipy_blas(repeats, ta, tb, a, b, c):
    """Call SciPy's BLAS from numba."""
    _dot(repeats, a.T if ta else a, b.T if tb else b, c)


def numpy_blas(repeats, ta, tb, a, b, c):
    """Call NumPy's matmul from Python."""
    a, b = a.T if ta else a, b.T if tb else b
    for _ in range(repeats):
        np.matmul(a, b, out=c)


CONTENDERS = {"skdeep": ours, "scipy": scipy_blas, "numpy": numpy_blas}


def shapes():
    """Yield group, name, ta, tb, m, n, k."""
    for name, widths in NETWORKS.items():
        for batch in BATCHES:
            for fan_in, fan_out in pairwise(widths):
                where = f"batch {batch}, {fan_in}-{fan_out}"
                yield name, f"forward, {where}", False, False, batch, fan_out, fan_in
                if fan_in != widths[0]:
                    yield name, f"input gradient, {where}", False, True, batch, fan_in, fan_out
                yield name, f"weight gradient, {where}", True, False, fan_in, fan_out, batch
    for s in SQUARES:
        yield "squares", f"{s} squared", False, False, s, s, s
    yield "squares", "1024 squared, B transposed", False, True, 1024, 1024, 1024
    yield "squares", "1024 squared, A transposed", True, False, 1024, 1024, 1024


def measure(ta, tb, m, n, k, dtype, rounds, operations=4e7):
    """Return each contender's seconds a product in every round."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if ta else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
    c = np.empty((m, n), dtype)
    repeats = max(1, int(operations / (2 * m * n * k)))
    times = {name: [] for name in CONTENDERS}
    for i in range(rounds + 1):
        for name, function in CONTENDERS.items():
            start = time.perf_counter()
            function(repeats, ta, tb, a, b, c)
            if i:  # the first round compiles and warms up
                times[name].append((time.perf_counter() - start) / repeats)
    return times


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", choices=[*NETWORKS, "squares"])
    options = parser.parse_args()
    rows = []
    with threadpoolctl.threadpool_limits(1):
        for group, name, *shape in shapes():
            if options.only in (None, group):
                times = measure(*shape, options.dtype, options.rounds)
                rows.append((f"{group}: {name}", 2e-9 * np.prod(shape[2:]), times))
    peak = max(work / min(t) for _, work, times in rows for t in times.values())
    print(f"GFLOP/s of {options.dtype}: best and median of {options.rounds} rounds; ", end="")
    print(f"the best rate of all is {peak:.0f}; floor in microseconds\n")
    head = "".join(f" {name:>12} |" for name in CONTENDERS)
    print(f"| {'product':48} |{head} {'times scipy':>12} | {'floor':>7} |")
    print(f"| --- |{' --- |' * (len(CONTENDERS) + 2)}")
    for name, work, times in rows:
        cells = "".join(
            f" {work / min(t):5.0f} / {work / statistics.median(t):4.0f} |" for t in times.values()
        )
        best = min(times["scipy"]) / min(times["skdeep"])
        middle = statistics.median(
            y / x for x, y in zip(times["skdeep"], times["scipy"], strict=True)
        )
        print(f"| {name:48} |{cells} {best:5.2f} / {middle:4.2f} | {1e6 * work / peak:7.1f} |")


if __name__ == "__main__":
    main()
