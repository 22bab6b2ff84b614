"""Convolutions on a device."""

from skdeep.autodiff._cuda import bind
from skdeep.autodiff.ops._conv import _lower_product, is_product


def _product(kind, geometry, groups, *arrays):
    """Lower what is a product of matrices to the twin of the CPU's, where that has one."""
    from skdeep._kernels.cpu._numba import Variant

    call = _lower_product(kind, geometry, *arrays) if is_product(geometry, groups) else None
    return call if call is not None and isinstance(call[0], Variant) else None


def _forward(x, w, b, out, geometry, groups, relu):
    call = _product("forward", geometry, groups, x, w, out, b, relu)
    if call is not None:
        return call
    from skdeep._kernels.cuda.conv import CONVOLVE

    return CONVOLVE, (x, w, b, out, geometry, groups, relu)


def _input_grad(ct, w, b, out, geometry, groups, relu):
    call = _product("input", geometry, groups, out, w, ct, b, relu)
    if call is not None:
        return call
    from skdeep._kernels.cuda.conv import INPUT_GRAD

    return INPUT_GRAD, (ct, w, b, out, geometry, groups, relu)


@bind("conv", scratch=(1,))
def _conv(args, outs, geometry, groups, winograd):
    return _forward(*args, None, outs[0], geometry, groups, False)


@bind("conv_bias", scratch=(1,))
def _conv_bias(args, outs, activation, geometry, groups, winograd):
    return _forward(*args, outs[0], geometry, groups, activation == "relu")


@bind("conv_input_grad", scratch=(1,))
def _conv_input_grad(args, outs, geometry, groups, winograd):
    return _input_grad(*args, None, outs[0], geometry, groups, False)


@bind("conv_input_grad_bias", scratch=(1,))
def _conv_input_grad_bias(args, outs, activation, geometry, groups, winograd):
    return _input_grad(*args, outs[0], geometry, groups, activation == "relu")


@bind("conv_weight_grad", scratch=(1,))
def _conv_weight_grad(args, outs, geometry, groups, winograd):
    (x, ct), out = args, outs[0]
    call = _product("weight", geometry, groups, x, out, ct)
    if call is not None:
        return call
    from skdeep._kernels.cuda.conv import WEIGHT_GRAD

    return WEIGHT_GRAD, (x, ct, out, geometry, groups)
