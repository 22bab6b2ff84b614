"""Residual units and inception modules: their graphs, values, gradients and parameters."""

import numpy as np
import pytest
from sklearn.base import clone

from skdeep.autodiff import check_grads, vjp
from skdeep.autodiff._program import record
from skdeep.layers import BatchNormalization, Context, Dense
from skdeep.layers._blocks import Inception, Residual
from skdeep.layers._convolution import Conv1D, Conv2D
from skdeep.layers._network import Network
from skdeep.layers._pooling import MaxPool2D
from skdeep.layers._rbf import RBF

CUSTOM = [
    ("conv", Conv2D(6, 3, padding="same", activation="tanh")),
    ("norm", BatchNormalization()),
]
#: Name -> block and the shape of a sample.
BLOCKS = {
    "basic": (Residual(filters=4), (5, 6, 4)),
    "basic projected": (Residual(filters=6, stride=2), (5, 6, 4)),
    "bottleneck": (Residual(filters=2, bottleneck=True), (5, 5, 8)),
    "bottleneck projected": (Residual(filters=2, bottleneck=True, stride=2), (5, 6, 4)),
    "preactivation": (Residual(filters=4, preactivation=True), (5, 6, 4)),
    "preactivation projected": (Residual(filters=6, stride=2, preactivation=True), (5, 6, 4)),
    "always projected": (Residual(filters=4, shortcut="projection"), (5, 6, 4)),
    "other activation": (Residual(filters=4, activation="tanh"), (5, 6, 4)),
    "no activation": (Residual(filters=4, activation="identity"), (5, 6, 4)),
    "sequences": (Residual(filters=6, stride=3), (10, 4)),
    "custom": (Residual(CUSTOM), (5, 6, 4)),
    "custom shortcut": (
        Residual(
            [("conv", Conv2D(6, stride=2, padding="same"))],
            shortcut=[("pool", MaxPool2D(2, padding="same")), ("mix", Conv2D(6, 1))],
        ),
        (5, 6, 4),
    ),
    "dense": (Residual([("one", Dense(8, "relu")), ("two", Dense(5))]), (5,)),
    "dense projected": (Residual([("one", Dense(8, "relu")), ("two", Dense(5))]), (3,)),
    "inception": (Inception(3, 2, 4, 2, 3, 2), (5, 6, 4)),
    "inception normalised": (Inception(3, 2, 4, 2, 3, 2, batch_norm=True), (5, 6, 4)),
}


def network(block, shape, dtype=np.float64):
    """Return a network of one block with random parameters and moving averages."""
    net = Network([("block", block)], shape, 1, dtype)
    rng = np.random.default_rng(1)
    net.data[:] = rng.standard_normal(net.data.shape)
    net.state_data[:] = rng.uniform(0.5, 2.0, net.state_data.shape)
    return net


def images(shape, n=3):
    return np.random.default_rng(3).standard_normal((1, n, *shape))


@pytest.mark.parametrize("case", BLOCKS)
def test_gradients(case):
    block, shape = BLOCKS[case]
    net, x = network(block, shape), images(shape)
    f = lambda params, x: net.apply(params, net.state, x, training=True)[0]  # noqa: E731
    # Differences through square roots of variances: their third derivatives are larger. With
    # these draws no relu and no maximum changes its side within a step.
    check_grads(f, (net.params, x), order=1, rtol=1e-5, atol=1e-5)


# Concatenation runs by NumPy calls.
@pytest.mark.parametrize("case", [case for case in BLOCKS if "inception" not in case])
def test_training_step_is_compiled(case):
    block, shape = BLOCKS[case]
    net, x = network(block, shape, np.float32), images(shape).astype(np.float32)
    ct = np.ones((1, 3, *net.shapes[-1]), np.float32)

    def step(params, x, ct):
        apply = lambda params: net.apply(params, net.state, x, training=True)[0]  # noqa: E731
        return vjp(apply, params)[1](ct)[0]

    into = [{name: np.zeros_like(p) for name, p in layer.items()} for layer in net.params]
    assert record(step, (net.params, x, ct), into).is_native


# ---- values ------------------------------------------------------------------------------------


