"""Calls of SciPy's compiled code: what they depend on that is traced, and how they are run.

SciPy is given plain values only. What is traced among the arguments of a call, or among what the
functions given to it close over, becomes the operands of one function with rules of its own: the
rules say how the result depends on them, and SciPy runs where all of them are known. While they are
staged or mapped that is one equation, which runs example by example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import numpy as np

from vjpkit.control.external import LOOPS, External, external
from vjpkit.control.jit import jit
from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import TracerConversionError, UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost
from vjpkit.core.tracer import RUNNING, Tracer
from vjpkit.ops.structural import to_dtype
from vjpkit.pytree import PyTree, flatten, tree_map
from vjpkit.scipy._namespace import scipy_module
from vjpkit.transforms.arguments import name_of, stacked_leaf
from vjpkit.transforms.closures import closes_over_traced
from vjpkit.transforms.staged import closure_convert, is_abstract

__all__ = [
    "Call",
    "Known",
    "Often",
    "Parameters",
    "host",
    "is_traced",
    "known_only_in",
    "like",
    "real_array",
    "reported",
    "traced_in",
    "tuple_of",
    "unknowns",
    "value_of",
]

Known = Callable[..., Any]
"""A function of the values of parameters, and then of its own arguments."""


def traced_in(tree: PyTree) -> list[Tracer]:
    """The traced leaves."""
    return [x for x in flatten(tree)[0] if isinstance(x, Tracer)]


def is_traced(*values: Any) -> bool:
    """Whether a value is traced, or a function is seen to close over a traced one."""
    return bool(traced_in(values)) or any(
        closes_over_traced(f) for f in flatten(values)[0] if callable(f)
    )


def value_of(y: PyTree) -> Value:
    """What a user's function returned, as one array: lists of traced values are stacked."""
    y = np.asanyarray(y) if not isinstance(y, Tracer) else y
    return stacked_leaf(y)


class Parameters:
    """What a call depends on that is traced: in its arguments, and in what functions close over.

    ``args`` is a tree of anything. `function` adds what a function closes over.
    """

    def __init__(self, label: str, args: PyTree) -> None:
        self.label, self.args = label, args
        self.leaves, self.tree = flatten(args)
        self.places = [i for i, x in enumerate(self.leaves) if isinstance(x, Tracer)]
        self.values: list[Value] = [self.leaves[i] for i in self.places]
        require_real(self.label, self.values)

    def at(self, values: Sequence[Value]) -> PyTree:
        """The arguments, with ``values`` in the places of what is traced."""
        leaves = list(self.leaves)
        for i, x in zip(self.places, values, strict=False):
            leaves[i] = x
        return self.tree.unflatten(leaves)

    def function(
        self, fun: Callable[..., PyTree], examples: Sequence[Value], args: Callable[[PyTree], Any]
    ) -> Known:
        """``fun(*xs, *args)`` as a function of values and xs like ``examples``.

        ``args`` takes the extra arguments of ``fun`` out of the arguments of the call.
        """
        if not closes_over_traced(fun):
            return lambda values, *xs: fun(*xs, *args(self.at(values)))
        own, start = len(self.places), len(self.values)

        def explicit(values: list[Value], *xs: Value) -> PyTree:
            return fun(*xs, *args(self.at(values)))

        explicit.__name__ = name_of(fun)
        try:
            converted, hoisted = closure_convert(explicit, self.values[:own], *examples)
        except TracerConversionError as error:
            error.add_note(
                f"{self.label} stages {name_of(fun)}, which closes over traced values: its control "
                "flow may not depend on values. Pass the traced values in args= instead."
            )
            raise
        require_real(self.label, hoisted)
        self.values += hoisted
        stop = len(self.values)
        return lambda values, *xs: converted(list(values[:own]), *xs, *values[start:stop])

    def plain(self, fun: Known, values: Sequence[Value]) -> Callable[..., Any]:
        """The function at plain values, for SciPy to call."""
        return watched(self.label, partial(fun, values))


