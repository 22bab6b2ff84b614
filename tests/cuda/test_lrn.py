import numpy as np
import pytest

from skdeep._kernels.cpu import lrn as cpu
from tests.cuda.harness import check_twin, run_twin

# Members, rows, channels and the neighbours on each side: one channel, rows that begin inside a
# block, sums over more than a block shares at a time, neighbours beyond all channels.
CASES = [
    ((1, 1, 1), 2),
    ((2, 40, 7), 2),
    ((1, 9, 30), 0),
    ((2, 2, 290), 3),
    ((1, 2, 600), 300),
    ((1, 40, 7), 100),
]
# Elementary functions of two libraries, and sums of up to 600 terms in the same order.
CLOSE = dict(rtol=2e-5, atol=2e-6)


def data(shape, seed=0):
    ct, x = np.random.default_rng(seed).standard_normal((2, *shape)).astype(np.float32)
    wide = np.zeros((shape[0], shape[1] + 1, shape[2]), np.float32)
    wide[:, :-1] = x
    return ct, wide[:, :-1]


def settings(beta):
    return np.array([2, 0.1, beta], np.float32)


def nans(*shape):
    return np.full(shape, np.nan, np.float32)


def normalized(x, given, half):
    """Return the outputs of the CPU's kernel."""
    y, scale = nans(*x.shape), nans(*x.shape)
    scratch = nans(x.shape[0], x.shape[2])
    cpu.local_response_norm[np.float32](x, given, half, y, scale, scratch)
    return y, scale


@pytest.mark.parametrize("beta", [0.75, 0.5, 0.9])
@pytest.mark.parametrize(("shape", "half"), CASES)
def test_local_response_norm(gpu, shape, half, beta):
    x = data(shape)[1]
    outs = nans(*shape), nans(*shape), nans(shape[0], shape[2])
    args = x, settings(beta), half, *outs
    check_twin(gpu, cpu.local_response_norm, *args, **CLOSE, scratch=[5])


@pytest.mark.parametrize("beta", [0.75, 0.5, 0.9])
@pytest.mark.parametrize(("shape", "half"), CASES)
def test_local_response_norm_pullback(gpu, shape, half, beta):
    ct, x = data(shape)
    given = settings(beta)
    scale = normalized(x, given, half)[1]
    args = ct, x, scale, given, half, nans(*shape), nans(shape[0], 2 * shape[2])
    check_twin(gpu, cpu.local_response_norm_pullback, *args, **CLOSE, scratch=[6])


def test_a_nan_reaches_its_neighbours_alone(gpu):
    x = data((1, 3, 9))[1]
    x[0, 1, 4] = np.nan
    args = x, settings(0.75), 2, nans(1, 3, 9), nans(1, 3, 9), nans(1, 9)
    y = check_twin(gpu, cpu.local_response_norm, *args, **CLOSE, scratch=[5])[3]
    assert np.isnan(y[0, 1, 2:7]).all()
    assert np.isnan(y).sum() == 5


def test_reruns_are_equal(gpu):
    ct, x = data((1, 40, 7))
    given = settings(0.9)
    scale = normalized(x, given, 2)[1]
    runs = []
    for _ in range(2):
        dx = nans(*x.shape)
        args = ct, x, scale, given, 2, dx, nans(1, 14)
        run_twin(gpu, cpu.local_response_norm_pullback[np.float32], *args)
        runs.append(dx.tobytes())
    assert runs[0] == runs[1]
