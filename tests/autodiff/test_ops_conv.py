"""Convolution as an operation: derivatives of every order, members, recording, errors."""

import numpy as np
import pytest

from skdeep.autodiff import check_grads, grad, jvp, value_and_grad, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops import _conv as trio
from skdeep.autodiff.ops.conv import (
    algorithm,
    conv,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose,
    geometry,
    output_shape,
)

WINDOWS = {
    "1-D": ((7,), (3,), 2, 4, dict(stride=2, padding="same")),
    "2-D": ((4, 5), (3, 2), 2, 3, dict(padding=((1, 0), (0, 2)), stride=(2, 1))),
    "dilated": ((6, 5), (2, 2), 2, 3, dict(dilation=(3, 2), padding=1)),
    "3-D": ((3, 3, 4), (2, 2, 3), 2, 2, dict(padding="same", stride=(1, 2, 1))),
    "groups": ((4, 4), (3, 3), 4, 6, dict(groups=2, padding=1)),
    "depthwise": ((4, 5), (3, 3), 5, 5, dict(groups=5, padding=1)),
    "multiplier": ((4, 4), (2, 2), 2, 6, dict(groups=2)),
    "one tap": ((3, 2), (1, 1), 4, 5, {}),
    "strided tap": ((5, 4), (1, 1), 3, 5, dict(stride=2)),
    "whole image": ((3, 4), (3, 4), 2, 5, {}),
}
every_window = pytest.mark.parametrize("name", WINDOWS)


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def case(name, members=(1, 1), dtype=np.float64, batch=2):
    """Return x, w, b and the window of a case."""
    spatial, kernel, channels, filters, window = WINDOWS[name]
    mx, mw = members
    x = draw(mx, batch, *spatial, channels, dtype=dtype)
    w = draw(mw, *kernel, channels // window.get("groups", 1), filters, dtype=dtype, seed=1)
    return x, w, draw(mw, filters, dtype=dtype, seed=2), window


@every_window
def test_derivatives(name):
    x, w, b, window = case(name, (1, 2))
    check_grads(lambda x, w: conv(x, w, **window), (x, w))
    check_grads(lambda x, w, b: conv(x, w, b, **window), (x, w, b))


@pytest.mark.parametrize("name", ["2-D", "depthwise", "one tap"])
def test_third_order(name):
    x, w, b, window = case(name)
    check_grads(lambda *a: np.sin(conv(*a, **window)), (x, w, b), order=3, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["2-D", "groups", "one tap"])
def test_derivatives_with_relu(name):
    x, w, b, window = case(name)
    y = conv(x, w, b, **window)
    # No output may change its sign within a finite difference.
    b = b + np.where(np.abs(y).min((0, 1, 2, 3)) < 1e-3, 0.01, 0.0)
    check_grads(lambda *a: conv(*a, activation="relu", **window), (x, w, b), order=2)


@every_window
@pytest.mark.parametrize("members", [(1, 1), (3, 3), (1, 3), (3, 1)], ids=str)
def test_the_trio_is_adjoint(name, members):
    # <conv(x, w), ct> is linear in each, so that each primitive gives the same number.
    x, w, _, window = case(name, members)
    window = dict(window)
    groups = window.pop("groups", 1)
    g = geometry(x.shape[2:-1], w.shape[1:-2], **window)
    kw = dict(geometry=g, groups=groups, winograd=False)
    y = trio._conv(x, w, **kw)
    ct = draw(*y.shape, seed=3)
    expected, size = np.sum(y * ct), np.sum(np.abs(y * ct))
    dx, dw = trio._input_grad(ct, w, **kw), trio._weight_grad(x, ct, **kw)
    np.testing.assert_allclose(np.sum(dx * x), expected, rtol=0, atol=1e-13 * size)
    np.testing.assert_allclose(np.sum(dw * w), expected, rtol=0, atol=1e-13 * size)


@every_window
def test_native_equals_the_composition(name):
    x, w, _, window = case(name, (2, 1))
    window = dict(window)
    groups = window.pop("groups", 1)
    g = geometry(x.shape[2:-1], w.shape[1:-2], **window)
    kw = dict(geometry=g, groups=groups, winograd=False)
    for p, args in (
        (trio._conv_p, (x, w)),
        (trio._input_grad_p, (draw(2, 2, *g.out, w.shape[-1]), w)),
        (trio._weight_grad_p, (x, draw(1, 2, *g.out, w.shape[-1]))),
    ):
        # Long doubles take the plain lowering (and where they are doubles, it is the same).
        wide = p(*(a.astype(np.longdouble) for a in args), **kw)[0]
        np.testing.assert_allclose(p(*args, **kw)[0], wide.astype(float), rtol=0, atol=1e-13)


@every_window
def test_float32_against_float64(name):
    x, w, b, window = case(name, dtype=np.float32)
    y, pullback = vjp(lambda *a: conv(*a, winograd=False, **window), x, w, b)
    wide = [a.astype(np.float64) for a in (x, w, b)]
    expected, wide_pullback = vjp(lambda *a: conv(*a, **window), *wide)
    ct = draw(*y.shape, dtype=np.float32, seed=4)
    for got, e in zip((y, *pullback(ct)), (expected, *wide_pullback(ct)), strict=True):
        assert got.dtype == np.float32
        # At most 50 products of normal numbers, each within half a unit in the last place.
        np.testing.assert_allclose(got, e, rtol=0, atol=50 * np.finfo(np.float32).eps)


def torch_conv(x, w, b, window):
    """Convolve one member in torch; padding must be symmetric."""
    torch = pytest.importorskip("torch")
    n = x.ndim - 3
    f = getattr(torch.nn.functional, f"conv{n}d")
    pieces = [
        torch.tensor(np.moveaxis(x[0], -1, 1), requires_grad=True),
        torch.tensor(np.moveaxis(w[0], (-1, -2), (0, 1)), requires_grad=True),
        torch.tensor(b[0], requires_grad=True),
    ]
    return pieces, f(*pieces, **window)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("spatial", "kernel", "channels", "filters", "window"),
    [
        ((20, 19), (5, 3), 6, 16, dict(stride=2, padding=2)),
        ((15, 16), (3, 3), 8, 40, dict(padding=1, groups=4)),
        ((9, 8, 7), (3, 3, 3), 5, 17, dict(padding=1, dilation=2)),
        ((40,), (7,), 3, 9, dict(stride=3)),
        ((12, 11), (3, 3), 24, 24, dict(padding=1, stride=2, groups=24)),
    ],
    ids=str,
)
def test_against_torch(spatial, kernel, channels, filters, window, dtype):
    torch = pytest.importorskip("torch")
    x = draw(1, 3, *spatial, channels, dtype=dtype)
    w = draw(1, *kernel, channels // window.get("groups", 1), filters, dtype=dtype, seed=1)
    b = draw(1, filters, dtype=dtype, seed=2)
    y, pullback = vjp(lambda *a: conv(*a, winograd=False, **window), x, w, b)
    peers, z = torch_conv(x, w, b, window)
    ct = draw(*y.shape, dtype=dtype, seed=3)
    z.backward(torch.tensor(np.moveaxis(ct[0], -1, 1)))
    dx, dw, db = pullback(ct)
    expected = [np.moveaxis(z.detach().numpy(), 1, -1)]
    expected += [np.moveaxis(peers[0].grad.numpy(), 1, -1)]
    expected += [np.moveaxis(peers[1].grad.numpy(), (0, 1), (-1, -2)), peers[2].grad.numpy()]
    for got, e in zip((y, dx, dw, db), expected, strict=True):
        # Both are sums of some hundreds of products, in different orders.
        size = np.abs(e).max()
        np.testing.assert_allclose(got[0], e, rtol=0, atol=100 * np.finfo(dtype).eps * size)


def step(x, w, b, window):
    f = value_and_grad(
        lambda *a: np.sum(np.tanh(conv(*a, activation="relu", **window))), argnum=(0, 1, 2)
    )
    y = conv(x, w, b, activation="relu", **window)
    return (y, *f(x, w, b)[1])


@every_window
@pytest.mark.parametrize("shared", [False, True])
def test_members_equal_solo_bit_for_bit(name, shared):
    x, w, b, window = case(name, (1 if shared else 3, 3), np.float32, batch=5)
    together = step(x, w, b, window)
    for m in range(3):
        alone = step(x if shared else x[m : m + 1], w[m : m + 1], b[m : m + 1], window)
        for i, (a, e) in enumerate(zip(together, alone, strict=True)):
            if shared and i == 1:
                continue  # the gradient of what members share is their sum
            assert a[m : m + 1].tobytes() == e.tobytes()


@every_window
def test_a_sample_has_the_same_bits_in_any_batch(name):
    x, w, b, window = case(name, dtype=np.float32, batch=23)
    together = conv(x, w, b, **window)
    f = lambda x: conv(x, w, b, **window)  # noqa: E731
    dx = vjp(f, x)[1](together)[0]
    for i, j in ((0, 1), (7, 23), (22, 23)):
        alone, pullback = vjp(f, x[:, i:j])
        assert alone.tobytes() == together[:, i:j].tobytes()
        assert pullback(together[:, i:j].copy())[0].tobytes() == dx[:, i:j].tobytes()


@every_window
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_replay_equals_eager(name, dtype):
    x, w, b, window = case(name, (2, 2), dtype)
    ct = draw(*conv(x, w, **window).shape, dtype=dtype, seed=5)
    # Parameters lie in a member's row of one buffer, and so do their gradients.
    size = w[0].size + b[0].size
    buffers = [np.zeros((2, size + 7), dtype) for _ in range(2)]
    params, gradients = (
        (
            buffer[:, 3 : 3 + w[0].size].reshape(w.shape),
            buffer[:, 5 + w[0].size : 5 + size].reshape(b.shape),
        )
        for buffer in buffers
    )
    params[0][...], params[1][...] = w, b

    def run(x, w, b):
        y, pullback = vjp(lambda *a: conv(*a, activation="relu", **window), x, w, b)
        return y, pullback(ct)

    into = np.zeros_like(ct), (np.zeros_like(x), *gradients)
    program = record(run, (x, *params), into)
    assert program.is_native
    replay = program.compile()
    for seed in range(2):
        x[...] = draw(*x.shape, dtype=dtype, seed=10 + seed)
        replay()
        y, pulled = run(x, *params)
        for got, e in zip((into[0], *into[1]), (y, *pulled), strict=True):
            assert got.tobytes() == e.tobytes()


def test_hessian_replay_equals_eager():
    x, w, b, window = case("2-D")
    t = draw(*w.shape, seed=6)
    f = grad(lambda w: np.sum(np.tanh(conv(x, w, b, **window))))
    product = lambda w: jvp(f, (w,), (t,))[1]  # noqa: E731
    record(product, (w,), out := np.zeros_like(w)).compile()()
    np.testing.assert_array_equal(out, product(w))


def test_any_layout():
    x, w, b, window = case("2-D", dtype=np.float32)
    expected = conv(x, w, b, **window)
    turned = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1)
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.zeros((1, *w.shape[1:-1], 9), np.float32)
    wide[..., : w.shape[-1]] = w
    for other in ((turned, w), (frozen, w), (x, wide[..., : w.shape[-1]])):
        assert conv(*other, b, **window).tobytes() == expected.tobytes()


