"""Matrix products and convolutions: ours against cuBLAS and cuDNN, through torch."""

from functools import partial

from gpu.report import compared
from skdeep._kernels.cuda.dense import TWINS
from skdeep.autodiff import vjp
from skdeep.autodiff.ops import conv as ops

#: What a multiply-add takes at 50 TFLOP/s: how many calls go into one measurement.
_GUESS = 2 / 50e12
_PRODUCT = TWINS["product"]

# ---- matrix products --------------------------------------------------------------------------

#: name: rows, length of the sums, columns, which operands are transposed
SQUARES = {f"{n} square": (n, n, n, "NN") for n in (2048, 4096, 8192)}
TRANSPOSED = {f"4096 square, {t}": (4096, 4096, 4096, t) for t in ("NT", "TN")}
LAYERS = {
    "200 x 784 x 300": (200, 784, 300, "NN"),
    "784 x 200 x 300, TN (its weight gradient)": (784, 200, 300, "TN"),
    "200 x 300 x 100": (200, 300, 100, "NN"),
    "1024 x 784 x 300": (1024, 784, 300, "NN"),
    "16384 x 784 x 300": (16384, 784, 300, "NN"),
}
TINY = {"12 x 20 x 8": (12, 20, 8, "NN"), "12 x 20 x 8, TN": (12, 20, 8, "TN")}
BAR, TENSOR_BAR, TENSOR_RATE = 0.85, 0.5, 150


def products(bench):
    """float32."""
    for name, shape in bench.pick(SQUARES | TRANSPOSED | LAYERS, TINY).items():
        bench.report.case(name, partial(_product, bench, name, shape, "float32"))


def tensor_cores(bench):
    """TF32 and bfloat16."""
    shapes = bench.pick(SQUARES | TRANSPOSED | LAYERS, TINY)
    for precision in ("tf32", "bfloat16"):
        for name, shape in shapes.items():
            name = f"{precision}, {name}"
            bench.report.case(name, partial(_product, bench, name, shape, precision))


def _product(bench, name, shape, precision):
    m, k, n, kind = shape
    ta, tb = (letter == "T" for letter in kind)
    work = 2 * m * k * n
    repeats, ours = bench.repeats(m * k * n * _GUESS), bench.program(precision)
    a = ours.normal(1, *((k, m) if ta else (m, k)))
    b = ours.normal(1, *((n, k) if tb else (k, n)))
    call = _PRODUCT, (a, ta, b, tb, ours.empty(1, m, n))
    runs = {"ours": ours.run([call], repeats)}
    if bench.peer is not None:
        runs["peer"] = _peer_product(bench.peer, shape, precision, repeats)
    seconds = bench.seconds(runs, repeats)
    rates = {who: work / s / 1e12 for who, s in seconds.items()}
    return _row(bench, name, rates, precision)


def _row(bench, name, rates, precision):
    rate, peer = rates["ours"], rates.get("peer")
    square = "square" in name
    bar, more = BAR, True
    if precision != "float32":
        bar = TENSOR_BAR if precision == "tf32" and square else None
        more = bench.rehearse or rate >= TENSOR_RATE
    row = compared(
        name, f"{rate:.3g} TFLOP/s", "-" if peer is None else f"{peer:.3g} TFLOP/s",
        None if peer is None else rate / peer, bar, more,
    )  # fmt: skip
    if precision == "tf32" and square:
        row.bar = f"{bar:g} and {TENSOR_RATE} TFLOP/s"
    return row


def _peer_product(peer, shape, precision, repeats):
    m, k, n, kind = shape
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    a = peer.normal(k, m, dtype=dtype).T if kind[0] == "T" else peer.normal(m, k, dtype=dtype)
    b = peer.normal(n, k, dtype=dtype).T if kind[1] == "T" else peer.normal(k, n, dtype=dtype)
    out = peer.empty(m, n, dtype=dtype)
    with peer.precision(precision):  # a captured graph keeps what was chosen
        return peer.run(partial(peer.torch.matmul, a, b, out=out), repeats)


# ---- convolutions -----------------------------------------------------------------------------

