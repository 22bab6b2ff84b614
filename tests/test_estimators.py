"""scikit-learn's estimator checks over every public estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeep.layers import Add, Conv1D, Conv2D, Dense, Dropout, Flatten
from skdeep.neural_network import (
    CNNClassifier,
    CNNRegressor,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)

#: Rows of any number of features, as a row of pixels, as a signal, as they are.
ROW = dict(layers=[("conv", Conv2D(8, 3, padding="same", activation="relu"))])
SIGNAL = dict(layers=[("conv", Conv1D(8, 3, padding="same", activation="relu"))])
GRAPH = [
    ("a", Dense(16, activation="relu")),
    ("b", Dense(16, activation="relu")),
    ("sum", Add(), ["a", "b"]),
]

ESTIMATORS = [
    MLPClassifier(max_iter=100, random_state=0),
    MLPRegressor(max_iter=100, random_state=0),
    MLPClassifier((8,), solver="lbfgs", max_iter=100, random_state=0),
    MLPRegressor(
        hidden_layer_sizes=(8,), solver="lbfgs", dtype="float64", max_iter=100, random_state=0
    ),
    MLPClassifier(
        (16,),
        max_iter=100,
        learning_rate_init=0.02,
        batch_norm=True,
        dropout=0.1,
        dtype="float64",
        random_state=0,
    ),
    MLPClassifier((), loss="hinge", max_iter=100, learning_rate_init=0.1, random_state=0),
    MLPRegressor(
        hidden_layer_sizes=(8,),
        loss="huber",
        solver="sgd",
        max_iter=100,
        learning_rate_init=0.02,
        random_state=0,
    ),
    CNNClassifier(max_iter=60, random_state=0),
    CNNRegressor(max_iter=60, random_state=0),
    CNNClassifier(
        **ROW, image_shape=(1, -1, 1), max_iter=60, learning_rate_init=0.02, random_state=0
    ),
    CNNRegressor(
        **ROW,
        image_shape=(1, -1, 1),
        dtype="float64",
        max_iter=60,
        learning_rate_init=0.02,
        accumulate_steps=2,
        checkpoint_activations=True,
        random_state=0,
    ),
    NetworkClassifier(GRAPH, max_iter=60, learning_rate_init=0.02, random_state=0),
    NetworkRegressor(
        **SIGNAL, input_shape=(-1, 1), max_iter=60, learning_rate_init=0.02, random_state=0
    ),
    NetworkClassifier(
        [("flat", Flatten()), ("drop", Dropout(0.1)), *GRAPH],
        max_iter=60,
        learning_rate_init=0.02,
        random_state=0,
    ),
]

ROUNDING = (
    lambda e: e.dtype == "float32" and e.solver != "lbfgs",
    "float32: the sums of weighted and of repeated samples round differently, by 1e-6; "
    "test_sample_weights_equal_repetition holds it to 1e-9 in float64",
)
DRAWS = (
    lambda e: getattr(e, "dropout", 0) > 0 or "drop" in e.get_params(),
    "dropout draws and batch statistics are per sample: a repeated sample has several",
)
#: Check -> (the estimators it cannot hold for, why); none may stand here without a reason.
EXPECTED_FAILURES = {
    f"check_sample_weight_equivalence_on_{kind}_data": [ROUNDING, DRAWS]
    for kind in ("dense", "sparse")
}


def expected(estimator):
    """Return the checks that an estimator may fail, with the reasons."""
    return {
        check: reason
        for check, reasons in EXPECTED_FAILURES.items()
        for applies, reason in reasons
        if applies(estimator)
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected, xfail_strict=True)
def test_estimator(estimator, check):
    check(estimator)
