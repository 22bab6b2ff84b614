"""What pictures need of a fitted estimator: its network, a layer by name, samples as images."""

import numpy as np
from sklearn.utils.validation import check_is_fitted


def unwrapped(estimator, attribute, X=None):
    """Return the estimator inside a Pipeline or search that has an attribute, and its samples.

    The samples are what the earlier steps of a Pipeline make of X.
    """
    check_is_fitted(estimator)
    inner = estimator
    while not hasattr(inner, attribute):
        if hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "steps"):
            if X is not None and len(inner.steps) > 1:
                X = inner[:-1].transform(X)
            inner = inner.steps[-1][1]
        else:
            raise TypeError(f"{type(inner).__name__} keeps no {attribute}; fit a network")
    return inner, X


def fitted_network(estimator):
    """Return the network of a fitted estimator, and the estimator that has it."""
    inner, _ = unwrapped(estimator, "network_")
    inner._adopt_weights()
    return inner.network_, inner


def samples(estimator, X):
    """Return samples as a network takes them, and the shape in which they were given.

    Returns
    -------
    x : ndarray of shape (n_samples, *sample_shape), of the network's dtype
    shape : tuple of int
        Of what X is for the network's own estimator: rows or images.
    """
    import scipy.sparse as sp

    from skdeep.neural_network._forward import convert

    inner, X = unwrapped(estimator, "network_", X)
    shape = tuple(X.shape) if hasattr(X, "shape") else np.shape(X)
    x = convert(inner._validate_more(X), inner.network_.dtype)
    x = x.toarray() if sp.issparse(x) else x
    x = x if x.flags.writeable else x.copy()  # kernels take writeable arrays only
    return x.reshape(len(x), *inner.network_.shapes[0]), shape


def blocks(network, n_samples):
    """Return slices of samples, so few that what a layer makes of them stays small."""
    from skdeep.neural_network._forward import _block

    step = _block(network)
    return [slice(i, i + step) for i in range(0, n_samples, step)]


def activations(network, x, node):
    """Return what a layer gives for samples: an array of shape (n_samples, *output_shape)."""
    parts = [
        network.apply(network.params, network.state, x[None, part], upto=node + 1)[0][0]
        for part in blocks(network, len(x))
    ]
    return np.concatenate(parts) if parts else np.empty((0, *network.shapes[node + 1]), x.dtype)


def names(network, numbers):
    """Return the names of layers, for errors."""
    return [network.nodes[i].name for i in numbers]


def find_layer(network, layer):
    """Return the number of a layer by its name; a composite layer's name means its last piece."""
    computed = network.wanted(training=False)
    found = [
        i
        for i in computed
        if network.nodes[i].name == layer or network.nodes[i].name.startswith(f"{layer}.")
    ]
    if not found:
        raise ValueError(f"layer={layer!r} is none of the layers {names(network, computed)}")
    return found[-1]


def spatial_layers(network):
    """Return the numbers of the layers that give images for images: positions and channels."""
    rank = len(network.shapes[0])
    spatial = [
        i for i in network.wanted(training=False) if rank == len(network.shapes[i + 1]) == 3
    ]
    if not spatial:
        raise ValueError(
            f"no layer of the network gives images: the output shapes are {network.shapes[1:]}; "
            "fit a network with convolutions, such as CNNClassifier"
        )
    return spatial


def find_spatial_layer(network, layer):
    """Return the number of a layer by its name; refuse one that does not give images."""
    spatial, node = spatial_layers(network), find_layer(network, layer)
    if node not in spatial:
        raise ValueError(
            f"layer={layer!r} gives samples of shape {network.shapes[node + 1]}, no images; take "
            f"one of {names(network, spatial)}"
        )
    return node
