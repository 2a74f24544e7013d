"""What cancels: sums that are zero by algebra, as the cotangent of a shift that changes nothing.

The gradient of ``log(sum(exp(x - max(x))))`` in the maximum is such a sum: ``1 - sum(exp(y) / s)``
with ``s = sum(exp(y))``. Rounding leaves noise of it, which costs as much as the gradient itself.

Values are brought to a normal form: a sum of monomials, products of powers of factors. A factor is
a variable whose making is of no interest, or a total: the sum of a product over some axes. Sums are
distributed over their terms, and what does not vary along the axes is taken out of them, but only
to see whether everything cancels: where it does, zero is more exact than the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vjpkit.core.aval import Shape
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.primitive import lookup
from vjpkit.passes.dead import without_dead_code
from vjpkit.passes.rewriting import Rewriter

__all__ = ["LARGE", "without_what_cancels"]

LARGE = 1 << 12
"""Elements from which an array's operations are dearer than the questions of this pass."""

MOST_TERMS, MOST_FACTORS, MOST_VISITED = 6, 8, 64
"""Beyond these a value is a factor by itself: the pass is linear in the program's length."""


@dataclass(frozen=True)
class Total:
    """The sum over ``axes`` of a monomial that varies along them."""

    monomial: Monomial
    axes: frozenset[int]


@dataclass(frozen=True)
class Factor:
    """A variable or a total, and the axis of the whole along which each of its axes runs.

    Axes are counted from the right, so that broadcasting leaves them as they are; an axis of one
    element is left out.
    """

    what: Var | Total
    axes: tuple[int, ...]


Monomial = frozenset[tuple[Factor, int]]
"""Factors and their exponents."""
Form = Mapping[Monomial, float]
"""The coefficient of each monomial; nothing at all for zero."""
ONE: Monomial = frozenset()


def without_what_cancels(program: Program) -> Program:
    """Sums that are zero by algebra as zeros.

    Law: equal outputs up to rounding, where all *additional* outputs of the new program are finite:
    it says by them what it takes for granted. An infinity or a nan anywhere in what cancels shows
    in one of them.
    """
    if not any(eqn.primitive.name == "sum" and _large(eqn.inputs[0]) for eqn in program.equations):
        return program
    walk = _Cancelling(program)
    for old in program.equations:
        walk.visit(walk.read(old))
    if not walk.assumed:
        return program
    made = walk.finish()
    outputs = (*made.outputs, *walk.assumed)
    return without_dead_code(Program(made.inputs, made.equations, outputs))


