"""The text of programs: `to_text`, `parse`, `to_html`. A public format; this is version 1.

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

import html
import itertools
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from string import ascii_lowercase
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, dtype_name, dtype_named
from vjpkit.core.errors import Source
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

__all__ = ["FORMAT_VERSION", "parse", "register_param", "to_html", "to_text"]

FORMAT_VERSION = 1

_PARAMS: dict[type, tuple[re.Pattern[str], Callable[[str], Any]]] = {}


def register_param(cls: type, pattern: str, parse: Callable[[str], Any]) -> None:
    """Give a class of parameters a text: its repr, which ``pattern`` matches and ``parse`` reads.

    The pattern must not match where another kind of value begins: with a digit, a quote, a
    parenthesis, or a word of the format.
    """
    _PARAMS[cls] = re.compile(pattern), parse


# ----------------------------------------------------------------------------------------- printing

_WIDTH = 100
_NOTE_COLUMN = 72
_RESERVED = {"inf", "nan", "infj", "nanj", "bool", "return", "program"}


def _fresh_names() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..., without the words of the format."""
    for n in itertools.count(1):
        words = map("".join, itertools.product(ascii_lowercase, repeat=n))
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
        if type(value) in _PARAMS:
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

    >>> a = Var(Aval((3,), np.float64))
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
_STRING = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_WORDS = re.compile(
    rf"(?P<comment>#.*)|(?P<string>{_STRING})|(?P<entity>&\w+;)|(?P<key>\w+(?==))"
    r"|(?P<type>(?<=: )[^\s\[]+\[[\d,]*\]\*?)|(?P<primitive>(?<== )[\w.]+)"
    r"|(?P<keyword>\b(?:program|return)\b)|(?P<name>\b[a-z]+\b)"
)


def _painted(text: str, printer: _Printer, styles: dict[str, str], template: str) -> str:
    """``text`` with styles; variables that depend on linear inputs have their own."""
    linear = {names.get(v) for program, names in printer.scopes for v in linear_variables(program)}

    def paint(m: re.Match[str]) -> str:
        kind = "linear" if m.lastgroup == "name" and m[0] in linear else m.lastgroup
        return template.format(styles[kind], m[0]) if kind in styles else m[0]

    return _WORDS.sub(paint, text)


def to_html(program: Program) -> str:
    """A notebook's view: the text with the user's lines; what depends on linear inputs is marked.

    Of a very long program the middle is left out.
    """
    printer = _Printer(program, source=True)
    lines = html.escape(printer.text, quote=False).split("\n")
    if len(lines) > _LINES:
        left_out = f"  # {len(lines) - _LINES:,} lines are left out; print(program) shows all"
        lines[_LINES - 50 : -50] = [left_out]
    text = _painted("\n".join(lines), printer, _CSS, '<span style="{}">{}</span>')
    return f'<pre style="line-height:1.4;overflow-x:auto">{text}</pre>'


# ------------------------------------------------------------------------------------------ reading


def _token(pattern: str) -> re.Pattern[str]:
    return re.compile(r"(?:\s|\#[^\n]*)*" + pattern)


_PROGRAM = _token(r"program\b\s*(?:v(\d+)\b)?\s*(@\d+)?\s*\(")
_VAR = _token(r"([a-z]+)\s*:\s*([<>|]?[A-Za-z]\w*\[[\d,\s]*\]\*?)")
_PRIMITIVE = _token(r"([A-Za-z_][\w.]*)(\[)?")
_PARAM = _token(r"(\w+)\s*=")
_TEXT = _token(f"({_STRING})")
_SCALAR = _token(r"(\([^\s,()]+\)|[^\s,;()[\]{}=#]+(?:\([^\s,()]*\))?)")
_LABEL, _RETURN = _token(r"(@\d+)"), _token(r"return\b")
_NOTHING, _EQUALS, _COMMA, _SEMICOLON = map(_token, (r"\(\s*\)", "=", ",", ";"))
_OPEN, _CLOSE, _BEGIN, _END, _CLOSE_PARAMS = map(_token, (r"\(", r"\)", r"\{", r"\}", r"\]"))
_BLANK, _LAST = _token(""), _token(r"\Z")
_REST = re.compile(r"([^#\n]*)(?:#([^\n]*))?(?:\n|\Z)")
_SOURCE = re.compile(r"(.+):(\d+)")
_REAL = r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan)"
_INTEGER, _FLOAT, _STRONG = re.compile(r"[+-]?\d+"), re.compile(_REAL), re.compile(r"(\w+)\((.+)\)")
_COMPLEX = re.compile(rf"\(?({_REAL}(?=[+-]))?({_REAL})j\)?")


