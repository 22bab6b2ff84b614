"""
=========================================
What is a network without a hidden layer?
=========================================

With ``hidden_layer_sizes=()`` the net is a linear model, and its loss decides which one: the
log-loss makes it logistic regression, the hinge loss a max-margin classifier, the perceptron's
loss Rosenblatt's perceptron. Each has a peer in scikit-learn with a solver of its own. The same
problem must have the same solution.
"""

# %%
# Two classes in the plane, barely apart. Both libraries weigh the sum of the losses against a
# penalty of :math:`\alpha \|w\|^2 / 2`; scikit-learn's linear models call the inverse of ``alpha``
# ``C``.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.svm import SVC

from skdeep.neural_network import MLPClassifier
from skdeep.training import SGD, Adam, Cosine

warnings.filterwarnings("ignore", category=ConvergenceWarning)
X, y = make_blobs(200, centers=[[-1.4, -1], [1.4, 1]], cluster_std=0.6, random_state=1)
alpha = 0.2
linear = dict(hidden_layer_sizes=(), alpha=alpha, random_state=0)

# %%
# The log-loss is smooth, so L-BFGS finds the minimum to as many digits as are asked for. The hinge
# loss has kinks: Adam, over all samples and with a rate that falls to zero, comes as close as
# float32 allows to what the support vector machine finds by quadratic programming. The perceptron
# learns sample by sample, and has no unique solution: any line between the classes has no loss.
steps = dict(max_iter=3000, n_iter_no_change=np.inf)
pairs = {
    "Logistic regression": (
        MLPClassifier(loss="log_loss", solver="lbfgs", tol=1e-8, max_iter=1000, **linear),
        LogisticRegression(C=1 / alpha, tol=1e-8),
    ),
    "Max-margin classifier": (
        MLPClassifier(loss="hinge", optimizer=Adam(0.1), schedule=Cosine(), **steps, **linear),
        SVC(kernel="linear", C=1 / alpha),
    ),
    "Perceptron": (
        MLPClassifier(
            (),
            loss="perceptron",
            optimizer=SGD(1.0),
            alpha=0,
            batch_size=1,
            max_iter=50,
            random_state=0,
        ),
        Perceptron(random_state=0),
    ),
}
for name, (ours, theirs) in pairs.items():
    for model in (ours.fit(X, y), theirs.fit(X, y)):
        w = np.ravel(model.coef_ if model is theirs else model.coefs_[0])
        b = float(np.ravel(model.intercept_ if model is theirs else model.intercepts_[0])[0])
        peer = type(model).__name__
        print(
            f"{name:21} {peer:18} weights {np.round(w, 4)!s:17} bias {b:7.4f}"
            f"  accuracy {model.score(X, y):.3f}"
        )

# %%
# A handful of samples decides where the max-margin classifier draws the line: those on or inside
# the margin. They carry all of the gradient of the hinge loss.
figure, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained", sharey=True)
side = np.linspace(-4, 4, 200)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
for ax, (name, (ours, theirs)) in zip(axes, pairs.items(), strict=True):
    ax.scatter(*X.T, c=y, cmap="coolwarm", s=14)
    for model, colour, width, style in ((theirs, "0.6", 5, "-"), (ours, "k", 1.5, "--")):
        height = model.decision_function(grid).reshape(200, 200)
        ax.contour(side, side, height, [0], colors=colour, linewidths=width, linestyles=style)
        ax.plot([], color=colour, linewidth=width, linestyle=style, label=type(model).__name__)
    if name == "Max-margin classifier":
        ax.contour(side, side, height, [-1, 1], colors="k", linewidths=1, linestyles=":")
        near = np.abs(ours.decision_function(X)) < 1.001
        ax.scatter(*X[near].T, s=60, facecolors="none", edgecolors="k", linewidths=0.7)
    ax.set(title=name, aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
    ax.legend(loc="upper left")
plt.show()
