"""Ufuncs beyond plain calls: keywords, out=, methods, operators; and functions like ufuncs."""

import functools
import math
import operator
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from tests.numpy.agreement import agrees
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.rows import Rows

untyped: Any = np  # for calls that NumPy takes but its types do not, or that are wrong
X = np.array([[0.33, 1.27, 2.51], [0.74, 0.41, 1.62]])
Y = np.array([1.7, 0.4, 0.6])
MASK = np.array([True, False, True])
SCOPE = {"np": np, "vnp": vnp, "Y": Y, "MASK": MASK, "math": math}


def program(code):
    return eval(f"lambda x: {code}", SCOPE)


# ---- methods ------------------------------------------------------------------------------------

FOLDED = [
    "add", "multiply", "maximum", "minimum", "logaddexp", "logaddexp2", "hypot", "fmax", "fmin",
    "subtract", "divide",
]  # fmt: skip
SEQUENTIAL = ("subtract", "divide")
METHODS = [
    *[f"np.{u}.reduce(x, {a})" for u in FOLDED for a in ("0", "axis=-1, keepdims=True")],
    *[f"np.{u}.reduce(x, 1, initial=0.9)" for u in FOLDED],
    *[f"np.{u}.reduce(x, 1, initial=0.9, where=MASK)" for u in FOLDED],
    *[f"np.{u}.reduce(x, None)" for u in FOLDED if u not in SEQUENTIAL],
    *[f"np.{u}.reduce(x, (1, 0), keepdims=True)" for u in FOLDED if u not in SEQUENTIAL],
    *[f"np.{u}.accumulate(x, {a})" for u in FOLDED for a in (0, -1)],
    *[f"np.{u}.reduceat(x, [0, 1, 0], 1)" for u in FOLDED],
    *[f"np.{u}.outer(x, Y)" for u in FOLDED],
    "np.power.outer(Y, x)", "np.arctan2.outer(x, Y)", "np.power.accumulate(x, 1)",
    "np.hypot.reduce(x, 1, where=~MASK)", "np.hypot.reduce(x[:0], 0)",
    "np.fmax.reduce(x[:0], 0, initial=0.5)", "np.remainder.reduce(x, 1)",
    "np.copysign.reduce(x, 1)", "np.add.reduce(x, ())",
    "np.add.reduce(x, 1, dtype='longdouble').astype(float)",
    "np.add.accumulate(x, 1, dtype='longdouble').astype(float)",
]  # fmt: skip


@pytest.mark.parametrize("code", METHODS)
def test_method(code):
    agrees(program(code), X, tolerance=1e-15)


def test_outer_takes_numbers_and_lists_and_keywords():
    agrees(program("np.multiply.outer(x, [1.0, 2.0])"), X)
    agrees(program("np.multiply.outer(3.0, x)"), X)
    agrees(program("np.add.outer(x, Y, dtype='longdouble').astype(float)"), X)


@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_log_of_sum_at_its_edges(name):
    reduce = getattr(np, name).reduce
    x = np.array([-np.inf, 800.0, 801.0])
    np.testing.assert_allclose(vk.value_and_grad(reduce)(x)[0], reduce(x), rtol=1e-15)
    nothing = np.full(3, -np.inf)
    value, gradient = vk.value_and_grad(reduce)(nothing)
    assert value == -np.inf
    np.testing.assert_array_equal(gradient, 0)


def test_constant_methods_give_plain_arrays():
    got = []

    def f(x):
        got.append(np.greater.outer(x[0], Y))
        got.append(np.logical_and.reduce(x > 0.4, axis=1))
        got.append(np.logical_or.reduce(x, axis=None))
        got.append(np.equal.reduce(x > 0))
        return np.sum(x)

    vk.grad(f)(X)
    want = [
        np.greater.outer(X[0], Y),
        np.logical_and.reduce(X > 0.4, axis=1),
        np.logical_or.reduce(X, axis=None),
        np.equal.reduce(X > 0),
    ]
    for a, b in zip(got, want, strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)


