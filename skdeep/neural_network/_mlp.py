"""Multi-layer perceptrons."""

import os
from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skdeep._compat import (
    Hidden,
    Interval,
    Options,
    StrOptions,
    check_partial_fit_first_call,
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
from skdeep.neural_network._docs import document
from skdeep.neural_network._targets import ClassTarget, RealTarget, class_binarizer
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
            **{**self._initializers(), "dropconnect": self.dropconnect},
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


def _gives_probabilities(estimator):
    if estimator.loss in ("hinge", "squared_hinge", "perceptron"):
        raise AttributeError(
            f"predict_proba is not available with loss={estimator.loss!r}; use decision_function"
        )
    return True


@document
class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier.

    {summary}

    Parameters
    ----------
    {parameters}
    loss : {{"log_loss", "hinge", "squared_hinge", "perceptron"}} or callable, default="log_loss"
        The loss. Hinge losses and the perceptron's take the classes one against the rest; with
        ``hidden_layer_sizes=()`` they make a max-margin classifier and Rosenblatt's perceptron,
        and the log-loss makes logistic regression. A callable ``f(y_true, y_pred)`` of the
        encoded targets and the raw outputs, of shape (n_samples, n_outputs) each, returns the
        samples' losses in differentiable NumPy.
    label_smoothing : float, default=0.0
        The share of each label's weight that is spread evenly over the classes.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into the sample weights.
    {parameters_end}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from skdeep.neural_network import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> mlp = MLPClassifier(max_iter=60, tol=1e-2, random_state=0).fit(X_train, y_train)
    >>> bool(mlp.score(X_test, y_test) > 0.95)
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"log_loss", "hinge", "squared_hinge", "perceptron"}), callable],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        loss="log_loss",
        label_smoothing=0.0,
        class_weight=None,
        optimizer=None,
        schedule=None,
        initializer="auto",
        dropout=0.0,
        input_dropout=0.0,
        dropconnect=0.0,
        input_noise=0.0,
        batch_norm=False,
        layer_norm=False,
        l1=0.0,
        max_norm=None,
        clip_value=None,
        clip_norm=None,
        clip_global_norm=None,
        checkpoint=None,
        dtype="float32",
        device="cpu",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.schedule = schedule
        self.initializer = initializer
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.dropconnect = dropconnect
        self.input_noise = input_noise
        self.batch_norm = batch_norm
        self.layer_norm = layer_norm
        self.l1 = l1
        self.max_norm = max_norm
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.clip_global_norm = clip_global_norm
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device

    @available_if(lambda self: self._check_solver())
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Train one epoch over the given samples, going on from where the last call ended.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            The labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        classes : array-like of shape (n_classes,), default=None
            All classes over all calls; needed at the first call.

        Returns
        -------
        self : object
            The estimator.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit, which does not see all "
                "labels; pass weights by class (sklearn.utils.class_weight.compute_class_weight)"
            )
        known = getattr(self, "classes_", None)
        try:
            check_partial_fit_first_call(self, classes)
        finally:
            # The check sets classes_; a fit that then fails must leave nothing behind.
            if known is None and hasattr(self, "classes_"):
                del self.classes_
        return self._fit(X, y, sample_weight, classes=classes, incremental=True)

    def predict(self, X):
        """Predict the classes of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The predicted classes; an indicator matrix for many labels a sample.
        """
        return self._target().decode(self._raw(X))

    def decision_function(self, X):
        """Return the network's raw outputs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Log-odds for two classes, logits or margins per class for more; float32 where X is,
            float64 otherwise.
        """
        raw = self._raw(X)
        return raw[:, 0] if self.n_outputs_ == 1 else raw

    @available_if(_gives_probabilities)
    def predict_proba(self, X):
        """Return the classes' probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        proba : ndarray of float64 of shape (n_samples, n_classes)
            The probabilities, in the order of `classes_`.
        """
        return self._probabilities(self._raw(X), log=False)

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X):
        """Return the logarithms of the classes' probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        log_proba : ndarray of float64 of shape (n_samples, n_classes)
            The logarithms, without underflow, in the order of `classes_`.
        """
        return self._probabilities(self._raw(X), log=True)

    def _probabilities(self, raw, log):
        from skdeep.autodiff.ops import log_sigmoid, log_softmax, sigmoid, softmax

        raw = raw.astype(np.float64)  # in float32 a log-odds of 17 would be certainty
        if len(self.classes_) == 1:
            return np.zeros((len(raw), 1)) if log else np.ones((len(raw), 1))
        if self.out_activation_ == "softmax":
            return log_softmax(raw) if log else softmax(raw)
        if self.n_outputs_ == 1:
            raw = np.concatenate([-raw, raw], axis=1)
        proba = sigmoid(raw)
        # Above one half the logarithm is exact enough, and orders as the probabilities do.
        return (
            np.where(raw > 0, np.log(np.maximum(proba, 0.5)), log_sigmoid(raw)) if log else proba
        )

    def _target(self):
        check_is_fitted(self)
        return ClassTarget(
            None, None, self.n_outputs_, self.out_activation_, self._label_binarizer
        )

    def _loss_parameters(self):
        return {"label_smoothing": self.label_smoothing}

    def _encode(self, y, loss, fresh, classes, incremental):
        y, binarizer = class_binarizer(self, y, fresh, classes, incremental)
        return ClassTarget.encode(y, loss, binarizer, self.class_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@document
class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor.

    {summary}

    Parameters
    ----------
    loss : {{"squared_error", "poisson", "absolute_error", "huber", "quantile"}} or callable, \
default="squared_error"
        The loss, summed over the outputs. "poisson" is half the Poisson deviance, with the
        exponential of the raw output as the prediction. A callable ``f(y_true, y_pred)`` of
        targets and raw outputs, of shape (n_samples, n_outputs) each, returns the samples'
        losses in differentiable NumPy.
    {parameters}
    delta : float, default=1.0
        Where the Huber loss turns from squared to absolute.
    quantile : float, default=0.5
        The quantile that ``loss="quantile"`` estimates.
    {parameters_end}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.neural_network import MLPRegressor
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = x[:, 0] ** 2
    >>> mlp = MLPRegressor(hidden_layer_sizes=(50,), solver="lbfgs", random_state=0).fit(x, y)
    >>> bool(mlp.score(x, y) > 0.99)
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "loss": [
            StrOptions({"squared_error", "poisson", "absolute_error", "huber", "quantile"}),
            callable,
        ],
        "delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        delta=1.0,
        quantile=0.5,
        optimizer=None,
        schedule=None,
        initializer="auto",
        dropout=0.0,
        input_dropout=0.0,
        dropconnect=0.0,
        input_noise=0.0,
        batch_norm=False,
        layer_norm=False,
        l1=0.0,
        max_norm=None,
        clip_value=None,
        clip_norm=None,
        clip_global_norm=None,
        checkpoint=None,
        dtype="float32",
        device="cpu",
    ):
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.delta = delta
        self.quantile = quantile
        self.optimizer = optimizer
        self.schedule = schedule
        self.initializer = initializer
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.dropconnect = dropconnect
        self.input_noise = input_noise
        self.batch_norm = batch_norm
        self.layer_norm = layer_norm
        self.l1 = l1
        self.max_norm = max_norm
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.clip_global_norm = clip_global_norm
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device

    @available_if(lambda self: self._check_solver())
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch over the given samples, going on from where the last call ended.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X):
        """Predict the targets of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions: float32 where X is, float64 otherwise.
        """
        raw = self._raw(X)
        y = np.exp(raw) if self.out_activation_ == "exp" else raw
        return y[:, 0] if y.shape[1] == 1 else y

    def _loss_parameters(self):
        return {"delta": self.delta, "quantile": self.quantile}

    def _encode(self, y, loss, fresh, classes, incremental):
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        target = RealTarget.encode(y, loss)
        if not fresh and target.n_outputs != getattr(self, "n_outputs_", target.n_outputs):
            raise ValueError(
                f"y has {target.n_outputs} outputs; the fitted network has {self.n_outputs_}"
            )
        return target

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
