"""Checks of derivatives, by JAX's name: `check_grads`; and `check_rule` for primitives.

>>> import numpy as np, vjpkit.test_util
>>> vjpkit.test_util.check_grads(np.sin, (1.0,), order=2)
"""

from vjpkit.testing import check_grads, check_rule

__all__ = ["check_grads", "check_rule"]
