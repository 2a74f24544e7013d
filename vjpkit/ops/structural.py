"""Shape, dtype and layout: linear primitives that move elements without computing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Linear, LinearMany, Primitive, Sample, primitive, reduced_shape
from vjpkit.core.rows import cast, roles, unbroadcast

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])


@primitive
class reshape(Linear):
    """``x`` in another shape, C order (``shape`` is complete: no -1)."""

    impl = staticmethod(np.reshape)

    def transpose(self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any) -> Value:
        return reshape(ct, shape=shape)

    def abstract(self, *avals: Aval, shape: Shape, **params: Any) -> Aval:
        return Aval(shape, avals[0].dtype)

    def samples(self) -> Iterable[Sample]:
        return (
            Sample(_M, shape=(3, 2)),
            Sample(np.float64(2.0), shape=(1, 1)),
            Sample(_M[:0], shape=(3, 0)),
        )


@primitive
class transpose(Linear):
    """``x`` with its axes permuted."""

    impl = staticmethod(lambda x, axes: x.transpose(axes))

    def transpose(self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any) -> Value:
        return transpose(ct, axes=inverse(params["axes"]))

    def abstract(self, *avals: Aval, axes: tuple[int, ...], **params: Any) -> Aval:
        return Aval(tuple(avals[0].shape[i] for i in axes), avals[0].dtype)

    def samples(self) -> Iterable[Sample]:
        return Sample(_M, axes=(1, 0)), Sample(_M.reshape(1, 3, 2), axes=(2, 0, 1))


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


@primitive
class broadcast_to(Linear):
    """``x`` repeated along new axes and axes of length 1."""

    impl = staticmethod(np.broadcast_to)

    def transpose(self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any) -> Value:
        return unbroadcast(ct, shape, dtype)

    def abstract(self, *avals: Aval, shape: Shape, **params: Any) -> Aval:
        return Aval(shape, avals[0].dtype)

    def samples(self) -> Iterable[Sample]:
        return (
            Sample(_M, shape=(2, 2, 3)),
            Sample(_M[:, :1], shape=(2, 4)),
            Sample(_M[0, 0], shape=(0, 2)),
        )


@primitive
class convert(Linear):
    """``x`` in another floating or complex dtype; complex to real takes the real part."""

    @staticmethod
    def impl(x: Value, dtype: Any) -> Value:
        if isinstance(x, int | float | complex) and not isinstance(x, np.generic):
            x = np.asarray(x)[()]
        return (x.real if x.dtype.kind == "c" and dtype.kind != "c" else x).astype(dtype)

    def transpose(self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any) -> Value:
        return cast(ct, dtype)

    def abstract(self, *avals: Aval, dtype: Any, **params: Any) -> Aval:
        return Aval(avals[0].shape, dtype)

    def samples(self) -> Iterable[Sample]:
        return Sample(_M, dtype=np.dtype("complex128")), Sample(
            _M * (1 + 2j), dtype=np.dtype("float64")
        )


@primitive
class sum_(Linear):
    """Sum over ``axes`` (None for all)."""

    impl = staticmethod(lambda x, axes, keepdims: np.add.reduce(x, axes, None, None, keepdims))

    def transpose(self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any) -> Value:
        if type(ct) is np.ndarray or isinstance(ct, np.generic):
            full = np.empty(shape, dtype)
            full[...] = np.reshape(ct, reduced_shape(shape, params["axes"], keepdims=True))
            return full
        return broadcast_to(
            reshape(ct, shape=reduced_shape(shape, params["axes"], True)), shape=shape
        )

    def abstract(self, *avals: Aval, axes: Any, keepdims: bool, **params: Any) -> Aval:
        (x,) = avals
        return Aval(
            reduced_shape(x.shape, axes, keepdims), np.add.reduce(np.zeros(1, x.dtype)).dtype
        )

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axes=None, keepdims=False)
        yield Sample(_M, axes=(1,), keepdims=True)
        yield Sample(_M[:, :0], axes=(0,), keepdims=False)


@primitive
class fill(Primitive):
    """A constant array, made where it is staged so that nothing of its size is captured."""

    impl = staticmethod(lambda shape, value, dtype: np.full(shape, value, dtype)[()])

    def abstract(self, *avals: Aval, shape: Shape, value: float, dtype: Any) -> Aval:
        return Aval(shape, dtype)


def _fill(trace: Any, shape: Shape, value: float, dtype: Any) -> Value:
    return trace.process(fill, (), {"shape": shape, "value": value, "dtype": dtype})


roles["fill"] = _fill


@primitive
class concatenate(LinearMany):
    """Arrays of one dtype, joined along ``axis``."""

    impl = staticmethod(lambda *xs, axis: np.concatenate(xs, axis))

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        axis = params["axis"]
        start, parts = 0, []
        for aval, wanted in zip(avals, live, strict=True):
            stop = start + aval.shape[axis]
            parts.append(ct[(slice(None),) * axis + (slice(start, stop),)] if wanted else None)
            start = stop
        return parts

    def abstract(self, *avals: Aval, axis: int, **params: Any) -> Aval:
        shape = list(avals[0].shape)
        shape[axis] = sum(a.shape[axis] for a in avals)
        return Aval(tuple(shape), avals[0].dtype)

    def samples(self) -> Iterable[Sample]:
        return Sample(_M, _M[:1], axis=0), Sample(_M, _M[:, :0], axis=1)
