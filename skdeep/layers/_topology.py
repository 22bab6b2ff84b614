"""The graph of layers: its order, its shapes, where its arrays stand. No array is made here."""

from dataclasses import dataclass, field, replace

import numpy as np

from skdeep.layers._base import Built, Layer
from skdeep.layers._composite import INPUT, Auxiliary, Composite

#: Leaves begin at multiples of this many elements, so that rows and leaves are aligned.
_ALIGN = 16
#: The number of the network's input among the nodes.
SOURCE = -1


@dataclass(frozen=True)
class Node:
    """A layer in its place.

    Parameters
    ----------
    name : str
        Its name; a layer inside a composite one has the composite's name and a dot before it.
    layer : Layer
        The specification.
    inputs : tuple of int
        The numbers of the nodes it reads; -1 is the network's input.
    input_shapes : tuple of tuple
        The shapes of a sample of each.
    built : Built
        What the layer needs.
    head : float
        The weight of the loss of what it computes, where it is the end of an auxiliary head;
        0 otherwise.
    """

    name: str
    layer: Layer
    inputs: tuple
    input_shapes: tuple
    built: Built
    head: float = 0.0

    @property
    def output_shape(self):
        """The shape of a sample of what it computes."""
        return self.built.output_shape

    def compute(self, params, state, values, context):
        """Apply the layer to the values of the nodes before it."""
        inputs = [values[i] for i in self.inputs]
        x = inputs if self.layer.merges else inputs[0]
        return self.layer.apply(params, state, x, context)


@dataclass
class _Entry:
    """A layer as it was given: its name and the names that it reads (None: the one before)."""

    name: str
    layer: Layer
    inputs: tuple = ()


def _parsed(layers):
    """Return the entries of a list of (name, layer) and (name, layer, inputs)."""
    if isinstance(layers, str) or not hasattr(layers, "__iter__"):
        raise ValueError(
            f"layers={layers!r} must be a list of (name, layer) or (name, layer, inputs)"
        )
    entries, before = [], INPUT
    for item in layers:
        check_entry(item)
        name, layer = item[:2]
        if name in {e.name for e in entries}:
            raise ValueError(f"layers has two layers of the name {name!r}; give each its own")
        entries.append(_Entry(name, layer, _inputs(name, item[2]) if item[2:] else (before,)))
        if not isinstance(layer, Auxiliary):
            before = name
    if not entries:
        raise ValueError("layers is empty; give at least one layer")
    return entries


def _inputs(name, given):
    """Return the names that a layer is said to read."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"layer {name!r} is to read {given!r}; it must be a layer's name or a list of names"
        )
    return tuple(names)


def check_entry(item):
    """Check that something is (name, layer) or (name, layer, inputs)."""
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise ValueError(
            f"layers holds {item!r}; each entry is (name, layer) or (name, layer, inputs)"
        )
    name, layer = item[:2]
    if not isinstance(name, str) or not name or "__" in name or name == INPUT:
        raise ValueError(
            f"layers has the name {name!r}; a name is a string that is not empty, has no '__', "
            f"and is not {INPUT!r}"
        )
    if not isinstance(layer, Layer):
        raise ValueError(
            f"layers has {layer!r} under the name {name!r}; it must be a layer, such as "
            "skdeep.layers.Dense(10)"
        )


def _ordered(entries):
    """Return the entries such that each comes after what it reads, else as they were given."""
    by_name = {e.name: e for e in entries}
    for e in entries:
        for name in e.inputs:
            if name != INPUT and name not in by_name:
                raise ValueError(
                    f"layer {e.name!r} reads {name!r}, but there is no layer of that name; "
                    f"there are {[INPUT, *by_name]}"
                )
    done, order = {INPUT}, []
    waiting = list(entries)
    while waiting:
        ready = next((e for e in waiting if done.issuperset(e.inputs)), None)
        if ready is None:
            raise ValueError(
                f"the layers {[e.name for e in waiting]} form a cycle: each waits for another's "
                "output; a network's layers must lead from its input to its output"
            )
        waiting.remove(ready)
        done.add(ready.name)
        order.append(ready)
    return order


def _check_used(entries):
    """Raise where a layer's output goes nowhere: it would be left untrained, silently."""
    used = {name for e in entries for name in e.inputs}
    for e in entries[:-1]:
        if e.name not in used and not isinstance(e.layer, Auxiliary):
            raise ValueError(
                f"layer {e.name!r} is read by no other and is not the last; connect it, or leave "
                "it out"
            )
    if isinstance(entries[-1].layer, Auxiliary):
        raise ValueError("the last layer is an auxiliary head; the network's own output is last")


