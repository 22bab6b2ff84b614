"""Whole trainings on a device: they follow those on the CPU."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skdeep.neural_network import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def samples(n=37, features=7, classes=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, features)).astype(np.float32)
    y = (X @ rng.standard_normal((features, classes))).argmax(1)
    return X, y


def fit_both(make, X, y, **fit):
    """Fit on the CPU and on the device; return both."""
    return [make(device=device).fit(X, y, **fit) for device in ("cpu", "cuda")]


def agree(cpu, gpu, rtol=1e-4):
    """Compare what two trainings ended with.

    Sums are taken in another order on a device, so that the last bits differ from the first step
    on; over the few steps here they grow to about 1e-6.
    """
    assert cpu.device_ == "cpu"
    assert gpu.device_ == "cuda:0"
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=rtol)
    np.testing.assert_allclose(
        gpu.network_.data, cpu.network_.data, rtol=1e-3, atol=1e-4 * abs(cpu.network_.data).max()
    )


def test_classifier_follows_the_cpu():
    X, y = samples()

    def make(device):
        return MLPClassifier((9, 5), batch_size=16, max_iter=2, random_state=0, device=device)

    cpu, gpu = fit_both(make, X, y)
    agree(cpu, gpu)
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-3, atol=1e-5)
    assert (gpu.predict(X) == cpu.predict(X)).all()


def test_two_trainings_are_equal_bit_for_bit():
    X, y = samples()
    one, two = (
        MLPClassifier((9,), batch_size=16, max_iter=2, random_state=0, device="cuda").fit(X, y)
        for _ in range(2)
    )
    assert one.loss_curve_ == two.loss_curve_
    np.testing.assert_array_equal(one.network_.data, two.network_.data)
