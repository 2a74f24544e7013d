"""Reading handles: a view is read after the writes to its array, and what is read may be a view.

A view knows its parent and the step that led from it; after a write it replays that step the next
time it is read. Whether something is a view is asked of NumPy on the value, never guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.rows import Eager, Rows, roles
from vjpkit.core.staging import Staged
from vjpkit.core.tracer import ConcreteTracer, Tracer, dispatch_rest
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._handles import Plain, adopt, snapshot
from vjpkit.numpy._no_axis import array_of_no_axis, is_array, marked_within
from vjpkit.numpy._selected import has_unknown_mask, mask_in_front, selected
from vjpkit.numpy._views import (
    View,
    base_of,
    chain_of,
    count_write,
    is_abstract,
    require_certain,
    root_of,
    version,
)  # fmt: skip
from vjpkit.ops.index import is_basic
from vjpkit.ops.indexing import read
from vjpkit.ops.updates import copy_with_layout, through
from vjpkit.transforms.forward import Dual

__all__ = [
    "copied",
    "read_item",
    "refresh",
    "view",
    "viewed",
]


def held(x: Tracer) -> Value:
    """The present value of a handle as a value of its own, which writes to the handle do not change
    nor it them."""
    x = refresh(x)
    frozen = snapshot(x)
    return array_of_no_axis(frozen) if not x.shape and is_array(x) else frozen


def copied(x: Tracer) -> Tracer:
    """A copy of an array: a root of its own that shares the buffer until one of them is written."""
    x = refresh(x)
    return Plain(x.value.copy(), x.owner) if type(x) is Plain else snapshot(x)


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


def private(x: Value) -> Value:
    """A slice of an array that is being written to: copied, so that it does not pin the buffer.

    With its strides, because these decide whether NumPy reshapes by view or by copy.
    """
    if isinstance(x, np.ndarray):
        return x if x.base is None else copy_with_layout(x)
    if isinstance(x, Tracer) and isinstance(getattr(x, "value", None), np.ndarray | Tracer):
        x.value = private(x.value)
        if type(x) is Dual:
            x.tangent = private(x.tangent)
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


@method("__getitem__")
def read_item(x: Tracer, index: Any) -> Value:
    """``x[index]``, remembered as a view of ``x`` where NumPy gives one."""
    if has_unknown_mask(index):
        x, mask, place = mask_in_front(x, index)
        return selected(x, mask, place)
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
