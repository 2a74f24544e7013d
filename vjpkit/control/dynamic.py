"""Derivatives of a program that are taken when it runs, for programs that staging cannot split.

How many steps a ``while`` takes is not known before it has run, so its residuals are no arrays of a
program. Two equations stand for its linear map instead: ``push`` gives J t, ``pull`` Jᵀ ct, each of
a program at a point. They run the program again with the eager machinery, whose rows are as long as
they need to be; compiled, ``pull`` of a ``while`` goes through blocks of its steps instead (see
`vjpkit.control.unwound`). Each is linear in its vectors and the other's transpose; their own
derivatives are ``push`` and ``pull`` of the program that consists of one of them, so every order is
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vjpkit.control.higher import Higher, RunProgram
from vjpkit.control.programs import built, mapped_program, without_effects
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Primitive, Sample, primitive
from vjpkit.core.staging import Builder, stage
from vjpkit.kinds.linear import zeros
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.batch import batched_along_front
from vjpkit.transforms.derivatives import linearize
from vjpkit.transforms.staged import is_abstract

__all__ = [
    "DYNAMIC", "DynamicMap", "Push", "VectorMap", "alone", "filled", "in_vectors", "pull", "push",
    "recorded_map", "with_mapped_program",
]  # fmt: skip


DYNAMIC = {
    "dtypes": "a program is made for operands of its own avals",
    "program": "its equations give zeros where recording finds out that nothing arrives",
}
"""Laws that cannot hold of what is recorded when it runs."""


def alone(owner: Primitive, avals: Sequence[Aval], params: dict[str, Any]) -> Program:
    """The program that consists of one equation."""

    def run(builder: Builder, xs: Sequence[Value]) -> Sequence[Value]:
        return owner.unpack(builder.process(owner, xs, params))

    return built(avals, run)


def with_mapped_program(
    primitive: Primitive,
    n: int,
    values: Sequence[Value],
    batched: Sequence[bool],
    params: dict[str, Any],
) -> tuple[Value, ...]:
    """A primitive that pulls or pushes vectors, which follow the operands of its program, on that
    program mapped over ``n`` examples: what moves is mapped, and so are all vectors."""
    program, moving = params["program"], params["moving"]
    wanted = [b or w for b, w in zip(batched, moving, strict=False)]
    mapped, _ = mapped_program(program, n, tuple(wanted), (True,) * len(program.outputs))
    full = [*wanted, *[True] * (len(values) - len(program.inputs))]
    operands = [
        batched_along_front(v, b, n) if w else v
        for v, b, w in zip(values, batched, full, strict=True)
    ]
    return primitive(*operands, **{**params, "program": mapped})  # type: ignore[no-any-return]  # values are untyped


class DynamicMap:
    """The linear map of a program at a point that is staged: two equations.

    ``reached`` says which real outputs depend on the live operands, where that is known.
    """

    def __init__(
        self,
        program: Program,
        values: Sequence[Value],
        live: tuple[bool, ...],
        reached: Sequence[bool] | None = None,
    ) -> None:
        self.program = without_effects(program)
        self.kept = list(values)
        self.live = live
        self.reached = reached
        self.inexact = [a.strong() for a in program.out_avals if a.inexact]
        self.domain = [a.strong() for a, wanted in zip(program.in_avals, live) if wanted]

    def params(self, strict: bool) -> dict[str, Any]:
        """Parameters of ``push`` and ``pull``."""
        params: dict[str, Any] = {"program": self.program, "moving": self.live}
        return {**params, "strict": True} if strict else params

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value]:
        some = next(t for t in ts if t is not None)
        dense = [zeros(a, some) if t is None else t for t, a in zip(ts, self.domain, strict=True)]
        return push(*self.kept, *dense, **self.params(strict))  # type: ignore[no-any-return]  # values are untyped

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        some = next(c for c in cts if c is not None)
        dense = [zeros(a, some) if c is None else c for c, a in zip(cts, self.inexact, strict=True)]
        return pull(*self.kept, *dense, **self.params(strict))  # type: ignore[no-any-return]  # values are untyped

    def residuals(self) -> list[Residual]:
        return [Residual("while", v, None) for v in self.kept if hasattr(v, "dtype")]


def recorded_map(program: Program, values: Sequence[Value], live: Sequence[bool]) -> RowMap:
    """The linear map of a program at values, by recording it; from live inputs to real outputs."""
    chosen = [i for i, wanted in enumerate(live) if wanted]

    def at(*xs: Value) -> list[Value]:
        full = list(values)
        for i, x in zip(chosen, xs, strict=True):
            full[i] = x
        return [y for y in interpret(program, full) if aval_of(y).inexact]

    _, linear = linearize(at, *[values[i] for i in chosen])
    return linear.backing  # type: ignore[no-any-return]  # linearize gives a LinearMap


class Dynamic(Higher):
    """``push`` or ``pull``: operands are the program's, and then vectors."""

    exempt = DYNAMIC
    transposed: Dynamic

    def vectors(self, program: Program, live: Sequence[bool]) -> list[Aval]:
        """Avals of the vectors that go in."""
        raise NotImplementedError

    def applied(
        self, backing: RowMap, vectors: Sequence[Value], strict: bool
    ) -> Sequence[Value | None]:
        """The vectors that come out of a linear map."""
        raise NotImplementedError

    def impl(self, *operands: Value, **params: Any) -> tuple[Value, ...]:
        return self.run(operands, **params)

    def run(
        self,
        operands: Sequence[Value],
        program: Program,
        moving: tuple[bool, ...],
        strict: bool = False,
    ) -> tuple[Value, ...]:
        """On values, or on tracers that know theirs."""
        count = len(program.inputs)
        backing = recorded_map(program, operands[:count], moving)
        outs = self.applied(backing, operands[count:], strict)
        avals = self.abstract(program=program, moving=moving)
        return tuple(filled(outs, avals, operands[count]))

    def abstract(
        self, *avals: Aval, program: Program, moving: tuple[bool, ...], strict: bool = False
    ) -> tuple[Aval, ...]:
        return tuple(self.transposed.vectors(program, moving))

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        program, marks = params["program"], params["moving"]
        count = len(program.inputs)
        outs = self(*values, **params)
        if not any(live[:count]):
            ends = [p.vectors(program, marks) for p in (self, self.transposed)]
            return outs, VectorMap(self, values[:count], live[count:], ends[0], ends[1], params)
        whole = alone(self, [aval_of(v) for v in values], params)
        if any(map(is_abstract, values)):
            return outs, DynamicMap(whole, values, live)
        chosen = [i for i, wanted in enumerate(live) if wanted]

        def at(*xs: Value) -> tuple[Value, ...]:
            full = list(values)
            for i, x in zip(chosen, xs, strict=True):
                full[i] = x
            return self.run(full, **params)

        _, linear = linearize(at, *[values[i] for i in chosen])
        domain = [aval_of(values[i]).strong() for i in chosen]
        return outs, Dense(linear.backing, domain, list(map(aval_of, outs)))

    def walked(self, values: Sequence[Value], run: RunProgram, **params: Any) -> tuple[Value, ...]:
        return self.run(values, **params)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        return with_mapped_program(self, n, values, batched, params)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return in_vectors(mask, zeros, len(params["program"].inputs))

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2]), np.array([1.7, 0.4])
        program = stage(lambda x, y: (np.sin(x) * y, np.sum(x)), [aval_of(x)] * 2).program
        vectors = [np.full(a.shape, 0.5)[()] for a in self.vectors(program, (True, True))]
        yield Sample(x, y, *vectors, program=program, moving=(True, True))
        yield Sample(x, y, *vectors, program=program, moving=(True, True), strict=True)


