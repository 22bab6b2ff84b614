"""The host's side of a GPU, on the stand-in for CUDA's driver: what it is asked, and when.

They show that calls, arguments, order and lifetimes are right by the driver's manual. They
cannot show what a real one does with them: timing, overlap, and code run by a GPU.
"""

import gc
import os
import signal
import struct
import threading
import warnings

import numpy as np
import pytest

from skdeep._kernels.cpu import elementwise
from skdeep._kernels.cuda import _copies
from skdeep._kernels.cuda._library import DriverError, call
from skdeep._kernels.cuda._numba import cuda, kernel, uint32
from skdeep._kernels.cuda.array import DeviceArray, scratch
from skdeep._kernels.cuda.program import Mirror, Twin
from tests.cuda.fake_driver.conftest import memory
from tests.cuda.test_driver import new


@kernel("f f f u", threads=64)
def checked_sum(x, y, out, n):
    i = uint32(cuda.blockIdx.x) * uint32(64) + uint32(cuda.threadIdx.x)
    if i < n:
        out[i] = x[i] + y[i]


@kernel("f l b w h d u q s", threads=32)
def checked_kinds(f, l, b, w, h, d, u, q, s):  # noqa: E741 the letters of the specification
    if u > uint32(0) and l[0] > 0 and b[0] > 0 and w[0] > 0 and h[0] > 0 and q > u:
        f[0] = d[0] + d[1] + s


def _sum(x, y, out):
    part = scratch(out).take(out.shape)
    return [
        checked_sum((2, 1, 1), x, y, part, out.size),
        checked_sum((2, 1, 1), part, y, out, out.size),
    ]


def add_for_kernel(parameters, grid, block):
    x, y, out, n = struct.unpack("QQQI", parameters)
    assert grid[0] * block[0] >= n
    memory(out, n)[...] = memory(x, n) + memory(y, n)


@pytest.fixture
def program(gpu):
    """A program's mirror, its arrays, and what it compiles to: out = x + 2 y, then y += out."""
    x, y = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    out = np.full_like(x, np.nan)
    mirror = Mirror(gpu)
    mirror.include(x, y, out)
    twin = Twin(_sum, "sum")
    return mirror, (x, y, out), [(twin, (x, y, out)), (twin, (y, out, y))]


# ---- programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", ["1", "0"])
def test_program_is_prepared_once_and_made_n_times(
    gpu, log, launches, program, graphs, monkeypatch
):
    functions, made = launches
    functions["checked_sum"] = add_for_kernel
    monkeypatch.setenv("FAKE_CUDA_GRAPHS", graphs)
    monkeypatch.setattr(gpu, "graphs", True)
    mirror, (x, y, out), calls = program
    if graphs == "1":
        run = mirror.compile(calls)
    else:
        with pytest.warns(RuntimeWarning, match="NOT_SUPPORTED"):
            run = mirror.compile(calls)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mirror.compile(calls)  # it is said once
    expected = [x.copy(), y.copy(), out]
    for _ in range(3):
        expected[2] = expected[0] + expected[1] + expected[1]
        expected[1] = expected[1] + expected[2] + expected[2]
    log.begin()
    run(2)
    run(1)
    assert made == []  # nothing waited for the device
    mirror.pull(x, y, out)
    assert made == ["checked_sum"] * 12
    for e, c in zip(expected, (x, y, out), strict=True):
        np.testing.assert_array_equal(c, e)
    if graphs == "1":
        assert len(log("graph_launch")) == 3
        assert not log("node", "launch", "module", "instantiate")
    else:
        assert len(log("launch")) == 12
        assert not log("graph_launch")


