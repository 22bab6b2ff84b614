"""Pooling, resampling and local response layers: values, shapes, training steps, errors."""

import numpy as np
import pytest
from sklearn.base import clone

from skdeep.autodiff import check_grads, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff._tree import flatten, tree_map
from skdeep.autodiff.ops.pool import pool_geometry
from skdeep.layers import (
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    Crop1D,
    Crop2D,
    Crop3D,
    GlobalAveragePool,
    GlobalMaxPool,
    LocalResponseNormalization,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxPoolDepth,
    Pad1D,
    Pad2D,
    Pad3D,
    Upsample1D,
    Upsample2D,
    Upsample3D,
)
from skdeep.layers._network import Network
from tests import naive

#: Name -> layer, the shape of a sample and the shape after the layer.
LAYERS = {
    "max 1-D": (MaxPool1D(3, stride=2), (9, 4), (4, 4)),
    "max 2-D": (MaxPool2D(), (5, 6, 3), (2, 3, 3)),
    "max 2-D overlapping": (MaxPool2D(3, stride=2, padding=1), (7, 6, 3), (4, 3, 3)),
    "max 2-D same": (MaxPool2D((2, 3), padding="same"), (5, 7, 3), (3, 3, 3)),
    "max 3-D": (MaxPool3D((1, 2, 2)), (3, 5, 4, 2), (3, 2, 2, 2)),
    "average 1-D": (AveragePool1D(2, padding="same"), (7, 3), (4, 3)),
    "average 2-D": (AveragePool2D(), (6, 5, 3), (3, 2, 3)),
    "average 2-D trained": (AveragePool2D(trainable=True), (6, 5, 3), (3, 2, 3)),
    "average 2-D pairs": (
        AveragePool2D(2, stride=1, padding=((1, 0), (0, 1))), (4, 4, 2), (4, 4, 2)
    ),
    "average 3-D trained": (AveragePool3D((2, 2, 3), trainable=True), (5, 4, 3, 2), (2, 2, 1, 2)),
    "max depth": (MaxPoolDepth(3), (4, 5, 6), (4, 5, 2)),
    "max depth, flat": (MaxPoolDepth(), (8,), (4,)),
    "global average": (GlobalAveragePool(), (5, 7, 3), (3,)),
    "global average 1-D": (GlobalAveragePool(), (50, 3), (3,)),
    "global average 3-D": (GlobalAveragePool(), (4, 5, 3, 3), (3,)),
    "global max": (GlobalMaxPool(), (5, 7, 3), (3,)),
    "global max 1-D": (GlobalMaxPool(), (300, 2), (2,)),
    "local response": (LocalResponseNormalization(4, 2.0, 0.2, 0.5), (3, 4, 7), (3, 4, 7)),
    "nearest 1-D": (Upsample1D(3), (4, 2), (12, 2)),
    "nearest 2-D": (Upsample2D((2, 3)), (3, 4, 2), (6, 12, 2)),
    "nearest 3-D": (Upsample3D((1, 2, 3)), (2, 2, 3, 2), (2, 4, 9, 2)),
    "linear": (Upsample1D(3, interpolation="linear"), (4, 2), (12, 2)),
    "bilinear": (Upsample2D((2, 3), interpolation="bilinear"), (3, 4, 2), (6, 12, 2)),
    "bilinear, one cell": (Upsample2D(3, interpolation="bilinear"), (1, 2, 2), (3, 6, 2)),
    "trilinear": (Upsample3D(2, interpolation="trilinear"), (2, 3, 2, 1), (4, 6, 4, 1)),
    "crop 1-D": (Crop1D(((2, 0),)), (7, 2), (5, 2)),
    "crop 2-D": (Crop2D(((0, 2), (1, 1))), (6, 5, 2), (4, 3, 2)),
    "crop 3-D": (Crop3D((1, 0, 1)), (4, 2, 5, 2), (2, 2, 3, 2)),
    "pad 1-D": (Pad1D(2), (3, 2), (7, 2)),
    "pad 2-D": (Pad2D(((1, 0), (2, 3))), (3, 4, 2), (4, 9, 2)),
    "pad 2-D, reflected": (Pad2D(2, mode="reflect"), (3, 4, 2), (7, 8, 2)),
    "pad 3-D": (Pad3D((0, 1, 2), mode="reflect"), (2, 3, 4, 1), (2, 5, 8, 1)),
}  # fmt: skip
every_layer = pytest.mark.parametrize("name", LAYERS)


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def network(name, members=1, dtype=np.float64):
    layer, shape, _ = LAYERS[name]
    net = Network([(name, layer)], shape, members, dtype)
    for m in range(members):
        net.initialize(np.random.default_rng(m), m)
    net.data += draw(*net.data.shape, seed=9).astype(dtype) * 0.1  # no trained number is round
    return net


