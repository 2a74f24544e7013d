"""NumPy's functions that write into an array, on writable handles."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from types import FrameType
from typing import Any, TypeVar

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import TracerConversionError, at, calling_position
from vjpkit.core.tracer import ConcreteTracer, Tracer
from vjpkit.numpy._arguments import as_array, known, places_along, require_along, truths
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._masked import assign
from vjpkit.numpy._overlap import Operation, overlaid
from vjpkit.numpy._reading import copied
from vjpkit.numpy._selected import has_unknown_mask
from vjpkit.numpy._writable import require_array, write, write_whole
from vjpkit.ops.index import Index, addresses_once, normalized, repetitions, split_index
from vjpkit.ops.indexing import read
from vjpkit.ops.structural import to_dtype
from vjpkit.ops.updates import add_at

__all__ = [
    "delivered", "delivered_in_turn", "delivers", "destination", "dtype_for", "require_castable",
    "ufunc_at",
]  # fmt: skip

Array = np.ndarray[Any, Any]
F = TypeVar("F", bound=Callable[..., Value])


def destination(name: str, x: Any) -> Tracer:
    """``x`` as something a traced value can be written to, or an error that says what to do."""
    if isinstance(x, Tracer):
        return x
    raise TracerConversionError(
        f"{name}: a traced value can't be written into a plain {type(x).__name__}; its derivative "
        "would "
        f"be lost.{at(calling_position())}\nStart the array with np.zeros_like(x), np.copy(x) or "
        "vnp.zeros(...) inside the differentiated function, or use the function's result instead."
    )


def require_castable(name: str, source: Any, target: Any, casting: Any = "same_kind") -> None:
    """NumPy's error where a result of one dtype can't be written to an output of another."""
    if not np.can_cast(source, target, casting):
        raise TypeError(
            f"Cannot cast {name} output from {source!r} to {target!r} with casting rule '{casting}'"
        )


def delivered(name: str, result: Value, out: Any) -> Value:
    """``out``, with the result of ``np.name`` written to it."""
    if not isinstance(out, np.ndarray | Tracer):
        raise TypeError(f"{name}: out must be an array, got {type(out).__name__}")
    if aval_of(result).shape != out.shape:
        raise ValueError(
            f"{name}: out has the shape {out.shape}, but the result has "
            f"{aval_of(result).shape}{at(calling_position())}"
        )
    if not isinstance(out, Tracer) and not isinstance(result, Tracer):
        np.copyto(out, result)
        return out
    out = destination(f"np.{name}", out)
    require_castable(f"np.{name}", aval_of(result).dtype, out.dtype)
    write(out, Ellipsis, to_dtype(result, out.dtype))
    return out


def dtype_for(a: Any, dtype: Any, out: Any) -> Any:
    """The dtype in which NumPy adds up: that of ``out``, where none is asked for."""
    if dtype is not None or out is None or not hasattr(out, "dtype"):
        return dtype
    kind = aval_of(as_array(a)).dtype.kind
    return out.dtype if kind in "fc" and kind == out.dtype.kind else None


def delivered_in_turn(
    name: str, result: Value, out: Any, operands: Sequence[Value], operation: Operation
) -> Value:
    """`delivered` for a function that moves elements and may read what it has written."""
    if out is None:
        return result
    left = overlaid(f"np.{name}", out, operands, operation)
    return delivered(name, result if left is None else left, out)


def delivers(function: F) -> F:
    """A function whose ``out=`` is written to; what is decorated need not look at it.

    Right for functions that copy operands in the memory of ``out`` first, as most of NumPy's do.
    """
    code = function.__code__  # inspect would take a tenth of the time of the whole import
    positional = code.co_varnames[: code.co_argcount]
    place = positional.index("out") if "out" in positional else sys.maxsize
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    typed = "dtype" in names
    third = positional.index("dtype") if "dtype" in positional else sys.maxsize
    name = function.__name__.rstrip("_")

    @wraps(function)
    def delivering(*args: Any, **kwargs: Any) -> Value:
        out = args[place] if len(args) > place else kwargs.get("out")
        if out is None:
            return function(*args, **kwargs)
        if typed:
            given = args[third] if len(args) > third else kwargs.get("dtype")
            dtype = dtype_for(args[0] if args else kwargs[names[0]], given, out)
            if len(args) > third:
                args = (*args[:third], dtype, *args[third + 1 :])
            else:
                kwargs["dtype"] = dtype
        return delivered(name, function(*args, **kwargs), out)

    return delivering  # type: ignore[return-value]  # of the same signature


def require_no_filling() -> None:
    """Raise where NumPy's ``full_like`` of a plain array fills it with a traced value."""
    frame: FrameType | None = sys._getframe(1)
    names: list[str] = []
    while frame is not None and len(names) < 6:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    if "full_like" in names:
        raise TracerConversionError(
            "np.full_like: a traced value can't fill an array that is like a plain one"
            f"{at(calling_position())}\nUse vnp.full_like(a, value), or np.broadcast_to(value, "
            "a.shape)."
        )


