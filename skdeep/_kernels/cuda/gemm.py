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
    load_some,
    store_some,
    tile_kernel,
    tile_launch,
)
from skdeep._kernels.cuda.array import check_span, scratch
from skdeep._kernels.cuda.program import blocks

# ---- operands ---------------------------------------------------------------------------------


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
    return load_some(X, slot[0], k, end)


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
def _add_kernel(epilogue):
    """Return the kernel that adds the parts of split sums in order, and does the epilogue.

    It reads 4 bytes for every part of an element and writes 4, four columns a thread. Rows of
    the parts are padded to whole vectors, of which there are `groups`.
    """
    if epilogue.arguments:
        finish = epilogue.function
    else:
        finish = _without_number(epilogue.function)

    def add(parts, bias, out, rows, columns, groups, n_parts, row, item, bias_item, biased, vector,
            floor):  # fmt: skip
        i = uint32(uint32(cuda.blockIdx.x) * uint32(_ADDING) + uint32(cuda.threadIdx.x))
        batch = uint32(cuda.blockIdx.z)
        r, c = uint32(i // groups), uint32(uint32(i % groups) * uint32(4))
        if r >= rows:
            return
        slab = uint32(rows * groups * uint32(4))
        at = uint32(batch * n_parts * slab + i * uint32(4))
        v = load4(parts, at)
        s0, s1, s2, s3 = v
        p = uint32(1)
        while p < n_parts:
            at = uint32(at + slab)
            v = load4(parts, at)
            s0, s1, s2, s3 = s0 + v[0], s1 + v[1], s2 + v[2], s3 + v[3]
            p = uint32(p + uint32(1))
        if biased:
            v = load_some(bias, uint32(batch * bias_item + c), c, columns)
            s0, s1, s2, s3 = s0 + v[0], s1 + v[1], s2 + v[2], s3 + v[3]
        v = finish(s0, floor), finish(s1, floor), finish(s2, floor), finish(s3, floor)
        o = uint32(batch * item + r * row + c)
        if vector:
            store4(out, o, v)
        else:
            store_some(out, o, c, columns, v)

    words = ["gemm_add", epilogue.name]
    name = "_".join(word for word in words if word)
    return Kernel(add, "f f f" + " u" * 9 + " s", _ADDING, name=name)


def _without_number(function):
    @device
    def finish(v, number):
        return function(v)

    return finish


def add_parts(parts, out, *, bias=None, activation="identity"):
    """Return the launch that adds the parts of sums in order, and applies bias and activation.

    Parameters
    ----------
    parts : DeviceArray
        The parts (M, parts, rows, columns), contiguous, columns padded to a multiple of 4.
    out : DeviceArray
        The sums (M, rows, columns).
    bias, activation
        As of `multiply`.
    """
    epilogue, numbers = EPILOGUES[activation]
    members, rows, columns = out.shape
    groups = parts.shape[3] // 4
    return _add_kernel(epilogue)(
        (blocks(rows * groups, _ADDING), 1, members), parts, out if bias is None else bias, out,
        rows, columns, groups, parts.shape[1], out.step(1), out.step(0),
        0 if bias is None else bias.step(0), int(bias is not None), int(in_vectors(out)),
        numbers.get("floor", 0.0),
    )  # fmt: skip


def catalogue():
    """Return the kernels that nets of dense layers ask for.

    Only a forward product has another epilogue than a floor.
    """
    kernels = [
        _product_kernel(ta, tb, vector, FLOORED, shape)
        for ta, tb in ((0, 0), (0, 1), (1, 0))
        for vector in (True, False)
        for shape in (LARGE, MEDIUM, SMALL)
    ]
    for name in "tanh", "logistic":
        epilogue, _ = EPILOGUES[name]
        kernels += [_product_kernel(0, 0, True, epilogue, s) for s in (LARGE, MEDIUM, SMALL)]
        kernels.append(_add_kernel(epilogue))
    return [*kernels, _add_kernel(FLOORED)]


# ---- the choice of tiles ----------------------------------------------------------------------

#: Shape; blocks that a multiprocessor should have where sums are split; the least length of a
#: part, what makes its start and the second kernel pay; how much may be computed in vain, as the
#: ratio of the tiles' area to that of the last shape's, which is the smallest.
_CHOICES = (LARGE, 2, 1024, 1.25), (MEDIUM, 4, 256, 1.5), (SMALL, 4, 128, 1.0)


def choose(m, n, k, batch, multiprocessors, choices=_CHOICES):
    """Return the tiles of products, the number of parts of their sums, and a part's length.

    The largest shape that fits the result and gives every multiprocessor a block, of a part where
    need be; if none does, the smallest.

    Parameters
    ----------
    m, n, k : int
        Rows and columns of the result, and the length of the sums.
    batch : int
        The number of products.
    multiprocessors : int
        Those of the device.
    choices : tuple
        The shapes to choose from, as in `_CHOICES`.

    Returns
    -------
    shape : Shape
    parts, depth : int
    """
    least_area = _tiles(m, n, choices[-1][0])[1]
    for shape, wanted, least, ratio in choices:
        tiles, area = _tiles(m, n, shape)
        if area > ratio * least_area:
            continue
        tiles, parts = tiles * batch, 1
        if tiles < multiprocessors:
            parts = max(1, min(wanted * multiprocessors // tiles, k // least))
        if tiles * parts >= multiprocessors:
            break
    depth = blocks(blocks(k, parts), shape.depth) * shape.depth
    return shape, blocks(k, depth), depth


def _tiles(m, n, shape):
    """Return the number of tiles of a result, and their area."""
    tiles = blocks(m, shape.rows) * blocks(n, shape.columns)
    return tiles, tiles * shape.rows * shape.columns


# ---- products ---------------------------------------------------------------------------------


def multiply(a, ta, b, tb, out, *, bias=None, activation="identity", precision="float32"):
    """Return the launches of out = activation(op(a) @ op(b) + bias).

    A product is the same bit for bit whenever it is computed, but its rows' last bits depend on
    how many rows there are: another number of them may be added up in another order.

    Parameters
    ----------
    a, b : DeviceArray
        The operands, (M|1, rows, k) and (M|1, k, columns), or with the last two axes swapped
        where they are transposed; leading strides are free, elements of a row are neighbours.
    ta, tb : bool
        Whether they are transposed.
    out : DeviceArray
        The result (M, rows, columns).
    bias : DeviceArray, optional
        What is added to every row, (M|1, columns).
    activation : {"identity", "relu", "tanh", "logistic"}, default="identity"
        What is applied to the sums.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        What is multiplied in; sums are float32.
    """
    if activation not in EPILOGUES:
        raise ValueError(f"activation={activation!r}: it must be one of {list(EPILOGUES)}")
    if precision not in _PRECISIONS:
        raise ValueError(f"precision={precision!r}: it must be one of {list(_PRECISIONS)}")
    _check(a, ta, b, tb, out, bias)
    if not out.size:
        return []
    if precision != "float32":
        from skdeep._kernels.cuda import gemm_tensor

        return gemm_tensor.multiply(
            a, ta, b, tb, out, bias=bias, activation=activation, precision=precision
        )
    return tiled(a, ta, b, tb, out, bias, activation, _product_kernel, _CHOICES)


_PRECISIONS = "float32", "tf32", "bfloat16"


def _check(a, ta, b, tb, out, bias):
    """Refuse operands that do not fit."""
    members, rows, columns = out.shape
    left = (a.shape[0], *reversed(a.shape[1:])) if ta else a.shape
    right = (b.shape[0], *reversed(b.shape[1:])) if tb else b.shape
    fits = (left[1], right[2], left[2]) == (rows, columns, right[1])
    fits = fits and {left[0], right[0]} <= {1, members}
    if bias is not None:
        fits = fits and bias.shape in ((1, columns), (members, columns))
    if not fits:
        shapes = f"{a.shape} by {b.shape} (transposed: {bool(ta)}, {bool(tb)}) to {out.shape}"
        raise ValueError(f"a product of {shapes}, bias {bias and bias.shape}: they do not fit")
    matrices = (a, b, out) if bias is None else (a, b, out, bias)
    check_span(*matrices)
    for x in matrices:
        if x.shape[-1] > 1 and x.strides[-1] != x.itemsize:
            raise ValueError(f"a matrix with strides {x.strides}: its rows must have no gaps")


def tiled(a, ta, b, tb, out, bias, activation, kernel, choices):
    """Return the launches of a product by a family of kernels.

    Parameters
    ----------
    a, ta, b, tb, out, bias, activation
        As of `multiply`.
    kernel : callable
        ``kernel(ta, tb, vector, epilogue, shape)``: the kernel for whole vectors or any rows.
    choices : tuple
        The shapes that it has, as in `_CHOICES`.
    """
    members, m, n = out.shape
    k = a.shape[1] if ta else a.shape[2]
    shape, parts, depth = choose(m, n, k, members, out.device.multiprocessors, choices)
    epilogue, numbers = EPILOGUES[activation] if parts == 1 else EPILOGUES["identity"]
    whole = in_vectors(a) and in_vectors(b)
    sums, vector, direct = out, in_vectors(out), bias
    if parts > 1:
        sums = scratch(out).take((members, parts, m, 4 * blocks(n, 4)))
        vector, direct = True, None
    product = tile_launch(
        kernel(bool(ta), bool(tb), whole, epilogue, shape), a, b, sums, (m, n, k), bias=direct,
        vector=vector, depth=depth, parts=parts, batch=members, a_row=a.step(1), a_item=a.step(0),
        b_row=b.step(1), b_item=b.step(0), c_row=sums.step(-2), c_item=sums.step(0),
        c_part=sums.step(1) if parts > 1 else 0, bias_item=0 if direct is None else bias.step(0),
        **numbers,
    )  # fmt: skip
    if parts == 1:
        return [product]
    return [product, add_parts(sums, out, bias=bias, activation=activation)]


def in_vectors(x):
    """Whether rows are whole vectors of 16 bytes."""
    return x.aligned() and x.shape[-1] % 4 == 0
