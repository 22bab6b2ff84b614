"""The CIFAR-10 images."""

import io
import itertools
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home
from sklearn.utils import Bunch

from skdeep.datasets._mnist import data_folders

CLASS_NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
#: Of OpenML's 60,000 images the first are for training, as in the original batches.
N_TRAIN = 50_000


def load_cifar10(*, subset="all", return_X_y=False, data_home=None, download_if_missing=True):
    """Load the CIFAR-10 images: 32 by 32 pixels, three colours, ten classes.

    The file ``cifar10_jpeg.npz`` is looked for in the folder that the environment variable
    ``SKDEEP_DATA`` names, in ``../shared/data``, and in scikit-learn's data home; then
    ``cifar10.npz`` in the same folders. Otherwise the data, 50,000 images for training and 10,000
    for testing, come from OpenML and are kept in the data home as ``cifar10.npz``.

    Parameters
    ----------
    subset : {"all", "train", "test"}, default="all"
        Which part.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    data_home : str or path-like, default=None
        Another data home than scikit-learn's.
    download_if_missing : bool, default=True
        Whether to download data that are found nowhere; otherwise an `OSError` is raised.

    Returns
    -------
    data : Bunch
        ``data`` of shape (n_samples, 3072), float32 in [0, 1]; ``images``, its view of shape
        (n_samples, 32, 32, 3); ``target`` of shape (n_samples,), int64; ``target_names``, the ten
        classes' names.

    Raises
    ------
    ValueError
        If `subset` is none of these.
    OSError
        If the data are not there and `download_if_missing` is False.
    ImportError
        If the images found are JPEG files and Pillow is not installed.

    Notes
    -----
    ``cifar10_jpeg.npz`` holds JPEG files one after the other: ``train_bytes`` (uint8),
    ``train_offsets`` (where each begins, and the end), ``y_train``, the same for ``test``, and
    ``class_names``. ``cifar10.npz`` holds ``X_train`` of shape (n, 32, 32, 3), uint8,
    ``y_train``, ``X_test`` and ``y_test``.

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Examples
    --------
    >>> from skdeep.datasets import load_cifar10
    >>> cifar10 = load_cifar10(subset="test")  # doctest: +SKIP
    >>> cifar10.images.shape[1:]  # doctest: +SKIP
    (32, 32, 3)
    """
    if subset not in ("all", "train", "test"):
        raise ValueError(f"subset={subset!r} must be 'all', 'train' or 'test'")
    parts = ("train", "test") if subset == "all" else (subset,)
    if path := _find("cifar10_jpeg.npz", data_home):
        images, labels, names = _read_jpeg(path, parts)
    else:
        path = _find("cifar10.npz", data_home)
        if path is None:
            if not download_if_missing:
                searched = ", ".join(str(f) for f in data_folders(data_home))
                raise OSError(f"cifar10_jpeg.npz is in none of these folders: {searched}")
            path = _download(data_home)
        with np.load(path, allow_pickle=False) as f:
            images = np.concatenate([f[f"X_{part}"] for part in parts])
            labels = np.concatenate([f[f"y_{part}"] for part in parts])
        names = CLASS_NAMES
    images = images.astype(np.float32)
    images /= 255
    data, target = images.reshape(len(images), -1), labels.astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(data=data, images=images, target=target, target_names=list(names))


def _find(name, data_home):
    paths = (folder / name for folder in data_folders(data_home))
    return next((path for path in paths if path.is_file()), None)


def _read_jpeg(path, parts):
    """Return images, labels and the classes' names of the file of JPEG images."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"the images in {path} are JPEG files: install Pillow to read them, for instance by "
            "the extra 'plot' of scikit-deep"
        ) from error
    with np.load(path, allow_pickle=False) as f:
        names = f["class_names"].tolist()
        labels = np.concatenate([f[f"y_{part}"] for part in parts])
        images, n = np.empty((len(labels), 32, 32, 3), np.uint8), 0
        for part in parts:
            content, ends = f[f"{part}_bytes"].tobytes(), f[f"{part}_offsets"].tolist()
            for begin, end in itertools.pairwise(ends):
                with Image.open(io.BytesIO(content[begin:end])) as image:
                    images[n] = image
                n += 1
    return images, labels, names


def _download(data_home):
    """Fetch the images, keep them as one file in the data home and return its path."""
    X, y = fetch_openml(
        "CIFAR_10", version=1, return_X_y=True, as_frame=False, data_home=data_home
    )
    # Planes of red, green and blue become pixels of three values.
    X = X.astype(np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    y = y.astype(np.uint8)
    path = Path(get_data_home(data_home)) / "cifar10.npz"
    np.savez_compressed(
        path, X_train=X[:N_TRAIN], y_train=y[:N_TRAIN], X_test=X[N_TRAIN:], y_test=y[N_TRAIN:]
    )
    return path
