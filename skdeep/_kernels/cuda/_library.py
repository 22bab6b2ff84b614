"""Calls of CUDA's driver library: started once a process, errors raised, contexts and events."""

import contextlib
import os
import time
import weakref
from functools import cache

from cuda.bindings import __version__ as _bindings
from cuda.bindings import driver

#: The release of CUDA that the machine code is made for, as the driver counts: 13000 is 13.0.
NEEDED = 1000 * int(_bindings.split(".")[0])

OUT_OF_MEMORY = int(driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY)
_NOT_READY = int(driver.CUresult.CUDA_ERROR_NOT_READY)
_NOT_INITIALIZED = int(driver.CUresult.CUDA_ERROR_NOT_INITIALIZED)
_NO_DEVICE = int(driver.CUresult.CUDA_ERROR_NO_DEVICE)
#: Errors that a kernel leaves behind: every later call of the process gives them again.
_FAILED = {700, 702, 710, 714, 715, 716, 717, 718, 719}

_FORKED = (
    "CUDA was started in the process that this one was forked from, and cannot be used here: "
    "open the GPU in the new process only, or start it by 'spawn' or joblib's 'loky'"
)


class DriverError(RuntimeError):
    """A call of CUDA's driver failed.

    Parameters
    ----------
    message : str
        What happened.
    code : int, optional
        The driver's number for it.
    """

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


def call(name, *args):
    """Call the driver; return what it gives: nothing, a value or a tuple."""
    code, *given = getattr(driver, name)(*args)
    if code:
        raise _error(name, code)
    return given[0] if len(given) == 1 else tuple(given) or None


def _error(name, code):
    code = int(code)
    known = text = None
    with contextlib.suppress(ValueError):  # newer than the bindings
        given = driver.CUresult(code)
        known, text = driver.cuGetErrorName(given)[1], driver.cuGetErrorString(given)[1]
    known, text = (known or b"error %d" % code).decode(), (text or b"unknown").decode()
    message = f"{name} failed: {known} ({text})"
    if code in _FAILED:
        message = (
            f"a kernel failed on the GPU, which {name} found: {known} ({text}); the GPU cannot "
            "be used in this process any more, and NVIDIA's compute-sanitizer names the kernel"
        )
    if code == _NOT_INITIALIZED:
        message += f"; {_FORKED}, if the process was forked"
    return DriverError(message, code)


# ---- start ------------------------------------------------------------------------------------


def start():
    """Start CUDA in this process, once; refuse in a process that was forked since."""
    if _started() != os.getpid():
        raise DriverError(_FORKED)


@cache
def _started():
    try:
        version = call("cuDriverGetVersion")
    except DriverError:
        raise
    except RuntimeError as e:  # the bindings' own: a library or a function that is not there
        raise DriverError(
            "no NVIDIA driver was found (libcuda.so.1): install it, or, in a container, start "
            "that with its GPUs ('docker run --gpus all')"
        ) from e
    if version < NEEDED:
        raise DriverError(
            f"the NVIDIA driver supports CUDA {_release(version)} at most, but the installed "
            f"numba-cuda makes code for CUDA {_release(NEEDED)}: update the driver"
        )
    try:
        call("cuInit", 0)
    except DriverError as e:
        if e.code != _NO_DEVICE:
            raise
        raise DriverError(no_device(), e.code) from e
    return os.getpid()


def no_device():
    """Say that there is no GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "the NVIDIA driver sees no GPU" + (
        ": look at 'nvidia-smi'"
        if visible is None
        else f": CUDA_VISIBLE_DEVICES={visible!r} may hide it"
    )


def _release(version):
    return f"{version // 1000}.{version % 1000 // 10}"


def spelled(capability):
    """Return a compute capability as it is written."""
    return ".".join(map(str, capability))


# ---- contexts and events ----------------------------------------------------------------------


class Context:
    """A device's primary context, which other libraries of the process use, too.

    ``with context:`` makes it current in the thread, and then again what was.
    """

    def __init__(self, device):
        self.handle, self._process = call("cuDevicePrimaryCtxRetain", device), os.getpid()

    @property
    def usable(self):
        """Whether the process is not a fork of the one that CUDA was started in."""
        return self._process == os.getpid()

    def __enter__(self):
        if not self.usable:
            raise DriverError(_FORKED)
        call("cuCtxPushCurrent", self.handle)

    def __exit__(self, *_):
        call("cuCtxPopCurrent")

    def when_gone(self, owner, function, *args):
        """Call a function in the context when an object is collected, but not at exit.

        It may run in any thread between any two instructions. What it raises is dropped: nobody
        could catch it, and after a kernel's failure every call fails.
        """
        weakref.finalize(owner, self._end, function, *args).atexit = False

    def _end(self, function, *args):
        if self.usable:
            with contextlib.suppress(DriverError), self:
                function(*args)


class Mark:
    """A place in a stream: behind everything that was asked of the stream so far."""

    def __init__(self, context, stream):
        self._context = context
        with context:
            flags = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
            self.event = call("cuEventCreate", flags)
            context.when_gone(self, call, "cuEventDestroy", self.event)
            call("cuEventRecord", self.event, stream)

    def passed(self):
        """Whether all of it is done; raise what went wrong with it."""
        with self._context:
            code = driver.cuEventQuery(self.event)[0]
        if int(code) == _NOT_READY:
            return False
        if code:
            raise _error("cuEventQuery", code)
        return True

    def wait(self):
        """Return when all of it is done; an interrupt from the keyboard is heard."""
        began = time.perf_counter()
        while not self.passed():
            waited = time.perf_counter() - began
            if waited > 1e-4:  # sleeping costs at most a twentieth more than the work takes
                time.sleep(min(waited / 20, 5e-3))

    def before(self, stream):
        """Let what is asked of a stream from now on wait for it, without waiting here."""
        with self._context:
            call("cuStreamWaitEvent", stream, self.event, 0)
