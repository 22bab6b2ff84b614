"""One table of operations, each checked in every way that an operation must hold."""

import sys

import numpy as np
import pytest

from skdeep.autodiff import jvp, ops, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff._trace import Primitive
from skdeep.autodiff._tree import flatten
from skdeep.autodiff.ops.elementwise import UFUNCS


def draw(*shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape)


def apart(*shape, seed=0):
    """Numbers that finite differences do not bring to a tie, nor to zero."""
    n = int(np.prod(shape))
    order = np.random.default_rng([seed, n]).permutation(n)
    return ((order - n // 2 + 0.37 + 0.2 * seed) * (3.0 / n)).reshape(shape)


def spd(*batch, n=3):
    a = draw(*batch, n, n)
    return a @ np.swapaxes(a, -1, -2) + n * np.eye(n)


def sym(a):
    """The symmetric matrices, on which factorisations of symmetric matrices are defined."""
    return (a + np.swapaxes(a, -1, -2)) / 2


def squares(parts):
    """What does not depend on the signs that a factorisation chooses."""
    return [np.square(part) for part in parts]


def weighed(values, vectors):
    return values[..., None, :] * np.square(vectors)


X, Y = draw(3, 4), draw(3, 4, seed=1)
P, Q = draw(3, 4, low=0.3), draw(3, 4, low=0.3, seed=1)
U = draw(3, 4, low=-0.9, high=0.9)
A = apart(3, 4)
T = draw(2, 3, 4)
V, W = draw(5), draw(5, seed=1)
M = draw(4, 4) + 3 * np.eye(4)
S = draw(2, 3, 3) + 3 * np.eye(3)
IDS = np.array([[2, 0, 1, 1], [0, 0, 2, 1], [1, 2, 2, 0]])

UNARY = {
    "absolute": A,
    "arccos": U,
    "arccosh": P + 1.0,
    "arcsin": U,
    "arcsinh": X,
    "arctan": X,
    "arctanh": U,
    "cbrt": P,
    "conjugate": X,
    "cos": X,
    "cosh": X,
    "deg2rad": X,
    "degrees": X,
    "exp": X,
    "exp2": X,
    "expm1": X,
    "fabs": A,
    "log": P,
    "log10": P,
    "log1p": P,
    "log2": P,
    "negative": X,
    "positive": X,
    "rad2deg": X,
    "radians": X,
    "reciprocal": P,
    "sin": X,
    "sinc": X,
    "sinh": X,
    "sqrt": P,
    "square": X,
    "tan": U,
    "tanh": X,
}
BINARY = {
    "add": (X, Y),
    "arctan2": (X, P),
    "copysign": (A, apart(3, 4, seed=1)),
    "divide": (X, P),
    "fmax": (A, apart(3, 4, seed=1)),
    "fmin": (A, apart(3, 4, seed=1)),
    "fmod": (5 * A, P),
    "heaviside": (A, Y),
    "hypot": (X, Y),
    "logaddexp": (X, Y),
    "logaddexp2": (X, Y),
    "maximum": (A, apart(3, 4, seed=1)),
    "minimum": (A, apart(3, 4, seed=1)),
    "multiply": (X, Y),
    "power": (P, Y),
    "remainder": (5 * A, P),
    "subtract": (X, Y),
}
CASES = {name: (getattr(np, name), (x,)) for name, x in UNARY.items()}
CASES |= {name: (getattr(np, name), args) for name, args in BINARY.items()}
CASES |= {f"{name}: broadcast": (getattr(np, name), (a, b[:1])) for name, (a, b) in BINARY.items()}
CASES |= {
    "numbers on the left": (lambda x: 2.0 / x + 2.0**x + (3 - x) * 2, (P,)),
    "powers": (lambda x: x**2 + x**3 + x**-1 + x**0.5 + x**1 + x**0 + x**2.5, (P,)),
    "powers of negative numbers": (lambda x: x**2 + x**3 - x**4, (A,)),
    "mean of a mask": (lambda x: x * np.mean(x > 0), (A,)),
    "modf": (lambda x: np.modf(x)[0] + np.divmod(x, 0.7)[1], (A,)),
    "where": (lambda x, y: np.where(x > 0.1, x * y, y), (A, Y)),
    "where: broadcast": (lambda x, y: np.where(x > 0.1, y, 1.0), (A, draw(4))),
    "select": (lambda x: np.select([x > 1, x > 0], [x**2, 3 * x], -x), (A,)),
    "clip": (lambda x: np.clip(x, -0.5, 0.7) + np.clip(x, None, 1.0), (A,)),
    "clip: traced bounds": (lambda x, a, b: np.clip(x, a, b), (A, draw(4) - 2, draw(4) + 2)),
    "nan_to_num": (np.nan_to_num, (X,)),
    "real": (lambda x: np.real(x) + np.imag(x) + np.real_if_close(x), (X,)),
    "outer of a ufunc": (np.multiply.outer, (V, X)),
    "astype": (lambda x: x.astype(np.float64) * 2, (X,)),
    "full_like": (lambda x: np.full_like(x, x[0, 1]) * x, (X,)),
    # ---- moves of axes
    "reshape": (lambda x: np.reshape(x, (2, -1)) * 2, (X,)),
    "reshape: F": (lambda x: x.reshape(2, 6, order="F") * np.arange(6.0), (X,)),
    "ravel": (lambda x: np.ravel(x) + x.flatten(), (X,)),
    "transpose": (lambda x: np.transpose(x, (2, 0, 1)), (T,)),
    "transposed sum": (lambda x, b: np.sum(x.T * b, 0), (X, draw(3))),
    "matrix_transpose": (lambda x: np.matrix_transpose(x) * x.mT, (T,)),
    "swapaxes": (lambda x: np.swapaxes(x, 0, -1), (T,)),
    "moveaxis": (lambda x: np.moveaxis(x, (0, 1), (-1, 0)), (T,)),
    "rollaxis": (lambda x: np.rollaxis(x, 2, 1), (T,)),
    "rollaxis: to the end": (lambda x: np.rollaxis(x, 0, 3), (T,)),
    "expand_dims": (lambda x: np.expand_dims(x, (0, -1)), (X,)),
    "squeeze": (lambda x: np.squeeze(x[:, None]) + np.squeeze(x[None], 0), (X,)),
    "atleast": (lambda x: (np.atleast_1d(x[0]), np.atleast_2d(x), np.atleast_3d(x)), (V,)),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), (X,)),
    "broadcast_arrays": (lambda x, y: np.broadcast_arrays(x, y), (X, draw(4))),
    "meshgrid": (lambda x, y: np.meshgrid(x, y), (V, draw(3))),
    "meshgrid: ij": (lambda x, y: np.meshgrid(x, y, indexing="ij", sparse=True), (V, draw(3))),
    "copy": (lambda x: np.copy(x) * x.copy(), (X,)),
    # ---- joining and cutting
    "concatenate": (lambda x, y: np.concatenate([x, y, x], 1), (X, Y)),
    "concatenate: last": (lambda x, y: np.concatenate([x, y], -1), (X, Y)),
    "concatenate: many": (lambda x, y: np.concatenate([x, y] * 4, 1), (X, Y)),
    "concatenate: flat": (lambda x, y: np.concatenate([x, y], axis=None), (X, V)),
    "stack": (lambda x, y: np.stack([x, y], -1), (X, Y)),
    "vstack": (lambda x, y: np.vstack([x, y]), (X, draw(4))),
    "hstack": (lambda x, y: np.hstack([x, y]), (V, W)),
    "dstack": (lambda x, y: np.dstack([x, y]), (X, Y)),
    "column_stack": (lambda x, y: np.column_stack([x, y]), (X, draw(3))),
    "append": (lambda x, y: np.append(x, y), (X, V)),
    "split": (lambda x: np.split(x, 2, -1), (X,)),
    "array_split": (lambda x: np.array_split(x, 3, 1) + np.array_split(x, [1, 3], 1), (X,)),
    "hsplit": (lambda x: np.hsplit(x, 2) + np.vsplit(x, 3), (X,)),
    "dsplit": (lambda x: np.dsplit(x, [1]), (T,)),
    # ---- indexing
    "slices": (lambda x: x[1:, ::-2] * x[0, 1], (X,)),
    "index arrays": (lambda x: x[[0, 2, 0], 1] + x[np.array([1, 1, 2]), [3, 0, 0]], (X,)),
    "masks": (lambda x: x[np.arange(12).reshape(3, 4) % 3 == 0], (X,)),
    "iteration": (lambda x: sum(row * row for row in x), (X,)),
    "take": (lambda x: np.take(x, [2, 0, 2], 0), (X,)),
    "take: flat": (lambda x: np.take(x, IDS), (X,)),
    "take_along_axis": (lambda x: np.take_along_axis(x, IDS, 0), (X,)),
    "indices found": (
        lambda x: np.take_along_axis(x, np.argsort(x, 0), 0)[np.argmax(x[:, 0])],
        (A,),
    ),
    "compress": (lambda x: np.compress([True, False, True], x, 0), (X,)),
    "extract": (lambda x: np.extract(np.eye(3, 4) > 0, x), (X,)),
    "delete": (lambda x: np.delete(x, [1], 0), (X,)),
    "sort": (lambda x: np.sort(x, 0) * np.arange(4.0), (A,)),
    "partition": (lambda x: np.partition(x, 1, -1)[:, 1], (A,)),
    "flip": (lambda x: np.flip(x, 0) + np.fliplr(x) * np.flipud(x), (X,)),
    "rot90": (lambda x: [np.rot90(x, k) for k in range(4)], (X,)),
    "roll": (lambda x: np.roll(x, 5) + np.roll(x, (1, -1), (0, 1)), (X,)),
    "repeat": (lambda x: np.repeat(x, 2, 0), (X,)),
    "repeat: uneven": (lambda x: np.repeat(x, [1, 0, 2, 3], 1), (X,)),
    "tile": (lambda x: np.tile(x, (2, 1, 3)), (X,)),
    "pad": (lambda x: np.pad(x, ((1, 0), (2, 3)), constant_values=1.5), (X,)),
    "pad: modes": (
        lambda x: [np.pad(x, 2, mode=m) for m in ("edge", "reflect", "symmetric", "wrap")],
        (X,),
    ),
    "diag": (lambda x, v: np.diag(v, 1)[:3, :4] + np.diag(x)[:, None], (X, V)),
    "diagonal": (lambda x: np.diagonal(x, 1, 2, 1) + np.linalg.diagonal(x, offset=1)[:, :2], (T,)),
    "diagflat": (lambda x: np.diagflat(x[:2, :2], -1), (X,)),
    "triangles": (lambda x: np.tril(x, -1) + 2 * np.triu(x, 1), (T,)),
    "linspace": (lambda a, b: np.linspace(a, b, 6), (draw(3), draw(3, seed=1))),
    "diff": (lambda x: np.diff(x, 2, 0), (X,)),
    "diff: ends": (lambda x: np.diff(x, prepend=0.0, append=x[:, :1]), (X,)),
    "gradient": (lambda x: np.gradient(x), (T,)),
    "gradient: spacing": (lambda x: np.gradient(x, 0.5, 2.0, axis=(0, 2)), (draw(2, 1, 4),)),
    # ---- reductions
    "sum": (lambda x: np.sum(x, (0, 2)) + x.sum(axis=(0, -1)) + np.add.reduce(x).sum(-1), (T,)),
    "sum: keepdims": (lambda x: np.sum(x, 1, keepdims=True) * np.sum(x), (T,)),
    "sum: rows": (lambda x: np.sum(x, -1) * np.sum(x, axis=1), (X,)),
    "mean": (lambda x: np.mean(x, (0, 1)) + np.mean(x, -1, keepdims=True), (T,)),
    "prod": (lambda x: np.prod(x, (0, 2)) + np.prod(x, 1, keepdims=True)[0, 0, :3], (T,)),
    "prod: zeros": (lambda x: np.prod(x, 1) + x.prod(), (np.array([[0.0, 2, 3], [0, 0, 3]]),)),
    "product reduce": (lambda x: np.multiply.reduce(x) + np.multiply.accumulate(x)[0], (X,)),
    "cumsum": (lambda x: np.cumsum(x, 0) + np.add.accumulate(x, 1), (X,)),
    "cumsum: flat": (lambda x: np.cumsum(x), (X,)),
    "cumprod": (lambda x: np.cumprod(x, 1), (np.array([[1.0, 0, 2, 3, 4], [2, 3, 0, 0, 1]]),)),
    "var": (lambda x: np.var(x, 0) + np.var(x, (0, 1), ddof=1, keepdims=True)[0, 0], (T,)),
    "std": (lambda x: np.std(x, -1) * np.std(x), (X,)),
    "max": (lambda x: np.max(x, 0) + np.amax(x) + np.maximum.reduce(x), (A,)),
    "min": (lambda x: np.min(x, (0, 1), keepdims=True) + np.amin(x, 0), (A,)),
    "ptp": (lambda x: np.ptp(x, 1), (A,)),
    "median": (lambda x: np.median(x, 0) + np.median(x), (A,)),
    "quantile": (lambda x: np.quantile(x, [0.1, 0.55], 1) + np.percentile(x, 30), (A,)),
    "average": (lambda x, w: np.average(x, 0, np.exp(w)), (X, draw(3))),
    "cov": (lambda x, y: np.cov(x, y) + np.cov(x.T, y.T, rowvar=False), (X, Y)),
    "corrcoef": (lambda x: np.corrcoef(x), (X,)),
    "nan reductions": (
        lambda x: [f(np.where(x > 1.3, np.nan, x)) for f in
                   (np.nansum, np.nanprod, np.nanmean, np.nanmax, np.nanmin)],
        (A,),
    ),
    "trapezoid": (lambda y, x: np.trapezoid(y, x) + np.trapezoid(y, dx=0.5), (X, draw(4))),
    # ---- products
    "matmul": (np.matmul, (X, draw(4, 2))),
    "matmul: stacks": (np.matmul, (T, draw(4, 2))),
    "matmul: broadcast": (np.matmul, (draw(5, 1, 3, 4), draw(2, 4, 2))),
    "matmul: vectors": (lambda a, b, c: (a @ b, c @ a, c @ c, c @ T), (X, draw(4), draw(3))),
    "dot": (lambda a, b: np.dot(a, b) + a.dot(b) * np.dot(2.0, np.dot(b, b)[0, 0]), (M, M + 1)),
    "dot: many axes": (np.dot, (T, draw(5, 4, 2))),
    "inner": (lambda a, b: np.inner(a, b), (T, draw(5, 4))),
    "outer": (np.outer, (X, V)),
    "vdot": (lambda a, b: np.vdot(a, b) * a, (X, Y)),
    "vecdot": (lambda a, b: np.vecdot(a, b) + np.linalg.vecdot(a, b, axis=-1), (X, Y)),
    "tensordot": (lambda a, b: np.tensordot(a, b, ([0, 2], [2, 0])), (T, draw(4, 5, 2))),
    "tensordot: number": (
        lambda a, b: np.tensordot(a, b, 1) * np.tensordot(a, a, 3),
        (T, draw(4, 2)),
    ),
    "kron": (np.kron, (X, draw(2, 5))),
    "kron: axes": (np.kron, (T, draw(2))),
    "cross": (lambda a, b: np.cross(a, b, axis=0) + np.cross(a.T, b.T).T, (X, Y)),
    "trace": (lambda x: np.trace(x, 1, 1, 2) + np.linalg.trace(x), (T,)),
    "convolve": (
        lambda a, b: [np.convolve(a, b, m) for m in ("full", "same", "valid")],
        (V, draw(3)),
    ),
    "correlate": (lambda a, b: [np.correlate(a, b, m) for m in ("full", "valid")], (draw(3), V)),
    "polyval": (lambda p, x: np.polyval(p, x), (V, X)),
    "einsum: matmul": (lambda a, b: np.einsum("...ij,jk->...ik", a, b), (T, draw(4, 2))),
    "einsum: implicit": (lambda a, b: np.einsum("ij,kj", a, b), (X, Y)),
    "einsum: diagonal": (lambda a: np.einsum("ii->i", a) * np.einsum("ii", a), (M,)),
    "einsum: apart": (lambda a: np.einsum("iji->ji", a), (draw(3, 2, 3),)),
    "einsum: batch": (lambda a, b: np.einsum("bi,bi->b", a, b) + np.einsum("bi->b", a), (X, Y)),
    "einsum: sums alone": (lambda a, b: np.einsum("ij,kl->jk", a, b), (X, Y)),
    "einsum: three": (
        lambda a, b, c: np.einsum("ij,jk,kil->l", a, b, c),
        (X, draw(4, 2), draw(2, 3, 5)),
    ),
    "einsum: broadcast": (lambda a, b: np.einsum("...i,...i->...", a, b), (draw(2, 1, 4), Y)),
    "einsum: length one": (lambda a, b: np.einsum("i,ij->", a, b), (draw(1), X)),
    "einsum: lists": (lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]), (X, draw(4, 2))),
    "array API names": (
        lambda a, b: [
            np.linalg.matmul(a, b.T), np.linalg.tensordot(a, b.T, axes=1), np.concat([a, b]),
            np.linalg.outer(a[0], b[0]), np.linalg.cross(a.T, b.T), np.permute_dims(a, (1, 0)),
            np.linalg.matrix_transpose(a), np.minimum.reduce(a), np.around(a) * b,
        ],
        (A, Y),
    ),
    # ---- linear algebra
    "inv": (np.linalg.inv, (S,)),
    "solve": (np.linalg.solve, (S, draw(2, 3, 2))),
    "solve: vector": (np.linalg.solve, (M, draw(4))),
    "solve: broadcast": (np.linalg.solve, (M, draw(2, 4, 3))),
    "det": (np.linalg.det, (S,)),
    "slogdet": (lambda a: np.linalg.slogdet(a)[1] + np.linalg.slogdet(a).sign, (S,)),
    "cholesky": (lambda a: np.linalg.cholesky(sym(a)), (spd(2),)),
    "cholesky: upper": (lambda a: np.linalg.cholesky(sym(a), upper=True), (spd(),)),
    "eigvalsh": (lambda a: np.linalg.eigvalsh(sym(a)) + np.linalg.eigvalsh(sym(a), "U"), (S,)),
    "eigh": (lambda a: weighed(*np.linalg.eigh(sym(a))), (S,)),
    "eigh: upper": (lambda a: np.square(np.linalg.eigh(sym(a), "U").eigenvectors), (M,)),
    "svd: tall": (lambda a: squares(np.linalg.svd(a, full_matrices=False)), (draw(2, 4, 3),)),
    "svd: wide": (lambda a: squares(np.linalg.svd(a, full_matrices=False)), (X,)),
    "svd: square": (lambda a: weighed(np.linalg.svd(a).S, np.linalg.svd(a).U), (S,)),
    "svdvals": (lambda a: np.linalg.svdvals(a) * np.linalg.svd(a, compute_uv=False), (T,)),
    "qr": (lambda a: squares(np.linalg.qr(a)), (draw(2, 4, 3),)),
    "qr: r": (lambda a: np.square(np.linalg.qr(a, "r")), (S,)),
    "pinv": (np.linalg.pinv, (T,)),
    "pinv: tall": (np.linalg.pinv, (draw(4, 2),)),
    "cond": (lambda a: np.linalg.cond(a) + np.linalg.cond(a, 1) + np.linalg.cond(a, -2), (S,)),
    "matrix_power": (lambda a: [np.linalg.matrix_power(a, n) for n in (0, 1, 5, -2)], (S,)),
    "multi_dot": (
        lambda a, b, c, v: np.linalg.multi_dot([a, b, c]) + np.linalg.multi_dot([v, a, b, c]),
        (X, draw(4, 6), draw(6, 2), draw(3)),
    ),
    "norm": (lambda x: np.linalg.norm(x) + np.linalg.norm(x, axis=0, keepdims=True), (X,)),
    "norm: vectors": (
        lambda x: [np.linalg.norm(x, p, axis=-1) for p in (1, 2, 3, 1.5, np.inf, -np.inf, 0)],
        (A,),
    ),
    "norm: matrices": (
        lambda x: [np.linalg.norm(x, p) for p in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
        (A,),
    ),
    "norm: stacks": (lambda x: np.linalg.norm(x, "nuc", (0, 2), keepdims=True), (T,)),
    "array norms": (
        lambda x: np.linalg.vector_norm(x, axis=(0, 2)) + np.linalg.matrix_norm(x, ord=1)[0],
        (apart(2, 3, 4),),
    ),
    "rank and counts": (
        lambda x: x * np.linalg.matrix_rank(x) + np.count_nonzero(x > 0, axis=1, keepdims=True),
        (A,),
    ),
    # ---- constants
    "roundings": (lambda x: x * (np.floor(x) + np.round(x, 1) + np.sign(x) + np.rint(x)), (A,)),
    "masks made of masks": (
        lambda x: x * (~np.isclose(x, 0.5) & np.logical_not(np.isneginf(x) | np.isposinf(x)))
        * (np.all(x > 9) ^ np.any(x > 0)),
        (A,),
    ),
    "places": (
        lambda x: x * np.argmin(x, 0) + np.searchsorted(np.arange(4.0), x)
        + np.digitize(x, np.arange(3.0)) + np.argpartition(x, 1)[:, 1:2],
        (A,),
    ),
    "comparisons": (
        lambda x: [x * f(x, 0.5) for f in (
            np.greater, np.less, np.greater_equal, np.less_equal, np.equal, np.not_equal,
            np.logical_and, np.logical_or, np.logical_xor, np.floor_divide,
        )],
        (A,),
    ),
    "questions": (
        lambda x: [x * f(x) for f in (
            np.isfinite, np.isinf, np.isnan, np.isreal, np.iscomplex, np.isneginf, np.isposinf,
            np.signbit, np.ceil, np.floor, np.rint, np.trunc, np.sign, np.spacing, np.round,
            np.argmax, np.argmin, np.any, np.all, np.count_nonzero,
        )],
        (A,),
    ),
    "integers": (lambda x: x * ((x > 0) & ~(x > 1) | (x < -1) ^ (x < 0)) * x.astype(int), (A,)),
}  # fmt: skip

