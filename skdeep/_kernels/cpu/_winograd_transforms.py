"""Winograd's minimal filtering: its matrices from points, and their products as vector code.

For m outputs of r taps, F(m, r) multiplies polynomials at m + r - 2 finite points and infinity,
t = m + r - 1 in all (Winograd, "Arithmetic complexity of computations", SIAM 1980; Lavin and
Gray, "Fast algorithms for convolutional neural networks", CVPR 2016):

    y = A^T [(G g) * (B^T d)],    d (t,), g (r,), y (m,),

in two dimensions along the rows and the columns. Points come in pairs +-p, whose rows share
their even and their odd part; `transform` finds such pairs in whatever matrix it is given.
"""

from fractions import Fraction
from math import prod

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skdeep._kernels.cpu._microkernel import HOST, Emitter

_INT = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


# ---- matrices ---------------------------------------------------------------------------------


def _from_roots(roots):
    """Return the coefficients of prod(x - root), the constant first."""
    p = [Fraction(1)]
    for root in roots:
        p = [a - root * b for a, b in zip([0, *p], [*p, 0], strict=True)]
    return p


def matrices(points, outputs, taps=3):
    """Return (B^T, G, A^T) of F(outputs, taps) for finite points and infinity, as fractions.

    B^T holds the Lagrange polynomials' numerators, G their denominators: with points that are
    small dyadic fractions, the matrices that meet the data are exact in floating point.
    """
    points = [Fraction(p) for p in points]
    if len(points) != outputs + taps - 2:
        raise ValueError(f"{len(points)} points; F({outputs}, {taps}) takes {outputs + taps - 2}")
    others = [[q for q in points if q != p] for p in points]
    bt = [[*_from_roots(rest), Fraction(0)] for rest in others] + [_from_roots(points)]
    g = []
    for p, rest in zip(points, others, strict=True):
        scale = prod((p - q for q in rest), start=Fraction(1))
        g.append([p**j / scale for j in range(taps)])
    g.append([Fraction(j == taps - 1) for j in range(taps)])
    at = [[p**i for p in points] + [Fraction(i == outputs - 1)] for i in range(outputs)]
    return bt, g, at


def transposed(matrix):
    """Return the transpose of a matrix in rows."""
    return [list(column) for column in zip(*matrix, strict=True)]


# ---- one transform as vector code -------------------------------------------------------------


def _constant(e, c):
    return ir.Constant(e.vector, [float(c)] * e.lanes)


def _splat(e, x):
    """Put a scalar into every lane."""
    undefined = ir.Constant(e.vector, ir.Undefined)
    x = e.builder.insert_element(undefined, x, ir.IntType(32)(0))
    return e.shuffle(x, undefined, [0] * e.lanes)


def _sum(e, coefficients, xs):
    """Emit sum(c * x), a chain of multiply-adds that begins with a one; None where all are 0."""
    terms = [(c, x) for c, x in zip(coefficients, xs, strict=True) if c]
    if not terms:
        return None
    terms.sort(key=lambda term: term[0] != 1)
    c, total = terms[0]
    if c != 1:
        total = e.builder.fmul(_constant(e, c), total)
    for c, x in terms[1:]:
        if abs(c) == 1:
            total = (e.builder.fadd if c == 1 else e.builder.fsub)(total, x)
        else:
            total = e.fma(_constant(e, c), x, total)
    return total


def _mirrored(p, q):
    """Return what two vectors share and where they are opposite; None if that is not all."""
    same = [a if a == b else Fraction(0) for a, b in zip(p, q, strict=True)]
    opposite = [a if a == -b else Fraction(0) for a, b in zip(p, q, strict=True)]
    whole = all(abs(a) == abs(b) for a, b in zip(p, q, strict=True))
    return (same, opposite) if whole and any(same) and any(opposite) else None


def _pairs(vectors):
    """Return (i, j, same, opposite) for disjoint pairs of mirrored vectors."""
    free, pairs = list(range(len(vectors))), []
    while free:
        i = free.pop(0)
        for j in free:
            parts = _mirrored(vectors[i], vectors[j])
            if parts:
                free.remove(j)
                pairs.append((i, j, *parts))
                break
    return pairs


