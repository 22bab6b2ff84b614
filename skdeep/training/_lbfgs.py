"""Full-batch training by L-BFGS, over the same recorded gradients as minibatches."""

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.sparse as sp

from skdeep._compat import check_optimize_result
from skdeep.autodiff._program import record
from skdeep.autodiff._trace import Unrecordable
from skdeep.training._loop import NON_FINITE
from skdeep.training._step import Buffers, Data, Step


@dataclass(frozen=True)
class FullBatchResult:
    """The end of a full-batch minimisation.

    Parameters
    ----------
    fun : float
        The objective.
    n_iter : int
        Iterations made.
    stopped : bool
        Whether the callback stopped it.
    """

    fun: float
    n_iter: int
    stopped: bool


def minimize_network(network, loss, data, optimizer, *, alpha, seed, verbose=False, callback=None):
    """Minimise a network's loss over all samples at once; its arrays are updated in place.

    The search works in float64 whatever the network's dtype: a line search in float32 stops at
    the rounding of the objective.

    Parameters
    ----------
    network : Network
        A single net.
    loss : callable
        ``loss(raw, target)`` gives the samples' losses.
    data : Data
        The samples.
    optimizer : LBFGS
        Limits and tolerance.
    alpha : float
        Strength of the l2 penalty, divided by the samples' weight.
    seed : int
        The member's seed.
    verbose : bool or int, default=False
        Whether scipy prints.
    callback : callable, optional
        ``callback(value)`` after every iteration, with the objective reached, while the network
        holds the weights reached; a true result stops.

    Returns
    -------
    FullBatchResult
    """
    objective = _Objective(network, loss, data, alpha, seed)
    iterations, stopped = itertools.count(1), []

    def note(intermediate_result):
        value = float(intermediate_result.fun)
        if verbose:
            print(f"Iteration {next(iterations)}, loss = {value:.8f}")
        if callback is not None:
            network.data[...] = intermediate_result.x
            network.state_data[...] = objective.network.state_data
            if callback(value):
                stopped.append(True)
                raise StopIteration

    result = scipy.optimize.minimize(
        objective,
        objective.network.data[0].copy(),
        method="L-BFGS-B",
        jac=True,
        callback=note,
        options={
            "maxfun": optimizer.max_fun,
            "maxiter": optimizer.max_iter,
            "gtol": optimizer.tol,
            "maxcor": optimizer.memory,
        },
    )
    n_iter = result.nit
    if not stopped:
        n_iter = check_optimize_result("lbfgs", result, optimizer.max_iter)
    objective(result.x)  # the state (running statistics) of the weights that are kept
    network.data[...] = result.x
    network.state_data[...] = objective.network.state_data
    if not np.isfinite(network.data).all():
        raise ValueError(NON_FINITE)
    return FullBatchResult(float(result.fun), int(n_iter), bool(stopped))


class _Objective:
    """Loss plus penalty over all samples, and its gradient, as a function of the flat weights."""

    def __init__(self, network, loss, data, alpha, seed):
        self.network = network.astype(np.float64)
        x = data.x.toarray() if sp.issparse(data.x) else data.x
        x = np.ascontiguousarray(x, np.float64)
        y = data.y if data.y.dtype.kind == "i" else data.y.astype(np.float64)
        weight = np.ones(len(x)) if data.weight is None else data.weight.astype(np.float64)
        scale = 1 / weight.sum()
        self.weights = (weight * scale)[None]
        self.alpha = alpha * scale
        self.penalised = np.concatenate(
            [np.arange(a, b) for a, b, on in self.network.segments if on] or [[]]
        ).astype(int)
        nothing = _NoOptimizer()
        self.buffers = Buffers.allocate(
            self.network, [nothing], 1, [[0, 0]], [[0.0]] * 4, seeds=[seed]
        )
        order = np.arange(len(x))[None]
        step = Step(self.network, loss, nothing, Data(x, y), order, self.buffers)
        self.each = np.zeros((1, len(x)))
        args = (self.network.params, self.network.state, x[None], y[None], self.weights)
        into = ((self.each, self.network.state), self.network.views(self.buffers.grads))
        try:
            self.run = record(step.differentiate, args, into).compile()
        except Unrecordable:
            self.run = lambda: step.eager(args, into)

    def __call__(self, theta):
        data = self.network.data[0]
        data[:] = theta
        self.run()
        value, grad = float(np.sum(self.each * self.weights)), self.buffers.grads[0].copy()
        if self.alpha:
            w = data[self.penalised]
            value += 0.5 * self.alpha * float(w @ w)
            grad[self.penalised] += self.alpha * w
        return value, grad


class _NoOptimizer:
    """Stands where a step needs an optimiser's shape and has none."""

    slots = ()

    def hyperparameters(self):
        return np.zeros(1)
