"""Where a device's memory comes from: pools that keep what was given back for the next use.

A pool has ``take(nbytes)``, which gives an address and what `give` wants to have it back, or
raises MemoryError; ``idle()``, the bytes that it holds and nobody uses; and ``trim()``, which
returns those to the driver. Memory is given back in the order of the work stream: what was asked
of it before may still use it. All are called in the device's context.
"""

import sys
from collections import defaultdict

from cuda.bindings import driver

from skdeep._kernels.cuda._library import OUT_OF_MEMORY, DriverError, call


def open_pool(gpu):
    """Return a device's pool: cupy's where that is imported and works, else one of our own."""
    if "cupy" in sys.modules:
        try:
            return CupyPool(gpu)
        except Exception:  # cupy without a GPU, for another CUDA, or half imported
            pass
    if gpu.attribute("MEMORY_POOLS_SUPPORTED"):
        return DriverPool(gpu)
    return FreeLists()


class DriverPool:
    """A memory pool of the driver."""

    def __init__(self, gpu):
        self._stream = gpu.work
        properties = driver.CUmemPoolProps()
        properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = gpu.index
        self._pool = call("cuMemPoolCreate", properties)
        keep = driver.cuuint64_t(2**64 - 1)  # by default, all goes at each synchronisation
        call("cuMemPoolSetAttribute", self._pool, _attribute("RELEASE_THRESHOLD"), keep)

    def take(self, nbytes):
        address = _or_memory_error("cuMemAllocFromPoolAsync", nbytes, self._pool, self._stream)
        return address, address

    def give(self, address):
        call("cuMemFreeAsync", address, self._stream)

    def idle(self):
        held, used = (
            int(call("cuMemPoolGetAttribute", self._pool, _attribute(name)))
            for name in ("RESERVED_MEM_CURRENT", "USED_MEM_CURRENT")
        )
        return held - used

    def trim(self):
        call("cuMemPoolTrimTo", self._pool, 0)


class FreeLists:
    """Pieces of memory by size, for devices whose driver has no pools."""

    def __init__(self):
        self._free = defaultdict(list)

    def take(self, nbytes):
        nbytes = _rounded(nbytes)
        try:
            address = self._free[nbytes].pop()
        except IndexError:
            address = _or_memory_error("cuMemAlloc", nbytes)
        return address, (address, nbytes)

    def give(self, piece):
        address, nbytes = piece
        self._free[nbytes].append(address)

    def idle(self):
        return sum(nbytes * len(free) for nbytes, free in list(self._free.items()))

    def trim(self):
        for free in list(self._free.values()):
            while free:
                call("cuMemFree", free.pop())


class CupyPool:
    """The memory pool of cupy, by the work stream: both libraries use one pool."""

    def __init__(self, gpu):
        self._cupy, self._index = sys.modules["cupy"], gpu.index
        with self._cupy.cuda.Device(self._index):
            self._stream = self._cupy.cuda.Stream.from_external(gpu)
        self.take(256)

    def take(self, nbytes):
        with self._cupy.cuda.Device(self._index), self._stream:
            pointer = self._cupy.cuda.alloc(nbytes)
        return int(pointer.ptr), pointer

    def give(self, pointer):
        """Nothing to do: cupy has it back when the last reference goes."""

    def idle(self):
        with self._cupy.cuda.Device(self._index):
            return self._cupy.get_default_memory_pool().free_bytes()

    def trim(self):
        with self._cupy.cuda.Device(self._index):
            self._cupy.get_default_memory_pool().free_all_blocks()


def _rounded(nbytes):
    """Return the size of the piece that so many bytes get: at most a quarter or 64 MiB more."""
    step = min(max(256, 1 << max(nbytes - 1, 1).bit_length() - 3), 64 << 20)
    return -(-nbytes // step) * step


def _attribute(name):
    return getattr(driver.CUmemPool_attribute, f"CU_MEMPOOL_ATTR_{name}")


def _or_memory_error(name, *args):
    try:
        return int(call(name, *args))
    except DriverError as e:
        if e.code == OUT_OF_MEMORY:
            raise MemoryError(str(e)) from e
        raise
