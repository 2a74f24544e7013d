"""Loops over few numbers: the results of step by step, also where Python's floats raise errors."""

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


def same_as_step_by_step(f: Any, *values: Any, atol: float = 0.0) -> None:
    closed = vk.make_ir(f)(*values)
    with np.errstate(all="ignore"):
        wanted = evaluate(closed.program, [*closed.consts, *values])
        outs = executable(closed.program)(*closed.consts, *values)
    for got, want in zip(outs, wanted, strict=True):
        assert np.shape(got) == np.shape(want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(got, want, rtol=1e-14, atol=atol)


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
    "of many": lambda x: vk.lax.scan(lambda c, y: (c * y, c), np.ones(99), x.astype("f8")),
    "of integers": lambda x: vk.lax.scan(lambda c, y: (c + 1, c * y), 0, x.astype("f8")),
    "that compare integers": lambda x: vk.lax.scan(
        lambda c, i: (np.where(i < 2, c, -c), c), 0.5, x.astype(int)
    ),
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


def lorenz(s):
    x, y, z = s
    return np.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])


def euler(s, steps=7):
    return vk.lax.scan(lambda s, _: (s + 0.01 * lorenz(s), s), s, None, length=steps)


def driven(s):
    """The steps know their number, and are matrices of two rows."""
    w = np.array([[0.5, -0.2], [0.1, 0.9]])
    return vk.lax.fori_loop(0, 6, lambda i, s: np.tanh(w @ s + 0.1 * i), s.reshape(2, 2))


def regressed(s, xs):
    """Arrays are read and written row by row, backwards."""
    return vk.lax.scan(
        lambda c, x: (0.9 * c + x[::-1], (c * np.max(x), np.linalg.norm(c))), s, xs, reverse=True
    )


ARRAYS: dict[str, Any] = {
    "lorenz": (euler, (np.array([1.0, 0.5, 2.0]),)),
    "driven": (driven, (np.array([0.3, -0.4, 1.0, 0.2]),)),
    "regressed": (regressed, (np.array([0.3, -0.4]), np.linspace(-1.0, 2.0, 10).reshape(5, 2))),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_small_arrays(name):
    f, values = ARRAYS[name]
    assert all(map(loop_of_numbers, scans(f, *values)))
    same_as_step_by_step(f, *values)
    total = lambda *xs: sum(np.sum(np.sin(y)) for y in vk.tree.leaves(f(*xs)))
    for transform in (vk.value_and_grad, vk.hessian):
        derived = transform(total)
        same_as_step_by_step(derived, *values)
        got = vk.jit(derived, backend="numpy")(*values)
        vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-11), got, derived(*values))
    loops = scans(vk.grad(total), *values)
    assert len(loops) == 2
    assert all(map(loop_of_numbers, loops))


@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan, 1e308])
def test_steps_that_are_numpys(bad):
    def f(s, xs):
        return vk.lax.scan(lambda c, x: (c / x + np.exp(c[::-1]), (c, np.sum(x))), s, xs)

    xs = np.array([[1.0, 2.0], [bad, 3.0], [0.5, -4.0]])
    assert loop_of_numbers(*scans(f, np.ones(2), xs))
    same_as_step_by_step(f, np.ones(2), xs)
    same_as_step_by_step(vk.grad(lambda s, xs: np.sum(f(s, xs)[0])), np.ones(2), xs)


def test_what_is_always_the_same_stays():
    def f(s):
        step = lambda c, _: (c * np.array([1.0, 2.0]), (np.full(2, np.inf), 1.0 / c))
        return vk.lax.scan(step, s, None, length=3)

    same_as_step_by_step(f, np.array([1.0, 0.0]))


def kinked(x):
    """The derivative of the square root is infinite where its factor is zero, in one step."""

    def step(c, w):
        return 0.9 * c + w * np.sqrt(np.abs(c - 1.0) * w), c * w

    return vk.lax.scan(step, x, np.array([0.5, 0.0, 0.3, 0.0, -0.0]))


