"""Loops do nothing for states that lead to nothing."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Equation, Program, check, subprograms
from vjpkit.passes import optimize
from vjpkit.passes.idle import without_idle_states

X = np.array([0.5, -0.3, 1.2])


def scanned(x: Any) -> Any:
    """Three states, the first by itself, the second by the first, the third by all; two stacks."""
    step = lambda c, t: (
        (np.tanh(c[0]) + t, c[1] * c[0], np.sin(c[2]) + c[1] + c[0]), (c[0] * 2.0, c[2]),
    )  # fmt: skip
    return vk.lax.scan(step, (x, x + 1.0, x * 2.0), np.stack([x, x * x]))


def counted(x: Any) -> Any:
    """A state that the condition reads by another one, a counter, and one for nothing."""
    step = lambda s: (s[0] * 0.5 + s[1], s[1] * 0.5, s[2] + 1, np.sin(s[3]) * x)
    return vk.lax.while_loop(lambda s: np.sum(np.abs(s[0])) > 0.1, step, (x, x, 0, x))


def nested(x: Any) -> Any:
    """The inner loop's idle state is one only where the outer one's is."""

    def step(c, t):
        (a, b), _ = vk.lax.scan(lambda s, u: ((s[0] + u, s[1] * s[0]), None), c, x)
        return (a, b), b

    return vk.lax.scan(step, (x[0], x[1]), x)


def noted(x: Any) -> Any:
    """Somebody sees what the second state is."""

    def step(c, _):
        vk.debug.print("at {}", c[1])
        return (c[0] + 1.0, c[1] * 2.0), None

    return vk.lax.scan(step, (x, x), None, length=3)[0]


CASES: dict[str, tuple[Any, Any, list[int]]] = {
    "first state": (scanned, lambda y: y[0][0], [1]),
    "second state": (scanned, lambda y: y[0][1], [2]),
    "third state": (scanned, lambda y: y[0][2], [3]),
    "first stack": (scanned, lambda y: y[1][0], [2]),
    "second stack": (scanned, lambda y: y[1][1], [4]),
    "counter": (counted, lambda y: y[2], [3]),
    "what is asked": (counted, lambda y: y[0], [2]),
    "for nothing": (counted, lambda y: y[3], [3]),
    "inner": (nested, lambda y: y[0][0], [1, 1]),
    "inner stack": (nested, lambda y: y[1], [3, 2]),
    "seen": (noted, lambda y: y[0], [2]),
}
"""A loop, what is read of it, and how many results it has left, and the loop in it."""


def loops(program: Program) -> list[Equation]:
    found = [e for e in program.equations if e.primitive.name in ("scan", "while")]
    return [*found, *[e for part in subprograms(program) for e in loops(part)]]


@pytest.mark.parametrize("name", CASES)
def test_what_is_left(name: str):
    f, read, counts = CASES[name]
    closed = vk.make_ir(lambda x: read(f(x)))(X)
    made = without_idle_states(closed.program)
    check(made)
    assert [len(e.outputs) for e in loops(made)] == counts
    (got,), (want,) = (evaluate(p, [*closed.consts, X]) for p in (made, closed.program))
    np.testing.assert_array_equal(got, want)
    assert without_idle_states(made) is made


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_derivatives(name: str, backend: Any):
    if backend == "native":
        pytest.importorskip("llvmlite", reason="the native tier is an extra")
    f, read, _ = CASES[name]
    value = lambda x: read(f(x)) * np.ones(3)
    total = lambda x: np.sum(value(x) * np.cos(X))
    np.testing.assert_allclose(vk.jit(value, backend=backend)(X), value(X), rtol=1e-13)
    if name == "counter":
        return
    fast = vk.jit(vk.grad(total), backend=backend)
    np.testing.assert_allclose(fast(X), vk.grad(total)(X), rtol=1e-12)
    v = (X * 0.5,)
    pushed = vk.jit(lambda x: vk.jvp(value, (x,), v)[1], backend=backend)
    np.testing.assert_allclose(pushed(X), vk.jvp(value, (X,), v)[1], rtol=1e-12)


def test_nothing_is_taken_from_a_loop_that_is_needed_whole():
    closed = vk.make_ir(scanned)(X)
    assert without_idle_states(closed.program) is closed.program


def test_loops_of_no_steps():
    f = lambda x: vk.lax.scan(lambda c, t: ((c[0] + 1.0, c[1] * c[0]), c[0]), (x, x), None, 0)[0][0]
    np.testing.assert_array_equal(vk.jit(f, backend="numpy")(X), X)


def test_the_pullback_of_a_loop_of_unknown_length_counts_its_steps_without_the_rest():
    f = lambda x: np.sum(counted(x)[0])
    program = optimize(vk.make_ir(vk.jit(vk.grad(f)))(X).program)
    np.testing.assert_allclose(evaluate(program, [X])[0], vk.grad(f)(X), rtol=1e-13)
