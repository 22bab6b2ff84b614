"""The way through a trained network, a block of samples at a time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp

from skdeep.layers import Dense
from skdeep.layers._activations import get_activation
from skdeep.layers._inference import Inference
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


def predict(network, X, block=None, threads=1):
    """Return a single network's raw outputs of shape (n_samples, n_outputs).

    Blocks of rows are converted and go through the net one by one, so that memory stays small;
    the product of a sparse block with the first layer is sparse.
    """
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
