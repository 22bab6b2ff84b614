"""General matrix products for kernels: row-major C = op(A) @ op(B), any leading dimensions.

Every element of C is one chain of fused multiply-adds in the order of k, so its bits depend on
its row of op(A) and its column of op(B) alone: not on the batch it stands in, the blocking or the
alignment. How the blocks are cut is therefore free to follow the caches: Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication", ACM Transactions on Mathematical Software 34
(2008), but packing only what pays.

The product is compiled once for each dtype, apart from the kernels that use it (`Indirect`).
"""

from types import FunctionType

import numpy as np
from numba import cfunc
from numba.core.errors import TypingError
from numba.extending import intrinsic

from skdeep._kernels.cpu._indirect import Indirect, fill_nan
from skdeep._kernels.cpu._microkernel import (
    ACROSS,
    HOST,
    make_pack,
    make_pack_transposed,
    make_panel,
)
from skdeep._kernels.cpu._numba import FLOATS, JIT, helper, renamed
from skdeep._kernels.cpu._panel import panel as _panel
from skdeep._kernels.cpu._pointers import cast, clear, copy, data, itemsize, keep, offset

# ---- the product in blocks ---------------------------------------------------------------------

#: Depth of a block: the deeper, the less often C is read and written.
_BLOCK_K = 512
#: Rows of a block, whole tiles of every height, such that its A stays in the second-level cache.
_BLOCK_M = 504
#: Elements by which packed rows of A are spread, so that they do not share cache sets.
_SPREAD = 16
#: Rows from which on packing B pays, in general and where its rows share cache sets.
_PACK_ROWS, _PACK_ROWS_ALIASED = 512, 28
#: Columns from which on packing A pays where its rows share cache sets.
_PACK_COLUMNS = 64

_WIDTH, _MASKS = ACROSS * HOST.width, HOST.masks
_pack, _pack_transposed = make_pack(HOST), make_pack_transposed(HOST)


@helper
def _aliases(stride):
    """Whether lines a stride of bytes apart share few sets of the cache, 4096 bytes in all."""
    rest = stride % 4096
    return stride > 4032 and min(rest, 4096 - rest) < 64


def _product(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate):
    """C (m, n) = (C +) op(A) @ op(B), in blocks."""
    size = itemsize(a)
    width = _WIDTH // size
    a_row, a_col = (1, lda) if ta else (lda, 1)
    pack_a = n >= _PACK_COLUMNS and _aliases(lda * size)
    pack_b = tb or m >= (_PACK_ROWS_ALIASED if _aliases(ldb * size) else _PACK_ROWS)
    block_m, block_k = min(m, _BLOCK_M), min(k, _BLOCK_K)
    spread = (block_m if ta else block_k) + _SPREAD
    size_a = (block_k if ta else block_m) * spread if pack_a else 0
    size_b = (block_k + width) * width if pack_b or not _MASKS else 0
    buffer = np.empty((size_a + size_b) * size, np.uint8)
    packed_b = cast(data(buffer), b)
    packed_a = offset(packed_b, size_b)
    for i in range(0, m, _BLOCK_M):
        rows = min(_BLOCK_M, m - i)
        for p in range(0, k, _BLOCK_K):
            depth = min(_BLOCK_K, k - p)
            x, x_row, x_col = offset(a, i * a_row + p * a_col), a_row, a_col
            if pack_a:
                for q in range(depth if ta else rows):
                    to = offset(packed_a, q * spread)
                    copy(offset(x, q * lda), to, rows if ta else depth)
                x, x_row, x_col = packed_a, (1 if ta else spread), (spread if ta else 1)
            for j in range(0, n, width):
                columns = min(width, n - j)
                y, y_row = packed_b, width
                if tb:
                    _pack_transposed(depth, offset(b, j * ldb + p), ldb, columns, y)
                elif pack_b or (columns < width and not _MASKS):
                    _pack(depth, offset(b, p * ldb + j), ldb, columns, y)
                else:
                    y, y_row = offset(b, p * ldb + j), ldb
                z, add = offset(c, i * ldc + j), accumulate != 0 or p > 0
                _panel(rows, x, x_row, x_col, y, y_row, z, ldc, depth, columns, add)
    if k <= 0 and accumulate == 0:
        for i in range(m):
            clear(offset(c, i * ldc), n)
    keep(buffer)


def build(isa, dtype, cache=False):
    """Compile the product for an instruction set and a dtype as a C function."""
    names = {"_WIDTH": ACROSS * isa.width, "_MASKS": isa.masks, "_panel": make_panel(isa)}
    names |= {"_pack": make_pack(isa), "_pack_transposed": make_pack_transposed(isa)}
    function = _product if isa == HOST else FunctionType(_product.__code__, globals() | names)
    function = renamed(function, f"_product_{np.dtype(dtype).name}")
    signature = PRODUCT.signature(FLOATS[np.dtype(dtype)])
    return cfunc(signature, **(JIT | {"cache": cache}))(function)


def _poison(dtype, *args):
    rows, columns, c, stride = *args[2:4], *args[9:11]
    fill_nan(dtype, c, rows, columns, stride)


#: The product for each dtype, as kernels call it.
PRODUCT = Indirect(
    "skdeep_gemm_table",
    "iiiii" + "fi" * 3 + "i",
    lambda dtype: build(HOST, dtype, cache=JIT["cache"]),
    _poison,
)


@intrinsic
def _call(tyctx, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate):
    """Call the product for C's dtype through the table."""
    dtypes = {x.dtype for x in (a, b, c)}
    if len(dtypes) > 1 or not dtypes <= set(FLOATS.values()):
        raise TypingError(f"gemm takes arrays all float32 or all float64, not {a}, {b}, {c}")
    return PRODUCT.signature(c.dtype), PRODUCT.emit


@helper
def gemm(ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
    """Compute row-major C (m, n) = op(A) (m, k) @ op(B) (k, n).

    Parameters
    ----------
    ta, tb : bool
        Whether op(A) is the transpose of A, which is then (k, m), and op(B) of B, then (n, k).
    m, n, k : int
        Sizes; ``k = 0`` gives zeros.
    a, b, c : arrays of float32 or all of float64, or pointers
        Only where they start counts; their rows are contiguous. C may not overlap A or B.
    lda, ldb, ldc : int
        Elements from one row to the next.
    """
    _call(ta, tb, m, n, k, data(a), lda, data(b), ldb, data(c), ldc, 0)


@helper
def gemm_add(ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
    """Add op(A) @ op(B) to C; arguments as for `gemm`."""
    _call(ta, tb, m, n, k, data(a), lda, data(b), ldb, data(c), ldc, 1)
