"""
=========================================
What does a constraint cost at a minimum?
=========================================

At a constrained minimum the gradient does not vanish: it is balanced by the constraints, each
pushing with its *Lagrange multiplier*. The multiplier is a price, the rate at which the minimum
would fall if the constraint gave way a little. :func:`skdeep.optimize.minimize` returns it, and
the residuals of the Karush-Kuhn-Tucker conditions with it.
"""

# %%
# Least squares under a norm bound, which is what an l2 penalty does to a model's weights: the
# multiplier of the ball :math:`(\|w\|^2 - r^2) / 2 \le 0` *is* the penalty. The peer is
# scikit-learn's Ridge with that penalty, which must give the same weights.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import Ridge

from skdeep.optimize import minimize

rng = np.random.default_rng(0)
A = rng.normal(size=(30, 2)) @ np.array([[1.0, 0.8], [0.0, 0.5]])
b = A @ [2.0, -1.5] + 0.3 * rng.normal(size=30)


def squares(w):
    return 0.5 * np.sum((A @ w - b) ** 2)


free = minimize(squares, np.zeros(2), method="newton")
radii = np.linspace(0.15, 1.05, 10) * np.linalg.norm(free.x)
bounded = [minimize(squares, np.zeros(2), norm_bound=r, tol=1e-12) for r in radii]
print("radius  weights             multiplier  Ridge(alpha=multiplier)")
for r, result in zip(radii, bounded, strict=True):
    price = result.multipliers.norm_bound
    ridge = Ridge(alpha=max(price, 0.0), fit_intercept=False, solver="svd").fit(A, b).coef_
    print(f"{r:6.3f}  {np.round(result.x, 4)!s:18}  {price:10.4f}  {np.round(ridge, 4)}")

# %%
# Constraints are plain NumPy functions; their derivatives come of themselves. Here the weights
# must lie in a disc, above a curve and on one side of a line: two of the three bind at the
# solution, and the third has the multiplier 0.
constraints = [
    {"type": "ineq", "fun": lambda w: 1.5**2 - w @ w},
    {"type": "ineq", "fun": lambda w: w[1] + 0.7 * np.cos(2 * w[0])},
    {"type": "ineq", "fun": lambda w: 0.1 - 0.8 * w[0] - 0.6 * w[1]},
]
solution = minimize(squares, np.array([0.5, 0.5]), constraints=constraints)
print("\nsolution   ", np.round(solution.x, 4), "value", round(solution.fun, 4))
print("multipliers", [round(float(np.ravel(m)[0]), 4) for m in solution.multipliers.constraints])
print("KKT residuals", {k: float(f"{v:.1e}") for k, v in solution.kkt.items()})

# %%
# Left: as the ball shrinks, the solution leaves the free minimum (star) and goes to zero; every
# solution is where its circle touches a contour. Right: the feasible region (light), the solution,
# and the downhill direction that the two binding constraints hold in balance.
w = np.stack(np.meshgrid(*2 * [np.linspace(-2.5, 2.5, 300)]))
heights = 0.5 * np.sum((np.tensordot(A, w, 1) - b[:, None, None]) ** 2, axis=0)
figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", sharex=True, sharey=True)
for ax in axes:
    ax.contour(*w, heights, np.geomspace(1.5, 300, 14), colors="0.6", linewidths=0.8)
    ax.plot(*free.x, "k*", markersize=13)
    ax.set_aspect("equal")
for r in radii[::2]:
    axes[0].add_patch(plt.Circle((0, 0), r, fill=False, color="C0", alpha=0.4))
axes[0].plot(*np.array([r.x for r in bounded]).T, "o-", color="C0")
axes[0].set(title="Norm bound: the path of ridge regression", xlabel="$w_1$", ylabel="$w_2$")
inside = np.all([c["fun"](w) >= 0 for c in constraints[1:]], axis=0) & (np.sum(w**2, 0) <= 1.5**2)
axes[1].contourf(*w, inside, [0.5, 1.5], colors=["C0"], alpha=0.25)
axes[1].plot(*solution.x, "o", color="C3", markersize=9)
downhill = -solution.jac / np.linalg.norm(solution.jac) * 0.6
axes[1].annotate("", solution.x + downhill, solution.x, arrowprops=dict(color="C3", width=1.5))
axes[1].set(title="Three constraints, two of them binding", xlabel="$w_1$")
plt.show()
