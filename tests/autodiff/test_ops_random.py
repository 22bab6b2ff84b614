"""Dropout, noise and random slopes as primitives."""

import numpy as np
import pytest

from skdeep.autodiff import check_grads, grad, value_and_grad, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops.random import dropout, gaussian_noise, random_leaky_relu

OPERATIONS = {
    "dropout": (dropout, lambda m: np.linspace(0.2, 0.5, m)),
    "gaussian_noise": (gaussian_noise, lambda m: np.linspace(0.5, 1.5, m)),
    "random_leaky_relu": (random_leaky_relu, lambda m: np.tile([0.1, 0.4], (m, 1))),
}


def stream(members, step=3):
    counters = np.zeros((members, 4), np.int64)
    counters[:, 0] = step
    return np.arange(members, dtype=np.int64) + 100, counters


def draw(name, x, site=1, step=3, seed=None):
    f, numbers = OPERATIONS[name]
    seeds, counters = stream(len(x), step)
    return f(
        x, numbers(len(x)).astype(x.dtype), seeds if seed is None else seed, counters, site=site
    )


@pytest.mark.parametrize("shape", [(1, 7), (2, 5, 3), (2, 3, 2, 2, 4)], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_derivatives(name, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    check_grads(lambda x: draw(name, x), (x,))
    # A product with itself makes the second derivative something else than zero.
    check_grads(lambda x: draw(name, x) * draw(name, x * x, site=2), (x,))


def test_the_other_arguments_have_no_derivative():
    x, rate, (seed, counters) = np.ones((1, 50)), np.array([0.5]), stream(1)
    f = lambda x, rate: np.sum(dropout(x, rate, seed, counters, site=0))  # noqa: E731
    by_x, by_rate = grad(f, (0, 1))(x, rate)
    assert set(by_x.ravel()) == {0.0, 2.0}
    assert by_rate == 0
    # Also where x is a constant.
    assert grad(lambda r: f(x, r) * np.sum(r))(rate) == f(x, rate)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_dtype_and_shape(name, dtype):
    x = np.ones((2, 3, 4), dtype)
    y, pullback = vjp(lambda x: draw(name, x), x)
    (g,) = pullback(np.ones_like(y))
    assert (y.dtype, y.shape, g.dtype, g.shape) == (dtype, x.shape, dtype, x.shape)


@pytest.mark.parametrize("name", OPERATIONS)
def test_draws_are_reproducible_and_differ(name):
    x = -np.ones((2, 400))
    base = draw(name, x)
    assert draw(name, x).tobytes() == base.tobytes()
    numbers = OPERATIONS[name][1](2)
    same = OPERATIONS[name][0](x, numbers * 0 + numbers[:1], *stream(2), site=1)
    for other in (
        draw(name, x, site=2),
        draw(name, x, step=4),
        draw(name, x, seed=stream(2)[0] + 1),
    ):
        assert (other != base).mean() > 0.2
    assert (same[0] != same[1]).mean() > 0.2  # between members


@pytest.mark.parametrize("name", OPERATIONS)
def test_members_equal_solo_bit_for_bit(name):
    x = np.random.default_rng(0).standard_normal((3, 5, 41))
    f, numbers = OPERATIONS[name]
    (seed, counters), numbers = stream(3), numbers(3)
    together = f(x, numbers, seed, counters, site=9)
    for m in range(3):
        s = slice(m, m + 1)
        alone = f(x[s], numbers[s], seed[s], counters[s], site=9)
        assert together[s].tobytes() == alone.tobytes()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 0.9, 1 / 3])
def test_dropout_mask_is_that_of_either_dtype(rate):
    masks = []
    for dtype in (np.float32, np.float64):
        x = np.ones((1, 20_000), dtype)
        y = dropout(x, np.array([rate], dtype), *stream(1), site=0)
        masks.append(y != 0)
        # Where an element is kept, it is scaled: exactly so, up to the rounding of the rate.
        np.testing.assert_allclose(y[masks[-1]], 1 / (1 - rate), rtol=20 * np.finfo(dtype).eps)
    assert (masks[0] == masks[1]).all()
    kept = masks[0].mean()
    assert abs(kept - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / 20_000)
    m = masks[0][0].astype(float)
    if rate:
        for lag in (1, 2, 16, 64):
            assert abs(np.corrcoef(m[lag:], m[:-lag])[0, 1]) < 5 / np.sqrt(20_000)


