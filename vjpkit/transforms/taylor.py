"""Higher derivatives along curves: `jet`, `directional_derivatives`, `laplacian`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.rows import filled_like
from vjpkit.pytree import (
    PyTree,
    flatten,
    flatten_up_to,
    flatten_with_path,
    keystr,
    structure,
    tree_map,
)
from vjpkit.transforms.arguments import (
    Transformed,
    called,
    name_of,
    read_arguments,
    require_arrays,
    require_function,
    resolve_argnums,
)
from vjpkit.transforms.collapsed import Collapsing
from vjpkit.transforms.derivatives import Function, is_differentiable, primal_leaf
from vjpkit.transforms.series import Expansion, Terms
from vjpkit.transforms.sides import FLOAT0, Side, fresh, tangent_aval

__all__ = ["directional_derivatives", "jet", "laplacian"]


def jet(
    fun: Function, primals: Sequence[PyTree], series: Sequence[PyTree]
) -> tuple[PyTree, PyTree]:
    """Taylor coefficients of ``fun`` along a curve: the truncated power series of f(x(s)).

    Of x(s) = x0 + x1 s + x2 s² + ... ``primals`` holds x0 and ``series`` the list ``[x1, x2, ...]``
    of each argument (None for one that is constant); of y(s) = fun(x(s)) it gives y0 and the list
    ``[y1, y2, ...]``, as many terms. An argument that is a tree has a tree of lists, and so has an
    output. The terms are true coefficients, not derivatives: y_k is the k-th derivative over k!,
    where `jax.experimental.jet` has the derivative.

    The cost grows with the square of the order, where nested `jvp` doubles with each. Composes with
    every transform. Raises `TypeError` for wrong trees, `ValueError` for wrong shapes, dtypes and
    lengths.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jet(np.exp, (0.0,), ([1.0, 0.0, 0.0],))
    (np.float64(1.0), [np.float64(1.0), np.float64(0.5), np.float64(0.16666666666666666)])
    >>> value, terms = vk.jet(np.multiply, (2.0, 3.0), ([1.0, 0.0], [1.0, 0.0]))
    >>> value, terms  # (2 + s) (3 + s) = 6 + 5 s + s²
    (np.float64(6.0), [np.float64(5.0), np.float64(1.0)])
    """
    label = f"jet({name_of(fun)})" if callable(fun) else "jet"
    require_function(label, fun)
    _require_matching(label, fun, primals, series)
    leaves, tree = flatten(tuple(primals))
    leaves = [primal_leaf(label, tuple(primals), i, x) for i, x in enumerate(leaves)]
    lists = [
        terms
        for i, (x, s) in enumerate(zip(primals, series, strict=True))
        for terms in _lists(label, i, x, s)
    ]
    order = _common_order(label, lists, tree)
    side = Side.of_leaves(leaves, tree, star=True)
    columns = [_column(label, side, lists, k) for k in range(order)]
    trace = Expansion(order, label)
    rows = iter(zip(*columns, strict=True))
    inputs = [trace.series(x, next(rows)) if is_differentiable(x) else x for x in leaves]
    try:
        y = called(trace, fun, tree.unflatten(inputs), {})
    finally:
        trace.closed = True
    outs, out_tree = flatten(y)
    require_arrays(label, y, outs)
    pairs = [trace.split(o) for o in outs]
    taken = {id(t) for terms in lists if terms is not None for t in terms}
    expanded = [_dense(v, terms, order, taken) for v, terms in pairs]
    return out_tree.unflatten([v for v, _ in pairs]), out_tree.unflatten(expanded)


def _require_matching(label: str, fun: Function, primals: object, series: object) -> None:
    if not isinstance(primals, tuple | list) or not isinstance(series, tuple | list):
        raise TypeError(
            f"{label}: primals and series must be tuples or lists, one entry per argument, got "
            f"{type(primals).__name__} and {type(series).__name__}{at(calling_position())}.\n"
            f"Write jet({name_of(fun)}, (x,), ([x1, x2],))."
        )
    if len(primals) != len(series):
        raise TypeError(
            f"{label}: got {len(primals)} primals and {len(series)} series{at(calling_position())}."
            "\nEach argument has a list of terms, or None where it is constant."
        )


def _lists(label: str, i: int, x: PyTree, series: PyTree) -> list[Sequence[Value] | None]:
    """The lists of terms of one argument's leaves."""
    leaves, tree = flatten(x)
    if series is None:
        return [None] * len(leaves)
    lists = flatten_up_to(tree, series, f"{label}: series[{i}] has the wrong tree")
    for terms, (path, _) in zip(lists, flatten_with_path(x)[0], strict=True):
        if terms is not None and not isinstance(terms, tuple | list):
            raise TypeError(
                f"{label}: series[{i}]{keystr(path)} must be a list of terms, got "
                f"{type(terms).__name__}{at(calling_position())}.\n"
                "A single term is a list of one: [x1]."
            )
    return list(lists)


