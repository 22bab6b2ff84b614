"""The kernels of augmentation against definitions, SciPy and the standard library."""

import colorsys

import numpy as np
import pytest
from numba import njit
from scipy import ndimage, stats

from skdeep._kernels.cpu import augment as kernels
from skdeep._kernels.philox import philox

DTYPES = [np.float32, np.float64]
#: Tables of draws that leave an image alone, but for what is given.
NEUTRAL = dict.fromkeys(["zoom", "brightness", "contrast", "saturation", "share"], 1.0)


def table(members, n, **draws):
    columns = [np.broadcast_to((NEUTRAL | draws).get(c, 0.0), (members, n)) for c in kernels.NAMES]
    return np.stack(columns, axis=2).astype(float)


def images(members, n, shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((members, n, *shape)).astype(dtype)


def rows(x):
    """Images (M, B, H, W, C) as the kernels take them, sharing memory."""
    view = x.reshape(*x.shape[:3], -1)
    assert np.shares_memory(view, x)
    return view


def warped(x, fill=0.0, **draws):
    members, n, height, width, channels = x.shape
    out = x.copy()
    scratch = (
        np.full((height + 3) * (width + 3) * channels, np.nan, x.dtype),
        np.zeros(width, np.int64),
        np.zeros((2, width), x.dtype),
    )
    edge, value = int(fill == "edge"), np.array([0 if fill == "edge" else fill], x.dtype)
    drawn = table(members, n, **draws)
    kernels.warp[x.dtype](rows(out), drawn, channels, value, edge, *scratch)
    return out


# ---- the affine map ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("fill", [0.5, "edge"])
def test_exact_maps(dtype, channels, fill):
    x = images(2, 3, (5, 8, channels), dtype)
    x[0, 0, 2, 3], x[1, 1, 0, 0] = np.nan, np.inf  # their neighbours do not meet them
    assert warped(x, fill).tobytes() == x.tobytes()
    np.testing.assert_array_equal(warped(x, fill, horizontal_flip=1), x[:, :, :, ::-1])
    np.testing.assert_array_equal(warped(x, fill, vertical_flip=1), x[:, :, ::-1])
    both = warped(x, fill, vertical_flip=1, horizontal_flip=1)
    np.testing.assert_array_equal(both, x[:, :, ::-1, ::-1])
    pad = dict(mode="edge") if fill == "edge" else dict(constant_values=fill)
    padded = np.pad(x, [(0, 0)] * 2 + [(9, 9)] * 2 + [(0, 0)], **pad)
    for dy, dx in [(1, 0), (0, -2), (3, 7), (-4, 5), (5, 0), (0, -9)]:
        expected = padded[:, :, 9 - dy : 14 - dy, 9 - dx : 17 - dx]
        np.testing.assert_array_equal(warped(x, fill, shift_y=dy, shift_x=dx), expected)
        crop = warped(x, fill, crop_y=dy - 1, crop_x=dx, shift_y=1)
        np.testing.assert_array_equal(crop, expected)
        flipped = warped(x, fill, shift_y=dy, shift_x=dx, horizontal_flip=1)
        mirror = padded[:, :, :, ::-1][:, :, 9 - dy : 14 - dy, 9 - dx : 17 - dx]
        np.testing.assert_array_equal(flipped, mirror)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [1, 6, 7])
@pytest.mark.parametrize("turns", [-2, -1, 1, 2])
def test_quarter_turns_are_exact(dtype, side, turns):
    x = images(1, 2, (side, side, 3), dtype)
    expected = np.rot90(x, turns, axes=(2, 3))
    np.testing.assert_array_equal(warped(x, 9.0, rotation=90 * turns), expected)


