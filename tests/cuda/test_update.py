"""Updates, penalties and clipping on a device."""

import numpy as np
import pytest

from skdeep._kernels.cpu import update as cpu
from tests.cuda.harness import check_twin

# name: the number of state buffers, the optimiser's own numbers
UPDATES = {
    "sgd": (0, []),
    "momentum": (1, [0.9]),
    "nesterov": (1, [0.9]),
    "adagrad": (1, [1e-7]),
    "rmsprop": (1, [0.8, 1e-7]),
    "rmsprop_momentum": (2, [0.8, 1e-7, 0.9]),
    "adam": (2, [0.9, 0.999, 1e-8, 0.1]),
    "ftrl": (2, [1.0, 0.05, 0.2]),
}
# Leaves that begin and end within vectors, of one element and of none, with gaps between them.
SEGMENTS = np.array(
    [[0, 48, 1], [48, 63, 0], [64, 64, 1], [66, 67, 1], [70, 133, 1], [133, 150, 0]], np.int64
)
SIZE = 155
EPS = 2.0**-24


def gaps(segments=SEGMENTS, size=SIZE):
    """Where a row is in no leaf."""
    free = np.ones(size, bool)
    for start, stop, _ in segments:
        free[start:stop] = False
    return free


def rows(members, extra, rng, poison=True):
    """Rows of a buffer, `extra` elements apart, with NaN in what is between leaves."""
    x = rng.normal(size=(members, SIZE + extra)).astype(np.float32)[:, :SIZE]
    if poison:
        x[:, gaps()] = np.nan
    return x


