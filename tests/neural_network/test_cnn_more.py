"""Convolutional networks as their users and critics use them: searches, copies, memory, errors."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skdeep.autodiff._program import Memory
from skdeep.layers import (
    Activation,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Residual,
)
from skdeep.neural_network import CNNClassifier, CNNRegressor
from skdeep.training import Augmentation

X, Y = load_digits(return_X_y=True)
IMAGES = (X[:200] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
Y = Y[:200]


def layers(filters=4, **conv):
    return [
        ("conv1", Conv2D(filters, 3, padding="same", activation="relu", **conv)),
        ("pool1", MaxPool2D(2)),
        ("flat", Flatten()),
    ]


def cnn(**kw):
    return CNNClassifier(**(dict(layers=layers(), max_iter=2, random_state=0) | kw))


# ---- a fitted network is its own ---------------------------------------------------------------


@pytest.mark.parametrize("change", [dict(conv1__stride=2), dict(conv1__activation="tanh")])
def test_setting_a_layer_after_the_fit_changes_no_prediction(change):
    fitted = cnn().fit(IMAGES, Y)
    before = fitted.decision_function(IMAGES[:9])
    fitted.set_params(**change)
    assert fitted.decision_function(IMAGES[:9]).tobytes() == before.tobytes()
    other = fitted.fit(IMAGES, Y).decision_function(IMAGES[:9])
    assert other.tobytes() != before.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        dict(conv1__filters=6),
        dict(conv1__kernel_size=5),
        dict(conv1__kernel_size=(1, 9)),  # as many parameters as 3x3 has
        dict(conv1__use_bias=False),
    ],
)
def test_warm_start_refuses_other_parameters(change):
    fitted = cnn(warm_start=True).fit(IMAGES, Y)
    before = fitted.network_
    with pytest.raises(ValueError, match=r"conv1\.weight: \(3, 3, 1, 4\).*set warm_start=False"):
        fitted.set_params(**change).fit(IMAGES, Y)
    assert fitted.network_ is before


def test_warm_start_takes_what_leaves_the_parameters():
    fitted = cnn(warm_start=True).fit(IMAGES, Y)
    loss = fitted.loss_
    stack = [*layers(), ("drop", Dropout(0.1))]
    assert fitted.set_params(layers=stack).fit(IMAGES, Y).loss_ < loss


# ---- searches ----------------------------------------------------------------------------------


def test_a_search_over_layers_and_their_parameters_at_once():
    grid = {
        "layers": [layers(2), layers(3, use_bias=False)],
        "conv1__kernel_size": [3, 5],
        "augmentation__rotation": [0.0, 20.0],
    }
    search = GridSearchCV(cnn(augmentation=Augmentation()), grid, cv=2, error_score="raise")
    search.fit(IMAGES, Y)
    best, net = search.best_params_, search.best_estimator_.network_
    filters, size = best["layers"][0][1].filters, best["conv1__kernel_size"]
    assert net.leaves()["conv1.weight"].shape == (1, size, size, 1, filters)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert grid["layers"][0][0][1].kernel_size == 3  # the grid's own layers are left alone


def test_a_search_over_architectures():
    search = GridSearchCV(
        CNNClassifier(max_iter=1, random_state=0),
        {"architecture": ["small_cnn", "lenet5"]},
        cv=2,
        error_score="raise",
    ).fit(IMAGES, Y)
    assert search.best_params_["architecture"] in ("small_cnn", "lenet5")


def test_labels_of_every_kind():
    names = np.array([f"digit {d}" for d in range(10)])
    assert set(cnn().fit(IMAGES, names[Y]).predict(IMAGES)) <= set(names)
    assert cnn().fit(IMAGES, Y % 2 == 0).predict(IMAGES).dtype == bool
    many = np.stack([Y % 2, Y > 4], axis=1).astype(int)
    assert cnn().fit(IMAGES, many).predict(IMAGES).shape == (200, 2)
    assert (cnn().fit(IMAGES, np.full(200, 7)).predict(IMAGES) == 7).all()


def test_data_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IMAGES.reshape(200, 64), columns=[f"p{i}" for i in range(64)])
    fitted = cnn().fit(frame, pandas.Series(Y))
    assert fitted.feature_names_in_[0] == "p0"
    expected = cnn().fit(IMAGES, Y).decision_function(IMAGES)
    assert fitted.decision_function(frame).tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize("form", ["read-only", "Fortran", "reversed", "float16", "bool"])
def test_arrays_in_every_layout(form):
    images = (IMAGES > 0.5).astype(np.float32)
    expected = cnn().fit(images, Y).predict_proba(images)
    given = images
    if form == "read-only":
        given = images.copy()
        given.flags.writeable = False
    elif form == "Fortran":
        given = np.asfortranarray(images)
    elif form == "reversed":
        given = images[:, ::-1].copy()[:, ::-1]
    else:
        given = images.astype(form)
    got = cnn().fit(given, Y).predict_proba(given)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_images_and_few_samples(side):
    images = IMAGES[:, :side, 3 : 3 + side]
    assert CNNClassifier(max_iter=1).fit(images, Y).predict(images).shape == (200,)
    assert CNNClassifier(max_iter=1).fit(images[:1], Y[:1]).predict(images[:1]) == Y[:1]


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        (dict(layers=[Conv2D(4), Flatten()]), r"layers holds Conv2D\(filters=4\)"),
        (dict(layers=[None]), "layers holds None"),
        (dict(layers=[("c", Conv2D)]), "it must be a layer"),
        (dict(layers=[(["c"], Conv2D(4))]), r"layers has the name \['c'\]"),
        (dict(layers=[("c", Conv2D(4), None)]), "layer 'c' is to read None"),
        (dict(layers=[("c", Conv2D(4), 3)]), "layer 'c' is to read 3"),
        (dict(layers=[("c", Conv2D(4), [0])]), r"layer 'c' is to read \[0\]"),
        (dict(layers=[("c", Conv2D(4)), ("c", Flatten())]), "two layers of the name 'c'"),
        (dict(layers=None, architecture="Architecture"), "architecture='Architecture' must be"),
        (dict(layers=None, architecture=lambda s, n: None), "returned None; it must be a list"),
        (dict(layers=None, architecture=lambda s, n: [3]), "layers holds 3"),
        (dict(image_shape=("a", 8, 1)), r"image_shape=\('a', 8, 1\) must be .*integers"),
        (dict(image_shape=(8.5, 8, 1)), r"image_shape=\(8.5, 8, 1\) must be .*integers"),
        (
            dict(layers=[("f", Flatten()), ("output", Dense(10, "softmax"))]),
            "layer 'output' .*'softmax'.*leave the activation out",
        ),
        (
            dict(layers=[("f", Flatten()), ("d", Dense(10)), ("output", Activation("softmax"))]),
            "layer 'output' .*'softmax'",
        ),
    ],
)
def test_refuses_before_any_work(kw, message):
    estimator = cnn(**kw)
    with pytest.raises(ValueError, match=message):
        estimator.fit(IMAGES, Y)
    assert not [name for name in vars(estimator) if name.endswith("_")]


def test_a_regressor_may_end_in_an_activation():
    ends = [("flat", Flatten()), ("output", Dense(1, "logistic"))]
    fitted = CNNRegressor(ends, max_iter=1).fit(IMAGES, Y / 9)
    assert ((fitted.predict(IMAGES) > 0) & (fitted.predict(IMAGES) < 1)).all()


# ---- memory ------------------------------------------------------------------------------------

PEAK = """
import sys
import numpy as np
from skdeep.layers import *
from skdeep.neural_network import CNNClassifier

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def cnn(filters, **kw):
    layers = [
        ("conv", Conv2D(filters, 3, padding="same", activation="relu")),
        ("res", Residual(filters=filters)),
        ("pool", GlobalAveragePool()),
    ]
    return CNNClassifier(layers, max_iter=1, random_state=0, **kw)

