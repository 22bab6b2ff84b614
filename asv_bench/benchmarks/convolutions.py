"""Convolutional networks: skdeep and torch side by side, one thread each."""

import numpy as np

from . import common

NAMES = ("lenet5", "small_cnn", "resnet18")
LIBRARIES = ("skdeep", "torch")


class _CNN:
    param_names = ("library", "network")
    params = (LIBRARIES, NAMES)
    timeout = 300

    def setup(self, library, network):
        # asv takes this as "skip".
        if not common.HAS_TORCH:
            raise NotImplementedError("torch is not installed")
        import sys
        from pathlib import Path

        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        import compare_convolutions as compare

        self.X, self.y = compare.network_data(network)
        self.X, self.y = self.X[:128], self.y[:128]
        if library == "torch":
            self.model = compare.torch_nets.TorchCNN(network, 64, 1, channels_last=True)
        else:
            self.model = compare.make(network, 64, 1)
        self.model.fit(self.X, self.y)  # compiles, which is measured elsewhere
        common.one_thread()


class FitCNN(_CNN):
    def time_fit(self, library, network):
        self.model.fit(self.X, self.y)

    def peakmem_fit(self, library, network):
        self.model.fit(self.X, self.y)


class PredictCNN(_CNN):
    def time_predict(self, library, network):
        self.model.decision_function(self.X)

    def time_predict_one(self, library, network):
        self.model.decision_function(self.X[:1])


class Augment:
    """Microseconds an image of the usual changes of CIFAR-10's images."""

    def setup(self):
        from skdeep.training import Augmentation

        self.augmentation = Augmentation(crop=4, horizontal_flip=True, cutout=8)
        self.X = np.random.default_rng(0).standard_normal((256, 32, 32, 3), np.float32)
        self.augmentation.augment(self.X)

    def time_augment(self):
        self.augmentation.augment(self.X)
