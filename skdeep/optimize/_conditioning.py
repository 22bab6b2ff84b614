"""Condition numbers, and the warning that every solving path shares."""

import warnings
from numbers import Real

import numpy as np
from scipy.linalg import LinAlgWarning

EPS = float(np.finfo(np.float64).eps)


class IllConditionedWarning(LinAlgWarning):
    """A linear system is so ill-conditioned that its solution has few correct digits."""


def is_real(v):
    """Whether a setting is a real number (NaN is; it fails every comparison)."""
    return isinstance(v, Real) and not isinstance(v, bool)


def as_matrix(A, name="A"):
    """Return a finite, real, non-empty matrix in float64."""
    A = np.asarray(A)
    if A.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {A.dtype}; pass an array of real numbers")
    if A.ndim != 2 or A.size == 0:
        raise ValueError(f"{name} must be a non-empty matrix; its shape is {A.shape}")
    if not np.isfinite(A).all():
        raise ValueError(f"{name} contains NaN or infinity; remove or impute those entries")
    return A.astype(np.float64, copy=False)


def condition_number(A, p=2):
    """Return the condition number of a matrix: the norm of A times that of its inverse.

    A relative error in `b` grows by at most this factor in the solution of ``A x = b``
    (Golub and Van Loan, Matrix Computations, section 2.6.2).

    Parameters
    ----------
    A : array-like of shape (m, n)
        The matrix; square unless ``p=2``.
    p : {2, 1, numpy.inf, "fro"}, default=2
        The norm. With 2 it is the largest singular value over the smallest.

    Returns
    -------
    float
        At least 1; infinity for a singular matrix.

    Raises
    ------
    TypeError
        If `A` is not real.
    ValueError
        If `A` is not a finite, non-empty matrix, `p` is not a known norm, or `A` is not square
        and `p` is not 2.

    Examples
    --------
    >>> from skdeep.optimize import condition_number
    >>> condition_number([[2.0, 0.0], [0.0, 0.5]])
    4.0
    >>> condition_number([[1.0, 2.0], [2.0, 4.0]], p=1)
    inf
    """
    A = as_matrix(A)
    if p not in (2, 1, np.inf, "fro"):
        raise ValueError(f"p={p!r} must be 2, 1, numpy.inf or 'fro'")
    if p != 2 and A.shape[0] != A.shape[1]:
        raise ValueError(f"p={p!r} needs a square matrix; A has shape {A.shape}. Use p=2")
    return float(np.linalg.cond(A, p))


def warn_if_ill_conditioned(condition, limit, what, instead, stacklevel=3):
    """Warn when a condition number passes the limit; return whether it did."""
    bad = not condition <= limit
    if bad:
        warnings.warn(
            f"{what} is ill-conditioned: its condition number {condition:.1e} is above "
            f"{limit:.1e}; {instead}",
            IllConditionedWarning,
            stacklevel=stacklevel,
        )
    return bad
