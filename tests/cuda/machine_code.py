"""What a kernel compiles to, read from its machine code: no GPU is needed.

``python -m tests.cuda.machine_code MODULE [NAME ...]`` prints the kernels of a module of
`skdeep._kernels.cuda`.
"""

import collections
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


def tool(name):
    """Return the path of a disassembler: of CUDA's wheels, or on the path; None without."""
    import numba

    site = Path(numba.__file__).parents[1]
    here = next(iter(sorted(site.glob(f"nvidia/*/bin/{name}"))), None)
    return str(here) if here else shutil.which(name)


@dataclass
class Code:
    """What was counted in a kernel's machine code.

    Parameters
    ----------
    registers, stack, shared : int
        Registers of a thread, bytes of its stack (spills and local arrays), bytes of shared
        memory of a block.
    opcodes : Counter
        Instructions by opcode.
    loops : list of Counter
        The instructions of every loop, the largest first.
    """

    registers: int
    stack: int
    shared: int
    opcodes: collections.Counter
    loops: list

    @property
    def spills(self):
        """Accesses of local memory."""
        return sum(n for op, n in self.opcodes.items() if op.startswith(("LDL", "STL")))

    @property
    def doubles(self):
        """Instructions on float64."""
        wide = re.compile(r"D(ADD|MUL|FMA|SETP|MMA|MNMX)|.*F64")
        return sum(n for op, n in self.opcodes.items() if wide.match(op))

    def main_loop(self, opcode="FFMA"):
        """Return the largest loop's share of an opcode, and its length."""
        best = max(self.loops, key=lambda c: _count(c, opcode), default=collections.Counter())
        n = sum(best.values())
        return (_count(best, opcode) / n if n else 0.0), n


def _count(counter, opcode):
    return sum(n for op, n in counter.items() if op.split(".")[0] == opcode)


_LINE = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)\s*(.*?);")


def inspect(kernel, capability=(9, 0)):
    """Return the `Code` of a kernel for a compute capability."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.cubin(capability))
        file.flush()
        found = _usage(file.name)
        text = _run("cuobjdump", "-sass", file.name)
    lines = [(int(m[1], 16), m[2], m[3]) for m in map(_LINE.match, text.splitlines()) if m]
    loops = []
    for at, op, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if op.startswith("BRA") else None
        if target and int(target[1], 16) < at:
            start = int(target[1], 16)
            loops.append(collections.Counter(o for a, o, _ in lines if start <= a <= at))
    loops.sort(key=lambda c: -sum(c.values()))
    return Code(*found, collections.Counter(o for _, o, _ in lines), loops)


def usage(kernel, capability=(9, 0)):
    """Return a kernel's registers, bytes of stack and of shared memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.cubin(capability))
        file.flush()
        return _usage(file.name)


def _usage(file):
    # A slow path of a division or a root counts as a function of no registers.
    text = _run("cuobjdump", "-res-usage", file)
    functions = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", text)
    return tuple(map(int, max(functions, key=lambda f: int(f[0]))))


def _run(name, *args):
    return subprocess.run([tool(name), *args], capture_output=True, text=True, check=True).stdout


def blocks_per_multiprocessor(code, threads):
    """Return how many blocks run at once on a multiprocessor of compute capability 9.0."""
    warps = -(-threads // 32)
    by_registers = 65536 // (-(-code.registers * 32 // 256) * 256 * warps)
    by_shared = 233472 // (code.shared + 1024)
    return min(by_registers, by_shared, 64 // warps, 32)


def kernels(module):
    """Return the kernels of a module by name: those of its catalogue, else all it declares."""
    from importlib import import_module

    from skdeep._kernels.cuda._numba import Kernel

    module = import_module(f"skdeep._kernels.cuda.{module}")
    catalogue = getattr(module, "catalogue", None)
    found = catalogue() if catalogue else [k for k in vars(module).values() if type(k) is Kernel]
    return {k.__name__: k for k in found}


def main(module, *names):
    for name, kernel in kernels(module).items():
        if names and name not in names:
            continue
        code = inspect(kernel)
        share, length = code.main_loop()
        print(
            f"{name:32} registers {code.registers:3} stack {code.stack:3} shared "
            f"{code.shared:6} spills {code.spills:3} float64 {code.doubles} blocks "
            f"{blocks_per_multiprocessor(code, kernel.threads):2} "
            f"loop {length:5} FFMA {share:.1%}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
