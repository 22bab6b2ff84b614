"""`minimize`: the checks, the choice of method, and the result."""

import numpy as np
from scipy.optimize import OptimizeResult

from skdeep.optimize._conditioning import is_real
from skdeep.optimize._constraints import Feasible, read_ball, read_bounds, read_constraints
from skdeep.optimize._first_order import RULES, descend, make_rule
from skdeep.optimize._kkt import kkt_conditions
from skdeep.optimize._newton import newton
from skdeep.optimize._objective import Objective
from skdeep.optimize._scipy import SOLVERS, Stopped, solve

_METHODS = (*RULES, "newton", *SOLVERS)

#: what a method takes: any of "bounds", "norm_bound", "constraints"
_TAKES = {
    **dict.fromkeys(RULES, ("bounds", "norm_bound")),
    **dict.fromkeys(("l-bfgs", "l-bfgs-b"), ("bounds",)),
    **dict.fromkeys(("slsqp", "trust-constr"), ("bounds", "norm_bound", "constraints")),
}
_MAX_ITER = {**dict.fromkeys(RULES, 10_000), "newton": 100}
_NEWTON_OPTIONS = {"armijo": (0.0, 0.5), "shrink": (0.0, 1.0)}

#: A result that misses its constraints by more than this is no success, nor one whose Lagrangian
#: has a gradient above this fraction of the larger of 1 and the gradient at the start.
_FEASIBLE, _STATIONARY = 1e-5, 1e-3


