"""Reading and adding by place, in the blocks of a kernel.

Where elements only change their places - rolled, cut out, joined, padded with zeros - a table says
from where they come: for each *run* of the result its end, the operand, and that element ``p`` of
the result is number ``base + step * p`` there; ``step`` is 1, or 0 where one is repeated. A block
within one run is read where it lies, others are copied first. Where places are computed, elements
are read, or added, one by one; a place outside of the array is a fault, upon which NumPy computes
everything again, and raises its error.

Where values are added at places that are known, they are *laid* along runs too, block by block. The
result need not be zeros first: what lies beyond all that has been written so far is written, the
rest is added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import prod
from operator import and_
from typing import Any

import numpy as np

from vjpkit.backends.native.code import INT, TYPES, Value
from vjpkit.backends.native.steps import numbered
from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Equation, Literal, Var, params_key
from vjpkit.core.primitive import Primitive

__all__ = [
    "DEPOSITING",
    "Deposit",
    "Laid",
    "Move",
    "bound_of",
    "deposit_of",
    "gathered",
    "is_gather",
    "is_numbering",
    "is_view",
    "laid_of",
    "moves_of",
    "view_of",
]

MOVES = frozenset({"roll", "concatenate", "stack", "scatter_sum", "tril", "triu"})
"""Primitives whose results are elements of their operands, and zeros, and no views."""
LARGEST = 1 << 20
"""Elements of a result: its table is made from the number of each."""
MOST = 8
"""Operands of an equation, each of which is a pass over a block."""
LEAST = 4
"""A part of so many elements of a result is worth a pass over all of it."""
SHORTEST = 8
"""Elements of a run, on average: shorter ones are copied no faster than by NumPy."""

Table = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Move:
    """Elements of ``sources``, and zeros, at other places: a value of a kernel."""

    var: Var
    sources: tuple[Var, ...]
    table: Table


# ---- which equations -----------------------------------------------------------------------------


def moves_of(eqn: Equation) -> tuple[Move, ...] | None:
    """What the result is (or, of several that are added at their places, the sum of)."""
    if eqn.primitive.name not in MOVES or len(eqn.outputs) != 1 or not eqn.inputs:
        return None
    (out,), params = eqn.outputs, eqn.params
    given = tuple([a for a in eqn.inputs if isinstance(a, Var) and a.aval.dtype == out.aval.dtype])
    if len(given) < len(eqn.inputs) or out.aval.dtype not in TYPES:
        return None
    if not 0 < out.aval.size <= LARGEST or len(given) > MOST:
        return None
    indices = params.get("indices", ())
    if any(index.arrays for index in indices):
        return None
    least = out.aval.size // LEAST if indices else 1
    if any(a.aval.size < max(1, least) for a in given):
        return None
    if len(indices) < 2:
        tables = [table_of(eqn.primitive, params_key(params), tuple([a.aval for a in given]))]
        parts = [(out, given)]
    else:
        one = [params_key({**params, "indices": (index,)}) for index in indices]
        tables = [
            table_of(eqn.primitive, key, (a.aval,)) for key, a in zip(one, given, strict=True)
        ]
        parts = [(Var(out.aval), (a,)) for a in given]
    found = [t for t in tables if t is not None]
    if len(found) < len(tables):
        return None
    return tuple([Move(*part, table) for part, table in zip(parts, found, strict=True)])


VIEWS = frozenset({"getitem", "broadcast_to"})
"""Primitives whose results are views of an operand, of which a flat array may be a copy."""


def is_view(eqn: Equation) -> bool:
    """Whether an equation takes known elements of an array, in one of its own."""
    if eqn.primitive.name not in VIEWS or len(eqn.inputs) != 1:
        return False
    return isinstance(eqn.inputs[0], Var) and bool(eqn.outputs[0].aval.shape)


def view_of(eqn: Equation) -> Move | None:
    """What a view is, in few runs; None where there are many."""
    (out,), (x,) = eqn.outputs, used_only(eqn.inputs)
    if x.aval.dtype not in TYPES or not 0 < out.aval.size <= LARGEST:
        return None
    table = table_of(eqn.primitive, params_key(eqn.params), (x.aval,))
    return None if table is None else Move(out, (x,), table)


@lru_cache(64)
def table_of(primitive: Primitive, params: Any, avals: tuple[Aval, ...]) -> Table | None:
    """The runs of an equation's result; None where they are too short to be worth copying."""
    numbers = numbered(avals)
    chosen = primitive.impl(*numbers, **{**dict(params), **_of_numbers(primitive)})
    places = np.ravel(chosen)
    ends = np.cumsum([1, *[a.size for a in avals]])
    which = np.searchsorted(ends, places, side="right") - 1  # -1: a zero
    step = np.diff(places)
    even = (step == 0) | (step == 1)
    breaks = ~even | (which[1:] != which[:-1])
    breaks[1:] |= (step[1:] != step[:-1]) & ~breaks[:-1]
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    if len(starts) * SHORTEST > len(places) and len(starts) > 1:
        return None
    last = [*starts[1:], len(places)]
    steps = np.where(np.diff([*starts, len(places)]) > 1, np.append(step, 1)[starts], 1)
    owner = which[starts]
    base = places[starts] - ends[owner] - steps * starts
    return np.stack([last, owner, base, steps], axis=1).astype(np.int64)


