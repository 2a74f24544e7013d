"""ndarray's face on tracers: operators, methods, attributes, indexing."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.staging import Staged
from vjpkit.core.tracer import Tracer, refresh
from vjpkit.kinds import Elementwise
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._handles import hold_all
from vjpkit.numpy._writable import in_place
from vjpkit.ops import constant, elementwise, products
from vjpkit.transforms.batch import Batched

__all__: list[str] = []


def _operators() -> None:
    differentiable = {
        "add": elementwise.add, "sub": elementwise.subtract, "mul": elementwise.multiply,
        "truediv": elementwise.divide, "mod": elementwise.remainder, "pow": elementwise.power,
    }  # fmt: skip
    for name, op in differentiable.items():
        _recording(f"__{name}__", op, "apply")
        _recording(f"__r{name}__", op, "reflected")
        method(f"__i{name}__")(in_place(op))
    binary: dict[str, Any] = {
        "floordiv": constant.floor_divide, "divmod": _divmod, "matmul": products.matmul,
        "and": constant.bitwise_and, "or": constant.bitwise_or, "xor": constant.bitwise_xor,
        "lshift": constant.left_shift, "rshift": constant.right_shift,
    }  # fmt: skip
    for name, function in binary.items():
        method(f"__{name}__")(_bound(function))
        method(f"__r{name}__")(_reflected(function))
        if name != "divmod":
            method(f"__i{name}__")(in_place(function))
    _recording("__neg__", elementwise.negative, "apply")
    _recording("__pos__", elementwise.positive, "apply")
    _recording("__abs__", elementwise.absolute, "apply")
    method("__invert__")(_unary(constant.invert))
    comparisons = {
        operator.lt: constant.less, operator.le: constant.less_equal,
        operator.gt: constant.greater, operator.ge: constant.greater_equal,
        operator.eq: constant.equal, operator.ne: constant.not_equal,
    }  # fmt: skip
    for compare, comparison in comparisons.items():
        method(f"__{compare.__name__}__")(_comparison(compare, comparison))
    for function in (round, math.trunc, math.floor, math.ceil):
        method(f"__{function.__name__}__")(_rounding(function))


def _recording(name: str, op: Elementwise, which: str) -> None:
    """The operators of every tracer are the record functions themselves, made at first use."""

    def first_call(self: Value, *other: Value) -> Value:
        record = method(name)(getattr(op, which))
        return record(self, *other)

    method(name)(first_call)


def _divmod(x: Value, y: Value) -> tuple[Value, Value]:
    return x // y, x % y


def _bound(function: Any) -> Any:
    def operation(self: Value, other: Value) -> Value:
        return function(self, other)

    return operation


def _reflected(function: Any) -> Any:
    def operation(self: Value, other: Value) -> Value:
        return function(other, self)

    return operation


def _unary(function: Any) -> Any:
    def operation(self: Value) -> Value:
        return function(self)

    return operation


def _comparison(compare: Any, primitive: Any) -> Any:
    """NumPy's own comparison of the values; the primitive where they are abstract."""

    def operation(self: Value, other: Value) -> Value:
        x, y = unwrapped(self), unwrapped(other)
        if not isinstance(x, Tracer) and not isinstance(y, Tracer):
            out = compare(x, y)
            return hold_all(out) if getattr(self.owner, "standard", False) else out
        if y is None or isinstance(y, str):
            return NotImplemented
        return primitive(x, y)

    return operation


def _rounding(function: Any) -> Any:
    def operation(self: Value, *digits: int) -> Any:
        return function(self.concrete(), *digits)

    return operation


_operators()


def unwrapped(x: Value) -> Value:
    """The value below the traces that only carry derivatives: plain, batched or staged."""
    while isinstance(x, Tracer) and not isinstance(x, Batched | Staged):
        if x.owner.dirty:
            x = refresh(x)
            if isinstance(x, Batched | Staged):  # written by an example, read by a loop's body
                break
        x = x.value
    return x


@method("__contains__")
def _contains(self: Value, item: Value) -> bool:
    return bool(np.any(self == item))
