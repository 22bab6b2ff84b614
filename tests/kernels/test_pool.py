"""Kernels of pooling and of local response normalisation against loops."""

import math
import os
import platform
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

from skdeep._kernels.cpu import lrn
from skdeep._kernels.cpu import pool as kernels
from skdeep.autodiff.ops import pool as ops
from tests import naive

DTYPES = [np.float32, np.float64]
# Below, at and above a vector's lanes, and several vectors.
CHANNELS = [1, 6, 8, 16, 17, 35]
WINDOWS = {
    "2x2": ((5, 7), (2, 2), (2, 2), ((0, 0), (0, 0))),
    "3x3 stride 2": ((7, 6), (3, 3), (2, 2), ((0, 0), (0, 0))),
    "3x3 stride 1, padded": ((4, 5), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "2x2 with gaps, padded": ((7, 8), (2, 2), (3, 4), ((1, 0), (0, 1))),
    "1-D": ((9,), (4,), (2,), ((1, 2),)),
    "1-D of five": ((13,), (5,), (5,), ((0, 0),)),
    "3-D": ((3, 4, 5), (2, 3, 2), (1, 2, 2), ((0, 0), (1, 0), (0, 1))),
    "one cell": ((3, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
    "whole": ((17, 16), (17, 16), (1, 1), ((0, 0), (0, 0))),
}
every_window = pytest.mark.parametrize("window", WINDOWS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def geometry(window):
    spatial, size, stride, padding = WINDOWS[window]
    return ops.geometry(spatial, size, stride=stride, padding=padding)


def draw(*shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def with_ties(*shape, dtype):
    """Few different numbers, so that every window has several maxima."""
    return np.random.default_rng(shape).integers(0, 3, shape).astype(dtype)


def guarded(shape, dtype):
    """Return an array in the middle of a larger one, and a check that the rest is untouched."""
    size = math.prod(shape)
    memory = np.full(size + 200, 77, dtype)

    def check():
        assert (memory[:100] == 77).all()
        assert (memory[100 + size :] == 77).all()

    return memory[100 : 100 + size].reshape(shape), check


def places_of(g):
    return "uint8" if math.prod(g.kernel) <= 255 else "int32"


def run_max(x, g):
    """Run the kernel on x (M, N, positions, C)."""
    shape = (*x.shape[:2], math.prod(g.out), x.shape[3])
    (out, check), (index, check_index) = guarded(shape, x.dtype), guarded(shape, places_of(g))
    table = ops._windows(g, False)
    kernels.max_pool[places_of(g)][x.dtype](x, *table, out, index)
    check(), check_index()
    return out, index


def run_unpool(ct, index, g, apart):
    out, check = guarded((*ct.shape[:2], math.prod(g.spatial), ct.shape[3]), ct.dtype)
    kernel = (kernels.unpool_apart if apart else kernels.unpool)[index.dtype.name]
    kernel[ct.dtype](ct, index, *ops._windows(g, not apart), out)
    check()
    return out


def is_apart(g):
    return all(s >= k for s, k in zip(g.stride, g.kernel, strict=True))


@every_dtype
@pytest.mark.parametrize("channels", CHANNELS)
@every_window
def test_max_pool_and_back(window, channels, dtype):
    g = geometry(window)
    if channels > 17 and window == "whole":
        channels = 20
    x = with_ties(2, 1, math.prod(g.spatial), channels, dtype=dtype)
    out, index = run_max(x, g)
    ct = draw(*out.shape, dtype=dtype)
    gathered = run_unpool(ct, index, g, apart=False)
    rest = (g.kernel, g.stride, g.padding)
    for m in range(2):
        image = x[m, 0].reshape(*g.spatial, channels)
        values, places = naive.max_pool(image, *rest)
        np.testing.assert_array_equal(out[m, 0], values.reshape(-1, channels))
        np.testing.assert_array_equal(index[m, 0], places.reshape(-1, channels))
        pulled = naive.unpool(ct[m, 0].reshape(values.shape), places, g.spatial, *rest)
        # Up to nine terms of order one.
        tolerance = 20 * np.finfo(dtype).eps
        np.testing.assert_allclose(
            gathered[m, 0], pulled.reshape(-1, channels), rtol=0, atol=tolerance
        )
    if is_apart(g):
        np.testing.assert_array_equal(run_unpool(ct, index, g, apart=True), gathered)
    taken = np.full_like(out, np.nan)
    kernels.pool_take[places_of(g)][dtype](x, index, *ops._windows(g, False), taken)
    np.testing.assert_array_equal(taken, out)


@every_dtype
@every_window
def test_a_nan_wins_and_stays(window, dtype):
    g = geometry(window)
    x = draw(1, 1, math.prod(g.spatial), 17, dtype=dtype)
    x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    out, index = run_max(x, g)
    values, places = naive.max_pool(x[0, 0].reshape(*g.spatial, 17), g.kernel, g.stride, g.padding)
    np.testing.assert_array_equal(out[0, 0], values.reshape(-1, 17))
    np.testing.assert_array_equal(index[0, 0], places.reshape(-1, 17))


@every_dtype
def test_minus_infinity_is_a_maximum(dtype):
    g = geometry("2x2")
    x = np.full((1, 1, 35, 3), -np.inf, dtype)
    out, index = run_max(x, g)
    assert (out == -np.inf).all()
    assert not index.any()


def means(g):
    steps = zip(g.spatial, g.kernel, g.stride, [p for p, _ in g.padding], g.out, strict=True)
    return tuple(ops._mean_axis(*step) for step in steps)


@every_dtype
@pytest.mark.parametrize("channels", CHANNELS)
@every_window
def test_weighted_sums(window, channels, dtype):
    g = geometry(window)
    x = draw(1, 2, math.prod(g.spatial), channels, dtype=dtype)
    out, check = guarded((1, 2, math.prod(g.out), channels), dtype)
    kernels.combine[dtype](x, *ops._weights(means(g), False, np.dtype(dtype)), out)
    check()
    for n in range(2):
        expected = naive.average_pool(
            x[0, n].reshape(*g.spatial, channels), g.kernel, g.stride, g.padding
        )
        # A chain of up to 272 additions of terms whose sum is of order one.
        np.testing.assert_allclose(
            out[0, n], expected.reshape(-1, channels), rtol=0, atol=60 * np.finfo(dtype).eps
        )


@every_dtype
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("window", [w for w in WINDOWS if is_apart(geometry(w))])
def test_spread_equals_combine(window, channels, dtype):
    g = geometry(window)
    ct = draw(2, 1, math.prod(g.out), channels, dtype=dtype)
    gathered, _ = guarded((2, 1, math.prod(g.spatial), channels), dtype)
    spread, check = guarded(gathered.shape, dtype)
    kernels.combine[dtype](ct, *ops._weights(means(g), True, np.dtype(dtype)), gathered)
    kernels.spread[dtype](ct, *ops._weights(means(g), False, np.dtype(dtype)), spread)
    check()
    np.testing.assert_array_equal(spread, gathered)


@every_dtype
@every_window
def test_members_and_samples_equal_solo_bit_for_bit(window, dtype):
    g = geometry(window)
    x = draw(3, 2, math.prod(g.spatial), 19, dtype=dtype)
    together = run_max(x, g)
    ct = draw(*together[0].shape, dtype=dtype)
    pulled = run_unpool(ct, together[1], g, apart=False)
    for m, n in np.ndindex(3, 2):
        one = np.s_[m : m + 1, n : n + 1]
        alone = run_max(x[one].copy(), g)
        assert [a[one].tobytes() for a in together] == [a.tobytes() for a in alone]
        back = run_unpool(ct[one].copy(), alone[1], g, apart=False)
        assert pulled[one].tobytes() == back.tobytes()


ELSEWHERE = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
import numpy as np
from skdeep._kernels.cpu._microkernel import HOST

spec = spec_from_file_location("test_pool", sys.argv[1])
tests = module_from_spec(spec)
spec.loader.exec_module(tests)
assert HOST.name == sys.argv[2]
for window in ("2x2", "1-D of five"):
    for channels in tests.CHANNELS:
        tests.test_max_pool_and_back(window, channels, np.float32)
        tests.test_weighted_sums(window, channels, np.float32)
        tests.test_spread_equals_combine(window, channels, np.float32)
"""


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 alone")
@pytest.mark.parametrize(
    ("name", "cpu", "features"),
    [
        ("avx2", "haswell", "+avx2,+fma"),
        pytest.param("generic", "x86-64", "+sse2", marks=pytest.mark.slow),
    ],
)
def test_other_instruction_sets(name, cpu, features):
    host = llvm.get_host_cpu_features()
    if not all(host.get(f[1:]) for f in features.split(",")):
        pytest.skip(f"this machine has no {name}")
    env = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    subprocess.run([sys.executable, "-c", ELSEWHERE, __file__, name], check=True, env=env)


# ---- local response normalisation ---------------------------------------------------------------


def run_lrn(x, half, settings):
    settings = np.array(settings, x.dtype)
    y, scale = np.empty_like(x), np.empty_like(x)
    lrn.local_response_norm[x.dtype](x, settings, half, y, scale, np.empty(x.shape[::2], x.dtype))
    return y, scale


@every_dtype
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.3, 0.0])
@pytest.mark.parametrize(
    ("channels", "radius"), [(1, 5), (2, 2), (9, 0), (17, 5), (40, 4), (7, 60)]
)
def test_local_response_norm(channels, radius, beta, dtype):
    x = draw(2, 3, channels, dtype=dtype)
    y, scale = run_lrn(x, radius // 2, (1.5, 0.3, beta))
    for m in range(2):
        expected = naive.local_response_norm(x[m], radius, 1.5, 0.3, beta)
        # A sum of up to 40 squares, then a power.
        np.testing.assert_allclose(y[m], expected, rtol=60 * np.finfo(dtype).eps)
        alone = run_lrn(x[m : m + 1].copy(), radius // 2, (1.5, 0.3, beta))
        assert alone[0].tobytes() == y[m].tobytes()
        assert alone[1].tobytes() == scale[m].tobytes()


@every_dtype
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.3])
def test_local_response_norm_pullback(beta, dtype):
    channels, half, alpha = 11, 2, 0.3
    x, ct = draw(1, 4, channels, dtype=dtype), draw(1, 4, channels, dtype=dtype, seed=1)
    settings = np.array((1.5, alpha, beta), dtype)
    _, scale = run_lrn(x, half, settings)
    dx = np.empty_like(x)
    scratch = np.empty((1, 2 * channels), dtype)
    lrn.local_response_norm_pullback[dtype](ct, x, scale, settings, half, dx, scratch)
    for i in range(4):
        for j in range(channels):
            s, a = scale[0, i].astype(float), x[0, i].astype(float)
            c = ct[0, i].astype(float)
            near = range(max(0, j - half), min(channels, j + half + 1))
            inner = sum(c[k] * a[k] * s[k] ** (-beta - 1) for k in near)
            expected = c[j] * s[j] ** -beta - 2 * alpha * beta * a[j] * inner
            # A few dozen roundings of terms of order one.
            assert abs(dx[0, i, j] - expected) <= 40 * np.finfo(dtype).eps
