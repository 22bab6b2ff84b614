"""What regressing networks share: numbers in, numbers out."""

from numbers import Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from skdeep._compat import Interval, StrOptions, fit_context
from skdeep.neural_network._base import BaseNetwork
from skdeep.neural_network._foreign import answer
from skdeep.neural_network._targets import RealTarget


class RegressorNetwork(RegressorMixin, BaseNetwork):
    """Abstract base of the regressors."""

    _parameter_constraints = {
        "loss": [
            StrOptions({"squared_error", "poisson", "absolute_error", "huber", "quantile"}),
            callable,
        ],
        "delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

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
        return answer(y[:, 0] if y.shape[1] == 1 else y, X)

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
