"""Common factors: a sum of products written with fewer operations.

The gradient of ``u * v / w`` reads the same few values again and again: what rules give is a sum of
products of them, built up in the order of the program. Here such a sum is brought to a normal form,
monomials with coefficients, and written anew as products of sums, like ``k * (3 - 2 * k) + x``.

Three fences keep it as accurate as it was. Nothing is multiplied that the old form did not
multiply: factors are values that are on the way to the sum already, so none overflows that did not
before. Terms that cancel stay: a nan or an infinity in them shows as before. A sum is distributed
over a product only where its own terms, but for one, are rounded: of ``a * (x - y)`` the difference
may be exact, of ``a * x - a * y`` it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import frexp

from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.primitive import lookup
from vjpkit.passes.cancelling import LARGE
from vjpkit.passes.dead import without_dead_code
from vjpkit.passes.rewriting import Rewriter

__all__ = ["FEW", "with_common_factors", "with_quotients"]

MOST_TERMS, MOST_FACTORS, MOST_VISITED, MOST_PLANS = 6, 6, 32, 4
"""Beyond these a value is a factor by itself, or a plan not found: the pass is linear in the length
of the program."""

FEW = 64
"""Equations of a program in which small arrays, too, are worth it."""

DIVISION = 2
"""What a quotient costs, in sums or products."""

Monomial = frozenset[tuple[Var, int]]
"""Factors and their exponents."""
Form = Mapping[Monomial, float]
"""The coefficient of each monomial."""
ONE: Monomial = frozenset()

_ARITHMETIC = frozenset({"add", "subtract", "negative", "multiply", "scale", "divide"})


def with_common_factors(program: Program, few: int = FEW) -> Program:
    """Sums of products with their common factors taken out, where that is less work.

    Of a program of more than ``few`` equations only where arrays are large: looking for a shorter
    one takes a while.

    Law: equal outputs up to rounding of their terms, and not finite where the old ones are not,
    while no value is beyond 1e150. A nan in what ``scale`` makes is for the old program to decide.
    """
    size = LARGE if len(program.equations) > few else 0
    work = {e.outputs[0]: e for e in program.equations if _is_arithmetic(e, size)}
    if len(work) < 3:
        return program
    new = _Factoring(program, work)
    for eqn in program.equations:
        new.visit(new.read(eqn), eqn)
    return without_dead_code(new.finish()) if new.stands_for else program


def with_quotients(program: Program) -> Program:
    """``(1 / d) * b`` as ``b / d`` where nothing else reads ``1 / d``.

    Law: equal outputs up to rounding, but for a nan, which shows in what another ``scale`` makes of
    the quotient, and is for the old program to decide.
    """
    if not any(map(_is_reciprocal, program.equations)):
        return without_dead_code(program)
    shown = _read_by_scale(program)
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        new.keep((_quotient(new, eqn) if shown.issuperset(eqn.outputs) else None) or eqn)
    return without_dead_code(new.finish())


def _read_by_scale(program: Program) -> set[Var]:
    """Values of which a nan is one of a result of ``scale``, whatever reads them."""
    hidden, seen = set(used(program.outputs)), set[Var]()
    for eqn in reversed(program.equations):
        name = eqn.primitive.name
        passes = name == "scale" or (name in _ARITHMETIC and hidden.isdisjoint(eqn.outputs))
        (seen if passes else hidden).update(used(eqn.inputs))
    return seen - hidden


def _quotient(new: Rewriter, eqn: Equation) -> Equation | None:
    if eqn.primitive.name != "scale":
        return None
    for one, b in (eqn.inputs, eqn.inputs[::-1]):
        inner = new.made_by(one, "divide")
        if inner is None or new.readers[one] != 1 or one.aval != eqn.outputs[0].aval:
            continue
        if _is_reciprocal(inner) and b is not one and b.aval == one.aval:
            inputs = b, inner.inputs[1]
            return Equation(inner.primitive, inputs, {}, eqn.outputs, eqn.position)
    return None


def _is_reciprocal(eqn: Equation) -> bool:
    """Whether an equation is ``1 / d``."""
    c = eqn.inputs[0] if eqn.primitive.name == "divide" else None
    return isinstance(c, Literal) and bool(c.value == 1)


# ---- plans ---------------------------------------------------------------------------------------

Term = tuple[float, Var | None, "Plan | None"]
"""A coefficient, a factor (None for a number), and a sum that it multiplies."""


class Plan:
    """A sum, how many sums and products writing it takes, and what it reads."""

    __slots__ = ("operations", "terms", "values")

    operations: int
    values: set[Var]

    def __init__(self, terms: tuple[Term, ...]) -> None:
        self.terms = terms
        count = len(terms) - 1
        values = set[Var]()
        for c, v, plan in terms:
            if v is not None:
                values.add(v)
                count += c not in (1.0, -1.0)
            if plan is not None:
                values |= plan.values
                count += 1 + plan.operations
        negative = all(c < 0 for c, _, _ in terms)
        self.operations = count + (negative and terms[0][0] == -1.0 and terms[0][1] is not None)
        self.values = values

    def scaled(self) -> tuple[float, Plan]:
        """The coefficient that all terms share, and the sum without it."""
        first = self.terms[0][0]
        if any(v is None or abs(c) != abs(first) for c, v, _ in self.terms):
            return 1.0, self
        c = first if all(d == first for d, _, _ in self.terms) else abs(first)
        return c, self if c == 1.0 else Plan(tuple([(d / c, v, p) for d, v, p in self.terms]))


Multiples = Mapping[float, Var]
"""The values that are a monomial times a number, by that number."""


class _Plans:
    """Ways to write a form by values that are there, of which ``dear`` says what they cost."""

    def __init__(self, there: Mapping[Monomial, Multiples], dear: Callable[[Plan], int]) -> None:
        self.there = there
        self.dear = dear
        self.known: dict[frozenset[tuple[Monomial, float]], list[Plan]] = {}

    def of(self, form: Form) -> list[Plan]:
        """Sums equal to ``form``, the cheapest first; none where it needs others."""
        key = frozenset(form.items())
        if key not in self.known:
            visited = len(self.known) < MOST_VISITED
            self.known[key] = []
            plans = list(self.made(form)) if visited else []
            plans.sort(key=self.dear)
            self.known[key] = plans[:MOST_PLANS]
        return self.known[key]

    def made(self, form: Form) -> Iterator[Plan]:
        sizes = [abs(c / size) for m, c in form.items() for size in self.there.get(m, ())]
        for ratio in dict.fromkeys(sizes or [1.0]):
            whole = [self.term(monomial, c, ratio) for monomial, c in form.items()]
            terms = [term for term in whole if term is not None]
            if len(terms) == len(form):
                yield Plan(tuple(terms))
        least = min(len(form), 2)
        powers = [(m, c, dict(m)) for m, c in form.items()]
        for factor, multiples in self.there.items():
            taken = {m: c for m, c, of in powers if _divides(factor, of)}
            if len(taken) < least or (len(taken) == 1 and factor in taken):
                continue
            rest = {m: c for m, c in form.items() if m not in taken}
            for size, v in multiples.items():
                inside = self.of({_over(m, factor): c / size for m, c in taken.items()})
                others = (self.of(rest) if rest else [None]) if inside else []
                for c, inner in [plan.scaled() for plan in inside]:
                    for other in others:
                        yield Plan(((c, v, inner), *(() if other is None else other.terms)))

    def term(self, monomial: Monomial, c: float, ratio: float) -> Term | None:
        """One term, if it can be with a coefficient of this size, which others may share.

        None where it is not there, nor a product of what is.
        """
        if not monomial:
            return c, None, None
        if monomial in self.there:
            multiples = self.there[monomial].items()
            size, v = min(multiples, key=lambda pair: abs(c / pair[0]) != ratio)
            return c / size, v, None
        products = self.of({monomial: c})
        return products[0].terms[0] if products else None


def _divides(factor: Monomial, powers: Mapping[Var, int]) -> bool:
    """Whether a monomial of these powers is a factor times another one."""
    for v, k in factor:
        power = powers.get(v, 0)
        if power * k <= 0 or abs(power) < abs(k):
            return False
    return True


def _over(monomial: Monomial, factor: Monomial) -> Monomial:
    powers = dict(monomial)
    for v, k in factor:
        powers[v] -= k
    return frozenset([(v, k) for v, k in powers.items() if k])


# ---- forms ---------------------------------------------------------------------------------------


class _Factoring(Rewriter):
    def __init__(self, program: Program, work: Mapping[Var, Equation]) -> None:
        super().__init__(program)
        self.forms: dict[Atom, Form] = {}
        """What values are to their readers: a sum that several read is a factor by itself."""
        self.work = work
        """The equations that are arithmetic, by what they make."""
        self.place = {v: i for i, v in enumerate(work)}
        self.sums: dict[Var, Form] = {}
        self.read_as_terms: dict[Atom, int] = {}
        """By how many equations a value is read through its form."""
        for out, eqn in self.work.items():
            form = self.sums[out] = self.form_of(eqn)
            several = len(form) > 1 and self.readers[out] > 1
            self.forms[out] = _alone(out) if several else form

    def visit(self, new: Equation, old: Equation) -> None:
        """An equation whose operands stand for those of ``old``."""
        plan = self.plan(old.outputs[0]) if old.outputs[0] in self.work else None
        if plan is None:
            self.keep(new)
        else:
            self.replace(old, (self.written(plan, old),))

    # ---- what there is -----------------------------------------------------------------------

    def form_of(self, eqn: Equation) -> Form:
        """The normal form of a result; a factor by itself where there is no other."""
        (out,) = eqn.outputs
        operands = [self.operand(a, out.aval) for a in eqn.inputs]
        name = eqn.primitive.name
        form: Form | None
        if name in ("multiply", "scale"):
            form = _times(*operands)
        elif name == "divide":
            x, y = operands
            form = _divided(x, y if len(y) == 1 else _alone(eqn.inputs[1]))
        elif name == "negative":
            form = {m: -c for m, c in operands[0].items()}
        else:
            x, y = operands
            form = _plus(x, y, 1.0 if name == "add" else -1.0)
        if form is None or not _is_fit(form):
            return _alone(out)
        for a in dict.fromkeys(used(eqn.inputs)):
            if a in self.forms and self.forms[a] is self.sums[a]:
                self.read_as_terms[a] = self.read_as_terms.get(a, 0) + 1
        return form

    def operand(self, a: Atom, out: Aval) -> Form:
        if isinstance(a, Literal):
            return {ONE: float(a.value)}
        return self.forms.get(a, _alone(a)) if a.aval == out else _alone(a)

    # ---- plans -------------------------------------------------------------------------------

    def plan(self, root: Var) -> Plan | None:
        """A better way to a sum that something else reads than its terms; None for itself."""
        form = self.sums[root]
        sums = len(form) > 1 or self.work[root].primitive.name in ("add", "subtract")
        if not sums or self.readers[root] <= self.read_as_terms.get(root, 0):
            return None
        bases, weight = self.bases(self.own_work(root))

        def cost(plan: Plan) -> int:
            needed = 0
            for v in plan.values:
                needed |= bases.get(v, 0)
            return plan.operations + weight(needed)

        plans = _Plans(self.on_the_way(root), cost).of(form)
        plans += [Plan(((c, None, inner),)) for c, inner in map(Plan.scaled, plans) if c != 1.0]
        best = min(plans, key=cost, default=None)
        return best if best is not None and cost(best) < weight(bases[root]) else None

    def on_the_way(self, root: Var) -> Mapping[Monomial, Multiples]:
        """Products that are factors of terms of a sum, and its variables."""
        found: dict[Monomial, dict[float, Var]] = {}
        pending, seen = [root], set[Var]()
        while pending and len(seen) < MOST_VISITED:
            v = pending.pop()
            if v in seen:
                continue
            seen.add(v)
            form = self.sums[v] if v is root else self.forms.get(v, _alone(v))
            if len(form) == 1 and v is not root:
                ((monomial, c),) = form.items()
                if monomial:
                    found.setdefault(monomial, {}).setdefault(c, v)
            eqn = self.work.get(v)
            if eqn is not None and form != _alone(v):
                inputs = eqn.inputs[:1] if eqn.primitive.name == "divide" else eqn.inputs
                pending += used(inputs)
        return found

    def own_work(self, root: Var) -> set[Var]:
        """What is computed for a value only, and itself."""
        reads: dict[Var, int] = {}
        own, pending = {root}, [root]
        while pending and len(own) < MOST_VISITED:
            for a in set(used(self.work[pending.pop()].inputs)):
                reads[a] = reads.get(a, 0) + 1
                if a in self.work and reads[a] == self.readers[a]:
                    own.add(a)
                    pending.append(a)
        return own

    def bases(self, own: set[Var]) -> tuple[dict[Var, int], Callable[[int], int]]:
        """What of this work each value is based on, by the bits of a number; what they cost."""
        found = dict[Var, int]()
        divisions = 0
        for i, v in enumerate(sorted(own, key=self.place.__getitem__)):
            bits = 1 << i
            divisions |= bits if self.work[v].primitive.name == "divide" else 0
            for a in used(self.work[v].inputs):
                bits |= found.get(a, 0)
            found[v] = bits

        def weight(bits: int) -> int:
            return bits.bit_count() + (DIVISION - 1) * (bits & divisions).bit_count()

        return found, weight

    # ---- writing -----------------------------------------------------------------------------

    def written(self, plan: Plan, eqn: Equation) -> Var:
        """The equations of a plan, on the line of ``eqn``."""
        terms = [(c, self.factor(v, inner, eqn)) for c, v, inner in plan.terms]
        terms.sort(key=lambda term: term[0] < 0)
        (c, a), *others = terms
        total = self.multiple(c, a, eqn)
        for d, b in others:
            name = "subtract" if d < 0 else "add"
            total = self.made(name, eqn, total, self.multiple(abs(d), b, eqn))
        assert isinstance(total, Var)
        return total

    def factor(self, v: Var | None, inner: Plan | None, eqn: Equation) -> Atom | None:
        if v is None:
            return None if inner is None else self.written(inner, eqn)
        a = self.atom(v)
        return a if inner is None else self.made("scale", eqn, a, self.written(inner, eqn))

    def multiple(self, c: float, a: Atom | None, eqn: Equation) -> Atom:
        if a is None:
            return Literal(c)
        if c == -1:
            return self.made("negative", eqn, a)
        return a if c == 1 else self.made("multiply", eqn, Literal(c), a)

    def made(self, name: str, eqn: Equation, *inputs: Atom) -> Var:
        return self.emit(lookup(name), inputs, {}, eqn.position)


def _is_arithmetic(eqn: Equation, size: int) -> bool:
    """Whether an equation is arithmetic of arrays of so many elements."""
    if eqn.primitive.name not in _ARITHMETIC:
        return False
    (out,) = eqn.outputs
    plain = out.aval.dtype == "f8" and not out.aval.weak and out.aval.size >= size
    return plain and all(map(_is_plain, eqn.inputs))


def _is_plain(a: Atom) -> bool:
    """Whether an operand is of float64, or a number of moderate size."""
    if isinstance(a, Var):
        return a.aval.dtype == "f8"
    number = a.aval.dtype.kind in "fi" if a.aval.weak else a.aval.dtype == "f8"
    return number and 2**-60 < abs(a.value) < 2**60


def _alone(a: Atom) -> Form:
    assert isinstance(a, Var)
    return {frozenset({(a, 1)}): 1.0}


def _is_fit(form: Form) -> bool:
    """Whether a form may be read term by term: it is short, and at most one term is exact."""
    short = len(form) <= MOST_TERMS and all(len(m) <= MOST_FACTORS for m in form)
    return short and sum(map(_is_exact, form)) <= 1


def _is_exact(monomial: Monomial) -> bool:
    """Whether a term may have no rounding error: a variable or a number, times a number."""
    return not monomial or (len(monomial) == 1 and all(k == 1 for _, k in monomial))


def _plus(x: Form, y: Form, sign: float) -> Form | None:
    """The sum; None where terms cancel."""
    out = dict(x)
    for monomial, c in y.items():
        before = out.get(monomial, 0.0)
        if before * sign * c < 0:
            return None
        out[monomial] = before + sign * c
    return out


def _times(x: Form, y: Form) -> Form | None:
    """The product with one term; None for that of two sums, or where factors or terms cancel."""
    if len(x) > 1 and len(y) > 1:
        return None
    out: Form | None = {}
    for (m, c), (n, d) in product(x.items(), y.items()):
        powers = dict(m)
        for v, k in n:
            if powers.get(v, 0) * k < 0:
                return None
            powers[v] = powers.get(v, 0) + k
        out = None if out is None else _plus(out, {frozenset(powers.items()): c * d}, 1.0)
    return out


def _divided(x: Form, y: Form) -> Form | None:
    """The quotient by one term; None where factors cancel or the inverse of a number rounds."""
    ((monomial, c),) = y.items()
    if frexp(c)[0] not in (0.5, -0.5):
        return None
    return _times(x, {frozenset([(v, -k) for v, k in monomial]): 1.0 / c})
