"""Activations against mpmath, to second order, in every mode; large arguments; kinks; bad input."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import vjpkit as vk
from vjpkit.test_util import check_grads

nn: Any = vk.nn


def logistic(x):
    return 1 / (1 + mp.exp(-x))


def selu(x):
    scale, alpha = mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.67326324235437728481704")
    return scale * (x if x > 0 else alpha * mp.expm1(x))


REFERENCES = {
    "relu": lambda x: x if x > 0 else 0,
    "relu6": lambda x: min(max(x, 0), 6),
    "leaky_relu": lambda x: x if x > 0 else x / 100,
    "hard_tanh": lambda x: min(max(x, -1), 1),
    "hard_sigmoid": lambda x: min(max(x + 3, 0), 6) / 6,
    "hard_silu": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "hard_swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "sparse_plus": lambda x: 0 if x < -1 else x if x > 1 else (x + 1) ** 2 / 4,
    "sparse_sigmoid": lambda x: min(max(x + 1, 0), 2) / 2,
    "identity": lambda x: x,
    "sigmoid": logistic,
    "log_sigmoid": lambda x: mp.log(logistic(x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "silu": lambda x: x * logistic(x),
    "swish": lambda x: x * logistic(x),
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "tanh": mp.tanh,
    "elu": lambda x: x if x > 0 else mp.expm1(x),
    "celu": lambda x: x if x > 0 else mp.expm1(x),
    "selu": selu,
    "soft_sign": lambda x: x / (1 + abs(x)),
    "squareplus": lambda x: (x + mp.sqrt(x * x + 4)) / 2,
    "gelu": lambda x: x * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + 0.044715 * x**3))) / 2,
    "log1mexp": lambda x: mp.log(-mp.expm1(-x)),
}
POINTS = [-18.3, -2.7, -0.9, -1e-3, 1e-3, 0.6, 2.5, 4.5, 19.1]
SMOOTH = {
    "sigmoid", "log_sigmoid", "softplus", "silu", "swish", "mish", "tanh", "squareplus", "gelu",
    "identity", "sparse_plus", "sparse_sigmoid", "hard_sigmoid", "hard_tanh", "hard_silu",
}  # fmt: skip
"""Those without a kink at 0."""


def points(name):
    if name == "log1mexp":
        return [1e-3, 0.6, 2.5, 19.1]
    return [*POINTS, 0.0] if name in SMOOTH else POINTS


def derivatives(f, x):
    """Value, first and second derivative, reverse over reverse and forward over forward."""
    slope = vk.grad(f)
    yield f(x), slope(x), vk.grad(slope)(x)
    along = lambda x: vk.jvp(f, (x,), (1.0,))
    yield *along(x), vk.jvp(lambda x: along(x)[1], (x,), (1.0,))[1]
    staged = vk.jit(slope)
    yield vk.jit(f)(x), staged(x), vk.grad(staged)(x)


@pytest.mark.parametrize("name", REFERENCES)
def test_values_and_derivatives_are_mpmaths(name):
    f, reference = getattr(nn, name), REFERENCES[name]
    for x in points(name):
        with mp.workdps(60):
            want = [float(mp.diff(reference, mp.mpf(x), n)) for n in range(3)]
        for got in derivatives(f, x):
            scale = 1e-3 if name in ("gelu", "mish", "tanh") else 1e-8
            np.testing.assert_allclose(got, want, rtol=2e-11, atol=1e-11 * scale, err_msg=str(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", REFERENCES)
def test_nothing_overflows_at_large_arguments(name, dtype):
    f = getattr(nn, name)
    large = [1.0, 90.0, 1e3, 1e15, 1e30 if dtype == np.float32 else 1e200]
    x = np.array(large if name == "log1mexp" else [-v for v in large] + large, dtype)
    total = lambda x: np.sum(f(x))
    slope = vk.grad(total)
    second = vk.grad(lambda x: np.sum(slope(x)))(x)
    pushed = vk.jvp(slope, (x,), (np.ones_like(x),))[1]
    mapped = vk.vmap(vk.grad(f))(x)
    for got in (f(x), slope(x), second, pushed, mapped, vk.jit(slope)(x)):
        assert got.dtype == dtype
        assert np.all(np.isfinite(got)), got
    np.testing.assert_allclose(second, pushed, rtol=1e-4, atol=1e-6)


KINKS = {  # as in JAX
    "relu": {0.0: 0.0}, "relu6": {0.0: 0.0, 6.0: 0.0}, "leaky_relu": {0.0: 1.0},
    "hard_tanh": {-1.0: 1.0, 1.0: 1.0}, "hard_sigmoid": {-3.0: 0.0, 3.0: 0.0},
    "sparse_sigmoid": {-1.0: 0.25, 1.0: 0.25}, "elu": {0.0: 1.0}, "soft_sign": {0.0: 1.0},
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks(name):
    f = getattr(nn, name)
    for x, want in KINKS[name].items():
        assert vk.grad(f)(x) == want
        assert vk.jvp(f, (x,), (1.0,))[1] == want
        assert vk.grad(vk.jit(f))(x) == want
        assert np.isfinite(vk.grad(vk.grad(f))(x))


@pytest.mark.parametrize("name", REFERENCES)
def test_shapes_dtypes_and_nan(name):
    f = getattr(nn, name)
    assert f(np.zeros((2, 0), np.float32)).dtype == np.float32
    assert f(np.ones((2, 1, 3))).shape == (2, 1, 3)
    assert np.isnan(f(np.array([np.nan, 1.0])))[0]
    assert not isinstance(f(2.0), np.ndarray)
    assert f(np.array([1, 2])).dtype in (np.float64, np.int64)
    assert f([1.0, 2.0]).shape == (2,)


@pytest.mark.parametrize("name", [n for n in REFERENCES if n not in ("identity", "tanh")])
def test_bad_input(name):
    f = getattr(nn, name)
    name = f.__name__
    with pytest.raises(TypeError, match=rf"^{name}: x is complex .*test_activations.py"):
        f(np.array([1j]))
    with pytest.raises(TypeError, match=rf"^{name}: x: .*(str|NoneType).* not an array"):
        f(None)


def test_gelu_of_both_kinds():
    x = np.linspace(-4, 4, 9)
    with mp.workdps(40):
        want = [float(mp.mpf(v) * mp.ncdf(v)) for v in x]
    np.testing.assert_allclose(nn.gelu(x, approximate=False), want, rtol=1e-13)
    assert np.max(abs(nn.gelu(x) - want)) < 5e-4
    check_grads(lambda x: nn.gelu(x, approximate=False), (x,), 2)


def test_parameters_are_differentiated():
    x = np.array([-1.5, 0.3, 2.0])
    for f in (nn.leaky_relu, nn.elu, nn.celu, nn.squareplus):
        check_grads(f, (x, np.float64(1.3)), 2)
        with pytest.raises(TypeError, match=rf"^{f.__name__}: \w+: "):
            f(x, None)


def test_glu():
    x = np.arange(8.0).reshape(2, 4) / 5
    np.testing.assert_allclose(nn.glu(x), x[:, :2] * nn.sigmoid(x[:, 2:]))
    np.testing.assert_allclose(nn.glu(x, axis=0), x[:1] * nn.sigmoid(x[1:]))
    check_grads(nn.glu, (x,), 2)
    with pytest.raises(ValueError, match=r"glu: axis -1 of x has 3 elements \(shape \(3,\)\)"):
        nn.glu(np.ones(3))
    with pytest.raises(ValueError, match=r"glu: axis=2 is out of range for x of shape \(2, 4\)"):
        nn.glu(x, 2)
    with pytest.raises(TypeError, match="glu: axis must be an int"):
        nn.glu(x, "a")


def test_half_precision_is_kept():
    for name in REFERENCES:
        assert getattr(nn, name)(np.ones(2, np.float16)).dtype == np.float16
    assert nn.gelu(np.ones(2, np.float16), approximate=False).dtype == np.float16


def test_composition_with_the_loss_of_a_network():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 4)), rng.normal(size=(5, 3))
    for name in ("silu", "gelu", "softplus", "selu"):
        activation = getattr(nn, name)
        f = lambda w, f=activation: -np.mean(nn.log_softmax(f(x @ w))[:, 0])
        check_grads(f, (w,), 2)
        np.testing.assert_allclose(vk.jit(vk.grad(f))(w), vk.grad(f)(w), rtol=1e-12)
    assert math.isfinite(f(w))
