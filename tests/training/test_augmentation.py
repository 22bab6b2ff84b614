"""Augmentation: what it draws, what it does to a batch, what it refuses."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid

from skdeep.training.augmentation import Augmentation

#: Everything at once, for images of three channels.
EVERYTHING = dict(
    shift=0.1,
    rotation=20,
    zoom=0.2,
    shear=10,
    horizontal_flip=True,
    vertical_flip=True,
    crop=2,
    probability=0.8,
    brightness=0.3,
    contrast=(0.5, 1.5),
    saturation=0.4,
    hue=0.1,
    cutout=3,
    mixup=0.4,
)


def images(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).random(shape).astype(dtype)


def counters(members, step=0, place=0):
    return np.tile(np.array([step, 0, 0, place], np.int64), (members, 1))


def run(spec, x, y, seeds, counters):
    """Augment a copy; return it, the partners' targets and the shares."""
    x = x.copy()
    calls, other, share = spec.calls(x, y, np.asarray(seeds, np.int64), counters)
    for kernel, args in calls:
        kernel(*args)
    return x, other, share


# ---- draws ------------------------------------------------------------------------------------


def draws(n=4000, sides=(20, 30), seed=3, **parameters):
    spec = Augmentation(**parameters)
    spec.check((*sides, 3))
    found = spec._drawn(sides, n, np.array([seed]), counters(1))
    return {name: values[0] for name, values in found.items()}


