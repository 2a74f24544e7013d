"""SciPy on traced values: its ufuncs as they are, and with its array API dispatch switched on."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from tests.numpy.scipy_calls import COMPILED, CONSTANT, DIFFERENTIABLE, VERSION, names
from vjpkit.core.errors import NotDifferentiableError, UnsupportedError
from vjpkit.ops.scipy_special import by_name

special = pytest.importorskip("scipy.special")
mpmath = pytest.importorskip("mpmath")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What is wrong with each call, from one run of all of them."""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.numpy.scipy_calls"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(map(json.loads, run.stdout.splitlines()))


TAKEN = {
    "differentiable": names(DIFFERENTIABLE),
    "constant": names(CONSTANT),
    "compiled": names(COMPILED),
}


@pytest.mark.skipif(
    VERSION < (1, 17), reason="older SciPy takes arrays of other libraries in fewer functions"
)
@pytest.mark.parametrize(("kind", "name"), [(k, name) for k in TAKEN for name in TAKEN[k]])
def test_array_api(kind: str, name: str, outcomes: dict[str, str]) -> None:
    """See the check of the kind in `tests.numpy.scipy_calls`."""
    assert not outcomes[name]


@pytest.mark.skipif(VERSION != (1, 17), reason="SciPy's table of functions is of its version")
def test_every_function_that_takes_arrays_of_any_library_is_tried(
    outcomes: dict[str, str],
) -> None:
    assert not outcomes["unlisted"]


def test_ufuncs_take_traced_values() -> None:
    x = np.array([0.3, 1.2])
    assert vk.grad(lambda x: np.sum(special.erf(x)))(x) == pytest.approx(
        2 / np.sqrt(np.pi) * np.exp(-x * x)
    )
    value, tangent = vk.jvp(lambda x: special.xlogy(2.0, x), (x,), (x,))
    assert value == pytest.approx(2 * np.log(x))
    assert tangent == pytest.approx([2.0, 2.0])
    assert vk.grad(special.log1p)(1.0) == 0.5
    assert vk.jit(special.expit)(0.0) == 0.5
    assert vk.vmap(special.gammaln)(x) == pytest.approx(special.gammaln(x))
    assert vk.grad(lambda x: np.sum(special.erf(x, out=np.zeros_like(x))))(x).shape == (2,)


def test_the_namespace_has_the_names_and_checks_arguments() -> None:
    assert vnp.special.erf(0.5) == special.erf(0.5)
    assert vnp.special.gammainc([1.0, 2.0], 0.5) == pytest.approx(special.gammainc([1.0, 2.0], 0.5))
    for name in vnp.special.__all__:
        assert hasattr(special, name), name
    with pytest.raises(TypeError, match=r"erf\(\) takes 1 argument, but 2 were given"):
        vnp.special.erf(1.0, 2.0)
    with pytest.raises(ValueError, match="the order is -1"):
        vnp.special.polygamma(-1, 2.0)
    assert vnp.special.polygamma(0, 2.0) == special.digamma(2.0)
    with pytest.raises(ValueError, match=r"must be greater than \(d - 1\)/2 = 1\.0"):
        vnp.special.multigammaln(0.5, 3)


def test_what_has_no_derivative_says_so() -> None:
    with pytest.raises(NotDifferentiableError, match=r"special\.jv: .* derivative in v") as e:
        vk.grad(lambda v: special.jv(v, 1.0))(2.0)
    assert "test_scipy.py" in str(e.value)
    assert "vk.numeric_vjp(scipy.special.jv)" in str(e.value)
    assert "stop_gradient(v)" in str(e.value)
    assert vk.grad(lambda x: special.gammainc(2.0, x))(1.0) == pytest.approx(np.exp(-1.0))
    with pytest.raises(TypeError, match=r"special\.gamma of complex numbers has no derivative"):
        vk.vjp(special.gamma, 1.0 + 1.0j)
    with pytest.raises(UnsupportedError, match=r"tklmbda is not supported on traced values"):
        vk.grad(lambda x: special.tklmbda(x, 0.5))(0.3)


# What is SciPy's own, not a part of it, and a function of real numbers with real values.
REAL = {
    name: p
    for name, p in by_name().items()
    if isinstance(p.ufunc, np.ufunc) and not any(np.iscomplexobj(p(*x)) for x in [p.points])
}
UNKNOWN = [(name, i) for name, p in REAL.items() for i in sorted(p.unknown - p.whole)]
WHOLE = [(name, i) for name, p in REAL.items() for i in sorted(p.whole)]


def takes_floats(name: str) -> bool:
    """Whether SciPy computes with parameters that are no integers."""
    return any(set(types.split("->")[0]) <= set("fd") for types in REAL[name].ufunc.types)


