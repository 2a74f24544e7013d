"""Algebraic rules: an equation replaced by a cheaper one, by what makes its operands.

One table: a rule per primitive looks at an equation and at those that define its operands, and
gives what stands for the result, or None. A rule is exact to the bit, overflow and nan included,
unless it says "up to rounding"; a zero that ``scale`` lets win over inf or nan may change its sign,
and so may one that a rule names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.kinds.elementwise import Ufunc
from vjpkit.ops.index import Index, are_apart
from vjpkit.passes.rewriting import Rewriter

__all__ = ["simplified"]


MOVES = "broadcast_to", "reshape", "transpose"
"""What an elementwise equation may be computed without, or before."""


def simplified(program: Program) -> Program:
    """The program with `RULES` applied, each equation once, operands first.

    Law: equal outputs, to the bit but for the rules that say "up to rounding".
    """
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        found = _simpler(new, eqn)
        if found is None or found.aval != eqn.outputs[0].aval:
            new.keep(eqn)
        else:
            new.replace(eqn, (found,))
    return new.finish() if new.stands_for else program


def _simpler(new: Rewriter, eqn: Equation) -> Atom | None:
    """What stands for the result of an equation; None for itself."""
    if len(eqn.outputs) != 1:
        return None
    rule = RULES.get(eqn.primitive.name)
    found = rule(new, eqn) if rule is not None else None
    if found is None and (isinstance(eqn.primitive, Ufunc) or eqn.primitive.name == "scale"):
        if new.names.isdisjoint(MOVES) or not any(new.made_by(a, *MOVES) for a in eqn.inputs):
            return None
        return (
            _without_broadcasts(new, eqn)
            or _before_reshape(new, eqn)
            or _before_transpose(new, eqn)
        )
    return found


def _simplest(new: Rewriter, eqn: Equation, name: str, *inputs: Atom, **params: Any) -> Atom:
    """A new equation, of the line that asked for ``eqn``, or what a rule puts in its place."""
    primitive = lookup(name)
    out = Var(primitive.abstract(*[a.aval for a in inputs], **params))
    made = Equation(primitive, inputs, params, (out,), eqn.position)
    found = _simpler(new, made)
    if found is not None and found.aval == out.aval:
        return found
    new.keep(made)
    return out


# ---- signs ---------------------------------------------------------------------------------------


def _negative(new: Rewriter, eqn: Equation) -> Atom | None:
    """``--x`` is ``x``; ``-(c * x)`` is ``(-c) * x``, unless something else reads ``c * x``."""
    inner = new.made_by(eqn.inputs[0], "negative")
    if inner is not None:
        return inner.inputs[0]
    product = new.made_by(eqn.inputs[0], "multiply")
    if product is None or eqn.outputs[0].aval.dtype.kind != "f":
        return None
    if new.readers[eqn.inputs[0]] > 1:
        return None
    x, y = product.inputs
    for a, b in ((x, y), (y, x)):
        if isinstance(a, Literal) and a.aval.dtype.kind in "fi" and a.aval.weak and a.value != 0:
            return _simplest(new, eqn, "multiply", Literal(-a.value), b)
    return None


def _add(new: Rewriter, eqn: Equation) -> Atom | None:
    """``x + -y`` and ``-y + x`` are ``x - y``."""
    x, y = eqn.inputs
    if (minus := _negated(new, y)) is not None:
        return _simplest(new, eqn, "subtract", x, minus)
    if (minus := _negated(new, x)) is not None:
        return _simplest(new, eqn, "subtract", y, minus)
    return _one_scatter(new, eqn) or _multiples(new, eqn) or _twice(new, eqn)


def _twice(new: Rewriter, eqn: Equation) -> Atom | None:
    """``(x - y) - y`` is ``x - 2 * y`` and so is a sum, up to rounding, where ``y`` is a product
    with a smaller factor, which is doubled instead."""
    once, y = eqn.inputs
    before = new.made_by(once, eqn.primitive.name)
    if before is None or before.inputs[1] is not y or once.aval != eqn.outputs[0].aval:
        return None
    product = new.made_by(y, "multiply", "scale")
    if product is None or y.aval.dtype != "f8" or new.readers[once] > 1 or new.readers[y] > 2:
        return None
    small, large = sorted(product.inputs, key=lambda a: a.aval.size)
    if isinstance(small, Literal) or small.aval.size == y.aval.size or large.aval != y.aval:
        return None
    double = _simplest(new, eqn, "multiply", Literal(2.0), small)
    term = _simplest(new, eqn, product.primitive.name, large, double)
    return _simplest(new, eqn, eqn.primitive.name, before.inputs[0], term)


def _multiples(new: Rewriter, eqn: Equation) -> Atom | None:
    """``c * x + d * x`` is ``(c + d) * x`` up to rounding, for numbers of moderate size.

    Of opposite signs they would make nan of an infinite ``x``, but not their sum.
    """
    x, y = eqn.inputs
    if x is y and (absorbed := _absorbed(new, eqn, 2.0, x)) is not None:
        return absorbed
    (c, one), (d, other) = _multiple(new, x), _multiple(new, y)
    if one is not other or (one is x and other is y) or one.aval != eqn.outputs[0].aval:
        return None
    return None if c * d < 0 else _multiplied(new, eqn, c + d, one)


def _multiple(new: Rewriter, a: Atom) -> tuple[float, Atom]:
    """``(c, x)`` if ``a`` is ``c * x`` for a number of moderate size; ``(1, a)`` otherwise."""
    twice = new.made_by(a, "add")
    if twice is not None and twice.inputs[0] is twice.inputs[1] and a.aval.dtype == "f8":
        return 2.0, twice.inputs[0]
    product = new.made_by(a, "multiply")
    c, x = _number_and_other(product) if product is not None else (None, a)
    plain = c is not None and x.aval == a.aval and a.aval.dtype == "f8"
    return (float(c.value), x) if plain and c is not None else (1.0, a)


def _subtract(new: Rewriter, eqn: Equation) -> Atom | None:
    """``x - -y`` is ``x + y``; ``-x - y`` is ``-(x + y)``, where a zero may change its sign."""
    x, y = eqn.inputs
    minus = _negated(new, y)
    if minus is not None:
        return _simplest(new, eqn, "add", x, minus)
    minus = _negated(new, x)
    if minus is None or isinstance(y, Literal) or eqn.outputs[0].aval.dtype.kind != "f":
        return _one_scatter(new, eqn) or _twice(new, eqn)
    return _simplest(new, eqn, "negative", _simplest(new, eqn, "add", minus, y))


def _negated(new: Rewriter, a: Atom) -> Atom | None:
    """``x`` if ``a`` is ``-x`` of an inexact dtype."""
    inner = new.made_by(a, "negative") if "negative" in new.names else None
    return inner.inputs[0] if inner is not None and a.aval.inexact else None


def _product(new: Rewriter, eqn: Equation) -> Atom | None:
    """``-x * y`` is ``-(x * y)``, which sums and differences absorb; ``-x * -y`` is ``x * y``;
    ``-1 * x`` is ``-x``."""
    x, y = eqn.inputs
    if eqn.outputs[0].aval.dtype.kind != "f":
        return None  # a complex product's parts are sums, whose zeros have signs
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Literal) and one.value == -1 and other.aval == eqn.outputs[0].aval:
            return _simplest(new, eqn, "negative", other)
    x_minus, y_minus = _negated(new, x), _negated(new, y)
    name = eqn.primitive.name
    if x_minus is not None and y_minus is not None:
        return _simplest(new, eqn, name, x_minus, y_minus)
    if x_minus is not None and not isinstance(y, Literal):
        return _simplest(new, eqn, "negative", _simplest(new, eqn, name, x_minus, y))
    if y_minus is not None and not isinstance(x, Literal):
        return _simplest(new, eqn, "negative", _simplest(new, eqn, name, x, y_minus))
    if x_minus is not None and isinstance(y, Literal) and y.aval.dtype.kind == "f":
        return _simplest(new, eqn, name, x_minus, Literal(-y.value))
    if y_minus is not None and isinstance(x, Literal) and x.aval.dtype.kind == "f":
        return _simplest(new, eqn, name, Literal(-x.value), y_minus)
    merged = _merged(new, eqn) if name == "multiply" else None
    return merged or _to_smaller(new, eqn)


def _quotient(new: Rewriter, eqn: Equation) -> Atom | None:
    """``-x / y`` and ``x / -y`` are ``-(x / y)``, which sums and differences absorb."""
    x, y = eqn.inputs
    if eqn.outputs[0].aval.dtype.kind != "f":
        return None
    x_minus, y_minus = _negated(new, x), _negated(new, y)
    if x_minus is None and y_minus is None:
        return None
    inner = _simplest(new, eqn, "divide", x_minus or x, y_minus or y)
    return inner if x_minus and y_minus else _simplest(new, eqn, "negative", inner)


def _merged(new: Rewriter, eqn: Equation) -> Atom | None:
    """``c * (d * x)`` is ``(c * d) * x`` up to rounding, for numbers of moderate size."""
    c, product = _number_and_other(eqn)
    if c is None:
        return None
    d, x = _multiple(new, product)
    if x is product:
        return _absorbed(new, eqn, float(c.value), product)
    if x.aval != eqn.outputs[0].aval:
        return None
    return _multiplied(new, eqn, float(c.value) * d, x)


SMALLER = 4
"""How many times smaller an operand is that takes a number over from the other one."""


def _absorbed(new: Rewriter, eqn: Equation, c: float, a: Atom) -> Atom | None:
    """``c * (x * y)`` is ``x * (c * y)`` up to rounding, where ``y`` is much smaller."""
    product = new.made_by(a, "multiply") or new.made_by(a, "scale")
    if product is None or a.aval.dtype != "f8" or a.aval != eqn.outputs[0].aval:
        return None
    over = _multiple_of_quotient(new, eqn, c, a, product)
    if over is not None:
        return over
    x, y = sorted(product.inputs, key=lambda v: -v.aval.size)
    if not _is_much_smaller(y, x) or x.aval.shape != a.aval.shape:
        return None
    multiplied = _simplest(new, eqn, "multiply", Literal(c), y)
    return _simplest(new, eqn, product.primitive.name, x, multiplied)


def _is_much_smaller(y: Atom, x: Atom) -> bool:
    """Whether a number costs less beside ``y`` than beside ``x``."""
    return not isinstance(y, Literal) and y.aval.size * SMALLER <= x.aval.size


def _multiple_of_quotient(
    new: Rewriter, eqn: Equation, c: float, a: Atom, product: Equation
) -> Atom | None:
    """``c * ((d / x) * y)`` is ``((c * d) / x) * y`` up to rounding, where all else goes."""
    for quotient, y in (product.inputs, product.inputs[::-1]):
        inner = new.made_by(quotient, "divide")
        if inner is None or quotient.aval.dtype != "f8" or quotient.aval.size > a.aval.size:
            continue
        d, x = inner.inputs
        moderate = isinstance(d, Literal) and 2**-60 < abs(d.value * c) < 2**60
        alone = all(isinstance(v, Var) and new.readers[v] == 1 for v in (quotient, a))
        if isinstance(d, Literal) and moderate and alone and d.aval.dtype.kind in "fi":
            over = _simplest(new, eqn, "divide", Literal(float(c * d.value)), x)
            return _simplest(new, eqn, product.primitive.name, over, y)
    return None


def _to_smaller(new: Rewriter, eqn: Equation) -> Atom | None:
    """``(c * x) * y`` is ``x * (c * y)`` up to rounding, where ``y`` is much smaller."""
    x, y = sorted(eqn.inputs, key=lambda v: -v.aval.size)
    if not _is_much_smaller(y, x) or x.aval.dtype != y.aval.dtype:
        return None
    c, inner = _multiple(new, x)
    if inner is x or inner.aval.shape != eqn.outputs[0].aval.shape:
        return None
    multiplied = _simplest(new, eqn, "multiply", Literal(c), y)
    return _simplest(new, eqn, eqn.primitive.name, inner, multiplied)


def _multiplied(new: Rewriter, eqn: Equation, c: float, x: Atom) -> Atom:
    """``c * x``."""
    if c == 1.0:
        return x
    if c == -1.0:
        return _simplest(new, eqn, "negative", x)
    return _simplest(new, eqn, "multiply", Literal(c), x)


def _number_and_other(eqn: Equation) -> tuple[Literal | None, Atom]:
    """The operand of a product that is a number of moderate size, and the other one."""
    x, y = eqn.inputs
    if isinstance(x, Literal):
        x, y = y, x
    if not isinstance(y, Literal) or not (y.aval.dtype == "f8" or y.aval.weak):
        return None, x
    return (y if y.aval.dtype.kind in "fi" and 2**-60 < abs(y.value) < 2**60 else None), x


def _power(new: Rewriter, eqn: Equation) -> Atom | None:
    """``x ** 3`` is ``x * x * x``, up to rounding: the general power is many times dearer."""
    x, y = eqn.inputs
    cube = isinstance(y, Literal) and y.aval.weak and y.value == 3
    if not cube or not x.aval.ndim or x.aval != eqn.outputs[0].aval or x.aval.dtype.kind != "f":
        return None
    return _simplest(new, eqn, "multiply", _simplest(new, eqn, "multiply", x, x), x)


def _outward(new: Rewriter, eqn: Equation) -> Atom | None:
    """Of ``-x``: a sum is minus the sum of ``x``, a view minus the view."""
    minus = _negated(new, eqn.inputs[0])
    if minus is None:
        return None
    inner = _simplest(new, eqn, eqn.primitive.name, minus, **eqn.params)
    return _simplest(new, eqn, "negative", inner)


# ---- shapes --------------------------------------------------------------------------------------


def _reshape(new: Rewriter, eqn: Equation) -> Atom | None:
    """A reshape to the same shape is nothing, two are one."""
    (x,) = eqn.inputs
    if x.aval == eqn.outputs[0].aval:
        return x
    inner = new.made_by(x, "reshape")
    if inner is None:
        return None
    source = inner.inputs[0]
    if source.aval == eqn.outputs[0].aval:
        return source
    return _simplest(new, eqn, "reshape", source, **eqn.params)


def _transpose(new: Rewriter, eqn: Equation) -> Atom | None:
    """Two permutations are one, that of nothing is nothing."""
    (x,) = eqn.inputs
    axes = eqn.params["axes"]
    if axes == tuple(range(len(axes))):
        return x
    inner = new.made_by(x, "transpose")
    if inner is None:
        return None
    both = tuple([inner.params["axes"][i] for i in axes])
    if both == tuple(range(len(axes))):
        return inner.inputs[0]
    return _simplest(new, eqn, "transpose", inner.inputs[0], axes=both)


def _getitem(new: Rewriter, eqn: Equation) -> Atom | None:
    """A view of everything, by ``None``, ``:`` and such, is a reshape."""
    (x, *arrays), (out,) = eqn.inputs, eqn.outputs
    if arrays:
        return None
    if not out.aval.ndim or not _takes_all(eqn.params["index"], x.aval, out.aval):
        return _as_scattered(new, eqn)
    return _simplest(new, eqn, "reshape", x, shape=out.aval.shape)


def _takes_all(index: Any, x: Aval, out: Aval) -> bool:
    """Whether a part of ``x`` is all of it, in its order."""
    steps = [e.step for e in index.entries if isinstance(e, slice)]
    basic = not index.arrays and not any(isinstance(e, bool) for e in index.entries)
    return basic and x.size == out.size and all(step in (None, 1) for step in steps)


def _update(new: Rewriter, eqn: Equation) -> Atom | None:
    """An array written over from end to end is what was written."""
    x, y, *arrays = eqn.inputs
    whole = not arrays and not eqn.params["steps"] and x.aval == y.aval
    return y if whole and eqn.params["index"].entries == (...,) else None


def _broadcast_to(new: Rewriter, eqn: Equation) -> Atom | None:
    """Repeating to the same shape is nothing, two are one."""
    (x,) = eqn.inputs
    if x.aval == eqn.outputs[0].aval:
        return x
    inner = new.made_by(x, "broadcast_to")
    return (
        None
        if inner is None
        else _simplest(new, eqn, "broadcast_to", inner.inputs[0], **eqn.params)
    )


def _without_broadcasts(new: Rewriter, eqn: Equation) -> Atom | None:
    """An elementwise equation repeats its operands by itself, and numbers that have got axes."""
    shape = eqn.outputs[0].aval.shape
    inputs = list(eqn.inputs)
    for i, a in enumerate(inputs):
        inner = new.made_by(a, "broadcast_to") or new.made_by(a, "reshape")
        if inner is not None and (
            inner.primitive.name != "reshape" or not inner.inputs[0].aval.ndim
        ):
            tried = [*inputs[:i], inner.inputs[0], *inputs[i + 1 :]]
            if np.broadcast_shapes(*[b.aval.shape for b in tried]) == shape:
                inputs = tried
    if all(a is b for a, b in zip(inputs, eqn.inputs, strict=True)):
        return None
    return _simplest(new, eqn, eqn.primitive.name, *inputs, **eqn.params)


def _before_reshape(new: Rewriter, eqn: Equation) -> Atom | None:
    """An elementwise equation of one reshaped array is computed before the reshape; one of several
    without the axes that have one element in all of them.

    A reshape back, which often follows, then is nothing.
    """
    (out,) = eqn.outputs
    makers = [new.made_by(a, "reshape") for a in eqn.inputs] if out.aval.ndim else []
    if not any(makers) or eqn.params or eqn.primitive.name == "negative":
        return None  # a minus is of more use outside: sums absorb it
    pairs = list(zip(eqn.inputs, makers, strict=True))
    if sum(bool(a.aval.ndim) for a in eqn.inputs) == 1:
        inputs = [a if m is None else m.inputs[0] for a, m in pairs]
    else:
        unit = [i for i, n in enumerate(out.aval.shape) if n == 1]
        shapes = [_without_axes(a.aval.shape, unit, out.aval.ndim) for a in eqn.inputs]
        if not unit:
            return None
        inputs = [_reshaped(new, eqn, a, s) for a, s in zip(eqn.inputs, shapes, strict=True)]
    inner = _simplest(new, eqn, eqn.primitive.name, *inputs)
    return _simplest(new, eqn, "reshape", inner, shape=out.aval.shape)


def _before_transpose(new: Rewriter, eqn: Equation) -> Atom | None:
    """An elementwise equation of a transposed array, and of vectors and numbers beside it, is
    computed before the transpose: memory is read in its order.

    A transpose back, which often follows, then is nothing.
    """
    (out,) = eqn.outputs
    whole = [a for a in eqn.inputs if a.aval.shape == out.aval.shape and out.aval.ndim > 1]
    maker = new.made_by(whole[0], "transpose") if whole else None
    if maker is None or eqn.params or eqn.primitive.name == "negative" or out in new.results:
        return None
    axes: tuple[int, ...] = maker.params["axes"]
    inputs = [_before(new, eqn, a, axes) for a in eqn.inputs]
    if any(a is None for a in inputs):
        return None
    inner = _simplest(new, eqn, eqn.primitive.name, *[a for a in inputs if a is not None])
    return _simplest(new, eqn, "transpose", inner, axes=axes)


def _before(new: Rewriter, eqn: Equation, a: Atom, axes: tuple[int, ...]) -> Atom | None:
    """What ``a`` is before axes are permuted; None where that would be another transpose."""
    maker = new.made_by(a, "transpose")
    if maker is not None and maker.params["axes"] == axes:
        return maker.inputs[0]
    shape = (*[1] * (len(axes) - a.aval.ndim), *a.aval.shape)
    if sum(n != 1 for n in shape) > 1:
        return None
    before = [n for _, n in sorted(zip(axes, shape, strict=True))]
    while before and before[0] == 1:  # which broadcasting adds
        del before[0]
    return _reshaped(new, eqn, a, tuple(before)) if a.aval.ndim else a


def _without_axes(shape: Shape, unit: Sequence[int], ndim: int) -> Shape:
    """The shape of an operand that broadcasts to ``ndim`` axes, without some of these."""
    missing = ndim - len(shape)
    return tuple([n for i, n in enumerate(shape, missing) if i not in unit])


def _reshaped(new: Rewriter, eqn: Equation, a: Atom, shape: Shape) -> Atom:
    return a if a.aval.shape == shape else _simplest(new, eqn, "reshape", a, shape=shape)


def _scatter_sum(new: Rewriter, eqn: Equation) -> Atom | None:
    """A value for all places is a view of it; values for the same place of an array are added up
    first, up to rounding."""
    indices, avals = eqn.params["indices"], [a.aval for a in eqn.inputs]
    (out,) = eqn.outputs
    if len(indices) == len(avals) == 1 and avals[0].dtype == out.aval.dtype and out.aval.ndim:
        x, index = eqn.inputs[0], indices[0]
        if _takes_all(index, out.aval, x.aval):
            return _simplest(new, eqn, "reshape", x, shape=out.aval.shape)
    exact = all(a.dtype == eqn.outputs[0].aval.dtype and a.inexact for a in avals)
    if len(set(indices)) == len(indices) or len(indices) != len(avals) or not exact:
        return None
    totals: dict[Any, Atom] = {}
    for index, a in zip(indices, eqn.inputs, strict=True):
        before = totals.get(index)
        totals[index] = a if before is None else _simplest(new, eqn, "add", before, a)
    params = {**eqn.params, "indices": tuple(totals)}
    return _simplest(new, eqn, "scatter_sum", *totals.values(), **params)


MOST_PLACES = 8
"""Places at which one equation adds: rules that look at all of them look at no more."""


def _one_scatter(new: Rewriter, eqn: Equation) -> Atom | None:
    """The sum, or the difference, of arrays of zeros to which values were added at known places is
    one such array, up to rounding, where nothing else reads those."""
    x, y = (new.made_by(a, "scatter_sum") for a in eqn.inputs)
    if x is None or y is None or not all(new.readers[a] <= 1 for a in eqn.inputs):
        return None
    indices, values = (*x.params["indices"], *y.params["indices"]), [*x.inputs, *y.inputs]
    alike = len({a.aval.shape for a in values}) == 1 and x.outputs[0].aval == y.outputs[0].aval
    exact = all(a.aval.dtype == x.outputs[0].aval.dtype and a.aval.inexact for a in values)
    if len(indices) != len(values) or len(set(indices)) > MOST_PLACES or not (alike and exact):
        return None
    if eqn.primitive.name == "subtract":
        values[len(x.inputs) :] = [_simplest(new, eqn, "negative", a) for a in y.inputs]
    return _simplest(new, eqn, "scatter_sum", *values, **{**x.params, "indices": indices})


def _as_scattered(new: Rewriter, eqn: Equation) -> Atom | None:
    """What is read at a place of an array of zeros is what was added there, if nothing else was;
    a zero may keep its sign."""
    (x,), (out,) = eqn.inputs, eqn.outputs
    minus = _negated(new, x)
    scatter = new.made_by(x if minus is None else minus, "scatter_sum")
    if scatter is None or len(scatter.inputs) > MOST_PLACES:
        return None
    index, indices = eqn.params["index"], scatter.params["indices"]
    if len(scatter.inputs) != len(indices):
        return None
    meeting = [
        (i == index, a)
        for i, a in zip(indices, scatter.inputs, strict=True)
        if not are_apart(i, index, x.aval.shape)
    ]
    if len(meeting) != 1:
        return None
    ((same, found),) = meeting
    if not same or found.aval != out.aval:
        return None
    return found if minus is None else _simplest(new, eqn, "negative", found)


def _permuted(new: Rewriter, eqn: Equation) -> Atom | None:
    """A vector read by a permutation's inverse is written by it; a zero may lose its sign."""
    x, order = eqn.inputs
    inverse = new.made_by(order, "inverse_permutation")
    if inverse is None or x.aval.ndim != 1 or isinstance(x, Literal) or not x.aval.inexact:
        return None
    params = {"shape": x.aval.shape, "dtype": x.aval.dtype, "indices": (Index((Index.ARRAY,)),)}
    return _simplest(new, eqn, "scatter_sum", inverse.inputs[0], x, **params)


