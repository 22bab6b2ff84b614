"""Linear algebra: solving, factorising and norms, on stacks of matrices.

Forward rules and adjoints follow Giles, "An extended collection of matrix derivative results for
forward and reverse mode algorithmic differentiation" (2008), Murray, "Differentiation of the
Cholesky decomposition" (2016), and Townsend, "Differentiating the singular value decomposition"
(2016).

A symmetric argument (of `cholesky`, `eigh`, `eigvalsh`) is taken to stay symmetric: its
derivative is the symmetric one. Derivatives of eigenvectors and singular vectors need distinct
eigenvalues and singular values; a pair that is equal contributes nothing.
"""

from typing import Literal, NamedTuple

import numpy as np

from skdeep.autodiff._trace import Primitive, ndim, shape
from skdeep.autodiff.ops._implements import as_array, implements
from skdeep.autodiff.ops.elementwise import times, where
from skdeep.autodiff.ops.index import diagonal, diagonal_matrix, tril, triu
from skdeep.autodiff.ops.products import matmul_p
from skdeep.autodiff.ops.shape import (
    broadcast_to,
    expand_dims,
    sum_,
    sum_to,
    swap,
)


def square_shape(a):
    """Return the shape of (a stack of) square matrices."""
    s = shape(a)
    if len(s) < 2 or s[-1] != s[-2]:
        raise np.linalg.LinAlgError(f"a square matrix is needed, not an array of shape {s}")
    return s


def _primitive(name, f, shape_, n_out=1):
    """Return the primitive of a NumPy function with `n_out` results."""

    def write(*args):
        results = f(*args[:-n_out])
        for out, r in zip(args[-n_out:], results if n_out > 1 else [results], strict=True):
            np.copyto(out, r)

    return Primitive(
        name,
        shape=shape_,
        lower=lambda args, outs: (write, (*args, *outs)),
        dtype=lambda *a: (np.result_type(*a),) * n_out,
        n_out=n_out,
    )


def _symmetric(a):
    return 0.5 * (a + swap(a))


def _column(v):
    return expand_dims(v, -1)


def _row(v):
    return expand_dims(v, -2)


def _or_zeros(ct, like):
    return np.zeros(shape(like), like.dtype) if ct is None else ct


# ---- inverse and solve ------------------------------------------------------------------------

inv_p = _primitive("inv", np.linalg.inv, square_shape)
inv_p.rules(
    lambda ct, ans, a: [lambda: -matmul_p(matmul_p(swap(ans), ct), swap(ans))],
    lambda tangents, ans, a: -matmul_p(matmul_p(ans, tangents[0]), ans),
)


@implements(np.linalg.inv)
def inv(a):
    """Return the inverse."""
    return inv_p(a)


def _solve_shape(a, b):
    n = square_shape(a)[-1]
    if shape(b)[-2] != n:
        raise ValueError(f"numpy.linalg.solve: shapes {shape(a)} and {shape(b)} do not fit")
    return (*np.broadcast_shapes(shape(a)[:-2], shape(b)[:-2]), n, shape(b)[-1])


solve_p = _primitive("solve", np.linalg.solve, _solve_shape)


def _solve_vjp(ct, ans, a, b):
    def by_b():
        return solve_p(swap(a), ct)

    return [
        lambda: sum_to(-matmul_p(by_b(), swap(ans)), shape(a)),
        lambda: sum_to(by_b(), shape(b)),
    ]


def _solve_jvp(tangents, ans, a, b):
    ta, tb = tangents
    right = 0.0 if tb is None else tb
    right = right if ta is None else right - matmul_p(ta, ans)
    return broadcast_to(solve_p(a, right), shape(ans))


solve_p.rules(_solve_vjp, _solve_jvp)


@implements(np.linalg.solve)
def solve(a, b):
    """Solve a x = b."""
    a, b = as_array(a), as_array(b)
    if ndim(b) > 1:
        return solve_p(a, b)
    return solve_p(a, _column(b))[..., 0]


