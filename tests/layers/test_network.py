"""Stacks of layers in training: every part learns, natively, as an independent loop does."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from skdeep._losses import get_loss
from skdeep._random import generator
from skdeep.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    He,
    Orthogonal,
    PReLU,
    RReLU,
    TruncatedNormal,
)
from skdeep.layers._activations import ACTIVATIONS
from skdeep.layers._network import Network
from skdeep.neural_network import MLPClassifier, MLPRegressor
from skdeep.neural_network._forward import predict
from skdeep.training import (
    FTRL,
    LBFGS,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    Momentum,
    Nesterov,
    OneCycle,
    Performance,
    Piecewise,
    Power,
    RMSProp,
)
from skdeep.training._step import Buffers, Data, Step

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, D, K = 96, 6, 3
rng = np.random.default_rng(0)
X = rng.standard_normal((N, D))
Z = np.tanh(X @ rng.standard_normal((D, K)))
Y = Z.argmax(axis=1)

NAMED_LAYERS = ["prelu", "rrelu"]
INITIALIZERS = [
    "auto", "glorot_uniform", "glorot_normal", "glorot_truncated_normal", "xavier_uniform",
    "xavier_normal", "he_uniform", "he_normal", "he_truncated_normal", "lecun_uniform",
    "lecun_normal", "lecun_truncated_normal", "orthogonal", "truncated_normal", "random_uniform",
    He("uniform"), Orthogonal(gain=2.0), TruncatedNormal(),
    lambda shape, fan_in, fan_out, rng, dtype: rng.normal(0, fan_in**-0.5, shape).astype(dtype),
]  # fmt: skip
OPTIMIZERS = [
    SGD(0.1), Momentum(0.05), Nesterov(0.05), AdaGrad(0.1), RMSProp(0.01),
    RMSProp(0.005, momentum=0.5), Adam(0.02), AdamW(0.02), FTRL(0.3, l1=0.001), LBFGS(max_iter=20),
]  # fmt: skip
SCHEDULES = [
    Constant(warmup=2), InverseScaling(0.1), Adaptive(), Performance(patience=2),
    Piecewise([5, 10], [0.05, 0.02, 0.01]), Exponential(0.5, 10), Power(), Cosine(),
    Cosine(period=3, period_factor=2), OneCycle(), Cosine(warmup=10, unit="steps"),
]  # fmt: skip
SOLVERS = ["adam", "adamw", "sgd", "adagrad", "rmsprop", "ftrl"]
PARTS = {
    **{f"activation {a}": dict(activation=a) for a in [*ACTIVATIONS, *NAMED_LAYERS]},
    "activation layer": dict(activation=PReLU(0.1)),
    **{f"initializer {i}": dict(initializer=s) for i, s in enumerate(INITIALIZERS)},
    **{f"optimizer {o}": dict(optimizer=o) for o in OPTIMIZERS},
    **{f"schedule {s}": dict(schedule=s) for s in SCHEDULES},
    **{f"solver {s}": dict(solver=s) for s in SOLVERS},
    "dropout": dict(dropout=0.1),
    "dropout per layer": dict(dropout=[0.2, 0.0]),
    "input dropout": dict(input_dropout=0.1),
    "dropconnect": dict(dropconnect=0.1),
    "input noise": dict(input_noise=0.1),
    "batch norm": dict(batch_norm=True),
    "batch norm after": dict(batch_norm="after"),
    "layer norm": dict(layer_norm=True),
    "both norms": dict(layer_norm=True, batch_norm=True, activation="prelu"),
    "penalties": dict(alpha=0.01, l1=0.01),
    "max norm": dict(max_norm=1.0),
    "clipping": dict(clip_value=0.1, clip_norm=1.0, clip_global_norm=1.0),
    "no hidden layer": dict(hidden_layer_sizes=()),
    "deep": dict(hidden_layer_sizes=[9, 8, 7, 6], activation="selu", initializer="lecun_normal"),
}
LOSSES = dict.fromkeys(["log_loss", "hinge", "squared_hinge", "perceptron"], MLPClassifier)
LOSSES |= dict.fromkeys(
    ["squared_error", "poisson", "absolute_error", "huber", "quantile"], MLPRegressor
)


def classifier(**settings):
    base = dict(hidden_layer_sizes=(9, 7), batch_size=20, max_iter=25, learning_rate_init=0.02)
    base |= dict(tol=0, n_iter_no_change=1000, random_state=0)
    return MLPClassifier(**base | settings)


def untrained_loss(mlp):
    """Return the loss of the weights that the training begins with."""
    start = copy.deepcopy(mlp).set_params(optimizer=SGD(1e-30), schedule=None, max_iter=1)
    return start.fit(X, Y).loss_


@pytest.mark.parametrize("part", PARTS)
def test_every_part_trains(part):
    mlp = classifier(**PARTS[part]).fit(X, Y)
    assert mlp.loss_ < 0.85 * untrained_loss(mlp)
    assert np.isfinite(mlp.predict_proba(X)).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(loss):
    kind = LOSSES[loss]
    target = Y if kind is MLPClassifier else np.exp(Z)
    estimator = kind(hidden_layer_sizes=(9,), loss=loss, random_state=0, learning_rate_init=0.02)
    estimator.set_params(max_iter=25).fit(X, target)
    assert estimator.loss_ < 0.85 * estimator.loss_curve_[0]
    assert estimator.score(X, target) > 0.2


# ---- the step is native ------------------------------------------------------------------------


def step(estimator, x=None, y=None, weight=None):
    """Return the training step of an estimator."""
    regress = isinstance(estimator, MLPRegressor)
    dtype = np.dtype(estimator.dtype)
    x = X.astype(dtype) if x is None else x.astype(dtype)
    loss = get_loss(estimator.loss, **estimator._loss_parameters())
    if y is None:
        y = Z.astype(dtype) if regress or loss.kind == "sign" else Y
    network = Network(estimator._layers(K, x.shape[1:]), x.shape[1:], 1, dtype)
    network.initialize(generator(0))
    optimizer = estimator._make_optimizer()
    buffers = Buffers.allocate(
        network,
        [optimizer],
        5,
        [[estimator.alpha, estimator.l1]],
        [[limit or 0.0] for limit in estimator._limits()],
        [0],
    )
    data = Data(x, y, weight if weight is None else weight.astype(dtype))
    return Step(network, loss, optimizer, data, np.arange(len(y))[None], buffers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("part", [part for part in PARTS if "LBFGS" not in part])
def test_every_step_is_native(part, dtype):
    estimator = classifier(**PARTS[part], dtype=dtype)
    made = step(estimator)
    program = made.program(16)
    assert made.unrecordable is None
    # Softmax is for outputs; as a hidden activation it runs by NumPy calls.
    assert program.is_native == (estimator.activation != "softmax")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("weight", [None, np.ones(N)], ids=["", "weighted"])
def test_every_loss_is_native(loss, form, weight):
    estimator = LOSSES[loss](hidden_layer_sizes=(4,), loss=loss)
    assert step(estimator, form(X), None, weight).program(16).is_native


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("tanh", np.tanh),
        ("relu", lambda z: np.maximum(z, 0)),
        ("logistic", lambda z: 1 / (1 + np.exp(-z))),
        ("identity", lambda z: 1 * z),
        ("softplus", lambda z: np.logaddexp(0, z)),
        ("silu", lambda z: z / (1 + np.exp(-z))),
    ],
)
def test_callable_activation_equals_the_named_one(name, function):
    named = classifier(activation=name, dtype="float64", initializer="he_normal").fit(X, Y)
    free = classifier(activation=function, dtype="float64", initializer="he_normal").fit(X, Y)
    np.testing.assert_allclose(free.loss_curve_, named.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(free.predict_proba(X), named.predict_proba(X), rtol=1e-7, atol=1e-9)
    assert step(free).unrecordable is None


@pytest.mark.parametrize(
    ("kind", "name", "function"),
    [
        (MLPRegressor, "squared_error", lambda y, raw: 0.5 * np.sum((raw - y) ** 2, axis=1)),
        (MLPRegressor, "absolute_error", lambda y, raw: np.sum(np.abs(raw - y), axis=1)),
        (
            MLPClassifier,
            "log_loss",
            lambda y, raw: np.log(np.sum(np.exp(raw), axis=1)) - np.sum(y * raw, axis=1),
        ),
        (
            MLPClassifier,
            "squared_hinge",
            lambda y, raw: np.sum(np.maximum(0, 1 - (2 * y - 1) * raw) ** 2, axis=1),
        ),
    ],
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callable_loss_equals_the_named_one(kind, name, function, solver):
    target = Y if kind is MLPClassifier else Z
    settings = dict(hidden_layer_sizes=(9,), solver=solver, dtype="float64", random_state=0)
    settings |= dict(max_iter=8, batch_size=20)
    named = kind(loss=name, **settings).fit(X, target)
    free = kind(loss=function, **settings).fit(X, target)
    # The terms are summed in another order; L-BFGS amplifies that.
    tolerance = dict(rtol=1e-6, atol=1e-7) if solver == "lbfgs" else dict(rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(free.loss_curve_, named.loss_curve_, **tolerance)
    for a, b in zip(free.coefs_, named.coefs_, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)
    assert np.array_equal(free.predict(X), named.predict(X)) or kind is MLPRegressor


def test_unrecordable_functions_train_eagerly_to_the_same_bits(capsys):
    settings = dict(max_iter=4, batch_norm=True, dropout=0.2, clip_norm=1.0)
    branch = lambda z: np.tanh(z) if np.all(z < 1e9) else z  # noqa: E731
    recorded = classifier(activation=lambda z: np.tanh(z), **settings).fit(X, Y)
    eager = classifier(activation=branch, verbose=True, **settings).fit(X, Y)
    assert "run eagerly" in capsys.readouterr().out
    assert step(eager).program(16).is_native is False
    for a, b in zip(recorded.coefs_, eager.coefs_, strict=True):
        assert np.array_equal(a, b)
    assert recorded.loss_curve_ == eager.loss_curve_
    assert np.array_equal(recorded.predict_proba(X), eager.predict_proba(X))

    def loss(y, raw):
        return np.sum((raw - y) ** 2, axis=1) if np.all(raw < 1e9) else raw[:, 0]

    eager = MLPRegressor(loss=loss, max_iter=4, random_state=0).fit(X, Z)
    recorded = MLPRegressor(
        loss=lambda y, raw: np.sum((raw - y) ** 2, axis=1), max_iter=4, random_state=0
    ).fit(X, Z)
    assert np.array_equal(recorded.coefs_[0], eager.coefs_[0])


# ---- an independent loop -----------------------------------------------------------------------


def torch_training(start, settings, forward=None, make=None, loss=None, clip=None, after=None):
    """Train in torch, in the samples' order; return the weights and the loss of every epoch."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, y = torch.tensor(X), torch.tensor(Z)
    weights = [torch.tensor(w, requires_grad=True) for w in start[0]]
    biases = [torch.tensor(b, requires_grad=True) for b in start[1]]
    own = [torch.ones(9, dtype=x.dtype), torch.zeros(9, dtype=x.dtype)]
    if settings.get("activation") == "prelu":
        own[0] *= 0.25
    own = [p.requires_grad_() for p in own]
    forward = forward or (lambda h, own: torch.relu(h))
    optimizer = (make or (lambda torch, groups: torch.optim.SGD(groups, lr=0.05)))(
        torch, [{"params": weights}, {"params": biases + own, "weight_decay": 0.0}]
    )
    curve = []
    for _ in range(settings["max_iter"]):
        total = 0.0
        for i in range(0, N, 20):
            xb, yb = x[i : i + 20], y[i : i + 20]
            h = forward(xb @ weights[0] + biases[0], own)
            out = h @ weights[1] + biases[1]
            value = (loss or (lambda f, out, y: 0.5 * ((out - y) ** 2).sum(1).mean()))(
                functional, out, yb
            )
            for w in weights:
                value = value + 0.5 * settings["alpha"] / len(xb) * (w**2).sum()
                value = value + settings.get("l1", 0) / len(xb) * w.abs().sum()
            optimizer.zero_grad()
            value.backward()
            used = [p for p in weights + biases + own if p.grad is not None]
            if clip:
                clip(torch, used)
            optimizer.step()
            if after:
                with torch.no_grad():
                    after(weights)
            total += len(xb) * value.item()
        curve.append(total / N)
    return [p.detach().numpy() for p in weights + biases], curve


