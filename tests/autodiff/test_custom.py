"""primitive, custom_vjp and check_grads."""

import functools

import numpy as np
import pytest
from scipy import special

from skdeep.autodiff import (
    Unrecordable,
    check_grads,
    custom_vjp,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    primitive,
    vjp,
)
from skdeep.autodiff._program import record

TIGHT = dict(rtol=1e-12, atol=1e-12)


def erf_slope(x):
    return 2 / np.sqrt(np.pi) * np.exp(-x * x)


@primitive(
    vjp=lambda ct, ans, x: (ct * erf_slope(x),),
    jvp=lambda t, ans, x: t[0] * erf_slope(x),
    shape=np.shape,
)
def erf(x):
    return special.erf(x)


# ---- primitive --------------------------------------------------------------------------------


def test_primitive_has_every_order_and_mode():
    x = np.array([-0.5, 0.1, 1.2])
    check_grads(erf, (x,), order=3)
    np.testing.assert_allclose(grad(lambda x: np.sum(erf(x)))(x), erf_slope(x), **TIGHT)
    np.testing.assert_allclose(
        hvp(lambda x: np.sum(erf(x)), x, np.ones(3)), -2 * x * erf_slope(x), **TIGHT
    )


def test_primitive_is_the_function_outside_traces():
    assert erf.__name__ == "erf"
    assert type(erf(0.3)) is type(special.erf(0.3))
    assert erf(0.3) == special.erf(0.3)


def test_callables_without_a_name():
    twice = functools.partial(np.multiply, 2.0)
    assert grad(primitive(twice, vjp=lambda ct, ans, x: (2 * ct,)))(3.0) == 2.0
    assert grad(custom_vjp(twice, lambda x: (twice(x), None), lambda r, ct: (ct,)))(3.0) == 1.0
    with pytest.raises(NotImplementedError, match="'partial' has no vjp"):
        grad(primitive(twice))(3.0)


def test_primitive_with_several_arguments_statics_and_none():
    @primitive(vjp=lambda ct, ans, n, x, scale: (None, ct * scale * special_jvp(n, x)))
    def bessel(n, x, scale=1.0):
        return scale * special.jv(n, x)

    def special_jvp(n, x):
        return (special.jv(n - 1, x) - special.jv(n + 1, x)) / 2

    n = np.array([0, 2])
    g = grad(lambda x: np.sum(bessel(n, x, scale=3.0)))(np.array([1.0, 1.5]))
    np.testing.assert_allclose(g, 3 * special.jvp(n, np.array([1.0, 1.5])), **TIGHT)


def sort_with_order(x):
    order = np.argsort(x)
    return x[order], np.cumsum(x[order])


def test_primitive_with_several_outputs():
    def vjp_rule(ct, ans, x):
        order = np.argsort(x)
        total = np.zeros(3) if ct[0] is None else np.asarray(ct[0]).copy()
        if ct[1] is not None:
            total += np.cumsum(ct[1][::-1])[::-1]
        out = np.empty(3)
        out[order] = total
        return (out,)

    def jvp_rule(t, ans, x):
        moved = t[0][np.argsort(x)]
        return moved, np.cumsum(moved)

    op = primitive(sort_with_order, vjp=vjp_rule, jvp=jvp_rule)
    x = np.array([0.3, -1.0, 2.0])
    check_grads(op, (x,), order=1)
    first = grad(lambda x: np.sum(op(x)[0] * np.array([1.0, 2.0, 3.0])))(x)
    np.testing.assert_array_equal(first, [2.0, 1.0, 3.0])
    np.testing.assert_array_equal(grad(lambda x: op(x)[1][2])(x), np.ones(3))


def test_an_output_with_no_tangent_is_a_constant():
    op = primitive(lambda x: (x * 2, np.sign(x)), jvp=lambda t, ans, x: (t[0] * 2, None))
    f = lambda x: [op(x)[1], np.sin(op(x)[1]), op(x)[0] * op(x)[1]]  # noqa: E731
    value, tangent = jvp(f, (3.0,), (1.0,))
    assert value == [1.0, np.sin(1.0), 6.0]
    assert tangent == [0.0, 0.0, 2.0]


