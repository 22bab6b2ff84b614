"""
=====================================================
What changes when only the import of the MLP changes?
=====================================================

skdeep's :class:`~skdeep.neural_network.MLPClassifier` takes the parameters of scikit-learn's, with
the same names, defaults and meaning. So both can be given the same dictionary, on the same data,
and what is left to compare is how well and how fast they learn.
"""

# %%
# The data are scikit-learn's handwritten digits in float32, in which both are fastest. Both get
# one thread, the same batches and the same number of epochs (an infinite patience keeps either
# from stopping early, and ending without convergence is then no surprise).
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import sklearn.neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import skdeep.neural_network

warnings.filterwarnings("ignore", category=ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
shapes = [(10,), (50,), (100, 100)]
common = dict(batch_size=32, max_iter=20, n_iter_no_change=np.inf)
modules = {"scikit-learn": sklearn.neural_network, "skdeep": skdeep.neural_network}

# %%
# The libraries take turns. Each fits once before the clock starts: the first fit of a process
# loads compiled kernels, and the very first one after an installation compiles them.
seconds = {name: np.zeros((len(shapes), 3)) for name in modules}
accuracy = {name: np.zeros((len(shapes), 3)) for name in modules}
curves = {}
with threadpool_limits(1):
    for i, shape in enumerate(shapes):
        for seed in (None, 0, 1, 2):
            for name, module in modules.items():
                model = module.MLPClassifier(shape, random_state=seed, **common)
                start = time.perf_counter()
                model.fit(X_train, y_train)
                if seed is not None:
                    seconds[name][i, seed] = time.perf_counter() - start
                    accuracy[name][i, seed] = model.score(X_test, y_test)
                    curves[name, shape] = model.loss_curve_

print(f"{'hidden layers':14} {'library':13} accuracy (three seeds)  seconds per fit")
for i, shape in enumerate(shapes):
    for name in modules:
        scores = " ".join(f"{a:.3f}" for a in accuracy[name][i])
        print(f"{shape!s:14} {name:13} {scores:22}  {np.median(seconds[name][i]):.3f}")

# %%
# The accuracies differ by no more than they do between seeds: initial weights and orders are drawn
# from other random streams, so the runs are not equal number by number. The smaller the net, the
# larger the share of Python in a step, which is what skdeep does away with.
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for name, style in {"scikit-learn": "C1", "skdeep": "C0"}.items():
    at = np.arange(len(shapes)) + (0.2 if name == "skdeep" else -0.2)
    axes[0].bar(at, np.median(seconds[name], axis=1), 0.4, color=style, label=name)
    axes[1].plot(at, accuracy[name], "o", color=style)
    axes[2].plot(curves[name, (50,)], color=style, label=name)
axes[0].set(ylabel="seconds", title="Time of a fit, 20 epochs")
axes[0].legend()
axes[1].set(
    ylabel="accuracy on the test digits", title="Accuracy, three seeds each", ylim=(0.85, 1)
)
axes[2].set(xlabel="epoch", ylabel="loss", yscale="log", title="Learning curves, (50,)")
for ax in axes[:2]:
    ax.set_xticks(range(len(shapes)), [str(s) for s in shapes])
    ax.set_xlabel("hidden layers")
plt.show()
