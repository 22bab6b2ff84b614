"""Recorded NumPy functions on a device, against NumPy."""

import importlib
import pkgutil

import numpy as np
import pytest

from skdeep._kernels.cpu._numba import Variant
from skdeep._kernels.cuda.program import Mirror, Untranslatable
from skdeep.autodiff import _cuda, _program, ops, vjp
from skdeep.autodiff._cuda import numpy_ops
from skdeep.autodiff._trace import Primitive
from skdeep.autodiff.ops.activation import activate
from skdeep.autodiff.ops.elementwise import UFUNCS
from skdeep.autodiff.ops.nn import linear, moving_average, product

F = np.float32


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(F)


def on_device(gpu, f, *args):
    """Return what ``f(*args)`` gives on the CPU, on the device, and the kernels launched."""
    with np.errstate(all="ignore"):
        expected = np.asarray(f(*args))
    into = np.full(expected.shape, np.nan if expected.dtype.kind == "f" else 1, expected.dtype)
    program = _program.record(f, args, into, device=True)
    mirror = Mirror(gpu)
    run, before = mirror.compile(program.calls), gpu.launched
    run()
    mirror.pull(into)
    return into, expected, gpu.launched - before


def check(gpu, f, *args, rtol=1e-5, atol=1e-6):
    """Compare: exactly, but floats within roundings of functions of float32."""
    computed, expected, launched = on_device(gpu, f, *args)
    np.testing.assert_allclose(computed, expected, rtol, atol)
    return launched


def pulled(f):
    """Return the cotangent of the first argument, for a cotangent without symmetries."""

    def g(x, *rest):
        y, pullback = vjp(lambda x: f(x, *rest), x)
        weights = np.arange(1, 1 + np.prod(y.shape)).reshape(y.shape).astype(F)
        return pullback(weights)[0]

    return g


# ---- elementwise ------------------------------------------------------------------------------

SPECIAL = np.array([0, -0.0, 1, -1, 2, 0.5, -2.5, 3.5, np.inf, -np.inf, np.nan, 1e-30], F)


def _floating(ufunc):
    """Whether a ufunc has a loop of float32."""
    try:
        loop = ufunc.resolve_dtypes((np.dtype(F),) * ufunc.nin + (None,))
    except TypeError:
        return False
    return loop[0] == F and ufunc.__name__ not in numpy_ops.UNBOUND


@pytest.mark.parametrize("ufunc", filter(_floating, UFUNCS), ids=lambda u: u.__name__)
def test_ufuncs_of_float32(gpu, ufunc):
    if ufunc.nin == 1:
        check(gpu, ufunc, SPECIAL)
        # Slices that no vector fits, of numbers as they come.
        check(gpu, ufunc, numbers(3, 8)[:, 1:])
        return
    check(gpu, ufunc, SPECIAL[:, None], SPECIAL)
    check(gpu, lambda x: ufunc(x, 1.5), numbers(5, 3).T)


#: What NumPy's functions of whole numbers have a loop of int64 or bool for.
WHOLE = (
    "add subtract multiply negative positive square absolute remainder floor_divide sign maximum "
    "minimum fmax fmin greater less greater_equal less_equal equal not_equal logical_and "
    "logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert isnan isfinite "
    "isinf floor ceil trunc"
).split()


@pytest.mark.parametrize("name", WHOLE)
def test_ufuncs_of_int64(gpu, name):
    ufunc = getattr(np, name)
    x = np.array([[0, 1, -1], [7, -8, 2**40]])
    y = np.array([3, -2, 0])
    if ufunc.nin == 1:
        check(gpu, ufunc, x, rtol=0, atol=0)
    else:
        check(gpu, ufunc, x, y, rtol=0, atol=0)
        check(gpu, lambda x: ufunc(x, 5), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name",
    [n for n in WHOLE if n not in "subtract negative positive square remainder floor_divide sign"],
)
def test_ufuncs_of_truth_values(gpu, name):
    ufunc = getattr(np, name)
    x, y = np.array([[True], [False]]), np.array([True, False, True])
    check(gpu, ufunc, *((x,) if ufunc.nin == 1 else (x, y)), rtol=0, atol=0)


