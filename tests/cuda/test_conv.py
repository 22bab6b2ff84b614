"""Convolutions on a device against the CPU's in float64."""

from dataclasses import replace

import numpy as np
import pytest

from skdeep._kernels.cuda import conv
from skdeep._kernels.cuda._conv_loaders import divisor
from skdeep._kernels.cuda.array import Buffer, DeviceArray
from skdeep._kernels.cuda.program import Mirror
from skdeep.autodiff import _cuda
from skdeep.autodiff.ops import _conv as cpu
from skdeep.autodiff.ops.conv import geometry
from tests.cuda.harness import run_twin

#: Sums of up to 200 float32 products of standard normals: about 15 roundings of 6e-8.
_CLOSE = dict(rtol=1e-5, atol=1e-5)


class Case:
    """Arrays of a convolution, and what the CPU computes from them in float64."""

    def __init__(self, spatial, kernel, channels, filters, groups=1, images=2, members=(1, 1),
                 **kw):  # fmt: skip
        self.g, self.groups = geometry(spatial, kernel, **kw), groups
        rng = np.random.default_rng([channels, filters, *spatial, *kernel])
        draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
        mx, mw = members
        self.x = draw(mx, images, *spatial, channels)
        self.w = draw(mw, *self.g.kernel, channels // groups, filters)
        self.ct = draw(max(members), images, *self.g.out, filters)
        self.by_filter, self.by_channel = draw(mw, filters), draw(1, channels)

    @property
    def kw(self):
        return dict(geometry=self.g, groups=self.groups, winograd=False)

    def expected(self, function, *args):
        return function(*(a.astype(np.float64) for a in args), **self.kw)

    def forward(self, gpu, relu=True):
        out = np.full(self.ct.shape, np.nan, np.float32)
        rest = self.g, self.groups, relu
        run_twin(gpu, conv.CONVOLVE, self.x, self.w, self.by_filter, out, *rest)
        return out

    def expected_forward(self):
        y = self.expected(cpu._conv, self.x, self.w)
        b = self.by_filter.reshape(len(self.by_filter), *(1,) * (y.ndim - 2), -1)
        return np.maximum(y + b, 0)

    def input_grad(self, gpu, biased=False):
        members = max(len(self.ct), len(self.w))
        out = np.full((members, *self.x.shape[1:]), np.nan, np.float32)
        b = self.by_channel if biased else None
        run_twin(gpu, conv.INPUT_GRAD, self.ct, self.w, b, out, self.g, self.groups, biased)
        return out

    def expected_input_grad(self, biased=False):
        y = self.expected(cpu._input_grad, self.ct, self.w)
        return np.maximum(y + self.by_channel, 0) if biased else y

    def weight_grad(self, gpu):
        out = np.full((len(self.ct), *self.w.shape[1:]), np.nan, np.float32)
        run_twin(gpu, conv.WEIGHT_GRAD, self.x, self.ct, out, self.g, self.groups)
        return out

    def expected_weight_grad(self):
        return self.expected(cpu._weight_grad, self.x, self.ct)

    def check(self, gpu):
        np.testing.assert_allclose(self.forward(gpu), self.expected_forward(), **_CLOSE)
        found, expected = self.input_grad(gpu, True), self.expected_input_grad(True)
        np.testing.assert_allclose(found, expected, **_CLOSE)
        np.testing.assert_allclose(self.weight_grad(gpu), self.expected_weight_grad(), **_CLOSE)


def broadcast(value, shape):
    """Return an array that holds one number for all elements, and can be written to."""
    one = np.full(1, value, np.float32)
    return np.lib.stride_tricks.as_strided(one, shape, (0,) * len(shape))


@pytest.mark.parametrize(
    "case",
    [
        dict(spatial=(5, 4), kernel=(2, 3), channels=8, filters=8, padding="same"),
        dict(spatial=(5, 6), kernel=(3, 2), channels=3, filters=5, stride=2, padding=1),
        dict(spatial=(4, 3), kernel=(3, 3), channels=12, filters=1, padding=((2, 0), (0, 1))),
        dict(spatial=(6, 5), kernel=(2, 3), channels=1, filters=8, stride=(3, 1), dilation=(2, 1)),
        dict(spatial=(6, 5), kernel=(3, 2), channels=8, filters=8, stride=2, padding=1),
        dict(spatial=(4, 5), kernel=(1, 1), channels=4, filters=8, stride=2),
        dict(spatial=(9,), kernel=(3,), channels=4, filters=8, stride=2, dilation=2, padding=3),
        dict(spatial=(3, 4, 3), kernel=(2, 1, 2), channels=8, filters=8, stride=(1, 2, 1)),
        dict(spatial=(3, 2, 3), kernel=(2, 2, 2), channels=3, filters=4, padding=1, stride=2),
    ],
    ids=str,
)
def test_passes(gpu, case):
    Case(**case).check(gpu)


@pytest.mark.parametrize(
    ("channels", "filters", "groups", "members"),
    [
        (8, 8, 1, (2, 2)),
        (8, 8, 1, (1, 2)),
        (3, 4, 1, (2, 1)),
        (6, 4, 2, (2, 1)),
        (6, 4, 2, (1, 2)),
        (16, 16, 2, (1, 2)),
    ],
)
def test_members_and_groups(gpu, channels, filters, groups, members):
    case = Case((3, 3), (2, 2), channels, filters, groups, 1, members, padding=1, stride=(2, 1))
    case.check(gpu)


@pytest.mark.parametrize(
    ("channels", "filters", "groups", "members"),
    [(8, 8, 1, (2, 1)), (6, 5, 1, (1, 1)), (16, 16, 2, (1, 1))],
)
def test_split_sums(gpu, monkeypatch, channels, filters, groups, members):
    """Parts, some of them empty, are added with bias and ReLU, and twice to the same bits."""
    split = lambda m, n, k, *args: (conv.LOW, 3, max(8, -(-k // 24) * 8))  # noqa: E731
    monkeypatch.setattr(conv, "FLOAT32", replace(conv.FLOAT32, choose=split))
    case = Case((3, 3), (2, 2), channels, filters, groups, 1, members, padding=1, stride=2)
    case.check(gpu)
    for run in (case.forward, case.input_grad, case.weight_grad):
        np.testing.assert_array_equal(run(gpu), run(gpu))


@pytest.mark.parametrize(
    ("shape", "channels"),
    [(conv.LARGE, 16), (conv.TALL, 16), (conv.NARROW, 16), (conv.SINGLE_NARROW, 3)],
)
def test_tiles(gpu, monkeypatch, shape, channels):
    whole = lambda m, n, k, *args: (shape, 1, -(-k // 8) * 8)  # noqa: E731
    monkeypatch.setattr(conv, "FLOAT32", replace(conv.FLOAT32, choose=whole))
    Case((5,), (2,), channels, channels, images=1).check(gpu)


def test_layouts(gpu):
    """Leading axes have any strides; a broadcast cotangent and a result with gaps are copied."""
    case = Case((4, 3), (3, 2), 8, 4, padding=1)
    case.x = np.repeat(np.repeat(case.x, 2, axis=1), 2, axis=3)[:, ::2, :, 1::2]
    case.ct = broadcast(0.5, case.ct.shape)
    case.w = np.repeat(case.w, 2, axis=4)[..., ::2]
    case.by_filter = np.repeat(case.by_filter, 2, axis=1)[:, ::2]
    case.check(gpu)
    wide = np.full((*case.ct.shape[:-1], 6), np.nan, np.float32)
    out = wide[..., 1:5]
    run_twin(gpu, conv.CONVOLVE, case.x, case.w, case.by_filter, out, case.g, 1, True)
    np.testing.assert_allclose(out, case.expected_forward(), **_CLOSE)
    assert np.isnan(wide[..., [0, 5]]).all()


@pytest.mark.parametrize("channels", [3, 8])
def test_nonfinite(gpu, channels):
    """NaN and infinities reach what reads them, through ReLU, and nothing else."""
    case = Case((5, 4), (3, 3), channels, 8, padding=1, images=1)
    case.x[0, 0, 0, 0, 0], case.x[0, 0, 4, 3, 1] = np.nan, np.inf
    out, expected = case.forward(gpu), case.expected_forward()
    assert np.isnan(expected).sum() >= 32
    assert np.isinf(expected).any()
    np.testing.assert_allclose(out, expected, **_CLOSE)


def test_no_images(gpu):
    """Without images there is nothing to compute, and weight gradients are zero."""
    for groups in (1, 8):
        case = Case((5, 4), (3, 3), 8, 8, groups, images=0, padding=1)
        assert case.forward(gpu).size == case.input_grad(gpu).size == 0
        np.testing.assert_array_equal(case.weight_grad(gpu), np.zeros(case.w.shape))


# ---- bindings ---------------------------------------------------------------------------------


def _lowered(gpu, p, args, shape, **kw):
    out = np.full(shape, np.nan, np.float32)
    function, arguments = _cuda.lower(p, args, [out, np.empty(0, np.float32)], kw)
    run_twin(gpu, function, *arguments)
    return out, function


@pytest.mark.parametrize(
    "spatial_kernel_stride",
    [((4, 3), (2, 3), 1), ((3, 2), (1, 1), 1), ((3, 2), (3, 2), 1), ((3, 2), (1, 1), 2)],
)
def test_bindings(gpu, spatial_kernel_stride):
    spatial, kernel, stride = spatial_kernel_stride
    case = Case(spatial, kernel, 3, 5, stride=stride)
    x, w, ct, kw = case.x, case.w, case.ct, case.kw
    biased = dict(activation="relu", **kw)
    calls = [
        (cpu._conv_p, (x, w), kw, case.expected(cpu._conv, x, w)),
        (cpu._conv_bias, (x, w, case.by_filter), biased, case.expected_forward()),
        (cpu._input_grad_p, (ct, w), kw, case.expected_input_grad()),
        (cpu._input_grad_bias, (ct, w, case.by_channel), biased, case.expected_input_grad(True)),
        (cpu._weight_grad_p, (x, ct), kw, case.expected_weight_grad()),
    ]
    products = 0
    for p, args, options, expected in calls:
        out, function = _lowered(gpu, p, args, expected.shape, **options)
        np.testing.assert_allclose(out, expected, **_CLOSE)
        products += function not in (conv.CONVOLVE, conv.INPUT_GRAD, conv.WEIGHT_GRAD)
    # An input gradient with a bias has no product on the CPU.
    assert products == (4 if cpu.is_product(case.g, 1) else 0)


# ---- the choice of tiles, and arithmetic on the host ------------------------------------------

_RESNET = [(64, 56), (128, 28), (256, 14), (512, 7)]


@pytest.mark.parametrize("images", [32, 128])
@pytest.mark.parametrize(("channels", "side"), _RESNET)
def test_grids(channels, side, images):
    """Every pass of a residual network gives 132 multiprocessors enough blocks, and no dust."""
    cells, k = images * side**2, 9 * channels
    for m, n, length in ((cells, channels, k), (k, channels, cells)):
        shape, parts, depth = conv.choose(m, n, length, 1, True, 132)
        tiles = -(-m // shape.rows) * -(-n // shape.columns)
        assert tiles * parts >= 100
        assert tiles * parts * shape.threads <= 1000 * 256 or parts == 1
        assert parts * depth >= length > (parts - 1) * depth
        assert depth % shape.depth == 0
        assert shape.columns <= max(64, channels)


def test_divisor():
    rng = np.random.default_rng(0)
    for d in (1, 2, 3, 7, 64, 147, 3136, 65537, 2**31 - 1):
        multiplier, shift = divisor(d)
        n = [0, 1, d - 1, d, 2**31 - 1, 2**31 - d, *rng.integers(0, 2**31, 200)]
        assert multiplier < 2**32
        assert all(int(v) * multiplier >> shift == int(v) // d for v in n)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2), (3, 0)])
def test_classes(stride, dilation, padding):
    """Classes of cells meet each tap and output exactly once."""
    kw = dict(stride=stride, dilation=dilation, padding=(padding,))
    g = geometry((11,), (3,), **kw)
    met = set()
    for c in conv._axis_classes(11, 3, stride, padding, dilation):
        for i in range(c.cells):
            for j in range(c.taps):
                o = c.first + i - j * c.back
                if 0 <= o < g.out[0]:
                    found = c.begin + i * stride, c.tap + j * c.step, o
                    assert found not in met
                    met.add(found)
    cells = (
        (o * stride - padding[0] + t * dilation, t, o) for o in range(*g.out) for t in range(3)
    )
    assert met == {cell for cell in cells if 0 <= cell[0] < 11}


def test_precision(gpu):
    """A precision that there is not is refused by name."""
    case = Case((4, 4), (3, 3), 8, 8)
    arrays = (Mirror(gpu).of(a) for a in (case.x, case.w, case.by_filter, case.ct))
    with pytest.raises(ValueError, match="precision='float16': it must be one of"):
        conv.CONVOLVE(*arrays, case.g, 1, True, precision="float16")


def test_too_large(gpu):
    """Offsets are 32 bits wide."""
    g = geometry((2**16, 2**12), (3, 3), padding=1)
    nowhere = Buffer(gpu, 0, 0)
    x, w = (
        DeviceArray(nowhere, 0, shape, None, np.float32)
        for shape in ((1, 1, 2**16, 2**12, 8), (1, 3, 3, 8, 8))
    )
    with pytest.raises(ValueError, match=r"less than 2\*\*31"):
        conv.CONVOLVE(x, w, None, x, g, 1, False)