def in_vectors(mask: Sequence[bool], zeros: Sequence[bool], count: int) -> bool:
    """Whether all that ``mask`` marks are vectors, which follow ``count`` values, or zeros."""
    every = all(m or z for m, z in zip(mask[count:], zeros[count:], strict=True))
    return every and any(mask) and not any(mask[:count])


class Dense:
    """A linear map that gives zeros where another one gives nothing, as an equation does."""

    def __init__(self, backing: RowMap, domain: Sequence[Aval], codomain: Sequence[Aval]) -> None:
        self.backing = backing
        self.domain = domain
        self.codomain = codomain

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        some = next(t for t in ts if t is not None)
        return filled(self.backing.push(ts, strict), self.codomain, some)

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        some = next(c for c in cts if c is not None)
        return filled(self.backing.pull(cts, strict), self.domain, some)

    def residuals(self) -> list[Residual]:
        return self.backing.residuals()


def filled(xs: Sequence[Value | None], avals: Sequence[Aval], like: Value) -> list[Value]:
    """Zeros for what is None."""
    return [zeros(a, like) if x is None else x for x, a in zip(xs, avals, strict=True)]


class Transposable(Protocol):
    """A primitive of values and vectors that is linear in the vectors, and its transpose."""

    name: str

    def __call__(self, *xs: Value, **params: Any) -> Value: ...

    @property
    def transposed(self) -> Transposable: ...


