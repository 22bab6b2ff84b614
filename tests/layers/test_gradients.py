"""The gradients of every public layer, in a network, at odd sizes; a whole net against torch."""

import inspect

import numpy as np
import pytest

import skdeep.layers
from skdeep.autodiff import check_grads
from skdeep.layers import (
    RBF,
    Activation,
    Add,
    Auxiliary,
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    BatchNormalization,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Crop1D,
    Crop2D,
    Crop3D,
    Dense,
    DepthwiseConv1D,
    DepthwiseConv2D,
    DepthwiseConv3D,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    Inception,
    Layer,
    LayerNormalization,
    LocalResponseNormalization,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxPoolDepth,
    Pad1D,
    Pad2D,
    Pad3D,
    PReLU,
    Residual,
    RReLU,
    SeparableConv1D,
    SeparableConv2D,
    SeparableConv3D,
    Upsample1D,
    Upsample2D,
    Upsample3D,
)
from skdeep.layers._network import Network
from skdeep.neural_network import CNNClassifier
from skdeep.training import SGD

IMAGE = (5, 7, 4)
#: A layer, or a list of entries, and the shape of a sample.
CASES = [
    # Dense and activations
    (Dense(3, "tanh"), (5,)),
    (Dense(3, dropconnect=0.4), (5,)),
    (RBF(3), (5,)),
    (Flatten(), IMAGE),
    (Activation("softplus"), IMAGE),
    (PReLU(), IMAGE),
    (RReLU(), IMAGE),
    (Dropout(0.4), IMAGE),
    (GaussianNoise(0.3), IMAGE),
    # convolutions
    (Conv1D(3, 4, stride=3, padding=(2,), dilation=2), (13, 2)),
    (Conv1D(4, 5, padding="same", groups=2, activation="tanh"), (9, 2)),
    (Conv2D(3, (3, 2), stride=(2, 3), padding="same"), IMAGE),
    (Conv2D(6, 3, padding=((0, 2), (1, 0)), dilation=(1, 2), groups=2), IMAGE),
    (Conv2D(6, 3, padding=5, winograd=False), IMAGE),
    (Conv2D(5, 3, padding="same", winograd="f2"), IMAGE),
    (Conv2D(5, 3, padding="same", winograd="f4", use_bias=False), IMAGE),
    (Conv2D(3, 2, stride=3), IMAGE),
    (Conv3D(3, (2, 3, 1), stride=(1, 2, 3), padding="same", dilation=(2, 1, 1)), (3, 5, 4, 2)),
    (Conv3D(4, 2, padding=((1, 0), (0, 1), (1, 1)), groups=2), (2, 3, 3, 2)),
    (Conv1DTranspose(3, 4, stride=3, padding=1, output_padding=2), (5, 2)),
    (Conv2DTranspose(4, (2, 3), stride=(3, 2), padding="same", groups=2), (3, 5, 2)),
    (Conv2DTranspose(3, 3, stride=2, padding=((1, 0), (0, 2)), dilation=2), (3, 4, 2)),
    (Conv3DTranspose(2, 2, stride=(1, 2, 3), output_padding=(0, 1, 0)), (2, 3, 2, 2)),
    (DepthwiseConv1D(4, stride=2, padding="same", depth_multiplier=2), (9, 3)),
    (DepthwiseConv2D((3, 5), stride=(2, 1), padding="same"), IMAGE),
    (DepthwiseConv2D(3, depth_multiplier=3, dilation=(1, 2), padding=1), (5, 7, 2)),
    (DepthwiseConv3D(2, stride=(1, 2, 1), padding="same"), (2, 3, 4, 3)),
    (SeparableConv1D(3, 3, stride=2, padding=1, depth_multiplier=2), (8, 2)),
    (SeparableConv2D(5, 3, padding="same", dilation=2, activation="tanh"), IMAGE),
    (SeparableConv3D(3, (1, 2, 3), padding="same", stride=2), (2, 4, 3, 2)),
    # pooling
    (MaxPool1D(3, stride=2, padding=1), (8, 3)),
    (MaxPool2D(3, stride=2, padding=((1, 0), (0, 1))), IMAGE),
    (MaxPool2D((2, 3), stride=1, padding="same"), IMAGE),
    (MaxPool3D(2, stride=1, padding="same"), (2, 3, 4, 2)),
    (AveragePool1D(3, stride=2, padding="same"), (8, 3)),
    (AveragePool2D(3, stride=(1, 2), padding=1), IMAGE),
    (AveragePool2D(2, trainable=True, padding="same"), IMAGE),
    (AveragePool3D((2, 2, 3), stride=1, padding=1), (2, 3, 4, 2)),
    (MaxPoolDepth(2), IMAGE),
    (GlobalAveragePool(), IMAGE),
    (GlobalMaxPool(), (3, 2, 3, 2)),
    # normalisation
    (BatchNormalization(), IMAGE),
    (BatchNormalization(), (5,)),
    ([("norm", BatchNormalization()), ("relu", Activation("relu"))], IMAGE),
    (LayerNormalization(), IMAGE),
    (LocalResponseNormalization(3, 1.5, 0.3, 0.6), IMAGE),
    # resampling
    (Upsample1D(3, interpolation="linear"), (4, 3)),
    (Upsample2D((2, 3), interpolation="bilinear"), IMAGE),
    (Upsample2D(2), IMAGE),
    (Upsample3D((2, 1, 3)), (2, 3, 2, 2)),
    (Crop1D(((2, 1),)), (7, 3)),
    (Crop2D(((0, 2), (3, 1))), IMAGE),
    (Crop3D((0, 1, 1)), (2, 3, 4, 2)),
    (Pad1D(((0, 3),)), (4, 3)),
    (Pad2D(((4, 1), (0, 2)), mode="reflect"), IMAGE),
    (Pad3D(1), (2, 3, 2, 2)),
    # graphs
    ([("a", Conv2D(3)), ("b", Conv2D(3), "input"), ("sum", Add(), ["a", "b"])], IMAGE),
    ([("a", Conv2D(3, 1)), ("both", Concatenate(), ["a", "input", "a"])], IMAGE),
    (Residual(filters=4, activation="tanh"), IMAGE),
    (Residual(filters=2, bottleneck=True, stride=2), IMAGE),
    (Inception(2, 3, 2, 1, 2, 3), IMAGE),
    (
        [
            ("conv", Conv2D(2)),
            ("head", Auxiliary([("flat", Flatten()), ("out", Dense(3))])),
            ("pool", GlobalAveragePool()),
            ("out", Dense(3)),
        ],
        IMAGE,
    ),
]
#: Composite and Layer are what layers are made from.
PUBLIC = {
    kind
    for kind in vars(skdeep.layers).values()
    if inspect.isclass(kind) and issubclass(kind, Layer) and not inspect.isabstract(kind)
}


