"""Checkpoints: one file of arrays and JSON, written atomically, never executing code."""

import json
import os
import zlib
from numbers import Integral
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator

from skdeep._compat import Interval
from skdeep._specification import Specification

_FORMAT = "skdeep-checkpoint-1"


def save_arrays(path, arrays, meta):
    """Write arrays and a JSON-able dict to a file, atomically.

    The file at `path` is at every moment either the old or the new one: the new one is written
    beside it, flushed to the disk, and renamed.
    """
    from safetensors.numpy import save

    path = Path(path)
    content = save(
        {k: np.ascontiguousarray(v) for k, v in arrays.items()},
        metadata={"format": _FORMAT, "meta": json.dumps(meta)},
    )
    # One name for the new file, so that a killed process leaves at most one, soon replaced.
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def load_arrays(path):
    """Read what `save_arrays` wrote: the arrays and the dict.

    Raises
    ------
    ValueError
        If the file is truncated or is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            meta = f.metadata() or {}
            arrays = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise ValueError(
            f"checkpoint {str(path)!r} cannot be read ({e}): it is truncated or not a checkpoint. "
            "Delete it to begin anew, or restore a good copy"
        ) from None
    if meta.get("format") != _FORMAT:
        raise ValueError(
            f"checkpoint {str(path)!r} is a safetensors file, but not a checkpoint of skdeep; "
            "give another path"
        )
    return arrays, json.loads(meta["meta"])


#: Parameters that may change when a training is resumed.
_FREE = {"max_iter", "tol", "n_iter_no_change", "verbose", "checkpoint", "warm_start", "device"}


def identify(estimator, X, y, weight):
    """Return what must be equal for a training to be resumed: parameters and data, as JSON."""
    parameters = {
        name: _plain(value)
        for name, value in sorted(estimator.get_params(deep=False).items())
        if name not in _FREE
    }
    arrays = [X.data, X.indices, X.indptr] if sp.issparse(X) else [X]
    arrays += [y] if weight is None else [y, weight]
    checksum = 0
    for a in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(a), checksum)
    return {**parameters, "shape of X": list(X.shape), "checksum of the data": checksum}


def _plain(value):
    """Return a parameter's value in numbers, strings and lists."""
    if isinstance(value, BaseEstimator):
        inner = {k: _plain(v) for k, v in value.get_params(deep=False).items()}
        return {"class": type(value).__qualname__, **inner}
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return type(value).__qualname__
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class Checkpoint(Specification):
    """Save a training at intervals, and resume it where it was interrupted.

    A fit that finds the file goes on from it, bit for bit as if it had never stopped; a fit that
    ran to its end leaves the file with its last epoch, and another fit with a larger `max_iter`
    trains on.

    Parameters
    ----------
    path : str or path-like
        The file.
    every : int, default=1
        Save after so many epochs.
    resume : bool, default=True
        Whether to go on from a file that is there; otherwise it is overwritten.

    Examples
    --------
    >>> from skdeep.training import Checkpoint
    >>> Checkpoint("run.safetensors", every=5)
    Checkpoint(every=5, path='run.safetensors')
    """

    _parameter_constraints = {
        "path": [str, os.PathLike],
        "every": [Interval(Integral, 1, None, closed="left")],
        "resume": ["boolean"],
    }

    def __init__(self, path, *, every=1, resume=True):
        self.path = path
        self.every = every
        self.resume = resume

    def validate(self):
        """Check the parameters, and that the folder is there and can be written to."""
        super().validate()
        folder = Path(self.path).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ValueError(
                f"Checkpoint: path={str(self.path)!r} lies in a folder that is not there or "
                "cannot be written to; make the folder first"
            )

    def save(self, arrays, meta):
        """Write a checkpoint."""
        save_arrays(self.path, arrays, meta)

    def load(self, fingerprint):
        """Return the arrays and the dict of a checkpoint to resume from, or None.

        Raises
        ------
        ValueError
            If the file is broken, or belongs to another training.
        """
        if not self.resume or not Path(self.path).exists():
            return None
        arrays, meta = load_arrays(self.path)
        theirs = meta["fingerprint"]
        wrong = [k for k in fingerprint | theirs if fingerprint.get(k) != theirs.get(k)]
        if wrong:
            detail = ", ".join(
                f"{k}: {theirs.get(k)!r}, now {fingerprint.get(k)!r}" for k in wrong
            )
            raise ValueError(
                f"checkpoint {str(self.path)!r} belongs to another training ({detail}); "
                "give another path, delete it, or pass Checkpoint(..., resume=False)"
            )
        return arrays, meta
