"""The NumPy tier: a program as straight-line Python source that calls NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np

from vjpkit.backends.groups import SMALLEST, Group, Together, blocked, is_elementwise, schedule
from vjpkit.backends.numpy_calls import (
    COMMUTATIVE,
    FUNCTIONS,
    OPERATORS,
    constant,
    into,
    is_typed,
    number,
    place,
    plain,
    spelled,
    ufunc_call,
)
from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import note_line
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.rows import has_nan
from vjpkit.kinds.elementwise import Ufunc
from vjpkit.kinds.silence import silent
from vjpkit.passes.cancelling import without_what_cancels
from vjpkit.passes.common import with_products_shared
from vjpkit.passes.factors import with_common_factors, with_quotients
from vjpkit.passes.sums import with_products_of_sums

__all__ = [
    "Compiled",
    "Lowered",
    "Part",
    "Source",
    "Unavailable",
    "explained",
    "lower",
    "moves_only",
    "quick_form",
]

_PASS_NAN_ON = frozenset(
    {
        "add", "subtract", "multiply", "divide", "negative", "positive", "scale", "square",
        "reciprocal", "scale_divide", "matmul", "scale_matmul", "contract", "scale_contract", "sum",
        "reshape", "transpose", "broadcast_to", "scatter_sum",
        "concatenate", "stack", "tril", "triu", "diagonal", "roll", "real", "conj",
    }
)  # fmt: skip
"""Primitives that make nan of a nan they read, or read it not at all, whatever else they read."""

SMALL = 1 << 12
"""Bytes below which a value may live as long as the call: its deletion would cost more."""

FEW = 1 << 12
"""Elements up to which an array is asked for nan where it stands: a call costs about as much."""

MANY = 1 << 13
"""Elements of a product from which its factors are asked, where they are much smaller."""

MOST_KEPT = 1 << 16
"""Elements up to which an array that depends on nothing is made once."""

_KEEP_NOTHING = frozenset(
    {
        "scale", "where", "sum", "matmul", "scale_matmul", "max", "min", "same", "spread",
        "scatter_sum", "roll", "concatenate", "stack", "update",
    }
)  # fmt: skip
"""Primitives, beside ufuncs, whose results never share memory with an operand."""


class Compiled(Protocol):
    """A primitive that runs programs, and does so in a backend's form of them."""

    def compiled(
        self, backend: str, params: Mapping[str, Any]
    ) -> Callable[..., tuple[Value, ...]] | None:
        """Its function of operands; None where ``impl`` is no worse."""


def compiled_by_itself(eqn: Equation, backend: str) -> Callable[..., tuple[Value, ...]] | None:
    """The function of an equation that runs programs, in a backend's form of them."""
    if not hasattr(eqn.primitive, "compiled"):  # sooner answered than whether it is `Compiled`
        return None
    primitive: Compiled = eqn.primitive
    return primitive.compiled(backend, eqn.params)


class Unavailable(ImportError):
    """What a backend needs is missing here."""


@dataclass(frozen=True)
class Part:
    """Equations that run together, where they do, and why."""

    equations: tuple[Equation, ...]
    where: str
    why: str

    def __str__(self) -> str:
        names = " ".join(eqn.primitive.name for eqn in self.equations)
        return f"{self.where}: {names}   ({self.why})"


