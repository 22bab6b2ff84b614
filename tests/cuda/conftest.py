"""These tests run on a GPU, or, with NUMBA_ENABLE_CUDASIM=1, on a simulated one.

Elsewhere they are left out: `tests/test_cuda.py` runs them in a process of their own.
"""

import os

import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def _devices():
    if SIMULATED:
        return True
    try:
        from skdeep._kernels.cuda.devices import count
    except ImportError:
        return False
    return count() > 0


collect_ignore_glob = [] if _devices() else ["test_*.py"]


@pytest.fixture(scope="session")
def gpu():
    """A device: a real one where there is one, else simulated.

    With SKDEEP_RACES=1 in the environment the simulated one stops kernels whose threads race.
    """
    from skdeep._kernels.cuda.devices import open_device

    device = open_device(0)
    if SIMULATED:
        device.finds_races = os.environ.get("SKDEEP_RACES") == "1"
    return device
