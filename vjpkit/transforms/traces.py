"""What traces have in common whose tracers carry a value: duals, series, examples, causes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vjpkit.core.aval import Value
from vjpkit.core.errors import ClosedTraceError, at, calling_position
from vjpkit.core.tracer import LEVELS, Tracer, refresh, require_open

__all__ = ["ValueTrace", "current"]


class ValueTrace:
    """A trace that computes at once, for the transformation ``name``; it ends with that.

    ``standard`` says that an array API namespace was asked for.
    """

    __slots__ = ("closed", "dirty", "inside", "level", "name", "standard")

    def __init__(self, name: str) -> None:
        self.level = next(LEVELS)
        self.name = name
        self.closed = self.dirty = self.standard = False
        self.inside: Any = None

    def require_running(self) -> None:
        """An error when the transformation has finished."""
        if self.closed:
            raise ClosedTraceError(
                f"a traced value of {self.name} was used after {self.name} had finished"
                f"{at(calling_position())}\nReturn values from the function instead of storing "
                "them."
            )

    def require_closed(self, primitive: Any, outs: Iterable[Value], params: Any) -> None:
        """An error where a function that a primitive calls closes over values of this trace."""
        check = getattr(primitive, "require_closed", None)
        if check is not None:
            check(outs, self, params)

    def foreign(self, y: Value, lost: str) -> Value:
        """An output that is not this trace's; an error where it is a finished inner one's.

        ``lost`` is what would be lost.
        """
        if isinstance(y, Tracer) and y.owner.level > self.level:
            raise ClosedTraceError(
                f"{self.name}: the function returned a traced value of an inner transformation "
                f"that has finished; its {lost} would be lost{at(calling_position())}"
            )
        return require_open(y)


def current(y: Value) -> Value:
    """An output as it is now, all that was written to it included.

    One that was made to accept traced values, and got none, is the array behind it.
    """
    if isinstance(y, Tracer):
        if y.owner.dirty:
            y = refresh(y)
        if isinstance(y, Tracer) and y.owner.level == 0:
            return y.value
    return y
