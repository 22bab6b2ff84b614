"""Linear least squares, with or without a bound on the norm of the solution."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.optimize import brentq
from sklearn.exceptions import ConvergenceWarning

from skdeep.optimize._conditioning import EPS, as_matrix, is_real, warn_if_ill_conditioned


@dataclass(frozen=True)
class LstsqResult:
    """The solution of a least-squares problem.

    Parameters
    ----------
    x : ndarray of shape (n,) or (n, k)
        The solution; of least norm where the problem leaves a choice.
    residual_norm : float or ndarray of shape (k,)
        ``||A x - b||`` of each right-hand side.
    rank : int
        The number of singular values that count.
    condition_number : float
        The largest singular value of `A` over the smallest.
    multiplier : float or ndarray of shape (k,)
        The norm bound's Lagrange multiplier, 0 where the bound does not bind.
    """

    x: np.ndarray
    residual_norm: float | np.ndarray
    rank: int
    condition_number: float
    multiplier: float | np.ndarray


def lstsq(A, b, norm_bound=None, method="qr", *, rcond=None, tol=1e-10, max_iter=10_000):
    """Minimise ``||A x - b||``, if wanted subject to ``||x|| <= norm_bound``.

    Parameters
    ----------
    A : array-like of shape (m, n)
        The matrix, of any rank.
    b : array-like of shape (m,) or (m, k)
        One right-hand side, or k of them as columns; each is a problem of its own.
    norm_bound : float, default=None
        The largest Euclidean norm of the solution (of each column). Where it binds, the
        solution is ``(A.T A + multiplier I)^-1 A.T b``, ridge regression; the direct methods
        then solve the secular equation ``||x(multiplier)|| = norm_bound`` on the singular value
        decomposition (Golub and Van Loan, section 6.2.1).
    method : {"qr", "normal", "pinv", "gradient"}, default="qr"
        QR with column pivoting; the normal equations by Cholesky's factorisation (fast, but the
        condition number is squared); the pseudo-inverse; or gradient descent with Nesterov's
        acceleration and adaptive restarts, projected where there is a norm bound.
    rcond : float, default=None
        Singular values below `rcond` times the largest count as zero. None takes machine
        epsilon times max(m, n).
    tol : float, default=1e-10
        For "gradient": stop when the norm of the projected gradient, for `A` scaled to norm 1,
        has fallen to `tol` times ``||A.T b||``.
    max_iter : int, default=10000
        For "gradient": the most steps.

    Returns
    -------
    LstsqResult
        With attributes `x`, `residual_norm`, `rank`, `condition_number` and `multiplier`. The
        multiplier belongs to ``||A x - b||^2 / 2`` and ``(||x||^2 - norm_bound^2) / 2 <= 0``:
        ``A.T (A x - b) + multiplier * x = 0``, as in `minimize`.

    Raises
    ------
    TypeError
        If `A` or `b` is not real.
    ValueError
        If shapes do not match, entries are not finite, `method` is unknown or a setting is out
        of range.

    Warns
    -----
    IllConditionedWarning
        If the singular values that count span more than 1 / (10 epsilon), or, for the normal
        equations, more than 1 / sqrt(epsilon).
    sklearn.exceptions.ConvergenceWarning
        If "gradient" needs more than `max_iter` steps.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.optimize import lstsq
    >>> A, b = [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 3.0, 5.0]
    >>> result = lstsq(A, b)
    >>> print(np.round(result.x, 6), result.rank)
    [1. 2.] 2
    >>> bounded = lstsq(A, b, norm_bound=1.0)
    >>> print(round(float(np.linalg.norm(bounded.x)), 6), bounded.multiplier > 0)
    1.0 True
    """
    A, b, columns = _check(A, b, norm_bound, method, rcond, tol, max_iter)
    m, n = A.shape
    U, s, Vt = linalg.svd(A, full_matrices=False)
    cut = max(m, n) * EPS if rcond is None else rcond
    rank = int((s > cut * s[0]).sum())
    normal = method == "normal"
    if rank:
        warn_if_ill_conditioned(
            s[0] / s[rank - 1],
            EPS**-0.5 if normal else 0.1 / EPS,
            "the least-squares problem",
            "use method='qr' or 'pinv'" if normal else "raise rcond or rescale the columns of A",
        )
    svd = U[:, :rank], s[:rank], Vt[:rank]
    radius = np.inf if norm_bound is None else float(norm_bound)
    if method == "gradient":
        x, multiplier = _gradient(A, columns, s[0], radius, tol, max_iter)
    else:
        x = _DIRECT[method](A, columns, rank, svd)
        multiplier = np.zeros(columns.shape[1])
        for k in np.flatnonzero(np.linalg.norm(x, axis=0) > radius):
            x[:, k], multiplier[k] = _secular(svd, columns[:, k], radius)
    residual = np.linalg.norm(A @ x - columns, axis=0)
    one = b.ndim == 1
    return LstsqResult(
        x=x[:, 0] if one else x,
        residual_norm=float(residual[0]) if one else residual,
        rank=rank,
        condition_number=float(s[0] / s[-1]) if s[-1] > 0 else np.inf,
        multiplier=float(multiplier[0]) if one else multiplier,
    )


def _check(A, b, norm_bound, method, rcond, tol, max_iter):
    if method not in _DIRECT and method != "gradient":
        raise ValueError(f"method={method!r} must be 'qr', 'normal', 'pinv' or 'gradient'")
    for name, v in (("norm_bound", norm_bound), ("max_iter", max_iter)):
        if v is not None and not (is_real(v) and 0 < v < np.inf):
            raise ValueError(f"{name}={v!r} must be positive and finite")
    for name, v in (("rcond", rcond), ("tol", tol)):
        if v is not None and not (is_real(v) and 0 <= v < 1):
            raise ValueError(f"{name}={v!r} must be in [0, 1)")
    A, b = as_matrix(A), np.asarray(b)
    columns = as_matrix(b[:, None] if b.ndim == 1 else b, "b")
    if len(columns) != len(A):
        raise ValueError(f"b has {len(columns)} rows, but A has {len(A)}")
    return A, b, columns


def _by_qr(A, b, rank, svd):
    """Complete orthogonal decomposition: the solution of least norm from two QRs."""
    Q, R, p = linalg.qr(A, mode="economic", pivoting=True)
    Z, T = linalg.qr(R[:rank].T, mode="economic")  # R[:rank] = T.T @ Z.T
    x = np.empty((A.shape[1], b.shape[1]))
    x[p] = Z @ linalg.solve_triangular(T, Q[:, :rank].T @ b, trans="T") if rank else 0.0
    return x


def _by_normal_equations(A, b, rank, svd):
    m, n = A.shape
    wide = m < n
    gram, right = (A @ A.T, b) if wide else (A.T @ A, A.T @ b)
    if rank == min(m, n):
        try:
            y = linalg.cho_solve(linalg.cho_factor(gram), right)
            return A.T @ y if wide else y
        except linalg.LinAlgError:  # rounding has made it indefinite
            pass
    y = linalg.pinvh(gram) @ right
    return A.T @ y if wide else y


def _by_pseudo_inverse(A, b, rank, svd):
    U, s, Vt = svd
    return Vt.T @ ((U.T @ b) / s[:, None])


_DIRECT = {"qr": _by_qr, "normal": _by_normal_equations, "pinv": _by_pseudo_inverse}


def _secular(svd, b, radius):
    """Return (x, multiplier) with ||x|| = radius, shorter than the unconstrained solution."""
    U, s, Vt = svd
    c = s * (U.T @ b)

    def gap(lam):  # the reciprocal is nearly linear in the multiplier
        return 1 / radius - 1 / np.linalg.norm(c / (s * s + lam))

    top = np.linalg.norm(c) / radius  # ||x|| < ||A.T b|| / multiplier
    lam = brentq(gap, 0.0, top, xtol=4 * EPS * top, rtol=4 * EPS)
    return Vt.T @ (c / (s * s + lam)), lam


def _gradient(A, b, top, radius, tol, max_iter):
    """Return (x, multipliers) by accelerated projected gradient (O'Donoghue and Candes, 2015)."""
    x = np.zeros((A.shape[1], b.shape[1]))
    if top == 0:
        return x, np.zeros(b.shape[1])

    def project(z):
        if radius == np.inf:
            return z
        return z * (radius / np.maximum(np.linalg.norm(z, axis=0), radius))

    rate = 1 / top**2
    goal = tol * rate * np.linalg.norm(A.T @ b, axis=0)
    y, t = x, np.ones(b.shape[1])
    for _ in range(int(max_iter)):
        new = project(y - rate * (A.T @ (A @ y - b)))
        # A step against the gradient's direction means that the momentum overshoots.
        restart = ((y - new) * (new - x)).sum(axis=0) > 0
        t = np.where(restart, 1.0, t)
        t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = new + np.where(restart, 0.0, (t - 1) / t_new) * (new - x)
        x, t = new, t_new
        g = A.T @ (A @ x - b)
        if (np.linalg.norm(x - project(x - rate * g), axis=0) <= goal).all():
            break
    else:
        warnings.warn(
            f"lstsq(method='gradient') took max_iter={max_iter} steps without reaching "
            f"tol={tol:g}; raise max_iter or use method='qr'",
            ConvergenceWarning,
            stacklevel=3,
        )
    length = (x * x).sum(axis=0)
    binds = (np.sqrt(length) >= radius * (1 - 1e-12)) & (length > 0)
    pull = -(x * g).sum(axis=0) / np.where(binds, length, 1.0)
    return x, np.where(binds, np.maximum(pull, 0.0), 0.0)
