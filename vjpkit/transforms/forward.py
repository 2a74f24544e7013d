"""Forward mode: a tracer that carries its tangent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import ClosedTraceError, at, calling_position
from vjpkit.core.rows import roles
from vjpkit.core.tracer import LEVELS, ConcreteTracer, Tracer, named_info, refresh, require_open

__all__ = ["Dual", "Duals"]


class Dual(ConcreteTracer):
    """A primal value and its tangent (of the same shape and dtype)."""

    __slots__ = ()
    tangent = named_info()

    def __init__(self, value: Value, trace: Duals, tangent: Value) -> None:
        self.value = value
        self.owner = trace
        self.tangent = tangent


def _snapshot(x: Value) -> Value:
    """An operand of another trace as it is now: it may be an array that is written to later."""
    return roles["snapshot"](x) if isinstance(x, Tracer) else x


class Duals:
    """The trace of one ``jvp``: every primitive pushes its operands' tangents at once."""

    __slots__ = ("closed", "dirty", "level", "name", "strict")

    def __init__(self, name: str = "jvp", strict: bool = False) -> None:
        self.level = next(LEVELS)
        self.name = name
        self.strict = strict
        self.closed = False
        self.dirty = False

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        if self.closed:
            raise ClosedTraceError(
                f"a traced value of {self.name} was used after {self.name} had finished"
                f"{at(calling_position())}\nReturn values from the function instead of storing "
                "them."
            )
        mine = [isinstance(x, Dual) and x.owner is self for x in xs]
        values = tuple([x.value if m else _snapshot(x) for x, m in zip(xs, mine, strict=True)])
        ts = tuple([x.tangent if m else None for x, m in zip(xs, mine, strict=True)])
        together = getattr(primitive, "with_tangents", None)
        if together is not None:
            outs, tangents = together(values, ts, params, self.strict)
        else:
            out = primitive(*values, **params)
            outs = primitive.unpack(out)
            with np.errstate(all="ignore"):  # the primal has warned, its derivative need not
                tangents = primitive.unpack(primitive.forward(values, ts, out, params, self.strict))
        pairs = zip(outs, tangents, strict=True)
        return primitive.pack(tuple([o if t is None else Dual(o, self, t) for o, t in pairs]))

    def split(self, y: Value) -> tuple[Value, Value | None]:
        """Primal and tangent (None for zero) of an output."""
        if isinstance(y, Tracer) and y.owner.dirty:
            y = refresh(y)
        if isinstance(y, Dual) and y.owner is self:
            return y.value, y.tangent
        if isinstance(y, Tracer) and y.owner.level == 0:
            y = y.value
        if isinstance(y, Tracer) and y.owner.level > self.level:
            raise ClosedTraceError(
                f"{self.name}: the function returned a traced value of an inner transformation "
                "that "
                f"has finished; its derivative would be lost{at(calling_position())}"
            )
        return require_open(y), None
