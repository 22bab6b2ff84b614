"""Streams: training data that are read while they are used."""

import math
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from skdeep._compat import Interval, StrOptions, validate_parameter_constraints
from skdeep.datasets.stream._blocks import Preparation, layout_of
from skdeep.datasets.stream._readers import read_lanes
from skdeep.datasets.stream._shuffle import collect, in_order, shuffle

#: Sources (files) that are open at once in a shuffled epoch. A constant, so that the order of the
#: samples does not depend on the number of readers.
LANES = 16
#: All lanes together are read in rounds of this part of a buffer.
ROUNDS = 4
#: Most classes that `Stream.scan` looks for; a target with more values is no label.
MAX_CLASSES = 65_536


@dataclass(frozen=True)
class Summary:
    """What one pass over a stream found.

    Parameters
    ----------
    n_samples : int
        The number of samples.
    sample_shape : tuple of int
        The shape of a sample.
    target_shape : tuple of int or None
        The shape of a sample's target, ``()`` for a number or label; None without targets.
    classes : ndarray of shape (n_classes,) or None
        The sorted labels, where the targets can be labels: strings, or whole numbers with at most
        65,536 different values.
    """

    n_samples: int
    sample_shape: tuple
    target_shape: tuple | None
    classes: np.ndarray | None


