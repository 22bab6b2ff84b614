"""Minibatches on a device."""

import numpy as np
import pytest

from skdeep._kernels.cpu import batch as cpu
from tests.cuda.harness import check_twin

N, ROWS = 23, 19


def order_and_counters(members, first=0, rng=None):
    rng = rng or np.random.default_rng(members)
    order = np.stack([rng.permutation(N) for _ in range(members)])[:, :ROWS]
    counters = np.zeros((members, 4), np.int64)
    counters[:, 0], counters[:, 1], counters[:, 2] = 9, 4, 3 + np.arange(members)
    counters[:, 3] = first
    return order, counters


def padded(shape, extra, dtype=np.float32):
    """An array to be written, whose members are `extra` elements apart."""
    fill, size = np.nan if np.dtype(dtype).kind == "f" else -1, int(np.prod(shape[1:]))
    return np.full((shape[0], size + extra), fill, dtype)[:, :size].reshape(shape)


# Vectors; a width that is none, rows or members that do not begin at 16 bytes.
WIDTHS = [(8, 0, 4), (7, 0, 0), (8, 1, 0), (4, 4, 2)]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    ("size", "extra", "out_extra"), [(8, 0, 4), (7, 0, 0), (8, 1, 0), (4, 4, 2)]
)
def test_gather(gpu, members, size, extra, out_extra):
    rng = np.random.default_rng(size)
    order, counters = order_and_counters(members, first=2)
    x = rng.standard_normal((N, size + extra)).astype(np.float32)[:, :size]
    x[1, 2] = np.nan
    out = padded((members, 11, size), out_extra)
    check_twin(gpu, cpu.gather, x, order, counters, out, rtol=0, atol=0)


def test_gather_of_many_blocks(gpu):
    order, counters = order_and_counters(2)
    x = np.random.default_rng(0).standard_normal((N, 37)).astype(np.float32)
    check_twin(gpu, cpu.gather, x, order, counters, padded((2, 15, 37), 0), rtol=0, atol=0)


def test_gather_of_nothing(gpu):
    order, counters = order_and_counters(1)
    out = np.zeros((1, 4, 0), np.float32)
    check_twin(gpu, cpu.gather, np.zeros((N, 0), np.float32), order, counters, out)


@pytest.mark.parametrize(("members", "size"), [(1, 300), (2, 5)])
def test_gather_csr(gpu, members, size):
    rng = np.random.default_rng(size)
    dense = np.where(rng.random((N, size)) < 0.3, rng.standard_normal((N, size)), 0)
    dense[4] = 0  # a row without entries
    rows, indices = np.nonzero(dense)
    indices, indptr = indices.copy(), np.searchsorted(rows, np.arange(N + 1))
    order, counters = order_and_counters(members, first=1)
    args = dense[rows, indices].astype(np.float32), indices, indptr, order, counters
    out = check_twin(gpu, cpu.gather_csr, *args, padded((members, 6, size), 3), rtol=0, atol=0)[-1]
    taken = np.stack([dense[o[c[2] + 1 :][:6]] for o, c in zip(order, counters, strict=True)])
    np.testing.assert_array_equal(out, taken.astype(np.float32))


@pytest.mark.parametrize("members", [1, 2])
def test_gather_labels(gpu, members):
    order, counters = order_and_counters(members, first=3)
    y = np.random.default_rng(1).integers(-5, 2**40, N)
    check_twin(gpu, cpu.gather_labels, y, order, counters, padded((members, 9), 2, np.int64))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("zero", [False, True])
def test_gather_weights(gpu, members, zero):
    order, counters = order_and_counters(members, first=3)  # the whole batch, from its first row
    weight = np.random.default_rng(2).uniform(0, 3, N).astype(np.float32)
    if zero:
        weight[order[0, 3:14]] = 0
    out, scale = padded((members, 11), 2), np.full(members, np.nan, np.float32)
    # A sum of 11 positive float32, an inverse and a product.
    args = weight, order, counters, out, scale
    *_, out, scale = check_twin(gpu, cpu.gather_weights, *args, rtol=8e-7, atol=0)
    assert (scale[0] == 0) == zero
    assert not zero or not out[0].any()


def test_gather_weights_of_more_than_a_block(gpu):
    rng = np.random.default_rng(3)
    weight, order = rng.uniform(0, 3, 1500).astype(np.float32), rng.permutation(1500)[None]
    args = weight, order, np.zeros((1, 4), np.int64), padded((1, 1300), 0)
    # Sums of 2, 32 and 32 positive terms.
    check_twin(gpu, cpu.gather_weights, *args, np.full(1, np.nan, np.float32), rtol=2e-6, atol=0)


@pytest.mark.parametrize("members", [1, 2, 65])
def test_part_counters(gpu, members):
    counters = np.random.default_rng(4).integers(0, 2**50, (members, 4))
    check_twin(gpu, cpu.part_counters, counters, 6, np.full((members, 4), -1))


def test_take_weights(gpu):
    _, counters = order_and_counters(2, first=4)
    weight = np.random.default_rng(5).random((2, 16)).astype(np.float32)
    check_twin(gpu, cpu.take_weights, weight, counters, padded((2, 7), 1), rtol=0, atol=0)


# ---- the epoch's loss -------------------------------------------------------------------------


def account_arguments(members, count):
    rng = np.random.default_rng(count)
    each, weights = rng.random((2, members, count + 3)).astype(np.float32)[:, :, :count]
    penalty = rng.random(members).astype(np.float32)
    _, counters = order_and_counters(members, first=4)
    return [each, weights, penalty, count + 4, rng.uniform(1e3, 1e4, (members, 1)), counters]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("last", [True, False])
def test_account(gpu, members, last):
    args = account_arguments(members, 7)
    args[3] += not last
    # A float32 sum of 7 terms is added to what is kept in 46 bits.
    check_twin(gpu, cpu.account, *args, rtol=2e-8, atol=0)


def test_account_of_more_than_a_block(gpu):
    # Sums of 2, 32 and 32 positive terms, against a total that is larger than they are.
    check_twin(gpu, cpu.account, *account_arguments(1, 1100), rtol=1e-6, atol=0)


def test_an_epochs_total_keeps_its_bits(gpu):
    """Steps whose loss is exact in float32 add up as in float64."""
    each, weights = np.full((1, 1), 1 + 2.0**-20, np.float32), np.ones((1, 1), np.float32)
    totals, counters = np.array([[2.0**20]]), np.zeros((1, 4), np.int64)
    args = [each, weights, np.zeros(1, np.float32), 1, totals, counters]
    for _ in range(30):
        args = check_twin(gpu, cpu.account, *args, rtol=2.0**-45, atol=0)
    assert args[4][0, 0] > 2.0**20 + 30


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_shows(gpu, bad):
    args = account_arguments(1, 3)
    args[0][0, 1] = bad
    check_twin(gpu, cpu.account, *args)