if np.lib.NumpyVersion(np.__version__) >= "2.2.0":
    CASES |= {
        "matvec": (lambda a, v: np.matvec(a, v), (T, draw(4))),
        "vecmat": (lambda v, a: np.vecmat(v, a), (draw(2, 3), T)),
        "unstack": (lambda x: np.unstack(x, axis=1), (X,)),
        "numpy.astype": (lambda x: np.astype(x * 3, x.dtype), (X,)),
    }

# Functions of skdeep.autodiff.ops have no twin in NumPy: the reference is written out.
OWN = {
    "softmax": (ops.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True), (T,)),
    "softmax: axes": (
        lambda x: ops.softmax(x, axis=(0, 1)),
        lambda x: np.exp(x) / np.exp(x).sum((0, 1)),
        (T,),
    ),
    "log_softmax": (
        lambda x: ops.log_softmax(x, 0),
        lambda x: np.log(np.exp(x) / np.exp(x).sum(0)),
        (X,),
    ),
    "logsumexp": (
        lambda x: ops.logsumexp(x, (0, 2), keepdims=True) + np.logaddexp.reduce(x).sum(),
        lambda x: np.log(np.exp(x).sum((0, 2), keepdims=True)) + np.log(np.exp(x).sum(0)).sum(),
        (T,),
    ),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), (X,)),
    "softplus": (ops.softplus, lambda x: np.log1p(np.exp(x)), (X,)),
    "log_sigmoid": (ops.log_sigmoid, lambda x: -np.log1p(np.exp(-x)), (X,)),
    "cross_entropy": (
        lambda x: ops.cross_entropy(x, IDS[:, 0]),
        lambda x: -np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))[np.arange(3), IDS[:, 0]],
        (X,),
    ),
    "cross_entropy: labels along an axis": (
        lambda x: ops.cross_entropy(x, IDS[0] % 3, axis=0),
        lambda x: -np.log(np.exp(x) / np.exp(x).sum(0))[IDS[0] % 3, np.arange(4)],
        (X,),
    ),
    "cross_entropy: probabilities": (
        lambda x, p: ops.cross_entropy(x, p),
        lambda x, p: -(p * np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))).sum(-1),
        (X, P),
    ),
    "binary_cross_entropy": (
        lambda x, p: ops.binary_cross_entropy(x, p / 3),
        lambda x, p: p / 3 * np.log(1 + np.exp(-x)) + (1 - p / 3) * np.log(1 + np.exp(x)),
        (X, P),
    ),
}  # fmt: skip

