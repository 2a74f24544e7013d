"""Where a handle came from: views know their parent, roots count the writes to them."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost, roles
from vjpkit.core.staging import Staged
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
    "require_unshared",
    "root_of",
    "share",
    "standing_for",
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
        """Whether it is a view for sure: a staged reshape of several elements may have been a
        copy."""
        parent = self.parent
        if self.is_index or self.how[0] != "reshape" or parent.size == 1:
            return True
        return not is_abstract(parent) or is_packed(parent)

    @property
    def step(self) -> Any:
        """Name and parameters of the structural primitive that leads from the parent here."""
        if self.is_index:
            return "getitem", (("index", split_index(self.how)[0]),)
        name, params = self.how
        return name, tuple(params.items())


class Root:
    """Marks a handle that was written to, and counts the writes.

    Of a staged value, and of one example of a batch, ``array`` says that it is an array of no
    axis: otherwise it is a scalar, which has no views. ``packed`` says that it is a copy in one
    piece, C order. ``locked`` names the staged function that closes over it and must not write: the
    write would happen while staging, not when the program runs.
    ``shared`` are plain arrays that stand for it and would not see a write.
    """

    __slots__ = ("array", "locked", "packed", "shared", "version")

    def __init__(self) -> None:
        self.version = 0
        self.shared: list[weakref.ref[np.ndarray[Any, Any]]] = []
        self.locked = ""
        self.array = self.packed = False


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


def is_packed(x: Tracer) -> bool:
    """Whether a staged array is one piece of memory in C order for sure.

    Copies in C order are, and of what an operation has made one axis: NumPy lays several out in the
    order of the operands, and in arguments even one may have gaps. Rows of what is packed, and what
    it is reshaped to, are packed.
    """
    base = base_of(x)
    if type(base) is not View:
        copied = type(base) is Root and base.packed
        return copied or (x.ndim == 1 and is_made(innermost(x)))
    if not is_packed(base.parent):
        return False
    if not base.is_index:
        return bool(base.how[0] == "reshape")
    entries = split_index(base.how)[0].expanded(base.parent.ndim)
    first = next((i for i, e in enumerate(entries) if not isinstance(e, int)), len(entries))
    whole = all(e == slice(None) for e in entries[first + 1 :])
    return whole and all(isinstance(e, slice) and e.step in (None, 1) for e in entries[first:])


def is_made(x: Value) -> bool:
    """Whether an operation of the staged function makes the value."""
    return isinstance(x, Staged) and any(x.variable in e.outputs for e in x.owner.equations)


def require_certain(x: Tracer) -> None:
    """Raise for a staged reshape in a chain of views: NumPy may have made a view or a copy."""
    base = base_of(x)
    while type(base) is View:
        if not base.certain:
            raise UnsupportedError(
                "writing to an array that was reshaped while staging: whether the reshape is a "
                "view "
                f"depends on the memory layout, which is not known.{at(calling_position())}\n"
                "Reshape a copy in C order, x.copy().reshape(...), or write before reshaping."
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


def share(x: Tracer, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array``, which NumPy takes for ``x`` itself: neither sees what is written to the other.

    So it cannot be written to, nor can ``x`` as long as it is there.
    """
    array.flags.writeable = False
    marked(root_of(x)).shared.append(weakref.ref(array))
    return array


def standing_for(x: Tracer) -> list[np.ndarray[Any, Any]]:
    """The arrays in use that stand for ``x`` or another view of its root."""
    base = base_of(root_of(x))
    if type(base) is not Root or not base.shared:
        return []
    found = [(ref, ref()) for ref in base.shared]
    base.shared = [ref for ref, array in found if array is not None]
    return [array for _, array in found if array is not None]


def require_unshared(root: Tracer) -> None:
    """Raise where an array is written to that a plain one of NumPy's own stands for."""
    if standing_for(root):
        raise UnsupportedError(
            f"an array of {root.aval} is written to while what np.asarray made of it is in use, "
            f"which would not see it{at(calling_position())}\nUse vnp.asarray(x), which gives the "
            "array itself, or make a copy, np.copy(x)."
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
            if not (base.version or base.array or base.packed or base.shared):
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
