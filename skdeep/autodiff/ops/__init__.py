"""Primitives, grouped by kind."""

from skdeep.autodiff.ops import (  # noqa: F401
    discrete,
    einsum,
    elementwise,
    index,
    linalg,
    linalg_norms,
    products,
    reduce,
    shape,
)
from skdeep.autodiff.ops.conv import conv1d, conv2d, conv3d, conv_transpose
from skdeep.autodiff.ops.logits import (
    binary_cross_entropy,
    cross_entropy,
    log_sigmoid,
    log_softmax,
    logsumexp,
    sigmoid,
    softmax,
    softplus,
)
from skdeep.autodiff.ops.loss import softmax_cross_entropy
from skdeep.autodiff.ops.lrn import local_response_normalization
from skdeep.autodiff.ops.nn import linear
from skdeep.autodiff.ops.norm import batch_norm, layer_norm
from skdeep.autodiff.ops.pool import average_pool, max_pool

__all__ = [
    "average_pool",
    "batch_norm",
    "binary_cross_entropy",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose",
    "cross_entropy",
    "layer_norm",
    "linear",
    "local_response_normalization",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "max_pool",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
]
