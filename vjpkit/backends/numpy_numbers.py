"""Equations over few numbers, as arithmetic of Python's floats.

A call of NumPy takes half a microsecond however few numbers it works on, a product of two of
Python's floats the fortieth part of it. A run of equations over small arrays is written out number
by number: an array is a tuple of local variables, so that slicing, joining and reshaping cost
nothing, and only what enters and leaves the run is ever an array.

Python raises where NumPy warns and gives infinity or nan, or gives the same without a warning:
where that happens, or shows in a result, the equations run on arrays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from string import Formatter
from struct import Struct
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from vjpkit.backends.groups import FEW_WAITING, Together, beginning, is_elementwise, schedule
from vjpkit.backends.numpy_calls import number
from vjpkit.backends.numpy_source import Lowered, Part, Source, explained, has_products, lower
from vjpkit.core.aval import Shape, Value
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.passes.splitting import MOST

__all__ = [
    "FLOAT", "LONGEST", "UFUNCS", "Few", "Line", "SourceOfNumbers", "Word", "Writer", "is_known",
    "words",
]  # fmt: skip

LONGEST = 2000
"""Operations on numbers up to which a program has any: compiling a line takes microseconds."""

DEEPEST = 20
"""Operations of one expression, one in another."""

FLOAT = np.dtype("float64")

Word: TypeAlias = str
Axes: TypeAlias = tuple[int, ...] | None
Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""An array of words, each the name of a number, or its text."""

# ---- what is written ---------------------------------------------------------------------------

_EXPRESSIONS = {
    "divide": "{} / {}", "square": "{0} * {0}", "reciprocal": "1.0 / {}",
    "maximum": "{0} if {0} >= {1} or {0} != {0} else {1}",
    "minimum": "{0} if {0} <= {1} or {0} != {0} else {1}",
    "where": "{1} if {0} else {2}",
    "greater": "{} > {}", "greater_equal": "{} >= {}", "less": "{} < {}", "less_equal": "{} <= {}",
    "equal": "{} == {}", "not_equal": "{} != {}", "same": "{0} == {1} or {0} != {0} and {1} != {1}",
    "logical_and": "{} and {}", "logical_or": "{} or {}", "logical_not": "not {}",
    "sign": "1.0 if {0} > 0.0 else -1.0 if {0} < 0.0 else {0} + 0.0",
}  # fmt: skip
"""Elementwise primitives as expressions; the results of NumPy's scalars where nothing is raised."""

_ARITHMETIC = {
    "add": "sum", "subtract": "difference", "multiply": "product", "scale": "scaled",
    "negative": "negative",
}  # fmt: skip
"""Primitives in which some known numbers are left out, by the writer's methods."""

_FUNCTIONS = {
    "absolute": abs, "fabs": abs, "sqrt": math.sqrt, "cbrt": math.cbrt,
    "exp": math.exp, "exp2": math.exp2, "expm1": math.expm1,
    "log": math.log, "log2": math.log2, "log10": math.log10, "log1p": math.log1p,
    "sin": math.sin, "cos": math.cos, "tan": math.tan,
    "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "arctan2": math.atan2,
    "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "arcsinh": math.asinh, "arccosh": math.acosh, "arctanh": math.atanh, "hypot": math.hypot,
    "power": math.pow,
}  # fmt: skip
"""Elementwise primitives as functions of the C library, within rounding of NumPy's."""

UFUNCS: dict[str, np.ufunc] = {f.__name__: getattr(np, name) for name, f in _FUNCTIONS.items()}
"""NumPy's, by the names of the C library's."""

_POWERS = {2: "square", 0.5: "sqrt", -1: "reciprocal"}
"""The primitives that NumPy has for these powers."""

_PRODUCTS = frozenset({"matmul", "scale_matmul", "contract", "scale_contract"})

