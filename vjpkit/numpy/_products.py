"""Products of vectors, matrices and tensors: NumPy's signatures over two primitives.

`matmul` and `contract` (a product over named indices) are matrix products for BLAS, and so are
their pullbacks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

import numpy as np

from vjpkit.core.aval import Shape, Value
from vjpkit.core.errors import counted
from vjpkit.core.tracer import UFUNCS, Tracer
from vjpkit.numpy._arguments import as_array, normalize_axis
from vjpkit.numpy._dispatch import implements, normalize_axes, refuse
from vjpkit.numpy._no_axis import array_of_no_axis
from vjpkit.numpy._overlap import require_apart
from vjpkit.numpy._writing import delivered, delivers
from vjpkit.ops import structural
from vjpkit.ops.products import LETTERS, contract, matmul
from vjpkit.ops.structural import to_dtype

__all__: list[str] = []


# ---- ufuncs ------------------------------------------------------------------------------------


def _core_product(subscripts: str, conjugate: bool) -> Callable[[Value, Value], Value]:
    """A generalized ufunc that sums over the last axes, broadcasting the others."""
    x_core, y_core, out_core = subscripts.replace("->", ",").split(",")

    def product(x: Value, y: Value) -> Value:
        x, y = as_array(x), as_array(y)
        lead = [a.shape[: a.ndim - len(c)] for a, c in ((x, x_core), (y, y_core))]
        for a, c in ((x, x_core), (y, y_core)):
            if a.ndim < len(c):
                raise ValueError(f"the operand of shape {a.shape} has not the {len(c)} core axes")
        np.broadcast_shapes(*lead)
        sizes: dict[str, int] = {}
        for a, c in ((x, x_core), (y, y_core)):
            for letter, n in zip(c, a.shape[a.ndim - len(c) :], strict=True):
                if sizes.setdefault(letter, n) != n:
                    raise ValueError(
                        f"operands of shapes {x.shape} and {y.shape} have a mismatch in a core "
                        f"dimension: size {n} is different from {sizes[letter]}"
                    )
        x = np.conjugate(x) if conjugate and x.dtype.kind == "c" else x
        return np.einsum(f"...{x_core},...{y_core}->...{out_core}", x, y)

    return product


_CORE = {"vecdot": ("n,n->", True), "matvec": ("mn,n->m", False), "vecmat": ("n,nm->m", True)}
for _name, _signature in _CORE.items():
    if hasattr(np, _name):  # matvec and vecmat came with NumPy 2.2
        UFUNCS[getattr(np, _name)] = _core_product(*_signature)


# ---- two operands ------------------------------------------------------------------------------


@implements(np.dot)
def dot(a: Value, b: Value, out: Any = None) -> Value:
    if out is not None:
        return delivered("dot", dot(a, b), out)
    a, b = as_array(a), as_array(b)
    if not a.ndim or not b.ndim:
        return a * b
    if b.ndim <= 2 or a.ndim == 1:
        _require_same("dot", a, b, (a.ndim - 1,), (max(b.ndim - 2, 0),))
        return matmul(a, b)
    return np.tensordot(a, b, axes=(-1, -2))


@implements(np.vdot)
def vdot(a: Value, b: Value, /) -> Value:
    a, b = np.ravel(as_array(a)), np.ravel(as_array(b))
    _require_same("vdot", a, b, (0,), (0,))
    return matmul(np.conjugate(a) if a.dtype.kind == "c" else a, b)


@implements(np.inner)
def inner(a: Value, b: Value, /) -> Value:
    a, b = as_array(a), as_array(b)
    return a * b if not a.ndim or not b.ndim else _tensordot(a, b, (-1, -1))


@implements(np.outer)
@delivers
def outer(a: Value, b: Value, out: Any = None) -> Value:
    a, b = np.ravel(as_array(a)), np.ravel(as_array(b))
    return a[:, None] * b


@implements(np.linalg.outer)
def linalg_outer(x1: Value, x2: Value, /) -> Value:
    x1, x2 = as_array(x1), as_array(x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(
            f"Input arrays must be one-dimensional, but they are x1.ndim={x1.ndim} and "
            f"x2.ndim={x2.ndim}."
        )
    return np.outer(x1, x2)


@implements(np.linalg.matmul)
def linalg_matmul(x1: Value, x2: Value, /) -> Value:
    return matmul(as_array(x1), as_array(x2))


@implements(np.linalg.vecdot)
def linalg_vecdot(x1: Value, x2: Value, /, *, axis: int = -1) -> Value:
    options: dict[str, Any] = {"axis": axis}
    return np.vecdot(as_array(x1), as_array(x2), **options)


@implements(np.tensordot)
def tensordot(a: Value, b: Value, axes: Any = 2) -> Value:
    return array_of_no_axis(_tensordot(as_array(a), as_array(b), axes))


def _tensordot(a: Value, b: Value, axes: Any) -> Value:
    a_axes, b_axes = _tensor_axes(axes, a.ndim, b.ndim)
    _require_same("tensordot", a, b, a_axes, b_axes)
    letters = iter(LETTERS)
    x = [next(letters) for _ in range(a.ndim)]
    y = [x[a_axes[b_axes.index(i)]] if i in b_axes else next(letters) for i in range(b.ndim)]
    out = [c for i, c in enumerate(x) if i not in a_axes]
    out += [c for i, c in enumerate(y) if i not in b_axes]
    return contract(a, b, subscripts=f"{''.join(x)},{''.join(y)}->{''.join(out)}")


@implements(np.linalg.tensordot)
def linalg_tensordot(x1: Value, x2: Value, /, *, axes: Any = 2) -> Value:
    return np.tensordot(x1, x2, axes=axes)


def _tensor_axes(axes: Any, a_ndim: int, b_ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of each operand that `numpy.tensordot` sums over, non-negative."""
    try:
        a_axes, b_axes = axes
    except TypeError:
        a_axes, b_axes = list(range(-index(axes), 0)), list(range(index(axes)))
    lists = [[index(i) for i in (x if hasattr(x, "__iter__") else (x,))] for x in (a_axes, b_axes)]
    if len(lists[0]) != len(lists[1]):
        raise ValueError("shape-mismatch for sum")
    a_found, b_found = (normalize_axes(x, n) for x, n in zip(lists, (a_ndim, b_ndim), strict=True))
    assert a_found is not None
    assert b_found is not None
    return a_found, b_found


