"""The training step as programs: one list of kernel calls per batch size, on fixed memory."""

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdeep.autodiff._program import Memory, Program, record
from skdeep.autodiff._relocate import Cache, Relocatable
from skdeep.autodiff._target import HOST, Unrecorded
from skdeep.autodiff._trace import Unrecordable
from skdeep.autodiff._transforms import vjp
from skdeep.autodiff._tree import flatten, tree_map
from skdeep.layers._network import aligned_zeros
from skdeep.training._parts import InParts, Lane


class Data:
    """Samples, targets and weights, as the kernels take them.

    Parameters
    ----------
    x : ndarray or sparse matrix of shape (n_samples, ...)
        The samples in the network's dtype; sparse ones are made dense a batch at a time.
    y : ndarray of shape (n_samples,) of int64, or of shape (n_samples, n_outputs)
        Labels, or targets in the network's dtype.
    weight : ndarray of shape (n_samples,), optional
        Sample weights in the network's dtype.
    sample_shape : tuple of int, optional
        The shape of a sample for the network, where it is not that of a row of `x`.
    """

    def __init__(self, x, y, weight=None, sample_shape=None):
        self.sample_shape, self.dtype = tuple(sample_shape or x.shape[1:]), x.dtype
        # Kernels take contiguous rows: y may come in Fortran order (columns of a DataFrame).
        self.y = np.ascontiguousarray(y)
        self.weight = None if weight is None else np.ascontiguousarray(weight)
        self.x, self._index = x, None
        if sp.issparse(x):
            self.x = sp.csr_array(x)
            if not self.x.has_canonical_format:  # kernels write each element of a row once
                self.x = self.x.copy()
                self.x.sum_duplicates()
            self._index = self.x.indices.astype(np.int64), self.x.indptr.astype(np.int64)

    def __len__(self):
        return self.x.shape[0]

    @property
    def arrays(self):
        """All its arrays."""
        x = [self.x.data, *self._index] if self._index else [self.x]
        return [a for a in (*x, self.y, self.weight) if a is not None]

    def samples(self, size, order, counters):
        """Return each member's samples and targets, and the calls that fill them."""
        from skdeep._kernels.cpu import batch as kernels

        dtype, members = self.dtype, len(order)
        flat = aligned_zeros((members, size, int(np.prod(self.sample_shape))), dtype)
        if self._index:
            args = (self.x.data, *self._index, order, counters, flat)
            calls = [(kernels.gather_csr[dtype], args)]
        else:
            rows = self.x.reshape(len(self), -1)
            calls = [(kernels.gather[dtype], (rows, order, counters, flat))]
        if self.y.dtype.kind == "i":
            y = np.zeros((members, size), np.int64)
            calls.append((kernels.gather_labels[dtype], (self.y, order, counters, y)))
        else:
            y = np.zeros((members, size, self.y.shape[1]), dtype)
            calls.append((kernels.gather[dtype], (self.y, order, counters, y)))
        return flat.reshape(members, size, *self.sample_shape), y, calls

    def weights(self, size, order, counters):
        """Return each member's weights divided by their sum, one over it, and what fills them."""
        from skdeep._kernels.cpu import batch as kernels

        weights = np.full((len(order), size), 1 / size, self.dtype)
        scale = np.full(len(order), 1 / size, self.dtype)
        if self.weight is None:
            return weights, scale, []
        args = (self.weight, order, counters, weights, scale)
        return weights, scale, [(kernels.gather_weights[self.dtype], args)]


@dataclass(frozen=True)
class Options:
    """How a step is computed; what it computes is the same, but for `augmentation`.

    Parameters
    ----------
    parts : int
        In how many parts a batch goes through the network.
    threads : int
        The threads that compute them; with one, they share their memory.
    segments : int
        Into how many segments the network is cut, of which only the ends are kept for the
        backward pass; 1 keeps everything.
    storage : str or None
        The dtype that activations are kept in between forward and backward pass ("bfloat16").
    augmentation : Augmentation or None
        What changes the samples of every batch.
    target : Host or Device
        Where steps run.
    """

    parts: int = 1
    threads: int = 1
    segments: int = 1
    storage: str | None = None
    augmentation: Any = None
    target: Any = HOST


