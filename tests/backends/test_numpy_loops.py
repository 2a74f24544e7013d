"""Loops over numbers: the same bits as step by step, also where Python's floats raise errors."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.backends import executable
from vjpkit.backends.numpy_loops import loop_of_numbers
from vjpkit.core.evaluate import evaluate
from vjpkit.passes import optimize

LENGTH = 5


def oscillating(state, x):
    u, v = state
    return (u + 0.1 * v, v - 0.1 * u * x), u * v - x


def oscillation(start, xs):
    (u, v), ys = vk.lax.scan(oscillating, (start, 0.5 * start), xs)
    return u * v + np.sum(ys * ys)


def scans(f: Any, *values: Any) -> list[Any]:
    """The loops of an optimised program."""
    program = optimize(vk.make_ir(f)(*values).program)
    return [eqn for eqn in program.equations if eqn.primitive.name == "scan"]


def same_as_step_by_step(f: Any, *values: Any) -> None:
    closed = vk.make_ir(f)(*values)
    with np.errstate(all="ignore"):
        wanted = evaluate(closed.program, [*closed.consts, *values])
        outs = executable(closed.program)(*closed.consts, *values)
    for got, want in zip(outs, wanted, strict=True):
        assert np.shape(got) == np.shape(want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(got, want, rtol=1e-14)


XS = np.linspace(-1.0, 1.0, LENGTH)


@pytest.mark.parametrize("transform", [lambda f: f, vk.value_and_grad, vk.hessian])
def test_values_and_derivatives(transform):
    f = transform(oscillation)
    loops = scans(f, 0.7, XS)
    assert loops
    same_as_step_by_step(f, 0.7, XS)


def test_the_loops_of_a_gradient_are_over_numbers():
    loops = scans(vk.grad(oscillation), np.float64(0.7), XS)
    assert len(loops) == 2
    assert all(map(loop_of_numbers, loops))


def test_backwards_with_results_in_their_places():
    def f(x):
        return vk.lax.scan(lambda c, y: (c * y + 1.0, (c, y)), x[0], x, reverse=True)

    same_as_step_by_step(f, XS)


def test_a_zero_divisor_is_numpys():
    def f(x):
        return vk.lax.scan(lambda c, y: (c / y, c), 1.0, x)

    x = np.array([2.0, 0.0, -0.0, 1.0, 0.0])
    same_as_step_by_step(f, x)
    last, _ = vk.jit(f, backend="numpy")(np.array([2.0, 4.0]))
    assert last == 0.125
    with np.errstate(all="ignore"):
        last, before = vk.jit(f, backend="numpy")(x)
    assert last == -np.inf
    assert before.tolist() == [1.0, 0.5, np.inf, -np.inf, -np.inf]


def test_zero_wins_over_the_derivative_of_a_square_root_at_zero():
    def f(x):
        return vk.lax.scan(lambda c, w: (c + w * np.sqrt(c * c), None), x, np.zeros(LENGTH))[0]

    assert vk.jit(vk.grad(f), backend="numpy")(0.0) == 1.0


def test_ufuncs_of_numbers():
    def f(x):
        return vk.lax.scan(lambda c, y: (np.sin(c) + np.exp(-y * y), -c), x, XS)

    same_as_step_by_step(f, np.float64(0.3))
    same_as_step_by_step(vk.grad(lambda x: f(x)[0]), np.float64(0.3))


OTHERS: dict[str, Any] = {
    "of other floats": lambda x: vk.lax.scan(lambda c, y: (c + y, c), np.float32(0.5), x),
    "with truth values": lambda x: vk.lax.scan(lambda c, y: (c + y, c > 0), 0.5, x.astype("f8")),
    "complex": lambda x: vk.lax.scan(lambda c, y: (np.sqrt(c) * y, c), 0.5j, x.astype("c16")),
    "of arrays": lambda x: vk.lax.scan(lambda c, y: (c * y, c), np.ones(2), x.astype("f8")),
    "of no steps": lambda x: vk.lax.scan(lambda c, y: (c * y, c), 1.0, x[:0].astype("f8")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_loops_stay_as_they_are(name):
    f, x = OTHERS[name], XS.astype("f4")
    (loop,) = scans(f, x)
    assert loop_of_numbers(loop) is None
    same_as_step_by_step(f, x)


def test_results_are_arrays_of_their_own():
    run = vk.jit(lambda x: vk.lax.scan(lambda c, y: (c * y, (c, c + y)), 1.0, x), backend="numpy")
    _, (first, second) = run(XS)
    assert first.flags.owndata
    assert second.flags.owndata
    assert not np.shares_memory(first, second)
    assert first.flags.writeable
