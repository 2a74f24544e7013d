"""What a function reads beyond its arguments, and whether that has changed.

A program is made once and run often; between two runs a name that the function reads may have come
to mean something else. What its code can reach is found by walking: closure cells, globals and
attributes that the code names, defaults, what bound methods and partial functions hold, elements
of containers, and the functions of the user's own found on the way. What is read in another way
(``globals()[name]``, files, C code) is not seen. Modules and functions that are installed are not
walked: they stay as they are.

Looking again costs some 40 ns per name, as long as nothing has changed.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import is_
from os.path import sep
from sys import modules
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from vjpkit.core.errors import INTERNAL
from vjpkit.core.rows import COPY_LIMIT, fingerprint
from vjpkit.core.tracer import Tracer
from vjpkit.kinds.elementwise import generate

__all__ = ["Closure", "closes_over_traced"]

_SCALARS = (bool, int, float, complex, str, bytes, np.generic)
_INSTALLED = tuple({path + sep for path in sysconfig.get_paths().values()} - {sep})


@dataclass
class Names:
    """Names that code reads in one place, and the values they had there."""

    what: str
    owner: Any
    names: list[str]
    values: list[Any]

    def now(self) -> list[Any]:
        return list(map(reader(self.owner), self.names))

    def tests(self, constant: Callable[[Any], str]) -> list[str]:
        """Expressions that are true while every name has the value it had."""
        owner, values = constant(self.owner), constant(self.values)
        held = getattr(self.owner, "__dict__", {})
        tests = []
        for i, name in enumerate(self.names):
            if isinstance(self.owner, dict):
                read = f"{owner}.get({name!r})"
            elif isinstance(self.owner, CellType):
                read = f"{owner}.cell_contents"
            elif held.get(name) is not None:
                read = f"{owner}.__dict__.get({name!r})"
            else:
                read = f"{constant(_attribute)}({owner}, {name!r})"
            tests.append(f"{read} is {values}[{i}]")
        return tests

    def label(self, i: int) -> str:
        return f"{self.what} {self.names[i]!r}"


@dataclass
class Items:
    """A list, dict or set, and what it held."""

    what: str
    container: Any
    values: list[Any]

    def now(self) -> list[Any]:
        return items(self.container)

    def tests(self, constant: Callable[[Any], str]) -> list[str]:
        """An expression that is true while it holds what it held."""
        return [f"{constant(are_same)}({constant(self)}.now(), {constant(self.values)})"]

    def label(self, i: int) -> str:
        return f"an element of {self.what}"


@dataclass
class Content:
    """The elements of an array that Python or NumPy alone may have read."""

    what: str
    array: np.ndarray[Any, Any]
    print: bytes = b""

    def __post_init__(self) -> None:
        self.print = content(self.array)

    def has_changed(self) -> bool:
        return content(self.array) != self.print


@dataclass
class Closure:
    """What a function reads beyond its arguments, as it was when this was made.

    ``held`` are arguments that it holds like a closure: those that are static.
    """

    fun: Any
    held: tuple[Any, ...] = ()
    places: list[Names | Items] = field(default_factory=list)
    arrays: dict[int, tuple[str, np.ndarray[Any, Any]]] = field(default_factory=dict)
    traced: list[Tracer] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)

    def __post_init__(self) -> None:
        Walk(self).run()

    def guard(self, known: Iterable[Any]) -> None:
        """Notice changes in the elements of arrays too, but for those of ``known``."""
        ids = {id(x) for x in known}
        found = [pair for key, pair in self.arrays.items() if key not in ids]
        self.contents = [Content(what, x) for what, x in found if x.flags.writeable]

    def __bool__(self) -> bool:
        return bool(self.places or self.contents)

    def change(self) -> str | None:
        """What has changed, in words; None where all is as it was."""
        for place in self.places:
            now = place.now()
            if not are_same(now, place.values):
                words = difference(place, now)
                if words is not None:
                    return words
                place.values[:] = now
        for c in self.contents:
            if c.has_changed():
                return f"{c.what}, read while staging, was changed in place"
        return None

    def look(self) -> Callable[[], bool]:
        """What tells in the shortest time that nothing has changed; else `change` is to decide."""
        scope: dict[str, Any] = {}

        def constant(value: Any) -> str:
            name = f"c{len(scope)}"
            scope[name] = value
            return name

        tests = [test for place in self.places for test in place.tests(constant)]
        tests += [f"not {constant(c)}.has_changed()" for c in self.contents]
        lines = ["def unchanged():", f"  try: return {' and '.join(tests) or True}"]
        lines += ["  except ValueError: return False"]  # a variable that is not assigned
        return generate("\n".join(lines), scope, "closure", "unchanged")  # type: ignore[no-any-return]


class Walk:
    """One walk through what a function can reach."""

    def __init__(self, closure: Closure) -> None:
        self.closure = closure
        self.seen: dict[int, Any] = {}
        self.names: set[str] = set()
        self.owners: list[tuple[str, Any]] = []
        self.watched: set[tuple[int, str]] = set()

    def run(self) -> None:
        self.visit(self.closure.fun, "the function")
        self._held(self.closure.held, "a static argument")
        while self._attributes():
            pass

    def visit(self, x: Any, what: str) -> None:
        """Note what there is to note of a value, and go on to what it holds."""
        if x is None or isinstance(x, _SCALARS) or id(x) in self.seen:
            return
        self.seen[id(x)] = x
        for kinds, note in KINDS:
            if isinstance(x, kinds):
                note(self, x, what)
                return
        self._object(x, what)

    def _tracer(self, x: Tracer, _: str) -> None:
        self.closure.traced.append(x)

    def _array(self, x: np.ndarray[Any, Any], what: str) -> None:
        self.closure.arrays[id(x)] = what, x

    def _method(self, x: MethodType, what: str) -> None:
        self._held((x.__func__, x.__self__), what)

    def _partial(self, x: partial[Any], what: str) -> None:
        self._held((x.func, *x.args, *x.keywords.values()), what)

    def _descriptor(self, x: Any, what: str) -> None:
        held = ("fget", "__func__", "func")  # of properties, of class and static methods, of cached
        self._held([getattr(x, name, None) for name in held], what)

    def _container(self, x: Any, what: str) -> None:
        self.closure.places.append(Items(what, x, items(x)))
        self._held(items(x), what)

    def _held(self, x: Iterable[Any], what: str) -> None:
        for item in x:
            self.visit(item, what)

    def _module(self, x: ModuleType, _: str) -> None:
        if not is_installed(getattr(x, "__file__", None) or sep):
            self.owners.append((f"{x.__name__}'s", x))

    def _function(self, f: FunctionType, what: str) -> None:
        """A function of the user's reads names; one of ours may hold one of these."""
        file = f.__code__.co_filename
        if INTERNAL[file]:
            held = [_content(cell, "") for cell in f.__closure__ or ()]
            self._held(filter(callable, held), what)
        elif not is_installed(file):
            self._names(f)

    def _names(self, f: FunctionType) -> None:
        named = names_of(f.__code__)
        self.names |= named
        self._watch("global", f.__globals__, named & f.__globals__.keys())
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            self._watch("closure variable", cell, (name,))
        self.visit(f.__defaults__, "a default")
        self.visit(tuple((f.__kwdefaults__ or {}).values()), "a default")

    def _object(self, x: Any, what: str) -> None:
        """An object of a class of the user's is read by attributes; one of ours holds functions."""
        kind = x if isinstance(x, type) else type(x)
        file = getattr(modules.get(kind.__module__), "__file__", None)
        if kind.__module__ == "__main__" or not is_installed(file or sep):
            self.owners.append((f"{kind.__name__}'s", x))
            if not isinstance(x, type):
                self.visit(kind, what)
                self.names.add("__call__")
        elif not isinstance(x, type) and INTERNAL[file or ""]:
            self._held(filter(callable, getattr(x, "__dict__", {}).values()), what)
        elif not isinstance(x, type):  # a namespace, or what a decorator made of a function
            self.owners.append((f"{kind.__name__}'s", x))
            self.visit(getattr(x, "__dict__", {}).get("__wrapped__"), what)

    def _attributes(self) -> bool:
        """Watch the attributes that any code found so far names; whether there were new ones."""
        before = len(self.watched)
        for what, owner in list(self.owners):
            for kind in owner.__mro__ if isinstance(owner, type) else (owner,):
                held = {*getattr(kind, "__dict__", ())}
                if not isinstance(owner, type):
                    held |= defaults_of(type(owner))
                slots = [n for n in self.names if is_slot(type(kind), n)]
                self._watch(what, kind, {*(self.names & held), *slots})
        return len(self.watched) > before

    def _watch(self, what: str, owner: Any, names: Iterable[str]) -> None:
        """Names read in a dictionary, a cell or an object."""
        new = tuple(sorted(n for n in names if (id(owner), n) not in self.watched))
        if not new:
            return
        self.watched.update([(id(owner), n) for n in new])
        self.seen[id(owner)] = owner  # so that no other object gets its id
        read = reader(owner)
        values = [read(name) for name in new]
        for name, value in zip(new, values, strict=True):
            self.visit(value, f"{what} {name!r}")
        kept = [(n, v) for n, v in zip(new, values, strict=True) if not stays(v)]
        if kept:
            names, values = map(list, zip(*kept, strict=True))
            self.closure.places.append(Names(what, owner, names, values))


