"""Higher-order primitives: equations that hold programs, and how they are differentiated.

Every higher-order primitive says what its linearization at a point is: another equation of its own
kind (or of a companion's) that takes residuals and tangents. `Form` is such an equation with its
operands yet to come. Recording keeps residuals and forms as one row; both walks evaluate a form
through its primitive, so the derivative of a loop is a loop, whatever runs it: arrays, outer
tracers, a builder.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from vjpkit.control.programs import (
    apart_from_terms,
    plain_param,
    series_program,
    with_terms,
)
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import calling_position
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Primitive
from vjpkit.core.rows import (
    STRICT,
    Cotangents,
    NanMetError,
    Row,
    Rows,
    eager,
    may_have_nan,
    plain_product,
)
from vjpkit.core.staging import Staged
from vjpkit.core.tracer import Trace, Tracer
from vjpkit.kinds import contribute, rule
from vjpkit.kinds.general import Many, part_row
from vjpkit.kinds.linear import zeros
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.series import Terms

__all__ = [
    "Form",
    "FormMap",
    "Higher",
    "Linearization",
    "RunProgram",
    "Zeros",
    "expanded",
    "live_and_order",
]


@dataclass(frozen=True)
class Zeros:
    """An operand of a form that is zero."""

    aval: Aval


Operand = int | Zeros
"""Residual i, or vector j written as ~j, or zeros."""


@dataclass(frozen=True)
class Form:
    """A linear equation at a point: a primitive and where its operands and results belong.

    ``outputs[j]`` is the number of the result that is vector j of what the form gives, None where
    that is zero.
    """

    primitive: Primitive
    params: dict[str, Any]
    operands: tuple[Operand, ...]
    outputs: tuple[int | None, ...]

    def __call__(
        self, residuals: Sequence[Value], vectors: Sequence[Value], strict: bool = False
    ) -> list[Value | None]:
        """The vectors that come out; with plain products where ``strict``."""
        like = vectors[0]

        def operand(o: Operand) -> Value:
            if isinstance(o, int):
                return residuals[o] if o >= 0 else vectors[~o]
            return zeros(o.aval, like)

        params = self.plain if strict else self.params
        with np.errstate(all="ignore"):
            outs = self.primitive(*map(operand, self.operands), **params)
        return [None if j is None else outs[j] for j in self.outputs]

    @property
    def plain(self) -> dict[str, Any]:
        """The parameters with plain products in their programs."""
        return {name: plain_param(value) for name, value in self.params.items()}


@dataclass(frozen=True)
class Linearization:
    """What a higher-order primitive is at a point: outputs and residuals, and two forms.

    ``primal(values)`` gives the outputs and the residuals. ``tangent`` maps tangents of the live
    operands to tangents of the outputs; ``transpose(given)`` maps cotangents of the outputs that
    ``given`` marks to those of the live operands.
    """

    primal: Callable[..., tuple[Sequence[Value], Sequence[Value]]]
    tangent: Form
    transpose: Callable[[tuple[bool, ...]], Form]


RunProgram = Callable[[str, Program, Sequence[Value]], Sequence[Value]]
"""Runs one of the programs that a primitive runs: where in it that is, the program, its operands.

