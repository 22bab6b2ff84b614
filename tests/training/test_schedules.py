import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from skdeep.training import schedules
from skdeep.training.schedules import (
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Performance,
    Piecewise,
    Power,
    Schedule,
)

EVERY = [Constant(), InverseScaling(), Adaptive(), Performance(), Piecewise([2, 4], [0.3, 0.2, 0])]
EVERY += [Exponential(), Exponential(staircase=True), Power(), Cosine(), Cosine(period=2)]
EVERY += [Cosine(0.1, 1.5, 2.0), OneCycle(), OneCycle(0.5, pct_start=0.0)]
RATE, TOTAL, PER_EPOCH = 0.1, 60, 6
STEPS = np.arange(TOTAL)
#: A few roundings.
CLOSE = dict(rtol=1e-13, atol=1e-16)


def whole(schedule, state=None, rate=RATE):
    """The rates of the whole training."""
    return schedule.rates(rate, 0, TOTAL, TOTAL, PER_EPOCH, state)


def end(schedule, state, improved=True, plateau=False, rate=RATE, n_samples=100):
    return schedule.epoch_end(
        state, improved=improved, plateau=plateau, learning_rate=rate, n_samples=n_samples
    )


# ---- closed forms -----------------------------------------------------------------------------


def half_cosine(high, low, done):
    return low + (high - low) * (1 + np.cos(np.pi * done)) / 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), np.full(TOTAL, RATE)),
        (Exponential(0.3, 4), RATE * 0.3 ** (STEPS / 24)),
        (Exponential(0.3, 4, unit="steps"), RATE * 0.3 ** (STEPS / 4)),
        (Exponential(0.3, 4, staircase=True), RATE * 0.3 ** (STEPS // 24)),
        (Power(2, 1.5), RATE / (1 + STEPS / 12) ** 1.5),
        (Power(2, 1.5, unit="steps"), RATE / (1 + STEPS / 2) ** 1.5),
        (Piecewise([2, 7], [0.5, 0.2, 0.0]), np.repeat([0.5, 0.2, 0.0], [12, 30, 18])),
        (Piecewise([2.5, 7], [3, 2, 1], unit="steps"), np.repeat([3, 2, 1], [3, 4, 53])),
        (Cosine(0.2), half_cosine(RATE, 0.2 * RATE, STEPS / TOTAL)),
        (Cosine(period=2), half_cosine(RATE, 0, STEPS % 12 / 12)),
        (
            Cosine(0.1, 4, 2, unit="steps"),
            half_cosine(
                RATE,
                0.1 * RATE,
                np.concatenate([np.arange(n) / n for n in (4, 8, 16, 32)]),
            ),
        ),
    ],
)
def test_closed_form(schedule, expected):
    schedule.validate()
    np.testing.assert_allclose(whole(schedule), expected, **CLOSE)


@pytest.mark.parametrize("period", [0.1, 0.3, 0.7, 1.1, 1 / 3])
@pytest.mark.parametrize("factor", [1, 1.5, 2, 3])
def test_a_restart_is_not_late(period, factor):
    # Ten steps per epoch, so the first cycle ends on a step (to rounding), except for 1/3.
    rates = Cosine(period=period, period_factor=factor).rates(1.0, 0, 200, 200, 10)
    steps, start, length = np.arange(200), 0.0, period * 10
    while start < 200:
        inside = (steps >= start - 1e-6) & (steps < start + length - 1e-6)
        expected = half_cosine(1, 0, np.maximum(steps[inside] - start, 0) / length)
        np.testing.assert_allclose(rates[inside], expected, atol=1e-6)
        start, length = start + length, length * factor


