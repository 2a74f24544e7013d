"""Registers of several elements compute what kernels compute, to the bit."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the native tier is an extra")

from tests.backends.native.test_kernels import CASES, operands
from vjpkit.backends.native.chains import Chain
from vjpkit.backends.native.kernels import Kernel
from vjpkit.backends.native.loops import Call, Loop
from vjpkit.core.aval import aval_of
from vjpkit.core.ir import Equation, Program, Var
from vjpkit.core.primitive import PRIMITIVES


def applied(name: str, xs: list[np.ndarray]) -> tuple[tuple[Var, ...], Equation]:
    """Variables for operands like these, and the equation of a primitive of them."""
    primitive = PRIMITIVES[name]
    inputs = tuple([Var(aval_of(x)) for x in xs])
    out = Var(primitive.abstract(*[v.aval for v in inputs]))
    return inputs, Equation(primitive, inputs, {}, (out,))


def in_a_loop(name: str, xs: list[np.ndarray], shared: bool) -> Any:
    """The primitive in the step of a loop: of one step on all elements, or of a step for each."""
    inputs, eqn = applied(name, xs if shared else [x[:1] for x in xs])
    program = Program(inputs, [eqn], eqn.outputs)
    avals = tuple(map(aval_of, xs))
    stack = applied(name, xs)[1].outputs[0].aval
    consts, length = (len(xs), 1) if shared else (0, xs[0].size)
    operands, results = tuple(map(Var, avals)), (Var(stack),)
    loop = Loop(program, avals, (stack,), consts, 0, length, False)
    return Chain((Call(loop, operands, results),), results).compile()(*xs)


def bits(x: Any) -> bytes:
    """Those of an array in which all nans are one: LLVM says nothing of their signs."""
    return bytes(np.where(x == x, x, x.dtype.type(np.nan)).tobytes() if x.dtype.kind == "f" else x)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_primitive_in_loops(name: str, dtype: str):
    count = getattr(getattr(PRIMITIVES[name], "ufunc", None), "nin", 2)
    xs = [np.ascontiguousarray(x[:: 1 if count == 1 else 13]) for x in operands(dtype, count)]
    inputs, eqn = applied(name, xs)
    with np.errstate(all="ignore"):
        want = Kernel(inputs, (), (eqn,), eqn.outputs).compile()(*xs)
        for shared in (False, True):
            got = in_a_loop(name, xs, shared)
            assert got.dtype == want.dtype
            assert bits(got) == bits(want), (shared, got, want)
