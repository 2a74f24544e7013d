"""SciPy's namespace, for values that may be traced.

The ufuncs of `scipy.special` take traced values as they are. The rest of SciPy turns its arguments
into plain arrays first; what is defined here does the same on traced values, under SciPy's names,
with its arguments and its results. A name that is not defined here is SciPy's own: it takes plain
arrays, and refuses traced ones with an error that says so.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import special
>>> vk.grad(special.logsumexp)(np.zeros(2))
array([0.5, 0.5])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vjpkit.scipy._namespace import scipy_module

if TYPE_CHECKING:
    from vjpkit.scipy import integrate, linalg, optimize, signal, special, stats

__all__ = ["integrate", "linalg", "optimize", "signal", "special", "stats"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        scipy_module(name)  # an error that says what to install, before any other
        return import_module(f"vjpkit.scipy.{name}")
    raise AttributeError(f"module 'vjpkit.scipy' has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
