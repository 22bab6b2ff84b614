"""grad, vjp, jvp, jacobian, hessian and hvp: orders, levels, trees, dtypes and errors."""

from typing import NamedTuple

import numpy as np
import pytest

from skdeep.autodiff import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

# Closed forms in float64 differ by a few roundings.
TIGHT = dict(rtol=1e-12, atol=1e-12)


class Point(NamedTuple):
    x: object
    y: object


def forward_derivative(f):
    return lambda x: jvp(f, (x,), (np.ones_like(x),))[1]


# ---- orders and levels ------------------------------------------------------------------------


@pytest.mark.parametrize("derivative", [grad, forward_derivative], ids=["reverse", "forward"])
def test_nested_to_order_five(derivative):
    f, x = (lambda x: np.exp(2.0 * x) * np.sin(x)), 0.7
    # The n-th derivative of the imaginary part of exp((2 + i) x).
    for order in range(1, 6):
        f = derivative(f)
        expected = ((2 + 1j) ** order * np.exp((2 + 1j) * x)).imag
        np.testing.assert_allclose(f(x), expected, **TIGHT)


@pytest.mark.parametrize("modes", ["frf", "rfr", "ffr", "rrf", "frr"])
def test_modes_mix(modes):
    f = lambda x: np.sin(x) * x  # noqa: E731
    for m in modes:
        f = grad(f) if m == "r" else forward_derivative(f)
    x = 0.3
    np.testing.assert_allclose(f(x), -3 * np.sin(x) - x * np.cos(x), **TIGHT)


@pytest.mark.parametrize("inner", [grad, forward_derivative], ids=["reverse", "forward"])
@pytest.mark.parametrize("outer", [grad, forward_derivative], ids=["reverse", "forward"])
def test_perturbations_are_not_confused(outer, inner):
    # Siskind and Pearlmutter (2005): d/dx (x * d/dy (x + y)) = 1, and 2 if levels are confused.
    assert float(outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0)) == 1.0
    # d/dx (x * d/dy (x y)) = 2 x.
    assert float(outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0)) == 6.0


def test_closures_over_an_outer_variable():
    def outer(x):
        def inner(y):
            def innermost(z):
                return x * y * z * z

            return grad(innermost)(y)  # 2 x y^2

        return grad(inner)(x)  # 4 x^2

    assert float(outer(3.0)) == 36.0
    assert float(grad(outer)(3.0)) == 24.0


def test_pullback_is_differentiable_in_its_cotangent():
    x = np.array([1.0, 2.0])
    _, pullback = vjp(lambda x: x * x, x)
    _, tangent = jvp(lambda c: pullback(c)[0], (np.ones(2),), (np.array([1.0, 10.0]),))
    np.testing.assert_array_equal(tangent, [2.0, 40.0])


def test_a_tangent_that_vanishes_early_in_one_of_two_arguments():
    def f(x, y):
        return np.sum(x * 2.0) + (y > 0) * 1.0

    value, tangent = jvp(f, (np.ones(2), 1.0), (None, 1.0))
    assert (float(value), float(tangent)) == (5.0, 0.0)


# ---- what functions may do --------------------------------------------------------------------


def test_python_loops_branches_and_recursion():
    def power(x, n):
        if n == 0:
            return 1.0
        half = power(x, n // 2)
        return half * half * (x if n % 2 else 1.0)

    def f(x):
        total = 0.0
        for n in range(1, 6):
            total = total + (power(x, n) if x > n - 3 else -power(x, n))
        while total > 10.0:
            total = total / 2.0
        return total

    def analytic(x):
        signs = [1.0 if x > n - 3 else -1.0 for n in range(1, 6)]
        value = sum(s * x**n for n, s in enumerate(signs, 1))
        slope = sum(s * n * x ** (n - 1) for n, s in enumerate(signs, 1))
        while value > 10.0:
            value, slope = value / 2, slope / 2
        return slope

    for x in (1.5, 0.5, 3.7):
        np.testing.assert_allclose(grad(f)(x), analytic(x), **TIGHT)


def test_indexing_and_iteration_over_an_array():
    x = np.array([1.0, 2.0, 3.0])
    got = grad(lambda x: sum(i * v * v for i, v in enumerate(x)) + x[-1] + np.sum(x[::2]))(x)
    np.testing.assert_array_equal(got, [1.0, 4.0, 14.0])


@pytest.mark.parametrize("shape_y", [(), (3,), (1, 3), (2, 1), (1, 1, 1)])
def test_broadcasting_sums_the_gradient(shape_y):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3)), rng.standard_normal(shape_y)
    gx, gy = grad(lambda x, y: np.sum(np.sin(x * y) - x / (2.0 + np.cos(y))), (0, 1))(x, y)
    assert (gx.shape, np.shape(gy)) == (x.shape, shape_y)
    full = np.cos(x * y) * x - x * np.sin(y) / (2 + np.cos(y)) ** 2
    full = full.reshape((1,) * (3 - full.ndim) + full.shape)
    axes = tuple(i for i, d in enumerate((1,) * (3 - len(shape_y)) + shape_y) if d == 1)
    np.testing.assert_allclose(gy, full.sum(axes).reshape(shape_y), **TIGHT)
    full = np.cos(x * y) * y - 1 / (2 + np.cos(y))
    np.testing.assert_allclose(gx, np.broadcast_to(full.reshape(-1, 3), x.shape), **TIGHT)


