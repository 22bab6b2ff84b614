"""The public surface: names, signatures, documentation."""

import importlib
import importlib.util
import inspect
import pkgutil

import pytest
import sklearn.neural_network
from sklearn.base import BaseEstimator

import skdeep
import skdeep.neural_network

PUBLIC = [
    "skdeep.autodiff",
    "skdeep.autodiff.ops",
    "skdeep.datasets",
    "skdeep.inspection",
    "skdeep.layers",
    "skdeep.neural_network",
    "skdeep.optimize",
    "skdeep.training",
]
#: Parameters whose default differs from scikit-learn's: none.
OTHER_DEFAULTS: dict = {}


def public_objects():
    for module in PUBLIC:
        m = importlib.import_module(module)
        for name in m.__all__:
            yield module, name, getattr(m, name)


OBJECTS = [
    pytest.param(obj, id=f"{module}.{name}")
    for module, name, obj in public_objects()
    if inspect.isclass(obj) or inspect.isfunction(obj)
]


def test_every_module_imports():
    # What computes on a GPU needs a package that is not installed everywhere.
    left_out = () if importlib.util.find_spec("numba_cuda") else ("_kernels.cuda.", "._cuda.")
    for info in pkgutil.walk_packages(skdeep.__path__, "skdeep."):
        if not any(name in info.name for name in left_out):
            importlib.import_module(info.name)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_there(module):
    m = importlib.import_module(module)
    assert len(set(m.__all__)) == len(m.__all__)
    assert all(hasattr(m, name) for name in m.__all__)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_signature_extends_scikit_learns(name):
    """The namesake's parameters come first, with its defaults; ours after, keyword-only."""
    theirs = inspect.signature(getattr(sklearn.neural_network, name)).parameters
    ours = inspect.signature(getattr(skdeep.neural_network, name)).parameters
    shared = [p for p in ours if p in theirs]
    assert shared == list(theirs)
    for p, spec in theirs.items():
        assert ours[p].kind == spec.kind, p
        assert ours[p].default == OTHER_DEFAULTS.get((name, p), spec.default), p
    for p in set(ours) - set(theirs):
        assert ours[p].kind is inspect.Parameter.KEYWORD_ONLY, p
    methods = [m for m in dir(getattr(sklearn.neural_network, name)) if not m.startswith("_")]
    assert not [m for m in methods if not hasattr(getattr(skdeep.neural_network, name), m)]


@pytest.mark.parametrize("obj", OBJECTS)
def test_docstrings_are_numpydoc(obj):
    from numpydoc.docscrape import ClassDoc, FunctionDoc

    assert obj.__doc__
    assert len(obj.__doc__.split()) > 3
    doc = ClassDoc(obj) if inspect.isclass(obj) else FunctionDoc(obj)
    documented = [n.strip("*") for p in doc["Parameters"] for n in p.name.split(", ")]
    if inspect.isclass(obj) and (not issubclass(obj, BaseEstimator) or inspect.isabstract(obj)):
        return
    actual = [
        n
        for n, p in inspect.signature(obj).parameters.items()
        if n != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    assert [d for d in documented if d in actual] == actual, (documented, actual)
    assert doc["Examples"], "a runnable example is missing"