def test_graph_is_built_of_all_launches_in_order(log, program):
    mirror, (x, y, out), calls = program
    run = mirror.compile(calls)
    nodes = log("node")
    assert len(nodes) == 4
    assert [line[0] for line in log()][-2:] == ["instantiate", "graph_destroy"]
    where = {name: mirror.of(a).address for name, a in zip("xyo", (x, y, out), strict=True)}
    parameters = [struct.unpack("QQQI", bytes.fromhex(line[-1])) for line in nodes]
    part = parameters[0][2]  # scratch, which both calls use
    assert part not in where.values()
    assert parameters == [
        (where["x"], where["y"], part, 100),
        (part, where["y"], where["o"], 100),
        (where["y"], where["o"], part, 100),
        (part, where["o"], where["y"], 100),
    ]
    assert {tuple(line[3:6]) for line in nodes} == {("2,1,1", "64,1,1", "0")}
    del run
    gc.collect()
    assert len(log("exec_destroy")) == 1


def test_few_launches_need_no_graph(gpu, log):
    x = new(gpu, (64,))
    run = gpu.prepare([checked_sum(1, x, x, x, 64)] * 2)
    run(3)
    assert not log("graph")
    assert len(log("launch")) == 6
    gpu.prepare([])()


def test_a_twin_of_the_library_runs_on_the_driver(gpu, log):
    x, y = np.ones((2, 300), np.float32)
    out = np.empty_like(x)
    mirror = Mirror(gpu)
    mirror.compile([(elementwise.add[np.float32], (x, y, out))])()
    (line,) = log("launch")
    for a in (x, y, out):
        assert struct.pack("Q", mirror.of(a).address).hex() in line[-1]
    gpu.synchronize()
    np.testing.assert_array_equal(memory(mirror.of(x).address, 300), x)


def test_every_kind_of_argument_as_the_machine_code_wants_it(gpu, log):
    kinds = [np.float32, np.int64, np.uint8, np.int32, np.uint16, np.float64]
    arrays = [new(gpu, (2,), kind) for kind in kinds]
    run = gpu.prepare([checked_kinds(7, *arrays, 2**32 - 1, 2**40, 0.5)])
    run()
    (line,) = log("launch")
    values = struct.unpack("QQQQQQIQf", bytes.fromhex(line[-1]))
    assert values == (*(a.address for a in arrays), 2**32 - 1, 2**40, 0.5)
    assert line[3:6] == ["7,1,1", "32,1,1", "0"]


def test_arguments_that_do_not_fit_are_refused(gpu):
    x = new(gpu, (4,))
    for arguments, error, message in [
        ((x, x, new(gpu, (4,), np.int32), 4), TypeError, "int32 for 'f'"),
        ((x, x, 3, 4), TypeError, "pointer 'f'"),
        ((x, x, x, x), TypeError, "number 'u'"),
        ((x, x, x, -1), OverflowError, "-1 does not fit 'u'"),
        ((x, x, x, 2**32), OverflowError, "does not fit 'u'"),
    ]:
        with pytest.raises(error, match=message):
            gpu.prepare([checked_sum(1, *arguments)])


def test_arrays_of_another_device_are_refused(gpu, monkeypatch):
    from skdeep._kernels.cuda._driver import Gpu

    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    other = Gpu(1)
    x, y = new(gpu, (4,)), new(other, (4,))
    with pytest.raises(ValueError, match="Fake 1"):
        gpu.prepare([checked_sum(1, x, y, x, 4)])
    run = other.prepare([checked_sum(1, y, y, y, 4)])  # loaded once more, there
    run()
    other.synchronize()


def test_modules_are_loaded_once(gpu, log):
    x = new(gpu, (4,))
    fresh = kernel("f f f u", threads=64, name="checked_fresh")(checked_sum.function)
    for _ in range(3):
        gpu.prepare([fresh(1, x, x, x, 4)] * 4)
    assert len(log("module")) == 1
    assert len(log("function")) == 1


def test_large_dynamic_shared_memory_is_asked_for(gpu, log):
    x = new(gpu, (4,))
    wide = kernel("f f f u", threads=64, name="checked_wide")(checked_sum.function)
    wide.dynamic_shared = 100 << 10
    gpu.prepare([wide(1, x, x, x, 4)])()
    assert log("dynamic_shared") == [["dynamic_shared", str(100 << 10)]]
    assert log("launch")[0][5] == str(100 << 10)


