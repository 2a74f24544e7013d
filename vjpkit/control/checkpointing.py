"""`checkpoint`: keep a function's inputs instead of its residuals, and compute these again.

Without a policy the function itself is called again. With one it is staged, and the equation that
stands for it keeps what the policy saves: both walks evaluate what is missing and then the linear
part, in one program that nothing outside sees into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from vjpkit.backends import executable
from vjpkit.control.call import chained, flattened, is_linear_in, vectors
from vjpkit.control.calls import (
    ClosesOverTraced,
    Outputs,
    apply,
    flat_outputs,
    guarded,
    is_staging,
)
from vjpkit.control.higher import Form, Linearization, Programmatic, RunProgram, expanded
from vjpkit.control.policies import Policy, split_by, within
from vjpkit.control.programs import (
    apart,
    jvp_program,
    linearized_program,
    mapped_program,
    numbered,
    plain_program,
    transposed_program,
)
from vjpkit.control.rules import RuledCall, linearized_at
from vjpkit.control.static import static_arguments
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import ClosedTraceError, TracerConversionError, at, calling_position
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import ClosedProgram, stage
from vjpkit.core.tracer import Tracer
from vjpkit.pytree import PyTree, PyTreeDef, flatten
from vjpkit.transforms.arguments import Transformed
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.closures import closes_over_traced
from vjpkit.transforms.derivatives import Function, jvp
from vjpkit.transforms.series import Expansion, Terms
from vjpkit.transforms.staged import staged

__all__ = ["checkpoint"]


# ----------------------------------------------------------------------- calling the function again


class Recomputed:
    """The linearization of a flat function at ``values``, made anew whenever it is applied."""

    def __init__(
        self,
        name: str,
        run: Callable[..., Outputs],
        values: Sequence[Value],
        live: Sequence[bool],
        outs: Sequence[Value],
        reached: Sequence[bool] | None = None,
    ) -> None:
        self.name = name
        self.reached = reached
        self.run = run
        self.values, self.guards = guarded(list(values))
        self.digest = digest(outs)
        self.live = live

    def map(self) -> RowMap:
        """The linear map in the live operands."""
        for guard in self.guards:
            guard.check()
        outs, backing = linearized_at(self.run, self.values, self.live)
        if not agree(self.digest, digest(outs)):
            raise ClosedTraceError(
                f"{self.name}: computed again for the pullback, the function gave other values "
                "than at first: it draws random numbers, or an array that it closes over was "
                "changed in place.\nPass such arrays as arguments, and draw random numbers outside."
            )
        return backing

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        return self.map().push(ts, strict)

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        return self.map().pull(cts, strict)

    def residuals(self) -> list[Residual]:
        return [Residual(self.name, v, None) for v in self.values if hasattr(v, "dtype")]


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


@dataclass(frozen=True, eq=False)
class CheckpointCall:
    """A flat function that is called again instead of being recorded.

    The first outputs may depend on the first ``point`` operands alone: so many as ``real`` has
    entries, which say whether they have derivatives, and are known once the function has run.
    """

    name: str
    run: Callable[..., Outputs]
    point: int = 0
    real: list[bool] = field(default_factory=list)

    def compute(self, *leaves: Value) -> Outputs:
        return self.run(*leaves)

    def linearized(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, RowMap]:
        outs = apply(*values, call=self)
        count = sum([aval_of(y).inexact for y in outs])
        fixed = 0 if any(live[: self.point]) else sum(self.real)
        reached = [i >= fixed for i in range(count)]
        return outs, Recomputed(self.name, self.run, values, live, outs, reached)

    def pushed(
        self, values: Sequence[Value], ts: Sequence[Value | None], strict: bool
    ) -> tuple[Outputs, Sequence[Value | None]]:
        live = [i for i, t in enumerate(ts) if t is not None]
        inexact: list[bool] = []

        def both(*xs: Value) -> Outputs:
            def run(*moving: Value) -> Outputs:
                full = list(xs[: len(values)])
                for i, x in zip(live, moving, strict=True):
                    full[i] = x
                return self.run(*full)

            moving = tuple([xs[i] for i in live])
            outs, out_ts = jvp(run, moving, tuple(xs[len(values) :]), strict=strict)
            inexact[:] = [aval_of(o).inexact for o in outs]
            return (*outs, *[t for t, real in zip(out_ts, inexact, strict=True) if real])

        given = [t for t in ts if t is not None]
        call = CheckpointCall(self.name, both, len(values), inexact)
        flat = apply(*values, *given, call=call)
        rest = iter(flat[len(inexact) :])
        return flat[: len(inexact)], [next(rest) if real else None for real in inexact]

    def expanded(
        self, values: Sequence[Value], series: Sequence[Terms | None], order: int
    ) -> tuple[Outputs, Sequence[Terms | None]]:
        trace = Expansion(order, self.name)
        pairs = [trace.split(y) for y in self.run(*map(trace.series, values, series))]
        return tuple([y for y, _ in pairs]), [terms for _, terms in pairs]

    def mapped(self, n: int, batched: Sequence[bool]) -> CheckpointCall:
        return replace(self, run=RuledCall(self.name, self.run).mapped(n, batched).run)

    def staged(self, leaves: Sequence[Value]) -> Outputs:
        closed = stage(self.run, [aval_of(x) for x in leaves])
        return recomputed(closed, leaves, Policy("nothing_saveable"))


# ------------------------------------------------------------------------------- with a policy


class Checkpoint_(Programmatic):
    """A program as one equation that keeps what ``policy`` saves and computes the rest again."""

    exempt = {"dtypes": "a program is made for operands of its own avals"}

    @staticmethod
    def impl(*values: Value, program: Program, policy: Any) -> Outputs:
        return evaluate(program, values)

    def compiled(self, backend: str, params: Mapping[str, Any]) -> Callable[..., tuple[Value, ...]]:
        """Its function, the program run by a backend."""
        return executable(params["program"], backend)

    def abstract(self, *avals: Aval, program: Program, policy: Any) -> tuple[Aval, ...]:
        return program.out_avals

    def linearization(
        self, live: tuple[bool, ...], avals: tuple[Aval, ...], **params: Any
    ) -> Linearization:
        whole, policy = params["program"], params["policy"]
        program = flattened(whole)
        at = linearized_program(program, live)
        count = len(program.outputs)
        parts = at.primal.cached(("saved", policy), lambda: split_by(at.primal, count, policy))
        early = apart(parts.saving, live, range(count, len(parts.saving.outputs)))

        def primal(*values: Value) -> tuple[Sequence[Value], Sequence[Value]]:
            kept = [values[i] for i in parts.kept]
            if early is None or not early.outputs:
                outs = self(*values, program=parts.saving, policy=policy)
                return outs[:count], [*kept, *outs[count:]]
            fixed = [v for v, wanted in zip(values, live, strict=True) if not wanted]
            saved = self(*fixed, program=early, policy=policy)
            return self(*values, program=program, policy=policy), [*kept, *saved]

        inexact = [a.aval.inexact for a in program.outputs]
        places = [p for p, real in zip(numbered(at.reached), inexact, strict=True) if real]
        kept = range(len(parts.again.inputs))

        def form(linear: Program, count: int, outputs: Sequence[int | None]) -> Form:
            """``parts.again``, and then a linear program that takes the residuals."""
            joined = chained(parts.again, linear)
            operands = (*kept, *vectors(count))
            return Form(self, {"program": joined, "policy": policy}, operands, tuple(outputs))

        def transpose(given: tuple[bool, ...]) -> Form:
            mask = [g for g, p in zip(given, places, strict=True) if p is not None]
            back, found = transposed_program(at.tangent, tuple(mask))
            return form(back, sum(given), numbered(found))

        return Linearization(primal, form(at.tangent, sum(live), places), transpose)

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[Outputs, Sequence[Value | None]]:
        program, policy = params["program"], params["policy"]
        both, reached = jvp_program(program, tuple([t is not None for t in ts]))
        run = plain_program(both) if strict else both
        given = [t for t in ts if t is not None]
        outs = self(*values, *given, program=run, policy=policy)
        count = len(program.outputs)
        return outs[:count], [None if i is None else outs[count + i] for i in numbered(reached)]

    def with_series(
        self, values: Sequence[Value], series: Sequence[Terms | None], params: Any
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        return expanded(self, values, series, **params)

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, program: Program, policy: Any
    ) -> Outputs:
        return tuple(run("", program, values))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Outputs:
        every = (True,) * len(params["program"].outputs)
        mapped, _ = mapped_program(params["program"], n, tuple(batched), every)
        return self(*values, program=mapped, policy=params["policy"])  # type: ignore[no-any-return]

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return any(mask) and is_linear_in(params["program"], mask, zeros)

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        avals = [aval_of(x), aval_of(y)]
        program = stage(lambda x, y: (np.sin(np.exp(x)) * y, np.sum(x * x)), avals).program
        for kind in ("nothing_saveable", "everything_saveable"):
            yield Sample(x, y, program=program, policy=Policy(kind))


checkpoint_program = primitive(Checkpoint_)


def recomputed(closed: ClosedProgram, leaves: Sequence[Value], policy: Any) -> Outputs:
    """The equation of a staged function."""
    outs: Outputs = checkpoint_program(
        *closed.consts, *leaves, program=closed.program, policy=policy
    )
    return outs


# ------------------------------------------------------------------------------------ the function


class Checkpoint(Transformed):
    """What `checkpoint` returns."""

    transform = "checkpoint"

    def __init__(
        self,
        fun: Function,
        static_argnums: int | Sequence[int],
        static_argnames: str | Sequence[str],
        policy: Any,
    ) -> None:
        super().__init__(
            fun, static_argnums=static_argnums, static_argnames=static_argnames, policy=policy
        )
        self.static = static_arguments(self.label, fun, static_argnums, static_argnames)
        self.policy = policy

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        static = self.static.places(len(args))
        fixed = {k: v for k, v in kwargs.items() if k in self.static.names}
        dynamic = [a for n, a in enumerate(args) if n not in static]
        leaves, tree = flatten((dynamic, {k: v for k, v in kwargs.items() if k not in fixed}))
        hidden = closes_over_traced(self.fun)
        if not hidden and not any(isinstance(x, Tracer) for x in leaves):
            return self.fun(*args, **kwargs)

        def full(given: Sequence[Value]) -> tuple[list[PyTree], dict[str, PyTree]]:
            chosen, words = tree.unflatten(given)
            rest = iter(chosen)
            positional = [a if n in static else next(rest) for n, a in enumerate(args)]
            return positional, {**words, **fixed}

        if self.policy is None and not hidden and not is_staging(leaves):
            try:
                return self._called_again(leaves, full)
            except ClosesOverTraced:
                pass
        return self._staged(leaves, full)

    def _called_again(self, leaves: Sequence[Value], full: Any) -> PyTree:
        trees: list[PyTreeDef] = []

        def run(*given: Value) -> Outputs:
            positional, words = full(given)
            outs, tree = flat_outputs(self.label, self.fun(*positional, **words))
            trees[:] = [tree]
            return tuple(outs)

        outs = apply(*leaves, call=CheckpointCall(self.label, run))
        return trees[0].unflatten(outs)

    def _staged(self, leaves: Sequence[Value], full: Any) -> PyTree:
        def flat(*given: Value) -> PyTree:
            positional, words = full(given)
            return self.fun(*positional, **words)

        try:
            closed, tree, _ = staged(self.label, flat, tuple(leaves))
        except TracerConversionError as error:
            error.add_note(
                f"{self.label} is staged because it has a policy, or closes over traced values: "
                "without a policy, and with these values as arguments, its own control flow runs."
            )
            raise
        policy = Policy("nothing_saveable") if self.policy is None else self.policy
        return tree.unflatten(recomputed(closed, leaves, policy))


@overload
def checkpoint(
    fun: Function, *, prevent_cse: bool = ..., policy: Any = ...,
    static_argnums: int | Sequence[int] = ..., static_argnames: str | Sequence[str] = ...,
    memory: int | str | None = ..., concrete: bool = ...,
) -> Checkpoint: ...  # fmt: skip
@overload
def checkpoint(
    fun: None = ..., *, prevent_cse: bool = ..., policy: Any = ...,
    static_argnums: int | Sequence[int] = ..., static_argnames: str | Sequence[str] = ...,
    memory: int | str | None = ..., concrete: bool = ...,
) -> Callable[[Function], Checkpoint]: ...  # fmt: skip
def checkpoint(
    fun: Function | None = None,
    *,
    prevent_cse: bool = True,
    policy: Any = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    memory: int | str | None = None,
    concrete: bool = False,
) -> Checkpoint | Callable[[Function], Checkpoint]:
    """``fun``, keeping only its arguments for the pullback; what it computes is computed again.

    Memory falls from all intermediate values to the arguments; time grows by one evaluation. Equal
    to ``fun`` in value and derivatives, of every order and under every transform.

    * ``policy`` (one of `vk.checkpoint_policies`, or a function of a primitive, avals and
      parameters) says what is kept beyond the arguments; ``memory`` ("100MB", or bytes) keeps what
      is dearest to compute again for its size, up to that much. With either the function is staged:
      its Python control flow may not depend on traced values, and it is not called again.
    * ``static_argnums`` and ``static_argnames`` are passed as they are.
    * ``prevent_cse`` is taken for JAX's sake: what is computed again is never merged with what was
      computed at first. ``concrete`` is refused.

    Without a policy the function is called again for the pullback. It must then give the same
    values, or the pullback raises; a function that closes over traced values is staged instead.

    >>> import numpy as np, vjpkit as vk
    >>> y, pullback = vk.vjp(vk.checkpoint(lambda x: np.sin(np.sin(np.sin(x)))), np.ones(1000))
    >>> pullback.nbytes
    8000
    >>> names = vk.checkpoint_policies.save_only_these_names("middle")
    >>> f = lambda x: np.sin(vk.checkpoint_name(np.sin(np.sin(x)), "middle"))
    >>> vk.vjp(vk.checkpoint(f, policy=names), np.ones(1000))[1].nbytes
    16000
    """
    if concrete:
        raise TypeError(
            f"checkpoint: concrete=True is not supported{at(calling_position())}.\n"
            "Leave it out: without a policy the function runs on concrete values by itself; "
            "arguments that decide Python control flow go into static_argnums."
        )
    if memory is not None:
        if policy is not None:
            raise TypeError(
                f"checkpoint: policy and memory both say what is kept{at(calling_position())}.\n"
                "Give one of them."
            )
        policy = within(memory, "checkpoint")
    if policy is not None and not callable(policy):
        raise TypeError(
            f"checkpoint: policy must be a function such as those of vk.checkpoint_policies, got "
            f"{policy!r}{at(calling_position())}"
        )
    if fun is None:
        return lambda f: Checkpoint(f, static_argnums, static_argnames, policy)
    return Checkpoint(fun, static_argnums, static_argnames, policy)
