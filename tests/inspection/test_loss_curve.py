"""Learning curves."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep.inspection import LossCurveDisplay
from skdeep.neural_network import MLPClassifier


@pytest.mark.parametrize("validated", [False, True])
def test_curves(cnn, digits, pyplot, validated):
    X, y = digits
    mlp = MLPClassifier((4,), max_iter=30, tol=0.1, random_state=0, early_stopping=validated)
    model = make_pipeline(StandardScaler(), mlp).fit(X, y)
    display = LossCurveDisplay.from_estimator(model, log=True)
    mlp = model[-1]
    assert display.figure_ is display.ax_.figure
    np.testing.assert_array_equal(display.line_.get_ydata(), mlp.loss_curve_)
    assert display.ax_.get_yscale() == "log"
    if validated:
        np.testing.assert_array_equal(display.score_line_.get_ydata(), mlp.validation_scores_)
    else:
        assert display.score_line_ is None


def test_errors(digits):
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(MLPClassifier())
    with pytest.raises(TypeError, match="LinearRegression keeps no loss_curve_"):
        LossCurveDisplay.from_estimator(LinearRegression().fit(*digits))
