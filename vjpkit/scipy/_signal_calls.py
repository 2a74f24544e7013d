"""What the functions of signals share: how they are called, and where the axis is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost
from vjpkit.core.tracer import Tracer
from vjpkit.scipy._calls import Call, like
from vjpkit.transforms.staged import is_abstract

__all__ = ["axis_back", "axis_last", "known_of", "ours", "refuse", "scaled"]

ours = partial(like, "signal", rehearse=True)


def axis_last(x: Value, axis: int) -> Value:
    """The axis put last."""
    return np.moveaxis(x, axis, -1)


def axis_back(x: Value, axis: int) -> Value:
    """The last axis put back."""
    return np.moveaxis(x, -1, axis)


def refuse(call: Call, words: str, instead: str) -> None:
    raise UnsupportedError(
        f"{call.label}: {words} not supported with traced values{at(calling_position())}.\n"
        f"{instead}"
    )


def known_of(call: Call, x: Value) -> Any:
    """The numbers of a value on which the length of something depends."""
    if is_abstract(x):
        refuse(call, "padlen=None of coefficients that are not known is", "Say how long it is.")
    return innermost(x)


def scaled(found: Value, fs: Value, power: int) -> Value:
    """Frequencies (power 1) or times (-1) that SciPy found, which go with the sampling rate."""
    if not isinstance(fs, Tracer):
        return found
    rate: Value = fs if is_abstract(fs) else fs / innermost(fs)
    return found * rate if power > 0 else found / rate
