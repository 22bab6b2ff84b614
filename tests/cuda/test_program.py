"""How calls become a program on a device: their scratch memory, and what 32 bits count."""

from types import SimpleNamespace

import numpy as np
import pytest

from skdeep._kernels.cuda import elementwise, loss, lrn, move, norm, pool
from skdeep._kernels.cuda.activation import TWINS as ACTIVATIONS
from skdeep._kernels.cuda.array import DeviceArray, scratch
from skdeep._kernels.cuda.program import Mirror, Twin
from tests.cuda.harness import run_twin

F = np.float32


def _sum_of_copies(x, y, out):
    """Copy both to scratch memory of their own, and add the copies."""
    a, b = scratch(out).take(x.shape), scratch(out).take(y.shape)
    return [*move.copy(x, a), *move.copy(y, b), *elementwise.TWINS["add"](a, b, out)]


def test_scratches_of_one_call_do_not_overlap(gpu):
    x, y, out = np.arange(5, dtype=F), np.full(5, 10, F), np.zeros(5, F)
    run_twin(gpu, Twin(_sum_of_copies, "sum_of_copies"), x, y, out)
    np.testing.assert_array_equal(out, x + y)


def test_calls_share_the_memory_of_the_one_that_needs_most(gpu, monkeypatch):
    taken = []
    allocate = gpu.allocate
    x, y, out = np.arange(5, dtype=F), np.full(5, 10, F), np.zeros(5, F)
    mirror = Mirror(gpu)
    mirror.include(x, y, out)
    monkeypatch.setattr(gpu, "allocate", lambda nbytes: taken.append(nbytes) or allocate(nbytes))
    mirror.compile([(Twin(_sum_of_copies, "sum_of_copies"), (x, y, out))] * 3)
    assert taken == [2 * 256]  # two scratches of one array, each a multiple of 256 bytes


# ---- arrays that 32 bits do not count ---------------------------------------------------------


def _huge(shape, dtype=F):
    """Return an array of no memory: planning looks at shapes only."""
    return DeviceArray(
        SimpleNamespace(device=SimpleNamespace(multiprocessors=4), address=0),
        0,
        shape,
        None,
        dtype,
    )


ROWS = (5, 1 << 19, 1 << 11)
EACH, MEMBER, COLUMNS = _huge(ROWS), _huge((5,)), _huge((5, ROWS[2]))
IMAGE, TABLE = _huge((1, 1 << 10, 1 << 12, 1 << 10)), _huge((5,), np.int64)
LABELS, PLACES = _huge(ROWS[:2], np.int64), _huge(IMAGE.shape, np.uint8)

TOO_LARGE = {
    "activate": lambda: ACTIVATIONS["activate_tanh"](EACH, MEMBER, EACH),
    "prelu_pullback": lambda: ACTIVATIONS["prelu_pullback"](EACH, EACH, COLUMNS, EACH, COLUMNS),
    "column_sum": lambda: elementwise.TWINS["column_sum"](EACH, COLUMNS),
    "take_columns": lambda: elementwise.TWINS["take_columns"](
        EACH.reshape(5 << 19, 1 << 11), 0, _huge((5 << 19, 1))
    ),
    "pack_bfloat16": lambda: elementwise.TWINS["pack_bfloat16"](EACH, _huge(ROWS, np.uint16)),
    "loss": lambda: loss.TWINS["pointwise_loss_squared_error"](
        EACH, EACH, MEMBER, _huge(ROWS[:2])
    ),
    "softmax_cross_entropy": lambda: loss.TWINS["softmax_cross_entropy"](
        EACH, LABELS, MEMBER, _huge(ROWS[:2]), EACH
    ),
    "batch_norm": lambda: norm.TWINS["batch_norm"](
        EACH, COLUMNS, COLUMNS, _huge((1,)), EACH, COLUMNS, COLUMNS, COLUMNS, COLUMNS
    ),
    "layer_norm": lambda: norm.TWINS["layer_norm"](
        EACH, COLUMNS, COLUMNS, _huge((1,)), EACH, *[_huge(ROWS[:2])] * 3
    ),
    "local_response_norm": lambda: lrn.TWINS["local_response_norm"](
        EACH, _huge((5,)), 2, EACH, EACH, MEMBER
    ),
    "max_pool": lambda: pool.TWINS["max_pool_uint8"](IMAGE, TABLE, TABLE, TABLE, IMAGE, PLACES),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_arrays_that_32_bits_do_not_count_are_refused(name):
    with pytest.raises(ValueError, match=r"spans 2\*\*32 elements or more"):
        TOO_LARGE[name]()


def test_the_largest_arrays_that_32_bits_count_are_taken():
    x = _huge((1, 1 << 19, (1 << 13) - 1))
    (launch,) = ACTIVATIONS["activate_tanh"](x, _huge((1,)), x)
    vectors = x.size // 4
    assert launch.args[-1] == x.size
    assert launch.grid[0] * launch.kernel.threads >= x.size - 3 * vectors
