"""Kinds of primitives: base classes that supply whatever follows from the kind."""

from vjpkit.kinds.elementwise import DOORS, ConstantUfunc, Elementwise, PiecewiseConstant, Ufunc
from vjpkit.kinds.general import General, Reduction, kept, reduced_shape
from vjpkit.kinds.linear import Bilinear, Linear, LinearMany, contribute, own_values, rule
from vjpkit.kinds.series import fitted, solved_terms

__all__ = [
    "DOORS",
    "Bilinear",
    "ConstantUfunc",
    "Elementwise",
    "General",
    "Linear",
    "LinearMany",
    "PiecewiseConstant",
    "Reduction",
    "Ufunc",
    "contribute",
    "fitted",
    "kept",
    "own_values",
    "reduced_shape",
    "rule",
    "solved_terms",
]
