"""How kernels are declared, compiled and replayed natively.

A kernel is declared once for every floating dtype and compiled (or loaded from numba's cache) for
a dtype at its first use. `replay` runs a table of kernel calls without Python and without the
GIL, through numba's own calling convention: what is private to numba stands in this file alone,
and a plain Python loop over the same calls, equal bit for bit, is its fallback.
"""

from functools import cached_property
from types import FunctionType

import numba as nb
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, register_jitable


def _can_cache():
    """Whether numba finds a folder for its cache (not in a read-only image without a home)."""
    try:
        njit(cache=True)(_can_cache)
    except RuntimeError:
        return False
    return True


#: Flags of every kernel: no zero-division check (it stops vectorisation), no reassociation (so
#: that results do not depend on the compiler's mood), NaN and infinity respected.
JIT = dict(
    cache=_can_cache(), error_model="numpy", fastmath={"contract", "nsz", "arcp"}, nogil=True
)

_SCALARS = {
    "l": types.int64,
    "b": types.uint8,
    "g": types.float64,
    "w": types.int32,
    "h": types.uint16,
}
FLOATS = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}


class Variant:
    """A kernel for one floating dtype; callable, and known by its machine address."""

    def __init__(self, function, signature, kernel_name=None, dtype=None):
        self.function, self.signature = function, signature
        self.__name__ = function.__name__
        self.kernel_name, self.dtype = kernel_name or function.__name__, dtype

    def __repr__(self):
        return f"<kernel {self.__name__}>"

    @cached_property
    def compiled(self):
        """The compiled function (from numba's cache where it is there)."""
        return njit(types.void(*self.signature), no_cfunc_wrapper=True, **JIT)(self.function)

    @cached_property
    def address(self):
        """The address of the machine code, for `replay`."""
        result = self.compiled.overloads[tuple(self.signature)]
        return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)

    def __call__(self, *args):
        self.compiled(*args)

    def pointers(self):
        """Return where the address of each array argument stands among the words."""
        at, places = 0, []
        for ty in self.signature:
            if ty is types.int64:
                at += 1
            else:
                places.append(at + 4)
                at += 5 + 2 * ty.ndim
        return places

    def pack(self, args):
        """Return the words that numba's calling convention expects for these arguments."""
        words = []
        for a, ty in zip(args, self.signature, strict=True):
            if ty is types.int64:
                words.append(int(a))
            else:
                if nb.from_dtype(a.dtype) != ty.dtype or a.ndim != ty.ndim:
                    raise TypeError(f"{self.__name__}: {a.dtype} {a.ndim}-d for {ty}")
                if a.size and a.ndim and a.shape[-1] > 1 and a.strides[-1] != a.itemsize:
                    # The kernels' contract, which nothing else checks in a native replay.
                    raise TypeError(f"{self.__name__}: the rows of an argument are not contiguous")
                words += [0, 0, a.size, a.itemsize, a.ctypes.data, *a.shape, *a.strides]
        if len(words) > WORDS:
            raise TypeError(f"{self.__name__} takes {len(words)} words; {WORDS} is the most")
        return words + [0] * (WORDS - len(words))


def renamed(function, name):
    """Return a function under another name, and with it an index of its own in numba's cache.

    The index has no lock: two processes that save two signatures of one function at the same
    moment can leave an entry that names the other's machine code. So no function that is cached
    has more than one signature, and what kernels call is not cached apart from them.
    """
    copy = FunctionType(function.__code__, function.__globals__, name, None, function.__closure__)
    copy.__qualname__, copy.__doc__ = name, function.__doc__
    copy.__module__ = function.__module__
    return copy


class Kernel:
    """A kernel for every floating dtype: ``kernel[dtype]`` is its `Variant`."""

    def __init__(self, function, spec):
        self.function, self.spec, self.variants = function, spec.split(), {}
        self.__name__, self.__doc__ = function.__name__, function.__doc__

    def __getitem__(self, dtype):
        dtype = np.dtype(dtype)
        if dtype not in self.variants:
            self.variants[dtype] = Variant(
                renamed(self.function, f"{self.__name__}_{dtype.name}"),
                [_parse(s, FLOATS[dtype]) for s in self.spec],
                self.__name__,
                dtype,
            )
        return self.variants[dtype]


def _parse(word, floating):
    if word == "i":
        return types.int64
    return types.Array(_SCALARS.get(word[0], floating), int(word[1]), "A")


def kernel(spec):
    """Declare a kernel.

    Parameters
    ----------
    spec : str
        The arguments' types: ``f3`` a three-dimensional array of the kernel's floating dtype,
        ``g1`` float64, ``l2`` int64, ``w1`` int32, ``h1`` uint16, ``b2`` uint8, ``i`` an int64
        scalar. Arrays may have any strides, but the last axis is contiguous by contract.

    Notes
    -----
    The last axis is promised with `as_c` inside the kernel, where loops are to vectorise. In
    the body, ``T = out.dtype.type`` makes constants of the kernel's dtype. An in-place kernel
    must use one name for the array (two names defeat the overlap check of the vectoriser);
    slice before looping (bounds read from an array stop vectorisation); write loops rather than
    two-dimensional slice assignments (they compile slowly).
    """
    return lambda function: Kernel(function, spec)


#: How helpers compile: no wrappers for callers in Python, who get the plain function.
HELPER = {key: JIT[key] for key in ("error_model", "fastmath", "nogil")} | dict(
    no_cpython_wrapper=True, no_cfunc_wrapper=True
)
#: Decorators of functions that kernels call; `njit_inline` always inlines them.
helper = register_jitable(**HELPER)
njit_inline = register_jitable(forceinline=True, **HELPER)


@intrinsic
def as_c(tyctx, a):
    """Return the same array, promised to be C-contiguous, so that loops over it vectorise."""
    ret = a.copy(layout="C")
    return ret(a), lambda ctx, builder, sig, args: impl_ret_borrowed(ctx, builder, ret, args[0])


# ---- native replay ----------------------------------------------------------------------------

#: The most words that one call may take.
WORDS = 96


@intrinsic
def _call(tyctx, address, words):
    def codegen(ctx, builder, sig, args):
        i64, ptr = ir.IntType(64), ir.IntType(8).as_pointer()
        fnty = ir.FunctionType(ir.IntType(32), [ptr, ptr] + [i64] * WORDS)
        base = builder.inttoptr(args[1], i64.as_pointer())
        scratch = [
            builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(i64, 4)), ptr)
            for _ in range(2)
        ]
        vals = [builder.load(cgutils.gep_inbounds(builder, base, i)) for i in range(WORDS)]
        status = builder.call(builder.inttoptr(args[0], fnty.as_pointer()), scratch + vals)
        return builder.sext(status, i64)

    return types.int64(types.int64, types.int64), codegen


@njit("int64(int64[::1], int64[:,::1], int64)", **JIT)
def replay(addresses, words, steps):
    """Run a table of kernel calls `steps` times; 0, or one plus the index of a failed call."""
    for _ in range(steps):
        for i in range(addresses.size):
            if _call(addresses[i], words[i].ctypes.data) != 0:
                return i + 1
    return 0