def _require_same(
    name: str, a: Value, b: Value, a_axes: Sequence[int], b_axes: Sequence[int]
) -> None:
    if [a.shape[i] for i in a_axes] != [b.shape[i] for i in b_axes]:
        raise ValueError(
            f"shapes {a.shape} and {b.shape} not aligned: {name} sums over axes {tuple(a_axes)} of "
            f"the first and {tuple(b_axes)} of the second"
        )


@implements(np.kron)
def kron(a: Value, b: Value) -> Value:
    a, b = as_array(a), as_array(b)
    ndim = max(a.ndim, b.ndim)
    a_shape = (1,) * (ndim - a.ndim) + a.shape
    b_shape = (1,) * (ndim - b.ndim) + b.shape
    wide = np.reshape(a, [n for m in a_shape for n in (m, 1)])
    product = wide * np.reshape(b, [n for m in b_shape for n in (1, m)])
    return np.reshape(product, tuple(m * n for m, n in zip(a_shape, b_shape, strict=True)))


def _crossed() -> set[int]:
    """How long the vectors may be: until NumPy 2.5 they may lie in a plane."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            np.cross([1, 0], [0, 1])
        except ValueError:
            return {3}
    return {2, 3}


_CROSSED = _crossed()


@implements(np.cross)
def cross(
    a: Value, b: Value, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Value:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = as_array(a), as_array(b)
    if a.ndim < 1 or b.ndim < 1:
        raise ValueError("At least one array has zero dimension")
    a = np.moveaxis(a, normalize_axis(axisa, a.ndim), -1)
    b = np.moveaxis(b, normalize_axis(axisb, b.ndim), -1)
    sizes = a.shape[-1], b.shape[-1]
    if not set(sizes) <= _CROSSED:
        raise ValueError(
            f"Both input arrays must be (arrays of) 3-dimensional vectors, but they are {sizes[0]} "
            f"and {sizes[1]} dimensional instead."
        )
    if 2 in sizes:
        warnings.warn(
            "Arrays of 2-dimensional vectors are deprecated. Use arrays of 3-dimensional vectors "
            "instead. (deprecated in NumPy 2.0)",
            DeprecationWarning,
            stacklevel=2,
        )
    (a0, a1, a2), (b0, b1, b2) = _components(a), _components(b)
    last = a0 * b1 - a1 * b0
    if sizes == (2, 2):
        return last if last.ndim else array_of_no_axis(structural.reshape(last, shape=()))
    if a2 is None:
        first, second = a1 * b2, -(a0 * b2)
    elif b2 is None:
        first, second = -(a2 * b1), a2 * b0
    else:
        first, second = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2
    return np.stack([first, second, last], axis=normalize_axis(axisc, last.ndim + 1))


def _components(x: Value) -> tuple[Value, Value, Value | None]:
    return x[..., 0], x[..., 1], x[..., 2] if x.shape[-1] == 3 else None


@implements(np.linalg.cross)
def linalg_cross(x1: Value, x2: Value, /, *, axis: int = -1) -> Value:
    x1, x2 = as_array(x1), as_array(x2)
    inside = type(axis) is int and all([-x.ndim <= axis < x.ndim for x in (x1, x2)])
    if not inside:
        np.linalg.cross(np.ones(x1.shape), np.ones(x2.shape), axis=axis)  # NumPy's errors, if any
    elif x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, but they are "
            f"{x1.shape[axis]} and {x2.shape[axis]} dimensional instead."
        )
    return np.cross(x1, x2, axis=axis)


# ---- einsum ------------------------------------------------------------------------------------

Labels = tuple[int, ...]
"""Indices of an operand as numbers: letters by their code, those of an ellipsis negative."""


class Prepared(NamedTuple):
    """What one operand needs before it meets the others."""

    labels: Labels
    diagonals: tuple[tuple[int, int], ...]
    """Pairs of axes with one label, in the order in which diagonals are taken."""
    squeezed: tuple[int, ...]
    """Axes of length 1 whose label is longer elsewhere."""
    summed: tuple[int, ...]
    """Axes whose label occurs nowhere else."""


class Contraction(NamedTuple):
    """How an einsum is computed: each operand alone, then pairs, then the order of axes."""

    operands: tuple[Prepared, ...]
    path: tuple[tuple[int, ...], ...]
    out: Labels


@implements(np.einsum)
def einsum(
    *operands: Any,
    out: Any = None,
    optimize: Any = False,
    dtype: Any = None,
    order: str = "K",
    casting: str = "safe",
) -> Value:
    if order not in ("K", "A", "C"):
        refuse("einsum", order=order)
    subscripts, arrays = _arguments(operands)
    if out is not None:
        require_apart("np.einsum", out, arrays)
        result = einsum(*operands, optimize=optimize, dtype=dtype, order=order, casting=casting)
        return delivered("einsum", result, out)
    xs = [as_array(x) for x in arrays]
    if dtype is not None:
        xs = [_cast(x, np.dtype(dtype), casting) for x in xs]
    elif len({x.dtype for x in xs}) > 1:
        common = np.result_type(*[x.dtype for x in xs])
        xs = [to_dtype(x, common) for x in xs]
    path = tuple(map(tuple, optimize[1:])) if isinstance(optimize, list) else optimize
    plan = contraction(subscripts, tuple([x.shape for x in xs]), path)
    found = [_prepare(x, p) for x, p in zip(xs, plan.operands, strict=True)]
    labelled = list(zip(found, [_left(p) for p in plan.operands], strict=True))
    for places in plan.path:
        taken = [labelled.pop(i) for i in sorted(places, reverse=True)][::-1]
        total = taken[0]
        for n, other in enumerate(taken[1:], 2):
            rest = [labels for _, labels in (*labelled, *taken[n:])]
            total = _pair(total, other, rest, plan.out)
        labelled.append(total)
    ((x, labels),) = labelled
    if labels == plan.out:
        return x if len(arrays) > 1 or x is not xs[0] else x[... if x.ndim else ()]
    return np.transpose(x, [labels.index(i) for i in plan.out])


def _cast(x: Value, dtype: np.dtype[Any], casting: Any) -> Value:
    if not np.can_cast(x.dtype, dtype, casting):
        raise TypeError(
            f"einsum: an operand of {x.dtype} cannot be cast to {dtype} with casting='{casting}'"
        )
    return to_dtype(x, dtype)


def _arguments(operands: Sequence[Any]) -> tuple[str | tuple[Any, ...], list[Value]]:
    """Subscripts, a string or tuples of numbers, and operands, of either calling convention."""
    if not operands:
        raise ValueError(
            "must specify the einstein sum subscripts string and at least one operand, or at least "
            "one operand and its corresponding subscripts list"
        )
    if isinstance(operands[0], str):
        return operands[0], list(operands[1:])
    explicit = len(operands) % 2 == 1
    pairs = operands[:-1] if explicit else operands
    lists = tuple([_numbers(s) for s in pairs[1::2]])
    return (lists, _numbers(operands[-1]) if explicit else None), list(pairs[::2])


def _numbers(sublist: Iterable[Any]) -> tuple[Any, ...]:
    return tuple([s if s is Ellipsis else index(s) for s in sublist])


def _read(subscripts: Any) -> tuple[list[list[Any]], list[Any] | None]:
    """Labels of the operands, and of the output where they are given; an ellipsis as such."""
    if not isinstance(subscripts, str):
        lists, output = subscripts
        return [list(s) for s in lists], None if output is None else list(output)
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = [_symbols(term) for term in inputs.split(",")]
    return terms, _symbols(output) if arrow else None


def _symbols(term: str) -> list[Any]:
    """The labels of one term of a subscripts string."""
    head, dots, tail = term.partition("...")
    for c in head + tail:
        if c not in LETTERS:
            raise ValueError(f"invalid subscript '{c}' in einstein sum subscripts string")
    return [*map(ord, head), *([Ellipsis] if dots else []), *map(ord, tail)]


@lru_cache(maxsize=1024)
def contraction(subscripts: Any, shapes: tuple[Shape, ...], optimize: Any) -> Contraction:
    """Read the subscripts for operands of these shapes."""
    terms, output = _read(subscripts)
    if len(terms) != len(shapes):
        raise ValueError(
            f"einsum: {counted(len(shapes), 'operand')} for "
            f"{counted(len(terms), 'term')} in the subscripts"
        )
    inputs = [_expanded(t, len(s)) for t, s in zip(terms, shapes, strict=True)]
    dots = max([-min([*labels, 0]) for labels in inputs])
    out = _output(output, inputs, dots)
    sizes: dict[int, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for label, n in zip(labels, shape, strict=True):
            known = sizes.setdefault(label, n)
            if n != known and 1 not in (n, known):
                raise ValueError(
                    f"einsum: operands could not be broadcast together, an index has the sizes "
                    f"{known} and {n} (shapes {', '.join(map(str, shapes))})"
                )
            sizes[label] = n if known == 1 else known
    prepared = _prepared(inputs, shapes, sizes, out)
    return Contraction(prepared, _path(prepared, sizes, out, optimize), out)


def _expanded(term: Sequence[Any], ndim: int) -> Labels:
    """Labels of all axes, those of the ellipsis counted from the right: ..., -2, -1."""
    named = [s for s in term if s is not Ellipsis]
    rest = ndim - len(named)
    if rest < 0 or (rest and len(named) == len(term)):
        raise ValueError(
            f"einsum: {counted(len(named), 'subscript')} for an operand of "
            f"{counted(ndim, 'dimension')}" + ("" if rest < 0 else ", and no '...' for the others")
        )
    at = term.index(Ellipsis) if len(named) < len(term) else len(named)
    return (*named[:at], *range(-rest, 0), *named[at:])


def _output(output: Sequence[Any] | None, inputs: Sequence[Labels], dots: int) -> Labels:
    every = [label for labels in inputs for label in labels]
    if output is None:
        once = sorted([label for label in set(every) if label >= 0 and every.count(label) == 1])
        return (*range(-dots, 0), *once)
    if dots and Ellipsis not in output:
        raise ValueError("einsum: the output needs '...' for the dimensions that are broadcast")
    named = [s for s in output if s is not Ellipsis]
    for label in named:
        if label not in every:
            raise ValueError(
                "einstein sum subscripts string included output subscript which never appeared in "
                "an input"
            )
        if named.count(label) > 1:
            raise ValueError(
                "einstein sum subscripts string includes an output subscript multiple times"
            )
    at = output.index(Ellipsis) if Ellipsis in output else len(named)
    return (*named[:at], *range(-dots if Ellipsis in output else 0, 0), *named[at:])


def _prepared(
    inputs: Sequence[Labels], shapes: Sequence[Shape], sizes: dict[int, int], out: Labels
) -> tuple[Prepared, ...]:
    """Diagonals, broadcast axes and sums that concern one operand alone."""
    reduced: list[tuple[Labels, tuple[tuple[int, int], ...], tuple[int, ...]]] = []
    for labels, shape in zip(inputs, shapes, strict=True):
        kept, lengths, diagonals = list(labels), list(shape), []
        for label in dict.fromkeys(labels):
            while kept.count(label) > 1:
                i = kept.index(label)
                j = kept.index(label, i + 1)
                if lengths[i] != lengths[j]:
                    raise ValueError(
                        f"einsum: a repeated index has the sizes {lengths[i]} and {lengths[j]}"
                    )
                diagonals.append((i, j))
                kept = [s for n, s in enumerate(kept) if n not in (i, j)] + [label]
                lengths = [s for n, s in enumerate(lengths) if n not in (i, j)] + [lengths[i]]
        squeezed = [n for n, s in enumerate(kept) if lengths[n] != sizes[s]]
        kept = [s for n, s in enumerate(kept) if n not in squeezed]
        reduced.append((tuple(kept), tuple(diagonals), tuple(squeezed)))
    found = []
    for n, (own, pairs, axes) in enumerate(reduced):
        others = {s for m, (labels, _, _) in enumerate(reduced) if m != n for s in labels}
        summed = tuple([i for i, s in enumerate(own) if s not in others and s not in out])
        found.append(Prepared(own, pairs, axes, summed))
    return tuple(found)


def _left(p: Prepared) -> Labels:
    """The labels of an operand once it is prepared."""
    return tuple([s for i, s in enumerate(p.labels) if i not in p.summed])


def _path(
    prepared: Sequence[Prepared], sizes: dict[int, int], out: Labels, optimize: Any
) -> tuple[tuple[int, ...], ...]:
    """Which operands to multiply, in which order: by NumPy's search, greedy unless told."""
    count = len(prepared)
    if count <= 2:
        return ((0, 1),) if count == 2 else ()
    if isinstance(optimize, tuple) and optimize and isinstance(optimize[0], tuple):
        return optimize
    letters = _letters([s for p in prepared for s in p.labels])
    terms = ["".join([letters[s] for s in _left(p)]) for p in prepared]
    text = f"{','.join(terms)}->{''.join([letters[s] for s in out])}"
    stand_ins = [np.broadcast_to(np.zeros(()), [sizes[s] for s in _left(p)]) for p in prepared]
    path, _ = np.einsum_path(text, *stand_ins, optimize=optimize or "greedy")
    return tuple(map(tuple, path[1:]))


