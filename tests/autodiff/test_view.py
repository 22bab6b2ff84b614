"""The evaluation trace: rows, graph, text, HTML and drawing."""

import numpy as np
import pytest

from skdeep.autodiff import EvaluationTrace, grad, jvp, trace


def f(x, w):
    return np.sum(np.exp(x[0] * w) + 2.0) / x[1]


POINT = np.array([0.5, 4.0]), np.array([1.0, -1.0, 0.25])


def columns(t):
    return [line.split() for line in str(t).splitlines()]


def test_rows_evaluate_to_the_value():
    t = trace(f, *POINT)
    assert isinstance(t, EvaluationTrace)
    operations = [r.operation for r in t.rows]
    assert operations[:2] == ["input", "input"]
    assert {"index", "multiply", "exp", "add", "sum"} <= set(operations)
    assert t.rows[-1].value == t.value == f(*POINT)
    assert t.results == [t.rows[-1].name]


def test_adjoints_are_gradients_from_there_on():
    t = trace(f, *POINT)
    gx, gw = grad(f, (0, 1))(*POINT)
    np.testing.assert_array_equal(t.gradient[0], gx)
    np.testing.assert_array_equal(t.rows[1].derivative, gw)
    (exp,) = [r for r in t.rows if r.operation == "exp"]
    assert exp.value.shape == (3,)
    np.testing.assert_allclose(exp.derivative, np.full(3, 1 / POINT[0][1]), rtol=1e-15)


def test_tangents_are_derivatives_up_to_there():
    direction = (np.array([1.0, 2.0]), np.array([0.5, 0.0, -1.0]))
    t = trace(f, *POINT, mode="forward", tangents=direction)
    assert t.gradient == jvp(f, POINT, direction)[1]
    np.testing.assert_array_equal(t.rows[0].derivative, direction[0])
    (exp,) = [r for r in t.rows if r.operation == "exp"]
    x, w = POINT
    moved = np.exp(x[0] * w) * (direction[0][0] * w + x[0] * direction[1])
    np.testing.assert_allclose(exp.derivative, moved, rtol=1e-14)


def test_edges_are_the_inputs_of_each_row():
    t = trace(lambda a, b: (a * a + b) * a, 2.0, 3.0)
    assert [r.expression for r in t.rows] == ["a", "b", "v₋₁ * v₋₁", "v₁ + v₀", "v₂ * v₋₁"]
    assert t.edges == [("v₋₁", "v₁"), ("v₁", "v₂"), ("v₀", "v₂"), ("v₂", "v₃"), ("v₋₁", "v₃")]
    assert t.nodes == ["v₋₁", "v₀", "v₁", "v₂", "v₃"]


@pytest.mark.parametrize(
    ("function", "x", "expression"),
    [
        (lambda x: np.sum(x[1:, 0]), np.ones((2, 2)), "v₀[1:, 0]"),
        (lambda x: np.sum(x[..., ::2]), np.ones((2, 2)), "v₀[..., ::2]"),
        (lambda x: x * 0.125, 1.0, "v₀ * 0.125"),
        (lambda x: 3 - x, 1.0, "3 - v₀"),
        (lambda x: -x, 1.0, "-v₀"),
        (lambda x: np.sum(x * np.array([1.0, 2.5])), np.ones(2), "v₀ * [1, 2.5]"),
        (lambda x: np.sum(x * np.eye(3)), np.ones(3), "v₀ * 3x3: 1, 0, 0, 0, ..."),
        (lambda x: x / x, 1.0, "v₀ / v₀"),
        (lambda x: np.tanh(x), 1.0, "tanh v₀"),
    ],
)
def test_expressions(function, x, expression):
    assert trace(function, x).rows[1].expression == expression


def test_inputs_are_named_after_parameters_and_paths():
    t = trace(lambda p, *, k=1.0: p["w"] * p["b"][0], {"w": 2.0, "b": [3.0, 4.0]})
    assert [r.expression for r in t.rows[:3]] == ["p['w']", "p['b'][0]", "p['b'][1]"]
    assert t.nodes[:3] == ["v₋₂", "v₋₁", "v₀"]
    assert t.gradient == {"w": 3.0, "b": [2.0, 0.0]}
    assert trace(lambda *xs: xs[0] * xs[1], 1.0, 2.0).rows[1].expression == "x2"


