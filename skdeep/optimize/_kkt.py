"""Lagrange multipliers and the residuals of the Karush-Kuhn-Tucker conditions."""

import numpy as np
from scipy.optimize import OptimizeResult, lsq_linear

#: A limit counts as active within this distance, relative to max(1, |limit|).
ACTIVE = 1e-4


def kkt_conditions(feasible, x, g):
    """Return (multipliers, residuals) at x, where the objective has the gradient g.

    The Lagrangian's gradient is ``g + sum_i J_i.T @ multiplier_i`` for constraints written as
    ``lower <= c_i(x) <= upper``.
    """
    rows = feasible.rows()
    parts = [(c.fun(x), c.lower, c.upper) for c in rows]
    jacobians = [c.jac(x) for c in rows]
    if feasible.bounds:
        parts.append((x, *feasible.bounds))
    sizes = [p[0].size for p in parts]
    c, lower, upper = (np.concatenate([p[k] for p in parts] or [np.zeros(0)]) for k in range(3))
    lam = np.zeros(c.size)
    at_lower, at_upper = _near(c - lower, lower), _near(upper - c, upper)
    slack = np.where(at_lower & at_upper, 0.0, np.fmin(np.abs(c - lower), np.abs(upper - c)))
    active = np.flatnonzero(at_lower | at_upper)

    if jacobians:
        J = np.concatenate(jacobians)
        eye = active[active >= len(J)] - len(J)  # the active bounds' rows of the identity
        basis = np.zeros((eye.size, x.size))
        basis[np.arange(eye.size), eye] = 1.0
        J_active = np.concatenate([J[active[active < len(J)]], basis])
        lam[active] = _fit(J_active, g, slack[active], at_lower[active], at_upper[active])
        pull = J_active.T @ lam[active]
    else:
        lam[active] = -g[active]  # bounds alone: each entry by itself
        pull = lam if lam.size else np.zeros_like(g)

    wrong = np.where(
        ~at_upper, np.maximum(lam, 0.0), np.where(~at_lower, np.maximum(-lam, 0.0), 0)
    )
    residuals = OptimizeResult(
        stationarity=_largest(g + pull),
        primal_feasibility=_largest(np.maximum(np.maximum(lower - c, c - upper), 0.0)),
        dual_feasibility=_largest(wrong),
        complementarity=_largest(lam[active] * slack[active]),
    )
    return _by_constraint(feasible, np.split(lam, np.cumsum(sizes)[:-1])), residuals


def _near(distance, limit):
    scale = np.maximum(1.0, np.abs(np.where(np.isfinite(limit), limit, 0.0)))
    return np.isfinite(limit) & (distance <= ACTIVE * scale)


def _fit(J, g, slack, at_lower, at_upper):
    """Fit the active constraints' multipliers by least squares.

    The rows of slack make a multiplier pay for a limit that is near but not quite reached. Where
    dependent gradients leave a choice, signs that are right are taken.
    """
    M = np.concatenate([J.T, np.diag(slack)])
    target = np.concatenate([-g, np.zeros(slack.size)])
    lam = np.linalg.lstsq(M, target)[0]
    low, high = np.where(at_lower, -np.inf, 0.0), np.where(at_upper, np.inf, 0.0)
    if ((lam < low) | (lam > high)).any():
        signed = lsq_linear(M, target, (low, high), method="bvls").x
        miss = [np.linalg.norm(M @ z - target) for z in (lam, signed)]
        if miss[1] <= miss[0] + 1e-6 * max(1.0, float(np.linalg.norm(g))):
            return signed
    return lam


def _largest(a):
    return float(np.abs(a).max(initial=0.0))


def _by_constraint(feasible, pieces):
    n = len(feasible.constraints)
    return OptimizeResult(
        constraints=pieces[:n],
        norm_bound=float(pieces[n][0]) if feasible.ball else None,
        bounds=pieces[-1] if feasible.bounds else None,
    )
