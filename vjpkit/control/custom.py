"""`custom_vjp` and `custom_jvp`: functions that bring their own derivative, with JAX's spelling.

The rules are ordinary functions. They run on concrete arrays unless an outer transform is active,
so they may call any external code; they are differentiable themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from vjpkit.control.calls import (
    Call,
    call_or_bind,
    flat_outputs,
    mapped_function,
    zeros_of,
)
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.rows import COPY_LIMIT, Guard
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr
from vjpkit.transforms.arguments import Transformed, require_function, what
from vjpkit.transforms.derivatives import Function, linearize
from vjpkit.transforms.linear import FLOAT0, Backing, LinearMap, Residual

__all__ = ["custom_jvp", "custom_vjp"]


class Bound:
    """A function with its non-differentiable arguments filled in, on flat leaves."""

    def __init__(
        self, name: str, fun: Function, args: Sequence[PyTree], nondiff: tuple[int, ...]
    ) -> None:
        self.name = name
        self.fun = fun
        self.nondiff = nondiff
        if nondiff and max(nondiff) >= len(args):
            raise TypeError(
                f"{name}: nondiff_argnums={nondiff} is out of range: the call has {len(args)} "
                f"argument{'s' * (len(args) != 1)}{at(calling_position())}"
            )
        self.fixed = [args[n] for n in nondiff]
        self.count = len(args)
        chosen = tuple(a for n, a in enumerate(args) if n not in nondiff)
        self.leaves, self.tree = flatten(chosen)
        self.out_tree: PyTreeDef | None = None

    def arguments(self, leaves: Sequence[Value]) -> tuple[PyTree, ...]:
        """The differentiable arguments as the user wrote them."""
        return tuple(self.tree.unflatten(leaves))

    def all_arguments(self, leaves: Sequence[Value]) -> list[PyTree]:
        """Every argument in its place."""
        chosen, fixed = iter(self.arguments(leaves)), iter(self.fixed)
        return [next(fixed) if n in self.nondiff else next(chosen) for n in range(self.count)]

    def output(self, y: PyTree) -> tuple[Value, ...]:
        """An output as flat leaves; its tree is remembered."""
        leaves, self.out_tree = flat_outputs(self.name, y)
        return tuple(leaves)

    def run(self, *leaves: Value) -> tuple[Value, ...]:
        """The function itself, flat."""
        return self.output(self.fun(*self.all_arguments(leaves)))


class CustomRule(Transformed):
    """What `custom_vjp` and `custom_jvp` have in common."""

    def __init__(self, fun: Function, nondiff_argnums: Sequence[int]) -> None:
        super().__init__(fun, nondiff_argnums=tuple(nondiff_argnums))
        self.nondiff = tuple(nondiff_argnums)
        self.signature = inspect.signature(fun)
        parameters = self.signature.parameters.values()
        if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
            raise TypeError(f"{self.label}: required keyword-only arguments are not supported")
        if not all(isinstance(n, int) and n >= 0 for n in self.nondiff):
            raise TypeError(
                f"{self.label}: nondiff_argnums must be ints that count from 0, got "
                f"{nondiff_argnums!r}{at(calling_position())}"
            )

    def bound(self, args: tuple[PyTree, ...], kwargs: dict[str, Any]) -> tuple[PyTree, ...]:
        """All arguments by position, with the function's defaults."""
        if not kwargs and len(args) == len(self.signature.parameters):
            return args
        try:
            given = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.label}: {error}{at(calling_position())}") from None
        given.apply_defaults()
        if given.kwargs:
            raise TypeError(f"{self.label}: arguments {sorted(given.kwargs)} must be positional")
        return given.args


# --------------------------------------------------------------------------------------- custom_vjp


