"""The edge of every transform: which arguments, which leaves, which outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, MethodType, TracebackType
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import (
    INTERNAL,
    Position,
    TracerConversionError,
    UnsupportedError,
    at,
    calling_position,
    counted,
    note_line,
)
from vjpkit.core.tracer import RUNNING, Running, Tracer, operand, refresh, require_open
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr, tree_map

__all__ = ["Transformed", "called", "float_leaf", "name_of", "resolve_argnums", "what"]

_FLOATS = frozenset("fc")


def name_of(f: Callable[..., Any]) -> str:
    """What errors and representations call a function."""
    return getattr(f, "__name__", None) or type(f).__name__


def require_function(label: str, fun: object, which: str = "the first argument") -> None:
    """Raise unless ``fun`` can be called."""
    if not callable(fun):
        raise TypeError(f"{label}: {which} must be a function, got {type(fun).__name__}{_here()}")


def what(x: object) -> str:
    """What errors call a value: the aval of a traced one, the type of any other."""
    return f"a traced {x.aval}" if isinstance(x, Tracer) else type(x).__name__


_UNMAPPED = {on: Running(on) for on in ("values", "abstract", "exact")}
"""How functions run that are mapped over no named axis: most of them, so it is made but once."""


def called(
    trace: Any,
    fun: Callable[..., PyTree],
    args: Sequence[PyTree],
    kwargs: dict[str, Any],
    on: str = "",
) -> PyTree:
    """What the user's function returns, called by a transform; ``np.array([t1, t2])`` is stacked.

    ``trace`` is the transform's, which ends after this: a view of an array that was written to
    later is read once more now. ``on`` says what the arguments are, as `Running` has it.
    NumPy hides the error of a traced value written into a plain array behind a `ValueError` about
    sequences; the one that says what to do comes out instead.
    """
    outer = RUNNING.get()
    on = on or outer.on or "values"
    token = RUNNING.set(Running(on, outer.axes) if outer.axes else _UNMAPPED[on])
    try:
        y = stacked(fun(*args, **kwargs))
        for leaf in flatten(y)[0] if trace.dirty else ():
            if isinstance(leaf, Tracer) and leaf.owner.dirty:
                refresh(leaf)
        return y
    except Exception as error:
        hidden = explained(error)
        if hidden is None:
            raise
    finally:
        RUNNING.reset(token)
    raise hidden


def explained(error: Exception) -> TracerConversionError | None:
    """Add to an error the user's line and what to do; the error that it hides, if there is one."""
    cause, trace = error.__cause__, error.__traceback__
    if isinstance(error, ValueError) and isinstance(cause, TracerConversionError):
        note(cause.with_traceback(trace), hint_for(cause, trace))
        return cause
    name_line(error)
    note(error, hint_for(error, trace))
    return None


def note(error: Exception, text: str | None) -> None:
    """Add a note that is not there yet."""
    if text is not None and text not in getattr(error, "__notes__", ()):
        error.add_note(text)


_HINTS = (
    (
        re.compile(
            r"dtype\('O'\)|[Oo]bject arrays?\b|dtype object|no callable \w+ method"
            r"|not supported for the input types|[Uu]nsupported array type"
            r"|array type .*not supported|Python object|'object'|numpy.object_"
            r"|(data|this) type\b|No matching signature|other than float"
        ),
        "np.array([x, y]) of traced values is an array of objects, which NumPy computes with where "
        "it can. This function does not take one: build the array with vnp.array or np.stack. What "
        "compiled code computes with plain numbers, vk.numeric_vjp(f) differentiates.",
    ),
    (
        re.compile("^only integers, slices"),
        "A plain array takes no traced or mapped index: write vnp.take(a, i, axis=0), or make it "
        "one that does, vnp.array(a).",
    ),
    (
        re.compile("^expected a sequence of integers or a single integer, got 'Traced"),
        "Shapes are known when a function is staged or mapped: make the argument that decides one "
        "static, or do not map over it.",
    ),
    (
        re.compile("^(assignment destination|output array) is read-only$"),
        "What np.asarray makes of a traced array cannot be written to: vnp.asarray(x) gives the "
        "array itself, np.array(x) a copy.",
    ),
    (
        re.compile("^Multiple namespaces for array inputs"),
        "The arrays of one call have to be of one kind: make a plain one of the traced ones' with "
        "x.__array_namespace__().asarray(a).",
    ),
)
"""What other libraries say where they meet traced values, and what to do about it."""


