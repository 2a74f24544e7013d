"""A function and its derivative, looked at from all sides."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vjpkit.cli.check import cotangent, pulled_back
from vjpkit.cli.path import program_of
from vjpkit.cli.screen import WIDTH, Cell, Screen, array_lines, clipped
from vjpkit.cli.slope import direction
from vjpkit.cli.target import Leaf, Target, type_text
from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import Source
from vjpkit.core.ir import Equation, Program
from vjpkit.core.staging import Captured, ClosedProgram
from vjpkit.core.text import to_text
from vjpkit.pytree import flatten
from vjpkit.testing.compare import magnitude, pairing, rounding
from vjpkit.transforms.backings import Residual, nbytes_text
from vjpkit.transforms.derivatives import jvp, vjp
from vjpkit.transforms.jacobians import jacobian
from vjpkit.transforms.linear import LinearMap

__all__ = ["arguments", "derivative", "duality", "function", "program", "pullback"]

_LINES = 60
"""How much of a long listing is shown, unless all is asked for."""
_ROWS = 30
_ENTRIES = 64
"""The largest Jacobian that is shown as a matrix."""
_SEED = 1


def function(screen: Screen, target: Target, full: bool) -> None:
    """The user's own lines."""
    code = _code_of(target)
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        screen.heading("Function", target.name)
        screen.line("(its source is not available)")
        return
    screen.heading("Function", f"{target.name}, {_file(code)}")
    text = textwrap.dedent("".join(lines)).rstrip().split("\n")
    digits = len(str(first + len(text)))
    numbered = [f"{screen.paint(f'{first + i:>{digits}}', 'dim')}  {s}" for i, s in enumerate(text)]
    _listing(screen, numbered, full)


def _code_of(target: Target) -> Callable[..., Any]:
    """The user's function itself; of an object its ``__call__``."""
    function = inspect.unwrap(target.function)
    return function if inspect.isroutine(function) else type(function).__call__


def _file(code: Callable[..., Any]) -> str:
    """The file of the function, from here if it lies below."""
    path = Path(inspect.getsourcefile(code) or "?")
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path) if len(str(path)) < 60 else str(Path("...", *path.parts[-3:]))


def _listing(screen: Screen, lines: Sequence[str], full: bool) -> None:
    """Lines, without the middle of a long text."""
    if full or len(lines) <= _LINES + 5:
        screen.lines(lines)
        return
    head = _LINES * 2 // 3
    tail = _LINES - head
    screen.lines(lines[:head])
    screen.line(f"  ... {len(lines) - _LINES:,} lines are left out; --full shows all", "dim")
    screen.lines(lines[-tail:])


# ----------------------------------------------------------------------- arguments, value, gradient


def arguments(screen: Screen, target: Target) -> None:
    """What goes in, and what derivatives are taken in."""
    screen.heading("Arguments")
    rows = [
        [Cell(leaf.name, "name"), type_text(leaf.value), _role(leaf), Cell(_preview(leaf), "dim")]
        for leaf in target.leaves[:_ROWS]
    ]
    screen.table(["", "", "", ""], rows, "<<<<")
    _rest(screen, len(target.leaves))


def _rest(screen: Screen, count: int) -> None:
    if count > _ROWS:
        screen.line(f"... and {count - _ROWS:,} more", "dim")


def _role(leaf: Leaf) -> str:
    if leaf.moves:
        return "differentiated"
    integers = isinstance(leaf.value, int) or np.asarray(leaf.value).dtype.kind in "biu"
    return "held constant (integers)" if integers else "held constant"


def _preview(leaf: Leaf) -> str:
    if isinstance(leaf.value, int | float | complex | str | np.generic):
        return clipped(str(leaf.value), 40)
    return ""


def derivative(screen: Screen, target: Target, linear: LinearMap) -> None:
    """The value, and its gradient, its Jacobian, or one row of it in a random direction."""
    screen.heading("Value")
    _values(screen, [(f"output{path}" if path else "", y) for path, y in target.outputs])
    rows, columns = linear.domain.size, linear.codomain.size
    if not target.is_scalar and rows * columns <= _ENTRIES:
        _jacobian(screen, target)
        return
    if target.is_scalar:
        screen.heading("Gradient")
    else:
        screen.heading("Derivative", f"uJ for a random u; J has {rows:,} x {columns:,} entries")
    cts = pulled_back(linear, cotangent(target, np.random.default_rng(_SEED)))
    _values(screen, [(leaf.name, ct) for leaf, ct in zip(target.moving, cts, strict=True)])


