"""Shape, dtype and layout: linear primitives that move elements without computing.

Where NumPy gives a view, so does ``impl``: the value that a tracer holds has NumPy's strides.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of, dtype_named
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.primitive import Primitive, Sample, primitive
from vjpkit.core.rows import (
    Cotangents,
    Eager,
    Parts,
    Product,
    Row,
    Rows,
    add_product,
    cast,
    eager,
    roles,
    settled,
    unbroadcast,
)
from vjpkit.core.text import register_param
from vjpkit.core.tracer import Tracer, bind
from vjpkit.kinds import Linear, LinearMany, PiecewiseConstant, reduced_shape, rule

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
_REVERSED = np.array([[0.3, -1.2, 2.5, 0.8], [1.7, 0.4, -0.6, -0.1]])[::-1, ::-2]
_COMPLEX = _M * (1 + 2j)
_NONE = np.zeros((2, 0))
_SCALAR = np.float64(0.7)


def along_front(x: Value, batched: bool, n: int) -> Value:
    """``x`` with a leading axis of length n, repeated if it is not batched."""
    return x if batched else broadcast_to(x, shape=(n, *aval_of(x).shape))


def all_along_front(values: Sequence[Value], batched: Sequence[bool], n: int) -> list[Value]:
    """Operands that all have a leading axis of length n."""
    return [along_front(x, b, n) for x, b in zip(values, batched, strict=True)]


# ---- shape -------------------------------------------------------------------------------------


def _reshape(x: Value, shape: Shape) -> Value:
    if type(x) is np.ndarray:
        return x.reshape(shape)
    return np.reshape(np.asarray(x) if np.isscalar(x) else x, shape)


class Reshape(Linear):
    """``x`` in another shape, C order (``shape`` is complete: no -1)."""

    impl = staticmethod(_reshape)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return reshape(ct, shape=shape)

    def abstract(self, *avals: Aval, shape: Shape, **params: Any) -> Aval:
        size = Aval(shape, bool).size
        if size != avals[0].size:
            raise ValueError(f"cannot reshape array of size {avals[0].size} into shape {shape}")
        return Aval(shape, avals[0].dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, shape: Shape
    ) -> Value:
        return reshape(values[0], shape=(n, *shape))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, shape=(3, 2))
        yield Sample(_REVERSED, shape=(4, 1))
        yield Sample(_SCALAR, shape=(1, 1))
        yield Sample(_NONE, shape=(0, 3))


reshape = primitive(Reshape)


class Transpose(Linear):
    """``x`` with its axes permuted."""

    impl = staticmethod(lambda x, axes: x.transpose(axes))

    def __init__(self) -> None:
        super().__init__()
        dense = self.pull

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            """A product, mirrored, stays one that nobody has multiplied out."""
            _, _, _, _, i, shape, dtype, _, params = row
            products = [part[1] for part in ct[1:]] if type(ct) is Parts else []
            mirrored = params["axes"] == (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
            if mirrored and products and all(type(p) is Product for p in products):
                for product in products:
                    add_product(cts, i, product.mirrored(), Aval(shape, dtype))
            else:
                dense(row, settled(ct), cts)

        pull.takes_parts = True  # type: ignore[attr-defined]  # read by the walks
        self.pull = rule(self, pull, dense.push)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return transpose(ct, axes=inverse(params["axes"]))

    def abstract(self, *avals: Aval, axes: tuple[int, ...], **params: Any) -> Aval:
        return Aval(tuple([avals[0].shape[i] for i in axes]), avals[0].dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axes: tuple[int, ...]
    ) -> Value:
        return transpose(values[0], axes=(0, *[a + 1 for a in axes]))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axes=(1, 0))
        yield Sample(_M.reshape(1, 3, 2), axes=(2, 0, 1))
        yield Sample(_REVERSED, axes=(1, 0))
        yield Sample(_SCALAR, axes=())
        yield Sample(_NONE, axes=(1, 0))


transpose = primitive(Transpose)


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes this one.

    >>> inverse((2, 0, 1))
    (1, 2, 0)
    """
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def move_axis(x: Value, source: int, destination: int) -> Value:
    """``x`` with one axis elsewhere, the others in their order (both numbers non-negative)."""
    if source == destination:
        return x
    order = list(range(aval_of(x).ndim))
    order.insert(destination, order.pop(source))
    return transpose(x, axes=tuple(order))


