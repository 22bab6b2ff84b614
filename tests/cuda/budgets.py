"""What the kernels may take: registers, stack, shared memory, the main loop's multiply-adds.

``python -m tests.cuda.budgets --check`` compiles every kernel for compute capability 8.0 and 9.0
and holds it to the committed table; ``--write`` renews the table. Neither needs a GPU.
"""

import argparse
import json
import sys
from pathlib import Path

from tests.cuda.machine_code import inspect, kernels

TABLE = Path(__file__).with_name("budgets.json")
CAPABILITIES = ((8, 0), (9, 0))
FOLDER = Path(__file__).parents[2] / "skdeep" / "_kernels" / "cuda"
#: What a main loop's share of multiply-adds may not fall below, by the beginning of the name.
SHARES = {"gemm": 0.85, "conv": 0.78}


def catalogue():
    """Return every kernel by ``module.name``."""
    return {
        f"{path.stem}.{name}": kernel
        for path in sorted(FOLDER.glob("[!_]*.py"))
        for name, kernel in kernels(path.stem).items()
    }


def measure(kernel, capability):
    """Return what a kernel takes, and refuse what none may have."""
    code = inspect(kernel, capability)
    share, length = code.main_loop()
    return {
        "registers": code.registers,
        "stack": code.stack,
        "shared": code.shared,
        "spills": code.spills,
        "float64": code.doubles,
        "multiply_adds": round(share, 3) if length > 300 else 0.0,
    }


def faults(name, found, allowed):
    """Return what is wrong with a kernel, as sentences."""
    wrong = []
    for what in ("stack", "spills", "float64"):
        if found[what]:
            wrong.append(f"{name}: {what} {found[what]}, but none is allowed")
    for what, slack in (("registers", 8), ("shared", 0)):
        if found[what] > allowed[what] + slack:
            wrong.append(f"{name}: {what} {found[what]}, at most {allowed[what]} (+{slack})")
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
    parser.add_argument("--part", default="0/1", help="which of how many parts of the table")
    options = parser.parse_args(arguments)
    part, parts = map(int, options.part.split("/"))
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    known, wrong = catalogue(), []
    for i, (name, kernel) in enumerate(known.items()):
        if i % parts != part:
            continue
        found = {f"sm_{a}{b}": measure(kernel, (a, b)) for a, b in CAPABILITIES}
        if options.write:
            table[name] = found
            continue
        if name not in table:
            wrong.append(f"{name} has no budget: run python -m tests.cuda.budgets --write")
            continue
        for arch, values in found.items():
            wrong += faults(f"{name} on {arch}", values, table[name][arch])
    if options.write:
        table = {name: table[name] for name in sorted(known)}
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print("\n".join(wrong) or f"{len(known)} kernels within their budgets")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
