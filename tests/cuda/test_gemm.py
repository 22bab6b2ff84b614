import itertools
import math

import numpy as np
import pytest

from skdeep._kernels import scalar
from skdeep._kernels.cuda import gemm
from skdeep._kernels.cuda._numba import device, float32, shared, uint32
from skdeep._kernels.cuda._tile import (
    FLOORED,
    LARGE,
    MEDIUM,
    SMALL,
    Epilogue,
    Loader,
    load_some,
    tile_kernel,
    tile_launch,
)
from skdeep._kernels.cuda.program import Mirror, Twin

#: What float32 sums of up to 300 terms of another order agree to.
TOLERANCE = dict(rtol=1e-5, atol=1e-5)


def _operand(rng, members, rows, columns, transposed, gap=0):
    """Return a matrix or its transposed, `gap` elements between its rows in memory."""
    shape = (members, columns, rows) if transposed else (members, rows, columns)
    wide = np.full((*shape[:2], shape[2] + gap), np.nan, np.float32)
    wide[..., : shape[2]] = rng.standard_normal(shape)
    return wide[..., : shape[2]]


def _op(a, transposed):
    return np.swapaxes(a, 1, 2).astype(np.float64) if transposed else a.astype(np.float64)


def _run(gpu, a, ta, b, tb, members=None, **options):
    members = max(a.shape[0], b.shape[0])
    out = np.full((members, _op(a, ta).shape[1], _op(b, tb).shape[2]), np.nan, np.float32)
    bias = options.pop("bias", None)

    def function(a, b, out, *rest):
        return gemm.multiply(a, ta, b, tb, out, bias=rest[0] if rest else None, **options)

    mirror, arrays = Mirror(gpu), [a, b, out, *([] if bias is None else [bias])]
    for x in arrays:
        mirror.include(x if x.base is None else x.base)
    mirror.compile([(Twin(function, "multiply"), arrays)])()
    mirror.pull(out)
    return out


@pytest.mark.parametrize(("ta", "tb"), itertools.product((0, 1), (0, 1)))
@pytest.mark.parametrize("shape", [LARGE, MEDIUM, SMALL], ids=str)
@pytest.mark.parametrize("vector", [True, False])
def test_tiles(gpu, monkeypatch, ta, tb, shape, vector):
    monkeypatch.setattr(gemm, "choose", lambda m, n, k, *_: (shape, 1, k))
    unit = 4 if vector else 1
    m, n, k = shape.rows + unit, 2 * unit + (0 if vector else 1), shape.depth + 4
    k += 0 if vector else 1
    rng = np.random.default_rng(m)
    a, b = _operand(rng, 1, m, k, ta), _operand(rng, 1, k, n, tb)
    out = _run(gpu, a, ta, b, tb)
    np.testing.assert_allclose(out, _op(a, ta) @ _op(b, tb), **TOLERANCE)


@pytest.mark.parametrize(("ta", "tb"), itertools.product((0, 1), (0, 1)))
@pytest.mark.parametrize(("gap", "members"), [(0, (1, 1)), (1, (2, 1)), (4, (1, 2)), (3, (2, 2))])
def test_multiply(gpu, ta, tb, gap, members):
    rng = np.random.default_rng(gap)
    a = _operand(rng, members[0], 4, 12, ta, gap)
    b = _operand(rng, members[1], 12, 8, tb, gap)
    out = _run(gpu, a, ta, b, tb)
    np.testing.assert_allclose(out, _op(a, ta) @ _op(b, tb), **TOLERANCE)


@pytest.mark.parametrize(
    ("activation", "columns", "members"),
    [("identity", 4, 2), ("relu", 6, 2), ("tanh", 10, 1), ("logistic", 8, 1)],
)
def test_split_sums(gpu, monkeypatch, activation, columns, members):
    monkeypatch.setattr(gemm, "_CHOICES", ((SMALL, 100, 32, 1.0),))
    rng = np.random.default_rng(columns)
    a = _operand(rng, members, 3, 100, False)
    b = _operand(rng, 1, 100, columns, False) / 10
    bias = rng.standard_normal((members, columns)).astype(np.float32)
    options = dict(bias=bias, activation=activation)
    out = _run(gpu, a, 0, b, 0, **options)
    z = _op(a, 0) @ _op(b, 0) + bias[:, None]
    exact = {"identity": z, "relu": np.maximum(z, 0), "tanh": np.tanh(z)}
    exact["logistic"] = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(out, exact[activation], **TOLERANCE)
    np.testing.assert_array_equal(out, _run(gpu, a, 0, b, 0, **options))


@pytest.mark.parametrize(
    ("ta", "tb", "least"), [(0, 0, 32), (0, 1, 1000), (1, 0, 1000), (1, 1, 32)]
)
def test_nan_and_infinity_stay_in_their_row_and_column(gpu, monkeypatch, least, ta, tb):
    monkeypatch.setattr(gemm, "_CHOICES", ((SMALL, 100, least, 1.0),))
    rng = np.random.default_rng(0)
    a, b = _operand(rng, 1, 5, 70, ta), _operand(rng, 1, 70, 7, tb)
    (a[0].T if ta else a[0])[4, 69] = np.nan
    (b[0].T if tb else b[0])[0, 6] = np.inf
    out = _run(gpu, a, ta, b, tb, activation="relu")
    with np.errstate(invalid="ignore"):
        expected = np.maximum(_op(a, ta) @ _op(b, tb), 0)
    assert np.isnan(expected).sum() == 7
    assert np.isinf(expected).any()
    np.testing.assert_allclose(out, expected, **TOLERANCE)


