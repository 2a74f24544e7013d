"""The text of programs, a public format: `to_text`, `to_html`; this is version 1.

`vjpkit.parsing.parse` reads it.

::

    program(a: f64[3], b: f64[]; c: f64[3]) {
      d: f64[3] = multiply c 2.0  # model.py:12
      e: f64[], f: f64[3] = call[program=program(g: f64[3]) {
        h: f64[] = sum[axes=None, keepdims=False] g  # loss.py:7
        return h, g
      }] d                        # model.py:14
      return f, 0.0
    }

Grammar, in which ``"x"`` is literal, ``[x]`` optional, ``x*`` any number of times, and ``x,*`` any
number of times with commas between::

    program  = "program" ["v" digits] [label] "(" var,* [";" var,*] ")"
               "{" equation* "return" atom,* "}"
    var      = name ":" dtype "[" digits,* "]" ["*"]      the star: weak, decides no promotion
    equation = (var,* | "()") "=" primitive ["[" (name "=" value),* "]"] atom* end-of-line
    atom     = name | number
    number   = integer | float | "inf" | "nan" | complex | "True" | "False" | dtype "(" number ")"
    value    = number | string | "None" | dtype | "(" value,* ")" | program | label | registered
    label    = "@" digits
    dtype    = "bool" | "i8".."i64" | "u8".."u64" | "f16" | "f32" | "f64" | "longdouble"
             | "c64" | "c128" | "clongdouble"; in another byte order NumPy's ">f8"

The program is linear in the inputs after ";". Bare numbers are Python's, and weak; ``f32(0.1)`` is
a NumPy scalar. Numbers, strings and tuples are written as in Python, ``(1+2j)``, ``(0,)``, and read
back exactly. Names are lower case; a program sees none but its own. One that occurs more than once
is labelled the first time, and its label stands for it afterwards. Between tokens there may be
white space, and anywhere a comment from ``#`` to the end of the line; ``# file:line`` after an
equation is the user's line. Other classes of parameters have the text that `register_param` gives
them; those without one (functions) print as ``<name>``, which cannot be read.

Text without "v" is of version 1. Text without the user's lines is canonical: programs are equal
exactly when their texts are, as far as their parameters have text.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vjpkit.core.aval import dtype_name
from vjpkit.core.ir import (
    Atom,
    Equation,
    Literal,
    Program,
    Var,
    linear_variables,
    scalar_text,
    subprograms,
)

__all__ = ["FORMAT_VERSION", "PARAMS", "STRING", "register_param", "to_html", "to_text"]

FORMAT_VERSION = 1

PARAMS: dict[type, tuple[str, Callable[[str], Any]]] = {}


def register_param(cls: type, pattern: str, parse: Callable[[str], Any]) -> None:
    """Give a class of parameters a text: its repr, which ``pattern`` matches and ``parse`` reads.

    The pattern must not match where another kind of value begins: with a digit, a quote, a
    parenthesis, or a word of the format.
    """
    PARAMS[cls] = pattern, parse


# ----------------------------------------------------------------------------------------- printing

_WIDTH = 100
_NOTE_COLUMN = 72
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_RESERVED = {"inf", "nan", "infj", "nanj", "bool", "return", "program"}


def _fresh_names() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..., without the words of the format."""
    for n in itertools.count(1):
        words = map("".join, itertools.product(_LETTERS, repeat=n))
        yield from (word for word in words if word not in _RESERVED)


class _Printer:
    """Writes one text, in which every name is defined once."""

    def __init__(self, program: Program, source: bool) -> None:
        self.names: dict[Var, str] = {}
        self.fresh = _fresh_names()
        self.repeated = _repeated(program)
        self.labels: dict[Program, str] = {}
        self.scopes: list[tuple[Program, dict[Var, str]]] = []
        self.source = source
        self.text = self.program(program, "")

    def program(self, program: Program, margin: str) -> str:
        label = ""
        if self.repeated and program in self.repeated:
            if program in self.labels:
                return self.labels[program]
            self.labels[program] = f"@{len(self.labels) + 1}"
            label = " " + self.labels[program]
        outer, self.names = self.names, {}
        self.scopes.append((program, self.names))
        variables = [self.var(v) for v in program.inputs]
        split = len(variables) - program.linear
        header = ", ".join(variables[:split])
        if program.linear:
            header += f"; {', '.join(variables[split:])}"
        inner = margin + "  "
        rows = [self.equation(e, inner) for e in program.equations]
        returned = f"return {', '.join(map(self.atom, program.outputs))}".rstrip()
        self.names = outer
        lines = [_filled(f"program{label}({header}) {{", inner), *_annotated(rows)]
        return "\n".join([*lines, _filled(inner + returned, inner), margin + "}"])

    def equation(self, eqn: Equation, margin: str) -> tuple[str, str]:
        """An equation, and the comment that names the user's line."""
        head = f"{margin}{', '.join(map(self.var, eqn.outputs)) or '()'} = {eqn.primitive.name}"
        if eqn.params:
            named = ((name, eqn.params[name]) for name in sorted(eqn.params))
            head += f"[{', '.join([f'{name}={self.value(v, margin)}' for name, v in named])}]"
        source = eqn.source if self.source else None
        return " ".join([head, *map(self.atom, eqn.inputs)]), f"# {source}" if source else ""

    def var(self, v: Var) -> str:
        return f"{self.atom(v)}: {v.aval}"

    def atom(self, a: Atom) -> str:
        if isinstance(a, Literal):
            return repr(a)
        name = self.names.get(a)
        if name is None:
            name = self.names[a] = next(self.fresh)
        return name

    def value(self, value: Any, margin: str) -> str:
        if value is None or isinstance(value, str | bool | int | float | complex | np.generic):
            return scalar_text(value)
        if isinstance(value, tuple):
            comma = "," if len(value) == 1 else ""
            return f"({', '.join([self.value(v, margin) for v in value])}{comma})"
        if isinstance(value, np.dtype):
            return dtype_name(value)
        if isinstance(value, Program):
            return self.program(value, margin)
        if type(value) in PARAMS:
            return repr(value)
        return f"<{getattr(value, '__name__', type(value).__name__).strip('<>')}>"


