"""Matrix products on tensor cores."""

from dataclasses import replace
from functools import cache

from skdeep._kernels.cuda._numba import device, uint32
from skdeep._kernels.cuda._tensor_tile import TensorLoader, TensorShape, tensor_kernel
from skdeep._kernels.cuda.gemm import MATRIX, matrix_loader

SHAPES = {
    "tf32": (
        TensorShape("tf32", 256, 128, 4, 2, stages=2, resident=1),
        TensorShape("tf32", 128, 128, 2, 2, stages=3, resident=2),
        TensorShape("tf32", 64, 64, 2, 2, stages=4, resident=4),
    ),
    "bfloat16": (
        TensorShape("bfloat16", 256, 128, 4, 2, stages=2, resident=1),
        TensorShape("bfloat16", 128, 128, 2, 4, stages=2, resident=1),
        TensorShape("bfloat16", 64, 64, 2, 2, stages=2, resident=4),
    ),
}


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


def _loader(operand, along_k, vector):
    base = matrix_loader(operand, along_k, vector)
    where = _where_vector if vector else (_where_along_k if along_k else _where_rows)
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return TensorLoader(**(fields | {"fetch": where}), vector=vector)


@cache
def _kernel(ta, tb, vector, shape):
    a, b = _loader("a", not ta, vector), _loader("b", tb, vector)
    return tensor_kernel("gemm", a, b, MATRIX, shape)


def catalogue():
    return [
        _kernel(ta, tb, vector, shape)
        for shapes in SHAPES.values()
        for i, shape in enumerate(shapes)
        for ta, tb in ((False, False), (False, True), (True, False))
        for vector in ((True, False) if i == 2 else (True,))
    ]
