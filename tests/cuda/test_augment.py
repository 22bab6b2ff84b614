"""Augmentation on a device."""

import numpy as np
import pytest

from skdeep._kernels.cpu import augment as cpu
from tests.cuda.harness import check_twin, copied, run_twin

#: Tables of draws that leave an image alone, but for what is given.
NEUTRAL = dict.fromkeys(["zoom", "brightness", "contrast", "saturation", "share"], 1.0)


def table(members, n, **draws):
    columns = [np.broadcast_to((NEUTRAL | draws).get(c, 0.0), (members, n)) for c in cpu.NAMES]
    return np.stack(columns, axis=2).astype(float)


def images(members, n, shape, extra=0, seed=0):
    """Images as rows of pixels, members `extra` numbers apart."""
    height, width, channels = shape
    size = height * width * channels
    x = np.random.default_rng(seed).standard_normal((members, n * size + extra))
    x = x.astype(np.float32)[:, : n * size]
    rows = x.reshape(members, n, height, width * channels)
    assert np.shares_memory(rows, x)
    return rows


# ---- draws ------------------------------------------------------------------------------------


def settings(chance, alpha):
    """Draws around zero and far from it, whole ones, flips, and two that are always the same."""
    out = np.zeros((cpu.DRAWS, 3))
    out[1:16] = [
        (-180, 360, 0), (0.7, 0.6, 0), (-20, 40, 0), (-3.2, 6.4, 0), (-7, 15, 1),
        (-4, 9, 1), (0, 300, 1), (0, 2, 1), (0, 1, 1),
        (0.3, 1.4, 0), (0.8, 0.4, 0), (1, 0, 0), (-0.5, 1, 0), (0, 224, 1), (1.3, 7.7, 1),
    ]  # fmt: skip
    out[0, 0], out[16, 0] = chance, alpha
    return out


@pytest.mark.parametrize(("members", "n", "place"), [(1, 21, 0), (2, 33, 2**32 + 3)])
@pytest.mark.parametrize(("chance", "alpha"), [(0.5, 0.4), (1.0, 0.0), (0.0, 3.0)])
def test_draw(gpu, members, n, place, chance, alpha):
    seeds = np.array([-3, 2**61 + 5])[:members]
    counters = np.array([[2**40 + 7, 1, 2, place]] * members)
    drawn = np.full((members, n, cpu.DRAWS), np.nan)
    args = seeds, counters, settings(chance, alpha), drawn
    # A share is computed in float32; all else to 48 bits and more.
    made = check_twin(gpu, cpu.draw, *args, rtol=0, atol=2e-6)[3]
    expected = copied(args)
    cpu.draw[np.float32](*expected)
    np.testing.assert_allclose(made[..., 1:16], expected[3][..., 1:16], rtol=0, atol=1e-12)
    whole = settings(chance, alpha)[:, 2] != 0
    np.testing.assert_array_equal(made[..., whole], expected[3][..., whole])
    assert set(made[..., 0].ravel()) == ({0.0, 1.0} if chance == 0.5 else {chance})


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 30.0])
def test_shares(gpu, alpha):
    drawn = np.full((1, 64, cpu.DRAWS), np.nan)
    args = np.array([5]), np.array([[3, 0, 0, 0]]), settings(1, alpha), drawn
    made = check_twin(gpu, cpu.draw, *args, rtol=0, atol=5e-6)[3][0, :, cpu.SHARE]
    assert 0 < (made < 0.5).mean() < 1


# ---- the affine map ---------------------------------------------------------------------------


def check_warp(gpu, x, drawn, channels, edge, rtol, atol):
    height, width = x.shape[2], x.shape[3] // channels
    scratch = (
        np.zeros((height + 3) * (width + 3) * channels, np.float32),
        np.zeros(width, np.int64),
        np.zeros((2, width), np.float32),
    )
    fill = np.array([0.0 if edge else -0.7], np.float32)
    args = x, drawn, channels, fill, edge, *scratch
    return check_twin(gpu, cpu.warp, *args, rtol=rtol, atol=atol, scratch=(5, 6, 7))[0]


@pytest.mark.parametrize("edge", [0, 1])
@pytest.mark.parametrize(("shape", "extra"), [((5, 8, 3), 0), ((6, 5, 1), 3), ((4, 3, 4), 4)])
def test_exact_maps(gpu, shape, extra, edge):
    draws = dict(
        horizontal_flip=[0, 1, 1, 0, 0, 0], vertical_flip=[0, 0, 1, 0, 1, 0],
        shift_y=[0, 0, 0, 1, -3, 0], crop_x=[0, 0, 0, -2, 4, 20], crop_y=[0, 0, 0, -1, 2, 0],
    )  # fmt: skip
    x = images(2, 6, shape, extra)
    x[0, :, 2, 3], x[1, :, 0, 0] = np.nan, np.inf  # their neighbours do not meet them
    made = check_warp(gpu, x, table(2, 6, **draws), shape[2], edge, rtol=0, atol=0)
    assert made[:, 0].tobytes() == x[:, 0].tobytes()
    assert made[:, 1].tobytes() != x[:, 1].tobytes()


