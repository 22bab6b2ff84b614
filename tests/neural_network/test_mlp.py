"""The perceptrons against scikit-learn's, step for step, and against closed forms."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from sklearn.neural_network import MLPRegressor as SklearnRegressor
from sklearn.svm import SVC

from skdeep.neural_network import MLPClassifier, MLPRegressor
from skdeep.neural_network._targets import ClassTarget
from skdeep.training import SGD, Cosine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, D = 53, 6
rng = np.random.default_rng(0)
X = rng.standard_normal((N, D))
TEACHER = rng.standard_normal((D, 4))
Z = np.tanh(X @ TEACHER) + 0.1 * rng.standard_normal((N, 4))
LABELS = np.array(["ant", "bee", "cow", "dog"])[Z.argmax(axis=1)]
TARGETS = {
    "binary": LABELS > "bee",
    "multiclass": LABELS,
    "multilabel": (Z > 0).astype(int),
    "regression": Z[:, 0],
    "multioutput": Z,
    "poisson": np.exp(Z[:, 0]),
}
WEIGHT = rng.uniform(0.1, 3, N)

#: Both sum the same float64 terms, in other orders; a step passes rounding on, amplified by the
#: curvature: 1e-9 is far above that and far below any wrong term.
EXACT = dict(rtol=1e-9, atol=1e-9)


def ours(task):
    return MLPClassifier if task in ("binary", "multiclass", "multilabel") else MLPRegressor


def theirs(task):
    return SklearnClassifier if ours(task) is MLPClassifier else SklearnRegressor


def sklearn_weights(sizes, factor, seed):
    """Draw the weights that scikit-learn begins with."""
    draws = np.random.RandomState(seed)
    coefs, intercepts = [], []
    for a, b in itertools.pairwise(sizes):
        bound = np.sqrt(factor / (a + b))
        coefs.append(draws.uniform(-bound, bound, (a, b)))
        intercepts.append(draws.uniform(-bound, bound, b))
    return coefs, intercepts


def pair(task, hidden=(7, 5), **settings):
    """Return scikit-learn's estimator and ours, in float64, which begin with equal weights."""
    common = dict(
        hidden_layer_sizes=hidden, shuffle=False, batch_size=16, max_iter=7, random_state=3
    )
    common |= dict(alpha=0.3, tol=0, n_iter_no_change=1000) | settings
    if task == "poisson":
        common["loss"] = "poisson"
    mine = ours(task)(**common, dtype="float64", warm_start=True)
    n_outputs = {"multiclass": 4, "multilabel": 4, "multioutput": 4}.get(task, 1)
    factor = 2.0 if common.get("activation") == "logistic" else 6.0
    start = sklearn_weights((D, *hidden, n_outputs), factor, 3)
    mine.coefs_, mine.intercepts_ = start
    return theirs(task)(**common), mine


def assert_equal_training(reference, mine, tolerance=EXACT):
    assert mine.n_iter_ == reference.n_iter_
    assert mine.t_ == reference.t_ or mine.solver == "lbfgs"
    for a, b in zip(
        mine.coefs_ + mine.intercepts_, reference.coefs_ + reference.intercepts_, strict=True
    ):
        np.testing.assert_allclose(a, b, **tolerance)
    if hasattr(reference, "loss_curve_") and mine.n_outputs_ == 1:
        np.testing.assert_allclose(mine.loss_curve_, reference.loss_curve_, **tolerance)
        np.testing.assert_allclose(mine.best_loss_, reference.best_loss_, **tolerance)


def assert_same_weights(a, b):
    for u, v in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert np.array_equal(u, v)


# ---- scikit-learn, step for step ---------------------------------------------------------------

