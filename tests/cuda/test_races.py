"""The simulator finds races, and none where barriers order the threads."""

import numpy as np
import pytest

from skdeep._kernels.cuda._numba import SIMULATED, cuda, device, float32, kernel, uint32
from skdeep._kernels.cuda._tensor import commit, copy1_async, wait_groups
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


def _twice(barrier):
    @device
    def neighbour(value):
        shared, t = cuda.shared.array(64, float32, 16), uint32(cuda.threadIdx.x)
        shared[t] = value
        cuda.syncthreads()
        value = shared[uint32(63) - t]
        if barrier:
            cuda.syncthreads()
        return value

    @kernel("f f", threads=64, name="twice")
    def body(x, out):
        t = uint32(cuda.threadIdx.x)
        out[t] = neighbour(neighbour(x[t]))

    return body


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


def test_a_device_function_called_again_has_the_same_shared_memory(watched):
    x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    run(watched, _twice(True), 1, x, out)
    np.testing.assert_array_equal(out, x)
    with pytest.raises(RuntimeError, match="twice: thread .* no barrier"):
        run(watched, _twice(False), 1, x, out)


@kernel("f f", threads=64)
def _slice(x, out):
    t = uint32(cuda.threadIdx.x)
    x[t] = float32(t)
    out[t] = sum(x[62:][:2])  # a run, as the simulated loads of fragments take it


def test_runs_of_elements_are_watched(watched):
    with pytest.raises(RuntimeError, match="reads what|writes what"):
        run(watched, _slice, 1, np.zeros(64, np.float32), np.zeros(64, np.float32))


_wait = wait_groups(0)


@kernel("f f u", threads=32)
def _copied_beside(x, out, waits):
    t = uint32(cuda.threadIdx.x)
    memory = cuda.shared.array(32, float32, 128)
    copy1_async(memory, t, x, t, True)
    commit()
    if waits != uint32(0):
        _wait()
    out[t] = memory[t]


@pytest.mark.parametrize("waits", [0, 1])
def test_what_a_copy_brings_is_there_when_it_was_waited_for(gpu, waits):
    x, out = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    mirror = Mirror(gpu)
    launch = Twin(lambda *a: [_copied_beside(1, *a, waits)], "test")
    mirror.compile([(launch, (x, out))])()
    mirror.pull(out)
    np.testing.assert_array_equal(out, x if waits else np.full(32, np.nan))


def test_two_threads_that_write_one_element_race(watched):
    with pytest.raises(RuntimeError, match="writes what"):
        run(watched, _all_write_one, 1, np.zeros(1, np.float32))


def test_blocks_race_whatever_their_barriers(watched):
    with pytest.raises(RuntimeError, match="no barrier"):
        run(watched, _blocks_read_each_other, 2, *np.zeros((2, 2), np.float32))
