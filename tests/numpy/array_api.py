"""The array API standard, 2024.12: its functions, and calls of each.

A call is a function of the namespace and of arrays, written as the standard spells it. Which dtypes
it takes is not said here: whatever NumPy does, with an error for some, is what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[..., Any]

DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32",
    "float64", "complex64", "complex128",
]  # fmt: skip

UNARY = [
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bitwise_invert", "ceil", "conj",
    "cos", "cosh", "exp", "expm1", "floor", "imag", "isfinite", "isinf", "isnan", "log", "log10",
    "log1p", "log2", "logical_not", "negative", "positive", "real", "reciprocal", "round", "sign",
    "signbit", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
]  # fmt: skip

BINARY = [
    "add", "atan2", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "copysign", "divide", "equal", "floor_divide", "greater", "greater_equal",
    "hypot", "less", "less_equal", "logaddexp", "logical_and", "logical_or", "logical_xor",
    "maximum", "minimum", "multiply", "nextafter", "not_equal", "pow", "remainder", "subtract",
]  # fmt: skip


def _named(name: str) -> Callable[[Any], Any]:
    """The function of a namespace; ``linalg.det`` is one of its submodule."""

    def find(xp: Any) -> Any:
        for part in name.split("."):
            xp = getattr(xp, part)
        return xp

    return find


def _unary(name: str) -> list[Call]:
    f = _named(name)
    return [lambda xp, x: f(xp)(x), lambda xp, x: f(xp)(x[0, 0])]


def _binary(name: str) -> list[Call]:
    f = _named(name)
    return [lambda xp, x, y: f(xp)(x, y), lambda xp, x: f(xp)(x, 2), lambda xp, x: f(xp)(2, x[1])]


def _reduction(name: str, *more: dict[str, Any]) -> list[Call]:
    f = _named(name)
    keywords: tuple[dict[str, Any], ...] = (
        {}, {"axis": 0}, {"axis": -1, "keepdims": True}, *more,
    )  # fmt: skip
    return [lambda xp, x, k=k: f(xp)(x, **k) for k in keywords]


def _spd(xp: Any, x: Any) -> Any:
    return x @ xp.matrix_transpose(xp.conj(x)) + 9 * xp.eye(x.shape[0], dtype=x.dtype)


def _transform(name: str, many: bool) -> list[Call]:
    f = _named(f"fft.{name}")
    keywords: tuple[dict[str, Any], ...] = ({}, {"norm": "ortho"})
    if many:
        keywords += ({"axes": (0,)}, {"s": (2, 3), "axes": (0, 1)})
    else:
        keywords += ({"axis": 0}, {"n": 5, "norm": "forward"})
    return [lambda xp, x, k=k: f(xp)(x, **k) for k in keywords]


_BOTH = {"axis": (0, 1)}

CALLS: dict[str, list[Call]] = {
    # creation, from arrays and next to them
    "arange": [
        lambda xp, x: x + xp.arange(3, dtype=x.dtype),
        lambda xp, x: x + xp.arange(1, 7, 2),
    ],
    "asarray": [
        lambda xp, x: xp.asarray(x),
        lambda xp, x: xp.asarray(x, dtype=xp.complex64, copy=True),
        lambda xp, x: xp.asarray([x[0, 0], x[1, 1]]),
        lambda xp, x: xp.asarray(x, device=x.device),
    ],
    "empty": [lambda xp, x: 0 * xp.empty((2, 3), dtype=xp.int8) + x],
    "empty_like": [lambda xp, x: xp.zeros_like(xp.empty_like(x, dtype=xp.float32)) + x],
    "eye": [
        lambda xp, x: x @ xp.eye(3, dtype=x.dtype),
        lambda xp, x: x @ xp.eye(3, 4, k=1),
    ],
    "from_dlpack": [lambda xp, x: x + xp.from_dlpack(np.ones(3))],
    "full": [
        lambda xp, x: xp.full((2, 3), x[0, 0]),
        lambda xp, x: x + xp.full(3, 2, dtype=xp.float32),
    ],
    "full_like": [
        lambda xp, x: xp.full_like(x, 2),
        lambda xp, x: xp.full_like(x, 2, dtype=xp.complex64),
    ],
    "linspace": [
        lambda xp, x: xp.linspace(x[0, 0], x[1, 1], 5),
        lambda xp, x: xp.linspace(x[0, 0], x[1, 1], 4, endpoint=False),
    ],
    "meshgrid": [
        lambda xp, x: xp.meshgrid(x[0], x[1]),
        lambda xp, x: xp.meshgrid(x[0], x[1], indexing="ij"),
    ],
    "ones": [lambda xp, x: x + xp.ones((2, 3), dtype=xp.int16)],
    "ones_like": [lambda xp, x: xp.ones_like(x), lambda xp, x: xp.ones_like(x, dtype=xp.int8)],
    "tril": [lambda xp, x: xp.tril(x), lambda xp, x: xp.tril(x, k=1)],
    "triu": [lambda xp, x: xp.triu(x), lambda xp, x: xp.triu(x, k=-1)],
    "zeros": [lambda xp, x: x + xp.zeros((1, 3), dtype=xp.uint8)],
    "zeros_like": [lambda xp, x: xp.zeros_like(x), lambda xp, x: xp.zeros_like(x, dtype=xp.int8)],
    # dtypes
    "astype": [
        lambda xp, x: xp.astype(x, xp.complex128),
        lambda xp, x: xp.astype(x, xp.float32, copy=False),
        lambda xp, x: xp.astype(x, xp.bool),
    ],
    "can_cast": [lambda xp, x: xp.can_cast(x.dtype, xp.float32)],
    "finfo": [lambda xp, x: xp.finfo(x.dtype).eps * x],
    "iinfo": [lambda xp, x: xp.iinfo(x.dtype).max - x],
    "isdtype": [
        lambda xp, x: xp.isdtype(x.dtype, "real floating"),
        lambda xp, x: xp.isdtype(x.dtype, ("integral", xp.complex64)),
    ],
    "result_type": [
        lambda xp, x: x * (xp.result_type(x, xp.float32) == xp.float32),
        lambda xp, x, y: xp.astype(x, xp.result_type(x, y, 1.0)),
    ],
    # shapes
    "broadcast_arrays": [lambda xp, x, y: xp.broadcast_arrays(x, y[0], x[:, :1])],
    "broadcast_shapes": [
        lambda xp, x: xp.broadcast_to(x[0], xp.broadcast_shapes(x.shape, (4, 1, 1)))
    ],
    "broadcast_to": [lambda xp, x: xp.broadcast_to(x, (4, 2, 3))],
    "concat": [
        lambda xp, x, y: xp.concat([x, y]),
        lambda xp, x, y: xp.concat((x, y), axis=1),
        lambda xp, x, y: xp.concat((x, y[0]), axis=None),
    ],
    "expand_dims": [lambda xp, x: xp.expand_dims(x, axis=1), lambda xp, x: xp.expand_dims(x, -1)],
    "flip": [lambda xp, x: xp.flip(x), lambda xp, x: xp.flip(x, axis=1)],
    "moveaxis": [
        lambda xp, x: xp.moveaxis(x, 0, 1),
        lambda xp, x: xp.moveaxis(x[None], (0, 1), (-1, 0)),
    ],
    "permute_dims": [
        lambda xp, x: xp.permute_dims(x, (1, 0)),
        lambda xp, x: xp.permute_dims(x[None], (2, 0, 1)),
    ],
    "repeat": [
        lambda xp, x: xp.repeat(x, 2),
        lambda xp, x: xp.repeat(x, xp.asarray([1, 2]), axis=0),
    ],
    "reshape": [
        lambda xp, x: xp.reshape(x, (3, 2)),
        lambda xp, x: xp.reshape(x, (-1,), copy=True),
    ],
    "roll": [
        lambda xp, x: xp.roll(x, 2),
        lambda xp, x: xp.roll(x, (1, -1), axis=(0, 1)),
    ],
    "squeeze": [lambda xp, x: xp.squeeze(x[None], axis=0)],
    "stack": [lambda xp, x, y: xp.stack([x, y]), lambda xp, x, y: xp.stack((x, y), axis=-1)],
    "tile": [lambda xp, x: xp.tile(x, (2, 1))],
    "unstack": [lambda xp, x: xp.unstack(x), lambda xp, x: xp.unstack(x, axis=1)],
    # selection
    "clip": [
        lambda xp, x: xp.clip(x, 1, 3),
        lambda xp, x: xp.clip(x, min=2),
        lambda xp, x, y: xp.clip(x, max=y),
    ],
    "nonzero": [lambda xp, x: xp.nonzero(x)],
    "searchsorted": [
        lambda xp, x: xp.searchsorted(xp.sort(x[0]), x[1]),
        lambda xp, x: xp.searchsorted(x[0], x[1], side="right", sorter=xp.argsort(x[0])),
    ],
    "take": [
        lambda xp, x: xp.take(x, xp.asarray([2, 0]), axis=1),
        lambda xp, x: xp.take(x[0], xp.asarray([1, 1])),
    ],
    "take_along_axis": [
        lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1),
        lambda xp, x: xp.take_along_axis(x, xp.asarray([[2], [0]])),
    ],
    "where": [
        lambda xp, x, y: xp.where(x > y, x, y),
        lambda xp, x: xp.where(x != 0, x, 1),
    ],
    # sets, which are whole numbers and what belongs to them
    "isin": [
        lambda xp, x, y: xp.isin(x, y),
        lambda xp, x: xp.isin(x, x[0], invert=True),
    ],
    **{
        name: [lambda xp, x, name=name: getattr(xp, name)(x)]
        for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values")
    },
    # order
    "argsort": [lambda xp, x: xp.argsort(x), lambda xp, x: xp.argsort(x, axis=0, stable=True)],
    "sort": [lambda xp, x: xp.sort(x), lambda xp, x: xp.sort(x, axis=0, stable=False)],
    "argmax": _reduction("argmax"),
    "argmin": _reduction("argmin"),
    # statistics
    "all": _reduction("all", _BOTH),
    "any": _reduction("any", _BOTH),
    "count_nonzero": _reduction("count_nonzero", _BOTH),
    "cumulative_prod": [
        lambda xp, x: xp.cumulative_prod(x, axis=1),
        lambda xp, x: xp.cumulative_prod(x[0], include_initial=True, dtype=xp.float64),
    ],
    "cumulative_sum": [
        lambda xp, x: xp.cumulative_sum(x, axis=1),
        lambda xp, x: xp.cumulative_sum(x[0], include_initial=True, dtype=xp.complex64),
    ],
    "diff": [
        lambda xp, x: xp.diff(x),
        lambda xp, x: xp.diff(x, axis=0, n=1, prepend=x, append=x[:1]),
    ],
    "max": _reduction("max", _BOTH),
    "mean": _reduction("mean", _BOTH),
    "min": _reduction("min", _BOTH),
    "prod": _reduction("prod", _BOTH, {"dtype": "complex64"}),
    "std": _reduction("std", _BOTH, {"correction": 1.0}),
    "sum": _reduction("sum", _BOTH, {"dtype": "float32"}),
    "var": _reduction("var", _BOTH, {"axis": 1, "correction": 0.5}),
    # products
    "matmul": [lambda xp, x, y: xp.matmul(x, y.T), lambda xp, x: xp.matmul(x, x[0])],
    "matrix_transpose": [lambda xp, x: xp.matrix_transpose(x)],
    "tensordot": [
        lambda xp, x, y: xp.tensordot(x, y),
        lambda xp, x, y: xp.tensordot(x, y, axes=((0,), (0,))),
    ],
    "vecdot": [lambda xp, x, y: xp.vecdot(x, y), lambda xp, x, y: xp.vecdot(x, y[0], axis=-1)],
    **{name: _unary(name) for name in UNARY},
    **{name: _binary(name) for name in BINARY},
    "linalg.cholesky": [
        lambda xp, x: xp.linalg.cholesky(_spd(xp, x)),
        lambda xp, x: xp.linalg.cholesky(_spd(xp, x), upper=True),
    ],
    "linalg.cross": [
        lambda xp, x, y: xp.linalg.cross(x, y),
        lambda xp, x, y: xp.linalg.cross(x.T, y.T, axis=0),
    ],
    "linalg.det": [lambda xp, x: xp.linalg.det(_spd(xp, x))],
    "linalg.diagonal": [
        lambda xp, x: xp.linalg.diagonal(x),
        lambda xp, x: xp.linalg.diagonal(x, offset=1),
    ],
    "linalg.eigh": [lambda xp, x: xp.linalg.eigh(_spd(xp, x)).eigenvalues],
    "linalg.eigvalsh": [lambda xp, x: xp.linalg.eigvalsh(_spd(xp, x))],
    "linalg.inv": [lambda xp, x: xp.linalg.inv(_spd(xp, x))],
    "linalg.matmul": [lambda xp, x, y: xp.linalg.matmul(x, y.T)],
    "linalg.matrix_norm": [
        lambda xp, x: xp.linalg.matrix_norm(x),
        lambda xp, x: xp.linalg.matrix_norm(x, ord="nuc", keepdims=True),
        lambda xp, x: xp.linalg.matrix_norm(x, ord=-1),
    ],
    "linalg.matrix_power": [
        lambda xp, x: xp.linalg.matrix_power(_spd(xp, x), 3),
        lambda xp, x: xp.linalg.matrix_power(_spd(xp, x), -1),
    ],
    "linalg.matrix_rank": [
        lambda xp, x: xp.linalg.matrix_rank(x),
        lambda xp, x: xp.linalg.matrix_rank(x, rtol=1e-3),
    ],
    "linalg.matrix_transpose": [lambda xp, x: xp.linalg.matrix_transpose(x)],
    "linalg.outer": [lambda xp, x, y: xp.linalg.outer(x[0], y[1])],
    "linalg.pinv": [lambda xp, x: xp.linalg.pinv(x), lambda xp, x: xp.linalg.pinv(x, rtol=1e-5)],
    "linalg.qr": [lambda xp, x: xp.linalg.qr(x), lambda xp, x: xp.linalg.qr(x.T).R],
    "linalg.slogdet": [lambda xp, x: xp.linalg.slogdet(_spd(xp, x))],
    "linalg.solve": [
        lambda xp, x, y: xp.linalg.solve(_spd(xp, x), y),
        lambda xp, x, y: xp.linalg.solve(_spd(xp, x), y[:, 0]),
    ],
    "linalg.svd": [lambda xp, x: xp.linalg.svd(x, full_matrices=False).S],
    "linalg.svdvals": [lambda xp, x: xp.linalg.svdvals(x)],
    "linalg.tensordot": [lambda xp, x, y: xp.linalg.tensordot(x, y, axes=2)],
    "linalg.trace": [
        lambda xp, x: xp.linalg.trace(x),
        lambda xp, x: xp.linalg.trace(x, offset=1, dtype=xp.complex128),
    ],
    "linalg.vecdot": [lambda xp, x, y: xp.linalg.vecdot(x, y, axis=-1)],
    "linalg.vector_norm": [
        lambda xp, x: xp.linalg.vector_norm(x),
        lambda xp, x: xp.linalg.vector_norm(x, axis=0, ord=3, keepdims=True),
        lambda xp, x: xp.linalg.vector_norm(x, axis=(0, 1), ord=1),
    ],
    **{
        f"fft.{name}": _transform(name, name.endswith("n"))
        for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fftn", "ifftn", "rfftn",
                     "irfftn")
    },
    "fft.fftfreq": [lambda xp, x: x * xp.fft.fftfreq(3, d=0.5)],
    "fft.rfftfreq": [lambda xp, x: x * xp.fft.rfftfreq(5)],
    "fft.fftshift": [
        lambda xp, x: xp.fft.fftshift(x),
        lambda xp, x: xp.fft.fftshift(x, axes=1),
    ],
    "fft.ifftshift": [
        lambda xp, x: xp.fft.ifftshift(x),
        lambda xp, x: xp.fft.ifftshift(x, axes=(0,)),
    ],
}  # fmt: skip
"""Every function of the standard, its extensions included."""

SHAPED_BY_DATA = {"nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values"}
"""The standard's functions whose shapes the values decide; they need values."""