def entries(case):
    layer = case[0]
    return layer if isinstance(layer, list) else [("layer", layer)]


def name(case):
    kinds = "+".join(type(entry[1]).__name__ for entry in entries(case))
    return f"{kinds}-{'x'.join(map(str, case[1]))}"


every_case = pytest.mark.parametrize("case", CASES, ids=name)


def test_every_public_layer_is_here():
    seen = {type(entry[1]) for case in CASES for entry in entries(case)}
    assert Conv2D in PUBLIC
    assert PUBLIC - seen == set()


def network(case, n=2):
    """Return a network with parameters drawn at random, and samples far from ties."""
    net = Network(entries(case), case[1], 1, np.float64)
    net.initialize(np.random.default_rng(0))
    net.data += 0.3 * np.random.default_rng(1).standard_normal(net.data.shape)
    size = n * int(np.prod(case[1]))
    # Values that differ by 3 / size, so that no step of a difference changes a maximum.
    x = np.random.default_rng(2).permutation(size) * (3.0 / size) - 1.5 + 0.1 / size
    return net, x.reshape(1, n, *case[1])


def training_pass(net):
    """Return the pass of a training step, its draws fixed."""
    seed, counters = np.array([5]), np.array([[3, 0, 0, 0]])

    def f(params, x):
        how = dict(training=True, seed=seed, counters=counters)
        return net.apply(params, net.state, x, **how)[0]

    return f


@every_case
def test_first_derivatives(case):
    net, x = network(case)
    # Through square roots of variances the third derivatives, and so the errors of the
    # differences, are larger than 1e-6.
    check_grads(training_pass(net), (net.params, x), order=1, rtol=1e-5, atol=1e-5)


SMOOTH = [
    (Conv1D(2, 3, stride=2, padding=1, activation="tanh"), (5, 2)),
    (Conv2D(2, 3, padding="same", dilation=2), (4, 3, 2)),
    (Conv2D(2, 3, padding="same", winograd="f4"), (4, 5, 2)),
    (Conv3D(2, 2, groups=2), (2, 3, 2, 2)),
    (Conv2DTranspose(2, 2, stride=2, activation="softplus"), (2, 3, 2)),
    (SeparableConv2D(2, 2, activation="tanh"), (3, 3, 2)),
    (AveragePool2D(2, stride=1, trainable=True), (3, 3, 2)),
    (BatchNormalization(), (2, 3, 2)),
    (LocalResponseNormalization(2, 1.5, 0.3, 0.6), (2, 2, 4)),
    (Upsample2D(2, interpolation="bilinear"), (2, 3, 1)),
    (Residual([("c", Conv2D(2, padding="same"))], activation="tanh"), (3, 3, 2)),
    (RBF(2), (3,)),
]


