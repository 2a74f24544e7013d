"""What NumPy says about arrays: shapes, dtypes, memory, text. None of it has a derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import concrete, known
from vjpkit.numpy._creation import has_traced, promoting
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._joining import as_values
from vjpkit.numpy._overlap import lying_as
from vjpkit.ops.index import stand_in

__all__: list[str] = []


@implements(np.shape)
def shape(a: Value) -> tuple[int, ...]:
    return aval_of(as_values(a)).shape


@implements(np.ndim)
def ndim(a: Value) -> int:
    return aval_of(as_values(a)).ndim


@implements(np.size)
def size(a: Value, axis: Any = None) -> int:
    return np.size(stand_in(aval_of(as_values(a))), axis)


def _seen(x: Any) -> Any:
    """What promotion sees of an argument that may also be a dtype."""
    return promoting(x) if has_traced(x) else x


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    return np.result_type(*map(_seen, arrays_and_dtypes))


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, Tracer) else from_, to, casting)


@implements(np.min_scalar_type)
def min_scalar_type(a: Value, /) -> np.dtype[Any]:
    return a.dtype if a.ndim else np.min_scalar_type(concrete(a, "min_scalar_type"))


@implements(np.common_type)
def common_type(*arrays: Value) -> Any:
    return np.common_type(*[stand_in(aval_of(as_values(a))) for a in arrays])


@implements(np.shares_memory)
def shares_memory(a: Any, b: Any, /, max_work: Any = -1) -> bool:
    return np.shares_memory(*lying_as(a, b), max_work)


@implements(np.may_share_memory)
def may_share_memory(a: Any, b: Any, /, max_work: Any = 0) -> bool:
    return np.may_share_memory(*lying_as(a, b), max_work)


# ---- text: printed by value, without derivative ------------------------------------------------


def _printed(function: Callable[..., str], a: Value, *args: Any, **kwargs: Any) -> str:
    value = known(a)
    return repr(a) if value is None else function(value, *args, **kwargs)


@implements(np.array_repr)
def array_repr(
    arr: Value, max_line_width: Any = None, precision: Any = None, suppress_small: Any = None
) -> str:
    return _printed(np.array_repr, arr, max_line_width, precision, suppress_small)


@implements(np.array_str)
def array_str(
    a: Value, max_line_width: Any = None, precision: Any = None, suppress_small: Any = None
) -> str:
    return _printed(np.array_str, a, max_line_width, precision, suppress_small)


@implements(np.array2string)
def array2string(
    a: Value,
    max_line_width: Any = None,
    precision: Any = None,
    suppress_small: Any = None,
    separator: str = " ",
    prefix: str = "",
    *,
    formatter: Any = None,
    threshold: Any = None,
    edgeitems: Any = None,
    sign: Any = None,
    floatmode: Any = None,
    suffix: str = "",
    legacy: Any = None,
) -> str:
    return _printed(
        np.array2string, a, max_line_width, precision, suppress_small, separator, prefix,
        formatter=formatter, threshold=threshold, edgeitems=edgeitems, sign=sign,
        floatmode=floatmode, suffix=suffix, legacy=legacy,
    )  # fmt: skip
