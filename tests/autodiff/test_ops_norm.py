"""Batch and layer normalisation as primitives."""

import numpy as np
import pytest

from skdeep.autodiff import check_grads, grad, jvp, value_and_grad, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops.norm import (
    batch_norm,
    composed_norm,
    composed_norm_relu,
    composed_pullback,
    composed_relu_pullback,
    layer_norm,
    normalize,
)

OVER = {"batch_norm": "rows", "batch_norm_relu": "rows", "layer_norm": "channels"}
OPERATIONS = {
    "batch_norm": lambda *a, eps: batch_norm(*a, eps=eps)[0],
    "batch_norm_relu": lambda *a, eps: batch_norm(*a, eps=eps, activation="relu")[0],
    "layer_norm": layer_norm,
}
COMPOSED = {
    "batch_norm": composed_norm, "batch_norm_relu": composed_norm_relu, "layer_norm": composed_norm
}  # fmt: skip
SHAPES = [(1, 6, 3), (2, 1, 3), (3, 5, 4), (2, 3, 2, 2, 3)]


def data(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    gamma, beta = (rng.standard_normal((shape[0], shape[-1])).astype(dtype) for _ in range(2))
    return x, gamma, beta


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_derivatives(name, shape):
    # A large eps keeps one row (a variance of zero) smooth on the scale of the differences.
    check_grads(lambda *a: OPERATIONS[name](*a, eps=0.3), data(shape))


@pytest.mark.parametrize(
    "which", [slice(1, 2), slice(2, 3), slice(0, 3)], ids=["mean", "var", "all"]
)
def test_derivatives_of_the_statistics(which):
    check_grads(lambda *a: batch_norm(*a, eps=0.3)[which], data((2, 5, 3)))


@pytest.mark.parametrize("shape", [(1, 6, 3), (2, 3, 2, 3)], ids=str)
def test_derivatives_of_normalize(shape):
    x, gamma, beta = data(shape)
    args = (x, beta + 1, 0.5 + gamma * gamma, gamma, beta)
    check_grads(lambda *a: normalize(*a, eps=0.3), args)


@pytest.mark.parametrize("name", OPERATIONS)
def test_third_order(name):
    x, gamma, beta = data((1, 4, 3))
    check_grads(
        lambda x: OPERATIONS[name](x, gamma, beta, eps=0.5), (x,), order=3, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_fused_equals_composed(name, shape, dtype):
    x, gamma, beta = data(shape, dtype)
    over, ct = OVER[name], data(shape, dtype, 1)[0]
    y, pullback = vjp(lambda *a: OPERATIONS[name](*a, eps=1e-2), x, gamma, beta)
    wide = [a.astype(np.float64) for a in (x, gamma, beta, ct)]
    expected = COMPOSED[name](*wide[:3], 1e-2, over)
    tolerance = dict(rtol=0, atol=300 * np.finfo(dtype).eps)  # values of order ten
    np.testing.assert_allclose(y, expected[0], **tolerance)
    if name == "batch_norm_relu":
        composed = composed_relu_pullback(wide[3], *wide[:3], expected[1], expected[3], over)
    else:
        composed = composed_pullback(wide[3], *wide[:2], expected[1], expected[3], over)
    for got, value in zip(pullback(ct), composed, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, value, **tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_against_torch(name, dtype):
    torch = pytest.importorskip("torch")
    x, gamma, beta = data((1, 40, 7), dtype)
    ct = data((1, 40, 7), dtype, 1)[0]
    y, pullback = vjp(lambda *a: OPERATIONS[name](*a, eps=1e-5), x, gamma, beta)
    peers = [torch.tensor(a[0], requires_grad=True) for a in (x, gamma, beta)]
    if OVER[name] == "rows":
        z = torch.nn.functional.batch_norm(
            peers[0], None, None, peers[1], peers[2], training=True, eps=1e-5
        )
        z = z.relu() if name == "batch_norm_relu" else z
    else:
        z = torch.nn.functional.layer_norm(peers[0], (7,), peers[1], peers[2], eps=1e-5)
    z.backward(torch.tensor(ct[0]))
    tolerance = dict(rtol=0, atol=300 * np.finfo(dtype).eps)  # values of order ten
    np.testing.assert_allclose(y[0], z.detach().numpy(), **tolerance)
    for got, peer in zip(pullback(ct), peers, strict=True):
        np.testing.assert_allclose(got[0], peer.grad.numpy(), **tolerance)


def test_normalize_with_its_own_statistics_is_batch_norm():
    x, gamma, beta = data((2, 30, 4))
    y, mean, variance = batch_norm(x, gamma, beta, eps=1e-3)
    again = normalize(x, mean, variance, gamma, beta, eps=1e-3)
    np.testing.assert_allclose(again, y, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_row_and_one_channel_are_finite(name):
    for shape in ((2, 1, 5), (2, 5, 1)):
        x, gamma, beta = data(shape)
        f = lambda *a: OPERATIONS[name](*a, eps=1e-5)  # noqa: E731
        y, pullback = vjp(f, x, gamma, beta)
        assert all(np.isfinite(a).all() for a in (y, *pullback(np.ones_like(y))))
        if shape[1 if OVER[name] == "rows" else 2] == 1:
            least = 0 if name == "batch_norm_relu" else -np.inf
            np.testing.assert_array_equal(
                y, np.broadcast_to(np.maximum(beta[:, None], least), shape)
            )


@pytest.mark.parametrize("name", OPERATIONS)
def test_members_equal_solo_bit_for_bit(name):
    x, gamma, beta = data((3, 300, 19), np.float32)
    step = value_and_grad(
        lambda *a: np.sum(np.tanh(OPERATIONS[name](*a, eps=1e-5))), argnum=(0, 1, 2)
    )
    _, together = step(x, gamma, beta)
    for m in range(3):
        _, alone = step(*(a[m : m + 1] for a in (x, gamma, beta)))
        for a, b in zip(together, alone, strict=True):
            assert a[m : m + 1].tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 7, 5), (2, 3, 2, 2, 5)], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_replay_equals_eager(name, shape, dtype):
    x, gamma, beta = data(shape, dtype)
    ct = data(shape, dtype, 1)[0]
    buffer = np.zeros((2, 40), dtype)  # parameters lie in a member's row of one buffer
    g, b = buffer[:, 3:8], buffer[:, 20:25]
    g[:], b[:] = gamma, beta

    def step(x, gamma, beta):
        y, pullback = vjp(lambda *a: OPERATIONS[name](*a, eps=1e-5), x, gamma, beta)
        return y, pullback(ct)

    gradients = np.zeros((2, 40), dtype)
    into = (np.zeros_like(x), (np.zeros_like(x), gradients[:, 3:8], gradients[:, 20:25]))
    program = record(step, (x, g, b), into)
    assert program.is_native
    run = program.compile()
    for seed in range(2):
        x[:] = data(shape, dtype, seed)[0]
        run()
        expected = step(x, gamma, beta)
        for got, e in zip((into[0], *into[1]), (expected[0], *expected[1]), strict=True):
            assert got.tobytes() == e.tobytes()


def test_running_statistics_replay():
    x, gamma, beta = data((2, 7, 5))
    running = np.zeros((2, 5)), np.ones((2, 5))

    def step(x, gamma, beta, mean, variance):
        y, m, v = batch_norm(x, gamma, beta)
        return y, (0.9 * mean + 0.1 * m, 0.9 * variance + 0.1 * v)

    y = np.zeros_like(x)
    expected = step(x, gamma, beta, *running)
    record(step, (x, gamma, beta, *running), (y, running)).compile()()
    for got, e in zip((y, *running), (expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(got, e)


def test_hessian_replay_equals_eager():
    x, gamma, beta = data((1, 6, 3))
    t = data((1, 6, 3), seed=1)[0]
    f = grad(lambda x: np.sum(np.tanh(batch_norm(x, gamma, beta)[0])))
    product = lambda x: jvp(f, (x,), (t,))[1]  # noqa: E731
    record(product, (x,), out := np.zeros_like(x)).compile()()
    np.testing.assert_array_equal(out, product(x))


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_layout(name):
    x, gamma, beta = data((2, 4, 6))
    expected = OPERATIONS[name](x, gamma, beta, eps=1e-3)
    turned = np.swapaxes(np.swapaxes(x, 1, 2).copy(), 1, 2)
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (turned, frozen):
        got = OPERATIONS[name](other, gamma, beta, eps=1e-3)
        assert got.tobytes() == expected.tobytes()


WRONG = [
    (dict(x=np.ones((2, 3, 4), int)), TypeError, "x has dtype int64"),
    (dict(x=np.ones((2, 4))), ValueError, "at least 3 axes"),
    (dict(x=np.ones((2, 0, 4))), ValueError, "nothing to take a mean of"),
    (dict(gamma=np.ones(4)), ValueError, r"gamma has shape \(4,\)"),
    (dict(beta=np.ones((2, 4), np.float32)), ValueError, "beta has .* dtype float32"),
    (dict(eps=0.0), ValueError, "eps=0.0 must be positive"),
    (dict(eps=np.nan), ValueError, "eps=nan must be positive"),
    (dict(activation="tanh"), ValueError, "activation='tanh' must be one of"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_arguments(wrong, error, message):
    arguments = dict(x=np.ones((2, 3, 4)), gamma=np.ones((2, 4)), beta=np.ones((2, 4)))
    with pytest.raises(error, match=message):
        batch_norm(**(arguments | wrong))
