"""Programs that compute activations again, or keep them in 16 bits."""

import numpy as np
import pytest

from skdeep._kernels.cpu import elementwise
from skdeep.autodiff import grad, jvp, value_and_grad, vjp
from skdeep.autodiff._checkpoint import rematerialize
from skdeep.autodiff._program import arena_size, record
from skdeep.autodiff.ops import linear


def layer(p, x):
    return linear(x, p["w"], p["b"], activation="relu")


def parameters(depth=8, width=64, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [
        {
            "w": (rng.standard_normal((1, width, width)) / 6).astype(dtype),
            "b": rng.standard_normal((1, width)).astype(dtype),
        }
        for _ in range(depth)
    ]


X = np.random.default_rng(1).standard_normal((1, 32, 64))


def gradients(segment):
    """Return a function (params, x) -> gradients of a deep stack cut into segments."""

    def run(part, x):
        for p in part:
            x = layer(p, x)
        return x

    def f(params, x):
        def forward(params):
            h = x
            for i in range(0, len(params), segment or len(params)):
                step = rematerialize(run) if segment else run
                h = step(params[i : i + (segment or len(params))], h)
            return h

        out, pullback = vjp(forward, params)
        return pullback(out)[0]

    return f


def planned(f, params, x, storage=None):
    into = [{k: np.empty_like(v) for k, v in p.items()} for p in params]
    return record(f, (params, x), into, storage=storage), into


@pytest.mark.parametrize("segment", [2, 4])
def test_rematerialising_changes_no_bit_and_saves_memory(segment):
    params, x = parameters(), X.astype(np.float32)
    program, plain = planned(gradients(None), params, x)
    again, other = planned(gradients(segment), params, x)
    program.compile()()
    again.compile()()
    for a, b in zip(plain, other, strict=True):
        assert all(a[k].tobytes() == b[k].tobytes() for k in a)
    assert again.arena.nbytes < program.arena.nbytes
    into = [{k: np.empty_like(v) for k, v in p.items()} for p in params]
    assert arena_size(gradients(segment), (params, x), into) == again.arena.nbytes


def test_rematerialised_functions_differentiate_in_every_way():
    f = rematerialize(lambda w, x: np.tanh(x @ w))
    g = lambda w, x: np.tanh(x @ w)  # noqa: E731
    w, x = np.full((3, 2), 0.2), np.arange(12.0).reshape(4, 3) / 10
    np.testing.assert_array_equal(f(w, x), g(w, x))
    t = np.ones_like(w)
    np.testing.assert_array_equal(
        jvp(lambda w: f(w, x), (w,), (t,))[1], jvp(lambda w: g(w, x), (w,), (t,))[1]
    )

    def second(h):
        return grad(lambda w: np.sum(grad(lambda w: np.sum(h(w, x) ** 2))(w) ** 2))(w)

    np.testing.assert_allclose(second(f), second(g), rtol=1e-12)
    value, (gw, gx) = value_and_grad(lambda wx: np.sum(f(*wx) ** 2))((w, x))
    assert value == np.sum(g(w, x) ** 2)
    assert (gw.shape, gx.shape) == (w.shape, x.shape)


def test_sixteen_bits_halve_what_waits_for_the_backward_pass():
    params, x = parameters(), X.astype(np.float32)
    program, exact = planned(gradients(None), params, x)
    packed, rounded = planned(gradients(None), params, x, "bfloat16")
    assert packed.is_native
    program.compile()()
    packed.compile()()
    assert packed.arena.nbytes < 0.75 * program.arena.nbytes
    for a, b in zip(exact, rounded, strict=True):
        for k in a:  # 8 bits of mantissa: each activation is off by 2^-9 at most
            assert np.abs(a[k] - b[k]).max() <= 0.02 * np.abs(a[k]).max()
    assert any(a["w"].tobytes() != b["w"].tobytes() for a, b in zip(exact, rounded, strict=True))
    packed.run()
    replayed = [{k: v.copy() for k, v in p.items()} for p in rounded]
    packed.compile()()
    for a, b in zip(replayed, rounded, strict=True):
        assert all(a[k].tobytes() == b[k].tobytes() for k in a)


def test_bfloat16_rounds_to_nearest_even_and_keeps_what_is_special():
    bits = np.array(
        [0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000, 0xFF800000, 0x80000000,
         0x00000001, 0x7F7FFFFF, 0x7FC00000, 0x7F800001],
        np.uint32,
    )  # fmt: skip
    expected = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x7F80, 0xFF80, 0x8000, 0, 0x7F80, 0x7FC0, 0x7FC0]
    half, back = np.zeros(len(bits), np.uint16), np.zeros(len(bits), np.float32)
    elementwise.pack_bfloat16[np.float32](bits.view(np.float32), half)
    assert half.tolist() == expected
    elementwise.unpack_bfloat16[np.float32](half, back)
    assert (back.view(np.uint32) >> 16).tolist() == expected
    assert not (back.view(np.uint32) & 0xFFFF).any()
