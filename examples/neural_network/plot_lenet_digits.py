"""
===================================================
How many filters does a convolutional network need?
===================================================

A first convolutional network, in the manner of LeNet: filters, pooling, filters, pooling, a dense
layer. It stands at the end of a Pipeline, and scikit-learn's GridSearchCV chooses the number of
its filters on scikit-learn's digits, 8 by 8 pixels each.
"""

# %%
# The digits come as rows of 64 numbers; ``image_shape`` says what is what. The layers have names,
# by which their parameters are searched.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skdeep.inspection import FilterDisplay, LossCurveDisplay
from skdeep.layers import AveragePool2D, Conv2D, Dense, Flatten
from skdeep.neural_network import CNNClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
lenet = CNNClassifier(
    [
        ("conv1", Conv2D(6, 3, padding="same", activation="tanh")),
        ("pool1", AveragePool2D(2)),
        ("conv2", Conv2D(16, 3, padding="same", activation="tanh")),
        ("pool2", AveragePool2D(2)),
        ("flatten", Flatten()),
        ("dense", Dense(32, activation="tanh")),
    ],
    image_shape=(8, 8, 1),
    learning_rate_init=0.005,
    max_iter=30,
    random_state=0,
)
print(lenet.summary((8, 8, 1), n_outputs=10))

# %%
# Five numbers of filters in the first layer, three folds each. What is scaled, and how, is learnt
# from the folds' training parts alone: that is what the Pipeline is for.
pipeline = Pipeline([("scale", MinMaxScaler()), ("cnn", lenet)])
grid = {"cnn__conv1__filters": [1, 2, 4, 8, 16]}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)
results = search.cv_results_
for filters, mean in zip(grid["cnn__conv1__filters"], results["mean_test_score"], strict=True):
    print(f"{filters:2d} filters: accuracy {mean:.3f}")
print(f"the best on {len(y_test)} other digits: {search.score(X_test, y_test):.3f}")

# %%
# The search's accuracies, the learning curve of the best network, trained again on all training
# digits, and its first filters.
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
left.errorbar(
    grid["cnn__conv1__filters"],
    results["mean_test_score"],
    results["std_test_score"] / np.sqrt(3),
    fmt="o-",
    capsize=3,
)
left.set_xscale("log", base=2)
left.set(xlabel="filters of conv1", ylabel="accuracy", title="Three folds, with standard errors")
LossCurveDisplay.from_estimator(search, ax=middle, log=True)
middle.set(title="The best network")
FilterDisplay.from_estimator(search, layer="conv1", ax=right)
plt.show()
