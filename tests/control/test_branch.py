"""cond and switch: Python's choice on values, one equation where the value is not known."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import TracerConversionError

X = np.array([0.3, -1.2, 2.5])


def chosen(x):
    return vk.lax.cond(np.sum(x) > 1.0, lambda x: np.sin(x) * x, lambda x: x**3, x)


def eager(x):
    return np.sin(x) * x if np.sum(x) > 1.0 else x**3


def closing_over(x):
    y = x * 2.0
    return vk.lax.cond(x[0] > 0, lambda: (y, np.sum(y)), lambda: (np.exp(x), 1.0))[0]


def switched(x):
    index = np.floor(np.sum(x)).astype(int)
    return vk.lax.switch(index, [np.sin, np.cos, lambda x: x * x], x)


TRANSFORMS = {
    "itself": lambda f: f,
    "jacrev": vk.jacrev,
    "jacfwd": vk.jacfwd,
    "hessian": lambda f: vk.hessian(lambda x: np.sum(f(x) ** 2)),
    "vmap": vk.vmap,
    "vmap of grad": lambda f: vk.vmap(vk.grad(lambda x: np.sum(f(x)))),
    "grad of vmap": lambda f: vk.grad(lambda x: np.sum(vk.vmap(f)(x) ** 2)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("f", [chosen, closing_over, switched])
def test_staged_as_on_values(f, name):
    transform = TRANSFORMS[name]
    points = [X, -X, X * 0.1]
    if "vmap" in name:
        xs = np.stack(points)
        want = np.stack([TRANSFORMS["itself"](f)(x) for x in points])
        if name == "vmap of grad":
            want = np.stack([vk.grad(lambda x: np.sum(f(x)))(x) for x in points])
        if name == "grad of vmap":
            want = np.stack([vk.grad(lambda x: np.sum(f(x) ** 2))(x) for x in points])
        np.testing.assert_allclose(transform(f)(xs), want, rtol=1e-12)
        np.testing.assert_allclose(vk.jit(transform(f))(xs), want, rtol=1e-12)
        np.testing.assert_allclose(transform(vk.jit(f))(xs), want, rtol=1e-12)
        return
    for x in points:
        want = transform(f)(x)
        np.testing.assert_allclose(vk.jit(transform(f))(x), want, rtol=1e-12)
        np.testing.assert_allclose(transform(vk.jit(f))(x), want, rtol=1e-12)


def test_on_values_python_chooses():
    seen: list[str] = []

    def note(x):
        seen.append("up")
        return x

    vk.lax.cond(True, lambda: seen.append("yes"), lambda: seen.append("no"))
    vk.grad(lambda x: vk.lax.cond(x > 0, lambda x: note(x), lambda x: x, x))(1.0)
    assert seen == ["yes", "up"]


def test_the_branch_not_taken_makes_no_nan():
    f = vk.jit(vk.grad(lambda x: vk.lax.cond(x > 0, np.sqrt, lambda x: 0.0 * x, x)))
    with np.errstate(all="ignore"):  # both branches are run where examples disagree
        assert f(0.0) == 0.0
        assert vk.vmap(f)(np.array([0.0, 4.0])).tolist() == [0.0, 0.25]


def test_one_equation():
    program = vk.make_ir(chosen)(X).program
    assert [e.primitive.name for e in program.equations].count("branch") == 1
    assert vk.parse_ir(str(program)) == program


def test_an_index_out_of_range_takes_the_nearest():
    f = vk.jit(lambda i: vk.lax.switch(i, [lambda: 1.0, lambda: 2.0]))
    assert [f(-5), f(0), f(1), f(9)] == [1.0, 1.0, 2.0, 2.0]


def test_numbers_take_the_dtype_of_the_other_branch():
    f = vk.jit(lambda x: vk.lax.cond(x > 0, lambda: x, lambda: 0.0))
    assert f(np.float32(-1.0)).dtype == np.float32


def test_bad_input():
    f = lambda **kw: vk.jit(lambda x: vk.lax.cond(x > 0, *kw["of"], x))(1.0)
    with pytest.raises(TypeError, match=r"(?s)cond: .*tree.*test_branch.*same tree"):
        f(of=(lambda x: (x, x), lambda x: x))
    with pytest.raises(TypeError, match=r"(?s)cond: .*f64\[3\].*test_branch.*Cast or reshape"):
        f(of=(lambda x: x, lambda x: x * np.ones(3)))
    with pytest.raises(TypeError, match=r"(?s)pred must be a scalar.*f64\[3\].*np.any"):
        vk.lax.cond(X, np.sin, np.cos, 1.0)
    with pytest.raises(TypeError, match="true_fun"):
        vk.lax.cond(True, 1, np.cos, 1.0)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="branches is empty"):
        vk.lax.switch(0, [])
    with pytest.raises(TypeError, match=r"index must be an integer, got f64"):
        vk.lax.switch(0.5, [np.sin], 1.0)
    with pytest.raises(TracerConversionError, match=r"vk\.lax\.cond"):
        vk.jit(lambda x: x if x > 0 else -x)(1.0)


FAILING: dict[str, Any] = {
    "log": (lambda x: np.log(x), np.array([1.0, -2.0, 3.0, -0.5])),
    "inverse": (lambda x: np.linalg.inv(np.eye(2) * np.maximum(x, 0))[0, 0], np.array([-1.0, 2.0])),
    "nested": (
        vk.jit(lambda x: np.linalg.inv(np.eye(2) * np.maximum(x, 0))[0, 0]),
        np.array([-1.0, 2.0]),
    ),
    "collective of another axis": (
        lambda x: (
            np.sum(
                vk.vmap(lambda y: y / vk.lax.psum(y, "j"), axis_name="j")(
                    np.log(x) * np.arange(1.0, 3)
                )
                * np.array([1.0, 2.0])
            )
            * np.log(x)
        ),
        np.array([3.0, -2.0]),
    ),
    "order": (lambda x: np.sum(np.sort(np.stack([x, x**2, np.log(x)]))[1:]), np.array([-2.0, 3.0])),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_a_branch_does_not_run_for_examples_that_take_another(name, wrap):
    branch, xs = FAILING[name]
    f = lambda x: vk.lax.cond(x > 0, branch, lambda x: -x * x, x)
    derivatives: dict[str, Any] = {
        "itself": lambda f: f,
        "grad": vk.grad,
        "second": lambda f: vk.grad(vk.grad(f)),
        "pullback of a program": lambda f: lambda x: vk.vjp(vk.jit(f), x)[1](1.0)[0],
        "pullback out of jit": lambda f: lambda x: vk.jit(lambda x: vk.vjp(f, x)[1])(x)(1.0)[0],
    }
    for d in derivatives.values():
        np.testing.assert_allclose(wrap(vk.vmap(d(f)))(xs), [d(f)(x) for x in xs], rtol=1e-13)


def test_a_branch_that_no_example_takes_does_not_run():
    f = lambda x: vk.lax.switch(
        (x > 1).astype(int),
        [np.negative, np.sin, lambda x: np.linalg.inv(np.eye(1) * x * 0)[0, 0]],
        x,
    )
    xs = np.array([0.5, 2.0])
    for wrap in (lambda f: f, vk.jit):
        np.testing.assert_allclose(wrap(vk.vmap(f))(xs), [-0.5, np.sin(2.0)])
        np.testing.assert_allclose(wrap(vk.vmap(vk.grad(f)))(xs), [-1.0, np.cos(2.0)])
    assert vk.vmap(f)(xs[:0]).shape == (0,)


def test_a_branch_with_a_collective_of_another_axis():
    f = lambda x: vk.lax.cond(x > 0, lambda x: np.log(x) * vk.lax.psum(x, "j"), np.negative, x)
    xs = np.array([[1.0, -2.0], [3.0, -4.0]])
    want = np.array([[0.0, 2.0], [4 * np.log(3.0), 4.0]])
    for wrap in (lambda f: f, vk.jit):
        np.testing.assert_allclose(wrap(vk.vmap(vk.vmap(f), axis_name="j"))(xs), want)
