"""`custom_vjp`, `custom_jvp`, `custom_rule`: functions that bring rules of their own.

The rules are ordinary functions. They run on concrete arrays unless an outer transform is active,
so they may call any external code; they are differentiable themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from vjpkit.control.calls import call_or_bind
from vjpkit.control.custom_arguments import Bound, CustomVJPPrimal, SymbolicZero, what_it_is
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.pytree import PyTree, tree_map
from vjpkit.transforms.arguments import Transformed, require_function
from vjpkit.transforms.derivatives import Function

__all__ = ["CustomVJPPrimal", "SymbolicZero", "custom_jvp", "custom_rule", "custom_vjp"]

Numbers = int | Sequence[int]
Names = str | Sequence[str]


class CustomRule(Transformed):
    """What functions with rules have in common: arguments by position, and a slot per rule."""

    word = "nondiff_argnums"

    def __init__(self, fun: Function, nondiff_argnums: Numbers, nondiff_argnames: Names) -> None:
        numbers = _tuple(nondiff_argnums, int, nondiff_argnums)
        super().__init__(fun, nondiff_argnums=numbers, nondiff_argnames=nondiff_argnames)
        self.signature = _signature(fun)
        self.nondiff = self._numbers(numbers, nondiff_argnames)
        self.forward: Function | None = None
        self.fwd: Function | None = None
        self.bwd: Function | None = None
        self.transposed: Function | None = None
        self.batched: Function | None = None
        self.linear: tuple[int, ...] | None = None
        self.symbolic = False
        self.symbolic_vjp = False
        self.staging: set[int] = set()

    def _numbers(self, numbers: tuple[Any, ...], names: Names) -> tuple[int, ...]:
        """Arguments that are not differentiated, by number."""
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise TypeError(
                f"{self.label}: {self.word} must be ints that count from 0, got "
                f"{numbers!r}{at(calling_position())}"
            )
        found = set(numbers)
        parameters = [] if self.signature is None else list(self.signature.parameters)
        for name in _tuple(names, str, names):
            if name not in parameters:
                raise ValueError(
                    f"{self.label}: nondiff_argnames names {name!r}, but the function's arguments "
                    f"are {', '.join(parameters) or 'not known'}{at(calling_position())}"
                )
            found.add(parameters.index(name))
        return tuple(sorted(found))

    def linear_of(self, count: int) -> tuple[int, ...]:
        """The arguments, of ``count``, in which a transpose rule says the function is linear."""
        every = tuple(n for n in range(count) if n not in self.nondiff)
        return every if self.linear is None else self.linear

    def bound(self, args: tuple[PyTree, ...], kwargs: dict[str, Any]) -> tuple[PyTree, ...]:
        """All arguments by position, with the function's defaults."""
        if self.signature is None:
            if kwargs:
                raise TypeError(
                    f"{self.label}: keyword arguments {sorted(kwargs)} of a function without a "
                    f"signature{at(calling_position())}.\nPass them by position."
                )
            return args
        if not kwargs and len(args) == len(self.signature.parameters):
            return args
        try:
            given = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.label}: {error}{at(calling_position())}") from None
        if given.kwargs:
            raise TypeError(
                f"{self.label}: arguments {sorted(given.kwargs)} are keyword-only, and rules get "
                f"arguments by position{at(calling_position())}.\n"
                "Make them positional in the function's signature, or close over them."
            )
        given.apply_defaults()
        return given.args

    def require_rule(self) -> None:
        """Raise where a derivative has nothing to be made from."""

    def __call__(self, *args: PyTree, **kwargs: Any) -> PyTree:
        args = self.bound(args, kwargs)
        bound = Bound(self, args)
        self.require_rule()
        return call_or_bind(
            bound.leaves, lambda: self.fun(*args), bound.call(), bound.tree_of_output
        )

    def _set_vjp(
        self, fwd: Function, bwd: Function, symbolic_zeros: bool, optimize_remat: bool
    ) -> None:
        require_function(f"{self.label}.defvjp", fwd, "fwd")
        require_function(f"{self.label}.defvjp", bwd, "bwd")
        if optimize_remat:
            raise TypeError(
                f"{self.label}.defvjp: optimize_remat is not supported{at(calling_position())}.\n"
                "Leave it out: fwd runs once when a pullback is made, and again only where "
                "vk.checkpoint computes it again."
            )
        self.fwd, self.bwd, self.symbolic_vjp = fwd, bwd, bool(symbolic_zeros)

    def _set_jvp(self, rule: Function, symbolic_zeros: bool) -> Function:
        require_function(f"{self.label}.defjvp", rule)
        self.forward, self.symbolic = rule, bool(symbolic_zeros)
        return rule


