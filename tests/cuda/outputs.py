"""Running a function of device arrays that gives launches."""

import numpy as np

from skdeep._kernels.cuda.program import Mirror, Twin


def output(gpu, f, shape, dtype, *inputs):
    """Return the array that ``f(*inputs, out)`` makes on the device.

    It begins as what no result is. Inputs may be read-only.
    """
    out = np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)
    mirror = Mirror(gpu)
    mirror.compile([(Twin(f, "f"), (*inputs, out))])()
    mirror.pull(out)
    return out
