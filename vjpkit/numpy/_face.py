"""ndarray's face on tracers: operators, methods, attributes, indexing."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.rows import Eager
from vjpkit.numpy._dispatch import method
from vjpkit.ops import elementwise, products, selection
from vjpkit.ops.indexing import getitem

__all__: list[str] = []


def _operators() -> None:
    binary = {
        "add": elementwise.add, "sub": elementwise.subtract, "mul": elementwise.multiply,
        "truediv": elementwise.divide,
    }  # fmt: skip
    for name, op in binary.items():
        # The operators of every tracer are the record functions themselves.
        method(f"__{name}__")(op.apply)
        method(f"__r{name}__")(op.reflected)
    method("__neg__")(elementwise.negative.apply)
    comparisons = {
        "lt": selection.less, "le": selection.less_equal, "gt": selection.greater,
        "ge": selection.greater_equal, "eq": selection.equal, "ne": selection.not_equal,
        "or": selection.bitwise_or,
    }  # fmt: skip
    for name, comparison in comparisons.items():
        method(f"__{name}__")(_bound(comparison))
    method("__matmul__")(_bound(products.matmul))
    method("__rmatmul__")(_reflected(products.matmul))


def _bound(function: Any) -> Any:
    def operator(self: Value, other: Value) -> Value:
        return function(self, other)

    return operator


def _reflected(function: Any) -> Any:
    def operator(self: Value, other: Value) -> Value:
        return function(other, self)

    return operator


_operators()


@method("__getitem__")
def _getitem(self: Value, index: Any) -> Value:
    return getitem.read(self, index)


def unwrapped(x: Value) -> Value:
    """The value below the traces that only carry derivatives."""
    while isinstance(x, Eager):
        x = x.value
    return x


def forward_methods(*names: str) -> None:
    """Methods that are NumPy's function of the same name."""
    for name in names:
        function = getattr(np, name)
        method(name)(_forward(function))


def _forward(function: Any) -> Any:
    def call(self: Value, *args: Any, **kwargs: Any) -> Value:
        return function(self, *args, **kwargs)

    call.__name__ = function.__name__
    call.__doc__ = f"See `numpy.{function.__name__}`."
    return call


forward_methods("sum")


@method("reshape")
def _reshape(self: Value, *shape: Any, order: str = "C", copy: bool | None = None) -> Value:
    return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order, copy=copy)


@method("astype")
def _astype(self: Value, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True) -> Value:  # fmt: skip
    return np.astype(self, dtype)


@method("real")
@property
def _real(self: Value) -> Value:
    return np.real(self)
