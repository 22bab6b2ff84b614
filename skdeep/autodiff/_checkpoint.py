"""Functions whose intermediates are not kept for the backward pass but computed again."""

import numpy as np

from skdeep.autodiff._trace import Primitive, Reverse, Tracer, innermost
from skdeep.autodiff._transforms import vjp
from skdeep.autodiff._tree import flatten


class _Segment(Primitive):
    """One call of a rematerialised function, as an entry on a tape."""

    def __init__(self, f, build):
        super().__init__("rematerialize")
        self.f, self.build = f, build
        self.rules(self._backward)

    def __call__(self, *leaves):
        outs, self.rebuild = flatten(self.f(*self.build(leaves)))
        return tuple(o if isinstance(o, Tracer) else np.asarray(o) for o in outs)

    def _backward(self, cts, ans, *leaves):
        pulled = []

        def rule(i):
            if not pulled:
                _, pullback = vjp(self.f, *self.build(leaves))
                pulled.extend(flatten(pullback(self.rebuild(cts)))[0])
            return pulled[i]

        return [lambda i=i: rule(i) for i in range(len(leaves))]


def rematerialize(f):
    """Return a function of the same value that keeps its arguments alone for the backward pass.

    Parameters
    ----------
    f : callable
        A pure function of arrays or trees of arrays; it must not use traced values that are not
        among its arguments.

    Returns
    -------
    callable

    References
    ----------
    T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training Deep Nets with Sublinear Memory Cost",
    arXiv:1604.06174, 2016.
    """

    def call(*args):
        leaves, build = flatten(args)
        top = innermost(leaves)
        if not isinstance(top, Reverse):
            return f(*args)
        segment = _Segment(f, build)
        outs = top.process(segment, leaves, {})
        return segment.rebuild(list(outs))

    return call