# ---- transposed convolution ---------------------------------------------------------------------

TRANSPOSED = [
    ((5,), (3,), dict(stride=2)),
    ((4, 3), (3, 2), dict(stride=(2, 3), padding="same")),
    ((4, 3), (4, 4), dict(stride=2, padding=1)),
    ((3, 3), (3, 3), dict(stride=2, padding=1, output_padding=1)),
    ((3, 4), (3, 2), dict(dilation=2, groups=2)),
    ((2, 3, 2), (2, 2, 3), dict(stride=2, padding="same")),
]


def transposed(spatial, kernel, groups=1, **_):
    x = draw(2, 2, *spatial, 4)
    return x, draw(2, *kernel, 6 // groups, 4, seed=1), draw(2, 6, seed=2)


@pytest.mark.parametrize(("spatial", "kernel", "window"), TRANSPOSED, ids=str)
def test_transposed_convolution_is_the_adjoint(spatial, kernel, window):
    x, w, b = transposed(spatial, kernel, **window)
    y = conv_transpose(x, w, **window)
    back = {k: v for k, v in window.items() if k != "output_padding"}
    z = draw(*y.shape, seed=3)
    x2 = conv(z, w, **back)
    assert x2.shape == x.shape
    if window.get("padding") == "same":
        assert y.shape[2:-1] == tuple(np.multiply(spatial, window["stride"]))
    size = np.sum(np.abs(x2 * x))
    np.testing.assert_allclose(np.sum(y * z), np.sum(x2 * x), rtol=0, atol=1e-13 * size)
    with_bias = conv_transpose(x, w, b, **window)
    ones = (slice(None),) + (None,) * (y.ndim - 2)
    np.testing.assert_allclose(with_bias, y + b[ones], rtol=0, atol=1e-13)
    active = conv_transpose(x, w, activation="relu", **window)
    np.testing.assert_array_equal(active, np.maximum(y, 0))


@pytest.mark.parametrize(("spatial", "kernel", "window"), TRANSPOSED, ids=str)
def test_derivatives_of_the_transposed_convolution(spatial, kernel, window):
    check_grads(lambda *a: conv_transpose(*a, **window), transposed(spatial, kernel, **window))


def test_transposed_convolution_replays():
    x, w, b = transposed((4, 3), (4, 4))
    f = lambda *a: conv_transpose(*a, stride=2, padding=1)  # noqa: E731

    def run(*a):
        y, pullback = vjp(f, *a)
        return y, pullback(y)

    expected = run(x, w, b)
    into = np.zeros_like(expected[0]), tuple(np.zeros_like(a) for a in expected[1])
    program = record(run, (x, w, b), into)
    assert program.is_native
    program.compile()()
    for got, e in zip((into[0], *into[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(got, e)


# ---- shapes, choices and errors -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_same_padding(size, stride, dilation, kernel):
    g = geometry((size,), kernel, stride=stride, dilation=dilation, padding="same")
    assert g.out == (-(-size // stride),)
    ((before, after),) = g.padding
    assert 0 <= after - before <= 1


@pytest.mark.parametrize("f", [conv1d, conv2d, conv3d])
def test_with_and_without_members(f):
    n = int(f.__name__[4])
    x, w = draw(2, 3, *(4,) * n, 2), draw(2, *(2,) * n, 2, 5, seed=1)
    together = f(x, w, padding="same", stride=2)
    np.testing.assert_array_equal(together[1], f(x[1], w[1], padding="same", stride=2))
    np.testing.assert_array_equal(together, conv(x, w, padding="same", stride=2))
    check_grads(lambda x, w: f(x, w), (x[0], w[0]), order=1)
    with pytest.raises(ValueError, match=f"both have {n + 2} axes"):
        f(x, w[0])


def test_algorithm():
    g = geometry((28, 28), 3, padding=1)
    assert algorithm(g, 64, 64, 1, np.float32, "f4") == "f4"
    assert algorithm(g, 64, 64, 1, np.float32, False) == "direct"
    assert algorithm(g, 64, 64, 1, np.float64) == "direct"
    assert algorithm(g, 64, 64, 2, np.float32, "f4") == "direct"
    assert algorithm(geometry((28,), 3), 64, 64, 1, np.float32, "f2") == "direct"
    for window in (dict(stride=2), dict(dilation=2), dict(padding=3)):
        strange = geometry((28, 28), 3, **window)
        assert algorithm(strange, 64, 64, 1, np.float32, "f2") == "direct"


@pytest.mark.parametrize("winograd", ["f4", "f2"])
def test_winograd_is_reachable(winograd):
    x, w, b = draw(2, 3, 9, 8, 20), draw(2, 3, 3, 20, 18, seed=1), draw(2, 18, seed=2)
    results = []
    for choice in (winograd, False):
        f = lambda *a, c=choice: conv(*a, padding=1, activation="relu", winograd=c)  # noqa: E731
        y, pullback = vjp(f, x, w, b)
        results.append((y, *pullback(y)))
    for got, e in zip(*results, strict=True):
        # In float64 the transforms cost at most some hundred units in the last place.
        np.testing.assert_allclose(got, e, rtol=0, atol=1e-12 * np.abs(e).max())


X, W, B = np.ones((1, 2, 5, 5, 4)), np.ones((1, 3, 3, 4, 6)), np.ones((1, 6))
WRONG = [
    (dict(x=X[0, 0]), ValueError, r"x has shape \(5, 5, 4\)"),
    (dict(w=W[0]), ValueError, r"w has shape \(3, 3, 4, 6\)"),
    (dict(x=X[..., :3]), ValueError, "must have 4 channels"),
    (dict(x=np.ones((2, 2, 5, 5, 4)), w=np.ones((3, 3, 3, 4, 6))), ValueError, "members"),
    (dict(b=np.ones(6)), ValueError, r"b has shape \(6,\); it must be \(members, 6\)"),
    (dict(b=np.ones((1, 5))), ValueError, r"b has shape \(1, 5\)"),
    (dict(groups=4), ValueError, r"groups=4 must divide the filters"),
    (dict(groups=2), ValueError, "must have 8 channels .* groups=2"),
    (dict(groups=0), ValueError, "groups=0 must be an integer >= 1"),
    (dict(stride=0), ValueError, "stride=0 must be an integer >= 1"),
    (dict(stride=(1, 1, 1)), ValueError, r"stride=\(1, 1, 1\) .* tuple of 2"),
    (dict(stride=1.5), TypeError, "stride=1.5 must be an integer"),
    (dict(dilation=-1), ValueError, "dilation=-1"),
    (dict(padding=-1), ValueError, "padding=-1 must be an integer >= 0"),
    (dict(padding="full"), ValueError, "padding='full' must be 'valid', 'same'"),
    (dict(padding=((1, 1),)), ValueError, "a pair for each of 2 dimensions"),
    (dict(w=np.ones((1, 6, 3, 4, 6))), ValueError, r"kernel=\(6, 3\) .* is larger than the input"),
    (dict(dilation=3), ValueError, r"dilation=\(3, 3\) is larger"),
    (dict(x=X[:, :, :0]), ValueError, "empty dimension"),
    (dict(activation="tanh"), ValueError, "activation='tanh' must be one of"),
    (dict(winograd="f6"), ValueError, "winograd='f6' must be one of"),
    (dict(winograd=True), ValueError, "winograd=True must be one of"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_arguments(wrong, error, message):
    arguments = dict(x=X, w=W, b=B) | wrong
    with pytest.raises(error, match=message):
        conv(arguments.pop("x"), arguments.pop("w"), arguments.pop("b"), **arguments)


def test_wrong_arguments_of_the_transposed_convolution():
    x, w = np.ones((1, 1, 3, 3, 6)), np.ones((1, 3, 3, 4, 6))
    with pytest.raises(ValueError, match="output_padding=2 must be smaller than stride"):
        conv_transpose(x, w, stride=2, output_padding=2)
    with pytest.raises(ValueError, match="output_padding=1 .* 0 with padding='same'"):
        conv_transpose(x, w, stride=2, padding="same", output_padding=1)
    with pytest.raises(ValueError, match="padding=4 leaves nothing"):
        conv_transpose(x, w, padding=4)
    with pytest.raises(ValueError, match=r"b has shape \(1, 6\); it must be \(members, 4\)"):
        conv_transpose(x, w, np.ones((1, 6)))


def test_output_shape():
    assert output_shape((28, 27), 5, stride=2, padding=(0, 2)) == (12, 14)
    with pytest.raises(ValueError, match="size=9 .*|size=\\(9,\\)"):
        output_shape((5,), 9, name="size")
