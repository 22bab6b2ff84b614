import numpy as np
import pytest

from skdeep._kernels.cpu import dense as cpu
from skdeep._kernels.cuda import dense
from tests.cuda.harness import check_twin

#: What float32 sums of up to 100 terms of another order agree to.
TOLERANCE = dict(rtol=1e-5, atol=2e-6)


def _normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _spread(a):
    """Return the array with gaps between its members."""
    wide = np.full((a.shape[0], a.size // a.shape[0] + 7), np.nan, np.float32)
    strides = (wide.strides[0], *a.strides[1:])
    view = np.lib.stride_tricks.as_strided(wide, a.shape, strides)
    view[...] = a
    return view


def _linear_arguments(members, shared, rows, fan_in, units):
    rng = np.random.default_rng(rows * units)
    x = _normal(rng, 1 if shared else members, rows, fan_in)
    w, b = _normal(rng, members, fan_in, units), _normal(rng, members, units)
    return x, w, b, np.full((members, rows, units), np.nan, np.float32)


@pytest.mark.parametrize("activation", range(4))
@pytest.mark.parametrize(("members", "shared"), [(1, False), (2, False), (2, True)])
def test_linear(gpu, activation, members, shared):
    kernel = cpu.linear if activation < 2 else cpu.linear_sigmoid
    x, w, b, out = _linear_arguments(members, shared, 5, 7, 6)
    computed = check_twin(gpu, kernel, x, w, b, activation, out, **TOLERANCE)
    slopes = [lambda z: z, lambda z: np.maximum(z, 0), np.tanh, lambda z: 1 / (1 + np.exp(-z))]
    exact = slopes[activation](x.astype(np.float64) @ w + b[:, None])
    np.testing.assert_allclose(computed[-1], exact, **TOLERANCE)


def test_linear_keeps_nan(gpu):
    x, w, b, out = _linear_arguments(1, False, 4, 4, 4)
    x[0, 1, 2], x[0, 2, 0], b[0, 3] = np.nan, np.inf, -np.inf
    computed = check_twin(gpu, cpu.linear, x, w, b, 1, out, **TOLERANCE)
    assert np.isnan(computed[-1][0, 1]).all()


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
def test_product(gpu, ta, tb):
    rng = np.random.default_rng(2 * ta + tb)
    a, b = (
        _normal(rng, 2, *((9, 5) if ta else (5, 9))),
        _normal(rng, 1, *((7, 9) if tb else (9, 7))),
    )
    out = np.full((2, 5, 7), np.nan, np.float32)
    check_twin(gpu, cpu.product, _spread(a), ta, b, tb, _spread(out), **TOLERANCE)


def test_precision_must_be_known(gpu):
    from skdeep._kernels.cuda.program import Mirror

    mirror = Mirror(gpu)
    x, w, b, out = map(mirror.of, _linear_arguments(1, False, 2, 2, 2))
    with pytest.raises(ValueError, match="precision='half': it must be one of"):
        dense.linear(x, w, b, 0, out, precision="half")


def _pullback_arguments(members, rows, units, inplace, seed=0):
    rng = np.random.default_rng(seed)
    ct, y = _normal(rng, members, rows, units), _normal(rng, members, rows, units)
    y[0, :3, 0] = np.nan, np.inf, 0
    y = np.where(np.abs(y) < 1, y, np.sign(y) * np.float32(0.5))
    dz = ct if inplace else np.full_like(ct, np.nan)
    return ct, y, dz, np.full((members, units), np.nan, np.float32)


@pytest.mark.parametrize("activation", range(4))
@pytest.mark.parametrize(("members", "inplace"), [(1, False), (2, True)])
@pytest.mark.parametrize(("rows", "units"), [(5, 8), (3, 10), (1, 1)])
def test_pullback(gpu, activation, members, inplace, rows, units):
    kernel = cpu.linear_pullback if activation < 2 else cpu.linear_sigmoid_pullback
    rows = max(rows, 3)
    ct, y, dz, db = _pullback_arguments(members, rows, units, inplace)
    check_twin(gpu, kernel, ct, y, activation, dz, db, **TOLERANCE)


@pytest.mark.parametrize("units", [4, 6])
def test_pullback_of_many_rows_is_split(gpu, units):
    rows = 8 * 256 + 3
    ct, y, dz, db = _pullback_arguments(1, rows, units, False)
    gaps = [_spread(a) for a in (ct, y, dz)]
    # Sums of thousands of terms whose sizes are 1 agree to their root times the rounding.
    first = check_twin(gpu, cpu.linear_pullback, gaps[0], gaps[1], 1, gaps[2], db, atol=2e-4)
    again = check_twin(gpu, cpu.linear_pullback, gaps[0], gaps[1], 1, gaps[2], db, atol=2e-4)
    np.testing.assert_array_equal(first[-1], again[-1])
    exact = np.where(y > 0, ct, 0).sum(1, dtype=np.float64)
    np.testing.assert_allclose(first[-1], exact, 1e-5, 1e-4)


@pytest.mark.parametrize(
    ("members", "rows", "columns", "expected"),
    [
        (1, 50, 300, (32, 1)),
        (1, 200, 300, (32, 6)),
        (1, 1024, 300, (32, 32)),
        (1, 200, 10, (4, 1)),
        (10, 1024, 300, (32, 17)),
        (1, 802816, 64, (16, 528)),
    ],
)
def test_split(members, rows, columns, expected):
    assert dense._split(members, rows, columns, 132) == expected
