"""The IR: a `Program` is inputs, equations, outputs; it holds no values.

Captured values are leading inputs, so that a program can be transposed, composed, compiled,
printed and pickled by itself. The trailing ``linear`` inputs are those it is linear in (a tangent
or a cotangent program); `check` verifies that from the primitives' declarations. Its text is
described in `vjpkit.core.text`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of, dtype_name
from vjpkit.core.errors import NotLinearError, Position, Source

if TYPE_CHECKING:
    from vjpkit.core.primitive import Primitive

__all__ = [
    "Atom",
    "Equation",
    "Literal",
    "Program",
    "Var",
    "check",
    "linear_variables",
    "live_equations",
    "nonlinear_equation",
    "params_key",
    "scalar_text",
    "subprograms",
    "used",
]


class Var:
    """A name for one value of a program; compared by identity."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var({self.aval})"


class Literal:
    """A scalar constant: a Python number (weak) or a NumPy scalar.

    Compared by its text, which tells 0.0 from -0.0 and 1 from True, and equals nan to nan.

    >>> Literal(2.0), Literal(np.float32(0.1)), Literal(np.complex64(1 - 2j))
    (2.0, f32(0.1), c64(1-2j))
    """

    __slots__ = ("aval", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.aval = aval_of(value)

    def __repr__(self) -> str:
        return scalar_text(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return False
        x, y = self.value, other.value
        likely = type(x) is not type(y) or bool(x == y or x != x)
        return x is y or (likely and repr(self) == repr(other))

    def __hash__(self) -> int:
        return hash(self.value) if self.value == self.value else 0


def scalar_text(x: Any) -> str:
    """The exact text of a scalar: a Python number's repr, ``dtype(value)`` of a NumPy scalar."""
    if not isinstance(x, np.generic):
        return repr(x)
    if x.dtype.kind == "c":
        real, imag = _shortest(x.real, "-"), _shortest(x.imag, "-")
        text = f"{real}{'' if imag[0] == '-' else '+'}{imag}j"
    else:
        text = _shortest(x, "0") if x.dtype.kind == "f" else str(x)
    return f"{dtype_name(x.dtype)}({text})"


def _shortest(x: Any, trim: Any) -> str:
    """The shortest decimal that reads back as ``x``, whatever NumPy's print options are."""
    if x == 0 or 1e-4 <= abs(float(x)) < 1e16:
        text = np.format_float_positional(x, trim=trim)
    else:
        text = np.format_float_scientific(x, trim="-")
    return text if type(x)(text) == x else repr(float(x))  # read through float64: rounded twice


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
        return Source.of(self.position) if isinstance(self.position, tuple) else self.position

    @property
    def programs(self) -> Iterator[Program]:
        """The programs among its parameters."""
        for value in self.params.values():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Program):
                    yield part

    @property
    def effect(self) -> bool:
        """Whether it does more than compute, itself or in the programs that it runs."""
        primitive = self.primitive
        return primitive.effect or (
            primitive.multi and any(e.effect for p in self.programs for e in p.equations)
        )

    def __repr__(self) -> str:
        words = [repr(a.aval if isinstance(a, Var) else a) for a in self.inputs]
        outputs = ", ".join(repr(v.aval) for v in self.outputs)
        return f"<{' '.join([self.primitive.name, *words])} -> {outputs}>"

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
        from vjpkit.core.tracer import operand

        if len(values) != len(self.inputs):
            raise TypeError(
                f"Program.eval: got {len(values)} values for {len(self.inputs)} inputs "
                f"({', '.join(map(repr, self.in_avals))})"
            )
        checked = [operand(x) for x in values]
        for i, (x, wanted) in enumerate(zip(checked, self.in_avals, strict=True)):
            came = aval_of(x)
            weak = came.weak and came.shape == wanted.shape  # a Python number fits any scalar
            if not weak and came.strong() != wanted.strong():
                raise ValueError(
                    f"Program.eval: input {i} is {came}, but the program was made for {wanted}.\n"
                    "Make one for arguments like these with make_ir."
                )
        return evaluate(self, checked)

    def key(self) -> tuple[Any, ...]:
        """A hashable value that two programs share exactly when they have the same structure."""
        return self.cached("key", self._key)  # type: ignore[no-any-return]  # the cache is untyped

    def _key(self) -> tuple[Any, ...]:
        number: dict[Var, int] = {}

        def define(v: Var) -> tuple[int, Aval]:
            return number.setdefault(v, len(number)), v.aval

        def use(a: Atom) -> Any:
            return number.get(a, a) if isinstance(a, Var) else a

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
        key = self.key()
        if key is not other.key() and key == other.key():
            other._cache["key"] = key  # shared from now on, so that nested programs compare once
        return key is other.key()

    def __hash__(self) -> int:
        return self.cached("hash", lambda: hash(self.key()))  # type: ignore[no-any-return]  # as above

    def __repr__(self) -> str:
        from vjpkit.core.text import to_text

        return to_text(self)

    def pretty(self, color: bool | None = None) -> str:
        """The text with the user's lines, in colour by default if standard output is a terminal."""
        from vjpkit.core.text import to_text

        return to_text(self, source=True, color=sys.stdout.isatty() if color is None else color)

    def _repr_html_(self) -> str:
        from vjpkit.core.text import to_html

        return to_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.inputs, self.equations, self.outputs, self.linear)


