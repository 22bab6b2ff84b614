"""Least squares by every method, with and without the norm bound; condition numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning

from skdeep.optimize import IllConditionedWarning, condition_number, lstsq, minimize

METHODS = ["qr", "normal", "pinv", "gradient"]


def problem(m, n, k=None, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, n)), rng.normal(size=m if k is None else (m, k))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize(("m", "n"), [(20, 4), (5, 5), (3, 8), (1, 1)])
def test_against_numpy(method, k, m, n):
    A, b = problem(m, n, k)
    result = lstsq(A, b, method=method)
    x, _, rank, s = np.linalg.lstsq(A, b)
    # The 5 x 5 matrix has a condition number of about 10, which gradient descent squares.
    np.testing.assert_allclose(result.x, x, rtol=1e-6, atol=1e-7)
    assert result.x.shape == x.shape
    assert result.rank == rank
    assert result.condition_number == pytest.approx(s[0] / s[-1])
    residual = np.linalg.norm(A @ x - b, axis=0)
    np.testing.assert_allclose(result.residual_norm, residual, atol=1e-7)
    assert np.shape(result.multiplier) == (() if k is None else (k,))
    assert not np.any(result.multiplier)


@pytest.mark.parametrize("method", METHODS)
def test_rank_deficient_gives_the_solution_of_least_norm(method):
    A, b = problem(10, 3)
    A = np.column_stack([A, A[:, 0] + A[:, 1], np.zeros(10)])
    result = lstsq(A, b, method=method)
    assert result.rank == 3
    assert result.condition_number > 1e15
    np.testing.assert_allclose(result.x, np.linalg.pinv(A) @ b, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("radius", [0.01, 0.3, 100.0])
def test_norm_bound_meets_the_conditions_of_optimality(method, radius):
    A, b = problem(12, 4, 2, seed=1)
    result = lstsq(A, b, radius, method)
    gradient = A.T @ (A @ result.x - b)
    lengths = np.linalg.norm(result.x, axis=0)
    assert (result.multiplier >= 0).all()
    # What "gradient" leaves is its tol of 1e-10, relative.
    np.testing.assert_allclose(gradient + result.multiplier * result.x, 0, atol=1e-7)
    if radius == 100.0:
        np.testing.assert_array_equal(result.multiplier, 0)
    else:
        np.testing.assert_allclose(lengths, radius, rtol=1e-12)
        assert (result.multiplier > 0).all()


def test_norm_bound_is_ridge_regression():
    A, b = problem(12, 4, seed=2)
    result = lstsq(A, b, norm_bound=0.2)
    ridge = np.linalg.solve(A.T @ A + result.multiplier * np.eye(4), A.T @ b)
    np.testing.assert_allclose(result.x, ridge, rtol=1e-10)


def test_norm_bound_agrees_with_minimize():
    A, b = problem(12, 3, seed=3)
    direct = lstsq(A, b, norm_bound=0.25)

    def f(x):
        r = np.sum(A * x, axis=1) - b
        return np.sum(r * r) / 2

    result = minimize(f, np.zeros(3), norm_bound=0.25, tol=1e-14)
    np.testing.assert_allclose(result.x, direct.x, atol=1e-7)
    assert result.multipliers.norm_bound == pytest.approx(direct.multiplier, rel=1e-5)


def test_norm_bound_on_a_rank_deficient_matrix():
    A, b = problem(6, 2, seed=4)
    A = np.column_stack([A, A[:, 0]])
    result = lstsq(A, b, norm_bound=0.1)
    assert np.linalg.norm(result.x) == pytest.approx(0.1, rel=1e-12)
    gradient = A.T @ (A @ result.x - b)
    np.testing.assert_allclose(gradient, -result.multiplier * result.x, atol=1e-12)


def test_zero_matrix_and_zero_right_hand_side():
    for method in METHODS:
        zero = lstsq(np.zeros((3, 2)), np.ones(3), 1.0, method)
        assert zero.rank == 0
        assert zero.condition_number == np.inf
        np.testing.assert_array_equal(zero.x, [0.0, 0.0])
        A, _ = problem(4, 2)
        np.testing.assert_array_equal(lstsq(A, np.zeros(4), 1.0, method).x, [0.0, 0.0])


def test_normal_equations_warn_where_they_lose_digits():
    rng = np.random.default_rng(0)
    t = 1 + 1e-9 * rng.normal(size=20)
    A, b = np.column_stack([np.ones(20), t]), rng.normal(size=20)
    assert 1e8 < condition_number(A) < 1e10
    with pytest.warns(IllConditionedWarning, match="use method='qr'"):
        lstsq(A, b, method="normal")
    lstsq(A, b, method="qr")  # does not warn: warnings are errors


def test_qr_warns_at_the_limit_of_float64():
    A = np.diag([1.0, 2e-16 * 3])
    with pytest.warns(LinAlgWarning, match="least-squares problem is ill-conditioned"):
        assert lstsq(A, [1.0, 1.0], method="qr", rcond=1e-17).rank == 2


def test_gradient_warns_if_it_does_not_converge():
    A = np.diag([1.0, 1e-5])
    with pytest.warns(ConvergenceWarning, match="max_iter=10 "):
        lstsq(A, [1.0, 1.0], method="gradient", max_iter=10)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 8),
    n=st.integers(1, 8),
    radius=st.floats(1e-3, 1e3),
    exponent=st.integers(-6, 6),
)
def test_no_feasible_point_is_better(seed, m, n, radius, exponent):
    A, b = problem(m, n, seed=seed)
    A = A * 10.0**exponent
    result = lstsq(A, b, norm_bound=radius)
    assert np.linalg.norm(result.x) <= radius * (1 + 1e-10)
    rng = np.random.default_rng(seed)
    others = result.x + rng.normal(size=(50, n)) * 10.0 ** rng.uniform(-4, 1, (50, 1)) * radius
    others *= np.minimum(1, radius / np.linalg.norm(others, axis=1))[:, None]
    norms = np.linalg.norm(others @ A.T - b, axis=1)
    assert norms.min() >= result.residual_norm * (1 - 1e-10)


@pytest.mark.parametrize(
    ("A", "b", "kwargs", "message"),
    [
        (np.eye(2), [1.0, 2.0, 3.0], {}, "b has 3 rows, but A has 2"),
        (np.eye(2), [1.0, np.nan], {}, "b contains NaN"),
        ([1.0, 2.0], [1.0, 2.0], {}, "A must be a non-empty matrix"),
        (np.eye(2), [1.0, 2.0], dict(method="lu"), "method='lu'"),
        (np.eye(2), [1.0, 2.0], dict(norm_bound=-1), "norm_bound=-1"),
        (np.eye(2), [1.0, 2.0], dict(rcond=2.0), "rcond=2.0"),
        (np.eye(2), [1.0, 2.0], dict(max_iter=0), "max_iter=0"),
    ],
)
def test_wrong_arguments(A, b, kwargs, message):
    with pytest.raises(ValueError, match=message):
        lstsq(A, b, **kwargs)


@pytest.mark.parametrize("p", [2, 1, np.inf, "fro"])
def test_condition_number_against_numpy(p):
    A, _ = problem(4, 4)
    assert condition_number(A, p) == pytest.approx(np.linalg.cond(A, p), rel=1e-12)
    assert condition_number(np.eye(3), p) == pytest.approx(3.0 if p == "fro" else 1.0)


def test_condition_number_of_the_hilbert_matrix():
    i = np.arange(5)
    assert condition_number(1 / (1.0 + i + i[:, None])) == pytest.approx(476607.25, rel=1e-7)


def test_condition_number_bounds_the_growth_of_errors():
    A, b = problem(5, 5, seed=6)
    x = np.linalg.solve(A, b)
    rng = np.random.default_rng(0)
    for _ in range(20):
        db = 1e-6 * rng.normal(size=5)
        dx = np.linalg.solve(A, b + db) - x
        growth = (np.linalg.norm(dx) / np.linalg.norm(x)) / (
            np.linalg.norm(db) / np.linalg.norm(b)
        )
        assert growth <= condition_number(A) * (1 + 1e-6)


def test_condition_number_of_singular_and_wrong_matrices():
    assert condition_number(np.diag([1.0, 0.0])) == np.inf
    assert condition_number(np.ones((5, 1))) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="p=3 must be"):
        condition_number(np.eye(2), 3)
    with pytest.raises(ValueError, match="square"):
        condition_number(np.ones((3, 2)), 1)
    with pytest.raises(ValueError, match="NaN"):
        condition_number([[np.nan]])
    with pytest.raises(TypeError, match="dtype"):
        condition_number([[1j]])
