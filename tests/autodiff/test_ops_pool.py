"""Pooling, maps of positions and local response normalisation as primitives."""

import math

import numpy as np
import pytest

from skdeep.autodiff import check_grads, grad, jvp, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops.lrn import (
    composed_lrn,
    composed_pullback,
    local_response_normalization,
)
from skdeep.autodiff.ops.pool import (
    AxisMap,
    _pool_take,
    _unpool,
    average_pool,
    max_pool,
    pool_geometry,
    resample,
)
from tests import naive

POOLS = {"max": (max_pool, naive.max_pool), "average": (average_pool, naive.average_pool)}
CASES = {
    "2x2": ((2, 3, 6, 5, 3), dict(size=2)),
    "overlapping": ((1, 2, 7, 9, 2), dict(size=3, stride=2)),
    "same": ((2, 1, 5, 4, 3), dict(size=3, stride=1, padding="same")),
    "padded": ((1, 1, 5, 6, 2), dict(size=(3, 2), stride=(2, 1), padding=((2, 0), (0, 1)))),
    "gaps": ((1, 1, 7, 5, 2), dict(size=1, stride=3)),
    "1-D": ((2, 2, 9, 3), dict(size=4, stride=3, padding=1)),
    "3-D": ((1, 2, 3, 4, 5, 2), dict(size=(2, 3, 2), stride=(1, 2, 3), padding=(1, 0, 1))),
    "whole": ((2, 1, 6, 7, 4), dict(size=(6, 7))),
    "more than 255 cells": ((1, 2, 17, 18, 2), dict(size=(16, 17), stride=1)),
}
LRN = dict(depth_radius=5, bias=1.5, alpha=0.3, beta=0.75)
OPERATIONS = {
    "max": lambda x: max_pool(x, size=3, stride=2, padding="same"),
    "max, apart": lambda x: max_pool(x, size=2),
    "average": lambda x: average_pool(x, size=3, stride=2, padding="same"),
    "average, apart": lambda x: average_pool(x, size=2),
    "average, whole": lambda x: average_pool(x, size=x.shape[2:4]),
    "lrn": lambda x: local_response_normalization(x, **LRN),
}
every_case = pytest.mark.parametrize("case", CASES)
every_pool = pytest.mark.parametrize("pool", POOLS)
every_operation = pytest.mark.parametrize("name", OPERATIONS)


