"""The raw score of a class, and its derivatives."""

import numpy as np
from sklearn.base import is_classifier

from skdeep.inspection._fitted import activations


def output_numbers(estimator, target, n_samples):
    """Return for each sample the number of the class (or output) that is asked for, or None.

    None stands for the predicted classes, which the caller finds by `predicted_numbers`.
    """
    if is_classifier(estimator):
        values, what = np.asarray(estimator.classes_).tolist(), "classes"
    else:
        values, what = list(range(estimator.n_outputs_)), "outputs"
        if target is None and len(values) > 1:
            raise ValueError(f"target=None is none of the {what} {values}; give one of them")
        target = 0 if target is None else target
    if target is None:
        return None
    given = np.asarray(target)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != n_samples):
        raise ValueError(
            f"target has shape {given.shape}; it must be one of the {what}, or one for each of "
            f"the {n_samples} samples"
        )
    numbers = {value: i for i, value in enumerate(values)}
    wanted = np.broadcast_to(given, n_samples).tolist()
    unknown = sorted({str(t) for t in wanted if t not in numbers})
    if unknown:
        raise ValueError(f"target={', '.join(unknown)} is none of the {what} {values}")
    return np.array([numbers[t] for t in wanted], np.int64)


def predicted_numbers(estimator, raw):
    """Return the numbers of the classes that have the highest raw score."""
    if raw.shape[1] == 1:  # the log-odds of the second of two classes
        return (raw[:, 0] > 0).astype(np.int64) * (len(estimator.classes_) > 1)
    return raw.argmax(axis=1)


def asked(estimator, x, target):
    """Return for each sample the number of its class (or output): as asked for, or predicted."""
    numbers = output_numbers(estimator, target, len(x))
    if numbers is None:
        network = estimator.network_
        numbers = predicted_numbers(estimator, activations(network, x, len(network.nodes) - 1))
    return numbers


def score_weights(estimator, numbers):
    """Return the weights of raw outputs whose sum is each sample's score.

    With one output for two classes the score of the first class is what the second's is not.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs), of the network's dtype
    """
    n_outputs = estimator.n_outputs_
    weights = np.zeros((len(numbers), n_outputs), estimator.network_.dtype)
    if n_outputs == 1 and is_classifier(estimator):
        weights[:, 0] = np.where(numbers == 1, 1, -1)
    else:
        weights[np.arange(len(numbers)), numbers] = 1
    return weights


def score_gradient(network, values, weights, start=0):
    """Return the derivatives of weighted raw outputs by what goes into a layer.

    Parameters
    ----------
    network : Network
        A network of one member.
    values : ndarray of shape (n_samples, ...)
        What goes into the layer.
    weights : ndarray of shape (n_samples, n_outputs)
        The weights of the outputs.
    start : int, default=0
        The number of the layer: 0, or one more than a cut of the graph.

    Returns
    -------
    ndarray of the shape of `values`
    """
    from skdeep.autodiff import vjp

    def raw(values):
        return network.apply(network.params, network.state, values, start=start)[0]

    _, pullback = vjp(raw, values[None])
    return pullback(weights[None])[0][0]


def class_titles(estimator, numbers):
    """Return what the classes (or outputs) are called in pictures."""
    if is_classifier(estimator):
        return [str(c) for c in np.asarray(estimator.classes_)[numbers]]
    return [f"output {i}" for i in numbers] if estimator.n_outputs_ > 1 else None
