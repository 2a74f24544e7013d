"""Arguments that a transform passes on as they are, named by number and by keyword."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vjpkit.core.errors import at, calling_position, counted

__all__ = ["Static", "static_arguments"]


@dataclass(frozen=True)
class Static:
    """The numbers and the names of static arguments: a parameter is static however it is passed."""

    numbers: tuple[int, ...] = ()
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.numbers or self.names)

    def places(self, count: int) -> set[int]:
        """Which of ``count`` positional arguments are static."""
        return {n % count for n in self.numbers if -count <= n < count}


def static_arguments(
    label: str,
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    argnames: str | Sequence[str],
) -> Static:
    """What ``static_argnums`` and ``static_argnames`` mean for ``fun``.

    Errors: `TypeError` for what is neither a number nor a name, `ValueError` for arguments that the
    function does not have.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        raise TypeError(
            f"{label}: static_argnums must be an int or a sequence of ints, got {argnums!r}"
            f"{at(calling_position())}"
        )
    if not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"{label}: static_argnames must be a name or a sequence of names, got {argnames!r}"
            f"{at(calling_position())}"
        )
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return Static(numbers, frozenset(names))
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {p.name for p in parameters}
    unknown = sorted(set(names) - known)
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(
            f"{label}: static_argnames names {unknown[0]!r}, but the function's arguments are "
            f"{', '.join(sorted(known)) or 'none'}{at(calling_position())}"
        )
    count = len(places)
    inside = {n for n in numbers if -count <= n < count}
    if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        outside = sorted(set(numbers) - inside)
        if outside:
            raise ValueError(
                f"{label}: static_argnums names argument {outside[0]}, but the function has "
                f"{counted(count, 'positional argument')}{at(calling_position())}.\n"
                "Arguments are counted from 0, or backwards from -1."
            )
        numbers = tuple([n % count for n in numbers])
    every = {*names, *[places[n] for n in inside]}
    by_name = {i for i, name in enumerate(places) if name in every}
    return Static(tuple(sorted({*numbers, *by_name})), frozenset(every))
