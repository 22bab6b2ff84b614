"""Convolutional layers: against loops, torch and finite differences; their shapes and errors."""

import numpy as np
import pytest
from sklearn.base import clone

from skdeep.autodiff import check_grads, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops.conv import geometry
from skdeep.layers import Constant, Flatten
from skdeep.layers._convolution import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
)
from skdeep.layers._network import Network
from skdeep.layers._separable import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    DepthwiseConv3D,
    SeparableConv1D,
    SeparableConv2D,
    SeparableConv3D,
)
from tests import naive

#: Name -> layer and the shape of a sample; odd sizes throughout.
FORWARD = {
    "1-D": (Conv1D(4), (9, 3)),
    "1-D strided": (Conv1D(3, 4, stride=3, padding="same", activation="relu"), (11, 2)),
    "2-D": (Conv2D(5), (5, 7, 3)),
    "2-D same relu": (Conv2D(4, (2, 5), padding="same", activation="relu"), (7, 6, 3)),
    "2-D strided tanh": (Conv2D(4, 3, stride=(2, 1), padding=1, activation="tanh"), (7, 6, 3)),
    "2-D pairs": (Conv2D(3, 3, padding=((2, 0), (0, 1)), use_bias=False), (4, 5, 1)),
    "2-D dilated": (Conv2D(3, 3, dilation=(2, 1), padding="same"), (6, 5, 2)),
    "2-D grouped": (Conv2D(6, 3, groups=3, activation=np.sin), (5, 5, 6)),
    "2-D 1x1": (Conv2D(7, 1, activation="relu"), (3, 5, 4)),
    "2-D without winograd": (Conv2D(4, 3, winograd=False, padding="same"), (6, 7, 5)),
    "3-D": (Conv3D(3, (2, 3, 1), stride=(1, 2, 1), padding=(0, 1, 0)), (3, 5, 4, 2)),
    "depthwise 1-D": (DepthwiseConv1D(4, stride=2), (9, 3)),
    "depthwise 2-D": (DepthwiseConv2D(3, padding="same", activation="relu"), (5, 6, 5)),
    "depthwise multiplied": (DepthwiseConv2D((3, 2), depth_multiplier=3, dilation=2), (7, 6, 2)),
    "depthwise 3-D": (DepthwiseConv3D(2, depth_multiplier=2), (3, 4, 3, 2)),
}
SEPARABLE = {
    "separable 1-D": (SeparableConv1D(4, 3, stride=2), (9, 3)),
    "separable 2-D": (SeparableConv2D(5, 3, padding="same", activation="relu"), (5, 6, 3)),
    "separable multiplied": (SeparableConv2D(3, 2, depth_multiplier=2, use_bias=False), (5, 4, 2)),
    "separable 3-D": (SeparableConv3D(3, 2, activation="tanh"), (3, 4, 3, 2)),
}
TRANSPOSED = {
    "transposed 1-D": (Conv1DTranspose(4, 3, stride=2), (5, 3)),
    "transposed 2-D": (Conv2DTranspose(4, 3, activation="relu"), (4, 5, 3)),
    "transposed padded": (
        Conv2DTranspose(4, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2)), (4, 3, 3)
    ),
    "transposed grouped": (Conv2DTranspose(6, 3, stride=2, groups=2, dilation=2), (3, 4, 4)),
    "transposed 3-D": (Conv3DTranspose(2, 2, stride=2, activation="tanh"), (2, 3, 2, 3)),
}  # fmt: skip
ALL = FORWARD | SEPARABLE | TRANSPOSED


def network(layer, shape, members=1, dtype=np.float64):
    """Return a network of one layer whose parameters, biases too, are drawn at random."""
    net = Network([("conv", layer)], shape, members, dtype)
    net.data[:] = np.random.default_rng(1).standard_normal(net.data.shape)
    return net


def images(shape, n=2, members=1):
    return np.random.default_rng(2).standard_normal((members, n, *shape))


def forward(net, x):
    return net.apply(net.params, net.state, x)[0]


