"""Checks of derivatives against finite differences."""

import numpy as np

from skdeep.autodiff._transforms import jvp, vjp
from skdeep.autodiff._tree import flatten, tree_map

_MODES = ("fwd", "rev")


def check_grads(f, args, order=2, modes=("fwd", "rev"), eps=None, rtol=1e-6, atol=1e-6):
    """Check a function's derivatives numerically.

    Along random directions, each mode's derivative is compared with a central finite difference
    in float64, and the two modes with each other: ``<vjp(ct), t> = <ct, jvp(t)>`` holds to
    rounding. Higher orders check the derivatives of the derivatives, in every sequence of modes.

    Parameters
    ----------
    f : callable
        A function of arrays or trees of arrays, smooth around the point.
    args : tuple
        The point; it is converted to float64.
    order : int, default=2
        The highest order of derivative to check.
    modes : sequence of {"fwd", "rev"}, default=("fwd", "rev")
        The modes to check.
    eps : float, default=None
        The step of the finite difference; if None, the cube root of the machine's epsilon, which
        balances truncation and rounding for values of order one.
    rtol, atol : float, default=1e-6
        The tolerance of the finite difference, relative to the larger of the two and absolute.

    Raises
    ------
    AssertionError
        If a derivative is wrong; it names the mode, the order and the largest error.
    ValueError
        If `order` or `modes` is not valid.

    References
    ----------
    Griewank and Walther, *Evaluating Derivatives*, 2nd edition (SIAM, 2008), section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.autodiff import check_grads
    >>> check_grads(lambda x, y: np.sin(x) * y, (0.5, np.array([1.0, 2.0])))
    """
    if order < 1:
        raise ValueError(f"order={order} must be at least 1")
    unknown = [m for m in modes if m not in _MODES] if not isinstance(modes, str) else [modes]
    if unknown or not modes:
        raise ValueError(f"modes={modes!r} must be a sequence of 'fwd' and 'rev'")
    args = tree_map(lambda x: np.asarray(x, np.float64), tuple(args))
    eps = np.cbrt(np.finfo(np.float64).eps) if eps is None else eps
    rng = np.random.default_rng(0)
    _check(f, args, order, tuple(modes), _Tolerance(eps, rtol, atol), rng, ())


class _Tolerance:
    """The step and the tolerances, and how to compare with them."""

    def __init__(self, eps, rtol, atol):
        self.eps, self.rtol, self.atol = eps, rtol, atol

    def compare(self, path, what, got, expected, rtol, atol):
        """Raise if two lists of arrays differ."""
        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
            g, e = np.asarray(g, np.float64), np.asarray(e, np.float64)
            where = f"order {len(path)}, mode {' of '.join(map(repr, path[::-1]))}, output {i}"
            if g.shape != e.shape:
                raise AssertionError(f"{where}: shape {g.shape}, but the value has {e.shape}")
            error = np.abs(g - e)
            bad = ~(error <= atol + rtol * np.maximum(np.abs(g), np.abs(e)))
            if bad.any():
                size = np.where(bad, np.where(np.isnan(error), np.inf, error), -1.0)
                worst = np.unravel_index(np.argmax(size), g.shape)
                raise AssertionError(
                    f"{where}: {what}: the largest error is {error[worst]:.3g} "
                    f"({g[worst]:.8g} instead of {e[worst]:.8g}, at {tuple(map(int, worst))})"
                )


def _check(f, args, order, modes, tolerance, rng, path):
    tangents = tree_map(lambda x: rng.standard_normal(x.shape), args)
    value = f(*args)
    cotangent = tree_map(lambda y: rng.standard_normal(np.shape(y)), value)
    numeric = _difference(f, args, tangents, tolerance.eps)
    tangent = None
    if "fwd" in modes:
        tangent = flatten(jvp(f, args, tangents)[1])[0]
        against = "the tangent against the finite difference"
        tolerance.compare(
            (*path, "fwd"), against, tangent, numeric, tolerance.rtol, tolerance.atol
        )
    if "rev" in modes:
        _check_pullback(f, args, tangents, cotangent, numeric, tangent, tolerance, path)
    if order == 1:
        return
    for mode in modes:
        g = _forward(f, tangents) if mode == "fwd" else _backward(f, cotangent)
        _check(g, args, order - 1, modes, tolerance, rng, (*path, mode))


def _check_pullback(f, args, tangents, cotangent, numeric, tangent, tolerance, path):
    """Check the pullback by its inner product with the tangents."""
    path, cts = (*path, "rev"), flatten(cotangent)[0]
    pulled, along = flatten(vjp(f, *args)[1](cotangent))[0], flatten(tangents)[0]
    for g, x in zip(pulled, flatten(args)[0], strict=True):
        if np.shape(g) != x.shape:
            raise AssertionError(f"order {len(path)}, mode {path}: a cotangent has another shape")
    got = [_inner(pulled, along)]
    # A sum of products errs as its terms do, not as their sum, which may cancel.
    scale = _inner(map(np.abs, cts), map(np.abs, numeric)) + _inner(
        map(np.abs, pulled), map(np.abs, along)
    )
    against = "<pullback(ct), t> against <ct, finite difference>"
    size = 1.0 + sum(np.abs(c).sum() for c in cts)
    atol = tolerance.atol * size + tolerance.rtol * scale
    tolerance.compare(path, against, got, [_inner(cts, numeric)], 0.0, atol)
    if tangent is not None:
        against = "<pullback(ct), t> against <ct, jvp(t)>, which are adjoint"
        tolerance.compare(path, against, got, [_inner(cts, tangent)], 0.0, 1e-11 * scale + 1e-14)


def _forward(f, tangents):
    return lambda *args: jvp(f, args, tangents)[1]


def _backward(f, cotangent):
    return lambda *args: vjp(f, *args)[1](cotangent)


def _inner(xs, ys):
    return sum(float(np.sum(x * y)) for x, y in zip(xs, ys, strict=True))


def _difference(f, args, tangents, eps):
    """Return the central difference of each output along a direction."""
    ahead, behind = (
        flatten(f(*tree_map(lambda x, t, s=s: x + s * t, args, tangents)))[0] for s in (eps, -eps)
    )
    return [
        (np.asarray(a, np.float64) - np.asarray(b, np.float64)) / (2 * eps)
        for a, b in zip(ahead, behind, strict=True)
    ]