def minimize(
    f,
    x0,
    args=(),
    *,
    method=None,
    learning_rate=None,
    max_iter=None,
    tol=1e-8,
    bounds=None,
    constraints=(),
    norm_bound=None,
    callback=None,
    keep_path=True,
    options=None,
):
    """Minimise a function written in plain NumPy; its derivatives are exact.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` gives a scalar; `x` has the shape of `x0`. Gradients, Hessians and their
        products with vectors come from `skdeep.autodiff`.
    x0 : float or array-like
        The start, of any shape. The work is done in float64.
    args : tuple, default=()
        Further arguments of `f`.
    method : str, default=None
        In any case of letters. None takes "SLSQP" where there are `constraints` or a
        `norm_bound`, otherwise "L-BFGS".

        - First order, with a learning rate: "gradient-descent", "momentum", "nesterov",
          "adagrad", "rmsprop", "adam", "ftrl". With `bounds` or a `norm_bound` every step is
          projected.
        - "newton": dense Hessian, line search by Armijo's rule, eigenvalues replaced by their
          absolute values where the Hessian is indefinite; leaves a saddle along its direction
          of negative curvature. For problems of up to some hundreds of variables.
        - SciPy's: "L-BFGS" (or "L-BFGS-B"; takes `bounds`), "newton-CG", "trust-ncg",
          "trust-exact", and "SLSQP" and "trust-constr", which take every constraint.
    learning_rate : float or callable, default=None
        For first-order methods: a rate, or a function of the step's number, from 0. None takes
        0.01; 0.05 for "adam", 0.5 for "adagrad" and "ftrl".
    max_iter : int, default=None
        The most steps. None takes 10000 for first-order methods, 100 for "newton", SciPy's own
        default for SciPy's methods.
    tol : float, default=1e-8
        First-order methods and "newton" stop when no entry of the (projected) gradient is
        larger. It is `gtol` of L-BFGS and the trust regions, `xtol` of "newton-CG", `ftol` of
        "SLSQP"; with inequalities, "trust-constr" goes by `xtol` and `barrier_tol` alone.
    bounds : scipy.optimize.Bounds or sequence of (low, high), default=None
        Limits of the entries of x; None in a pair for no limit. Pairs follow the flattened x.
    constraints : constraint or sequence of constraints, default=()
        ``scipy.optimize.LinearConstraint(A, lb, ub)`` (`A` acts on the flattened x; ``A x <= b``
        is ``LinearConstraint(A, ub=b)``), ``NonlinearConstraint(fun, lb, ub)``, or a dict
        ``{"type": "eq" or "ineq", "fun": fun}`` for ``fun(x) = 0`` or ``fun(x) >= 0``. `fun` is
        plain NumPy, its value a number, an array or a list; derivatives that are callables are
        used, all others are exact.
    norm_bound : float or (float, array), default=None
        A radius r, or (r, centre): the Euclidean norm of x (or x - centre) is at most r.
    callback : callable, default=None
        ``callback(intermediate_result)`` after every iteration, with `x`, `fun` and `nit`. It
        may raise StopIteration.
    keep_path : bool, default=True
        Whether to keep every iterate, for `path`.
    options : dict, default=None
        The method's settings: "momentum" for "momentum" and "nesterov" (0.9); "epsilon" for
        "adagrad" (1e-10), "rmsprop" and "adam" (1e-8); "rho" for "rmsprop" (0.9); "beta_1" (0.9)
        and "beta_2" (0.999) for "adam"; "l1" (0), "l2" (0) and "beta" (1) for "ftrl"; "armijo"
        (1e-4) and "shrink" (0.5) for "newton"; SciPy's own for SciPy's methods.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With `x` (shape of `x0`; the best point where a first-order method did not converge or a
        run diverged), `fun`, `jac` (the gradient at `x`), `success`, `status` (0 converged, 1
        `max_iter` reached, 2 no further progress, 3 diverged, 4 constraints missed, 99 stopped
        by the callback; SciPy's methods have further codes of their own), `message`, `nit`,
        `nfev`, `njev`, `nhev`, and

        path : ndarray of shape (number of iterates, \\*x0.shape) or None
            The iterates; ``path[0]`` is the start (projected, if it was infeasible and the
            method projects) and, for methods other than SciPy's, ``path[k]`` the point after k
            steps.
        fun_path : ndarray of shape (number of iterates,)
            `f` at the iterates.
        multipliers : OptimizeResult
            Lagrange multipliers: `constraints`, a list with an array per constraint;
            `norm_bound`, a float; `bounds`, an array of x0's shape; None for what there is not.
            They are fitted by least squares on the active set, with the sign convention of
            "trust-constr": ``jac + sum_i J_i.T @ multiplier_i = 0``, each constraint as it was
            written. So a multiplier is not negative at an upper limit (``A x <= b``), not
            positive at a lower limit (``fun(x) >= 0``), of any sign at an equality, and zero
            where a constraint does not bind. The norm bound's belongs to the constraint
            ``(||x - centre||^2 - r^2) / 2 <= 0``, whose gradient is ``x - centre``.
        kkt : OptimizeResult
            The largest residuals of the Karush-Kuhn-Tucker conditions: `stationarity` (of the
            gradient above), `primal_feasibility` (how far a limit is passed), `dual_feasibility`
            (multipliers of the wrong sign), `complementarity` (multiplier times distance from
            the limit).

    Raises
    ------
    TypeError
        If `f` or a constraint cannot be differentiated, or an argument is of the wrong type.
    ValueError
        If `f` is not scalar, `f` or its gradient is not finite at `x0`, `x0` is not finite, the
        method or one of its settings is unknown or out of range, bounds are wrong or empty, or
        the method does not take such constraints.

    Warns
    -----
    IllConditionedWarning
        If "newton" meets a Hessian with a condition number above 1e10.

    References
    ----------
    J. Nocedal and S. Wright, Numerical Optimization, 2nd edition, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.optimize import minimize
    >>> def f(v):
    ...     return (v[0] ** 2 + 4 * v[1] ** 2) / 6
    >>> line = {"type": "eq", "fun": lambda v: 6 - v[0] - 2 * v[1]}
    >>> result = minimize(f, [0.0, 0.0], constraints=line)
    >>> print(np.round(result.x, 6), np.round(result.multipliers.constraints[0], 6))
    [3.  1.5] [1.]
    >>> result = minimize(f, [1.0, 1.0], method="newton")
    >>> result.nit
    1
    """
    constraints = () if constraints is None else constraints
    method = _choose(method, constraints, norm_bound)
    options = dict(options or {})
    _check_settings(method, learning_rate, max_iter, tol, callback, options)
    objective = Objective(f, x0, args)
    ball = read_ball(norm_bound, objective.n, objective.shape)
    box = read_bounds(bounds, objective.n, objective.shape)
    _check_taken(method, bounds=bounds, norm_bound=norm_bound, constraints=constraints)
    start = objective.x0
    if method in RULES:
        update, schedule = make_rule(method, start, learning_rate, options)
    feasible = Feasible(box, [], ball)
    _check_nonempty(feasible)
    objective.check()
    feasible.constraints = read_constraints(constraints, objective)

    history = _History(objective, callback, keep_path)
    iterations = _MAX_ITER.get(method) if max_iter is None else max_iter
    common = dict(tol=tol, max_iter=iterations, record=history.record)
    try:
        if method in RULES:
            found = descend(objective, feasible.project, update, schedule, **common)
        elif method == "newton":
            found = newton(objective, **common, **options)
        else:
            history.record(start)
            res = solve(method, objective, feasible, options=options, **common)
            found = _read_scipy(res, objective, history, feasible)
    except Stopped as stop:
        status, message = stop.args
        x = _best(objective, history, feasible) if status == 3 else history.last
        found = x, status, message, history.count - 1
    return _result(objective, feasible, history, *found)


