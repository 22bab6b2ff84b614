"""Winograd's kernels against a float64 convolution, the direct kernel's contract and bounds."""

import os
import platform
import subprocess
import sys
from collections import namedtuple
from fractions import Fraction

import numpy as np
import pytest
from llvmlite import binding as llvm

from skdeep._kernels.cpu import winograd
from skdeep._kernels.cpu._winograd_transforms import matrices

Geometry = namedtuple("Geometry", "spatial kernel stride dilation padding out")
ALGORITHMS = ["f4", "f2"]
SAME = ((1, 1), (1, 1))
#: (images, height, width, channels, filters, padding): sizes around the tiles' edges, paddings of
#: 0 to 2 on each side, channels around a vector's and a panel's width.
CASES = [
    (1, 1, 1, 1, 1, SAME),
    (1, 3, 3, 2, 1, ((0, 0), (0, 0))),
    (2, 8, 8, 32, 32, SAME),
    (1, 5, 7, 3, 5, ((0, 2), (1, 0))),
    (3, 9, 4, 33, 70, ((2, 2), (0, 1))),
    (2, 2, 11, 17, 15, ((1, 2), (2, 1))),
    (4, 6, 6, 70, 17, SAME),
    (2, 7, 10, 16, 48, ((0, 0), (2, 2))),
    (9, 13, 14, 9, 34, SAME),
]


def geometry(height, width, padding):
    (top, bottom), (left, right) = padding
    out = (1, height + top + bottom - 2, width + left + right - 2)
    ones = (1, 1, 1)
    return Geometry((1, height, width), (1, 3, 3), ones, ones, ((0, 0), *padding), out)


