"""What the estimators made of layers share: the stack, the shape of samples, the summary."""

from numbers import Integral

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone

from skdeep._compat import Interval, StrOptions
from skdeep.autodiff._target import HOST
from skdeep.layers import Dense, Flatten, summary
from skdeep.layers._naming import NamedLayers
from skdeep.layers._topology import Topology, check_entry
from skdeep.neural_network._base import default_schedule
from skdeep.neural_network._trained import TrainedNetwork
from skdeep.training import optimizers
from skdeep.training._step import Options
from skdeep.training.augmentation import Augmentation

#: The last layer of this name is the output layer; otherwise one is added.
OUTPUT = "output"

_SOLVERS = {
    "adam": optimizers.Adam,
    "adamw": optimizers.AdamW,
    "sgd": optimizers.Nesterov,
    "rmsprop": optimizers.RMSProp,
    "adagrad": optimizers.AdaGrad,
    "ftrl": optimizers.FTRL,
}


def reshaped(X, shape, parameter):
    """Return samples as rows, and the shape in which a row goes into the network.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...) or sparse matrix
        The samples.
    shape : tuple of int
        The shape of one sample; one side may be -1: what is left of the features.
    parameter : str
        What the shape is called in errors.

    Returns
    -------
    X : array of shape (n_samples, n_features)
    shape : tuple of int
    """
    given = tuple(X.shape[1:])
    shape = _resolved(shape, int(np.prod(given)), parameter)
    # Gray images may come without their axis of channels.
    if len(given) > 1 and given not in (shape, shape[:-1] if shape[-1] == 1 else shape):
        raise ValueError(f"X has samples of shape {given}, but {parameter} is {shape}")
    if len(given) == 1:
        return X, shape
    return np.reshape(X, (len(X), int(np.prod(given)))), shape