_BY_ELEMENTS = _PRODUCTS | {
    "getitem", "reshape", "transpose", "broadcast_to", "concatenate", "stack", "roll", "diagonal",
    "sum", "prod",
}  # fmt: skip
"""Primitives whose functions serve arrays of any objects that add and multiply."""


class Number:
    """A number by its name, with which NumPy's functions of object arrays can compute.

    ``value`` is what it is, where that is known; ``nothing`` says that it is a zero beside the
    diagonal, or where nothing was added: a zero that has no sign.
    """

    __slots__ = ("nothing", "value", "word", "writer")

    def __init__(
        self, writer: Writer, word: Word, value: float | None = None, nothing: bool = False
    ) -> None:
        self.writer = writer
        self.word = word
        self.value = value
        self.nothing = nothing

    def __add__(self, other: Number) -> Number:
        return self.writer.sum(self, other)

    def __mul__(self, other: Number) -> Number:
        return self.writer.product(self, other)

    def __radd__(self, zero: int) -> Number:
        return self  # the zero with which `numpy.einsum` begins a sum


class Line(NamedTuple):
    """A line of source: a form with the names of numbers in its places."""

    form: str
    operands: tuple[Word, ...]
    word: Word = ""
    """What is computed; nothing if the line only looks at numbers."""

    def names(self) -> list[Word]:
        """The names of numbers, as often as they occur."""
        places = [field for _, field, _, _ in Formatter().parse(self.form) if field is not None]
        return [self.operands[int(field or i)] for i, field in enumerate(places)]


