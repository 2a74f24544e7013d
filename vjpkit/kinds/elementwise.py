"""Ufuncs: differentiable ones from their partial derivatives, and locally constant ones.

From one declaration the record, pull and push functions are generated, once per pattern of traced
operands: eager recording costs one NumPy call, one tuple and one tracer.
"""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import (
    INTERNAL,
    SCOPE,
    Position,
    Scoped,
    at,
    calling_position,
)
from vjpkit.core.ir import Atom, Equation, Literal, Var
from vjpkit.core.primitive import Primitive
from vjpkit.core.rows import (
    Cotangents,
    Eager,
    Row,
    Rows,
    add_cotangent,
    annihilate,
    eager,
    has_nan,
    plain_product,
    roles,
    stretch,
    unbroadcast,
)
from vjpkit.core.staging import Staged
from vjpkit.core.tracer import UFUNCS, Tracer, bind, is_foreign, refresh

__all__ = ["DOORS", "ConstantUfunc", "Elementwise", "PiecewiseConstant", "Ufunc", "generate"]


DOORS: dict[type[Tracer], Callable[[Elementwise], Callable[..., Value | None]]] = {}
"""What makes the quick door of an elementwise primitive for another kind of tracer than the eager
one: a function of the operands that gives None where they need the general door."""


class Ufunc(Primitive):
    """Broadcasts, and takes its shape and dtype inference from a NumPy ufunc."""

    ufunc: ClassVar[np.ufunc]
    operator: ClassVar[str] = ""
    """Python's spelling, where it has one; then Python scalars give Python scalars."""

    def __init__(self) -> None:
        super().__init__()
        self.impl = _operator_function(self.ufunc, self.operator)
        self.types: dict[Any, tuple[np.dtype[Any], bool]] = {}

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        first = avals[0]
        shape = first.shape
        for a in avals[1:]:
            if a.shape != shape and a.shape:
                shape = np.broadcast_shapes(shape, a.shape) if shape else a.shape
        key = tuple([(a.dtype, a.weak) for a in avals])
        found = self.types.get(key)
        if found is None:
            found = self.types[key] = self._type(avals)
        if shape is first.shape and found == key[0]:
            return first
        return Aval(shape, *found)

    def _type(self, avals: Sequence[Aval]) -> tuple[np.dtype[Any], bool]:
        """Dtype of the result, and whether it is weak."""
        if all(a.weak for a in avals):
            dtype = self.ufunc.resolve_dtypes((*[a.dtype for a in avals], None))[-1]
            return dtype, bool(self.operator) and dtype.kind != "b"
        kinds = [weak_type(a) if a.weak else a.dtype for a in avals]
        return self.ufunc.resolve_dtypes((*kinds, None))[-1], False


def weak_type(aval: Aval) -> Any:
    return {"b": aval.dtype, "i": int, "f": float, "c": complex}[aval.dtype.kind]


_OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "**": operator.pow, "%": operator.mod, "//": operator.floordiv,
    "u-": operator.neg, "u+": operator.pos, "abs": operator.abs,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "~": operator.invert,
    "<<": operator.lshift, ">>": operator.rshift,
}  # fmt: skip


def _operator_function(ufunc: np.ufunc, spelling: str) -> Callable[..., Value]:
    return _OPERATORS[spelling] if spelling else ufunc


def _of_numpy(x: Value) -> Value:
    """A number as NumPy's scalar."""
    return roles["strong"](x) if isinstance(x, Tracer) else np.asarray(x)[()]


