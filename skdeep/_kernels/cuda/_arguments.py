"""What kernels accept as arguments, the same on a GPU and on the simulated one."""

from typing import Any

from skdeep._kernels.cuda._numba import _POINTERS, _SCALARS
from skdeep._kernels.cuda.array import DeviceArray


def is_number(word):
    """Whether a letter of a kernel's specification stands for a number."""
    return word in _SCALARS


def check_number(kernel, word, value):
    """Return a number as a kernel's argument of its type."""
    if isinstance(value, DeviceArray):
        raise TypeError(f"{kernel.__name__}: an array for the number {word!r}")
    refusal = OverflowError(f"{kernel.__name__}: {value} does not fit {word!r}")
    kind: Any = _SCALARS[word]
    try:
        number = kind(value)
    except OverflowError:
        raise refusal from None
    if word != "s" and int(number) != int(value):
        raise refusal
    return number


def check_array(kernel, word, value):
    """Return an array that a kernel takes as a pointer to what the letter says."""
    if not isinstance(value, DeviceArray):
        raise TypeError(f"{kernel.__name__}: {value!r} for the pointer {word!r}")
    if value.dtype != _POINTERS[word]:
        raise TypeError(f"{kernel.__name__}: {value.dtype} for {word!r}")
    return value
