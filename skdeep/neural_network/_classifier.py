"""What classifying networks share: labels in, classes and probabilities out."""

from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skdeep._compat import Interval, StrOptions, check_partial_fit_first_call, fit_context
from skdeep.neural_network._base import BaseNetwork
from skdeep.neural_network._foreign import answer
from skdeep.neural_network._targets import ClassTarget, class_binarizer


def _gives_probabilities(estimator):
    if estimator.loss in ("hinge", "squared_hinge", "perceptron"):
        raise AttributeError(
            f"predict_proba is not available with loss={estimator.loss!r}; use decision_function"
        )
    return True


class ClassifierNetwork(ClassifierMixin, BaseNetwork):
    """Abstract base of the classifiers."""

    _parameter_constraints = {
        "loss": [StrOptions({"log_loss", "hinge", "squared_hinge", "perceptron"}), callable],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

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
        return answer(self._target().decode(self._raw(X)), X)

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
        return answer(raw[:, 0] if self.n_outputs_ == 1 else raw, X)

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
        return answer(self._probabilities(self._raw(X), log=False), X)

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
        return answer(self._probabilities(self._raw(X), log=True), X)

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

    def _check_end(self, node):
        params = node.layer.get_params(deep=False)
        activation = params.get("activation", params.get("function"))
        if self.loss == "log_loss" and activation in ("softmax", "logistic"):
            raise ValueError(
                f"layer {node.name!r} ends the network with {activation!r}, which loss='log_loss' "
                "applies itself; leave the activation out"
            )

    def _encode(self, y, loss, fresh, classes, incremental):
        y, binarizer = class_binarizer(self, y, fresh, classes, incremental)
        return ClassTarget.encode(y, loss, binarizer, self.class_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