class Elementwise(Ufunc):
    """A ufunc and its partial derivatives.

    ``partials[i]`` is None where it is locally constant in that operand, a number, one of ``"x"``,
    ``"y"``, ``"z"`` (operands) and ``"out"``, or a function whose *parameter names* are such, and
    say what a row keeps. From this declaration the record, pull and push functions are generated
    once per pattern of traced operands.

    A partial that is not a number can be inf or nan at a point where the cotangent may be zero, so
    the transform's product multiplies by it. With a parameter ``t`` the function is not the partial
    but the linear map itself, of the tangent or cotangent ``t``, for one that selects instead of
    multiplying; it may ask for ``product`` too.
    """

    partials: ClassVar[tuple[Any, ...]]
    real_valued: ClassVar[bool] = False
    """Real output for complex operands: tangents take the real part."""
    linear: ClassVar[tuple[tuple[int, ...], ...]] = ()
    """Patterns of operands in which it is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.arity = self.ufunc.nin
        UFUNCS[self.ufunc] = self.by_name if self.operator else self.first_call

    @cached_property
    def rules(self) -> dict[tuple[int, ...], Any]:
        """The pull function of each pattern of traced operands."""
        masks = [m for m in itertools.product((0, 1), repeat=self.arity) if any(m)]
        return {mask: _RuleSource(self, mask).compile() for mask in masks}

    @cached_property
    def doors(self) -> dict[type[Tracer], Callable[..., Value | None]]:
        """Its quick doors; three operands take the general one."""
        return {kind: make(self) for kind, make in DOORS.items()} if self.arity < 3 else {}

    @cached_property
    def tangents(self) -> dict[tuple[bool, ...], tuple[Any, bool]]:
        """What makes the tangent of each pattern, and whether it multiplies by what may be inf."""
        singular = [not (p is None or isinstance(p, int | float)) for p in self.partials]
        return {
            tuple(map(bool, mask)): (pull.tangent, any(map(operator.and_, singular, mask)))
            for mask, pull in self.rules.items()
        }

    @cached_property
    def apply(self) -> Any:
        """The record function: what operators and ``np.f(tracer)`` call."""
        return compile_record(self, swapped=False) if self.arity < 3 else self.general

    @cached_property
    def reflected(self) -> Any:
        """The record function with its operands exchanged."""
        return compile_record(self, swapped=True) if self.arity == 2 else self.apply

    def first_call(self, *xs: Value) -> Value:
        """``np.f(*xs)`` before the record function exists; from then on NumPy calls that."""
        UFUNCS[self.ufunc] = self.apply
        return self.apply(*xs)

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return self.apply(*xs)

    def by_name(self, *xs: Value) -> Value:
        """``np.f(*xs)``: of Python's numbers what NumPy makes of them, not what operators do."""
        try:
            out = self.apply(*xs)
        except ArithmeticError:
            return self.apply(*map(_of_numpy, xs))
        if type(out) is Eager and type(out.value) is np.ndarray:
            return out
        weak = isinstance(out, Tracer) and out.aval.weak
        return self.apply(*map(_of_numpy, xs)) if weak else out

    def expression(self) -> str:
        """Source of its value at ``x`` and ``y``: as operator the quickest way on NumPy scalars."""
        prefix = {"u-": "-x", "u+": "+x", "abs": "abs(x)"}.get(self.operator)
        if prefix or self.arity == 1:
            return prefix or "ufunc(x)"
        return f"x {self.operator} y" if self.operator else "ufunc(x, y)"

    def general(self, *xs: Value) -> Value:
        """Any mixture of operands: foreign containers decline, tracers go through `bind`."""
        doors = self.doors
        for x in xs:
            if type(x) in doors:
                out = doors[type(x)](*xs)
                if out is not None:
                    return out
                break
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
        env = dict(zip("xyzw", values, strict=False), out=out)
        for name, slot in zip("xyzw", slots, strict=False):
            if trace is not None and slot is None and type(env[name]) is np.ndarray:
                env[name] = trace.keep(env[name]) if name in pull.needs else env[name]
        live = [i for i, m in enumerate(mask) if m]
        fits = [fit_of(values[i], out) for i in live] if pull.fitted else []
        return (pull, k, *position, *[slots[i] for i in live], *fits, *[env[n] for n in pull.needs])

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        tangent, multiplies = self.tangents[tuple([t is not None for t in ts])]
        plain = strict or not multiplies
        if not plain:
            for x in (*values, *ts):
                if isinstance(x, Tracer):
                    return tangent(values, ts, out, annihilate)
        t = tangent(values, ts, out, plain_product)
        return t if plain or t is None or not has_nan(t) else tangent(values, ts, out, annihilate)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return self.linear_with(mask, (False,) * len(mask), params)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        spans = [(m, m or z) for m, z in zip(mask, zeros, strict=True)]
        return any(
            all(low <= entry <= high for entry, (low, high) in zip(wanted, spans, strict=True))
            for wanted in self.linear
        )


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
        self.fitted = owner.arity > 1 or owner.real_valued or promotes(owner.ufunc)
        for i in self.live:
            given = (*self.needs, "t", "product")
            self.needs += [name for name in self.parameters(i) if name not in given]

    def parameters(self, i: int) -> list[str]:
        """What the partial of operand ``i`` is a function of."""
        partial = self.owner.partials[i]
        if isinstance(partial, str):
            return [partial]
        if not callable(partial):
            return []
        code = partial.__code__
        return list(code.co_varnames[: code.co_argcount])

    def product(self, i: int, factor: str, slots: str) -> str:
        """The contribution of operand ``i``: its partial times ``factor``, a (co)tangent.

        Multiplied by the product of ``slots``, or plainly where there are none.
        """
        partial = self.owner.partials[i]
        if isinstance(partial, str):
            finite_number = f"type({partial}) is float and {partial} - {partial} == 0"
            product = f"{slots}[-2]({factor}, {partial})"
            plain = f"{factor} * {partial}"
            return f"{plain} if {finite_number} else {product}" if slots else plain
        if not callable(partial):
            return {1: factor, -1: f"-{factor}"}.get(partial, f"{factor} * {partial!r}")
        names = self.parameters(i)
        product = f"{slots}[-2]" if slots else "product"
        words = {"t": factor, "product": product}
        term = f"partial{i}({', '.join([words.get(name, name) for name in names])})"
        return term if "t" in names else f"{product}({factor}, {term})"

    def pulled(self) -> list[str]:
        """Lines of ``pull(row, ct, cts)``."""
        live = [i for i in self.live if self.owner.partials[i] is not None]
        lines = []
        if tuple(self.owner.partials) == ("y", "x") and len(live) == 2:
            lines += ["    if slot0 == slot1 and fit0 is None and fit1 is None:"]
            lines += [
                "        c = doubled(ct, x, cts, large, k)",
                *self.stored(0, "    "),
                "        return",
            ]
        lone = all(self.owner.partials[i] != 1 for i in live[:-1])  # nobody else was given ct
        for i in live:
            lines += self.contribution(i, lone and i == live[-1])
            if self.fitted:
                lines.append(f"    if fit{i} is not None: c = unbroadcast(c, fit{i}[0], fit{i}[1])")
            lines += self.stored(i, "")
        if any("large" in line for line in lines):
            test = f"type(ct) is ndarray and ct.size > {LARGE} and cts[-2] is product"
            lines.insert(0, f"    large = {test}")
        return lines or ["    pass"]

    def stored(self, i: int, margin: str) -> list[str]:
        """Lines that add ``c`` to the slot of operand ``i``; what is large and fresh is ours."""
        partial = self.owner.partials[i]
        fresh: str | None = "c is not ct"
        if partial == 1:
            fresh = "k in cts[-1]" if len(self.live) == 1 else None
        elif callable(partial) and "t" in self.parameters(i):
            fresh = None
        lines = [f"    if cts[slot{i}] is None:", f"        cts[slot{i}] = c"]
        if fresh is not None:
            lines.append(f"        if large and {fresh}: cts[-1].add(slot{i})")
        lines.append(f"    else: add_cotangent(cts, slot{i}, c)")
        return [margin + line for line in lines]

    def contribution(self, i: int, last: bool) -> list[str]:
        """Lines that compute ``c``, what operand ``i`` receives.

        What is large is multiplied in place where nobody else has it, be it the ``last`` use of a
        cotangent or a partial that was computed just now: fresh memory is dearer than arithmetic.
        """
        partial, names = self.owner.partials[i], self.parameters(i)
        plain = f"c = {self.product(i, 'ct', 'cts')}"
        if partial in (1, None) or "t" in names:
            return [f"    {plain}"]
        if callable(partial):
            kept = " and ".join(f"c is not {name}" for name in names)
            return [
                f"    c = partial{i}({', '.join(names)})",
                f"    if large and type(c) is ndarray and c.base is None and {kept}"
                " and ct.shape == c.shape and ct.dtype is c.dtype:",
                "        c = multiply(ct, c, c)",
                "    else: c = cts[-2](ct, c)",
            ]
        if not last:
            return [f"    {plain}"]
        factor = partial if isinstance(partial, str) else repr(partial)
        return [
            f"    if large and k in cts[-1]: c = overwritten(ct, {factor})",
            f"    else: {plain}",
        ]

    def tangent(self) -> list[str]:
        """Lines of ``tangent(xs, ts, out, product)``: forward mode, without a row."""
        operands = "xyzw"[: self.owner.arity]
        lines = ["def tangent(xs, ts, out, product):", f"    {', '.join(operands)}, = xs"]
        lines += ["    out_t = None; slots = (product, None)"]
        lines += ["    shaped = type(out) not in NUMBERS"] if self.fitted else []
        for i in self.live:
            if self.owner.partials[i] is None:
                continue
            lines += [f"    t = ts[{i}]", f"    t = {self.product(i, 't', 'slots')}"]
            if self.fitted:
                lines += ["    if shaped and (t.shape != out.shape or t.dtype is not out.dtype):"]
                lines += ["        t = stretch(t, out.shape, out.dtype)"]
            lines.append("    out_t = t if out_t is None else out_t + t")
        return [*lines, "    return out_t"]

    def plain(self) -> list[str]:
        """Lines of ``plain(x, y, out, *ts)``: the tangent of arrays and numbers, plain products."""
        live = [i for i in self.live if self.owner.partials[i] is not None]
        operands = [*"xyzw"[: self.owner.arity], "out", *[f"t{i}" for i in self.live]]
        terms = [self.product(i, f"t{i}", "") for i in live] or ["None"]
        lines = [f"def plain({', '.join(operands)}):"]
        if tuple(self.owner.partials) == ("y", "x") and len(live) == 2:
            lines += [
                "    if x is y and t0 is t1:",
                f"        t = {terms[0]}",
                "        return t + t",
            ]
        lines += [f"    t = {' + '.join(f'({term})' for term in terms)}"]
        if self.fitted and live:
            lines += ["    if t.shape != out.shape or t.dtype is not out.dtype:"]
            lines += ["        t = stretch(t, out.shape, out.dtype)"]
        return [*lines, "    return t"]

    def compile(self) -> Any:
        slots = [f"slot{i}" for i in self.live]
        fits = [f"fit{i}" for i in self.live] if self.fitted else []
        unpack = f"    _, k, _, _, {', '.join([*slots, *fits, *self.needs])} = row"
        pull = ["def pull(row, ct, cts):", unpack, *self.pulled()]
        push = ["def push(row, ts):", unpack, "    out_t = None"]
        for i in self.live:
            if self.owner.partials[i] is None:
                continue
            push += [f"    t = ts[slot{i}]", "    if t is not None:"]
            push.append(f"        t = {self.product(i, 't', 'ts')}")
            if self.fitted:
                push.append(f"        if fit{i} is not None: t = stretch(t, fit{i}[2], fit{i}[3])")
            push.append("        out_t = t if out_t is None else out_t + t")
        push.append("    ts[k] = out_t")
        tangent = [*self.tangent(), *self.plain()]
        scope = {f"partial{i}": p for i, p in enumerate(self.owner.partials)}
        scope.update(unbroadcast=unbroadcast, stretch=stretch, add_cotangent=add_cotangent)
        scope.update(ndarray=np.ndarray, multiply=np.multiply, product=plain_product)
        scope.update(doubled=doubled, overwritten=overwritten)
        scope["NUMBERS"] = frozenset({float, complex})
        function = generate("\n".join(pull + push + tangent), scope, self.owner.name, "pull")
        function.push = scope["push"]
        function.tangent = scope["tangent"]
        function.plain = scope["plain"]
        function.primitive = self.owner
        function.needs = tuple(self.needs)
        function.fitted = self.fitted
        return function


