"""The only importer of scikit-learn's private or experimental names."""

import numpy as np
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._array_api import _is_numpy_namespace, get_namespace_and_device, move_to
from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight

__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Hidden",
    "Interval",
    "InvalidParameterError",
    "Options",
    "StrOptions",
    "array_namespace",
    "check_optimize_result",
    "check_partial_fit_first_call",
    "check_sample_weight",
    "fit_context",
    "moved",
    "to_numpy",
    "validate_parameter_constraints",
    "with_callbacks",
]

fit_context = _fit_context
check_partial_fit_first_call = _check_partial_fit_first_call
check_optimize_result = _check_optimize_result
check_sample_weight = _check_sample_weight


def array_namespace(a):
    """Return the namespace of another library's array with ``array_api_dispatch``, else None."""
    if not get_config()["array_api_dispatch"] or isinstance(a, np.ndarray | np.generic):
        return None
    namespace, compliant, _ = get_namespace_and_device(a)
    return namespace if compliant and not _is_numpy_namespace(namespace) else None


def to_numpy(a):
    """Return an array of another library as NumPy's."""
    return move_to(a, xp=np, device="cpu")


def moved(result, namespace, like):
    """Return a NumPy array as one of another namespace, where an array of that is."""
    device = get_namespace_and_device(like)[2]
    result = np.ascontiguousarray(result)
    return namespace.asarray(result if result.flags.writeable else result.copy(), device=device)
