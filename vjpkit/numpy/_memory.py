"""What an array says of its memory: ``x.strides``, ``x.base``, ``x.flags``; they are only read."""

from __future__ import annotations

from typing import Any, NoReturn

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import Eager
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._creation import is_contiguous, strides_of
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._no_axis import is_array
from vjpkit.numpy._views import View, base_of, chain_of, require_certain, root_of
from vjpkit.transforms.batch import Batched

__all__ = ["Flags"]


def _unknown(name: str) -> NoReturn:
    raise AttributeError(
        f"{name}: the memory layout of an array is not known while it is staged"
        f"{at(calling_position())}"
    )


def _strides(self: Tracer) -> tuple[int, ...]:
    strides = strides_of(self)
    return _unknown("strides") if strides is None else strides


def _base(self: Tracer) -> Tracer | None:
    """The array whose memory ``self`` is a view of; None of one that has its own."""
    require_certain(self)
    return root_of(self) if type(base_of(self)) is View else None


class Flags:
    """``x.flags``: how an array lies in memory and whether it is written to, under NumPy's names.

    >>> import numpy as np, vjpkit as vk
    >>> def f(x):
    ...     print(x.T.flags.c_contiguous, x.T.flags["F_CONTIGUOUS"], x.T.flags.owndata)
    ...     return x
    >>> _ = vk.vjp(f, np.ones((2, 3)))
    False True False
    """

    __slots__ = ("_array",)
    _array: Tracer
    _letters = {
        "C": "c_contiguous", "CONTIGUOUS": "c_contiguous", "F": "f_contiguous",
        "FORTRAN": "f_contiguous", "O": "owndata", "W": "writeable", "A": "aligned",
        "X": "writebackifcopy", "B": "behaved", "CA": "carray", "FA": "farray",
    }  # fmt: skip

    def __init__(self, array: Tracer) -> None:
        object.__setattr__(self, "_array", array)

    @property
    def c_contiguous(self) -> bool:
        return self._contiguous("C")

    @property
    def f_contiguous(self) -> bool:
        return self._contiguous("F")

    def _contiguous(self, order: str) -> bool:
        known = is_contiguous(self._array, order)
        return _unknown("flags") if known is None else known

    contiguous = c_contiguous

    @property
    def owndata(self) -> bool:
        return _base(self._array) is None

    @property
    def writeable(self) -> bool:
        _, _, readonly = chain_of(self._array)
        return is_array(self._array) and not readonly

    @property
    def aligned(self) -> bool:
        return True

    @property
    def writebackifcopy(self) -> bool:
        return False

    @property
    def behaved(self) -> bool:
        return self.writeable

    @property
    def carray(self) -> bool:
        return self.c_contiguous and self.writeable

    @property
    def farray(self) -> bool:
        return not self.c_contiguous  # what NumPy says of any array that is aligned

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self) -> bool:
        return self.f_contiguous or self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        attribute = self._letters.get(name, str(name).lower())
        if name != str(name).upper() or attribute.startswith("_") or not hasattr(Flags, attribute):
            raise KeyError("Unknown flag")
        return bool(getattr(self, attribute))

    def __setattr__(self, name: str, value: Any) -> None:
        _refuse("flags", self._array, "Copy an array that is to stay as it is, np.copy(x).")

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse("flags", self._array, "Copy an array that is to stay as it is, np.copy(x).")

    def __repr__(self) -> str:
        shown = "C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA", "WRITEABLE", "ALIGNED", "WRITEBACKIFCOPY"
        return "".join(f"  {name} : {self[name]}\n" for name in shown)


def _refuse(name: str, x: Tracer, advice: str) -> NoReturn:
    raise UnsupportedError(
        f"x.{name} of a traced value of {x.aval} cannot be set{at(calling_position())}\n{advice}"
    )


def _read_only(name: str, getter: property, advice: str) -> property:
    def refused(self: Tracer, value: Value) -> NoReturn:
        _refuse(name, self, advice)

    return getter.setter(refused)


method("base")(property(_base))
method("flags")(property(Flags))
method("strides")(_read_only("strides", property(_strides), "Index it, or use np.reshape."))
for _kind in (Tracer, Eager, Batched):  # those that say their shape themselves
    for _name, _advice in (
        ("shape", "Bind the name anew: x = x.reshape(shape)."),
        ("dtype", "Bind the name anew: x = x.astype(dtype)."),
    ):
        setattr(_kind, _name, _read_only(_name, vars(_kind)[_name], _advice))
