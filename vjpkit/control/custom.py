"""`custom_vjp`, `custom_jvp`, `custom_rule`: functions that bring rules of their own.

The rules are ordinary functions. They run on concrete arrays unless an outer transform is active,
so they may call any external code; they are differentiable themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from vjpkit.control.calls import Outputs, call_or_bind, flat_outputs, zeros_of
from vjpkit.control.rules import Maybe, RuledCall
from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.arguments import Transformed, require_function, what
from vjpkit.transforms.derivatives import Function
from vjpkit.transforms.linear import FLOAT0

__all__ = ["CustomVJPPrimal", "SymbolicZero", "custom_jvp", "custom_rule", "custom_vjp"]

Numbers = int | Sequence[int]
Names = str | Sequence[str]


class SymbolicZero:
    """A tangent or cotangent that is zero and was never made, for ``symbolic_zeros=True``.

    >>> import numpy as np
    >>> SymbolicZero((2, 3), np.float64)
    SymbolicZero(f64[2,3])
    """

    __slots__ = ("aval",)

    def __init__(self, shape: Shape, dtype: Any) -> None:
        self.aval = Aval(shape, dtype)

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return self.aval.ndim

    def __repr__(self) -> str:
        return f"SymbolicZero({self.aval})"


@dataclass(frozen=True)
class CustomVJPPrimal:
    """An argument of ``fwd`` with ``symbolic_zeros=True``: its value, and whether it varies."""

    value: Value
    perturbed: bool


# ------------------------------------------------------------------------ arguments, and flat rules


class Bound:
    """A call's arguments, and the user's rules as rules of flat leaves."""

    def __init__(self, rule: CustomRule, args: Sequence[PyTree]) -> None:
        self.name = rule.label
        self.rule = rule
        self.nondiff = rule.nondiff
        if self.nondiff and max(self.nondiff) >= len(args):
            raise TypeError(
                f"{self.name}: {rule.word}={self.nondiff} is out of range: the call has {len(args)}"
                f" argument{'s' * (len(args) != 1)}{at(calling_position())}.\n"
                "Arguments are counted from 0."
            )
        self.fixed = [args[n] for n in self.nondiff]
        self.count = len(args)
        chosen = tuple(a for n, a in enumerate(args) if n not in self.nondiff)
        self.leaves, self.tree = flatten(chosen)
        self.avals = [aval_of(x) for x in self._arrays(chosen)]
        self.out_tree: PyTreeDef | None = None
        self.out_avals: list[Aval] = []

    def _arrays(self, chosen: PyTree) -> list[Value]:
        """The leaves; a `TypeError` for one that is neither an array nor a number."""
        for i, x in enumerate(self.leaves):
            if not (hasattr(x, "dtype") or isinstance(x, bool | int | float | complex)):
                path = keystr(flatten_with_path(chosen)[0][i][0])
                raise TypeError(
                    f"{self.name}: argument {path} is a {type(x).__name__}, which is neither an "
                    f"array nor a number{at(calling_position())}.\n"
                    f"Name it among {self.rule.word}, or close over it."
                )
        return self.leaves

    def arguments(self, leaves: Sequence[Any]) -> tuple[PyTree, ...]:
        """The differentiable arguments as the user wrote them."""
        return tuple(self.tree.unflatten(leaves))

    def all_arguments(self, leaves: Sequence[Any]) -> list[PyTree]:
        """Every argument in its place."""
        chosen, fixed = iter(self.arguments(leaves)), iter(self.fixed)
        return [next(fixed) if n in self.nondiff else next(chosen) for n in range(self.count)]

    def output(self, y: PyTree) -> Outputs:
        """An output as flat leaves; its tree is remembered."""
        leaves, self.out_tree = flat_outputs(self.name, y)
        self.out_avals = [aval_of(x).strong() for x in leaves]
        return tuple(leaves)

    def tree_of_output(self) -> PyTreeDef:
        """The tree of the output, known once the call has run."""
        assert self.out_tree is not None
        return self.out_tree

    def run(self, *leaves: Value) -> Outputs:
        """The function itself, flat."""
        return self.output(self.rule.fun(*self.all_arguments(leaves)))

    # -- forward -----------------------------------------------------------------------------------

    def jvp(self, values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        rule = self.rule.forward
        assert rule is not None
        pairs = zip(ts, self.avals, strict=True)
        given = [self._vector(t, a, self.rule.symbolic, [*ts, *values]) for t, a in pairs]
        y, t = self._pair(
            rule(*self.fixed, self.arguments(values), self.arguments(given)),
            "the rule must return a pair (output, tangent)",
        )
        outs = self.output(y)
        return outs, self._tangents(t)

    def _tangents(self, t: PyTree) -> list[Maybe]:
        """What a forward rule returned as tangent, one entry per output, checked and cast."""
        leaves, tree = flatten(t, is_zero)
        if tree != self.tree_of_output():
            raise TypeError(
                f"{self.name}: the rule returned an output of tree {self.out_tree} with a "
                f"tangent of tree {tree}{at(calling_position())}.\n"
                "The tangent has the output's tree."
            )
        paths = flatten_with_path(self.tree_of_output().unflatten(self.out_avals))[0]
        triples = zip(leaves, self.out_avals, paths, strict=True)
        return [
            self._fitted(leaf, aval, f"the rule returned a tangent at output{keystr(path)}")
            for leaf, aval, (path, _) in triples
        ]

    # -- reverse -----------------------------------------------------------------------------------

    def fwd(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
        rule = self.rule.fwd
        assert rule is not None
        leaves: list[Any] = list(values)
        if self.rule.symbolic_vjp:
            pairs = zip(values, live, strict=True)
            leaves = [CustomVJPPrimal(v, bool(perturbed)) for v, perturbed in pairs]
        y, residuals = self._pair(
            rule(*self.all_arguments(leaves)), "fwd must return a pair (output, residuals)"
        )
        return self.output(y), residuals

    def bwd(self, residuals: PyTree, cts: Sequence[Maybe]) -> list[Maybe]:
        rule = self.rule.bwd
        assert rule is not None
        ct = self._cotangent(cts, [*cts, *flatten(residuals)[0]], self.rule.symbolic_vjp)
        return self._cotangents(rule(*self.fixed, residuals, ct), "bwd")

    def transpose(self, values: Sequence[Value], cts: Sequence[Maybe]) -> list[Maybe]:
        rule = self.rule.transposed
        assert rule is not None
        numbers = self.rule.linear_of(self.count)
        args = self.all_arguments(values)
        fixed = [a for n, a in enumerate(args) if n not in numbers and n not in self.nondiff]
        ct = self._cotangent(cts, [*cts, *values], False)
        out = rule(*self.fixed, *fixed, ct)
        children = self.tree.children()
        places = [n for n in range(self.count) if n not in self.nondiff]
        linear = [n in numbers for n in places]
        given = self._per_argument(out, sum(linear), "transpose")
        spread_out = iter(given)
        full = [next(spread_out) if is_linear else None for is_linear in linear]
        assert len(full) == len(children)
        return self._cotangents(tuple(full), "transpose")

    def linear_leaves(self) -> tuple[int, ...]:
        """The leaves of the arguments in which the function is linear."""
        numbers = self.rule.linear_of(self.count)
        places = [n for n in range(self.count) if n not in self.nondiff]
        out: list[int] = []
        start = 0
        for n, child in zip(places, self.tree.children(), strict=True):
            if n in numbers:
                out += range(start, start + child.num_leaves)
            start += child.num_leaves
        return tuple(out)

    def _cotangent(self, cts: Sequence[Maybe], beside: Sequence[Value], symbolic: bool) -> PyTree:
        pairs = zip(cts, self.out_avals, strict=True)
        leaves = [self._vector(ct, aval, symbolic, beside) for ct, aval in pairs]
        return self.tree_of_output().unflatten(leaves)

    def _cotangents(self, out: Any, which: str) -> list[Maybe]:
        """What a reverse rule returned, one entry per leaf (None for zero), checked and cast."""
        children = self.tree.children()
        flat: list[Any] = []
        for n, (ct, child) in enumerate(
            zip(self._per_argument(out, len(children), which), children, strict=True)
        ):
            if ct is None or isinstance(ct, SymbolicZero):
                flat += [None] * child.num_leaves
                continue
            leaves, tree = flatten(ct, is_zero)
            if tree != child:
                raise TypeError(
                    f"{self.name}: {which} returned the tree {tree} for argument {n}, but {child} "
                    f"is wanted{at(calling_position())}.\n"
                    "None stands for a zero cotangent of a whole argument or of one leaf."
                )
            flat += leaves
        paths = flatten_with_path(self.arguments(self.avals))[0]
        triples = zip(flat, self.avals, paths, strict=True)
        return [
            self._fitted(ct, aval.strong(), f"{which} returned a cotangent at {keystr(path)}")
            for ct, aval, (path, _) in triples
        ]

    def _per_argument(self, out: Any, count: int, which: str) -> Sequence[Any]:
        if not isinstance(out, tuple | list) or len(out) != count:
            raise TypeError(
                f"{self.name}: {which} must return a tuple of {count} cotangents, one per "
                f"differentiable argument, got {_what(out)}{at(calling_position())}.\n"
                "None stands for a zero cotangent of a whole argument or of one leaf."
            )
        return out

    # -- vectors -----------------------------------------------------------------------------------

    def _vector(self, t: Maybe, aval: Aval, symbolic: bool, beside: Sequence[Value]) -> Any:
        """A tangent or cotangent as the rule gets it."""
        if symbolic and (t is None or not aval.inexact):
            return SymbolicZero(aval.shape, aval.dtype if aval.inexact else FLOAT0)
        if not aval.inexact:
            return np.zeros(aval.shape, FLOAT0)
        return zeros_of(aval.strong(), beside) if t is None else t

    def _fitted(self, t: Any, aval: Aval, said: str) -> Maybe:
        """A tangent or cotangent that a rule returned, as a fresh value of the right aval."""
        if t is None or isinstance(t, SymbolicZero) or not aval.inexact:
            return None
        t = t if hasattr(t, "dtype") else np.asarray(t)[()]
        if t.dtype == FLOAT0:
            return None
        if tuple(t.shape) != aval.shape:
            raise ValueError(
                f"{self.name}: {said} of shape {tuple(t.shape)}, but {aval.shape} is "
                f"wanted{at(calling_position())}"
            )
        if t.dtype.kind == "c" and aval.dtype.kind != "c":
            raise ValueError(
                f"{self.name}: {said} of dtype {t.dtype}, but {aval.dtype} is "
                f"wanted{at(calling_position())}.\nReturn its real part."
            )
        # A copy, because a rule may return what it keeps, or its own argument.
        return t.astype(aval.dtype)

    def _pair(self, pair: Any, said: str) -> tuple[PyTree, PyTree]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{self.name}: {said}, got {_what(pair)}{at(calling_position())}")
        return pair[0], pair[1]

    # -- vmap --------------------------------------------------------------------------------------

    def vmap(self, n: int, batched: Sequence[bool], values: Sequence[Value]) -> Outputs:
        rule = self.rule.batched
        assert rule is not None
        flags = self.all_arguments([bool(b) for b in batched])
        for i in self.nondiff:
            flags[i] = False
        y, mine = self._pair(
            rule(n, flags, *self.all_arguments(values)),
            "the vmap rule must return a pair (output, whether each of its leaves is batched)",
        )
        leaves, tree = flat_outputs(self.name, y)
        self.out_tree = tree
        marks = tree_map(bool, mine) if not isinstance(mine, bool) else mine
        flat = [marks] * len(leaves) if isinstance(marks, bool) else flatten(marks)[0]
        if len(flat) != len(leaves):
            raise TypeError(
                f"{self.name}: the vmap rule returned {len(leaves)} outputs, but says of "
                f"{len(flat)} whether they are batched{at(calling_position())}"
            )
        outs: list[Value] = []
        for leaf, is_batched in zip(leaves, flat, strict=True):
            if is_batched and (not leaf.shape or leaf.shape[0] != n):
                raise ValueError(
                    f"{self.name}: the vmap rule returned shape {tuple(leaf.shape)} as batched, but"
                    f" a leading axis of length {n} is wanted{at(calling_position())}"
                )
            outs.append(leaf if is_batched else np.broadcast_to(leaf, (n, *leaf.shape)))
        self.out_avals = [Aval(o.shape[1:], o.dtype) for o in outs]
        return tuple(outs)

    def call(self) -> RuledCall:
        """The call with the rules that there are."""
        rule = self.rule
        has_reverse = rule.fwd is not None and rule.bwd is not None
        return RuledCall(
            self.name,
            self.run,
            jvp=self.jvp if rule.forward else None,
            fwd=self.fwd if has_reverse else None,
            bwd=self.bwd if has_reverse else None,
            transpose=self.transpose if rule.transposed else None,
            linear=self.linear_leaves() if rule.transposed else (),
            vmap=self.vmap if rule.batched else None,
            owner=rule.staging,
        )


def is_zero(x: object) -> bool:
    """What stands for a zero without being one."""
    return x is None or isinstance(x, SymbolicZero)


def _what(x: Any) -> str:
    return f"{len(x)}" if isinstance(x, tuple | list) else what(x)


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
        require_function(f"{self.label}.defvjp", fwd)
        require_function(f"{self.label}.defvjp", bwd)
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
        for part in rules:
            if part is not None:
                require_function(f"{self.label}.defjvps", part)
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
                f"{out.label}: vjp must be a pair (fwd, bwd), got {_what(vjp)}"
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