def taps(x, padding):
    """Yield each tap with the part of padded x that it meets."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    for r in range(3):
        for s in range(3):
            yield r, s, x[:, r : r + x.shape[1] - 2, s : s + x.shape[2] - 2]


def naive_convolution(x, w, padding):
    return sum(view @ w[r, s] for r, s, view in taps(x, padding))


def naive_input_gradient(dy, w, padding):
    turned = w[::-1, ::-1].swapaxes(2, 3)
    return naive_convolution(dy, turned, tuple((2 - a, 2 - b) for a, b in padding))


def naive_weight_gradient(x, dy, padding):
    dw = np.empty((3, 3, x.shape[-1], dy.shape[-1]))
    for r, s, view in taps(x, padding):
        dw[r, s] = np.tensordot(view, dy, ((0, 1, 2), (0, 1, 2)))
    return dw


def example(case, dtype, members=(1, 1), positive=False):
    """Return x, w, bias and dy of so many members: the first number is that of x."""
    n, height, width, channels, filters, padding = case
    out = geometry(height, width, padding).out[1:]
    rng = np.random.default_rng(sum(case[:5]))
    shapes = [(n, height, width, channels), (3, 3, channels, filters), (filters,)]
    arrays = [
        rng.standard_normal((m, *s)).astype(dtype)
        for m, s in zip(
            (members[0], *[members[1]] * 3), [*shapes, (n, *out, filters)], strict=True
        )
    ]
    if positive:
        arrays[0] = np.maximum(arrays[0], 0)
    return arrays


def guarded(shape, dtype):
    """Return an array of NaN between two guards of 7.5, and the whole of it."""
    size = int(np.prod(shape[1:]))
    whole = np.full(shape[0] * size + 64, 7.5, dtype)
    view = whole[32:-32].reshape(shape[0], size)
    view[...] = np.nan
    return view, whole


def flat(a):
    """Return an array as the kernels take it, in the midst of NaN."""
    whole = np.full(a.size + 64, np.nan, a.dtype)
    whole[32:-32] = a.ravel()
    return whole[32:-32].reshape(len(a), -1)


def launch(kernel, plan, scratch, args, shape, shift=0):
    """Run a kernel on guarded memory; the scratch starts `shift` elements off a line."""
    dtype = args[0].dtype
    out, whole = guarded(shape, dtype)
    work, around = guarded((1, scratch + shift), dtype)
    kernel[dtype](*map(flat, args), plan, work[0, shift:], out)
    for memory in (whole, around):
        assert (memory[:32] == 7.5).all()
        assert (memory[-32:] == 7.5).all()
    return out.reshape(shape)


def convolve(algorithm, case, x, w, bias, relu=False, shift=0):
    _, height, width, channels, filters, padding = case
    g = geometry(height, width, padding)
    plan, scratch = winograd.correlation(
        g, x.shape[1], channels, filters, algorithm, False, x.itemsize
    )
    plan[winograd.RELU] = relu
    shape = (max(len(x), len(w)), x.shape[1], *g.out[1:], filters)
    return launch(winograd.correlate[algorithm], plan, scratch, (x, w, bias), shape, shift)


def input_gradient(algorithm, case, dy, w):
    _, height, width, channels, filters, padding = case
    g = geometry(height, width, padding)
    plan, scratch = winograd.correlation(
        g, dy.shape[1], channels, filters, algorithm, True, dy.itemsize
    )
    shape = (max(len(dy), len(w)), dy.shape[1], height, width, channels)
    bias = np.zeros((1, channels), dy.dtype)
    return launch(winograd.correlate[algorithm], plan, scratch, (dy, w, bias), shape)


def weight_gradient(algorithm, case, x, dy):
    _, height, width, channels, filters, padding = case
    g = geometry(height, width, padding)
    plan, scratch = winograd.weights(g, x.shape[1], channels, filters, algorithm, x.itemsize)
    shape = (max(len(x), len(dy)), 3, 3, channels, filters)
    return launch(winograd.weight_grad[algorithm], plan, scratch, (x, dy), shape)


def passes(algorithm, case, x, w, bias, dy):
    """Return the results of the three passes."""
    return (
        convolve(algorithm, case, x, w, bias),
        input_gradient(algorithm, case, dy, w),
        weight_gradient(algorithm, case, x, dy),
    )


def naive_passes(case, x, w, bias, dy):
    """Return what the three passes of one member should give, in float64."""
    x, w, bias, dy = (a[0].astype(np.float64) for a in (x, w, bias, dy))
    return (
        naive_convolution(x, w, case[-1]) + bias,
        naive_input_gradient(dy, w, case[-1]),
        naive_weight_gradient(x, dy, case[-1]),
    )


# ---- matrices -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "outputs", "count"),
    [
        (winograd.POINTS[4], 4, 3),
        (winograd.POINTS[2], 2, 3),
        ((0, 1, -1, 2), 3, 3),
        ((0, 3), 2, 2),
    ],
)
def test_matrices_give_the_correlation_exactly(points, outputs, count):
    bt, g, at = matrices(points, outputs, count)
    side = outputs + count - 1
    for i in range(side):
        for j in range(count):
            # The unit vectors of tile and filter meet in output i - j alone.
            products = [bt[e][i] * g[e][j] for e in range(side)]
            y = [sum(a * p for a, p in zip(row, products, strict=True)) for row in at]
            assert y == [Fraction(i - j == k) for k in range(outputs)]


def test_matrices_refuse_a_wrong_number_of_points():
    with pytest.raises(ValueError, match=r"3 points; F\(4, 3\) takes 5"):
        matrices((0, 1, -1), 4)


def test_matrices_that_meet_the_data_are_exact_in_float32():
    for tile, points in winograd.POINTS.items():
        bt, _, at = matrices(points, tile)
        entries = [v for matrix in (bt, at) for row in matrix for v in row]
        assert all(Fraction(float(np.float32(float(v)))) == v for v in entries)


def simulated_error(points, rng):
    """Return the root mean square error of F(4x4, 3x3) in float32, relative to the values."""
    matrices_ = matrices(points, 4)
    bt, g, at = (np.array([[float(v) for v in r] for r in m]) for m in matrices_)
    d = rng.standard_normal((500, 32, 6, 6)).astype(np.float32)
    f = rng.standard_normal((32, 3, 3)).astype(np.float32)
    y = []
    for t in (np.float32, np.float64):
        b, h, a = bt.astype(t), g.astype(t), at.astype(t)
        products = (b @ d.astype(t) @ b.T) * (h @ f.astype(t) @ h.T)
        y.append(a @ products.sum(1) @ a.T)
    return np.sqrt(np.mean((y[0] - y[1]) ** 2) / np.mean(y[1] ** 2))


def test_points_err_less_than_the_usual_ones():
    ours = simulated_error(winograd.POINTS[4], np.random.default_rng(0))
    usual = simulated_error((0, 1, -1, 2, -2), np.random.default_rng(0))
    assert ours < usual / 2  # measured: a third


# ---- the three passes ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 1e-5), ("f8", 1e-12)])
def test_passes(dtype, tolerance, algorithm, case):
    arrays = example(case, dtype)
    expected = naive_passes(case, *arrays)
    for got, value in zip(passes(algorithm, case, *arrays), expected, strict=True):
        # Relative to the largest value: a tile's rounding spreads to all of its pixels.
        assert abs(got[0] - value).max() <= tolerance * abs(value).max()


#: Bounds on float32: the largest error over the largest value, root mean squares likewise. The
#: module's table has what was measured, at most two thirds of them.
BOUNDS = {"f4": (1e-5, 3e-6), "f2": (3e-6, 2e-6)}


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_error_in_float32(algorithm, positive):
    for case in [(8, 28, 28, 32, 64, SAME), (2, 14, 14, 256, 160, SAME)]:
        arrays = example(case, "f4", positive=positive)
        expected = passes(algorithm, case, *(a.astype("f8") for a in arrays))
        largest, rms = BOUNDS[algorithm]
        for got, value in zip(passes(algorithm, case, *arrays), expected, strict=True):
            error = got - value
            assert abs(error).max() <= largest * abs(value).max()
            assert np.sqrt(np.mean(error**2)) <= rms * np.sqrt(np.mean(value**2))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 1e-5), ("f8", 1e-13)])
def test_passes_are_adjoint(dtype, tolerance, algorithm):
    for case in CASES:
        x, w, bias, dy = example(case, dtype)
        y, dx, dw = (
            a.astype("f8") for a in passes(algorithm, case, x, w, np.zeros_like(bias), dy)
        )
        terms = y * dy
        for other in (x * dx, w * dw):
            # Rounding of the results, which the sum's terms bound.
            assert abs(other.sum() - terms.sum()) <= tolerance * np.sqrt(np.sum(terms**2)) * 10


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_relu_is_what_remains_of_the_convolution(algorithm):
    case = CASES[4]
    x, w, bias, _ = example(case, "f4")
    bias[0, 1] = np.nan
    plain, fused = (convolve(algorithm, case, x, w, bias, relu) for relu in (False, True))
    assert np.isnan(plain[..., 1]).all()
    assert (np.delete(plain, 1, -1) < 0).any()
    np.testing.assert_array_equal(fused, np.maximum(plain, 0))  # NaN stays in both


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weight_gradient_of_no_images_is_zero(algorithm):
    case = (0, 6, 6, 5, 7, SAME)
    x, w, bias, dy = example(case, "f4")
    assert (weight_gradient(algorithm, case, x, dy) == 0).all()
    assert convolve(algorithm, case, x, w, bias).size == 0


# ---- bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("members", [(3, 3), (1, 3)])
def test_members_equal_solo_runs(algorithm, members):
    for case in (CASES[4], CASES[8]):
        x, w, bias, dy = example(case, "f4", members)
        together = passes(algorithm, case, x, w, bias, dy)
        for m in range(3):
            of_m = [a[m : m + 1] if len(a) > 1 else a for a in (x, w, bias, dy)]
            for a, b in zip(together, passes(algorithm, case, *of_m), strict=True):
                assert a[m].tobytes() == b[0].tobytes()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("transposed", [False, True])
def test_an_image_has_the_same_bits_in_any_batch(algorithm, transposed):
    case = (40, 9, 11, 35, 66, SAME)
    x, w, bias, dy = example(case, "f4")

    def run(images):
        if transposed:
            return input_gradient(algorithm, case, dy[:, images], w)
        return convolve(algorithm, case, x[:, images], w, bias)

    whole = run(slice(None))
    for images in (slice(0, 1), slice(7, 8), slice(3, 9), slice(21, 40)):
        assert run(images).tobytes() == whole[:, images].tobytes()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kept", [False, True])
def test_blocks_change_no_bits(algorithm, kept, monkeypatch):
    case = (12, 10, 9, 20, 70, SAME)
    x, w, bias, dy = example(case, "f4")
    expected = passes(algorithm, case, x, w, bias, dy)
    monkeypatch.setattr(winograd, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(winograd, "_AMORTISED", 1)
    if not kept:
        monkeypatch.setattr(winograd, "_FILTER_BYTES", 0)
    size = (geometry(*case[1:3], SAME), case[0], 20, 70, algorithm, False, 4)
    plan, _ = winograd.correlation(*size)
    assert plan[winograd.BLOCK] * 2 < case[0] * plan[winograd.DOWN] * plan[winograd.ALONG]
    assert (plan[winograd.SLOTS] > 1) == kept
    got = passes(algorithm, case, x, w, bias, dy)
    for a, b in zip(got, expected, strict=True):
        assert a.tobytes() == b.tobytes()  # sums over tiles go on where the last block left off


@pytest.mark.parametrize("shift", [1, 5, 15])
def test_alignment_of_the_scratch_changes_no_bits(shift):
    case = CASES[4]
    x, w, bias, _ = example(case, "f4")
    expected = convolve("f4", case, x, w, bias)
    assert convolve("f4", case, x, w, bias, shift=shift).tobytes() == expected.tobytes()


# ---- which shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "groups", "expected"),
    [
        ({}, 1, True),
        ({}, 2, False),
        ({"kernel": (1, 1, 3)}, 1, False),
        ({"kernel": (3, 3, 3)}, 1, False),
        ({"spatial": (2, 8, 8)}, 1, False),
        ({"stride": (1, 2, 2)}, 1, False),
        ({"dilation": (1, 1, 2)}, 1, False),
        ({"padding": ((0, 0), (3, 1), (1, 1))}, 1, False),
        ({"padding": ((0, 0), (2, 0), (0, 2))}, 1, True),
        ({"padding": ((1, 1), (1, 1), (1, 1))}, 1, False),
    ],
)
def test_fits(change, groups, expected):
    assert winograd.fits(geometry(8, 8, SAME)._replace(**change), groups) is expected


@pytest.mark.parametrize(
    ("size", "channels", "filters", "expected"),
    [
        (56, 64, 64, "f4"),
        (28, 32, 64, "f4"),
        (28, 16, 16, "f4"),
        (7, 512, 512, "f4"),
        (4, 512, 512, "f4"),
        (6, 64, 64, "f2"),
        (5, 256, 256, "f2"),
        (2, 64, 64, "f2"),
        (1, 64, 64, False),
        (28, 1, 32, False),
        (28, 3, 64, False),
        (28, 64, 3, False),
        (28, 8, 8, False),
    ],
)
def test_choose(size, channels, filters, expected):
    assert winograd.choose(geometry(size, size, SAME), channels, filters) == expected


# ---- other instruction sets ---------------------------------------------------------------------

ELSEWHERE = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
import numpy as np
from skdeep._kernels.cpu._microkernel import HOST

spec = spec_from_file_location("test_winograd", sys.argv[1])
tests = module_from_spec(spec)
spec.loader.exec_module(tests)
assert HOST.name == sys.argv[2]
for case in tests.CASES:
    tests.test_passes("f4", 1e-5, "f4", case)
"""


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 alone")
@pytest.mark.parametrize(
    ("name", "cpu", "features"),
    [
        ("avx2", "haswell", "+avx2,+fma"),
        pytest.param("generic", "x86-64", "", marks=pytest.mark.slow),
    ],
)
def test_other_instruction_sets(name, cpu, features):
    host = llvm.get_host_cpu_features()
    if not all(host.get(f[1:]) for f in features.split(",") if f):
        pytest.skip(f"this machine has no {name}")
    env = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features or "+sse2"}
    subprocess.run([sys.executable, "-c", ELSEWHERE, __file__, name], check=True, env=env)
