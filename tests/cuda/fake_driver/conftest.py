"""What the tests on the stand-in for CUDA's driver share."""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest


class Log:
    """What the driver was asked since the test began."""

    def __init__(self, path):
        self.path = Path(path)
        self.begin()

    def begin(self):
        self.start = len(self.lines())

    def lines(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def __call__(self, *words):
        """Return the lines since the beginning, split; only those that begin with some words."""
        found = [line.split() for line in self.lines()[self.start :]]
        return [line for line in found if not words or line[0] in words]


@pytest.fixture(scope="session", autouse=True)
def _quick_collection():
    """Leave what was imported out of garbage collections, of which the tests make many."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def log(gpu):
    gpu.synchronize()
    gc.collect()
    return Log(os.environ["FAKE_CUDA_LOG"])


@pytest.fixture(scope="session")
def library():
    return ctypes.CDLL(os.environ["FAKE_CUDA_LIBRARY"])


@pytest.fixture
def launches(library):
    """Give the stand-in functions that do what kernels would do, by part of their name.

    Gives the empty table of the functions, which take the bytes of the parameters, the grid and
    the block, and the list of the names of those that ran.
    """
    kind = ctypes.CFUNCTYPE(
        None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint32), ctypes.c_void_p, ctypes.c_size_t
    )
    functions, made = {}, []

    def launched(entry, shape, parameters, n):
        for name, function in functions.items():
            if name in entry.decode():
                made.append(name)
                function(ctypes.string_at(parameters, n), tuple(shape[:3]), tuple(shape[3:6]))

    pointer = kind(launched)
    library.fake_on_launch(pointer)
    yield functions, made
    library.fake_on_launch(kind())


def memory(address, n, dtype=np.float32):
    """Return the elements at an address, which on the stand-in is one of the host."""
    raw = (ctypes.c_uint8 * (n * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(raw, dtype)
