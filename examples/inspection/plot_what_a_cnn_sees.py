"""
=============================================================
What does a convolutional network see in a handwritten digit?
=============================================================

A network of three convolutions learns scikit-learn's digits in a few seconds. Six pictures ask it
what it looks for, what it makes of an image, which pixels and which places decide, and which
digits it finds hardest.
"""

# %%
# The last convolution is followed by a global average pooling and the output alone, so that its
# maps say where each class is seen.
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from skdeep.inspection import (
    ClassActivationDisplay,
    FeatureMapDisplay,
    FilterDisplay,
    HardestDisplay,
    SaliencyDisplay,
    confusion_pairs,
    hardest_samples,
)
from skdeep.layers import Conv2D, GlobalAveragePool
from skdeep.neural_network import CNNClassifier

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8) / 16
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
convolution = dict(padding="same", activation="relu")
cnn = CNNClassifier(
    layers=[
        ("conv1", Conv2D(16, 5, **convolution)),
        ("conv2", Conv2D(32, 3, **convolution)),
        ("conv3", Conv2D(32, 3, **convolution)),
        ("pool", GlobalAveragePool()),
    ],
    learning_rate_init=0.003,
    max_iter=30,
    random_state=0,
).fit(X_train, y_train)
print(f"accuracy {cnn.score(X_test, y_test):.3f}")

# %%
# Hard are digits to which the network gives a low probability of being what they are.
hardest = hardest_samples(cnn, X_test, y_test, n_samples=5)
for index, loss in zip(hardest.indices, hardest.loss, strict=True):
    print(f"test digit {index}: a {y_test[index]}, loss {loss:.2f}")
for true, predicted, count in confusion_pairs(y_test, cnn.predict(X_test), n_pairs=3):
    print(f"{count} times a {true} was taken for a {predicted}")

# %%
# Saliency is how the score of the predicted class changes with each pixel: its gradient, averaged
# over noisy copies of the image. The class activation map is coarser: where the class is seen.
shown = [(y_test == digit).argmax() for digit in (0, 2, 4, 7, 9)]
figure = plt.figure(figsize=(13, 9), layout="constrained")
axes = figure.subplot_mosaic(
    [["filters", "maps", "matrix"], ["saliency", "cam", "hardest"]],
    width_ratios=(1, 1, 1),
)
FilterDisplay.from_estimator(cnn, layer="conv1", ax=axes["filters"], scale="each")
FeatureMapDisplay.from_estimator(
    cnn, X_test, layer="conv2", sample=shown[1], ax=axes["maps"], max_maps=24
)
ConfusionMatrixDisplay.from_estimator(
    cnn, X_test, y_test, ax=axes["matrix"], colorbar=False, cmap="Blues"
)
axes["matrix"].set_title("confusion matrix")
SaliencyDisplay.from_estimator(
    cnn, X_test[shown], method="smoothgrad", random_state=0, ax=axes["saliency"]
)
axes["saliency"].set_title("saliency of the predicted class")
ClassActivationDisplay.from_estimator(cnn, X_test[shown], ax=axes["cam"])
axes["cam"].set_title("class activation maps")
HardestDisplay.from_estimator(cnn, X_test, y_test, n_samples=12, n_columns=4, ax=axes["hardest"])
axes["hardest"].set_title("the hardest digits: true → predicted")
plt.show()
