"""What every network estimator shares: from checked arrays to a trained network."""

from abc import ABC, abstractmethod

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeep._compat import CallbackSupportMixin, check_sample_weight
from skdeep._losses import get_loss
from skdeep._random import generator, member_seeds
from skdeep.autodiff._target import HOST
from skdeep.datasets import Stream
from skdeep.layers._network import Network
from skdeep.neural_network._device import check_device, choose, for_prediction, multiply_adds
from skdeep.neural_network._foreign import is_on_gpu, on_host, take
from skdeep.neural_network._forward import convert, predict
from skdeep.neural_network._work import Work
from skdeep.training import schedules
from skdeep.training._checkpoint import Checkpoint, identify
from skdeep.training._step import Options
from skdeep.training.optimizers import LBFGS

#: The number of the random stream that draws the initial weights.
_INITIALISATION = 0


class BaseNetwork(CallbackSupportMixin, BaseEstimator, ABC):
    """Abstract base of the network estimators.

    Subclasses say the stack of layers, how y is encoded, and the optimiser, the schedule and the
    limits that their parameters mean.
    """

    @abstractmethod
    def _layers(self, n_outputs, sample_shape):
        """Return the layers for samples of a shape."""

    @abstractmethod
    def _make_optimizer(self):
        """Return the optimiser that the parameters mean."""

    @abstractmethod
    def _make_schedule(self):
        """Return the schedule that the parameters mean."""

    @abstractmethod
    def _limits(self):
        """Return limits of the gradient's values, norms and global norm, and of weights' norms."""

    @abstractmethod
    def _loss_parameters(self):
        """Return the loss's parameters by name."""

    @abstractmethod
    def _check_full_batch(self):
        """Refuse parameters that mean nothing without minibatches."""

    @abstractmethod
    def _encode(self, y, loss, fresh, classes, incremental):
        """Return a `Target`: how y is encoded for the loss."""

    #: Whether training up to `max_iter` is a failure to converge, as in scikit-learn's networks.
    _warns_of_max_iter = True
    #: Samples per step at most, with ``batch_size="auto"``.
    _auto_batch_size = 200

    # ---- fitting -------------------------------------------------------------------------------

    def _fit(self, *args, **kwargs):
        names = ("n_features_in_", "feature_names_in_", "_shape")
        before = {name: vars(self).get(name) for name in names}
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
        self._check_settings(incremental)
        if is_on_gpu(X):
            self._check_on_gpu()
        X, on_gpu = (X, None) if isinstance(X, Stream) else take(X)
        y, sample_weight = on_host(y, sample_weight)
        fresh = not self._has_weights() or not (self.warm_start or incremental)
        optimizer, schedule = self._make_optimizer(), self._make_schedule()
        lbfgs = isinstance(optimizer, LBFGS)
        if lbfgs:
            self._check_full_batch()
        loss = get_loss(self.loss, **self._loss_parameters())
        stream = X if isinstance(X, Stream) else None
        if stream is not None:
            X, y = self._opened(stream, y, sample_weight, lbfgs, validation)
        X, y = self._validate(X, y, reset=fresh)
        labels = stream.classes if stream and is_classifier(self) else y
        target = self._encode(labels, loss, fresh, classes, incremental)
        weight = self._weights(sample_weight, X)
        # L-BFGS computes in float64: samples must not go through float32 on the way there.
        X = convert(X, np.float64 if lbfgs else np.dtype(self.dtype))
        checkpoint, found, fingerprint = self._find_checkpoint(X, target, weight, fresh)
        seed = self._seed(fresh) if found is None else int(found[0]["seeds"][0])
        network = self._network(self._sample_shape(X), target, seed, fresh)
        device = self._choose_device(
            network, len(target.values), stream, lbfgs, on_gpu, incremental
        )
        stopping = self.early_stopping and not lbfgs
        rows, held_out = self._hold_out(X, target, weight, validation, seed, stopping, on_gpu)
        work = Work(
            self,
            network,
            loss,
            optimizer,
            schedule,
            target,
            seed,
            fresh=fresh,
            incremental=incremental,
            given=given,
            device=device,
            on_gpu=on_gpu is not None,
        )
        # With L-BFGS the last task is an empty one, as in scikit-learn's own.
        epochs = optimizer.max_iter + 1 if lbfgs else 1 if incremental else self.max_iter
        context = self._init_callback_context(max_subtasks=epochs)
        context.call_on_fit_task_begin(estimator=self, **given)
        if lbfgs:
            result = work.full_batch(X, weight, held_out, context)
        else:

            def source():
                return work.streamed(stream) if stream else work.rows(X, weight, rows)

            result = work.stochastic(source, held_out, context, checkpoint, found, fingerprint)
        self._publish(result)
        context.call_on_fit_task_end(estimator=self, **given, reconstruction_attributes=dict)
        return self

    def _opened(self, stream, y, sample_weight, lbfgs, validation):
        """Return a stream's first samples, after what a stream cannot do has been refused."""
        if y is not None or sample_weight is not None:
            raise ValueError("a stream gives y and sample weights itself; pass neither to fit")
        if lbfgs:
            raise ValueError(
                "L-BFGS needs all samples at once; train on a stream by a stochastic solver"
            )
        if self.early_stopping and validation is None:
            raise ValueError(
                "early_stopping=True on a stream needs X_val and y_val: no part of it is held out"
            )
        if getattr(self, "class_weight", None) == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all labels at once; with a stream, give weights by "
                "class as a dict"
            )
        if self.checkpoint is not None:
            raise ValueError(
                "checkpoint is not supported with a stream, whose samples cannot be identified"
            )
        stream.scan()
        return stream.take(min(len(stream), 64))

    def _options(self, network, target=HOST):
        """Return how steps are computed, and where."""
        return Options(target=target)

    def _check_on_gpu(self):
        """Refuse what samples on a GPU do not go with."""
        if self.device == "cpu":
            raise ValueError(
                "X is on a GPU, but device='cpu': train there with device='cuda', or bring X to "
                "the host"
            )
        if np.dtype(self.dtype) != np.float32:
            raise ValueError(f"X is on a GPU, which computes in float32, but dtype={self.dtype!r}")
        if self.checkpoint is not None:
            raise ValueError("checkpoint identifies the samples on the host: bring X there")

    def _choose_device(self, network, n_samples, stream, lbfgs, on_gpu, incremental):
        """Return where to train."""
        samples = len(stream) if stream is not None else n_samples
        samples *= 1 if incremental else self.max_iter
        refusal = "L-BFGS computes in float64 on the CPU" if lbfgs else None
        # Forward, and twice as much on the way back.
        work = 3.0 * samples * multiply_adds(network)
        if on_gpu is None:
            return choose(self.device, self.precision, self.dtype, work, refusal)
        name = f"cuda:{on_gpu.array.device.index}" if self.device == "auto" else self.device
        target = choose(name, self.precision, self.dtype, work, refusal)
        on_gpu.use(target)
        return target

    def _threads(self):
        """Return the threads that one net is trained on and predicts on."""
        return 1

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

    def _validate_more(self, X):
        """Return checked samples of the kind that the network was fitted to."""
        return validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=False)

    def _check_settings(self, incremental):
        """Refuse what does not go together."""
        if np.dtype(self.dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype={self.dtype!r} must be 'float32' or 'float64'")
        check_device(self.device, self.dtype)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if incremental and self.checkpoint is not None:
            raise ValueError(
                "partial_fit does not support checkpoint: each call is a training of its own; "
                "pickle the estimator instead"
            )

    def _weights(self, sample_weight, X):
        if sample_weight is None:
            return None
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight is zero for every sample; give some weight above 0")
        return weight

    def _find_checkpoint(self, X, target, weight, fresh):
        """Return the checkpoint, what it holds to resume, and what identifies this training."""
        if self.checkpoint is None:
            return None, None, None
        given = self.checkpoint
        checkpoint = given if isinstance(given, Checkpoint) else Checkpoint(given)
        checkpoint.validate()
        fingerprint = identify(self, X, target.values, weight)
        return checkpoint, checkpoint.load(fingerprint) if fresh else None, fingerprint

    def _seed(self, fresh):
        if not fresh and hasattr(self, "_training"):
            return self._training["seed"]
        return int(member_seeds(self.random_state, 1)[0])

    def _sample_shape(self, X):
        """Return the shape in which a checked row of X goes into the network."""
        return X.shape[1:]

    def _network(self, sample_shape, target, seed, fresh):
        """Return a network to train: a new one, or a copy of the fitted one."""
        layers = self._layers(target.n_outputs, sample_shape)
        wanted = Network(layers, sample_shape, 1, self.dtype)
        self._check_outputs(wanted, target.n_outputs)
        if fresh or not hasattr(self, "network_"):
            wanted.initialize(generator(seed, _INITIALISATION))
            if not fresh:  # weights that were set by hand
                self._copy_weights(wanted)
            return wanted
        self._adopt_weights()
        network = self.network_
        mine, theirs = (
            [f"{name}: {view.shape[1:]}" for name, view in net.leaves().items()]
            for net in (network, wanted)
        )
        if mine != theirs or wanted.state_layout.size != network.state_layout.size:
            raise ValueError(
                f"the fitted network has parameters of shapes {', '.join(mine)}, but the layers "
                f"now ask for {', '.join(theirs)}; set warm_start=False to begin anew"
            )
        wanted.data[...], wanted.state_data[...] = network.data, network.state_data
        return wanted

    def _check_outputs(self, network, n_outputs):
        """Refuse a network that does not give what the loss takes."""
        for i in (len(network.nodes) - 1, *(i for i, _ in network.heads)):
            node = network.nodes[i]
            if node.output_shape != (n_outputs,):
                raise ValueError(
                    f"layer {node.name!r} ends the network (or a head of it) with an output of "
                    f"shape {node.output_shape}, but y asks for ({n_outputs},)"
                )
            self._check_end(node)

    def _check_end(self, node):
        """Refuse a last layer that does not go with the loss."""

    def _hold_out(self, X, target, weight, validation, seed, stopping, on_gpu):
        """Return the rows to train on, and the validation part (X, target, weight) or None."""
        rows = np.arange(X.shape[0])
        if validation is not None:
            return rows, self._given_validation(target, validation)
        if not stopping:
            return rows, None
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
        # Sorted, so that an unshuffled training sees the samples in their order.
        return np.sort(train), (
            on_gpu.rows(held) if on_gpu else X[held],
            target.rows(held),
            None if weight is None else weight[held],
        )

    def _given_validation(self, target, validation):
        X_val, y_val, weight = validation
        if X_val is None or y_val is None:
            raise ValueError(
                "X_val and y_val are given together or not at all, and sample_weight_val with them"
            )
        X_val, y_val, weight = on_host(X_val, y_val, weight)
        X_val, y_val = self._validate(X_val, y_val, reset=False)
        if weight is not None:
            weight = check_sample_weight(weight, X_val, dtype=np.float64, ensure_non_negative=True)
        return X_val, target.encode_more(y_val, "y_val"), weight

    # ---- fitted --------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self):
        return hasattr(self, "network_")

    def _has_weights(self):
        """Whether there are weights to go on from."""
        return hasattr(self, "network_")

    def _weights_of(self, network):
        """Return the fitted attributes that show a network's arrays."""
        return {}

    def _copy_weights(self, network):
        """Copy weights that were set by hand into a network."""

    def _adopt_weights(self):
        """Take over weights that were set by hand since the fit."""

    def _raw(self, X):
        """Return the raw outputs of shape (n_samples, n_outputs), float32 where X is."""
        check_is_fitted(self)
        X, on_gpu = take(X)
        X = self._validate_more(X)
        self._adopt_weights()
        target = for_prediction(self, X.shape[0], on_gpu)
        raw = predict(self.network_, X, self._threads(), target, on_gpu)
        return raw.astype(np.float32 if X.dtype == np.float32 else np.float64, copy=False)

    def __getstate__(self):
        state = super().__getstate__()
        if not hasattr(self, "network_"):
            return state
        self._adopt_weights()
        views = self._weights_of(self.network_)  # made again
        return {k: v for k, v in state.items() if k not in views}

    def __setstate__(self, state):
        super().__setstate__(state)
        if "network_" in state:
            vars(self).update(self._weights_of(self.network_))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


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
