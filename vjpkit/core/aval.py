"""Abstract values: what is known of a value without computing it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Aval", "Shape", "Value", "aval_of", "dtype_name", "dtype_named", "is_inexact"]

# Whatever a primitive computes with: ndarray, NumPy or Python scalar, tracer, or another array type
# that speaks NumPy's protocols. Python's type system has no name for "speaks NumPy".
Value = Any
Shape = tuple[int, ...]

_SHORT = {  # extended precision first: where it is double precision, it prints as that
    "longdouble": "longdouble", "float16": "f16", "float32": "f32", "float64": "f64",
    "clongdouble": "clongdouble", "complex64": "c64", "complex128": "c128", "bool": "bool",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip
_NAME_OF = {np.dtype(long): short for long, short in _SHORT.items()}
_NAMED = {short: np.dtype(long) for long, short in _SHORT.items()}
_PYTHON_SCALARS = {
    bool: np.dtype(bool),
    int: np.dtype(np.int64),
    float: np.dtype(np.float64),
    complex: np.dtype(np.complex128),
}


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The IR's short name of a dtype.

    >>> dtype_name(np.dtype("float32")), dtype_name(np.dtype("longdouble"))
    ('f32', 'longdouble')
    """
    return _NAME_OF.get(dtype) or dtype.str


def dtype_named(name: str) -> np.dtype[Any]:
    """The dtype that `dtype_name` calls ``name``; a `ValueError` for any other word."""
    if name in _NAMED:
        return _NAMED[name]
    try:
        if name.startswith(("<", ">", "|")):
            return np.dtype(name)
    except TypeError:
        pass
    raise ValueError(f"no dtype is called {name!r}")


class Aval:
    """Shape and dtype of a value; ``weak`` marks a Python scalar, which does not decide promotion.

    >>> Aval((2, 3), np.float32)
    f32[2,3]
    >>> aval_of(2.0)
    f64[]*
    """

    __slots__ = ("dtype", "shape", "weak")

    def __init__(self, shape: Shape, dtype: Any, weak: bool = False) -> None:
        self.shape = tuple(shape)
        self.dtype: np.dtype[Any] = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
        self.weak = weak

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def inexact(self) -> bool:
        """Whether values of this kind have tangents (float and complex ones do)."""
        return self.dtype.kind in "fc"

    def strong(self) -> Aval:
        """The same shape and dtype, deciding promotion as an array does."""
        return Aval(self.shape, self.dtype) if self.weak else self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Aval):
            return NotImplemented
        same = self.shape == other.shape and self.dtype == other.dtype
        return same and self.weak == other.weak

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.weak))

    def __repr__(self) -> str:
        star = "*" if self.weak else ""
        return f"{dtype_name(self.dtype)}[{','.join(map(str, self.shape))}]{star}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Aval, (self.shape, self.dtype, self.weak)


_SCALAR_AVALS = {kind: Aval((), dtype, weak=True) for kind, dtype in _PYTHON_SCALARS.items()}


def aval_of(x: Value) -> Aval:
    """The aval of an array, a tracer, a NumPy scalar or a Python scalar."""
    kind = type(x)
    if kind is np.ndarray or kind is np.float64:
        return Aval(x.shape, x.dtype)
    if kind in _PYTHON_SCALARS:
        return _SCALAR_AVALS[kind]
    aval = getattr(x, "aval", None)
    if isinstance(aval, Aval):
        return aval
    return Aval(x.shape, x.dtype)


def is_inexact(x: Value) -> bool:
    """Whether ``x`` can carry a derivative."""
    return aval_of(x).inexact
