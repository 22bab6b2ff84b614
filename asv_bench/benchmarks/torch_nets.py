"""The peers of the convolutional networks: the same nets in torch, and its training loop."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity()
        if stride != 1 or c_in != c_out:
            project = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def resnet18():
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    blocks, c_in = [], 64
    for c_out, stride in (
        ((64, 1), (64, 1), (128, 2), (128, 1))
        + ((256, 2), (256, 1))
        + (
            (512, 2),
            (512, 1),
        )
    ):
        blocks.append(Block(c_in, c_out, stride))
        c_in = c_out
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


MAKERS = {"lenet5": lenet5, "small_cnn": small_cnn, "resnet18": resnet18}


class TorchCNN:
    """The loop that one writes by hand: Adam, minibatches gathered by index, one layout."""

    def __init__(self, name, batch_size, epochs, channels_last):
        self.name, self.batch_size, self.epochs = name, batch_size, epochs
        self.form = torch.channels_last if channels_last else torch.contiguous_format

    def tensor(self, X):
        return torch.from_numpy(X.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=self.form)

    def fit(self, X, y):
        torch.manual_seed(0)
        self.model = MAKERS[self.name]().to(memory_format=self.form).train()
        optimizer, X, y = (
            torch.optim.Adam(self.model.parameters()),
            self.tensor(X),
            torch.from_numpy(y),
        )
        for _ in range(self.epochs):
            order = torch.randperm(len(X))
            for i in range(0, len(X), self.batch_size):
                index = order[i : i + self.batch_size]
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(self.model(X[index]), y[index]).backward()
                optimizer.step()
        return self

    def decision_function(self, X):
        self.model.eval()
        with torch.inference_mode():
            X = self.tensor(X)
            parts = [
                self.model(X[i : i + self.batch_size]) for i in range(0, len(X), self.batch_size)
            ]
        return np.concatenate([p.numpy() for p in parts])
