"""Trainings and predictions against a torch loop, and against our own on the processor."""

import time
import warnings
from functools import partial
from statistics import median

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpu import peers
from gpu.report import Row, compared
from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D, architectures
from skdeep.neural_network import CNNClassifier, MLPClassifier

BAR, AGREEMENT = 1.0, 1e-4


class Network:
    """A network of ours and the same one of torch's.

    Parameters
    ----------
    shape : tuple of int
        A sample's.
    ours : callable
        ``ours(**parameters)`` returns the estimator.
    peer : callable
        Returns torch's network.
    n : int
        The training samples.
    batches : tuple of int
        The batch sizes.
    epochs : int
        Those of a timed fit.
    n_classes : int, default=10
        The classes.
    """

    def __init__(self, shape, ours, peer, n, batches, epochs, n_classes=10):
        self.shape, self.ours, self.peer = shape, ours, peer
        self.n, self.batches, self.epochs, self.n_classes = n, batches, epochs, n_classes

    def data(self, batch):
        """Return samples, whole batches of them, and classes that depend on them."""
        n = self.n // batch * batch
        rng = np.random.default_rng(0)
        X = rng.standard_normal((n, *self.shape), np.float32)
        flat = X.reshape(n, -1)
        y = (flat @ rng.standard_normal((flat.shape[1], self.n_classes), np.float32)).argmax(1)
        y[: self.n_classes] = np.arange(self.n_classes)
        return X, y

    def estimator(self, batch, epochs, **parameters):
        """Return the estimator, which makes just so many epochs."""
        return self.ours(
            batch_size=batch, max_iter=epochs, random_state=0, n_iter_no_change=10**9, tol=0,
            **parameters,
        )  # fmt: skip


def _mlp(sizes, *rest):
    ours = partial(MLPClassifier, sizes[1:-1])
    return Network(sizes[:1], ours, partial(peers.mlp, sizes), *rest, n_classes=sizes[-1])


def _small_cnn(size, filters, units, n_classes, *rest):
    def ours(**parameters):
        layers = [
            ("conv1", Conv2D(filters[0], 3, activation="relu")),
            ("conv2", Conv2D(filters[1], 3, activation="relu")),
            ("pool", MaxPool2D(2)),
            ("flat", Flatten()),
            ("fc", Dense(units, activation="relu")),
        ]
        return CNNClassifier(layers=layers, **parameters)

    peer = partial(peers.small_cnn, size, filters, units, n_classes)
    return Network((size, size, 1), ours, peer, *rest, n_classes=n_classes)


def _resnet18(*rest):
    def ours(**parameters):
        return CNNClassifier(layers=list(architectures.resnet18((32, 32, 3), 10)), **parameters)

    return Network((32, 32, 3), ours, peers.resnet18, *rest)


NETWORKS = {
    "MLP 784-300-100-10": _mlp((784, 300, 100, 10), 61_440, (200, 1024), 25),
    "small CNN": _small_cnn(28, (32, 64), 128, 10, 12_800, (64, 256), 4),
    "ResNet-18, 32x32": _resnet18(7_680, (64, 256), 2),
}
TINY = {
    "MLP 5-4-3": _mlp((5, 4, 3), 8, (4,), 1),
    "small CNN": _small_cnn(6, (2, 2), 3, 2, 4, (2,), 1),
}


# ---- speed ------------------------------------------------------------------------------------


def throughput(bench):
    """Whole fits divided by their steps, and predictions from the host and to it."""
    for precision in ("float32", "tf32"):
        for name, net in bench.pick(NETWORKS, TINY).items():
            for batch in net.batches:
                case = f"{name}, batch {batch}, {precision}"
                bench.report.case(case, partial(_compare, bench, case, net, batch, precision))


def _compare(bench, case, net, batch, precision):
    X, y = net.data(batch)
    models = {"ours": net.estimator(batch, net.epochs, device="cuda", precision=precision)}
    if bench.peer is not None:
        forms = (False, True) if X.ndim == 4 else (False,)
        fused = (True,) if X.ndim == 4 else (True, False)
        for last in forms:
            for f in fused:
                key = _words(last, f, X.ndim == 4)
                models[key] = peers.Loop(
                    bench.peer, net.peer, X, y, batch, net.epochs, precision, last, f
                )
    fits = {who: partial(m.fit, X, y) if who == "ours" else m.fit for who, m in models.items()}
    seconds = _in_turns(bench, fits)
    rows = [_row(f"{case}, training", seconds, len(X) * net.epochs, batch)]
    predictions = {
        who: partial(m.decision_function, X) if who == "ours" else m.predict
        for who, m in models.items()
    }
    return [*rows, _row(f"{case}, prediction", _in_turns(bench, predictions), len(X))]


def _words(last, fused, images):
    if images:
        return "channels last" if last else "channels first"
    return "fused Adam" if fused else "Adam"


def _in_turns(bench, functions):
    """Return the median seconds of each function, after a call that warms up."""
    times = {name: [] for name in functions}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is what we ask for
        for turn in range(bench.pick(4, 1)):
            if turn and bench.report.left <= 0:
                break
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
    return {name: median(values[1:] or values) for name, values in times.items()}


def _row(case, seconds, n, batch=None):
    """Return the row of samples a second and, for trainings, of microseconds a step."""

    def spelled(s):
        step = f", {s / n * batch * 1e6:,.0f} us a step" if batch else ""
        return f"{n / s:,.0f} a second{step}"

    mine = seconds.pop("ours")
    best = min(seconds, key=seconds.get, default=None)
    peer = f"{spelled(seconds[best])} ({best})" if best else "-"
    return compared(case, spelled(mine), peer, seconds[best] / mine if best else None, BAR)


# ---- agreement --------------------------------------------------------------------------------


def agreement(bench):
    """Losses after an epoch, on the processor and on the device, and on the device again."""
    for name in list(bench.pick(NETWORKS, TINY))[:2]:
        net = bench.pick(NETWORKS, TINY)[name]
        bench.report.case(name, partial(_agree, bench, name, net))


def _agree(bench, name, net):
    batch = net.batches[0]
    X, y = (a[: bench.pick(20, 2) * batch] for a in net.data(batch))

    def fit(device):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return net.estimator(batch, 1, device=device).fit(X, y)

    cpu, gpu, again = fit("cpu"), fit("cuda"), fit("cuda")
    theirs, mine = cpu.loss_curve_[-1], gpu.loss_curve_[-1]
    gap = abs(mine - theirs) / abs(theirs)
    same = np.array_equal(gpu.network_.data, again.network_.data)
    same = same and gpu.loss_curve_ == again.loss_curve_
    steps = f"{len(X) // batch} steps of {batch}"
    return [
        Row(
            f"{name}, loss after {steps}", f"{mine:.7g}", f"{theirs:.7g} (processor)",
            f"{gap:.1e} apart", f"{AGREEMENT:g} at most", "met" if gap <= AGREEMENT else "not met",
        ),
        Row(
            f"{name}, two trainings", "equal bit for bit" if same else "different", "-", "-",
            "equal", "met" if same else "not met",
        ),
    ]  # fmt: skip
