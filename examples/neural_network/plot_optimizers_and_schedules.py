"""
=============================================
Which optimiser, and what should its rate do?
=============================================

Two choices beside the network: how a gradient becomes a step (the optimiser), and how the size of
the steps changes in the course of the training (the schedule). Both are small specifications of
:mod:`skdeep.training`, passed as ``optimizer`` and ``schedule``. scikit-learn's networks have SGD
with momentum, Adam and L-BFGS, and three schedules for SGD.
"""

# %%
# The same net, digits, initial weights and batches for all; each optimiser gets the best of six
# rates, by the loss after twenty epochs.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skdeep import training
from skdeep.neural_network import MLPClassifier

warnings.filterwarnings("ignore", category=ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)


def train(optimizer, schedule=None, max_iter=20):
    model = MLPClassifier(
        (64, 32), optimizer=optimizer, schedule=schedule, max_iter=max_iter, batch_size=32,
        n_iter_no_change=np.inf, random_state=0,
    )  # fmt: skip
    return model.fit(X_train, y_train)


kinds = "SGD Momentum Nesterov AdaGrad RMSProp Adam AdamW FTRL".split()
best = {}
for kind in kinds:
    tried = [train(getattr(training, kind)(rate)) for rate in 10.0 ** np.arange(-3.5, -0.5, 0.5)]
    best[kind] = min(tried, key=lambda model: model.loss_)
print("optimiser  best rate  loss    accuracy on the test digits")
for kind, model in best.items():
    rate = model.optimizer.learning_rate
    print(f"{kind:9}  {rate:9.4f}  {model.loss_:.4f}  {model.score(X_test, y_test):.3f}")

# %%
# Schedules, all with Nesterov's momentum, forty epochs. A large rate makes quick progress and then
# rattles about; what helps in the end is that it falls. ``Performance`` waits until training
# stalls, the others go by the clock. Times are counted in epochs here (``unit="steps"`` is there).
schedules = {
    "constant": training.Constant(),
    "exponential": training.Exponential(decay_rate=0.1, period=20),
    "piecewise": training.Piecewise([15, 30], [0.1, 0.02, 0.004]),
    "power": training.Power(period=5),
    "performance": training.Performance(factor=0.3, patience=2),
    "cosine, warm-up": training.Cosine(warmup=3),
    "one cycle": training.OneCycle(),
}
trained = {
    name: train(training.Nesterov(0.1), schedule, 40) for name, schedule in schedules.items()
}
for name, model in trained.items():
    print(f"{name:16} loss {model.loss_:.5f}  accuracy {model.score(X_test, y_test):.3f}")

# %%
# Left and middle: the learning curves. Right: the rates, which a schedule also tells by itself;
# those of ``Performance`` depend on how the training goes.
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for kind, model in best.items():
    axes[0].plot(model.loss_curve_, label=f"{kind}, {model.optimizer.learning_rate:.2g}")
axes[0].set(xlabel="epoch", ylabel="loss", yscale="log", title="Optimisers, each at its best rate")
steps = -(-len(X_train) // 32)
for name, schedule in schedules.items():
    (line,) = axes[1].plot(np.maximum(trained[name].loss_curve_, 1e-5), label=name)
    if name != "performance":
        rates = schedule.rates(0.1, 0, 40 * steps, 40 * steps, steps)
        axes[2].plot(np.arange(40 * steps) / steps, rates, color=line.get_color())
axes[1].set(xlabel="epoch", ylabel="loss", yscale="log", title="Schedules")
axes[2].set(xlabel="epoch", ylabel="learning rate", yscale="log", ylim=(1e-5, 0.2), title="Rates")
for ax in axes[:2]:
    ax.legend(fontsize="small")
plt.show()