def draw(shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def apart(shape, dtype=np.float64):
    """Numbers that finite differences do not bring to a tie."""
    n = math.prod(shape)
    return (np.random.default_rng(n).permutation(n) * (4.0 / n) - 2.0).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_case
@every_pool
def test_value(pool, case, dtype):
    shape, kw = CASES[case]
    f, oracle = POOLS[pool]
    x = draw(shape, dtype)
    y, g = f(x, **kw), pool_geometry(shape[2:-1], **kw)
    assert y.dtype == dtype
    for m, n in np.ndindex(shape[:2]):
        expected = oracle(x[m, n], g.kernel, g.stride, g.padding)
        expected = expected[0] if pool == "max" else expected
        # Means of up to 272 terms of order one, summed axis by axis.
        np.testing.assert_allclose(y[m, n], expected, rtol=0, atol=20 * np.finfo(dtype).eps)


@every_case
@every_pool
def test_derivatives(pool, case):
    shape, kw = CASES[case]
    order = 1 if pool == "max" else 2
    check_grads(lambda x: POOLS[pool][0](x, **kw), (apart(shape),), order=order)


@every_operation
def test_higher_orders(name):
    x = apart((1, 2, 4, 4, 3))
    check_grads(lambda x: np.sum(OPERATIONS[name](x) ** 3), (x,), order=2)
    check_grads(
        lambda x: np.sum(OPERATIONS[name](x) ** 3), (x[:, :1],), order=3, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kw", [dict(size=2), dict(size=3, stride=2, padding=1)], ids=str)
def test_unpool_and_pool_take_are_adjoint(kw):
    g = pool_geometry((5, 6), **kw)
    cells, windows = 30, math.prod(g.out)
    places = np.random.default_rng(0).integers(0, math.prod(g.kernel), (2, 3, windows, 4))
    x, ct = draw((2, 3, cells, 4)), draw((2, 3, windows, 4), seed=1)
    # A place must lie inside the image, as those of maxima do.
    index = np.zeros_like(places, np.uint8)
    for window, found in naive.windows(g.spatial, g.kernel, g.stride, g.padding):
        at = np.ravel_multi_index(window, g.out)
        numbers = np.array([number for number, _ in found])
        index[:, :, at] = numbers[places[:, :, at] % len(numbers)]
    left = np.sum(_unpool(ct, index, geometry=g) * x)
    right = np.sum(ct * _pool_take(x, index, geometry=g))
    assert abs(left - right) < 1e-12


def test_ties_go_to_the_first_cell():
    x = np.array([[1.0, 2.0, 2.0], [2.0, 2.0, 0.0], [2.0, 1.0, 2.0]]).reshape(1, 1, 3, 3, 1)
    g = grad(lambda x: np.sum(max_pool(x, size=2, stride=1) * np.array([[1.0, 10], [100, 1000]])
                              .reshape(1, 1, 2, 2, 1)))(x)  # fmt: skip
    np.testing.assert_array_equal(
        g.reshape(3, 3), [[0.0, 11.0, 0.0], [100.0, 1000.0, 0.0], [0.0, 0.0, 0.0]]
    )


def test_padding_is_no_maximum_and_counts_in_no_mean():
    x = np.full((1, 1, 3, 3, 1), -5.0)
    for f in (max_pool, average_pool):
        np.testing.assert_allclose(f(x, size=3, stride=1, padding=1), x, rtol=1e-15)


def test_the_window_that_does_not_fit_is_left_out():
    x = np.arange(5.0).reshape(1, 1, 5, 1)
    dx = grad(lambda x: np.sum(max_pool(x, size=2) + average_pool(x, size=2)))(x)
    np.testing.assert_array_equal(dx.ravel(), [0.5, 1.5, 0.5, 1.5, 0.0])


def test_a_nan_goes_through():
    x = draw((1, 1, 4, 4, 2))
    x[0, 0, 1, 1, 0] = np.nan
    for f in (max_pool, average_pool):
        wrong = np.isnan(f(x, size=2))
        assert wrong[0, 0, 0, 0, 0]
        assert wrong.sum() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_operation
def test_members_and_samples_equal_solo_bit_for_bit(name, dtype):
    x = draw((3, 2, 7, 6, 19), dtype)
    y, pullback = vjp(OPERATIONS[name], x)
    ct = draw(y.shape, dtype)
    (dx,) = pullback(ct)
    for m, n in np.ndindex(3, 2):
        one = np.s_[m : m + 1, n : n + 1]
        y1, pullback1 = vjp(OPERATIONS[name], x[one])
        assert y1.tobytes() == y[one].tobytes()
        assert pullback1(ct[one])[0].tobytes() == dx[one].tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_operation
def test_replay_equals_eager(name, dtype):
    x = draw((2, 3, 7, 6, 5), dtype)
    ct = draw(OPERATIONS[name](x).shape, dtype, 1)

    def step(x):
        y, pullback = vjp(OPERATIONS[name], x)
        return y, pullback(ct)[0]

    into = np.full(ct.shape, np.nan, dtype), np.full(x.shape, np.nan, dtype)
    program = record(step, (x,), into)
    assert program.is_native
    run = program.compile()
    for seed in range(2):
        x[:] = draw(x.shape, dtype, seed)
        run()
        for got, expected in zip(into, step(x), strict=True):
            assert got.tobytes() == expected.tobytes()


@every_operation
def test_hessian_replay_equals_eager(name):
    x = draw((1, 2, 4, 4, 3))
    t = draw(x.shape, seed=1)
    f = grad(lambda x: np.sum(np.tanh(OPERATIONS[name](x))))
    product = lambda x: jvp(f, (x,), (t,))[1]  # noqa: E731
    record(product, (x,), out := np.zeros_like(x)).compile()()
    np.testing.assert_array_equal(out, product(x))


@every_operation
def test_any_layout(name):
    x = draw((2, 3, 4, 6, 3))
    expected = OPERATIONS[name](x)
    turned = np.swapaxes(np.swapaxes(x, 1, 4).copy(), 1, 4)
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (turned, frozen):
        assert OPERATIONS[name](other).tobytes() == expected.tobytes()


@every_operation
def test_no_samples(name):
    x = np.zeros((1, 0, 4, 4, 3))
    y, pullback = vjp(OPERATIONS[name], x)
    assert y.size == 0
    assert pullback(y)[0].shape == x.shape


def torch_pool(torch, name, x, kw, n):
    f = getattr(torch.nn.functional, {"max": f"max_pool{n}d", "average": f"avg_pool{n}d"}[name])
    more = {} if name == "max" else {"count_include_pad": False}
    stride = kw.get("stride", kw["size"])
    return f(x, kw["size"], stride, kw.get("padding", 0), **more)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ["2x2", "overlapping", "1-D", "3-D", "whole"])
@every_pool
def test_against_torch(pool, case, dtype):
    torch = pytest.importorskip("torch")
    shape, kw = CASES[case]
    x = draw((1, *shape[1:]), dtype)
    y, pullback = vjp(lambda x: POOLS[pool][0](x, **kw), x)
    peer = torch.tensor(np.moveaxis(x[0], -1, 1).copy(), requires_grad=True)
    z = torch_pool(torch, pool, peer, kw, len(shape) - 3)
    ct = draw(y.shape, dtype, 1)
    z.backward(torch.tensor(np.moveaxis(ct[0], -1, 1).copy()))
    tolerance = dict(rtol=0, atol=20 * np.finfo(dtype).eps)  # sums of up to 42 terms
    np.testing.assert_allclose(y[0], np.moveaxis(z.detach().numpy(), 1, -1), **tolerance)
    np.testing.assert_allclose(
        pullback(ct)[0][0], np.moveaxis(peer.grad.numpy(), 1, -1), **tolerance
    )


# ---- maps along axes ----------------------------------------------------------------------------


def random_map(size, rows, seed):
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((rows, size)) * (rng.random((rows, size)) < 0.4)
    pairs = tuple(tuple((int(p), float(w[p])) for p in np.flatnonzero(w)) for w in dense)
    return AxisMap(size, pairs), dense


@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 2), (0, 1, 2), ()], ids=str)
def test_resample_is_a_matrix_along_each_axis(moving):
    x = draw((2, 3, 4, 5, 6, 2))
    maps = [random_map(n, n + 2 * i - 2, i) for i, n in enumerate(x.shape[2:5])]
    axes = [m if i in moving else None for i, (m, _) in enumerate(maps)]
    dense = [d if i in moving else np.eye(n) for i, (n, (_, d)) in
             enumerate(zip(x.shape[2:5], maps, strict=True))]  # fmt: skip
    expected = np.einsum("mnxyzc,ax,by,dz->mnabdc", x, *dense)
    np.testing.assert_allclose(resample(x, axes), expected, rtol=0, atol=1e-13)
    check_grads(lambda x: resample(x, axes), (x[:1, :1],))


