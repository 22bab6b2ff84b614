"""What is checked on a machine with a GPU, step by step, each within its time.

``python -m tests.cuda.on_device`` compiles the kernels, runs the tests of `tests/cuda`, then a
selection of them that launches every kernel with shared memory under CUDA's compute-sanitizer:
``memcheck`` looks for accesses out of range, ``racecheck`` for races in shared memory. Steps can be
named: ``python -m tests.cuda.on_device racecheck``.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Name of a step -> how many seconds it may take.
STEPS = {"compile": 90, "tests": 300, "memcheck": 90, "racecheck": 90}
#: Tests that between them launch every kernel with shared memory, as pytest's -k takes them.
SHARED = ()
#: The exit status of a run in which the sanitizer found something.
_FOUND = 66


def sanitizer():
    """Return the path of compute-sanitizer: on the path, or of the toolkit; None without."""
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )


def command(step):
    """Return the command of a step."""
    if step == "compile":
        return [sys.executable, "asv_bench/compare_cuda.py", "--only", "compilation",
                "--seconds", str(STEPS[step])]  # fmt: skip
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cuda"]
    if step == "tests":
        return tests
    tool = [sanitizer(), "--tool", step, "--error-exitcode", str(_FOUND)]
    return [*tool, *tests, "-k", " or ".join(SHARED)]


def refusal(step):
    """Return why a step cannot be made here; "" if it can."""
    from skdeep._kernels.cuda.devices import explain

    why = explain()
    if not why and step in ("memcheck", "racecheck") and sanitizer() is None:
        why = "compute-sanitizer, of CUDA's toolkit, is not on the path"
    return why


def run(step):
    """Make a step; return what came of it."""
    why = refusal(step)
    if why:
        return f"not made: {why}"
    try:
        status = subprocess.run(command(step), cwd=ROOT, timeout=STEPS[step]).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {STEPS[step]} s"
    if status == _FOUND:
        return "the sanitizer found errors: see above"
    return "" if status == 0 else f"failed with status {status}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(STEPS)} (default: all)")
    steps = parser.parse_args(arguments).steps or list(STEPS)
    unknown = [s for s in steps if s not in STEPS]
    if unknown:
        parser.error(f"no such steps: {', '.join(unknown)}; there are {', '.join(STEPS)}")
    lines, wrong = [], False
    for step in steps:
        print(f"\n== {step}", flush=True)
        start = time.monotonic()
        came = run(step)
        wrong = wrong or bool(came)
        lines.append(f"{step}: {came or 'fine'} ({time.monotonic() - start:.0f} s)")
    print("\n" + "\n".join(lines))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
