"""Seeds and streams on the host."""

import numpy as np
import pytest

from skdeep._random import generator, member_seeds, permutation


def test_seeds_are_int64_and_a_prefix_of_more():
    seeds = member_seeds(3, 1000)
    assert seeds.dtype == np.int64
    assert (seeds >= 0).all()
    assert len(set(seeds.tolist())) == 1000
    assert (member_seeds(3, 7) == seeds[:7]).all()
    assert (member_seeds(4, 1000) != seeds).all()


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_seeds_advance_a_generator(make):
    state = make(0)
    first, second = member_seeds(state, 4), member_seeds(state, 4)
    assert (first == member_seeds(make(0), 4)).all()
    assert (first != second).all()


def test_seeds_from_the_global_state():
    legacy = np.random.mtrand._rand  # what random_state=None means in scikit-learn
    saved = legacy.get_state()
    try:
        legacy.seed(5)
        assert (member_seeds(None, 3) == member_seeds(5, 3)).all()
    finally:
        legacy.set_state(saved)


def test_seeds_refuse_what_cannot_seed():
    with pytest.raises(ValueError, match="cannot be used to seed"):
        member_seeds("today", 2)


@pytest.mark.parametrize("n", [0, 1, 2, 1800])
def test_permutation_is_a_pure_function(n):
    order = permutation(-5, 2, n)
    assert order.dtype == np.int64
    assert (np.sort(order) == np.arange(n)).all()
    assert (permutation(-5, 2, n) == order).all()


def test_permutations_differ_between_epochs_and_seeds():
    orders = {permutation(s, e, 50).tobytes() for s in range(4) for e in range(5)}
    assert len(orders) == 20


def test_permutation_is_uniform():
    counts = np.zeros((4, 4))
    for epoch in range(4000):
        counts[np.arange(4), permutation(1, epoch, 4)] += 1
    # Each cell is binomial(4000, 1/4): five standard deviations are 137.
    assert np.abs(counts - 1000).max() < 137


def test_streams_are_independent():
    draws = [generator(9, stream, epoch).random(1000) for stream in range(3) for epoch in range(2)]
    correlation = np.corrcoef(draws)[~np.eye(6, dtype=bool)]
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)
    assert (generator(9, 1, 1).random(1000) == draws[3]).all()


@pytest.mark.parametrize("arguments", [(0, -1), (0, 0, -1)])
def test_generator_refuses_negative_numbers(arguments):
    with pytest.raises(ValueError, match="must be 0 or more"):
        generator(*arguments)


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**63 - 1])
def test_every_int64_is_a_seed(seed):
    assert generator(seed).random() != generator(0).random()
