"""The NumPy tier: a program as straight-line Python source that calls NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.rows import has_nan, roles
from vjpkit.kinds.elementwise import Ufunc

__all__ = ["Lowered", "lower"]

_PASS_NAN_ON = frozenset(
    {
        "add", "subtract", "multiply", "divide", "negative", "positive", "scale", "square",
        "reciprocal", "matmul", "sum", "reshape", "transpose", "broadcast_to", "scatter_sum",
        "concatenate", "stack", "tril", "triu", "diagonal", "roll", "real", "conj",
    }
)  # fmt: skip
"""Primitives that make nan of a nan they read, or read it not at all, whatever else they read."""


@dataclass(frozen=True)
class Lowered:
    """A program as a function of arrays; ``source`` is its text."""

    program: Program
    source: str
    run: Callable[..., tuple[Value, ...]] = field(repr=False)

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        return self.run(*values)


def lower(program: Program, private: bool = False) -> Lowered:
    """``program`` as a function of arrays; with ``private``, of fresh ones.

    ``scale`` is a plain product first: where that makes a nan that something else than arithmetic
    would read, or that would be a result, the exact form computes everything again.
    """
    exact = _Source(program, private).compile("run")
    if all(eqn.primitive.quick is None for eqn in program.equations):
        return exact
    return _Source(program, private, exact.run).compile("run")


class _Source:
    """Writes the function: one line per equation; a variable is deleted after its last use."""

    def __init__(
        self, program: Program, private: bool, exact: Callable[..., Any] | None = None
    ) -> None:
        self.program = program
        self.private = private
        self.exact = exact
        self.names: dict[Var, str] = {}
        self.scope: dict[str, Any] = {"has_nan": has_nan, "own": own, "exact": exact}
        self.lines: list[str] = []
        self.doubtful: set[Var] = set()
        """What may be nan because of a quick form, and has not been looked at."""

    def name(self, a: Atom) -> str:
        if isinstance(a, Literal):
            constant = f"c{len(self.scope)}"
            self.scope[constant] = a.value
            return constant
        return self.names.setdefault(a, f"v{len(self.names)}")

    def compile(self, name: str) -> Lowered:
        program = self.program
        parameters = ", ".join(map(self.name, program.inputs))
        last = {a: i for i, e in enumerate(program.equations) for a in (*e.inputs, *e.outputs)}
        keep = set(program.outputs)
        if self.private or self.exact is not None:
            keep.update(program.inputs)
        for i, eqn in enumerate(program.equations):
            self.equation(i, eqn)
            touched = dict.fromkeys((*eqn.inputs, *eqn.outputs))
            dead = [
                self.name(a)
                for a in touched
                if isinstance(a, Var) and last[a] == i and a not in keep
            ]
            if dead:
                self.lines.append(f"del {', '.join(dead)}")
        self.examine(program.outputs)
        results = self.results(parameters)
        body = "".join(f"    {line}\n" for line in [*self.lines, f"return ({results})"])
        source = f"def {name}({parameters}):\n{body}"
        exec(compile(source, "<vjpkit program>", "exec"), self.scope)
        return Lowered(program, source, self.scope[name])

    def equation(self, i: int, eqn: Equation) -> None:
        """The line that computes an equation."""
        primitive = eqn.primitive
        function = f"{primitive.name}_{i}"
        quick = self.exact is not None and primitive.quick is not None
        self.scope[function] = primitive.quick if quick else primitive.impl
        if quick or any(a in self.doubtful for a in eqn.inputs if isinstance(a, Var)):
            if primitive.name in _PASS_NAN_ON:
                self.doubtful.update(eqn.outputs)
            else:
                self.examine(eqn.inputs)
        arguments = [self.name(a) for a in eqn.inputs]
        for key, value in eqn.params.items():
            self.scope[f"{key}_{i}"] = value
            arguments.append(f"{key}={key}_{i}")
        targets = ", ".join(map(self.name, eqn.outputs)) + ("," if primitive.multi else "")
        self.lines.append(f"{targets} = {function}({', '.join(arguments)})")

    def examine(self, atoms: Iterable[Atom]) -> None:
        """A nan in these may be due to a quick form: let the exact one decide."""
        for a in dict.fromkeys(atoms):
            if isinstance(a, Var) and a in self.doubtful:
                self.doubtful.discard(a)
                inputs = ", ".join(map(self.name, self.program.inputs))
                self.lines.append(f"if has_nan({self.name(a)}): return exact({inputs})")

    def results(self, parameters: str) -> str:
        """The outputs; private ones are copied where they may be somebody else's."""
        if not self.private:
            return "".join(f"{self.name(a)}, " for a in self.program.outputs)
        makers = {v: e for e in self.program.equations for v in e.outputs}
        words, given = [], set[Atom]()
        for a in self.program.outputs:
            eqn = makers.get(a) if isinstance(a, Var) else None
            fresh = a not in given and eqn is not None and isinstance(eqn.primitive, Ufunc)
            words.append(
                self.name(a) if fresh or isinstance(a, Literal) else f"own({self.name(a)}, taken)"
            )
            given.add(a)
        if any(word.startswith("own") for word in words):
            everything = {self.name(v) for v in self.program.inputs}
            everything |= {w for w in words if w.startswith("v")}
            self.lines.append(f"taken = {{{', '.join(f'id({w})' for w in sorted(everything))}}}")
        return "".join(f"{word}, " for word in words)


def own(x: Value, taken: set[int]) -> Value:
    """``x``, or a copy of it where its memory is another array's or one that is ``taken``."""
    if type(x) is not np.ndarray:
        return x
    if x.base is not None or not x.flags.writeable or id(x) in taken:
        x = x.copy()
    taken.add(id(x))
    return x


roles["lower"] = lower