def window(layer, spatial):
    """Return the geometry of a layer's convolution over images of a spatial shape."""
    kw = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
    return geometry(spatial, layer.kernel_size, **kw)


def activated(layer, y):
    functions = {"identity": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}
    return functions.get(layer.activation, layer.activation)(y)


@pytest.mark.parametrize("case", FORWARD | SEPARABLE)
def test_forward_equals_loops(case):
    layer, shape = ALL[case]
    net, x = network(layer, shape), images(shape)
    params = {name: p[0] for name, p in net.params[0].items()}
    got = forward(net, x)
    assert got.shape == (1, 2, *net.shapes[-1])
    assert ("bias" in params) == layer.use_bias
    g = window(layer, shape[:-1])
    if case in SEPARABLE:
        middle = naive.conv(x[0], params["depthwise"], g, groups=shape[-1])
        pointwise = params["pointwise"].reshape(params["pointwise"].shape[-2:])
        expected = middle @ pointwise
    else:
        groups = getattr(layer, "groups", shape[-1])
        expected = naive.conv(x[0], params["weight"], g, groups)
    expected = activated(layer, expected + params.get("bias", 0))
    # Sums of some ten to fifty products of order one, in another order.
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_equals_loops(case):
    layer, shape = TRANSPOSED[case]
    net, x = network(layer, shape), images(shape)
    weight, bias = net.params[0]["weight"][0], net.params[0]["bias"][0]
    g = window(layer, net.shapes[-1][:-1])
    assert g.out == shape[:-1]
    expected = activated(layer, naive.conv_input_grad(x[0], weight, g, layer.groups) + bias)
    np.testing.assert_allclose(forward(net, x)[0], expected, rtol=0, atol=1e-12)


