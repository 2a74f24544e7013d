"""What derivatives say with the bits of eager mode, in words that other passes know better."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.primitive import lookup
from vjpkit.ops.index import Index
from vjpkit.ops.indexing import WHOLE
from vjpkit.passes.rewriting import Rewriter

__all__ = ["loosened"]


def loosened(program: Program) -> Program:
    """``scale_divide`` as `scale` by an inverse, which may be shared and computed outside of loops;
    parts and wholes that are added up in their order as a sum of the parts and one of the wholes.

    In the programs of equations, too. Law: equal outputs, up to rounding.
    """
    return program.cached("loosened", lambda: _loosened(program))  # type: ignore[no-any-return]  # the cache is untyped


def _loosened(program: Program) -> Program:
    equations = program.equations
    ordered = any(map(_adds_to_whole, equations))
    if not ordered and not any(
        e.primitive.name == "scale_divide" or next(e.programs, None) for e in equations
    ):
        return program
    new = Rewriter(program)
    sums = _Sums(new)
    for old in equations:
        eqn = new.read(old)
        if ordered and sums.take(eqn):
            continue
        sums.write(used(eqn.inputs))
        found = _by_inverse(new, eqn) if eqn.primitive.name == "scale_divide" else None
        if found is not None:
            new.replace(eqn, (found,))
            continue
        params = {name: _inside(value) for name, value in eqn.params.items()}
        if any(params[name] is not value for name, value in eqn.params.items()):
            eqn = Equation(eqn.primitive, eqn.inputs, params, eqn.outputs, eqn.position)
        new.keep(eqn)
    sums.write(used(map(new.atom, program.outputs)))
    same = len(new.equations) == len(equations)
    return program if same and all(map(operator.is_, new.equations, equations)) else new.finish()


def _adds_to_whole(eqn: Equation) -> bool:
    """Whether an equation adds parts to a whole that comes first."""
    if eqn.primitive.name != "scatter_sum" or not eqn.outputs[0].aval.shape:
        return False
    indices = eqn.params["indices"]
    return len(indices) > 1 and bool(indices[0] == WHOLE)


@dataclass
class _Sum:
    """A sum that is not written yet: what is added at places, and a whole."""

    first: Equation
    indices: list[Index] = field(default_factory=list)
    arrays: list[Atom] = field(default_factory=list)
    values: list[Atom] = field(default_factory=list)
    whole: Atom | None = None

    def add(self, eqn: Equation) -> None:
        """What a ``scatter_sum`` adds at places."""
        indices = eqn.params["indices"]
        count = len(eqn.inputs) - len(indices)
        own = count + _adds_to_whole(eqn)
        self.arrays += eqn.inputs[:count]
        self.indices += indices[own - count :]
        self.values += eqn.inputs[own:]


class _Sums:
    """Sums of parts and wholes, written when something else reads them."""

    def __init__(self, new: Rewriter) -> None:
        self.new = new
        self.open: dict[Atom, _Sum] = {}

    def take(self, eqn: Equation) -> bool:
        """Whether an equation only adds to a sum."""
        if eqn.primitive.name not in ("scatter_sum", "add"):
            return False
        (out,) = eqn.outputs
        if eqn.primitive.name == "scatter_sum" and out.aval.shape:
            count = len(eqn.inputs) - len(eqn.params["indices"])
            whole = eqn.inputs[count] if _adds_to_whole(eqn) else None
            if whole is not None and whole.aval != out.aval:
                return False
            self.write([a for a in used(eqn.inputs) if a is not whole])
            found = self._continued(whole) or _Sum(eqn, whole=whole)
            found.add(eqn)
        elif eqn.primitive.name == "add" and not self.open.keys().isdisjoint(eqn.inputs):
            x, y = eqn.inputs if eqn.inputs[0] in self.open else eqn.inputs[::-1]
            if x is y or y in self.open or not out.aval == x.aval == y.aval:
                return False
            continued = self._continued(x)
            if continued is None:
                return False
            found = continued
            whole = found.whole
            found.whole = y if whole is None else _made(self.new, eqn, "add", whole, y)
        else:
            return False
        self.open[out] = found
        return True

    def _continued(self, x: Atom | None) -> _Sum | None:
        """The open sum ``x``, which nothing else reads; else it is written."""
        if x is None or x not in self.open:
            return None
        if self.new.readers[x] == 1:
            return self.open.pop(x)
        self.write([x])
        return None

    def write(self, atoms: Iterable[Atom]) -> None:
        for v in atoms:
            if v in self.open:
                self._written(v, self.open.pop(v))

    def _written(self, v: Atom, total: _Sum) -> None:
        assert isinstance(v, Var)
        eqn = total.first
        params = {**eqn.params, "indices": tuple(total.indices)}
        inputs = (*total.arrays, *total.values)
        if total.whole is None:
            same = inputs == eqn.inputs and v is eqn.outputs[0]
            made = Equation(eqn.primitive, inputs, params, (v,), eqn.position)
            self.new.keep(eqn if same else made)
            return
        parts = _made(self.new, eqn, "scatter_sum", *inputs, **params)
        both = parts, total.whole
        self.new.keep(Equation(lookup("add"), both, {}, (v,), eqn.position))


def _inside(value: Any) -> Any:
    """A parameter with the programs that it holds loosened; itself where nothing changes."""
    if isinstance(value, Program):
        return loosened(value)
    if not isinstance(value, tuple) or not any(isinstance(x, Program) for x in value):
        return value
    made = tuple(map(_inside, value))
    return value if all(map(lambda a, b: a is b, made, value)) else made


def _made(new: Rewriter, eqn: Equation, name: str, *inputs: Atom, **params: Any) -> Var:
    """The result of a new equation, of the line that asked for ``eqn``."""
    primitive = lookup(name)
    out = Var(primitive.abstract(*[a.aval for a in inputs], **params))
    new.keep(Equation(primitive, inputs, params, (out,), eqn.position))
    return out


def _by_inverse(new: Rewriter, eqn: Equation) -> Atom:
    t, y = eqn.inputs
    if isinstance(y, Literal) and y.value:
        return _made(new, eqn, "divide", t, y)
    if isinstance(y, Literal):
        with np.errstate(all="ignore"):
            return _made(new, eqn, "scale", t, Literal(np.divide(1, y.value)))
    dtype = eqn.outputs[0].aval.dtype
    if y.aval.weak or y.aval.dtype != dtype:
        y = _made(new, eqn, "convert", y, dtype=dtype)
    return _made(new, eqn, "scale", t, _made(new, eqn, "divide", Literal(1), y))
