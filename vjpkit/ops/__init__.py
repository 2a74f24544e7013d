"""The primitives: one class each, one family per file.

Families that few programs need are loaded with the functions of NumPy that do.
"""

from vjpkit.ops import (
    complex_numbers,
    constant,
    elementwise,
    indexing,
    products,
    selection,
    special,
    structural,
)

__all__ = [
    "complex_numbers",
    "constant",
    "elementwise",
    "indexing",
    "products",
    "selection",
    "special",
    "structural",
]