class BroadcastTo(Linear):
    """``x`` repeated along new axes and axes of length 1."""

    impl = staticmethod(np.broadcast_to)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return unbroadcast(ct, shape, dtype)

    def abstract(self, *avals: Aval, shape: Shape, **params: Any) -> Aval:
        given = avals[0].shape
        lead = len(shape) - len(given)
        if lead < 0 or any(n not in (1, m) for n, m in zip(given, shape[lead:], strict=True)):
            raise ValueError(f"cannot broadcast an array of shape {given} to shape {shape}")
        return Aval(shape, avals[0].dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, shape: Shape
    ) -> Value:
        (x,) = values
        ones = (1,) * (len(shape) + 1 - aval_of(x).ndim)
        if ones:
            x = reshape(x, shape=(n, *ones, *aval_of(x).shape[1:]))
        return broadcast_to(x, shape=(n, *shape))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, shape=(2, 2, 3))
        yield Sample(_M[:, :1], shape=(2, 4))
        yield Sample(_REVERSED, shape=(1, 2, 2))
        yield Sample(_SCALAR, shape=(0, 2))
        yield Sample(_SCALAR, shape=())


broadcast_to = primitive(BroadcastTo)


class Roll(Linear):
    """``x`` shifted cyclically: by ``shifts[i]`` along ``axes[i]``, one after another."""

    impl = staticmethod(lambda x, shifts, axes: np.roll(x, shifts, axes))

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return roll(ct, shifts=tuple([-s for s in params["shifts"]]), axes=params["axes"])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        shifts: tuple[int, ...],
        axes: tuple[int, ...],
    ) -> Value:
        return roll(values[0], shifts=shifts, axes=tuple([a + 1 for a in axes]))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, shifts=(1,), axes=(1,))
        yield Sample(_M, shifts=(-2, 3, 1), axes=(1, 0, 1))
        yield Sample(_REVERSED, shifts=(1,), axes=(0,))
        yield Sample(_NONE, shifts=(1,), axes=(0,))


roll = primitive(Roll)


class Triangle(Linear):
    """One triangle of each matrix (of the last two axes), zeros elsewhere: its own transpose."""

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return self(ct, **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool], *, k: int) -> Value:
        return self(values[0], k=k)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, k=0)
        yield Sample(_M, k=-1)
        yield Sample(np.stack([_REVERSED, 2 * _REVERSED]), k=1)
        yield Sample(_NONE, k=0)


class Tril(Triangle):
    """The elements on and below the ``k``-th diagonal, zeros above."""

    impl = staticmethod(np.tril)


tril = primitive(Tril)


class Triu(Triangle):
    """The elements on and above the ``k``-th diagonal, zeros below."""

    impl = staticmethod(np.triu)


triu = primitive(Triu)


# ---- dtype -------------------------------------------------------------------------------------


def _astype(x: Value, dtype: Any) -> Value:
    if isinstance(x, bool | int | float | complex) and not isinstance(x, np.generic):
        x = np.asarray(x)[()]
    return (x.real if x.dtype.kind == "c" and dtype.kind not in "cb" else x).astype(dtype)


class Convert(Linear):
    """``x`` in a floating or complex dtype; complex to real takes the real part."""

    impl = staticmethod(_astype)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return convert(ct, dtype=dtype)

    def abstract(self, *avals: Aval, dtype: Any, **params: Any) -> Aval:
        return Aval(avals[0].shape, dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, dtype: Any
    ) -> Value:
        return convert(values[0], dtype=dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, dtype=np.dtype("complex128"))
        yield Sample(_COMPLEX, dtype=np.dtype("float64"))
        yield Sample(_REVERSED, dtype=np.dtype("float64"))
        yield Sample(_SCALAR, dtype=np.dtype("complex128"))
        yield Sample(0.25, dtype=np.dtype("float32"))
        yield Sample(_NONE, dtype=np.dtype("complex128"))


convert = primitive(Convert)


