"""Depthwise convolutions on a device against the CPU's in float64."""

import numpy as np
import pytest

from skdeep._kernels.cuda import conv, depthwise
from tests.cuda.test_conv import Case, broadcast


def _case(channels, **kw):
    return Case(channels=channels, filters=channels, groups=channels, **kw)


@pytest.mark.parametrize("channels", [2, 4, 12])
@pytest.mark.parametrize(
    "case",
    [
        dict(spatial=(5, 6), kernel=(3, 3), padding="same"),
        dict(spatial=(7, 6), kernel=(3, 4), stride=(2, 3), padding=1, dilation=(2, 1)),
        dict(spatial=(6, 7), kernel=(5, 5), stride=2, padding=((2, 1), (0, 3))),
        dict(spatial=(4, 5, 3), kernel=(2, 3, 2), stride=2, padding=1),
        dict(spatial=(11,), kernel=(4,), stride=3, padding=((0, 5),)),
    ],
    ids=str,
)
def test_passes(gpu, channels, case):
    _case(channels, **case).check(gpu)


@pytest.mark.parametrize("members", [(2, 2), (1, 2), (2, 1)])
def test_members(gpu, members):
    _case(4, spatial=(3, 5), kernel=(3, 2), padding=1, members=members).check(gpu)


@pytest.mark.parametrize("channels", [3, 8])
def test_parts(gpu, channels, monkeypatch):
    """Chunks of cells are added to the same sums, to the same bits."""
    monkeypatch.setattr(depthwise, "_LEAST", 1)
    case = _case(channels, spatial=(13, 11), kernel=(3, 3), images=5, padding=1, stride=1)
    launches = []
    run = type(gpu).launch
    monkeypatch.setattr(
        type(gpu), "launch", lambda self, launch: (launches.append(launch), run(self, launch))[1]
    )
    found = case.weight_grad(gpu)
    # 715 products of standard normals: 1e-5 of their sum's deviation.
    np.testing.assert_allclose(found, case.expected_weight_grad(), rtol=1e-5, atol=3e-4)
    assert len(launches) == 2
    assert launches[0].grid[1] > 1
    np.testing.assert_array_equal(case.weight_grad(gpu), found)


def test_layouts(gpu):
    case = _case(4, spatial=(4, 3), kernel=(3, 2), padding=1)
    case.x = np.repeat(np.repeat(case.x, 2, axis=1), 2, axis=3)[:, ::2, :, 1::2]
    case.ct = broadcast(0.5, case.ct.shape)
    case.w = np.repeat(case.w, 2, axis=4)[..., ::2]
    case.by_filter = np.repeat(case.by_filter, 2, axis=1)[:, ::2]
    case.check(gpu)


@pytest.mark.parametrize("channels", [3, 4])
def test_nonfinite(gpu, channels):
    """NaN and infinities reach what reads them, through ReLU, and nothing else."""
    case = _case(channels, spatial=(5, 4), kernel=(3, 3), padding=1, images=1)
    case.x[0, 0, 0, 0, 0], case.x[0, 0, 4, 3, 1] = np.nan, np.inf
    out, expected = case.forward(gpu), case.expected_forward()
    assert np.isnan(expected).sum() == 4
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_multiplier(gpu):
    """Several filters a channel are a convolution of groups, not a depthwise one."""
    case = Case((3, 4), (2, 2), 2, 4, groups=2)
    assert not conv._is_depthwise(case.w, 2)
    case.check(gpu)