# ---- determinants -----------------------------------------------------------------------------


def _trace_product(a, b):
    """Return the trace of a @ b."""
    return sum_(times(a, swap(b)), (-2, -1))


def _two(v):
    return expand_dims(v, (-2, -1))


det_p = _primitive("det", np.linalg.det, lambda a: square_shape(a)[:-2])
det_p.rules(
    lambda ct, ans, a: [lambda: _two(times(ct, ans)) * swap(inv_p(a))],
    lambda tangents, ans, a: times(ans, _trace_product(inv_p(a), tangents[0])),
)


@implements(np.linalg.det)
def det(a):
    """Return the determinant; its derivative needs a regular matrix."""
    return det_p(a)


class SlogdetResult(NamedTuple):
    """The sign and the logarithm of the absolute value of a determinant."""

    sign: object
    logabsdet: object


slogdet_p = _primitive(
    "slogdet", np.linalg.slogdet, lambda a: (square_shape(a)[:-2],) * 2, n_out=2
)
slogdet_p.rules(
    lambda ct, ans, a: [None if ct[1] is None else lambda: _two(ct[1]) * swap(inv_p(a))],
    lambda tangents, ans, a: (
        np.zeros(shape(ans[0]), ans[0].dtype),
        _trace_product(inv_p(a), tangents[0]),
    ),
)


@implements(np.linalg.slogdet)
def slogdet(a):
    """Return the sign and the logarithm of the determinant."""
    return SlogdetResult(*slogdet_p(a))


# ---- Cholesky ---------------------------------------------------------------------------------


def _half_lower(x):
    """Return the lower triangle with half the diagonal."""
    return tril(x) - 0.5 * diagonal_matrix(diagonal(x, 0, -2, -1))


def _cholesky_vjp(ct, ans, a):
    def rule():
        middle = _half_lower(matmul_p(swap(ans), ct))
        left = solve_p(swap(ans), middle)
        return _symmetric(swap(solve_p(swap(ans), swap(left))))

    return [rule]


def _cholesky_jvp(tangents, ans, a):
    left = solve_p(ans, _symmetric(tangents[0]))
    return matmul_p(ans, _half_lower(solve_p(ans, swap(left))))


cholesky_p = _primitive("cholesky", np.linalg.cholesky, square_shape)
cholesky_p.rules(_cholesky_vjp, _cholesky_jvp)


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """Return the triangular factor L of a = L L.T."""
    if upper:
        return swap(cholesky_p(swap(a)))
    return cholesky_p(a)


# ---- symmetric eigenvalues --------------------------------------------------------------------


class EighResult(NamedTuple):
    """Eigenvalues in ascending order, and eigenvectors in columns."""

    eigenvalues: object
    eigenvectors: object


def _reciprocal_gaps(w):
    """Return 1 / (w_j - w_i), and 0 where the two are equal."""
    gaps = _row(w) - _column(w)
    same = np.equal(gaps, 0)
    return where(same, 0.0, 1.0 / where(same, 1.0, gaps))


def _eigh_vjp(ct, ans, a):
    w, v = ans

    def rule():
        middle = diagonal_matrix(_or_zeros(ct[0], w))
        if ct[1] is not None:
            middle = middle + _reciprocal_gaps(w) * matmul_p(swap(v), ct[1])
        return _symmetric(matmul_p(matmul_p(v, middle), swap(v)))

    return [rule]


def _eigh_jvp(tangents, ans, a):
    w, v = ans
    turned = matmul_p(matmul_p(swap(v), _symmetric(tangents[0])), v)
    return diagonal(turned, 0, -2, -1), matmul_p(v, times(_reciprocal_gaps(w), turned))


