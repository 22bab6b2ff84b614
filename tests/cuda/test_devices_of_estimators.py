"""Estimators on a device: where samples come from, what interrupts a training, predictions."""

import gc
import os
import pickle
import subprocess
import sys
import warnings
import weakref

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep._kernels.cuda.array import DeviceArray
from skdeep.autodiff._target import Device
from skdeep.datasets import stream_iterable, stream_npy
from skdeep.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, Layer
from skdeep.neural_network import (
    CNNClassifier,
    NetworkClassifier,
    _device,
    _foreign,
    _forward,
)
from skdeep.training import Checkpoint, Performance, _source
from tests.cuda.test_training import LABELS, D, N, X, Z, agree, classifier, fit_both, regressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Training interrupted"),
]
LINEAR = dict(hidden=(), momentum=0.5)


def on_device(gpu, a):
    """Return an array in the device's memory."""
    array = DeviceArray(gpu.allocate(a.nbytes), 0, a.shape, None, a.dtype)
    gpu.upload(np.ascontiguousarray(a), array)
    return array


def equal(a, b):
    """Compare two trainings bit for bit."""
    np.testing.assert_array_equal(a.loss_curve_, b.loss_curve_)
    np.testing.assert_array_equal(a.network_.data, b.network_.data)
    np.testing.assert_array_equal(a.network_.state_data, b.network_.state_data)


# ---- trainings that go on ---------------------------------------------------------------------


def test_partial_fit_goes_on_from_the_optimisers_state():
    nets = [classifier(**LINEAR, device=device) for device in ("cpu", "cuda")]
    for rows in (slice(0, 8), slice(8, 13)):
        for net in nets:
            net.set_params(batch_size=rows.stop - rows.start)
            net.partial_fit(X[rows], LABELS[rows], classes=[0, 1, 2])
    agree(*nets)
    fresh = classifier(**LINEAR, batch_size=5).fit(X[8:], LABELS[8:])
    assert not np.allclose(fresh.network_.data, nets[0].network_.data, rtol=1e-2)


def test_warm_start_on_another_device():
    """Weights are host arrays: a training goes on wherever the last one was."""
    cpu, gpu = (classifier(**LINEAR, warm_start=True, device=d) for d in ("cpu", "cuda"))
    for net, devices in ((cpu, ("cpu", "cpu")), (gpu, ("cpu", "cuda"))):
        for device in devices:
            net.set_params(device=device).fit(X, LABELS)
    agree(cpu, gpu)


@pytest.mark.parametrize("given", [False, True])
def test_early_stopping(given):
    """Judged by predictions with the weights and the statistics of the moment."""
    settings = dict(early_stopping=True, batch_norm=True, max_iter=2, validation_fraction=0.3)
    settings |= dict(learning_rate_init=3.0)  # too large: the second epoch is the worse
    validation = dict(X_val=X[::-1][:5], y_val=Z[::-1][:5]) if given else {}
    if given:
        validation["sample_weight_val"] = np.linspace(0, 1, 5)
    cpu, gpu = fit_both(regressor((3,), **settings), X, Z, **validation)
    scores = gpu.validation_scores_
    np.testing.assert_allclose(scores, cpu.validation_scores_, rtol=1e-3)
    last = clone(gpu).set_params(early_stopping=False, device="cpu").fit(X, Z)
    assert scores[1] < scores[0]
    assert not np.allclose(last.network_.data, gpu.network_.data, rtol=1e-2)


