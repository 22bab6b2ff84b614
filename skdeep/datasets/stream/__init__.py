"""Streams: training data larger than memory, read while they are used."""

from skdeep.datasets.stream._arrays import stream_arrays, stream_npy
from skdeep.datasets.stream._base import Stream
from skdeep.datasets.stream._iterable import stream_iterable
from skdeep.datasets.stream._npz import stream_npz
from skdeep.datasets.stream._text import stream_csv

__all__ = [
    "Stream",
    "stream_arrays",
    "stream_csv",
    "stream_iterable",
    "stream_npy",
    "stream_npz",
]
