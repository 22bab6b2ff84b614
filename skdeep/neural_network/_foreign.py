"""Arrays of other libraries: samples that are on a GPU already, and answers of the same kind.

Samples on a GPU never come to the host. What goes through validation and bookkeeping in their
stead is a *stand-in*: a NumPy array of the same shape that takes addresses but no memory, and
whose mirror on the device is the array itself.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from skdeep._compat import array_namespace, moved, to_numpy
from skdeep.autodiff._trace import unwritten

#: DLPack's number for a CUDA device.
_CUDA = 2
#: Numbers that are checked at a time: as many more are kept meanwhile.
_CHECKED = 1 << 26


def is_on_gpu(X):
    """Whether samples are an array in a GPU's memory."""
    if isinstance(X, np.ndarray | list | tuple) or sp.issparse(X):
        return False
    if hasattr(X, "__cuda_array_interface__"):
        return True
    place = getattr(X, "__dlpack_device__", None)
    return place is not None and place()[0] == _CUDA


def on_host(*arrays):
    """Return arrays of other libraries as NumPy's; all else as it is."""
    done = []
    for a in arrays:
        if is_on_gpu(a):
            a = _device_array(a).numpy()
        elif array_namespace(a) is not None:
            a = to_numpy(a)
        done.append(a)
    return done


def answer(result, X):
    """Return a result as an array of the kind that the samples are, where scikit-learn asks.

    That is with ``array_api_dispatch``, and for numbers: labels of other kinds stay NumPy's.
    """
    try:
        namespace = array_namespace(X)
    except TypeError:  # an array on a GPU, of a library that does not follow the standard
        namespace = None
    if namespace is None or result.dtype.kind not in "biuf":
        return result
    return moved(result, namespace, X)


@dataclass
class Given:
    """Samples on a GPU during one call.

    Parameters
    ----------
    array : DeviceArray
        The samples, float32 without gaps.
    stand_in : ndarray
        What stands for them on the host.
    """

    array: object
    stand_in: np.ndarray

    def use(self, target):
        """Let a target take the array itself where the stand-in is asked for."""
        if self.array.device is not target.gpu:
            raise ValueError(
                f"X is on {self.array.device!r}, but device={target.name!r}: name that device, "
                "or move X"
            )
        target.mirror.include(self.stand_in, at=self.array)

    def rows(self, rows):
        """Return some samples, on the host."""
        n = len(self.array)
        a = self.array.reshape(n, self.array.size // n)
        order, counters = np.asarray(rows, np.int64)[None], np.zeros((1, 4), np.int64)
        out = np.empty((1, len(rows), a.shape[1]), np.float32)
        from skdeep._kernels.cpu import batch
        from skdeep._kernels.cuda.program import Mirror

        mirror, flat = Mirror(self.array.device), self.stand_in.reshape(a.shape)
        mirror.include(flat, at=a)
        mirror.compile([(batch.gather[np.float32], (flat, order, counters, out))])()
        mirror.pull(out)
        return out.reshape(len(rows), *self.array.shape[1:])


def take(X):
    """Return what goes on in the place of samples, and a `Given` if they are on a GPU."""
    if not is_on_gpu(X):
        return on_host(X)[0], None
    array = _device_array(X)
    if not all(array.shape):
        return np.zeros(array.shape, np.float32), None  # scikit-learn says what is wrong with it
    array = _as_float32(array)
    _check_finite(array)
    stand_in = unwritten(array.shape, np.float32)
    if stand_in.base is None:  # small ones have memory: it must hold numbers
        stand_in[...] = 0
    return stand_in, Given(array, stand_in)


def _device_array(X):
    from skdeep._kernels.cuda.array import DeviceArray

    if isinstance(X, DeviceArray):
        return X
    from skdeep._kernels.cuda import interop

    if str(X.dtype).endswith("float64"):  # kernels read float32; the library itself converts
        X = X.float() if hasattr(X, "float") else X.astype("float32")
    return interop.from_foreign(X)


def _as_float32(array):
    from skdeep._kernels.cuda import move
    from skdeep._kernels.cuda.array import DeviceArray

    if array.dtype == np.float32 and array.is_contiguous:
        return array
    gpu = array.device
    nbytes = array.size * 4
    copy = DeviceArray(gpu.allocate(nbytes), 0, array.shape, None, np.float32)
    gpu.prepare(move.copy(array, copy))()
    return copy


def _check_finite(array):
    """Raise as scikit-learn does where samples have NaN or infinities."""
    from skdeep.autodiff._program import record
    from skdeep.autodiff._target import Device

    flat, found = array.reshape(array.size), np.zeros((), np.float32)
    for start in range(0, array.size, _CHECKED):
        part = unwritten((min(_CHECKED, array.size - start),), np.float32)
        target = Device(array.device)
        target.mirror.include(part, at=flat.view(part.shape, offset=start * flat.itemsize))
        # Zero times a finite number is zero: the sum of that is NaN if any is not.
        program = record(lambda x: np.sum(x * 0.0), (part,), found, check=False, device=True)
        target.compile(program)()
        target.pull(found)
        if found != 0:
            raise ValueError("Input X contains NaN or infinity, or a value too large for float32.")
