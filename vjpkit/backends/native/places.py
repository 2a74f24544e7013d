"""Reading and adding by place, in the blocks of a kernel.

Where elements only change their places - rolled, cut out, joined, padded with zeros - a table says
from where they come: for each *run* of the result its end, the operand, and that element ``p`` of
the result is number ``base + step * p`` there; ``step`` is 1, or 0 where one is repeated. A block
within one run is read where it lies, others are copied first. Where places are computed, elements
are read, or added, one by one; a place outside of the array is a fault, upon which NumPy computes
everything again, and raises its error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from vjpkit.backends.native.code import INT, TYPES, Code, Value
from vjpkit.backends.native.steps import numbered
from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Equation, Var, params_key
from vjpkit.core.primitive import Primitive

__all__ = [
    "Deposit",
    "Move",
    "deposit_of",
    "gathered",
    "is_gather",
    "moves_of",
    "moving",
    "placed_sum",
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


def is_full(index: Any, ndim: int) -> bool:
    """Whether an index has an array for each axis, and nothing else."""
    return bool(len(index.entries) == index.arrays == ndim)


@dataclass(frozen=True)
class Deposit:
    """Values of the kernel's shape, added to ``base``, or to zeros, at places that arrays give."""

    out: Var
    base: Var | None
    terms: tuple[tuple[Var, ...], ...]
    """The value of each term, then its index arrays."""


def deposit_of(eqn: Equation, shape: Shape) -> Deposit | None:
    """What an equation adds where places are computed; None where it does something else."""
    name, out = eqn.primitive.name, eqn.outputs[0] if eqn.outputs else None
    if name not in ("scatter_sum", "add_at") or out is None or not eqn.inputs:
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


def used_only(atoms: Sequence[Any]) -> tuple[Var, ...]:
    return tuple([a for a in atoms if isinstance(a, Var)])


# ---- what they are in LLVM -----------------------------------------------------------------------


def moving(kind: str, size: int) -> str:
    """The function that gives the address of a block of a moved value; ``%cursor`` has its run."""
    return f"""define internal ptr @moved_{kind}(
    ptr %sources, ptr %table, ptr %cursor, ptr %to, i64 %b, i64 %m) noinline nounwind {{
entry:
  %first = load i64, ptr %cursor
  br label %head
head:
  %c = phi i64 [%first, %entry], [%c2, %next]
  %done = phi i64 [0, %entry], [%done2, %next]
  %r = mul i64 %c, 4
  %r0 = getelementptr i64, ptr %table, i64 %r
  %r1 = getelementptr i64, ptr %r0, i64 1
  %r2 = getelementptr i64, ptr %r0, i64 2
  %r3 = getelementptr i64, ptr %r0, i64 3
  %end = load i64, ptr %r0
  %which = load i64, ptr %r1
  %base = load i64, ptr %r2
  %step = load i64, ptr %r3
  %at = add i64 %b, %done
  %left = sub i64 %m, %done
  %room = sub i64 %end, %at
  %ends = icmp sle i64 %room, %left
  %count = select i1 %ends, i64 %room, i64 %left
  %c1 = add i64 %c, 1
  %c2 = select i1 %ends, i64 %c1, i64 %c
  %done2 = add i64 %done, %count
  %dest = getelementptr {kind}, ptr %to, i64 %done
  %bytes = mul i64 %count, {size}
  %none = icmp slt i64 %which, 0
  br i1 %none, label %zero, label %some
zero:
  call void @llvm.memset.p0.i64(ptr %dest, i8 0, i64 %bytes, i1 false)
  br label %next
some:
  %place = getelementptr ptr, ptr %sources, i64 %which
  %source = load ptr, ptr %place
  %far = mul i64 %step, %at
  %from = add i64 %far, %base
  %there = getelementptr {kind}, ptr %source, i64 %from
  %near = icmp eq i64 %step, 1
  br i1 %near, label %run, label %same
run:
  %all = icmp eq i64 %count, %m
  br i1 %all, label %whole, label %copy
whole:
  store i64 %c2, ptr %cursor
  ret ptr %there
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %dest, ptr %there, i64 %bytes, i1 false)
  br label %next
same:
  %x = load {kind}, ptr %there
  br label %fill
fill:
  %k = phi i64 [0, %same], [%k1, %fill]
  %q = getelementptr {kind}, ptr %dest, i64 %k
  store {kind} %x, ptr %q
  %k1 = add i64 %k, 1
  %full = icmp eq i64 %k1, %count
  br i1 %full, label %next, label %fill
next:
  %more = icmp slt i64 %done2, %m
  br i1 %more, label %head, label %out
out:
  store i64 %c2, ptr %cursor
  ret ptr %to
}}"""


MOVING_NEEDS = (
    "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
    "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
)


def gathered(places: Sequence[Value], shape: Shape, faults: list[Value]) -> Value:
    """The number of the element at a place, counted from the end where that is negative.

    The first one, and a fault, where there is no such place.
    """
    code = places[0].code
    total = code.number(0, INT)
    for axis, (i, n) in enumerate(zip(places, shape, strict=True)):
        inside = (i >= -n) & (i < n)
        faults.append(~inside)
        counted = inside.choose((i < 0).choose(i + n, i), 0)
        total = total + counted * prod(shape[axis + 1 :])
    return total


def placed_sum(name: str, kind: str, shape: Shape) -> tuple[str, set[str]]:
    """The function that adds a block of numbers at their places, and says whether one is outside.

    And what it needs to be declared.
    """
    from vjpkit.backends.native.kernels import loaded, store

    code, faults = Code(), list[Value]()
    places = [loaded(code, f"%i{axis}", "%k", INT) for axis in range(len(shape))]
    place = gathered(places, shape, faults)
    total = loaded(code, "%to", place.name, kind) + loaded(code, "%from", "%k", kind)
    store(code, "%to", place.name, total)
    outside = code.anything(faults)
    given = ", ".join(f"ptr %i{axis}" for axis in range(len(shape)))
    lines = [
        f"define internal i64 @{name}(ptr noalias %to, ptr %from, {given}, i64 %m) "
        "noinline nounwind {", "entry:", "  br label %l", "l:",
        "  %k = phi i64 [0, %entry], [%j, %l]", "  %c = phi i1 [false, %entry], [%d, %l]",
        *[f"  {line}" for line in code.lines], f"  %d = or i1 %c, {outside.name}",
        "  %j = add nuw nsw i64 %k, 1", "  %e = icmp eq i64 %j, %m",
        "  br i1 %e, label %end, label %l", "end:", f"  %f = select i1 %d, i64 {FAULT}, i64 0",
        "  ret i64 %f", "}",
    ]  # fmt: skip
    return "\n".join(lines), code.declared


DOUBT, FAULT = 1, 2
"""Bits of what the functions of a block give: an argument that the fast form does not take, and a
place that is not there."""