class Writer:
    """Writes equations number by number.

    ``before`` are the lines that take numbers out of arrays.
    """

    def __init__(self, source: Source, fresh: Iterator[Word]) -> None:
        self.source = source
        self.fresh = fresh
        self.before: list[str] = []
        self.lines: list[Line] = []
        self.values: dict[Var, Numbers] = {}

    def written(self, outputs: Iterable[Atom]) -> list[str]:
        """The lines that compute ``outputs``; what is read once stands where it is read.

        A number that has no name is dead, and its memory free, as soon as it is used.
        """
        kept = {word for a in outputs for word in words(self.read(a))}
        uses = Counter(name for line in self.lines for name in line.names())
        inside: dict[Word, str] = {}
        depth: Counter[Word] = Counter()
        lines = []
        for line in self.lines:
            operands = [inside.pop(name, name) for name in line.operands]
            text = line.form.format(*operands)
            depth[line.word] = 1 + max([depth[name] for name in line.operands], default=0)
            if uses[line.word] == 1 and line.word not in kept and depth[line.word] < DEEPEST:
                inside[line.word] = f"({text})"
            else:
                depth[line.word] = 0
                lines.append(f"{line.word} = {text}" if line.word else text)
        return lines

    def made(self, expression: str, *operands: Number) -> Number:
        """The number that an expression of others gives."""
        line = Line(expression, tuple([x.word for x in operands]), next(self.fresh))
        self.lines.append(line)
        return Number(self, line.word)

    def sum(self, x: Number, y: Number) -> Number:
        """``x + y``, where nothing is left out."""
        if x.nothing or y.nothing:
            return y if x.nothing else x
        if x.value is not None and y.value is not None:
            return self.literal(x.value + y.value)
        return self.made("{} + {}", x, y)

    def difference(self, x: Number, y: Number) -> Number:
        """``x - y``, where nothing is left out."""
        if x.nothing or y.nothing:
            return x if y.nothing else self.negative(y)
        if x.value is not None and y.value is not None:
            return self.literal(x.value - y.value)
        return self.made("{} - {}", x, y)

    def product(self, x: Number, y: Number) -> Number:
        """``x * y``, where ones are left out."""
        if x.value is not None and y.value is not None:
            return self.literal(x.value * y.value, x.nothing or y.nothing)
        if x.value == 1 or y.value == 1:
            return y if x.value == 1 else x
        return self.made("{} * {}", x, y)

    def scaled(self, x: Number, y: Number) -> Number:
        """A product in which a zero wins."""
        if x.value == 0 or y.value == 0:
            return x if x.value == 0 else y
        return self.product(x, y)

    def negative(self, x: Number) -> Number:
        return self.made("-{}", x) if x.value is None else self.literal(-x.value, x.nothing)

    def literal(self, value: Any, nothing: bool = False) -> Number:
        """A number that is known."""
        if isinstance(value, bool | np.bool_):
            return Number(self, repr(bool(value)))
        value = 0.0 if nothing else float(value)
        return Number(self, number(value) or self.source.constant(value), value, nothing)

    def zeros(self, shape: Shape) -> Numbers:
        """Places where nothing is yet."""
        return np.full(shape, self.literal(0.0, nothing=True), object)

    def each(self, made: Callable[..., Number], *operands: Numbers) -> Numbers:
        """A number for each element of arrays that broadcast against each other."""
        return _numbers(np.frompyfunc(made, len(operands), 1)(*operands))

    def expressions(self, expression: str, *operands: Numbers) -> Numbers:
        """An expression of each element."""
        return self.each(partial(self.made, expression), *operands)

    def reduced(self, expression: str, x: Numbers, axes: Axes, keepdims: bool) -> Numbers:
        """An expression of two numbers from one element to the next along some axes."""
        made = np.frompyfunc(partial(self.made, expression), 2, 1)
        for axis in sorted(range(x.ndim) if axes is None else axes, reverse=True):
            x = _numbers(made.reduce(x, axis, keepdims=keepdims))
        return x

    # ---- equations -------------------------------------------------------------------------------

    def equations(self, equations: Iterable[Equation]) -> None:
        """The numbers that equations make, if no nan decides which."""
        for eqn in equations:
            asked = self.source.doubts(eqn, self.source.quick(eqn))
            self.require_no_nan(asked)
            self.source.doubtful.difference_update(asked)
            self.values[eqn.outputs[0]] = self.computed(eqn)

    def require_no_nan(self, asked: Iterable[Var]) -> None:
        """Go on only where none of ``asked`` is nan."""
        for word in dict.fromkeys(word for a in asked for word in words(self.read(a))):
            self.lines.append(Line("if {0} != {0}: raise ArithmeticError", (word,)))

    def require_finite(self, atoms: Iterable[Atom]) -> None:
        """Go on only where all numbers of these are finite."""
        made = [word for a in atoms if a.aval.dtype == FLOAT for word in words(self.read(a))]
        if made:
            form = f"if ({' + '.join(['{}'] * len(made))}) * 0.0 != 0.0: raise ArithmeticError"
            self.lines.append(Line(form, tuple(made)))

    def computed(self, eqn: Equation) -> Numbers:
        name, operands = eqn.primitive.name, [self.read(a) for a in eqn.inputs]
        if name in _RULES:
            return _RULES[name](self, *operands, **eqn.params)
        if name in _BY_ELEMENTS:
            function = eqn.primitive.quick or eqn.primitive.impl
            return _numbers(function(*operands, **eqn.params))
        if name in _ARITHMETIC:
            return self.each(getattr(self, _ARITHMETIC[name]), *operands)
        return self.expressions(self.expression(eqn), *operands)

    def expression(self, eqn: Equation) -> str:
        """An elementwise primitive in terms of its operands."""
        name, (_, *rest) = eqn.primitive.name, eqn.inputs
        if name == "power" and isinstance(rest[0], Literal):
            name = _POWERS.get(rest[0].value, name)
        if name in _EXPRESSIONS:
            return _EXPRESSIONS[name]
        binary = rest and name not in _POWERS.values()
        return f"{self.function(name)}({'{0}, {1}' if binary else '{0}'})"

    def function(self, name: str) -> str:
        """The name of a function of numbers in the source."""
        function = _FUNCTIONS[name]
        return self.source.function(function, function.__name__)

    def read(self, a: Atom) -> Numbers:
        """The numbers of an operand."""
        if isinstance(a, Literal):
            return _numbers(self.literal(a.value))
        return self.values[a] if a in self.values else self.unpacked(a)

    def unpacked(self, v: Var) -> Numbers:
        """The numbers of an array, taken out of it."""
        numbers, array = self.named(v), self.source.name(v)
        names = ", ".join(words(numbers))
        if v.aval.ndim:
            flat = array if v.aval.ndim == 1 else f"{array}.reshape(-1)"
            self.before.append(f"{names}, = {flat}.tolist()")
        else:
            kind = {"b": "bool", "i": "int", "f": "float"}[v.aval.dtype.kind]
            self.before.append(f"{names} = {kind}({array})")
        return numbers

    def named(self, v: Var) -> Numbers:
        """Local variables for the numbers of an array."""
        numbers = np.empty(v.aval.size, object)
        numbers[:] = [Number(self, next(self.fresh)) for _ in range(v.aval.size)]
        self.values[v] = numbers.reshape(v.aval.shape)
        return self.values[v]

    def packed(self, v: Var) -> list[str]:
        """The lines that make an array, or number, of NumPy's: the value of a variable."""
        name, names, dtype = self.source.name(v), ", ".join(words(self.values[v])), v.aval.dtype
        if not v.aval.ndim:
            strong = f"{self.source.constant(dtype.type)}({names})"
            return [f"{name} = {names if v.aval.weak else strong}"]
        form = f"{v.aval.size}{dtype.char}"
        empty = self.source.function(np.empty, "empty")
        pack = self.source.function(_packer(form), f"pack_{form}".replace("?", "b"))
        return [
            f"{name} = {empty}({v.aval.shape}, {self.source.constant(dtype)})",
            f"{pack}({name}, 0, {names})",
        ]


