"""Learning curves for TensorBoard, through scikit-learn's callbacks."""

import os
import time
from pathlib import Path

from sklearn.base import BaseEstimator


class TensorBoard(BaseEstimator):
    """Write every epoch's loss, validation score and weight norms for TensorBoard.

    A callback of scikit-learn's protocol: ``estimator.set_callbacks(TensorBoard("runs"))``, also
    on a Pipeline. Needs the extra ``tensorboard``.

    Parameters
    ----------
    log_dir : str or path-like
        The folder of the runs; every fit writes into a folder of its own below it.
    run : str, default=None
        The name of that folder; the estimator's class and the time by default.

    References
    ----------
    https://www.tensorflow.org/tensorboard

    Examples
    --------
    >>> from skdeep.training import TensorBoard
    >>> TensorBoard("runs", run="first")
    TensorBoard(log_dir='runs', run='first')
    """

    # A callback that a meta-estimator hands on to the estimators inside it, at any depth.
    max_propagation_depth = None

    def __init__(self, log_dir, run=None):
        self.log_dir = log_dir
        self.run = run

    def setup(self, estimator, context):
        """Open the run's folder."""
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as e:
            raise ImportError(
                "TensorBoard(...) needs the package tensorboard: install the extra `tensorboard`"
            ) from e
        run = self.run or f"{context.estimator_name}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._folder = Path(os.fspath(self.log_dir)) / run
        self._writer, self._step = EventFileWriter(str(self._folder)), 0

    def on_fit_task_begin(self, estimator, context):
        """Begin nothing: an epoch is written when it ends."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Write the scalars of an epoch."""
        curve = getattr(fitted_estimator, "loss_curve_", None)
        if context.task_name != "epoch" or not curve:
            return
        scalars = {"loss": curve[-1]}
        if fitted_estimator.validation_scores_:
            scalars["validation_score"] = fitted_estimator.validation_scores_[-1]
        for name, leaf in fitted_estimator.network_.leaves().items():
            scalars[f"norm/{name}"] = float((leaf.astype(float) ** 2).sum() ** 0.5)
        self._write(scalars)

    def _write(self, scalars):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=v) for tag, v in scalars.items()]
        event = Event(wall_time=time.time(), step=self._step, summary=Summary(value=values))
        self._writer.add_event(event)
        self._step += 1

    def teardown(self, estimator, context):
        """Flush and close the run."""
        writer = self.__dict__.pop("_writer", None)
        if writer is not None:
            writer.close()
