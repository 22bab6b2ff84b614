"""The only minibatch loop: one net or many, alone or as a group.

It knows batches, epochs, validation, early stopping, schedules, checkpoints and divergence, and
nothing of classifiers. Each member runs its own native program, an epoch at a time; the programs
hold no GIL, so members run in threads.
"""

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skdeep.autodiff._target import HOST
from skdeep.training._progress import Progress
from skdeep.training._step import Step

#: What is said where training leaves no finite weights (scikit-learn's words).
NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)

#: About how long a native call may take: an interrupt waits for its end.
_SECONDS_PER_CALL = 0.5


@dataclass(frozen=True)
class Settings:
    """How to train.

    Parameters
    ----------
    batch_size : int
        Samples per step; a last, smaller batch takes the rest of an epoch.
    max_iter : int
        Epochs at most.
    schedule : Schedule
        How learning rates change.
    learning_rates : tuple of float
        Each member's initial rate.
    tol : float
        What counts as an improvement.
    n_iter_no_change : float
        Stop after more epochs in a row without improvement.
    early_stopping : bool
        Judge by the validation score, and keep the best weights.
    horizon : int
        The epochs that a schedule stretches over (`max_iter`, but for single epochs).
    incremental : bool
        Make one epoch and judge nothing.
    n_jobs : int
        Threads over the members.
    verbose : bool
        Whether to print every epoch.
    """

    batch_size: int
    max_iter: int
    schedule: object
    learning_rates: tuple
    tol: float
    n_iter_no_change: float
    horizon: int
    early_stopping: bool = False
    incremental: bool = False
    n_jobs: int = 1
    verbose: bool = False


