"""Class activation maps against the closed form of networks with global average pooling."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skdeep.inspection import ClassActivationDisplay, class_activation_map, feature_maps
from skdeep.inspection._resize import resized
from skdeep.neural_network import CNNClassifier


def test_closed_form_with_global_average_pooling(cnn, digits):
    """Grad-CAM is CAM, divided by the number of cells (Zhou et al., equation 2)."""
    X = digits[0][:5]
    maps = feature_maps(cnn, X, layer="conv2")
    weight = cnn.network_.params[-1]["weight"][0]
    cam = np.einsum("nhwk,k->nhw", maps, weight[:, 6]) / maps[0, ..., 0].size
    got = class_activation_map(cnn, X, target=6, relu=False, upsample=False)
    # The same sums in another order.
    np.testing.assert_allclose(got, cam, rtol=1e-12, atol=1e-15)
    # The maps sum to the score less the bias.
    scores = cnn.decision_function(X)[:, 6] - cnn.network_.params[-1]["bias"][0, 6]
    np.testing.assert_allclose(got.sum(axis=(1, 2)), scores, rtol=1e-12)
    only = class_activation_map(cnn, X, target=6, upsample=False)
    np.testing.assert_array_equal(only, np.maximum(got, 0))
    assert (got < 0).any()


def test_default_is_the_last_spatial_layer_and_the_predicted_class(cnn32, digits):
    X = digits[0][:5]
    got = class_activation_map(cnn32, X)
    assert got.shape == (5, 8, 8)
    assert got.dtype == np.float32
    given = class_activation_map(cnn32, X, layer="conv2", target=cnn32.predict(X))
    np.testing.assert_array_equal(got, given)
    np.testing.assert_array_equal(class_activation_map(cnn32, X[1:2]), got[1:2])
    images = class_activation_map(cnn32, X.reshape(-1, 8, 8, 1))
    np.testing.assert_array_equal(images, got)


def test_earlier_layer(cnn, digits):
    assert class_activation_map(cnn, digits[0][:2], layer="conv1", upsample=False).shape == (
        2,
        6,
        6,
    )


def test_composite_layer_by_its_own_name(residual, digits):
    X = digits[0][:2]
    np.testing.assert_array_equal(
        class_activation_map(residual, X, layer="block"), class_activation_map(residual, X)
    )


def test_bypassed_layer_is_refused(residual, digits):
    with pytest.raises(ValueError, match=r"bypassed .* take one of \['stem'"):
        class_activation_map(residual, digits[0][:2], layer="block.conv1")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(layer="conv9"), r"layer='conv9' is none of the layers \['conv1', 'conv2', 'pool'"),
        (dict(layer="pool"), r"gives samples of shape \(8,\), no images; .* 'conv2'"),
        (dict(target=11), "target=11 is none of the classes"),
    ],
)
def test_wrong_parameters(cnn, digits, parameters, message):
    with pytest.raises(ValueError, match=message):
        class_activation_map(cnn, digits[0][:2], **parameters)


def test_networks_without_images(mlp, digits):
    with pytest.raises(ValueError, match="no layer of the network gives images"):
        class_activation_map(mlp, digits[0][:2])
    with pytest.raises(NotFittedError):
        class_activation_map(CNNClassifier(), digits[0][:2])


def test_resizing():
    rows, columns = np.arange(3.0)[:, None], np.arange(4.0)
    image = 2 * rows + columns
    np.testing.assert_array_equal(resized(image[None], (3, 4)), image[None])
    larger = resized(image[None], (6, 12))[0]
    # Linear functions stay so but at the border, whose values are repeated. New centres stand at
    # (i + 1/2) / factor - 1/2 of the old ones.
    at = [np.clip((np.arange(n) + 0.5) / f - 0.5, 0, m) for n, f, m in ((6, 2, 2), (12, 3, 3))]
    np.testing.assert_allclose(larger, 2 * at[0][:, None] + at[1], atol=1e-12)
    np.testing.assert_array_equal(resized(np.ones((2, 3, 3), np.float32), (7, 5)), 1)


def test_display(cnn, digits, pyplot):
    display = ClassActivationDisplay.from_estimator(cnn, digits[0][:3], target=[0, 1, 2])
    assert display.figure_ is display.ax_.figure
    assert len(display.images_) == 9  # images; images again, with maps over them
    assert [text.get_text() for text in display.ax_.texts] == ["0", "1", "2"]
    assert display.images_[4].get_alpha() == 0.5
    _, ax = pyplot.subplots()
    assert display.plot(ax=ax, alpha=0.2).ax_ is ax
    assert display.images_[4].get_alpha() == 0.2
