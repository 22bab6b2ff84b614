"""Recording, planning and replay: bit-equal to eager evaluation, whatever shares memory."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from skdeep.autodiff import Primitive, Unrecordable, grad, hvp, jvp, value_and_grad, vjp
from skdeep.autodiff._program import Memory, arena_size, record
from skdeep.autodiff._tree import flatten
from skdeep.autodiff.ops import linear

DTYPES = [np.float32, np.float64]
RUNNERS = {"python": lambda p: p.run, "native": lambda p: p.compile()}


def eager(f, *args):
    """Evaluate through the same primitives, one by one; return copies."""
    return [np.array(x) for x in flatten(vjp(f, *args)[0])[0]]


def check(f, args, into=None, rounds=2, seed=0):
    """Record, replay both ways with changing inputs, and compare with eager evaluation."""
    rng = np.random.default_rng(seed)
    args = tuple(args)
    targets = into or [np.full(o.shape, 7, o.dtype) for o in eager(f, *args)]
    build = flatten(vjp(f, *args)[0])[1]
    for runner in RUNNERS.values():
        program = record(f, args, build(targets))
        run = runner(program)
        for _ in range(rounds):
            for x in args:
                x[...] = rng.standard_normal(x.shape)
            expected = eager(f, *args)
            run()
            for i, (t, e) in enumerate(zip(targets, expected, strict=True)):
                if t is not None:
                    np.testing.assert_array_equal(t, e, err_msg=f"output {i}")
    return program


# ---- random graphs ----------------------------------------------------------------------------


def _split(n, rng):
    """Return a random shape with n elements."""
    divisors = [d for d in range(1, n + 1) if n % d == 0] or [1]
    a = int(rng.choice(divisors)) if n else 1
    return [(n,), (a, n // a), (a, 1, n // a)][rng.integers(3)]


def _random_step(x, pool, rng, dtype):
    """Choose an operation on x, as a function of (x, pool)."""
    shape, ndim = x.shape, x.ndim
    fits = [i for i, p in enumerate(pool) if p.shape == shape]
    other = int(rng.choice(fits))
    axis = int(rng.integers(ndim)) if ndim else None
    outside = rng.standard_normal(shape).astype(dtype)
    new_shape = _split(x.size, rng)
    steps = [
        lambda x, p: np.sin(x),
        lambda x, p: -x,
        lambda x, p: x * 0.5 + x,
        lambda x, p: np.sin(x * outside),
        lambda x, p: x + p[other],
        lambda x, p: np.sin(x * p[other]),
        lambda x, p: p[other] - x,
        lambda x, p: np.tanh(x) * np.cos(p[other]),
        lambda x, p: x + x,
        lambda x, p: np.reshape(x, new_shape),
        lambda x, p: x.T,
        lambda x, p: np.reshape(x.T, new_shape),
        lambda x, p: x[None] if ndim < 3 else x,
    ]
    if ndim:
        key = [slice(None)] * ndim
        key[axis] = [slice(None, None, 2), slice(1, None), slice(None, None, -1)][rng.integers(3)]
        key = tuple(key)
        steps += [
            lambda x, p: np.sum(x, axis=axis),
            lambda x, p: np.sin(x - np.sum(x, axis=axis, keepdims=True)),
            lambda x, p: x[key],
            lambda x, p: np.sin(x[key]),
            lambda x, p: np.broadcast_to(np.sum(x, axis=axis, keepdims=True), shape),
            lambda x, p: np.sin(np.sum(x) + x),
        ]
    return steps[rng.integers(len(steps))]


def random_graph(rng, dtype, n_steps):
    """Return a function of two arrays that runs a fixed random graph, and its arguments."""
    shape = _split(int(rng.choice([0, 1, 6, 12, 12])), rng)
    args = [rng.standard_normal(shape).astype(dtype) for _ in range(2)]
    steps, pool = [], list(args)
    for _ in range(n_steps):
        i = int(rng.integers(max(0, len(pool) - 4), len(pool)))
        step = _random_step(pool[i], pool, rng, dtype)
        pool.append(np.asarray(step(pool[i], pool)))
        steps.append((i, step))
    picks = [len(pool) - 1, *rng.integers(len(pool), size=3)]

    def f(*args):
        pool = list(args)
        for i, step in steps:
            pool.append(step(pool[i], pool))
        return tuple(pool[k] for k in picks)

    return f, args


def with_gradient(f):
    def g(*args):
        value, pullback = vjp(f, *args)
        return value, pullback(tuple(np.ones(v.shape, v.dtype) for v in value))

    return g


def random_targets(outs, args, rng):
    """Return memory for each output: plain, strided, transposed, an input, or none."""
    free, targets = list(args), []
    for o in outs:
        kind = rng.integers(6)
        match = [i for i, x in enumerate(free) if x.shape == o.shape]
        if kind == 0:
            targets.append(None)
        elif kind == 1 and match:
            targets.append(free.pop(match[0]))
        elif kind == 2 and o.ndim:
            targets.append(np.zeros((*o.shape[:-1], 2 * o.shape[-1]), o.dtype)[..., ::2])
        elif kind == 3 and o.ndim:
            targets.append(np.zeros((o.shape[0], 2, *o.shape[1:]), o.dtype)[:, 0])
        elif kind == 4:
            targets.append(np.zeros(o.shape[::-1], o.dtype).T)
        else:
            targets.append(np.zeros(o.shape, o.dtype))
    return targets


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed, dtype):
    rng = np.random.default_rng(seed)
    f, args = random_graph(rng, dtype, n_steps=int(rng.integers(2, 25)))
    check(f, args, random_targets(eager(f, *args), args, rng))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_with_gradients(seed, dtype):
    rng = np.random.default_rng(1000 + seed)
    f, args = random_graph(rng, dtype, n_steps=int(rng.integers(2, 12)))
    g = with_gradient(f)
    check(g, args, random_targets(eager(g, *args), args, rng))


# ---- sharing of memory, case by case ----------------------------------------------------------

X = np.linspace(0.1, 2.0, 6)


def _loop(order):
    """Return x + 2 y as a primitive that runs in place, element by element.

    NumPy's own functions copy where their arguments overlap, and so forgive a wrong plan.
    """

    def fill(x, y, out):
        flat = out.reshape(-1)
        for i in range(out.size)[::order]:
            flat[i] = x.reshape(-1)[i] + 2 * y.reshape(-1)[i]

    return Primitive(
        "loop",
        shape=lambda x, y: np.shape(x),
        lower=lambda args, outs: (fill, (*args, outs[0])),
        inplace=True,
    )


ahead, back = _loop(1), _loop(-1)


def two(dtype=np.float64, shape=(6,)):
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(2)]


CASES = {
    "a value used twice": lambda x, y: (lambda a: np.sin(a) + a * a)(x * y),
    "twice in one call": lambda x, y: (lambda a: a + a)(x * y),
    "view of an overwritten buffer": lambda x, y: (lambda a: (a * 2.0) + a[::-1])(x * y),
    "late view": lambda x, y: (lambda a, v: np.sin(np.cos(a)) * v)(
        *(lambda a: (a, a[::-1]))(x * y)
    ),
    "reversed self": lambda x, y: (lambda a: a + a[::-1])(x * y),
    "reshape of a transpose": lambda x, y: np.reshape(np.reshape(x * y, (2, 3)).T, (6,)) * 2.0,
    "reshape of a transposed input": lambda x, y: np.reshape(np.reshape(x, (2, 3)).T, (6,)) * y,
    "0-d": lambda x, y: np.sum(x * y),
    "0-d element": lambda x, y: (x * y)[2] * 2.0,
    "0-d view": lambda x, y: (x * y)[2],
    "broadcast value": lambda x, y: np.broadcast_to(np.sum(x * y), (2, 6)),
    "an input": lambda x, y: (x, y * 2.0),
    "a transpose": lambda x, y: (lambda a: (a.T, np.sin(a)))(np.reshape(x * y, (2, 3))),
    "a view of an input": lambda x, y: (x[::2], y * 2.0),
    "a constant": lambda x, y: (np.arange(3.0), x * y),
    "a number": lambda x, y: (x * y, 3.0),
    "one value, two places": lambda x, y: (lambda a: (a, a, a[1:], np.cos(a)))(np.sin(x * y)),
    "an output read later": lambda x, y: (lambda a: (a, np.sin(a) * y))(x + y),
    "outside array": lambda x, y: (x + X) * y,
    "chain in place": lambda x, y: np.sin(np.cos(np.tanh(-(x + y)))) + 1.0,
    "alias then view": lambda x, y: (lambda b: b[1:] * b[:-1])(np.sin(np.cos(x * y))),
    "zero size": lambda x, y: (x * y)[:0] * 2.0,
    "zero-size sum": lambda x, y: (np.sum((x * y)[:0]) + x, np.reshape((x * y)[:0], (0, 3))),
    # An output lands in its target; what is to run in place is followed by something.
    "loop over itself": lambda x, y: np.cos(ahead(*[np.sin(x)] * 2)),
    "loop over itself reversed": lambda x, y: np.cos((lambda a: ahead(a, a[::-1]))(np.sin(x))),
    "loop over a reversed buffer": lambda x, y: np.cos(ahead(np.sin(x)[::-1], y)),
    "loop over the end": lambda x, y: np.cos(back(np.sin(x)[1:], y[1:])),
    "loop over parts": lambda x, y: np.cos((lambda a: back(a[1:], a[:-1]))(np.sin(x))),
    "loop twice": lambda x, y: np.cos((lambda a: ahead(a, back(a, y)))(np.sin(x))),
    "nothing used": lambda x, y: (np.zeros(2), np.ones(())),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_cases(name, dtype):
    check(CASES[name], two(dtype))


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_that_is_read_twice_outlives_its_cotangent(dtype, activation):
    """A pullback may run over its cotangent, but not over the activation that it reads."""

    def f(x, w, b):
        a = linear(x, w, b, activation=activation)
        return (a + linear(a, w, b, activation=activation),)

    shapes = (1, 4, 3), (1, 3, 3), (1, 3)
    check(with_gradient(f), [np.zeros(shape, dtype) for shape in shapes])


def test_two_dimensional_sums_run_natively():
    x, y = two(np.float32, (4, 3))
    program = check(lambda x, y: (np.sum(x + y, axis=0), np.sum(x + y, axis=1)), (x, y))
    assert program.is_native
    assert not check(lambda x, y: np.sin(x + y), (x, y)).is_native


def test_many_steps_in_one_call():
    for runner, f in itertools.product(
        RUNNERS.values(), [lambda x, y: x + y, lambda x, y: np.sin(x + y)]
    ):
        x, y = two()
        expected = x
        for _ in range(5):
            expected = f(expected, y)
        runner(record(f, (x, y), x))(5)
        np.testing.assert_array_equal(x, expected)


# ---- outputs that are inputs ------------------------------------------------------------------


def test_inputs_are_written_last():
    x, y = two()
    total = np.zeros(())
    check(lambda x, y: (x + y, x * y, np.sum(x * y)), (x, y), [x, y, total])


def test_inputs_may_be_exchanged():
    x, y = two()
    check(lambda x, y: (y, x), (x, y), [x, y])
    check(lambda x, y: (y, x[::-1]), (x, y), [x, y])
    check(lambda x, y: (x[::-1], x + y), (x, y), [x, y])
    check(lambda x, y: (x + 1.0, x), (x, y), [x, y])  # a value and its predecessor


def test_an_input_kept_as_it_is():
    x, y = two()
    program = check(lambda x, y: (x, x + y), (x, y), [x, y])
    assert len(program.calls) == 2  # the sum, and its copy onto y


def test_overlapping_parts_of_one_array():
    base = np.arange(8.0)
    f = lambda x: (x[:-1], x[1:] * 2.0)  # noqa: E731
    expected = eager(f, base)
    other = np.zeros(7)
    record(f, (base,), (base[1:], other)).run()
    np.testing.assert_array_equal(base[1:], expected[0])
    np.testing.assert_array_equal(other, expected[1])


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_target_that_the_function_reads_as_an_outside_array(runner):
    # The target is no argument, but an array that a later call reads: it too is written last.
    x, y = two()
    outside = np.ones(6)
    expected = x + y, np.sin(x + y) * outside
    second = np.zeros(6)

    def f(x, y):
        a = x + y
        return a, np.sin(a) * outside

    runner(record(f, (x, y), (outside, second)))()
    np.testing.assert_array_equal(outside, expected[0])
    np.testing.assert_array_equal(second, expected[1])


def test_strided_members_of_one_buffer():
    # The leaves of several nets: views of the rows of one buffer.
    buffer, x = np.zeros((3, 10)), np.random.default_rng(0).standard_normal((3, 4))
    targets = [buffer[:, :4], buffer[:, 4:8], buffer[:, 8:].reshape(3, 2)]
    f = lambda x: (x + x, np.sin(x) * x, np.sum(np.reshape(x, (3, 2, 2)), axis=1))  # noqa: E731
    check(f, (x,), targets)
    np.testing.assert_array_equal(buffer[:, :4], x + x)


def test_kernels_and_strided_targets():
    # Kernels want contiguous rows: other targets are copied to.
    x, y = two(np.float32, (4, 3))
    strided = [np.zeros(6, np.float32)[::2], np.zeros((2, 3, 4), np.float32).T[..., 0].T]
    check(lambda x, y: (np.sum(x + y, axis=0), np.reshape(y + y, (3, 4))), (x, y), strided)
    # A strided target that is read later, in parts.
    rows = np.zeros((4, 6), np.float32)[:, :3]
    f = lambda x, y: (lambda a: (a, a[1:] + a[:-1], np.sum(a, axis=0)))(x + y)  # noqa: E731
    check(f, (x, y), [rows, np.zeros((3, 3), np.float32), np.zeros(3, np.float32)])


# ---- derivatives ------------------------------------------------------------------------------


def loss(w, x):
    return np.sum(np.tanh(np.sum(w * x, axis=1)) * np.exp(-np.sum(w * w)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_and_products_with_the_hessian(dtype):
    rng = np.random.default_rng(4)
    w, v = rng.standard_normal((2, 5)).astype(dtype)
    x = rng.standard_normal((7, 5)).astype(dtype)
    check(lambda w, x: value_and_grad(loss)(w, x), (w, x))
    check(lambda w, x, v: hvp(lambda w: loss(w, x), w, v), (w, x, v))
    check(lambda w, x, v: jvp(lambda w: loss(w, x), (w,), (v,)), (w, x, v))
    check(lambda w, x, v: grad(lambda w: np.sum(grad(loss)(w, x) * v))(w), (w, x, v))


def test_a_training_loop_of_replays():
    rng = np.random.default_rng(5)
    w, x = rng.standard_normal(5), rng.standard_normal((7, 5))
    step = lambda w, x: w - 0.1 * grad(loss)(w, x)  # noqa: E731
    eager_w = w.copy()
    for _ in range(10):
        eager_w = eager(step, eager_w, x)[0]
    record(step, (w, x), w).compile()(10)
    np.testing.assert_array_equal(w, eager_w)


# ---- the plan ---------------------------------------------------------------------------------


def test_memory_is_reused():
    def f(x):
        for _ in range(20):
            x = np.sum(np.sin(x) * np.cos(x), axis=0, keepdims=True) + x
        return x

    x = np.random.default_rng(6).standard_normal((16, 16))
    program = check(f, (x,))
    assert 0 < program.arena.nbytes <= 5 * x.nbytes
    assert program.bytes_unplanned > 5 * program.arena.nbytes


def test_elementwise_chains_take_one_buffer():
    x = np.ones(1024)
    program = check(lambda x: np.sum(np.sin(np.cos(np.sin(np.cos(x))))), (x,))
    assert program.arena.nbytes == x.nbytes
    assert program.bytes_unplanned == 4 * x.nbytes


def test_what_no_output_needs_is_dropped():
    def f(x):
        np.sin(np.cos(x))
        return x + x, np.tanh(x)

    x = np.ones(4)
    program = record(f, (x,), (np.zeros(4), None))
    assert len(program.calls) == 1
    assert program.bytes_unplanned == 0


def test_outputs_land_in_their_place():
    x, out = np.ones((4, 2)), np.zeros((4, 2))
    program = record(lambda x: np.sin(x) + 1.0, (x,), out)
    assert len(program.calls) == 2  # no copy
    # A view of the whole, too.
    out = np.zeros(8)
    assert len(record(lambda x: np.reshape(np.sin(x) + 1.0, 8), (x,), out).calls) == 2


def test_in_place_is_left_to_primitives_that_allow_it():
    twist = Primitive(
        "twist",
        shape=np.shape,
        lower=lambda args, outs: (lambda x, out: np.copyto(out, x[::-1]), (args[0], outs[0])),
    )
    x = np.arange(5.0)
    program = record(lambda x: np.sin(twist(np.cos(x))), (x,), np.zeros(5))
    for (_, args), (_, after) in itertools.pairwise(program.calls[1:]):
        assert not np.may_share_memory(args[0], args[-1])
        assert after
    out = np.zeros(5)
    record(lambda x: np.sin(twist(np.cos(x))), (x,), out).run()
    np.testing.assert_array_equal(out, np.sin(np.cos(x)[::-1]))


def test_before_and_then():
    x, out, log = np.ones(2), np.zeros(2), []
    program = record(lambda x: x + x, (x,), out)
    assert program.before((log.append, ("before",))).then((log.append, ("then",))) is program
    program.compile()(2)
    program.run()
    assert log == ["before", "then"] * 3
    np.testing.assert_array_equal(out, [2.0, 2.0])


# ---- what cannot be recorded ------------------------------------------------------------------


def branch(x):
    return x * 2.0 if np.sum(x) > 0 else x


def draws(x):
    return x * np.random.default_rng().standard_normal(4)


def draws_many(x):
    return np.sum(x) * np.random.default_rng().standard_normal(5000)


def draws_an_output(x):
    return np.random.default_rng().standard_normal(5000)


count, counter = itertools.count(), np.zeros(1)


def counts(x):
    return x * float(next(count))


def counts_in_place(x):
    counter[0] += 1
    return x * counter


def writes(x):
    y = np.zeros(4)
    y[0] = x[0]
    return y


@pytest.mark.parametrize(
    "f",
    [
        branch,
        draws,
        draws_many,
        draws_an_output,
        counts,
        counts_in_place,
        writes,
        lambda x: x * float(np.sum(x)),
        lambda x: x * int(x[0]),
        lambda x: x * x[0].item(),
        lambda x: np.asarray(x) * 2.0,
        lambda x: np.array([x[0], x[1]]),
        lambda x: x[: range(4)[x[0]]],
        lambda x: max(x[0], x[1]) * x,
    ],
)
def test_unrecordable(f):
    with pytest.raises(Unrecordable):
        record(f, (np.ones(4),), None)


def test_branches_inside_gradients_are_unrecordable_too():
    with pytest.raises(Unrecordable):
        record(grad(lambda x: np.sum(branch(x))), (np.ones(4),), None)


def test_a_value_of_an_outer_trace_is_unrecordable():
    with pytest.raises(Unrecordable, match="outer trace"):
        grad(lambda y: record(lambda x: x * y, (np.ones(4),), None) and y)(1.0)


def test_large_constants_made_anew_are_recordable():
    x, out = np.array(2.0), np.zeros((100, 100))
    record(lambda x: x * np.eye(100), (x,), out).run()
    np.testing.assert_array_equal(out, 2 * np.eye(100))
    key = np.arange(5000)[::-1]
    x, out = np.arange(5000.0), np.zeros(5000)
    record(lambda x: x[key.copy()], (x,), out).run()
    np.testing.assert_array_equal(out, x[::-1])
    with pytest.raises(Unrecordable):
        record(lambda x: x[np.random.default_rng().permutation(5000)], (x,), out)


def test_the_users_own_errors_pass():
    def f(x):
        raise ValueError("mine") from KeyError("cause")

    with pytest.raises(ValueError, match="mine") as e:
        record(f, (np.ones(2),), None)
    assert type(e.value.__cause__) is KeyError


def test_errors():
    x = np.ones(2)
    with pytest.raises(TypeError, match="an argument is 3.0"):
        record(lambda x, y: x * y, (x, 3.0), x)
    with pytest.raises(ValueError, match="2 entries"):
        record(lambda x: (x, x), (x,), (x,))
    with pytest.raises(ValueError, match=r"shape \(2,\).*target of shape \(3,\)"):
        record(lambda x: x * 2.0, (x,), np.zeros(3))
    with pytest.raises(ValueError, match="int64"):
        record(lambda x: x * 2.0, (x,), np.zeros(2, int))
    half = np.zeros(2, np.float32)
    record(lambda x: x * 2.0, (x,), half).run()  # narrowing is allowed
    np.testing.assert_array_equal(half, [2.0, 2.0])


def test_a_failing_kernel_is_reported():
    from skdeep._kernels.cpu._numba import kernel

    @kernel("f1")
    def broken(x):
        raise ValueError

    program = record(lambda x: x + x, (np.ones(2),), np.zeros(2))
    program.then((broken[np.float64], (np.ones(1),)))
    with pytest.raises(RuntimeError, match="kernel call 1"):
        program.compile()()


def test_programs_share_the_memory_that_they_are_given():
    memory = Memory()
    f = lambda x: np.tanh(np.exp(x) * x) + np.exp(x)  # noqa: E731
    xs = [np.random.default_rng(0).standard_normal(n) for n in (4000, 300)]
    outs = [np.zeros_like(x) for x in xs]
    programs = [record(f, (x,), out, memory=memory) for x, out in zip(xs, outs, strict=True)]
    assert np.shares_memory(programs[0].arena, programs[1].arena)
    for _ in range(2):
        for program, x, out in zip(programs, xs, outs, strict=True):
            program.run()
            np.testing.assert_array_equal(out, f(x))
    grown = memory.take(programs[0].arena.nbytes + 1)
    assert not np.shares_memory(grown, programs[0].arena)
    assert grown.ctypes.data % 64 == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_recording_large_intermediates_takes_no_memory():
    def status(key):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    x, before = np.zeros(1 << 22), status("VmRSS")
    size = arena_size(lambda x: sum(np.exp(x * i) for i in range(1, 9)), (x,), np.empty_like(x))
    assert size >= x.nbytes
    assert status("VmRSS") - before < x.nbytes / 4