def test_kernel_for_newer_devices_is_refused(gpu):
    newer = kernel("f f f u", name="checked_newer", base=(10, 0))(checked_sum.function)
    x = new(gpu, (4,))
    with pytest.raises(DriverError, match=r"checked_newer needs compute capability 10\.0"):
        gpu.prepare([newer(1, x, x, x, 4)])


# ---- errors and interrupts ---------------------------------------------------------------------


def test_failed_kernel_is_reported_when_waited_for(gpu, library, monkeypatch):
    x = new(gpu, (64,))
    run = gpu.prepare([checked_sum(1, x, x, x, 64)])
    monkeypatch.setenv("FAKE_CUDA_KERNELS_FAIL", "1")
    run()  # asks, and does not wait
    try:
        with pytest.raises(DriverError, match="a kernel failed on the GPU.*ILLEGAL_ADDRESS"):
            gpu.synchronize()
        with pytest.raises(DriverError, match="cannot be used in this process any more"):
            x.numpy()
        del x, run
        gc.collect()  # giving memory back fails, too, and says nothing
    finally:
        library.fake_forgive()


def test_refused_launch_names_the_kernel(gpu):
    x = new(gpu, (64,))
    many = kernel("f f f u", threads=64, name="checked_many")(checked_sum.function)
    for repeats in (1, 4):
        launch = many(1, x, x, x, 64)
        run = gpu.prepare([launch] * repeats) if repeats == 1 else None
        many.threads = 65  # more than it was compiled for
        if run:
            many.threads = 64
            run()
            continue
        with pytest.warns(RuntimeWarning, match="checked_many on .* blocks of 65 threads"):
            run = gpu.prepare([launch] * repeats)
        gpu.graphs = True
        with pytest.raises(DriverError, match="checked_many on .* blocks of 65 threads"):
            run()


def test_unknown_calls_and_arguments_raise_by_name(gpu):
    with gpu.context, pytest.raises(DriverError, match="cuMemFree failed: CUDA_ERROR_INVALID_VAL"):
        call("cuMemFree", 12345)
    with pytest.raises(DriverError, match="cuMemGetInfo failed: CUDA_ERROR_INVALID_CONTEXT"):
        call("cuMemGetInfo")  # nobody's context was left current


@pytest.fixture
def endless(monkeypatch):
    """The device is never done; a second later the user presses Control-C."""
    monkeypatch.setenv("FAKE_CUDA_PATIENCE", str(10**9))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_waiting_hears_interrupts(gpu, endless):
    with pytest.raises(KeyboardInterrupt):
        gpu.synchronize()


def test_steps_are_asked_ahead_by_few_and_hear_interrupts(gpu, log, endless):
    x = new(gpu, (64,))
    run = gpu.prepare([checked_sum(1, x, x, x, 64)])
    with pytest.raises(KeyboardInterrupt):
        run(10**6)
    assert 16 < len(log("launch")) <= 32


def test_steps_are_counted(gpu):
    run = gpu.prepare([])
    run(0)
    run(np.int64(2))
    with pytest.raises(TypeError):
        run(1.5)


# ---- threads and processes ---------------------------------------------------------------------


def test_any_thread_may_use_the_device(gpu, launches):
    functions, _ = launches
    functions["checked_sum"] = add_for_kernel
    wrong = []

    def work(seed):
        try:
            host = np.random.default_rng(seed).standard_normal(1000).astype(np.float32)
            for _ in range(20):
                x, out = new(gpu, (1000,)), new(gpu, (1000,))
                gpu.upload(host, x)
                gpu.prepare([checked_sum(16, x, x, out, 1000)])()
                if not np.array_equal(out.numpy(), host + host):
                    wrong.append(seed)
        except Exception as e:  # threads swallow it
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_a_forked_process_is_told_so(gpu):
    x = new(gpu, (4,))
    child = os.fork()
    if not child:
        code = 1
        try:
            gpu.upload(np.zeros(4, np.float32), x)
        except DriverError as e:
            code = 0 if "forked" in str(e) else 2
        del x
        gc.collect()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gpu.upload(np.zeros(4, np.float32), x)
    assert not x.numpy().any()


