"""Where memory comes from, when it goes back, and what is said when there is none."""

import gc
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from skdeep._kernels.cuda import _pool
from skdeep._kernels.cuda._driver import Gpu
from skdeep._kernels.cuda._library import DriverError, Mark
from tests.cuda.test_driver import new


def test_memory_goes_back_with_its_last_user(gpu, log):
    array = new(gpu, (5000,))
    part = array.view((10,), None, 40)
    del array
    gc.collect()
    assert not log("free")
    del part
    assert log("free") == [["free", "20224"]]  # pieces are multiples of 256 bytes
    again = new(gpu, (5000,))
    assert again.buffer.nbytes == 20000
    assert again.address % 256 == 0


def test_memory_is_used_again_in_the_order_of_the_work(gpu):
    host = np.arange(7777, dtype=np.float32)
    first = new(gpu, host.shape)
    where = first.address
    gpu.upload(host, first)
    del first
    second = new(gpu, host.shape)
    assert second.address == where
    gpu.upload(host + 1, second)
    np.testing.assert_array_equal(second.numpy(), host + 1)


def test_the_driver_keeps_the_pool_between_uses(log, gpu):
    assert ["threshold", str(2**64 - 1)] in [line.split() for line in log.lines()]
    free, total = gpu.memory()
    array = new(gpu, (1 << 20,))
    assert gpu.memory() == (free - (4 << 20), total)
    del array
    assert gpu.memory() == (free, total)  # the pool holds it, and gives it to the next


def test_memory_that_cannot_be_had(gpu, log, monkeypatch):
    keep = new(gpu, (1 << 22,))
    idle = new(gpu, (1 << 21,))
    del idle
    monkeypatch.setenv("FAKE_CUDA_MEMORY", str(40 << 20))
    with pytest.raises(MemoryError, match="no 0.0336 GB more.*of 0.0419 GB.*batch_size"):
        gpu.allocate(32 << 20)
    assert len(log("trim")) == 1
    gpu.allocate(10 << 20)  # in what was trimmed
    del keep


def test_a_cycle_that_holds_memory_is_found_before_giving_up(gpu, monkeypatch):
    circle = SimpleNamespace(array=new(gpu, (1 << 22,)))
    circle.itself = circle
    monkeypatch.setenv("FAKE_CUDA_MEMORY", str(20 << 20))
    del circle
    gpu.allocate(18 << 20)


def test_pinned_memory_that_cannot_be_had(gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_HOST_MEMORY", "1000")
    with pytest.raises(MemoryError, match="host memory cannot be locked"):
        gpu.pinned((1000,), np.float32)


@pytest.fixture
def plain(gpu, monkeypatch):
    """A device whose driver has no pools."""
    monkeypatch.setenv("FAKE_CUDA_POOLS", "0")
    return Gpu(0)


def test_without_pools_pieces_are_kept_by_size(plain, log):
    first = new(plain, (1000,))
    where = first.address
    del first
    second = new(plain, (1001,))
    assert second.address == where
    assert len(log("alloc")) == 1
    free, total = plain.memory()
    del second
    assert plain.memory() == (free + 4096, total)
    assert not log("free")
    with plain.context:
        plain._take_again(256)
    assert log("free") == [["free", "4096"]]


def test_without_pools_errors_say_the_same(plain, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1000000")
    with pytest.raises(MemoryError, match="batch_size"):
        plain.allocate(1 << 20)


@pytest.mark.parametrize("nbytes", [256, 257, 1 << 20, 1_100_000, 3_000_000_000])
def test_pieces_are_little_larger_than_asked(nbytes):
    size = _pool._rounded(nbytes)
    assert nbytes <= size <= max(nbytes * 1.25, 512)
    assert size % 256 == 0
    assert _pool._rounded(size) == size


class FakeCupy:
    """As much of cupy as the pool uses; memory is that of a NumPy array."""

    def __init__(self):
        self.given, self.device, self.stream = [], None, None
        self.cuda = SimpleNamespace(
            Device=lambda i: self._entered("device", i),
            Stream=SimpleNamespace(
                from_external=lambda s: self._entered("stream", s.__cuda_stream__()[1])
            ),
            alloc=self._alloc,
        )

    def _entered(self, name, value):
        test = self

        class Entered:
            def __enter__(self):
                self.before = getattr(test, name)
                setattr(test, name, value)

            def __exit__(self, *_):
                setattr(test, name, self.before)

        return Entered()

    def _alloc(self, nbytes):
        assert self.device == 0
        self.given.append((nbytes, self.stream))
        if nbytes > 10**6:
            raise MemoryError
        raw = np.zeros(nbytes + 512, np.uint8)
        return SimpleNamespace(ptr=-(-raw.ctypes.data // 512) * 512, raw=raw)

    def get_default_memory_pool(self):
        assert self.device == 0
        return SimpleNamespace(free_bytes=lambda: 123, free_all_blocks=lambda: None)


def test_cupy_lends_its_pool(gpu, log, monkeypatch):
    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    shared = Gpu(0)
    assert not log("pool")
    buffer = shared.allocate(1000)
    assert cupy.given == [(256, shared.stream_handle), (1024, shared.stream_handle)]
    assert buffer.keep.ptr == buffer.address
    own = shared._pool
    monkeypatch.setattr(shared, "_pool", SimpleNamespace(idle=lambda: 0))
    free, _ = shared.memory()
    monkeypatch.setattr(shared, "_pool", own)
    assert shared.memory()[0] == free + 123
    with pytest.raises(MemoryError, match="batch_size"):
        shared.allocate(2_000_000)


def test_cupy_that_does_not_work_is_not_used(gpu, log, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace())
    Gpu(0)
    assert len(log("pool")) == 1


def test_a_failing_driver_is_not_silenced(gpu, monkeypatch):
    with pytest.raises(DriverError, match="number 7: the driver sees 1"):
        Gpu(7)
    monkeypatch.setenv("FAKE_CUDA_CAPABILITY", "75")
    with pytest.raises(DriverError, match=r"capability 7\.5, but skdeep needs 8\.0"):
        Gpu(0)


def test_marks_pass_in_order(gpu):
    first, second = gpu.mark(), gpu.mark()
    second.wait()
    assert isinstance(first, Mark)
    first.passed()  # the stand-in answers no the first time
    assert first.passed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del first, second
        gc.collect()