class VectorMap:
    """A primitive such as ``push`` and ``pull`` in some of its vectors, those of ``moving``.

    ``domain`` and ``codomain`` are the avals of all vectors that go in and come out.
    """

    def __init__(
        self,
        owner: Transposable,
        values: Sequence[Value],
        moving: Sequence[bool],
        domain: Sequence[Aval],
        codomain: Sequence[Aval],
        params: Any,
    ) -> None:
        self.owner = owner
        self.kept = list(values)
        self.marks = moving
        self.domain = domain
        self.codomain = codomain
        self.params = params

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        given = iter(ts)
        some = next(t for t in ts if t is not None)
        vectors = []
        for wanted, aval in zip(self.marks, self.domain, strict=True):
            t = next(given) if wanted else None
            vectors.append(zeros(aval, some) if t is None else t)
        return self.owner(*self.kept, *vectors, **self.params)  # type: ignore[no-any-return]  # values are untyped

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        some = next(c for c in cts if c is not None)
        dense = [
            zeros(a, some) if c is None else c for c, a in zip(cts, self.codomain, strict=True)
        ]
        outs = self.owner.transposed(*self.kept, *dense, **self.params)
        return [y for y, wanted in zip(outs, self.marks, strict=True) if wanted]

    def residuals(self) -> list[Residual]:
        return [Residual(self.owner.name, v, None) for v in self.kept if hasattr(v, "dtype")]


class Push(Dynamic):
    """Tangents of the real outputs of a program, from tangents of its live inputs."""

    def vectors(self, program: Program, live: Sequence[bool]) -> list[Aval]:
        return [a.strong() for a, wanted in zip(program.in_avals, live, strict=True) if wanted]

    def applied(
        self, backing: RowMap, vectors: Sequence[Value], strict: bool
    ) -> Sequence[Value | None]:
        return backing.push(vectors, strict)


@runtime_checkable
class Unwinding(Protocol):
    """A primitive whose pullback is known as a function of values."""

    def pullback(
        self, backend: str, live: tuple[bool, ...], params: Mapping[str, Any]
    ) -> Callable[..., tuple[Value, ...]] | None: ...


class Pull(Dynamic):
    """Cotangents of the live inputs of a program, from those of its real outputs."""

    def vectors(self, program: Program, live: Sequence[bool]) -> list[Aval]:
        return [a.strong() for a in program.out_avals if a.inexact]

    def applied(
        self, backing: RowMap, vectors: Sequence[Value], strict: bool
    ) -> Sequence[Value | None]:
        return backing.pull(vectors, strict)

    def compiled(
        self, backend: str, params: Mapping[str, Any]
    ) -> Callable[..., tuple[Value, ...]] | None:
        """Its function where the program is one equation that has a pullback of its own, in whose
        products a zero wins."""
        program: Program = params["program"]
        if len(program.equations) != 1 or params.get("strict"):
            return None
        (eqn,) = program.equations
        whole = eqn.inputs == program.inputs and eqn.outputs == program.outputs
        if not whole or not isinstance(eqn.primitive, Unwinding):
            return None
        return eqn.primitive.pullback(backend, params["moving"], eqn.params)


Push.transposed = Pull()
Pull.transposed = Push()
push, pull = primitive(Push), primitive(Pull)
Push.transposed, Pull.transposed = pull, push
