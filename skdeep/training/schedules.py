"""Learning-rate schedules: what each step's rate is.

A schedule is a specification without state. The training loop asks it for the rates of an epoch's
steps (`Schedule.rates`) and tells it how the epoch went (`Schedule.epoch_end`); what a schedule
has to remember stands in a dict of floats that the loop keeps and saves with a checkpoint.
"""

from numbers import Real
from typing import final

import numpy as np

from skdeep._compat import Interval, InvalidParameterError
from skdeep.training._specification import NON_NEGATIVE, POSITIVE, TIME, Schedule

_SHARE = [Interval(Real, 0, 1, closed="both")]


@final
class Constant(Schedule):
    """The optimiser's rate throughout.

    Parameters
    ----------
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `warmup` is counted in.

    Examples
    --------
    >>> from skdeep.training.schedules import Constant
    >>> Constant().rates(0.1, 0, 2, 10, 5).tolist()
    [0.1, 0.1]
    """

    def __init__(self, *, warmup=0, unit="epochs"):
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        return learning_rate


@final
class InverseScaling(Schedule):
    """Scikit-learn's "invscaling": learning_rate / (samples seen + 1)^power, by whole epochs.

    Parameters
    ----------
    power : float, default=0.5
        The exponent (scikit-learn's `power_t`).
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `warmup` is counted in.

    Examples
    --------
    >>> from skdeep.training.schedules import InverseScaling
    >>> schedule, state = InverseScaling(), {}
    >>> _ = schedule.epoch_end(
    ...     state, improved=True, plateau=False, learning_rate=0.1, n_samples=99
    ... )
    >>> schedule.rates(0.1, 5, 1, 10, 5, state=state).tolist()
    [0.01]
    """

    _parameter_constraints: dict = {"power": NON_NEGATIVE} | TIME

    def __init__(self, power=0.5, *, warmup=0, unit="epochs"):
        self.power = power
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        return learning_rate / (state.get("samples", 0.0) + 1.0) ** self.power

    def epoch_end(
        self, state, *, improved, plateau, learning_rate, n_samples, epoch=None, steps=None
    ):
        """Count the samples seen."""
        state["samples"] = state.get("samples", 0.0) + float(n_samples)
        return True


@final
class Adaptive(Schedule):
    """Scikit-learn's "adaptive": a plateau divides the rate, and ends training at the least rate.

    A plateau is more than `n_iter_no_change` epochs in a row without an improvement of `tol`.

    Parameters
    ----------
    divisor : float, default=5.0
        What a plateau divides the rate by, above 1.
    min_rate : float, default=1e-6
        A plateau at this rate or below ends training.
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `warmup` is counted in.

    Examples
    --------
    >>> from skdeep.training.schedules import Adaptive
    >>> schedule, state = Adaptive(), {}
    >>> schedule.epoch_end(state, improved=False, plateau=True, learning_rate=0.1, n_samples=99)
    False
    >>> schedule.rates(0.1, 5, 1, 10, 5, state=state).tolist()
    [0.02]
    """

    _parameter_constraints: dict = {
        "divisor": [Interval(Real, 1, None, closed="neither")],
        "min_rate": NON_NEGATIVE,
    } | TIME

    def __init__(self, divisor=5.0, min_rate=1e-6, *, warmup=0, unit="epochs"):
        self.divisor = divisor
        self.min_rate = min_rate
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        return learning_rate / state.get("divided_by", 1.0)

    def epoch_end(
        self, state, *, improved, plateau, learning_rate, n_samples, epoch=None, steps=None
    ):
        """Divide the rate on a plateau, or let it end the training."""
        divided_by = state.get("divided_by", 1.0)
        if plateau and learning_rate / divided_by <= self.min_rate:
            return True
        state["divided_by"] = divided_by * (self.divisor if plateau else 1.0)
        return False


@final
class Performance(Schedule):
    """Performance scheduling: the rate falls when epochs in a row do not improve.

    Parameters
    ----------
    factor : float, default=0.5
        What the rate is multiplied by, in (0, 1).
    patience : float, default=5
        Epochs in a row without improvement after which the rate falls.
    min_rate : float, default=0.0
        The rate does not fall below this.
    cooldown : float, default=0
        Epochs after a fall that do not count.
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `warmup` is counted in.

    Notes
    -----
    Training itself stops after `n_iter_no_change` epochs without improvement; a patience above
    that never comes to act.

    References
    ----------
    Senior et al. (2013), "An empirical study of learning rates in deep neural networks for speech
    recognition", ICASSP.

    Examples
    --------
    >>> from skdeep.training.schedules import Performance
    >>> schedule, state = Performance(patience=2), {}
    >>> for improved in (True, False, False):
    ...     _ = schedule.epoch_end(
    ...         state, improved=improved, plateau=False, learning_rate=0.1, n_samples=99
    ...     )
    >>> schedule.rates(0.1, 15, 1, 50, 5, state=state).tolist()
    [0.05]
    """

    _parameter_constraints: dict = {
        "factor": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Real, 1, None, closed="left")],
        "min_rate": NON_NEGATIVE,
        "cooldown": NON_NEGATIVE,
    } | TIME

    def __init__(
        self, factor=0.5, patience=5, min_rate=0.0, cooldown=0, *, warmup=0, unit="epochs"
    ):
        self.factor = factor
        self.patience = patience
        self.min_rate = min_rate
        self.cooldown = cooldown
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        floor = min(self.min_rate, learning_rate)
        return max(learning_rate * state.get("scale", 1.0), floor)

    def epoch_end(
        self, state, *, improved, plateau, learning_rate, n_samples, epoch=None, steps=None
    ):
        """Count epochs without improvement and lower the rate after enough of them."""
        cooling = state.get("cooldown", 0.0)
        stale = 0.0 if improved or cooling > 0 else state.get("stale", 0.0) + 1.0
        state["cooldown"] = max(cooling - 1.0, 0.0)
        if stale >= self.patience:
            state["scale"] = state.get("scale", 1.0) * self.factor
            state["cooldown"] = float(self.cooldown)
            stale = 0.0
        state["stale"] = stale
        return True


