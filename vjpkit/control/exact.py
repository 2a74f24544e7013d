"""Loops and branches as eager mode has them: what `jit` stages where it is to keep eager's bits.

A derivative of theirs is taken when it runs, by the machinery of eager mode: the operations of the
steps that are taken are recorded one by one and walked back, and cotangents are added to those that
have arrived already, in eager mode's order. So they keep the bits; split into loops forwards and
backwards, as `vjpkit.control.scan_split` does it, they would be added in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends import AS_IT_STANDS, executable
from vjpkit.control.branch import Branch, Branches, branch
from vjpkit.control.call import is_linear_in
from vjpkit.control.dynamic import (
    DYNAMIC,
    DynamicMap,
    Push,
    alone,
    filled,
    in_vectors,
    with_mapped_program,
)
from vjpkit.control.higher import Higher, RunProgram
from vjpkit.control.loop import Loop, While, looped, while_body
from vjpkit.control.scan_rules import Scan, scan_loop, stepped
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Cotangents, Rows, eager, settled
from vjpkit.core.staging import stage
from vjpkit.kinds.linear import zeros
from vjpkit.ops.structural import renamed
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.batch import Batched, Batches
from vjpkit.transforms.derivatives import linearize
from vjpkit.transforms.staged import is_abstract

__all__ = ["exact_branch", "exact_scan", "exact_while"]


class Exact(Higher):
    """A primitive that is recorded operation by operation, as soon as its operands have values.

    ``walked`` says what its operations are; until it can run there is one row, an `ExactMap`.
    """

    exempt: ClassVar[dict[str, str]] = {
        "dtypes": DYNAMIC["dtypes"],
        "staged": "its one row gives zeros where recorded operations find that nothing arrives",
    }
    walked: Callable[..., tuple[Value, ...]]

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> tuple[Value, ...]:
        if any(map(is_abstract, values)):
            return super().record(trace, values, slots, params)
        pairs = zip(values, slots, strict=True)
        xs = [x if s is None else eager(x, trace, s) for x, s in pairs]
        return self.unpack(self.walked(xs, operations, **params))

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        whole = alone(self, [aval_of(v) for v in values], params)
        return self(*values, **params), ExactMap(whole, values, live)


def operations(_: str, program: Program, values: Sequence[Value]) -> Sequence[Value]:
    """A program operation by operation."""
    return interpret(program, values)


class ExactMap(DynamicMap):
    """The linear map of a program at a point that is staged, with eager mode's sums."""

    def onto(
        self, slots: Sequence[int], given: Sequence[Value | None], cts: Cotangents, strict: bool
    ) -> None:
        """Pull back, and add in eager mode's order to what has arrived in the slots of operands."""
        numbers = {s: n for n, s in enumerate(dict.fromkeys(slots))}
        some = next(c for c in given if c is not None)
        vectors = [zeros(a, some) if c is None else c for c, a in zip(given, self.inexact)]
        there = [None if cts[s] is None else settled(cts[s]) for s in numbers]
        totals = pull_onto(
            *self.kept, *vectors, *[ct for ct in there if ct is not None], **self.params(strict),
            same=tuple([numbers[s] for s in slots]), there=tuple([ct is not None for ct in there]),
        )  # fmt: skip
        for slot, total in zip(numbers, totals, strict=True):
            cts[slot] = total
            cts[-1].difference_update((slot, ~slot))

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value]:
        some = next(t for t in ts if t is not None)
        return exact_push(*self.kept, *filled(ts, self.domain, some), **self.params(strict))  # type: ignore[no-any-return]  # values are untyped


