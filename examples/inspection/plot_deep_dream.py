"""
================================================
What would a network change to see more of it?
================================================

Training changes the weights to fit the images. *Activation maximisation* turns this round: the
weights stay, and the image climbs the gradient of what a layer answers. From noise, this shows
what a channel looks for; from a photograph, what the network is reminded of ("deep dream").
"""

# %%
# A network learns scikit-learn's digits, twice as large, with pixels from -1 to 1. Every other
# digit is inverted, so that strokes tell the classes, and brightness does not.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits, load_sample_images

from skdeep.inspection import activation_maximization, feature_maps
from skdeep.layers import AveragePool2D, Conv2D, GlobalAveragePool
from skdeep.neural_network import CNNClassifier

X, y = load_digits(return_X_y=True)
X = zoom(X.reshape(-1, 8, 8) / 8 - 1, (1, 2, 2), order=1, grid_mode=True, mode="nearest")
X[1::2] *= -1
convolution = dict(padding="same", activation="relu")
cnn = CNNClassifier(
    layers=[
        ("conv1", Conv2D(16, 5, **convolution)),
        ("pool1", AveragePool2D(2)),
        ("conv2", Conv2D(32, 3, **convolution)),
        ("conv3", Conv2D(32, 5, **convolution)),
        ("pool", GlobalAveragePool()),
    ],
    learning_rate_init=0.003,
    max_iter=10,
    random_state=0,
).fit(X, y)
print(f"accuracy {cnn.score(X, y):.3f}")

# %%
# From noise: no weight of this network belongs to one pixel, so the images may be larger than the
# digits. Three octaves make large shapes first and then finer ones; random shifts and a slightly
# blurred gradient keep the images smooth. The channels of "output" are the classes; of
# "conv3" those five are taken that the digits excite most.
common = dict(clip=(-1, 1), jitter=2, blur=0.7, random_state=0)
noise = np.random.default_rng(0).normal(0, 0.2, (64, 64))
strong = feature_maps(cnn, X[::10], layer="conv3").mean(axis=(0, 1, 2)).argsort()[:-6:-1]
asked = [("output", c) for c in (0, 1, 3, 4, 7)] + [("conv3", c) for c in strong]
dreams, objectives = {}, {}
for layer, channel in asked:
    dreams[layer, channel], objectives[layer, channel] = activation_maximization(
        cnn, layer=layer, channel=channel, image=noise, n_iter=30, octaves=3, **common
    )
for channel in (0, 1, 3, 4, 7):
    climb = objectives["output", channel]
    print(f"raw score of class {channel}: {climb[0, 0]:.1f} in noise, {climb[-1, -1]:.1f} at last")

# %%
# From a photograph: the mean of all channels of "conv3" is to grow. The further it climbs, the
# less is left of the photograph, and the more strokes of digits there are.
china = load_sample_images().images[0].mean(axis=-1)[40:296:2, 100:484:2] / 127.5 - 1
shown = {"a photograph": china}
for title, n_iter, rate in (("and dreamt on", 8, 0.01), ("and on", 16, 0.03)):
    shown[title], _ = activation_maximization(
        cnn, layer="conv3", image=china, n_iter=n_iter, learning_rate=rate, octaves=4, **common
    )

# %%
figure = plt.figure(figsize=(11, 7.5), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1.15))
for ax, ((layer, channel), image) in zip(top.subplots(2, 5).flat, dreams.items(), strict=True):
    ax.imshow(image, cmap="gray", vmin=-1, vmax=1)
    ax.set_title(f"class {channel}" if layer == "output" else f"{layer}, channel {channel}")
    ax.set_axis_off()
for ax, (title, image) in zip(bottom.subplots(1, 3), shown.items(), strict=True):
    ax.imshow(image, cmap="gray", vmin=-1, vmax=1)
    ax.set_title(title)
    ax.set_axis_off()
plt.show()