# ---- local response normalisation ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_fused_equals_composed(radius, dtype):
    x, ct = draw((2, 3, 4, 9), dtype), draw((2, 3, 4, 9), dtype, 1)
    kw = dict(bias=1.5, alpha=0.3, beta=0.75)
    y, pullback = vjp(lambda x: local_response_normalization(x, depth_radius=radius, **kw), x)
    wide = x.astype(np.float64)
    expected, scale = composed_lrn(wide, radius // 2, **kw)
    (dx,) = composed_pullback(ct.astype(np.float64), wide, scale, radius // 2, **kw)
    tolerance = dict(rtol=0, atol=40 * np.finfo(dtype).eps)  # sums of up to nine terms
    np.testing.assert_allclose(y, expected, **tolerance)
    np.testing.assert_allclose(pullback(ct)[0], dx, **tolerance)


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.2])
def test_derivatives_of_lrn(beta):
    f = lambda x: local_response_normalization(x, **(LRN | dict(beta=beta)))  # noqa: E731
    check_grads(f, (draw((2, 3, 7)),))


def test_lrn_against_torch():
    torch = pytest.importorskip("torch")
    x = draw((1, 2, 5, 4, 9))
    y = local_response_normalization(x, depth_radius=5, bias=2.0, alpha=0.1, beta=0.75)
    peer = torch.tensor(np.moveaxis(x[0], -1, 1).copy())
    # torch divides alpha by the number of channels that compete.
    z = torch.nn.functional.local_response_norm(peer, 5, alpha=0.5, beta=0.75, k=2.0)
    np.testing.assert_allclose(y[0], np.moveaxis(z.numpy(), 1, -1), rtol=1e-13)


# ---- wrong arguments ----------------------------------------------------------------------------

WRONG = [
    (dict(x=np.ones((1, 1, 4, 4, 1), int)), TypeError, "x has dtype int64"),
    (dict(x=[1.0]), TypeError, "x has dtype <class 'list'>"),
    (dict(x=np.ones((4, 4, 1))), ValueError, r"x has shape \(4, 4, 1\)"),
    (dict(size=0), ValueError, "size=0 must be an integer >= 1"),
    (dict(size=(2, 2, 2)), ValueError, r"size=\(2, 2, 2\) must be"),
    (dict(size=2.0), TypeError, "size=2.0 must be an integer"),
    (dict(size=5), ValueError, r"size=\(5, 5\) .* is larger than the input"),
    (dict(stride=0), ValueError, "stride=0 must be"),
    (dict(padding="full"), ValueError, "padding='full' must be"),
    (dict(padding=2), ValueError, "padding=2 with size=2 leaves windows without a cell"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
@pytest.mark.parametrize("f", [max_pool, average_pool])
def test_wrong_arguments(f, wrong, error, message):
    arguments = dict(x=np.ones((1, 1, 4, 4, 1)), size=2) | wrong
    with pytest.raises(error, match=message):
        f(arguments.pop("x"), **arguments)


WRONG_LRN = [
    (dict(x=np.ones((2, 3), int)), TypeError, "x has dtype int64"),
    (dict(x=np.ones(3)), ValueError, r"x has shape \(3,\)"),
    (dict(depth_radius=-1), ValueError, "depth_radius=-1"),
    (dict(depth_radius=2.5), ValueError, "depth_radius=2.5"),
    (dict(bias=0.0), ValueError, "bias=0.0 must be positive"),
    (dict(alpha=-1.0), ValueError, "alpha=-1.0"),
    (dict(beta=np.nan), ValueError, "beta=nan"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG_LRN)
def test_wrong_arguments_of_lrn(wrong, error, message):
    arguments = dict(x=np.ones((2, 3, 4))) | LRN | wrong
    with pytest.raises(error, match=message):
        local_response_normalization(arguments.pop("x"), **arguments)