ELEMENTWISE = {
    "where": lambda x, y: np.where(x > y, x, 0.5),
    "where of integers": lambda x, y: np.where(x > y, np.floor(x).astype(np.int64), -3),
    "share of a tie": lambda x, y: pulled(np.maximum)(np.round(x), np.round(y)),
    "isclose": lambda x, y: np.isclose(x, y, 0.5, 0.1),
    "isclose of nan": lambda x, y: np.isclose(np.sqrt(x), np.sqrt(x), equal_nan=True),
    "isposinf": lambda x, y: np.isposinf(x / np.floor(np.abs(y))),
    "isneginf": lambda x, y: np.isneginf(x / np.floor(np.abs(y))),
    "round": lambda x, y: np.round(x, 1) + np.round(100 * x, -1) + np.round(x),
    "sigmoid": lambda x, y: ops.sigmoid(x * 40),
    "erf": lambda x, y: pulled(pulled(pulled(lambda x: activate(x, function="gelu"))))(x),
    "clip": lambda x, y: np.clip(x, -0.5, y),
    "nan_to_num": lambda x, y: np.nan_to_num(np.log(x)),
    "truth and numbers": lambda x, y: x * (x > y) + (x > y),
    "cast": lambda x, y: (x * 9).astype(np.int64) * 2 + (x > 0).astype(np.int64),
    "cast to float": lambda x, y: np.floor(x).astype(np.int64).astype(F),
    "truth of numbers": lambda x, y: np.floor(x).astype(bool),
    "number on the left": lambda x, y: 2.0**x - 3 // np.abs(y),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(gpu, name):
    check(gpu, ELEMENTWISE[name], numbers(3, 5), numbers(5, seed=1))


# ---- moves ------------------------------------------------------------------------------------

MOVES = {
    "reshape": lambda x: x.transpose(2, 0, 1).reshape(4, 15),
    "reshape of a slice": lambda x: x[:, ::-1, 1:].reshape(-1),
    "concatenate": lambda x: np.concatenate([x.T, x.T[:, 1:]], 1),
    "concatenate many": lambda x: np.concatenate([x] * 7, -1),
    "stack": lambda x: np.stack([x, x[::-1]], 1),
    "part": lambda x: pulled(lambda y: np.concatenate([y.T, y.T], 1))(x),
    "part of columns": lambda x: pulled(lambda y: np.concatenate([y, y], 1) ** 2)(x),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2), (3, 1)), constant_values=2.5),
    "pad by copies": lambda x: np.pad(x, 2, mode="reflect"),
    "flip": lambda x: np.flip(x, (0, 2)),
    "roll": lambda x: np.roll(x, 2, 1),
    "tile": lambda x: np.tile(x, (2, 1, 2)),
    "repeat": lambda x: np.repeat(x, [1, 0, 3, 2, 1], 1),
    "rows by a list": lambda x: x[[2, 0, 0]],
    "columns by a list": lambda x: x[:, [1, -1, 0, 1]],
    "two lists": lambda x: x[[1, 2], :, [3, -1]],
    "two lists together": lambda x: x[..., [1, 2], [3, -1]],
    "a list and an integer": lambda x: x[1, :, [3, 0, 3]],
    "a list and a new axis": lambda x: x[[2, 0], None, 1:, ::-2],
    "a table": lambda x: x[:, [[0, 1], [4, 4], [2, 3]]],
    "a mask": lambda x: x[:, np.array([True, False, True, True, False])],
    "diagonal": lambda x: np.diagonal(x, 1, 1, 2),
    "diag": lambda x: np.diag(x[0, 0], 1),
    "convolve": lambda x: np.convolve(x[0, 0], x[0, 1]),
    "triangle": lambda x: np.tril(x),
    "nothing": lambda x: x[:, :0].transpose(1, 0, 2)[:, [0, 0]],
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_and_their_adjoints(gpu, name):
    f, x = MOVES[name], numbers(3, 5, 4)
    check(gpu, f, x, rtol=0, atol=0 if name != "convolve" and "columns" not in name else 1e-5)
    if name not in ("part", "part of columns"):
        check(gpu, pulled(f), x)


