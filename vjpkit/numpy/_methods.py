"""ndarray's methods and attributes on tracers that are neither operators nor reductions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import TracerConversionError, UnsupportedError, at, calling_position
from vjpkit.core.tracer import Tracer
from vjpkit.numpy import _indices, _joining, _shape
from vjpkit.numpy._creation import laid_out
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._handles import keep_standard, snapshot
from vjpkit.numpy._no_axis import is_array
from vjpkit.numpy._overlap import overlaid
from vjpkit.numpy._writable import write
from vjpkit.ops import structural

__all__: list[str] = []

# ---- attributes --------------------------------------------------------------------------------


def _transposed(self: Value) -> Value:
    return _shape.transpose(self)


method("T")(property(_transposed))


def _matrix_transposed(self: Value) -> Value:
    if self.ndim < 2:
        raise ValueError("matrix transpose with ndim < 2 is undefined")
    return _shape.swapaxes(self, -1, -2)


method("mT")(property(_matrix_transposed))


class Flat:
    """``x.flat``: the elements in C order, to be read, written and iterated over."""

    __slots__ = ("base",)

    def __init__(self, base: Value) -> None:
        self.base = base

    def __getitem__(self, index: Any) -> Value:
        out = np.ravel(self.base)[index]
        return laid_out(out, "C", True) if isinstance(index, slice) else out

    def __setitem__(self, index: Any, value: Value) -> None:
        def operation(values: Sequence[Any], out: Any) -> None:
            out.flat[index] = values[0]

        if not self.base.ndim:
            np.reshape(self.base, 1)[index] = value
            return
        left = overlaid("x.flat", self.base, [value], operation)
        if left is not None:
            write(self.base, Ellipsis, left)
            return
        places = np.arange(self.base.size)[index]
        if np.ndim(places) and np.ndim(value):
            value = np.resize(value, np.size(places))
        write(self.base, np.unravel_index(places, self.base.shape), value)

    def __iter__(self) -> Iterator[Value]:
        return iter(np.ravel(self.base))

    def __len__(self) -> int:
        return int(self.base.size)

    def copy(self) -> Value:
        """The elements as an array of one axis."""
        return flatten(self.base)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(np.ravel(self.base), dtype)


def _flat(self: Value) -> Flat:
    return Flat(self)


def _set_flat(self: Value, value: Value) -> None:
    left = overlaid("x.flat", self, [value], lambda xs, y: setattr(y, "flat", xs[0]))
    if left is not None:
        write(self, Ellipsis, left)
        return
    Flat(self)[:] = np.ravel(value)


method("flat")(property(_flat, _set_flat))


# ---- shape -------------------------------------------------------------------------------------


def _sole(args: tuple[Any, ...]) -> Any:
    """The arguments, which may have come as one tuple."""
    return args[0] if len(args) == 1 else args


@method("reshape")
def reshape(self: Value, *shape: Any, order: str = "C", copy: bool | None = None) -> Value:
    """See `numpy.reshape`."""
    return _shape.reshape(self, _sole(shape), order, copy=copy)


@method("transpose")
def transpose(self: Value, *axes: Any) -> Value:
    """See `numpy.transpose`."""
    return _shape.transpose(self, _sole(axes) if axes else None)


@method("ravel")
def ravel(self: Value, order: str = "C") -> Value:
    """See `numpy.ravel`."""
    return _shape.ravel(self, order)


@method("flatten")
def flatten(self: Value, order: str = "C") -> Value:
    """A copy as an array of one axis."""
    return laid_out(_shape.ravel(self, order), "C", True)


@method("swapaxes")
def swapaxes(self: Value, axis1: int, axis2: int, /) -> Value:
    """See `numpy.swapaxes`."""
    return _shape.swapaxes(self, axis1, axis2)


@method("squeeze")
def squeeze(self: Value, axis: Any = None) -> Value:
    """See `numpy.squeeze`."""
    return _shape.squeeze(self, axis)


@method("repeat")
def repeat(self: Value, repeats: Any, axis: int | None = None) -> Value:
    """See `numpy.repeat`."""
    return _joining.repeat(self, repeats, axis)


@method("take")
def take(
    self: Value, indices: Any, axis: int | None = None, out: Any = None, mode: Any = "raise"
) -> Value:
    """See `numpy.take`."""
    return _indices.take(self, indices, axis, out, mode)


@method("diagonal")
def diagonal(self: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """See `numpy.diagonal`."""
    return _indices.diagonal(self, offset, axis1, axis2)


@method("trace")
def trace(
    self: Value, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Value:
    """See `numpy.trace`."""
    return _indices.trace(self, offset, axis1, axis2, dtype, out)


@method("dot")
def dot(self: Value, b: Value, out: Any = None) -> Value:
    """See `numpy.dot`."""
    return np.dot(self, b, out)


# ---- copies and conversions --------------------------------------------------------------------


@method("copy")
def copy(self: Value, order: str = "C") -> Value:
    """A copy that shares nothing with the array."""
    return laid_out(self, order, True) if is_array(self) else snapshot(self)


@method("__copy__")
def _copy(self: Value) -> Value:
    return copy(self, "K")


@method("__deepcopy__")
def _deepcopy(self: Value, memo: Any) -> Value:
    return copy(self, "K")


@method("astype")
def astype(
    self: Value,
    dtype: Any,
    order: str = "K",
    casting: str = "unsafe",
    subok: bool = True,
    copy: bool = True,
) -> Value:
    """See `numpy.ndarray.astype`."""
    dtype = np.dtype(dtype)
    if not np.can_cast(self.dtype, dtype, casting):  # type: ignore[arg-type]  # NumPy looks at it
        raise TypeError(
            f"Cannot cast array data from {self.dtype!r} to {dtype!r} according to the rule "
            f"{casting!r}"
        )
    return _shape.cast(self, dtype, order, copy)


@method("item")
def item(self: Value, *args: Any) -> Value:
    """One element as a Python number, which keeps its derivative and does not decide dtypes."""
    if not args:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        element = self
    else:
        index = _sole(args)
        if isinstance(index, tuple) and len(index) != self.ndim:
            raise ValueError("incorrect number of indices for array")
        element = self[index] if isinstance(index, tuple) else np.ravel(self)[index]
    if element.dtype in (np.longdouble, np.clongdouble):  # Python has no such numbers
        return np.reshape(element, ())[()]
    return structural.item(element)


@method("tolist")
def tolist(self: Value) -> Any:
    """Nested lists of the elements, as `item` gives them."""
    return item(self) if self.ndim == 0 else [tolist(x) for x in self]


@method("view")
def view(self: Value, dtype: Any = None, type: Any = None) -> Value:
    """A new view of the same dtype; other dtypes reinterpret bytes, which has no derivative."""
    if type is not None or (dtype is not None and np.dtype(dtype) != self.dtype):
        raise UnsupportedError(
            f"view({np.dtype(dtype) if type is None else type}): a traced value of {self.aval} "
            f"cannot be reinterpreted as something else{at(calling_position())}\n"
            "Use astype, .real or .imag."
        )
    return self[...] if is_array(self) else self


@method("fill")
def fill(self: Value, value: Value, /) -> None:
    """Set every element to ``value``."""
    if np.ndim(value):
        raise ValueError("setting an array element with a sequence.")
    write(self, Ellipsis, value)


@method("put")
def put(self: Value, indices: Any, values: Value, mode: Any = "raise") -> None:
    """See `numpy.put`."""
    np.put(self, indices, values, mode)


def _bytes_of(name: str) -> None:
    def refused(self: Value, *args: Any, **kwargs: Any) -> NoReturn:
        raise TracerConversionError(
            f"{name}() of a traced value of {self.aval} would lose its derivative."
            f"{at(calling_position())}\nWhere the plain values are meant, use "
            f"vk.lax.stop_gradient(x).{name}(...)."
        )

    refused.__name__ = name
    method(name)(refused)


def _memory_of(name: str) -> None:
    def refused(self: Value, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            f"{name}: a traced value of {self.aval} has no memory of its own to work on."
            f"{at(calling_position())}\nUse NumPy's functions, which return new arrays."
        )

    refused.__name__ = name
    method(name)(refused)


for _name in ("tobytes", "tofile", "dump", "dumps", "__dlpack__"):
    _bytes_of(_name)
for _name in ("byteswap", "getfield", "resize", "setfield", "setflags"):
    _memory_of(_name)


# ---- for NumPy's loops over objects ------------------------------------------------------------


def _called_by_name(ufunc: np.ufunc) -> None:
    """NumPy computes ``np.sin`` of an array of objects by their method ``sin``."""

    def call(self: Value, *others: Value) -> Value:
        return ufunc(self, *others)

    call.__name__ = ufunc.__name__
    call.__doc__ = f"See `numpy.{ufunc.__name__}`."
    method(ufunc.__name__)(call)


for _name in np.__all__:
    _ufunc = vars(np).get(_name)  # not getattr, which would import NumPy's submodules
    if not isinstance(_ufunc, np.ufunc) or _ufunc.__name__ != _name or hasattr(Tracer, _name):
        continue
    if _ufunc.nin == 1 or _name in ("arctan2", "fmod", "hypot"):
        _called_by_name(_ufunc)


# ---- the array API standard --------------------------------------------------------------------


def _device(self: Value) -> str:
    return "cpu"


method("device")(property(_device))


@method("__dlpack_device__")
def _dlpack_device(self: Value) -> tuple[int, int]:
    return np.empty(0).__dlpack_device__()


@method("to_device")
def to_device(self: Value, device: str, /, *, stream: Any = None) -> Value:
    """The array itself: the CPU is the only device."""
    if stream is not None:
        raise ValueError("The stream argument in to_device() is not supported")
    if device != "cpu":
        raise ValueError(f"Unsupported device: {device}. Only 'cpu' is accepted.")
    return self


@method("__array_namespace__")
def array_namespace(self: Value, *, api_version: Any = None) -> ModuleType:
    """`vjpkit.numpy.array_api`, for libraries written against the array API standard."""
    np.empty(0).__array_namespace__(api_version=api_version)  # NumPy's error for other versions
    keep_standard(self)
    return import_module("vjpkit.numpy.array_api")
