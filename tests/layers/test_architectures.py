"""Published architectures: their counts and shapes, a pass and a gradient of each, their lists."""

import copy
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from skdeep.autodiff import check_grads, vjp
from skdeep.layers import Dense, Dropout
from skdeep.layers._network import Network
from skdeep.layers._rbf import RBF
from skdeep.layers._topology import Topology
from skdeep.layers.architectures import (
    Architecture,
    FactorizedInception,
    alexnet,
    googlenet,
    inception_v3,
    lenet5,
    resnet,
    resnet18,
    resnet34,
    resnet50,
    resnet152,
    separable,
    small_cnn,
    vgg16,
    zfnet,
)

IMAGENET = (224, 224, 3), 1000


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (lenet5(trainable_pooling=False), 61_706),  # the common fully connected form
        (lenet5(), 61_706 + 2 * (6 + 16)),
        (lenet5(head="rbf"), 61_706 + 2 * (6 + 16) - 10),
        (lenet5((32, 32, 1)), 61_706 + 2 * (6 + 16)),
        (alexnet(*IMAGENET), 60_965_224),  # with two groups
        (alexnet((227, 227, 3)), 60_965_224),
        (zfnet(*IMAGENET), 62_357_608),
        (vgg16(*IMAGENET), 138_357_544),
        (googlenet(*IMAGENET), 6_998_552),  # the paper's: 5x5, biases, no batch normalisation
        (googlenet(*IMAGENET, auxiliary=True), 13_378_280),
        (inception_v3(), 23_834_568),  # with scales in batch normalisation, as torchvision has it
        (inception_v3(auxiliary=True), 27_161_264),
        (resnet18(*IMAGENET), 11_689_512),
        (resnet34(*IMAGENET), 21_797_672),
        (resnet50(*IMAGENET), 25_557_032),
        (resnet152(*IMAGENET), 60_192_808),
        # He et al. (2016), table 6: 0.27 M; their shortcuts are identities without parameters.
        (resnet((32, 32, 3), 10, blocks=(3, 3, 3), widths=(16, 32, 64)), 272_474),
    ],
    ids=lambda value: "" if isinstance(value, int) else f"{len(value)} layers",
)
def test_published_counts(net, count):
    assert net.n_parameters == count


@pytest.mark.parametrize(
    ("net", "millions"),
    [(alexnet(), 724), (vgg16(), 15_470), (resnet18(), 1_814), (resnet50(), 4_089)],
    ids=["alexnet", "vgg16", "resnet18", "resnet50"],
)
def test_published_multiplications(net, millions):
    assert round(net.multiply_adds / 1e6) == millions


def sizes(net, *names):
    """Return the output shapes of some layers, or of the last pieces of composite ones."""
    topology = net.topology
    found = {}
    for node in topology.nodes:
        found[node.name.split(".")[0]] = node.output_shape
    return [found[name] for name in names]


