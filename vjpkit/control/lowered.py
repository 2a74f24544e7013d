"""What `jit` keeps of a function for one signature: it is run, looked at, or compiled ahead."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vjpkit.backends import Executable
from vjpkit.control.call import call
from vjpkit.control.doors import Door
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.ir import Program
from vjpkit.core.rows import roles
from vjpkit.core.staging import ClosedProgram
from vjpkit.core.tracer import RUNNING, Tracer, bind
from vjpkit.kinds.silence import silent
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr
from vjpkit.transforms.arguments import plain_array, what
from vjpkit.transforms.closures import Closure
from vjpkit.transforms.staged import ShapeDtypeStruct

__all__ = ["Compiled", "Fixed", "Lowered", "Signature", "Staged", "signature_of"]


class Fixed:
    """A static argument. Values are the same if no program can tell: ``1`` is not ``1.0``."""

    __slots__ = ("key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = told_apart(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.value)


def told_apart(value: Any) -> Any:
    """What is equal for values of the same types, signs of zero included."""
    if isinstance(value, tuple):
        return type(value), tuple(map(told_apart, value))
    if isinstance(value, float | complex | np.inexact):
        return type(value), repr(value)
    return type(value), value


MOST_NAMED = 3
"""Differences of signatures that are named."""
TRACED = "it closes over traced values, which no other call may use"


@dataclass(frozen=True)
class Signature:
    """What a program is made for: trees, avals, and the static arguments by name or number; and
    names and sizes of the axes over which it is mapped.

    ``arrays`` are the numbers of arguments that are arrays of no axis: writing to them is seen by
    other names, where a scalar's name is rebound.
    """

    tree: PyTreeDef
    avals: tuple[Aval, ...]
    arrays: tuple[int, ...]
    static: tuple[tuple[Any, Fixed], ...]
    axes: tuple[tuple[Any, int], ...]

    @property
    def typed(self) -> Signature:
        """The same of shapes and dtypes alone, whatever kind of scalar these are of."""
        return replace(self, avals=tuple([a.strong() for a in self.avals]), arrays=())

    def distance(self, other: Signature) -> tuple[int, int]:
        """How many things differ: those that decide which arguments there are, and all others."""
        mine, its = dict(self.static), dict(other.static)
        fixed = sum([mine.get(n) != its.get(n) for n in mine | its]) + (self.axes != other.axes)
        if self.tree != other.tree:
            return 1, fixed
        pairs = enumerate(zip(self.avals, other.avals, strict=True))
        kinds = set(self.arrays) ^ set(other.arrays)
        return 0, fixed + sum([one != another or i in kinds for i, (one, another) in pairs])

    def difference(self, other: Signature) -> str:
        """How a signature differs from another one, in words."""
        found = list(self._differences(other))
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return "; ".join(found[:MOST_NAMED]) + more if found else TRACED

    def _differences(self, other: Signature) -> Iterator[str]:
        mine, its = dict(self.static), dict(other.static)
        for name in mine | its:
            if mine.get(name) != its.get(name):
                is_, was = [repr(d[name]) if name in d else "not given" for d in (mine, its)]
                yield f"static argument {name!r} is {is_}, and was {was}"
        if self.axes != other.axes:
            axes, before = dict(self.axes), dict(other.axes)
            yield f"it is mapped over the named axes {axes}, and was {before}"
        if self.tree != other.tree:
            yield f"the tree of the arguments is {self.tree}, and was {other.tree}"
            return
        paths = flatten_with_path(self.tree.unflatten(range(len(self.avals))))[0]
        for i, (path, _) in enumerate(paths):
            one, another = self.avals[i], other.avals[i]
            if one != another:
                yield f"argument {argument_name(path)} is {one}, and was {another}"
            elif (i in self.arrays) != (i in other.arrays):
                kinds = "an array of no axis", "a scalar"
                is_, was = kinds if i in self.arrays else kinds[::-1]
                yield f"argument {argument_name(path)} is {is_}, and was {was}"


def argument_name(path: Any) -> str:
    """A path into ``(args, kwargs)`` as the user wrote the argument."""
    inner = keystr(path[2:])
    key = getattr(path[1], "idx", getattr(path[1], "key", path[1]))
    return f"{key}{f' at {inner}' if inner else ''}"


def signature_of(
    label: str, leaves: list[Value], tree: PyTreeDef, static: tuple[tuple[Any, Fixed], ...]
) -> Signature:
    """Trees, avals and static arguments of a call; its leaves are made arrays and numbers."""
    for i, x in enumerate(leaves):
        if isinstance(x, np.ndarray):
            if type(x) is not np.ndarray or x.dtype.kind not in "biufc":
                leaves[i] = plain_array(label, f"argument {_path(tree, i)}", x)
        elif not (hasattr(x, "dtype") or isinstance(x, bool | int | float | complex)):
            raise TypeError(
                f"{label}: argument {_path(tree, i)} is a {type(x).__name__}, which "
                f"is neither an array nor a number{at(calling_position())}.\n"
                "Make it static (static_argnames=...), or a pytree of arrays."
            )
    axes = tuple([(axis.key, axis.size) for axis in RUNNING.get().axes])
    is_array = roles["is_array_of_no_axis"]
    arrays = tuple([i for i, x in enumerate(leaves) if is_array(x)])
    return Signature(tree, tuple([aval_of(x) for x in leaves]), arrays, static, axes)


def _path(tree: PyTreeDef, i: int) -> str:
    return argument_name(flatten_with_path(tree.unflatten(range(tree.num_leaves)))[0][i][0])


_NO_VALUES = (Tracer, ShapeDtypeStruct)


@dataclass
class Staged:
    """A program for one signature."""

    signature: Signature
    closed: ClosedProgram
    sources: tuple[Value, ...]
    """The captured values themselves: arrays as they are now, whatever was written to them."""
    out_tree: PyTreeDef
    execute: Executable
    closure: Closure | None
    """What the function read beyond its arguments; None where it reads nothing."""

    arrays: tuple[int, ...]
    """The numbers of outputs that are arrays of no axis: the program gives scalars."""
    quiet: bool
    """Whether NumPy's warnings are no news: derivatives are among what it computes."""
    door: Door | None = None
    """The short way in, made at the second call, and again when ``execute`` has settled."""
    settled: bool = False
    """Whether it had when the door was made."""

    def change(self) -> str | None:
        """What the function reads otherwise than when it was staged, in words."""
        return None if self.closure is None else self.closure.change()

    def run(self, leaves: Sequence[Value]) -> PyTree:
        """Outputs at the leaves of a call."""
        values = [*self.sources, *leaves]
        if any([isinstance(x, _NO_VALUES) for x in values]):
            require_values(leaves)
            outs = bind(call, values, {"program": self.closed.program})
        else:
            outs = (silent(self.execute) if self.silenced else self.execute)(*values)
        if self.arrays:
            as_array = roles["array_of_no_axis"]
            outs = tuple([as_array(x) if i in self.arrays else x for i, x in enumerate(outs)])
        return self.out_tree.unflatten(outs)

    @property
    def silenced(self) -> bool:
        """Whether the program runs without NumPy's warnings: where they are no news, and may
        come."""
        return self.quiet and not self.execute.silent


