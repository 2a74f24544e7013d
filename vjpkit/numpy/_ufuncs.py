"""Ufuncs on traced values beyond plain calls: several outputs, keywords, ``out=``, and methods."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import index
from typing import Any, Literal

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.tracer import FUNCTIONS, UFUNCS, Tracer, dispatch_rest
from vjpkit.kinds import ConstantUfunc
from vjpkit.numpy._arguments import as_array, normalize_axis, scalar, truths
from vjpkit.numpy._dispatch import refuse
from vjpkit.numpy._face import unwrapped
from vjpkit.numpy._overlap import require_apart
from vjpkit.numpy._reductions import starting
from vjpkit.numpy._writable import write
from vjpkit.numpy._writing import destination, dtype_for, require_castable, ufunc_at
from vjpkit.ops import constant, cumulative, elementwise
from vjpkit.ops.structural import to_dtype

__all__: list[str] = []

Casting = Literal["no", "equiv", "safe", "same_kind", "unsafe"]

_NO = np._NoValue


# --------------------------------------------------------------------------------- several outputs


def divmod_(x: Value, y: Value) -> tuple[Value, Value]:
    """`numpy.divmod`: the quotient is locally constant."""
    return np.floor_divide(x, y), np.remainder(x, y)


def modf(x: Value) -> tuple[Value, Value]:
    """`numpy.modf`: the whole part is locally constant."""
    return elementwise.fraction(x), constant.trunc(x)


def frexp(x: Value) -> tuple[Value, Value]:
    """`numpy.frexp`: the exponent is locally constant."""
    power = constant.exponent(x)
    return np.ldexp(x, -power), power


def float_power(x: Value, y: Value) -> Value:
    """`numpy.float_power`: a power in double precision at least."""
    dtype = np.float_power.resolve_dtypes((*map(_kind, (x, y)), None))[-1]
    return elementwise.power(to_dtype(as_array(x), dtype), to_dtype(as_array(y), dtype))


UFUNCS.update({np.divmod: divmod_, np.modf: modf, np.frexp: frexp, np.float_power: float_power})


# ----------------------------------------------------------------------------------------- keywords


def rest(ufunc: np.ufunc, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
    """What NumPy asks of a traced value that is not a plain call of a known ufunc."""
    if ufunc not in UFUNCS and "scipy.special" in sys.modules:
        from vjpkit.ops.scipy_special import by_ufunc

        found = by_ufunc(ufunc)
        if found is not None:
            UFUNCS[ufunc] = found
            return rest(ufunc, method, args, kwargs)
    unknown = ufunc not in UFUNCS or (method != "__call__" and ufunc.signature)
    vague = ufunc in _MACHINE_DEPENDENT and method in ("reduce", "reduceat")
    if unknown or vague:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        known = vars(np).get(ufunc.__name__) is ufunc
        why = f": NumPy's own gives other numbers {_VAGUE}" if vague else ""
        raise UnsupportedError(
            f"{'np.' if known else 'the ufunc '}{name} is not supported on traced values{why}"
            f"{at(calling_position())}\n"
            "Write it with supported functions; where no derivative is wanted, pass "
            "vk.lax.stop_gradient(x)."
        )
    return _METHODS[method](ufunc, *args, **kwargs)


dispatch_rest("ufunc", rest)

# On some machines NumPy's vectorised loops of these combine only the first and the last element, so
# that there is no value to agree with.
_MACHINE_DEPENDENT = (np.power, np.arctan2)
_VAGUE = "on machines whose vector instructions it uses"


def call(
    ufunc: np.ufunc,
    *args: Value,
    out: tuple[Any, ...] | None = None,
    where: Value = True,
    dtype: Any = None,
    signature: Any = None,
    casting: Casting = "same_kind",
    order: str = "K",
    subok: bool = True,
    **axes: Any,
) -> Value:
    """``ufunc(*args)`` with NumPy's keywords."""
    if order != "K":
        refuse(ufunc.__name__, order=order)
    plain = [unwrapped(x) for x in (*args, where)]
    varies = ufunc is np.sign and as_array(args[0]).dtype.kind == "c"
    if _is_constant(ufunc) and not varies and not any(map(_is_tracer, plain)):
        options = {"dtype": dtype, "signature": signature}
        chosen = {k: v for k, v in options.items() if v is not None}
        return _constant_call(ufunc, plain[:-1], plain[-1], out, {"casting": casting, **chosen})
    operands = _in_loop_dtypes(ufunc, args, dtype, signature, casting)
    function = _along(ufunc, axes) if axes else UFUNCS[ufunc]
    if where is True:
        result = function(*operands)
    else:
        where = truths(where)
        with np.errstate(all="ignore"):  # NumPy does not compute where the mask is False
            result = function(*operands)
    results = result if isinstance(result, tuple) else (result,)
    targets = out or (None,) * len(results)
    if len(results) > 1 and any(o is not None for o in targets):
        shape = np.broadcast_shapes(*[aval_of(r).shape for r in (*results, *_not_none(targets))])
        results = tuple(
            np.broadcast_to(r, shape) if o is None else r
            for r, o in zip(results, targets, strict=True)
        )
    if out is not None:
        others = args if ufunc.signature else targets[1:] if len(results) > 1 else ()
        require_apart(f"np.{ufunc.__name__}", targets[0], others)
    written = tuple(
        _delivered(ufunc.__name__, r, o, where, casting)
        for r, o in zip(results, targets, strict=True)
    )
    return written if isinstance(result, tuple) else written[0]


