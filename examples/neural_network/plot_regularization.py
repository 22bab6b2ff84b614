"""
==============================================
What keeps a large net from learning by heart?
==============================================

A net with 55,000 weights and 300 handwritten digits to learn from soon knows them by heart,
mistakes included: here every fifth label is wrong. Each remedy is one parameter of
:class:`~skdeep.neural_network.MLPClassifier`: dropout (of units, inputs or weights), noise, batch
normalisation, a maximum norm, penalties, smoothed labels, early stopping. Which of them help, and
how much of it is luck?
"""

# %%
# Three hundred digits for training, the other fifteen hundred for the test, and five draws of
# both, so that differences can be told from chance. Every remedy sees the same five.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skdeep.neural_network import MLPClassifier

warnings.filterwarnings("ignore", category=ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X = X / 16
remedies = {
    "none": dict(alpha=0.0),
    "l2 penalty": dict(alpha=0.3),
    "max-norm": dict(max_norm=1.0),
    "dropout": dict(dropout=0.5),
    "input dropout": dict(input_dropout=0.2),
    "dropconnect": dict(dropconnect=0.5),
    "input noise": dict(input_noise=0.2),
    "label smoothing": dict(label_smoothing=0.1),
    "batch norm": dict(batch_norm=True),
    "early stopping": dict(early_stopping=True, validation_fraction=0.2, n_iter_no_change=20),
    "dropout, input\nnoise, max-norm": dict(dropout=0.5, input_noise=0.2, max_norm=3.0),
}
splits = [
    train_test_split(X, y, train_size=300, stratify=y, random_state=seed) for seed in range(5)
]
for seed, (_, _, labels, _) in enumerate(splits):
    labels[:60] = (labels[:60] + np.random.default_rng(seed).integers(1, 10, 60)) % 10
accuracy = np.zeros((len(remedies), len(splits)))
curves = {}
for i, (name, parameters) in enumerate(remedies.items()):
    for j, (X_train, X_test, y_train, y_test) in enumerate(splits):
        model = MLPClassifier(
            (200, 200), batch_size=20, max_iter=50, random_state=j, tol=0.0, **parameters
        )
        if name != "early stopping":
            model.set_params(n_iter_no_change=np.inf)
        model.fit(X_train, y_train)
        accuracy[i, j] = model.score(X_test, y_test)
    curves[name] = model.loss_curve_

# %%
# The last column compares split by split: the mean gain over no remedy and its standard error. A
# gain below two standard errors may well be chance.
gain = 100 * (accuracy - accuracy[0])
error = gain.std(axis=1, ddof=1) / np.sqrt(len(splits))
for name, scores, g, e in zip(remedies, accuracy, gain.mean(axis=1), error, strict=True):
    print(
        f"{name.replace(chr(10), ' '):32} accuracy {scores.mean():.3f}   gain {g:+.1f} +- {e:.1f}"
    )

# %%
# Left: the accuracies on correctly labelled digits. Right: what most of the remedies that help
# have in common is that the loss does not come near zero on the training digits. Batch
# normalisation is made for speed, and learns the wrong labels by heart all the sooner.
order = np.argsort(accuracy.mean(axis=1))
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.8), width_ratios=(3, 2), layout="constrained"
)
names = [list(remedies)[i] for i in order]
left.plot(accuracy[order], range(len(names)), "o", color="C0", alpha=0.5)
left.plot(accuracy[order].mean(axis=1), range(len(names)), "k|", markersize=16)
left.axvline(accuracy[0].mean(), color="0.7", linestyle=":", zorder=0)
left.set_yticks(range(len(names)), names)
left.set(
    xlabel="accuracy on the test digits", title="Five draws of 300 training digits, and means"
)
for name in ("none", "l2 penalty", "dropout", "batch norm", "label smoothing"):
    right.plot(curves[name], label=name)
right.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Learning curves")
right.legend()
plt.show()
