"""NumPy's functions on traced values."""

from vjpkit.numpy import _face, _reductions, _shape

__all__ = ["_face", "_reductions", "_shape"]
