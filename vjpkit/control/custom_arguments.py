"""Custom rules as their author wrote them, on flat leaves: arguments, trees and zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.control.calls import Outputs, flat_outputs, zeros_of
from vjpkit.control.rules import Maybe, RuledCall
from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.arguments import what
from vjpkit.transforms.sides import FLOAT0
from vjpkit.transforms.traces import current

if TYPE_CHECKING:
    from vjpkit.control.custom import CustomRule

__all__ = ["Bound", "CustomVJPPrimal", "SymbolicZero", "what_it_is"]


class SymbolicZero:
    """A tangent or cotangent that is zero and was never made, for ``symbolic_zeros=True``.

    >>> import numpy as np
    >>> SymbolicZero((2, 3), np.float64)
    SymbolicZero(f64[2,3])
    """

    __slots__ = ("aval",)

    def __init__(self, shape: Shape, dtype: Any) -> None:
        self.aval = Aval(shape, dtype)

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return self.aval.ndim

    def __repr__(self) -> str:
        return f"SymbolicZero({self.aval})"


@dataclass(frozen=True)
class CustomVJPPrimal:
    """An argument of ``fwd`` with ``symbolic_zeros=True``: its value, and whether it varies."""

    value: Value
    perturbed: bool


# ------------------------------------------------------------------------ arguments, and flat rules


class Bound:
    """A call's arguments, and the user's rules as rules of flat leaves."""

    def __init__(self, rule: CustomRule, args: Sequence[PyTree]) -> None:
        self.name = rule.label
        self.rule = rule
        self.nondiff = rule.nondiff
        if self.nondiff and max(self.nondiff) >= len(args):
            raise TypeError(
                f"{self.name}: {rule.word}={self.nondiff} is out of range: the call has "
                f"{counted(len(args), 'argument')}{at(calling_position())}.\n"
                "Arguments are counted from 0."
            )
        self.fixed = [args[n] for n in self.nondiff]
        self.count = len(args)
        chosen = tuple(a for n, a in enumerate(args) if n not in self.nondiff)
        self.leaves, self.tree = flatten(chosen)
        self.avals = [aval_of(x) for x in self._arrays(chosen)]
        self.out_tree: PyTreeDef | None = None
        self.out_avals: list[Aval] = []

    def _arrays(self, chosen: PyTree) -> list[Value]:
        """The leaves; a `TypeError` for one that is neither an array nor a number."""
        for i, x in enumerate(self.leaves):
            if not (hasattr(x, "dtype") or isinstance(x, bool | int | float | complex)):
                path = keystr(flatten_with_path(chosen)[0][i][0])
                raise TypeError(
                    f"{self.name}: argument {path} is a {type(x).__name__}, which is neither an "
                    f"array nor a number{at(calling_position())}.\n"
                    f"Name it among {self.rule.word}, or close over it."
                )
        return self.leaves

    def arguments(self, leaves: Sequence[Any]) -> tuple[PyTree, ...]:
        """The differentiable arguments as the user wrote them."""
        return tuple(self.tree.unflatten(leaves))

    def all_arguments(self, leaves: Sequence[Any]) -> list[PyTree]:
        """Every argument in its place."""
        chosen, fixed = iter(self.arguments(leaves)), iter(self.fixed)
        return [next(fixed) if n in self.nondiff else next(chosen) for n in range(self.count)]

    def output(self, y: PyTree) -> Outputs:
        """An output as flat leaves; its tree is remembered."""
        leaves, self.out_tree = flat_outputs(self.name, y)
        self.out_avals = list(map(aval_of, leaves))
        return tuple(leaves)

    def tree_of_output(self) -> PyTreeDef:
        """The tree of the output, known once the call has run."""
        assert self.out_tree is not None
        return self.out_tree

    def run(self, *leaves: Value) -> Outputs:
        """The function itself, flat."""
        return self.output(self.rule.fun(*self.all_arguments(leaves)))

    # -- forward -----------------------------------------------------------------------------------

    def jvp(self, values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        rule = self.rule.forward
        assert rule is not None
        pairs = zip(ts, self.avals, strict=True)
        given = [self._vector(t, a, self.rule.symbolic, [*ts, *values]) for t, a in pairs]
        y, t = self._pair(
            rule(*self.fixed, self.arguments(values), self.arguments(given)),
            "the rule must return a pair (output, tangent)",
        )
        outs = self.output(y)
        return outs, self._tangents(t)

    def _tangents(self, t: PyTree) -> list[Maybe]:
        """What a forward rule returned as tangent, one entry per output, checked and cast."""
        leaves, tree = flatten(t, is_zero)
        if tree != self.tree_of_output():
            raise TypeError(
                f"{self.name}: the rule returned an output of tree {self.out_tree} with a "
                f"tangent of tree {tree}{at(calling_position())}.\n"
                "The tangent has the output's tree."
            )
        paths = flatten_with_path(self.tree_of_output().unflatten(self.out_avals))[0]
        triples = zip(leaves, self.out_avals, paths, strict=True)
        return [
            self._fitted(leaf, aval, f"the rule returned a tangent at output{keystr(path)}")
            for leaf, aval, (path, _) in triples
        ]

    # -- reverse -----------------------------------------------------------------------------------

    def fwd(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
        rule = self.rule.fwd
        assert rule is not None
        leaves: list[Any] = list(values)
        if self.rule.symbolic_vjp:
            pairs = zip(values, live, strict=True)
            leaves = [CustomVJPPrimal(v, bool(perturbed)) for v, perturbed in pairs]
        y, residuals = self._pair(
            rule(*self.all_arguments(leaves)), "fwd must return a pair (output, residuals)"
        )
        return self.output(y), residuals

    def bwd(self, residuals: PyTree, cts: Sequence[Maybe]) -> list[Maybe]:
        rule = self.rule.bwd
        assert rule is not None
        ct = self._cotangent(cts, [*cts, *flatten(residuals)[0]], self.rule.symbolic_vjp)
        return self._cotangents(rule(*self.fixed, residuals, ct), "bwd")

    def transpose(self, values: Sequence[Value], cts: Sequence[Maybe]) -> list[Maybe]:
        rule = self.rule.transposed
        assert rule is not None
        numbers = self.rule.linear_of(self.count)
        args = self.all_arguments(values)
        fixed = [a for n, a in enumerate(args) if n not in numbers and n not in self.nondiff]
        ct = self._cotangent(cts, [*cts, *values], False)
        out = rule(*self.fixed, *fixed, ct)
        children = self.tree.children()
        places = [n for n in range(self.count) if n not in self.nondiff]
        linear = [n in numbers for n in places]
        given = self._per_argument(out, sum(linear), "transpose")
        spread_out = iter(given)
        full = [next(spread_out) if is_linear else None for is_linear in linear]
        assert len(full) == len(children)
        return self._cotangents(tuple(full), "transpose")

    def linear_leaves(self) -> tuple[int, ...]:
        """The leaves of the arguments in which the function is linear."""
        numbers = self.rule.linear_of(self.count)
        places = [n for n in range(self.count) if n not in self.nondiff]
        out: list[int] = []
        start = 0
        for n, child in zip(places, self.tree.children(), strict=True):
            if n in numbers:
                out += range(start, start + child.num_leaves)
            start += child.num_leaves
        return tuple(out)

    def _cotangent(self, cts: Sequence[Maybe], beside: Sequence[Value], symbolic: bool) -> PyTree:
        pairs = zip(cts, self.out_avals, strict=True)
        leaves = [self._vector(ct, aval, symbolic, beside) for ct, aval in pairs]
        return self.tree_of_output().unflatten(leaves)

    def _cotangents(self, out: Any, which: str) -> list[Maybe]:
        """What a reverse rule returned, one entry per leaf (None for zero), checked and cast."""
        children = self.tree.children()
        flat: list[Any] = []
        for n, (ct, child) in enumerate(
            zip(self._per_argument(out, len(children), which), children, strict=True)
        ):
            if ct is None or isinstance(ct, SymbolicZero):
                flat += [None] * child.num_leaves
                continue
            leaves, tree = flatten(ct, is_zero)
            if tree != child:
                raise TypeError(
                    f"{self.name}: {which} returned the tree {tree} for argument {n}, but {child} "
                    f"is wanted{at(calling_position())}.\n"
                    "None stands for a zero cotangent of a whole argument or of one leaf."
                )
            flat += leaves
        paths = flatten_with_path(self.arguments(self.avals))[0]
        triples = zip(flat, self.avals, paths, strict=True)
        return [
            self._fitted(ct, aval, f"{which} returned a cotangent at {keystr(path)}")
            for ct, aval, (path, _) in triples
        ]

    def _per_argument(self, out: Any, count: int, which: str) -> Sequence[Any]:
        if not isinstance(out, tuple | list) or len(out) != count:
            raise TypeError(
                f"{self.name}: {which} must return a tuple of "
                f"{counted(count, 'cotangent')}, one per "
                f"differentiable argument, got {what_it_is(out)}{at(calling_position())}.\n"
                "None stands for a zero cotangent of a whole argument or of one leaf."
            )
        return out

    # -- vectors -----------------------------------------------------------------------------------

    def _vector(self, t: Maybe, aval: Aval, symbolic: bool, beside: Sequence[Value]) -> Any:
        """A tangent or cotangent as the rule gets it."""
        if symbolic and (t is None or not aval.inexact):
            return SymbolicZero(aval.shape, aval.dtype if aval.inexact else FLOAT0)
        if not aval.inexact:
            return np.zeros(aval.shape, FLOAT0)
        return zeros_of(aval, beside) if t is None else t

    def _fitted(self, t: Any, aval: Aval, said: str) -> Maybe:
        """A tangent or cotangent that a rule returned, as a fresh value of the right aval."""
        if t is None or isinstance(t, SymbolicZero) or not aval.inexact:
            return None
        t = t if hasattr(t, "dtype") else np.asarray(t)[()]
        if t.dtype == FLOAT0:
            return None
        if t.dtype.kind not in "biufc":
            raise TypeError(
                f"{self.name}: {said} of dtype {t.dtype}, but {aval} is wanted"
                f"{at(calling_position())}"
            )
        if tuple(t.shape) != aval.shape:
            raise ValueError(
                f"{self.name}: {said} of shape {tuple(t.shape)}, but {aval.shape} is "
                f"wanted{at(calling_position())}"
            )
        if t.dtype.kind == "c" and aval.dtype.kind != "c":
            raise ValueError(
                f"{self.name}: {said} of dtype {t.dtype}, but {aval.dtype} is "
                f"wanted{at(calling_position())}.\nReturn its real part."
            )
        # A copy, because a rule may return what it keeps, or its own argument.
        return current(t.astype(aval.dtype))

    def _pair(self, pair: Any, said: str) -> tuple[PyTree, PyTree]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{self.name}: {said}, got {what_it_is(pair)}{at(calling_position())}")
        return pair[0], pair[1]

    # -- vmap --------------------------------------------------------------------------------------

    def vmap(self, n: int, batched: Sequence[bool], values: Sequence[Value]) -> Outputs:
        rule = self.rule.batched
        assert rule is not None
        flags = self.all_arguments([bool(b) for b in batched])
        for i in self.nondiff:
            flags[i] = False
        y, mine = self._pair(
            rule(n, flags, *self.all_arguments(values)),
            "the vmap rule must return a pair (output, whether each of its leaves is batched)",
        )
        leaves, tree = flat_outputs(self.name, y)
        self.out_tree = tree
        marks = tree_map(bool, mine) if not isinstance(mine, bool) else mine
        flat = [marks] * len(leaves) if isinstance(marks, bool) else flatten(marks)[0]
        if len(flat) != len(leaves):
            raise TypeError(
                f"{self.name}: the vmap rule returned "
                f"{counted(len(leaves), 'output')}, but says of "
                f"{len(flat)} whether they are batched{at(calling_position())}"
            )
        outs: list[Value] = []
        for leaf, is_batched in zip(leaves, flat, strict=True):
            if is_batched and (not leaf.shape or leaf.shape[0] != n):
                raise ValueError(
                    f"{self.name}: the vmap rule returned shape {tuple(leaf.shape)} as batched, but"
                    f" a leading axis of length {n} is wanted{at(calling_position())}"
                )
            outs.append(leaf if is_batched else np.broadcast_to(leaf, (n, *leaf.shape)))
        self.out_avals = [Aval(o.shape[1:], o.dtype) for o in outs]
        return tuple(outs)

    def call(self) -> RuledCall:
        """The call with the rules that there are."""
        rule = self.rule
        has_reverse = rule.fwd is not None and rule.bwd is not None
        return RuledCall(
            self.name,
            self.run,
            jvp=self.jvp if rule.forward else None,
            fwd=self.fwd if has_reverse else None,
            bwd=self.bwd if has_reverse else None,
            transpose=self.transpose if rule.transposed else None,
            linear=self.linear_leaves() if rule.transposed else (),
            vmap=self.vmap if rule.batched else None,
            owner=rule.staging,
        )


def is_zero(x: object) -> bool:
    """What stands for a zero without being one."""
    return x is None or isinstance(x, SymbolicZero)


def what_it_is(x: Any) -> str:
    return f"{len(x)}" if isinstance(x, tuple | list) else what(x)
