import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from skdeep._kernels.cuda import gemm, gemm_tensor
from skdeep._kernels.cuda._tensor import ROUND
from skdeep._kernels.cuda.program import Mirror, Twin

SHAPES = [shape for choices in gemm_tensor.CHOICES.values() for shape, *_ in choices]
LEAST = {precision: choices[-1][0] for precision, choices in gemm_tensor.CHOICES.items()}
PRECISIONS = list(gemm_tensor.CHOICES)


def _operand(rng, members, rows, columns, transposed, gap=0):
    """Return a matrix or its transposed, `gap` elements between its rows in memory."""
    shape = (members, columns, rows) if transposed else (members, rows, columns)
    wide = np.full((*shape[:2], shape[2] + gap), np.nan, np.float32)
    wide[..., : shape[2]] = rng.standard_normal(shape)
    return wide[..., : shape[2]]


def _op(a, transposed):
    return np.swapaxes(a, 1, 2) if transposed else a


def _exact(a, ta, b, tb, precision, bias=None):
    """Return the product of rounded factors in float64."""
    x, y = (ROUND[precision](v).astype(np.float64) for v in (_op(a, ta), _op(b, tb)))
    return x @ y + (0 if bias is None else bias[:, None])


def _run(gpu, a, ta, b, tb, precision, bias=None, gap=0, **options):
    shape = max(a.shape[0], b.shape[0]), _op(a, ta).shape[1], _op(b, tb).shape[2]
    wide = np.full((*shape[:2], shape[2] + gap), np.nan, np.float32)
    out = wide[..., : shape[2]]

    def function(a, b, out, *rest):
        bias = rest[0] if rest else None
        return gemm.multiply(a, ta, b, tb, out, bias=bias, precision=precision, **options)

    mirror, arrays = Mirror(gpu), [a, b, out, *([] if bias is None else [bias])]
    for x in arrays:
        mirror.include(x if x.base is None else x.base)
    mirror.compile([(Twin(function, "multiply"), arrays)])()
    mirror.pull(wide)
    assert np.isnan(wide[..., shape[2] :]).all()
    return out


#: Against products of rounded factors, which float32 holds exactly: sums of up to 300 in float32.
TOLERANCE = dict(rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles(gpu, monkeypatch, shape, ta, tb):
    choices = {shape.precision: ((shape, 1, 1000, 9.0),)}
    monkeypatch.setattr(gemm_tensor, "CHOICES", choices)
    m, n, k = shape.rows + 4, shape.columns - 4, (shape.stages + 1) * shape.depth + 4
    rng = np.random.default_rng(m)
    a, b = _operand(rng, 1, m, k, ta), _operand(rng, 1, k, n, tb)
    out = _run(gpu, a, ta, b, tb, shape.precision)
    np.testing.assert_allclose(out, _exact(a, ta, b, tb, shape.precision), **TOLERANCE)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("ta", "tb"), itertools.product((0, 1), (0, 1)))
