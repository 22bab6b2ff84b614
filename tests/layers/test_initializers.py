"""Initialisers: moments, ranges, orthogonality, names."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier

from skdeep._compat import InvalidParameterError
from skdeep.layers import _initializers as init

FAN_IN, FAN_OUT = 400, 100
N = FAN_IN * FAN_OUT


def draw(initializer, shape=(FAN_IN, FAN_OUT), seed=0, dtype=np.float64):
    return initializer(shape, FAN_IN, FAN_OUT, np.random.default_rng(seed), dtype)


def check_moments(w, variance, kurtosis):
    """Mean and variance within five standard errors."""
    error = np.sqrt(variance / w.size)
    assert abs(w.mean()) < 5 * error
    assert abs(w.var() / variance - 1) < 5 * np.sqrt((kurtosis - 1) / w.size)


#: The fourth standardised moment of each distribution (2.06 after the cut at two deviations).
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "truncated_normal": 2.4}
VARIANCE = {"glorot": 2 / (FAN_IN + FAN_OUT), "he": 2 / FAN_IN, "lecun": 1 / FAN_IN}


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize("name", VARIANCE)
def test_named_variance_scaling(name, distribution):
    w = draw(init.get_initializer(f"{name}_{distribution}"))
    check_moments(w, VARIANCE[name], KURTOSIS[distribution])
    deviation = np.sqrt(VARIANCE[name])
    if distribution == "uniform":
        assert 1.7 < np.abs(w).max() / deviation < np.sqrt(3)
    if distribution == "truncated_normal":
        # Two deviations of the uncut normal, which is 1 / 0.8796 wider.
        assert 2.2 < np.abs(w).max() / deviation < 2 / 0.8796


@pytest.mark.parametrize(
    ("mode", "fan"), [("fan_in", FAN_IN), ("fan_out", FAN_OUT), ("fan_avg", 250)]
)
def test_variance_scaling_modes(mode, fan):
    check_moments(draw(init.VarianceScaling(3.0, mode)), 3.0 / fan, 3.0)


def test_xavier_is_glorot():
    a, b = (draw(init.get_initializer(f"{n}_uniform")) for n in ("xavier", "glorot"))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(("activation", "factor"), [("relu", 6.0), ("logistic", 2.0)])
def test_auto_is_that_of_scikit_learn(activation, factor):
    w = draw(init.get_initializer("auto", activation=activation))
    bound = np.sqrt(factor / (FAN_IN + FAN_OUT))
    assert 0.999 * bound < np.abs(w).max() < bound
    check_moments(w, bound**2 / 3, 1.8)
    theirs = MLPClassifier(activation=activation)
    theirs._random_state = np.random.RandomState(0)
    coefficients, intercepts = theirs._init_coef(FAN_IN, FAN_OUT, np.float64)
    assert 0.999 * bound < np.abs(coefficients).max() < bound
    b = draw(init.get_initializer("auto", activation=activation), (FAN_OUT,))
    assert 0.9 * bound < np.abs(b).max() < bound
    assert 0.9 * bound < np.abs(intercepts).max() < bound


@pytest.mark.parametrize("shape", [(40, 10), (10, 40), (3, 3, 4, 8), (7, 7)])
def test_orthogonal(shape):
    w = draw(init.Orthogonal(2.0), shape).reshape(-1, shape[-1])
    w = w if w.shape[0] >= w.shape[1] else w.T
    np.testing.assert_allclose(w.T @ w, 4 * np.eye(w.shape[1]), atol=1e-12)


def test_orthogonal_is_uniform_over_rotations():
    """Each entry of a random rotation has mean zero; QR without the signs has not."""
    rng = np.random.default_rng(0)
    w = np.stack([init.Orthogonal()((3, 3), 3, 3, rng, np.float64) for _ in range(2000)])
    # Entries have variance 1/3: five standard errors.
    assert np.abs(w.mean(0)).max() < 5 / np.sqrt(3 * 2000)


def test_orthogonal_refuses_vectors():
    with pytest.raises(ValueError, match="two axes or more, not \\(5,\\)"):
        draw(init.Orthogonal(), (5,))


def test_plain_distributions():
    check_moments(draw(init.TruncatedNormal(0.1)), 0.01, 2.4)
    w = draw(init.RandomUniform(1.0, 3.0))
    check_moments(w - 2, 4 / 12, 1.8)
    assert 1.0 <= w.min() < w.max() <= 3.0
    assert not draw(init.TruncatedNormal(0.0)).any()


def test_constants():
    assert (draw(init.Constant(0.5)) == 0.5).all()
    assert (draw(init.get_initializer("ones")) == 1).all()
    assert not draw(init.get_initializer("zeros")).any()


@pytest.mark.parametrize("name", sorted(init._NAMED))
def test_seed_and_dtype(name):
    initializer = init.get_initializer(name)
    wide, narrow = draw(initializer), draw(initializer, dtype=np.float32)
    assert (wide.dtype, narrow.dtype) == (np.float64, np.float32)
    assert wide.shape == (FAN_IN, FAN_OUT)
    assert np.array_equal(wide.astype(np.float32), narrow)
    assert np.array_equal(wide, draw(clone(initializer)))
    if name not in ("zeros", "ones"):
        assert not np.array_equal(wide, draw(initializer, seed=1))


@pytest.mark.parametrize(
    "wrong",
    [
        init.VarianceScaling(0.0),
        init.VarianceScaling(mode="fan"),
        init.He("cauchy"),
        init.Orthogonal(-1.0),
        init.TruncatedNormal(-0.1),
        init.Constant("a"),
        init.RandomUniform(2.0, 1.0),
        init.FanUniform(0),
    ],
    ids=str,
)
def test_wrong_parameters(wrong):
    with pytest.raises(ValueError, match=type(wrong).__name__) as e:
        init.get_initializer(wrong)
    assert isinstance(e.value, InvalidParameterError) or "low=2.0" in str(e.value)
    with pytest.raises(ValueError):
        draw(wrong)


def test_get_initializer():
    he = init.He("uniform")
    assert init.get_initializer(he) is he
    function = lambda shape, fan_in, fan_out, rng, dtype: np.full(shape, 7, dtype)  # noqa: E731
    assert init.get_initializer(function) is function
    with pytest.raises(ValueError, match="initializer='magic' must be one of"):
        init.get_initializer("magic")
    for wrong in (3, init.He):
        with pytest.raises(TypeError, match="initializer="):
            init.get_initializer(wrong)
