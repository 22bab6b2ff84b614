"""The GPUs of this machine, opened once a process."""

from functools import cache

from skdeep._kernels.cuda._numba import SIMULATED


@cache
def open_device(index=0):
    """Return a device by its number."""
    if SIMULATED:
        from skdeep._kernels.cuda._simulated import SimulatedGpu as Gpu
    else:
        from skdeep._kernels.cuda._driver import Gpu
    return Gpu(index)


def count():
    """Return the number of devices; 0 without a driver."""
    if SIMULATED:
        return 1
    from skdeep._kernels.cuda._driver import count

    return count()
