"""What a linear map computes with: the rows of a trace, or a program and residual values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import ClosedTraceError, NotLinearError, Source, at, calling_position
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Equation, Program
from vjpkit.core.rows import Row, Rows, new_slots, pull_rows, push_rows, roles, walked
from vjpkit.core.staging import (
    Builder,
    ClosedProgram,
    builder_of,
    pull_staged,
    push_staged,
    seed_cotangents,
    transpose_into,
    unbound,
)
from vjpkit.core.tracer import Tracer
from vjpkit.kinds.silence import silent

__all__ = [
    "Backing",
    "Freed",
    "Programmed",
    "Recorded",
    "Residual",
    "RowMap",
    "nbytes_text",
    "transpose_program",
]


@dataclass(frozen=True)
class Residual:
    """A value that a linear map keeps from the point at which it was made.

    ``name`` says which primitive's rule needs it; ``source`` is the user's line that asked for it.
    """

    name: str
    value: Value
    source: Source | None

    @property
    def shape(self) -> tuple[int, ...]:
        return aval_of(self.value).shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return aval_of(self.value).dtype

    @property
    def nbytes(self) -> int:
        return aval_of(self.value).nbytes

    def __repr__(self) -> str:
        where = "" if self.source is None else f"   ({self.source})"
        return f"{self.name}: {aval_of(self.value).strong()}, {nbytes_text(self.nbytes)}{where}"


def nbytes_text(n: float) -> str:
    """A number of bytes as people read it.

    >>> nbytes_text(240), nbytes_text(3.2e6)
    ('240 B', '3.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


class Backing(Protocol):
    """What a linear map computes with, or a row of one: both directions, on live leaves."""

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]: ...
    def pull(self, cts: Sequence[Value | None]) -> Sequence[Value | None]: ...
    def residuals(self) -> list[Residual]: ...


class RowMap(Backing, Protocol):
    """The linear map of a row; its products are plain where ``strict``."""

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]: ...
    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]: ...


class Recorded:
    """The rows of a finished trace."""

    def __init__(
        self,
        trace: Rows,
        rows: list[Row],
        inputs: list[int],
        outputs: list[int | None],
        strict: bool,
    ) -> None:
        self.rows = rows
        self.guards = list(trace.guards.values())
        self.count = trace.new()
        self.inputs = inputs
        self.outputs = outputs
        self.strict = strict

    def check(self) -> None:
        for guard in self.guards:
            guard.check()

    @silent
    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        self.check()
        slots = new_slots(self.count, self.strict or strict)
        for i, t in zip(self.inputs, ts, strict=True):
            slots[i] = t
        builder = builder_of(ts)
        if builder is None:
            return walked(push_rows, self.rows, slots, self.outputs)
        push_staged(builder, self.rows, slots)
        return [None if k is None else slots[k] for k in self.outputs]

    @silent
    def pull(
        self,
        cts: Sequence[Value | None],
        strict: bool = False,
        there: Sequence[Value | None] = (),
    ) -> Sequence[Value | None]:
        """Cotangents of the inputs, added to those that are ``there`` already."""
        self.check()
        slots = new_slots(self.count, self.strict or strict)
        for i, ct in zip(self.inputs, there, strict=False):
            slots[i] = ct
        seed_cotangents(slots, self.outputs, cts)
        builder = builder_of(cts)
        if builder is None:
            return walked(pull_rows, self.rows, slots, self.inputs)
        return pull_staged(builder, self.rows, slots, self.inputs)

    def residuals(self) -> list[Residual]:
        found: dict[int, Residual] = {}
        for row in self.rows:
            for name, value in _row_values(row):
                if id(value) not in found:
                    found[id(value)] = Residual(name, value, Source.of((row[2], row[3])))
        return list(found.values())

    def size(self) -> tuple[int, str]:
        return len(self.rows), "rows"


def _row_values(row: Row) -> Iterable[tuple[str, Value]]:
    """The arrays that a row holds, each named after its primitive."""
    primitive = getattr(row[0], "primitive", None)
    if primitive is None:
        return
    stack: list[Any] = list(row[4:])
    while stack:
        field = stack.pop()
        if isinstance(field, tuple | list):
            stack.extend(field)
        elif isinstance(field, np.ndarray | Tracer):
            yield primitive.name, field
        elif hasattr(field, "residuals"):  # the linear map of a call
            yield from [(r.name, r.value) for r in field.residuals()]


