"""The CUDA tests, each group in a process of its own.

`tests/cuda` runs here on the simulated device. On a machine with a GPU run it as it is, too:
``python -m pytest tests/cuda``.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **environment):
    """Run Python; return what it printed, and fail with its end where it fails."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


def test_kernels_in_the_simulator():
    pytest.importorskip("greenlet")
    parallel = ["-n", "2"] if find_spec("xdist") else []
    out = run("-m", "pytest", "tests/cuda", "-q", *parallel, NUMBA_ENABLE_CUDASIM="1")
    assert " passed" in out
    print(out.splitlines()[-1])


@pytest.mark.parametrize("which", [(), pytest.param(("--all",), marks=pytest.mark.slow)])
def test_kernels_compile_within_their_budgets(which):
    pytest.importorskip("cuda.core")
    from tests.cuda.machine_code import tool

    if tool("cuobjdump") is None:
        pytest.skip("needs CUDA's disassembler cuobjdump")
    run("-m", "tests.cuda.budgets", "--check", *which)