class Discretize(PiecewiseConstant):
    """``x`` in an integer or boolean dtype, as NumPy casts (towards zero)."""

    impl = staticmethod(_astype)

    def abstract(self, *avals: Aval, dtype: Any, **params: Any) -> Aval:
        return Aval(avals[0].shape, dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, dtype: Any
    ) -> Value:
        return discretize(values[0], dtype=dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, dtype=np.dtype("int64"))
        yield Sample(_REVERSED, dtype=np.dtype("bool"))
        yield Sample(np.array([1j, 0, 2 - 1j]), dtype=np.dtype("bool"))
        yield Sample(np.float64(-2.7), dtype=np.dtype("int32"))


discretize = primitive(Discretize)


class Stop(PiecewiseConstant):
    """``x`` without its derivative: the identity, whose derivative is declared to be zero.

    An equation where ``x`` is staged or batched, so that a derivative taken outside stops too.
    """

    impl = staticmethod(lambda x: x.copy() if isinstance(x, np.ndarray) else x)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0]

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return stop(values[0])

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, wrt=())
        yield Sample(np.float64(-2.7), wrt=())


stop = primitive(Stop)


def to_dtype(x: Value, dtype: Any) -> Value:
    """``x`` in another dtype, with a derivative where the dtype has one; ``x`` itself if it has it.

    A Python number becomes strong. A traced value cannot become an object, text or a date.
    """
    aval = aval_of(x)
    if aval.dtype == dtype and not aval.weak:
        return x
    if dtype.kind not in "biufc" and isinstance(x, Tracer):
        raise UnsupportedError(
            f"arrays of dtype {dtype} do not hold traced values, such as one of {aval}"
            f"{at(calling_position())}\nAsk for a dtype of numbers."
        )
    return convert(x, dtype=dtype) if dtype.kind in "fc" else discretize(x, dtype=dtype)


class Renamed(Linear):
    """``x`` as a result: what arrives for it is added up before it is added to that of ``x``."""

    impl = staticmethod(lambda x: x)

    def __call__(self, x: Value, *fixed: Value, **params: Any) -> Value:
        trace = x.owner if type(x) is Eager else None
        if trace is None or trace.dirty or not trace.rows:
            return bind(self, (x,), {})
        k, value = trace.new(), x.value
        line = trace.rows[-1][2:4]  # of what was computed last, which is near enough
        trace.append((self.pull, k, *line, x.slot, value.shape, value.dtype, (), {}))
        return Eager(value, trace, k)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return ct

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return renamed(values[0])

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M)
        yield Sample(_SCALAR)


_renamed = primitive(Renamed)


def renamed(x: Value) -> Value:
    """A traced value with a slot of its own; any other as it is."""
    return _renamed(x) if isinstance(x, Tracer) and aval_of(x).inexact else x


class Copy(Linear):
    """``x`` in memory of its own, laid out in ``order``."""

    impl = staticmethod(lambda x, order: np.array(x, order=order))

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return ct

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, order: str
    ) -> Value:
        return copy(values[0], order=order)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, order="K")
        yield Sample(_REVERSED, order="F")
        yield Sample(_SCALAR, order="C")
        yield Sample(_NONE, order="A")


copy = primitive(Copy)


class Item(Linear):
    """The one element of ``x`` as a Python number, which does not decide promotion."""

    impl = staticmethod(lambda x: x if type(x) in (float, complex) else x.item())

    def __call__(self, x: Value, *fixed: Value, **params: Any) -> Value:
        return bind(self, (x,), params)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        out = super().record(trace, values, slots, params)
        return eager(out.value, trace, out.slot)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return reshape(convert(ct, dtype=dtype), shape=shape)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (x,) = avals
        if x.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        if x.dtype in (np.longdouble, np.clongdouble):
            return Aval((), x.dtype)  # Python has no such numbers
        python = {"b": bool, "i": np.int64, "u": np.int64, "f": np.float64, "c": np.complex128}
        return Aval((), python[x.dtype.kind], weak=True)

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        """A batch of Python numbers is an array of the dtype that Python's numbers have."""
        (x,) = values
        dtype = self.abstract(Aval((), aval_of(x).dtype)).dtype
        return convert(reshape(x, shape=(n,)), dtype=dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.array([[0.7]]))
        yield Sample(_SCALAR)
        yield Sample(np.float32(0.25))
        yield Sample(np.array([3], np.int32))


item = primitive(Item)


# ---- reduction ---------------------------------------------------------------------------------


_add_reduce: Any = np.add.reduce


