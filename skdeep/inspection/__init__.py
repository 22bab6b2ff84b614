"""Pictures of what is inside a fitted estimator, and of what it sees in samples."""

from skdeep.inspection._class_activation import ClassActivationDisplay, class_activation_map
from skdeep.inspection._feature_maps import FeatureMapDisplay, feature_maps
from skdeep.inspection._filters import FilterDisplay
from skdeep.inspection._hardest import HardestDisplay, confusion_pairs, hardest_samples
from skdeep.inspection._loss_curve import LossCurveDisplay
from skdeep.inspection._maximisation import activation_maximization
from skdeep.inspection._saliency import SaliencyDisplay, saliency

__all__ = [
    "ClassActivationDisplay",
    "FeatureMapDisplay",
    "FilterDisplay",
    "HardestDisplay",
    "LossCurveDisplay",
    "SaliencyDisplay",
    "activation_maximization",
    "class_activation_map",
    "confusion_pairs",
    "feature_maps",
    "hardest_samples",
    "saliency",
]
