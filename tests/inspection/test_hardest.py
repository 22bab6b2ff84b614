"""The hardest samples, and which classes are taken for which."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from skdeep.inspection import HardestDisplay, confusion_pairs, hardest_samples
from skdeep.neural_network import CNNClassifier


def test_losses_are_the_log_loss(cnn, digits):
    X, y = digits
    every = hardest_samples(cnn, X, y, n_samples=len(X))
    np.testing.assert_array_equal(np.sort(every.indices), np.arange(len(X)))
    assert (np.diff(every.loss) <= 0).all()
    # scikit-learn's log-loss is their mean, up to rounding.
    np.testing.assert_allclose(every.loss.mean(), log_loss(y, cnn.predict_proba(X)), rtol=1e-10)
    np.testing.assert_array_equal(every.y_true, y[every.indices])
    np.testing.assert_array_equal(every.y_pred, cnn.predict(X)[every.indices])
    few = hardest_samples(cnn, X.reshape(-1, 8, 8), y, n_samples=7)
    np.testing.assert_array_equal(few.indices, every.indices[:7])
    assert len(hardest_samples(cnn, X[:3], y[:3], n_samples=9).indices) == 3


def test_two_classes_with_names(two_classes, digits):
    X, y = digits
    X, y = X[y < 2], np.where(y[y < 2] == 0, "zero", "one")
    got = hardest_samples(two_classes, X, y, n_samples=len(X))
    columns = np.searchsorted(two_classes.classes_, got.y_true)
    proba = two_classes.predict_proba(X)[got.indices, columns]
    np.testing.assert_allclose(got.loss, -np.log(proba), rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_margins_where_there_are_no_probabilities(digits, n_classes):
    X, y = digits[0][digits[1] < n_classes], digits[1][digits[1] < n_classes]
    svm = LinearSVC(random_state=0, C=1e-4).fit(X, y)
    got = hardest_samples(svm, X, y, n_samples=len(X))
    # The loss is negative just where the true class has the highest score.
    np.testing.assert_array_equal(got.loss < 0, got.y_true == got.y_pred)
    assert (got.loss < 0).any()
    if n_classes == 2:
        sign = np.where(got.y_true == 1, 1, -1)
        np.testing.assert_allclose(got.loss, -sign * svm.decision_function(X)[got.indices])


def test_other_estimators(digits):
    X, y = digits
    trees = HistGradientBoostingClassifier(max_iter=2, max_leaf_nodes=3).fit(X[:80], y[:80])
    got = hardest_samples(trees, X, y, n_samples=1)  # no predict_log_proba
    assert got.loss[0] == pytest.approx(-np.log(trees.predict_proba(X)[np.arange(300), y].min()))
    # Certain and wrong: the loss is infinite, or nearly, without a warning.
    bayes = GaussianNB(var_smoothing=1e-12).fit(X[:80], y[:80])
    assert hardest_samples(bayes, X, y, n_samples=1).loss[0] > 100


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressors(digits, n_outputs):
    X, y = digits
    targets = y.astype(float) if n_outputs == 1 else np.stack([y, y**2], axis=1)
    model = LinearRegression().fit(X[:100], targets[:100])
    got = hardest_samples(model, X, targets, n_samples=3)
    errors = (model.predict(X) - targets).reshape(300, -1)
    expected = (errors**2).mean(axis=1)
    np.testing.assert_array_equal(got.indices, np.argsort(-expected)[:3])
    np.testing.assert_allclose(got.loss, expected[got.indices])


def test_confusion_pairs():
    true = ["a", "a", "b", "b", "b", "c", "c"]
    pred = ["b", "b", "a", "b", "c", "d", "c"]
    assert confusion_pairs(true, pred) == [
        ("a", "b", 2),
        ("b", "a", 1),
        ("b", "c", 1),
        ("c", "d", 1),
    ]
    assert confusion_pairs(true, pred, n_pairs=1) == [("a", "b", 2)]
    assert confusion_pairs([1, 2], [1, 2]) == []
    assert confusion_pairs(true, pred, n_pairs=10) == confusion_pairs(true, pred)


def test_errors(cnn, digits):
    X, y = digits
    with pytest.raises(NotFittedError):
        hardest_samples(CNNClassifier(), X, y)
    with pytest.raises(ValueError, match="n_samples == 0"):
        hardest_samples(cnn, X, y, n_samples=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        hardest_samples(cnn, X, y[:5])
    with pytest.raises(ValueError, match="y has the labels 11, but classes_ is"):
        hardest_samples(cnn, X[:2], [11, 1])
    with pytest.raises(ValueError, match=r"y has shape \(2, 2\)"):
        hardest_samples(cnn, X[:2], [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="n_pairs == 0"):
        confusion_pairs(y, y, n_pairs=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        confusion_pairs(y, y[:5])


def test_display(cnn, digits, pyplot):
    X, y = digits
    display = HardestDisplay.from_estimator(cnn, X, y, n_samples=5, n_columns=3)
    found = hardest_samples(cnn, X, y, n_samples=5)
    assert display.figure_ is display.ax_.figure
    assert len(display.images_) == 5
    np.testing.assert_array_equal(
        display.images_[1].get_array(), X[found.indices[1]].reshape(8, 8)
    )
    pairs = zip(found.y_true, found.y_pred, strict=True)
    titles = [text.get_text() for text in display.ax_.texts]
    assert titles == [f"{true} → {predicted}" for true, predicted in pairs]
    _, ax = pyplot.subplots()
    assert display.plot(ax=ax).ax_ is ax
    with pytest.raises(ValueError, match="image_shape"):
        HardestDisplay.from_estimator(cnn, X, y, image_shape=(5, 5))
