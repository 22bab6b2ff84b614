"""Streams of anything that can be iterated over."""

from itertools import islice

import numpy as np

from skdeep.datasets.stream._base import Stream
from skdeep.datasets.stream._blocks import Block


def stream_iterable(make_iterator, *, blocks="auto", **options):
    """Make a stream of a function that returns a fresh iterator for every pass.

    Parameters
    ----------
    make_iterator : callable or list of callables
        ``make_iterator()`` returns an iterator over tuples ``(X, y)`` or ``(X, y, sample_weight)``
        of arrays, each a block of samples or a single sample; y may be None. Several callables
        are several sources: they are read by several threads and mixed.
    blocks : {"auto", True, False}, default="auto"
        Whether the tuples are blocks of samples. ``"auto"``: they are single samples if y is a
        number or a string, or, without y, if X has fewer than two axes.
    **options
        The parameters of `Stream`.

    Returns
    -------
    Stream

    Raises
    ------
    ValueError
        When a parameter is out of its range.

    Notes
    -----
    The iterator is made once more than there are epochs: its first item shows the shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.datasets import stream_iterable
    >>> def sensor():
    ...     for i in range(5):
    ...         yield np.full(3, i), i % 2
    >>> X, y = stream_iterable(sensor).take(3)
    >>> X.shape, y.tolist()
    ((3, 3), [0, 1, 0])
    """
    functions = list(make_iterator) if isinstance(make_iterator, list | tuple) else [make_iterator]
    if not functions or not all(callable(f) for f in functions):
        raise ValueError(
            f"make_iterator={make_iterator!r} must be a callable that returns a fresh iterator, "
            "or a list of such callables; an iterator itself would be used up by the first epoch"
        )
    if not (isinstance(blocks, bool) or blocks == "auto"):
        raise ValueError(f"blocks={blocks!r} must be 'auto', True or False")
    return _IterableStream(functions, blocks, options)


class _IterableStream(Stream):
    """Iterators, made anew for every pass."""

    def __init__(self, functions, blocks, options):
        super().__init__(**options)
        self._iterators = [
            _Iterator(f, f"iterator {i} ({getattr(f, '__name__', type(f).__name__)})", blocks)
            for i, f in enumerate(functions)
        ]

    def _describe(self):
        n = len(self._iterators)
        return "an iterator" if n == 1 else f"{n} iterators"

    def _sources(self, generator, rows):
        return self._iterators


class _Iterator:
    """One iterator as a source."""

    size = 1

    def __init__(self, function, name, blocks):
        self.name = name
        self._function = function
        self._blocks = blocks

    def blocks(self, rows):
        items = iter(self._function())
        row = 0
        for first in items:
            first = self._tuple(first, row)
            if self._is_block(first):
                yield from self._cut(first, row, rows)
                row += len(first[0])
            else:
                some = [first, *(self._tuple(v, row) for v in islice(items, rows - 1))]
                yield self._stack(some, row)
                row += len(some)

    def _tuple(self, item, row):
        """Return an item as ``(X, y, weight)``."""
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            raise ValueError(
                f"{self.name}, row {row}: an item must be a tuple (X, y) or (X, y, "
                f"sample_weight), not a {type(item).__name__}; y may be None"
            )
        x, y, *weight = item
        weight = weight[0] if weight else None
        return (np.asarray(x), *(None if a is None else np.asarray(a) for a in (y, weight)))

    def _is_block(self, item):
        if self._blocks != "auto":
            return self._blocks
        X, y, _ = item
        return X.ndim > 1 if y is None else y.ndim > 0

    def _cut(self, arrays, row, rows):
        """Yield a block in portions."""
        lengths = {len(a) if a.ndim else None for a in arrays if a is not None}
        if len(lengths) > 1 or None in lengths:
            shapes = [a.shape for a in arrays if a is not None]
            raise ValueError(
                f"{self.name}, row {row}: the arrays of a block have shapes {shapes}; their "
                "lengths must be equal (blocks=False is for single samples)"
            )
        for begin in range(0, len(arrays[0]), rows):
            part = [None if a is None else a[begin : begin + rows] for a in arrays]
            numbers = range(row + begin, row + begin + len(part[0]))
            yield Block(*part, self.name, numbers)

    def _stack(self, samples, row):
        """Return single samples as a block."""
        arrays = []
        for name, column in zip(
            ("X", "y", "sample_weight"), zip(*samples, strict=True), strict=True
        ):
            for i, a in enumerate(column):
                first = column[0]
                if (a is None) != (first is None) or (a is not None and a.shape != first.shape):
                    now, before = (None if v is None else v.shape for v in (a, first))
                    raise ValueError(
                        f"{self.name}, row {row + i}: {name} has shape {now}, that of row {row} "
                        f"has {before}"
                    )
            arrays.append(None if column[0] is None else np.stack(column))
        return Block(*arrays, self.name, range(row, row + len(samples)))
