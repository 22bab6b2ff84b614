"""
===============================================================
Can a network learn from files that do not fit into the memory?
===============================================================

A stream reads files while the network trains, several at a time, through a buffer that shuffles
the samples: it takes the memory of the buffer, whatever the size of the files. The price is that
samples which are far apart in a file never change places. How large must the buffer be?
"""

# %%
# Sixteen tables in a temporary folder. In one collection each file has samples of all three
# labels, sorted by label; in the other each file has samples of one label alone.
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skdeep.datasets import stream_csv
from skdeep.neural_network import MLPClassifier

warnings.filterwarnings("ignore", category=ConvergenceWarning)
rng = np.random.default_rng(0)
X = rng.normal(size=(20_000, 20))
y = np.argmax(np.sin(X) @ rng.normal(size=(20, 3)), axis=1)
X, X_test, y, y_test = X[:16_000], X[16_000:], y[:16_000], y[16_000:]
by_label = np.argsort(y, kind="stable")
folder = tempfile.TemporaryDirectory()
header = ",".join([*(f"x{i}" for i in range(20)), "label"])
collections = {
    "files sorted by label": [by_label[i::16] for i in range(16)],
    "files of one label each": np.array_split(by_label, 16),
}
paths = {name: [] for name in collections}
for name, parts in collections.items():
    for i, rows in enumerate(parts):
        paths[name].append(Path(folder.name) / f"{name} {i}.csv")
        table = np.column_stack([X[rows], y[rows]])
        np.savetxt(paths[name][-1], table, "%.5g", ",", header=header, comments="")


def network(epochs=3):
    return MLPClassifier((64,), max_iter=epochs, learning_rate_init=1e-2, random_state=0)


def stream(paths, **options):
    return stream_csv(paths, target="label", **options)


# %%
# The memory: the most that is in use during a fit to more and more files.
def peak(fit):
    tracemalloc.start()
    fit()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 2**20


def load(paths):
    table = np.concatenate([np.loadtxt(path, delimiter=",", skiprows=1) for path in paths])
    return table[:, :-1], table[:, -1].astype(int)


network(1).fit(X_test, y_test)  # kernels are compiled, and not counted
files, counts = paths["files sorted by label"], [2, 4, 8, 16]
loaded = [peak(lambda n=n: network(1).fit(*load(files[:n]))) for n in counts]
streamed = [peak(lambda n=n: network(1).fit(stream(files[:n], buffer_size=1000))) for n in counts]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for memory, label in ((loaded, "loaded whole"), (streamed, "streamed, buffer of 1000")):
    left.plot(counts, memory, "o-", label=label)
left.set(xlabel="files", ylabel="MiB", title="Highest memory during a fit", ylim=0)
left.legend()

# %%
# The accuracy. Sixteen files are open at a time: with one label each they mix well in any buffer,
# while files that all begin with one label and end with another want a buffer for all samples.
right.axhline(network().fit(*load(files)).score(X_test, y_test), label="loaded whole")
buffers = [500, 4000, 16_000]
for (name, files), style in zip(paths.items(), ("C1o-", "C2o-"), strict=True):
    fits = [network().fit(stream(files, buffer_size=size)) for size in buffers]
    right.plot(buffers, [fit.score(X_test, y_test) for fit in fits], style, label=name)
right.set(xscale="log", xlabel="samples in the buffer", title="Accuracy after three epochs")
right.legend()
folder.cleanup()
plt.show()
