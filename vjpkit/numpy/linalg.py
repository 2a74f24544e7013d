"""NumPy's `numpy.linalg`: its own functions, which traced arguments find their way through."""

from numpy.linalg import *  # noqa: F403  # one definition, NumPy's documentation
from numpy.linalg import __all__ as __all__
