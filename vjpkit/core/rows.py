"""Eager recording: one row per primitive, and the two walks over the rows.

A row is a tuple::

    (pull, k, code, offset, *slots of the traced operands, *what the rule needs, ...)

``pull(row, ct, cts)`` adds to ``cts`` what the cotangent of slot ``k`` contributes to the operands'
slots; ``pull.push(row, ts)`` computes the tangent of slot ``k`` from the operands'. The rows of a
trace *are* the linearization at its point: walking them backwards pulls a cotangent back, walking
them forwards pushes a tangent. The values in a row may be arrays or tracers of outer traces; the
walks do not know the difference, which is what makes nesting, batching and staging fall out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from operator import mul
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import ClosedTraceError, Position, Source, at, calling_position
from vjpkit.core.tracer import LEVELS, ConcreteTracer, Tracer, named_info, refresh, require_open

__all__ = [
    "Cotangents", "Eager", "EagerScalar", "Parts", "Product", "Row", "Rows", "add_cotangent",
    "add_product", "annihilate", "filled_like", "pull_rows", "push_rows", "unbroadcast",
]  # fmt: skip

Row = tuple[Any, ...]
Cotangents = list[Any]


class Eager(ConcreteTracer):
    """A value of an eager trace, and the slot that stands for it in the trace's rows."""

    __slots__ = ()
    slot = named_info()

    def __init__(self, value: Value, trace: Rows, slot: int) -> None:
        self.value = value
        self.owner = trace
        self.slot = slot

    @property
    def shape(self) -> Shape:
        return self.value.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype  # type: ignore[no-any-return]


class EagerScalar(Eager):
    """An eager tracer of a Python number: promotes weakly, takes the general door."""

    __slots__ = ()

    @property
    def shape(self) -> Shape:
        return ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return aval_of(self.value).dtype


def eager(value: Value, trace: Rows, slot: int) -> Eager:
    """A tracer of the right kind for ``value``."""
    return (EagerScalar if type(value) in (float, complex) else Eager)(value, trace, slot)


# ---------------------------------------------------------------------------------------- the trace