REFERENCES = {name: f for name, (f, _) in CASES.items()} | {k: r for k, (_, r, _) in OWN.items()}
CASES |= {name: (f, args) for name, (f, _, args) in OWN.items()}
every_case = pytest.mark.parametrize("name", CASES)


def listed(f):
    """Return f with its outputs as a list, whatever containers they are in."""
    return lambda *args: flatten(f(*args))[0]


def directions(arrays, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=np.shape(a)), np.asarray(a).dtype) for a in arrays]


def inner(left, right):
    return float(sum(np.sum(np.asarray(a) * b) for a, b in zip(left, right, strict=True)))


def check_derivative(f, args):
    """Compare the JVP with finite differences, and the pullback with the JVP."""
    ts = directions(args, 1)
    value, tangent = jvp(f, args, ts)
    h = 1e-6  # rounding and truncation errors are both about 1e-10 of the function's scale
    ahead = f(*[x + h * t for x, t in zip(args, ts, strict=True)])
    behind = f(*[x - h * t for x, t in zip(args, ts, strict=True)])
    for got, a, b in zip(tangent, ahead, behind, strict=True):
        scale = 1.0 + np.max(np.abs(a), initial=0.0)
        np.testing.assert_allclose(got, (a - b) / (2 * h), rtol=2e-6, atol=2e-8 * scale)
    _, pullback = vjp(f, *args)
    cts = directions(value, 2)
    got = pullback(cts)
    scale = sum(np.sum(np.abs(np.asarray(g) * t)) for g, t in zip(got, ts, strict=True))
    # The same sums in another order: what rounding allows.
    assert abs(inner(got, ts) - inner(cts, tangent)) <= 1e-9 * (1.0 + scale)


