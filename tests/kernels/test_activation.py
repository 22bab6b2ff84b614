"""Activation kernels against scipy in higher precision, and their promises."""

import numpy as np
import pytest
import scipy.special as sp

from skdeep._kernels import scalar
from skdeep._kernels.cpu import activation
from skdeep._kernels.cpu._numba import as_c, kernel

DTYPES = [np.float32, np.float64]
A = 0.3  # the parameter, where there is one


def gelu_tanh(z):
    return z * sp.expit(2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))


def elu(z, a):
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0)))


REFERENCES = {
    "logistic": sp.expit,
    "tanh": np.tanh,
    "elu": lambda z: elu(z, A),
    "selu": lambda z: 1.0507009873554805 * elu(z, 1.6732632423543772),
    "gelu": lambda z: z * sp.ndtr(z),
    "gelu_tanh": gelu_tanh,
    "silu": lambda z: z * sp.expit(z),
    "step": lambda z: np.where(z >= 0, 1.0, 0.0),
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, A * z),
    "softplus": lambda z: np.logaddexp(0, z),
    "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
}
#: Where functions have kinks or jumps, away from which differences are meaningful.
KINKS = np.array([0.0, -3.0, 3.0])


def run(name, z, order=0, ct=None, dtype=np.float64, param=A):
    z = np.asarray(z, dtype)
    param = np.atleast_1d(np.asarray(param, dtype))
    out = np.empty_like(z)
    if order == 0:
        activation.value[name][dtype](z, param, out)
    else:
        activation.pullback[name, order][dtype](np.asarray(ct, dtype), z, param, out)
    return out


def points(n=1003, seed=0, scale=4.0):
    z = np.random.default_rng(seed).normal(size=(2, n)) * scale
    near = np.abs(z[..., None] - KINKS).min(-1) < 1e-3
    return np.where(near, z + 0.01, z)


def test_every_activation_has_a_reference():
    assert set(REFERENCES) == set(activation.BODIES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_value(name, dtype):
    z = points().astype(dtype)
    expected = REFERENCES[name](z.astype(np.float64))
    # A few roundings; gelu's tail cancels in 1 + erf, so part of the error is absolute.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(run(name, z, dtype=dtype), expected, rtol=8 * eps, atol=4 * eps)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", REFERENCES)
def test_derivatives_by_differences(name, order):
    z, h = points(), 1e-6
    one = np.ones_like(z)
    if order == 1:
        f = REFERENCES[name]
    else:
        f = lambda z: run(name, z, 1, one)  # noqa: E731
    expected = (f(z + h) - f(z - h)) / (2 * h)
    # A central difference errs by about h^2 and by the rounding eps |f| / h = 2e-9.
    np.testing.assert_allclose(run(name, z, order, one), expected, rtol=1e-7, atol=2e-8)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", REFERENCES)
def test_float32_derivatives(name, order):
    z = points().astype(np.float32)
    ct = points(seed=1)
    expected = run(name, z, order, ct)
    got = run(name, z, order, ct, np.float32)
    # Some tens of roundings, against the largest terms (|z| up to 16 cancels in gelu's curvature).
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_extremes_and_nan(name, dtype):
    z = np.array([[-1e4, -100.0, -88.0, 0.0, 88.0, 100.0, 1e4]], dtype)
    expected = REFERENCES[name](z.astype(np.float64))
    # exp in float32 is 0 below -87: 1e-37 in absolute terms.
    np.testing.assert_allclose(
        run(name, z, dtype=dtype), expected, rtol=8 * np.finfo(dtype).eps, atol=1e-35
    )
    for order in (1, 2):
        assert np.isfinite(run(name, z, order, np.ones_like(z), dtype)).all()
    assert np.isnan(run(name, [[np.nan]], dtype=dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_members_equal_solo_runs_bit_for_bit(name, dtype):
    z, ct = points(77).astype(dtype), points(77, seed=3).astype(dtype)
    slopes = np.array([0.1, 0.7])
    for order in (0, 1, 2):
        together = run(name, z, order, ct, dtype, slopes)
        for m in range(2):
            alone = run(name, z[m : m + 1], order, ct[m : m + 1], dtype, slopes[m])
            assert np.array_equal(together[m], alone[0])


@pytest.mark.parametrize("name", ["logistic", "tanh", "gelu", "silu", "softplus"])
def test_an_element_does_not_depend_on_its_place(name):
    """Vector lanes and the remainder loop compute the same bits."""
    z = points(64).astype(np.float32)[:1]
    whole = run(name, z, dtype=np.float32)
    for start in (1, 3, 50):
        part = run(name, z[:, start:], dtype=np.float32)
        assert np.array_equal(whole[:, start:], part)


FUNCTIONS = {  # float32: reference, range, bound in units in the last place
    "exp": (scalar.exp, np.exp, -86.9, 88.7, 2),
    "expm1": (scalar.expm1, np.expm1, -20, 88, 2),
    "tanh": (scalar.tanh, np.tanh, -12, 12, 3),
    "log1p": (scalar.log1p, np.log1p, 0, 1, 2.5),
    "erf": (scalar.erf, sp.erf, -5, 5, 3.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_elementary_functions(name):
    body, reference, low, high, bound = FUNCTIONS[name]

    @kernel("f1 f1")
    def apply(x, out):
        a, o = as_c(x), as_c(out)
        for i in range(o.size):
            o[i] = body(a[i])

    x = np.random.default_rng(0).uniform(low, high, 100_000)
    x[::2] *= np.logspace(-6, 0, x[::2].size)  # small arguments too
    x = x.astype(np.float32)
    out = np.empty_like(x)
    apply[np.float32](x, out)
    expected = reference(x.astype(np.float64))
    ulp = np.abs(out - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert ulp.max() < bound


def naive_prelu(z, slope):
    out = z.copy()
    for m, b, k in np.ndindex(z.shape):
        if z[m, b, k] < 0:
            out[m, b, k] *= slope[m, k]
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_prelu(dtype):
    rng = np.random.default_rng(0)
    z, ct = rng.normal(size=(2, 2, 5, 7)).astype(dtype)
    slope = rng.normal(size=(2, 7)).astype(dtype)
    out, dz, dslope = np.empty_like(z), np.empty_like(z), np.empty_like(slope)
    activation.prelu[dtype](z, slope, out)
    assert np.array_equal(out, naive_prelu(z, slope))
    activation.prelu_pullback[dtype](ct, z, slope, dz, dslope)
    assert np.array_equal(dz, np.where(z > 0, ct, ct * slope[:, None]))
    # Sums of five terms in another order.
    np.testing.assert_allclose(dslope, (ct * np.minimum(z, 0)).sum(1), rtol=1e-5, atol=1e-6)
