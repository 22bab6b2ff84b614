"""Direct convolution: the kernels against loops, at every edge of tiles, bands and phases."""

from functools import cache

import numpy as np
import pytest

from skdeep._kernels.cpu import _conv_plan as plans
from skdeep._kernels.cpu._microkernel import HOST, ISAS
from skdeep._kernels.cpu._sweep import SWEEP, build
from skdeep.autodiff.ops import _conv as trio
from skdeep.autodiff.ops.conv import geometry
from tests import naive

DTYPES = [np.float32, np.float64]


def draw(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def passes(x, w, g, groups=1, winograd=False):
    """Return the three passes of one convolution, and the cotangent that they had."""
    kw = dict(geometry=g, groups=groups, winograd=winograd)
    y = trio._conv(x, w, **kw)
    ct = draw(y.shape, y.dtype, 7)
    return y, trio._input_grad(ct, w, **kw), trio._weight_grad(x, ct, **kw), ct


def close(got, expected, dtype, terms):
    """Compare sums of so many products of normal numbers."""
    tolerance = 8 * np.finfo(dtype).eps * np.sqrt(terms) * np.log2(terms + 2)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


def check(x, w, **window):
    """Compare the three passes with loops."""
    groups = window.pop("groups", 1)
    g = geometry(x.shape[2:-1], w.shape[1:-2], **window)
    y, dx, dw, ct = passes(x, w, g, groups)
    taps = int(np.prod(w.shape[1:-2]))
    cells = int(np.prod(y.shape[1:-1]))
    for m in range(len(y)):
        xm, wm = x[m % len(x)], w[m % len(w)]
        close(y[m], naive.conv(xm, wm, g, groups), x.dtype, taps * w.shape[-2])
        close(dx[m], naive.conv_input_grad(ct[m], wm, g, groups), x.dtype, taps * w.shape[-1])
        close(dw[m], naive.conv_weight_grad(xm, ct[m], g, groups), x.dtype, cells)


WINDOWS = [
    ((7,), (3,), {}),
    ((30,), (4,), dict(stride=3, padding=5, dilation=2)),
    ((6, 5), (3, 3), dict(padding="same")),
    ((6, 7), (3, 2), dict(stride=(2, 3), padding=((2, 0), (1, 3)))),
    ((5, 5), (5, 5), dict(padding=4)),
    ((4, 9), (2, 3), dict(dilation=(3, 2), padding=1)),
    ((7, 6), (3, 3), dict(stride=2, padding="same", dilation=2)),
    ((3, 4), (1, 1), dict(stride=2)),
    ((3, 3), (2, 2), dict(stride=4, padding=(0, 1))),
    ((2, 2), (3, 3), dict(padding=5)),
    ((3, 4, 5), (2, 3, 2), dict(padding=1)),
    ((4, 3, 5), (3, 2, 3), dict(stride=(1, 2, 2), padding="same", dilation=(2, 1, 1))),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spatial", "kernel", "window"), WINDOWS, ids=str)
def test_windows(spatial, kernel, window, dtype):
    x, w = draw((1, 2, *spatial, 3), dtype), draw((1, *kernel, 3, 4), dtype, 1)
    check(x, w, **window)


# Around a vector (16 float32), a panel (32), the tallest tile (14 rows) and the runs that are
# unrolled (8 and 32 elements).
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 5, 11, 17])
@pytest.mark.parametrize("filters", [1, 4, 8, 9, 15, 16, 17, 33])
def test_channels(channels, filters, dtype):
    x = draw((1, 1, 3, 4, channels), dtype)
    check(x, draw((1, 2, 3, channels, filters), dtype, 1), padding="same")


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 7, 8, 11, 13, 14, 15, 17, 29])
@pytest.mark.parametrize("stride", [1, 2])
def test_widths(width, stride):
    x, w = draw((1, 2, 2, width, 2), np.float32), draw((1, 2, 3, 2, 3), np.float32, 1)
    check(x, w, stride=stride, padding="same")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "filters", "groups"), [(4, 6, 2), (6, 3, 3), (3, 6, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_groups(channels, filters, groups, stride, dtype):
    x, w = draw((1, 2, 5, 4, channels), dtype), draw((1, 3, 2, channels // groups, filters), dtype)
    check(x, w, stride=stride, padding=1, groups=groups)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 7, 16, 31, 33, 70])
@pytest.mark.parametrize("window", [dict(padding=1), dict(stride=2), dict(dilation=2, padding=2)])
def test_depthwise(channels, window, dtype):
    x, w = draw((2, 2, 6, 9, channels), dtype), draw((2, 3, 3, 1, channels), dtype, 1)
    check(x, w, groups=channels, **window)


@pytest.mark.parametrize("limits", [(1, 1, 1), (600, 2000, 300), (3000, 3000, 3000)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("spatial", "channels", "filters"), [((9, 8), 2, 3), ((3, 5, 6), 4, 2)])
def test_bands(limits, padding, spatial, channels, filters, monkeypatch):
    # Bands of single lines, of some lines, of several images.
    for name, value in zip(("_SLAB", "_LARGE_SLAB", "_UNROLLED"), limits, strict=True):
        monkeypatch.setattr(plans, name, value)
    plans.correlation.cache_clear()
    plans.weights.cache_clear()
    kernel = (2, 3, 3)[-len(spatial) :]
    x, w = draw((1, 5, *spatial, channels)), draw((1, *kernel, channels, filters), seed=1)
    check(x, w, padding=padding)
    check(x, w, padding=padding, stride=2)
    plans.correlation.cache_clear()
    plans.weights.cache_clear()


@pytest.mark.parametrize("groups", [1, 20])
def test_scratch_is_large_enough(groups):
    # A guard behind the scratch and around the results: kernels check no bounds.
    x, w = draw((1, 3, 9, 10, 20), np.float32), draw((1, 3, 3, 20 // groups, 20), np.float32, 1)
    g = geometry((9, 10), (3, 3), stride=2, padding=2)
    kw = dict(geometry=g, groups=groups, winograd=False)
    ct = draw(trio._conv(x, w, **kw).shape, np.float32, 2)
    for p, args in (
        (trio._conv_p, (x, w)),
        (trio._input_grad_p, (ct, w)),
        (trio._weight_grad_p, (x, ct)),
    ):
        expected = p(*args, **kw)[0]
        guarded = [np.full(np.prod(s) + 64, np.float32(77)) for s in p.shape(*args, **kw)]
        outs = [a[32:-32].reshape(s) for a, s in zip(guarded, p.shape(*args, **kw), strict=True)]
        f, arguments = p.lower_call(args, outs, kw)
        f(*arguments)
        np.testing.assert_array_equal(outs[0], expected)
        for a in guarded:
            assert (a[:32] == 77).all()
            assert (a[-32:] == 77).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_batch(dtype):
    x, w = np.zeros((1, 0, 5, 5, 2), dtype), draw((1, 3, 3, 2, 4), dtype)
    y, dx, dw, _ = passes(x, w, geometry((5, 5), (3, 3)))
    assert y.shape == (1, 0, 3, 3, 4)
    assert dx.shape == x.shape
    assert not dw.any()


@cache
def built(isa, dtype, lanes):
    """Return a sweep for an instruction set, as a C function to call."""
    function = build(isa, dtype, lanes)
    call = SWEEP.prototype(function.address)
    call.keep = function
    return call


def multiply(isa, dtype, lanes, m, columns, count, k, accumulate, relu):
    """Run a sweep of two lines in an instruction set; return what it gave and what it should."""
    rng = np.random.default_rng(m + 7 * columns + count)
    width = columns if lanes else 1
    a = rng.standard_normal((2, m, 4 * count * k, width)).astype(dtype)
    b = rng.standard_normal((count * k, columns + 3)).astype(dtype)
    c = rng.standard_normal((2, m, columns + 5)).astype(dtype)
    bias, expected = rng.standard_normal(columns).astype(dtype), c.copy()
    starts = np.sort(rng.choice(4, count, replace=False)) * count * k
    rows = np.concatenate([np.arange(s, s + k) for s in starts])
    z = np.einsum("lmkc,kc->lmc" if lanes else "lmkx,kc->lmc", a[:, :, rows], b[:, :columns])
    z = z + bias + (c[..., :columns] if accumulate else 0)
    expected[..., :columns] = np.maximum(z, 0) if relu else z
    offsets, spans = (starts * width).astype(np.int64), np.array([0, count, 0, count])
    at = lambda array: array.ctypes.data  # noqa: E731
    built(isa, dtype, lanes)(
        1, 0, 0, 2, a[0].size, c[0].size, m, at(a), a[0, 0].size, width,
        at(offsets), at(spans), 0, k, at(b), b.shape[1],
        at(c), c.shape[2], columns, at(bias), int(relu), int(accumulate),
    )  # fmt: skip
    return c, expected


NATIVE = [i for i in ISAS.values() if i.width <= HOST.width and (i.name != "neon" or i == HOST)]


@pytest.mark.parametrize("lanes", [False, True])
@pytest.mark.parametrize("isa", NATIVE, ids=lambda isa: isa.name)
def test_sweeps_of_every_instruction_set(isa, lanes):
    vector = isa.lanes(4)
    for m in (1, 3, isa.rows[0] + 6):
        for columns in (1, vector - 1, vector + 1, 2 * vector):
            for accumulate, relu in ((False, True), (True, False)):
                got, expected = multiply(
                    isa, np.float32, lanes, m, columns, 3, 5, accumulate, relu
                )
                # Sums of 15 products of normal numbers.
                np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
