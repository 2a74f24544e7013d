"""Primitives over a named axis of `vmap`: they combine the values of all examples.

A batching trace of that name reduces them (`Collective.combined`); to every other trace they are
linear primitives of one operand. What the axis is called is a parameter, so that programs that are
staged inside of a `vmap` hold them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import at as at_
from vjpkit.core.errors import calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import Linear
from vjpkit.ops.structural import broadcast_to, sum_, to_dtype
from vjpkit.ops.structural import transpose as permute

__all__ = ["Collective", "all_gather", "psum", "psum_scatter"]


class Collective(Linear):
    """Linear in operand 0, over the mapped axis that the parameter ``axis`` names."""

    def combined(self, n: int, x: Value, batched: bool, **params: Any) -> tuple[Value, bool]:
        """The result for all n examples, and whether it differs between them.

        At least one operand does; ``x`` has the examples as leading axis if it is ``batched``.
        """
        raise NotImplementedError(f"{self.name} does not say what it makes of all examples")


class Psum(Collective):
    """The sum over all examples; ``size`` times a value that is the same for all of them.

    It is its own transpose: each example's result has a cotangent, and each operand gets their sum.
    """

    impl = staticmethod(lambda x, axis, size: x * size)

    def abstract(self, x: Aval, *, axis: Any, size: int) -> Aval:
        return Aval(x.shape, np.dtype(int) if x.dtype.kind == "b" else x.dtype)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return psum(ct, **params)

    def combined(self, n: int, x: Value, batched: bool, **params: Any) -> tuple[Value, bool]:
        dtype = self.abstract(aval_of(x), **params).dtype
        return to_dtype(sum_(x, axes=(0,), keepdims=False), dtype), False

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        return self(*values, **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.array([[0.3, -1.2, 2.5]]), axis="i", size=3)
        yield Sample(np.float64(0.7), axis="i", size=2)


def _alone(x: Value, index: Value, *, axis: Any, size: int, at: int) -> Value:
    raise NameError(
        f"no vmap with axis_name={axis!r} runs here{at_(calling_position())}: a program that was "
        "staged inside of one has a meaning there alone."
    )


class AllGather(Collective):
    """The values of all examples along a new axis ``at``.

    Operand 1 is the number of the example, so that the axis is among the operands' and the
    transpose, which differs between examples, is where it can be computed.
    """

    impl = staticmethod(_alone)

    def abstract(self, x: Aval, index: Aval, *, axis: Any, size: int, at: int) -> Aval:
        return Aval((*x.shape[:at], size, *x.shape[at:]), x.dtype)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return psum_scatter(ct, *fixed, **params)

    def combined(self, n: int, x: Value, batched: bool, **params: Any) -> tuple[Value, bool]:
        if not batched:
            x = broadcast_to(x, shape=(n, *aval_of(x).shape))
        return moved(x, 0, params["at"]), False

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *,
        axis: Any, size: int, at: int,
    ) -> Value:  # fmt: skip
        if not batched[0]:
            values = [broadcast_to(values[0], shape=(n, *aval_of(values[0]).shape)), values[1]]
        return self(*values, axis=axis, size=size, at=at + 1)


class PsumScatter(Collective):
    """Each example's slice, along the axis ``at``, of the sum over all examples."""

    impl = staticmethod(_alone)

    def abstract(self, x: Aval, index: Aval, *, axis: Any, size: int, at: int) -> Aval:
        return Aval((*x.shape[:at], *x.shape[at + 1 :]), x.dtype)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return all_gather(ct, *fixed, **params)

    def combined(self, n: int, x: Value, batched: bool, **params: Any) -> tuple[Value, bool]:
        total = sum_(x, axes=(0,), keepdims=False) if batched else x * int(n)
        return moved(total, params["at"], 0), True

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *,
        axis: Any, size: int, at: int,
    ) -> Value:  # fmt: skip
        if not batched[0]:
            values = [broadcast_to(values[0], shape=(n, *aval_of(values[0]).shape)), values[1]]
        return self(*values, axis=axis, size=size, at=at + 1)


def moved(x: Value, source: int, target: int) -> Value:
    """`np.moveaxis`."""
    order = list(range(len(aval_of(x).shape)))
    order.insert(target, order.pop(source))
    return permute(x, axes=tuple(order))


psum, all_gather, psum_scatter = primitive(Psum), primitive(AllGather), primitive(PsumScatter)
