"""CUDA's execution model in plain Python: the kernels run as they are written, on NumPy arrays.

`Cuda` stands in for the module ``numba.cuda`` inside kernels. The threads of a block are
greenlets that run in a fixed order up to the next barrier or warp exchange; shared and local
memory begins as NaN; a barrier that not every thread of the block reaches is an error. It says
whether a kernel computes the right thing, not whether its threads race.
"""

import sys
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import numpy as np

_RUNNING, _AT_BARRIER, _AT_WARP = range(3)


class _Thread:
    """One thread of a block."""

    __slots__ = (
        "greenlet", "index", "number", "state", "value", "block", "barriers", "syncs", "copies"
    )  # fmt: skip

    def __init__(self, greenlet, index, number, block):
        self.greenlet, self.index, self.number, self.block = greenlet, index, number, block
        self.state, self.value = _RUNNING, None
        self.barriers = self.syncs = 0
        self.copies = [[]]  # asynchronous ones under way, by group; the last group is open

    def wait(self, state, value):
        """Give the scheduler a value and wait; return what it answers."""
        self.state, self.value = state, value
        self.block.scheduler.switch()
        return self.value


class _Block:
    """The threads of one block, and its shared memory."""

    def __init__(self, index):
        self.index, self.shared, self.threads = index, {}, []

    def run(self, body, shape, args, cuda):
        from greenlet import getcurrent, greenlet

        self.scheduler = getcurrent()
        x, y, z = shape
        for number in range(x * y * z):
            at = SimpleNamespace(x=number % x, y=number // x % y, z=number // (x * y))
            thread = greenlet(body)
            thread.gr_context = copy_context()  # with what NumPy is told of overflows
            self.threads.append(_Thread(thread, at, number, self))
        live, given = self.threads, args
        while live:
            for thread in live:
                if thread.state == _RUNNING:
                    cuda.thread = thread
                    thread.greenlet.switch(*given)
            given = ()
            live = [t for t in live if not t.greenlet.dead]
            if live and not self._release_warps(live):
                self._release_barrier(live)

    def _release_warps(self, live):
        """Let the warps go on whose living threads all wait for an exchange."""
        warps, released = {}, False
        for thread in live:
            warps.setdefault(thread.number // 32, []).append(thread)
        for warp in warps.values():
            if all(t.state == _AT_WARP for t in warp):
                values = {t.number % 32: t.value for t in warp}
                for t in warp:
                    t.state, t.value = _RUNNING, values
                released = True
        return released

    def _release_barrier(self, live):
        if any(t.state != _AT_BARRIER for t in live):
            raise RuntimeError("some threads of a block wait at a barrier, others in a warp")
        if len(live) != len(self.threads):
            raise RuntimeError("a barrier was reached after threads of the block had returned")
        values = [t.value for t in live]
        for t in live:
            t.state, t.value = _RUNNING, values
            t.barriers += 1


def _poisoned(shape, dtype, alignment=0):
    """Return memory that shows when it is read before it was written, aligned as asked for.

    Memory that is not said to be aligned for vectors is not.
    """
    dtype = np.dtype(dtype)
    poison = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
    size, step = int(np.prod(shape)), dtype.itemsize
    raw = np.full(size + 2 * max(alignment, 16) // step, poison, dtype)
    skip = -raw.ctypes.data % max(alignment, 16) // step + (0 if alignment >= 16 else 1)
    return raw[skip : skip + size].reshape(shape)


class _Shared:
    """`cuda.shared`: a block has one array for every place in the source that asks for one.

    So has a GPU: a device function that is called twice finds the same memory again.
    """

    def __init__(self, cuda):
        self._cuda = cuda

    def array(self, shape, dtype, alignment=None):
        caller = sys._getframe(1)
        arrays, place = self._cuda.thread.block.shared, (caller.f_code, caller.f_lasti)
        if place not in arrays:
            array, races = _poisoned(shape, dtype, alignment or 0), self._cuda.races
            arrays[place] = array if races is None else races.watch(array, shared=True)
        return arrays[place]


class _Local:
    """`cuda.local`."""

    @staticmethod
    def array(shape, dtype):
        return _poisoned(shape, dtype)


class Cuda:
    """What kernels call ``cuda``."""

    def __init__(self):
        self.thread: Any = None
        self.blockDim: Any = None
        self.gridDim: Any = None
        #: `Races` of the kernel that runs, where races are looked for.
        self.races: Any = None
        self.shared, self.local = _Shared(self), _Local()

    threadIdx = property(lambda self: self.thread.index)
    blockIdx = property(lambda self: self.thread.block.index)

    def run(self, body, grid, block, args):
        """Run a kernel: block after block, thread after thread."""
        names = "x", "y", "z"
        self.blockDim = SimpleNamespace(**dict(zip(names, block, strict=True)))
        self.gridDim = SimpleNamespace(**dict(zip(names, grid, strict=True)))
        with np.errstate(all="ignore"):  # unsigned numbers wrap, and floats overflow
            for z, y, x in np.ndindex(grid[::-1]):
                _Block(SimpleNamespace(x=x, y=y, z=z)).run(body, block, args, self)

    # ---- barriers ------------------------------------------------------------------------------

    def syncthreads(self):
        self.thread.wait(_AT_BARRIER, None)

    def syncthreads_or(self, value):
        return int(any(self.thread.wait(_AT_BARRIER, bool(value))))

    def syncthreads_and(self, value):
        return int(all(self.thread.wait(_AT_BARRIER, bool(value))))

    def threadfence(self):
        """Nothing to do: memory is seen at once."""

    # ---- within a warp -------------------------------------------------------------------------

    def exchange(self, value):
        """Return the values of the warp's living threads by lane, and this thread's lane."""
        return self.thread.wait(_AT_WARP, value), self.thread.number % 32

    def syncwarp(self, mask=0xFFFFFFFF):
        self.exchange(None)
        self.thread.syncs += 1

    def shfl_sync(self, mask, value, source):
        values, _ = self.exchange(value)
        return values.get(int(source) % 32, value)

    def shfl_xor_sync(self, mask, value, bits):
        values, lane = self.exchange(value)
        return values.get(lane ^ int(bits), value)

    def shfl_down_sync(self, mask, value, delta):
        values, lane = self.exchange(value)
        return values.get(lane + int(delta), value)

    def shfl_up_sync(self, mask, value, delta):
        values, lane = self.exchange(value)
        return values.get(lane - int(delta), value)

    def ballot_sync(self, mask, predicate):
        values, _ = self.exchange(bool(predicate))
        return np.uint32(sum(1 << lane for lane, v in values.items() if v))
