"""`debug_nans`: which operation, forward or backward, made the first nan or inf of a result."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import (
    INTERNAL,
    Position,
    Source,
    TracerConversionError,
    at,
    calling_position,
)
from vjpkit.core.ir import Atom, Literal, Program
from vjpkit.core.rows import Row, innermost, roles
from vjpkit.core.staging import Staged
from vjpkit.core.tracer import ConcreteTracer, Tracer, named_info
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.arguments import Transformed, called
from vjpkit.transforms.traces import ValueTrace, current

__all__ = ["debug_nans"]


@dataclass(frozen=True)
class Origin:
    """An operation that made a number which is not finite, from operands that were."""

    primitive: str
    phase: str
    position: Position | Source | None
    operands: tuple[str, ...]
    found: str
    places: tuple[str, ...] = ()
    """Steps of loops and branches that it ran in, the outermost first."""

    def __str__(self) -> str:
        position = self.position
        source = Source.of(position) if isinstance(position, tuple) else position
        line = "" if source is None else f"   ({source})"
        taken = ", ".join(self.operands)
        where = "".join(f"in {place}, " for place in reversed(self.places))
        return f"{self.primitive}, {self.phase}, {where}gave {self.found} for {taken}{line}"


class Watched(ConcreteTracer):
    """A value, and the operation that made it (or what it was made of) not finite."""

    __slots__ = ()
    cause = named_info()

    def __init__(self, value: Value, trace: Watch, cause: Origin | None) -> None:
        self.value = value
        self.owner = trace
        self.cause = cause


class Watch(ValueTrace):
    """The trace of one watched call: computes, and looks at every result."""

    __slots__ = ("here", "inf", "places")

    def __init__(self, name: str, inf: bool) -> None:
        super().__init__(name)
        self.inf = inf
        self.here: Any = None  # the line of an equation of a program that is being interpreted
        self.places: tuple[str, ...] = ()  # and where in a loop that program is

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        self.require_running()
        program = params.get("program")
        if primitive.name == "call" and isinstance(program, Program):
            return self.interpreted(program, xs)
        values, causes = [], []
        for x in xs:
            mine = type(x) is Watched and x.owner is self
            values.append(x.value if mine else roles["snapshot"](x) if _is_tracer(x) else x)
            causes.append(x.cause if mine else None)
        computed = primitive.unpack(primitive(*values, **params))
        known = next((c for c in causes if c is not None), None)
        words = list(map(self.badness, computed))
        inside: Sequence[Origin | None] = [None] * len(words)
        if any(words) and known is None:
            inside = self.causes_inside(primitive, values, params) or inside
        results = []
        for y, found, inner in zip(computed, words, inside, strict=True):
            cause = None
            if found:
                cause = known or inner or self.origin(primitive, values, found)
            results.append(Watched(y, self, cause) if aval_of(y).inexact else y)
        return primitive.pack(tuple(results))

    def causes_inside(
        self, primitive: Any, values: Sequence[Value], params: dict[str, Any]
    ) -> list[Origin | None]:
        """The causes of a primitive's outputs within the programs that it runs, if it does.

        It runs once more, program by program, as its ``walked`` says. Nothing is found where
        values do not say which way it went: those of a batch.
        """
        walked = getattr(primitive, "walked", None)
        if walked is None:
            return []
        outer = self.places

        def run(place: str, program: Program, operands: Sequence[Value]) -> Sequence[Value]:
            self.places = (*outer, f"{place} of {primitive.name}") if place else outer
            return self.interpreted(program, operands)

        try:
            outs = walked(list(map(self.watched, values)), run, **params)
        except TracerConversionError:
            return []
        finally:
            self.places = outer
        return [y.cause if type(y) is Watched else None for y in outs]

    def watched(self, x: Value) -> Value:
        """A value that nothing is wrong with, to see what becomes of it."""
        return Watched(x, self, None) if aval_of(x).inexact else x

    def interpreted(self, program: Program, xs: Sequence[Value]) -> tuple[Value, ...]:
        """A program equation by equation, so that the first of them is found."""
        env: dict[Any, Value] = dict(zip(program.inputs, xs, strict=True))

        def read(a: Atom) -> Value:
            return a.value if isinstance(a, Literal) else env[a]

        outer = self.here
        for eqn in program.equations:
            self.here = eqn.position if eqn.position not in (None, (None, -1)) else outer
            operands = [read(a) for a in eqn.inputs]
            traced = any(type(x) is Watched for x in operands)
            params = dict(eqn.params)
            if traced:
                out = self.process(eqn.primitive, operands, params)
            else:
                out = eqn.primitive(*operands, **params)
            env.update(zip(eqn.outputs, eqn.primitive.unpack(out), strict=True))
        self.here = outer
        return tuple([read(a) for a in program.outputs])

    def badness(self, y: Value) -> str:
        """What of a value is not finite, in words; nothing where all is well or not known."""
        while isinstance(y, Tracer):
            if not hasattr(y, "value"):
                return ""
            y = y.value
        if not aval_of(y).inexact:
            return ""
        if np.isnan(y).any():
            return "nan"
        return "inf" if self.inf and np.isinf(y).any() else ""

    def origin(self, primitive: Any, values: Sequence[Value], found: str) -> Origin:
        frame = sys._getframe(1)
        phase, position = "forward" if self.here is None else "in a program", None
        places = (*running_steps(frame), *self.places)
        pulled = pulled_row(frame)
        if pulled is not None:
            row, rows = pulled
            phase, position = "in the backward pass", None if row[2] is None else (row[2], row[3])
            runs = earlier_runs(row, rows)
            places = places or ((f"run {runs} of the line",) if runs else ())
        where = self.here or position or calling_position()
        return Origin(primitive.name, phase, where, tuple(map(_words, values)), found, places)


def _is_tracer(x: Value) -> bool:
    return isinstance(x, Tracer)


def pulled_row(frame: FrameType | None) -> tuple[Row, list[Row]] | None:
    """The row that is being pulled back, if one is, and the rows of its trace that are there."""
    row: Row | None = None
    while frame is not None:
        code, names = frame.f_code, frame.f_locals
        if not INTERNAL[code.co_filename] and code.co_filename != "<string>":
            break
        if row is None and code.co_name == "pull":
            found = names.get("row")
            row = found if isinstance(found, tuple) and len(found) > 3 else None
        elif row is not None and isinstance(names.get("rows"), list):
            return row, names["rows"]
        frame = frame.f_back
    return None if row is None else (row, [])


def earlier_runs(row: Row, rows: Sequence[Row]) -> int:
    """How often the operation of a row had run on its line before."""
    before = itertools.takewhile(lambda other: other is not row, rows)
    return sum(other[0] is row[0] and other[2:4] == row[2:4] for other in before)


def running_steps(frame: FrameType | None) -> list[str]:
    """The steps that Python's loops of ours are at: they count them in ``step_number``."""
    steps: list[str] = []
    while frame is not None and frame.f_code is not DebugNans.__call__.__code__:
        if INTERNAL[frame.f_code.co_filename] and "step_number" in frame.f_locals:
            steps.insert(0, f"step {frame.f_locals['step_number']}")
        frame = frame.f_back
    return steps


