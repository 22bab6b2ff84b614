"""The evaluation trace of a function, as a table and as a graph."""

import html
import inspect
from typing import Any, NamedTuple

import numpy as np

from skdeep.autodiff._trace import Forward, Reverse, Trace, Tracer, shape
from skdeep.autodiff._transforms import _like, _plain, _scalar, as_differentiable
from skdeep.autodiff._tree import flatten, leaves_like

_INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "true_divide": "/",
    "power": "**",
    "matmul": "@",
}
_SPOKEN = {"log": "ln", "negative": "-"}
_SUBSCRIPTS = str.maketrans("-0123456789", "₋₀₁₂₃₄₅₆₇₈₉")


class TraceRow(NamedTuple):
    """One line of an evaluation trace."""

    #: The variable's name: v₀ and before for the inputs, v₁ and after for what is computed.
    name: str
    #: How it follows from earlier variables, as text.
    expression: str
    #: The primitive's name; "input" for an input.
    operation: str
    #: The names of the variables that it was computed from.
    inputs: tuple
    #: Its value.
    value: Any
    #: Its adjoint (reverse mode: the derivative of the result by it), or its tangent (forward
    #: mode: its own derivative along the direction).
    derivative: Any


class EvaluationTrace:
    """The evaluation trace of a function at a point; `trace` makes it.

    Parameters
    ----------
    rows : list of TraceRow
        The lines, the inputs first.
    value : array or tree of arrays
        The function's value.
    gradient : array or tree of arrays
        The derivative (see `trace`).
    mode : {"reverse", "forward"}
        Whether the rows carry adjoints or tangents.
    results : list of str
        The names of the variables that the function returned, or its constants.

    Attributes
    ----------
    nodes : list of str
        The names of the variables.
    edges : list of (str, str)
        The pairs (variable, variable computed from it).

    Examples
    --------
    >>> from skdeep.autodiff import trace
    >>> t = trace(lambda x: x * x + x, 3.0)
    >>> print(t)
     v  expression  value  adjoint
    v₀  x               3        7
    v₁  v₀ * v₀         9        1
    v₂  v₁ + v₀        12        1
     y  v₂             12        1
    >>> t.edges
    [('v₀', 'v₁'), ('v₁', 'v₂'), ('v₀', 'v₂')]
    """

    def __init__(self, rows, value, gradient, mode, results):
        self.rows, self.value, self.gradient = rows, value, gradient
        self.mode, self.results = mode, results

    @property
    def nodes(self):
        """The names of the variables, in order of evaluation."""
        return [r.name for r in self.rows]

    @property
    def edges(self):
        """The pairs (variable, variable computed from it), each once."""
        return [(i, r.name) for r in self.rows for i in dict.fromkeys(r.inputs)]

    @property
    def _header(self):
        return ("v", "expression", "value", "adjoint" if self.mode == "reverse" else "tangent")

    def _table(self):
        """Return the table's cells as text."""
        table = [(r.name, r.expression, _short(r.value), _short(r.derivative)) for r in self.rows]
        known = {r.name: cells[2:] for r, cells in zip(self.rows, table, strict=True)}
        for i, name in enumerate(self.results):
            y = "y" if len(self.results) == 1 else f"y{i + 1}".translate(_SUBSCRIPTS)
            table.append((y, name, *known.get(name, (name, "0"))))
        return table

    def __str__(self):
        table = [self._header, *self._table()]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        v, e, x, d = widths
        lines = [f"{a:>{v}}  {b:<{e}}  {c:>{x}}  {g:>{d}}" for a, b, c, g in table]
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self):
        return f"<EvaluationTrace of {len(self.rows)} variables, {self.mode} mode>"

    def _repr_html_(self):
        def line(cells, tag):
            return "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells)

        body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in self._table())
        head = line(self._header, "th")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _labels(self):
        """Return what stands in each node of the graph."""
        kind = self._header[-1]
        return [
            f"{r.name} = {r.expression}\n{_short(r.value)}\n{kind} {_short(r.derivative)}"
            for r in self.rows
        ]

    def to_dot(self):
        """Return the graph in Graphviz's language.

        Returns
        -------
        str
            A digraph from left to right.

        Examples
        --------
        >>> from skdeep.autodiff import trace
        >>> print(trace(lambda x: x * x, 3.0).to_dot())
        digraph trace {
          rankdir=LR;
          n0 [label="v₀ = x\\n3\\nadjoint 6", shape=box];
          n1 [label="v₁ = v₀ * v₀\\n9\\nadjoint 1"];
          n0 -> n1;
        }
        """
        number = {name: i for i, name in enumerate(self.nodes)}
        lines = ["digraph trace {", "  rankdir=LR;"]
        for i, (row, label) in enumerate(zip(self.rows, self._labels(), strict=True)):
            text = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            box = ", shape=box" if row.operation == "input" else ""
            lines.append(f'  n{i} [label="{text}"{box}];')
        lines += [f"  n{number[a]} -> n{number[b]};" for a, b in self.edges]
        return "\n".join([*lines, "}"])

    def _positions(self):
        """Return a place per variable: its longest path from an input, and its rank there."""
        depth, layers = {}, {}
        for row in self.rows:
            depth[row.name] = 1 + max((depth[i] for i in row.inputs), default=-1)
            layers.setdefault(depth[row.name], []).append(row.name)
        return {
            name: (x, (len(layer) - 1) / 2 - k)
            for x, layer in layers.items()
            for k, name in enumerate(layer)
        }

    def plot(self, ax=None):
        """Draw the graph from left to right.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        matplotlib.axes.Axes
        """
        places = self._positions()
        if ax is None:
            import matplotlib.pyplot as plt

            columns = 1 + max(x for x, _ in places.values())
            rows = 1 + 2 * max(y for _, y in places.values())
            _, ax = plt.subplots(figsize=(1.8 * columns + 0.6, 1.1 * rows + 0.6))
        boxes = {}
        for row, label in zip(self.rows, self._labels(), strict=True):
            face = "#e8f0fa" if row.operation == "input" else "white"
            boxes[row.name] = ax.text(
                *places[row.name],
                label,
                ha="center",
                va="center",
                fontsize="small",
                bbox={"boxstyle": "round", "facecolor": face, "edgecolor": "0.4"},
            ).get_bbox_patch()
        for a, b in self.edges:
            # An edge that skips a layer is bent, so that it passes beside what stands there.
            bend = 0.25 if places[b][0] - places[a][0] > 1 else 0.0
            arrow = {
                "arrowstyle": "->",
                "color": "0.5",
                "patchA": boxes[a],
                "patchB": boxes[b],
                "connectionstyle": f"arc3,rad={bend}",
            }
            ax.annotate("", xy=places[b], xytext=places[a], arrowprops=arrow)
        xs, ys = zip(*places.values(), strict=True)
        ax.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.6, max(ys) + 0.6))
        ax.set_axis_off()
        return ax


