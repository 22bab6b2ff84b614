"""Compiled programs that move to other memory, so that a structure is recorded once a process.

A recorded program is a table of words, of which some are addresses. Where the same structure
(layers, shapes, loss, optimiser, batch size) is trained again, on other arrays of the same
shapes, the table is copied and its addresses shifted: microseconds instead of milliseconds.
"""

import threading
from collections import OrderedDict

import numpy as np
from numpy.lib.array_utils import byte_bounds


class Relocatable:
    """A native program, and where in its words the addresses of which array stand.

    Parameters
    ----------
    program : Program
        Of compiled kernels alone.
    bases : list of ndarray
        The arrays whose place may change, the program's arena last. What the program addresses
        beside them is constant, and kept.
    """

    def __init__(self, program, bases):
        self.addresses, self.words = table(program.calls)
        self.arena_size = program.arena.nbytes
        bounds = [byte_bounds(b) for b in bases]
        self.constants, places = [], []
        for row, (kernel, args) in enumerate(program.calls):
            for column, a in zip(kernel.pointers(), _arrays(args), strict=True):
                at = a.ctypes.data
                owner = next((i for i, (lo, hi) in enumerate(bounds) if lo <= at < hi), None)
                if owner is None:
                    self.constants.append(a)
                else:
                    places.append((row, column, owner, at - bounds[owner][0]))
        self.rows, self.columns, self.owners, self.offsets = np.array(places, np.int64).T

    def bind(self, first, bases):
        """Return ``run(steps=1)`` on other arrays of the same shapes.

        Parameters
        ----------
        first : list of (Variant, tuple)
            Calls that come before, which are packed anew.
        bases : list of ndarray
            The arrays in the order given at the start, the arena last.
        """
        starts = np.array([byte_bounds(b)[0] for b in bases], np.int64)
        words = self.words.copy()
        words[self.rows, self.columns] = starts[self.owners] + self.offsets
        addresses, packed = table(first)
        addresses = np.concatenate([addresses, self.addresses])
        words = np.concatenate([packed, words])
        return native_run(addresses, words, (first, bases, self))


def _arrays(args):
    return [a for a in args if isinstance(a, np.ndarray)]


def table(calls):
    """Return the addresses and words of kernel calls."""
    from skdeep._kernels.cpu._numba import WORDS

    for kernel, _ in calls:
        kernel.compiled  # noqa: B018  compiles, so that there is an address
    addresses = np.array([kernel.address for kernel, _ in calls], np.int64)
    words = np.array([kernel.pack(args) for kernel, args in calls], np.int64)
    return addresses, words.reshape(len(calls), WORDS)


def native_run(addresses, words, keep):
    """Return ``run(steps=1)``, which replays a table; `keep` stays alive as long as it."""
    from skdeep._kernels.cpu._numba import replay

    def run(steps=1):
        failed = replay(addresses, words, steps)
        if failed:
            raise RuntimeError(f"kernel call {failed - 1} of a recorded program failed")

    run.keep = keep  # type: ignore[attr-defined]
    return run


class Cache:
    """The programs that were recorded last, by structure; for any number of threads."""

    def __init__(self, size=64):
        self.size, self._lock, self._items = size, threading.Lock(), OrderedDict()

    def get(self, key):
        """Return what stands under a key, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key, item):
        """Keep an item; the one that was not used longest goes."""
        with self._lock:
            self._items[key] = item
            while len(self._items) > self.size:
                self._items.popitem(last=False)

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._items.clear()