@dataclass
class Batch:
    """The memory of a batch, or of a part of one.

    Parameters
    ----------
    x, y : ndarray of shape (M, size, ...)
        Samples and targets.
    weights : ndarray of shape (M, size)
        Weights of their losses.
    each : ndarray of shape (M, size)
        Their losses.
    mixed : tuple of ndarray
        The other target of each sample and the share of its own, with mixup; else empty.
    fill : list of (Variant, tuple)
        The calls that fill it.
    counters : ndarray of int64 of shape (M, 4)
        The counters that random draws of its samples go by.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    each: np.ndarray
    mixed: tuple
    fill: list
    counters: np.ndarray

    @property
    def arrays(self):
        """All its arrays."""
        return [self.x, self.y, self.weights, self.each, *self.mixed]


@dataclass
class Buffers:
    """The memory of a training: one row per member.

    Parameters
    ----------
    grads, slots : ndarray of shape (M, P), and two of them
        Gradients and the optimiser's state (of shape (M, 0) where it needs less).
    rates : ndarray of shape (M, n_steps)
        The learning rates of an epoch's steps.
    hyper : ndarray of float64 of shape (M, k)
        The optimiser's numbers.
    penalties : ndarray of shape (M, 2)
        Strengths of the l2 and l1 penalties.
    limits : ndarray of shape (4, M)
        Limits of clipping by value, norm and global norm, and of max-norm; 0 for none.
    seeds, counters : ndarray of int64 of shape (M,) and (M, 4)
        Seeds; steps made, step within the epoch, row cursor, first row of the batch's part.
    penalty, totals : ndarray of shape (M,) and (M, 1)
        The penalty's value, the epoch's summed loss.
    """

    grads: np.ndarray
    slots: list
    rates: np.ndarray
    hyper: np.ndarray
    penalties: np.ndarray
    limits: np.ndarray
    seeds: np.ndarray
    counters: np.ndarray
    penalty: np.ndarray = field(init=False)
    totals: np.ndarray = field(init=False)

    def __post_init__(self):
        members, dtype = len(self.grads), self.grads.dtype
        self.penalty = np.zeros(members, dtype)
        self.totals = np.zeros((members, 1))

    @classmethod
    def allocate(cls, network, optimizers, steps, penalties, limits, seeds):
        """Return the memory for training a network with one optimiser per member."""
        members, size, dtype = *network.data.shape, network.dtype
        names = list(optimizers[0].slots)
        slots = [aligned_zeros((members, size if i < len(names) else 0), dtype) for i in (0, 1)]
        for slot, name in zip(slots, names, strict=False):
            for m, optimizer in enumerate(optimizers):
                slot[m] = optimizer.initial_state(name)
        return cls(
            grads=aligned_zeros((members, size), dtype),
            slots=slots,
            # Rounded up, so that trainings of about the same length share a recorded step.
            rates=np.zeros((members, 1 << max(steps - 1, 0).bit_length()), dtype),
            hyper=np.stack([np.atleast_1d(o.hyperparameters()) for o in optimizers]),
            penalties=np.array(penalties, dtype).reshape(members, 2),
            limits=np.array(limits, dtype).reshape(4, members),
            seeds=np.array(seeds, np.int64),
            counters=np.zeros((members, 4), np.int64),
        )

    def member(self, m):
        """Return one member's rows, sharing memory."""
        one = object.__new__(type(self))
        for name, value in self.__dict__.items():
            if name == "slots":
                value = [s[m : m + 1] for s in value]
            elif name == "limits":
                value = value[:, m : m + 1]
            else:
                value = value[m : m + 1]
            setattr(one, name, value)
        return one


#: Steps that were recorded in this process, by structure.
_RECORDED = Cache()


def _plain(value):
    """Whether a layer's parameter says all by its value."""
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return isinstance(value, str | int | float | bool | None)


def _structure_of(network, loss):
    """Return a key of layers and loss; None with code that is not ours, which may do anything.

    A function that is not ours might draw numbers, or count, or capture arrays.
    """
    own = lambda f: type(f).__module__.startswith("skdeep.")  # noqa: E731
    if not own(loss) or hasattr(loss, "function"):
        return None
    nodes = []
    for node in network.nodes:
        # Initialisers have done their work before the first step.
        values = {k: v for k, v in vars(node.layer).items() if not k.endswith("initializer")}
        if not own(node.layer) or not all(map(_plain, values.values())):
            return None
        nodes.append((type(node.layer), node.inputs, node.head, *sorted(values.items())))
    return tuple(nodes), loss