def _not_none(xs: Sequence[Any]) -> list[Any]:
    return [x for x in xs if x is not None]


def _is_constant(ufunc: np.ufunc) -> bool:
    """Whether a ufunc is locally constant."""
    return isinstance(getattr(UFUNCS[ufunc], "__self__", None), ConstantUfunc)


def _is_tracer(x: Value) -> bool:
    return isinstance(x, Tracer)


def _constant_call(
    ufunc: np.ufunc,
    args: Sequence[Value],
    where: Value,
    out: tuple[Any, ...] | None,
    options: dict[str, Any],
) -> Value:
    """A locally constant ufunc of plain values, by NumPy itself."""
    if out is None or not any(map(_is_tracer, out)):
        return ufunc(*args, out=out, where=where, **options)
    return _delivered(ufunc.__name__, ufunc(*args, **options), out[0], where, "same_kind")


def _kind(x: Value) -> Any:
    """What NumPy's promotion sees of ``x``: a dtype, or the type of a Python number."""
    aval = aval_of(x) if isinstance(x, Tracer | bool | int | float | complex) else None
    if aval is None:
        return np.asarray(x).dtype
    kinds = {"i": int, "f": float, "c": complex}
    return kinds.get(aval.dtype.kind, aval.dtype) if aval.weak else aval.dtype


def _in_loop_dtypes(
    ufunc: np.ufunc, args: Sequence[Value], dtype: Any, signature: Any, casting: Casting
) -> Sequence[Value]:
    """Operands in the dtypes of the loop that ``dtype=`` or ``signature=`` selects."""
    if dtype is None and signature is None and casting == "same_kind":
        return args
    if signature is None:
        signature = (None,) * ufunc.nin + (None if dtype is None else np.dtype(dtype),) * ufunc.nout
    elif isinstance(signature, str):
        signature = tuple(map(np.dtype, signature.replace("->", "")))
    kinds = [np.dtype(k) if isinstance(k, type) else k for k in map(_kind, args)]
    given = [*map(_kind, args), *[None] * ufunc.nout]
    loop = ufunc.resolve_dtypes(tuple(given), signature=signature, casting=casting)
    return [
        x if kind == wanted else to_dtype(as_array(x), wanted)
        for x, kind, wanted in zip(args, kinds, loop, strict=False)
    ]


