"""Taylor mode: against mpmath, against nested forward mode, composed with every transform."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import vjpkit
import vjpkit.numpy as vnp
from tests.control.test_products import PROGRAMS, REFERENCES, TRANSFORMS, V, X
from vjpkit.core.primitive import PRIMITIVES
from vjpkit.kinds import Elementwise
from vjpkit.ops import scipy_errors, scipy_gamma, scipy_special

vk: Any = vjpkit

ORDER = 6
UNARY: dict[Any, Any] = {
    np.negative: lambda x: -x, np.positive: lambda x: x, np.reciprocal: lambda x: 1 / x,
    np.square: lambda x: x * x, np.sqrt: mp.sqrt, np.cbrt: mp.cbrt, np.exp: mp.exp,
    np.exp2: lambda x: mp.mpf(2) ** x, np.expm1: mp.expm1, np.log: mp.log,
    np.log2: lambda x: mp.log(x, 2), np.log10: mp.log10, np.log1p: mp.log1p, np.sin: mp.sin,
    np.cos: mp.cos, np.tan: mp.tan, np.arcsin: mp.asin, np.arccos: mp.acos, np.arctan: mp.atan,
    np.degrees: mp.degrees, np.radians: mp.radians, np.rad2deg: mp.degrees, np.deg2rad: mp.radians,
    np.sinh: mp.sinh, np.cosh: mp.cosh, np.tanh: mp.tanh, np.arcsinh: mp.asinh,
    np.arccosh: mp.acosh, np.arctanh: mp.atanh, np.absolute: lambda x: x if x.real > 0 else -x,
    np.fabs: lambda x: x if x.real > 0 else -x,
    np.sinc: lambda x: mp.sincpi(x), np.i0: lambda x: mp.besseli(0, x),
    scipy_errors.erf: mp.erf, scipy_errors.erfc: mp.erfc, scipy_errors.erf_inv: mp.erfinv,
    scipy_gamma.lgamma: mp.loggamma, vk.nn.sigmoid: lambda x: 1 / (1 + mp.exp(-x)),
    vk.nn.softplus: lambda x: mp.log1p(mp.exp(x)),
}  # fmt: skip
"""Functions of one number and what mpmath calls them."""

BINARY: dict[Any, Any] = {
    np.add: lambda x, y: x + y, np.subtract: lambda x, y: x - y, np.multiply: lambda x, y: x * y,
    np.divide: lambda x, y: x / y, np.power: lambda x, y: x**y, np.hypot: mp.hypot,
    np.logaddexp: lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
    np.logaddexp2: lambda x, y: mp.log(mp.mpf(2) ** x + mp.mpf(2) ** y, 2),
    np.arctan2: lambda y, x: mp.atan(y / x), np.maximum: lambda x, y: x if x.real > y.real else y,
    np.minimum: lambda x, y: y if x.real > y.real else x,
    np.fmax: lambda x, y: x if x.real > y.real else y,
    np.fmin: lambda x, y: y if x.real > y.real else x,
    np.remainder: lambda x, y: x - mp.floor((x / y).real) * y,
    np.fmod: lambda x, y: x - mp.floor((x / y).real) * y, np.copysign: lambda x, y: x,
    np.float_power: lambda x, y: x**y,
}  # fmt: skip
"""Functions of two positive numbers."""

UNLISTED = {"heaviside", "nextafter", "ldexp"}
"""Not functions of two real numbers that mpmath has; the generated law covers them."""


def test_every_elementwise_primitive_has_a_reference():
    ours = {
        p.ufunc: name
        for name, p in PRIMITIVES.items()
        if isinstance(p, Elementwise) and not isinstance(p, scipy_special.SciPyFunction)
    }
    missing = {name for ufunc, name in ours.items() if ufunc not in UNARY and ufunc not in BINARY}
    assert missing - UNLISTED == set()


def wanted(f, coefficients):
    """Terms of f along curves, by mpmath at 60 digits: derivatives of its composition."""
    with mp.workdps(60):
        curves = [[mp.mpf(float(c)) for c in column] for column in coefficients]
        on_curve = lambda s: f(*[sum(c * s**k for k, c in enumerate(column)) for column in curves])
        return [float(mp.re(c)) for c in mp.taylor(on_curve, 0, ORDER)]


def assert_terms(f, primals, series, reference):
    value, terms = vk.jet(f, primals, series)
    columns = [[x, *s] for x, s in zip(primals, series, strict=True)]
    want = wanted(reference, columns)
    scale = max(map(abs, want))
    np.testing.assert_allclose([value, *terms], want, rtol=1e-12, atol=1e-12 * scale)


DOMAIN = {np.arccosh: (1.7, 4.2), np.tan: (0.4, -1.1)}


@pytest.mark.parametrize("f", UNARY, ids=lambda f: getattr(f, "name", None) or f.__name__)
def test_functions_of_one_number_are_mpmaths(f):
    for x in DOMAIN.get(f, (0.37, 0.8)):
        assert_terms(f, (x,), ([1.0, *[0.0] * (ORDER - 1)],), UNARY[f])
        assert_terms(f, (x,), ([0.3, -0.2, 0.11, 0.07, -0.05, 0.02],), UNARY[f])


@pytest.mark.parametrize("f", BINARY, ids=lambda f: f.__name__)
def test_functions_of_two_numbers_are_mpmaths(f):
    first, second = [0.3, -0.2, 0.11, 0.07, -0.05, 0.02], [-0.1, 0.4, 0.0, 0.2, 0.1, -0.3]
    for x, y in ((1.3, 0.8), (0.6, 1.7)):
        assert_terms(f, (x, y), (first, second), BINARY[f])
        assert_terms(f, (x, y), (first, [0.0] * ORDER), BINARY[f])
        assert_terms(f, (x, y), ([0.0] * ORDER, second), BINARY[f])


@pytest.mark.parametrize("p", [0, 1, 2, 3, 5, 0.5, -1, -1.5, 2.5])
def test_powers(p):
    assert_terms(lambda x: x**p, (1.4,), ([0.3, -0.2, 0.11, 0.07, -0.05, 0.02],), lambda x: x**p)


def test_powers_at_zero():
    line = ([1.0, None, None, None, None, None],)
    for n in range(6):
        _, terms = vk.jet(lambda x, n=n: x**n, (0.0,), line)
        np.testing.assert_array_equal(terms, [float(k == n) for k in range(1, 7)])
    with np.errstate(divide="ignore"):
        _, terms = vk.jet(lambda x: np.where(x > 0, np.log(x), 0.0) + x, (0.0,), line)
    np.testing.assert_array_equal(terms, [1, 0, 0, 0, 0, 0])


# ------------------------------------------------------------------------------------- composition


def nested(f, x, t, order):
    """Terms along a line, by forward mode over forward mode."""
    g: Any = lambda s: f(x + s * t)
    terms = []
    for k in range(1, order + 1):
        g = lambda s, g=g: vk.jvp(g, (s,), (1.0,))[1]
        terms.append(g(0.0) / math.factorial(k))
    return terms


def third(f, x):
    return vk.jet(f, (x,), ([V, None, None],))[1][2]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_jet_of_each_transform(transform, name):
    f = PROGRAMS[name]
    want = nested(REFERENCES[transform](f), X, V, 3)[2]
    np.testing.assert_allclose(third(TRANSFORMS[transform](f), X), want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_each_transform_of_jet(transform, name):
    f = PROGRAMS[name]
    got = TRANSFORMS[transform](lambda x: third(f, x))(X)
    want = REFERENCES[transform](lambda x: nested(f, x, V, 3)[2])(X)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_jet_under_jit_under_vmap_and_twice(name):
    f = PROGRAMS[name]
    got = vk.vmap(vk.jit(lambda x: third(f, x)))(np.stack([X, 0.5 * X]))
    np.testing.assert_allclose(got, np.stack([third(f, X), third(f, 0.5 * X)]), rtol=1e-9)
    twice = vk.jet(lambda x: vk.jet(f, (x,), ([V, None],))[1][1], (X,), ([V, None],))[1][1]
    np.testing.assert_allclose(twice, 6 * nested(f, X, V, 4)[3], rtol=1e-8, atol=1e-9)


def test_perturbations_are_not_confused():
    inner = lambda x: vk.jet(lambda y: x * y, (1.0,), ([1.0, 0.0],))[1][0]
    assert vk.jet(lambda x: x * inner(x), (3.0,), ([1.0, 0.0],)) == (9.0, [6.0, 1.0])
    assert vk.grad(lambda x: x * inner(x))(3.0) == 6.0


def test_trees_integers_and_constants():
    f = lambda p, n, c: {"a": p["x"] ** 2 * c, "n": n + 1, "b": (p["y"],)}
    p = {"x": np.array([1.0, 2.0]), "y": 3.0}
    series = {"x": [np.ones(2), None], "y": [2.0, 5.0]}
    value, terms = vk.jet(f, (p, np.int64(7), 2.0), (series, None, None))
    assert value["n"] == 8
    np.testing.assert_array_equal(terms["a"], [[4.0, 8.0], [2.0, 2.0]])
    assert terms["b"] == ([2.0, 5.0],)
    assert [t.dtype for t in terms["n"]] == [vk.float0, vk.float0]


def test_precision_and_freshness():
    x, t = np.ones(3, np.float32), np.ones(3, np.float32)
    value, terms = vk.jet(lambda x: x, (x,), ([t, t],))
    assert [y.dtype for y in terms] == [np.float32] * 2
    assert not any(np.shares_memory(a, b) for a in terms for b in (t, x))
    assert not np.shares_memory(*terms)
    z, (z1,) = vk.jet(np.exp, (1j,), ([1.0 + 0j],))
    assert z == z1 == np.exp(1j)
    assert vk.jet(lambda x: np.zeros(2), (1.0,), ([1.0],))[1][0].shape == (2,)


def test_python_control_flow_sees_values():
    f = lambda x: x**2 if x > 0 else -x
    assert vk.jet(f, (3.0,), ([1.0, 0.0],)) == (9.0, [6.0, 1.0])
    assert vk.laplacian(lambda x: f(x[0]) + x[1] ** 3)(np.array([2.0, 1.0])) == 8.0


def test_arrays_that_are_written_to():
    def f(x):
        y = vnp.zeros(3)
        y[0] = x
        for i in range(2):
            y[i + 1] = y[i] * x
        y *= 2
        return y

    _, terms = vk.jet(f, (3.0,), ([1.0, 0.0, 0.0],))
    np.testing.assert_array_equal(terms, [[2, 12, 54], [0, 2, 18], [0, 0, 2]])


def test_an_escaped_value_is_refused():
    kept: list[Any] = []

    def leaking(x):
        kept.append(x)
        return x

    vk.jet(leaking, (1.0,), ([1.0],))
    with pytest.raises(RuntimeError, match=r"used after jet\(leaking\) had finished"):
        kept[0] * 2


def test_the_taylor_series_of_an_ode():
    """y' = sin(y) - t y: each term from the jet of those before."""

    def terms(order):
        ys = [np.float64(0.7)]
        for k in range(order):
            series = ([*ys[1:], *[None] * (k + 1 - len(ys[1:]))], [1.0, *[None] * k])
            value, more = vk.jet(lambda y, t: np.sin(y) - t * y, (ys[0], 0.0), series)
            ys.append([value, *more][k] / (k + 1))
        return ys

    h, y = 0.05, np.float64(0.7)
    for i in range(200):
        t, d = i * h / 200, h / 200
        k1 = np.sin(y) - t * y
        k2 = np.sin(y + d / 2 * k1) - (t + d / 2) * (y + d / 2 * k1)
        y = y + d * k2
    np.testing.assert_allclose(np.polyval(terms(6)[::-1], h), y, rtol=1e-8)