def to_torch(a):
    """Return a tensor with the channels before the spatial axes."""
    return pytest.importorskip("torch").tensor(np.moveaxis(a, -1, 1))


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_equals_torch(case):
    torch = pytest.importorskip("torch")
    layer, shape = TRANSPOSED[case]
    net, x = network(layer, shape), images(shape)
    weight, bias = net.params[0]["weight"][0], net.params[0]["bias"][0]
    function = getattr(torch.nn.functional, f"conv_transpose{len(shape) - 1}d")
    y = function(
        to_torch(x[0]),
        torch.tensor(np.moveaxis(weight, (-1, -2), (0, 1))),
        torch.tensor(bias),
        stride=layer.stride,
        padding=0 if layer.padding == "valid" else layer.padding,
        output_padding=layer.output_padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    expected = activated(layer, np.moveaxis(y.numpy(), 1, -1))
    np.testing.assert_allclose(forward(net, x)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_same_is_the_adjoint(stride):
    up = Conv2DTranspose(3, 3, stride=stride, padding="same", use_bias=False)
    net, x = network(up, (4, 5, 2)), images((4, 5, 2))
    down = Conv2D(2, 3, stride=stride, padding="same", use_bias=False)
    back = Network([("conv", down)], net.shapes[-1], 1, np.float64)
    assert net.shapes[-1] == (4 * stride, 5 * stride, 3)
    assert back.shapes[-1] == (4, 5, 2)
    back.params[0]["weight"][:] = net.params[0]["weight"]
    y = images(net.shapes[-1])
    # <up(x), y> = <x, down(y)>, to the rounding of sums of a few hundred products.
    np.testing.assert_allclose(
        np.sum(forward(net, x) * y), np.sum(x * forward(back, y)), rtol=1e-11
    )


@pytest.mark.parametrize("case", ALL)
def test_gradients(case):
    layer, shape = ALL[case]
    net, x = network(layer, shape), images(shape)
    # A step across the corner of relu would be a wrong difference: none is that near to 0.
    check_grads(lambda params, x: net.apply(params, net.state, x)[0], (net.params, x), order=1)


@pytest.mark.parametrize("case", ALL)
def test_members_equal_solo(case):
    layer, shape = ALL[case]
    net, x = network(layer, shape, members=3, dtype=np.float32), images(shape, members=3)
    x = x.astype(np.float32)
    together = forward(net, x)
    assert together.dtype == np.float32
    for m in range(3):
        assert forward(net.member(m), x[m : m + 1]).tobytes() == together[m].tobytes()


@pytest.mark.parametrize("case", [case for case in ALL if not callable(ALL[case][0].activation)])
def test_pass_and_gradient_are_compiled(case):
    layer, shape = ALL[case]
    net, x = network(layer, shape, dtype=np.float32), images(shape).astype(np.float32)
    ct = np.random.default_rng(3).standard_normal((1, 2, *net.shapes[-1])).astype(np.float32)

    def step(params, x, ct):
        y, pullback = vjp(lambda params: net.apply(params, net.state, x)[0], params)
        return y, pullback(ct)[0]

    into = np.zeros_like(ct), [{k: np.zeros_like(p) for k, p in net.params[0].items()}]
    program = record(step, (net.params, x, ct), into)
    assert program.is_native
    program.run()
    y, (gradient,) = step(net.params, x, ct)
    assert into[0].tobytes() == y.tobytes()
    for name, g in gradient.items():
        assert into[1][0][name].tobytes() == g.tobytes()


@pytest.mark.parametrize("case", ALL)
def test_build_agrees_with_apply(case):
    layer, shape = ALL[case]
    net = network(layer, shape)
    assert forward(net, images(shape)).shape[2:] == layer.build(shape).output_shape
    assert clone(layer).build(shape).output_shape == layer.build(shape).output_shape


# ---- counts ------------------------------------------------------------------------------------


def test_the_books_example():
    """A 5x5 convolution of 150 x 100 images to 200 maps (Géron, "Memory Requirements")."""
    net = Network([("conv", Conv2D(200, 5, padding="same"))], (150, 100, 3))
    assert net.n_parameters == 15_200
    assert net.built[0].multiply_adds == 225_000_000
    assert round(np.prod(net.shapes[-1]) * 4 / 2**20, 1) == 11.4


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "products"),
    [
        (Conv1D(4, 3), (10, 2), 28, 8 * 4 * 6),
        (Conv2D(8, 3, groups=2), (6, 6, 4), 152, 16 * 8 * 18),
        (Conv2D(8, 3, use_bias=False), (6, 6, 4), 288, 16 * 8 * 36),
        (DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 4), 80, 16 * 8 * 9),
        (SeparableConv2D(8, 3), (6, 6, 4), 76, 16 * 4 * (9 + 8)),
        (Conv2DTranspose(8, 3), (6, 6, 4), 296, 36 * 4 * 9 * 8),
    ],
    ids=lambda value: str(value),
)
def test_counts(layer, shape, parameters, products):
    net = Network([("conv", layer)], shape)
    assert net.n_parameters == parameters
    assert net.built[0].multiply_adds == products


def test_weights_are_penalised_and_biases_are_not():
    for layer, shape in ALL.values():
        for name, p in layer.build(shape).parameters.items():
            assert p.penalised == (name != "bias")


# ---- initialisation ----------------------------------------------------------------------------


def drawn(layer, shape):
    net = Network([("conv", layer)], shape, 1, np.float64)
    net.initialize(np.random.default_rng(0))
    return {name: p[0] for name, p in net.params[0].items()}


@pytest.mark.parametrize("activation", ["relu", "elu", "silu"])
def test_auto_is_he_before_the_relu_family(activation):
    p = drawn(Conv2D(64, 3, groups=2, activation=activation), (8, 8, 32))
    # 9216 draws: the sample variance is within 5 of its deviations of sqrt(2 / 9216) = 1.5 %.
    assert p["weight"].var() * (9 * 16) == pytest.approx(2.0, rel=0.075)
    assert not p["bias"].any()


@pytest.mark.parametrize("activation", ["identity", "tanh", np.sin])
def test_auto_is_as_in_dense_otherwise(activation):
    p = drawn(Conv2D(64, 3, groups=2, activation=activation), (8, 8, 32))
    bound = np.sqrt(6 / (9 * 16 + 9 * 32))
    for values in p.values():
        assert 0.9 * bound < np.abs(values).max() <= bound


