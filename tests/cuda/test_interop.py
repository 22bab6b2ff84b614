"""Arrays shared with other libraries."""

import numpy as np
import pytest

from tests.cuda.fake_driver.build import run_tests
from tests.cuda.test_driver import new, on_fake


@on_fake
def test_interop_on_the_stand_in():
    run_tests("test_interop.py", "fake_driver/interop_checks.py")


def test_what_is_no_array_on_a_gpu(gpu):
    from skdeep._kernels.cuda.interop import from_foreign, is_foreign

    for value in (np.zeros(3), [1.0], new(gpu, (3,)), None):
        assert not is_foreign(value)
        with pytest.raises(TypeError, match="is no array on a CUDA GPU"):
            from_foreign(value)


def test_pairs_are_not_shared(gpu):
    array = new(gpu, (3,), np.float64)
    assert not hasattr(array, "__cuda_array_interface__")
    with pytest.raises(TypeError, match="pairs of float32"):
        array.__dlpack__()
