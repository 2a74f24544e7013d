"""The basis of a dense Jacobian: diagonal matrices are scalings, and the result is the same."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

import vjpkit as vk
from tests.laws.test_metamorphic import POINT, close, programs, some
from vjpkit.backends import executable
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.diagonal import with_diagonals

A = np.random.default_rng(0).normal(size=(4, 3))
B = np.random.default_rng(1).normal(size=(3, 4))

MODELS: dict[str, Any] = {
    "layers": lambda x: B @ np.tanh(A @ np.sin(x)),
    "rows": lambda x: np.tanh(np.sin(x) @ B) @ A,
    "elementwise": lambda x: -np.sin(x) * 2.0 / 3.0 + x * x - np.exp(x),
    "sums": lambda x: np.sum(x * x) * x,
    "shapes": lambda x: np.sin(x)[:, None].T @ B,
    "vectors": lambda x: (2.0 * x) @ np.arange(3.0) + (x * x) @ x,
    "weights of complex numbers": lambda x: np.real((1j * A) @ x.astype(complex)),
    "single precision": lambda x: A.astype("f4") @ np.sin(x.astype("f4")),
    "a part": lambda x: A @ x[:3] + x[0],
    "choices": lambda x: np.where(x > 0.0, x * x, np.sin(x)),
}


def names(f: Any, *values: Any) -> list[str]:
    program = optimize(vk.make_ir(f)(*values).program)
    return [eqn.primitive.name for eqn in program.equations]


@pytest.mark.parametrize("transform", [vk.jacfwd, vk.jacrev, vk.hessian])
@pytest.mark.parametrize("name", MODELS)
def test_same_as_without(transform, name):
    f = MODELS[name]
    if transform is vk.hessian:
        f = lambda x: np.sum(MODELS[name](x) ** 2)
    jacobian = transform(f)
    want = jacobian(POINT)
    closed = vk.make_ir(jacobian)(POINT)
    check(with_diagonals(closed.program))
    got = vk.jit(jacobian, backend="numpy")(POINT)
    assert got.dtype == want.dtype
    close(got, want)


@some
@given(programs)
def test_random_programs(f):
    for transform in (vk.jacfwd, vk.jacrev):
        closed = vk.make_ir(transform(f.scalar))(POINT)
        check(with_diagonals(closed.program))
        (out,) = executable(closed.program)(*closed.consts, POINT)
        close(out, vk.grad(f.scalar)(POINT))


@pytest.mark.parametrize("chunk_size", [1, 2, 3])
@pytest.mark.parametrize("transform", [vk.jacfwd, vk.jacrev])
def test_several_arguments_in_parts(transform, chunk_size):
    def f(x, w):
        return w @ np.sin(x)

    jacobian = transform(f, (0, 1), chunk_size=chunk_size)
    for got, want in zip(vk.jit(jacobian)(POINT, A), jacobian(POINT, A), strict=True):
        close(got, want)


def test_no_basis_is_multiplied():
    jacobian = vk.jacfwd(MODELS["layers"])
    found = names(jacobian, POINT)
    assert "eye" not in found
    assert found.count("matmul") == 2
    assert "eye" not in names(vk.hessian(lambda x: np.sum(np.log(1.0 + (A @ x) ** 2))), POINT)


def test_golden(golden):
    program = vk.make_ir(vk.jacfwd(MODELS["layers"]))(POINT).program
    golden("passes-jacobian", f"{program}\n\n{optimize(program)}")


def test_zeros_beside_the_diagonal_win():
    a = A.copy()
    a[1, 2] = np.inf
    with np.errstate(invalid="ignore"):
        got = vk.jit(vk.jacfwd(lambda x: a @ (2.0 * x)), backend="numpy")(POINT)
    np.testing.assert_array_equal(got, 2.0 * a)


def test_strict_arithmetic_has_a_basis_of_numbers():
    f = lambda x: A @ (2.0 * x)
    program = vk.make_ir(vk.jacobian(f, strict=True))(POINT).program
    assert all(eqn.primitive.name != "eye" for eqn in program.equations)
    close(vk.jit(vk.jacobian(f, strict=True))(POINT), 2.0 * A)


def test_a_basis_of_one_vector_is_a_number():
    assert "eye" not in names(vk.jacrev(lambda x: np.sum(np.sin(x))), POINT)
    close(vk.jit(vk.jacrev(lambda x: np.sum(np.sin(x))))(POINT), np.cos(POINT))


def test_python_numbers_leave_single_precision_as_it_is():
    mixed = vk.jacrev(vk.grad(lambda x, s: np.sum(np.sin(x * s) * s)), 1)
    x = POINT.astype("f4")
    check(with_diagonals(vk.make_ir(mixed)(x, 0.5).program))
    found = vk.jit(mixed)(x, 0.5)
    np.testing.assert_allclose(found, mixed(x, 0.5), rtol=1e-5)
