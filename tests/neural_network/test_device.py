"""The parameters `device` and `precision` where there is no GPU."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep._compat import InvalidParameterError
from skdeep._kernels.cuda import devices
from skdeep.layers import Conv2D, Dense
from skdeep.neural_network import (
    CNNClassifier,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    _device,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 5)).astype(np.float32)
Y = np.arange(40) % 3
SMALL = dict(max_iter=2, random_state=0)
WHY = "the driver is from another century: install one of this"


@pytest.fixture
def no_gpu(monkeypatch):
    """Say that there is no GPU, and why."""
    monkeypatch.setattr(devices, "explain", lambda: WHY)


def refused(net, error, message, x=X):
    """Check what fitting says, and that it leaves nothing behind."""
    before = set(vars(net))
    with pytest.raises(error, match=message):
        net.fit(x, Y)
    assert set(vars(net)) == before


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:a", "cuda:0 ", ""])
def test_names_of_no_device(device):
    for net in (MLPClassifier(device=device), NetworkClassifier([("a", Dense(2))], device=device)):
        refused(net, ValueError, rf"device='{device}' is no device: use 'cpu', 'auto', 'cuda'")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(device=0), "'device' parameter"),
        (dict(device=None), "'device' parameter"),
        (dict(precision="float16"), "'precision' parameter.*tf32"),
    ],
)
def test_values_of_no_parameter(parameters, message):
    refused(MLPClassifier(**parameters), InvalidParameterError, message)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            dict(dtype="float64"),
            "computes in float32, but dtype='float64'; use dtype='float32'",
        ),
        (dict(dtype=np.float64), "computes in float32, but dtype='float64'; use dtype='float32'"),
        (dict(solver="lbfgs"), "L-BFGS computes in float64 on the CPU; use device='cpu'"),
    ],
)
def test_what_goes_with_no_gpu(device, parameters, message):
    refused(
        MLPClassifier(device=device, **parameters), ValueError, f"device='{device}'.*{message}"
    )


def test_a_gpu_that_is_not_there(no_gpu):
    message = f"device='cuda' is not available, because {WHY}; or use 'cpu'"
    refused(MLPClassifier(device="cuda"), RuntimeError, message)


class OnGpu:
    """What an array in a GPU's memory looks like."""

    shape, ndim, dtype = X.shape, 2, X.dtype

    def __dlpack_device__(self):
        return 2, 0


def test_samples_on_a_gpu_and_training_on_the_cpu():
    message = "X is on a GPU, but device='cpu': train there with device='cuda', or bring X"
    refused(MLPClassifier(), ValueError, message, OnGpu())


# ---- choosing ---------------------------------------------------------------------------------


def test_auto_takes_the_cpu_for_small_work(monkeypatch):
    """Without asking for GPUs, and so without a warning."""
    monkeypatch.setattr(devices, "explain", lambda: pytest.fail("asked for a GPU"))
    net = MLPClassifier((4,), device="auto", **SMALL).fit(X, Y)
    assert net.device_ == "cpu"
    expected = MLPClassifier((4,), **SMALL).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(X))


def test_auto_says_why_large_work_stays_on_the_cpu(no_gpu, monkeypatch):
    work = 3 * 40 * 2 * (5 * 4 + 4 * 3)  # forward and twice backward, samples, epochs, weights
    monkeypatch.setattr(_device, "_RATE", 1.0)
    net = MLPClassifier((4,), device="auto", **SMALL)
    monkeypatch.setattr(_device, "_PAYS", work + 1)
    assert clone(net).fit(X, Y).device_ == "cpu"
    monkeypatch.setattr(_device, "_PAYS", work)
    with pytest.warns(UserWarning, match=f"device='auto' trains on the CPU: .*{WHY}"):
        assert clone(net).fit(X, Y).device_ == "cpu"
    for other in (dict(dtype="float64"), dict(solver="lbfgs"), dict(max_iter=1)):
        assert clone(net).set_params(**other).fit(X, Y).device_ == "cpu"
    assert clone(net).partial_fit(X, Y, classes=[0, 1, 2]).device_ == "cpu"  # one epoch


def test_multiply_adds_of_a_convolution():
    layers = [("conv", Conv2D(4, 3, padding="same"))]
    net = CNNClassifier(layers, **SMALL).fit(X.repeat(10, 1).reshape(40, 5, 5, 2), Y)
    assert _device.multiply_adds(net.network_) == 25 * 9 * 2 * 4 + 25 * 4 * 3


