"""Blocks of samples: what a source gives, checked and brought to one layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number

import numpy as np


@dataclass(slots=True)
class Block:
    """Some samples of one source, and where they stand in it."""

    X: np.ndarray
    y: np.ndarray | None
    weight: np.ndarray | None
    name: str
    rows: Sequence[int]
    unit: str = "row"

    def where(self, i=0):
        """Say where sample `i` of the block stands."""
        return f"{self.name}, {self.unit} {self.rows[i]}"


@dataclass(frozen=True)
class Layout:
    """What all blocks of a stream have in common."""

    sample_shape: tuple
    target_shape: tuple | None
    target_dtype: np.dtype | None
    weighted: bool


@dataclass(frozen=True)
class Preparation:
    """How a block becomes a tuple of arrays ``(X, y, weight)``."""

    dtype: np.dtype
    transform: object
    sample_shape: tuple | None
    classes: np.ndarray | None

    def __call__(self, block, layout=None):
        """Return the arrays; they are compared with a layout where there is one."""
        X = self._features(block)
        y = None if block.y is None else self._target(block)
        weight = None if block.weight is None else _weight(block, self.dtype)
        arrays = X, y, weight
        for name, a in zip(("y", "sample_weight"), arrays[1:], strict=True):
            if a is not None and len(a) != len(X):
                raise ValueError(
                    f"{block.where()}: X has {len(X)} samples from here and {name} has {len(a)}"
                )
        if layout is not None:
            return _fit(block, arrays, layout)
        return arrays

    def _features(self, block):
        """Cast, transform and reshape X, and see to it that it is finite."""
        n = len(block.rows)
        X = self._cast(block, block.X)
        if self.transform is not None:
            X = self._cast(block, self.transform(X))
        if X.ndim < 1 or len(X) != n:
            raise ValueError(
                f"{block.where()}: transform made an array of shape {X.shape} of {n} samples; it "
                "must keep their number"
            )
        if X.ndim < 2:
            raise ValueError(
                f"{block.where()}: X has shape {X.shape}; samples must be arrays: reshape X to "
                "(n_samples, n_features)"
            )
        if self.sample_shape is not None:
            if X[0].size != np.prod(self.sample_shape):
                raise ValueError(
                    f"{block.where()}: the samples have {X[0].size} values, "
                    f"sample_shape={self.sample_shape} asks for {np.prod(self.sample_shape)}"
                )
            X = X.reshape(n, *self.sample_shape)
        finite = np.isfinite(X)
        if not finite.all():
            i, *feature = np.argwhere(~finite)[0].tolist()
            raise ValueError(
                f"{block.where(i)}: feature {feature[0] if len(feature) == 1 else feature} of X "
                f"is {X[i, *feature]}, missing or beyond {self.dtype}; leave such samples out, or "
                "fill them in by transform="
            )
        return X

    def _cast(self, block, X):
        X = np.asarray(X)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"{block.where()}: X must be numbers, its dtype is {X.dtype}")
        with np.errstate(over="ignore"):  # what overflows is infinite, and found as such
            return X.astype(self.dtype, copy=False)

    def _target(self, block):
        """Return y as int64, float64, bool or str objects, or as the classes' dtype."""
        y = np.asarray(block.y)
        if y.dtype.kind == "O":
            y = _from_objects(block, y)
        kind = y.dtype.kind
        if kind == "f" and not np.isfinite(y).all():
            i = int(np.argwhere(~np.isfinite(y))[0][0])
            raise ValueError(f"{block.where(i)}: y is {y[i]}; leave samples without target out")
        if kind not in "biufUTO":
            raise ValueError(
                f"{block.where()}: y must be numbers or strings, its dtype is {y.dtype}"
            )
        if self.classes is not None:
            return self._classified(block, y)
        to = {"b": bool, "i": np.int64, "u": np.int64, "f": np.float64}
        return y.astype(to.get(kind, object), copy=False)

    def _classified(self, block, y):
        """Return y in the dtype of the classes; all labels must be among them."""
        text = self.classes.dtype.kind == "U"
        if text != (y.dtype.kind in "UTO"):
            theirs, ours = ("strings", "numbers") if text else ("numbers", "strings")
            raise ValueError(f"{block.where()}: classes are {theirs}, but y has {ours}")
        y = y.astype(str) if text else y
        place = np.searchsorted(self.classes, y).clip(max=len(self.classes) - 1)
        labels = self.classes[place]
        wrong = np.argwhere(labels != y)
        if len(wrong):
            i = tuple(wrong[0].tolist())
            raise ValueError(
                f"{block.where(i[0])}: label {y[i].item()!r} is not among "
                f"classes={self.classes.tolist()}"
            )
        return labels.astype(object) if text else labels


def layout_of(arrays):
    """Return the layout of the arrays of a first block."""
    X, y, weight = arrays
    return Layout(
        X.shape[1:],
        None if y is None else y.shape[1:],
        None if y is None else y.dtype,
        weight is not None,
    )


def _fit(block, arrays, layout):
    """Return the arrays in the layout of the stream's first block."""
    X, y, weight = arrays
    if X.shape[1:] != layout.sample_shape:
        raise ValueError(
            f"{block.where()}: samples of shape {X.shape[1:]}, but the stream began with "
            f"{layout.sample_shape}"
        )
    given = [y is not None, weight is not None]
    for name, now, before in zip(
        ("y", "sample_weight"), given, [layout.target_dtype is not None, layout.weighted],
        strict=True,
    ):  # fmt: skip
        if now != before:
            raise ValueError(
                f"{block.where()}: {'there is a' if now else 'no'} {name}, but the stream began "
                f"{'with' if before else 'without'} one"
            )
    if y is None:
        return arrays
    if y.shape[1:] != layout.target_shape:
        raise ValueError(
            f"{block.where()}: targets of shape {y.shape[1:]}, but the stream began with "
            f"{layout.target_shape}"
        )
    if y.dtype != layout.target_dtype:
        if not np.can_cast(y.dtype, layout.target_dtype) or layout.target_dtype.hasobject:
            raise ValueError(
                f"{block.where()}: y has dtype {y.dtype}, but the stream began with "
                f"{layout.target_dtype}; convert one of them"
            )
        y = y.astype(layout.target_dtype)
    return X, y, weight


def _from_objects(block, y):
    """Return an array of objects as it is if all are strings, or as numbers if all are numbers."""
    flat = y.ravel().tolist()
    if all(isinstance(v, str) for v in flat):
        return y
    if all(isinstance(v, Number) for v in flat):
        return np.array(flat).reshape(y.shape)
    i, odd = next((i, v) for i, v in enumerate(flat) if not isinstance(v, str))
    row = i // max(1, y[0].size if y.ndim > 1 else 1)
    raise ValueError(f"{block.where(row)}: y is {odd!r} among strings; a target is missing there")


def _weight(block, dtype):
    weight = np.asarray(block.weight)
    good = weight.ndim == 1 and weight.dtype.kind in "biuf"
    if not good:
        raise ValueError(
            f"{block.where()}: sample_weight must be one number a sample; it has shape "
            f"{weight.shape} and dtype {weight.dtype}"
        )
    good = np.isfinite(weight) & (weight >= 0)
    if not good.all():
        i = int(np.argmin(good))
        raise ValueError(f"{block.where(i)}: sample_weight is {weight[i]}; it must be 0 or more")
    return weight.astype(dtype, copy=False)
