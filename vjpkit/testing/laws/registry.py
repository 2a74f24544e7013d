"""Where laws are entered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vjpkit.testing.case import Case

__all__ = ["LAWS", "Law", "law"]


@dataclass(frozen=True)
class Law:
    """A check of a case, and the cases that it says something about."""

    name: str
    statement: str
    check: Callable[[Case], None]
    applies: Callable[[Case], bool]

    def __call__(self, case: Case) -> None:
        """Raise AssertionError where the law does not hold."""
        self.check(case)


LAWS: dict[str, Law] = {}
"""Every law by name."""


def law(applies: Callable[[Case], bool]) -> Callable[[Callable[[Case], None]], Law]:
    """Enter a law under its function's name; the docstring is its statement."""

    def enter(function: Callable[[Case], None]) -> Law:
        name = function.__name__
        LAWS[name] = Law(name, (function.__doc__ or "").strip(), function, applies)
        return LAWS[name]

    return enter


def everywhere(case: Case) -> bool:
    """The law says something about every case."""
    return True


def has_derivative(case: Case) -> bool:
    """The law is about cases with operands to differentiate."""
    return bool(case.live)
