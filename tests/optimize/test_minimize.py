"""What all methods of `minimize` share: arguments, results, SciPy as the oracle."""

import numpy as np
import pytest
from scipy import optimize, special

from skdeep.optimize import minimize

SECOND_ORDER = ["newton", "newton-CG", "trust-ncg", "trust-exact", "trust-constr"]
QUASI = ["L-BFGS", "L-BFGS-B", "SLSQP"]
ALL = ["gradient-descent", "adam", *SECOND_ORDER, *QUASI]


def rosen(x):
    a, b = x[1:] - x[:-1] * x[:-1], 1 - x[:-1]
    return np.sum(100 * a * a + b * b)


def bowl(x):
    return np.sum((x - 1.0) * (x - 1.0)) + 2.0


@pytest.mark.parametrize("method", SECOND_ORDER + QUASI)
def test_rosenbrock(method):
    start = [1.3, 0.7, 0.8, 1.9, 1.2]
    tol = 1e-14 if method == "SLSQP" else 1e-8  # SLSQP's is a tolerance of f
    result = minimize(rosen, start, method=method, tol=tol)
    assert result.success
    assert result.status == 0
    np.testing.assert_allclose(result.x, np.ones(5), atol=1e-6)
    assert result.fun == pytest.approx(optimize.rosen(result.x), abs=1e-15)
    np.testing.assert_allclose(result.jac, optimize.rosen_der(result.x), atol=1e-10)
    assert result.kkt.stationarity == np.abs(result.jac).max()


@pytest.mark.parametrize("method", ["L-BFGS-B", "SLSQP", "trust-exact", "newton-CG"])
def test_same_iterates_as_scipy_with_derivatives_by_hand(method):
    start = np.array([1.3, 0.7, 0.8])
    path = []
    hess = {} if method in QUASI else {"hess": optimize.rosen_hess}
    if method == "newton-CG":
        hess = {"hessp": optimize.rosen_hess_prod}
    names = {"L-BFGS-B": ("gtol", "ftol"), "SLSQP": ("ftol",), "newton-CG": ("xtol",)}
    options = dict.fromkeys(names.get(method, ("gtol",)), 1e-8)
    ours_options = {"ftol": 1e-8} if method == "L-BFGS-B" else {}

    def jac(x):
        if method == "SLSQP" and (x != start).any():  # its callback is given trial points
            path.append(x.copy())
        return optimize.rosen_der(x)

    peer = optimize.minimize(
        optimize.rosen,
        start,
        method=method,
        jac=jac,
        callback=lambda x: None if method == "SLSQP" else path.append(x.copy()),
        options=options,
        **hess,
    )
    ours = minimize(rosen, start, method=method, tol=1e-8, options=ours_options)
    assert ours.nit == peer.nit
    np.testing.assert_allclose(ours.x, peer.x, atol=1e-9)
    # Rounding differs between the two derivatives and grows a little along the path.
    # SciPy's own path repeats the point where a trust region rejects a step.
    accepted = [a for a, b in zip(path, [start, *path], strict=False) if (a != b).any()]
    np.testing.assert_allclose(ours.path[1:4], accepted[:3], rtol=1e-7)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_result_has_the_shape_of_x0(method, shape):
    result = minimize(bowl, np.full(shape, 0.5), method=method)
    assert result.success, result.message
    for a in (result.x, result.jac):
        assert a.shape == shape
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, np.ones(shape), atol=1e-6)
    assert result.path.shape == (len(result.fun_path), *shape)
    np.testing.assert_array_equal(result.path[0], np.full(shape, 0.5))
    np.testing.assert_allclose(result.path[-1], result.x, atol=1e-12)
    np.testing.assert_allclose(result.fun_path, [bowl(x) for x in result.path], rtol=1e-14)
    assert result.nfev >= 1
    assert result.njev >= 1
    assert result.multipliers.bounds is None
    assert result.multipliers.norm_bound is None
    assert result.multipliers.constraints == []


def test_integer_and_float32_starts_and_args():
    def f(x, a, b):
        return np.sum((x - a) * (x - a)) * b

    result = minimize(f, [3, 4], args=(1.0, 2.0))
    np.testing.assert_allclose(result.x, [1.0, 1.0], atol=1e-8)
    result = minimize(f, np.ones(2, np.float32), args=(2.0, 1.0))
    assert result.x.dtype == np.float64
    assert minimize(lambda x, a: (x - a) * (x - a), 0.0, args=4.0).x == pytest.approx(4.0)


def test_the_start_is_not_changed():
    start = np.array([2.0, 2.0])

    def f(x):
        y = np.sum(x * x)
        if isinstance(x, np.ndarray):
            x[:] = 7.0  # nor does a careless function change the solver's point
        return y

    result = minimize(f, start)
    np.testing.assert_array_equal(start, [2.0, 2.0])
    np.testing.assert_allclose(result.x, [0.0, 0.0], atol=1e-8)


@pytest.mark.parametrize("method", ALL)
def test_callback_sees_every_iterate_and_may_stop(method):
    seen = []

    def callback(now):
        seen.append((now.nit, now.fun, now.x.copy()))
        if len(seen) == 2:
            raise StopIteration

    result = minimize(rosen, [-1.0, 1.0], method=method, callback=callback)
    assert [s[0] for s in seen] == [1, 2]
    assert not result.success
    assert result.status == 99
    assert result.nit == 2
    np.testing.assert_array_equal(result.x, seen[-1][2])
    np.testing.assert_allclose([s[1] for s in seen], [rosen(s[2]) for s in seen])


