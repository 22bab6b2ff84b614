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

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "softmax",
    "softplus",
]
