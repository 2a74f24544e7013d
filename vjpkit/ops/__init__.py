"""The primitives: one class each, one family per file."""

from vjpkit.ops import (
    complex_numbers,
    constant,
    elementwise,
    indexing,
    linalg,
    products,
    scipy_special,
    selection,
    special,
    structural,
)

__all__ = [
    "complex_numbers",
    "constant",
    "elementwise",
    "indexing",
    "linalg",
    "products",
    "scipy_special",
    "selection",
    "special",
    "structural",
]
