"""Tensor cores and what feeds them: asynchronous copies, matrix loads, multiply-add of a warp.

Each has a Python body of the same meaning for the simulator. Shared memory is addressed in words
of four bytes, `offset` words from the beginning of an array. A matrix product's fragments are in
the layout of PTX's ``mma.sync``: of a 16 x 8 tile of results a lane holds the elements
``(lane // 4 + 8 * (q // 2), 2 * (lane % 4) + q % 2)`` for q < 4.
"""

import numpy as np

from skdeep._kernels.cuda._numba import SIMULATED, cuda, float32, uint32


def tf32(x):
    """Return float32 numbers rounded to TF32's ten bits of fraction, halves away from zero."""
    bits = np.atleast_1d(np.asarray(x, np.float32)).view(np.uint32)
    finite = (bits & 0x7F800000) != 0x7F800000
    rounded = np.where(finite, (bits + finite * np.uint32(0x1000)) & np.uint32(0xFFFFE000), bits)
    return rounded.view(np.float32).reshape(np.shape(x))


def bfloat16(x):
    """Return float32 numbers rounded to bfloat16's seven bits of fraction, halves to even."""
    bits = np.atleast_1d(np.asarray(x, np.float32)).view(np.uint32)
    up = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    finite = (bits & 0x7F800000) != 0x7F800000
    special = np.where(bits & 0x007FFFFF, bits | 0x00400000, bits)  # a NaN stays one
    rounded = np.where(finite, bits + up, special) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).reshape(np.shape(x))


#: How each precision rounds.
ROUND = {"tf32": tf32, "bfloat16": bfloat16}


#: Source text of the arguments of ``cuda.shared.array``: at a multiple of 128 bytes.
SHARED = "SIZE, KIND, 128"

