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
from skdeep.autodiff.ops.nn import linear
from skdeep.autodiff.ops.norm import batch_norm, layer_norm

__all__ = [
    "batch_norm",
    "binary_cross_entropy",
    "cross_entropy",
    "layer_norm",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
]
