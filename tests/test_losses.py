"""Losses as a network and a booster use them: oracles, derivatives of any order, recordings."""

import numpy as np
import pytest
from sklearn._loss import loss as sk
from sklearn.neural_network import _base as sk_mlp

from skdeep._losses import CallableLoss, LogLoss, PointwiseLoss, get_loss
from skdeep.autodiff import check_grads, grad, vjp
from skdeep.autodiff._program import record
from skdeep.autodiff.ops import loss as ops

RNG = np.random.default_rng
NAMES = sorted(ops.COMPOSITIONS)


def raw_of(shape, seed=0, dtype=np.float64):
    return (RNG(seed).normal(size=shape) * 2).astype(dtype)


def target_of(name, shape, seed=1, dtype=np.float64):
    t = RNG(seed).uniform(0.1, 0.9, shape)
    signed = name in ("hinge", "squared_hinge", "perceptron")
    return (np.where(t > 0.5, 1.0, -1.0) if signed else t).astype(dtype)


# ---- derivatives of any order -------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_cross_entropy_derivatives(members, smoothing):
    z, y = raw_of((2, 3, 4)), RNG(0).integers(0, 4, (members, 3))
    check_grads(lambda z: ops.softmax_cross_entropy(z, y, smoothing), (z,), order=3)


def test_softmax_cross_entropy_without_member_axis():
    z, y = raw_of((3, 4)), np.array([0, 3, 1])
    check_grads(lambda z: ops.softmax_cross_entropy(z, y), (z,), order=2)
    stacked = ops.softmax_cross_entropy(z[None], y[None])
    assert np.array_equal(stacked[0], ops.softmax_cross_entropy(z, y))


def test_both_outputs_of_the_primitive_have_derivatives():
    z, y = raw_of((2, 3, 4)), RNG(0).integers(0, 4, (2, 3))
    check_grads(lambda z: ops._cross_entropy(z, y, np.zeros(1)), (z,), order=3)


@pytest.mark.parametrize("loss", NAMES)
def test_pointwise_derivatives(loss):
    z, t = raw_of((2, 3, 4)), target_of(loss, (2, 3, 4))
    check_grads(lambda z: ops.per_sample_loss(z, t, loss=loss), (z,), order=3)
    check_grads(lambda z: ops.pointwise_loss(z, t[:1], loss=loss), (z,), order=2)
    check_grads(lambda z: ops.pointwise_loss(z, t[0], loss=loss), (z[0],), order=2)


@pytest.mark.parametrize("loss", NAMES)
def test_targets_and_parameters_have_derivatives(loss):
    z, t = raw_of((2, 3, 4)), target_of(loss, (1, 3, 4))
    if loss in ops.PARAMETERS:
        param = np.array([0.4, 0.6])
        f = lambda z, t, a: ops.per_sample_loss(z, t, a, loss=loss)  # noqa: E731
        check_grads(f, (z, t, param), order=2)
    else:
        check_grads(lambda z, t: ops.per_sample_loss(z, t, loss=loss), (z, t), order=2)


@pytest.mark.parametrize("loss", NAMES)
def test_elementwise_losses_sum_to_the_samples(loss):
    z, t = raw_of((2, 3, 4)), target_of(loss, (2, 3, 4))
    each = ops.pointwise_loss(z, t, loss=loss)
    # Sums of four terms.
    np.testing.assert_allclose(each.sum(-1), ops.per_sample_loss(z, t, loss=loss), rtol=1e-14)


# ---- oracles ------------------------------------------------------------------------------------


def sklearn_derivatives(loss, y, raw):
    y, raw = np.ascontiguousarray(y), np.ascontiguousarray(raw)
    return loss.loss(y, raw), *loss.gradient_hessian(y, raw)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (get_loss("squared_error"), sk.HalfSquaredError()),
        (get_loss("absolute_error"), sk.AbsoluteError()),
        (get_loss("quantile", quantile=0.3), sk.PinballLoss(quantile=0.3)),
        (get_loss("huber", delta=0.8), sk.HuberLoss(delta=0.8)),
        (get_loss("poisson"), sk.HalfPoissonLoss()),
        (get_loss("log_loss"), sk.HalfBinomialLoss()),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_against_scikit_learn(ours, theirs):
    raw, y = raw_of(200), RNG(2).uniform(0, 1, 200)
    y = y + 0.5 if ours.name == "poisson" else y
    if ours.name == "huber":
        theirs.delta = 0.8
    loss, gradient, hessian = sklearn_derivatives(theirs, y, raw)
    if ours.name == "poisson":
        loss = loss + theirs.constant_to_optimal_zero(y)
    got = ours.gradient_hessian(y, raw)
    np.testing.assert_allclose(ours(raw[:, None], y[:, None]), loss, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got[0], gradient, rtol=1e-12, atol=1e-13)
    expected = np.broadcast_to(hessian, raw.shape)
    np.testing.assert_allclose(got[1], expected, rtol=1e-12, atol=1e-13)


