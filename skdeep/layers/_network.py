"""A network with its arrays: every parameter of M nets in one buffer."""

import functools
import itertools

import numpy as np

from skdeep.autodiff._checkpoint import rematerialize
from skdeep.layers._activation import Activation
from skdeep.layers._base import Context
from skdeep.layers._dense import Dense
from skdeep.layers._normalization import BatchNormalization
from skdeep.layers._topology import Topology


def aligned_zeros(shape, dtype):
    """Return zeros whose first element stands at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(nbytes + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:nbytes].view(dtype).reshape(shape)


class Network(Topology):
    """M nets of one topology.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, inputs)
        The stack or graph of layers.
    input_shape : tuple of int
        The shape of one sample.
    members : int, default=1
        The number of nets, M.
    dtype : dtype, default=float32
        The floating dtype of everything.

    Attributes
    ----------
    data : ndarray of shape (M, P)
        All parameters, a net a row.
    state_data : ndarray of shape (M, S)
        All carried arrays (running statistics).
    params, state : list of dict of str to ndarray
        Named views of `data` and `state_data`, one dict per layer.
    hyper : list of dict of str to ndarray
        The layers' own numbers, one row per member.
    """

    def __init__(self, layers, input_shape, members=1, dtype=np.float32):
        super().__init__(layers, input_shape)
        self._fused = self._find_fused()
        self.dtype, self.members = np.dtype(dtype), members
        self.data = aligned_zeros((members, self.parameter_layout.size), self.dtype)
        self.state_data = aligned_zeros((members, self.state_layout.size), self.dtype)
        self.hyper = [
            {k: np.tile(np.array(v, self.dtype), (members, *(1,) * np.ndim(v)))
             for k, v in layer.hyperparameters().items()}
            for _, layer in self.layers
        ]  # fmt: skip
        self._bind()
        self._fill_state(slice(None))

    def relu_after(self, i, training=False):
        """Return the ReLU that alone reads a node, as a node's number; None where it is none."""
        then = self.sole_reader(i, training)
        layer = None if then is None else self.nodes[then].layer
        return then if isinstance(layer, Activation) and layer.function == "relu" else None

    def _find_fused(self):
        """Return the ReLU after each batch normalisation: in training the two are one pass."""
        return {
            i: self.relu_after(i, training=True)
            for i, node in enumerate(self.nodes)
            if isinstance(node.layer, BatchNormalization)
        }

    def _bind(self):
        self.params = self.views(self.data)
        self.state = self.state_layout.views(self.state_data)

    def views(self, data):
        """Return the named views of a buffer with the layout of `data`."""
        return self.parameter_layout.views(data)

    def member(self, m):
        """Return the net of one member; it shares this network's memory."""
        one = object.__new__(type(self))
        one.__dict__.update(self.__dict__)
        one.members = 1
        one.data, one.state_data = self.data[m : m + 1], self.state_data[m : m + 1]
        one.hyper = [{k: v[m : m + 1] for k, v in layer.items()} for layer in self.hyper]
        one._bind()
        return one

    def astype(self, dtype):
        """Return a copy with another floating dtype."""
        copy = type(self)(self.layers, self.shapes[0], self.members, dtype)
        copy.data[...], copy.state_data[...] = self.data, self.state_data
        for mine, theirs in zip(copy.hyper, self.hyper, strict=True):
            for k in mine:
                mine[k][...] = theirs[k]
        return copy

    def initialize(self, rng, m=0):
        """Draw the parameters of member `m` from a generator, layer by layer."""
        for views, built in zip(self.params, self.built, strict=True):
            for name, p in built.parameters.items():
                drawn = p.initializer(p.shape, p.fan_in, p.fan_out, rng, self.dtype)
                views[name][m] = drawn
        self._fill_state(m)

    def _fill_state(self, members):
        """Give the carried arrays of some members what they begin with."""
        for views, built in zip(self.state, self.built, strict=True):
            for name, (_, fill) in built.state.items():
                views[name][members] = fill

    def apply(
        self,
        params,
        state,
        x,
        *,
        training=False,
        seed=None,
        counters=None,
        start=0,
        upto=None,
        segments=None,
    ):
        """Compute the network.

        Parameters
        ----------
        params, state : list of dict
            Trees of the form of `self.params` and `self.state` (possibly traced).
        x : array of shape (M or 1, n_samples, ...)
            The input.
        training : bool, default=False
            Whether the pass is a training step: the auxiliary heads are computed, too.
        seed, counters : ndarray of int64
            What random draws need, in training.
        start : int, default=0
            The node that `x` goes into, in a stack.
        upto : int, optional
            Stop before this node.
        segments : list of int, optional
            Nodes (of `cuts`) after which a segment ends: within a segment activations are not
            kept but computed again in the backward pass.

        Returns
        -------
        output : array of shape (M, n_samples, ...), or list of arrays
            The last node's output; in training with auxiliary heads a list: it and theirs.
        state : list of dict
        """
        end = len(self.nodes) if upto is None else upto
        wanted = [i for i in self.wanted(training) if start <= i < end]
        if not wanted:
            return x, list(state)
        values, after = {start - 1: x}, list(state)
        run = self._runner(training, seed, counters)
        ends = [*(e for e in segments or [] if start <= e < wanted[-1]), wanted[-1]]
        for low, high in itertools.pairwise([start - 1, *ends]):
            part = [i for i in wanted if low < i <= high]
            # What is read later: the last value, and the ends of auxiliary heads.
            keep = sorted({high, *(i for i, _ in self.heads if i in part)})
            compute = functools.partial(run, low, part, keep)
            if len(ends) > 1 and high != wanted[-1]:  # the last is needed again at once
                compute = rematerialize(compute)
            kept, carried = compute(
                [params[i] for i in part], [state[i] for i in part], values[low]
            )
            values.update(zip(keep, kept, strict=True))
            for i, new in zip(part, carried, strict=True):
                after[i] = new
        heads = [values[i] for i, _ in self.heads if i in values]
        return ([values[high], *heads] if heads else values[high]), after

    def _runner(self, training, seed, counters):
        """Return a function that computes some nodes from the value of the one before them."""

        def run(low, part, keep, params, state, x):
            values, after, done = {low: x}, [], set()
            for i, p, s in zip(part, params, state, strict=True):
                if i in done:
                    after.append(s)
                    continue
                then = self._fused.get(i) if training and i not in keep else None
                name = "identity" if then is None or then not in part else "relu"
                context = Context(training, seed, counters, i, self.hyper[i], name)
                values[i], new = self.nodes[i].compute(p, s, values, context)
                if name != "identity":
                    values[then] = values[i]
                    done.add(then)
                after.append(new)
            return [values[i] for i in keep], after

        return run

    def __getstate__(self):
        kept = self.__dict__.copy()
        for name in ("params", "state"):  # views, made again
            del kept[name]
        return kept

    def __setstate__(self, kept):
        self.__dict__.update(kept)
        for name in ("data", "state_data"):
            buffer = aligned_zeros(getattr(self, name).shape, self.dtype)
            buffer[...] = getattr(self, name)
            setattr(self, name, buffer)
        self._bind()

    def dense(self):
        """Return the parameters of the dense layers, in order."""
        pairs = zip(self.layers, self.params, strict=True)
        return [p for (_, layer), p in pairs if isinstance(layer, Dense)]

    def coefs_and_intercepts(self):
        """Return the first member's weights and biases of the dense layers, as views."""
        dense = self.dense()
        return [p["weight"][0] for p in dense], [p["bias"][0] for p in dense]

    def leaves(self):
        """Return the named parameters: ``"layer.name"`` to array of shape (M, ...)."""
        return {
            f"{name}.{key}": view
            for (name, _), views in zip(self.layers, self.params, strict=True)
            for key, view in views.items()
        }