def test_a_quotient_of_nothing_is_the_element_itself():
    """Reductions of a locally constant ufunc begin with an element, whose derivative is 1."""
    for f in (
        lambda x: np.floor_divide.accumulate(9 * x, 1),
        lambda x: np.floor_divide.reduceat(9 * x, [0, 2], 1),
        lambda x: np.floor_divide.reduce(9 * x[:, :1], 1),
    ):
        got = vk.jvp(f, (X,), (np.ones_like(X),))[1]
        np.testing.assert_array_equal(got, (f(X + 1e-9) - f(X) > 0) * 9.0)


ERRORS: dict[str, Any] = {
    "np.subtract.reduce(x, (0, 1))": ValueError,
    "np.hypot.reduce(x, 2)": np.exceptions.AxisError,
    "np.fmax.reduce(x[:0], 0)": ValueError,
    "np.fmax.reduce(x, 0, where=MASK)": ValueError,
    "np.fmax.accumulate(x, 2)": np.exceptions.AxisError,
    "np.sin.outer(x, x)": ValueError,
    "np.add.reduceat(x, [0, 5], 1)": IndexError,
    "np.add(x, Y, dtype=int)": TypeError,
    "np.add(x, Y, dtype='float32', casting='safe')": TypeError,
    "np.add(x, Y, casting='nonsense')": (TypeError, ValueError),
    "np.add(x, Y, nonsense=1)": TypeError,
    "np.add(x, Y[:2])": ValueError,
    "x & 1": TypeError,
    "~x": TypeError,
    "x << 2": TypeError,
    "np.gcd(x, 2)": TypeError,
    "np.bitwise_count(x)": TypeError,
    "np.ldexp(x, 0.5)": TypeError,
    "np.cbrt(x + 0j)": TypeError,
    "x + 'a'": TypeError,
    "x + None": TypeError,
}


@pytest.mark.parametrize("code", ERRORS)
def test_errors_are_numpys(code):
    for x in (X, Rows().argument(X)):
        with pytest.raises(ERRORS[code]):
            program(code)(x)


REFUSED = {
    "np.add(x, Y, order='F')": r"np\.add: the keyword order='F'",
    "np.power.reduce(x)": r"np\.power\.reduce is not supported",
    "np.arctan2.reduceat(x, [0])": r"np\.arctan2\.reduceat is not supported",
    "np.isnat(x)": r"np\.isnat is not supported",
}


@pytest.mark.parametrize("code", REFUSED)
def test_refused_by_name(code):
    with pytest.raises(UnsupportedError, match=REFUSED[code]):
        program(code)(Rows().argument(X))


# ---- keywords -----------------------------------------------------------------------------------

KEYWORDS = [
    "np.add(x, Y, dtype='longdouble').astype(float)",
    "np.multiply(x, Y, signature='dd->d')",
    "np.multiply(x, Y, signature=('d', 'd', 'd'))",
    "np.exp(x, dtype=complex).real",
    "np.sin(x, casting='unsafe', subok=False, order='K')",
    "np.power(x, 2, dtype=float)",
    "np.divide(1, x, dtype=float)",
    "np.modf(x + 0.1, dtype=None)[0]",
    "np.matmul(x, x, axes=[(0, 1), (1, 0), (0, 1)])",
    "np.matmul(x, Y, axes=[(0, 1), (0,), (0,)])",
    "np.matmul(x, Y, dtype='longdouble').astype(float)",
    "np.sign(x + 1j * x**2, dtype=complex).real",
    "np.vecdot(x, x, axis=0)",
    "np.vecdot(x, Y, keepdims=True)",
    "np.vecdot(x, Y, axes=[-1, 0, ()])",
]


@pytest.mark.parametrize("code", KEYWORDS)
def test_keyword(code):
    agrees(program(code), X, tolerance=1e-15)


def test_dtype_decides_the_loop():
    f = lambda x: np.sum(np.add(x, 1, dtype="float32"))
    value, gradient = vk.value_and_grad(f)(X)
    assert value.dtype == np.float32
    assert gradient.dtype == np.float64
    np.testing.assert_array_equal(gradient, 1)