def _absent(value):
    """Whether there are no such limits; a single constraint may be an object without length."""
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def _choose(method, constraints, norm_bound):
    if method is None:
        return "l-bfgs" if _absent(constraints) and norm_bound is None else "slsqp"
    if not isinstance(method, str) or method.lower() not in _METHODS:
        raise ValueError(f"method={method!r} is unknown; the methods are {', '.join(_METHODS)}")
    return method.lower()


def _check_settings(method, learning_rate, max_iter, tol, callback, options):
    if learning_rate is not None and method not in RULES:
        raise ValueError(
            f"learning_rate={learning_rate!r} is for the first-order methods "
            f"({', '.join(RULES)}), not method={method!r}"
        )
    whole = isinstance(max_iter, int | np.integer) and not isinstance(max_iter, bool)
    if max_iter is not None and not (whole and max_iter > 0):
        raise ValueError(f"max_iter={max_iter!r} must be a positive integer")
    if not (is_real(tol) and 0 <= tol < np.inf):
        raise ValueError(f"tol={tol!r} must be a number that is finite and not negative")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback={callback!r} must be a function")
    if method == "newton":
        for name, v in options.items():
            if name not in _NEWTON_OPTIONS:
                raise ValueError(
                    f"options[{name!r}] is unknown to method='newton', "
                    f"which takes {sorted(_NEWTON_OPTIONS)}"
                )
            low, high = _NEWTON_OPTIONS[name]
            if not (is_real(v) and low < v < high):
                raise ValueError(f"options[{name!r}]={v!r} must be between {low} and {high}")


def _check_taken(method, **given):
    for what, value in given.items():
        if not _absent(value) and what not in _TAKES.get(method, ()):
            takers = [m for m in _METHODS if what in _TAKES.get(m, ())]
            raise ValueError(
                f"method={method!r} does not take {what}; these do: {', '.join(takers)}"
            )


def _check_nonempty(feasible):
    if feasible.bounds and feasible.ball:
        r, c = feasible.ball
        nearest = np.linalg.norm(np.clip(c, *feasible.bounds) - c)
        if nearest > r:
            raise ValueError(
                f"norm_bound: no point within the bounds is within {r} of the centre; "
                f"the nearest is at {nearest:.6g}"
            )


class _History:
    """The iterates, and the callback."""

    def __init__(self, objective, callback, keep_path):
        self.objective, self.callback = objective, callback
        self.points, self.values = ([] if keep_path else None), []
        self.count, self.last = 0, None

    def record(self, x, value=None):
        if self.last is not None and value is None and np.array_equal(x, self.last):
            return  # SciPy reports a rejected step, or the last point, again
        value = self.objective.value(x) if value is None else value
        self.last = np.array(x)
        self.count += 1
        self.values.append(value)
        if self.points is not None:
            self.points.append(self.last)
        if self.callback is not None and self.count > 1:
            now = OptimizeResult(x=self.objective.point(x)[()], fun=value, nit=self.count - 1)
            try:
                self.callback(now)
            except StopIteration:
                raise Stopped(99, "the callback raised StopIteration") from None


def _best(objective, history, feasible):
    """Return the best point known after divergence: with constraints, the last iterate."""
    return history.last if feasible.rows() else objective.best_x


def _read_scipy(res, objective, history, feasible):
    """Return SciPy's result as (x, status, message, number of steps)."""
    x = np.asarray(res.x, np.float64)
    why = objective.diverged(float(res.fun), x, objective.both(x)[1])
    if why:
        return _best(objective, history, feasible), 3, why, res.nit
    history.record(x)
    status = 0 if res.success else (int(res.status) or 2)
    return x, status, str(res.message), res.nit


def _result(objective, feasible, history, x, status, message, nit):
    value, g = objective.both(x)
    multipliers, kkt = kkt_conditions(feasible, x, g)
    if status == 0 and kkt.primal_feasibility > _FEASIBLE:
        status = 4
        message = f"the constraints are missed by {kkt.primal_feasibility:.3g} ({message})"
    elif status == 0 and kkt.stationarity > _STATIONARY * objective.scale:
        status = 2
        message = f"the gradient of the Lagrangian is still {kkt.stationarity:.3g} ({message})"
    shape = objective.shape
    if multipliers.bounds is not None:
        multipliers.bounds = multipliers.bounds.reshape(shape)
    points = history.points
    return OptimizeResult(
        x=objective.point(x)[()],
        fun=value,
        jac=g.reshape(shape)[()],
        success=status == 0,
        status=status,
        message=message,
        nit=nit,
        nfev=objective.nfev,
        njev=objective.njev,
        nhev=objective.nhev,
        path=None if points is None else np.reshape(points, (len(points), *shape)),
        fun_path=np.array(history.values),
        multipliers=multipliers,
        kkt=kkt,
    )
