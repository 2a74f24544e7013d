"""`LinearMap`: a pullback or a pushforward as a value.

A map is backed by the rows of a trace (fresh from `vjp`, nothing materialised) or by a `Program`
and the residual values of its leading inputs. Both can be applied forwards (push) and backwards
(pull), with arrays or with tracers, so transposing is a flag and everything else is a composition
of calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position, counted, note_line
from vjpkit.core.ir import Program
from vjpkit.core.staging import Builder, Captured, ClosedProgram
from vjpkit.core.tracer import Tracer, operand
from vjpkit.pytree import (
    PyTree,
    PyTreeDef,
    flatten,
    flatten_with_path,
    keystr,
    register_pytree_node,
)
from vjpkit.transforms.backings import (
    Freed,
    Programmed,
    Recorded,
    Residual,
    dense_vectors,
    nbytes_text,
)
from vjpkit.transforms.batch import Batched, Batches
from vjpkit.transforms.sides import FLOAT0, Side, advice, fresh

__all__ = ["LinearMap"]


class LinearMap:
    """A linear map between trees of arrays: what `vjp` and `linearize` return.

    ``L(*arguments)`` applies it; ``L.T`` is its transpose, ``<ct, L t> == <L.T ct, t>`` without
    conjugation; ``L.H`` the conjugate transpose. ``A @ B``, ``A + B``, ``2 * A`` and ``-A`` are
    maps again. Maps can be called any number of times, from any thread; they pickle and are
    pytrees.

    >>> import numpy as np, vjpkit as vk
    >>> y, pullback = vk.vjp(lambda x: np.sin(x) * x, np.array([0.0, 1.0]))
    >>> pullback(np.ones(2))
    (array([0.        , 1.38177329]),)
    >>> pullback.T(np.ones(2))
    array([0.        , 1.38177329])
    """

    __slots__ = ("_staged", "backing", "codomain", "conjugated", "domain", "name", "transposed")
    __array_ufunc__ = None  # so that ``array * L`` asks us

    def __init__(
        self,
        backing: Recorded | Programmed | Freed,
        domain: Side,
        codomain: Side,
        name: str = "linear map",
        transposed: bool = False,
        conjugated: bool = False,
    ) -> None:
        self.backing = backing
        self.domain = domain
        self.codomain = codomain
        self.name = name
        self.transposed = transposed
        self.conjugated = conjugated
        self._staged: ClosedProgram | None = None

    # -- applying ----------------------------------------------------------------------------------

    def __call__(self, *arguments: PyTree) -> PyTree:
        if isinstance(self.backing, Programmed):
            self.backing.require_single(self.name)
        leaves = self.domain.read(self.name, arguments)
        return self.codomain.build(self.apply(leaves), leaves)

    def apply(self, leaves: Sequence[Value | None]) -> list[Value | None]:
        """The map on live leaves (None stands for zero)."""
        if self.conjugated:
            leaves = [None if x is None else _conjugate(x) for x in leaves]
        out = self.backing.pull(leaves) if self.transposed else self.backing.push(leaves)
        if self.conjugated:
            out = [None if y is None else _conjugate(y) for y in out]
        return list(out)

    def batched(self, *arguments: PyTree) -> PyTree:
        """The map on a batch: every leaf with a leading axis of the same length, in one pass.

        Equal to stacking single applications; the vectors become tensors and the kernels stay BLAS.
        """
        try:
            value, leaves = self.domain.leaves(f"{self.name}.batched", arguments)
            n = self._batch_size(value, leaves)
        except (TypeError, ValueError) as error:
            note_line(error, calling_position())
            raise
        live = [leaves[i] for i in self.domain.live]
        return self.codomain.tree.unflatten(self._filled(self.apply_batched(live, n), n))

    def _batch_size(self, value: PyTree, leaves: Sequence[Value]) -> int:
        """The length of the leading axis of all live leaves of ``value``; `ValueError` names the
        path."""
        n = None
        for i in self.domain.live:
            leaf, aval = leaves[i], self.domain.avals[i]
            path = keystr(flatten_with_path(value)[0][i][0])
            where = f"{self.name}.batched: got {{}}{f' at {path}' if path else ''}"
            shape = np.shape(leaf)
            n = shape[0] if n is None and shape else n
            if shape[1:] != aval.shape or shape[:1] != (n,):
                wanted = ", ".join(["n", *map(str, aval.shape)]) + "," * (not aval.shape)
                raise ValueError(
                    f"{where.format(f'shape {shape}')}, but ({wanted}) is wanted, n the same for "
                    "all leaves"
                )
            if aval_of(operand(leaf)).dtype != aval.dtype:
                raise ValueError(
                    f"{where.format(aval_of(leaf))}, but {aval.dtype} is wanted.\n"
                    f"{advice(leaf, aval)}"
                )
        return int(n or 0)

    def apply_batched(self, leaves: Sequence[Value | None], n: int) -> list[Value | None]:
        """`apply` on leaves with a leading axis of length n."""
        trace = Batches(n)
        out = self.apply([None if x is None else Batched(x, trace) for x in leaves])
        return [None if y is None else trace.dense(y) for y in out]

    def _filled(self, values: Sequence[Value | None], n: int) -> list[Value]:
        rest = iter(values)
        out = []
        for aval in self.codomain.avals:
            value = None if aval.dtype == FLOAT0 else next(rest)
            out.append(fresh(value, Aval((n, *aval.shape), aval.dtype), False, set()))
        return out

    def dense(self, chunk_size: int | None = None) -> PyTree:
        """The matrix: for every pair of leaves an array of shape (*output, *input).

        Built from one batched pass of the cheaper direction. A tree of the codomain whose leaves
        are trees of the domain; 1-tuples of arguments unwrap.
        """
        from vjpkit.transforms.jacobians import dense

        return dense(self, chunk_size)

    # -- algebra -----------------------------------------------------------------------------------

    def _with(self, **changes: Any) -> LinearMap:
        fields = {s: getattr(self, s) for s in self.__slots__ if s != "_staged"}
        return LinearMap(**{**fields, **changes})

    @property
    def T(self) -> LinearMap:
        """The transpose: ``<ct, L t> == <L.T ct, t>``."""
        return self._with(
            transposed=not self.transposed, domain=self.codomain, codomain=self.domain
        )

    @property
    def H(self) -> LinearMap:
        """The conjugate transpose: ``vdot(ct, L t) == vdot(L.H ct, t)``; the adjoint."""
        avals = (*self.domain.live_avals, *self.codomain.live_avals)
        if all(a.dtype.kind == "f" for a in avals):
            return self.T
        return self.T._with(conjugated=not self.conjugated)

    def __matmul__(self, other: LinearMap) -> LinearMap:
        if isinstance(other, np.ndarray | np.generic | Tracer):
            raise TypeError(
                f"{self.name} @ x: a linear map is applied by a call, L(x); @ composes two of them"
                f"{at(calling_position())}"
            )
        if not isinstance(other, LinearMap):
            return NotImplemented
        inner, outer = _unwrapped(other.codomain), _unwrapped(self.domain)
        if inner != outer:
            raise ValueError(
                f"A @ B: B gives {other.codomain}, but A takes {self.domain}; the two have to agree"
            )
        return _staged_map(
            lambda xs: self.apply(other.apply(xs)),
            other.domain,
            self.codomain,
            f"{self.name} @ {other.name}",
        )

    def __add__(self, other: LinearMap) -> LinearMap:
        return self._combined(other, "+", lambda a, b: a + b)

    def __sub__(self, other: LinearMap) -> LinearMap:
        return self._combined(other, "-", lambda a, b: a - b)

    def _combined(
        self, other: LinearMap, sign: str, add: Callable[[Value, Value], Value]
    ) -> LinearMap:
        if not isinstance(other, LinearMap):
            return NotImplemented
        for mine, its, word in (
            (self.domain, other.domain, "take"),
            (self.codomain, other.codomain, "give"),
        ):
            if _unwrapped(mine) != _unwrapped(its):
                raise ValueError(f"A {sign} B: A and B {word} different trees: {mine} and {its}")

        def apply(xs: Sequence[Value]) -> list[Value | None]:
            pairs = zip(self.apply(xs), other.apply(xs), strict=True)
            zero = 0.0
            return [
                None
                if a is None and b is None
                else add(zero if a is None else a, zero if b is None else b)
                for a, b in pairs
            ]

        return _staged_map(apply, self.domain, self.codomain, f"{self.name} {sign} {other.name}")

    def __mul__(self, factor: Any) -> LinearMap:
        if not isinstance(factor, int | float | complex | np.generic):
            return NotImplemented

        def apply(xs: Sequence[Value]) -> list[Value | None]:
            return [
                None if y is None else (y * factor).astype(a.dtype)
                for y, a in zip(self.apply(xs), self.codomain.live_avals, strict=True)
            ]

        if isinstance(factor, complex) and any(
            a.dtype.kind != "c" for a in self.codomain.live_avals
        ):
            raise TypeError(
                "a real linear map times a complex number is not a map between the same spaces"
            )
        return _staged_map(apply, self.domain, self.codomain, f"{factor} * {self.name}")

    __rmul__ = __mul__

    def __neg__(self) -> LinearMap:
        return _staged_map(
            lambda xs: [None if y is None else -y for y in self.apply(xs)],
            self.domain,
            self.codomain,
            f"-{self.name}",
        )

    # -- looking inside ----------------------------------------------------------------------------

    def closed(self) -> ClosedProgram:
        """The linear program of this direction with its residual values; made once, when asked."""
        if self._staged is None:
            if isinstance(self.backing, Freed):
                self.backing.push(())
            if isinstance(self.backing, Programmed) and not self.transposed and not self.conjugated:
                self._staged = self.backing.closed
            else:
                self._staged = _stage(self.apply, self.domain, self.codomain)
        return self._staged

    @property
    def program(self) -> Program:
        """The linear IR: residuals; then the linear inputs."""
        return self.closed().program

    @property
    def residuals(self) -> list[Residual]:
        """What the map keeps in memory: name, shape, dtype, nbytes, and the user's line."""
        return self.backing.residuals()

    @property
    def nbytes(self) -> int:
        """Bytes of the residuals."""
        return sum(r.nbytes for r in self.residuals)

    def only(self, argnums: int | Sequence[int]) -> LinearMap:
        """The map restricted to some arguments: a smaller program, not a filter.

        For a pullback, the cotangents of those arguments alone; for a pushforward, tangents in
        those arguments alone. A single int still gives a 1-tuple of arguments.
        """
        side = self.codomain if self.codomain.star else self.domain
        if not side.star:
            raise TypeError(f"{self.name}.only: neither side of this map is a tuple of arguments")
        smaller, chosen = _restricted(side, argnums)
        if side is self.codomain:

            def select(xs: Sequence[Value]) -> list[Value | None]:
                out = self.apply(xs)
                return [out[i] for i in chosen]

            return _staged_map(select, self.domain, smaller, f"{self.name}.only({argnums})")

        def spread(xs: Sequence[Value]) -> list[Value | None]:
            inner: list[Value | None] = [None] * len(self.domain.live)
            for i, x in zip(chosen, xs, strict=True):
                inner[i] = x
            return self.apply(inner)

        return _staged_map(spread, smaller, self.codomain, f"{self.name}.only({argnums})")

    def compile(self) -> LinearMap:
        """The same map backed by straight-line code: pays after some twenty calls.

        Residual expressions (``cos(x)``) are evaluated once instead of at each call. A map that is
        used much becomes machine code, as a function under `jit` does.
        """
        backing = Programmed(self.closed(), "auto")
        return LinearMap(backing, self.domain, self.codomain, self.name)

    def free(self) -> None:
        """Drop rows and residuals; applying the map afterwards raises."""
        self.backing = Freed()
        self._staged = None

    def as_scipy(self) -> Any:
        """A ``scipy.sparse.linalg.LinearOperator`` on flattened, concatenated leaves.

        ``matvec`` applies the map, ``rmatvec`` its adjoint (`H`), ``matmat`` and ``rmatmat`` are
        batched. A map that is not complex-linear (a real part, say) is an error.
        """
        from vjpkit.transforms.jacobians import as_scipy

        return as_scipy(self)

    def __repr__(self) -> str:
        count, unit = self.backing.size()
        residuals = self.backing.residuals()
        memory = nbytes_text(sum(r.nbytes for r in residuals))
        return (
            f"<{self.name}: {self.domain} -> {self.codomain}, {count} {unit}, "
            f"{counted(len(residuals), 'residual')} of {memory}>"
        )

    def _repr_html_(self) -> str:
        title = repr(self)[1:-1].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"<p><code>{title}</code></p>{self.program._repr_html_()}"

    def __reduce__(self) -> Any:
        return _from_program, (self.closed(), self.domain, self.codomain, self.name)


