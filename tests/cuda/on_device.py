"""What is checked on a machine with a GPU, step by step, each within its time.

``python -m tests.cuda.on_device`` compiles the kernels, runs the tests of `tests/cuda`, then a
selection of them that launches every kernel with shared memory under CUDA's compute-sanitizer:
``memcheck`` looks for accesses out of range, ``racecheck`` for races in shared memory. Steps can
be named: ``python -m tests.cuda.on_device racecheck``. Together they take at most ten minutes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Name of a step -> how many seconds it may take.
STEPS = {"compile": 90, "tests": 300, "memcheck": 90, "racecheck": 90}
#: File -> tests that between them launch every kernel with shared memory; a minute's worth.
SHARED = {
    "activation": "prelu_pullback_of_nan_and_infinity",
    "augment": "means_of_several_blocks",
    "batch": "account_of_more_than_a_block gather_weights_of_more_than_a_block",
    "conv": "split_sums tiles",
    "conv_tensor": "larger_tiles members_and_groups",
    "dense": "linear pullback_of_many_rows_is_split",
    "depthwise": "parts",
    "gemm": "loader_that_advances_and_epilogue_with_a_number tiles",
    "gemm_tensor": "activations error_against_unrounded_factors multiply tiles",
    "loss": "cross_entropy_of_extremes per_sample per_sample_of_long_rows",
    "lrn": "a_nan_reaches_its_neighbours_alone reruns_are_equal",
    "move": "stacks_are_transposed_to_strided_memory",
    "norm": "a_constant_channel_has_no_variance batch_norm batch_norm_pullback "
    "layer_norm_pullback moments_of_a_large_mean",
    "reduce": "extremes_and_nan few_outputs_are_reduced_in_parts long_running_sums_carry_on "
    "positions_of_extremes running_sums softmax_family sums_over_any_axes",
    "tensor": "copies_read_nothing_outside fragments_are_where_ldmatrix_puts_them "
    "products_are_those_of_mma",
    "update": "a_row_longer_than_the_blocks max_norm",
}
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
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if step == "tests":
        # Kernels that no net asks for are compiled at first use: on as many cores as there are.
        parallel = ["-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") else []
        return [*pytest, *parallel, "tests/cuda"]
    tool = [sanitizer(), "--tool", step, "--error-exitcode", str(_FOUND)]
    return [*tool, *pytest, *selected()]


def selected():
    """Return the tests of `SHARED` as pytest takes them."""
    return [
        f"tests/cuda/test_{file}.py::test_{name}"
        for file, names in SHARED.items()
        for name in names.split()
    ]


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
