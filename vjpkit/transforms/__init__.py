"""Transforms over programs: linearization, batching, and what is built on them."""