def _common_order(label: str, lists: Sequence[Sequence[Value] | None], tree: Any) -> int:
    """The number of terms, which all lists have in common."""
    lengths = {i: len(terms) for i, terms in enumerate(lists) if terms is not None}
    if not lengths or 0 in lengths.values():
        raise ValueError(
            f"{label}: series has no terms{at(calling_position())}.\n"
            "Give at least one list [x1, ..., xn]; the order of the result is its length."
        )
    if len(set(lengths.values())) > 1:
        paths = [keystr(p) for p, _ in flatten_with_path(tree.unflatten(range(len(lists))))[0]]
        words = ", ".join(f"{paths[i]} has {n}" for i, n in lengths.items())
        raise ValueError(
            f"{label}: all series must have the same number of terms: {words}"
            f"{at(calling_position())}.\nPad the shorter ones with None, which stands for zero."
        )
    return next(iter(lengths.values()))


def _column(
    label: str, side: Side, lists: Sequence[Sequence[Value] | None], k: int
) -> list[Value | None]:
    """The terms of degree k + 1 of the arguments that can have any, checked."""
    given = [None if terms is None else terms[k] for terms in lists]
    filled = [
        np.zeros(aval.shape, aval.dtype)[()] if t is None else t
        for t, aval in zip(given, side.avals, strict=True)
    ]
    read = side.read(f"{label}: term {k + 1}", tuple(side.tree.unflatten(filled)))
    live = [given[i] for i in side.live]
    return [None if t is None else checked for t, checked in zip(live, read, strict=True)]


def _dense(v: Value, terms: Terms | None, order: int, taken: set[int]) -> list[Value]:
    """All terms of an output, as arrays of its own."""
    if not aval_of(v).inexact:
        return [np.zeros(np.shape(v), FLOAT0) for _ in range(order)]
    scalar = not isinstance(v, np.ndarray)
    return [
        filled_like(v, 0) if t is None else fresh(t, tangent_aval(v), scalar, taken)
        for t in terms or [None] * order
    ]


def directional_derivatives(
    fun: Function, primals: Sequence[PyTree], tangents: Sequence[PyTree], order: int
) -> list[PyTree]:
    """``[f(x), D f, D² f, ...]``: derivatives of f(x + s t) in s at 0, up to ``order``.

    ``primals`` and ``tangents`` as in `jvp`, which gives the first two. One expansion gives all.

    >>> import numpy as np, vjpkit as vk
    >>> [float(d) for d in vk.directional_derivatives(lambda x: x**4, (1.0,), (1.0,), 5)]
    [1.0, 4.0, 12.0, 24.0, 24.0, 0.0]
    """
    label = (
        f"directional_derivatives({name_of(fun)})" if callable(fun) else ("directional_derivatives")
    )
    require_function(label, fun)
    if not isinstance(order, int | np.integer) or isinstance(order, bool) or order < 1:
        raise ValueError(
            f"{label}: order must be a positive int, got {order!r}{at(calling_position())}"
        )
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            f"{label}: primals and tangents must be tuples or lists of arguments, got "
            f"{type(primals).__name__} and {type(tangents).__name__}{at(calling_position())}.\n"
            f"Write directional_derivatives({name_of(fun)}, (x,), (t,), {order})."
        )
    tree = structure(tuple(primals))
    ts, t_tree = flatten(tuple(tangents))
    if tree != t_tree:
        raise TypeError(
            f"{label}: primals and tangents must have the same tree, got {tree} and {t_tree}"
            f"{at(calling_position())}"
        )
    series = tree.unflatten([[t, *[None] * (order - 1)] for t in ts])
    value, terms = jet(fun, primals, series)
    lists, out_tree = flatten(value)
    lists = flatten_up_to(out_tree, terms)
    return [
        value,
        *[
            out_tree.unflatten([_scaled(terms[k - 1], math.factorial(k)) for terms in lists])
            for k in range(1, order + 1)
        ],
    ]


