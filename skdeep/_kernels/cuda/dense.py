"""Dense layers: matrix product, bias and activation in one call, and the way back."""

from skdeep._kernels.cpu.dense import FUSED_ACTIVATIONS
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, float32, kernel, uint32
from skdeep._kernels.cuda._tile import load_some, store_some
from skdeep._kernels.cuda.array import check_span, scratch
from skdeep._kernels.cuda.gemm import in_vectors, multiply
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_NAMES = {code: name for name, code in FUSED_ACTIVATIONS.items()}
_RELU, _TANH, _LOGISTIC = (FUSED_ACTIVATIONS[n] for n in ("relu", "tanh", "logistic"))


@twin("linear", precision=True)
@twin("linear_sigmoid", precision=True)
def linear(x, w, b, activation, out, precision="float32"):
    """out = activation(x @ w + b)."""
    return multiply(x, False, w, False, out, bias=b, activation=_NAMES[activation],
                    precision=precision)  # fmt: skip


@twin(precision=True)
def product(a, ta, b, tb, out, precision="float32"):
    """out = op(a) @ op(b)."""
    return multiply(a, ta, b, tb, out, precision=precision)


# ---- the way back -----------------------------------------------------------------------------

_THREADS = 256
_SUMS = 4 * _THREADS
#: Threads side by side of a block, at most; four columns each.
_ACROSS = 32
#: Rows of a thread from which on they are split over blocks, and then the least of them.
_SPLIT, _LEAST = 8, 4
#: Blocks that a multiprocessor should have.
_RESIDENT = 4


@kernel("f f f f" + " u" * 15, threads=_THREADS)
def _scale_and_sum(ct, y, dz, sums, rows, columns, across, depth, activation, write, vector,
                   ct_row, ct_item, y_row, y_item, dz_row, dz_item, sums_row,
                   sums_item):  # fmt: skip
    """dz = ct * slope(y), and its sums over a block's `depth` rows.

    A thread takes four columns of every (threads / across)-th row. 12 bytes an element are moved;
    8 or, in place, 4 for the identity. The threads' sums are added in the order of a tree.
    """
    shared = cuda.shared.array(_SUMS, float32, 16)
    t, part = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
    batch, down = uint32(cuda.blockIdx.z), uint32(uint32(_THREADS) // across)
    line, c = uint32(t // across), uint32(t % across)
    c = uint32(uint32(uint32(cuda.blockIdx.x) * across + c) * uint32(4))
    r = uint32(part * depth + line)
    end = uint32(min(rows, uint32(part * depth + depth)))
    zero, one = float32(0), float32(1)
    s0, s1, s2, s3 = zero, zero, zero, zero
    if c >= columns:
        r = end
    while r < end:
        o = uint32(batch * ct_item + r * ct_row + c)
        if vector:
            d0, d1, d2, d3 = load4(ct, o)
        else:
            d0, d1, d2, d3 = load_some(ct, o, c, columns)
        if activation:
            o = uint32(batch * y_item + r * y_row + c)
            if vector:
                y0, y1, y2, y3 = load4(y, o)
            else:
                y0, y1, y2, y3 = load_some(y, o, c, columns)
            if activation == uint32(_RELU):
                d0, d1 = d0 if y0 > zero else zero, d1 if y1 > zero else zero
                d2, d3 = d2 if y2 > zero else zero, d3 if y3 > zero else zero
            elif activation == uint32(_TANH):
                d0, d1 = d0 * (one - y0 * y0), d1 * (one - y1 * y1)
                d2, d3 = d2 * (one - y2 * y2), d3 * (one - y3 * y3)
            else:
                d0, d1 = d0 * y0 * (one - y0), d1 * y1 * (one - y1)
                d2, d3 = d2 * y2 * (one - y2), d3 * y3 * (one - y3)
        if write:
            o = uint32(batch * dz_item + r * dz_row + c)
            if vector:
                store4(dz, o, (d0, d1, d2, d3))
            else:
                store_some(dz, o, c, columns, (d0, d1, d2, d3))
        s0, s1, s2, s3 = s0 + d0, s1 + d1, s2 + d2, s3 + d3
        r = uint32(r + down)
    at, half = uint32(t * uint32(4)), uint32(down // uint32(2))
    store4(shared, at, (s0, s1, s2, s3))
    while half > uint32(0):
        cuda.syncthreads()
        if line < half:
            v = load4(shared, uint32(at + half * across * uint32(4)))
            s0, s1, s2, s3 = s0 + v[0], s1 + v[1], s2 + v[2], s3 + v[3]
            store4(shared, at, (s0, s1, s2, s3))
        half = uint32(half // uint32(2))
    if line == uint32(0):
        o = uint32(batch * sums_item + part * sums_row + c)
        store_some(sums, o, c, columns, (s0, s1, s2, s3))


def _split(members, rows, columns, multiprocessors):
    """Return the threads side by side of a block, and the number of parts of the rows."""
    across = min(_ACROSS, 1 << (blocks(columns, 4) - 1).bit_length())
    down = _THREADS // across
    if rows <= _SPLIT * down:
        return across, 1
    strips = members * blocks(columns, 4 * across)
    wanted = _RESIDENT * multiprocessors // strips
    return across, max(1, min(wanted, rows // (_LEAST * down)))


@twin("linear_pullback")
@twin("linear_sigmoid_pullback")
def linear_pullback(ct, y, activation, dz, db):
    """dz = ct * slope(y); db = dz summed over the batch, in a fixed order."""
    members, rows, columns = dz.shape
    check_span(ct, y, dz)
    if not db.size:
        return []
    across, parts = _split(members, rows, columns, dz.device.multiprocessors)
    depth = blocks(rows, parts)
    parts = blocks(rows, depth)
    vector = all(in_vectors(x) for x in (ct, y, dz))
    in_place = (ct.buffer, ct.offset, ct.strides) == (dz.buffer, dz.offset, dz.strides)
    write = activation or not in_place
    sums = db.view((members, 1, columns), (db.strides[0], 0, db.strides[1]))
    if parts > 1:
        sums = scratch(dz).take((members, parts, 4 * blocks(columns, 4)))
    grid = blocks(columns, 4 * across), parts, members
    first = _scale_and_sum(
        grid, ct, y, dz, sums, rows, columns, across, depth, activation, int(write), int(vector),
        ct.step(1), ct.step(0), y.step(1), y.step(0), dz.step(1), dz.step(0), sums.step(1),
        sums.step(0),
    )  # fmt: skip
    if parts == 1:
        return [first]
    across = min(across, 8)
    grid = blocks(columns, 4 * across), 1, members
    last = _scale_and_sum(
        grid, sums, sums, sums, db, parts, columns, across, parts, 0, 0, 1,
        sums.step(1), sums.step(0), 0, 0, 0, 0, 0, db.step(0),
    )  # fmt: skip
    return [first, last]
