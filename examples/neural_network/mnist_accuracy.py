"""
=====================================================
How many of MNIST's test digits does a net get right?
=====================================================

Two plain multi-layer perceptrons, without distorted copies of the digits: the classical net of 300
and 100 hidden units, and a wider one with more dropout. Each is trained from three seeds; about
40,000 and 20,000 steps. The whole takes some ten minutes on one core.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skdeep.datasets import load_mnist
from skdeep.neural_network import MLPClassifier
from skdeep.training import Cosine

X_train, y_train = load_mnist(subset="train", return_X_y=True)
X_test, y_test = load_mnist(subset="test", return_X_y=True)

# %%
# The learning rate falls along half a cosine to zero, so that the epochs are fixed beforehand:
# ``tol=0`` and an endless patience keep the loss from ending the training.

settings = dict(
    max_iter=33,
    schedule=Cosine(),
    initializer="he_normal",
    tol=0,
    n_iter_no_change=np.inf,
)
nets = {
    "784-300-100-10": MLPClassifier((300, 100), batch_size=50, dropout=0.2, **settings),
    "784-512-512-10": MLPClassifier(
        (512, 512), batch_size=100, dropout=0.4, input_dropout=0.1, **settings
    ),
}

# %%
# The accuracy on the 10,000 test digits. No training looks at them; the two settings are the
# better ones of five that were tried.

seeds = (0, 1, 2)
print("net             " + "".join(f"  seed {seed}" for seed in seeds) + "  median")
for name, net in nets.items():
    accuracies = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs are wanted
            net.set_params(random_state=seed).fit(X_train, y_train)
        accuracies.append(100 * net.score(X_test, y_test))
    figures = [*accuracies, np.median(accuracies)]
    print(f"{name:16s}" + "".join(f"{figure:8.2f}" for figure in figures))

# %%
# Some of the digits that the last net gets wrong: what they are, and what it takes them for.

predicted = net.predict(X_test)
wrong = np.flatnonzero(predicted != y_test)[:24]
fig, axes = plt.subplots(3, 8, figsize=(9, 4))
for ax, i in zip(axes.flat, wrong, strict=False):
    ax.imshow(X_test[i].reshape(28, 28), cmap="gray_r")
    ax.set_title(f"{y_test[i]}, not {predicted[i]}", fontsize=9)
    ax.axis("off")
fig.tight_layout()
plt.show()
