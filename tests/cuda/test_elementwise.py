import numpy as np
import pytest

from skdeep._kernels.cpu import elementwise as cpu
from skdeep._kernels.cuda import elementwise as gpu_module
from skdeep._kernels.cuda import program
from tests.cuda.harness import check_twin, copied, run_twin


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def unset(*shape, dtype=np.float32):
    return np.full(shape, np.nan if dtype == np.float32 else 9, dtype)


def strided(*shape, seed=0, gap=4):
    """Return members (of any shape) with a gap between them."""
    n = int(np.prod(shape[1:]))
    whole = normal(shape[0], n + gap, seed=seed)
    return whole[:, :n].reshape(shape) if gap == 0 else _members(whole, shape)


def _members(whole, shape):
    inner = np.zeros(shape[1:], np.float32).strides
    return np.lib.stride_tricks.as_strided(whole, shape, (whole.strides[0], *inner))


def test_every_kernel_has_a_twin():
    kernels = {n for n, k in vars(cpu).items() if type(k) is type(cpu.add)}
    assert kernels
    assert kernels <= set(gpu_module.TWINS)


# 1015: 253 vectors and 3 single elements, which fill a block.
@pytest.mark.parametrize("n", [1, 3, 300, 1015, 1028])
def test_add_and_copy(gpu, n):
    check_twin(gpu, cpu.add, *normal(2, n), unset(n), rtol=0, atol=0)
    check_twin(gpu, cpu.copy, normal(n), unset(n), rtol=0, atol=0)


def test_unaligned(gpu):
    x, y = normal(2, 301)
    out = unset(301)
    check_twin(gpu, cpu.add, x[1:], y[1:], out[1:], rtol=0, atol=0)


def test_add_to_itself_keeps_nan_and_infinities(gpu):
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0], np.float32)
    check_twin(gpu, cpu.add, x, x, x, rtol=0, atol=0)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("gap", [0, 3, 4])
def test_accumulate(gpu, first, gap):
    x, out = strided(2, 21, gap=gap), strided(2, 21, seed=1)
    check_twin(gpu, cpu.accumulate, x, first, out, rtol=0, atol=0)


@pytest.mark.parametrize("gap", [0, 3, 4])
def test_blend(gpu, gap):
    old, new = strided(2, 21, gap=gap), strided(2, 21, seed=1)
    share = np.array([0.9, 0.1], np.float32)
    # The CPU may fuse the multiplication and the addition, which rounds once less.
    check_twin(gpu, cpu.blend, old, new, share, old, rtol=1e-6)


@pytest.mark.parametrize("widths", [(3, 1, 5), (4, 8), (1,), (4, 4, 12, 4, 4, 8), (2, 0, 7)])
@pytest.mark.parametrize("rows", [1, 9])
def test_concatenate(gpu, widths, rows):
    given = [normal(rows, n, seed=n) for n in widths]
    out = unset(rows, sum(widths))
    given += [out[:, :0]] * (6 - len(given))
    check_twin(gpu, cpu.concatenate, *given, out, rtol=0, atol=0)


@pytest.mark.parametrize(("start", "width"), [(0, 3), (4, 8), (5, 8), (12, 0)])
def test_take_columns(gpu, start, width):
    check_twin(gpu, cpu.take_columns, normal(9, 16), start, unset(9, width), rtol=0, atol=0)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("rows", [1, 37, 700])
@pytest.mark.parametrize("columns", [1, 5, 12])
def test_column_sum(gpu, members, rows, columns):
    # The CPU's own error: it adds row after row, half a unit in the last place each.
    x = strided(members, rows, columns)
    check_twin(gpu, cpu.column_sum, x, unset(members, columns), atol=rows * 6e-8)


@pytest.mark.parametrize("columns", [21, 100])
@pytest.mark.parametrize("gap", [3, 4])
def test_column_sum_by_several_blocks(gpu, columns, gap):
    x, out = strided(1, 403, columns, gap=gap), unset(1, columns)
    mirror = program.Mirror(gpu)
    assert len(gpu_module.column_sums(mirror.of(x), mirror.of(out))) == 2
    run_twin(gpu, cpu.column_sum[np.float32], x, out)
    np.testing.assert_allclose(out, x.sum(1, np.float64), 1e-5, 1e-5)


def test_column_sum_of_many_columns_and_none(gpu):
    check_twin(gpu, cpu.column_sum, normal(1, 5, 301), unset(1, 301))
    check_twin(gpu, cpu.column_sum, normal(1, 0, 3), unset(1, 3))


def test_column_sums_of_strided_rows(gpu):
    x = normal(2, 40, 10)
    out = unset(2, 4)
    call = program.Twin(gpu_module.column_sums, "column_sums")
    run_twin(gpu, call, x[:, ::2, 4:8], out)
    np.testing.assert_allclose(out, x[:, ::2, 4:8].sum(1), 1e-5, 1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 2), (2, 1037), (1, 9003), (1, 40003)])
def test_row_sum(gpu, shape):
    # 4 units of 2**-24 of the sum of magnitudes, which a mean of one keeps near the sum.
    check_twin(gpu, cpu.row_sum, normal(*shape) + 1, unset(shape[0]), rtol=2.5e-7)


def test_row_sum_is_compensated(gpu):
    # As documented: 4 units of 2**-24 of the sum of magnitudes. What follows the large number in
    # its thread's sum would be rounded to its quarters otherwise.
    x = np.full((1, 20011), 0.1, np.float32)
    x[0, 7] = 3e6
    out = check_twin(gpu, cpu.row_sum, x, unset(1), rtol=4 * 2.0**-24)[1]
    assert abs(out[0] - x.sum(dtype=np.float64)) <= 4 * 2.0**-24 * x.sum(dtype=np.float64)


def test_row_sum_of_nan_and_infinity(gpu):
    x = normal(4, 9)
    x[0, 3], x[1, 4], x[2, 5:7] = np.nan, np.inf, (np.inf, -np.inf)
    check_twin(gpu, cpu.row_sum, x, unset(4))


def _odd_numbers():
    bits = np.random.default_rng(0).integers(0, 2**32, 997, np.uint32)
    edges = np.array([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800001, 0xFFFFFFFF, 0x80000000])
    x = np.concatenate([bits, edges.astype(np.uint32)]).view(np.float32)
    return x[: len(x) // 8 * 8 + 3]


@pytest.mark.parametrize("start", [0, 1])
def test_bfloat16(gpu, start):
    x = _odd_numbers()[start:]
    halves = unset(x.size, dtype=np.uint16)
    expected, got = copied([x, halves]), copied([x, halves])
    cpu.pack_bfloat16[np.float32](*expected)
    run_twin(gpu, cpu.pack_bfloat16[np.float32], *got)
    np.testing.assert_array_equal(got[1], expected[1])
    back = unset(x.size)
    run_twin(gpu, cpu.unpack_bfloat16[np.float32], got[1], back)
    np.testing.assert_array_equal(back.view(np.uint32), got[1].astype(np.uint32) << 16)