KINDS: tuple[tuple[Any, Callable[[Walk, Any, str], None]], ...] = (
    (Tracer, Walk._tracer),
    (np.ndarray, Walk._array),
    (FunctionType, Walk._function),
    (MethodType, Walk._method),
    (partial, Walk._partial),
    (property | classmethod | staticmethod | cached_property, Walk._descriptor),
    (tuple | frozenset, Walk._held),
    (list | dict | set, Walk._container),
    (ModuleType, Walk._module),
)
"""What a walk does with a value, by its kind; with any other it looks at attributes."""


def reader(owner: Any) -> Callable[[str], Any]:
    """How a name is read in a dictionary, a cell, a class or an object."""
    if isinstance(owner, dict):
        return owner.get
    return partial(_content if isinstance(owner, CellType) else _attribute, owner)


def _content(cell: CellType, _: str) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _attribute(owner: Any, name: str) -> Any:
    held = getattr(owner, "__dict__", {})
    return held[name] if name in held else getattr(owner, name, None)


def defaults_of(kind: type) -> set[str]:
    """Names of values in a class, which its objects may come to have values of their own for."""
    held = [pair for base in kind.__mro__ for pair in vars(base).items()]
    return {name for name, value in held if not hasattr(type(value), "__get__")}


def is_slot(kind: type, name: str) -> bool:
    """Whether ``name`` is one of the ``__slots__`` of a class."""
    return type(getattr(kind, name, None)).__name__ == "member_descriptor"


