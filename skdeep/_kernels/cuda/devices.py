"""The GPUs of this machine: whether there are any, what names them, and opening one.

Importing this module imports no CUDA.
"""

import re
import threading
from functools import cache


def _simulated():
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)


_OPENING = threading.Lock()


def open_device(index=0):
    """Return a device by its number; it is opened once a process.

    Raises
    ------
    ImportError
        If numba-cuda is not installed.
    RuntimeError
        If the device cannot be used; the message says why, and what would help.
    """
    with _OPENING:  # a cache alone may call twice
        return _opened(index)


@cache
def _opened(index):
    if _simulated():
        from skdeep._kernels.cuda._simulated import SimulatedGpu as Gpu
    else:
        from skdeep._kernels.cuda._driver import Gpu
    return Gpu(index)


def explain():
    """Return why there is no GPU to compute on, as a sentence with a hint; "" if there is one."""
    try:
        found = _capabilities()
    except (ImportError, RuntimeError) as e:
        return str(e)
    from skdeep._kernels.cuda._numba import BASE

    if found and max(found) >= BASE:
        return ""
    from skdeep._kernels.cuda._library import no_device, spelled

    if found:
        return (
            "the newest GPU here has compute capability "
            f"{spelled(max(found))}, but skdeep needs {spelled(BASE)} (Ampere) or more"
        )
    return no_device()


def count():
    """Return the number of GPUs; 0 if none can be computed on."""
    return 0 if explain() else len(_capabilities())


def _capabilities():
    from skdeep._kernels.cuda._numba import BASE  # says it when numba-cuda is missing

    if _simulated():
        return [BASE]
    from skdeep._kernels.cuda._driver import capabilities

    return capabilities()


def named(device):
    """Return the number that "cuda" or "cuda:1" says; None where it says none."""
    found = re.fullmatch(r"cuda(?::(\d+))?", device) if isinstance(device, str) else None
    return int(found[1] or 0) if found else None


def parse(device):
    """Return the number of the GPU that "cuda" or "cuda:1" names; None for "cpu".

    Raises
    ------
    ValueError
        If it names no device.
    RuntimeError
        If there is no such GPU, or none that can be used.
    """
    if device == "cpu":
        return None
    index = named(device)
    if index is None:
        raise ValueError(
            f"device={device!r} is no device: use 'cpu', 'cuda', or 'cuda:1' for the second GPU"
        )
    why = explain()
    if why:
        raise RuntimeError(f"device={device!r} is not available, because {why}; or use 'cpu'")
    n = count()
    if index >= n:
        last = "'cuda'" if n == 1 else f"'cuda:0' to 'cuda:{n - 1}'"
        raise RuntimeError(f"device={device!r} is not here: this machine has {n} GPU(s), {last}")
    return index
