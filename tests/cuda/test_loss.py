import numpy as np
import pytest

from skdeep._kernels.cpu import loss as cpu
from skdeep._kernels.cuda.loss import TWINS
from tests.cuda.harness import check_twin
from tests.cuda.test_elementwise import normal, strided, unset


def test_every_kernel_has_a_twin():
    every = {*cpu.per_sample.values(), *cpu.pullback.values()}
    every |= {cpu.softmax_cross_entropy, cpu.softmax_cross_entropy_pullback, cpu.one_column}
    assert {k.__name__ for k in every} <= set(TWINS)


# ---- softmax cross-entropy --------------------------------------------------------------------


def labels_of(members, n, k):
    y = np.random.default_rng(1).integers(0, k, (members, n))
    y[0, -1] = k  # impossible
    if n > 1:
        y[0, 0] = -1
    return y


def smoothing_of(*numbers):
    return np.array(numbers, np.float32)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 10, 16, 33, 100, 127, 131, 300, 1026])
@pytest.mark.parametrize("gap", [3, 4])
def test_cross_entropy(gpu, k, gap):
    n = 3 if k > 16 else 21
    z = strided(2, n, k, gap=gap)
    z *= 3
    # The sums over classes: the CPU adds them one after another.
    close = dict(rtol=1e-5, atol=1e-6 + k * 1e-7)
    outs = unset(2, n), unset(2, n, k)
    check_twin(
        gpu, cpu.softmax_cross_entropy, z, labels_of(2, n, k), smoothing_of(0), *outs, **close
    )
    args = z[:1], labels_of(1, n, k), smoothing_of(0.1), unset(1, n), unset(1, n, k)
    check_twin(gpu, cpu.softmax_cross_entropy, *args, **close)


def test_cross_entropy_of_strided_and_shared(gpu):
    z, p = strided(2, 5, 12), strided(2, 5, 12, gap=8)
    args = z, labels_of(1, 5, 12), smoothing_of(0, 0.2), unset(2, 5), p
    check_twin(gpu, cpu.softmax_cross_entropy, *args)


@pytest.mark.parametrize("k", [3, 8, 132, 1030])
def test_cross_entropy_of_extremes(gpu, k):
    z = normal(1, 8, k)
    z[0, 0, 0], z[0, 1, k - 1] = np.nan, np.nan
    z[0, 2, 1], z[0, 3, 1], z[0, 4, 1:] = np.inf, -np.inf, -np.inf
    z[0, 5], z[0, 6, 0], z[0, 7] = -np.inf, 1e30, 90 * z[0, 7]
    y = np.ones((1, 8), np.int64)
    for eps in (0, 0.1):
        outs = unset(1, 8), unset(1, 8, k)
        # The logarithm of probabilities as small as these is a difference of large logits.
        args = z, y, smoothing_of(eps), *outs
        check_twin(gpu, cpu.softmax_cross_entropy, *args, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 10, 12])
@pytest.mark.parametrize("shared", [False, True])
def test_cross_entropy_pullback(gpu, k, shared):
    p, n = np.abs(normal(2, 7, k)), 7
    y = labels_of(1 if shared else 2, n, k)
    eps = smoothing_of(0.1) if shared else smoothing_of(0, 0.3)
    ct = normal(2, n, seed=3)
    kernel = cpu.softmax_cross_entropy_pullback
    check_twin(gpu, kernel, p, y, eps, ct, unset(2, n, k))
    check_twin(gpu, kernel, p, y, eps, ct, p)
    p[0, 1, 0], ct[1, 2] = np.nan, np.inf
    check_twin(gpu, kernel, p, y, eps, ct, strided(2, n, k, gap=3))


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("members", [1, 2])
def test_cross_entropy_pullback_in_one_run(gpu, k, members):
    """Vectors of four reach from one row into the next."""
    p, n = np.abs(normal(members, 7, k)), 7
    args = p, labels_of(members, n, k), smoothing_of(0.1), normal(members, n, seed=3), p
    check_twin(gpu, cpu.softmax_cross_entropy_pullback, *args)


@pytest.mark.parametrize("members", [1, 2])
def test_one_column(gpu, members):
    y = np.random.default_rng(0).integers(0, 2, (members, 301))
    check_twin(gpu, cpu.one_column, y, unset(2, 301, 1), rtol=0, atol=0)


def test_one_column_of_spread_rows(gpu):
    out = unset(1, 9, 2)
    check_twin(gpu, cpu.one_column, np.eye(3, dtype=np.int64).reshape(1, 9), out[:, :, :1])


# ---- pointwise losses -------------------------------------------------------------------------

#: Both sides of kinks, margins, saturation and overflow, and what is no number.
EDGES = np.array(
    [0, -0.0, 1, -1, 2, -2, 0.5, 60, -60, 95, -95, np.inf, -np.inf, np.nan], np.float32
)


def raw_and_target(members, n, k, shared, gap=4):
    raw = strided(members, n, k, gap=gap)
    flat = min(n * k, len(EDGES))
    for m in range(members):
        raw[m].reshape(-1)[:flat] = EDGES[:flat]
    # Zero and one are targets of every loss.
    target = np.random.default_rng(5).integers(0, 2, (1 if shared else members, n, k))
    return raw, target.astype(np.float32)


@pytest.mark.parametrize("name", cpu.per_sample)
@pytest.mark.parametrize(("n", "k"), [(37, 1), (5, 4), (7, 10)])
def test_per_sample(gpu, name, n, k):
    raw, target = raw_and_target(2, n, k, shared=k == 10)
    param = np.array([0.4, 0.7], np.float32)[: 1 if k == 4 else 2]
    check_twin(gpu, cpu.per_sample[name], raw, target, param, unset(2, n))


@pytest.mark.parametrize(("n", "k"), [(1, 9001), (2, 1030), (1, 40002)])
def test_per_sample_of_long_rows(gpu, n, k):
    raw, target = normal(1, n, k), normal(1, n, k, seed=1)
    out = unset(1, n)
    args = raw, target, np.ones(1, np.float32), out
    # Every term is rounded a few times, their sum hardly more.
    check_twin(gpu, cpu.per_sample["squared_error"], *args, rtol=6e-7)


@pytest.mark.parametrize(("name", "order"), cpu.pullback)
@pytest.mark.parametrize(("n", "k"), [(37, 1), (7, 10)])
def test_pullback(gpu, name, order, n, k):
    raw, target = raw_and_target(2, n, k, shared=k == 10)
    param = np.array([0.4, 0.7], np.float32)[: 1 if k == 10 else 2]
    ct = strided(2, n, seed=2, gap=3)
    args = ct, raw, target, param, unset(2, n, k)
    check_twin(gpu, cpu.pullback[name, order], *args, rtol=2e-5, atol=2e-6)
