"""Deep learning, ensembles and dimensionality reduction as scikit-learn estimators."""

import importlib

__version__ = "0.1.0.dev0"

_SUBMODULES = (
    "autodiff",
    "datasets",
    "inspection",
    "layers",
    "neural_network",
    "optimize",
    "training",
)
__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name):
    # Submodules load at first use, so that `import skdeep` imports no numba.
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
