"""General matrix products for kernels: row-major C = op(A) @ op(B), any leading dimensions.

Every element of C is one chain of fused multiply-adds in the order of k, so its bits depend on
its row of op(A) and its column of op(B) alone: not on the batch it stands in, the blocking or the
alignment. How the blocks are cut is therefore free to follow the caches.

The product is compiled once for each dtype, apart from the kernels that use it: `gemm` calls it
through a table of addresses, whose entries compile it (or load it from numba's cache) when first
called.
"""

import ctypes

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.extending import intrinsic

from skdeep._kernels.cpu._microkernel import HOST, build, data
from skdeep._kernels.cpu._numba import FLOATS, JIT, helper

_DTYPES = tuple(FLOATS)
#: Where compiled callers find the product for each dtype; they know the table by its symbol.
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
            _built[dtype] = build(HOST, dtype, cache=JIT["cache"])
            _TABLE[slot] = _built[dtype].address
    return int(_TABLE[slot])


def _poison(dtype, m, n, c, ldc):
    """Fill C with NaN: an exception is only reported here, as compiled code lets none through."""
    for i in range(m):
        row = (ctypes.c_char * (n * dtype.itemsize)).from_address(c + i * ldc * dtype.itemsize)
        np.frombuffer(row, dtype)[:] = np.nan


def _first_call(dtype):
    """Return what the table holds until the product for a dtype is compiled."""

    def resolve_and_call(*args):
        try:
            address = _resolve(dtype)
        except BaseException:
            _poison(dtype, *args[2:4], *args[9:11])
            raise
        _PROTOTYPE(address)(*args)

    return _PROTOTYPE(resolve_and_call)


_built = {}
_first_calls = [_first_call(dtype) for dtype in _DTYPES]
_TABLE[:] = [ctypes.cast(f, ctypes.c_void_p).value for f in _first_calls]
llvm.add_symbol(_SYMBOL, _TABLE.ctypes.data)


@intrinsic
def _call(tyctx, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate):
    """Call the product for C's dtype through the table."""
    dtypes = {x.dtype for x in (a, b, c)}
    if len(dtypes) > 1 or not dtypes <= set(FLOATS.values()):
        raise TypingError(f"gemm takes arrays all float32 or all float64, not {a}, {b}, {c}")
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


@helper
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


@helper
def gemm_add(ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
    """Add op(A) @ op(B) to C; arguments as for `gemm`."""
    _call(ta, tb, m, n, k, data(a), lda, data(b), ldb, data(c), ldc, 1)