def test_a_checkpoint_is_resumed_bit_for_bit(tmp_path):
    settings = dict(**LINEAR, schedule=Performance(patience=1), device="cuda")
    whole = classifier(**settings, max_iter=3).fit(X, LABELS)
    path = str(tmp_path / "a.safetensors")
    classifier(**settings, max_iter=1, checkpoint=path).fit(X, LABELS)
    copy = str(tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    resumed = classifier(**settings, max_iter=3, checkpoint=Checkpoint(path)).fit(X, LABELS)
    equal(resumed, whole)
    elsewhere = classifier(**settings, max_iter=3, checkpoint=copy)
    agree(elsewhere.set_params(device="cpu").fit(X, LABELS), resumed)


# ---- streams and pages ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["iterable", "npy"])
def test_streams(kind, tmp_path):
    """Blocks that are no multiple of the batch: what is left over begins the next."""
    if kind == "npy":
        np.save(tmp_path / "X.npy", X)
        np.save(tmp_path / "y.npy", LABELS)
        paths = tmp_path / "X.npy", tmp_path / "y.npy"
        make = lambda: stream_npy(*paths, buffer_size=5)  # noqa: E731
    else:
        blocks = [(X[i : i + 3], LABELS[i : i + 3]) for i in range(0, N, 3)]
        make = lambda: stream_iterable(lambda: iter(blocks), buffer_size=6)  # noqa: E731
    estimator = classifier(**LINEAR, batch_size=4, class_weight={0: 1, 1: 3, 2: 0.5})
    cpu = clone(estimator).fit(make())
    gpu = clone(estimator).set_params(device="cuda").fit(make())
    agree(cpu, gpu)


@pytest.mark.parametrize("page", [None, 5])
def test_pages_make_the_same_steps(gpu, page, monkeypatch):
    """A page has no fewer rows than a batch, and whole batches where it has more."""
    estimator = classifier(**LINEAR, batch_size=2, max_iter=2, device="cuda")
    weight = np.linspace(0.5, 2, 6)
    args = X[:6], LABELS[:6], weight
    whole = clone(estimator).fit(*args)
    made = []

    class Counted(_source.Paged):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self.page)

    monkeypatch.setattr("skdeep.neural_network._work.Paged", Counted)
    if page is None:
        # Six samples of 24 bytes are more than half of it; a sixteenth is one.
        monkeypatch.setattr(type(gpu), "memory", lambda self: (280, 1000))
    else:
        monkeypatch.setattr(Device, "page", lambda self, n, row_bytes: page)
    paged = clone(estimator).fit(*args)
    assert made == [2 if page is None else 4]
    equal(paged, whole)


def test_samples_on_the_device_need_no_pages(gpu, monkeypatch):
    """However little memory there is beside them, they are there."""
    estimator = classifier(**LINEAR, device="cuda")
    whole = clone(estimator).fit(X, LABELS)
    array = on_device(gpu, X)
    monkeypatch.setattr(type(gpu), "memory", lambda self: (100, 1000))
    equal(clone(estimator).fit(array, LABELS), whole)


# ---- callbacks, interrupts, failures ----------------------------------------------------------