class Peer:
    """The pieces of a block in torch, with a network's parameters."""

    def __init__(self, net):
        self.torch = pytest.importorskip("torch")
        self.leaves = {name: a[0] for name, a in net.leaves().items()}
        self.state = dict(zip([name for name, _ in net.layers], net.state, strict=True))

    def conv(self, x, name, stride=1):
        w = self.torch.tensor(np.moveaxis(self.leaves[f"block.{name}.weight"], (-1, -2), (0, 1)))
        b = self.leaves.get(f"block.{name}.bias")
        b = None if b is None else self.torch.tensor(b)
        pad = w.shape[-1] // 2
        return self.torch.nn.functional.conv2d(x, w, b, stride=stride, padding=pad)

    def norm(self, x, name):
        kept = self.state[f"block.{name}"]
        kept = [self.torch.tensor(kept[k][0]) for k in ("mean", "variance")]
        scale = [self.torch.tensor(self.leaves[f"block.{name}.{k}"]) for k in ("gamma", "beta")]
        return self.torch.nn.functional.batch_norm(x, *kept, *scale, eps=1e-5)


def basic(peer, x, stride, relu):
    y = relu(peer.norm(peer.conv(x, "conv1_conv", stride), "conv1_norm"))
    y = peer.norm(peer.conv(y, "conv2_conv"), "conv2")
    if stride > 1:
        x = peer.norm(peer.conv(x, "shortcut_conv", stride), "shortcut")
    return relu(x + y)


def bottleneck(peer, x, stride, relu):
    y = relu(peer.norm(peer.conv(x, "conv1_conv"), "conv1_norm"))
    y = relu(peer.norm(peer.conv(y, "conv2_conv", stride), "conv2_norm"))
    y = peer.norm(peer.conv(y, "conv3_conv"), "conv3")
    if stride > 1:
        x = peer.norm(peer.conv(x, "shortcut_conv", stride), "shortcut")
    return relu(x + y)


def preactivated(peer, x, stride, relu):
    first = relu(peer.norm(x, "conv1_norm"))
    y = relu(peer.norm(peer.conv(first, "conv1", stride), "conv2_norm"))
    y = peer.conv(y, "conv2")
    return y + (peer.conv(first, "shortcut", stride) if stride > 1 else x)


def inception(peer, x, stride, relu):
    pooled = peer.torch.nn.functional.max_pool2d(x, 3, 1, 1)
    ends = [
        relu(peer.conv(x, "branch1")),
        relu(peer.conv(relu(peer.conv(x, "branch3_reduce")), "branch3")),
        relu(peer.conv(relu(peer.conv(x, "branch5_reduce")), "branch5")),
        relu(peer.conv(pooled, "pool_proj")),
    ]
    return peer.torch.cat(ends, 1)


@pytest.mark.parametrize(
    ("case", "forward", "stride"),
    [
        ("basic", basic, 1),
        ("basic projected", basic, 2),
        ("bottleneck", bottleneck, 1),
        ("bottleneck projected", bottleneck, 2),
        ("preactivation", preactivated, 1),
        ("preactivation projected", preactivated, 2),
        ("inception", inception, 1),
    ],
)
def test_values_equal_torch(case, forward, stride):
    block, shape = BLOCKS[case]
    net, x = network(block, shape), images(shape)
    peer = Peer(net)
    y = forward(peer, peer.torch.tensor(np.moveaxis(x[0], -1, 1)), stride, peer.torch.relu)
    got = net.apply(net.params, net.state, x)[0][0]
    # Values up to some hundreds, summed in another order.
    np.testing.assert_allclose(got, np.moveaxis(y.numpy(), 1, -1), rtol=1e-11, atol=1e-11)


def test_custom_layers_are_added_to_the_input():
    net, x = network(*BLOCKS["dense"]), images((5,))
    (w1, b1), (w2, b2) = ((p["weight"][0], p["bias"][0]) for p in net.params[:2])
    expected = np.maximum(x[0] + np.maximum(x[0] @ w1 + b1, 0) @ w2 + b2, 0)
    np.testing.assert_allclose(net.apply(net.params, net.state, x)[0][0], expected, atol=1e-12)


# ---- graphs ------------------------------------------------------------------------------------


def names(block, shape):
    return [name.removeprefix("block.") for name, _ in network(block, shape).layers]


def test_graphs():
    assert names(Residual(filters=4), (5, 5, 4)) == [
        "conv1_conv", "conv1_norm", "conv1", "conv2_conv", "conv2", "add", "activation",
    ]  # fmt: skip
    assert names(Residual(filters=4, preactivation=True, stride=2), (5, 5, 4)) == [
        "conv1_norm", "conv1_activation", "conv1", "conv2_norm", "conv2_activation", "conv2",
        "shortcut", "add",
    ]  # fmt: skip
    assert names(*BLOCKS["custom shortcut"]) == ["conv", "pool", "mix", "add", "activation"]
    assert names(*BLOCKS["dense projected"])[2:4] == ["shortcut_conv", "shortcut"]


