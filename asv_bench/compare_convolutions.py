"""Measure convolutions, pooling and whole networks against torch, in one run.

The contenders take turns: every round runs each of them once, and the medians of the rounds are
reported, so that a slow moment of the machine falls on all of them alike. One thread each,
float32. torch runs in both of its layouts, and the better one counts.

    python asv_bench/compare_convolutions.py
    python asv_bench/compare_convolutions.py --quick
    python asv_bench/compare_convolutions.py --only networks memory
    python asv_bench/compare_convolutions.py --write docs/benchmarks.md
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

# Sets the number of threads, hence before NumPy.
from benchmarks import common  # isort: skip

import compare_networks as networks
import numpy as np
import torch
import torch.nn.functional as F
from benchmarks import torch_nets

from skdeep.autodiff._program import record
from skdeep.autodiff.ops import conv as ops
from skdeep.autodiff.ops import pool as pools
from skdeep.layers import AveragePool2D, Conv2D, Dense, Flatten, MaxPool2D, architectures
from skdeep.neural_network import CNNClassifier

BEGIN, END = "<!-- convolutions: begin -->", "<!-- convolutions: end -->"

#: name: batch, channels, filters, height, kernel, stride, padding, groups
LAYERS = {
    "64 to 64, 3x3, 56x56": (32, 64, 64, 56, 3, 1, 1, 1),
    "128 to 128, 3x3, 28x28": (32, 128, 128, 28, 3, 1, 1, 1),
    "256 to 256, 3x3, 14x14": (32, 256, 256, 14, 3, 1, 1, 1),
    "512 to 512, 3x3, 7x7": (32, 512, 512, 7, 3, 1, 1, 1),
    "32 to 64, 3x3, 28x28": (64, 32, 64, 28, 3, 1, 1, 1),
    "64 to 64, 3x3, 32x32": (64, 64, 64, 32, 3, 1, 1, 1),
    "512 to 512, 3x3, 4x4": (64, 512, 512, 4, 3, 1, 1, 1),
    "3 to 64, 7x7 stride 2, 224x224": (32, 3, 64, 224, 7, 2, 3, 1),
    "64 to 256, 1x1, 56x56": (32, 64, 256, 56, 1, 1, 0, 1),
    "64 to 128, 3x3 stride 2, 32x32": (64, 64, 128, 32, 3, 2, 1, 1),
    "64 to 128, 1x1 stride 2, 32x32": (64, 64, 128, 32, 1, 2, 0, 1),
    "1 to 32, 3x3, 28x28": (64, 1, 32, 28, 3, 1, 1, 1),
    "1 to 6, 5x5, 28x28": (64, 1, 6, 28, 5, 1, 2, 1),
    "6 to 16, 5x5, 14x14": (64, 6, 16, 14, 5, 1, 0, 1),
    "depthwise 3x3, 128 channels, 28x28": (64, 128, 128, 28, 3, 1, 1, 128),
}
PASSES = ("forward", "input gradient", "weight gradient")


def interleave(functions, rounds, least):
    """Median seconds of a call of each function, the functions taking turns."""
    calls, times = {}, {name: [] for name in functions}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        calls[name] = max(1, int(least / max(time.perf_counter() - start, 1e-9)))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                function()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


def recorded(f, args):
    """Return a compiled program that computes f into fixed memory, and the output."""
    out = np.zeros_like(f(*args))
    return record(f, args, out).compile(), out


def layer_contenders(shape):
    """Return {pass: {contender: call}}, and multiply-adds of a pass."""
    n, c, k, h, r, stride, pad, groups = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, n, h, h, c), np.float32)
    w = rng.standard_normal((1, r, r, c // groups, k), np.float32) * np.float32(0.05)
    kw = dict(stride=stride, padding=pad, groups=groups)
    y = ops.conv(x, w, **kw)
    ct = rng.standard_normal(y.shape, np.float32)
    forward = recorded(lambda x, w: ops.conv(x, w, **kw), (x, w))[0]

    def pull(which):
        from skdeep.autodiff import vjp

        def f(x, w, ct):
            fixed = (
                (lambda v: ops.conv(v, w, **kw)) if which == 0 else lambda v: ops.conv(x, v, **kw)
            )
            return vjp(fixed, (x, w)[which])[1](ct)[0]

        return recorded(f, (x, w, ct))[0]

    table = {p: {"skdeep": f} for p, f in zip(PASSES, (forward, pull(0), pull(1)), strict=True)}
    for form in ("nchw", "nhwc"):
        memory = torch.channels_last if form == "nhwc" else torch.contiguous_format
        tx = torch.from_numpy(x[0].transpose(0, 3, 1, 2).copy()).contiguous(memory_format=memory)
        tw = torch.from_numpy(w[0].transpose(3, 2, 0, 1).copy()).contiguous(memory_format=memory)
        tct = torch.from_numpy(ct[0].transpose(0, 3, 1, 2).copy()).contiguous(memory_format=memory)
        table["forward"][form] = partial(F.conv2d, tx, tw, None, stride, pad, 1, groups)
        for p, mask in ((PASSES[1], [True, False, False]), (PASSES[2], [False, True, False])):
            table[p][form] = partial(
                torch.ops.aten.convolution_backward,
                tct, tx, tw, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups, mask,
            )  # fmt: skip
    return table, y.size * (c // groups) * r * r


def layer_table(rounds):
    lines = [
        "| convolution | pass | skdeep, ms | torch, ms | times torch | GFLOP/s |",
        "|" + " --- |" * 6,
    ]
    for name, shape in LAYERS.items():
        contenders, work = layer_contenders(shape)
        for p, functions in contenders.items():
            if p == "input gradient" and shape[1] <= 3:
                continue  # of the first layer: nobody needs it
            with torch.inference_mode():
                seconds = interleave(functions, rounds, 0.02)
            best = min(seconds["nchw"], seconds["nhwc"])
            ours = seconds["skdeep"]
            lines.append(
                f"| {name} | {p} | {ours * 1e3:.2f} | {best * 1e3:.2f} | {best / ours:.2f} | "
                f"{2 * work / ours / 1e9:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def pool_table(rounds):
    """2x2 pooling at (64, 28, 28, 64)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 64, 28, 28, 64), np.float32)
    ct = rng.standard_normal((1, 64, 14, 14, 64), np.float32)
    from skdeep.autodiff import vjp

    lines = ["| pooling 2x2, 64 x 28x28x64 | skdeep, ms | torch, ms | times torch |"]
    lines.append("|" + " --- |" * 4)
    tensors = {}
    for form in ("nchw", "nhwc"):
        memory = torch.channels_last if form == "nhwc" else torch.contiguous_format
        tensors[form] = [
            torch.from_numpy(a[0].transpose(0, 3, 1, 2).copy()).contiguous(memory_format=memory)
            for a in (x, ct)
        ]
    for name, ours in (("max", pools.max_pool), ("average", pools.average_pool)):
        f = partial(ours, size=2)
        both = {
            "forward": {"skdeep": recorded(f, (x,))[0]},
            "forward and backward": {
                "skdeep": recorded(lambda x, ct, f=f: vjp(f, x)[1](ct)[0], (x, ct))[0]
            },
        }
        pool = F.max_pool2d if name == "max" else F.avg_pool2d
        for form, (tx, tct) in tensors.items():
            leaf = tx.detach().requires_grad_()

            def step(pool=pool, leaf=leaf, tct=tct):
                leaf.grad = None
                pool(leaf, 2).backward(tct)

            both["forward"][form] = partial(pool, tx, 2)
            both["forward and backward"][form] = step
        for p, functions in both.items():
            seconds = interleave(functions, rounds, 0.02)
            best, mine = min(seconds["nchw"], seconds["nhwc"]), seconds["skdeep"]
            lines.append(
                f"| {name}, {p} | {mine * 1e3:.2f} | {best * 1e3:.2f} | {best / mine:.2f} |"
            )
    return lines


