"""What goes into a linear map and comes out: trees of vectors, read, checked and built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import calling_position, counted, note_line
from vjpkit.core.rows import roles
from vjpkit.core.tracer import Tracer, operand
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_up_to, flatten_with_path, keystr

__all__ = ["FLOAT0", "Side", "advice", "float0", "fresh", "tangent_aval"]

FLOAT0 = np.dtype([("float0", np.void, 0)])
"""The dtype of tangents of integers and booleans: it has no values but zero (JAX's ``float0``)."""
float0 = FLOAT0


@dataclass(frozen=True)
class Side:
    """Domain or codomain of a map: a tree of avals.

    ``star`` says that it is an argument tuple (called as ``L(*arguments)``, returned as a tuple);
    ``scalars`` marks leaves that are scalars rather than 0-d arrays.
    """

    tree: PyTreeDef
    avals: tuple[Aval, ...]
    scalars: tuple[bool, ...]
    star: bool

    @classmethod
    def of(cls, value: PyTree, star: bool) -> Side:
        """The space in which ``value`` lives."""
        leaves, tree = flatten(value)
        return cls.of_leaves(leaves, tree, star)

    @classmethod
    def of_leaves(cls, leaves: Sequence[Value], tree: PyTreeDef, star: bool) -> Side:
        avals = tuple([tangent_aval(x) for x in leaves])
        return cls(tree, avals, tuple([not isinstance(x, np.ndarray) for x in leaves]), star)

    @property
    def live(self) -> list[int]:
        """Leaves that have tangents at all."""
        return [i for i, a in enumerate(self.avals) if a.dtype != FLOAT0]

    @property
    def live_avals(self) -> list[Aval]:
        return [self.avals[i] for i in self.live]

    @property
    def size(self) -> int:
        """Number of real or complex coordinates."""
        return sum(a.size for a in self.live_avals)

    def read(self, name: str, arguments: tuple[Any, ...]) -> list[Value]:
        """The live leaves of a call's arguments, checked; `ValueError` names path and line."""
        try:
            value, leaves = self.leaves(name, arguments)
            return [
                self._leaf(name, value, i, leaf)
                for i, leaf in enumerate(leaves)
                if self.avals[i].dtype != FLOAT0 or self._nothing(name, value, i, leaf)
            ]
        except (TypeError, ValueError) as error:
            note_line(error, calling_position())
            raise

    def leaves(self, name: str, arguments: tuple[Any, ...]) -> tuple[PyTree, list[Value]]:
        """The arguments as a tree, and all its leaves."""
        if not self.star and len(arguments) != 1:
            raise TypeError(f"{name} takes 1 argument (a value like {self}), got {len(arguments)}")
        value = arguments if self.star else arguments[0]
        if self.star and len(arguments) != len(self.tree.children()):
            count = len(self.tree.children())
            raise TypeError(
                f"{name} takes {counted(count, 'argument')} {self}, got {len(arguments)}"
            )
        leaves, tree = flatten(value)
        if tree != self.tree:
            flatten_up_to(self.tree, value, f"{name}: the argument has the wrong tree", exact=True)
        return value, leaves

    def _nothing(self, name: str, value: PyTree, i: int, leaf: Value) -> bool:
        """False; raises for a tangent in an integer argument: it would be dropped in silence."""
        if self.star and not isinstance(leaf, Tracer):
            given = np.asarray(leaf)
            if given.dtype != FLOAT0 and np.any(given != 0):
                path = keystr(flatten_with_path(value)[0][i][0])
                raise ValueError(
                    f"{name}: got a tangent other than zero at {path}, where the argument is an "
                    "integer or a boolean.\nCast the argument to float to differentiate in it, or "
                    "pass zeros (np.zeros(shape, vk.float0))."
                )
        return False

    def _leaf(self, name: str, value: PyTree, i: int, leaf: Value) -> Value:
        wanted = self.avals[i]
        if type(leaf) is np.ndarray and leaf.shape == wanted.shape and leaf.dtype == wanted.dtype:
            return leaf
        if isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
            fits = wanted.shape == () and (
                wanted.dtype.kind == "c" or not isinstance(leaf, complex)
            )
            if fits:
                return wanted.dtype.type(leaf)
        elif hasattr(leaf, "dtype") and aval_of(leaf).strong() == wanted:
            return operand(leaf)
        path = keystr(flatten_with_path(value)[0][i][0])
        came = aval_of(leaf) if hasattr(leaf, "dtype") else type(leaf).__name__
        raise ValueError(
            f"{name}: got {came}{f' at {path}' if path else ''}, but {wanted} is wanted.\n"
            f"{advice(leaf, wanted)}"
        )

    def build(self, values: Iterable[Value | None], keep: Iterable[Value] = ()) -> PyTree:
        """The tree of the given live leaves (None for zero), fresh and unaliased."""
        rest = iter(values)
        taken = {id(x) for x in keep}
        leaves = []
        for aval, scalar in zip(self.avals, self.scalars, strict=True):
            leaf = np.zeros(aval.shape, FLOAT0) if aval.dtype == FLOAT0 else next(rest)
            leaves.append(fresh(leaf, aval, scalar, taken))
        return self.tree.unflatten(leaves)

    def __str__(self) -> str:
        return str(self.tree.unflatten(list(self.avals)))


def advice(leaf: Value, wanted: Aval) -> str:
    """What to do about a vector that does not fit, in words."""
    if hasattr(leaf, "dtype") and leaf.dtype != wanted.dtype:
        return f"Cast it: .astype(np.{wanted.dtype})."
    return f"Pass an array of shape {wanted.shape} and dtype {wanted.dtype}."


def tangent_aval(x: Value) -> Aval:
    """The aval of tangents at ``x``."""
    aval = aval_of(x)
    return aval.strong() if aval.inexact else Aval(aval.shape, FLOAT0)


def fresh(x: Value | None, aval: Aval, scalar: bool, taken: set[int]) -> Value:
    """``x`` as a result: dense, writable, sharing no memory with anything else."""
    if x is None:
        return aval.dtype.type(0) if scalar and not aval.shape else np.zeros(aval.shape, aval.dtype)
    if isinstance(x, Tracer):
        return roles["held"](x)
    if not isinstance(x, np.ndarray):
        return x if scalar or not isinstance(x, np.generic) else np.array(x)
    if scalar and not x.shape:
        return x[()]
    if x.base is not None or id(x) in taken or not x.flags.writeable:
        x = x.copy()
    taken.add(id(x))
    return x
