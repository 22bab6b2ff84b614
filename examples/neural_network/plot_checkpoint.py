"""
=================================================================
Can a training that was interrupted go on as if nothing happened?
=================================================================

With ``checkpoint=`` a network saves its training at intervals: weights, the optimiser's memory,
counters, the history. A fit that finds the file goes on from it. Because every random draw (the
order of the samples, the dropout masks) is a function of the seed, the epoch, the step and the
element, nothing else is needed to go on *bit for bit*.
"""

# %%
# A callback of scikit-learn's protocol stands for the power failure: it raises an error after the
# 25th epoch.
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skdeep.neural_network import MLPClassifier
from skdeep.training import Checkpoint, Cosine

warnings.filterwarnings("ignore", category=ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X = X / 16


class PowerFailure:
    """Raise an error at the end of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def setup(self, estimator, context):
        """Prepare nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        """Fail, if it is time to."""
        if context.task_id + 1 == self.epoch:
            raise RuntimeError("power failure")


def network(**parameters):
    return MLPClassifier(
        (64, 32), dropout=0.2, batch_norm=True, schedule=Cosine(), early_stopping=True,
        max_iter=60, n_iter_no_change=np.inf, random_state=0, **parameters,
    )  # fmt: skip


# %%
# One network is trained without interruption, the other fails, and is then fitted again by the
# same line in a new estimator, as a program that is started again would.
whole = network().fit(X, y)
with tempfile.TemporaryDirectory() as folder:
    checkpoint = Checkpoint(Path(folder) / "digits.safetensors", every=10)
    try:
        network(checkpoint=checkpoint).set_callbacks(PowerFailure(25)).fit(X, y)
    except RuntimeError as error:
        print(f"The first attempt ended by a {error}.")
    resumed = network(checkpoint=checkpoint).fit(X, y)

pairs = zip(whole.coefs_ + whole.intercepts_, resumed.coefs_ + resumed.intercepts_, strict=True)
same = all(np.array_equal(a, b) for a, b in pairs)
print("All weights equal, to the last bit:", same)
print("All losses equal:", whole.loss_curve_ == resumed.loss_curve_)
print("All validation scores equal:", whole.validation_scores_ == resumed.validation_scores_)

# %%
# The last checkpoint before the failure was of epoch 20, so the second attempt trained from there.
figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
epochs = np.arange(1, 61)
ax.plot(epochs, whole.loss_curve_, color="0.75", linewidth=7, label="never interrupted")
ax.plot(epochs[:25], whole.loss_curve_[:25], "C3x", label="before the failure")
ax.plot(epochs[20:], resumed.loss_curve_[20:], "C0", label="resumed from the checkpoint")
ax.axvline(20, color="0.4", linestyle=":")
ax.annotate("checkpoint ", (20, 2.5), ha="right", va="top", rotation=90)
ax.axvline(25, color="C3", linestyle=":")
ax.annotate("failure ", (25, 2.5), ha="right", va="top", rotation=90, color="C3")
ax.set(xlabel="epoch", ylabel="loss", yscale="log", title="An interrupted training")
ax.legend()
plt.show()
