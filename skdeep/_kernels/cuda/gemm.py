"""Matrix products in float32: C = activation(op(A) op(B) + bias), by the template of `_tile`.

Which tile is taken, and into how many parts the sums are split, follows from the shapes and the
device alone: the largest tile that gives every multiprocessor a block, split along k where that
takes it (`choose`). Parts are added by a second kernel in a fixed order, so that two runs are
equal bit for bit. Rows of C are not: another number of rows may take another tile or split, and
its sums, which are those of another order, agree with the first to rounding only.

What H200 should take at best, not measured yet: a product of 2048, 4096 or 8192 squared is bound
by arithmetic, 2 m n k / 67e12 s, that is 0.26, 2.1 and 16.4 ms, of which the main loop's share of
multiply-adds leaves 87 %. The products of a perceptron 784-300-100-10 at 200 rows are 0.4 to
94 million operations, at most 1.4 us of arithmetic, and are bound by the latency of a step of the
loop, about half a microsecond: 5 steps for 200 x 784 x 300 in 5 parts, which take as long as the
launch of the kernel that adds them, against 25 in one part.
"""

from functools import cache

import numpy as np

from skdeep._kernels import scalar
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import Kernel, cuda, device, float32, shared, uint32
from skdeep._kernels.cuda._tile import (
    FLOORED,
    LARGE,
    MEDIUM,
    SMALL,
    Epilogue,
    Loader,
    Store,
    tile_kernel,
    tile_launch,
)
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.program import blocks

# ---- operands ---------------------------------------------------------------------------------

#: Four zeros.
_NONE = (float32(0), float32(0), float32(0), float32(0))


@device
def _place_along_k(r, limit, k, batch, row, item):
    r = uint32(min(r, uint32(limit - uint32(1))))
    return (uint32(batch * item + r * row + k),)


@device
def _move_along_k(slot, depth, row, item):
    return (uint32(slot[0] + depth),)


@device
def _fetch_vector(X, slot, step, k, end, row, item):
    zero = float32(0)
    if k < end:
        return load4(X, slot[0])
    return zero, zero, zero, zero


@device
def _fetch_along_k(X, slot, step, k, end, row, item):
    o, zero = slot[0], float32(0)
    return (
        X[o] if k < end else zero,
        X[uint32(o + uint32(1))] if uint32(k + uint32(1)) < end else zero,
        X[uint32(o + uint32(2))] if uint32(k + uint32(2)) < end else zero,
        X[uint32(o + uint32(3))] if uint32(k + uint32(3)) < end else zero,
    )


@device
def _place_four_rows(r, limit, k, batch, row, item):
    r = uint32(min(r, uint32(limit - uint32(4))))
    return (uint32(batch * item + k * row + r),)


@device
def _move_four_rows(slot, depth, row, item):
    return (uint32(slot[0] + depth * row),)


@device
def _place_rows(r, limit, k, batch, row, item):
    o, last = uint32(batch * item + k * row), uint32(limit - uint32(1))
    return (
        uint32(o + min(r, last)),
        uint32(o + min(uint32(r + uint32(1)), last)),
        uint32(o + min(uint32(r + uint32(2)), last)),
        uint32(o + min(uint32(r + uint32(3)), last)),
    )


@device
def _move_rows(slot, depth, row, item):
    o = uint32(depth * row)
    return uint32(slot[0] + o), uint32(slot[1] + o), uint32(slot[2] + o), uint32(slot[3] + o)


@device
def _fetch_rows(X, slot, step, k, end, row, item):
    zero = float32(0)
    if k < end:
        return X[slot[0]], X[slot[1]], X[slot[2]], X[slot[3]]
    return zero, zero, zero, zero


#: (along k, four at once) -> the functions of a loader.
_LOADERS = {
    (True, True): (_place_along_k, _fetch_vector, _move_along_k),
    (True, False): (_place_along_k, _fetch_along_k, _move_along_k),
    (False, True): (_place_four_rows, _fetch_vector, _move_four_rows),
    (False, False): (_place_rows, _fetch_rows, _move_rows),
}


