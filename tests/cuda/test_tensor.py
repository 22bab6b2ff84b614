import numpy as np
import pytest

from skdeep._kernels.cuda._numba import cuda, float32, kernel, uint32
from skdeep._kernels.cuda._tensor import (
    ROUND,
    bfloat16,
    commit,
    copy1_async,
    copy4_async,
    load1_inside,
    load4_inside,
    matrix_loader,
    multiply_add,
    store_bfloat16,
    store_run,
    tf32,
    vector_loader,
    wait_groups,
)
from skdeep._kernels.cuda.program import Mirror, Twin


def _run(gpu, launches, *arrays):
    mirror = Mirror(gpu)
    mirror.compile([(Twin(launches, "test"), arrays)])()
    mirror.pull(*arrays)


# ---- rounding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("bfloat16", 7)])
def test_rounding_is_to_nearest(precision, bits):
    rng = np.random.default_rng(bits)
    x = (rng.standard_normal(1000) * 10.0 ** rng.integers(-30, 30, 1000)).astype(np.float32)
    unit = 2.0 ** (np.floor(np.log2(np.abs(x.astype(np.float64)))) - bits)
    halves = (np.floor(x / unit) + 0.5) * unit  # exact: 1.5 times as many bits remain
    for values in x, halves.astype(np.float32):
        exact = values / unit
        if precision == "tf32":
            nearest = np.sign(exact) * np.floor(np.abs(exact) + 0.5)
        else:
            nearest = np.rint(exact)
        np.testing.assert_array_equal(ROUND[precision](values), (nearest * unit))


@pytest.mark.parametrize("function", [tf32, bfloat16])
def test_rounding_keeps_nan_and_infinity_and_overflows(function):
    x = np.array([np.nan, np.inf, -np.inf, np.finfo(np.float32).max, 0, -0.0], np.float32)
    x[0] = np.array(0x7F800001, np.uint32).view(np.float32)  # a NaN of low bits alone
    expected = np.array([np.nan, np.inf, -np.inf, np.inf, 0, -0.0], np.float32)
    np.testing.assert_array_equal(function(x), expected)
    np.testing.assert_array_equal(np.signbit(function(x)), np.signbit(expected))


# ---- copies and stores ------------------------------------------------------------------------

_wait = wait_groups(0)


@kernel("f f u", threads=32)
def _copies(x, out, n):
    memory = cuda.shared.array(160, float32, 128)
    t = uint32(cuda.threadIdx.x)
    at = uint32(t * uint32(4))
    copy4_async(memory, at, x, at, uint32(at + uint32(4)) <= n)
    copy1_async(memory, uint32(t + uint32(128)), x, t, t < n)
    commit()
    _wait()
    cuda.syncthreads()
    for i in range(uint32(5)):
        out[uint32(i * uint32(32) + t)] = memory[uint32(i * uint32(32) + t)]
    v = load4_inside(x, at, uint32(at + uint32(4)) <= n)
    for i in range(uint32(4)):
        out[uint32(uint32(160) + at + i)] = v[i]
    out[uint32(uint32(288) + t)] = load1_inside(x, t, t < n)


def test_copies_read_nothing_outside(gpu):
    x = np.arange(1, 21, dtype=np.float32)
    out = np.full(320, np.nan, np.float32)
    _run(gpu, lambda x, out: [_copies(1, x, out, 20)], x, out)
    four, one = np.zeros(128), np.zeros(32)
    four[:20], one[:20] = x, x
    np.testing.assert_array_equal(out, np.concatenate([four, one, four, one]))


@kernel("f f", threads=32)
def _stores(x, out):
    t = uint32(cuda.threadIdx.x)
    i = uint32(t * uint32(8))
    v = x[uint32(2 * t)], x[uint32(uint32(2 * t) + uint32(1))]
    store_run(out, i, v, t >= uint32(3), t)
    store_run(out, uint32(i + uint32(4)), (v[0], v[1], v[0], v[1]), t >= uint32(5), t)


def test_runs_are_stored_whole_or_in_part(gpu):
    x, out = np.arange(64, dtype=np.float32), np.zeros((32, 8), np.float32)
    _run(gpu, lambda x, out: [_stores(1, x, out)], x, out)
    expected = np.zeros((32, 8))
    for t in range(32):
        expected[t, : min(t, 2)] = x[2 * t : 2 * t + min(t, 2)]
        expected[t, 4 : 4 + min(t, 4)] = np.tile(x[2 * t : 2 * t + 2], 2)[: min(t, 4)]
    np.testing.assert_array_equal(out, expected)


# ---- fragments --------------------------------------------------------------------------------

_vectors = vector_loader((0, 64))
_matrices, _transposed = matrix_loader((0, 128)), matrix_loader((0,), transposed=True)


