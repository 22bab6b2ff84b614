"""Constraints of every kind, their multipliers and the conditions of optimality."""

import numpy as np
import pytest
from scipy import optimize, special

from skdeep.optimize import minimize

METHODS = ["SLSQP", "trust-constr"]


def quadratic(v):
    return (v[0] * v[0] + 4 * v[1] * v[1]) / 6


def distance(v):
    """The squared distance from (2, 1)."""
    a, b = v[0] - 2.0, v[1] - 1.0
    return a * a + b * b


LINE = optimize.LinearConstraint([[1.0, 2.0]], 6.0, 6.0)
CURVE = optimize.NonlinearConstraint(lambda v: v[0] + 2 * v[1], 6.0, 6.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("constraint", "multiplier"),
    [
        ({"type": "eq", "fun": lambda v: 6 - v[0] - 2 * v[1]}, 1.0),
        ({"type": "eq", "fun": lambda v, c: v[0] + 2 * v[1] - c, "args": (6.0,)}, -1.0),
        (LINE, -1.0),
        (CURVE, -1.0),
    ],
)
def test_textbook_lagrange_system(method, constraint, multiplier):
    """Minimise (x^2 + 4 y^2) / 6 where x + 2 y = 6: the system's solution is (3, 1.5, 1).

    With the constraint written as 6 - x - 2y = 0, the system is x/3 = t, 4y/3 = 2t, x + 2y = 6.
    """
    system = np.array([[1 / 3, 0, -1], [0, 4 / 3, -2], [1, 2, 0]])
    np.testing.assert_allclose(np.linalg.solve(system, [0, 0, 6]), [3, 1.5, 1])
    result = minimize(quadratic, [0.0, 0.0], method=method, constraints=constraint)
    assert result.success
    np.testing.assert_allclose(result.x, [3.0, 1.5], atol=1e-6)
    np.testing.assert_allclose(result.multipliers.constraints[0], [multiplier], atol=1e-6)
    assert max(result.kkt.values()) < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_multiplier_is_the_price_of_the_limit(method):
    """The optimum falls by the multiplier per unit by which an upper limit is relaxed."""

    def solve(limit):
        disc = optimize.NonlinearConstraint(lambda v: v[0] * v[0] + v[1] * v[1], -np.inf, limit)
        return minimize(distance, [0.1, 0.2], method=method, constraints=[disc], tol=1e-12)

    h = 1e-3
    slope = (solve(1 + h).fun - solve(1 - h).fun) / (2 * h)
    result = solve(1.0)
    # Closed form: the point on the circle towards (2, 1); 2 (x - a) + 2 t x = 0.
    assert result.fun == pytest.approx((5**0.5 - 1) ** 2, abs=1e-7)
    assert result.multipliers.constraints[0][0] == pytest.approx(5**0.5 - 1, abs=1e-5)
    assert slope == pytest.approx(-(5**0.5 - 1), abs=1e-5)  # h^2 of central differences


@pytest.mark.parametrize("method", METHODS)
def test_norm_bound_with_centre(method):
    centre = np.array([0.5, 0.0])
    result = minimize(distance, [0.0, 0.0], method=method, norm_bound=(0.5, centre))
    away = np.array([1.5, 1.0])
    expected = centre + 0.5 * away / np.linalg.norm(away)
    np.testing.assert_allclose(result.x, expected, atol=1e-6)
    g = 2 * (expected - [2.0, 1.0])
    # jac + multiplier * (x - centre) = 0
    assert result.multipliers.norm_bound == pytest.approx(np.linalg.norm(g) / 0.5, rel=1e-5)
    free = minimize(distance, [0.0, 0.0], method=method, norm_bound=10.0)
    np.testing.assert_allclose(free.x, [2.0, 1.0], atol=1e-5)
    assert free.multipliers.norm_bound == 0.0


