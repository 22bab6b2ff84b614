"""scikit-learn's callbacks: around every epoch, in pipelines and searches."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skdeep.neural_network import MLPClassifier, MLPRegressor
from skdeep.training import LBFGS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Scoring failed"),
]

X, Y = make_classification(120, 8, n_informative=5, random_state=0)
SETTINGS = dict(hidden_layer_sizes=(6,), max_iter=5, random_state=0)
SOLVERS = ["adam", "sgd", "lbfgs"]


class Recorder:
    """Keep every call, and the fitted estimator of every epoch."""

    def __init__(self, stop_after=None, fail_after=None):
        self.stop_after, self.fail_after = stop_after, fail_after
        self.calls, self.fitted = [], []

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.calls.append(("begin", context.task_name, context.task_id))
        self.seen = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.calls.append(("end", context.task_name, context.task_id))
        if context.task_name == "epoch" and fitted_estimator is not None:
            self.fitted.append(fitted_estimator)
            if len(self.fitted) == self.fail_after:
                raise ZeroDivisionError
            return len(self.fitted) == self.stop_after
        return False

    def names(self, hook, task="epoch"):
        return [call for call in self.calls if call[:2] == (hook, task)]


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_epoch_is_a_task(solver):
    recorder = Recorder()
    mlp = MLPClassifier(solver=solver, **SETTINGS).set_callbacks(recorder)
    assert mlp.fit(X, Y) is mlp
    empty = 1 if solver == "lbfgs" else 0  # scikit-learn's last task of L-BFGS is an empty one
    expected = [("setup", "fit"), ("begin", "fit", 0)]
    for i in range(mlp.n_iter_ + empty):
        expected += [("begin", "epoch", i), ("end", "epoch", i)]
    assert recorder.calls == [*expected, ("end", "fit", 0), ("teardown", "fit")]
    assert mlp.n_iter_ == 5
    assert recorder.seen[0] is X
    assert recorder.seen[1] is Y
    plain = MLPClassifier(solver=solver, **SETTINGS).fit(X, Y)
    assert np.array_equal(plain.coefs_[0], mlp.coefs_[0])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_fitted_estimators_are_those_of_shorter_fits(kind, solver):
    recorder = Recorder()
    settings = SETTINGS | dict(solver=solver, batch_norm=solver == "adam")
    kind(**settings).set_callbacks(recorder).fit(X, Y)
    assert len(recorder.fitted) == 5
    for epochs, fitted in enumerate(recorder.fitted, 1):
        shorter = kind(**settings | dict(max_iter=epochs)).fit(X, Y)
        assert np.array_equal(fitted.coefs_[0], shorter.coefs_[0])
        if solver != "lbfgs":
            assert np.array_equal(fitted.predict(X), shorter.predict(X))
        assert fitted.loss_curve_ == shorter.loss_curve_
        assert fitted.n_iter_ == epochs


def test_fitted_estimator_can_be_trained_on():
    recorder = Recorder()
    MLPClassifier(**SETTINGS).set_callbacks(recorder).fit(X, Y)
    before = recorder.fitted[2].coefs_[0].copy()
    recorder.fitted[1].partial_fit(X, Y)
    assert np.array_equal(recorder.fitted[2].coefs_[0], before)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_callback_stops_after_its_epoch(recwarn, solver, early_stopping):
    recorder = Recorder(stop_after=3)
    mlp = MLPClassifier(
        solver=solver,
        early_stopping=early_stopping,
        hidden_layer_sizes=(6,),
        max_iter=5,
        random_state=0,
    )
    mlp.set_callbacks(recorder).fit(X, Y)
    assert mlp.n_iter_ == len(mlp.loss_curve_) == 3
    assert len(recorder.names("begin")) == len(recorder.names("end")) == 3
    assert recorder.calls[-1] == ("teardown", "fit")
    assert not recwarn.list  # a stop that was asked for is no failure to converge
    if not early_stopping:
        shorter = MLPClassifier(**SETTINGS | dict(solver=solver, max_iter=3)).fit(X, Y)
        assert np.array_equal(mlp.coefs_[0], shorter.coefs_[0])


@pytest.mark.parametrize("solver", SOLVERS)
def test_failure_in_a_callback_tears_down_and_leaves_nothing_fitted(solver):
    recorder = Recorder(fail_after=2)
    mlp = MLPClassifier(solver=solver, **SETTINGS).set_callbacks(recorder)
    attributes = set(vars(mlp))
    with pytest.raises(ZeroDivisionError):
        mlp.fit(X, Y)
    assert recorder.calls[-1] == ("teardown", "fit")
    assert [c[0] for c in recorder.calls].count("setup") == 1
    with pytest.raises(NotFittedError):
        check_is_fitted(mlp)
    assert set(vars(mlp)) == attributes
    assert mlp.set_callbacks().fit(X, Y).n_iter_ == 5


def test_bad_input_calls_no_hook():
    recorder = Recorder()
    mlp = MLPClassifier(**SETTINGS).set_callbacks(recorder)
    with pytest.raises(ValueError, match="NaN"):
        mlp.fit(np.full_like(X, np.nan), Y)
    assert recorder.calls == []


def test_partial_fit_is_one_epoch():
    recorder = Recorder()
    mlp = MLPClassifier(**SETTINGS).set_callbacks(recorder)
    mlp.partial_fit(X, Y, classes=[0, 1]).partial_fit(X, Y)
    assert len(recorder.names("begin")) == len(recorder.names("end")) == 2
    assert recorder.calls.count(("setup", "fit")) == 2


def test_sample_weight_is_passed_on():
    recorder = Recorder()
    weight = np.linspace(1, 2, len(X))
    MLPClassifier(**SETTINGS).set_callbacks(recorder).fit(X, Y, weight)
    assert recorder.seen[2] == {"sample_weight": weight}


@pytest.mark.parametrize("solver", SOLVERS)
def test_scoring_monitor_scores_every_epoch(solver):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    settings = SETTINGS | dict(solver=solver)
    mlp = MLPClassifier(**settings).set_callbacks(monitor).fit(frame, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    shorter = [MLPClassifier(**settings | dict(max_iter=k)).fit(frame, Y) for k in range(1, 6)]
    assert [row["accuracy"] for row in rows] == [m.score(frame, Y) for m in shorter]
    whole = [row for row in monitor.get_logs().data if row["task_name"] == "fit"]
    assert [row["accuracy"] for row in whole] == [mlp.score(frame, Y)]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scoring_monitor_in_a_pipeline_and_a_search(solver):
    monitor = ScoringMonitor(scoring="accuracy")
    mlp = MLPClassifier(**SETTINGS | dict(solver=solver)).set_callbacks(monitor)
    make_pipeline(StandardScaler(), mlp).fit(X, Y)
    rows = [r for r in monitor.get_logs().data if r["task_name"] == "epoch"]
    assert len(rows) == 5
    monitor = ScoringMonitor(scoring="accuracy")
    pipeline = make_pipeline(StandardScaler(), clone(mlp).set_callbacks(monitor))
    GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.1, 1.0]}, cv=2).fit(X, Y)
    rows = [r for log in monitor.get_logs(select="all") for r in log.data]
    fits = 2 * 2 + 1
    assert sum(r["task_name"] == "epoch" for r in rows) == fits * 5
    assert all(0.2 <= r["accuracy"] <= 1 for r in rows)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bar(capsys, solver, n_jobs):
    pytest.importorskip("rich")
    mlp = MLPClassifier(**SETTINGS | dict(solver=solver))
    clone(mlp).set_callbacks(ProgressBar()).fit(X, Y)
    assert "100%" in capsys.readouterr().out
    pipeline = make_pipeline(StandardScaler(), clone(mlp)).set_callbacks(ProgressBar())
    pipeline.fit(X, Y)
    out = capsys.readouterr().out
    assert "MLPClassifier" in out
    search = GridSearchCV(clone(mlp), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
    out = capsys.readouterr().out
    assert "GridSearchCV" in out
    assert "MLPClassifier" in out


def test_lbfgs_optimizer_object_sets_the_number_of_tasks():
    recorder = Recorder()
    mlp = MLPClassifier((6,), optimizer=LBFGS(max_iter=7), max_iter=2, random_state=0)
    mlp.set_callbacks(recorder).fit(X, Y)
    assert mlp.n_iter_ == 7
    assert len(recorder.names("end")) == 8