@pytest.mark.parametrize(
    ("block", "shape", "out"),
    [
        (Residual(filters=64, stride=2), (56, 56, 64), (28, 28, 64)),
        (Residual(filters=64, bottleneck=True), (56, 56, 64), (56, 56, 256)),
        (Residual(filters=8, stride=2), (7, 5, 3), (4, 3, 8)),
        (Residual(filters=8, stride=2), (9, 3), (5, 8)),
        (Residual(filters=4, stride=2), (4, 5, 6, 2), (2, 3, 3, 4)),
        (Inception(64, 96, 128, 16, 32, 32), (28, 28, 192), (28, 28, 256)),
    ],
    ids=str,
)
def test_shapes(block, shape, out):
    assert Network([("block", block)], shape).shapes[-1] == out


def test_count_of_the_first_inception_module():
    net = Network([("block", Inception(64, 96, 128, 16, 32, 32))], (28, 28, 192))
    assert net.n_parameters == 163_696
    assert sum(built.multiply_adds for built in net.built) == 128_049_152  # the paper: 128 M


# ---- parameters --------------------------------------------------------------------------------


def test_parameters_of_nested_layers():
    block = Residual(CUSTOM, shortcut=[("mix", Conv2D(6, 1))])
    params = block.get_params()
    assert params["conv__kernel_size"] == 3
    assert params["mix__filters"] == 6
    copy = clone(block).set_params(conv__kernel_size=5, mix=Conv2D(6, 3, padding="same"))
    assert copy.layers[0][1].kernel_size == 5
    assert copy.shortcut[0][1].kernel_size == 3
    assert block.layers[0][1].kernel_size == 3
    assert block.shortcut[0][1].kernel_size == 1
    inner = Residual([("unit", block)], shortcut="projection")
    inner.set_params(unit__conv__filters=7)
    assert block.layers[0][1].filters == 7


@pytest.mark.parametrize("case", BLOCKS)
def test_clone(case):
    block, shape = BLOCKS[case]
    copy = clone(block)
    assert copy is not block
    assert repr(copy) == repr(block)
    assert Network([("b", copy)], shape).n_parameters == network(block, shape).n_parameters


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "shape", "message"),
    [
        (Residual(), (5, 5, 4), "either a list of layers, or the filters"),
        (Residual(CUSTOM, filters=4), (5, 5, 4), "either a list of layers, or the filters"),
        (Residual(CUSTOM, stride=2), (5, 5, 4), "stride=2 is for the standard layers"),
        (Residual(CUSTOM, bottleneck=True), (5, 5, 4), "bottleneck=True is for the standard"),
        (Residual([]), (5, 5, 4), "layers is empty"),
        (Residual(filters=0), (5, 5, 4), "'filters' parameter of Residual"),
        (Residual(filters=4, shortcut="none"), (5, 5, 4), "'shortcut' parameter of Residual"),
        (Residual(filters=4, shortcut=[]), (5, 5, 4), r"shortcut=\[\] is empty"),
        (Residual(filters=4, shortcut="identity"), (5, 5, 3), r"shortcut='identity'.*\(5, 5, 3\)"),
        (Residual(filters=4), (7,), r"filters=4 makes convolutions.*\(7,\)"),
        (
            Residual([("conv", Conv2D(4))]), (9, 5, 4),
            r"no projection by strides brings.*\(9, 5, 4\).*\(7, 3, 4\)",
        ),
        (Residual([("conv", Conv1D(4))]), (5, 5, 4), "layer 'conv': Conv1D takes"),
        (Residual(CUSTOM, shortcut=CUSTOM), (5, 5, 4), "two layers of the name 'conv'"),
        (Inception(3, 2, 4, 2, 3, 0), (5, 5, 4), "'pool_proj' parameter of Inception"),
        (Inception(3, 2, 4, 2, 3, 2), (5, 4), "Conv2D takes samples"),
        (RBF(3), (5, 5, 1), "RBF takes flat samples"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_errors(block, shape, message):
    with pytest.raises(ValueError, match=rf"(?s)layer 'block.*{message}"):
        Network([("block", block)], shape)


# ---- radial basis functions --------------------------------------------------------------------


def test_rbf_is_minus_the_squared_distance():
    net, x = Network([("rbf", RBF(4))], (5,), 2, np.float64), images((5,), 6)
    for m in range(2):
        net.initialize(np.random.default_rng(m), m)
    w = net.params[0]["weight"]
    assert set(np.unique(w)) == {-1.0, 1.0}
    expected = -np.sum((x[0][None, :, :, None] - w[:, None]) ** 2, axis=2)
    np.testing.assert_allclose(net.apply(net.params, net.state, x)[0], expected, atol=1e-13)
    check_grads(lambda w, x: RBF(4).apply({"weight": w}, {}, x, Context())[0], (w, x), order=2)