def hint_for(error: Exception, trace: TracebackType | None) -> str | None:
    """What to do about an error of NumPy's or SciPy's that traced values are behind."""
    if isinstance(error, TracerConversionError) and passed_through(trace, "pandas"):
        return "A pandas object computes with plain numbers: pass its array, s.to_numpy()."
    if isinstance(error, TracerConversionError) and passed_through(trace, "scipy"):
        return "SciPy computes this with plain numbers: vk.numeric_vjp(f) differentiates it."
    if type(error).__module__.startswith("vjpkit"):
        return None
    text = str(error)
    if isinstance(error, AttributeError) and text.startswith("'float' object has no attribute"):
        text = "object array" if innermost_is_internal(trace) else text  # in NumPy's own code
    if isinstance(error, IndexError) and innermost_is_internal(trace):
        return None  # a traced array was indexed, by something that indexes no array
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), None)


def frames_of(trace: TracebackType | None) -> Iterator[FrameType]:
    """The frames of a traceback, the innermost last."""
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def passed_through(trace: TracebackType | None, package: str) -> bool:
    """Whether code of a package led to the error."""
    names = [frame.f_globals.get("__name__", "") for frame in frames_of(trace)]
    return any(name.partition(".")[0] == package for name in names)


def innermost_is_internal(trace: TracebackType | None) -> bool:
    """Whether NumPy or vjpkit raised it."""
    names = [frame.f_code.co_filename for frame in frames_of(trace)]
    return bool(names) and INTERNAL[names[-1]]


def name_line(error: Exception) -> None:
    """Note the user's line on an error that NumPy or vjpkit raised and that does not name it."""
    position: Position = None, -1
    internal = False
    trace = error.__traceback__
    while trace is not None:
        internal = INTERNAL[trace.tb_frame.f_code.co_filename]
        if not internal:
            position = trace.tb_frame.f_code, trace.tb_lasti
        trace = trace.tb_next
    if internal:
        note_line(error, position)


def stacked(y: PyTree) -> PyTree:
    """Outputs with traced arrays where NumPy made object arrays of traced values."""
    return y if isinstance(y, Tracer) else tree_map(stacked_leaf, y)


def stacked_leaf(y: Value) -> Value:
    """A traced array where NumPy made an object array of traced values; others as they are."""
    if isinstance(y, np.ndarray) and y.dtype == object:
        return operand(y) if any(isinstance(item, Tracer) for item in y.flat) else y
    return y


class Transformed:
    """A transformed function: callable, printable, usable as a method, wrapping ``fun``."""

    transform = ""

    def __init__(self, fun: Callable[..., Any], **options: Any) -> None:
        require_function(self.transform, fun)
        self.fun = fun
        self.options = options
        self.label = f"{self.transform}({name_of(fun)})"
        self.__wrapped__ = fun
        self.__name__ = name_of(fun)
        self.__doc__ = getattr(fun, "__doc__", None)
        self.__module__ = getattr(fun, "__module__", type(self).__module__)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        words = [name_of(self.fun), *(f"{k}={v!r}" for k, v in self.options.items() if v)]
        return f"{self.transform}({', '.join(words)})"


def resolve_argnums(label: str, argnums: Any, count: int) -> tuple[int, ...]:
    """Argument numbers as a tuple of non-negative ints; `TypeError` names argnums."""
    if type(argnums) is int and 0 <= argnums < count:
        return (argnums,)
    numbers = argnums if isinstance(argnums, tuple | list) else (argnums,)
    resolved = []
    for n in numbers:
        if not isinstance(n, int | np.integer) or isinstance(n, bool):
            raise TypeError(
                f"{label}: argnums must be an int or a tuple of ints, got {argnums!r}{_here()}"
            )
        if not -count <= n < count:
            raise TypeError(
                f"{label}: argnums={argnums!r} is out of range: the call has "
                f"{counted(count, 'positional argument')}{at(calling_position())}.\n"
                "Differentiated arguments are passed by position; keywords are not differentiated."
            )
        resolved.append(int(n) % count)
    if len(set(resolved)) != len(resolved):
        raise TypeError(f"{label}: argnums={argnums!r} names an argument twice{_here()}")
    return tuple(resolved)


