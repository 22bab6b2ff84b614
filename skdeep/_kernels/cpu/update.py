"""Parameter updates, penalties and clipping over the buffers of M nets: one pass over memory each.

Every update kernel has the signature of `_UPDATE`, so that a loop need not know its optimiser:

``p, g``
    (M, P), parameters (updated in place) and gradients of M nets.
``s1, s2``
    (M, P), the optimiser's state; (M, 0) where it has none.
``rates``
    (M, steps), learning rates of the epoch's steps; ``rates[m, counters[m, 1]]`` is this step's.
``hyper``
    float64 (M, k), the optimiser's own numbers, in the order that the kernel unpacks them.
``penalties, scale``
    (M, 2), L2 and L1 strengths, and (M,), what they are multiplied by: the gradient used is
    ``g + scale * (l2 * p + l1 * sign(p))`` on penalised segments.
``segments``
    int64 (S, 3), start, stop, penalised (0 or 1): the leaves of a net in the buffer.
``counters``
    int64 (M, 3), steps made so far and the step within the epoch; read only.

A member is computed from its own rows alone, by the same instructions whatever M is.
"""

import numpy as np

from skdeep._kernels.cpu._numba import as_c, helper, kernel, njit_inline

_UPDATE = "f2 f2 f2 f2 f2 g2 f2 f1 l2 l2"
#: Partial sums of a reduction: enough that the inner loop stays a (vectorised) loop.
_LANES = 256
#: float32, so that float32 is not widened.
_STEEP = np.float32(1e30)


@njit_inline
def _strengths(penalties, scale, segments, m, s):
    """Return what multiplies p and sign(p) in segment s of member m."""
    on = scale.dtype.type(scale[m] * segments[s, 2])
    return on * penalties[m, 0], on * penalties[m, 1]


@njit_inline
def _penalised(g, p, l2, l1):
    # l1 * sign(p) as a clamp, exact from abs(p) = l1 * 1e-30 on: half the work of two comparisons.
    return g + (l2 * p + min(max(p * _STEEP, -l1), l1))


@njit_inline
def _tiny(x):
    """Return what is added to decaying moments, which would end in (slow) denormals."""
    return x.dtype.type(1e-30 if x.itemsize == 4 else 1e-290)


@njit_inline
def _flush(x, tiny):
    """Return x, or an exact zero where x is near the denormals."""
    return (x + tiny) - tiny


