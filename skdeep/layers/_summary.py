"""What a network costs before it is made: shapes, parameters, operations, memory."""

from dataclasses import dataclass
from html import escape

import numpy as np

from skdeep.autodiff._program import arena_size
from skdeep.autodiff._trace import Unrecordable
from skdeep.autodiff._transforms import vjp
from skdeep.layers._network import Network
from skdeep.layers._topology import SOURCE, Topology

_MB = 1e6


@dataclass(frozen=True)
class Row:
    """One layer of a summary.

    Parameters
    ----------
    name, kind : str
        The layer's name and class.
    output_shape : tuple of int
        The shape of a sample of its output.
    n_parameters : int
        Its trained numbers.
    multiply_adds : int
        The multiplications of a sample's forward pass.
    reads : tuple of str
        The layers that it reads, where they are not the one before it.
    """

    name: str
    kind: str
    output_shape: tuple
    n_parameters: int
    multiply_adds: int
    reads: tuple


class Summary:
    """The table of a network's layers; printed, it is text, and HTML in a notebook.

    Attributes
    ----------
    rows : list of Row
        The layers.
    input_shape : tuple of int
        The shape of a sample.
    n_parameters : int
        All trained numbers.
    multiply_adds : int
        The multiplications of a sample's forward pass.
    output_bytes : int
        The memory of all layers' outputs for one sample.
    batch_size : int or None
        The samples of a step.
    training_bytes : int or None
        The memory of training with that batch size: parameters, gradients, the optimiser's state,
        the best weights so far, and what a step keeps and computes with; the data set apart.
    """

    def __init__(self, rows, input_shape, dtype, batch_size, training_bytes):
        self.rows, self.input_shape, self.dtype = rows, input_shape, np.dtype(dtype)
        self.n_parameters = sum(r.n_parameters for r in rows)
        self.multiply_adds = sum(r.multiply_adds for r in rows)
        cells = sum(int(np.prod(r.output_shape)) for r in rows)
        self.output_bytes = cells * self.dtype.itemsize
        self.batch_size, self.training_bytes = batch_size, training_bytes

    def _table(self):
        head = ["layer", "kind", "output", "parameters", "multiply-adds", "output MB", "reads"]
        body = [["input", "", _shape(self.input_shape), "", "", "", ""]]
        for r in self.rows:
            size = int(np.prod(r.output_shape)) * self.dtype.itemsize / _MB
            numbers = [f"{r.n_parameters:,}", f"{r.multiply_adds:,}", f"{size:.3f}"]
            body.append([r.name, r.kind, _shape(r.output_shape), *numbers, ", ".join(r.reads)])
        return head, body

    def _footer(self):
        lines = [
            f"{self.n_parameters:,} parameters, {self.multiply_adds:,} multiply-adds and "
            f"{self.output_bytes / _MB:,.1f} MB of outputs a sample"
        ]
        if self.training_bytes is not None:
            lines.append(
                f"training with {self.batch_size} samples a step takes "
                f"{self.training_bytes / _MB:,.1f} MB beside the data"
            )
        return lines

    def __repr__(self):
        head, body = self._table()
        widths = [max(len(row[j]) for row in [head, *body]) for j in range(len(head))]
        left = {0, 1, 2, 6}

        def line(cells):
            padded = [
                c.ljust(w) if j in left else c.rjust(w)
                for j, (c, w) in enumerate(zip(cells, widths, strict=True))
            ]
            return "  ".join(padded).rstrip()

        rule = "-" * len(line(["-" * w for w in widths]))
        return "\n".join([line(head), rule, *map(line, body), rule, *self._footer()])

    def _repr_html_(self):
        def row(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

        head, body = self._table()
        rows = row(head, "th") + "".join(row(cells, "td") for cells in body)
        return f"<table>{rows}</table><p>{'<br>'.join(map(escape, self._footer()))}</p>"


def _shape(shape):
    return "x".join(map(str, shape))


def summary(
    layers,
    input_shape,
    *,
    batch_size=None,
    dtype="float32",
    slots=2,
    segments=1,
    storage=None,
    parts=1,
    threads=1,
):
    """Return the table of a network's layers, before anything is allocated.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, inputs)
        The stack or graph of layers, or an architecture.
    input_shape : tuple of int
        The shape of one sample.
    batch_size : int, default=None
        Samples per step; with it, the memory of training is reckoned: a training step is planned
        on shapes alone.
    dtype : {"float32", "float64"}, default="float32"
        What the network computes in.
    slots : int, default=2
        Numbers that the optimiser keeps for each parameter: 2 for Adam, 1 for momentum.
    segments : int, default=1
        Segments of which activations are computed again (`checkpoint_activations`).
    storage : {None, "bfloat16"}, default=None
        What activations are kept in (`activation_storage`).
    parts : int, default=1
        Parts in which a batch goes through the network (`accumulate_steps`).
    threads : int, default=1
        Threads that compute the parts (`n_jobs`): with several, each part has memory of its own.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError
        If the layers do not fit together or the input.

    Examples
    --------
    A 5x5 convolution to 200 maps of 150x100 from RGB:

    >>> from skdeep.layers import Conv2D, summary
    >>> made = summary([("conv", Conv2D(200, 5, padding="same"))], (150, 100, 3))
    >>> made.n_parameters, made.multiply_adds
    (15200, 225000000)
    >>> made.output_bytes / 2**20
    11.444091796875
    """
    topology = Topology(layers, tuple(input_shape))
    names = {SOURCE: "input", **{i: n.name for i, n in enumerate(topology.nodes)}}
    rows = []
    for i, node in enumerate(topology.nodes):
        count = sum(int(np.prod(p.shape)) for p in node.built.parameters.values())
        reads = () if node.inputs == (i - 1,) else tuple(names[j] for j in node.inputs)
        work = node.built.multiply_adds
        rows.append(
            Row(node.name, type(node.layer).__name__, node.output_shape, count, work, reads)
        )
    memory = None
    if batch_size is not None:
        size = -(-batch_size // parts)
        part, numbers, state = _part_bytes(layers, input_shape, size, dtype, segments, storage)
        copies = 3 + slots  # parameters, gradients, the best so far
        lanes = 1 if threads == 1 else parts
        memory = lanes * part + copies * numbers + 2 * state
        if parts > 1:  # gradients and running statistics of a part
            memory += lanes * (numbers + state)
    return Summary(rows, tuple(input_shape), dtype, batch_size, memory)


def _part_bytes(layers, input_shape, batch_size, dtype, segments, storage):
    """Return the bytes of a pass, of the parameters and of what is carried on, by planning a step.

    The arrays made here are never touched: the system gives memory to what is written to alone.
    """
    network = Network(layers, tuple(input_shape), 1, dtype)
    seed, counters = np.zeros(1, np.int64), np.zeros((1, 4), np.int64)
    cuts = network.split(segments)

    def step(params, state, x):
        def forward(params):
            raw, after = network.apply(
                params, state, x, training=True, seed=seed, counters=counters, segments=cuts
            )
            raws = raw if isinstance(raw, list) else [raw]
            return sum(np.sum(r) for r in raws), after

        (value, after), pullback = vjp(forward, params)
        return after, pullback((np.ones_like(value), [dict.fromkeys(s) for s in after]))[0]

    x = np.empty((1, batch_size, *input_shape), dtype)
    into = network.state, network.views(np.empty_like(network.data))
    try:
        arena = arena_size(step, (network.params, network.state, x), into, storage)
    except Unrecordable:
        arena = 2 * batch_size * sum(int(np.prod(s)) for s in network.shapes[1:]) * x.itemsize
    return arena + x.nbytes, network.data.nbytes, network.state_data.nbytes