def test_primitive_without_a_rule_names_itself_and_the_mode():
    backward_only = primitive(np.sinh, vjp=lambda ct, ans, x: (ct * np.cosh(x),), name="sh")
    forward_only = primitive(np.sinh, jvp=lambda t, ans, x: t[0] * np.cosh(x), name="sh")
    np.testing.assert_allclose(grad(backward_only)(0.5), np.cosh(0.5), **TIGHT)
    np.testing.assert_allclose(jvp(forward_only, (0.5,), (1.0,))[1], np.cosh(0.5), **TIGHT)
    np.testing.assert_allclose(jacobian(forward_only, mode="forward")(0.5), np.cosh(0.5), **TIGHT)
    with pytest.raises(NotImplementedError, match="'sh' has no jvp rule, which forward"):
        jvp(backward_only, (0.5,), (1.0,))
    with pytest.raises(NotImplementedError, match="'sh' has no vjp rule, which reverse"):
        grad(forward_only)(0.5)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda ct, ans, x: ct, TypeError, "one cotangent"),
        (lambda ct, ans, x: (ct, ct), TypeError, "2 entries"),
        (lambda ct, ans, x: (np.sum(ct),), ValueError, r"shape \(\) for an array of shape \(2,\)"),
    ],
)
def test_primitive_rules_are_checked(rule, error, message):
    op = primitive(lambda x: x * 2, vjp=rule, jvp=lambda t, ans, x: np.sum(t[0]), name="twice")
    with pytest.raises(error, match=message):
        grad(lambda x: np.sum(op(x)))(np.ones(2))
    with pytest.raises(ValueError, match="jvp.*'twice'"):
        jvp(op, (np.ones(2),), (np.ones(2),))


def test_primitive_refuses_traced_keywords():
    op = primitive(lambda x, k: x * k, vjp=lambda ct, ans, x, k: (ct * k,), name="scale")
    with pytest.raises(TypeError, match="scale: k= is traced"):
        grad(lambda k: op(1.0, k=k))(2.0)


def test_primitive_keeps_float32_where_its_shape_is_known():
    op = primitive(lambda x: np.float64(2.0) * x, vjp=lambda ct, ans, x: (2 * ct,), shape=np.shape)
    x = np.ones(2, np.float32)
    assert vjp(op, x)[0].dtype == np.float32
    assert grad(lambda x: np.sum(op(x) * x))(x).dtype == np.float32
    # The dtype of a rule's cotangent is cast to that of the argument.
    op = primitive(np.sin, vjp=lambda ct, ans, x: (np.float64(1.0) * ct * np.cos(x),))
    assert vjp(op, x)[1](x)[0].dtype == np.float32


def test_primitive_is_recorded_with_a_shape_only():
    x, value, slope = np.array([0.2, 0.4]), np.zeros(()), np.zeros(2)

    def f(x):
        y, pullback = vjp(lambda x: np.sum(erf(x) * x), x)
        return y, pullback(np.ones(()))[0]

    run = record(f, (x,), (value, slope)).compile()
    for new in ([0.2, 0.4], [-1.0, 3.0]):
        x[:] = new
        run()
        np.testing.assert_array_equal(value, f(x)[0])
        np.testing.assert_array_equal(slope, f(x)[1])

    opaque = primitive(special.erf, vjp=lambda ct, ans, x: (ct * erf_slope(x),), name="opaque")
    with pytest.raises(Unrecordable, match="'opaque'.*shape="):
        record(lambda x: opaque(x) * 2.0, (x,), slope)


def test_recorded_primitive_with_two_outputs_and_a_wrong_shape():
    pair = primitive(
        lambda x: (np.sort(x), np.cumsum(x)), shape=lambda x: (x.shape, x.shape), name="pair"
    )
    x, a, b = np.array([3.0, 1.0]), np.zeros(2), np.zeros(2)
    record(lambda x: pair(x), (x,), (a, b)).run()
    np.testing.assert_array_equal([a, b], [[1, 3], [3, 4]])
    wrong = primitive(lambda x: x[:1], shape=np.shape, name="wrong")
    with pytest.raises(ValueError, match=r"'wrong' gave shape \(1,\)"):
        record(lambda x: wrong(x), (x,), a).run()


