"""Cheap residuals of loops are computed again: equal outputs, less stored, nothing dear twice."""

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.backends.numpy_source import quick_form
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.recompute import with_residuals_recomputed

X = np.array([0.5, -0.3, 1.2])
W = np.array([0.7, 0.2, -0.4])


def cubic(c, w, t):
    u = c * w + t
    return u * u * c + 0.1 * u, u


def dear(c, w, t):
    e = np.exp(-c * w)
    return c * e / (1.0 + e) + t, c


STEPS = {"cubic": cubic, "dear": dear}


def looped(step):
    def f(x, w):
        last, ys = vk.lax.scan(lambda c, t: step(c, w, t), x, np.linspace(0.0, 1.0, 5)[:, None])
        return np.sum(last * last) + np.sum(ys[::2])

    return f


def changed(f, *values, fits=lambda eqn: True, reads=lambda eqn: True):
    """The optimised program before and after the pass, both checked to give the same bits."""
    closed = vk.make_ir(f)(*values)
    before = optimize(closed.program)
    after = with_residuals_recomputed(before, fits, reads)
    check(after)
    with pytest.MonkeyPatch.context() as patch:
        # Steps that are written with fewer operations round in another way.
        patch.setattr("vjpkit.backends.numpy_source.Source.in_short", staticmethod(quick_form))
        for got, want in zip(
            after.eval(*closed.consts, *values), before.eval(*closed.consts, *values), strict=True
        ):
            np.testing.assert_array_equal(got, want)
    return before, after


def stored(program):
    """Bytes of the stacks of all loops, and primitives of their steps."""
    scans = [e for e in program.equations if e.primitive.name == "scan"]
    nbytes = sum(v.aval.nbytes for e in scans for v in e.outputs[e.params["carry"] :])
    return nbytes, [i.primitive.name for e in scans for i in e.params["body"].equations]


@pytest.mark.parametrize("name", STEPS)
def test_less_is_stored_and_nothing_dear_is_computed_twice(name):
    before, after = changed(vk.grad(looped(STEPS[name]), argnums=(0, 1)), X, W)
    (bytes_before, _), (bytes_after, names) = stored(before), stored(after)
    assert bytes_after < bytes_before
    assert names.count("exp") == (name == "dear")


@pytest.mark.parametrize("name", STEPS)
def test_second_derivatives(name):
    gradient = vk.grad(looped(STEPS[name]))
    changed(vk.grad(lambda x: np.sum(gradient(x, W) ** 2)), X)


def test_reverse_loops_and_loops_over_stacks_of_loops():
    def f(x):
        _, ys = vk.lax.scan(lambda c, _: (c * 0.9, c * c), x, length=4, reverse=True)
        last, _ = vk.lax.scan(lambda c, y: (c * y + y * y, None), x, ys)
        return np.sum(last)

    before, after = changed(vk.grad(f), X)
    assert stored(after)[0] < stored(before)[0]


def test_what_is_stored_is_cut_where_it_is_least():
    """One value in the midst of a step leads to its residuals; the states before are three."""

    def f(x):
        def step(state, _):
            a, b, c = state
            u = a + 0.1 * b + c
            return (u, b - u * u * u, 0.5 * c + u * u), None

        return np.sum(vk.lax.scan(step, (x, 0.5 * x, x), None, length=4)[0][0])

    before, after = changed(vk.grad(f), X)
    assert stored(after)[0] < stored(before)[0]
    forth, _ = [e for e in after.equations if e.primitive.name == "scan"]
    assert len(forth.outputs) - forth.params["carry"] == 1


def test_stacks_that_are_read_otherwise_stay():
    def f(x):
        return vk.lax.scan(lambda c, _: (c * 0.5, (c * 2.0, c * 3.0)), x, length=4)[1][0]

    assert stored(changed(f, X)[1])[0] == 4 * X.nbytes
    assert stored(changed(lambda x: np.sum(f(x)), X)[1])[0] == 4 * X.nbytes


def test_loops_that_would_not_fit_stay():
    before, after = changed(vk.grad(looped(cubic)), X, W, fits=lambda eqn: False)
    assert after == before


def test_nothing_changes_where_a_reader_would_be_worse():
    f = vk.grad(looped(cubic))
    before, after = changed(f, X, W, reads=lambda eqn: False)
    assert stored(after) == stored(before)
    before, after = changed(f, X, W, reads=lambda eqn: eqn.params["reverse"])
    assert stored(after)[0] < stored(before)[0]
