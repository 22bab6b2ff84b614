"""Sweeps of register tiles over images: many panels of rows in one call, compiled once.

A sweep computes C (+)= A @ B, adds a bias and, where asked, applies ReLU for the lines of some
planes of an image. Each line has m rows, whose columns of A come in segments (see `Walk` of the
micro-kernel); from line to line and from plane to plane A and C move on by fixed strides.
"""

from dataclasses import replace
from types import FunctionType

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from skdeep._kernels.cpu._indirect import Indirect, fill_nan
from skdeep._kernels.cpu._microkernel import HOST, Emitter, make_walk
from skdeep._kernels.cpu._numba import FLOATS, JIT, renamed
from skdeep._kernels.cpu._pointers import offset

#: The arguments of a sweep, by `Indirect`'s letters.
_KINDS = "".join(("iii", "iii", "ifii", "llii", "fi", "fii", "fii"))

_INT = ir.IntType(64)
#: Heights of tiles where channels are lanes: the usual widths of windows.
_LANES_ROWS = (7, 5, 3, 2, 1)


@intrinsic
def load(tyctx, pointer, place):
    """Return an element."""

    def codegen(ctx, builder, sig, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return pointer.dtype(pointer, place), codegen


def _copy_segments(e, pixels, a, a_row, offsets, count, length, out):
    """Emit the copy of the segments of each pixel's row, a vector at a time."""
    builder, size = e.builder, e.bytes(length)
    whole = builder.sdiv(builder.sub(length, _INT(1)), _INT(e.lanes))
    done = builder.mul(whole, _INT(e.lanes))
    mask, done = e.first(builder.sub(length, done)), e.bytes(done)
    with e.loop(pixels) as pixel:
        row = e.at(a, builder.mul(pixel, a_row))
        to = e.at(out, builder.mul(builder.mul(pixel, count), size))
        with e.loop(count) as segment:
            source = e.at(row, e.bytes(builder.load(builder.gep(offsets, [segment]))))
            target = e.at(to, builder.mul(segment, size))
            with e.loop(whole) as vector:
                at = builder.mul(vector, _INT(e.isa.width))
                e.store(e.load(e.at(source, at)), e.at(target, at))
            e.store(e.load(e.at(source, done), mask), e.at(target, done))


@intrinsic
def unroll(tyctx, pixels, a, a_row, offsets, count, length, out):
    """Copy the segments of each pixel's row of A one behind the other.

    Up to a vector behind the last is written as well.
    """

    def codegen(ctx, builder, sig, args):
        pixels, a, a_row, offsets, count, length, out = args
        e = Emitter(builder, HOST, ctx.get_data_type(sig.args[1].dtype))
        half = Emitter(builder, replace(HOST, width=max(HOST.width // 2, 16)), e.element)
        narrow = builder.icmp_signed("<=", length, _INT(half.lanes))
        args = pixels, a, e.bytes(a_row), offsets, count, length, out
        with builder.if_else(narrow) as (then, otherwise):
            with then:
                _copy_segments(half, *args)
            with otherwise:
                _copy_segments(e, *args)
        return ctx.get_dummy_value()

    args = pixels, a, a_row, offsets, count, length, out
    return types.void(*args), codegen


def _make(isa, lanes):
    if lanes:
        rows = tuple(r for r in _LANES_ROWS if r <= isa.rows[0])
        isa = replace(isa, rows=rows)
    return make_walk(isa, lanes)


_walk, _lanes_walk = _make(HOST, False), _make(HOST, True)


def _sweep(
    planes, a_plane, c_plane,
    lines, a_line, c_line,
    m, a, a_row, a_col,
    offsets, spans, count, k,
    b, b_row,
    c, c_row, columns, bias, relu, accumulate,
):  # fmt: skip
    """C (+)= A @ B + bias for all lines of all planes, at most a panel wide.

    A line takes `count` segments; where that is zero, `spans` says for each line which is its
    first and how many there are.
    """
    for p in range(planes):
        for i in range(lines):
            first, taken = 0, count
            if count == 0:
                first, taken = load(spans, 2 * i), load(spans, 2 * i + 1)
            _walk(
                m, offset(a, p * a_plane + i * a_line), a_row, a_col,
                offset(offsets, first), taken, k, offset(b, first * k * b_row), b_row,
                offset(c, p * c_plane + i * c_line), c_row,
                columns, bias, relu != 0, accumulate != 0,
            )  # fmt: skip


def build(isa, dtype, lanes=False, cache=False):
    """Compile the sweep for an instruction set and a dtype as a C function."""
    hosts = _lanes_walk if lanes else _walk
    walk = hosts if isa == HOST else _make(isa, lanes)
    function = FunctionType(_sweep.__code__, globals() | {"_walk": walk})
    function = renamed(function, f"_sweep{'_lanes' * lanes}_{np.dtype(dtype).name}")
    signature = SWEEP.signature(FLOATS[np.dtype(dtype)])
    return cfunc(signature, **(JIT | {"cache": cache}))(function)


def _poison(dtype, planes, a_plane, c_plane, lines, a_line, c_line, m, *rest):
    c, c_row, columns = rest[9:12]
    for p in range(planes):
        for i in range(lines):
            at = c + (p * c_plane + i * c_line) * dtype.itemsize
            fill_nan(dtype, at, m, columns, c_row)


def _table(symbol, lanes):
    return Indirect(
        symbol, _KINDS, lambda dtype: build(HOST, dtype, lanes, cache=JIT["cache"]), _poison
    )


#: Every element of a row of A times a vector of B; and a vector of A times one of B.
SWEEP, LANES_SWEEP = _table("skdeep_sweep", False), _table("skdeep_lanes_sweep", True)


def _intrinsic(table):
    @intrinsic
    def sweep(
        tyctx, planes, a_plane, c_plane, lines, a_line, c_line, m, a, a_row, a_col,
        offsets, spans, count, k, b, b_row, c, c_row, columns, bias, relu, accumulate,
    ):  # fmt: skip
        return table.signature(c.dtype), table.emit

    return sweep


sweep, lanes_sweep = _intrinsic(SWEEP), _intrinsic(LANES_SWEEP)
