"""scikit-learn's estimator checks over every public estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeep.neural_network import MLPClassifier, MLPRegressor

ESTIMATORS = [
    MLPClassifier(max_iter=100, random_state=0),
    MLPRegressor(max_iter=100, random_state=0),
    MLPClassifier((8,), solver="lbfgs", max_iter=100, random_state=0),
    MLPRegressor((8,), solver="lbfgs", dtype="float64", max_iter=100, random_state=0),
    MLPClassifier(
        (8,), max_iter=60, batch_norm=True, dropout=0.1, dtype="float64", random_state=0
    ),
    MLPClassifier((), loss="hinge", max_iter=60, random_state=0),
    MLPRegressor((8,), loss="huber", solver="sgd", max_iter=60, random_state=0),
]

#: Check -> why it cannot hold; none may stand here without a reason.
EXPECTED_FAILURES: dict = {}


def expected(estimator):
    """Return the checks that an estimator may fail, with the reasons."""
    return {
        check: reason
        for check, (applies, reason) in EXPECTED_FAILURES.items()
        if applies(estimator)
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected)
def test_estimator(estimator, check):
    check(estimator)