@final
class Piecewise(Schedule):
    """A constant rate in each of several stretches of time.

    Parameters
    ----------
    boundaries : array-like of shape (n_boundaries,)
        Where one value gives way to the next: positive and increasing.
    values : array-like of shape (n_boundaries + 1,)
        The learning rates, which take the place of the optimiser's.
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `boundaries` and `warmup` are counted in.

    Examples
    --------
    >>> from skdeep.training.schedules import Piecewise
    >>> Piecewise([2, 3], [0.1, 0.01, 0.001], unit="steps").rates(1.0, 0, 4, 10, 5).tolist()
    [0.1, 0.1, 0.01, 0.001]
    """

    _parameter_constraints: dict = {"boundaries": ["array-like"], "values": ["array-like"]} | TIME

    def __init__(self, boundaries, values, *, warmup=0, unit="epochs"):
        self.boundaries = boundaries
        self.values = values
        self.warmup = warmup
        self.unit = unit

    def validate(self):
        """Check the parameters, as `Schedule.validate` does."""
        super().validate()
        boundaries = _numbers(self, "boundaries", self.boundaries)
        values = _numbers(self, "values", self.values)
        if boundaries.size == 0:
            _refuse(self, "boundaries", "hold at least one time (Constant needs none)")
        if not (np.diff(boundaries, prepend=0.0) > 0).all():
            _refuse(self, "boundaries", "be positive and increase")
        if values.size != boundaries.size + 1:
            _refuse(self, "values", f"hold {boundaries.size + 1} rates, one more than boundaries")
        if not (values >= 0).all():
            _refuse(self, "values", "hold rates of 0 or more")

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        index = np.searchsorted(np.asarray(self.boundaries, float), steps / per_unit, side="right")
        return np.asarray(self.values, float)[index]


def _refuse(schedule, name, what):
    raise InvalidParameterError(
        f"The {name!r} parameter of {type(schedule).__name__} must {what}. "
        f"Got {getattr(schedule, name)!r} instead."
    )


def _numbers(schedule, name, value):
    """Return a flat array of finite numbers."""
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.ndim != 1 or not np.isfinite(array).all():
        _refuse(schedule, name, "be a flat sequence of finite numbers")
    return array


@final
class Exponential(Schedule):
    """Exponential decay: learning_rate * decay_rate^(t / period).

    Parameters
    ----------
    decay_rate : float, default=0.1
        What the rate is multiplied by in each period, in (0, 1].
    period : float, default=20
        The length of a period.
    staircase : bool, default=False
        Whether the rate changes only at the end of a period.
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `period` and `warmup` are counted in.

    Examples
    --------
    >>> from skdeep.training.schedules import Exponential
    >>> Exponential(0.5, 2, unit="steps").rates(1.0, 0, 5, 10, 5)[::2].tolist()
    [1.0, 0.5, 0.25]
    """

    _parameter_constraints: dict = {
        "decay_rate": [Interval(Real, 0, 1, closed="right")],
        "period": POSITIVE,
        "staircase": ["boolean"],
    } | TIME

    def __init__(self, decay_rate=0.1, period=20, staircase=False, *, warmup=0, unit="epochs"):
        self.decay_rate = decay_rate
        self.period = period
        self.staircase = staircase
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        periods = steps / (self.period * per_unit)
        return learning_rate * self.decay_rate ** (
            np.floor(periods) if self.staircase else periods
        )


@final
class Power(Schedule):
    """Power scheduling: learning_rate / (1 + t / period)^power.

    Parameters
    ----------
    period : float, default=20
        The time after which the rate has fallen to 1 / 2^power.
    power : float, default=1.0
        The exponent.
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `period` and `warmup` are counted in.

    Examples
    --------
    >>> from skdeep.training.schedules import Power
    >>> Power(period=1, unit="steps").rates(1.0, 0, 4, 10, 5)[[0, 1, 3]].tolist()
    [1.0, 0.5, 0.25]
    """

    _parameter_constraints: dict = {"period": POSITIVE, "power": NON_NEGATIVE} | TIME

    def __init__(self, period=20, power=1.0, *, warmup=0, unit="epochs"):
        self.period = period
        self.power = power
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        return learning_rate / (1.0 + steps / (self.period * per_unit)) ** self.power