def test_multinomial_against_scikit_learn():
    raw, y = raw_of((100, 4)), RNG(2).integers(0, 4, 100)
    theirs = sk.HalfMultinomialLoss(n_classes=4)
    loss, gradient, hessian = sklearn_derivatives(theirs, y.astype(np.float64), raw)
    got = LogLoss().gradient_hessian(y, raw)
    np.testing.assert_allclose(LogLoss()(raw, y), loss, rtol=1e-12)
    np.testing.assert_allclose(got[0], gradient, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(got[1], hessian, rtol=1e-11)
    np.testing.assert_allclose(LogLoss().predict(raw), theirs.predict_proba(raw), rtol=1e-12)


def test_against_the_perceptron_of_scikit_learn():
    raw, y = raw_of((100, 2)), RNG(2).uniform(0.5, 2, (100, 2))
    theirs = sk_mlp.LOSS_FUNCTIONS
    # Its squared error is the mean over outputs (though its gradient is that of the sum).
    expected = 2 * theirs["squared_error"](y, raw)
    assert get_loss("squared_error")(raw, y).mean() == pytest.approx(expected, rel=1e-12)
    expected = theirs["poisson"](y, np.exp(raw))
    assert get_loss("poisson")(raw, y).mean() == pytest.approx(expected, rel=1e-12)


def test_against_torch():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    z, y = raw_of((50, 5), dtype=np.float32), RNG(0).integers(0, 5, 50)
    t = torch.tensor(z, requires_grad=True)
    loss = f.cross_entropy(t, torch.tensor(y), reduction="sum", label_smoothing=0.1)
    loss.backward()
    ours, pullback = vjp(lambda z: LogLoss(0.1)(z, y), z)
    assert ours.dtype == np.float32
    # float32 on both sides, a dozen roundings.
    assert float(ours.sum()) == pytest.approx(float(loss.detach()), rel=1e-6)
    gradient = pullback(np.ones_like(ours))[0]
    np.testing.assert_allclose(gradient, t.grad.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "perceptron"])
def test_margin_losses(name):
    raw, sign = raw_of((20, 3)), target_of(name, (20, 3))
    margin = {"hinge": 1, "squared_hinge": 1, "perceptron": 0}[name]
    power = 2 if name == "squared_hinge" else 1
    expected = (np.maximum(margin - sign * raw, 0) ** power).sum(1)
    np.testing.assert_allclose(get_loss(name)(raw, sign), expected, rtol=1e-14)
    gradient, hessian = get_loss(name).gradient_hessian(sign, raw)
    np.testing.assert_allclose(gradient, grad(lambda r: np.sum(get_loss(name)(r, sign)))(raw))
    if name != "squared_hinge":
        assert np.array_equal(hessian, np.ones_like(raw))


# ---- log-loss over its three kinds of target ----------------------------------------------------


def test_log_loss_of_two_classes_by_labels_and_by_indicator():
    z, y = raw_of((2, 30, 1)), RNG(0).integers(0, 2, (2, 30))
    by_labels = LogLoss(0.1)(z, y)
    assert np.array_equal(by_labels, LogLoss(0.1)(z, y[..., None].astype(np.float64)))
    # Two logits of which one is zero are one logit.
    both = np.concatenate([np.zeros_like(z), z], axis=2)
    np.testing.assert_allclose(by_labels, LogLoss(0.1)(both, y), rtol=1e-12)


def test_log_loss_of_many_labels():
    z, t = raw_of((10, 3)), RNG(0).integers(0, 2, (10, 3)).astype(np.float64)
    one_by_one = [LogLoss()(z[:, [k]], t[:, [k]]) for k in range(3)]
    np.testing.assert_allclose(LogLoss()(z, t), np.sum(one_by_one, axis=0), rtol=1e-14)


def test_kinds_and_links():
    assert LogLoss().target_kind("multiclass") == "labels"
    assert LogLoss().target_kind("binary") == "indicator"
    assert LogLoss().target_kind("multilabel-indicator") == "indicator"
    assert [LogLoss().n_raw(n) for n in (2, 3)] == [1, 3]
    assert get_loss("hinge").target_kind("multiclass") == "sign"
    raw = raw_of((5, 1))
    np.testing.assert_allclose(LogLoss().predict(raw), 1 / (1 + np.exp(-raw)))
    np.testing.assert_allclose(get_loss("poisson").predict(raw), np.exp(raw))
    assert get_loss("poisson").out_activation == "exp"
    assert np.array_equal(get_loss("huber").predict(raw), raw)