@pytest.mark.parametrize("case", SMOOTH, ids=name)
def test_second_derivatives(case):
    net, x = network(case, n=3)
    f = training_pass(net)
    # Batch normalisation of nine values: derivatives up to the fourth are of order ten.
    squares = lambda params, x: np.sum(f(params, x) ** 2)  # noqa: E731
    check_grads(squares, (net.params, x), order=2, rtol=2e-5, atol=2e-5)


# ---- a whole net against torch ------------------------------------------------------------------


def to_torch(net):
    """Return the torch twin of the net below, with its weights."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    twin = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(2, 6, 3, stride=(2, 1), padding=1),
            "norm": nn.BatchNorm2d(6, momentum=0.1),
            "depth": nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
            "conv2": nn.Conv2d(6, 4, (2, 3), groups=2),
            "up": nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
            "fc": nn.Linear(36, 5),
            "output": nn.Linear(5, 3),
        }
    ).double()
    leaves = {k: torch.tensor(v[0]) for k, v in net.leaves().items()}
    with torch.no_grad():
        for key, module in twin.items():
            if key == "norm":
                module.weight[:], module.bias[:] = leaves["norm.gamma"], leaves["norm.beta"]
                continue
            w = leaves[f"{key}.weight"]
            # (height, width, in, out) to (out, in, height, width); a transposed kernel is that
            # of the convolution that leads back, in both.
            module.weight[:] = w.T if w.ndim == 2 else w.permute(3, 2, 0, 1)
            module.bias[:] = leaves[f"{key}.bias"]
    return torch, twin


def torch_forward(torch, twin, x):
    f = torch.nn.functional
    h = torch.relu(twin["norm"](twin["conv1"](x)))
    h = h + torch.tanh(twin["depth"](h))
    h = f.max_pool2d(h, 3, 2, 1)
    h = torch.tanh(twin["up"](twin["conv2"](h)))
    h = f.local_response_norm(h, 3, alpha=0.3, beta=0.75, k=1.0)
    h = f.avg_pool2d(h, 3, (1, 2), 1, count_include_pad=False)
    h = h.permute(0, 2, 3, 1).flatten(1)
    return twin["output"](torch.relu(twin["fc"](h)))


def test_training_a_whole_net_equals_torch():
    layers = [
        ("conv1", Conv2D(6, 3, stride=(2, 1), padding=1)),
        ("norm", BatchNormalization()),
        ("relu", Activation("relu")),
        ("depth", DepthwiseConv2D(3, padding="same", dilation=2, activation="tanh")),
        ("sum", Add(), ["relu", "depth"]),
        ("pool", MaxPool2D(3, stride=2, padding=1)),
        ("conv2", Conv2D(4, (2, 3), groups=2)),
        (
            "up",
            Conv2DTranspose(3, 3, stride=2, padding=1, output_padding=1, activation="tanh"),
        ),
        # torch divides alpha by the number of channels.
        ("lrn", LocalResponseNormalization(2, 1.0, 0.1, 0.75)),
        ("mean", AveragePool2D(3, stride=(1, 2), padding=1)),
        ("flat", Flatten()),
        ("fc", Dense(5, "relu")),
    ]
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((33, 9, 9, 2)), rng.integers(0, 3, 33)
    kw = dict(layers=layers, dtype="float64", batch_size=11, shuffle=False, random_state=0, tol=0)
    start = CNNClassifier(**kw, max_iter=1, optimizer=SGD(1e-300)).fit(X, y).network_
    torch, twin = to_torch(start)
    ours = CNNClassifier(**kw, max_iter=4, optimizer=SGD(0.05)).fit(X, y)
    optimizer, curve = torch.optim.SGD(twin.parameters(), lr=0.05), []
    images = torch.tensor(np.moveaxis(X, -1, 1).copy())
    for _ in range(4):
        losses = []
        for i in range(0, 33, 11):
            out = torch_forward(torch, twin, images[i : i + 11])
            loss = torch.nn.functional.cross_entropy(out, torch.tensor(y[i : i + 11]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(np.mean(losses))
    # Sums in another order; twelve steps do not amplify their rounding beyond this.
    np.testing.assert_allclose(ours.loss_curve_, curve, rtol=1e-9)
    for key, module in twin.items():
        if key != "norm":
            w = ours.network_.leaves()[f"{key}.weight"][0]
            expected = module.weight.detach().numpy()
            expected = expected.T if expected.ndim == 2 else expected.transpose(2, 3, 1, 0)
            np.testing.assert_allclose(w, expected, rtol=0, atol=1e-9)