# ---- fitted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_net_for_a_gpu_predicts_without_one(device, no_gpu):
    """As it does when it was trained elsewhere and loaded here."""
    net = MLPClassifier((4,), **SMALL).fit(X, Y)
    expected = net.predict_proba(X)
    loaded = pickle.loads(pickle.dumps(net.set_params(device=device)))
    with pytest.warns(UserWarning, match=f"device='{device}': predicting on the CPU.*{WHY}"):
        got = loaded.predict_proba(X)
    np.testing.assert_array_equal(got, expected)


def test_a_net_of_an_automatic_gpu_predicts_without_one(no_gpu, monkeypatch):
    net = MLPClassifier((4,), device="auto", **SMALL).fit(X, Y)
    expected = net.predict(X)
    net.device_ = "cuda:0"
    np.testing.assert_array_equal(net.predict(X), expected)  # few samples: the CPU is at hand
    monkeypatch.setattr(_device, "_RATE", 1.0)
    with pytest.warns(UserWarning, match="device='auto': predicting on the CPU"):
        np.testing.assert_array_equal(net.predict(X), expected)


def test_a_net_of_float64_stays_on_the_cpu():
    net = MLPRegressor(dtype="float64", **SMALL).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"device='cuda' computes in float32.*device='cpu'"):
        net.set_params(device="cuda").predict(X)


def test_precision_changes_nothing_on_the_cpu():
    nets = [
        MLPClassifier((4,), precision=precision, **SMALL).fit(X, Y)
        for precision in ("float32", "tf32", "bfloat16")
    ]
    for net in nets[1:]:
        np.testing.assert_array_equal(net.network_.data, nets[0].network_.data)
        np.testing.assert_array_equal(net.predict_proba(X), nets[0].predict_proba(X))


def test_parameters_are_copied_and_searched():
    net = MLPClassifier((4,), device="auto", precision="tf32", **SMALL)
    assert clone(net).get_params() == net.get_params()
    pipeline = make_pipeline(StandardScaler(), net)
    grid = {"mlpclassifier__device": ["cpu", "auto"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    assert np.ptp(search.cv_results_["mean_test_score"]) == 0
    assert pickle.loads(pickle.dumps(search)).best_estimator_[-1].precision == "tf32"


# ---- in processes of their own ----------------------------------------------------------------


def run(program, **environment):
    """Run a program; return what it printed."""
    inherited = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_cpu_needs_no_cuda():
    """Neither its packages nor the kernels are imported, though a GPU would be allowed."""
    out = run(
        "import sys, numpy as np, skdeep\n"
        "from skdeep.neural_network import MLPClassifier\n"
        "X, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2\n"
        "for device in ('cpu', 'auto'):\n"
        "    net = MLPClassifier((4,), max_iter=2, device=device).fit(X, y)\n"
        "    net.predict(X)\n"
        "wanted = 'numba.cuda', 'cuda', 'skdeep._kernels.cuda._numba', 'skdeep.autodiff._cuda'\n"
        "found = [m for m in sys.modules if m.startswith(tuple(w + '.' for w in wanted))]\n"
        "print(found + [w for w in wanted if w in sys.modules])\n"
    )
    assert out == "[]\n"


LIBRARIES = """
import numpy as np
import {library} as xp
from sklearn import config_context
from skdeep.neural_network import MLPClassifier, MLPRegressor

X = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
y, weight = np.arange(40) % 3, np.linspace(0.5, 2, 40).astype(np.float32)
moved = [xp.asarray(a) for a in (X, y, weight)]
for device in "cpu", "auto":
    net = MLPClassifier((4,), max_iter=3, random_state=0, device=device)
    expected = net.fit(X, y, weight).predict_proba(X)
    with config_context(array_api_dispatch=True):
        net.fit(*moved, X_val=moved[0], y_val=moved[1])
        for method in "predict", "predict_proba", "predict_log_proba", "decision_function":
            assert type(getattr(net, method)(moved[0])) is type(moved[0]), method
            assert type(getattr(net, method)(X)) is np.ndarray, method
        got = np.asarray(net.predict_proba(moved[0]))
        assert abs(net.score(moved[0], moved[1]) - net.score(X, y)) < 1e-6  # one is of float32
        assert isinstance(net.network_.data, np.ndarray)
    np.testing.assert_array_equal(got, expected)
    with config_context(array_api_dispatch=True):
        net = MLPRegressor(max_iter=2, random_state=0, device=device).fit(moved[0], moved[0])
        assert type(net.predict(moved[0])) is type(moved[0])
        net.partial_fit(moved[0], moved[0])
print("equal")
"""


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_arrays_of_other_libraries(library):
    pytest.importorskip(library)
    assert run(LIBRARIES.format(library=library), SCIPY_ARRAY_API="1") == "equal\n"
