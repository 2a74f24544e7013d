"""Maps that have no derivative at some points: eager values raise there, programs warn.

A program that was staged meets the point long after the user's transform has returned, perhaps in
one example of many; it gives a finite value, without what has no derivative, and a RuntimeWarning.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from vjpkit.core.aval import Value
from vjpkit.core.errors import INTERNAL, NotDifferentiableError, at, calling_position
from vjpkit.core.tracer import Tracer, bind
from vjpkit.kinds import General

__all__ = ["IllPosed", "Report"]

Report = Callable[[str], None]
"""Told what has no derivative, and what to do, on two lines."""


def refuse(message: str) -> None:
    """Raise where the map is applied to arrays."""
    what, _, advice = message.partition("\n")
    raise NotDifferentiableError(f"{what}{at(calling_position())}\n{advice}")


def warn(message: str) -> None:
    """Warn at the user's line that runs a program."""
    level, frame = 2, sys._getframe(1)
    while INTERNAL[frame.f_code.co_filename] and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)


class IllPosed(General):
    """``compute(report, *operands, **params)`` tells ``report`` of points without derivative."""

    interpreted = True
    compute: ClassVar[Callable[..., Any]]

    @classmethod
    def impl(cls, *xs: Value, **params: Any) -> Value:
        return cls.compute(warn, *xs, **params)

    def __call__(self, *xs: Value, **params: Any) -> Value:
        for x in xs:
            if isinstance(x, Tracer):
                return bind(self, xs, params)
        return self.compute(refuse, *xs, **params)
