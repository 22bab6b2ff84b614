"""
==================================================
What if one kind of error costs more than another?
==================================================

A baker who bakes too much throws bread away; one who bakes too little loses customers, which costs
him four times as much. The squared error knows nothing of that. A loss of one's own is a function
of two arrays in plain NumPy, and its derivative comes of itself (:mod:`skdeep.autodiff`).
"""

# %%
# Demand depends on the hour, and so does how far it scatters.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skdeep.autodiff import check_grads
from skdeep.neural_network import MLPRegressor
from skdeep.training import Adam, Cosine

warnings.filterwarnings("ignore", category=ConvergenceWarning)
rng = np.random.default_rng(0)
hour = rng.uniform(-1, 1, size=(1500, 1))
level = 2 + np.sin(3 * hour[:, 0])
demand = level + (0.15 + 0.5 * (1 + hour[:, 0])) * rng.gamma(2.0, 0.5, 1500)
X_train, X_test, y_train, y_test = train_test_split(hour, demand, random_state=0)


def cost(y_true, y_pred):
    """Return each sample's cost: 4 for every unit too little, 1 for every unit too much."""
    missing = y_true - y_pred
    return np.sum(np.where(missing > 0, 4.0 * missing, -missing), axis=1)


def smooth_cost(y_true, y_pred):
    """Return the cost with its kink rounded off, so that second derivatives help too."""
    missing, width = y_true - y_pred, 0.05
    return np.sum(5 * width * np.logaddexp(0, missing / width) - missing, axis=1)


# %%
# Whether a loss is differentiated right can be asked of :func:`~skdeep.autodiff.check_grads`,
# which compares with finite differences and raises an error if they disagree.
check_grads(lambda raw: smooth_cost(np.ones((5, 1)), raw), (rng.normal(size=(5, 1)),))

# %%
# The kinked cost is minimised by Adam with a rate that falls, the smooth one by L-BFGS. (Early
# stopping would judge by R², which is not what counts here.) The best that can be done is the 0.8
# quantile of the demand, because 4 / (4 + 1) = 0.8: there is a built-in loss for that, and
# scikit-learn's boosting has it too.
net = dict(hidden_layer_sizes=(50,), activation="tanh", random_state=0, max_iter=300)
adam = dict(optimizer=Adam(0.02), schedule=Cosine(), batch_size=50, n_iter_no_change=np.inf)
models = {
    "squared error": MLPRegressor(**net, **adam),
    "own loss": MLPRegressor(cost, **net, **adam),
    "own loss, smooth, L-BFGS": MLPRegressor(smooth_cost, solver="lbfgs", tol=1e-3, **net),
    "built-in quantile loss": MLPRegressor("quantile", quantile=0.8, **net, **adam),
    "boosted trees, quantile loss": GradientBoostingRegressor(
        loss="quantile", alpha=0.8, n_estimators=60, max_depth=2, random_state=0
    ),
}
mean_cost = {}
print(f"{'':29} mean cost  too little in")
for name, model in models.items():
    predicted = model.fit(X_train, y_train).predict(X_test)
    mean_cost[name] = cost(y_test[:, None], predicted[:, None]).mean()
    print(f"{name:29} {mean_cost[name]:9.3f}  {np.mean(predicted < y_test):.0%} of the cases")

# %%
# The nets that know the costs keep above the cloud, and the more so where it scatters more.
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
left.plot(X_test[:, 0], y_test, ".", color="0.75")
line = np.linspace(-1, 1, 200)[:, None]
for i, (name, model) in enumerate(models.items()):
    left.plot(line, model.predict(line), f"C{i}", label=name)
left.set(xlabel="hour", ylabel="demand", title="Predictions")
left.legend(fontsize="small")
right.barh(list(mean_cost), mean_cost.values(), color=[f"C{i}" for i in range(len(models))])
right.invert_yaxis()
right.set(xlabel="mean cost on the test data", title="What it costs")
plt.show()
