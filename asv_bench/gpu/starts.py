"""Kernels compiled, and the first fits of fresh processes."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from gpu.report import Row

FOLDER = Path(__file__).parents[1]

# ---- compilation ------------------------------------------------------------------------------


def compilation(bench):
    """Compile every kernel that is listed, on all cores: the sections after it find them."""
    bench.report.case("kernels", partial(_compile, bench))


def _compile(bench):
    if bench.rehearse:
        return Row("kernels", "none: they run in Python")
    start, cores = time.perf_counter(), min(16, os.cpu_count() or 1)
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        work = partial(compile_part, parts=cores, capability=bench.gpu.capability)
        done = sum(pool.map(work, range(cores)))
    seconds = time.perf_counter() - start
    return Row(f"{done} kernels compiled by {cores} processes", f"{seconds:.1f} s")


def compile_part(part, parts, capability):
    """Compile every `parts`-th kernel, from `part` on; return how many these are."""
    cuda = import_module("skdeep._kernels.cuda")
    modules = sorted(p.stem for p in Path(cuda.__path__[0]).glob("[!_]*.py"))
    kernels = []
    for module in modules:
        catalogue = getattr(import_module(f"{cuda.__name__}.{module}"), "catalogue", list)
        kernels += catalogue()
    mine = [k for k in kernels[part::parts] if k.base <= capability]
    for kernel in mine:
        kernel.cubin(capability)
    return len(mine)


# ---- first fits -------------------------------------------------------------------------------

_SETUP = """
import sys, time, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {folder!r})
from gpu.trainings import NETWORKS, TINY
name, net = list({networks}.items())[{which}]
batch = net.batches[0]
X, y = (a[: {steps} * batch] for a in net.data(batch))
start = time.perf_counter()
net.estimator(batch, 1, device="cuda").fit(X, y)
print("seconds", time.perf_counter() - start)
"""
_IMPORT = """
import time
start = time.perf_counter()
import {module}
print("seconds", time.perf_counter() - start)
"""


def first_fits(bench):
    """First fits of fresh processes, with an empty and a full kernel cache; imports."""
    from gpu.trainings import NETWORKS, TINY

    bench.report.case("imports", partial(_imports, bench))
    for which, name in enumerate(list(bench.pick(NETWORKS, TINY))[: bench.pick(2, 1)]):
        bench.report.case(f"first fit, {name}", partial(_first_fits, bench, which, name))


def _imports(bench):
    ours, sklearn = (
        min(_seconds(bench, _IMPORT.format(module=module)) for _ in range(bench.pick(4, 1)))
        for module in ("skdeep", "sklearn")
    )
    return Row("import", f"{ours * 1e3:.1f} ms", f"{sklearn * 1e3:.1f} ms (sklearn)")


def _first_fits(bench, which, name):
    networks, steps = bench.pick(("NETWORKS", 20), ("TINY", 1))
    code = _SETUP.format(folder=str(FOLDER), networks=networks, which=which, steps=steps)
    with tempfile.TemporaryDirectory() as cache:
        empty, full = (_seconds(bench, code, cache) for _ in range(2))
    return [
        Row(f"first fit, {name}, empty kernel cache", f"{empty:.2f} s"),
        Row(f"first fit, {name}, full kernel cache", f"{full:.2f} s"),
    ]


def _seconds(bench, code, cache=None):
    """Return the seconds that a fresh process prints."""
    environment = os.environ | ({} if cache is None else {"NUMBA_CACHE_DIR": cache})
    command, left = [sys.executable, "-c", code], max(5, bench.report.left)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=left, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise TimeoutError(f"{left:.0f} s did not suffice") from e
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.split()[-1])
