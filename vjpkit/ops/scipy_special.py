"""The error function, the gamma function's logarithm and their derivatives: values by SciPy.

SciPy is optional and is imported when the first value is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import General
from vjpkit.ops.special import inexact

_X = np.array([0.3, -1.2, 2.5])
_POSITIVE = np.array([0.4, 1.7, 30.0])
_HALF_ROOT_PI = math.sqrt(math.pi) / 2


@cache
def special() -> Any:
    """`scipy.special`, or an error that says how to install it."""
    try:
        from scipy import special
    except ImportError:
        raise ImportError(
            "this function is SciPy's, which is not installed: pip install 'vjpkit[scipy]'"
            f"{at(calling_position())}"
        ) from None
    return special


class SciPyFunction(General):
    """A function of one real array, element by element, in the array's precision."""

    function: ClassVar[str]
    points: ClassVar[Any] = _X

    def impl(self, x: Value, **params: Any) -> Value:
        x = np.asarray(x)
        dtype = self.dtype_of(x.dtype)
        return np.asarray(self.evaluate(x, **params)).astype(dtype, copy=False)[()]

    def dtype_of(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of the result; SciPy computes in double precision at most."""
        if dtype.kind == "c" or dtype.char == "g":
            raise TypeError(f"{self.name} is not supported for {dtype}{at(calling_position())}")
        return inexact(dtype)

    def evaluate(self, x: Value) -> Value:
        """SciPy's value."""
        return getattr(special(), self.function)(x)

    def slope(self, x: Value, out: Value, **params: Any) -> Value:
        """The derivative."""
        raise NotImplementedError

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return ts[0] * self.slope(values[0], out, **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, self.dtype_of(avals[0].dtype))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        return self(*values, **params)

    def samples(self) -> Iterable[Sample]:
        points = self.points
        return [Sample(points), Sample(points.reshape(3, 1)[:0]), Sample(points[0])]


class Erf(SciPyFunction):
    """2/sqrt(pi) times the integral of exp(-t²) from 0 to x."""

    function = "erf"

    def slope(self, x: Value, out: Value, **params: Any) -> Value:
        return np.exp(-x * x) / _HALF_ROOT_PI


erf = primitive(Erf)


class Erfc(SciPyFunction):
    """1 - erf(x), without cancellation."""

    function = "erfc"

    def slope(self, x: Value, out: Value, **params: Any) -> Value:
        return np.exp(-x * x) / -_HALF_ROOT_PI


erfc = primitive(Erfc)


class ErfInv(SciPyFunction):
    """The inverse of erf."""

    function = "erfinv"
    points = np.array([0.3, -0.8, 0.05])

    def slope(self, x: Value, out: Value, **params: Any) -> Value:
        return _HALF_ROOT_PI * np.exp(out * out)


erf_inv = primitive(ErfInv)


class Lgamma(SciPyFunction):
    """The logarithm of the gamma function's absolute value."""

    function = "gammaln"
    points = _POSITIVE

    def slope(self, x: Value, out: Value, **params: Any) -> Value:
        return polygamma(x, order=0)


lgamma = primitive(Lgamma)


class Polygamma(SciPyFunction):
    """The derivative of the given order of digamma, which is that of lgamma."""

    points = _POSITIVE

    def evaluate(self, x: Value, order: int) -> Value:  # type: ignore[override]  # one parameter
        return special().psi(x) if order == 0 else special().polygamma(order, x)

    def slope(self, x: Value, out: Value, **params: Any) -> Value:
        return polygamma(x, order=params["order"] + 1)

    def samples(self) -> Iterable[Sample]:
        for order in (0, 1, 2):
            yield Sample(self.points, order=order)
        yield Sample(self.points.reshape(3, 1)[:0], order=0)


polygamma = primitive(Polygamma)
