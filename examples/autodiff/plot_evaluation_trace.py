"""
===========================================================
What does automatic differentiation do, one step at a time?
===========================================================

The textbook's example is :math:`y = \\ln x_1 + x_1 x_2 - \\sin x_2` at :math:`(2, 5)`. Evaluated,
it is a sequence of elementary steps: the *evaluation trace*. Each step has a simple derivative,
and the chain rule puts them together, in the order of evaluation (forward mode) or against it
(reverse mode). :func:`skdeep.autodiff.trace` shows both, for any function written in NumPy.
"""

# %%
# Reverse mode carries an *adjoint* back from the result: how much :math:`y` changes with each
# intermediate variable. Read the last column upwards. :math:`x_2` is used twice, so its adjoint is
# the sum of two contributions: :math:`v_{-1} = 2` from the product, :math:`-\cos v_0` from the
# sine.
import matplotlib.pyplot as plt
import numpy as np

from skdeep.autodiff import grad, trace


def f(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


reverse = trace(f, 2.0, 5.0)
print(reverse)
print("\ndy/dx1, dy/dx2 =", *np.round(reverse.gradient, 6))

# %%
# Forward mode carries a *tangent* along: how each variable changes with the one input that is
# moved. One pass gives one column of the Jacobian, so it takes two for two inputs, where reverse
# mode took one for both.
for name, direction in {"x1": (1.0, 0.0), "x2": (0.0, 1.0)}.items():
    forward = trace(f, 2.0, 5.0, mode="forward", tangents=direction)
    print(f"\nAlong {name}:\n{forward}")

# %%
# No approximation is involved. A finite difference has two errors, of truncation and of rounding,
# and no step size avoids both.
exact = 1 / 2 + 5
steps = np.logspace(-15, 0, 61)
differences = (f(2 + steps, 5.0) - f(2.0, 5.0)) / steps
error = abs(grad(f)(2.0, 5.0) - exact)
print(f"\nError of dy/dx1 by automatic differentiation: {error:.1e}")
print(f"Least error of a finite difference: {np.abs(differences - exact).min():.1e}")

# %%
# The graph of the computation, and the errors of the two ways to differentiate.
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4), width_ratios=(2, 1), layout="constrained"
)
reverse.plot(ax=left)
left.set_title(r"Evaluation trace of $\ln x_1 + x_1 x_2 - \sin x_2$ at (2, 5)")
floor = np.finfo(float).eps
right.loglog(steps, np.maximum(np.abs(differences - exact), floor), label="finite difference")
right.axhline(max(error, floor), color="C1", label="automatic differentiation")
right.set(xlabel="step of the finite difference", ylabel=r"error of $\partial y / \partial x_1$")
right.legend()
plt.show()
