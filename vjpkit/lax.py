"""JAX's ``lax`` names over NumPy."""

from vjpkit.control.branch import cond, switch
from vjpkit.control.implicit import custom_linear_solve, custom_root
from vjpkit.control.loop import fori_loop, while_loop
from vjpkit.control.mapped import associative_scan, select
from vjpkit.control.mapped import map_ as map
from vjpkit.control.scan import scan
from vjpkit.transforms.staged import stop_gradient

__all__ = [
    "associative_scan",
    "cond",
    "custom_linear_solve",
    "custom_root",
    "fori_loop",
    "map",
    "scan",
    "select",
    "stop_gradient",
    "switch",
    "while_loop",
]