SOLVERS = {
    "plain": dict(solver="sgd", momentum=0, learning_rate_init=0.1),
    "momentum": dict(solver="sgd", nesterovs_momentum=False, learning_rate_init=0.05),
    "nesterov": dict(solver="sgd", learning_rate_init=0.05),
    "invscaling": dict(solver="sgd", learning_rate="invscaling", learning_rate_init=0.5),
    "adaptive": dict(
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.2,
        tol=0.05,
        n_iter_no_change=2,
        max_iter=40,
    ),
    "adam": dict(solver="adam", learning_rate_init=0.01),
    "adam, other betas": dict(solver="adam", beta_1=0.5, beta_2=0.9, epsilon=1e-4),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_training_equals_sklearn_for_every_solver(solver, weighted):
    reference, mine = pair("multiclass", **SOLVERS[solver])
    weight = WEIGHT if weighted else None
    mine.fit(X, LABELS, weight)
    assert_equal_training(reference.fit(X, LABELS, weight), mine)
    np.testing.assert_allclose(mine.loss_curve_, reference.loss_curve_, **EXACT)
    np.testing.assert_allclose(mine.predict_proba(X), reference.predict_proba(X), **EXACT)
    assert np.array_equal(mine.predict(X), reference.predict(X))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", TARGETS)
def test_training_equals_sklearn_for_every_task(task, activation):
    rate = dict(solver="sgd", learning_rate_init=0.02)
    reference, mine = pair(task, activation=activation, **rate)
    reference.fit(X, TARGETS[task])
    assert_equal_training(reference, mine.fit(X, TARGETS[task]))
    np.testing.assert_allclose(mine.predict(X), reference.predict(X), **EXACT) if ours(
        task
    ) is MLPRegressor else np.testing.assert_array_equal(mine.predict(X), reference.predict(X))
    assert mine.out_activation_ == reference.out_activation_
    assert mine.n_layers_ == reference.n_layers_
    assert mine.n_outputs_ == reference.n_outputs_


# Of many outputs scikit-learn's loss is the mean and its gradient the sum: its line search goes
# another way.
@pytest.mark.parametrize("task", sorted(TARGETS.keys() - {"multioutput"}))
def test_lbfgs_goes_the_way_of_sklearn(task):
    reference, mine = pair(task, solver="lbfgs", max_iter=10)
    reference.fit(X, TARGETS[task])
    mine.fit(X, TARGETS[task])
    # Each iteration passes the rounding of its line search on to the next.
    assert_equal_training(reference, mine, dict(rtol=1e-6, atol=1e-6))
    assert len(mine.loss_curve_) == mine.n_iter_
    assert mine.loss_curve_[-1] == mine.loss_ == mine.best_loss_


def test_early_stopping_stops_where_sklearn_stops():
    """With one and the same validation set: the last rows, by hand in scikit-learn's place."""
    settings = dict(solver="adam", learning_rate_init=0.05, n_iter_no_change=3, max_iter=60)
    reference, mine = pair("regression", **settings)
    train, held = slice(0, 40), slice(40, None)
    mine.set_params(early_stopping=True)
    mine.fit(X[train], Z[train, 0], X_val=X[held], y_val=Z[held, 0])
    scores = [
        clone(reference)
        .set_params(max_iter=k + 1)
        .fit(X[train], Z[train, 0])
        .score(X[held], Z[held, 0])
        for k in range(mine.n_iter_)
    ]
    np.testing.assert_allclose(mine.validation_scores_, scores, **EXACT)
    best = int(np.argmax(scores))
    assert mine.n_iter_ == best + 1 + 4 < 60  # more than n_iter_no_change epochs after the best
    at_best = clone(reference).set_params(max_iter=best + 1).fit(X[train], Z[train, 0])
    np.testing.assert_allclose(mine.predict(X), at_best.predict(X), **EXACT)
    assert mine.best_validation_score_ == max(mine.validation_scores_)
    assert mine.best_loss_ is None


# ---- sample weights ----------------------------------------------------------------------------

WEIGHTED = {
    "multiclass": MLPClassifier((7,), learning_rate_init=0.02),
    "binary": MLPClassifier((7,), solver="sgd", learning_rate_init=0.1),
    "multilabel": MLPClassifier((7,), learning_rate_init=0.02),
    "hinge": MLPClassifier((7,), loss="squared_hinge", learning_rate_init=0.02),
    "smoothed": MLPClassifier((7,), label_smoothing=0.1, learning_rate_init=0.02),
    "callable": MLPClassifier(
        (7,), loss=lambda y, raw: np.sum((raw - y) ** 2, axis=1), learning_rate_init=0.02
    ),
    "regression": MLPRegressor(hidden_layer_sizes=(7,), learning_rate_init=0.02),
    "multioutput": MLPRegressor(hidden_layer_sizes=(7,), loss="huber", learning_rate_init=0.02),
    "lbfgs": MLPClassifier((7,), solver="lbfgs"),
    "lbfgs regression": MLPRegressor(hidden_layer_sizes=(7,), solver="lbfgs"),
    "clipped": MLPClassifier((7,), clip_global_norm=0.1, l1=0.1, learning_rate_init=0.02),
}


def target_of(case, estimator):
    default = "multiclass" if isinstance(estimator, MLPClassifier) else "regression"
    return TARGETS.get(case, TARGETS[default])


def full_batch(estimator, **settings):
    """Return a copy that takes all samples at once, in order, in float64."""
    settings = dict(dtype="float64", shuffle=False, max_iter=30, tol=0) | settings
    return clone(estimator).set_params(
        batch_size=10**4, random_state=0, n_iter_no_change=1000, alpha=0.1, **settings
    )


@pytest.mark.filterwarnings("ignore:Got `batch_size`")
@pytest.mark.parametrize("case", WEIGHTED)
def test_sample_weights_equal_repetition(case):
    estimator, y = WEIGHTED[case], target_of(case, WEIGHTED[case])
    counts = np.random.default_rng(1).integers(1, 4, N)
    # A line search amplifies rounding from one iteration to the next: compare a few.
    few = dict(max_iter=8) if case.startswith("lbfgs") else {}
    weighted = full_batch(estimator, **few).fit(X, y, counts.astype(float))
    rows = np.repeat(np.arange(N), counts)
    repeated = full_batch(estimator, **few).fit(X[rows], y[rows])
    for a, b in zip(weighted.coefs_, repeated.coefs_, strict=True):
        np.testing.assert_allclose(a, b, **EXACT)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, **EXACT)


