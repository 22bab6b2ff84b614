"""
==========================================
Can a grid search tune a network, quickly?
==========================================

A Pipeline that ends in skdeep's :class:`~skdeep.neural_network.MLPClassifier` is tuned by
scikit-learn's GridSearchCV on real handwritten digits: MNIST where it is found, scikit-learn's
bundled digits otherwise. The progress bar is scikit-learn's own callback, which reaches through
the search and the Pipeline.
"""

# %%
# The data: 5,000 training digits are plenty for a search that takes seconds.
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skdeep.datasets import load_mnist
from skdeep.inspection import LossCurveDisplay
from skdeep.neural_network import MLPClassifier

try:
    X, y = load_mnist(subset="train", return_X_y=True, download_if_missing=False)
    X_test, y_test = load_mnist(subset="test", return_X_y=True, download_if_missing=False)
    X, _, y, _ = train_test_split(X, y, train_size=5000, stratify=y, random_state=0)
    name = "MNIST (5,000 digits for training)"
except OSError:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    name = "scikit-learn's digits"
print(f"Data: {name}; {X.shape[1]} pixels a digit, {len(X_test)} digits for the test.")

# %%
# The search: eight candidates, three folds, over parameters that scikit-learn's own network has
# and one that it has not, dropout.
pipeline = Pipeline(
    [
        ("scale", MinMaxScaler()),
        (
            "mlp",
            MLPClassifier(
                (100,),
                batch_size=50,
                max_iter=100,
                early_stopping=True,
                n_iter_no_change=4,
                tol=1e-3,
                random_state=0,
            ),
        ),
    ]
)
grid = {
    "mlp__hidden_layer_sizes": [(100,), (200, 100)],
    "mlp__learning_rate_init": [1e-3, 3e-3],
    "mlp__dropout": [0.0, 0.2],
}
search = GridSearchCV(pipeline, grid, cv=3)
search.set_callbacks(ProgressBar(max_propagation_depth=0))
start = time.perf_counter()
search.fit(X, y)
seconds = time.perf_counter() - start

# %%
# What came of it.
columns = ["rank_test_score", "mean_test_score", "std_test_score", "mean_fit_time"]
table = pd.DataFrame(search.cv_results_)
table = table[[c for c in table if c.startswith("param_")] + columns].sort_values(columns[0])
table.columns = [c.removeprefix("param_mlp__") for c in table.columns]
print(table.to_string(index=False, float_format="%.4f"))
fits = 3 * len(table) + 1
print(f"\n{fits} networks in {seconds:.1f} s. Best: {search.best_params_}")
print(f"Accuracy on the {len(X_test)} test digits: {search.score(X_test, y_test):.4f}")

# %%
# The learning curves of the best network, trained again on all training digits.
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
LossCurveDisplay.from_estimator(search, ax=ax, log=True)
ax.set_title(f"The best network on {name}")
figure.savefig("learning_curves.png", dpi=120)
print("Learning curves: learning_curves.png")
plt.show()
