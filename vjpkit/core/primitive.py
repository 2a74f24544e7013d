"""Primitives and their kinds.

A primitive is a class declared in one place; its *kind* is a base class that supplies whatever
follows from the kind: recording, pulling, pushing, linearity, abstract evaluation. Rules are written
with NumPy functions and operators on their operands, so the same rule serves arrays, outer tracers,
batched and staged values.
"""

from __future__ import annotations

import inspect
import itertools
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from vjpkit.core import rows as _rows
from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import (
    INTERNAL,
    NotDifferentiableError,
    Position,
    at,
    calling_position,
    user_position,
)
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import params_key
from vjpkit.core.rows import (
    Cotangents,
    Eager,
    EagerScalar,
    Row,
    Rows,
    add_cotangent,
    eager,
    new_slots,
    stretch,
    unbroadcast,
)
from vjpkit.core.staging import Builder, Captured, ClosedProgram, transpose_into
from vjpkit.core.tracer import UFUNCS, Tracer, bind, is_foreign

__all__ = [
    "PRIMITIVES",
    "Bilinear",
    "Elementwise",
    "General",
    "Linear",
    "LinearMany",
    "PiecewiseConstant",
    "Primitive",
    "Reduction",
    "Sample",
    "primitive",
]

PRIMITIVES: dict[str, Primitive] = {}
"""Every registered primitive by name: what `parse` and `pickle` look up."""

P = TypeVar("P", bound="Primitive")


def primitive(cls: type[P]) -> P:
    """Class decorator: make and register the one instance of a primitive.

    The name is the class's, without a trailing underscore.
    """
    instance = cls()
    if instance.name in PRIMITIVES:
        raise ValueError(f"a primitive named {instance.name!r} is registered already")
    PRIMITIVES[instance.name] = instance
    return instance


def lookup(name: str) -> Primitive:
    """The primitive called ``name``."""
    try:
        return PRIMITIVES[name]
    except KeyError:
        raise ValueError(f"no primitive is called {name!r}") from None


class Sample:
    """Operands and parameters at which generated tests check a primitive's laws."""

    __slots__ = ("operands", "params", "wrt")

    def __init__(self, *operands: Value, wrt: Sequence[int] | None = None, **params: Any) -> None:
        self.operands = operands
        self.params = params
        inexact = [i for i, x in enumerate(operands) if aval_of(x).inexact]
        self.wrt = tuple(inexact if wrt is None else wrt)

    def __repr__(self) -> str:
        words = [repr(aval_of(x)) for x in self.operands]
        return " ".join([*words, *(f"{k}={v}" for k, v in self.params.items())])


