"""Results written over operands that are still to be read: what NumPy leaves there, or an error.

NumPy copies an operand that shares memory with the destination in most functions, but not in all:
`concatenate` writes part after part, and ``y[0:8:2] = y[0:4]`` reads elements that it has written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._views import chain_of, is_abstract, root_of, standing_for
from vjpkit.ops.index import is_basic
from vjpkit.ops.indexing import take
from vjpkit.ops.structural import to_dtype
from vjpkit.ops.updates import Steps, through

__all__ = ["lying_as", "overlaid", "overlapping", "reads_what_it_writes", "require_apart"]

Array = np.ndarray[Any, Any]
Operation = Callable[[Sequence[Array], Array], object]
"""NumPy moves elements of the first arrays to the second one."""


def _unnumbered(root: Tracer) -> Array:
    """An array of integers that lies in memory as ``root`` does, not yet filled.

    Of one example of a batch; of a staged value, whose layout is not known, in C order.
    """
    shape = root.shape
    value = innermost(root)
    if isinstance(value, Tracer):
        return np.empty(shape, np.intp)
    value = value[(0,) * (value.ndim - len(shape))] if value.size else np.empty(shape)
    lengths = list(zip(shape, value.strides, strict=True))
    if not value.size or any(n > 1 and not step for n, step in lengths):
        return np.empty(shape, np.intp)
    steps = [step // value.itemsize for step in value.strides]
    spans = [(n - 1) * step for n, step in zip(shape, steps, strict=True)]
    before = -sum([s for s in spans if s < 0])
    memory = np.empty(sum(map(abs, spans)) + 1, np.intp)
    size = memory.itemsize
    return np.ndarray(shape, np.intp, memory, before * size, [step * size for step in steps])


def _siblings(out: Tracer, operands: Sequence[Value]) -> list[Steps | None]:
    """How operands are seen from the root of ``out``; None for what has another root."""
    root = root_of(out)
    return [
        chain_of(x)[1] if isinstance(x, Tracer) and root_of(x) is root else None for x in operands
    ]


def overlapping(out: Tracer, operands: Sequence[Value]) -> bool:
    """Whether one of the operands may share memory with ``out``."""
    siblings = [x for x in operands if isinstance(x, Tracer) and root_of(x) is root_of(out)]
    return any(np.may_share_memory(*lying_as(out, x)) for x in siblings)


def lying_as(x: Value, y: Value) -> tuple[Any, Any]:
    """Two arrays that lie in memory as ``x`` and ``y`` do to each other, as NumPy has it."""
    if isinstance(x, Tracer) and isinstance(y, Tracer) and root_of(x) is root_of(y):
        memory = _unnumbered(root_of(x))
        return through(memory, chain_of(x)[1]), through(memory, chain_of(y)[1])
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Tracer) and any(
            np.may_share_memory(a, other) for a in standing_for(one)
        ):
            return other, other
    return _below_all(x), _below_all(y)


def _below_all(x: Value) -> Any:
    """The array below all traces; one without any memory while it is abstract."""
    value = innermost(x)
    return np.empty(0) if isinstance(value, Tracer) else value


def require_apart(name: str, out: Any, operands: Sequence[Value]) -> None:
    """Raise where NumPy writes to ``out`` while it reads an operand in the same memory."""
    if isinstance(out, Tracer) and overlapping(out, operands):
        raise UnsupportedError(
            f"{name}: out shares memory with an operand, which NumPy reads while it writes, so "
            f"that the result is none of the function's.{at(calling_position())}\n"
            "Write out[...] = of the function's result instead."
        )


def reads_what_it_writes(x: Tracer, index: Any, value: Tracer) -> bool:
    """Whether ``x[index] = value`` may read elements that it has written, for all we see quickly.

    NumPy copies the value first, unless the target has one axis or the index is a mask.
    """
    if not value.shape:
        return False
    if not is_basic(index):
        entries = index if type(index) is tuple else (index,)
        return any(
            isinstance(e, list | bool) or (hasattr(e, "dtype") and e.dtype.kind == "b")
            for e in entries
        )
    root, steps, _ = chain_of(x)
    memory = _unnumbered(root)
    target, source = through(memory, steps)[index], through(memory, chain_of(value)[1])
    return (
        target.ndim == 1
        and target.strides[0] != source.strides[-1]
        and bool(np.may_share_memory(target, source))
    )


def overlaid(name: str, out: Any, operands: Sequence[Value], operation: Operation) -> Value | None:
    """What NumPy's ``operation`` leaves in ``out`` where it reads what it has written there.

    None where it does not, so that the function's result is what is left. NumPy itself is asked,
    with integers in the places of the elements.
    """
    if not isinstance(out, Tracer):
        return None
    seen = _siblings(out, operands)
    if all(steps is None for steps in seen):
        return None
    root, steps, _ = chain_of(out)
    numbers = _unnumbered(root)
    numbers[...] = np.arange(root.size).reshape(root.shape)
    parts, others, count = [], [], numbers.size
    for x, how in zip(operands, seen, strict=True):
        if how is not None:
            parts.append(through(numbers, how))
            continue
        aval = aval_of(x)
        parts.append(np.arange(count, count + aval.size).reshape(aval.shape))
        others.append(x)
        count += aval.size
    target = through(numbers, steps)
    apart = target.copy()
    operation([part.copy() for part in parts], apart)
    operation(parts, target)
    if np.array_equal(apart, target):
        return None
    halves = any(step in ("real", "imag") for how in (steps, *seen) for step, _ in how or ())
    if halves or is_abstract(root):
        raise UnsupportedError(
            f"{name}: an operand shares memory with what is written, and NumPy reads it while it "
            f"writes; what is left depends on the memory layout.{at(calling_position())}\n"
            "Copy the operand, x.copy()."
        )
    pool = [to_dtype(np.ravel(x), out.dtype) for x in (root, *others)]
    return np.reshape(take(np.concatenate(pool), target.ravel(), axis=0), target.shape)
