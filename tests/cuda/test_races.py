"""The simulator finds races, and none where barriers order the threads."""

import numpy as np
import pytest

from skdeep._kernels.cuda._numba import SIMULATED, cuda, float32, kernel, uint32
from skdeep._kernels.cuda.program import Mirror, Twin

pytestmark = pytest.mark.skipif(not SIMULATED, reason="races are looked for in the simulator")


def _neighbour(barrier):
    @kernel("f f", threads=64)
    def body(x, out):
        t = uint32(cuda.threadIdx.x)
        shared = cuda.shared.array(64, float32)
        shared[t] = x[t]
        if barrier == "block":
            cuda.syncthreads()
        if barrier == "warp":
            cuda.syncwarp()
        out[t] = shared[uint32(63) - t] if barrier != "warp" else shared[t ^ uint32(1)]

    return body


@kernel("f", threads=32)
def _all_write_one(out):
    out[0] = float32(cuda.threadIdx.x)


@kernel("f f", threads=32)
def _blocks_read_each_other(x, out):
    b = uint32(cuda.blockIdx.x)
    if cuda.threadIdx.x == 0:
        x[b] = float32(b)
        out[b] = x[uint32(1) - b]


@pytest.fixture
def watched(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "finds_races", True)
    return gpu


def run(gpu, body, grid, *arrays):
    mirror = Mirror(gpu)
    mirror.compile([(Twin(lambda *a: [body(grid, *a)], "test"), arrays)])()
    mirror.pull(*arrays)


@pytest.mark.parametrize("barrier", ["block", "warp"])
def test_barriers_order_threads(watched, barrier):
    x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    run(watched, _neighbour(barrier), 1, x, out)
    expected = x[::-1] if barrier == "block" else x.reshape(-1, 2)[:, ::-1].ravel()
    np.testing.assert_array_equal(out, expected)


def test_without_a_barrier_neighbours_race(watched):
    with pytest.raises(RuntimeError, match=r"body: thread \d+ of block .* no barrier"):
        run(watched, _neighbour(None), 1, np.zeros(64, np.float32), np.zeros(64, np.float32))


def test_two_threads_that_write_one_element_race(watched):
    with pytest.raises(RuntimeError, match="writes what"):
        run(watched, _all_write_one, 1, np.zeros(1, np.float32))


def test_blocks_race_whatever_their_barriers(watched):
    with pytest.raises(RuntimeError, match="no barrier"):
        run(watched, _blocks_read_each_other, 2, *np.zeros((2, 2), np.float32))