# ---- products ------------------------------------------------------------------------------------


def _sum_of_products(new: Rewriter, eqn: Equation) -> Atom | None:
    """The sum over a stack of products of matrices, or of columns with rows, is one product of
    matrices, up to rounding."""
    names = {"multiply": "matmul", "scale": "scale_matmul"}
    product = new.made_by(eqn.inputs[0], "matmul", "scale_matmul", *names)
    if product is None or eqn.params["keepdims"] or not eqn.inputs[0].aval.inexact:
        return None
    x, y = product.inputs
    name = names.get(product.primitive.name, product.primitive.name)
    if x.aval.ndim != y.aval.ndim or x.aval.ndim < 3 or x.aval.shape[:-2] != y.aval.shape[:-2]:
        return None
    if product.primitive.name in names:
        x, y = (x, y) if x.aval.shape[-1] == 1 else (y, x)
        if x.aval.shape[-1] != 1 or y.aval.shape[-2] != 1 or x.aval.dtype != y.aval.dtype:
            return None
    stack, rows = x.aval.shape[:-2], math.prod(y.aval.shape[:-1])
    if eqn.params["axes"] != tuple(range(len(stack))) or not rows:
        return None
    swapped = (*range(len(stack)), x.aval.ndim - 1, x.aval.ndim - 2)
    left = _simplest(new, eqn, "transpose", x, axes=swapped)
    left = _simplest(new, eqn, "reshape", left, shape=(rows, x.aval.shape[-2]))
    right = _simplest(new, eqn, "reshape", y, shape=(rows, y.aval.shape[-1]))
    left = _simplest(new, eqn, "transpose", left, axes=(1, 0))
    return _simplest(new, eqn, name, left, right)


