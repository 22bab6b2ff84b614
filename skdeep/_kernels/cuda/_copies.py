"""Copies between host and device memory, of any strides, on their own where that is possible.

The driver copies on its own only from and to host memory that it has locked (pinned). Other
memory goes through a ring of such memory, in pieces: while one is on its way, the processor fills
or empties the next.
"""

import ctypes
import threading
from collections import deque

import numpy as np
from cuda.bindings import driver

from skdeep._kernels.cuda._library import OUT_OF_MEMORY, DriverError, Mark, call
from skdeep._kernels.cuda.array import from_pairs, to_pairs

#: Bytes of a piece and of the ring, and how many copies may be under way at once.
PIECE, RING, _UNDER_WAY = 8 << 20, 32 << 20, 256


class Pinned:
    """Host memory that the driver has locked; NumPy arrays over it keep it alive."""

    def __init__(self, gpu, nbytes):
        portable = driver.CU_MEMHOSTALLOC_PORTABLE
        with gpu.context:
            try:
                self.address = int(call("cuMemHostAlloc", nbytes, portable))
            except DriverError as e:
                if e.code != OUT_OF_MEMORY:
                    raise
                raise MemoryError(
                    f"{nbytes / 1e9:.3g} GB of host memory cannot be locked for copies"
                ) from e
        self.nbytes = nbytes
        ctypes.memset(self.address, 0, nbytes)
        gpu.context.when_gone(self, _free_host, self.address)

    @property
    def __array_interface__(self):
        data = self.address, False
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": data, "version": 3}


def _free_host(address):
    call("cuCtxSynchronize")  # a copy may be on its way
    call("cuMemFreeHost", address)


def is_pinned(host):
    """Whether an array lies in memory of `Pinned`."""
    while isinstance(host, np.ndarray):
        host = host.base
    return isinstance(host, Pinned)


