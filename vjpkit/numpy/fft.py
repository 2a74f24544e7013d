"""NumPy's `numpy.fft`: its own functions, which traced arguments find their way through."""

from numpy.fft import *  # noqa: F403  # one definition, NumPy's documentation
from numpy.fft import __all__ as __all__