def parse(text: str) -> Program:
    """The program that ``text`` describes: ``parse(str(program)) == program``.

    A `ValueError` says line, column, what was expected and what was found. Types are read, not
    checked: `vjpkit.core.ir.check` does that.

    >>> parse("program(a: f64[3]) { return a, 2.0 }").out_avals
    (f64[3], f64[]*)
    """
    parser = _Parser(text)
    program = parser.program()
    parser.take(_LAST, "the end of the text")
    return program


class _Parser:
    """Recursive descent over a text; ``position`` is behind the last token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.labels: dict[str, Program] = {}

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def take(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        if found := self.match(pattern):
            return found
        self.match(_BLANK)
        word = re.search(r"\w+|\S", self.text[self.position :])
        self.fail(f"expected {expected}, found {word[0] if word else 'the end'!r}", self.position)

    def items(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Matches with commas between."""
        while found := self.match(pattern):
            yield found
            if not self.match(_COMMA):
                return

    def fail(self, problem: str, position: int) -> NoReturn:
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        raise ValueError(f"line {line}, column {column}: {problem}")

    def program(self) -> Program:
        head = self.take(_PROGRAM, "'program('")
        if head[1] and int(head[1]) != FORMAT_VERSION:
            self.fail(f"format {head[1]} is not read, only {FORMAT_VERSION}", head.start(1))
        env: dict[str, Var] = {}
        inputs = self.define(self.items(_VAR), env)
        linear = self.define(self.items(_VAR), env) if self.match(_SEMICOLON) else ()
        self.take(_CLOSE, "', name: type' or ')'")
        self.take(_BEGIN, "'{'")
        equations = []
        while not self.match(_RETURN):
            equations.append(self.equation(env))
        outputs = [self.atom(m[1], env, m.start(1)) for m in self.items(_SCALAR)]
        self.take(_END, "', output' or '}'")
        program = Program((*inputs, *linear), equations, outputs, len(linear))
        if head[2]:
            self.labels[head[2]] = program
        return program

    def define(self, variables: Iterable[re.Match[str]], env: dict[str, Var]) -> tuple[Var, ...]:
        defined = []
        for m in variables:
            if m[1] in env:
                self.fail(f"{m[1]!r} is defined already", m.start(1))
            try:
                env[m[1]] = Var(_aval(m[2]))
            except ValueError as error:
                self.fail(str(error), m.start(2))
            defined.append(env[m[1]])
        return tuple(defined)

    def equation(self, env: dict[str, Var]) -> Equation:
        from vjpkit.core.primitive import PRIMITIVES

        outputs = list(self.items(_VAR))
        if not outputs and not self.match(_NOTHING):
            self.take(_VAR, "an equation ('name: type = ...') or 'return'")
        self.take(_EQUALS, "', name: type' or '='")
        name = self.take(_PRIMITIVE, "the name of a primitive")
        primitive = PRIMITIVES.get(name[1])
        if primitive is None:
            self.fail(f"no primitive is called {name[1]!r}", name.start(1))
        params = self.params(name[1]) if name[2] else {}
        start = self.position
        rest = self.take(_REST, "operands")
        inputs = tuple([env.get(word) or self.atom(word, env, start) for word in rest[1].split()])
        return Equation(primitive, inputs, params, self.define(outputs, env), _source(rest[2]))

    def atom(self, word: str, env: dict[str, Var], start: int) -> Atom:
        try:
            return env.get(word) or _literal(word)
        except (ValueError, OverflowError):
            place = re.compile(rf"(?<!\S){re.escape(word)}").search(self.text, start)
            position = start if place is None else place.start()
            self.fail(f"{word!r} is neither a variable defined above nor a number", position)

    def params(self, primitive: str) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name in self.items(_PARAM):
            if name[1] in params:
                self.fail(f"the parameter {name[1]!r} is given twice", name.start(1))
            params[name[1]] = self.value(f"the parameter {name[1]!r} of {primitive}")
        self.take(_CLOSE_PARAMS, "', name=value' or ']'")
        return params

    def value(self, owner: str) -> Any:
        if _PROGRAM.match(self.text, self.position):
            return self.program()
        if m := self.match(_LABEL):
            return self.labels.get(m[1]) or self.fail(f"no program is labelled {m[1]}", m.start(1))
        if m := self.match(_TEXT):
            return literal_eval(m[1])
        self.match(_BLANK)
        for pattern, parse_param in _PARAMS.values():
            if m := self.match(pattern):
                try:
                    return parse_param(m[0])
                except ValueError as error:
                    self.fail(f"{owner}: {error}", m.start())
        if m := self.match(_SCALAR):
            return self.scalar_or_dtype(m, owner)
        self.take(_OPEN, f"a value of {owner}")
        items = []
        while not self.match(_CLOSE):
            items.append(self.value(owner))
            if not self.match(_COMMA):
                self.take(_CLOSE, "',' or ')'")
                break
        return tuple(items)

    def scalar_or_dtype(self, m: re.Match[str], owner: str) -> Any:
        if m[1] == "None":
            return None
        for read in (_scalar, dtype_named):
            try:
                return read(m[1])
            except (ValueError, OverflowError):
                pass
        why = "has no text" if m[1][0] == "<" else "is no value"
        self.fail(f"{owner} is {m[1]}, which {why} that can be read", m.start(1))


