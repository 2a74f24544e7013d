"""Arrays that hold no numbers, or compute in ways of their own, are refused by name."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import UnsupportedError


class Units(np.ndarray):
    """A subclass that may mean something else by multiplication."""


PLAIN = np.array([1.0, 2.0, 3.0])
REFUSED = {
    "MaskedArray": np.ma.masked_array(PLAIN, [False, True, False]),
    "matrix": PLAIN.view(np.matrix),
    "Units": PLAIN.view(Units),
    "recarray": np.rec.array([(1.0,)] * 3, dtype=[("a", float)]),
    r"\[\('a'": np.zeros(3, [("a", float)]),
    "object|NoneType": np.array([1.0, 2.0, None], object),
    "U1": np.array(["a", "b", "c"]),
    "S1": np.array([b"a", b"b", b"c"]),
    "datetime64": np.array(["2020-01-01"] * 3, "M8[D]"),
    "timedelta64": np.array([1, 2, 3], "m8[s]"),
}
USES = {
    "operand": lambda x, other: x * other,
    "ufunc": lambda x, other: np.arctan2(x, other),
    "matmul": lambda x, other: x @ other,
    "where": lambda x, other: np.where(x > 0, x, other),
}


@pytest.mark.parametrize("name", REFUSED)
def test_as_an_argument(name):
    for transform in (vk.grad, vk.value_and_grad, vk.jacrev, vk.jacfwd):
        with pytest.raises(TypeError, match=name):
            transform(np.sum)(REFUSED[name])


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("use", USES)
def test_beside_a_traced_value(name, use):
    """By name, or NumPy refuses it itself."""
    with pytest.raises((UnsupportedError, TypeError)):
        vk.grad(lambda x: np.sum(USES[use](x, REFUSED[name])))(PLAIN)


def test_a_file_in_memory_is_a_plain_array(tmp_path):
    x = np.memmap(tmp_path / "numbers", float, "w+", shape=(3,))
    x[:] = PLAIN
    np.testing.assert_array_equal(vk.grad(lambda y: np.sum(y * y * x))(x), 2 * PLAIN**2)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool"])
def test_integers_are_operands_without_derivative(dtype):
    other = np.array([1, 0, 1], dtype)
    for f in (lambda x: x * other, lambda x: np.power(x, other), lambda x: np.where(other, x, -x)):
        got = vk.grad(lambda x, f=f: np.sum(f(x)))(PLAIN.astype(np.float32))
        assert got.dtype == np.float32
    with pytest.raises(TypeError, match="derivatives are taken in floating-point"):
        vk.grad(np.sum)(other)


@pytest.mark.parametrize(
    "other",
    [Fraction(1, 3), Decimal(1), None, "a", b"a", {}, {1}, object(), np.sin],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize(
    "use", [lambda x, y: x * y, lambda x, y: y - x, np.add], ids=["times", "minus", "add"]
)
def test_what_is_no_array_and_no_number_is_named(other, use):
    message = rf"{type(other).__name__} is not an array or a number   \(test_dtypes\.py"
    with pytest.raises(TypeError, match=message):
        vk.grad(lambda x: use(x, other))(2.0)


def test_a_complex_number_is_true_by_its_imaginary_part_too():
    z = np.array([1j, 0, 1, -2j])
    for f in (
        lambda z: z.astype(bool),
        lambda z: np.sum(np.ones(4), where=z.astype(bool)),
        lambda z: np.logical_or.accumulate(z),
        lambda z: np.logical_xor.reduce(z),
        lambda z: np.piecewise(np.arange(4.0), [z], [1.0]),
        lambda z: np.any(z[:1]),
    ):
        for got in (vk.vjp(f, z)[0], vk.jit(f)(z), vk.vmap(f)(z[None])[0]):
            np.testing.assert_array_equal(got, f(z))


REDUCED_INTO: dict[str, Any] = {
    "sum": np.sum, "prod": np.prod, "mean": np.mean, "nansum": np.nansum, "cumsum": np.cumsum,
    "add.reduce": np.add.reduce, "add.accumulate": np.add.accumulate, "nancumsum": np.nancumsum,
}  # fmt: skip


@pytest.mark.parametrize("f", REDUCED_INTO.values(), ids=list(REDUCED_INTO))
def test_sums_are_added_up_in_the_dtype_of_out(f):
    x = np.arange(1, 101, dtype=np.float32) / 70
    shape = np.shape(f(x))
    wanted = f(x, out=np.zeros(shape))
    into = lambda x: f(x, out=np.zeros_like(x, shape=shape, dtype=np.float64))
    for got in (vk.vjp(into, x)[0], vk.jit(into)(x), vk.vmap(into)(x[None])[0]):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, 1e-14)
    (gradient,) = vk.vjp(into, x)[1](np.ones(shape))
    assert gradient.dtype == np.float32