class Primitive:
    """One operation. Subclass a kind, not this class.

    ``impl`` computes with arrays; ``abstract`` maps avals to avals; ``record`` computes and appends
    rows; ``forward`` is the tangent. ``multi`` says that results are tuples; equations always have
    tuples, and `pack`/`unpack` are the only place that knows.
    """

    multi: ClassVar[bool] = False
    name: str
    impl: Callable[..., Value]

    def __init__(self) -> None:
        self.name = type(self).__name__.rstrip("_")

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return bind(self, xs, params)

    def pack(self, outs: tuple[Value, ...]) -> Value:
        """What the primitive returns, from a tuple of outputs."""
        return outs if self.multi else outs[0]

    def unpack(self, out: Value) -> tuple[Value, ...]:
        """A tuple of outputs, from what the primitive returns."""
        return tuple(out) if self.multi else (out,)

    def canonical(
        self, xs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        """Operands and hashable parameters, as an equation holds them."""
        return xs, params

    def abstract(self, *avals: Aval, **params: Any) -> Any:
        """Avals of the outputs."""
        raise NotImplementedError(f"{self.name} declares no abstract evaluation")

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        """Compute at ``values`` and append the rows for the operands that have slots."""
        raise NotDifferentiableError(f"{self.name} has no derivative{at(calling_position())}")

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        """Tangent (or tangents) of the output; None stands for zero."""
        raise NotDifferentiableError(f"{self.name} has no derivative{at(calling_position())}")

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        """Whether the outputs are linear, jointly, in the operands that ``mask`` marks."""
        return False

    def samples(self) -> Iterable[Sample]:
        """Points at which the generated tests check this primitive."""
        return ()

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> Any:
        return lookup, (self.name,)


def own_values(xs: Iterable[Value], trace: Rows) -> list[Value]:
    """Operands that a row keeps although they are not this trace's: guarded against later changes."""
    keep = trace.keep
    return [keep(x) if type(x) is np.ndarray else x for x in xs]


# ------------------------------------------------------------------------------------------- ufuncs


class Ufunc(Primitive):
    """Broadcasts, and takes its shape and dtype inference from a NumPy ufunc."""

    ufunc: ClassVar[np.ufunc]
    operator: ClassVar[str] = ""
    """Python's spelling, where it has one; then Python scalars give Python scalars."""

    def __init__(self) -> None:
        super().__init__()
        self.impl = _operator_function(self.ufunc, self.operator)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        shape = np.broadcast_shapes(*[a.shape for a in avals])
        kinds = [_weak_type(a) if a.weak else a.dtype for a in avals]
        if all(a.weak for a in avals):
            dtype = self.ufunc.resolve_dtypes((*[a.dtype for a in avals], None))[-1]
            return Aval(shape, dtype, weak=bool(self.operator) and dtype.kind != "b")
        return Aval(shape, self.ufunc.resolve_dtypes((*kinds, None))[-1])


def _weak_type(aval: Aval) -> type:
    return {"b": bool, "i": int, "f": float, "c": complex}[aval.dtype.kind]


_OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "**": operator.pow, "%": operator.mod, "//": operator.floordiv,
    "u-": operator.neg, "u+": operator.pos,
}  # fmt: skip


def _operator_function(ufunc: np.ufunc, spelling: str) -> Callable[..., Value]:
    return _OPERATORS[spelling] if spelling else ufunc


