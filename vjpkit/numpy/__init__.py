"""NumPy's namespace, for values that may be traced.

What NumPy dispatches is NumPy's own: ``vjpkit.numpy.sin is numpy.sin``, and so the user's plain
``import numpy as np`` does the same. What it does not dispatch (``array``, ``zeros``, ``arange``,
...) is defined here, for nested lists with traced values and arrays that accept them. Outside every
transform all of it returns plain NumPy arrays.

>>> import numpy as np, vjpkit.numpy as vnp
>>> vnp.sin is np.sin, vnp.float32 is np.float32
(True, True)
>>> vnp.array([1.0, 2.0])
array([1., 2.])
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy import __array_api_version__ as __array_api_version__

from vjpkit.numpy import (
    _at,
    _creation,
    _differences,
    _elementwise,
    _face,
    _indices,
    _joining,
    _masked,
    _memory,
    _methods,
    _namespace,
    _objects,
    _of_selected,
    _ordering,
    _products,
    _queries,
    _reading,
    _reductions,
    _selection,
    _shape,
    _ufuncs,
    _vectorize,
    _writing,
)

# Modules that attach themselves to tracers and to NumPy's functions when they are imported.
_ATTACHED = (
    _at, _creation, _differences, _elementwise, _face, _indices, _joining,
    _masked, _memory, _methods, _objects, _of_selected, _ordering, _products, _queries, _reading,
    _reductions, _selection, _shape, _ufuncs, _vectorize, _writing,
)  # fmt: skip

_NAMES = _namespace.names()
globals().update(_NAMES)

__all__ = [*sorted(_NAMES), *_namespace.submodules]


def __getattr__(name: str) -> Any:
    if name in _namespace.submodules + _namespace.extensions:
        return import_module(f"vjpkit.numpy.{name}")
    why = _namespace.LEFT_OUT.get(name)
    raise AttributeError(
        f"vjpkit.numpy has no {name!r}" + ("" if why is None else f", which numpy has: {why}")
    )


def __dir__() -> list[str]:
    return __all__
