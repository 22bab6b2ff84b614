"""Loss kernels against naive loops, and their promises."""

import math

import numpy as np
import pytest

from skdeep._kernels.cpu import loss

DTYPES = [np.float32, np.float64]


def data(members=2, batch=7, classes=5, dtype=np.float64, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    z = (rng.normal(size=(members, batch, classes)) * scale).astype(dtype)
    labels = rng.integers(0, classes, (members, batch))
    ct = rng.normal(size=(members, batch)).astype(dtype)
    return z, labels, ct


def cross_entropy(z, labels, smoothing):
    each, p = np.empty(z.shape[:2], z.dtype), np.empty_like(z)
    loss.softmax_cross_entropy[z.dtype](z, labels, np.asarray(smoothing, z.dtype), each, p)
    return each, p


def pullback(p, labels, smoothing, ct, out):
    smoothing = np.asarray(smoothing, p.dtype)
    loss.softmax_cross_entropy_pullback[p.dtype](p, labels, smoothing, ct, out)
    return out


def naive_cross_entropy(z, labels, smoothing):
    """Loss, probabilities and targets by the definition, sample by sample."""
    k = z.shape[2]
    each, p, t = np.empty(z.shape[:2]), np.empty(z.shape), np.empty(z.shape)
    for m, b in np.ndindex(z.shape[:2]):
        row = [float(v) - float(z[m, b].max()) for v in z[m, b]]
        log_sum = math.log(math.fsum(math.exp(v) for v in row))
        for j in range(k):
            hit = j == labels[m if len(labels) > 1 else 0, b]
            eps = smoothing[m if len(smoothing) > 1 else 0]
            t[m, b, j] = (1 - eps) * hit + eps / k
            p[m, b, j] = math.exp(row[j] - log_sum)
        each[m, b] = math.fsum(t[m, b, j] * (log_sum - row[j]) for j in range(k))
    return each, p, t


@pytest.mark.parametrize("smoothing", [[0.0], [0.1], [0.0, 0.25]])
@pytest.mark.parametrize("shape", [(2, 7, 5), (2, 128, 10), (2, 3, 1000), (2, 1, 2), (2, 4, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy(dtype, shape, smoothing):
    z, labels, ct = data(*shape, dtype)
    expected, probabilities, targets = naive_cross_entropy(z, labels, smoothing)
    each, p = cross_entropy(z, labels, smoothing)
    eps = np.finfo(dtype).eps
    # A sequential sum of K terms errs by up to K eps, typically by its root.
    tolerance = (4 + 4 * math.sqrt(shape[2])) * eps
    np.testing.assert_allclose(each, expected, rtol=tolerance, atol=4 * tolerance)
    np.testing.assert_allclose(p, probabilities, rtol=16 * tolerance)
    out = pullback(p, labels, smoothing, ct, np.empty_like(p))
    np.testing.assert_allclose(
        out, (probabilities - targets) * ct[..., None], rtol=16 * tolerance, atol=4 * tolerance
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy_extreme_logits(dtype):
    z = np.array([[[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-np.inf, 0.0, 0.0]]], dtype)
    labels = np.array([[0, 1, 2]])
    each, p = cross_entropy(z, labels, [0.0])
    np.testing.assert_allclose(each, [[0.0, 2e4, math.log(2)]], rtol=1e-6)
    np.testing.assert_array_equal(p[0, :2], [[1.0, 0.0, 0.0]] * 2)
    np.testing.assert_allclose(p[0, 2], [0.0, 0.5, 0.5], rtol=1e-6)


def test_softmax_cross_entropy_nan_and_impossible_labels():
    z, labels, ct = data(1, 4, 3)
    z[0, 0, 1] = np.nan
    labels[0] = [0, 3, -1, 2]
    each, p = cross_entropy(z, labels, [0.0])
    assert np.isnan(each[0]).tolist() == [True, True, True, False]
    out = pullback(p, labels, [0.0], ct, np.empty_like(p))
    assert np.isnan(out[0, 0]).all()
    assert np.isfinite(out[0, 3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_pullback_in_place(dtype):
    z, labels, ct = data(dtype=dtype)
    _, p = cross_entropy(z, labels, [0.1])
    apart = pullback(p, labels, [0.1], ct, np.empty_like(p))
    assert np.array_equal(pullback(p, labels, [0.1], ct, p), apart)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
def test_cross_entropy_members_equal_solo_runs_bit_for_bit(dtype, shared):
    z, labels, ct = data(3, 33, 7, dtype)
    labels = labels[:1] if shared else labels
    smoothing = np.array([0.0, 0.1, 0.3])
    each, p = cross_entropy(z, labels, smoothing)
    out = pullback(p, labels, smoothing, ct, np.empty_like(p))
    for m in range(3):
        mine = labels if shared else labels[m : m + 1]
        each1, p1 = cross_entropy(z[m : m + 1], mine, smoothing[m : m + 1])
        out1 = pullback(p1, mine, smoothing[m : m + 1], ct[m : m + 1], np.empty_like(p1))
        for together, alone in ((each, each1), (p, p1), (out, out1)):
            assert np.array_equal(together[m], alone[0])


def test_one_column():
    out = np.empty((2, 3, 1))
    loss.one_column[np.float64](np.array([[0, 1, 1]]), out)
    assert np.array_equal(out[..., 0], [[0, 1, 1]] * 2)


# ---- pointwise losses -------------------------------------------------------------------------

A = 0.7


def _xlogy(x, y):
    return x * math.log(y) if x else 0.0


NAIVE = {
    "binary_cross_entropy": lambda r, t: (
        -_xlogy(t, 1 / (1 + math.exp(-r))) - _xlogy(1 - t, 1 / (1 + math.exp(r)))
    ),
    "hinge": lambda r, t: max(0.0, 1 - t * r),
    "squared_hinge": lambda r, t: max(0.0, 1 - t * r) ** 2,
    "perceptron": lambda r, t: max(0.0, -t * r),
    "squared_error": lambda r, t: (r - t) ** 2 / 2,
    "absolute_error": lambda r, t: abs(r - t),
    "huber": lambda r, t: (r - t) ** 2 / 2 if abs(r - t) <= A else A * (abs(r - t) - A / 2),
    "poisson": lambda r, t: _xlogy(t, t / math.exp(r)) - t + math.exp(r),
    "quantile": lambda r, t: A * (t - r) if t > r else (1 - A) * (r - t),
}


def targets_of(name, shape, dtype, seed=1):
    t = np.random.default_rng(seed).uniform(0, 1, shape)
    if name in ("hinge", "squared_hinge", "perceptron"):
        t = np.where(t > 0.5, 1.0, -1.0)
    elif name in ("binary_cross_entropy", "poisson"):
        t.flat[::3] = 0.0
        t.flat[1::3] = 1.0
    return t.astype(dtype)


def per_sample(name, raw, target, param=(A,)):
    out = np.empty(raw.shape[:2], raw.dtype)
    loss.per_sample[name][raw.dtype](raw, target, np.asarray(param, raw.dtype), out)
    return out


def derivative(name, order, ct, raw, target, param=(A,)):
    out = np.empty_like(raw)
    param = np.asarray(param, raw.dtype)
    loss.pullback[name, order][raw.dtype](ct, raw, target, param, out)
    return out


def test_every_loss_has_a_naive_twin():
    assert set(NAIVE) == set(loss.BODIES)


@pytest.mark.parametrize("outputs", [1, 3, 100])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAIVE)
def test_per_sample(name, dtype, outputs):
    raw, _, _ = data(2, 11, outputs, dtype)
    target = targets_of(name, raw.shape, dtype)
    expected = np.zeros(raw.shape[:2])
    for i in np.ndindex(raw.shape):
        expected[i[:2]] += NAIVE[name](float(raw[i]), float(target[i]))
    # A few roundings of terms of order ten each, summed in float64.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(
        per_sample(name, raw, target), expected, rtol=8 * eps, atol=8 * eps * outputs
    )


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAIVE)
def test_pointwise_derivatives_by_differences(name, order, outputs):
    raw, _, ct = data(2, 50, outputs)
    target, h = targets_of(name, raw.shape, np.float64), 1e-6
    if order == 1:
        up, down = (np.vectorize(NAIVE[name])(raw + d, target) for d in (h, -h))
        expected = (up - down) / (2 * h) * ct[..., None]
    else:
        up, down = (derivative(name, 1, ct, raw + d, target) for d in (h, -h))
        expected = (up - down) / (2 * h)
    got = derivative(name, order, ct, raw, target)
    # The rounding of a difference of values of order 1e3 is 1e3 eps / h = 2e-7.
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAIVE)
def test_float32_pointwise_derivatives(name, order):
    raw, _, ct = data(1, 100, 3, np.float32)
    target = targets_of(name, raw.shape, np.float32)
    wide = [a.astype(np.float64) for a in (ct, raw, target)]
    # float32(0.7) in both, for the kink of the Huber loss.
    expected = derivative(name, order, *wide, param=[np.float32(A)])
    got = derivative(name, order, ct, raw, target)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)  # some roundings


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in NAIVE if n != "poisson"])
def test_pointwise_extremes_are_finite(name, dtype):
    raw = np.array([[[-1e4], [1e4], [0.0]]], dtype)
    ct = np.ones((1, 3), dtype)
    for target in (np.ones_like(raw), np.zeros_like(raw)):
        assert np.isfinite(per_sample(name, raw, target)).all()
        assert np.isfinite(derivative(name, 1, ct, raw, target)).all()
        assert np.isfinite(derivative(name, 2, ct, raw, target)).all()
    assert np.isnan(per_sample(name, np.full_like(raw, np.nan), raw)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_is_exact_in_both_tails(dtype):
    raw = np.array([[[30.0], [-30.0]]], dtype)
    target = np.array([[[1.0], [0.0]]], dtype)
    # log(1 + exp(-30)); its slope is exp(-30) / (1 + exp(-30)) either way.
    expected = math.log1p(math.exp(-30))
    np.testing.assert_allclose(
        per_sample("binary_cross_entropy", raw, target)[0], [expected] * 2, rtol=1e-6
    )
    slope = derivative("binary_cross_entropy", 1, np.ones((1, 2), dtype), raw, target)
    np.testing.assert_allclose(slope[0, :, 0], [-expected, expected], rtol=1e-6)


def test_slopes_at_kinks():
    """A perceptron of zero weights must move; at an exact fit an error must not."""
    raw, ct = np.zeros((1, 1, 1)), np.ones((1, 1))
    assert derivative("perceptron", 1, ct, raw, raw + 1) == -1
    assert derivative("hinge", 1, ct, raw + 1, raw + 1) == -1
    assert derivative("absolute_error", 1, ct, raw, raw) == 0
    assert derivative("quantile", 1, ct, raw, raw) == 0


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAIVE)
def test_pointwise_members_equal_solo_runs_bit_for_bit(name, dtype, outputs):
    raw, _, ct = data(3, 33, outputs, dtype)
    target = targets_of(name, (1, *raw.shape[1:]), dtype)
    param = np.array([0.2, 0.5, 0.9])
    each = per_sample(name, raw, target, param)
    out = derivative(name, 1, ct, raw, target, param)
    for m in range(3):
        one = slice(m, m + 1)
        assert np.array_equal(each[m], per_sample(name, raw[one], target, param[one])[0])
        alone = derivative(name, 1, ct[one], raw[one], target, param[one])
        assert np.array_equal(out[m], alone[0])
