"""Elementwise functions under JAX's names: NumPy's values, JAX's demands."""

from typing import Any

import numpy as np
import pytest

import vjpkit
from vjpkit.test_util import check_grads

vk: Any = vjpkit
lax: Any = vk.lax
X, Y = np.array([0.3, -0.7, 0.9]), np.array([0.4, 0.2, -0.5])
INTS, MORE = np.array([-7, 6, 5]), np.array([2, 3, -2])

UNARY: dict[str, Any] = {
    "abs": np.abs, "neg": np.negative, "sign": np.sign, "ceil": np.ceil, "floor": np.floor,
    "is_finite": np.isfinite, "square": np.square, "cbrt": np.cbrt, "reciprocal": np.reciprocal,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log1p": np.log1p, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "atanh": np.arctanh,
    "real": np.real, "imag": np.imag, "conj": np.conj,
}  # fmt: skip
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum,
    "min": np.minimum, "rem": np.fmod, "atan2": np.arctan2, "nextafter": np.nextafter,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
INTEGER = {
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "rem": np.fmod, "add": np.add, "max": np.maximum,
}  # fmt: skip
WHOLE = {"abs", "neg", "sign", "square", "real", "imag", "conj"}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    f = getattr(lax, name)
    for x in (X, X.astype(np.float32), X[0], X.reshape(3, 1)[:0]):
        got = f(x)
        np.testing.assert_array_equal(got, UNARY[name](x))
        assert got.dtype == UNARY[name](x).dtype
    np.testing.assert_array_equal(vk.jit(f)(X), f(X))
    assert f.__name__ == name
    assert f.__doc__.endswith("element by element.")
    if f(X).dtype.kind == "f":
        check_grads(f, (X,), 2)
    if name not in WHOLE:
        with pytest.raises(TypeError, match=rf"^{name}: x has dtype int64, but {name} takes float"):
            f(INTS)
    with pytest.raises(TypeError, match=rf"^{name}: x: NoneType is not an array"):
        f(None)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    f = getattr(lax, name)
    np.testing.assert_array_equal(f(X, Y), BINARY[name](X, Y))
    np.testing.assert_array_equal(f(X, 0.5), BINARY[name](X, 0.5))
    np.testing.assert_array_equal(f(2, X), BINARY[name](2, X))
    assert f(X.astype(np.float32), 0.5).dtype == BINARY[name](X.astype(np.float32), 0.5).dtype
    if f(X, Y).dtype.kind == "f" and name not in ("nextafter", "rem"):
        check_grads(f, (X, Y), 2)
    with pytest.raises(TypeError, match=rf"^{name}: the operands have the dtypes float64, float32"):
        f(X, Y.astype(np.float32))
    with pytest.raises(TypeError, match=rf"^{name}: the operands have the shapes \(3,\), \(2,\)"):
        f(X, Y[:2])
    with pytest.raises(TypeError, match=rf"^{name}: .*\(3,\), \(1, 3\).*test_elementwise.py"):
        f(X, Y[None])
    with pytest.raises(TypeError, match=rf"^{name}: the operands have the dtypes int64, float64"):
        f(INTS, 0.5)
    with pytest.raises(TypeError, match=rf"^{name}: y: str is not an array"):
        f(X, "y")


@pytest.mark.parametrize("name", INTEGER)
def test_integers(name):
    f = getattr(lax, name)
    np.testing.assert_array_equal(f(INTS, MORE), INTEGER[name](INTS, MORE))
    np.testing.assert_array_equal(vk.jit(f)(INTS, MORE), INTEGER[name](INTS, MORE))


def test_integer_division_and_shifts():
    np.testing.assert_array_equal(lax.div(INTS, MORE), [-3, 2, -2])
    np.testing.assert_array_equal(vk.jit(lax.div)(INTS, MORE), [-3, 2, -2])
    assert lax.div(np.int32(7), np.int32(2)).dtype == np.int32
    np.testing.assert_array_equal(lax.shift_left(INTS, 2), INTS * 4)
    np.testing.assert_array_equal(lax.shift_right_arithmetic(INTS, 1), INTS >> 1)
    x = np.array([-1, 8], np.int16)
    np.testing.assert_array_equal(lax.shift_right_logical(x, np.array([12, 2], np.int16)), [15, 2])
    np.testing.assert_array_equal(vk.jit(lax.shift_right_logical)(x, x * 0 + 12), [15, 0])
    assert lax.shift_right_logical(x, 3).dtype == np.int16
    np.testing.assert_array_equal(lax.bitwise_not(np.array([True, False])), [False, True])
    np.testing.assert_array_equal(lax.population_count(np.array([7, 8])), [3, 1])


def test_powers():
    x = np.abs(X)
    np.testing.assert_array_equal(lax.pow(x, Y), x**Y)
    np.testing.assert_array_equal(lax.pow(x, np.array([2, 0, 3])), x ** np.array([2, 0, 3]))
    assert lax.pow(np.float32(2), 3).dtype == np.float32
    check_grads(lax.pow, (x, Y), 2)
    check_grads(lambda x: lax.integer_pow(x, -2), (X,), 2)
    with pytest.raises(TypeError, match=r"integer_pow: y must be a Python int, got float"):
        lax.integer_pow(X, 2.0)
    with pytest.raises(TypeError, match=r"pow: the operands have the shapes"):
        lax.pow(X, np.arange(2))


