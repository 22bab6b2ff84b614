"""Timing on a device: calls put into one graph, contenders in turns, medians.

A measurement is of many calls that follow each other without the processor's doing: both sides
replay CUDA graphs of the same number of calls. It ends when the device has finished.
"""

import math
import statistics
import time
from functools import cache, partial

import numpy as np

from gpu.peers import Peer
from skdeep.autodiff._program import record
from skdeep.autodiff._target import Device
from skdeep.autodiff._trace import unwritten

#: Numbers that operands are filled with, again and again: what is multiplied takes power, and
#: zeros would run at a higher clock.
_BLOCK = 1 << 20


@cache
def _normal(n):
    return np.random.default_rng(0).standard_normal(n, np.float32)


class Bench:
    """How a section measures.

    Parameters
    ----------
    report : Report
        Where rows go.
    rehearse : bool
        Whether everything is tiny, and the device simulated.
    rounds : int
        How often contenders take turns.
    """

    def __init__(self, report, rehearse, rounds):
        from skdeep._kernels.cuda.devices import open_device

        self.report, self.rehearse = report, rehearse
        self.rounds, self.least = (1, 0.0) if rehearse else (rounds, 0.02)
        self.gpu, self.peer = open_device(0), Peer.find(rehearse)

    def pick(self, real, tiny):
        """Return what is measured, or what is rehearsed."""
        return tiny if self.rehearse else real

    def repeats(self, seconds):
        """Return how many calls of about so many seconds go into one graph: at least three."""
        return 1 if self.rehearse else int(np.clip(2e-4 / seconds, 3, 50))

    def program(self, precision="float32"):
        """Return an empty program on the device."""
        return Ours(self.gpu, precision)

    def seconds(self, runs, repeats=1):
        """Return the median seconds of a call of each ``run(n)``, which take turns.

        Parameters
        ----------
        runs : dict of str to callable
            ``run(n)`` makes n replays of `repeats` calls and returns when they are done.
        repeats : int
            The calls of a replay.
        """
        counts = {name: 1 if self.rehearse else self._count(run) for name, run in runs.items()}
        times = {name: [] for name in runs}
        for _ in range(self.rounds):
            for name, run in runs.items():
                times[name].append(_timed(run, counts[name]) / counts[name])
        return {name: statistics.median(t) / repeats for name, t in times.items()}

    def _count(self, run):
        """Return how many replays take long enough to be timed."""
        run(1)
        n, seconds = 1, _timed(run, 1)
        while seconds < self.least / 2:
            n = min(16 * n, math.ceil(n * self.least / seconds))
            seconds = _timed(run, n)
        return max(1, math.ceil(n * self.least / seconds))


def _timed(run, n):
    start = time.perf_counter()
    run(n)
    return time.perf_counter() - start


class Ours:
    """A program of ours: stand-ins of arrays that are on the device alone, and calls of them.

    Parameters
    ----------
    gpu : Gpu or SimulatedGpu
        The device.
    precision : str
        What products and convolutions multiply in.
    """

    def __init__(self, gpu, precision="float32"):
        self.gpu, self.target = gpu, Device(gpu, precision)

    def empty(self, *shape, dtype=np.float32):
        """Return the stand-in of an array that holds anything."""
        a = unwritten(shape, dtype)
        self.target.include(a, copy=False)
        return a

    def normal(self, *shape):
        """Return the stand-in of an array of normal numbers; they repeat after a million."""
        return self.repeated(_normal(min(math.prod(shape), _BLOCK)), *shape)

    def repeated(self, values, *shape):
        """Return the stand-in of an array of some numbers again and again."""
        from skdeep._kernels.cuda.move import copy

        a, of = self.empty(*shape), self.target.mirror.of
        rows, rest = divmod(a.size, values.size)
        flat, block = of(a).reshape(a.size), of(self.given(values))
        launches = copy(block.view((rows, values.size), (0, 4)), flat.view((rows, values.size)))
        if rest:
            launches += copy(block.view((rest,)), flat.view((rest,), offset=4 * (a.size - rest)))
        self.gpu.prepare(launches)()
        return a

    def given(self, a):
        """Return an array, copied to the device."""
        self.target.include(a)
        return a

    def recorded(self, f, args, out):
        """Return the calls that compute ``out = f(*args)``; the arrays may be stand-ins."""
        program = record(f, args, out, check=False, device=True)
        self.target.include(*program.arenas, copy=False)
        return program.calls

    def run(self, calls, repeats=1):
        """Return ``run(n)``, which replays the calls and returns when they are done."""
        compiled = self.target.mirror.compile(calls * repeats)
        return partial(self._replay, compiled)

    def _replay(self, compiled, n):
        compiled(n)
        self.gpu.synchronize()
