"""Passes preserve meaning: on every primitive of the registry, and on random programs."""

import numpy as np
import pytest
from hypothesis import given

import vjpkit as vk
from tests.laws.test_metamorphic import POINT, close, programs, some
from vjpkit.backends import executable
from vjpkit.core.aval import aval_of
from vjpkit.core.ir import check
from vjpkit.core.staging import stage
from vjpkit.passes import PIPELINE, optimize


def same_after_every_pass(closed, *values):
    """Each pass leaves a well-formed program of the same avals and, within rounding, results."""
    wanted = closed(*values)
    made = closed.program
    for run in PIPELINE:
        made = run(made)
        check(made)
        assert made.in_avals == closed.program.in_avals
        assert made.out_avals == closed.program.out_avals
        for got, want in zip(made.eval(*closed.consts, *values), wanted, strict=True):
            assert aval_of(got) == aval_of(want)
            close(got, want)
    assert optimize(closed.program) == made
    for got, want in zip(executable(closed.program)(*closed.consts, *values), wanted, strict=True):
        assert aval_of(got).strong() == aval_of(want).strong()
        close(got, want)


@some
@given(programs)
def test_random_programs(f):
    same_after_every_pass(vk.make_ir(vk.value_and_grad(f.scalar))(POINT), POINT)


@some
@given(programs)
def test_random_programs_in_tiny_blocks(f):
    """Every elementwise equation in a group, every group in several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.backends.groups.SMALLEST", 1)
        patch.setattr("vjpkit.backends.groups.BLOCK", 2)
        patch.setattr("vjpkit.backends.numpy_blocks.BLOCK", 2)
        closed = vk.make_ir(vk.value_and_grad(f.scalar))(POINT)
        outs = executable(closed.program)(*closed.consts, POINT)
        for got, want in zip(outs, closed(POINT), strict=True):
            close(got, want)


@pytest.mark.parametrize("transform", [vk.jacfwd, vk.jacrev, vk.hessian])
def test_derivatives_of_a_small_model(transform):
    def f(x):
        h = np.tanh(np.outer(x, x) @ x + 1.0)
        return np.sum(np.where(h > 0.3, h * h, np.log1p(h * h)) / (1 + np.exp(-x)))

    same_after_every_pass(vk.make_ir(transform(f))(POINT), POINT)


def equations(f, *values):
    """Names of the primitives of the optimised program."""
    closed = stage(f, [aval_of(v) for v in values])
    return [eqn.primitive.name for eqn in optimize(closed.program).equations]


def test_equal_equations_are_computed_once():
    assert equations(lambda x: (np.sin(x) * np.cos(np.sin(x)),), POINT) == [
        "sin",
        "cos",
        "multiply",
    ]


def test_numbers_are_computed_beforehand():
    assert equations(lambda x: (x * (np.float64(2.0) * 3.0),), POINT) == ["multiply"]


def test_the_gradient_of_a_sum_of_sines_is_a_cosine():
    assert equations(vk.value_and_grad(lambda x: np.sum(np.sin(x))), POINT) == ["sin", "sum", "cos"]


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.0, -0.0, 1.0])
def test_numbers_keep_their_bits(value):
    x = np.array([value, 1.0, -2.0])
    closed = vk.make_ir(lambda x: (x * 1.0, x / 1.0, x - 0.0, x + 0.0, 1 * x, x - (-0.0)))(x)
    for got, want in zip(executable(closed.program)(x), closed(x), strict=True):
        assert got.tobytes() == want.tobytes()
