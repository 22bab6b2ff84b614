"""Streams of text files: numbers and labels between delimiters."""

import csv
import gzip
import zlib
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from pathlib import Path

import numpy as np

from skdeep.datasets.stream._base import Stream
from skdeep.datasets.stream._blocks import Block
from skdeep.datasets.stream._paths import expand

#: What stands for a missing value in common files, in lower case.
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}


def stream_csv(
    paths,
    *,
    target=None,
    columns=None,
    sample_weight=None,
    delimiter=",",
    header=True,
    **options,
):
    """Make a stream of text files with one sample a line.

    Parameters
    ----------
    paths : str, path-like or list of these
        The files, each a shard; a str may be a glob pattern, whose files come in sorted order.
        Those whose names end in ``.gz`` are decompressed. The text is UTF-8.
    target : str or int, or list of these, default=None
        The column of the targets, by its name in the header or its number from 0 (-1 is the
        last); a list gives several outputs; None, no targets. Targets are labels if the first of
        them is no number.
    columns : list of str or int, default=None
        The columns of X; None means all but `target` and `sample_weight`.
    sample_weight : str or int, default=None
        The column of the weights.
    delimiter : str, default=","
        The character between the cells.
    header : bool, default=True
        Whether the first line of every file names the columns.
    **options
        The parameters of `Stream`.

    Returns
    -------
    Stream

    Raises
    ------
    ValueError
        When a column is not there, a file is empty or its header differs from the first file's,
        or an option is out of its range. While reading: when a line has too many or too few
        cells, or a cell is no number or missing, with the file and the line.
    FileNotFoundError
        When a file is not there.

    Notes
    -----
    Cells may be quoted by ``"``, but not contain the end of a line. Empty lines are left out.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skdeep.datasets import stream_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(2):
    ...         text = f"length,width,species\\n{i},0.5,cat\\n2,{i},dog\\n"
    ...         _ = (Path(folder) / f"{i}.csv").write_text(text)
    ...     stream = stream_csv(f"{folder}/*.csv", target="species")
    ...     X, y = stream.take(3)
    >>> X.tolist(), y.tolist()
    ([[0.0, 0.5], [2.0, 0.0], [1.0, 0.5]], ['cat', 'dog', 'cat'])
    """
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\n\r':
        raise ValueError(f"delimiter={delimiter!r} must be one character, and no quote or newline")
    if not isinstance(header, bool):
        raise ValueError(f"header={header!r} must be True or False")
    paths = expand(paths, "paths")
    first = _first_cells(paths[0], delimiter)
    names = first if header else None
    for path in paths[1:]:
        cells = _first_cells(path, delimiter)
        if header and cells != first:
            raise ValueError(
                f"{path}, line 1: the header {cells} differs from {first} of {paths[0]}"
            )
    table = _table(names, len(first), target, columns, sample_weight, delimiter)
    return _CsvStream(paths, table, options)


@dataclass(frozen=True)
class _Table:
    """The columns of the files."""

    names: list | None
    n_columns: int
    delimiter: str
    features: tuple
    targets: tuple
    single: bool
    weight: int | None

    def column(self, c):
        """Return how a column is called in an error."""
        return f"column {c}" if self.names is None else f"column {self.names[c]!r}"


def _table(names, n_columns, target, columns, sample_weight, delimiter):
    """Find the columns by names and numbers."""

    def find(key, parameter):
        if isinstance(key, Integral) and not isinstance(key, bool):
            if -n_columns <= key < n_columns:
                return int(key) % n_columns
            raise ValueError(f"{parameter}={key} is out of range: there are {n_columns} columns")
        if names is None or not isinstance(key, str):
            raise ValueError(
                f"{parameter}={key!r} must be a column's number"
                + (", for there is no header" if names is None else " or name")
            )
        if names.count(key) != 1:
            raise ValueError(
                f"{parameter}={key!r} is {'more than one' if key in names else 'none'} of the "
                f"columns {names}"
            )
        return names.index(key)

    single = target is None or not isinstance(target, list | tuple)
    targets = [] if target is None else [target] if single else list(target)
    targets = tuple(find(key, "target") for key in targets)
    weight = None if sample_weight is None else find(sample_weight, "sample_weight")
    if columns is None:
        features = tuple(c for c in range(n_columns) if c not in (*targets, weight))
    else:
        features = tuple(find(key, "columns") for key in columns)
    if not features:
        raise ValueError(f"columns={columns!r} leaves no column for X; there are {n_columns}")
    both = set(features) & {*targets, weight}
    if both:
        raise ValueError(f"columns={columns!r} has the target or the weight among the samples")
    return _Table(names, n_columns, delimiter, features, targets, single, weight)


