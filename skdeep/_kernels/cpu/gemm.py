"""General matrix products for kernels: row-major C = op(A) @ op(B), any leading dimensions.

Every element of C is one chain of fused multiply-adds in the order of k, so its bits depend on
its row of op(A) and its column of op(B) alone: not on the batch it stands in, the blocking or the
alignment. How the blocks are cut is therefore free to follow the caches.

The product is compiled once for each dtype, apart from the kernels that use it: `gemm` calls it
through a table of addresses, whose entries compile it (or load it from numba's cache) when first
called.
"""

import ctypes
from types import FunctionType

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from skdeep._kernels.cpu._microkernel import (
    ACROSS,
    cast,
    copy,
    data,
    host_isa,
    itemsize,
    make_pack,
    make_pack_transposed,
    make_panel,
    offset,
    set_zero,
)
from skdeep._kernels.cpu._numba import FLOATS, JIT

#: Blocks of k, such that a panel of B and a tile's rows of A stay in the first-level cache.
_BLOCK_K = 256
#: Rows of a block, such that the block of A stays in the second-level cache.
_BLOCK_M = 512
#: Elements by which packed rows of A are spread, so that they do not share cache sets.
_SPREAD = 16
#: Rows from which on packing B pays.
_PACK_ROWS, _PACK_ROWS_ALIASED = 512, 28
#: Columns from which on packing A pays.
_PACK_COLUMNS = 64


_HOST = host_isa()
_WIDTH, _MASKS = ACROSS * _HOST.width, _HOST.masks
_panel, _pack, _pack_transposed = make_panel(_HOST), make_pack(_HOST), make_pack_transposed(_HOST)


@njit(**JIT)
def _aliases(stride):
    """Whether lines a stride of bytes apart crowd into few sets of the first-level cache."""
    rest = stride % 2048
    return stride >= 1920 and min(rest, 2048 - rest) < 128


def _product(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate):
    """C (m, n) = (C +) op(A) @ op(B), in blocks."""
    size = itemsize(a)
    width = _WIDTH // size
    a_row, a_col = (1, lda) if ta else (lda, 1)
    pack_a = n >= _PACK_COLUMNS and _aliases(lda * size)
    pack_b = tb or m >= (_PACK_ROWS_ALIASED if _aliases(ldb * size) else _PACK_ROWS)
    block_m, block_k = min(m, _BLOCK_M), min(k, _BLOCK_K)
    spread = (block_m if ta else block_k) + _SPREAD
    buffer_a = np.empty((block_k if ta else block_m) * spread * size if pack_a else 0, np.uint8)
    buffer_b = np.empty(max(block_k * _WIDTH, _WIDTH * _WIDTH // size), np.uint8)
    packed_a, packed_b = cast(data(buffer_a), a), cast(data(buffer_b), b)
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
            for j in range(n):
                set_zero(offset(c, i * ldc + j))


def build(isa, dtype, cache=False):
    """Compile the product for an instruction set and a dtype as a C function."""
    names = {"_WIDTH": ACROSS * isa.width, "_MASKS": isa.masks, "_panel": make_panel(isa)}
    names |= {"_pack": make_pack(isa), "_pack_transposed": make_pack_transposed(isa)}
    function = _product if isa == _HOST else FunctionType(_product.__code__, globals() | names)
    pointer = types.CPointer(FLOATS[np.dtype(dtype)])
    signature = types.void(*[types.int64] * 5, *[pointer, types.int64] * 3, types.int64)
    return cfunc(signature, **(JIT | {"cache": cache}))(function)


# ---- the table of addresses -------------------------------------------------------------------

_DTYPES = tuple(FLOATS)
_TABLE = np.zeros(len(_DTYPES), np.uintp)
_SYMBOL = "skdeep_gemm_table"
_PROTOTYPE = ctypes.CFUNCTYPE(
    None,
    *[ctypes.c_int64] * 5,
    *[ctypes.c_void_p, ctypes.c_int64] * 3,
    ctypes.c_int64,
)


def _resolve(dtype):
    """Put the compiled product for a dtype into the table, once, and return its address."""
    slot = _DTYPES.index(dtype)
    with global_compiler_lock:
        if dtype not in _built:
            _built[dtype] = build(_HOST, dtype, cache=True)
            _TABLE[slot] = _built[dtype].address
    return int(_TABLE[slot])


def _first_call(dtype):
    """Return what the table holds until the product for a dtype is compiled."""

    def resolve_and_call(*args):
        _PROTOTYPE(_resolve(dtype))(*args)

    return _PROTOTYPE(resolve_and_call)


_built = {}
_first_calls = [_first_call(dtype) for dtype in _DTYPES]
_TABLE[:] = [ctypes.cast(f, ctypes.c_void_p).value for f in _first_calls]
llvm.add_symbol(_SYMBOL, _TABLE.ctypes.data)


@intrinsic
def _call(tyctx, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate):
    """Call the product for C's dtype through the table."""
    pointer = types.CPointer(c.dtype)
    integers = [types.int64] * 5
    signature = types.void(*integers, *[pointer, types.int64] * 3, types.int64)

    def codegen(ctx, builder, sig, args):
        dtype = next(d for d, ty in FLOATS.items() if ty == sig.args[5].dtype)
        _resolve(dtype)  # so that an error in compiling it is raised here
        word = ir.IntType(8 * _TABLE.itemsize)
        if _SYMBOL not in builder.module.globals:
            ir.GlobalVariable(builder.module, ir.ArrayType(word, len(_DTYPES)), _SYMBOL)
        table = builder.module.globals[_SYMBOL]
        entry = builder.gep(table, [ir.IntType(32)(0), ir.IntType(32)(_DTYPES.index(dtype))])
        fnty = ir.FunctionType(ir.VoidType(), [x.type for x in args])
        builder.call(builder.inttoptr(builder.load(entry), fnty.as_pointer()), args)
        return ctx.get_dummy_value()

    return signature, codegen


@njit(inline="never", **JIT)
def gemm(ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
    """Compute row-major C (m, n) = op(A) (m, k) @ op(B) (k, n).

    Parameters
    ----------
    ta, tb : bool
        Whether op(A) is the transpose of A, which is then (k, m), and op(B) of B, then (n, k).
    m, n, k : int
        Sizes; ``k = 0`` gives zeros.
    a, b, c : arrays of float32 or all of float64
        Only where they start counts; their rows are contiguous. C may not overlap A or B.
    lda, ldb, ldc : int
        Elements from one row to the next.
    """
    _call(ta, tb, m, n, k, data(a), lda, data(b), ldb, data(c), ldc, 0)


@njit(inline="never", **JIT)
def gemm_add(ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
    """Add op(A) @ op(B) to C; arguments as for `gemm`."""
    _call(ta, tb, m, n, k, data(a), lda, data(b), ldb, data(c), ldc, 1)
