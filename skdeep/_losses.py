"""Losses, once, for networks and for boosting.

A loss knows which targets it takes, what it costs, its gradient and diagonal Hessian by the raw
prediction, and what turns raw predictions into predictions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from skdeep.autodiff._trace import Tracer, Unrecordable, ndim, shape
from skdeep.autodiff._transforms import vjp
from skdeep.autodiff.ops import loss as ops
from skdeep.autodiff.ops.logits import sigmoid, softmax

__all__ = ["CallableLoss", "LogLoss", "Loss", "PointwiseLoss", "get_loss"]


class Loss(ABC):
    """Abstract base of the losses.

    Attributes
    ----------
    name : str
        The name that `get_loss` knows.
    kind : {"labels", "indicator", "sign", "real"}
        The targets: class numbers (int64), 0 and 1 per output, -1 and +1 per output, numbers.
    out_activation : {"identity", "softmax", "logistic", "exp"}
        What `predict` applies, as scikit-learn names it.
    """

    name: str
    kind: str
    out_activation: str

    @abstractmethod
    def __call__(self, raw, target):
        """Return the samples' losses, traced or not.

        Parameters
        ----------
        raw : array of shape (n_samples, n_raw) or (n_members, n_samples, n_raw)
            The raw predictions.
        target : array of the shape of `raw`, or without its last axis for labels
            The targets; the member axis may be 1.

        Returns
        -------
        array of shape (n_samples,) or (n_members, n_samples)
        """

    @abstractmethod
    def gradient_hessian(self, y, raw):
        """Return the first and second derivatives of each loss by each raw prediction.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) or (n_samples, n_raw)
            The targets.
        raw : ndarray of shape (n_samples,) or (n_samples, n_raw)
            The raw predictions, float32 or float64.

        Returns
        -------
        gradient, hessian : ndarray of the shape of `raw`
            The Hessian is diagonal. It is one for losses without curvature (absolute error,
            quantile, hinge, perceptron), so that a Newton step is a gradient step.
        """

    def predict(self, raw):
        """Return the predictions that raw predictions mean."""
        return {"softmax": softmax, "logistic": sigmoid, "exp": np.exp}.get(
            self.out_activation, np.asarray
        )(raw)

    def target_kind(self, y_type):
        """Return the `kind` of targets for a type of y, as scikit-learn names it."""
        return self.kind

    def n_raw(self, n_classes):
        """Return the raw predictions per sample for a number of classes."""
        return 1 if n_classes == 2 else n_classes

    def check(self, target, n_raw):  # noqa: B027 (there is nothing to check in most)
        """Raise a TypeError unless the loss can be differentiated; `target` has some samples."""


@dataclass(frozen=True)
class LogLoss(Loss):
    """Log-loss: of the softmax for labels, of a logistic per output for indicators.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        The share of the weight of a label that is spread evenly over its classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep._losses import LogLoss
    >>> LogLoss()(np.zeros((1, 4)), np.array([2]))
    array([1.38629436])
    """

    label_smoothing: float = 0.0
    name = "log_loss"
    kind = "labels"
    out_activation = "softmax"

    def __post_init__(self):
        _check_number("label_smoothing", self.label_smoothing, 0, 1, closed=True)

    def __call__(self, raw, target):
        if target.dtype.kind in "iu" and ndim(target) < ndim(raw):
            if shape(raw)[-1] > 1:
                return ops.softmax_cross_entropy(raw, target, self.label_smoothing)
            target = ops.label_column(target, raw)
        return ops.per_sample_loss(raw, self._smooth(target), loss="binary_cross_entropy")

    def _smooth(self, target):
        share = self.label_smoothing
        return (1.0 - share) * target + 0.5 * share if share else target

    def gradient_hessian(self, y, raw):
        if ndim(raw) == 2 and shape(raw)[1] > 1 and y.ndim == 1:
            p = softmax(raw)
            smoothing = np.full(1, self.label_smoothing, raw.dtype)
            ct = np.ones(len(raw), raw.dtype)
            labels = y.astype(np.int64)
            return ops.cross_entropy_pullback(p, labels, smoothing, ct), p * (1 - p)
        y = self._smooth(np.asarray(y, raw.dtype))
        return _derivatives("binary_cross_entropy", None, y, raw)

    def predict(self, raw):
        """Return probabilities: of each class, or of each output where there is one a sample."""
        return softmax(raw) if shape(raw)[-1] > 1 else sigmoid(raw)

    def target_kind(self, y_type):
        """Return "labels" for classes that exclude each other, else "indicator"."""
        return "labels" if y_type == "multiclass" else "indicator"


@dataclass(frozen=True)
class PointwiseLoss(Loss):
    """A loss of each raw prediction by itself, summed over a sample's outputs.

    Parameters
    ----------
    name : {"squared_error", "absolute_error", "huber", "poisson", "quantile", "hinge", \
            "squared_hinge", "perceptron"}
        The loss; see `skdeep.autodiff.ops.loss.pointwise_loss`.
    param : float or None, default=None
        Where "huber" turns absolute (above 0); the "quantile" (between 0 and 1).

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep._losses import PointwiseLoss
    >>> PointwiseLoss("poisson")(np.zeros((1, 1)), np.ones((1, 1)))
    array([0.])
    """

    name: str
    param: float | None = None
    kind: str = field(init=False)
    out_activation: str = field(init=False)

    def __post_init__(self):
        kind, out_activation = POINTWISE[self.name]
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "out_activation", out_activation)
        if self.name == "huber" and self.param is not None:
            _check_number("delta", self.param, 0, np.inf)
        if self.name == "quantile" and self.param is not None:
            _check_number("quantile", self.param, 0, 1)

    def __call__(self, raw, target):
        return ops.per_sample_loss(raw, target, self.param, loss=self.name)

    def check(self, target, n_raw):
        """Raise a ValueError where the targets are outside the loss's range."""
        if self.name == "poisson" and np.min(target, initial=0) < 0:
            raise ValueError("loss='poisson' takes counts: y must be 0 or more everywhere")

    def gradient_hessian(self, y, raw):
        gradient, hessian = _derivatives(self.name, self.param, np.asarray(y, raw.dtype), raw)
        if ops.FLAT.get(self.name) == 2:
            hessian = np.ones_like(raw)
        return gradient, hessian


