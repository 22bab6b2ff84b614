"""Losses and their pullbacks.

Raw predictions are (M, B, K), per-sample losses (M, B). Targets and labels may be shared by the
members: their first axis is then 1.
"""

import numpy as np

from skdeep._kernels import scalar
from skdeep._kernels.cpu._numba import as_c, kernel
from skdeep._kernels.cpu.activation import block_rows, exp_rows, named, normalise, shift_rows


@kernel("f3 l2 f1 f2 f3")
def softmax_cross_entropy(z, labels, smoothing, loss, p):
    """loss = -sum(t log p), p = softmax(z), t = (1 - smoothing) onehot + smoothing / K.

    An impossible label gives NaN.
    """
    T = p.dtype.type
    k = p.shape[2]
    n = block_rows(k)
    for m in range(p.shape[0]):
        x, o, out = as_c(z[m]), as_c(p[m]), as_c(loss[m])
        y = labels[m if labels.shape[0] > 1 else 0]
        eps = smoothing[m if smoothing.size > 1 else 0]
        for start in range(0, o.shape[0], n):
            stop = min(start + n, o.shape[0])
            shift_rows(x, o, start, stop)
            for i in range(start, stop):
                row, yi = o[i], y[i]
                t = row[yi] if 0 <= yi < k else T(np.nan)
                if eps != T(0):
                    s = T(0)
                    for j in range(k):
                        s += row[j]
                    t = (T(1) - eps) * t + eps * s / T(k)
                out[i] = -t
            exp_rows(o, start, stop)
            for i in range(start, stop):
                out[i] += np.log(normalise(o[i]))


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
                for j in range(k):
                    o[i, j] = q[i, j]
        for i in range(o.shape[0]):
            row, yi, ci = o[i], y[i], c[i]
            hit = row[yi] if 0 <= yi < k else T(np.nan)
            for j in range(k):
                row[j] = ci * (row[j] - rest)
            if 0 <= yi < k:
                row[yi] = ci * ((hit - T(1)) + (eps - rest))


@kernel("f3 f3 f2 f3")
def soft_cross_entropy(z, targets, loss, p):
    """loss = -sum(t log p), p = softmax(z), for targets t (M or 1, B, K) of any sum."""
    T = p.dtype.type
    k = p.shape[2]
    n = block_rows(k)
    for m in range(p.shape[0]):
        x, o, out = as_c(z[m]), as_c(p[m]), as_c(loss[m])
        t = as_c(targets[m if targets.shape[0] > 1 else 0])
        for start in range(0, o.shape[0], n):
            stop = min(start + n, o.shape[0])
            shift_rows(x, o, start, stop)
            for i in range(start, stop):
                row, ti = o[i], t[i]
                s = T(0)
                for j in range(k):
                    # 0 log 0 = 0: a class that is masked by an infinite logit and not wanted
                    s += ti[j] * row[j] if ti[j] != T(0) else T(0)
                out[i] = -s
            exp_rows(o, start, stop)
            for i in range(start, stop):
                log_sum, ti = np.log(normalise(o[i])), t[i]
                s = T(0)
                for j in range(k):
                    s += ti[j]
                out[i] += s * log_sum


@kernel("f3 f3 f2 f3")
def soft_cross_entropy_pullback(p, targets, ct, out):
    """out = (p sum(t) - t) ct."""
    T = out.dtype.type
    for m in range(out.shape[0]):
        q, c, o = as_c(p[m]), as_c(ct[m]), as_c(out[m])
        t = as_c(targets[m if targets.shape[0] > 1 else 0])
        for i in range(o.shape[0]):
            qi, ti, oi, ci = q[i], t[i], o[i], c[i]
            s = T(0)
            for j in range(oi.size):
                s += ti[j]
            for j in range(oi.size):
                oi[j] = ci * (qi[j] * s - ti[j])


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
        part = np.empty(64, raw.dtype)
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
                    s = 0.0
                    for start in range(0, k, 64):
                        ri, ti = r[i, start : start + 64], t[i, start : start + 64]
                        for j in range(ri.size):
                            part[j] = body(ri[j], ti[j], a, T)
                        for j in range(ri.size):
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
#: ``pullback[loss, order]`` computes out (M, B, K) = ct (M, B) times the derivative of that order.
pullback = {
    (n, order): _pullback(f"{n}_{order}", body)
    for n, bodies in BODIES.items()
    for order, body in enumerate(bodies)
}