class _Builder:
    """Adds layers one by one, composite ones piece by piece."""

    def __init__(self, input_shape):
        self.input_shape, self.nodes = tuple(input_shape), []

    def shape(self, i):
        return self.input_shape if i == SOURCE else self.nodes[i].output_shape

    def add(self, name, layer, inputs, head=0.0):
        """Add a layer that reads some nodes; return the number of the node that it ends in."""
        shapes = [self.shape(i) for i in inputs]
        try:
            layer.validate()
            self._check_inputs(layer, shapes)
            if isinstance(layer, Composite):
                pieces = _parsed(layer.expand(shapes[0]))
            else:
                built = layer.build(shapes if layer.merges else shapes[0])
        except ValueError as e:
            raise ValueError(f"layer {name!r}: {e} (shapes so far: {self.so_far()})") from e
        if not isinstance(layer, Composite):
            self.nodes.append(Node(name, layer, tuple(inputs), tuple(shapes), built, head))
            return len(self.nodes) - 1
        places = {INPUT: inputs[0]}
        pieces = _ordered(pieces)
        _check_used(pieces)
        for piece in pieces:
            read = [places[i] for i in piece.inputs]
            places[piece.name] = self.add(f"{name}.{piece.name}", piece.layer, read)
        end = places[pieces[-1].name]
        if isinstance(layer, Auxiliary):
            self.nodes[end] = replace(self.nodes[end], head=layer.weight)
        return end

    def so_far(self):
        """Return the shapes of the layers that stand."""
        return " -> ".join(map(str, [self.input_shape, *(n.output_shape for n in self.nodes)]))

    @staticmethod
    def _check_inputs(layer, shapes):
        if layer.merges and len(shapes) < 2:
            raise ValueError(
                f"{type(layer).__name__} merges at least two inputs, but reads one; name them: "
                '("sum", Add(), ["first", "second"])'
            )
        if not layer.merges and len(shapes) != 1:
            raise ValueError(
                f"{type(layer).__name__} reads one input, but {len(shapes)} are named; merge them "
                "first by Add or Concatenate"
            )


def resolve(layers, input_shape):
    """Return the nodes of a stack or graph of layers in the order of computation.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, str or list of str)
        The layers. One without inputs reads the one before it (the first the network's input,
        which is called "input"; an auxiliary head is passed over).
    input_shape : tuple of int
        The shape of one sample.

    Returns
    -------
    list of Node

    Raises
    ------
    ValueError
        If a name is missing, taken or unknown, the layers form a cycle, one leads nowhere, or
        a layer does not take the shape that it gets.
    """
    entries = _parsed(layers)
    order = _ordered(entries)
    _check_used(entries)
    builder = _Builder(input_shape)
    places = {INPUT: SOURCE}
    for e in order:
        places[e.name] = builder.add(e.name, e.layer, [places[i] for i in e.inputs])
    end = places[entries[-1].name]
    nodes = builder.nodes
    # The output is the last node, whatever the order in which the layers were given.
    return nodes if end == len(nodes) - 1 else _moved_last(nodes, end)


def _moved_last(nodes, end):
    """Return the nodes with one that nobody reads moved to the end."""
    new = {i: i - (i > end) for i in range(len(nodes))} | {end: len(nodes) - 1, SOURCE: SOURCE}
    moved = [replace(n, inputs=tuple(new[i] for i in n.inputs)) for n in nodes]
    return [*moved[:end], *moved[end + 1 :], moved[end]]