if SIMULATED:

    def copy4_async(target, to, source, at, inside):
        to, at = int(to), int(at)
        if to % 4 or (inside and (source.ctypes.data // 4 + at) % 4):
            raise IndexError(f"a copy of 16 bytes from element {at} to word {to}")
        _start_copy(target, to, [source[at + i] if inside else float32(0) for i in range(4)])

    def copy1_async(target, to, source, at, inside):
        _start_copy(target, int(to), [source[int(at)] if inside else float32(0)])

    def _start_copy(target, to, values):
        """Poison what a copy will write until it is waited for: on a GPU it may be either."""
        poison = np.nan if target.dtype.kind == "f" else np.iinfo(target.dtype).max
        for i in range(len(values)):
            target[to + i] = target.dtype.type(poison)
        cuda.thread.copies[-1].append((target, to, values))

    def commit():
        cuda.thread.copies.append([])

    def wait_groups(pending):
        def wait():
            copies = cuda.thread.copies
            while len(copies) - 1 > pending:
                for target, to, values in copies.pop(0):
                    for i, value in enumerate(values):
                        target[to + i] = value

        return wait

    def load4_inside(source, at, inside):
        at = int(at)
        if inside and (source.ctypes.data // 4 + at) % 4:
            raise IndexError(f"a vector at element {at}")
        return tuple(source[at + i] if inside else float32(0) for i in range(4))

    def load1_inside(source, at, inside):
        return source[int(at)] if inside else float32(0)

    def store_run(array, offset, values, whole, count):
        offset, n = int(offset), len(values)
        if whole and (array.ctypes.data // 4 + offset) % n:
            raise IndexError(f"a vector of {n} at element {offset}")
        for i in range(n if whole else int(count)):
            array[offset + i] = values[i]

    def store_bfloat16(target, to, low, high):
        bits = bfloat16(np.array(low + high)).view(np.uint32) >> 16
        for i in range(4):
            target[int(to) + i] = bits[2 * i] | bits[2 * i + 1] << 16

    def vector_loader(steps):
        def load(array, offset):
            starts = [int(offset) + s for s in steps]
            return tuple(tuple(array[at : at + 4]) for at in starts)

        return load

    def matrix_loader(steps, transposed=False):
        def matrix(array, starts, step, i):
            rows = np.array([array[starts[8 * i + r] + step :][:4] for r in range(8)])
            if not transposed:
                return rows.reshape(32)
            halves = rows.view(np.uint16).T  # of a column, two neighbours are a word
            return np.ascontiguousarray(halves).view(rows.dtype).reshape(32)

        def load(array, offset):
            values, lane = cuda.exchange(int(offset))
            if "matrices" not in values:  # one lane does it for all
                starts = [values[i] for i in range(32)]
                values["matrices"] = [
                    [matrix(array, starts, s, i) for i in range(4)] for s in steps
                ]
            return tuple(tuple(m[lane] for m in four) for four in values["matrices"])

        return load

    def _fragments(values, which, places, precision):
        """Return the elements that the lanes hold: (8, 4, registers, 1 or 2)."""
        words = [[values[lane][which][p][e] for p, e in places] for lane in range(32)]
        if precision == "tf32":
            return tf32(np.array(words, np.float32)).astype(np.float64).reshape(8, 4, -1, 1)
        words = np.array(words, np.uint32)
        pair = np.stack([words << 16, words & np.uint32(0xFFFF0000)], -1)
        return pair.view(np.float32).astype(np.float64).reshape(8, 4, -1, 2)

    def _products(values, a_places, b_places, precision):
        """Return the products of all pairs of tiles: (m tiles, n tiles, 16, 8)."""
        a = _fragments(values, 0, a_places, precision)  # row g, k t
        b = _fragments(values, 1, b_places, precision)  # column g, k t
        a = a.reshape(8, 4, -1, 2, 2, a.shape[-1]).transpose(2, 4, 0, 3, 1, 5)
        b = b.reshape(8, 4, -1, 2, b.shape[-1]).transpose(2, 3, 1, 4, 0)
        a, b = a.reshape(len(a), 16, -1), b.reshape(len(b), -1, 8)
        return np.einsum("imk,jkn->ijmn", a, b)

    def multiply_add(precision, a_places, b_places):
        def product(tile, a, b):
            values, lane = cuda.exchange((a, b))
            if "products" not in values:
                values["products"] = _products(values, a_places, b_places, precision)
            g, t = lane // 4, lane % 4
            at = [(g + 8 * (q // 2), 2 * t + q % 2) for q in range(4)]
            parts = np.stack([values["products"][:, :, r, c] for r, c in at], -1).reshape(-1)
            return tuple((np.array(tile) + parts).astype(np.float32))

        return product

else:
    from skdeep._kernels.cuda._numba import cgutils, intrinsic, ir, pointer_to, types

    _F, _B, _I, _L = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
    _VOID = ir.VoidType()

    def _asm(builder, result, text, constraints, args, effect=True, warp=False):
        """Call inline PTX; what all lanes of a warp do together may not move behind a branch."""
        kinds = [a.type for a in args]
        code = ir.InlineAsm(ir.FunctionType(result, kinds), text, constraints, side_effect=effect)
        return builder.call(code, args, attrs=("convergent",) if warp else ())

    def _four(kind):
        return ir.LiteralStructType([kind] * 4)

    def _items(builder, value, n=4):
        return [builder.extract_value(value, i) for i in range(n)]

    def _shared_address(context, builder, kind, array, offset_kind, offset):
        """Return the 32-bit address of a word of a shared array."""
        base = context.make_array(kind)(context, builder, value=array).data
        base = builder.addrspacecast(base, ir.PointerType(base.type.pointee, 3))
        if offset_kind.bitwidth > 32:
            offset = builder.trunc(offset, _I)
        return builder.add(builder.ptrtoint(base, _I), builder.shl(offset, _I(2)))

    def _global_address(context, builder, sig, args, which):
        pointer = pointer_to(context, builder, *_pair(sig, args, which))
        pointer = builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, 1))
        return builder.ptrtoint(pointer, _L)

    def _pair(sig, args, which):
        return sig.args[which], args[which], sig.args[which + 1], args[which + 1]

    def _flag(builder, value):
        if value.type == _B:
            return value
        return builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0))

    def _copy_async(nbytes, cache):
        text = f"cp.async.{cache}.shared.global.L2::128B [$0], [$1], {nbytes}, $2;"

        @intrinsic
        def copy(typing, target, to, source, at, inside):
            def codegen(context, builder, sig, args):
                to = _shared_address(context, builder, *_pair(sig, args, 0))
                source = _global_address(context, builder, sig, args, 2)
                size = builder.select(_flag(builder, args[4]), _I(nbytes), _I(0))
                _asm(builder, _VOID, text, "r,l,r,~{memory}", [to, source, size])
                return context.get_dummy_value()

            return types.void(target, to, source, at, inside), codegen

        return copy

    #: ``copy(target, to, source, at, inside)``: copy from memory to shared memory, asynchronously,
    #: four floats or one; zeros where `inside` is false, and nothing is read then.
    copy4_async, copy1_async = _copy_async(16, "cg"), _copy_async(4, "ca")

    def _statement(text):
        @intrinsic
        def statement(typing):
            def codegen(context, builder, sig, args):
                _asm(builder, _VOID, text, "~{memory}", [])
                return context.get_dummy_value()

            return types.void(), codegen

        return statement

    #: End a group of asynchronous copies.
    commit = _statement("cp.async.commit_group;")

    def wait_groups(pending):
        """Return a function that waits until at most so many groups of copies are under way."""
        return _statement(f"cp.async.wait_group {pending};")

    def _load_inside(width):
        """Return a load that is not made, and gives zeros, where `inside` is false."""
        names = ", ".join(f"${i}" for i in range(width))
        vector = f".v4.f32 {{{names}}}" if width == 4 else ".f32 $0"
        zeros = " ".join(f"mov.b32 ${i}, 0f00000000;" for i in range(width))
        text = (
            f"{{ .reg .pred p; setp.ne.b32 p, ${width + 1}, 0; {zeros} "
            f"@p ld.global.nc.L1::no_allocate.L2::128B{vector}, [${width}]; }}"
        )
        constraints = ",".join(["=&f"] * width + ["l", "r"])
        result = _four(_F) if width == 4 else _F
        kind = types.UniTuple(types.float32, 4) if width == 4 else types.float32

        @intrinsic
        def load(typing, source, at, inside):
            def codegen(context, builder, sig, args):
                address = _global_address(context, builder, sig, args, 0)
                inside = builder.zext(_flag(builder, args[2]), _I)
                got = _asm(builder, result, text, constraints, [address, inside])
                return cgutils.pack_array(builder, _items(builder, got)) if width == 4 else got

            return kind(source, at, inside), codegen

        return load

    #: ``load(source, at, inside)``: four floats (or one) of memory that no kernel writes to
    #: meanwhile.
    load4_inside, load1_inside = _load_inside(4), _load_inside(1)

    @intrinsic
    def store_run(typing, array, offset, values, whole, count):
        """Write two or four float32: an aligned vector where `whole`, else the first `count`."""
        n = values.count

        def codegen(context, builder, sig, args):
            address = _global_address(context, builder, sig, args, 0)
            names = ", ".join(f"${i}" for i in range(n))
            lines = [f"setp.ne.b32 p, ${n + 1}, 0;", f"@p st.global.v{n}.f32 [${n}], {{{names}}};"]
            for i in range(n):
                lines += [
                    f"setp.gt.u32 p, ${n + 2}, {i};",
                    f"@p st.global.f32 [${n} + {4 * i}], ${i};",
                ]
            text = f"{{ .reg .pred p; {' '.join(lines)} }}"
            constraints = ",".join(["f"] * n + ["l", "r", "r", "~{memory}"])
            whole = builder.zext(_flag(builder, args[3]), _I)
            values = _items(builder, args[2], n)
            _asm(builder, _VOID, text, constraints, [*values, address, whole, args[4]])
            return context.get_dummy_value()

        return types.void(array, offset, values, whole, count), codegen

    @intrinsic
    def store_bfloat16(typing, target, to, low, high):
        """Write eight float32, rounded to bfloat16, as four words of shared memory."""

        def codegen(context, builder, sig, args):
            x = _items(builder, args[2]) + _items(builder, args[3])
            round_pair = "cvt.rn.bf16x2.f32 $0, $2, $1;"
            words = [
                _asm(builder, _I, round_pair, "=r,f,f", x[i : i + 2], effect=False)
                for i in range(0, 8, 2)
            ]
            to = _shared_address(context, builder, *_pair(sig, args, 0))
            text = "st.shared.v4.b32 [$0], {$1, $2, $3, $4};"
            _asm(builder, _VOID, text, "r,r,r,r,r,~{memory}", [to, *words])
            return context.get_dummy_value()

        return types.void(target, to, low, high), codegen

    def _loader(steps, instruction):
        @intrinsic
        def load(typing, array, offset):
            kind = types.UniTuple(types.UniTuple(array.dtype, 4), len(steps))

            def codegen(context, builder, sig, args):
                address = _shared_address(context, builder, *_pair(sig, args, 0))
                word = context.get_data_type(array.dtype)
                warp = instruction.startswith("ldmatrix")
                letter = "f" if word == _F and not warp else "r"
                raw = _four(_F if letter == "f" else _I)
                tuples = []
                for step in steps:
                    text = f"{instruction} {{$0, $1, $2, $3}}, [$4 + {4 * step}];"
                    constraints = ",".join([f"={letter}"] * 4 + ["r", "~{memory}"])
                    got = _asm(builder, raw, text, constraints, [address], warp=warp)
                    got = _items(builder, got)
                    got = [builder.bitcast(v, word) for v in got]
                    tuples.append(cgutils.pack_array(builder, got))
                return cgutils.pack_array(builder, tuples)

            return kind(array, offset), codegen

        return load

    def vector_loader(steps):
        """Return ``load(array, offset)``: four words from ``offset + step`` on for each step."""
        return _loader(steps, "ld.shared.v4.b32")

    def matrix_loader(steps, transposed=False):
        """Return ``load(array, offset)``: of each step four matrices of eight rows of four words.

        Lane 8 i + r says in `offset` where row r of matrix i begins; lane l gets of each matrix
        word ``l % 4`` of row ``l // 4``, or with `transposed`, where words are pairs of 16-bit
        elements, the elements ``2 * (l % 4)`` and one more of column ``l // 4``.
        """
        kind = ".trans" if transposed else ""
        return _loader(steps, f"ldmatrix.sync.aligned.m8n8.x4{kind}.shared.b16")

    _MMA = {
        "tf32": "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
        "bfloat16": "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
    }

    #: Adds half a unit of TF32, below which the tensor cores cut: the result of cvt.rna, which
    #: takes a predicate for every value. No NaN may become a zero by its overflow.
    _ROUND_TF32 = (
        "{ .reg .b32 x; mov.b32 x, $1; min.u32 x, x, 0xFFFFEFFF; add.s32 $0, x, 0x1000; "
        "max.s32 $0, $0, x; }"
    )

    def multiply_add(precision, a_places, b_places):
        """Return ``product(tile, a, b)``: the tile and a warp's product of fragments.

        Parameters
        ----------
        precision : {"tf32", "bfloat16"}
            Of the factors: float32, which are rounded here, or words of two bfloat16.
        a_places, b_places : sequence of (int, int)
            Where among `a` (loads of four words) register ``q < 4`` of tile i is, at number
            ``4 * i + q``; among `b` register ``h < 2`` of tile j at ``2 * j + h``. Element q of
            tile (i, j) is number ``(i * n_tiles + j) * 4 + q`` of the results.
        """
        text = (
            f"{_MMA[precision]} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};"
        )
        constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)

        def register(builder, loads, place):
            value = builder.extract_value(loads, place)
            if precision == "bfloat16":
                return value
            return _asm(builder, _I, _ROUND_TF32, "=&r,f", [value], effect=False)

        @intrinsic
        def product(typing, tile, a, b):
            def codegen(context, builder, sig, args):
                tile, a, b = args
                m, n, columns = len(a_places) // 4, len(b_places) // 2, []
                for i in range(m):
                    rows = [register(builder, a, p) for p in a_places[4 * i : 4 * i + 4]]
                    for j in range(n):
                        if not i:  # rounded where it is needed first: all at once take registers
                            pair = b_places[2 * j : 2 * j + 2]
                            columns.append([register(builder, b, p) for p in pair])
                        at = 4 * (i * n + j)
                        c = [builder.extract_value(tile, at + q) for q in range(4)]
                        c = [*rows, *columns[j], *c]
                        c = _asm(builder, _four(_F), text, constraints, c, False, warp=True)
                        for q, v in enumerate(_items(builder, c)):
                            tile = builder.insert_value(tile, v, at + q)
                return tile

            return tile(tile, a, b), codegen

        return product


#: The words of shared memory, by precision.
WORD = {"tf32": float32, "bfloat16": uint32}