def test_special_functions():
    x = np.abs(X)
    for f in (
        lax.erf,
        lax.erfc,
        lax.erf_inv,
        lax.lgamma,
        lax.digamma,
        lax.rsqrt,
        lax.logistic,
        lax.log,
        lax.sqrt,
        lambda x: lax.acosh(x + 1),
        lambda x: lax.polygamma(2, x),
    ):
        check_grads(f, (x,), 2)
        assert f(x.astype(np.float32)).dtype == np.float32
    for m in (-1, 0.5, None):
        with pytest.raises(TypeError, match="polygamma: m must be a non-negative int"):
            lax.polygamma(m, x)


def test_rounding():
    x = np.array([0.5, -0.5, 1.5, 2.5, 0.49999999999999994, -3.0])
    np.testing.assert_array_equal(lax.round(x), [1, -1, 2, 3, 0, -3])
    even = lax.RoundingMethod.TO_NEAREST_EVEN
    np.testing.assert_array_equal(lax.round(x, even), np.rint(x))
    with pytest.raises(ValueError, match="7 is not a valid RoundingMethod"):
        lax.round(x, 7)


def test_complex_and_conversion():
    z = lax.complex(X.astype(np.float32), Y.astype(np.float32))
    assert z.dtype == np.complex64
    check_grads(lambda x, y: lax.imag(lax.exp(lax.complex(x, y))), (X, Y), 2)
    assert lax.convert_element_type(X, np.float32).dtype == np.float32
    np.testing.assert_array_equal(lax.convert_element_type(X + 1j, float), X)
    assert vk.grad(lambda x: lax.convert_element_type(x, np.float32) * 2)(1.0) == 2.0
    with pytest.raises(TypeError, match="complex: real has dtype int64"):
        lax.complex(INTS, INTS)


def test_clamp_and_selection():
    np.testing.assert_array_equal(lax.clamp(-0.5, X, Y + 1), np.clip(X, -0.5, Y + 1))
    check_grads(lax.clamp, (np.float64(-0.5), X, np.float64(0.5)), 1)
    which = np.array([0, 2, 1])
    cases = X, 2 * X, 3 * X
    want = [X[0], 3 * X[1], 2 * X[2]]
    np.testing.assert_array_equal(lax.select_n(which, *cases), want)
    np.testing.assert_array_equal(vk.jit(lax.select_n)(which, *cases), want)
    np.testing.assert_array_equal(lax.select_n(True, X, Y), Y)
    gradient = vk.grad(lambda x, y: np.sum(lax.select_n(X > 0, x, y)), argnums=(0, 1))(X, Y)
    np.testing.assert_array_equal(gradient, [X <= 0, X > 0])
    with pytest.raises(TypeError, match="select_n: which has dtype float64 for 2 cases"):
        lax.select_n(X, X, Y)
    with pytest.raises(TypeError, match="Two cases are selected by booleans"):
        lax.select_n(X > 0, X, Y, X)
    with pytest.raises(TypeError, match=r"select_n: which has the shape \(3,\), the cases are"):
        lax.select_n(X > 0, X, Y[:2])
    with pytest.raises(ValueError, match="select_n: there are no cases"):
        lax.select_n(X > 0)


@pytest.mark.parametrize("name", ["scatter_apply", "clz", "ragged_dot", "pcast", "nothing"])
def test_what_is_missing_names_the_way(name):
    ways = {
        "scatter_apply": "np.add.at", "clz": "bitwise operations", "ragged_dot": "np.einsum",
        "pcast": "no devices", "nothing": "NumPy's functions serve",
    }  # fmt: skip
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{ways[name]}"):
        getattr(lax, name)


def test_every_name_is_there():
    assert len(set(lax.__all__)) == len(lax.__all__) > 130
    assert all(hasattr(lax, name) for name in lax.__all__)
    assert not set(lax.__all__) & set(lax._WAYS)


SPECIAL = {
    "igamma": ("gammainc", (X + 1.5, Y + 2.0)),
    "igammac": ("gammaincc", (X + 1.5, Y + 2.0)),
    "betainc": ("betainc", (X + 1.5, Y + 2.0, (Y + 1.0) / 3)),
    "zeta": ("zeta", (X + 2.5, Y + 2.0)),
    "bessel_i0e": ("i0e", (X,)),
    "bessel_i1e": ("i1e", (X,)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_scipys_functions(name):
    special = pytest.importorskip("scipy.special")
    f, (scipys, values) = getattr(lax, name), SPECIAL[name]
    np.testing.assert_array_equal(f(*values), getattr(special, scipys)(*values))
    np.testing.assert_array_equal(vk.jit(f)(*values), f(*values))
    live = values if name != "zeta" else values[1:]
    g = f if name != "zeta" else lambda q: f(values[0], q)
    check_grads(g, live, 2)
    with pytest.raises(TypeError, match=f"^{name}: "):
        f(*[INTS] * len(values))
