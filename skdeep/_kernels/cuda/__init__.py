"""numba-CUDA twins of the kernels in `skdeep._kernels.cpu`, under the same names.

Importing this package imports no CUDA. `_numba` alone touches numba.cuda; `_simulator` runs the
same kernel sources in Python; `_driver` owns a GPU; `program` translates a recorded program.
"""
