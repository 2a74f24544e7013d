"""`debug_nans` finds the operation that made the first nan or inf, forward or backward."""

import re
from typing import Any

import numpy as np
import pytest

import vjpkit

vk: Any = vjpkit
X = np.array([1.0, 0.0, 4.0])


def line_of(mark):
    """The number of the line of this file that ends with a mark."""
    with open(__file__, encoding="utf-8") as file:
        (number,) = [i for i, text in enumerate(file, 1) if text.rstrip().endswith(f"# {mark}")]
    return f"test_finding.py:{number}"


def found(f, *args, **options):
    with pytest.raises(FloatingPointError) as caught:
        vk.debug_nans(f, **options)(*args)
    return str(caught.value)


def forward(x):
    y = np.sin(x)
    z = np.log(y)  # forward
    return np.sum(z * x) + 1.0


def backward(x):
    y = np.sqrt(x)  # backward
    return np.sum(y + y[::-1])


def test_forward():
    text = found(forward, -X)
    assert "log, forward, gave nan for f64[3]" in text
    assert line_of("forward") in text
    assert text.startswith("debug_nans(forward): the result is not finite")


def test_infinities():
    assert "divide, forward, gave inf for 1, f64[3] from 0 to 4" in found(
        lambda x: np.sum(1 / x), X
    )
    f = vk.debug_nans(lambda x: np.sum(1 / x), inf=False)
    assert f(X) == np.inf
    assert "subtract, forward, gave nan" in found(lambda x: np.sum(1 / x - 1 / x), X, inf=False)


def test_backward():
    assert vk.debug_nans(backward)(X) == backward(X)
    text = found(vk.grad(backward), X)
    assert "in the backward pass, gave inf" in text
    assert line_of("backward") in text


@pytest.mark.parametrize(
    "wrap",
    [vk.jit, vk.checkpoint, lambda f: vk.jit(vk.jit(f))],
    ids=["jit", "checkpoint", "jit of jit"],
)
def test_through_other_transforms(wrap):
    text = found(wrap(forward), -X)
    assert "log" in text
    assert line_of("forward") in text
    assert "inf" in found(vk.grad(wrap(backward)), X)
    assert "inf" in found(wrap(vk.grad(backward)), X)
    assert "nan" in found(vk.vmap(forward), -np.stack([X, X]))
    assert "nan" in found(lambda x: vk.jvp(forward, (x,), (x,))[1], -X)


def test_what_is_discarded_is_no_error():
    f = lambda x: np.sum(np.where(x > 0, np.log(np.maximum(x, 0)), 0.0))
    assert vk.debug_nans(f)(X) == np.log(4.0)
    np.testing.assert_array_equal(vk.debug_nans(vk.grad(f))(X), [1, 0, 0.25])


def test_results_are_those_of_the_function():
    f = lambda p, n: {"a": np.exp(p["x"]) * n, "n": n + 1, "s": "text"}
    got = vk.debug_nans(f)({"x": X}, 3)
    np.testing.assert_array_equal(got["a"], np.exp(X) * 3)
    assert type(got["a"]) is np.ndarray
    assert got["n"] == 4
    assert got["s"] == "text"
    np.testing.assert_array_equal(vk.grad(vk.debug_nans(lambda x: np.sum(x * x)))(X), 2 * X)
    assert vk.debug_nans(inf=False)(np.sum)(X) == 5.0


def test_within_staged_code_it_warns():
    """There are no values to look at: around it there are."""
    f = vk.debug_nans(np.sqrt)
    first = vk.grad(vk.jit(lambda x: f(x[0])))
    for staged in (vk.jit(f), vk.make_ir(f), vk.vmap(vk.jit(f)), first):
        with pytest.warns(RuntimeWarning, match=r"debug_nans\(sqrt\).*not known.*(\n|.)*jit\(f\)"):
            staged(np.array([1.0, 4.0]))
    assert "sqrt, in a program, gave nan" in found(vk.jit(np.sqrt), -1.0)


@pytest.mark.filterwarnings("ignore:debug_nans.*not known")
def test_rules_of_functions_are_kept():
    """A watched function has the derivative that its own rules give it."""

    def newton(f, x):
        for _ in range(30):
            x = x - f(x) / (3 * x * x + 1)
        return x

    root = lambda a: vk.lax.custom_root(
        lambda x: x**3 + x - a, 0.0 * a, newton, lambda g, y: y / g(1.0)
    )
    halved = vk.custom_vjp(np.sin)
    halved.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (0.5 * ct * np.cos(x),))
    for f in (root, halved, vk.checkpoint(np.sin)):
        for derivative in (vk.grad, vk.hessian, lambda f: lambda x: vk.jit(vk.grad(f))(x)):
            assert derivative(vk.debug_nans(f))(0.7) == pytest.approx(derivative(f)(0.7), rel=1e-12)
    assert "sqrt, forward, gave nan" in found(vk.checkpoint(np.sqrt), -1.0)


