"""Vectors of four, and tiles of registers: what plain indexing does not compile to.

Each has a Python body of the same meaning for the simulator. Offsets count elements; a vector's
address is a multiple of 16 bytes.
"""

from skdeep._kernels.cuda._numba import SIMULATED, float32

if SIMULATED:

    def load4(array, offset):
        o = int(offset)
        _aligned(array, o)
        return array[o], array[o + 1], array[o + 2], array[o + 3]

    def store4(array, offset, values):
        o = int(offset)
        _aligned(array, o)
        for i in range(4):
            array[o + i] = values[i]

    def _aligned(array, o):
        address = array.ctypes.data + o * array.itemsize
        if address % 16 or o + 4 > len(array):
            raise IndexError(f"a vector at element {o} of {len(array)} (address {address:#x})")

    def outer_fma(tile, a, b):
        tile, n = list(tile), len(b)
        for i in range(len(a)):
            for j in range(n):
                tile[i * n + j] = float32(tile[i * n + j] + a[i] * b[j])
        return tuple(tile)

    def zero_tile(size):
        zeros = (float32(0),) * size
        return lambda: zeros

    def take4(tile, start):
        return tile[start], tile[start + 1], tile[start + 2], tile[start + 3]

else:
    from skdeep._kernels.cuda._numba import cgutils, intrinsic, ir, pointer_to, types

    _F = ir.FloatType()
    _V = ir.VectorType(_F, 4)
    _I = ir.IntType(32)

    def _vector_pointer(context, builder, sig, args):
        p = pointer_to(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        return builder.bitcast(p, ir.PointerType(_V, p.type.addrspace))

    @intrinsic
    def load4(typing, array, offset):
        """Return four consecutive float32 from `offset` on."""

        def codegen(context, builder, sig, args):
            v = builder.load(_vector_pointer(context, builder, sig, args), align=16)
            items = [builder.extract_element(v, _I(i)) for i in range(4)]
            return cgutils.pack_array(builder, items)

        return types.UniTuple(types.float32, 4)(array, offset), codegen

    @intrinsic
    def store4(typing, array, offset, values):
        """Write four float32 from `offset` on."""

        def codegen(context, builder, sig, args):
            v = ir.Constant(_V, ir.Undefined)
            for i in range(4):
                v = builder.insert_element(v, builder.extract_value(args[2], i), _I(i))
            builder.store(v, _vector_pointer(context, builder, sig, args), align=16)
            return context.get_dummy_value()

        return types.void(array, offset, values), codegen

    @intrinsic
    def outer_fma(typing, tile, a, b):
        """Return ``tile[i * len(b) + j] + a[i] * b[j]``, every one a fused multiply-add."""

        def codegen(context, builder, sig, args):
            tile, a, b = args
            m, n = sig.args[1].count, sig.args[2].count
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_F, [_F] * 3), "llvm.fma.f32"
            )
            a = [builder.extract_value(a, i) for i in range(m)]
            b = [builder.extract_value(b, j) for j in range(n)]
            for i in range(m):
                for j in range(n):
                    at = i * n + j
                    c = builder.call(fma, [a[i], b[j], builder.extract_value(tile, at)])
                    tile = builder.insert_value(tile, c, at)
            return tile

        return tile(tile, a, b), codegen

    def zero_tile(size):
        """Return a function that returns `size` zeros."""

        @intrinsic
        def zeros(typing):
            ret = types.UniTuple(types.float32, size)

            def codegen(context, builder, sig, args):
                return ir.Constant(context.get_value_type(ret), None)

            return ret(), codegen

        return zeros

    @intrinsic
    def take4(typing, tile, start):
        """Return four elements of a tile from a constant start on."""
        if not isinstance(start, types.Literal):
            return None
        at = start.literal_value

        def codegen(context, builder, sig, args):
            return cgutils.pack_array(
                builder, [builder.extract_value(args[0], at + i) for i in range(4)]
            )

        return types.UniTuple(types.float32, 4)(tile, start), codegen

