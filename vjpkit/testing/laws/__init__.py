"""The laws that every primitive keeps, each checked at a `Case`.

A law is a function of a case that raises AssertionError, with a text that says what came, what was
wanted, and where. `LAWS` has them all by name. A primitive for which one cannot hold says so, with
the reason, in its ``exempt``.
"""

from vjpkit.testing.laws import batching, derivatives, expansion, linearity, programs, values
from vjpkit.testing.laws.registry import LAWS, Law

__all__ = ["LAWS", "Law", "batching", "derivatives", "expansion", "linearity", "programs", "values"]