def _unit(coefficients):
    """Return the coefficient by which the others divide without rounding, if there is one."""
    found = [c for c in coefficients if c]
    dyadic = (c for c in found if not any((d := (b / c).denominator) & (d - 1) for b in found))
    return next(dyadic, found[0])


def _fold_columns(e, matrix, xs):
    """Replace mirrored columns' inputs x, y by x + y and x - y; return the matrix for those."""
    columns, xs = transposed(matrix), list(xs)
    for i, j, same, opposite in _pairs(columns):
        xs[i], xs[j] = e.builder.fadd(xs[i], xs[j]), e.builder.fsub(xs[i], xs[j])
        columns[i], columns[j] = same, opposite
    return transposed(columns), xs


def transform(e, matrix, xs):
    """Emit the product of a small constant matrix and a vector of registers."""
    matrix, xs = _fold_columns(e, matrix, xs)
    out = [None] * len(matrix)
    for i, j, same, opposite in _pairs(matrix):
        unit = _unit(opposite)
        even, odd = _sum(e, same, xs), _sum(e, [a / unit for a in opposite], xs)
        for at, sign in ((i, 1), (j, -1)):
            # The chain begins with the even part, whose coefficient is one.
            out[at] = _sum(e, [Fraction(1), sign * unit], [even, odd])
    return [_sum(e, row, xs) if y is None else y for row, y in zip(matrix, out, strict=True)]


def _transform_square(e, matrix, square):
    """Emit matrix @ square @ matrix^T, row by row: yields (i, j, register)."""
    size = len(matrix[0])
    columns = [transform(e, matrix, [square[i][j] for i in range(size)]) for j in range(size)]
    for i in range(len(matrix)):
        for j, y in enumerate(transform(e, matrix, [column[i] for column in columns])):
            yield i, j, y


# ---- between pixels and transformed planes ----------------------------------------------------


def _each_vector(e, columns, emit):
    """Emit a loop over the vectors of `columns` elements: ``emit(byte offset, first, mask)``."""
    builder, lanes = e.builder, _INT(e.lanes)

    def body(vector, masked):
        first = builder.mul(vector, lanes)
        mask = e.first(builder.sub(columns, first)) if masked else None
        emit(e.bytes(first), mask)

    always = e.isa.masks and e.isa.width == 64  # AVX-512 masks a vector at no cost
    whole = builder.sdiv(builder.add(columns, _INT(e.lanes - 1)) if always else columns, lanes)
    with e.loop(whole) as vector:
        body(vector, always)
    if not always:
        rest = builder.icmp_signed("<", builder.mul(whole, lanes), columns)
        with builder.if_then(rest, likely=False):
            body(whole, True)


def _pixel(e, table, index, shift):
    """Return the address in a place of the table, moved by bytes."""
    word = e.builder.load(e.builder.gep(table, [_INT(index)]))
    return e.at(e.builder.inttoptr(word, _BYTES), shift)


def _ask(e, address):
    """Ask for a line that is to be read."""
    i32, address = ir.IntType(32), e.builder.bitcast(address, e.element.as_pointer())
    e.intrinsic("llvm.prefetch.p0", ir.VoidType(), address, i32(0), i32(3), i32(1))