class ReverseRule:
    """The linear map that a user's ``bwd`` pulls back; pushing is its transpose, for bwd is
    linear."""

    def __init__(
        self,
        bound: Bound,
        bwd: Function,
        residuals: PyTree,
        live: Sequence[bool],
        values: Sequence[Value],
        outs: Sequence[Value],
    ) -> None:
        self.bound = bound
        self.bwd = bwd
        self.kept, self.guards = guarded(residuals)
        self.live = [i for i, wanted in enumerate(live) if wanted]
        self.in_avals = [aval_of(v).strong() for v in values]
        self.out_avals = [aval_of(o) for o in outs]
        assert bound.out_tree is not None
        self.out_tree = bound.out_tree

    def pull(self, cts: Sequence[Value | None]) -> list[Value | None]:
        for guard in self.guards:
            guard.check()
        given = iter(cts)
        dense = []
        for aval in self.out_avals:
            ct = next(given) if aval.inexact else np.zeros(aval.shape, FLOAT0)
            dense.append(zeros_of(aval) if ct is None else ct)
        out = self.bwd(*self.bound.fixed, self.kept, self.out_tree.unflatten(dense))
        return [self.cotangents(out)[i] for i in self.live]

    def cotangents(self, out: Any) -> list[Value | None]:
        """What ``bwd`` returned, one entry per leaf (None for zero), checked and cast."""
        name = self.bound.name
        children = self.bound.tree.children()
        if not isinstance(out, tuple | list) or len(out) != len(children):
            raise TypeError(
                f"{name}: bwd must return a tuple of {len(children)} cotangents, one per "
                f"differentiable argument, got {_what(out)}{at(calling_position())}"
            )
        flat: list[Value | None] = []
        for n, (ct, child) in enumerate(zip(out, children, strict=True)):
            if ct is None:
                flat += [None] * child.num_leaves
                continue
            leaves, tree = flatten(ct, lambda x: x is None)
            if tree != child:
                raise TypeError(
                    f"{name}: bwd returned the tree {tree} for argument {n}, but {child} is wanted "
                    "(None stands for a zero cotangent of a whole argument or of one leaf)"
                )
            flat += leaves
        return [
            self.fitted(ct, aval, i)
            for i, (ct, aval) in enumerate(zip(flat, self.in_avals, strict=True))
        ]

    def fitted(self, ct: Value | None, aval: Aval, i: int) -> Value | None:
        if ct is None or not aval.inexact:
            return None
        ct = ct if hasattr(ct, "dtype") else np.asarray(ct)[()]
        if tuple(ct.shape) != aval.shape:
            path = keystr(flatten_with_path(self.bound.arguments(self.in_avals))[0][i][0])
            raise ValueError(
                f"{self.bound.name}: bwd returned shape {tuple(ct.shape)} at {path}, but the "
                f"argument has shape {aval.shape}"
            )
        # A copy, because bwd may return what it keeps, or its own argument.
        return ct.astype(aval.dtype)

    def push(self, ts: Sequence[Value | None]) -> list[Value | None]:
        cts = [zeros_of(a) for a in self.out_avals if a.inexact]
        _, linear = linearize(lambda *cts: tuple(self.dense(self.pull(cts))), *cts)
        avals = [self.in_avals[i] for i in self.live]
        dense = [zeros_of(a) if t is None else t for t, a in zip(ts, avals, strict=True)]
        return list(linear.T(tuple(dense)))

    def dense(self, cts: Sequence[Value | None]) -> list[Value]:
        avals = [self.in_avals[i] for i in self.live]
        return [zeros_of(a) if c is None else c for c, a in zip(cts, avals, strict=True)]

    def residuals(self) -> list[Residual]:
        leaves = [x for x in flatten(self.kept)[0] if hasattr(x, "dtype")]
        return [Residual(self.bound.name, x, None) for x in leaves]

    def size(self) -> tuple[int, str]:
        return 1, "rows"


def _what(x: Any) -> str:
    return f"{len(x)}" if isinstance(x, tuple | list) else what(x)


class ReverseCall(Bound):
    """A call of a `custom_vjp` function."""

    def __init__(self, rule: CustomVJP, args: Sequence[PyTree]) -> None:
        super().__init__(rule.label, rule.fun, args, rule.nondiff)
        if rule.fwd is None or rule.bwd is None:
            raise NotDifferentiableError(
                f"{rule.label}: no rule is defined yet; call {rule.__name__}.defvjp(fwd, bwd)"
            )
        self.fwd = rule.fwd
        self.bwd = rule.bwd

    def linearized(
        self, values: Sequence[Value], live: Sequence[bool]
    ) -> tuple[tuple[Value, ...], Backing]:
        pair = self.fwd(*self.all_arguments(values))
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"{self.name}: fwd must return a pair (output, residuals), got {_what(pair)}"
                f"{at(calling_position())}"
            )
        outs = self.output(pair[0])
        return outs, ReverseRule(self, self.bwd, pair[1], live, values, outs)

    def mapped(self, n: int, batched: Sequence[bool]) -> Call:
        return MappedCall(self, n, batched)


