"""A fit that is killed resumes from its checkpoint, bit for bit."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skdeep.neural_network import MLPClassifier
from skdeep.training import Checkpoint, Performance

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_resume_parameters import fit
fit({path!r})
"""
PARAMETERS = """
from sklearn.datasets import load_digits
from skdeep.neural_network import MLPClassifier
from skdeep.training import Checkpoint, Performance

def fit(path):
    X, y = load_digits(return_X_y=True)
    return MLPClassifier(
        (64, 32), max_iter=150, batch_size=16, dropout=0.2, batch_norm=True, tol=0,
        n_iter_no_change=10**9, early_stopping=True, schedule=Performance(patience=3),
        random_state=7, checkpoint=path and Checkpoint(path),
    ).fit(X / 16, y)
"""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_resumes_bit_for_bit_after_a_kill(tmp_path):
    path = tmp_path / "run.safetensors"
    (tmp_path / "test_resume_parameters.py").write_text(PARAMETERS)
    program = PROGRAM.format(folder=str(tmp_path), path=str(path))
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as child:
        writes, seen, deadline = 0, None, time.monotonic() + 120
        while writes < 3 and child.poll() is None and time.monotonic() < deadline:
            if path.exists() and path.stat().st_ino != seen:
                seen, writes = path.stat().st_ino, writes + 1
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert writes == 3, child.stderr.read()
        assert child.returncode == -signal.SIGKILL
    namespace = {}
    exec(PARAMETERS, namespace)
    resumed = namespace["fit"](str(path))
    whole = namespace["fit"](None)
    assert resumed.n_iter_ == whole.n_iter_ == 150
    assert resumed.loss_curve_ == whole.loss_curve_
    assert resumed.validation_scores_ == whole.validation_scores_
    for a, b in zip(resumed.coefs_, whole.coefs_, strict=True):
        assert np.array_equal(a, b)
    assert os.listdir(tmp_path)
    assert not [f for f in os.listdir(tmp_path) if f.startswith(".run")]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_finished_fit_trains_on_with_a_larger_max_iter(tmp_path):
    X, y = load_digits(return_X_y=True)
    settings = dict(hidden_layer_sizes=(10,), random_state=0, schedule=Performance())
    path = tmp_path / "run.safetensors"
    MLPClassifier(max_iter=3, checkpoint=str(path), **settings).fit(X, y)
    more = MLPClassifier(max_iter=6, checkpoint=Checkpoint(path), **settings).fit(X, y)
    whole = MLPClassifier(max_iter=6, **settings).fit(X, y)
    assert np.array_equal(more.coefs_[0], whole.coefs_[0])
    with pytest.raises(ValueError, match="belongs to another training .*hidden_layer_sizes"):
        MLPClassifier((11,), max_iter=6, checkpoint=path, random_state=0).fit(X, y)
    overwritten = MLPClassifier(
        (11,), max_iter=2, checkpoint=Checkpoint(path, resume=False), random_state=0
    ).fit(X, y)
    assert overwritten.n_iter_ == 2
