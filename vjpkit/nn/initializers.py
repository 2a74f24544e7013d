"""Initial weights: functions ``init(rng, shape, dtype)`` that draw from a NumPy generator.

JAX's names; in the place of a key stands a `numpy.random.Generator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.errors import at, calling_position

__all__ = [
    "constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal",
    "lecun_uniform", "normal", "ones", "orthogonal", "truncated_normal", "uniform",
    "variance_scaling", "zeros",
]  # fmt: skip

Array = np.ndarray[Any, np.dtype[Any]]
Initializer = Callable[..., Array]


def _checked(function: str, rng: Any, shape: Any) -> tuple[int, ...]:
    """The shape as a tuple; raises unless ``rng`` is a generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"{function}: the first argument must be a numpy.random.Generator, got "
            f"{type(rng).__name__}{at(calling_position())}\nMake one: np.random.default_rng(seed)."
        )
    try:
        return tuple(map(index, shape))
    except TypeError:
        raise TypeError(
            f"{function}: shape must be a tuple of ints, got {shape!r}{at(calling_position())}"
        ) from None


def zeros(rng: Any, shape: Sequence[int], dtype: Any = np.float64) -> Array:
    """Zeros; ``rng`` is not used.

    >>> import vjpkit as vk
    >>> vk.nn.initializers.zeros(None, (2,))
    array([0., 0.])
    """
    return np.zeros(tuple(shape), dtype)


def ones(rng: Any, shape: Sequence[int], dtype: Any = np.float64) -> Array:
    """Ones; ``rng`` is not used.

    >>> import vjpkit as vk
    >>> vk.nn.initializers.ones(None, (2,))
    array([1., 1.])
    """
    return np.ones(tuple(shape), dtype)


def constant(value: Any, dtype: Any = np.float64) -> Initializer:
    """An initializer of equal values.

    >>> import vjpkit as vk
    >>> vk.nn.initializers.constant(0.5)(None, (2,))
    array([0.5, 0.5])
    """
    return partial(_constant, value=value, default=dtype)


def _constant(
    rng: Any, shape: Sequence[int], dtype: Any = None, *, value: Any, default: Any
) -> Array:
    return np.full(tuple(shape), value, default if dtype is None else dtype)


def uniform(scale: float = 1e-2, dtype: Any = np.float64) -> Initializer:
    """An initializer of numbers uniform in [0, scale).

    >>> import numpy as np, vjpkit as vk
    >>> w = vk.nn.initializers.uniform(0.1)(np.random.default_rng(0), (1000,))
    >>> bool(0 <= w.min() < w.max() < 0.1)
    True
    """
    draw = np.random.Generator.random
    return partial(_drawn, function="uniform", scale=scale, default=dtype, draw=draw)


def normal(stddev: float = 1e-2, dtype: Any = np.float64) -> Initializer:
    """An initializer of normal numbers with mean 0.

    >>> import numpy as np, vjpkit as vk
    >>> w = vk.nn.initializers.normal(0.1)(np.random.default_rng(0), (1000,))
    >>> w.std().round(2)
    np.float64(0.1)
    """
    draw = np.random.Generator.standard_normal
    return partial(_drawn, function="normal", scale=stddev, default=dtype, draw=draw)


def truncated_normal(
    stddev: float = 1e-2, dtype: Any = np.float64, lower: float = -2.0, upper: float = 2.0
) -> Initializer:
    """An initializer of normal numbers between ``lower`` and ``upper`` times ``stddev``.

    >>> import numpy as np, vjpkit as vk
    >>> w = vk.nn.initializers.truncated_normal(0.1)(np.random.default_rng(0), (1000,))
    >>> bool(abs(w).max() <= 0.2)
    True
    """
    if not lower < upper:
        raise ValueError(
            f"truncated_normal: lower must be less than upper, got {lower!r} and {upper!r}"
            f"{at(calling_position())}"
        )
    draw = partial(_truncated, lower=lower, upper=upper)
    return partial(_drawn, function="truncated_normal", scale=stddev, default=dtype, draw=draw)


def _truncated(rng: np.random.Generator, shape: tuple[int, ...], lower: float, upper: float) -> Any:
    """Standard normal numbers in an interval: those outside are drawn again."""
    out = rng.standard_normal(shape)
    outside = (out < lower) | (out > upper)
    while outside.any():
        out[outside] = rng.standard_normal(int(outside.sum()))
        outside = (out < lower) | (out > upper)
    return out