def _signature(fun: Function) -> inspect.Signature | None:
    """The signature of a function; None of ufuncs and builtins: they take arguments by position."""
    if isinstance(inspect.unwrap(fun), np.ufunc):
        return None
    try:
        return inspect.signature(fun)
    except (TypeError, ValueError):
        return None


def _tuple(value: Any, kind: type, given: Any) -> tuple[Any, ...]:
    """One or several as a tuple."""
    if isinstance(value, kind):
        return (value,)
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(
            f"an {kind.__name__} or a sequence of them is wanted, got "
            f"{given!r}{at(calling_position())}"
        ) from None


# --------------------------------------------------------------------------------------- custom_vjp


class CustomVJP(CustomRule):
    """What `custom_vjp` returns."""

    transform = "custom_vjp"

    def defvjp(
        self,
        fwd: Function,
        bwd: Function,
        symbolic_zeros: bool = False,
        optimize_remat: bool = False,
    ) -> None:
        """Set the rule: ``fwd(*args) -> (output, residuals)``, ``bwd(*nondiff, residuals, ct) ->
        cts``.

        ``ct`` has the output's tree; ``cts`` is a tuple with one cotangent per differentiable
        argument, None for zero. With ``symbolic_zeros`` the leaves of ``fwd``'s arguments are
        `CustomVJPPrimal` (``.value``, ``.perturbed``), and cotangents that are zero arrive as
        `SymbolicZero`. ``optimize_remat`` is refused.
        """
        self._set_vjp(fwd, bwd, symbolic_zeros, optimize_remat)

    def require_rule(self) -> None:
        if self.fwd is None:
            raise NotDifferentiableError(
                f"{self.label}: no rule is defined yet; call {self.__name__}.defvjp(fwd, bwd)"
                f"{at(calling_position())}"
            )


@overload
def custom_vjp(
    fun: Function, nondiff_argnums: Numbers = ..., nondiff_argnames: Names = ...
) -> CustomVJP: ...
@overload
def custom_vjp(
    fun: None = ..., nondiff_argnums: Numbers = ..., nondiff_argnames: Names = ...
) -> Callable[[Function], CustomVJP]: ...
def custom_vjp(
    fun: Function | None = None, nondiff_argnums: Numbers = (), nondiff_argnames: Names = ()
) -> CustomVJP | Callable[[Function], CustomVJP]:
    """A function with a pullback of its own; forward mode uses the transpose of ``bwd``.

    ``nondiff_argnums`` (or their names) are passed to ``fwd`` in their places and to ``bwd`` first.
    Residuals are any tree, of anything. ``bwd`` is differentiable itself, and both rules hold under
    every transform; where the function is staged, so are they. A derivative in a traced value that
    the function closes over is an error.

    >>> import numpy as np, vjpkit as vk
    >>> @vk.custom_vjp
    ... def f(x):
    ...     return np.sin(x)
    >>> f.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (2.0 * ct * np.cos(x),))
    >>> vk.grad(f)(0.0)
    np.float64(2.0)
    """
    if fun is None:
        return lambda f: CustomVJP(f, nondiff_argnums, nondiff_argnames)
    return CustomVJP(fun, nondiff_argnums, nondiff_argnames)


