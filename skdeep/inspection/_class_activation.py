"""Where in an image a class is seen: gradient-weighted class activation maps."""

import numpy as np

from skdeep.inspection._fitted import (
    activations,
    blocks,
    find_spatial_layer,
    fitted_network,
    names,
    samples,
    spatial_layers,
)
from skdeep.inspection._resize import resized
from skdeep.inspection._scores import asked, class_titles, score_gradient, score_weights
from skdeep.inspection._tiles import draw_tiles, shown


def _map_layer(network, layer):
    """Return the number of the layer of the map: all that comes later must depend on it alone."""
    cuts = [i for i in spatial_layers(network) if i in network.cuts()]
    if layer is None and cuts:
        return cuts[-1]
    node = None if layer is None else find_spatial_layer(network, layer)
    if node not in cuts:
        raise ValueError(
            f"layer={layer!r} is bypassed by other layers, so that the score does not depend on "
            f"its maps alone; take one of {names(network, cuts)}"
        )
    return node


def class_activation_map(estimator, X, *, layer=None, target=None, relu=True, upsample=True):
    """Return where in images a class is seen (Grad-CAM).

    The feature maps of a layer are summed, each weighed by the mean of the derivatives of the
    class's raw score by its cells [1]_. For a network whose last layers are a global average
    pooling and the output, that is the class activation map of [2]_, divided by the number of
    cells.

    Parameters
    ----------
    estimator : estimator instance
        A fitted network, or a Pipeline or search that ends in one.
    X : array-like of shape (n_samples, ...)
        The images, as the estimator takes them.
    layer : str, default=None
        The layer whose feature maps are weighed; by default the last that gives images and that
        no other bypasses.
    target : class, or array-like of shape (n_samples,) of classes, default=None
        The class that is looked for; the predicted one by default. For regressors the number of
        the output.
    relu : bool, default=True
        Whether what speaks against the class is left out: negative sums are zero.
    upsample : bool, default=True
        Whether the maps are brought to the images' size by linear interpolation.

    Returns
    -------
    ndarray of shape (n_samples, height, width)
        The maps, of the network's dtype.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it has no network.
    ValueError
        If there is no such layer or class, no layer gives images, or X is not as in the fit.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
       Gradient-based Localization", ICCV 2017.
    .. [2] B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import class_activation_map
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> class_activation_map(cnn, X[:3] / 16, target=7).shape
    (3, 8, 8)
    """
    network, inner = fitted_network(estimator)
    node = _map_layer(network, layer)
    x, _ = samples(estimator, X)
    weights = score_weights(inner, asked(inner, x, target))
    height, width, _ = network.shapes[node + 1]
    out = np.empty((len(x), height, width), x.dtype)
    for part in blocks(network, len(x)):
        maps = activations(network, x[part], node)
        derivatives = score_gradient(network, maps, weights[part], start=node + 1)
        importance = derivatives.mean(axis=(1, 2), keepdims=True)
        out[part] = (importance * maps).sum(axis=-1)
    if relu:
        np.maximum(out, 0, out=out)
    return resized(out, network.shapes[0][:2]) if upsample else out


class ClassActivationDisplay:
    """Images, and below each where a class is seen in it.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width, n_channels)
        The images.
    maps : ndarray of shape (n_samples, height, width)
        What `class_activation_map` returns for them.
    titles : list of str, default=None
        What stands above each image.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the images are drawn.
    figure_ : matplotlib Figure
        The figure.
    images_ : list of matplotlib AxesImage
        The pictures: those of the images, then for each the image again and its map.

    See Also
    --------
    class_activation_map : The values.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import ClassActivationDisplay
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> display = ClassActivationDisplay.from_estimator(cnn, X[:5] / 16)  # doctest: +SKIP
    """

    def __init__(self, images, maps, *, titles=None):
        self.images = images
        self.maps = maps
        self.titles = titles

    @classmethod
    def from_estimator(cls, estimator, X, *, layer=None, target=None, ax=None, **kwargs):
        """Draw where a fitted network sees a class in images.

        Parameters
        ----------
        estimator : estimator instance
            A fitted network, or a Pipeline or search that ends in one.
        X : array-like of shape (n_samples, ...)
            The images, as the estimator takes them.
        layer : str, default=None
            The layer, as in `class_activation_map`.
        target : class, or array-like of shape (n_samples,) of classes, default=None
            The class that is looked for; the predicted one by default.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        ClassActivationDisplay

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As `class_activation_map` does.
        """
        maps = class_activation_map(estimator, X, layer=layer, target=target)
        _, inner = fitted_network(estimator)
        x, _ = samples(estimator, X)
        titles = class_titles(inner, asked(inner, x, target))
        return cls(x, maps, titles=titles).plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, alpha=0.5, cmap="jet"):
        """Draw the images, and their maps over them, each map with its own scale.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        alpha : float, default=0.5
            How much the maps cover the images.
        cmap : str or Colormap, default="jet"
            The maps' colour map.

        Returns
        -------
        self : ClassActivationDisplay
        """
        tiles = [[shown(image)] for image in self.images]
        for image, values in zip(self.images, self.maps, strict=True):
            options = dict(vmin=0, vmax=float(values.max()) or 1.0, cmap=cmap, alpha=alpha)
            tiles.append([shown(image), (values, options)])
        n = len(self.images)
        titles = None if self.titles is None else [*self.titles, *[""] * n]
        name = type(self).__name__
        self.ax_, self.images_ = draw_tiles(name, tiles, titles=titles, n_columns=n, ax=ax)
        self.figure_ = self.ax_.figure
        return self
