"""What a terminal shows: headings, tables, numbers, colours, progress."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

__all__ = ["WIDTH", "Cell", "Progress", "Screen", "array_lines", "clipped", "time_text", "wrapped"]

WIDTH = 100
_ANSI = {
    "heading": "1",
    "dim": "2",
    "name": "36",
    "good": "32",
    "bad": "1;31",
    "kink": "33",
}


class Cell(str):
    """An entry of a table that has a style."""

    style: str

    def __new__(cls, text: str, style: str) -> Cell:
        cell = super().__new__(cls, text)
        cell.style = style
        return cell


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Screen:
    """Writes to a stream; in colour on a terminal, unless NO_COLOR is set."""

    stream: TextIO
    color: bool

    @classmethod
    def on(cls, stream: TextIO) -> Screen:
        return cls(stream, _is_terminal(stream) and not os.environ.get("NO_COLOR"))

    def paint(self, text: str, style: str) -> str:
        return f"\33[{_ANSI[style]}m{text}\33[0m" if self.color and style and text else text

    def line(self, text: str = "", style: str = "", indent: int = 2) -> None:
        """One line as it is."""
        self.stream.write(f"{' ' * indent}{self.paint(text, style)}".rstrip() + "\n")

    def lines(self, texts: Sequence[str], style: str = "") -> None:
        for text in texts:
            self.line(text, style)

    def say(self, text: str, style: str = "") -> None:
        """A sentence, broken into lines."""
        self.lines(textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False), style)

    def heading(self, title: str, remark: str = "") -> None:
        """A section begins."""
        remark = f"   {self.paint(remark, 'dim')}" if remark else ""
        self.stream.write(f"\n{self.paint(title, 'heading')}{remark}\n")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> None:
        """Columns, aligned to < or >; the last one gives way at the edge of the screen."""
        named = [[Cell(word, "dim") for word in header]] if any(header) else []
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        widths[-1] = min(widths[-1], WIDTH - 2 - sum(widths[:-1]) - 3 * len(widths[:-1]))
        for row in [*named, *rows]:
            cells = zip(row, widths, align, strict=True)
            self.line("   ".join(self._padded(*cell) for cell in cells))

    def _padded(self, cell: str, width: int, side: str) -> str:
        text = clipped(cell, width)
        blank = " " * (width - len(text))
        text = self.paint(text, getattr(cell, "style", ""))
        return text + blank if side == "<" else blank + text


@dataclass
class Progress:
    """What is being done, in one line of a terminal; nothing where there is none."""

    stream: TextIO
    shown: bool = False

    def __call__(self, text: str) -> None:
        if _is_terminal(self.stream):
            self.stream.write(f"\r\33[K{clipped(text, WIDTH - 4)} ...")
            self.stream.flush()
            self.shown = True

    def clear(self) -> None:
        if self.shown:
            self.stream.write("\r\33[K")
            self.stream.flush()
            self.shown = False


def clipped(text: str, width: int) -> str:
    """``text``, cut where it is too long.

    >>> clipped("a long line", 8)
    'a lon...'
    """
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def wrapped(message: str) -> str:
    """A message in lines of bearable length; a traceback, after an empty line, as it is."""
    head, blank, rest = message.partition("\n\n")
    lines = [line for text in head.split("\n") for line in textwrap.wrap(text, WIDTH)]
    return "\n".join(lines) + blank + rest


def time_text(seconds: float) -> str:
    """A duration with three digits.

    >>> time_text(1.234e-5), time_text(0.25), time_text(61.0)
    ('12.3 µs', '250 ms', '61.0 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size or unit == "µs":
            number = seconds / size
            return f"{number:#.3g}".rstrip(".") + f" {unit}"
    raise AssertionError


def array_lines(x: Any, width: int = WIDTH - 2) -> list[str]:
    """The value of an array or number; of a large array its corners."""
    if not isinstance(x, np.ndarray):
        return [str(x)]
    text = np.array2string(x, max_line_width=width, precision=6, threshold=64, edgeitems=3)
    return text.split("\n")
