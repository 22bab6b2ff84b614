"""SciPy's solvers, given exact derivatives."""

import warnings

import numpy as np
from scipy import optimize
from scipy.sparse.linalg import LinearOperator

from skdeep.optimize._conditioning import EPS

#: method -> (SciPy's name, the second derivative it takes, the options that `tol` sets)
SOLVERS = {
    "l-bfgs": ("L-BFGS-B", None, ("gtol",)),
    "l-bfgs-b": ("L-BFGS-B", None, ("gtol",)),
    "newton-cg": ("Newton-CG", "hessp", ("xtol",)),
    "trust-ncg": ("trust-ncg", "hessp", ("gtol",)),
    "trust-exact": ("trust-exact", "hess", ("gtol",)),
    "slsqp": ("SLSQP", None, ("ftol",)),
    "trust-constr": ("trust-constr", "hessp", ("gtol", "xtol", "barrier_tol")),
}

#: L-BFGS-B also stops by the fall of f; only rounding should stop it before `tol` does.
_FIXED = {"L-BFGS-B": {"ftol": 10 * EPS}}


class Stopped(Exception):
    """Leaves a solver from inside: with the status and the message of the result."""


def solve(method, objective, feasible, *, tol, max_iter, record, options):
    """Run one of SciPy's solvers; return its result."""
    name, second, tolerances = SOLVERS[method]
    settings = {**_FIXED.get(name, {}), **dict.fromkeys(tolerances, tol)}
    inequalities = feasible.bounds or not all(c.equal.all() for c in feasible.rows())
    if name == "trust-constr" and inequalities:
        # Its gtol does not ask for complementarity, so it would stop well inside the limits.
        settings["gtol"] = 0.0
    if max_iter is not None:
        settings["maxiter"] = max_iter

    def fun(x):
        value = objective.fun(x)
        if value < -objective.limit:
            raise Stopped(3, objective.diverged(value))
        return np.inf if np.isnan(value) else value

    def jac(x):
        if name == "SLSQP":  # calls back at trial points, but asks for gradients at iterates
            record(x)
        return objective.jac(x)

    def step(xk, state=None):
        if name != "SLSQP":
            record(xk)

    derivatives = {"jac": jac}
    if second == "hess":
        derivatives["hess"] = lambda x: _finite(objective.hess(x))
    elif second:
        derivatives[second] = objective.hessp
    limits = {}
    if feasible.bounds:
        limits["bounds"] = optimize.Bounds(*feasible.bounds)
    if feasible.rows():
        convert = _new_style if name == "trust-constr" else _old_style
        limits["constraints"] = [new for c in feasible.rows() for new in convert(c)]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # A guess outside the bounds is moved into them; that needs no telling.
        warnings.filterwarnings("ignore", "Values in x were outside bounds", RuntimeWarning)
        return optimize.minimize(
            fun,
            objective.x0,
            method=name,
            callback=step,
            options={**settings, **options},
            **derivatives,
            **limits,
        )


def _finite(H):
    """Return zeros for a Hessian that is not finite: a trust region steps back from there."""
    return H if np.isfinite(H).all() else np.zeros_like(H)


def _new_style(c):
    if c.hess is None:
        return [optimize.LinearConstraint(c.jac(None), c.lower, c.upper)]

    def hess(x, v):
        return LinearOperator((x.size, x.size), matvec=c.hess(x, v), dtype=np.float64)

    return [optimize.NonlinearConstraint(c.fun, c.lower, c.upper, jac=c.jac, hess=hess)]


def _old_style(c):
    """Return the dicts that SLSQP takes: the equalities, and each side of the inequalities."""
    sides = [
        ("eq", c.equal, 1.0, c.lower),
        ("ineq", ~c.equal & np.isfinite(c.lower), 1.0, c.lower),
        ("ineq", ~c.equal & np.isfinite(c.upper), -1.0, c.upper),
    ]
    return [
        {
            "type": kind,
            "fun": lambda x, i=i, s=s, limit=limit: s * (c.fun(x) - limit)[i],
            "jac": lambda x, i=i, s=s: s * c.jac(x)[i],
        }
        for kind, i, s, limit in sides
        if i.any()
    ]