@dataclass(frozen=True)
class CallableLoss(Loss):
    """A user's loss, applied member by member.

    Parameters
    ----------
    function : callable
        ``function(y_true, y_pred)``, in differentiable NumPy, of targets and raw predictions of
        shape (n_samples, n_raw) each, returns the losses of shape (n_samples,).

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep._losses import CallableLoss
    >>> log_cosh = CallableLoss(lambda y, raw: np.sum(np.log(np.cosh(raw - y)), axis=1))
    >>> log_cosh.check(np.zeros((3, 2)), 2)
    """

    function: object
    kind = "indicator"
    out_activation = "identity"

    @property
    def name(self):
        """The function's name."""
        return getattr(self.function, "__name__", repr(self.function))

    def __call__(self, raw, target):
        if ndim(raw) == 2:
            return self._losses(raw, target)
        shared = shape(target)[0] == 1
        members = range(shape(raw)[0])
        return np.stack([self._losses(raw[m], target[0 if shared else m]) for m in members])

    def _losses(self, raw, target):
        losses = self.function(target, raw)
        if shape(losses) != shape(raw)[:1]:
            raise TypeError(
                f"loss={self.name} returned shape {shape(losses)}; it must return one loss per "
                f"sample, {shape(raw)[:1]}"
            )
        if type(raw) is Tracer and type(losses) is not Tracer:
            raise TypeError(
                f"loss={self.name} returned {type(losses).__name__}, a constant: it must depend "
                "on `y_pred` by NumPy functions"
            )
        return losses if losses.dtype == raw.dtype else losses.astype(raw.dtype)

    def gradient_hessian(self, y, raw):
        """Return the derivatives; the diagonal of the Hessian by one product per output."""

        def gradient(r):
            columns = np.reshape(r, (len(y), -1))
            targets = np.reshape(y, (len(y), -1))
            losses, pullback = vjp(lambda c: self._losses(c, targets), columns)
            return np.reshape(pullback(np.ones(losses.shape, raw.dtype))[0], shape(r))

        g, pullback = vjp(gradient, raw)
        width = raw.size // max(len(raw), 1)
        hessian = np.empty((len(raw), width), raw.dtype)
        for k in range(width):
            one = np.zeros((len(raw), width), raw.dtype)
            one[:, k] = 1
            hessian[:, k] = pullback(one.reshape(raw.shape))[0].reshape(len(raw), -1)[:, k]
        return g, hessian.reshape(raw.shape)

    def check(self, target, n_raw):
        """Raise a TypeError unless the function can be differentiated; a few samples tell."""
        target = np.asarray(target)[:3]
        raw = np.random.default_rng(0).normal(size=(len(target), n_raw))
        try:
            losses, pullback = vjp(lambda r: self._losses(r, target), raw)
            pullback(np.ones_like(losses))
        except (TypeError, ValueError, AttributeError, Unrecordable) as e:
            cause = e.__cause__ if isinstance(e.__cause__, Unrecordable) else e
            raise TypeError(
                f"loss={self.name} cannot be trained with, because it cannot be differentiated "
                f"by `y_pred`: {cause}"
            ) from e


