"""Running a twin, and comparing it with the kernel of the CPU that it is the twin of."""

import numpy as np

from skdeep._kernels.cuda.program import Mirror


def run_twin(gpu, function, *args):
    """Run one call on the device; every array argument is updated in place."""
    mirror = Mirror(gpu)
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    for a in arrays:
        mirror.of(a)
    mirror.compile([(function, args)])()
    mirror.pull(*arrays)


def copied(args):
    """Return the arguments with arrays copied, strides too; what was one array stays one."""
    copies = {}
    return [copies.setdefault(id(a), _copy(a)) if isinstance(a, np.ndarray) else a for a in args]


def _copy(a):
    if not a.size or any(s < 0 for s in a.strides):
        return a.copy()
    extent = 1 + sum((n - 1) * s // a.itemsize for n, s in zip(a.shape, a.strides, strict=True))
    flat = np.full(extent, np.nan if a.dtype.kind == "f" else 0, a.dtype)
    copy = np.ndarray(a.shape, a.dtype, flat, 0, a.strides)
    copy[...] = a
    return copy


def check_twin(gpu, kernel, *args, rtol=1e-5, atol=1e-6, scratch=()):
    """Compare a CPU kernel and its twin on the same arguments; return what the twin made.

    Every array argument is compared afterwards, floats within the tolerances, others exactly, but
    for those at the indices in `scratch`.
    """
    variant = kernel[np.float32]
    expected, computed = copied(args), copied(args)
    variant(*expected)
    run_twin(gpu, variant, *computed)
    for i, (e, c) in enumerate(zip(expected, computed, strict=True)):
        if not isinstance(e, np.ndarray) or i in scratch:
            continue
        if e.dtype.kind == "f":
            np.testing.assert_allclose(c, e, rtol, atol, err_msg=f"argument {i}")
        else:
            np.testing.assert_array_equal(c, e, err_msg=f"argument {i}")
    return computed
