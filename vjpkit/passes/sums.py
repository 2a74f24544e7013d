"""Sums of large products as products of sums: what is the same for all terms is multiplied once.

The sum over rows of ``x @ w`` is the sum over rows of ``x``, times ``w``; that of ``x * v``, where
``v`` does not vary down the rows, is the sum times ``v``. The large product is not made at all.
"""

from __future__ import annotations

from vjpkit.core.aval import Shape
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.passes.cancelling import LARGE
from vjpkit.passes.common import without_repetition
from vjpkit.passes.dead import without_dead_code
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_products_of_sums"]

_ELEMENTWISE = frozenset({"multiply", "scale", "divide"})


def with_products_of_sums(program: Program) -> Program:
    """Sums of large products as products of sums.

    Law: equal outputs up to rounding, where all *additional* outputs of the new program are finite:
    factors that are not, are not the same for the sum of terms and for each of them.
    """
    sums = [eqn for eqn in program.equations if eqn.primitive.name == "sum"]
    if not any(eqn.inputs[0].aval.size >= LARGE for eqn in sums):
        return program
    walk = _Sums(program)
    for old in program.equations:
        walk.visit(walk.read(old))
    if not walk.assumed:
        return program
    made = walk.finish()
    whole = Program(made.inputs, made.equations, (*made.outputs, *walk.assumed))
    return without_dead_code(without_repetition(whole))


class _Sums(Rewriter):
    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.assumed: dict[Var, None] = {}

    def visit(self, eqn: Equation) -> None:
        if eqn.primitive.name == "sum":
            x, axes = eqn.inputs[0], eqn.params["axes"]
            large = x.aval.size >= LARGE and x.aval.dtype.kind == "f" and axes
            if large and self.is_product(x, axes):
                total = self.total(eqn, x, axes)
                shape = eqn.outputs[0].aval.shape
                if total.aval.shape != shape:
                    total = self.made(eqn, "reshape", total, shape=shape)
                self.replace(eqn, (total,))
                return
        self.keep(eqn)

    def made(self, eqn: Equation, name: str, *inputs: Atom, **params: object) -> Var:
        return self.emit(lookup(name), inputs, params, eqn.position)

    def is_product(self, a: Atom, axes: tuple[int, ...]) -> bool:
        """Whether a value that nothing else reads adds up products with what the terms share."""
        eqn = self.maker(a)
        if eqn is None or self.readers[a] != 1:
            return False
        if any(v.aval.dtype != a.aval.dtype for v in eqn.inputs):
            return False
        name = eqn.primitive.name
        if name in ("add", "subtract"):
            return all(v.aval == a.aval and self.is_product(v, axes) for v in eqn.inputs)
        x, y = _operands(eqn)
        if name in ("matmul", "scale_matmul"):
            return (
                axes == (a.aval.ndim - 2,) and x.aval.ndim == a.aval.ndim >= 2 and y.aval.ndim >= 2
            )
        shared = all(n == 1 for n in _along(y.aval.shape, axes, a.aval.ndim))
        return name in _ELEMENTWISE and x.aval == a.aval and shared and _is_small(y, x)

    def total(self, eqn: Equation, a: Atom, axes: tuple[int, ...]) -> Var:
        """The sum over axes, which stay with one element."""
        minus = self.made_by(a, "negative")
        if minus is not None:
            return self.made(eqn, "negative", self.total(eqn, minus.inputs[0], axes))
        maker = self.maker(a)
        if maker is None or not self.is_product(a, axes):
            return self.made(eqn, "sum", a, axes=axes, keepdims=True)
        name = maker.primitive.name
        if name in ("add", "subtract"):
            return self.made(eqn, name, *[self.total(eqn, v, axes) for v in maker.inputs])
        x, y = _operands(maker)
        if isinstance(y, Var):
            self.assumed[y] = None
        return self.made(eqn, name, self.total(eqn, x, axes), y)


def _operands(eqn: Equation) -> tuple[Atom, ...]:
    """The operands, the larger one of a commutative product first."""
    if eqn.primitive.name in ("multiply", "scale"):
        return tuple(sorted(eqn.inputs, key=lambda v: -v.aval.size))
    return eqn.inputs if len(eqn.inputs) == 2 else (Literal(0.0), Literal(0.0))


def _along(shape: Shape, axes: tuple[int, ...], ndim: int) -> Shape:
    """The lengths of an operand along axes of the result."""
    whole = (1,) * (ndim - len(shape)) + shape
    return tuple([whole[i] for i in axes])


def _is_small(y: Atom, x: Atom) -> bool:
    return isinstance(y, Literal) or y.aval.size * 4 <= x.aval.size
