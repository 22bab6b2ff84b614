"""Measure skdeep's MLPClassifier against scikit-learn's and a torch loop, in one run.

The contenders take turns: every round fits each of them once, and the medians of the rounds are
reported, so that a slow moment of the machine falls on all of them alike. One thread each, the
same number of steps, no early stopping. What is timed is the whole fit from NumPy arrays, divided
by the number of steps; the torch loop builds its model, too, but computes no training loss to
report. Every contender has fitted once before the clock starts.

    python asv_bench/compare_networks.py
    python asv_bench/compare_networks.py --quick
    python asv_bench/compare_networks.py --write docs/benchmarks.md
"""

import argparse
import platform
import re
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

# Sets the number of threads, hence before NumPy.
from benchmarks import common  # isort: skip

import joblib
import numba
import numpy as np
import scipy
import sklearn
from threadpoolctl import threadpool_info

import skdeep

BEGIN = "<!-- networks: begin -->"
END = "<!-- networks: end -->"
NAMES = {
    "skdeep": "skdeep",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torch fused": "torch, fused Adam",
}


def contenders():
    names = ["skdeep", "sklearn"]
    if common.HAS_TORCH:
        names += ["torch", "torch fused"]
    return names


def interleave(functions, rounds):
    """Median seconds of each function, the functions taking turns."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def fits(datasets, epochs, rounds, n_rows):
    """Yield (dataset, sizes, batch size, {contender: seconds per step})."""
    names = contenders()
    for dataset in datasets:
        hidden, batches = common.SETTINGS[dataset]
        X_all, y_all, _, _ = common.load(dataset, n_rows[dataset])
        for batch in batches:
            X, y = common.whole_batches(X_all, y_all, batch)
            steps = epochs[dataset] * len(X) // batch
            models = {name: common.make(name, hidden, batch, epochs[dataset]) for name in names}
            for model in models.values():
                model.fit(X, y)
            common.one_thread()
            seconds = interleave(
                {name: partial(model.fit, X, y) for name, model in models.items()}, rounds
            )
            for name in ("skdeep", "sklearn"):
                made = models[name].n_iter_
                if made != epochs[dataset]:
                    sys.exit(f"{name} made {made} epochs, not {epochs[dataset]}")
            sizes = "-".join(map(str, (X.shape[1], *hidden, len(set(y.tolist())))))
            yield dataset, sizes, batch, {name: s / steps for name, s in seconds.items()}


def fit_table(rows):
    names = contenders()
    peers = names[1:]
    head = ["data", "network", "batch"]
    head += [NAMES[name] for name in names]
    head += [f"over {NAMES[name]}" for name in peers]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for dataset, sizes, batch, step in rows:
        cells = [dataset, sizes, str(batch)]
        cells += [f"{step[name] * 1e6:,.1f} ({batch / step[name]:,.0f})" for name in names]
        cells += [f"{step[name] / step['skdeep']:.2f}" for name in peers]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def start_table(rounds):
    """Imports and first fits, each in a fresh interpreter, taking turns."""
    modules = ("sklearn", "skdeep", "sklearn.neural_network", "skdeep.neural_network")
    with tempfile.TemporaryDirectory() as warm:
        measures = {
            f"`import {module}`": lambda m=module: common.in_subprocess(f"import {m}")[0]
            for module in modules
        }
        measures["first fit, scikit-learn"] = lambda: common.first_fit("sklearn")
        measures["first fit, skdeep, empty kernel cache"] = common.first_fit_cold
        measures["first fit, skdeep, warm kernel cache"] = lambda: common.first_fit("skdeep", warm)
        times = {name: [] for name in measures}
        for i in range(rounds + 1):  # the first round fills caches and is dropped
            for name, function in measures.items():
                seconds = function()
                if i:
                    times[name].append(seconds)
    lines = ["| in a fresh process | seconds |", "| --- | --- |"]
    lines += [f"| {name} | {statistics.median(values):.3f} |" for name, values in times.items()]
    base, ours = (
        statistics.median(times[f"`import {module}`"]) for module in ("sklearn", "skdeep")
    )
    lines.append(f"| `import skdeep` over `import sklearn` (ratio) | {ours / base:.2f} |")
    return lines


def cpu_name():
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def machine():
    """Return a line on the machine and the versions of everything."""
    blas = sorted(
        {
            " ".join(filter(None, (i["internal_api"], i["version"], i.get("architecture"))))
            for i in threadpool_info()
            if i["user_api"] == "blas"
        }
    )
    versions = {
        "Python": platform.python_version(),
        "skdeep": skdeep.__version__,
        "scikit-learn": sklearn.__version__,
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "numba": numba.__version__,
        "joblib": joblib.__version__,
    }
    if common.HAS_TORCH:
        import torch

        versions["torch"] = torch.__version__
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{cpu_name()}, {platform.system()} {platform.machine()}, one thread. {listed}. "
        f"BLAS: {', '.join(blas) or 'unknown'}."
    )


def conditions(args):
    return [
        machine(),
        "",
        f"float32 data, Adam, {args.digits_epochs} epochs on the digits and {args.mnist_epochs} "
        f"on {args.mnist_rows:,} rows of MNIST, medians of {args.rounds} interleaved rounds. "
        "Microseconds a step (samples a second); then the rate of skdeep over each peer's: above "
        "1, skdeep is faster.",
    ]


def write_between(path, text, begin=BEGIN, end=END):
    page = path.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        sys.exit(f"{path} must hold {begin} and {end}, once each and in this order")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--datasets", nargs="+", choices=list(common.SETTINGS), default=list(common.SETTINGS)
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the fits")
    parser.add_argument("--digits-epochs", type=int, default=20)
    parser.add_argument("--mnist-epochs", type=int, default=2)
    parser.add_argument("--mnist-rows", type=int, default=20_480)
    parser.add_argument("--no-start", action="store_true", help="leave out imports, first fits")
    parser.add_argument("--quick", action="store_true", help="few rounds and rows: a smoke run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into FILE")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.digits_epochs, args.mnist_epochs, args.mnist_rows = 2, 2, 1, 2_048

    common.quiet()
    epochs = {"digits": args.digits_epochs, "mnist": args.mnist_epochs}
    n_rows = {"digits": None, "mnist": args.mnist_rows}

    lines = fit_table(fits(args.datasets, epochs, args.rounds, n_rows))
    lines = [*conditions(args), "", *lines]
    if not args.no_start:
        lines += ["", *start_table(2 if args.quick else 5)]
    text = "\n".join(lines)
    print(text)
    if args.write:
        write_between(args.write, text)


if __name__ == "__main__":
    main()
