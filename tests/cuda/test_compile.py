"""Kernels compiled in processes of their own are those that are compiled here."""

from importlib.util import find_spec

import pytest

from tests.cuda.fake_driver.build import run_script
from tests.cuda.machine_code import tool

pytestmark = pytest.mark.skipif(
    not (find_spec("cuda") and find_spec("cuda.core") and tool("cuobjdump")),
    reason="needs CUDA's compilers and disassembler",
)

_SOURCE = """
from tests.cuda.machine_code import inspect
from skdeep._kernels.cuda import _compile, elementwise, gemm
from skdeep._kernels.cuda.batch import _gather_labels, _take_weights
_compile.cpu_count = lambda: 2
small = [_gather_labels, _take_weights, elementwise.catalogue()[0], gemm.catalogue()[2]]
assert not any(k.path((9, 0)).exists() for k in small)
_compile.compile_missing([*small, small[0]], (9, 0))
for k in small:
    there = inspect(k)
    k.path((9, 0)).unlink()
    assert there == inspect(k), k
_compile.sys.executable = "/bin/false"  # workers that fail leave the work to others
_compile.compile_missing(gemm.catalogue()[:4], (8, 0))
print(sum(k.path((8, 0)).exists() for k in gemm.catalogue()[:4]))
"""


def test_processes_compile_the_same_code(tmp_path):
    assert run_script(_SOURCE, fake=False, NUMBA_CACHE_DIR=str(tmp_path)) == "0"