def test_what_where_leaves_out_is_zero_and_has_no_derivative():
    f = lambda x: np.log(x, where=x > 0)
    x = np.array([-1.0, 0.0, 2.0])
    value, pullback = vk.vjp(f, x)
    np.testing.assert_array_equal(value, [0, 0, np.log(2.0)])
    np.testing.assert_array_equal(pullback(np.ones(3))[0], [0, 0, 0.5])


# ---- writing ------------------------------------------------------------------------------------


def into(ufunc, **keywords):
    """A program that has ``ufunc`` write into an array made from ``x``."""

    def f(x):
        out = np.copy(x) * 1.0
        result = ufunc(x, Y, out=out, **keywords)
        assert result is out
        return out

    return f


def test_out_into_an_array_that_accepts_traced_values():
    agrees(into(np.multiply), X)
    agrees(into(np.divide, where=MASK), X)
    agrees(into(np.add, casting="unsafe", dtype=float), X)


def test_out_of_several_outputs_and_of_methods():
    def f(x):
        whole, part = np.zeros_like(x), np.zeros_like(x)
        np.modf(x + 0.1, out=(part, whole))
        total = np.zeros_like(x[0])
        np.add.reduce(x * part, axis=0, out=total)
        running = np.zeros_like(x)
        np.maximum.accumulate(part, axis=1, out=running)
        return total + running + whole

    agrees(f, X, staged=False, mapped=False)


def test_out_may_be_larger_than_the_result():
    def f(x):
        out = np.zeros_like(x)
        np.add(x[0], Y, out=out)
        return out

    agrees(f, X)


def test_out_that_does_not_fit():
    def f(x, dtype):
        np.add(x, Y, out=np.zeros_like(x, dtype=dtype))

    with pytest.raises(TypeError, match="Cannot cast ufunc 'add' output"):
        vk.grad(f)(X * (1 + 0j), float)
    with pytest.raises(ValueError, match="non-broadcastable output operand"):
        vk.grad(lambda x: np.add(x, 1, out=np.zeros_like(x[0])))(X)


PLAIN_TARGETS = [
    "np.add(x, Y, out=np.empty((2, 3)))",
    "np.add.reduce(x, out=np.empty(3))",
    "np.add.accumulate(x, out=np.empty((2, 3)))",
    "np.add.at(np.zeros(3), [0, 1], x[0, :2])",
    "operator.iadd(np.zeros((2, 3)), x)",
]


@pytest.mark.parametrize("code", PLAIN_TARGETS)
def test_a_plain_array_cannot_take_a_traced_value(code):
    f = eval(f"lambda x: {code}", {**SCOPE, "operator": operator})
    with pytest.raises(TracerConversionError, match="plain ndarray") as error:
        vk.grad(f)(X)
    assert "np.zeros_like" in str(error.value)
    assert "<string>:1" in str(error.value)


def test_constant_results_may_be_written_into_plain_arrays():
    out = np.zeros((2, 3), bool)
    whole = np.zeros((2, 3))

    def f(x):
        assert np.greater(x, 0.5, out=out) is out
        np.floor(x * 3, out=whole)
        np.less(x, 0.5, out=out, where=out)
        return np.sum(x)

    vk.grad(f)(X)
    np.testing.assert_array_equal(whole, np.floor(X * 3))
    assert not out.any()


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "power"])
def test_at_repeats(name):
    def f(x):
        out = x * 1.5
        getattr(np, name).at(out, ([0, 1, 0], [0, 1, 0]), x[:, 1][[0, 1, 1]])
        return out

    agrees(f, X)


def test_unary_at():
    def f(x):
        out = x * 1.5
        np.negative.at(out, (0, [1, 1, 2]))
        np.square.at(out, 1)
        return out

    agrees(f, X)


# ---- operators ----------------------------------------------------------------------------------