def _from_program(closed: ClosedProgram, domain: Side, codomain: Side, name: str) -> LinearMap:
    return LinearMap(Programmed(closed), domain, codomain, name)


def _conjugate(x: Value) -> Value:
    return np.conjugate(x) if x.dtype.kind == "c" else x


def _unwrapped(side: Side) -> tuple[PyTreeDef, tuple[Aval, ...]]:
    """Tree and avals; a 1-tuple of arguments counts as its argument."""
    tree = side.tree
    if side.star and len(tree.children()) == 1:
        tree = tree.children()[0]
    return tree, side.avals


def _restricted(side: Side, argnums: int | Sequence[int]) -> tuple[Side, list[int]]:
    """A tuple side with some arguments only, and the positions of their live leaves."""
    children = side.tree.children()
    numbers = tuple(argnums) if isinstance(argnums, tuple | list) else (argnums,)
    if not all(isinstance(n, int) for n in numbers):
        raise TypeError(f"only: argnums must be an int or a tuple of ints, got {argnums!r}")
    for n in numbers:
        if not -len(children) <= n < len(children):
            raise ValueError(
                f"only: argnums {n} is out of range for {counted(len(children), 'argument')}"
            )
    numbers = tuple(n % len(children) for n in numbers)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"only: argnums {argnums} names an argument twice")
    starts = [0]
    for child in children:
        starts.append(starts[-1] + child.num_leaves)
    leaves = [i for n in numbers for i in range(starts[n], starts[n + 1])]
    _, tree = flatten(tuple(children[n].unflatten([0] * children[n].num_leaves) for n in numbers))
    smaller = dataclasses.replace(
        side,
        tree=tree,
        avals=tuple(side.avals[i] for i in leaves),
        scalars=tuple(side.scalars[i] for i in leaves),
    )
    live = side.live
    return smaller, [live.index(i) for i in leaves if i in live]


