"""`scipy.stats`: its distributions of one variable, and the usual ones of several.

Values are SciPy's. On traced arguments densities, distribution functions, quantiles, moments and
samples differentiate in where they are taken, in location, scale and shape parameters.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import stats
>>> data = np.array([0.3, 1.1, 2.0])
>>> vk.grad(lambda a: np.sum(stats.gamma.logpdf(data, a)))(1.0).round(6)
np.float64(1.316132)
>>> vk.grad(lambda q: stats.norm(1.0, 2.0).ppf(q))(0.5).round(6)  # sqrt(2 pi) times the scale
np.float64(5.013257)
"""

from __future__ import annotations

from functools import cache
from typing import Any

from vjpkit.scipy import _multivariate
from vjpkit.scipy._namespace import passing, scipy_module
from vjpkit.scipy._univariate import Univariate

_several = {name: getattr(_multivariate, name) for name in _multivariate.__all__}
__all__ = [*_several]
globals().update(_several)

_scipys, __dir__ = passing("stats", __all__)


@cache
def _distribution(name: str) -> Univariate | None:
    """The distribution of one variable that SciPy has by this name."""
    stats = scipy_module("stats")
    kinds = (stats.rv_continuous, stats.rv_discrete)
    return Univariate(name) if isinstance(getattr(stats, name, None), kinds) else None


def __getattr__(name: str) -> Any:
    return _distribution(name) or _scipys(name)
