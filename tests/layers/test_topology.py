"""Graphs of layers: order, shapes, names, what is refused; and how they compute."""

import numpy as np
import pytest
from sklearn.base import clone

from skdeep.autodiff import grad
from skdeep.layers import Add, Auxiliary, Concatenate, Dense, Dropout, Flatten
from skdeep.layers._composite import Composite
from skdeep.layers._network import Network
from skdeep.layers._topology import Topology


def dense(units=4, **kw):
    return Dense(units, activation="tanh", **kw)


def names(layers, shape=(3,)):
    return [n.name for n in Topology(layers, shape).nodes]


def test_a_stack_reads_the_layer_before():
    topology = Topology([("a", dense(5)), ("b", dense(2))], (3,))
    assert [n.inputs for n in topology.nodes] == [(-1,), (0,)]
    assert topology.shapes == [(3,), (5,), (2,)]
    assert topology.is_stack
    assert topology.n_parameters == 3 * 5 + 5 + 5 * 2 + 2


def test_a_graph_may_be_given_in_any_order():
    layers = [
        ("a", dense()),
        ("sum", Add(), ["c", "b"]),
        ("b", dense(), "a"),
        ("c", dense(), "a"),
        ("end", dense(), "sum"),
    ]
    topology = Topology(layers, (3,))
    order = [n.name for n in topology.nodes]
    assert order[0] == "a"
    assert order[-1] == "end"
    for node in topology.nodes:
        assert all(i < order.index(node.name) for i in node.inputs)
    assert not topology.is_stack


def test_the_last_entry_is_the_output_wherever_it_can_be_computed():
    layers = [("b", dense(2), "a"), ("a", dense(3), "input"), ("out", dense(6), "a")]
    with pytest.raises(ValueError, match="'b' is read by no other"):
        Topology(layers, (3,))
    layers = [("a", dense(3)), ("head", Auxiliary([("o", dense(6))])), ("out", dense(6), "a")]
    topology = Topology(layers, (3,))
    assert topology.nodes[-1].name == "out"
    assert topology.heads == [(1, 0.3)]


class Twice(Composite):
    """Two dense layers and a sum around them."""

    def __init__(self, units=4, inner=None):
        self.units = units
        self.inner = inner

    def expand(self, input_shape):
        first = self.inner or dense(self.units)
        return [("one", first), ("two", dense(self.units)), ("sum", Add(), ["one", "two"])]


def test_composite_layers_are_taken_apart():
    topology = Topology([("in", dense()), ("block", Twice()), ("out", dense(2))], (3,))
    assert [n.name for n in topology.nodes] == ["in", "block.one", "block.two", "block.sum", "out"]
    assert [n.inputs for n in topology.nodes] == [(-1,), (0,), (1,), (1, 2), (3,)]


def test_composite_layers_nest():
    layers = [("block", Twice(inner=Twice()))]
    assert names(layers) == [
        "block.one.one",
        "block.one.two",
        "block.one.sum",
        "block.two",
        "block.sum",
    ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("a", dense(), "b"), ("b", dense(), "a")], r"\['a', 'b'\] form a cycle"),
        ([("a", dense(), "a")], r"\['a'\] form a cycle"),
        ([("a", dense(), "z")], "reads 'z', but there is no layer of that name"),
        ([("a", dense()), ("a", dense())], "two layers of the name 'a'"),
        ([("a", dense()), ("b", dense(), "input")], "'a' is read by no other"),
        ([("input", dense())], "name 'input'"),
        ([("a__b", dense())], "'__'"),
        ([("", dense())], "not empty"),
        ([("a", 3)], "3 under the name 'a'"),
        ([("a",)], "each entry is"),
        ([], "layers is empty"),
        ("ab", "must be a list"),
        (None, "must be a list"),
        ([("a", dense()), ("s", Add(), ["a"])], "layer 's': Add merges at least two"),
        ([("a", dense()), ("s", dense(), ["a", "input"])], "Dense reads one input, but 2"),
        ([("a", dense(4)), ("s", Add(), ["a", "input"])], "inputs of one shape"),
        ([("a", Dense(0))], "layer 'a': The 'units' parameter"),
        ([("a", dense()), ("h", Auxiliary([("o", dense())]))], "own output is last"),
        ([("a", dense()), ("b", Twice(inner=Dense(3)))], r"\(shapes so far: \(3,\) -> \(4,\)"),
    ],
)
def test_refuses(layers, message):
    with pytest.raises(ValueError, match=message):
        Topology(layers, (3,))


def test_an_error_in_a_composite_layer_says_where():
    with pytest.raises(ValueError, match=r"^layer 'block.sum': Add takes inputs"):
        Topology([("block", Twice(inner=Dense(3)))], (3,))


