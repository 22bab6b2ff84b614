import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from skdeep.training import optimizers
from skdeep.training.optimizers import (
    FTRL,
    LBFGS,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    RMSProp,
)

STEPS, SIZE = 50, 37
EVERY = [SGD(), Momentum(), Nesterov(), AdaGrad(), RMSProp(), RMSProp(momentum=0.9)]
EVERY += [Adam(), AdamW(), FTRL(), LBFGS()]
MINIBATCH = EVERY[:-1]

# 50 steps of float64 accumulate some hundred roundings of numbers near 1. In float32 the same
# count gives 50 * 2 * 6e-8; the quotients of Adam's kin, near 1 in size however small the
# gradient, add about as much times the rate.
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


@pytest.fixture(scope="module")
def problem():
    """A noisy quadratic: its start, and the gradient of step t at p."""
    rng = np.random.default_rng(0)
    start, curvature = rng.normal(size=SIZE), rng.uniform(0.2, 2, size=SIZE)
    noise = rng.normal(size=(STEPS, SIZE))
    return start, lambda p, t: curvature * p + 0.3 * noise[t]


def follow(optimizer, problem, dtype):
    """Return the weights after every step of our kernel."""
    start, gradient = problem
    p = start.astype(dtype)[None]
    states = [np.full_like(p, optimizer.initial_state(name)) for name in optimizer.slots]
    states += [np.zeros((1, 0), dtype)] * (2 - len(states))
    rates = np.full((1, STEPS), optimizer.learning_rate, dtype)
    hyper, none, scale = optimizer.hyperparameters()[None], np.zeros((1, 2), dtype), np.ones(1)
    segments, counters = np.array([[0, SIZE, 1]], np.int64), np.zeros((1, 4), np.int64)
    history = []
    for t in range(STEPS):
        g = gradient(p[0], t).astype(dtype)[None]
        args = (p, g, *states, rates, hyper, none, scale.astype(dtype), segments, counters)
        optimizer.kernel[dtype](*args)
        counters[:, :2] += 1
        history.append(p[0].copy())
    return np.array(history)


# ---- against scikit-learn and torch -----------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), lambda w: SGDOptimizer(w, 0.1, momentum=0.0, nesterov=False)),
        (Momentum(0.1, 0.8), lambda w: SGDOptimizer(w, 0.1, momentum=0.8, nesterov=False)),
        (Nesterov(0.1, 0.8), lambda w: SGDOptimizer(w, 0.1, momentum=0.8, nesterov=True)),
        (Adam(0.1), lambda w: AdamOptimizer(w, 0.1)),
        (
            Adam(0.05, 0.7, 0.95, 1e-3),
            lambda w: AdamOptimizer(w, 0.05, beta_1=0.7, beta_2=0.95, epsilon=1e-3),
        ),
    ],
)
def test_follows_scikit_learn(ours, theirs, problem, dtype):
    start, gradient = problem
    w = start.copy()
    peer = theirs([w])
    history = []
    for t in range(STEPS):
        peer.update_params([w], [gradient(w, t)])
        history.append(w.copy())
    np.testing.assert_allclose(
        follow(ours, problem, dtype), history, rtol=0, atol=TOLERANCE[dtype]
    )


# torch adds epsilon after Adam's bias correction, we before it: an epsilon that vanishes tells
# the rest apart. Elsewhere it stands at the same place.
TORCH = [
    (SGD(0.1), "SGD", dict(lr=0.1)),
    (Momentum(0.1, 0.8), "SGD", dict(lr=0.1, momentum=0.8)),
    (Nesterov(0.1, 0.8), "SGD", dict(lr=0.1, momentum=0.8, nesterov=True)),
    (
        AdaGrad(0.1, 0.2, 1e-3),
        "Adagrad",
        dict(lr=0.1, initial_accumulator_value=0.2, eps=1e-3),
    ),
    (RMSProp(0.01, 0.8, 1e-3), "RMSprop", dict(lr=0.01, alpha=0.8, eps=1e-3)),
    (
        RMSProp(0.01, 0.8, 1e-3, 0.7),
        "RMSprop",
        dict(lr=0.01, alpha=0.8, eps=1e-3, momentum=0.7),
    ),
    (Adam(0.1, epsilon=1e-30), "Adam", dict(lr=0.1, eps=1e-30)),
    (
        AdamW(0.1, 0.8, 0.9, 1e-30, 0.05),
        "AdamW",
        dict(lr=0.1, betas=(0.8, 0.9), eps=1e-30, weight_decay=0.05),
    ),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("ours", "name", "options"), TORCH)
