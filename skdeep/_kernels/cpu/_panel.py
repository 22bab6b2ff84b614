"""Panels of register tiles, compiled once for each dtype apart from the products that use them."""

from numba import cfunc
from numba.extending import intrinsic

from skdeep._kernels.cpu._indirect import Indirect, fill_nan
from skdeep._kernels.cpu._microkernel import HOST, make_panel
from skdeep._kernels.cpu._numba import FLOATS, JIT, renamed

_panel = make_panel(HOST)


def _compute(m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate):
    """C (m, columns) = (C +) A (m, k) @ B (k, columns), k >= 1, at most a panel wide."""
    _panel(m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate != 0)


def _build(dtype):
    function = renamed(_compute, f"_panel_{dtype.name}")
    return cfunc(PANEL.signature(FLOATS[dtype]), **JIT)(function)


def _poison(dtype, *args):
    c, c_row, _, columns = args[6:10]
    fill_nan(dtype, c, args[0], columns, c_row)


#: The panel for each dtype, as kernels call it.
PANEL = Indirect("skdeep_panel", "i" + "fii" + "fi" + "fi" + "iii", _build, _poison)


@intrinsic
def panel(tyctx, m, a, a_row, a_col, b, b_row, c, c_row, k, columns, accumulate):
    """Call the panel for C's dtype through the table; arguments as of `make_panel`."""
    return PANEL.signature(c.dtype), PANEL.emit
