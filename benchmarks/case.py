"""A case: one program in several sizes, and its gradient by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Case", "Problem", "Size", "Tree", "label", "leaves", "parsed", "tree_map"]

Size = tuple[int, ...]
Tree = Any
"""An array, or a dict of arrays: what a case's function is differentiated in."""


def label(size: Size) -> str:
    """A size as tables and files name it.

    >>> label((600,)), label((32, 64, 128, 10))
    ('600', '32x64x128x10')
    """
    return "x".join(map(str, size))


def parsed(text: str) -> Size:
    """The inverse of `label`.

    >>> parsed("32x64x128x10")
    (32, 64, 128, 10)
    """
    return tuple(map(int, text.split("x")))


def leaves(tree: Tree) -> list[Any]:
    """The arrays of a tree, in the order of its keys."""
    return [tree[name] for name in sorted(tree)] if isinstance(tree, Mapping) else [tree]


def tree_map(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """The tree of the function's results."""
    if isinstance(tree, Mapping):
        return {name: function(leaf) for name, leaf in tree.items()}
    return function(tree)


def unchanged(tree: Tree) -> Tree:
    """What `Case.canonical` is by default."""
    return tree


@dataclass(frozen=True)
class Case:
    """``function(np, x, *data)`` is a real scalar; its gradient in ``x`` is measured.

    ``np`` is NumPy or the library's own namespace with the same names, and a few more:
    ``np.solve_triangular(l, b)``; ``np.integers(x)``, a cast; ``np.scatter_add(x, places, n)``, n
    sums; and ``np.loop(step, carry, xs)``, which gives the last carry of ``carry = step(carry, x)``
    for each x of the array ``xs`` along its first axis, or so many times without an x if ``xs`` is
    an int.
    ``inputs(size, generator)`` gives ``(x, *data)``: arrays, or Python ints (step counts), which
    stay what they are. ``hand(x, *data)`` is the derivative as one would write it in NumPy for this
    function alone; ``numba(njit)`` makes the same in loops that Numba compiles.
    ``canonical`` brings gradients that conventions allow to differ to one form, to compare them.

    ``derivative`` is what tables call the gradient: besides ``gradient`` of a scalar function
    ``jacobian`` of a vector-valued one, ``hessian`` and ``laplacian`` of a scalar one, ``product``
    (Hessian times the direction that the last of ``data`` gives), ``examples`` (the gradient in
    ``x`` for each example along the first axis of all ``data``), ``blocks`` (the Jacobian in each
    row of ``x`` and ``data``).
    """

    name: str
    about: str
    sizes: tuple[Size, ...]
    quick: tuple[Size, ...]
    inputs: Callable[[Size, np.random.Generator], tuple[Any, ...]]
    function: Callable[..., Any]
    hand: Callable[..., Tree] | None = None
    numba: Callable[[Any], Callable[..., Tree]] | None = None
    derivative: str = "gradient"
    canonical: Callable[[Tree], Tree] = unchanged
    operations: Callable[[Size], int] | None = None
    """How many operations the function makes, where the cost per operation is of interest."""
    measures: tuple[str, ...] = ("function", "gradient")
    at_most: Mapping[str, int] = field(default_factory=dict)
    """The largest size for libraries that take minutes for more, by name."""
    tags: frozenset[str] = field(default_factory=frozenset)

    def chosen_sizes(self, quick: bool) -> tuple[Size, ...]:
        return self.quick if quick else self.sizes

    def fits(self, library: str, size: Size) -> bool:
        """Whether a library is asked for this size."""
        return size[0] <= self.at_most.get(library, size[0])

    def problem(self, size: Size) -> tuple[Any, ...]:
        """The inputs at a size: the same ones in every process."""
        return self.inputs(size, np.random.default_rng(20))


@dataclass(frozen=True)
class Problem:
    """A case at one size in one library: the function bound to its namespace, and native inputs."""

    function: Callable[..., Any]
    x: Tree
    data: tuple[Any, ...]
    case: Case
