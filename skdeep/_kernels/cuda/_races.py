"""Races between the threads of a simulated kernel.

Two threads race when both touch an element, at least one of them writes it, and nothing puts the
one before the other: within a block a barrier does (within a warp `syncwarp`, too), between blocks
nothing does. The simulator runs threads one after the other, so that a race would not show in its
results; it is found here from who touched what between which barriers.
"""

import numpy as np


class Race(RuntimeError):
    """Two threads of a kernel touch the same element in no certain order."""


class Races:
    """Who touched which element during one launch.

    Parameters
    ----------
    cuda : Cuda
        Knows the running thread.
    name : str
        The kernel's name, for the message.
    """

    def __init__(self, cuda, name):
        self._cuda, self._name = cuda, name
        self._writers, self._readers, self._shared = {}, {}, 0

    def watch(self, array, shared=False):
        """Return an array whose elements are watched.

        Shared memory of different blocks is different memory, wherever Python puts it: it gets
        addresses below zero.
        """
        watched = array.view(_Watched)
        watched.races, watched.start = self, array.__array_interface__["data"][0]
        if shared:
            self._shared -= array.nbytes
            watched.start = self._shared
        return watched

    def read(self, address):
        """Note a read of the element at an address."""
        me = self._moment()
        self._check(self._writers.get(address), me, "reads what", "writes", address)
        self._readers.setdefault(address, {})[me[:2]] = me

    def write(self, address):
        """Note a write."""
        me = self._moment()
        self._check(self._writers.get(address), me, "writes what", "writes", address)
        for other in self._readers.pop(address, {}).values():
            self._check(other, me, "writes what", "reads", address)
        self._writers[address] = me

    def _moment(self):
        """Return the running thread and when that is: block, number, barriers, warp barriers."""
        thread = self._cuda.thread
        at = thread.block.index
        return (at.x, at.y, at.z), thread.number, thread.barriers, thread.syncs

    def _check(self, other, me, what, theirs, address):
        if other is None or other[:2] == me[:2]:
            return
        if other[0] == me[0]:
            if other[2] != me[2]:
                return
            if other[1] // 32 == me[1] // 32 and other[3] != me[3]:
                return
        raise Race(
            f"{self._name}: thread {me[1]} of block {me[0]} {what} thread {other[1]} of block "
            f"{other[0]} {theirs} at address {address:#x} with no barrier between them"
        )


class _Watched(np.ndarray):
    """A flat array that says which elements are touched."""

    races, start = None, 0

    def __getitem__(self, i):
        found = super().__getitem__(i)
        if isinstance(i, slice):  # one with an end is read as a whole
            found.races = self.races
            found.start = self.start + i.indices(len(self))[0] * self.itemsize
            for k in range(len(found) if i.stop is not None else 0):
                self.races.read(found.start + k * self.itemsize)
        elif not isinstance(i, tuple):
            self.races.read(self._address(i))
        return found

    def __setitem__(self, i, value):
        self.races.write(self._address(i))
        super().__setitem__(i, value)

    def _address(self, i):
        i = int(i)
        if not 0 <= i < len(self):
            raise IndexError(f"element {i} of {len(self)}")
        return self.start + i * self.itemsize
