"""The door of a staged program: Python source that knows a call's arguments by sight.

A call in a loop brings the same tree, shapes and dtypes as the call before. A door is generated for
one signature: it takes the arguments apart, looks at each leaf, calls the program and builds the
result, with nothing looked up. What it does not know it leaves to the ordinary way. That of a
function of a dictionary with one array reads::

    def door(args, kwargs):
        if kwargs or len(args) != 1: return MISS
        t1, = args
        if not (type(t1) is dict and len(t1) == 1): return MISS
        t2 = t1.get('w', MISS)
        if not (type(t2) is ndarray and t2.dtype is c3 and t2.shape == (3,)): return MISS
        r0, = run(t2)
        return {'w': r0}
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from vjpkit.backends import Executable
from vjpkit.core.aval import Value
from vjpkit.kinds.silence import restore, silence
from vjpkit.pytree import KINDS, LEAF, Kind, PyTree, PyTreeDef

__all__ = ["MISS", "Door", "door"]

Door = Callable[[tuple[PyTree, ...], dict[str, PyTree]], PyTree]

MISS: Final = object()
"""What a door answers where the arguments are not those that it knows."""


def door(
    args: Sequence[PyTree],
    kwargs: Mapping[str, PyTree],
    static: Container[int | str],
    sources: Sequence[Value],
    execute: Executable,
    out_tree: PyTreeDef,
    arrays: Sequence[int],
    silenced: bool,
    unchanged: Callable[[], bool] | None,
) -> Door:
    """The function of ``(args, kwargs)`` that answers calls like this one; else `MISS`.

    ``static`` are numbers and names of static arguments, which must have the same values.
    ``execute`` takes ``sources`` and the leaves, ``silenced`` where NumPy's warnings would be no
    news. ``arrays`` are the numbers of results that are arrays of no axis, which it gives as
    scalars.
    ``unchanged`` tells whether what the program was made from is as it was. Where ``execute`` is
    not settled the door closes when it is.
    """
    text = Text(execute)
    text.arguments(args, kwargs, static)
    if not execute.settled:
        text.require(f"not {text.constant(execute)}.settled")
    if unchanged is not None:
        text.require(f"{text.constant(unchanged)}()")
    text.run([*map(text.constant, sources), *text.leaves], out_tree.num_leaves, silenced)
    text.lines += [f"r{i} = asarray(r{i})" for i in arrays]
    text.lines.append(f"return {text.tree(out_tree, iter(text.results))}")
    return text.compile()


class Text:
    """The source of a door, and the values that it names."""

    def __init__(self, execute: Executable) -> None:
        self.lines: list[str] = []
        self.direct = execute.direct
        self.scope: dict[str, Any] = {
            "direct": self.direct,
            "MISS": MISS,
            "asarray": np.asarray,
            "ndarray": np.ndarray,
            "run": execute.run,
            "silence": silence,
            "restore": restore,
            "name_line": execute.name_line,
        }
        self.leaves: list[str] = []
        self.results: list[str] = []
        self.locals = 0

    def compile(self) -> Door:
        body = "".join(f"    {line}\n" for line in self.lines)
        exec(compile(f"def door(args, kwargs):\n{body}", "<vjpkit door>", "exec"), self.scope)
        return self.scope["door"]  # type: ignore[no-any-return]  # the scope is untyped

    def local(self) -> str:
        self.locals += 1
        return f"t{self.locals}"

    def constant(self, value: Any) -> str:
        """A name, or the text, of a value."""
        if type(value) in (str, int, bool) or value is None:
            return repr(value)
        name = f"c{len(self.scope)}"
        self.scope[name] = value
        return name

    def require(self, condition: str) -> None:
        self.lines.append(f"if not ({condition}): return MISS")

    # ---- arguments ---------------------------------------------------------------------------

    def arguments(
        self, args: Sequence[PyTree], kwargs: Mapping[str, PyTree], static: Container[int | str]
    ) -> None:
        """Take the arguments apart, in the order of the leaves of ``(args, kwargs)``."""
        words = f"len(kwargs) != {len(kwargs)}" if kwargs else "kwargs"
        self.lines.append(f"if {words} or len(args) != {len(args)}: return MISS")
        places: list[tuple[int | str, PyTree]] = [*enumerate(args)]
        names = self.unpacked("args", len(args))
        for word in sorted(kwargs):
            places.append((word, kwargs[word]))
            names.append(self.looked_up("kwargs", word))
        for name, (place, example) in zip(names, places, strict=True):
            if place in static:
                self.static(name, example)
            else:
                self.node(name, example)

    def static(self, name: str, example: PyTree) -> None:
        """Require what no program can tell from the example: the object, or an equal one.

        Equal zeros differ in sign, and equal tuples may hold ``1`` and ``1.0``.
        """
        kind, value = type(example), self.constant(example)
        if kind in (int, bool, str, bytes) or (kind is float and example and example == example):
            self.require(f"type({name}) is {kind.__name__} and {name} == {value}")
        else:
            self.require(f"{name} is {value}")

    def node(self, name: str, example: PyTree) -> None:
        """Require that ``name`` is a tree like the example, and name its leaves."""
        kind = KINDS[type(example)]
        if kind is None:
            self.leaf(name, example)
            return
        children, aux = kind.flatten(example)
        if example is None:
            self.require(f"{name} is None")
            return
        if kind.cls in (tuple, list, dict):
            self.require(f"type({name}) is {kind.cls.__name__} and len({name}) == {len(children)}")
        if kind.cls is dict:
            names = [self.looked_up(name, key) for key in aux]
        elif kind.cls in (tuple, list):
            names = self.unpacked(name, len(children))
        else:
            apart = self.constant(taken_apart(kind, aux, len(children)))
            parts = self.local()
            self.lines.append(f"{parts} = {apart}({name})")
            self.require(f"{parts} is not None")
            names = self.unpacked(parts, len(children))
        for inner, child in zip(names, children, strict=True):
            self.node(inner, child)

    def leaf(self, name: str, example: Value) -> None:
        """Require an array of the same shape and dtype, or a number of the same type."""
        if type(example) is np.ndarray:
            dtype = self.constant(example.dtype)
            shape = repr(example.shape)
            self.require(
                f"type({name}) is ndarray and {name}.dtype is {dtype} and {name}.shape == {shape}"
            )
        else:
            self.require(f"type({name}) is {self.constant(type(example))}")
        self.leaves.append(name)

    def unpacked(self, name: str, count: int) -> list[str]:
        names = [self.local() for _ in range(count)]
        if names:
            self.lines.append(f"{', '.join(names)}, = {name}")
        return names

    def looked_up(self, name: str, key: Hashable) -> str:
        found = self.local()
        self.lines.append(f"{found} = {name}.get({self.constant(key)}, MISS)")
        return found

    # ---- results -----------------------------------------------------------------------------

    def run(self, operands: Sequence[str], count: int, silenced: bool) -> None:
        """Call the program; its errors name the user's line."""
        self.results = [f"r{i}" for i in range(count)]
        targets = "".join(f"{r}, " for r in self.results) or "()"
        if self.direct is not None:  # a ufunc gives one result as it is
            self.lines.append(f"{targets.strip(', ')} = direct({', '.join(operands)})")
            return
        self.lines += ["token = silence()"] if silenced else []
        self.lines += ["try:", f"    {targets.strip()} = run({', '.join(operands)})"]
        self.lines += ["except Exception as error:", "    name_line(error)", "    raise"]
        self.lines += ["finally:", "    restore(token)"] if silenced else []

    def tree(self, treedef: PyTreeDef, results: Any) -> str:
        """The expression that builds a tree of results."""
        if treedef is LEAF:
            return str(next(results))
        data = treedef.node_data()
        assert data is not None  # only leaves have none
        cls, aux = data
        if cls in (tuple, list, dict):
            inner = [self.tree(child, results) for child in treedef.children()]
            if cls is tuple:
                return f"({''.join(f'{x}, ' for x in inner)})"
            if cls is list:
                return f"[{', '.join(inner)}]"
            keys = map(self.constant, aux)
            return f"{{{', '.join(f'{k}: {x}' for k, x in zip(keys, inner, strict=True))}}}"
        leaves = ", ".join([next(results) for _ in range(treedef.num_leaves)])
        return f"{self.constant(treedef.unflatten)}([{leaves}])"


def taken_apart(
    kind: Kind, aux: Hashable, count: int
) -> Callable[[PyTree], Sequence[PyTree] | None]:
    """The function that gives the children of such a node; None of another one."""

    def apart(x: PyTree) -> Sequence[PyTree] | None:
        if type(x) is not kind.cls:
            return None
        children, other = kind.flatten(x)
        return children if len(children) == count and (aux is other or aux == other) else None

    return apart