HELD = {
    "rows": lambda x, i: x[i],
    "columns": lambda x, i: x[:, i, 1:],
    "last": lambda x, i: x[..., i],
    "two": lambda x, i: x[i, :, i],
    "two together": lambda x, i: x[:, i, i[:1]],
    "held and fixed": lambda x, i: x[i, :, [[3], [1]]],
    "held and even": lambda x, i: x[np.arange(2)[:, None], i],
    "an integer apart": lambda x, i: x[1, :, i],
    "numbers": lambda x, i: x[:, np.array(-1), i[0, 2]],
    "short integers": lambda x, i: x[:, i.astype(np.int32)],
    "backwards": lambda x, i: x[::-1, ::-1][i],
}


@pytest.mark.parametrize("name", HELD)
def test_indices_of_the_program_and_their_adjoints(gpu, name):
    x, i = numbers(3, 5, 4), np.array([[0, -1, 2], [2, 1, 0]])
    f = HELD[name]
    check(gpu, f, x, i, rtol=0, atol=0)
    check(gpu, pulled(f), x, i)
    check(gpu, pulled(pulled(lambda x, i: f(x, i) ** 2)), x, i)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_take_along_axis_and_its_adjoint(gpu, axis):
    x = numbers(3, 5, 4)
    shape = [2 if i == axis else n for i, n in enumerate(x.shape)]
    index = np.random.default_rng(0).integers(-3, 3, shape)
    f = lambda x, i: np.take_along_axis(x, i, axis)  # noqa: E731
    # The other axes' grids are steps: one pass, and no table of places.
    assert check(gpu, f, x, index, rtol=0, atol=0) == 1
    check(gpu, pulled(f), x, index)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sort(x, 1),
        lambda x: np.argsort(x, 0),
        lambda x: np.partition(x, 4, 1)[:, 4],
        lambda x: np.median(x, 1),
        lambda x: np.quantile(x, [0.25, 0.5], 0).astype(F),
        lambda x: np.searchsorted(np.array([-1, 0, 0.5], F), x, "right"),
        lambda x: pulled(lambda y: np.sort(y, 1))(x),
    ],
    ids=["sort", "argsort", "partition", "median", "quantile", "searchsorted", "adjoint of sort"],
)
def test_sorting_and_searching(gpu, f):
    check(gpu, f, numbers(3, 7))


# ---- reductions -------------------------------------------------------------------------------

REDUCTIONS = {
    "sum": lambda x: x.sum((0, 2)),
    "sum of everything": lambda x: x.sum(),
    "sum with its axes": lambda x: x.sum(1, keepdims=True),
    "sum of truth values": lambda x: (x > 0).sum(0),
    "mean with its axes": lambda x: x.mean((0, 2), keepdims=True),
    "variance": lambda x: np.var(x, 1, ddof=1),
    "deviation": lambda x: np.std(x, (0, 1), keepdims=True),
    "product": lambda x: np.prod(x, 1),
    "max": lambda x: x.max((0, 1)),
    "min": lambda x: x.min(2, keepdims=True),
    "adjoint of max": lambda x: pulled(lambda x: x.max(1))(np.round(x)),
    "argmax": lambda x: x.argmax(2) + x.argmin(2),
    "argmax of everything": lambda x: np.argmax(x),
    "argmax with its axis": lambda x: np.argmax(x, 0, keepdims=True),
    "all": lambda x: (x > -1).all(1),
    "any": lambda x: np.any(np.floor(x), (0, 2), keepdims=True),
    "count": lambda x: np.count_nonzero(np.floor(x), (0, 1)),
    "count of truth values": lambda x: np.count_nonzero(x > 0, 1),
    "cumsum": lambda x: np.cumsum(x, 1),
    "cumsum of everything": lambda x: np.cumsum(np.floor(x).astype(np.int64)),
    "cumprod": lambda x: np.cumprod(x, 1),
    "softmax": lambda x: ops.softmax(x, (0, 2)),
    "log_softmax": lambda x: ops.log_softmax(x, 1),
    "logsumexp": lambda x: ops.logsumexp(x, 2, keepdims=True),
    "adjoint of logsumexp": lambda x: pulled(lambda x: ops.logsumexp(x, (0, 1)))(x),
    "norm": lambda x: np.linalg.norm(x, axis=(0, 1)),
    "norm of columns": lambda x: pulled(lambda x: np.linalg.norm(x, 3, axis=1))(x),
    "covariance": lambda x: np.cov(x[0]),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(gpu, name):
    check(gpu, REDUCTIONS[name], numbers(3, 5, 4))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("sum", (0, 5, 2)), ("mean with its axes", (2, 0, 3)), ("all", (3, 0, 2)),
     ("cumsum", (3, 5, 0)), ("sum of truth values", (0, 2, 0))],
)  # fmt: skip
def test_empty_arrays(gpu, name, shape):
    check(gpu, REDUCTIONS[name], np.zeros(shape, F))