@dataclass(frozen=True)
class Lowered:
    """A program as a function of arrays.

    ``source`` is its text, ``parts`` what it consists of: equations, and groups of equations that
    run block by block.
    """

    program: Program
    source: str
    parts: tuple[Equation | Together, ...]
    run: Callable[..., tuple[Value, ...]] = field(repr=False)
    asked: dict[int, Equation] = field(repr=False)
    """The equation that a line of the source computes."""

    settled: ClassVar[bool] = True
    """Whether it stays what it is."""

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        try:
            return self.run(*values)
        except Exception as error:
            self.name_line(error)
            raise

    def name_line(self, error: Exception) -> None:
        """Note the user's line on an error of one of the equations."""
        trace = error.__traceback__
        while trace is not None:
            eqn = self.asked.get(trace.tb_lineno)
            if trace.tb_frame.f_code is self.run.__code__ and eqn is not None:
                position = eqn.position
                if isinstance(position, tuple):
                    note_line(error, position)
            trace = trace.tb_next

    def explain(self) -> tuple[Part, ...]:
        """Which equations run where, and why, in the order of the source."""
        return tuple(map(explained, self.parts))

    def native_ir(self) -> str:
        """The LLVM text of what runs as machine code: here, nothing."""
        return ""

    @property
    def is_native(self) -> bool:
        """Whether any part is machine code."""
        return False

    @property
    def direct(self) -> Callable[..., Any] | None:
        """The one ufunc that a call comes to, if it does: its results are the program's."""
        return None

    @property
    def silent(self) -> bool:
        """Whether no part can make NumPy warn."""
        return all(map(moves_only, self.parts))

    def compile(self) -> None:
        """Make ready: nothing is left to do."""


MOVING = frozenset({
    "broadcast_to", "concatenate", "getitem", "reshape", "roll", "stack", "transpose",
})  # fmt: skip
"""Primitives whose results are elements of their operands, about which NumPy never warns."""


def moves_only(part: Equation | Together) -> bool:
    return isinstance(part, Equation) and part.primitive.name in MOVING


def explained(part: Equation | Together) -> Part:
    """Where a part runs, and why."""
    if isinstance(part, Group):
        kind = "elements" if part.flat else "rows"
        return Part(
            (*part.equations, *part.sums),
            f"blocks of {part.block} {kind}",
            f"elementwise over {part.length} {kind}: temporaries stay in the cache",
        )
    assert isinstance(part, Equation)
    if all(not v.aval.ndim for v in part.outputs):
        return Part((part,), "one call", "a number")
    if is_elementwise(part):
        return Part((part,), "one call", f"fewer than {SMALLEST} elements, or alone among others")
    return Part((part,), "one call", "NumPy has the loop")


def lower(
    program: Program,
    private: bool = False,
    kind: type[Source] | None = None,
    fresh: bool = False,
) -> Lowered:
    """``program`` as a function of arrays.

    With ``private`` the operands are plain arrays and the results fresh ones: large elementwise
    work runs in blocks, and temporaries are written over at their last use. Without, every
    equation is one call of its primitive's function, whatever kind of array its operands are;
    with ``fresh`` the results share no memory then, either.

    ``scale`` is a plain product first, one with any product of the same factors, and what cancels
    by algebra is zero: where the one makes a nan that something else than arithmetic would read, or
    that would be a result, and where for an infinity the other would not cancel, the exact form
    computes everything again.
    """
    kind = kind or Source
    quick = kind.in_short(program) if private else program
    derivatives = has_products(program)
    if quick is program and not derivatives:
        return kind(program, private, fresh).compile()
    made: list[Lowered] = []

    def exact(*values: Value) -> tuple[Value, ...]:
        if not made:
            made.append(kind(program, private, fresh).compile())
        return made[0](*values)

    if derivatives:  # of which NumPy's warnings are no news
        exact = silent(exact)
    return kind(quick, private, fresh, exact, len(program.outputs)).compile()


def has_products(program: Program) -> bool:
    """Whether some equation is a product of derivatives, which has a quick form."""
    return any(eqn.primitive.quick is not None for eqn in program.equations)


def quick_form(program: Program) -> Program:
    """``program`` in which products are plain, what cancels is zero and sums are taken of what is
    small: see `lower`."""
    return with_products_of_sums(without_what_cancels(with_products_shared(program)))


class Names(dict[Var, str]):
    """The variables of the source, numbered as they are met."""

    def __missing__(self, v: Var) -> str:
        name = self[v] = f"v{len(self)}"
        return name