class Ring:
    """Pinned memory that pieces pass through, used round and round."""

    def __init__(self, gpu):
        self._gpu, self.lock = gpu, threading.Lock()
        self._memory, self._next, self._under_way = None, 0, deque()

    def take(self, shape, dtype):
        """Return a contiguous array in the ring that no copy uses any more."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self._memory is None:
            self._memory = np.asarray(Pinned(self._gpu, RING))
        start, size = self._next, -(-nbytes // 256) * 256
        if start + size > RING:
            while self._under_way and self._under_way[0][0] >= start:  # of the last round
                self._land()
            start = 0
        end = start + size
        while self._under_way and (
            len(self._under_way) > _UNDER_WAY
            or (self._under_way[0][0] < end and start < self._under_way[0][1])
        ):
            self._land()
        self._next, self._taken = end, (start, end)
        return np.ndarray(shape, dtype, self._memory, start)

    def _land(self):
        """Wait for the oldest copy under way."""
        self._under_way[0][2].wait()
        self._under_way.popleft()

    def sent(self, stream):
        """Note that copies of the array taken last were asked of a stream; return their mark."""
        mark = Mark(self._gpu.context, stream)
        self._under_way.append((*self._taken, mark))
        return mark


def upload(gpu, host, array, stream):
    """Ask for a copy from the host; the host array may change again when this returns.

    Of pinned arrays of the same type without gaps it may not: they are copied in place.
    """
    if array.dtype == np.float64:
        convert, shape, dtype = to_pairs, lambda part: (*part.shape, 2), np.float32
    else:
        convert, shape, dtype = np.asarray, lambda part: part.shape, array.dtype
    if _direct(host, array):
        _copy(array, host.ctypes.data, stream, to_device=True)
        return
    with gpu.ring.lock:
        for part, piece in pieces(array, host):
            staged = gpu.ring.take(shape(part), dtype)
            np.copyto(staged, convert(piece), casting="unsafe")
            _copy(part, staged.ctypes.data, stream, to_device=True)
            gpu.ring.sent(stream)


def download(gpu, array, host, stream):
    """Copy to the host; return when it is there."""
    pairs = array.dtype == np.float64
    if _direct(host, array):
        _copy(array, host.ctypes.data, stream, to_device=False)
        Mark(gpu.context, stream).wait()
        return
    coming = deque()

    def arrive():
        mark, staged, piece = coming.popleft()
        mark.wait()
        piece[...] = from_pairs(staged) if pairs else staged

    with gpu.ring.lock:
        for part, piece in pieces(array, host):
            if len(coming) == 2:  # the ring has room for these and one more
                arrive()
            shape, dtype = ((*part.shape, 2), np.float32) if pairs else (part.shape, part.dtype)
            staged = gpu.ring.take(shape, dtype)
            _copy(part, staged.ctypes.data, stream, to_device=False)
            coming.append((gpu.ring.sent(stream), staged, piece))
        while coming:
            arrive()


def _direct(host, array):
    """Whether the driver can copy between the arrays without help."""
    same = host.dtype == array.dtype and array.dtype != np.float64
    return same and host.flags.c_contiguous and is_pinned(host)


def pieces(array, host):
    """Cut a device array and a host array of its shape into pairs of at most `PIECE` bytes."""
    if not array.size:
        return
    if array.nbytes <= PIECE:
        yield array, host
        return
    if array.ndim > 1 and array.is_contiguous and host.flags.c_contiguous:
        array, host = array.reshape(array.size), host.reshape(-1)
    rows, step = array.shape[0], array.strides[0]
    whole = max(1, PIECE * rows // array.nbytes)
    for i in range(0, rows, whole):
        n = min(whole, rows - i)
        if n == 1 and array.ndim > 1:
            part = array.view(array.shape[1:], array.strides[1:], i * step)
            yield from pieces(part, host[i])
        else:
            part = array.view((n, *array.shape[1:]), array.strides, i * step)
            yield part, host[i : i + n]


# ---- one array ---------------------------------------------------------------------------------


def _copy(array, host, stream, to_device):
    """Ask for copies between a device array and contiguous host memory at an address."""
    for address, rows, width, pitch in runs(array):
        if rows == 1 or pitch == width:
            nbytes = rows * width
            if to_device:
                call("cuMemcpyHtoDAsync", address, host, nbytes, stream)
            else:
                call("cuMemcpyDtoHAsync", host, address, nbytes, stream)
        else:
            call("cuMemcpy2DAsync", _rows(address, host, rows, width, pitch, to_device), stream)
        host += rows * width


def runs(array):
    """Return (address, rows, bytes of a row, distance of rows) of an array, in C order."""
    width, axes = array.itemsize, list(zip(array.shape, array.strides, strict=True))
    axes = [(n, s) for n, s in axes if n != 1]
    while axes and axes[-1][1] == width:  # what stands without gaps is one row
        width *= axes.pop()[0]
    rows, pitch = axes.pop() if axes and width <= axes[-1][1] < 2**31 else (1, width)
    if not array.size:
        return
    for index in np.ndindex(*(n for n, _ in axes)):
        shift = sum(i * s for i, (_, s) in zip(index, axes, strict=True))
        yield array.address + shift, rows, width, pitch


def _rows(address, host, rows, width, pitch, to_device):
    """Return the driver's description of a copy of rows."""
    kinds, copy = driver.CUmemorytype, driver.CUDA_MEMCPY2D()
    copy.WidthInBytes, copy.Height = width, rows
    place = driver.CUdeviceptr(address)
    if to_device:
        copy.srcMemoryType, copy.srcHost, copy.srcPitch = kinds.CU_MEMORYTYPE_HOST, host, width
        copy.dstMemoryType, copy.dstDevice = kinds.CU_MEMORYTYPE_DEVICE, place
        copy.dstPitch = pitch
    else:
        copy.dstMemoryType, copy.dstHost, copy.dstPitch = kinds.CU_MEMORYTYPE_HOST, host, width
        copy.srcMemoryType, copy.srcDevice = kinds.CU_MEMORYTYPE_DEVICE, place
        copy.srcPitch = pitch
    return copy
