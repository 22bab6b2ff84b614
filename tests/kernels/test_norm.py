"""Normalisation kernels against float64 arithmetic."""

import numpy as np
import pytest

from skdeep._kernels.cpu import norm as kernels

DTYPES = [np.float32, np.float64]
# One row, the blocks' edges, odd sizes beside the vectors' width.
SHAPES = [(1, 1, 1), (2, 1, 5), (1, 2, 3), (2, 33, 17), (1, 257, 16), (3, 289, 33), (1, 600, 70)]
EPS = 1e-3


def naive_statistics(x, axis):
    x = x.astype(np.float64)
    mean = x.mean(axis, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis, keepdims=True)
    return mean, variance, 1 / np.sqrt(variance + EPS)


def naive_pullback(ct, x, gamma, axis):
    ct, x, gamma = (a.astype(np.float64) for a in (ct, x, gamma))
    mean, _, rstd = naive_statistics(x, axis)
    z, g = (x - mean) * rstd, ct * gamma[:, None]
    means = (a.mean(axis, keepdims=True) for a in (g, g * z))
    return rstd * (g - next(means) - z * next(means)), (ct * z).sum(1), ct.sum(1)


def data(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    x, ct = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal((shape[0], shape[2])).astype(dtype) for _ in range(2))
    return 3 * x + 1, ct, gamma, beta


def outputs(name, shape, dtype):
    members, rows, channels = shape
    wide, flat = (members, channels), (members, rows)
    statistic = wide if name.startswith("batch") else flat
    sums = np.full((members, 2, channels), np.nan)
    empty = lambda s: np.full(s, np.nan, dtype)  # noqa: E731
    if name.endswith("pullback"):
        return [empty(shape), empty(wide), empty(wide), sums]
    return [empty(shape), *(empty(statistic) for _ in range(3))] + [sums] * (name[0] == "b")


def run(name, x, ct, gamma, beta):
    """Run a forward kernel, and the pullback after it; return all outputs but the scratch."""
    dtype, eps = x.dtype, np.array([EPS], x.dtype)
    out = outputs(name, x.shape, dtype)
    getattr(kernels, name)[dtype](x, gamma, beta, eps, *out)
    back = outputs(f"{name}_pullback", x.shape, dtype)
    getattr(kernels, f"{name}_pullback")[dtype](ct, x, gamma, out[1], out[3], *back)
    return out[:4] + back[:3]


def close(got, expected, dtype, scale=1.0):
    # Rounding of sums of up to 600 terms of order 10; float32 statistics, summed in blocks.
    tolerance = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "axis"), [("batch_norm", 1), ("layer_norm", 2)])