# ---- custom_vjp -------------------------------------------------------------------------------


def test_straight_through_estimator():
    ste = custom_vjp(
        lambda x: 1.0 * (x > 0.5), lambda x: (1.0 * (x > 0.5), None), lambda _, ct: (ct,)
    )
    x = np.array([0.2, 0.9])
    np.testing.assert_array_equal(ste(x), [0.0, 1.0])
    np.testing.assert_array_equal(grad(lambda x: np.sum(ste(x) * x))(x), [0.2, 1.9])


def test_gradient_clipping():
    @custom_vjp
    def clipped(x, bound):
        return x

    clipped.defvjp(
        lambda x, bound: (x, bound),
        lambda bound, ct: (np.minimum(np.maximum(ct, -bound), bound), None),
    )
    x = np.array([1.0, -2.0, 0.1])
    g = grad(lambda x: np.sum(clipped(x, 0.5) ** 3))(x)
    np.testing.assert_allclose(g, [0.5, 0.5, 0.03], **TIGHT)
    assert clipped.__name__ == "clipped"


def stable_log1pexp():
    f = custom_vjp(lambda x: np.log(1.0 + np.exp(x)))
    f.defvjp(lambda x: (np.log(1.0 + np.exp(x)), x), lambda x, ct: (ct / (1.0 + np.exp(-x)),))
    return f


def test_second_derivative_goes_through_the_rule():
    f, x = stable_log1pexp(), 0.7
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(grad(f)(x), s, **TIGHT)
    np.testing.assert_allclose(grad(grad(f))(x), s * (1 - s), **TIGHT)
    np.testing.assert_allclose(grad(grad(grad(f)))(x), s * (1 - s) * (1 - 2 * s), **TIGHT)
    np.testing.assert_allclose(hvp(f, x, 1.0), s * (1 - s), **TIGHT)
    check_grads(f, (np.array([0.3, -1.0]),), order=3)


def test_the_rule_is_used_and_not_the_function():
    wrong = custom_vjp(np.sin, lambda x: (np.sin(x), x), lambda x, ct: (ct * 100.0 * x * x,))
    assert float(grad(wrong)(2.0)) == 400.0
    assert float(grad(grad(wrong))(2.0)) == 400.0  # d/dx 100 x^2
    # Forward mode differentiates the function itself.
    np.testing.assert_allclose(jvp(wrong, (2.0,), (1.0,))[1], np.cos(2.0), **TIGHT)


def test_custom_vjp_with_trees_and_statics():
    f = custom_vjp(lambda p, x, k=1.0: {"y": p["a"] * x * k, "z": (p["b"],)})
    f.defvjp(
        lambda p, x, k=1.0: ({"y": p["a"] * x * k, "z": (p["b"],)}, (p["a"], x, k)),
        lambda r, ct: ({"b": ct["z"][0], "a": ct["y"] * r[1] * r[2]}, ct["y"] * r[0] * r[2]),
    )
    p, x = {"a": np.array([1.0, 2.0]), "b": 3.0}, np.array([5.0, 7.0])
    gp, gx = grad(lambda p, x: np.sum(f(p, x, k=2.0)["y"]), (0, 1))(p, x)
    np.testing.assert_array_equal(gp["a"], 2 * x)
    np.testing.assert_array_equal(gx, 2 * p["a"])
    assert gp["b"] == 0.0  # its cotangent came as zeros
    check_grads(f, (p, x))


def test_custom_vjp_inside_a_recording():
    f = stable_log1pexp()
    x, out = np.array([0.3, -2.0]), np.zeros(2)
    program = record(grad(lambda x: np.sum(f(x) * x)), (x,), out)
    x[:] = [1.0, 4.0]
    program.run()
    np.testing.assert_array_equal(out, grad(lambda x: np.sum(f(x) * x))(x))


