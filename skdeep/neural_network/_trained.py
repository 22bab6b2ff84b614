"""The parameters of training that every network estimator has, and what they mean."""

import os
from numbers import Integral, Real

import numpy as np

from skdeep._compat import Hidden, Interval, Options, StrOptions, fit_context
from skdeep.neural_network._base import BaseNetwork
from skdeep.neural_network._device import PRECISIONS
from skdeep.training import optimizers
from skdeep.training._checkpoint import Checkpoint
from skdeep.training.optimizers import Optimizer
from skdeep.training.schedules import Schedule


class TrainedNetwork(BaseNetwork):
    """Abstract base: the parameters of training, and `fit`."""

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "optimizer": [Optimizer, None],
        "schedule": [Schedule, None],
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
        "precision": [StrOptions(set(PRECISIONS))],
    }

    def _limits(self):
        return (self.clip_value, self.clip_norm, self.clip_global_norm, self.max_norm)

    def _check_solver(self):
        by_name = self.solver == "lbfgs" and self.optimizer is None
        if by_name or isinstance(self.optimizer, optimizers.LBFGS):
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
            )
        return True

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X, y=None, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None
    ):
        """Fit the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Stream
            The samples; or a stream of `skdeep.datasets`, which gives the targets, too.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets; None with a stream.
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
