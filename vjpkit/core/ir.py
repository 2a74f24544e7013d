"""The IR: a `Program` is inputs, equations, outputs; it holds no values.

Captured values are leading inputs, so that a program can be transposed, composed, compiled,
printed and pickled by itself. The trailing ``linear`` inputs are those it is linear in (a tangent
or a cotangent program); `check` verifies that from the primitives' declarations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotLinearError, Position, Source, at

if TYPE_CHECKING:
    from vjpkit.core.primitive import Primitive

__all__ = ["Atom", "Equation", "Literal", "Program", "Var", "check", "nonlinear_equation", "used"]


class Var:
    """A name for one value of a program; compared by identity."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var({self.aval})"


class Literal:
    """A scalar constant: a Python number (weak) or a NumPy scalar."""

    __slots__ = ("aval", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.aval = aval_of(value)

    def __repr__(self) -> str:
        return f"Literal({self.value!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[type, str]:
        return type(self.value), repr(self.value)  # repr tells -0.0 from 0.0 and equals nan to nan


Atom = Var | Literal


class Equation:
    """``outputs = primitive[params] inputs``, with the user's line that asked for it."""

    __slots__ = ("inputs", "outputs", "params", "position", "primitive")

    def __init__(
        self,
        primitive: Primitive,
        inputs: tuple[Atom, ...],
        params: Mapping[str, Any],
        outputs: tuple[Var, ...],
        position: Position | Source | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.outputs = outputs
        self.position = position

    @property
    def source(self) -> Source | None:
        """The user's line, decoded when asked."""
        position = self.position
        return Source.of(position) if isinstance(position, tuple) else position

    def __repr__(self) -> str:
        return f"<{self.primitive.name} {[v.aval for v in self.inputs]}>"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = self.primitive, self.inputs, dict(self.params), self.outputs, self.source
        return Equation, fields


class Program:
    """Inputs, equations, outputs. ``linear`` counts the trailing inputs it is linear in.

    Programs are values: they compare by structure (names and source lines aside), print as text
    that `parse` reads back, pickle, and are evaluated by `eval`.
    """

    __slots__ = ("_cache", "equations", "inputs", "linear", "outputs")

    def __init__(
        self,
        inputs: Iterable[Var],
        equations: Iterable[Equation],
        outputs: Iterable[Atom],
        linear: int = 0,
    ) -> None:
        self.inputs = tuple(inputs)
        self.equations = tuple(equations)
        self.outputs = tuple(outputs)
        self.linear = linear
        self._cache: dict[Any, Any] = {}

    def cached(self, key: Any, make: Any) -> Any:
        """``make()``, kept with the program: whatever is derived from it and from nothing else."""
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = make()
        return found

    @property
    def in_avals(self) -> tuple[Aval, ...]:
        return tuple(v.aval for v in self.inputs)

    @property
    def out_avals(self) -> tuple[Aval, ...]:
        return tuple(v.aval for v in self.outputs)

    def eval(self, *values: Value) -> tuple[Value, ...]:
        """Run the program; tracers among ``values`` are traced through it."""
        from vjpkit.core.evaluate import evaluate

        if len(values) != len(self.inputs):
            raise TypeError(
                f"Program.eval: got {len(values)} values for {len(self.inputs)} inputs "
                f"({', '.join(map(repr, self.in_avals))})"
            )
        return evaluate(self, values)

    def key(self) -> tuple[Any, ...]:
        """A hashable value that two programs share exactly when they have the same structure."""
        return self.cached("key", self._key)  # type: ignore[no-any-return]  # the cache is untyped

    def _key(self) -> tuple[Any, ...]:
        number: dict[Var, int] = {}

        def define(v: Var) -> tuple[int, Aval]:
            return number.setdefault(v, len(number)), v.aval

        def use(a: Atom) -> Any:
            return number[a] if isinstance(a, Var) else a

        inputs = tuple(define(v) for v in self.inputs)
        equations = tuple(
            (
                e.primitive,
                tuple(map(use, e.inputs)),
                params_key(e.params),
                tuple(map(define, e.outputs)),
            )
            for e in self.equations
        )
        return inputs, equations, tuple(map(use, self.outputs)), self.linear

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return self is other or self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __str__(self) -> str:
        from vjpkit.core.text import to_text

        return to_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from vjpkit.core.text import to_html

        return to_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.inputs, self.equations, self.outputs, self.linear)


def params_key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Parameters as a hashable value."""
    return tuple(sorted(params.items())) if params else ()


def used(inputs: Iterable[Atom]) -> Iterator[Var]:
    """The variables among atoms."""
    return (a for a in inputs if isinstance(a, Var))


def live_equations(
    equations: Iterable[Equation], outputs: Iterable[Atom]
) -> tuple[list[Equation], set[Var]]:
    """The equations that ``outputs`` depend on, in order, and the variables these read."""
    live = set(used(outputs))
    kept = []
    for eqn in reversed(list(equations)):
        if not live.isdisjoint(eqn.outputs):
            kept.append(eqn)
            live.update(used(eqn.inputs))
    kept.reverse()
    return kept, live


def nonlinear_equation(program: Program) -> Equation | Var | None:
    """The first equation that is not linear in the linear inputs (or an output that ignores them)."""
    tainted = set(program.inputs[len(program.inputs) - program.linear :])
    for eqn in program.equations:
        mask = tuple(isinstance(a, Var) and a in tainted for a in eqn.inputs)
        if any(mask):
            if not eqn.primitive.linear_in(mask, eqn.params):
                return eqn
            tainted.update(eqn.outputs)
    return None


def check(program: Program) -> None:
    """Raise unless ``program`` is well formed: names, avals and linearity.

    Every variable is defined once and before its use; every equation's outputs have the avals
    that its primitive infers; the program is linear in its last ``linear`` inputs.
    """
    defined: set[Var] = set()

    def define(v: Var) -> None:
        assert v not in defined, f"{v!r} is defined twice"
        defined.add(v)

    def use(a: Atom) -> Aval:
        assert isinstance(a, Literal) or a in defined, f"{a!r} is used before its definition"
        return a.aval

    for v in program.inputs:
        define(v)
    for eqn in program.equations:
        avals = [use(a) for a in eqn.inputs]
        inferred = eqn.primitive.unpack(eqn.primitive.abstract(*avals, **eqn.params))
        stated = tuple(v.aval for v in eqn.outputs)
        assert tuple(inferred) == stated, f"{eqn!r}: inferred {inferred}, stated {stated}"
        for v in eqn.outputs:
            define(v)
    for a in program.outputs:
        use(a)
    assert 0 <= program.linear <= len(program.inputs)
    if program.linear:
        offender = nonlinear_equation(program)
        if isinstance(offender, Equation):
            position = offender.position if isinstance(offender.position, tuple) else (None, -1)
            raise NotLinearError(f"{offender!r} is not linear{at(position)}")


def is_scalar_constant(x: Value) -> bool:
    """Whether ``x`` is written into equations as a `Literal` rather than captured."""
    return isinstance(x, bool | int | float | complex | np.generic)
