"""A stack of layers with its arrays: every parameter of M nets in one buffer."""

import numpy as np

from skdeep.layers._base import Context

#: Leaves begin at multiples of this many elements, so that rows and leaves are aligned.
_ALIGN = 16


def aligned_zeros(shape, dtype):
    """Return zeros whose first element stands at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(nbytes + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:nbytes].view(dtype).reshape(shape)


class Network:
    """M nets of one topology.

    Parameters
    ----------
    layers : list of (str, Layer)
        The stack.
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
    segments : ndarray of int64 of shape (n_leaves, 3)
        Start and stop of each leaf in a row, and whether it is penalised.
    columns : ndarray of int64 of shape (n_penalised, 3)
        Start, fan-in and units of each penalised leaf, for max-norm.
    shapes : list of tuple
        The shape of a sample before and after each layer.
    n_parameters : int
        The number of trained numbers of one net.
    """

    def __init__(self, layers, input_shape, members=1, dtype=np.float32):
        self.layers, self.dtype, self.members = list(layers), np.dtype(dtype), members
        self.shapes, self.built = [tuple(input_shape)], []
        for name, layer in self.layers:
            try:
                layer.validate()
                built = layer.build(self.shapes[-1])
            except ValueError as e:
                so_far = " -> ".join(map(str, self.shapes))
                raise ValueError(f"layer {name!r}: {e} (shapes so far: {so_far})") from e
            self.built.append(built)
            self.shapes.append(built.output_shape)
        self._lay_out()
        self.data = aligned_zeros((members, self._size), self.dtype)
        self.state_data = aligned_zeros((members, self._state_size), self.dtype)
        self.hyper = [
            {k: np.tile(np.array(v, self.dtype), (members, *(1,) * np.ndim(v)))
             for k, v in layer.hyperparameters().items()}
            for _, layer in self.layers
        ]  # fmt: skip
        self._bind()
        self._fill_state(slice(None))

    def _lay_out(self):
        up = lambda n: -(-n // _ALIGN) * _ALIGN  # noqa: E731
        self._places, self._state_places = [], []
        at = state_at = count = 0
        segments, columns = [], []
        for built in self.built:
            places = {}
            for name, p in built.parameters.items():
                size = int(np.prod(p.shape))
                places[name] = (at, p.shape)
                segments.append((at, at + size, int(p.penalised)))
                if p.penalised:
                    columns.append((at, size // p.shape[-1], p.shape[-1]))
                at, count = up(at + size), count + size
            self._places.append(places)
            places = {}
            for name, (shape, _) in built.state.items():
                places[name] = (state_at, shape)
                state_at = up(state_at + int(np.prod(shape)))
            self._state_places.append(places)
        self._size, self._state_size, self.n_parameters = at, state_at, count
        self.segments = np.array(segments, np.int64).reshape(-1, 3)
        self.columns = np.array(columns, np.int64).reshape(-1, 3)

    def _bind(self):
        self.params = self.views(self.data)
        self.state = self._views(self.state_data, self._state_places)

    @staticmethod
    def _views(data, places):
        def view(at, shape):
            return data[:, at : at + int(np.prod(shape))].reshape(len(data), *shape)

        return [{k: view(*place) for k, place in layer.items()} for layer in places]

    def views(self, data):
        """Return the named views of a buffer with the layout of `data`."""
        return self._views(data, self._places)

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
        self, params, state, x, *, training=False, seed=None, counters=None, start=0, upto=None
    ):
        """Compute the stack.

        Parameters
        ----------
        params, state : list of dict
            Trees of the form of `self.params` and `self.state` (possibly traced).
        x : array of shape (M or 1, n_samples, ...)
            The input.
        training : bool, default=False
            Whether the pass is a training step.
        seed, counters : ndarray of int64
            What random draws need, in training.
        start : int, default=0
            The layer that `x` goes into.
        upto : int, optional
            Stop before this layer.

        Returns
        -------
        output : array of shape (M, n_samples, ...)
        state : list of dict
        """
        after = list(state)
        for i, (_, layer) in list(enumerate(self.layers))[start:upto]:
            context = Context(training, seed, counters, i, self.hyper[i])
            x, after[i] = layer.apply(params[i], state[i], x, context)
        return x, after

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
        return [
            p
            for (_, layer), p in zip(self.layers, self.params, strict=True)
            if {"weight", "bias"} <= p.keys()
        ]

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
