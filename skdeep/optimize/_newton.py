"""Newton's method with a line search, safe where the Hessian is indefinite or singular."""

import numpy as np

from skdeep.optimize._conditioning import EPS, warn_if_ill_conditioned

#: Eigenvalues below this fraction of the largest are raised to it.
FLOOR = 1e-10
_HALVINGS = 60


def newton(objective, *, tol, max_iter, record, armijo=1e-4, shrink=0.5):
    """Run Newton's method; return (x, status, message, number of steps).

    The direction is that of the Hessian with its eigenvalues replaced by their absolute values
    (Nocedal and Wright, section 3.4), hence always of descent; where the gradient is zero and an
    eigenvalue negative, the step follows that eigenvector.
    """
    x, warned = objective.x0, False
    value, g = objective.both(x)
    record(x, value)
    for step in range(max_iter + 1):
        H = objective.hess(x)
        if not np.isfinite(H).all():
            return x, 3, "diverged: the Hessian became NaN or infinite", step
        w, Q = np.linalg.eigh(H)
        top = np.abs(w).max()
        critical = np.abs(g).max() <= tol
        if critical and w[0] >= -np.sqrt(EPS) * top:
            return x, 0, f"converged: the gradient is within tol={tol:g}", step
        if step == max_iter:
            break
        if critical:
            new = _leave_saddle(objective, x, value, Q[:, 0], w[0], armijo, shrink)
        else:
            low = np.abs(w).min()
            warned = warned or warn_if_ill_conditioned(
                top / low if low else np.inf,
                1 / FLOOR,
                "the Hessian",
                "small eigenvalues were raised",
                stacklevel=4,
            )
            raised = np.maximum(np.abs(w), FLOOR * top) if top else np.ones_like(w)
            d = -Q @ ((Q.T @ g) / raised)
            new = _backtrack(objective, x, value, g, d, armijo, shrink)
        if new is None:
            rounding = np.abs(g).max() <= np.sqrt(EPS) * max(1.0, abs(value))
            if rounding:
                return x, 0, "converged: f cannot be lowered further in float64", step
            return x, 2, "the line search found no lower value", step
        x = new
        value, g = objective.both(x)
        record(x, value)
        why = objective.diverged(value, g, x)
        if why:
            return objective.best_x, 3, why, step + 1
    return x, 1, f"max_iter={max_iter} steps were not enough to reach tol={tol:g}", max_iter


def _backtrack(objective, x, value, g, d, armijo, shrink):
    """Return the first point along `d` that meets Armijo's condition, or None."""
    slope = g @ d
    if -slope <= 10 * EPS * abs(value):  # f cannot tell the difference, the gradient may
        new = x + d
        return new if np.abs(objective.both(new)[1]).max() < np.abs(g).max() else None
    alpha = 1.0
    for _ in range(_HALVINGS):
        new = x + alpha * d
        if objective.value(new) <= value + armijo * alpha * slope:
            return new
        alpha *= shrink
    return None


def _leave_saddle(objective, x, value, d, curvature, armijo, shrink):
    """Return a lower point along a direction of negative curvature, or None."""
    alpha = 1.0
    for _ in range(_HALVINGS):
        fun, new = min(
            ((objective.value(x + s * alpha * d), x + s * alpha * d) for s in (1.0, -1.0)),
            key=lambda pair: pair[0],
        )
        if fun < value + armijo * 0.5 * alpha**2 * curvature:
            return new
        alpha *= shrink
    return None