def small_layers():
    return [
        ("conv1", Conv2D(32, 3, activation="relu")),
        ("conv2", Conv2D(64, 3, activation="relu")),
        ("pool", MaxPool2D(2)),
        ("flat", Flatten()),
        ("fc", Dense(128, activation="relu")),
    ]


def lenet_layers():
    return [
        ("c1", Conv2D(6, 5, padding=2, activation="relu")),
        ("s2", AveragePool2D(2)),
        ("c3", Conv2D(16, 5, activation="relu")),
        ("s4", AveragePool2D(2)),
        ("flat", Flatten()),
        ("f5", Dense(120, activation="relu")),
        ("f6", Dense(84, activation="relu")),
    ]


def resnet_layers():
    return list(architectures.resnet18((32, 32, 3), 10))


#: name: layers, image shape, training images, epochs
NETWORKS = {
    "lenet5": (lenet_layers, (28, 28, 1), 6_400, 1),
    "small_cnn": (small_layers, (28, 28, 1), 1_920, 1),
    "resnet18": (resnet_layers, (32, 32, 3), 384, 1),
}


def network_data(name):
    _, shape, n, _ = NETWORKS[name]
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, *shape), np.float32), rng.permutation(np.arange(n) % 10)


def make(name, batch, epochs):
    return CNNClassifier(
        layers=NETWORKS[name][0](), batch_size=batch, max_iter=epochs, random_state=0,
        n_iter_no_change=np.inf,
    )  # fmt: skip