@pytest.mark.filterwarnings("ignore:Got `batch_size`")
@pytest.mark.parametrize("case", WEIGHTED)
def test_zero_weights_equal_removal(case):
    estimator, y = WEIGHTED[case], target_of(case, WEIGHTED[case])
    weight = np.random.default_rng(2).integers(0, 2, N).astype(float)
    kept = weight > 0
    few = dict(max_iter=8) if case.startswith("lbfgs") else {}
    weighted = full_batch(estimator, **few).fit(X, y, weight)
    removed = full_batch(estimator, **few).fit(X[kept], y[kept])
    for a, b in zip(weighted.coefs_, removed.coefs_, strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


@pytest.mark.parametrize("class_weight", ["balanced", {"ant": 2.0, "dog": 0.5}])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_class_weight_equals_sample_weight(class_weight, weight):
    classes, index, counts = np.unique(LABELS, return_inverse=True, return_counts=True)
    if class_weight == "balanced":
        factor = N / (len(classes) * counts)
    else:
        factor = np.array([class_weight.get(c, 1.0) for c in classes])
    mlp = MLPClassifier((5,), max_iter=5, random_state=0, dtype="float64")
    by_sample = clone(mlp).fit(X, LABELS, factor[index] * (1 if weight is None else weight))
    by_class = mlp.set_params(class_weight=class_weight).fit(X, LABELS, weight)
    assert_same_weights(by_class, by_sample)
    assert not np.array_equal(
        by_class.coefs_[0], clone(mlp).set_params(class_weight=None).fit(X, LABELS).coefs_[0]
    )


# ---- linear models -----------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_logistic_regression(task):
    """alpha is 1 / C, and the intercept is not penalised."""
    y, alpha = TARGETS[task], 0.7
    reference = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=5000).fit(X, y)
    mlp = MLPClassifier(
        (), alpha=alpha, solver="lbfgs", tol=1e-9, max_iter=5000, dtype="float64", random_state=0
    ).fit(X, y)
    objective = log_loss(y, reference.predict_proba(X)) + alpha / 2 / N * np.sum(
        reference.coef_**2
    )
    # L-BFGS stops when the objective falls by less than 2e-9 of itself; the distance to the
    # minimum goes with the root of that.
    np.testing.assert_allclose(mlp.loss_, objective, rtol=1e-8)
    np.testing.assert_allclose(mlp.coefs_[0].T, reference.coef_, atol=5e-4)
    shift = mlp.intercepts_[0].mean() if task == "multiclass" else 0  # of which softmax is free
    np.testing.assert_allclose(mlp.intercepts_[0] - shift, reference.intercept_, atol=5e-4)
    np.testing.assert_allclose(mlp.predict_proba(X), reference.predict_proba(X), atol=1e-4)


