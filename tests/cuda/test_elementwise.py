import numpy as np

from skdeep._kernels.cpu import elementwise as cpu
from tests.cuda.harness import check_twin


def test_add(gpu):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 300)).astype(np.float32)
    check_twin(gpu, cpu.add, x, y, np.full_like(x, np.nan))