def _triangles(upper):
    """Return the primitives of `eigh` and `eigvalsh` that read one triangle."""
    word: Literal["L", "U"] = "U" if upper else "L"
    pairs = _primitive(
        f"eigh_{word}",
        lambda a: np.linalg.eigh(a, word),
        lambda a: (square_shape(a)[:-1], square_shape(a)),
        n_out=2,
    ).rules(_eigh_vjp, _eigh_jvp)
    values = _primitive(
        f"eigvalsh_{word}", lambda a: np.linalg.eigvalsh(a, word), lambda a: square_shape(a)[:-1]
    ).rules(
        lambda ct, ans, a: _eigh_vjp((ct, None), pairs(a), a),
        lambda tangents, ans, a: _eigh_jvp(tangents, pairs(a), a)[0],
    )
    return pairs, values


eigh_lower, eigvalsh_lower = _triangles(False)
eigh_upper, eigvalsh_upper = _triangles(True)


@implements(np.linalg.eigh)
def eigh(a, UPLO="L"):
    """Return eigenvalues and eigenvectors of a symmetric matrix."""
    return EighResult(*(eigh_upper if UPLO.upper() == "U" else eigh_lower)(a))


@implements(np.linalg.eigvalsh)
def eigvalsh(a, UPLO="L"):
    """Return the eigenvalues of a symmetric matrix."""
    return (eigvalsh_upper if UPLO.upper() == "U" else eigvalsh_lower)(a)


# ---- singular values --------------------------------------------------------------------------


class SVDResult(NamedTuple):
    """Left singular vectors, singular values in descending order, right singular vectors."""

    U: object
    S: object
    Vh: object


def _svd_shapes(a):
    s = shape(a)
    k = min(s[-2:])
    return (*s[:-1], k), (*s[:-2], k), (*s[:-2], k, s[-1])


def _outside(basis, x):
    """Return what of x is not in the span of orthonormal columns."""
    return x - matmul_p(basis, matmul_p(swap(basis), x))


def _svd_vjp(ct, ans, a):
    u, s, vh = ans
    v = swap(vh)

    def rule():
        middle = diagonal_matrix(_or_zeros(ct[1], s))
        beside = None
        gaps = None if ct[0] is None and ct[2] is None else _reciprocal_gaps(np.square(s))
        if ct[0] is not None:
            turned = matmul_p(swap(u), ct[0])
            middle = middle + gaps * (turned - swap(turned)) * _row(s)
            if shape(a)[-2] > shape(a)[-1]:
                beside = matmul_p(_outside(u, ct[0]) / _row(s), vh)
        if ct[2] is not None:
            turned = matmul_p(vh, swap(ct[2]))
            middle = middle + _column(s) * gaps * (turned - swap(turned))
            if shape(a)[-2] < shape(a)[-1]:
                beside = matmul_p(u / _row(s), swap(_outside(v, swap(ct[2]))))
        inside = matmul_p(matmul_p(u, middle), vh)
        return inside if beside is None else inside + beside

    return [rule]


def _svd_jvp(tangents, ans, a):
    (t,) = tangents
    u, s, vh = ans
    v, gaps = swap(vh), _reciprocal_gaps(np.square(s))
    turned = matmul_p(matmul_p(swap(u), t), v)
    left = turned * _row(s)
    right = _column(s) * turned
    du = matmul_p(u, gaps * (left + swap(left)))
    dv = matmul_p(v, gaps * (right + swap(right)))
    if shape(a)[-2] > shape(a)[-1]:
        du = du + _outside(u, matmul_p(t, v)) / _row(s)
    if shape(a)[-2] < shape(a)[-1]:
        dv = dv + _outside(v, matmul_p(swap(t), u)) / _row(s)
    return du, diagonal(turned, 0, -2, -1), swap(dv)


svd_p = _primitive(
    "svd", lambda a: np.linalg.svd(a, full_matrices=False), _svd_shapes, n_out=3
).rules(_svd_vjp, _svd_jvp)


def _svdvals_jvp(tangents, ans, a):
    u, _, vh = svd_p(a)
    return sum_(times(matmul_p(swap(u), tangents[0]), vh), -1)