class Elementwise(Ufunc):
    """A ufunc and its partial derivatives.

    ``partials[i]`` is a number, or a function whose *parameter names* (``x``, ``y``, ``out``) say what
    a row keeps. From this declaration the record, pull and push functions are generated once per
    pattern of traced operands. ``singular`` marks partials that can be inf or nan at a point where the
    cotangent may be zero: they are multiplied by the transform's product.
    """

    partials: ClassVar[tuple[Any, ...]]
    singular: ClassVar[bool] = False
    real_valued: ClassVar[bool] = False
    """Real output for complex operands: tangents take the real part."""
    linear: ClassVar[tuple[tuple[int, ...], ...]] = ()
    """Patterns of operands in which it is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.arity = self.ufunc.nin
        UFUNCS[self.ufunc] = self
        masks = [m for m in itertools.product((0, 1), repeat=self.arity) if any(m)]
        self.rules = {mask: _RuleSource(self, mask).compile() for mask in masks}
        self.apply = compile_record(self, swapped=False)
        """The record function: what operators and ``np.f(tracer)`` call."""
        self.reflected = compile_record(self, swapped=True) if self.arity == 2 else self.apply
        UFUNCS[self.ufunc] = self.apply

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return self.apply(*xs)

    def general(self, *xs: Value) -> Value:
        """Any mixture of operands: foreign containers decline, tracers go through `bind`."""
        for x in xs:
            if isinstance(x, Tracer):
                break
        else:
            return self.impl(*xs)
        for x in xs:
            if is_foreign(x):
                return NotImplemented
        return bind(self, xs, {})

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        out = self.impl(*values)
        mask = tuple(int(s is not None) for s in slots)
        position = calling_position()
        k = trace.new()
        trace.append(self.row(mask, k, position, values, slots, out, trace))
        return eager(out, trace, k)

    def row(
        self,
        mask: tuple[int, ...],
        k: int,
        position: Position,
        values: Sequence[Value],
        slots: Sequence[Any],
        out: Value,
        trace: Rows | None = None,
    ) -> Row:
        """The row that the generated record function would append."""
        pull = self.rules[mask]
        env = dict(zip("xy", values, strict=False), out=out)
        for name, slot in zip("xy", slots, strict=False):
            if trace is not None and slot is None and type(env[name]) is np.ndarray:
                env[name] = trace.keep(env[name]) if name in pull.needs else env[name]
        live = [i for i, m in enumerate(mask) if m]
        fits = [fit_of(values[i], out) for i in live] if pull.fitted else []
        return (pull, k, *position, *[slots[i] for i in live], *[env[n] for n in pull.needs], *fits)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        mask = tuple(int(t is not None) for t in ts)
        slots = [None, *ts, *new_slots(0, strict)]
        numbers = [i + 1 if m else None for i, m in enumerate(mask)]
        row = self.row(mask, 0, (None, -1), values, numbers, out)
        row[0].push(row, slots)
        return slots[0]

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return tuple(map(int, mask)) in self.linear


def fit_of(x: Value, out: Value) -> tuple[Shape, Any, Shape, Any] | None:
    """None where a cotangent of ``out`` fits ``x`` as it is; else both shapes and dtypes."""
    a, b = aval_of(x), aval_of(out)
    if b.dtype.kind not in "fc":
        raise TypeError(
            f"the result has dtype {b.dtype}, which has no derivative{at(calling_position())}"
        )
    if a.shape == b.shape and a.dtype == b.dtype:
        return None
    return a.shape, a.dtype, b.shape, b.dtype


class _RuleSource:
    """Writes the pull and push functions of one elementwise primitive and one operand pattern."""

    def __init__(self, owner: Elementwise, mask: tuple[int, ...]) -> None:
        self.owner = owner
        self.live = [i for i, m in enumerate(mask) if m]
        self.needs: list[str] = []
        self.terms: dict[int, str | None] = {}
        self.fitted = owner.arity > 1 or owner.real_valued
        for i in self.live:
            partial = owner.partials[i]
            if callable(partial):
                names = list(inspect.signature(partial).parameters)
                self.needs += [n for n in names if n not in self.needs]
                self.terms[i] = f"partial{i}({', '.join(names)})"
            else:
                self.terms[i] = None if partial in (1, -1) else repr(partial)

    def product(self, i: int, factor: str, slots: str) -> str:
        term = self.terms[i]
        if term is None:
            return factor if self.owner.partials[i] == 1 else f"-{factor}"
        return f"{slots}[-2]({factor}, {term})" if self.owner.singular else f"{factor} * {term}"

    def compile(self) -> Any:
        slots = [f"slot{i}" for i in self.live]
        fits = [f"fit{i}" for i in self.live] if self.fitted else []
        unpack = f"    _, k, _, _, {', '.join([*slots, *self.needs, *fits])} = row"
        pull = ["def pull(row, ct, cts):", unpack]
        push = ["def push(row, ts):", unpack, "    out_t = None"]
        for i in self.live:
            pull.append(f"    c = {self.product(i, 'ct', 'cts')}")
            push += [f"    t = ts[slot{i}]", "    if t is not None:"]
            push.append(f"        t = {self.product(i, 't', 'ts')}")
            if self.fitted:
                pull.append(f"    if fit{i} is not None: c = unbroadcast(c, fit{i}[0], fit{i}[1])")
                push.append(f"        if fit{i} is not None: t = stretch(t, fit{i}[2], fit{i}[3])")
            pull += [f"    if cts[slot{i}] is None: cts[slot{i}] = c"]
            pull += [f"    else: add_cotangent(cts, slot{i}, c)"]
            push.append("        out_t = t if out_t is None else out_t + t")
        push.append("    ts[k] = out_t")
        scope = {f"partial{i}": p for i, p in enumerate(self.owner.partials)}
        scope.update(unbroadcast=unbroadcast, stretch=stretch, add_cotangent=add_cotangent)
        function = generate("\n".join(pull + push), scope, self.owner.name, "pull")
        function.push = scope["push"]
        function.primitive = self.owner
        function.needs = tuple(self.needs)
        function.fitted = self.fitted
        return function


def generate(source: str, scope: dict[str, Any], label: str, name: str) -> Any:
    """Compile generated source; its frames count as ours."""
    exec(compile(source, f"<vjpkit {label}>", "exec"), scope)
    return scope[name]


class _ObjectResult(Exception):
    """An operand turned out to be an object array; take the general door."""


def fit(x: Value, out: Value) -> Any:
    if out.dtype.hasobject:
        raise _ObjectResult
    return fit_of(x, out)


_POSITION = """
    f = getframe(1); code = f.f_code
    if INTERNAL[code.co_filename]: code, offset = user_position(f)
    else: offset = f.f_lasti
    k = trace.new()"""

_FRESH = """
    if trace.dirty: {0}_ = refresh({0}_); trace = {0}_.trace"""


def compile_record(owner: Elementwise, swapped: bool) -> Any:
    """The fast door: one NumPy call, one row, one tracer.

    Straight-line code for an eager tracer with itself, with a Python number and with a plain array;
    everything else goes to `Elementwise.general`. ``swapped`` makes the reflected operator.
    """
    scope = {
        "Eager": Eager, "ufunc": owner.ufunc, "general": owner.general, "fit": fit, "ndarray": np.ndarray,
        "float64": np.float64, "INTERNAL": INTERNAL, "user_position": user_position,
        "getframe": sys._getframe, "refresh": _rows.refresh, "ObjectResult": _ObjectResult,
        "NUMBERS": frozenset({float, int}),
    }  # fmt: skip
    scope.update({f"pull{''.join(map(str, m))}": p for m, p in owner.rules.items()})
    lines = _record_unary(owner) if owner.arity == 1 else _record_binary(owner, swapped)
    source = "\n".join(lines)
    return generate(source, scope, owner.name, "record")


def _fields(owner: Elementwise, mask: tuple[int, ...]) -> str:
    """The tuple display of a row, from names in scope."""
    pull = owner.rules[mask]
    live = [i for i, m in enumerate(mask) if m]
    slots = [f"{'xy'[i]}_.slot" for i in live]
    fits = [f"fit{i}" for i in live] if pull.fitted else []
    name = f"pull{''.join(map(str, mask))}"
    return f"({', '.join([name, 'k', 'code', 'offset', *slots, *pull.needs, *fits])},)"


def _record_unary(owner: Elementwise) -> list[str]:
    call = f"{owner.operator[1]}x" if owner.operator else "ufunc(x)"
    pull = owner.rules[(1,)]
    return [
        "def record(x_):",
        "    if type(x_) is not Eager: return general(x_)",
        "    trace = x_.trace" + _FRESH.format("x"),
        f"    x = x_.value; out = {call}",
        "    fit0 = None if x.dtype is out.dtype else fit(x, out)" if pull.fitted else "",
        *_POSITION.splitlines(),
        f"    trace.append({_fields(owner, (1,))})",
        "    return Eager(out, trace, k)",
    ]


def _record_binary(owner: Elementwise, swapped: bool) -> list[str]:
    call = f"x {owner.operator} y" if owner.operator else "ufunc(x, y)"
    fit_line = "fit{0} = None if {1}.shape == shape and {1}.dtype is out.dtype else fit({1}, out)"

    def one(mine: str, other: str, mask: tuple[int, int]) -> list[str]:
        """The branch with one traced operand."""
        i = mask.index(1)
        keeps = other in owner.rules[mask].needs
        return [
            f"        trace = {mine}_.trace" + _FRESH.format(mine).replace("    if", "        if"),
            f"        {mine} = {mine}_.value; {other} = {other}_; kind = type({other})",
            "        if kind in NUMBERS:",
            f"            out = {call}; fit{i} = None",
            "        elif kind is ndarray or kind is float64:",
            f"            out = {call}; shape = out.shape",
            f"            {fit_line.format(i, mine)}",
            f"            if kind is ndarray: {other} = trace.keep({other})" if keeps else "",
            "        else: return general(x_, y_)",
            *("    " + line for line in _POSITION.splitlines()),
            f"        trace.append({_fields(owner, mask)})",
            "        return Eager(out, trace, k)",
        ]

    body = [
        "    if type(x_) is Eager:",
        "      if type(y_) is Eager:",
        "        trace = x_.trace",
        "        if trace is not y_.trace: return general(x_, y_)",
        "        if trace.dirty: x_ = refresh(x_); y_ = refresh(y_)",
        f"        x = x_.value; y = y_.value; out = {call}; shape = out.shape",
        f"        {fit_line.format(0, 'x')}",
        f"        {fit_line.format(1, 'y')}",
        *("    " + line for line in _POSITION.splitlines()),
        f"        trace.append({_fields(owner, (1, 1))})",
        "        return Eager(out, trace, k)",
        "      else:",
        *one("x", "y", (1, 0)),
        "    elif type(y_) is Eager:",
        *one("y", "x", (0, 1)),
        "    return general(x_, y_)",
    ]
    return [
        f"def record({'y_, x_' if swapped else 'x_, y_'}):",
        "  try:",
        *("  " + line for line in "\n".join(body).splitlines()),
        "  except ObjectResult: return general(x_, y_)",
    ]


class PiecewiseConstant(Primitive):
    """Locally constant, so its derivative is exactly zero: comparisons, ``floor``, ``argmax``, ...

    Traces that only carry derivatives are unwrapped; batched and staged values are computed with.
    """

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        return self(*values, **params)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        return tuple(None for _ in out) if self.multi else None


class ConstantUfunc(PiecewiseConstant, Ufunc):
    """A locally constant ufunc."""

    def __init__(self) -> None:
        super().__init__()
        UFUNCS[self.ufunc] = self

    def __call__(self, *xs: Value, **params: Any) -> Value:
        for x in xs:
            if is_foreign(x):
                return NotImplemented
        return bind(self, xs, params)


# ------------------------------------------------------------------------------------ linear, bilinear


def contribute(cts: Cotangents, i: int | None, ct: Value | None) -> None:
    """Add ``ct`` to slot ``i``, where both exist."""
    if i is None or ct is None:
        return
    if cts[i] is None:
        cts[i] = ct
    else:
        add_cotangent(cts, i, ct)


class Linear(Primitive):
    """Linear in operand 0; the operands after it are fixed (index arrays, ...).

    The rule is ``transpose(ct, shape, dtype, /, *fixed, **params)``: the cotangent of an operand of that
    shape and dtype. The push is the primitive itself.
    """

    def __init__(self) -> None:
        super().__init__()
        transpose = self.transpose

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, shape, dtype, fixed, params = row
            c = transpose(ct, shape, dtype, *fixed, **params)
            if cts[i] is None:
                cts[i] = c
            else:
                add_cotangent(cts, i, c)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, _, _, fixed, params = row
            t = ts[i]
            ts[k] = None if t is None else self(t, *fixed, **params)

        self.pull = rule(self, pull, push)

    def transpose(self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no transpose")

    def __call__(self, x: Value, *fixed: Value, **params: Any) -> Value:
        if type(x) is not Eager or fixed:
            return bind(self, (x, *fixed), params)
        trace = x.trace
        if trace.dirty:
            x = _rows.refresh(x)
        value = x.value
        out = self(value, **params) if isinstance(value, Tracer) else self.impl(value, **params)
        k = trace.new()
        frame = sys._getframe(1)
        trace.append(
            (self.pull, k, *user_position(frame), x.slot, value.shape, value.dtype, (), params)
        )
        return Eager(out, trace, k)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        x, *fixed = values
        out = self(x, *fixed, **params)
        if slots[0] is None:
            return out
        k = trace.new()
        aval = aval_of(x)
        fixed = own_values(fixed, trace)
        position = calling_position()
        trace.append((self.pull, k, *position, slots[0], aval.shape, aval.dtype, fixed, params))
        return Eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        return None if ts[0] is None else self(ts[0], *values[1:], **params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask[0] and not any(mask[1:])


def rule(owner: Primitive, pull: Any, push: Any) -> Any:
    """A pull function with its push and its primitive."""
    pull.push = push
    pull.primitive = owner
    return pull


class LinearMany(Primitive):
    """Jointly linear in all operands after the first ``fixed(params)`` ones: ``concatenate``, ``where``.

    The rule is ``transpose(ct, avals, live, *fixed, **params)``: cotangents of the linear operands, of
    which ``live`` marks those that are wanted (others may be None).
    """

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, slots, avals, fixed, params = row
            live = [i is not None for i in slots]
            for i, c in zip(slots, self.transpose(ct, avals, live, *fixed, **params), strict=True):
                contribute(cts, i, c)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, slots, avals, fixed, params = row
            inner = [None if i is None else ts[i] for i in slots]
            ts[k] = self.total(inner, avals, fixed, params)

        self.pull = rule(self, pull, push)

    def fixed(self, params: Any) -> int:
        """How many leading operands are not linear ones."""
        return 0

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        raise NotImplementedError(f"{self.name} declares no transpose")

    def total(
        self, ts: Sequence[Value | None], avals: Sequence[Aval], fixed: Sequence[Value], params: Any
    ) -> Any:
        """The map at tangents of which some are zero."""
        if all(t is None for t in ts):
            return None
        some = next(t for t in ts if t is not None)
        dense = [zeros(a, some) if t is None else t for t, a in zip(ts, avals, strict=True)]
        return self(*fixed, *dense, **params)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        out = self(*values, **params)
        n = self.fixed(params)
        if all(s is None for s in slots[n:]):
            return out
        k = trace.new()
        avals = [aval_of(v) for v in values[n:]]
        fixed = own_values(values[:n], trace)
        trace.append((self.pull, k, *calling_position(), tuple(slots[n:]), avals, fixed, params))
        return eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        n = self.fixed(params)
        return self.total(ts[n:], [aval_of(v) for v in values[n:]], values[:n], params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        n = self.fixed(params)
        return all(mask[n:]) and not any(mask[:n])


def zeros(aval: Aval, like: Value) -> Value:
    """Zeros of an aval, as light as they can be: one stored element."""
    dtype = aval.dtype if aval.inexact else np.dtype(np.float64)
    return np.broadcast_to(np.zeros((), dtype), aval.shape) if aval.shape else dtype.type(0)


class Bilinear(Primitive):
    """Linear in each of two operands.

    The rules are ``transpose_x(ct, y, shape, dtype, **params)`` and ``transpose_y(ct, x, shape, dtype,
    **params)``; the push is the primitive itself.
    """

    def __init__(self) -> None:
        super().__init__()
        transpose_x, transpose_y = self.transpose_x, self.transpose_y

        def pull_x(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, shape, dtype, y, params = row
            contribute(cts, i, transpose_x(ct, y, shape, dtype, **params))

        def push_x(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, _, _, y, params = row
            ts[k] = None if ts[i] is None else self(ts[i], y, **params)

        def pull_y(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, shape, dtype, x, params = row
            contribute(cts, i, transpose_y(ct, x, shape, dtype, **params))

        def push_y(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, _, _, x, params = row
            ts[k] = None if ts[i] is None else self(x, ts[i], **params)

        def pull_xy(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, j, x, y, params = row
            contribute(cts, i, transpose_x(ct, y, x.shape, x.dtype, **params))
            contribute(cts, j, transpose_y(ct, x, y.shape, y.dtype, **params))

        def push_xy(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, j, x, y, params = row
            ts[k] = self.forward((x, y), (ts[i], ts[j]), None, params, False)

        self.pull_x = rule(self, pull_x, push_x)
        self.pull_y = rule(self, pull_y, push_y)
        self.pull_xy = rule(self, pull_xy, push_xy)

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no transpose_x")

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no transpose_y")

    def __call__(self, x: Value, y: Value, **params: Any) -> Value:
        x_mine, y_mine = type(x) is Eager, type(y) is Eager
        if x_mine and y_mine:
            fast = x.trace is y.trace and not x.trace.dirty
        else:
            plain = y if x_mine else x
            mine = x if x_mine else y
            fast = (x_mine or y_mine) and type(plain) is np.ndarray and not mine.trace.dirty
            fast = fast and plain.dtype.kind in "fc"
        if not fast:
            if is_foreign(x) or is_foreign(y):
                return NotImplemented
            return bind(self, (x, y), params)
        values = [x.value if x_mine else x, y.value if y_mine else y]
        slots = [x.slot if x_mine else None, y.slot if y_mine else None]
        return self.record(x.trace if x_mine else y.trace, values, slots, params)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        x, y = values
        if isinstance(x, Tracer) or isinstance(y, Tracer):
            out = self(x, y, **params)
        else:
            out = self.impl(x, y, **params)
        k = trace.new()
        i, j = slots
        code, offset = user_position(sys._getframe(1))
        row: Row
        if j is None:
            y = trace.keep(y) if type(y) is np.ndarray else y
            row = (self.pull_x, k, code, offset, i, x.shape, x.dtype, y, params)
        elif i is None:
            x = trace.keep(x) if type(x) is np.ndarray else x
            row = (self.pull_y, k, code, offset, j, y.shape, y.dtype, x, params)
        else:
            row = (self.pull_xy, k, code, offset, i, j, x, y, params)
        trace.append(row)
        return Eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        (x, y), (tx, ty) = values, ts
        a = None if tx is None else self(tx, y, **params)
        b = None if ty is None else self(x, ty, **params)
        return b if a is None else a if b is None else a + b

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return sum(mask) == 1


class Reduction(Primitive):
    """Reduces over ``axes`` (None for all), with a weight per element as derivative.

    The rule is ``weights(x, out, axes)``, ``out`` with the reduced axes kept as length 1:
    d out = sum of weights * dx. Both modes follow from it.
    """

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, x, out, params = row
            axes = params["axes"]
            weights = self.weights(x, kept(out, x.shape, axes), axes)
            contribute(cts, i, cts[-2](kept(ct, x.shape, axes), weights))

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, x, out, params = row
            ts[k] = None if ts[i] is None else self.weighted(x, ts[i], out, params, ts[-2])

        self.pull = rule(self, pull, push)

    def weights(self, x: Value, out: Value, axes: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no weights")

    def weighted(self, x: Value, t: Value, out: Value, params: Any, product: Any) -> Value:
        axes = params["axes"]
        weights = self.weights(x, kept(out, x.shape, axes), axes)
        return np.sum(product(t, weights), axis=axes, keepdims=params["keepdims"])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (x,) = avals
        return Aval(
            reduced_shape(x.shape, params["axes"], params["keepdims"]), self.out_dtype(x.dtype)
        )

    def out_dtype(self, dtype: Any) -> Any:
        return dtype

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        (x,) = values
        out = self(x, **params)
        k = trace.new()
        trace.append((self.pull, k, *calling_position(), slots[0], x, out, params))
        return Eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        product = new_slots(0, strict)[-2]
        return None if ts[0] is None else self.weighted(values[0], ts[0], out, params, product)


def reduced_shape(shape: Shape, axes: tuple[int, ...] | None, keepdims: bool) -> Shape:
    """Shape after a reduction over non-negative ``axes`` (None for all)."""
    gone = range(len(shape)) if axes is None else axes
    if keepdims:
        return tuple(1 if i in gone else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def kept(out: Value, shape: Shape, axes: tuple[int, ...] | None) -> Value:
    """``out`` of a reduction with the reduced axes as length 1, to broadcast against the operand."""
    return np.reshape(out, reduced_shape(shape, axes, keepdims=True))


# ----------------------------------------------------------------------------- everything with a jvp

_CACHE_SIZE = 512


class Many(list[Any]):
    """Cotangents of the outputs of a primitive that has several."""

    __slots__ = ()


def _pull_part(row: Row, ct: Value, cts: Cotangents) -> None:
    """Collect the cotangent of one output in the slot of the whole."""
    _, _, _, _, whole, j, count = row
    if cts[whole] is None:
        cts[whole] = Many([None] * count)
    cts[whole][j] = ct


def _push_part(row: Row, ts: Cotangents) -> None:
    _, k, _, _, whole, j, _ = row
    ts[k] = None if ts[whole] is None else ts[whole][j]


_pull_part.push = _push_part  # type: ignore[attr-defined]  # every pull function carries its push


class General(Primitive):
    """Any primitive with a ``jvp`` written in terms of others.

    ``jvp(values, ts, out, **params)`` gives the tangent (several for ``multi``), None for zero. The
    pullback is that rule staged, transposed, lowered and kept per (parameters, operands, avals).
    ``transposes[i](ct, values, **params)`` serves where only operand ``i`` is traced and the primitive
    is linear in it; that also ends the recursion of a rule that uses the primitive itself.
    """

    transposes: ClassVar[dict[int, Callable[..., Value]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.transposed: OrderedDict[Any, ClosedProgram] = OrderedDict()

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, _, slots, values, outs, params = row
            inner = [None if s is None else ts[s] for s in slots]
            some = any(t is not None for t in inner)
            ts[k] = self.jvp(values, inner, self.pack(outs), **params) if some else None

        self.pull = rule(self, self._pull, push)
        self.pull_linear = rule(self, self._pull_linear, push)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        raise NotDifferentiableError(f"{self.name} has no derivative{at(calling_position())}")

    @property
    def _pull_linear(self) -> Any:
        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, live, slots, values, _, params = row
            i = live[0]
            contribute(cts, slots[i], self.transposes[i](ct, values, **params))

        return pull

    @property
    def _pull(self) -> Any:
        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, live, slots, values, outs, params = row
            given = ct if type(ct) is Many else (ct,)
            closed = self.transposed_rule(values, outs, live, given, params)
            some = [c for c in given if c is not None]
            for i, c in zip(
                live, evaluate(closed.program, [*closed.consts, *values, *outs, *some]), strict=True
            ):
                contribute(cts, slots[i], c)

        return pull

    def transposed_rule(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        params: Any,
    ) -> ClosedProgram:
        """The program (values, outs, cotangents) -> cotangents of the live operands; kept."""
        pattern = tuple(c is not None for c in given)
        key = (params_key(params), live, pattern, tuple(map(aval_of, values)))
        found = self.transposed.get(key)
        if found is None:
            found = self._transpose_rule(values, outs, live, given, params)
            assert not any(isinstance(c, Tracer) for c in found.consts), (
                f"{self.name} captured a tracer"
            )
            self.transposed[key] = found
            while len(self.transposed) > _CACHE_SIZE:
                self.transposed.popitem(last=False)
        return found

    def _transpose_rule(
        self, values: Any, outs: Any, live: Any, given: Any, params: Any
    ) -> ClosedProgram:
        builder = Builder()
        staged = [builder.argument(aval_of(v)) for v in values]
        staged_outs = tuple([builder.argument(aval_of(o)) for o in outs])
        cts = [None if c is None else builder.argument(aval_of(c)) for c in given]

        def push(*ts: Value) -> Sequence[Value]:
            inner: list[Value | None] = [None] * len(values)
            for i, t in zip(live, ts, strict=True):
                inner[i] = t
            return self.unpack(self.jvp(staged, inner, self.pack(staged_outs), **params))

        avals = [aval_of(values[i]).strong() for i in live]
        pulled = transpose_into(builder, push, avals, cts)
        dense = [
            _rows.roles["fill"](builder, a.shape, 0, a.dtype) if c is None else c
            for c, a in zip(pulled, avals, strict=True)
        ]
        return builder.finish(dense, linear=sum(c is not None for c in given))

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        outs = self.unpack(self(*values, **params))
        code, offset = calling_position()
        live = tuple([i for i, s in enumerate(slots) if s is not None])
        pull = self.pull_linear if len(live) == 1 and live[0] in self.transposes else self.pull
        held = [
            v if s is not None else own_values([v], trace)[0]
            for v, s in zip(values, slots, strict=True)
        ]
        whole = trace.new()
        trace.append((pull, whole, code, offset, live, tuple(slots), tuple(held), outs, params))
        if not self.multi:
            return Eager(outs[0], trace, whole)
        results: list[Value] = []
        for j, o in enumerate(outs):
            if not aval_of(o).inexact:
                results.append(o)
                continue
            k = trace.new()
            trace.append((_pull_part, k, code, offset, whole, j, len(outs)))
            results.append(Eager(o, trace, k))
        return tuple(results)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        return self.jvp(values, ts, out, **params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return sum(mask) == 1 and mask.index(True) in self.transposes