@pytest.mark.parametrize(
    ("parameters", "name", "low", "high"),
    [
        (dict(rotation=30), "rotation", -30, 30),
        (dict(shift=0.25), "shift_y", -5, 5),
        (dict(shift=0.25), "shift_x", -7.5, 7.5),
        (dict(zoom=0.2), "zoom", 0.8, 1.2),
        (dict(zoom=(0.5, 3.0)), "zoom", 0.5, 3),
        (dict(shear=15), "shear", -15, 15),
        (dict(brightness=0.3), "brightness", 0.7, 1.3),
        (dict(brightness=1.5), "brightness", 0, 2.5),
        (dict(contrast=(0.2, 0.7)), "contrast", 0.2, 0.7),
        (dict(saturation=0.5), "saturation", 0.5, 1.5),
        (dict(hue=0.5), "hue", -0.5, 0.5),
        (dict(mixup=1.0), "share", 0, 1),
    ],
)
def test_uniform_draws(parameters, name, low, high):
    drawn = draws(**parameters)
    assert stats.kstest(drawn[name], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert low <= drawn[name].min() <= drawn[name].max() <= high
    others = set(drawn) - {name, "shift_y", "shift_x", "cutout_y", "cutout_x"}
    assert all(np.ptp(drawn[other]) == 0 for other in others)


@pytest.mark.parametrize(
    ("parameters", "name", "values"),
    [
        (dict(shift=2), "shift_y", range(-2, 3)),
        (dict(shift=2), "shift_x", range(-2, 3)),
        (dict(shift=np.uint8(2)), "shift_x", range(-2, 3)),
        (dict(crop=4), "crop_y", range(-4, 5)),
        (dict(crop=4), "crop_x", range(-4, 5)),
        (dict(horizontal_flip=True), "horizontal_flip", range(2)),
        (dict(vertical_flip=True), "vertical_flip", range(2)),
        (dict(cutout=5), "cutout_y", range(20)),
        (dict(cutout=5), "cutout_x", range(30)),
    ],
)
def test_whole_draws(parameters, name, values):
    found, counts = np.unique(draws(**parameters)[name], return_counts=True)
    assert found.tolist() == list(values)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_probability_is_of_the_geometric_part():
    moving = dict(rotation=30, shift=0.2, zoom=0.3, shear=9, horizontal_flip=True, crop=3)
    drawn, always = draws(probability=0.25, **moving), draws(**moving)
    still = drawn["applied"] == 0
    assert abs(still.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / still.size)
    for name, neutral in dict(rotation=0, shift_y=0, shift_x=0, zoom=1, shear=0).items():
        assert (drawn[name][still] == neutral).all()
        np.testing.assert_array_equal(drawn[name][~still], always[name][~still])
    for name in ("horizontal_flip", "crop_y", "crop_x"):
        np.testing.assert_array_equal(drawn[name], always[name])
    assert (draws(probability=0.0, **moving)["applied"] == 0).all()


@pytest.mark.parametrize("alpha", [0.2, 3.0])
def test_shares_are_beta_draws(alpha):
    share = draws(n=20000, mixup=alpha)["share"]
    assert (
        stats.kstest(share[share < 0.5], lambda v: 2 * stats.beta.cdf(v, alpha, alpha))[1] > 1e-3
    )
    assert abs(share.mean() - 0.5) < 5 * share.std() / np.sqrt(share.size)
    assert abs(share.var() - 1 / (8 * alpha + 4)) < 0.02 / (8 * alpha + 4)  # 3 standard errors


def test_another_parameter_leaves_the_draws_alone():
    one, two = draws(rotation=30), draws(**EVERYTHING | dict(rotation=30, probability=1.0))
    np.testing.assert_array_equal(one["rotation"], two["rotation"])


# ---- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_and_members_equal_the_whole(dtype, labels):
    spec, seeds = Augmentation(**EVERYTHING), [11, 12]
    x = images((2, 6, 8, 9, 3), dtype)
    y = np.arange(12).reshape(2, 6) if labels else images((2, 6, 2), dtype, seed=1)
    whole = run(spec, x, y, seeds, counters(2, step=5))
    assert whole[1].dtype == y.dtype
    assert whole[2].dtype == dtype
    for m in range(2):
        for start, stop in [(0, 2), (2, 6)]:
            rows = slice(m, m + 1), slice(start, stop)
            part = run(spec, x[rows], y[rows], seeds[m : m + 1], counters(1, 5, start))
            for got, expected in zip(part, whole, strict=True):
                assert got.tobytes() == expected[rows].tobytes()
    assert not np.array_equal(whole[0], run(spec, x, y, seeds, counters(2, step=6))[0])


def test_dtypes_agree():
    spec, x = Augmentation(**EVERYTHING), images((1, 8, 10, 9, 3))
    y = np.zeros((1, 8), np.int64)
    single = run(spec, x, y, [1], counters(1))
    double = run(spec, x.astype(np.float64), y, [1], counters(1))
    # Positions are in float64 for both; values pass a few dozen operations and a hue's slope.
    np.testing.assert_allclose(single[0], double[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(single[2], double[2], rtol=1e-6)


def test_mixup_mixes_neighbours_and_their_targets():
    x = images((1, 5, 4, 4, 1))
    y = np.array([[3, 1, 4, 1, 5]])
    mixed, other, share = run(Augmentation(mixup=0.5), x, y, [2], counters(1))
    assert other.tolist() == [[1, 3, 1, 4, 5]]
    assert y.tolist() == [[3, 1, 4, 1, 5]]
    s = share[0, :, None, None, None]
    expected = s * x[0] + (1 - s) * x[0, [1, 0, 3, 2, 4]]
    np.testing.assert_allclose(mixed[0], expected, rtol=0, atol=1e-6)
    assert np.unique(share).size == 5


def test_targets_of_several_outputs():
    y = images((2, 4, 3), np.float64)
    _, other, _ = run(Augmentation(mixup=1.0), images((2, 4, 3, 3, 2)), y, [1, 2], counters(2))
    np.testing.assert_array_equal(other, y[:, [1, 0, 3, 2]])


def test_nothing_to_do_is_no_call():
    x, y = images((1, 2, 4, 4, 1)), np.zeros((1, 2), np.int64)
    neutral = Augmentation()
    assert neutral.calls(x, y, np.zeros(1, np.int64), counters(1)) == ([], None, None)
    calls, other, share = Augmentation(crop=1).calls(x, y, np.zeros(1, np.int64), counters(1))
    assert [kernel.__name__.split("_")[0] for kernel, _ in calls] == ["draw", "warp"]
    assert other is share is None


def test_calls_are_compiled_kernels_of_a_program():
    from skdeep.autodiff._program import Program

    x, y = images((1, 6, 8, 9, 3)), np.zeros((1, 6), np.int64)
    expected = run(Augmentation(**EVERYTHING), x, y, [4], counters(1))[0]
    calls, _, _ = Augmentation(**EVERYTHING).calls(x, y, np.array([4]), counters(1))
    Program(calls).compile()()
    assert x.tobytes() == expected.tobytes()


# ---- augment ----------------------------------------------------------------------------------


def test_augment_is_a_training_batch():
    spec, X = Augmentation(**EVERYTHING), images((6, 8, 9, 3))
    before = X.copy()
    expected = run(spec, X[None], np.zeros((1, 6), np.int64), [9], counters(1, step=4))[0][0]
    got = spec.augment(X, seed=9, epoch=4)
    assert got.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(X, before)
    assert not np.array_equal(got, spec.augment(X, seed=9, epoch=5))
    assert not np.array_equal(got, spec.augment(X, seed=8, epoch=4))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.uint8])
def test_augment_keeps_the_dtype(dtype):
    X = np.asfortranarray((images((3, 6, 6, 3), np.float64) * 255).astype(dtype))
    got = Augmentation(brightness=(2.0, 2.0)).augment(X)
    assert got.dtype == dtype
    expected = X.astype(float) * 2
    np.testing.assert_array_equal(
        got, np.minimum(expected, 255) if dtype == np.uint8 else expected
    )
    assert Augmentation(rotation=10).augment(X[:0]).shape == (0, 6, 6, 3)


def test_bytes_are_rounded():
    X = np.full((1, 2, 2, 1), 3, np.uint8)
    assert (Augmentation(brightness=(0.9, 0.9)).augment(X) == 3).all()
    filled = Augmentation(shift=1, fill=-5).augment(np.tile(X, (50, 1, 1, 1)))
    assert set(np.unique(filled)) == {0, 3}


def test_fill():
    X = np.full((50, 3, 3, 1), 2.0)
    assert set(np.unique(Augmentation(shift=2).augment(X))) == {0.0, 2.0}
    assert set(np.unique(Augmentation(shift=2, fill=7).augment(X))) == {7.0, 2.0}
    assert set(np.unique(Augmentation(shift=2, fill="edge").augment(X))) == {2.0}
    assert set(np.unique(Augmentation(cutout=1, fill=7).augment(X))) == {7.0, 2.0}
    assert set(np.unique(Augmentation(cutout=0.4, fill="edge").augment(X))) == {0.0, 2.0}


def test_value_range():
    X = images((4, 5, 5, 3))
    got = Augmentation(brightness=(3.0, 4.0), value_range=(0.25, 0.75)).augment(X)
    assert got.min() == 0.25
    assert got.max() == 0.75
    assert Augmentation(brightness=(3.0, 4.0)).augment(X).max() > 2


def test_neutral_pairs_change_nothing():
    X = images((4, 5, 5, 2))
    pairs = dict.fromkeys(["zoom", "brightness", "contrast", "saturation"], (1.0, 1.0))
    np.testing.assert_array_equal(Augmentation(**pairs).augment(X), X)


# ---- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(shift=-1), "'shift'.*Got -1"),
        (dict(shift=1.0), "'shift'.*Got 1.0"),
        (dict(rotation=181), "'rotation'.*Got 181"),
        (dict(rotation=-5.0), "'rotation'.*Got -5.0"),
        (dict(zoom=1.0), "'zoom'.*Got 1.0"),
        (dict(zoom=(0.0, 1.0)), r"'zoom'.*low positive. Got \(0.0, 1.0\)"),
        (dict(zoom=(2.0, 1.0)), "'zoom'.*low <= high"),
        (dict(zoom=(1.0, 2.0, 3.0)), "'zoom'.*a pair"),
        (dict(zoom=(1.0, np.inf)), "'zoom'.*finite"),
        (dict(zoom=(1.0, "2")), "'zoom'.*pair"),
        (dict(shear=90), "'shear'.*Got 90"),
        (dict(horizontal_flip="yes"), "'horizontal_flip'.*Got 'yes'"),
        (dict(crop=0.5), "'crop'.*Got 0.5"),
        (dict(probability=1.1), "'probability'.*Got 1.1"),
        (dict(fill="wrap"), "'fill'.*Got 'wrap'"),
        (dict(fill=np.nan), "'fill'.*Got nan"),
        (dict(brightness=-0.1), "'brightness'.*Got -0.1"),
        (dict(brightness=np.inf), "'brightness'.*Got inf"),
        (dict(contrast=(-0.1, 1.0)), "'contrast'.*low not negative"),
        (dict(saturation=[0.5, 1.0]), "'saturation'"),
        (dict(hue=0.6), "'hue'.*Got 0.6"),
        (dict(value_range=(1.0, 1.0)), r"'value_range'.*low < high. Got \(1.0, 1.0\)"),
        (dict(value_range=1.0), "'value_range'"),
        (dict(cutout=1.0), "'cutout'.*Got 1.0"),
        (dict(mixup=-1), "'mixup'.*Got -1"),
        (dict(mixup=np.inf), "'mixup'.*Got inf"),
    ],
)
def test_validate_names_what_is_wrong(parameters, message):
    spec = Augmentation(**parameters)
    for check in (spec.validate, lambda: spec.check((32, 32, 3))):
        with pytest.raises(ValueError, match=message):
            check()