@pytest.mark.parametrize(
    ("sizes", "gap", "members"),
    [
        ((8, 4, 20), 4, (2, 2)),
        ((5, 3, 17), 0, (2, 1)),
        ((1, 1, 1), 3, (1, 2)),
        ((67, 70, 33), 0, (1, 1)),
    ],
    ids=str,
)
def test_multiply(gpu, precision, ta, tb, sizes, gap, members):
    m, n, k = sizes
    rng = np.random.default_rng(k)
    a = _operand(rng, members[0], m, k, ta, gap)
    b = _operand(rng, members[1], k, n, tb, gap)
    bias = rng.standard_normal((max(members), n)).astype(np.float32)
    out = _run(gpu, a, ta, b, tb, precision, bias, gap)
    np.testing.assert_allclose(out, _exact(a, ta, b, tb, precision, bias), **TOLERANCE)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_error_against_unrounded_factors(gpu, precision):
    # A factor rounded to nearest with p bits of fraction is off by 2**-(p + 1) of itself at most,
    # a product by 2**-p and a little: 2**-10 for TF32 (p = 10), 2**-7 for bfloat16 (p = 7).
    rng = np.random.default_rng(0)
    a, b = _operand(rng, 1, 9, 130, 0), _operand(rng, 1, 130, 11, 0)
    out = _run(gpu, a, 0, b, 0, precision)
    error = np.abs(out - a.astype(np.float64) @ b)
    scale = np.abs(a).astype(np.float64) @ np.abs(b)
    bound = 2.0 ** -(10 if precision == "tf32" else 7) * 1.01
    assert (error <= bound * scale).all()
    assert error.max() > bound / 100 * scale.max()  # it was not float32


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("activation", "columns", "gap", "members", "split"),
    [
        ("identity", 4, 0, 2, True),
        ("relu", 6, 0, 2, False),
        ("tanh", 8, 0, 2, False),
        ("tanh", 8, 0, 1, True),
        ("logistic", 10, 1, 1, False),
    ],
)
def test_activations(gpu, monkeypatch, precision, activation, columns, gap, members, split):
    choices = {precision: ((LEAST[precision], 100, 32 if split else 1000, 1.0),)}
    monkeypatch.setattr(gemm_tensor, "CHOICES", choices)
    rng = np.random.default_rng(columns)
    a = _operand(rng, members, 3, 100, False)
    b = _operand(rng, 1, 100, columns, False) / 10
    bias = rng.standard_normal((members, columns)).astype(np.float32)
    options = dict(bias=bias, activation=activation, gap=gap)
    out = _run(gpu, a, 0, b, 0, precision, **options)
    z = _exact(a, 0, b, 0, precision, bias)
    exact = {"identity": z, "relu": np.maximum(z, 0), "tanh": np.tanh(z)}
    exact["logistic"] = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(out, exact[activation], **TOLERANCE)
    if split:
        again = _run(gpu, a, 0, b, 0, precision, **options)
        np.testing.assert_array_equal(out, again)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("size", [70, 72])
def test_nan_and_infinity_stay_in_their_row_and_column(gpu, precision, ta, tb, size):
    rng = np.random.default_rng(0)
    a, b = _operand(rng, 1, 8, size, ta), _operand(rng, 1, size, 8, tb)
    # what a NaN of all ones becomes when its rounding overflows must be a NaN still
    _op(a, ta)[0, 4, size - 1] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)
    _op(a, ta)[0, 5, 1] = np.array(0xFFFFFFFF, np.uint32).view(np.float32)
    _op(b, tb)[0, 0, 6] = np.inf
    out = _run(gpu, a, ta, b, tb, precision, activation="relu")
    with np.errstate(invalid="ignore"):
        expected = np.maximum(_exact(a, ta, b, tb, precision), 0)
    assert np.isnan(expected).sum() == 16
    assert np.isinf(expected).any()
    np.testing.assert_allclose(out, expected, **TOLERANCE)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sums_of_nothing_are_the_bias(gpu, precision):
    a, b = np.zeros((1, 3, 0), np.float32), np.zeros((1, 0, 2), np.float32)
    bias = np.array([[1, -2]], np.float32)
    out = _run(gpu, a, 0, b, 0, precision, bias)
    np.testing.assert_array_equal(out[0], bias.repeat(3, 0))


_COMPILED = """
from skdeep._kernels.cuda.gemm_tensor import catalogue
from tests.cuda.machine_code import inspect, tool
# What a warp issues beside a product, which takes a tensor core six cycles or more, hides behind
# it up to five instructions.
wanted = {
    "gemm_n_n_tf32_64x64": (0.1, 128), "gemm_n_n_bfloat16_64x64": (0.1, 128),
    "gemm_t_n_tf32_256x128": (0.2, 255), "gemm_n_n_bfloat16_256x128": (0.2, 255),
}
for kernel in catalogue() if tool("cuobjdump") else ():
    if kernel.__name__ in wanted:
        least, registers = wanted[kernel.__name__]
        code = inspect(kernel)
        share, length = code.main_loop("HMMA")
        assert share >= least, (kernel, share, length)
        assert code.registers <= registers and code.spills == code.stack == code.doubles == 0
"""


def test_main_loop_is_on_the_tensor_cores():
    pytest.importorskip("cuda.core")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "0"}
    subprocess.run([sys.executable, "-c", _COMPILED], env=environment, check=True)
