"""Vectors of the host's width as values in kernels.

For loops that the compiler does not vectorise well: rows shorter than a vector (a masked load and
store, no loop over a remainder) and many arrays at once (no check for overlap at every row). The
addresses are elements from an array's first one, and nothing checks them.

A mask of lanes is a vector of booleans, or None for whole vectors.
"""

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from skdeep._kernels.cpu._microkernel import HOST


class Vector(types.Type):
    """The type of a vector of numbers, or of a mask."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


def _element(dtype):
    if dtype == types.boolean:
        return ir.IntType(1)
    if isinstance(dtype, types.Integer):
        return ir.IntType(dtype.bitwidth)
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(_element(fe_type.dtype), fe_type.lanes))


def _lanes(dtype):
    return HOST.lanes(dtype.bitwidth // 8)


def _integers(dtype):
    """Return the type of numbers as wide as a floating type."""
    return types.uint32 if dtype == types.float32 else types.uint64


def _splat(builder, x, lanes):
    whole = ir.VectorType(x.type, lanes)
    one = builder.insert_element(ir.Constant(whole, ir.Undefined), x, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, zeros)


def _pointer(ctx, builder, ty, array, at, vector):
    data = make_array(ty)(ctx, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _call(builder, name, result, *args):
    fnty = ir.FunctionType(result, [a.type for a in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, fnty, name)
    return builder.call(function, args)


def _mangled(vector):
    kind = "i" if isinstance(vector.element, ir.IntType) else "f"
    bits = (
        vector.element.width if kind == "i" else {"float": 32, "double": 64}[str(vector.element)]
    )
    return f"v{vector.count}{kind}{bits}.p0"


def _emit_load(builder, pointer, vector, itemsize, mask):
    if mask is None:
        return builder.load(pointer, align=itemsize)
    args = pointer, ir.IntType(32)(itemsize), mask, ir.Constant(vector, None)
    return _call(builder, f"llvm.masked.load.{_mangled(vector)}", vector, *args)


def _emit_store(builder, value, pointer, itemsize, mask):
    if mask is None:
        builder.store(value, pointer, align=itemsize)
        return
    args = value, pointer, ir.IntType(32)(itemsize), mask
    _call(builder, f"llvm.masked.store.{_mangled(value.type)}", ir.VoidType(), *args)


@intrinsic
def lanes(tyctx, array):
    """Return how many elements of a floating array make a vector."""
    n = _lanes(array.dtype)
    return types.int64(array), lambda ctx, builder, sig, args: ir.IntType(64)(n)


@intrinsic
def first(tyctx, array, count):
    """Return the mask of the first `count` lanes of a vector of the array's elements."""
    n = _lanes(array.dtype)

    def codegen(ctx, builder, sig, args):
        steps = ir.Constant(ir.VectorType(ir.IntType(64), n), list(range(n)))
        return builder.icmp_signed("<", steps, _splat(builder, args[1], n))

    return Vector(types.boolean, n)(array, types.int64), codegen


@intrinsic
def element(tyctx, array, at):
    """Return an element of a contiguous array; none is counted from the end."""

    def codegen(ctx, builder, sig, args):
        data = make_array(array)(ctx, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.int64), codegen


@intrinsic
def load(tyctx, array, at, mask):
    """Return the vector at an element of a floating array; zero in the lanes left out."""
    ty = Vector(array.dtype, _lanes(array.dtype))

    def codegen(ctx, builder, sig, args):
        vector = ctx.get_value_type(ty)
        pointer = _pointer(ctx, builder, array, args[0], args[1], vector)
        whole = isinstance(mask, types.NoneType)
        return _emit_load(
            builder, pointer, vector, array.dtype.bitwidth // 8, None if whole else args[2]
        )

    return ty(array, types.int64, mask), codegen


@intrinsic
def load_places(tyctx, array, at, like, mask):
    """Return the vector at an element of an integer array, as wide as those of `like`."""
    wide = Vector(_integers(like.dtype), _lanes(like.dtype))
    short = ir.VectorType(ir.IntType(array.dtype.bitwidth), wide.lanes)

    def codegen(ctx, builder, sig, args):
        pointer = _pointer(ctx, builder, array, args[0], args[1], short)
        whole = isinstance(mask, types.NoneType)
        v = _emit_load(
            builder, pointer, short, array.dtype.bitwidth // 8, None if whole else args[3]
        )
        to = ctx.get_value_type(wide)
        return v if short == to else builder.zext(v, to)

    return wide(array, types.int64, like, mask), codegen


@intrinsic
def store(tyctx, value, array, at, mask):
    """Put a vector to an element of an array, integers in the width of the array."""

    def codegen(ctx, builder, sig, args):
        v, n = args[0], value.lanes
        if isinstance(array.dtype, types.Integer) and array.dtype.bitwidth < value.dtype.bitwidth:
            v = builder.trunc(v, ir.VectorType(ir.IntType(array.dtype.bitwidth), n))
        pointer = _pointer(ctx, builder, array, args[1], args[2], v.type)
        whole = isinstance(mask, types.NoneType)
        _emit_store(builder, v, pointer, array.dtype.bitwidth // 8, None if whole else args[3])
        return ctx.get_dummy_value()

    return types.void(value, array, types.int64, mask), codegen


@intrinsic
def splat(tyctx, x, like):
    """Return a vector of one floating number."""
    ty = Vector(like.dtype, _lanes(like.dtype))
    return ty(like.dtype, like), lambda ctx, builder, sig, args: _splat(builder, args[0], ty.lanes)


@intrinsic
def splat_place(tyctx, x, like):
    """Return a vector of one integer, as wide as the elements of `like`."""
    ty = Vector(_integers(like.dtype), _lanes(like.dtype))

    def codegen(ctx, builder, sig, args):
        x, to = args[0], ir.IntType(ty.dtype.bitwidth)
        return _splat(builder, x if x.type == to else builder.trunc(x, to), ty.lanes)

    return ty(types.int64, like), codegen


@intrinsic
def select(tyctx, mask, a, b):
    """Return a where the mask is set, b elsewhere."""
    return a(mask, a, a), lambda ctx, builder, sig, args: builder.select(*args)


@intrinsic
def wins(tyctx, a, b):
    """Return where a is larger than b, or the first NaN of the two."""

    def codegen(ctx, builder, sig, args):
        larger = builder.fcmp_unordered(">", *args)
        return builder.and_(larger, builder.fcmp_ordered("ord", args[1], args[1]))

    return Vector(types.boolean, a.lanes)(a, a), codegen


@intrinsic
def equal(tyctx, a, b):
    """Return where two vectors of integers are equal."""
    return Vector(types.boolean, a.lanes)(
        a, a
    ), lambda ctx, builder, sig, args: builder.icmp_unsigned("==", *args)


@intrinsic
def add(tyctx, a, b):
    """Return a + b."""
    return a(a, a), lambda ctx, builder, sig, args: builder.fadd(*args)


@intrinsic
def multiply(tyctx, a, b):
    """Return a * b."""
    return a(a, a), lambda ctx, builder, sig, args: builder.fmul(*args)


@intrinsic
def multiply_add(tyctx, a, b, c):
    """Return a * b + c, fused where the host fuses."""

    def codegen(ctx, builder, sig, args):
        vector = args[0].type
        name = f"llvm.fmuladd.{_mangled(vector).removesuffix('.p0')}"
        return _call(builder, name, vector, *args)

    return a(a, a, a), codegen
