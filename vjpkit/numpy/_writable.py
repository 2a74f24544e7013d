"""In-place assignment on traced arrays: mutable handles over functional rows.

A tracer is a handle. A write finds the handle's root, records one functional `update` there, and
lets the root take over the result; rows never see handles, only slots and values. A view knows its
parent and the step that led from it; after a write it replays that step the next time it is read.
Whether something is a view is asked of NumPy on the value, never guessed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.rows import Eager, Rows, innermost, roles
from vjpkit.core.staging import Builder, Staged
from vjpkit.core.tracer import LEVELS, ConcreteTracer, Tracer, dispatch_rest, operand
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._overlap import overlaid, reads_what_it_writes
from vjpkit.numpy._selected import (
    Selected,
    has_unknown_mask,
    mask_in_front,
    placed,
    same_mask,
    selected,
    wide,
)
from vjpkit.numpy._views import (
    Root,
    View,
    base_of,
    chain_of,
    count_write,
    is_abstract,
    marked,
    require_certain,
    require_unlocked,
    root_of,
    version,
)
from vjpkit.ops import structural
from vjpkit.ops.index import Index, is_basic, normalized, split_index
from vjpkit.ops.indexing import getitem, read
from vjpkit.ops.updates import Steps, copy_with_layout, through, update, write_into

__all__ = [
    "STANDARD",
    "Plain",
    "array_of_no_axis",
    "copied",
    "hold_all",
    "in_place",
    "is_array",
    "keep_standard",
    "view",
    "viewed",
    "without_reuse",
    "writable",
    "write",
    "write_whole",
]


# --------------------------------------------------------------------------- plain writable handles


class Plain(Tracer):
    """An array of constants that accepts traced values: what ``np.zeros_like(traced)`` gives.

    Belongs to the lowest trace of all, so it never decides anything; the first traced value written
    to it turns it into a handle of that value's trace.
    """

    __slots__ = ()

    def __init__(self, value: np.ndarray[Any, Any], owner: PlainTrace | None = None) -> None:
        self.value = value
        self.owner = owner or PLAIN
        self.info = next(LEVELS)

    @property
    def aval(self) -> Aval:
        return aval_of(self.value)

    def concrete(self) -> Value:
        value = below(self)
        return value.concrete() if isinstance(value, Tracer) else value

    def constants(self) -> Value:
        """The array; the tracer that it has become where its root was written to."""
        value = below(self)
        return value if type(self) is Plain else self

    def __float__(self) -> float:
        return float(self.constants())

    def __complex__(self) -> complex:
        return complex(self.constants())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.constants(), dtype)

    def __repr__(self) -> str:
        return repr(self.constants())

    def __str__(self) -> str:
        return str(self.constants())


class PlainTrace:
    """Computes with the values of plain handles; nothing is recorded. Arrays stay writable.

    In a ``standard`` one single elements stay handles too, as the array API standard has it: there
    they are arrays of no axis.
    """

    level = 0
    closed = False
    dirty = True
    inside = None

    def __init__(self, standard: bool) -> None:
        self.standard = standard

    def process(self, primitive: Any, xs: list[Value], params: dict[str, Any]) -> Value:
        standard = any(type(x) is Plain and x.owner is STANDARD for x in xs)
        out = primitive(*[refresh(x).value if type(x) is Plain else x for x in xs], **params)
        hold = hold_all if standard else hold_arrays
        return primitive.pack(tuple(map(hold, primitive.unpack(out))))


PLAIN = PlainTrace(standard=False)
STANDARD = PlainTrace(standard=True)


def hold_arrays(x: Value) -> Value:
    """A plain array as a handle."""
    return Plain(x) if type(x) is np.ndarray else x


def hold_all(x: Value) -> Value:
    """A plain array or element as a handle of the array API standard's."""
    return Plain(np.asarray(x), STANDARD) if isinstance(x, np.ndarray | np.generic) else x


def keep_standard(x: Tracer) -> None:
    """From now on computations with ``x`` give arrays of one kind, masks and elements too."""
    if type(x) is Plain:
        x.owner = STANDARD
    else:
        x.owner.standard = True