@pytest.mark.parametrize("method", ["L-BFGS", "SLSQP", "trust-constr", "gradient-descent"])
def test_bounds_and_the_signs_of_their_multipliers(method):
    rate = {"learning_rate": 0.1} if method == "gradient-descent" else {}
    result = minimize(
        distance, [0.5, 2.0], method=method, bounds=optimize.Bounds([0, 1.5], [1, np.inf]), **rate
    )
    assert result.success
    np.testing.assert_allclose(result.x, [1.0, 1.5], atol=1e-6)
    # Positive at the upper limit, negative at the lower one.
    np.testing.assert_allclose(result.multipliers.bounds, [2.0, -1.0], atol=1e-4)
    assert max(result.kkt.values()) < 1e-4  # the interior-point method stops short of a limit


def test_hock_schittkowski_71_against_scipy():
    """Problem 71 of Hock and Schittkowski, its optimum known to ten digits."""

    def f(x):
        return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]

    product = {"type": "ineq", "fun": lambda x: x[0] * x[1] * x[2] * x[3] - 25}
    sphere = {"type": "eq", "fun": lambda x: np.sum(x * x) - 40}
    kwargs = dict(bounds=[(1, 5)] * 4, constraints=[product, sphere])
    known = [1.0, 4.7429994, 3.8211503, 1.3794082]
    peer = optimize.minimize(f, [1.0, 5, 5, 1], method="SLSQP", **kwargs)
    for method in METHODS:
        result = minimize(f, [1.0, 5, 5, 1], method=method, **kwargs)
        assert result.success
        np.testing.assert_allclose(result.x, known, atol=2e-6)
        np.testing.assert_allclose(result.fun, peer.fun, rtol=1e-6)
        # Multipliers as published with the interior-point method IPOPT's tutorial.
        np.testing.assert_allclose(result.multipliers.constraints[0], -0.5522937, atol=1e-5)
        np.testing.assert_allclose(result.multipliers.constraints[1], 0.1614686, atol=1e-5)
        np.testing.assert_allclose(result.multipliers.bounds, [-1.0878712, 0, 0, 0], atol=1e-5)
        assert max(result.kkt.values()) < 1e-5


