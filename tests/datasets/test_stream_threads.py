"""Readers end with their iterator, and memory is bounded."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from skdeep.datasets import stream_arrays, stream_iterable
from tests.datasets.streams import make, order, readers, whole

ROOT = Path(__file__).resolve().parent.parent.parent


class Broken(Exception):
    """An exception that only a user has."""


@pytest.mark.parametrize("n_readers", [1, 4])
def test_a_readers_exception_reaches_the_consumer(n_readers, tmp_path):
    seen = []

    def transform(X):
        seen.append(len(X))
        if len(seen) > 6:
            raise Broken("out of order")
        return X

    stream = make("csv", tmp_path, transform=transform, buffer_size=20, n_readers=n_readers)
    with pytest.raises(Broken, match="out of order") as caught:
        whole(stream)
    assert re.search(r"while reading .*\.csv, line \d+", caught.value.__notes__[0])
    assert not readers()


@pytest.mark.parametrize("end", ["close", "collect", "error"])
@pytest.mark.parametrize("kind", ["array", "csv", "samples"])
def test_readers_end_with_the_iterator(kind, end, tmp_path):
    stream = make(kind, tmp_path, buffer_size=10, n_readers=4, prefetch=1)
    blocks = stream.epoch(0, 0, size=1)
    assert not readers()
    next(blocks)
    assert readers()
    if end == "close":
        blocks.close()
    elif end == "collect":
        del blocks
        gc.collect()
    else:
        with pytest.raises(Broken):
            blocks.throw(Broken)
    assert not readers()


def test_readers_end_with_an_interrupt():
    """A real signal, sent by a reader while the consumer waits for a block."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    main = threading.main_thread().ident

    def source():
        for i in range(10_000):
            if i == 2000:
                signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.2 if i == 2000 else 0)
            yield np.zeros(1), 0

    stream = stream_iterable(source, buffer_size=100)
    with pytest.raises(KeyboardInterrupt):
        for _ in stream.epoch(0, 0):
            pass
    assert not readers()


def test_iterators_at_the_same_time(tmp_path):
    stream = make("csv", tmp_path, buffer_size=30)
    first, second = stream.epoch(0, 0, size=50), stream.epoch(1, 0, size=50)
    pairs = [(a[0], b[0]) for a, b in zip(first, second, strict=True)]
    for i in range(2):
        got = np.concatenate([p[i] for p in pairs])[:, 0]
        np.testing.assert_array_equal(got, order(stream, i))


PROGRAM = """
import resource
import sys
import numpy as np
from skdeep.datasets import stream_arrays

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

n, d = 50_000, 1024
X = np.memmap(sys.argv[1], np.float32, sys.argv[2], shape=(n, d))
stream = stream_arrays(X, np.arange(n), buffer_size=2000)
next(stream.epoch(0, 0))
before = peak()
seen = sum(len(block) for block, _, _ in stream.epoch(0, 0))
print(seen, peak() - before)
left = stream.epoch(1, 0)
next(left)  # and so it is left: the interpreter must end all the same
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in Linux's units")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_memory_is_bounded(mode, tmp_path):
    """200 MB pass through a buffer of 8 MB: the file's pages are let go of on the way."""
    path = tmp_path / "X.raw"
    with open(path, "wb") as f:
        f.truncate(50_000 * 1024 * 4)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(path), mode],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen, growth = done.stdout.split()
    assert int(seen) == 50_000
    assert float(growth) < 60


def test_what_was_written_to_a_copy_on_write_map_stays(tmp_path):
    path = tmp_path / "X.raw"
    with open(path, "wb") as f:
        f.truncate(4000 * 1024 * 4)
    X = np.memmap(path, np.float32, "c", shape=(4000, 1024))
    X[:] = 1
    for _ in range(2):
        got = whole(stream_arrays(X, buffer_size=500))[0]
        assert got.min() == got.max() == 1
