"""Values in single assignment, written down as LLVM text by Python's operators.

A value is a number, or a short vector of numbers; what is written for one serves for the other.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

__all__ = [
    "BOOL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "TYPES",
    "Code",
    "Value",
    "element",
    "lanes_of",
    "literal",
    "vector",
]

DOUBLE, FLOAT, INT, BOOL = "double", "float", "i64", "i1"

TYPES: dict[Any, str] = {
    np.dtype("f8"): DOUBLE,
    np.dtype("f4"): FLOAT,
    np.dtype("i8"): INT,
    np.dtype("?"): BOOL,
}
"""What LLVM calls the dtypes that kernels compute with."""

_FLOATING = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_INTEGER = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_SHIFTS = {"<<": "shl", ">>": "ashr"}
_ORDERED = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


@cache
def lanes_of(kind: str) -> int:
    """How many numbers a value of a type has."""
    return int(kind[1:].split(" x ")[0]) if kind[0] == "<" else 1


@cache
def element(kind: str) -> str:
    """The type of one number of a value.

    >>> element("<8 x double>"), element("i64"), lanes_of("<8 x double>")
    ('double', 'i64', 8)
    """
    return kind[1:-1].split(" x ")[1] if kind[0] == "<" else kind


@cache
def vector(kind: str, lanes: int) -> str:
    """The type of so many numbers of a type."""
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def literal(x: Any, kind: str) -> str:
    """A Python number as LLVM writes it, in every lane: floating ones by their bits."""
    if kind[0] == "<":
        one = f"{element(kind)} {literal(x, element(kind))}"
        return f"<{', '.join([one] * lanes_of(kind))}>"
    if kind == DOUBLE:
        return f"0x{struct.unpack('<Q', struct.pack('<d', float(x)))[0]:016X}"
    if kind == FLOAT:
        return literal(float(np.float32(x)), DOUBLE)
    return str(int(x))


@dataclass
class Code:
    """A straight run of instructions; an instruction that was written before is not repeated."""

    lines: list[str] = field(default_factory=list)
    known: dict[str, Value] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    prefix: str = "t"
    exact: bool = False
    """Whether this is the form for all arguments, rather than the fast one, which has doubts."""
    doubts: list[Value] = field(default_factory=list)
    """Where these are true, a fast form was given an argument that it does not take."""
    scalar: bool = False
    """Whether functions of one number are called."""
    suspects: list[Value] = field(default_factory=list)
    """Where one of these is nan, a fast form may have made it of what it does not take."""
    passed_on: dict[str, Value] = field(default_factory=dict)
    """By the name of a value, the last sum, product, ... of it: a nan shows in that as well."""

    def make(self, text: str, kind: str) -> Value:
        found = self.known.get(text)
        if found is None:
            name = f"%{self.prefix}{len(self.known)}"
            self.lines.append(f"{name} = {text}")
            found = self.known[text] = Value(self, name, kind)
        return found

    def all_doubts(self) -> list[Value]:
        """`doubts`, and whether there is a nan among `suspects`: two are asked at once."""
        pairs: list[tuple[Value, Value]] = []
        for mine in by_kind(self.witnesses()):
            pairs += zip(mine[::2], [*mine[1::2], mine[-1]], strict=False)
        return [*self.doubts, *[x.unordered(y) for x, y in pairs]]

    def witnesses(self) -> list[Value]:
        """Values in which a nan of the suspects shows: one of those that come together in it."""
        together: dict[str, list[Value]] = {}
        for x in dict.fromkeys(self.suspects):
            last, way = x, []
            while last.name in self.passed_on:
                way.append(last.name)
                last = self.passed_on[last.name]
            self.passed_on.update(dict.fromkeys(way, last))  # the others need not go it again
            together.setdefault(last.name, [last]).append(x)
        return [last if others else x for last, x, *others in together.values()]

    def anything(self, questions: Sequence[Value]) -> Value:
        """Whether one of several truth values, in any lane, is true."""
        found = self.number(0, BOOL)
        for mine in by_kind(questions):
            total = mine[0]
            for x in mine[1:]:
                total = x | total
            found = self.union(total) | found
        return found

    def union(self, x: Value) -> Value:
        """The bits of truth values or whole numbers that are set in any lane."""
        lanes, kind = lanes_of(x.kind), element(x.kind)
        return x if lanes == 1 else self.call(f"llvm.vector.reduce.or.v{lanes}{kind}", kind, x)

    def number(self, x: Any, kind: str) -> Value:
        return Value(self, literal(x, kind), kind)

    def lane(self, x: Value, i: int) -> Value:
        """One number of a value."""
        if lanes_of(x.kind) == 1:
            return x
        return self.make(f"extractelement {x.kind} {x.name}, i64 {i}", element(x.kind))

    def with_lane(self, x: Value | None, i: int, y: Value, kind: str) -> Value:
        """A vector with another number in one lane."""
        name = "poison" if x is None else x.name
        return self.make(f"insertelement {kind} {name}, {y.kind} {y.name}, i64 {i}", kind)

    def repeated(self, x: Value, lanes: int) -> Value:
        """A number in every lane."""
        if lanes == 1:
            return x
        return self.shuffled(self.with_lane(None, 0, x, vector(x.kind, lanes)), None, [0] * lanes)

    def shuffled(self, x: Value, y: Value | None, places: Sequence[int | None]) -> Value:
        """A vector of lanes of ``x`` and, counted on, of ``y``; None where the lane is not read."""
        mask = ", ".join("i32 poison" if i is None else f"i32 {i}" for i in places)
        other = "poison" if y is None else y.name
        kind = vector(element(x.kind), len(places))
        text = f"{x.kind} {x.name}, {x.kind} {other}, <{len(places)} x i32> <{mask}>"
        return self.make(f"shufflevector {text}", kind)

    def library(self, function: str, x: Value) -> Value:
        """A function of the C library, lane by lane."""
        self.scalar = True
        found: Value | None = None
        for i in range(lanes_of(x.kind)):
            one = self.lane(x, i)
            y = self.call(function, one.kind, one)
            found = y if x.kind == one.kind else self.with_lane(found, i, y, x.kind)
        assert found is not None
        return found

    def call(self, function: str, kind: str, *args: Value) -> Value:
        """A call of a function of arguments of one type."""
        types = ", ".join(a.kind for a in args)
        self.declared.add(f"declare {kind} @{function}({types})")
        given = ", ".join(f"{a.kind} {a.name}" for a in args)
        return self.make(f"call {kind} @{function}({given})", kind)

    def intrinsic(self, name: str, *args: Value) -> Value:
        """One of LLVM's own functions of floating-point numbers."""
        kind = args[0].kind
        lanes = lanes_of(kind)
        word = "f64" if element(kind) == DOUBLE else "f32"
        return self.call(f"llvm.{name}.{word if lanes == 1 else f'v{lanes}{word}'}", kind, *args)