@kernel(_UPDATE)
def sgd(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """Gradient descent: p -= rate * g. No state, no numbers of its own."""
    for m in range(p.shape[0]):
        rate = rates[m, counters[m, 1]]
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            P, G = as_c(p[m, a:b]), as_c(g[m, a:b])
            for i in range(P.size):
                P[i] -= rate * _penalised(G[i], P[i], l2, l1)


@kernel(_UPDATE)
def momentum(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """Heavy ball: v = mu * v - rate * g, p += v. State v; hyper mu."""
    T, tiny = p.dtype.type, _tiny(p)
    for m in range(p.shape[0]):
        rate, mu = rates[m, counters[m, 1]], T(hyper[m, 0])
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            P, G, V = as_c(p[m, a:b]), as_c(g[m, a:b]), as_c(s1[m, a:b])
            for i in range(P.size):
                v = _flush(mu * V[i] - rate * _penalised(G[i], P[i], l2, l1), tiny)
                V[i] = v
                P[i] += v


@kernel(_UPDATE)
def nesterov(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """Look ahead: v = mu * v - rate * g, p += mu * v - rate * g. State v; hyper mu."""
    T, tiny = p.dtype.type, _tiny(p)
    for m in range(p.shape[0]):
        rate, mu = rates[m, counters[m, 1]], T(hyper[m, 0])
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            P, G, V = as_c(p[m, a:b]), as_c(g[m, a:b]), as_c(s1[m, a:b])
            for i in range(P.size):
                step = rate * _penalised(G[i], P[i], l2, l1)
                v = _flush(mu * V[i] - step, tiny)
                V[i] = v
                P[i] += mu * v - step


@kernel(_UPDATE)
def adagrad(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """AdaGrad: n += g^2, p -= rate * g / (sqrt(n) + eps). State n; hyper eps."""
    T = p.dtype.type
    for m in range(p.shape[0]):
        rate, eps = rates[m, counters[m, 1]], T(max(hyper[m, 0], 1e-30))
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            P, G, N = as_c(p[m, a:b]), as_c(g[m, a:b]), as_c(s1[m, a:b])
            for i in range(P.size):
                d = _penalised(G[i], P[i], l2, l1)
                n = N[i] + d * d
                N[i] = n
                P[i] -= rate * d / (np.sqrt(n) + eps)


@kernel(_UPDATE)
def rmsprop(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """RMSProp: n = rho * n + (1 - rho) * g^2, p -= rate * g / (sqrt(n) + eps).

    State n; hyper rho, eps.
    """
    T, tiny = p.dtype.type, _tiny(p)
    for m in range(p.shape[0]):
        rate, eps = rates[m, counters[m, 1]], T(hyper[m, 1])
        rho, rest = T(hyper[m, 0]), T(1.0 - hyper[m, 0])
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            P, G, N = as_c(p[m, a:b]), as_c(g[m, a:b]), as_c(s1[m, a:b])
            for i in range(P.size):
                d = _penalised(G[i], P[i], l2, l1)
                n = rho * N[i] + rest * (d * d) + tiny
                N[i] = n
                P[i] -= rate * d / (np.sqrt(n) + eps)


@kernel(_UPDATE)
def rmsprop_momentum(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """RMSProp whose steps gather momentum: v = mu * v - rate * g / (sqrt(n) + eps), p += v.

    State n, v; hyper rho, eps, mu.
    """
    T, tiny = p.dtype.type, _tiny(p)
    for m in range(p.shape[0]):
        rate, eps = rates[m, counters[m, 1]], T(hyper[m, 1])
        rho, rest, mu = T(hyper[m, 0]), T(1.0 - hyper[m, 0]), T(hyper[m, 2])
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            P, G = as_c(p[m, a:b]), as_c(g[m, a:b])
            N, V = as_c(s1[m, a:b]), as_c(s2[m, a:b])
            for i in range(P.size):
                d = _penalised(G[i], P[i], l2, l1)
                n = rho * N[i] + rest * (d * d) + tiny
                N[i] = n
                v = _flush(mu * V[i] - rate * d / (np.sqrt(n) + eps), tiny)
                V[i] = v
                P[i] += v


@kernel(_UPDATE)
def adam(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """Adam, with decoupled decay on penalised segments (AdamW; Adam is its decay of zero).

    a = b1 * a + (1 - b1) * g, v = b2 * v + (1 - b2) * g^2,
    p -= rate * decay * p + rate * sqrt(1 - b2^t) / (1 - b1^t) * a / (sqrt(v) + eps).
    State a, v; hyper b1, b2, eps, decay.
    """
    T, tiny = p.dtype.type, _tiny(p)
    for m in range(p.shape[0]):
        t, rate = counters[m, 0] + 1, rates[m, counters[m, 1]]
        b1, rest1 = T(hyper[m, 0]), T(1.0 - hyper[m, 0])
        b2, rest2 = T(hyper[m, 1]), T(1.0 - hyper[m, 1])
        eps = T(hyper[m, 2])
        debias = np.sqrt(1.0 - hyper[m, 1] ** t) / (1.0 - hyper[m, 0] ** t)
        step = T(rate * debias)
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            keep = T(1.0 - rate * hyper[m, 3] * segments[s, 2])
            P, G = as_c(p[m, a:b]), as_c(g[m, a:b])
            A, V = as_c(s1[m, a:b]), as_c(s2[m, a:b])
            for i in range(P.size):
                d = _penalised(G[i], P[i], l2, l1)
                u = _flush(b1 * A[i] + rest1 * d, tiny)
                v = b2 * V[i] + rest2 * (d * d) + tiny
                A[i] = u
                V[i] = v
                P[i] = keep * P[i] - step * u / (np.sqrt(v) + eps)


@kernel(_UPDATE)
def ftrl(p, g, s1, s2, rates, hyper, penalties, scale, segments, counters):
    """FTRL-proximal, its dual variable z kept as the weights w = -eta * z before the L1 and L2.

    r' = sqrt(r^2 + g^2), eta = rate / (beta + r'), k = (beta + r) / (beta + r'),
    w = k * w + (1 - k) * p - eta * g, p = soft(w, eta * l1) / (1 + eta * l2).
    State w, r; hyper beta, l1, l2 (the latter two on penalised segments).
    """
    T = p.dtype.type
    for m in range(p.shape[0]):
        first, rate = counters[m, 0] == 0, rates[m, counters[m, 1]]
        beta = T(max(hyper[m, 0], 1e-30))
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            own1, own2 = T(hyper[m, 1] * segments[s, 2]), T(hyper[m, 2] * segments[s, 2])
            P, G = as_c(p[m, a:b]), as_c(g[m, a:b])
            W, R = as_c(s1[m, a:b]), as_c(s2[m, a:b])
            if first:  # the proximal terms begin at the initial weights
                for i in range(P.size):
                    W[i] = P[i]
            for i in range(P.size):
                d = _penalised(G[i], P[i], l2, l1)
                r = np.sqrt(R[i] * R[i] + d * d)
                inv = T(1) / (beta + r)
                k = (beta + R[i]) * inv
                eta = rate * inv
                w = k * W[i] + (T(1) - k) * P[i] - eta * d
                R[i] = r
                W[i] = w
                cut = eta * own1
                P[i] = (w - min(max(w, -cut), cut)) / (T(1) + eta * own2)


# ---- penalties and clipping: passes of their own. A limit of 0 is none. ------------------------


@kernel("f2 f2 f2 f1 l2")
def penalize(g, p, penalties, scale, segments):
    """g += scale * (l2 * p + l1 * sign(p)) on penalised segments."""
    for m in range(p.shape[0]):
        for s in range(segments.shape[0]):
            a, b = segments[s, 0], segments[s, 1]
            l2, l1 = _strengths(penalties, scale, segments, m, s)
            if l2 == 0 and l1 == 0:
                continue
            P, G = as_c(p[m, a:b]), as_c(g[m, a:b])
            for i in range(P.size):
                G[i] = _penalised(G[i], P[i], l2, l1)


@helper
def _power_sum(x, squares, lanes):
    """Sum squares (or magnitudes) in float64, in an order that only the length decides."""
    for j in range(_LANES):
        lanes[j] = 0.0
    for start in range(0, x.size, _LANES):
        block = as_c(x[start : start + _LANES])
        if squares:
            for j in range(block.size):
                v = np.float64(block[j])
                lanes[j] += v * v
        else:
            for j in range(block.size):
                lanes[j] += np.float64(abs(block[j]))
    total = 0.0
    for j in range(_LANES):
        total += lanes[j]
    return total


@kernel("f2 f2 f1 l2 f1")
def penalty(p, penalties, scale, segments, out):
    """out = scale * (l2 / 2 * sum(p^2) + l1 * sum(abs(p))) over penalised segments."""
    lanes = np.empty(_LANES)
    for m in range(p.shape[0]):
        l2, l1, total = np.float64(penalties[m, 0]), np.float64(penalties[m, 1]), 0.0
        for s in range(segments.shape[0]):
            if segments[s, 2] == 0:
                continue
            P = as_c(p[m, segments[s, 0] : segments[s, 1]])
            if l2 != 0:
                total += 0.5 * l2 * _power_sum(P, True, lanes)
            if l1 != 0:
                total += l1 * _power_sum(P, False, lanes)
        out[m] = scale[m] * total


@helper
def _shrink(x, norm, limit):
    """Rescale x to the limit where its norm is above it; a limit of 0 is none."""
    if 0 < limit < norm:
        factor = x.dtype.type(limit / norm)
        for i in range(x.size):
            x[i] *= factor


@kernel("f2 f1")
def clip_value(g, limits):
    """Clip every element of g to [-limit, limit]; NaN stays."""
    for m in range(g.shape[0]):
        G, top = as_c(g[m]), limits[m]
        if not top > 0:
            continue
        for i in range(G.size):
            x = G[i]
            x = top if x > top else x
            G[i] = -top if x < -top else x


@kernel("f2 f1 l2")
def clip_norm(g, limits, segments):
    """Rescale every leaf of g to a Euclidean norm of at most the limit."""
    lanes = np.empty(_LANES)
    for m in range(g.shape[0]):
        for s in range(segments.shape[0]):
            G = as_c(g[m, segments[s, 0] : segments[s, 1]])
            _shrink(G, np.sqrt(_power_sum(G, True, lanes)), np.float64(limits[m]))


@kernel("f2 f1")
def clip_global_norm(g, limits):
    """Rescale the whole gradient of a member to a Euclidean norm of at most the limit."""
    lanes = np.empty(_LANES)
    for m in range(g.shape[0]):
        G = as_c(g[m])
        _shrink(G, np.sqrt(_power_sum(G, True, lanes)), np.float64(limits[m]))


@kernel("f2 f1 l2")
def max_norm(p, limits, shapes):
    """Rescale the incoming weights of each unit to a Euclidean norm of at most the limit.

    A row of `shapes` is the start of a (fan_in, units) leaf, its fan_in and its units.
    """
    T = p.dtype.type
    for s in range(shapes.shape[0]):
        start, fan_in, units = shapes[s, 0], shapes[s, 1], shapes[s, 2]
        sums, factors = np.empty(units), np.empty(units, p.dtype)
        for m in range(p.shape[0]):
            limit, above = np.float64(limits[m]), False
            if not limit > 0:
                continue
            sums[:] = 0.0
            for i in range(fan_in):
                row = as_c(p[m, start + i * units : start + (i + 1) * units])
                for j in range(row.size):
                    sums[j] += np.float64(row[j]) * np.float64(row[j])
            for j in range(units):
                norm = np.sqrt(sums[j])
                above |= norm > limit
                factors[j] = T(limit / norm) if norm > limit else T(1)
            if above:
                for i in range(fan_in):
                    row = as_c(p[m, start + i * units : start + (i + 1) * units])
                    for j in range(row.size):
                        row[j] *= factors[j]