def arguments(name, members, extra=0, steps=3):
    """Random arguments of an update kernel; every member has numbers of its own."""
    rng = np.random.default_rng(members + extra)
    slots, hyper = UPDATES[name]
    p, g, s1, s2 = (rows(members, extra, rng) for _ in range(4))
    p[:, 3:SIZE:7] *= 0  # the sign of zero
    s1, s2 = (abs(s) + 0.1 if i < slots else s[:, :0].copy() for i, s in enumerate((s1, s2)))
    rates = rng.uniform(0.01, 0.1, size=(members, 4)).astype(np.float32)
    hyper = np.array([hyper] * members, float).reshape(members, -1)
    hyper *= rng.uniform(0.9, 1, size=hyper.shape)
    penalties = rng.uniform(0, 0.5, size=(members, 2)).astype(np.float32)
    scale = rng.uniform(0.1, 1, size=members).astype(np.float32)
    counters = np.zeros((members, 4), np.int64)
    counters[:, 0], counters[:, 1] = steps + np.arange(members), np.arange(members) % 4
    return [p, g, s1, s2, rates, hyper, penalties, scale, SEGMENTS.copy(), counters]


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize(("members", "extra"), [(1, 0), (2, 5), (2, 1)])
def test_steps(gpu, name, members, extra):
    """The first steps, the thousandth and the millionth, from vectors and from single elements."""
    args = arguments(name, members, extra)
    for made in (0, 1, 999, 10**6):
        args[9][:, 0] = made
        # A dozen operations on numbers of a few units, rounded elsewhere where they contract.
        args = check_twin(gpu, getattr(cpu, name), *args, rtol=4 * EPS, atol=40 * EPS)
    assert np.isfinite(args[0][:, ~gaps()]).all()
    assert np.isnan(args[0][:, gaps()]).all()


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.0, 0.9999999), (0.05, 0.3)])
@pytest.mark.parametrize("made", [0, 1, 30, 4095, 10**6])
def test_adams_debiasing(gpu, beta1, beta2, made):
    """From zero weights one step is the debiased one, and is compared relatively."""
    args = arguments("adam", 1)
    args[0], args[6] = args[0] * 0, args[6] * 0
    args[5], args[9][:, 0] = np.array([[beta1, beta2, 1e-8, 0.0]]), made
    # The moments have three roundings, their ratio three more, the debiasing within 1e-6 / 2.
    check_twin(gpu, cpu.adam, *args, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", UPDATES)
def test_no_gradient_and_no_weight(gpu, name):
    """A batch whose weights are all zero: no gradient, a scale of 0."""
    args = arguments(name, 2)
    args[1] *= 0
    args[7][:] = 0
    for _ in range(2):
        args = check_twin(gpu, getattr(cpu, name), *args, rtol=0, atol=40 * EPS)
    assert np.isfinite(args[0][:, ~gaps()]).all()


@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adam"])
def test_moments_end_in_no_denormals(gpu, name):
    args = arguments(name, 1)
    args[1] *= 0
    args[6] *= 0
    args[2], args[3] = args[2] * np.float32(1e-34), args[3] * np.float32(1e-37)
    made = check_twin(gpu, getattr(cpu, name), *args, rtol=1e-6, atol=1e-37)
    left = abs(made[2][:, ~gaps()])
    assert left[left != 0].min(initial=1) >= np.finfo(np.float32).tiny


@pytest.mark.parametrize("name", UPDATES)
def test_a_nan_stays_in_its_weight(gpu, name):
    args = arguments(name, 1)
    args[1][0, 5], args[1][0, 80] = np.nan, np.inf
    made = check_twin(gpu, getattr(cpu, name), *args, rtol=0, atol=40 * EPS)[0]
    assert np.isnan(made[0, 5])
    assert np.isnan(made[0, ~gaps()]).sum() <= 2


def test_a_row_longer_than_the_blocks(gpu, monkeypatch):
    """Threads stride, and find leaf after leaf."""
    monkeypatch.setattr("skdeep._kernels.cuda._clip._RESIDENT", 1)
    monkeypatch.setattr(type(gpu), "multiprocessors", 1)
    ends = np.array([5, 700, 1023, 1024, 1500, 2501])
    segments = np.stack([np.r_[0, ends[:-1]], ends, np.arange(6) % 2], axis=1)
    rng = np.random.default_rng(0)
    p, g, v = rng.normal(size=(3, 1, 2503)).astype(np.float32)
    args = arguments("momentum", 1)
    args[:4], args[8] = [p, g, v, v[:, :0].copy()], segments
    check_twin(gpu, cpu.momentum, *args, rtol=0, atol=40 * EPS)
    scale, out = np.ones(1, np.float32), np.full(1, np.nan, np.float32)
    check_twin(gpu, cpu.penalize, g, p, args[6], scale, segments, rtol=0, atol=4 * EPS)
    check_twin(gpu, cpu.penalty, p, args[6], scale, segments, out, rtol=16 * EPS, atol=0)
    limits = np.ones(1, np.float32)
    check_twin(gpu, cpu.clip_norm, g, limits, segments, rtol=16 * EPS, atol=0)
    check_twin(gpu, cpu.clip_global_norm, g, limits, rtol=16 * EPS, atol=0)


# ---- penalties --------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "extra"), [(1, 0), (2, 5)])
def test_penalize(gpu, members, extra):
    rng = np.random.default_rng(1)
    g, p = rows(members, extra, rng), rows(members, extra, rng)
    p[:, :9] = 0
    penalties = np.array([[0.3, 0.1], [0.0, 0.0]], np.float32)[:members]
    scale = np.array([0.5, 2], np.float32)[:members]
    # Two products and two sums.
    check_twin(gpu, cpu.penalize, g, p, penalties, scale, SEGMENTS.copy(), rtol=0, atol=8 * EPS)


@pytest.mark.parametrize(("members", "extra"), [(1, 0), (2, 1), (2, 5)])
@pytest.mark.parametrize("strengths", [(0.3, 0.2), (0.0, 0.7), (0.4, 0.0), (0.0, 0.0)])
def test_penalty(gpu, members, extra, strengths):
    p = rows(members, extra, np.random.default_rng(2))
    penalties = np.array([strengths] * members, np.float32)
    scale, out = np.array([0.5, 2], np.float32)[:members], np.full(members, np.nan, np.float32)
    # Sums of positive terms in some steps, of which each rounds once.
    check_twin(gpu, cpu.penalty, p, penalties, scale, SEGMENTS.copy(), out, rtol=16 * EPS, atol=0)


@pytest.mark.parametrize("segments", [np.zeros((0, 3), np.int64), np.array([[0, 9, 0]])])
def test_penalty_of_nothing(gpu, segments):
    p, out = np.ones((2, 20), np.float32), np.full(2, np.nan, np.float32)
    numbers = np.ones((2, 2), np.float32), np.ones(2, np.float32)
    assert not check_twin(gpu, cpu.penalty, p, *numbers, segments, out)[-1].any()


# ---- clipping ---------------------------------------------------------------------------------

LIMITS = np.array([0.5, 0.0, 2.0], np.float32)


@pytest.mark.parametrize(("size", "extra"), [(40, 4), (41, 0), (40, 1)])
def test_clip_value(gpu, size, extra):
    g = np.random.default_rng(3).normal(size=(3, size + extra)).astype(np.float32)[:, :size]
    g[:, 5], g[:, 6], g[:, 7] = np.nan, np.inf, -np.inf
    check_twin(gpu, cpu.clip_value, g, LIMITS.copy(), rtol=0, atol=0)


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_clip_norm(gpu, extra):
    g = rows(3, extra, np.random.default_rng(4))
    g[0, 133:150] *= np.float32(0.01)  # a leaf below its limit
    made = check_twin(gpu, cpu.clip_norm, g, LIMITS.copy(), SEGMENTS.copy(), rtol=16 * EPS, atol=0)
    np.testing.assert_array_equal(made[0][1], g[1])
    np.testing.assert_array_equal(made[0][0, 133:150], g[0, 133:150])
    assert (abs(made[0][0, :48]) < abs(g[0, :48])).all()


def test_clip_norm_over_tiles(gpu, monkeypatch):
    """Leaves of several tiles, and tiles of several leaves."""
    monkeypatch.setattr("skdeep._kernels.cuda._clip._TILE", 32)
    g = rows(2, 5, np.random.default_rng(5))
    args = g, np.array([1.5, 0.25], np.float32), SEGMENTS.copy()
    check_twin(gpu, cpu.clip_norm, *args, rtol=16 * EPS, atol=0)


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_clip_global_norm(gpu, extra):
    g = rows(3, extra, np.random.default_rng(6), poison=False)
    check_twin(gpu, cpu.clip_global_norm, g, LIMITS.copy(), rtol=16 * EPS, atol=0)


@pytest.mark.parametrize("value", [3e30, 1e-20, np.nan, np.inf])
@pytest.mark.parametrize("name", ["clip_norm", "clip_global_norm", "max_norm"])
def test_norms_of_any_size(gpu, name, value):
    """No square overflows or vanishes, and a diverged gradient stays seen."""
    g = np.full((1, 8), 1e-21, np.float32)
    g[0, 2], g[0, 3] = value, 1e10 if value > 1 else 1e-21
    limits = np.full(1, 1e-21, np.float32)
    table = {"clip_norm": [[0, 8, 1]], "clip_global_norm": None, "max_norm": [[0, 4, 2]]}[name]
    args = () if table is None else (np.array(table, np.int64),)
    made = check_twin(gpu, getattr(cpu, name), g, limits, *args, rtol=16 * EPS, atol=1e-44)[0]
    assert np.isnan(made[0, 2]) == (not np.isfinite(value))


# Columns that are no multiple of 8, more rows, and more columns than blocks have at a time.
SHAPES = [[[0, 5, 3], [16, 40, 2], [100, 1, 47]], [[3, 2, 70]]]


@pytest.mark.parametrize("shapes", SHAPES)
def test_max_norm(gpu, shapes):
    p = rows(3, 5, np.random.default_rng(7), poison=False)
    args = p, LIMITS.copy(), np.array(shapes, np.int64)
    made = check_twin(gpu, cpu.max_norm, *args, rtol=16 * EPS, atol=0)[0]
    np.testing.assert_array_equal(made[1], p[1])
    assert (made[0] != p[0]).any()