def by_norm(limit):
    """Rescale each array."""

    def clip(torch, params):
        for p in params:
            p.grad *= min(1.0, limit / float(p.grad.norm()))

    return clip


def by_global_norm(limit):
    """Rescale all arrays together."""

    def clip(torch, params):
        norm = float(torch.sqrt(sum((p.grad**2).sum() for p in params)))
        for p in params:
            p.grad *= min(1.0, limit / norm)

    return clip


def to_max_norm(weights):
    """Rescale the incoming weights of each unit."""
    for w in weights:
        w *= (0.7 / w.norm(dim=0)).clamp(max=1.0)


def normalised(own, h, axis):
    centred = h - h.mean(axis, keepdim=True)
    deviation = ((centred**2).mean(axis, keepdim=True) + 1e-5) ** 0.5
    return own[0] * centred / deviation + own[1]


def hidden(name):
    def forward(h, own):
        import torch

        functions = torch.nn.functional
        if name == "gelu_tanh":
            return functions.gelu(h, approximate="tanh")
        if name == "softmax":
            return functions.softmax(h, dim=-1)
        if name == "prelu":
            return functions.prelu(h, own[0])
        return getattr(functions, name)(h)

    return forward


SMALL = 1e-30  # Adam's guard stands before the bias correction here, after it in torch
PEERS = {
    **{
        f"activation {a}": (dict(activation=a), dict(forward=hidden(a)))
        for a in "elu selu gelu gelu_tanh silu softplus leaky_relu softmax prelu".split()
    },
    "activation hard_sigmoid": (  # torch's own has its 1 / 6 in float32
        dict(activation="hard_sigmoid"),
        dict(forward=lambda h, own: (h / 6 + 0.5).clamp(0, 1)),
    ),
    "batch norm": (
        dict(batch_norm=True),
        dict(forward=lambda h, own: normalised(own, h, 0).relu()),
    ),
    "batch norm after": (
        dict(batch_norm="after"),
        dict(forward=lambda h, own: normalised(own, h.relu(), 0)),
    ),
    "layer norm": (
        dict(layer_norm=True),
        dict(forward=lambda h, own: normalised(own, h, 1).relu()),
    ),
    "RMSProp": (
        dict(optimizer=RMSProp(0.01, rho=0.8)),
        dict(make=lambda t, p: t.optim.RMSprop(p, lr=0.01, alpha=0.8, eps=1e-7)),
    ),
    "RMSProp with momentum": (
        dict(optimizer=RMSProp(0.01, momentum=0.7)),
        dict(make=lambda t, p: t.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-7, momentum=0.7)),
    ),
    "AdaGrad": (
        dict(optimizer=AdaGrad(0.05)),
        dict(make=lambda t, p: t.optim.Adagrad(p, 0.05, initial_accumulator_value=0.1, eps=1e-7)),
    ),
    "AdamW": (
        dict(optimizer=AdamW(0.01, weight_decay=0.3, epsilon=SMALL)),
        dict(make=lambda t, p: t.optim.AdamW(decayed(p, 0.3), lr=0.01, eps=SMALL)),
    ),
    "schedule": (dict(optimizer=SGD(9.0), schedule=Piecewise([2], [0.05, 0.05])), dict()),
    "clip by value": (
        dict(clip_value=0.05),
        dict(clip=lambda t, ps: t.nn.utils.clip_grad_value_(ps, 0.05)),
    ),
    "clip by norm": (dict(clip_norm=0.1), dict(clip=by_norm(0.1))),
    "clip by global norm": (dict(clip_global_norm=0.2), dict(clip=by_global_norm(0.2))),
    "max norm": (dict(max_norm=0.7), dict(after=to_max_norm)),
    "l1": (dict(l1=0.5), dict()),
    "huber": (
        dict(loss="huber", delta=0.3),
        dict(loss=lambda f, out, y: f.huber_loss(out, y, reduction="sum", delta=0.3) / len(y)),
    ),
    "quantile": (
        dict(loss="quantile", quantile=0.8),
        dict(loss=lambda f, out, y: (0.8 * f.relu(y - out) + 0.2 * f.relu(out - y)).sum(1).mean()),
    ),
}