@final
class Cosine(Schedule):
    r"""Cosine annealing, with optional warm restarts.

    .. math:: \eta_t = \eta \left(f + (1 - f) \frac{1 + \cos(\pi t / T)}{2}\right)

    over the whole training (T its length), or over each cycle between restarts.

    Parameters
    ----------
    min_fraction : float, default=0.0
        The least rate f, as a fraction of the optimiser's.
    period : float or None, default=None
        The length of the first cycle; None for one cycle over the whole training.
    period_factor : float, default=1.0
        How much longer each cycle is than the one before, 1 or more.
    warmup : float, default=0
        Length of the linear warm-up.
    unit : {"epochs", "steps"}, default="epochs"
        What `period` and `warmup` are counted in.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", ICLR,
    equation 5. :arxiv:`1608.03983`

    Examples
    --------
    >>> from skdeep.training.schedules import Cosine
    >>> Cosine(period=2, unit="steps").rates(1.0, 0, 4, 10, 5).round(6).tolist()
    [1.0, 0.5, 1.0, 0.5]
    """

    _parameter_constraints: dict = {
        "min_fraction": _SHARE,
        "period": [*POSITIVE, None],
        "period_factor": [Interval(Real, 1, None, closed="left")],
    } | TIME

    def __init__(
        self, min_fraction=0.0, period=None, period_factor=1.0, *, warmup=0, unit="epochs"
    ):
        self.min_fraction = min_fraction
        self.period = period
        self.period_factor = period_factor
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        if self.period is None:
            done = np.minimum(steps / total_steps, 1.0)
        else:
            done = self._share_of_cycle(steps / (self.period * per_unit))
        return _anneal(learning_rate, learning_rate * self.min_fraction, done)

    def _share_of_cycle(self, t):
        """Return how much of its cycle is behind each time; times in units of the first cycle."""
        f, slack = self.period_factor, 1e-9  # a restart must not come a step late by rounding
        if f == 1:
            return np.maximum(t - np.floor(t + slack), 0.0)
        cycle = np.floor(np.log1p(t * (f - 1)) / np.log(f) + slack)
        return np.maximum((t - (f**cycle - 1) / (f - 1)) / f**cycle, 0.0)


def _anneal(start, stop, done):
    """Go from start to stop along half a cosine."""
    return stop + (start - stop) * (1.0 + np.cos(np.pi * done)) / 2.0


@final
class OneCycle(Schedule):
    """One cycle over the whole training: up to the greatest rate, then down far below the first.

    Both ways go along half a cosine.

    Parameters
    ----------
    max_rate : float or None, default=None
        The greatest rate; None for the optimiser's.
    pct_start : float, default=0.3
        The share of the training that goes up, in [0, 1].
    div_factor : float, default=25.0
        The first rate is max_rate / div_factor.
    final_div_factor : float, default=1e4
        The last rate is the first divided by this.
    warmup : float, default=0
        Length of a linear warm-up on top.
    unit : {"epochs", "steps"}, default="epochs"
        What `warmup` is counted in.

    References
    ----------
    Smith and Topin (2019), "Super-convergence: very fast training of neural networks using large
    learning rates". :arxiv:`1708.07120`

    Examples
    --------
    >>> from skdeep.training.schedules import OneCycle
    >>> rates = OneCycle(max_rate=0.5).rates(0.1, 0, 10, 10, 5)
    >>> rates.argmax(), rates[0].round(6), rates.max(), rates[-1].round(9)
    (np.int64(2), np.float64(0.02), np.float64(0.5), np.float64(2e-06))
    """

    _parameter_constraints: dict = {
        "max_rate": [*POSITIVE, None],
        "pct_start": _SHARE,
        "div_factor": [Interval(Real, 1, None, closed="left")],
        "final_div_factor": [Interval(Real, 1, None, closed="left")],
    } | TIME

    def __init__(
        self,
        max_rate=None,
        pct_start=0.3,
        div_factor=25.0,
        final_div_factor=1e4,
        *,
        warmup=0,
        unit="epochs",
    ):
        self.max_rate = max_rate
        self.pct_start = pct_start
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.warmup = warmup
        self.unit = unit

    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up."""
        top = learning_rate if self.max_rate is None else self.max_rate
        first = top / self.div_factor
        last_step = total_steps - 1.0
        top_step = max(self.pct_start * total_steps - 1.0, 0.0)
        # A part of no length must not divide by zero.
        up = steps / (top_step or 1.0)
        down = (np.minimum(steps, last_step) - top_step) / ((last_step - top_step) or 1.0)
        return np.where(
            steps < top_step,
            _anneal(first, top, up),
            _anneal(top, first / self.final_div_factor, down),
        )
