"""CNNClassifier, CNNRegressor, NetworkClassifier and NetworkRegressor as estimators."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skdeep.datasets import stream_arrays
from skdeep.layers import (
    Add,
    Auxiliary,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Residual,
)
from skdeep.neural_network import (
    CNNClassifier,
    CNNRegressor,
    MLPClassifier,
    NetworkClassifier,
    NetworkRegressor,
)
from skdeep.training import LBFGS, SGD, Augmentation, OneCycle

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
IMAGES = X.reshape(-1, 8, 8, 1)


def layers(**conv):
    return [
        ("conv1", Conv2D(8, 3, padding="same", activation="relu", **conv)),
        ("pool1", MaxPool2D(2)),
        ("flat", Flatten()),
        ("fc1", Dense(32, activation="relu")),
    ]


def cnn(**kw):
    kw = dict(layers=layers(), max_iter=3, random_state=0) | kw
    return CNNClassifier(**kw)


def test_learns_the_digits():
    fitted = cnn(max_iter=20).fit(IMAGES[:1400], Y[:1400])
    assert fitted.score(IMAGES[1400:], Y[1400:]) > 0.88
    assert fitted.network_.nodes[-1].name == "output"
    assert fitted.n_features_in_ == 64
    assert fitted.classes_.tolist() == list(range(10))


@pytest.mark.parametrize("form", ["rows", "gray", "lists", "sparse", "memmap", "uint8"])
def test_images_in_every_form_are_the_same_images(form, tmp_path):
    data = X[:300]
    if form == "rows":
        given = data
    elif form == "gray":
        given = data.reshape(-1, 8, 8)
    elif form == "lists":
        given = data.tolist()
    elif form == "sparse":
        given = sp.csr_matrix(data)
    elif form == "memmap":
        given = np.memmap(tmp_path / "x", np.float32, "w+", shape=(300, 8, 8, 1))
        given[:] = IMAGES[:300]
    else:
        given, data = (data * 16).astype(np.uint8), np.rint(data * 16)
    expected = cnn().fit(data.reshape(-1, 8, 8, 1), Y[:300])
    fitted = cnn().fit(given, Y[:300])
    assert fitted.network_.data.tobytes() == expected.network_.data.tobytes()
    raw = fitted.decision_function(given)
    np.testing.assert_array_equal(raw, fitted.decision_function(data).astype(raw.dtype))


def test_predictions_do_not_depend_on_the_batch():
    fitted = cnn().fit(IMAGES[:200], Y[:200])
    whole = fitted.decision_function(IMAGES)
    alone = np.concatenate([fitted.decision_function(IMAGES[i : i + 1]) for i in range(20)])
    assert alone.tobytes() == whole[:20].tobytes()


def test_a_search_tunes_the_parameters_of_a_layer():
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), cnn(image_shape=(8, 8, 1))),
        {
            "cnnclassifier__conv1__filters": [2, 6],
            "cnnclassifier__fc1__units": [4],
            "cnnclassifier__augmentation": [None, Augmentation(shift=1)],
        },
        cv=2,
    ).fit(X[:200], Y[:200])
    best = search.best_params_["cnnclassifier__conv1__filters"]
    net = search.best_estimator_[-1].network_
    assert net.shapes[1] == (8, 8, best)
    assert net.shapes[4] == (4,)


def test_parameters_by_name():
    estimator = cnn()
    params = estimator.get_params()
    assert params["conv1__filters"] == 8
    assert params["conv1"] is estimator.layers[0][1]
    estimator.set_params(conv1__filters=3, fc1=Dropout(0.5), alpha=1e-3)
    assert estimator.layers[0][1].filters == 3
    assert estimator.layers[3] == ("fc1", estimator.layers[3][1])
    assert isinstance(estimator.layers[3][1], Dropout)
    copy = clone(estimator)
    assert copy.layers[0][1] is not estimator.layers[0][1]
    assert copy.get_params()["conv1__filters"] == 3
    residual = cnn(layers=[("res", Residual(layers=[("inner", Conv2D(4, 3, padding="same"))]))])
    residual.set_params(res__inner__filters=6)
    assert residual.get_params()["res__inner__filters"] == 6


def test_pickles_and_warm_starts():
    fitted = cnn(warm_start=True).fit(IMAGES[:200], Y[:200])
    copy = pickle.loads(pickle.dumps(fitted))
    raw = fitted.decision_function(IMAGES[:50])
    assert copy.decision_function(IMAGES[:50]).tobytes() == raw.tobytes()
    before = fitted.loss_curve_[-1]
    assert fitted.fit(IMAGES[:200], Y[:200]).loss_curve_[-1] < before
    assert copy.decision_function(IMAGES[:50]).tobytes() == raw.tobytes()
    partial = cnn()
    for _ in range(2):
        partial.partial_fit(IMAGES[:200], Y[:200], classes=np.arange(10))
    assert partial.n_iter_ == 1
    assert len(partial.loss_curve_) == 2


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    kw = dict(
        layers=[
            ("conv1", Conv2D(8, 3, use_bias=False)),
            ("norm", BatchNormalization()),
            ("flat", Flatten()),
            ("drop", Dropout(0.3)),
        ],
        augmentation=Augmentation(shift=1, mixup=0.2),
        accumulate_steps=2,
        schedule=OneCycle(0.01),
    )
    whole = cnn(max_iter=4, **kw).fit(IMAGES[:300], Y[:300])

    class Interrupt(Exception):
        pass

    epochs = iter(range(9))

    def interrupt():
        if next(epochs) == 1:
            raise Interrupt

    path = tmp_path / "training.safetensors"
    broken = cnn(max_iter=4, checkpoint=path, **kw)
    from skdeep.training._loop import Trainer

    save = Trainer._save
    try:
        Trainer._save = lambda self, *a, **k: (save(self, *a, **k), interrupt())[0]
        with pytest.raises(Interrupt):
            broken.fit(IMAGES[:300], Y[:300])
    finally:
        Trainer._save = save
    assert not hasattr(broken, "network_")
    resumed = cnn(max_iter=4, checkpoint=path, **kw).fit(IMAGES[:300], Y[:300])
    assert resumed.network_.data.tobytes() == whole.network_.data.tobytes()
    assert resumed.network_.state_data.tobytes() == whole.network_.state_data.tobytes()


# ---- how steps are computed -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parts", [2, 3, 64])
def test_accumulated_gradients_make_the_same_steps(dtype, parts):
    kw = dict(
        layers=[*layers(), ("drop", Dropout(0.4))],
        augmentation=Augmentation(rotation=10, mixup=0.3),
        batch_size=50,
        dtype=dtype,
        alpha=1e-3,
        clip_global_norm=1.0,
    )
    weight = np.random.default_rng(0).uniform(size=260)
    whole = cnn(**kw).fit(IMAGES[:260], Y[:260], sample_weight=weight)
    parts = cnn(**kw, accumulate_steps=parts).fit(IMAGES[:260], Y[:260], sample_weight=weight)
    # Sums in another order: Adam turns a rounding of a tiny gradient into a visible step.
    tolerance = 2e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(
        parts.network_.data, whole.network_.data, atol=tolerance, rtol=tolerance
    )
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=tolerance)


def test_recomputed_activations_change_no_bit():
    stack = [
        ("res", Residual(filters=8)),
        ("drop", Dropout(0.2)),
        ("res2", Residual(filters=8, stride=2)),
        ("head", Auxiliary([("pool", GlobalAveragePool()), ("out", Dense(10))])),
        ("pool", GlobalAveragePool()),
    ]
    plain = cnn(layers=stack).fit(IMAGES[:200], Y[:200])
    for segments in (True, 3):
        again = cnn(layers=stack, checkpoint_activations=segments).fit(IMAGES[:200], Y[:200])
        assert again.network_.data.tobytes() == plain.network_.data.tobytes()
        assert again.network_.state_data.tobytes() == plain.network_.state_data.tobytes()
    deep = cnn(layers=[(f"res{i}", Residual(filters=8)) for i in range(12)] + stack[-1:])
    kept = deep.summary((32, 32, 8), n_outputs=10).training_bytes
    again = deep.set_params(checkpoint_activations=True).summary((32, 32, 8), n_outputs=10)
    assert again.training_bytes < 0.6 * kept


def test_sixteen_bit_activations_train_as_well():
    plain = cnn(max_iter=8).fit(IMAGES[:600], Y[:600])
    packed = cnn(max_iter=8, activation_storage="bfloat16").fit(IMAGES[:600], Y[:600])
    assert packed.loss_curve_ != plain.loss_curve_
    np.testing.assert_allclose(packed.loss_curve_, plain.loss_curve_, rtol=0.03)


def test_mixup_is_the_mean_of_two_losses():
    kw = dict(augmentation=Augmentation(mixup=0.4), max_iter=1, batch_size=20)
    fitted = cnn(learning_rate_init=1e-12, **kw).fit(IMAGES[:20], Y[:20])
    start = cnn(learning_rate_init=1e-12, max_iter=1).fit(IMAGES[:20], Y[:20])
    seed, counters = np.array([fitted._training["seed"]]), np.zeros((1, 4), np.int64)
    from skdeep._random import permutation
    from skdeep.autodiff.ops import softmax_cross_entropy

    order = permutation(seed[0], 0, 20)
    x, y = IMAGES[:20][order][None].copy(), Y[:20][order][None].copy()
    calls, other, share = Augmentation(mixup=0.4).calls(x, y, seed, counters)
    for kernel, args in calls:
        kernel(*args)
    net = start.network_
    raw = net.apply(net.params, net.state, x)[0]
    losses = [softmax_cross_entropy(raw, t) for t in (y, other)]
    expected = np.mean(share * losses[0] + (1 - share) * losses[1])
    assert 0 < share.min() < share.max() < 1
    assert fitted.loss_curve_[0] == pytest.approx(expected, rel=1e-5)


def test_auxiliary_losses_are_added():
    head = Auxiliary([("flat", Flatten()), ("out", Dense(10))], weight=0.5)
    stack = [("conv1", Conv2D(4, 3)), ("head", head), ("conv2", Conv2D(4, 3)), ("flat", Flatten())]
    kw = dict(layers=stack, learning_rate_init=1e-12, max_iter=1, batch_size=50, shuffle=False)
    fitted = cnn(**kw).fit(IMAGES[:50], Y[:50])
    from skdeep.autodiff.ops import softmax_cross_entropy

    net, x = fitted.network_, IMAGES[None, :50].copy()
    raws = net.apply(net.params, net.state, x, training=True)[0]
    losses = [softmax_cross_entropy(r, Y[None, :50]).mean() for r in raws]
    assert fitted.loss_curve_[0] == pytest.approx(losses[0] + 0.5 * losses[1], rel=1e-5)
    assert fitted.decision_function(IMAGES[:5]).shape == (5, 10)


# ---- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer_size", [64, 137, 5000])
def test_a_stream_shows_every_sample_once_an_epoch(buffer_size):
    stream = stream_arrays(IMAGES[:500], Y[:500], buffer_size=buffer_size)
    fitted = cnn(max_iter=12, batch_size=50).fit(stream)
    assert fitted.t_ == 12 * 500
    assert fitted._training["counters"][0, 0] == 12 * 10
    assert fitted.score(IMAGES[:500], Y[:500]) > 0.8
    again = cnn(max_iter=12, batch_size=50).fit(stream)
    assert again.network_.data.tobytes() == fitted.network_.data.tobytes()


def test_an_unshuffled_stream_equals_arrays_bit_for_bit():
    weight = np.random.default_rng(0).uniform(size=333)
    kw = dict(shuffle=False, batch_size=40, class_weight={3: 2.0})
    arrays = cnn(**kw).fit(IMAGES[:333], Y[:333], sample_weight=weight)
    stream = stream_arrays(IMAGES[:333], Y[:333], weight, shuffle=False, buffer_size=90)
    streamed = cnn(**kw).fit(stream)
    assert streamed.network_.data.tobytes() == arrays.network_.data.tobytes()
    assert streamed.loss_curve_ == pytest.approx(arrays.loss_curve_, rel=1e-12)


def test_streams_for_other_networks():
    labels = np.array(["even", "odd"])[Y % 2]
    stream = stream_arrays(X[:400], labels[:400], buffer_size=100)
    mlp = MLPClassifier((16,), max_iter=60, tol=0, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        mlp.fit(stream)
    assert mlp.score(X[:400], labels[:400]) > 0.9
    y = X[:, 20] + X[:, 30]
    net = NetworkRegressor([("h", Dense(16, activation="relu"))], max_iter=40, random_state=0)
    assert net.fit(stream_arrays(X[:400], y[:400], buffer_size=100)).score(X, y) > 0.7


@pytest.mark.parametrize(
    ("kw", "fit", "message"),
    [
        ({}, dict(y=Y[:50]), "a stream gives y"),
        (dict(early_stopping=True), {}, "needs X_val and y_val"),
        (dict(checkpoint="x"), {}, "checkpoint is not supported with a stream"),
        (dict(class_weight="balanced"), {}, "class_weight='balanced' needs all labels"),
    ],
)
def test_what_a_stream_refuses(kw, fit, message):
    with pytest.raises(ValueError, match=message):
        cnn(**kw).fit(stream_arrays(IMAGES[:50], Y[:50]), **fit)


# ---- architectures, graphs, regressors --------------------------------------------------------


def test_architectures_by_name_and_by_function():
    named = CNNClassifier(architecture="lenet5", max_iter=1).fit(IMAGES28[:64], Y[:64])
    assert named.network_.n_parameters > 50_000
    default = CNNClassifier(max_iter=1).fit(IMAGES[:64], Y[:64])
    assert default.network_.shapes[-1] == (10,)

    def tiny(input_shape, n_classes):
        return [("conv", Conv2D(2, 3)), ("flat", Flatten()), ("output", Dense(n_classes))]

    made = CNNClassifier(architecture=tiny, max_iter=1).fit(IMAGES[:64], Y[:64])
    assert made.network_.n_parameters == 2 * 9 + 2 + 2 * 36 * 10 + 10


IMAGES28 = np.kron(IMAGES[:64, :, :, 0], np.ones((3, 3), np.float32))
IMAGES28 = np.pad(IMAGES28, [(0, 0), (2, 2), (2, 2)])[..., None]


def test_graphs_of_dense_layers():
    graph = [
        ("a", Dense(16, activation="tanh")),
        ("b", Dense(16, activation="tanh")),
        ("sum", Add(), ["a", "b"]),
    ]
    net = NetworkClassifier(graph, max_iter=30, learning_rate_init=0.01, random_state=0)
    assert net.fit(X[:600], Y[:600]).score(X[600:], Y[600:]) > 0.85
    linear = NetworkClassifier(max_iter=30, learning_rate_init=0.02, random_state=0)
    assert linear.fit(X[:600], Y[:600]).score(X[600:], Y[600:]) > 0.85
    assert [n.name for n in linear.network_.nodes] == ["output"]


def test_regressors():
    y = np.stack([X[:, 20], X[:, 30] * 2], axis=1)
    net = CNNRegressor(layers(), max_iter=25, learning_rate_init=0.003, random_state=0)
    assert net.fit(IMAGES, y).score(IMAGES, y) > 0.9
    assert net.predict(IMAGES[:3]).shape == (3, 2)
    assert net.fit(IMAGES[:99], y[:99, 0]).predict(IMAGES[:3]).shape == (3,)


def test_early_stopping_with_given_images():
    given = dict(X_val=IMAGES[1000:1200], y_val=Y[1000:1200])
    stopped = cnn(early_stopping=True, max_iter=40, n_iter_no_change=2, tol=1e-2)
    stopped.fit(IMAGES[:600], Y[:600], **given)
    assert stopped.n_iter_ < 40
    assert stopped.best_validation_score_ == pytest.approx(
        stopped.score(IMAGES[1000:1200], Y[1000:1200])
    )


def test_divergence_keeps_the_best_weights():
    diverging = CNNRegressor(layers(), optimizer=SGD(1e3), max_iter=20, random_state=0)
    with pytest.raises(ValueError, match="non-finite"):
        diverging.fit(IMAGES[:200] * 1e3, Y[:200])
    assert not hasattr(diverging, "network_")


def test_summary():
    estimator = cnn()
    with pytest.raises(ValueError, match="input_shape is needed before fit"):
        estimator.summary()
    before = estimator.summary((8, 8, 1), n_outputs=10)
    estimator.fit(IMAGES[:100], Y[:100])
    after = estimator.summary()
    assert repr(before) == repr(after)
    assert after.n_parameters == estimator.network_.n_parameters == 8 * 10 + 128 * 32 + 32 + 330
    assert after.multiply_adds == 64 * 9 * 8 + 128 * 32 + 320
    assert "conv1" in repr(after)
    assert "<table>" in after._repr_html_()
    halves = cnn(accumulate_steps=4).summary((8, 8, 1), n_outputs=10)
    assert halves.training_bytes < before.training_bytes


# ---- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kw", "X", "message"),
    [
        ({}, np.zeros((9, 65)), "rows of 65 features, which make no square; give image_shape"),
        (dict(image_shape=(4, 4, 1)), X[:9], r"image_shape=\(4, 4, 1\) does not fit .* 64"),
        (dict(image_shape=(-1, -1, 1)), X[:9], "one -1 at most"),
        (dict(image_shape=(0, 64, 1)), X[:9], "positive sizes"),
        (dict(image_shape=(4, 16, 1)), IMAGES[:9], r"shape \(8, 8, 1\), but image_shape is \(4"),
        (dict(architecture="resnet19"), IMAGES[:9], "architecture='resnet19' must be one of"),
        (dict(architecture="lenet5", layers=layers()), IMAGES[:9], "both given"),
        (dict(layers=[("alpha", Flatten())]), IMAGES[:9], "parameters of CNNClassifier"),
        (dict(layers=[("c", Conv2D(4, 9))]), IMAGES[:9], "layer 'c': "),
        (dict(layers=[("c", Conv2D(4, 3, groups=2))]), IMAGES[:9], "layer 'c': .*groups=2"),
        (dict(layers=[("d", Dense(4))]), IMAGES[:9], "put a Flatten layer before it"),
        (dict(layers=[("flat", Flatten()), ("output", Dense(3))]), IMAGES[:9], r"asks for \(9,\)"),
        (dict(layers=[("a", Flatten(), "b"), ("b", Flatten(), "a")]), IMAGES[:9], "form a cycle"),
        (dict(layers=[("a", Flatten(), "z")]), IMAGES[:9], "reads 'z'"),
        (dict(augmentation=Augmentation(crop=9)), IMAGES[:9], "crop"),
        (dict(augmentation=Augmentation(cutout=8)), IMAGES[:9], "cutout"),
        (dict(augmentation=Augmentation(hue=0.1)), IMAGES[:9], "hue"),
        (dict(optimizer=LBFGS()), IMAGES[:9], "stochastic optimiser"),
        (dict(accumulate_steps=0), IMAGES[:9], "accumulate_steps"),
        (dict(activation_storage="float16"), IMAGES[:9], "activation_storage"),
        (dict(activation_storage="bfloat16", dtype="float64"), IMAGES[:9], "activation_storage"),
        (dict(solver="lbfgs"), IMAGES[:9], "solver"),
        ({}, np.where(np.arange(64) == 9, np.nan, X[:9]), "NaN"),
        ({}, X[0], "2D array"),
    ],
)
def test_refuses_before_any_work(kw, X, message):
    estimator = CNNClassifier(**kw) if "layers" in kw or "architecture" in kw else cnn(**kw)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, np.arange(9))
    assert not [name for name in vars(estimator) if name.endswith("_")]


def test_predicting_refuses_other_images():
    with pytest.raises(NotFittedError):
        cnn().predict(IMAGES)
    fitted = cnn().fit(IMAGES[:50], Y[:50])
    with pytest.raises(ValueError, match=r"shape \(7, 8, 1\)"):
        fitted.predict(IMAGES[:5, :7])
    with pytest.raises(ValueError, match="expecting 64 features"):
        fitted.predict(np.zeros((5, 49)))


# ---- threads ----------------------------------------------------------------------------------


def test_the_number_of_threads_changes_no_bit():
    kw = dict(
        layers=[
            ("res", Residual(filters=8)),
            ("drop", Dropout(0.3)),
            ("pool", GlobalAveragePool()),
        ],
        augmentation=Augmentation(shift=1, mixup=0.2),
        batch_size=50,
        accumulate_steps=4,
        alpha=1e-3,
    )
    alone = cnn(**kw).fit(IMAGES[:330], Y[:330])
    together = cnn(**kw, n_jobs=2).fit(IMAGES[:330], Y[:330])
    assert together.network_.data.tobytes() == alone.network_.data.tobytes()
    assert together.network_.state_data.tobytes() == alone.network_.state_data.tobytes()
    assert together.loss_curve_ == alone.loss_curve_
    many = np.concatenate([IMAGES] * 10)
    raw = together.decision_function(many)
    assert raw.tobytes() == alone.decision_function(many).tobytes()


def test_threads_make_parts_of_their_own():
    one = cnn(n_jobs=1).fit(IMAGES[:300], Y[:300])
    two = cnn(n_jobs=2).fit(IMAGES[:300], Y[:300])
    np.testing.assert_allclose(two.network_.data, one.network_.data, atol=2e-3)
    parts = cnn(accumulate_steps=2).fit(IMAGES[:300], Y[:300])
    assert two.network_.data.tobytes() == parts.network_.data.tobytes()


def test_parts_keep_the_mean_of_their_statistics():
    stack = [("norm", BatchNormalization(momentum=0.5)), ("flat", Flatten())]
    kw = dict(layers=stack, max_iter=1, shuffle=False, batch_size=40, dtype="float64")
    fitted = cnn(**kw, accumulate_steps=2).fit(IMAGES[:40], Y[:40])
    halves = IMAGES[:40].astype(float).reshape(2, -1)
    state = fitted.network_.state[0]
    assert state["mean"].item() == pytest.approx(0.5 * halves.mean())
    assert state["variance"].item() == pytest.approx(0.5 + 0.5 * halves.var(axis=1).mean())