def writable(value: np.ndarray[Any, Any]) -> Plain:
    """A fresh array as a handle that accepts traced values."""
    return Plain(value)


# ------------------------------------------------------------------------------------------ reading


def snapshot(x: Tracer) -> Value:
    """The present value of a handle, without its past: what other traces may hold."""
    if type(x) is Plain:
        return x.value
    frozen = object.__new__(type(x))
    for name in ("value", "owner", "info"):
        with contextlib.suppress(AttributeError):
            setattr(frozen, name, getattr(x, name))
    return frozen


def held(x: Tracer) -> Value:
    """The present value of a handle as a value of its own, which writes to the handle do not change
    nor it them."""
    x = refresh(x)
    frozen = snapshot(x)
    return array_of_no_axis(frozen) if not x.shape and is_array(x) else frozen


def copied(x: Tracer) -> Tracer:
    """A copy of an array: a root of its own that shares the buffer until one of them is written."""
    x = refresh(x)
    return Plain(x.value.copy()) if type(x) is Plain else snapshot(x)


def adopt(x: Tracer, new: Value) -> None:
    """Let a handle stand for another value from now on."""
    if not isinstance(new, Tracer):
        new = Plain(new)
    x.__class__ = type(new)
    for name in ("value", "owner", "info"):
        if hasattr(new, name):
            setattr(x, name, getattr(new, name))
        elif hasattr(x, name):  # an abstract value has none below it
            delattr(x, name)


def refresh(x: Tracer) -> Tracer:
    """``x`` after the writes to its root, if it is a view of one.

    Where a function is being staged that reads it as a value from outside, as an abstract value of
    that function's.
    """
    if x.owner.inside is not None and x.owner.inside.takes(x):
        return x.owner.inside.taken(x)  # type: ignore[no-any-return]  # a trace's is untyped
    return settled(x)


def settled(x: Tracer) -> Tracer:
    """``x`` after the writes to its root, if it is a view of one."""
    base = base_of(x)
    if type(base) is not View:
        return x
    root, steps, _ = chain_of(x)
    now = version(root)
    if base.seen != now:
        require_certain(x)
        adopt(x, private(through(snapshot(root), steps)))
        if not x.shape:
            marked_within(x)
        base.seen = now
    return x


def below(x: Tracer) -> Value:
    """The value that ``x`` carries now: ``x`` itself where it has become abstract by a write."""
    if not x.owner.closed:
        settled(x)
    return x.value if isinstance(x, ConcreteTracer | Plain) else x


def restore(trace: Rows) -> None:
    """Give arrays from outside that ``trace`` wrote to their primal values back, at its end."""
    for root in trace.lifted:
        if root.owner is trace:
            adopt(root, root.value)
            count_write(root)


dispatch_rest("below", below)
dispatch_rest("refresh", refresh)
roles["held"] = held
roles["restore"] = restore
roles["snapshot"] = snapshot


def private(x: Value) -> Value:
    """A slice of an array that is being written to: copied, so that it does not pin the buffer.

    With its strides, because these decide whether NumPy reshapes by view or by copy.
    """
    if isinstance(x, np.ndarray):
        return x if x.base is None else copy_with_layout(x)
    if isinstance(x, Tracer) and isinstance(getattr(x, "value", None), np.ndarray | Tracer):
        x.value = private(x.value)
    return x


def _has_ellipsis(index: Any) -> bool:
    """Whether an index without arrays gives an array even of shape ``()``."""
    return index is Ellipsis or (type(index) is tuple and any(e is Ellipsis for e in index))