class Rows:
    """An eager trace. Tracers point to it; it points to none of its own.

    ``append`` is the rows' own method until the trace is closed; then it raises, so that recording
    into a finished trace is caught without a test on the hot path. ``standard`` says that an array
    API namespace was asked for: then masks, too, have to be arrays of its kind.
    """

    __slots__ = (
        "append", "closed", "dirty", "guards", "inside", "level", "lifted", "name", "new", "rows",
        "standard",
    )  # fmt: skip

    def __init__(self, name: str = "a transformation") -> None:
        self.level = next(LEVELS)
        self.name = name
        self.rows: list[Row] = []
        self.append: Callable[[Row], None] = self.rows.append
        self.new: Callable[[], int] = itertools.count().__next__
        self.guards: dict[int, Guard] = {}
        self.closed = self.dirty = self.standard = False
        self.inside: Any = None
        self.lifted: list[Any] = []

    def argument(self, value: Value) -> Eager:
        """A tracer for a primal input."""
        return eager(value, self, self.new())

    def close(self) -> list[Row]:
        """End the trace: its tracers raise from now on. Returns the rows."""
        rows = self.rows
        self.rows = []
        self.append = partial(_append_closed, self.name)
        self.closed = True
        return rows

    def keep(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A plain array that a row is to hold: a copy if small, itself under guard if large.

        Nothing done to the user's array before the pullback runs can then change the result
        silently.
        """
        if x.nbytes <= COPY_LIMIT:
            # glibc's copy takes ten times as long where some processors find both alike in a page.
            return np.multiply(x, 1) if x.nbytes > 32_768 and x.dtype.kind == "f" else x.copy()
        if id(x) not in self.guards:
            self.guards[id(x)] = Guard(x, calling_position())
        return x

    def operands(self, xs: list[Value]) -> tuple[list[Value], list[int | None]]:
        """Values, and slots of those that are this trace's."""
        values: list[Value] = []
        slots: list[int | None] = []
        for x in xs:
            if isinstance(x, Eager) and x.owner is self:
                if self.dirty:
                    x = refresh(x)
                values.append(x.value)
                slots.append(x.slot)
            else:
                values.append(roles["snapshot"](x) if isinstance(x, Tracer) else x)
                slots.append(None)
        return values, slots

    def process(self, primitive: Any, xs: list[Value], params: dict[str, Any]) -> Value:
        values, slots = self.operands(xs)
        return primitive.record(self, values, slots, params)

    def lower(self, y: Value) -> Value:
        """The value of an output of this (closed) trace's function."""
        if isinstance(y, Tracer):
            if y.owner.dirty:
                y = refresh(y)
            if y.owner is self or y.owner.level == 0:
                y = y.value
            elif y.owner.level > self.level:
                raise ClosedTraceError(
                    f"{self.name}: the function returned a traced value of an inner transformation "
                    f"that has finished; its derivative would be lost{at(calling_position())}"
                )
        return require_open(y)

    def restore(self) -> None:
        """Let handles from outside that were written to go back to their primal values."""
        if self.lifted:
            roles["restore"](self)

    def slot_of(self, y: Value) -> int | None:
        """The slot of an output, or None where it does not depend on the inputs."""
        if isinstance(y, Tracer) and y.owner.dirty:
            y = refresh(y)
        return y.slot if isinstance(y, Eager) and y.owner is self else None


def _append_closed(name: str, row: Row) -> None:
    """What ``append`` is once the trace has ended."""
    source = Source.of((row[2], row[3]))
    raise ClosedTraceError(
        f"a traced value of {name} was used after {name} had finished"
        f"{'' if source is None else f'   ({source})'}.\n"
        "Return values from the function (has_aux=True for extra ones) instead of storing them in "
        "variables outside it; what comes back is plain arrays."
    )


# ------------------------------------------------------------------------------------------- guards

COPY_LIMIT = 262_144


class Guard:
    """Notices a change of a large array between its capture and the pullback.

    64 sums over blocks of the array's bytes: position-dependent between blocks, exact for any
    change that is not a permutation inside one block; about a third of one elementwise operation.
    """

    __slots__ = ("array", "position", "print")

    def __init__(self, array: np.ndarray[Any, Any], position: Position) -> None:
        self.array = array
        self.position = position
        self.print = fingerprint(array)

    def check(self) -> None:
        if not np.array_equal(fingerprint(self.array), self.print):
            raise ClosedTraceError(
                f"an array of shape {self.array.shape} that a traced function used was changed in "
                f"place before the program or pullback ran; it was used here:{at(self.position)}.\n"
                "Run the pullback before changing the array, or use a copy of it."
            )


def fingerprint(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """64 block sums over the bytes of ``x`` in memory order."""
    if not x.flags.forc:
        x = np.ascontiguousarray(x)
    words = x.reshape(-1, order="A").view(np.uint8)
    n = words.size // 512 * 512
    head = words[:n].view(np.uint64).reshape(64, -1)
    sums = np.add.reduce(head, axis=1)
    tail = int.from_bytes(words[n:].tobytes()[:511], "little") % (1 << 61)
    sums[0] ^= np.uint64(tail)
    return np.asarray(sums)


# ------------------------------------------------------------------------ cotangents, and their sum


def add_cotangent(cts: Cotangents, i: int, ct: Value) -> None:
    """A second or later contribution to slot ``i`` (a pull stores the first one itself).

    The sum is fresh, so it is ours: from the third contribution on it is added to in place.
    """
    old = cts[i]
    if type(old) is Parts:
        old.add_whole(ct)
        return
    owned = cts[-1]
    if i in owned and type(ct) is np.ndarray:
        np.add(old, ct, out=old)
        return
    new = cts[i] = old + ct
    if type(new) is np.ndarray:
        owned.add(i)
    else:
        owned.discard(i)


class Parts(list[Any]):
    """A traced cotangent collected part by part: ``[aval, (index, ct), ...]``, index None for
    whole.

    Summed by one equation when the slot is read, so that n element reads cost O(n), staged too.
    A part may be a `Product` that nobody has multiplied out yet.
    """

    __slots__ = ()

    def add_whole(self, ct: Value) -> None:
        """Another contribution to the whole; one before all parts is added to at once."""
        if len(self) == 2 and self[1][0] is None and type(self[1][1]) is not Product:
            self[1] = None, self[1][1] + ct
        else:
            self.append((None, ct))


class Product:
    """``u vᵀ``, a contribution to the cotangent of matrices A, not multiplied out.

    ``w`` is Aᵀu and ``z`` is A v: who factorized A pulls such a product back at the cost of its
    rank.
    """

    __slots__ = ("u", "v", "w", "z")

    def __init__(self, u: Value, v: Value, w: Value, z: Value) -> None:
        self.u, self.v, self.w, self.z = u, v, w, z

    def mirrored(self) -> Product:
        """The same contribution to the cotangent of Aᵀ."""
        return Product(self.v, self.u, self.z, self.w)


_MANY_PARTS = 32


def add_product(cts: Cotangents, i: int, product: Product, aval: Aval) -> None:
    """Collect a product as a part of slot ``i``, whose matrices have the given aval.

    Products are multiplied out, many at once, before they take more memory than their sum.
    """
    old = cts[i]
    if type(old) is not Parts:
        whole = [] if old is None else [(None, old)]
        old = cts[i] = Parts([aval, *whole])
        cts[-1].difference_update((i, ~i))
    old.append((None, product))
    products = [ct for _, ct in old[1:] if type(ct) is Product]
    if len(old) > _MANY_PARTS or sum([p.v.shape[-1] for p in products]) > aval.shape[-1]:
        cts[i] = settled(old)


def settled(ct: Value, pull: Any = None) -> Value:
    """The value of a cotangent slot; its parts, where ``pull`` takes them as they are."""
    if type(ct) is not Parts or getattr(pull, "takes_parts", False):
        return ct
    return roles["sum_parts"](ct)


def unbroadcast(ct: Value, shape: Shape, dtype: np.dtype[Any]) -> Value:
    """Add up whatever broadcasting repeated, and undo promotion."""
    given = ct.shape
    if given != shape:
        lead = len(given) - len(shape)
        if lead and given[lead:] == shape and type(ct) is _ndarray:
            total = added_rows(ct, lead)
            return total if total.dtype is dtype else cast(total, dtype)
        stretched = [i + lead for i, n in enumerate(shape) if n == 1 and given[i + lead] != 1]
        axes = (*range(lead), *stretched)
        if axes:
            ct = np.add.reduce(ct, axes) if type(ct) is np.ndarray else np.sum(ct, axis=axes)
        if ct.shape != shape:
            ct = np.reshape(ct, shape)
    return cast(ct, dtype)


def added_rows(x: np.ndarray[Any, Any], lead: int) -> Value:
    """The sum over the first ``lead`` axes: BLAS adds rows several times faster than NumPy.

    Unless they are so many that it splits them among threads, which wait where there is one core.
    """
    if x.ndim > lead and 0 < x.size < 1 << 18 and x.dtype.char in "fd" and x.flags.c_contiguous:
        count = len(x) if lead == 1 else prod(x.shape[:lead])
        rows = x if x.ndim == 2 else x.reshape(count, -1)
        total = (_ones if count < _MANY else np.ones)(count, x.dtype.char).dot(rows)
        return total if x.ndim == 2 else total.reshape(x.shape[lead:])
    return _add_reduce(x, tuple(range(lead)))


_ones = lru_cache(maxsize=32)(np.ones)


def cast(ct: Value, dtype: np.dtype[Any]) -> Value:
    """A tangent or cotangent in another dtype; complex to real takes the real part."""
    if ct.dtype == dtype:
        return ct
    if ct.dtype.kind == "c" and dtype.kind != "c":
        ct = ct.real
    return ct.astype(dtype)


def stretch(t: Value, shape: Shape, dtype: np.dtype[Any]) -> Value:
    """A tangent in the shape and dtype of an output that broadcast its operand."""
    if t.shape != shape:
        t = np.broadcast_to(t, shape)
    return cast(t, dtype)


def annihilate(ct: Value, factor: Value) -> Value:
    """``ct * factor`` in which an exact zero wins over inf and nan.

    An operation whose partial derivative is not finite contributes nothing where its cotangent is
    exactly zero: a branch that ``where`` did not select never makes a nan. Every product of a
    derivative can come through here, so the test for nan is the quickest that NumPy has.
    """
    if isinstance(ct, Tracer) or isinstance(factor, Tracer):
        return _annihilate_traced(ct, factor)
    out = ct * factor
    if not has_nan(out):
        return out
    fixed = np.where((ct == 0) | (factor == 0), 0, out).astype(out.dtype)
    return fixed if type(out) is _ndarray else fixed[()]


_ndarray = np.ndarray
_add_reduce = np.add.reduce
_maximum_reduce = np.maximum.reduce


_MANY = 1 << 16


def has_nan(x: Value) -> bool:
    """Whether some element is nan, which NumPy's argmax takes for the greatest of all.

    Many real numbers are read faster by their maximum, which is nan if one of them is. (A sum of
    squares by BLAS would be no faster in one thread, and waits for others where there are two.)
    """
    if type(x) is _ndarray:
        size = x.size
        if size > 4096:
            x = x.ravel("K")
        if size < _MANY or x.dtype.char not in "fd":
            x = x.item(x.argmax()) if size else 0
        else:
            x = _maximum_reduce(x)
    return x != x  # type: ignore[no-any-return]  # values are untyped


def _annihilate_traced(ct: Value, factor: Value) -> Value:
    """As `annihilate`; a plain product of the tracers, wherever zero has nothing to win over."""
    below = innermost(ct), innermost(factor)
    if any(isinstance(x, Tracer) for x in below):  # staged: not known before the program runs
        known = any(not isinstance(x, Tracer) and _is_tame(x) for x in below)
        return ct * factor if known else roles["annihilate"](ct, factor)
    out = ct * factor
    return roles["annihilate"](ct, factor) if has_nan(innermost(out)) else out


def _is_tame(x: Value) -> bool:
    """Whether every element is finite and none is zero."""
    return bool(x) if type(x) is int else bool(np.isfinite(x).all() and np.all(x))


def innermost(x: Value) -> Value:
    """The array below the tracers, or the staged value that has none."""
    while isinstance(x, Tracer) and hasattr(x, "value"):
        x = x.value
    return x


plain_product = mul
"""``ct * factor`` in plain IEEE arithmetic: the product of ``strict=True``, and of a first walk."""


roles: dict[str, Callable[..., Any]] = {}
"""The few operations the mechanism itself needs on traced values; `vjpkit.ops` supplies them."""


def filled_like(x: Value, value: float) -> Value:
    """``value`` in the shape and dtype of ``x``; staged where the innermost value of ``x`` is."""
    if type(x) is np.float64:
        return np.float64(value)
    aval = aval_of(x)
    dtype = aval.dtype if aval.inexact else np.dtype(np.float64)
    inner = innermost(x)
    if isinstance(inner, Tracer):
        return roles["fill"](inner.owner, aval.shape, value, dtype)
    if aval.shape == () and type(inner) is not np.ndarray:
        return dtype.type(value)
    return np.full(aval.shape, value, dtype)


# ------------------------------------------------------------------------------------ the two walks


def new_slots(count: int, strict: bool = False) -> Cotangents:
    """Empty slots; the last two entries are the product to use and a set of marks: ``i`` where the
    buffer in slot i is ours, ``~i`` where its first contribution is known to hold no nan, STRICT
    where the product is plain because the user has asked for that."""
    return [*[None] * count, *((plain_product, {STRICT}) if strict else (annihilate, set()))]


STRICT = "strict"


class NanMetError(ArithmeticError):
    """A first walk has come with a nan to a rule that may do anything with it."""


def popped(rows: list[Row]) -> Iterator[Row]:
    """The rows from the last to the first; nobody holds those that have been."""
    while rows:
        yield rows.pop()


def pull_rows(rows: list[Row], cts: Cotangents, free: bool = False) -> None:
    """Walk backwards: pull the cotangents in ``cts`` back to the inputs' slots.

    ``free`` consumes the rows, so that residuals die as soon as they have been used; a slot's
    cotangent always dies as soon as it has been used.
    """
    for row in popped(rows) if free else reversed(rows):
        k = row[1]
        ct = cts[k]
        if ct is not None:
            cts[k] = None
            row[0](row, ct if type(ct) is not Parts else settled(ct, row[0]), cts)


def walked(
    walk: Callable[[list[Row], Cotangents], None],
    rows: list[Row],
    slots: Cotangents,
    wanted: Sequence[int | None],
) -> list[Value | None]:
    """The wanted slots after a walk over the rows, `pull_rows` or `push_rows`: first with plain
    products, and only where nan arrives again with products in which zero wins.

    Products are nearly always finite, so testing each of them would cost more than walking twice
    where one was not. A nan that plain products make cannot get lost on the way: it is multiplied
    and added up, or met by a selection that gives the same zero to what annihilation would have
    given; a rule that may do more with it, as a solver that compares, raises `NanMetError`.
    """
    if slots[-2] is annihilate:
        marks: set[int] = set()
        plain = [*slots[:-2], plain_product, marks]
        try:
            walk(rows, plain)
        except NanMetError:
            walk(rows, slots)
            return wanted_slots(slots, wanted)
        out: list[Value | None] = []
        for i in wanted:
            if i is None or (x := plain[i]) is None:
                x = None
            elif type(x) is not _ndarray:
                x = settled(x)
                if may_have_nan(x):
                    break
            elif (~i not in marks or i in marks) and has_nan(x):
                break
            out.append(x)
        else:
            return out
    walk(rows, slots)
    return wanted_slots(slots, wanted)


def wanted_slots(slots: Cotangents, wanted: Sequence[int | None]) -> list[Value | None]:
    """The values of some slots; None for slots of values that depend on nothing."""
    return [
        None if i is None else slots[i] if type(slots[i]) is not Parts else settled(slots[i])
        for i in wanted
    ]


def may_have_nan(x: Value) -> bool:
    """Whether some element is nan, or nobody knows yet."""
    if type(x) is not _ndarray:
        x = innermost(x)
        if isinstance(x, Tracer):
            return True
    return has_nan(x)


KEEP_LIMIT = 1 << 26


def residual_bytes(rows: list[Row]) -> int:
    """About how much memory the rows hold: each has the largest thing it keeps at its end."""
    return sum([x.nbytes for row in rows if type(x := row[-1]) is _ndarray])


def pull_once(rows: list[Row], cts: Cotangents, wanted: Sequence[int | None]) -> list[Value | None]:
    """`walked` backwards over rows that nobody needs afterwards; large residuals die when used."""
    if residual_bytes(rows) > KEEP_LIMIT:
        pull_rows(rows, cts, free=True)
        return wanted_slots(cts, wanted)
    return walked(pull_rows, rows, cts, wanted)


def push_rows(rows: list[Row], ts: Cotangents) -> None:
    """Walk forwards: push the tangents in ``ts`` on to every slot that depends on them."""
    for row in rows:
        row[0].push(row, ts)