def equations(order):
    f = lambda x: np.tanh(np.sin(x) / (1 + np.exp(x)))
    jet = lambda x: vk.jet(f, (x,), ([1.0, *[None] * (order - 1)],))
    return len(vk.make_ir(jet)(0.3).program.equations)


def test_the_cost_is_polynomial_in_the_order():
    counts = {order: equations(order) for order in (2, 4, 8)}
    assert counts[4] < 5 * counts[2]
    assert counts[8] < 5 * counts[4]


# ------------------------------------------------------------------------------ what is built on it


def test_directional_derivatives():
    f = lambda x, y: np.sum(np.sin(x) * y)
    x, y = np.array([0.3, 1.2]), 2.0
    got = vk.directional_derivatives(f, (x, y), (np.ones(2), 0.5), 4)
    g: Any = lambda s: f(x + s, y + 0.5 * s)
    for k in range(5):
        np.testing.assert_allclose(got[k], g(0.0), rtol=1e-12)
        g = lambda s, g=g: vk.jvp(g, (s,), (1.0,))[1]
    both = vk.directional_derivatives(lambda x: (x, {"a": x**2}), (3.0,), (1.0,), 2)
    assert both == [(3.0, {"a": 9.0}), (1.0, {"a": 6.0}), (0.0, {"a": 2.0})]