svdvals_p = _primitive(
    "svdvals", lambda a: np.linalg.svd(a, compute_uv=False), lambda a: _svd_shapes(a)[1]
).rules(lambda ct, ans, a: _svd_vjp((None, ct, None), svd_p(a), a), _svdvals_jvp)


@implements(np.linalg.svdvals)
def svdvals(x, /):
    """Return the singular values."""
    return svdvals_p(x)


@implements(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    """Return the thin singular value decomposition."""
    if not compute_uv:
        return svdvals_p(a)
    if full_matrices and shape(a)[-1] != shape(a)[-2]:
        raise TypeError(
            "numpy.linalg.svd of a traced array needs full_matrices=False: the vectors beyond "
            "the rank have no derivative"
        )
    return SVDResult(*svd_p(a))


# ---- QR and the pseudo-inverse ----------------------------------------------------------------


class QRResult(NamedTuple):
    """Orthonormal columns and an upper triangle."""

    Q: object
    R: object


def _qr_shapes(a):
    s = shape(a)
    if s[-2] < s[-1]:
        raise TypeError(
            f"numpy.linalg.qr of a traced array needs at least as many rows as columns: {s}"
        )
    return s, (*s[:-2], s[-1], s[-1])


def _by_inverse(x, r):
    """Return x r^-1."""
    return swap(solve_p(swap(r), swap(x)))


def _qr_vjp(ct, ans, a):
    q, r = ans

    def rule():
        q_bar, r_bar = _or_zeros(ct[0], q), _or_zeros(ct[1], r)
        m = matmul_p(r, swap(r_bar)) - matmul_p(swap(q_bar), q)
        mirrored = tril(m) + swap(tril(m, -1))
        return _by_inverse(q_bar + matmul_p(q, mirrored), swap(r))

    return [rule]


def _qr_jvp(tangents, ans, a):
    q, r = ans
    t = _by_inverse(tangents[0], r)
    turned = matmul_p(swap(q), t)
    below = tril(turned, -1)
    spin = below - swap(below)
    return matmul_p(q, spin - turned) + t, matmul_p(turned - spin, r)


qr_p = _primitive("qr", np.linalg.qr, _qr_shapes, n_out=2).rules(_qr_vjp, _qr_jvp)


@implements(np.linalg.qr)
def qr(a, mode="reduced"):
    """Return the thin QR decomposition of a matrix of full column rank."""
    square = shape(a)[-1] == shape(a)[-2]
    if mode not in ("reduced", "r") and not (mode == "complete" and square):
        raise TypeError(
            f"numpy.linalg.qr of a traced array: mode={mode!r} must be 'reduced' or 'r'"
        )
    q, r = qr_p(a)
    return triu(r) if mode == "r" else QRResult(q, r)


def _pinv_vjp(ct, ans, a):
    def rule():
        p, g = swap(ans), swap(ct)
        first = matmul_p(matmul_p(p, ct), p)
        second = _complement(a, ans, matmul_p(g, matmul_p(ans, p)))
        third = matmul_p(matmul_p(p, ans), g)
        return second + third - matmul_p(matmul_p(third, ans), a) - first

    return [rule]


def _complement(a, b, x):
    """Return (1 - a b) x."""
    return x - matmul_p(a, matmul_p(b, x))


def _pinv_jvp(tangents, ans, a):
    p, t = swap(ans), swap(tangents[0])
    first = matmul_p(matmul_p(ans, tangents[0]), ans)
    second = matmul_p(matmul_p(ans, p), t)
    third = _complement(ans, a, matmul_p(t, matmul_p(p, ans)))
    return second - matmul_p(matmul_p(second, a), ans) + third - first


pinv_p = _primitive(
    "pinv", np.linalg.pinv, lambda a: (*shape(a)[:-2], shape(a)[-1], shape(a)[-2])
).rules(_pinv_vjp, _pinv_jvp)


@implements(np.linalg.pinv)
def pinv(a):
    """Return the pseudo-inverse; its derivative holds where the rank stays the same."""
    return pinv_p(a)
