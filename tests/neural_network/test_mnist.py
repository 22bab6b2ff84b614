"""Accuracy on MNIST, by plain nets and without distorted copies of the digits."""

import numpy as np
import pytest

from skdeep.datasets import load_mnist
from skdeep.neural_network import MLPClassifier
from skdeep.training import Cosine

SETTINGS = dict(
    max_iter=33, schedule=Cosine(), initializer="he_normal", tol=0, n_iter_no_change=np.inf
)
#: Net -> (estimator, steps at most, the accuracy that the median of three seeds must reach).
NETS = {
    "784-300-100-10": (
        MLPClassifier((300, 100), batch_size=50, dropout=0.2, **SETTINGS),
        40_000,
        0.9818,
    ),
    "784-512-512-10": (
        MLPClassifier((512, 512), batch_size=100, dropout=0.4, input_dropout=0.1, **SETTINGS),
        20_000,
        0.986,
    ),
}


@pytest.fixture(scope="module")
def mnist():
    try:
        parts = [
            load_mnist(subset=subset, return_X_y=True, download_if_missing=False)
            for subset in ("train", "test")
        ]
    except OSError as e:
        pytest.skip(f"MNIST is not there: {e}")
    return parts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("net", NETS)
def test_accuracy(net, mnist):
    (X_train, y_train), (X_test, y_test) = mnist
    assert X_train.shape == (60_000, 784)
    assert X_test.shape == (10_000, 784)
    mlp, steps, target = NETS[net]
    accuracies = []
    for seed in range(3):
        mlp.set_params(random_state=seed).fit(X_train, y_train)
        assert mlp.n_iter_ * -(-len(X_train) // mlp.batch_size) <= steps
        accuracies.append(mlp.score(X_test, y_test))
    print(net, [f"{100 * a:.2f}" for a in accuracies])
    assert np.median(accuracies) >= target
