"""The primitives: one class each, one family per file.

Families that few programs need are loaded with the functions of NumPy that do.
"""

from vjpkit.ops import (
    collective,
    complex_numbers,
    constant,
    elementwise,
    indexing,
    products,
    scipy_special,
    selection,
    special,
    structural,
)

__all__ = [
    "collective",
    "complex_numbers",
    "constant",
    "elementwise",
    "indexing",
    "products",
    "scipy_special",
    "selection",
    "special",
    "structural",
]
