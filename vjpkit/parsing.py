"""Reading the text of programs; `vjpkit.core.text` documents the format."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, dtype_named
from vjpkit.core.errors import Source
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.core.text import FORMAT_VERSION, PARAMS, STRING

__all__ = ["parse"]


def _token(pattern: str) -> re.Pattern[str]:
    return re.compile(r"(?:\s|\#[^\n]*)*" + pattern)


_PROGRAM = _token(r"program\b\s*(?:v(\d+)\b)?\s*(@\d+)?\s*\(")
_VAR = _token(r"([a-z]+)\s*:\s*([<>|]?[A-Za-z]\w*\[[\d,\s]*\]\*?)")
_PRIMITIVE = _token(r"([A-Za-z_][\w.]*)(\[)?")
_PARAM = _token(r"(\w+)\s*=")
_TEXT = _token(f"({STRING})")
_SCALAR = _token(r"(\([^\s,()'\"]+\)|[^\s,;()[\]{}=#]+(?:\([^\s,()]*\))?)")
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
    if not isinstance(text, str):
        raise TypeError(f"parse: the text of a program is wanted, got {type(text).__name__}")
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
        outputs = list(self.items(_VAR))
        if not outputs and not self.match(_NOTHING):
            self.take(_VAR, "an equation ('name: type = ...') or 'return'")
        self.take(_EQUALS, "', name: type' or '='")
        name = self.take(_PRIMITIVE, "the name of a primitive")
        try:
            primitive = lookup(name[1])
        except ValueError as error:
            self.fail(str(error), name.start(1))
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
        for text, parse_param in PARAMS.values():
            if m := self.match(re.compile(text)):
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
