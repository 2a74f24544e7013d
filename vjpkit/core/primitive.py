"""Primitives: what the core asks of an operation, and the registry.

A primitive is a class declared in one place. Its *kind*, a base class in `vjpkit.kinds`, supplies
whatever follows from the kind: recording, pulling, pushing, linearity, abstract evaluation. Rules
are written with NumPy functions and operators on their operands, so that the same rule serves
arrays, outer tracers, batched and staged values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.rows import Rows
from vjpkit.core.tracer import bind

__all__ = ["LATER", "PRIMITIVES", "Primitive", "Sample", "lookup", "primitive", "registered"]

PRIMITIVES: dict[str, Primitive] = {}
"""The primitives whose modules are loaded, by name."""

LATER: list[str] = []
"""Modules that declare primitives and are loaded when first used."""

P = TypeVar("P", bound="Primitive")


def primitive(cls: type[P]) -> P:
    """Make and register the one instance of a primitive: ``arctan2 = primitive(Arctan2)``.

    Its name is the class's in lower case, with an underscore before each later capital.
    """
    instance = cls()
    if instance.name in PRIMITIVES:
        raise ValueError(f"a primitive named {instance.name!r} is registered already")
    PRIMITIVES[instance.name] = instance
    return instance


def registered() -> Mapping[str, Primitive]:
    """Every primitive by name."""
    for module in LATER:
        import_module(module)
    return PRIMITIVES


def lookup(name: str) -> Primitive:
    """The primitive called ``name``: what `parse` and `pickle` ask for."""
    found = PRIMITIVES.get(name) or registered().get(name)
    if found is None:
        raise ValueError(f"no primitive is called {name!r}")
    return found


class Sample:
    """Operands and parameters at which generated tests check a primitive's laws.

    ``wrt`` are the operands to differentiate with respect to (those of inexact dtypes), ``exempt``
    names laws that cannot hold at this point, and why: at a kink, second differences.
    """

    __slots__ = ("exempt", "operands", "params", "wrt")

    def __init__(
        self,
        *operands: Value,
        wrt: Sequence[int] | None = None,
        exempt: Mapping[str, str] | None = None,
        **params: Any,
    ) -> None:
        self.operands = operands
        self.params = params
        self.exempt = exempt or {}
        inexact = [i for i, x in enumerate(operands) if aval_of(x).inexact]
        self.wrt = tuple(inexact if wrt is None else wrt)

    def __repr__(self) -> str:
        words = [repr(aval_of(x)) for x in self.operands]
        return " ".join([*words, *(f"{k}={v}" for k, v in self.params.items())])


class Primitive:
    """One operation. Subclass a kind, not this class.

    ``impl`` computes with arrays; ``abstract`` maps avals to avals; ``record`` computes and appends
    rows; ``forward`` is the tangent. ``multi`` says that results are tuples; equations always have
    tuples, and `pack`/`unpack` are the only place that knows.
    """

    multi: ClassVar[bool] = False
    quick: ClassVar[Callable[..., Value] | None] = None
    """A quicker ``impl`` for programs, right unless it makes a nan; then ``impl`` decides."""
    effect: ClassVar[bool] = False
    """Whether it does more than compute, so that programs keep and repeat it."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """Laws of the generated tests that cannot hold for it (or ``law:variant``), and why."""
    name: str
    impl: Callable[..., Value]

    def __init__(self) -> None:
        self.name = re.sub(r"\B(?=[A-Z])", "_", type(self).__name__).rstrip("_").lower()

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return bind(self, xs, params)

    def pack(self, outs: tuple[Value, ...]) -> Value:
        """What the primitive returns, from a tuple of outputs."""
        return outs if self.multi else outs[0]

    def unpack(self, out: Value) -> tuple[Value, ...]:
        """A tuple of outputs, from what the primitive returns."""
        return tuple(out) if self.multi else (out,)

    def canonical(
        self, xs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        """Operands and hashable parameters, as an equation holds them."""
        return xs, params

    def abstract(self, *avals: Any, **params: Any) -> Any:
        """Avals of the outputs, from those of the operands."""
        raise NotImplementedError(f"{self.name} has no method abstract(*avals, **params)")

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        """Compute at ``values`` and append the rows for the operands that have slots."""
        raise NotDifferentiableError(f"{self.name} has no derivative{at(calling_position())}")

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        """Tangent (or tangents) of the output; None stands for zero."""
        raise NotDifferentiableError(f"{self.name} has no derivative{at(calling_position())}")

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        """Whether the outputs are linear, jointly, in the operands that ``mask`` marks."""
        return False

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        """The same where ``zeros`` marks operands that are 0: any of them may count as marked."""
        wider = tuple([m or z for m, z in zip(mask, zeros)])
        return self.linear_in(mask, params) or self.linear_in(wider, params)

    def samples(self) -> Iterable[Sample]:
        """Points at which the generated tests check this primitive."""
        return ()

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> Any:
        return lookup, (self.name,)
