"""The peer: torch on the same GPU, where it is installed; in a rehearsal torch on the processor.

Importing this module imports no torch.
"""

from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise

import numpy as np


class Peer:
    """torch, as it is fastest without compiling: captured kernels, eager training loops.

    Parameters
    ----------
    place : {"cuda", "cpu"}
        Where it computes.
    """

    def __init__(self, place):
        import torch

        self.torch, self.place = torch, place
        torch.backends.cudnn.benchmark = True
        # The legacy names: known to every version, and not to be mixed with the later ones.
        self._tf32 = torch.backends.cuda.matmul, torch.backends.cudnn
        self._allow_tf32(False)

    @classmethod
    def find(cls, rehearse):
        """Return the peer; None where torch, or its way to the GPU, is missing."""
        if find_spec("torch") is None:
            return None
        import torch

        if not rehearse and not torch.cuda.is_available():
            return None
        return cls("cpu" if rehearse else "cuda")

    def _allow_tf32(self, on):
        for part in self._tf32:
            part.allow_tf32 = on

    @contextmanager
    def precision(self, name):
        """Multiply float32 in TF32 for a while, if `name` is "tf32"."""
        self._allow_tf32(name == "tf32")
        try:
            yield
        finally:
            self._allow_tf32(False)

    def normal(self, *shape, dtype="float32"):
        """Return a tensor of normal numbers."""
        return self.torch.randn(*shape, device=self.place).to(getattr(self.torch, dtype))

    def empty(self, *shape, dtype="float32"):
        """Return a tensor of anything."""
        return self.torch.empty(*shape, device=self.place, dtype=getattr(self.torch, dtype))

    def synchronize(self):
        """Return when everything that was asked is done."""
        if self.place == "cuda":
            self.torch.cuda.synchronize()

    def run(self, f, repeats=1):
        """Return ``run(n)``, which replays `repeats` calls of f and returns when they are done."""
        replay = self._captured(f, repeats) if self.place == "cuda" else f

        def run(n):
            for _ in range(n):
                replay()
            self.synchronize()

        run.keep = f  # a graph knows addresses, and keeps nothing alive
        return run

    def _captured(self, f, repeats):
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode():
            with torch.cuda.stream(stream):
                for _ in range(3):  # libraries choose their algorithms
                    f()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Relaxed, because memory of ours may be given back meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="relaxed"):
                for _ in range(repeats):
                    f()
        return graph.replay


# ---- networks ---------------------------------------------------------------------------------


def mlp(sizes):
    """Return a multilayer perceptron."""
    from torch import nn

    modules = []
    for n_in, n_out in pairwise(sizes):
        modules += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def small_cnn(size, filters, units, n_classes):
    """Return two convolutions, a pooling and two dense layers for square grey images."""
    from torch import nn

    first, second = filters
    cells = (size - 4) // 2
    return nn.Sequential(
        nn.Conv2d(1, first, 3), nn.ReLU(), nn.Conv2d(first, second, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(second * cells * cells, units), nn.ReLU(),
        nn.Linear(units, n_classes),
    )  # fmt: skip


def resnet18():
    """Return the residual net of 18 layers for images of 32 x 32."""
    from benchmarks import torch_nets

    return torch_nets.resnet18()


class Loop:
    """The training that one writes by hand: Adam, minibatches gathered by index on the device.

    Parameters
    ----------
    peer : Peer
        torch.
    make : callable
        Returns the network.
    X, y : ndarray
        The samples and their classes; images are (n, height, width, channels). They are copied
        to the device before any clock starts.
    batch_size, epochs : int
        The steps.
    precision : {"float32", "tf32"}
        What products and convolutions multiply in.
    channels_last : bool
        The layout of images and filters.
    fused : bool
        Whether Adam is one kernel.
    """

    def __init__(
        self, peer, make, X, y, batch_size, epochs, precision, channels_last=False, fused=True
    ):
        self.peer, self.make, self.precision, self.fused = peer, make, precision, fused
        self.batch_size, self.epochs, self.host = batch_size, epochs, X
        torch = peer.torch
        self.form = torch.channels_last if channels_last else torch.contiguous_format
        self.X, self.y = self._tensor(X), torch.from_numpy(y).to(peer.place)

    def _tensor(self, X):
        X = self.peer.torch.from_numpy(X).to(self.peer.place)
        if X.ndim == 4:
            X = X.permute(0, 3, 1, 2).contiguous(memory_format=self.form)
        return X

    def fit(self):
        """Train a new network."""
        torch = self.peer.torch
        torch.manual_seed(0)
        net = self.make().to(self.peer.place)
        if self.host.ndim == 4:
            net = net.to(memory_format=self.form)
        self.net = net.train()
        fused = True if self.fused and self.peer.place == "cuda" else None
        optimizer = torch.optim.Adam(net.parameters(), fused=fused)
        X, y, size = self.X, self.y, self.batch_size
        with self.peer.precision(self.precision):
            for _ in range(self.epochs):
                order = torch.randperm(len(X), device=self.peer.place)
                for i in range(0, len(X), size):
                    index = order[i : i + size]
                    optimizer.zero_grad(set_to_none=True)
                    loss = torch.nn.functional.cross_entropy(net(X[index]), y[index])
                    loss.backward()
                    optimizer.step()
        self.peer.synchronize()

    def predict(self, block=4096):
        """Return the raw outputs of all samples, from the host and to it."""
        torch = self.peer.torch
        self.net.eval()
        with torch.inference_mode(), self.peer.precision(self.precision):
            parts = [
                self.net(self._tensor(self.host[i : i + block])).cpu().numpy()
                for i in range(0, len(self.host), block)
            ]
        return np.concatenate(parts)