def _repeated(program: Program) -> set[Program]:
    """The programs that occur more than once inside."""
    counts: Counter[Program] = Counter()
    pending = [program]
    while pending:
        for inner in subprograms(pending.pop()):
            counts[inner] += 1
            if counts[inner] == 1:
                pending.append(inner)
    return {inner for inner, count in counts.items() if count > 1}


def _filled(text: str, margin: str) -> str:
    """A list, broken into lines between its items."""
    lines: list[str] = []
    for item in re.split("(?<=[,;]) ", text):
        if lines and len(lines[-1]) + len(item) < _WIDTH:
            lines[-1] += " " + item
        else:
            lines.append(margin + "  " + item if lines else item)
    return "\n".join(lines)


def _annotated(rows: list[tuple[str, str]]) -> Iterator[str]:
    """Equations with their comments in one column."""
    widths = [len(text) - text.rfind("\n") - 1 for text, _ in rows]
    column = max((width for width in widths if width <= _NOTE_COLUMN), default=0)
    for (text, note), width in zip(rows, widths):
        yield f"{text}{' ' * (column - width)}  {note}" if note else text


def to_text(program: Program, source: bool = False, color: bool = False) -> str:
    """The text of a program; ``source`` adds the user's lines, ``color`` a terminal's colours.

    >>> from vjpkit.core.aval import Aval
    >>> a = Var(Aval((3,), float))
    >>> print(to_text(Program([a], [], [a, Literal(2.0)])))
    program(a: f64[3]) {
      return a, 2.0
    }
    """
    printer = _Printer(program, source)
    return _painted(printer.text, printer, _ANSI, "\33[{}m{}\33[0m") if color else printer.text


# ------------------------------------------------------------------------------------------ colours

_LINES = 400
_ANSI = {"comment": "2", "type": "2", "primitive": "34", "keyword": "1", "linear": "33"}
_CSS = {
    "comment": "color:#888;font-style:italic",
    "type": "color:#888",
    "primitive": "color:#2b7bba",
    "keyword": "font-weight:bold",
    "linear": "color:#c4622d",
}
STRING = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_WORDS = (
    rf"(?P<comment>#.*)|(?P<string>{STRING})|(?P<entity>&\w+;)|(?P<key>\w+(?==))"
    r"|(?P<type>(?<=: )[^\s\[]+\[[\d,]*\]\*?)|(?P<primitive>(?<== )[\w.]+)"
    r"|(?P<keyword>\b(?:program|return)\b)|(?P<name>\b[a-z]+\b)"
)


def _painted(text: str, printer: _Printer, styles: dict[str, str], template: str) -> str:
    """``text`` with styles; variables that depend on linear inputs have their own."""
    linear = {names.get(v) for program, names in printer.scopes for v in linear_variables(program)}

    def paint(m: re.Match[str]) -> str:
        kind = "linear" if m.lastgroup == "name" and m[0] in linear else m.lastgroup
        return template.format(styles[kind], m[0]) if kind in styles else m[0]

    return re.sub(_WORDS, paint, text)


def to_html(program: Program) -> str:
    """A notebook's view: the text with the user's lines; what depends on linear inputs is marked.

    Of a very long program the middle is left out.
    """
    import html  # its table of entities is read for notebooks only

    printer = _Printer(program, source=True)
    lines = html.escape(printer.text, quote=False).split("\n")
    if len(lines) > _LINES:
        left_out = f"  # {len(lines) - _LINES:,} lines are left out; print(program) shows all"
        lines[_LINES - 50 : -50] = [left_out]
    text = _painted("\n".join(lines), printer, _CSS, '<span style="{}">{}</span>')
    return f'<pre style="line-height:1.4;overflow-x:auto">{text}</pre>'
