"""Checks of derivatives: of a user's function, and of a primitive's rules."""

from vjpkit.testing.gradients import check_grads
from vjpkit.testing.rules import check_rule

__all__ = ["check_grads", "check_rule"]
