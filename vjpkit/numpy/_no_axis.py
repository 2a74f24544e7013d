"""Arrays of no axis, which NumPy tells from scalars: they have identity, and views."""

from __future__ import annotations

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.rows import innermost, roles
from vjpkit.core.staging import Builder
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._handles import snapshot
from vjpkit.numpy._views import Root, View, base_of, marked
from vjpkit.ops import structural

__all__ = [
    "array_of_no_axis",
    "is_array",
    "marked_within",
]


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


def staged_argument(builder: Builder, aval: Aval, is_array: bool) -> Value:
    """What stands in a function that is staged for an argument of this aval."""
    argument = builder.argument(aval)
    return array_of_no_axis(argument) if is_array else argument


roles["array_of_no_axis"] = array_of_no_axis
roles["is_array_of_no_axis"] = is_array_of_no_axis
roles["staged_argument"] = staged_argument
