"""A training step whose batch goes through the network in parts, in turn or on threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from skdeep.autodiff._program import Memory, Program
from skdeep.layers._network import aligned_zeros


@dataclass
class Lane:
    """Memory for parts that are never computed at the same time.

    Parameters
    ----------
    grads, state : ndarray of shape (M, P) and (M, S)
        A part's gradients, and the carried arrays after it.
    memory : Memory
        What it computes with.
    """

    grads: np.ndarray
    state: np.ndarray
    memory: Memory


@dataclass
class _Part:
    """One part of a batch, and the memory it computes in.

    Parameters
    ----------
    first : int
        Its first sample's place in the batch.
    batch : Batch
        Its samples.
    grads, state : ndarray of shape (M, P) and (M, S)
        Its gradients, and the carried arrays after it.
    core : Program
        What computes them.
    """

    first: int
    batch: object
    grads: np.ndarray
    state: np.ndarray
    core: Program


def _call(f):
    f()


class InParts:
    """A step that adds up the gradients of its batch's parts.

    Each part draws what it would draw in the whole batch, and sums are taken in the order of the
    parts, so that the result does not depend on the number of threads. Carried arrays (running
    statistics) become the mean of what each part makes of them.

    Parameters
    ----------
    step : Step
        What a step computes, and its options.
    size : int
        The batch's size.
    """

    def __init__(self, step, size):
        self.step, self.size, self.network = step, size, step.network
        threads = 1 if step.target.is_device else step.options.threads
        self.threads = min(threads, step.options.parts)
        data, b = step.data, step.buffers
        self.weights, self.scale, self.head = data.weights(size, step.order, b.counters)
        self.mean = aligned_zeros(self.network.state_data.shape, self.network.dtype)
        # Parts begin at even places: mixup mixes neighbours.
        pairs = np.array_split(range(0, size, 2), min(step.options.parts, -(-size // 2)))
        ends = [min(int(p[-1]) + 2, size) for p in pairs]
        shared, self.parts = {}, []
        for number, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
            n = end - first
            if self.threads > 1:
                shared[n] = self._prepared(n, step.lane(number))
            elif n not in shared:
                shared[n] = self._prepared(n, step.lane(0))
            self.parts.append(_Part(first, *shared[n]))

    def _prepared(self, n, lane):
        """Return a part's batch, gradients, state and program."""
        step, network = self.step, self.network
        counters = np.zeros_like(step.buffers.counters)
        weights = np.zeros((network.members, n), network.dtype)
        fill = [step.call("batch", "take_weights", self.weights, counters, weights)]
        batch = step.batch_of(n, weights, fill, counters)
        state = network.state_layout.views(lane.state)
        core = step.gradient(batch, lane.grads, state, lane.memory)
        return batch, lane.grads, lane.state, core

    def _compute(self, part):
        """Return the calls that compute a part."""
        counters = self.step.buffers.counters, part.first, part.batch.counters
        begin = self.step.call("batch", "part_counters", *counters)
        return [begin, *part.batch.fill, *part.core.calls]

    def _collect(self, number, part):
        """Return the calls that add a part's gradients and state to those of the parts before."""
        call, step = self.step.call, self.step
        calls = [
            call("elementwise", "accumulate", part.grads, int(not number), step.buffers.grads)
        ]
        if self.mean.size:
            if number == 0:
                calls.append(call("elementwise", "accumulate", part.state, 1, self.mean))
            else:
                n = part.batch.x.shape[1]
                share = np.array([part.first, n], self.network.dtype) / (part.first + n)
                calls.append(call("elementwise", "blend", self.mean, part.state, share, self.mean))
        return calls

    def _end(self):
        """Return the calls after the last part, but its account."""
        calls = self.step.update(self.scale)
        if self.mean.size:
            args = self.mean, 1, self.network.state_data
            calls.append(self.step.call("elementwise", "accumulate", *args))
        return calls

    def program(self):
        """Return the step as one program, part after part."""
        calls = list(self.head)
        for number, part in enumerate(self.parts):
            calls += [*self._compute(part), *self._collect(number, part)]
            if part is self.parts[-1]:
                calls += self._end()
            calls.append(self.step.account(part.batch, self.size))
        program = Program(calls)
        program.arenas = list({id(p.core.arena): p.core.arena for p in self.parts}.values())
        return program

    def compile(self):
        """Return ``run(steps=1)``."""
        if self.threads <= 1:
            return self.step.target.compile(self.program())
        compute = [Program(self._compute(part)).compile() for part in self.parts]
        calls = [c for number, part in enumerate(self.parts) for c in self._collect(number, part)]
        calls += self._end()
        calls += [self.step.account(part.batch, self.size) for part in self.parts]
        end = Program(calls).compile()
        begin = Program(self.head).compile() if self.head else None
        pool = ThreadPoolExecutor(self.threads)

        def run(steps=1):
            for _ in range(steps):
                if begin:
                    begin()
                list(pool.map(_call, compute))
                end()

        run.keep = self  # type: ignore[attr-defined]
        return run