def test_multipliers_agree_with_trust_constr_of_scipy():
    rng = np.random.default_rng(0)
    A, b, target = rng.normal(size=(2, 4)), np.array([0.1, -0.2]), rng.normal(size=4) * 2

    def f(x):
        return np.sum((x - target) * (x - target) * (x - target) * (x - target) + x * x)

    linear = optimize.LinearConstraint(A, ub=b)
    kwargs = dict(constraints=[linear], bounds=[(-0.5, 0.5)] * 4)
    ours = minimize(f, np.zeros(4), method="SLSQP", tol=1e-12, **kwargs)
    peer = optimize.minimize(
        f,
        np.zeros(4),
        method="trust-constr",
        jac=lambda x: 4 * (x - target) ** 3 + 2 * x,
        hess=lambda x: np.diag(12 * (x - target) ** 2 + 2),
        options={"gtol": 0.0, "xtol": 1e-10},
        **kwargs,
    )
    np.testing.assert_allclose(ours.x, peer.x, atol=1e-6)
    np.testing.assert_allclose(ours.multipliers.constraints[0], peer.v[0], atol=1e-4)
    np.testing.assert_allclose(ours.multipliers.bounds, peer.v[1], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_constraint_of_several_values_may_be_a_list(method):
    both = optimize.NonlinearConstraint(lambda v: [v[0] - v[1], v[0] * v[0]], [0, -np.inf], [0, 1])
    result = minimize(distance, [0.3, 0.1], method=method, constraints=both)
    np.testing.assert_allclose(result.x, [1.0, 1.0], atol=1e-5)
    assert result.multipliers.constraints[0].shape == (2,)
    assert result.kkt.stationarity < 1e-6


def test_given_derivatives_are_used():
    calls = []

    def jac(v):
        calls.append(v)
        return [1.0, 2.0]

    line = {"type": "eq", "fun": lambda v: v[0] + 2 * v[1] - 6, "jac": jac}
    result = minimize(quadratic, [0.0, 0.0], constraints=line)
    np.testing.assert_allclose(result.x, [3.0, 1.5], atol=1e-6)
    assert calls


def test_duplicate_constraints_still_give_right_signs():
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    three = optimize.LinearConstraint(rows, ub=[1.0, 1.0, 1.5, 0.5])  # all meet in (1, 0.5)
    result = minimize(distance, [0.0, 0.0], constraints=three)
    assert result.success
    assert max(result.kkt.values()) < 1e-6
    assert (result.multipliers.constraints[0] >= 0).all()


def test_wrong_side_shows_in_dual_feasibility():
    from skdeep.optimize._constraints import Feasible
    from skdeep.optimize._kkt import kkt_conditions

    box = Feasible((np.zeros(2), np.ones(2)), [], None)
    _, good = kkt_conditions(box, np.array([0.0, 1.0]), np.array([3.0, -2.0]))
    assert max(good.values()) == 0.0
    _, bad = kkt_conditions(box, np.array([0.0, 1.0]), np.array([-3.0, -2.0]))
    assert bad.dual_feasibility == 3.0
    _, outside = kkt_conditions(box, np.array([0.5, 1.25]), np.array([0.0, -2.0]))
    assert outside.primal_feasibility == 0.25


@pytest.mark.parametrize("method", METHODS)
def test_infeasible_problem_is_no_success(method):
    far = optimize.LinearConstraint([[1.0, 0.5]], lb=3.0)
    result = minimize(
        distance, [0.3, 0.1], method=method, constraints=far, norm_bound=1.0, max_iter=50
    )
    assert not result.success
    assert result.kkt.primal_feasibility > 0.1


def test_shaped_points_with_constraints():
    target = np.arange(4.0).reshape(2, 2)
    result = minimize(
        lambda x: np.sum((x - target) * (x - target)),
        np.zeros((2, 2)),
        constraints={"type": "eq", "fun": lambda x: np.sum(x, axis=1) - 1.0},
        bounds=optimize.Bounds(0.0, 1.0),
    )
    np.testing.assert_allclose(result.x, [[0.0, 1.0], [0.0, 1.0]], atol=1e-8)
    assert result.multipliers.bounds.shape == (2, 2)
    assert result.path.shape[1:] == (2, 2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(bounds=[(0, 1)]), "1 pairs, but x0 has 2"),
        (dict(bounds=[(1, 0), (0, 1)]), "entry 0 allows no value"),
        (dict(bounds=[(np.nan, 0), (0, 1)]), "entry 0 allows no value"),
        (dict(bounds=5), "pair for each"),
        (dict(bounds=optimize.Bounds([0, 0, 0], 1)), "do not fit x0"),
        (dict(norm_bound=-1.0), "positive radius"),
        (dict(norm_bound=(1.0, [0.0, 0.0, 0.0])), "centre must be"),
        (dict(norm_bound=1.0, bounds=[(2, 3), (2, 3)]), "no point within the bounds"),
        (dict(constraints={"type": "less", "fun": sum}), "'eq' or 'ineq'"),
        (dict(constraints={"type": "eq", "fun": sum, "hess": 1}), "'jac' and 'args'"),
        (dict(constraints=optimize.LinearConstraint(np.eye(3), ub=1)), "2 columns"),
        (dict(constraints=optimize.NonlinearConstraint(sum, 0, [1, 1, 1])), "do not fit"),
        (dict(constraints={"type": "ineq", "fun": lambda v: np.log(v[0])}), "not finite at x0"),
        (dict(method="adam", constraints=LINE), "adam.*does not take constraints.*slsqp"),
        (dict(method="newton", bounds=[(0, 1)] * 2), "newton.*does not take bounds.*l-bfgs"),
        (dict(method="L-BFGS", norm_bound=1.0), "does not take norm_bound"),
    ],
)
def test_wrong_constraints(kwargs, message):
    with pytest.raises(ValueError, match=message):
        minimize(distance, [0.0, 0.0], **kwargs)


def test_constraints_that_cannot_be_read():
    with pytest.raises(TypeError, match=r"constraints\[0\]='x'"):
        minimize(distance, [0.0, 0.0], constraints=["x"])
    zeta = {"type": "eq", "fun": lambda v: special.zetac(v[0] + 2)}
    with pytest.raises(TypeError, match=r"constraints\[1\]'s function cannot be differentiated"):
        minimize(distance, [0.0, 0.0], constraints=[LINE, zeta])
