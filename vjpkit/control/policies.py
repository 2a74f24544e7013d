"""What a checkpoint keeps: policies, names for values, and a budget of memory.

A policy is asked of every equation that the pullback needs, ``policy(primitive, *avals, **params)``
as in JAX, and says whether its results are saved.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.control.slots import bytes_of
from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.errors import at, calling_position
from vjpkit.core.ir import Atom, Equation, Program, Var, live_equations, used
from vjpkit.core.primitive import Primitive, Sample, primitive
from vjpkit.core.text import register_param
from vjpkit.kinds import Linear
from vjpkit.pytree import PyTree, tree_map
from vjpkit.transforms.arguments import require_arrays

__all__ = [
    "Budget",
    "Policy",
    "checkpoint_name",
    "checkpoint_policies",
    "split_by",
    "within",
]

_PRODUCTS = frozenset({"matmul", "dot", "tensordot", "einsum", "vecdot", "outer", "convolve"})


class CheckpointName(Linear):
    """A value under a name that policies know; its cotangent is another value, without the name."""

    impl = staticmethod(lambda x, name: x)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return ct

    def abstract(self, x: Aval, *, name: str) -> Aval:
        return x.strong()

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool], *, name: str) -> Any:
        return self(values[0], name=name)

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.array([0.3, -1.2]), name="hidden")


name_primitive = primitive(CheckpointName)


def checkpoint_name(x: PyTree, name: str) -> PyTree:
    """``x``, known by ``name`` to the policies of `checkpoint`; an array or a tree of them.

    >>> import vjpkit as vk
    >>> vk.grad(lambda x: vk.checkpoint_name(x * x, "square"))(3.0)
    np.float64(6.0)
    """
    if not isinstance(name, str):
        raise TypeError(
            f"checkpoint_name: name must be a string, got {type(name).__name__}"
            f"{at(calling_position())}.\nWrite checkpoint_name(x, 'name')."
        )
    return tree_map(lambda leaf: _named(x, leaf, name), x)


def _named(x: PyTree, leaf: Value, name: str) -> Value:
    require_arrays("checkpoint_name", x, [leaf])
    return name_primitive(leaf, name=name)


@dataclass(frozen=True)
class Policy:
    """A policy by its kind, and the names it speaks of."""

    kind: str
    names: tuple[str, ...] = ()

    def __call__(self, asked: Primitive, *avals: Aval, **params: Any) -> bool:
        """Whether the results of an equation are saved."""
        name = params.get("name") if asked is name_primitive else None
        match self.kind:
            case "everything_saveable":
                return True
            case "nothing_saveable":
                return False
            case "dots_saveable":
                return asked.name in _PRODUCTS
            case "dots_with_no_batch_dims_saveable":
                return asked.name in _PRODUCTS and all(a.ndim <= 2 for a in avals)
            case "save_only_these_names":
                return name in self.names
            case "save_any_names_but_these":
                return name is not None and name not in self.names
            case _:
                return name not in self.names

    def __repr__(self) -> str:
        by_name = self.kind.startswith("save_")
        return f"{self.kind}({', '.join(map(repr, self.names))})" if by_name else self.kind


@dataclass(frozen=True)
class Budget:
    """Saves what is dearest to compute again for its size, up to a number of bytes."""

    nbytes: int

    def __call__(self, asked: Primitive, *avals: Aval, **params: Any) -> bool:
        raise TypeError("a memory budget chooses among all equations at once")

    def chosen(self, equations: Sequence[Equation], wanted: set[Var]) -> set[int]:
        """Which of the equations that the pullback needs are saved, by number."""
        sizes = [sum([v.aval.nbytes for v in e.outputs if v in wanted]) for e in equations]
        worth = [cost(e) / max(size, 1) for e, size in zip(equations, sizes, strict=True)]
        # Among equals the later ones: what leads up to them need not run again.
        order = sorted(range(len(equations)), key=lambda i: (-worth[i], -i))
        left, chosen = self.nbytes, set()
        for i in order:
            if sizes[i] <= left:
                left -= sizes[i]
                chosen.add(i)
        return chosen


def cost(eqn: Equation) -> float:
    """About how many operations an equation takes."""
    made = sum([v.aval.size for v in eqn.outputs])
    read = [a.aval for a in eqn.inputs]
    if eqn.primitive.name in _PRODUCTS and read:
        return float(2 * made * max(read[0].shape[-1:] or (1,)))
    if hasattr(eqn.primitive, "core_ndims") and read and read[0].ndim >= 2:
        return float(read[0].size * max(read[0].shape[-2:]))
    return float(made + sum([a.size for a in read]))


def _parse_policy(text: str) -> Policy:
    kind, _, rest = text.partition("(")
    names = literal_eval(f"({rest[:-1]},)") if rest else ()
    return Policy(kind, names)


register_param(Policy, r"(?:everything|nothing|dots|save)_\w+(?:\([^()]*\))?", _parse_policy)
register_param(Budget, r"Budget\(nbytes=\d+\)", lambda text: Budget(int(text[14:-1])))


def _by_names(kind: str) -> Callable[..., Policy]:
    def policy(*names: str) -> Policy:
        if not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"checkpoint_policies.{kind}: names are strings, got {names!r}"
                f"{at(calling_position())}.\nWrite {kind}('a', 'b')."
            )
        return Policy(kind, names)

    return policy


@dataclass(frozen=True)
class Either:
    """Saves what one of two policies saves."""

    one: Callable[..., bool]
    other: Callable[..., bool]

    def __call__(self, asked: Primitive, *avals: Aval, **params: Any) -> bool:
        return bool(self.one(asked, *avals, **params) or self.other(asked, *avals, **params))


class checkpoint_policies:
    """Policies for `checkpoint`, under JAX's names.

    * ``everything_saveable``, ``nothing_saveable``;
    * ``dots_saveable``, ``dots_with_no_batch_dims_saveable`` (and JAX's older names,
      ``checkpoint_dots``, ``checkpoint_dots_with_no_batch_dims``): products of matrices are saved;
    * ``save_only_these_names(*names)``; ``save_any_names_but_these(*names)``: named values alone,
      but for these; ``save_anything_except_these_names(*names)``: any value, but for these;
    * ``save_from_both_policies(p, q)``: what one of them saves.

    >>> checkpoint_policies.save_only_these_names("a", "b")
    save_only_these_names('a', 'b')
    """

    everything_saveable = Policy("everything_saveable")
    nothing_saveable = Policy("nothing_saveable")
    dots_saveable = checkpoint_dots = Policy("dots_saveable")
    dots_with_no_batch_dims_saveable = Policy("dots_with_no_batch_dims_saveable")
    checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable
    save_only_these_names = staticmethod(_by_names("save_only_these_names"))
    save_any_names_but_these = staticmethod(_by_names("save_any_names_but_these"))
    save_anything_except_these_names = staticmethod(_by_names("save_anything_except_these_names"))
    save_from_both_policies = staticmethod(Either)


def within(memory: int | str, label: str) -> Budget:
    """The policy of a memory budget."""
    return Budget(bytes_of(memory, label))


@dataclass(frozen=True)
class Split:
    """A program of outputs and residuals, split by a policy.

    ``saving`` gives the outputs and what is saved; ``again`` takes the inputs numbered ``kept`` and
    what is saved, and gives the residuals.
    """

    saving: Program
    again: Program
    kept: tuple[int, ...]


def split_by(program: Program, count: int, policy: Any) -> Split:
    """Split a program whose first ``count`` outputs are results and whose others are residuals."""
    saved = _saved_equations(program, program.outputs[count:], policy)
    equations = program.equations
    named = {
        equations[i].inputs[0]: equations[i].outputs[0]
        for i in saved
        if equations[i].primitive is name_primitive
    }

    def known(a: Atom) -> Atom:
        """What is saved under a name serves wherever the value without the name would."""
        return named.get(a, a)

    residuals = tuple(map(known, program.outputs[count:]))
    wanted = set(used(residuals))
    again: list[Equation] = []
    handed: list[Var] = []
    for i in reversed(range(len(equations))):
        eqn = equations[i]
        mine = [v for v in eqn.outputs if v in wanted]
        if mine and i in saved:
            handed += mine
        elif mine:
            inputs = tuple(map(known, eqn.inputs))
            again.append(Equation(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.position))
            wanted.update(used(inputs))
    kept = tuple([i for i, v in enumerate(program.inputs) if v in wanted])
    outputs: list[Atom] = [*program.outputs[:count], *handed]
    live, _ = live_equations(equations, outputs, effects=True)
    return Split(
        Program(program.inputs, live, outputs),
        Program([*[program.inputs[i] for i in kept], *handed], reversed(again), residuals),
        kept,
    )


def _saved_equations(program: Program, residuals: Sequence[Atom], policy: Any) -> set[int]:
    """The equations whose results a policy saves, by number."""
    if not isinstance(policy, Budget):
        return {
            i
            for i, e in enumerate(program.equations)
            if policy(e.primitive, *[a.aval for a in e.inputs], **e.params)
        }
    needed, _ = live_equations(program.equations, residuals)
    number = {id(e): i for i, e in enumerate(program.equations)}
    wanted = {v for e in needed for v in used(e.inputs)} | set(used(residuals))
    return {number[id(needed[i])] for i in policy.chosen(needed, wanted)}
