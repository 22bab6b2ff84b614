"""Streams with random access: arrays, memory maps and .npy files."""

import math
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skdeep.datasets.stream._base import Stream
from skdeep.datasets.stream._blocks import Block
from skdeep.datasets.stream._npy import read_header
from skdeep.datasets.stream._paths import expand

#: Bytes that are read in one piece, at least, from a disk or memory map.
RUN = 1 << 16
#: Bytes of a memory map that may be read before its pages are let go of.
RESIDENT = 1 << 23
#: Rows of an array that are a source of their own when the order is kept, at least.
PIECE = 4096


def stream_arrays(X, y=None, sample_weight=None, **options):
    """Make a stream of arrays or memory maps.

    Nothing is copied whole. Rows of an array in memory come in any order; of a memory map, short
    runs of rows (64 kB, or a 64th of the buffer if that is less) are read at random places, and
    the buffer shuffles their rows.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        The samples: an array, a `numpy.memmap`, or any object with `shape`, `dtype` and slices
        (of HDF5 or Zarr, for instance). Others are converted to arrays.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels (numbers or strings) or targets.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of 0 or more.
    **options
        The parameters of `Stream`.

    Returns
    -------
    Stream

    Raises
    ------
    ValueError
        When the lengths differ, X is no array of numbers, or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.datasets import stream_arrays
    >>> stream_arrays(np.zeros((1000, 20)), np.zeros(1000), buffer_size=100)
    <stream of arrays in memory: n_samples 1,000, buffer_size=100>
    """
    arrays = {"X": X, "y": y, "sample_weight": sample_weight}
    arrays = {name: None if a is None else _sliceable(a) for name, a in arrays.items()}
    return _ArrayStream([_Arrays("arrays in memory", **arrays)], "arrays in memory", options)


def stream_npy(X_paths, y_paths=None, *, weight_paths=None, **options):
    """Make a stream of ``.npy`` files; they are read at random places, without loading them whole.

    Parameters
    ----------
    X_paths : str, path-like or list of these
        The files of samples; a str may be a glob pattern, whose files come in sorted order.
    y_paths : str, path-like or list of these, default=None
        The files of targets: as many, in the same order, each with as many rows.
    weight_paths : str, path-like or list of these, default=None
        The files of weights, likewise.
    **options
        The parameters of `Stream`.

    Returns
    -------
    Stream

    Raises
    ------
    ValueError
        When a file is no ``.npy`` file, or holds Python objects or an array in Fortran order,
        the numbers of files or rows differ, or an option is out
        of its range.
    FileNotFoundError
        When a file is not there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skdeep.datasets import stream_npy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         np.save(Path(folder) / f"X{i}.npy", np.zeros((10, 4)))
    ...         np.save(Path(folder) / f"y{i}.npy", np.arange(10))
    ...     stream = stream_npy(f"{folder}/X*.npy", f"{folder}/y*.npy")
    ...     print(stream, stream.sample_shape)
    <stream of 3 .npy files: n_samples 30, buffer_size=10000> (4,)
    """
    paths = {"X": expand(X_paths, "X_paths")}
    for name, given in (("y", y_paths), ("sample_weight", weight_paths)):
        if given is None:
            continue
        parameter = "y_paths" if name == "y" else "weight_paths"
        paths[name] = expand(given, parameter)
        if len(paths[name]) != len(paths["X"]):
            raise ValueError(
                f"{parameter} has {len(paths[name])} files, X_paths {len(paths['X'])}; every file "
                "of samples needs one"
            )
    shards = [
        _Files(str(row[0]), dict(zip(paths, row, strict=True)))
        for row in zip(*paths.values(), strict=True)
    ]
    n = len(shards)
    return _ArrayStream(shards, f"{n} .npy file{'s' * (n != 1)}", options)


class _Arrays:
    """Arrays that have their rows in common."""

    def __init__(self, name, X, y=None, sample_weight=None):
        self.name = name
        self._arrays = X, y, sample_weight
        self._n_read = 0
        check_lengths(name, X=X, y=y, sample_weight=sample_weight)
        self.rows = X.shape[0]
        self.row_bytes = _row_bytes(X)
        self.resident = isinstance(X, np.ndarray) and _mapping(X) is None

    def read(self, rows):
        arrays = [None if a is None else _pick(a, rows) for a in self._arrays]
        # Now and then the pages of memory maps are let go of; they can be read again.
        self._n_read += len(rows) * self.row_bytes
        if self._n_read > RESIDENT:
            self._n_read = 0
            for a in self._arrays:
                _let_go(a)
        return arrays


class _Files:
    """``.npy`` files that have their rows in common."""

    resident = False

    def __init__(self, name, paths):
        self.name = name
        files = {key: _NpyFile(path) for key, path in paths.items()}
        check_lengths(name, **files)
        self._files = [files.get(key) for key in ("X", "y", "sample_weight")]
        self.rows = files["X"].shape[0]
        self.row_bytes = _row_bytes(files["X"])

    def read(self, rows):
        return [None if file is None else file.read(rows) for file in self._files]


