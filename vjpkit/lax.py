"""JAX's ``lax`` names over NumPy."""

from vjpkit.control.branch import cond, switch
from vjpkit.control.scan import scan
from vjpkit.transforms.staged import stop_gradient

__all__ = ["cond", "scan", "stop_gradient", "switch"]
