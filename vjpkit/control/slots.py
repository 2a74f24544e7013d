"""How much a loop or a function may keep: a number of states, or of bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import at, calling_position

__all__ = ["bytes_of", "slots_for", "slots_of"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}


def bytes_of(memory: int | str, label: str) -> int:
    """Bytes of "100MB", "2 GiB" or a number.

    >>> bytes_of("1.5 MB", "f"), bytes_of("2KiB", "f"), bytes_of(10, "f")
    (1500000, 2048, 10)
    """
    if isinstance(memory, int | np.integer) and not isinstance(memory, bool) and memory >= 0:
        return int(memory)
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmg]?i?b|)\s*", memory.lower())
        if found and found[2] in _UNITS:
            return int(float(found[1]) * _UNITS[found[2]])
    raise ValueError(
        f"{label}: memory must be a number of bytes or a text such as '100MB', got "
        f"{memory!r}{at(calling_position())}"
    )


def slots_of(label: str, state: Sequence[Value], slots: Any, memory: Any) -> int:
    """How many states are kept of those like ``state``."""
    if (slots is None) == (memory is None):
        raise TypeError(
            f"{label}: give slots= (how many states are kept) or memory= ('100MB')"
            f"{at(calling_position())}"
        )
    if memory is not None:
        size = sum([aval_of(x).nbytes for x in state if hasattr(x, "dtype")])
        return max(1, bytes_of(memory, label) // max(size, 1))
    if not isinstance(slots, int | np.integer) or isinstance(slots, bool) or slots < 1:
        raise ValueError(
            f"{label}: slots must be a positive int, got {slots!r}{at(calling_position())}"
        )
    return int(slots)


def slots_for(
    label: str, state: Sequence[Value], checkpoint: Any, slots: Any, memory: Any
) -> int | None:
    """How many states a loop keeps; None where the residuals of all steps are kept."""
    if checkpoint is None:
        if slots is not None or memory is not None:
            raise TypeError(
                f"{label}: slots= and memory= are options of checkpoint='revolve'"
                f"{at(calling_position())}"
            )
        return None
    if checkpoint != "revolve":
        raise ValueError(
            f"{label}: checkpoint must be 'revolve' or None, got {checkpoint!r}"
            f"{at(calling_position())}"
        )
    return slots_of(label, state, slots, memory)
