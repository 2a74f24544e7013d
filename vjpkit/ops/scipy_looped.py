"""SciPy's LAPACK routines for one matrix, over leading axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Primitive
from vjpkit.kinds import General
from vjpkit.ops.linalg.matrices import common_dtype

__all__ = ["Looped", "Looping", "leading"]


def leading(avals: Sequence[Aval], cores: Sequence[int]) -> Shape:
    """The leading axes of operands whose last ``cores`` axes are one matrix or vector."""
    return np.broadcast_shapes(
        *[a.shape[: a.ndim - core] for a, core in zip(avals, cores, strict=True)]
    )


class Looping(Primitive):
    """A ``routine`` for one matrix of each operand, all of one dtype; leading axes are looped over.

    What has no elements is not given to it: results of no elements are made from their avals.
    """

    core_ndims: tuple[int, ...]

    @staticmethod
    def routine(*xs: Any, **params: Any) -> Any:
        raise NotImplementedError

    def impl(self, *xs: Value, **params: Any) -> Value:
        """The routine's results, stacked."""
        avals = [aval_of(x) for x in xs]
        outs = self.unpack(self.abstract(*avals, **params))
        lead = leading(avals, self.core_ndims)
        results = tuple([np.zeros(a.shape, a.dtype) for a in outs])
        if all(r.size for r in results):
            cores = [a.shape[a.ndim - n :] for a, n in zip(avals, self.core_ndims)]
            dtype = common_dtype(*avals)
            same = [np.asarray(x, dtype) for x in xs]
            wide = [np.broadcast_to(x, (*lead, *core)) for x, core in zip(same, cores)]
            for index in np.ndindex(*lead):
                found = self.unpack(self.routine(*[x[index] for x in wide], **params))
                for result, y in zip(results, found, strict=True):
                    result[index] = y
        return self.pack(results)


class Looped(Looping, General):
    """A `Looping` primitive whose derivative is given as a ``jvp``."""
