"""In-place assignment on traced arrays: mutable handles over functional rows.

A tracer is a handle. A write finds the handle's root, records one functional `update` there, and
lets the root take over the result; rows never see handles, only slots and values.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.primitive import PRIMITIVES
from vjpkit.core.rows import Eager, Rows
from vjpkit.core.tracer import Tracer, operand
from vjpkit.numpy._handles import Plain, adopt, snapshot
from vjpkit.numpy._no_axis import array_of_no_axis, is_array, marked_within
from vjpkit.numpy._overlap import overlaid, reads_what_it_writes
from vjpkit.numpy._reading import copied, read_item, refresh, view
from vjpkit.numpy._views import (
    View,
    base_of,
    chain_of,
    count_write,
    require_certain,
    require_unlocked,
    require_unshared,
    root_of,
    version,
)  # fmt: skip
from vjpkit.ops import complex_numbers
from vjpkit.ops.index import (
    Index,
    indexed_shape,
    is_basic,
    normalized,
    require_fitting,
    split_index,
)
from vjpkit.ops.indexing import getitem
from vjpkit.ops.updates import Steps, copy_with_layout, update, write_into
from vjpkit.transforms.batch import Batched
from vjpkit.transforms.forward import Dual

__all__ = [
    "fitted",
    "in_place",
    "require_array",
    "without_reuse",
    "write",
    "write_whole",
]


reuse = True
"""Whether buffers that nobody else holds are written in place; the results are the same."""


def references(x: Tracer) -> int:
    """References to the value of ``x``, counted always in the same way."""
    return sys.getrefcount(x.value)


def references_to_memory(x: Tracer) -> int:
    """References to the array whose memory the value of ``x`` is a view of."""
    return sys.getrefcount(x.value.base)


def _calibrate(value: np.ndarray[Any, Any], count: Callable[[Tracer], int]) -> int | None:
    """What ``count`` says of a value that only its tracer holds; None where counting is unsound."""
    probe = Plain(value)
    del value
    alone = count(probe)
    alias = probe.value if count is references else probe.value.base
    shared = count(probe)
    del alias
    view = probe.value[1:]
    seen = count(probe)
    del view
    return alone if (shared, seen, count(probe)) == (alone + 1, alone + 1, alone) else None


_ALONE = _calibrate(np.empty(3), references)
_ALONE_WITH_GAPS = _calibrate(copy_with_layout(np.empty(6)[::2]), references_to_memory)


def is_alone(x: Tracer) -> bool:
    """Whether the value of ``x`` may be written in place: only ``x`` refers to it.

    A copy that has gaps, like the array that it is of, is a view of memory of its own.
    """
    if not reuse or _ALONE is None or references(x) > _ALONE:
        return False
    value = x.value
    if isinstance(value, Tracer):
        return True
    if value.base is None:
        return bool(value.flags.owndata and value.flags.writeable)
    if type(value.base) is not np.ndarray or value.base.dtype != np.uint8:
        return False
    return _ALONE_WITH_GAPS is not None and references_to_memory(x) <= _ALONE_WITH_GAPS


def write(x: Tracer, index: Any, value: Value) -> None:
    """``x[index] = value`` for an index that is known, as NumPy does it, recorded functionally."""
    if isinstance(value, Tracer):
        value = refresh(value)
        if is_own_view(x, index, value):
            return
    part = part_of(x)
    if part is not None:
        write_to_part(part, x, index, value)
        return
    if isinstance(value, Tracer):
        if root_of(value) is root_of(x) and reads_what_it_writes(x, index, value):
            index, value = as_numpy_leaves_it(x, index, value)
    else:
        value = operand(value)
    require_array(x)
    root, steps, readonly = chain_of(x)
    require_certain(x)
    require_unlocked(root)
    require_unshared(root)
    if readonly:
        raise ValueError(f"assignment destination is read-only{at(calling_position())}")
    if not is_basic(index):
        require_fitting(x.shape, index)
    static, arrays = split_index(index)
    value = fitted(x, static, arrays, value)
    root.owner.dirty = True  # for the views that there are: what is written may change the owner
    store(root, steps, static, arrays, value)
    if not root.shape:
        marked_within(root)
    count_write(root)
    root.owner.dirty = True


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


def part_of(x: Tracer) -> Tracer | None:
    """The view of a complex array's real or imaginary part that ``x`` is, or is a view of."""
    base = base_of(x)
    while type(base) is View:
        if not base.is_index and base.how[0] in ("real", "imag"):
            return x
        x = base.parent
        base = base_of(x)
    return None