@pytest.mark.parametrize(
    ("parameters", "shape", "message"),
    [
        (dict(shift=8), (8, 9, 3), "shift=8 and crop=0 .*8 by 9.*less than 8"),
        (dict(crop=8), (9, 8, 3), "shift=0 and crop=8 .*9 by 8.*less than 8"),
        (dict(crop=4, shift=0.5), (8, 9, 3), "shift=0.5 and crop=4"),
        (dict(cutout=9), (8, 9, 3), "cutout=9 .*8 by 9.*below 9"),
        (dict(saturation=0.1), (8, 9, 1), "saturation=0.1 needs images of 3 channels.*have 1"),
        (dict(hue=0.1), (8, 9, 4), "hue=0.1 needs images of 3 channels.*have 4"),
        (dict(), (8, 9), r"image_shape=\(8, 9\).*height, width, channels"),
        (dict(), (8, 0, 3), "image_shape"),
    ],
)
def test_check_names_what_does_not_fit(parameters, shape, message):
    spec = Augmentation(**parameters)
    spec.validate()
    with pytest.raises(ValueError, match=message):
        spec.check(shape)


def test_what_is_just_small_enough():
    Augmentation(shift=4, crop=3, cutout=8).check((8, 9, 1))
    Augmentation(shift=0.99, rotation=180, zoom=(1e-3, 50.0), shear=89.0).check((8, 9, 1))


