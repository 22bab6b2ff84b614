"""Measure skdeep on a GPU against cuBLAS, cuDNN, torch and the device's own bandwidth.

Contenders take turns, and the medians of the rounds are reported. Every section is a process of
its own with a share of the time: what does not fit any more says so in the table, and what fails
takes nothing else with it. torch is the peer where it is installed.

    python asv_bench/compare_cuda.py
    python asv_bench/compare_cuda.py --only convolutions --seconds 200
    python asv_bench/compare_cuda.py --write docs/benchmarks.md
    NUMBA_ENABLE_CUDASIM=1 python asv_bench/compare_cuda.py --rehearse

A rehearsal runs every section at tiny sizes on the simulated device, in one process, and measures
nothing.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Sets the number of threads, hence before NumPy.
from benchmarks import common  # isort: skip

from compare_networks import cpu_name, write_between
from gpu.report import table
from gpu.sections import SECTIONS, all_sections, measured

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- cuda: begin -->", "<!-- cuda: end -->"


def text_of(found, facts, options):
    """Return what is written: the facts, and a table for each section."""
    lines = [facts, ""]
    if options.rehearse:
        lines += ["A rehearsal on a simulated device: these are no measurements.", ""]
    for name, rows in found.items():
        lines += [*table(SECTIONS[name].title, SECTIONS[name].peer, rows), ""]
    return "\n".join(lines).strip()


def facts():
    """Return a line on the device, the driver and the versions of everything."""
    from skdeep._kernels.cuda.devices import open_device

    gpu = open_device(0)
    memory = gpu.memory()[1] / 2**30
    packages = "scikit-learn numpy numba numba-cuda torch nvidia-cublas nvidia-cudnn-cu13".split()
    known = ", ".join(f"{p} {v}" for p in packages if (v := _version(p)))
    return (
        f"{gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, "
        f"{gpu.multiprocessors} multiprocessors, {memory:.0f} GiB, driver {_driver()}; "
        f"{cpu_name()}, {platform.system()} {platform.machine()}. skdeep {_commit()}, "
        f"Python {platform.python_version()}, {known}."
    )


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _printed(*command):
    """Return what a command prints, on one line; "unknown" where there is no such command."""
    if shutil.which(command[0]) is None:
        return "unknown"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()) if done.returncode == 0 else "unknown"


def _driver():
    return _printed("nvidia-smi", "--id=0", "--query-gpu=driver_version", "--format=csv,noheader")


def _commit():
    import skdeep

    commit = _printed("git", "describe", "--always", "--dirty", "--abbrev=10")
    return f"{skdeep.__version__} (commit {commit})"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=500, help="for all sections together (default: 500)"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the simulated device")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into FILE")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.set_defaults(script=__file__)
    return parser.parse_args()


def unusable(options):
    """Return why nothing can be measured here; "" if it can."""
    from skdeep._kernels.cuda import devices

    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
    if options.rehearse and not simulated:
        return "a rehearsal needs NUMBA_ENABLE_CUDASIM=1 in the environment"
    if simulated and not options.rehearse:
        return "with NUMBA_ENABLE_CUDASIM=1 there is only --rehearse"
    return devices.explain()


def main():
    options = arguments()
    why = unusable(options)
    if why:
        print(f"nothing can be measured: {why}", file=sys.stderr)
        return 1
    common.one_thread()
    if options.section:
        return int(not measured(options.section, options.seconds, options)[1])
    line = facts()
    print(line, flush=True)
    names = [name for name in SECTIONS if name in options.only]
    found, fine = all_sections(names, options)
    text = text_of(found, line, options)
    print(f"\n{text}")
    if options.write:
        write_between(options.write, text, BEGIN, END)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
