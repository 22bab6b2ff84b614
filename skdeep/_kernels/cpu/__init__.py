"""Numba kernels for the CPU.

Every kernel takes arrays and int64 alone, so that a call can be recorded and replayed with no
Python. Axis 0 of an array is the member axis; where it is 1, the array is shared by the members.
"""
