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

    def slab_product(depth, a_places, b_places, a_stride, b_stride):
        def add(tile, a, a_from, b, b_from):
            for k in range(depth):
                rows, columns = (
                    sum((load4(x, int(start) + k * step + p) for p in places), ())
                    for x, start, step, places in (
                        (a, a_from, a_stride, a_places),
                        (b, b_from, b_stride, b_places),
                    )
                )
                tile = outer_fma(tile, rows, columns)
            return tile

        return add

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
            a = [builder.extract_value(a, i) for i in range(sig.args[1].count)]
            b = [builder.extract_value(b, j) for j in range(sig.args[2].count)]
            sums = [builder.extract_value(tile, i) for i in range(len(a) * len(b))]
            return cgutils.pack_array(builder, _outer(builder, sums, a, b))

        return tile(tile, a, b), codegen

    def _outer(builder, sums, a, b):
        """Return the sums with the outer product of two lists of values added."""
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_F, [_F] * 3), "llvm.fma.f32"
        )
        pairs = [(x, y) for x in a for y in b]
        return [builder.call(fma, [x, y, c]) for (x, y), c in zip(pairs, sums, strict=True)]

    def slab_product(depth, a_places, b_places, a_stride, b_stride):
        """Return a function that adds the outer products of two slabs in shared memory.

        ``add(tile, a, a_from, b, b_from)``: for each of `depth` rows, `a_stride` and `b_stride`
        elements apart, the vectors at `a_places` and `b_places` from the row's first element
        make an outer product. One intrinsic for them all: written out in Python they take numba
        seconds to compile.
        """

        @intrinsic
        def add(typing, tile, a, a_from, b, b_from):
            def codegen(context, builder, sig, args):
                starts = [
                    pointer_to(
                        context, builder, sig.args[i], args[i], sig.args[i + 1], args[i + 1]
                    )
                    for i in (1, 3)
                ]
                sums = [builder.extract_value(args[0], i) for i in range(sig.args[0].count)]
                for k in range(depth):
                    rows, columns = (
                        _vectors(builder, start, [k * step + p for p in places])
                        for start, step, places in zip(
                            starts, (a_stride, b_stride), (a_places, b_places), strict=True
                        )
                    )
                    sums = _outer(builder, sums, rows, columns)
                return cgutils.pack_array(builder, sums)

            return tile(tile, a, a_from, b, b_from), codegen

        return add

    def _vectors(builder, start, places):
        """Return the elements of the vectors at some places from a pointer on."""
        values = []
        for place in places:
            p = builder.gep(start, [_I(place)])
            v = builder.load(builder.bitcast(p, ir.PointerType(_V, p.type.addrspace)), align=16)
            values += [builder.extract_element(v, _I(i)) for i in range(4)]
        return values

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