@every_case
def test_value(name):
    f, args = CASES[name]
    expected = listed(REFERENCES[name])(*args)
    got, _ = vjp(listed(f), *args)
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        # Sums may run in another order than NumPy's.
        np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-13)


@every_case
def test_first_order(name):
    f, args = CASES[name]
    check_derivative(listed(f), args)


@every_case
def test_second_order(name):
    f, args = CASES[name]
    f = listed(f)
    cts, ts = directions(f(*args), 3), directions(args, 4)
    check_derivative(lambda *x: list(vjp(f, *x)[1](cts)), args)
    check_derivative(lambda *x: jvp(f, x, ts)[1], args)


#: NumPy computes these in float64 whatever the input; here float32 stays float32.
WIDENED = {"quantile", "cov", "corrcoef"}


@every_case
def test_float32_stays_float32(name):
    f, args = CASES[name]
    f, args = listed(f), [a.astype(np.float32) for a in args]
    value, pullback = vjp(f, *args)
    expected = [np.asarray(v).dtype for v in listed(REFERENCES[name])(*args)]
    assert [v.dtype for v in value] == (["float32"] if name in WIDENED else expected)
    cts = directions(value, 5)
    assert {g.dtype for g in pullback(cts)} == {np.dtype(np.float32)}
    ts = directions(args, 6)
    _, tangent = jvp(f, args, ts)
    assert [t.dtype for t in tangent] == [np.asarray(v).dtype for v in value]
    expected = vjp(f, *[a.astype(np.float64) for a in args])[1]
    expected = expected([np.asarray(c, np.float64) for c in cts])
    for g, e in zip(pullback(cts), expected, strict=True):
        # A few hundred roundings of 6e-8, some on differences.
        np.testing.assert_allclose(g, e, rtol=2e-3, atol=2e-3 * (1 + np.max(np.abs(e))))


