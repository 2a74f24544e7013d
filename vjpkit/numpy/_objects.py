"""Traced arrays as NumPy's own: arrays of objects, each a traced number.

NumPy asks for one where it is given a traced value in a list, and in functions that it does not
dispatch, ``np.asarray`` among them. What these return stands for the traced array itself, as NumPy
has it, which shares its memory.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import numpy as np

from vjpkit.core.errors import TracerConversionError, at, calling_position, counted
from vjpkit.core.tracer import Tracer, dispatch_rest
from vjpkit.numpy._arguments import known
from vjpkit.numpy._handles import Plain
from vjpkit.numpy._no_axis import is_array
from vjpkit.numpy._reading import read_item
from vjpkit.numpy._views import share

__all__: list[str] = []

_MOST = 10_000
_LEAVES_OBJECTS = inspect.unwrap(np.nan_to_num).__code__


def as_numpys(x: Tracer, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
    """An array of objects of this shape: NumPy's own ``np.array([t1, t2])`` keeps the tracers.

    Of an array of constants, the constants.
    """
    if sys._getframe(2).f_code is _LEAVES_OBJECTS and x.aval.inexact:
        raise TracerConversionError(
            "np.nan_to_num of a list of traced values would leave nan where it is: it changes "
            f"numbers, and takes these for objects{at(calling_position())}\n"
            "Give it an array: np.nan_to_num(vnp.array([...]))."
        )
    found = x.constants() if isinstance(x, Plain) else x
    out = objects(found, dtype) if isinstance(found, Tracer) else np.array(found, dtype)
    return share(x, out) if not copy and is_array(x) and out.dtype in (x.dtype, object) else out


dispatch_rest("array", as_numpys)


def objects(x: Tracer, dtype: Any) -> np.ndarray[Any, Any]:
    """Each element as a tracer of its own."""
    if dtype is not None and np.dtype(dtype) != object:
        raise TracerConversionError(
            f"a traced value of shape {x.shape} cannot become a plain array of "
            f"{np.dtype(dtype)}: its derivative would be lost.{at(calling_position())}\n"
            "Use vnp.array or np.stack to build arrays from traced values, np.zeros_like(x) or "
            "vnp.zeros to start one that accepts them, stop_gradient for the plain value."
        )
    if x.dtype.kind == "c":
        raise TracerConversionError(
            f"a traced value of {x.aval} cannot become an object in an array of NumPy's own, which "
            f"takes objects for real numbers{at(calling_position())}\n"
            "Use vnp.array or np.stack to build arrays of traced complex numbers."
        )
    if x.shape and x.dtype.kind in "biu" and known(x) is None:
        raise TracerConversionError(
            f"{x.aval}, whose values are not known, cannot be an array of NumPy's own: compiled "
            f"code would take it for plain numbers{at(calling_position())}\n"
            "Where it is an index of a plain array, make that one that takes it: vnp.array(a)[i]. "
            "Build arrays with vnp.array or np.stack."
        )
    if x.size > _MOST:
        raise TracerConversionError(
            f"np.array of a traced value of {counted(x.size, 'element')} would make that many "
            f"single-element tracers.{at(calling_position())}\nUse vnp.array or np.stack "
            "instead."
        )
    out = np.empty(x.shape, object)
    for i in np.ndindex(*x.shape):
        out[i] = read_item(x, i)
    return out
