"""Where a handle came from: views know their parent, roots count the writes to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost, roles
from vjpkit.core.tracer import Tracer
from vjpkit.ops.index import split_index
from vjpkit.ops.updates import Steps

__all__ = [
    "Root",
    "View",
    "base_of",
    "chain_of",
    "count_write",
    "is_abstract",
    "marked",
    "require_certain",
    "require_unlocked",
    "root_of",
    "version",
]


class View:
    """How a handle was derived: from which parent, by which step, at which state of the root.

    ``how`` is the step, or what the user wrote between brackets, made a step when it is needed.
    """

    __slots__ = ("how", "is_index", "parent", "readonly", "seen")

    def __init__(self, parent: Tracer, how: Any, readonly: bool, is_index: bool, seen: int) -> None:
        self.parent = parent
        self.how = how
        self.readonly = readonly
        self.is_index = is_index
        self.seen = seen

    @property
    def certain(self) -> bool:
        """Whether it is a view for sure: a staged reshape may have been a copy."""
        return self.is_index or self.how[0] != "reshape" or not is_abstract(self.parent)

    @property
    def step(self) -> Any:
        """Name and parameters of the structural primitive that leads from the parent here."""
        if self.is_index:
            return "getitem", (("index", split_index(self.how)[0]),)
        name, params = self.how
        return name, tuple(params.items())


class Root:
    """Marks a handle that was written to, and counts the writes.

    NumPy's scalars have no views, and of a staged value or one example of a batch it is not known
    whether it is one: ``array`` says that it is an array for sure, ``viewed`` that there are views.
    ``locked`` names the staged function that closes over it and must not write: the write would
    happen while staging, not when the program runs.
    """

    __slots__ = ("array", "locked", "version", "viewed")

    def __init__(self) -> None:
        self.version = 0
        self.locked = ""
        self.array = self.viewed = False


def base_of(x: Tracer) -> View | Root | None:
    """How a handle came to be; most never ask."""
    return getattr(x, "origin", None)


def marked(root: Tracer) -> Root:
    """The mark of a handle that is no view."""
    base = base_of(root)
    if type(base) is not Root:
        base = root.origin = Root()
    return base


def version(root: Tracer) -> int:
    base = base_of(root)
    return base.version if type(base) is Root else 0


def count_write(root: Tracer) -> None:
    """From now on views of ``root`` made before are out of date."""
    base = marked(root)
    base.version += 1
    base.array = True


def root_of(x: Tracer) -> Tracer:
    base = base_of(x)
    while type(base) is View:
        x = base.parent
        base = base_of(x)
    return x


def is_abstract(x: Value) -> bool:
    """Whether the innermost value is staged, so that its memory layout is not known."""
    return isinstance(innermost(x), Tracer)


def require_certain(x: Tracer) -> None:
    """Raise for a staged reshape in a chain of views: NumPy may have made a view or a copy."""
    base = base_of(x)
    while type(base) is View:
        if not base.certain:
            raise UnsupportedError(
                "writing to an array that was reshaped while staging: whether the reshape is a "
                "view "
                f"depends on the memory layout, which is not known.{at(calling_position())}\n"
                "Reshape a copy, x.copy().reshape(...), or write before reshaping."
            )
        base = base_of(base.parent)


def require_unlocked(root: Tracer) -> None:
    """Raise where a function that is being staged writes to an array from outside of it."""
    base = base_of(root)
    if type(base) is Root and base.locked:
        raise UnsupportedError(
            f"{base.locked} is staged, and writes to an array of {root.aval} from outside of it: "
            f"that would happen once, and not when the program runs.{at(calling_position())}\n"
            "Return the value and write it outside, take the array as an argument (a loop's "
            "carry) and return it, or write to a copy made inside."
        )


@contextlib.contextmanager
def locked(label: str, fun: Callable[..., Any]) -> Iterator[None]:
    """While ``fun`` is staged, the traced arrays that it closes over are not to be written."""
    from vjpkit.transforms.closures import Closure

    taken = []
    for root in {id(r): r for r in map(root_of, Closure(fun).traced)}.values():
        base = marked(root)
        if not base.locked:
            base.locked = label
            taken.append((root, base))
    try:
        yield
    finally:
        for root, base in taken:
            base.locked = ""
            if not (base.version or base.array or base.viewed):
                root.origin = None


def chain_of(x: Tracer) -> tuple[Tracer, Steps, bool]:
    """Root, steps from it, and whether any of them is read-only."""
    steps: list[Any] = []
    readonly = False
    base = base_of(x)
    while type(base) is View:
        steps.append(base.step)
        readonly = readonly or base.readonly
        x = base.parent
        base = base_of(x)
    return x, tuple(reversed(steps)), readonly


roles["locked"] = locked
