"""Draws inside a step: the CPU's, on a device."""

import numpy as np
import pytest

from skdeep._kernels.cpu import random as cpu
from tests.cuda.harness import check_twin, run_twin


def arguments(members, n, stride, first_sample):
    """Rows `stride` apart, seeds and counters of which all bits matter."""
    rng = np.random.default_rng(members * 1000 + n)
    x, gate = (rng.standard_normal((members, stride)).astype(np.float32)[:, :n] for _ in "xg")
    out = np.full((members, stride + 3), np.nan, np.float32)[:, :n]
    seed = rng.integers(-(2**63), 2**63, members, dtype=np.int64)
    counters = np.array([[2**40 + 7, 5, 3, first_sample]] * members, np.int64)
    counters[:, 0] += np.arange(members)
    return x, gate, seed, counters, out


# Whole groups of 64, less than one, several with a remainder; parts of a batch that begin
# anywhere in the stream, and far beyond 2^32.
CASES = [
    (1, 64, 64, 0, 0),
    (2, 5, 8, 0, 5),
    (2, 200, 203, 3, 7),
    (1, 131, 131, 9, 64),
    (2, 70, 70, 2**33 + 1, 67),
]
HIGH_SITE = 2**32 - 2


@pytest.mark.parametrize(("members", "n", "stride", "first", "per_sample"), CASES)
def test_dropout(gpu, members, n, stride, first, per_sample):
    x, _, seed, counters, out = arguments(members, n, stride, first)
    rate = np.array([0.5, 0.3], np.float32)[:members]
    args = x, rate, seed, counters, HIGH_SITE, per_sample, out
    # The same words, the same comparison, one product: equal to the last bit.
    made = check_twin(gpu, cpu.dropout, *args, rtol=0, atol=0)[-1]
    assert n < 64 or 0 < (made == 0).mean() < 1


@pytest.mark.parametrize(
    "rate", [0.0, 1.0, 1 - 2.0**-24, 2.0**-24, 2.5 * 2.0**-24, 3.5 * 2.0**-24]
)
def test_dropout_at_the_ends(gpu, rate):
    """Rates round to the nearest of 2^24 thresholds, of two the even one."""
    x, _, seed, counters, out = arguments(1, 100, 100, 0)
    args = x, np.array([rate], np.float32), seed, counters, 0, 0, out
    made = check_twin(gpu, cpu.dropout, *args, rtol=0, atol=0)[-1]
    assert rate != 0 or (made == x).all()
    assert rate != 1 or not made.any()


def test_dropout_in_place(gpu):
    x, _, seed, counters, out = arguments(2, 70, 70, 1)
    rate = np.full(2, 0.25, np.float32)
    cpu.dropout[np.float32](x, rate, seed, counters, 1, 70, out)
    run_twin(gpu, cpu.dropout[np.float32], x, rate, seed, counters, 1, 70, x)
    np.testing.assert_array_equal(x, out)


@pytest.mark.parametrize(("members", "n", "stride", "first", "per_sample"), CASES)
def test_gaussian_noise(gpu, members, n, stride, first, per_sample):
    x, _, seed, counters, out = arguments(members, n, stride, first)
    std = np.array([1.5, 0.25], np.float32)[:members]
    # Quantiles up to 6.2 by two float32 polynomials, contracted differently.
    args = x, std, seed, counters, 3, per_sample, out
    made = check_twin(gpu, cpu.gaussian_noise, *args, rtol=1e-6, atol=2e-6)[-1]
    assert (made != x).all()


@pytest.mark.parametrize(("members", "n", "stride", "first", "per_sample"), CASES)
def test_random_slope(gpu, members, n, stride, first, per_sample):
    v, x, seed, counters, out = arguments(members, n, stride, first)
    bounds = np.array([[0.1, 0.4], [0.25, 0.25]], np.float32)[:members]
    args = v, x, bounds, seed, counters, 2, per_sample, out
    # One rounding of the slope, one of the product.
    check_twin(gpu, cpu.random_slope, *args, rtol=3e-7, atol=0)