def test_text_is_aligned():
    t = trace(lambda x: np.exp(x) * 10.0, 1.0)
    assert str(t).splitlines() == [
        " v  expression   value  adjoint",
        "v₀  x                1   27.183",
        "v₁  exp v₀      2.7183       10",
        "v₂  v₁ * 10     27.183        1",
        " y  v₂          27.183        1",
    ]
    assert repr(t) == "<EvaluationTrace of 3 variables, reverse mode>"


def test_a_function_that_ends_early():
    t = trace(lambda x: 3.0, 2.0)
    assert (t.value, t.gradient) == (3.0, 0.0)
    assert columns(t)[-1] == ["y", "3", "3", "0"]
    t = trace(lambda x: x, 2.0)
    assert columns(t)[-1] == ["y", "v₀", "2", "1"]
    t = trace(lambda x: 3.0, 2.0, mode="forward")
    assert (t.value, t.gradient) == (3.0, 0.0)


def test_variables_that_do_not_count_have_a_zero_adjoint():
    def g(x):
        np.sin(x)
        return x * 2.0

    t = trace(g, 1.0)
    assert [(r.operation, r.derivative) for r in t.rows[1:]] == [("sin", 0.0), ("multiply", 1.0)]


def test_forward_takes_several_outputs():
    t = trace(lambda x: {"a": x * x, "b": np.sin(x)}, 0.5, mode="forward")
    assert t.value == {"a": 0.25, "b": np.sin(0.5)}
    assert t.gradient == {"a": 1.0, "b": np.cos(0.5)}
    assert [line[0] for line in columns(t)[-2:]] == ["y₁", "y₂"]


def test_gradients_inside_are_shown():
    t = trace(lambda x: grad(lambda y: y * y * y)(x), 2.0)
    assert (t.value, t.gradient) == (12.0, 12.0)


def test_html():
    t = trace(lambda x: x * 2.0, np.array(1.0))
    page = t._repr_html_()
    assert page.count("<tr>") == 4
    assert "<th>adjoint</th>" in page
    assert "<td>v₀ * 2</td>" in page
    assert "&lt;" in trace(lambda p: p["<"] * 1.0, {"<": 1.0})._repr_html_()


def test_dot():
    t = trace(lambda a, b: a * b, 2.0, 3.0)
    text = t.to_dot()
    assert text.startswith("digraph trace {")
    assert text.endswith("}")
    assert '  n0 [label="v₋₁ = a\\n2\\nadjoint 3", shape=box];' in text.splitlines()
    assert "  n1 -> n2;" in text.splitlines()
    assert r"p[\"]" not in text
    quoted = trace(lambda p: p['"'] * 1.0, {'"': 1.0}).to_dot()
    assert r"p['\"']" in quoted


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    t = trace(lambda a, b: np.log(a) + a * b - np.sin(b), 2.0, 5.0)
    ax = t.plot()
    labels = [text.get_text() for text in ax.texts if text.get_text()]
    assert len(labels) == len(t.nodes)
    assert any(label.startswith("v₅ = v₃ - v₄\n11.652") for label in labels)
    places = t._positions()
    assert all(places[a][0] < places[b][0] for a, b in t.edges)
    assert len(set(places.values())) == len(t.nodes)
    _, given = plt.subplots()
    assert t.plot(ax=given) is given
    ax.figure.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"mode": "sideways"}, ValueError, "mode='sideways'"),
        ({"tangents": (1.0,)}, ValueError, "mode='forward'"),
        ({"mode": "forward"}, ValueError, "needs tangents="),
        ({"mode": "forward", "tangents": (1.0,)}, ValueError, "2 entries"),
        ({"mode": "forward", "tangents": (1.0, 1.0)}, ValueError, r"shape \(\)"),
    ],
)
def test_errors(kwargs, error, message):
    with pytest.raises(error, match=message):
        trace(f, *POINT, **kwargs)


def test_reverse_wants_a_scalar():
    with pytest.raises(TypeError, match="scalar value"):
        trace(np.sin, np.ones(2))