def by_kind(values: Sequence[Value]) -> list[list[Value]]:
    """Different values, those of a type together."""
    groups: dict[str, dict[str, Value]] = {}
    for x in values:
        groups.setdefault(x.kind, {})[x.name] = x
    return [list(group.values()) for group in groups.values()]


@dataclass(frozen=True, eq=False)
class Value:
    """The result of an instruction, or a number, or the same number in each lane."""

    code: Code
    name: str
    kind: str

    @property
    def is_number(self) -> bool:
        """Whether the value is known here."""
        return self.name[0] != "%"

    @property
    def floating(self) -> bool:
        return element(self.kind) in (DOUBLE, FLOAT)

    def like(self, kind: str) -> str:
        """The type of as many numbers of another type."""
        return vector(kind, lanes_of(self.kind))

    def _other(self, x: Any) -> str:
        return x.name if isinstance(x, Value) else literal(x, self.kind)

    def _made(self, sign: str, x: Any, swapped: bool = False) -> Value:
        table = _FLOATING if self.floating else {**_INTEGER, **_SHIFTS}
        left, right = (self._other(x), self.name) if swapped else (self.name, self._other(x))
        made = self.code.make(f"{table[sign]} {self.kind} {left}, {right}", self.kind)
        if self.floating:
            self.code.passed_on[left] = self.code.passed_on[right] = made
        return made

    def __add__(self, x: Any) -> Value:
        return self._made("+", x)

    def __radd__(self, x: Any) -> Value:
        return self._made("+", x, swapped=True)

    def __sub__(self, x: Any) -> Value:
        return self._made("-", x)

    def __rsub__(self, x: Any) -> Value:
        return self._made("-", x, swapped=True)

    def __mul__(self, x: Any) -> Value:
        return self._made("*", x)

    def __rmul__(self, x: Any) -> Value:
        return self._made("*", x, swapped=True)

    def __truediv__(self, x: Any) -> Value:
        return self._made("/", x)

    def __rtruediv__(self, x: Any) -> Value:
        return self._made("/", x, swapped=True)

    def __and__(self, x: Any) -> Value:
        return self._made("&", x)

    def __or__(self, x: Any) -> Value:
        return self._made("|", x)

    def __xor__(self, x: Any) -> Value:
        return self._made("^", x)

    def __lshift__(self, x: Any) -> Value:
        return self._made("<<", x)

    def __rshift__(self, x: Any) -> Value:
        return self._made(">>", x)

    def whole_quotient(self, n: int) -> Value:
        """The quotient of whole numbers that are not negative."""
        return self.code.make(f"udiv {self.kind} {self.name}, {n}", self.kind)

    def remainder(self, n: int) -> Value:
        """The rest of that quotient."""
        return self.code.make(f"urem {self.kind} {self.name}, {n}", self.kind)

    def __neg__(self) -> Value:
        if self.floating:
            return self.code.make(f"fneg {self.kind} {self.name}", self.kind)
        return 0 - self

    def __invert__(self) -> Value:
        return self ^ (1 if element(self.kind) == BOOL else -1)

    def _compared(self, floating: str, integer: str, x: Any) -> Value:
        word = f"fcmp {floating}" if self.floating else f"icmp {integer}"
        text = f"{word} {self.kind} {self.name}, {self._other(x)}"
        return self.code.make(text, self.like(BOOL))

    def _ordered(self, sign: str, x: Any) -> Value:
        word = _ORDERED[sign]
        return self._compared(f"o{word}", f"{'u' if element(self.kind) == BOOL else 's'}{word}", x)

    def __lt__(self, x: Any) -> Value:
        return self._ordered("<", x)

    def __le__(self, x: Any) -> Value:
        return self._ordered("<=", x)

    def __gt__(self, x: Any) -> Value:
        return self._ordered(">", x)

    def __ge__(self, x: Any) -> Value:
        return self._ordered(">=", x)

    def below(self, n: int) -> Value:
        """Whether a whole number is less, where one that is negative is more than any other."""
        text = f"icmp ult {self.kind} {self.name}, {literal(n, self.kind)}"
        return self.code.make(text, self.like(BOOL))

    def equals(self, x: Any) -> Value:
        """``==``: false for nan."""
        return self._compared("oeq", "eq", x)

    def differs(self, x: Any) -> Value:
        """``!=``: true for nan."""
        return self._compared("une", "ne", x)

    def unordered(self, x: Value) -> Value:
        """Whether one of two floating-point values is nan."""
        return self._compared("uno", "eq", x)

    def choose(self, x: Any, y: Any) -> Value:
        """``x`` where this is true, else ``y``; one of them is a value."""
        kind = x.kind if isinstance(x, Value) else y.kind
        left, right = (v.name if isinstance(v, Value) else literal(v, kind) for v in (x, y))
        text = f"select {self.kind} {self.name}, {kind} {left}, {kind} {right}"
        return self.code.make(text, kind)

    def to(self, kind: str) -> Value:
        """Converted, each lane, as NumPy's ``astype`` does it."""
        if kind == element(self.kind):
            return self
        if kind == BOOL:
            return self.differs(0)
        word = {
            (DOUBLE, FLOAT): "fptrunc", (FLOAT, DOUBLE): "fpext",
            (INT, DOUBLE): "sitofp", (INT, FLOAT): "sitofp",
            (BOOL, DOUBLE): "uitofp", (BOOL, FLOAT): "uitofp", (BOOL, INT): "zext",
        }[element(self.kind), kind]  # fmt: skip
        made = self.like(kind)
        return self.code.make(f"{word} {self.kind} {self.name} to {made}", made)

    def bits(self) -> Value:
        """The bits of a double as an integer."""
        made = self.like(INT)
        return self.code.make(f"bitcast {self.kind} {self.name} to {made}", made)

    def double(self) -> Value:
        """The double that has these bits."""
        made = self.like(DOUBLE)
        return self.code.make(f"bitcast {self.kind} {self.name} to {made}", made)
