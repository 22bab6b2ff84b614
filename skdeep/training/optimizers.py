"""Optimisers: small specifications whose arithmetic is one fused kernel per step."""

from numbers import Integral, Real
from typing import final

import numpy as np

from skdeep._compat import Interval
from skdeep.training._specification import NON_NEGATIVE, POSITIVE, Optimizer

_FRACTION = [Interval(Real, 0, 1, closed="left")]
_COUNT = [Interval(Integral, 1, None, closed="left")]


@final
class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math:: w \leftarrow w - \eta g

    Parameters
    ----------
    learning_rate : float, default=0.01
        The learning rate :math:`\eta`.

    References
    ----------
    Robbins and Monro (1951), "A stochastic approximation method", Annals of Mathematical
    Statistics 22(3).

    Examples
    --------
    >>> from skdeep.training.optimizers import SGD
    >>> SGD(learning_rate=0.1).slots
    ()
    """

    kernel_name = "sgd"
    _parameter_constraints: dict = {"learning_rate": POSITIVE}

    def __init__(self, learning_rate=0.01):
        self.learning_rate = learning_rate

    def hyperparameters(self):
        """Return the optimiser's own numbers: none."""
        return np.zeros(0)


@final
class Momentum(Optimizer):
    r"""Gradient descent with momentum (the heavy ball), in scikit-learn's form.

    .. math:: v \leftarrow \mu v - \eta g, \quad w \leftarrow w + v

    Parameters
    ----------
    learning_rate : float, default=0.01
        The learning rate :math:`\eta`.
    momentum : float, default=0.9
        The share :math:`\mu` of the velocity that is kept, in [0, 1].

    References
    ----------
    Polyak (1964), "Some methods of speeding up the convergence of iteration methods", USSR
    Computational Mathematics and Mathematical Physics 4(5).

    Examples
    --------
    >>> from skdeep.training.optimizers import Momentum
    >>> Momentum(momentum=0.8).hyperparameters().tolist()
    [0.8]
    """

    kernel_name = "momentum"
    slots = ("velocity",)
    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "momentum": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, learning_rate=0.01, momentum=0.9):
        self.learning_rate = learning_rate
        self.momentum = momentum

    def hyperparameters(self):
        """Return the optimiser's own numbers: momentum."""
        return np.array([self.momentum], float)


@final
class Nesterov(Optimizer):
    r"""Nesterov's accelerated gradient, in scikit-learn's form.

    .. math:: v \leftarrow \mu v - \eta g, \quad w \leftarrow w + \mu v - \eta g

    Parameters
    ----------
    learning_rate : float, default=0.01
        The learning rate :math:`\eta`.
    momentum : float, default=0.9
        The share :math:`\mu` of the velocity that is kept, in [0, 1].

    References
    ----------
    Nesterov (1983), "A method for solving the convex programming problem with convergence rate
    O(1/k^2)", Doklady 269; Sutskever et al. (2013), "On the importance of initialization and
    momentum in deep learning", ICML.

    Examples
    --------
    >>> from skdeep.training.optimizers import Nesterov
    >>> Nesterov().slots
    ('velocity',)
    """

    kernel_name = "nesterov"
    slots = ("velocity",)
    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "momentum": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, learning_rate=0.01, momentum=0.9):
        self.learning_rate = learning_rate
        self.momentum = momentum

    def hyperparameters(self):
        """Return the optimiser's own numbers: momentum."""
        return np.array([self.momentum], float)


@final
class AdaGrad(Optimizer):
    r"""AdaGrad: a rate for each weight that falls as its squared gradients add up.

    .. math:: n \leftarrow n + g^2, \quad w \leftarrow w - \eta g / (\sqrt{n} + \epsilon)

    Parameters
    ----------
    learning_rate : float, default=0.01
        The learning rate :math:`\eta`.
    initial_accumulator : float, default=0.1
        What :math:`n` begins with.
    epsilon : float, default=1e-7
        Keeps the denominator above zero.

    References
    ----------
    Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12.

    Examples
    --------
    >>> from skdeep.training.optimizers import AdaGrad
    >>> AdaGrad().initial_state("accumulator")
    0.1
    """

    kernel_name = "adagrad"
    slots = ("accumulator",)
    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "initial_accumulator": NON_NEGATIVE,
        "epsilon": POSITIVE,
    }

    def __init__(self, learning_rate=0.01, initial_accumulator=0.1, epsilon=1e-7):
        self.learning_rate = learning_rate
        self.initial_accumulator = initial_accumulator
        self.epsilon = epsilon

    def hyperparameters(self):
        """Return the optimiser's own numbers: epsilon."""
        return np.array([self.epsilon], float)

    def initial_state(self, name):
        """Return what a state buffer is filled with at the start."""
        super().initial_state(name)
        return float(self.initial_accumulator)


