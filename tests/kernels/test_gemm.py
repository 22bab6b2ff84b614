"""Tests of the matrix products against exact integer products, bounds and row invariance."""

import ctypes
import subprocess
import sys
import threading
from functools import cache
from itertools import product

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from skdeep._kernels.cpu._microkernel import HOST, ISAS
from skdeep._kernels.cpu._panel import PANEL
from skdeep._kernels.cpu.gemm import PRODUCT, build, gemm, gemm_add

ISA = {isa.name: isa for isa in ISAS.values()}
#: Each instruction set in one dtype at least, the host's in both.
VARIANTS = sorted(
    {(HOST.name, "f4"), (HOST.name, "f8"), ("avx512", "f4"), ("avx2", "f4"), ("avx2", "f8")}
    | {("neon", "f4"), ("generic", "f8")}
)
TRANSPOSITIONS = list(product([False, True], repeat=2))


@cache
def compiled(isa, dtype):
    """Return the product for an instruction set as a function of pointers and sizes."""
    function = build(ISA[isa], dtype, cache=ISA[isa] == HOST)
    prototype = PRODUCT.prototype(function.address)
    prototype.keep = function
    return prototype


def padded(x, pad, fill):
    """Return x as a view with `pad` more columns and two more rows of `fill` around it."""
    whole = np.full((x.shape[0] + 2, x.shape[1] + pad), fill, x.dtype)
    view = whole[1:-1, : x.shape[1]]
    view[...] = x
    return view


