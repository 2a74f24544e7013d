"""`scan`: a loop of known length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.control.bodies import (
    Body,
    array_leaves,
    body,
    form_of,
    giving_something,
    own_results,
    python_numbers,
    runs_on_values,
)
from vjpkit.control.call import call
from vjpkit.control.scan_rules import scan_loop
from vjpkit.control.slots import slots_for
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.core.ir import Var
from vjpkit.core.tracer import bind
from vjpkit.ops.structural import to_dtype
from vjpkit.passes.handed import handed_on
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr
from vjpkit.transforms.arguments import name_of, require_function
from vjpkit.transforms.staged import ShapeDtypeStruct

__all__ = ["common_length", "require_unroll", "same_carry", "scan", "widened"]


def scan(
    f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: str | None = None,
    slots: int | None = None,
    memory: int | str | None = None,
) -> tuple[PyTree, PyTree]:
    """``carry, y = f(carry, x)`` for each slice x of ``xs``; the last carry and all y, stacked.

    ``init`` and ``xs`` are trees; ``xs`` may be None with ``length``. ``f`` must return a carry of
    the tree, shapes and dtypes of ``init`` (`TypeError`), where Python's numbers take the dtype
    that they become, and may close over traced values. On values it is a Python loop; staged or
    mapped it is one equation, whose derivative in either mode is a loop again. ``unroll`` is a hint
    to compilers.

    With ``checkpoint="revolve"`` the pullback keeps at most ``slots`` carries (or as many as fit
    into ``memory``, "100MB"), the initial one among them, instead of what every step leaves, and
    computes the others again, in as few steps as any schedule can, `vk.checkpoint_loop`'s; in a
    program it runs the loop once more before. Then ``f`` is staged on values too.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.scan(lambda c, x: (c + x, c * x), 0.0, np.arange(4.0))
    (np.float64(6.0), array([0., 0., 2., 9.]))
    >>> power = lambda x: vk.lax.scan(lambda c, _: (c * x, None), 1.0, length=3)[0]
    >>> vk.jit(vk.grad(power))(2.0)
    np.float64(12.0)
    """
    require_function("scan", f)
    state, tree = array_leaves("scan", "init", init)
    loose = python_numbers(init)
    slices, x_tree = array_leaves("scan", "xs", xs)
    n = common_length(xs, slices, length)
    require_unroll("scan", unroll)
    kept = slots_for("scan", state, checkpoint, slots, memory)
    if kept is None and runs_on_values([*state, *slices]):
        return in_python(f, (state, tree, loose), (slices, x_tree), n, reverse)
    steps = [ShapeDtypeStruct(x.shape[1:], x.dtype) for x in slices]
    label = f"scan: {name_of(f)}"
    made, state = stable_body(label, f, (state, tree, loose), x_tree.unflatten(steps))
    count, consts = len(state), len(made.consts)
    _, y_tree = made.tree.children()
    step, more = made.program, 0
    loop = scan_loop if kept is not None else form_of(scan_loop)
    # A loop that is checkpointed keeps as little as it can from step to step.
    plain = kept is None and loop is scan_loop and n > 1
    handed = handed_on(step, consts, count) if plain else None
    if handed is not None:
        step, more = handed.body, handed.added
        state = [*state, *call(*made.consts, *state, program=handed.start)]
    outs = bind(
        loop,
        [*made.consts, *state, *slices],
        {
            "body": step, "length": n, "reverse": bool(reverse),
            "consts": consts, "carry": count + more,
            **({} if kept is None else {"slots": kept}),
        },
    )  # fmt: skip
    return tree.unflatten(outs[:count]), y_tree.unflatten(outs[count + more :][: y_tree.num_leaves])


def require_unroll(label: str, unroll: int | bool) -> None:
    if not isinstance(unroll, int) or unroll < 0:
        raise ValueError(
            f"{label}: unroll must be a positive int or a bool, got {unroll!r}"
            f"{at(calling_position())}"
        )


def common_length(xs: PyTree, leaves: Sequence[Value], length: int | None) -> int:
    """The number of steps; a `ValueError` where slices and ``length`` disagree."""
    if length is not None:
        length = int(length)
    elif not leaves:
        raise ValueError(
            f"scan: xs has no arrays and length is not given{at(calling_position())}.\n"
            "Pass length= for a loop without xs."
        )
    paths = flatten_with_path(xs)[0]
    for (path, _), x in zip(paths, leaves, strict=True):
        where = keystr(path) or "xs"
        if not aval_of(x).shape:
            raise ValueError(
                f"scan: {where} is a scalar, which has no slices{at(calling_position())}.\n"
                "Close over it, or put it into the carry."
            )
        if length is None:
            length = aval_of(x).shape[0]
        if aval_of(x).shape[0] != length:
            raise ValueError(
                f"scan: {where} has "
                f"{counted(aval_of(x).shape[0], 'slice')}, but {length} are wanted"
                f"{at(calling_position())}"
            )
    assert length is not None
    if length < 0:
        raise ValueError(
            f"scan: length is {length}{at(calling_position())}; it must not be negative"
        )
    return length


def in_python(
    f: Callable[..., Any], init: tuple[list[Value], PyTreeDef, list[bool]],
    xs: tuple[list[Value], PyTreeDef], n: int, reverse: bool,
) -> tuple[PyTree, PyTree]:  # fmt: skip
    """The loop on values."""
    (state, tree, loose), (slices, x_tree) = init, xs
    label = f"scan: {name_of(f)}"
    if n == 0:
        steps = [ShapeDtypeStruct(x.shape[1:], x.dtype) for x in slices]
        made, state = stable_body(label, f, init, x_tree.unflatten(steps))
        none = made.tree.children()[1]
        avals = made.outs[len(state) :][: none.num_leaves]
        empty = [np.zeros((0, *a.shape), a.dtype) for a in avals]
        return own_results(tree.unflatten(state), init[0]), none.unflatten(empty)
    columns: list[list[Value]] = []
    y_tree = None
    carry = tree.unflatten(state)
    for step_number in range(n - 1, -1, -1) if reverse else range(n):
        pair = f(carry, x_tree.unflatten([x[step_number] for x in slices]))
        carry, y = checked_pair(label, pair)
        wider = widened(state, same_carry(label, state, tree, carry, loose))
        if wider is not None:
            return in_python(f, (wider, tree, loose), xs, n, reverse)
        leaves, y_tree = flatten(y)
        columns.append(leaves)
    if reverse:
        columns.reverse()
    assert y_tree is not None
    stacks = [np.stack(column) for column in zip(*columns, strict=True)]
    return own_results(carry, init[0]), y_tree.unflatten(stacks)


def checked_pair(label: str, pair: Any) -> tuple[PyTree, PyTree]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(
            f"{label} must return a pair (carry, y), got {type(pair).__name__}"
            f"{at(calling_position())}.\nReturn (carry, None) where nothing is to be stacked."
        )
    return pair


_KINDS = "biufc"


def same_carry(
    label: str, state: Sequence[Value], tree: PyTreeDef, carry: PyTree, loose: Sequence[bool]
) -> list[Aval]:
    """Avals of the carry that a step was given and made, which must fit the initial one.

    ``loose`` marks Python's numbers, which take the dtype of what a step makes of them.
    """
    leaves, found = flatten(carry)
    if found != tree:
        raise TypeError(
            f"{label} returned a carry of tree {found}, but started with {tree}"
            f"{at(calling_position())}.\nReturn the carry with the tree of init."
        )
    avals = []
    for i, (x, start, free) in enumerate(zip(leaves, state, loose, strict=True)):
        came, wanted = aval_of(x), aval_of(start).strong()
        lower = _KINDS.index(came.dtype.kind) <= _KINDS.index(wanted.dtype.kind)
        fits = came.dtype == wanted.dtype or (came.weak and lower)
        if free and not (lower or fits):
            fits, wanted = True, Aval(wanted.shape, came.dtype)
        if came.shape != wanted.shape or not fits:
            path = keystr(flatten_with_path(carry)[0][i][0])
            raise TypeError(
                f"{label} returned carry {came}{f' at {path}' if path else ''}, but started with "
                f"{wanted}{at(calling_position())}.\n"
                "Cast the initial carry, or the body's result, so that they agree."
            )
        avals.append(wanted)
    return avals


def widened(state: Sequence[Value], avals: Sequence[Aval]) -> list[Value] | None:
    """The initial carry in the dtypes that the steps need; None where it has them."""
    if all(aval_of(x).dtype == a.dtype for x, a in zip(state, avals, strict=True)):
        return None
    return [to_dtype(x, a.dtype) for x, a in zip(state, avals, strict=True)]


def stable_body(
    label: str,
    f: Callable[..., Any],
    init: tuple[list[Value], PyTreeDef, list[bool]],
    x: PyTree,
) -> tuple[Body, list[Value]]:
    """The body staged, its carry in the avals of the initial one; this in the dtypes it needs."""
    state, tree, loose = init
    structs = [ShapeDtypeStruct(aval_of(s).shape, aval_of(s).dtype) for s in state]
    pair = lambda carry, x: checked_pair(label, f(carry, x))  # noqa: E731  # one expression
    made = giving_something(body(label, pair, (tree.unflatten(structs), x)))
    carry_tree, _ = made.tree.children()
    count = carry_tree.num_leaves
    placeholders = [Var(a) for a in made.outs[:count]]
    wanted = same_carry(label, state, tree, carry_tree.unflatten(placeholders), loose)
    wider = widened(state, wanted)
    if wider is not None:
        return stable_body(label, f, (wider, tree, loose), x)
    return made.cast([*wanted, *[a.strong() for a in made.outs[count:]]]), state