def is_view(out: Value, x: Value) -> bool:
    """Whether NumPy gave a view of ``x`` rather than a copy, at the innermost value.

    Of a staged value the layout is not known: everything that can be a view counts as one, and a
    reshape that is written to, or read after a write, is an error.
    """
    if not is_array(x):
        return False
    if is_abstract(x):
        return isinstance(out, Tracer)
    while isinstance(x, Tracer):
        if type(out) is Staged:  # of a mapped array, in a function that is staged inside
            return True
        if not isinstance(out, Tracer):
            return False
        x, out = x.value, out.value
    return (
        type(out) is np.ndarray
        and out.size > 0
        and not isinstance(x, np.generic)
        and out.base is not None
        and bool(np.may_share_memory(out, x))
    )


def view(primitive: Any, x: Value, readonly: bool = False, **params: Any) -> Value:
    """What a structural primitive gives, remembered as a view where NumPy gives one."""
    out = primitive(x, **params)
    hot = type(out) is Eager and type(out.value) is np.ndarray and out.owner is x.owner
    if hot and not x.owner.dirty:
        value, base = x.value, out.value.base
        if base is None:
            return out
        if base is value or base is value.base:
            out.origin = View(x, (primitive.name, params), readonly, False, 0)
            return out
    return viewed(out, x, (primitive.name, params), readonly)


def viewed(
    out: Value, x: Tracer, how: Any, readonly: bool = False, is_index: bool = False
) -> Value:
    """``out``, remembered as the view of the handle ``x`` that ``how`` leads to."""
    scalar = is_index and not out.shape and not _has_ellipsis(how)
    if isinstance(out, Tracer) and not scalar and is_view(out, x):
        root = root_of(x)
        out.origin = View(x, how, readonly, is_index, version(root))
        if not out.shape:
            marked_within(out)
        if version(root):
            private(out)
    elif not out.shape and not scalar and (is_index or how[0] in _ARRAYS):
        return array_of_no_axis(out)
    return out


_ARRAYS = "broadcast_to", "reshape"
"""Steps that lead from a scalar to an array."""


def array_of_no_axis(out: Value) -> Value:
    """A result as an array where it has the shape ``()``, as few of NumPy's functions give it."""
    if not isinstance(out, Tracer):
        return np.asarray(out)
    if is_array(out):
        return out
    if not isinstance(innermost(out), Tracer | np.ndarray):
        return structural.reshape(out, shape=())
    out = snapshot(out)  # another handle than the scalar's
    if not marked_within(out):
        marked(out).array = True
    return out


def marked_within(out: Tracer) -> bool:
    """Whether the value of ``out`` is traced too, and marked as an array: it may outlive ``out``.

    An example has fewer axes than its batch.
    """
    value = getattr(out, "value", None)
    if not isinstance(value, Tracer) or value.shape:
        return False
    out.value = array_of_no_axis(value)
    return True


# ------------------------------------------------------------------------------------------ writing

reuse = True
"""Whether buffers that nobody else holds are written in place; the results are the same."""


def references(x: Tracer) -> int:
    """References to the value of ``x``, counted always in the same way."""
    return sys.getrefcount(x.value)


def _calibrate() -> int | None:
    """What `references` says of a value that only its tracer holds; None where counting is
    unsound."""
    probe = Plain(np.empty(3))
    alone = references(probe)
    alias = probe.value
    shared = references(probe)
    del alias
    view = probe.value[1:]
    seen = references(probe)
    del view
    return alone if (shared, seen, references(probe)) == (alone + 1, alone + 1, alone) else None


_ALONE = _calibrate()


def is_alone(x: Tracer) -> bool:
    """Whether the value of ``x`` may be written in place: only ``x`` refers to it."""
    if not reuse or _ALONE is None or references(x) > _ALONE:
        return False
    value = x.value
    if isinstance(value, Tracer):
        return True
    return bool(value.base is None and value.flags.owndata and value.flags.writeable)


