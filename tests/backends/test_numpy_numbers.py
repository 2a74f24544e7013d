"""Equations over few numbers: floats where Python computes them, NumPy's results everywhere."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vjpkit as vk
from vjpkit.backends import executable
from vjpkit.backends.numpy_numbers import _ARITHMETIC, _EXPRESSIONS, _FUNCTIONS
from vjpkit.core.primitive import lookup
from vjpkit.passes.splitting import MOST

FLOATS = "Python's floats"


def compiled(f: Any) -> Any:
    return vk.jit(f, backend="numpy")


def same(f: Any, *values: Any) -> None:
    """The results of eager code: their types, dtypes, shapes, and values within rounding."""
    with np.errstate(all="ignore"):
        wanted, got = vk.tree.leaves(f(*values)), vk.tree.leaves(compiled(f)(*values))
    for g, w in zip(got, wanted, strict=True):
        assert type(g) is type(w)
        assert np.shape(g) == np.shape(w)
        assert np.asarray(g).dtype == np.asarray(w).dtype
        largest = np.max(np.abs(w), initial=1.0, where=np.isfinite(w))
        np.testing.assert_allclose(g, w, 1e-12, 1e-13 * largest)


def where_of(f: Any, *values: Any) -> set[str]:
    return {part.where for part in compiled(f).explain(*values)}


def tiny(x):
    y = np.sin(x) * x + np.exp(-x * x)
    return np.sum(y * y / (1.0 + x))


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def log_sum_exp(x):
    largest = np.max(x)
    return largest + np.log(np.sum(np.exp(x - largest)))


def orbit(x):
    q, p = x[:2], x[2:]
    return 0.5 * p @ p - 1 / np.linalg.norm(q)


def joined(x):
    y = np.stack([x[0] * x[1], np.sum(x), np.maximum(x[2], 0.1)])
    return np.concatenate([y, x[::-1]])[1:].reshape(3, 2) @ np.array([[0.5, 2.0], [1.0, -1.0]])


def chosen(x):
    return np.sum(np.where((x > 0) & (x < 1), np.sqrt(np.abs(x)), np.minimum(x, -x) ** 3))


PROGRAMS: dict[str, Any] = {
    "tiny": tiny,
    "rosenbrock": rosenbrock,
    "log_sum_exp": log_sum_exp,
    "orbit": orbit,
    "joined": lambda x: np.sum(np.tanh(joined(x))),
    "chosen": chosen,
    "contracted": lambda x: np.einsum("ij,kj->", np.outer(x, x), np.ones((2, 4))) + np.prod(x),
    "one number": lambda x: np.sin(x[0]) * x[0] ** 3 / (1 + x[0]),
}
X = np.array([0.3, -0.7, 1.1, 0.4])
TRANSFORMS: dict[str, Any] = {
    "value": lambda f: f,
    "gradient": vk.value_and_grad,
    "hessian": vk.hessian,
    "batched": lambda f: vk.vmap(vk.grad(f), in_axes=1),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, transform):
    f = TRANSFORMS[transform](PROGRAMS[name])
    x = np.stack([X, X + 0.1], 1) if transform == "batched" else X
    same(f, x)
    if transform != "batched":
        assert FLOATS in where_of(f, x)


@pytest.mark.parametrize("name", sorted({*_EXPRESSIONS, *_ARITHMETIC, *_FUNCTIONS}))
def test_elementwise_primitives_at_every_kind_of_number(name):
    primitive = lookup(name)
    numbers = np.array([0.3, -0.7, 2.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e200, -1e-200])
    count = 3 if name == "where" else 2 if name in BINARY else 1
    x, y = numbers, numbers[:, None]

    def f(x: Any, y: Any) -> Any:
        if name == "where":
            return primitive(x > 0, x, y)
        if name.startswith("logical"):
            return primitive(*[x > 0, y > 0][:count])
        return primitive(x, 3.0 if name == "power" else y) if count == 2 else primitive(x)

    for i in range(len(numbers)):
        same(f, x[i : i + 1], y[i, :1])
        same(f, x[i : i + 1] * np.ones(2), y[(i + 3) % len(y), :1])


BINARY = {
    *("add", "subtract", "multiply", "divide", "scale", "maximum", "minimum", "arctan2", "hypot"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "same", "power"),
    *("logical_and", "logical_or"),
}


def test_infinities_warn_as_numpys_do():
    run = compiled(lambda x: 1 / x)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.testing.assert_array_equal(run(np.zeros(2)), [np.inf, np.inf])
    run = compiled(lambda x: np.exp(x) * x)
    with pytest.warns(RuntimeWarning, match="overflow"):
        np.testing.assert_array_equal(run(np.array([1e3, 0.0])), [np.inf, 0.0])
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError) as raised:
        compiled(lambda x: np.log(x) * x)(np.zeros(2))
    assert raised.value.__context__ is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(compiled(np.sin)(np.array([np.nan, 0.0])), [np.nan, 0.0])


def test_a_derivative_on_arrays_is_silent_within_floats():
    """Floats make NumPy silent at no cost; where they give up, the exact form sees to it itself."""
    eager = vk.grad(lambda x: np.sum(np.log(x) * np.exp(x)))
    gradient = vk.jit(eager, backend="numpy")
    x = np.array([1.0, 0.0])
    for at in (x + 1, x + 1, x, x, np.array([1.0, 1e3])):
        assert gradient.staged_for((at,), {}).execute.silent
        with np.errstate(all="ignore"):
            wanted = eager(at)
        np.testing.assert_allclose(gradient(at), wanted, rtol=1e-14)
    loud = vk.jit(lambda x: np.log(x) + x, backend="numpy")
    assert not loud.staged_for((x,), {}).execute.silent
    for _ in range(3):
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            loud(x)


def test_what_is_not_selected_contributes_nothing():
    f = vk.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))
    x = np.array([4.0, 0.0, -1.0])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(compiled(f)(x), [0.25, 0.0, 0.0])


def test_a_basis_costs_no_product_with_its_zeros():
    closed = vk.make_ir(vk.hessian(rosenbrock))(X[:3])
    lines = executable(closed.program).source.splitlines()
    assert sum("= n" in line or "= (" in line for line in lines) < 40
    same(vk.hessian(rosenbrock), X[:3])


def test_results_are_fresh():
    run = compiled(lambda x: (x[:2], x * 1.0, x[::-1]))
    x = X.copy()
    first = run(x)
    for y in first:
        y += 1.0
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(run(x)[1], X)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.int64])
def test_other_numbers_stay_numpys(dtype):
    f = lambda x: x * x + x * 3
    x = np.array([1, 2, 3], dtype)
    assert FLOATS not in where_of(f, x)
    same(f, x)


@pytest.mark.parametrize("n", [0, 1, MOST, MOST + 1])
def test_sizes(n):
    f = lambda x: np.sum(x * x + 2.0 * x - x) + np.sum(-x)
    same(vk.value_and_grad(f), np.linspace(-1.0, 1.0, n))


def test_python_numbers():
    f = lambda a, b: np.sin(a) * b + a / b
    same(vk.grad(f), 0.3, 2)
    same(lambda a: (a * 2, a - 1.0), 0.3)


@pytest.mark.parametrize(("steps", "where"), [(30, FLOATS), (300, "one call")])
def test_long_programs_stay_calls(steps, where):
    def f(x):
        for _ in range(steps):
            x = np.tanh(x) * 1.01 + 0.1
        return np.sum(x)

    assert where_of(vk.grad(f), X) == {where}
    same(vk.grad(f), X)


OPERATIONS: dict[str, Any] = {
    "sin": lambda a, b: np.sin(a),
    "square": lambda a, b: a * a,
    "quotient": lambda a, b: a / (1 + b * b),
    "maximum": np.maximum,
    "backwards": lambda a, b: a[::-1] - b,
    "sum": lambda a, b: a + np.sum(b),
    "shifted": lambda a, b: np.concatenate([a[1:], b[:1]]),
    "where": lambda a, b: np.where(a > b, a, b * b),
    "product": lambda a, b: np.outer(a, b) @ a,
    "running": lambda a, b: np.stack([a, b]).T.reshape(2, -1)[0],
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 9)), max_size=8),
    st.integers(1, 5),
)
def test_random_programs(steps, n):
    def f(x):
        values = [x, 0.5 * x + 0.1]
        for name, i in steps:
            a, b = values[i % len(values)], values[-1]
            values.append(OPERATIONS[name](a, b))
        return np.sum(values[-1] / (2.0 + values[-1] ** 2))

    x = np.linspace(-0.9, 1.2, n)
    same(vk.value_and_grad(f), x)
    same(vk.hessian(f), x)
