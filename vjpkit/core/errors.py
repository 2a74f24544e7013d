"""The user's line, and errors that name it.

A row and an equation keep the position of the user's call as ``(code, offset of the last
instruction)``: two references, no frame is kept alive, and the line is decoded only when asked.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import dataclass, field
from os.path import dirname, sep
from types import CodeType, FrameType
from typing import NamedTuple

import numpy

__all__ = [
    "INTERNAL", "ClosedTraceError", "NotDifferentiableError", "NotLinearError", "Position",
    "Source", "TracerConversionError", "UnsupportedError", "at", "calling_position", "counted",
    "note_line",
]  # fmt: skip

SCOPE: ContextVar[str] = ContextVar("vjpkit_scope", default="")
"""The names of the scopes that the user's program is in: they are shown, and decide nothing."""


class Scoped(NamedTuple):
    """Code that ran in a named scope, in the place of the code itself."""

    code: CodeType
    scope: str


Position = tuple[CodeType | Scoped | None, int]

_PACKAGE = dirname(dirname(__file__)) + sep
_SITE = dirname(dirname(numpy.__file__)) + sep
_LIBRARIES = (_PACKAGE, _SITE + "numpy" + sep, _SITE + "scipy" + sep)
_INTERNAL = (*_LIBRARIES, "<vjpkit", "<__array_function__")


class _Internal(dict[str, bool]):
    """Whether a file name is ours, NumPy's or SciPy's: asked once per file, then a look-up."""

    def __missing__(self, filename: str) -> bool:
        ours = filename.startswith(_INTERNAL) or filename.endswith(".pyx")
        return self.setdefault(filename, ours and not filename.startswith(f"{_PACKAGE}examples"))


INTERNAL = _Internal()


def calling_position() -> Position:
    """Position of the innermost frame, above the one that asks, that is the user's."""
    try:
        frame: FrameType | None = sys._getframe(2)
    except ValueError:  # nobody called the one that asks
        return None, -1
    while frame is not None:
        code = frame.f_code
        if not INTERNAL[code.co_filename]:
            scope = SCOPE.get()
            return (Scoped(code, scope) if scope else code), frame.f_lasti
        frame = frame.f_back
    return None, -1


@dataclass(frozen=True, slots=True)
class Source:
    """A line of the user's program.

    >>> Source("model.py", 41, "loss")
    Source(file='model.py', line=41, function='loss')
    >>> str(Source("/home/me/model.py", 41, "loss"))
    'model.py:41'
    """

    file: str
    line: int
    function: str
    scope: str = field(default="", repr=False)

    @classmethod
    def of(cls, position: Position) -> Source | None:
        """Decode a position, or None where no user frame was found."""
        code, offset = position
        code, scope = code if isinstance(code, Scoped) else (code, "")
        if code is None:
            return None
        line = code.co_firstlineno
        if offset >= 0:
            for start, end, number in code.co_lines():
                if start <= offset < end:
                    line = number or line
                    break
        return cls(code.co_filename, line, code.co_name, scope)

    def __str__(self) -> str:
        name = self.file.replace("\\", "/").rsplit("/", 1)[-1]
        return f"{name}:{self.line}{self.scope and ' in ' + self.scope}"


def at(position: Position) -> str:
    """``   (model.py:41)``, to end an error's first line, or nothing where the line is unknown."""
    return f"   ({source})" if (source := Source.of(position)) else ""


def counted(n: int, one: str, many: str = "") -> str:
    """A number of things: ``counted(1, "axis", "axes")`` is ``1 axis``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def note_line(error: BaseException, position: Position) -> None:
    """Name the user's line in a note on an error that does not name it."""
    source = str(Source.of(position))
    if position[0] and not any(source in t for t in (str(error), *getattr(error, "__notes__", ()))):
        error.add_note(f"The line that asked for it: {source}")


class ClosedTraceError(RuntimeError):
    """A traced value was used outside the transformation that made it."""


class NotDifferentiableError(TypeError):
    """A derivative was asked of something that has none."""


class NotLinearError(TypeError):
    """A function that was to be linear is not."""


class UnsupportedError(TypeError):
    """A NumPy function, or one of its arguments, that vjpkit does not take on traced values."""


class TracerConversionError(TypeError):
    """A traced value was to become a Python number or a plain array; its derivative would be
    lost."""
