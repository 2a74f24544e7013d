"""Passes preserve meaning: on every primitive of the registry, and on random programs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

import vjpkit as vk
from tests.laws.test_metamorphic import POINT, close, programs, some
from tests.passes.compiled import same_compiled
from vjpkit.backends import executable
from vjpkit.control.programs import linearized_program
from vjpkit.core.aval import aval_of
from vjpkit.core.ir import check
from vjpkit.core.staging import stage
from vjpkit.passes import PIPELINE, optimize
from vjpkit.passes.cancelling import without_what_cancels
from vjpkit.passes.common import with_products_shared
from vjpkit.passes.inlining import FEW


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
        same_compiled(vk.value_and_grad(f.scalar))


@some
@given(programs)
def test_random_programs_in_which_sums_may_cancel(f):
    """What cancels is looked for in arrays of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.passes.cancelling.LARGE", 2)
        same_compiled(vk.value_and_grad(f.scalar), without_what_cancels)


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


def written_over(x):
    y = np.zeros_like(x)
    y[...] = x
    return y


BIG = np.arange(15.0).reshape(5, 3) / 15
STACK = np.arange(54.0).reshape(6, 3, 3) / 54
RULES: dict[str, Any] = {
    "double negation": (lambda x: -(-1 * (-x)) * 1, 1),
    "negation into difference": (lambda x: np.sin(x) + -x, 2),
    "negation into sum": (lambda x: np.sin(x) - (-x), 2),
    "two negations": (lambda x: -np.sin(x) * -np.cos(x), 3),
    "sum of minus": (lambda x: -np.sum(-x), 1),
    "scales": (lambda x: 2.0 * (3.0 * x), 1),
    "reshapes": (lambda x: np.sin(x.reshape(3, 1, 1).reshape(3)), 1),
    "transposes": (lambda x: np.sin(x.reshape(3, 1).T.T), 2),
    "broadcast": (lambda x: np.broadcast_to(x, (4, 3)) * np.ones((4, 3)), 1),
    "broadcast number": (lambda x: np.full(3, 2.0) * np.sin(x) + np.broadcast_to(0.5, 3), 3),
    "cube": (lambda x: x**3, 2),
    "views of everything": (lambda x: np.sin(x[:, None][..., 0][None][0, :]), 1),
    "a view back": (vk.grad(lambda x: np.sum(np.sin(x[:, None]))), 3),
    "backwards is not everything": (lambda x: np.sin(x[::-1]), 2),
    "written over": (lambda x: written_over(np.sin(x)), 1),
    "quotient of minus": (lambda x: 2.0 - (-np.sin(x)) / np.exp(x), 4),
    "quotient of two": (lambda x: (-np.sin(x)) / (-np.exp(x)), 3),
    "multiples": (lambda x: 100.0 * np.sin(x) + np.sin(x) * 100.0, 2),
    "multiple and itself": (lambda x: 3.0 * np.sin(x) + np.sin(x), 2),
    "other order": (lambda x: np.sin(x) * np.cos(x) / (np.cos(x) * np.sin(x)), 4),
    "broadcast operands": (lambda x: np.broadcast_to(x[:, None], (3, 3)) * np.sin(x), 3),
    "products in a stack": (lambda x: np.sum(STACK * x @ np.sin(STACK), axis=0), 6),
    "twice a multiple": (lambda x: 3.0 * (np.sin(x) + np.sin(x)), 2),
    "an axis of one element": (lambda x: (np.sin(x)[:, None] * x[:, None]).reshape(3), 2),
    "reshapes around": (lambda x: np.exp(2.0 * np.sin(x)[:, None, None]).reshape(3), 3),
    "a product transposed": (lambda x: (STACK[0] @ np.outer(x, x)).T, 5),
    "a product read twice": (lambda x: [(y := STACK[0] @ np.outer(x, x)), y.T], 5),
    "a view read, and its reshape": (lambda x: [(y := np.sin(x)), np.exp(y[:, None])], 3),
    "a number on the smaller": (lambda x: (2.0 * np.outer(x, x)) * np.sum(x), 7),
    "twice a product": (lambda x: [(y := BIG * x), y + y][1], 2),
    "minus in a product": (lambda x: (-np.sin(BIG * x)).T @ np.ones(5), 6),
    "minus a sum": (lambda x: np.exp(x) + (-np.sin(x) - np.cos(x)), 5),
    "twice a quotient": (lambda x: [(y := np.sin(x) * (1.0 / x)), y + y][1], 3),
    "twice a quotient read twice": (lambda x: [(y := np.sin(x) * (1.0 / x)), y + y], 4),
    "gradient of a sorted vector": (vk.grad(lambda x: np.sum(np.sort(x) * STACK[0, 0])), 2),
    "gradient of sorted rows": (vk.grad(lambda x: np.sum(np.sort(STACK[0] * x) * STACK[1])), 8),
    "a number with an axis": (lambda x: np.sum(x).reshape(1) * np.sin(x), 3),
    "transposed and back": (lambda x: (np.exp(np.sin(BIG * x).T) * 2.0).T, 4),
    "vectors beside": (lambda x: (np.exp(BIG * x).T * x[:, None] + np.arange(5.0)).T, 5),
    "axes in turn": (
        lambda x: np.transpose(
            np.transpose(STACK * x, (1, 2, 0)) * x[:, None] * np.arange(6.0), (2, 0, 1)
        ),
        6,
    ),
    "transposed alike": (lambda x: (np.sin(BIG * x).T + np.cos(BIG * x).T).T, 4),
    "transposed and not": (lambda x: np.exp(np.sin(BIG[:3] * x).T + BIG[:3] * x), 6),
    "a transposed result": (lambda x: np.exp((BIG * x).T), 3),
    "opposite numbers": (lambda x: [2.5 * x + np.sin(x), np.cos(x) + -2.5 * x], 5),
    "opposite numbers, the other order": (lambda x: [-2.5 * x, 2.5 * x], 2),
    "minus a product that is read": (lambda x: [(y := 3.0 * np.sin(x)), np.cos(x) - -(y * -1)], 4),
    "less twice a product": (lambda x: [(y := BIG * x), np.sin(BIG) - y - y][1], 4),
    "more twice a product": (lambda x: [(y := x * BIG), np.sin(BIG) + y + y][1], 4),
    "the same place": (vk.grad(lambda x: np.sum(np.sin(x[1:]) * x[1:])), 6),
}