def guarded(residuals: PyTree) -> tuple[PyTree, list[Guard]]:
    """Residuals whose small arrays are copied, and guards of the large ones.

    So that changing one in place later changes nothing, or is noticed.
    """
    leaves, tree = flatten(residuals)
    guards = []
    for i, x in enumerate(leaves):
        if isinstance(x, np.ndarray) and x.nbytes <= COPY_LIMIT:
            leaves[i] = x.copy()
        elif isinstance(x, np.ndarray):
            guards.append(Guard(x, calling_position()))
    return tree.unflatten(leaves), guards


class MappedCall:
    """A call over a leading axis: outputs and linear maps example by example, in one pass each."""

    def __init__(self, call: Call, n: int, batched: Sequence[bool]) -> None:
        self.name = call.name
        self.call = call
        self.n = n
        self.axes = [0 if b else None for b in batched]

    def run(self, *leaves: Value) -> tuple[Value, ...]:
        return mapped_function(self.call.run, self.n, self.axes)(*leaves)

    def linearized(
        self, values: Sequence[Value], live: Sequence[bool]
    ) -> tuple[tuple[Value, ...], Backing]:
        chosen = [i for i, wanted in enumerate(live) if wanted]

        def outs_at(*xs: Value) -> tuple[Value, ...]:
            full = list(values)
            for i, x in zip(chosen, xs, strict=True):
                full[i] = x
            return self.run(*full)

        outs, linear = linearize(outs_at, *[values[i] for i in chosen])
        return outs, linear.backing

    def mapped(self, n: int, batched: Sequence[bool]) -> Call:
        return MappedCall(self, n, batched)


class CustomVJP(CustomRule):
    """What `custom_vjp` returns."""

    transform = "custom_vjp"

    def __init__(self, fun: Function, nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums)
        self.fwd: Function | None = None
        self.bwd: Function | None = None

    def defvjp(self, fwd: Function, bwd: Function) -> None:
        """Set the rule: ``fwd(*args) -> (output, residuals)``, ``bwd(*nondiff, residuals, ct) ->
        cts``.

        ``ct`` has the output's tree; ``cts`` is a tuple with one cotangent per differentiable
        argument, None for zero.
        """
        require_function(f"{self.label}.defvjp", fwd)
        require_function(f"{self.label}.defvjp", bwd)
        self.fwd = fwd
        self.bwd = bwd

    def __call__(self, *args: PyTree, **kwargs: Any) -> PyTree:
        args = self.bound(args, kwargs)
        call = ReverseCall(self, args)
        return call_or_bind(call.leaves, lambda: self.fun(*args), call, lambda: tree_of(call))


def tree_of(call: Bound) -> PyTreeDef:
    """The tree of a call's output, known once it has run."""
    assert call.out_tree is not None
    return call.out_tree


@overload
def custom_vjp(fun: Function, nondiff_argnums: Sequence[int] = ...) -> CustomVJP: ...
@overload
def custom_vjp(
    fun: None = ..., nondiff_argnums: Sequence[int] = ...
) -> Callable[[Function], CustomVJP]: ...
def custom_vjp(
    fun: Function | None = None, nondiff_argnums: Sequence[int] = ()
) -> CustomVJP | Callable[[Function], CustomVJP]:
    """A function with a pullback of its own; forward mode uses the transpose of ``bwd``.

    ``nondiff_argnums`` are passed to ``fwd`` in their places and to ``bwd`` first. Residuals are
    any tree.

    >>> import numpy as np, vjpkit as vk
    >>> @vk.custom_vjp
    ... def f(x):
    ...     return np.sin(x)
    >>> f.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (2.0 * ct * np.cos(x),))
    >>> vk.grad(f)(0.0)
    np.float64(2.0)
    """
    if fun is None:
        return lambda f: CustomVJP(f, nondiff_argnums)
    return CustomVJP(fun, nondiff_argnums)