@pytest.mark.filterwarnings("ignore:non-integer arg n")
@pytest.mark.parametrize(("name", "i"), WHOLE)
def test_parameters_that_are_whole_numbers(name: str, i: int) -> None:
    """An error in both modes; integers are no operands that are differentiated in."""
    f = REAL[name].ufunc
    xs = [np.ravel(x)[1] for x in REAL[name].points]
    rest = [j for j in range(len(xs)) if j not in by_name()[name].unknown]
    assert all(np.isfinite(g) for g in vk.grad(f, argnums=rest)(*xs))
    assert vk.jit(vk.grad(f, argnums=rest))(*xs) == vk.grad(f, argnums=rest)(*xs)
    if not takes_floats(name):
        return
    inexact = [float(x) for x in xs]
    for run in (lambda: vk.grad(f, argnums=i)(*inexact), lambda: vk.jvp(f, inexact, inexact)):
        with pytest.raises(NotDifferentiableError, match=rf"special\.{name}: \w is a whole number"):
            run()


@pytest.mark.parametrize(("name", "i"), UNKNOWN)
def test_parameters_without_a_formula(name: str, i: int) -> None:
    """Each is an error that names the function, the parameter, the line and ways on, in both modes;
    one of these ways works."""
    f = getattr(special, name)
    xs = [float(np.ravel(x)[0]) for x in by_name()[name].points]
    words = rf"special\.{name}: there is no formula for the derivative in (\w+)   \(test_scipy\.py"
    ts = [float(i == j) for j in range(len(xs))]
    for run in (lambda: vk.grad(f, argnums=i)(*xs), lambda: vk.jvp(f, xs, ts),
                lambda: vk.jit(vk.grad(f, argnums=i))(*xs)):  # fmt: skip
        with pytest.raises(NotDifferentiableError, match=words) as caught:
            run()
        assert f"vk.numeric_vjp(scipy.special.{name})" in str(caught.value)
    rest = [j for j in range(len(xs)) if j not in by_name()[name].unknown]
    assert all(np.isfinite(g) for g in vk.grad(f, argnums=rest)(*xs))
    assert vk.grad(vk.numeric_vjp(f), argnums=i)(*xs) != 0
    left_out = lambda x: f(*[vk.lax.stop_gradient(x) if j == i else y for j, y in enumerate(xs)])
    assert vk.grad(left_out)(xs[i]) == 0


REMOVABLE = {
    "ellipe": (mpmath.ellipe, (0.0, 1e-9, 0.0999, 0.1001)),
    "ellipk": (mpmath.ellipk, (0.0, -1e-9, 0.0999, 0.1001)),
    "ellipkm1": (lambda x: mpmath.ellipk(1 - x), (1.0, 1 - 1e-9, 0.9001, 0.8999)),
    "spence": (lambda x: mpmath.polylog(2, 1 - x), (1.0, 1 + 1e-9, 1.0999, 0.8999)),
    "rgamma": (mpmath.rgamma, (0.0, -1.0, -2.0, 1e-9 - 1, 0.499, 0.501, 1.0)),
    "exprel": (
        lambda x: mpmath.expm1(x) / x if x else mpmath.mpf(1),
        (0.0, 1e-9, 0.499, 0.501, 1.45),
    ),
    "j1": (lambda x: mpmath.besselj(1, x), (0.0, 1e-9, 0.999, 1.001)),
    "i1": (lambda x: mpmath.besseli(1, x), (0.0, 1e-9, 0.999, 1.001)),
    "i1e": (lambda x: mpmath.besseli(1, x) * mpmath.exp(-x), (1e-9, 0.999, 1.001, 40.0)),
}


@pytest.mark.parametrize("name", REMOVABLE)
def test_removable_singular_points(name: str) -> None:
    """There, beside them and where a formula takes over: first and second derivatives."""
    f, (exact, places) = getattr(special, name), REMOVABLE[name]
    for x in places:
        with mpmath.workdps(60):
            step = mpmath.mpf(10) ** -20
            slope, curvature = (
                float(mpmath.re(mpmath.diff(exact, mpmath.mpf(x), n, h=step))) for n in (1, 2)
            )
        assert vk.grad(f)(x) == pytest.approx(slope, rel=1e-13), x
        assert vk.grad(vk.grad(f))(x) == pytest.approx(curvature, rel=1e-11, abs=1e-15), x
        assert vk.jit(vk.grad(vk.grad(f)))(x) == pytest.approx(curvature, rel=1e-11, abs=1e-15), x
        strict = vk.grad(vk.grad(f, strict=True), strict=True)  # nothing singular is hidden
        assert strict(x) == pytest.approx(curvature, rel=1e-11, abs=1e-15), x


