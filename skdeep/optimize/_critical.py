"""The second-derivative test."""

from dataclasses import dataclass

import numpy as np

from skdeep.optimize._conditioning import is_real
from skdeep.optimize._objective import Objective


@dataclass(frozen=True)
class CriticalPoint:
    """What the second-derivative test finds at a point.

    Parameters
    ----------
    kind : {"minimum", "maximum", "saddle", "inconclusive", "not critical"}
        The verdict.
    x : ndarray
        The point.
    fun : float
        The value of the function.
    jac : ndarray of shape x.shape
        The gradient.
    hess : ndarray of shape x.shape + x.shape
        The Hessian.
    eigenvalues : ndarray of shape (n,)
        The Hessian's eigenvalues, ascending; n is the size of `x`.
    eigenvectors : ndarray of shape (n, n)
        Column i belongs to eigenvalue i: a direction in the flattened `x`.
    """

    kind: str
    x: np.ndarray
    fun: float
    jac: np.ndarray
    hess: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


def classify_critical_point(f, x, args=(), *, tol=1e-6):
    """Say whether a point is a minimum, a maximum or a saddle of a function.

    The gradient says whether the point is critical; the signs of the Hessian's eigenvalues say
    of which kind (Nocedal and Wright, Numerical Optimization, theorems 2.2 to 2.4). Eigenvalues
    of both signs make a saddle; otherwise one that is zero leaves the test inconclusive.

    Parameters
    ----------
    f : callable
        ``f(x, *args)``, a scalar function in plain NumPy.
    x : float or array-like
        The point, of any shape.
    args : tuple, default=()
        Further arguments of `f`.
    tol : float, default=1e-6
        The point is critical if no entry of the gradient is larger; an eigenvalue is zero if it
        is below `tol` times the largest.

    Returns
    -------
    CriticalPoint
        With attributes `kind`, `x`, `fun`, `jac`, `hess`, `eigenvalues` and `eigenvectors`.

    Raises
    ------
    TypeError
        If `f` cannot be differentiated, or `x` is not real.
    ValueError
        If `f` is not scalar, or `x`, ``f(x)``, its gradient or its Hessian is not finite, or
        `tol` is negative.

    Examples
    --------
    >>> from skdeep.optimize import classify_critical_point
    >>> point = classify_critical_point(lambda v: v[0] ** 2 - v[1] ** 2, [0.0, 0.0])
    >>> point.kind
    'saddle'
    >>> point.eigenvalues
    array([-2.,  2.])
    """
    if not (is_real(tol) and tol >= 0):
        raise ValueError(f"tol={tol!r} must be a number that is not negative")
    objective = Objective(f, x, args)
    objective.check()
    value, g = objective.both(objective.x0)
    H = objective.hess(objective.x0)
    if not np.isfinite(H).all():
        raise ValueError("the Hessian at x is not finite; f is not smooth there")
    w, V = np.linalg.eigh(H)
    zero = tol * np.abs(w).max()
    if np.abs(g).max() > tol:
        kind = "not critical"
    elif w[0] < -zero and w[-1] > zero:
        kind = "saddle"
    elif w[0] > zero:
        kind = "minimum"
    elif w[-1] < -zero:
        kind = "maximum"
    else:
        kind = "inconclusive"
    shape = objective.shape
    point = objective.point(objective.x0)[()]
    return CriticalPoint(kind, point, value, g.reshape(shape)[()], H.reshape(shape * 2)[()], w, V)
