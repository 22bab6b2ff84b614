"""What every network estimator shares: from checked arrays to a trained network."""

import copy
import warnings
import zlib
from abc import ABC, abstractmethod

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeep._compat import CallbackSupportMixin, check_sample_weight
from skdeep._losses import get_loss
from skdeep._random import generator, member_seeds
from skdeep.layers import Dense
from skdeep.layers._network import Network
from skdeep.training import schedules
from skdeep.training._checkpoint import Checkpoint
from skdeep.training._lbfgs import minimize_network
from skdeep.training._loop import Settings, Trainer
from skdeep.training._progress import Progress
from skdeep.training._step import Buffers, Data
from skdeep.training.optimizers import LBFGS, Optimizer

#: The number of the random stream that draws the initial weights.
_INITIALISATION = 0


class BaseNetwork(CallbackSupportMixin, BaseEstimator, ABC):
    """Abstract base of the network estimators.

    Subclasses say the stack of layers (`_layers`), what the targets are (`_encode`, `_decode`,
    `_score_values`) and the optimiser that their parameters mean (`_optimizer`).
    """

    @abstractmethod
    def _layers(self, n_outputs):
        """Return the stack of (name, layer)."""

    @abstractmethod
    def _make_optimizer(self):
        """Return the optimiser that the parameters mean."""

    @abstractmethod
    def _make_schedule(self):
        """Return the schedule that the parameters mean."""

    @abstractmethod
    def _encode(self, y, loss, fresh, classes, incremental):
        """Return a `Target`: how y is encoded for the loss."""

    # ---- fitting -------------------------------------------------------------------------------

    def _fit(self, *args, **kwargs):
        before = {name: vars(self).get(name) for name in ("n_features_in_", "feature_names_in_")}
        try:
            return self._train(*args, **kwargs)
        except BaseException:
            # What the validation of X has set must not outlive the failed fit.
            for name, value in before.items():
                vars(self).pop(name, None)
                if value is not None:
                    setattr(self, name, value)
            raise

    def _train(self, X, y, sample_weight=None, validation=None, classes=None, incremental=False):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        given = {"X": X, "y": y, "metadata": metadata}
        fresh = not self.__sklearn_is_fitted__() or not (self.warm_start or incremental)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        self._check_device()
        optimizer, schedule = self._make_optimizer(), self._make_schedule()
        checkpoint = self._make_checkpoint()
        loss = get_loss(self.loss, **self._loss_parameters())
        X, y = self._validate(X, y, reset=fresh)
        target = self._encode(y, loss, fresh, classes, incremental)
        weight = self._weights(sample_weight, X, target, incremental)
        seed = self._seed(fresh)
        X = self._convert(X)
        network = self._network(X, target, seed, fresh)
        lbfgs = isinstance(optimizer, LBFGS)
        stopping = self.early_stopping and not lbfgs
        train, held_out = self._hold_out(X, target, weight, validation, seed, stopping)
        work = _Work(self, network, loss, optimizer, schedule, target, seed, fresh, incremental)
        work.given = given
        # With L-BFGS the last task is an empty one, as in scikit-learn's own.
        epochs = optimizer.max_iter + 1 if lbfgs else 1 if incremental else self.max_iter
        context = self._init_callback_context(max_subtasks=epochs)
        context.call_on_fit_task_begin(estimator=self, **given)
        if lbfgs:
            result = work.full_batch(train, held_out, context)
        else:
            result = work.stochastic(train, held_out, checkpoint, context)
        self._publish(result)
        context.call_on_fit_task_end(estimator=self, **given, reconstruction_attributes=dict)
        return self

    def _publish(self, attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    def _validate(self, X, y, reset):
        return validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            dtype="numeric",
            y_numeric=is_regressor(self),
            reset=reset,
        )

    def _convert(self, X):
        """Return samples in the network's dtype; values beyond its range become infinite."""
        dtype = np.dtype(self.dtype)
        with np.errstate(over="ignore"):
            if sp.issparse(X):
                X = sp.csr_array(X)
                X.sum_duplicates()
                return X.astype(dtype)
            return np.ascontiguousarray(X, dtype=dtype)

    def _check_device(self):
        if self.device not in ("cpu", "auto"):
            raise ValueError(
                f"device={self.device!r}: this version trains on the CPU only; use 'cpu' or 'auto'"
            )

    def _make_checkpoint(self):
        if self.checkpoint is None:
            return None
        given = self.checkpoint
        checkpoint = given if isinstance(given, Checkpoint) else Checkpoint(given)
        checkpoint.validate()
        return checkpoint

    def _weights(self, sample_weight, X, target, incremental):
        weight = None
        if sample_weight is not None:
            weight = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            if not weight.any():
                raise ValueError(
                    "sample_weight is zero for every sample; give some weight above 0"
                )
        return target.class_weighted(weight)

    def _seed(self, fresh):
        if not fresh and hasattr(self, "_training"):
            return self._training["seed"]
        return int(member_seeds(self.random_state, 1)[0])

    def _network(self, X, target, seed, fresh):
        """Return a network to train: a new one, or a copy of the fitted one."""
        if fresh or not hasattr(self, "network_"):
            network = Network(self._layers(target.n_outputs), X.shape[1:], 1, self.dtype)
            network.initialize(generator(seed, _INITIALISATION))
            if not fresh:  # weights that were set by hand
                self._copy_weights(network)
            return network
        self._adopt_weights()
        network = self.network_
        wanted = Network(self._layers(target.n_outputs), X.shape[1:], 1, self.dtype)
        if [b.parameters.keys() for b in wanted.built] != [
            b.parameters.keys() for b in network.built
        ] or wanted.shapes != network.shapes:
            raise ValueError(
                f"the fitted network has layers of shapes {network.shapes}, but the parameters "
                f"now ask for {wanted.shapes}; set warm_start=False to begin anew"
            )
        wanted.data[...], wanted.state_data[...] = network.data, network.state_data
        return wanted

    def _hold_out(self, X, target, weight, validation, seed, stopping):
        """Return the training and the validation part, each (X, target, weight) or None."""
        if validation is not None:
            return (X, target, weight), self._given_validation(X, target, validation)
        if not stopping:
            return (X, target, weight), None
        rows = np.arange(X.shape[0])
        train, held = train_test_split(
            rows,
            random_state=seed % 2**32,
            test_size=self.validation_fraction,
            stratify=target.strata(),
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        part = lambda r: (X[r], target.rows(r), None if weight is None else weight[r])  # noqa: E731
        return part(train), part(held)

    def _given_validation(self, X, target, validation):
        X_val, y_val, weight = validation
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val are given together or not at all")
        X_val, y_val = validate_data(
            self,
            X_val,
            y_val,
            accept_sparse="csr",
            multi_output=True,
            dtype="numeric",
            y_numeric=is_regressor(self),
            reset=False,
        )
        if weight is not None:
            weight = check_sample_weight(weight, X_val, dtype=np.float64, ensure_non_negative=True)
        return self._convert(X_val), target.encode_more(y_val, "y_val"), weight

    # ---- fitted --------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self):
        return hasattr(self, "network_") or hasattr(self, "coefs_")

    def _dense(self, network):
        return [
            params
            for (_, layer), params in zip(network.layers, network.params, strict=True)
            if isinstance(layer, Dense)
        ]

    def _bind_weights(self):
        """Make `coefs_` and `intercepts_` views of the network's buffer."""
        dense = self._dense(self.network_)
        self.coefs_ = [p["weight"][0] for p in dense]
        self.intercepts_ = [p["bias"][0] for p in dense]

    def _copy_weights(self, network):
        for kind, values in (("weight", self.coefs_), ("bias", self.intercepts_)):
            for p, value in zip(self._dense(network), values, strict=True):
                if np.shape(value) != p[kind].shape[1:]:
                    raise ValueError(
                        f"coefs_/intercepts_ hold an array of shape {np.shape(value)} where "
                        f"{p[kind].shape[1:]} is needed"
                    )
                p[kind][0] = value

    def _adopt_weights(self):
        """Take over arrays that were put into `coefs_` or `intercepts_` since the fit."""
        dense = self._dense(self.network_)
        for kind, values in (("weight", self.coefs_), ("bias", self.intercepts_)):
            if any(
                not np.may_share_memory(v, p[kind]) for v, p in zip(values, dense, strict=True)
            ):
                self._copy_weights(self.network_)
                self._bind_weights()
                return

    def _raw(self, X):
        """Return the raw outputs of shape (n_samples, n_outputs), float32 where X is."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=False)
        self._adopt_weights()
        raw = _predict(self.network_, self._convert(X))
        return raw.astype(np.float32 if X.dtype == np.float32 else np.float64, copy=False)

    def __getstate__(self):
        state = super().__getstate__()
        for name in ("coefs_", "intercepts_"):  # views, made again
            if "network_" in state:
                state = {k: v for k, v in state.items() if k != name}
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "network_" in state:
            self._bind_weights()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _predict(network, X, block=1024):
    """Return a single network's raw outputs; sparse rows are made dense a block at a time."""
    if not sp.issparse(X):
        return network.predict(X, block=block)[0]
    parts = [network.predict(X[i : i + block].toarray())[0] for i in range(0, X.shape[0], block)]
    return np.concatenate(parts)


class _Work:
    """One fit: what its stages share."""

    def __init__(
        self, estimator, network, loss, optimizer, schedule, target, seed, fresh, incremental
    ):
        self.estimator, self.network, self.loss = estimator, network, loss
        self.optimizer, self.schedule, self.target = optimizer, schedule, target
        self.seed, self.fresh, self.incremental = seed, fresh, incremental

    def data(self, part):
        X, target, weight = part
        dtype = self.network.dtype
        y = target.values if target.values.dtype.kind == "i" else target.values.astype(dtype)
        return Data(X, y, None if weight is None else weight.astype(dtype))

    def stochastic(self, train, held_out, checkpoint, context):
        """Train by minibatches; return the fitted attributes."""
        estimator, network = self.estimator, self.network
        data = self.data(train)
        batch = self._batch_size(len(data))
        steps = -(-len(data) // batch)
        before = {} if self.fresh else getattr(estimator, "_training", {})
        progress = before["progress"].copy() if "progress" in before else Progress()
        if not self.incremental and not self.fresh:
            progress.schedule = {}
        buffers = Buffers.allocate(
            network,
            [self.optimizer],
            steps,
            penalties=[[estimator.alpha, estimator.l1]],
            limits=[[limit or 0.0] for limit in estimator._limits()],
            seeds=[self.seed],
        )
        if self.incremental and before.get("optimizer") is type(self.optimizer):
            for mine, theirs in zip(buffers.slots, before["slots"], strict=True):
                if mine.shape == theirs.shape:
                    mine[...] = theirs
            buffers.counters[:] = before["counters"]
        settings = Settings(
            batch_size=batch,
            max_iter=1 if self.incremental else estimator.max_iter,
            shuffle=estimator.shuffle,
            schedule=self.schedule,
            learning_rates=(self.optimizer.learning_rate,),
            tol=estimator.tol,
            n_iter_no_change=estimator.n_iter_no_change,
            early_stopping=estimator.early_stopping and held_out is not None,
            incremental=self.incremental,
            verbose=bool(estimator.verbose),
        )
        trainer = Trainer(
            network,
            self.loss,
            [self.optimizer],
            data,
            [np.arange(len(data))],
            settings,
            buffers,
            [progress],
            score=self._scorer(held_out),
            checkpoint=checkpoint,
            fingerprint=self._fingerprint(data, batch) if checkpoint else None,
        )
        made = lambda: int(trainer.n_iter[0])  # noqa: E731
        trainer.run(*self._hooks(context, progress, made, len(data)))
        self._warn(trainer)
        training = {
            "seed": self.seed,
            "progress": progress,
            "optimizer": type(self.optimizer),
            "slots": buffers.slots,
            "counters": buffers.counters,
        }
        return self._attributes(progress, made(), len(data), training)

    def _scorer(self, held_out):
        if held_out is None:
            return None
        X, target, weight = held_out
        return lambda m: self.estimator._score_raw(_predict(self.network, X), target, weight)

    def _batch_size(self, n_samples):
        batch = self.estimator.batch_size
        if batch == "auto":
            return min(200, n_samples)
        if batch > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=4,
            )
        return int(min(batch, n_samples))

    def _fingerprint(self, data, batch):
        x = data.x.data if sp.issparse(data.x) else data.x
        return {
            "layers": str(self.network.layers),
            "shapes": str(self.network.shapes),
            "dtype": str(self.network.dtype),
            "loss": str(self.estimator.loss),
            "optimizer": str(self.optimizer),
            "schedule": str(self.schedule),
            "batch_size": batch,
            "n_samples": len(data),
            "data": zlib.crc32(np.ascontiguousarray(data.y), zlib.crc32(np.ascontiguousarray(x))),
        }

    def _hooks(self, context, progress, made, n_samples):
        """Return what to call before and after an epoch, where there are callbacks."""
        estimator = self.estimator
        if not getattr(estimator, "_skl_callbacks", None):
            return None, None
        task, given = [], self.given

        def begin(epoch):
            task[:] = [context.subcontext(task_name="epoch")]
            task[0].call_on_fit_task_begin(estimator=estimator, **given)

        def attributes():  # copies: training goes on, and a callback may keep them
            network = copy.deepcopy(self.network)
            training = {"seed": self.seed}
            return self._attributes(progress.copy(), made(), n_samples, training, network)

        def end(epoch, attributes=attributes):
            return task[0].call_on_fit_task_end(
                estimator=estimator, **given, reconstruction_attributes=attributes
            )

        return begin, end

    def _warn(self, trainer):
        settings = trainer.settings
        unrecordable = trainer.steps[0].unrecordable
        if unrecordable and settings.verbose:
            print(f"Steps run eagerly, about ten times slower: {unrecordable}.")
        if (
            trainer.messages[0] is None
            and not settings.incremental
            and trainer.n_iter[0] >= settings.max_iter
        ):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({settings.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def full_batch(self, train, held_out, context):
        """Minimise over all samples at once by L-BFGS; return the fitted attributes."""
        estimator, n_samples = self.estimator, train[0].shape[0]
        progress, score = Progress(), self._scorer(held_out)
        made = lambda: len(progress.loss_curve)  # noqa: E731
        begin, end = self._hooks(context, progress, made, n_samples)

        def note(loss):
            progress.loss_curve.append(loss)
            if score:
                progress.validation_scores.append(float(score(0)))
            progress.judge(tol=0, by_score=False)
            stop = bool(end(made())) if end else False
            if begin and not stop:
                begin(made())
            return stop

        if begin:
            begin(0)
        result = minimize_network(
            self.network,
            self.loss,
            self.data(train),
            self.optimizer,
            penalties=(estimator.alpha, estimator.l1),
            seed=self.seed,
            verbose=estimator.verbose,
            callback=note,
        )
        if begin and not result.stopped:
            end(made(), attributes=None)
        attributes = self._attributes(progress, result.n_iter, n_samples, {"seed": self.seed})
        return {**attributes, "loss_": result.fun, "best_loss_": result.fun}

    def _attributes(self, progress, n_iter, n_samples, training, network=None):
        estimator, network = self.estimator, network or self.network
        stopping = estimator.early_stopping and not isinstance(self.optimizer, LBFGS)
        scored = bool(progress.validation_scores)
        dense = estimator._dense(network)
        samples = 0 if self.fresh else getattr(estimator, "t_", 0)
        return {
            **self.target.attributes(),
            "network_": network,
            "coefs_": [p["weight"][0] for p in dense],
            "intercepts_": [p["bias"][0] for p in dense],
            "n_iter_": n_iter,
            "n_layers_": len(dense) + 1,
            "n_outputs_": self.target.n_outputs,
            "out_activation_": self.target.out_activation,
            "t_": samples + n_iter * n_samples,
            "loss_": progress.loss_curve[-1] if progress.loss_curve else np.inf,
            "loss_curve_": progress.loss_curve,
            "best_loss_": None if stopping else progress.best_loss,
            "validation_scores_": progress.validation_scores if scored or stopping else None,
            "best_validation_score_": progress.best_score if scored else None,
            "device_": "cpu",
            "_training": training,
        }


def default_schedule(estimator, solver_uses_it):
    """Return the schedule that scikit-learn's `learning_rate` names."""
    if estimator.schedule is not None:
        estimator.schedule.validate()
        return estimator.schedule
    if not solver_uses_it or estimator.learning_rate == "constant":
        return schedules.Constant()
    if estimator.learning_rate == "invscaling":
        return schedules.InverseScaling(power=estimator.power_t)
    return schedules.Adaptive()


__all__ = ["BaseNetwork", "Optimizer", "default_schedule"]
