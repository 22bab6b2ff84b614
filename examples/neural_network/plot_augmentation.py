"""
==========================================================
What does a net see of an image that is never twice alike?
==========================================================

:class:`~skdeep.training.Augmentation` shows a network another random version of each image at
every epoch: turned, shifted, recoloured, partly covered, mixed with another. Which versions are
they, what do they cost, and do they help where images are few?
"""

# %%
# Two photographs, and one kind of change at a time. The draws depend on the seed, the epoch and
# the place of the image alone: the same call gives the same picture again.
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skdeep.training.augmentation import Augmentation

photographs = np.stack(load_sample_images().images)[:, 30:370:2, 180:520:2]
kinds = {
    "rotation=20, shift=0.1": Augmentation(rotation=20, shift=0.1),
    "zoom=(1, 2),\nhorizontal_flip": Augmentation(zoom=(1.0, 2.0), horizontal_flip=True),
    'shear=25, fill="edge"': Augmentation(shear=25, fill="edge"),
    "crop=30": Augmentation(crop=30),
    "brightness=0.5,\ncontrast=0.5": Augmentation(brightness=0.5, contrast=0.5),
    "saturation=1, hue=0.5": Augmentation(saturation=1.0, hue=0.5),
    "cutout=0.4, fill=128": Augmentation(cutout=0.4, fill=128),
    "mixup=1": Augmentation(mixup=1.0),
}
everything = Augmentation(
    rotation=10, shift=0.1, zoom=0.2, horizontal_flip=True, brightness=0.3, contrast=0.3, hue=0.05
)
for spec in kinds.values():
    again = [spec.augment(photographs, epoch=1) for _ in range(2)]
    assert np.array_equal(*again)

# %%
# The cost of all geometry and colours together for an image of the size of CIFAR's, once the
# kernels are compiled: a small part of what a convolutional net takes for it.
batch = np.random.default_rng(0).random((256, 32, 32, 3), np.float32)
everything.augment(batch)
start = perf_counter()
everything.augment(batch)
print(f"{(perf_counter() - start) / len(batch) * 1e6:.0f} microseconds an image of 32 by 32 by 3")

# %%
# Outside a network: the nearest of 100 handwritten digits, and of 20 small versions of each (8 by
# 8 pixels leave no room for large ones), for twenty draws of the hundred.
X, y = load_digits(return_X_y=True)
small = Augmentation(rotation=10, shift=0.08, zoom=0.1)
accuracy = np.zeros((2, 20))
for seed in range(20):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=100, stratify=y, random_state=seed
    )
    images = X_train.reshape(-1, 8, 8, 1)
    versions = [images, *(small.augment(images, seed=seed, epoch=e) for e in range(20))]
    model = KNeighborsClassifier(n_neighbors=1)
    accuracy[0, seed] = model.fit(X_train, y_train).score(X_test, y_test)
    model.fit(np.concatenate(versions).reshape(-1, 64), np.tile(y_train, 21))
    accuracy[1, seed] = model.score(X_test, y_test)
gain = accuracy[1] - accuracy[0]
print(f"accuracy {accuracy[0].mean():.3f} as they are, {accuracy[1].mean():.3f} with versions")
print(f"gain {gain.mean():.3f} +- {gain.std(ddof=1) / np.sqrt(gain.size):.3f}")

# %%
# Each row: an image as it is, and what eight kinds of change make of it at one epoch.
figure, axes = plt.subplots(3, 9, figsize=(15, 5.6), layout="constrained")
digits = X[:2].reshape(-1, 8, 8, 1) / 16
for row, (images, which) in enumerate([(photographs, 0), (photographs, 1), (digits, 0)]):
    shown = {"as it is": images[which]}
    for name, spec in kinds.items():
        if row == 2:  # small and grey
            spec.set_params(saturation=0.0, hue=0.0, crop=min(spec.crop, 2))
            spec.set_params(fill=0.5 if spec.fill == 128 else spec.fill)
        shown[name] = spec.augment(images, seed=0, epoch=row)[which]
    for ax, (name, image) in zip(axes[row], shown.items(), strict=True):
        ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        if row == 0:
            ax.set_title(name, fontsize=9)
plt.show()
