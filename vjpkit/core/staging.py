"""Staging: running a function on abstract values writes it down as a `Program`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import (
    ClosedTraceError,
    Position,
    Source,
    TracerConversionError,
    at,
    calling_position,
)
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, is_scalar_constant, live_equations
from vjpkit.core.rows import (
    COPY_LIMIT,
    Cotangents,
    Eager,
    Guard,
    Row,
    Rows,
    add_cotangent,
    innermost,
    new_slots,
    roles,
    settled,
    wanted_slots,
)
from vjpkit.core.tracer import LEVELS, Tracer, named_info, refresh, require_open

__all__ = ["Builder", "Captured", "ClosedProgram", "Staged", "stage", "transpose_into"]


class Staged(Tracer):
    """An abstract value: a variable of the program being built."""

    __slots__ = ()
    variable = named_info()

    def __init__(self, trace: Builder, var: Var) -> None:
        self.owner = trace
        self.variable = var

    @property
    def aval(self) -> Aval:
        aval: Aval = self.variable.aval
        return aval

    def concrete(self) -> NoReturn:
        origin = self.owner.origin(self.variable)
        raise TracerConversionError(
            f"the value of {self.aval} is not known while the function is being staged, so it "
            "cannot decide Python control flow or become a Python number."
            f"{at(calling_position())}\nThe value comes from {origin}. Use np.where, vk.lax.cond "
            "or vk.lax.while_loop for a choice that depends on it, or make the argument that "
            "decides static; to write it into an array, start the array with vnp.zeros(...) or "
            "np.zeros_like(x) inside; vk.debug.print shows it when it is there."
        )

    __float__ = __complex__ = concrete

    def __index__(self) -> int:
        return self.concrete() if self.dtype.kind in "iu" else super().__index__()

    def __repr__(self) -> str:
        return f"Traced<{self.aval}>"


class Captured(NamedTuple):
    """A value that a program takes as a leading input, and where it was captured."""

    value: Value
    position: Position | Source | None
    name: str = ""
    guard: Guard | None = None

    def is_outdated(self, x: Value) -> bool:
        """Whether ``x``, of which this is a copy, has been written to since."""
        mine = self.value
        return isinstance(x, np.ndarray) and mine is not x and mine.tobytes() != x.tobytes()

    @property
    def source(self) -> Source | None:
        """The user's line, decoded when asked."""
        return Source.of(self.position) if isinstance(self.position, tuple) else self.position

    def __reduce__(self) -> Any:
        return Captured, (self.value, self.source, self.name)


class Builder:
    """The trace of staging: writes equations, captures values from outside by identity."""

    __slots__ = (
        "append", "captured", "closed", "dirty", "equations", "here", "inputs", "inside", "kept",
        "level", "standard",
    )  # fmt: skip

    def __init__(self) -> None:
        self.level = next(LEVELS)
        self.equations: list[Equation] = []
        self.append: Callable[[Equation], None] = self.equations.append
        self.captured: dict[Any, tuple[Var, Captured]] = {}
        self.kept: list[Value] = []
        self.inputs: list[Var] = []
        self.closed = self.dirty = self.standard = False
        self.inside: Any = None
        self.here: Position | None = None  # the row being staged, whose line its equations carry

    def argument(self, aval: Aval) -> Staged:
        """A new input of the program."""
        var = Var(aval)
        self.inputs.append(var)
        return Staged(self, var)

    def atom(self, x: Value, name: str = "") -> Atom:
        """The variable or literal that stands for ``x``."""
        if isinstance(x, Tracer) and x.owner.dirty:
            x = refresh(x)
            x = x.value if x.owner.level == 0 else x
        if type(x) is Staged and x.owner is self:
            variable: Var = x.variable
            return variable
        if is_scalar_constant(x):
            return Literal(x)
        key = identity(x)
        found = self.captured.get(key)
        if found is not None and found[1].is_outdated(x):
            self.captured[id(found[1])] = found
            found = None
        if found is None:
            found = self.captured[key] = self.capture(x, name)
        return found[0]

    def capture(self, x: Value, name: str) -> tuple[Var, Captured]:
        """A variable for a value from outside: small arrays are copied, large ones guarded."""
        position = self.here or calling_position()
        self.kept.append(x)  # so that no other value gets its id
        if isinstance(x, Tracer):  # a handle may be written to later
            return Var(aval_of(x)), Captured(roles["snapshot"](x), position, name)
        if not isinstance(x, np.ndarray):
            return Var(aval_of(x)), Captured(x, position, name)
        aval = aval_of(x).strong()
        if x.nbytes <= COPY_LIMIT:
            return Var(aval), Captured(x.copy("K"), position, name)
        return Var(aval), Captured(x, position, name, Guard(x, position))

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        xs, params = primitive.canonical(xs, params)
        inputs = tuple([self.atom(x, f"{primitive.name}.{i}") for i, x in enumerate(xs)])
        position = self.here or calling_position()
        abstract = primitive.abstract(*[a.aval for a in inputs], **params)
        outputs = tuple([Var(aval) for aval in primitive.unpack(abstract)])
        self.append(Equation(primitive, inputs, params, outputs, position))
        return primitive.pack(tuple([Staged(self, v) for v in outputs]))

    def origin(self, var: Var) -> str:
        """Where a variable comes from, in words."""
        for i, v in enumerate(self.inputs):
            if v is var:
                return f"argument {i} of the staged function"
        for eqn in self.equations:
            if var in eqn.outputs:
                return f"{eqn.primitive.name}{'' if eqn.source is None else f' ({eqn.source})'}"
        return "outside"

    def close(self) -> None:
        """End the trace: its tracers raise from now on."""

        def append(_: Equation) -> None:
            raise ClosedTraceError(
                "an abstract value was used after its function had been staged"
                f"{at(calling_position())}\nReturn values from the function instead of storing "
                "them."
            )

        self.append, self.closed = append, True

    def finish(
        self, outputs: Iterable[Value], linear: int = 0, effects: bool = True
    ) -> ClosedProgram:
        """End the trace: the program of what ``outputs`` depend on, and the values it captured.

        A transpose runs nothing for its effects: what reads a dummy tangent would be among it.
        """
        outs = [self.atom(require_open(y)) for y in outputs]
        equations, live = live_equations(self.equations, outs, effects)
        self.close()
        kept = [(v, c) for v, c in self.captured.values() if v in live]
        inputs = [v for v, _ in kept] + self.inputs
        return ClosedProgram(Program(inputs, equations, outs, linear), tuple(c for _, c in kept))


