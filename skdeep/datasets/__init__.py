"""Data for examples and tests, and streams of data larger than memory."""

from skdeep.datasets._cifar10 import load_cifar10
from skdeep.datasets._mnist import load_mnist
from skdeep.datasets.stream import (
    Stream,
    stream_arrays,
    stream_csv,
    stream_iterable,
    stream_npy,
    stream_npz,
)

__all__ = [
    "Stream",
    "load_cifar10",
    "load_mnist",
    "stream_arrays",
    "stream_csv",
    "stream_iterable",
    "stream_npy",
    "stream_npz",
]