def _stage(
    apply: Callable[[Sequence[Value]], Sequence[Value | None]], domain: Side, codomain: Side
) -> ClosedProgram:
    builder = Builder()
    xs = [builder.argument(a) for a in domain.live_avals]
    out = dense_vectors(apply(xs), codomain.live_avals, builder)
    return builder.finish(out, linear=len(xs))


def _staged_map(
    apply: Callable[[Sequence[Value]], Sequence[Value | None]],
    domain: Side,
    codomain: Side,
    name: str,
) -> LinearMap:
    """A map backed by the program of ``apply``."""
    return LinearMap(Programmed(_stage(apply, domain, codomain)), domain, codomain, name)


def _flatten_map(m: LinearMap) -> tuple[list[Value], Any]:
    closed = m.closed()
    return list(closed.consts), (
        closed.program,
        closed.captured_names(),
        m.domain,
        m.codomain,
        m.name,
    )


def _unflatten_map(aux: Any, values: Iterable[Value]) -> LinearMap:
    program, names, domain, codomain, name = aux
    captured = tuple(
        Captured(value, source, label) for value, (label, source) in zip(values, names, strict=True)
    )
    return LinearMap(Programmed(ClosedProgram(program, captured)), domain, codomain, name)


register_pytree_node(LinearMap, _flatten_map, _unflatten_map)
