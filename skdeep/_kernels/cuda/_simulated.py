"""A GPU made of NumPy arrays, which runs kernels in Python; for tests, at tiny sizes."""

import numpy as np

from skdeep._kernels.cuda._arguments import check_array, check_number, is_number
from skdeep._kernels.cuda._numba import cuda
from skdeep._kernels.cuda._races import Races
from skdeep._kernels.cuda.array import Buffer, Scratch, from_pairs, to_pairs


class SimulatedGpu:
    """What `Gpu` is, without one.

    Parameters
    ----------
    index : int, default=0
        The device's number.

    Attributes
    ----------
    launched : int
        The kernels launched so far.
    """

    multiprocessors, stream_handle, name = 4, 1, "simulated"
    capability = (9, 0)
    #: Whether kernels are stopped where their threads race; it takes three times as long.
    finds_races = False

    def __init__(self, index=0):
        self.index, self.launched, self.used, self.capacity = index, 0, 0, 1 << 32

    def __repr__(self):
        return f"cuda:{self.index} (simulated)"

    # ---- memory --------------------------------------------------------------------------------

    def memory(self):
        """Return the free and the whole memory, in bytes."""
        return self.capacity - self.used, self.capacity

    def allocate(self, nbytes):
        """Return a buffer; its bytes are poison until they are written."""
        raw = np.full(nbytes + 256, 0xFF, np.uint8)
        data = raw[-raw.ctypes.data % 256 :][:nbytes]
        return Buffer(self, data.ctypes.data, nbytes, keep=data)

    def pinned(self, shape, dtype):
        """Return host memory that copies can run from on their own."""
        return np.zeros(shape, dtype)

    # ---- copies --------------------------------------------------------------------------------

    def upload(self, host, array, after=None):
        """Copy a host array to a device array of the same shape."""
        if array.dtype == np.float64:
            host = to_pairs(host)
        elements(array)[...] = host

    def download(self, array, host, after=None):
        """Copy a device array to a host array; return when it is there."""
        value = elements(array)
        host[...] = from_pairs(value) if array.dtype == np.float64 else value

    def mark(self):
        """Return a mark behind what was asked so far."""
        return self

    def wait(self):
        """Return when what was asked before a mark is done: it is."""

    def synchronize(self):
        """Return when everything that was asked is done."""

    # ---- launches ------------------------------------------------------------------------------

    def prepare(self, launches):
        """Return ``run(steps=1)``, which makes a list of launches again and again."""

        def run(steps=1):
            for _ in range(steps):
                for launch in launches:
                    self.launch(launch)

        return run

    def launch(self, launch):
        """Run a kernel."""
        kernel = launch.kernel
        args = [_argument(kernel, w, a) for w, a in zip(kernel.spec, launch.args, strict=True)]
        self.launched += 1
        if self.finds_races:
            cuda.races = Races(cuda, kernel.__name__)
            args = [cuda.races.watch(a) if isinstance(a, np.ndarray) else a for a in args]
        try:
            cuda.run(kernel.function, launch.grid, (kernel.threads, 1, 1), args)
        finally:
            cuda.races = None


def elements(array):
    """Return a device array's elements as a NumPy array; float64 as pairs of float32."""
    data, dtype, shape, strides = array.buffer, array.dtype, array.shape, array.strides
    offset = array.offset
    if isinstance(data, Scratch):
        data, offset = data.buffer, data.start + offset
    if dtype == np.float64:
        dtype, shape, strides = np.dtype(np.float32), (*shape, 2), (*strides, 4)
    return np.ndarray(shape, dtype, data.keep, offset, strides)


def _argument(kernel, word, value):
    """Return an argument as a kernel sees it: a flat array, or a number of its type."""
    if is_number(word):
        return check_number(kernel, word, value)
    check_array(kernel, word, value)
    pairs = 2 if value.dtype == np.float64 else 1
    flat = value.view((value.extent() * pairs,), None, 0, np.float32 if pairs == 2 else None)
    return elements(flat)
