"""`checkpoint`: keep a function's inputs instead of its residuals, and compute these again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from vjpkit.control.calls import Call, call_or_bind
from vjpkit.control.custom import Bound, CustomRule, MappedCall, guarded, tree_of
from vjpkit.core.aval import Value
from vjpkit.core.errors import ClosedTraceError
from vjpkit.pytree import PyTree
from vjpkit.transforms.derivatives import Function, linearize
from vjpkit.transforms.linear import Backing, Residual

__all__ = ["checkpoint"]


class Recomputed:
    """The linearization of a flat function at ``values``, made anew whenever it is applied."""

    def __init__(
        self,
        name: str,
        run: Function,
        values: Sequence[Value],
        live: Sequence[bool],
        outs: Sequence[Value],
    ) -> None:
        self.name = name
        self.run = run
        self.values, self.guards = guarded(list(values))
        self.digest = digest(outs)
        self.live = [i for i, wanted in enumerate(live) if wanted]

    def map(self) -> Backing:
        """The linear map in the live operands."""
        for guard in self.guards:
            guard.check()

        def at(*xs: Value) -> tuple[Value, ...]:
            full = list(self.values)
            for i, x in zip(self.live, xs, strict=True):
                full[i] = x
            return self.run(*full)  # type: ignore[no-any-return]  # a flat function

        outs, linear = linearize(at, *[self.values[i] for i in self.live])
        if not agree(self.digest, digest(outs)):
            raise ClosedTraceError(
                f"{self.name}: computed again for the pullback, the function gave other values "
                "than at first: it draws random numbers, or an array that it closes over was "
                "changed in place.\nPass such arrays as arguments, and draw random numbers outside."
            )
        return linear.backing  # type: ignore[no-any-return]  # linearize gives a LinearMap

    def push(self, ts: Sequence[Value | None]) -> Sequence[Value | None]:
        return self.map().push(ts)

    def pull(self, cts: Sequence[Value | None]) -> Sequence[Value | None]:
        return self.map().pull(cts)

    def residuals(self) -> list[Residual]:
        return [Residual(self.name, v, None) for v in self.values if hasattr(v, "dtype")]

    def size(self) -> tuple[int, str]:
        return 1, "rows"


Digest = list[tuple[Any, Any] | None]


def digest(outs: Sequence[Value]) -> Digest:
    """Sums of 64 blocks of each plain output, and of their absolute values."""
    return [_sums(y) if type(y) is np.ndarray and y.dtype.kind in "fc" else None for y in outs]


def _sums(y: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    flat = y.reshape(-1)
    starts = np.arange(0, flat.size, max(1, -(-flat.size // 64)))
    with np.errstate(all="ignore"):
        return np.add.reduceat(flat, starts), np.add.reduceat(np.abs(flat), starts)


def agree(before: Digest, after: Digest) -> bool:
    """Whether two digests are of the same outputs, but for rounding."""
    for old, new in zip(before, after, strict=True):
        if old is None or new is None:
            continue
        (a, scale), (b, _) = old, new
        bound = np.finfo(a.dtype).eps ** 0.75 * scale
        with np.errstate(all="ignore"):
            if not np.all((abs(a - b) <= bound) | (a == b) | (np.isnan(a) & np.isnan(b))):
                return False
    return True


class CheckpointCall(Bound):
    """A call of a checkpointed function."""

    def linearized(
        self, values: Sequence[Value], live: Sequence[bool]
    ) -> tuple[tuple[Value, ...], Backing]:
        outs = self.run(*values)
        return outs, Recomputed(self.name, self.run, values, live, outs)

    def mapped(self, n: int, batched: Sequence[bool]) -> Call:
        return MappedCall(self, n, batched)


class Checkpoint(CustomRule):
    """What `checkpoint` returns."""

    transform = "checkpoint"

    def __call__(self, *args: PyTree, **kwargs: Any) -> PyTree:
        args = self.bound(args, kwargs)
        call = CheckpointCall(self.label, self.fun, args, self.nondiff)
        return call_or_bind(call.leaves, lambda: self.fun(*args), call, lambda: tree_of(call))


@overload
def checkpoint(fun: Function, *, static_argnums: Sequence[int] = ...) -> Checkpoint: ...
@overload
def checkpoint(
    fun: None = ..., *, static_argnums: Sequence[int] = ...
) -> Callable[[Function], Checkpoint]: ...
def checkpoint(
    fun: Function | None = None, *, static_argnums: Sequence[int] = ()
) -> Checkpoint | Callable[[Function], Checkpoint]:
    """``fun``, keeping only its arguments for the pullback; what it computes is computed again.

    Memory falls from all intermediate values to the arguments; time grows by one evaluation. Equal
    to ``fun`` in value and derivatives. ``static_argnums`` are passed as they are.

    >>> import numpy as np, vjpkit as vk
    >>> y, pullback = vk.vjp(vk.checkpoint(lambda x: np.sin(np.sin(np.sin(x)))), np.ones(1000))
    >>> pullback.nbytes
    8000
    """
    if fun is None:
        return lambda f: Checkpoint(f, static_argnums)
    return Checkpoint(fun, static_argnums)
