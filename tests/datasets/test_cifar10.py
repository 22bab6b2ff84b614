"""CIFAR-10: from JPEG files, from arrays, and what is kept of a download."""

import io
import sys

import numpy as np
import pytest

from skdeep.datasets import _cifar10 as module
from skdeep.datasets._cifar10 import CLASS_NAMES, load_cifar10


def pictures(n, seed):
    """Return flat-coloured images, which JPEG keeps to a few units, and labels."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (n, 1, 1, 3))
    return np.broadcast_to(colours, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, n)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return an empty folder where alone the data are looked for."""
    monkeypatch.setattr(module, "data_folders", lambda data_home=None: [tmp_path])
    monkeypatch.setattr(module, "get_data_home", lambda data_home=None: tmp_path)
    return tmp_path


def write_jpeg(folder):
    image = pytest.importorskip("PIL.Image")
    arrays = {"class_names": np.array(CLASS_NAMES)}
    for part, n, seed in (("train", 12, 0), ("test", 5, 1)):
        X, y = pictures(n, seed)
        files = []
        for x in X:
            image.fromarray(x).save(f := io.BytesIO(), "JPEG", quality=95)
            files.append(f.getvalue())
        arrays[f"{part}_bytes"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"y_{part}"] = y.astype(np.uint8)
    np.savez(folder / "cifar10_jpeg.npz", **arrays)


@pytest.mark.parametrize(
    ("subset", "parts"),
    [("train", [(12, 0)]), ("test", [(5, 1)]), ("all", [(12, 0), (5, 1)])],
)
def test_jpeg(subset, parts, home):
    write_jpeg(home)
    got = load_cifar10(subset=subset)
    X, y = (np.concatenate(v) for v in zip(*(pictures(*p) for p in parts), strict=True))
    assert got.images.dtype == got.data.dtype == np.float32
    assert got.data.shape == (len(X), 3072)
    assert np.shares_memory(got.data, got.images)
    # Eight-bit steps of colour and of its transform.
    np.testing.assert_allclose(got.images * 255, X, atol=4)
    assert got.target.dtype == np.int64
    np.testing.assert_array_equal(got.target, y)
    assert got.target_names == CLASS_NAMES
    data, target = load_cifar10(subset=subset, return_X_y=True)
    np.testing.assert_array_equal(data, got.data)
    np.testing.assert_array_equal(target, y)


def test_jpeg_without_pillow(home, monkeypatch):
    write_jpeg(home)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"cifar10_jpeg\.npz are JPEG files: install Pillow"):
        load_cifar10()


def test_download_is_kept(home, monkeypatch):
    X, y = pictures(17, 2)
    calls = []

    def fetch(name, **options):
        calls.append(name)
        # As OpenML has them: planes of colours in rows, labels as strings.
        return X.transpose(0, 3, 1, 2).reshape(17, 3072).astype(float), y.astype(str)

    monkeypatch.setattr(module, "fetch_openml", fetch)
    monkeypatch.setattr(module, "N_TRAIN", 12)
    for subset, rows in (("all", slice(17)), ("train", slice(12)), ("test", slice(12, 17))):
        got = load_cifar10(subset=subset)
        np.testing.assert_array_equal(np.rint(got.images * 255), X[rows])
        np.testing.assert_array_equal(got.target, y[rows])
        assert got.target_names == CLASS_NAMES
    assert calls == ["CIFAR_10"]


def test_errors(home):
    with pytest.raises(ValueError, match="subset='some' must be"):
        load_cifar10(subset="some")
    with pytest.raises(OSError, match=r"cifar10_jpeg\.npz is in none of these folders"):
        load_cifar10(download_if_missing=False)


def test_the_images_themselves():
    pytest.importorskip("PIL.Image")
    try:
        got = load_cifar10(subset="test", download_if_missing=False)
    except OSError as error:
        pytest.skip(f"CIFAR-10 is not there: {error}")
    n = len(got.target)
    assert got.images.shape == (n, 32, 32, 3)
    assert 0 <= got.images.min() < 0.01 < 0.99 < got.images.max() <= 1
    # All classes about as often; green is between red and blue, as in most photographs.
    np.testing.assert_allclose(np.bincount(got.target) / n, np.full(10, 0.1), atol=0.02)
    red, green, blue = got.images.mean((0, 1, 2))
    assert red > green > blue
    assert got.target_names == CLASS_NAMES
