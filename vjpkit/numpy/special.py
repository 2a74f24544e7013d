"""Special functions of values that may be traced, under `scipy.special`'s names.

SciPy looks for them here where its array API dispatch is switched on (``SCIPY_ARRAY_API=1``);
without it the ufuncs of `scipy.special` themselves take traced values.

>>> import vjpkit as vk
>>> vk.grad(vk.numpy.special.gammaln)(1.0).round(9)
np.float64(-0.577215665)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import counted
from vjpkit.numpy._arguments import as_array, known
from vjpkit.ops import scipy_gamma
from vjpkit.ops.scipy_special import SciPyFunction, by_name


def polygamma(n: Any, x: Value) -> Value:
    """The ``n``-th derivative of `digamma`; ``n`` is a whole number."""
    order = index(n)
    if order < 0:
        raise ValueError(f"polygamma: the order is {order}, but derivatives are of order 0 or more")
    x = as_array(x)
    return scipy_gamma.polygamma(x, order=order) if order else scipy_gamma.digamma(x)


def multigammaln(a: Value, d: Any) -> Value:
    """The logarithm of the multivariate gamma function of dimension ``d``."""
    count = index(d)
    a = as_array(a)
    outside = known(np.any(a <= 0.5 * (count - 1)))
    if outside is not None and outside:
        raise ValueError(f"multigammaln: a must be greater than (d - 1)/2 = {(count - 1) / 2}")
    terms = [scipy_gamma.lgamma(a - j / 2) for j in range(count)]
    return sum(terms, start=count * (count - 1) * 0.25 * math.log(math.pi))


_NUMPYS = {"cbrt": np.cbrt, "exp2": np.exp2, "expm1": np.expm1, "log1p": np.log1p, "sinc": np.sinc}
_SCIPYS = by_name()


def _function(name: str, primitive: SciPyFunction) -> Callable[..., Value]:
    def function(*args: Value) -> Value:
        if len(args) != primitive.arity:
            wanted = f"{counted(primitive.arity, 'argument')}"
            raise TypeError(f"{name}() takes {wanted}, but {len(args)} were given")
        return primitive(*[as_array(x) if isinstance(x, list | tuple) else x for x in args])

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"See `scipy.special.{name}`."
    return function


_FUNCTIONS = {name: _function(name, primitive) for name, primitive in _SCIPYS.items()}
_FUNCTIONS["digamma"] = _FUNCTIONS["psi"]
globals().update(_NUMPYS, **_FUNCTIONS)

__all__ = sorted({*_NUMPYS, *_FUNCTIONS, "multigammaln", "polygamma"})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Value]: ...