def value_and_cotangents(f, cts):
    def step(*x):
        value, pullback = vjp(f, *x)
        return [*value, *pullback([c.astype(v.dtype) for c, v in zip(cts, value, strict=True)])]

    return step


@every_case
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_replay_equals_eager(name, dtype):
    f, args = CASES[name]
    f, args = listed(f), [a.astype(dtype) for a in args]

    step = value_and_cotangents(f, directions(f(*args), 7))
    expected = step(*args)
    into = [np.full(np.shape(e), np.nan, e.dtype) for e in expected]
    record(step, tuple(args), into).run()
    for got, e in zip(into, expected, strict=True):
        np.testing.assert_array_equal(got, e)


def all_primitives():
    """Return the primitives of the modules that stand in for NumPy, and of the softmax family."""
    names = "discrete einsum elementwise index linalg linalg_norms products reduce shape"
    modules = [sys.modules[f"{ops.__name__}.{m}"] for m in [*names.split(), "logits"]]
    held = [p for m in modules for p in vars(m).values() if isinstance(p, Primitive)]
    return {id(p): p for p in [*held, *UFUNCS.values()]}


def test_every_primitive_is_in_the_table(monkeypatch):
    seen, call = set(), Primitive.__call__

    def watched(self, *args, **kw):
        seen.add(id(self))
        return call(self, *args, **kw)

    monkeypatch.setattr(Primitive, "__call__", watched)
    for f, args in CASES.values():
        step = value_and_cotangents(listed(f), directions(listed(f)(*args), 8))
        record(step, args, [np.empty_like(v) for v in step(*args)])
    assert {p.name for k, p in all_primitives().items() if k not in seen} == set()