@pytest.mark.parametrize("pct_start", [0.0, 0.01, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("total", [1, 2, 10, 11])
def test_one_cycle_ends_and_turns_where_it_should(pct_start, total):
    rates = OneCycle(0.5, pct_start, 10, 100).rates(RATE, 0, total + 2, total, 5)
    top = max(pct_start * total - 1, 0)
    assert np.isfinite(rates).all()
    assert rates[0] == pytest.approx(0.05 if top > 0 else 0.5)
    rising, falling = np.diff(rates[: int(top) + 1]), np.diff(rates[int(np.ceil(top)) : total])
    assert (rising > 0).all()
    assert (falling < 0).all()
    if total - 1 > top:
        np.testing.assert_allclose(rates[total - 1 :], 0.0005)
    else:
        np.testing.assert_allclose(rates[total - 1 :], 0.5)


# ---- against scikit-learn and torch -----------------------------------------------------------


def test_inverse_scaling_follows_scikit_learn():
    peer = SGDOptimizer([], RATE, lr_schedule="invscaling", power_t=0.3)
    schedule, state, seen = InverseScaling(0.3), {}, 0
    for n_samples in (100, 100, 40, 7):
        np.testing.assert_allclose(whole(schedule, state), peer.learning_rate, **CLOSE)
        seen += n_samples
        peer.iteration_ends(seen)
        assert end(schedule, state, n_samples=n_samples)
    np.testing.assert_allclose(whole(schedule, state), peer.learning_rate, **CLOSE)


def test_adaptive_follows_scikit_learn():
    peer = SGDOptimizer([], RATE, lr_schedule="adaptive")
    schedule, state = Adaptive(), {}
    for _ in range(20):
        assert not end(schedule, state, improved=False)
        np.testing.assert_allclose(whole(schedule, state), peer.learning_rate, **CLOSE)
        stop = peer.trigger_stopping("", verbose=False)
        assert end(schedule, state, improved=False, plateau=True) == stop
        np.testing.assert_allclose(whole(schedule, state), peer.learning_rate, **CLOSE)
        if stop:
            break
    assert stop
    assert peer.learning_rate < 1e-6


def torch_rates(name, **options):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    peer = getattr(torch.optim.lr_scheduler, name)(optimizer, **options)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < TOTAL:
            peer.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "name", "options"),
    [
        (
            OneCycle(0.5),
            "OneCycleLR",
            dict(max_lr=0.5, total_steps=TOTAL, cycle_momentum=False),
        ),
        (
            OneCycle(None, 0.45, 7, 30),
            "OneCycleLR",
            dict(
                max_lr=RATE,
                total_steps=TOTAL,
                pct_start=0.45,
                div_factor=7,
                final_div_factor=30,
                cycle_momentum=False,
            ),
        ),
        (
            Cosine(0.1, 7, 3, unit="steps"),
            "CosineAnnealingWarmRestarts",
            dict(T_0=7, T_mult=3, eta_min=0.1 * RATE),
        ),
        (
            Piecewise([10, 30], [RATE, RATE / 10, RATE / 100], unit="steps"),
            "MultiStepLR",
            dict(milestones=[10, 30]),
        ),
        (
            Exponential(0.5, 8, staircase=True, unit="steps"),
            "StepLR",
            dict(step_size=8, gamma=0.5),
        ),
    ],
)
def test_follows_torch(schedule, name, options):
    np.testing.assert_allclose(whole(schedule), torch_rates(name, **options), rtol=1e-12)


# ---- performance ------------------------------------------------------------------------------


def after(schedule, outcomes, rate=RATE):
    """The rate after each epoch."""
    state, rates = {}, []
    for improved in outcomes:
        assert end(schedule, state, improved=bool(improved), rate=rate)
        rates.append(whole(schedule, state, rate)[0] / rate)
    return rates


