"""JAX's ``lax`` names over NumPy."""

from vjpkit.control.branch import cond, switch
from vjpkit.control.loop import fori_loop, while_loop
from vjpkit.control.scan import scan
from vjpkit.transforms.staged import stop_gradient

__all__ = ["cond", "fori_loop", "scan", "stop_gradient", "switch", "while_loop"]
