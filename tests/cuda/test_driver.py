"""Memory and copies of a device: on a real one, a simulated one, and the stand-in's."""

import os

import numpy as np
import pytest

from skdeep._kernels.cuda.array import DeviceArray
from tests.cuda.fake_driver.build import run_script, run_tests

on_fake = pytest.mark.skipif(
    "FAKE_CUDA_LIBRARY" in os.environ, reason="this process runs on the stand-in already"
)


@on_fake
def test_driver_on_the_stand_in():
    run_tests("test_driver.py", "fake_driver/driver_checks.py", "fake_driver/pool_checks.py")


@on_fake
def test_process_ends_quietly_with_memory_in_use():
    source = (
        "import numpy as np\n"
        "from skdeep._kernels.cuda.devices import open_device\n"
        "from skdeep._kernels.cuda.array import DeviceArray\n"
        "gpu = open_device()\n"
        "a = DeviceArray(gpu.allocate(40), 0, (10,), None, np.float32)\n"
        "a.circle, pinned, mark = a, gpu.pinned(10, np.float32), gpu.mark()\n"
        "gpu.upload(pinned, a)\n"
        "print(gpu)\n"
    )
    assert run_script(source) == "cuda:0 (Fake 0)"


def new(gpu, shape, dtype=np.float32, pad=0):
    """Return a device array, with so many elements of padding behind each row."""
    dtype, whole = np.dtype(dtype), (*shape[:-1], shape[-1] + pad)
    nbytes = int(np.prod(whole)) * dtype.itemsize
    array = DeviceArray(gpu.allocate(nbytes), 0, whole, None, dtype)
    return array.view(shape, array.strides)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.int32, np.uint16])
def test_round_trip_keeps_every_bit(gpu, dtype):
    host = np.random.default_rng(0).integers(0, 200, (3, 5, 7)).astype(dtype)
    array = new(gpu, host.shape, dtype)
    gpu.upload(host, array)
    np.testing.assert_array_equal(array.numpy(), host)


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize(
    "take",
    [
        lambda a: a[::2],
        lambda a: a[:, 1:4],
        lambda a: a[:, :, 2:6],
        lambda a: a[1:, ::3, ::2],
        lambda a: a.transpose(2, 0, 1),
        lambda a: a[1, 2],
        lambda a: a[0, 1, 2:3].reshape(()),
    ],
)
def test_strided_parts_on_both_sides(gpu, take, pad):
    rng = np.random.default_rng(1)
    whole = np.zeros((4, 6, 8 + pad), np.float32)[:, :, :8]
    array = new(gpu, whole.shape, pad=pad)
    gpu.upload(whole, array)
    part = take(whole)
    offset = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    there = array.view(part.shape, part.strides, offset)
    values = np.asarray(rng.standard_normal(part.shape), np.float32)
    part[...] = values
    gpu.upload(values, there)
    np.testing.assert_array_equal(array.numpy(), whole)  # and nothing beside the part
    back = np.zeros((*part.shape, 2), np.float32)[..., 0]  # a host array with gaps
    gpu.download(there, back)
    np.testing.assert_array_equal(back, values)


def test_float64_travels_as_pairs(gpu):
    host = np.array([[1 / 3, -1e30, 0.0], [np.inf, np.nan, 123456789.123]])
    array = new(gpu, host.shape, np.float64, pad=2)
    gpu.upload(host, array)
    # Two float32 keep 48 bits.
    np.testing.assert_allclose(array.numpy(), host, rtol=2.0**-47)


def test_host_values_are_cast_to_the_device_type(gpu):
    array = new(gpu, (3,))
    gpu.upload(np.array([1.5, 2.5, 3.5]), array)
    np.testing.assert_array_equal(array.numpy(), np.float32([1.5, 2.5, 3.5]))


def test_empty_arrays(gpu):
    array = new(gpu, (0, 4))
    gpu.upload(np.zeros((0, 4), np.float32), array)
    assert array.numpy().shape == (0, 4)


def test_pinned_memory_is_zero_and_copied_in_place(gpu):
    host = gpu.pinned((5, 3), np.float32)
    assert host.shape == (5, 3)
    assert not host.any()
    host[...] = np.arange(15).reshape(5, 3)
    array = new(gpu, host.shape)
    gpu.upload(host, array)
    back = gpu.pinned((5, 3), np.float32)
    gpu.download(array, back)
    np.testing.assert_array_equal(back, host)
    assert gpu.pinned((0, 3), np.float32).shape == (0, 3)


def test_copies_beside_the_work(gpu):
    first, second = (np.full(9, i, np.float32) for i in (1, 2))
    array = new(gpu, (9,))
    gpu.upload(first, array)
    mark = gpu.mark()
    gpu.upload(second, array, after=mark)
    np.testing.assert_array_equal(array.numpy(), second)  # later work waits for the copy
    back = np.zeros(9, np.float32)
    gpu.download(array, back, after=gpu.mark())
    np.testing.assert_array_equal(back, second)
    mark.wait()


def test_memory_is_counted(gpu):
    free, total = gpu.memory()
    assert 0 < free <= total
