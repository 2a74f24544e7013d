"""`numeric_vjp`: code that no tracer may enter, under every transform."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import ClosedTraceError, NotDifferentiableError, TracerConversionError

X, Y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
VECTOR = vk.ShapeDtypeStruct((3,), float)


@pytest.fixture(autouse=True)
def loops_are_announced():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*runs example by example", RuntimeWarning)
        yield


def plain(x: Any, y: Any) -> Any:
    """sin(x) y and sum(x y^2), for plain arrays alone."""
    assert type(x) in (np.ndarray, np.float64)
    assert type(y) in (np.ndarray, np.float64)
    return {"a": np.sin(x) * y, "b": np.sum(x * y**2)}


def traced(x: Any, y: Any) -> Any:
    return {"a": np.sin(x) * y, "b": np.sum(x * y**2)}


RESULT = {"a": VECTOR, "b": vk.ShapeDtypeStruct((), float)}
TOLERANCE = {"central": 1e-8, "forward": 1e-6, "complex": 1e-13}
DERIVATIVES: dict[str, Any] = {
    "grad": lambda f: vk.grad(lambda x, y: np.sum(f(x, y)["a"] * X) + f(x, y)["b"], (0, 1)),
    "jvp": lambda f: lambda x, y: vk.jvp(f, (x, y), (Y, X))[1],
    "one of two": lambda f: lambda x, y: vk.jvp(lambda x: f(x, y), (x,), (Y,))[1],
    "linearize": lambda f: lambda x, y: vk.linearize(f, x, y)[1](Y, X),
    "transposed twice": lambda f: lambda x, y: vk.vjp(f, x, y)[1].T(Y, X),
    "jacrev": lambda f: vk.jacrev(f),
    "jacfwd": lambda f: vk.jacfwd(f, 1),
}
KEEPERS: dict[str, Any] = {
    "eager": lambda f: f,
    "jit": vk.jit,
    "vmap": lambda f: (
        lambda x, y: vk.tree.map(lambda out: out[1], vk.vmap(f)(np.stack([y, x]), np.stack([x, y])))
    ),
    "vmap of one": lambda f: (
        lambda x, y: vk.tree.map(lambda out: out[1], vk.vmap(f, (0, None))(np.stack([y, x]), y))
    ),
    "checkpoint": vk.checkpoint,
    "jit of vmap": lambda f: (
        lambda x, y: vk.tree.map(
            lambda out: out[1], vk.jit(vk.vmap(f, (0, None)))(np.stack([y, x]), y)
        )
    ),
}


def assert_equal(got, want, tolerance):
    assert vk.tree.structure(got) == vk.tree.structure(want)
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", TOLERANCE)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_derivatives(derivative, method):
    fun = plain if method != "complex" else traced
    f = vk.numeric_vjp(fun, method=method)
    want = DERIVATIVES[derivative](traced)(X, Y)
    assert_equal(DERIVATIVES[derivative](f)(X, Y), want, TOLERANCE[method])


@pytest.mark.parametrize("derivative", ["grad", "jvp", "linearize", "jacrev"])
@pytest.mark.parametrize("keeper", KEEPERS)
def test_transforms(keeper, derivative):
    f = vk.numeric_vjp(plain, result=RESULT)
    want = DERIVATIVES[derivative](traced)(X, Y)
    assert_equal(KEEPERS[keeper](DERIVATIVES[derivative](f))(X, Y), want, 1e-8)
    assert_equal(DERIVATIVES[derivative](KEEPERS[keeper](f))(X, Y), want, 1e-8)


def test_what_is_linear_in_the_derivative_has_any_order():
    """The derivative itself is linear in cotangents: what comes before it differentiates on."""
    f = vk.numeric_vjp(lambda x: np.asarray(math.exp(x)))
    pulled = lambda ct: vk.vjp(f, 0.5)[1](ct)[0] ** 3
    assert vk.grad(vk.grad(pulled))(2.0) == pytest.approx(6 * 2.0 * math.exp(1.5), rel=1e-8)
    pushed = lambda t: vk.jvp(f, (0.5,), (t,))[1] ** 2
    assert vk.grad(pushed)(3.0) == pytest.approx(6 * math.exp(1.0), rel=1e-8)


def test_a_second_derivative_is_refused():
    f = vk.numeric_vjp(lambda x: np.sum(x**3))
    for second in (vk.grad(lambda x: np.sum(vk.grad(f)(x))), vk.hessian(f)):
        with pytest.raises(NotDifferentiableError, match=r"numeric_vjp\(<lambda>\): its second"):
            second(X)


def test_the_number_of_calls():
    calls = []

    def counted(x):
        calls.append(1)
        return np.sum(x**2)

    f = vk.numeric_vjp(counted)
    vk.grad(f)(X)
    assert len(calls) == 1 + 2 * 3
    calls.clear()
    vk.jvp(f, (X,), (Y,))
    assert len(calls) == 1 + 2


def test_the_code_may_write_to_its_arguments():
    def rude(x):
        x *= 2.0
        return np.sum(x)

    x = X.copy()
    np.testing.assert_allclose(vk.grad(vk.numeric_vjp(rude))(x), 2.0 * np.ones(3))
    np.testing.assert_array_equal(x, X)


def test_zero_tangents_and_large_arguments():
    f = vk.numeric_vjp(np.sin, method="central")
    np.testing.assert_array_equal(vk.jvp(f, (X,), (0.0 * X,))[1], 0.0 * X)
    g = vk.numeric_vjp(lambda x: np.sum(x**2))
    np.testing.assert_allclose(vk.grad(g)(1e8 * X), 2e8 * X, rtol=1e-7)
    single = vk.grad(g)(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, 2 * X, rtol=1e-2)


@pytest.mark.parametrize("step", [None, 1e-4])
@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("scale", [0.5, 40.0])
def test_the_points_at_which_the_code_runs(method, step, scale):
    """A step is relative to the largest element of the argument and of the tangent."""
    points = []

    def seen(x):
        points.append(x.copy())
        return np.sum(x)

    x, t = scale * np.array([0.5, -1.0]), np.array([0.0, -0.125])
    vk.jvp(vk.numeric_vjp(seen, method=method, step=step), (x,), (t,))
    eps = np.finfo(float).eps
    relative = step or (eps ** (1 / 3) if method == "central" else eps**0.5)
    h = np.array([0.0, relative * max(scale, 1.0)])
    want = [x, x + h, x - h] if method == "central" else [x, x, x - h]
    for got, point in zip(points, want, strict=True):
        np.testing.assert_allclose(got, point, rtol=1e-15)


def test_numbers_that_are_kept_are_named():
    kept = vk.linearize(vk.numeric_vjp(plain), np.float64(0.3), np.float64(0.7))[1].residuals
    assert [(r.name, r.value) for r in kept] == [("numeric_vjp(plain)", v) for v in (0.3, 0.7)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_difference_along_what_is_not_finite(bad):
    f = vk.numeric_vjp(lambda x: (np.sin(x), np.sum(x)))
    for out in vk.jvp(f, (X,), (np.array([0.0, bad, 1.0]),))[1]:
        assert np.all(np.isnan(out))


def test_integers_keywords_and_other_arguments_are_passed_on():
    def power(x, n, mode, *, scale):
        assert mode == "up"
        return (x ** int(n)) * scale, n + 1

    f = vk.numeric_vjp(power)
    (value, n), pull = vk.vjp(lambda x: f(x, 3, "up", scale=2.0), 2.0)
    assert (value, n) == (16.0, 4)
    assert pull((1.0, np.zeros((), vk.float0)))[0] == pytest.approx(24.0)
    by_keyword = vk.grad(lambda s: f(2.0, 3, "up", scale=s)[0])(5.0)
    assert by_keyword == pytest.approx(8.0)


def test_as_a_decorator():
    @vk.numeric_vjp(method="forward", step=1e-6)
    def f(x):
        return math.sin(x)

    assert vk.grad(f)(0.5) == pytest.approx(math.cos(0.5), rel=1e-5)
    assert repr(f) == "numeric_vjp(f, method='forward', step=1e-06)"


def test_staging_needs_to_know_the_result():
    with pytest.raises(TracerConversionError, match=r"(?s)numeric_vjp\(sin\): .*result="):
        vk.jit(vk.numeric_vjp(np.sin))(X)
    wrong = vk.numeric_vjp(np.sin, result=vk.ShapeDtypeStruct((2,), float))
    with pytest.raises(ValueError, match=r"returned f64\[3\], but f64\[2\] is declared"):
        vk.jit(wrong)(X)


def test_a_derivative_by_differences_is_a_strong_number():
    f = vk.numeric_vjp(np.sin, result=vk.ShapeDtypeStruct((), float))
    for of in (f, vk.grad(f), lambda x: vk.jvp(f, (x,), (1.0,))[1]):
        assert not any(a.weak for a in vk.make_ir(of)(0.5).program.out_avals)


def test_an_empty_batch_needs_to_know_the_result_too():
    f = vk.numeric_vjp(np.sin, result=VECTOR)
    assert vk.vmap(f)(np.zeros((0, 3))).shape == (0, 3)


def test_closing_over_a_traced_value_is_an_error():
    with pytest.raises(ClosedTraceError, match=r"numeric_vjp\(<lambda>\) closes over a traced"):
        vk.grad(lambda a: vk.numeric_vjp(lambda x: a * x)(2.0))(3.0)


@pytest.mark.parametrize("k", [0, 1])
def test_derivatives_in_the_direction_of_one_of_two_outputs(k: int) -> None:
    """The cotangent of the other is zeros of its own shape, which is not that of an argument."""
    x, y, t = np.array([0.3, -0.4, 0.7]), 1.5, np.ones(3)
    fun = lambda x, y: (np.sin(x[:2]) * y, np.sum(x) * y)
    along = lambda f: lambda t: np.sum(vk.jvp(f, (x, y), (t, 0.0))[1][k])
    got = vk.grad(along(vk.numeric_vjp(fun)))
    np.testing.assert_allclose(got(t), vk.grad(along(fun))(t), rtol=1e-9)
    np.testing.assert_allclose(vk.jit(got)(t), vk.grad(along(fun))(t), rtol=1e-9)


LOOPING = {
    "vmap": lambda f: vk.vmap(f)(X),
    "jit of vmap": lambda f: vk.jit(vk.vmap(f))(X),
    "vmap of jit": lambda f: vk.vmap(vk.jit(f))(X),
    "vmap of grad": lambda f: vk.vmap(vk.grad(f))(X),
    "grad of vmap": lambda f: vk.grad(lambda x: np.sum(vk.vmap(f)(x)))(X),
    "scan": lambda f: vk.vmap(
        lambda x: vk.lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0]
    )(X),
}


@pytest.mark.parametrize("name", LOOPING)
def test_a_loop_over_examples_is_announced_once(name):
    f = vk.numeric_vjp(lambda x: np.sin(x), result=vk.ShapeDtypeStruct((), float))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LOOPING[name](f)
        LOOPING[name](f)
    (one,) = caught
    assert issubclass(one.category, RuntimeWarning)
    assert one.filename == __file__
    said = str(one.message)
    assert "numeric_vjp(<lambda>): external code runs example by example" in said
    assert "test_external.py" in said
    assert "defvmap" in said


def test_one_example_and_none_loop_over_nothing():
    f = vk.numeric_vjp(lambda x: np.sin(x), result=vk.ShapeDtypeStruct((), float))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vk.grad(f)(0.3)
        vk.jvp(f, (0.3,), (1.0,))
        vk.vmap(f)(np.zeros(0))
