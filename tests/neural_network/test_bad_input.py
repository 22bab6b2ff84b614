"""Bad input is refused before any work, with the parameter's name, and leaves nothing fitted."""

import contextlib
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from skdeep.neural_network import MLPClassifier, MLPRegressor
from skdeep.training import (
    LBFGS,
    SGD,
    Adam,
    Checkpoint,
    Cosine,
    Exponential,
    OneCycle,
    Performance,
    Piecewise,
    RMSProp,
)
from skdeep.training._loop import Trainer

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 5))
Y = rng.integers(0, 3, 40)
Z = rng.standard_normal((40, 2))
KINDS = {MLPClassifier: Y, MLPRegressor: Z}


@contextlib.contextmanager
def refused(estimator, *exceptions, match=None):
    """Expect an error before any training step, after which the estimator is as it was."""
    before = dict(vars(estimator))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", lambda *args: pytest.fail("training began"))
        with pytest.raises(exceptions or (ValueError, TypeError), match=match) as error:
            yield error
    assert str(error.value).strip()
    assert {k: v for k, v in vars(estimator).items() if before.get(k, ...) is not v} == {}
    assert vars(estimator).keys() == before.keys()
    if "network_" not in before:
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)


# ---- parameters --------------------------------------------------------------------------------

NEGATIVE = st.one_of(
    st.floats(max_value=0, exclude_max=True, allow_nan=False), st.integers(max_value=-1)
)
NOT_POSITIVE = st.one_of(NEGATIVE, st.just(0))
OUTSIDE_UNIT = st.one_of(NEGATIVE, st.floats(min_value=1, allow_nan=False), st.just(float("nan")))
OBJECTS = st.sampled_from([None, "nonsense", "", {}, [], object(), np.nan, 1j, "1", b"adam"])
NOT_A_NUMBER = st.sampled_from(
    [None, "0.5", {}, object(), np.nan, 1j, [0.5], np.array([0.1, 0.2])]
)
NOT_AN_INTEGER = st.one_of(
    NOT_POSITIVE, NOT_A_NUMBER, st.floats(1, 100).filter(lambda v: v != int(v))
)
NOT_BOOLEAN = st.sampled_from([None, "yes", 2, -1, 0.5, [], object()])

WRONG = {
    "hidden_layer_sizes": st.one_of(
        NOT_POSITIVE,
        st.sampled_from([None, "10", (0,), (-1,), (2.5,), (3, 0), (3, "a"), (None,), [[3, 4]]]),
    ),
    "activation": st.one_of(st.sampled_from([None, "nonsense", 3, [], "Relu", ""])),
    "solver": OBJECTS,
    "alpha": st.one_of(NEGATIVE, NOT_A_NUMBER),
    "batch_size": NOT_AN_INTEGER,
    "learning_rate": OBJECTS,
    "learning_rate_init": st.one_of(NOT_POSITIVE, NOT_A_NUMBER),
    "power_t": st.one_of(NEGATIVE, NOT_A_NUMBER),
    "max_iter": NOT_AN_INTEGER,
    "shuffle": NOT_BOOLEAN,
    "random_state": st.sampled_from(["a", -1, 1.5, [], object()]),
    "tol": st.one_of(NEGATIVE, NOT_A_NUMBER),
    "verbose": st.sampled_from([None, "yes", -1, [], object()]),
    "warm_start": NOT_BOOLEAN,
    "momentum": st.one_of(NEGATIVE, st.floats(min_value=1, exclude_min=True), NOT_A_NUMBER),
    "nesterovs_momentum": NOT_BOOLEAN,
    "early_stopping": NOT_BOOLEAN,
    "validation_fraction": st.one_of(OUTSIDE_UNIT, NOT_A_NUMBER),
    "beta_1": st.one_of(OUTSIDE_UNIT, NOT_A_NUMBER),
    "beta_2": st.one_of(OUTSIDE_UNIT, NOT_A_NUMBER),
    "epsilon": st.one_of(NOT_POSITIVE, NOT_A_NUMBER),
    "n_iter_no_change": NOT_AN_INTEGER,
    "max_fun": NOT_AN_INTEGER,
    "loss": st.sampled_from([None, "nonsense", "mse", 3, [], ""]),
    "optimizer": st.sampled_from(["adam", 3, Adam, object(), [], LBFGS]),
    "schedule": st.sampled_from(["cosine", 3, Cosine, object(), [], lambda t: 0.1]),
    "initializer": st.sampled_from([None, "nonsense", 3, [], "", object()]),
    "dropout": st.one_of(
        OUTSIDE_UNIT,
        st.sampled_from(["0.5", None, [0.1, 0.2], [1.5], ["a"], [-0.1], [np.nan], {}, [[0.1]]]),
    ),
    "input_dropout": st.one_of(OUTSIDE_UNIT, NOT_A_NUMBER),
    "dropconnect": st.one_of(OUTSIDE_UNIT, NOT_A_NUMBER),
    "input_noise": st.one_of(NEGATIVE, NOT_A_NUMBER),
    "batch_norm": st.sampled_from([None, "yes", 2, [], object()]),
    "layer_norm": NOT_BOOLEAN,
    "l1": st.one_of(NEGATIVE, NOT_A_NUMBER),
    "max_norm": st.one_of(NOT_POSITIVE, NOT_A_NUMBER.filter(lambda v: v is not None)),
    "clip_value": st.one_of(NOT_POSITIVE, NOT_A_NUMBER.filter(lambda v: v is not None)),
    "clip_norm": st.one_of(NOT_POSITIVE, NOT_A_NUMBER.filter(lambda v: v is not None)),
    "clip_global_norm": st.one_of(NOT_POSITIVE, NOT_A_NUMBER.filter(lambda v: v is not None)),
    "checkpoint": st.sampled_from([3, [], object(), "no/such/folder/run.safetensors"]),
    "dtype": st.sampled_from(["float16", "int32", None, 3, int, np.float16, "nonsense", object()]),
    "device": st.sampled_from(["gpu", "tpu", "cuda:x", None, 3, [], ""]),
    "precision": st.sampled_from(["float64", "half", None, 16, [], ""]),
    # Of one of the two only:
    "label_smoothing": st.one_of(OUTSIDE_UNIT, NOT_A_NUMBER),
    "class_weight": st.sampled_from(["nonsense", 3, [1, 2], object(), ""]),
    "delta": st.one_of(NOT_POSITIVE, NOT_A_NUMBER),
    "quantile": st.one_of(OUTSIDE_UNIT, st.just(0), NOT_A_NUMBER),
}


