"""The sections of the benchmark: in turn, each with a share of the time."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gpu.report import Report, Row, read

#: Seconds that a section's process may end late before it is stopped.
GRACE = 15


@dataclass(frozen=True)
class Section:
    """A table.

    Parameters
    ----------
    function : str
        What fills it: module and name in this package.
    title, peer : str
        Headings: what is measured, and whose numbers are beside ours.
    seconds : float
        Its share of the time.
    """

    function: str
    title: str
    peer: str
    seconds: float


#: Most wanted first: what the time does not suffice for is missing at the end.
SECTIONS = {
    "compilation": Section("starts.compilation", "compilation", "peer", 60),
    "memory": Section("memory.memory_bound", "memory-bound kernels", "copy", 40),
    "products": Section("products.products", "matrix product, float32", "cuBLAS", 40),
    "tensor": Section("products.tensor_cores", "matrix product, tensor cores", "cuBLAS", 45),
    "trainings": Section("trainings.throughput", "networks", "torch", 140),
    "convolutions": Section("products.convolutions", "convolution, float32", "cuDNN", 90),
    "agreement": Section("trainings.agreement", "the same training again", "other", 45),
    "starts": Section("starts.first_fits", "fresh processes", "peer", 50),
}


def measured(name, seconds, options):
    """Measure a section; return its rows, and whether all went well.

    Parameters
    ----------
    name : str
        The section.
    seconds : float
        How long it may take.
    options : Namespace
        Of the command line: `rehearse`, `rounds`, `rows` and `script`.
    """
    from gpu.timing import Bench

    module, function = SECTIONS[name].function.split(".")
    report = Report(seconds, options.rows)
    bench = Bench(report, options.rehearse, options.rounds)
    getattr(import_module(f"gpu.{module}"), function)(bench)
    return report.rows, not report.failed


def measured_apart(name, seconds, options):
    """Measure a section in a process of its own, which may die or hang; return the same."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        command = [sys.executable, str(options.script), "--section", name, "--rows", str(file)]
        command += ["--seconds", str(seconds), "--rounds", str(options.rounds)]
        command += ["--rehearse"] * options.rehearse
        try:
            status = subprocess.run(command, timeout=seconds + GRACE, check=False).returncode
            ending = f"failed: the process ended with status {status}"
        except subprocess.TimeoutExpired:
            status, ending = None, "stopped: it took too long"
        rows = read(file)
    if status not in (0, 1):  # 1: a row says what failed
        rows.append(Row("the rest", met=ending))
    return rows, status == 0


def all_sections(names, options):
    """Return {name: rows} of sections, and whether all went well."""
    measure = measured if options.rehearse else measured_apart
    start, found, fine = time.monotonic(), {}, True
    whole, shares = sum(SECTIONS[n].seconds for n in names), 0
    for name in names:
        # What the sections before have not used goes to the next ones.
        shares += SECTIONS[name].seconds
        gone = time.monotonic() - start
        left = max(1, options.seconds * shares / whole - gone)
        print(f"\n[{gone:.0f} s] {name}: {left:.0f} s", flush=True)
        found[name], good = measure(name, left, options)
        fine = fine and good
    return found, fine
