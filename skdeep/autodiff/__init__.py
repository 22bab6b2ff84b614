"""Automatic differentiation of plain NumPy functions."""

from skdeep.autodiff import ops
from skdeep.autodiff._custom import custom_vjp, primitive
from skdeep.autodiff._testing import check_grads
from skdeep.autodiff._trace import Primitive, Unrecordable
from skdeep.autodiff._transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from skdeep.autodiff._view import EvaluationTrace, trace
from skdeep.autodiff.ops import (
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
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "jacobian",
    "hessian",
    "hvp",
    "primitive",
    "custom_vjp",
    "check_grads",
    "trace",
    "EvaluationTrace",
    "Primitive",
    "Unrecordable",
    "ops",
    "binary_cross_entropy",
    "cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "softmax",
    "softplus",
]
