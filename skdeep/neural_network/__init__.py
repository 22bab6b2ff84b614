"""Neural networks as scikit-learn estimators."""

from skdeep.neural_network._mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
