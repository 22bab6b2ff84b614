"""Operations that NumPy computes on the CPU, on a device.

GPU kernels compute in float32 (integers in int64): what NumPy would do in float64 is refused.
Unbound are `inv`, `solve`, `det`, `slogdet`, `cholesky`, `eigh`, `eigvalsh`, `svd`, `svdvals`,
`qr` and `pinv` of linear algebra, and `spacing`, `spherical_bessel` (numpy.sinc) and `digitize`:
a program that has one of them stays on the CPU.
"""

from functools import partial

import numpy as np

from skdeep._kernels.cpu._numba import Variant
from skdeep._kernels.cuda import move, reduce, sort
from skdeep._kernels.cuda._functions import TABLES
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.broadcast import LETTERS, elementwise, fill
from skdeep._kernels.cuda.program import Twin, Untranslatable
from skdeep.autodiff import _program
from skdeep.autodiff._cuda import _copies, _matmul, bind, indexing
from skdeep.autodiff.ops import elementwise as ufuncs
from skdeep.autodiff.ops import reduce as reductions
from skdeep.autodiff.ops import shape as shapes

#: Operations with no kernel for a GPU.
UNBOUND = frozenset(
    "inv solve det slogdet cholesky eigh_L eigh_U eigvalsh_L eigvalsh_U svd svdvals qr pinv "
    "spacing spherical_bessel digitize".split()
)


def _refuse(name, what):
    raise Untranslatable(
        f"the operation {name!r} {what}, for which there is no GPU kernel; use device='cpu'"
    )


def _kind(name, dtype):
    """Return the letter of the type that numbers of a dtype are computed in."""
    dtype = np.dtype(dtype)
    if dtype == np.float32 or dtype == np.bool_:
        return "f" if dtype == np.float32 else "b"
    if dtype.kind not in "iu":
        _refuse(name, f"computes in {dtype}")
    return "l"


def _check(name, *arrays):
    """Raise where an array's dtype is none that kernels read."""
    for a in arrays:
        if isinstance(a, np.ndarray) and (a.dtype not in LETTERS or a.dtype == np.float64):
            _refuse(name, f"has an array of {a.dtype}")


def _twin(name, function, *arguments):
    """Return a call: a function of device arrays that gives launches, and its arguments."""
    return Twin(function, name), arguments


def _apply(operation, name, kinds, args, out):
    """Return the call of an elementwise function that the tables know as `name`."""
    _check(operation, *args, out)
    if name not in TABLES[next(k for k in "flb" if k in kinds)]:
        _refuse(operation, f"is of {out.dtype}")
    args = [a.item() if isinstance(a, np.generic) else a for a in args]
    return _twin(operation, lambda *a: elementwise(name, kinds, a[:-1], a[-1]), *args, out)


# ---- elementwise ------------------------------------------------------------------------------


def _lower_ufunc(ufunc, args, outs):
    weak = [np.dtype(bool) if type(x) is bool else getattr(x, "dtype", type(x)) for x in args]
    loop = ufunc.resolve_dtypes((*weak, None))[:-1]
    name = ufunc.__name__
    if name.startswith("logical_"):  # whose loop is of truth values, which 2**40 would not survive
        loop = [np.result_type(*(x for x in args if isinstance(x, np.ndarray)))] * len(args)
    return _apply(name, name, "".join(_kind(name, dtype) for dtype in loop), args, outs[0])


for _ufunc, _p in ufuncs.UFUNCS.items():
    if _p.name not in UNBOUND:
        bind(_p.name)(partial(_lower_ufunc, _ufunc))


@bind("where")
def _lower_where(args, outs):
    kind = _kind("where", outs[0].dtype)
    return _apply("where", "where", f"b{kind}{kind}", args, outs[0])


@bind("tie_share")
def _lower_tie_share(args, outs):
    return _apply("tie_share", "tie_share", 3 * _kind("tie_share", outs[0].dtype), args, outs[0])


def _lower_float(name, args, outs):
    return _apply(name, name, _kind(name, outs[0].dtype), args, outs[0])


def _lower_test(name, args, outs):
    return _apply(name, name, _kind(name, args[0].dtype), args, outs[0])


for _name in ("sigmoid", "erf"):
    bind(_name)(partial(_lower_float, _name))
for _name in ("isposinf", "isneginf"):
    bind(_name)(partial(_lower_test, _name))


@bind("isclose")
def _lower_isclose(args, outs, rtol, atol, equal_nan):
    _kind("isclose", np.result_type(*[getattr(a, "dtype", a) for a in args], 1.0))
    numbers = float(rtol), float(atol), float(equal_nan)
    return _apply("isclose", "isclose", "fffff", (*args, *numbers), outs[0])


@bind("round")
def _lower_round(args, outs, decimals):
    kind = _kind("round", outs[0].dtype)
    if kind != "f" and decimals < 0:
        _refuse("round", f"is of {outs[0].dtype}")
    if kind != "f" or not decimals:
        return _apply("round", "copy" if kind != "f" else "rint", kind, args, outs[0])
    name = "round_up" if decimals > 0 else "round_down"
    return _apply("round", name, "ff", (*args, 10.0 ** abs(decimals)), outs[0])


# ---- copies -----------------------------------------------------------------------------------


def _or_kernel(p, lower):
    """Return a lowering that prefers the CPU's kernel, whose twin is written for its layout."""

    def either(args, outs, **kw):
        function, arguments = p.lower_call(args, outs, kw)
        if isinstance(function, Variant):
            return function, arguments
        return lower(args, outs, **kw)

    return bind(p.name)(either)


