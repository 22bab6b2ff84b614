"""The shuffling buffer, on tuples of arrays that have their rows in common."""

import numpy as np


def _empty(arrays, n):
    return tuple(None if a is None else np.empty((n, *a.shape[1:]), a.dtype) for a in arrays)


def _pairs(into, arrays):
    return [(to, a) for to, a in zip(into, arrays, strict=True) if a is not None]


def in_order(blocks):
    """Yield blocks with the numbers of all their rows, as `collect` takes them."""
    for arrays in blocks:
        yield arrays, np.arange(len(arrays[0]))


def shuffle(blocks, capacity, generator):
    """Yield rows in shuffled order, as pairs of arrays and the numbers of the rows to take.

    A buffer is filled; then as many rows as come in leave it, drawn at random, and those that
    come take their places; at the end the rest leaves in random order. The rows must be taken
    before the next pair is asked for.

    Parameters
    ----------
    blocks : iterable of tuples of arrays
        Samples in the order of reading.
    capacity : int
        Rows in the buffer.
    generator : numpy.random.Generator
        The only source of randomness.
    """
    buffer, filled = None, 0
    for arrays in blocks:
        if buffer is None:
            buffer = _empty(arrays, capacity)
        n, begin = len(arrays[0]), 0
        while begin < n:
            if filled < capacity:
                m = min(n - begin, capacity - filled)
                places = slice(filled, filled + m)
                filled += m
            else:
                m = min(n - begin, capacity)
                places = generator.choice(capacity, m, replace=False)
                yield buffer, places
            for to, a in _pairs(buffer, arrays):
                to[places] = a[begin : begin + m]
            begin += m
    if filled:
        yield buffer, generator.permutation(filled)


def collect(pairs, size):
    """Gather the rows of pairs (arrays, numbers) into tuples of arrays of `size` rows.

    The arrays are new ones; the last may have fewer rows.
    """
    out, filled = None, 0
    for arrays, rows in pairs:
        begin = 0
        while begin < len(rows):
            if out is None:
                out, filled = _empty(arrays, size), 0
            m = min(size - filled, len(rows) - begin)
            some = rows[begin : begin + m]
            for to, a in _pairs(out, arrays):
                # mode="clip" writes into `out` without a copy between; no number is out of range.
                np.take(a, some, axis=0, out=to[filled : filled + m], mode="clip")
            begin += m
            filled += m
            if filled == size:
                yield out
                out = None
    if out is not None:
        yield tuple(None if a is None else a[:filled] for a in out)
