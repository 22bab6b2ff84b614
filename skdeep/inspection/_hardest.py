"""The samples that an estimator finds hardest, and what it takes them for."""

from numbers import Integral

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import confusion_matrix
from sklearn.utils import Bunch, check_consistent_length, check_scalar
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from skdeep.inspection._tiles import as_images, draw_tiles, shown


def hardest_samples(estimator, X, y, *, n_samples=10):
    """Return the samples with the highest loss.

    Parameters
    ----------
    estimator : estimator instance
        Any fitted classifier with `predict_proba` or `decision_function`, or any regressor.
    X : array-like of shape (n, ...)
        Samples, as the estimator takes them.
    y : array-like of shape (n,), or (n, n_outputs) for a regressor
        Their true classes or targets.
    n_samples : int, default=10
        The number of samples wanted.

    Returns
    -------
    hardest : :class:`~sklearn.utils.Bunch`
        The hardest first:

        indices : ndarray of int64 of shape (n_samples,)
            Their rows in X.
        loss : ndarray of float64 of shape (n_samples,)
            The negative logarithm of the true class's probability; for a classifier without
            probabilities by how much another class's score is higher than the true one's; for a
            regressor the squared error.
        y_true, y_pred : ndarray of shape (n_samples,)
            True and predicted class or target.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If X and y differ in length, or y has labels that the classifier does not know.

    See Also
    --------
    HardestDisplay : Their pictures.
    confusion_pairs : Which classes are taken for which.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import hardest_samples
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=2, random_state=0).fit(X[:500] / 16, y[:500])
    >>> hardest = hardest_samples(cnn, X[500:] / 16, y[500:], n_samples=3)
    >>> len(hardest.indices), bool((hardest.y_true != hardest.y_pred).all())
    (3, True)
    """
    check_is_fitted(estimator)
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    check_consistent_length(X, y)
    y = np.asarray(y)
    if is_classifier(estimator):
        loss = _classification_loss(estimator, X, y)
        y_pred = estimator.predict(X)
    else:
        y_pred = np.asarray(estimator.predict(X))
        loss = np.square(y_pred - y.reshape(y_pred.shape)).reshape(len(y), -1).mean(axis=1)
    indices = np.argsort(-loss, kind="stable")[:n_samples]
    return Bunch(indices=indices, loss=loss[indices], y_true=y[indices], y_pred=y_pred[indices])


def _classification_loss(estimator, X, y):
    """Return each sample's loss: the highest where the true class is least likely."""
    classes = np.asarray(estimator.classes_)
    if y.ndim != 1:
        raise ValueError(f"y has shape {y.shape}; hardest samples are for one class a sample")
    numbers = {c: i for i, c in enumerate(classes.tolist())}
    unknown = sorted({str(label) for label in y.tolist() if label not in numbers})
    if unknown:
        raise ValueError(f"y has the labels {', '.join(unknown)}, but classes_ is {classes}")
    rows, columns = np.arange(len(y)), np.array([numbers[label] for label in y.tolist()], int)
    if hasattr(estimator, "predict_log_proba"):
        with np.errstate(divide="ignore"):  # a probability of zero is an infinite loss
            return -np.asarray(estimator.predict_log_proba(X), float)[rows, columns]
    if hasattr(estimator, "predict_proba"):
        with np.errstate(divide="ignore"):
            return -np.log(np.asarray(estimator.predict_proba(X), float)[rows, columns])
    scores = np.asarray(estimator.decision_function(X), float)
    if scores.ndim == 1:  # of the second of two classes
        scores = np.stack([-scores, scores], axis=1) / 2
    true = scores[rows, columns]
    scores[rows, columns] = -np.inf
    return scores.max(axis=1) - true


def confusion_pairs(y_true, y_pred, *, n_pairs=None):
    """Return which classes are taken for which, the most frequent confusions first.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        The true classes.
    y_pred : array-like of shape (n_samples,)
        The predicted ones.
    n_pairs : int, default=None
        The number of pairs wanted; all that there are by default.

    Returns
    -------
    list of (true, predicted, int)
        The true class, the one that it was taken for, and how often.

    Raises
    ------
    ValueError
        If the two differ in length, or are not classes.

    See Also
    --------
    sklearn.metrics.ConfusionMatrixDisplay : The picture of all pairs.

    Examples
    --------
    >>> from skdeep.inspection import confusion_pairs
    >>> confusion_pairs([4, 4, 4, 7, 1], [9, 9, 4, 1, 1])
    [(4, 9, 2), (7, 1, 1)]
    """
    if n_pairs is not None:
        check_scalar(n_pairs, "n_pairs", Integral, min_val=1)
    labels = unique_labels(y_true, y_pred)
    counts = confusion_matrix(y_true, y_pred, labels=labels)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[: np.count_nonzero(counts)][:n_pairs]
    names = labels.tolist()
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(names[i], names[j], int(counts[i, j])) for i, j in pairs]


class HardestDisplay:
    """The images that an estimator finds hardest, with true and predicted class.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width, n_channels)
        The images.
    y_true, y_pred : ndarray of shape (n_samples,)
        True and predicted class or target.
    loss : ndarray of shape (n_samples,), default=None
        Their loss.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the images are drawn.
    figure_ : matplotlib Figure
        The figure.
    images_ : list of matplotlib AxesImage
        The pictures.

    See Also
    --------
    hardest_samples : Which samples they are.
    sklearn.metrics.ConfusionMatrixDisplay : Which classes are taken for which.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import HardestDisplay
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> display = HardestDisplay.from_estimator(cnn, X[200:] / 16, y[200:])  # doctest: +SKIP
    """

    def __init__(self, images, y_true, y_pred, *, loss=None):
        self.images = images
        self.y_true = y_true
        self.y_pred = y_pred
        self.loss = loss

    @classmethod
    def from_estimator(cls, estimator, X, y, *, n_samples=16, image_shape=None, ax=None, **kwargs):
        """Draw the images that a fitted estimator finds hardest.

        Parameters
        ----------
        estimator : estimator instance
            Any fitted classifier with `predict_proba` or `decision_function`, or any regressor.
        X : array-like of shape (n, ...)
            Images, as the estimator takes them.
        y : array-like of shape (n,)
            Their true classes or targets.
        n_samples : int, default=16
            The number of images wanted.
        image_shape : tuple of int, default=None
            Height and width (and channels) of an image where X has flattened rows; gray squares
            by default.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        HardestDisplay

        Raises
        ------
        NotFittedError, ValueError
            As `hardest_samples` does; also if `image_shape` does not fit.
        """
        check_is_fitted(estimator)
        images = as_images(X, image_shape)
        found = hardest_samples(estimator, X, y, n_samples=n_samples)
        display = cls(images[found.indices], found.y_true, found.y_pred, loss=found.loss)
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, n_columns=None, cmap="gray"):
        """Draw the images: above each its true class, an arrow, and the predicted class.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        n_columns : int, default=None
            Pictures in a row; about the root of their number by default.
        cmap : str or Colormap, default="gray"
            The colour map of gray images.

        Returns
        -------
        self : HardestDisplay
        """
        tiles = [[shown(image, cmap)] for image in self.images]
        pairs = zip(self.y_true, self.y_pred, strict=True)
        titles = [f"{_label(t)} → {_label(p)}" for t, p in pairs]
        name = type(self).__name__
        self.ax_, self.images_ = draw_tiles(name, tiles, titles=titles, n_columns=n_columns, ax=ax)
        self.figure_ = self.ax_.figure
        return self


def _label(value):
    """Return a class as it is, a number in few digits."""
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