def float_leaf(label: str, which: str, x: Value, allow_int: bool = False) -> Value:
    """A leaf that can be differentiated in, or a `TypeError` that says what to do.

    Python ints become floats; integer arrays pass unchanged only where ``allow_int``.
    """
    kind = type(x)
    if kind is np.ndarray and x.dtype.kind in _FLOATS:
        return x
    if kind is float or kind is complex:
        return x
    if kind is int:
        return x if allow_int else float(x)
    if isinstance(x, Tracer):
        if x.aval.inexact or allow_int:
            return require_open(x)
    elif isinstance(x, np.ndarray | np.generic) or hasattr(x, "__array_ufunc__"):
        x = plain_array(label, which, x) if isinstance(x, np.ndarray) else x
        if not hasattr(x, "dtype"):
            raise UnsupportedError(f"{label}: {which} is a {kind.__name__}, not an array{_here()}")
        if x.dtype.kind in _FLOATS or allow_int:
            return x
    elif not isinstance(x, bool):
        raise TypeError(
            f"{label}: {which} is a {kind.__name__}, which is neither an array nor a "
            f"number{_here()}.\n"
            "Pass it as a keyword or through a closure, or choose other argnums; a class of your "
            "own "
            "becomes a container with vk.tree_util.register_pytree_node or as a dataclass."
        )
    raise TypeError(
        f"{label}: {which} is {aval_of(x) if not isinstance(x, bool) else 'a bool'}; derivatives "
        "are "
        f"taken in floating-point arguments.{_here()}\n"
        "Cast it, e.g. x.astype(float), choose other argnums, or pass allow_int=True for float0 "
        "zeros."
    )


def plain_array(label: str, which: str, x: np.ndarray[Any, Any]) -> Value:
    """An array without the ways of a subclass; an error that names ``which`` where it is none."""
    try:
        return operand(x)
    except TypeError as error:
        raise type(error)(f"{label}: {which}: {error}") from None


def _here() -> str:
    return at(calling_position())


def read_arguments(
    label: str, args: Sequence[PyTree], numbers: Sequence[int], allow_int: bool = False
) -> list[tuple[list[Value], PyTreeDef]]:
    """Leaves (all fit for differentiation) and tree of each chosen argument."""
    out = []
    for n in numbers:
        arg = args[n]
        if type(arg) is np.ndarray and arg.dtype.kind in _FLOATS:
            out.append(([arg], LEAF))
            continue
        leaves, tree = flatten(arg)
        for i, leaf in enumerate(leaves):
            if type(leaf) is np.ndarray and leaf.dtype.kind in _FLOATS:
                continue
            try:
                leaves[i] = float_leaf(label, f"argument {n}", leaf, allow_int)
            except TypeError:
                path = keystr(flatten_with_path(arg)[0][i][0])
                float_leaf(label, f"argument {n}{f' at {path}' if path else ''}", leaf, allow_int)
        out.append((leaves, tree))
    return out


LEAF = flatten(0.0)[1]
"""The tree of a bare leaf."""


def require_arrays(label: str, y: PyTree, outs: Sequence[Value]) -> None:
    """Raise for an output (a tree ``y`` with leaves ``outs``) that is no array and no number."""
    for i, out in enumerate(outs):
        if isinstance(out, np.ndarray) and out.dtype.kind not in "biufc":
            plain_array(label, "the function's output", out)
        elif not (isinstance(out, bool | int | float | complex) or hasattr(out, "dtype")):
            path = keystr(flatten_with_path(y)[0][i][0])
            raise TypeError(
                f"{label}: the function returned a {type(out).__name__}"
                f"{f' at {path}' if path else ''}; outputs are arrays, numbers and trees of them "
                f"(has_aux=True passes other things through){_here()}"
            )


def scalar_output(label: str, y: Value, aval: Aval | None, holomorphic: bool) -> None:
    """Raise unless ``y`` is a real floating scalar (complex where ``holomorphic``)."""
    if aval is not None and aval.shape == () and aval.dtype.kind == "cf"[not holomorphic]:
        return
    if aval is None or aval.shape != () or aval.dtype.kind not in "biufc":
        returned = what(y) if aval is None else f"an array {aval}"
        advice = (
            f"Return y[{', '.join('0' * len(aval.shape))}] or np.sum(y): it has one element."
            if aval is not None and aval.size == 1
            else "Return np.sum(...) or another scalar, extra values with has_aux=True, or use "
            "jacrev, jacfwd or vjp for arrays and trees."
        )
        raise TypeError(
            f"{label}: the function returned {returned}; a gradient needs a scalar ().{_here()}\n"
            f"{advice}"
        )
    if aval.dtype.kind == "c" and not holomorphic:
        raise TypeError(
            f"{label}: the function returned a complex number ({aval}); a gradient needs a real "
            f"one.{_here()}\n"
            "Return its real part or absolute value, or pass holomorphic=True for a holomorphic "
            "function."
        )
    if not aval.inexact:
        raise TypeError(
            f"{label}: the function returned {aval}; a gradient needs a floating-point number."
            f"{_here()}\nInteger and boolean results do not change continuously; return a float."
        )
    if holomorphic and aval.dtype.kind != "c":
        raise TypeError(
            f"{label}: holomorphic=True, but the function returned {aval}, which is real{_here()}\n"
            "Leave holomorphic=True out: a real output of complex arguments has the gradient "
            "du/dx - i du/dy."
        )
