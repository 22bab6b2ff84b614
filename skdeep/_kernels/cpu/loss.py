"""Losses and their pullbacks.

Raw predictions are (M, B, K), per-sample losses (M, B). Targets and labels may be shared by the
members: their first axis is then 1.
"""

import numpy as np

from skdeep._kernels import scalar
from skdeep._kernels.cpu._numba import as_c, kernel
from skdeep._kernels.cpu.activation import named


@kernel("f3 l2 f1 f2 f3")
def softmax_cross_entropy(z, labels, smoothing, loss, p):
    """loss = -sum(t log p), p = softmax(z), t = (1 - smoothing) onehot + smoothing / K.

    An impossible label gives NaN.
    """
    T = p.dtype.type
    k = p.shape[2]
    for m in range(p.shape[0]):
        x, o, out = as_c(z[m]), as_c(p[m]), as_c(loss[m])
        y = labels[m if labels.shape[0] > 1 else 0]
        eps = smoothing[m if smoothing.size > 1 else 0]
        for i in range(out.size):
            r, q, yi = x[i], o[i], y[i]
            top = r[0]
            for j in range(1, k):
                top = r[j] if r[j] > top else top
            for j in range(k):
                q[j] = r[j] - top
            t = q[yi] if 0 <= yi < k else T(np.nan)
            if eps != T(0):
                s = T(0)
                for j in range(k):
                    s += q[j]
                t += eps * (s / T(k) - t)
            out[i] = -t
        e = o.reshape(-1)  # in one run, because short rows would waste the vector lanes of exp
        for i in range(e.size):
            e[i] = scalar.exp(e[i])
        for i in range(out.size):
            q = o[i]
            s = q[0]
            for j in range(1, k):
                s += q[j]
            for j in range(k):
                q[j] /= s
            out[i] += np.log(s)


@kernel("f3 l2 f1 f2 f3")
def softmax_cross_entropy_pullback(p, labels, smoothing, ct, out):
    """out = (p - t) ct, with t as in `softmax_cross_entropy`; out may be p."""
    T = out.dtype.type
    k = out.shape[2]
    for m in range(out.shape[0]):
        q, c, o = as_c(p[m]), as_c(ct[m]), as_c(out[m])
        y = labels[m if labels.shape[0] > 1 else 0]
        eps = smoothing[m if smoothing.size > 1 else 0]
        rest = eps / T(k)
        if q.ctypes.data != o.ctypes.data:  # then one name for both, or the loop is not vectorised
            for i in range(o.shape[0]):
                a, b = q[i], o[i]
                for j in range(k):
                    b[j] = a[j]
        for i in range(o.shape[0]):
            row, yi, ci = o[i], y[i], c[i]
            hit = row[yi] if 0 <= yi < k else T(np.nan)
            for j in range(k):
                row[j] = ci * (row[j] - rest)
            if 0 <= yi < k:
                row[yi] = ci * ((hit - T(1)) + (eps - rest))


@kernel("l2 f3")
def one_column(labels, out):
    """out (M, B, 1) = labels 0 and 1 (M or 1, B) in the floating dtype."""
    for m in range(out.shape[0]):
        y, o = labels[m if labels.shape[0] > 1 else 0], out[m]
        for i in range(y.size):
            o[i, 0] = y[i]


# ---- pointwise losses -------------------------------------------------------------------------

_NAMES = "binary_cross_entropy squared_hinge squared_error huber poisson"
#: Pointwise loss -> its scalar bodies by order of derivative.
BODIES = {
    n: tuple(getattr(scalar, f"{n}_{order}", scalar.constant_1) for order in range(3))
    for n in _NAMES.split()
} | {
    n: (getattr(scalar, f"{n}_0"), getattr(scalar, f"{n}_1"), scalar.constant_0)
    for n in "hinge perceptron absolute_error quantile".split()
}


def _per_sample(name, body):
    def per_sample(raw, target, param, out):
        T = out.dtype.type
        k = raw.shape[2]
        part = np.empty(k, raw.dtype)  # apart from the sum, whose order stops vectorisation
        for m in range(out.shape[0]):
            a = param[m if param.size > 1 else 0]
            r, o = as_c(raw[m]), as_c(out[m])
            t = as_c(target[m if target.shape[0] > 1 else 0])
            if k == 1:  # the samples in one run, or nothing would be vectorised
                r1, t1 = r.reshape(-1), t.reshape(-1)
                for i in range(o.size):
                    o[i] = body(r1[i], t1[i], a, T)
            else:
                for i in range(o.size):
                    ri, ti = r[i], t[i]
                    for j in range(k):
                        part[j] = body(ri[j], ti[j], a, T)
                    s = 0.0
                    for j in range(k):
                        s += part[j]
                    o[i] = s

    return kernel("f3 f3 f1 f2")(named(per_sample, f"pointwise_loss_{name}"))


def _pullback(name, body):
    def pullback(ct, raw, target, param, out):
        T = out.dtype.type
        for m in range(out.shape[0]):
            a = param[m if param.size > 1 else 0]
            c, r, o = as_c(ct[m]), as_c(raw[m]), as_c(out[m])
            t = as_c(target[m if target.shape[0] > 1 else 0])
            if o.shape[1] == 1:
                r1, t1, o1 = r.reshape(-1), t.reshape(-1), o.reshape(-1)
                for i in range(o1.size):
                    o1[i] = c[i] * body(r1[i], t1[i], a, T)
            else:
                for i in range(o.shape[0]):
                    ri, ti, oi, ci = r[i], t[i], o[i], c[i]
                    for j in range(oi.size):
                        oi[j] = ci * body(ri[j], ti[j], a, T)

    return kernel("f2 f3 f3 f1 f3")(named(pullback, f"pointwise_loss_pullback_{name}"))


#: ``per_sample[loss]`` sums the loss over the last axis: raw (M, B, K), target (M or 1, B, K),
#: parameter (1 or M), out (M, B).
per_sample = {n: _per_sample(n, bodies[0]) for n, bodies in BODIES.items()}
#: ``pullback[loss, order]`` computes out (M, B, K) = ct (M, B) times the derivative of
#: order 1 or 2.
pullback = {
    (n, k): _pullback(f"{n}_{k}", bodies[k]) for n, bodies in BODIES.items() for k in (1, 2)
}