def forward_matrix(d):
    """The map of a pixel (y, x) about the centre, composed from its parts."""
    t, s = np.radians(d["rotation"]), np.tan(np.radians(d["shear"]))
    flip = np.diag([1 - 2.0 * d["vertical_flip"], 1 - 2.0 * d["horizontal_flip"]])
    shear = np.array([[1, 0], [s, 1]])
    # Counterclockwise for the eye: y counts downward.
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    return turn @ shear @ flip * d["zoom"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 9, 1), (7, 12, 3), (12, 5, 4)])
@pytest.mark.parametrize("fill", [-0.7, "edge"])
def test_general_maps_equal_scipy(dtype, shape, fill):
    x = images(2, 4, shape, dtype)
    rng = np.random.default_rng(1)
    draws = dict(
        rotation=rng.uniform(-180, 180, (2, 4)),
        zoom=rng.uniform(0.5, 2, (2, 4)),
        shear=rng.uniform(-40, 40, (2, 4)),
        shift_y=rng.uniform(-3, 3, (2, 4)),
        shift_x=rng.uniform(-3, 3, (2, 4)),
        horizontal_flip=rng.integers(0, 2, (2, 4)),
        vertical_flip=rng.integers(0, 2, (2, 4)),
    )
    got = warped(x, fill, **draws)
    mode = dict(mode="nearest") if fill == "edge" else dict(mode="grid-constant", cval=fill)
    centre = (np.array(shape[:2]) - 1) / 2
    for m, b, c in np.ndindex(2, 4, shape[2]):
        d = {name: values[m, b] for name, values in draws.items()}
        inverse = np.linalg.inv(forward_matrix(d))
        offset = centre - inverse @ (centre + [d["shift_y"], d["shift_x"]])
        source = x[m, b, :, :, c].astype(float)
        expected = ndimage.affine_transform(source, inverse, offset, order=1, **mode)
        # Two linear interpolations of values of order 1, in the dtype.
        atol = 20 * np.finfo(dtype).eps if dtype is np.float32 else 1e-13
        np.testing.assert_allclose(got[m, b, :, :, c], expected, rtol=0, atol=atol)


# ---- colours ----------------------------------------------------------------------------------


def recoloured(x, bounds=(-np.inf, np.inf), **draws):
    out, drawn = x.copy(), table(*x.shape[:2], **draws)
    scratch = np.full(x.shape[3] * x.shape[4], np.nan, x.dtype)
    args = rows(out), drawn, x.shape[4], np.array(bounds, x.dtype), scratch
    kernels.colour[x.dtype](*args)
    return out


def oracle(image, bounds, brightness=1, contrast=1, saturation=1, hue=0):
    """One operation after the other, in float64."""
    luma = [0.299, 0.587, 0.114]
    v = image.astype(float) * brightness
    mean = (v @ luma).mean() if v.shape[-1] == 3 else v.mean()
    v = contrast * v + (1 - contrast) * mean
    if v.shape[-1] == 3:
        v = saturation * v + (1 - saturation) * (v @ luma)[..., None]
    v = np.clip(v, *bounds)
    if hue:
        for i in np.ndindex(v.shape[:2]):
            h, s, value = colorsys.rgb_to_hsv(*v[i])
            v[i] = colorsys.hsv_to_rgb((h + hue) % 1, s, value)
    return v


