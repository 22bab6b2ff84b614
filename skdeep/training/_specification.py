"""What an optimiser and a schedule are: specifications that hold no arrays."""

from abc import abstractmethod
from numbers import Real

import numpy as np

from skdeep._compat import Interval, StrOptions
from skdeep._specification import Specification

POSITIVE = [Interval(Real, 0, None, closed="neither")]
NON_NEGATIVE = [Interval(Real, 0, None, closed="left")]
#: The parameters that every schedule takes.
TIME = {"warmup": NON_NEGATIVE, "unit": [StrOptions({"epochs", "steps"})]}


class Optimizer(Specification):
    """Abstract base of the optimisers.

    An optimiser holds numbers and no arrays. The training loop allocates the buffers that `slots`
    names, fills them with `initial_state`, and runs `kernel` once per step.

    Attributes
    ----------
    learning_rate : float
        The initial learning rate, which a schedule may change.
    kernel_name : str or None
        The name of the update kernel; None where there is no minibatch step.
    slots : tuple of str
        The names of the state buffers, at most two, in the kernel's order.
    """

    kernel_name: str | None = None
    slots: tuple = ()

    @abstractmethod
    def hyperparameters(self):
        """Return the optimiser's own numbers in the kernel's order.

        Returns
        -------
        ndarray of float64 of shape (n_numbers,)

        Examples
        --------
        >>> from skdeep.training.optimizers import RMSProp
        >>> RMSProp(rho=0.5).hyperparameters().tolist()
        [0.5, 1e-07]
        """

    def initial_state(self, name):
        """Return what a state buffer is filled with at the start.

        Parameters
        ----------
        name : str
            One of `slots`.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If the optimiser has no such buffer.

        Examples
        --------
        >>> from skdeep.training.optimizers import AdaGrad
        >>> AdaGrad(initial_accumulator=0.5).initial_state("accumulator")
        0.5
        """
        if name not in self.slots:
            raise ValueError(f"name={name!r} is no state of {self!r}; it has {self.slots}")
        return 0.0

    @property
    def kernel(self):
        """The update kernel (``kernel[dtype]`` is callable), or None. Imports numba when used."""
        if self.kernel_name is None:
            return None
        from skdeep._kernels.cpu import update

        return getattr(update, self.kernel_name)


class Schedule(Specification):
    """Abstract base of the schedules.

    A subclass says its rates in `curve`. Every schedule takes two parameters:

    Parameters
    ----------
    warmup : float, default=0
        The length of a linear warm-up at the start of training: the rate of step t (from 0) is
        multiplied by ``(t + 1) / n_warmup_steps`` until that reaches 1. It delays nothing: the
        schedule's own times count from the first step.
    unit : {"epochs", "steps"}, default="epochs"
        What the schedule's times (`warmup` included) are counted in; fractions are allowed.
    """

    _parameter_constraints: dict = TIME

    def rates(self, learning_rate, first_step, n_steps, total_steps, steps_per_epoch, state=None):
        """Return the learning rates of consecutive steps.

        Parameters
        ----------
        learning_rate : float
            The optimiser's initial rate.
        first_step : int
            How many steps were made before.
        n_steps : int
            How many rates to return.
        total_steps : int
            The steps of the whole training, which some schedules stretch over; later steps keep
            the last rate.
        steps_per_epoch : int
            The steps of an epoch.
        state : dict of str to float, optional
            What `epoch_end` remembered; nothing yet by default.

        Returns
        -------
        ndarray of float64 of shape (n_steps,)

        Raises
        ------
        ValueError
            If a number of steps is not positive, or `first_step` is negative.

        Examples
        --------
        >>> from skdeep.training.schedules import Constant
        >>> Constant(warmup=4, unit="steps").rates(0.1, 0, 5, 10, 5).tolist()
        [0.025, 0.05, 0.07500000000000001, 0.1, 0.1]
        """
        lengths = dict(n_steps=n_steps, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        for name, value in lengths.items():
            if value < 1:
                raise ValueError(f"{name}={value}: a schedule needs at least one step")
        if first_step < 0:
            raise ValueError(f"first_step={first_step}: steps count from 0")
        per_unit = float(steps_per_epoch if self.unit == "epochs" else 1)
        steps = np.arange(first_step, first_step + n_steps, dtype=float)
        rates = self.curve(learning_rate, steps, total_steps, per_unit, state or {})
        rates = np.array(np.broadcast_to(rates, steps.shape), float)
        if self.warmup > 0:
            rates *= np.minimum((steps + 1) / (self.warmup * per_unit), 1.0)
        return rates

    @abstractmethod
    def curve(self, learning_rate, steps, total_steps, per_unit, state):
        """Return the rates of steps, without the warm-up.

        Parameters
        ----------
        learning_rate : float
            The optimiser's initial rate.
        steps : ndarray of float64 of shape (n_steps,)
            Steps made before each.
        total_steps : int
            The steps of the whole training.
        per_unit : float
            The steps in a unit of time.
        state : dict of str to float
            What `epoch_end` remembered.

        Returns
        -------
        float or ndarray of shape (n_steps,)
        """

    def epoch_end(
        self, state, *, improved, plateau, learning_rate, n_samples, epoch=None, steps=None
    ):
        """Take note of how an epoch went.

        Parameters
        ----------
        state : dict of str to float
            What the schedule remembers, changed in place; empty before the first epoch.
        improved : bool
            Whether the epoch improved what is monitored.
        plateau : bool
            Whether so many epochs in a row did not improve that training is to stop.
        learning_rate : float
            The optimiser's initial rate.
        n_samples : int
            The samples of the epoch.
        epoch, steps : int, optional
            The epochs and steps made so far.

        Returns
        -------
        bool
            Whether a plateau may end the training; False if the schedule has answered it.
        """
        return True
