"""How predictions compute a network: batch normalisation is folded into the product before it."""

import numpy as np
from sklearn.base import clone

from skdeep.layers._base import Context
from skdeep.layers._convolution import Grouped
from skdeep.layers._dense import Dense
from skdeep.layers._normalization import BatchNormalization


class Inference:
    """A network as it predicts, with its weights as they are now.

    A convolution or dense layer that batch normalisation alone reads, and that again a ReLU, are
    one layer with other weights: ``gamma * (x @ w + b - mean) / std + beta`` is
    ``x @ (w * s) + (b - mean) * s + beta`` with ``s = gamma / std``.

    Parameters
    ----------
    network : Network
        The network.
    params, state : list of dict, optional
        Trees of the form of `network.params` and `network.state` to use instead (traced, say).
    """

    def __init__(self, network, params=None, state=None):
        all_params = network.params if params is None else params
        all_state = network.state if state is None else state
        wanted = network.wanted(training=False)
        self.end, self.steps, folded = wanted[-1], [], set()
        for i in wanted:
            if i in folded:
                continue
            node, params, out = network.nodes[i], all_params[i], i
            layer, norm = node.layer, network.sole_reader(i)
            if _takes_scale(layer) and _normalises(network, norm):
                layer, params = _folded(network, i, norm, all_params, all_state)
                out, relu = norm, network.relu_after(norm)
                if relu is not None:
                    layer, out = clone(layer).set_params(activation="relu"), relu
                folded.update({norm, out})
            context = Context(site=i, hyper=network.hyper[i])
            self.steps.append((layer, node.inputs, params, all_state[i], context, out))
        self.last = {j: n for n, (_, inputs, *_) in enumerate(self.steps) for j in inputs}

    def __call__(self, x):
        """Return the network's output for samples of shape (M, n_samples, ...)."""
        values = {-1: x}
        for n, (layer, inputs, params, state, context, out) in enumerate(self.steps):
            read = [values[j] for j in inputs]
            y, _ = layer.apply(params, state, read if layer.merges else read[0], context)
            values[out] = y
            for j in inputs:  # memory stays small
                if self.last[j] == n:
                    values.pop(j, None)
        return values[self.end]


def _takes_scale(layer):
    return isinstance(layer, Grouped | Dense) and layer.activation == "identity"


def _normalises(network, i):
    return i is not None and isinstance(network.nodes[i].layer, BatchNormalization)


def _folded(network, i, norm, all_params, all_state):
    """Return the layer of node i with the normalisation of another node in its parameters."""
    layer, params = network.nodes[i].layer, dict(all_params[i])
    p, state = all_params[norm], all_state[norm]
    epsilon = network.dtype.type(network.nodes[norm].layer.epsilon)
    scale = p["gamma"] / np.sqrt(state["variance"] + epsilon)
    weight = params["weight"]
    params["weight"] = weight * scale.reshape(len(scale), *(1,) * (weight.ndim - 2), -1)
    params["bias"] = (params.get("bias", 0) - state["mean"]) * scale + p["beta"]
    return layer if isinstance(layer, Dense) else clone(layer).set_params(use_bias=True), params