@pytest.mark.parametrize("start", [1.0, 2.0, np.nan, np.inf])
def test_a_nan_in_one_step_is_seen_at_the_end(start):
    f = lambda x: [(y := kinked(x)), y[0] * y[0] + np.sum(y[1])][1]
    loops = scans(vk.grad(f), np.float64(start))
    assert all(map(loop_of_numbers, loops))
    same_as_step_by_step(vk.value_and_grad(f), np.float64(start))


def test_a_nan_that_the_next_step_hides_is_looked_for_in_every_step():
    def f(x):
        def step(c, w):
            return np.where(c > 0.0, w * np.sqrt(c), 0.25), None

        return vk.lax.scan(step, x, np.array([1.0, 0.0, 2.0, 0.0, 1.0]))[0]

    for start in (0.0, 0.5):
        same_as_step_by_step(vk.value_and_grad(f), np.float64(start))
        got = vk.jit(vk.grad(f), backend="numpy")(start)
        np.testing.assert_allclose(got, vk.grad(f)(start), 1e-14)


def test_steps_that_fail_are_done_again_from_the_first_one():
    calls = []

    def careful(*values):
        calls.append(values)
        return otherwise(*values)

    def f(x):
        return vk.lax.scan(lambda c, y: (c / y + 1.0, c), 1.0, x)

    (loop,) = scans(f, XS)
    run: Any = loop_of_numbers(loop)
    otherwise = run.__globals__["exact"]
    run.__globals__["exact"] = careful
    for xs, count in ((XS + 2.0, 0), (np.array([1.0, 2.0, 0.0, 1.0, 4.0]), 1)):
        with np.errstate(divide="ignore"):
            outs = run(np.float64(1.0), xs)
        assert len(calls) == count
        last, befores = 1.0, []
        for y in xs:
            befores.append(last)
            with np.errstate(divide="ignore"):
                last = np.float64(last) / y + 1.0
        assert outs[0] == last
        assert outs[1].tolist() == befores


@pytest.mark.parametrize("reverse", [False, True])
def test_what_follows_from_slices_alone_is_computed_for_all_steps(reverse):
    def f(x, xs, ys):
        def step(c, slices):
            y, z = slices
            k = np.sqrt(y * y + 2.0) * (z[0] - z[1]) / 3.0
            return c * k + np.tanh(y) * z[1], c + k

        return vk.lax.scan(step, x, (xs, ys), reverse=reverse)

    xs, ys = np.linspace(-1.0, 1.0, 400), np.sin(np.arange(800.0)).reshape(400, 2)
    (loop,) = scans(f, np.float64(0.5), xs, ys)
    text = source_of(loop)
    assert "all_" in text
    assert "sqrt" not in text[text.index("for ") :]
    same_as_step_by_step(f, np.float64(0.5), xs, ys)
    same_as_step_by_step(vk.grad(lambda *v: np.sum(f(*v)[1])), np.float64(0.5), xs, ys)


def test_common_factors_of_slices_are_taken_out():
    def f(x, xs, ys):
        def step(c, slices):
            y, z = slices
            return c * y - c * z + 0.5, (c * (y + 2.0) + c * (z * z), c * (y - 3.0) - c * c)

        return vk.lax.scan(step, x, (xs, ys))

    xs, ys = np.linspace(-1.0, 1.0, 300), np.cos(np.arange(300.0))
    (loop,) = scans(f, np.float64(0.5), xs, ys)
    text = source_of(loop)
    assert text[text.index("for ") :].count("*") == 4  # of six products and a square
    # Terms of about one are rounded in another order.
    same_as_step_by_step(f, np.float64(0.5), xs, ys, atol=1e-14)
    for bad in (np.inf, np.nan, 1e200):
        xs[3] = ys[3] = bad
        same_as_step_by_step(f, np.float64(0.5), xs, ys, atol=1e-14)


def source_of(loop: Any) -> str:
    """The text of a loop."""
    texts: list[str] = []

    def kept(text, *args):
        texts.append(text)
        return compile(text, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.backends.numpy_loops.compile", kept, raising=False)
        loop_of_numbers(loop)
    return texts[0]
