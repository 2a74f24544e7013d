"""Values as constants: `stop_gradient`."""

from __future__ import annotations

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.tracer import Tracer
from vjpkit.ops.structural import stop
from vjpkit.pytree import PyTree, tree_map

__all__ = ["stop_gradient"]


def stop_gradient(x: PyTree) -> PyTree:
    """``x`` as a constant: its derivative is zero.

    On values the plain value (a copy); staged and batched values stay traced, and no derivative
    passes, whether it is taken inside or outside of `jit` and `vmap`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: x * vk.lax.stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return tree_map(_stopped, x)


def _stopped(x: Value) -> Value:
    return stop(x) if isinstance(x, Tracer | np.ndarray) else x
