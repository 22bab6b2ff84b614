"""Activations as differentiable functions, and by name."""

import numpy as np
import pytest
import scipy.special as sp

from skdeep.autodiff import check_grads, grad, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops import activation as ops
from skdeep.layers._activations import ACTIVATIONS, get_activation

FUNCTIONS = sorted(ops.COMPOSITIONS)


def points(shape=(2, 3, 4), seed=0, dtype=np.float64):
    return (np.random.default_rng(seed).normal(size=shape) * 2).astype(dtype)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives(function):
    z = points()
    check_grads(lambda z: ops.activate(z, function=function), (z,), order=3)
    check_grads(lambda z: ops.activate(z, function=function), (z[0, 0],), order=2)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_compositions_are_the_functions(function):
    z = points()
    param = ops.member_parameter("param", ops.PARAMETERS.get(function, 0.0), z)
    for order in (0, 1, 2):
        expected = ops._composition(function, order)(z, param)
        got = ops._activate(z, param, function=function)
        if order:
            got = ops._scaled(np.ones_like(z), z, param, function, order)
        got = np.zeros_like(z) if got is None else got
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", sorted(ops.PARAMETERS))
def test_parameters_have_derivatives(function):
    f = lambda z, a: ops.activate(z, a, function=function)  # noqa: E731
    check_grads(f, (points(), np.array([0.3, 0.7])), order=2)
    check_grads(f, (points(), np.array([0.3])), order=2)


@pytest.mark.parametrize(
    "shape", [(), (5,), (3, 5), (2, 3, 5), (2, 2, 3, 3, 4), (0, 3), (2, 0, 4)]
)
def test_any_shape(shape):
    z = points(shape)
    assert np.array_equal(ops.gelu(z), ops.gelu(z.reshape(1, 1, -1)).reshape(shape))


def test_any_layout():
    z = points((2, 4, 6))
    turned = np.swapaxes(z, 1, 2)
    assert np.array_equal(ops.silu(turned), np.swapaxes(ops.silu(z), 1, 2))
    g = grad(lambda z: np.sum(ops.silu(np.swapaxes(z, 1, 2)) * turned))(z)
    np.testing.assert_allclose(g, grad(lambda z: np.sum(ops.silu(z) * points((2, 4, 6))))(z))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_replayed_equals_eager_bit_for_bit(function, dtype):
    z, ct = points((2, 5, 3), dtype=dtype), points((2, 5, 3), seed=1, dtype=dtype)

    def step(z, ct):
        y, pullback = vjp(lambda z: ops.activate(z, function=function), z)
        return y, pullback(ct)[0]

    into = np.empty_like(z), np.full_like(z, np.nan)
    program = record(step, (z, ct), into)
    assert program.is_native
    program.compile()()
    for got, expected in zip(into, step(z, ct), strict=True):
        assert np.array_equal(got, expected)


def test_step_has_derivative_zero():
    z = points((3, 4))
    assert np.array_equal(ops.activate(z, function="step"), (z >= 0).astype(float))
    assert not grad(lambda z: np.sum(ops.activate(z, function="step")))(z).any()


def test_activate_refuses():
    with pytest.raises(ValueError, match="function='sin' must be one of"):
        ops.activate(np.ones(2), function="sin")
    with pytest.raises(TypeError, match="float16"):
        ops.activate(np.ones(2, np.float16), function="relu")
    with pytest.raises(ValueError, match="param has shape \\(3,\\)"):
        ops.leaky_relu(points(), np.ones(3))


# ---- parametric leaky ReLU ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "slope"),
    [
        ((2, 3, 4), (2, 4)),
        ((2, 3, 4), (4,)),
        ((3, 4), (4,)),
        ((2, 2, 3, 3, 4), (2, 4)),
    ],
)
def test_prelu(z, slope):
    z, slope = points(z), points(slope, seed=1)
    spread = slope if slope.ndim == 1 else slope.reshape(2, *[1] * (z.ndim - 2), 4)
    assert np.array_equal(ops.prelu(z, slope), np.where(z > 0, z, spread * z))
    check_grads(ops.prelu, (z, slope), order=2)


def test_prelu_members_equal_solo_and_replay_is_native():
    z, slope = points((3, 6, 5), dtype=np.float32), points((3, 5), seed=1, dtype=np.float32)

    def step(z, slope):
        y, pullback = vjp(ops.prelu, z, slope)
        return y, *pullback(y)

    into = np.empty_like(z), np.empty_like(z), np.empty_like(slope)
    program = record(step, (z, slope), into)
    assert program.is_native
    program.compile()()
    for m in range(3):
        for together, alone in zip(into, step(z[m : m + 1], slope[m : m + 1]), strict=True):
            assert np.array_equal(together[m], alone[0])


def test_prelu_refuses():
    with pytest.raises(ValueError, match="slope has shape \\(3,\\)"):
        ops.prelu(points(), np.ones(3))
    with pytest.raises(ValueError, match="at least \\(n_samples, n_features\\)"):
        ops.prelu(np.ones(3), np.ones(3))


# ---- by name ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_by_name(name):
    activation = get_activation(name)
    assert activation.name == name
    assert activation.fused == (name in ("identity", "relu", "tanh", "logistic"))
    z = points()
    y, pullback = vjp(activation, z)
    assert y.shape == pullback(y)[0].shape == z.shape


def test_values_of_named_activations():
    z = points()
    np.testing.assert_allclose(get_activation("softmax")(z), sp.softmax(z, -1), rtol=1e-13)
    np.testing.assert_allclose(get_activation("swish")(z), z * sp.expit(z), rtol=1e-13)
    assert get_activation("identity")(z) is z
    assert get_activation("relu").gain == pytest.approx(np.sqrt(2))


def test_activations_by_callable():
    def twice(x):
        return 2 * x

    activation = get_activation(twice)
    assert (activation.name, activation.fused) == ("twice", False)
    assert get_activation(activation) is activation
    assert activation(3.0) == 6.0

    def relu(x):
        return -x

    # A user's function of a fused name is the user's function.
    assert get_activation(relu).fused is False


def test_unknown_activations():
    with pytest.raises(ValueError, match="activation='rectifier' must be one of"):
        get_activation("rectifier")
    with pytest.raises(TypeError, match="activation=3"):
        get_activation(3)