LARGE = 8192
"""Arrays of more elements are worth the trouble of saving memory."""


def overwritten(ct: np.ndarray[Any, Any], factor: Value) -> Value:
    """``ct * factor``, in the place of ``ct`` where it fits there."""
    if type(factor) is np.ndarray:
        if factor.shape != ct.shape or factor.dtype is not ct.dtype:
            return ct * factor
    elif type(factor) not in (int, float):
        return ct * factor
    return np.multiply(ct, factor, out=ct) if ct.flags.writeable else ct * factor


def doubled(ct: Value, x: Value, cts: Cotangents, large: bool, k: int) -> Value:
    """``2 x ct``: what x * x pulls back. The cotangent of a sum is one number in many places."""
    if large and not any(ct.strides) and type(x) is np.ndarray and x.dtype is ct.dtype:
        return x * (2 * ct[(0,) * ct.ndim])
    c = overwritten(ct, x) if large and k in cts[-1] else cts[-2](ct, x)
    return np.add(c, c, out=c) if type(c) is np.ndarray else c + c


def promotes(ufunc: np.ufunc) -> bool:
    """Whether a ufunc of one operand computes float16 in another dtype, as SciPy's do."""
    half = np.dtype(np.float16)
    return ufunc.nin == 1 and ufunc.resolve_dtypes((half, None))[-1] != half


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
    f = getframe(1); code = f.f_code; name = scope()
    if INTERNAL[code.co_filename]:
        f = f.f_back; code = f.f_code
        if INTERNAL[code.co_filename]: (code, offset), name = calling_position(), ""
        else: offset = f.f_lasti
    else: offset = f.f_lasti
    if name: code = Scoped(code, name)
    k = trace.new()"""

_FRESH = """
    if trace.dirty:
        {0}_ = refresh({0}_); trace = {0}_.owner
        if type({0}_) is not Eager: return general({1})"""


_TRACER = (
    "    tracer = new(Eager); tracer.value = out; tracer.owner = trace; tracer.slot = k",
    "    return tracer",
)
"""What `Eager` does, without the call of a constructor."""


def compile_record(owner: Elementwise, swapped: bool) -> Any:
    """The fast door: one NumPy call, one row, one tracer.

    Straight-line code for an eager tracer with itself, with a Python number and with a plain array;
    everything else goes to `Elementwise.general`. ``swapped`` makes the reflected operator.
    """
    scope = {
        "Eager": Eager, "new": object.__new__, "ufunc": owner.ufunc, "general": owner.general,
        "fit": fit, "ndarray": np.ndarray, "float64": np.float64, "OBJECT": np.dtype(object),
        "INTERNAL": INTERNAL, "calling_position": calling_position, "getframe": sys._getframe,
        "scope": SCOPE.get, "Scoped": Scoped,
        "refresh": refresh, "ObjectResult": _ObjectResult, "NUMBERS": frozenset({float, int}),
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
    return f"({', '.join([name, 'k', 'code', 'offset', *slots, *fits, *pull.needs])},)"


def indented(source: str) -> str:
    """Source one block deeper."""
    return source.replace("\n", "\n    ")


def _record_unary(owner: Elementwise) -> list[str]:
    call = owner.expression()
    pull = owner.rules[(1,)]
    return [
        "def record(x_):",
        "    if type(x_) is not Eager: return general(x_)",
        "    trace = x_.owner" + _FRESH.format("x", "x_"),
        f"    x = x_.value; out = {call}",
        "    fit0 = None if x.dtype is out.dtype else fit(x, out)" if pull.fitted else "",
        *_POSITION.splitlines(),
        f"    trace.append({_fields(owner, (1,))})",
        *_TRACER,
    ]


def _record_binary(owner: Elementwise, swapped: bool) -> list[str]:
    call = owner.expression()
    fit_line = (
        "fit{0} = None if {1}.shape == shape and {1}.dtype is dtype else fit({1}, out)"
        " if dtype.kind != 'f' else ({1}.shape, {1}.dtype, shape, dtype)"
    )

    def one(mine: str, other: str, mask: tuple[int, int]) -> list[str]:
        """The branch with one traced operand."""
        i = mask.index(1)
        keeps = other in owner.rules[mask].needs
        return [
            f"        trace = {mine}_.owner" + indented(_FRESH.format(mine, "x_, y_")),
            f"        {mine} = {mine}_.value; {other} = {other}_; kind = type({other})",
            "        if kind in NUMBERS:",
            f"            out = {call}; fit{i} = None",
            f"        elif kind is ndarray and {other}.dtype is not OBJECT or kind is float64:",
            f"            out = {call}; shape = out.shape; dtype = out.dtype",
            f"            {fit_line.format(i, mine)}",
            f"            if kind is ndarray: {other} = trace.keep({other})" if keeps else "",
            "        else: return general(x_, y_)",
            *("    " + line for line in _POSITION.splitlines()),
            f"        trace.append({_fields(owner, mask)})",
            *("    " + line for line in _TRACER),
        ]

    body = [
        "    if type(x_) is Eager:",
        "      if type(y_) is Eager:",
        "        trace = x_.owner",
        "        if trace is not y_.owner: return general(x_, y_)",
        "        if trace.dirty:",
        "            x_ = refresh(x_); y_ = refresh(y_); trace = x_.owner",
        "            if type(x_) is not Eager or type(y_) is not Eager or trace is not y_.owner:",
        "                return general(x_, y_)",
        f"        x = x_.value; y = y_.value; out = {call}; shape = out.shape; dtype = out.dtype",
        f"        {fit_line.format(0, 'x')}",
        f"        {fit_line.format(1, 'y')}",
        *("    " + line for line in _POSITION.splitlines()),
        f"        trace.append({_fields(owner, (1, 1))})",
        *("    " + line for line in _TRACER),
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


def staged_door(owner: Elementwise) -> Callable[..., Value | None]:
    """The quick door for staged values of one program and Python's numbers: one equation."""

    def door(*xs: Value) -> Value | None:
        builder: Any = None
        inputs: list[Atom] = []
        for x in xs:
            if type(x) is Staged:
                if builder is None:
                    builder = x.owner
                if builder is not x.owner or builder.dirty:
                    return None
                inputs.append(x.variable)
            elif type(x) is float or type(x) is int:
                inputs.append(Literal(x))
            else:
                return None
        out = Var(owner.abstract(*[a.aval for a in inputs]))
        position = builder.here or calling_position()
        builder.append(Equation(owner, tuple(inputs), {}, (out,), position))
        return Staged(builder, out)

    return door


DOORS[Staged] = staged_door


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
        UFUNCS[self.ufunc] = self.by_name

    def __call__(self, *xs: Value, **params: Any) -> Value:
        for x in xs:
            if is_foreign(x):
                return NotImplemented
        return bind(self, xs, params)

    def by_name(self, *xs: Value) -> Value:
        """``np.f(*xs)``: of Python's numbers what NumPy makes of them, not what operators do."""
        try:
            out = self(*xs)
        except ArithmeticError:
            return self(*map(_of_numpy, xs))
        weak = out.aval.weak if isinstance(out, Tracer) else type(out) in (float, complex)
        return self(*map(_of_numpy, xs)) if weak else out