NAMED_OTHERWISE = {
    "argsort": {"descending"}, "sort": {"descending"}, "fft.fftfreq": {"dtype"},
    "fft.rfftfreq": {"dtype"},
}  # fmt: skip
"""Keywords of the standard that NumPy's own namespace does not have."""

OPERATORS: dict[str, Call] = {
    **{
        f"__{name}__": lambda xp, x, name=f"__{name}__": getattr(x, name)()
        for name in ("abs", "invert", "neg", "pos")
    },
    **{
        f"__{prefix}{name}__": lambda xp, x, y, name=f"__{prefix}{name}__": getattr(x, name)(y)
        for name in ("add", "and", "floordiv", "lshift", "mod", "mul", "or", "pow", "rshift", "sub",
                     "truediv", "xor")
        for prefix in ("", "r")
    },
    **{
        name: lambda xp, x, y, name=name: getattr(x, name)(y)
        for name in ("__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__")
    },
    "__matmul__": lambda xp, x, y: x @ y.T,
    "__rmatmul__": lambda xp, x, y: x.__rmatmul__(y.T),
    "__getitem__": lambda xp, x: (x[0], x[..., 1], x[None, 1:, ::-1], x[xp.asarray([1, 0]), 0]),
    "T": lambda xp, x: x.T,
    "mT": lambda xp, x: x.mT,
    "to_device": lambda xp, x: x.to_device(x.device),
    "astype": lambda xp, x: x.astype(xp.float32),
}  # fmt: skip
"""What arrays do, as a call of the method."""