@kernel("f f w", threads=32)
def _fragments(x, out, words):
    memory = cuda.shared.array(256, float32, 128)
    pairs = cuda.shared.array(128, uint32, 128)
    t = uint32(cuda.threadIdx.x)
    for i in range(uint32(8)):
        memory[uint32(i * uint32(32) + t)] = x[uint32(i * uint32(32) + t)]
    at = uint32(t * uint32(8))
    store_bfloat16(
        pairs, uint32(t * uint32(4)), load4_inside(x, at, True),
        load4_inside(x, uint32(at + uint32(4)), True),
    )  # fmt: skip
    cuda.syncthreads()
    four = _vectors(memory, uint32(uint32(t & uint32(15)) * uint32(4)))
    eight = _matrices(memory, uint32(t * uint32(4)))
    turned = _transposed(pairs, uint32(t * uint32(4)))
    for i in range(uint32(4)):
        o = uint32(t * uint32(16) + i)
        out[o], out[uint32(o + uint32(4))] = four[0][i], four[1][i]
        out[uint32(o + uint32(8))], out[uint32(o + uint32(12))] = eight[0][i], eight[1][i]
        words[uint32(t * uint32(4) + i)] = turned[0][i]


def test_fragments_are_where_ldmatrix_puts_them(gpu):
    x = np.arange(256, dtype=np.float32)  # bfloat16 holds these numbers exactly
    out, words = np.full((32, 16), np.nan, np.float32), np.zeros((32, 4), np.int32)
    _run(gpu, lambda x, out, words: [_fragments(1, x, out, words)], x, out, words)
    for lane in range(32):
        g, t = divmod(lane, 4)
        first = 4 * (lane % 16)
        np.testing.assert_array_equal(out[lane, :4], x[first : first + 4])
        np.testing.assert_array_equal(out[lane, 4:8], x[first + 64 : first + 68])
        for i in range(4):
            word = (8 * i + g) * 4 + t
            assert (out[lane, 8 + i], out[lane, 12 + i]) == (x[word], x[word + 128])
            low, high = (x[(8 * i + 2 * t + e) * 8 + g].view(np.uint32) >> 16 for e in (0, 1))
            assert np.uint32(words[lane, i]) == low | high << 16


_two_tiles = {
    p: multiply_add(
        p, [(0, 0), (0, 1), (0, 2), (0, 3)], [(0, 0), (0, 1), (1, 0), (1, 1)]
    )
    for p in ("tf32", "bfloat16")
}  # fmt: skip
_tf32, _bfloat16 = _two_tiles["tf32"], _two_tiles["bfloat16"]


@kernel("f f f", threads=32)
def _multiply(a, b, out):
    """Two tiles of TF32 and two of bfloat16, from fragments in the order of lanes."""
    memory = cuda.shared.array(512, uint32, 128)
    t = uint32(cuda.threadIdx.x)
    i = uint32(t * uint32(8))
    store_bfloat16(
        memory, uint32(t * uint32(4)), load4_inside(a, i, True),
        load4_inside(a, uint32(i + uint32(4)), True),
    )  # fmt: skip
    store_bfloat16(
        memory, uint32(uint32(128) + t * uint32(4)), load4_inside(b, i, True),
        load4_inside(b, uint32(i + uint32(4)), True),
    )  # fmt: skip
    cuda.syncthreads()
    o = uint32(t * uint32(4))
    x, y = load4_inside(a, o, True), load4_inside(b, o, True)
    zero = float32(0)
    sums = zero, zero, zero, zero, zero, zero, zero, zero
    sums = _tf32(sums, (x,), ((y[0], y[1]), (y[2], y[3])))
    for q in range(uint32(8)):
        out[uint32(i + q)] = sums[q]
    pairs = (memory[o], memory[o + uint32(1)], memory[o + uint32(2)], memory[o + uint32(3)])
    o = uint32(o + uint32(128))
    first, second = (
        (memory[o], memory[o + uint32(1)]),
        (memory[o + uint32(2)], memory[o + uint32(3)]),
    )
    sums = zero, zero, zero, zero, zero, zero, zero, zero
    sums = _bfloat16(sums, (pairs,), (first, second))
    for q in range(uint32(8)):
        out[uint32(uint32(256) + i + q)] = sums[q]


def test_products_are_those_of_mma(gpu):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 32, 8)).astype(np.float32)
    out = np.full((2, 32, 8), np.nan, np.float32)
    _run(gpu, lambda a, b, out: [_multiply(1, a, b, out)], a, b, out)
    for p, (precision, pack) in enumerate([("tf32", 1), ("bfloat16", 2)]):
        x, y = (ROUND[precision](v.ravel()[: 128 * pack]).astype(np.float64) for v in (a, b))
        x, y = x.reshape(32, 4, pack), y.reshape(32, 4, pack)
        left, right = np.zeros((16, 8 * pack)), np.zeros((2, 8 * pack, 8))
        for lane in range(32):
            g, t = divmod(lane, 4)
            for e in range(pack):
                for q in range(4):
                    left[g + 8 * (q % 2), pack * t + 4 * pack * (q // 2) + e] = x[lane, q, e]
                    right[q // 2, pack * t + 4 * pack * (q % 2) + e, g] = y[lane, q, e]
        for lane in range(32):
            g, t = divmod(lane, 4)
            rows, columns = [g, g, g + 8, g + 8], [2 * t, 2 * t + 1] * 2
            exact = (left @ right)[:, rows, columns].ravel()
            # sums of 8 or 16 products, of which each is exact in float32
            np.testing.assert_allclose(out[p, lane], exact, rtol=1e-5, atol=1e-5)
