"""The way through a trained network, a block of samples at a time."""

import threading
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp

from skdeep.autodiff._program import record
from skdeep.autodiff._target import HOST, Unrecorded
from skdeep.autodiff._trace import Unrecordable
from skdeep.layers import Dense
from skdeep.layers._activations import get_activation
from skdeep.layers._inference import Inference
from skdeep.layers._network import aligned_zeros
from skdeep.layers._regularization import Dropout, GaussianNoise


def convert(X, dtype):
    """Return samples in a floating dtype; values beyond its range become infinite."""
    with np.errstate(over="ignore"):
        if sp.issparse(X):
            X = sp.csr_array(X)
            return X if X.dtype == dtype else X.astype(dtype)
        return np.ascontiguousarray(X, dtype=dtype)


#: Samples that go through a network at once (images, and rows), and the bytes of the largest
#: output that they have.
_IMAGES, _ROWS, _BYTES = 256, 1024, 16 << 20


def _block(network):
    largest = max(int(np.prod(s)) for s in network.shapes) * network.dtype.itemsize
    most = _IMAGES if any(len(s) > 1 for s in network.shapes) else _ROWS
    return int(np.clip(_BYTES // largest, 1, most))


def predict(network, X, threads=1, target=HOST, on_gpu=None, block=None):
    """Return a single network's raw outputs of shape (n_samples, n_outputs).

    Blocks of rows are converted and go through the net one by one, so that memory stays small;
    the product of a sparse block with the first layer is sparse.
    """
    if target.is_device:
        return _predictor(network, target)(X, on_gpu)
    n_samples, block = X.shape[0], block or _block(network)
    shape = network.shapes[0]
    infer = Inference(network)

    def compute(start):
        x = convert(X[start : start + block], network.dtype)
        if sp.issparse(x):
            return _sparse_block(network, infer, x)
        # Kernels take writeable arrays only: the type of a read-only one is another.
        x = x if x.flags.writeable else x.copy()
        return infer(x.reshape(1, len(x), *shape))[0]

    starts = range(0, max(n_samples, 1), block)
    if threads > 1 and len(starts) > 1:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(compute, starts))
    else:
        parts = list(map(compute, starts))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _sparse_block(network, infer, x):
    first = 0  # layers that do nothing in prediction come before the first product
    while first + 1 < len(network.layers) and isinstance(
        network.layers[first][1], Dropout | GaussianNoise
    ):
        first += 1
    layer = network.layers[first][1]
    if not isinstance(layer, Dense) or not network.is_stack:
        return infer(x.toarray().reshape(1, x.shape[0], *network.shapes[0]))[0]
    params = network.params[first]
    z = (x @ params["weight"][0] + params["bias"][0])[None]
    y = get_activation(layer.activation)(z)
    return network.apply(network.params, network.state, y, start=first + 1)[0][0]


#: The bytes of the largest output of a block on a GPU, and its most samples.
_DEVICE_BYTES, _DEVICE_ROWS = 256 << 20, 8192


#: The predictors that were used last, by network, device and precision; they hold memory there.
_KEPT, _PREDICTORS = 4, OrderedDict()
_LOCK = threading.Lock()


def _predictor(network, target):
    """Return what predicts a network on a GPU, the same at the next call."""
    key = weakref.ref(network), target.name, target.precision
    with _LOCK:
        for known in [k for k in _PREDICTORS if k[0]() is None]:
            del _PREDICTORS[known]
        predictor = _PREDICTORS.pop(key, None)
        if predictor is None:
            predictor = Predictor(weakref.proxy(network), target)
        _PREDICTORS[key] = predictor
        while len(_PREDICTORS) > _KEPT:
            _PREDICTORS.popitem(last=False)
    return predictor


class Predictor:
    """The way through a network on a GPU: a program per size of a block, recorded once.

    Parameters
    ----------
    network : Network
        A single net.
    target : Device
        Where to compute. The weights are copied there at every call, unless `live`.
    live : bool, default=False
        Whether the target holds the weights that count (it trains them).
    """

    def __init__(self, network, target, live=False):
        self.network, self.target, self.live = network, target, live
        self._compiled, self._lock = {}, threading.Lock()

    def __call__(self, X, on_gpu=None):
        """Return the raw outputs of shape (n_samples, n_outputs).

        Parameters
        ----------
        X : array of shape (n_samples, ...)
            The samples, or what stands for them.
        on_gpu : Given, optional
            Samples that are on the GPU.
        """
        with self._lock:  # there is one memory for a block
            if on_gpu is None:
                return self._compute(X)
            on_gpu.use(self.target)
            try:
                return self._compute(X)
            finally:
                self.target.exclude(on_gpu.stand_in)

    def _compute(self, X):
        network, n_samples = self.network, X.shape[0]
        if not self.live:
            self.target.push(network.data, network.state_data)
        out = np.empty((n_samples, *network.shapes[-1]), network.dtype)
        block = self._block(n_samples)
        x, y, run = self._program(block)
        for start in range(0, n_samples, block):
            part = X[start : start + block]
            # Rows beyond the last sample are those of the block before: nobody reads them.
            self._fill(x[0, : part.shape[0]], part)
            run()
            self.target.pull(y)
            out[start : start + block] = y[0, : min(block, n_samples - start)]
        return out

    def _fill(self, x, part):
        """Bring samples to the block's input: from the host, or from where they are."""
        if self.target.holds(part):
            self.target.move(part.reshape(x.shape), x)
            return
        part = convert(part, self.network.dtype)
        part = part.toarray() if sp.issparse(part) else part
        x[...] = part.reshape(x.shape)
        self.target.push(x)

    def _block(self, n_samples):
        """Return the samples that go through at once: a power of two, so that programs are few."""
        largest = max(int(np.prod(s)) for s in self.network.shapes) * self.network.dtype.itemsize
        most = int(np.clip(_DEVICE_BYTES // largest, 1, _DEVICE_ROWS))
        wanted = min(max(n_samples, 1), most)
        return min(1 << (wanted - 1).bit_length(), most)

    def _program(self, block):
        """Return the input and output of a block, and what computes it."""
        if block not in self._compiled:
            network = self.network
            x, y = (
                aligned_zeros((1, block, *shape), network.dtype)
                for shape in (network.shapes[0], network.shapes[-1])
            )
            args = (network.params, network.state, x)

            def compute(params, state, x):
                return Inference(network, params, state)(x)

            self.target.include(network.data, network.state_data, x, y)
            try:
                program = record(compute, args, y, check=False, device=True)
            except Unrecordable as e:
                raise Unrecorded(
                    f"a prediction on a GPU is recorded first, but {e}; write the layers without "
                    "it, or use device='cpu'"
                ) from e
            self._compiled[block] = x, y, self.target.compile(program)
        return self._compiled[block]