def test_sums_of_nothing_are_the_bias(gpu):
    a, b = np.zeros((1, 3, 0), np.float32), np.zeros((1, 0, 2), np.float32)
    bias = np.array([[1, -2]], np.float32)
    np.testing.assert_array_equal(_run(gpu, a, 0, b, 0, bias=bias)[0], bias.repeat(3, 0))


def test_errors_name_what_is_wrong(gpu):
    mirror = Mirror(gpu)
    a, b, out = (mirror.of(np.zeros(s, np.float32)) for s in [(1, 2, 3), (1, 3, 4), (1, 2, 4)])
    with pytest.raises(ValueError, match=r"a product of \(1, 2, 3\) by \(1, 3, 4\) \(transposed"):
        gemm.multiply(a, True, b, False, out)
    with pytest.raises(ValueError, match="activation='gelu': it must be one of"):
        gemm.multiply(a, False, b, False, out, activation="gelu")
    with pytest.raises(ValueError, match="precision='half': it must be one of"):
        gemm.multiply(a, False, b, False, out, precision="half")


# ---- the template -----------------------------------------------------------------------------


@device
def _place_hankel(r, limit, k, batch):
    return (uint32(min(r, uint32(limit - uint32(1))) + k),)


@device
def _begin_hankel(k):
    return (uint32(0),)


@device
def _advance_hankel(step, depth):
    return (uint32(step[0] + depth),)


@device
def _fetch_hankel(X, slot, step, k, end):
    return load_some(X, uint32(slot[0] + step[0]), k, end)


_gelu = shared(scalar.gelu_0)


@device
def _scaled_gelu(v, scale):
    return float32(_gelu(v, float32(0), float32) * scale)


def test_loader_that_advances_and_epilogue_with_a_number(gpu):
    hankel = Loader(
        "hankel", True, _place_hankel, _fetch_hankel, None, _begin_hankel, _advance_hankel
    )
    epilogue = Epilogue("scaled_gelu", _scaled_gelu, ("scale",))
    b = gemm.matrix_loader("b", False, False)
    kernel = tile_kernel("test", hankel, b, gemm.MATRIX, epilogue, SMALL)
    m, n, k = 35, 3, 70
    rng = np.random.default_rng(0)
    x = rng.standard_normal(m + k - 1).astype(np.float32)
    w, out = rng.standard_normal((k, n)).astype(np.float32), np.full((m, n), np.nan, np.float32)

    def launches(x, w, out):
        numbers = dict(b_row=n, b_item=0, c_row=n, c_item=0, c_part=0, bias_item=0, scale=2)
        with pytest.raises(TypeError, match="takes no tap"):
            tile_launch(kernel, x, w, out, (m, n, k), vector=False, tap=1, **numbers)
        return [tile_launch(kernel, x, w, out, (m, n, k), vector=False, **numbers)]

    mirror = Mirror(gpu)
    mirror.compile([(Twin(launches, "hankel"), (x, w, out))])()
    mirror.pull(out)
    z = np.lib.stride_tricks.sliding_window_view(x, k).astype(np.float64) @ w
    exact = [2 * v * (1 + math.erf(v / 2**0.5)) / 2 for v in z.ravel()]
    np.testing.assert_allclose(out.ravel(), exact, rtol=1e-5, atol=3e-5)


# ---- the choice -------------------------------------------------------------------------------

_MULTIPROCESSORS = 132


def _blocks(m, n, k, batch=1):
    shape, parts, depth = gemm.choose(m, n, k, batch, _MULTIPROCESSORS)
    assert depth % shape.depth == 0
    assert (parts - 1) * depth < k <= parts * depth
    tiles = -(-m // shape.rows) * -(-n // shape.columns)
    return str(shape), batch * tiles * parts, parts


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((2048, 2048, 2048), ("128x128x16", 256, 1)),
        ((4096, 4096, 4096), ("128x128x16", 1024, 1)),
        ((8192, 8192, 8192), ("128x128x16", 4096, 1)),
        ((1024, 1024, 1024), ("64x64x16", 256, 1)),
        ((512, 512, 65536), ("128x128x16", 256, 16)),
        # Few columns: no large tile is mostly padding.
        ((100000, 10, 100), ("32x32x32", 3125, 1)),
        ((100000, 64, 576), ("64x64x16", 1563, 1)),
        ((64, 576, 100000), ("64x64x16", 522, 58)),
        # Forward, 784-300-100-10 at 50, 200 and 1024 rows.
        ((50, 300, 784), ("32x32x32", 100, 5)),
        ((200, 300, 784), ("32x32x32", 350, 5)),
        ((1024, 300, 784), ("64x64x16", 240, 3)),
        ((50, 100, 300), ("32x32x32", 16, 2)),
        ((200, 100, 300), ("32x32x32", 56, 2)),
        ((1024, 100, 300), ("32x32x32", 256, 2)),
        ((50, 10, 100), ("32x32x32", 2, 1)),
        ((200, 10, 100), ("32x32x32", 7, 1)),
        ((1024, 10, 100), ("32x32x32", 32, 1)),
        # Weight gradients.
        ((784, 300, 50), ("32x32x32", 250, 1)),
        ((784, 300, 200), ("32x32x32", 250, 1)),
        ((784, 300, 1024), ("64x64x16", 260, 4)),
        ((300, 100, 200), ("32x32x32", 40, 1)),
        ((100, 10, 1024), ("32x32x32", 32, 8)),
    ],
)
def test_choice(sizes, expected):
    assert _blocks(*sizes) == expected


def test_many_members_fill_the_device_without_splits():
    assert _blocks(200, 300, 784, batch=10) == ("64x64x16", 200, 1)


def test_catalogue_has_distinct_names():
    names = [k.__name__ for k in gemm.catalogue()]
    assert len(set(names)) == len(names)
    assert gemm._product_kernel(False, False, True, FLOORED, LARGE).__name__ in names