def test_laplacian_is_the_trace_of_the_hessian():
    f = lambda x: (
        np.sum(np.sin(x) * x[::-1] ** 2) + np.linalg.slogdet(np.outer(x, x) + np.eye(3))[1]
    )
    want = np.trace(vk.hessian(f)(X))
    np.testing.assert_allclose(vk.laplacian(f)(X), want, rtol=1e-10)
    np.testing.assert_allclose(vk.jit(vk.laplacian(f))(X), want, rtol=1e-10)
    np.testing.assert_allclose(vk.laplacian(vk.jit(f))(X), want, rtol=1e-10)
    mapped = vk.vmap(vk.laplacian(f))(np.stack([X, X]))
    np.testing.assert_allclose(mapped, [want, want], rtol=1e-10)
    gradient = vk.grad(vk.laplacian(f))(X)
    np.testing.assert_allclose(
        gradient, vk.grad(lambda x: np.trace(vk.hessian(f)(x)))(X), rtol=1e-8
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.tanh(np.outer(x, x) @ np.sin(x)) / (1.0 + x**2)),
        lambda x: np.sum(np.maximum(x, x[::-1]) ** 2 * np.logaddexp(x, 2 * x[::-1])),
        lambda x: np.linalg.slogdet(np.outer(x, x) + 3 * np.eye(3))[1] + np.linalg.norm(x),
        lambda x: np.abs(np.fft.fft(x) ** 2).sum() + np.prod(x) + np.sort(x) @ np.cumsum(x),
        lambda x: np.sum(np.hypot(x, 1.0 + x[0]) ** x[1]) + np.arctan2(x[0], x[2]),
        lambda x: vk.lax.scan(lambda c, v: (np.sin(c) * v + x, None), x, x)[0][1],
        lambda x: vk.lax.while_loop(lambda c: np.sum(c) < 9.0, lambda c: c * c + 0.5, x).sum(),
        lambda x: vk.lax.cond(np.sum(x) > 0, np.sin, np.cos, x * x).sum(),
        lambda x: np.sum(vk.grad(lambda y: np.sum(np.sin(y) * y * x))(x) * x),
        lambda x: vk.jvp(lambda y: np.sum(y**3), (x,), (np.sin(x),))[1],
        lambda x: np.sum(vk.vmap(lambda a: np.exp(a * x) * a)(x)),
        lambda x: vk.checkpoint(lambda y: np.sum(np.sin(y) ** 3))(x),
        lambda x: vk.laplacian(lambda y: np.sum(y**4 * x))(x * x),
    ],
    ids=str.split(
        "products pairs linalg complex powers scan while cond grad jvp vmap checkpoint itself"
    ),
)
@pytest.mark.parametrize("keeper", [lambda f: f, vk.jit], ids=["eager", "jit"])
def test_laplacian_of_everything(f, keeper):
    with np.errstate(all="ignore"):
        want = np.trace(vk.hessian(f)(X))
        np.testing.assert_allclose(keeper(vk.laplacian(f))(X), want, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(vk.laplacian(keeper(f))(X), want, rtol=1e-9, atol=1e-11)


def test_laplacian_pushes_one_second_derivative_for_all_directions():
    """A linear map takes n first derivatives, and one sum of second ones."""
    a = np.linspace(-1.0, 1.0, 20).reshape(4, 5)
    program = vk.make_ir(vk.laplacian(lambda x: np.sum(np.sin(a @ x**2))))(np.ones(5)).program
    products = [e for e in program.equations if e.primitive.name == "matmul"]
    assert sorted(e.outputs[0].aval.shape for e in products) == [(4,), (4,), (5, 4)]


def test_laplacian_of_arrays_trees_and_many_coordinates():
    many = np.linspace(-1, 1, 600)
    np.testing.assert_allclose(vk.laplacian(lambda x: np.sum(x**4))(many), 12 * np.sum(many**2))
    matrix = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(vk.laplacian(lambda a: a**3)(matrix), 6 * matrix)
    p = {"a": 2.0, "b": np.array([1.0, 3.0])}
    got = vk.laplacian(lambda p: {"s": p["a"] ** 2 * np.sum(p["b"] ** 2)})(p)
    assert got == {"s": 2 * 10.0 + 2 * 2 * 4.0}
    f = lambda x, y, k: x**2 * y**3 * k
    assert vk.laplacian(f, argnums=(0, 1))(2.0, 3.0, k=2) == 2 * (2 * 27 + 4 * 18)
    assert vk.laplacian(f, argnums=-1)(2.0, 3.0, k=1) == 4 * 18
    assert vk.laplacian(np.sum)(np.zeros((0,))) == 0.0
    for g in (lambda x: vk.lax.map(np.sin, x, batch_size=1), vk.jit(lambda x: np.sum(x) + x)):
        assert vk.laplacian(g)(np.zeros((0,))).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vk.jet(3, (1.0,), ([1.0],)), TypeError, "jet: the first argument must be a func"),
        (lambda: vk.jet(np.sin, 1.0, [1.0]), TypeError, "Write jet(sin, (x,), ([x1, x2],))"),
        (lambda: vk.jet(np.sin, (1.0,), ()), TypeError, "got 1 primals and 0 series"),
        (lambda: vk.jet(np.sin, (1.0,), (1.0,)), TypeError, "series[0] must be a list"),
        (lambda: vk.jet(np.sin, (1.0,), ([],)), ValueError, "series has no terms"),
        (lambda: vk.jet(np.sin, (1.0,), (None,)), ValueError, "Give at least one list"),
        (
            lambda: vk.jet(np.add, (1.0, 2.0), ([1.0], [1.0, 2.0])), ValueError,
            "the same number of terms: [0] has 1, [1] has 2",
        ),
        (
            lambda: vk.jet(np.sin, (X,), ([X, X[:2]],)), ValueError,
            "jet(sin): term 2: got f64[2] at [0], but f64[3] is wanted",
        ),
        (
            lambda: vk.jet(np.sin, (X,), ([X.astype(np.float32)],)), ValueError,
            "term 1: got f32[3] at [0], but f64[3] is wanted",
        ),
        (
            lambda: vk.jet(lambda p: p["a"], ({"a": 1.0},), ({"b": [1.0]},)), ValueError,
            "series[0] has the wrong tree",
        ),
        (lambda: vk.jet(lambda x: "a", (1.0,), ([1.0],)), TypeError, "the function returned a str"),
        (lambda: vk.jet(np.sin, ("a",), ([1.0],)), TypeError, "is a str"),
        (lambda: vk.jet(np.sin, (np.int64(3),), ([1.5],)), ValueError, "other than zero"),
        (
            lambda: vk.directional_derivatives(np.sin, (1.0,), (1.0,), 0), ValueError,
            "order must be a positive int, got 0",
        ),
        (
            lambda: vk.directional_derivatives(np.sin, 1.0, 1.0, 2), TypeError,
            "Write directional_derivatives(sin, (x,), (t,), 2)",
        ),
        (
            lambda: vk.directional_derivatives(np.sin, (1.0,), ([1.0],), 2), TypeError,
            "primals and tangents must have the same tree",
        ),
        (lambda: vk.laplacian(3), TypeError, "laplacian: the first argument must be a function"),
        (lambda: vk.laplacian(np.sum)(X * 1j), TypeError, "taken in real arguments, got c128[3]"),
        (lambda: vk.laplacian(np.sum)(np.arange(3)), TypeError, "Cast it, e.g. x.astype(float)"),
        (lambda: vk.laplacian(np.sum, 2)(X), TypeError, "argnums=2 is out of range"),
    ],
    ids=lambda p: p if isinstance(p, str) else None,
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_golden(golden):
    f = lambda x: vk.jet(lambda x: np.exp(x) * x / (1 + x), (x,), ([np.ones(2), None],))
    golden("taylor-second-order", str(vk.make_ir(f)(np.ones(2))))