def _of_numbers(primitive: Primitive) -> dict[str, Any]:
    """Parameters for operands that are numbers of elements."""
    return {"dtype": np.dtype(np.int64)} if primitive.name == "scatter_sum" else {}


def is_gather(eqn: Equation, shape: Shape) -> bool:
    """Whether elements are read at places that arrays of the result's shape give."""
    if not isinstance(eqn.inputs[0] if eqn.inputs else None, Var):
        return False
    x, *arrays = eqn.inputs
    if eqn.primitive.name == "take":
        whole = x.aval.ndim == 1
    elif eqn.primitive.name == "getitem":
        whole = bool(arrays) and is_full(eqn.params["index"], x.aval.ndim)
    else:
        return False
    good = all(isinstance(a, Var) and a.aval.shape == shape for a in arrays)
    integers = all(TYPES.get(a.aval.dtype) == INT for a in arrays)
    return whole and good and integers and x.aval.dtype in TYPES and x.aval.size > 0


def is_numbering(eqn: Equation, shape: Shape) -> bool:
    """Whether the numbers of elements are computed at places that arrays of this shape give."""
    if eqn.primitive.name != "positions":
        return False
    given = [isinstance(a, Var) and TYPES.get(a.aval.dtype) == INT for a in eqn.inputs]
    return all(given) and all(a.aval.shape == shape for a in (*eqn.inputs, *eqn.outputs))


def is_full(index: Any, ndim: int) -> bool:
    """Whether an index has an array for each axis, and nothing else."""
    return bool(len(index.entries) == index.arrays == ndim)


def bound_of(eqn: Equation) -> int | None:
    """A number that whole ones are less than which an equation makes, none of them negative."""
    name, (out, *_) = eqn.primitive.name, eqn.outputs or (None,)
    if name == "positions":
        return int(prod(eqn.params["shape"]))
    if name != "remainder" or out is None or TYPES.get(out.aval.dtype) != INT:
        return None
    divisor = eqn.inputs[1]
    return int(divisor.value) if isinstance(divisor, Literal) and divisor.value > 0 else None


@dataclass(frozen=True)
class Deposit:
    """Values of the kernel's shape, added to ``base``, or to zeros, at places that arrays give."""

    out: Var
    base: Var | None
    terms: tuple[tuple[Var, ...], ...]
    """The value of each term, then its index arrays."""


DEPOSITING = frozenset({"scatter_sum", "add_at"})
"""Primitives that add values to elements at places."""


