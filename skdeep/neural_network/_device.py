"""Which device an estimator's `device` means, and whether a GPU pays."""

import warnings

import numpy as np

from skdeep._kernels.cuda.devices import named
from skdeep.autodiff._target import HOST, Device

#: Products and convolutions multiply in these at least; a GPU's tensor cores in the latter two.
PRECISIONS = ("float32", "tf32", "bfloat16")
#: A processor core's multiply-adds a second in float32, and the seconds of computing from which
#: on a GPU pays: its kernels are compiled once, and a process opens it once. Estimates.
_RATE, _PAYS = 5e10, 20.0


def check_device(device, dtype):
    """Refuse what `device` cannot mean, before any work."""
    if device in ("cpu", "auto"):
        return
    if named(device) is None:
        raise ValueError(
            f"device={device!r} is no device: use 'cpu', 'auto', 'cuda', or 'cuda:1' for the "
            "second GPU"
        )
    if np.dtype(dtype) != np.float32:
        raise ValueError(
            f"device={device!r} computes in float32, but dtype={np.dtype(dtype).name!r}; use "
            "dtype='float32' or device='cpu'"
        )


def choose(device, precision, dtype, work, refusal=None):
    """Return what to train on.

    Parameters
    ----------
    device : str
        "cpu", "auto", "cuda" or "cuda:1".
    precision : str
        One of `PRECISIONS`.
    dtype : dtype
        What the network computes in.
    work : float
        The multiply-adds of the whole training, by which "auto" goes.
    refusal : str, optional
        Why this training cannot go to a GPU.

    Returns
    -------
    Host or Device

    Raises
    ------
    RuntimeError
        If the GPU that `device` names cannot be used.
    ValueError
        If the training cannot go to a GPU.
    """
    if device == "cpu":
        return HOST
    if device != "auto":
        if refusal:
            raise ValueError(f"device={device!r}: {refusal}; use device='cpu'")
        return _opened(device, precision)
    if refusal or np.dtype(dtype) != np.float32 or work < _RATE * _PAYS:
        return HOST
    try:
        return _opened("cuda", precision)
    except (RuntimeError, ImportError) as e:
        warnings.warn(f"device='auto' trains on the CPU: {e}", stacklevel=2)
        return HOST


def for_prediction(estimator, n_samples, on_gpu=None):
    """Return what a fitted estimator predicts on.

    Where the samples are, if they are on a GPU; else where it was trained, if that is at hand.
    """
    device, dtype = estimator.device, estimator.network_.dtype
    if on_gpu is not None:
        if dtype != np.float32:
            raise ValueError(
                f"X is on a GPU, which computes in float32, but the network in {dtype.name}: "
                "bring X to the host, or fit with dtype='float32'"
            )
        return Device(on_gpu.array.device, estimator.precision)
    if device == "cpu" or (device == "auto" and not estimator.device_.startswith("cuda")):
        return HOST
    if device == "auto" and 2 * n_samples * multiply_adds(estimator.network_) < _RATE / 100:
        return HOST
    check_device(device, dtype)
    try:
        return _opened(estimator.device_ if device == "auto" else device, estimator.precision)
    except (RuntimeError, ImportError) as e:
        warnings.warn(f"device={device!r}: predicting on the CPU, because {e}", stacklevel=2)
        return HOST


def _opened(device, precision):
    from skdeep._kernels.cuda import devices

    return Device(devices.open_device(devices.parse(device)), precision)


def multiply_adds(network):
    """Return the multiply-adds of a network's forward pass for one sample."""
    total = 0
    for node, views in zip(network.nodes, network.params, strict=True):
        cells = int(np.prod(node.output_shape[:-1], dtype=np.int64))
        total += cells * sum(v[0].size for v in views.values() if v.ndim > 2)
    return total