def write_to_part(part: Tracer, x: Tracer, index: Any, value: Value) -> None:
    """``x[index] = value`` for a view ``x`` of the real or imaginary part of a complex array: to a
    copy of that part, and the array becomes what has the parts."""
    steps: list[Any] = []
    up = x
    while up is not part:
        steps.append(base_of(up))
        up = steps[-1].parent
    base: Any = base_of(part)
    if isinstance(value, Tracer) and root_of(value) is root_of(x):
        if reads_what_it_writes(x, index, value):
            raise UnsupportedError(
                f"an assignment may read what it has written{at(calling_position())}\n"
                "Assign a copy, np.copy(value)."
            )
        value = copied(value)
    changed = copied(part) if part.shape else array_of_no_axis(copied(part))
    target = changed
    for step in reversed(steps):
        if step.is_index:
            target = read_item(target, step.how)
        else:
            name, params = step.how
            target = view(PRIMITIVES[name], target, step.readonly, **params)
    write(target, index, value)
    whole = base.parent
    parts = (
        (changed, complex_numbers.imag(whole))
        if base.how[0] == "real"
        else (complex_numbers.real(whole), changed)
    )
    write(whole, Ellipsis, complex_numbers.of_parts(*parts))


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
    if level <= root.owner.level and stored_in_place(root, steps, index, arrays, value):
        return
    adopt(root, update(*arrays, snapshot(root), value, steps=steps, index=index))


def stored_in_place(
    root: Tracer, steps: Steps, index: Index, arrays: list[Value], value: Value
) -> bool:
    """Whether the arrays that ``root`` holds were written to, and no new ones made."""
    if type(root) is Plain:
        write_into_value(root, steps, index, arrays, value)
    elif any(map(is_tracer, arrays)):
        return False
    elif type(root) is Eager:
        _store_eager(root, steps, index, arrays, value)
    elif type(root) is Dual:
        _store_dual(root, steps, index, arrays, value)
    elif type(root) is Batched and not (steps or arrays or bool in map(type, index.entries)):
        _store_batch(root, index, value)
    else:
        return False
    return True


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


def write_into_value(
    x: Tracer, steps: Steps, index: Index, arrays: list[Value], value: Value
) -> None:
    """Write into what ``x`` holds if nobody else does, else into a copy that it holds then."""
    if isinstance(value, Tracer) and not isinstance(x.value, Tracer):
        x.value = Plain(x.value if is_alone(x) else copy_with_layout(x.value))
    if not isinstance(x.value, Tracer):
        if not is_alone(x):
            x.value = copy_with_layout(np.asarray(x.value))
        write_into(x.value, steps, index.fill(arrays), value)
        return
    if not is_alone(x):
        x.value = thawed(x.value)
    store(x.value, steps, index, arrays, value)
    if type(x.value) is Plain and not isinstance(value, Tracer):
        x.value = x.value.value


def _store_eager(
    root: Eager, steps: Steps, index: Index, arrays: list[Value], value: Value
) -> None:
    """Write the value, and record the row."""
    trace = root.owner
    mine = isinstance(value, Eager) and value.owner is trace
    inner = value.value if mine else value
    write_into_value(root, steps, index, arrays, inner)
    avals = [aval_of(root.value), aval_of(inner)]
    params = {"steps": steps, "index": index}
    held = [trace.keep(a) if type(a) is np.ndarray else a for a in arrays]
    slots = (root.info, value.info if mine else None)
    k = trace.new()
    trace.append((update.pull, k, *calling_position(), slots, avals, held, params))
    root.info = k


def _store_dual(root: Dual, steps: Steps, index: Index, arrays: list[Value], value: Value) -> None:
    """Write the value and, in the same way, its tangent."""
    root.owner.require_running()
    mine = type(value) is Dual and value.owner is root.owner
    write_into_value(root, steps, index, arrays, value.value if mine else value)
    tangent = Plain(root.tangent)
    root.tangent = None  # only `tangent` refers to it now
    try:
        write_into_value(tangent, steps, index, arrays, value.tangent if mine else 0)
    finally:
        root.tangent = tangent.value


def _store_batch(root: Batched, index: Index, value: Value) -> None:
    """Write into the array of all examples."""
    root.owner.require_running()
    if type(value) is Batched and value.owner is root.owner:
        axes = len(indexed_shape(root.shape, index, []))
        n, *own = value.value.shape
        value = np.reshape(value.value, (n, *[1] * (axes - len(own)), *own))
    write_into_value(root, (), index.behind(slice(None)), [], value)


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
