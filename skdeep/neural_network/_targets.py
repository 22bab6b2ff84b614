"""How y becomes what a loss wants, and back."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import type_of_target, unique_labels


@dataclass(frozen=True)
class Target:
    """Encoded targets.

    Parameters
    ----------
    values : ndarray of shape (n_samples,) of int64, or of shape (n_samples, n_outputs)
        What the loss takes.
    loss : Loss
        The loss that takes them.
    n_outputs : int
        The network's outputs.
    out_activation : str
        What turns raw outputs into predictions, as scikit-learn names it.
    """

    values: np.ndarray
    loss: object
    n_outputs: int
    out_activation: str

    def rows(self, rows):
        """Return the targets of some samples."""
        return self.with_values(self.values[rows])

    def with_values(self, values):
        """Return other encoded targets of the same kind."""
        return replace(self, values=values)


@dataclass(frozen=True)
class ClassTarget(Target):
    """Encoded class labels.

    Parameters
    ----------
    binarizer : LabelBinarizer
        Knows the classes, and whether there are two, more, or many labels a sample.
    class_weight : dict, "balanced" or None
        Weights of the classes.
    """

    binarizer: LabelBinarizer
    class_weight: object = None

    @classmethod
    def encode(cls, y, loss, binarizer, class_weight=None):
        """Return labels as the loss wants them."""
        y_type = binarizer.y_type_
        kind, multiclass = loss.target_kind(y_type), y_type == "multiclass"
        values = cls._values(y, binarizer, kind)
        many = multiclass or y_type.startswith("multilabel")
        n_outputs = len(binarizer.classes_) if many else 1
        out = "identity" if kind == "sign" else "softmax" if multiclass else "logistic"
        loss.check(values, n_outputs)
        return cls(values, loss, n_outputs, out, binarizer, class_weight)

    @staticmethod
    def _values(y, binarizer, kind):
        if kind == "labels":
            return np.searchsorted(binarizer.classes_, y).astype(np.int64)
        indicator = binarizer.transform(y)
        if hasattr(indicator, "toarray"):
            indicator = indicator.toarray()
        return np.where(indicator > 0, 1.0, -1.0 if kind == "sign" else 0.0)

    def encode_more(self, y, name="y"):
        """Encode other labels of the same classes."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.ravel()
        known = self.binarizer.classes_
        if not self.binarizer.y_type_.startswith("multilabel"):
            unknown = np.setdiff1d(unique_labels(y), known)
            if len(unknown):
                raise ValueError(f"`{name}` has classes {unknown} that `y` does not have: {known}")
        return replace(self, values=self._values(y, self.binarizer, self._kind()))

    def _kind(self):
        return self.loss.target_kind(self.binarizer.y_type_)

    def labels(self):
        """Return the samples' classes as a scikit-learn metric takes them."""
        if self.values.dtype.kind == "i":
            return self.values
        return self.decode(np.where(self.values > 0, 1.0, -1.0), index=True)

    def decode(self, raw, index=False):
        """Return the classes that raw outputs mean (their numbers with `index`)."""
        kind = self.binarizer.y_type_
        if kind.startswith("multilabel"):
            chosen = (raw > 0).astype(int)
            return chosen if index else self.binarizer.inverse_transform(chosen)
        if len(self.binarizer.classes_) == 1:
            raw = np.full((len(raw), 1), -1.0)
        numbers = (raw[:, 0] > 0).astype(int) if raw.shape[1] == 1 else raw.argmax(axis=1)
        return numbers if index else self.binarizer.classes_[numbers]

    def strata(self):
        """Return what a stratified split goes by; None where labels are many."""
        if self.binarizer.y_type_.startswith("multilabel"):
            return None
        numbers = self.labels()
        return numbers.astype(bool)[:, None] if self.n_outputs == 1 else numbers

    def class_weighted(self, weight):
        """Return sample weights times class weights."""
        if self.class_weight is None:
            return weight
        if self.binarizer.y_type_.startswith("multilabel"):
            raise ValueError("class_weight is for one label a sample; weigh the samples instead")
        classes, labels = self.binarizer.classes_, self.labels()
        if isinstance(self.class_weight, dict):  # which need not be of the labels of a block
            by_class = compute_class_weight(self.class_weight, classes=classes, y=classes)[labels]
        else:
            by_class = compute_sample_weight(self.class_weight, classes[labels])
        return by_class if weight is None else weight * by_class

    def score(self, raw, weight=None):
        """Return the accuracy of raw outputs."""
        if not np.isfinite(raw).all():
            return np.nan
        return accuracy_score(self.labels(), self.decode(raw, index=True), sample_weight=weight)

    def attributes(self):
        """Return the fitted attributes that come of the labels."""
        return {"classes_": self.binarizer.classes_, "_label_binarizer": self.binarizer}


@dataclass(frozen=True)
class RealTarget(Target):
    """Real targets, one or several per sample."""

    @classmethod
    def encode(cls, y, loss):
        """Return real targets as columns."""
        values = np.asarray(y, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        loss.check(values, values.shape[1])
        return cls(values, loss, values.shape[1], loss.out_activation)

    def encode_more(self, y, name="y"):
        """Encode other targets with as many outputs."""
        more = type(self).encode(y, self.loss)
        if more.n_outputs != self.n_outputs:
            raise ValueError(f"`{name}` has {more.n_outputs} outputs; `y` has {self.n_outputs}")
        return more

    def decode(self, raw):
        """Return the predictions that raw outputs mean."""
        return self.loss.predict(raw)

    def strata(self):
        """Real targets are not stratified."""
        return None

    def class_weighted(self, weight):
        """There are no classes to weigh."""
        return weight

    def score(self, raw, weight=None):
        """Return the coefficient of determination of raw outputs."""
        if not np.isfinite(raw).all():
            return np.nan
        return r2_score(self.values, self.decode(raw), sample_weight=weight)

    def attributes(self):
        """Return the fitted attributes that come of the targets: none."""
        return {}


def class_binarizer(estimator, y, fresh, classes, incremental):
    """Return the binarizer of the classes, checked against those of an earlier fit."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if not incremental and (fresh or not hasattr(estimator, "classes_")):
        return y, LabelBinarizer().fit(y)
    if classes is not None and not hasattr(estimator, "_label_binarizer"):
        labels = y if type_of_target(y).startswith("multilabel") else classes
        binarizer = LabelBinarizer().fit(labels)
    else:
        binarizer = estimator._label_binarizer
    found = unique_labels(y)
    if not incremental and set(found) != set(binarizer.classes_):
        raise ValueError(
            "warm_start can only be used where `y` has the same classes as in the previous call "
            f"to fit. Previously got {binarizer.classes_}, `y` has {found}"
        )
    if len(np.setdiff1d(found, binarizer.classes_, assume_unique=True)):
        raise ValueError(
            "`y` has classes not in `self.classes_`. "
            f"`self.classes_` has {binarizer.classes_}. 'y' has {found}."
        )
    return y, binarizer