def _summed(x: Value, axes: tuple[int, ...] | None, keepdims: bool) -> Value:
    """NumPy's sum, to the bit; of many rows of few numbers by columns, ten times as fast."""
    if type(x) is not np.ndarray or x.ndim < 2 or axes != (x.ndim - 1,):
        return _add_reduce(x, axes, None, None, keepdims)
    few, near = 1 < x.shape[-1] < _PAIRWISE, x.strides[-1] == x.itemsize
    if not (few and near and x.size > _MANY and x.dtype.char in "fd"):
        return _add_reduce(x, axes, None, None, keepdims)
    total = x[..., 0] + x[..., 1]
    for i in range(2, x.shape[-1]):
        total += x[..., i]
    total += 0.0  # where NumPy begins: its sum of negative zeros is a positive one
    return total[..., None] if keepdims else total


_PAIRWISE = 8
"""So many numbers NumPy adds pairwise, fewer from left to right."""
_MANY = 256


class Sum(Linear):
    """Sum over ``axes`` (None for all)."""

    impl = staticmethod(_summed)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        if type(ct) is np.ndarray or isinstance(ct, np.generic):
            if math.prod(shape) > 8192:  # repeated without memory; a product makes it dense
                if not ct.shape:
                    out = np.ndarray(shape, ct.dtype, ct, strides=(0,) * len(shape))
                    out.flags.writeable = False
                    return out
                kept = ct.reshape(reduced_shape(shape, params["axes"], keepdims=True))
                return np.broadcast_to(kept, shape)
            full = np.empty(shape, dtype)
            if ct.shape:
                full[...] = ct.reshape(reduced_shape(shape, params["axes"], keepdims=True))
            else:
                full.fill(ct)
            return full
        return broadcast_to(
            reshape(ct, shape=reduced_shape(shape, params["axes"], True)), shape=shape
        )

    def abstract(self, *avals: Aval, axes: Any, keepdims: bool, **params: Any) -> Aval:
        (x,) = avals
        return Aval(
            reduced_shape(x.shape, axes, keepdims), np.add.reduce(np.zeros(1, x.dtype)).dtype
        )

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        axes: tuple[int, ...] | None,
        keepdims: bool,
    ) -> Value:
        (x,) = values
        inner = range(aval_of(x).ndim - 1) if axes is None else axes
        return sum_(x, axes=tuple([a + 1 for a in inner]), keepdims=keepdims)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axes=None, keepdims=False)
        yield Sample(_M, axes=(1,), keepdims=True)
        yield Sample(_M, axes=(1,), keepdims=False)
        yield Sample(np.linspace(0.5, 1.5, 8400).reshape(2, 4200), axes=(1,), keepdims=False)
        yield Sample(_REVERSED, axes=(0,), keepdims=False)
        yield Sample(_M[:, :0], axes=(0,), keepdims=False)
        yield Sample(_SCALAR, axes=(), keepdims=False)


sum_ = primitive(Sum)


# ---- constant ----------------------------------------------------------------------------------


class Fill(Primitive):
    """A constant array, made where it is staged so that nothing of its size is captured."""

    impl = staticmethod(lambda shape, value, dtype: np.full(shape, value, dtype)[()])

    def abstract(self, *avals: Aval, shape: Shape, value: float, dtype: Any) -> Aval:
        return Aval(shape, dtype)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return bool(params["value"] == 0)

    def samples(self) -> Iterable[Sample]:
        yield Sample(shape=(2, 3), value=0.5, dtype=np.dtype("float64"))
        yield Sample(shape=(), value=0, dtype=np.dtype("float32"))
        yield Sample(shape=(0, 2), value=1, dtype=np.dtype("complex128"))


fill = primitive(Fill)


