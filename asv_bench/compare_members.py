"""Measure many nets trained as one group against one net, and two threads against one.

Run it with nothing else running: ``python asv_bench/compare_members.py``.
"""

import argparse
import os
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from skdeep._losses import get_loss  # noqa: E402
from skdeep._random import generator  # noqa: E402
from skdeep.layers import Dense  # noqa: E402
from skdeep.layers._network import Network  # noqa: E402
from skdeep.training import Adam, Constant  # noqa: E402
from skdeep.training._loop import Settings, Trainer  # noqa: E402
from skdeep.training._progress import Progress  # noqa: E402
from skdeep.training._source import Rows  # noqa: E402
from skdeep.training._step import Buffers, Data  # noqa: E402

LAYERS = [("hidden", Dense(100, "relu")), ("output", Dense(10))]


def trainer(X, y, batch, members, n_jobs, epochs):
    """Return a group of nets that are ready to train, and the steps that it makes."""
    network = Network(LAYERS, X.shape[1:], members)
    for m in range(members):
        network.initialize(generator(m), m)
    steps = -(-len(X) // batch)
    penalties, limits = [[1e-4, 0.0]] * members, [[0.0] * members] * 4
    optimizers = [Adam()] * members
    buffers = Buffers.allocate(network, optimizers, steps, penalties, limits, range(members))
    settings = Settings(
        batch_size=batch,
        max_iter=epochs,
        schedule=Constant(),
        learning_rates=(1e-3,) * members,
        tol=0.0,
        n_iter_no_change=np.inf,
        horizon=epochs,
        n_jobs=n_jobs,
    )
    data, progress = Data(X, y), [Progress() for _ in range(members)]
    sources = [Rows(data, np.arange(len(X))) for _ in range(members)]
    group = Trainer(
        network, get_loss("log_loss"), optimizers, sources, settings, buffers, progress
    )
    return group, steps * epochs * members


def measure(X, y, batch, rounds):
    """Return the median microseconds per net and step of each kind of training, interleaved."""
    kinds = {"1 net": (1, 1), "16 nets": (16, 1), "16 nets, 2 threads": (16, 2)}
    epochs = {name: 160 // members for name, (members, _) in kinds.items()}
    times = {name: [] for name in kinds}
    for r in range(rounds + 1):
        for name, (members, n_jobs) in kinds.items():
            group, steps = trainer(X, y, batch, members, n_jobs, epochs[name])
            start = time.perf_counter()
            group.run()
            if r:  # the first round compiles
                times[name].append((time.perf_counter() - start) / steps * 1e6)
    return {name: float(np.median(t)) for name, t in times.items()}


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(np.float32), y.astype(np.int64)
    print("| batch | 1 net | 16 nets | 16 nets, 2 threads | a net more costs | 2 threads give |")
    print("| --- | --- | --- | --- | --- | --- |")
    for batch in (32, 200):
        t = measure(X, y, batch, rounds)
        one, many, threads = t.values()
        cells = [f"{v:.1f} us" for v in t.values()]
        print(f"| {batch} | {' | '.join(cells)} | {many / one:.2f} | {many / threads:.2f} |")


if __name__ == "__main__":
    main()