def test_custom_vjp_errors():
    with pytest.raises(NotImplementedError, match="'sin' has no rule"):
        grad(custom_vjp(np.sin))(1.0)
    for bwd, error, message in [
        (lambda r, ct: ct, TypeError, "one cotangent"),
        (lambda r, ct: (ct, ct), TypeError, "2 entries"),
        (lambda r, ct: (np.ones(3),), ValueError, r"shape \(3,\)"),
    ]:
        g = custom_vjp(np.sin, lambda x: (np.sin(x), None), bwd)
        with pytest.raises(error, match=message):
            grad(g)(1.0)
    with pytest.raises(TypeError, match="out, residuals"):
        grad(custom_vjp(np.sin, np.sin, lambda r, ct: (ct,)))(1.0)
    g = custom_vjp(lambda x, k: x * k, lambda x, k: (x * k, k), lambda k, ct: (ct * k,))
    with pytest.raises(TypeError, match="k= is traced"):
        grad(lambda x: g(x, k=x))(1.0)


def test_custom_vjp_refuses_to_lose_a_closure():
    def outer(y, rule):
        f = custom_vjp(lambda x: x * y, *rule(y))
        return f(y)

    forward = lambda y: (lambda x: (x * y, None), lambda r, ct: (ct,))  # noqa: E731
    backward = lambda y: (lambda x: (x * 2.0, None), lambda r, ct: (ct * y,))  # noqa: E731
    with pytest.raises(TypeError, match="the fwd of .* not among"):
        grad(lambda y: outer(y, forward))(1.0)
    with pytest.raises(TypeError, match="the bwd of .* not among"):
        grad(lambda y: outer(y, backward))(1.0)


# ---- check_grads ------------------------------------------------------------------------------


def test_check_grads_accepts_trees():
    def f(p, x):
        return {"a": np.sin(p["w"] * x), "b": [np.sum(x) * p["c"]]}

    check_grads(f, ({"w": np.array([0.5, 2.0]), "c": 3}, np.array([0.3, 0.1])), order=2)


@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev")])
def test_check_grads_finds_wrong_rules(modes):
    bad = primitive(
        np.sin,
        vjp=lambda ct, ans, x: (ct * np.cos(x) * 1.001,),
        jvp=lambda t, ans, x: t[0] * np.cos(x) * 1.001,
    )
    with pytest.raises(AssertionError, match=f"order 1, mode '{modes[0]}'.*largest error"):
        check_grads(bad, (np.array([0.5, 1.0]),), modes=modes)


def test_check_grads_finds_wrong_second_orders():
    # The first derivative's value is right, its own derivative is not.
    lying = primitive(np.cos, vjp=lambda ct, ans, x: (ct * 0.0,), jvp=lambda t, ans, x: t[0] * 0.0)
    f = primitive(
        np.sin,
        vjp=lambda ct, ans, x: (ct * lying(x),),
        jvp=lambda t, ans, x: t[0] * lying(x),
    )
    check_grads(f, (0.5,), order=1)
    with pytest.raises(AssertionError, match="order 2"):
        check_grads(f, (0.5,), order=2)


def test_check_grads_finds_what_is_not_adjoint():
    # Both within the tolerance of finite differences, but not equal to each other.
    f = primitive(
        np.sin,
        vjp=lambda ct, ans, x: (ct * np.cos(x) * (1 + 1e-8),),
        jvp=lambda t, ans, x: t[0] * np.cos(x),
    )
    check_grads(f, (0.5,), order=1, modes=("fwd",))
    check_grads(f, (0.5,), order=1, modes=("rev",))
    with pytest.raises(AssertionError, match="adjoint"):
        check_grads(f, (0.5,), order=1)


def test_check_grads_finds_nan():
    f = primitive(np.sin, jvp=lambda t, ans, x: t[0] * np.nan)
    with pytest.raises(AssertionError, match="nan"):
        check_grads(f, (0.5,), order=1, modes=("fwd",))


@pytest.mark.parametrize(
    "kwargs", [{"order": 0}, {"modes": ("both",)}, {"modes": ()}, {"modes": "fwd"}]
)
def test_check_grads_refuses(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        check_grads(np.sin, (0.5,), **kwargs)


def test_check_grads_on_hessian():
    check_grads(hessian(lambda x: np.sum(x * x * x)), (np.array([1.0, 2.0]),), order=1)