def _drawn(
    rng: Any,
    shape: Sequence[int],
    dtype: Any = None,
    *,
    function: str,
    scale: float,
    default: Any,
    draw: Callable[..., Any],
) -> Array:
    sizes = _checked(function, rng, shape)
    values: Array = np.asarray(scale * draw(rng, sizes))
    return values.astype(default if dtype is None else dtype)


_MODES = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}
_TRUNCATED_STDDEV = 0.87962566103423978
"""Of a standard normal number between -2 and 2."""


def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: int = -2,
    out_axis: int = -1,
    dtype: Any = np.float64,
) -> Initializer:
    """An initializer of numbers with variance ``scale / n`` (Glorot and Bengio 2010, He et al.
    2015).

    ``mode`` says what n is: "fan_in", "fan_out" or "fan_avg", the number of inputs or outputs of a
    unit or their mean; ``distribution`` is "truncated_normal", "normal" or "uniform".

    >>> import numpy as np, vjpkit as vk
    >>> init = vk.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    >>> init(np.random.default_rng(0), (200, 100)).var().round(3)
    np.float64(0.01)
    """
    for name, value, allowed in (
        ("mode", mode, tuple(_MODES)),
        ("distribution", distribution, ("truncated_normal", "normal", "uniform")),
    ):
        if value not in allowed:
            raise ValueError(
                f"variance_scaling: {name} must be one of {', '.join(allowed)}, got {value!r}"
                f"{at(calling_position())}"
            )
    return partial(
        _scaled, scale=scale, mode=mode, distribution=distribution,
        in_axis=in_axis, out_axis=out_axis, default=dtype,
    )  # fmt: skip


def _scaled(
    rng: Any,
    shape: Sequence[int],
    dtype: Any = None,
    *,
    scale: float,
    mode: str,
    distribution: str,
    in_axis: int,
    out_axis: int,
    default: Any,
) -> Array:
    sizes = _checked("variance_scaling", rng, shape)
    if len(sizes) < 2:
        raise ValueError(
            f"variance_scaling: shape {sizes} has fewer than two axes, so there are no inputs and "
            f"outputs to count{at(calling_position())}\nUse normal or uniform for biases."
        )
    field = math.prod(sizes) / (sizes[in_axis] * sizes[out_axis]) if math.prod(sizes) else 1
    n = _MODES[mode](field * sizes[in_axis], field * sizes[out_axis])
    variance = scale / max(1.0, n)
    if distribution == "uniform":
        values = rng.uniform(-1, 1, sizes) * math.sqrt(3 * variance)
    elif distribution == "normal":
        values = rng.standard_normal(sizes) * math.sqrt(variance)
    else:
        values = _truncated(rng, sizes, -2.0, 2.0) * (math.sqrt(variance) / _TRUNCATED_STDDEV)
    return np.asarray(values).astype(default if dtype is None else dtype)


glorot_uniform = partial(variance_scaling, 1.0, "fan_avg", "uniform")
glorot_normal = partial(variance_scaling, 1.0, "fan_avg", "truncated_normal")
lecun_uniform = partial(variance_scaling, 1.0, "fan_in", "uniform")
lecun_normal = partial(variance_scaling, 1.0, "fan_in", "truncated_normal")
he_uniform = partial(variance_scaling, 2.0, "fan_in", "uniform")
he_normal = partial(variance_scaling, 2.0, "fan_in", "truncated_normal")


def orthogonal(scale: float = 1.0, column_axis: int = -1, dtype: Any = np.float64) -> Initializer:
    """An initializer of matrices with orthonormal rows or columns, times ``scale``.

    >>> import numpy as np, vjpkit as vk
    >>> w = vk.nn.initializers.orthogonal()(np.random.default_rng(0), (5, 3))
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """
    return partial(_orthogonal, scale=scale, column_axis=column_axis, default=dtype)


def _orthogonal(
    rng: Any,
    shape: Sequence[int],
    dtype: Any = None,
    *,
    scale: float,
    column_axis: int,
    default: Any,
) -> Array:
    sizes = _checked("orthogonal", rng, shape)
    if len(sizes) < 2:
        raise ValueError(
            f"orthogonal: shape {sizes} has fewer than two axes{at(calling_position())}"
        )
    columns = sizes[column_axis]
    rows = math.prod(sizes) // columns if columns else 0
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r))  # so that every rotation is equally likely (Mezzadri 2007)
    q = q if rows >= columns else q.T
    rest = [n for i, n in enumerate(sizes) if i != column_axis % len(sizes)]
    out: Array = scale * np.moveaxis(q.reshape(*rest, columns), -1, column_axis)
    return out.astype(default if dtype is None else dtype)