class Eye(Primitive):
    """Ones on the k-th diagonal of a matrix of zeros: the basis vectors of a space, or a part."""

    impl = staticmethod(lambda shape, k, dtype: np.eye(shape[0], shape[1], k, dtype))

    def abstract(self, *avals: Aval, shape: Shape, k: int, dtype: Any) -> Aval:
        return Aval(shape, dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(shape=(3, 3), k=0, dtype=np.dtype("float64"))
        yield Sample(shape=(2, 3), k=1, dtype=np.dtype("float32"))
        yield Sample(shape=(2, 0), k=-1, dtype=np.dtype("complex128"))


eye = primitive(Eye)


class Array:
    """An array as a parameter: compared by its bytes, written in base64.

    >>> Array(np.arange(2.0))
    array:f64[2]:AAAAAAAAAAAAAAAAAADwPw==
    """

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray[Any, Any]) -> None:
        self.value = np.array(value)
        self.value.flags.writeable = False

    def _key(self) -> tuple[Aval, bytes]:
        return Aval(self.value.shape, self.value.dtype), self.value.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        aval, data = self._key()
        return f"array:{aval}:{base64.b64encode(data).decode()}"

    @classmethod
    def parse(cls, text: str) -> Array:
        """The inverse of ``repr``."""
        _, aval, data = text.split(":")
        name, shape = aval[:-1].split("[")
        sizes = [int(n) for n in shape.split(",") if n]
        flat = np.frombuffer(base64.b64decode(data), dtype_named(name))
        return cls(flat.reshape(sizes))


register_param(Array, r"array:[\w<>|]+\[[\d,]*\]:[A-Za-z0-9+/]*=*", Array.parse)


class Constant(Primitive):
    """An array that a program brings along, as small as the tables that rules need."""

    impl = staticmethod(lambda value: value.value)

    def abstract(self, *avals: Aval, value: Array) -> Aval:
        return Aval(value.value.shape, value.value.dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(value=Array(np.array([[0.5, -1.0, 2.0]])))
        yield Sample(value=Array(np.array([3, 1], "int32")))


constant = primitive(Constant)


def _fill(trace: Any, shape: Shape, value: float, dtype: Any) -> Value:
    return trace.process(fill, (), {"shape": shape, "value": value, "dtype": dtype})


roles["fill"] = _fill


# ---- joining -----------------------------------------------------------------------------------


def joined_dtype(avals: Sequence[Aval]) -> np.dtype[Any]:
    """The dtype of arrays side by side; Python numbers among them count as arrays."""
    return np.result_type(*[a.dtype for a in avals])


class Concatenate(LinearMany):
    """Arrays joined along ``axis``."""

    impl = staticmethod(lambda *xs, axis: np.concatenate(xs, axis))

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        lead = (slice(None),) * params["axis"]
        start = 0
        parts: list[Value | None] = []
        for aval, wanted in zip(avals, live, strict=True):
            stop = start + aval.shape[params["axis"]]
            parts.append(cast(ct[(*lead, slice(start, stop))], aval.dtype) if wanted else None)
            start = stop
        return parts

    def abstract(self, *avals: Aval, axis: int, **params: Any) -> Aval:
        first = avals[0].shape
        for a in avals:
            if a.shape[:axis] + a.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                raise ValueError(
                    f"all the input array dimensions except for the concatenation axis {axis} must "
                    f"match exactly, but the shapes are {', '.join(str(a.shape) for a in avals)}"
                )
        length = sum([a.shape[axis] for a in avals])
        return Aval((*first[:axis], length, *first[axis + 1 :]), joined_dtype(avals))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axis: int
    ) -> Value:
        return concatenate(*all_along_front(values, batched, n), axis=axis + 1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, _M[:1], axis=0)
        yield Sample(_M, _M[:, :0], axis=1)
        yield Sample(_REVERSED, _M, _REVERSED, axis=1)
        yield Sample(_M, axis=0)


concatenate = primitive(Concatenate)


class Stack(LinearMany):
    """Arrays of one shape, side by side along a new ``axis``."""

    impl = staticmethod(lambda *xs, axis: np.stack(xs, axis))

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        lead = (slice(None),) * params["axis"]
        return [
            cast(ct[(*lead, i)], aval.dtype) if wanted else None
            for i, (aval, wanted) in enumerate(zip(avals, live, strict=True))
        ]

    def abstract(self, *avals: Aval, axis: int, **params: Any) -> Aval:
        shape = avals[0].shape
        if any(a.shape != shape for a in avals):
            raise ValueError("all input arrays must have the same shape")
        return Aval((*shape[:axis], len(avals), *shape[axis:]), joined_dtype(avals))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axis: int
    ) -> Value:
        return stack(*all_along_front(values, batched, n), axis=axis + 1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, _REVERSED[:, :1] + _M, axis=0)
        yield Sample(_M, 2 * _M, axis=2)
        yield Sample(_SCALAR, np.array(0.1), 0.5, axis=0)
        yield Sample(_NONE, _NONE, axis=1)


stack = primitive(Stack)
