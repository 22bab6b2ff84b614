"""What the kernels may take: registers, stack, shared memory, the main loop's multiply-adds.

``python -m tests.cuda.budgets --check`` compiles every kernel for compute capability 8.0 and 9.0
and holds it to the committed table; ``--write`` renews the table. Neither needs a GPU.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from tests.cuda.machine_code import inspect, kernels, usage

TABLE = Path(__file__).with_name("budgets.json")
CAPABILITIES = ((8, 0), (9, 0))
#: Modules whose kernels take minutes to compile: held to the table where that is asked for.
SLOW = ("conv_tensor.",)
FOLDER = Path(__file__).parents[2] / "skdeep" / "_kernels" / "cuda"
#: What the main loop's share of multiply-adds may not fall below, for the tiles that large
#: products and convolutions take.
SHARES = {"gemm_": (0.85, "128x128x16"), "conv_": (0.78, "128x128x16")}


def catalogue():
    """Return every kernel by ``module.name``."""
    return {
        f"{path.stem}.{name}": kernel
        for path in sorted(FOLDER.glob("[!_]*.py"))
        for name, kernel in kernels(path.stem).items()
    }


_catalogue = cache(catalogue)


def measure(kernel, capability):
    """Return what a kernel takes; of the main loops of products on the newer GPU their share.

    Spills and local arrays are the stack; disassembling, which takes as long as compiling, is
    for the loops alone.
    """
    registers, stack, shared = usage(kernel, capability)
    found = {
        "registers": registers,
        "stack": stack,
        "shared": shared,
        "float64": kernel.ptx.count(".f64"),
    }
    if hasattr(kernel, "shape") and capability == CAPABILITIES[-1]:
        code = inspect(kernel, capability)
        shares = {op: round(code.main_loop(op)[0], 3) for op in ("FFMA", "HMMA")}
        found["multiply_adds"] = max(shares.values())
    return found


def faults(name, found, allowed):
    """Return what is wrong with a kernel, as sentences."""
    wrong = []
    if found["float64"] or (found["stack"] and name.endswith("sm_90")):
        wrong.append(f"{name}: no stack and no float64 are allowed, but there are {found}")
    for what, slack in (("registers", 8), ("shared", 0), ("stack", 0)):
        if found[what] > allowed[what] + slack:
            wrong.append(f"{name}: {what} {found[what]}, at most {allowed[what]} (+{slack})")
    if "multiply_adds" not in found:
        return wrong
    kind = name.partition(".")[2].partition(" ")[0]
    for start, (share, tiles) in SHARES.items():
        if kind.startswith(start) and kind.endswith(tiles) and found["multiply_adds"] < share:
            wrong.append(f"{name}: only {found['multiply_adds']:.1%} multiply-adds, {share:.0%}")
    if found["multiply_adds"] < allowed["multiply_adds"] - 0.01:
        wrong.append(
            f"{name}: {found['multiply_adds']:.1%} of the main loop are multiply-adds, at least "
            f"{allowed['multiply_adds']:.1%}"
        )
    return wrong


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--all", action="store_true", help="those that take longest, too")
    parser.add_argument("--jobs", type=int, default=2, help="processes that compile")
    options = parser.parse_args(arguments)
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    names, wrong = sorted(catalogue()), []
    if not (options.all or options.write):
        names = [n for n in names if not n.startswith(SLOW)]
    with ProcessPoolExecutor(options.jobs) as pool:
        measured = dict(zip(names, pool.map(_measured, names), strict=True))
    if options.write:
        TABLE.write_text(_as_text(measured))
        table = measured
    for name, found in measured.items():
        if name not in table:
            wrong.append(f"{name} has no budget: run python -m tests.cuda.budgets --write")
            continue
        for arch, values in found.items():
            wrong += faults(f"{name} on {arch}", values, table[name][arch])
    gone = table.keys() - set(catalogue())
    wrong += [f"{name} has a budget, but is no kernel" for name in sorted(gone)]
    print("\n".join(wrong) or f"{len(names)} kernels within their budgets")
    return bool(wrong)


def _measured(name):
    """Return what a kernel takes on every architecture."""
    kernel = _catalogue()[name]
    return {f"sm_{a}{b}": measure(kernel, (a, b)) for a, b in CAPABILITIES}


def _as_text(table):
    """Return the table as JSON, a kernel a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(found)}" for name, found in table.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