def _delivered(name: str, result: Value, out: Any, where: Value, casting: Casting) -> Value:
    """The result, or ``out`` with the result written to it where the mask is True.

    Without ``out`` NumPy leaves what is not computed uninitialised; here it is zero.
    """
    if out is None:
        return result if where is True else np.where(where, result, 0)
    if not isinstance(out, Tracer) and not isinstance(result, Tracer):
        np.copyto(out, result, casting=casting, where=where)
        return out
    out = destination(f"np.{name}", out)
    require_castable(f"ufunc '{name}'", aval_of(result).dtype, out.dtype, casting)
    shape = np.broadcast_shapes(aval_of(result).shape, out.shape)
    if shape != out.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {out.shape} doesn't match the broadcast "
            f"shape {shape}{at(calling_position())}"
        )
    if where is not True:
        result = np.where(where, result, out)
    write(out, Ellipsis, to_dtype(np.broadcast_to(result, out.shape), out.dtype))
    return out


# ------------------------------------------------------------------ axes of generalized ufuncs


def _along(ufunc: np.ufunc, given: dict[str, Any]) -> Callable[..., Value]:
    """A generalized ufunc over the core axes that ``axes=``, ``axis=`` and ``keepdims=`` name."""
    if not ufunc.signature:
        raise TypeError(f"{ufunc.__name__}() got unexpected keyword arguments {sorted(given)}")
    refuse(ufunc.__name__, **{k: v for k, v in given.items() if k not in _AXES})
    function = UFUNCS[ufunc]
    axis, axes, keepdims = (given.get(k) for k in _AXES)

    def along(*args: Value) -> Value:
        ufunc(*[np.ones((1,) * aval_of(x).ndim) for x in args], **given)  # NumPy's errors, if any
        places = axes
        if places is None and axis is not None:
            places = [axis, axis] if keepdims is None else [axis, axis, axis]
        if places is None:
            places = [-1, -1, -1]
            if not keepdims:
                return function(*args)
        where_from = [tuple(p) if isinstance(p, tuple | list) else (index(p),) for p in places]
        moved = [
            np.moveaxis(x, p, range(-len(p), 0)) if p else x
            for x, p in zip(map(as_array, args), where_from, strict=False)
        ]
        result = function(*moved)
        if keepdims:
            return np.expand_dims(result, where_from[-1])
        if len(where_from) > ufunc.nin and where_from[-1]:
            target = where_from[-1]
            return np.moveaxis(result, range(-len(target), 0), target)
        return result

    return along


_AXES = ("axis", "axes", "keepdims")


# ------------------------------------------------------------------------------------ reductions

_REDUCTIONS: dict[np.ufunc, Any] = {
    np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min,
    np.logical_and: np.all, np.logical_or: np.any,
}  # fmt: skip


def reduce(
    ufunc: np.ufunc,
    array: Value,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Value = _NO,
    where: Value = True,
) -> Value:
    """``ufunc.reduce``: NumPy's named reduction where there is one, else element after element."""
    array = unwrapped(array) if _reduces_to_constants(ufunc) else as_array(array)
    target = out[0] if isinstance(out, tuple) else out
    dtype = dtype_for(array, None if dtype is None else np.dtype(dtype), target)
    keywords = {"axis": axis, "keepdims": keepdims, "where": where}
    if initial is not _NO and not (initial is None and ufunc not in _REDUCTIONS):
        keywords["initial"] = initial
    if _reduces_to_constants(ufunc) and not any(map(_is_tracer, (array, where, initial))):
        result = ufunc.reduce(array, dtype=dtype, **keywords)
    elif ufunc in (np.logical_and, np.logical_or):
        start = keywords.pop("initial", ufunc.identity)
        ufunc.reduce(np.ones(1, bool), dtype=dtype)  # NumPy's error for other dtypes
        result = ufunc(FUNCTIONS[_REDUCTIONS[ufunc]](array, **keywords), start)
    elif ufunc in _REDUCTIONS:
        if dtype is not None and ufunc in (np.add, np.multiply):
            keywords["dtype"] = dtype
        elif dtype is not None:
            array = to_dtype(array, dtype)
        result = FUNCTIONS[_REDUCTIONS[ufunc]](array, **keywords)
    elif ufunc is np.logaddexp or ufunc is np.logaddexp2:
        ufunc.reduce(np.ones(1, array.dtype), dtype=dtype)  # NumPy's error for other dtypes
        result = _log_sum(ufunc, array if dtype is None else to_dtype(array, dtype), **keywords)
    else:
        result = _folded(ufunc, array, dtype=dtype, **keywords)
    name = f"{ufunc.__name__}.reduce"
    if target is not None and target.shape != aval_of(result).shape:
        raise ValueError(
            f"np.{name}: out has the shape {target.shape}, but the result has "
            f"{aval_of(result).shape}{at(calling_position())}"
        )
    return _delivered(name, result, target, True, "same_kind")


