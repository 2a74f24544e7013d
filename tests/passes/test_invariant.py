"""What a step computes from constants alone is computed once, before the loop."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.invariant import with_invariants_outside

W = np.random.default_rng(0).normal(size=(3, 3)) / 3
XS = np.linspace(-1.0, 1.0, 12).reshape(4, 3)


@vk.jit
def moved(w, c):
    """What a step computes from values around it is staged there, unless a program does it."""
    return (0.5 * np.sin(w)) @ c / np.sum(w * w)


def recurrence(w, xs):
    return vk.lax.scan(lambda c, x: (np.tanh(moved(w, c) + x), c), xs[0], xs)


def nested(w, xs):
    def step(c, x):
        inner, _ = vk.lax.scan(lambda d, y: (moved(w, d) + y, None), c, xs)
        return inner + moved(w, x), inner

    return vk.lax.scan(step, xs[0], xs)


def backwards(w, xs):
    return vk.lax.scan(lambda c, x: (c + moved(w, x), moved(w, c)), xs[0], xs, reverse=True)


LOOPS: dict[str, Any] = {
    "recurrence": recurrence,
    "nested": nested,
    "backwards": backwards,
    "gradient": vk.grad(lambda w, xs: np.sum(recurrence(w, xs)[0]), (0, 1)),
    "gradient of nested": vk.grad(lambda w, xs: np.sum(nested(w, xs)[1])),
    "second": vk.hessian(lambda w, xs: np.sum(recurrence(w, xs)[0]) ** 2),
    "batched": vk.vmap(recurrence, in_axes=(None, 1)),
}
VALUES: dict[str, Any] = {"batched": (W, np.stack([XS, -XS], axis=1))}


@pytest.mark.parametrize("name", LOOPS)
def test_same_results(name):
    f, values = LOOPS[name], VALUES.get(name, (W, XS))
    closed = vk.make_ir(f)(*values)
    made = with_invariants_outside(closed.program)
    check(made)
    wanted = evaluate(closed.program, [*closed.consts, *values])
    for got, want in zip(evaluate(made, [*closed.consts, *values]), wanted, strict=True):
        np.testing.assert_allclose(got, want, 1e-14, 1e-15)  # few numbers are added without BLAS
    jitted = vk.jit(f, backend="numpy")(*values)
    vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-10, 1e-12), jitted, f(*values))


def steps_of(f: Any, *values: Any) -> tuple[list[str], list[str]]:
    """Names of the primitives outside and inside the one loop."""
    program = optimize(vk.make_ir(f)(*values).program)
    (loop,) = [eqn for eqn in program.equations if eqn.primitive.name == "scan"]
    outside = [eqn.primitive.name for eqn in program.equations if eqn is not loop]
    return outside, [eqn.primitive.name for eqn in optimize(loop.params["body"]).equations]


def test_invariants_are_outside():
    outside, inside = steps_of(recurrence, W, XS)
    assert {"sin", "sum"} <= set(outside)
    assert inside == ["matmul", "divide", "add", "tanh"]
    outside, inside = steps_of(backwards, W, XS)
    assert outside.count("sin") == 1
    assert "sin" not in inside


def test_a_loop_of_no_steps_computes_nothing():
    inverse = vk.jit(lambda w, x: np.linalg.inv(w) @ x)

    def f(w, xs):
        return vk.lax.scan(lambda c, x: (c + inverse(w, x), None), xs[0], xs[:0])[0]

    np.testing.assert_array_equal(vk.jit(f, backend="numpy")(0.0 * W, XS), XS[0])


def test_what_prints_prints_at_each_step(capsys):
    @vk.jit
    def told(w, x):
        vk.debug.print("weight {}", w)
        return w * x

    def f(w, xs):
        return vk.lax.scan(lambda c, x: (c + told(w, x), None), xs[0], xs)[0]

    vk.jit(f, backend="numpy")(1.5, XS)
    assert capsys.readouterr().out.count("weight") == len(XS)
