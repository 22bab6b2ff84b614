"""What TensorBoard's own reader finds in a run."""

import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep.neural_network import MLPClassifier
from skdeep.training import TensorBoard


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the protocol buffers
def test_scalars_are_the_curves(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    X, y = load_iris(return_X_y=True)
    mlp = MLPClassifier((5,), max_iter=4, early_stopping=True, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).set_callbacks(TensorBoard(tmp_path, run="a"))
    pipeline.fit(X, y)
    reader = EventAccumulator(str(tmp_path / "a"))
    reader.Reload()
    fitted = pipeline[-1]
    assert [e.step for e in reader.Scalars("loss")] == [0, 1, 2, 3]
    assert [e.value for e in reader.Scalars("loss")] == pytest.approx(fitted.loss_curve_)
    scores = [e.value for e in reader.Scalars("validation_score")]
    assert scores == pytest.approx(fitted.validation_scores_)
    assert "norm/hidden1.weight" in reader.Tags()["scalars"]
