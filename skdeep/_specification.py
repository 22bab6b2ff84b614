"""What layers, initialisers, optimisers, schedules and checkpoints are: declared parameters."""

from abc import ABC

from sklearn.base import BaseEstimator

from skdeep._compat import validate_parameter_constraints


class Specification(BaseEstimator, ABC):
    """Abstract base of what is declared by parameters and checked by constraints.

    It is a scikit-learn estimator, so that its parameters can be read, set, cloned and searched.
    """

    _parameter_constraints: dict = {}

    def validate(self):
        """Check the parameters.

        Raises
        ------
        InvalidParameterError
            A ValueError that names the first wrong parameter, its value and what would do.

        Examples
        --------
        >>> from skdeep.training import Adam
        >>> Adam(beta_1=1.0).validate()
        Traceback (most recent call last):
            ...
        sklearn.utils._param_validation.InvalidParameterError: The 'beta_1' parameter of Adam \
must be a float in the range [0.0, 1.0). Got 1.0 instead.
        """
        # The attributes are the parameters: `__init__` only stores.
        validate_parameter_constraints(
            self._parameter_constraints, vars(self), type(self).__name__
        )