@pytest.mark.parametrize("y", [np.array([[0, 1]]), np.array([[0.0], [1.0]])])
def test_extreme_logits(y):
    z = np.array([[[1e4, -1e4], [1e4, -1e4]]]) if y.dtype.kind == "i" else [[1e4], [-1e4]]
    loss, pullback = vjp(lambda z: LogLoss()(z, y), np.asarray(z))
    assert np.isfinite(loss).all()
    assert loss.max() >= 1e4
    assert np.isfinite(pullback(np.ones_like(loss))[0]).all()


# ---- recordings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss", "outputs", "labels"),
    [
        (LogLoss(), 5, True),
        (LogLoss(0.1), 5, True),
        (LogLoss(), 1, True),
        (LogLoss(), 3, False),
        *[(get_loss(n), 3, False) for n in ("squared_error", "huber", "hinge", "poisson")],
        (get_loss("squared_error"), 1, False),
    ],
    ids=str,
)
def test_replayed_equals_eager_bit_for_bit(loss, outputs, labels, dtype):
    z = raw_of((2, 12, outputs), dtype=dtype)
    y = RNG(0).integers(0, max(outputs, 2), (2, 12))
    if not labels:
        y = target_of(getattr(loss, "name", ""), z.shape, dtype=dtype)
    weights = RNG(3).uniform(0, 1, (2, 12)).astype(dtype)

    def step(z, y, weights):
        each, pullback = vjp(lambda z: loss(z, y), z)
        return each, pullback(weights)[0]

    into = np.empty((2, 12), dtype), np.empty_like(z)
    program = record(step, (z, y, weights), into)
    assert program.is_native
    run = program.compile()
    for _ in range(2):
        expected = step(z, y, weights)
        run()
        for got, e in zip(into, expected, strict=True):
            assert got.dtype == dtype
            assert np.array_equal(got, e)
        z[...] = -2 * z


@pytest.mark.parametrize("loss", [LogLoss(0.1), get_loss("huber")], ids=str)
def test_recorded_hessian_vector_product(loss):
    z = raw_of((1, 6, 3))
    y = np.array([[0, 1, 2, 0, 1, 2]]) if loss.kind == "labels" else np.zeros((1, 6, 3))
    v = raw_of(z.shape, seed=5)

    def product(z, v):
        gradient = grad(lambda z: np.sum(loss(z, y)))
        return vjp(gradient, z)[1](v)[0]

    into = np.empty_like(z)
    record(product, (z, v), into).compile()()
    np.testing.assert_allclose(into, product(z, v), rtol=1e-14)


@pytest.mark.parametrize("labels", [True, False])
def test_members_equal_solo_bit_for_bit(labels):
    z = raw_of((3, 9, 4), dtype=np.float32)
    y = RNG(0).integers(0, 4, (3, 9)) if labels else target_of("", z.shape, dtype=np.float32)
    loss = LogLoss(0.05)
    each, pullback = vjp(lambda z: loss(z, y), z)
    g = pullback(np.ones_like(each))[0]
    for m in range(3):
        solo, pull = vjp(lambda z, m=m: loss(z, y[m : m + 1]), z[m : m + 1])
        assert np.array_equal(solo[0], each[m])
        assert np.array_equal(pull(np.ones_like(solo))[0][0], g[m])


# ---- callables ----------------------------------------------------------------------------------


def log_cosh(y_true, y_pred):
    return np.sum(np.log(np.cosh(y_pred - y_true)), axis=1)


def test_callable_member_by_member():
    loss = get_loss(log_cosh)
    z, y = raw_of((2, 5, 3)), raw_of((1, 5, 3), seed=1)
    loss.check(y[0], 3)
    each = loss(z, y)
    assert each.shape == (2, 5)
    for m in range(2):
        assert np.array_equal(each[m], log_cosh(y[0], z[m]))
    check_grads(lambda z: loss(z, y), (z,), order=2)


def test_callable_gradient_hessian():
    raw, y = raw_of((7, 2)), raw_of((7, 2), seed=1)
    gradient, hessian = CallableLoss(log_cosh).gradient_hessian(y, raw)
    np.testing.assert_allclose(gradient, np.tanh(raw - y), rtol=1e-12)
    np.testing.assert_allclose(hessian, 1 / np.cosh(raw - y) ** 2, rtol=1e-10)
    gradient, hessian = CallableLoss(log_cosh).gradient_hessian(y[:, 0], raw[:, 0])
    np.testing.assert_allclose(hessian, 1 / np.cosh(raw - y)[:, 0] ** 2, rtol=1e-10)


