"""Streams: every sample once, in an order that only the seed and the epoch decide."""

import time

import numpy as np
import pytest

from skdeep.datasets import Stream, stream_arrays, stream_csv, stream_iterable, stream_npz
from skdeep.datasets.stream import _base as base
from skdeep.datasets.stream._shuffle import collect, shuffle
from tests.datasets.streams import KINDS, N, data, make, order, readers, whole, write_csv

# ---------------------------------------------------------------- what comes out


@pytest.mark.parametrize("buffer_size", [1, 13, 100, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_once(kind, buffer_size, tmp_path):
    stream = make(kind, tmp_path, buffer_size=buffer_size)
    got = whole(stream, size=37)
    numbers = got[0][:, 0].astype(int)
    assert sorted(numbers.tolist()) == list(range(N))
    for a, b in zip(got, data(), strict=True):
        np.testing.assert_array_equal(a, b[numbers])
    assert stream.n_samples == len(stream) == N
    assert not readers()


@pytest.mark.parametrize("kind", KINDS)
def test_order_is_kept_without_shuffling(kind, tmp_path):
    stream = make(kind, tmp_path, shuffle=False, buffer_size=40, n_readers=3)
    np.testing.assert_array_equal(order(stream, size=50), np.arange(N))
    X, y = stream.take(80)
    np.testing.assert_array_equal(X, data()[0][:80])
    np.testing.assert_array_equal(y, data()[1][:80])
    assert len(stream.take(N + 1)[0]) == N


@pytest.mark.parametrize("kind", KINDS)
def test_order_depends_on_seed_and_epoch_alone(kind, tmp_path):
    orders = []
    for n_readers, prefetch, size in ((1, 1, None), (2, 2, 10), (5, 1, 64), (16, 3, 300)):
        (folder := tmp_path / str(n_readers)).mkdir()
        stream = make(kind, folder, n_readers=n_readers, prefetch=prefetch, buffer_size=60)
        orders.append([order(stream, e, s, size) for e, s in ((0, 7), (1, 7), (0, 8), (0, 7))])
    for others in orders[1:]:
        np.testing.assert_array_equal(others, orders[0])
    first, epoch, seed, again = orders[0]
    np.testing.assert_array_equal(first, again)
    # Two random orders have about one place in common.
    assert np.mean(first == epoch) < 0.05
    assert np.mean(first == seed) < 0.05


def test_order_does_not_depend_on_the_readers_timing():
    def source(i, pause):
        for j in range(20):
            time.sleep(pause * ((i + j) % 3))
            yield np.array([i, j]), 0

    orders = []
    for pause in (0, 0.002):
        sources = [lambda i=i, pause=pause: source(i, pause) for i in range(4)]
        orders.append(whole(stream_iterable(sources, buffer_size=8, n_readers=3))[0])
    np.testing.assert_array_equal(*orders)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_buffer_makes_any_order(kind, tmp_path):
    """Rank correlation with the files' order: its standard deviation is 1 / sqrt(N - 1)."""
    stream = make(kind, tmp_path)
    for epoch in range(3):
        rank = np.corrcoef(order(stream, epoch), np.arange(N))[0, 1]
        assert abs(rank) < 4 / np.sqrt(N - 1)


def test_permutations_are_equally_likely():
    stream = stream_arrays(np.arange(3.0)[:, None])
    counts = {}
    for epoch in range(300):
        key = tuple(order(stream, epoch).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6
    # 50 each, standard deviation 6.5.
    assert all(24 < n < 76 for n in counts.values())


@pytest.mark.parametrize("kind", ["array", "memmap"])
def test_arrays_are_shuffled_far_beyond_the_buffer(kind, tmp_path):
    numbers = np.arange(20_000)
    X = numbers[:, None].astype(np.float32)
    if kind == "memmap":
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    got = order(stream_arrays(X, buffer_size=640))
    assert abs(np.corrcoef(got, numbers)[0, 1]) < 0.05
    # The first block has samples of every part of the array.
    assert len(np.unique(got[:640] // 1000)) == 20


def test_shards_of_one_class_are_mixed_to_the_end(tmp_path):
    """Unequal sorted shards: their portions are such that all of them end together."""
    rows = (2000, 1000, 500, 3500)
    for label, n in enumerate(rows):
        np.savez(tmp_path / f"{label}.npz", X=np.zeros((n, 1)), y=np.full(n, label))
    stream = stream_npz(str(tmp_path / "*.npz"), buffer_size=700)
    share = np.array(rows) / sum(rows)
    for _, y, _ in stream.epoch(0, 0, size=700):
        # 700 draws: a standard deviation of 0.019 at most; portions are rounded to whole rows.
        np.testing.assert_allclose(np.bincount(y, minlength=4) / len(y), share, atol=0.08)


def test_more_files_than_are_open_at_once(tmp_path):
    n = 2 * base.LANES + 5
    for i in range(n):
        write_csv(tmp_path / f"{i:03}.csv", np.full((10, 3), i), np.arange(10))
    stream = stream_csv(str(tmp_path / "*.csv"), target="label", columns=["a"], buffer_size=40)
    got = order(stream)
    np.testing.assert_array_equal(np.bincount(got), np.full(n, 10))
    assert len(np.unique(order(stream, size=40)[:40])) > base.LANES // 2


# ---------------------------------------------------------------- the parts


def test_shuffle_and_collect_against_loops():
    blocks = [(np.arange(a, b), None) for a, b in ((0, 3), (3, 11), (11, 12), (12, 30))]
    got = list(collect(shuffle(iter(blocks), 5, np.random.default_rng(0)), 7))
    assert [len(x) for x, _ in got] == [7, 7, 7, 7, 2]
    assert all(y is None for _, y in got)

    generator, buffer, expected = np.random.default_rng(0), [], []
    for numbers, _ in blocks:
        numbers = numbers.tolist()
        while numbers:
            room = 5 - len(buffer)
            if room:
                buffer += numbers[:room]
                numbers = numbers[room:]
                continue
            some, numbers = numbers[:5], numbers[5:]
            for value, place in zip(some, generator.choice(5, len(some), replace=False)):  # noqa: B905
                expected.append(buffer[place])
                buffer[place] = value
    expected += [buffer[i] for i in generator.permutation(len(buffer))]
    assert np.concatenate([x for x, _ in got]).tolist() == expected


def test_blocks_are_the_consumers_own():
    """A block may be kept and written to: no later one changes it, nor the data."""
    X = np.arange(100.0)[:, None]
    stream = stream_arrays(X, dtype="float64", buffer_size=10)
    blocks = [x for x, _, _ in stream.epoch(0, 0)]
    copies = [x.copy() for x in blocks[:5]]
    for x in blocks[5:]:
        x[:] = -1
    for x, y in zip(blocks, copies, strict=False):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(X[:, 0], np.arange(100))


@pytest.mark.parametrize("n_sources", [1, 40])
@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_read_ahead_is_bounded(shuffle, prefetch, n_sources):
    read = []

    def source():
        for i in range(4000 // n_sources):
            read.append(i)
            yield np.zeros(2), 0

    stream = stream_iterable(
        [source] * n_sources, buffer_size=200, prefetch=prefetch, shuffle=shuffle, n_readers=3
    )
    stream.sample_shape  # noqa: B018
    read.clear()
    blocks = stream.epoch(0, 0, size=20)
    next(blocks)
    before = -1
    while before != len(read):  # until the readers stand still
        before = len(read)
        time.sleep(0.05)
    # A few blocks are in hands of readers and consumer.
    assert len(read) <= (prefetch + 2) * 200
    assert len(read) >= (200 if shuffle else 20)
    blocks.close()
    assert not readers()


# ---------------------------------------------------------------- what is known of it


def test_shapes_dtypes_and_lengths():
    X, y, weight = data()
    stream = stream_arrays(X.astype(np.uint8), y.astype(np.uint8), dtype="float64")
    assert (stream.sample_shape, stream.n_features, stream.target_shape) == ((3,), 3, ())
    assert stream.target_dtype == np.int64
    assert not stream.has_weight
    ((X_block, y_block, nothing),) = stream.epoch(0, 0)
    assert (X_block.dtype, y_block.dtype, nothing) == (np.float64, np.int64, None)
    images = stream_arrays(np.zeros((4, 12), np.float32), sample_shape=(2, 2, 3))
    assert (images.sample_shape, images.n_features) == ((2, 2, 3), 12)
    assert images.target_shape is images.target_dtype is images.classes is None
    assert [a if a is None else a.shape for a in next(images.epoch(0, 0))] == [
        (4, 2, 2, 3), None, None,
    ]  # fmt: skip
    several = stream_arrays(X, np.zeros((N, 2)), weight)
    assert (several.target_shape, several.target_dtype) == ((2,), np.float64)
    assert several.has_weight
    assert next(several.epoch(0, 0, 5))[1].shape == (5, 2)


@pytest.mark.parametrize("kind", ["csv", "samples"])
def test_length_is_known_after_a_pass(kind, tmp_path):
    stream = make(kind, tmp_path)
    assert stream.n_samples is None
    assert stream
    assert "unknown" in repr(stream)
    with pytest.raises(TypeError, match=r"scan\(\)"):
        len(stream)
    next(stream.epoch(0, 0, 10))
    assert stream.n_samples is None
    whole(stream)
    assert len(stream) == N
    assert f"{N}" in repr(stream)


@pytest.mark.parametrize("kind", KINDS)
def test_scan(kind, tmp_path):
    stream = make(kind, tmp_path)
    summary = stream.scan()
    assert (summary.n_samples, summary.sample_shape, summary.target_shape) == (N, (3,), ())
    assert summary.classes.dtype == np.int64
    assert summary.classes.tolist() == [0, 1, 2, 3, 4]
    assert stream.scan() is summary
    assert stream.classes is summary.classes
    assert len(stream) == N


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([True, False, True], [False, True]),
        ([2.0, -1.0, 2.0], [-1, 2]),
        ([0.5, 1.0, 2.0], None),
        ([[0, 1], [1, 0], [1, 1]], None),
    ],
)
def test_classes_that_scan_finds(y, classes):
    found = stream_arrays(np.zeros((3, 1)), y).scan().classes
    assert classes == (None if found is None else found.tolist())


def test_targets_with_too_many_values_are_no_labels(monkeypatch):
    monkeypatch.setattr(base, "MAX_CLASSES", 4)
    stream = stream_arrays(np.zeros((5, 1)), np.arange(5))
    assert stream.scan().classes is None


def test_given_classes():
    X = np.zeros((4, 1))
    stream = stream_arrays(X, [3.0, 1.0, 1.0, 3.0], classes=[3, 1, 2])
    assert stream.classes.tolist() == stream.scan().classes.tolist() == [1, 2, 3]
    y = whole(stream)[1]
    assert y.dtype == np.int64
    assert sorted(y.tolist()) == [1, 1, 3, 3]
    stream = stream_arrays(X, ["x", "y", "x", "z"], classes=["x", "y"])
    with pytest.raises(ValueError, match=r"arrays in memory, row 3: label 'z' is not among"):
        whole(stream)
    with pytest.raises(ValueError, match="classes are strings, but y has numbers"):
        stream_arrays(X, [0, 1, 0, 1], classes=["0", "1"]).scan()


def test_transform_and_reshape():
    X, y, _ = data()
    stream = stream_arrays(X, y, transform=lambda x: np.hstack([x, -x]), sample_shape=(2, 3))
    assert stream.sample_shape == (2, 3)
    got = whole(stream)[0]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:, 0], -got[:, 1])
    X = np.array([[1.0, np.nan], [2.0, 0.0]])
    np.testing.assert_array_equal(
        stream_arrays(X, transform=lambda x: np.nan_to_num(x, nan=5.0)).take(2)[0],
        [[1, 5], [2, 0]],
    )


def test_array_like_input():
    class Slices:
        """What HDF5 gives: a shape, a dtype, and slices of it."""

        def __init__(self, a):
            self._a, self.shape, self.dtype = a, a.shape, a.dtype

        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            return self._a[rows]

    X, y, _ = data()
    assert sorted(order(stream_arrays(Slices(X), y, buffer_size=70))) == list(range(N))
    assert sorted(order(stream_arrays(X.tolist(), y.tolist()))) == list(range(N))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, index=np.arange(N)[::-1])
    assert sorted(order(stream_arrays(frame, pandas.Series(y)))) == list(range(N))


def test_stream_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Stream()
