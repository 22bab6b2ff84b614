"""The multi-layer perceptron classifier."""

from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skdeep._compat import Interval, StrOptions, check_partial_fit_first_call, fit_context
from skdeep.neural_network._docs import document
from skdeep.neural_network._mlp import BaseMLP
from skdeep.neural_network._targets import ClassTarget, class_binarizer


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
