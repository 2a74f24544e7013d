"""FILE:FUNCTION and its arguments: what the command line is pointed at."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vjpkit.cli.screen import WIDTH
from vjpkit.core.aval import Value, aval_of, is_inexact
from vjpkit.core.errors import INTERNAL
from vjpkit.pytree import PyTree, PyTreeDef, flatten_with_path, keystr

__all__ = ["BadInput", "Leaf", "Target", "failure", "find", "type_text"]


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
    ) -> Target:
        """Evaluate ``function`` and find what can be differentiated; `BadInput` if nothing can.

        Derivatives are taken in the arguments that ``wrt`` names, or else in all that are
        ``given`` (None: all).
        """
        name = getattr(function, "__name__", type(function).__name__)
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
        outputs = _evaluated(name, function, tuple(args), dict(kwargs or {}), leaves)
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
            out = self.function(*self.tree.unflatten(leaves), **self.kwargs)
            live = [y for _, y in flatten_with_path(out)[0] if has_derivative(y)]
            return live[0] if len(live) == 1 else tuple(live)

        flat.__name__ = self.name
        return flat


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
                f"--wrt: {name} has no argument called {word!r}{_nearest(word, names)}\n"
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
        raise failure(f"{name} raised at these arguments ({given}):", error) from None
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


def failure(what: str, error: BaseException) -> BadInput:
    """The user's own traceback, without the frames of vjpkit, NumPy and the importer."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not INTERNAL[frame.filename] and not frame.filename.startswith("<frozen")
    ]
    said = "".join(traceback.format_exception_only(error)).rstrip().split("\n")
    lines = [wrapped for line in said for wrapped in textwrap.wrap(line, WIDTH) or [""]]
    if isinstance(error, SyntaxError):  # with a caret below the place
        lines = said
    return BadInput(
        "\n".join([what, "", "".join(traceback.format_list(frames)) + lines[0], *lines[1:]])
    )


# -------------------------------------------------------------------------------- file and function


def find(target: str, at: Sequence[str] | None = None, wrt: Sequence[str] = ()) -> Target:
    """What ``FILE:FUNCTION`` and ``--at`` mean."""
    file, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        file, name = target, ""
    module = load(Path(file))
    function = _function(module, Path(file).name, name)
    args, kwargs, origin = _arguments(module, Path(file).name, name, function, at)
    args, kwargs, given = _bound(function, name, args, kwargs, origin)
    return Target.of(function, args, kwargs, wrt, given)


def load(path: Path) -> ModuleType:
    """The module in a file, imported as Python would import it: a file of a package within it."""
    if not path.exists():
        nearby = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise BadInput(f"{path}: no such file{_nearest(path.name, nearby)}")
    if path.suffix != ".py" or path.is_dir():
        raise BadInput(f"{path} is no Python file. Name one: model.py:FUNCTION.")
    path = path.resolve()
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").exists():
        folder, names = folder.parent, [folder.name, *names]
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        if len(names) > 1:
            return importlib.import_module(".".join(names))
        return _executed(names[0], path)
    except (Exception, SystemExit) as error:
        raise failure(f"{path.name} raised while it was loaded:", error) from None