def windowed(oracle):
    """Return what a pooling layer computes on one image, by loops."""

    def expected(layer, x):
        g = pool_geometry(x.shape[:-1], layer.size, layer.stride, layer.padding)
        y = oracle(x, g.kernel, g.stride, g.padding)
        return y[0] if isinstance(y, tuple) else y

    return expected


def interpolated(layer, x):
    """Return linear interpolation axis by axis, cell centres half a cell from the edges."""
    sizes = np.broadcast_to(layer.size, x.ndim - 1)
    for axis, f in enumerate(sizes):
        n = x.shape[axis]
        at = (np.arange(n * f) + 0.5) / f - 0.5
        x = np.apply_along_axis(lambda v, at=at, n=n: np.interp(at, np.arange(n), v), axis, x)
    return x


def repeated(layer, x):
    for axis, f in enumerate(np.broadcast_to(layer.size, x.ndim - 1)):
        x = np.repeat(x, f, axis)
    return x


def margins(value, n):
    values = value if isinstance(value, tuple) else (value,) * n
    return [v if isinstance(v, tuple) else (v, v) for v in values]


def cropped(layer, x):
    ends = zip(x.shape, margins(layer.cropping, x.ndim - 1), strict=False)
    return x[tuple(slice(before, n - after) for n, (before, after) in ends)]


def padded(layer, x):
    return np.pad(x, [*margins(layer.padding, x.ndim - 1), (0, 0)], mode=layer.mode)


def local_response(layer, x):
    numbers = layer.depth_radius, layer.bias, layer.alpha, layer.beta
    return naive.local_response_norm(x.reshape(-1, x.shape[-1]), *numbers).reshape(x.shape)