def test_places_and_arguments():
    text = found(lambda x: (x, {"a": np.sqrt(x)}), np.array([-1.0]))
    assert re.search(r"the result at \[1\]\['a'\] is not finite", text)
    text = found(np.sum, np.array([np.nan]))
    assert "an argument, as it was given" in text


def root(c, v):
    d = c * v + 0.0 * c
    return np.sqrt(d) + c  # in a loop


def falling(c, v):
    return np.log(c - v)  # in a body


def in_steps(how, f):
    """Three steps of a function of the state and a number, in every kind of loop."""
    v = np.array([1.0, 0.0, 1.0]) if f is root else np.ones(3)
    at = lambda i: (i != 1) * 1.0 if f is root else 1.0
    return {
        "scan": lambda x: vk.lax.scan(lambda c, v: (f(c, v), None), x, v)[0],
        "reverse": lambda x: vk.lax.scan(lambda c, v: (f(c, v), None), x, v, reverse=True)[0],
        "fori": lambda x: vk.lax.fori_loop(0, 3, lambda i, c: f(c, at(i)), x),
        "while": lambda x: vk.lax.while_loop(
            lambda p: p[0] < 3, lambda p: (p[0] + 1, f(p[1], at(p[0]))), (0, x)
        )[1],
        "revolve": lambda x: vk.lax.scan(
            lambda c, v: (f(c, v), None), x, v, checkpoint="revolve", slots=2
        )[0],
        "checkpoint_loop": lambda x: vk.checkpoint_loop(f, x, list(v), slots=2),
    }[how]


LOOPS = ["scan", "reverse", "fori", "while", "revolve", "checkpoint_loop"]


@pytest.mark.parametrize("how", LOOPS)
@pytest.mark.parametrize("staged", [False, True], ids=["eager", "jit"])
def test_steps_of_loops_forward(staged, how):
    loop = in_steps(how, falling)
    loop = vk.jit(loop) if staged else loop
    for f in (loop, vk.grad(loop), lambda x: vk.jvp(loop, (x,), (1.0,))[0]):
        text = found(f, 1.5)
        assert re.search(r"log, .*gave nan for -1\.69315", text), text
        assert line_of("in a body") in text
        if not (staged and how == "checkpoint_loop"):  # which is unrolled there
            assert "in step 1" in text


@pytest.mark.parametrize("how", LOOPS)
@pytest.mark.parametrize("staged", ["eager", "grad of jit", "jit of grad"])
def test_steps_of_loops_backward(staged, how):
    loop = in_steps(how, root)
    gradient = {
        "eager": vk.grad(loop), "grad of jit": vk.grad(vk.jit(loop)),
        "jit of grad": vk.jit(vk.grad(loop)),
    }[staged]  # fmt: skip
    text = found(gradient, 2.0)
    assert re.search(r"divide, .*gave inf for 0\.5, 0", text), text
    assert line_of("in a loop") in text
    if not (staged != "eager" and how == "checkpoint_loop"):
        assert re.search(r"in step 1|in run 1 of the line", text), text


def test_branches_and_loops_in_loops():
    f = vk.jit(lambda x: vk.lax.cond(x > 0, lambda x: np.log(x - 5), np.sin, x))
    assert "log, in a program, in branch 1 of branch, gave inf for 0" in found(f, 5.0)
    inner = lambda c, _: (vk.lax.fori_loop(0, 2, lambda i, c: np.log(c - 1), c), None)
    f = vk.jit(lambda x: vk.lax.scan(inner, x, None, 3)[0])
    assert "log, in a program, in step 0 of scan, in step 1 of scan, gave nan" in found(f, 5.0)
    batch = np.array([5.0, 300.0])
    assert "in step 0 of scan, in step 1 of scan" in found(vk.vmap(f), batch)
    kept = lambda x: vk.lax.scan(lambda c, _: (np.where(c > 0, np.log(c), 2.0), None), x, None, 4)
    f = vk.jit(lambda x: kept(x)[0])
    with np.errstate(all="ignore"):
        assert vk.debug_nans(f)(0.5) == f(0.5)


def test_bad_input():
    with pytest.raises(TypeError, match=r"debug_nans: the first argument must be a function.*py:"):
        vk.debug_nans(3)
    kept: list[Any] = []

    def leaking(x):
        kept.append(x)
        return x

    vk.debug_nans(leaking)(X)
    with pytest.raises(RuntimeError, match=r"used after debug_nans\(leaking\) had finished"):
        kept[0] * 2