class _Cancelling(Rewriter):
    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.forms: dict[Var, Form] = {}
        self.numbers: dict[Atom, float] = {}
        """What turned out to be a number throughout."""
        self.assumed: dict[Var, None] = {}

    def visit(self, eqn: Equation) -> None:
        avals = [v.aval for v in eqn.outputs]
        if len(avals) != 1 or avals[0].dtype.kind != "f" or avals[0].weak:
            self.keep(eqn)
        elif not self.reads_zeros(eqn):
            form = self.form_of(eqn)
            if set(form) <= {ONE} and self.is_known(eqn):
                self.constant(eqn, form.get(ONE, 0.0))
            else:
                self.forms[eqn.outputs[0]] = form or _alone(eqn.outputs[0])
                self.keep(eqn)

    def is_known(self, eqn: Equation) -> bool:
        """Whether a result that is a number by algebra may stand as one; assumes what it takes."""
        if all(isinstance(a, Literal) or a in self.numbers for a in eqn.inputs):
            return True
        small = self.witnesses(eqn)
        self.assumed.update(dict.fromkeys(small))
        return bool(small)

    def constant(self, eqn: Equation, value: float) -> None:
        """The result is a number throughout."""
        (out,) = eqn.outputs
        params = {"shape": out.aval.shape, "value": value, "dtype": out.aval.dtype}
        self.keep(Equation(lookup("fill"), (), params, (out,), eqn.position))
        self.numbers[out] = value
        self.forms[out] = {ONE: value} if value else {}

    # ---- zeros -------------------------------------------------------------------------------

    def is_zero(self, a: Atom) -> bool:
        return self.numbers.get(a) == 0.0

    def reads_zeros(self, eqn: Equation) -> bool:
        """Whether an equation is done with by what it makes of zeros found here."""
        if not any(map(self.is_zero, eqn.inputs)):
            return False
        name, (x, *others) = eqn.primitive.name, eqn.inputs
        by_number = name in ("multiply", "divide") and any(map(_is_tame, others))
        if name == "scale" or ((name in _ZERO_OF_ZERO or by_number) and self.is_zero(x)):
            self.constant(eqn, 0.0)
            return True
        if name not in ("add", "subtract"):
            return False
        (y,) = others
        same = x if self.is_zero(y) else y
        if same.aval != eqn.outputs[0].aval or (same is y and name == "subtract"):
            return False
        self.replace(eqn, (same,))
        return True

    # ---- forms -------------------------------------------------------------------------------

    def form(self, a: Atom) -> Form:
        if isinstance(a, Var):
            found = self.forms.get(a)
            return _alone(a) if found is None else found
        return {ONE: float(a.value)} if a.value else {}

    def form_of(self, eqn: Equation) -> Form:
        """The normal form of an equation's result: a factor by itself where there is no other."""
        (out,) = eqn.outputs
        alone = _alone(out)
        make = _FORMS.get(eqn.primitive.name)
        if make is None or any(a.aval.dtype.kind not in "fi" for a in eqn.inputs):
            return alone
        if any(isinstance(a, Literal) and not np.isfinite(a.value) for a in eqn.inputs):
            return alone
        if _centres(eqn):
            return alone
        form = make(eqn, *map(self.form, eqn.inputs))
        if form is None or len(form) > MOST_TERMS or any(len(m) > MOST_FACTORS for m in form):
            return alone
        return form

    # ---- assumptions -------------------------------------------------------------------------

    def witnesses(self, eqn: Equation) -> tuple[Var, ...]:
        """Small values that are all finite only if everything in a sum that cancels is.

        A sum, a difference or a product is finite only if its operands are: so what large factors
        are must show in the totals of them that are there; small factors and divisors are looked at
        themselves. Nothing where nothing large is spared.
        """
        pending: list[Atom] = list(eqn.inputs)
        seen: set[Var] = set()
        small, leaves, covered = dict[Var, None](), set[Var](), set[Var]()
        while pending:
            a = pending.pop()
            if isinstance(a, Literal) or a in seen or a in self.numbers:
                continue
            seen.add(a)
            if len(seen) > MOST_VISITED:
                return ()
            maker = self.maker(a)
            if maker is None or self.form(a) == _alone(a):
                (leaves.add if _large(a) else small.setdefault)(a)
                continue
            if maker.primitive.name == "sum" and _is_total(self.form(a)):
                small[a] = None
                covered |= self.large_factors(maker.inputs[0])
                continue
            if maker.primitive.name == "divide":
                small.update(dict.fromkeys([a, *used(maker.inputs[1:])]))
            pending += maker.inputs
        return tuple(small) if any(map(_large, seen)) and leaves <= covered else ()

    def large_factors(self, a: Atom) -> set[Var]:
        """The large variables in the form of ``a``."""
        factors = (f.what for monomial in self.form(a) for f, _ in monomial)
        return {f for f in factors if isinstance(f, Var) and _large(f)}


def _large(a: Atom) -> bool:
    return a.aval.size >= LARGE


def _centres(eqn: Equation) -> bool:
    """Whether a large array is moved by a value per row or column, as by its mean.

    The sum of what is left is zero but for the rounding of the mean, and that may be large beside
    deviations from it: the gradient of a variance needs the sum to be accurate.
    """
    shape = eqn.outputs[0].aval.shape
    moved = eqn.primitive.name in ("add", "subtract") and _large(eqn.outputs[0])
    return moved and any(a.aval.shape != shape for a in used(eqn.inputs))


def _is_tame(a: Atom) -> bool:
    """Whether an operand is a number, and neither zero nor infinite nor nan."""
    return isinstance(a, Literal) and bool(np.isfinite(a.value)) and a.value != 0


_ZERO_OF_ZERO = frozenset({"negative", "reshape", "broadcast_to", "transpose", "sum", "spread"})
"""Primitives that make zeros of a first operand of zeros."""


# ---- arithmetic of forms -------------------------------------------------------------------------