def multiply(isa, ta, tb, a, b, c, accumulate=False):
    """Call the product on views with contiguous rows."""
    m, n = c.shape
    k = a.shape[0] if ta else a.shape[1]
    arrays = [v for x in (a, b, c) for v in (x.ctypes.data, x.strides[0] // x.itemsize)]
    compiled(isa, c.dtype.str[1:])(ta, tb, m, n, k, *arrays, accumulate)


def integers(rng, shape, dtype):
    """Return small integers, whose products are exact in any order."""
    return rng.integers(-8, 9, shape).astype(dtype)


def sizes(isa, dtype, rng):
    """Return sizes around the edges of tiles and vectors, and beyond the blocks."""
    width = 2 * ISA[isa].lanes(np.dtype(dtype).itemsize)
    tall = ISA[isa].rows[0]
    edges = [1, 2, 3, 7, 10, width // 4, width // 2, width - 1, width, width + 1, 2 * width + 3]
    m = [1, tall - 1, tall, tall + 1, 3 * tall + 5]
    yield from product(m, edges, [1, 2, 17])
    yield from (rng.integers(1, 71, (40, 3))).tolist()
    yield from [[530, 70, 3], [30, 65, 515], [520, 130, 530], [3, 600, 300]]


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSITIONS)
@pytest.mark.parametrize(("isa", "dtype"), VARIANTS)
def test_product_is_exact_and_touches_nothing_else(isa, dtype, ta, tb):
    rng = np.random.default_rng(0)
    for m, n, k in sizes(isa, dtype, rng):
        a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
        # What lies around A and B is NaN, so that any use of it shows in C.
        x = padded(a.T if ta else a, int(rng.integers(0, 4)), np.nan)
        y = padded(b.T if tb else b, int(rng.integers(0, 4)), np.nan)
        z = padded(np.full((m, n), np.nan, dtype), int(rng.integers(0, 40)), 7.5)
        expected = padded(a @ b, z.base.shape[1] - n, 7.5)
        multiply(isa, ta, tb, x, y, z)
        np.testing.assert_array_equal(z.base, expected.base, err_msg=f"{m, n, k}")


@pytest.mark.parametrize(("isa", "dtype"), VARIANTS)
def test_strides_that_alias_in_the_cache(isa, dtype):
    rng = np.random.default_rng(1)
    for (ta, tb), (m, n, k) in product(TRANSPOSITIONS, [(60, 70, 20), (29, 100, 530)]):
        a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
        x = padded(a.T if ta else a, 1024 - (m if ta else k), np.nan)
        y = padded(b.T if tb else b, 1024 - (k if tb else n), np.nan)
        z = np.empty((m, n), dtype)
        multiply(isa, ta, tb, x, y, z)
        np.testing.assert_array_equal(z, a @ b)


@pytest.mark.parametrize(("isa", "dtype"), VARIANTS)
def test_accumulation_and_empty_sizes(isa, dtype):
    rng = np.random.default_rng(2)
    for m, n, k in [(20, 45, 9), (3, 5, 300), (4, 5, 0), (0, 5, 3), (4, 0, 3)]:
        a, b, c = (integers(rng, s, dtype) for s in [(m, k), (k, n), (m, n)])
        z = c.copy()
        multiply(isa, False, False, a, b, z, accumulate=True)
        np.testing.assert_array_equal(z, c + a @ b)
        multiply(isa, False, False, a, b, z)
        np.testing.assert_array_equal(z, a @ b)


@pytest.mark.parametrize(("isa", "dtype"), VARIANTS)
def test_rounding_error(isa, dtype):
    rng = np.random.default_rng(3)
    m, n, k = 33, 41, 700
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    z = np.empty((m, n), dtype)
    multiply(isa, False, False, a, b, z)
    reference = a.astype(np.longdouble) @ b.astype(np.longdouble)
    # Higham, Accuracy and Stability of Numerical Algorithms, (3.13); no slack for the reference
    # where long doubles are no wider than doubles.
    bound = k * np.finfo(dtype).eps * (abs(a) @ abs(b))
    assert (abs(z - reference) <= bound).all()


@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize(("isa", "dtype"), VARIANTS)
def test_a_row_has_the_same_bits_in_any_batch(isa, dtype, tb):
    rng = np.random.default_rng(4)
    for n, k in [(300, 784), (10, 100), (33, 257)]:
        a = rng.standard_normal((600, k)).astype(dtype)
        b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
        z = np.empty((600, n), dtype)
        multiply(isa, False, tb, a, b, z)
        for m in [*range(1, 31), 50, 128, 503, 504, 505, 512]:
            start = int(rng.integers(0, 601 - m))
            part = np.empty((m, n), dtype)
            multiply(isa, False, tb, a[start : start + m], b, part)
            assert part.tobytes() == z[start : start + m].tobytes(), (n, k, m)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fused_instruction_sets_and_transpositions_agree_bit_for_bit(dtype):
    rng = np.random.default_rng(5)
    a, b = (
        rng.standard_normal((40, 600)).astype(dtype),
        rng.standard_normal((600, 70)).astype(dtype),
    )
    results = set()
    for isa in [i for i, d in VARIANTS if d == dtype and ISA[i].fma]:
        for ta, tb in TRANSPOSITIONS:
            z = np.empty((40, 70), dtype)
            x, y = np.ascontiguousarray(a.T if ta else a), np.ascontiguousarray(b.T if tb else b)
            multiply(isa, ta, tb, x, y, z)
            results.add(z.tobytes())
    assert len(results) == 1


def test_nan_and_infinity_pass_through():
    a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    a[1, 2], b[0, 3], b[1, 3] = np.nan, np.inf, -np.inf
    z = np.empty((3, 5), np.float32)
    multiply(HOST.name, False, False, a, b, z)
    assert np.isnan(z[1]).all()
    assert np.isnan(z[:, 3]).all()
    np.testing.assert_array_equal(np.delete(np.delete(z, 1, 0), 3, 1), 4.0)


GUARD = """
import ctypes, mmap, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_gemm import TRANSPOSITIONS, multiply

def at_the_end(x):
    "Copy x to the end of a page that an inaccessible one follows."
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    pages = -(-x.nbytes // page)
    memory = mmap.mmap(-1, (pages + 1) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + pages * page), page, 0) == 0
    view = np.frombuffer(memory, x.dtype, x.size, pages * page - x.nbytes).reshape(x.shape)
    view[...] = x
    return view

SIZES = [(1, 1, 1), (5, 10, 3), (15, 33, 17), (14, 32, 16), (29, 47, 300), (600, 9, 5)]
for isa in sys.argv[3:]:
    for ta, tb in TRANSPOSITIONS:
        for m, n, k in SIZES:
            a, b = np.ones((m, k), sys.argv[2]), np.ones((k, n), sys.argv[2])
            x, y = at_the_end(a.T if ta else a), at_the_end(b.T if tb else b)
            z = at_the_end(np.zeros((m, n), a.dtype))
            multiply(isa, ta, tb, x, y, z)
            assert (z == k).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected through libc")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nothing_behind_the_arrays_is_read(dtype):
    isas = [isa for isa, d in VARIANTS if d == dtype]
    folder = __file__.rpartition("/")[0]
    subprocess.run([sys.executable, "-c", GUARD, folder, dtype, *isas], check=True)


@njit
def through_numba(ta, tb, m, n, k, a, b, c, add):
    if add:
        gemm_add(ta, tb, m, n, k, a, a.shape[1], b, b.shape[1], c, n)
    else:
        gemm(ta, tb, m, n, k, a, a.shape[1], b, b.shape[1], c, n)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gemm_from_a_kernel(dtype):
    rng = np.random.default_rng(6)
    m, n, k = 20, 37, 11
    a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
    for ta, tb in TRANSPOSITIONS:
        x, y = np.ascontiguousarray(a.T if ta else a), np.ascontiguousarray(b.T if tb else b)
        z = np.empty((m, n), dtype)
        through_numba(ta, tb, m, n, k, x, y, z, False)
        np.testing.assert_array_equal(z, a @ b)
        flat = z.ravel()
        through_numba(ta, tb, m, n, k, x, y, flat, True)
        np.testing.assert_array_equal(z, 2 * (a @ b))


@pytest.mark.parametrize("dtypes", ["f4 f4 f8", "f8 f4 f4", "i8 i8 i8"])
def test_other_dtypes_are_refused(dtypes):
    a, b, c = (np.zeros((2, 2), d) for d in dtypes.split())
    with pytest.raises(TypingError, match="gemm takes arrays all float32 or all float64"):
        through_numba(False, False, 2, 2, 2, a, b, c, False)


def test_threads_share_one_product():
    rng = np.random.default_rng(7)
    a, b = integers(rng, (50, 200), "f4"), integers(rng, (200, 60), "f4")
    results = [np.empty((50, 60), np.float32) for _ in range(4)]
    first = PRODUCT.first_call(np.dtype(np.float32))
    pointers = [v for x in (a, b) for v in (x.ctypes.data, x.shape[1])]

    def work(z):
        for _ in range(20):
            first(0, 0, 50, 60, 200, *pointers, z.ctypes.data, 60, 0)

    threads = [threading.Thread(target=work, args=(z,)) for z in results]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for z in results:
        np.testing.assert_array_equal(z, a @ b)


def test_a_failed_compilation_poisons_the_result(monkeypatch):
    def fail(dtype):
        raise MemoryError("no room")

    reported = []
    monkeypatch.setattr(PRODUCT, "resolve", fail)
    monkeypatch.setattr(sys, "unraisablehook", lambda r: reported.append(r.exc_value))
    z = np.zeros((3, 6), np.float64)
    first = PRODUCT.first_call(z.dtype)
    first(0, 0, 3, 4, 1, 0, 1, 0, 4, z.ctypes.data, 6, 0)
    assert np.isnan(z[:, :4]).all()
    assert (z[:, 4:] == 0).all()
    assert [type(e) for e in reported] == [MemoryError]


CALLER = """
import sys
import numpy as np
from numba import njit
from numba.core.errors import TypingError
from skdeep._kernels.cpu.gemm import PRODUCT, gemm

@njit(cache=True)
def call(a, b, c):
    (m, k), n = a.shape, b.shape[1]
    gemm(False, False, m, n, k, a, k, b, n, c, n)

a, b, c = np.ones((5, 7), np.float32), np.ones((7, 9), np.float32), np.empty((5, 9), np.float32)
call(a, b, c)
assert (c == 7).all()
(built,) = PRODUCT.built.values()
print(sum(call.stats.cache_hits.values()), built.cache_hits)
"""


def test_a_second_process_compiles_nothing(tmp_path, monkeypatch):
    script = tmp_path / "caller.py"
    script.write_text(CALLER)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    outputs = [
        subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert outputs == ["0 0\n", "1 1\n"]


def test_the_table_is_known_to_the_compiler():
    address = llvm.address_of_symbol(PRODUCT.symbol)
    table = (ctypes.c_size_t * 2).from_address(address)
    assert list(table) == PRODUCT.table.tolist()


def test_what_is_packed_stays_allocated():
    """Other allocations between the panels of a product do not overwrite what it has packed."""
    dtype, rng = np.dtype(np.float32), np.random.default_rng(0)
    m, k, n = 28, 90, 70
    a = rng.standard_normal((m, 1024), np.float32)  # rows that share cache sets are packed
    b, c = rng.standard_normal((k, n), np.float32), np.empty((m, n), np.float32)
    multiply_all = PRODUCT.prototype(PRODUCT.resolve(dtype))
    panel = PANEL.prototype(PANEL.resolve(dtype))
    others = []

    def allocate_and_call(*args):
        others.extend(np.full(size, np.nan, np.float32) for size in range(500, 8000, 50))
        panel(*args)

    callback = PANEL.prototype(allocate_and_call)
    at, kept = [x.ctypes.data for x in (a, b, c)], PANEL.table.copy()
    PANEL.table[0] = ctypes.cast(callback, ctypes.c_void_p).value
    try:
        multiply_all(0, 0, m, n, k, at[0], 1024, at[1], n, at[2], n, 0)
    finally:
        PANEL.table[:] = kept
    assert others
    np.testing.assert_allclose(c, a[:, :k] @ b, rtol=0, atol=1e-4)