class Trainer:
    """Train the members of a network.

    Parameters
    ----------
    network : Network
        The nets; trained in place.
    loss : callable
        ``loss(raw, target)`` gives the samples' losses of shape (M, n_samples).
    optimizers : list of Optimizer
        One per member, all of one class.
    sources : list of Rows or Streamed
        Each member's samples.
    settings : Settings
        How to train.
    buffers : Buffers
        Gradients, optimiser state, hyperparameters, counters: one row per member.
    progress : list of Progress
        Each member's history; continued in place.
    score : callable, optional
        ``score(m)`` gives the validation score of member m as it stands.
    checkpoint : Checkpoint, optional
        Where to save.
    found : (dict, dict), optional
        What `Checkpoint.load` found there: the training to resume.
    fingerprint : dict, optional
        What is saved beside, and must be equal for the checkpoint to be resumed.
    options : Options, optional
        How steps are computed.

    Attributes
    ----------
    n_iter : ndarray of int64 of shape (M,)
        The epochs that `run` made of each member (those of a resumed run included).
    messages : list of str or None
        Why each member stopped, where it did before `max_iter`.
    """

    def __init__(
        self,
        network,
        loss,
        optimizers,
        sources,
        settings,
        buffers,
        progress,
        *,
        score=None,
        checkpoint=None,
        found=None,
        fingerprint=None,
        options=None,
    ):
        self.network, self.sources, self.settings = network, sources, settings
        self.optimizers = optimizers
        self.buffers, self.progress, self.score = buffers, progress, score
        self.checkpoint, self.fingerprint = checkpoint, fingerprint or {}
        self.found = found
        self.steps = [
            Step(
                network.member(m),
                loss,
                optimizers[m],
                source.data,
                source.order,
                buffers.member(m),
                options,
            )
            for m, source in enumerate(sources)
        ]
        self.target = options.target if options else HOST
        self.n_iter = np.zeros(len(sources), np.int64)
        self.messages = [None] * len(sources)
        self._steps_per_call = 16
        self.best = np.concatenate([network.data, network.state_data], axis=1)
        # A continued training must not end with worse weights than it began with.
        self.has_best = np.array(
            [settings.early_stopping and p.best_score > -np.inf for p in progress]
        )

    def run(self, begin=None, end=None):
        """Train until every member has stopped.

        Parameters
        ----------
        begin : callable, optional
            ``begin(epoch)`` is called before each epoch.
        end : callable, optional
            ``end(epoch)`` is called after each epoch; a true result stops all members.
        """
        self.prepare()
        self._resume()
        threads = min(self.settings.n_jobs, len(self.sources))
        try:
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    self._epochs(pool.map, begin, end)
            else:
                self._epochs(map, begin, end)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        self._pull()
        if self.settings.early_stopping:
            for m in range(len(self.sources)):
                self._restore(m)
        return self

    def prepare(self):
        """Give the training memory where it runs, and compile its steps; nothing is trained."""
        if not self.target.is_device:
            return
        b = self.buffers
        # The gradients, too: gaps between leaves are never written, and count in a norm.
        fixed = [b.grads, b.rates, b.hyper, b.penalties, b.limits, b.seeds, b.penalty, b.totals]
        arrays = [*self._kept, *fixed]
        for source in self.sources:
            arrays += source.arrays
        self.target.include(*arrays)
        for step, source in zip(self.steps, self.sources, strict=True):
            step.prepare(min(self.settings.batch_size, len(source)))

    @property
    def _kept(self):
        """The arrays that a training leaves behind."""
        b = self.buffers
        return [self.network.data, self.network.state_data, b.counters, *b.slots]

    def _pull(self):
        """Bring what a training leaves behind from where it ran."""
        self.target.pull(*self._kept)

    # ---- epochs --------------------------------------------------------------------------------

    def _epochs(self, over, begin, end):
        """Make epochs, `over` being the map over the members that still train."""
        active = [m for m in range(len(self.sources)) if self.messages[m] is None]
        for epoch in range(int(self.n_iter.max(initial=0)), self.settings.max_iter):
            if not active:
                break
            if begin:
                begin(epoch)
            list(over(self._member_epoch, active))
            active = [m for m in active if self.messages[m] is None]
            stop = bool(end(epoch)) if end else False
            self._save(epoch, last=stop or not active or epoch + 1 == self.settings.max_iter)
            if stop:
                break

    def _member_epoch(self, m):
        settings, b, progress = self.settings, self.buffers, self.progress[m]
        source = self.sources[m]
        batch = min(settings.batch_size, len(source))
        steps = -(-len(source) // batch)
        b.counters[m, 1:] = 0
        b.totals[m] = 0
        b.rates[m, :steps] = settings.schedule.rates(
            settings.learning_rates[m],
            first_step=int(b.counters[m, 0]),
            n_steps=steps,
            total_steps=steps * settings.horizon,
            steps_per_epoch=steps,
            state=progress.schedule,
        )
        self.target.push(b.counters[m], b.totals[m], b.rates[m])
        for rows in source.chunks(b.seeds[m], progress.epochs, batch):
            b.counters[m, 2] = 0
            self.target.push(b.counters[m, 2:3], *source.changed(rows))
            full, rest = divmod(rows, batch)
            self._make_steps(m, batch, full)
            if rest:
                self.steps[m](rest)
        self.target.pull(
            b.counters[m], b.totals[m], self.network.data[m], self.network.state_data[m]
        )
        progress.epochs += 1
        self.n_iter[m] += 1
        progress.loss_curve.append(float(b.totals[m, 0]) / len(source))
        self._judge(m)

    def _make_steps(self, m, batch, steps):
        """Make steps by native calls short enough that an interrupt does not wait."""
        while steps > 0:
            now = min(self._steps_per_call, steps)
            start = time.perf_counter()
            self.steps[m](batch, now)
            steps -= now
            pace = now / max(time.perf_counter() - start, 1e-9)
            self._steps_per_call = max(1, int(pace * _SECONDS_PER_CALL))

    # ---- judging -------------------------------------------------------------------------------

    def _judge(self, m):
        settings, progress = self.settings, self.progress[m]
        loss = progress.loss_curve[-1]
        finite = np.isfinite(loss) and np.isfinite(self.network.data[m]).all()
        if self.score is not None:
            progress.validation_scores.append(float(self.score(m)) if finite else float("nan"))
        if settings.verbose:
            print(f"Iteration {self.n_iter[m]}, loss = {loss:.8f}")
            if self.score is not None:
                print(f"Validation score: {progress.validation_scores[-1]:f}")
        if not finite:
            self._diverged(m)
            return
        if progress.judge(settings.tol, settings.early_stopping) or not self.has_best[m]:
            self._keep(m)
        b = self.buffers
        stop = settings.schedule.epoch_end(
            progress.schedule,
            improved=progress.no_improvement == 0,
            plateau=not settings.incremental
            and progress.no_improvement > settings.n_iter_no_change,
            learning_rate=settings.learning_rates[m],
            n_samples=len(self.sources[m]),
            epoch=progress.epochs,
            steps=int(b.counters[m, 0]),
        )
        if not settings.incremental and progress.no_improvement > settings.n_iter_no_change:
            what = "Validation score" if settings.early_stopping else "Training loss"
            message = (
                f"{what} did not improve more than tol={settings.tol:f} for "
                f"{settings.n_iter_no_change} consecutive epochs."
            )
            if stop:
                self.messages[m] = message
                if settings.verbose:
                    print(message + " Stopping.")
            else:
                progress.no_improvement = 0
                if settings.verbose:
                    print(message + " Learning rate reduced.")

    def _keep(self, m):
        self.best[m, : self.network.data.shape[1]] = self.network.data[m]
        self.best[m, self.network.data.shape[1] :] = self.network.state_data[m]
        self.has_best[m] = True

    def _restore(self, m):
        if self.has_best[m]:
            self.network.data[m] = self.best[m, : self.network.data.shape[1]]
            self.network.state_data[m] = self.best[m, self.network.data.shape[1] :]
            self.target.push(self.network.data[m], self.network.state_data[m])

    def _diverged(self, m):
        progress = self.progress[m]
        if not self.has_best[m]:
            if len(self.sources) == 1:
                raise ValueError(NON_FINITE)
            self.has_best[m] = True  # in a group, the others train on: it keeps its first weights
        self._restore(m)
        optimizer = self.optimizers[m]
        for slot, name in zip(self.buffers.slots, optimizer.slots, strict=False):
            slot[m] = optimizer.initial_state(name)
            self.target.push(slot[m])
        self.buffers.counters[m, 0] = 0
        self.target.push(self.buffers.counters[m])
        self.messages[m] = (
            f"Training diverged in epoch {progress.epochs} (loss {progress.loss_curve[-1]}); the "
            "best weights before it are kept. Lower learning_rate_init, clip the gradients, or "
            "scale the data."
        )
        warnings.warn(self.messages[m], ConvergenceWarning, stacklevel=2)

    # ---- checkpoints ---------------------------------------------------------------------------

    def _arrays(self):
        b = self.buffers
        return {
            "data": self.network.data,
            "state": self.network.state_data,
            "slot_0": b.slots[0],
            "slot_1": b.slots[1],
            "seeds": b.seeds,
            "counters": b.counters,
            "n_iter": self.n_iter,
            "best": self.best,
            "has_best": self.has_best,
        }

    def _save(self, epoch, last):
        if self.checkpoint is None or not (last or (epoch + 1) % self.checkpoint.every == 0):
            return
        self._pull()
        meta = {
            "fingerprint": self.fingerprint,
            "messages": self.messages,
            "progress": [p.to_dict() for p in self.progress],
        }
        self.checkpoint.save(self._arrays(), meta)

    def _resume(self):
        if not self.found:
            return
        arrays, meta = self.found
        for name, target in self._arrays().items():
            target[...] = arrays[name]
        self.target.push(*self._kept, self.buffers.seeds)
        self.messages[:] = meta["messages"]
        for mine, theirs in zip(self.progress, meta["progress"], strict=True):
            mine.__dict__.update(replace(Progress(), **theirs).__dict__)