EXPECTED = {
    "max depth": lambda layer, x: x.reshape(*x.shape[:-1], -1, layer.size).max(-1),
    "max": windowed(naive.max_pool),
    "average": windowed(naive.average_pool),
    "global average": lambda layer, x: x.reshape(-1, x.shape[-1]).mean(0),
    "global max": lambda layer, x: x.reshape(-1, x.shape[-1]).max(0),
    "local response": local_response,
    "nearest": repeated,
    "linear": interpolated,
    "bilinear": interpolated,
    "trilinear": interpolated,
    "crop": cropped,
    "pad": padded,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_layer
def test_value_and_shape(name, dtype):
    layer, shape, after = LAYERS[name]
    net = network(name, 2, dtype)
    assert net.shapes[-1] == after
    x = draw(2, 3, *shape, dtype=dtype)
    y, _ = net.apply(net.params, net.state, x)
    assert y.shape == (2, 3, *after)
    assert y.dtype == dtype
    oracle = next(f for key, f in EXPECTED.items() if name.startswith(key))
    for m, n in np.ndindex(2, 3):
        expected = oracle(layer, x[m, n].astype(np.float64))
        if getattr(layer, "trainable", False):
            params = net.params[0]
            expected = expected * params["coefficient"][m] + params["bias"][m]
        # Sums of up to 60 terms of order one.
        np.testing.assert_allclose(y[m, n], expected, rtol=0, atol=30 * np.finfo(dtype).eps)


@every_layer
def test_derivatives(name):
    _, shape, _ = LAYERS[name]
    net = network(name)
    n = 2 * int(np.prod(shape))
    x = np.random.default_rng(n).permutation(n) * (4.0 / n) - 2.0  # far from ties
    f = lambda x, params: net.apply(params, net.state, x)[0]  # noqa: E731
    check_grads(f, (x.reshape(1, 2, *shape), net.params), order=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_layer
def test_training_step_is_native_and_equals_eager(name, dtype):
    _, shape, after = LAYERS[name]
    net = network(name, 2, dtype)
    x, ct = draw(2, 3, *shape, dtype=dtype), draw(2, 3, *after, dtype=dtype, seed=1)

    def step(x, params):
        y, pullback = vjp(lambda *a: net.apply(a[1], net.state, a[0], training=True)[0], x, params)
        return y, pullback(ct)

    expected = step(x, net.params)
    into = tree_map(np.zeros_like, expected)
    program = record(step, (x, net.params), into)
    assert program.is_native
    program.compile()()
    for got, e in zip(flatten(into)[0], flatten(expected)[0], strict=True):
        assert got.tobytes() == e.tobytes()


@every_layer
def test_members_and_samples_equal_solo_bit_for_bit(name):
    _, shape, _ = LAYERS[name]
    net = network(name, 2, np.float32)
    x = draw(2, 3, *shape, dtype=np.float32)
    y, _ = net.apply(net.params, net.state, x)
    for m, n in np.ndindex(2, 3):
        alone = net.member(m)
        y1, _ = alone.apply(alone.params, alone.state, x[m : m + 1, n : n + 1])
        assert y1.tobytes() == y[m, n].tobytes()


@every_layer
def test_is_a_specification(name):
    layer = LAYERS[name][0]
    again = clone(layer)
    assert again.get_params() == layer.get_params()
    assert again is not layer
    again.validate()


def test_trained_average_begins_as_an_average():
    x = draw(1, 2, 6, 6, 3)
    net = Network([("pool", AveragePool2D(trainable=True))], (6, 6, 3), 1, np.float64)
    net.initialize(np.random.default_rng(0))
    assert net.n_parameters == 6
    plain = AveragePool2D().apply({}, {}, x, None)[0]
    np.testing.assert_array_equal(net.apply(net.params, net.state, x)[0], plain)


def test_bilinear_against_torch():
    torch = pytest.importorskip("torch")
    x = draw(1, 2, 4, 5, 3)
    y, _ = Upsample2D((2, 3), interpolation="bilinear").apply({}, {}, x, None)
    peer = torch.nn.functional.interpolate(
        torch.tensor(np.moveaxis(x[0], -1, 1).copy()), scale_factor=(2, 3), mode="bilinear"
    )
    # torch rounds 1 / 3 to a float32 scale factor, and multiplies by it.
    np.testing.assert_allclose(y[0], np.moveaxis(peer.numpy(), 1, -1), rtol=0, atol=1e-6)


WRONG = [
    (MaxPool2D(), (28, 28), r"MaxPool2D takes samples of shape \(height, width, channels\)"),
    (AveragePool1D(), (5, 5, 1), r"AveragePool1D takes .* got samples of shape \(5, 5, 1\)"),
    (MaxPool2D(6), (5, 5, 1), r"size=\(6, 6\) .* larger than the input of spatial shape \(5, 5\)"),
    (MaxPool2D(2, padding=2), (5, 5, 1), "padding=2 with size=2"),
    (MaxPool2D((2, 2, 2)), (5, 5, 1), r"size=\(2, 2, 2\)"),
    (MaxPool2D(0), (5, 5, 1), "'size' parameter of MaxPool2D"),
    (AveragePool2D(stride=0), (5, 5, 1), "'stride' parameter of AveragePool2D"),
    (AveragePool2D(padding="full"), (5, 5, 1), "'padding' parameter of AveragePool2D"),
    (AveragePool2D(trainable=2), (5, 5, 1), "'trainable' parameter of AveragePool2D"),
    (MaxPoolDepth(3), (5, 5, 4), r"size=3 must divide the channels .* \(5, 5, 4\)"),
    (MaxPoolDepth(0), (5, 5, 4), "'size' parameter of MaxPoolDepth"),
    (GlobalAveragePool(), (5,), r"GlobalAveragePool takes .* got samples of shape \(5,\)"),
    (GlobalMaxPool(), (0, 3), r"GlobalMaxPool takes .* got samples of shape \(0, 3\)"),
    (LocalResponseNormalization(bias=0), (5, 5, 4), "'bias' parameter"),
    (LocalResponseNormalization(2.5), (5, 5, 4), "'depth_radius' parameter"),
    (Upsample2D(0), (5, 5, 1), "'size' parameter of Upsample2D"),
    (Upsample2D((2, 0)), (5, 5, 1), r"size=\(2, 0\)"),
    (Upsample2D(interpolation="linear"), (5, 5, 1), "'interpolation' parameter of Upsample2D"),
    (Upsample1D(), (5, 5, 1), "Upsample1D takes samples"),
    (Crop2D(3), (6, 8, 1), r"cropping=3 leaves nothing of .* \(6, 8\)"),
    (Crop2D((1, 2, 3)), (9, 9, 1), r"cropping=\(1, 2, 3\)"),
    (Crop2D(-1), (9, 9, 1), "'cropping' parameter of Crop2D"),
    (Pad2D(4, mode="reflect"), (4, 9, 1), r"padding=4 with mode='reflect' .* \(4, 9\)"),
    (Pad2D(((1, -1), 2)), (4, 9, 1), r"padding=\(1, -1\)"),
    (Pad2D(mode="wrap"), (4, 9, 1), "'mode' parameter of Pad2D"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), WRONG)
def test_wrong_arguments(layer, shape, message):
    with pytest.raises(ValueError, match=f"layer 'wrong': .*{message}"):
        Network([("wrong", layer)], shape)
