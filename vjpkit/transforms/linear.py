"""`LinearMap`: a pullback or a pushforward as a value.

A map is backed by the rows of a trace (fresh from `vjp`, nothing materialised) or by a `Program`
and the residual values of its leading inputs. Both can be applied forwards (push) and backwards
(pull), with arrays or with tracers, so transposing is a flag and everything else is a composition
of calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import ClosedTraceError, NotLinearError, Source, at, calling_position
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Equation, Program
from vjpkit.core.rows import Row, Rows, new_slots, pull_rows, push_rows, roles, walked
from vjpkit.core.staging import (
    Builder,
    Captured,
    ClosedProgram,
    builder_of,
    pull_staged,
    push_staged,
    seed_cotangents,
    transpose_into,
    unbound,
)
from vjpkit.core.tracer import Tracer, operand
from vjpkit.pytree import (
    PyTree,
    PyTreeDef,
    flatten,
    flatten_up_to,
    flatten_with_path,
    keystr,
    register_pytree_node,
)
from vjpkit.transforms.batch import Batched, Batches

__all__ = ["FLOAT0", "LinearMap", "Residual", "Side", "float0"]

FLOAT0 = np.dtype([("float0", np.void, 0)])
"""The dtype of tangents of integers and booleans: it has no values but zero (JAX's ``float0``)."""
float0 = FLOAT0


# -------------------------------------------------------------------------------------------- sides


@dataclass(frozen=True)
class Side:
    """Domain or codomain of a map: a tree of avals.

    ``star`` says that it is an argument tuple (called as ``L(*arguments)``, returned as a tuple);
    ``scalars`` marks leaves that are scalars rather than 0-d arrays.
    """

    tree: PyTreeDef
    avals: tuple[Aval, ...]
    scalars: tuple[bool, ...]
    star: bool

    @classmethod
    def of(cls, value: PyTree, star: bool) -> Side:
        """The space in which ``value`` lives."""
        leaves, tree = flatten(value)
        return cls.of_leaves(leaves, tree, star)

    @classmethod
    def of_leaves(cls, leaves: Sequence[Value], tree: PyTreeDef, star: bool) -> Side:
        avals = tuple([tangent_aval(x) for x in leaves])
        return cls(tree, avals, tuple([not isinstance(x, np.ndarray) for x in leaves]), star)

    @property
    def live(self) -> list[int]:
        """Leaves that have tangents at all."""
        return [i for i, a in enumerate(self.avals) if a.dtype != FLOAT0]

    @property
    def live_avals(self) -> list[Aval]:
        return [self.avals[i] for i in self.live]

    @property
    def size(self) -> int:
        """Number of real or complex coordinates."""
        return sum(a.size for a in self.live_avals)

    def read(self, name: str, arguments: tuple[Any, ...]) -> list[Value]:
        """The live leaves of a call's arguments, checked; `ValueError` names the path."""
        value, leaves = self.leaves(name, arguments)
        return [
            self._leaf(name, value, i, leaf)
            for i, leaf in enumerate(leaves)
            if self.avals[i].dtype != FLOAT0 or self._nothing(name, value, i, leaf)
        ]

    def leaves(self, name: str, arguments: tuple[Any, ...]) -> tuple[PyTree, list[Value]]:
        """The arguments as a tree, and all its leaves."""
        if not self.star and len(arguments) != 1:
            raise TypeError(f"{name} takes 1 argument (a value like {self}), got {len(arguments)}")
        value = arguments if self.star else arguments[0]
        if self.star and len(arguments) != len(self.tree.children()):
            count = len(self.tree.children())
            raise TypeError(
                f"{name} takes {count} argument{'s' * (count != 1)} {self}, got {len(arguments)}"
            )
        leaves, tree = flatten(value)
        if tree != self.tree:
            flatten_up_to(self.tree, value, f"{name}: the argument has the wrong tree", exact=True)
        return value, leaves

    def _nothing(self, name: str, value: PyTree, i: int, leaf: Value) -> bool:
        """False; raises for a tangent in an integer argument: it would be dropped in silence."""
        if self.star and not isinstance(leaf, Tracer):
            given = np.asarray(leaf)
            if given.dtype != FLOAT0 and np.any(given != 0):
                path = keystr(flatten_with_path(value)[0][i][0])
                raise ValueError(
                    f"{name}: got a tangent other than zero at {path}, where the argument is an "
                    "integer or a boolean.\nCast the argument to float to differentiate in it, or "
                    "pass zeros (np.zeros(shape, vk.float0))."
                )
        return False

    def _leaf(self, name: str, value: PyTree, i: int, leaf: Value) -> Value:
        wanted = self.avals[i]
        if type(leaf) is np.ndarray and leaf.shape == wanted.shape and leaf.dtype == wanted.dtype:
            return leaf
        if isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
            fits = wanted.shape == () and (
                wanted.dtype.kind == "c" or not isinstance(leaf, complex)
            )
            if fits:
                return wanted.dtype.type(leaf)
        elif hasattr(leaf, "dtype") and aval_of(leaf).strong() == wanted:
            return operand(leaf)
        path = keystr(flatten_with_path(value)[0][i][0])
        came = aval_of(leaf) if hasattr(leaf, "dtype") else type(leaf).__name__
        raise ValueError(
            f"{name}: got {came}{f' at {path}' if path else ''}, but {wanted} is wanted.\n"
            f"{_advice(leaf, wanted)}"
        )

    def build(self, values: Iterable[Value | None], keep: Iterable[Value] = ()) -> PyTree:
        """The tree of the given live leaves (None for zero), fresh and unaliased."""
        rest = iter(values)
        taken = {id(x) for x in keep}
        leaves = []
        for aval, scalar in zip(self.avals, self.scalars, strict=True):
            leaf = np.zeros(aval.shape, FLOAT0) if aval.dtype == FLOAT0 else next(rest)
            leaves.append(fresh(leaf, aval, scalar, taken))
        return self.tree.unflatten(leaves)

    def __str__(self) -> str:
        return str(self.tree.unflatten(list(self.avals)))


def _advice(leaf: Value, wanted: Aval) -> str:
    if hasattr(leaf, "dtype") and leaf.dtype != wanted.dtype:
        return f"Cast it: .astype(np.{wanted.dtype})."
    return f"Pass an array of shape {wanted.shape} and dtype {wanted.dtype}."


def tangent_aval(x: Value) -> Aval:
    """The aval of tangents at ``x``."""
    aval = aval_of(x)
    return aval.strong() if aval.inexact else Aval(aval.shape, FLOAT0)


def fresh(x: Value | None, aval: Aval, scalar: bool, taken: set[int]) -> Value:
    """``x`` as a result: dense, writable, sharing no memory with anything else."""
    if x is None:
        return aval.dtype.type(0) if scalar and not aval.shape else np.zeros(aval.shape, aval.dtype)
    if isinstance(x, Tracer):
        return x
    if not isinstance(x, np.ndarray):
        return x if scalar or not isinstance(x, np.generic) else np.array(x)
    if scalar and not x.shape:
        return x[()]
    if x.base is not None or id(x) in taken or not x.flags.writeable:
        x = x.copy()
    taken.add(id(x))
    return x


# ----------------------------------------------------------------------------------------- backings


@dataclass(frozen=True)
class Residual:
    """A value that a linear map keeps from the point at which it was made.

    ``name`` says which primitive's rule needs it; ``source`` is the user's line that asked for it.
    """

    name: str
    value: Value
    source: Source | None

    @property
    def shape(self) -> tuple[int, ...]:
        return aval_of(self.value).shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return aval_of(self.value).dtype

    @property
    def nbytes(self) -> int:
        return aval_of(self.value).nbytes

    def __repr__(self) -> str:
        where = "" if self.source is None else f"   ({self.source})"
        return f"{self.name}: {aval_of(self.value).strong()}, {nbytes_text(self.nbytes)}{where}"


def nbytes_text(n: float) -> str:
    """A number of bytes as people read it.

    >>> nbytes_text(240), nbytes_text(3.2e6)
    ('240 B', '3.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


class Backing(Protocol):
    """What a linear map computes with: both directions, on live leaves."""

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]: ...
    def pull(self, cts: Sequence[Value | None]) -> Sequence[Value | None]: ...
    def residuals(self) -> list[Residual]: ...
    def size(self) -> tuple[int, str]: ...


class Recorded:
    """The rows of a finished trace."""

    def __init__(
        self,
        trace: Rows,
        rows: list[Row],
        inputs: list[int],
        outputs: list[int | None],
        strict: bool,
    ) -> None:
        self.rows = rows
        self.guards = list(trace.guards.values())
        self.count = trace.new()
        self.inputs = inputs
        self.outputs = outputs
        self.strict = strict

    def check(self) -> None:
        for guard in self.guards:
            guard.check()

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]:
        self.check()
        slots = new_slots(self.count, self.strict)
        for i, t in zip(self.inputs, ts, strict=True):
            slots[i] = t
        builder = builder_of(ts)
        with np.errstate(all="ignore"):
            if builder is None:
                return walked(push_rows, self.rows, slots, self.outputs)
            push_staged(builder, self.rows, slots)
        return [None if k is None else slots[k] for k in self.outputs]

    def pull(self, cts: Sequence[Value | None]) -> Sequence[Value | None]:
        self.check()
        slots = new_slots(self.count, self.strict)
        seed_cotangents(slots, self.outputs, cts)
        builder = builder_of(cts)
        with np.errstate(all="ignore"):
            if builder is None:
                return walked(pull_rows, self.rows, slots, self.inputs)
            return pull_staged(builder, self.rows, slots, self.inputs)

    def residuals(self) -> list[Residual]:
        found: dict[int, Residual] = {}
        for row in self.rows:
            for name, value in _row_values(row):
                if id(value) not in found:
                    found[id(value)] = Residual(name, value, Source.of((row[2], row[3])))
        return list(found.values())

    def size(self) -> tuple[int, str]:
        return len(self.rows), "rows"


def _row_values(row: Row) -> Iterable[tuple[str, Value]]:
    """The arrays that a row holds, each named after its primitive."""
    primitive = getattr(row[0], "primitive", None)
    if primitive is None:
        return
    stack: list[Any] = list(row[4:])
    while stack:
        field = stack.pop()
        if isinstance(field, tuple | list):
            stack.extend(field)
        elif isinstance(field, np.ndarray | Tracer):
            yield primitive.name, field
        elif hasattr(field, "residuals"):  # the linear map of a call
            yield from [(r.name, r.value) for r in field.residuals()]


class Programmed:
    """A program, linear in its last inputs, and the residual values of the others.

    ``backend`` runs it on plain arrays.
    """

    def __init__(self, closed: ClosedProgram, backend: str = "numpy") -> None:
        self.closed = closed
        self.backend = backend

    def require_single(self, name: str) -> None:
        """Raise where the residuals are those of many examples: ``vmap`` returned the map."""
        for v, c in zip(self.closed.program.inputs, self.closed.captured, strict=False):
            shape = np.shape(c.value)
            if shape != v.aval.shape and shape[1:] == v.aval.shape:
                raise ValueError(
                    f"{name}: this map was returned from vmap and is one of {shape[0]} examples; "
                    f"called by itself it cannot tell which{at(calling_position())}.\n"
                    "Map it together with what it is applied to: "
                    "vk.vmap(lambda L, ct: L(ct))(L, cts)."
                )

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]:
        return self._run(self.closed, self.closed.consts, ts)

    def pull(self, cts: Sequence[Value | None]) -> Sequence[Value | None]:
        transposed = transpose_program(self.closed.program)
        return self._run(transposed, (*transposed.consts, *self.closed.consts), cts)

    def _run(
        self, closed: ClosedProgram, consts: Sequence[Value], xs: Sequence[Value | None]
    ) -> Sequence[Value]:
        program = closed.program
        avals = program.in_avals[len(program.inputs) - len(xs) :]
        dense = [
            np.zeros(a.shape, a.dtype) if x is None else x for x, a in zip(xs, avals, strict=True)
        ]
        from vjpkit.backends import executed

        with np.errstate(all="ignore"):
            return executed(program, [*consts, *dense], self.backend)

    def residuals(self) -> list[Residual]:
        return [Residual(c.name, c.value, c.source) for c in self.closed.captured]

    def size(self) -> tuple[int, str]:
        return len(self.closed.program.equations), "equations"


def _lowered(program: Program) -> Callable[..., tuple[Value, ...]]:
    """The function of arrays that `evaluate` runs; a backend is loaded when first needed."""
    from vjpkit.backends.numpy_source import lower

    return lower(program)


roles["lower"] = _lowered


def transpose_program(program: Program) -> ClosedProgram:
    """The transpose of a program in its linear inputs: residuals and cotangents to cotangents."""
    return program.cached("transpose", lambda: _transpose(program))  # type: ignore[no-any-return]


def _transpose(program: Program) -> ClosedProgram:
    builder = Builder()
    split = len(program.inputs) - program.linear
    residuals = [builder.argument(v.aval) for v in program.inputs[:split]]
    cts = [builder.argument(a.aval.strong()) for a in program.outputs]
    avals = [v.aval for v in program.inputs[split:]]
    pulled = transpose_into(builder, lambda *ts: evaluate(program, [*residuals, *ts]), avals, cts)
    closed = builder.finish(_dense(pulled, avals, builder), linear=len(cts))
    offender = unbound(closed.program)
    if offender is not None:
        raise NotLinearError(f"{offender!r} makes the function nonlinear{_where(offender)}")
    return closed


def _where(eqn: Equation) -> str:
    return "" if eqn.source is None else f"   ({eqn.source})"


def _dense(values: Sequence[Value | None], avals: Sequence[Aval], builder: Builder) -> list[Value]:
    """Zeros where a value is None, made in the program."""

    return [
        roles["fill"](builder, a.shape, 0, a.dtype) if v is None else v
        for v, a in zip(values, avals, strict=True)
    ]


class Freed:
    """What is left of a map after `LinearMap.free`."""

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]:
        raise ClosedTraceError("this linear map was freed; it cannot be applied any more")

    pull = push

    def residuals(self) -> list[Residual]:
        return []

    def size(self) -> tuple[int, str]:
        return 0, "rows (freed)"


# ---------------------------------------------------------------------------------------- LinearMap


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
        backing: Backing,
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
        _, leaves = self.domain.leaves(f"{self.name}.batched", arguments)
        live = [leaves[i] for i in self.domain.live]
        n = self._batch_size(live)
        return self.codomain.tree.unflatten(self._filled(self.apply_batched(live, n), n))

    def _batch_size(self, leaves: Sequence[Value]) -> int:
        for leaf, aval in zip(leaves, self.domain.live_avals, strict=True):
            if np.shape(leaf)[1:] != aval.shape or np.shape(leaf)[:1] != np.shape(leaves[0])[:1]:
                raise ValueError(
                    f"{self.name}.batched: got shape {np.shape(leaf)}, but (n, "
                    f"{', '.join(map(str, aval.shape))}) is wanted, n the same for all leaves"
                )
            if aval_of(operand(leaf)).dtype != aval.dtype:
                raise ValueError(
                    f"{self.name}.batched: got {aval_of(leaf)}, but {aval.dtype} is wanted.\n"
                    f"{_advice(leaf, aval)}"
                )
        return int(np.shape(leaves[0])[0])

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
            f"{len(residuals)} residual{'s' * (len(residuals) != 1)} of {memory}>"
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
            raise ValueError(f"only: argnums {n} is out of range for {len(children)} arguments")
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
    out = _dense(apply(xs), codomain.live_avals, builder)
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
