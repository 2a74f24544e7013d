"""Trees of arguments that come again and again: read and built by straight-line code."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.kinds.elementwise import generate
from vjpkit.pytree import LEAF, PyTree, PyTreeDef

__all__ = ["BARE", "Form", "form_of", "walked"]

_MANY = 64
"""Larger trees are walked: their code would take longer to compile than it saves."""


class Form(NamedTuple):
    """One structure of arguments: ``read`` gives the leaves if they are arrays, else None."""

    tree: PyTreeDef
    read: Callable[[PyTree], list[Value] | None]
    build: Callable[[list[Value]], PyTree]


BARE = Form(
    LEAF,
    lambda x: [x] if type(x) is np.ndarray and x.dtype.kind in "fc" else None,
    lambda leaves: leaves[0],
)
"""An array that is no part of a tree."""


def walked(tree: PyTreeDef) -> Form:
    """A structure that is read and built by walking."""
    return BARE if tree is LEAF else Form(tree, lambda _: None, tree.unflatten)


def form_of(tree: PyTreeDef) -> Form:
    """How to read and build trees of this structure.

    Dicts, lists and tuples, and they alone, are read without walking; what is found there must be
    plain arrays of inexact numbers.

    >>> from vjpkit.pytree import structure
    >>> form = form_of(structure({"w": 0.0, "b": [0.0]}))
    >>> x, y = np.ones(2), np.zeros(1)
    >>> form.read({"b": [x], "w": y}) == [x, y], form.read({"b": [1.0], "w": y})
    (True, None)
    """
    try:
        return _compiled(tree)
    except TypeError:  # static data that does not hash
        return walked(tree)


@lru_cache(maxsize=256)
def _compiled(tree: PyTreeDef) -> Form:
    writer = _Writer()
    if tree is LEAF or not 0 < tree.num_leaves <= _MANY or not writer.node(tree, "tree"):
        return walked(tree)
    leaves = ", ".join(writer.leaves)
    lines = ["def read(tree):", "  try:", *[f"    {line}" for line in writer.lines]]
    lines += ["  except KeyError: return None", f"  return [{leaves}]"]
    lines += ["def build(leaves):", f"  {leaves}, = leaves", f"  return {writer.made}"]
    read = generate("\n".join(lines), writer.scope, "form", "read")
    return Form(tree, read, writer.scope["build"])


class _Writer:
    """Writes the code; False where a node is of another kind."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {
            "ndarray": np.ndarray, "FLOAT64": np.dtype(np.float64), "INEXACT": frozenset("fc"),
        }  # fmt: skip
        self.names = (f"x{i}" for i in itertools.count())
        self.lines: list[str] = []
        self.leaves: list[str] = []
        self.made = ""

    def node(self, tree: PyTreeDef, name: str) -> bool:
        data, children = tree.node_data(), tree.children()
        if data is None:
            exact = f"{name}.dtype is not FLOAT64 and {name}.dtype.kind not in INEXACT"
            self.lines.append(f"if type({name}) is not ndarray or {exact}: return None")
            self.leaves.append(name)
            self.made = name
            return True
        cls, keys = data
        if cls not in (dict, list, tuple):
            return False
        kind = f"type({name}) is not {cls.__name__} or len({name}) != {len(children)}"
        self.lines.append(f"if {kind}: return None")
        parts = []
        for i, child in enumerate(children):
            part, key = next(self.names), str(i)
            if cls is dict:
                key = f"key_{part}"
                self.scope[key] = keys[i]
            self.lines.append(f"{part} = {name}[{key}]")
            if not self.node(child, part):
                return False
            parts.append(f"{key}: {self.made}" if cls is dict else f"{self.made},")
        opened, closed = {dict: ("{", "}"), list: ("[", "]"), tuple: ("(", ")")}[cls]
        self.made = opened + (", " if cls is dict else " ").join(parts) + closed
        return True
