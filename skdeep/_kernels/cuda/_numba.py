"""How CUDA kernels are declared and compiled; the only importer of numba.cuda.

A kernel is a function of pointers and 32-bit numbers, declared with `kernel`. It is compiled for
one compute capability by NVVM and linked to machine code by nvJitLink, both of which work
without a GPU, so that what a check disassembles is what a GPU runs. The machine code is kept on
disk. With ``NUMBA_ENABLE_CUDASIM=1`` in the environment the same functions run in Python (see
`_simulator`), and numba.cuda is not imported at all.

What is particular to numba-cuda stands here: the shims, the intrinsics' tools (`ir`,
`intrinsic`, `cgutils`, `pointer_to`) and the call conventions.
"""

import contextlib
import hashlib
import math
import os
import tempfile
import threading
import types as python_types
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numba.core import config

#: Whether kernels run in Python instead of on a GPU.
SIMULATED = bool(config.ENABLE_CUDASIM)

_MISSING = (
    "skdeep computes on a GPU through the package numba-cuda, which is not installed (or numba's "
    "own, deprecated CUDA target stands in its place): install skdeep with its extra 'cuda'"
)

if SIMULATED:
    from skdeep._kernels.cuda._simulator import Cuda

    cuda = Cuda()
    float32, int32, uint32, int64, uint64 = (
        np.float32, np.int32, np.uint32, np.int64, np.uint64
    )  # fmt: skip
    uint8, uint16 = np.uint8, np.uint16
    exp, log, sqrt, tanh = np.exp, np.log, np.sqrt, np.tanh
    expm1, log1p = np.expm1, np.log1p
else:
    if not hasattr(np, "row_stack"):  # numba-cuda 0.30 asks for a name that NumPy 2.5 has dropped
        setattr(np, "row_stack", np.vstack)  # noqa: B010
    try:
        from numba import cuda
        from numba.cuda import dispatcher as _dispatcher
    except ImportError as e:
        raise ImportError(_MISSING) from e
    if getattr(cuda, "implementation", None) != "NVIDIA":
        raise ImportError(_MISSING)
    from numba import float32, int32, int64, types, uint8, uint16, uint32, uint64

    exp, log, sqrt, tanh, expm1, log1p = (
        math.exp, math.log, math.sqrt, math.tanh, math.expm1, math.log1p
    )  # fmt: skip

#: Letter of a kernel's specification -> what it is.
_POINTERS = {
    "f": np.float32,
    "l": np.int64,
    "b": np.uint8,
    "w": np.int32,
    "h": np.uint16,
    "d": np.float64,  # as pairs of float32, the value being their sum
}
_SCALARS = {"u": np.uint32, "q": np.uint64, "s": np.float32}


#: The least compute capability that skdeep computes on (Ampere).
BASE = (8, 0)


# ---- device functions -------------------------------------------------------------------------


def device(function):
    """Declare a function that kernels call; it is always inlined."""
    if SIMULATED:
        return function
    return cuda.jit(device=True, forceinline=True)(function)


@cache
def shared(function):
    """Return the device function of a scalar body that the CPU's kernels use, too.

    A body is plain Python; the names that it calls are looked up again, so that elementary
    functions become CUDA's, and other bodies device functions.
    """
    from skdeep._kernels import scalar

    # The simulator's, NumPy's, overflow to infinity; Python's own would raise.
    elementary = {scalar.exp: exp, scalar.expm1: expm1, scalar.tanh: tanh,
                  scalar.log1p: log1p, scalar.erf: math.erf}  # fmt: skip
    if function in elementary:
        return elementary[function]
    names = dict(function.__globals__) | ({} if SIMULATED else {"np": _numpy()})
    for name in function.__code__.co_names:
        if isinstance(names.get(name), python_types.FunctionType):
            names[name] = shared(names[name])
    parts = function.__code__, names, function.__name__, None, function.__closure__
    return device(python_types.FunctionType(*parts))


@cache
def _numpy():
    """Return a module with what scalar bodies take from NumPy, as CUDA has it."""
    module = python_types.ModuleType("numpy_on_device")
    for name in "float32 int32 int64 uint32 uint64".split():
        setattr(module, name, getattr(np, name))
    module.sqrt = math.sqrt  # type: ignore[attr-defined]
    return module


def generated(source, name, names):
    """Return a function made from source text, with a file name for tracebacks.

    Parameters
    ----------
    source : str
        Python source that defines the function.
    name : str
        The function's name.
    names : dict
        The globals that the source uses; the new function's globals.
    """
    import linecache

    file = f"<skdeep kernel {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    names = dict(names)
    exec(compile(source, file, "exec"), names)
    function = names[name]
    function.source = source
    return function


# ---- kernels ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """A kernel call: grid of blocks, and arguments that are device arrays and numbers."""

    kernel: "Kernel"
    grid: tuple
    args: tuple


