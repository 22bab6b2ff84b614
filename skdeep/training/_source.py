"""Where a member's samples come from: rows of arrays, at once or in pages, or a stream."""

from contextlib import closing

import numpy as np

from skdeep._random import permutation
from skdeep.training._step import Data


class Rows:
    """Some rows of arrays.

    Parameters
    ----------
    data : Data
        The samples, which members may share.
    rows : ndarray of int64
        The rows to train on.
    shuffle : bool, default=True
        Whether each epoch has an order of its own.

    Attributes
    ----------
    order : ndarray of int64 of shape (1, n_rows)
        The rows in the epoch's order (fixed memory).
    """

    def __init__(self, data, rows, shuffle=True):
        self.data, self.rows, self.shuffle = data, np.asarray(rows, np.int64), shuffle
        self.order = np.array(self.rows)[None]

    def __len__(self):
        return len(self.rows)

    @property
    def arrays(self):
        """What steps read: to be where they run."""
        return [*self.data.arrays, self.order]

    def changed(self, rows):
        """Return what a chunk of an epoch has written, of so many rows."""
        return [self.order]

    def chunks(self, seed, epoch, batch_size):
        """Prepare an epoch; yield the number of rows that `order` begins with."""
        if self.shuffle:
            self.order[0] = self.rows[permutation(seed, epoch, len(self.rows))]
        yield len(self.rows)


class Paged(Rows):
    """Some rows of arrays that are too large for the memory of where they are trained on.

    An epoch goes through the same rows in the same order, and so makes the same steps, but they
    are laid out page by page in a buffer of fixed size.

    Parameters
    ----------
    data : Data
        The samples, which are not sparse.
    rows : ndarray of int64
        The rows to train on.
    shuffle : bool
        Whether each epoch has an order of its own.
    page : int
        The rows of a page: a multiple of the batch size.
    """

    def __init__(self, data, rows, shuffle, page):
        super().__init__(data, rows, shuffle)
        self.whole, self.page = data, page
        self.data = Data(*(np.zeros((page, *a.shape[1:]), a.dtype) for a in data.arrays))
        self.data.sample_shape = data.sample_shape
        self.order = np.arange(page)[None]

    def changed(self, rows):
        """Return what a chunk of an epoch has written, of so many rows."""
        return [a[:rows] for a in self.data.arrays]

    def chunks(self, seed, epoch, batch_size):
        """Lay out an epoch page by page; yield the rows of each."""
        rows = self.rows
        if self.shuffle:
            rows = rows[permutation(seed, epoch, len(rows))]
        for start in range(0, len(rows), self.page):
            part = rows[start : start + self.page]
            for mine, theirs in zip(self.data.arrays, self.whole.arrays, strict=True):
                np.take(theirs, part, axis=0, out=mine[: len(part)])
            yield len(part)


class Streamed:
    """The blocks of a stream, through a buffer of fixed size.

    Parameters
    ----------
    stream : Stream
        Gives the blocks of an epoch, shuffled.
    encode : callable
        ``encode(y)`` gives the targets as the loss takes them, from a block's y.
    weigh : callable
        ``weigh(targets, weight)`` gives a block's sample weights, or None.
    sample_shape : tuple of int
        The shape of a sample for the network.
    dtype : dtype
        The network's.
    batch_size : int
        Samples per step: the buffer holds what is left of a block for the next.
    """

    def __init__(self, stream, encode, weigh, sample_shape, dtype, batch_size):
        self.stream, self.encode, self.weigh = stream, encode, weigh
        self.n_samples, size = len(stream), stream.buffer_size + batch_size
        # The first row says the kinds of targets and weights.
        targets = encode(stream.take(1)[1])
        weights = weigh(targets, np.ones(1) if stream.has_weight else None)
        kind = np.int64 if targets.dtype.kind == "i" else dtype
        self.data = Data(
            np.zeros((size, int(np.prod(sample_shape))), dtype),
            np.zeros((size, *targets.shape[1:]), kind),
            None if weights is None else np.zeros(size, dtype),
            sample_shape,
        )
        self.order = np.arange(size)[None]

    def __len__(self):
        return self.n_samples

    @property
    def arrays(self):
        """What steps read: to be where they run."""
        return [*self.data.arrays, self.order]

    def changed(self, rows):
        """Return what a chunk of an epoch has written, of so many rows."""
        return [a[:rows] for a in self.data.arrays]

    def chunks(self, seed, epoch, batch_size):
        """Fill the buffer block by block; yield how many rows of it to take.

        All but the last chunk are whole batches: what is left over begins the next.
        """
        held, seen = 0, 0
        # Closed, so that its readers end at once where the training is interrupted.
        with closing(self.stream.epoch(epoch, seed, self.stream.buffer_size)) as blocks:
            for X, y, weight in blocks:
                seen += len(X)
                held = self._put(held, X, y, weight)
                whole = held - held % batch_size
                if whole:
                    yield whole
                    self._keep(whole, held)
                    held -= whole
        if seen != self.n_samples:
            raise ValueError(
                f"the stream gave {seen} samples in an epoch, but {self.n_samples} when it was "
                "counted; it must give the same samples every time"
            )
        if held:
            yield held

    def _put(self, held, X, y, weight):
        """Put a block behind the rows that are held; return how many are held then."""
        targets = self.encode(y)
        weights = self.weigh(targets, weight)
        end = held + len(X)
        self.data.x[held:end] = np.reshape(X, (len(X), -1))
        self.data.y[held:end] = targets
        if self.data.weight is not None:
            self.data.weight[held:end] = weights
        return end

    def _keep(self, begin, end):
        """Move rows to the front."""
        for a in (self.data.x, self.data.y, self.data.weight):
            if a is not None:
                a[: end - begin] = a[begin:end].copy()
