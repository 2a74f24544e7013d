"""A primitive at a point: what every law is checked on, and the tools to check it with."""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Primitive, Sample
from vjpkit.core.rows import Row, Rows, new_slots, pull_rows, push_rows, settled
from vjpkit.core.staging import (
    Builder,
    ClosedProgram,
    push_staged,
    seed_cotangents,
    transpose_into,
)
from vjpkit.kinds import ConstantUfunc, Ufunc
from vjpkit.testing.compare import random_like
from vjpkit.transforms.forward import Dual, Duals

__all__ = [
    "Case", "Linearization", "cases_of", "cast", "dense", "linearize", "read_only", "samples_of",
    "tangents", "transposed",
]  # fmt: skip

Values = tuple[Value, ...]
Maybe = Sequence[Value | None]
_REFUSALS = (TypeError, ValueError, IndexError, ArithmeticError, np.linalg.LinAlgError, Warning)
"""What NumPy raises for operands that it does not take (complex ones warn, where they are cut)."""


# ----------------------------------------------------------------------------------- linearizations


@dataclass(frozen=True)
class Linearization:
    """A function at a point: its outputs, and the rows that map tangents and cotangents."""

    outs: Values
    rows: list[Row]
    count: int
    slots: tuple[int | None, ...]
    """Slots of the outputs; None for one that does not depend on the operands."""
    arity: int

    def push(self, ts: Maybe) -> list[Value | None]:
        """Tangents of the outputs."""
        slots = [*ts, *new_slots(self.count - self.arity)]
        push_rows(self.rows, slots)
        return [None if k is None else slots[k] for k in self.slots]

    def pull(self, cts: Maybe) -> list[Value | None]:
        """Cotangents of the operands."""
        slots = new_slots(self.count)
        seed_cotangents(slots, self.slots, cts)
        pull_rows(self.rows, slots)
        return [None if slots[i] is None else settled(slots[i]) for i in range(self.arity)]

    @property
    def live(self) -> list[int]:
        """Outputs that depend on the operands."""
        return [i for i, k in enumerate(self.slots) if k is not None]

    def program(self, avals: Sequence[Aval]) -> ClosedProgram:
        """The push as a linear program of its non-zero outputs."""
        builder = Builder()
        ts = [builder.argument(a) for a in avals]
        slots = [*ts, *new_slots(self.count - self.arity)]
        push_staged(builder, self.rows, slots)
        outs = [slots[k] for k in self.slots if k is not None]
        return builder.finish([t for t in outs if t is not None], linear=len(ts))


def linearize(f: Callable[..., Values], xs: Sequence[Value]) -> Linearization:
    """``f`` at ``xs``, which may be arrays or tracers of outer traces."""
    trace = Rows("linearization")
    outs = f(*[trace.argument(x) for x in xs])
    rows = trace.close()
    values = tuple(trace.lower(y) for y in outs)
    slots = tuple(trace.slot_of(y) for y in outs)
    return Linearization(values, rows, trace.new(), slots, len(xs))


def transposed(closed: ClosedProgram) -> ClosedProgram:
    """The transpose of a linear program, as a program of its non-zero outputs."""
    program = closed.program
    builder = Builder()
    cts = [builder.argument(a.strong()) for a in program.out_avals]
    avals = program.in_avals[len(program.inputs) - program.linear :]
    pulled = transpose_into(builder, lambda *ts: closed(*ts), avals, cts)
    return builder.finish([c for c in pulled if c is not None], linear=len(cts))


def tangents(f: Callable[..., Values], xs: Sequence[Value], ts: Maybe) -> tuple[Values, Maybe]:
    """Outputs and their tangents, in forward mode."""
    trace = Duals()
    pairs = zip(xs, ts, strict=True)
    outs = f(*[x if t is None else Dual(x, trace, t) for x, t in pairs])
    trace.closed = True
    split = [trace.split(y) for y in outs]
    return tuple(y for y, _ in split), [t for _, t in split]