def _scaled(t: Value, factor: int) -> Value:
    return t if getattr(t, "dtype", None) == FLOAT0 else factor * t


class Laplacian(Transformed):
    """What `laplacian` returns: sums second derivatives along the coordinates, in blocks."""

    transform = "laplacian"

    def __init__(self, fun: Function, argnums: int | Sequence[int]) -> None:
        super().__init__(fun, argnums=argnums)
        self.argnums = argnums

    def __call__(self, *args: PyTree, **kwargs: Any) -> PyTree:
        numbers = resolve_argnums(self.label, self.argnums, len(args))
        read = read_arguments(self.label, args, numbers)
        leaves = [x for part, _ in read for x in part]
        for x in leaves:
            if aval_of(x).dtype.kind == "c":
                raise TypeError(
                    f"{self.label}: the Laplacian is taken in real arguments, got {aval_of(x)}"
                    f"{at(calling_position())}\nUse functions of x.real and x.imag."
                )

        def moved(*xs: Value) -> PyTree:
            rest = iter(xs)
            full = list(args)
            for n, (part, tree) in zip(numbers, read, strict=True):
                full[n] = tree.unflatten([next(rest) for _ in part])
            return self.fun(*full, **kwargs)

        moved.__name__ = self.__name__
        total: PyTree = None
        for i, x in enumerate(leaves):
            for block in _basis(aval_of(x)):
                part = _curvature(self.label, moved, leaves, i, block)
                total = part if total is None else tree_map(_added, total, part)
        return total


def _added(a: Value, b: Value) -> Value:
    return a if a.dtype == FLOAT0 else a + b


_BLOCK = 256
"""Directions that are pushed at once: bounds memory, and is enough for the kernels."""


def _basis(aval: Aval) -> Iterator[Value]:
    """The coordinate directions, in blocks; where there are no coordinates, that of length 0."""
    if not aval.size:
        yield np.zeros((1, *aval.shape), aval.dtype)
    for start in range(0, aval.size, _BLOCK):
        stop = min(start + _BLOCK, aval.size)
        rows = np.zeros((stop - start, aval.size), aval.dtype)
        rows[np.arange(stop - start), np.arange(start, stop)] = 1
        yield rows.reshape(stop - start, *aval.shape)


def _curvature(
    label: str, fun: Function, leaves: Sequence[Value], i: int, directions: Value
) -> PyTree:
    """The sum of second derivatives along ``directions`` of leaf i; values are computed once."""
    trace = Collapsing(len(directions), label)
    moved = [trace.series(x, (directions, None)) if j == i else x for j, x in enumerate(leaves)]
    try:
        y = called(trace, fun, moved, {})
    finally:
        trace.closed = True
    outs, tree = flatten(y)
    require_arrays(label, y, outs)
    pairs = [trace.split(o) for o in outs]
    return tree.unflatten([_doubled(v, terms) for v, terms in pairs])


def _doubled(v: Value, terms: Terms | None) -> Value:
    """The sum of second derivatives, from the sum of second terms."""
    if not aval_of(v).inexact:
        return np.zeros(np.shape(v), FLOAT0)
    second = None if terms is None else terms[1]
    return filled_like(v, 0) if second is None else 2 * second


def laplacian(
    fun: Function | None = None, argnums: int | Sequence[int] = 0
) -> Callable[..., PyTree]:
    """The Laplacian of ``fun``: the trace of its Hessian, which is never built.

    A function of the same arguments; its result has the tree and shapes of ``fun``'s, which may be
    arrays: each element has its Laplacian. Of several ``argnums`` the sum. Values, derivatives
    along the coordinates (256 at a time) and one sum of second derivatives go through ``fun``
    together (collapsed Taylor mode), which costs about as much as the Jacobian in forward mode.
    Arguments are real arrays and trees of them (`TypeError`).

    >>> import numpy as np, vjpkit as vk
    >>> vk.laplacian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    np.float64(18.0)
    >>> bool(abs(vk.laplacian(lambda x: 1 / np.linalg.norm(x))(np.array([1.0, 2.0, 2.0]))) < 1e-15)
    True
    """
    if fun is None:
        return lambda f: Laplacian(f, argnums)
    return Laplacian(fun, argnums)
