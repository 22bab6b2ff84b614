"""scikit-learn's own tests of its multi-layer perceptron, with the import swapped."""

import functools
import re
import types
from pathlib import Path

import numpy as np
import pytest
import sklearn.neural_network.tests as suite

#: Tests that ask for more than the public contract: name -> why they cannot pass.
PRIVATE = {
    "test_gradient": "calls the private _loss_grad_lbfgs",
    "test_learning_rate_warmstart": "reads the private _optimizer",
    "test_adaptive_learning_rate": "reads the private _optimizer",
    "test_n_iter_no_change": "reads the private _no_improvement_count",
    "test_n_iter_no_change_inf": "reads the private _no_improvement_count",
}
#: Parametrised cases that contradict a documented deviation: name -> (case, reason).
DEVIATIONS = {
    "test_mlp_param_dtypes": (
        lambda dtype, **_: dtype is np.float64,
        "networks compute in float32 whatever the dtype of X, unless dtype='float64'",
    )
}


def _load():
    path = Path(suite.__file__).parent / "test_mlp.py"
    theirs, ours = "from sklearn.neural_network import", "from skdeep.neural_network import"
    swapped, count = re.subn(re.escape(theirs), ours, path.read_text())
    assert count == 1
    module = types.ModuleType("sklearn_mlp_suite")
    exec(compile(swapped, str(path), "exec"), module.__dict__)
    return {k: v for k, v in vars(module).items() if k.startswith("test_")}


@pytest.fixture
def global_random_seed():
    """The seed that scikit-learn's tests are run with."""
    return 42


def _deviates(test, case, reason):
    @functools.wraps(test)
    def checked(**kwargs):
        if case(**kwargs):
            with pytest.raises(AssertionError):
                test(**kwargs)
            pytest.xfail(reason)
        test(**kwargs)

    return checked


for _name, _test in _load().items():
    if _name in PRIVATE:
        _test = pytest.mark.skip(reason=PRIVATE[_name])(_test)
    if _name in DEVIATIONS:
        _test = _deviates(_test, *DEVIATIONS[_name])
    globals()[_name] = _test
