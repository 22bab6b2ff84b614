"""Which pixels a class's score depends on."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_scalar

from skdeep._random import generator, member_seeds
from skdeep.inspection._fitted import blocks, fitted_network, samples
from skdeep.inspection._scores import asked, class_titles, score_gradient, score_weights
from skdeep.inspection._tiles import draw_tiles, shown

METHODS = ("gradient", "smoothgrad", "integrated")


def saliency(
    estimator,
    X,
    *,
    target=None,
    method="gradient",
    n_steps=50,
    noise=0.15,
    baseline=0.0,
    random_state=None,
):
    """Return how much each pixel matters for the raw score of a class.

    Parameters
    ----------
    estimator : estimator instance
        A fitted network, or a Pipeline or search that ends in one.
    X : array-like of shape (n_samples, ...)
        The samples, as the estimator takes them.
    target : class, or array-like of shape (n_samples,) of classes, default=None
        The class whose raw score (logit or margin) is asked about; the predicted one by default.
        For regressors the number of the output.
    method : {"gradient", "smoothgrad", "integrated"}, default="gradient"
        What is returned [1]_, [2]_, [3]_:

        - "gradient": the score's derivative by each pixel;
        - "smoothgrad": its mean over images with noise, which is less ragged;
        - "integrated": its mean on the way from `baseline` to the image, times the difference of
          the two: shares of the pixels in the difference of the scores, which is their sum.
    n_steps : int, default=50
        The number of gradients that are averaged, except with "gradient".
    noise : float, default=0.15
        The standard deviation of the noise of "smoothgrad", in parts of an image's range.
    baseline : float or array-like of the shape of a sample, default=0.0
        Where the way of "integrated" begins: an image that says nothing.
    random_state : int, RandomState instance or None, default=None
        Fixes the noise.

    Returns
    -------
    ndarray of the shape of X
        The derivatives or shares, with their signs, of the network's dtype. Of a Pipeline, for
        what its last step gets.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it has no network, or a parameter is of a wrong type.
    ValueError
        If a parameter is wrong, or X is not as in the fit.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks:
       Visualising Image Classification Models and Saliency Maps", arXiv:1312.6034, 2013.
    .. [2] D. Smilkov et al., "SmoothGrad: removing noise by adding noise", arXiv:1706.03825, 2017.
    .. [3] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep Networks", ICML
       2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import saliency
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> saliency(cnn, X[:3] / 16).shape
    (3, 64)
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} must be one of {METHODS}")
    check_scalar(n_steps, "n_steps", Integral, min_val=1)
    check_scalar(noise, "noise", Real, min_val=0)
    network, inner = fitted_network(estimator)
    x, shape = samples(estimator, X)
    return _derivatives(
        inner, x, asked(inner, x, target), method, n_steps, noise,
        _baseline(baseline, network), int(member_seeds(random_state, 1)[0]),
    ).reshape(shape)  # fmt: skip


def _baseline(baseline, network):
    """Return the baseline as an image of the network's dtype."""
    image, shape = np.asarray(baseline, network.dtype), network.shapes[0]
    if image.ndim and image.size != np.prod(shape):
        raise ValueError(f"baseline has shape {image.shape}; it must be a number, or as {shape}")
    return image.reshape(shape) if image.ndim else np.full(shape, image)


def _derivatives(estimator, x, numbers, method, n_steps, noise, baseline, seed):
    """Return what `saliency` does, for samples as the network takes them."""
    network, weights = estimator.network_, score_weights(estimator, numbers)
    out = np.empty_like(x)
    for part in blocks(network, len(x)):
        images, points = x[part], [x[part]]
        if method == "smoothgrad":
            points = _noisy(images, n_steps, noise, seed)
        elif method == "integrated":
            points = _between(baseline, images, n_steps)
        gradients = (score_gradient(network, point, weights[part]) for point in points)
        mean = sum(gradients) / (1 if method == "gradient" else n_steps)
        out[part] = (images - baseline) * mean if method == "integrated" else mean
    return out