def dense(t: Value | None, x: Value | Aval) -> Any:
    """A tangent or cotangent of ``x``; None stands for zeros."""
    if t is not None:
        return t
    aval = x if isinstance(x, Aval) else aval_of(x)
    return np.zeros(aval.shape, aval.dtype)[()]


# -------------------------------------------------------------------------------------------- cases


class Case:
    """A primitive, operands that cannot be written to, and parameters.

    ``label`` says which sample it is and how it was varied.
    """

    def __init__(self, primitive: Primitive, sample: Sample, label: str = "0") -> None:
        self.primitive = primitive
        self.sample = sample
        self.label = label
        self.operands = tuple(read_only(x) for x in sample.operands)
        self.params = sample.params

    def __repr__(self) -> str:
        return f"{self.primitive.name}[{self.label}]"

    @property
    def variant(self) -> str:
        """How the sample was varied: ``complex``, ``empty``, ...; nothing for a sample itself."""
        return self.label.partition("-")[2]

    @property
    def text(self) -> str:
        """The operands and parameters, for messages."""
        return f"{self.primitive.name}: {self.sample!r}"

    def exemption(self, law: str) -> str | None:
        """Why a law is not asked of this primitive, or not of this variant; None where it is."""
        exempt = {**self.primitive.exempt, **self.sample.exempt}
        for key in (law, self.variant, f"{law}:{self.variant}"):
            if key in exempt:
                return exempt[key]
        return None

    @cached_property
    def live(self) -> tuple[int, ...]:
        """The operands with respect to which it is differentiated."""
        return tuple(i for i in self.sample.wrt if aval_of(self.operands[i]).inexact)

    @cached_property
    def outs(self) -> Values:
        """What NumPy computes."""
        return self.impl(*self.operands)

    @property
    def rng(self) -> np.random.Generator:
        """The same random numbers every time."""
        return np.random.default_rng(zlib.crc32(f"{self!r} {self.text}".encode()))

    @property
    def avals(self) -> tuple[Aval, ...]:
        return tuple(map(aval_of, self.operands))

    def impl(self, *xs: Value) -> Values:
        """The outputs on arrays."""
        return self.primitive.unpack(self.primitive.impl(*xs, **self.params))

    def call(self, *xs: Value) -> Values:
        """The outputs on whatever is given."""
        return self.primitive.unpack(self.primitive(*xs, **self.params))

    def patterns(self) -> Iterator[tuple[int, ...]]:
        """Subsets of the differentiable operands: all where these are few, else each and all."""
        if len(self.live) <= 3:
            sizes: Iterable[int] = range(1, len(self.live) + 1)
        else:
            sizes = (1, len(self.live))
        for size in sizes:
            yield from itertools.combinations(self.live, size)

    def function(self, live: Sequence[int]) -> Callable[..., Values]:
        """The primitive as a function of some of its operands."""

        def f(*xs: Value) -> Values:
            values = list(self.operands)
            for i, x in zip(live, xs, strict=True):
                values[i] = x
            return self.call(*values)

        return f

    def at(self, live: Sequence[int]) -> Values:
        """These operands."""
        return tuple(self.operands[i] for i in live)

    def moved(self, xs: Sequence[Value], suffix: str) -> Case:
        """The same primitive and parameters at other operands."""
        sample = Sample(*xs, wrt=self.sample.wrt, exempt=self.sample.exempt, **self.params)
        return Case(self.primitive, sample, f"{self.label}-{suffix}")

    def random(self, xs: Iterable[Value | Aval], rng: np.random.Generator) -> list[Any]:
        """Random tangents, or cotangents, of ``xs``."""
        return [random_like(x, rng) for x in xs]

    def runs(self) -> bool:
        """Whether NumPy takes these operands."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("error")
                self.impl(*self.operands)
        except _REFUSALS:
            return False
        return True


def cast(x: Value, dtype: str) -> Value:
    """``x`` in another dtype; complex to real takes the real part."""
    x = np.asarray(x)
    return (x.real if np.dtype(dtype).kind != "c" else x).astype(dtype)[()]


def read_only(x: Value) -> Value:
    """A copy that raises when somebody writes to it; scalars as they are."""
    if isinstance(x, np.ndarray):
        x = x.copy()
        x.flags.writeable = False
    return x


# ------------------------------------------------------------------------------------ where to look

_A = np.array([0.3, -1.3, 2.7])
_B = np.array([1.7, 0.4, -0.6])
_P = np.array([True, False, True])


def samples_of(primitive: Primitive) -> list[Sample]:
    """The declared samples; a locally constant ufunc that declares none gets some here."""
    declared = list(primitive.samples())
    if declared or not isinstance(primitive, ConstantUfunc):
        return declared
    nin = primitive.ufunc.nin
    floats = Sample(*(_A, _B)[:nin]), Sample(*(_A.reshape(3, 1), _B)[:nin])
    masks = Sample(*(_P, ~_P)[:nin]), Sample(*(_P.reshape(3, 1), _P)[:nin])
    integers = (Sample(*(np.array([3, 1, 2]), np.array([1, 2, 2]))[:nin]),)
    for candidates in (floats, masks, integers):
        if all(Case(primitive, sample).runs() for sample in candidates):
            return list(candidates)
    return []


def cases_of(primitive: Primitive) -> list[Case]:
    """Every sample, and what can be made of it: complex, scalar, mixed and empty operands."""
    cases = []
    for number, sample in enumerate(samples_of(primitive)):
        case = Case(primitive, sample, str(number))
        cases.append(case)
        if any(map(fixes_avals, case.params.values())):
            continue
        variants = [_complex(case), *_empty(case)]
        if number == 0:
            variants += [*_scalars(case), *_mixed(case)]
        cases += [v for v in variants if v is not None and v.runs()]
    return cases


def _complex(case: Case) -> Case | None:
    """All differentiable operands complex."""
    if not case.live or any(a.dtype.kind == "c" for a in case.avals):
        return None
    turned = [x * (1 + 0.25j) if i in case.live else x for i, x in enumerate(case.operands)]
    return case.moved(turned, "complex")


def fixes_avals(value: Any) -> bool:
    """Whether a parameter is made for operands of its own avals: a program, or code that declares
    what it returns."""
    if isinstance(value, tuple):
        return any(map(fixes_avals, value))
    return isinstance(value, Program) or getattr(value, "avals", None) is not None


def _empty(case: Case) -> Iterator[Case]:
    """Without elements along the first axis, or along the last, of all arrays."""
    arrays = [x for x in case.operands if isinstance(x, np.ndarray) and x.ndim]
    if not arrays or any(x.size == 0 for x in arrays):
        return
    for suffix, index in (("empty", np.s_[:0]), ("empty-last", np.s_[..., :0])):
        if suffix == "empty" or any(x.ndim > 1 for x in arrays):
            cut = [x[index] if isinstance(x, np.ndarray) and x.ndim else x for x in case.operands]
            yield case.moved(cut, suffix)


def _mixed(case: Case) -> Iterator[Case]:
    """One of several operands in single precision."""
    if len(case.live) > 1 and all(case.avals[i].dtype == np.float64 for i in case.live):
        for i in case.live[:2]:
            if not case.avals[i].weak:
                operands = [
                    cast(x, "float32") if i == j else x for j, x in enumerate(case.operands)
                ]
                yield case.moved(operands, f"mixed{i}")


def _scalars(case: Case) -> Iterator[Case]:
    """A ufunc of NumPy scalars, of 0-d arrays, of Python numbers in each place and in all."""
    if not isinstance(case.primitive, Ufunc) or any(a.size == 0 for a in case.avals):
        return
    scalars = [np.asarray(x).ravel()[0] for x in case.operands]
    yield case.moved(scalars, "scalar")
    yield case.moved([np.array(x) for x in scalars], "0d")
    for i, x in enumerate(case.operands):
        if i in case.live and np.ndim(x):
            number = [*case.operands[:i], scalars[i].item(), *case.operands[i + 1 :]]
            yield case.moved(number, f"number{i}")
    if case.live:
        live = [x.item() if i in case.live else x for i, x in enumerate(scalars)]
        yield case.moved(live, "numbers")
