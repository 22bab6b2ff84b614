"""Copies, gathers and scatters, against NumPy."""

import numpy as np
import pytest

from skdeep._kernels.cuda import move
from skdeep._kernels.cuda.program import Mirror, Twin
from tests.cuda.harness import run_twin
from tests.cuda.outputs import output


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("view", "transposes"),
    [
        (lambda x: x.T, True),
        (lambda x: x[:, ::-1].T, False),
        (lambda x: x[:9, :9].reshape(9, 9).T, True),
        (lambda x: x[None, ::2].transpose(0, 2, 1), True),
        (lambda x: x.reshape(7, 5, 11).transpose(1, 2, 0), False),
        (lambda x: x.reshape(5, 7, 11)[..., :9].transpose(0, 2, 1), False),
        (lambda x: x[3:, 1:], False),
    ],
)
def test_copies_of_any_strides(gpu, view, transposes):
    x = view(numbers(35, 11))
    np.testing.assert_array_equal(output(gpu, move.copy, x.shape, np.float32, x), x)
    mirror = Mirror(gpu)
    (launch,) = move.copy(mirror.of(x), mirror.of(np.zeros(x.shape, np.float32)))
    assert (launch.kernel is move._transpose) == transposes


def test_stacks_are_transposed_to_strided_memory(gpu):
    x, memory = numbers(2, 9, 40), np.zeros((2, 41, 12), np.float32)
    target, expected = memory[:, :40, 2:11], memory.copy()
    expected[:, :40, 2:11] = x.transpose(0, 2, 1)
    run_twin(gpu, Twin(move.copy, "copy"), x.transpose(0, 2, 1), target)
    np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize("target", [np.float32, np.float64, np.int64, np.int32, np.uint8, bool])
@pytest.mark.parametrize("source", [np.float32, np.int64, np.int32, np.uint8, np.uint16, bool])
def test_conversions(gpu, source, target):
    x = (np.arange(15).reshape(3, 5) * np.float32(0.75)).astype(source)
    np.testing.assert_array_equal(output(gpu, move.copy, x.shape, target, x), x.astype(target))


def test_float64_keeps_its_digits(gpu):
    x = np.random.default_rng(0).normal(size=(4, 3))
    copied = output(gpu, move.copy, (3, 4), np.float64, x.T)
    # A pair of float32 holds 48 bits.
    np.testing.assert_allclose(copied, x.T, 2.0**-47)
    whole = np.array([2**40 + 12345, -(2**30) - 1, 0])
    np.testing.assert_array_equal(output(gpu, move.copy, (3,), np.float64, whole), whole)
    single = output(gpu, move.copy, (4, 3), np.float32, x)
    np.testing.assert_array_equal(single, x.astype(np.float32))


def test_joined(gpu):
    parts = [numbers(3, n, 2) for n in (2, 0, 5, 1)]
    f = lambda *a: move.joined(a[:-1], 1, a[-1])  # noqa: E731
    expected = np.concatenate(parts, 1)
    np.testing.assert_array_equal(output(gpu, f, (3, 8, 2), np.float32, *parts), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_gather_clips_what_is_out_of_range(gpu, dtype):
    x = (np.arange(18).reshape(6, 3) % 5).astype(dtype)
    index = np.array([[5, -6, 0], [-1, 7, -9]])  # the last two are out of range

    def f(x, index, out):
        index = index.view((2, 3, 1), (*index.strides, 0))
        return move.gather(x, (0, (0, 0, 1)), index, 6, 3, out)

    expected = x[[[5, 0, 0], [5, 5, 0]]]
    np.testing.assert_array_equal(output(gpu, f, (2, 3, 3), dtype, x, index), expected)


@pytest.mark.parametrize(
    ("width", "start", "vector"), [(8, 0, True), (6, 0, False), (8, 1, False)]
)
def test_aligned_rows_are_gathered_in_vectors(gpu, width, start, vector):
    x, index = numbers(6, width + start)[:, start:], np.array([5, 0, -2])

    def launches(x, index, out):
        index = index.view((3, 1), (*index.strides, 0))
        made = move.gather(x, (0, (0, 1)), index, 6, x.step(0), out)
        assert made[0].kernel.__name__.endswith("vector") == vector
        return made

    out = output(gpu, launches, (3, width), np.float32, x, index)
    np.testing.assert_array_equal(out, x[index])


def test_places_add_up(gpu):
    i, j, base = np.array([[1], [-1]]), np.array([0, -2, 4]), np.array([[100, 200, 300]])
    f = lambda i, j, base, out: move.places([i, j], (4, 5), (5, 1), base, out)  # noqa: E731
    expected = base + (i % 4) * 5 + j % 5
    np.testing.assert_array_equal(output(gpu, f, (2, 3), np.int64, i, j, base), expected)
    f = lambda i, j, out: move.places([i, j], (4, 5), (5, 1), None, out)  # noqa: E731
    expected = (i % 4) * 5 + j % 5
    np.testing.assert_array_equal(output(gpu, f, (2, 3), np.int64, i, j), expected)


def test_scatter_adds_in_the_order_of_positions(gpu):
    place = np.array([2, 0, 2, 5, 2, 0])
    # The sum depends on the order: (1e8 + 1) - 1e8 is 0 in float32, (1e8 - 1e8) + 1 is 1.
    x = np.array([1e8, 3, 1, 7, -1e8, 4], np.float32)[:, None] * np.array([1, 2, 3], np.float32)
    order = np.argsort(place, kind="stable")
    keys = place[order][None]

    def f(x, order, keys, out):
        return move.scatter(x, (0, 1), 3, order, keys, (0, 0), (1, 0), out)

    expected = np.zeros((7, 3), np.float32)
    np.add.at(expected, place, x)
    assert expected[2, 0] == 0
    computed = output(gpu, f, (7, 3), np.float32, x, order[None], keys)
    np.testing.assert_array_equal(computed, expected)


def test_nothing_to_move(gpu):
    x = np.zeros((0, 3), np.float32)
    device = Mirror(gpu).of(x)
    index = Mirror(gpu).of(np.zeros((0, 3), np.int64))
    assert move.copy(device, device) == []
    assert move.gather(device, (0, (3, 1)), index, 3, 1, device) == []


def test_kernels_have_names_of_their_own():
    found = move.catalogue()
    assert len({k.__name__ for k in found}) == len(found) == 11
