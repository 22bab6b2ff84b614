"""Activation maximisation."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skdeep.inspection import activation_maximization, feature_maps
from skdeep.layers import Conv2D, Dense, Flatten, GlobalAveragePool
from skdeep.neural_network import CNNClassifier


@pytest.mark.parametrize("channel", [None, 2])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "output"])
@pytest.mark.parametrize("options", [{}, dict(jitter=1, blur=0.5, l2=0.01, clip=(0, 1))])
def test_objective_increases(cnn, layer, channel, options):
    image, objective = activation_maximization(
        cnn, layer=layer, channel=channel, n_iter=12, random_state=0, **options
    )
    assert image.shape == (8, 8, 1)
    assert objective.shape == (1, 13)
    assert objective[0, -1] > objective[0, 0]
    if "clip" in options:
        assert image.min() >= 0
        assert image.max() <= 1


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_last_objective_is_that_of_the_image(cnn, l2):
    image, objective = activation_maximization(
        cnn, layer="conv2", channel=5, n_iter=4, l2=l2, random_state=0
    )
    activation = feature_maps(cnn, image[None], layer="conv2")[..., 5].mean()
    np.testing.assert_allclose(objective[0, -1], activation - l2 * np.mean(image**2), rtol=1e-12)


def test_first_step_is_along_the_weight_of_a_linear_objective(digits):
    layers = [("flat", Flatten()), ("output", Dense(10))]
    net = CNNClassifier(layers, dtype="float64", max_iter=1, random_state=0).fit(*digits)
    start = digits[0][0]
    image, objective = activation_maximization(
        net, layer="output", channel=3, image=start, n_iter=5, learning_rate=0.1
    )
    weight = net.network_.params[-1]["weight"][0][:, 3]
    size = np.sqrt(np.mean(weight**2))
    # Five equal steps of size 0.1 along the weight; the objective is linear in them.
    np.testing.assert_allclose(image, start + 0.5 * weight / size, rtol=1e-12)
    np.testing.assert_allclose(np.diff(objective[0]), 0.1 * 64 * size, rtol=1e-9)
    # Pixels have weights of their own, so the image has one size.
    with pytest.raises(ValueError, match=r"layer 'output' .*shape \(16, 16, 1\)"):
        activation_maximization(net, layer="output", image=np.zeros((16, 16)))
    with pytest.raises(ValueError, match="octaves=1"):
        activation_maximization(net, layer="output", octaves=2)


@pytest.mark.parametrize("options", [dict(jitter=2), dict(octaves=2, octave_scale=1.2)])
def test_random_state_fixes_everything(cnn, options):
    def draw(seed):
        return activation_maximization(cnn, layer="conv1", n_iter=3, random_state=seed, **options)

    for first, second in zip(draw(0), draw(0), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(draw(0)[0], draw(1)[0])


@pytest.mark.parametrize("shape", [(64,), (8, 8), (8, 8, 1), (20, 13), (20, 13, 1)])
def test_image_keeps_its_shape(cnn32, shape):
    start = np.random.default_rng(0).random(shape)
    given = start.copy()
    image, objective = activation_maximization(
        cnn32, layer="conv1", image=start, n_iter=4, octaves=2, octave_scale=1.3
    )
    assert image.shape == shape
    assert image.dtype == objective.dtype == np.float32
    assert objective.shape == (2, 5)
    assert (objective[:, -1] > objective[:, 0]).all()
    np.testing.assert_array_equal(start, given)
    assert not np.array_equal(image, start.astype(np.float32))


def test_octaves_keep_the_image_where_nothing_is_found(digits):
    """With no step to make, the octaves give the very image back."""
    layers = [("conv1", Conv2D(2, 3, activation="relu")), ("pool", GlobalAveragePool())]
    net = CNNClassifier(layers, dtype="float64", max_iter=1, random_state=0).fit(*digits)
    net.network_.params[0]["bias"][...] = -100  # relu keeps everything at zero
    start = np.random.default_rng(0).random((12, 12))
    with pytest.warns(UserWarning, match="layer='conv1', channel=0 does not depend"):
        image, objective = activation_maximization(
            net, layer="conv1", channel=0, image=start, octaves=3, octave_scale=1.5, n_iter=2
        )
    np.testing.assert_array_equal(image, start)
    assert not objective.any()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (dict(layer="conv7"), ValueError, "layer='conv7' is none of the layers"),
        (dict(channel=6), ValueError, "channel=6 is none of the 6 channels"),
        (dict(channel=-1), ValueError, "channel=-1"),
        (dict(channel=1.5), TypeError, "channel must be an instance of int"),
        (dict(n_iter=0), ValueError, "n_iter == 0"),
        (dict(learning_rate=0.0), ValueError, "learning_rate == 0"),
        (dict(octaves=0), ValueError, "octaves == 0"),
        (dict(octave_scale=1.0), ValueError, "octave_scale == 1"),
        (dict(jitter=-1), ValueError, "jitter == -1"),
        (dict(blur=-1.0), ValueError, "blur == -1"),
        (dict(l2=-1.0), ValueError, "l2 == -1"),
        (dict(clip=(1, 0)), ValueError, "low < high"),
        (dict(image=np.zeros((8, 8, 3))), ValueError, r"image has shape \(8, 8, 3\)"),
        (dict(image=np.zeros(60)), ValueError, r"image has shape \(60,\)"),
        (dict(image=np.zeros((2, 2))), ValueError, "layer 'conv1' does not take"),
        (dict(octaves=9, octave_scale=2.0), ValueError, "layer 'conv1' does not take"),
    ],
)
def test_wrong_parameters(cnn, parameters, error, message):
    with pytest.raises(error, match=message):
        activation_maximization(cnn, **{"layer": "conv1", **parameters})


def test_wrong_estimators(mlp):
    with pytest.raises(NotFittedError):
        activation_maximization(CNNClassifier(), layer="conv1")
    with pytest.raises(ValueError, match="no images"):
        activation_maximization(mlp, layer=mlp.network_.layers[0][0])