def _executed(name: str, path: Path) -> ModuleType:
    """A file run as a module of its own."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(path):
        name = f"{name} ({path})"  # never in the place of another module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _function(module: ModuleType, file: str, name: str) -> Callable[..., Any]:
    names = [
        word
        for word, value in vars(module).items()
        if callable(value)
        and not isinstance(value, type)
        and not word.startswith("_")
        and word != "example_args"
        and getattr(value, "__module__", None) == module.__name__
    ]
    listing = f"Functions in {file}: {', '.join(names)}." if names else f"{file} has none."
    if not name:
        raise BadInput(f"Which function? Write {file}:FUNCTION.\n{listing}")
    function = getattr(module, name, None)
    if function is None:
        raise BadInput(f"{file} has no function {name!r}{_nearest(name, names)}\n{listing}")
    if not callable(function):
        raise BadInput(f"{name} in {file} is no function, but {type_text(function)}.\n{listing}")
    return function  # type: ignore[no-any-return]  # callable, as was just asked


def _nearest(word: str, words: Sequence[str]) -> str:
    """``. Did you mean 'loss'?``, or a full stop."""
    close = difflib.get_close_matches(word, words, 1)
    return f". Did you mean {close[0]!r}?" if close else "."


# ---------------------------------------------------------------------------------------- arguments


def _arguments(
    module: ModuleType, file: str, name: str, function: Any, at: Sequence[str] | None
) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Arguments, keywords, and where they come from: --at, example_args, or the defaults."""
    if at is not None:
        return *_written(at, module, file), "with --at"
    example = _example(module, file, name)
    if example is not None:
        return example, {}, f"by example_args of {file}"
    parameters = _parameters(function)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in _VARIADIC]
    given = tuple(p.default for p in parameters if p.kind in _POSITIONAL)
    if not needed and given:
        return given, {}, "by its defaults"
    expressions = " ".join(["1.5", "'np.ones(3)'"][i % 2] for i in range(len(needed) or 1))
    raise BadInput(
        f"{name} needs arguments at which to differentiate: {', '.join(needed) or 'some'}.\n"
        f"Give one expression for each, as in --at {expressions}\n"
        f"or define in {file}: example_args = (...), their tuple, or a function that returns it."
    )


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_BY_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)(.*)", re.S)
_IN_FILE = re.compile(r"\s*(.+\.(?:py|npz)):(\w+)\s*|\s*(.+\.npy)\s*")


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def _example(module: ModuleType, file: str, name: str) -> tuple[Any, ...] | None:
    """The file's own ``example_args``: a tuple, a function that gives one, or a dict of these."""
    example = getattr(module, "example_args", None)
    if isinstance(example, dict):
        example = example.get(name)
    if callable(example):
        try:
            example = example()
        except Exception as error:
            raise failure(f"example_args of {file} raised:", error) from None
    if example is None or isinstance(example, tuple):
        return example
    raise BadInput(
        f"example_args of {file} is {type_text(example)}; it must be a tuple of arguments (of one "
        "argument: (x,)), a function that returns it, or a dict of these by the function's name."
    )


def _written(
    at: Sequence[str], module: ModuleType, file: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments written on the command line, by position or by name."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in at:
        by_name = _BY_NAME.fullmatch(text)
        if by_name:
            kwargs[by_name[1]] = _value(by_name[2], module, file)
        elif kwargs:
            raise BadInput(f"--at: {text!r} has no name, but follows one that has.")
        else:
            args.append(_value(text, module, file))
    return tuple(args), kwargs


def _value(text: str, module: ModuleType, file: str) -> Any:
    """What one word of --at means."""
    in_file = _IN_FILE.fullmatch(text)
    if in_file:
        return _stored(in_file[1] or in_file[3], in_file[2])
    try:
        return eval(text.strip(), {**vars(module), "np": np})
    except Exception as error:
        raise BadInput(
            f"--at: {text.strip()!r} cannot be evaluated: {type(error).__name__}: {error}\n"
            f"An argument is a Python expression, in which np is NumPy and the names of {file} are "
            "known,\nor a stored value: data.py:NAME, data.npz:NAME, data.npy."
        ) from None


def _stored(file: str, name: str | None) -> Any:
    """A value in a file: NAME in a Python file or an archive of NumPy's, or an .npy file."""
    path = Path(file)
    if path.suffix == ".py":
        module = load(path)
        if not hasattr(module, str(name)):
            public = [word for word in vars(module) if not word.startswith("_")]
            raise BadInput(f"--at: {file} defines no {name!r}{_nearest(str(name), public)}")
        return getattr(module, str(name))
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"--at: {file} cannot be read: {error}") from None
    if name is None:
        return stored
    with stored:
        if name not in stored:
            raise BadInput(f"--at: {file} has no array {name!r}; it has {', '.join(stored)}.")
        return stored[name]


def _bound(
    function: Callable[..., Any], name: str, args: Any, kwargs: Any, origin: str
) -> tuple[tuple[Any, ...], dict[str, Any], frozenset[str] | None]:
    """Arguments by position, keywords, and the names that were given (the rest are defaults)."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return args, kwargs, None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        given = [type_text(x) for x in args] + [f"{k}={type_text(x)}" for k, x in kwargs.items()]
        raise BadInput(
            f"{name}{signature}: the arguments given {origin} do not fit: {error}.\n"
            f"Given: {', '.join(given) or 'none'}."
        ) from None
    given_names = frozenset(bound.arguments)
    bound.apply_defaults()
    return bound.args, bound.kwargs, given_names
