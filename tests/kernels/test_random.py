"""The counter-based generator and the kernels that draw."""

import numpy as np
import pytest
from numba import njit
from scipy import stats
from scipy.special import ndtri

from skdeep._kernels.cpu import random as kernels
from skdeep._kernels.philox import GROUP, LANES, normal, philox, uniform

# Compiled as they are in the kernels.
draw_words, draw_normals = njit(kernels.draw_words), njit(kernels.draw_normals)

# Random123's known answers for philox4x32-10 (its file kat_vectors): counter, key, words.
KNOWN = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@njit
def compiled_philox(c0, c1, c2, c3, k0, k1):
    return philox(c0, c1, c2, c3, k0, k1)


@njit
def compiled_normal(words, out):
    for i in range(words.size):
        out[i] = normal(words[i])


def naive_philox(counter, key):
    """The rounds in Python's integers, as the paper states them."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 % 2**32, (p0 >> 32) ^ c[3] ^ k1, p0 % 2**32]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c


def naive_word(element, seed, step, site):
    seed, step = seed % 2**64, step % 2**64
    block = 16 * (element // 64) + element % 16
    counter = block, site, step % 2**32, step >> 32
    return naive_philox(counter, (seed % 2**32, seed >> 32))[element // 16 % 4]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
@pytest.mark.parametrize("function", [philox, compiled_philox], ids=["python", "compiled"])
def test_known_answers(function, counter, key, words):
    assert [int(w) for w in function(*map(np.uint64, [*counter, *key]))] == words
    assert naive_philox(counter, key) == words


@pytest.mark.parametrize("start", [0, 64, 64 * 12345])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("seed", [0, -3, 2**62 + 12345])
def test_words_are_those_of_their_elements(start, n, seed):
    words = np.zeros(-(-n // GROUP) * GROUP, np.uint32)
    step, site = 2**40 + 7, 5
    draw_words(seed, step, site, start, start + n, words)
    assert [int(w) for w in words[:n]] == [
        naive_word(start + i, seed, step, site) for i in range(n)
    ]


def test_a_group_fills_four_runs():
    assert (LANES, GROUP) == (16, 64)  # a part of the format: changing it changes every draw


def words_of(n, seed=1, step=0, site=0):
    words = np.zeros(n, np.uint32)
    draw_words(seed, step, site, 0, n, words)
    return words


def test_words_are_uniform_and_independent():
    n = 2**20
    u = words_of(n) / 2.0**32
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    for lag in (1, 2, 4, 16, 32, 64):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5 / np.sqrt(n)
    bits = (words_of(n)[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(n)


@pytest.mark.parametrize("other", [{"seed": 2}, {"step": 1}, {"site": 1}, {"seed": 1 + 2**32}])
def test_streams_are_uncorrelated(other):
    n = 2**18
    a, b = words_of(n), words_of(n, **other)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(n)


def test_uniform_grid():
    words = np.array([0, 255, 256, 2**32 - 1], np.uint32)
    got = [uniform(w) for w in words]
    assert got == [0.0, 0.0, 2.0**-24, 1 - 2.0**-24]
    assert all(type(g) is np.float32 for g in got)


def test_normal_is_the_quantile():
    rng = np.random.default_rng(0)
    low = np.unique(np.geomspace(1, 2**31, 200_000).astype(np.uint32)) - np.uint32(1)
    middle = np.uint32(2**31) + np.arange(-5000, 5000, dtype=np.int64).astype(np.uint32)
    words = np.concatenate(
        [low, ~low, middle, rng.integers(0, 2**32, 200_000, np.uint32)], dtype=np.uint32
    )
    z = np.zeros(words.size, np.float32)
    compiled_normal(words, z)
    p = (words.astype(np.float64) + 0.5) / 2**32
    # The upper half by symmetry: 1 - p is exact, ndtri near 1 is not.
    expected = np.where(p < 0.5, ndtri(np.minimum(p, 1 - p)), -ndtri(np.minimum(p, 1 - p)))
    np.testing.assert_allclose(z, expected, rtol=1e-6)
    assert 6.2 < z.max() < 6.4
    compiled_normal(~words, other := np.zeros_like(z))
    assert (other == -z).all()


def test_normal_in_python_agrees():
    words = np.array([0, 1, 2**20, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1], np.uint32)
    compiled_normal(words, z := np.zeros(words.size, np.float32))
    # The compiler may fuse a product and a sum: a few units in the last place.
    np.testing.assert_allclose([normal(w) for w in words], z, rtol=1e-6)


def test_normal_draws_have_normal_moments():
    n = 2**20
    z, words = np.zeros(n, np.float32), np.zeros(n, np.uint32)
    draw_normals(1, 0, 0, 0, n, words, z)
    z = z.astype(np.float64)
    # Five standard errors of the first four moments of n standard normals.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - expected) < 5 * np.sqrt(variance / n)
    assert stats.kstest(z, "norm").pvalue > 1e-4


# ---- the kernels ------------------------------------------------------------------------------


def stream(members):
    counters = np.zeros((members, 4), np.int64)
    counters[:, 0] = 41
    return np.arange(members, dtype=np.int64) * 977 + 5, counters


def arguments(kernel, x, dtype):
    members = len(x)
    if kernel == "dropout":
        return x, np.linspace(0.1, 0.6, members).astype(dtype)
    if kernel == "gaussian_noise":
        return x, np.linspace(0.5, 2, members).astype(dtype)
    bounds = np.stack([np.linspace(0.1, 0.2, members), np.linspace(0.3, 0.9, members)], 1)
    return x[::-1].copy(), x, bounds.astype(dtype)


def naive(kernel, args, seed, counters, site):
    """Element by element, in float64."""
    x = args[0].astype(np.float64)
    out = np.zeros_like(x)
    for m, i in np.ndindex(x.shape):
        w = naive_word(i, int(seed[m]), int(counters[m, 0]), site)
        if kernel == "dropout":
            rate = float(args[1][m])
            out[m, i] = x[m, i] / (1 - rate) if (w >> 8) >= round(rate * 2**24) else 0.0
        elif kernel == "gaussian_noise":
            out[m, i] = x[m, i] + float(args[1][m]) * ndtri((w + 0.5) / 2**32)
        else:
            lower, upper = map(float, args[2][m])
            slope = lower + (upper - lower) * (w >> 8) / 2**24
            out[m, i] = x[m, i] * (1 if args[1][m, i] > 0 else slope)
    return out


KERNELS = ["dropout", "gaussian_noise", "random_slope"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", [1, 63, 130, 1024 + 70])
def test_kernels_equal_the_naive_ones(kernel, dtype, n):
    x = np.random.default_rng(0).standard_normal((2, n)).astype(dtype)
    args, (seed, counters) = arguments(kernel, x, dtype), stream(2)
    out = np.full_like(x, np.nan)
    getattr(kernels, kernel)[dtype](*args, seed, counters, 3, 0, out)
    # The normal draws are float32 quantiles within 1e-6; the others differ by rounding.
    tolerance = 2e-6 if kernel == "gaussian_noise" else 4 * np.finfo(dtype).eps
    expected = naive(kernel, args, seed, counters, 3)
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", KERNELS)
def test_members_equal_solo_bit_for_bit(kernel, dtype):
    x = np.random.default_rng(0).standard_normal((3, 1501)).astype(dtype)
    args, (seed, counters) = arguments(kernel, x, dtype), stream(3)
    run = getattr(kernels, kernel)[dtype]
    together, alone = np.empty_like(x), np.empty((1, 1501), dtype)
    run(*args, seed, counters, 3, 1, together)
    for m in range(3):
        s = slice(m, m + 1)
        run(*(a[s] for a in args), seed[s], counters[s], 3, 1, alone)
        assert together[s].tobytes() == alone.tobytes()


@pytest.mark.parametrize("rate", [1.0, np.nextafter(1, 0), 1 - 1e-9])
def test_dropout_at_a_rate_of_one(rate):
    x = np.ones((1, 5000))
    kernels.dropout[np.float64](x, np.array([rate]), *stream(1), 0, 0, out := np.empty_like(x))
    assert not out.any()


def test_dropout_keeps_nan_and_drops_it():
    x = np.full((1, 4000), np.nan)
    kernels.dropout[np.float64](x, np.array([0.25]), *stream(1), 0, 0, out := np.empty_like(x))
    kept = np.isnan(out)
    assert (out[~kept] == 0).all()
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("kernel", KERNELS)
def test_parts_of_a_batch_draw_what_the_whole_would(kernel):
    x = np.random.default_rng(0).standard_normal((2, 7 * 331))
    args, (seed, counters) = arguments(kernel, x, np.float64), stream(2)
    run = getattr(kernels, kernel)[np.float64]
    run(*args, seed, counters, 3, 331, whole := np.empty_like(x))
    for first, stop in [(0, 3), (3, 4), (4, 7)]:
        counters[:, 3] = first
        s = slice(first * 331, stop * 331)
        part = [np.ascontiguousarray(a[:, s]) if a.shape == x.shape else a for a in args]
        run(*part, seed, counters, 3, 331, out := np.empty((2, (stop - first) * 331)))
        assert out.tobytes() == np.ascontiguousarray(whole[:, s]).tobytes()