class Source:
    """Writes the function: one line per equation; a large array is deleted after its last use."""

    lowered: ClassVar[type[Lowered]] = Lowered
    backend: ClassVar[str] = "numpy"
    """By which programs inside of equations run."""

    @staticmethod
    def in_short(program: Program) -> Program:
        """What is computed first, with fewer operations."""
        return with_quotients(with_common_factors(quick_form(program)))

    def __init__(
        self,
        program: Program,
        private: bool,
        fresh: bool = False,
        exact: Callable[..., Any] | None = None,
        results: int | None = None,
    ) -> None:
        self.program = program
        self.private = private
        self.fresh = private or fresh
        self.exact = exact
        self.quiet = has_products(program)
        """Whether NumPy's warnings are no news: derivatives are among what is computed."""
        self.outputs = program.outputs[:results]
        """What the function returns; further outputs of the program are assumed to be finite."""
        self.names = Names()
        self.scope: dict[str, Any] = {
            **FUNCTIONS, "has_nan": has_nan, "own": own, "exact": exact
        }  # fmt: skip
        self.lines: list[str] = []
        self.asked: dict[int, Equation] = {}
        self.numbers: dict[Any, str] = {}
        self.doubtful: set[Var] = set()
        """What may be nan because of a quick form, and has not been looked at."""
        self.tame: dict[Var, str] = {}
        """Large products, and the word that says whether their factors let them have no nan."""
        self.keep = set(program.outputs)
        if self.fresh or exact is not None:
            self.keep.update(program.inputs)
        self.viewed = {a for e in program.equations if not _keeps_nothing(e) for a in e.inputs}
        self.minus: dict[Var, list[bool]] = {}
        """Which operands of a sum of slices are subtracted."""
        self.alone: dict[Var, Equation] = {}
        """Numbers at a place of an array of zeros, which is made when it is read."""
        self.ours: set[Var] = set()
        """Arrays that nothing else shares, so that they may be written over at their last use."""
        self.gone: set[Var] = set()
        """Arrays that were written over: their names are those of what is there now."""

    def compile(self) -> Lowered:
        program = self.program
        parameters = ", ".join(map(self.name, program.inputs))
        parts = self.schedule()
        reads = list(map(self.atoms_of, parts))
        last = {a: i for i, atoms in enumerate(reads) for a in atoms}
        lines, keep, names, gone = self.lines, self.keep, self.names, self.gone
        for i, (part, atoms) in enumerate(zip(parts, reads, strict=True)):
            dying = [a for a in atoms if last[a] == i and a not in keep]
            waiting = [a for a in atoms if a in self.alone] if self.alone else []
            if waiting and self.adds_number(part, waiting, dying):
                continue
            for a in waiting:
                self.sum_of_slices(self.alone.pop(a))
            if isinstance(part, Together):
                self.group(i, part, last)
                inner = part.members - self.ours
                dying = [a for a in dying if a not in inner]
            else:
                before = len(lines)
                self.equation(i, part, dying)
                for line in range(before, len(lines)):
                    self.asked[line + 2] = part  # counted from 1, after the one with the name
            dying = [a for a in dying if a in names and a not in gone and a.aval.nbytes >= SMALL]
            if dying:
                lines.append(f"del {', '.join([self.names[a] for a in dying])}")
        self.examine(self.outputs)
        self.require_finite(program.outputs[len(self.outputs) :])
        results = self.results()
        body = "".join(f"    {line}\n" for line in [*self.lines, f"return ({results})"])
        source = f"def run({parameters}):\n{body}"
        exec(compile(source, "<vjpkit program>", "exec"), self.scope)
        return self.lowered(program, source, tuple(parts), self.scope["run"], self.asked)

    def schedule(self) -> Sequence[Equation | Together]:
        """The equations in the order of the source, and which run as one."""
        equations = self.program.equations
        if not self.private:
            return equations
        strided = {v for e in equations if _is_strided(e) for v in e.outputs}
        return schedule(self.with_differences(equations), partial(blocked, strided=strided))

    def with_differences(self, equations: Sequence[Equation]) -> Sequence[Equation]:
        """Of sums of slices that read a minus, sums with a difference: to the bit the same."""
        sums = {e for e in equations if self.adds_slices(e)}
        if not sums:
            return equations
        minus: dict[Atom, Equation] = {
            e.outputs[0]: e for e in equations if e.primitive.name == "negative"
        }
        for eqn in equations:
            for a in used(eqn.inputs) if eqn not in sums else ():
                minus.pop(a, None)
        for a in used(self.program.outputs):
            minus.pop(a, None)
        out = []
        for eqn in equations:
            if eqn in sums and any(a in minus for a in eqn.inputs):
                inputs = [minus[a].inputs[0] if a in minus else a for a in eqn.inputs]
                self.minus[eqn.outputs[0]] = [a in minus for a in eqn.inputs]
                eqn = Equation(eqn.primitive, tuple(inputs), eqn.params, eqn.outputs, eqn.position)
            if not any(v in minus for v in eqn.outputs):
                out.append(eqn)
        return out

    def atoms_of(self, part: Equation | Together) -> list[Var]:
        """The variables that a part reads and defines, once each."""
        if isinstance(part, Equation):
            atoms = [a for a in part.inputs if type(a) is Var]
            once = len(atoms) < 2 or (len(atoms) == 2 and atoms[0] is not atoms[1])
            return [*(atoms if once else dict.fromkeys(atoms)), *part.outputs]
        equations = [*part.equations, *part.sums]
        atoms = [a for e in equations for a in (*e.inputs, *e.outputs) if type(a) is Var]
        return list(dict.fromkeys(atoms))

    # ---- names -------------------------------------------------------------------------------

    def name(self, a: Atom) -> str:
        """The variable of the source that holds ``a``."""
        if isinstance(a, Literal):
            return self.constant(a.value)
        return self.names[a]

    def constant(self, value: Any) -> str:
        """A name for a value that the source needs."""
        name = f"c{len(self.scope)}"
        self.scope[name] = value
        return name

    def ones(self, n: int, dtype: np.dtype[Any]) -> str:
        """A name for a vector of ones."""
        name = f"ones_{n}_{dtype.name}"
        if name not in self.scope:
            self.scope[name] = np.ones(n, dtype)
        return name

    def function(self, value: Any, name: str) -> str:
        """A function by its own name, which several equations share."""
        if self.scope.setdefault(name, value) is not value:
            return self.constant(value)
        return name

    def operand(self, a: Atom, eqn: Equation) -> str:
        """An operand of a ufunc."""
        if isinstance(a, Var):
            return self.name(a)
        key = a, is_typed(a, eqn), eqn.outputs[0].aval.dtype
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = self.constant(constant(a, eqn))
        return found

    # ---- equations ---------------------------------------------------------------------------

    def equation(self, i: int, eqn: Equation, dying: Sequence[Var]) -> None:
        """The line that computes an equation."""
        primitive = eqn.primitive
        quick = self.exact is not None and primitive.quick is not None
        if quick or self.doubtful:
            self.examine(self.doubts(eqn, quick))
        if quick and _is_of_few(eqn):
            word = self.tame[eqn.outputs[0]] = f"tame_{i}"
            factors = " and ".join([_asks_for_norm(self.name(a)) for a in eqn.inputs])
            self.lines.append(f"{word} = {factors}")
            self.scope["inf"] = np.inf
        call = ufunc_call(eqn) if self.private and (primitive.quick is None or quick) else None
        if call is not None and eqn.outputs[0].aval.ndim:
            self.ufunc_line(eqn, *call, dying)
            return
        if self.private and _keeps_nothing(eqn):
            self.ours.update([v for v in eqn.outputs if v.aval.ndim])
        if self.private and self.adds_slices(eqn):
            if self.is_number_alone(eqn):
                self.alone[eqn.outputs[0]] = eqn
            else:
                self.sum_of_slices(eqn)
            return
        overwrite = getattr(primitive, "overwrite", None)
        if self.private and overwrite is not None and self.overwrites(eqn, dying):
            self.write(i, eqn, overwrite)
            return
        if self.private and primitive.name in ("scatter_sum", "add_at") and _adds_elements(eqn):
            self.sum_of_elements(eqn)
            return
        if self.private and primitive.name == "eye" and eqn.outputs[0].aval.size <= MOST_KEPT:
            self.keep_constant(eqn)
            return
        targets = "".join([f"{self.name(v)}{',' * primitive.multi} " for v in eqn.outputs])
        text = self.loop_of_numbers(i, eqn) or self.expression(i, eqn, quick)
        self.lines.append(f"{targets}= {text}" if targets else text)

    def loop_of_numbers(self, i: int, eqn: Equation) -> str | None:
        """The call of a loop over numbers; None for anything else."""
        if not self.private or eqn.primitive.name != "scan":
            return None
        from vjpkit.backends.numpy_loops import loop_of_numbers

        run = loop_of_numbers(eqn)
        if run is None:
            return None
        self.scope[f"loop_{i}"] = run
        return f"loop_{i}({', '.join(map(self.word, eqn.inputs))})"

    def expression(self, i: int, eqn: Equation, quick: bool) -> str:
        """The call that gives the outputs of an equation."""
        primitive = eqn.primitive
        words = [self.word(a) for a in eqn.inputs]
        if self.private and (primitive.quick is None or quick):
            text = spelled(eqn, words, self.ones, self.quiet)
            if text is not None:
                return text
        function = f"{primitive.name}_{i}"
        compiled = self.compiled(eqn)
        if compiled is not None:
            self.scope[function] = compiled
            return f"{function}({', '.join(words)})"
        self.scope[function] = primitive.quick if quick else primitive.impl
        for key, value in eqn.params.items():
            words.append(f"{key}={self.parameter(value, f'{key}_{i}')}")
        return f"{function}({', '.join(words)})"

    def compiled(self, eqn: Equation) -> Callable[..., tuple[Value, ...]] | None:
        """The function of an equation that runs programs, in this backend's form of them."""
        return compiled_by_itself(eqn, self.backend) if self.private else None

    def word(self, a: Atom) -> str:
        """An operand of a function or an operator."""
        text = number(a.value) if isinstance(a, Literal) else None
        return text or self.name(a)

    def parameter(self, value: Any, name: str) -> str:
        """A parameter: its text where that is Python, else ``name``, which then stands for it."""
        if plain(value):
            return repr(value)
        self.scope[name] = value
        return name

    def adds_slices(self, eqn: Equation) -> bool:
        """Whether the equation is a sum of values at their places, slices without repetition."""
        return eqn.primitive.name == "scatter_sum" and _adds_slices(eqn)

    def sum_of_slices(self, eqn: Equation) -> None:
        """Values added, each at its place, to a new array."""
        (out,), indices = eqn.outputs, eqn.params["indices"]
        dtype = self.function(out.aval.dtype, out.aval.dtype.name)
        self.lines.append(f"{self.name(out)} = zeros({out.aval.shape}, {dtype})")
        minus = self.minus.get(out, [False] * len(indices))
        for i, (a, index, less) in enumerate(zip(eqn.inputs, indices, minus, strict=True)):
            # The first is written, signs of zeros with it: there is nothing yet to add to.
            part, word = f"{self.name(out)}{place(index)}", self.word(a)
            if i == 0 and less and a.aval.ndim:
                function = self.function(np.negative, "negative")
                self.lines.append(f"{function}({word}, {part})")
            else:
                sign = ("= -" if less else "= ") if i == 0 else ("-= " if less else "+= ")
                self.lines.append(f"{part} {sign}{word}")

    def overwrites(self, eqn: Equation, dying: Sequence[Var]) -> bool:
        """Whether a write may go into the array that is written to: nothing else reads it."""
        x = eqn.inputs[-2]
        alone = isinstance(x, Var) and x in dying and x in self.ours and x not in self.viewed
        return alone and eqn.inputs.count(x) == 1

    def write(self, i: int, eqn: Equation, overwrite: Callable[..., Value]) -> None:
        """A write into an array that is not needed any more as it was."""
        *arrays, x, value = eqn.inputs
        index, steps = eqn.params["index"], eqn.params["steps"]
        out, word = self.name(eqn.outputs[0]), self.name(x)
        if not steps:
            self.lines.append(f"{word}{place(index, *map(self.word, arrays))} = {self.word(value)}")
            self.lines.append(f"{out} = {word}")
            return
        self.scope[f"overwrite_{i}"] = overwrite
        words = [*map(self.word, eqn.inputs)]
        words += [f"{k}={self.parameter(v, f'{k}_{i}')}" for k, v in eqn.params.items()]
        self.lines.append(f"{out} = overwrite_{i}({', '.join(words)})")

    def is_number_alone(self, eqn: Equation) -> bool:
        """Whether a sum of slices is one number at its place, which may wait to be added to."""
        (out,) = eqn.outputs
        single = len(eqn.inputs) == 1 and not eqn.inputs[0].aval.ndim
        return single and out not in self.keep and out not in self.minus

    def adds_number(
        self, part: Equation | Together, waiting: Sequence[Var], dying: Sequence[Var]
    ) -> bool:
        """Whether a sum became an addition to one element of an operand that nothing else needs."""
        if isinstance(part, Together) or len(waiting) != 1 or waiting[0] not in dying:
            return False
        call = ufunc_call(part)
        if call is None or call[0] is not np.add:
            return False
        (number_at,), (out,) = waiting, part.outputs
        others = [a for a in call[1] if a is not number_at]
        if len(call[1]) != 2 or len(others) != 1 or not isinstance(others[0], Var):
            return False
        x = others[0]
        free = x in dying and x in self.ours and x not in self.viewed
        if not free or x.aval != out.aval or number_at.aval != out.aval:
            return False
        self.examine(self.doubts(part, self.quick(part)))
        eqn = self.alone.pop(number_at)
        word = self.name(x)
        self.lines.append(f"{word}{place(eqn.params['indices'][0])} += {self.word(eqn.inputs[0])}")
        self.take_over(out, x)
        return True

    def take_over(self, out: Var, x: Var) -> None:
        """Let a result be what is in the memory of ``x``, by its name."""
        self.gone.add(x)
        self.names[out] = self.names[x]
        self.ours.add(out)

    def keep_constant(self, eqn: Equation) -> None:
        """A small array that depends on nothing, made here; nobody writes to it."""
        value = eqn.primitive.impl(**eqn.params)
        value.flags.writeable = False
        self.lines.append(f"{self.name(eqn.outputs[0])} = {self.constant(value)}")

    def sum_of_elements(self, eqn: Equation) -> None:
        """Values added to a new vector, each at its position, again where it repeats."""
        (out,) = eqn.outputs
        dtype = self.function(out.aval.dtype, out.aval.dtype.name)
        start, arrays, values = _added(eqn)
        beginning = f"{self.name(start)}.copy()" if start else f"zeros({out.aval.shape}, {dtype})"
        self.lines.append(f"{self.name(out)} = {beginning}")
        for pair in zip(arrays, values, strict=True):
            words = [self.name(a) + (".reshape(-1)" if a.aval.ndim > 1 else "") for a in pair]
            self.lines.append(f"add_at({self.name(out)}, {', '.join(words)})")

    def ufunc_line(
        self, eqn: Equation, ufunc: np.ufunc, inputs: tuple[Atom, ...], dying: Sequence[Var]
    ) -> None:
        """A ufunc, or its operator; an operand that is not needed any more becomes the result.

        Operators are half as long to compile. One element is sooner written to new memory: NumPy
        asks at length whether operand and result overlap.
        """
        (out,) = eqn.outputs
        words = [self.operand(a, eqn) for a in inputs]
        operator = OPERATORS.get(ufunc.__name__)
        over = self.written_over(out, dying)
        if over is None:
            self.ours.add(out)
            if operator is None:
                text = f"{self.function(ufunc, ufunc.__name__)}({', '.join(words)})"
            else:
                text = f"{words[0]} {operator} {words[1]}"
            self.lines.append(f"{self.names[out]} = {text}")
            return
        self.take_over(out, over)
        name = self.names[out]
        if operator is not None and words[0] == name:
            self.lines.append(f"{name} {operator}= {words[1]}")
        elif operator in COMMUTATIVE:
            self.lines.append(f"{name} {operator}= {words[0]}")
        else:
            function = self.function(ufunc, ufunc.__name__)
            self.lines.append(f"{function}({', '.join([*words, into(ufunc, name)])})")

    def written_over(self, out: Var, dying: Sequence[Var]) -> Var | None:
        """An operand, of those that are not needed any more, whose memory a result may take."""
        if out.aval.size == 1:
            return None
        ours, viewed = self.ours, self.viewed
        for a in dying:
            if a in ours and a is not out and a not in viewed and a.aval == out.aval:
                return a
        return None

    # ---- nan ---------------------------------------------------------------------------------

    def quick(self, eqn: Equation) -> bool:
        """Whether the equation is computed in its quick form."""
        return self.exact is not None and eqn.primitive.quick is not None

    def doubts(self, eqn: Equation, quick: bool) -> list[Var]:
        """Operands that must be looked at before the equation reads them."""
        doubtful = [a for a in eqn.inputs if isinstance(a, Var) and a in self.doubtful]
        name = eqn.primitive.name
        if not quick and not doubtful:
            return []
        if name in _PASS_NAN_ON or (name == "where" and eqn.inputs[0] not in self.doubtful):
            if not quick and _is_repeated(doubtful, eqn):
                return doubtful
            self.doubtful.update(eqn.outputs)
            return []
        return doubtful

    def examine(self, atoms: Iterable[Atom]) -> None:
        """A nan in these may be due to a quick form: let the exact one decide."""
        asked = [a for a in dict.fromkeys(atoms) if isinstance(a, Var) and a in self.doubtful]
        if asked:
            self.doubtful.difference_update(asked)
            self.lines.append(self.examination(*[(a, self.name(a)) for a in asked]))

    def examination(self, *asked: tuple[Var, str]) -> str:
        """The line that asks whether one of some values has a nan."""
        questions = [
            (f"not {self.tame[a]} and " if a in self.tame else "") + _asks_for_nan(a.aval, word)
            for a, word in asked
        ]
        inputs = ", ".join(map(self.name, self.program.inputs))
        return f"if {' or '.join(questions)}: return exact({inputs})"

    def require_finite(self, assumed: Sequence[Atom]) -> None:
        """Where one of these is not finite, let the exact form compute everything again."""
        if assumed:
            words = ", ".join(map(self.name, assumed))
            inputs = ", ".join(map(self.name, self.program.inputs))
            self.scope["finite"] = finite
            self.lines.append(f"if not finite({words}): return exact({inputs})")

    # ---- groups ------------------------------------------------------------------------------

    def group(self, i: int, group: Together, last: dict[Var, int]) -> None:
        """The loop over the blocks of a group."""
        from vjpkit.backends.numpy_blocks import Blocks

        assert isinstance(group, Group)
        outputs = self.needed(i, group, last)
        Blocks(self, group, outputs).write()
        self.ours.update(outputs)

    def needed(self, i: int, group: Together, last: dict[Var, int]) -> list[Var]:
        """What a group makes that is used outside, in the order of its equations."""
        made = [v for e in group.equations for v in e.outputs]
        return [v for v in made if last[v] > i or v in self.keep]

    # ---- results -----------------------------------------------------------------------------

    def results(self) -> str:
        """The outputs; fresh ones are copied where they may be somebody else's."""
        if not self.fresh:
            return "".join(f"{self.name(a)}, " for a in self.outputs)
        makers = {v: e for e in self.program.equations for v in e.outputs}
        words, given = [], set[Atom]()
        for a in self.outputs:
            eqn = makers.get(a) if isinstance(a, Var) else None
            fresh = eqn is not None and (a in self.ours or _keeps_nothing(eqn))
            fresh = fresh and a not in given
            word = self.name(a)
            words.append(word if fresh or isinstance(a, Literal) else f"own({word}, taken)")
            given.add(a)
        if any(word.startswith("own") for word in words):
            arrays = [a for a in self.outputs if isinstance(a, Var) and a.aval.ndim]
            everything = {self.name(v) for v in (*self.program.inputs, *arrays)}
            self.lines.append(f"taken = {{{', '.join(f'id({w})' for w in sorted(everything))}}}")
        return "".join(f"{word}, " for word in words)