@lru_cache(maxsize=256)
def _packer(form: str) -> Callable[..., None]:
    """What writes numbers into an array, sooner than NumPy reads a list of them."""
    return Struct(form).pack_into


def _numbers(value: Any) -> Numbers:
    return np.asarray(value, object)


def words(numbers: Numbers) -> list[Word]:
    """The names, in C order."""
    return [x.word for x in numbers.flat]


# ---- primitives with a way of their own --------------------------------------------------------


def _convert(writer: Writer, x: Numbers, dtype: Any) -> Numbers:
    return writer.expressions("float({})", x)


def _fill(writer: Writer, shape: Shape, value: Any, dtype: Any) -> Numbers:
    return np.full(shape, writer.literal(value), object)


def _eye(writer: Writer, shape: Shape, k: int, dtype: Any) -> Numbers:
    out, ones = writer.zeros(shape), np.eye(shape[0], shape[1], k, bool)
    out[ones] = writer.literal(1.0)
    return out


def _max(writer: Writer, x: Numbers, axes: Axes, keepdims: bool) -> Numbers:
    return writer.reduced(_EXPRESSIONS["maximum"], x, axes, keepdims)


def _min(writer: Writer, x: Numbers, axes: Axes, keepdims: bool) -> Numbers:
    return writer.reduced(_EXPRESSIONS["minimum"], x, axes, keepdims)


def _norm2(writer: Writer, x: Numbers, axes: Axes, keepdims: bool) -> Numbers:
    squares = writer.reduced("{} + {}", x * x, axes, keepdims)
    return writer.expressions(f"{writer.function('sqrt')}({{}})", squares)


def _spread(writer: Writer, x: Numbers, mask: Numbers, axes: Axes, keepdims: bool) -> Numbers:
    count = writer.reduced("{} + {}", mask, axes, True)
    share = writer.expressions("{} / {}", x.reshape(count.shape), count)
    return writer.expressions("{} if {} else 0.0", share, mask)


def _scatter_sum(
    writer: Writer, *values: Numbers, shape: Shape, dtype: Any, indices: Sequence[Any]
) -> Numbers:
    out = writer.zeros(shape)
    for index, value in zip(indices, values, strict=True):
        out[index.entries] = np.add(out[index.entries], value)
    return out