def test_biases_are_zeros_beside_a_given_initializer():
    assert not drawn(Conv2D(4, kernel_initializer="glorot_normal"), (8, 8, 2))["bias"].any()
    p = drawn(Conv2D(4, bias_initializer=Constant(2.0), activation="relu"), (8, 8, 2))
    assert (p["bias"] == 2.0).all()


def test_separable_layers_keep_the_scale():
    p = drawn(SeparableConv2D(64, 5, activation="relu"), (8, 8, 256))
    assert p["depthwise"].var() * 25 == pytest.approx(1.0, rel=0.1)  # 6400 draws
    assert p["pointwise"].var() * 256 == pytest.approx(2.0, rel=0.06)  # 16384 draws


# ---- errors ------------------------------------------------------------------------------------

#: For samples of so many axes, a layer that keeps their shape.
KEEPS = {2: DepthwiseConv1D(1), 3: DepthwiseConv2D(1)}


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2D(4), (28, 28), r"Conv2D takes .*\(28, 28\).*1 channel"),
        (Conv1D(4), (28, 28, 1), r"Conv1D takes .*\(length, channels\).*\(28, 28, 1\)"),
        (Conv2D(4, 9), (8, 20, 1), r"kernel_size=\(9, 9\).*\(8, 20\).*padding='valid'"),
        (Conv2D(4, 3, dilation=4), (8, 8, 1), r"dilation=\(4, 4\)"),
        (Conv2D(4, (3, 3, 3)), (8, 8, 1), r"kernel_size=\(3, 3, 3\)"),
        (Conv2D(4, stride=(0, 1)), (8, 8, 1), r"stride=\(0, 1\)"),
        (Conv2D(4, padding=(-1, 0)), (8, 8, 1), r"padding=\(-1, 0\)"),
        (Conv2D(4, groups=2), (8, 8, 3), "groups=2 must divide the 3 input channels"),
        (Conv2D(3, groups=2), (8, 8, 4), "groups=2 must divide the 3 filters"),
        (Conv2D(4, activation="rely"), (8, 8, 1), "activation='rely'"),
        (Conv2D(4, winograd=True), (8, 8, 1), "winograd=True"),
        (DepthwiseConv2D(9), (8, 8, 1), r"kernel_size=\(9, 9\)"),
        (SeparableConv2D(4), (8, 8), r"SeparableConv2D takes"),
        (Conv2DTranspose(4, output_padding=1), (8, 8, 1), "output_padding=1.*stride"),
        (Conv2DTranspose(4, padding=9), (2, 2, 1), "padding=9"),
        (Conv2DTranspose(4, groups=3), (8, 8, 3), "groups=3 must divide the 4 filters"),
    ],
    ids=lambda value: str(value) if not isinstance(value, str) else "",
)
def test_errors_name_layer_and_shapes(layer, shape, message):
    with pytest.raises(ValueError, match=rf"(?s)layer 'second': .*{message}.*shapes so far"):
        Network([("first", KEEPS[len(shape)]), ("second", layer)], shape)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Conv2D, dict(filters=0)),
        (Conv2D, dict(filters=4, kernel_size="3")),
        (Conv2D, dict(filters=4, stride=0)),
        (Conv2D, dict(filters=4, padding="full")),
        (Conv2D, dict(filters=4, winograd="f8")),
        (Conv2D, dict(filters=4, use_bias=None)),
        (DepthwiseConv2D, dict(depth_multiplier=0)),
        (SeparableConv2D, dict(filters=4, dilation=1.5)),
        (Conv2DTranspose, dict(filters=4, output_padding=-1)),
    ],
)
def test_parameters_are_checked(kind, parameters):
    name = list(parameters)[-1]
    with pytest.raises(ValueError, match=f"'{name}' parameter of {kind.__name__}"):
        kind(**parameters).build((8, 8, 4))


def test_flatten_after_it():
    net = Network([("conv", Conv2D(4)), ("flatten", Flatten())], (6, 5, 2), 1, np.float64)
    net.initialize(np.random.default_rng(0))
    assert forward(net, images((6, 5, 2))).shape == (1, 2, 4 * 3 * 4)
