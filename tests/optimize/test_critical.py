"""The second-derivative test on textbook functions."""

import numpy as np
import pytest
from scipy import special

from skdeep.optimize import classify_critical_point


@pytest.mark.parametrize(
    ("f", "x", "kind"),
    [
        (lambda v: v[0] * v[0] + v[1] * v[1], [0.0, 0.0], "minimum"),
        (lambda v: -(v[0] * v[0]) - v[1] * v[1], [0.0, 0.0], "maximum"),
        (lambda v: v[0] * v[0] - v[1] * v[1], [0.0, 0.0], "saddle"),
        (lambda v: v[0] * v[1], [0.0, 0.0], "saddle"),
        (lambda v: np.sum(v * v * v * v), [0.0, 0.0], "inconclusive"),
        (lambda v: v[0] * v[0] + v[1] * v[1] * v[1], [0.0, 0.0], "inconclusive"),
        (lambda v: v[0] * v[0] + v[1] * v[1], [0.1, 0.0], "not critical"),
        # both signs decide, whatever the third eigenvalue
        (lambda v: v[0] * v[0] - v[1] * v[1] + v[2] * v[2] * v[2], np.zeros(3), "saddle"),
        # the monkey saddle, whose Hessian is zero
        (lambda v: v[0] * v[0] * v[0] - 3 * v[0] * v[1] * v[1], [0.0, 0.0], "inconclusive"),
        (np.cos, 0.0, "maximum"),
        (np.cos, np.pi, "minimum"),
        (lambda x: x * x * x, 0.0, "inconclusive"),
        # small curvature is curvature
        (lambda v: 1e-9 * np.sum(v * v), [0.0, 0.0], "minimum"),
    ],
)
def test_textbook(f, x, kind):
    assert classify_critical_point(f, x).kind == kind


def test_hessian_of_a_textbook_function():
    """x^3 - 2xy - y^6 at (1, 2)."""

    def f(v):
        y2 = v[1] * v[1]
        return v[0] * v[0] * v[0] - 2 * v[0] * v[1] - y2 * y2 * y2

    point = classify_critical_point(f, [1, 2])
    assert point.kind == "not critical"
    np.testing.assert_allclose(point.hess, [[6, -2], [-2, -480]], rtol=1e-14)
    np.testing.assert_allclose(point.jac, [-1, -194], rtol=1e-14)
    assert point.fun == -67.0


def test_eigenvectors_are_those_of_the_hessian():
    rng = np.random.default_rng(0)
    R = rng.normal(size=(2, 2, 2, 2))

    def f(x):
        return sum(
            R[i, j, k, m] * x[i, j] * x[k, m]
            for i in range(2)
            for j in range(2)
            for k in range(2)
            for m in range(2)
        )

    point = classify_critical_point(f, np.zeros((2, 2)))
    H = (R + R.transpose(2, 3, 0, 1)).reshape(4, 4)
    np.testing.assert_allclose(point.hess.reshape(4, 4), H, rtol=1e-12)
    assert point.hess.shape == (2, 2, 2, 2)
    rebuilt = point.eigenvectors * point.eigenvalues @ point.eigenvectors.T
    np.testing.assert_allclose(rebuilt, H, atol=1e-12)
    assert (np.diff(point.eigenvalues) >= 0).all()


def test_args_and_tolerance():
    def f(v, a):
        return (v[0] - a) * (v[0] - a) + v[1] * v[1]

    assert classify_critical_point(f, [3.0, 0.0], args=(3.0,)).kind == "minimum"
    assert classify_critical_point(f, [3.0, 1e-3], args=(3.0,)).kind == "not critical"
    assert classify_critical_point(f, [3.0, 1e-3], args=(3.0,), tol=0.01).kind == "minimum"


@pytest.mark.parametrize(
    ("f", "x", "tol", "error", "message"),
    [
        (np.cos, np.nan, 1e-6, ValueError, "NaN"),
        (np.cos, 0.0, -1.0, ValueError, "tol=-1.0"),
        (np.cos, [0.0, 1.0], 1e-6, ValueError, "scalar"),
        (special.zetac, 2.0, 1e-6, TypeError, "cannot be differentiated"),
    ],
)
def test_wrong_arguments(f, x, tol, error, message):
    with pytest.raises(error, match=message):
        classify_critical_point(f, x, tol=tol)
