"""The primitives of convolution, and the choice of what computes them.

`conv`, `conv_input_grad` and `conv_weight_grad` are each linear in two arguments and each other's
adjoints, so they close under differentiation. The second output of each is scratch, so that a
program lays it out with everything else and reuses its memory.
"""

import math

import numpy as np

from skdeep.autodiff._trace import Primitive, shape, total
from skdeep.autodiff.ops._members import member_call
from skdeep.autodiff.ops.nn import _linear_pullback
from skdeep.autodiff.ops.shape import broadcast_to, match, reshape, sum_to

# ---- the composition ----------------------------------------------------------------------------


def _taps(x, g):
    """Yield each place of the kernel with the view of padded x that it multiplies."""
    for tap in np.ndindex(*g.kernel):
        cells = [
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, g.dilation, g.out, g.stride, strict=True)
        ]
        yield tap, x[(slice(None), slice(None), *cells)]


def _groups(groups, *arrays):
    """Yield the channels of each group of each array."""
    for i in range(groups):
        yield [
            a[..., i * (a.shape[-1] // groups) : (i + 1) * (a.shape[-1] // groups)] for a in arrays
        ]


def _padded_shape(x, g):
    return (*x[:2], *(n + sum(p) for n, p in zip(g.spatial, g.padding, strict=True)), x[-1])


def _inside(g):
    return (slice(None), slice(None)) + tuple(
        slice(p, p + n) for n, (p, _) in zip(g.spatial, g.padding, strict=True)
    )


def _reference(x, w, out, g, groups):
    """Convolve tap by tap."""
    padded = np.zeros(_padded_shape(x.shape, g), x.dtype)
    padded[_inside(g)] = x
    out[...] = 0
    ones = (slice(None),) + (None,) * (x.ndim - 3)
    for tap, view in _taps(padded, g):
        for v, k, o in _groups(groups, view, w[(slice(None), *tap)], out):
            o += v @ k[ones]


def _reference_input_grad(ct, w, out, g, groups):
    padded = np.zeros(_padded_shape(out.shape, g), out.dtype)
    ones = (slice(None),) + (None,) * (ct.ndim - 3)
    for tap, view in _taps(padded, g):
        for v, k, c in _groups(groups, view, w[(slice(None), *tap)], ct):
            v += c @ np.swapaxes(k, -1, -2)[ones]
    out[...] = padded[_inside(g)]


def _reference_weight_grad(x, ct, out, g, groups):
    padded = np.zeros(_padded_shape(x.shape, g), x.dtype)
    padded[_inside(g)] = x
    for tap, view in _taps(padded, g):
        for v, c, o in _groups(groups, view, ct, out[(slice(None), *tap)]):
            v = v.reshape(len(v), -1, v.shape[-1])
            o[...] = np.swapaxes(v, -1, -2) @ c.reshape(len(c), -1, c.shape[-1])


def _members(*arrays):
    return np.broadcast_shapes(*(a.shape[:1] for a in arrays))


def algorithm(geometry, channels, filters, groups, dtype, winograd="auto"):
    """Return which algorithm computes a convolution: "f4", "f2" or "direct".

    The choice is made by shapes and never by the batch, so that a prediction does not depend on
    the batch it stands in.

    Parameters
    ----------
    geometry : Geometry
        How the window moves.
    channels, filters, groups : int
        Of the whole convolution.
    dtype : dtype
        "auto" keeps to the direct algorithm in float64, which is asked for where rounding matters.
    winograd : {"auto", "f4", "f2", False}, default="auto"
        "f4" and "f2", Winograd's F(4 x 4, 3 x 3) and F(2 x 2, 3 x 3), are used wherever they can
        be: for two-dimensional 3 x 3 windows of stride and dilation 1, padded by at most 2,
        without groups. "auto" uses the one that pays by measurement, if any; False none. They
        need 4 and 2.25 times fewer multiplications and round more (a relative error of about
        1e-5 and 1e-6 in float32, 3e-7 direct).

    Returns
    -------
    str

    Examples
    --------
    >>> from skdeep.autodiff.ops.conv import algorithm, geometry
    >>> algorithm(geometry((28, 28), 5), 64, 64, 1, "float32", "f4")
    'direct'
    """
    from skdeep._kernels.cpu import winograd as kernels

    g = geometry.canonical()
    if winograd is False or not kernels.fits(g, groups):
        return "direct"
    if winograd == "auto":
        return (np.dtype(dtype) == np.float32 and kernels.choose(g, channels, filters)) or "direct"
    return winograd


def _native(dtype):
    return dtype in (np.float32, np.float64)


def _lowering(kind, x_shape, w_shape, g, groups, winograd, dtype):
    """Return what computes a pass: "forward", "input" (gradient) or "weight" (gradient).

    That is the kernel, its plan (and tables), the place in the plan that asks for ReLU, and the
    elements of scratch.
    """
    n, channels, filters = x_shape[1], w_shape[-2] * groups, w_shape[-1]
    itemsize, transposed = np.dtype(dtype).itemsize, kind == "input"
    chosen = algorithm(g, channels, filters, groups, dtype, winograd)
    g = g.canonical()
    if chosen != "direct":
        from skdeep._kernels.cpu import winograd

        if kind == "weight":
            *plan, scratch = winograd.weights(g, n, channels, filters, chosen, itemsize)
            return winograd.weight_grad[chosen], plan, winograd.RELU, scratch
        sizes = g, n, channels, filters, chosen, transposed, itemsize
        *plan, scratch = winograd.correlation(*sizes)
        return winograd.correlate[chosen], plan, winograd.RELU, scratch
    from skdeep._kernels.cpu import _conv_plan as plans

    sizes, lanes = (g, n, channels, filters, groups), groups == channels == filters > 1
    if lanes:
        from skdeep._kernels.cpu import depthwise

        kernels = depthwise.depthwise_weight_grad, depthwise.depthwise
    else:
        from skdeep._kernels.cpu import conv

        kernels = conv.weight_grad, conv.correlate
    if kind == "weight":
        *plan, scratch = plans.weights(*sizes, lanes, itemsize)
        return kernels[0], plan, plans.RELU, scratch
    *plan, scratch = plans.correlation(*sizes, transposed, lanes, itemsize)
    return kernels[1], plan, plans.RELU, scratch


def is_product(g, groups):
    """Whether a convolution is a product of matrices: one tap on every cell, or one output."""
    if groups > 1 or any(sum(p) for p in g.padding):
        return False
    one_tap = all(k == s == 1 for k, s in zip(g.kernel, g.stride, strict=True))
    return one_tap or (g.kernel == g.spatial and all(d == 1 for d in g.dilation))


def _lower_product(kind, g, x, w, y, b=None, relu=False):
    """Lower a convolution that is a product: rows are outputs, columns of x what one reads.

    x, w and y are inputs and the output, or gradients. Return None where one output reads an
    image whose layout is no row.
    """
    from skdeep._kernels.cpu import dense

    rows, fan_in = y.shape[1] * math.prod(g.out), math.prod(w.shape[1:-1])
    if all(len(a) == 0 or a[0].flags.c_contiguous for a in (x, w, y)):
        x, w = x.reshape(len(x), rows, fan_in), w.reshape(len(w), fan_in, w.shape[-1])
        y = y.reshape(len(y), rows, y.shape[-1])
    elif g.spatial != g.out:
        return None
    if kind == "weight":
        return member_call(dense.product, (x, 1, y, 0), (w,))
    if kind == "forward" and b is None:
        return member_call(dense.product, (x, 0, w, 0), (y,))
    if kind == "forward":
        return member_call(dense.linear, (x, w, b, int(relu)), (y,))
    return member_call(dense.product, (y, 0, w, 1), (x,)) if b is None else None


def _scratch_shape(kind, x_shape, w_shape, g, groups, winograd, dtype):
    if not _native(dtype) or is_product(g, groups):
        return (0,)
    return (_lowering(kind, x_shape, w_shape, g, groups, winograd, dtype)[3],)


def _lower_correlate(kind, x, w, b, outs, *, geometry, groups, winograd, relu=False):
    """Lower the forward convolution or the input gradient."""
    out, scratch = outs
    x_shape = x.shape if kind == "forward" else out.shape
    kernel, plan, place, size = _lowering(
        kind, x_shape, w.shape, geometry, groups, winograd, out.dtype
    )
    if is_product(geometry, groups):
        ends = (x, w, out) if kind == "forward" else (out, w, x)
        call = _lower_product(kind, geometry, *ends, b, relu)
        if call is not None:
            return call
    if scratch.size < size:  # a product that another kernel has to compute
        scratch = np.empty(size, out.dtype)
    if relu:
        plan = [plan[0].copy(), *plan[1:]]  # the plans are kept and shared
        plan[0][place] = 1
    if b is None:
        b = np.zeros((1, out.shape[-1]), out.dtype)
    return member_call(kernel, (x, w, b, *plan, scratch), (out,))


def _dtype(*arrays):
    return np.result_type(*(a.dtype for a in arrays))


def _conv_shape(x, w, geometry, groups, winograd):
    out = (*_members(x, w), x.shape[1], *geometry.out, w.shape[-1])
    dtype = _dtype(x, w)
    return out, _scratch_shape("forward", x.shape, w.shape, geometry, groups, winograd, dtype)


def _input_grad_shape(ct, w, geometry, groups, winograd):
    out = (*_members(ct, w), ct.shape[1], *geometry.spatial, w.shape[-2] * groups)
    return out, _scratch_shape("input", out, w.shape, geometry, groups, winograd, _dtype(ct, w))


def _weight_grad_shape(x, ct, geometry, groups, winograd):
    out = (*_members(x, ct), *geometry.kernel, x.shape[-1] // groups, ct.shape[-1])
    return out, _scratch_shape("weight", x.shape, out, geometry, groups, winograd, _dtype(x, ct))


def _lower_linear(kind, reference):
    """Return the lowering of the forward convolution or the input gradient."""

    def lower(args, outs, geometry, groups, winograd):
        if _native(outs[0].dtype):
            kw = dict(geometry=geometry, groups=groups, winograd=winograd)
            return _lower_correlate(kind, *args, None, outs, **kw)
        return (lambda x, w, out: reference(x, w, out, geometry, groups)), (*args, outs[0])

    return lower


def _lower_weight_grad(args, outs, geometry, groups, winograd):
    (x, ct), (out, scratch) = args, outs
    if not _native(out.dtype):
        f = _reference_weight_grad
        return (lambda x, ct, out: f(x, ct, out, geometry, groups)), (x, ct, out)
    if is_product(geometry, groups):
        call = _lower_product("weight", geometry, x, out, ct)
        if call is not None:
            return call
    kernel, plan, _, size = _lowering(
        "weight", x.shape, out.shape, geometry, groups, winograd, out.dtype
    )
    if scratch.size < size:
        scratch = np.empty(size, out.dtype)
    return member_call(kernel, (x, ct, *plan, scratch), (out,))


_conv_p = Primitive("conv", n_out=2, shape=_conv_shape, lower=_lower_linear("forward", _reference))
_input_grad_p = Primitive(
    "conv_input_grad",
    n_out=2,
    shape=_input_grad_shape,
    lower=_lower_linear("input", _reference_input_grad),
)
_weight_grad_p = Primitive(
    "conv_weight_grad", n_out=2, shape=_weight_grad_shape, lower=_lower_weight_grad
)


def _conv(x, w, **kw):
    """Return the convolution alone: the second output of each primitive is scratch."""
    return _conv_p(x, w, **kw)[0]


def _input_grad(ct, w, **kw):
    """Return the adjoint of `_conv` in x."""
    return _input_grad_p(ct, w, **kw)[0]


def _weight_grad(x, ct, **kw):
    """Return the adjoint of `_conv` in w."""
    return _weight_grad_p(x, ct, **kw)[0]


#: Primitive of the trio -> its adjoints in its first and second argument, ``f(ct, a, b)``.
_ADJOINTS = {
    _conv_p: (
        lambda ct, x, w, **kw: _input_grad(ct, w, **kw),
        lambda ct, x, w, **kw: _weight_grad(x, ct, **kw),
    ),
    _input_grad_p: (
        lambda g, ct, w, **kw: _conv(g, w, **kw),
        lambda g, ct, w, **kw: _weight_grad(g, ct, **kw),
    ),
    _weight_grad_p: (
        lambda g, x, ct, **kw: _input_grad(ct, g, **kw),
        lambda g, x, ct, **kw: _conv(x, g, **kw),
    ),
}


def _bilinear(p, left, right):
    """Attach the rules of a primitive of the trio; what members share gets the sum of theirs."""

    def backward(cts, ans, a, b, **kw):
        return (
            lambda: match(sum_to(left(cts[0], a, b, **kw), shape(a)), a),
            lambda: match(sum_to(right(cts[0], a, b, **kw), shape(b)), b),
        )

    def forward(tangents, ans, a, b, **kw):
        ta, tb = tangents
        parts = [None if ta is None else p(ta, b, **kw)[0]]
        return total([*parts, None if tb is None else p(a, tb, **kw)[0]]), None

    p.rules(backward, forward)


for _p, _pair in _ADJOINTS.items():
    _bilinear(_p, *_pair)

# ---- with bias and activation -------------------------------------------------------------------


def rows(a):
    """Return an array (M, N, *spatial, K) as (M, rows, K)."""
    s = shape(a)
    return reshape(a, (s[0], math.prod(s[1:-1]), s[-1]))


def _masked(ct, y, activation):
    """Return the cotangent before bias and activation, and the bias's."""
    dz, db = _linear_pullback(rows(ct), rows(y), activation=activation)
    return reshape(dz, shape(y)), db


def _fuse(name, kind, plain):
    """Return the primitive that adds a bias to one of the trio, then applies an activation.

    Its rules are written in the trio, after one pass for the mask of ReLU and the bias's sums.
    """
    left, right = _ADJOINTS[plain]

    def out_shape(x, w, b, activation, **kw):
        return plain.shape(x, w, **kw)

    def lower(args, outs, activation, **kw):
        x, w, b = args
        if _native(outs[0].dtype):
            return _lower_correlate(kind, x, w, b, outs, relu=activation == "relu", **kw)
        f, arguments = plain.lower((x, w), outs, **kw)

        def call(b, out, *arguments):
            f(*arguments)
            out += b.reshape(len(b), *(1,) * (out.ndim - 2), -1)
            if activation == "relu":
                np.maximum(out, 0, out=out)

        return call, (b, outs[0], *arguments)

    def backward(cts, ans, x, w, b, activation, **kw):
        dz, db = _masked(cts[0], ans[0], activation)
        return (
            lambda: match(sum_to(left(dz, x, w, **kw), shape(x)), x),
            lambda: match(sum_to(right(dz, x, w, **kw), shape(w)), w),
            lambda: match(sum_to(db, shape(b)), b),
        )

    def forward(tangents, ans, x, w, b, activation, **kw):
        (tx, tw, tb), s = tangents, shape(ans[0])
        tz = total(
            [
                None if tx is None else plain(tx, w, **kw)[0],
                None if tw is None else plain(x, tw, **kw)[0],
                None if tb is None else reshape(tb, (shape(tb)[0], *(1,) * (len(s) - 2), s[-1])),
            ]
        )
        return _masked(broadcast_to(tz, s), ans[0], activation)[0], None

    return Primitive(name, n_out=2, shape=out_shape, lower=lower).rules(backward, forward)


_conv_bias = _fuse("conv_bias", "forward", _conv_p)
_input_grad_bias = _fuse("conv_input_grad_bias", "input", _input_grad_p)


def _apply(plain, fused, x, w, b, activation, **kw):
    if b is None:
        return plain(x, w, **kw)[0]
    return fused(x, w, b, activation=activation, **kw)[0]


def convolve(x, w, b, activation, **kw):
    """Return the convolution, with bias and activation where there is a bias."""
    return _apply(_conv_p, _conv_bias, x, w, b, activation, **kw)


def convolve_transposed(x, w, b, activation, **kw):
    """Return the input gradient of the convolution; its bias goes with the channels."""
    return _apply(_input_grad_p, _input_grad_bias, x, w, b, activation, **kw)