COLOURS = [
    dict(brightness=1.3),
    dict(contrast=0.6),
    dict(saturation=1.7),
    dict(hue=0.13),
    dict(hue=-0.5),
    dict(brightness=0.7, contrast=1.4, saturation=0.3, hue=-0.21),
    dict(contrast=0.0),
    dict(saturation=0.0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draws", COLOURS)
@pytest.mark.parametrize("bounds", [(0, 1), (0.2, 0.9), (-np.inf, np.inf)])
def test_colours_equal_the_oracle(dtype, draws, bounds):
    # Bounds at 0 or above, and no value below: colorsys knows no other colours.
    x = np.random.default_rng(0).uniform(0.25, 0.9, (2, 3, 6, 5, 3)).astype(dtype)
    x[0, 0, 0, 0] = 0.4  # grey has no hue
    x[0, 0, 0, 1] = 0.4, 0.4, 0.8
    x[0, 0, 0, 2] = 0.8, 0.4, 0.8
    got = recoloured(x, bounds, **draws)
    only_hue = set(draws) == {"hue"}
    for m, b in np.ndindex(2, 3):
        limits = (-np.inf, np.inf) if only_hue else bounds
        # A dozen roundings; a hue's slope is at most 6 chroma, and hue is of order 6.
        atol = 80 * np.finfo(dtype).eps
        np.testing.assert_allclose(got[m, b], oracle(x[m, b], limits, **draws), 0, atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_colours_of_other_channels(dtype, channels):
    x = images(1, 2, (7, 5, channels), dtype)
    for draws in (dict(brightness=1.3), dict(contrast=0.6), dict(brightness=0.4, contrast=1.8)):
        got = recoloured(x, (-1, 1.5), **draws)
        for b in range(2):
            expected = oracle(x[0, b], (-1, 1.5), **draws)
            np.testing.assert_allclose(got[0, b], expected, 0, 20 * np.finfo(dtype).eps)


def test_hue_in_any_range():
    """HSV moves with an affine change of all values."""
    x = images(1, 1, (4, 4, 3), np.float64)
    scaled = (x - x.min()) / (x.max() - x.min())
    expected = oracle(scaled[0, 0], (0, 1), hue=0.3) * (x.max() - x.min()) + x.min()
    np.testing.assert_allclose(recoloured(x, hue=0.3)[0, 0], expected, atol=1e-13)


def test_neutral_colours_leave_the_image_alone():
    x = images(2, 2, (3, 3, 3), np.float32)
    assert recoloured(x, (0.0, 0.1)).tobytes() == x.tobytes()


# ---- cutout and mixup -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (4, 4), (5, 9)])
def test_cutout(dtype, sides):
    x = images(1, 48, (6, 8, 2), dtype)
    where = np.array(list(np.ndindex(6, 8)))
    out, drawn = x.copy(), table(1, 48, cutout_y=where[:, 0], cutout_x=where[:, 1])
    kernels.cutout[dtype](rows(out), drawn, 2, *sides, np.array([7], dtype))
    for b, (y, left) in enumerate(where - np.array(sides) // 2):
        for i, j in np.ndindex(6, 8):
            inside = y <= i < y + sides[0] and left <= j < left + sides[1]
            np.testing.assert_array_equal(out[0, b, i, j], 7 if inside else x[0, b, i, j])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "place"), [(4, 0), (5, 0), (4, 1), (5, 3), (1, 0), (2, 6)])
def test_mixup(dtype, n, place):
    x = images(2, n, (3, 2, 1), dtype).reshape(2, n, 6)
    y = np.random.default_rng(2).integers(0, 256, (2, n, 8)).astype(np.uint8)
    shares = np.random.default_rng(3).random((2, n))
    counters = np.zeros((2, 4), np.int64)
    counters[:, 3] = place
    mixed, share, other = x.copy(), np.full((2, n), np.nan, dtype), np.zeros_like(y)
    kernels.mix[dtype](mixed, table(2, n, share=shares), counters, share)
    kernels.partners_targets[np.float64](y, counters, other)
    np.testing.assert_array_equal(share, shares.astype(dtype))
    for m, b in np.ndindex(2, n):
        partner = b + 1 if (place + b) % 2 == 0 else b - 1
        partner = partner if 0 <= partner < n else b
        expected = shares[m, b] * x[m, b] + (1 - shares[m, b]) * x[m, partner]
        atol = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(mixed[m, b], expected, 0, atol)
        np.testing.assert_array_equal(other[m, b], y[m, partner])


# ---- draws ------------------------------------------------------------------------------------

SETTINGS = np.zeros((kernels.DRAWS, 3))
SETTINGS[1:16] = np.stack([np.arange(15) - 3, np.arange(15) + 2, np.arange(15) % 2], 1)
SETTINGS[0, 0] = SETTINGS[16, 0] = 0.6


def drawn(seeds, counters, n, settings=SETTINGS):
    out = np.full((len(seeds), n, kernels.DRAWS), np.nan)
    kernels.draw[np.float64](np.array(seeds), np.array(counters), settings, out)
    return out


def test_names_are_those_of_the_columns():
    assert len(kernels.NAMES) == kernels.DRAWS
    constants = dict(zoom="ZOOM", crop_y="CROP_Y", horizontal_flip="FLIP_X", hue="HUE")
    constants |= dict(
        vertical_flip="FLIP_Y", cutout_x="CUTOUT_X", share="SHARE", shift_x="SHIFT_X"
    )
    for name, constant in constants.items():
        assert kernels.NAMES.index(name) == getattr(kernels, constant)


def test_draws_are_those_of_their_counters():
    seed, step, place = -3, 2**40 + 7, 10
    got = drawn([seed], [[step, 0, 0, place]], 3)[0]
    key = [np.uint64(k) for k in (seed % 2**32, (seed >> 32) % 2**32)]
    for b in range(3):
        words = []
        for i in range(5):
            counter = [(place + b) * 5 + i, 2**32 - 1, step % 2**32, step >> 32]
            words += [int(w) for w in philox(*map(np.uint64, counter), *key)]
        u = np.array(words) / 2.0**32
        expected = SETTINGS[:, 0] + SETTINGS[:, 1] * u[: kernels.DRAWS]
        expected = np.where(SETTINGS[:, 2] > 0, np.floor(expected), expected)
        expected[0] = u[0] < 0.6
        expected[16] = kernels.symmetric_beta(0.6, words[16], words[17])
        if not expected[0]:
            expected[1:6] = 0, 1, 0, 0, 0
        np.testing.assert_allclose(got[b], expected, rtol=1e-14)
    assert set(drawn([seed], [[step, 0, 0, place]], 50)[0, :, 0]) == {0.0, 1.0}


def test_draws_do_not_depend_on_parts_or_members():
    seeds, steps = [5, 6, 7], [2, 2, 9]
    whole = drawn(seeds, [[s, 0, 0, 0] for s in steps], 11)
    parts = [
        drawn(seeds, [[s, 3, 4, at] for s in steps], n) for at, n in [(0, 4), (4, 6), (10, 1)]
    ]
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()
    for m in range(3):
        alone = drawn(seeds[m : m + 1], [[steps[m], 0, 0, 0]], 11)
        assert alone.tobytes() == whole[m : m + 1].tobytes()
    assert len(np.unique(whole[..., 7])) > 10
    assert not np.array_equal(whole[0], whole[1])


def test_columns_are_uncorrelated():
    n = 20000
    settings = np.zeros((kernels.DRAWS, 3))
    settings[:, 1] = 1
    settings[0, 0] = settings[16, 0] = 1
    u = drawn([1], [[0, 0, 0, 0]], n, settings)[0, :, 1:]
    assert np.abs(np.corrcoef(u.T) - np.eye(16)).max() < 5 / np.sqrt(n)
    assert np.abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 5 / np.sqrt(n)
    for column in u.T:  # Beta(1, 1) is uniform too
        assert stats.kstest(column, "uniform").pvalue > 1e-4


@njit
def compiled_betas(alpha, words, out):
    for i in range(out.size):
        out[i] = beta(alpha, words[2 * i], words[2 * i + 1])


beta = njit(kernels.symmetric_beta)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 30.0])
def test_beta_draws(alpha):
    n = 20000
    words = np.random.default_rng(4).integers(0, 2**32, 2 * n).astype(np.float64)
    compiled_betas(alpha, words, x := np.empty(n))
    law = stats.beta(alpha, alpha)
    # Values near 1 round to 1: the law is held where doubles are dense, and it is symmetric.
    lower = x[x < 0.5]
    assert abs(lower.size - n / 2) < 5 * np.sqrt(n / 4)
    assert stats.kstest(lower, lambda v: 2 * law.cdf(v)).pvalue > 1e-3
    assert abs(x.mean() - 0.5) < 5 * law.std() / np.sqrt(n)
    # The variance of the square of what is centred.
    spread = np.sqrt(law.expect(lambda v: ((v - 0.5) ** 2 - law.var()) ** 2) / n)
    assert abs(x.var() - law.var()) < 5 * spread


def test_beta_of_extreme_words():
    for alpha in (1e-3, 0.4, 1e3):
        words = np.array([(a, b) for a in (0, 2**32 - 1) for b in (0, 2**30, 2**31)], float)
        compiled_betas(alpha, words.ravel(), x := np.full(6, np.nan))
        assert ((x >= 0) & (x <= 1)).all()


# ---- members ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_members_and_parts_equal_solo_bit_for_bit(dtype):
    x = images(3, 4, (6, 7, 3), dtype)
    rng = np.random.default_rng(5)
    draws = dict(
        rotation=rng.uniform(-90, 90, (3, 4)),
        shift_x=rng.uniform(-2, 2, (3, 4)),
        contrast=rng.uniform(0.5, 2, (3, 4)),
        hue=rng.uniform(-0.5, 0.5, (3, 4)),
    )
    for run in (warped, recoloured):
        together = run(x, **draws)
        for m, b in np.ndindex(3, 4):
            one = {name: v[m : m + 1, b : b + 1] for name, v in draws.items()}
            alone = run(x[m : m + 1, b : b + 1], **one)
            assert alone.tobytes() == together[m, b].tobytes()
