"""
===================================================
Is a vanishing gradient a minimum? Ask the Hessian.
===================================================

Gradient methods stop where the gradient vanishes: at minima, but at saddle points and maxima too.
What tells them apart are the eigenvalues of the Hessian, which
:func:`skdeep.autodiff.hessian` computes exactly by differentiating twice.
"""

# %%
# A landscape with every kind of critical point. Newton's method on the gradient finds whichever is
# nearest: started from a grid, it finds them all.
import matplotlib.pyplot as plt
import numpy as np

from skdeep.autodiff import grad, hessian, hvp
from skdeep.optimize import classify_critical_point


def f(v):
    return np.sin(1.3 * v[0]) * np.cos(v[1]) + 0.05 * (v[0] ** 2 + v[1] ** 2)


slope, curvature = grad(f), hessian(f)
found = {}
for start in np.stack(np.meshgrid(*2 * [np.linspace(-2.7, 2.7, 7)]), axis=-1).reshape(-1, 2):
    x = start
    for _ in range(12):
        x = x - np.linalg.solve(curvature(x), slope(x))
        if np.abs(slope(x)).max() < 1e-9:
            break
    else:
        continue  # on its way elsewhere
    if np.abs(x).max() < 3.2:
        found[tuple(np.round(x, 6) + 0.0)] = x

# %%
# The second-derivative test: all eigenvalues positive, a minimum; all negative, a maximum; of both
# signs, a saddle.
points = [classify_critical_point(f, x) for x in found.values()]
print("kind        x                    f       eigenvalues of the Hessian")
for p in sorted(points, key=lambda p: p.fun):
    print(f"{p.kind:10}  {np.round(p.x, 3)!s:18}  {p.fun:6.3f}  {np.round(p.eigenvalues, 3)}")

# %%
# In many dimensions the Hessian is too large to build, but its product with a direction costs no
# more than a few gradients: :func:`skdeep.autodiff.hvp`. The curvature along a direction is one
# such product, and repeated products (the power method) find the greatest curvature.
worst = max(points, key=lambda p: p.eigenvalues[-1])
direction = np.array([1.0, 1.0])
for _ in range(30):
    direction = hvp(f, worst.x, direction)
    direction /= np.linalg.norm(direction)
print("\nGreatest curvature by power iteration:", round(direction @ hvp(f, worst.x, direction), 6))
print("Greatest eigenvalue of the Hessian:   ", round(worst.eigenvalues[-1], 6))

# %%
# The landscape. The crosses at each point lie along the Hessian's eigenvectors: blue where the
# function curves upwards, red where it curves downwards, longer where it curves more.
side = np.linspace(-3.5, 3.5, 200)
heights = f(np.stack(np.meshgrid(side, side)))
figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
levels = ax.contourf(side, side, heights, 24, cmap="Greys", alpha=0.7)
figure.colorbar(levels, label="f")
marks = {"minimum": ("v", "tab:blue"), "saddle": ("X", "tab:purple"), "maximum": ("^", "tab:red")}
for p in points:
    for size, axis in zip(p.eigenvalues, p.eigenvectors.T, strict=True):
        ends = p.x[:, None] + 0.35 * np.sqrt(abs(size)) * np.outer(axis, [-1, 1])
        ax.plot(*ends, color="tab:blue" if size > 0 else "tab:red", linewidth=2)
for kind, (marker, colour) in marks.items():
    at = np.array([p.x for p in points if p.kind == kind]).reshape(-1, 2)
    ax.scatter(*at.T, s=70, marker=marker, c=colour, edgecolors="white", label=kind, zorder=3)
ax.set(aspect="equal", title="Critical points and their principal curvatures")
figure.legend(loc="outside lower center", ncols=3)
plt.show()