@implements(np.copyto)
def copyto(dst: Any, src: Value, casting: str = "same_kind", where: Value = True) -> None:
    """NumPy's ``copyto``: writes ``src``, broadcast, where ``where``."""
    if not isinstance(dst, Tracer):
        require_no_filling()
    dst = destination("np.copyto", dst)
    given = aval_of(src) if hasattr(src, "dtype") else None
    if given is not None and not np.can_cast(given.dtype, dst.dtype, casting):  # type: ignore[arg-type]
        raise TypeError(
            f"Cannot cast array data from {given.dtype!r} to {dst.dtype!r} according to the rule "
            f"{casting!r}{at(calling_position())}"
        )
    if where is True:
        write(dst, Ellipsis, src)
        return
    where = truths(where)
    result = np.where(where, src, dst)
    mask = known(where)
    left = (
        None
        if mask is None
        else overlaid("np.copyto", dst, [src], lambda xs, y: np.copyto(y, xs[0], where=mask))
    )
    write(dst, Ellipsis, result if left is None else left)


def require_as_many(name: str, array: Tracer, mask: Value) -> None:
    """NumPy's error for a mask of another size."""
    if aval_of(as_array(mask)).size != array.size:
        raise ValueError(f"{name}: mask and data must be the same size{at(calling_position())}")


@implements(np.putmask)
def putmask(a: Any, mask: Value, values: Value) -> None:
    """NumPy's ``putmask``: ``a.flat[n] = values[n % len(values)]`` where ``mask.flat[n]``."""
    a = destination("np.putmask", a)
    require_as_many("putmask", a, mask)
    if isinstance(mask, Tracer):
        every = np.reshape(_repeated(values, a.size), a.shape)
        write(a, Ellipsis, np.where(np.reshape(mask, a.shape) != 0, every, a))
        return
    mask = np.asarray(mask).astype(bool).reshape(a.shape)
    write(a, mask, _repeated(values, a.size)[mask.ravel()])


@implements(np.place)
def place(arr: Any, mask: Value, vals: Value) -> None:
    """NumPy's ``place``: the first values, repeated as needed, where ``mask``."""
    arr = destination("np.place", arr)
    require_as_many("place", arr, mask)
    if isinstance(mask, Tracer):
        mask = np.reshape(mask, arr.shape) != 0
        values = np.ravel(vals)
        if not aval_of(values).size:
            raise ValueError(f"Cannot insert from an empty array!{at(calling_position())}")
        number = np.cumsum(np.ravel(mask)) - 1  # of a place among those that are written
        every = np.reshape(read(values, number % aval_of(values).size), arr.shape)
        write(arr, Ellipsis, np.where(mask, every, arr))
        return
    mask = np.asarray(mask).astype(bool).reshape(arr.shape)
    left = overlaid("np.place", arr, [vals], lambda xs, y: np.place(y, mask, xs[0]))
    if left is not None:
        write(arr, Ellipsis, left)
        return
    write(arr, mask, _repeated(vals, int(mask.sum())))


def _repeated(values: Value, size: int) -> Value:
    """``values``, flat, repeated to ``size`` elements."""
    flat = np.ravel(values)
    if not aval_of(flat).size:
        raise ValueError(f"Cannot insert from an empty array!{at(calling_position())}")
    return flat[np.arange(size) % aval_of(flat).size]


@implements(np.put)
def put(a: Any, ind: Value, v: Value, mode: str = "raise") -> None:
    """NumPy's ``put``: writes at flat positions, repeating values as needed."""
    a = destination("np.put", a)
    if mode not in ("raise", "wrap", "clip"):
        raise ValueError(
            f"Use one of 'clip', 'raise', or 'wrap' for clip mode, not {mode!r}"
            f"{at(calling_position())}"
        )
    ind, v = as_array(ind), as_array(v)
    places = known(ind)
    positions = np.ravel(ind if places is None else places)
    if not positions.size or not aval_of(v).size:
        return
    if not np.can_cast(positions.dtype, np.intp):
        raise TypeError(
            f"Cannot cast array data from {positions.dtype!r} to {np.dtype(np.intp)!r} according "
            f"to the rule 'safe'{at(calling_position())}"
        )
    positions = np.astype(positions, np.intp)
    if mode != "raise" and a.size:
        positions = positions % a.size if mode == "wrap" else np.clip(positions, 0, a.size - 1)
    outside = places is not None and (positions.min() < -a.size or positions.max() >= a.size)
    if outside or not a.size:
        raise IndexError(
            f"index out of bounds for axis 0 with size {a.size}{at(calling_position())}"
        )
    _write_flat(a, positions, _repeated(v, positions.size))


