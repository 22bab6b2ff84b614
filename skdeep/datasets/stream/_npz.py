"""Streams of .npz files, whose arrays are read row after row."""

import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from skdeep.datasets.stream._arrays import check_lengths
from skdeep.datasets.stream._base import Stream
from skdeep.datasets.stream._blocks import Block
from skdeep.datasets.stream._npy import read_header
from skdeep.datasets.stream._paths import expand


def stream_npz(paths, *, X="X", y="y", sample_weight=None, **options):
    """Make a stream of ``.npz`` files, compressed or not; no array is loaded whole.

    Parameters
    ----------
    paths : str, path-like or list of these
        The files, each a shard; a str may be a glob pattern, whose files come in sorted order.
    X : str, default="X"
        The key of the samples.
    y : str or None, default="y"
        The key of the targets; None for none.
    sample_weight : str, default=None
        The key of the weights.
    **options
        The parameters of `Stream`.

    Returns
    -------
    Stream

    Raises
    ------
    ValueError
        When a file is no ``.npz`` file, lacks a key, holds arrays of different lengths, of Python
        objects or in Fortran order, or an option is out of its range.
    FileNotFoundError
        When a file is not there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skdeep.datasets import stream_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(2):
    ...         X, y = np.ones((5, 3)), np.full(5, i)
    ...         np.savez_compressed(Path(folder) / f"{i}.npz", images=X, labels=y)
    ...     stream = stream_npz(f"{folder}/*.npz", X="images", y="labels")
    ...     print(stream, stream.scan().classes)
    <stream of 2 .npz files: n_samples 10, buffer_size=10000> [0 1]
    """
    keys = {"X": X, "y": y, "sample_weight": sample_weight}
    return _NpzStream([_Npz(path, keys) for path in expand(paths, "paths")], options)


class _NpzStream(Stream):
    """Files that are read from their beginning."""

    def __init__(self, shards, options):
        super().__init__(**options)
        self._shards = shards

    def _describe(self):
        n = len(self._shards)
        return f"{n} .npz file{'s' * (n != 1)}"

    def _count(self):
        return sum(shard.size for shard in self._shards)

    def _sources(self, generator, rows):
        return self._shards


class _Npz:
    """One file as a source."""

    def __init__(self, path, keys):
        self.name = str(Path(path))
        self._keys = keys
        with ExitStack() as stack:
            members = self._open(stack)
        check_lengths(self.name, **members)
        self.size = members["X"].shape[0]

    def _open(self, stack):
        """Open the members: a dict of `_Member` or None."""
        try:
            archive = stack.enter_context(zipfile.ZipFile(self.name))
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self.name} cannot be read as a .npz file: {error}") from None
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        members = {}
        for role, key in self._keys.items():
            if key is not None and key not in names:
                raise ValueError(
                    f"{self.name} has no array {role}={key!r}; it has {sorted(names)}"
                )
            members[role] = None
            if key is not None:
                file = stack.enter_context(archive.open(names[key]))
                members[role] = _Member(file, f"{self.name}, array {key!r}")
        return members

    def blocks(self, rows):
        with ExitStack() as stack:
            members = self._open(stack).values()
            for begin in range(0, self.size, rows):
                end = min(begin + rows, self.size)
                arrays = [None if m is None else m.read(end - begin) for m in members]
                yield Block(*arrays, self.name, range(begin, end))


class _Member:
    """An array of an open archive, read row after row."""

    def __init__(self, file, name):
        self._file = file
        self._name = name
        self.shape, self.dtype = read_header(file, name)

    def read(self, n):
        """Return the next `n` rows."""
        shape = (n, *self.shape[1:])
        n_bytes = int(np.prod(shape)) * self.dtype.itemsize
        data = self._file.read(n_bytes)
        if len(data) < n_bytes:
            raise ValueError(f"{self._name} is truncated")
        return np.frombuffer(data, self.dtype).reshape(shape)