def test_keyword_arguments_pass_through():
    assert float(grad(lambda x, *, k: k * x * x)(3.0, k=2.0)) == 12.0


# ---- trees and arguments ----------------------------------------------------------------------


def test_containers():
    params = {"w": [np.ones(2), 2.0], "p": Point(x=3.0, y=(4.0,))}

    def f(p):
        return np.sum(p["w"][0] * p["w"][1]) * p["p"].x + p["p"].y[0]

    value, g = value_and_grad(f)(params)
    assert value == 16.0
    assert type(g["w"]) is list
    assert type(g["p"]) is Point
    assert type(g["p"].y) is tuple
    np.testing.assert_array_equal(g["w"][0], [6.0, 6.0])
    assert (g["w"][1], g["p"].x, g["p"].y[0]) == (6.0, 4.0, 1.0)


def test_dicts_are_matched_by_key():
    f = lambda d: {"s": d["a"] * 2.0, "t": d["b"] * 3.0}  # noqa: E731
    point = {"a": np.ones(2), "b": np.ones(2)}
    other_order = {"b": np.full(2, 5.0), "a": np.full(2, 7.0)}
    _, moved = jvp(f, (point,), (other_order,))
    np.testing.assert_array_equal(moved["s"], [14.0, 14.0])
    _, pullback = vjp(f, point)
    (g,) = pullback({"t": np.full(2, 1.0), "s": np.full(2, 10.0)})
    np.testing.assert_array_equal(g["a"], [20.0, 20.0])
    with pytest.raises(ValueError, match="keys"):
        jvp(f, (point,), ({"a": np.ones(2)},))


def test_argnum_tuple_and_negative():
    f = lambda x, y, z: x * y * y + 7.0 * z  # noqa: E731
    assert grad(f, (2, 1))(2.0, 3.0, 4.0) == (7.0, 12.0)
    assert grad(f, -1)(2.0, 3.0, 4.0) == 7.0
    assert jacobian(f, -2)(2.0, 3.0, 4.0) == 12.0
    for transform in (grad, jacobian):
        with pytest.raises(TypeError, match="argnum=3"):
            transform(f, 3)(2.0, 3.0, 4.0)


def test_has_aux():
    def f(x):
        y = np.sin(x)
        return np.sum(y), {"y": y, "note": "hello", "none": None}

    x = np.array([0.1, 0.2])
    (value, aux), g = value_and_grad(f, has_aux=True)(x)
    np.testing.assert_array_equal(aux["y"], np.sin(x))
    assert type(aux["y"]) is np.ndarray
    assert (aux["note"], aux["none"]) == ("hello", None)
    np.testing.assert_allclose(value, np.sin(x).sum(), **TIGHT)
    g2, aux2 = grad(f, has_aux=True)(x)
    np.testing.assert_array_equal(g, g2)
    np.testing.assert_array_equal(g, np.cos(x))
    assert aux2["note"] == "hello"


def test_unused_arguments_get_zeros():
    x, y = np.ones((2, 3), np.float32), np.ones(4)
    gx, gy = grad(lambda x, y: np.sum(y), (0, 1))(x, y)
    assert gx.shape == (2, 3)
    assert gx.dtype == np.float32
    assert not gx.any()
    np.testing.assert_array_equal(gy, np.ones(4))
    assert grad(lambda x: 3)(1.0) == 0.0
    assert not jacobian(lambda x: np.ones(2))(np.ones(3)).any()
    _, t = jvp(lambda x: np.ones(2), (1.0,), (1.0,))
    np.testing.assert_array_equal(t, np.zeros(2))


