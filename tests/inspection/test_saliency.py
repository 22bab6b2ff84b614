"""Saliency against closed forms: linear models, differences of scores, finite differences."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep.inspection import SaliencyDisplay, saliency
from skdeep.neural_network import CNNClassifier

METHODS = ["gradient", "smoothgrad", "integrated"]


def test_gradient_of_a_linear_model_is_its_weight(linear, digits):
    X, _ = digits
    weight = linear.network_.params[-1]["weight"][0]
    predicted = linear.predict(X[:20])
    np.testing.assert_array_equal(saliency(linear, X[:20]), weight.T[predicted])
    np.testing.assert_array_equal(saliency(linear, X[:2], target=7), weight.T[[7, 7]])


def test_noise_does_not_change_a_linear_models_gradient(linear, digits):
    # 50 equal numbers are summed and divided: a rounding or two remain.
    X = digits[0][:3]
    expected = saliency(linear, X, target=1)
    got = saliency(linear, X, target=1, method="smoothgrad", random_state=0)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_integrated_gradients_of_a_linear_model(linear, digits):
    X = digits[0][:3]
    weight = linear.network_.params[-1]["weight"][0][:, 4]
    got = saliency(linear, X, target=4, method="integrated", baseline=0.25, n_steps=3)
    np.testing.assert_allclose(got, (X - 0.25) * weight, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("baseline", [0.0, 0.5, "image"])
def test_integrated_gradients_sum_to_the_difference_of_the_scores(cnn, digits, baseline):
    X = digits[0][:6]
    start = digits[0][7] if baseline == "image" else np.full(64, baseline)
    scores = cnn.decision_function(np.concatenate([X, start[None]]))
    target = cnn.predict(X)
    got = saliency(cnn, X, method="integrated", baseline=start, n_steps=100)
    rows = np.arange(len(X))
    # The midpoint rule's error falls with the square of the number of steps.
    np.testing.assert_allclose(
        got.sum(axis=1), scores[rows, target] - scores[-1, target], rtol=1e-4, atol=1e-4
    )


def test_gradient_by_finite_differences(cnn, digits):
    x, step = digits[0][3:4], 1e-6
    got = saliency(cnn, x, target=2)[0]
    shifted = np.concatenate([x + step * np.eye(64), x - step * np.eye(64)])
    scores = cnn.decision_function(shifted)[:, 2]
    # A central difference of a smooth function: its own error is about 1e-10.
    np.testing.assert_allclose(got, (scores[:64] - scores[64:]) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_shape_dtype_and_independence_of_the_other_images(cnn32, digits, method):
    X = digits[0][:5].astype(np.float32)
    options = dict(method=method, n_steps=4, random_state=3)
    rows = saliency(cnn32, X, **options)
    assert rows.shape == X.shape
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert rows.any()
    for shape in ((5, 8, 8), (5, 8, 8, 1)):
        images = saliency(cnn32, X.reshape(shape), **options)
        assert images.shape == shape
        np.testing.assert_array_equal(images.reshape(rows.shape), rows)
    np.testing.assert_array_equal(saliency(cnn32, X[2:3], **options), rows[2:3])


def test_noise_is_fixed_by_random_state(cnn, digits):
    def draw(seed):
        kw = dict(method="smoothgrad", n_steps=2, random_state=seed)
        return saliency(cnn, digits[0][:2], **kw)

    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_scores_of_two_classes_are_opposite(two_classes, digits):
    X = digits[0][:4]
    zero, one = (saliency(two_classes, X, target=c) for c in ("zero", "one"))
    assert one.any()
    np.testing.assert_array_equal(zero, -one)
    predicted = two_classes.predict(X)
    expected = np.where((predicted == "one")[:, None], one, zero)
    np.testing.assert_array_equal(saliency(two_classes, X), expected)
    np.testing.assert_array_equal(saliency(two_classes, X, target=predicted), expected)
    # The log-odds are those of the second class, in alphabetical order.
    step = 1e-6 * np.eye(64)[20]
    slope = np.diff(two_classes.decision_function(np.stack([X[0] - step, X[0] + step]))) / 2e-6
    assert list(two_classes.classes_) == ["one", "zero"]
    np.testing.assert_allclose(zero[0, 20], slope[0], atol=1e-8)


def test_regressor_is_asked_by_output(flat, digits):
    X = digits[0][:3]
    first, second = saliency(flat, X, target=0), saliency(flat, X, target=1)
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match=r"target=None is none of the outputs \[0, 1\]"):
        saliency(flat, X)


def test_any_network_of_rows(mlp, digits):
    X = digits[0]
    hidden = X[:2] @ mlp.coefs_[0] + mlp.intercepts_[0] > 0
    expected = (hidden * mlp.coefs_[1][:, 3]) @ mlp.coefs_[0].T
    # The same products in another order.
    np.testing.assert_allclose(saliency(mlp, X[:2], target=3), expected, rtol=1e-12, atol=1e-14)


def test_pipeline_and_search_are_opened(cnn, digits):
    X, y = digits
    pipeline = make_pipeline(StandardScaler(with_std=False), clone(cnn))
    search = GridSearchCV(pipeline, {"cnnclassifier__max_iter": [1]}, cv=2).fit(X, y)
    best = search.best_estimator_
    expected = saliency(best[-1], best[0].transform(X[:2]), target=1)
    np.testing.assert_array_equal(saliency(search, X[:2], target=1), expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(method="guided"), "method='guided' must be one of"),
        (dict(target=10), "target=10 is none of the classes"),
        (dict(target="3"), "target=3 is none of the classes"),
        (dict(target=[1, 2]), "target has shape"),
        (dict(n_steps=0), "n_steps == 0"),
        (dict(noise=-1.0), "noise == -1.0"),
        (dict(method="integrated", baseline=[1.0, 2.0]), "baseline has shape"),
    ],
)
def test_wrong_parameters(cnn, digits, parameters, message):
    with pytest.raises(ValueError, match=message):
        saliency(cnn, digits[0][:3], **parameters)


def test_wrong_samples_and_estimators(cnn, digits):
    with pytest.raises(ValueError, match="features"):
        saliency(cnn, digits[0][:3, :60])
    with pytest.raises(NotFittedError):
        saliency(CNNClassifier(), digits[0])
    with pytest.raises(TypeError, match="StandardScaler keeps no network_"):
        saliency(StandardScaler().fit(digits[0]), digits[0])


@pytest.mark.parametrize("signed", [False, True])
def test_display(cnn, digits, pyplot, signed):
    display = SaliencyDisplay.from_estimator(cnn, digits[0][:4], signed=signed)
    assert display.figure_ is display.ax_.figure
    assert len(display.images_) == 8
    titles = [text.get_text() for text in display.ax_.texts]
    assert titles == [str(c) for c in cnn.predict(digits[0][:4])]
    drawn = display.images_[4].get_array()
    got = saliency(cnn, digits[0][:1]).reshape(8, 8)
    np.testing.assert_array_equal(drawn, got if signed else np.abs(got))
    _, ax = pyplot.subplots()
    assert display.plot(ax=ax).ax_ is ax


def test_display_needs_images(mlp, digits, pyplot):
    with pytest.raises(ValueError, match="no images"):
        SaliencyDisplay.from_estimator(mlp, digits[0][:2])