@pytest.mark.parametrize("f", [np.max, np.argmin], ids=["max", "argmin"])
def test_nothing_has_no_largest(gpu, f):
    with pytest.raises(ValueError, match=r"shape \(3, 0, 2\)"):
        recorded(lambda x: f(x, 1), np.zeros((3, 0, 2), F))


def recorded(f, x):
    """Return the program of ``f(x)`` for a device, which is not run."""
    _, _, outs = _program._interpret(f, (x,))
    return _program.record(f, (x,), np.empty(outs[0].shape, outs[0].dtype), device=True)


# ---- products ---------------------------------------------------------------------------------

PRODUCTS = {
    "matmul": lambda x, y: x @ y,
    "transposed": lambda x, y: np.matmul(y.mT, x.mT),
    "strided": lambda x, y: x[:, ::2] @ y[:, :, ::-1],
    "one matrix": lambda x, y: x @ y[0],
    "vectors": lambda x, y: x @ y[0, :, 0],
    "a stack of stacks": lambda x, y: x[:, None] @ y[None],
    "einsum": lambda x, y: np.einsum("bij,cjk->ibk", x, y),
    "dot": lambda x, y: np.dot(x, y),
    "tensordot": lambda x, y: np.tensordot(x, y, ((0, 2), (0, 1))),
    "nothing to add": lambda x, y: x[..., :0] @ y[:, :0],
    "product": lambda x, y: product(x.mT[:, ::-1], y, ta=True),
    "product by kernel": lambda x, y: product(x, y),
    "adjoint": lambda x, y: pulled(lambda x, y: x @ y)(x, y),
    "adjoint of sharing": lambda x, y: pulled(lambda y, x: x @ y)(y[0], x),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(gpu, name):
    check(gpu, PRODUCTS[name], numbers(2, 3, 5), numbers(2, 5, 4, seed=1))


# ---- kernels of the CPU on other layouts ------------------------------------------------------

COPIED = {
    "activate": lambda x: activate(np.broadcast_to(x[:, :1], x.shape), function="gelu"),
    "activate_pullback": lambda x: vjp(lambda z: activate(z, function="tanh"), x)[1](
        np.broadcast_to(x[:, :1], x.shape)
    )[0],
    "moving_average": lambda x: moving_average(x[0].T, x[1].T, momentum=0.9),
    "linear": lambda x: linear(x, x[0].T[:, ::-1], x[0, :, 0], activation="relu"),
    "linear_pullback": lambda x: vjp(
        lambda z: linear(z, x[0].T, x[0, :, 0], activation="relu").sum(), x
    )[1](np.ones((), F))[0],
    "linear_pullback of the identity": lambda x: vjp(
        lambda z: linear(z, x[0].T, x[0, :, 0], activation="identity"), x
    )[1](np.broadcast_to(x[:, :, :1], (2, 3, 3)))[0],
}


@pytest.mark.parametrize("name", COPIED)
def test_arguments_of_another_layout_are_copied(gpu, name):
    x = numbers(2, 3, 5)
    program = recorded(COPIED[name], x)
    twins = [f for f, _ in program.calls if not isinstance(f, Variant)]
    assert any(isinstance(t.function, _cuda._copies._Plan) for t in twins)
    check(gpu, COPIED[name], x)


# ---- what is bound ----------------------------------------------------------------------------


def primitives():
    """Return every primitive of the modules of operations by name, and its module."""
    found = {}
    for info in pkgutil.iter_modules(ops.__path__, ops.__name__ + "."):
        module = importlib.import_module(info.name)
        for p in vars(module).values():
            if isinstance(p, Primitive):
                found.setdefault(p.name, info.name.rpartition(".")[2])
    return found | {p.name: "elementwise" for p in UFUNCS.values()}


def test_every_primitive_is_bound_or_known_to_be_unbound():
    found = primitives()
    bound = set(_cuda._bindings())
    assert set(found) >= numpy_ops.UNBOUND
    assert not numpy_ops.UNBOUND & bound
    # Convolutions have kernels, whatever their layout.
    missing = {n for n in found if n not in bound | numpy_ops.UNBOUND and found[n] != "_conv"}
    assert not missing


def test_every_binding_is_tested():
    """The cases of this file reach every operation that NumPy computes."""
    reached, x, y = set(), numbers(3, 5, 4), numbers(2, 3, 5)

    def note(f, *args):
        trace, _, _ = _program._interpret(f, args)
        reached.update(p.name for p, *_ in trace.calls)

    for f in ELEMENTWISE.values():
        note(f, numbers(3, 5), numbers(5))
    for f in (*MOVES.values(), *REDUCTIONS.values()):
        note(f, x)
        note(lambda x, f=f: np.argpartition(np.sort(f(x).reshape(-1)), 0), x)
    for f in HELD.values():
        note(f, x, np.array([[0, 1, 2], [2, 1, 0]]))
        note(pulled(f), x, np.array([[0, 1, 2], [2, 1, 0]]))
    for f in PRODUCTS.values():
        note(f, y, numbers(2, 5, 4))
    note(lambda x: np.searchsorted(np.array([0], F), x), x)
    of_kernels = {n for n, m in primitives().items() if m not in (
        "elementwise", "shape", "index", "reduce", "discrete", "products")}  # fmt: skip
    views = {"transpose", "broadcast_to"}  # copies of empty arrays alone
    expected = set(_cuda._bindings()) - of_kernels - {p.name for p in UFUNCS.values()} - views
    assert not {n for n in expected if n not in reached and n != "assign"}


@pytest.mark.parametrize(("f", "name"), [
    (np.linalg.inv, "inv"),
    (np.linalg.cholesky, "cholesky"),
    (lambda x: np.linalg.eigh(x)[0], "eigh_L"),
    (np.sinc, "spherical_bessel"),
    (np.spacing, "spacing"),
    (lambda x: np.digitize(x, np.array([0.0, 1.0])), "digitize"),
])  # fmt: skip
def test_the_error_names_what_is_unbound(f, name):
    with pytest.raises(Untranslatable, match=name):
        recorded(f, np.eye(3, dtype=F))


@pytest.mark.parametrize(("f", "message"), [
    (lambda x: x * np.ones(3), "'multiply' computes in float64"),
    (lambda x: x[:, 0] > np.arange(3), "'greater' computes in float64"),
    (lambda x: (x > 0) / (x > 1), "'divide' computes in float64"),
    (lambda x: x.astype(np.float16) + x.astype(np.float16), "float16"),
    (lambda x: x.astype(np.int64) ** 2 ** x.astype(np.int64), "'power' is of int64"),
    (lambda x: np.matmul(x.astype(np.int64), x.astype(np.int64)), "'matmul' .* int64"),
])  # fmt: skip
def test_other_numbers_are_refused(f, message):
    with pytest.raises(Untranslatable, match=message):
        recorded(f, np.eye(3, dtype=F))


def test_a_step_is_the_same_bit_for_bit(gpu):
    f = lambda x, i: pulled(lambda x, i: np.sin(x[:, i]).sum(0))(x, i)  # noqa: E731
    x, i = numbers(3, 5, 4), np.array([0, 4, 4, 2, 0, 4])
    first, second = (on_device(gpu, f, x, i)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