@final
class RMSProp(Optimizer):
    r"""RMSProp: AdaGrad that forgets, with optional momentum.

    .. math:: n \leftarrow \rho n + (1 - \rho) g^2, \quad
        v \leftarrow \mu v - \eta g / (\sqrt{n} + \epsilon), \quad w \leftarrow w + v

    Parameters
    ----------
    learning_rate : float, default=0.001
        The learning rate :math:`\eta`.
    rho : float, default=0.9
        The share of the mean square that is kept, in [0, 1).
    epsilon : float, default=1e-7
        Keeps the denominator above zero.
    momentum : float, default=0.0
        The share :math:`\mu` of the velocity that is kept, in [0, 1]. With 0 no velocity is
        stored.

    References
    ----------
    Tieleman and Hinton (2012), "Lecture 6.5: rmsprop", Neural Networks for Machine Learning.

    Examples
    --------
    >>> from skdeep.training.optimizers import RMSProp
    >>> RMSProp().slots, RMSProp(momentum=0.9).slots
    (('mean_square',), ('mean_square', 'velocity'))
    """

    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "rho": _FRACTION,
        "epsilon": POSITIVE,
        "momentum": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, learning_rate=0.001, rho=0.9, epsilon=1e-7, momentum=0.0):
        self.learning_rate = learning_rate
        self.rho = rho
        self.epsilon = epsilon
        self.momentum = momentum

    @property
    def kernel_name(self):
        """The name of the update kernel."""
        return "rmsprop_momentum" if self.momentum else "rmsprop"

    @property
    def slots(self):
        """The names of the state buffers."""
        return ("mean_square", "velocity") if self.momentum else ("mean_square",)

    def hyperparameters(self):
        """Return the optimiser's own numbers: rho, epsilon, and momentum where there is any."""
        own = [self.rho, self.epsilon]
        return np.array(own + [self.momentum] if self.momentum else own, float)


@final
class Adam(Optimizer):
    r"""Adam, in the paper's efficient form, which is scikit-learn's.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        w \leftarrow w - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        \frac{m}{\sqrt{v} + \epsilon}

    Parameters
    ----------
    learning_rate : float, default=0.001
        The learning rate :math:`\eta`.
    beta_1 : float, default=0.9
        The share of the first moment that is kept, in [0, 1).
    beta_2 : float, default=0.999
        The share of the second moment that is kept, in [0, 1).
    epsilon : float, default=1e-8
        Keeps the denominator above zero; added before the bias correction.

    References
    ----------
    Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR, the order of
    computation at the end of section 2. :arxiv:`1412.6980`

    Examples
    --------
    >>> from skdeep.training.optimizers import Adam
    >>> Adam().slots
    ('first_moment', 'second_moment')
    """

    kernel_name = "adam"
    slots = ("first_moment", "second_moment")
    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": POSITIVE,
    }

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def hyperparameters(self):
        """Return the kernel's numbers: beta_1, beta_2, epsilon, and a weight decay of zero."""
        return np.array([self.beta_1, self.beta_2, self.epsilon, 0.0])


@final
class AdamW(Optimizer):
    r"""Adam with decoupled weight decay.

    `Adam`'s step, and :math:`w \leftarrow w - \eta \lambda w` on weights (not on biases), which
    the adaptive denominator does not scale.

    Parameters
    ----------
    learning_rate : float, default=0.001
        The learning rate :math:`\eta`.
    beta_1 : float, default=0.9
        The share of the first moment that is kept, in [0, 1).
    beta_2 : float, default=0.999
        The share of the second moment that is kept, in [0, 1).
    epsilon : float, default=1e-8
        Keeps the denominator above zero; added before the bias correction.
    weight_decay : float, default=0.01
        The decay :math:`\lambda`, times the learning rate of the step.

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled weight decay regularization", ICLR.
    :arxiv:`1711.05101`

    Examples
    --------
    >>> from skdeep.training.optimizers import AdamW
    >>> AdamW(weight_decay=0.1).hyperparameters().tolist()
    [0.9, 0.999, 1e-08, 0.1]
    """

    kernel_name = "adam"
    slots = ("first_moment", "second_moment")
    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": POSITIVE,
        "weight_decay": NON_NEGATIVE,
    }

    def __init__(
        self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01
    ):
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay

    def hyperparameters(self):
        """Return the kernel's numbers: beta_1, beta_2, epsilon, weight_decay."""
        return np.array([self.beta_1, self.beta_2, self.epsilon, self.weight_decay], float)