def write(x: Tracer, index: Any, value: Value) -> None:
    """``x[index] = value`` as NumPy does it, recorded functionally."""
    if isinstance(value, Selected) or has_unknown_mask(index):
        write_selected(x, index, value)
        return
    if isinstance(value, Tracer):
        value = refresh(value)
        if is_own_view(x, index, value):
            return
        if root_of(value) is root_of(x) and reads_what_it_writes(x, index, value):
            index, value = as_numpy_leaves_it(x, index, value)
    else:
        value = operand(value)
    require_array(x)
    root, steps, readonly = chain_of(x)
    require_certain(x)
    require_unlocked(root)
    if readonly:
        raise ValueError(
            f"assignment destination is read-only{at(calling_position())}{advice(steps)}"
        )
    static, arrays = split_index(index)
    value = fitted(x, static, arrays, value)
    root.owner.dirty = True  # for the views that there are: what is written may change the owner
    store(root, steps, static, arrays, value)
    if not root.shape:
        marked_within(root)
    count_write(root)
    root.owner.dirty = True


def write_selected(x: Tracer, index: Any, value: Any) -> None:
    """``x[index] = value`` where it is not known what a mask selects: a choice at each place.

    ``value`` is what the same mask selects, the same for all that it selects, or one for each: that
    there are not as many is an error when the program runs.
    """
    whole = x
    x, mask, place = mask_in_front(x, index)
    if isinstance(value, Selected):
        if place or not same_mask(mask, value.mask):
            value.refuse("writing it with another index")
        value = fitted(x, Index((Ellipsis,)), [], value.values)
    else:
        value = value if isinstance(value, Tracer) else operand(value)
        if x is whole and mask.ndim == x.ndim and np.ndim(value) > 1:
            raise TypeError(
                "NumPy boolean array indexing assignment requires a 0 or 1-dimensional input, "
                f"input has {np.ndim(value)} dimensions{at(calling_position())}"
            )
        value = fitted_in_front(fitted(x, Index((Ellipsis,)), [], value), x, mask, place)
    write(x, Ellipsis, np.where(wide(x, mask), value, x))


def fitted_in_front(value: Value, x: Tracer, mask: Tracer, place: int) -> Value:
    """What is written to the elements of ``x`` that the mask selects, along axis ``place`` of the
    value, at all places."""
    axes = 1 + x.ndim - mask.ndim
    shape = aval_of(value).shape
    if len(shape) < axes:
        if not place:
            return value
        shape = (1,) * (axes - len(shape)) + shape
    extra = len(shape) - axes
    if shape[:extra] != (1,) * extra:
        raise ValueError(
            f"could not broadcast input array from shape {shape} to the {axes} axes of what a mask "
            f"selects{at(calling_position())}"
        )
    value = np.moveaxis(np.reshape(value, shape[extra:]), place, 0)
    count = value.shape[0]
    return placed(x, mask, np.broadcast_to(value, (count, *x.shape[mask.ndim :])))


def require_array(x: Tracer) -> None:
    """NumPy's error where a scalar is written to, which is what computing with arrays of no axis
    gives. In the array API standard there are no scalars."""
    if not is_array(x) and not x.owner.standard:
        kind = "float" if x.aval.weak else x.dtype.name
        raise TypeError(
            f"'{kind}' object does not support item assignment{at(calling_position())}\n"
            "NumPy's functions and operators give scalars, not arrays of no axis: rebind the "
            "name, or write to a copy that is an array, np.copy(x)."
        )


def as_numpy_leaves_it(x: Tracer, index: Any, value: Tracer) -> tuple[Any, Value]:
    """An assignment that does not read what it writes, and leaves what ``x[index] = value`` does.

    >>> import numpy as np, vjpkit as vk
    >>> def f(x):
    ...     y = x.copy()
    ...     y[0:8:2] = y[0:4]  # the third number read has been written by then
    ...     return y
    >>> vk.jvp(f, (np.arange(8.0),), (np.ones(8),))[0].tolist()
    [0.0, 1.0, 1.0, 3.0, 1.0, 5.0, 3.0, 7.0]
    """
    entries = normalized(index)
    if any(map(is_tracer, entries)):
        return index, value

    def operation(values: Sequence[np.ndarray[Any, Any]], out: np.ndarray[Any, Any]) -> None:
        out[entries] = values[0]

    left = overlaid("an assignment", x, [value], operation)
    return (index, value) if left is None else (Ellipsis, left)


