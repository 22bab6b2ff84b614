"""Arrays shared with other libraries, played by objects with their protocols."""

import gc
import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from skdeep._kernels.cuda.interop import from_foreign, is_foreign, to_like
from tests.cuda.test_driver import new

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
WORK = "2"  # the stream of the device's work


def filled(gpu):
    array = new(gpu, VALUES.shape)
    gpu.upload(VALUES, array)
    gpu.synchronize()
    return array


@pytest.fixture
def array(gpu):
    return filled(gpu)


class Interface:
    """An array of numba's kind: the CUDA array interface, and no more."""

    def __init__(self, array, **changes):
        self.array, self.changes = array, changes

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | self.changes


class Capsule:
    """An array of torch's or jax's kind: DLPack, and no more."""

    def __init__(self, array, place=None):
        self.array, self.place, self.asked = array, place or (2, 0), []

    def __dlpack__(self, *, stream=None, **options):
        self.asked.append(stream)
        return self.array.__dlpack__(stream=stream, **options)

    def __dlpack_device__(self):
        return self.place


@pytest.mark.parametrize("kind", [Interface, Capsule])
def test_memory_is_shared_and_kept(gpu, array, kind, log):
    given = kind(array)
    assert is_foreign(given)
    taken = from_foreign(given)
    assert taken.address == array.address
    assert (taken.shape, taken.strides, taken.dtype) == ((3, 4), (16, 4), np.float32)
    np.testing.assert_array_equal(taken.numpy(), VALUES)
    owner = weakref.ref(given)
    del given
    gc.collect()
    assert owner() is not None
    part = taken.view((2,))
    del taken
    gc.collect()
    assert owner() is not None
    log.begin()
    del part
    gc.collect()
    assert owner() is None
    assert ["stream_synchronize", WORK] in log()  # the work may still have used it


@pytest.mark.parametrize("kind", [Interface, Capsule])
def test_strides_are_kept(array, kind):
    part = array.view((4, 2), (4, 16), 16)
    taken = from_foreign(kind(part))
    assert taken.strides == (4, 16)
    np.testing.assert_array_equal(taken.numpy(), VALUES[1:].T)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.int32, np.uint16])
@pytest.mark.parametrize("kind", [Interface, Capsule])
def test_types_are_kept(gpu, kind, dtype):
    assert from_foreign(kind(new(gpu, (3,), dtype))).dtype == dtype


@pytest.mark.parametrize(("stream", "waits"), [(1, ["0"]), (2, ["1"]), (None, [])])
def test_the_producers_stream_is_waited_for(array, log, stream, waits):
    given = Interface(array, stream=stream)
    log.begin()
    from_foreign(given)
    assert log("wait") == [["wait", WORK, other] for other in waits]


def test_dlpack_producers_are_told_the_stream(gpu, array):
    given = Capsule(array)
    from_foreign(given)
    assert given.asked == [gpu.stream_handle]


def test_dlpack_readers_wait_for_the_work(array, log):
    array.__dlpack__(stream=1)
    array.__dlpack__(stream=None)
    array.__dlpack__(stream=-1)
    assert log("wait") == [["wait", "0", WORK]] * 2
    assert array.__dlpack_device__() == (2, 0)


def test_lent_memory_goes_back_when_no_stream_can_use_it(gpu, log):
    array = filled(gpu)
    capsule = array.__dlpack__(stream=-1)
    del array
    gc.collect()
    assert not log("free")
    del capsule
    gc.collect()
    assert [line[0] for line in log()][-2:] == ["context_synchronize", "free"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"typestr": "<f8"}, TypeError, "float64: .*convert it to float32"),
        ({"typestr": "<f2"}, TypeError, "float16: .*convert it to float32"),
        ({"mask": object()}, ValueError, "mask"),
        ({"version": 2}, TypeError, "version 2"),
        ({"strides": (-16, 4)}, ValueError, "negative strides"),
    ],
)
def test_what_cannot_be_taken_is_said(array, changes, error, message):
    with pytest.raises(error, match=f"Interface.*{message}"):
        from_foreign(Interface(array, **changes))


def test_host_arrays_of_other_libraries_are_refused(array):
    for place in ((1, 0), (3, 0), (13, 0)):
        with pytest.raises(TypeError, match="Capsule is no array on a CUDA GPU"):
            from_foreign(Capsule(array, place))


def test_the_device_of_the_memory_is_used(monkeypatch):
    from skdeep._kernels.cuda.devices import open_device

    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    other = open_device(1)
    array = new(other, (4,))
    assert from_foreign(Interface(array)).device is other
    assert from_foreign(Capsule(array, (2, 1))).device is other


def test_empty_arrays(gpu):
    taken = from_foreign(Interface(new(gpu, (0, 4))))
    assert taken.shape == (0, 4)
    assert taken.numpy().shape == (0, 4)


# ---- giving ------------------------------------------------------------------------------------


def library(name, monkeypatch, **functions):
    """Return an array of a library that has these functions."""
    module = ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)
    return type("Array", (), {"__module__": f"{name}.arrays"})()


def wrapped(given, **options):
    return SimpleNamespace(given=given, options=options)


@pytest.mark.parametrize(
    ("name", "functions", "options"),
    [
        ("cupy", {"asarray": wrapped}, {}),
        ("torch", {"as_tensor": wrapped}, {"device": "cuda:0"}),
        ("jaxish", {"from_dlpack": wrapped}, {}),
    ],
)
def test_arrays_are_made_of_the_same_memory(gpu, log, monkeypatch, name, functions, options):
    array = filled(gpu)
    like = library(name, monkeypatch, **functions)
    made = to_like(array, like)
    assert made.options == options
    assert made.given.address == array.address
    np.testing.assert_array_equal(made.given.numpy(), VALUES)
    del array
    gc.collect()
    assert not log("free")
    del made
    gc.collect()
    assert [line[0] for line in log()][-2:] == ["context_synchronize", "free"]


def test_array_namespace_is_asked_first(array):
    like = type("Array", (), {})()
    like.__array_namespace__ = lambda: SimpleNamespace(from_dlpack=wrapped)
    assert to_like(array, like).given.address == array.address


def test_libraries_without_dlpack_are_refused(array, monkeypatch):
    with pytest.raises(TypeError, match="no from_dlpack"):
        to_like(array, library("other", monkeypatch))


def test_numba_arrays(array):
    """Numba has a driver of its own, which the stand-in does not play: what it is given counts."""
    described = array.__cuda_array_interface__
    assert described["version"] == 3
    assert described["stream"] == array.device.stream_handle
    assert described["data"] == (array.address, False)


def test_capsules_are_read_by_cuda_core(array):
    view = pytest.importorskip("cuda.core.utils").StridedMemoryView.from_dlpack(array, -1)
    assert view.ptr == array.address
    assert view.shape == (3, 4)
