"""A GPU of this machine: its memory, copies to and from it, and kernels launched on it."""

import gc

import numpy as np
from cuda.bindings import driver

from skdeep._kernels.cuda._compile import compile_missing
from skdeep._kernels.cuda._copies import Pinned, Ring, download, upload
from skdeep._kernels.cuda._graph import Run
from skdeep._kernels.cuda._library import Context, DriverError, Mark, call, spelled, start
from skdeep._kernels.cuda._numba import BASE
from skdeep._kernels.cuda._pool import open_pool
from skdeep._kernels.cuda.array import Buffer

__all__ = ["DriverError", "Gpu", "capabilities"]


def capabilities():
    """Return the compute capabilities of all GPUs, for which none is opened."""
    start()
    return [_capability(call("cuDeviceGet", i)) for i in range(call("cuDeviceGetCount"))]


def _capability(device):
    return tuple(_attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))


def _attribute(device, name):
    kind = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return call("cuDeviceGetAttribute", kind, device)


class Gpu:
    """A GPU.

    Everything that is asked of it is done in the order in which it was asked, by one stream,
    while the processor goes on; `download` and `synchronize` wait. It may be used from any
    thread, but not in a process that was forked after it was opened.

    Parameters
    ----------
    index : int, default=0
        The device's number.

    Attributes
    ----------
    name : str
        What the driver calls it.
    capability : tuple of int
        Its compute capability, (9, 0) for a Hopper.
    multiprocessors : int
        How many there are.
    stream_handle : int
        The stream of the work, as other libraries take it.
    context : Context
        Its primary context.
    """

    def __init__(self, index=0):
        start()
        n = call("cuDeviceGetCount")
        if not 0 <= index < n:
            raise DriverError(f"there is no GPU number {index}: the driver sees {n}, from 0 on")
        self.index, self._device = index, call("cuDeviceGet", index)
        self.name = call("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode()
        self.capability = _capability(self._device)
        if self.capability < BASE:
            raise DriverError(
                f"GPU number {index} ({self.name}) has compute capability "
                f"{spelled(self.capability)}, but skdeep needs {spelled(BASE)} (Ampere) or more"
            )
        self.multiprocessors = self.attribute("MULTIPROCESSOR_COUNT")
        self.graphs = True
        self.context = Context(self._device)
        with self.context:
            # Streams that do not wait for the legacy default stream, and it not for them.
            flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
            self.work, self.copies = (call("cuStreamCreate", flags) for _ in range(2))
            self.stream_handle = int(self.work)
            self._pool = open_pool(self)
        self.ring = Ring(self)

    def __repr__(self):
        return f"cuda:{self.index} ({self.name})"

    def __cuda_stream__(self):
        """The stream of the work, by the protocol that CUDA's libraries share."""
        return 0, self.stream_handle

    def attribute(self, name):
        """Return an attribute of the device by CUDA's name without ``CU_DEVICE_ATTRIBUTE_``."""
        return _attribute(self._device, name)

    # ---- memory --------------------------------------------------------------------------------

    def memory(self):
        """Return the free and the whole memory, in bytes; what the pool could give is free."""
        with self.context:
            free, total = call("cuMemGetInfo")
            return free + self._pool.idle(), total

    def allocate(self, nbytes):
        """Return a buffer, whose bytes are anything."""
        wanted = -(-max(nbytes, 1) // 256) * 256
        with self.context:
            try:
                address, piece = self._pool.take(wanted)
            except MemoryError:
                address, piece = self._take_again(wanted)
        buffer = Buffer(self, address, nbytes, keep=piece)
        self.context.when_gone(buffer, self._pool.give, piece)
        return buffer

    def _take_again(self, nbytes):
        """Take memory after everything that is unused was given back."""
        gc.collect()
        self.synchronize()
        self._pool.trim()
        try:
            return self._pool.take(nbytes)
        except MemoryError as e:
            free, total = (n / 1e9 for n in self.memory())
            raise MemoryError(
                f"{self!r} has no {nbytes / 1e9:.3g} GB more: {free:.3g} GB of {total:.3g} GB "
                "are free; a smaller batch_size needs less (accumulate_steps keeps the step that "
                "a larger one makes), and so does checkpoint_activations"
            ) from e

    def pinned(self, shape, dtype):
        """Return zeros in host memory that copies run from on their own: see `upload`."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not nbytes:
            return np.zeros(shape, dtype)
        return np.asarray(Pinned(self, nbytes)).view(dtype).reshape(shape)

    def adopt(self, address, nbytes, owner):
        """Return a buffer over memory of another library, which keeps its owner alive.

        The owner is let go when the work that was asked until then is done.
        """
        buffer = Buffer(self, address, nbytes, keep=owner)
        self.context.when_gone(buffer, _after(call, "cuStreamSynchronize", self.work), owner)
        return buffer

    def lend(self, buffer):
        """Return a buffer over the same memory for other libraries.

        The memory is given back when no stream of the device can be using it any more.
        """
        lent = Buffer(self, buffer.address, buffer.nbytes, keep=buffer)
        self.context.when_gone(lent, _after(call, "cuCtxSynchronize"), buffer)
        return lent

    # ---- copies --------------------------------------------------------------------------------

    def upload(self, host, array, after=None):
        """Copy a host array to a device array of the same shape; what is asked later sees it.

        Parameters
        ----------
        host : ndarray
            The host array. It may change when this returns, unless it lies in pinned memory: such
            an array may change when a later `mark` has passed, or after `synchronize`.
        array : DeviceArray
            The device array.
        after : Mark, optional
            What the copy waits for: by default, all that was asked before; otherwise it runs
            beside what was asked behind the mark, which does not use the array.
        """
        host = _same_shape(host, array)
        with self.context:
            if after is None:
                upload(self, host, array, self.work)
                return
            after.before(self.copies)
            upload(self, host, array, self.copies)
            Mark(self.context, self.copies).before(self.work)

    def download(self, array, host, after=None):
        """Copy a device array to a host array of the same shape; return when it is there.

        With a mark as `after`, it waits for no more than what was asked before that, and the
        array may not change behind it.
        """
        _same_shape(host, array)
        with self.context:
            if after is not None:
                after.before(self.copies)
            download(self, array, host, self.work if after is None else self.copies)

    def mark(self):
        """Return a mark behind what was asked so far; its `wait` returns when that is done."""
        return Mark(self.context, self.work)

    def synchronize(self):
        """Return when everything that was asked is done; raise what went wrong with it."""
        self.mark().wait()

    # ---- launches ------------------------------------------------------------------------------

    def prepare(self, launches):
        """Return ``run(steps=1)``, which makes a list of launches again and again."""
        new = (k for k in (x.kernel for x in launches) if self.index not in k._loaded)
        compile_missing(new, self.capability)
        return Run(self, launches)


def _after(function, *args):
    """Return a function that calls another; the arguments that it is given live until then."""

    def wait(*kept):
        function(*args)

    return wait


def _same_shape(host, array):
    host = np.asarray(host)
    if host.shape != array.shape:
        raise ValueError(f"a host array of shape {host.shape} for {array!r}")
    return host