def test_callable_keeps_float32():
    loss = CallableLoss(lambda y, p: np.sum((p - y) ** 2, axis=1) * np.array(0.5))
    z = raw_of((1, 4, 2), dtype=np.float32)
    each, pullback = vjp(lambda z: loss(z, np.zeros_like(z)), z)
    assert each.dtype == np.float32
    assert pullback(each)[0].dtype == np.float32


def _in_place(y_true, y_pred):
    y_pred -= y_true
    return np.sum(y_pred**2, axis=1)


def _written(y_true, y_pred):
    out = np.zeros(len(y_true))
    for i in range(len(y_true)):
        out[i] = np.sum((y_pred[i] - y_true[i]) ** 2)
    return out


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda y, p: np.sum(np.fft.rfft(p), axis=1), "rfft"),
        (lambda y, p: np.sum((p - y) ** 2), "one loss per sample"),
        (lambda y, p: (p - y) ** 2, "one loss per sample"),
        (lambda y, p: np.sum(y**2, axis=1), "constant"),
        (lambda y, p: None, "one loss per sample"),
        (_in_place, "x = x"),
        (_written, "float()"),
        (lambda y, p: np.sum(np.array([float(v) for v in p[:, 0]])), "float"),
    ],
    ids="uncovered scalar matrix constant none in_place written float".split(),
)
def test_callables_that_cannot_be_trained_with(function, cause):
    with pytest.raises(TypeError, match="loss=.*cannot be differentiated") as e:
        get_loss(function).check(np.ones((5, 2)), 2)
    assert cause in str(e.value)


# ---- parameters ---------------------------------------------------------------------------------


def test_get_loss():
    assert get_loss("huber", delta=2.0) == PointwiseLoss("huber", 2.0)
    assert get_loss("log_loss", label_smoothing=0.1) == LogLoss(0.1)
    assert get_loss(LogLoss(0.1)) == LogLoss(0.1)
    assert get_loss("squared_error", delta=2.0, quantile=0.1) == PointwiseLoss("squared_error")


@pytest.mark.parametrize(
    ("spec", "parameters", "match"),
    [
        ("rmse", {}, "loss='rmse' must be one of"),
        ("log_loss", {"label_smoothing": 1.5}, "label_smoothing=1.5"),
        ("log_loss", {"label_smoothing": "no"}, "label_smoothing='no'"),
        ("hinge", {"label_smoothing": 0.1}, "works with loss='log_loss' only"),
        ("huber", {"delta": 0.0}, "delta=0.0"),
        ("quantile", {"quantile": 1.0}, "quantile=1.0"),
    ],
)
def test_get_loss_refuses_values(spec, parameters, match):
    with pytest.raises(ValueError, match=match):
        get_loss(spec, **parameters)


def test_get_loss_refuses_types():
    with pytest.raises(TypeError, match="loss=3"):
        get_loss(3)


@pytest.mark.parametrize(
    ("z", "y", "error", "match"),
    [
        (np.zeros((3, 2)), np.array([0, 1, 2]), ValueError, "labels range from 0 to 2"),
        (np.zeros((3, 2)), np.array([0, 1]), ValueError, "must be \\(3,\\)"),
        (np.zeros((3, 2)), np.zeros(3), TypeError, "as integers"),
        (np.zeros(3), np.zeros(3, int), ValueError, "n_samples, n_classes"),
        (np.zeros((3, 2), np.float16), np.zeros(3, int), TypeError, "float16"),
    ],
)
def test_softmax_cross_entropy_refuses(z, y, error, match):
    with pytest.raises(error, match=match):
        ops.softmax_cross_entropy(z, y)


def test_pointwise_losses_refuse():
    z = np.zeros((3, 1))
    with pytest.raises(ValueError, match="target has shape \\(3,\\)"):
        ops.per_sample_loss(z, np.zeros(3), loss="squared_error")
    with pytest.raises(ValueError, match="loss='l3'"):
        ops.pointwise_loss(z, z, loss="l3")
    with pytest.raises(ValueError, match="param has shape \\(2,\\)"):
        ops.pointwise_loss(z, z, np.ones(2), loss="huber")
    with pytest.raises(TypeError, match="smoothing"):
        grad(lambda s: np.sum(ops.softmax_cross_entropy(z + [0, 1], np.zeros(3, int), s)))(0.1)
