"""Forward mode: a tracer that carries its tangent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.rows import has_nan, roles
from vjpkit.core.tracer import ConcreteTracer, Tracer, named_info
from vjpkit.kinds import DOORS, Elementwise, Linear
from vjpkit.kinds.elementwise import generate
from vjpkit.kinds.silence import CONTEXTS, restore, silence, silent, silent_context
from vjpkit.ops import elementwise
from vjpkit.transforms.traces import ValueTrace, current

__all__ = ["Dual", "Duals"]


class Dual(ConcreteTracer):
    """A primal value and its tangent (of the same shape and dtype)."""

    __slots__ = ()
    tangent = named_info()

    def __init__(self, value: Value, trace: Duals, tangent: Value) -> None:
        self.value = value
        self.owner = trace
        self.tangent = tangent

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Value:
        if method == "__call__" and not kwargs:
            found = _UFUNCS.get(ufunc)
            if found is not None:
                return found(*args)
        return super().__array_ufunc__(ufunc, method, *args, **kwargs)


_UFUNCS: dict[np.ufunc, Callable[..., Value]] = {}
"""What ``np.f(dual)`` calls, once it has been compiled."""


def _snapshot(x: Value) -> Value:
    """An operand of another trace as it is now: it may be an array that is written to later."""
    return roles["snapshot"](x) if isinstance(x, Tracer) else x


def dual_door(primitive: Elementwise) -> Callable[..., Value | None]:
    """The quick door; from now on it is what NumPy calls for a dual operand, too."""
    if not primitive.operator:  # whose functions give NumPy's scalars where operators do not
        _UFUNCS[primitive.ufunc] = compile_dual(primitive, "general")
    return compile_dual(primitive, "none")


def none(*_: Value) -> None:
    """The quick door leaves the operands to the general one."""


def attach_operator(name: str, primitive: Elementwise, swapped: bool = False) -> None:
    """The operators of dual numbers are the quick doors themselves, made at first use."""

    def first_call(self: Value, *other: Value) -> Value:
        door = compile_dual(primitive, "general", swapped)
        setattr(Dual, name, door)
        return door(self, *other)

    setattr(Dual, name, first_call)


for _name, _primitive in (
    ("add", elementwise.add), ("sub", elementwise.subtract), ("mul", elementwise.multiply),
    ("truediv", elementwise.divide), ("pow", elementwise.power),
):  # fmt: skip
    attach_operator(f"__{_name}__", _primitive)
    attach_operator(f"__r{_name}__", _primitive, swapped=True)
attach_operator("__neg__", elementwise.negative)


def compile_dual(
    primitive: Elementwise, rest: str, swapped: bool = False
) -> Callable[..., Value | None]:
    """One or two dual operands, or one and a plain number or array; ``rest`` takes all others.

    A tangent is made with plain products first, and by `Elementwise.forward` only where that made a
    nan, or where tracers are below. ``swapped`` exchanges the operands.
    """
    scope = {
        "Dual": Dual, "ufunc": primitive.ufunc, "forward": silent(primitive.forward),
        "has_nan": has_nan, "contexts": CONTEXTS, "silent_context": silent_context,
        "general": primitive.general, "none": none, "ndarray": np.ndarray,
        "NUMBERS": frozenset({float, int}), "PLAIN": frozenset({np.ndarray, np.float64}),
        "float64": np.float64,
    }  # fmt: skip
    scope.update({f"plain{''.join(map(str, m))}": p.plain for m, p in primitive.rules.items()})
    if primitive.arity == 1:
        rest = f"return {rest}(x_)"
        lines = ["def dual(x_):", _OPENED.format("x_", rest), "    x = x_.value"]
        lines += _result(primitive, (1,))
    else:
        rest = f"return {rest}(x_, y_)"
        lines = [f"def dual({'y_, x_' if swapped else 'x_, y_'}):", "    if type(x_) is not Dual:"]
        lines += _indented([_OPENED.format("y_", rest), "    y = y_.value; x = x_"])
        lines += _indented([_GIVEN.format("x", rest), *_result(primitive, (0, 1))])
        lines += [_OPENED.format("x_", rest), "    x = x_.value", "    if type(y_) is not Dual:"]
        lines += _indented(["    y = y_", _GIVEN.format("y", rest), *_result(primitive, (1, 0))])
        lines += [f"    if y_.owner is not trace: {rest}", "    y = y_.value"]
        lines += _result(primitive, (1, 1))
    door: Callable[..., Value | None] = generate("\n".join(lines), scope, primitive.name, "dual")
    return door


_OPENED = "    trace = {0}.owner\n    if trace.dirty or trace.closed: {1}"
_GIVEN = (
    "    if type({0}) not in NUMBERS and type({0}) is not float64"
    " and (type({0}) is not ndarray or {0}.dtype.kind != 'f'): {1}"
)


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line.replace("\n", "\n    ") for line in lines]


def _result(primitive: Elementwise, mask: tuple[int, ...]) -> list[str]:
    """Lines that return the result for operands of which ``mask`` marks the dual ones."""
    names = "xy"[: len(mask)]
    live = [name for name, m in zip(names, mask, strict=True) if m]
    ts = [f"{name}_.tangent" if name in live else "None" for name in names]
    arguments = f"({', '.join(names)},), ({', '.join(ts)},), out"
    given = ", ".join([*names, "out", *[t for t in ts if t != "None"]])
    plain = " and ".join(
        f"type({what}) in PLAIN" for what in ("out", *[f"{x}_.tangent" for x in live])
    )
    retry = f"t = forward({arguments}, None, trace.strict)"
    lines = [
        f"    out = {primitive.expression()}",
        f"    if {plain}:",
        "        try: context = contexts.pop()",
        "        except IndexError: context = silent_context()",
        f"        t = context.run(plain{''.join(map(str, mask))}, {given})",
        "        contexts.append(context)",
    ]
    if primitive.tangents[tuple(map(bool, mask))][1]:
        other = names.replace(live[0], "")
        tame = f"(type({other}) is float and {other} - {other} == 0)"
        scaled = len(live) == 1 and primitive.partials[mask.index(1)] == other
        unless = f" and not {tame}" if scaled else ""
        lines.append(f"        if not trace.strict{unless} and has_nan(t): {retry}")
    return [*lines, f"    else: {retry}", "    return out if t is None else Dual(out, trace, t)"]


DOORS[Dual] = dual_door


class Duals(ValueTrace):
    """The trace of one ``jvp``: every primitive pushes its operands' tangents at once."""

    __slots__ = ("strict",)

    def __init__(self, name: str = "jvp", strict: bool = False) -> None:
        super().__init__(name)
        self.strict = strict

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        self.require_running()
        if len(xs) == 1 and isinstance(primitive, Linear) and type(xs[0]) is Dual:
            return self.linear(primitive, xs[0], params)
        values, ts = [], []
        for x in xs:
            mine = type(x) is Dual and x.owner is self
            values.append(x.value if mine else _snapshot(x))
            ts.append(x.tangent if mine else None)
        together = getattr(primitive, "with_tangents", None)
        if together is not None:
            outs, tangents = together(values, ts, params, self.strict)
            self.require_closed(primitive, (*outs, *tangents), params)
        else:
            outs = primitive(*values, **params)
            token = silence()
            try:
                tangents = primitive.forward(values, ts, outs, params, self.strict)
            finally:
                restore(token)
            if not primitive.multi:
                return outs if tangents is None else Dual(outs, self, tangents)
        pairs = zip(outs, tangents, strict=True)
        return primitive.pack(tuple([o if t is None else Dual(o, self, t) for o, t in pairs]))

    def linear(self, primitive: Linear, x: Value, params: dict[str, Any]) -> Value:
        """A linear primitive of one operand, which is ours: the same of value and tangent."""
        value, t = x.value, x.tangent
        plain = type(value) is np.ndarray is type(t)
        f = primitive.impl if plain else primitive
        out = f(value, **params)
        token = silence()
        try:
            return Dual(out, self, f(t, **params))
        finally:
            restore(token)

    def split(self, y: Value) -> tuple[Value, Value | None]:
        """Primal and tangent (None for zero) of an output."""
        y = current(y)
        if isinstance(y, Dual) and y.owner is self:
            return y.value, y.tangent
        return self.foreign(y, "derivative"), None