@pytest.mark.parametrize("name", RULES)
def test_algebra(name):
    f, count = RULES[name]
    closed = vk.make_ir(f)(POINT)
    same_after_every_pass(closed, POINT)
    optimised = optimize(closed.program)
    assert len(optimised.equations) <= count, optimised


def test_exact_rules_keep_signed_zeros_and_infinities():
    x = np.array([0.0, -0.0, np.inf, -np.inf, 1.5])
    y = np.array([-0.0, 0.0, 2.0, np.inf, -1.5])

    def f(x, y):
        signs = x + -y, -x + y, x - -y, -x * y, -x * -y, -1 * (-x), x * -y, np.sum(-y), 2.0 * -x
        return *signs, 3.0 * x, y + -3.0 * x, -7.0 * y, 7.0 * y

    closed = vk.make_ir(f)(x, y)
    with np.errstate(invalid="ignore"):
        for got, want in zip(executable(closed.program)(x, y), closed(x, y), strict=True):
            np.testing.assert_array_equal(got, want)
            same_sign = np.signbit(got) == np.signbit(want)
            assert np.all(same_sign | np.isnan(want))


def test_products_of_the_function_and_of_its_derivative_are_one():
    def f(x, y):
        return np.sum(y * x * x)

    x = np.array([0.0, 2.0, np.inf])
    closed = vk.make_ir(vk.value_and_grad(f))(x, np.array([np.inf, 1.0, 0.0]))
    program = optimize(closed.program)
    shared = with_products_shared(program)
    check(shared)
    names = [eqn.primitive.name for eqn in shared.equations]
    assert names == ["scale", "multiply", "sum", "add"]
    assert len(shared.equations) == len(program.equations) - 1
    with np.errstate(invalid="ignore"):
        for y in (np.array([np.inf, 1.0, 0.0]), np.ones(3)):
            for got, want in zip(executable(closed.program)(x, y), closed(x, y), strict=True):
                np.testing.assert_array_equal(got, want)


def test_calls_are_part_of_the_program_around_them():
    inner = vk.jit(lambda x: (np.sin(x), np.cos(x)))

    def f(x):
        s, c = inner(x)
        t, _ = inner(2.0 * x)
        return np.sum(s * c * t + np.sin(x))

    closed = vk.make_ir(vk.value_and_grad(vk.jit(f)))(POINT)
    same_after_every_pass(closed, POINT)
    names = [eqn.primitive.name for eqn in optimize(closed.program).equations]
    assert "call" not in names
    assert names.count("sin") == names.count("cos") == 2