OPERATORS = [
    "x + Y", "Y + x", "x - 1", "1 - x", "x * Y", "2 * x", "x / Y", "1 / x", "x ** 2", "x ** Y",
    "2.0 ** x", "Y ** x", "x % 0.7", "-0.2 % x", "divmod(x, 0.7)[1]", "divmod(-0.2, x)[1]",
    "x * (x // 0.4)", "x * (-0.2 // x)", "-x", "+x", "abs(x - 1)", "x @ Y", "Y[:2] @ x", "x @ x.T",
    "pow(x, 3)", "x + [1.0, 2.0, 3.0]", "[1.0, 2.0, 3.0] * x", "np.float32(2) * x", "x * True",
    "x * 2j * (1 - 1j) / (2 + 2j)", "(x > 1) * x", "np.where((x > 0.4) & (x < 2), x, -x)",
    "np.where((x > 2) | ~(x > 0.5), x, -x)", "np.where((x > 2) ^ (x > 0.5), x, -x)",
    "np.where(x >= Y, x, 0)", "np.where(x <= Y, x, 0)", "np.where(x == x, x, 0)",
    "np.where(x != Y, x, 0)", "np.where(1 < x, x, 0)", "np.where(Y > x, x, 0)",
]  # fmt: skip


@pytest.mark.parametrize("code", OPERATORS)
def test_operator(code):
    real = program(code)(X).dtype.kind == "f"
    f = program(code) if real else program(f"np.real({code})")
    agrees(f, X)


def test_comparisons_are_plain_and_go_both_ways():
    seen = []

    def f(x):
        seen.extend([x > 1, operator.lt(1, x), x == X, operator.eq(X, x), x != 2])
        seen.extend([x[0, 0] < x[0, 1], x.sum() > 1, x == None, x == "a"])  # noqa: E711
        seen.extend([0.33 in x, 17 in x, not x[0, 0], bool(x[0, 0])])
        return np.sum(x)

    vk.grad(f)(X)
    want = [X > 1, X > 1, X == X, X == X, X != 2, X[0, 0] < X[0, 1], X.sum() > 1]
    want += [X == None, X == "a", True, False, False, True]  # noqa: E711
    for a, b in zip(seen, want, strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError):
        vk.grad(lambda x: x < None)(X)


def test_rounding_to_python_numbers():
    seen = []

    def f(x):
        seen.extend([round(x), round(x, 1), math.floor(x), math.ceil(x), math.trunc(x), int(x)])
        return x * round(x)

    assert vk.grad(f)(np.float64(2.567)) == 3
    assert seen == [3, 2.6, 2, 3, 2, 2]
    assert type(seen[0]) is int


def test_rounding_an_abstract_value_says_what_to_do():
    with pytest.raises(TracerConversionError, match=r"np\.where"):
        vk.make_ir(lambda x: x * round(x))(np.float64(1.5))