def _keeps_nothing(eqn: Equation) -> bool:
    if isinstance(eqn.primitive, Ufunc) or eqn.primitive.name in _KEEP_NOTHING:
        return True
    if eqn.primitive.name != "getitem" or eqn.outputs[0].aval.ndim:
        return False
    return all(type(e) is int for e in eqn.params["index"].entries)  # a number, not a view


def _is_of_few(eqn: Equation) -> bool:
    """Whether it is quicker to look at the factors of a product than at the product."""
    if eqn.primitive.name not in ("scale", "scale_matmul", "scale_contract"):
        return False
    (out,) = eqn.outputs
    few = out.aval.size > 4 * sum([a.aval.size for a in eqn.inputs]) and out.aval.size >= MANY
    return few and out.aval.dtype.char in "fd"


def _asks_for_norm(word: str) -> str:
    """The condition that the squares of an array add up to a finite number: `of_finite_norm`, where
    it stands, for a call would cost as much."""
    return f'(flat := {word}.ravel("K")).dot(flat) < inf'


def _asks_for_nan(aval: Aval, word: str) -> str:
    """The condition that an array or a number has a nan, as `has_nan` finds it."""
    if not aval.ndim:
        return f"{word} != {word}"
    if 0 < aval.size <= FEW:
        return f"(greatest := {word}.item({word}.argmax())) != greatest"
    return f"has_nan({word})"