def test_shapes_of_the_papers():
    assert sizes(lenet5(), "conv1", "pool1", "conv2", "pool2", "conv3", "dense", "output") == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120), (84,), (10,),
    ]  # fmt: skip
    assert sizes(alexnet(), "conv1", "pool1", "conv2", "pool2", "conv5", "pool3") == [
        (55, 55, 96), (27, 27, 96), (27, 27, 256), (13, 13, 256), (13, 13, 256), (6, 6, 256),
    ]  # fmt: skip
    assert sizes(zfnet(), "conv1", "pool1", "conv2", "pool2", "pool3") == [
        (110, 110, 96), (55, 55, 96), (26, 26, 256), (13, 13, 256), (6, 6, 256),
    ]  # fmt: skip
    assert sizes(vgg16(), "conv1_2", "pool1", "pool3", "pool5", "dense2") == [
        (224, 224, 64), (112, 112, 64), (28, 28, 256), (7, 7, 512), (4096,),
    ]  # fmt: skip
    names = "conv1", "pool2", "inception3b", "inception4a", "inception4e", "inception5b"
    assert sizes(googlenet(), *names) == [
        (112, 112, 64), (28, 28, 192), (28, 28, 480), (14, 14, 512), (14, 14, 832), (7, 7, 1024),
    ]  # fmt: skip
    names = "conv3", "pool1", "conv5", "pool2", "mixed3", "mixed8", "mixed9", "mixed11"
    assert sizes(inception_v3(), *names) == [
        (147, 147, 64), (73, 73, 64), (71, 71, 192), (35, 35, 192), (35, 35, 288), (17, 17, 768),
        (8, 8, 1280), (8, 8, 2048),
    ]  # fmt: skip
    names = "pool", "stage1_1", "stage2_1", "stage3_1", "stage4_3", "pool_all"
    assert sizes(resnet50(), *names) == [
        (56, 56, 256 // 4), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048), (2048,),
    ]  # fmt: skip


def test_counting_allocates_nothing():
    tracemalloc.start()
    assert vgg16().n_parameters == 138_357_544
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20  # the weights would take 528 times as much


# ---- a pass and a gradient of each -------------------------------------------------------------


def slim(net, share=32):
    """Return an architecture whose layers are some times narrower, but for the outputs."""
    net = net.copy()
    for i, (name, layer, *inputs) in enumerate(net):
        narrow = {
            key: max(value // share, 1) * 2  # even, for the two groups of AlexNet
            for key, value in layer.get_params().items()
            if re.search(r"filters$|units$|^f[135]|^pool_proj$", key)
            and not key.startswith("output")
        }
        if name != "output":
            net[i] = (name, clone(layer).set_params(**narrow), *inputs)
    return net


#: At their smallest sizes, with few channels (but Inception v3, which has no choice of them).
SMALLEST = {
    "lenet5": lenet5((5, 7, 1), 3),
    "lenet5 rbf": lenet5((28, 28, 1), 3, head="rbf", trainable_pooling=False),
    "alexnet": slim(alexnet((64, 64, 3), 3)),
    "zfnet": slim(zfnet((53, 53, 3), 3)),
    "vgg16": slim(vgg16((32, 32, 1), 3, units=64)),
    "googlenet": slim(googlenet((32, 32, 3), 3)),
    "googlenet normalised": slim(googlenet((32, 32, 3), 3, batch_norm=True)),
    "googlenet auxiliary": slim(googlenet((65, 65, 3), 3, auxiliary=True)),
    "resnet18": resnet18((1, 2, 1), 3, widths=(2, 3, 4, 5)),
    "resnet34": resnet34((8, 8, 3), 3, widths=(2, 3, 4, 5)),
    "resnet50": resnet50((7, 6, 3), 3, widths=(2, 2, 2, 2)),
    "resnet152": resnet152((9, 9, 3), 3, widths=(1, 1, 1, 1)),
    "resnet imagenet": resnet((65, 16, 3), 3, blocks=(1, 1), widths=(2, 4)),
    "resnet preactivated": resnet(
        (8, 8, 3), 3, blocks=(1, 1), widths=(2, 4), preactivation=True, bottleneck=True
    ),
    "separable": separable((1, 2, 1), 3, widths=(4, 6), stem=2, dropout=0.1),
    "small_cnn": small_cnn((1, 2, 1), 3),
    "small_cnn dropout": small_cnn((4, 1, 2), 3, dropout=0.2),
}


def prepared(net, dtype=np.float64):
    network = Network(net, net.input_shape, 1, dtype)
    network.initialize(np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((1, 2, *net.input_shape)).astype(dtype)
    return network, x


def training_pass(network, x):
    """Return the outputs of a training pass as a function of the parameters."""
    seed, counters = np.zeros(1, np.int64), np.zeros((1, 4), np.int64)
    kw = dict(training=True, seed=seed, counters=counters)
    return lambda params: network.apply(params, network.state, x, **kw)[0]


@pytest.mark.parametrize("case", SMALLEST)
def test_pass_and_gradient(case):
    network, x = prepared(SMALLEST[case], np.float32)
    scores, _ = network.apply(network.params, network.state, x)
    assert scores.shape == (1, 2, 3)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    out, pullback = vjp(training_pass(network, x), network.params)
    outs = out if isinstance(out, list) else [out]
    assert [y.shape for y in outs] == [(1, 2, 3)] * (1 + len(network.heads))
    cotangent = [np.ones_like(y) for y in outs]
    (gradient,) = pullback(cotangent if isinstance(out, list) else cotangent[0])
    for (name, layer), leaves in zip(network.layers, gradient, strict=True):
        for g in leaves.values():
            assert np.isfinite(g).all(), (name, layer)
    assert any(g.any() for g in gradient[0].values())


@pytest.mark.parametrize("case", ["lenet5 rbf", "resnet preactivated", "separable", "small_cnn"])
def test_gradient_is_that_of_differences(case):
    net = SMALLEST[case]
    if case.startswith("lenet5"):
        net = lenet5((9, 8, 1), 3, head="rbf")
    network, x = prepared(net)
    network.data += 0.1 * np.random.default_rng(2).standard_normal(network.data.shape)
    # Two samples a batch make batch normalisation curved: its third derivatives are large.
    check_grads(
        training_pass(network, x), (network.params,), order=1, eps=1e-6, rtol=1e-4, atol=1e-4
    )


def test_inception_v3_at_its_smallest_size():
    network, x = prepared(inception_v3((75, 75, 3), 3), np.float32)
    scores, _ = network.apply(network.params, network.state, x[:, :1])
    assert scores.shape == (1, 1, 3)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", "ABCDE")
def test_modules_of_inception_v3(kind):
    block = FactorizedInception(kind, width=4)
    network = Network([("block", block)], (7, 7, 3), 1, np.float32)
    network.initialize(np.random.default_rng(0))
    channels = {"A": 64 + 64 + 96 + 4, "B": 384 + 96 + 3, "C": 4 * 192, "D": 320 + 192 + 3}
    side = 3 if kind in "BD" else 7
    assert network.shapes[-1] == (side, side, channels.get(kind, 320 + 4 * 384 + 192))


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "least"),
    [(alexnet, 64), (zfnet, 53), (vgg16, 32), (googlenet, 32), (inception_v3, 75)],
)
def test_least_sizes(make, least):
    make((least, least, 3)).topology  # noqa: B018
    for shape in ((least - 1, least, 3), (least, least - 1, 3)):
        with pytest.raises(ValueError, match=rf"{make.__name__}: input_shape=.*at least {least}"):
            make(shape)
    if make is not googlenet:  # which would take any size, but has nothing left of small ones
        layers = [entry for entry in make((least, least, 3)) if entry[0] != "output"]
        with pytest.raises(ValueError, match="larger than the input"):
            Topology(layers, (least - 1, least - 1, 3))


def test_least_sizes_with_auxiliary_heads():
    assert googlenet((65, 65, 3), auxiliary=True).topology.heads
    assert inception_v3((299, 299, 3), auxiliary=True).topology.heads
    with pytest.raises(ValueError, match="at least 65"):
        googlenet((64, 64, 3), auxiliary=True)
    with pytest.raises(ValueError, match="at least 299"):
        inception_v3((298, 299, 3), auxiliary=True)


def test_heads_weigh_three_tenths():
    assert [w for _, w in googlenet(*IMAGENET, auxiliary=True).topology.heads] == [0.3, 0.3]


@pytest.mark.parametrize(("side", "first"), [(32, (32, 32, 64)), (64, (64, 64, 64))])
def test_small_images_keep_their_size_in_the_stem(side, first):
    assert sizes(resnet18((side, side, 3)), "stem", "stage1_2") == [first, first]
    assert sizes(resnet18((side, side, 3), stem="imagenet"), "pool") == [(side // 4,) * 2 + (64,)]
    assert sizes(resnet18((224, 224, 3), stem="small"), "stem") == [(224, 224, 64)]


@pytest.mark.parametrize(
    ("make", "parameters", "message"),
    [
        (small_cnn, dict(input_shape=(28, 28)), r"input_shape=\(28, 28\) must be \(height"),
        (small_cnn, dict(input_shape=(28, 0, 1)), r"input_shape=\(28, 0, 1\)"),
        (small_cnn, dict(n_classes=0), "n_classes=0"),
        (small_cnn, dict(dropout=(0.1, 0.2, 0.3)), r"dropout=\(0.1, 0.2, 0.3\)"),
        (lenet5, dict(head="dense"), "head='dense' must be 'softmax' or 'rbf'"),
        (resnet, dict(stem="large"), "stem='large'"),
        (resnet, dict(blocks=(2, 2)), r"blocks=\(2, 2\) and widths=\(64, 128, 256, 512\)"),
        (resnet, dict(blocks=(2, 0, 2, 2)), r"blocks=\(2, 0, 2, 2\)"),
        (resnet18, dict(widths=()), r"widths=\(\)"),
    ],
)
def test_errors(make, parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters)


# ---- the list ----------------------------------------------------------------------------------


def test_defaults():
    assert [entry[0] for entry in small_cnn()] == [
        "conv1", "conv2", "pool", "flatten", "dense", "output",
    ]  # fmt: skip
    assert isinstance(lenet5(head="rbf")[-1][1], RBF)
    for make in (lenet5, alexnet, zfnet, vgg16, googlenet, inception_v3, resnet50, separable):
        net = make()
        assert net[-1][0] == "output"
        assert net.topology.shapes[-1] == (net.n_classes,)
        objects = [id(entry[1]) for entry in net]
        assert len(set(objects)) == len(objects)  # else one's parameters would be another's


def test_the_list_can_be_edited():
    net = small_cnn((8, 8, 1), 10)
    before = net.n_parameters
    net[-1] = ("output", Dense(5))
    assert net.n_parameters == before - 5 * 129
    net.insert(-1, ("dropout", Dropout(0.5)))
    assert [name for name, _ in net.topology.layers][-2:] == ["dropout", "output"]
    del net[1]
    assert net.topology.shapes[:3] == [(8, 8, 1), (8, 8, 32), (4, 4, 32)]
    assert net.n_parameters == 320 + (4 * 4 * 32 + 1) * 128 + 129 * 5


def pickled(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, Architecture.copy, pickled])
def test_copies(again):
    net = resnet18((8, 8, 3), 4, widths=(2, 3, 4, 5))
    other = again(net)
    assert type(other) is Architecture
    assert (other.input_shape, other.n_classes) == ((8, 8, 3), 4)
    other.pop()
    assert len(other) == len(net) - 1
    assert net.n_parameters > other.n_parameters


class Estimator(BaseEstimator):
    def __init__(self, layers=None):
        self.layers = layers


def test_clone_of_an_estimator_keeps_the_architecture():
    net = small_cnn((8, 8, 1), 10)
    cloned = clone(Estimator(net)).layers
    assert type(cloned) is Architecture
    assert cloned is not net
    assert cloned.n_parameters == net.n_parameters