"""Where primitives are that run programs and do nothing else."""


def require_values(leaves: Sequence[Value]) -> None:
    """Raise where an argument of a call is a shape and a dtype alone."""
    if any(isinstance(x, ShapeDtypeStruct) for x in leaves):
        raise TypeError(
            f"jit: an argument is a ShapeDtypeStruct, which has no value{at(calling_position())}."
            "\nThe methods ir and lower of what jit returns take one, and so does vk.eval_shape."
        )


class Ahead:
    """A function staged for arguments of one signature, ahead of any call."""

    def __init__(self, label: str, staged: Staged) -> None:
        self.label = label
        self.staged = staged

    @property
    def program(self) -> Program:
        """The program; what the function captured are its leading inputs."""
        return self.staged.closed.program

    @property
    def in_tree(self) -> PyTreeDef:
        """The tree of ``(args, kwargs)`` without static ones."""
        tree = self.staged.signature.tree
        args, kwargs = tree.unflatten(range(tree.num_leaves))
        return flatten((tuple(args.values()) if isinstance(args, dict) else args, kwargs))[1]

    @property
    def out_tree(self) -> PyTreeDef:
        """The tree of the result."""
        return self.staged.out_tree

    @property
    def out_info(self) -> PyTree:
        """Shapes and dtypes of the result."""
        avals = self.program.out_avals
        return self.out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in avals])