@final
class FTRL(Optimizer):
    r"""Follow the regularised leader, proximal: sparse weights from online learning.

    .. math:: w_{t+1} = \arg\min_w \sum_{s \le t} g_s \cdot w
        + \frac12 \sum_{s=0}^{t} \sigma_s \lVert w - w_s \rVert^2
        + \lambda_1 \lVert w \rVert_1 + \frac{\lambda_2}{2} \lVert w \rVert^2,
        \quad \sum_{s \le t} \sigma_s = \frac{\beta + \sqrt{\sum_{s \le t} g_s^2}}{\eta}

    elementwise, where a weight is exactly zero as long as its accumulated gradient does not
    outweigh :math:`\lambda_1`.

    Parameters
    ----------
    learning_rate : float, default=0.1
        The learning rate :math:`\eta` (the paper's alpha).
    beta : float, default=1.0
        Steadies the first steps: the first rate of a weight is near learning_rate / beta.
    l1 : float, default=0.0
        The strength :math:`\lambda_1`, against the sum (not the mean) of the steps' losses; on
        weights, not on biases.
    l2 : float, default=0.0
        The strength :math:`\lambda_2`, likewise.

    Notes
    -----
    The proximal term of beta is centred at the initial weights, which the paper takes as zero;
    centred at zero it would wipe out a network's random weights in the first step. Under a
    schedule the step size changes and the weights do not jump: the state is kept in units of
    weights, not of gradients.

    References
    ----------
    McMahan et al. (2013), "Ad click prediction: a view from the trenches", KDD, algorithm 1.

    Examples
    --------
    >>> from skdeep.training.optimizers import FTRL
    >>> FTRL(l1=0.5).hyperparameters().tolist()
    [1.0, 0.5, 0.0]
    """

    kernel_name = "ftrl"
    slots = ("leader", "root_sum_of_squares")
    _parameter_constraints: dict = {
        "learning_rate": POSITIVE,
        "beta": POSITIVE,
        "l1": NON_NEGATIVE,
        "l2": NON_NEGATIVE,
    }

    def __init__(self, learning_rate=0.1, beta=1.0, l1=0.0, l2=0.0):
        self.learning_rate = learning_rate
        self.beta = beta
        self.l1 = l1
        self.l2 = l2

    def hyperparameters(self):
        """Return the optimiser's own numbers: beta, l1, l2."""
        return np.array([self.beta, self.l1, self.l2], float)


@final
class LBFGS(Optimizer):
    """Limited-memory BFGS on the whole training set; there are no minibatches and no kernel.

    Parameters
    ----------
    max_iter : int, default=200
        Iterations at most.
    max_fun : int, default=15000
        Evaluations of the loss and its gradient at most.
    tol : float, default=1e-4
        Stop when no element of the (projected) gradient is larger.
    memory : int, default=10
        The pairs of steps and gradient differences that approximate the Hessian.

    References
    ----------
    Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization",
    Mathematical Programming 45.

    Examples
    --------
    >>> from skdeep.training.optimizers import LBFGS
    >>> LBFGS(memory=20).kernel is None
    True
    """

    _parameter_constraints: dict = {
        "max_iter": _COUNT,
        "max_fun": _COUNT,
        "tol": POSITIVE,
        "memory": _COUNT,
    }

    def __init__(self, max_iter=200, max_fun=15000, tol=1e-4, memory=10):
        self.max_iter = max_iter
        self.max_fun = max_fun
        self.tol = tol
        self.memory = memory

    def hyperparameters(self):
        """Return the kernel's numbers: none."""
        return np.zeros(0)