def test_hinge_is_the_maximum_margin():
    y, alpha = TARGETS["binary"], 1.0
    svm = SVC(kernel="linear", C=1 / alpha, tol=1e-10).fit(X, y)
    mlp = MLPClassifier(
        (),
        loss="hinge",
        alpha=alpha,
        max_iter=3000,
        batch_size=N,
        learning_rate_init=0.05,
        schedule=Cosine(),
        tol=0,
        n_iter_no_change=10**6,
        dtype="float64",
        random_state=0,
    ).fit(X, y)

    def objective(w, b):
        margins = np.where(y, 1, -1) * (X @ w + b)
        return np.maximum(0, 1 - margins).sum() + alpha / 2 * w @ w

    best = objective(svm.coef_[0], svm.intercept_[0])
    reached = objective(mlp.coefs_[0][:, 0], mlp.intercepts_[0][0])
    # libsvm's is the minimum; subgradient steps with a rate that falls to 0 come this near.
    assert best - 1e-6 <= reached <= best * (1 + 1e-3)
    assert not hasattr(mlp, "predict_proba")
    assert mlp.out_activation_ == "identity"
    assert np.array_equal(mlp.predict(X), mlp.decision_function(X) > 0)


def test_perceptron_is_rosenblatts():
    """One sample a step, rate 1, from zero: the very updates of scikit-learn's perceptron."""
    w = np.random.default_rng(5).standard_normal(D)
    points = np.random.default_rng(6).standard_normal((80, D))
    points = points[np.abs(points @ w) > 0.3]  # with a margin, so that it must converge
    y = points @ w > 0
    settings = dict(shuffle=False, max_iter=100, tol=None)
    reference = Perceptron(eta0=1.0, **settings).fit(points, y)
    mlp = MLPClassifier(
        (),
        loss="perceptron",
        optimizer=SGD(1.0),
        batch_size=1,
        alpha=0,
        shuffle=False,
        max_iter=100,
        tol=0,
        n_iter_no_change=1000,
        initializer="zeros",
        dtype="float64",
        random_state=0,
    ).fit(points, y)
    assert mlp.score(points, y) == 1
    np.testing.assert_allclose(mlp.coefs_[0].T, reference.coef_, rtol=1e-12)
    np.testing.assert_allclose(mlp.intercepts_[0], reference.intercept_, rtol=1e-12)
    assert mlp.loss_ == 0


def test_perceptron_of_many_classes_separates_them():
    centres = 6 * np.eye(4, D)
    numbers = np.arange(120) % 4
    points = centres[numbers] + 0.3 * np.random.default_rng(0).standard_normal((120, D))
    mlp = MLPClassifier((), loss="perceptron", learning_rate_init=0.1, random_state=0)
    assert mlp.fit(points, numbers).score(points, numbers) == 1