def test_operators_leave_foreign_containers_their_turn():
    class Labelled:
        __array_priority__ = 2000
        __array_ufunc__ = None

        def __radd__(self, other):
            return "labelled"

        def __rfloordiv__(self, other):
            return "divided"

    seen = []

    def f(x):
        seen.append(x // Labelled())
        return np.sum(x + 0)

    vk.grad(f)(X)
    assert seen == ["divided"]


# ---- Python numbers stay weak -------------------------------------------------------------------

SINGLE = np.ones(3, "float32")
WEAK = [
    "x * 2", "x ** 2", "abs(x)", "-x", "+x", "x % 2", "2 - x", "1 / x", "x // 1", "x + x",
    "np.abs(x)", "np.add(x, 2.0)", "np.power(x, 2)", "np.negative(x)", "np.sin(x)",
    "np.floor_divide(x, 1)", "np.multiply(x, SINGLE)", "x * SINGLE", "np.float32(2) * x",
    "x * SINGLE.astype(float)", "np.square(x)", "np.float64(2) * x",
]  # fmt: skip


@pytest.mark.parametrize("code", WEAK)
def test_python_numbers_promote_as_untraced(code):
    f = eval(f"lambda x: {code}", {**SCOPE, "SINGLE": SINGLE})
    want = f(1.7)
    seen = []

    def g(x):
        y = f(x)
        value = y.concrete() if hasattr(y, "concrete") else y
        seen.append((type(value), (y * SINGLE).dtype))
        return np.sum(y) * x

    gradient = vk.grad(g)(1.7)
    assert seen == [(type(want), (want * SINGLE).dtype)]
    assert type(gradient) is np.float64
    for other in (vk.grad(vk.grad(g)), lambda x: vk.jvp(g, (x,), (1.0,)), vk.make_ir(g)):
        seen.clear()
        if other is not vk.make_ir:
            try:
                other(1.7)
            except TypeError:
                continue  # abstract values have no concrete ones
        assert all(dtype == (want * SINGLE).dtype for _, dtype in seen)


# ---- functions like ufuncs ----------------------------------------------------------------------

FUNCTIONS = [
    "np.divmod(x, 0.7)[1]", "np.modf(x + 0.1)[0]", "np.frexp(x + 0.03)[0]", "np.float_power(x, Y)",
    "np.float_power(2, x)", "np.sinc(x)", "np.i0(x * 4)", "np.unwrap(x * 4.1)",
    "np.unwrap(x * 4.1, axis=0, period=2.0)", "np.unwrap(x * 4.1, 2.5, 1)", "np.nan_to_num(x)",
    "np.nan_to_num(np.where(MASK, x, np.nan), nan=0.5)", "np.angle(x + 1j * x**2)",
    "np.angle(x - 1j * x**2, deg=True)", "np.angle(x)", "np.real(x)", "np.real(x * (1 + 2j))",
    "np.imag(x * (1 + 2j))", "x + np.imag(x)", "np.conj(x * (1 + 2j)).imag", "np.conj(x)",
    "np.conjugate(x) * x", "x.conj() * x", "(x * (1 + 2j)).conjugate().imag",
    "(x * (1 + 2j)).real", "(x * (1 + 2j)).imag", "np.sign(x + 1j * x**2).real", "x * np.sign(x)",
    "np.where(np.isfinite(x), x, 0)",
    "np.where(np.isclose(x, x, equal_nan=True), x, x * x)",
    "np.where(np.signbit(x - 1), x, x * x)", "np.ldexp(x, 3)", "np.ldexp(x, [1, 2, -3])",
    "np.deg2rad(np.rad2deg(x) * x)", "np.heaviside(x - 1, x)", "np.copysign(x, Y - 1) * x",
    "np.where(np.isreal(x), x, 0)",
    "np.where(np.isposinf(x) | np.isneginf(-x) | np.iscomplex(x), 0, x)",
]  # fmt: skip


@pytest.mark.parametrize("code", FUNCTIONS)
def test_function(code):
    agrees(program(code), X, tolerance=1e-15)


CONSTANT = [
    "np.fix(x * 3)", "np.round(x, 1)", "np.around(x)", "x.round(1)", "np.round(x * 70, -1)",
    "np.trunc(x * 3)", "np.rint(x * 3)", "np.floor(x * 3)", "np.ceil(x)", "np.spacing(x)",
    "np.frexp(x * 3)[1]", "np.modf(x * 3)[1]", "x // 0.3", "np.isclose(x, 0.41)", "np.sign(x - 1)",
    "np.signbit(x - 1)", "x > 1", "np.logical_xor(x > 1, Y)", "np.logical_not(x)",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")  # since NumPy 2.5
@pytest.mark.parametrize("code", CONSTANT)
def test_locally_constant(code):
    """Times x it has itself as derivative; differences would see its jumps."""
    f = lambda x: program(code)(x) * x
    agrees(f, X, order=0)
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(f(x)))(X), program(code)(X))
    np.testing.assert_array_equal(vk.jvp(f, (X,), (np.ones_like(X),))[1], program(code)(X))