def test_a_large_program_that_is_called_often_stays_one():
    def f(x):
        for _ in range(FEW):
            x = np.sin(x) + x
        return x

    inner = vk.jit(f)
    closed = vk.make_ir(lambda x: inner(inner(x)))(POINT)
    same_after_every_pass(closed, POINT)
    assert [eqn.primitive.name for eqn in optimize(closed.program).equations] == ["call", "call"]
    once = optimize(vk.make_ir(inner)(POINT).program)
    assert len(once.equations) == 2 * FEW


def test_what_is_linearized_has_been_through_the_passes():
    """The gradient of a program takes as many equations as that of the function written well."""

    def f(x):
        return np.sum(np.sin(x) * np.cos(np.sin(x)) * 1.0 + 2.0 * (3.0 * x))

    def well(x):
        s = np.sin(x)
        return np.sum(s * np.cos(s) + 6.0 * x)

    def primal(g):
        return linearized_program(vk.make_ir(g)(POINT).program, (True,)).primal

    assert len(primal(f).equations) == len(primal(well).equations)


def shifted_log_sum_exp(x):
    m = np.max(x)
    return m + np.log(np.sum(np.exp(x - m)))


def shifted_cross_entropy(x):
    y = x - np.max(x, axis=1, keepdims=True)
    y = y - np.log(np.sum(np.exp(y), axis=1, keepdims=True))
    return -np.sum(y[:, :1]) + np.sum(0.1 * y)


def deviations(x):
    d = x - np.mean(x, axis=0)
    return np.sum(np.sqrt(np.mean(d * d, axis=0)))


def columns_to_the_left(x):
    m = np.max(x.T, axis=0)
    return np.sum(m + np.log(np.sum(np.exp(x.T - m), axis=0)))


CANCELLING = {
    "a shift by the maximum": (shifted_log_sum_exp, 8),
    "a shift of each row": (shifted_cross_entropy, 21),
    "a shift of a transpose": (columns_to_the_left, 13),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_what_cancels(name):
    """The gradient in the shift is zero: neither the mask of the maximum nor sums of it are left.

    Where something is infinite nothing cancels, and results are those of the program as it stands.
    """
    f, count = CANCELLING[name]
    x = np.random.default_rng(3).standard_normal((90, 50))
    closed = vk.make_ir(vk.value_and_grad(f))(x)
    program = without_what_cancels(optimize(closed.program))
    check(program)
    assert len(program.equations) == count, program
    run = executable(closed.program)
    for change in (x, x + 1e9, *[spoiled(x, v) for v in (np.inf, -np.inf, np.nan, 1e300)]):
        with np.errstate(all="ignore"):
            for got, want in zip(run(change), closed(change), strict=True):
                scale = np.max(np.abs(want), initial=0.0, where=np.isfinite(want))
                np.testing.assert_allclose(got, want, 1e-9, 1e-9 * scale)


def test_deviations_from_a_mean_do_not_cancel():
    """Their sum is the rounding of the mean, which the gradient needs where the mean is large."""
    x = 1e9 + np.random.default_rng(3).standard_normal((90, 50))
    program = optimize(vk.make_ir(vk.grad(deviations))(x).program)
    assert without_what_cancels(program) is program
    close(vk.jit(vk.grad(deviations), backend="numpy")(x), vk.grad(deviations)(x))


def spoiled(x, value):
    out = x.copy()
    out[7, 11] = value
    return out


@pytest.mark.parametrize("name", ["gradient-of-softmax", "gradient-of-rosenbrock"])
def test_golden(name, golden):
    def softmax(x):
        return -np.log(np.exp(x[0]) / np.sum(np.exp(x)))

    def rosenbrock(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    f = softmax if name.endswith("softmax") else rosenbrock
    program = vk.make_ir(vk.value_and_grad(f))(np.linspace(0.1, 1.0, 50)).program
    run = executable(program)
    golden(f"passes-{name}", f"{program}\n\n{optimize(program)}\n\n{run.source}")


def test_a_sum_of_one_part_that_is_everywhere_keeps_it():
    x = np.arange(12.0).reshape(3, 4) / 7
    slope = vk.grad(lambda x: np.sum(vk.lax.reduce(x, 1.0, lambda a, b: a * b, (0,)) * x[1]))
    program = vk.make_ir(slope)(x).program
    assert "indices=([],)" in str(program)
    for backend in ("numpy", "native"):
        np.testing.assert_allclose(vk.jit(slope, backend=backend)(x), slope(x), 1e-13)