# ---- going on ----------------------------------------------------------------------------------

GOING_ON = {
    "adam": dict(),
    "momentum": dict(solver="sgd", learning_rate_init=0.05),
    "invscaling": dict(solver="sgd", learning_rate="invscaling", learning_rate_init=0.5),
    "rmsprop": dict(solver="rmsprop"),
    "ftrl": dict(solver="ftrl", learning_rate_init=0.1),
    "dropout and batch norm": dict(dropout=0.3, batch_norm=True),
}


@pytest.mark.parametrize("between", ["nothing", "pickle", "deepcopy"])
@pytest.mark.parametrize("case", GOING_ON)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_partial_fit_epochs_equal_fit_bit_for_bit(kind, case, between):
    y = LABELS if kind is MLPClassifier else Z
    settings = dict(hidden_layer_sizes=(6,), batch_size=16, random_state=0) | GOING_ON[case]
    whole = kind(max_iter=4, **settings).fit(X, y)
    parts = kind(**settings)
    change = {"nothing": lambda e: e, "deepcopy": copy.deepcopy}.get(
        between, lambda e: pickle.loads(pickle.dumps(e))
    )
    for i in range(4):
        first = dict(classes=np.unique(y)) if kind is MLPClassifier and i == 0 else {}
        parts = change(parts.partial_fit(X, y, **first))
    assert_same_weights(parts, whole)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.t_ == whole.t_


def test_partial_fit_may_meet_classes_late():
    mlp = MLPClassifier((5,), random_state=0)
    few = LABELS != "dog"
    mlp.partial_fit(X[few], LABELS[few], classes=np.unique(LABELS))
    assert mlp.predict_proba(X).shape == (N, 4)
    mlp.partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="elk"):
        mlp.partial_fit(X[:1], ["elk"])


def test_warm_start_goes_on_from_the_weights():
    mlp = MLPClassifier((6,), max_iter=3, solver="sgd", momentum=0, random_state=0, shuffle=False)
    whole = clone(mlp).set_params(max_iter=6).fit(X, LABELS)
    mlp.set_params(warm_start=True).fit(X, LABELS).fit(X, LABELS)
    assert_same_weights(mlp, whole)
    assert mlp.loss_curve_ == whole.loss_curve_
    assert mlp.n_iter_ == 3
    assert mlp.t_ == 6 * N
    anew = mlp.set_params(warm_start=False).fit(X, LABELS)
    assert len(anew.loss_curve_) == 3
    with pytest.raises(ValueError, match="set warm_start=False"):
        mlp.set_params(warm_start=True, hidden_layer_sizes=(7,)).fit(X, LABELS)
    with pytest.raises(ValueError, match="same classes"):
        mlp.set_params(hidden_layer_sizes=(6,)).fit(X, np.where(LABELS == "dog", "elk", LABELS))


# ---- validation --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["multiclass", "binary", "regression", "multilabel"])
def test_early_stopping_keeps_the_best_weights(task):
    y = TARGETS[task]
    settings = dict(hidden_layer_sizes=(9,), early_stopping=True, n_iter_no_change=4)
    settings |= dict(learning_rate_init=0.05, validation_fraction=0.3, random_state=1)
    mlp = ours(task)(max_iter=100, **settings).fit(X, y)
    scores = mlp.validation_scores_
    assert len(scores) == mlp.n_iter_ < 100
    best = int(np.argmax(scores))
    assert best < mlp.n_iter_ - 1
    at_best = ours(task)(max_iter=best + 1, **settings).fit(X, y)
    assert_same_weights(mlp, at_best)
    assert mlp.best_validation_score_ == scores[best]