@pytest.mark.parametrize("side", [1, 5, 6])
def test_quarter_turns_are_exact(gpu, side):
    turns = np.array([-180, -90, 90, 180, 270])
    drawn = table(1, 5, rotation=turns)
    check_warp(gpu, images(1, 5, (side, side, 2)), drawn, 2, 0, rtol=0, atol=0)


@pytest.mark.parametrize("edge", [0, 1])
@pytest.mark.parametrize(("shape", "extra"), [((7, 9, 3), 2), ((9, 5, 1), 0)])
def test_general_maps(gpu, shape, extra, edge):
    rng = np.random.default_rng(1)
    drawn = table(
        2, 3,
        rotation=rng.uniform(-180, 180, (2, 3)), zoom=rng.uniform(0.5, 2, (2, 3)),
        shear=rng.uniform(-40, 40, (2, 3)), shift_y=rng.uniform(-3, 3, (2, 3)),
        shift_x=rng.uniform(-3, 3, (2, 3)), horizontal_flip=rng.integers(0, 2, (2, 3)),
        vertical_flip=rng.integers(0, 2, (2, 3)),
    )  # fmt: skip
    # Coordinates up to 10 are computed in float32, and differences of neighbours reach 6.
    check_warp(gpu, images(2, 3, shape, extra), drawn, shape[2], edge, rtol=0, atol=2e-5)


# ---- colours ----------------------------------------------------------------------------------

COLOURS = dict(
    brightness=[1.3, 1, 1, 1, 0.7, 1, 1],
    contrast=[1, 0.6, 1, 1, 1.4, 0, 1],
    saturation=[1, 1, 1.7, 1, 0.3, 1, 1],
    hue=[0, 0, 0, 0.13, -0.21, 0, 0],
)


@pytest.mark.parametrize(("shape", "extra"), [((6, 5, 3), 0), ((6, 5, 3), 7), ((3, 4, 2), 1)])
@pytest.mark.parametrize("bounds", [(0.3, 0.9), (-np.inf, np.inf)])
def test_colour(gpu, shape, extra, bounds):
    x = abs(images(2, 7, shape, extra)) + 0.25
    x[0, :, 0, :3] = 0.4  # grey has no hue
    bounds, total = np.array(bounds, np.float32), np.zeros(x.shape[3], np.float32)
    draws = COLOURS if shape[2] == 3 else COLOURS | dict(saturation=1.0, hue=0.0)
    args = x, table(2, 7, **draws), shape[2], bounds, total
    # A dozen roundings; a hue's slope is at most 6 chroma, and hue is of order 6.
    made = check_twin(gpu, cpu.colour, *args, rtol=0, atol=2e-5, scratch=(4,))[0]
    np.testing.assert_array_equal(made[:, 6], x[:, 6])
    assert (made[:, 0] != x[:, 0]).any()


def test_means_of_several_blocks(gpu, monkeypatch):
    monkeypatch.setattr("skdeep._kernels.cuda._augment_colour._PIXELS", 16)
    x = images(1, 2, (6, 8, 3))
    bounds, total = np.array([-9, 9], np.float32), np.zeros(24, np.float32)
    args = x, table(1, 2, contrast=0.5), 3, bounds, total
    check_twin(gpu, cpu.colour, *args, rtol=0, atol=2e-6, scratch=(4,))


# ---- cutout and mixup -------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (5, 9), (0, 4), (20, 20)])
def test_cutout(gpu, sides):
    where = np.random.default_rng(2).integers(0, [6, 8], (2, 9, 2))
    drawn = table(2, 9, cutout_y=where[..., 0], cutout_x=where[..., 1])
    args = images(2, 9, (6, 8, 2), 5), drawn, 2, *sides, np.array([7], np.float32)
    made = check_twin(gpu, cpu.cutout, *args, rtol=0, atol=0)[0]
    assert (made == 7).any() == (sides[0] > 0)


@pytest.mark.parametrize(("size", "extra"), [(8, 4), (6, 0), (8, 1)])
@pytest.mark.parametrize(("n", "place"), [(4, 0), (5, 0), (5, 3), (1, 0), (2, 6), (1, 1)])
def test_mixup(gpu, size, extra, n, place):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, n * size + extra)).astype(np.float32)[:, : n * size]
    x = x.reshape(2, n, size)
    counters = np.zeros((2, 4), np.int64)
    counters[:, 3] = place
    share = np.full((2, n), np.nan, np.float32)
    # Two products and a sum, contracted or not.
    args = x, table(2, n, share=rng.random((2, n))), counters, share
    check_twin(gpu, cpu.mix, *args, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "place"), [(4, 0), (5, 0), (5, 3), (1, 1)])
def test_partners_targets(gpu, n, place):
    y = np.random.default_rng(4).integers(0, 256, (2, n, 8)).astype(np.uint8)
    counters = np.zeros((2, 4), np.int64)
    counters[:, 3] = place
    other = np.zeros_like(y)
    run_twin(gpu, cpu.partners_targets[np.float32], y, counters, other)
    for b in range(n):
        partner = b + 1 if (place + b) % 2 == 0 else b - 1
        partner = partner if 0 <= partner < n else b
        np.testing.assert_array_equal(other[:, b], y[:, partner])