# --------------------------------------------------------------------------------------- custom_jvp


class ForwardCall(Bound):
    """A call of a `custom_jvp` function: its linear map is the rule, recorded over the tangents."""

    def __init__(self, rule: CustomJVP, args: Sequence[PyTree]) -> None:
        super().__init__(rule.label, rule.fun, args, rule.nondiff)
        if rule.rule is None:
            raise NotDifferentiableError(
                f"{rule.label}: no rule is defined yet; call {rule.__name__}.defjvp(rule)"
            )
        self.rule = rule.rule

    def linearized(
        self, values: Sequence[Value], live: Sequence[bool]
    ) -> tuple[tuple[Value, ...], Backing]:
        chosen = [i for i, wanted in enumerate(live) if wanted]
        primals = self.arguments(values)
        outs: list[Value] = []

        def tangents(*ts: Value) -> list[Value]:
            full = [zero_tangent(aval_of(v)) for v in values]
            for i, t in zip(chosen, ts, strict=True):
                full[i] = t
            pair = self.rule(*self.fixed, primals, self.arguments(full))
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(
                    f"{self.name}: the rule must return a pair (output, tangent), got {_what(pair)}"
                    f"{at(calling_position())}"
                )
            outs[:] = self.output(pair[0])
            out_ts, tree = flat_outputs(self.name, pair[1])
            if tree != self.out_tree:
                raise TypeError(
                    f"{self.name}: the rule returned an output of tree {self.out_tree} with a "
                    f"tangent of tree {tree}"
                )
            return [t for t, o in zip(out_ts, outs, strict=True) if aval_of(o).inexact]

        zeros = [zeros_of(aval_of(values[i]).strong()) for i in chosen]
        _, linear = linearize(tangents, *zeros)
        assert isinstance(linear, LinearMap)
        return tuple(outs), linear.backing

    def mapped(self, n: int, batched: Sequence[bool]) -> Call:
        return MappedCall(self, n, batched)


def zero_tangent(aval: Aval) -> Value:
    return zeros_of(aval.strong()) if aval.inexact else np.zeros(aval.shape, FLOAT0)


class CustomJVP(CustomRule):
    """What `custom_jvp` returns."""

    transform = "custom_jvp"

    def __init__(self, fun: Function, nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums)
        self.rule: Function | None = None

    def defjvp(self, rule: Function) -> Function:
        """Set the rule: ``rule(*nondiff, primals, tangents) -> (output, tangent)``; a decorator."""
        require_function(f"{self.label}.defjvp", rule)
        self.rule = rule
        return rule

    def defjvps(self, *rules: Function | None) -> None:
        """One rule per argument, ``rule(t, output, *primals) -> tangent``; None for zero."""
        for part in rules:
            if part is not None:
                require_function(f"{self.label}.defjvps", part)

        def rule(primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]) -> Any:
            out = self(*primals)
            parts = [
                part(t, out, *primals)
                for part, t in zip(rules, tangents, strict=True)
                if part is not None
            ]
            return out, sum(parts[1:], parts[0]) if parts else 0 * out

        self.rule = rule

    def __call__(self, *args: PyTree, **kwargs: Any) -> PyTree:
        args = self.bound(args, kwargs)
        call = ForwardCall(self, args)
        return call_or_bind(call.leaves, lambda: self.fun(*args), call, lambda: tree_of(call))


@overload
def custom_jvp(fun: Function, nondiff_argnums: Sequence[int] = ...) -> CustomJVP: ...
@overload
def custom_jvp(
    fun: None = ..., nondiff_argnums: Sequence[int] = ...
) -> Callable[[Function], CustomJVP]: ...
def custom_jvp(
    fun: Function | None = None, nondiff_argnums: Sequence[int] = ()
) -> CustomJVP | Callable[[Function], CustomJVP]:
    """A function with a forward rule of its own; the pullback is the rule's transpose.

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
        return lambda f: CustomJVP(f, nondiff_argnums)
    return CustomJVP(fun, nondiff_argnums)