class Step:
    """The training step of one or more members: gather, forward, backward, update.

    Parameters
    ----------
    network : Network
        The nets (their arrays are updated in place).
    loss : callable
        ``loss(raw, target)`` gives the samples' losses of shape (M, n_samples).
    optimizer : Optimizer
        Whose kernel makes the update.
    data : Data
        The samples.
    order : ndarray of int64 of shape (M, n_rows)
        The rows in each member's order (fixed memory, refilled every epoch).
    buffers : Buffers
        The training's memory.
    options : Options, optional
        How the step is computed.
    """

    def __init__(self, network, loss, optimizer, data, order, buffers, options=None):
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.data, self.order, self.buffers = data, order, buffers
        self.options = options or Options()
        self.target = self.options.target
        self.segments = network.split(self.options.segments)
        self.unrecordable = None
        self._programs, self._memory, self._lanes = {}, Memory(), {}

    def __call__(self, batch, steps=1):
        """Make steps of one batch size."""
        self.prepare(batch)
        self._programs[batch](steps)

    def prepare(self, batch):
        """Compile the step of one batch size."""
        if batch not in self._programs:
            self._programs[batch] = self._compiled(batch)

    def _compiled(self, size):
        """Return a step of one batch size, moved from one that was recorded before if it can."""
        if self.options.parts > 1 and size > 1:
            return InParts(self, size).compile()
        if self.target.is_device:
            return self.target.compile(self.program(size))
        batch, scale = self._batch(size)
        bases = self._bases([*batch.arrays, scale])
        key = self._structure(bases)
        known = None if key is None else _RECORDED.get(key)
        if known is None:
            program = self._whole(batch, scale)
            if key is None or not program.is_native:
                return program.before(*batch.fill).compile()
            known = Relocatable(program, [*bases, program.arena])
            _RECORDED.put(key, known)
        return known.bind(batch.fill, [*bases, self._memory.take(known.arena_size)])

    def lane(self, number):
        """Return the memory of parts of batches that are never computed at the same time."""
        if number not in self._lanes:
            network = self.network
            grads, state = (
                aligned_zeros(a.shape, network.dtype) for a in (network.data, network.state_data)
            )
            self._lanes[number] = Lane(grads, state, Memory())
        return self._lanes[number]

    def program(self, size):
        """Return the program of a step of one batch size."""
        if self.options.parts > 1 and size > 1:
            return InParts(self, size).program()
        batch, scale = self._batch(size)
        return self._whole(batch, scale).before(*batch.fill)

    def _batch(self, size):
        """Return a batch's memory, and one over its weight."""
        counters = self.buffers.counters
        weights, scale, fill = self.data.weights(size, self.order, counters)
        return self.batch_of(size, weights, fill, counters), scale

    def batch_of(self, size, weights, fill, counters):
        """Return the memory of a batch, or of a part of one, whose weights are given."""
        x, y, calls = self.data.samples(size, self.order, counters)
        other = share = None
        if self.options.augmentation is not None:
            more, other, share = self.options.augmentation.calls(
                x, y, self.buffers.seeds, counters
            )
            calls += more
        each = np.zeros((self.network.members, size), x.dtype)
        mixed = () if other is None else (other, share)
        return Batch(x, y, weights, each, mixed, [*fill, *calls], counters)

    def call(self, module, name, *args):
        """Return a call of a kernel of `skdeep._kernels.cpu`."""
        kernels = import_module(f"skdeep._kernels.cpu.{module}")
        return getattr(kernels, name)[self.network.dtype], args

    def _whole(self, batch, scale):
        """Return the program of a step on a batch's arrays, without what fills them."""
        core = self.gradient(batch, self.buffers.grads, self.network.state, self._memory)
        return core.then(*self.update(scale), self.account(batch, batch.x.shape[1]))

    def gradient(self, batch, grads, state, memory):
        """Return the program that computes a batch's losses, gradients and the state after it."""
        network, counters = self.network, batch.counters
        args = (network.params, network.state, batch.x, batch.y, batch.weights, *batch.mixed)
        into = ((batch.each, state), network.views(grads))
        f = partial(self.differentiate, counters=counters)
        try:
            check = _structure_of(self.network, self.loss) is None
            device = self.target.is_device
            return record(f, args, into, check, self.options.storage, memory, device)
        except Unrecordable as e:
            if self.target.is_device:
                raise Unrecorded(
                    f"a step on a GPU is recorded first, but {e}; write the loss and the layers "
                    "without it, or use device='cpu'"
                ) from e
            self.unrecordable = str(e)
            return Program([(partial(self.eager, counters=counters), (args, into))])

    def _bases(self, arrays):
        """Return every array that a step reads or writes, but its arena."""
        b, network = self.buffers, self.network
        hyper = [a for layer in network.hyper for a in layer.values()]
        fixed = [network.data, network.state_data, network.segments, network.columns]
        buffers = [b.grads, *b.slots, b.rates, b.hyper, b.penalties, b.limits, b.seeds]
        return [*fixed, *hyper, *buffers, b.counters, b.penalty, b.totals, *arrays]

    def _structure(self, bases):
        """Return what decides the program but for its arrays' places; None where that is open."""
        key = _structure_of(self.network, self.loss)
        if key is None:
            return None
        b = self.buffers
        flags = bool(b.penalties.any()), tuple(bool(row.any()) for row in b.limits)
        how = tuple(self.segments), self.options.storage
        shapes = tuple((a.shape, a.strides, a.dtype.str) for a in bases)
        return key, type(self.optimizer), self.optimizer.kernel_name, flags, how, shapes

    def differentiate(
        self, params, state, x, y, weights, other=None, share=None, *, counters=None
    ):
        """Return the samples' losses and the new state, and the gradients."""
        b = self.buffers
        counters = b.counters if counters is None else counters

        def forward(params):
            raw, after = self.network.apply(
                params,
                state,
                x,
                training=True,
                seed=b.seeds,
                counters=counters,
                segments=self.segments,
            )
            raws = raw if isinstance(raw, list) else [raw]
            losses = [self._loss(r, y, other, share) for r in raws]
            total = losses[0]
            for (_, weight), loss in zip(self.network.heads, losses[1:], strict=True):
                total = total + loss * weight
            return total, after

        (each, after), pullback = vjp(forward, params)
        nothing = tree_map(lambda _: None, after)
        return (each, after), pullback((weights, nothing))[0]

    def _loss(self, raw, y, other, share):
        """Return the samples' losses; with mixup the mean of those of two targets."""
        loss = self.loss(raw, y)
        return loss if other is None else share * loss + (1.0 - share) * self.loss(raw, other)

    def eager(self, args, into, counters=None):
        """Make the step without a recording."""
        # The arrays of `state` are both read and written: compute all, then copy.
        for new, target in zip(
            flatten(self.differentiate(*args, counters=counters))[0], flatten(into)[0], strict=True
        ):
            np.copyto(target, new)

    def update(self, scale):
        """Return the calls that turn gradients into an update."""
        from skdeep._kernels.cpu import update as kernels

        b, network = self.buffers, self.network
        dtype, data = network.dtype, network.data
        calls, penalties = [], b.penalties
        if penalties.any():
            args = (data, penalties, scale, network.segments, b.penalty)
            calls.append((kernels.penalty[dtype], args))
        value, norm, global_norm, largest = (row if row.any() else None for row in b.limits)
        if any(limit is not None for limit in (value, norm, global_norm)):
            if penalties.any():
                args = (b.grads, data, penalties, scale, network.segments)
                calls.append((kernels.penalize[dtype], args))
                penalties = np.zeros_like(penalties)
            if value is not None:
                calls.append((kernels.clip_value[dtype], (b.grads, value)))
            if norm is not None:
                calls.append((kernels.clip_norm[dtype], (b.grads, norm, network.segments)))
            if global_norm is not None:
                calls.append((kernels.clip_global_norm[dtype], (b.grads, global_norm)))
        args = (data, b.grads, *b.slots, b.rates, b.hyper, penalties, scale, network.segments)
        calls.append((self.optimizer.kernel[dtype], (*args, b.counters)))
        if largest is not None:
            calls.append((kernels.max_norm[dtype], (data, largest, network.columns)))
        return calls

    def account(self, batch, size):
        """Return the call that adds a batch's loss, or that of a part of it, to the epoch's."""
        b = self.buffers
        args = (batch.each, batch.weights, b.penalty, size, b.totals, b.counters)
        return self.call("batch", "account", *args)