class Lowered(Ahead):
    """What ``f.lower(*args)`` returns.

    It prints as its IR, which ``as_text()`` gives; ``program`` is the `Program`. ``in_tree``,
    ``out_tree`` and ``out_info`` (of `ShapeDtypeStruct`) say what it takes and gives.
    """

    def as_text(self) -> str:
        """The IR."""
        return str(self.program)

    def compile(self) -> Compiled:
        """The function of arguments of this signature, machine code included: nothing is left to
        be done at its first call."""
        self.staged.execute.compile()
        return Compiled(self.label, self.staged)

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return self.program._repr_html_()


class Compiled(Ahead):
    """What ``f.lower(*args).compile()`` returns: a function that is never staged again.

    It takes values of the shapes and dtypes that it was compiled for, and no static arguments:
    anything else is a `TypeError`, and so is a traced value. Arrays that the function closes over
    are read anew at each call; where something else that it reads has changed, a call is a
    `ValueError`.
    """

    def as_text(self) -> str:
        """The text of what runs: LLVM's of what is machine code, else Python."""
        execute = self.staged.execute
        return execute.native_ir() or execute.source

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        staged, label = self.staged, f"{self.label}.lower(...).compile()"
        wanted = staged.signature
        leaves, tree = flatten((self._placed(args), kwargs))
        for i, x in enumerate(leaves):
            if isinstance(x, _NO_VALUES):
                raise TypeError(
                    f"{label}: argument {_path(tree, i)} is {what(x)}, and it takes values alone"
                    f"{at(calling_position())}.\nCall the function that was lowered: it composes "
                    "with every transform."
                )
        came = signature_of(label, leaves, tree, wanted.static)
        if came.typed != wanted.typed:
            raise TypeError(
                f"{label}: {came.typed.difference(wanted.typed)} when it was compiled"
                f"{at(calling_position())}.\nLower it for arguments like these, or call the "
                "function that was lowered; static arguments are fixed and left out."
            )
        change = staged.change()
        if change is not None:
            raise ValueError(
                f"{label}: {change}{at(calling_position())}.\nLower it again, or call the function "
                "that was lowered: it is staged anew where what it reads changes."
            )
        given = zip(leaves, wanted.avals, strict=True)
        return staged.run([fitted(x, a, i in wanted.arrays) for i, (x, a) in enumerate(given)])

    def _placed(self, args: tuple[PyTree, ...]) -> PyTree:
        """Positional arguments as the function's signature has them, by their numbers if some are
        static."""
        tree = self.staged.signature.tree
        positional = tree.unflatten(range(tree.num_leaves))[0]
        if not isinstance(positional, dict):
            return args
        more = itertools.count(max(positional, default=-1) + 1)
        return dict(zip(itertools.chain(positional, more), args, strict=False))

    def __repr__(self) -> str:
        return f"<{self.label} compiled for {', '.join(map(str, self.staged.signature.avals))}>"


def fitted(x: Value, aval: Aval, is_array: bool) -> Value:
    """A value in the form for which a program was staged: Python's number, scalar or array."""
    if aval.shape:
        return x
    array = np.asarray(x, aval.dtype)
    return array.item() if aval.weak else array if is_array else array[()]