def _noisy(images, n_steps, noise, seed):
    """Give images with noise, the same for every image, so that none depends on the others."""
    axes = tuple(range(1, images.ndim))
    spread = noise * (images.max(axis=axes, keepdims=True) - images.min(axis=axes, keepdims=True))
    for step in range(n_steps):
        draw = generator(seed, epoch=step).standard_normal(images.shape[1:])
        yield images + spread * draw.astype(images.dtype)


def _between(baseline, images, n_steps):
    """Give the midpoints of equal steps from the baseline to the images."""
    for step in range(n_steps):
        yield baseline + images.dtype.type((step + 0.5) / n_steps) * (images - baseline)


class SaliencyDisplay:
    """Images, and below each which of its pixels a class's score depends on.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width, n_channels)
        The images.
    saliency : ndarray of shape (n_samples, height, width, n_channels)
        What `saliency` returns for them.
    titles : list of str, default=None
        What stands above each image.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the images are drawn.
    figure_ : matplotlib Figure
        The figure.
    images_ : list of matplotlib AxesImage
        The pictures: first those of the images, then those of their saliency.

    See Also
    --------
    saliency : The values.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import SaliencyDisplay
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> display = SaliencyDisplay.from_estimator(cnn, X[:5] / 16)  # doctest: +SKIP
    """

    def __init__(self, images, saliency, *, titles=None):
        self.images = images
        self.saliency = saliency
        self.titles = titles

    @classmethod
    def from_estimator(
        cls, estimator, X, *, target=None, ax=None, signed=False, cmap=None, **kwargs
    ):
        """Draw the saliency of images for a fitted network.

        Parameters
        ----------
        estimator : estimator instance
            A fitted network that takes images, or a Pipeline or search that ends in one.
        X : array-like of shape (n_samples, ...)
            The images, as the estimator takes them.
        target : class, or array-like of shape (n_samples,) of classes, default=None
            The class that is asked about; the predicted one by default.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        signed, cmap
            Passed to `plot`.
        **kwargs : dict
            Passed to `saliency`.

        Returns
        -------
        SaliencyDisplay

        Raises
        ------
        ValueError
            If the network does not take images, and as `saliency` does.
        """
        network, inner = fitted_network(estimator)
        if len(network.shapes[0]) != 3:
            raise ValueError(
                f"the network takes samples of shape {network.shapes[0]}, no images; fit it to "
                "images, or draw the result of `saliency`"
            )
        x, _ = samples(estimator, X)
        numbers = asked(inner, x, target)
        values = saliency(estimator, X, target=target, **kwargs).reshape(x.shape)
        display = cls(x, values, titles=class_titles(inner, numbers))
        return display.plot(ax=ax, signed=signed, cmap=cmap)

    def plot(self, *, ax=None, signed=False, cmap=None):
        """Draw images and saliency, each saliency with its own scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        signed : bool, default=False
            Whether the sum over the channels is shown, with its sign; otherwise the largest
            absolute value of the channels.
        cmap : str or Colormap, default=None
            The colour map of the saliency: "RdBu_r" where it is signed, "hot" otherwise.

        Returns
        -------
        self : SaliencyDisplay
        """
        cmap = cmap or ("RdBu_r" if signed else "hot")
        tiles = [[shown(image)] for image in self.images]
        for values in self.saliency:
            picture = values.sum(axis=-1) if signed else np.abs(values).max(axis=-1)
            most = float(np.abs(picture).max()) or 1.0
            options = dict(vmin=-most if signed else 0, vmax=most)
            tiles.append(
                [(picture, dict(cmap=cmap or ("RdBu_r" if signed else "hot"), **options))]
            )
        n = len(self.images)
        titles = None if self.titles is None else [*self.titles, *[""] * n]
        name = type(self).__name__
        self.ax_, self.images_ = draw_tiles(name, tiles, titles=titles, n_columns=n, ax=ax)
        self.figure_ = self.ax_.figure
        return self
