"""JAX's ``lax`` names over NumPy."""

from vjpkit.control.branch import cond, switch
from vjpkit.control.implicit import custom_linear_solve, custom_root
from vjpkit.control.loop import fori_loop, while_loop
from vjpkit.control.mapped import associative_scan, select
from vjpkit.control.mapped import map_ as map
from vjpkit.control.scan import scan
from vjpkit.transforms.collectives import (
    all_gather,
    axis_index,
    axis_size,
    pmax,
    pmean,
    pmin,
    psum,
)
from vjpkit.transforms.stopping import stop_gradient

__all__ = [
    "all_gather",
    "associative_scan",
    "axis_index",
    "axis_size",
    "cond",
    "custom_linear_solve",
    "custom_root",
    "fori_loop",
    "map",
    "pmax",
    "pmean",
    "pmin",
    "psum",
    "scan",
    "select",
    "stop_gradient",
    "switch",
    "while_loop",
]
