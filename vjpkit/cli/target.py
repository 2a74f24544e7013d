"""What a command looks at: a function at a point, as a function of its floating-point leaves."""

from __future__ import annotations

import difflib
import inspect
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.cli.screen import WIDTH
from vjpkit.core.aval import Value, aval_of, is_inexact
from vjpkit.core.errors import INTERNAL
from vjpkit.pytree import PyTree, PyTreeDef, flatten_with_path, keystr

__all__ = [
    "BadInput",
    "Leaf",
    "Target",
    "failure",
    "has_derivative",
    "instead_of_lists",
    "nearest",
    "type_text",
]


class BadInput(Exception):
    """What the user gave cannot be worked with; the message says why and what to do."""


# ------------------------------------------------------------------------------------------- values


@dataclass(frozen=True)
class Leaf:
    """One array, number or other object: a path in an argument."""

    argument: str
    path: str
    value: Any
    moves: bool
    """Whether derivatives are taken in it."""

    @property
    def name(self) -> str:
        return self.argument + self.path


def has_derivative(x: Any) -> bool:
    """Whether ``x`` is a floating-point array or number."""
    return isinstance(x, float | complex) or (hasattr(x, "dtype") and is_inexact(x))


def type_text(x: Any) -> str:
    """``f64[2,3]`` of an array, the class of anything else.

    >>> type_text(np.ones((2, 3))), type_text(1.5), type_text("text")
    ('f64[2,3]', 'float', 'str')
    """
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "biufc":
        return repr(aval_of(x))
    return type(x).__name__


@dataclass(frozen=True)
class Target:
    """A function at a point, seen as a function of the leaves in which derivatives are taken."""

    function: Callable[..., PyTree]
    name: str
    args: tuple[PyTree, ...]
    kwargs: Mapping[str, Any]
    leaves: tuple[Leaf, ...]
    tree: PyTreeDef
    outputs: tuple[tuple[str, Value], ...]
    """Path and value of every output, from NumPy alone."""

    @classmethod
    def of(
        cls,
        function: Callable[..., PyTree],
        args: Sequence[PyTree],
        kwargs: Mapping[str, Any] | None = None,
        wrt: Sequence[str] = (),
        given: frozenset[str] | None = None,
        name: str = "",
    ) -> Target:
        """Evaluate ``function`` and find what can be differentiated; `BadInput` if nothing can.

        Derivatives are taken in the arguments that ``wrt`` names, or else in all that are
        ``given`` (None: all).
        """
        name = name or getattr(function, "__name__", type(function).__name__)
        named = _named(function, args)
        chosen = _chosen(name, [word for word, _ in named], wrt, given)
        leaves = []
        for word, value in named:
            pairs = flatten_with_path(value)[0]
            leaves += [
                Leaf(word, keystr(path), x, word in chosen and has_derivative(x))
                for path, x in pairs
            ]
        tree = flatten_with_path(tuple(args))[1]
        _require_movable(name, leaves, wrt)
        copies = tree.unflatten([copied(leaf.value) for leaf in leaves])
        outputs = _evaluated(name, function, copies, dict(kwargs or {}), leaves)
        return cls(function, name, tuple(args), dict(kwargs or {}), tuple(leaves), tree, outputs)

    @property
    def moving(self) -> list[Leaf]:
        """The leaves in which derivatives are taken."""
        return [leaf for leaf in self.leaves if leaf.moves]

    @property
    def xs(self) -> list[Value]:
        """Values of the moving leaves."""
        return [leaf.value for leaf in self.moving]

    @property
    def live_outputs(self) -> list[tuple[str, Value]]:
        """The outputs that have derivatives."""
        return [(path, y) for path, y in self.outputs if has_derivative(y)]

    @property
    def is_scalar(self) -> bool:
        """Whether there is a gradient: one output, a real number."""
        outputs = self.live_outputs
        if len(outputs) != 1 or len(self.outputs) != 1:
            return False
        aval = aval_of(outputs[0][1])
        return aval.shape == () and aval.dtype.kind == "f"

    @property
    def flat(self) -> Callable[..., PyTree]:
        """The moving leaves to the output with a derivative, or to the tuple of them."""

        def flat(*xs: Value) -> PyTree:
            rest = iter(xs)
            leaves = [next(rest) if leaf.moves else leaf.value for leaf in self.leaves]
            return self._live(self.function(*self.tree.unflatten(leaves), **self.kwargs))

        flat.__name__ = self.name
        return flat

    def plain(self, *xs: Value) -> list[Value]:
        """The live outputs by NumPy alone, at copies: the function may write to its arguments."""
        rest = iter(xs)
        leaves = [copied(next(rest) if leaf.moves else leaf.value) for leaf in self.leaves]
        out = self._live(self.function(*self.tree.unflatten(leaves), **self.kwargs))
        return list(out) if isinstance(out, tuple) else [out]

    def _live(self, out: PyTree) -> PyTree:
        live = tuple(y for _, y in flatten_with_path(out)[0] if has_derivative(y))
        return live[0] if len(live) == 1 else live


def copied(x: Any) -> Any:
    return x.copy() if isinstance(x, np.ndarray) else x


