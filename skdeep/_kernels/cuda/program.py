"""A recorded program on a device: host memory mirrored, kernel calls translated, steps replayed.

A recorded program is a list of calls on host arrays. Its twin on a device is the same list on
*mirrors*: every array that the program touches has a counterpart in the device's memory, found
by its address. Between `push` and `pull` the device's side is the one that counts.
"""

from bisect import bisect_right
from importlib import import_module
from itertools import accumulate

import numpy as np
from numpy.lib.array_utils import byte_bounds

from skdeep._kernels.cuda.array import DeviceArray, Scratch


class Untranslatable(RuntimeError):
    """A program makes a call that has no twin on the device."""


class Mirror:
    """The counterparts of host arrays in a device's memory.

    Parameters
    ----------
    device : Gpu or SimulatedGpu
        The device.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        What products and convolutions multiply in; they add in float32.
    """

    def __init__(self, device, precision="float32"):
        self.device, self.precision = device, precision
        self._starts, self._pieces = [], []

    def include(self, *arrays, copy=True, at=None):
        """Give arrays a counterpart, where they have none; copy them there, or take memory.

        Parameters
        ----------
        *arrays : ndarray
            Host arrays without gaps.
        copy : bool, default=True
            Whether the counterpart begins as a copy.
        at : DeviceArray, optional
            The counterpart of a single array, which is in the device's memory already.
        """
        for a in arrays:
            if not a.size or self._find(a):
                continue
            low, high = byte_bounds(a)
            i = bisect_right(self._starts, low)
            after = self._pieces[i].low if i < len(self._pieces) else high
            before = self._pieces[i - 1].high if i else low
            if before > low or after < high:
                raise RuntimeError("an array overlaps the mirror of another")
            target = at.buffer if at is not None else self.device.allocate(high - low)
            piece = _Piece(low, high, target, 0 if at is None else at.offset, a)
            self._starts.insert(i, low)
            self._pieces.insert(i, piece)
            if copy and at is None:
                self.device.upload(a, piece.of(a))

    def _find(self, a):
        low, high = byte_bounds(a)
        i = bisect_right(self._starts, low) - 1
        return self._pieces[i] if i >= 0 and high <= self._pieces[i].high else None

    def exclude(self, a):
        """Forget the counterpart of an array that was included."""
        piece = self._find(a)
        if piece is not None:
            i = self._pieces.index(piece)
            del self._starts[i], self._pieces[i]

    def holds(self, a):
        """Whether an array has a counterpart."""
        return bool(a.size) and self._find(a) is not None

    def of(self, a):
        """Return the counterpart of an array, or of a view of one."""
        if not a.size:
            return DeviceArray(_NOWHERE(self.device), 0, a.shape, None, a.dtype)
        piece = self._find(a)
        if piece is None:
            self.include(_root(a))
            piece = self._find(a)
        return piece.of(a)

    def push(self, *arrays):
        """Copy host arrays to their counterparts."""
        for a in arrays:
            if a.size:
                self.device.upload(a, self.of(a))

    def pull(self, *arrays):
        """Copy the counterparts to the host arrays; return when they are there."""
        for a in arrays:
            if a.size:
                self.device.download(self.of(a), a)

    def compile(self, calls):
        """Return ``run(steps=1)``, which makes the calls on the device."""
        launches, scratches = [], []
        for function, args in calls:
            twin = find_twin(function)
            args = [self.of(a) if isinstance(a, np.ndarray) else a for a in args]
            options = {"precision": self.precision} if twin.precision else {}
            made = twin(*args, **options)
            launches += made
            scratches.append(_scratches(made))
        nbytes = max((sum(s.nbytes for s in found) for found in scratches), default=0)
        if nbytes:
            shared = self.device.allocate(nbytes)
            for found in scratches:
                ends = accumulate(s.nbytes for s in found)
                for s, end in zip(found, ends, strict=True):
                    s.buffer, s.start = shared, end - s.nbytes
        run = self.device.prepare(launches)
        run.keep = self, calls
        return run


class _Piece:
    """A host range and where its counterpart is."""

    def __init__(self, low, high, buffer, offset, host):
        self.low, self.high, self.buffer, self.offset, self.host = low, high, buffer, offset, host

    def of(self, a):
        start = a.__array_interface__["data"][0] - self.low
        return DeviceArray(self.buffer, self.offset + start, a.shape, a.strides, a.dtype)


class _NOWHERE:
    """The memory of empty arrays."""

    address, nbytes, keep = 0, 0, np.zeros(0, np.uint8)

    def __init__(self, device):
        self.device = device


def _scratches(launches):
    """Return the scratch memory of a call's launches, each once."""
    arrays = [a for launch in launches for a in launch.args if isinstance(a, DeviceArray)]
    return list({id(a.buffer): a.buffer for a in arrays if isinstance(a.buffer, Scratch)}.values())


def _root(a):
    """Return the array whose memory a view shares."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


# ---- twins ------------------------------------------------------------------------------------


class Twin:
    """What computes a call on a device: ``twin(*args)`` gives its launches.

    Arguments are those of the CPU's kernel of the same name, arrays as `DeviceArray`.

    Parameters
    ----------
    function : callable
        What it calls.
    name : str
        The kernel's name.
    precision : bool, default=False
        Whether it multiplies matrices, and is told in which precision: ``precision="tf32"``.
    """

    def __init__(self, function, name, precision=False):
        self.function, self.__name__, self.precision = function, name, precision

    def __repr__(self):
        return f"<twin {self.__name__}>"

    def __call__(self, *args, **options):
        return self.function(*args, **options)


def find_twin(function):
    """Return the twin of a call's function: a kernel of the CPU, or a `Twin` itself."""
    if isinstance(function, Twin):
        return function
    from skdeep._kernels.cpu._numba import Variant

    name = getattr(function, "__name__", repr(function))
    if isinstance(function, Variant):
        module = function.function.__module__.rpartition(".")[2]
        if function.dtype != np.float32:
            raise Untranslatable(f"GPU kernels compute in float32, but {name} does not")
        try:
            twins = import_module(f"skdeep._kernels.cuda.{module}").TWINS
        except ModuleNotFoundError:
            twins = {}
        if function.kernel_name in twins:
            return twins[function.kernel_name]
    raise Untranslatable(f"{name} has no kernel for a GPU")


def twins():
    """Return a module's empty table of twins and the decorator that fills it.

    The decorator takes the CPU kernel's name, by default that of the function, and `precision`
    as in `Twin`.
    """
    table = {}

    def twin(name=None, precision=False):
        def add(function):
            known = name or function.__name__
            table[known] = Twin(function, known, precision)
            return function

        return add

    return table, twin


def blocks(n, size):
    """Return how many blocks of a size cover n elements, at least one."""
    return max(1, -(-int(n) // size))