def _minus_outward(new: Rewriter, eqn: Equation) -> Atom | None:
    """A product of matrices with ``-x`` is minus that with ``x``, where that is less to negate."""
    x, y = eqn.inputs
    for i, a in enumerate((x, y)):
        minus = _negated(new, a)
        if minus is not None and eqn.outputs[0].aval.size < a.aval.size:
            factors = (minus, y) if i == 0 else (x, minus)
            inner = _simplest(new, eqn, eqn.primitive.name, *factors)
            return _simplest(new, eqn, "negative", inner)
    return None


Rule = Callable[[Rewriter, Equation], Atom | None]

RULES: dict[str, Rule] = {
    "negative": _negative,
    "renamed": lambda new, eqn: eqn.inputs[0],
    "add": _add,
    "subtract": _subtract,
    "multiply": _product,
    "scale": _product,
    "divide": _quotient,
    "reshape": lambda new, eqn: _reshape(new, eqn) or _outward(new, eqn),
    "broadcast_to": _broadcast_to,
    "getitem": _getitem,
    "update": _update,
    "transpose": lambda new, eqn: _transpose(new, eqn) or _outward(new, eqn),
    "sum": lambda new, eqn: _outward(new, eqn) or _sum_of_products(new, eqn),
    "matmul": _minus_outward,
    "scale_matmul": _minus_outward,
    "permuted": _permuted,
    "power": _power,
    "scatter_sum": _scatter_sum,
}
"""The rules by the primitive whose equations they look at."""