class Recorder:
    """Keep the fitted estimator of every epoch, and its predictions."""

    def __init__(self):
        self.fitted, self.predictions = [], []

    def setup(self, estimator, context):
        """Nothing to set up."""

    def teardown(self, estimator, context):
        """Nothing to tear down."""

    def on_fit_task_begin(self, estimator, context, **given):
        """Nothing to do."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch" and fitted_estimator is not None:
            self.fitted.append(fitted_estimator)
            self.predictions.append(fitted_estimator.predict_proba(X[:3]))
            return len(self.fitted) == 2
        return False


def test_callbacks_see_every_epoch():
    recorder = Recorder()
    net = classifier(**LINEAR, max_iter=9, device="cuda").set_callbacks(recorder)
    net.fit(X, LABELS)
    assert net.n_iter_ == 2
    equal(recorder.fitted[1], net)
    np.testing.assert_array_equal(recorder.predictions[1], net.predict_proba(X[:3]))
    assert not np.allclose(recorder.predictions[0], recorder.predictions[1])
    equal(recorder.fitted[0], clone(net).set_params(max_iter=1).fit(X, LABELS))


def interrupt_after(gpu, steps, monkeypatch):
    """Let the device be interrupted behind so many steps."""
    launch, made = type(gpu).launch, []

    def interrupted(self, launched):
        if len(made) == steps:
            raise KeyboardInterrupt
        launch(self, launched)
        made.extend([1] * (launched.kernel.__name__ == "_account"))

    monkeypatch.setattr(type(gpu), "launch", interrupted)


def test_an_interrupt_brings_the_weights_back(gpu, monkeypatch):
    settings = dict(**LINEAR, shuffle=False, device="cuda")
    expected = classifier(**settings, batch_size=8).fit(X[:8], LABELS[:8])
    interrupt_after(gpu, 1, monkeypatch)
    net = classifier(**settings, batch_size=8, max_iter=9)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        net.fit(X, LABELS)
    monkeypatch.undo()
    assert net.loss_curve_ == []
    np.testing.assert_array_equal(net.network_.data, expected.network_.data)


def test_divergence_keeps_the_best_weights():
    from sklearn.exceptions import ConvergenceWarning

    y = 1e3 * Z[:, 0]
    nets = []
    for device in ("cpu", "cuda"):
        net = regressor((), learning_rate_init=1e9, max_iter=6, device=device)
        with pytest.warns(ConvergenceWarning, match="Training diverged"):
            nets.append(net.fit(X, y))
    cpu, gpu = nets
    assert gpu.n_iter_ == cpu.n_iter_ < 6
    assert np.isfinite(gpu.network_.data).all()
    np.testing.assert_allclose(gpu.network_.data, cpu.network_.data, rtol=1e-3)


def test_divergence_at_once():
    net = regressor((), learning_rate_init=1e30, device="cuda")
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        net.fit(X, 1e30 * Z[:, 0])
    assert not hasattr(net, "network_")
    assert not hasattr(net, "n_features_in_")


def branching(y, raw):
    return np.sum((raw - y) ** 2, axis=1) if np.all(raw < 1e9) else np.sum(raw, axis=1)


def decomposed(y, raw):
    gram = (raw - y).T @ (raw - y) + np.eye(raw.shape[1], dtype=raw.dtype)
    return np.mean((raw - y) ** 2, axis=1) + np.linalg.slogdet(gram)[1]


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (branching, ValueError, r"recorded first, but .*device='cpu'"),
        (decomposed, RuntimeError, r"'slogdet' has no kernel for a GPU.*device='cpu'"),
    ],
)
def test_what_a_device_cannot_compute_is_said_first(loss, error, message, gpu):
    net = regressor((), loss=loss, device="cuda")
    before, launched = set(vars(net)), gpu.launched
    with pytest.raises(error, match=message):
        net.fit(X, Z)
    assert set(vars(net)) == before
    assert gpu.launched == launched
    net.set_params(device="cpu").fit(X, Z)
    assert net.device_ == "cpu"


# ---- predictions ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """Return a net with something to fold, trained on the CPU, which predicts on the device."""
    layers = [("a", Dense(5)), ("norm", BatchNormalization()), ("relu", Activation("relu"))]
    net = NetworkClassifier(layers, batch_size=13, max_iter=2, learning_rate_init=0.1)
    return net.fit(X, LABELS).set_params(device="cuda")


def host_proba(net, samples):
    return clone_fitted(net, device="cpu").predict_proba(samples)


def clone_fitted(net, **parameters):
    return pickle.loads(pickle.dumps(net)).set_params(**parameters)


@pytest.mark.parametrize("rows", [1, 5, 8])
def test_predictions_in_one_block(fitted, rows):
    got = fitted.predict_proba(X[:rows])
    np.testing.assert_allclose(got, host_proba(fitted, X[:rows]), rtol=1e-5, atol=1e-6)


def test_predictions_in_blocks(fitted, monkeypatch):
    whole = fitted.predict_proba(X)
    monkeypatch.setattr(_forward, "_DEVICE_ROWS", 4)
    for samples in (X, X.astype(np.float64), np.asfortranarray(X), X[::-1][::-1], X.tolist()):
        np.testing.assert_allclose(fitted.predict_proba(samples), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(sp.csr_array(X)), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(X[::-1]), whole[::-1], rtol=1e-5, atol=1e-6)


class Branching(Layer):
    """A layer that looks at values."""

    def apply(self, params, state, x, context):
        return (x if np.all(x < 1e9) else -x), state


def test_layers_that_cannot_be_recorded():
    net = NetworkClassifier([("own", Branching())], max_iter=1).fit(X, LABELS)
    with pytest.raises(
        ValueError, match="prediction on a GPU is recorded first, but.*device='cpu'"
    ):
        net.set_params(device="cuda").predict(X)


def test_weights_set_by_hand_are_predicted_with(fitted):
    net = classifier(**LINEAR).fit(X, LABELS).set_params(device="cuda")
    net.coefs_[0][...] = 0
    net.intercepts_[0][:] = 0, 5, 0
    assert (net.predict(X[:3]) == 1).all()


# ---- samples on the device --------------------------------------------------------------------


def test_samples_on_the_device(gpu):
    """In fit and predict they are what the same samples on the host are, bit for bit."""
    array = on_device(gpu, X)
    settings = dict(early_stopping=True, max_iter=2, validation_fraction=0.3, device="cuda")
    host = classifier(**LINEAR, **settings).fit(X, LABELS)
    there = classifier(**LINEAR, **settings).fit(array, LABELS)
    equal(there, host)
    assert there.validation_scores_ == host.validation_scores_
    np.testing.assert_array_equal(there.predict_proba(array), host.predict_proba(X))
    assert there.score(array, LABELS) == host.score(X, LABELS)
    again = classifier(**LINEAR, **settings).fit(array, LABELS, X_val=array, y_val=LABELS)
    at_home = classifier(**LINEAR, **settings).fit(X, LABELS, X_val=X, y_val=LABELS)
    equal(again, at_home)
    assert again.validation_scores_ == at_home.validation_scores_


def test_samples_on_the_device_in_partial_fit(gpu):
    net, host = (regressor((), device=device) for device in ("auto", "cuda"))
    for _ in range(2):
        net.partial_fit(on_device(gpu, X), on_device(gpu, Z[:, 0].astype(np.float32)))
        host.partial_fit(X, Z[:, 0].astype(np.float32))
    assert net.device_ == "cuda:0"
    equal(net, host)


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.uint8, np.int32])
def test_samples_of_other_types(gpu, fitted, kind):
    whole = np.round(3 * abs(X[:5])).astype(kind)
    got = fitted.predict_proba(on_device(gpu, whole))
    np.testing.assert_array_equal(got, fitted.predict_proba(whole.astype(np.float32)))


def test_strided_samples(gpu, fitted):
    array = on_device(gpu, X.repeat(2, axis=0))
    every = array.view((N, D), (2 * D * 4, 4))
    np.testing.assert_array_equal(fitted.predict_proba(every), fitted.predict_proba(X))


def test_images_on_the_device(gpu):
    images = np.random.default_rng(1).standard_normal((7, 4, 4)).astype(np.float32)
    layers = [("conv", Conv2D(2, 3)), ("flat", Flatten())]
    settings = dict(batch_size=4, max_iter=1, random_state=0, early_stopping=True, device="cuda")
    y = np.arange(7) % 2
    host, there = (
        CNNClassifier(layers, validation_fraction=0.3, **settings).fit(x, y)
        for x in (images, on_device(gpu, images))
    )
    equal(there, host)
    np.testing.assert_array_equal(
        there.predict_proba(on_device(gpu, images)), host.predict_proba(images)
    )


def test_samples_on_the_device_are_checked(gpu, fitted, monkeypatch):
    monkeypatch.setattr(_foreign, "_CHECKED", 16)
    bad = X.copy()
    bad[7, 2] = np.inf
    for net in (classifier(device="cuda"), classifier(device="auto")):
        with pytest.raises(ValueError, match="NaN or infinity"):
            net.fit(on_device(gpu, bad), LABELS)
    with pytest.raises(ValueError, match="features"):
        fitted.predict(on_device(gpu, X[:, :4]))
    with pytest.raises(ValueError, match="Expected 2D array"):
        fitted.predict(on_device(gpu, X[0]))
    with pytest.raises(ValueError, match="0 sample"):
        fitted.predict(DeviceArray(gpu.allocate(4), 0, (0, D), None, np.float32))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(device="cpu"), "X is on a GPU, but device='cpu'.*device='cuda'"),
        (dict(device="auto", dtype="float64"), "X is on a GPU.*dtype='float64'"),
        (dict(device="cuda", checkpoint="a.safetensors"), "checkpoint.*bring X"),
        (dict(device="auto", solver="lbfgs"), "L-BFGS computes in float64.*device='cpu'"),
    ],
)
def test_what_samples_on_the_device_do_not_go_with(gpu, parameters, message):
    net = classifier(**parameters)
    before = set(vars(net))
    with pytest.raises(ValueError, match=message):
        net.fit(on_device(gpu, X), LABELS)
    assert set(vars(net)) == before


# ---- choosing ---------------------------------------------------------------------------------


def test_auto_takes_the_device_for_large_work(monkeypatch):
    net = classifier(**LINEAR, device="auto").fit(X, LABELS)
    assert net.device_ == "cpu"
    monkeypatch.setattr(_device, "_PAYS", 1e-12)
    assert clone(net).fit(X, LABELS).device_ == "cuda:0"
    for refused in (dict(dtype="float64"), dict(solver="lbfgs")):
        assert clone(net).set_params(**refused).fit(X, LABELS).device_ == "cpu"


def test_errors_name_the_device_that_is_not_here():
    with pytest.raises(RuntimeError, match=r"device='cuda:7' is not here.*1 GPU.*'cuda'"):
        classifier(device="cuda:7").fit(X, LABELS)


# ---- around scikit-learn ----------------------------------------------------------------------


def test_searches_and_pipelines():
    pipeline = make_pipeline(StandardScaler(), classifier(**LINEAR, device="cuda"))
    search = GridSearchCV(
        pipeline, {"mlpclassifier__alpha": [1e-4, 5.0]}, cv=2, error_score="raise"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got `batch_size`")
        search.fit(X, LABELS)
    best = search.best_estimator_[-1]
    assert best.device_ == "cuda:0"
    assert clone(best).get_params() == best.get_params()


LOADING = """
import pickle, sys, warnings
import numpy as np
net, X, expected = pickle.load(open(sys.argv[1], "rb"))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    got = net.predict_proba(X)
said = [str(w.message) for w in caught]
assert any("device='cuda': predicting on the CPU, because" in s for s in said), said
np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
print("predicted")
"""


def test_a_fitted_net_is_used_where_there_is_no_device(tmp_path):
    net = classifier(**LINEAR, device="cuda").fit(X, LABELS)
    path = tmp_path / "net.pickle"
    path.write_bytes(pickle.dumps((net, X, net.predict_proba(X))))
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(path)],
        env=environment | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "predicted\n", done.stderr[-3000:]


def test_memory_is_given_back(gpu, monkeypatch):
    """When fit returns, and when a net that has predicted is no more, with no collection."""
    allocate, buffers = type(gpu).allocate, []

    def counted(self, nbytes):
        buffer = allocate(self, nbytes)
        buffers.append(weakref.ref(buffer))
        return buffer

    monkeypatch.setattr(type(gpu), "allocate", counted)
    gc.collect()
    gc.disable()
    try:
        net = classifier(**LINEAR, device="cuda").fit(X, LABELS, X_val=X[:3], y_val=LABELS[:3])
        assert [b() for b in buffers if b() is not None] == []
        net.predict(X)
        net.predict(on_device(gpu, X))
        del net
        classifier(**LINEAR).fit(X, LABELS).set_params(device="cuda").predict(X[:1])
        _forward._PREDICTORS.clear()
        alive = [b() for b in buffers if b() is not None]
    finally:
        gc.enable()
    assert len(buffers) > 20
    assert alive == []
