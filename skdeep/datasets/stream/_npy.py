"""Headers of NumPy's array files."""

from numpy.lib import format as npy

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_header(file, name):
    """Read the header of an array and return its shape and dtype; the rows come next in the file.

    Raises
    ------
    ValueError
        If it is no array whose rows can be read one after the other; `name` says which.
    """
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"its format has version {version}")
        shape, fortran, dtype = _HEADERS[version](file)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array of NumPy: {error}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects; save numbers or strings")
    if fortran and len(shape) > 1:
        raise ValueError(
            f"{name} is in Fortran order, whose rows cannot be read one after the other; save "
            "numpy.ascontiguousarray of it"
        )
    return shape, dtype