def test_a_norm_is_expanded_under_a_derivative():
    """A reduction keeps its axes by a reshape of a value whose terms are not known yet."""
    size = lambda v: vk.jet(lambda x: np.linalg.norm(x + 0.9), (v,), ([v],))[1][0]
    v = np.array([0.4, -0.7, 1.1])
    want = lambda v: (v + 0.9) @ v / np.sqrt((v + 0.9) @ (v + 0.9))
    np.testing.assert_allclose(vk.grad(size)(v), vk.grad(want)(v), rtol=1e-12)
    np.testing.assert_allclose(vk.jacfwd(size)(v), vk.grad(want)(v), rtol=1e-12)


@pytest.mark.parametrize("loop", ["scan", "while"])
def test_a_carry_that_starts_constant_is_expanded(loop):
    """x**3 by a loop from 1: the first state has no terms, the others have."""

    def power(x):
        if loop == "scan":
            return vk.lax.scan(lambda c, _: (c * x, c), 1.0, length=3)[0]
        return vk.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, 1.0))[1]

    for f in (power, vk.jit(power)):
        y, terms = vk.jet(f, (2.0,), ([1.0, 0.0, 0.0, 0.0],))
        assert [y, *terms] == [8.0, 12.0, 6.0, 1.0, 0.0]
