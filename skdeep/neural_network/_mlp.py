"""What the multi-layer perceptrons share: parameters, stack, optimiser."""

from numbers import Integral, Real

import numpy as np

from skdeep._compat import Interval, StrOptions
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
from skdeep.neural_network._base import default_schedule
from skdeep.neural_network._trained import TrainedNetwork
from skdeep.training import optimizers

_SOLVERS = ("lbfgs", "sgd", "adam", "adagrad", "adamw", "ftrl", "rmsprop")

#: Activations that are layers of their own, because they hold parameters or draw numbers.
_ACTIVATION_LAYERS = {"prelu": PReLU, "rrelu": RReLU}


class BaseMLP(TrainedNetwork):
    """What classifier and regressor share: parameters, stack, optimiser."""

    _parameter_constraints = {
        **TrainedNetwork._parameter_constraints,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, callable, Layer],
        "solver": [StrOptions(set(_SOLVERS))],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "initializer": [str, callable],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "dropconnect": [Interval(Real, 0, 1, closed="left")],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "batch_norm": ["boolean", StrOptions({"before", "after"})],
        "layer_norm": ["boolean"],
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

    def _layers(self, n_outputs, sample_shape):
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

    # ---- coefs_ and intercepts_ ----------------------------------------------------------------

    def _has_weights(self):
        """Whether there are weights to go on from: of a fit, or set by hand."""
        return super()._has_weights() or hasattr(self, "coefs_")

    def _weights_of(self, network):
        coefs, intercepts = network.coefs_and_intercepts()
        return {"coefs_": coefs, "intercepts_": intercepts, "n_layers_": len(coefs) + 1}

    def _copy_weights(self, network):
        for kind, values in (("weight", self.coefs_), ("bias", self.intercepts_)):
            for p, value in zip(network.dense(), values, strict=True):
                if np.shape(value) != p[kind].shape[1:]:
                    raise ValueError(
                        f"coefs_/intercepts_ hold an array of shape {np.shape(value)} where "
                        f"{p[kind].shape[1:]} is needed"
                    )
                p[kind][0] = value

    def _adopt_weights(self):
        """Take over arrays that were put into `coefs_` or `intercepts_` since the fit."""
        dense = self.network_.dense()
        for kind, values in (("weight", self.coefs_), ("bias", self.intercepts_)):
            if any(
                not np.may_share_memory(v, p[kind]) for v, p in zip(values, dense, strict=True)
            ):
                self._copy_weights(self.network_)
                vars(self).update(self._weights_of(self.network_))
                return
