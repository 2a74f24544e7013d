"""The primitives: one class each, one family per file."""

from vjpkit.ops import (
    collective,
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
    "collective",
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