def test_every_parameter_is_fuzzed():
    assert set(WRONG) == set(MLPClassifier().get_params()) | set(MLPRegressor().get_params())


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", WRONG)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
)
@given(data=st.data())
def test_wrong_parameter_is_named(name, method, data):
    value = data.draw(WRONG[name])
    for kind, y in KINDS.items():
        estimator = kind(hidden_layer_sizes=(3,), max_iter=2)
        if name in estimator.get_params():
            estimator.set_params(**{name: value})
            first = {}
            if kind is MLPClassifier and method == "partial_fit":
                first = dict(classes=[0, 1, 2])
            with refused(estimator, match=f"(?i){name}"):
                getattr(estimator, method)(X, y, **first)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("optimizer", SGD(-1.0), "'learning_rate' parameter of SGD"),
        ("optimizer", Adam(beta_1=1.0), "'beta_1' parameter of Adam"),
        ("optimizer", RMSProp(rho=-0.1), "'rho' parameter of RMSProp"),
        ("optimizer", LBFGS(memory=0), "'memory' parameter of LBFGS"),
        ("schedule", Piecewise([], [0.1]), "'boundaries' parameter of Piecewise"),
        ("schedule", Piecewise([3, 2], [1, 2, 3]), "'boundaries' parameter of Piecewise"),
        ("schedule", Piecewise([3], [0.1]), "'values' parameter of Piecewise"),
        ("schedule", Cosine(period=0), "'period' parameter of Cosine"),
        ("schedule", Exponential(decay_rate=-1), "'decay_rate' parameter of Exponential"),
        ("schedule", OneCycle(max_rate=-1), "'max_rate' parameter of OneCycle"),
        ("schedule", Performance(factor=2), "'factor' parameter of Performance"),
        ("checkpoint", Checkpoint("run", every=0), "'every' parameter of Checkpoint"),
    ],
    ids=str,
)
def test_wrong_parameter_of_a_part_is_named(name, value, match):
    estimator = MLPClassifier((3,), **{name: value})
    with refused(estimator, ValueError, match=match):
        estimator.fit(X, Y)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (lambda y, raw: 1.0, "one loss per sample"),
        (lambda y, raw: np.zeros(len(raw)), "must depend on `y_pred`"),
        (lambda y, raw: raw, "one loss per sample"),
        (lambda y, raw: np.asarray(raw.tolist()), "cannot be differentiated"),
        (lambda y, raw: np.linalg.eig(raw), "cannot be differentiated"),
        (lambda raw: np.sum(raw, axis=1), "cannot be differentiated"),
    ],
    ids=["number", "constant", "raw", "list", "unknown function", "one argument"],
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_loss_that_is_not_differentiable(loss, match, solver):
    for kind, y in KINDS.items():
        estimator = kind(hidden_layer_sizes=(3,), loss=loss, solver=solver)
        with refused(estimator, TypeError, match=match):
            estimator.fit(X, y)


