"""The perceptrons inside scikit-learn's machinery: searches, pipelines, copies, processes."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeep._random import member_seeds
from skdeep.layers import He, PReLU
from skdeep.neural_network import MLPClassifier, MLPRegressor
from skdeep.training import SGD, Adam, Checkpoint, Constant, Cosine, OneCycle

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, D = 90, 5
rng = np.random.default_rng(0)
X = rng.standard_normal((N, D))
Y = np.array(["ant", "bee", "cow"])[(X @ rng.standard_normal((D, 3))).argmax(axis=1)]
Z = np.tanh(X[:, :2])

FULL = dict(
    hidden_layer_sizes=(6,),
    activation=PReLU(0.1),
    optimizer=Adam(0.02),
    schedule=Cosine(),
    initializer=He(),
    dropout=0.1,
    batch_norm=True,
    max_iter=5,
    random_state=0,
)


def assert_same_weights(a, b):
    for u, v in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert np.array_equal(u, v)


def test_nested_parameters_are_searched():
    grid = {
        "mlp__optimizer__beta_1": [0.5, 0.9],
        "mlp__schedule": [Cosine(), OneCycle(), Constant()],
    }
    pipeline = Pipeline([("scale", StandardScaler()), ("mlp", MLPClassifier(**FULL))])
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 6
    best = search.best_estimator_["mlp"]
    assert best.optimizer.beta_1 == search.best_params_["mlp__optimizer__beta_1"]
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0  # the parameters have an effect
    by_hand = clone(pipeline).set_params(**search.best_params_).fit(X, Y)
    assert_same_weights(by_hand["mlp"], best)


def test_parts_are_not_changed_by_fit_nor_shared_by_clones():
    mlp = MLPClassifier(**FULL)
    before = repr(mlp.get_params())
    fitted = clone(mlp).fit(X, Y)
    assert repr(fitted.get_params()) == before
    assert fitted.optimizer is not mlp.optimizer
    fitted.set_params(optimizer__learning_rate=0.5, schedule=OneCycle())
    assert repr(mlp.get_params()) == before


@pytest.mark.parametrize(
    "change", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_copies_predict_alike(change, solver):
    settings = FULL
    if solver == "lbfgs":
        settings = dict(hidden_layer_sizes=(6,), solver=solver, max_iter=5, random_state=0)
    mlp = MLPClassifier(**settings).fit(X, Y)
    again = change(mlp)
    assert np.array_equal(again.predict_proba(X), mlp.predict_proba(X))
    assert again.loss_curve_ == mlp.loss_curve_
    assert repr(again.get_params()) == repr(mlp.get_params())
    again.coefs_[0][...] += 1  # the copy's coefs_ are its own network's
    assert not np.array_equal(again.predict_proba(X), mlp.predict_proba(X)) or change is copy.copy


def test_fits_in_other_processes_are_the_same():
    settings = [dict(), dict(dropout=0.3), dict(optimizer=SGD(0.1))]
    estimators = [MLPClassifier(**FULL | more) for more in settings]
    here = [clone(e).fit(X, Y) for e in estimators]
    with joblib.parallel_config("loky", n_jobs=2):
        there = joblib.Parallel()(joblib.delayed(clone(e).fit)(X, Y) for e in estimators)
        scores = cross_val_score(estimators[0], X, Y, cv=3)
    for a, b in zip(here, there, strict=True):
        assert_same_weights(a, b)
    assert np.array_equal(scores, cross_val_score(estimators[0], X, Y, cv=3))


def test_fits_in_threads_are_the_same():
    estimators = [MLPClassifier(**FULL | dict(random_state=seed)) for seed in range(6)]
    here = [clone(e).fit(X, Y) for e in estimators]
    with joblib.parallel_config("threading", n_jobs=4):
        there = joblib.Parallel()(joblib.delayed(clone(e).fit)(X, Y) for e in estimators)
    for a, b in zip(here, there, strict=True):
        assert_same_weights(a, b)


def test_predictions_in_threads_are_the_same():
    mlp = MLPClassifier(**FULL).fit(X, Y)
    expected = mlp.predict_proba(X)
    for got in joblib.Parallel(4, "threading")(
        joblib.delayed(mlp.predict_proba)(X) for _ in range(40)
    ):
        assert np.array_equal(got, expected)


def test_feature_names_and_set_output():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    mlp = MLPClassifier(**FULL).fit(frame, pd.Series(Y))
    assert list(mlp.feature_names_in_) == list("abcde")
    assert mlp.n_features_in_ == D
    assert_same_weights(mlp, MLPClassifier(**FULL).fit(X, Y))
    with pytest.raises(ValueError, match="feature names should match"):
        mlp.predict(frame[list("edcba")])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        mlp.predict(X)
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**FULL))
    pipeline.set_output(transform="pandas").fit(frame, pd.DataFrame(Z))
    assert list(pipeline[-1].feature_names_in_) == list("abcde")
    assert pipeline.predict(frame).shape == (N, 2)


def test_sample_weight_is_routed():
    weight = np.linspace(0.1, 3, N)
    direct = MLPClassifier(**FULL).fit(X, Y, weight)
    nothing = FunctionTransformer()
    by_name = make_pipeline(nothing, MLPClassifier(**FULL))
    by_name.fit(X, Y, mlpclassifier__sample_weight=weight)
    assert_same_weights(by_name[-1], direct)
    with config_context(enable_metadata_routing=True):
        mlp = MLPClassifier(**FULL).set_fit_request(sample_weight=True)
        routed = make_pipeline(nothing, mlp).fit(X, Y, sample_weight=weight)
        assert_same_weights(routed[-1], direct)
        search = GridSearchCV(
            mlp.set_score_request(sample_weight=True), {"alpha": [1e-4]}, cv=2
        ).fit(X, Y, sample_weight=weight)
        assert_same_weights(search.best_estimator_, direct)
        more = MLPClassifier(**FULL).set_partial_fit_request(sample_weight=True, classes=True)
        assert more.get_metadata_routing().partial_fit.requests["classes"] is True


def test_validation_set_is_routed():
    with config_context(enable_metadata_routing=True):
        mlp = MLPClassifier(**FULL).set_fit_request(X_val=True, y_val=True)
        routed = make_pipeline(FunctionTransformer(), mlp).fit(X, Y, X_val=X[:30], y_val=Y[:30])
    assert len(routed[-1].validation_scores_) == 5


def test_inside_meta_estimators():
    mlp = MLPClassifier((6,), max_iter=100, learning_rate_init=0.02, random_state=0)
    for meta in (
        BaggingClassifier(mlp, n_estimators=3, random_state=0),
        OneVsRestClassifier(mlp),
        StackingClassifier([("mlp", mlp)], LogisticRegression(), cv=2),
    ):
        assert meta.fit(X, Y).score(X, Y) > 0.8


def test_checkpoint_as_a_nested_parameter(tmp_path):
    mlp = MLPClassifier(**FULL, checkpoint=Checkpoint(tmp_path / "a.safetensors"))
    mlp.set_params(checkpoint__every=2, checkpoint__path=str(tmp_path / "b.safetensors"))
    clone(mlp).fit(X, Y)
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_of_the_fitted(dtype):
    mlp = MLPClassifier(**FULL, dtype=dtype).fit(X, Y)
    assert {a.dtype for a in mlp.coefs_ + mlp.intercepts_} == {np.dtype(dtype)}
    assert mlp.predict_proba(X).dtype == np.float64
    assert mlp.predict(X).dtype == Y.dtype
    regressor = MLPRegressor(**FULL, dtype=dtype).fit(X, Z)
    assert regressor.predict(X).dtype == np.float64
    assert regressor.predict(X.astype(np.float32)).dtype == np.float32
    proba = mlp.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(mlp.predict_log_proba(X)), proba, rtol=1e-10)


def test_repr_html_and_names_of_parameters():
    mlp = MLPClassifier(**FULL)
    assert "optimizer__beta_1" in mlp.get_params()
    assert "Cosine" in mlp._repr_html_()
    assert repr(MLPClassifier(dropout=0.5)) == "MLPClassifier(dropout=0.5)"


# ---- other parameters between fits -------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
def test_held_out_part_equals_a_given_validation_set(shuffle):
    settings = FULL | dict(early_stopping=True, max_iter=8, dtype="float64", shuffle=shuffle)
    split = MLPClassifier(**settings, validation_fraction=0.3).fit(X, Y)
    seed = int(member_seeds(0, 1)[0])
    train, held = train_test_split(
        np.arange(N), random_state=seed % 2**32, test_size=0.3, stratify=Y
    )
    train = np.sort(train)
    given = MLPClassifier(**settings).fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    assert given.validation_scores_ == split.validation_scores_
    assert given.loss_curve_ == split.loss_curve_
    assert_same_weights(given, split)


@pytest.mark.parametrize("first", ["lbfgs", "sgd", "ftrl", "adam"])
@pytest.mark.parametrize("then", ["adam", "sgd", "adagrad"])
def test_solver_may_change_between_fits(first, then):
    """The weights are kept; the state of another optimiser is not."""
    settings = dict(hidden_layer_sizes=(6,), max_iter=3, random_state=0, shuffle=False)
    mlp = MLPClassifier(**settings, solver=first, warm_start=True).fit(X, Y)
    anew = MLPClassifier(**settings, solver=then, warm_start=True)
    anew.coefs_ = [c.copy() for c in mlp.coefs_]
    anew.intercepts_ = [b.copy() for b in mlp.intercepts_]
    if first != then:
        continued = copy.deepcopy(mlp).set_params(solver=then).partial_fit(X, Y)
        one = clone(anew)
        one.coefs_, one.intercepts_ = anew.coefs_, anew.intercepts_
        assert_same_weights(continued, one.set_params(max_iter=1).fit(X, Y))
    assert_same_weights(mlp.set_params(solver=then).fit(X, Y), anew.fit(X, Y))


def test_lbfgs_uses_every_sample_and_scores_a_given_validation_set():
    """There is nothing to stop early by: no part is held out, as in scikit-learn."""
    settings = dict(hidden_layer_sizes=(6,), solver="lbfgs", max_iter=6, random_state=0)
    plain = MLPClassifier(**settings).fit(X, Y)
    assert_same_weights(MLPClassifier(**settings, early_stopping=True).fit(X, Y), plain)
    watched = MLPClassifier(**settings).fit(X, Y, X_val=X, y_val=Y)
    assert_same_weights(watched, plain)
    assert watched.validation_scores_[-1] == plain.score(X, Y)
    assert len(watched.validation_scores_) == 6
    assert watched.best_validation_score_ == max(watched.validation_scores_)


def test_truncated_checkpoint_leaves_nothing_fitted(tmp_path):
    path = tmp_path / "run.safetensors"
    MLPClassifier(**FULL, checkpoint=path).fit(X, Y)
    path.write_bytes(path.read_bytes()[:-9])
    mlp = MLPClassifier(**FULL, checkpoint=path)
    with pytest.raises(ValueError, match="truncated or not a checkpoint.*[Dd]elete it"):
        mlp.fit(X, Y)
    with pytest.raises(NotFittedError):
        mlp.predict(X)
    path.unlink()
    assert_same_weights(mlp.fit(X, Y), MLPClassifier(**FULL).fit(X, Y))
