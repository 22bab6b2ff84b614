"""Dense layers and minibatches against loops."""

import numpy as np
import pytest
import scipy.sparse as sp

from skdeep._kernels.cpu import batch, dense, elementwise
from skdeep.autodiff import check_grads
from skdeep.autodiff._program import Program
from skdeep.autodiff.ops import linear
from skdeep.autodiff.ops.nn import moving_average, product
from tests import naive

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 4), (3, 17, 33, 10), (1, 7, 20, 45)]
DTYPES = [np.float32, np.float64]


def draw(rng, dtype, *shapes):
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


def close(a, b, terms):
    """Within rounding of a sum of so many products of numbers of order one."""
    np.testing.assert_allclose(a, b, rtol=0, atol=8 * terms * np.finfo(a.dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", naive.ACTIVATIONS)
def test_linear_and_its_pullback(shape, activation, dtype):
    m, rows, fan_in, units = shape
    rng = np.random.default_rng(0)
    w, b, ct = draw(rng, dtype, (m, fan_in, units), (m, units), (m, rows, units))
    for shared in {1, m}:  # the input may be shared by the members
        (x,) = draw(rng, dtype, (shared, rows, fan_in))
        y = linear(x, w, b, activation=activation)
        close(y, naive.linear(x, w, b, activation), fan_in + 4)
    code = dense.FUSED_ACTIVATIONS[activation]
    kernel = dense.linear_pullback if code < 2 else dense.linear_sigmoid_pullback
    want_dz, want_db = naive.linear_pullback(ct, y, activation)
    for dz in (np.full_like(ct, np.nan), ct.copy()):  # elsewhere, and in place
        db = np.full((m, units), np.nan, dtype)
        source = dz if np.isfinite(dz).all() else ct
        kernel[dtype](source, y, code, dz, db)
        close(dz, want_dz, 4)
        close(db, want_db, rows + 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_product(ta, tb, dtype):
    rng = np.random.default_rng(0)
    turn = lambda s, t: (s[0], s[2], s[1]) if t else s  # noqa: E731
    a, b = draw(rng, dtype, turn((2, 5, 7), ta), turn((2, 7, 3), tb))
    out = product(a, b, ta=ta, tb=tb)
    for m in range(2):
        left, right = (a[m].T if ta else a[m]), (b[m].T if tb else b[m])
        close(out[m], naive.product(left, right), 7)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_product_gradients(ta, tb):
    rng = np.random.default_rng(1)
    a, b = draw(rng, np.float64, (2, 3, 4), (2, 4, 2))
    a = np.swapaxes(a, 1, 2).copy() if ta else a
    b = np.swapaxes(b, 1, 2).copy() if tb else b
    check_grads(lambda x, y: product(x, y, ta=ta, tb=tb), (a, b), order=2)


@pytest.mark.parametrize("activation", naive.ACTIVATIONS)
def test_linear_gradients(activation):
    rng = np.random.default_rng(2)
    x, w, b = draw(rng, np.float64, (2, 3, 4), (2, 4, 2), (2, 2))
    check_grads(lambda *a: linear(*a, activation=activation), (x, w, b), order=2)
    check_grads(lambda *a: linear(*a, activation=activation), (x[:1], w, b), order=1)


def test_moving_average():
    rng = np.random.default_rng(3)
    old, new = draw(rng, np.float64, (2, 5), (2, 5))
    np.testing.assert_allclose(moving_average(old, new, momentum=0.9), 0.9 * old + 0.1 * new)
    check_grads(lambda a, b: moving_average(a, b, momentum=0.9), (old, new), order=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gathering_a_batch(dtype):
    rng = np.random.default_rng(4)
    x, weight = draw(rng, dtype, (20, 6), (20,))
    weight = abs(weight)
    thin = sp.csr_array(np.where(abs(x) > 0.7, x, 0).astype(dtype))
    labels = rng.integers(0, 5, 20)
    order = np.stack([rng.permutation(20), rng.permutation(20)])
    counters = np.array([[0, 0, 1, 2], [0, 0, 11, 0]])
    rows, from_csr = np.full((2, 4, 6), np.nan, dtype), np.full((2, 4, 6), np.nan, dtype)
    y, w, scale = np.zeros((2, 4), np.int64), np.zeros((2, 4), dtype), np.zeros(2, dtype)
    batch.gather[dtype](x, order, counters, rows)
    index = thin.indices.astype(np.int64), thin.indptr.astype(np.int64)
    batch.gather_csr[dtype](thin.data, *index, order, counters, from_csr)
    batch.gather_labels[dtype](labels, order, counters, y)
    counters[:, 2], counters[:, 3] = (3, 11), 0  # weights are those of the whole batch
    batch.gather_weights[dtype](weight, order, counters, w, scale)
    dense_rows = thin.toarray()
    for m, start in enumerate((3, 11)):
        assert np.array_equal(rows[m], naive.gather(x, order[m], start, 4))
        assert np.array_equal(from_csr[m], naive.gather(dense_rows, order[m], start, 4))
        assert np.array_equal(y[m], naive.gather(labels, order[m], start, 4))
        taken = naive.gather(weight, order[m], start, 4)
        np.testing.assert_allclose(w[m], taken / taken.sum(), rtol=4 * np.finfo(dtype).eps)
        assert scale[m] == pytest.approx(1 / taken.sum(), rel=1e-6)


def test_a_batch_without_weight_has_scale_zero():
    w, scale = np.full((1, 3), np.nan), np.full(1, np.nan)
    order, counters = np.arange(3)[None], np.zeros((1, 4), np.int64)
    batch.gather_weights[np.float64](np.zeros(3), order, counters, w, scale)
    assert scale[0] == 0
    assert not w.any()


def test_accounts():
    each, weights = np.array([[1.0, 3.0]]), np.array([[0.25, 0.75]])
    totals, counters = np.array([[10.0]]), np.array([[5, 1, 32, 0]])
    batch.account[np.float64](each, weights, np.array([0.5]), 2, totals, counters)
    assert totals[0, 0] == 10 + 2 * (2.5 + 0.5)
    assert counters.tolist() == [[6, 2, 34, 0]]


def test_accounts_of_a_step_in_parts():
    totals, counters = np.array([[0.0]]), np.array([[5, 1, 32, 0]])
    args = np.array([0.5]), 5, totals, counters
    batch.account[np.float64](np.array([[1.0, 2.0]]), np.full((1, 2), 0.2), *args)
    assert counters.tolist() == [[5, 1, 32, 2]]
    batch.account[np.float64](np.array([[3.0, 4.0, 5.0]]), np.full((1, 3), 0.2), *args)
    assert counters.tolist() == [[6, 2, 37, 0]]
    assert totals[0, 0] == pytest.approx(15 + 5 * 0.5)


def test_weights_and_sums_of_parts():
    full, part = np.arange(10.0).reshape(2, 5), np.zeros((2, 2))
    batch.take_weights[np.float64](full, np.array([[0, 0, 9, 1], [0, 0, 9, 3]]), part)
    assert part.tolist() == [[1, 2], [8, 9]]
    total = np.ones((2, 3))
    elementwise.accumulate[np.float64](np.arange(6.0).reshape(2, 3), 0, total)
    assert total.tolist() == [[1, 2, 3], [4, 5, 6]]
    elementwise.accumulate[np.float64](np.arange(6.0).reshape(2, 3), 1, total)
    assert total.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_native_replay_equals_calls():
    rng = np.random.default_rng(5)
    x, y, out = draw(rng, np.float32, (40,), (40,), (40,))
    calls = [
        (elementwise.add[np.float32], (x, y, out)),
        (elementwise.copy[np.float32], (out, x)),
    ]
    program, start = Program(calls), x.copy()
    program.compile()(3)
    native = x.copy()
    x[:] = start
    program.run(3)
    assert np.array_equal(native, x)
