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
