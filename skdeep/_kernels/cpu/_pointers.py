"""Pointers in kernels: what arrays are handed on as.

A pointer costs less to compile than an array, whose shape and strides go with it from function to
function. An element is read and written as ``p[i]``; nothing checks bounds.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from skdeep._kernels.cpu._numba import njit_inline

_INT = ir.IntType(64)


@intrinsic
def copy(tyctx, source, out, elements):
    """Copy a number of elements."""

    def codegen(ctx, builder, sig, args):
        size = ctx.get_abi_sizeof(ctx.get_data_type(sig.args[0].dtype))
        cgutils.raw_memcpy(builder, args[1], args[0], args[2], size)
        return ctx.get_dummy_value()

    return types.void(source, out, elements), codegen


@intrinsic
def data(tyctx, array):
    """Return an array's pointer; a pointer is one already."""

    def codegen(ctx, builder, sig, args):
        return make_array(sig.args[0])(ctx, builder, args[0]).data

    if isinstance(array, types.CPointer):
        return array(array), lambda ctx, builder, sig, args: args[0]
    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def keep(tyctx, array):
    """Let an array live up to here: a pointer into it does not, and its last use frees it."""
    return types.void(array), lambda ctx, builder, sig, args: ctx.get_dummy_value()


@intrinsic
def offset(tyctx, pointer, elements):
    """Return the pointer moved on by a number of elements."""

    def codegen(ctx, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, elements), codegen


@intrinsic
def clear(tyctx, start, count):
    """Set a number of elements to zero."""

    def codegen(ctx, builder, sig, args):
        size = ctx.get_abi_sizeof(ctx.get_data_type(sig.args[0].dtype))
        cgutils.memset(builder, args[0], builder.mul(args[1], _INT(size)), 0)
        return ctx.get_dummy_value()

    return types.void(start, types.int64), codegen


@intrinsic
def cast(tyctx, pointer, like):
    """Return the pointer as one to what another points to."""

    def codegen(ctx, builder, sig, args):
        return builder.bitcast(args[0], args[1].type)

    return like(pointer, like), codegen


@intrinsic
def itemsize(tyctx, pointer):
    """Return the bytes of an element at a pointer."""

    def codegen(ctx, builder, sig, args):
        return _INT(ctx.get_abi_sizeof(ctx.get_data_type(sig.args[0].dtype)))

    return types.int64(pointer), codegen


@intrinsic
def address(tyctx, pointer):
    """Return a pointer as a number."""

    def codegen(ctx, builder, sig, args):
        return builder.ptrtoint(args[0], _INT)

    return types.int64(pointer), codegen


@njit_inline
def member(a, m):
    """Return where a member's part of an array starts, or the one that all share."""
    return offset(data(a), m * (a.strides[0] // a.itemsize) if a.shape[0] > 1 else 0)