# ---- data --------------------------------------------------------------------------------------

BAD_X = {
    "NaN": (np.where(X > 2, np.nan, X) if (X > 2).any() else np.full_like(X, np.nan), "NaN"),
    "infinite": (np.full_like(X, np.inf), "infinity"),
    "one axis": (X[:, 0], "Expected 2D array"),
    "three axes": (X[:, :, None], "dim 3"),
    "no samples": (X[:0], "0 sample"),
    "no features": (X[:, :0], "0 feature"),
    "words": (np.full(X.shape, "a"), "could not convert|dtype='numeric'"),
    "complex": (X + 1j, "Complex data not supported"),
    "too few samples": (X[:7], "inconsistent numbers of samples"),
    "nothing": (None, "None|NoneType"),
    "sparse NaN": (sp.csr_array(np.full_like(X, np.nan)), "NaN"),
}


@pytest.mark.parametrize("case", BAD_X)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_samples(kind, case):
    estimator, (bad, match) = kind(hidden_layer_sizes=(3,)), BAD_X[case]
    with refused(estimator, match=match):
        estimator.fit(bad, KINDS[kind])


BAD_Y = {
    "NaN": np.full(40, np.nan),
    "infinite": np.full(40, np.inf),
    "three axes": np.zeros((40, 2, 2)),
    "too few": np.zeros(5),
    "none": None,
    "words": np.array(["a", "b"] * 20),
    "continuous": Z[:, 0],
}


