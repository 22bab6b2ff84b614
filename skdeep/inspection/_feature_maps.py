"""What the layers of a network make of an image."""

import numpy as np

from skdeep.inspection._fitted import (
    activations,
    find_layer,
    find_spatial_layer,
    fitted_network,
    samples,
)
from skdeep.inspection._tiles import draw_tiles, limits, shown


def feature_maps(estimator, X, *, layer):
    """Return what a layer of a fitted network gives for samples.

    Parameters
    ----------
    estimator : estimator instance
        A fitted network, or a Pipeline or search that ends in one.
    X : array-like of shape (n_samples, ...)
        The samples, as the estimator takes them.
    layer : str
        The layer's name, such as "conv1", or "block1.conv2" for a piece of a composite layer,
        whose own name means the whole of it.

    Returns
    -------
    ndarray of shape (n_samples, height, width, n_channels)
        The feature maps, of the network's dtype; (n_samples, units) for a dense layer.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it has no network.
    ValueError
        If there is no such layer, or X is not as in the fit.

    See Also
    --------
    FeatureMapDisplay : Their picture.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import feature_maps
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> feature_maps(cnn, X[:3] / 16, layer="conv1").shape
    (3, 8, 8, 32)
    """
    network, _ = fitted_network(estimator)
    node = find_layer(network, layer)
    return activations(network, samples(estimator, X)[0], node)


class FeatureMapDisplay:
    """The feature maps that a layer makes of an image.

    Parameters
    ----------
    maps : ndarray of shape (height, width, n_channels)
        The maps.
    image : ndarray of shape (height, width, n_channels), default=None
        The image, which is shown first.
    layer : str, default=None
        The layer's name, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the maps are drawn.
    figure_ : matplotlib Figure
        The figure.
    images_ : list of matplotlib AxesImage
        The maps' pictures, the image's before them.

    See Also
    --------
    feature_maps : The maps as an array.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import FeatureMapDisplay
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> display = FeatureMapDisplay.from_estimator(
    ...     cnn, X[:1] / 16, layer="conv1"
    ... )  # doctest: +SKIP
    """

    def __init__(self, maps, *, image=None, layer=None):
        self.maps = maps
        self.image = image
        self.layer = layer

    @classmethod
    def from_estimator(cls, estimator, X, *, layer, sample=0, ax=None, **kwargs):
        """Draw what a layer of a fitted network makes of an image.

        Parameters
        ----------
        estimator : estimator instance
            A fitted network, or a Pipeline or search that ends in one.
        X : array-like of shape (n_samples, ...)
            Images, as the estimator takes them.
        layer : str
            The layer's name.
        sample : int, default=0
            The number of the image in X.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        FeatureMapDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no network.
        ValueError
            If there is no such layer, it gives no images, or X is not as in the fit.
        IndexError
            If there is no such sample.
        """
        network, _ = fitted_network(estimator)
        node = find_spatial_layer(network, layer)
        x, _ = samples(estimator, X)
        if not -len(x) <= sample < len(x):
            raise IndexError(f"sample={sample} is not among the {len(x)} samples of X")
        image = x[sample % len(x)]
        maps = activations(network, image[None], node)[0]
        return cls(maps, image=image, layer=network.nodes[node].name).plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, scale="common", max_maps=64, n_columns=None, cmap="viridis"):
        """Draw the maps.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        scale : {"common", "each"}, default="common"
            Whether the ends of the colour map are the extremes of all maps or of each.
        max_maps : int, default=64
            How many maps are shown at most.
        n_columns : int, default=None
            Pictures in a row; about the root of their number by default.
        cmap : str or Colormap, default="viridis"
            The maps' colour map.

        Returns
        -------
        self : FeatureMapDisplay

        Raises
        ------
        ValueError
            If `scale` is unknown.
        """
        if scale not in ("common", "each"):
            raise ValueError(f"scale={scale!r} must be one of ('common', 'each')")
        maps = np.moveaxis(self.maps, -1, 0)[:max_maps]
        tiles = [] if self.image is None else [[shown(self.image)]]
        for each in maps:
            span = limits(maps if scale == "common" else each)
            tiles.append([(each, dict(cmap=cmap, **span))])
        name = type(self).__name__
        self.ax_, self.images_ = draw_tiles(name, tiles, n_columns=n_columns, ax=ax)
        if self.layer is not None:
            self.ax_.set_title(f"feature maps of {self.layer}")
        self.figure_ = self.ax_.figure
        return self