def trace(f, *x, mode="reverse", tangents=None):
    """Evaluate a function and show how its value and derivative come about.

    Parameters
    ----------
    f : callable
        A function of numbers, arrays or trees of arrays, in plain NumPy.
    *x : number, array or tree
        The point, one entry per argument.
    mode : {"reverse", "forward"}, default="reverse"
        Whether each variable is shown with its adjoint (the derivative of the result by it) or
        its tangent (its own derivative along `tangents`).
    tangents : tuple, default=None
        The direction in forward mode, one entry per argument, with the shapes of `x`. A single
        number has the direction 1 if None.

    Returns
    -------
    EvaluationTrace
        With `rows`, `value` and `gradient`: in reverse mode the adjoint of the argument, or a
        tuple of them where there are several; in forward mode the derivative of the value along
        the direction. It prints as a table and draws itself as a graph (`plot`, `to_dot`).

    Raises
    ------
    ValueError
        If `mode` is unknown, or `tangents` are missing, not wanted, or of another shape.
    TypeError
        If the value is not a scalar in reverse mode.

    References
    ----------
    Griewank and Walther, *Evaluating Derivatives*, 2nd edition (SIAM, 2008), chapters 2 and 3;
    the example is that of Baydin et al., "Automatic differentiation in machine learning: a
    survey", JMLR 18 (2018), tables 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import trace
    >>> print(trace(lambda x1, x2: np.log(x1) + x1 * x2 - np.sin(x2), 2.0, 5.0))
      v  expression     value  adjoint
    v₋₁  x1                 2      5.5
     v₀  x2                 5   1.7163
     v₁  ln v₋₁       0.69315        1
     v₂  v₋₁ * v₀          10        1
     v₃  v₁ + v₂       10.693        1
     v₄  sin v₀      -0.95892       -1
     v₅  v₃ - v₄       11.652        1
      y  v₅            11.652        1
    """
    if mode not in ("reverse", "forward"):
        raise ValueError(f"mode={mode!r} must be 'reverse' or 'forward'")
    leaves, build = flatten(x)
    leaves = [as_differentiable(a) for a in leaves]
    names = _input_names(f, x)
    if mode == "reverse":
        if tangents is not None:
            raise ValueError("tangents belong to mode='forward'")
        watch = _ReverseWatch()
        boxed = [watch.new(a) for a in leaves]
    else:
        watch = _ForwardWatch()
        directions = _directions(tangents, x, leaves)
        boxed = [Tracer(a, watch, t) for a, t in zip(leaves, directions, strict=True)]
    watch.inputs(boxed, names)
    out = f(*build(boxed))
    outs, rebuild = flatten(out)
    value = rebuild([_plain(o.value) if watch.own(o) else o for o in outs])
    if mode == "reverse":
        derivatives = watch.adjoints(_scalar(out))
        gradient = build([_plain(d) for d in derivatives[: len(leaves)]])
        gradient = gradient if len(gradient) > 1 else gradient[0]
    else:
        derivatives = [t.node for t in watch.tracers]
        gradient = rebuild(
            [_plain(o.node) if watch.own(o) else np.zeros(shape(o))[()] for o in outs]
        )
    rows = [
        row._replace(value=_plain(t.value), derivative=_plain(d))
        for row, t, d in zip(watch.rows, watch.tracers, derivatives, strict=True)
    ]
    return EvaluationTrace(rows, value, gradient, mode, [watch.text(o) for o in outs])


