"""Many small pictures in one matplotlib Axes."""

import numpy as np


def pyplot(name):
    """Return matplotlib's pyplot for a display."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as e:
        raise ImportError(f"{name} needs matplotlib: install the extra `plot`") from e
    return plt


def as_picture(image):
    """Return an image of shape (height, width, channels) as matplotlib shows it.

    Three channels are colours, others are averaged. Colours outside of 0 to 1 are rescaled.
    """
    if image.shape[-1] != 3:
        return image.mean(axis=-1)
    low, high = float(image.min()), float(image.max())
    return image if low >= 0 and high <= 1 else rescaled(image, low, high)


def rescaled(image, low, high):
    """Return an image with ``low`` mapped to 0 and ``high`` to 1."""
    return np.clip((image - low) / ((high - low) or 1.0), 0, 1)


def limits(picture):
    """Return the extremes of a picture as matplotlib's limits of the colour map."""
    return dict(vmin=float(np.min(picture)), vmax=float(np.max(picture)))


def shown(image, cmap="gray"):
    """Return one layer of a tile: an image of shape (height, width, channels) as a photograph."""
    picture = as_picture(image)
    return picture, dict(cmap=cmap, **limits(picture))


def as_images(X, image_shape=None):
    """Return samples as images of shape (n_samples, height, width, channels)."""
    X = np.asarray(X)
    if X.ndim == 3:
        return X[..., None]
    if X.ndim != 4 and image_shape is None:
        side = int(np.sqrt(X[0].size))
        if side * side != X[0].size:
            raise ValueError(
                f"X has rows of {X[0].size} features, which make no square; give image_shape="
                "(height, width) or (height, width, channels)"
            )
        image_shape = (side, side)
    shape = X.shape[1:] if image_shape is None else tuple(image_shape)
    if len(shape) not in (2, 3) or np.prod(shape) != X[0].size:
        raise ValueError(
            f"image_shape={shape} does not fit samples of {X[0].size} features; it is (height, "
            "width) or (height, width, channels)"
        )
    return X.reshape(len(X), *(shape if len(shape) == 3 else (*shape, 1)))


def draw_tiles(name, tiles, *, titles=None, n_columns=None, ax=None):
    """Draw tiles row by row into one Axes.

    Parameters
    ----------
    name : str
        The display that asks, for errors.
    tiles : list of list of (array, dict)
        For each tile the pictures that lie on one another, with their arguments for `imshow`.
    titles : list of str, default=None
        What stands above each tile.
    n_columns : int, default=None
        Tiles in a row; about the root of their number by default.
    ax : matplotlib Axes, default=None
        Where to draw; a new figure by default.

    Returns
    -------
    ax : matplotlib Axes
    artists : list of matplotlib AxesImage
    """
    plt = pyplot(name)
    n_columns = n_columns or int(np.ceil(np.sqrt(len(tiles))))
    n_rows = -(-len(tiles) // n_columns)
    # A tile is 1 wide; the gaps are parts of that, and wider where a title stands in them.
    height = max(tile[0][0].shape[0] / tile[0][0].shape[1] for tile in tiles)
    across, down = 1.08, height + (0.08 if titles is None else 0.3)
    if ax is None:
        size = np.clip(n_columns * across, 2, 14), np.clip(n_rows * down, 1.5, 14)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    artists = []
    for i, tile in enumerate(tiles):
        x, y = i % n_columns * across, i // n_columns * down
        for picture, options in tile:
            extent = (x, x + 1, y + picture.shape[0] / picture.shape[1], y)
            options = {"interpolation": "nearest", **options}
            artists.append(ax.imshow(picture, extent=extent, **options))
        frame = dict(fill=False, edgecolor="0.5", linewidth=0.5)  # white on white is seen, too
        ax.add_patch(plt.Rectangle(extent[::3], 1, extent[2] - extent[3], **frame))
        if titles is not None and titles[i]:
            kw = dict(ha="center", va="bottom", fontsize="small")
            ax.text(x + 0.5, y - 0.04, titles[i], **kw)
    ax.set(
        xlim=(-0.04, n_columns * across - 0.04),
        ylim=((n_rows - 1) * down + height + 0.04, height - down + 0.04),
        aspect="equal",
    )
    ax.set_axis_off()
    return ax, artists