def test_pullback_repeats_and_takes_none():
    f = lambda x, y: {"a": x * y, "b": (np.sin(x), y * y)}  # noqa: E731
    _, pullback = vjp(f, 2.0, 3.0)
    for _ in range(2):
        assert pullback({"a": 1.0, "b": None}) == (3.0, 2.0)
        assert pullback({"a": None, "b": (None, 1.0)}) == (0.0, 6.0)
    assert pullback(None) == (0.0, 0.0)
    gx, gy = pullback({"a": 1.0, "b": (1.0, 1.0)})
    np.testing.assert_allclose((gx, gy), (3.0 + np.cos(2.0), 8.0), **TIGHT)


def test_one_output_twice_adds_up():
    def f(x):
        y = x * 2.0
        return y, y, x

    _, pullback = vjp(f, 1.0)
    assert pullback((1.0, 10.0, 100.0)) == (122.0,)


def test_gradients_can_be_written_to():
    # A gradient that is a broadcast view, or the same array twice, would spread one write.
    x = np.zeros(3)
    g = grad(np.sum)(x)
    g[0] = 5.0
    np.testing.assert_array_equal(g, [5.0, 1.0, 1.0])
    _, pullback = vjp(lambda a, b: a + b, x, x)
    ct = np.ones(3)
    ga, gb = pullback(ct)
    ga += 1.0
    np.testing.assert_array_equal(gb, np.ones(3))
    np.testing.assert_array_equal(ct, np.ones(3))
    t = np.ones(3)
    _, moved = jvp(lambda a: (a, a), (x,), (t,))
    moved[0][:] = 9.0
    np.testing.assert_array_equal(moved[1], t)
    assert t[0] == 1.0


# ---- Jacobians and Hessians -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
@pytest.mark.parametrize("n_out", [1, 2, 5])
def test_jacobian(mode, n_out):
    rng = np.random.default_rng(1)
    a, x = rng.standard_normal((n_out, 3)), rng.standard_normal(3)
    got = jacobian(lambda x: np.sum(np.sin(a * x), axis=1), mode=mode)(x)
    np.testing.assert_allclose(got, a * np.cos(a * x), **TIGHT)


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((), (2,)), ((2,), ()), ((0,), (2,))])
def test_jacobian_shapes(mode, shapes):
    sx, sy = shapes
    x = np.linspace(1, 2, int(np.prod(sx))).reshape(sx)
    got = jacobian(lambda x: np.ones(sy) * np.sum(x * x), mode=mode)(x)
    assert got.shape == sy + sx
    np.testing.assert_array_equal(got, np.broadcast_to(2 * x, sy + sx))


@pytest.mark.parametrize("outer", ["reverse", "forward"])
@pytest.mark.parametrize("inner", ["reverse", "forward"])
def test_jacobian_of_jacobian(outer, inner):
    x = np.array([0.4, 1.3])
    f = lambda x: np.sin(x) * np.sum(x)  # noqa: E731
    got = jacobian(jacobian(f, mode=inner), mode=outer)(x)
    eye = np.eye(2)
    s, c, t = np.sin(x), np.cos(x), x.sum()
    expected = (
        -np.einsum("i,ij,ik->ijk", s * t, eye, eye)
        + np.einsum("i,ij->ij", c, eye)[:, :, None]
        + np.einsum("i,ik->ik", c, eye)[:, None, :]
    )
    np.testing.assert_allclose(got, expected, **TIGHT)


def test_hvp_is_the_hessian_times_a_direction():
    rng = np.random.default_rng(2)
    x, v = rng.standard_normal((2, 2, 3))
    f = lambda x: np.sum(np.sin(x) * x) * np.sum(np.exp(x))  # noqa: E731
    full = hessian(f)(x)
    np.testing.assert_allclose(full, np.transpose(full, (2, 3, 0, 1)), **TIGHT)
    np.testing.assert_allclose(hvp(f, x, v), np.tensordot(full, v, 2), **TIGHT)
    tree = hvp(lambda d: f(d["x"]), {"x": x}, {"x": v})
    np.testing.assert_allclose(tree["x"], np.tensordot(full, v, 2), **TIGHT)