class _NpyFile:
    """A ``.npy`` file whose rows are read at any place."""

    def __init__(self, path):
        self._path = Path(path)
        with open(path, "rb") as file:
            self.shape, self.dtype = read_header(file, str(path))
            self._begin = file.tell()

    def read(self, rows):
        row, size = self.shape[1:], math.prod(self.shape[1:])
        parts = []
        with open(self._path, "rb") as file:
            for some in _stretches(rows):
                file.seek(self._begin + some.start * _row_bytes(self))
                parts.append(np.fromfile(file, self.dtype, len(some) * size))
                if len(parts[-1]) < len(some) * size:
                    raise ValueError(f"{self._path}, row {some.start}: the file is truncated")
        return np.concatenate(parts).reshape(-1, *row)


@dataclass
class _Piece:
    """Successive rows of one shard as a source."""

    shard: object
    begin: int
    end: int

    @property
    def name(self):
        return self.shard.name

    @property
    def size(self):
        return self.end - self.begin

    def blocks(self, rows):
        for begin in range(self.begin, self.end, rows):
            yield _block(self.shard, range(begin, min(begin + rows, self.end)))


@dataclass
class _Runs:
    """Runs of rows, numbered through all shards, as a source; a run may cross a shard's end."""

    shards: list
    ends: np.ndarray
    starts: np.ndarray
    run: int

    name = ""  # errors name the shard

    @property
    def size(self):
        return len(self.starts) * self.run

    def blocks(self, rows):
        numbers = np.sort((self.starts[:, None] + np.arange(self.run)).ravel())
        numbers = numbers[numbers < self.ends[-1]]
        of = np.searchsorted(self.ends, numbers, side="right")
        for k in np.unique(of):
            shard = self.shards[k]
            own = numbers[of == k] - (self.ends[k] - shard.rows)
            for begin in range(0, len(own), rows):
                yield _block(shard, own[begin : begin + rows])


def _block(shard, rows):
    """Read rows of a shard, given in ascending order."""
    return Block(*shard.read(rows), shard.name, rows)


class _ArrayStream(Stream):
    """Shards with random access."""

    _random_access = True

    def __init__(self, shards, description, options):
        super().__init__(**options)
        self._shards = shards
        self._description = description

    def _describe(self):
        return self._description

    def _count(self):
        return sum(shard.rows for shard in self._shards)

    def _sources(self, generator, rows):
        if generator is None:
            rows = max(rows, PIECE)
            return [
                _Piece(shard, begin, min(begin + rows, shard.rows))
                for shard in self._shards
                for begin in range(0, shard.rows, rows)
            ]
        ends = np.cumsum([shard.rows for shard in self._shards])
        run = self._run()
        starts = generator.permutation(-(-int(ends[-1]) // run)) * run
        some = max(1, rows // run)
        return [
            _Runs(self._shards, ends, starts[i : i + some], run)
            for i in range(0, len(starts), some)
        ]

    def _run(self):
        """Return the number of successive rows that are read at a time."""
        if all(shard.resident for shard in self._shards):
            return 1
        widest = max(1, *(shard.row_bytes for shard in self._shards))
        return max(1, min(RUN // widest, self.buffer_size // 64))


def check_lengths(name, X, **others):
    """See to it that X is an array of samples and that the others have as many rows.

    Sizes and dtypes are known before anything is read, and so are the errors.
    """
    if len(X.shape) < 2:
        raise ValueError(
            f"{name}: X has shape {X.shape}; samples must be arrays: reshape X to (n_samples, "
            "n_features)"
        )
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{name}: X must be numbers, its dtype is {X.dtype}")
    for key, a in others.items():
        if a is not None and (not a.shape or a.shape[0] != X.shape[0]):
            raise ValueError(f"{name}: X has {X.shape[0]} rows, {key} has shape {a.shape}")


def _row_bytes(X):
    """Return the bytes of a row."""
    return math.prod(X.shape[1:]) * X.dtype.itemsize


def _sliceable(a):
    """Return what can be read by slices as it is, anything else as an array."""
    if hasattr(a, "tocsr"):
        raise ValueError("X is a sparse matrix; streams are dense: pass it to fit as it is")
    if isinstance(a, np.ndarray):
        return a
    whole = hasattr(a, "iloc") or not all(hasattr(a, k) for k in ("shape", "dtype"))
    return np.asarray(a) if whole or not hasattr(a, "__getitem__") else a


def _stretches(rows):
    """Return ascending rows as ranges of successive ones."""
    if isinstance(rows, range):
        return [rows]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return [range(int(r[0]), int(r[-1]) + 1) for r in np.split(rows, breaks)]


def _pick(a, rows):
    """Return rows of an array, in ascending order, as a new array."""
    if isinstance(a, np.ndarray) and not isinstance(rows, range):
        return np.asarray(a[rows])
    return np.concatenate([a[r.start : r.stop] for r in _stretches(rows)])


def _mapping(a):
    """Return the memory map that an array's memory belongs to, or None."""
    while isinstance(a, np.ndarray):
        a = a.base
    return a if isinstance(a, mmap.mmap) else None


def _let_go(a):
    """Take the pages of a shared memory map out of the process; the system's cache keeps them."""
    owner = a
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    # The pages of a copy-on-write map are the only copy of what was written to it.
    shared = isinstance(owner, np.memmap) and owner.mode in ("r", "r+", "w+")
    if shared and _mapping(owner) is not None and hasattr(mmap, "MADV_DONTNEED"):
        _mapping(owner).madvise(mmap.MADV_DONTNEED)
