"""FILE:FUNCTION and ``--at``: from what is written on the command line to a `Target`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vjpkit.cli.target import BadInput, Target, failure, nearest, type_text

__all__ = ["find", "load"]


def find(target: str, at: Sequence[str] | None = None, wrt: Sequence[str] = ()) -> Target:
    """What ``FILE:FUNCTION`` and ``--at`` mean."""
    file, colon, name = target.rpartition(":")
    named = all(word.isidentifier() for word in name.split("."))
    if not colon or not named or Path(target).exists():
        file, name = target, ""
    module = load(Path(file))
    function = _function(module, Path(file).name, name)
    args, kwargs, origin = _arguments(module, Path(file).name, name, function, at)
    args, kwargs, given = _bound(function, name, args, kwargs, origin)
    return Target.of(function, args, kwargs, wrt, given, name)


def load(path: Path) -> ModuleType:
    """The module in a file, imported as Python would import it: a file of a package within it."""
    if not path.exists():
        nearby = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise BadInput(f"{path}: no such file{nearest(path.name, nearby)}")
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
    function: Any = module
    for word in name.split("."):  # a method: of a class, or of something that the file makes
        function = getattr(function, word, None)
    if function is None:
        raise BadInput(f"{file} has no function {name!r}{nearest(name, names)}\n{listing}")
    if not callable(function):
        raise BadInput(f"{name} in {file} is no function, but {type_text(function)}.\n{listing}")
    return function  # type: ignore[no-any-return]  # callable, as was just asked


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
    if not parameters and inspect.isfunction(function):
        raise BadInput(f"{name} takes no arguments: there is nothing to differentiate in.")
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
            raise BadInput(f"--at: {file} defines no {name!r}{nearest(str(name), public)}")
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