def _reduces_to_constants(ufunc: np.ufunc) -> bool:
    """Whether the methods of a ufunc are locally constant too.

    A reduction begins with an element itself, which stays what it is if nothing follows; it must
    become a truth value or be an integer.
    """
    return _is_constant(ufunc) and not any(loop[-1] in "efdgFDG" for loop in ufunc.types)


def _first_converted(ufunc: np.ufunc, array: Value) -> Value:
    """Elements as the loop of a reduction takes them: truth values for logical ones."""
    logical = ufunc in (np.logical_and, np.logical_or, np.logical_xor)
    return to_dtype(array, np.dtype(bool)) if logical else array


def _log_sum(
    ufunc: np.ufunc,
    array: Value,
    axis: Any,
    keepdims: bool,
    where: Value,
    initial: Value = _NO,
) -> Value:
    """The logarithm of a sum of exponentials, over all elements at once, without overflow."""
    grow, shrink = (np.exp, np.log) if ufunc is np.logaddexp else (np.exp2, np.log2)
    if where is not True:
        array = np.where(truths(where), array, -np.inf)
    peak = unwrapped(np.max(array, axis=axis, keepdims=True, initial=-np.inf))
    peak = np.where(np.isfinite(peak), peak, 0)
    total = np.sum(grow(array - peak), axis=axis, keepdims=keepdims)
    with np.errstate(divide="ignore"):
        logarithm = shrink(total) + np.max(peak, axis=axis, keepdims=keepdims)
    return logarithm if initial is _NO else ufunc(starting(initial, array.dtype), logarithm)


def _folded(
    ufunc: np.ufunc,
    array: Value,
    axis: Any,
    dtype: Any,
    keepdims: bool,
    where: Value,
    initial: Value = _NO,
) -> Value:
    """Element after element along the reduced axes, in NumPy's order."""
    shape = array.shape
    example = np.ones([min(n, 1) for n in shape], array.dtype)
    start: Any = {} if initial is _NO else {"initial": 1}
    mask = np.ones((), bool) if where is not True else True
    start["keepdims"] = keepdims
    empty = ufunc.reduce(example, axis, dtype, where=mask, **start)  # NumPy's errors, if any
    if dtype is not None:
        array = to_dtype(array, np.dtype(dtype))
    array = _first_converted(ufunc, array)
    axes = (
        tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    )
    axes = tuple(normalize_axis(a, len(shape)) for a in axes) if shape else ()
    elements = _elements(array, axes)
    masks = None
    if where is not True:
        masks = _elements(np.broadcast_to(truths(where), shape), axes)
    if initial is _NO and masks is not None:
        initial = ufunc.identity  # without one NumPy has raised
    if initial is not _NO:
        elements = [starting(initial, array.dtype), *elements]
        masks = None if masks is None else [True, *masks]
    total = _fold(ufunc, elements, masks, empty)
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    rest_shape = tuple(n for a, n in enumerate(shape) if a not in axes)
    total = np.broadcast_to(total, rest_shape) if np.shape(total) != rest_shape else total
    total = to_dtype(as_array(total), empty.dtype)  # one element alone met no loop
    return np.reshape(total, kept) if keepdims else scalar(total)


def _elements(array: Value, axes: tuple[int, ...]) -> list[Value]:
    """The slices that a reduction over ``axes`` combines, in order."""
    front = np.moveaxis(array, axes, range(len(axes)))
    counts = front.shape[: len(axes)]
    return [front[place] for place in np.ndindex(*counts)]


def _fold(ufunc: np.ufunc, elements: Sequence[Value], masks: Any, empty: Value) -> Value:
    if not elements:
        return empty.ravel()[0] if isinstance(empty, np.ndarray) and empty.size else empty
    total, *others = elements
    for i, element in enumerate(others, 1):
        new = ufunc(total, element)
        total = new if masks is None else np.where(masks[i], new, total)
    return total


