"""The house in order: light imports, honest pages, commands that exist."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import skdeep

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {"_build", "auto_examples", "generated"}


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", skdeep.__version__)


def test_installed_version():
    try:
        installed = version("scikit-deep")
    except PackageNotFoundError:
        pytest.skip("the package is run from the checkout, not installed")
    assert installed == skdeep.__version__


@pytest.mark.parametrize("module", ["numba", "matplotlib", "torch", "cupy", "pandas", "dask"])
def test_import_is_light(module):
    assert run_python(f"import sys, skdeep; print({module!r} in sys.modules)") == "False"


def test_submodules_load_at_first_use():
    code = "import sys, skdeep; print([m for m in sys.modules if m.startswith('skdeep.')])"
    loaded = run_python(code)
    assert "neural_network" not in loaded
    assert "autodiff" not in loaded
    assert run_python("import skdeep; print(skdeep.autodiff.__name__)") == "skdeep.autodiff"


def test_import_time():
    def seconds(module):
        code = f"from time import perf_counter as c; t = c(); import {module}; print(c() - t)"
        return float(run_python(code))

    # The best of several turns, and more turns where the machine is busy.
    ours, sklearn = float("inf"), float("inf")
    for turn in range(12):
        sklearn = min(sklearn, seconds("sklearn"))
        ours = min(ours, seconds("skdeep"))
        if turn >= 2 and ours <= 1.15 * sklearn + 0.02:
            return
    pytest.fail(f"import skdeep takes {ours:.3f} s, import sklearn {sklearn:.3f} s")


def pages():
    suffixes = {".md", ".rst", ".py", ".toml", ""}
    for pattern in ("*.md", "*.toml", "Makefile", "docs/**/*", "examples/**/*", "skdeep/**/*.py"):
        for path in ROOT.glob(pattern):
            generated = GENERATED.intersection(path.relative_to(ROOT).parts)
            if path.is_file() and path.suffix in suffixes and not generated:
                yield path


def test_pages_are_found():
    names = {path.name for path in pages()}
    assert {"README.md", "CONTRIBUTING.md", "install.rst", "architecture.md"} <= names


def test_nobody_is_sent_to_somebody_elses_package():
    # A distribution of that name on the public index is not this project.
    command = re.compile(
        r"(pip3?|uv|pipx|conda|mamba|poetry)\s+(install|add)\s[^\n#`;&|]*?['\"\s]skdeep\b"
    )
    guilty = [
        str(path.relative_to(ROOT)) for path in pages() if command.search(path.read_text("utf-8"))
    ]
    assert not guilty


def test_readme_begins_with_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("```sh\nmake demo\nmake test\n```\n")


@pytest.mark.parametrize(
    "target", ["demo", "test", "slow", "lint", "docs", "bench", "clean", "help", "format"]
)
def test_makefile_target(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE).group(1).split()
    assert target in phony


def test_make_commands_named_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.rst")):
        named = re.findall(r"^ *make ([a-z]+)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, path.name


def test_ci_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert re.search(r"\bmake test\b", text)
    assert re.search(r"\bmake lint\b", text)


def test_licence(pyproject):
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("BSD 3-Clause License")
    assert "The skdeep developers" in text
    assert pyproject["project"]["license"] == "BSD-3-Clause"


def test_distribution(pyproject):
    project = pyproject["project"]
    assert project["name"] == "scikit-deep"
    assert project["requires-python"] == ">=3.11,<3.15"
    needed = {re.match(r"[\w-]+", line).group() for line in project["dependencies"]}
    assert needed == {
        "scikit-learn",
        "numpy",
        "scipy",
        "numba",
        "joblib",
        "threadpoolctl",
        "safetensors",
    }


@pytest.mark.parametrize(
    "extra", ["plot", "cuda", "dask", "onnx", "tensorboard", "test", "docs", "dev"]
)
def test_extra(pyproject, extra):
    assert pyproject["project"]["optional-dependencies"][extra]
    assert f"``{extra}``" in (ROOT / "docs" / "install.rst").read_text(encoding="utf-8")


def test_benchmark_page_has_its_markers():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    begin, end = "<!-- networks: begin -->", "<!-- networks: end -->"
    assert page.count(begin) == page.count(end) == 1
    assert page.index(begin) < page.index(end)
    script = (ROOT / "asv_bench" / "compare_networks.py").read_text(encoding="utf-8")
    assert begin in script
    assert end in script


def test_every_module_is_in_the_api_page():
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    for name in skdeep.__all__:
        if name != "__version__":
            assert re.search(rf"^ +skdeep\.{name}$", page, re.MULTILINE), name


def python_blocks(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_readme_examples_run():
    blocks = python_blocks("README.md")
    assert len(blocks) == 2
    for block in blocks:
        run_python(block)


def test_skeletons_parse():
    blocks = python_blocks("CONTRIBUTING.md")
    assert len(blocks) == 4
    for block in blocks:
        ast.parse(block)


GUIDE = sorted(path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.rst"))
GUIDE = [name for name in GUIDE if not GENERATED.intersection(name.split("/"))]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT / "skdeep")], "skdeep.")
    if "cuda" not in module.name
)


@pytest.mark.parametrize("name", [name for name in GUIDE if not name.startswith("_")])
def test_guide_examples(name):
    path = ROOT / "docs" / name
    assert doctest.testfile(str(path), module_relative=False).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