def advice(steps: Steps) -> str:
    """Where NumPy would write, what to write instead."""
    if any(name in ("real", "imag") for name, _ in steps):
        return (
            "\nA part of a traced complex array cannot be written alone: write both, "
            "z[...] = x + 1j * y."
        )
    return ""


def is_own_view(x: Tracer, index: Any, value: Tracer) -> bool:
    """Whether this is the second half of ``x[index] += value``, which has happened already."""
    base = base_of(value)
    if type(base) is not View:
        return False
    same = base.is_index and base.parent is x and base.how is index
    return same and base.seen == version(root_of(x))


def fitted(x: Tracer, index: Index, arrays: list[Value], value: Value) -> Value:
    """The value in the dtype of ``x`` and without superfluous leading axes."""
    dtype = x.dtype
    if isinstance(value, Tracer) and value.aval.inexact:
        if dtype.kind not in "fc":
            _refuse_dtype(x, value, "an array of whole numbers would drop its derivative")
        if value.dtype.kind == "c" and dtype.kind != "c":
            _refuse_dtype(x, value, "a real array would drop its imaginary part")
    if not hasattr(value, "dtype"):
        return dtype.type(value)
    shape = value.shape
    if shape and shape[0] == 1:
        ndim = len(getitem.abstract(aval_of(x), *map(aval_of, arrays), index=index).shape)
        extra = len(shape) - ndim
        if extra > 0 and all(n == 1 for n in shape[:extra]):
            value = np.reshape(value, shape[extra:])
    return value if value.dtype == dtype else np.astype(value, dtype)


def _refuse_dtype(x: Tracer, value: Tracer, why: str) -> NoReturn:
    raise TypeError(
        f"a traced value of {value.aval} is assigned to an array of {x.dtype}; {why}."
        f"{at(calling_position())}\nMake the array with the value's dtype, e.g. "
        f"np.zeros_like(x, dtype=np.{value.dtype})."
    )


def store(root: Tracer, steps: Steps, index: Index, arrays: list[Value], value: Value) -> None:
    """Rebind ``root`` to itself with ``value`` written through ``steps`` at ``index``."""
    if type(value) is Plain:
        value = value.value
    operands = [*arrays, value]
    level = max((v.owner.level for v in operands if isinstance(v, Tracer)), default=0)
    if level > root.owner.level:
        lift(
            root,
            next(v.owner for v in operands if isinstance(v, Tracer) and v.owner.level == level),
        )
    own = type(root) is Plain or (type(root) is Eager and not any(map(is_tracer, arrays)))
    if own and level <= root.owner.level:
        _store_in_place(root, steps, index, arrays, value)
        return
    adopt(root, update(*arrays, snapshot(root), value, steps=steps, index=index))


def is_tracer(x: Value) -> bool:
    return isinstance(x, Tracer)


def lift(root: Tracer, trace: Any) -> None:
    """Make ``root`` a value of the inner ``trace``, which is about to write to it.

    When the trace ends, the root goes back to its primal value: exactly NumPy's side effect, still
    carrying the outer derivative.
    """
    inner = snapshot(root)
    if not isinstance(trace, Rows):
        return
    trace.lifted.append(root)
    root.__class__ = Eager
    root.value = inner
    root.owner = trace
    root.info = trace.new()


def _store_in_place(
    root: Tracer, steps: Steps, index: Index, arrays: list[Value], value: Value
) -> None:
    """Write into the root's own buffer if nobody else holds it, else into a copy; record the
    row."""
    trace = root.owner
    mine = isinstance(value, Eager) and value.owner is trace
    inner = value.value if mine else value
    if isinstance(inner, Tracer) and not isinstance(root.value, Tracer):
        root.value = Plain(root.value if is_alone(root) else copy_with_layout(root.value))
    if isinstance(root.value, Tracer):
        if not is_alone(root):
            root.value = thawed(root.value)
        store(root.value, steps, index, arrays, inner)
        if type(root.value) is Plain and not isinstance(inner, Tracer):
            root.value = root.value.value
    else:
        if not is_alone(root):
            root.value = copy_with_layout(np.asarray(root.value))
        write_into(root.value, steps, index.fill(arrays), inner)
    if type(root) is Plain:
        return
    avals = [aval_of(root.value), aval_of(inner)]
    params = {"steps": steps, "index": index}
    held = [trace.keep(a) if type(a) is np.ndarray else a for a in arrays]
    slots = (root.info, value.info if mine else None)
    k = trace.new()
    trace.append((update.pull, k, *calling_position(), slots, avals, held, params))
    root.info = k