def decayed(groups, decay):
    """Decay the weights, and nothing else."""
    return [{"weight_decay": decay, **group} for group in groups]


@pytest.mark.parametrize("case", PEERS)
def test_training_equals_torch(case):
    settings, peer = PEERS[case]
    settings = dict(alpha=0.4, max_iter=4, shuffle=False, batch_size=20) | settings
    draws = np.random.default_rng(3)
    start = (
        [draws.normal(0, 0.5, (D, 9)), draws.normal(0, 0.5, (9, K))],
        [draws.normal(0, 0.1, 9), draws.normal(0, 0.1, K)],
    )
    mlp = MLPRegressor(
        hidden_layer_sizes=(9,), dtype="float64", warm_start=True, random_state=0,
        **dict(optimizer=SGD(0.05), tol=0) | settings,
    )  # fmt: skip
    mlp.coefs_, mlp.intercepts_ = start
    weights, curve = torch_training(start, settings, **peer)
    mlp.fit(X, Z)
    # One and the same float64 arithmetic but for the order of sums.
    np.testing.assert_allclose(mlp.loss_curve_, curve, rtol=1e-9)
    for a, b in zip(mlp.coefs_ + mlp.intercepts_, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


# ---- the network -------------------------------------------------------------------------------


def stack():
    return [
        ("flatten", Flatten()),
        ("noise", GaussianNoise(0.1)),
        ("dense", Dense(7, "tanh", dropconnect=0.1)),
        ("norm", BatchNormalization()),
        ("random", RReLU()),
        ("drop", Dropout(0.5)),
        ("activation", Activation("softplus")),
        ("out", Dense(2)),
    ]


def test_leaves_are_views_of_one_aligned_buffer():
    network = Network(stack(), (2, 3), members=3)
    assert network.shapes == [(2, 3), (6,), (6,), (7,), (7,), (7,), (7,), (7,), (2,)]
    assert network.n_parameters == 6 * 7 + 7 + 7 + 7 + 7 * 2 + 2
    assert sum(view[0].size for view in network.leaves().values()) == network.n_parameters
    for view in network.leaves().values():
        assert np.shares_memory(view, network.data)
        assert view[0].ctypes.data % 64 == 0
    assert network.data.ctypes.data % 64 == 0
    penalised = {int(start) for start, _, on in network.segments if on}
    assert penalised == {int(start) for start, *_ in network.columns}
    assert len(penalised) == 2


def test_predict_does_not_depend_on_the_block():
    network = Network(stack(), (2, 3), dtype=np.float64)
    network.initialize(generator(1))
    x = rng.standard_normal((50, 2, 3))
    whole = predict(network, x)
    assert whole.shape == (50, 2)
    assert np.array_equal(predict(network, x, block=7), whole)
    begun = network.apply(network.params, network.state, x[None], upto=3)[0]
    rest = network.apply(network.params, network.state, begun, start=3)[0]
    # Predictions fold batch normalisation into the product before it: other roundings.
    np.testing.assert_allclose(rest[0], whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("change", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_bound_to_their_own_buffer(change):
    network = Network(stack(), (2, 3), members=2)
    for m in range(2):
        network.initialize(generator(m), m)
    again = change(network)
    assert np.array_equal(again.data, network.data)
    again.params[-1]["bias"][...] = 5
    assert (again.member(1).params[-1]["bias"] == 5).all()
    assert not (network.params[-1]["bias"] == 5).any()
    assert again.data.ctypes.data % 64 == 0


def test_wrong_stack_says_where_and_what_came_before():
    with pytest.raises(ValueError, match=r"layer 'b': .*Flatten.*shapes so far: \(2, 3\)"):
        Network([("b", Dense(3))], (2, 3))
    with pytest.raises(ValueError, match="layer 'b': .*'units' parameter of Dense"):
        Network([("a", Flatten()), ("b", Dense(0))], (2, 3))
    with pytest.raises(ValueError, match="layer 'b': activation='nonsense'"):
        Network([("b", Dense(3, "nonsense"))], (2,))
    with pytest.raises(ValueError, match="layer 'b': activation='nonsense'"):
        Network([("b", Activation("nonsense"))], (2,))
    with pytest.raises(ValueError, match="initializer='nonsense'"):
        Network([("b", Dense(3, kernel_initializer="nonsense"))], (2,))