class Programmed:
    """A program, linear in its last inputs, and the residual values of the others.

    ``backend`` runs it on plain arrays.
    """

    def __init__(self, closed: ClosedProgram, backend: str = "numpy") -> None:
        self.closed = closed
        self.backend = backend

    def require_single(self, name: str) -> None:
        """Raise where the residuals are those of many examples: ``vmap`` returned the map."""
        for v, c in zip(self.closed.program.inputs, self.closed.captured, strict=False):
            shape = np.shape(c.value)
            if shape != v.aval.shape and shape[1:] == v.aval.shape:
                raise ValueError(
                    f"{name}: this map was returned from vmap and is one of {shape[0]} examples; "
                    f"called by itself it cannot tell which{at(calling_position())}.\n"
                    "Map it together with what it is applied to: "
                    "vk.vmap(lambda L, ct: L(ct))(L, cts)."
                )

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]:
        return self._run(self.closed, self.closed.consts, ts)

    def pull(self, cts: Sequence[Value | None]) -> Sequence[Value | None]:
        transposed = transpose_program(self.closed.program)
        return self._run(transposed, (*transposed.consts, *self.closed.consts), cts)

    def _run(
        self, closed: ClosedProgram, consts: Sequence[Value], xs: Sequence[Value | None]
    ) -> Sequence[Value]:
        program = closed.program
        avals = program.in_avals[len(program.inputs) - len(xs) :]
        dense = [
            np.zeros(a.shape, a.dtype) if x is None else x for x, a in zip(xs, avals, strict=True)
        ]
        from vjpkit.backends import executed

        with np.errstate(all="ignore"):
            return executed(program, [*consts, *dense], self.backend)

    def residuals(self) -> list[Residual]:
        return [Residual(c.name, c.value, c.source) for c in self.closed.captured]

    def size(self) -> tuple[int, str]:
        return len(self.closed.program.equations), "equations"


def _lowered(program: Program) -> Callable[..., tuple[Value, ...]]:
    """The function of arrays that `evaluate` runs; a backend is loaded when first needed."""
    from vjpkit.backends.numpy_source import lower

    return lower(program)


roles["lower"] = _lowered


def transpose_program(program: Program) -> ClosedProgram:
    """The transpose of a program in its linear inputs: residuals and cotangents to cotangents."""
    return program.cached("transpose", lambda: _transpose(program))  # type: ignore[no-any-return]


def _transpose(program: Program) -> ClosedProgram:
    builder = Builder()
    split = len(program.inputs) - program.linear
    residuals = [builder.argument(v.aval) for v in program.inputs[:split]]
    cts = [builder.argument(a.aval.strong()) for a in program.outputs]
    avals = [v.aval for v in program.inputs[split:]]
    pulled = transpose_into(builder, lambda *ts: evaluate(program, [*residuals, *ts]), avals, cts)
    closed = builder.finish(dense_vectors(pulled, avals, builder), len(cts), effects=False)
    offender = unbound(closed.program)
    if offender is not None:
        raise NotLinearError(f"{offender!r} makes the function nonlinear{_where(offender)}")
    return closed


def _where(eqn: Equation) -> str:
    return "" if eqn.source is None else f"   ({eqn.source})"


def dense_vectors(
    values: Sequence[Value | None], avals: Sequence[Aval], builder: Builder
) -> list[Value]:
    """Zeros where a value is None, made in the program."""

    return [
        roles["fill"](builder, a.shape, 0, a.dtype) if v is None else v
        for v, a in zip(values, avals, strict=True)
    ]


class Freed:
    """What is left of a map after `LinearMap.free`."""

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]:
        raise ClosedTraceError(
            f"LinearMap: this map was freed{at(calling_position())}.\nCall free() after its last "
            "use, or make the map again."
        )

    pull = push

    def residuals(self) -> list[Residual]:
        return []

    def size(self) -> tuple[int, str]:
        return 0, "rows (freed)"
