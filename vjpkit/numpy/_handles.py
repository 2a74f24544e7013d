"""Handles: tracers that stand for arrays that are written to, and plain arrays as handles."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.rows import roles
from vjpkit.core.tracer import LEVELS, Tracer, below, refresh

__all__ = [
    "STANDARD",
    "Plain",
    "adopt",
    "hold_all",
    "keep_standard",
    "snapshot",
    "writable",
]


class Plain(Tracer):
    """An array of constants that accepts traced values: what ``np.zeros_like(traced)`` gives.

    Belongs to the lowest trace of all, so it never decides anything; the first traced value written
    to it turns it into a handle of that value's trace.
    """

    __slots__ = ()

    def __init__(self, value: np.ndarray[Any, Any], owner: PlainTrace | None = None) -> None:
        self.value = value
        self.owner = owner or PLAIN
        self.info = next(LEVELS)

    @property
    def aval(self) -> Aval:
        return aval_of(self.value)

    def concrete(self) -> Value:
        value = below(self)
        return value.concrete() if isinstance(value, Tracer) else value

    def constants(self) -> Value:
        """The array; the tracer that it has become where its root was written to."""
        value = below(self)
        return value if type(self) is Plain else self

    def __float__(self) -> float:
        return float(self.constants())

    def __complex__(self) -> complex:
        return complex(self.constants())

    def __repr__(self) -> str:
        return repr(self.constants())

    def __str__(self) -> str:
        return str(self.constants())


class PlainTrace:
    """Computes with the values of plain handles; nothing is recorded. Arrays stay writable.

    In a ``standard`` one single elements stay handles too, as the array API standard has it: there
    they are arrays of no axis.
    """

    level = 0
    closed = False
    dirty = True
    inside = None

    def __init__(self, standard: bool) -> None:
        self.standard = standard

    def process(self, primitive: Any, xs: list[Value], params: dict[str, Any]) -> Value:
        standard = any(type(x) is Plain and x.owner is STANDARD for x in xs)
        out = primitive(*[refresh(x).value if type(x) is Plain else x for x in xs], **params)
        hold = hold_all if standard else hold_arrays
        return primitive.pack(tuple(map(hold, primitive.unpack(out))))


PLAIN = PlainTrace(standard=False)
STANDARD = PlainTrace(standard=True)


def hold_arrays(x: Value) -> Value:
    """A plain array as a handle."""
    return Plain(x) if type(x) is np.ndarray else x


def hold_all(x: Value) -> Value:
    """A plain array or element as a handle of the array API standard's."""
    return Plain(np.asarray(x), STANDARD) if isinstance(x, np.ndarray | np.generic) else x


def keep_standard(x: Tracer) -> None:
    """From now on computations with ``x`` give arrays of one kind, masks and elements too."""
    if type(x) is Plain:
        x.owner = STANDARD
    else:
        x.owner.standard = True


def writable(value: np.ndarray[Any, Any]) -> Plain:
    """A fresh array as a handle that accepts traced values."""
    return Plain(value)


def snapshot(x: Tracer) -> Value:
    """The present value of a handle, without its past: what other traces may hold."""
    if type(x) is Plain:
        return x.value
    frozen = object.__new__(type(x))
    for name in ("value", "owner", "info"):
        with contextlib.suppress(AttributeError):
            setattr(frozen, name, getattr(x, name))
    return frozen


roles["snapshot"] = snapshot


def adopt(x: Tracer, new: Value) -> None:
    """Let a handle stand for another value from now on."""
    if not isinstance(new, Tracer):
        new = Plain(new, x.owner if type(x) is Plain else None)
    x.__class__ = type(new)
    for name in ("value", "owner", "info"):
        if hasattr(new, name):
            setattr(x, name, getattr(new, name))
        elif hasattr(x, name):  # an abstract value has none below it
            delattr(x, name)
