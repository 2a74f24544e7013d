"""Diagonal matrices: the basis of a dense Jacobian, as its first layers see it.

A Jacobian pushes or pulls all basis vectors at once, the rows of an identity. What elementwise
derivatives make of it is a diagonal matrix still; the first product with a matrix that is not
diagonal is that matrix with its rows or columns scaled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vjpkit.core.aval import Shape
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_diagonals"]


def with_diagonals(program: Program) -> Program:
    """Products with diagonal matrices as scalings by the diagonal.

    A matrix is diagonal where ``eye``, of which only Jacobians are made, and elementwise equations
    say so. Law: equal outputs, up to rounding and signs of zeros; a zero beside the diagonal wins
    over inf and nan in a product of matrices, as it does in ``scale``.
    """
    if not any(eqn.primitive.name == "eye" for eqn in program.equations):
        return program
    walk = _Diagonals(program)
    for old in program.equations:
        walk.visit(walk.read(old))
    return walk.finish()


class _Diagonals(Rewriter):
    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.diagonals: dict[Var, Var | None] = {}
        """The vector on the diagonal of a matrix; None for ones."""

    def visit(self, eqn: Equation) -> None:
        if len(eqn.outputs) == 1:
            rule = _RULES.get(eqn.primitive.name)
            found = rule(self, eqn) if rule is not None else None
            if found is not None:
                self.replace(eqn, (found,))
                return
        self.keep(eqn)

    def is_diagonal(self, a: Atom) -> bool:
        return isinstance(a, Var) and a in self.diagonals

    def know(self, eqn: Equation, vector: Var | None) -> None:
        """The result of an equation, which stays for those that read it as a matrix."""
        self.diagonals[eqn.outputs[0]] = vector

    def made(self, eqn: Equation, name: str, *inputs: Atom, **params: object) -> Var:
        return self.emit(lookup(name), inputs, params, eqn.position)

    def shaped(self, eqn: Equation, a: Atom, shape: Shape) -> Atom:
        return a if a.aval.shape == shape else self.made(eqn, "reshape", a, shape=shape)

    def vector(self, eqn: Equation, a: Atom) -> Var:
        """The diagonal of a diagonal matrix as a variable."""
        assert isinstance(a, Var)
        found = self.diagonals[a]
        if found is None:
            n, _ = _long(a.aval.shape)
            found = self.made(eqn, "fill", shape=(n,), value=1, dtype=a.aval.dtype)
        return found

    # ---- rules: what stands for the result; what is diagonal -------------------------------------

    def eye(self, eqn: Equation) -> None:
        rows, columns = eqn.params["shape"]
        if rows == columns > 1 and eqn.params["k"] == 0:
            self.know(eqn, None)

    def same(self, eqn: Equation) -> None:
        """Other axes of one element, the other matrix axis first: the same diagonal."""
        (x,), (out,) = eqn.inputs, eqn.outputs
        if isinstance(x, Var) and x in self.diagonals and _is_square(out.aval.shape):
            self.know(eqn, self.diagonals[x])

    def negative(self, eqn: Equation) -> None:
        (x,) = eqn.inputs
        if self.is_diagonal(x):
            self.know(eqn, self.made(eqn, "negative", self.vector(eqn, x)))

    def add(self, eqn: Equation) -> None:
        """The sum or difference of two diagonal matrices."""
        x, y = eqn.inputs
        if self.is_diagonal(x) and self.is_diagonal(y) and x.aval == y.aval:
            pair = self.vector(eqn, x), self.vector(eqn, y)
            self.know(eqn, self.made(eqn, eqn.primitive.name, *pair))

    def product(self, eqn: Equation) -> None:
        """A diagonal matrix whose rows or columns are scaled."""
        x, y = eqn.inputs
        if self.is_diagonal(y):
            x, y = y, x
        (out,) = eqn.outputs
        if not self.is_diagonal(x) or self.is_diagonal(y) or x.aval != out.aval:
            return
        if y.aval.dtype != out.aval.dtype and not y.aval.weak:
            return
        n, _ = _long(out.aval.shape)
        if y.aval.size not in (1, n) or _is_square(y.aval.shape):
            return
        number = isinstance(y, Literal) or not y.aval.shape  # a weak one stays weak
        factor = y if number else self.shaped(eqn, y, (n,) if y.aval.size == n else (1,))
        assert isinstance(x, Var)
        if self.diagonals[x] is None and y.aval.size == n and isinstance(factor, Var):
            self.know(eqn, factor)
        else:
            self.know(eqn, self.made(eqn, eqn.primitive.name, self.vector(eqn, x), factor))

    def quotient(self, eqn: Equation) -> None:
        """A diagonal matrix over a number other than zero."""
        x, y = eqn.inputs
        tame = isinstance(y, Literal) and np.isfinite(y.value) and y.value != 0
        if tame and self.is_diagonal(x) and x.aval == eqn.outputs[0].aval:
            self.know(eqn, self.made(eqn, "divide", self.vector(eqn, x), y))

    def sum(self, eqn: Equation) -> Atom | None:
        """Down the rows or along them: the diagonal."""
        (x,), (out,) = eqn.inputs, eqn.outputs
        if (
            not self.is_diagonal(x)
            or [n for n in out.aval.shape if n != 1] != _long(x.aval.shape)[:1]
        ):
            return None
        return self.shaped(eqn, self.vector(eqn, x), out.aval.shape)

    def matmul(self, eqn: Equation) -> Atom | None:
        """A matrix with its rows, or its columns, scaled."""
        x, y = eqn.inputs
        (out,) = eqn.outputs
        each = "multiply" if eqn.primitive.name == "matmul" else "scale"
        if x.aval.dtype != y.aval.dtype:
            return None
        if self.is_diagonal(x) and y.aval.ndim <= 2 and x.aval.shape[-1] != 1:
            assert isinstance(x, Var)
            vector = self.diagonals[x]
            if vector is not None:
                vector_of = self.shaped(eqn, vector, (*vector.aval.shape, *[1] * (y.aval.ndim - 1)))
                y = self.made(eqn, each, vector_of, y)
            return self.shaped(eqn, y, out.aval.shape)
        if self.is_diagonal(y) and y.aval.ndim == 2:
            assert isinstance(y, Var)
            vector = self.diagonals[y]
            return x if vector is None else self.made(eqn, each, x, vector)
        return None


_RULES: dict[str, Callable[[_Diagonals, Equation], Atom | None]] = {
    "eye": _Diagonals.eye,
    "reshape": _Diagonals.same,
    "transpose": _Diagonals.same,
    "negative": _Diagonals.negative,
    "add": _Diagonals.add,
    "subtract": _Diagonals.add,
    "multiply": _Diagonals.product,
    "scale": _Diagonals.product,
    "divide": _Diagonals.quotient,
    "sum": _Diagonals.sum,
    "matmul": _Diagonals.matmul,
    "scale_matmul": _Diagonals.matmul,
}
"""By the primitive: what stands for the result of an equation, if anything."""


def _long(shape: Shape) -> list[int]:
    """The axes of other than one element."""
    return [n for n in shape if n != 1]


def _is_square(shape: Shape) -> bool:
    rows, *rest = _long(shape) or [0]
    return rest == [rows]