_RULES: dict[str, Callable[..., Numbers]] = {
    "convert": _convert,
    "eye": _eye,
    "fill": _fill,
    "max": _max,
    "min": _min,
    "norm2": _norm2,
    "scatter_sum": _scatter_sum,
    "spread": _spread,
}

_KNOWN = frozenset({*_EXPRESSIONS, *_ARITHMETIC, *_FUNCTIONS, *_BY_ELEMENTS, *_RULES})

# ---- which equations ---------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Few(Together):
    """Equations over few numbers. ``quick`` allows what stands for an exact form."""

    patience: ClassVar[float] = FEW_WAITING

    quick: bool = False
    lines: int = 0
    saved: float = 0.0
    """Nanoseconds that the equations take less than calls of NumPy."""

    def takes(self, eqn: Equation) -> bool:
        if len(eqn.outputs) != 1 or not is_known(eqn, self.quick):
            return False
        _, cost, saved = _costs(eqn)
        return cost <= 1.5 * saved

    def add(self, eqn: Equation) -> None:
        super().add(eqn)
        count, cost, saved = _costs(eqn)
        self.lines += count
        self.saved += saved - cost

    def pays(self) -> bool:
        """Whether this is quicker with what it takes to read arrays and make them."""
        read = {a for e in self.equations for a in used(e.inputs)}
        ends = [*(read - self.members), *(self.members - read)]
        cost = sum([_ARRAY if v.aval.ndim else _SCALAR for v in ends])
        return self.saved > cost + sum([_ELEMENT * v.aval.size for v in ends])

    def program(self, outputs: Sequence[Var]) -> Program:
        """The equations on their own."""
        read = dict.fromkeys(a for e in self.equations for a in used(e.inputs))
        return Program([a for a in read if a not in self.members], self.equations, outputs)

    def explained(self) -> Part:
        why = f"{self.lines} operations on single numbers, each a fraction of a call"
        return Part(tuple(self.equations), "Python's floats", why)


_ARRAY, _SCALAR, _ELEMENT = 200.0, 50.0, 20.0
"""Nanoseconds to unpack or make an array, a number, and for each element."""
_CALL, _OPERATOR, _VIEW = 450.0, 60.0, 150.0
"""Nanoseconds of a call of NumPy's, of an operator of its scalars, of a view."""
_OPERATION, _FUNCTION = 14.0, 40.0
"""Nanoseconds of an expression, and of a function, of floats."""
_VIEWS = frozenset({"getitem", "reshape", "transpose", "diagonal"})
_OPERATORS = frozenset({"add", "subtract", "multiply", "divide", "scale", "negative"})


def _costs(eqn: Equation) -> tuple[int, float, float]:
    """Lines of an equation, and nanoseconds of them and of NumPy."""
    name, out = eqn.primitive.name, eqn.outputs[0].aval
    if name in _VIEWS:
        return 0, 0.0, _VIEW
    sizes = [a.aval.size for a in eqn.inputs] or [0]
    elementwise = is_elementwise(eqn)
    count = out.size if elementwise else max(sum(sizes), out.size)
    if name in _PRODUCTS:
        count = 2 * math.isqrt(math.prod(sizes) * out.size)
    each = _FUNCTION if name in _FUNCTIONS else _OPERATION
    scalar = elementwise and not out.shape and name in _OPERATORS
    return count, count * each, _OPERATOR if scalar else _CALL