def _values(screen: Screen, named: Sequence[tuple[str, Value]]) -> None:
    """Names, types and values in three columns; a number without a name by itself."""
    if len(named) == 1 and not named[0][0] and np.ndim(named[0][1]) == 0:
        screen.line(str(named[0][1]))
        return
    shown = named[:_ROWS]
    widths = [max(len(name) for name, _ in shown), max(len(type_text(x)) for _, x in shown)]
    margin = sum(n + 3 for n in widths if n)
    for name, x in shown:
        labels = [
            screen.paint(f"{name:{widths[0]}}", "name") + "   " if widths[0] else "",
            screen.paint(f"{type_text(x):{widths[1]}}", "dim") + "   ",
        ]
        first, *rest = array_lines(x, WIDTH - 2 - margin)
        screen.line("".join(labels) + first)
        for line in rest:
            screen.line(" " * margin + line)
    _rest(screen, len(named))


def _jacobian(screen: Screen, target: Target) -> None:
    """The Jacobian of every output in every leaf."""
    screen.heading("Jacobian", "J[i, j]: the derivative of element i of the output in element j")
    count = len(target.moving)
    blocks = flatten(jacobian(target.flat, tuple(range(count)))(*target.xs))[0]
    paths = [path for path, _ in target.live_outputs]
    names = [
        f"output{path} in {leaf.name}" if len(paths) > 1 or path else f"in {leaf.name}"
        for path in paths
        for leaf in target.moving
    ]
    _values(screen, list(zip(names, blocks, strict=True)))


# ----------------------------------------------------------------------------------------- programs


def program(screen: Screen, target: Target, full: bool) -> None:
    """The IR of the function."""
    closed, followed = program_of(target)
    body = closed.program
    screen.heading("Program", f"what the function computes, {_equations(body)}")
    if followed:
        screen.say(
            "The function branches on values; these are the operations at this point.", "dim"
        )
    names = [
        *[_captured_name(target, c) for c in closed.captured],
        *[x.name for x in target.moving],
    ]
    _legend(screen, body, names)
    _listing(screen, _text(screen, body), full)


def _equations(body: Program) -> str:
    count = len(body.equations)
    return f"{count:,} equation{'s' * (count != 1)}"


def _text(screen: Screen, body: Program) -> list[str]:
    """The IR with the user's lines, but not with the line that started this command."""
    equations = [
        Equation(
            e.primitive,
            e.inputs,
            e.params,
            e.outputs,
            e.position if _source_text(e.source) else None,
        )
        for e in body.equations
    ]
    own = Program(body.inputs, equations, body.outputs, body.linear)
    return to_text(own, source=True, color=screen.color).split("\n")


def _letters(body: Program) -> list[str]:
    """The names of a program's inputs."""
    text = str(body)
    return re.findall(r"([a-z]+): ", text[: text.index("{")])


def _legend(screen: Screen, body: Program, names: Sequence[str]) -> None:
    """``a = weights, b = bias``: what the inputs are."""
    pairs = list(zip(_letters(body), names, strict=True))
    if pairs:
        rest = ", ..." if len(pairs) > _ROWS else ""
        screen.say(", ".join(f"{letter} = {name}" for letter, name in pairs[:_ROWS]) + rest)


def _captured_name(target: Target, captured: Captured) -> str:
    """The argument that a program took in as a constant, or the line that made it."""
    for leaf in target.leaves:
        if _same(leaf.value, captured.value):
            return leaf.name
    return f"an array of {_source_text(captured.source)}" if captured.source else "an array"


def _same(x: Any, y: Any) -> bool:
    """Whether two arrays are one, or one a copy of the other."""
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        return x is y
    same = x.shape == y.shape and x.dtype == y.dtype
    return same and (np.shares_memory(x, y) or x.tobytes() == y.tobytes())