def _words(x: Value) -> str:
    """An operand in a message: its value if it is a number, else its aval and range."""
    while isinstance(x, Tracer) and hasattr(x, "value"):
        x = x.value
    aval = aval_of(x)
    if isinstance(x, Tracer) or not aval.size:
        return repr(aval)
    if not aval.shape:
        return f"{x:.6g}" if aval.dtype.kind in "iuf" else str(x)
    if aval.dtype.kind not in "iuf":
        return repr(aval)
    a = np.asarray(x)
    return f"{aval} from {a.min():.6g} to {a.max():.6g}"


class DebugNans(Transformed):
    """What `debug_nans` returns."""

    transform = "debug_nans"

    def __init__(self, fun: Callable[..., PyTree], inf: bool) -> None:
        super().__init__(fun, inf=inf)
        self.inf = inf

    def __call__(self, *args: PyTree, **kwargs: Any) -> PyTree:
        trace = Watch(self.label, self.inf)

        def watched(x: Value) -> Value:
            numeric = isinstance(x, float | complex | np.ndarray | np.generic | Tracer)
            if not numeric or aval_of(x).dtype.kind not in "fc":
                return x
            return Watched(x, trace, _given(trace, x))

        inner_args, inner_kwargs = tree_map(watched, (args, kwargs))
        try:
            with np.errstate(all="ignore"):
                y = called(trace, self.fun, inner_args, inner_kwargs)
        finally:
            trace.closed = True
        leaves, tree = flatten(y)
        outs = []
        for i, out in enumerate(map(current, leaves)):
            if type(out) is Watched and out.owner is trace:
                if out.cause is not None:
                    path = keystr(flatten_with_path(y)[0][i][0])
                    raise FloatingPointError(
                        f"{self.label}: the result{path and f' at {path}'} is not finite; the "
                        f"first operation on its way that is not:\n  {out.cause}"
                    )
                out = out.value
            outs.append(out)
        if any(isinstance(innermost(out), Staged) for out in outs):
            warnings.warn(
                f"{self.label}: values are not known while a function is staged, so nothing is "
                f"looked at{at(calling_position())}.\nPut it around what is staged: "
                "vk.debug_nans(vk.jit(f)).",
                RuntimeWarning,
                stacklevel=2,
            )
        return tree.unflatten(outs)


def _given(trace: Watch, x: Value) -> Origin | None:
    """What is not finite in an argument, if anything is."""
    found = trace.badness(x)
    return Origin("an argument", "as it was given", None, (_words(x),), found) if found else None


def debug_nans(
    fun: Callable[..., PyTree] | None = None, *, inf: bool = True
) -> Callable[..., PyTree]:
    """``fun``, which raises where its result is nan (or inf): says which operation made the first.

    The `FloatingPointError` names the operation, its operands, whether it ran forward or backward,
    the user's line, and the step of a loop or the branch that it ran in. Around a gradient,
    ``debug_nans(grad(f))``, it looks into the backward pass too; programs of `jit` are run equation
    by equation. What a selection discards is no error: only what reaches the result is.
    ``inf=False`` lets infinities pass. It looks at values, so it stands around what is staged,
    ``debug_nans(jit(f))``: inside, where they are not known yet, it finds nothing, and warns.

    >>> import numpy as np, vjpkit as vk
    >>> try:
    ...     vk.debug_nans(lambda x: np.sum(np.log(x - 1)))(np.array([1.5, 0.5]))
    ... except FloatingPointError as error:
    ...     print(str(error).partition("   (")[0])
    debug_nans(<lambda>): the result is not finite; the first operation on its way that is not:
      log, forward, gave nan for f64[2] from -0.5 to 0.5
    """
    if fun is None:
        return lambda f: DebugNans(f, inf)
    return DebugNans(fun, inf)