# --------------------------------------------------------------------------------------- custom_jvp


class CustomJVP(CustomRule):
    """What `custom_jvp` returns."""

    transform = "custom_jvp"

    def defjvp(self, rule: Function, symbolic_zeros: bool = False) -> Function:
        """Set the rule: ``rule(*nondiff, primals, tangents) -> (output, tangent)``; a decorator.

        With ``symbolic_zeros`` a tangent that is zero arrives as a `SymbolicZero`. The rule is
        linear in the tangents, and returns None or a `SymbolicZero` for a zero tangent.
        """
        return self._set_jvp(rule, symbolic_zeros)

    def defjvps(self, *rules: Function | None) -> None:
        """One rule per argument, ``rule(t, output, *primals) -> tangent``; None for zero."""
        for i, part in enumerate(rules):
            if part is not None:
                require_function(f"{self.label}.defjvps", part, f"rule {i}")
        if self.nondiff:
            raise TypeError(
                f"{self.label}.defjvps: not for functions with nondiff_argnums"
                f"{at(calling_position())}; use {self.__name__}.defjvp(rule)"
            )

        def rule(primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]) -> Any:
            if len(rules) != len(primals):
                raise TypeError(
                    f"{self.label}.defjvps: got {len(rules)} rules for {len(primals)} "
                    f"arguments{at(calling_position())}; None stands for a zero derivative"
                )
            out = self(*primals)
            pairs = zip(rules, tangents, strict=True)
            parts = [part(t, out, *primals) for part, t in pairs if part is not None]
            if not parts:
                return out, tree_map(lambda _: None, out)
            return out, tree_map(lambda *ts: sum(ts[1:], ts[0]), *parts)

        self.forward = rule

    def require_rule(self) -> None:
        if self.forward is None:
            raise NotDifferentiableError(
                f"{self.label}: no rule is defined yet; call {self.__name__}.defjvp(rule)"
                f"{at(calling_position())}"
            )


@overload
def custom_jvp(
    fun: Function, nondiff_argnums: Numbers = ..., nondiff_argnames: Names = ...
) -> CustomJVP: ...
@overload
def custom_jvp(
    fun: None = ..., nondiff_argnums: Numbers = ..., nondiff_argnames: Names = ...
) -> Callable[[Function], CustomJVP]: ...
def custom_jvp(
    fun: Function | None = None, nondiff_argnums: Numbers = (), nondiff_argnames: Names = ()
) -> CustomJVP | Callable[[Function], CustomJVP]:
    """A function with a forward rule of its own; the pullback is the rule's transpose.

    So the rule must be linear in the tangents: `NotLinearError` where reverse mode meets ``abs(t)``
    or ``t + 1``, which forward mode takes as they are.

    >>> import numpy as np, vjpkit as vk
    >>> @vk.custom_jvp
    ... def f(x):
    ...     return np.sin(x)
    >>> @f.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return f(x), 3.0 * t * np.cos(x)
    >>> vk.grad(f)(0.0)
    np.float64(3.0)
    """
    if fun is None:
        return lambda f: CustomJVP(f, nondiff_argnums, nondiff_argnames)
    return CustomJVP(fun, nondiff_argnums, nondiff_argnames)


# -------------------------------------------------------------------------------------- custom_rule