def _write_flat(a: Tracer, positions: Value, values: Value) -> None:
    """``a.flat[positions] = values``; where one is outside, so is its index of the first axis."""
    index = []
    for n in a.shape[:0:-1]:
        index.append(positions % n)
        positions = positions // n
    require_array(a)
    flat: Any = a if a.ndim else np.reshape(a, 1)
    write(flat, (positions, *reversed(index)), values)


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Value, values: Value, axis: int | None) -> None:
    """NumPy's ``put_along_axis``."""
    arr, indices = destination("np.put_along_axis", arr), as_array(indices)
    require_along(arr, indices, axis)
    if axis is None:
        _write_flat(arr, indices, values)
    else:
        write(arr, places_along(arr.shape, indices, axis), values)


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Value, wrap: bool = False) -> None:
    """NumPy's ``fill_diagonal``."""
    a = destination("np.fill_diagonal", a)
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim > 2 and len(set(a.shape)) > 1:
        raise ValueError("All dimensions of input must be of equal length")
    if a.ndim == 2:
        step, end = a.shape[1] + 1, (None if wrap else a.shape[1] * a.shape[1])
    else:
        step, end = 1 + int(np.cumprod(a.shape[:-1]).sum()), None
    left = overlaid("np.fill_diagonal", a, [val], lambda xs, y: np.fill_diagonal(y, xs[0], wrap))
    if left is not None:
        write(a, Ellipsis, left)
        return
    positions = np.arange(a.size)[:end:step]
    write(a, np.unravel_index(positions, a.shape), _repeated(val, positions.size))


_FEW = 8
"""So many repetitions are written one after the other; more, as a function of the whole array."""


def ufunc_at(ufunc: np.ufunc, a: Any, indices: Any, *b: Value) -> None:
    """``ufunc.at(a, indices, b)``: unbuffered, so that repeated indices accumulate.

    Elements are written one repetition of an index after the other, in NumPy's order.
    """
    a = destination(f"np.{ufunc.__name__}.at", a)
    entries = normalized(indices)
    if addresses_once(entries) or has_unknown_mask(entries):
        _write_at(ufunc, a, entries, b)
        return
    b = tuple([copied(x) if isinstance(x, Tracer) else x for x in b])  # as they are before writing
    index, arrays = split_index(indices)
    known = not any(isinstance(x, Tracer) and not isinstance(x, ConcreteTracer) for x in arrays)
    sums = ufunc in (np.add, np.subtract)
    if sums and (not known or _repeats(a, index, arrays) > _FEW):
        (operand,) = b
        operand = as_array(operand if ufunc is np.add else np.negative(operand))
        write_whole(a, add_at(*arrays, a, operand, index=index))
        return
    positions = _positions(a, index, arrays)
    everywhere = [np.broadcast_to(x, positions.shape) for x in b]
    for mask in repetitions(positions):
        part = [x[mask] for x in everywhere]
        _write_at(ufunc, a, np.unravel_index(positions[mask], a.shape), part)


def _write_at(ufunc: np.ufunc, a: Any, index: Any, operands: Sequence[Value]) -> None:
    """Write ``ufunc`` of the elements at an index that addresses none of them twice."""
    result = ufunc(a[index], *operands)
    require_castable(f"ufunc '{ufunc.__name__}'", result.dtype, a.dtype)
    assign(a, index, result)


def _positions(a: Tracer, index: Index, arrays: Sequence[Value]) -> Array:
    """The flat positions that an index addresses, in its shape."""
    plain = [np.asarray(x.concrete() if isinstance(x, Tracer) else x) for x in arrays]
    positions: Array = np.arange(a.size).reshape(a.shape)[index.fill(plain)]
    return positions


def _repeats(a: Tracer, index: Index, arrays: Sequence[Value]) -> int:
    """How often the most frequent element is addressed."""
    if not arrays:
        return 1
    return int(np.bincount(_positions(a, index, arrays).reshape(-1)).max(initial=0))