# ---- dtypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [3, np.int32(3), np.array([1, 2]), np.array([1, 2], np.uint8)])
def test_integers_become_float64(x):
    g = grad(lambda x: np.sum(x * x))(x)
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g, 2 * np.asarray(x, float))
    _, t = jvp(lambda x: x * x, (x,), (x,))
    assert t.dtype == np.float64


def test_float32_stays_float32():
    x = np.array([1.0, 2.0], np.float32)
    f = lambda x: np.sum(np.exp(-x * 0.5) / (1.0 + x) + np.sin(x) * 2)  # noqa: E731
    value, g = value_and_grad(f)(x)
    assert (value.dtype, g.dtype) == (np.float32, np.float32)
    assert hessian(f)(x).dtype == np.float32
    for mode in ("reverse", "forward"):
        assert jacobian(np.sin, mode=mode)(x).dtype == np.float32
    value, t = jvp(f, (x,), (np.ones(2),))  # a direction in float64
    assert (value.dtype, t.dtype) == (np.float32, np.float32)
    for g in (np.sin, lambda x: x):
        assert vjp(g, x)[1](np.ones(2))[0].dtype == np.float32
        assert jvp(g, (x,), (np.ones(2),))[1].dtype == np.float32


def test_gradients_have_the_dtype_of_their_arguments():
    x, y = np.ones(2, np.float32), np.ones(2)
    gx, gy = grad(lambda x, y: np.sum(x * y), (0, 1))(x, y)
    assert (gx.dtype, gy.dtype) == (np.float32, np.float64)


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x * 2.0, r"scalar value.*\(2,\)"),
        (lambda x: None, "scalar value.*NoneType"),
        (lambda x: {"a": np.sum(x)}, "scalar value.*dict"),
        (lambda x: np.sum(x > 0), "real floating value"),
        (lambda x: np.complex128(1j), "real floating value"),
    ],
)
def test_grad_wants_a_real_scalar(f, message):
    with pytest.raises(TypeError, match=message):
        grad(f)(np.ones(2))


@pytest.mark.parametrize("x", [1j, np.ones(2, complex), True, "text", None, np.array([None])])
def test_arguments_must_be_real(x):
    with pytest.raises(TypeError, match="cannot differentiate"):
        grad(lambda x: x)(x)
    with pytest.raises(TypeError, match="cannot differentiate"):
        jvp(lambda x: x, (x,), (x,))


def test_shapes_must_agree():
    _, pullback = vjp(np.sin, np.ones(2))
    with pytest.raises(ValueError, match=r"cotangent of shape \(3,\)"):
        pullback(np.ones(3))
    with pytest.raises(ValueError, match=r"tangent of shape \(\)"):
        jvp(np.sin, (np.ones(2),), (1.0,))
    with pytest.raises(ValueError, match="2 entries"):
        jvp(lambda x: x, (1.0,), (1.0, 1.0))


def test_jacobian_wants_one_array_and_a_known_mode():
    with pytest.raises(TypeError, match="np.stack"):
        jacobian(lambda x: [x[0], x[1]])(np.ones(2))
    with pytest.raises(ValueError, match="mode='sideways'"):
        jacobian(np.sin, mode="sideways")


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: float(x[0]),
        lambda x: x.item(),
        lambda x: np.asarray(x).sum(),
        lambda x: np.sum(np.array([x[0], x[1]])),
    ],
)
def test_losing_the_derivative_raises(misuse):
    with pytest.raises(RuntimeError, match="traced value"):
        grad(misuse)(np.ones(2))


def test_writing_raises():
    def assign(x):
        x[0] = 1.0
        return np.sum(x)

    def add_into(x):
        y = np.zeros(2)
        y += x
        return np.sum(y)

    with pytest.raises(TypeError, match="cannot be written to"):
        grad(assign)(np.ones(2))
    with pytest.raises(TypeError, match="in-place"):
        grad(add_into)(np.ones(2))


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_dtypes_without_kernels(dtype):
    x = np.ones((2, 3), dtype)
    g = grad(lambda x: np.sum(np.sum(x + x, axis=0)) + np.sum(np.sum(x, axis=1)))(x)
    assert g.dtype == dtype
    np.testing.assert_array_equal(g, np.full((2, 3), 3, dtype))