def stays(x: Any) -> bool:
    """Whether a name's value is code that is installed: nobody rebinds it between two calls."""
    if isinstance(x, ModuleType):
        return True
    if isinstance(x, FunctionType):
        return is_installed(x.__code__.co_filename)
    return isinstance(x, type) or type(x).__name__ in ("builtin_function_or_method", "ufunc")


def is_installed(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to vjpkit."""
    return filename.startswith(_INSTALLED) or INTERNAL[filename]


def names_of(code: CodeType) -> set[str]:
    """Globals and attributes that code and functions in it name, as texts too: for getattr."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= names_of(const)
        elif isinstance(const, str) and const.isidentifier():
            names.add(const)
    return names


def items(container: Any) -> list[Any]:
    """What a container holds, in order."""
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    return list(container)


def content(x: np.ndarray[Any, Any]) -> bytes:
    """What tells the elements of an array from others."""
    return x.tobytes() if x.nbytes <= COPY_LIMIT else fingerprint(x).tobytes()


def are_same(now: Sequence[Any], before: Sequence[Any]) -> bool:
    """Whether these are the same objects."""
    return len(now) == len(before) and all(map(is_, now, before))


def difference(place: Names | Items, now: Sequence[Any]) -> str | None:
    """How what is read in a place differs from what it was; None where it is equal."""
    before = place.values
    if len(now) != len(before):
        return f"{place.what} has other elements than it had"
    for i, (new, old) in enumerate(zip(now, before, strict=True)):
        if new is old or is_equal(new, old):
            continue
        if isinstance(new, _SCALARS) and isinstance(old, _SCALARS):
            return f"{place.label(i)} is {new!r}, and was {old!r}"
        return f"{place.label(i)} is another {type(new).__name__} than it was"
    return None


def is_equal(a: Any, b: Any) -> bool:
    """Whether two values are the same number or string, to the sign of zero and to the type."""
    return type(a) is type(b) and isinstance(a, _SCALARS) and repr(a) == repr(b)


def closes_over_traced(fun: Any) -> bool:
    """Whether a traced value of an open trace is to be seen among what a function reads."""
    return any(t.owner.level > 0 and not t.owner.closed for t in Closure(fun).traced)