class Ruled(CustomRule):
    """What `custom_rule` returns."""

    transform = "custom_rule"

    def defjvp(self, rule: Function, symbolic_zeros: bool = False) -> Function:
        """``rule(*nondiff, primals, tangents) -> (output, tangent)``; a decorator."""
        return self._set_jvp(rule, symbolic_zeros)

    def defvjp(self, fwd: Function, bwd: Function, symbolic_zeros: bool = False) -> None:
        """``fwd(*args) -> (output, residuals)``, ``bwd(*nondiff, residuals, ct) -> cts``."""
        self._set_vjp(fwd, bwd, symbolic_zeros, False)

    def deftranspose(self, rule: Function) -> Function:
        """``rule(*nondiff, *other_args, ct) -> cts`` of the linear arguments; a decorator."""
        require_function(f"{self.label}.deftranspose", rule)
        self.transposed = rule
        return rule

    def defvmap(self, rule: Function) -> Function:
        """``rule(axis_size, in_batched, *args) -> (output, out_batched)``; a decorator."""
        require_function(f"{self.label}.defvmap", rule)
        self.batched = rule
        return rule


def custom_rule(
    fun: Function | None = None,
    *,
    jvp: Function | None = None,
    vjp: tuple[Function, Function] | None = None,
    transpose: Function | None = None,
    vmap: Function | None = None,
    linear_argnums: Numbers | None = None,
    nondiff_argnums: Numbers = (),
    nondiff_argnames: Names = (),
) -> Any:
    """A function with any of four rules; those that are missing are derived from those given.

    * ``jvp(*nondiff, primals, tangents) -> (output, tangent)``, as in `custom_jvp`;
    * ``vjp=(fwd, bwd)``, as in `custom_vjp`;
    * ``transpose(*nondiff, *other_args, ct) -> cts``: the function is jointly linear in
      ``linear_argnums`` (by default in all arguments), and this is its transpose in them;
    * ``vmap(axis_size, in_batched, *args) -> (output, out_batched)``: how it maps over leading
      axes; ``in_batched`` says of each leaf of each argument whether it has one.

    Forward mode is ``jvp``, or the transpose of ``bwd``; reverse mode ``bwd``, or the transpose of
    ``jvp``; a ``transpose`` gives both in the linear arguments, and comes first there. Without any
    of these three, derivatives are those of the function itself; where that is opaque to tracing
    they are an error. A missing ``vmap`` maps the function and its rules. Rules can also be set by
    the methods ``defjvp``, ``defvjp``, ``deftranspose`` and ``defvmap``.

    >>> import numpy as np, vjpkit as vk
    >>> flip = vk.custom_rule(lambda x: x[::-1], transpose=lambda ct: (ct[::-1],))
    >>> vk.grad(lambda x: flip(x) @ np.array([1.0, 2.0]))(np.zeros(2))
    array([2., 1.])
    >>> vk.jvp(flip, (np.zeros(2),), (np.array([5.0, 6.0]),))[1]
    array([6., 5.])
    """
    if fun is None:
        return lambda f: custom_rule(
            f, jvp=jvp, vjp=vjp, transpose=transpose, vmap=vmap, linear_argnums=linear_argnums,
            nondiff_argnums=nondiff_argnums, nondiff_argnames=nondiff_argnames,
        )  # fmt: skip
    out = Ruled(fun, nondiff_argnums, nondiff_argnames)
    if jvp is not None:
        out.defjvp(jvp)
    if vjp is not None:
        if not isinstance(vjp, tuple | list) or len(vjp) != 2:
            raise TypeError(
                f"{out.label}: vjp must be a pair (fwd, bwd), got {what_it_is(vjp)}"
                f"{at(calling_position())}"
            )
        out.defvjp(*vjp)
    if transpose is not None:
        out.deftranspose(transpose)
    if vmap is not None:
        out.defvmap(vmap)
    if linear_argnums is not None:
        out.linear = _tuple(linear_argnums, int, linear_argnums)
        if transpose is None or set(out.linear) & set(out.nondiff):
            raise TypeError(
                f"{out.label}: linear_argnums says in which differentiable arguments a transpose "
                f"rule is meant, got {linear_argnums!r} with nondiff_argnums={out.nondiff} and "
                f"{'no' if transpose is None else 'a'} transpose{at(calling_position())}"
            )
    return out
