"""Where recorded programs run: on the processor, or on a GPU over mirrors of the same arrays.

A training is written once, over host arrays. Between `push` and `pull` a target may hold newer
values of them; on the processor both do nothing.
"""

import numpy as np


class Unrecorded(ValueError):
    """What cannot be recorded does not run on a GPU."""


class Host:
    """The processor: programs run on the arrays themselves."""

    is_device, name = False, "cpu"

    def include(self, *arrays, copy=True):
        """Give arrays memory of the target's own."""

    def push(self, *arrays):
        """Send arrays whose values changed here to the target."""

    def pull(self, *arrays):
        """Bring arrays' values from the target."""

    def compile(self, program):
        """Return ``run(steps=1)`` of a program."""
        return program.compile()

    def holds(self, a):
        """Whether an array, or what it is a view of, has memory of the target's own."""
        return False

    def page(self, n_rows, row_bytes):
        """Return how many rows of samples to hold at once: all of them."""
        return n_rows


#: The processor.
HOST = Host()


class Device(Host):
    """A GPU.

    Parameters
    ----------
    gpu : Gpu or SimulatedGpu
        The opened device.
    precision : {"float32", "tf32", "bfloat16"}
        What products and convolutions multiply in.
    """

    is_device = True

    def __init__(self, gpu, precision="float32"):
        from skdeep._kernels.cuda.program import Mirror

        self.gpu, self.precision, self.name = gpu, precision, f"cuda:{gpu.index}"
        self.mirror = Mirror(gpu, precision)

    def include(self, *arrays, copy=True):
        """Give arrays memory on the GPU."""
        self.mirror.include(*arrays, copy=copy)

    def exclude(self, a):
        """Forget an array, and give its memory back when nothing else needs it."""
        self.mirror.exclude(a)

    def push(self, *arrays):
        """Copy arrays to the GPU, after what was asked before."""
        self.mirror.push(*arrays)

    def pull(self, *arrays):
        """Copy arrays from the GPU, after what was asked before."""
        self.mirror.pull(*arrays)

    def holds(self, a):
        """Whether an array, or what it is a view of, has memory on the GPU."""
        return isinstance(a, np.ndarray) and self.mirror.holds(a)

    def move(self, source, target):
        """Copy between counterparts, on the GPU."""
        from skdeep._kernels.cuda import move

        self.gpu.prepare(move.copy(self.mirror.of(source), self.mirror.of(target)))()

    def page(self, n_rows, row_bytes):
        """Return how many rows of samples to hold at once, of so many bytes each.

        All of them, if they take no more than half of the memory that is free; else a sixteenth.
        """
        free = self.gpu.memory()[0]
        return n_rows if row_bytes * n_rows <= free // 2 else max(1, free // 16 // row_bytes)

    def compile(self, program):
        """Return ``run(steps=1)`` of a program, as a captured graph where that is possible."""
        self.include(*program.arenas, copy=False)
        return self.mirror.compile(program.calls)