def _directions(tangents, x, leaves):
    """Return the tangent of each input; zero for a part that is None."""
    if tangents is None:
        if [shape(a) for a in leaves] != [()]:
            raise ValueError("mode='forward' needs tangents=, one entry per argument")
        tangents = (1.0,)
    return [
        np.zeros_like(a) if t is None else _like(t, a, "tangent")
        for t, a in zip(leaves_like(tuple(tangents), x), leaves, strict=True)
    ]


def _input_names(f, x):
    """Return a name per input: the parameter's in `f`, with a path where it is a tree."""
    try:
        names = [
            p.name
            for p in inspect.signature(f).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # a ufunc or a builtin
        names = []
    names += [f"x{i + 1}" for i in range(len(names), len(x))]
    return [path for name, tree in zip(names, x, strict=False) for path in _paths(name, tree)]


def _paths(name, tree):
    if isinstance(tree, dict):
        return [p for k, v in tree.items() for p in _paths(f"{name}[{k!r}]", v)]
    if isinstance(tree, list | tuple):
        return [p for i, v in enumerate(tree) for p in _paths(f"{name}[{i}]", v)]
    return [name]


class _Watch(Trace):
    """What the two interpreters share: a row per variable."""

    def inputs(self, boxed, names):
        """Begin with the inputs, whose numbers end at 0."""
        self.rows, self.tracers, self.names = [], [], {}
        self.first = 1 - len(boxed)
        for t, name in zip(boxed, names, strict=True):
            self.add(t, name, "input", ())

    def add(self, tracer, expression, operation, inputs):
        """Append a variable; its value and derivative are filled in at the end."""
        name = f"v{self.first + len(self.rows)}".translate(_SUBSCRIPTS)
        self.rows.append(TraceRow(name, expression, operation, inputs, None, None))
        self.tracers.append(tracer)  # alive, so that its id stays its own
        self.names[id(tracer)] = name

    def process(self, p, args, kw):
        """Evaluate a primitive, and write down its outputs."""
        out = super().process(p, args, kw)
        inputs = tuple(self.names[id(a)] for a in args if self.own(a))
        outs = out if type(out) is tuple else (out,)
        for i, o in enumerate(outs):
            if self.own(o):
                expression = _expression(p.name, [self.text(a) for a in args], kw)
                part = f"[{i}]" if type(out) is tuple else ""
                self.add(o, expression + part, p.name, inputs)
        return out

    def text(self, a):
        """Return a variable's name, or a constant as a literal."""
        return self.names[id(a)] if self.own(a) else _short(a)


class _ForwardWatch(_Watch, Forward):
    """Forward mode that writes down every variable."""


class _ReverseWatch(_Watch, Reverse):
    """Reverse mode that writes down every variable."""

    def adjoints(self, out):
        """Return the derivative of a scalar by every variable."""
        kept = _Kept()
        if self.own(out):
            kept[out.node] = np.ones((), out.dtype)
        self.pull(kept)
        zero = lambda t: np.zeros(t.shape, t.dtype)  # noqa: E731
        return [kept[t.node] if t.node in kept else zero(t) for t in self.tracers]


class _Kept(dict):
    """Cotangents that stay when the tape consumes them."""

    def pop(self, key, default=None):
        return self.get(key, default)


def _expression(name, args, kw):
    """Return a primitive's call as a formula."""
    if not kw and len(args) == 2 and name in _INFIX:
        return f"{args[0]} {_INFIX[name]} {args[1]}"
    if not kw and len(args) == 1:
        word = _SPOKEN.get(name, name)
        return f"{word}{args[0]}" if word == "-" else f"{word} {args[0]}"
    if name == "index" and set(kw) == {"key"}:
        key = kw["key"] if type(kw["key"]) is tuple else (kw["key"],)
        return f"{args[0]}[{', '.join(map(_index, key))}]"
    return f"{name}({', '.join([*args, *(f'{k}={_static(v)}' for k, v in kw.items())])})"


def _index(k):
    if isinstance(k, slice):
        ends = ["" if e is None else str(e) for e in (k.start, k.stop, k.step)]
        return ":".join(ends if ends[2] else ends[:2])
    return "..." if k is Ellipsis else _static(k)


def _static(v):
    if isinstance(v, np.ndarray | np.generic | float):
        return _short(v)
    return getattr(v, "__name__", None) or str(v)


def _short(x):
    """Return a number or an array as a few characters."""
    if not hasattr(x, "dtype") and not isinstance(x, int | float):
        return str(x)
    x = np.asarray(x)
    number = (lambda v: f"{v:.5g}") if x.dtype.kind == "f" else str
    if x.ndim == 0:
        return number(x[()])
    few = ", ".join(number(v) for v in x.reshape(-1)[:4])
    if x.ndim == 1 and x.size <= 4:
        return f"[{few}]"
    return f"{'x'.join(map(str, x.shape))}: {few}{', ...' if x.size > 4 else ''}"