def thawed(x: Tracer) -> Tracer:
    """A handle of its own with the present value of a lower-level handle."""
    frozen = snapshot(x)
    return frozen if isinstance(frozen, Tracer) else Plain(copy_with_layout(frozen))


@contextlib.contextmanager
def without_reuse() -> Iterator[None]:
    """Run with buffer reuse switched off, to test that it changes nothing."""
    global reuse
    before, reuse = reuse, False
    try:
        yield
    finally:
        reuse = before


# ------------------------------------------------------------------------- operators that write


def in_place(function: Callable[[Value, Value], Value]) -> Callable[[Tracer, Value], Value]:
    """``x op= y`` for arrays: into the array, seen through every view; scalars rebind the name."""

    def operator(x: Tracer, y: Value) -> Value:
        if not is_array(x):
            return function(x, y)
        out = function(x, y)
        if out is NotImplemented:
            return out
        write_whole(x, out)
        return x

    return operator


def write_whole(x: Tracer, out: Value) -> None:
    """``x[...] = out`` with the checks of NumPy's ``out=``."""
    aval = aval_of(out)
    if aval.shape != x.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {x.shape} doesn't match the broadcast "
            "shape "
            f"{aval.shape}{at(calling_position())}"
        )
    if not np.can_cast(aval.dtype, x.dtype, "same_kind"):
        raise TypeError(
            f"cannot cast the result from {aval.dtype} to {x.dtype} with casting rule 'same_kind'"
            f"{at(calling_position())}"
        )
    write(x, Ellipsis, out)


def is_array(x: Tracer) -> bool:
    """Whether ``x`` is an array, which has identity, rather than a scalar.

    Of a staged value, and of one example of a batch, those are of which it is marked.
    """
    if x.shape:
        return True
    base = base_of(x)
    if type(base) is View or (type(base) is Root and base.array):
        return True
    value = getattr(x, "value", None)
    if isinstance(value, Tracer):
        return not value.shape and is_array(value)  # an example has fewer axes than its batch
    return isinstance(value, np.ndarray) and not value.ndim


def is_array_of_no_axis(x: Value) -> bool:
    """Whether an argument is one, traced or not."""
    if isinstance(x, Tracer):
        return not x.shape and is_array(x)
    return isinstance(x, np.ndarray) and not x.ndim


def staged_argument(builder: Builder, aval: Aval, is_array: bool) -> Value:
    """What stands in a function that is staged for an argument of this aval."""
    argument = builder.argument(aval)
    return array_of_no_axis(argument) if is_array else argument


roles["array_of_no_axis"] = array_of_no_axis
roles["is_array_of_no_axis"] = is_array_of_no_axis
roles["staged_argument"] = staged_argument

method("__setitem__")(write)


@method("__getitem__")
def read_item(x: Tracer, index: Any) -> Value:
    """``x[index]``, remembered as a view of ``x`` where NumPy gives one."""
    if has_unknown_mask(index):
        x, mask, place = mask_in_front(x, index)
        found = selected(x, mask)
        return found if not place else found.refuse("reading along another axis than the first")
    out = read(x, index)
    if type(out) is Eager:
        value = out.value
        if type(value) is np.ndarray:
            if value.base is None or type(x.value) is not np.ndarray or not is_basic(index):
                return out
            if not x.owner.dirty:
                out.origin = View(x, index, False, True, 0)
                return out
        elif not isinstance(value, Tracer):
            return out
    return viewed(out, x, index, is_index=True) if is_basic(index) else out