def test_series_are_evaluated_near_their_points_alone() -> None:
    """Far away they overflow, which strict arithmetic does not forgive."""
    curvature = vk.grad(vk.grad(special.spence, strict=True), strict=True)(1e150)
    assert curvature == pytest.approx((np.log(1e150) - 1.0) * 1e-300, rel=1e-12)


def test_the_exponent_of_the_inverse_of_boxcox() -> None:
    for y, u in ((0.0, 0.5), (1e-9, 0.5), (-0.3, 0.2), (0.0999, 1.0), (0.1001, 1.0), (2.0, 1.5)):
        f = lambda y, u=u: vnp.special.inv_boxcox(u, y)
        vk.test_util.check_grads(f, (y,), order=2)
    assert vk.grad(lambda y: special.inv_boxcox(0.5, y))(0.0) == pytest.approx(-np.exp(0.5) / 8)
    curvature = vk.grad(vk.grad(lambda y: special.inv_boxcox(0.5, y)))(0.0)
    assert curvature == pytest.approx(np.exp(0.5) * (2 / 3 * 0.5**3 + 0.5**4 / 4))


def test_arrays_of_one_kind() -> None:
    """Whatever a library makes of a traced value through its namespace is one of its kind."""

    def f(x: Any) -> Any:
        xp = x.__array_namespace__()
        count = xp.sum(x > 0)
        constants = xp.asarray(2.0), xp.ones(3), x > 0, xp.any(x > 5), count, count / 2, -count
        for c in (*constants, *xp.linalg.svd(xp.eye(2)), xp.special.erf(xp.zeros(2))):
            assert c.__array_namespace__() is xp
        assert int(count) == 2
        assert not constants[3]
        assert np.arange(3.0)[x > 0].tolist() == [0.0, 2.0]
        mine = np.zeros(3)
        held = xp.asarray(mine)
        held[0] = x[0]
        assert mine.tolist() == [0.0, 0.0, 0.0]
        return xp.sum(xp.where(x > 0, x**2, 0.0)) * constants[0] + held[0], count

    x = np.array([1.0, -2.0, 3.0])
    g, count = vk.grad(f, has_aux=True)(x)
    assert g.tolist() == [5.0, 0.0, 12.0]
    assert type(count) in (np.ndarray, np.int64)
    assert vk.jvp(lambda x: f(x)[0], (x,), (np.ones(3),))[1] == 17.0
    assert isinstance(vk.grad(lambda x: (x > 0) * x)(1.0), float)


def _gamma_reference(a: Any, x: Any) -> Any:
    """The incomplete gamma function from the side that does not cancel, up to its sign."""
    if x < a:
        return mpmath.gammainc(a, 0, x, regularized=True)
    return -mpmath.gammainc(a, x, mpmath.inf, regularized=True)


def _beta_reference(x: float) -> Any:
    def reference(a: Any, b: Any) -> Any:
        if x < a / (a + b):
            return mpmath.betainc(a, b, 0, x, regularized=True)
        return -mpmath.betainc(b, a, 0, 1 - mpmath.mpf(x), regularized=True)

    return reference


GAMMA_PLACES = [
    (0.003, 1e-9), (0.003, 0.4), (0.02, 3.0), (0.5, 1e-4), (0.5, 0.139), (0.5, 0.141), (1.0, 0.999),
    (1.0, 1.001), (2.5, 30.0), (9.9, 4.0), (10.1, 9.59), (40.0, 1.0), (40.0, 39.5), (212.0, 108.0),
    (900.0, 1000.0), (1e4, 9999.5), (1e4, 9500.0),
]  # fmt: skip


@pytest.mark.parametrize(("a", "x"), GAMMA_PLACES)
def test_incomplete_gamma_in_its_shape(a: float, x: float) -> None:
    """Relative errors, in the tails too, against differences of 60 digits."""
    with mpmath.workdps(60):
        wanted = [mpmath.diff(lambda t: _gamma_reference(t, mpmath.mpf(x)), a, k) for k in (1, 2)]
    first = vk.grad(special.gammainc)(a, x)
    assert first == pytest.approx(float(wanted[0]), rel=2e-13)
    assert vk.grad(special.gammaincc)(a, x) == -first
    assert vk.grad(vk.grad(special.gammainc))(a, x) == pytest.approx(float(wanted[1]), rel=2e-12)


BETA_PLACES = [
    (0.02, 0.03, 1e-8), (0.02, 0.03, 0.4), (0.5, 0.5, 0.49), (0.3, 4.0, 0.02), (0.3, 4.0, 0.9),
    (2.0, 0.05, 1 - 1e-9), (7.0, 11.0, 0.39), (13.0, 15.0, 0.2), (13.0, 15.0, 0.47),
    (13.0, 15.0, 0.97), (400.0, 2.0, 0.995), (3.0, 900.0, 0.001), (600.0, 900.0, 0.41),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "x"), BETA_PLACES)
