"""`cond` and `switch`: one of several functions, chosen by a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vjpkit.backends import executable
from vjpkit.control.bodies import (
    Body,
    body,
    decides,
    form_of,
    giving_something,
    own_results,
    sharing,
)
from vjpkit.control.call import is_linear_in, vectors
from vjpkit.control.higher import Form, Linearization, Programmatic, RunProgram, live_and_order
from vjpkit.control.programs import (
    apart,
    apart_from_terms,
    combines,
    eager_form,
    jvp_program,
    linearized_program,
    mapped_program,
    numbered,
    of_examples,
    plain_program,
    rearranged,
    series_program,
    standing_in,
    transposed_program,
    unified,
    with_terms,
    zero_program,
)
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import stage
from vjpkit.core.tracer import bind
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr
from vjpkit.transforms.arguments import name_of, require_function
from vjpkit.transforms.series import Terms
from vjpkit.transforms.staged import is_abstract, traces_around

__all__ = ["branch", "cond", "switch"]

Branches = tuple[Program, ...]


class Branch(Programmatic):
    """One of several programs of the same inputs and outputs; the first operand says which."""

    exempt = {"dtypes": "a program is made for operands of its own avals"}

    @staticmethod
    def impl(index: Value, *values: Value, branches: Branches) -> tuple[Value, ...]:
        return eager_form(branches[int(index)])(*values)

    def compiled(self, backend: str, params: Mapping[str, Any]) -> Callable[..., tuple[Value, ...]]:
        """Its function, the branches run by a backend."""
        run = [executable(b, backend) for b in params["branches"]]
        return lambda index, *values: run[int(index)](*values)

    def abstract(self, index: Aval, *avals: Aval, branches: Branches) -> tuple[Aval, ...]:
        return branches[0].out_avals

    def linearization(
        self, live: tuple[bool, ...], avals: tuple[Aval, ...], **params: Any
    ) -> Linearization:
        branches: Branches = params["branches"]
        outs = branches[0].out_avals
        wanted = live[1:]
        forward, parts, residuals = self._split(branches, wanted)
        count = len(outs)
        early = [apart(b, wanted, range(count, len(b.outputs))) for b in forward]
        separate = tuple([b for b in early if b is not None])

        def primal(*values: Value) -> tuple[Sequence[Value], Sequence[Value]]:
            if len(separate) < len(branches):
                found = self(*values, branches=forward)
                return found[:count], [values[0], *found[count:]]
            index, *fixed = [v for v, moving in zip(values, live, strict=True) if not moving]
            made = self(index, *fixed, branches=separate)
            return self(*values, branches=branches), [index, *made]

        tangents, reached = unified(parts, outs)
        places = [p for p, aval in zip(numbered(reached), outs, strict=True) if aval.inexact]
        kept = range(1 + len(residuals))
        ts = [a for a, moving in zip(avals, live, strict=True) if moving]

        def transpose(given: tuple[bool, ...]) -> Form:
            mask = tuple([g for g, p in zip(given, places, strict=True) if p is not None])
            backs, found = unified([transposed_program(t, mask) for t in tangents], ts)
            operands = (*kept, *vectors(sum(given)))
            return Form(self, {"branches": backs}, operands, tuple(numbered(found)))

        form = Form(self, {"branches": tangents}, (*kept, *vectors(len(ts))), tuple(places))
        return Linearization(primal, form, transpose)

    def _split(
        self, branches: Branches, live: tuple[bool, ...]
    ) -> tuple[Branches, list[tuple[Program, tuple[bool, ...]]], list[Aval]]:
        """Branches that give outputs and the residuals of all, tangent programs of these."""
        parts = [linearized_program(b, live) for b in branches]
        residuals = [a for part in parts for a in part.residuals]
        count = len(branches[0].outputs)
        forward, tangents, start = [], [], 0
        for part in parts:
            mine = range(start, start + len(part.residuals))
            start = mine.stop
            outputs: list[int | Aval] = [*range(count)]
            outputs += [count + i - mine.start if i in mine else a for i, a in enumerate(residuals)]
            inputs = part.primal.in_avals
            forward.append(rearranged(part.primal, inputs, range(len(inputs)), outputs))
            tangent = part.tangent
            everything = [*residuals, *tangent.in_avals[len(mine) :]]
            places = [*mine, *range(len(residuals), len(everything))]
            whole = range(len(tangent.outputs))
            moved = rearranged(tangent, everything, places, whole, tangent.linear)
            tangents.append((moved, part.reached))
        return tuple(forward), tangents, residuals

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        branches: Branches = params["branches"]
        live = tuple([t is not None for t in ts[1:]])
        count = len(branches[0].outputs)
        parts = [jvp_program(b, live) for b in branches]
        every = (True,) * count
        outs = branches[0].out_avals
        both, mask = unified([(p, every + m) for p, m in parts], [*outs, *outs])
        run = tuple(map(plain_program, both)) if strict else both
        found = self(*values, *[t for t in ts if t is not None], branches=run)
        return found[:count], [None if i is None else found[i] for i in numbered(mask)[count:]]

    def with_series(
        self, values: Sequence[Value], series: Sequence[Terms | None], params: Any
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        branches: Branches = params["branches"]
        index, *operands = values
        moving, order = live_and_order(series[1:])
        reached = [series_program(b, moving, order)[1] for b in branches]
        union = tuple(map(any, zip(*reached, strict=True)))
        wide = tuple([series_program(b, moving, order, union)[0] for b in branches])
        outs = self(index, *with_terms(operands, series[1:], moving, order), branches=wide)
        return apart_from_terms(outs, union, order)

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, branches: Branches
    ) -> tuple[Value, ...]:
        index, *rest = values
        return tuple(run(f"branch {int(index)}", branches[int(index)], rest))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, branches: Branches
    ) -> tuple[Value, ...]:
        index, *operands = values
        every = (True,) * len(branches[0].outputs)
        mapped = tuple([mapped_program(b, n, tuple(batched[1:]), every)[0] for b in branches])
        if not batched[0]:
            return self(index, *operands, branches=mapped)  # type: ignore[no-any-return]  # calls are untyped
        # The examples need not agree: each branch runs, if for any, on examples that take it, so
        # that it cannot fail or warn where it is not taken. Collectives see them all.
        outs: list[Value] = []
        for number, program in enumerate(mapped):
            mine = index == number
            some, every_one = np.any(mine), np.all(mine)
            known = not is_abstract(some)
            if known and (every_one or not n):
                return self(0, *operands, branches=(program,))  # type: ignore[no-any-return]  # calls are untyped
            if known and not some:
                continue
            if combines(branches[number], n):
                found = self(0, *operands, branches=(program,))
            else:
                own = standing_in(mine, operands, batched[1:])
                found = self(some, *own, branches=(zero_program(program), program))
            outs = [of_examples(mine, y, z) for y, z in zip(found, outs or found, strict=True)]
        return tuple(outs)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        branches: Branches = params["branches"]
        linear = (is_linear_in(b, mask[1:], zeros[1:]) for b in branches)
        return not mask[0] and any(mask) and all(linear)

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        avals = [aval_of(x), aval_of(y)]
        functions: list[Callable[..., Any]] = [
            lambda x, y: (np.sin(x) * y, np.sum(x * x)),
            lambda x, y: (y * 1.0, np.prod(y)),
            lambda x, y: (x * x * 0.5, y[0] * 2.0),
        ]
        branches = tuple([stage(f, avals).program for f in functions])
        for index in range(3):
            yield Sample(index, x, y, branches=branches)
        yield Sample(True, x, y, branches=branches[:2])


branch = primitive(Branch)


# --------------------------------------------------------------------------------------- the edge


def _kind(aval: Aval) -> int:
    """Boolean, integer, floating point, complex: a number becomes one of a later kind only."""
    return "bifc".index(aval.dtype.kind.replace("u", "i"))


def agreeing(label: str, names: Sequence[str], bodies: Sequence[Body]) -> list[Body]:
    """The branches with outputs of the same avals; an error that says where they differ.

    Python's numbers take the dtype that the other branches decide on.
    """
    first = bodies[0]
    for name, other in zip(names[1:], bodies[1:], strict=True):
        if other.tree != first.tree:
            raise TypeError(
                f"{label}: {names[0]} returns the tree {first.tree}, but {name} returns "
                f"{other.tree}{at(calling_position())}.\nReturn the same tree from all branches."
            )
    wanted = []
    for i, column in enumerate(zip(*[b.outs for b in bodies], strict=True)):
        decided = [a for a in column if not a.weak] or [max(column, key=_kind).strong()]
        wanted.append(decided[0])
        for name, aval in zip(names, column, strict=True):
            narrower = aval.weak and _kind(aval) <= _kind(wanted[i])
            fits = aval.shape == wanted[i].shape and (narrower or aval == wanted[i])
            if not fits:
                path = keystr(
                    flatten_with_path(first.tree.unflatten(range(len(first.outs))))[0][i][0]
                )
                raise TypeError(
                    f"{label}: {name} returns {aval}{f' at {path}' if path else ''}, where another "
                    f"branch returns {wanted[i]}{at(calling_position())}.\n"
                    "Cast or reshape them, so that all branches return the same shapes and dtypes."
                )
    return [b.cast(wanted) for b in bodies]


def chosen(
    label: str,
    index: Value,
    functions: Sequence[Callable[..., PyTree]],
    operands: tuple[PyTree, ...],
) -> PyTree:
    """One equation for all branches."""
    names = [name_of(f) for f in functions]
    leaves, _ = flatten(operands)
    traces = traces_around([index, *leaves], functions)
    bodies = [
        giving_something(body(f"{label}: {name}", f, operands, traces))
        for name, f in zip(names, functions, strict=True)
    ]
    bodies = agreeing(label, names, bodies)
    consts, branches = sharing(bodies, [aval_of(x) for x in leaves])
    outs = bind(form_of(branch), [index, *consts, *leaves], {"branches": tuple(branches)})
    return bodies[0].tree.unflatten(outs[: bodies[0].tree.num_leaves])


NOT_GIVEN = object()


def positional(label: str, operands: tuple[PyTree, ...], operand: PyTree) -> tuple[PyTree, ...]:
    """The operands, of which the only one may have come by its name, as JAX once had it."""
    if operand is NOT_GIVEN:
        return operands
    if operands:
        raise TypeError(
            f"{label}: operand= is given beside {counted(len(operands), 'operand')} by position"
            f"{at(calling_position())}.\nPass all of them by position."
        )
    return (operand,)


def cond(
    pred: Value,
    true_fun: Callable[..., PyTree],
    false_fun: Callable[..., PyTree],
    *operands: PyTree,
    operand: PyTree = NOT_GIVEN,
) -> PyTree:
    """``true_fun(*operands) if pred else false_fun(*operands)``, also where ``pred`` is staged.

    On a value it is Python's choice. Staged, both functions become branches of one equation, of
    which one runs; their outputs must have the same tree, shapes and dtypes (`TypeError`). Mapped
    over examples that disagree, each function runs on those that choose it, one of which stands for
    the others: it can't fail or warn where it is not chosen. Both may close over traced values, and
    what they compute from these alone is computed where the branch is taken, too; derivatives of
    the branch not taken are zero. A single operand may be passed as ``operand=``; an operand for
    each function, as ``cond(pred, true_operand, true_fun, false_operand, false_fun)``.

    >>> import numpy as np, vjpkit as vk
    >>> f = vk.jit(lambda x: vk.lax.cond(x > 0, np.sin, lambda x: -x, x))
    >>> f(1.0), vk.grad(f)(-1.0)
    (np.float64(0.8414709848078965), np.float64(-1.0))
    """
    if len(operands) == 2 and callable(operands[1]) and not callable(true_fun):
        return of_each(pred, true_fun, false_fun, *operands)
    require_function("cond", true_fun, "true_fun")
    require_function("cond", false_fun, "false_fun")
    operands = positional("cond", operands, operand)
    decides("cond", "pred", pred)
    if not is_abstract(pred):
        y = true_fun(*operands) if pred else false_fun(*operands)
        return own_results(y, operands)
    return chosen("cond", pred != 0, (false_fun, true_fun), operands)


def of_each(
    pred: Value,
    true_operand: PyTree,
    true_fun: Callable[[PyTree], PyTree],
    false_operand: PyTree,
    false_fun: Callable[[PyTree], PyTree],
) -> PyTree:
    """`cond` with an operand for each function."""
    require_function("cond", true_fun, "true_fun")
    return cond(
        pred, lambda x, _: true_fun(x), lambda _, x: false_fun(x), true_operand, false_operand
    )


def switch(
    index: Value,
    branches: Sequence[Callable[..., PyTree]],
    *operands: PyTree,
    operand: PyTree = NOT_GIVEN,
) -> PyTree:
    """``branches[index](*operands)``; an index out of range takes the nearest branch.

    As `cond` with any number of branches.

    >>> import numpy as np, vjpkit as vk
    >>> f = vk.jit(lambda i, x: vk.lax.switch(i, [np.sin, np.cos, np.tan], x))
    >>> f(1, 0.0), f(7, 0.0)
    (np.float64(1.0), np.float64(0.0))
    """
    operands = positional("switch", operands, operand)
    functions = list(branches)
    if not functions:
        raise ValueError(
            f"switch: branches is empty{at(calling_position())}; give one function at least"
        )
    for number, f in enumerate(functions):
        require_function("switch", f, f"branches[{number}]")
    decides("switch", "index", index)
    if aval_of(index).dtype.kind not in "iu":
        raise TypeError(
            f"switch: index must be an integer, got {aval_of(index)}{at(calling_position())}.\n"
            "Cast it with .astype(int), or use cond for a condition."
        )
    if not is_abstract(index):
        y = functions[min(max(int(index), 0), len(functions) - 1)](*operands)
        return own_results(y, operands)
    return chosen("switch", np.clip(index, 0, len(functions) - 1), functions, operands)
