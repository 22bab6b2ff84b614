"""One data set as a stream of every kind, for the tests of streams."""

import gzip
import itertools
import threading

import numpy as np

from skdeep.datasets import (
    stream_arrays,
    stream_csv,
    stream_iterable,
    stream_npy,
    stream_npz,
)

#: Rows of the shards, unequal and one empty.
SHARDS = (70, 130, 1, 0, 99)
N = sum(SHARDS)
KINDS = ["array", "memmap", "npy", "npz", "csv", "gz", "samples", "blocks"]


def data():
    """Return samples whose first value is their number, labels and weights."""
    numbers = np.arange(N)
    X = np.column_stack([numbers, np.sin(numbers), numbers % 7]).astype(np.float32)
    return X, numbers % 5, (numbers % 3).astype(np.float32)


def shards():
    ends = np.cumsum((0, *SHARDS))
    for a, b in itertools.pairwise(ends):
        yield tuple(v[a:b] for v in data())


def write_csv(path, X, y, weight=None, header="a,b,c,label,weight", opener=open):
    weight = np.ones(len(X)) if weight is None else weight
    with opener(path, "wt") as f:
        f.write(f"{header}\n")
        for x, t, w in zip(X, y, weight, strict=True):
            f.write(",".join(f"{v:.9g}" for v in x) + f",{t},{w:g}\n")


def make(kind, folder, **options):
    """Return a stream of `data`, in shards where the kind has any."""
    X, y, weight = data()
    if kind == "array":
        return stream_arrays(X, y, weight, **options)
    if kind == "memmap":
        mapped = np.memmap(folder / "X.raw", np.float32, "w+", shape=X.shape)
        mapped[:] = X
        return stream_arrays(mapped, y, weight, **options)
    if kind in ("samples", "blocks"):
        return stream_iterable(
            [lambda p=part: zip(*p, strict=True) for part in shards()]
            if kind == "samples"
            else lambda: (part for part in shards() if len(part[0])),
            **options,
        )
    for i, (X, y, weight) in enumerate(shards()):
        if kind == "npy":
            for name, a in (("X", X), ("y", y), ("w", weight)):
                np.save(folder / f"{name}{i}.npy", a)
        elif kind == "npz":
            np.savez_compressed(folder / f"{i}.npz", X=X, y=y, w=weight)
        elif kind == "csv":
            write_csv(folder / f"{i}.csv", X, y, weight)
        else:
            write_csv(folder / f"{i}.csv.gz", X, y, weight, opener=gzip.open)
    if kind == "npy":
        patterns = [str(folder / f"{name}*.npy") for name in "Xyw"]
        return stream_npy(patterns[0], patterns[1], weight_paths=patterns[2], **options)
    if kind == "npz":
        return stream_npz(str(folder / "*.npz"), sample_weight="w", **options)
    paths = sorted(folder.glob("*.csv*"))
    return stream_csv(paths, target="label", sample_weight="weight", **options)


def whole(stream, epoch=0, seed=0, size=None):
    """Return the concatenated blocks of an epoch."""
    columns = zip(*stream.epoch(epoch, seed, size), strict=True)
    return tuple(None if c[0] is None else np.concatenate(c) for c in columns)


def order(stream, epoch=0, seed=0, size=None):
    return whole(stream, epoch, seed, size)[0][:, 0].astype(int)


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("skdeep-reader")]