# -------------------------------------------------------------------------------- accumulations


def accumulate(
    ufunc: np.ufunc, array: Value, axis: int = 0, dtype: Any = None, out: Any = None
) -> Value:
    """``ufunc.accumulate``: running sums, products and extrema; others element after element."""
    if _reduces_to_constants(ufunc):
        array = unwrapped(array)
    array = as_array(array)
    target = out[0] if isinstance(out, tuple) else out
    if not _reduces_to_constants(ufunc):  # which have dtypes of their own
        dtype = dtype_for(array, dtype, target)
    name = f"{ufunc.__name__}.accumulate"
    if not isinstance(array, Tracer):
        return _delivered(name, ufunc.accumulate(array, axis, dtype), target, True, "same_kind")
    example = np.ones((1,) * array.ndim, array.dtype)
    form = ufunc.accumulate(example, axis, dtype)  # NumPy's errors, if any
    if dtype is not None or form.dtype != bool:
        array = to_dtype(array, np.dtype(dtype or form.dtype))
    array = _first_converted(ufunc, array)
    axis = _sole_axis(axis, array.ndim)
    if ufunc is np.add:
        result = np.cumsum(array, axis=axis, dtype=dtype)
    elif ufunc is np.multiply:
        result = np.cumprod(array, axis=axis, dtype=dtype)
    elif ufunc is np.maximum:
        result = cumulative.cummax(array, axis=axis, reverse=False)
    elif ufunc is np.minimum:
        result = cumulative.cummin(array, axis=axis, reverse=False)
    else:
        result = _running(ufunc, array, axis)
    return _delivered(name, result, target, True, "same_kind")


def _sole_axis(axis: Any, ndim: int) -> int:
    """The axis of an accumulation, which may be the only one of a tuple."""
    return normalize_axis(axis[0] if isinstance(axis, tuple) else axis, ndim)


def _running(ufunc: np.ufunc, array: Value, axis: int) -> Value:
    elements = _elements(array, (axis,))
    if not elements:
        return array
    totals = [elements[0]]
    for element in elements[1:]:
        totals.append(ufunc(totals[-1], element))
    return np.stack(totals, axis=axis)


def reduceat(
    ufunc: np.ufunc,
    array: Value,
    indices: Any,
    axis: int = 0,
    dtype: Any = None,
    out: Any = None,
) -> Value:
    """``ufunc.reduceat``: one reduction from each index to the next."""
    array = as_array(array)
    target = out[0] if isinstance(out, tuple) else out
    example = np.ones((1,) * array.ndim, array.dtype)
    ufunc.reduceat(example, [0], axis, dtype)  # NumPy's errors, if any
    axis = _sole_axis(axis, array.ndim)
    count = array.shape[axis]
    starts = [index(i) for i in np.asarray(unwrapped(indices)).tolist()]
    for i in starts:
        if not 0 <= i < count:
            raise IndexError(f"index {i} out-of-bounds in {ufunc.__name__}.reduceat [0, {count})")
    pieces = []
    for start, stop in zip(starts, [*starts[1:], count], strict=True):
        piece = array[(slice(None),) * axis + (slice(start, max(stop, start + 1)),)]
        pieces.append(ufunc.reduce(piece, axis=axis, dtype=dtype))
    if not pieces:
        result = array[(slice(None),) * axis + (slice(0, 0),)]
    else:
        result = np.stack(pieces, axis=axis)
    return _delivered(f"{ufunc.__name__}.reduceat", result, target, True, "same_kind")


def outer(ufunc: np.ufunc, a: Value, b: Value, **keywords: Any) -> Value:
    """``ufunc.outer``: every element of the first with every element of the second."""
    if ufunc.nin != 2:
        raise ValueError("outer product only supported for binary functions")
    a, b = as_array(a), as_array(b)
    return call(ufunc, np.reshape(a, a.shape + (1,) * b.ndim), b, **keywords)


_METHODS: dict[str, Callable[..., Value]] = {
    "__call__": call,
    "reduce": reduce,
    "accumulate": accumulate,
    "reduceat": reduceat,
    "outer": outer,
    "at": ufunc_at,
}
