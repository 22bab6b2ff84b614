"""First-order methods: a table of update rules, and the one loop that runs them.

A rule is a function of the start and its settings; it returns ``update(x, g, rate)``, which gives
the next iterate from the gradient `g` at `x`.
"""

import numpy as np

from skdeep.optimize._conditioning import is_real


def gradient_descent(x0):
    """Steepest descent (Cauchy, 1847)."""
    return lambda x, g, rate: x - rate * g


def momentum(x0, *, momentum=0.9):
    """Gradient descent with momentum, the heavy ball (Polyak, 1964)."""
    v = np.zeros_like(x0)

    def update(x, g, rate):
        v[:] = momentum * v - rate * g
        return x + v

    return update


def nesterov(x0, *, momentum=0.9):
    """Nesterov's accelerated gradient (1983), by Sutskever et al. (2013) at the point ahead."""
    v = np.zeros_like(x0)

    def update(x, g, rate):
        v[:] = momentum * v - rate * g
        return x + momentum * v - rate * g

    return update


def adagrad(x0, *, epsilon=1e-10):
    """AdaGrad (Duchi, Hazan and Singer, 2011)."""
    s = np.zeros_like(x0)

    def update(x, g, rate):
        s[:] += g * g
        return x - rate * g / (np.sqrt(s) + epsilon)

    return update


def rmsprop(x0, *, rho=0.9, epsilon=1e-8):
    """RMSProp (Tieleman and Hinton, 2012)."""
    s = np.zeros_like(x0)

    def update(x, g, rate):
        s[:] = rho * s + (1 - rho) * g * g
        return x - rate * g / (np.sqrt(s) + epsilon)

    return update


def adam(x0, *, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """Adam (Kingma and Ba, 2015, algorithm 1)."""
    m, s, decay = np.zeros_like(x0), np.zeros_like(x0), [1.0, 1.0]

    def update(x, g, rate):
        m[:] = beta_1 * m + (1 - beta_1) * g
        s[:] = beta_2 * s + (1 - beta_2) * g * g
        decay[:] = decay[0] * beta_1, decay[1] * beta_2
        return x - rate * m / (1 - decay[0]) / (np.sqrt(s / (1 - decay[1])) + epsilon)

    return update


def ftrl(x0, *, l1=0.0, l2=0.0, beta=1.0):
    """FTRL-proximal (McMahan et al., 2013, algorithm 1), its first proximal term around x0."""
    s, z = np.zeros_like(x0), None

    def update(x, g, rate):
        nonlocal z
        z = -beta / rate * x if z is None else z
        s_new = s + g * g
        z = z + g - (np.sqrt(s_new) - np.sqrt(s)) / rate * x
        s[:] = s_new
        scale = (beta + np.sqrt(s)) / rate + l2
        shrunk = np.sign(z) * np.maximum(np.abs(z) - l1, 0.0)
        return -np.divide(shrunk, scale, out=-x, where=scale > 0)  # unseen so far: stay

    return update


#: method -> (rule, its default learning rate)
RULES = {
    "gradient-descent": (gradient_descent, 0.01),
    "momentum": (momentum, 0.01),
    "nesterov": (nesterov, 0.01),
    "adagrad": (adagrad, 0.5),
    "rmsprop": (rmsprop, 0.01),
    "adam": (adam, 0.05),
    "ftrl": (ftrl, 0.5),
}

#: settings that are decay rates, in [0, 1); the others are any number that is not negative
_DECAYS = ("momentum", "rho", "beta_1", "beta_2")


def make_rule(method, x0, learning_rate, options):
    """Check the settings; return the update and the learning rate as a function of the step."""
    rule, default = RULES[method]
    known = rule.__kwdefaults__ or {}
    for name, v in options.items():
        if name not in known:
            raise ValueError(
                f"options[{name!r}] is unknown to method={method!r}, "
                f"which takes {sorted(known) or 'none'}"
            )
        decay = name in _DECAYS
        if not (is_real(v) and (0 <= v < 1 if decay else 0 <= v < np.inf)):
            raise ValueError(
                f"options[{name!r}]={v!r} must be a number "
                + ("in [0, 1)" if decay else "that is finite and not negative")
            )
    rate = default if learning_rate is None else learning_rate
    if callable(rate):
        schedule = rate
        check_rate(schedule(0), "learning_rate(0)")
    else:
        check_rate(rate, "learning_rate")
        schedule = lambda step: rate  # noqa: E731
    return rule(x0, **options), schedule


def check_rate(rate, name):
    """Raise unless a learning rate is positive and finite."""
    if not (is_real(rate) and 0 < rate < np.inf):
        raise ValueError(f"{name}={rate!r} must be a positive, finite number")


def descend(objective, project, update, schedule, *, tol, max_iter, record):
    """Run a first-order method; return (x, status, message, number of steps).

    `project` maps onto the feasible set. The test of convergence is the projected gradient: the
    largest entry of x - project(x - g), which is that of g without bounds.
    """
    x = project(objective.x0)
    value, g = objective.both(x)
    best, best_fun = x, value
    record(x, value)
    for step in range(max_iter + 1):
        if np.abs(x - project(x - g)).max() <= tol:
            return x, 0, f"converged: the projected gradient is within tol={tol:g}", step
        if step == max_iter:
            break
        with np.errstate(all="ignore"):
            x = update(x, g, schedule(step))
            # A diverged point is not worth projecting, and may not be projectable.
            x = project(x) if np.isfinite(x).all() else x
        value, g = objective.both(x)
        record(x, value)
        why = objective.diverged(value, g, x)
        if why:
            return best, 3, f"{why} after {step + 1} steps; lower learning_rate", step + 1
        if value < best_fun:
            best, best_fun = x, value
    return best, 1, f"max_iter={max_iter} steps were not enough to reach tol={tol:g}", max_iter
