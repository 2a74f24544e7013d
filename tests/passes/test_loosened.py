"""Exact words of derivatives, in those that other passes know."""

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.ir import check
from vjpkit.passes.loosened import loosened

X = np.linspace(0.3, 1.7, 6)


def taken_apart(x):
    """Parts and wholes by turns."""
    total = np.sum(x)
    for i in range(5):
        total = total * x[i] + np.sum(np.sin(x * total)) / x[i + 1]
    return total


PROGRAMS = {
    "parts and wholes": taken_apart,
    "places that are computed": lambda x: np.sum(x[np.argsort(-x)] * x / x[::-1]) + x[2],
    "a loop": lambda x: vk.lax.fori_loop(0, 3, lambda i, c: c * x[i] + x[-1] / c, x)[0],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_equal_up_to_rounding(name):
    closed = vk.make_ir(vk.value_and_grad(PROGRAMS[name]))(X)
    made = loosened(closed.program)
    check(made)
    assert "scale_divide" not in str(made)
    assert loosened(made) is made
    given = [*closed.consts, X]
    for got, want in zip(made.eval(*given), closed.program.eval(*given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_sums_of_parts_are_one_sum():
    made = loosened(vk.make_ir(vk.grad(taken_apart))(X).program)
    assert [e.primitive.name for e in made.equations].count("scatter_sum") == 1


def test_a_program_that_prints_may_have_equations_without_results():
    def f(x):
        vk.debug.print("{}", x)
        return np.sum(x[1:] / x[:-1])

    assert vk.jit(vk.grad(f))(X).shape == X.shape
