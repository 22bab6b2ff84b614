"""Newton's method, at good and at bad Hessians."""

import numpy as np
import pytest
from scipy import optimize

from skdeep.optimize import IllConditionedWarning, minimize


def rosen(x):
    a, b = x[1:] - x[:-1] * x[:-1], 1 - x[:-1]
    return np.sum(100 * a * a + b * b)


@pytest.mark.parametrize("seed", range(3))
def test_one_step_on_a_quadratic(seed):
    rng = np.random.default_rng(seed)
    R = rng.normal(size=(4, 4))
    H, b = R @ R.T + np.eye(4), rng.normal(size=4)

    def f(x):
        return sum(0.5 * H[i, j] * x[i] * x[j] for i in range(4) for j in range(4)) - np.sum(b * x)

    result = minimize(f, rng.normal(size=4), method="newton")
    assert result.success
    assert result.nit == 1
    np.testing.assert_allclose(result.x, np.linalg.solve(H, b), rtol=1e-10)


@pytest.mark.parametrize("n", [2, 5])
def test_rosenbrock(n):
    start = np.full(n, -1.2)
    result = minimize(rosen, start, method="Newton")
    assert result.success
    assert result.nit < 40
    np.testing.assert_allclose(result.x, np.ones(n), atol=1e-9)
    np.testing.assert_allclose(result.fun_path[0], optimize.rosen(start), rtol=1e-14)
    assert (np.diff(result.fun_path) <= 0).all()
    assert result.nhev == result.nit + 1


def test_leaves_a_saddle_with_zero_gradient():
    def f(v):  # a saddle at the origin, minima at (0, +-1) with the value -1
        x, y = v[0], v[1]
        return x * x - 2 * y * y + y * y * y * y

    result = minimize(f, [0.0, 0.0], method="newton")
    assert result.success
    assert result.fun == pytest.approx(-1.0, abs=1e-12)
    np.testing.assert_allclose(np.abs(result.x), [0.0, 1.0], atol=1e-7)
    # Along the x axis the gradient points at the saddle and no further.
    result = minimize(f, [3.0, 0.0], method="newton")
    assert result.fun == pytest.approx(-1.0, abs=1e-12)


def test_indefinite_hessian_on_the_way():
    # Where cos(x) < 0, the plain Newton step would climb to a maximum.
    result = minimize(lambda x: -np.cos(x), 2.5, method="newton")
    assert result.success
    assert np.cos(result.x) == pytest.approx(1.0)
    assert (np.diff(result.fun_path) < 0).all()


def test_unbounded_below_is_found():
    result = minimize(lambda v: v[0] * v[0] - v[1] * v[1], [1.0, 0.0], method="newton")
    assert not result.success
    assert result.status == 3
    assert "unbounded" in result.message


def test_singular_hessian_warns_and_is_solved():
    with pytest.warns(IllConditionedWarning, match="Hessian is ill-conditioned"):
        result = minimize(lambda v: (v[0] + v[1] - 1) * (v[0] + v[1] - 1), [3, 1], method="newton")
    assert result.success
    assert result.fun == pytest.approx(0.0, abs=1e-15)


def test_a_large_offset_does_not_stop_it_early():
    # f alone resolves x to 1e-3 here; the gradient resolves it fully.
    result = minimize(lambda x: 1e10 + (np.exp(x) - 1) * (np.exp(x) - 1), 0.5, method="newton")
    assert result.success
    assert abs(result.x) < 1e-7


def test_logarithm_outside_its_domain_is_backed_away_from():
    result = minimize(lambda x: x - np.log(x), 5.0, method="newton")
    assert result.success
    assert result.x == pytest.approx(1.0)
    assert (result.path > 0).all()


def test_shaped_points():
    target = np.arange(6.0).reshape(2, 3)
    result = minimize(
        lambda x: np.sum(np.exp(x - target) - x + target), np.zeros((2, 3)), method="newton"
    )
    np.testing.assert_allclose(result.x, target, atol=1e-6)
    assert result.path.shape == (result.nit + 1, 2, 3)
    assert result.jac.shape == (2, 3)


def test_options():
    slow = minimize(rosen, [-1.2, 1.0], method="newton", options={"shrink": 0.9})
    assert slow.success
    with pytest.raises(ValueError, match="'shrink'.*between"):
        minimize(rosen, [-1.2, 1.0], method="newton", options={"shrink": 1.5})
    with pytest.raises(ValueError, match="'momentum'.*unknown"):
        minimize(rosen, [-1.2, 1.0], method="newton", options={"momentum": 0.5})
