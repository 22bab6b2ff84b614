"""Whole trainings on a device: they follow those on the CPU."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from skdeep.autodiff._target import Device
from skdeep.layers import (
    RBF,
    Activation,
    Add,
    Auxiliary,
    AveragePool2D,
    BatchNormalization,
    Concatenate,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Layer,
    LayerNormalization,
    LocalResponseNormalization,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    Residual,
    SeparableConv1D,
    SeparableConv2D,
    Upsample2D,
)
from skdeep.neural_network import (
    CNNClassifier,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)
from skdeep.training import (
    FTRL,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Augmentation,
    Momentum,
    Nesterov,
    RMSProp,
)
from skdeep.training._step import Options
from skdeep.training.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Performance,
    Piecewise,
    Power,
)
from tests.training.test_loop import trainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Two steps, the second of an odd, smaller batch; rates at which they change the weights by about
# their size, so that a wrong gradient shows.
N, D = 13, 6
SETTINGS = dict(batch_size=8, max_iter=1, random_state=3)
rng = np.random.default_rng(0)
X = rng.standard_normal((N, D)).astype(np.float32)
LABELS = np.arange(N) % 3
Z = np.stack([X[:, 0], X[:, 1] * X[:, 2], np.sin(X[:, 3])], axis=1)


def classifier(hidden=(5,), **parameters):
    defaults = dict(solver="sgd", learning_rate_init=0.1, alpha=0.0)
    return MLPClassifier(hidden, **SETTINGS | defaults | parameters)


def regressor(hidden=(5,), **parameters):
    defaults = dict(solver="sgd", learning_rate_init=0.1, alpha=0.0)
    return MLPRegressor(hidden_layer_sizes=hidden, **SETTINGS | defaults | parameters)


def agree(cpu, gpu, rtol=1e-4):
    """Compare what two trainings ended with.

    Sums are taken in another order on a device, so that the last bits differ from the first step
    on; over the few steps here they grow to about 1e-6.
    """
    assert cpu.device_ == "cpu"
    assert gpu.device_ == "cuda:0"
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=rtol)
    for name in ("data", "state_data"):
        theirs, mine = (getattr(e.network_, name) for e in (cpu, gpu))
        largest = abs(theirs).max(initial=0)
        np.testing.assert_allclose(mine, theirs, rtol=10 * rtol, atol=rtol * largest)


def fit_both(estimator, X, y, **fit):
    """Fit on the CPU and on the device, and compare; return both."""
    cpu = clone(estimator).fit(X, y, **fit)
    gpu = clone(estimator).set_params(device="cuda").fit(X, y, **fit)
    agree(cpu, gpu)
    return cpu, gpu


# ---- targets and losses -----------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_classes(classes):
    y = np.arange(N) % classes
    cpu, gpu = fit_both(classifier(), X, y)
    proba = gpu.predict_proba(X)
    assert proba.shape == (N, classes)
    np.testing.assert_allclose(proba, cpu.predict_proba(X), rtol=1e-3, atol=1e-5)
    assert (gpu.predict(X) == cpu.predict(X)).all()


def test_labels():
    fit_both(classifier(label_smoothing=0.0), X, np.stack([LABELS == 0, X[:, 0] > 0], 1) * 1)
    fit_both(classifier((), label_smoothing=0.1), X, LABELS)


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression(outputs):
    cpu, gpu = fit_both(regressor(), X, Z[:, 0] if outputs == 1 else Z)
    np.testing.assert_allclose(gpu.predict(X), cpu.predict(X), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "perceptron"])
def test_margin_losses(loss):
    fit_both(classifier((), loss=loss), X, LABELS)


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        ("absolute_error", {}),
        ("huber", {"delta": 0.5}),
        ("poisson", {}),
        ("quantile", {"quantile": 0.2}),
    ],
)
def test_losses_of_regression(loss, more):
    y = abs(Z[:, :2]) if loss == "poisson" else Z[:, :2]
    fit_both(regressor((), loss=loss, **more), X, y)


def log_cosh(y, raw):
    return np.mean(np.log(np.cosh(raw - y)), axis=1)


def test_loss_of_ones_own():
    fit_both(regressor((), loss=log_cosh), X, Z)


# ---- weights of samples -----------------------------------------------------------------------


def test_weights_of_samples_and_classes():
    weight = np.linspace(0, 2, N)
    fit_both(classifier((), class_weight={0: 1, 1: 3, 2: 0.5}), X, LABELS, sample_weight=weight)
    fit_both(classifier((), class_weight="balanced"), X, LABELS % 2)


# ---- optimisers and schedules -----------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1),
        Momentum(0.1, momentum=0.5),
        Nesterov(0.1, momentum=0.8),
        AdaGrad(0.1),
        RMSProp(0.05),
        RMSProp(0.05, momentum=0.5),
        Adam(0.05),
        AdamW(0.05, weight_decay=0.1),
        FTRL(0.1, l1=0.01),
    ],
    ids=repr,
)
def test_optimizers(optimizer):
    fit_both(classifier((), optimizer=optimizer, l1=0.0), X, LABELS)


@pytest.mark.parametrize(
    "schedule",
    [
        InverseScaling(0.3),
        Performance(patience=1),
        Piecewise([1], [0.2, 0.05], unit="steps"),
        Exponential(0.1, period=1),
        Power(),
        Cosine(),
        OneCycle(),
        Constant(warmup=3, unit="steps"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_schedules(schedule):
    """On four samples: only the rate of each of the two steps is of interest."""
    y = np.array([0, 1, 2, 0])
    cpu, _ = fit_both(classifier((), schedule=schedule, batch_size=2), X[:4], y)
    plain = clone(cpu).set_params(schedule=None).fit(X[:4], y)
    assert isinstance(schedule, Performance | InverseScaling) or not np.allclose(
        plain.network_.data, cpu.network_.data, rtol=1e-2
    )


def test_adaptive_rate_over_epochs():
    """A plateau after each epoch divides the rate."""
    settings = dict(learning_rate="adaptive", tol=10.0, n_iter_no_change=1, max_iter=4)
    cpu, gpu = fit_both(classifier((), batch_size=7, **settings), X[:7], LABELS[:7])
    assert gpu.n_iter_ == cpu.n_iter_ == 4


# ---- penalties, limits, noise -----------------------------------------------------------------


def test_penalties():
    fit_both(classifier((), alpha=0.3, l1=0.2), X, LABELS)


@pytest.mark.parametrize(
    "limit",
    [
        {"max_norm": 0.3},
        {"clip_value": 0.02},
        {"clip_norm": 0.05, "alpha": 0.5},
        {"clip_global_norm": 0.05},
    ],
    ids=lambda limit: next(iter(limit)),
)
def test_limits(limit):
    cpu, _ = fit_both(classifier((), **limit), X, LABELS)
    free = clone(cpu).set_params(**dict.fromkeys(limit, None) | {"alpha": cpu.alpha})
    assert not np.allclose(free.fit(X, LABELS).network_.data, cpu.network_.data, rtol=1e-2)


def test_all_draws():
    """Dropped units, inputs and weights, and noise: the draws are those of the CPU."""
    settings = dict(dropout=0.4, input_dropout=0.2, dropconnect=0.3, input_noise=0.5)
    fit_both(classifier((9,), **settings), X, LABELS)


@pytest.mark.parametrize("where", ["before", "after"])
def test_batch_normalisation(where):
    cpu, gpu = fit_both(classifier(batch_norm=where), X, LABELS)
    assert gpu.network_.state_data.any()
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-3, atol=1e-5)


def test_layer_normalisation():
    fit_both(classifier(layer_norm=True), X, LABELS)


@pytest.mark.parametrize(
    "activation",
    [
        "identity", "logistic", "tanh", "relu", "leaky_relu", "prelu", "rrelu", "elu", "selu",
        "gelu", "silu", "softplus", "softmax", "step",
        lambda x: x * np.sin(x),
    ],
)  # fmt: skip
def test_activations(activation):
    """On one step of five samples: only what the activation does is of interest."""
    estimator = classifier((3,), activation=activation, batch_size=5)
    cpu, gpu = fit_both(estimator, X[:5], LABELS[:5])
    np.testing.assert_allclose(
        gpu.predict_proba(X[:5]), cpu.predict_proba(X[:5]), rtol=1e-3, atol=1e-5
    )


# ---- samples ----------------------------------------------------------------------------------


def test_order_of_the_samples():
    """Over two epochs, shuffled anew or not at all."""
    shuffled, _ = fit_both(classifier((), max_iter=2), X, LABELS)
    plain, _ = fit_both(classifier((), max_iter=2, shuffle=False), X, LABELS)
    assert shuffled.loss_ != plain.loss_


def test_samples_that_are_their_own_targets():
    fit_both(regressor((3,)), X, X)


def test_sparse_samples():
    dense = np.where(abs(X) > 0.7, X, 0)
    cpu, gpu = fit_both(classifier(), sp.csr_array(dense), LABELS)
    again = classifier(device="cuda").fit(dense, LABELS)
    np.testing.assert_array_equal(gpu.network_.data, again.network_.data)
    np.testing.assert_allclose(
        gpu.predict_proba(sp.csr_array(dense)), cpu.predict_proba(dense), rtol=1e-3, atol=1e-5
    )


# ---- graphs -----------------------------------------------------------------------------------


def network(*layers, kind=NetworkClassifier, **parameters):
    defaults = dict(solver="sgd", learning_rate_init=0.1)
    return kind(list(layers), **SETTINGS | defaults | parameters)


GRAPHS = {
    "add": [("a", Dense(4, "tanh")), ("b", Dense(4, "relu")), ("sum", Add(), ["a", "b"])],
    "concatenate": [
        ("a", Dense(3, "tanh")),
        ("b", Dense(4, "relu"), "a"),
        ("both", Concatenate(), ["b", "a"]),
    ],
    "residual": [("a", Dense(4)), ("r", Residual([("f", Dense(4, "relu"))]))],
    "auxiliary": [
        ("a", Dense(4, "tanh")),
        ("side", Auxiliary([("out", Dense(3))], weight=0.4)),
        ("b", Dense(3, "tanh")),
    ],
    "rbf": [("a", Dense(4, "tanh")), ("output", RBF(3))],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name):
    cpu, gpu = fit_both(network(*GRAPHS[name], batch_size=13), X, LABELS)
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-3, atol=1e-5)


class Gated(Layer):
    """A layer in plain NumPy, that no kernel knows."""

    def apply(self, params, state, x, context):
        gate = 1 / (1 + np.exp(-np.roll(x, 1, axis=-1)))
        return np.where(x > 0.1, x * gate, np.abs(x)[..., ::-1] * 0.5), state


def test_layer_of_ones_own():
    cpu, gpu = fit_both(network(("a", Dense(4)), ("own", Gated()), batch_size=13), X, LABELS)
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-3, atol=1e-5)


# ---- how a step is computed -------------------------------------------------------------------

DEEP = [
    ("a", Dense(4, "tanh")),
    ("norm", BatchNormalization()),
    ("drop", Dropout(0.3)),
    ("b", Dense(3, "relu")),
]


def test_batches_in_parts():
    fit_both(network(*DEEP, batch_size=11, accumulate_steps=3), X[:11], LABELS[:11])


def test_recomputed_activations_are_equal_bit_for_bit():
    whole, cut = (
        network(*DEEP, batch_size=13, checkpoint_activations=k, device="cuda").fit(X, LABELS)
        for k in (False, 2)
    )
    np.testing.assert_array_equal(cut.network_.data, whole.network_.data)
    np.testing.assert_array_equal(cut.network_.state_data, whole.network_.state_data)


def test_activations_kept_in_halves():
    """Arrays of 4 KiB are the smallest that are."""
    deep = [("a", Dense(80, "tanh")), ("b", Dense(80, "tanh")), ("c", Dense(3, "tanh"))]
    cpu, _ = fit_both(network(*deep, batch_size=13, activation_storage="bfloat16"), X, LABELS)
    whole = clone(cpu).set_params(activation_storage=None).fit(X, LABELS)
    assert not np.array_equal(whole.network_.data, cpu.network_.data)


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("bfloat16", 7)])
def test_precision(precision, bits):
    """A factor is rounded by half a unit of its last bit, so a product by twice that.

    Gradients pass through three products here, and a step of 0.1 scales them down.
    """
    estimator = regressor(batch_size=8)
    cpu = clone(estimator).set_params(precision=precision).fit(X[:8], Z[:8])
    exact = clone(estimator).fit(X[:8], Z[:8])
    np.testing.assert_array_equal(cpu.network_.data, exact.network_.data)  # ignored there
    gpu = clone(estimator).set_params(precision=precision, device="cuda").fit(X[:8], Z[:8])
    bound = 3 * 2.0**-bits
    np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=2 * bound)
    largest = abs(cpu.network_.data).max()
    np.testing.assert_allclose(gpu.network_.data, cpu.network_.data, rtol=0, atol=bound * largest)
    assert abs(gpu.predict(X) - cpu.predict(X)).max() < 4 * bound * abs(cpu.predict(X)).max()
    assert not np.array_equal(gpu.predict(X), cpu.predict(X))


def test_two_trainings_are_equal_bit_for_bit():
    one, two = (classifier(dropout=0.3, device="cuda").fit(X, LABELS) for _ in range(2))
    assert one.loss_curve_ == two.loss_curve_
    np.testing.assert_array_equal(one.network_.data, two.network_.data)


def test_members_are_what_each_is_alone(gpu):
    """Two nets in one training, with rows, seeds, rates and penalties of their own."""
    rows = {1: np.arange(0, 26, 2), 4: np.arange(50, 60)}
    settings = dict(rows=[rows.get(i) for i in range(5)], epochs=1, batch=8)
    there = [
        trainer(which, **settings, options=Options(target=Device(gpu))).run()
        for which in ((1, 4), (4,))
    ]
    here = trainer((1, 4), **settings).run()
    together, alone = (t.network for t in there)
    np.testing.assert_array_equal(together.data[1], alone.data[0])
    np.testing.assert_array_equal(together.state_data[1], alone.state_data[0])
    for m in range(2):
        curves = there[0].progress[m].loss_curve, here.progress[m].loss_curve
        np.testing.assert_allclose(*curves, rtol=1e-4)
        largest = abs(here.network.data[m]).max()
        np.testing.assert_allclose(
            together.data[m], here.network.data[m], rtol=1e-3, atol=1e-4 * largest
        )


# ---- images -----------------------------------------------------------------------------------

SIDE = 6
IMAGES = rng.standard_normal((5, SIDE, SIDE, 2)).astype(np.float32)
KINDS = np.array([0, 1, 2, 0, 1])

CNNS = {
    "convolution": [
        ("conv", Conv2D(3, 3, padding="same")),
        ("norm", BatchNormalization()),
        ("relu", Activation("relu")),
        ("pool", MaxPool2D(2)),
    ],
    "stride and groups": [
        ("conv", Conv2D(4, 3, stride=2, groups=2, activation="tanh")),
        ("pool", AveragePool2D(2)),
    ],
    "normalisation": [
        ("lrn", LocalResponseNormalization(depth_radius=1)),
        ("up", Upsample2D(2, interpolation="bilinear")),
        ("mean", GlobalAveragePool()),
    ],
    "separable": [
        ("separable", SeparableConv2D(3, 3, activation="relu")),
        ("depth", DepthwiseConv2D(3)),
        ("layer", LayerNormalization()),
    ],
    "transposed": [("up", Conv2DTranspose(2, 3, stride=2)), ("pool", MaxPool2D(3))],
}


@pytest.mark.parametrize("name", CNNS)
def test_cnns(name):
    estimator = network(*CNNS[name], ("flat", Flatten()), kind=CNNClassifier, batch_size=5)
    cpu, gpu = fit_both(estimator, IMAGES, KINDS)
    np.testing.assert_allclose(
        gpu.predict_proba(IMAGES), cpu.predict_proba(IMAGES), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(shift=1, horizontal_flip=True, crop=1, cutout=2),
        Augmentation(rotation=20.0, zoom=0.2, brightness=0.2, mixup=0.4),
    ],
    ids=["moves", "warps"],
)
def test_augmentation(augmentation):
    estimator = network(kind=CNNClassifier, batch_size=5, augmentation=augmentation)
    cpu, _ = fit_both(estimator, IMAGES, KINDS)
    plain = clone(cpu).set_params(augmentation=None).fit(IMAGES, KINDS)
    assert not np.allclose(plain.network_.data, cpu.network_.data, rtol=1e-2)


def test_regression_of_images():
    layers = [("conv", Conv2D(2, 3)), ("flat", Flatten())]
    fit_both(network(*layers, kind=NetworkRegressor, batch_size=5), IMAGES, IMAGES[:, 0, 0])


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        (
            (9, 2),
            [("conv", Conv1D(2, 3)), ("depth", SeparableConv1D(2, 2)), ("pool", MaxPool1D())],
        ),
        ((3, 4, 4, 1), [("conv", Conv3D(2, 2)), ("pool", MaxPool3D())]),
    ],
)
def test_series_and_volumes(shape, layers):
    samples = np.random.default_rng(2).standard_normal((3, *shape)).astype(np.float32)
    fit_both(network(*layers, batch_size=3), samples, LABELS[:3])