def identity(x: Value) -> Any:
    """What tells a captured value from others; that of a handle changes when it is written to."""
    if not isinstance(x, Tracer):
        return id(x)
    return id(x), *[id(getattr(x, name, None)) for name in ("value", "info")]


@dataclass(frozen=True)
class ClosedProgram:
    """A program and the values of its leading inputs.

    Prints as the program; called with the remaining inputs it evaluates.
    """

    program: Program
    captured: tuple[Captured, ...] = ()

    @property
    def consts(self) -> tuple[Value, ...]:
        """Values of the leading inputs; raises where one was changed in place since."""
        for c in self.captured:
            if c.guard is not None:
                c.guard.check()
        return tuple([c.value for c in self.captured])

    def captured_names(self) -> tuple[tuple[str, Source | None], ...]:
        """Name and source line of each captured value: hashable, without the values."""
        return tuple([(c.name, c.source) for c in self.captured])

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        return self.program.eval(*self.consts, *values)

    def __repr__(self) -> str:
        return str(self.program)

    def _repr_html_(self) -> str:
        return self.program._repr_html_()


def stage(
    f: Callable[..., Iterable[Value]], avals: Iterable[Aval], linear: int = 0
) -> ClosedProgram:
    """The program of ``f`` (arrays to a sequence of arrays) at inputs of the given avals."""
    builder = Builder()
    return builder.finish(f(*[builder.argument(aval) for aval in avals]), linear)


# -------------------------------------------------------------------------------------- transposing


def transpose_into(
    builder: Builder,
    push: Callable[..., Sequence[Value]],
    avals: Sequence[Aval],
    cts: Sequence[Value | None],
) -> list[Value | None]:
    """Pull ``cts`` back through ``push``, recorded over dummy tangents of ``builder``.

    This is all there is to transposition: the rows of a linear function, walked backwards, do not
    depend on the tangents. A dummy that is left in the result would be an unbound variable;
    `unbound` finds it.
    """
    trace = Rows("transposition")
    count = len(builder.inputs)
    dummies = [builder.argument(aval) for aval in avals]
    del builder.inputs[count:]
    outs = push(*[trace.argument(d) for d in dummies])
    if trace.dirty:
        outs = [refresh(o) if is_mine(o, trace) else o for o in outs]
    rows = trace.close()
    slots = new_slots(trace.new())
    seed_cotangents(slots, [trace.slot_of(o) for o in outs], cts)
    return pull_staged(builder, rows, slots, range(len(avals)))


def seed_cotangents(
    slots: Cotangents, out_slots: Sequence[int | None], cts: Sequence[Value | None]
) -> None:
    """Put the cotangents of outputs into their slots."""
    for k, ct in zip(out_slots, cts, strict=True):
        if k is not None and ct is not None:
            if slots[k] is None:
                slots[k] = ct
            else:
                add_cotangent(slots, k, ct)


def pull_staged(
    builder: Builder, rows: list[Row], slots: Cotangents, wanted: Sequence[int | None]
) -> list[Value | None]:
    """`pull_rows`, giving each row's equations the row's line; then the wanted slots."""
    outer = builder.here
    for row in reversed(rows):
        ct = slots[row[1]]
        if ct is not None:
            slots[row[1]] = None
            builder.here = (row[2], row[3]) if row[2] is not None else outer
            row[0](row, settled(ct, row[0]), slots)
    pulled = wanted_slots(slots, wanted)
    builder.here = outer
    return pulled


def builder_of(values: Iterable[Value]) -> Builder | None:
    """The builder in which one of these is staged, whose equations can carry the rows' lines."""
    for value in values:
        inner = innermost(value)
        if isinstance(inner, Staged):
            return inner.owner  # type: ignore[no-any-return]  # a staged value's trace
    return None


def push_staged(builder: Builder, rows: list[Row], slots: Cotangents) -> None:
    """`push_rows`, giving each row's equations the row's line."""
    outer = builder.here
    for row in rows:
        builder.here = (row[2], row[3]) if row[2] is not None else outer
        row[0].push(row, slots)
    builder.here = outer


def unbound(program: Program) -> Equation | None:
    """The first equation that reads a variable nobody defines: what is left of a dummy tangent."""
    bound = set(program.inputs)
    for eqn in program.equations:
        for a in eqn.inputs:
            if isinstance(a, Var) and a not in bound:
                return eqn
        bound.update(eqn.outputs)
    return None


def is_mine(x: Value, trace: Rows) -> bool:
    """Whether ``x`` carries a derivative of ``trace``."""
    return isinstance(x, Eager) and x.owner is trace