@pytest.mark.parametrize(
    ("X", "arguments", "message"),
    [
        (np.zeros((3, 4, 4)), {}, r"X has shape \(3, 4, 4\)"),
        (np.zeros((3, 4, 4, 1), int), {}, "dtype int64.*uint8"),
        (np.zeros((3, 4, 4, 1)), dict(seed=-1), "seed=-1 must be from 0"),
        (np.zeros((3, 4, 4, 1)), dict(epoch=2**63), "epoch=9223372036854775808 must be"),
    ],
)
def test_augment_refuses(X, arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation().augment(X, **arguments)


def test_images_must_be_contiguous():
    x = images((1, 2, 4, 4, 3))[:, :, :, ::2]
    with pytest.raises(ValueError, match="not contiguous"):
        Augmentation(crop=1).calls(x, np.zeros((1, 2), np.int64), np.array([1]), counters(1))


def test_parameters_are_read_set_cloned_and_searched():
    spec = Augmentation(**EVERYTHING)
    assert spec.get_params() == Augmentation().get_params() | EVERYTHING
    assert clone(spec).get_params() == spec.get_params()
    assert repr(Augmentation(rotation=10)) == "Augmentation(rotation=10)"
    with pytest.raises(TypeError):
        Augmentation(0.1)

    class Holder(BaseEstimator):
        def __init__(self, augmentation=None):
            self.augmentation = augmentation

    for point in ParameterGrid({"augmentation__rotation": [0, 10], "augmentation__crop": [2]}):
        holder = clone(Holder(Augmentation())).set_params(**point)
        assert holder.augmentation.rotation == point["augmentation__rotation"]
        assert holder.augmentation.crop == 2


def test_import_is_light():
    code = "import sys, skdeep.training.augmentation; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
