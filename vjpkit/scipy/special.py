"""`scipy.special`: its ufuncs as they are, its functions of arrays on traced values.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import special
>>> special.erf is __import__("scipy").special.erf
True
>>> vk.grad(special.logsumexp)(np.zeros(2))
array([0.5, 0.5])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vjpkit.core.aval import Value
from vjpkit.nn import _normalization
from vjpkit.numpy.special import multigammaln, polygamma
from vjpkit.scipy._namespace import passing

__all__ = ["log_softmax", "logsumexp", "multigammaln", "polygamma", "softmax"]

Axis = int | tuple[int, ...] | None

logsumexp = _normalization.logsumexp


def softmax(x: Value, axis: Axis = None) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis`` (None: over all elements), without overflow.

    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """
    return _normalization.softmax(x, axis)


def log_softmax(x: Value, axis: Axis = None) -> Value:
    """``log(softmax(x, axis))``, without overflow.

    >>> log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return _normalization.log_softmax(x, axis)


__getattr__, __dir__ = passing("special", __all__)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
