"""Minimisation, critical points and least squares, with derivatives by `skdeep.autodiff`."""

from skdeep.optimize._conditioning import IllConditionedWarning, condition_number
from skdeep.optimize._critical import CriticalPoint, classify_critical_point
from skdeep.optimize._lstsq import LstsqResult, lstsq
from skdeep.optimize._minimize import minimize

__all__ = [
    "CriticalPoint",
    "IllConditionedWarning",
    "LstsqResult",
    "classify_critical_point",
    "condition_number",
    "lstsq",
    "minimize",
]
