"""Arrays of other libraries on the same GPU, taken and given without a copy.

cuda.core reads both protocols that they share memory by, DLPack and the CUDA array interface of
version 3, and orders the streams of both sides.
"""

import sys
from typing import Any

import numpy as np

from skdeep._kernels.cuda._numba import _POINTERS
from skdeep._kernels.cuda.array import DeviceArray
from skdeep._kernels.cuda.devices import open_device

#: DLPack's number for memory of a CUDA device; that for what a host shares with one is not taken.
_CUDA = 2
_TYPES = {np.dtype(kind) for kind in _POINTERS.values()} - {np.dtype(np.float64)}


def is_foreign(array):
    """Whether an object is an array on a GPU that `from_foreign` may take."""
    if isinstance(array, np.ndarray | DeviceArray):
        return False
    place = getattr(array, "__dlpack_device__", None)
    if place is not None:
        return place()[0] == _CUDA
    return hasattr(array, "__cuda_array_interface__")


def from_foreign(array):
    """Return a device array over the memory of another library's array, which it keeps alive.

    What is asked of the device later waits for what the other library's stream was asked before.

    Parameters
    ----------
    array : object
        An array on a GPU, with ``__dlpack__`` or ``__cuda_array_interface__``: of cupy, torch,
        numba or jax.

    Returns
    -------
    DeviceArray

    Raises
    ------
    TypeError
        If it is no such array, or of a type that kernels do not read.
    ValueError
        If it has masked elements, or neighbours in opposite order.
    """
    kind = f"{type(array).__module__}.{type(array).__qualname__}"
    if not is_foreign(array):
        raise TypeError(f"{kind} is no array on a CUDA GPU: pass one, or a NumPy array")
    view, device = _viewed(array, kind)
    dtype = np.dtype(view.dtype) if view.dtype is not None else None
    if dtype not in _TYPES:
        known = ", ".join(sorted(t.name for t in _TYPES))
        raise TypeError(
            f"{kind} of {dtype}: on a GPU, arrays of {known} can be used; convert it to float32"
        )
    strides = view.strides and tuple(s * dtype.itemsize for s in view.strides)
    result = DeviceArray(None, 0, tuple(view.shape), strides, dtype)
    if result.size and any(s < 0 for s in result.strides):
        raise ValueError(f"{kind} with negative strides cannot be used on a GPU: copy it")
    nbytes = result.extent() * dtype.itemsize
    result.buffer = device.adopt(view.ptr, nbytes, (view, array))
    return result


def _viewed(array, kind):
    """Return cuda.core's view of an array, and the opened device that it is on."""
    from cuda.core.utils import StridedMemoryView

    if hasattr(array, "__dlpack__"):
        view, ordinal = StridedMemoryView.from_dlpack, array.__dlpack_device__()[1]
    else:
        described = array.__cuda_array_interface__
        if described.get("mask") is not None:
            raise ValueError(f"{kind} has a mask, which cannot be used on a GPU: fill it first")
        if described["version"] < 3:
            raise TypeError(
                f"{kind} shares its memory by version {described['version']} of the CUDA array "
                "interface, which says nothing of its stream: version 3 or DLPack is needed"
            )
        view = StridedMemoryView.from_cuda_array_interface
        ordinal = _ordinal(described["data"][0])
    device = open_device(ordinal)
    with device.context:
        return view(array, device.stream_handle), device


def _ordinal(address):
    """Return the number of the device that an address is on."""
    from cuda.bindings import driver

    from skdeep._kernels.cuda._library import call

    if not address:  # an empty array
        return 0
    with open_device(0).context:  # any will do
        kind = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(call("cuPointerGetAttribute", kind, driver.CUdeviceptr(address)))


def to_like(array, like):
    """Return a device array as one of the library that another array is of, without a copy.

    Its values are there when this returns.

    Parameters
    ----------
    array : DeviceArray
        The array; float64 is no type that other libraries can read here.
    like : object
        An array of cupy, torch, numba, or of a library with ``from_dlpack``.

    Returns
    -------
    object
        The array, which keeps the memory alive.
    """
    array.device.synchronize()
    array = lent(array)
    name = type(like).__module__.partition(".")[0]
    library: Any = sys.modules.get(name)
    if name == "cupy":
        return library.asarray(array)
    if name == "torch":
        return library.as_tensor(array, device=f"cuda:{array.device.index}")
    if name == "numba":
        return library.cuda.as_cuda_array(array)
    namespace = getattr(like, "__array_namespace__", None)
    make = getattr(namespace() if namespace else library, "from_dlpack", None)
    if make is None:
        raise TypeError(
            f"arrays of {type(like).__module__} cannot be made from one on a GPU: the library "
            "has no from_dlpack"
        )
    return make(array)


def lent(array):
    """Return the same array for other libraries: see `Gpu.lend`."""
    if array.dtype not in _TYPES:
        raise TypeError(
            f"other libraries cannot read {array!r}, whose numbers are pairs of float32"
        )
    return DeviceArray(
        array.device.lend(array.buffer), array.offset, array.shape, array.strides, array.dtype
    )


def capsule(array, stream=None, **options):
    """Return the DLPack capsule of a device array.

    Parameters
    ----------
    array : DeviceArray
        The array.
    stream : int, optional
        The reader's stream, which is made to wait for the work that was asked so far; None for
        the legacy default stream, -1 for no waiting.
    **options
        Of ``__dlpack__``: `max_version`, `dl_device` and `copy`.
    """
    from cuda.core.utils import StridedMemoryView

    array = lent(array)
    with array.device.context:
        if stream != -1:
            array.device.mark().before(1 if stream is None else stream)
        view = StridedMemoryView.from_cuda_array_interface(array, -1)
        return view.__dlpack__(stream=-1, **options)
