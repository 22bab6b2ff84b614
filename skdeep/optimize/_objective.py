"""The function to minimise, as the solvers see it: over flat float64 vectors, and counted."""

import numpy as np

from skdeep.autodiff import Unrecordable, hessian, hvp, value_and_grad

#: |f| beyond this multiple of max(1, |f(x0)|) counts as divergence.
EXPLOSION = 1e20


def check_point(x0, name="x0"):
    """Return a finite, real, non-empty point in float64."""
    x = np.asarray(x0)
    if x.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {x.dtype}; pass a real number or an array of them")
    if x.size == 0:
        raise ValueError(f"{name} is empty (shape {x.shape}); pass at least one number")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} contains NaN or infinity; start from a finite point")
    return x.astype(np.float64)


def differentiated(what, compute):
    """Run a first differentiation; an error says which function it was that cannot be."""
    try:
        return compute()
    except (TypeError, Unrecordable) as e:
        raise TypeError(f"{what} cannot be differentiated: {e}") from e


class Objective:
    """A scalar function of an array as a function of the flattened array.

    The last evaluation is remembered, since solvers ask for value and gradient apart; the best
    finite value seen is kept, for when a run diverges.
    """

    def __init__(self, f, x0, args=()):
        if not callable(f):
            raise TypeError(f"f={f!r} must be a function of an array")
        args = args if isinstance(args, tuple) else (args,)
        start = check_point(x0)
        self.shape, self.n, self.x0 = start.shape, start.size, start.reshape(-1)
        self.f = lambda x: f(x, *args)
        self._both, self._hessian = value_and_grad(self.f), hessian(self.f)
        self.nfev = self.njev = self.nhev = 0
        self.best_x, self.best_fun = self.x0, np.inf
        self._last = None

    def check(self):
        """Evaluate at the start; raise where the function will not do."""
        with np.errstate(all="ignore"):
            out = self.f(self.point(self.x0))
        if np.shape(out) != ():
            raise ValueError(
                f"f must return a scalar; it returned shape {np.shape(out)}. Take a sum or a norm"
            )
        value, g = differentiated("f", lambda: self.both(self.x0))
        if not (np.isfinite(value) and np.isfinite(g).all()):
            raise ValueError(
                f"f(x0)={value} with gradient {g.reshape(self.shape)}: both must be finite; "
                "start from another x0"
            )
        self.scale = max(1.0, float(np.abs(g).max()))
        self.limit = EXPLOSION * max(1.0, abs(value))

    def point(self, flat):
        """Return a copy of a flat vector in the shape of x0."""
        return np.array(flat, np.float64).reshape(self.shape)

    def value(self, flat):
        """Return the value alone."""
        if self._last is not None and np.array_equal(flat, self._last[0]):
            return self._last[1]
        self.nfev += 1
        with np.errstate(all="ignore"):  # what overflows is found by `diverged`
            return float(self.f(self.point(flat)))

    def both(self, flat):
        """Return value and flat gradient."""
        if self._last is None or not np.array_equal(flat, self._last[0]):
            self.nfev += 1
            self.njev += 1
            with np.errstate(all="ignore"):
                value, g = self._both(self.point(flat))
            value, g = float(value), np.asarray(g, np.float64).reshape(-1)
            if -np.inf < value < self.best_fun:
                self.best_x, self.best_fun = np.array(flat, np.float64), value
            self._last = np.array(flat, np.float64), value, g
        return self._last[1], self._last[2]

    def fun(self, flat):
        """Return the value; its gradient is remembered."""
        return self.both(flat)[0]

    def jac(self, flat):
        """Return a copy of the flat gradient."""
        return self.both(flat)[1].copy()

    def hess(self, flat):
        """Return the symmetric (n, n) Hessian."""
        self.nhev += 1
        with np.errstate(all="ignore"):
            H = self._hessian(self.point(flat)).reshape(self.n, self.n)
        return (H + H.T) / 2

    def hessp(self, flat, direction):
        """Return the product of the Hessian with a flat vector."""
        self.nhev += 1
        with np.errstate(all="ignore"):
            p = hvp(self.f, self.point(flat), self.point(direction))
        return np.asarray(p, np.float64).reshape(-1)

    def diverged(self, value, *arrays):
        """Return why a run has diverged, or None."""
        if not (np.isfinite(value) and all(np.isfinite(a).all() for a in arrays)):
            return "diverged: f, its gradient or x became NaN or infinite"
        if value > self.limit:
            return f"diverged: f grew to {value:.3g}"
        if value < -self.limit:
            return f"diverged: f seems unbounded below (it fell to {value:.3g})"
        return None