class Stream(ABC):
    """Samples that are read while they are used: data larger than memory.

    Abstract: `stream_arrays`, `stream_npy`, `stream_npz`, `stream_csv` and `stream_iterable` make
    streams, and pass these parameters on as ``**options``.

    An epoch reads each sample once. With ``shuffle=True`` the sources (files) come in an order
    drawn anew, up to 16 of them are read at the same time, in portions proportional to their
    sizes so that they end together, and their samples pass through a buffer: as many as come in
    leave it, drawn at random. With ``buffer_size >= n_samples`` every order is equally likely;
    otherwise two samples that are far apart in one file do not change places, so that files
    which are sorted (by class, by date) want a large buffer or many shards. Arrays and ``.npy``
    files are read at random places and need no such care.

    The order is a function of the data, ``buffer_size``, the seed and the epoch: the number of
    readers, their timing and the size of the blocks asked for do not change it.

    Memory holds at most about ``(prefetch + 2) * buffer_size`` samples.

    Parameters
    ----------
    shuffle : bool, default=True
        Whether to shuffle. Otherwise an epoch keeps the order of the files and of their samples.
    buffer_size : int, default=10_000
        Samples in the shuffling buffer.
    n_readers : int, default=2
        Threads that read, parse and transform. More than one are of use where the time goes into
        waiting for a disk or network, decompression, or a `transform` that releases the GIL;
        NumPy's parser of text holds it.
    prefetch : int, default=2
        Read ahead at most so many times `buffer_size` samples.
    dtype : {"float32", "float64"}, default="float32"
        The dtype of X and of the weights.
    sample_shape : tuple of int, default=None
        Reshape samples to this shape, for instance ``(28, 28, 1)``, after the transform.
    transform : callable, default=None
        ``transform(X)`` of a block of samples as read, of shape (n, ...), gives an array of as
        many samples. It runs in the readers, several at a time, and must not depend on which
        samples share a block.
    classes : array-like of shape (n_classes,), default=None
        The labels, where y has labels: targets are checked against them and get their dtype.

    Raises
    ------
    ValueError
        When a parameter is out of its range.

    See Also
    --------
    stream_arrays : From arrays and memory maps.
    stream_csv : From text files.
    stream_npy : From ``.npy`` files.
    stream_npz : From ``.npz`` files.
    stream_iterable : From anything that can be iterated over.

    Notes
    -----
    What a consumer relies on: `epoch`, and the attributes `n_samples`, `sample_shape`,
    `target_shape`, `target_dtype`, `has_weight` and `classes`. A subclass defines `_sources` and
    `_describe`, and may define `_count` and `_random_access`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.datasets import stream_arrays
    >>> X, y = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 1, 1, 1])
    >>> stream = stream_arrays(X, y)
    >>> for X_block, y_block, _ in stream.epoch(0, seed=0, size=4):
    ...     print(X_block.shape, y_block.shape)
    (4, 2) (4,)
    (2, 2) (2,)
    """

    _parameter_constraints = {
        "shuffle": ["boolean"],
        "buffer_size": [Interval(Integral, 1, None, closed="left")],
        "n_readers": [Interval(Integral, 1, None, closed="left")],
        "prefetch": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"float32", "float64"})],
        "sample_shape": [tuple, None],
        "transform": [callable, None],
        "classes": ["array-like", None],
    }
    _random_access = False

    def __init__(
        self,
        *,
        shuffle=True,
        buffer_size=10_000,
        n_readers=2,
        prefetch=2,
        dtype="float32",
        sample_shape=None,
        transform=None,
        classes=None,
    ):
        self.shuffle = shuffle
        self.buffer_size = buffer_size
        self.n_readers = n_readers
        self.prefetch = prefetch
        self.dtype = dtype
        self.transform = transform
        options = {name: getattr(self, name, None) for name in self._parameter_constraints}
        options.update(sample_shape=sample_shape, classes=classes)
        validate_parameter_constraints(
            self._parameter_constraints, options, caller_name=type(self).__name__
        )
        if sample_shape is not None and not all(
            isinstance(k, Integral) and k > 0 for k in sample_shape
        ):
            raise ValueError(f"sample_shape={sample_shape!r} must be a tuple of positive ints")
        self._prepare = Preparation(np.dtype(dtype), transform, sample_shape, _labels(classes))
        self._summary = None
        self._first = None  # the layout of the first block
        self._n_samples = None

    @abstractmethod
    def _sources(self, generator, rows):
        """Return the list of sources of an epoch.

        A source has a `name`, a `size` (in any unit, the same for all) and a method
        ``blocks(rows)`` that yields `Block` objects of at most so many samples. A generator is
        given when the epoch is shuffled; with random access (`_random_access`) each source is
        then some `rows` samples drawn by it. The order of other sources is drawn afterwards.
        """

    @abstractmethod
    def _describe(self):
        """Return a few words for repr."""

    def _count(self):
        """Return the number of samples where it is known without reading."""
        return self._n_samples

    # ------------------------------------------------------------ what is known

    @property
    def n_samples(self):
        """The number of samples; None as long as no pass over them was made to count them."""
        return self._count()

    @property
    def sample_shape(self):
        """The shape of a sample, a tuple; the first sample is read for it."""
        return self._layout().sample_shape

    @property
    def n_features(self):
        """The number of values of a sample, an int."""
        return math.prod(self.sample_shape)

    @property
    def target_shape(self):
        """The shape of a sample's target: ``()``, or (n_outputs,); None without targets."""
        return self._layout().target_shape

    @property
    def target_dtype(self):
        """The dtype of y as `epoch` yields it, `str` for strings of any length; or None.

        Whole numbers are int64, others float64. The numbers of text files are float64, unless
        `classes` are given: y has their dtype then.
        """
        dtype = self._layout().target_dtype
        return np.dtype(str) if dtype is not None and dtype.hasobject else dtype

    @property
    def has_weight(self):
        """Whether the samples have weights."""
        return self._layout().weighted

    @property
    def classes(self):
        """The sorted labels, if they were given or `scan` has found them; otherwise None."""
        if self._prepare.classes is None and self._summary is not None:
            return self._summary.classes
        return self._prepare.classes

    def __len__(self):
        if self.n_samples is None:
            raise TypeError(
                "the number of samples of this stream is not known before a pass: call scan()"
            )
        return self.n_samples

    def __bool__(self):
        return True  # not a matter of the length, which may be unknown

    def __repr__(self):
        n = "unknown" if self.n_samples is None else f"{self.n_samples:,}"
        order = f"buffer_size={self.buffer_size}" if self.shuffle else "shuffle=False"
        return f"<stream of {self._describe()}: n_samples {n}, {order}>"

    def _layout(self):
        if self._first is None:
            with closing(self._read_simply(1)) as blocks:
                arrays = next(blocks, None)
            if arrays is None:
                raise ValueError(f"{self!r} has no samples")
            self._first = layout_of(arrays)
        return self._first

    # ------------------------------------------------------------ reading

    def epoch(self, epoch, seed, size=None):
        """Return an iterator over the samples of one epoch.

        Its readers are threads, which start with the first block. They end when the iterator is
        exhausted, closed (its method ``close()``, ``contextlib.closing``) or garbage collected.

        Parameters
        ----------
        epoch : int
            The number of the epoch, from 0.
        seed : int
            Fixes, with the epoch, the order of the samples.
        size : int, default=None
            Rows of a block; None means `buffer_size`.

        Returns
        -------
        iterator of tuples ``(X, y, sample_weight)``
            X of shape (n, \\*sample_shape), of the stream's dtype; y of shape
            (n, \\*target_shape) or None; weights of shape (n,) or None. All blocks have `size`
            rows, but the last, which may have fewer. The arrays are the caller's.

        Raises
        ------
        ValueError
            When `epoch` or `size` is out of range; from the iterator, when the stream has no
            samples, or data that are missing, not finite or of another shape, with the name of
            the file and the row.

        Examples
        --------
        >>> import numpy as np
        >>> from skdeep.datasets import stream_arrays
        >>> stream = stream_arrays(np.zeros((5, 1)), np.arange(5))
        >>> [int(v) for _, y, _ in stream.epoch(0, seed=1) for v in sorted(y)]
        [0, 1, 2, 3, 4]
        """
        size = self.buffer_size if size is None else size
        for name, value, least in (("epoch", epoch, 0), ("size", size, 1)):
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name}={value!r} must be an int of at least {least}")
        if not isinstance(seed, Integral):
            raise ValueError(f"seed={seed!r} must be an int")
        generator = None
        if self.shuffle:
            generator = np.random.default_rng([int(seed) % 2**64, int(epoch)])
        return self._iterate(generator, size)

    def _iterate(self, generator, size):
        self._layout()
        n = 0
        with closing(self._read(generator)) as blocks:
            if generator is None:
                pairs = in_order(blocks)
            else:
                capacity = min(self.buffer_size, self.n_samples or self.buffer_size)
                pairs = shuffle(blocks, capacity, generator)
            for X, y, weight in collect(pairs, size):
                n += len(X)
                if y is not None and y.dtype.hasobject:
                    y = y.astype(str)
                yield X, y, weight
                del X, y, weight  # not kept while the next block is made
        if not n:
            raise ValueError(
                f"{self!r} gave no samples this time; what is read must be the same in every epoch"
            )
        self._n_samples = n

    def _read(self, generator):
        """Return an iterator over prepared blocks, read by threads."""
        cycle = max(1, self.buffer_size // ROUNDS)
        interleave = generator is not None and not self._random_access
        if interleave:
            chains, portions = self._chains(generator, cycle)
            ahead = ROUNDS * self.prefetch
        else:
            portion = max(1, cycle // (ROUNDS if self._random_access else self.n_readers))
            chains = [[source] for source in self._sources(generator, portion)]
            portions = [portion] * len(chains)
            ahead = self.prefetch * self.buffer_size // (portion * self.n_readers)
        lanes = [self._lane(*lane) for lane in zip(chains, portions, strict=True)]
        return read_lanes(lanes, self.n_readers, ahead, interleave=interleave)

    def _chains(self, generator, cycle):
        """Divide the sources among lanes: return these, and the rows of their blocks."""
        sources = self._sources(generator, max(1, cycle // LANES))
        sources = [sources[i] for i in generator.permutation(len(sources))]
        chains = [sources[i::LANES] for i in range(min(LANES, len(sources)))]
        sizes = [sum(source.size for source in chain) for chain in chains]
        # Portions proportional to the sizes: no lane is left over at the end, alone.
        return chains, [max(1, round(cycle * size / max(1, sum(sizes)))) for size in sizes]

    def _read_simply(self, rows):
        """Return an iterator over prepared blocks, in order and without threads."""
        return self._lane(self._sources(None, rows), rows)

    def _lane(self, sources, rows):
        """Yield the prepared blocks of one source after the other."""
        for source in sources:
            name = where = source.name
            try:
                for block in source.blocks(rows):
                    name, where = block.name, block.where()
                    yield self._prepare(block, self._first)
            except Exception as error:
                if name not in str(error):
                    error.add_note(f"while reading {where}")
                raise

    def scan(self):
        """Pass over the samples once: count them, check them, find the classes.

        Returns
        -------
        Summary
            `n_samples`, `sample_shape`, `target_shape` and `classes`. It is kept: the second call
            reads nothing. It remains right only while the data remain as they are.

        Raises
        ------
        ValueError
            When there is no sample, or data are missing, not finite or of another shape, with the
            name of the file and the row.

        Examples
        --------
        >>> import numpy as np
        >>> from skdeep.datasets import stream_arrays
        >>> stream_arrays(np.zeros((3, 2)), ["b", "a", "b"]).scan().classes.tolist()
        ['a', 'b']
        """
        if self._summary is None:
            layout = self._layout()
            n, labels = 0, _Labels(layout)
            with closing(self._read(None)) as blocks:
                for X, y, _ in blocks:
                    n += len(X)
                    labels.add(y)
            self._n_samples = n
            self._summary = Summary(
                n, layout.sample_shape, layout.target_shape, labels.sorted(self._prepare.classes)
            )
        return self._summary

    def take(self, n):
        """Return the first samples, in the order of the files, for a look at them.

        Parameters
        ----------
        n : int
            How many; fewer are returned where there are no more.

        Returns
        -------
        X : ndarray of shape (n, \\*sample_shape)
        y : ndarray of shape (n, \\*target_shape) or None

        Raises
        ------
        ValueError
            When `n` is less than 1, or the stream has no samples.

        Examples
        --------
        >>> import numpy as np
        >>> from skdeep.datasets import stream_arrays
        >>> X, y = stream_arrays(np.eye(3), [0, 1, 2]).take(2)
        >>> X.tolist(), y.tolist()
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 1])
        """
        if not isinstance(n, Integral) or n < 1:
            raise ValueError(f"n={n!r} must be an int of at least 1")
        self._layout()
        with closing(self._read_simply(min(n, self.buffer_size))) as blocks:
            X, y, _ = next(collect(in_order(blocks), n))
        return X, y if y is None or not y.dtype.hasobject else y.astype(str)


class _Labels:
    """Collects the different values of y, as long as they can be labels."""

    def __init__(self, layout):
        self._dtype = layout.target_dtype
        self._found = set() if layout.target_shape == () else None

    def add(self, y):
        if self._found is None:
            return
        if y.dtype == np.float64 and not (y == np.rint(y)).all():
            self._found = None
            return
        self._found.update(np.unique(y).tolist())
        if len(self._found) > MAX_CLASSES:
            self._found = None

    def sorted(self, given):
        """Return the labels; whole numbers are int64."""
        if given is not None or self._found is None:
            return given
        labels = sorted(self._found)
        return np.array(labels, np.int64 if self._dtype == np.float64 else None)


def _labels(classes):
    """Return the parameter `classes` as a sorted array of numbers or strings, or None."""
    if classes is None:
        return None
    labels = np.asarray(classes)
    if labels.dtype.kind == "O" and all(isinstance(v, str) for v in labels.ravel()):
        labels = labels.astype(str)
    unique = np.unique(labels) if labels.dtype.kind in "biufU" else ()
    if labels.ndim != 1 or len(unique) != len(labels) or not len(labels):
        raise ValueError(f"classes={classes!r} must be different labels, all numbers or strings")
    return unique