def test_concatenate():
    topology = Topology([("a", dense(5)), ("c", Concatenate(), ["a", "input"])], (3,))
    assert topology.shapes[-1] == (8,)
    with pytest.raises(ValueError, match="differ in axis -1 alone"):
        Concatenate().build([(4, 3), (5, 3)])
    with pytest.raises(ValueError, match="axis=-3 is not an axis"):
        Concatenate(axis=-3).build([(4, 3), (5, 3)])


# ---- computing --------------------------------------------------------------------------------

GRAPH = [
    ("a", dense(5)),
    ("block", Twice(5)),
    ("drop", Dropout(0.3)),
    ("side", dense(2), "a"),
    ("both", Concatenate(), ["drop", "side"]),
    ("out", Dense(2)),
]


def made(layers=GRAPH, shape=(3,), members=2):
    network = Network(layers, shape, members, np.float64)
    rng = np.random.default_rng(0)
    for m in range(members):
        network.initialize(rng, m)
    return network, rng.standard_normal((members, 7, *shape))


def test_a_graph_computes_what_its_layers_say():
    network, x = made()
    p = dict(zip([n.name for n in network.nodes], network.params, strict=True))

    def layer(name, v):
        return np.tanh(v @ p[name]["weight"] + p[name]["bias"][:, None])

    a = layer("a", x)
    one = layer("block.one", a)
    block = one + layer("block.two", one)
    both = np.concatenate([block, layer("side", a)], axis=-1)
    expected = both @ p["out"]["weight"] + p["out"]["bias"][:, None]
    out, _ = network.apply(network.params, network.state, x)
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_partial_passes():
    network, x = made([("a", dense(5)), ("block", Twice(5)), ("out", Dense(2))])
    whole, _ = network.apply(network.params, network.state, x)
    for cut in network.cuts():
        half, _ = network.apply(network.params, network.state, x, upto=cut + 1)
        rest, _ = network.apply(network.params, network.state, half, start=cut + 1)
        np.testing.assert_array_equal(rest, whole)


def test_auxiliary_heads_are_computed_in_training_alone():
    head = Auxiliary([("hidden", dense(4)), ("out", Dense(2))], weight=0.5)
    network, x = made([("a", dense(5)), ("head", head), ("b", dense(4)), ("out", Dense(2))])
    out, _ = network.apply(network.params, network.state, x)
    assert out.shape == (2, 7, 2)
    both, _ = network.apply(network.params, network.state, x, training=True)
    assert [r.shape for r in both] == [(2, 7, 2)] * 2
    np.testing.assert_array_equal(both[0], out)
    assert [network.nodes[i].name for i, _ in network.heads] == ["head.out"]


@pytest.mark.parametrize("segments", [2, 3])
def test_rematerialised_segments_change_no_bit(segments):
    layers = [("a", dense(5)), ("block", Twice(5)), ("drop", Dropout(0.3)), ("b", dense(4))]
    head = Auxiliary([("o", Dense(2))])
    network, x = made([*layers, ("head", head), ("c", dense(4)), ("out", Dense(2))])
    seed, counters = np.arange(2), np.zeros((2, 4), np.int64)

    def loss(params, cuts):
        out, _ = network.apply(
            params,
            network.state,
            x,
            training=True,
            seed=seed,
            counters=counters,
            segments=cuts,
        )
        return sum(np.sum(o * o) for o in out)

    cuts = network.split(segments)
    assert len(cuts) == segments - 1
    plain, again = (grad(lambda p, c=c: loss(p, c))(network.params) for c in ([], cuts))
    for mine, theirs in zip(plain, again, strict=True):
        for k in mine:
            np.testing.assert_array_equal(mine[k], theirs[k])


def test_cuts():
    topology = Topology(GRAPH, (3,))
    # a is read by side, after the block; from the concatenation on one value lives.
    assert [topology.nodes[i].name for i in topology.cuts()] == ["a", "both", "out"]


# ---- parameters by name -----------------------------------------------------------------------


def test_parameters_of_named_layers():
    head = Auxiliary([("first", dense(4)), ("second", Dropout(0.5))])
    assert head.get_params()["first__units"] == 4
    assert head.get_params(deep=False).keys() == {"layers", "weight"}
    head.set_params(first__units=7, second=Flatten(), weight=0.1)
    assert head.layers[0][1].units == 7
    assert isinstance(head.layers[1][1], Flatten)
    copy = clone(head)
    assert copy.layers[0][1] is not head.layers[0][1]
    assert copy.get_params()["first__units"] == 7
    head.set_params(layers=[("x", dense(2))], x__units=3)
    assert head.layers[0][1].units == 3
    with pytest.raises(ValueError, match="Invalid parameter 'first'"):
        head.set_params(first__units=1)