def params_key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Parameters as a hashable value that tells 0.0 from -0.0 and 1 from True; nan equals nan."""
    return tuple([(name, _exact(params[name])) for name in sorted(params)])


def _exact(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_exact, value))
    return Literal(value) if isinstance(value, bool | float | complex | np.generic) else value


def subprograms(program: Program) -> Iterator[Program]:
    """The programs among the parameters of the equations, as often as they occur."""
    return (inner for eqn in program.equations for inner in eqn.programs)


def used(inputs: Iterable[Atom]) -> Iterator[Var]:
    """The variables among atoms."""
    return (a for a in inputs if isinstance(a, Var))


def live_equations(
    equations: Iterable[Equation], outputs: Iterable[Atom], effects: bool = False
) -> tuple[list[Equation], set[Var]]:
    """The equations that ``outputs`` depend on, in order, and the variables these read.

    With ``effects`` those that do more than compute are kept too.
    """
    live = set(used(outputs))
    kept = []
    for eqn in reversed(list(equations)):
        if not live.isdisjoint(eqn.outputs) or (effects and eqn.effect):
            kept.append(eqn)
            for a in eqn.inputs:
                if type(a) is Var:
                    live.add(a)
    kept.reverse()
    return kept, live


Offender = Equation | Atom | None


def nonlinear_equation(program: Program, zeros: Iterable[Var] = ()) -> Offender:
    """The first equation not linear in the linear inputs, or first output neither linear nor 0.

    ``zeros`` are inputs that are known to be 0.
    """
    return _linearity(program, zeros)[1]


def linear_variables(program: Program) -> set[Var]:
    """The linear inputs and what is computed from them."""
    return _linearity(program)[0]


def _linearity(program: Program, given: Iterable[Var] = ()) -> tuple[set[Var], Offender]:
    """Variables that depend on the linear inputs, and what first breaks linearity.

    Zeros are linear in anything. They are literals, and whatever is linear in zeros; a primitive
    without operands that is "linear in none of them" (`linear_in` of an empty mask) makes zeros.
    """
    linear = set(program.inputs[len(program.inputs) - program.linear :])
    if not linear:
        return linear, None
    zeros = set(given)

    def is_zero(a: Atom) -> bool:
        return a in zeros if isinstance(a, Var) else a.aval.dtype.kind != "b" and a.value == 0

    for eqn in program.equations:
        mask = tuple([isinstance(a, Var) and a in linear for a in eqn.inputs])
        zero = tuple(map(is_zero, eqn.inputs))
        if any(mask):
            if not eqn.primitive.linear_with(mask, zero, eqn.params):
                return linear, eqn
            linear.update(eqn.outputs)
        elif (any(zero) or not zero) and eqn.primitive.linear_in(zero, eqn.params):
            zeros.update(eqn.outputs)
    return linear, next((a for a in program.outputs if a not in linear and not is_zero(a)), None)


def check(program: Program) -> None:
    """Raise unless ``program`` and the programs in it are well formed: names, avals and linearity.

    Every variable is defined once and before its use; every equation's outputs have the avals
    that its primitive infers; the program is linear in its last ``linear`` inputs.
    """
    pending, seen = [program], {program}
    while pending:
        one = pending.pop()
        _check_one(one)
        new = set(subprograms(one)) - seen
        seen |= new
        pending += new


def _check_one(program: Program) -> None:
    defined: set[Var] = set()

    def define(v: Var) -> None:
        assert v not in defined, f"{v!r} is defined twice"
        defined.add(v)

    def use(a: Atom, where: str) -> Aval:
        assert isinstance(a, Literal) or a in defined, (
            f"{a!r} is used before its definition in {where}"
        )
        return a.aval

    for v in program.inputs:
        define(v)
    for eqn in program.equations:
        avals = [use(a, repr(eqn)) for a in eqn.inputs]
        inferred = eqn.primitive.unpack(eqn.primitive.abstract(*avals, **eqn.params))
        stated = tuple(v.aval for v in eqn.outputs)
        assert tuple(inferred) == stated, f"{eqn!r}: inferred {inferred}, stated {stated}"
        for v in eqn.outputs:
            define(v)
    for a in program.outputs:
        use(a, "the outputs")
    count = len(program.inputs)
    assert 0 <= program.linear <= count, f"{program.linear} of {count} inputs cannot be linear"
    offender = nonlinear_equation(program) if program.linear else None
    if isinstance(offender, Equation):
        where = "" if offender.source is None else f"   ({offender.source})"
        raise NotLinearError(f"{offender!r} is not linear in the linear inputs{where}")
    if offender is not None:
        raise NotLinearError(
            f"the output {offender!r} does not depend on the linear inputs, and is not 0"
        )


def is_scalar_constant(x: Value) -> bool:
    """Whether ``x`` is written into equations as a `Literal` rather than captured."""
    return isinstance(x, bool | int | float | complex | np.generic)