def test_norm_and_pullback(name, axis, shape, dtype):
    x, ct, gamma, beta = data(shape, dtype)
    y, *statistics, dx, dgamma, dbeta = run(name, x, ct, gamma, beta)
    expected = naive_statistics(x, axis)
    for got, value in zip(statistics, expected, strict=True):
        close(got, value.squeeze(axis), dtype, 10)
    mean, _, rstd = expected
    close(y, (x - mean) * rstd * gamma[:, None] + beta[:, None], dtype, 10)
    for got, value in zip((dx, dgamma, dbeta), naive_pullback(ct, x, gamma, axis), strict=True):
        close(got, value, dtype, 10 * rstd.max() * max(1, np.abs(value).max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relu_fused_equals_relu_after(shape, dtype):
    x, ct, gamma, beta = data(shape, dtype)
    x[0, -1] = np.nan if shape[0] > 1 else x[0, -1]  # in one member
    plain = run("batch_norm", x, ct, gamma, beta)
    out, back = outputs("batch_norm", shape, dtype), outputs("batch_norm_pullback", shape, dtype)
    eps = np.array([EPS], dtype)
    kernels.batch_norm_relu[dtype](x, gamma, beta, eps, *out)
    np.testing.assert_array_equal(out[0], np.maximum(plain[0], 0))
    for got, expected in zip(out[1:4], plain[1:4], strict=True):
        np.testing.assert_array_equal(got, expected)
    flat = lambda a: a.reshape(len(a), -1)  # noqa: E731
    kernels.batch_norm_relu_pullback[dtype](
        flat(ct), flat(x), gamma, beta, out[1], out[3], flat(back[0]), *back[1:]
    )
    opened = np.where(plain[0] > 0, ct, dtype(0))
    expected = run("batch_norm", x, opened, gamma, beta)[4:]
    for got, value in zip(back[:3], expected, strict=True):
        np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_members_equal_solo_bit_for_bit(name, dtype):
    x, ct, gamma, beta = data((3, 289, 37), dtype)
    together = run(name, x, ct, gamma, beta)
    for m in range(3):
        s = slice(m, m + 1)
        alone = run(name, *(a[s].copy() for a in (x, ct, gamma, beta)))
        assert [a[s].tobytes() for a in together] == [a.tobytes() for a in alone]


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_members_may_lie_apart(name):
    x, ct, gamma, beta = data((2, 40, 9), np.float32)
    buffer = np.zeros((2, 100), np.float32)
    apart = buffer[:, 20:29]
    apart[:] = gamma
    plain, strided = run(name, x, ct, gamma, beta), run(name, x, ct, apart, beta)
    assert [a.tobytes() for a in plain] == [a.tobytes() for a in strided]


HARD = {
    "far from zero": lambda rng: 1000 + rng.standard_normal((5000, 3)),
    "sorted": lambda rng: np.sort(10 * rng.standard_normal((5000, 3)), 0),
    "an outlier first": lambda rng: np.concatenate(
        [np.full((1, 3), 1e3), rng.standard_normal((999, 3))]
    ),
    "an outlier last": lambda rng: np.concatenate(
        [rng.standard_normal((999, 3)), np.full((1, 3), 1e3)]
    ),
    "a jump": lambda rng: np.concatenate(
        [np.zeros((256, 3)), 1000 + rng.standard_normal((999, 3))]
    ),
    "many rows": lambda rng: 5 + rng.standard_normal((200_000, 3)),
}


@pytest.mark.parametrize("case", HARD)
def test_statistics_do_not_cancel(case):
    x = HARD[case](np.random.default_rng(0)).astype(np.float32)[None]
    ones = np.ones((1, 3), np.float32)
    _, mean, variance, _ = run("batch_norm", x, x, ones, ones)[:4]
    exact, spread, _ = naive_statistics(x, 1)
    # E[x^2] - E[x]^2 in float32 would lose every digit of the first case. The bound of the
    # first block's cancellation is 32; a stored mean is rounded to half a unit.
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(variance, spread[:, 0], rtol=64 * eps)
    error = np.abs(mean - exact[:, 0])
    assert (error <= eps * np.abs(exact[:, 0]) + 8 * eps * np.sqrt(spread[:, 0])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_channel_gives_beta(dtype):
    x = np.full((1, 777, 2), 1234.567, dtype)
    gamma, beta = np.full((1, 2), 3, dtype), np.array([[0.5, -2]], dtype)
    y, mean, variance, *_ = run("batch_norm", x, x, gamma, beta)
    assert (mean == x[0, 0]).all()
    assert not variance.any()
    assert (y == beta[:, None]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_in_its_channel(dtype):
    x, ct, gamma, beta = data((1, 50, 4), dtype)
    clean = run("batch_norm", x, ct, gamma, beta)
    x[0, 7, 2] = np.nan
    dirty = run("batch_norm", x, ct, gamma, beta)
    others = [0, 1, 3]
    assert np.isnan(dirty[0][..., 2]).all()
    assert (dirty[0][..., others] == clean[0][..., others]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 33, 17), (3, 50, 64)], ids=str)
def test_normalize(shape, dtype):
    x, _, gamma, beta = data(shape, dtype)
    mean, variance = beta + 1, np.abs(gamma) + dtype(0.1)
    y, scale = np.empty_like(x), np.empty_like(gamma)
    kernels.normalize[dtype](x, mean, variance, gamma, beta, np.array([EPS], dtype), y, scale)
    x, mean, variance, gamma, beta = (
        a.astype(np.float64).reshape(shape[0], -1, shape[2])
        for a in (x, mean, variance, gamma, beta)
    )
    close(y, (x - mean) / np.sqrt(variance + EPS) * gamma + beta, dtype, 10)
