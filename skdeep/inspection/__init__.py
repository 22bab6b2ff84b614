"""Pictures of what is inside a fitted estimator."""

from skdeep.inspection._loss_curve import LossCurveDisplay

__all__ = ["LossCurveDisplay"]