#: Pointwise loss -> the kind of its targets, and what makes predictions of raw predictions.
POINTWISE = {
    "squared_error": ("real", "identity"),
    "absolute_error": ("real", "identity"),
    "huber": ("real", "identity"),
    "poisson": ("real", "exp"),
    "quantile": ("real", "identity"),
    "hinge": ("sign", "identity"),
    "squared_hinge": ("sign", "identity"),
    "perceptron": ("sign", "identity"),
}


def _check_number(name, value, low, high, closed=False):
    inside = isinstance(value, Real) and (low <= value <= high if closed else low < value < high)
    if not inside:
        where = f"in [{low}, {high}]" if closed else f"above {low} and below {high}"
        raise ValueError(f"{name}={value!r} must be a number {where}")


def _derivatives(name, param, y, raw):
    """Return gradient and diagonal Hessian of a pointwise loss, in the shape of `raw`."""
    y = np.reshape(y, (1, raw.size, 1))
    each, ct = np.reshape(raw, (1, raw.size, 1)), np.ones((1, raw.size), raw.dtype)
    param = np.full(1, ops.PARAMETERS.get(name, 0.0) if param is None else param, raw.dtype)
    return tuple(
        ops.pointwise_pullback(ct, each, y, param, loss=name, order=k).reshape(raw.shape)
        for k in (1, 2)
    )


def get_loss(spec, *, label_smoothing=0.0, delta=1.0, quantile=0.5):
    """Return a loss from what a user passes as `loss`.

    Parameters
    ----------
    spec : str, Loss or callable
        A name, a loss, or a function ``f(y_true, y_pred)``; see `CallableLoss`.
    label_smoothing : float, default=0.0
        Of "log_loss"; in [0, 1].
    delta : float, default=1.0
        Of "huber"; above 0.
    quantile : float, default=0.5
        Of "quantile"; between 0 and 1.

    Returns
    -------
    Loss

    Raises
    ------
    TypeError
        If `spec` is neither of these.
    ValueError
        If the name is unknown, a parameter out of range, or `label_smoothing` given to a loss
        that has no labels to smooth.

    Examples
    --------
    >>> from skdeep._losses import get_loss
    >>> get_loss("huber", delta=2.0)
    PointwiseLoss(name='huber', param=2.0, kind='real', out_activation='identity')
    """
    if isinstance(spec, Loss):
        return spec
    if spec == "log_loss":
        return LogLoss(label_smoothing)
    if label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing!r} works with loss='log_loss' only, not with "
            f"loss={spec!r}; set it to 0"
        )
    if isinstance(spec, str):
        if spec not in POINTWISE:
            raise ValueError(f"loss={spec!r} must be one of {sorted(['log_loss', *POINTWISE])}")
        return PointwiseLoss(spec, {"huber": delta, "quantile": quantile}.get(spec))
    if callable(spec):
        return CallableLoss(spec)
    raise TypeError(f"loss={spec!r} must be a name, a Loss or a callable f(y_true, y_pred)")