class PullOnto(Exact):
    """Cotangents of the live inputs of a program, added to what has arrived there.

    Operands are the program's, cotangents of its real outputs, and what has arrived where ``there``
    says so. Live inputs may be the ``same`` value: then they have one cotangent.
    """

    @staticmethod
    def firsts(moving: tuple[bool, ...], same: tuple[int, ...]) -> list[int]:
        """For each cotangent the number of the first input that it is of."""
        live = [i for i, wanted in enumerate(moving) if wanted]
        return [live[same.index(n)] for n in range(len(set(same)))]

    def impl(self, *operands: Value, **params: Any) -> tuple[Value, ...]:
        return self.walked(operands, operations, **params)

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, program: Program,
        moving: tuple[bool, ...], same: tuple[int, ...], there: tuple[bool, ...],
        strict: bool = False,
    ) -> tuple[Value, ...]:  # fmt: skip
        count = len(program.inputs)
        n = sum([a.inexact for a in program.out_avals])
        rest = iter(values[count + n :])
        places = [i for i, wanted in enumerate(moving) if wanted]
        firsts = self.firsts(moving, same)

        def at(*xs: Value) -> list[Value]:
            full = list(values[:count])
            for i, number in zip(places, same, strict=True):
                full[i] = xs[number]
            return [y for y in interpret(program, full) if aval_of(y).inexact]

        _, linear = linearize(at, *[values[i] for i in firsts])
        start = [next(rest) if arrived else None for arrived in there]
        totals = linear.backing.pull(values[count : count + n], strict, start)
        avals = [program.in_avals[i].strong() for i in firsts]
        return tuple(filled(totals, avals, values[count]))

    def abstract(
        self, *avals: Aval, program: Program, moving: tuple[bool, ...], same: tuple[int, ...],
        **params: Any,
    ) -> tuple[Aval, ...]:  # fmt: skip
        return tuple([program.in_avals[i].strong() for i in self.firsts(moving, same)])

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        count = len(params["program"].inputs)
        if any(live[:count]):
            return super().linear_map(values, live, **params)
        outs = self(*values, **params)
        return outs, OntoMap(
            values[:count], live[count:], list(map(aval_of, values[count:])), params
        )

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        if not any(batched[: len(params["program"].inputs)]):
            return of_examples(self, n, values, batched, params)
        return with_mapped_program(self, n, values, batched, params)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return in_vectors(mask, zeros, len(params["program"].inputs))

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2]), np.array([1.7, 0.4])
        program = stage(lambda x, y: (np.sin(x) * y, np.sum(x)), [aval_of(x)] * 2).program
        vectors = x, np.array(0.5)[()]
        params: dict[str, Any] = {"program": program, "moving": (True, True)}
        yield Sample(x, y, *vectors, y, **params, same=(0, 1), there=(True, False))
        yield Sample(x, x, *vectors, y, **params, same=(0, 0), there=(True,), strict=True)


pull_onto = primitive(PullOnto)


class ExactPush(Exact, Push):
    """`Push`, operation by operation."""

    def walked(self, values: Sequence[Value], run: RunProgram, **params: Any) -> tuple[Value, ...]:
        return self.run(values, **params)

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        moved = any(live[: len(params["program"].inputs)])
        return (Exact if moved else Push).linear_map(self, values, live, **params)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        if any(batched[: len(params["program"].inputs)]):
            return Push.batch(self, n, values, batched, **params)
        return of_examples(self, n, values, batched, params)


exact_push: ExactPush = primitive(ExactPush)


class ExactExamples(Exact):
    """The one equation of a program, mapped over the leading axes of some operands as it runs."""

    exempt: ClassVar[dict[str, str]] = {"dtypes": DYNAMIC["dtypes"]}

    def impl(self, *operands: Value, **params: Any) -> tuple[Value, ...]:
        return self.walked(operands, operations, **params)

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, program: Program, count: int,
        along: tuple[bool, ...],
    ) -> tuple[Value, ...]:  # fmt: skip
        trace = Batches(count)
        (eqn,) = program.equations
        owner: Any = eqn.primitive
        xs = [Batched(x, trace) if b else x for x, b in zip(values, along, strict=True)]
        return tuple(map(trace.dense, owner.walked(xs, run, **eqn.params)))

    def abstract(
        self, *avals: Aval, program: Program, count: int, **params: Any
    ) -> tuple[Aval, ...]:
        return tuple([Aval((count, *a.shape), a.dtype) for a in program.out_avals])

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return bool(is_linear_in(params["program"], mask, zeros))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        return of_examples(self, n, values, batched, params)

    def samples(self) -> Iterable[Sample]:
        x, ts = np.array([0.3, -1.2]), np.array([[1.7, 0.4], [0.5, 2.0], [-0.3, 1.0]])
        program = stage(lambda x: (np.sin(x) * x,), [aval_of(x)]).program
        params: Any = {"program": program, "moving": (True,)}
        pushed = alone(exact_push, [aval_of(x)] * 2, params)
        yield Sample(x, ts, program=pushed, count=3, along=(False, True))


