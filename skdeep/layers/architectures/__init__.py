"""Architectures of convolutional networks: lists of layers to train as they are, or to edit."""

from skdeep.layers.architectures._architecture import Architecture
from skdeep.layers.architectures._classic import alexnet, lenet5, vgg16, zfnet
from skdeep.layers.architectures._inception import FactorizedInception, googlenet, inception_v3
from skdeep.layers.architectures._resnet import resnet, resnet18, resnet34, resnet50, resnet152
from skdeep.layers.architectures._small import separable, small_cnn

__all__ = [
    "Architecture",
    "FactorizedInception",
    "alexnet",
    "googlenet",
    "inception_v3",
    "lenet5",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet152",
    "separable",
    "small_cnn",
    "vgg16",
    "zfnet",
]
