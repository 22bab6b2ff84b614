"""Constraints in one form, ``lower <= c(x) <= upper`` over flat x, and projections."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from skdeep.autodiff import hvp, jacobian
from skdeep.optimize._conditioning import is_real
from skdeep.optimize._objective import differentiated


@dataclass
class Constraint:
    """``lower <= fun(x) <= upper`` with its derivatives, x being flat."""

    fun: Any
    jac: Any
    lower: np.ndarray
    upper: np.ndarray
    hess: Any = None  # (x, v) -> product of the Hessian of v @ fun with a vector; None if linear

    @property
    def equal(self):
        """Whether each entry is an equality."""
        return self.lower == self.upper


@dataclass
class Feasible:
    """The feasible set of a problem, its three parts apart."""

    bounds: Any  # (lower, upper), flat, or None
    constraints: list
    ball: Any  # (radius, flat centre) or None

    def rows(self):
        """Return every constraint but the bounds."""
        return self.constraints + ([ball_constraint(*self.ball)] if self.ball else [])

    def project(self, y):
        """Return the point of the bounds and the ball that is nearest to y."""
        lo, hi = self.bounds if self.bounds else (-np.inf, np.inf)
        if not self.ball:
            return np.clip(y, lo, hi)
        r, c = self.ball
        if not self.bounds:
            d = y - c
            length = np.linalg.norm(d)
            return y if length <= r else c + d * (r / length)

        # The optimality conditions of the nearest point, with mu the ball's multiplier.
        def at(t):  # t = 1 / (1 + mu), from 1 (outside) to 0 (the centre)
            return np.clip(c + t * (y - c), lo, hi)

        def excess(t):
            return np.linalg.norm(at(t) - c) - r

        if excess(1.0) <= 0:
            return at(1.0)
        t = optimize.brentq(excess, 0.0, 1.0, xtol=1e-16) if excess(0.0) < 0 else 0.0
        return at(t)


def ball_constraint(r, c):
    """Return (||x - c||^2 - r^2) / 2 <= 0: smooth at the centre, its gradient x - c."""
    return Constraint(
        lambda x: np.array([((x - c) @ (x - c) - r * r) / 2]),
        lambda x: (x - c)[None],
        np.array([-np.inf]),
        np.zeros(1),
        lambda x, v: lambda p: v[0] * p,
    )


def read_bounds(bounds, n, shape):
    """Return (lower, upper), flat, or None."""
    if bounds is None:
        return None
    if isinstance(bounds, optimize.Bounds):
        sides = [np.asarray(b, np.float64) for b in (bounds.lb, bounds.ub)]
        try:
            lo, hi = (np.broadcast_to(b, shape) if b.ndim else np.full(shape, b) for b in sides)
        except ValueError:
            raise ValueError(
                f"bounds have shapes {sides[0].shape} and {sides[1].shape}, "
                f"which do not fit x0 of shape {shape}"
            ) from None
        lo, hi = lo.reshape(-1), hi.reshape(-1)
    else:
        try:
            pairs = [(low, high) for low, high in bounds]
        except (TypeError, ValueError):
            raise ValueError(
                f"bounds={bounds!r} must be scipy.optimize.Bounds or a (low, high) pair for each "
                "entry of x0, None standing for no bound"
            ) from None
        if len(pairs) != n:
            raise ValueError(f"bounds has {len(pairs)} pairs, but x0 has {n} entries")
        lo = np.array([-np.inf if low is None else low for low, _ in pairs], np.float64)
        hi = np.array([np.inf if high is None else high for _, high in pairs], np.float64)
    _check_order(lo, hi, "bounds")
    return lo, hi


def _check_order(lo, hi, name):
    bad = np.flatnonzero(~(lo <= hi) | (lo == np.inf) | (hi == -np.inf))
    if bad.size:
        i = bad[0]
        raise ValueError(
            f"{name}: entry {i} allows no value, its lower limit is {lo[i]} "
            f"and its upper limit {hi[i]}"
        )


def read_ball(norm_bound, n, shape):
    """Return (radius, flat centre), or None."""
    if norm_bound is None:
        return None
    r, c = norm_bound if isinstance(norm_bound, tuple) else (norm_bound, 0.0)
    if not (is_real(r) and 0 < r < np.inf):
        raise ValueError(
            f"norm_bound={norm_bound!r} must be a positive radius or a pair (radius, centre)"
        )
    c = np.asarray(c, np.float64)
    if c.shape not in ((), shape) or not np.isfinite(c).all():
        raise ValueError(
            f"norm_bound's centre must be finite and of x0's shape {shape}; its shape is {c.shape}"
        )
    return float(r), np.broadcast_to(c, shape).reshape(-1)


def read_constraints(constraints, objective):
    """Return the constraints as a list of `Constraint`, each evaluated once at the start."""
    one = (dict, optimize.LinearConstraint, optimize.NonlinearConstraint)
    constraints = [constraints] if isinstance(constraints, one) else list(constraints)
    return [_read(c, f"constraints[{i}]", objective) for i, c in enumerate(constraints)]


def _read(c, name, objective):
    if isinstance(c, optimize.LinearConstraint):
        return _linear(c, name, objective.n)
    if isinstance(c, optimize.NonlinearConstraint):
        user, jac, lower, upper = c.fun, c.jac, c.lb, c.ub
    elif isinstance(c, dict):
        extra = set(c) - {"type", "fun", "jac", "args"}
        if extra or c.get("type") not in ("eq", "ineq") or not callable(c.get("fun")):
            raise ValueError(
                f"{name}={c!r} must be {{'type': 'eq' or 'ineq', 'fun': function}}, "
                "with 'jac' and 'args' at choice"
            )
        args = c.get("args", ())
        user = lambda x: c["fun"](x, *args)  # noqa: E731
        given = c.get("jac")
        jac = (lambda x: given(x, *args)) if callable(given) else given
        lower, upper = 0.0, 0.0 if c["type"] == "eq" else np.inf
    else:
        raise TypeError(
            f"{name}={c!r} must be a LinearConstraint or NonlinearConstraint of scipy.optimize, "
            "or a dict with 'type' and 'fun'"
        )
    return _nonlinear(user, jac, lower, upper, name, objective)


def _linear(c, name, n):
    A = c.A.toarray() if hasattr(c.A, "toarray") else np.atleast_2d(np.asarray(c.A, np.float64))
    if A.shape[1] != n or not np.isfinite(A).all():
        raise ValueError(
            f"{name}: the matrix must be finite with {n} columns, one per entry of x0; "
            f"its shape is {A.shape}"
        )
    lower, upper = _limits(c.lb, c.ub, len(A), name)
    return Constraint(lambda x: A @ x, lambda x: A, lower, upper)


def _nonlinear(user, jac, lower, upper, name, objective):
    point, n = objective.point, objective.n

    def flat(x):  # a function of the unflattened x, its value made a vector
        y = user(x)
        y = np.stack(y) if isinstance(y, list | tuple) else y
        return np.reshape(y, (-1,))

    def fun(x):
        with np.errstate(all="ignore"):
            return np.asarray(flat(point(x)), np.float64)

    d = jac if callable(jac) else jacobian(flat)

    def full_jac(x):
        with np.errstate(all="ignore"):
            return np.asarray(d(point(x)), np.float64).reshape(-1, n)

    def hess(x, v):
        def combined(z):
            return np.sum(flat(z) * v)

        return lambda p: np.asarray(hvp(combined, point(x), point(p)), np.float64).reshape(-1)

    start = fun(objective.x0)
    J = differentiated(f"{name}'s function", lambda: full_jac(objective.x0))
    if not (np.isfinite(start).all() and np.isfinite(J).all()):
        raise ValueError(f"{name} or its Jacobian is not finite at x0; start from another x0")
    lower, upper = _limits(lower, upper, start.size, name)
    return Constraint(fun, full_jac, lower, upper, hess)


def _limits(lower, upper, m, name):
    try:
        lower, upper = (
            np.broadcast_to(np.asarray(b, np.float64).reshape(-1), m) for b in (lower, upper)
        )
    except ValueError:
        raise ValueError(f"{name}: its limits do not fit its {m} values") from None
    _check_order(lower, upper, name)
    return lower, upper
