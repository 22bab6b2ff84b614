"""
===============================================
What does a filter of ones in a line find?
===============================================

A convolutional layer slides small filters over an image: each cell of its output, a *feature
map*, is the sum of the pixels around it, weighed by the filter. A filter with ones in its middle
column, and zeros elsewhere, answers to vertical lines; one with ones in its middle row, to
horizontal ones. A network finds its filters by training; here two are made by hand.
"""

# %%
# Two photographs, four-dimensional: samples, height, width, channels. The filters are, too:
# height, width, input channels, filters. They are divided by the number of their ones, so that
# the maps have the range of the pixels.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from skdeep.autodiff.ops import conv2d
from skdeep.inspection import FilterDisplay
from skdeep.layers import Conv2D

images = np.stack(load_sample_images().images).astype(np.float32) / 255
filters = np.zeros((7, 7, 3, 2), np.float32)
filters[:, 3, :, 0] = 1  # the middle column
filters[3, :, :, 1] = 1  # the middle row
filters /= filters.sum(axis=(0, 1, 2))
print("Images:", images.shape, " filters:", filters.shape)

# %%
# One call convolves all images with all filters. With zeros around the images ("same") the maps
# are as large as they; without ("valid"), three cells are lost on each side. A stride of 2 takes
# every other cell.
maps = conv2d(images, filters, padding="same")
for options in (dict(padding="same"), dict(padding="valid"), dict(padding="same", stride=2)):
    layer = Conv2D(2, 7, **options).build(images.shape[1:])
    assert conv2d(images, filters, **options).shape[1:] == layer.output_shape
    print(options, "->", layer.output_shape)

# %%
# The vertical filter blurs along columns: vertical lines stay sharp, and horizontal ones vanish;
# the horizontal filter does the opposite. The parts in the lowest row show it best: columns and
# tiles in the one map, eaves and beams in the other.
figure, axes = plt.subplots(3, 4, figsize=(13, 8), layout="constrained")
for column, ax in enumerate(axes[0, ::3]):
    kind = ("vertical", "horizontal")[column]
    FilterDisplay(filters[..., column : column + 1]).plot(ax=ax, channels="mean")
    ax.set_title(f"the {kind} filter")
detail = slice(150, 300), slice(120, 320)
for row, image in enumerate(images):
    axes[0, 1 + row].imshow(image)
    axes[0, 1 + row].set_title(("china", "flower")[row])
    pictures = {"vertical": maps[row, ..., 0], "horizontal": maps[row, ..., 1]}
    for column, (kind, picture) in enumerate(pictures.items()):
        axes[1, 2 * row + column].imshow(picture, cmap="gray")
        axes[1, 2 * row + column].set_title(f"feature map: {kind}")
        axes[2, 2 * row + column].imshow(picture[detail], cmap="gray")
        axes[2, 2 * row + column].set_title(f"a part of it: {kind}")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
