"""
=========================================
Which way do optimisers go down a valley?
=========================================

The banana valley of Rosenbrock, :math:`(1 - x)^2 + 20 (y - x^2)^2`, is steep across and almost
flat along. Gradient descent zigzags or creeps; momentum, adaptive rates and second derivatives are
four remedies. :func:`skdeep.optimize.minimize` has them all, takes the derivatives from
:mod:`skdeep.autodiff`, and keeps the path.
"""

# %%
# All start at the same point, and stop when no entry of the gradient exceeds 1e-4.
import matplotlib.pyplot as plt
import numpy as np
from scipy import optimize as scipy_optimize

from skdeep.autodiff import grad
from skdeep.optimize import classify_critical_point, minimize


def valley(v):
    return (1 - v[0]) ** 2 + 20 * (v[1] - v[0] ** 2) ** 2


start, tol = np.array([-1.2, 1.6]), 1e-4
methods = {
    "gradient descent": dict(method="gradient-descent", learning_rate=7e-3),
    "momentum": dict(method="momentum", learning_rate=5e-3),
    "Adam": dict(method="adam", learning_rate=0.1),
    "L-BFGS": dict(method="l-bfgs"),
    "Newton": dict(method="newton"),
}
results = {name: minimize(valley, start, tol=tol, **kw) for name, kw in methods.items()}
point = classify_critical_point(valley, [1.0, 1.0])
low, high = point.eigenvalues
print(f"Curvatures at the minimum: {low:.2f} and {high:.1f}, condition number {high / low:.0f}\n")
print("method            steps  gradients  Hessians  distance from the minimum")
for name, r in results.items():
    distance = np.linalg.norm(r.x - 1)
    print(f"{name:16}  {r.nit:5}  {r.njev:9}  {r.nhev:8}  {distance:.1e}")

# %%
# The peer is SciPy's BFGS. Without derivatives it takes finite differences; with ours, it needs a
# third of the evaluations and comes closer.
for label, jac in {"finite differences": None, "skdeep.autodiff.grad": grad(valley)}.items():
    r = scipy_optimize.minimize(valley, start, jac=jac, tol=tol)
    print(f"SciPy's BFGS, {label:21} {r.nfev:3} evaluations, off by {np.linalg.norm(r.x - 1):.1e}")

# %%
# The paths, and how fast the value falls.
x, y = np.meshgrid(np.linspace(-1.6, 1.6, 240), np.linspace(-0.6, 2.1, 240))
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.8), width_ratios=(3, 2), layout="constrained"
)
left.contourf(x, y, np.log10(valley(np.stack([x, y])) + 1e-3), 24, cmap="Greys", alpha=0.6)
for i, (name, r) in enumerate(results.items()):
    often = "o" if r.nit < 100 else None
    style = dict(color=f"C{i}", marker=often, markersize=4, linewidth=1.4)
    left.plot(*r.path.T, **style, label=f"{name}: {r.nit} steps")
    right.loglog(np.arange(1, len(r.fun_path) + 1), np.maximum(r.fun_path, 1e-16), **style)
left.plot(1, 1, "k*", markersize=14)
left.set(xlim=(-1.6, 1.6), ylim=(-0.6, 2.1), title="Paths to the minimum (star)")
left.legend(loc="upper center")
right.set(xlabel="step", ylabel="value", title="Value of the function (both scales logarithmic)")
plt.show()