def test_nan_to_num():
    x = np.array([np.nan, np.inf, -np.inf, 2.0])
    for keywords in ({}, {"nan": 7.0, "posinf": 8.0, "neginf": -9.0}, {"nan": 2 * np.ones(4)}):
        f = lambda x, k=keywords: np.nan_to_num(x, **k)
        value, pullback = vk.vjp(f, x)
        np.testing.assert_array_equal(value, f(x))
        np.testing.assert_array_equal(pullback(np.ones(4))[0], [0, 0, 0, 1])
    single = x.astype("float32")
    value, pullback = vk.vjp(np.nan_to_num, single)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, np.nan_to_num(single))
    z = np.empty(4, complex)
    z.real, z.imag = x, x[::-1]
    value, pullback = vk.vjp(np.nan_to_num, z)
    np.testing.assert_array_equal(value, np.nan_to_num(z))


def test_nan_to_num_of_a_list_would_leave_nan_where_it_is():
    f = lambda x: np.nan_to_num([x[0], np.nan])
    for transform in (vk.grad, vk.jit, vk.jacfwd, lambda f: lambda x: vk.vmap(f)(x[None])):
        with pytest.raises(TracerConversionError, match=r"vnp\.array"):
            transform(f)(np.ones(2))
    constants = lambda x: np.nan_to_num([len(x), np.nan, *np.isnan(x)]) * x[0]
    np.testing.assert_array_equal(vk.vjp(constants, np.ones(2))[0], [2, 0, 0, 0])


