"""The documentation has everything that is public, and its links lead somewhere.

(Its examples are run by `test_house.py`.)
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import skdeep

DOCS = Path(__file__).resolve().parent.parent / "docs"
API = re.findall(r"^ +(skdeep\.[\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.M)
GUIDE = sorted((DOCS / "user_guide").glob("*.rst"))


def public_modules():
    """Return the public modules: those that `skdeep` or a public module names in `__all__`."""
    found, left = [], [f"skdeep.{name}" for name in skdeep.__all__ if name != "__version__"]
    while left:
        name = left.pop()
        module = importlib.import_module(name)
        found.append(name)
        left += [f"{name}.{n}" for n in module.__all__ if inspect.ismodule(getattr(module, n))]
    return sorted(found)


def test_api_page_has_the_public_modules():
    assert sorted(API) == public_modules()


@pytest.mark.parametrize("name", public_modules())
def test_api_page_of_a_module_has_all_its_objects(name):
    """A module's page is made of the classes and functions of its `__all__`, and of no others."""
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for entry in module.__all__:
        obj = getattr(module, entry)
        if inspect.ismodule(obj):
            assert f"{name}.{entry}" in API
            continue
        assert inspect.isclass(obj) or inspect.isfunction(obj), entry
        assert inspect.getdoc(obj), entry


def test_pages_are_reached_from_the_index():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    guide = (DOCS / "user_guide" / "index.rst").read_text(encoding="utf-8")
    for page in [*DOCS.glob("*.rst"), *DOCS.glob("*.md")]:
        hidden = page.stem == "index" or page.stem == "sg_execution_times"
        assert hidden or re.search(rf"^   {page.stem}$", index, re.M), page.name
    for page in GUIDE:
        assert page.stem == "index" or re.search(rf"^   {page.stem}$", guide, re.M), page.name


def resolve(dotted):
    """Return what a dotted name means, through modules and attributes."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        try:
            obj = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            obj = getattr(obj, part)
        return obj
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_names_in_the_guide_exist(page):
    """Every object that a role names, and every page that is linked, is there."""
    text = page.read_text(encoding="utf-8")
    for dotted in re.findall(r":(?:class|func|mod):`~?((?:skdeep|sklearn)[\w.]*)`", text):
        resolve(dotted)
    for target in re.findall(r":doc:`([^`]+)`", text):
        stem = page.parent / target
        assert stem.with_suffix(".rst").is_file() or stem.with_suffix(".md").is_file(), target


def test_guide_names_every_parameter_of_ours():
    from sklearn.neural_network import MLPClassifier as Theirs

    from skdeep.neural_network import MLPClassifier, MLPRegressor

    shared = set(inspect.signature(Theirs).parameters)
    ours = set(inspect.signature(MLPClassifier).parameters)
    ours |= set(inspect.signature(MLPRegressor).parameters)
    text = (DOCS / "user_guide" / "neural_network.rst").read_text(encoding="utf-8")
    table = text.split("====\n", 2)[2]
    missing = [name for name in ours - shared if f"``{name}``" not in table]
    assert not missing


def test_deviations_name_what_exists():
    """Values and parameters in the table of additions are taken by the estimators."""
    from skdeep.neural_network import MLPClassifier, MLPRegressor

    rows = {}
    for line in (DOCS / "deviations.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0]] = cells[-1]
    X, y = [[0.0, 1.0], [1.0, 0.0]] * 4, [0, 1] * 4
    quick = dict(hidden_layer_sizes=(2,), max_iter=60, tol=10.0, n_iter_no_change=1)

    def values(start):
        (cell,) = [v for k, v in rows.items() if k.startswith(start)]
        return [ast.literal_eval(v) for v in re.findall(r'"\w+"', cell)]

    for solver in values("more values of `solver`"):
        MLPClassifier(solver=solver, **quick).fit(X, y)
    for activation in values("more values of `activation`"):
        MLPClassifier(activation=activation, **quick).fit(X, y)
    for loss in values("`loss` of the classifier"):
        MLPClassifier(loss=loss, **quick).fit(X, y)
    for loss in values("more values of the regressor's `loss`"):
        MLPRegressor(loss=loss, **quick).fit(X, y)
