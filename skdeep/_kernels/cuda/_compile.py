"""Kernels that are missing from the disk, compiled side by side before a program needs them.

A kernel takes about a second of one core. numba compiles one at a time in a process, so several
are given to processes of their own, which call the compilers alone and no driver. Whatever fails
there is compiled here when it is asked for, and says what is wrong.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from joblib import cpu_count

#: From so many kernels on processes are started, each for so many at least: one takes about as
#: long to start as a kernel to compile.
_MANY, _EACH = 4, 2


def compile_missing(kernels, capability):
    """Compile those kernels whose machine code is not on the disk, where that saves time.

    Parameters
    ----------
    kernels : iterable of Kernel
        The kernels of a program.
    capability : tuple of int
        The compute capability.
    """
    missing = [k for k in dict.fromkeys(kernels) if not k.path(capability).exists()]
    workers = min(cpu_count(), len(missing) // _EACH, 8)
    if len(missing) < _MANY or workers < 2:
        return
    from numba.cuda import cloudpickle

    command = [sys.executable, "-m", __name__]
    root = str(Path(__file__).parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    running = []
    try:
        for i in range(workers):
            part = [(k.parts, str(k.path(capability)), capability) for k in missing[i::workers]]
            with tempfile.TemporaryFile() as given:
                given.write(cloudpickle.dumps(part))
                given.seek(0)
                worker = subprocess.Popen(
                    command,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            running.append(worker)
        for worker in running:
            worker.wait()
    finally:
        for worker in running:
            if worker.poll() is None:  # interrupted
                worker.kill()
                worker.wait()


def main():
    """Compile the kernels that the standard input says."""
    from skdeep._kernels.cuda._numba import Kernel

    for parts, path, capability in pickle.load(sys.stdin.buffer):
        Kernel(*parts).write(capability, Path(path))


if __name__ == "__main__":
    main()