# ---- copies ------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Copies go in pieces of 4 kB, through a ring of 16 kB."""
    monkeypatch.setattr(_copies, "PIECE", 4 << 10)
    monkeypatch.setattr(_copies, "RING", 16 << 10)


@pytest.fixture
def device(gpu, small, monkeypatch):
    monkeypatch.setattr(gpu, "ring", _copies.Ring(gpu))
    return gpu


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20001,), (3, 7001), (101, 13, 5), (2, 3, 1500)])
def test_large_copies_go_in_pieces(device, log, shape, dtype):
    host = np.random.default_rng(2).standard_normal(shape).astype(np.float32).astype(dtype)
    array = new(device, shape, dtype, pad=2)
    device.upload(host, array)
    copies = log("upload")
    np.testing.assert_array_equal(array.numpy(), host)
    assert len(copies) >= host.nbytes / 4096
    for line in copies + log("download"):
        rows, width = map(int, line[2].split("x"))
        assert rows * width <= 4096
        assert line[3] == "pinned"  # from other memory nothing runs on its own


@pytest.mark.parametrize(
    "sizes",
    [
        (900, 3, 1024, 700, 1, 1000) * 9,
        # The last leaves the ring's end to a copy of the round before, which is still under way.
        (1024, 1024, 1024, 512, 512, 1024, 1024, 1024, 256, 1024),
    ],
)
def test_the_ring_is_not_used_again_too_early(device, sizes):
    rng = np.random.default_rng(3)
    hosts = [rng.standard_normal(n).astype(np.float32) for n in sizes]
    arrays = [new(device, host.shape) for host in hosts]
    for host, array in zip(hosts, arrays, strict=True):
        device.upload(host, array)  # nothing waits, but for room
    for host, array in zip(hosts, arrays, strict=True):
        np.testing.assert_array_equal(array.numpy(), host)


def test_padded_rows_are_one_copy(gpu, log):
    host = np.ones((6, 10), np.float32)
    gpu.upload(host, new(gpu, (6, 10), pad=6))
    assert [line[2] for line in log("upload")] == ["6x40"]
    log.begin()
    gpu.upload(host, new(gpu, (6, 10)))
    assert [line[2] for line in log("upload")] == ["1x240"]


def test_pinned_arrays_are_not_staged(device, log):
    host = device.pinned((3000,), np.float32)
    array = new(device, (3000,))
    device.upload(host, array)
    assert [line[2:] for line in log("upload")] == [["1x12000", "pinned"]]
    part = host[::2]  # has gaps: staged
    log.begin()
    device.upload(part, new(device, part.shape))
    assert len(log("upload")) == 2
    mark = device.mark()
    mark.wait()
    del host, part
    gc.collect()
    assert log("host_free") == [["host_free", "12000"]]


def test_copies_beside_wait_for_the_mark_and_work_for_them(gpu, log):
    array = new(gpu, (8,))
    work, copies = "2", "3"
    mark = gpu.mark()
    log.begin()
    gpu.upload(np.zeros(8, np.float32), array, after=mark)
    assert [line[:3] for line in log("wait", "upload")] == [
        ["wait", copies, work],
        ["upload", copies, "1x32"],
        ["wait", work, copies],
    ]


def test_shapes_must_agree(gpu):
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        gpu.upload(np.zeros(3, np.float32), new(gpu, (4,)))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        gpu.download(new(gpu, (4,)), np.zeros(3, np.float32))


def test_runs_of_any_strides_cover_every_element(gpu):
    array = DeviceArray(gpu.allocate(4096), 1024, (2, 3, 4), (96, -32, 4), np.float32)
    starts = [address - array.address for address, *_ in _copies.runs(array)]
    assert starts == [0, -32, -64, 96, 64, 32]
    assert [run[1:] for run in _copies.runs(array)] == [(1, 16, 16)] * 6
