"""Functions compiled once for each dtype and called by kernels through a table of addresses.

What several kernels share need not be compiled into each of them. The table's entries compile
the function (or load it from numba's cache) when first called; compiled callers know the table by
its symbol, so their cached code holds no address.
"""

import ctypes

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from skdeep._kernels.cpu._numba import FLOATS

_DTYPES = tuple(FLOATS)


class Indirect:
    """A table of the addresses of one function, by dtype.

    Parameters
    ----------
    symbol : str
        The name of the table in compiled code.
    kinds : str
        The arguments: ``i`` an int64, ``f`` a pointer to the dtype's elements, ``l`` one to
        int64.
    build : callable
        ``build(dtype)`` compiles the function and returns numba's C function.
    poison : callable
        ``poison(dtype, *args)`` spoils the result where a first call cannot compile: an exception
        is only reported there, as compiled code lets none through.
    """

    def __init__(self, symbol, kinds, build, poison):
        self.symbol, self.kinds, self.build, self.poison = symbol, kinds, build, poison
        self.prototype = ctypes.CFUNCTYPE(
            None, *[ctypes.c_int64 if k == "i" else ctypes.c_void_p for k in kinds]
        )
        self.built, self.table = {}, np.zeros(len(_DTYPES), np.uintp)
        self._first_calls = [self.first_call(dtype) for dtype in _DTYPES]
        self.table[:] = [ctypes.cast(f, ctypes.c_void_p).value for f in self._first_calls]
        llvm.add_symbol(symbol, self.table.ctypes.data)

    def resolve(self, dtype):
        """Put the compiled function for a dtype into the table, once, and return its address."""
        slot = _DTYPES.index(dtype)
        with global_compiler_lock:
            if dtype not in self.built:
                self.built[dtype] = self.build(dtype)
                self.table[slot] = self.built[dtype].address
        return int(self.table[slot])

    def first_call(self, dtype):
        """Return what the table holds until the function for a dtype is compiled."""

        def resolve_and_call(*args):
            try:
                address = self.resolve(dtype)
            except BaseException:
                self.poison(dtype, *args)
                raise
            self.prototype(address)(*args)

        return self.prototype(resolve_and_call)

    def signature(self, floating):
        """Return numba's signature for a floating type."""
        pointers = {"i": types.int64, "f": types.CPointer(floating)}
        pointers["l"] = types.CPointer(types.int64)
        return types.void(*[pointers[k] for k in self.kinds])

    def emit(self, ctx, builder, sig, args):
        """Emit the call for a signature: the code generator of an intrinsic."""
        floating = sig.args[self.kinds.index("f")].dtype
        dtype = next(d for d, ty in FLOATS.items() if ty == floating)
        self.resolve(dtype)  # so that an error in compiling it is raised here
        word = ir.IntType(8 * self.table.itemsize)
        if self.symbol not in builder.module.globals:
            ir.GlobalVariable(builder.module, ir.ArrayType(word, len(_DTYPES)), self.symbol)
        table = builder.module.globals[self.symbol]
        entry = builder.gep(table, [ir.IntType(32)(0), ir.IntType(32)(_DTYPES.index(dtype))])
        fnty = ir.FunctionType(ir.VoidType(), [x.type for x in args])
        builder.call(builder.inttoptr(builder.load(entry), fnty.as_pointer()), args)
        return ctx.get_dummy_value()


def fill_nan(dtype, address, rows, columns, stride):
    """Fill a matrix in memory with NaN; its stride is in elements."""
    for i in range(rows):
        at = address + i * stride * dtype.itemsize
        row = (ctypes.c_char * (columns * dtype.itemsize)).from_address(at)
        np.frombuffer(row, dtype)[:] = np.nan