def test_performance_counts_epochs_in_a_row():
    outcomes = [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    expected = [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    np.testing.assert_allclose(after(Performance(0.5, 3), outcomes), expected)


def test_performance_cools_down():
    expected = [1, 0.1, 0.1, 0.1, 0.1, 0.01]
    np.testing.assert_allclose(after(Performance(0.1, 2, cooldown=2), [0] * 6), expected)


def test_performance_has_a_floor():
    np.testing.assert_allclose(
        after(Performance(0.1, 1, min_rate=0.03), [0] * 3, rate=1.0), [0.1, 0.03, 0.03]
    )
    # A rate that begins below the floor is not raised to it.
    np.testing.assert_allclose(after(Performance(0.1, 1, min_rate=0.3), [0] * 2), [1, 1])


# ---- the protocol -----------------------------------------------------------------------------


def test_every_schedule_is_listed():
    found = {
        c
        for c in vars(schedules).values()
        if isinstance(c, type) and issubclass(c, Schedule) and c is not Schedule
    }
    assert found == {type(s) for s in EVERY}


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_defaults_are_valid_and_cloned(schedule):
    schedule.validate()
    assert clone(schedule).get_params() == schedule.get_params()
    assert set(schedule._parameter_constraints) == set(schedule.get_params())
    rates = whole(schedule)
    assert rates.dtype == np.float64
    assert rates.shape == (TOTAL,)
    assert (rates >= 0).all()


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("warmup", [0, 1.5])
def test_epochs_join_to_the_whole(schedule, warmup):
    schedule = clone(schedule).set_params(warmup=warmup)
    parts = [
        schedule.rates(RATE, first, PER_EPOCH, TOTAL, PER_EPOCH)
        for first in range(0, TOTAL, PER_EPOCH)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole(schedule))


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_state_survives_a_checkpoint(schedule):
    def play(restart):
        state, rates = {}, []
        for epoch in range(12):
            rates.append(schedule.rates(RATE, epoch * 5, 5, 60, 5, state))
            end(schedule, state, improved=epoch % 7 == 0, plateau=epoch % 5 == 4)
            if restart:
                assert all(type(v) is float for v in state.values())
                state = json.loads(json.dumps(state))
        return rates

    np.testing.assert_array_equal(play(False), play(True))


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize(("warmup", "unit"), [(4, "steps"), (1.5, "epochs"), (0.2, "steps")])
def test_warmup_is_a_ramp_on_the_rates(schedule, warmup, unit):
    lengths = [k for k in ("period", "boundaries") if getattr(schedule, k, None) is not None]
    if unit == "steps" and lengths:  # its own times are counted in steps as well
        schedule = clone(schedule).set_params(unit=unit)
    plain = whole(schedule)
    ramp = np.minimum((STEPS + 1) / (warmup * (PER_EPOCH if unit == "epochs" else 1)), 1)
    warm = whole(clone(schedule).set_params(warmup=warmup, unit=unit))
    np.testing.assert_allclose(warm, plain * ramp, **CLOSE)


@pytest.mark.parametrize("schedule", [Cosine(0.2), OneCycle()])
def test_the_last_rate_is_kept_after_the_end(schedule):
    later = schedule.rates(RATE, TOTAL, 5, TOTAL, PER_EPOCH)
    last = 0.2 * RATE if isinstance(schedule, Cosine) else RATE / 25 / 1e4
    np.testing.assert_allclose(later, last)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((0, 0, 10, 5), "n_steps=0"),
        ((0, 5, 0, 5), "total_steps=0"),
        ((0, 5, 10, 0), "steps_per_epoch=0"),
        ((-1, 5, 10, 5), "first_step=-1"),
    ],
)
def test_a_training_without_steps_is_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        Constant().rates(RATE, *lengths)


@pytest.mark.parametrize(
    ("schedule", "name", "what"),
    [
        (Piecewise([], [0.1]), "boundaries", "hold at least one"),
        (Piecewise([5, 3], [1, 2, 3]), "boundaries", "be positive and increase"),
        (Piecewise([3, 3], [1, 2, 3]), "boundaries", "be positive and increase"),
        (Piecewise([0, 3], [1, 2, 3]), "boundaries", "be positive and increase"),
        (Piecewise([[3]], [1, 2]), "boundaries", "be a flat sequence of finite numbers"),
        (Piecewise(["soon"], [1, 2]), "boundaries", "be a flat sequence of finite numbers"),
        (Piecewise(3, [1, 2]), "boundaries", "be an array-like"),
        (Piecewise([3], [1, 2, 3]), "values", "hold 2 rates"),
        (Piecewise([3], [1, -2]), "values", "hold rates of 0 or more"),
        (Piecewise([3], [1, np.nan]), "values", "be a flat sequence of finite numbers"),
        (Exponential(period=0), "period", "be a float"),
        (Exponential(decay_rate=0), "decay_rate", "be a float"),
        (Exponential(staircase=2), "staircase", "be an instance of 'bool'"),
        (Power(period=-1), "period", "be a float"),
        (Power(power=-1), "power", "be a float"),
        (Performance(factor=1), "factor", "be a float"),
        (Performance(patience=0), "patience", "be a float"),
        (Performance(min_rate=-1), "min_rate", "be a float"),
        (Performance(cooldown=-1), "cooldown", "be a float"),
        (Adaptive(divisor=1), "divisor", "be a float"),
        (InverseScaling(power=-1), "power", "be a float"),
        (Cosine(min_fraction=2), "min_fraction", "be a float"),
        (Cosine(period=0), "period", "be a float"),
        (Cosine(period_factor=0.5), "period_factor", "be a float"),
        (OneCycle(max_rate=-1), "max_rate", "be a float"),
        (OneCycle(pct_start=1.5), "pct_start", "be a float"),
        (Constant(warmup=-1), "warmup", "be a float"),
        (Constant(unit="hours"), "unit", "be a str among"),
    ],
)
def test_a_wrong_parameter_is_named(schedule, name, what):
    message = f"The '{name}' parameter of {type(schedule).__name__} must {what}.* Got "
    with pytest.raises(ValueError, match=message):
        schedule.validate()