def _up(n):
    return -(-n // _ALIGN) * _ALIGN


@dataclass
class Layout:
    """Where named arrays stand in one row of a buffer.

    Parameters
    ----------
    places : list of dict of str to (int, tuple)
        For each layer, the start and the shape of each array.
    size : int
        The length of a row.
    """

    places: list = field(default_factory=list)
    size: int = 0

    def add(self, shapes):
        """Add one layer's arrays."""
        places = {}
        for name, shape in shapes.items():
            places[name] = (self.size, tuple(shape))
            self.size = _up(self.size + int(np.prod(shape)))
        self.places.append(places)

    def views(self, data):
        """Return the named views of a buffer of shape (M, size), one dict per layer."""

        def view(at, shape):
            return data[:, at : at + int(np.prod(shape))].reshape(len(data), *shape)

        return [{k: view(*place) for k, place in layer.items()} for layer in self.places]


class Topology:
    """A stack or graph of layers for samples of one shape.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, inputs)
        The layers, as in `resolve`.
    input_shape : tuple of int
        The shape of one sample.

    Attributes
    ----------
    nodes : list of Node
        The layers in the order of computation, composite ones taken apart.
    layers : list of (str, Layer)
        Their names and specifications.
    shapes : list of tuple
        The shapes of a sample: of the input, and of each node's output.
    n_parameters : int
        The number of trained numbers of one net.
    segments : ndarray of int64 of shape (n_leaves, 3)
        Start and stop of each leaf in a row, and whether it is penalised.
    columns : ndarray of int64 of shape (n_penalised, 3)
        Start, fan-in and units of each penalised leaf, for max-norm.
    heads : list of (int, float)
        The numbers of the nodes that end auxiliary heads, and the weights of their losses.
    """

    def __init__(self, layers, input_shape):
        self.nodes = resolve(layers, input_shape)
        self.layers = [(n.name, n.layer) for n in self.nodes]
        self.built = [n.built for n in self.nodes]
        self.shapes = [tuple(input_shape), *(n.output_shape for n in self.nodes)]
        self.heads = [(i, n.head) for i, n in enumerate(self.nodes) if n.head]
        self._inference = self._ancestors(len(self.nodes) - 1)
        self._readers = {training: self._read_by(training) for training in (False, True)}
        self._lay_out()

    def _lay_out(self):
        self.parameter_layout, self.state_layout = Layout(), Layout()
        for built in self.built:
            self.parameter_layout.add({k: p.shape for k, p in built.parameters.items()})
            self.state_layout.add({k: shape for k, (shape, _) in built.state.items()})
        segments, columns, self.n_parameters = [], [], 0
        for built, places in zip(self.built, self.parameter_layout.places, strict=True):
            for name, p in built.parameters.items():
                at, size = places[name][0], int(np.prod(p.shape))
                segments.append((at, at + size, int(p.penalised)))
                if p.penalised:
                    columns.append((at, size // p.shape[-1], p.shape[-1]))
                self.n_parameters += size
        self.segments = np.array(segments, np.int64).reshape(-1, 3)
        self.columns = np.array(columns, np.int64).reshape(-1, 3)

    def _ancestors(self, end):
        """Return the numbers of the nodes that a node needs, itself last."""
        needed, waiting = set(), [end]
        while waiting:
            i = waiting.pop()
            if i != SOURCE and i not in needed:
                needed.add(i)
                waiting += self.nodes[i].inputs
        return sorted(needed)

    def wanted(self, training):
        """Return the numbers of the nodes that a pass computes: auxiliary heads in training."""
        return list(range(len(self.nodes))) if training else self._inference

    def _read_by(self, training):
        """Return which nodes read each node."""
        readers = {}
        for j in self.wanted(training):
            for i in set(self.nodes[j].inputs):
                readers.setdefault(i, []).append(j)
        return readers

    def sole_reader(self, i, training=False):
        """Return the one node that reads a node; None where there are several, or none."""
        readers = self._readers[training].get(i, ())
        return readers[0] if len(readers) == 1 else None

    @property
    def is_stack(self):
        """Whether each layer reads the one before it."""
        return all(n.inputs == (i - 1,) for i, n in enumerate(self.nodes))

    def cuts(self):
        """Return the nodes after which no earlier one is read any more: where one value lives."""
        last = {}
        for i, n in enumerate(self.nodes):
            last.update(dict.fromkeys(n.inputs, i))
        cuts, open_until = [], last.get(SOURCE, 0)
        for i in range(len(self.nodes)):
            if open_until <= i and last.get(i, i + 1) > i:
                cuts.append(i)
            open_until = max(open_until, last.get(i, i))
        return cuts

    def split(self, segments):
        """Return the nodes of `cuts` that cut the network into segments of about equal size.

        The size of a segment is that of the outputs in it.
        """
        if segments <= 1:
            return []
        sizes = np.cumsum([int(np.prod(n.output_shape)) for n in self.nodes])
        cuts = self.cuts()[:-1]
        wanted = [sizes[-1] * (i + 1) / segments for i in range(segments - 1)]
        return sorted({min(cuts, key=lambda c: abs(sizes[c] - w)) for w in wanted}) if cuts else []