def make_gather(matrix, overlap=0):
    """Return the intrinsic that transforms a square of pixels into planes.

    ``gather(table, shift, columns, following, out, stride)``: the pixels' channels from `shift`
    on are read at the addresses in the table and written, in whole vectors, to planes `stride`
    elements apart. Channels beyond `columns` are not read and give zeros. What stands `following`
    elements on is asked for early; the first `overlap` columns of it belong to this square.
    """
    size = len(matrix[0])

    @intrinsic
    def gather(tyctx, table, shift, columns, following, out, stride):
        def codegen(ctx, builder, sig, args):
            table, shift, columns, following, out, stride = args
            e = Emitter(builder, HOST, ctx.get_data_type(sig.args[4].dtype))
            shift, stride, following = map(e.bytes, (shift, stride, following))

            def emit(at, mask):
                offset = builder.add(shift, at)
                for i in range(size * size):
                    if i % size >= overlap:  # the others have been read
                        _ask(e, e.at(_pixel(e, table, i, offset), following))
                pixels = [e.load(_pixel(e, table, i, offset), mask) for i in range(size * size)]
                square = [pixels[i * size : (i + 1) * size] for i in range(size)]
                plane = e.at(out, at)
                for _, _, y in _transform_square(e, matrix, square):
                    e.store(y, plane)
                    plane = e.at(plane, stride)

            _each_vector(e, columns, emit)
            return ctx.get_dummy_value()

        return types.void(table, shift, columns, following, out, stride), codegen

    return gather


def make_scatter(matrix):
    """Return the intrinsic that transforms planes back into a square of pixels.

    ``scatter(planes, stride, bias, floor, table, shift, columns)``: the counterpart of `gather`;
    whole vectors are read from the planes, and max(value + bias, floor) is stored, where NaN
    stays.
    """
    size = len(matrix[0])

    @intrinsic
    def scatter(tyctx, planes, stride, bias, floor, table, shift, columns):
        def codegen(ctx, builder, sig, args):
            planes, stride, bias, floor, table, shift, columns = args
            e = Emitter(builder, HOST, ctx.get_data_type(sig.args[0].dtype))
            shift, stride, floor = e.bytes(shift), e.bytes(stride), _splat(e, floor)

            def emit(at, mask):
                offset = builder.add(shift, at)
                plane, square = e.at(planes, at), []
                for i in range(size * size):
                    square.append(e.load(e.at(plane, builder.mul(stride, _INT(i)))))
                square = [square[i * size : (i + 1) * size] for i in range(size)]
                b = e.load(e.at(bias, at), mask)
                for i, j, y in _transform_square(e, matrix, square):
                    y = builder.fadd(y, b)
                    y = builder.select(builder.fcmp_ordered("<", y, floor), floor, y)
                    e.store(y, _pixel(e, table, i * len(matrix) + j, offset), mask)

            _each_vector(e, columns, emit)
            return ctx.get_dummy_value()

        args = planes, stride, bias, floor, table, shift, columns
        return types.void(*args), codegen

    return scatter


#: Addresses that `locate` writes beyond those of a square.
SPILLED = 7


def make_locate(side):
    """Return the intrinsic that puts the addresses of a square's pixels into a table.

    ``locate(table, h, w, height, width, image, pixel, outside)``: the square begins at (h, w) of
    an image at address `image`, of `pixel` bytes each; off the image stands `outside`. Rows are
    written as vectors of eight, each over the rest of the one before.
    """
    lanes = SPILLED + 1
    vector = ir.VectorType(_INT, lanes)

    @intrinsic
    def locate(tyctx, table, h, w, height, width, image, pixel, outside):
        def codegen(ctx, builder, sig, args):
            table, h, w, height, width, image, pixel, outside = args

            def splat(x):
                one = builder.insert_element(vector(ir.Undefined), x, ir.IntType(32)(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                return builder.shuffle_vector(one, one, zeros)

            columns = builder.add(splat(w), vector(list(range(lanes))))
            shifts, off = builder.mul(columns, splat(pixel)), splat(outside)
            inside = builder.icmp_unsigned("<", columns, splat(width))  # of -1 as well
            for i in range(side):
                row = builder.add(h, _INT(i))
                start = builder.mul(builder.mul(row, width), pixel)
                found = builder.add(splat(builder.add(image, start)), shifts)
                on = builder.icmp_unsigned("<", row, height)
                found = builder.select(inside, found, off)
                found = builder.select(on, found, off)
                to = builder.gep(table, [_INT(i * side)])
                builder.store(found, builder.bitcast(to, vector.as_pointer()), align=8)
            return ctx.get_dummy_value()

        args = table, h, w, height, width, image, pixel, outside
        return types.void(*args), codegen

    return locate
