"""JAX's ``lax`` names over NumPy."""

from vjpkit.control.branch import cond, switch
from vjpkit.transforms.staged import stop_gradient

__all__ = ["cond", "stop_gradient", "switch"]
