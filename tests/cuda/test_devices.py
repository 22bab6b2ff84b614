"""Which devices there are, what names them, and why there is none."""

import ctypes.util

import pytest

from skdeep._kernels.cuda import devices
from tests.cuda.fake_driver.build import run_script, run_tests
from tests.cuda.test_driver import on_fake

_IMPORTS = """
import sys
import skdeep, skdeep._kernels.cuda.devices
print(sorted({"numba.cuda", "cuda", "cuda.bindings"} & set(sys.modules)))
"""
_EXPLAIN = """
import sys
{before}
from skdeep._kernels.cuda.devices import count, explain
print(count(), explain())
"""


@on_fake
def test_devices_on_the_stand_in():
    run_tests("test_devices.py", "fake_driver/device_checks.py")


@on_fake
def test_importing_skdeep_imports_no_cuda():
    assert run_script(_IMPORTS) == "[]"


@on_fake
@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="there is a driver")
def test_no_driver_is_said():
    pytest.importorskip("cuda.bindings", reason="without numba-cuda that is what is said")
    said = run_script(_EXPLAIN.format(before=""), fake=False)
    assert said.startswith("0 no NVIDIA driver was found (libcuda.so.1): install it")


@on_fake
def test_no_numba_cuda_is_said():
    said = run_script(_EXPLAIN.format(before="sys.modules['numba.cuda'] = None"))
    assert said.startswith("0 skdeep computes on a GPU through the package numba-cuda")


def test_a_usable_device_needs_no_explanation(gpu):
    assert devices.explain() == ""
    assert devices.count() >= 1
    assert devices.open_device(0) is gpu


def test_names_of_devices(gpu):
    assert devices.parse("cpu") is None
    assert devices.parse("cuda") == 0
    assert devices.parse("cuda:0") == 0


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:1.0", "CUDA", 0, None])
def test_what_names_no_device(device):
    with pytest.raises(ValueError, match=f"^device={device!r} is no device: use 'cpu', 'cuda'"):
        devices.parse(device)


def test_a_device_that_is_not_there(gpu):
    with pytest.raises(RuntimeError, match=r"^device='cuda:99' is not here: this machine has \d"):
        devices.parse("cuda:99")
