"""The arrays of a convolution as its kernels take them."""

from skdeep._kernels.cuda.move import contiguous, copy


def spread(a, at=2, ndim=6):
    """Return an array with three spatial axes, those in front, of length one, put in at `at`."""
    front = ndim - a.ndim
    shape = (*a.shape[:at], *(1,) * front, *a.shape[at:])
    return a.view(shape, (*a.strides[:at], *(0,) * front, *a.strides[at:]))


def from_element(a, first):
    """Return what follows in an array's memory from an element on."""
    return a.view((a.extent() - first,), None, first * a.itemsize)


def ready(a, s, axis):
    """Return an array that has no gaps from an axis on, and the launches that make it."""
    if a is None:
        return None, []
    inner = a.view(a.shape[axis:], a.strides[axis:])
    return (a, []) if inner.is_contiguous else contiguous(a, s)


def target(out, s):
    """Return an array whose members have no gaps for `out`, and what copies it there."""
    if out.view(out.shape[1:], out.strides[1:]).is_contiguous:
        return out, []
    made = s.take(out.shape)
    return made, copy(made, out)


def check(*arrays):
    """Refuse arrays whose elements 32 bits do not count."""
    for a in arrays:
        if a.extent() >= 2**31:
            raise ValueError(
                f"an array of shape {a.shape}: convolutions on a device take less than 2**31 "
                "elements; use a smaller batch"
            )


def vectors(a, groups=1):
    """Whether a group's channels are vectors of 16 bytes."""
    return a.aligned() and a.shape[-1] % (4 * groups) == 0
