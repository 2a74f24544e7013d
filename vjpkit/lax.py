"""JAX's ``lax`` names over NumPy."""

from vjpkit.transforms.staged import stop_gradient

__all__ = ["stop_gradient"]
