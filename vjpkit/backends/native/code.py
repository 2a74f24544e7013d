"""Values in single assignment, written down as LLVM text by Python's operators."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["BOOL", "DOUBLE", "FLOAT", "INT", "TYPES", "Code", "Value", "literal"]

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


def literal(x: Any, kind: str) -> str:
    """A Python number as LLVM writes it: floating ones by their bits."""
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
    suspects: list[Value] = field(default_factory=list)
    """Where one of these is nan, a fast form may have made it of what it does not take."""

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
        for kind in (DOUBLE, FLOAT):
            mine = list({x.name: x for x in self.suspects if x.kind == kind}.values())
            pairs += zip(mine[::2], [*mine[1::2], mine[-1]] if mine else (), strict=False)
        return [*self.doubts, *[x.unordered(y) for x, y in pairs]]

    def number(self, x: Any, kind: str) -> Value:
        return Value(self, literal(x, kind), kind)

    def call(self, function: str, kind: str, *args: Value) -> Value:
        """A call of a function of arguments of one type."""
        types = ", ".join(a.kind for a in args)
        self.declared.add(f"declare {kind} @{function}({types})")
        given = ", ".join(f"{a.kind} {a.name}" for a in args)
        return self.make(f"call {kind} @{function}({given})", kind)

    def intrinsic(self, name: str, *args: Value) -> Value:
        """One of LLVM's own functions of floating-point numbers."""
        kind = args[0].kind
        return self.call(f"llvm.{name}.{'f64' if kind == DOUBLE else 'f32'}", kind, *args)


@dataclass(frozen=True, eq=False)
class Value:
    """The result of an instruction, or a number."""

    code: Code
    name: str
    kind: str

    @property
    def floating(self) -> bool:
        return self.kind in (DOUBLE, FLOAT)

    def _other(self, x: Any) -> str:
        return x.name if isinstance(x, Value) else literal(x, self.kind)

    def _made(self, sign: str, x: Any, swapped: bool = False) -> Value:
        table = _FLOATING if self.floating else {**_INTEGER, **_SHIFTS}
        left, right = (self._other(x), self.name) if swapped else (self.name, self._other(x))
        return self.code.make(f"{table[sign]} {self.kind} {left}, {right}", self.kind)

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

    def __neg__(self) -> Value:
        if self.floating:
            return self.code.make(f"fneg {self.kind} {self.name}", self.kind)
        return 0 - self

    def __invert__(self) -> Value:
        return self ^ (1 if self.kind == BOOL else -1)

    def _compared(self, floating: str, integer: str, x: Any) -> Value:
        word = f"fcmp {floating}" if self.floating else f"icmp {integer}"
        return self.code.make(f"{word} {self.kind} {self.name}, {self._other(x)}", BOOL)

    def _ordered(self, sign: str, x: Any) -> Value:
        word = _ORDERED[sign]
        return self._compared(f"o{word}", f"{'u' if self.kind == BOOL else 's'}{word}", x)

    def __lt__(self, x: Any) -> Value:
        return self._ordered("<", x)

    def __le__(self, x: Any) -> Value:
        return self._ordered("<=", x)

    def __gt__(self, x: Any) -> Value:
        return self._ordered(">", x)

    def __ge__(self, x: Any) -> Value:
        return self._ordered(">=", x)

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
        return self.code.make(f"select i1 {self.name}, {kind} {left}, {kind} {right}", kind)

    def to(self, kind: str) -> Value:
        """Converted as NumPy's ``astype`` does it."""
        if kind == self.kind:
            return self
        if kind == BOOL:
            return self.differs(0)
        word = {
            (DOUBLE, FLOAT): "fptrunc", (FLOAT, DOUBLE): "fpext",
            (INT, DOUBLE): "sitofp", (INT, FLOAT): "sitofp",
            (BOOL, DOUBLE): "uitofp", (BOOL, FLOAT): "uitofp", (BOOL, INT): "zext",
        }[self.kind, kind]  # fmt: skip
        return self.code.make(f"{word} {self.kind} {self.name} to {kind}", kind)

    def bits(self) -> Value:
        """The bits of a double as an integer."""
        return self.code.make(f"bitcast double {self.name} to i64", INT)

    def double(self) -> Value:
        """The double that has these bits."""
        return self.code.make(f"bitcast i64 {self.name} to double", DOUBLE)