def network_table(names, rounds, batch=64):
    lines = [
        "| network, batch 64 | work | skdeep | torch | times torch |",
        "|" + " --- |" * 5,
    ]
    for name in names:
        X, y = network_data(name)
        epochs = NETWORKS[name][3]
        models = {"skdeep": make(name, batch, epochs)}
        for form in (False, True):
            key = "nhwc" if form else "nchw"
            models[key] = torch_nets.TorchCNN(name, batch, epochs, form)
        for work, method in (("training", "fit"), ("prediction", "decision_function")):
            functions = {
                k: partial(m.fit, X, y) if method == "fit" else partial(m.decision_function, X)
                for k, m in models.items()
            }
            seconds = interleave(functions, rounds, 0.0)
            n = len(X) * (epochs if method == "fit" else 1)
            best, ours = min(seconds["nchw"], seconds["nhwc"]), seconds["skdeep"]
            lines.append(
                f"| {name} | {work} | {n / ours:,.0f} images/s | {n / best:,.0f} images/s | "
                f"{best / ours:.2f} |"
            )
            print(lines[-1], flush=True)
    return lines


_PEAK = """
import sys
sys.path.insert(0, {folder!r})
import compare_convolutions as c
import numpy as np

def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key)) * 1024

X, y = c.network_data({name!r})
batch = 64
library = {library!r}

def make(batch):
    if library == "skdeep":
        return c.make({name!r}, batch, 1)
    return c.torch_nets.TorchCNN({name!r}, batch, 1, library == "nhwc")

make(8).fit(X[:16], np.arange(16) % 10)  # compiles, and starts the libraries' own pools
model = make(batch)
X, y = X[:128], y[:128]
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
before = status("VmRSS")
model.fit(X, y)
peak = status("VmHWM") - before
print("peak", peak, model.summary().training_bytes if library == "skdeep" else 0)
"""


def peak(name, library):
    """Return the bytes by which a training with batches of 64 raises a process's peak."""
    code = _PEAK.format(folder=str(Path(__file__).parent), name=name, library=library)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    words = done.stdout.split()
    return int(words[-2]), int(words[-1])


def memory_table(names):
    lines = [
        "| training, batch 64 | peak, MB | `summary()` says | over it | torch, MB | over torch |",
        "|" + " --- |" * 6,
    ]
    for name in names:
        ours, predicted = peak(name, "skdeep")
        theirs = min(peak(name, form)[0] for form in ("nchw", "nhwc"))
        lines.append(
            f"| {name} | {ours / 1e6:.1f} | {predicted / 1e6:.1f} | {ours / predicted:.2f} | "
            f"{theirs / 1e6:.1f} | {ours / theirs:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


_SETUP = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D
from skdeep.neural_network import CNNClassifier
rng = np.random.default_rng(0)
X, y = rng.standard_normal((640, 28, 28, 1)).astype("float32"), np.arange(640) % 10
cnn = CNNClassifier(layers=[
    ("conv1", Conv2D(32, 3, activation="relu")), ("conv2", Conv2D(64, 3, activation="relu")),
    ("pool", MaxPool2D(2)), ("flat", Flatten()), ("fc", Dense(128, activation="relu"))],
    max_iter=1, random_state=0)
"""


def start_table(rounds):
    """First fits of the small CNN, in fresh processes."""
    setup = _SETUP.format(folder=str(Path(__file__).parent))
    body = "cnn.fit(X, y); t1b = time.perf_counter()"
    cold, warm, again = [], [], []
    with tempfile.TemporaryDirectory() as kept:
        common.in_subprocess(setup, body, kept)
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as empty:
                cold.append(common.in_subprocess(setup, body, empty)[1])
            warm.append(common.in_subprocess(setup, body, kept)[1])
            again.append(common.in_subprocess(f"{setup}\ncnn.fit(X, y)", body, kept)[1])
    return [
        "| first fit of the small CNN, 640 images | seconds |",
        "| --- | --- |",
        f"| empty kernel cache | {statistics.median(cold):.2f} |",
        f"| warm kernel cache | {statistics.median(warm):.2f} |",
        f"| second fit of the process | {statistics.median(again):.2f} |",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parts = ("layers", "pooling", "networks", "memory", "start")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few rounds: a smoke run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into FILE")
    args = parser.parse_args()
    rounds = 2 if args.quick else args.rounds
    common.one_thread()
    makers = {
        "layers": lambda: layer_table(rounds),
        "pooling": lambda: pool_table(rounds),
        "networks": lambda: network_table(args.networks, rounds),
        "memory": lambda: memory_table(args.networks),
        "start": lambda: start_table(1 if args.quick else 3),
    }
    lines = [networks.machine(), ""]
    for part in args.only:
        lines += [*makers[part](), ""]
    text = "\n".join(lines).strip()
    print(text)
    if args.write:
        networks.write_between(args.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
