import numpy as np
import pytest

from skdeep._kernels.cpu import activation as cpu
from skdeep._kernels.cuda.activation import TWINS
from tests.cuda.harness import check_twin
from tests.cuda.test_elementwise import normal, strided, unset

#: Both sides of every kink and of every range in which a function saturates.
EDGES = np.array(
    [0, -0.0, 1e-8, -1e-8, 3, -3, 3.5, 8.5, -8.5, 30, -30, 88.5, -88.5, 110, -110, 1e4, -1e4,
     np.inf, -np.inf, np.nan, 1.5],
    np.float32,
)  # fmt: skip


def test_every_kernel_has_a_twin():
    every = {*cpu.value.values(), *cpu.pullback.values(), cpu.prelu, cpu.prelu_pullback}
    assert {k.__name__ for k in every} <= set(TWINS)


def arguments(members, gap=4):
    """Return z that begins with the edges, and a parameter for every member."""
    z = strided(members, 43, gap=gap)
    z[:, : len(EDGES)] = EDGES
    z[:, len(EDGES) :] *= 3
    return z, np.linspace(0.3, 0.7, members).astype(np.float32)


# The CPU's elementary functions are polynomials, within 2 units in the last place each; the
# differences of a few of them are what an activation's curvature is made of.
CLOSE = dict(rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", cpu.value)
@pytest.mark.parametrize("members", [1, 2])
def test_value(gpu, name, members):
    z, param = arguments(members)
    check_twin(gpu, cpu.value[name], z, param, unset(*z.shape), **CLOSE)


@pytest.mark.parametrize(("name", "order"), cpu.pullback)
def test_pullback(gpu, name, order):
    z, param = arguments(2)
    ct = normal(2, 43, seed=1)
    check_twin(gpu, cpu.pullback[name, order], ct, z, param, unset(*z.shape), **CLOSE)


@pytest.mark.parametrize("gap", [0, 1, 4])
def test_members_that_share_the_parameter(gpu, gap):
    z, param = arguments(2, gap)
    check_twin(gpu, cpu.value["leaky_relu"], z, param[:1], unset(*z.shape))


def test_in_place(gpu):
    z, param = arguments(2)
    check_twin(gpu, cpu.value["elu"], z, param, z, **CLOSE)
    ct = normal(*z.shape)
    check_twin(gpu, cpu.pullback["elu", 1], ct, z, param, ct, **CLOSE)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (7, 5), (37, 12), (300, 21), (300, 100)])
@pytest.mark.parametrize("members", [1, 2])
def test_prelu(gpu, n, columns, members):
    z = strided(members, n, columns)
    z[:, 0, 0] = np.nan
    slope = normal(members, columns, seed=1)
    check_twin(gpu, cpu.prelu, z, slope, unset(*z.shape))
    z[:, 0, 0] = -0.0
    ct = strided(members, n, columns, seed=2)
    # The slope's gradient is a sum over the batch, which the CPU adds row after row.
    outs = unset(*z.shape), unset(members, columns)
    check_twin(gpu, cpu.prelu_pullback, ct, z, slope, *outs, atol=2e-7 * n)


def test_prelu_pullback_of_nan_and_infinity(gpu):
    ct, z = strided(2, 37, 12, gap=3), strided(2, 37, 12, seed=1)
    z[0, 3, 2], z[1, 4, 5] = np.nan, -np.inf
    slope = normal(2, 12, seed=2)
    check_twin(gpu, cpu.prelu_pullback, ct, z, slope, unset(2, 37, 12), unset(2, 12), atol=1e-5)