def test_given_validation_set_is_scored():
    train, held = slice(0, 40), slice(40, None)
    mlp = MLPClassifier((5,), max_iter=8, random_state=0)
    plain = clone(mlp).fit(X[train], LABELS[train])
    watched = clone(mlp).fit(
        X[train], LABELS[train], X_val=X[held], y_val=LABELS[held], sample_weight_val=WEIGHT[held]
    )
    assert_same_weights(plain, watched)  # to be scored is not to be judged by
    expected = [
        clone(mlp).set_params(max_iter=k).fit(X[train], LABELS[train])
        .score(X[held], LABELS[held], WEIGHT[held])
        for k in range(1, 9)
    ]  # fmt: skip
    # The scores are quotients of sums of float32 weights here, of float64 weights there.
    np.testing.assert_allclose(watched.validation_scores_, expected, rtol=1e-6)
    assert plain.validation_scores_ is None
    with pytest.raises(ValueError, match="X_val and y_val are given together"):
        clone(mlp).fit(X, LABELS, X_val=X)
    with pytest.raises(ValueError, match=r"`y_val` has classes .*elk"):
        clone(mlp).fit(X, LABELS, X_val=X[:1], y_val=["elk"])


def test_validation_split_is_stratified(monkeypatch):
    """Rare classes are held out in proportion."""
    y = np.repeat([0, 1, 2], [80, 40, 20])
    points = np.random.default_rng(0).standard_normal((140, 3))
    seen = []
    score = ClassTarget.score

    def spy(self, raw, weight=None):
        seen.append(np.bincount(self.labels()))
        return score(self, raw, weight)

    monkeypatch.setattr(ClassTarget, "score", spy)
    MLPClassifier(
        (3,), early_stopping=True, validation_fraction=0.25, max_iter=2, random_state=0
    ).fit(points, y)
    assert [list(counts) for counts in seen] == [[20, 10, 5]] * 2


# ---- the same data in other forms --------------------------------------------------------------


@pytest.mark.parametrize("form", [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_trains_as_dense_bit_for_bit(form, solver):
    thin = np.where(np.abs(X) > 1, X, 0)
    mlp = MLPClassifier((5,), max_iter=6, solver=solver, early_stopping=True, random_state=0)
    dense, sparse = clone(mlp).fit(thin, LABELS), clone(mlp).fit(form(thin), LABELS)
    assert_same_weights(dense, sparse)
    assert dense.loss_curve_ == sparse.loss_curve_
    # The first product of a prediction is scipy's sparse one, which adds in another order.
    a, b = dense.predict_proba(thin), sparse.predict_proba(form(thin))
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x.astype(">f8"),
        lambda x: x.tolist(),
    ],
    ids=["fortran", "strided", "big-endian", "list"],
)
def test_layout_of_the_samples_does_not_matter(form):
    mlp = MLPClassifier((5,), max_iter=3, random_state=0)
    assert_same_weights(clone(mlp).fit(X, LABELS), clone(mlp).fit(form(X), LABELS))


def test_edited_weights_are_what_predict_uses():
    mlp = MLPRegressor(hidden_layer_sizes=(), max_iter=2, dtype="float64").fit(X, Z)
    mlp.coefs_[0][...] = TEACHER
    mlp.intercepts_[0][:] = 1
    np.testing.assert_allclose(mlp.predict(X), X @ TEACHER + 1, rtol=1e-12, atol=1e-12)
    mlp.coefs_ = [2 * TEACHER]
    np.testing.assert_allclose(mlp.predict(X), 2 * X @ TEACHER + 1, rtol=1e-12, atol=1e-12)
    mlp.intercepts_[0] = np.zeros(4)
    np.testing.assert_allclose(mlp.predict(X), 2 * X @ TEACHER, rtol=1e-12, atol=1e-12)
    again = pickle.loads(pickle.dumps(mlp))
    again.coefs_[0] *= 0.5
    np.testing.assert_allclose(again.predict(X), X @ TEACHER, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mlp.predict(X), 2 * X @ TEACHER, rtol=1e-12, atol=1e-12)
    mlp.coefs_ = [TEACHER[:, :2]]
    with pytest.raises(ValueError, match=r"shape \(6, 2\) where \(6, 4\) is needed"):
        mlp.predict(X)
