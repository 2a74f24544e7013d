"""The program of a function that branches on values: the operations met on the way.

`make_ir` stages a function on abstract values. Where Python decides something by a value, that
cannot be; here every staged value carries the plain one with it, so that the function takes the way
it takes at these arguments, and the way is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from vjpkit.cli.target import Target
from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.ir import Atom, Var
from vjpkit.core.staging import Builder, ClosedProgram, Staged
from vjpkit.pytree import flatten
from vjpkit.transforms.staged import make_ir

__all__ = ["program_of"]


class Followed(Staged):
    """A staged value, and the plain value that it has at these arguments."""

    __slots__ = ()

    def __init__(self, trace: Follower, variable: Var, value: Value) -> None:
        super().__init__(trace, variable)
        self.value = value

    def concrete(self) -> Value:
        return self.value


class Follower(Builder):
    """Writes equations, and computes."""

    __slots__ = ()

    def start(self, x: Value) -> Followed:
        """An input of the program."""
        staged = self.argument(aval_of(x))
        return Followed(self, staged.variable, x)

    def atom(self, x: Value, name: str = "") -> Atom:
        if type(x) is Followed and x.owner is self:
            return cast(Var, x.variable)
        return super().atom(x, name)

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        staged = primitive.unpack(super().process(primitive, xs, params))
        plain = [x.value if type(x) is Followed and x.owner is self else x for x in xs]
        values = primitive.unpack(primitive.impl(*plain, **params))
        outs = zip(staged, values, strict=True)
        return primitive.pack(tuple(Followed(self, s.variable, v) for s, v in outs))


def program_of(target: Target) -> tuple[ClosedProgram, bool]:
    """The program of the function, and whether it had to be followed to find it."""
    try:
        return make_ir(target.flat)(*target.xs), False
    except (TracerConversionError, UnsupportedError):  # some choice needs a value
        pass
    follower = Follower()
    outs = flatten(target.flat(*[follower.start(x) for x in target.xs]))[0]
    return follower.finish(outs), True
