import numpy as np
import pytest

from skdeep._kernels.cpu import norm as cpu
from tests.cuda.harness import check_twin, run_twin

# Members, rows, channels: one block for all rows and several, vectors and single columns, columns
# beyond one block of them.
SHAPES = [
    (1, 1, 1),
    (2, 37, 3),
    (1, 50, 8),
    (2, 300, 10),
    (1, 600, 20),
    (1, 45, 140),
    (1, 257, 132),
    (1, 270, 35),
]
# Sums in float32 of some hundred terms, in another order.
CLOSE = dict(rtol=2e-5, atol=2e-5)
EPS = np.full(1, 1e-5, np.float32)


def members(array):
    """Return the same values, the members apart by more than their size, and still aligned."""
    wide = np.full((len(array), array[0].size + 4), np.nan, array.dtype)
    view = np.ndarray(array.shape, array.dtype, wide, 0, (wide.strides[0], *array.strides[1:]))
    view[...] = array
    return view


def data(shape, seed=0):
    """Return ct, x, gamma and beta."""
    rng = np.random.default_rng(seed)
    m, _, c = shape
    ct, x = rng.standard_normal((2, *shape)).astype(np.float32)
    gamma, beta = rng.uniform(0.5, 2, (2, m, c)).astype(np.float32)
    return ct, members(x * 3 + 2), members(gamma), beta - np.float32(1)


def nans(*shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype)


def forward_args(shape, over="rows"):
    """Return the arguments of the kernels that normalise."""
    m, n, c = shape
    _, x, gamma, beta = data(shape)
    statistics = [nans(m, c if over == "rows" else n) for _ in range(3)]
    args = [x, gamma, beta, EPS, members(nans(*shape)), members(statistics[0]), *statistics[1:]]
    return args + ([nans(m, 2, c, dtype=np.float64)] if over == "rows" else [])


def normalized(kernel, shape, over="rows"):
    """Return ct, x, gamma, beta and the mean and rstd that the CPU finds."""
    args = forward_args(shape, over)
    kernel[np.float32](*args)
    return data(shape)[0], *args[:3], args[5], args[7]


def pullback_outs(shape):
    m, _, c = shape
    return nans(*shape), members(nans(m, c)), nans(m, c), nans(m, 2, c, dtype=np.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_relu"])
def test_batch_norm(gpu, name, shape):
    check_twin(gpu, getattr(cpu, name), *forward_args(shape), **CLOSE, scratch=[8])


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_pullback(gpu, shape):
    ct, x, gamma, _, mean, rstd = normalized(cpu.batch_norm, shape)
    args = ct, x, gamma, mean, rstd, *pullback_outs(shape)
    check_twin(gpu, cpu.batch_norm_pullback, *args, **CLOSE, scratch=[8])


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_relu_pullback(gpu, shape):
    ct, x, gamma, beta, mean, rstd = normalized(cpu.batch_norm_relu, shape)
    dx, *outs = pullback_outs(shape)
    flat = shape[0], shape[1] * shape[2]
    strided = np.ndarray(flat, x.dtype, x.base, 0, (x.strides[0], 4))
    args = ct.reshape(flat), strided, gamma, beta, mean, rstd, dx.reshape(flat), *outs
    check_twin(gpu, cpu.batch_norm_relu_pullback, *args, **CLOSE, scratch=[9])


@pytest.mark.parametrize("shape", SHAPES)
def test_normalize(gpu, shape):
    m, _, c = shape
    _, x, gamma, beta = data(shape)
    mean, variance = np.random.default_rng(1).uniform(0, 2, (2, m, c)).astype(np.float32)
    args = x, mean, members(variance), gamma, beta, EPS, nans(*shape), nans(m, c)
    check_twin(gpu, cpu.normalize, *args, **CLOSE)


@pytest.mark.parametrize("shape", [(2, 37, 3), (1, 9, 8), (1, 5, 1), (2, 33, 33), (1, 3, 260)])
def test_layer_norm(gpu, shape):
    check_twin(gpu, cpu.layer_norm, *forward_args(shape, "channels"), **CLOSE)


@pytest.mark.parametrize("shape", [(2, 37, 3), (1, 300, 8), (1, 5, 1), (1, 33, 33), (1, 3, 260)])
def test_layer_norm_pullback(gpu, shape):
    ct, x, gamma, _, mean, rstd = normalized(cpu.layer_norm, shape, "channels")
    args = ct, x, gamma, mean, rstd, *pullback_outs(shape)
    check_twin(gpu, cpu.layer_norm_pullback, *args, **CLOSE, scratch=[8])


def moments(gpu, x):
    """Return the mean and the variance that the device finds."""
    m, _, c = x.shape
    args = [x, *np.ones((2, m, c), np.float32), EPS, nans(*x.shape)]
    args += [nans(m, c) for _ in range(3)] + [nans(m, 2, c, dtype=np.float64)]
    run_twin(gpu, cpu.batch_norm[np.float32], *args)
    return args[5], args[6]


@pytest.mark.parametrize("rows", [60, 600])
@pytest.mark.parametrize("first", [1000, 0, -1000])
def test_moments_of_a_large_mean(gpu, rows, first):
    """Neither a mean of 1e5 deviations nor a first row far away costs the variance's digits."""
    rng = np.random.default_rng(0)
    x = (1000 + 0.01 * rng.standard_normal((1, rows, 20))).astype(np.float32)
    x[:, 0, ::2] = first
    mean, variance = moments(gpu, x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(1), 3e-7)  # the mean itself is rounded
    np.testing.assert_allclose(variance, exact.var(1), 1e-3 if first != 1000 else 1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [20, 300])
def test_one_bad_value_spoils_its_channel_alone(gpu, value, rows):
    args = forward_args((1, rows, 20))
    args[0][0, 7, 3] = value
    # The mean of what holds an infinity may be NaN, too: a thread takes its first value off.
    got = check_twin(gpu, cpu.batch_norm_relu, *args, **CLOSE, scratch=[5, 8])
    y, mean, variance = got[4:7]
    assert np.isnan(y[0, 7, 3])
    assert np.isnan(variance[0, 3])
    assert not np.isfinite(mean[0, 3])
    assert np.isfinite(np.delete(y, 3, 2)).all()


def test_a_constant_channel_has_no_variance(gpu):
    x = np.full((1, 70, 3), 1e4 / 3, np.float32)
    mean, variance = moments(gpu, x)
    assert (variance == 0).all()
    assert (mean == x[0, 0]).all()


def test_reruns_are_equal(gpu):
    ct, x, gamma, _, mean, rstd = normalized(cpu.batch_norm, (1, 300, 20))
    runs = []
    for _ in range(2):
        outs = pullback_outs((1, 300, 20))
        run_twin(gpu, cpu.batch_norm_pullback[np.float32], ct, x, gamma, mean, rstd, *outs)
        runs.append([a.tobytes() for a in outs[:3]])
    assert runs[0] == runs[1]
