"""Which of NumPy's public names `vjpkit.numpy` has, and which objects they are.

The rule: what NumPy dispatches (ufuncs and array functions) is NumPy's own object, so that there is
one definition and NumPy's documentation; a traced argument reaches our implementation through the
protocol, or an error that says that there is none. Types, constants, and what takes no traced
values pass through. What NumPy does not dispatch although it takes or makes arrays is defined here.
Everything else is left out, and says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.numpy import _creation, _partly, _vectorize

__all__ = ["LEFT_OUT", "extensions", "names", "submodules"]

_DISPATCHED = type(np.sum)

OURS = {
    name: getattr(module, name)
    for module in (_creation, _partly, _vectorize)
    for name in module.__all__
}
"""Defined by vjpkit."""

_PLAIN = {
    "ScalarType", "__array_namespace_info__", "__version__", "base_repr", "bartlett", "binary_repr",
    "blackman", "broadcast", "broadcast_shapes", "busdaycalendar", "datetime_data", "diag_indices",
    "dtype", "dtypes", "errstate", "exceptions", "finfo", "flatiter", "format_float_positional",
    "format_float_scientific", "from_dlpack", "frombuffer", "fromfile", "fromfunction", "fromiter",
    "frompyfunc", "fromregex", "fromstring", "genfromtxt", "get_printoptions", "getbufsize",
    "geterr", "geterrcall", "hamming", "hanning", "iinfo", "index_exp", "indices", "isdtype",
    "isscalar", "issubdtype", "iterable", "kaiser", "lib", "load", "loadtxt", "mask_indices",
    "mgrid", "mintypecode",
    "ndarray", "ndenumerate", "ndindex", "nditer", "ogrid", "printoptions", "promote_types", "s_",
    "sctypeDict", "set_printoptions", "setbufsize", "seterr", "seterrcall", "tril_indices",
    "triu_indices", "typecodes", "typename", "ufunc",
}  # fmt: skip
"""Take shapes, dtypes, text or the user's functions, no traced values."""

_PLAIN_ONLY = "it works on plain arrays only; use numpy's own outside the traced function"
_TOOL = "it is a tool, not an operation on arrays; use numpy's own"

LEFT_OUT = {
    **dict.fromkeys(
        ("char", "ma", "matrix", "asmatrix", "bmat", "memmap", "rec", "recarray", "strings"),
        "arrays of its kind do not hold traced values; use numpy's own on plain data",
    ),
    **dict.fromkeys(("poly1d", "polynomial"), _PLAIN_ONLY + ", or polyval and its kin"),
    **dict.fromkeys(("random", "nested_iters", "isfortran"), _PLAIN_ONLY),
    "emath": "use numpy's own: what is supported there is dispatched",
    **dict.fromkeys(
        ("core", "ctypeslib", "f2py", "get_include", "info", "show_config", "show_runtime", "test",
         "testing", "typing"),
        _TOOL,
    ),
    "row_stack": "NumPy has deprecated it; use vstack",
    "trapz": "NumPy has deprecated it; use trapezoid",
}  # fmt: skip
"""NumPy's public names that are not here, and why."""

submodules = ("fft", "linalg")
"""Imported when they are asked for."""

extensions = ("special",)
"""Submodules that NumPy does not have, but libraries ask an array namespace for."""


def names() -> dict[str, Any]:
    """NumPy's public names that are here, with what they stand for."""
    passed = {name: getattr(np, name) for name in np.__all__ if _passes(name)}
    return passed | OURS


def _passes(name: str) -> bool:
    """Whether a name stands for NumPy's own object."""
    if name in OURS or name in LEFT_OUT or name in submodules:
        return False
    x = getattr(np, name)
    if name in _PLAIN or isinstance(x, np.ufunc | _DISPATCHED):
        return True
    if isinstance(x, type):
        return issubclass(x, np.generic)
    return x is None or isinstance(x, float | int | np.bool)