@pytest.mark.parametrize("case", BAD_Y)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_targets(kind, case):
    if (kind, case) in [(MLPClassifier, "words"), (MLPRegressor, "continuous")]:
        return
    estimator = kind(hidden_layer_sizes=(3,))
    with refused(estimator):
        estimator.fit(X, BAD_Y[case])


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.ones(3), "sample_weight"),
        (np.ones((40, 2)), "[Ss]ample.weight"),
        (-np.ones(40), "[Nn]egative"),
        (np.full(40, np.nan), "NaN"),
        (np.zeros(40), "zero"),
        ("a", "convert"),
    ],
    ids=["short", "two axes", "negative", "NaN", "zero", "word"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_sample_weight(kind, weight, match):
    estimator = kind(hidden_layer_sizes=(3,))
    with refused(estimator, match=match):
        estimator.fit(X, KINDS[kind], weight)


@pytest.mark.parametrize(
    ("validation", "match"),
    [
        (dict(X_val=X), "y_val"),
        (dict(y_val=Y), "X_val"),
        (dict(X_val=X[:, :2], y_val=Y), "features"),
        (dict(X_val=X[:3], y_val=Y), "inconsistent"),
        (dict(X_val=np.full_like(X, np.nan), y_val=Y), "NaN"),
        (dict(X_val=X, y_val=Y + 7), "`y_val` has classes"),
        (dict(X_val=X, y_val=Y, sample_weight_val=np.ones(3)), "sample_weight"),
        (dict(X_val=X, y_val=Y, sample_weight_val=-np.ones(40)), "[Nn]egative"),
        (dict(sample_weight_val=np.ones(3)), "X_val"),
    ],
    ids=lambda v: ",".join(v) if isinstance(v, dict) else v,
)
def test_bad_validation_set(validation, match):
    estimator = MLPClassifier((3,))
    with refused(estimator, match=match):
        estimator.fit(X, Y, **validation)


def test_partial_fit_needs_the_classes_and_knows_no_others():
    mlp = MLPClassifier((3,), random_state=0)
    with refused(mlp, ValueError, match="classes must be passed"):
        mlp.partial_fit(X, Y)
    with refused(mlp, ValueError, match="classes"):
        mlp.partial_fit(X, Y, classes=[0, 1])
    mlp.partial_fit(X, Y, classes=[0, 1, 2])
    with refused(mlp, ValueError, match="classes"):
        mlp.partial_fit(X, Y + 1)
    with refused(mlp, ValueError, match="classes"):
        mlp.partial_fit(X, Y, classes=[0, 1, 2, 3])
    with refused(mlp, ValueError, match="features"):
        mlp.partial_fit(X[:, :2], Y)
    regressor = MLPRegressor(hidden_layer_sizes=(3,)).partial_fit(X, Z)
    with refused(regressor, ValueError, match="1 outputs"):
        regressor.partial_fit(X, Z[:, 0])


def test_several_labels_of_many_classes():
    with refused(mlp := MLPClassifier((3,)), ValueError, match="Multioutput"):
        mlp.fit(X, np.stack([Y, Y], axis=1))


def test_predict_checks_its_samples():
    mlp = MLPClassifier((3,), max_iter=300, tol=1e-2, random_state=0)
    with pytest.raises(NotFittedError):
        mlp.predict(X)
    mlp.fit(X, Y)
    for bad in (X[:, :2], np.full_like(X, np.nan), X[0], None):
        with pytest.raises((ValueError, TypeError)):
            mlp.predict(bad)


# ---- a refit that fails ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        lambda e: e.fit(np.full((40, 2), np.nan), Y),
        lambda e: e.fit(X[:, :2], Z),
        lambda e: e.set_params(alpha=-1.0).fit(X[:, :2], Y),
        lambda e: e.set_params(learning_rate_init=1e30, solver="sgd").fit(1e10 * X[:, :2], Y),
        lambda e: e.set_params(l1=1.0, solver="lbfgs").fit(X[:, :2], Y),
        lambda e: e.set_params(precision="half").fit(X[:, :2], Y),
    ],
)
def test_failed_refit_leaves_the_old_fit(bad):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    mlp = MLPClassifier((3,), max_iter=300, tol=1e-2, random_state=0).fit(frame, Y)
    fitted = {k: v for k, v in vars(mlp).items() if k.endswith("_") and not k.startswith("__")}
    expected = mlp.predict_proba(frame)
    with pytest.raises((ValueError, TypeError)):
        bad(mlp)
    now = {k: v for k, v in vars(mlp).items() if k.endswith("_") and not k.startswith("__")}
    assert now.keys() == fitted.keys()
    assert all(now[k] is fitted[k] for k in fitted)
    assert np.array_equal(mlp.predict_proba(frame), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_failed_partial_fit_leaves_the_old_fit(kind):
    estimator = kind(hidden_layer_sizes=(3,), solver="sgd", random_state=0)
    first = dict(classes=[0, 1, 2]) if kind is MLPClassifier else {}
    estimator.partial_fit(X, KINDS[kind], **first)
    twin = clone(estimator).partial_fit(X, KINDS[kind], **first)
    expected, curve = estimator.predict(X), list(estimator.loss_curve_)
    estimator.set_params(learning_rate_init=1e30)
    with pytest.raises(ValueError, match="non-finite"):
        estimator.partial_fit(1e10 * X, KINDS[kind])
    assert np.array_equal(estimator.predict(X), expected)
    assert estimator.loss_curve_ == curve
    estimator.set_params(learning_rate_init=0.001).partial_fit(X, KINDS[kind])
    twin.partial_fit(X, KINDS[kind])
    assert np.array_equal(estimator.coefs_[0], twin.coefs_[0])


# ---- divergence --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_in_the_first_epoch_is_an_error(kind):
    estimator = kind(
        hidden_layer_sizes=(5,), solver="sgd", learning_rate_init=1e30, random_state=0
    )
    attributes = set(vars(estimator))
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        estimator.fit(1e10 * X, KINDS[kind])
    assert set(vars(estimator)) == attributes
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_later_divergence_keeps_the_best_weights(early_stopping):
    rates = Piecewise([3], [1e-3, 1e30])
    settings = dict(hidden_layer_sizes=(5,), optimizer=SGD(), schedule=rates, batch_size=4)
    settings["random_state"] = 0
    mlp = MLPRegressor(early_stopping=early_stopping, max_iter=20, **settings)
    with pytest.warns(ConvergenceWarning, match=r"diverged in epoch 4 .*best weights .*Lower"):
        mlp.fit(X, Z)
    assert mlp.n_iter_ == 4
    assert not np.isfinite(mlp.loss_curve_[-1]) or mlp.loss_curve_[-1] > 1e10
    assert np.isfinite(mlp.predict(X)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = 3 if not early_stopping else 1 + int(np.argmax(mlp.validation_scores_[:3]))
        before = clone(mlp).set_params(max_iter=best).fit(X, Z)
    for a, b in zip(mlp.coefs_, before.coefs_, strict=True):
        assert np.array_equal(a, b)
