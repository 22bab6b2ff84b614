import numpy as np
import pytest

from skdeep._kernels.cpu import update
from skdeep.autodiff._program import Program

DTYPES = [np.float32, np.float64]
# name: the number of state buffers, the optimiser's own numbers
UPDATES = {
    "sgd": (0, []),
    "momentum": (1, [0.9]),
    "nesterov": (1, [0.9]),
    "adagrad": (1, [1e-7]),
    "rmsprop": (1, [0.8, 1e-7]),
    "rmsprop_momentum": (2, [0.8, 1e-7, 0.9]),
    "adam": (2, [0.9, 0.99, 1e-8, 0.1]),
    "ftrl": (2, [1.0, 0.05, 0.2]),
}
# Lengths that leave a remainder for every vector width; penalised and free leaves.
SEGMENTS = np.array([[0, 120, 1], [120, 135, 0], [135, 276, 1], [276, 279, 0]], np.int64)
SIZE = 279


def eps(dtype, times):
    """A tolerance of so many roundings of numbers near 1."""
    return times * float(np.finfo(dtype).eps)


def arguments(name, members, dtype, seed=0):
    """Random arguments of an update kernel; every member has numbers of its own."""
    rng = np.random.default_rng(seed)
    slots, hyper = UPDATES[name]
    p, g = rng.normal(size=(2, members, SIZE)).astype(dtype)
    p[:, ::7] = 0
    states = rng.uniform(0.1, 1, size=(2, members, SIZE)).astype(dtype)
    s1, s2 = (s if i < slots else s[:, :0].copy() for i, s in enumerate(states))
    rates = rng.uniform(0.01, 0.1, size=(members, 4)).astype(dtype)
    hyper = np.array([hyper] * members, float).reshape(members, -1)
    hyper *= rng.uniform(0.9, 1, size=hyper.shape)
    penalties = rng.uniform(0, 0.5, size=(members, 2)).astype(dtype)
    scale = rng.uniform(0.1, 1, size=members).astype(dtype)
    counters = np.stack(
        [np.arange(members) + 3, np.arange(members) % 4, np.zeros(members)], axis=1
    ).astype(np.int64)
    return [p, g, s1, s2, rates, hyper, penalties, scale, SEGMENTS.copy(), counters]


def member(args, m, offset=0):
    """Member m alone, in memory of its own that begins `offset` elements off."""
    out = []
    for i, a in enumerate(args):
        if i != 8:
            room = np.zeros(a[m].size + offset, a.dtype)
            room[offset:] = a[m].ravel()
            a = room[offset:].reshape(1, *a.shape[1:])
        out.append(a)
    return out


def rule(name, p, d, a, b, rate, own, t, penalised):
    """One weight's new value and state, in Python floats."""
    if name == "sgd":
        return p - rate * d, a, b
    if name in ("momentum", "nesterov"):
        a = own[0] * a - rate * d
        return p + (own[0] * a - rate * d if name == "nesterov" else a), a, b
    if name == "adagrad":
        a += d * d
        return p - rate * d / (a**0.5 + own[0]), a, b
    if name.startswith("rmsprop"):
        a = own[0] * a + (1 - own[0]) * d * d
        step = rate * d / (a**0.5 + own[1])
        b = own[2] * b - step if len(own) > 2 else b
        return (p + b if len(own) > 2 else p - step), a, b
    if name == "adam":
        a = own[0] * a + (1 - own[0]) * d
        b = own[1] * b + (1 - own[1]) * d * d
        step = rate * (1 - own[1] ** t) ** 0.5 / (1 - own[0] ** t)
        return p - step * a / (b**0.5 + own[2]) - rate * own[3] * penalised * p, a, b
    beta, l1, l2 = own[0], own[1] * penalised, own[2] * penalised
    r = (b * b + d * d) ** 0.5
    eta, keep = rate / (beta + r), (beta + b) / (beta + r)
    a = keep * a + (1 - keep) * p - eta * d
    return np.sign(a) * max(abs(a) - eta * l1, 0) / (1 + eta * l2), a, r


