"""Arrays in a device's memory: a place, a shape, strides and a dtype, and nothing computed."""

import numpy as np


class Buffer:
    """A piece of a device's memory; it is given back when nothing refers to it any more.

    Parameters
    ----------
    device : Gpu or SimulatedGpu
        Whose memory it is.
    address : int
        Where it begins.
    nbytes : int
        Its size.
    keep : object, optional
        What must live as long: the owner of the memory.
    """

    def __init__(self, device, address, nbytes, keep=None):
        self.device, self.address, self.nbytes, self.keep = device, address, nbytes, keep


class Scratch:
    """Memory of a call that no other call reads.

    All calls of a program share memory for the call that needs most. The scratches of one call
    stand side by side in it, from `start` on: what a call's parts took knows nothing of the rest.

    Parameters
    ----------
    device : Gpu or SimulatedGpu
        Whose memory it will be.
    """

    def __init__(self, device):
        self.device, self.nbytes, self.buffer, self.start = device, 0, None, 0

    address = property(lambda self: self.buffer.address + self.start)

    def take(self, shape, dtype=np.float32):
        """Return an array in it, behind those taken before."""
        array = DeviceArray(self, self.nbytes, shape, None, dtype)
        self.nbytes += -(-array.nbytes // 256) * 256
        return array


class DeviceArray:
    """An array in a device's memory.

    Parameters
    ----------
    buffer : Buffer or Scratch
        The memory.
    offset : int
        Where its first element is, in bytes.
    shape : tuple of int
        Its shape.
    strides : tuple of int or None
        Its strides in bytes; None for C order.
    dtype : dtype
        Its dtype. A float64 is kept as two float32 of which it is the sum.
    """

    def __init__(self, buffer, offset, shape, strides, dtype):
        self.buffer, self.offset, self.dtype = buffer, offset, np.dtype(dtype)
        self.shape = tuple(map(int, shape))
        self.strides = contiguous(self.shape, self.dtype) if strides is None else tuple(strides)

    device = property(lambda self: self.buffer.device)
    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape, dtype=np.int64)))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)
    address = property(lambda self: self.buffer.address + self.offset)

    def __repr__(self):
        return f"DeviceArray({self.shape}, {self.dtype}, on {self.device!r})"

    def __len__(self):
        return self.shape[0]

    @property
    def is_contiguous(self):
        """Whether the elements stand in C order without gaps."""
        full = contiguous(self.shape, self.dtype)
        pairs = zip(self.shape, self.strides, full, strict=True)
        return self.size <= 1 or all(n == 1 or s == f for n, s, f in pairs)

    def step(self, axis):
        """Return the distance of neighbours along an axis, in elements (0 along a single one)."""
        return 0 if self.shape[axis] == 1 else self.strides[axis] // self.itemsize

    def aligned(self, nbytes=16):
        """Whether the first element, and every row, begins at a multiple of so many bytes."""
        rows = all(
            n == 1 or s % nbytes == 0 for n, s in zip(self.shape[:-1], self.strides, strict=False)
        )
        return rows and (self.offset + self.buffer_alignment) % nbytes == 0

    @property
    def buffer_alignment(self):
        """What the buffer's address is beyond a multiple of 256 bytes."""
        return 0 if isinstance(self.buffer, Scratch) else self.buffer.address % 256

    def view(self, shape, strides=None, offset=0, dtype=None):
        """Return another array in the same memory, `offset` bytes from the first element on."""
        return DeviceArray(self.buffer, self.offset + offset, shape, strides, dtype or self.dtype)

    def reshape(self, *shape):
        """Return the array in another shape; it is contiguous."""
        if not self.is_contiguous:
            raise ValueError("only a contiguous device array can be reshaped")
        return self.view(shape)

    def extent(self):
        """Return the number of elements from the first to the last, gaps included."""
        if not self.size:
            return 0
        return 1 + sum((n - 1) * self.step(i) for i, n in enumerate(self.shape))

    def numpy(self):
        """Return a copy on the host."""
        out = np.empty(self.shape, self.dtype)
        self.device.download(self, out)
        return out

    def __dlpack__(self, *, stream=None, **options):
        from skdeep._kernels.cuda.interop import capsule

        return capsule(self, stream, **options)

    def __dlpack_device__(self):
        return 2, self.device.index  # 2 is DLPack's number for CUDA

    @property
    def __cuda_array_interface__(self):
        if self.dtype == np.float64:
            raise AttributeError("float64 numbers are pairs of float32 on a device")
        return {
            "shape": self.shape,
            "strides": None if self.is_contiguous else self.strides,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3,
            "stream": self.device.stream_handle,
        }


def contiguous(shape, dtype):
    """Return the strides of an array in C order."""
    strides, step = [], np.dtype(dtype).itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def scratch(array):
    """Return new scratch memory on an array's device."""
    return Scratch(array.device)


def check_span(*arrays):
    """Refuse arrays that kernels which count in 32 bits would read and write at wrong places."""
    for a in arrays:
        if a.extent() * (2 if a.dtype == np.float64 else 1) >= 1 << 32:
            raise ValueError(
                f"an array of shape {a.shape} spans 2**32 elements or more; kernels count in 32 "
                "bits: split it, or use a smaller batch"
            )


def to_pairs(values):
    """Return float64 numbers as pairs of float32 whose sums they are, to 48 bits."""
    values = np.asarray(values, np.float64)
    pairs = np.empty((*values.shape, 2), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        pairs[..., 0] = values
        low = values - pairs[..., 0].astype(np.float64)
    pairs[..., 1] = np.where(np.isfinite(values), low, 0)
    return pairs


def from_pairs(pairs):
    """Return the float64 numbers of pairs of float32."""
    pairs = np.asarray(pairs, np.float64)
    return pairs[..., 0] + pairs[..., 1]
