"""One fit: from encoded targets to fitted attributes, by minibatches or all samples at once."""

import copy
import warnings

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from skdeep._kernels.cuda.program import Untranslatable
from skdeep.autodiff._target import HOST, Unrecorded
from skdeep.neural_network._forward import Predictor, predict
from skdeep.training._lbfgs import minimize_network
from skdeep.training._loop import Settings, Trainer
from skdeep.training._progress import Progress
from skdeep.training._source import Paged, Rows, Streamed
from skdeep.training._step import Buffers, Data
from skdeep.training.optimizers import LBFGS


class Work:
    """What the stages of a fit share.

    Parameters
    ----------
    estimator : BaseNetwork
        Whose parameters say how to train.
    network : Network
        The net to train, in place.
    loss, optimizer, schedule : Loss, Optimizer, Schedule
        What the parameters mean.
    target : Target
        The encoded targets.
    seed : int
        Seeds all draws.
    fresh, incremental : bool
        Whether the weights are new, and whether to make a single epoch.
    given : dict
        X, y and metadata as callbacks get them.
    device : Host or Device
        Where to train.
    on_gpu : bool
        Whether the samples are on a GPU.
    """

    def __init__(
        self,
        estimator,
        network,
        loss,
        optimizer,
        schedule,
        target,
        seed,
        *,
        fresh,
        incremental,
        given,
        device=HOST,
        on_gpu=False,
    ):
        self.estimator, self.network, self.loss = estimator, network, loss
        self.optimizer, self.schedule, self.target = optimizer, schedule, target
        self.seed, self.fresh, self.incremental = seed, fresh, incremental
        self.given, self.device, self.on_gpu = given, device, on_gpu

    def _data(self, X, target, weight):
        values, dtype = target.values, X.dtype
        y = values if values.dtype.kind == "i" else values.astype(dtype)
        weight = None if weight is None else weight.astype(dtype)
        return Data(X, y, weight, self.network.shapes[0])

    # ---- minibatches ---------------------------------------------------------------------------

    def rows(self, X, weight, rows):
        """Return some rows of X as a source of samples."""
        data = self._data(X, self.target, self.target.class_weighted(weight))
        shuffle = self.estimator.shuffle
        # Samples that are on the device already, and sparse ones, come as a whole.
        whole = sp.issparse(X) or self.device.holds(X)
        page = self.device.page(len(data), 0 if whole else X[:1].nbytes)
        if page < len(data):
            batch = self._batch_size(len(rows))
            return Paged(data, rows, shuffle, max(page - page % batch, batch))
        return Rows(data, rows, shuffle)

    def streamed(self, stream):
        """Return a stream as a source of samples."""
        target = self.target

        def weigh(values, weight):
            return target.with_values(values).class_weighted(weight)

        return Streamed(
            stream,
            lambda y: target.encode_more(y).values,
            weigh,
            self.network.shapes[0],
            self.network.dtype,
            self._batch_size(len(stream)),
        )

    def stochastic(self, make_source, held_out, context, checkpoint, found, fingerprint):
        """Train on a source of samples by minibatches; return the fitted attributes."""

        def trainer():
            return self._trainer(make_source(), held_out, checkpoint, found, fingerprint)

        training = trainer()
        try:
            training.prepare()
        except (Unrecorded, Untranslatable, MemoryError) as e:
            if self.estimator.device != "auto" or self.on_gpu:
                raise
            warnings.warn(f"device='auto' trains on the CPU: {e}", stacklevel=7)
            self.device = HOST
            training = trainer()
        return self._run(training, context)

    def _run(self, trainer, context):
        """Train; return the fitted attributes."""
        (progress,), buffers = trainer.progress, trainer.buffers
        n_samples = len(trainer.sources[0])
        made = lambda: int(trainer.n_iter[0])  # noqa: E731
        trainer.run(*self._hooks(context, progress, made, n_samples))
        self._warn(trainer)
        training = {
            "seed": self.seed,
            "progress": progress,
            "optimizer": type(self.optimizer),
            "slots": buffers.slots,
            "counters": buffers.counters,
        }
        return self._attributes(progress, made(), n_samples, training)

    def _trainer(self, source, held_out, checkpoint, found, fingerprint):
        """Return what trains on a source of samples."""
        estimator, n_samples = self.estimator, len(source)
        settings = self._settings(n_samples, held_out)
        before = {} if self.fresh else getattr(estimator, "_training", {})
        progress = before["progress"].copy() if "progress" in before else Progress()
        if not self.incremental and not self.fresh:
            progress.schedule = {}
        buffers = self._buffers(before, -(-n_samples // settings.batch_size))
        return Trainer(
            self.network,
            self.loss,
            [self.optimizer],
            [source],
            settings,
            buffers,
            [progress],
            score=self._scorer(held_out),
            checkpoint=checkpoint,
            found=found,
            fingerprint=fingerprint,
            options=estimator._options(self.network, self.device),
        )

    def _settings(self, n_samples, held_out):
        estimator = self.estimator
        return Settings(
            batch_size=self._batch_size(n_samples),
            max_iter=1 if self.incremental else estimator.max_iter,
            horizon=estimator.max_iter,
            schedule=self.schedule,
            learning_rates=(self.optimizer.learning_rate,),
            tol=estimator.tol,
            n_iter_no_change=estimator.n_iter_no_change,
            early_stopping=estimator.early_stopping and held_out is not None,
            incremental=self.incremental,
            verbose=bool(estimator.verbose),
        )

    def _buffers(self, before, steps):
        """Return the training's memory; partial_fit goes on with the optimiser's state."""
        estimator = self.estimator
        buffers = Buffers.allocate(
            self.network,
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
        return buffers

    def _scorer(self, held_out):
        if held_out is None:
            return None
        X, target, weight = held_out
        if self.device.is_device:
            raw = Predictor(self.network, self.device, live=True)
            return lambda m: target.score(raw(X), weight)
        return lambda m: target.score(predict(self.network, X), weight)

    def _batch_size(self, n_samples):
        batch = self.estimator.batch_size
        if batch == "auto":
            return min(self.estimator._auto_batch_size, n_samples)
        if batch > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=7,
            )
        return int(min(batch, n_samples))

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
            and self.estimator._warns_of_max_iter
            and trainer.n_iter[0] >= settings.max_iter
        ):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({settings.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=7,
            )

    # ---- all samples at once -------------------------------------------------------------------

    def full_batch(self, X, weight, held_out, context):
        """Minimise over all samples at once by L-BFGS; return the fitted attributes."""
        estimator, n_samples = self.estimator, X.shape[0]
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
            self._data(X, self.target, self.target.class_weighted(weight)),
            self.optimizer,
            alpha=estimator.alpha,
            seed=self.seed,
            verbose=estimator.verbose,
            callback=note,
        )
        if begin and not result.stopped:
            end(made(), attributes=None)
        attributes = self._attributes(progress, result.n_iter, n_samples, {"seed": self.seed})
        return {**attributes, "loss_": result.fun, "best_loss_": result.fun}

    # ---- what comes of it ----------------------------------------------------------------------

    def _attributes(self, progress, n_iter, n_samples, training, network=None):
        estimator, network = self.estimator, network or self.network
        stopping = estimator.early_stopping and not isinstance(self.optimizer, LBFGS)
        scored = bool(progress.validation_scores)
        samples = 0 if self.fresh else getattr(estimator, "t_", 0)
        return {
            **self.target.attributes(),
            "network_": network,
            **estimator._weights_of(network),
            "n_iter_": n_iter,
            "n_outputs_": self.target.n_outputs,
            "out_activation_": self.target.out_activation,
            "t_": samples + n_iter * n_samples,
            "loss_": progress.loss_curve[-1] if progress.loss_curve else np.inf,
            "loss_curve_": progress.loss_curve,
            "best_loss_": None if stopping else progress.best_loss,
            "validation_scores_": progress.validation_scores if scored or stopping else None,
            "best_validation_score_": progress.best_score if scored else None,
            "device_": self.device.name,
            "_training": training,
        }
