import numpy as np
import pytest

from skdeep._kernels.cpu import pool as cpu
from skdeep.autodiff.ops.pool import AxisMap, _sums, _windows, pool_geometry
from tests.cuda.harness import check_twin, run_twin

# Spatial shape, window, stride, padding: shared cells, cells in no window, clipped windows, one
# to three dimensions, rows of the table beyond four cells.
GEOMETRIES = [
    ((7,), 2, None, "valid"),
    ((5, 6), 2, None, "valid"),
    ((5, 7), 3, 2, "same"),
    ((4, 5), (3, 2), 1, 1),
    ((3, 4, 3), 2, 1, "valid"),
]
# Members, samples, channels: vectors and single channels.
SIZES = [(1, 2, 8), (2, 3, 5), (2, 1, 4), (1, 3, 1)]
PLACES = ["uint8", "int32"]


def images(array):
    """Return the same values in memory with gaps between members and between samples."""
    m, n, p, c = array.shape
    wide = np.zeros((m, n + 1, p + 4, c), array.dtype)
    wide[:, :n, :p] = array
    return wide[:, :n, :p]


def windows(x_shape, spatial, size, stride, padding, places):
    """Return the geometry, normal inputs and the places of random windows' maxima."""
    g = pool_geometry(spatial, size, stride, padding)
    m, n, c = x_shape
    rng = np.random.default_rng(3)
    x = images(rng.standard_normal((m, n, np.prod(spatial), c)).astype(np.float32))
    shape = m, n, int(np.prod(g.out)), c
    out, index = np.full(shape, np.nan, np.float32), np.zeros(shape, places)
    cpu.max_pool[places][np.float32](x, *_windows(g, False), out, index)
    return g, x, images(out), images(index)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_max_pool(gpu, geometry, size, places):
    g, x, out, index = windows(size, *geometry, places)
    blank = np.full_like(out, np.nan), np.full_like(index, 255)
    check_twin(gpu, cpu.max_pool[places], x, *_windows(g, False), *blank, rtol=0, atol=0)


@pytest.mark.parametrize("places", PLACES)
def test_the_first_of_equal_cells_and_a_nan_win(gpu, places):
    g = pool_geometry((9, 6), 3)
    x = np.random.default_rng(0).integers(0, 2, (1, 2, 54, 8)).astype(np.float32)
    x[0, 0, 7:9, 2], x[0, 1, 20, 5], x[0, 1, :, 6] = np.nan, np.nan, -np.inf
    x[0, 0, :, 7] = np.where(x[0, 0, :, 7] > 0, 0.0, -0.0)
    outs = np.full((1, 2, 6, 8), np.nan, np.float32), np.full((1, 2, 6, 8), 99, places)
    got = check_twin(gpu, cpu.max_pool[places], x, *_windows(g, False), *outs, rtol=0, atol=0)
    assert np.isnan(got[4]).sum() == 2
    assert (got[4] == -np.inf).sum() == 6


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_unpool(gpu, geometry, size, places):
    g, x, ct, index = windows(size, *geometry, places)
    out = np.full_like(x, np.nan)
    # Sums of at most nine cotangents in the CPU's order.
    args = cpu.unpool[places], ct, index, *_windows(g, True), out
    check_twin(gpu, *args, rtol=1e-6, atol=1e-6)
    taken = np.full_like(ct, np.nan)
    args = cpu.pool_take[places], x, index, *_windows(g, False), taken
    check_twin(gpu, *args, rtol=0, atol=0)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES[:2])
def test_unpool_apart(gpu, geometry, size, places):
    g, x, ct, index = windows(size, *geometry, places)
    args = cpu.unpool_apart[places], ct, index, *_windows(g, False), np.full_like(x, np.nan)
    check_twin(gpu, *args, rtol=0, atol=0)


def test_windows_of_more_than_255_cells(gpu):
    g, x, ct, index = windows((1, 2, 4), (18, 16), (17, 16), 1, "valid", "int32")
    x[0, 0, -1] = 9
    blank = np.full_like(ct, np.nan), np.zeros_like(index)
    args = cpu.max_pool["int32"], x, *_windows(g, False), *blank
    got = check_twin(gpu, *args, rtol=0, atol=0)
    assert (got[5][0, 0, 1] == 271).all()


def axis(size, *rows):
    return AxisMap(size, tuple(rows))


# Averages with clipped windows and one without a place; cutting; padding; enlarging.
MAPS = [
    [
        axis(5, ((0, 0.5), (1, 0.5)), (), tuple((i, 0.2) for i in range(5))),
        axis(3, ((0, 1.0),), ((1, -0.5), (2, 1.5))),
    ],
    [axis(6, ((1, 1.0),), ((2, 2.0),), ((4, 3.0),))],
    [axis(3, (), ((0, 1.0),), ((1, 1.0),), ((2, 1.0),), ())],
    [axis(2, *[((0, 1.0),)] * 6, *[((1, 0.5),)] * 3), axis(2, ((0, 1.0),), ((1, 1.0),))],
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("maps", MAPS)
def test_weighted_sums(gpu, maps, transposed, size):
    name, table = _sums(tuple(maps), transposed, np.dtype(np.float32))
    before = int(np.prod([a.size for a in maps]))
    after = int(np.prod([len(a.rows) for a in maps]))
    inputs, outputs = (after, before) if transposed else (before, after)
    m, n, c = size
    rng = np.random.default_rng(1)
    x = images(rng.standard_normal((m, n, inputs, c)).astype(np.float32))
    x[0, 0, -1, -1] = np.inf  # taken once, however long its row of the table
    out = images(np.full((m, n, outputs, c), np.nan, np.float32))
    # A chain of at most 15 products; the CPU's are fused with the additions.
    check_twin(gpu, getattr(cpu, name), x, *table, out, rtol=1e-6, atol=1e-6)


def test_both_kernels_of_weighted_sums_are_tested():
    names = {_sums(tuple(m), t, np.dtype(np.float32))[0] for m in MAPS for t in (False, True)}
    assert names == {"combine", "spread"}


def test_reruns_are_equal(gpu):
    g, x, ct, index = windows((1, 2, 8), (5, 7), 3, 2, "same", "uint8")
    runs = []
    for _ in range(2):
        out = np.full_like(x, np.nan)
        args = cpu.unpool["uint8"][np.float32], ct, index, *_windows(g, True), out
        run_twin(gpu, *args)
        runs.append(out.tobytes())
    assert runs[0] == runs[1]
