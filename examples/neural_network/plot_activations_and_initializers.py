"""
==================================================
Why does it matter how the weights of a net begin?
==================================================

Twelve layers deep, a signal that each layer shrinks by a third arrives at less than a hundredth
of its size, and so does the gradient on its way back. How the weights begin decides, and what is
right depends on the activation: Glorot's initialisation for tanh, He's for relu, LeCun's for
selu.
"""

# %%
# First without any training: random inputs go through twelve layers of a hundred units. An
# initialiser is a small specification; it is called with a shape, the numbers of connections into
# and out of a unit, and a generator.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skdeep.layers import Glorot, He, LeCun, Orthogonal, TruncatedNormal
from skdeep.neural_network import MLPClassifier

warnings.filterwarnings("ignore", category=ConvergenceWarning)
depth, rng = 12, np.random.default_rng(0)
initializers = {
    "std 0.05": TruncatedNormal(0.05),
    "Glorot": Glorot(),
    "LeCun": LeCun(),
    "He": He(),
    "orthogonal": Orthogonal(),
}
functions = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}
spread = {}
for function, f in functions.items():
    for name, initializer in initializers.items():
        x = rng.normal(size=(500, 100))
        sizes = [1.0]
        for _ in range(depth):
            x = f(x @ initializer((100, 100), 100, 100, rng, np.float64))
            sizes.append(np.sqrt(np.mean(x**2)))
        spread[function, name] = sizes
        print(f"{function:5} {name:10} root mean square after {depth} layers: {sizes[-1]:.1e}")

# %%
# Then with training: nets of twelve narrow layers on the handwritten digits, ten epochs each. In
# ``MLPClassifier`` an activation is a name, or any function written in NumPy (the last one): its
# derivative comes of itself.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)


def bent(x):
    """Return x where it is positive, its inverse hyperbolic sine elsewhere."""
    return np.where(x > 0, x, np.arcsinh(x))


activations = ["logistic", "tanh", "relu", "leaky_relu", "selu", "gelu", bent]
accuracy = np.zeros((len(activations), len(initializers)))
for i, activation in enumerate(activations):
    for j, initializer in enumerate(initializers.values()):
        model = MLPClassifier(
            depth * (32,), activation, initializer=initializer, max_iter=10, batch_size=32,
            random_state=0,
        )  # fmt: skip
        accuracy[i, j] = model.fit(X_train, y_train).score(X_test, y_test)

# %%
# The logistic function is not centred and saturates: at this depth no initialisation saves it. The
# others learn unless the signal vanishes as it does from the first, small weights.
figure, axes = plt.subplots(1, 3, figsize=(13, 4), width_ratios=(1, 1, 1.3), layout="constrained")
for ax, function in zip(axes, functions, strict=False):
    for name in initializers:
        ax.plot(spread[function, name], "o-", markersize=4, label=name)
    ax.set(yscale="log", ylim=(1e-7, 3), xlabel="layer", title=f"Size of the signal, {function}")
axes[0].set_ylabel("root mean square of the activations")
axes[0].legend()
names = [getattr(a, "__name__", a) for a in activations]
axes[2].imshow(accuracy, vmin=0, vmax=1, cmap="Blues", aspect="auto")
axes[2].set_xticks(range(len(initializers)), initializers)
axes[2].set_yticks(range(len(names)), names)
for (i, j), score in np.ndenumerate(accuracy):
    axes[2].text(j, i, f"{score:.2f}", ha="center", color="white" if score > 0.6 else "black")
axes[2].set_title(f"Test accuracy after ten epochs, {depth} layers")
plt.show()