def naive(name, p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    p, s1, s2 = (x.astype(float) for x in (p, s1, s2))
    for m in range(len(p)):
        t, rate = int(counters[m, 0]) + 1, float(rates[m, counters[m, 1]])
        for start, stop, penalised in segments.tolist():
            for i in range(start, stop):
                w = float(p[m, i])
                l2, l1 = (float(x) * float(scale[m]) * penalised for x in penalties[m])
                d = float(g[m, i]) + l2 * w + l1 * np.sign(w)
                a = s1[m, i] if s1.size else 0.0
                b = s2[m, i] if s2.size else 0.0
                w, a, b = rule(name, w, d, a, b, rate, hyper[m].tolist(), t, penalised)
                p[m, i] = w
                if s1.size:
                    s1[m, i] = a
                if s2.size:
                    s2[m, i] = b
    return p, s1, s2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_a_step_equals_a_loop(name, dtype):
    args = arguments(name, 3, dtype)
    expected = naive(name, *args)
    frozen = [a.copy() for a in args]
    getattr(update, name)[dtype](*args)
    for i, (at, want) in enumerate(zip((0, 2, 3), expected, strict=True)):
        # A dozen operations on numbers of a few units.
        np.testing.assert_allclose(args[at], want, rtol=0, atol=eps(dtype, 40), err_msg=str(i))
    for i in (1, 4, 5, 6, 7, 8, 9):
        np.testing.assert_array_equal(args[i], frozen[i])
    assert not np.array_equal(args[0], frozen[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("offset", [0, 3])
def test_a_member_equals_itself_alone(name, dtype, offset):
    kernel = getattr(update, name)[dtype]
    together = arguments(name, 4, dtype)
    alone = [member(together, m, offset) for m in range(4)]
    for _ in range(5):
        kernel(*together)
        for args in alone:
            kernel(*args)
    for m, args in enumerate(alone):
        for at in (0, 2, 3):
            assert together[at][m].tobytes() == args[at][0].tobytes()


def passes(dtype):
    """Calls of the kernels that are passes of their own, on fresh arrays."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 3, SIZE)).astype(dtype)
    limits = np.array([0.5, 0.0, 2.0], dtype)
    penalties = rng.uniform(0.1, 1, size=(3, 2)).astype(dtype)
    scale, out = np.array([0.1, 1, 0.5], dtype), np.zeros(3, dtype)
    shapes = np.array([[0, 12, 10], [135, 3, 47]], np.int64)
    return {
        "penalize": [x, y, penalties, scale, SEGMENTS],
        "penalty": [x, penalties, scale, SEGMENTS, out],
        "clip_value": [x, limits],
        "clip_norm": [x, limits, SEGMENTS],
        "clip_global_norm": [x, limits],
        "max_norm": [x, limits, shapes],
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*UPDATES, *passes(np.float64)])
def test_native_replay_equals_the_call(name, dtype):
    kernel = getattr(update, name)[dtype]

    def fresh():
        return arguments(name, 3, dtype) if name in UPDATES else passes(dtype)[name]

    called, replayed, before = fresh(), fresh(), fresh()
    for _ in range(3):
        kernel(*called)
    program = Program([(kernel, tuple(replayed))])
    assert program.is_native
    program.compile()(3)
    assert [a.tobytes() for a in called] == [a.tobytes() for a in replayed]
    assert [a.tobytes() for a in called] != [a.tobytes() for a in before]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", passes(np.float64))
def test_a_pass_does_not_mix_members(name, dtype):
    together = passes(dtype)[name]
    parts = [
        [a[m : m + 1].copy() if a.dtype != np.int64 else a for a in together] for m in range(3)
    ]
    getattr(update, name)[dtype](*together)
    for m, args in enumerate(parts):
        getattr(update, name)[dtype](*args)
        for a, b in zip(together, args, strict=True):
            if a.dtype != np.int64:
                assert a[m].tobytes() == b[0].tobytes()


# ---- penalties --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_penalised_update_equals_penalize_then_update(name, dtype):
    fused, apart = arguments(name, 2, dtype), arguments(name, 2, dtype)
    getattr(update, name)[dtype](*fused)
    update.penalize[dtype](apart[1], apart[0], apart[6], apart[7], apart[8])
    apart[6] = np.zeros_like(apart[6])
    getattr(update, name)[dtype](*apart)
    for at in (0, 2, 3):  # the compiler may contract the fused sum differently
        np.testing.assert_allclose(fused[at], apart[at], rtol=0, atol=eps(dtype, 20))


@pytest.mark.parametrize("dtype", DTYPES)
def test_penalize(dtype):
    g, p, penalties, scale, segments = passes(dtype)["penalize"]
    p[:, :9] = 0
    strength = scale[:, None] * penalties
    on = np.zeros(SIZE)
    for start, stop, penalised in segments:
        on[start:stop] = penalised
    expected = g + on * (strength[:, :1] * p + strength[:, 1:] * np.sign(p))
    free = on == 0
    before = g.copy()
    update.penalize[dtype](g, p, penalties, scale, segments)
    np.testing.assert_allclose(g, expected, rtol=0, atol=eps(dtype, 4))
    np.testing.assert_array_equal(g[:, free], before[:, free])
    np.testing.assert_array_equal(g[:, :9], before[:, :9])  # sign(0) is 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
def test_penalty(size, dtype):
    rng = np.random.default_rng(size)
    p = rng.normal(size=(2, size + 5)).astype(dtype)
    penalties = np.array([[0.3, 0.2], [0.0, 0.7]], dtype)
    scale, out = np.array([0.5, 2.0], dtype), np.full(2, np.nan, dtype)
    segments = np.array([[0, size, 1], [size, size + 5, 0]], np.int64)
    update.penalty[dtype](p, penalties, scale, segments, out)
    w = p[:, :size].astype(float)
    expected = scale * (penalties[:, 0] / 2 * (w**2).sum(1) + penalties[:, 1] * abs(w).sum(1))
    # Sums are made in float64, so the result has two roundings of its own dtype.
    np.testing.assert_allclose(out, expected, rtol=eps(dtype, 8 if dtype is np.float64 else 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_an_empty_batch_leaves_finite_weights(name, dtype):
    args = arguments(name, 2, dtype)
    args[1][:], args[7][:] = 0, 0
    for _ in range(3):
        getattr(update, name)[dtype](*args)
    assert all(np.isfinite(args[at]).all() for at in (0, 2, 3))


# ---- numbers at the edge ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_a_weight_without_gradient_stays(name, dtype):
    args = arguments(name, 2, dtype)
    for at in (1, 2, 3, 6):
        args[at][:] = 0
    args[9][:, 0] = 0
    if name in ("adam", "ftrl"):
        args[5][:, -2 if name == "ftrl" else -1 :] = 0  # no decay of their own
    before = args[0].copy()
    for _ in range(3):
        getattr(update, name)[dtype](*args)
        args[9][:, 0] += 1
    if name == "ftrl":  # 1 / (beta + r) * (beta + r) is 1 up to rounding
        np.testing.assert_allclose(args[0], before, rtol=eps(dtype, 4))
        assert (args[0][before == 0] == 0).all()
    else:
        np.testing.assert_array_equal(args[0], before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["momentum", "nesterov", "rmsprop", "rmsprop_momentum", "adam"])
def test_decaying_moments_end_in_no_denormals(name, dtype):
    args = arguments(name, 1, dtype)
    args[1][:], args[6][:], args[5][:] = 0, 0, np.minimum(args[5], 0.5)
    decade = 1 if dtype is np.float32 else 1e-260
    args[2] *= dtype(1e-20 * decade)
    args[3] *= dtype(1e-20 * decade)
    for _ in range(200):  # to zero, and never through the denormals
        getattr(update, name)[dtype](*args)
        for state in args[2:4]:
            size = abs(state[state != 0])
            assert size.min(initial=1.0) >= np.finfo(dtype).tiny
    decays_to_zero = args[3] if name == "rmsprop_momentum" else args[2]
    assert name == "rmsprop" or not decays_to_zero.any()


@pytest.mark.parametrize("name", UPDATES)
def test_a_nan_stays_seen(name):
    args = arguments(name, 2, np.float32)
    args[1][1, 5] = np.nan
    getattr(update, name)[np.float32](*args)
    assert np.isnan(args[0][1, 5])
    assert np.isnan(args[0]).sum() == 1


# ---- FTRL -------------------------------------------------------------------------------------


def run_ftrl(p, gradients, rates, beta, l1, l2):
    """Weights after every step, one penalised leaf."""
    members, size = p.shape
    p, s1, s2 = p.copy(), np.zeros_like(p), np.zeros_like(p)
    segments = np.array([[0, size, 1]], np.int64)
    none, scale = np.zeros((members, 2)), np.ones(members)
    counters = np.zeros((members, 4), np.int64)
    history = []
    for g in gradients:
        args = (p, g, s1, s2, rates, np.array([[beta, l1, l2]] * members), none, scale)
        update.ftrl[np.float64](*args, segments, counters)
        counters[:, :2] += 1
        history.append(p.copy())
    return np.array(history)


@pytest.mark.parametrize("initial", [0.0, 0.3])
def test_ftrl_equals_the_papers_algorithm(initial):
    rng = np.random.default_rng(3)
    size, rate, beta, l1, l2 = 60, 0.1, 1.0, 1.5, 0.4
    gradients = rng.normal(size=(50, 1, size)) + np.linspace(-0.3, 0.3, size)
    w = rng.normal(size=(1, size)) * initial
    ours = run_ftrl(w, gradients, np.full((1, 50), rate), beta, l1, l2)
    # McMahan et al. (2013), algorithm 1; z begins where beta's proximal term pulls towards w.
    z, n = -beta / rate * w, np.zeros_like(w)
    for g, mine in zip(gradients, ours, strict=True):
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / rate
        z += g - sigma * w
        n += g**2
        w = np.where(abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / rate + l2))
        np.testing.assert_allclose(mine, w, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(mine == 0, w == 0)
    assert 0 < (w == 0).sum() < size


def test_ftrl_without_penalties_is_adagrad_whatever_the_schedule():
    rng = np.random.default_rng(4)
    p, gradients = rng.normal(size=(2, 40)), rng.normal(size=(30, 2, 40))
    rates = rng.uniform(0.01, 0.2, size=(2, 30))
    ours = run_ftrl(p, gradients, rates, 0.5, 0.0, 0.0)
    n = np.zeros_like(p)
    for step, g in enumerate(gradients):
        n += g**2
        p = p - rates[:, step : step + 1] * g / (0.5 + np.sqrt(n))
        np.testing.assert_allclose(ours[step], p, rtol=0, atol=1e-13)


# ---- clipping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_value(dtype):
    g, limits = passes(dtype)["clip_value"]
    before = g.copy()
    update.clip_value[dtype](g, limits)
    np.testing.assert_array_equal(g[1], before[1])  # a limit of 0 is none
    for m in (0, 2):
        np.testing.assert_array_equal(g[m], np.clip(before[m], -limits[m], limits[m]))
        assert (g[m] != before[m]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("whole", [False, True])
def test_clip_norm(whole, dtype):
    g, limits, segments = passes(dtype)["clip_norm"]
    g[0, 120:135] *= dtype(0.01)  # a leaf below its limit
    before = g.copy()
    if whole:
        update.clip_global_norm[dtype](g, limits)
    else:
        update.clip_norm[dtype](g, limits, segments)
    leaves = [(0, SIZE)] if whole else segments[:, :2].tolist()
    for m in range(3):
        for start, stop in leaves:
            old = before[m, start:stop].astype(float)
            norm = np.linalg.norm(old)
            if limits[m] == 0 or norm <= limits[m]:
                np.testing.assert_array_equal(g[m, start:stop], before[m, start:stop])
            else:
                new = old * limits[m] / norm
                np.testing.assert_allclose(g[m, start:stop], new, rtol=eps(dtype, 4))


def test_clip_norm_of_a_gradient_whose_square_overflows():
    g = np.full((1, 4), 3e30, np.float32)
    update.clip_global_norm[np.float32](g, np.ones(1, np.float32))
    np.testing.assert_allclose(g, 0.5, rtol=eps(np.float32, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["clip_norm", "clip_global_norm"])
def test_clipping_does_not_hide_a_diverged_gradient(name, bad):
    g = np.ones((1, 4), np.float32)
    g[0, 2] = bad
    args = (np.array([[0, 4, 1]], np.int64),) if name == "clip_norm" else ()
    getattr(update, name)[np.float32](g, np.ones(1, np.float32), *args)
    assert np.isnan(g[0, 2])


def test_clip_value_keeps_nan():
    g = np.array([[np.nan, 3.0]])
    update.clip_value[np.float64](g, np.ones(1))
    np.testing.assert_array_equal(g, [[np.nan, 1.0]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_norm(dtype):
    p, limits, shapes = passes(dtype)["max_norm"]
    before = p.copy()
    update.max_norm[dtype](p, limits, shapes)
    touched = np.zeros(SIZE, bool)
    for start, fan_in, units in shapes:
        leaf = slice(start, start + fan_in * units)
        touched[leaf] = True
        for m in range(3):
            old = before[m, leaf].reshape(fan_in, units).astype(float)
            norm = np.linalg.norm(old, axis=0)
            above = norm > limits[m] if limits[m] else np.zeros(units, bool)
            new = np.where(above, old * limits[m] / norm, old)
            got = p[m, leaf].reshape(fan_in, units)
            np.testing.assert_allclose(got, new, rtol=eps(dtype, 4))
            np.testing.assert_array_equal(got[:, ~above], old[:, ~above])
            if m == 0:
                assert above.any()
    np.testing.assert_array_equal(p[:, ~touched], before[:, ~touched])
