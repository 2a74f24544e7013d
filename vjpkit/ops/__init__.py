"""The primitives: one class each, one family per file."""

from vjpkit.ops import elementwise, indexing, products, selection, structural

__all__ = ["elementwise", "indexing", "products", "selection", "structural"]
