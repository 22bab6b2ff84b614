"""Reductions over any axes, against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.special

from skdeep._kernels.cuda import reduce
from skdeep._kernels.cuda.program import Mirror
from tests.cuda.outputs import output

VIEWS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(2, 0, 1),
    "strided": lambda x: x[::-1, :, ::2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
}
AXES = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ()]
FUNCTIONS = dict(sum=np.sum, max=np.max, min=np.min, all=np.all, any=np.any)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def reduced(gpu, operation, x, axes, keepdims=False):
    """Reduce on the device; return that and NumPy's."""
    expected = np.asarray(FUNCTIONS[operation](x, axis=axes, keepdims=keepdims))
    f = lambda x, out: reduce.reduction(operation, x, axes, out)  # noqa: E731
    return output(gpu, f, expected.shape, expected.dtype, x), expected


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("view", VIEWS)
def test_sums_over_any_axes(gpu, view, axes):
    x = VIEWS[view](normal(3, 5, 7))
    for keepdims in (False, True):
        # Float32 sums of a hundred terms in another order.
        np.testing.assert_allclose(*reduced(gpu, "sum", x, axes, keepdims), 1e-5, 1e-6)


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("operation", ["max", "min"])
def test_extremes_and_nan(gpu, operation, axes):
    x = normal(3, 5, 7)
    x[0, 2, 3], x[1, 1, 1], x[2, 2, 2] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(*reduced(gpu, operation, x, axes))
    whole = np.random.default_rng(0).integers(-(2**40), 2**40, (3, 5, 7))
    np.testing.assert_array_equal(*reduced(gpu, operation, whole, axes))
    np.testing.assert_array_equal(*reduced(gpu, operation, whole > 0, axes))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
@pytest.mark.parametrize("operation", ["all", "any", "sum"])
def test_truth_values_and_integers(gpu, operation, dtype, axes):
    x = np.random.default_rng(0).integers(-1, 3, (4, 6)).astype(dtype)
    np.testing.assert_array_equal(*reduced(gpu, operation, x, axes))


@pytest.mark.parametrize(("shape", "axis"), [((9003,), 0), ((1501, 3), 0), ((2, 8200), 1)])
def test_few_outputs_are_reduced_in_parts(gpu, shape, axis):
    x = normal(*shape)
    mirror = Mirror(gpu)
    kept = tuple(n for i, n in enumerate(shape) if i != axis)
    launches = reduce.reduction("sum", mirror.of(x), (axis,), mirror.of(np.zeros(kept, "f")))
    assert len(launches) == 2
    assert np.prod(launches[0].grid) > 1
    out, _ = reduced(gpu, "sum", x, (axis,))
    exact = x.sum(axis, dtype=np.float64)
    # Float32 sums of normal numbers: roundings grow with the square root of their number.
    np.testing.assert_allclose(out, exact, 1e-5, 1e-4)
    again, _ = reduced(gpu, "sum", x, (axis,))
    assert out.tobytes() == again.tobytes()


@pytest.mark.parametrize(("operation", "value"), [("sum", 0.0), ("all", True), ("any", False)])
def test_nothing_to_reduce(gpu, operation, value):
    out, expected = reduced(gpu, operation, np.zeros((3, 0), np.float32), (1,))
    np.testing.assert_array_equal(out, expected)
    assert (out == value).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("sign", "f"), [(1, np.argmax), (-1, np.argmin)])
def test_positions_of_extremes(gpu, sign, f, view, axis):
    x = VIEWS[view](normal(3, 5, 7).round(0))  # with ties: the first counts
    x = x.copy() if view == "contiguous" else x
    if view == "contiguous":
        x[0, 2, 3], x[2, 3, 1], x[2, 4, 1], x[0, 0, :] = np.nan, np.nan, np.nan, -sign * np.inf
    for values in (x, x.astype(np.int64) if view != "contiguous" else x):
        expected = f(values, axis)
        out = output(
            gpu, lambda x, o: reduce.position(x, axis, sign, o), expected.shape, np.int64, values
        )
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_family(gpu, name, view, axes):
    x = VIEWS[view](normal(3, 5, 7) * np.float32(50))
    expected = getattr(scipy.special, name)(x.astype(np.float64), axes)
    f = lambda x, out: reduce.soft(name, x, axes, out)  # noqa: E731
    out = output(gpu, f, np.shape(expected), np.float32, x)
    # The sum of a hundred exponentials, each within 2 ulp of arguments that are exact.
    np.testing.assert_allclose(out, expected, 1e-5, 1e-6)


def test_softmax_of_infinities(gpu):
    x = np.array([[0, np.inf, 1], [-np.inf, 0, 1], [-np.inf] * 3, [np.nan, 0, 0]], np.float32)
    out = output(gpu, lambda x, o: reduce.soft("softmax", x, (1,), o), x.shape, "f", x)
    with np.errstate(invalid="ignore"):
        expected = np.exp(x[1]) / np.exp(x[1]).sum()
    assert np.isnan(out[0, 1])
    assert np.isnan(out[2]).all()
    assert np.isnan(out[3]).all()
    np.testing.assert_allclose(out[1], expected, 1e-6)
    out = output(gpu, lambda x, o: reduce.soft("logsumexp", x, (1,), o), (4,), "f", x)
    np.testing.assert_allclose(out, [np.inf, np.log1p(np.e), -np.inf, np.nan], 1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("view", ["contiguous", "transposed", "strided"])
def test_running_sums(gpu, view, axis):
    x = VIEWS[view](normal(3, 5, 7))
    out = output(gpu, lambda x, o: reduce.cumsum(x, axis, o), x.shape, np.float32, x)
    np.testing.assert_allclose(out, np.cumsum(x, axis), 1e-5, 1e-6)  # at most seven terms
    whole = (x * 100).astype(np.int64)
    out = output(gpu, lambda x, o: reduce.cumsum(x, axis, o), x.shape, np.int64, whole)
    np.testing.assert_array_equal(out, np.cumsum(whole, axis))


@pytest.mark.parametrize("n", [33, 256, 1300])
def test_long_running_sums_carry_on(gpu, n):
    x = np.arange(1, n + 1)
    out = output(gpu, lambda x, o: reduce.cumsum(x, 0, o), x.shape, np.int64, x)
    np.testing.assert_array_equal(out, np.cumsum(x))


def test_kernels_have_names_of_their_own():
    found = reduce.catalogue()
    assert len({k.__name__ for k in found}) == len(found) == 16