def test_follows_torch(ours, name, options, problem, dtype):
    torch = pytest.importorskip("torch")
    start, gradient = problem
    w = torch.tensor(start, dtype=torch.float64)
    peer = getattr(torch.optim, name)([w], **options)
    history = []
    for t in range(STEPS):
        w.grad = torch.tensor(gradient(w.numpy(), t))
        peer.step()
        history.append(w.numpy().copy())
    np.testing.assert_allclose(
        follow(ours, problem, dtype), history, rtol=0, atol=TOLERANCE[dtype]
    )


def test_adamw_without_decay_is_adam(problem):
    adam, adamw = (follow(o, problem, np.float32) for o in (Adam(), AdamW(weight_decay=0)))
    np.testing.assert_array_equal(adam, adamw)


@pytest.mark.parametrize(
    "optimizer", [clone(o).set_params(learning_rate=0.1) for o in MINIBATCH], ids=repr
)
def test_goes_downhill(optimizer, problem):
    start, gradient = problem
    end = follow(optimizer, (start, lambda p, t: gradient(p, t) - gradient(0, t)), np.float64)[-1]
    assert np.linalg.norm(end) < 0.8 * np.linalg.norm(start)


# ---- the specification ------------------------------------------------------------------------


def test_every_optimizer_is_listed():
    found = {
        c
        for c in vars(optimizers).values()
        if isinstance(c, type) and issubclass(c, Optimizer) and c is not Optimizer
    }
    assert found == {type(o) for o in EVERY}


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_defaults_are_valid_and_cloned(optimizer):
    optimizer.validate()
    assert clone(optimizer).get_params() == optimizer.get_params()
    assert set(optimizer._parameter_constraints) == set(optimizer.get_params())


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_numbers_for_the_kernel(optimizer):
    numbers = optimizer.hyperparameters()
    assert numbers.dtype == np.float64
    assert numbers.ndim == 1
    own = {k: v for k, v in optimizer.get_params().items() if k != "learning_rate"}
    if isinstance(optimizer, LBFGS):
        assert optimizer.kernel is None
        assert numbers.size == 0
    else:
        assert set(numbers) - {0.0} <= set(own.values())
        assert optimizer.kernel.__name__ == optimizer.kernel_name


def test_state_of_an_optimizer():
    assert AdaGrad(initial_accumulator=0.5).initial_state("accumulator") == 0.5
    assert Adam().initial_state("second_moment") == 0.0
    for optimizer in (Adam(), AdaGrad()):
        with pytest.raises(ValueError, match="name='velocity' is no state of Ada"):
            optimizer.initial_state("velocity")


def test_rmsprop_stores_a_velocity_only_where_it_has_one():
    plain, heavy = RMSProp(), RMSProp(momentum=0.5)
    assert (len(plain.slots), plain.kernel.__name__) == (1, "rmsprop")
    assert (len(heavy.slots), heavy.kernel.__name__) == (2, "rmsprop_momentum")
    # Numbers of different length cannot be stacked into a group by mistake.
    assert len(plain.hyperparameters()) != len(heavy.hyperparameters())


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (SGD(0), "learning_rate"),
        (SGD(float("nan")), "learning_rate"),
        (SGD("fast"), "learning_rate"),
        (Momentum(momentum=1.1), "momentum"),
        (Nesterov(momentum=-0.1), "momentum"),
        (AdaGrad(initial_accumulator=-1), "initial_accumulator"),
        (AdaGrad(epsilon=0), "epsilon"),
        (RMSProp(rho=1), "rho"),
        (RMSProp(momentum=None), "momentum"),
        (Adam(beta_1=1), "beta_1"),
        (Adam(beta_2=-0.5), "beta_2"),
        (AdamW(weight_decay=-1), "weight_decay"),
        (FTRL(beta=0), "beta"),
        (FTRL(l1=-1), "l1"),
        (FTRL(l2=-1), "l2"),
        (LBFGS(max_iter=0), "max_iter"),
        (LBFGS(memory=2.5), "memory"),
    ],
)
def test_a_wrong_parameter_is_named(optimizer, name):
    value = getattr(optimizer, name)
    message = f"The '{name}' parameter of {type(optimizer).__name__} must be .* Got {value!r} "
    with pytest.raises(ValueError, match=message):
        optimizer.validate()


def test_specifications_import_no_numba():
    code = "import sys, skdeep.training.optimizers; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