def test_dropout_of_rate_zero_changes_no_bit():
    x = np.random.default_rng(0).standard_normal((2, 999)).astype(np.float32)
    x[0, :3] = -0.0, np.inf, np.nan
    assert dropout(x, np.zeros(2, np.float32), *stream(2), site=0).tobytes() == x.tobytes()


def test_noise_moments_and_dtype():
    n = 100_000
    z32, z64 = (
        gaussian_noise(np.zeros((1, n), t), np.ones(1, t), *stream(1), site=0)
        for t in (np.float32, np.float64)
    )
    assert (z32 == z64).all()
    assert abs(z64.mean()) < 5 / np.sqrt(n)
    assert abs(z64.var() - 1) < 5 * np.sqrt(2 / n)


def test_random_slopes_are_uniform_and_shared_by_either_dtype():
    n, bounds = 100_000, np.array([[0.125, 0.375]])
    slopes = [
        -random_leaky_relu(-np.ones((1, n), t), bounds.astype(t), *stream(1), site=0)
        for t in (np.float32, np.float64)
    ]
    assert slopes[1].min() >= 0.125
    assert slopes[1].max() < 0.375
    assert abs(slopes[1].mean() - 0.25) < 5 * 0.25 / np.sqrt(12 * n)
    assert (slopes[0] == slopes[1].astype(np.float32)).all()
    x = np.abs(np.random.default_rng(0).standard_normal((1, 50)))
    assert (random_leaky_relu(x, bounds, *stream(1), site=0) == x).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_replay_equals_eager(name, dtype):
    f, numbers = OPERATIONS[name]
    w = np.random.default_rng(0).standard_normal((2, 6, 11)).astype(dtype)
    seed, counters = stream(2)
    numbers = numbers(2).astype(dtype)

    def loss(w):
        y = f(w, numbers, seed, counters, site=4)
        return np.sum(y * f(y * y, numbers, seed, counters, site=5))

    value, g = np.zeros((), dtype), np.zeros_like(w)
    step = value_and_grad(loss)
    run = record(step, (w,), (value, g)).compile()
    for t in range(3):
        counters[:, 0] = t
        run()
        expected = step(w)
        assert (value == expected[0], g.tobytes()) == (True, expected[1].tobytes())


@pytest.mark.parametrize("name", OPERATIONS)
def test_kernels_replay_natively(name):
    f, numbers = OPERATIONS[name]
    x = np.random.default_rng(0).standard_normal((2, 6, 11))
    ct, seed, counters, out = x[::-1].copy(), *stream(2), np.zeros_like(x)
    flat = np.zeros((2, 100))  # parameters lie in a member's row of one buffer
    w = flat[:, 10:76].reshape(2, 6, 11)
    w[:] = x
    args = (w, numbers(2), seed, counters)
    pull = lambda *a: vjp(lambda w: f(w, *a[1:], site=1), a[0])[1](ct)[0]  # noqa: E731
    for g in (lambda *a: f(*a, site=1), pull):
        program = record(g, args, out)
        assert program.is_native
        program.compile()()
        assert out.tobytes() == g(*args).tobytes()


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_layout(name):
    x = np.random.default_rng(0).standard_normal((2, 4, 6))
    expected = draw(name, x)
    turned = np.swapaxes(np.swapaxes(x, 1, 2).copy(), 1, 2)
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (turned, frozen, np.repeat(x, 2, 2)[:, :, ::2]):
        assert draw(name, other).tobytes() == expected.tobytes()
    assert draw(name, np.zeros((2, 0, 6))).shape == (2, 0, 6)


WRONG = [
    (dict(x=np.ones((2, 3), int)), TypeError, "member axis"),
    (dict(x=np.float64(1)), TypeError, "member axis"),
    (dict(rate=np.zeros(3)), ValueError, r"rate has shape \(3,\)"),
    (dict(rate=np.zeros(2, np.float32)), ValueError, "rate has .* dtype float32"),
    (dict(rate=0.5), ValueError, "rate has shape"),
    (dict(seed=np.zeros(1, np.int64)), ValueError, "seed has shape"),
    (dict(seed=np.zeros(2)), ValueError, "seed has .* dtype float64"),
    (dict(counters=np.zeros(2, np.int64)), ValueError, "counters has shape"),
    (dict(site=-1), ValueError, "site=-1 must be"),
    (dict(site=2**32), ValueError, "site=4294967296 must be"),
    (dict(site=0.5), TypeError, "float"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_arguments(wrong, error, message):
    seed, counters = stream(2)
    arguments = dict(x=np.ones((2, 3)), rate=np.zeros(2), seed=seed, counters=counters, site=0)
    with pytest.raises(error, match=message):
        dropout(**(arguments | wrong))