QUERIES = [
    "np.allclose(x, X)", "np.allclose(x, Y)", "np.array_equal(x, X)", "np.array_equal(x, Y)",
    "np.array_equiv(x, x[None])", "np.array_equiv(x, Y[:2])", "np.isrealobj(x)",
    "np.iscomplexobj(x)", "np.isreal(x)", "np.iscomplex(x)", "np.isposinf(x)", "np.isneginf(x)",
    "np.isnan(x)", "np.isinf(x)", "np.isclose(x, 0.41)", "np.array_equal(x, X, equal_nan=True)",
    "np.frexp(x)[1]", "np.modf(x)[1]", "np.fix(x)", "np.round(x, 1)", "np.sign(x)",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")  # since NumPy 2.5
@pytest.mark.parametrize("code", QUERIES)
def test_query(code):
    f = eval(f"lambda x: {code}", {**SCOPE, "X": X})
    seen = []

    def g(x):
        seen.append(f(x))
        return np.sum(x)

    vk.grad(g)(X)
    want = f(X)
    assert type(seen[0]) is type(want)
    np.testing.assert_array_equal(seen[0], want)
    if "obj" not in code:
        np.testing.assert_array_equal(vk.make_ir(f)(X)(X)[0], want)


def test_real_if_close():
    z = X + 1e-18j
    for f in (np.real_if_close, lambda z: np.real_if_close(z, tol=1e-3)):
        assert vk.vjp(f, z)[0].dtype == f(z).dtype
    with pytest.raises(TracerConversionError, match="real_if_close"):
        vk.make_ir(np.real_if_close)(z)


def summed_at(ufunc, places, a, v):
    out = np.copy(a)
    ufunc.at(out, places, v)
    return out


@pytest.mark.parametrize("count", [1, 3, 40, 300])
@pytest.mark.parametrize("dtypes", ["dd", "fd", "df", "ff", "Dd"])
def test_sums_at_repeated_indices_are_numpys_to_the_bit(count, dtypes):
    """Repeats are added to the element one after the other, never to one another first."""
    rng = np.random.default_rng(count)
    for ufunc, shape in ((np.add, (7,)), (np.subtract, (4, 5))):
        a = rng.normal(size=shape).astype(dtypes[0])
        places = rng.integers(-shape[0], shape[0], size=count)
        sizes = 10 ** rng.uniform(-3, 3, size=count).reshape(-1, *[1] * (len(shape) - 1))
        v = (rng.normal(size=(count, *shape[1:])) * sizes).astype(dtypes[1])

        sums = functools.partial(summed_at, ufunc)
        program = functools.partial(sums, places)
        wanted = program(a, v)
        for got in (
            vk.vjp(program, a, v)[0],
            vk.jvp(program, (a, v), (a, v))[0],
            vk.jit(program)(a, v),
            vk.jit(sums)(places, a, v),
            vk.vmap(program)(a[None], v[None])[0],
        ):
            assert got.dtype == wanted.dtype
            assert got.tobytes() == wanted.tobytes()


def test_sums_at_an_index_say_what_does_not_fit():
    x = np.ones(3)
    for places in ([0, 0], [0] * 20):
        with pytest.raises(TypeError, match="Cannot cast ufunc 'add' output from"):
            vk.grad(lambda x: np.add.at(np.copy(x), places, 1j * np.ones(len(places))))(x)  # noqa: B023
        with pytest.raises(IndexError, match="out of bounds"):
            vk.grad(lambda x: np.add.at(np.copy(x), [*places, 3], x[0]))(x)  # noqa: B023
        with pytest.raises(ValueError, match="broadcast"):
            vk.grad(lambda x: np.add.at(np.copy(x), [*places, 0], x[:2]))(x)  # noqa: B023


MASKED: dict[str, Any] = {
    "ufunc": lambda x: np.sin(x, out=np.zeros_like(x), where=x.shape[0] * np.ones((2, 3))),
    "reduce": lambda x: untyped.hypot.reduce(x, where=np.ones(3), initial=0.0),
    "logaddexp": lambda x: untyped.logaddexp.reduce(x, where=np.ones(3), initial=0.0),
    "sum": lambda x: untyped.sum(x, where=np.ones(3)),
    "mean": lambda x: np.mean(x, where=np.ones((2, 1), int)),
    "nanmax": lambda x: np.nanmax(x, where=x, initial=0.0),
    "copyto": lambda x: np.copyto(np.zeros_like(x), x, where=np.ones(3)),
}


@pytest.mark.parametrize("f", MASKED.values(), ids=list(MASKED))
def test_a_mask_is_of_truth_values(f):
    for run in (f, lambda x: vk.vjp(f, x), vk.jit(f)):
        with pytest.raises(TypeError, match=r"Cannot cast array data from .* to dtype\('bool'\)"):
            run(X)
    for mask in ([1, 0, 1], 1, np.True_):
        np.testing.assert_allclose(
            vk.vjp(lambda x, m=mask: untyped.sum(x, where=m), X)[0],
            untyped.sum(X, where=mask),
            1e-15,
        )


def test_reductions_begin_in_the_dtype_of_the_array():
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    for ufunc in (np.add, np.multiply, np.maximum, np.hypot, np.logaddexp, np.logaddexp2):
        f = lambda x, u=ufunc: u.reduce(x, axis=0, initial=np.float64(0.3))
        for got in (vk.vjp(f, x)[0], vk.jit(f)(x), vk.vmap(f)(x[None])[0]):
            assert got.dtype == f(x).dtype == np.float32
            np.testing.assert_allclose(got, f(x), 1e-6)


def test_core_axes_do_not_broadcast():
    x = np.ones((3, 4))
    for f in (
        lambda x: untyped.vecdot(x, x[:, :1]),
        lambda x: untyped.vecdot(x, x[None], axis=0),
        lambda x: np.matmul(x, x[:1]),
    ):
        for run in (f, lambda x, f=f: vk.vjp(f, x), vk.jit(f)):
            with pytest.raises(ValueError, match=r"core dimension|inner dimension"):
                run(x)
    f = lambda x: untyped.vecdot(x, x, axis=np.int64(1))
    np.testing.assert_array_equal(vk.vjp(f, x)[0], f(x))


def test_one_of_several_results_is_written_and_all_are_as_large():
    def f(x):
        fraction, whole = untyped.modf(x[0], out=(None, np.zeros_like(x)))
        return fraction + whole

    agrees(f, X * 3, order=1)
    assert vk.vjp(f, X)[0].shape == X.shape


def test_one_element_alone_is_of_the_loops_dtype():
    x = np.arange(1, 4)
    for f in (
        lambda x: np.float_power.accumulate(x[:1]),
        lambda x: np.float_power.reduce(x[:1]),
        lambda x: np.divide.reduce(x[1:2]),
        lambda x: np.hypot.accumulate(x),
    ):
        got, wanted = vk.jit(f)(x), f(x)
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-15)
