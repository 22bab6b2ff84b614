"""Loops that can be checked by eye: what the fast kernels are compared with."""

import math

import numpy as np

ACTIVATIONS = {
    "identity": (lambda z: z, lambda y: 1.0),
    "relu": (lambda z: max(z, 0.0), lambda y: 1.0 if y > 0 else 0.0),
    "tanh": (math.tanh, lambda y: 1.0 - y * y),
    "logistic": (lambda z: 1.0 / (1.0 + math.exp(-z)), lambda y: y * (1.0 - y)),
}


def product(a, b):
    """Return the matrix product of two lists of rows."""
    rows, inner, columns = len(a), len(b), len(b[0])
    out = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            for k in range(inner):
                out[i, j] += float(a[i][k]) * float(b[k][j])
    return out


def linear(x, w, b, activation):
    """Return activation(x @ w + b), member by member."""
    members = max(len(x), len(w))
    value = ACTIVATIONS[activation][0]
    out = np.zeros((members, x.shape[1], w.shape[2]))
    for m in range(members):
        z = product(x[m % len(x)], w[m % len(w)])
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                out[m, i, j] = value(z[i, j] + float(b[m % len(b), j]))
    return out


def linear_pullback(ct, y, activation):
    """Return dz and db of an activation whose slope follows from its output."""
    slope = ACTIVATIONS[activation][1]
    dz, db = np.zeros(y.shape), np.zeros((y.shape[0], y.shape[2]))
    for m in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                dz[m, i, j] = float(ct[m, i, j]) * slope(float(y[m, i, j]))
                db[m, j] += dz[m, i, j]
    return dz, db


def gather(x, order, start, size):
    """Return the rows of x that a batch of one member takes."""
    return np.array([x[order[start + i]] for i in range(size)])


def windows(spatial, size, stride, padding):
    """Yield each window of an image, and its cells inside as (place in the window, place).

    The size, the stride and the pairs of padding are given for each dimension.
    """
    counts = [
        (n + before + after - k) // s + 1
        for n, k, s, (before, after) in zip(spatial, size, stride, padding, strict=True)
    ]
    for window in np.ndindex(*counts):
        cells = []
        for number, cell in enumerate(np.ndindex(*size)):
            place = [
                w * s - before + c
                for w, s, (before, _), c in zip(window, stride, padding, cell, strict=True)
            ]
            if all(0 <= p < n for p, n in zip(place, spatial, strict=True)):
                cells.append((number, tuple(place)))
        yield window, cells


def max_pool(x, size, stride, padding):
    """Return the maxima of windows of one image (*spatial, C), and their places in them."""
    found = {}
    for window, cells in windows(x.shape[:-1], size, stride, padding):
        for channel in range(x.shape[-1]):
            best, at = None, None
            for number, place in cells:
                value = float(x[(*place, channel)])
                if best is None or (not math.isnan(best) and not value <= best):
                    best, at = value, number
            found[(*window, channel)] = best, at
    shape = [n + 1 for n in max(found)]
    values, places = np.zeros(shape), np.zeros(shape, int)
    for where, (best, at) in found.items():
        values[where], places[where] = best, at
    return values, places


def unpool(ct, places, spatial, size, stride, padding):
    """Return the cotangent of an image whose windows had their maxima at given places."""
    out = np.zeros((*spatial, ct.shape[-1]))
    for window, cells in windows(spatial, size, stride, padding):
        for channel in range(ct.shape[-1]):
            for number, place in cells:
                if places[(*window, channel)] == number:
                    out[(*place, channel)] += float(ct[(*window, channel)])
    return out


def average_pool(x, size, stride, padding):
    """Return the means of windows of one image (*spatial, C) over the cells inside."""
    found = {}
    for window, cells in windows(x.shape[:-1], size, stride, padding):
        for channel in range(x.shape[-1]):
            terms = [float(x[(*place, channel)]) for _, place in cells]
            found[(*window, channel)] = sum(terms) / len(terms)
    values = np.zeros([n + 1 for n in max(found)])
    for where, mean in found.items():
        values[where] = mean
    return values


def local_response_norm(x, depth_radius, bias, alpha, beta):
    """Return rows x (N, C) divided by a power of the energy of the neighbouring channels."""
    rows, channels = x.shape
    out = np.zeros((rows, channels))
    for i in range(rows):
        for j in range(channels):
            low, high = max(0, j - depth_radius // 2), min(channels - 1, j + depth_radius // 2)
            energy = sum(float(x[i, k]) ** 2 for k in range(low, high + 1))
            out[i, j] = float(x[i, j]) * (bias + alpha * energy) ** -beta
    return out


def _taps(geometry, groups, channels, filters):
    """Yield (output cell, kernel cell, input cell, channel, its place in the group, filter)."""
    per_group = channels // groups
    for o in np.ndindex(*geometry.out):
        for r in np.ndindex(*geometry.kernel):
            i = tuple(
                a * s + b * d - p[0]
                for a, b, s, d, p in zip(
                    o, r, geometry.stride, geometry.dilation, geometry.padding, strict=True
                )
            )
            if not all(0 <= a < n for a, n in zip(i, geometry.spatial, strict=True)):
                continue
            for f in range(filters):
                for c in range(per_group):
                    yield o, r, i, f // (filters // groups) * per_group + c, c, f


def conv(x, w, geometry, groups):
    """Return the convolution of one member's images x (N, *spatial, C)."""
    out = np.zeros((len(x), *geometry.out, w.shape[-1]))
    for o, r, i, channel, c, f in _taps(geometry, groups, x.shape[-1], w.shape[-1]):
        for n in range(len(x)):
            out[(n, *o, f)] += float(x[(n, *i, channel)]) * float(w[(*r, c, f)])
    return out


def conv_input_grad(ct, w, geometry, groups):
    """Return what each input added to the outputs, weighted by ct."""
    channels = w.shape[-2] * groups
    out = np.zeros((len(ct), *geometry.spatial, channels))
    for o, r, i, channel, c, f in _taps(geometry, groups, channels, w.shape[-1]):
        for n in range(len(ct)):
            out[(n, *i, channel)] += float(ct[(n, *o, f)]) * float(w[(*r, c, f)])
    return out


def conv_weight_grad(x, ct, geometry, groups):
    """Return what each weight added to the outputs, weighted by ct."""
    channels = x.shape[-1]
    out = np.zeros((*geometry.kernel, channels // groups, ct.shape[-1]))
    for o, r, i, channel, c, f in _taps(geometry, groups, channels, ct.shape[-1]):
        for n in range(len(x)):
            out[(*r, c, f)] += float(x[(n, *i, channel)]) * float(ct[(n, *o, f)])
    return out
