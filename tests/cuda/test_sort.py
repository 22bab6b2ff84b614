"""Sorting and searching, against NumPy."""

import numpy as np
import pytest

from skdeep._kernels.cuda import sort
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.program import Mirror, Twin
from tests.cuda.harness import run_twin
from tests.cuda.outputs import output


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_argsort_is_stable(gpu, axis, dtype):
    x = (numbers(3, 7, 2) * 2).round(0)
    if dtype == np.float32:
        x[0, 3, 1], x[2, 3, 1], x[2, 0, 1], x[1, 5, 0] = np.nan, np.nan, np.inf, -np.inf
    x = x.astype(dtype)
    f = lambda x, out: sort.argsort(x, axis, out)  # noqa: E731
    expected = np.argsort(x, axis, kind="stable")
    np.testing.assert_array_equal(output(gpu, f, x.shape, np.int64, x), expected)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 50])
def test_lines_of_many_chunks(gpu, chunk):
    whole = np.random.default_rng(0).integers(0, 4, (3, 11))
    broken = np.where(whole == 0, np.nan, whole).astype(np.float32)
    for x in (whole, broken):
        order, values = np.full(x.shape, 77), np.full(x.shape, 77, x.dtype)

        def launches(x, order, values):
            return sort.ranked(x, order, values, scratch(x), chunk)

        run_twin(gpu, Twin(launches, "ranked"), x, order, values)
        np.testing.assert_array_equal(order, np.argsort(x, 1, kind="stable"))
        np.testing.assert_array_equal(values, np.sort(x, 1))


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_search(gpu, dtype, right):
    table = np.array([-3, -1, -1, 0, 2, 2, 2, 7], dtype)
    x = np.array([[-9, -3, -2, -1], [0, 1, 2, 9]], dtype)
    if dtype == np.float32:
        x[0, 0], x[1, 3] = np.nan, np.inf
    side = "right" if right else "left"
    f = lambda t, x, out: sort.search(t, x, right, out)  # noqa: E731
    for values, sorted_ in ((x, table), (x.T, table[::-1].copy()[::-1]), (x, table[:0])):
        expected = np.searchsorted(sorted_, values, side)
        out = output(gpu, f, values.shape, np.int64, sorted_, values)
        np.testing.assert_array_equal(out, expected)


def test_nothing_to_sort(gpu):
    x, order = (Mirror(gpu).of(np.zeros((0, 3), d)) for d in (np.float32, np.int64))
    assert sort.argsort(x, 1, order) == sort.search(x.view((0,)), x, False, order) == []


def test_kernels_have_names_of_their_own():
    found = sort.catalogue()
    assert len({k.__name__ for k in found}) == len(found) == 5