X = np.random.default_rng(0).uniform(size=(250, 32, 32, 3)).astype(np.float32)
y = np.arange(250) % 10
kw = eval(sys.argv[1])
cnn(8, **kw | dict(batch_size=8)).fit(X[:20, :8, :8], y[:20])  # kernels and libraries
before = status("VmRSS")
big = cnn(48, **kw).fit(X, y)
print((status("VmHWM") - before) / big.summary().training_bytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "kw",
    [
        dict(batch_size=128),  # the second batch has 122 samples: a program of its own
        dict(batch_size=128, accumulate_steps=3),  # parts of 44 and 42 samples
    ],
    ids=str,
)
def test_training_takes_the_memory_that_the_summary_says(kw):
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run(
        [sys.executable, "-c", PEAK, repr(kw)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ).stdout
    # Libraries' own buffers and Python's objects come to some MB.
    assert 0.5 < float(out) < 1.2


def test_the_summary_says_the_batch_and_counts_its_parts():
    whole = cnn(batch_size=64).summary((8, 8, 1), n_outputs=10)
    parts = cnn(batch_size=64, accumulate_steps=4).summary((8, 8, 1), n_outputs=10)
    assert "training with 64 samples a step" in repr(parts)
    assert parts.training_bytes < whole.training_bytes
    numbers = 4 * whole.n_parameters
    threads = cnn(batch_size=64, accumulate_steps=4, n_jobs=2)
    assert threads.summary((8, 8, 1), n_outputs=10).training_bytes > whole.training_bytes + numbers


# ---- the same bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, dict(accumulate_steps=3), dict(n_jobs=2)], ids=str)
def test_a_step_reads_nothing_that_another_left_in_the_shared_memory(options, monkeypatch):
    stack = [
        ("conv1", Conv2D(8, 3, padding="same", activation="relu")),
        ("res", Residual(filters=8)),
        ("pool", GlobalAveragePool()),
    ]
    kw = dict(layers=stack, batch_size=64, **options)  # batches of 64, 64, 64 and 8
    shared = cnn(**kw).fit(IMAGES, Y)

    def poisoned(self, size):
        raw = np.full(size + 64, 255, np.uint8)  # as floats: NaN
        return raw[-raw.ctypes.data % 64 :][:size]

    monkeypatch.setattr(Memory, "take", poisoned)
    alone = cnn(**kw).fit(IMAGES, Y)
    assert alone.network_.data.tobytes() == shared.network_.data.tobytes()


def test_a_context_of_joblib_changes_no_bit():
    alone = cnn().fit(IMAGES, Y)
    with joblib.parallel_config("threading", n_jobs=2):
        within = cnn().fit(IMAGES, Y)
    assert within.network_.data.tobytes() == alone.network_.data.tobytes()


def test_a_monitor_sees_every_epoch():
    monitor = ScoringMonitor(scoring="accuracy")
    fitted = cnn(max_iter=3).set_callbacks(monitor).fit(IMAGES, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == 3
    assert rows[-1]["accuracy"] == pytest.approx(fitted.score(IMAGES, Y))
