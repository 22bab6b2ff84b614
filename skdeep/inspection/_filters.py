"""The filters of a convolution as pictures."""

import numpy as np

from skdeep.inspection._fitted import find_layer, fitted_network, names
from skdeep.inspection._tiles import draw_tiles, limits, rescaled
from skdeep.layers import Conv2DTranspose

#: The names under which layers keep filters.
_KERNELS = ("weight", "depthwise")


def _kernel_name(node):
    """Return the name of a layer's array of two-dimensional filters; None if it has none."""
    for name in _KERNELS:
        if name in node.built.parameters and len(node.built.parameters[name].shape) == 4:
            return name
    return None


class FilterDisplay:
    """The filters of a convolutional layer as small pictures.

    Filters over three channels are shown in colours, others in gray. The first layer's filters
    show what a network looks for in an image; those of later layers, over many channels, say
    less (`activation_maximization` says more).

    Parameters
    ----------
    filters : ndarray of shape (height, width, n_channels, n_filters)
        The filters.
    layer : str, default=None
        The name of their layer, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the filters are drawn.
    figure_ : matplotlib Figure
        The figure.
    images_ : list of matplotlib AxesImage
        The filters' pictures.

    See Also
    --------
    FeatureMapDisplay : What the filters make of an image.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import FilterDisplay
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> display = FilterDisplay.from_estimator(cnn)  # doctest: +SKIP
    """

    def __init__(self, filters, *, layer=None):
        self.filters = filters
        self.layer = layer

    @classmethod
    def from_estimator(cls, estimator, *, layer=None, ax=None, **kwargs):
        """Draw the filters of a layer of a fitted network.

        Parameters
        ----------
        estimator : estimator instance
            A fitted network, or a Pipeline or search that ends in one.
        layer : str, default=None
            The layer's name; the first with two-dimensional filters by default. Of a separable
            convolution the depthwise filters are shown.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        FilterDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no network.
        ValueError
            If there is no such layer, or it has no two-dimensional filters.
        """
        network, _ = fitted_network(estimator)
        having = [i for i in network.wanted(training=False) if _kernel_name(network.nodes[i])]
        if not having:
            raise ValueError(
                "no layer of the network has two-dimensional filters; fit a network with "
                "convolutions, such as CNNClassifier"
            )
        node = having[0] if layer is None else find_layer(network, layer)
        if node not in having:
            raise ValueError(
                f"layer={layer!r} has no two-dimensional filters; take one of "
                f"{names(network, having)}"
            )
        filters = network.params[node][_kernel_name(network.nodes[node])][0].copy()
        if isinstance(network.nodes[node].layer, Conv2DTranspose):
            filters = filters.swapaxes(2, 3)  # which keeps its channels last
        return cls(filters, layer=network.nodes[node].name).plot(ax=ax, **kwargs)

    def _pictures(self, channels):
        """Return the filters as colour pictures, or gray ones: (n, height, width[, 3])."""
        filters = np.moveaxis(self.filters, -1, 0)
        if channels == "each":
            return np.moveaxis(filters, -1, 1).reshape(-1, *filters.shape[1:3])
        if filters.shape[-1] == 3 and channels == "auto":
            return filters
        return filters.mean(axis=-1)

    def plot(
        self, *, ax=None, channels="auto", scale="common", max_filters=64, n_columns=None,
        cmap="gray",
    ):  # fmt: skip
        """Draw the filters.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        channels : {"auto", "mean", "each"}, default="auto"
            "mean" shows a filter's mean over its input channels in gray, "each" a gray picture
            per input channel, a filter a row, and "auto" three channels as red, green and blue
            and the mean of others.
        scale : {"common", "each"}, default="common"
            Whether black and white are the extremes of all filters or of each.
        max_filters : int, default=64
            How many filters are shown at most.
        n_columns : int, default=None
            Pictures in a row; about the root of their number by default, and the number of
            input channels with ``channels="each"``.
        cmap : str or Colormap, default="gray"
            The colour map of gray pictures.

        Returns
        -------
        self : FilterDisplay

        Raises
        ------
        ValueError
            If `channels` or `scale` is unknown.
        """
        for name, value, known in (
            ("channels", channels, ("auto", "mean", "each")),
            ("scale", scale, ("common", "each")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} must be one of {known}")
        n_channels = self.filters.shape[2]
        per_filter = n_channels if channels == "each" else 1
        pictures = self._pictures(channels)[: max_filters * per_filter]
        tiles = []
        for picture in pictures:
            span = limits(pictures if scale == "common" else picture)
            if picture.ndim == 3:
                tiles.append([(rescaled(picture, span["vmin"], span["vmax"]), {})])
            else:
                tiles.append([(picture, dict(cmap=cmap, **span))])
        if n_columns is None and channels == "each":
            n_columns = n_channels
        name = type(self).__name__
        self.ax_, self.images_ = draw_tiles(name, tiles, n_columns=n_columns, ax=ax)
        if self.layer is not None:
            self.ax_.set_title(f"filters of {self.layer}")
        self.figure_ = self.ax_.figure
        return self