@lru_cache(maxsize=4096)
def _aval(text: str) -> Aval:
    name, _, rest = text.partition("[")
    shape = tuple([int(n) for n in rest.strip("]*").split(",") if n.strip()])
    return Aval(shape, dtype_named(name), weak=rest.endswith("*"))


@lru_cache(maxsize=4096)
def _source(comment: str | None) -> Source | None:
    found = _SOURCE.fullmatch((comment or "").strip())
    return Source(found[1], int(found[2]), "") if found else None


@lru_cache(maxsize=4096)
def _literal(text: str) -> Literal:
    return Literal(_scalar(text))


def _scalar(text: str) -> Any:
    """The number that `scalar_text` writes so; a `ValueError` if there is none."""
    if m := _STRONG.fullmatch(text):
        return _strong(dtype_named(m[1]), m[2])
    if text in ("True", "False"):
        return text == "True"
    for pattern, kind in ((_INTEGER, int), (_FLOAT, float), (_COMPLEX, complex)):
        if pattern.fullmatch(text):
            return kind(text)
    raise ValueError(text)


def _strong(dtype: np.dtype[Any], text: str) -> Any:
    """A NumPy scalar; extended precision is read from the decimal itself."""
    if dtype.kind in "biu":
        value = _scalar(text)
        if (type(value) is bool) == (dtype.kind == "b") and isinstance(value, int):
            return dtype.type(value)
    elif dtype.kind == "f" and _FLOAT.fullmatch(text):
        return dtype.type(text)
    elif dtype.kind == "c" and (m := _COMPLEX.fullmatch(text)):
        part = dtype.type(0).real.dtype.type
        return np.array([part(m[1] or 0), part(m[2])]).view(dtype)[0]
    raise ValueError(text)