exact_examples = primitive(ExactExamples)


def of_examples(
    owner: Exact, n: int, values: Sequence[Value], batched: Sequence[bool], params: Any
) -> tuple[Value, ...]:
    """An exact primitive of examples."""
    avals = [aval_of(x) for x in values]
    each = [Aval(a.shape[1:], a.dtype) if b else a for a, b in zip(avals, batched, strict=True)]
    program = alone(owner, each, params)
    return exact_examples(*values, program=program, count=n, along=tuple(batched))  # type: ignore[no-any-return]  # values are untyped


class OntoMap:
    """`PullOnto` in some of its vectors, those that ``moving`` marks."""

    def __init__(
        self, values: Sequence[Value], moving: Sequence[bool], domain: Sequence[Aval], params: Any
    ) -> None:
        self.kept = list(values)
        self.marks = moving
        self.domain = domain
        self.whole = params

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        given = iter(ts)
        some = next(t for t in ts if t is not None)
        every = [next(given) if wanted else None for wanted in self.marks]
        return pull_onto(*self.kept, *filled(every, self.domain, some), **self.whole)  # type: ignore[no-any-return]  # values are untyped

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        whole = dict(self.whole)
        same, there = whole.pop("same"), whole.pop("there")
        firsts = PullOnto.firsts(whole["moving"], same)
        some = next(c for c in cts if c is not None)
        avals = [whole["program"].in_avals[i].strong() for i in firsts]
        dense = filled(cts, avals, some)
        pushed = exact_push(*self.kept, *[dense[n] for n in same], **whole)
        every = [*pushed, *[ct for ct, arrived in zip(dense, there, strict=True) if arrived]]
        return [y for y, wanted in zip(every, self.marks, strict=True) if wanted]

    def residuals(self) -> list[Residual]:
        return [Residual("pull_onto", v, None) for v in self.kept if hasattr(v, "dtype")]


# ----------------------------------------------------------------------------- loops and branches


class ExactScan(Exact, Scan):
    """`Scan`, as Python's loop over values has it."""

    @staticmethod
    def impl(*operands: Value, body: Program, **params: Any) -> tuple[Value, ...]:
        return stepped(executable(body, AS_IT_STANDS), *operands, body=body, **params)

    def walked(self, values: Sequence[Value], run: RunProgram, **params: Any) -> tuple[Value, ...]:
        if not params["length"]:
            return self.impl(*values, **params)
        return tuple(map(renamed, Scan.walked(self, values, run, **params)))

    def samples(self) -> Iterable[Sample]:
        return [sample for sample in Scan.samples(self) if "slots" not in sample.params]

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        return type(scan_loop).batch(scan_loop, n, values, batched, **params)


class ExactWhile(Exact, While):
    """`While`, as Python's loop over values has it."""

    @staticmethod
    def impl(*operands: Value, **params: Any) -> tuple[Value, ...]:
        loop = Loop(**params)
        programs = (executable(p, AS_IT_STANDS) for p in (loop.cond, loop.body))
        return looped(loop, *programs)(*operands)

    def walked(self, values: Sequence[Value], run: RunProgram, **params: Any) -> tuple[Value, ...]:
        loop = Loop(**params)
        fixed, consts, state = loop.split(values)
        while interpret(loop.cond, [*fixed, *state])[0]:
            state = interpret(loop.body, [*consts, *state])
        return tuple(map(renamed, state))

    def samples(self) -> Iterable[Sample]:
        return [sample for sample in While.samples(self) if "slots" not in sample.params]

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        return type(while_body).batch(while_body, n, values, batched, **params)


class ExactBranch(Exact, Branch):
    """`Branch`, as Python's choice has it."""

    @staticmethod
    def impl(index: Value, *values: Value, branches: Branches) -> tuple[Value, ...]:
        return executable(branches[int(index)], AS_IT_STANDS)(*values)

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, branches: Branches
    ) -> tuple[Value, ...]:
        return tuple(map(renamed, Branch.walked(self, values, run, branches=branches)))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        return type(branch).batch(branch, n, values, batched, **params)


exact_scan, exact_while = primitive(ExactScan), primitive(ExactWhile)
exact_branch = primitive(ExactBranch)