def matrix_loader(operand, along_k, vector):
    """Return the loader of a matrix in memory.

    Parameters
    ----------
    operand : {"a", "b"}
        Whose numbers it takes: ``a_row``, the distance of rows in memory, and ``a_item``, that of
        the matrices of a batch.
    along_k : bool
        Whether rows in memory run along k (A as it is, B transposed).
    vector : bool
        Whether rows and their lengths are multiples of 16 bytes.
    """
    name = ("n" if along_k == (operand == "a") else "t") + ("" if vector else "1")
    place, fetch, move = _LOADERS[along_k, vector]
    numbers = f"{operand}_row", f"{operand}_item"
    return Loader(name, along_k, place, fetch, move, arguments=numbers)


# ---- the result -------------------------------------------------------------------------------


@device
def _row_of_matrix(r, batch, part, row, item, slab, bias_item):
    return uint32(batch * item + part * slab + r * row)


@device
def _bias_of_matrix(batch, row, item, slab, bias_item):
    return uint32(batch * bias_item)


#: A matrix in memory; the parts of a split sum are `c_part` apart.
MATRIX = Store("", _row_of_matrix, _bias_of_matrix, ("c_row", "c_item", "c_part", "bias_item"))

_tanh, _logistic = shared(scalar.tanh), shared(scalar.logistic)


@device
def _apply_tanh(v):
    return float32(_tanh(v))


@device
def _apply_logistic(v):
    return float32(_logistic(v, float32))


#: Activation -> epilogue, and its numbers.
EPILOGUES = {
    "identity": (FLOORED, {"floor": -np.inf}),
    "relu": (FLOORED, {"floor": 0.0}),
    "tanh": (Epilogue("tanh", _apply_tanh), {}),
    "logistic": (Epilogue("logistic", _apply_logistic), {}),
}


# ---- kernels ----------------------------------------------------------------------------------


@cache
def _product_kernel(ta, tb, vector, epilogue, shape):
    a = matrix_loader("a", not ta, vector)
    b = matrix_loader("b", tb, vector)
    return tile_kernel("gemm", a, b, MATRIX, epilogue, shape)


_ADDING = 128


@cache
def add_kernel(epilogue):
    """Return the kernel that adds the parts of split sums, and applies bias and epilogue.

    It reads 4 bytes for every part of an element, and writes 4: four columns a thread.
    """
    finish = epilogue.function

    def add_parts(parts, bias, out, rows, columns, wide, n_parts, row, item, bias_item, biased,
                  vector, floor):  # fmt: skip
        i = uint32(cuda.blockIdx.x) * uint32(_ADDING) + uint32(cuda.threadIdx.x)
        batch, groups = uint32(cuda.blockIdx.z), uint32(wide // uint32(4))
        r, c = uint32(i // groups), uint32((i % groups) * uint32(4))
        if r < rows:
            slab = uint32(rows * wide)
            at = uint32(batch * n_parts * slab + r * wide + c)
            v = load4(parts, at)
            s0, s1, s2, s3 = v[0], v[1], v[2], v[3]
            for _ in range(uint32(1), n_parts):
                at = uint32(at + slab)
                v = load4(parts, at)
                s0 = float32(s0 + v[0])
                s1 = float32(s1 + v[1])
                s2 = float32(s2 + v[2])
                s3 = float32(s3 + v[3])
            o = uint32(batch * bias_item + c)
            n = uint32(min(uint32(columns - c), uint32(4)))
            if biased:
                s0 = float32(s0 + bias[o])
                if n > uint32(1):
                    s1 = float32(s1 + bias[uint32(o + uint32(1))])
                if n > uint32(2):
                    s2 = float32(s2 + bias[uint32(o + uint32(2))])
                if n > uint32(3):
                    s3 = float32(s3 + bias[uint32(o + uint32(3))])
            s0, s1, s2, s3 = _finish(s0, floor), _finish(s1, floor), _finish(s2, floor), _finish(s3, floor)
            o = uint32(batch * item + r * row + c)
            if vector:
                store4(out, o, (s0, s1, s2, s3))
            else:
                out[o] = s0
                if n > uint32(1):
                    out[uint32(o + uint32(1))] = s1
                if n > uint32(2):
                    out[uint32(o + uint32(2))] = s2
                if n > uint32(3):
                    out[uint32(o + uint32(3))] = s3

    return add_parts