def _lower_copy(name, args, outs, **kw):
    x, out = np.asarray(args[0]), outs[0]
    for a in (x, out):
        if a.dtype not in LETTERS:
            _refuse(name, f"has an array of {a.dtype}")
    if x.dtype == np.float64 and out.dtype.kind != "f":
        _refuse(name, f"makes {out.dtype} of float64")
    return _twin(name, move.copy, x, out)


for _name in ("astype", "astype_discrete"):
    bind(_name)(partial(_lower_copy, _name))
_or_kernel(_program._assign, partial(_lower_copy, "assign"))


def _copy_reshaped(x, out):
    """Return the launches that copy elements in C order to another shape."""
    if out.is_contiguous:
        return move.copy(x, out.reshape(*x.shape))
    line, launches = move.contiguous(x, scratch(out))
    return launches + move.copy(line.reshape(*out.shape), out)


def _lower_view(name, args, outs, **kw):
    """Return the call of a view that has to be a copy; only `reshape` makes such of elements."""
    _check(name, *outs)
    return _twin(name, _copy_reshaped if name == "reshape" else move.copy, args[0], outs[0])


for _name in ("reshape", "transpose", "broadcast_to"):
    bind(_name)(partial(_lower_view, _name))


def _lower_concatenate(args, outs, axis):
    _check("concatenate", *args, *outs)
    return _twin("concatenate", lambda *a: move.joined(a[:-1], axis, a[-1]), *args, outs[0])


def _lower_part(args, outs, start, stop, axis):
    _check("part", *outs)
    x = args[0][(*(slice(None),) * axis, slice(start, stop))]
    return _twin("part", move.copy, x, outs[0])


_or_kernel(shapes._concatenate, _lower_concatenate)
_or_kernel(shapes._part, _lower_part)


@bind("pad")
def _lower_pad(args, outs, widths, value):
    _check("pad", *args, *outs)
    x, out = args[0], outs[0]
    inside = out[tuple(slice(a, a + d) for (a, _), d in zip(widths, x.shape, strict=True))]

    def launches(x, inside, out):
        return fill(out, value) + move.copy(x, inside)

    return _twin("pad", launches, x, inside, out)


# ---- reductions -------------------------------------------------------------------------------


def _reduce(name, operation, args, outs, axis):
    _check(name, *args, *outs)
    x, out = args[0], outs[0]
    if operation in ("max", "min") and not all(x.shape[i] for i in axis) and out.size:
        raise ValueError(f"{name} of an array of shape {x.shape}: there is no element to take")
    return _twin(name, lambda x, out: reduce.reduction(operation, x, axis, out), x, out)


_or_kernel(
    shapes.sum_p, lambda args, outs, axis, keepdims: _reduce("sum", "sum", args, outs, axis)
)


def _bind_reduction(name, operation):
    @bind(name)
    def lower(args, outs, axis, keepdims):
        return _reduce(name, operation, args, outs, axis)


for _p, _operation in ((reductions.max_p, "max"), (reductions.min_p, "min")):
    _bind_reduction(_p.name, _operation)
for _name in ("all", "any"):
    _bind_reduction(_name, _name)


@bind("count_nonzero")
def _lower_count(args, outs, axis, keepdims):
    _check("count_nonzero", *args)

    def launches(x, out):
        truth = x
        made = []
        if x.dtype != np.bool_:
            truth = scratch(out).take(x.shape, np.bool_)
            made = move.copy(x, truth)
        return made + reduce.reduction("sum", truth, axis, out)

    return _twin("count_nonzero", launches, args[0], outs[0])


def _bind_position(name, sign):
    @bind(name)
    def lower(args, outs, axis, keepdims):
        _check(name, *args)
        x, out = args[0], outs[0]
        if not x.shape[axis] and out.size:
            raise ValueError(f"{name} of an array of shape {x.shape}: axis {axis} is empty")
        return _twin(name, lambda x, out: reduce.position(x, axis, sign, out), x, out)


_bind_position("argmax", 1)
_bind_position("argmin", -1)


def _bind_soft(name):
    @bind(name)
    def lower(args, outs, axis, **kw):
        for a in (args[0], outs[0]):
            if a.dtype != np.float32:
                _refuse(name, f"has an array of {a.dtype}")
        return _twin(name, lambda x, out: reduce.soft(name, x, axis, out), args[0], outs[0])


for _name in ("softmax", "log_softmax", "logsumexp"):
    _bind_soft(_name)


@bind("cumsum")
def _lower_cumsum(args, outs, axis):
    _check("cumsum", *args, *outs)
    if outs[0].dtype not in (np.float32, np.int64):
        _refuse("cumsum", f"is of {outs[0].dtype}")
    return _twin("cumsum", lambda x, out: reduce.cumsum(x, axis, out), args[0], outs[0])


# ---- sorting and searching --------------------------------------------------------------------


def _bind_sort(name):
    @bind(name)
    def lower(args, outs, axis, **kw):
        # Any order among equal elements will do, and what is sorted is partitioned.
        _check(name, *args)
        x, out = args[0], outs[0]
        axis %= x.ndim
        return _twin(name, lambda x, out: sort.argsort(x, axis, out), x, out)


for _name in ("argsort", "argpartition"):
    _bind_sort(_name)


@bind("searchsorted")
def _lower_search(args, outs, side):
    table, x = args
    _check("searchsorted", table, x)
    if table.dtype != x.dtype:
        _refuse("searchsorted", f"compares {table.dtype} and {x.dtype}")
    call = lambda table, x, out: sort.search(table, x, side == "right", out)  # noqa: E731
    return _twin("searchsorted", call, table, x, outs[0])


indexing.bind_all(_check)
_matmul.bind_all(_check)
_copies.bind_all()