def is_known(eqn: Equation, quick: bool) -> bool:
    """Whether the equation is one of few numbers that can be written out."""
    name, params = eqn.primitive.name, eqn.params
    if name not in _KNOWN or not (eqn.primitive.quick is None or quick):
        return False
    if not all(v.aval.dtype.kind in "bf" for v in eqn.outputs):
        return False
    if not all(map(_is_few, (*eqn.inputs, *eqn.outputs))):
        return False
    if name == "getitem":
        return not params["index"].arrays
    if name == "scatter_sum":
        return not any(index.arrays for index in params["indices"])
    if name == "power":
        return isinstance(eqn.inputs[1], Literal)
    if name == "where":
        return eqn.inputs[0].aval.dtype == bool
    return not name.startswith("logical") or all(a.aval.dtype == bool for a in eqn.inputs)


def _is_long(parts: Iterable[Equation | Together]) -> bool:
    """Whether more lines would be of few numbers than a program has any."""
    lines = 0
    for part in parts:
        if isinstance(part, Equation) and is_known(part, True):
            lines += _costs(part)[0]
            if lines > LONGEST:
                return True
    return False


def _is_few(a: Atom) -> bool:
    """Whether a value is some of Python's numbers, or truth values."""
    dtype = a.aval.dtype
    return (dtype == FLOAT or dtype.kind in "bi") and 0 < a.aval.size <= MOST


# ---- the source --------------------------------------------------------------------------------


class LoweredNumbers(Lowered):
    """A program as a function of arrays, parts of it as arithmetic of Python's floats."""

    @property
    def silent(self) -> bool:
        """Whether floats compute all of it, and what does so exactly is silent."""
        floats = all(isinstance(part, Few) and part.quick for part in self.parts)
        return floats and (not self.parts or has_products(self.program))

    def explain(self) -> tuple[Part, ...]:
        return tuple(p.explained() if isinstance(p, Few) else explained(p) for p in self.parts)


class SourceOfNumbers(Source):
    """Writes the function, equations over few numbers as expressions of floats."""

    lowered: ClassVar[type[Lowered]] = LoweredNumbers

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fresh_words: Iterator[Word] = map("n{}".format, count())

    def schedule(self) -> Sequence[Equation | Together]:
        parts = super().schedule()
        return schedule(parts, self.begun) if self.private and not _is_long(parts) else parts

    def adds_slices(self, eqn: Equation) -> bool:
        return super().adds_slices(eqn) and not is_known(eqn, self.exact is not None)

    def begun(self, eqn: Equation) -> Few | None:
        """A run that begins with an equation, if one can."""
        return beginning(Few(quick=self.exact is not None), eqn)

    def group(self, i: int, group: Together, last: dict[Var, int]) -> None:
        if isinstance(group, Few):
            self.run_of_numbers(i, group, self.needed(i, group, last))
        else:
            super().group(i, group, last)

    def run_of_numbers(self, i: int, group: Few, outputs: list[Var]) -> None:
        """The lines of a run, and the call of NumPy where it comes to no finite numbers."""
        writer = Writer(self, self.fresh_words)
        writer.equations(group.equations)
        self.doubtful -= group.members
        writer.require_finite(outputs)
        self.lines += [
            *writer.before,
            "try:",
            *[f"    {line}" for line in writer.written(outputs)],
            "    failed = False",
            "except (ArithmeticError, ValueError):",
            "    failed = True",
            f"if failed: {self.otherwise(i, group, outputs)}",
            "else:",
            *[f"    {line}" for v in outputs for line in writer.packed(v)],
        ]

    def otherwise(self, i: int, group: Few, outputs: list[Var]) -> str:
        """The line that computes a run on arrays; all of a quick form's program exactly."""
        if self.exact is not None:
            return f"return exact({', '.join(map(self.name, self.program.inputs))})"
        program = group.program(outputs)
        self.scope[f"on_arrays_{i}"] = OnArrays(program)
        given, names = (", ".join(map(self.name, atoms)) for atoms in (program.inputs, outputs))
        return f"{names}, = on_arrays_{i}({given})"


class OnArrays:
    """A program by calls of NumPy, made when it is called."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        lowered: Lowered = self.program.cached(
            "on arrays", lambda: lower(self.program, private=True)
        )
        return lowered(*values)