@pytest.mark.parametrize("method", ALL)
def test_max_iter(method):
    result = minimize(rosen, [-1.0, 1.0], method=method, max_iter=2)
    assert not result.success
    assert result.nit <= 2
    assert result.status != 0
    assert result.fun <= rosen(np.array([-1.0, 1.0]))
    assert result.fun == result.fun_path.min()


@pytest.mark.parametrize("method", ["L-BFGS", "newton", "trust-constr", "nesterov"])
def test_logistic_regression_against_scikit_learn(method):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X @ [1.0, -2.0, 0.5] + rng.logistic(size=60) > 0).astype(float)
    peer = LogisticRegression(C=2.0, tol=1e-10, solver="newton-cholesky").fit(X, y)

    def loss(w):
        z = X @ w[:3] + w[3]
        return np.sum(np.logaddexp(0, z) - y * z) + w[:3] @ w[:3] / (2 * 2.0)

    result = minimize(loss, np.zeros(4), method=method)
    assert result.success
    np.testing.assert_allclose(result.x, [*peer.coef_[0], *peer.intercept_], atol=1e-6)


def test_path_may_be_left_out():
    result = minimize(bowl, np.zeros(3), keep_path=False)
    assert result.path is None
    assert result.fun_path[-1] == result.fun


def test_default_method_follows_the_constraints():
    assert minimize(bowl, np.zeros(2)).nfev == minimize(bowl, np.zeros(2), method="L-BFGS").nfev
    assert minimize(bowl, np.zeros(2), constraints=None).success
    line = optimize.LinearConstraint([[1.0, 1.0]], ub=1.0)
    np.testing.assert_allclose(minimize(bowl, np.zeros(2), constraints=line).x, 0.5)
    np.testing.assert_allclose(minimize(bowl, np.zeros(2), norm_bound=1.0).x, 0.5**0.5, atol=1e-6)


@pytest.mark.parametrize("method", ["L-BFGS", "newton", "trust-exact", "trust-ncg", "newton-CG"])
def test_steps_outside_the_domain(method):
    # The logarithm is not defined below zero; a line search or a trust region steps back.
    outside = []

    def f(x):
        if isinstance(x, np.ndarray) or hasattr(x, "value"):
            outside.append(bool(x < 0))
        return x - np.log(x)

    result = minimize(f, 6.0, method=method)
    assert result.success
    assert result.x == pytest.approx(1.0, abs=1e-6)
    assert any(outside) or method == "L-BFGS"  # whose first step is short


@pytest.mark.parametrize("method", ["L-BFGS", "SLSQP", "trust-exact", "newton-CG", "trust-constr"])
def test_unbounded_below_is_no_success(method):
    result = minimize(lambda x: -x * x * x * x, 1.0, method=method, max_iter=300)
    assert result.status == 3
    assert "unbounded" in result.message
    assert np.isfinite(result.x)
    assert np.isfinite(result.fun)
    # Where nothing curves, SciPy's Newton-CG calls its start a success.
    result = minimize(lambda x: -x, 1.0, method=method, max_iter=20)
    assert not result.success


@pytest.mark.parametrize(
    ("f", "x0", "kwargs", "error", "message"),
    [
        (bowl, [1.0], dict(method="sgd"), ValueError, "'sgd' is unknown.*gradient-descent.*adam"),
        (bowl, [1.0], dict(method=3), ValueError, "method=3 is unknown"),
        (bowl, [np.nan], {}, ValueError, "x0 contains NaN"),
        (bowl, [], {}, ValueError, "x0 is empty"),
        (bowl, [1j], {}, TypeError, "x0 has dtype complex"),
        (bowl, ["a"], {}, TypeError, "x0 has dtype"),
        (bowl, [1.0], dict(tol=-1), ValueError, "tol=-1"),
        (bowl, [1.0], dict(max_iter=0), ValueError, "max_iter=0"),
        (bowl, [1.0], dict(max_iter=2.5), ValueError, "max_iter=2.5"),
        (bowl, [1.0], dict(callback=1), TypeError, "callback=1"),
        (bowl, [1.0], dict(learning_rate=0.1), ValueError, "learning_rate.*first-order"),
        (bowl, [1.0], dict(method="adam", learning_rate=-0.1), ValueError, "learning_rate=-0.1"),
        (bowl, [1.0], dict(method="adam", learning_rate=np.inf), ValueError, "learning_rate=inf"),
        (bowl, [1.0], dict(method="adam", learning_rate="x"), ValueError, "learning_rate='x'"),
        (
            bowl,
            [1.0],
            dict(method="adam", learning_rate=lambda i: -1.0),
            ValueError,
            r"learning_rate\(0\)=-1.0",
        ),
        (bowl, [1.0], dict(method="adam", options={"rho": 1}), ValueError, "'rho'.*beta_1"),
        (bowl, [1.0], dict(method="adam", options={"beta_1": 1.0}), ValueError, r"\[0, 1\)"),
        (bowl, [1.0], dict(method="ftrl", options={"l1": -1.0}), ValueError, "not negative"),
        (lambda x: x * 2, [1.0, 2.0], {}, ValueError, r"must return a scalar.*\(2,\)"),
        (lambda x: np.sum(special.zetac(x)), [2.0], {}, TypeError, "differentiated.*zetac"),
        (lambda x: float(x[0]), [1.0], {}, TypeError, "cannot be differentiated.*float"),
        (lambda x: np.sum(np.log(x)), [-1.0], {}, ValueError, "must be finite"),
        (lambda x: np.sum(np.sqrt(x)), [0.0], {}, ValueError, "gradient.*must be finite"),
        (3.0, [1.0], {}, TypeError, "f=3.0 must be a function"),
    ],
)
def test_wrong_arguments(f, x0, kwargs, error, message):
    with pytest.raises(error, match=message):
        minimize(f, x0, **kwargs)