#: name: channels, filters, height, kernel, stride, padding, groups
CONVOLUTIONS = {
    "64 to 64, 3x3, 56x56": (64, 64, 56, 3, 1, 1, 1),
    "128 to 128, 3x3, 28x28": (128, 128, 28, 3, 1, 1, 1),
    "256 to 256, 3x3, 14x14": (256, 256, 14, 3, 1, 1, 1),
    "512 to 512, 3x3, 7x7": (512, 512, 7, 3, 1, 1, 1),
    "3 to 64, 7x7 stride 2, 224x224": (3, 64, 224, 7, 2, 3, 1),
    "64 to 128, 3x3 stride 2, 56x56": (64, 128, 56, 3, 2, 1, 1),
    "64 to 256, 1x1, 56x56": (64, 256, 56, 1, 1, 0, 1),
    "depthwise 3x3, 128 channels, 28x28": (128, 128, 28, 3, 1, 1, 128),
}
TINY_CONVOLUTIONS = {
    "4 to 4, 3x3, 5x5": (4, 4, 5, 3, 1, 1, 1),
    "depthwise 3x3, 4 channels, 5x5": (4, 4, 5, 3, 1, 1, 4),
}
PASSES = ("forward", "input gradient", "weight gradient")
LAYOUTS = ("channels first", "channels last")
CONVOLUTION_BAR = 0.8


def convolutions(bench):
    """Three passes each, float32."""
    for batch in bench.pick((32, 128), (2,)):
        for name, shape in bench.pick(CONVOLUTIONS, TINY_CONVOLUTIONS).items():
            for p in PASSES:
                if p == "input gradient" and shape[0] <= 3:
                    continue  # of the first layer: nobody needs it
                case = f"{name}, batch {batch}, {p}"
                bench.report.case(case, partial(_convolution, bench, case, p, (batch, *shape)))


def _convolution(bench, name, p, shape):
    batch, c, k, h, r, stride, pad, groups = shape
    out = (h + 2 * pad - r) // stride + 1
    work = 2 * batch * out * out * k * (c // groups) * r * r
    repeats = bench.repeats(work / 2 * _GUESS)
    runs = {"ours": _our_pass(bench, p, shape, out, repeats)}
    for form in LAYOUTS if bench.peer is not None else ():
        tensors = _tensors(bench.peer, shape, out, form)
        runs[form] = bench.peer.run(_peer_pass(bench.peer, p, shape, *tensors), repeats)
    seconds = bench.seconds(runs, repeats)
    mine = seconds.pop("ours")
    best = min(seconds, key=seconds.get, default=None)
    return compared(
        name, f"{mine * 1e3:.3f} ms ({work / mine / 1e12:.3g} TFLOP/s)",
        f"{seconds[best] * 1e3:.3f} ms ({best})" if best else "-",
        seconds[best] / mine if best else None, CONVOLUTION_BAR,
    )  # fmt: skip


def _our_pass(bench, p, shape, out, repeats):
    batch, c, k, h, r, stride, pad, groups = shape
    ours = bench.program()
    options = dict(stride=stride, padding=pad, groups=groups)
    x = ours.normal(1, batch, h, h, c)
    w = ours.normal(1, r, r, c // groups, k)
    ct = ours.normal(1, batch, out, out, k)

    def input_gradient(x, w, ct):
        return vjp(lambda v: ops.conv(v, w, **options), x)[1](ct)[0]

    def weight_gradient(x, w, ct):
        return vjp(lambda v: ops.conv(x, v, **options), w)[1](ct)[0]

    f, result = {
        "forward": (lambda x, w, ct: ops.conv(x, w, **options), ct),
        "input gradient": (input_gradient, x),
        "weight gradient": (weight_gradient, w),
    }[p]
    return ours.run(ours.recorded(f, (x, w, ct), ours.empty(*result.shape)), repeats)


def _tensors(peer, shape, out, form):
    """Return images, filters and cotangent in a layout."""
    batch, c, k, h, r, _, _, groups = shape
    last = peer.torch.channels_last if form == "channels last" else peer.torch.contiguous_format
    shapes = (batch, c, h, h), (k, c // groups, r, r), (batch, k, out, out)
    return [peer.normal(*s).contiguous(memory_format=last) for s in shapes]


def _peer_pass(peer, p, shape, x, w, ct):
    *_, stride, pad, groups = shape
    if p == "forward":
        return partial(peer.torch.nn.functional.conv2d, x, w, None, stride, pad, 1, groups)
    mask = [p == "input gradient", p == "weight gradient", False]
    return partial(
        peer.torch.ops.aten.convolution_backward,
        ct, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups, mask,
    )  # fmt: skip
