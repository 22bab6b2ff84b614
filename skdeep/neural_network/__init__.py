"""Neural networks: scikit-learn's multi-layer perceptrons and more, convolutional networks."""

from skdeep.neural_network._cnn import CNNClassifier, CNNRegressor
from skdeep.neural_network._mlp_classifier import MLPClassifier
from skdeep.neural_network._mlp_regressor import MLPRegressor
from skdeep.neural_network._network import NetworkClassifier, NetworkRegressor

__all__ = [
    "CNNClassifier",
    "CNNRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "NetworkClassifier",
    "NetworkRegressor",
]