def _is_repeated(atoms: Sequence[Var], eqn: Equation) -> bool:
    """Whether values are much smaller than the result: it is cheaper to look at them."""
    return 4 * sum([a.aval.size for a in atoms]) <= sum([v.aval.size for v in eqn.outputs])


def _is_strided(eqn: Equation) -> bool:
    """Whether the result may be a view that is not one piece of memory."""
    static = not (eqn.primitive.name == "getitem" and eqn.params["index"].arrays)
    view = eqn.primitive.name in ("getitem", "transpose", "broadcast_to")
    return view and static and eqn.outputs[0].aval.ndim > 1


def _adds_slices(eqn: Equation) -> bool:
    """Whether a sum of values at their places is one of slices: no place occurs twice in one."""
    (out,) = eqn.outputs
    static = not any(index.arrays for index in eqn.params["indices"])
    return (
        static and bool(out.aval.ndim) and all(a.aval.dtype == out.aval.dtype for a in eqn.inputs)
    )


def _adds_elements(eqn: Equation) -> bool:
    """Whether values are added to a vector at arrays of integers, each of the values' shape."""
    (out,) = eqn.outputs
    start, arrays, values = _added(eqn)
    params = eqn.params
    indices = [params["index"]] if eqn.primitive.name == "add_at" else params["indices"]
    plain = all(repr(index) == "[@]" for index in indices)
    vectors = plain and out.aval.ndim == 1
    if not vectors or (
        start is not None and (isinstance(start, Literal) or start.aval != out.aval)
    ):
        return False
    integers = all(a.aval.dtype.kind in "iu" and a.aval.ndim for a in arrays)
    pairs = zip(arrays, values, strict=True)
    return integers and all(v.aval == Aval(a.aval.shape, out.aval.dtype) for a, v in pairs)


def _added(eqn: Equation) -> tuple[Atom | None, Sequence[Atom], Sequence[Atom]]:
    """What values are added to, None for zeros; index arrays, and the values."""
    if eqn.primitive.name == "add_at":
        *arrays, start, value = eqn.inputs
        return start, arrays, [value]
    count = len(eqn.params["indices"])
    return None, eqn.inputs[:-count], eqn.inputs[-count:]


def finite(*values: Value) -> bool:
    """Whether no element is nan or infinite."""
    return all(np.isfinite(x).all() for x in values)


def own(x: Value, taken: set[int]) -> Value:
    """``x``, or a copy of it where its memory is another array's or one that is ``taken``.

    A number if it has no axes.
    """
    if type(x) is not np.ndarray:
        return x
    if not x.shape:
        return x[()]
    if x.base is not None or not x.flags.writeable or id(x) in taken:
        x = x.copy()
    taken.add(id(x))
    return x