class _CsvStream(Stream):
    """Text files that are read from their beginning."""

    def __init__(self, paths, table, options):
        super().__init__(**options)
        skip = table.names is not None
        files = [_Csv(path, table, skip, self.dtype) for path in paths]
        if self._prepare.classes is not None:
            text = self._prepare.classes.dtype.kind == "U"
        else:
            text = bool(table.targets) and _is_text(files)
        for file in files:
            file.text = text
        self._files = files

    def _describe(self):
        n = len(self._files)
        return f"{n} text file{'s' * (n != 1)}"

    def _sources(self, generator, rows):
        return self._files


class _Csv:
    """One file as a source."""

    def __init__(self, path, table, skip, dtype):
        self.name = str(path)
        self.size = path.stat().st_size
        self.text = False
        self._path = path
        self._table = table
        self._skip = skip
        self._dtype = dtype

    def blocks(self, rows):
        for lines, numbers in self.lines(rows):
            yield self._parse(lines, numbers)

    def lines(self, rows):
        """Yield lists of lines that are not empty, and their numbers in the file from 1."""
        content, number = _lines(self._path), 1
        if self._skip:
            next(content, None)
            number += 1
        while lines := list(islice(content, rows)):
            numbers = range(number, number + len(lines))
            number += len(lines)
            if any(map(str.isspace, lines)):
                kept = [(n, s) for n, s in zip(numbers, lines, strict=True) if s.strip()]
                numbers, lines = [n for n, _ in kept], [s for _, s in kept]
            if lines:
                yield lines, numbers

    def _parse(self, lines, numbers):
        """Return lines as a block."""
        table = self._table
        y = weight = None
        cells = self._cells(lines, numbers)
        try:
            X = np.loadtxt(
                lines, self._dtype, comments=None, delimiter=table.delimiter,
                usecols=table.features, quotechar='"', ndmin=2,
            )  # fmt: skip
            if table.targets:
                y = [cells(c) for c in table.targets]
                y = np.array(y[0] if table.single else y, None if self.text else np.float64).T
            if table.weight is not None:
                weight = np.array(cells(table.weight), np.float64)
        except ValueError as error:
            self._blame(lines, numbers, error)
        if self.text and (y == "").any():
            self._blame(lines, numbers, None)
        return Block(X, y, weight, self.name, numbers, "line")

    def _cells(self, lines, numbers):
        """Return the function that gives the cells of a column, as stripped strings.

        It sees to it that all lines have the number of cells that they should.
        """
        delimiter, n = self._table.delimiter, self._table.n_columns
        if not any('"' in s or s.count(delimiter) != n - 1 for s in lines):

            def cells(c):
                if c < n // 2:
                    return [s.split(delimiter, c + 1)[c].strip() for s in lines]
                return [s.rsplit(delimiter, n - c)[c - n].strip() for s in lines]

            return cells
        rows = self._split(lines, numbers)
        return lambda c: [row[c].strip() for row in rows]

    def _split(self, lines, numbers):
        """Split lines that may have quoted cells, and count the cells."""
        rows = []
        for line, number in zip(lines, numbers, strict=True):
            where = f"{self.name}, line {number}"
            row = _row(line, self._table.delimiter, where)
            if len(row) != self._table.n_columns:
                raise ValueError(
                    f"{where}: {len(row)} cells, but there are {self._table.n_columns} columns"
                )
            rows.append(row)
        return rows

    def _blame(self, lines, numbers, error):
        """Raise the error that names the first cell which cannot be used."""
        table = self._table
        used = sorted({*table.features, *table.targets, table.weight} - {None})
        for row, number in zip(self._split(lines, numbers), numbers, strict=True):
            for c in used:
                cell = row[c].strip()
                where = f"{self.name}, line {number}, {table.column(c)}"
                label = self.text and c in table.targets
                if cell == "" if label else cell.lower() in MISSING:
                    raise ValueError(
                        f"{where}: the value is missing ({row[c]!r}); leave such lines out or "
                        "fill them in"
                    ) from None
                if not (label or _is_number(cell)):
                    raise ValueError(
                        f"{where}: {cell!r} is no number"
                        + (
                            ", as the first target is; labels are given by classes="
                            if c in table.targets
                            else "; columns= can leave the column out"
                        )
                    ) from None
        raise ValueError(f"{self.name}, lines {numbers[0]} to {numbers[-1]}: {error}") from error


def _lines(path):
    """Yield the lines of a file."""
    opener = gzip.open if Path(path).suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            yield from file
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as text: {error}") from error


def _first_cells(path, delimiter):
    """Return the cells of a file's first line."""
    line = next(_lines(path), "")
    if not line.strip():
        raise ValueError(f"{path} is empty, or its first line is; leave the file out")
    return [cell.strip() for cell in _row(line, delimiter, f"{path}, line 1")]


def _row(line, delimiter, where):
    """Split a line that may have quoted cells."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"{where}: {error} (a quoted cell must end in its line)") from None


def _is_text(files):
    """Tell whether the first target of the files is no number."""
    for file in files:
        for lines, numbers in file.lines(1):
            cells = file._cells(lines, numbers)
            first = [cells(c)[0] for c in file._table.targets]
            return not all(map(_is_number, first))
    return False


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True
