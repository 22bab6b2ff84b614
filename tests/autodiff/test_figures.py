"""Numbers that textbooks print."""

import numpy as np
import pytest

from skdeep.autodiff import check_grads, grad, hessian, hvp, jacobian, jvp, trace, value_and_grad


def wengert(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


# Baydin et al. (2018), tables 2 and 3: printed to three decimals.
VALUES = [2.0, 5.0, 0.693, 10.0, 10.693, -0.959, 11.652]
ADJOINTS = [5.5, 1.716, 1.0, 1.0, 1.0, -1.0, 1.0]
TANGENTS = [1.0, 0.0, 0.5, 5.0, 5.5, 0.0, 5.5]
EXPRESSIONS = ["x1", "x2", "ln v₋₁", "v₋₁ * v₀", "v₁ + v₂", "sin v₀", "v₃ - v₄"]
PRINTED = dict(rtol=0, atol=5.1e-4)


def test_reverse_trace_of_the_textbook():
    t = trace(wengert, 2.0, 5.0)
    assert [r.expression for r in t.rows] == EXPRESSIONS
    assert t.nodes == ["v₋₁", "v₀", "v₁", "v₂", "v₃", "v₄", "v₅"]
    np.testing.assert_allclose([r.value for r in t.rows], VALUES, **PRINTED)
    np.testing.assert_allclose([r.derivative for r in t.rows], ADJOINTS, **PRINTED)
    np.testing.assert_allclose(t.value, 11.6521, rtol=0, atol=5e-5)
    np.testing.assert_allclose(t.gradient, [5.5, 1.716], **PRINTED)


def test_forward_trace_of_the_textbook():
    t = trace(wengert, 2.0, 5.0, mode="forward", tangents=(1.0, 0.0))
    assert [r.expression for r in t.rows] == EXPRESSIONS
    np.testing.assert_allclose([r.value for r in t.rows], VALUES, **PRINTED)
    np.testing.assert_allclose([r.derivative for r in t.rows], TANGENTS, **PRINTED)
    assert t.gradient == 5.5


def test_transforms_give_the_same_figures():
    value, g = value_and_grad(wengert, (0, 1))(2.0, 5.0)
    np.testing.assert_allclose(value, 11.6521, rtol=0, atol=5e-5)
    np.testing.assert_allclose(g, [5.5, 2 - np.cos(5)], rtol=1e-14)
    assert float(jvp(wengert, (2.0, 5.0), (1.0, 0.0))[1]) == 5.5


def alternating(x):
    for i in range(100):
        x = np.cos(x) if i % 2 else np.sin(x)
    return x


def test_a_hundred_sines_and_cosines():
    x, slope = 0.8, 1.0
    for i in range(100):
        slope, x = (-slope * np.sin(x), np.cos(x)) if i % 2 else (slope * np.cos(x), np.sin(x))
    # The same factors multiplied in the other order: a hundred roundings.
    np.testing.assert_allclose(grad(alternating)(0.8), slope, rtol=1e-13)
    np.testing.assert_allclose(jvp(alternating, (0.8,), (1.0,))[1], slope, rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_shorter_alternations_by_finite_differences(n):
    # A hundred factors below one leave a derivative too small to be seen in a difference.
    def f(x):
        for i in range(n):
            x = np.cos(x * 1.5) if i % 2 else np.sin(x * 1.5)
        return x

    check_grads(f, (np.array([0.8, -0.3]),), order=2)


def test_hessian_of_the_saddle():
    f = lambda x: x[0] ** 3 - 2 * x[0] * x[1] - x[1] ** 6  # noqa: E731
    x = np.array([1.0, 2.0])
    expected = [[6.0, -2.0], [-2.0, -480.0]]
    np.testing.assert_allclose(hessian(f)(x), expected, rtol=1e-14)
    np.testing.assert_allclose(jacobian(grad(f), mode="forward")(x), expected, rtol=1e-14)
    np.testing.assert_allclose(hvp(f, x, np.array([1.0, 0.0])), expected[0], rtol=1e-14)
    np.testing.assert_allclose(grad(f)(x), [3 - 4, -2 - 6 * 32], rtol=1e-14)