def _source_text(source: Source | None) -> str:
    """A line of the user's; not of whoever started Python."""
    starters = ("<frozen", sys.argv[0] or "<frozen")
    return "" if source is None or source.file.startswith(starters) else str(source)


def pullback(screen: Screen, target: Target, linear: LinearMap, full: bool) -> None:
    """The pullback as a value: what it maps, what it keeps, its own program."""
    screen.heading("Pullback", "the linear map u -> uJ at this point")
    takes = ", ".join(f"{aval!r}" for aval in linear.domain.avals)
    gives = ", ".join(f"{leaf.name}: {_tangent_text(leaf)}" for leaf in target.moving[:_ROWS])
    rest = ", ..." if len(target.moving) > _ROWS else ""
    screen.say(f"takes u: {takes}; gives {gives}{rest}")
    residuals = linear.residuals
    count, unit = linear.backing.size()
    kept = f"{len(residuals):,} array{'s' * (len(residuals) != 1)} of {nbytes_text(linear.nbytes)}"
    screen.say(f"keeps {kept if residuals else 'no arrays'} from the evaluation ({count:,} {unit})")
    _residuals(screen, residuals)
    closed = linear.closed()
    screen.line()
    screen.say(f"as a program, linear after the semicolon; {_inputs(closed)}:")
    _listing(screen, _text(screen, closed.program), full)


def _residuals(screen: Screen, residuals: Sequence[Residual]) -> None:
    if not residuals:
        return
    rows = [
        [
            Cell(r.name, "name"),
            repr(aval_of(r.value).strong()),
            nbytes_text(r.nbytes),
            _source_text(r.source),
            Cell(_code(r.source), "dim"),
        ]
        for r in residuals[:_ROWS]
    ]
    screen.line()
    screen.table(["kept by", "type", "size", "line", ""], rows, "<<><<")
    _rest(screen, len(residuals))


def _inputs(closed: ClosedProgram) -> str:
    """What the inputs of a pullback's program are."""
    letters = _letters(closed.program)
    split = len(closed.captured)
    words = f"{_range(letters[split:])} = u"
    return f"{_range(letters[:split])} from the residuals, {words}" if split else words


def _range(letters: Sequence[str]) -> str:
    return ", ".join(letters) if len(letters) < 4 else f"{letters[0]} to {letters[-1]}"


def _tangent_text(leaf: Leaf) -> str:
    return repr(aval_of(leaf.value).strong())


def _code(source: Source | None) -> str:
    """The user's line itself."""
    if source is None or source.file.startswith("<"):
        return ""
    return linecache.getline(source.file, source.line).strip()


# ------------------------------------------------------------------------------------------ duality


def duality(screen: Screen, target: Target) -> bool:
    """``u(Jv) = (uJ)v``: the forward and the reverse way give the same number."""
    screen.heading("Duality", "u(Jv) = (uJ)v, for a random direction v of the arguments")
    rng = np.random.default_rng(_SEED)
    xs = tuple(target.xs)
    ts = tuple(direction(x, rng) for x in xs)
    cts = cotangent(target, rng)
    pushed = flatten(jvp(target.flat, xs, ts)[1])[0]
    _, linear = vjp(target.flat, *xs)
    pulled = pulled_back(linear, cts)
    forward = sum(pairing(c, t) for c, t in zip(cts, pushed, strict=True))
    reverse = sum(pairing(c, t) for c, t in zip(pulled, ts, strict=True))
    size = sum(magnitude(c, t) for c, t in zip(pulled, ts, strict=True)) or 1.0
    equal = abs(forward - reverse) <= rounding(*xs, *cts) * size
    rows = [
        [Cell("u(Jv)", "name"), f"{forward:.16g}", Cell("forward: tangents pushed (jvp)", "dim")],
        [Cell("(uJ)v", "name"), f"{reverse:.16g}", Cell("reverse: u pulled back (vjp)", "dim")],
        [
            "difference",
            f"{abs(forward - reverse):.1e}",
            Cell("equal to rounding", "good") if equal else Cell("DIFFERENT", "bad"),
        ],
    ]
    screen.table(["", "", ""], rows, "<><")
    return equal
