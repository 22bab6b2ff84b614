"""Matrix products on tensor cores: what `gemm.multiply` is in the precisions TF32 and bfloat16.

Factors are float32 in memory and rounded on the way to the tensor cores, sums are float32. All but
the kernels themselves is `gemm`'s: operands, results, the split of sums, and what adds their
parts. Kernels of large tiles do no more than ReLU on the way out: tanh and logistic in each of a
thread's 128 places would be most of their code, and take a pass of their own, 8 bytes an element.

No H200 has run it yet. `_tensor_tile` says what bounds it; the aim is 150 TFLOP/s or more in TF32
from 2048 squared on.
"""

from dataclasses import fields
from functools import cache

from skdeep._kernels.cuda._numba import device, uint32
from skdeep._kernels.cuda._tensor_tile import TensorLoader, TensorShape, tensor_kernel
from skdeep._kernels.cuda._tile import FLOORED
from skdeep._kernels.cuda.gemm import (
    EPILOGUES,
    MATRIX,
    add_parts,
    choose,
    in_vectors,
    matrix_loader,
    tiled,
)

#: The tiles of each precision, as `gemm.choose` takes them. A warp has 64 x 64 of a tile, or
#: 64 x 32 or 32 x 32; 48 KiB of shared memory are the most that a kernel may declare.
CHOICES = {
    "tf32": (
        (TensorShape("tf32", 256, 128, 4, 2, stages=2, resident=1), 1, 1024, 1.25),
        (TensorShape("tf32", 128, 128, 2, 2, stages=3, resident=2), 2, 512, 1.25),
        (TensorShape("tf32", 64, 64, 2, 2, stages=4, resident=4), 4, 256, 1.0),
    ),
    "bfloat16": (
        (TensorShape("bfloat16", 256, 128, 4, 2, stages=2, resident=1), 1, 1024, 1.25),
        (TensorShape("bfloat16", 128, 128, 2, 4, stages=2, resident=1), 1, 512, 1.25),
        (TensorShape("bfloat16", 64, 64, 2, 2, stages=2, resident=4), 4, 256, 1.0),
    ),
}

# ---- operands ---------------------------------------------------------------------------------


@device
def _where_vector(slot, step, k, end, row, item):
    return ((slot[0], k < end),)


@device
def _where_along_k(slot, step, k, end, row, item):
    o = slot[0]
    return (
        (o, k < end),
        (uint32(o + uint32(1)), uint32(k + uint32(1)) < end),
        (uint32(o + uint32(2)), uint32(k + uint32(2)) < end),
        (uint32(o + uint32(3)), uint32(k + uint32(3)) < end),
    )


@device
def _where_rows(slot, step, k, end, row, item):
    inside = k < end
    return (slot[0], inside), (slot[1], inside), (slot[2], inside), (slot[3], inside)


def matrix_operand(operand, along_k, vector):
    """Return the loader of a matrix in memory; parameters as of `gemm.matrix_loader`."""
    loader = matrix_loader(operand, along_k, vector)
    where = _where_vector if vector else _where_along_k if along_k else _where_rows
    parts = {f.name: getattr(loader, f.name) for f in fields(loader)} | {"fetch": where}
    return TensorLoader(**parts, vector=vector)


@cache
def _product_kernel(ta, tb, vector, epilogue, shape):
    a, b = matrix_operand("a", not ta, vector), matrix_operand("b", tb, vector)
    return tensor_kernel("gemm", a, b, MATRIX, epilogue, shape)


def catalogue():
    """Return the kernels that nets of dense layers ask for.

    Rows that are not whole vectors, and tanh and logistic on the way out, take the least tiles.
    """
    kernels = []
    for *large, (least, *_) in CHOICES.values():
        for ta, tb in ((False, False), (False, True), (True, False)):
            shapes = [(shape, True) for shape, *_ in large] + [(least, True), (least, False)]
            kernels += [_product_kernel(ta, tb, v, FLOORED, shape) for shape, v in shapes]
        for name in "tanh", "logistic":
            kernels.append(_product_kernel(False, False, False, EPILOGUES[name][0], least))
    return kernels


# ---- products ---------------------------------------------------------------------------------


def multiply(a, ta, b, tb, out, *, bias=None, activation="identity", precision):
    """Return the launches of out = activation(op(a) @ op(b) + bias).

    It is called by `gemm.multiply`, which says what the parameters are, and checks them.

    Parameters
    ----------
    a, ta, b, tb, out, bias, activation
        As of `gemm.multiply`.
    precision : {"tf32", "bfloat16"}
        What the factors are rounded to.
    """
    members, m, n = out.shape
    k = a.shape[1] if ta else a.shape[2]
    choices = CHOICES[precision]
    if not (in_vectors(a) and in_vectors(b)):
        choices = choices[-1:]
    _, parts, _ = choose(m, n, k, members, out.device.multiprocessors, choices)
    if parts == 1 and EPILOGUES[activation][0] is not FLOORED:
        if out.is_contiguous and in_vectors(out):
            sums = tiled(a, ta, b, tb, out, None, "identity", _product_kernel, choices)
            whole = out.reshape(members, 1, m, n)
            return [*sums, add_parts(whole, out, bias=bias, activation=activation)]
        choices = choices[-1:]
    return tiled(a, ta, b, tb, out, bias, activation, _product_kernel, choices)
