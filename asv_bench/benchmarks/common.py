"""What the benchmarks share: one thread, the data, the peers behind one interface.

Import this module before anything that imports NumPy: it sets the number of threads.
"""

import os

for _name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
):
    os.environ[_name] = "1"

import functools  # noqa: E402
import importlib.util  # noqa: E402
import itertools  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import warnings  # noqa: E402

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

# dataset: (hidden layers, batch sizes)
SETTINGS = {
    "digits": ((100,), (32, 200)),
    "mnist": ((300, 100), (50, 200, 1024)),
}
HAS_TORCH = importlib.util.find_spec("torch") is not None
LIBRARIES = ("skdeep", "sklearn", "torch")


def one_thread():
    """Hold every thread pool loaded so far, and torch's own, to one thread."""
    threadpool_limits(limits=1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@functools.cache
def load(name, n_rows=None):
    """Return X (float32, in [0, 1]), y, X_test, y_test."""
    if name == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        n_test, largest = 360, 16
    else:
        from skdeep.datasets import load_mnist

        X, y = load_mnist(return_X_y=True)
        n_test, largest = 10_000, 1
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[n_test:][:n_rows], order[:n_test]

    def rows(index):
        x = np.asarray(X[index], np.float32).reshape(len(index), -1)
        return x / np.float32(largest), np.asarray(y[index], np.int64)

    return *rows(train), *rows(test)


def whole_batches(X, y, batch_size):
    """Cut to a whole number of batches, so that every step of every library is the same work."""
    n = len(X) // batch_size * batch_size
    return np.ascontiguousarray(X[:n]), y[:n]


class TorchMLP:
    """The loop that one writes by hand: Linear, ReLU, Adam, minibatches gathered by index."""

    def __init__(self, hidden, batch_size, epochs, fused=False):
        self.hidden, self.batch_size, self.epochs, self.fused = hidden, batch_size, epochs, fused

    def fit(self, X, y):
        import torch
        from torch import nn

        torch.set_num_threads(1)
        torch.manual_seed(0)
        sizes = (X.shape[1], *self.hidden, int(y.max()) + 1)
        modules = []
        for n_in, n_out in itertools.pairwise(sizes):
            modules += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.model = nn.Sequential(*modules[:-1])
        optimizer = torch.optim.Adam(self.model.parameters(), fused=self.fused or None)
        loss = nn.CrossEntropyLoss()
        X, y = torch.from_numpy(X), torch.from_numpy(y)
        for _ in range(self.epochs):
            order = torch.randperm(len(X))
            for i in range(0, len(X), self.batch_size):
                index = order[i : i + self.batch_size]
                optimizer.zero_grad(set_to_none=True)
                loss(self.model(X[index]), y[index]).backward()
                optimizer.step()
        return self

    def predict(self, X):
        import torch

        with torch.inference_mode():
            return self.model(torch.from_numpy(X)).argmax(1).numpy()

    def score(self, X, y):
        return float(np.mean(self.predict(X) == y))


def make(library, hidden, batch_size, epochs):
    """Return an estimator with fit, predict and score that makes exactly `epochs` epochs."""
    if library.startswith("torch"):
        return TorchMLP(hidden, batch_size, epochs, fused=library == "torch fused")
    if library == "skdeep":
        from skdeep.neural_network import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    return MLPClassifier(
        hidden_layer_sizes=hidden,
        batch_size=batch_size,
        max_iter=epochs,
        tol=0,
        n_iter_no_change=10**9,
        random_state=0,
    )


def quiet():
    """Silence the warning that max_iter was reached, which is what we ask for."""
    from sklearn.exceptions import ConvergenceWarning

    warnings.filterwarnings("ignore", category=ConvergenceWarning)


_CHILD = """
import time, warnings
warnings.simplefilter("ignore")
t0 = time.perf_counter()
{setup}
t1 = time.perf_counter()
{body}
t2 = time.perf_counter()
print("seconds", t1 - t0, t2 - t1)
"""


def in_subprocess(setup, body="pass", cache_dir=None):
    """Seconds that `setup` and then `body` take in a fresh interpreter."""
    env = dict(os.environ)
    if cache_dir is not None:
        env["NUMBA_CACHE_DIR"] = str(cache_dir)
    result = subprocess.run(
        [sys.executable, "-c", _CHILD.format(setup=setup, body=body)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(result.stderr)
    line = next(line for line in result.stdout.splitlines() if line.startswith("seconds "))
    return tuple(float(word) for word in line.split()[1:])


_FIRST_FIT_SETUP = """
from sklearn.datasets import load_digits
from {library}.neural_network import MLPClassifier
X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
"""
_FIRST_FIT_BODY = "MLPClassifier(batch_size=32, max_iter=1, random_state=0).fit(X, y)"


def first_fit(library, cache_dir=None):
    """Seconds of a process's first fit: one epoch on the digits."""
    return in_subprocess(_FIRST_FIT_SETUP.format(library=library), _FIRST_FIT_BODY, cache_dir)[1]


def first_fit_cold():
    """Seconds of skdeep's first fit with an empty kernel cache."""
    with tempfile.TemporaryDirectory() as directory:
        return first_fit("skdeep", directory)
