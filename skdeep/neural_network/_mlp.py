"""What the multi-layer perceptrons share: parameters, stack, optimiser."""

import os
from numbers import Integral, Real

import numpy as np

from skdeep._compat import (
    Hidden,
    Interval,
    Options,
    StrOptions,
    fit_context,
)
from skdeep.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    FanUniform,
    GaussianNoise,
    Layer,
    LayerNormalization,
    PReLU,
    RReLU,
)
from skdeep.neural_network._base import BaseNetwork, default_schedule
from skdeep.training import optimizers
from skdeep.training._checkpoint import Checkpoint
from skdeep.training.optimizers import Optimizer
from skdeep.training.schedules import Schedule

_SOLVERS = ("lbfgs", "sgd", "adam", "adagrad", "adamw", "ftrl", "rmsprop")

#: Activations that are layers of their own, because they hold parameters or draw numbers.
_ACTIVATION_LAYERS = {"prelu": PReLU, "rrelu": RReLU}


class BaseMLP(BaseNetwork):
    """What classifier and regressor share: parameters, stack, optimiser."""

    _parameter_constraints = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, callable, Layer],
        "solver": [StrOptions(set(_SOLVERS))],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [Optimizer, None],
        "schedule": [Schedule, None],
        "initializer": [str, callable],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "dropconnect": [Interval(Real, 0, 1, closed="left")],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "batch_norm": ["boolean", StrOptions({"before", "after"})],
        "layer_norm": ["boolean"],
        "l1": [Interval(Real, 0, None, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "clip_value": [Interval(Real, 0, None, closed="neither"), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "clip_global_norm": [Interval(Real, 0, None, closed="neither"), None],
        "checkpoint": [str, os.PathLike, Checkpoint, None],
        "dtype": [
            StrOptions({"float32", "float64"}),
            Hidden(Options(type, {np.float32, np.float64})),
            Hidden(Options(np.dtype, {np.dtype("float32"), np.dtype("float64")})),
        ],
        "device": [str],
    }

    def _hidden_sizes(self):
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(not isinstance(s, Integral) or s <= 0 for s in sizes):
            raise ValueError(
                f"hidden_layer_sizes must be > 0, got {sizes}; give positive integers, or () for "
                "a linear model"
            )
        return [int(s) for s in sizes]

    def _layers(self, n_outputs):
        sizes = self._hidden_sizes()
        rates = [self.dropout] * len(sizes) if np.ndim(self.dropout) == 0 else self.dropout
        if not all(isinstance(rate, Real) and 0 <= rate < 1 for rate in rates):
            raise ValueError(
                f"dropout={self.dropout!r} must be a rate in [0, 1), or one per hidden layer"
            )
        if len(rates) != len(sizes):
            raise ValueError(
                f"dropout={self.dropout!r} has {len(rates)} rates for {len(sizes)} hidden layers; "
                "give one number, or one per hidden layer"
            )
        stack = []
        if self.input_noise:
            stack.append(("input_noise", GaussianNoise(self.input_noise)))
        if self.input_dropout:
            stack.append(("input_dropout", Dropout(self.input_dropout)))
        for i, (units, rate) in enumerate(zip(sizes, rates, strict=True), 1):
            stack += self._hidden_layer(i, units, rate)
        stack.append(("output", Dense(n_outputs, **self._initializers())))
        return stack

    def _initializers(self):
        kernel = self.initializer
        if kernel == "auto":
            uniform = FanUniform(2.0 if self.activation == "logistic" else 6.0)
            return dict(kernel_initializer=uniform, bias_initializer=uniform)
        return dict(kernel_initializer=kernel)

    def _hidden_layer(self, i, units, rate):
        norm = []
        if self.batch_norm:
            norm.append((f"batch_norm{i}", BatchNormalization()))
        if self.layer_norm:
            norm.append((f"layer_norm{i}", LayerNormalization()))
        before = bool(norm) and self.batch_norm != "after"
        activation, own = self.activation, None
        if isinstance(activation, Layer):
            own = activation
        elif isinstance(activation, str) and activation in _ACTIVATION_LAYERS:
            own = _ACTIVATION_LAYERS[activation]()
        elif before:
            own = Activation(activation)
        dense = Dense(
            units,
            "identity" if own is not None else activation,
            dropconnect=self.dropconnect,
            **self._initializers(),
        )
        acts = [] if own is None else [(f"activation{i}", own)]
        stack = [(f"hidden{i}", dense), *(norm + acts if before else acts + norm)]
        return [*stack, (f"dropout{i}", Dropout(rate))] if rate else stack

    def _make_optimizer(self):
        rate = self.learning_rate_init
        if self.optimizer is not None:
            self.optimizer.validate()
            return self.optimizer
        if self.solver == "lbfgs":
            return optimizers.LBFGS(max_iter=self.max_iter, max_fun=self.max_fun, tol=self.tol)
        if self.solver == "sgd":
            if not self.momentum:
                return optimizers.SGD(rate)
            kind = optimizers.Nesterov if self.nesterovs_momentum else optimizers.Momentum
            return kind(rate, momentum=self.momentum)
        if self.solver in ("adam", "adamw"):
            kind = optimizers.Adam if self.solver == "adam" else optimizers.AdamW
            return kind(rate, beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)
        kinds = {
            "adagrad": optimizers.AdaGrad,
            "rmsprop": optimizers.RMSProp,
            "ftrl": optimizers.FTRL,
        }
        return kinds[self.solver](rate)

    def _make_schedule(self):
        return default_schedule(self, self.solver == "sgd" and self.optimizer is None)

    def _check_full_batch(self):
        refused = (
            "dropout input_dropout dropconnect input_noise max_norm clip_value clip_norm "
            "clip_global_norm checkpoint schedule l1"
        )
        for name in refused.split():
            value = getattr(self, name)
            if value is not None and np.any(value):
                raise ValueError(
                    f"{name}={value!r} does not go with L-BFGS, which minimises one smooth "
                    "function of all samples; use a stochastic solver, such as 'adam'"
                )
        if self.activation == "rrelu" or isinstance(self.activation, RReLU):
            raise ValueError("activation='rrelu' draws numbers and does not go with L-BFGS")

    def _limits(self):
        return (self.clip_value, self.clip_norm, self.clip_global_norm, self.max_norm)

    def _check_solver(self):
        if isinstance(self.optimizer, optimizers.LBFGS) or (
            self.solver == "lbfgs" and self.optimizer is None
        ):
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
            )
        return True

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Fit the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation samples. They are scored after every epoch (`validation_scores_`), and
            early stopping judges by them instead of by a part of X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights in the score.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        validation = None
        if any(given is not None for given in (X_val, y_val, sample_weight_val)):
            validation = (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation)