def watched(label: str, fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function that SciPy calls: it raises where a traced value would get lost."""

    @wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        y = fun(*args, **kwargs)
        if traced_in(y):
            raise TracerConversionError(
                f"{label}: {name_of(fun)} returned a traced value where all arguments are plain "
                f"ones{at(calling_position())}.\nIt closes over a traced value in a way that "
                "cannot be seen: pass that value in args=."
            )
        return y

    return run


def untraced(label: str, theirs: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """SciPy's function of plain values; while a transform runs, its functions are watched."""
    if RUNNING.get().on:
        args, kwargs = tree_map(
            lambda x: watched(label, x) if callable(x) and not isinstance(x, type) else x,
            (args, kwargs),
        )
    return theirs(*args, **kwargs)


class Often:
    """A function of plain values that SciPy calls often: op by op at first, then as a program.

    What cannot be staged, since its control flow depends on values, stays as it is.
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.fun = fun
        self.calls = 0
        self.run = fun

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls == AFTER:
            program = jit(self.fun, backend="numpy")
            try:
                y = program(*args)
            except Exception:  # whatever plain code makes of a tracer; what is wrong comes up again
                return self.fun(*args)
            self.run = program
            return y
        return self.run(*args)


AFTER = 60
"""Calls that take as long as staging does."""


def require_real(label: str, values: Sequence[Value]) -> None:
    """Raise for complex numbers: SciPy's routines are differentiated in real ones."""
    for x in values:
        if np.iscomplexobj(x):
            raise UnsupportedError(
                f"{label}: a value is complex, of shape {np.shape(x)}, where something that is "
                f"computed from it is traced{at(calling_position())}.\n"
                "Pass real and imaginary parts as real numbers."
            )


def unknowns(label: str, x: PyTree) -> Value:
    """First guesses or initial states as one array of real numbers."""
    start = value_of(x)
    require_real(label, [start])
    return start


def host(label: str, run: Callable[..., tuple[Any, ...]], avals: Sequence[Aval] | None) -> Any:
    """Code that takes plain values only, as a function of any; it has no derivative.

    ``avals`` are those of what it returns; without them it cannot be staged.
    """
    declared = None if avals is None else tuple(avals)
    call = External(label, run, declared, told={LOOPS})

    def function(*values: Value) -> tuple[Any, ...]:
        if not any(isinstance(x, Tracer) for x in values):
            return run(*values)
        return external(*values, call=call)  # type: ignore[no-any-return]  # untyped

    return function


def known_only(module: str, function: Callable[..., Any], instead: str) -> Callable[..., Any]:
    """SciPy's function, which takes plain values and functions that close over plain values."""

    label = f"{module}.{function.__name__}"

    @wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        if is_traced(args, kwargs):
            raise UnsupportedError(
                f"{label}: traced values are not supported{at(calling_position())}.\n{instead}"
            )
        return untraced(label, function, args, kwargs)

    return refusing


def known_only_in(
    module: str, names: dict[str, str], get: Callable[[str], Any]
) -> Callable[[str], Any]:
    """``__getattr__`` of a module in which ``names`` refuse traced values and say what to do."""

    def attribute(name: str) -> Any:
        found = get(name)
        return found if name not in names else known_only(module, found, names[name])

    return attribute


# ------------------------------------------------------------------------------ SciPy's signatures


@dataclass(frozen=True)
class Call:
    """A call of a function of SciPy's in which something is traced."""

    label: str
    theirs: Callable[..., Any]
    bound: inspect.BoundArguments
    found: Any = None

    def run(self, **replaced: Any) -> Any:
        """SciPy's function, with other values for some of the arguments."""
        arguments = {**self.bound.arguments, **replaced}
        bound = inspect.BoundArguments(self.bound.signature, arguments)
        return self.theirs(*bound.args, **bound.kwargs)


def like(
    module: str, steering: str = "", rehearse: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """SciPy's function where nothing is traced, and the decorated rule where something is.

    The rule has SciPy's name, and takes a `Call` and those of SciPy's arguments that it knows.
    ``steering`` are arguments that only say how SciPy finds its result. Any other must have its
    default. Of what SciPy computes without calling back it can ``rehearse``: then errors and dtypes
    are SciPy's, and the call has what SciPy returned.
    """

    def decorate(rule: Callable[..., Any]) -> Callable[..., Any]:
        theirs = getattr(scipy_module(module), rule.__name__)
        signature = _signature(theirs, rule)
        mine = set(inspect.signature(rule).parameters)
        label = f"{module}.{rule.__name__}"

        @wraps(rule)
        def function(*args: Any, **kwargs: Any) -> Any:
            if not is_traced(args, kwargs):
                return untraced(label, theirs, args, kwargs)
            bound, full = (signature.bind(*args, **kwargs) for _ in range(2))
            full.apply_defaults()
            given = full.arguments
            for name in [name for name in given if name not in {*mine, *steering.split()}]:
                require_default(label, name, given[name], signature.parameters[name].default)
            known = {name: x for name, x in given.items() if name in mine}
            if not rehearse:
                return rule(Call(label, theirs, bound), **known)
            found = rehearsed(theirs, args, kwargs)
            if not any(x.size for x in traced_in((args, kwargs))):
                return found  # of no elements, so that there are no derivatives
            return fitted(rule(Call(label, theirs, bound, found), **known), found)

        function.__signature__ = signature  # type: ignore[attr-defined]  # as inspect reads it
        return function

    return decorate


def _signature(theirs: Callable[..., Any], rule: Callable[..., Any]) -> inspect.Signature:
    """SciPy's signature; the rule's, of what is compiled and tells none."""
    try:
        return inspect.signature(theirs)
    except ValueError:
        own = inspect.signature(rule)
        return own.replace(parameters=list(own.parameters.values())[1:])


def require_default(label: str, name: str, given: Any, default: Any) -> None:
    """Raise where an argument that traced values do not go with has not its default."""
    plain = (bool, int, float, str, tuple, dict, type(None))
    if given is default or (isinstance(given, plain) and given == default):
        return
    if default is inspect.Parameter.empty and not given:  # further keywords
        return
    raise UnsupportedError(
        f"{label}: {name}= is not supported with traced values{at(calling_position())}.\n"
        "Leave it out, or stop the derivative of what is traced: vk.lax.stop_gradient(x)."
    )


def real_array(label: str, x: Any) -> Any:
    """What SciPy or a user's function returned, as floats; complex numbers raise."""
    if np.iscomplexobj(x):
        raise UnsupportedError(
            f"{label}: a result is complex, where something that it depends on is traced"
            f"{at(calling_position())}.\nWrite it as a function of real and imaginary parts."
        )
    return np.asarray(x, float)[()]


def tuple_of(args: Any) -> tuple[Any, ...]:
    """Extra arguments as a tuple, as SciPy reads them."""
    return args if isinstance(args, tuple) else (args,)


_REPORTED = (str, bool, int, np.bool_, np.integer)


def reported(x: Value, found: Sequence[Any], /, **values: Value) -> Any:
    """SciPy's result, of which ``values`` may be traced: what else it reports are words and counts.

    While ``x`` is staged or mapped there are ``values`` alone.
    """
    if is_abstract(x) or not found:
        return scipy_module("optimize").OptimizeResult(values)
    out = copy(found[-1])
    for key in [key for key, value in out.items() if not isinstance(value, _REPORTED)]:
        del out[key]
    out.update(values)
    return out


def rehearsed(theirs: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What SciPy's function returns of known values in the places of traced ones.

    Of their own values, or of ones where these are not known: SciPy says what is wrong with shapes
    and options, and of what shapes and dtypes the result is.
    """

    def known(x: Any) -> Any:
        if not isinstance(x, Tracer):
            return x
        return np.ones(x.shape, x.dtype)[()] if is_abstract(x) else innermost(x)

    inner, words = tree_map(known, (args, kwargs))
    with np.errstate(all="ignore"):
        return theirs(*inner, **words)


def fitted(out: Any, theirs: Any) -> Any:
    """What a rule returned, in SciPy's dtypes."""
    if isinstance(theirs, tuple):
        return tuple([fitted(x, y) for x, y in zip(out, theirs, strict=True)])
    return out if out is None or isinstance(out, dict) else to_dtype(out, np.asarray(theirs).dtype)
