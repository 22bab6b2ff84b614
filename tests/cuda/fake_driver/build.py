"""Compiling the stand-in for CUDA's driver, and running tests and scripts on it."""

import atexit
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]


@cache
def built():
    """Return the folder of the compiled library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is needed for the stand-in for CUDA's driver")
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("numba-cuda is needed to call the stand-in for CUDA's driver")
    folder = Path(mkdtemp(prefix="skdeep_fake_driver_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    options = "-std=gnu11 -Wall -Wextra -Werror -O1 -shared -fPIC -Wl,-soname,libcuda.so.1"
    library, source = folder / "libcuda.so.1", _HERE / "libcuda.c"
    libraries = "-ldl", "-lpthread"
    subprocess.run([compiler, *options.split(), "-o", library, source, *libraries], check=True)
    return folder


def environment(fake=True, **settings):
    """Return the environment of a process that is not simulated, on the stand-in or without."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FAKE_CUDA", "NUMBA_ENABLE"))}
    if fake:
        folder = built()
        env |= {
            "LD_LIBRARY_PATH": os.pathsep.join([str(folder), env.get("LD_LIBRARY_PATH", "")]),
            "FAKE_CUDA_LIBRARY": str(folder / "libcuda.so.1"),
            "FAKE_CUDA_LOG": str(folder / "log"),
            "NUMBA_CACHE_DIR": str(folder / "cache"),
        }
    return env | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)} | settings


def run_script(source, fake=True, **settings):
    """Run Python source in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env=environment(fake, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def run_tests(*paths):
    """Run test files on the stand-in, all in one process; they must pass, and there must be some.

    Paths are relative to the folder of the GPU's tests.
    """
    files = [str(_HERE.parent / path) for path in paths]
    options = "-q", "-p", "no:cacheprovider", "--rootdir", str(_ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        env=environment(),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