class Kernel:
    """A CUDA kernel; calling it says a launch, and launches nothing.

    Parameters
    ----------
    function : callable
        The body.
    spec : str
        One letter per argument: pointers to float32 ``f``, int64 ``l``, uint8 ``b``, int32
        ``w``, uint16 ``h``, float64 ``d`` (which a kernel sees as float32 pairs whose sum is the
        number: element i is ``x[2 * i] + x[2 * i + 1]``), and numbers uint32 ``u``, uint64
        ``q``, float32 ``s``.
    threads : int
        The threads of a block.
    blocks : int, optional
        The blocks per multiprocessor that registers must leave room for.
    base : tuple of int
        The least compute capability that it runs on.
    """

    def __init__(self, function, spec, threads, blocks=None, name=None, base=BASE):
        self.function, self.spec, self.base = function, spec.split(), base
        self.threads, self.blocks = threads, blocks
        self.__name__, self.__doc__ = name or function.__name__, function.__doc__
        self._loaded = {}

    def __repr__(self):
        return f"<CUDA kernel {self.__name__}>"

    def __call__(self, grid, *args):
        grid = (grid,) if isinstance(grid, int | np.integer) else tuple(grid)
        if len(args) != len(self.spec):
            raise TypeError(f"{self.__name__} takes {len(self.spec)} arguments, not {len(args)}")
        grid = tuple(map(int, grid)) + (1,) * (3 - len(grid))
        if not all(0 < n <= limit for n, limit in zip(grid, _GRID, strict=True)):
            raise ValueError(f"{self.__name__}: a grid of {grid} blocks cannot be launched")
        return Launch(self, grid, args)

    # ---- compilation ---------------------------------------------------------------------------

    @property
    def signature(self):
        """The types of the arguments."""
        names = {"f": float32, "d": float32, "l": int64, "b": uint8, "w": int32, "h": uint16}
        numbers = {"u": uint32, "q": uint64, "s": float32}
        return tuple(
            types.CPointer(names[word]) if word in names else numbers[word] for word in self.spec
        )

    @cached_property
    def ptx(self):
        """The PTX: one for every GPU from the base capability on."""
        bounds = (self.threads,) if self.blocks is None else (self.threads, self.blocks)
        with _compiling_for(self.base):
            return cuda.compile_ptx(
                self.function, self.signature, cc=self.base, device=False, launch_bounds=bounds
            )[0]

    @property
    def parts(self):
        """What makes the kernel again."""
        spec = " ".join(self.spec)
        return self.function, spec, self.threads, self.blocks, self.__name__, self.base

    def path(self, capability):
        """Return where the machine code for a compute capability is kept."""
        return _folder() / f"{self.__name__}-{_digest(self)}-sm{capability[0]}{capability[1]}"

    def cubin(self, capability, keep=True):
        """Return the machine code for a compute capability, from the disk where it is there."""
        path = self.path(capability)
        if not keep:
            return self._compiled(capability)
        with contextlib.suppress(OSError):
            return path.read_bytes()
        return self.write(capability, path)

    def write(self, capability, path):
        """Compile, write the machine code to a file and return it."""
        code = self._compiled(capability)
        with contextlib.suppress(OSError):  # a disk that cannot be written to
            _replace(path, code)
        return code

    def _compiled(self, capability):
        from cuda.core import Linker, LinkerOptions, ObjectCode

        options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}")
        ptx = ObjectCode.from_ptx(self.ptx.encode())
        return bytes(Linker(ptx, options=options).link("cubin").code)


def entry(code):
    """Return the name of the function in a kernel's machine code."""
    # Mangled names begin with _Z; the others are slow paths of a division or a root.
    at = code.index(b".text._Z") + len(b".text.")
    return code[at : code.index(b"\0", at)]


#: The most blocks of a grid, by axis.
_GRID = (2**31 - 1, 65535, 65535)


def kernel(spec, threads=256, blocks=None, name=None, base=BASE):
    """Declare a kernel: a decorator with the parameters of `Kernel`."""
    return lambda function: Kernel(function, spec, threads, blocks, name, base)


_COMPILING = threading.RLock()


@contextlib.contextmanager
def _compiling_for(capability):
    """Keep numba from asking a GPU what to compile device functions for."""
    answer = python_types.SimpleNamespace(compute_capability=capability)
    with _COMPILING:
        asked = _dispatcher.get_current_device
        _dispatcher.get_current_device = lambda: answer
        try:
            yield
        finally:
            _dispatcher.get_current_device = asked


@cache
def _folder():
    """Return the folder of compiled kernels."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named) / "skdeep_cuda"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "skdeep_cuda"


@cache
def _sources():
    """Return a digest of everything that kernels are made from, and of what compiles them."""
    from importlib.metadata import PackageNotFoundError, version

    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    for package in ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(version(package).encode())
    return digest


def _digest(kernel):
    digest = _sources().copy()
    own = getattr(kernel.function, "source", ""), kernel.spec, kernel.threads, kernel.blocks
    digest.update(repr((kernel.function.__module__, kernel.__name__, *own)).encode())
    return digest.hexdigest()[:24]


def _replace(path, code):
    """Write a file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(code)
    os.replace(file.name, path)


# ---- tools of intrinsics ----------------------------------------------------------------------

if not SIMULATED:
    from llvmlite import ir
    from numba.cuda import cgutils  # noqa: F401  for intrinsics
    from numba.cuda.extending import intrinsic  # noqa: F401  for intrinsics

    def pointer_to(context, builder, kind, value, offset_kind, offset):
        """Return the LLVM pointer to an element of a pointer argument or a shared array."""
        if isinstance(kind, types.CPointer):
            base = value
        else:
            base = context.make_array(kind)(context, builder, value=value).data
        if offset_kind.bitwidth < 64:
            extend = builder.sext if offset_kind.signed else builder.zext
            offset = extend(offset, ir.IntType(64))
        return builder.gep(base, [offset])
