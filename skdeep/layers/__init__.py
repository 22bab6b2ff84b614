"""Layer specifications: what networks are stacked of."""

from skdeep.layers._activation import Activation, PReLU, RReLU
from skdeep.layers._base import Built, Context, Layer, Parameter
from skdeep.layers._dense import Dense, Flatten
from skdeep.layers._initializers import (
    Constant,
    FanUniform,
    Glorot,
    He,
    Initializer,
    LeCun,
    Orthogonal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from skdeep.layers._normalization import BatchNormalization, LayerNormalization
from skdeep.layers._regularization import Dropout, GaussianNoise

__all__ = [
    "Activation",
    "BatchNormalization",
    "Built",
    "Constant",
    "Context",
    "Dense",
    "Dropout",
    "FanUniform",
    "Flatten",
    "GaussianNoise",
    "Glorot",
    "He",
    "Initializer",
    "Layer",
    "LayerNormalization",
    "LeCun",
    "Orthogonal",
    "PReLU",
    "Parameter",
    "RReLU",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
]
