"""Registers of several elements compute what kernels compute, to the bit."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the native tier is an extra")

from tests.backends.native.test_kernels import CASES, operands
from vjpkit.backends.native.kernels import Kernel
from vjpkit.backends.native.loops import Loop
from vjpkit.core.aval import aval_of
from vjpkit.core.ir import Equation, Program, Var
from vjpkit.core.primitive import PRIMITIVES


def applied(name: str, xs: list[np.ndarray]) -> Equation:
    """The equation of a primitive for operands like these."""
    primitive = PRIMITIVES[name]
    inputs = tuple([Var(aval_of(x)) for x in xs])
    return Equation(primitive, inputs, {}, (Var(primitive.abstract(*[v.aval for v in inputs])),))


def in_a_loop(name: str, xs: list[np.ndarray], shared: bool) -> Any:
    """The primitive in the step of a loop: of one step on all elements, or of a step for each."""
    eqn = applied(name, xs if shared else [x[:1] for x in xs])
    program = Program(eqn.inputs, [eqn], eqn.outputs)
    avals = tuple(map(aval_of, xs))
    stack = applied(name, xs).outputs[0].aval
    consts, length = (len(xs), 1) if shared else (0, xs[0].size)
    loop = Loop(program, avals, (stack,), consts, 0, length, False)
    return loop.compile()(*xs)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_primitive_in_loops(name: str, dtype: str):
    count = getattr(getattr(PRIMITIVES[name], "ufunc", None), "nin", 2)
    xs = [np.ascontiguousarray(x[:: 1 if count == 1 else 13]) for x in operands(dtype, count)]
    eqn = applied(name, xs)
    with np.errstate(all="ignore"):
        want = Kernel(eqn.inputs, (), (eqn,), eqn.outputs).compile()(*xs)
        for shared in (False, True):
            got = in_a_loop(name, xs, shared)
            assert got.dtype == want.dtype
            assert got.tobytes() == want.tobytes(), (shared, got, want)
