"""Elementwise functions that broadcast, against NumPy."""

import numpy as np
import pytest

from skdeep._kernels.cuda import broadcast
from skdeep._kernels.cuda.broadcast import elementwise, fill, merge
from skdeep._kernels.cuda.program import Mirror, Twin
from tests.cuda.harness import run_twin
from tests.cuda.outputs import output


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def apply(gpu, name, kinds, operands, shape, dtype=np.float32):
    """Return a function of operands, as the device computes it."""
    return output(gpu, lambda *a: elementwise(name, kinds, a[:-1], a[-1]), shape, dtype, *operands)


def kernel_of(gpu, *arrays):
    """Return the name of the kernel that adds two arrays into a third."""
    mirror = Mirror(gpu)
    x, y, out = (mirror.of(a) for a in arrays)
    (launch,) = elementwise("add", "ff", [x, y], out)
    return launch.kernel.__name__


@pytest.mark.parametrize(
    ("sizes", "steps", "merged"),
    [
        ((3, 5, 7), [(35, 7, 1), (35, 7, 1)], ((105,), (1,), (1,))),
        ((3, 5, 7), [(35, 7, 1), (0, 0, 1)], ((15, 7), (7, 1), (0, 1))),
        ((3, 1, 7), [(7, 0, 1), (0, 0, 0)], ((21,), (1,), (0,))),
        ((1, 1), [(0, 0), (0, 0)], ((1,), (0,), (0,))),
    ],
)
def test_neighbouring_axes_merge(sizes, steps, merged):
    assert merge(sizes, *steps) == merged


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 7), (5, 7)),
        ((5, 7), (7,)),
        ((5, 8), (8,)),
        ((5, 8), (5, 1)),
        ((5, 1), (1, 7)),
        ((), (3, 2)),
        ((1031,), (1031,)),
        ((2, 3, 1, 5), (3, 4, 1)),
        ((2, 1, 3, 1, 2, 3), (1, 2, 3, 2, 1, 1)),
        ((0, 4), (4,)),
    ],
)
def test_shapes_broadcast(gpu, a, b):
    x, y = normal(*a), normal(*b, seed=1)
    expected = x - y
    # One operation in float32 on either side: the same bits.
    np.testing.assert_array_equal(apply(gpu, "subtract", "ff", [x, y], expected.shape), expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2, 1:],
        lambda x: x[::-1],
        lambda x: x[1:, ::-2],
        lambda x: x[:, None, :, None],
        lambda x: np.broadcast_to(x[:, :1], (6, 8)),
        lambda x: x[1:, 1:],
    ],
)
def test_any_strides(gpu, view):
    x = view(normal(6, 8))
    expected = x * np.float32(1.5)
    np.testing.assert_array_equal(apply(gpu, "multiply", "ff", [x, 1.5], expected.shape), expected)


def test_a_result_of_any_strides_leaves_what_lies_between(gpu):
    out, x = np.full((6, 8), 9, np.float32), normal(3, 4)
    twin = Twin(lambda x, o: elementwise("negative", "f", [x], o), "negative")
    run_twin(gpu, twin, x, out[::-2, 1::2])
    expected = np.full((6, 8), 9, np.float32)
    expected[::-2, 1::2] = -x
    np.testing.assert_array_equal(out, expected)


def test_a_result_may_overwrite_an_operand(gpu):
    x = normal(3, 5)
    expected = x + x[0]
    y = x[0].copy()
    run_twin(gpu, Twin(lambda x, y: elementwise("add", "ff", [x, y], x), "add"), x, y)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [
        ((bool, np.float32), np.float32),
        ((np.float32, np.int64), np.float32),
        ((np.uint8, np.int32), np.float32),
    ],
)
def test_operands_of_other_types_are_converted(gpu, dtypes, result):
    x, y = (np.random.default_rng(0).integers(0, 2, (3, 8)).astype(d) for d in dtypes)
    expected = x.astype(result) + y.astype(result)
    np.testing.assert_array_equal(apply(gpu, "add", "ff", [x, y], (3, 8), result), expected)


def test_integers_are_computed_in_64_bits(gpu):
    x = np.array([2**40 + 3, -(2**40) - 3, 7, -7, 0], np.int64)
    for name, f in (("floor_divide", np.floor_divide), ("remainder", np.remainder)):
        for y in (-4, 5, np.int64(2**35)):
            np.testing.assert_array_equal(
                apply(gpu, name, "ll", [x, int(y)], x.shape, np.int64), f(x, y)
            )


def test_vectors_are_taken_where_rows_are_aligned(gpu):
    names = [
        kernel_of(gpu, normal(5, 7), normal(5, 7), normal(5, 7)),
        kernel_of(gpu, normal(5, 8), normal(8), normal(5, 8)),
        kernel_of(gpu, normal(5, 8), normal(5, 1), normal(5, 8)),
        kernel_of(gpu, normal(5, 7), normal(7), normal(5, 7)),
        kernel_of(gpu, normal(5, 9)[:, 1:], normal(8), normal(5, 8)),
    ]
    assert [n.removeprefix("broadcast_add_ff_fff_") for n in names] == [
        "vv_1", "vv_2", "vc_2", "2", "2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_waves_of_any_size(gpu, name):
    sizes = [1e-30, 1e-3, 1, 30, 1e4, 1e6, 1e15, 1e30, 3e38]
    x = np.concatenate([normal(9, seed=i).clip(-1, 1) * s for i, s in enumerate(sizes)])
    x = np.concatenate([x, [0.0, -0.0, np.pi, -np.pi / 2, np.inf, -np.inf, np.nan]]).astype("f")
    with np.errstate(invalid="ignore"):
        expected = getattr(np, name)(x.astype(np.float64))
    # Two roundings of float32 in the polynomial, three for the quotient.
    computed = apply(gpu, name, "f", [x], x.shape)
    np.testing.assert_allclose(computed, expected.astype(np.float32), 4e-7, 1e-38)
    np.testing.assert_array_equal(np.signbit(computed[-7:-5]), np.signbit(expected[-7:-5]))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool, np.float64])
def test_fill(gpu, dtype):
    out = np.zeros((3, 5), dtype)
    run_twin(gpu, Twin(lambda o: fill(o, 1), "fill"), out)
    np.testing.assert_array_equal(out, np.ones((3, 5), dtype))


def test_a_span_that_32_bits_cannot_count_is_refused(gpu):
    out = Mirror(gpu).of(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"shape \(5000000000,\) .*split it"):
        fill(out.view((5_000_000_000,)), 0)


def test_kernels_have_names_of_their_own():
    found = broadcast.catalogue()
    assert len({k.__name__ for k in found}) == len(found) == 19
