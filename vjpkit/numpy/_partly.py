"""Functions that NumPy dispatches on one argument only, although another may be traced too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy import _creation, _indices
from vjpkit.numpy._creation import has_traced

__all__ = ["full_like", "take"]


def _asked_of_all(numpys: Callable[..., Any], ours: Callable[..., Value]) -> Callable[..., Value]:
    """NumPy's function; ours where any argument is traced."""

    @functools.wraps(numpys)
    def function(*args: Any, **kwargs: Any) -> Value:
        traced = any(map(has_traced, (*args, *kwargs.values())))
        return (ours if traced else numpys)(*args, **kwargs)

    return function


take = _asked_of_all(np.take, _indices.take)
full_like = _asked_of_all(np.full_like, _creation.full_like)