def deposit_of(eqn: Equation, shape: Shape) -> Deposit | None:
    """What an equation adds where places are computed; None where it does something else."""
    name, out = eqn.primitive.name, eqn.outputs[0] if eqn.outputs else None
    if name not in DEPOSITING or out is None or not eqn.inputs:
        return None
    aval, params = out.aval, eqn.params
    indices = params["indices"] if name == "scatter_sum" else (params["index"],)
    if not all(is_full(index, aval.ndim) for index in indices) or len(indices) > MOST:
        return None
    count = aval.ndim * len(indices)
    arrays, others = used_only(eqn.inputs[:count]), used_only(eqn.inputs[count:])
    base, values = (None, others) if name == "scatter_sum" else (others[:1], others[1:])
    good = (
        aval.dtype.kind == "f"
        and aval.dtype in TYPES
        and aval.size > 0 < count == len(arrays)
        and len(values) == len(indices)
        and all(a.aval.shape == shape for a in (*arrays, *values))
        and all(TYPES.get(a.aval.dtype) == INT for a in arrays)
        and all(a.aval.strong() == aval.strong() for a in base or ())
        and all(a.aval.dtype == aval.dtype for a in values)
    )
    if not good:
        return None
    places = [arrays[k * aval.ndim : (k + 1) * aval.ndim] for k in range(len(indices))]
    terms = tuple([(v, *mine) for v, mine in zip(values, places, strict=True)])
    return Deposit(out, base[0] if base else None, terms)


@dataclass(frozen=True)
class Laid:
    """Values of the kernel's shape, added to zeros along runs.

    For each term its value, and for each run of this its end, and what is added to the number of an
    element for its place.
    """

    out: Var
    terms: tuple[tuple[Var, Table], ...]


def laid_of(eqn: Equation, shape: Shape) -> Laid | None:
    """What an equation adds where places are known; None where it does something else."""
    if eqn.primitive.name != "scatter_sum" or len(eqn.outputs) != 1:
        return None
    (out,), indices = eqn.outputs, eqn.params["indices"]
    values = used_only(eqn.inputs)
    if any(index.arrays for index in indices) or not 0 < len(values) == len(eqn.inputs) <= MOST:
        return None
    avals = [a.aval for a in (out, *values)]
    floats = all(a.dtype == out.aval.dtype and a.dtype in TYPES for a in avals)
    if not floats or out.aval.dtype.kind != "f" or not 0 < out.aval.size <= LARGEST:
        return None
    if any(v.aval.shape != shape for v in values):
        return None
    tables = [runs_of(out.aval.shape, index.entries, shape) for index in indices]
    found = [t for t in tables if t is not None]
    return Laid(out, tuple(zip(values, found, strict=True))) if len(found) == len(tables) else None


def runs_of(whole: Shape, entries: tuple[Any, ...], shape: Shape) -> Table | None:
    """The runs of values that are added at an index; None where they are short."""
    chosen = np.arange(prod(whole)).reshape(whole)[entries]
    if chosen.shape != shape or not chosen.size:
        return None
    places = np.ravel(chosen)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(places) != 1) + 1])
    if len(starts) * SHORTEST > len(places) and len(starts) > 1:
        return None
    return np.stack([[*starts[1:], len(places)], places[starts] - starts], axis=1).astype(np.int64)


def used_only(atoms: Sequence[Any]) -> tuple[Var, ...]:
    return tuple([a for a in atoms if isinstance(a, Var)])


# ---- what they are in LLVM -----------------------------------------------------------------------


def gathered(
    places: Sequence[Value], shape: Shape, known: Sequence[bool], faults: list[Value]
) -> Value:
    """The number of the element at a place, counted from the end where that is negative.

    The first one, and a fault, where there is no such place. Along some axes it is known to be
    there, and is not negative.
    """
    code = places[0].code
    total, inside = code.number(0, places[0].kind), list[Value]()
    for axis, (i, n, sure) in enumerate(zip(places, shape, known, strict=True)):
        if not sure:
            inside.append((i + n).below(2 * n))
            i = (i < 0).choose(i + n, i)
        total = total + i * prod(shape[axis + 1 :])
    if not inside:
        return total
    there = reduce(and_, inside)
    faults.append(~there)
    return there.choose(total, 0)