def _named(function: Callable[..., Any], args: Sequence[PyTree]) -> list[tuple[str, PyTree]]:
    """Every argument with the name of its parameter; ``args[0]`` of a ``*args``."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = []
    for i in range(len(args)):
        if i < len(parameters) and parameters[i].kind is not inspect.Parameter.VAR_POSITIONAL:
            names.append(parameters[i].name)
        elif parameters:
            first = next(k for k, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL)
            names.append(f"{parameters[first].name}[{i - first}]")
        else:
            names.append(f"x{i}")
    return list(zip(names, args))


def _chosen(
    name: str, names: list[str], wrt: Sequence[str], given: frozenset[str] | None
) -> set[str]:
    """The names of the arguments in which derivatives are taken."""
    for word in wrt:
        if word not in names:
            raise BadInput(
                f"--wrt: {name} has no argument called {word!r}{nearest(word, names)}\n"
                f"Its arguments are {', '.join(names)}."
            )
    return set(wrt) or {word for word in names if given is None or word.partition("[")[0] in given}


def _require_movable(name: str, leaves: Sequence[Leaf], wrt: Sequence[str]) -> None:
    """Raise where there is nothing to differentiate in."""
    for word in wrt or [""]:
        concerned = [leaf for leaf in leaves if leaf.argument == word or not word]
        if any(leaf.moves for leaf in concerned):
            continue
        if not concerned:
            raise BadInput(
                f"{name} has no arguments here, so there is nothing to differentiate in."
            )
        floats = [leaf.argument for leaf in concerned if has_derivative(leaf.value)]
        if floats:
            raise BadInput(
                f"{name}: of the floating-point arguments only defaults are left: "
                f"{', '.join(floats)}.\nName what to differentiate in: --wrt {floats[0]}."
            )
        given = ", ".join(f"{leaf.name} is {_described(leaf.value)}" for leaf in concerned[:6])
        raise BadInput(
            f"{name} has no floating-point argument to differentiate in: {given}.\n"
            "Derivatives are taken in floating-point numbers: write 2.0 for 2, or cast an array "
            "with .astype(float)."
        )


def _described(x: Any) -> str:
    return f"the integer {x}" if isinstance(x, int) else type_text(x)


def _evaluated(
    name: str, function: Callable[..., Any], args: Any, kwargs: Any, leaves: Sequence[Leaf]
) -> tuple[tuple[str, Value], ...]:
    """The outputs at the point, computed by NumPy alone."""
    try:
        out = function(*args, **kwargs)
    except Exception as error:
        given = ", ".join(f"{leaf.name}: {type_text(leaf.value)}" for leaf in leaves[:12])
        what = f"{name} raised at these arguments ({given}):"
        raise failure(what, error, instead_of_lists(leaves)) from None
    outputs = tuple((keystr(path), y) for path, y in flatten_with_path(out)[0])
    if not any(has_derivative(y) for _, y in outputs):
        found = ", ".join(f"{type_text(y)}{path and f' at {path}'}" for path, y in outputs[:6])
        raise BadInput(
            f"{name} returned {found or 'nothing'}: there is no floating-point output to "
            "differentiate.\nReturn a float, an array of floats, or a tree of them."
        )
    for path, y in outputs:
        if has_derivative(y) and not np.isfinite(np.asarray(y)).all():
            raise BadInput(
                f"{name} is not finite at these arguments: output{path} = {clipped_value(y)}.\n"
                "Give a point in its domain with --at."
            )
    return outputs


def clipped_value(y: Value) -> str:
    return np.array2string(np.asarray(y), threshold=8, edgeitems=2).replace("\n", "")


def nearest(word: str, words: Sequence[str]) -> str:
    """``. Did you mean 'loss'?``, or a full stop."""
    close = difflib.get_close_matches(word, words, 1)
    return f". Did you mean {close[0]!r}?" if close else "."


def instead_of_lists(leaves: Sequence[Leaf]) -> str:
    """How the first argument that is a flat list of numbers would be given as an array."""
    for word in dict.fromkeys(leaf.argument for leaf in leaves):
        numbers = [leaf for leaf in leaves if leaf.argument == word and type(leaf.value) is float]
        if numbers and [leaf.path for leaf in numbers] == [f"[{i}]" for i in range(len(numbers))]:
            return (
                f"{word} is a list of numbers, each of which is an argument of its own. As an "
                f"array it is given as\n--at '{word}=np.array([{numbers[0].value}, ...])'"
            )
    return ""


def failure(what: str, error: BaseException, hint: str = "") -> BadInput:
    """The user's own traceback, without the frames of vjpkit, NumPy and the importer."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not INTERNAL[frame.filename] and not frame.filename.startswith("<frozen")
    ]
    said = "".join(traceback.format_exception_only(error)).rstrip().split("\n")
    if not isinstance(error, SyntaxError):  # whose caret stands below the place
        said = [part for line in said for part in textwrap.wrap(line, WIDTH) or [""]]
    trace = "".join(traceback.format_list(frames))
    return BadInput(f"{what}\n\n{trace}" + "\n".join([*said, *([hint] if hint else [])]))
