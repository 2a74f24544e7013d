"""`vectorize` and the concatenating indexers, which NumPy does not dispatch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.numpy._arguments import known
from vjpkit.numpy._creation import array, asarray, has_traced, promoting
from vjpkit.numpy._joining import as_values
from vjpkit.ops.complex_numbers import of_parts

__all__ = ["asarray_chkfinite", "c_", "r_", "vectorize"]


class vectorize(np.vectorize):
    """`numpy.vectorize`, of functions that take or return traced values too.

    >>> import numpy as np, vjpkit as vk
    >>> relu = vk.numpy.vectorize(lambda x: x if x > 0 else 0.0 * x)
    >>> vk.grad(lambda x: np.sum(relu(x)))(np.array([-1.0, 2.0]))
    array([0., 1.])
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Value:
        pyfunc: Any = self.pyfunc
        if pyfunc is np._NoValue or not has_traced([*args, *kwargs.values()]):
            return super().__call__(*args, **kwargs)
        keys = [k for k in (*range(len(args)), *kwargs) if k not in self.excluded]
        given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        ranks = core_ranks(self.signature, len(keys))
        mapped = [as_values(given[k]) for k in keys]
        if any(a.ndim < n for a, n in zip(mapped, ranks, strict=True)):
            raise ValueError("an argument does not have enough dimensions for all core dimensions")
        loops = [a.shape[: a.ndim - n] for a, n in zip(mapped, ranks, strict=True)]
        shape = np.broadcast_shapes(*loops)
        spread = [
            np.broadcast_to(a, shape + a.shape[a.ndim - n :])
            for a, n in zip(mapped, ranks, strict=True)
        ]
        results = []
        for place in np.ndindex(*shape):
            here = given | {k: a[place] for k, a in zip(keys, spread, strict=True)}
            positional = [here.pop(i) for i in range(len(args))]
            results.append(pyfunc(*positional, **here))
        if not results:
            raise ValueError("cannot call `vectorize` on size 0 inputs with traced values")
        if not isinstance(results[0], tuple):
            return self._joined(results, 0, shape)
        columns = zip(*results, strict=True)
        return tuple([self._joined(column, i, shape) for i, column in enumerate(columns)])

    def _joined(self, results: Sequence[Value], i: int, shape: tuple[int, ...]) -> Value:
        """One output, in the dtype asked for or, as NumPy has it, that of its first element."""
        values = [as_values(r) for r in results]
        dtype = self.otypes[i] if self.otypes else aval_of(values[0]).dtype
        values = [np.astype(v, dtype, copy=False) for v in values]
        return np.reshape(np.stack(values), shape + values[0].shape)


def core_ranks(signature: str | None, count: int) -> list[int]:
    """How many axes of every argument the function takes at once.

    >>> core_ranks("(m,n),(n),()->(m)", 3)
    [2, 1, 0]
    """
    if signature is None:
        return [0] * count
    inputs = re.findall(r"\(([^)]*)\)", signature.split("->")[0])
    return [len([name for name in dims.split(",") if name.strip()]) for dims in inputs]


def _real_part(entry: Any) -> Any:
    return entry if isinstance(entry, str | slice) else np.real(as_values(entry))


def _imaginary_part(entry: Any) -> Any:
    if isinstance(entry, slice):
        return np.zeros_like(np.r_[entry])
    return entry if isinstance(entry, str) else np.imag(as_values(entry))


class Concatenator:
    """``r_[...]`` and ``c_[...]`` of NumPy, with traced values among the entries.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.sum(vk.numpy.r_[x, 0.0, x] * np.arange(3)))(1.0)
    np.float64(2.0)
    """

    def __init__(self, numpys: Any) -> None:
        self.numpys = numpys

    def __getitem__(self, key: Any) -> Value:
        entries = key if isinstance(key, tuple) else (key,)
        if any(has_traced(e) and as_values(e).dtype.kind == "c" for e in entries):
            parts = [tuple(f(e) for e in entries) for f in (_real_part, _imaginary_part)]
            return of_parts(*[self[part] for part in parts])  # NumPy's objects are real
        out = self.numpys[key]
        if not has_traced(key):
            return out
        if has_traced(out):
            return array(out, copy=None)
        return out.astype(np.result_type(*map(promoting, filter(has_traced, entries))))


r_ = Concatenator(np.r_)
c_ = Concatenator(np.c_)


def asarray_chkfinite(a: Any, dtype: Any = None, order: str | None = None) -> Value:
    """`numpy.asarray_chkfinite`: an error where a known value has inf or nan."""
    out = asarray(a, dtype, order)
    value = known(out)
    if value is not None:
        np.asarray_chkfinite(value)
    return out
