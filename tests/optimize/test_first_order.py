"""The first-order methods: their update rules, projections and divergence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeep.optimize import minimize
from skdeep.optimize._constraints import Feasible
from skdeep.optimize._first_order import RULES


def rosen(v):
    a, b = 1 - v[0], v[1] - v[0] * v[0]
    return a * a + 100 * b * b


def bowl(v):
    d = v - np.array([1.0, -2.0, 3.0])
    return np.sum(d * d * np.array([1.0, 2.0, 4.0]))


def test_textbook_gradient_descent():
    """x^2 + y^2 + x sin y + y sin x over x, y held at 1, from 1 at rate 0.1."""

    def f(x, y):
        return x * x + y * y + x * np.sin(y) + y * np.sin(x)

    result = minimize(
        f, 1.0, args=(1.0,), method="gradient-descent", learning_rate=0.1, max_iter=41
    )
    assert result.path.shape == (42,)
    assert round(float(result.path[1]), 4) == 0.6618
    # The 41st iterate counting the start, and the point after 41 steps, agree to four digits.
    assert round(float(result.path[40]), 4) == round(float(result.path[41]), 4) == -0.7772
    assert result.x.shape == ()
    assert result.nit == 41


@pytest.mark.parametrize(
    ("method", "options", "name", "settings_"),
    [
        ("gradient-descent", {}, "SGD", {}),
        ("momentum", {"momentum": 0.8}, "SGD", {"momentum": 0.8}),
        ("nesterov", {"momentum": 0.8}, "SGD", {"momentum": 0.8, "nesterov": True}),
        ("adagrad", {}, "Adagrad", {}),
        ("rmsprop", {"rho": 0.95}, "RMSprop", {"alpha": 0.95}),
        ("adam", {"beta_1": 0.8, "beta_2": 0.99}, "Adam", {"betas": (0.8, 0.99)}),
    ],
)
def test_update_rule_equals_torch(method, options, name, settings_):
    torch = pytest.importorskip("torch")
    rate, steps = 1e-3, 25
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimiser = getattr(torch.optim, name)([x], lr=rate, **settings_)
    path = [x.detach().numpy().copy()]
    for _ in range(steps):
        optimiser.zero_grad()
        rosen(x).backward()
        optimiser.step()
        path.append(x.detach().numpy().copy())
    result = minimize(
        rosen,
        [-1.2, 1.0],
        method=method,
        learning_rate=rate,
        max_iter=steps,
        options=options,
        tol=0.0,
    )
    # The same formulas in another order of operations, over 25 steps.
    np.testing.assert_allclose(result.path, path, rtol=1e-11)


def test_ftrl_without_penalties_is_adagrad():
    kwargs = dict(learning_rate=0.3, max_iter=20, tol=0.0)
    ftrl = minimize(bowl, [0.5, 0.0, -1.0], method="ftrl", options={"beta": 0.0}, **kwargs)
    adagrad = minimize(bowl, [0.5, 0.0, -1.0], method="adagrad", **kwargs)
    np.testing.assert_allclose(ftrl.path, adagrad.path, rtol=1e-8)  # AdaGrad's epsilon


def test_ftrl_solves_its_own_problem_at_every_step():
    """The iterate minimises the linearised losses, the proximal terms and the penalties."""
    rate, l1, l2, beta = 0.4, 1.5, 0.7, 1.0
    start = np.array([0.5, 0.0, -1.0])
    path = minimize(
        bowl,
        start,
        method="ftrl",
        learning_rate=rate,
        max_iter=6,
        tol=0.0,
        options=dict(l1=l1, l2=l2, beta=beta),
    ).path
    g = np.array([[2.0, 4.0, 8.0]]) * (path[:-1] - [1.0, -2.0, 3.0])
    roots = np.sqrt(np.vstack([np.zeros(3), np.cumsum(g * g, axis=0)]))
    sigma = np.diff(roots, axis=0) / rate
    for t in range(1, 7):

        def objective(w, t=t):
            near = 0.5 * (sigma[:t] * (w - path[:t]) ** 2).sum(axis=0)
            first = 0.5 * beta / rate * (w - start) ** 2
            return g[:t].sum(axis=0) * w + near + first + l1 * np.abs(w) + l2 / 2 * w * w

        best = objective(path[t])
        for step in (1e-3, -1e-3):
            assert (objective(path[t] + step) > best).all()
    assert (path == 0).any()  # the l1 penalty does give exact zeros


@pytest.mark.parametrize("method", RULES)
def test_every_rule_reaches_the_minimum_with_its_defaults(method):
    result = minimize(bowl, np.zeros(3), method=method, tol=1e-6)
    assert result.success
    np.testing.assert_allclose(result.x, [1.0, -2.0, 3.0], atol=1e-6)
    assert result.fun == result.fun_path.min()


@pytest.mark.parametrize("method", RULES)
def test_projection_keeps_every_iterate_feasible(method):
    bounds = [(-0.5, 0.5), (None, None), (0.0, None)]
    result = minimize(
        bowl, [2.0, 2.0, -2.0], method=method, bounds=bounds, norm_bound=1.5, max_iter=200
    )
    path = result.path
    assert (np.abs(path[:, 0]) <= 0.5).all()
    assert (path[:, 2] >= 0).all()
    assert (np.linalg.norm(path, axis=1) <= 1.5 + 1e-12).all()


def test_projected_descent_meets_the_conditions_of_optimality():
    kwargs = dict(bounds=[(-0.5, 0.5), (None, None), (0.0, None)], norm_bound=1.5)
    result = minimize(bowl, np.zeros(3), method="gradient-descent", **kwargs)
    other = minimize(bowl, np.zeros(3), method="SLSQP", tol=1e-14, **kwargs)
    assert result.success
    assert max(result.kkt.values()) < 1e-6
    np.testing.assert_allclose(result.x, other.x, atol=1e-6)
    np.testing.assert_allclose(result.multipliers.bounds, other.multipliers.bounds, atol=1e-5)
    assert result.multipliers.norm_bound == pytest.approx(other.multipliers.norm_bound, rel=1e-5)
    assert result.multipliers.norm_bound > 0


numbers = st.floats(-5, 5)


@settings(max_examples=60, deadline=None)
@given(
    y=st.lists(numbers, min_size=3, max_size=3),
    centre=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    radius=st.floats(0.1, 4),
    low=st.lists(st.floats(-3, 0), min_size=3, max_size=3),
)
def test_projection_is_the_nearest_feasible_point(y, centre, radius, low):
    y, c, low = np.array(y), np.array(centre), np.array(low)
    low = np.minimum(low, c)  # the centre is feasible, so the set is not empty
    feasible = Feasible((low, np.maximum(1.0, c)), [], (radius, c))
    p = feasible.project(y)
    assert np.linalg.norm(p - c) <= radius + 1e-12
    # The variational inequality of a projection: no feasible point is at an acute angle.
    rng = np.random.default_rng(0)
    others = np.clip(c + rng.uniform(-1, 1, (200, 3)) * radius / 3**0.5, low, None)
    others = np.minimum(others, np.maximum(1.0, c))
    assert ((others - p) @ (y - p)).max() <= 1e-9 * (1 + np.abs(y).max())
    np.testing.assert_allclose(feasible.project(p), p, atol=1e-12)


@pytest.mark.parametrize(("method", "rate"), [("gradient-descent", 0.6), ("momentum", 5.0)])
def test_divergence_stops_and_keeps_the_best_point(method, rate):
    result = minimize(bowl, np.zeros(3), method=method, learning_rate=rate)
    assert not result.success
    assert result.status == 3
    assert "diverged" in result.message
    assert "learning_rate" in result.message
    assert result.nit < 500
    assert np.isfinite(result.x).all()
    assert result.fun == np.nanmin(result.fun_path)


def test_divergence_to_nan_is_found():
    # The first step leaves the logarithm's domain.
    result = minimize(lambda x: x - np.log(x), 3.0, method="gradient-descent", learning_rate=20.0)
    assert result.status == 3
    assert result.x == 3.0


def test_unbounded_below_is_found():
    result = minimize(lambda x: -x * x, 1.0, method="gradient-descent", learning_rate=0.5)
    assert result.status == 3
    assert "unbounded" in result.message


def test_learning_rate_may_be_a_schedule():
    seen = []

    def rate(step):
        seen.append(step)
        return 0.1 / (1 + step)

    result = minimize(bowl, np.zeros(3), method="gradient-descent", learning_rate=rate, max_iter=3)
    first = 0.1 * np.array([2.0, 4.0, 8.0]) * [1.0, -2.0, 3.0]
    np.testing.assert_allclose(result.path[1], first, rtol=1e-14)
    assert seen == [0, 0, 1, 2]  # once to check it, then once per step