def _alone(v: Var) -> Form:
    axes = tuple([i - v.aval.ndim for i, n in enumerate(v.aval.shape) if n != 1])
    return {frozenset({(Factor(v, axes), 1)}): 1.0}


def _is_total(form: Form) -> bool:
    """Whether a form adds up totals and nothing was taken out of them but numbers."""
    factors = [f.what for monomial in form for f, _ in monomial]
    whole = all(len(monomial) <= 1 for monomial in form)
    return whole and bool(factors) and all(isinstance(what, Total) for what in factors)


def _plus(x: Form, y: Form, sign: float) -> Form:
    out = dict(x)
    for monomial, c in y.items():
        before = out.pop(monomial, 0.0)
        total = before + sign * c
        if abs(total) > 1e-13 * abs(c):
            out[monomial] = total
    return out


def _times(x: Form, y: Form) -> Form | None:
    if len(x) * len(y) > MOST_TERMS:
        return None
    out: Form = {}
    for m, c in x.items():
        for n, d in y.items():
            powers = dict(m)
            for factor, k in n:
                powers[factor] = powers.get(factor, 0) + k
            product = frozenset([(f, k) for f, k in powers.items() if k])
            out = _plus(out, {product: c * d}, 1.0)
    return out


def _quotient(eqn: Equation, x: Form, y: Form) -> Form | None:
    if len(y) != 1 or _large(eqn.outputs[0]):
        return None
    ((monomial, c),) = y.items()
    return _times(x, {frozenset([(f, -k) for f, k in monomial]): 1.0 / c})


def _moved(form: Form, place: Mapping[int, int]) -> Form:
    """The form with its axes in other places."""
    return {
        frozenset([(Factor(f.what, tuple([place[a] for a in f.axes])), k) for f, k in monomial]): c
        for monomial, c in form.items()
    }


def _reshaped(eqn: Equation, x: Form) -> Form | None:
    """A reshape that only makes or drops axes of one element."""
    before, after = (list(_axes(v.aval.shape)) for v in (eqn.inputs[0], eqn.outputs[0]))
    if [n for _, n in before] != [n for _, n in after]:
        return None
    return _moved(x, {a: b for (a, _), (b, _) in zip(before, after, strict=True)})


def _axes(shape: Shape) -> Iterator[tuple[int, int]]:
    """The axes of more than one element (or none), counted from the right, and their lengths."""
    return ((i - len(shape), n) for i, n in enumerate(shape) if n != 1)


def _transposed(eqn: Equation, x: Form) -> Form:
    axes: tuple[int, ...] = eqn.params["axes"]
    count = len(axes)
    return _moved(x, {axis - count: i - count for i, axis in enumerate(axes)})


def _summed(eqn: Equation, x: Form) -> Form | None:
    shape, axes = eqn.inputs[0].aval.shape, eqn.params["axes"]
    count = len(shape)
    gone = frozenset([a - count for a in (range(count) if axes is None else axes)])
    kept = [a for a in range(-count, 0) if a not in gone]
    after = kept if eqn.params["keepdims"] else range(-len(kept), 0)
    place = dict(zip(kept, after, strict=True))
    out: Form = {}
    for monomial, c in x.items():
        inside = frozenset([(f, k) for f, k in monomial if not gone.isdisjoint(f.axes)])
        along = frozenset([a for f, _ in inside for a in f.axes])
        repeated = float(np.prod([shape[a] for a in gone - along]))
        term = _moved({monomial - inside: c * repeated}, place)
        if inside:
            outer = tuple([place[a] for a in sorted(along - gone)])
            total = Factor(Total(inside, gone & along), outer)
            term = _times(term, {frozenset({(total, 1)}): 1.0}) or {}
        out = _plus(out, term, 1.0)
    return out


_FORMS: dict[str, Callable[..., Form | None]] = {
    "add": lambda eqn, x, y: _plus(x, y, 1.0),
    "subtract": lambda eqn, x, y: _plus(x, y, -1.0),
    "negative": lambda eqn, x: _plus({}, x, -1.0),
    "multiply": lambda eqn, x, y: _times(x, y),
    "scale": lambda eqn, x, y: _times(x, y),
    "divide": _quotient,
    "reshape": _reshaped,
    "broadcast_to": lambda eqn, x: x,
    "transpose": _transposed,
    "sum": _summed,
}
"""The normal form of a result from those of its operands; None where there is none."""