``walked(values, run, **params)`` is such a primitive by means of ``run``."""


@runtime_checkable
class Accumulating(Protocol):
    """A linear map that adds to the cotangents in the slots of operands itself."""

    def onto(
        self, slots: Sequence[int], given: Sequence[Value | None], cts: Cotangents, strict: bool
    ) -> None: ...


class FormMap:
    """The linear map of a higher-order primitive at a point."""

    def __init__(
        self,
        name: str,
        at: Linearization,
        residuals: Sequence[Value],
        domain: Sequence[Aval],
    ) -> None:
        self.name = name
        self.at = at
        self.kept = list(residuals)
        self.domain = domain

    @property
    def reached(self) -> list[bool]:
        """Which outputs, of those that can have tangents, depend on the live operands."""
        return [j is not None for j in self.at.tangent.outputs]

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> list[Value | None]:
        some = next(t for t in ts if t is not None)
        dense = [zeros(a, some) if t is None else t for t, a in zip(ts, self.domain, strict=True)]
        return self.at.tangent(self.kept, dense, strict)

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> list[Value | None]:
        given = tuple([c is not None and r for c, r in zip(cts, self.reached, strict=True)])
        some = [c for c, wanted in zip(cts, given, strict=True) if wanted]
        return self.at.transpose(given)(self.kept, some, strict)

    def residuals(self) -> list[Residual]:
        return [Residual(self.name, v, None) for v in self.kept if hasattr(v, "dtype")]


def is_strict(slots: Cotangents, vectors: Sequence[Value | None]) -> bool:
    """Whether a rule that these are for is to compute in plain IEEE arithmetic.

    A first walk, in which nobody knows whether a nan is one, ends here.
    """
    strict = STRICT in slots[-1]
    first = not strict and slots[-2] is plain_product
    if first and any(x is not None and may_have_nan(x) for x in vectors):
        raise NanMetError
    return strict


class Higher(Primitive):
    """A primitive with several outputs that brings its own linear map.

    The rule is ``linear_map(values, live, **params)``: the outputs, and the map from tangents of
    the live operands to tangents of the outputs that have any.
    """

    multi = True
    loud: ClassVar[bool] = False
    """Whether it runs the user's functions as they are: then NumPy's warnings are the user's.

    Programs that compute residuals or tangents beside values warn of what nobody has written."""

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, slots, avals, backing, *_ = row
            given = [ct[j] for j, aval in enumerate(avals) if aval.inexact]
            live = [s for s in slots if s is not None]
            strict = is_strict(cts, given)
            if isinstance(backing, Accumulating):
                backing.onto(live, given, cts, strict)
                return
            for i, c in zip(live, backing.pull(given, strict), strict=True):
                contribute(cts, i, c)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, slots, avals, backing, *_ = row
            inner = [ts[s] for s in slots if s is not None]
            ts[k] = None
            if any(t is not None for t in inner):
                pushed = iter(backing.push(inner, is_strict(ts, inner)))
                ts[k] = Many([next(pushed) if aval.inexact else None for aval in avals])

        self.pull = rule(self, pull, push)

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        raise NotImplementedError(f"{self.name} declares no linear map")

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> tuple[Value, ...]:
        live = tuple([s is not None for s in slots])
        with self.quietly():
            outs, backing = self.linear_map(values, live, **params)
        self.require_closed(outs, trace, params)
        code, offset = calling_position()
        whole = trace.new()
        avals = [aval_of(o) for o in outs]
        kept = held(backing, values, trace)
        trace.append((self.pull, whole, code, offset, tuple(slots), avals, backing, *kept))
        known: Sequence[bool] | None = getattr(backing, "reached", None)
        reached = itertools.repeat(True) if known is None else iter(known)
        results: list[Value] = []
        for j, (out, aval) in enumerate(zip(outs, avals, strict=True)):
            if not (aval.inexact and next(reached)):
                results.append(out)
                continue
            k = trace.new()
            trace.append(part_row(k, (code, offset), whole, j, len(outs)))
            results.append(eager(out, trace, k))
        return tuple(results)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return self.linear_with(mask, (False,) * len(mask), params)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return False

    def require_closed(self, outs: Iterable[Value | None], trace: Trace, params: Any) -> None:
        """Raise where an output depends on the trace in a way that was not declared."""

    def with_tangents(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        """Outputs and their tangents (None for zero).

        Apart where a program that values are not part of takes the tangents alone.
        """
        inside = staged_in(ts) > staged_in(values)
        with self.quietly():
            return (self.apart if inside else self.together)(values, ts, params, strict)

    def quietly(self) -> AbstractContextManager[Any]:
        """What its derivatives run in."""
        return nullcontext() if self.loud else np.errstate(all="ignore")

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        """The same in one equation, where a primitive has one."""
        return self.apart(values, ts, params, strict)

    def apart(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        """The same by the linear map at the values."""
        live = tuple([t is not None for t in ts])
        outs, backing = self.linear_map(values, live, **params)
        pushed = iter(backing.push([t for t in ts if t is not None], strict))
        return outs, [next(pushed) if aval_of(o).inexact else None for o in outs]


def staged_in(xs: Sequence[Value | None]) -> int:
    """The level of the innermost program that values are part of; 0 where there is none."""
    inner = 0
    for x in xs:
        while isinstance(x, Tracer):
            if isinstance(x, Staged):
                inner = max(inner, x.owner.level)
            x = getattr(x, "value", None)
    return inner


def live_and_order(series: Sequence[Terms | None]) -> tuple[tuple[bool, ...], int]:
    """Which operands have terms, and how many."""
    return tuple([s is not None for s in series]), next(len(s) for s in series if s is not None)


def expanded(
    primitive: Primitive,
    values: Sequence[Value],
    series: Sequence[Terms | None],
    program: Program,
    **params: Any,
) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
    """Outputs and terms of a primitive that runs a program: it runs the program on series."""
    moving, order = live_and_order(series)
    wide, reached = series_program(program, moving, order)
    outs = primitive(*with_terms(values, series, moving, order), program=wide, **params)
    return apart_from_terms(outs, reached, order)


def held(backing: RowMap, values: Sequence[Value], trace: Rows) -> list[Value]:
    """The arrays that a row keeps through its linear map; the user's own among them are guarded."""
    kept = getattr(backing, "kept", None)
    if not isinstance(kept, list):
        return []
    theirs = {id(x) for x in values if type(x) is np.ndarray}
    for i, x in enumerate(kept):
        if id(x) in theirs:
            kept[i] = trace.keep(x)
    return [x for x in kept if type(x) is np.ndarray]


class Programmatic(Higher):
    """A higher-order primitive whose linear map is made of forms.

    The rules are ``linearization(live, avals, **params)``, and ``forward_program(values, ts,
    **params)`` for forward mode without residuals.
    """

    def linearization(
        self, live: tuple[bool, ...], avals: tuple[Aval, ...], **params: Any
    ) -> Linearization:
        raise NotImplementedError(f"{self.name} declares no linearization")

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        avals = tuple([aval_of(v) for v in values])
        at = self.linearization(live, avals, **params)
        outs, residuals = at.primal(*values)
        domain = [aval.strong() for aval, wanted in zip(avals, live, strict=True) if wanted]
        return tuple(outs), FormMap(self.name, at, residuals, domain)
