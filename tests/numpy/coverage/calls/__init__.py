"""The calls, by family."""

from tests.numpy.coverage.call import Call
from tests.numpy.coverage.calls import (
    constant,
    creation,
    joining,
    linear_algebra,
    products,
    reductions,
    selection,
    shapes,
    statistics,
    transforms,
    ufuncs,
)

__all__ = ["CALLS", "REFUSALS"]

_FAMILIES = (
    ufuncs, shapes, joining, selection, reductions, statistics, products, linear_algebra,
    transforms, constant, creation,
)  # fmt: skip

CALLS: list[Call] = [c for family in _FAMILIES for c in family.calls() if c.is_accepted()]
"""Calls that must hold every check."""

REFUSALS: list[tuple[str, Call]] = [
    (keyword, c) for family in _FAMILIES for keyword, c in family.refusals() if c.is_accepted()
]
"""Keywords that traced values do not take, each with a call that must name it."""
