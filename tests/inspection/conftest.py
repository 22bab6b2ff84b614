"""Networks that the tests of the pictures look into."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skdeep.layers import Conv2D, Dense, GlobalAveragePool, Residual
from skdeep.neural_network import CNNClassifier, CNNRegressor, MLPClassifier, NetworkClassifier


@pytest.fixture(scope="package")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def pooled_cnn(dtype, **parameters):
    """A network that ends in global average pooling and the output."""
    layers = [
        ("conv1", Conv2D(6, 3, activation="tanh")),
        ("conv2", Conv2D(8, 3, stride=2, padding="same", activation="tanh")),
        ("pool", GlobalAveragePool()),
    ]
    parameters = {"max_iter": 3, "learning_rate_init": 0.01, "random_state": 0, **parameters}
    return CNNClassifier(layers, dtype=dtype, **parameters)


@pytest.fixture(scope="package")
def cnn(digits):
    return pooled_cnn("float64").fit(*digits)


@pytest.fixture(scope="package")
def cnn32(digits):
    return pooled_cnn("float32").fit(*digits)


@pytest.fixture(scope="package")
def two_classes(digits):
    X, y = digits
    return pooled_cnn("float64").fit(X[y < 2], np.where(y[y < 2] == 0, "zero", "one"))


@pytest.fixture(scope="package")
def residual(digits):
    """A network with a composite layer, and a layer that a shortcut bypasses."""
    piece = [("conv1", Conv2D(4, 3, padding="same")), ("conv2", Conv2D(4, 3, padding="same"))]
    layers = [
        ("stem", Conv2D(4, 3, activation="relu")),
        ("block", Residual(piece)),
        ("pool", GlobalAveragePool()),
    ]
    return CNNClassifier(layers, dtype="float64", max_iter=1, random_state=0).fit(*digits)


@pytest.fixture(scope="package")
def linear(digits):
    """A linear model: its raw scores are ``x @ weight + bias``."""
    return NetworkClassifier(dtype="float64", max_iter=2, random_state=0).fit(*digits)


@pytest.fixture(scope="package")
def flat(digits):
    layers = [("conv1", Conv2D(4, 3, activation="relu")), ("pool", GlobalAveragePool())]
    layers = [*layers, ("fc", Dense(5, activation="relu"))]
    targets = np.stack([digits[1], -digits[1]], axis=1)
    return CNNRegressor(layers, dtype="float64", max_iter=1, random_state=0).fit(
        digits[0], targets
    )


@pytest.fixture(scope="package")
def mlp(digits):
    """A network of rows, which soon takes itself for converged."""
    net = MLPClassifier((8,), dtype="float64", tol=1e9, n_iter_no_change=1, random_state=0)
    return net.fit(*digits)


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")
