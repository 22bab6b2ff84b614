"""
==================================================================
How far does a small residual net get with 20,000 CIFAR-10 images?
==================================================================

A net of 1.9 million parameters, three residual blocks among its convolutions, trained for 24
epochs from scratch, with shifted and mirrored copies, and a patch cut out of each. The 5,000 test
images are looked at once, after the last epoch. Some twenty minutes on one core.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

from skdeep.datasets import load_cifar10
from skdeep.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    GlobalAveragePool,
    MaxPool2D,
    Residual,
)
from skdeep.neural_network import CNNClassifier
from skdeep.training import Augmentation, Nesterov, OneCycle

X, y = load_cifar10(subset="train", return_X_y=True)
X_test, y_test = load_cifar10(subset="test", return_X_y=True)
mean, std = X.mean(), X.std()
X, X_test = ((a.reshape(-1, 32, 32, 3) - mean) / std for a in (X, X_test))

# %%
# The last 1,000 training images are not trained on; they draw the curve of validation.

X_val, y_val, X, y = X[-1000:], y[-1000:], X[:-1000], y[:-1000]


def block(i, filters):
    """Return a convolution, batch norm and ReLU."""
    conv = Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")
    return [(f"conv{i}", conv), (f"norm{i}", BatchNormalization()), (f"relu{i}", Activation())]


layers = [
    *block(1, 32),
    *block(2, 64),
    ("pool2", MaxPool2D(2)),
    ("res2", Residual(filters=64)),
    *block(3, 128),
    ("pool3", MaxPool2D(2)),
    ("res3", Residual(filters=128)),
    *block(4, 256),
    ("pool4", MaxPool2D(2)),
    ("res4", Residual(filters=256)),
    ("pool", GlobalAveragePool()),
]
net = CNNClassifier(
    layers,
    batch_size=64,
    max_iter=24,
    optimizer=Nesterov(0.05, momentum=0.9),
    schedule=OneCycle(),
    alpha=0.03,
    label_smoothing=0.1,
    augmentation=Augmentation(crop=4, horizontal_flip=True, cutout=8),
    n_iter_no_change=np.inf,
    random_state=0,
    verbose=True,
)
print(net.summary((32, 32, 3), n_outputs=10))
start = time.perf_counter()
net.fit(X, y, X_val=X_val, y_val=y_val)
minutes = (time.perf_counter() - start) / 60

# %%
# The test images, as they are and averaged with their mirror images.

scores = net.predict_proba(X_test)
mirrored = (scores + net.predict_proba(X_test[:, :, ::-1].copy())) / 2
print(f"{minutes:.1f} minutes")
print(f"test accuracy {100 * np.mean(net.classes_[scores.argmax(1)] == y_test):.2f} %")
print(f"with mirror images {100 * np.mean(net.classes_[mirrored.argmax(1)] == y_test):.2f} %")

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
epochs = np.arange(1, net.n_iter_ + 1)
left.plot(epochs, net.loss_curve_)
left.set(xlabel="epoch", ylabel="training loss", title="Loss, with smoothed labels and penalty")
right.plot(epochs, 100 * np.array(net.validation_scores_))
right.axhline(100 * np.mean(net.classes_[scores.argmax(1)] == y_test), ls="--", color="gray")
right.set(xlabel="epoch", ylabel="accuracy, %", title="1,000 held-out images (dashed: test)")
fig.tight_layout()
plt.show()