def test_incomplete_beta_in_its_parameters(a: float, b: float, x: float) -> None:
    with mpmath.workdps(60):
        orders = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        wanted = [float(mpmath.diff(_beta_reference(x), (a, b), o)) for o in orders]
    first = vk.grad(special.betainc, argnums=(0, 1))(a, b, x)
    np.testing.assert_allclose(first, wanted[:2], rtol=1e-12)
    complement = vk.grad(special.betaincc, argnums=(0, 1))(a, b, x)
    np.testing.assert_allclose(complement, np.negative(wanted[:2]), rtol=1e-12)
    (aa, ab), (ba, bb) = vk.hessian(special.betainc, argnums=(0, 1))(a, b, x)
    np.testing.assert_allclose([aa, ab, ba, bb], [*wanted[2:4], *wanted[3:]], rtol=1e-11)


def test_parameters_at_the_ends_and_outside() -> None:
    """Zero where the function does not depend on them, NaN where it is not defined; the third
    derivative and the dtype."""
    for f, xs in (
        (special.gammainc, (2.0, 0.0)),
        (special.gammainc, (2.0, np.inf)),
        (special.betainc, (2.0, 3.0, 0.0)),
        (special.betainc, (2.0, 3.0, 1.0)),
        (special.stdtr, (np.inf, 0.3)),
        (special.stdtr, (3.0, 0.0)),
    ):
        assert vk.grad(f)(*xs) == 0
    normal = math.exp(-0.045) / math.sqrt(2 * math.pi)
    assert vk.grad(special.stdtr, argnums=1)(np.inf, 0.3) == pytest.approx(normal, rel=1e-15)
    assert np.isnan(vk.grad(special.gammainc)(-1.0, 2.0))
    assert vk.grad(special.gammainc)(np.float32(2), np.float32(3)).dtype == np.float32
    third = vk.grad(vk.grad(vk.grad(special.gammainc)))(2.0, 3.0)
    with mpmath.workdps(40):
        wanted = float(mpmath.diff(lambda a: _gamma_reference(a, mpmath.mpf(3)), 2.0, 3))
    assert third == pytest.approx(wanted, rel=1e-12)


PLACES_OF_LAWS = [
    ("stdtr", (3.0, 0.7)), ("stdtr", (0.6, -40.0)), ("stdtr", (30.0, 1e-3)),
    ("fdtr", (2.0, 3.0, 9.0)), ("fdtrc", (2.0, 3.0, 0.1)), ("chdtr", (5.0, 2.0)),
    ("chdtrc", (5.0, 60.0)), ("gdtr", (2.0, 5.0, 2.4)), ("gdtrc", (2.0, 5.0, 0.4)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "xs"), PLACES_OF_LAWS)
def test_distributions_in_their_parameters(name: str, xs: tuple[float, ...]) -> None:
    """Against a high-order difference; and an inverse against the function it inverts."""
    f = getattr(special, name)
    for i, x in enumerate(xs):
        h = 2e-3 * x

        def along(t: float, i: int = i) -> float:
            return float(f(*[t if j == i else y for j, y in enumerate(xs)]))

        steps = [(along(x + k * h) - along(x - k * h)) / (2 * k * h) for k in (1, 2, 3)]
        wanted = 1.5 * steps[0] - 0.6 * steps[1] + 0.1 * steps[2]
        assert vk.grad(f, argnums=i)(*xs) == pytest.approx(wanted, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(
    ("inverse", "name", "xs"),
    [
        ("gammaincinv", "gammainc", (2.5, 0.3)), ("gammainccinv", "gammaincc", (0.4, 1e-4)),
        ("chdtri", "chdtrc", (5.0, 0.3)), ("stdtrit", "stdtr", (3.0, 0.2)),
        ("betaincinv", "betainc", (2.0, 0.5, 0.9)), ("betainccinv", "betaincc", (2.0, 7.0, 0.9)),
        ("fdtri", "fdtr", (2.0, 5.0, 0.4)),
    ],
)  # fmt: skip
def test_an_inverse_undoes_its_function_in_every_parameter(
    inverse: str, name: str, xs: tuple[float, ...]
) -> None:
    *shape, p = xs
    every = tuple(range(len(xs)))
    undone = lambda *xs: getattr(special, name)(*xs[:-1], getattr(special, inverse)(*xs))
    gradient = vk.grad(undone, argnums=every)(*xs)
    np.testing.assert_allclose(gradient, [0.0] * len(shape) + [1.0], atol=1e-13)
    hessian = vk.hessian(undone, argnums=every)(*xs)
    np.testing.assert_allclose(np.array(hessian), 0, atol=1e-11)
