"""`scipy.linalg` on traced values: its signatures, results and errors over primitives.

Where no argument is traced the call is SciPy's own. ``overwrite_*`` asks for nothing, as arguments
are not written to; with ``check_finite`` values that are known are checked. Leading axes are a
batch. Constructors of constants (`hilbert`, `dft`, ...) and questions (`issymmetric`, ...) are
SciPy's own; what has no version here refuses traced values by name.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import linalg
>>> vk.grad(lambda a: linalg.expm(a)[0, 1])(np.zeros((2, 2)))
array([[0., 1.],
       [0., 0.]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import as_array, concrete
from vjpkit.scipy import _linalg_equations, _linalg_factors, _linalg_functions
from vjpkit.scipy._linalg_equations import *  # noqa: F403  # the modules' public names are ours
from vjpkit.scipy._linalg_factors import *  # noqa: F403
from vjpkit.scipy._linalg_functions import *  # noqa: F403
from vjpkit.scipy._namespace import passing, scipy_module
from vjpkit.scipy._traced import refusing, version_of

REFUSED = (
    "cdf2rdf", "cho_solve_banded", "cholesky_banded", "clarkson_woodruff_transform", "cossin",
    "expm_cond", "hessenberg", "ldl", "matrix_balance", "ordqz", "qr_delete", "qr_insert",
    "qr_multiply", "qr_update", "qz", "rsf2csf", "schur",
)  # fmt: skip
"""Functions of arrays that have no version for traced values."""

QUESTIONS = ("bandwidth", "ishermitian", "issymmetric")
"""Functions whose results are constant: they are asked of the values."""


def _question(name: str) -> Callable[..., Any]:
    def question(a: Value, *args: Any, **kwargs: Any) -> Any:
        value = concrete(as_array(a), f"scipy.linalg.{name}")
        return getattr(scipy_module("linalg"), name)(value, *args, **kwargs)

    question.__name__ = name
    question.__doc__ = f"`scipy.linalg.{name}` of the values."
    return version_of("linalg")(question)


globals().update({name: refusing("linalg", name) for name in REFUSED})
globals().update({name: _question(name) for name in QUESTIONS})

__all__ = sorted(
    {
        *_linalg_equations.__all__, *_linalg_factors.__all__, *_linalg_functions.__all__,
        *REFUSED, *QUESTIONS,
    }
)  # fmt: skip

__getattr__, __dir__ = passing("linalg", __all__)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
