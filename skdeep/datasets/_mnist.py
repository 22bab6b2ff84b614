"""The MNIST digits."""

import os
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home
from sklearn.utils import Bunch


def data_folders(data_home=None):
    """Return the folders that are searched for data files, in order."""
    folders = []
    if os.environ.get("SKDEEP_DATA"):
        folders.append(Path(os.environ["SKDEEP_DATA"]))
    checkout = Path(__file__).resolve().parents[2]
    folders += [Path.cwd() / ".." / "shared" / "data", checkout / ".." / "shared" / "data"]
    return [*folders, Path(get_data_home(data_home))]


def load_mnist(*, subset="all", return_X_y=False, data_home=None, download_if_missing=True):
    """Load the MNIST handwritten digits: 60,000 for training and 10,000 for testing.

    The file ``mnist.npz`` (arrays ``X_train``, ``y_train``, ``X_test``, ``y_test``) is looked for
    in the folder that the environment variable ``SKDEEP_DATA`` names, in ``../shared/data``, and
    in scikit-learn's data home. Otherwise the data come from OpenML and are kept in the data home.

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
        ``data`` of shape (n_samples, 784), float32 in [0, 1]; ``images``, its view of shape
        (n_samples, 28, 28); ``target`` of shape (n_samples,), int64.

    Raises
    ------
    OSError
        If the data are not there and `download_if_missing` is False.

    References
    ----------
    Y. LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the
    IEEE 86, 1998.

    Examples
    --------
    >>> from skdeep.datasets import load_mnist
    >>> X, y = load_mnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (10000, 784)
    """
    if subset not in ("all", "train", "test"):
        raise ValueError(f"subset={subset!r} must be 'all', 'train' or 'test'")
    arrays = _find(data_home)
    if arrays is None:
        if not download_if_missing:
            searched = ", ".join(str(f) for f in data_folders(data_home))
            raise OSError(f"mnist.npz is in none of these folders: {searched}")
        arrays = _download(data_home)
    X_train, y_train, X_test, y_test = arrays
    parts = {
        "all": ((X_train, X_test), (y_train, y_test)),
        "train": ((X_train,), (y_train,)),
        "test": ((X_test,), (y_test,)),
    }
    images, labels = parts[subset]
    images = np.concatenate(images).reshape(-1, 28, 28).astype(np.float32)
    images /= 255
    data, target = images.reshape(len(images), 784), np.concatenate(labels).astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(data=data, images=images, target=target)


def _find(data_home):
    for folder in data_folders(data_home):
        path = folder / "mnist.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as f:
                return tuple(f[k] for k in ("X_train", "y_train", "X_test", "y_test"))
    return None


def _download(data_home):
    X, y = fetch_openml(
        "mnist_784", version=1, return_X_y=True, as_frame=False, data_home=data_home
    )
    X, y = X.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.int64)
    arrays = dict(X_train=X[:60000], y_train=y[:60000], X_test=X[60000:], y_test=y[60000:])
    np.savez_compressed(Path(get_data_home(data_home)) / "mnist.npz", **arrays)
    return tuple(arrays.values())
