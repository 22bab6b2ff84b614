"""Layer specifications: what networks are stacked of; architectures made of them."""

from skdeep.layers import architectures
from skdeep.layers._activation import (
    Activation,
    PReLU,
    RReLU,
)
from skdeep.layers._base import (
    Built,
    Context,
    Layer,
    Parameter,
)
from skdeep.layers._blocks import (
    Inception,
    Residual,
)
from skdeep.layers._composite import (
    Auxiliary,
    Composite,
)
from skdeep.layers._convolution import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
)
from skdeep.layers._dense import (
    Dense,
    Flatten,
)
from skdeep.layers._image import (
    Crop1D,
    Crop2D,
    Crop3D,
    Pad1D,
    Pad2D,
    Pad3D,
    Upsample1D,
    Upsample2D,
    Upsample3D,
)
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
from skdeep.layers._merge import (
    Add,
    Concatenate,
)
from skdeep.layers._normalization import (
    BatchNormalization,
    LayerNormalization,
)
from skdeep.layers._pooling import (
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    GlobalAveragePool,
    GlobalMaxPool,
    LocalResponseNormalization,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxPoolDepth,
)
from skdeep.layers._rbf import (
    RBF,
)
from skdeep.layers._regularization import (
    Dropout,
    GaussianNoise,
)
from skdeep.layers._separable import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    DepthwiseConv3D,
    SeparableConv1D,
    SeparableConv2D,
    SeparableConv3D,
)
from skdeep.layers._summary import (
    Summary,
    summary,
)

__all__ = [
    "Activation",
    "Add",
    "Auxiliary",
    "AveragePool1D",
    "AveragePool2D",
    "AveragePool3D",
    "BatchNormalization",
    "Built",
    "Composite",
    "Concatenate",
    "Constant",
    "Context",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Crop1D",
    "Crop2D",
    "Crop3D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "DepthwiseConv3D",
    "Dropout",
    "FanUniform",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Glorot",
    "He",
    "Inception",
    "Initializer",
    "Layer",
    "LayerNormalization",
    "LeCun",
    "LocalResponseNormalization",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPoolDepth",
    "Orthogonal",
    "PReLU",
    "Pad1D",
    "Pad2D",
    "Pad3D",
    "Parameter",
    "RBF",
    "RReLU",
    "RandomUniform",
    "Residual",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConv3D",
    "Summary",
    "TruncatedNormal",
    "Upsample1D",
    "Upsample2D",
    "Upsample3D",
    "VarianceScaling",
    "architectures",
    "summary",
]
