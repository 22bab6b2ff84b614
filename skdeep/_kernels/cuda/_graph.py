"""Kernels loaded onto a device, and lists of launches made again and again as a CUDA graph."""

import ctypes
import operator
import threading
import warnings

from cuda.bindings import driver

from skdeep._kernels.cuda._arguments import check_array, check_number, is_number
from skdeep._kernels.cuda._library import DriverError, Mark, call, spelled
from skdeep._kernels.cuda._numba import entry

#: From so many kernels on a graph is made: fewer are launched as fast one by one.
_FEW = 3

#: Steps between two marks, of which at most two are under way: what an interrupt waits for.
_STRIDE = 16

#: Bytes of dynamic shared memory that a kernel may use without asking.
_SHARED = 48 << 10


def load(gpu, kernel):
    """Return a kernel's function on a device, and what it was loaded from."""
    found = kernel._loaded.get(gpu.index)
    if found is None:
        if kernel.base > gpu.capability:
            raise DriverError(
                f"the kernel {kernel.__name__} needs compute capability "
                f"{spelled(kernel.base)}, but {gpu!r} has {spelled(gpu.capability)}"
            )
        with gpu.context:
            code = kernel.cubin(gpu.capability)
            module = call("cuModuleLoadData", code)
            function = call("cuModuleGetFunction", module, entry(code))
            dynamic = getattr(kernel, "dynamic_shared", 0)
            if dynamic > _SHARED:
                kind = driver.CUfunction_attribute
                most = kind.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                call("cuFuncSetAttribute", function, most, dynamic)
        found = kernel._loaded[gpu.index] = function, module
    return found[0]


class Packed:
    """A launch as the driver takes it.

    Parameters
    ----------
    gpu : Gpu
        The device.
    launch : Launch
        The launch; its arrays live in the device's memory.
    """

    def __init__(self, gpu, launch):
        kernel = self.kernel = launch.kernel
        n = len(launch.args)
        self._values = (ctypes.c_uint64 * n)()
        at = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * n)(*(at + 8 * i for i in range(n)))
        for i, (word, value) in enumerate(zip(kernel.spec, launch.args, strict=True)):
            if is_number(word):
                number = check_number(kernel, word, value)
                ctypes.memmove(at + 8 * i, number.tobytes(), number.itemsize)
            else:
                array = check_array(kernel, word, value)
                if array.device is not gpu:
                    raise ValueError(
                        f"{kernel.__name__}: an array on {array.device!r} for {gpu!r}"
                    )
                self._values[i] = array.address
        self.function = load(gpu, kernel)
        self.grid = launch.grid
        self.block = kernel.threads, 1, 1
        self.shared = getattr(kernel, "dynamic_shared", 0)

    @property
    def parameters(self):
        """The address of the addresses of the arguments."""
        return ctypes.addressof(self._pointers)

    def launch(self, stream):
        """Launch the kernel."""
        shape = (*self.grid, *self.block)
        try:
            call("cuLaunchKernel", self.function, *shape, self.shared, stream, self.parameters, 0)
        except DriverError as e:
            raise self._explained(e) from e

    def add_to(self, graph, after):
        """Add the launch to a graph, behind another node if there is one; return its node."""
        node = driver.CUDA_KERNEL_NODE_PARAMS()
        node.func, node.kernelParams = self.function, self.parameters
        node.gridDimX, node.gridDimY, node.gridDimZ = self.grid
        node.blockDimX, node.blockDimY, node.blockDimZ = self.block
        node.sharedMemBytes = self.shared
        try:
            return call("cuGraphAddKernelNode", graph, after, len(after), node)
        except DriverError as e:
            raise self._explained(e) from e

    def _explained(self, error):
        return DriverError(
            f"{error}, launching {self.kernel.__name__} on {self.grid} blocks of "
            f"{self.block[0]} threads",
            error.code,
        )


class Run:
    """``run(steps=1)`` makes launches, one behind the other, so many times; it waits for none.

    The launches become a CUDA graph, built node by node, so that no other call of the process
    can disturb it, and sent to the device at once; a few are launched one by one.

    Parameters
    ----------
    gpu : Gpu
        The device.
    launches : list of Launch
        The launches.
    """

    def __init__(self, gpu, launches):
        self._gpu, self._launches = gpu, list(launches)  # and with them the arrays
        self._lock = threading.Lock()  # a graph is sent by one thread at a time
        self._packed = [Packed(gpu, launch) for launch in self._launches]
        self._graph = None
        if len(self._packed) >= _FEW and gpu.graphs:
            try:
                self._graph = self._made_graph()
            except DriverError as e:
                gpu.graphs = False
                warnings.warn(
                    f"{gpu!r} runs programs kernel by kernel instead of as CUDA graphs, which "
                    f"is slower for small networks: {e}",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _made_graph(self):
        with self._gpu.context:
            graph = call("cuGraphCreate", 0)
            try:
                last = []
                for packed in self._packed:
                    last = [packed.add_to(graph, last)]
                ready = call("cuGraphInstantiate", graph, 0)
            finally:
                call("cuGraphDestroy", graph)
        self._gpu.context.when_gone(self, call, "cuGraphExecDestroy", ready)
        return ready

    def __call__(self, steps=1):
        steps = operator.index(steps)
        before = None
        with self._lock, self._gpu.context:
            for step in range(1, steps + 1):
                self._send()
                if step % _STRIDE == 0 and step < steps:
                    mark = Mark(self._gpu.context, self._gpu.work)
                    if before is not None:
                        before.wait()
                    before = mark

    def _send(self):
        if self._graph is not None:
            call("cuGraphLaunch", self._graph, self._gpu.work)
        else:
            for packed in self._packed:
                packed.launch(self._gpu.work)
