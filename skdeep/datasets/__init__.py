"""Data for examples and tests: a local folder first, the OpenML archive after."""

from skdeep.datasets._mnist import load_mnist

__all__ = ["load_mnist"]
