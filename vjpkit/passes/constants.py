"""Constant folding: arrays of one value, and what is computed from numbers alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.kinds.elementwise import Ufunc
from vjpkit.ops.elementwise import multiply
from vjpkit.ops.products import scale
from vjpkit.ops.structural import fill
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_constants_folded"]

_SHAPE_ONLY = frozenset({"reshape", "transpose", "broadcast_to"})


def with_constants_folded(program: Program) -> Program:
    """Numbers computed here rather than at each call, broadcast numbers as numbers.

    Laws, all exact to the bit: an elementwise equation of constants is its value; one that reads an
    array of equal elements reads the element, where the other operands are as large as the result;
    ``scale`` by a finite number other than zero is ``multiply`` (zero has nothing to win over);
    ``1 * x``, ``x / 1``, ``x - 0`` are ``x``.
    """
    fold = _Folding(program)
    for old in program.equations:
        fold.visit(fold.read(old))
    return fold.finish()


class _Folding(Rewriter):
    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.uniform: dict[Var, Any] = {}

    def element(self, a: Atom) -> Any:
        """The value of each element of ``a``, or None where they are not known to be equal."""
        return a.value if isinstance(a, Literal) else self.uniform.get(a)

    def visit(self, eqn: Equation) -> None:
        value = self.value_of(eqn)
        if value is not None:
            self.constant(eqn, value)
            return
        if isinstance(eqn.primitive, Ufunc) or eqn.primitive is scale:
            eqn = self.with_numbers(eqn)
            if eqn.outputs[0] in self.stands_for:
                return
            same = _unchanged(eqn)
            if same is not None and same.aval == eqn.outputs[0].aval:
                self.replace(eqn, (same,))
                return
        self.keep(eqn)

    def value_of(self, eqn: Equation) -> Any:
        """The one value of the elements of the result, if it is known."""
        elementwise = isinstance(eqn.primitive, Ufunc) or eqn.primitive is scale
        if elementwise and any([self.element(a) is None for a in eqn.inputs]):
            return None
        name = eqn.primitive.name
        if len(eqn.outputs) != 1 or not _is_foldable(eqn.outputs[0].aval):
            return None
        if name == "fill":
            return eqn.outputs[0].aval.dtype.type(eqn.params["value"])
        if name == "eye" and eqn.outputs[0].aval.size == 1:
            return eqn.outputs[0].aval.dtype.type(eqn.params["k"] == 0)
        if name in _SHAPE_ONLY:
            found = self.element(eqn.inputs[0])
            return None if found is None else eqn.outputs[0].aval.dtype.type(found)
        return _computed(eqn, [self.element(a) for a in eqn.inputs]) if elementwise else None

    def constant(self, eqn: Equation, value: Any) -> None:
        """The result is ``value`` throughout."""
        (out,) = eqn.outputs
        if not out.aval.shape:
            self.replace(eqn, (Literal(value),))
            return
        if eqn.primitive is not fill:
            params = {"shape": out.aval.shape, "value": value.item(), "dtype": out.aval.dtype}
            eqn = Equation(fill, (), params, (out,), eqn.position)
        self.keep(eqn)
        self.uniform[out] = value

    def with_numbers(self, eqn: Equation) -> Equation:
        """Operands of equal elements as numbers, where the others have the result's shape."""
        uniform = self.uniform
        if not (uniform and any(isinstance(a, Var) and a in uniform for a in eqn.inputs)):
            return self.plain(eqn)
        shape = eqn.outputs[0].aval.shape
        rest = [a.aval.shape for a in eqn.inputs if self.element(a) is None]
        smaller = np.broadcast_shapes(*rest)
        if math.prod(smaller) != math.prod(shape):
            return eqn
        found = [self.element(a) for a in eqn.inputs]
        inputs = tuple(
            [a if v is None or isinstance(a, Literal) else Literal(v)
             for a, v in zip(eqn.inputs, found, strict=True)]
        )  # fmt: skip
        if smaller == shape:
            made = Equation(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.position)
            return self.plain(made)
        self.reshaped(eqn, inputs, smaller)
        return eqn

    def reshaped(self, eqn: Equation, inputs: tuple[Atom, ...], shape: Shape) -> None:
        """An array of equal elements added nothing to another operand but axes of one element."""
        (out,) = eqn.outputs
        inner = Var(Aval(shape, out.aval.dtype, out.aval.weak))
        self.visit(Equation(eqn.primitive, inputs, eqn.params, (inner,), eqn.position))
        x = self.atom(inner)
        self.replace(
            eqn, (self.emit(lookup("reshape"), (x,), {"shape": out.aval.shape}, eqn.position),)
        )

    def plain(self, eqn: Equation) -> Equation:
        """``scale`` by a number that is neither zero nor infinite nor nan is ``multiply``."""
        if eqn.primitive is not scale:
            return eqn
        numbers = [a.value for a in eqn.inputs if isinstance(a, Literal)]
        if not any(np.isfinite(v) and v != 0 for v in numbers):
            return eqn
        return Equation(multiply, eqn.inputs, {}, eqn.outputs, eqn.position)


def _is_foldable(aval: Aval) -> bool:
    """Whether a scalar of this dtype is a Python number, and back, exactly."""
    return aval.dtype.kind in "biufc" and aval.dtype.itemsize <= 8 * (1 + (aval.dtype.kind == "c"))


def _computed(eqn: Equation, values: list[Any]) -> Any:
    """The value of an elementwise equation of numbers; None where NumPy refuses or differs."""
    try:
        with np.errstate(all="ignore"):
            value = eqn.primitive.impl(*values, **eqn.params)
    except (ArithmeticError, ValueError, TypeError):
        return None
    (out,) = eqn.outputs
    return value if Literal(value).aval == Aval((), out.aval.dtype, out.aval.weak) else None


def _unchanged(eqn: Equation) -> Atom | None:
    """The operand that the result equals to the bit."""
    name = eqn.primitive.name
    if name == "positive":
        return eqn.inputs[0]
    if name not in ("multiply", "divide", "subtract"):
        return None
    x, y = eqn.inputs
    one = 0 if name == "subtract" else 1
    if isinstance(y, Literal) and y.value == one and not np.signbit(np.real(y.value)):
        return x
    if name == "multiply" and isinstance(x, Literal) and x.value == 1:
        return y
    return None