def _resolved(shape, n_features, parameter):
    whole = all(isinstance(s, Integral) for s in shape)
    if not whole or list(shape).count(-1) > 1 or any(s < 1 and s != -1 for s in shape):
        raise ValueError(
            f"{parameter}={tuple(shape)} must be of positive sizes (integers), one -1 at most"
        )
    shape = tuple(int(s) for s in shape)
    known = int(np.prod([s for s in shape if s != -1]))
    if n_features % known or (-1 not in shape and known != n_features):
        raise ValueError(
            f"{parameter}={shape} does not fit samples of {n_features} features; the product of "
            "its sizes must be their number"
        )
    return tuple(n_features // known if s == -1 else s for s in shape)


def copied(entry):
    """Return an entry of a list of layers with a copy of its layer; refuse what is none."""
    check_entry(entry)
    return (entry[0], clone(entry[1]), *entry[2:])


class LayeredNetwork(NamedLayers, TrainedNetwork):
    """Abstract base of the estimators whose layers are given."""

    _parameter_constraints = {
        **TrainedNetwork._parameter_constraints,
        "layers": [list, tuple, None],
        "solver": [StrOptions(set(_SOLVERS))],
        "augmentation": [Augmentation, None],
        "accumulate_steps": [Interval(Integral, 1, None, closed="left")],
        "checkpoint_activations": ["boolean", Interval(Integral, 1, None, closed="left")],
        "activation_storage": [StrOptions({"bfloat16"}), None],
        "n_jobs": [Integral, None],
    }
    # Epochs are a budget here, and not a limit that convergence is to come before.
    _warns_of_max_iter = False
    _auto_batch_size = 64
    #: The parameter that gives the shape of a sample.
    _shape_parameter: str

    # ---- samples -------------------------------------------------------------------------------

    def _shape_of(self, given):
        """Return the shape that the parameters ask for, for samples of the shape given."""
        shape = getattr(self, self._shape_parameter)
        return given if shape is None else shape

    def _as_rows(self, X):
        """Return samples of any rank as rows, and their shape for the network."""
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if len(X.shape) < 2 or 0 in X.shape:  # which scikit-learn's validation refuses
            return X if len(X.shape) < 3 else X.reshape(len(X), 0), None
        return reshaped(X, self._shape_of(tuple(X.shape[1:])), self._shape_parameter)

    def _validate(self, X, y, reset):
        X, shape = self._as_rows(X)
        X, y = super()._validate(X, y, reset)
        if reset:
            self._shape = shape
        elif shape != self._shape:
            raise ValueError(f"X has samples of shape {shape}; fitted was {self._shape}")
        return X, y

    def _validate_more(self, X):
        X = X if hasattr(X, "shape") else np.asarray(X)
        if len(X.shape) > 2:
            fitted = self.network_.shapes[0]
            X, shape = reshaped(X, X.shape[1:] if X.shape[1:] != fitted[:-1] else fitted, "X")
            if shape != fitted:
                raise ValueError(
                    f"X has samples of shape {shape}; the network was fitted to {fitted}"
                )
        return super()._validate_more(X)

    def _sample_shape(self, X):
        return self._shape

    # ---- layers --------------------------------------------------------------------------------

    def _given_layers(self, n_outputs, sample_shape):
        """Return the layers that the parameters ask for."""
        return list(self.layers or [])

    def _layers(self, n_outputs, sample_shape):
        # Copies: a parameter that is set after the fit must not change the fitted network.
        layers = [copied(entry) for entry in self._given_layers(n_outputs, sample_shape)]
        taken = set(self._get_param_names()) & {entry[0] for entry in layers}
        if taken:
            raise ValueError(
                f"layers has the names {sorted(taken)}, which are parameters of "
                f"{type(self).__name__}; choose others"
            )
        if layers and layers[-1][0] == OUTPUT:
            return layers
        ends = Topology(layers, sample_shape).shapes[-1] if layers else sample_shape
        flat = [] if len(ends) == 1 else [(f"{OUTPUT}_flatten", Flatten())]
        return [*layers, *flat, (OUTPUT, Dense(n_outputs))]

    def _threads(self):
        # Not what a context of joblib says: parts, and so roundings, would come from outside.
        return 1 if self.n_jobs is None else effective_n_jobs(self.n_jobs)

    def _options(self, network, target=HOST):
        segments = self.checkpoint_activations
        if segments is True:  # the memory is least for about the root of the number of layers
            segments = int(np.ceil(np.sqrt(len(network.cuts()))))
        threads = 1 if target.is_device else self._threads()
        return Options(
            parts=self.accumulate_steps if self.accumulate_steps > 1 else threads,
            threads=threads,
            segments=int(segments),
            storage=self.activation_storage,
            augmentation=self.augmentation,
            target=target,
        )

    def summary(self, input_shape=None, *, n_outputs=1, batch_size=None):
        """Return the table of layers, with shapes, parameters, operations and memory.

        Parameters
        ----------
        input_shape : tuple of int, default=None
            The shape of one sample; needed before `fit` alone.
        n_outputs : int, default=1
            The outputs, before `fit`: the number of classes if there are more than two.
        batch_size : int, default=None
            Samples per step, for the memory of training; the parameter's by default.

        Returns
        -------
        Summary
            Printed, the table.
        """
        fitted = hasattr(self, "network_")
        if input_shape is None:
            if not fitted:
                raise ValueError("input_shape is needed before fit: the shape of one sample")
            input_shape = self.network_.shapes[0]
        n_outputs = self.n_outputs_ if fitted else n_outputs
        layers = self._layers(n_outputs, tuple(input_shape))
        if batch_size is None:
            batch_size = self._auto_batch_size if self.batch_size == "auto" else self.batch_size
        options = self._options(Topology(layers, tuple(input_shape)))
        return summary(
            layers,
            input_shape,
            batch_size=batch_size,
            dtype=self.dtype,
            slots=len(self._make_optimizer().slots),
            segments=options.segments,
            storage=options.storage,
            parts=options.parts,
            threads=options.threads,
        )

    # ---- training ------------------------------------------------------------------------------

    def _check_settings(self, incremental):
        super()._check_settings(incremental)
        if self.activation_storage and np.dtype(self.dtype) != np.float32:
            raise ValueError(
                f"activation_storage={self.activation_storage!r} is for dtype='float32'; "
                f"dtype={self.dtype!r}"
            )

    def _network(self, sample_shape, target, seed, fresh):
        if self.augmentation is not None:
            self.augmentation.check(sample_shape)
        return super()._network(sample_shape, target, seed, fresh)

    def _make_optimizer(self):
        if self.optimizer is not None:
            if isinstance(self.optimizer, optimizers.LBFGS):
                raise ValueError(
                    "optimizer=LBFGS(...) is for MLPClassifier and MLPRegressor; give a "
                    "stochastic optimiser, such as Adam()"
                )
            self.optimizer.validate()
            return self.optimizer
        return _SOLVERS[self.solver](self.learning_rate_init)

    def _make_schedule(self):
        return default_schedule(self, False)

    def _check_full_batch(self):
        """There is no full-batch solver here."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
