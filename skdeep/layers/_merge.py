"""Layers that merge several inputs, and the blocks that are built with them."""

from numbers import Integral

import numpy as np

from skdeep._compat import Interval
from skdeep.layers._base import Built, Layer


class Add(Layer):
    """The sum of inputs of one shape.

    Examples
    --------
    >>> from skdeep.layers import Add
    >>> Add().build([(8, 8, 16), (8, 8, 16)]).output_shape
    (8, 8, 16)
    """

    merges = True

    def build(self, input_shape):
        """Check that the shapes are one."""
        if len(set(map(tuple, input_shape))) != 1:
            raise ValueError(
                f"Add takes inputs of one shape, but got {', '.join(map(str, input_shape))}; "
                "bring them to one, such as by a 1x1 convolution"
            )
        return Built(tuple(input_shape[0]))

    def apply(self, params, state, x, context):
        """Add."""
        out = x[0]
        for other in x[1:]:
            out = out + other
        return out, state


class Concatenate(Layer):
    """Inputs put one after another along an axis.

    Parameters
    ----------
    axis : int, default=-1
        The axis of a sample, counted from the end: -1 is the channels'.

    Examples
    --------
    >>> from skdeep.layers import Concatenate
    >>> Concatenate().build([(8, 8, 16), (8, 8, 4)]).output_shape
    (8, 8, 20)
    """

    merges = True
    _parameter_constraints = {"axis": [Interval(Integral, None, -1, closed="right")]}

    def __init__(self, axis=-1):
        self.axis = axis

    def build(self, input_shape):
        """Check that the shapes differ in the axis alone."""
        shapes = [list(s) for s in input_shape]
        if any(len(s) < -self.axis for s in shapes):
            raise ValueError(f"axis={self.axis} is not an axis of {', '.join(map(str, shapes))}")
        lengths = [s.pop(self.axis) for s in shapes]
        if len(set(map(tuple, shapes))) != 1:
            raise ValueError(
                f"Concatenate takes inputs that differ in axis {self.axis} alone, but got "
                f"{', '.join(map(str, input_shape))}"
            )
        out = list(input_shape[0])
        out[self.axis] = sum(lengths)
        return Built(tuple(out))

    def apply(self, params, state, x, context):
        """Concatenate."""
        return np.concatenate(x, axis=self.axis), state
