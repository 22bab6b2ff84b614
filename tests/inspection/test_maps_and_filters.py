"""Feature maps and filters."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skdeep.inspection import FeatureMapDisplay, FilterDisplay, feature_maps
from skdeep.inspection._tiles import as_images
from skdeep.layers import Conv2D, Conv2DTranspose, GlobalAveragePool, SeparableConv2D
from skdeep.neural_network import CNNClassifier


def test_maps_are_the_convolution(cnn, digits):
    X = digits[0][:4]
    params = cnn.network_.params[0]
    images, weight = X.reshape(-1, 8, 8, 1), params["weight"][0]
    expected = np.empty((4, 6, 6, 6))
    for i, j in np.ndindex(6, 6):
        expected[:, i, j] = np.einsum("nhwc,hwck->nk", images[:, i : i + 3, j : j + 3], weight)
    got = feature_maps(cnn, X, layer="conv1")
    # The same sums in another order.
    np.testing.assert_allclose(got, np.tanh(expected + params["bias"][0]), atol=1e-13)
    np.testing.assert_array_equal(feature_maps(cnn, images, layer="conv1"), got)


def test_last_layer_gives_the_raw_scores(cnn32, digits):
    X = digits[0][:4].astype(np.float32)
    got = feature_maps(cnn32, X, layer="output")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, cnn32.decision_function(X))


def test_many_samples_in_blocks(cnn, digits):
    X = np.concatenate([digits[0]] * 12)  # more than go through a network at once
    got = feature_maps(cnn, X, layer="pool")
    assert got.shape == (len(X), 8)
    np.testing.assert_array_equal(got[-300:], got[:300])


def test_composite_layer(residual, digits):
    X = digits[0][:2]
    whole = feature_maps(residual, X, layer="block")
    assert whole.shape == feature_maps(residual, X, layer="block.conv2").shape == (2, 6, 6, 4)
    pooled = feature_maps(residual, X, layer="pool")
    np.testing.assert_allclose(whole.mean(axis=(1, 2)), pooled, rtol=1e-12)


@pytest.mark.parametrize("layer", ["block.", "conv", "", "blo"])
def test_unknown_layer(residual, digits, layer):
    with pytest.raises(ValueError, match=r"is none of the layers \['stem', 'block.conv1'"):
        feature_maps(residual, digits[0][:2], layer=layer)


def test_not_fitted(digits):
    with pytest.raises(NotFittedError):
        feature_maps(CNNClassifier(), digits[0], layer="conv1")
    with pytest.raises(NotFittedError):
        FilterDisplay.from_estimator(CNNClassifier())


def test_map_display(cnn, digits, pyplot):
    display = FeatureMapDisplay.from_estimator(cnn, digits[0], layer="conv1", sample=5)
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_title() == "feature maps of conv1"
    maps = feature_maps(cnn, digits[0][5:6], layer="conv1")[0]
    assert len(display.images_) == 1 + 6
    np.testing.assert_array_equal(display.images_[0].get_array(), digits[0][5].reshape(8, 8))
    np.testing.assert_array_equal(display.images_[2].get_array(), maps[..., 1])
    assert display.images_[2].get_clim() == (maps.min(), maps.max())
    display.plot(scale="each", max_maps=3)
    assert len(display.images_) == 4
    assert display.images_[2].get_clim() == (maps[..., 1].min(), maps[..., 1].max())
    last = FeatureMapDisplay.from_estimator(cnn, digits[0][:6], layer="conv1", sample=-1)
    np.testing.assert_array_equal(last.maps, maps)


def test_map_display_errors(cnn, digits, pyplot):
    draw = FeatureMapDisplay.from_estimator
    with pytest.raises(ValueError, match="no images; take one of"):
        draw(cnn, digits[0], layer="output")
    with pytest.raises(IndexError, match="sample=3"):
        draw(cnn, digits[0][:3], layer="conv1", sample=3)
    with pytest.raises(ValueError, match="scale='all'"):
        draw(cnn, digits[0], layer="conv1", scale="all")


def test_filter_display(cnn, pyplot):
    weight = cnn.network_.params[0]["weight"][0]
    display = FilterDisplay.from_estimator(cnn)
    assert display.layer == "conv1"
    np.testing.assert_array_equal(display.filters, weight)
    assert len(display.images_) == 6
    np.testing.assert_array_equal(display.images_[2].get_array(), weight[:, :, 0, 2])
    assert display.images_[2].get_clim() == (weight.min(), weight.max())
    _, ax = pyplot.subplots()
    later = FilterDisplay.from_estimator(cnn, layer="conv2", ax=ax, scale="each")
    assert later.ax_ is ax
    weight = cnn.network_.params[1]["weight"][0]
    np.testing.assert_allclose(later.images_[3].get_array(), weight[..., 3].mean(axis=-1))
    later.plot(channels="each", max_filters=2)
    assert len(later.images_) == 2 * 6
    np.testing.assert_array_equal(later.images_[7].get_array(), weight[:, :, 1, 1])


def test_three_channels_are_colours(pyplot):
    filters = np.random.default_rng(0).normal(size=(5, 4, 3, 7))
    display = FilterDisplay(filters).plot()
    pictures = np.stack([image.get_array() for image in display.images_])
    assert pictures.shape == (7, 5, 4, 3)
    assert pictures.min() == 0
    assert pictures.max() == 1
    each = np.stack([i.get_array() for i in display.plot(scale="each").images_])
    assert (each.max(axis=(1, 2, 3)) == 1).all()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2DTranspose(5, 3), (3, 3, 1, 5)),
        (SeparableConv2D(5, 3), (3, 3, 1, 1)),
        (Conv2D(5, (1, 3)), (1, 3, 1, 5)),
    ],
)
def test_kinds_of_filters(digits, pyplot, layer, shape):
    layers = [("first", layer), ("pool", GlobalAveragePool())]
    net = CNNClassifier(layers, max_iter=1, dtype="float64", random_state=0)
    display = FilterDisplay.from_estimator(net.fit(digits[0][:20], digits[1][:20]))
    assert display.filters.shape == shape


def test_filter_display_errors(cnn, mlp, pyplot):
    with pytest.raises(ValueError, match=r"layer='pool' has no .*filters; .*\['conv1', 'conv2'\]"):
        FilterDisplay.from_estimator(cnn, layer="pool")
    with pytest.raises(ValueError, match="layer='conv3' is none of the layers"):
        FilterDisplay.from_estimator(cnn, layer="conv3")
    with pytest.raises(ValueError, match="channels='red'"):
        FilterDisplay.from_estimator(cnn, channels="red")
    with pytest.raises(ValueError, match="no layer of the network has two-dimensional filters"):
        FilterDisplay.from_estimator(mlp)


def test_rows_as_images():
    X = np.arange(36.0).reshape(2, 18)
    assert as_images(X, (3, 6)).shape == (2, 3, 6, 1)
    assert as_images(X, (2, 3, 3)).shape == (2, 2, 3, 3)
    assert as_images(X[:, :16]).shape == (2, 4, 4, 1)
    assert as_images(X.reshape(2, 3, 6)).shape == (2, 3, 6, 1)
    with pytest.raises(ValueError, match="make no square"):
        as_images(X)
    with pytest.raises(ValueError, match="does not fit samples of 18 features"):
        as_images(X, (4, 4))
