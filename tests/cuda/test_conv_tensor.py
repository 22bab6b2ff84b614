"""Convolutions on tensor cores against the CPU's in float64, of rounded arrays."""

import copy

import numpy as np
import pytest

from skdeep._kernels.cuda import conv, conv_tensor, gemm
from skdeep._kernels.cuda._tensor import ROUND
from skdeep._kernels.cuda.program import Twin
from tests.cuda.harness import run_twin
from tests.cuda.test_conv import Case

PRECISIONS = list(conv_tensor.CHOICES)
#: Products of rounded factors are exact in float32; sums of up to 600 of them.
_CLOSE = dict(rtol=1e-5, atol=3e-5)


def _run(gpu, function, precision, shape, *args):
    out = np.full(shape, np.nan, np.float32)

    def launches(*args):
        return function(*args, precision=precision)

    count = 2 if function is conv.weight_grad else 3
    run_twin(gpu, Twin(launches, "pass"), *args[:count], out, *args[count:])
    return out


def _passes(gpu, case, precision):
    """Return the results of the three passes."""
    g, groups, ct = case.g, case.groups, case.ct
    inputs = max(len(ct), len(case.w)), *case.x.shape[1:]
    weights = len(ct), *case.w.shape[1:]
    return (
        _run(gpu, conv.convolve, precision, ct.shape, case.x, case.w, case.by_filter, g, groups,
             True),
        _run(gpu, conv.input_grad, precision, inputs, ct, case.w, case.by_channel, g, groups,
             True),
        _run(gpu, conv.weight_grad, precision, weights, case.x, ct, g, groups),
    )  # fmt: skip


def _check(gpu, case, precision):
    rounded = copy.copy(case)
    for name in ("x", "w", "ct"):
        setattr(rounded, name, ROUND[precision](getattr(case, name)))
    expected = (
        rounded.expected_forward(),
        rounded.expected_input_grad(True),
        rounded.expected_weight_grad(),
    )
    found = _passes(gpu, case, precision)
    for name, f, e in zip(("forward", "input", "weight"), found, expected, strict=True):
        np.testing.assert_allclose(f, e, **_CLOSE, err_msg=name)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "case",
    [
        dict(spatial=(5, 4), kernel=(3, 3), channels=32, filters=32, images=1, padding="same"),
        dict(spatial=(5, 6), kernel=(3, 2), channels=3, filters=5, stride=2, padding=1),
        dict(spatial=(4, 3), kernel=(3, 3), channels=12, filters=1, padding=((2, 0), (0, 1))),
        dict(spatial=(6, 5), kernel=(2, 3), channels=1, filters=8, stride=(3, 1), dilation=(2, 1)),
        dict(spatial=(5, 4), kernel=(3, 3), channels=32, filters=64, stride=2, padding=1),
        dict(spatial=(4, 5), kernel=(1, 1), channels=16, filters=32, stride=2),
        dict(spatial=(9,), kernel=(3,), channels=4, filters=8, stride=2, dilation=2, padding=3),
        dict(spatial=(3, 2, 3), kernel=(2, 2, 2), channels=3, filters=4, padding=1, stride=2),
    ],
    ids=str,
)
def test_passes(gpu, precision, case):
    _check(gpu, Case(**case), precision)


@pytest.mark.parametrize(
    ("precision", "channels", "filters", "groups", "members"),
    [
        ("tf32", 16, 16, 1, (1, 2)),
        ("tf32", 6, 4, 2, (1, 2)),
        ("bfloat16", 3, 4, 1, (2, 1)),
        ("bfloat16", 64, 64, 2, (1, 2)),
    ],
)
def test_members_and_groups(gpu, precision, channels, filters, groups, members):
    case = Case((3, 3), (2, 2), channels, filters, groups, 1, members, padding=1, stride=(2, 1))
    _check(gpu, case, precision)


@pytest.mark.parametrize(
    ("precision", "channels", "filters"), [("tf32", 16, 16), ("bfloat16", 6, 5)]
)
def test_split_sums(gpu, monkeypatch, precision, channels, filters):
    """Parts, some of them empty, are added with bias and ReLU, and twice to the same bits."""
    shape = conv_tensor.CHOICES[precision][-1][0]

    def split(m, n, k, *args):
        return shape, 3, max(1, -(-k // (3 * shape.depth))) * shape.depth

    monkeypatch.setattr(gemm, "choose", split)
    case = Case((3, 3), (2, 2), channels, filters, 1, 1, padding=1, stride=2)
    for first, second in zip(
        _check(gpu, case, precision), _passes(gpu, case, precision), strict=True
    ):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("precision", "number"),
    [(p, i) for p, choices in conv_tensor.CHOICES.items() for i in range(len(choices) - 1)],
)
def test_larger_tiles(gpu, monkeypatch, precision, number):
    shape = conv_tensor.CHOICES[precision][number][0]
    monkeypatch.setattr(gemm, "choose", lambda m, n, k, *args: (shape, 1, k))
    _check(gpu, Case((12, 12), (1, 2), 32, 32, images=1), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_and_infinity_stay_where_they_are_seen(gpu, precision):
    case = Case((4, 4), (2, 2), 32, 4, images=1)
    case.x[0, 0, 0, 0, 31] = np.nan
    case.x[0, 0, 3, 3, 0] = np.inf
    case.w[..., 0, :] = abs(case.w[..., 0, :])
    out = _run(gpu, conv.convolve, precision, case.ct.shape, case.x, case.w, case.by_filter,
               case.g, 1, True)  # fmt: skip
    assert np.isnan(out[0, 0, 0, 0]).all()
    assert np.isposinf(out[0, 0, 2, 2]).all()
    assert np.isfinite(out).sum() == out.size - 8