def _letters(labels: Iterable[int]) -> dict[int, str]:
    """A letter for each label, in order of occurrence."""
    supply: Iterator[str] = iter(LETTERS)
    return {label: next(supply) for label in dict.fromkeys(labels)}


def _prepare(x: Value, p: Prepared) -> Value:
    """Take diagonals, drop broadcast axes, sum over indices that occur nowhere else."""
    for i, j in p.diagonals:
        x = np.diagonal(x, axis1=i, axis2=j)
    if p.squeezed:
        x = np.squeeze(x, axis=p.squeezed)
    return np.sum(x, axis=p.summed, dtype=x.dtype) if p.summed else x


def _pair(
    left: tuple[Value, Labels], right: tuple[Value, Labels], rest: Sequence[Labels], out: Labels
) -> tuple[Value, Labels]:
    """The product of two labelled operands, summed over what nobody needs afterwards."""
    (x, xs), (y, ys) = left, right
    if rest:
        needed = {*out, *[s for labels in rest for s in labels]}
        out = tuple([s for s in dict.fromkeys((*xs, *ys)) if s in needed])
    letters = _letters((*xs, *ys))
    a, b, c = ("".join([letters[s] for s in labels]) for labels in (xs, ys, out))
    return contract(x, y, subscripts=f"{a},{b}->{c}"), out


@implements(np.einsum_path)
def einsum_path(*operands: Any, optimize: Any = "greedy", einsum_call: bool = False) -> Value:
    """The search looks at shapes alone."""
    refuse("einsum_path", einsum_call=einsum_call)
    stand_ins = [
        np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, Tracer) else x
        for x in operands
    ]
    return np.einsum_path(*stand_ins, optimize=optimize)
